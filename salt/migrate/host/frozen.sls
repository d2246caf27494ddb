# What stands still on one host from before the window until clean-up or revert: deploys, crons, the highstate.
{%- set told = pillar['saltext_migrate'] %}
{%- if told.get('lock') %}
saltext-migrate-deploy-lock:
{%- if told['on'] %}
  file.managed:
    - name: {{ told['lock'] | tojson }}
    - contents: |
        The site is being moved to another cloud. Deploying waits until that is over.
        It ends by itself: salt-run migrate.revert, or salt-run migrate.cleanup.
    - makedirs: True
    # One that people put there themselves stays theirs.
    - replace: False
{%- else %}
  file.absent:
    - name: {{ told['lock'] | tojson }}
    - onlyif:
      - fun: file.contains
        path: {{ told['lock'] | tojson }}
        text: "It ends by itself: salt-run migrate.revert"
{%- endif %}
{%- endif %}
{%- for cron in told.get('crons', []) %}
{%- set held = cron ~ '.held' %}
saltext-migrate-cron-{{ loop.index }}:
  file.rename:
    - name: {{ (held if told['on'] else cron) | tojson }}
    - source: {{ (cron if told['on'] else held) | tojson }}
{%- endfor %}
{%- if told.get('highstate') %}
saltext-migrate-highstate:
  grains.list_{{ 'present' if told['on'] else 'absent' }}:
    - name: state_runs_disabled
    - value: highstate
{%- endif %}
{%- if not (told.get('lock') or told.get('crons') or told.get('highstate')) %}
saltext-migrate-nothing:
  test.nop: []
{%- endif %}
