# What a host of a new database needs to back it up, and to restore that beside it.
{%- set told = pillar['migrate_carry'] %}
include:
  - migrate.host.carry

{{ told['folder'] }}/restore.sh:
  file.managed:
    - source: salt://migrate/host/files/restore.sh
    - mode: '0700'
    - require:
      - file: {{ told['folder'] }}
