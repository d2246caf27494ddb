# A new database server, before it has any data: packages, its configuration, its role at boot.
{%- set told = pillar['migrate_carry'] %}
include:
  - migrate.host.carry

# It is read at the next start, which the seed brings.
{{ told['configuration']['path'] }}:
  file.managed:
    - mode: '0644'
    - contents: {{ told['configuration']['contents'] | tojson }}
    - require:
      - pkg: saltext-migrate-carry-packages

# Only where there is none: after a flip it says something else.
{{ told['role']['path'] }}:
  file.managed:
    - mode: '0644'
    - replace: False
    - contents: {{ told['role']['contents'] | tojson }}
    - require:
      - pkg: saltext-migrate-carry-packages
