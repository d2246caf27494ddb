# Whom the minion of one host obeys until clean-up; the migration hands in the masters. It is restarted from outside of it,
# once its answer is on its way.
{%- set told = pillar['saltext_migrate'] %}
{%- set folder = salt['file.dirname'](salt['config.get']('conf_file')) ~ '/minion.d' %}
{%- set restart = "systemd-run --quiet --collect sh -c 'sleep 1; exec systemctl restart salt-minion.service'" %}
{{ folder }}/95-saltext-migrate-masters.conf:
  file.managed:
    - mode: '0644'
    - makedirs: True
    {#- All at once: with `failover` only one would be obeyed. `migrate_masters` tells whether the minion that runs has read it. #}
    - contents: {{ {'master': told['masters'], 'master_type': 'str', 'migrate_masters': told['masters']} | tojson | tojson }}

saltext-migrate-minion-restarts:
  cmd.run:
    - name: {{ told.get('restart', restart) | tojson }}
    - bg: True
    - require:
      - file: {{ folder }}/95-saltext-migrate-masters.conf
