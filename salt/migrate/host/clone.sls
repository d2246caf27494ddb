# What a host of MySQL needs to send a copy of its server, or to receive one.
{%- set told = pillar['migrate_carry'] %}
include:
  - migrate.host.carry

{{ told['folder'] }}/clone.sh:
  file.managed:
    - source: salt://migrate/host/files/clone.sh
    - mode: '0700'
    - require:
      - file: {{ told['folder'] }}
