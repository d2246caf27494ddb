# Watches for what still crosses between the sides: salt-run state.orchestrate migrate.tripwire
# Each host counts and logs by rules of its own; salt-run migrate.crossings shows what they counted.
{%- set told = salt['saltutil.runner']('migrate.tripwire') %}
{%- for minion, watch in told.get('data', told).items() %}
tripwire-{{ minion }}:
  salt.state:
    - tgt: {{ minion | tojson }}
    - tgt_type: list
    - sls: migrate.host.tripwire
    # A run of states that is under way, at boot for example, is waited for.
    - queue: True
    - pillar:
        tripwire: {{ watch | tojson }}
{%- endfor %}
