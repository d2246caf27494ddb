# The new Salt master runs; the orchestration migrate.prepare brought its files and keys before.
{%- set told = pillar['saltext_migrate'] %}
saltext-migrate-master:
  cmd.run:
    - name: {{ told.get('start', 'systemctl enable --now salt-master.service') | tojson }}
    - unless: {{ told.get('stands', 'systemctl is-active --quiet salt-master.service') | tojson }}
