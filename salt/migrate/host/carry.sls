# What a host needs to send or receive a copy of a database server; the orchestration migrate.prepare hands in what.
{%- set told = pillar['migrate_carry'] %}
saltext-migrate-carry-packages:
  pkg.installed:
    - pkgs: {{ told['packages'] | tojson }}

{{ told['folder'] }}:
  file.directory:
    - mode: '0700'
    - makedirs: True

{{ told['folder'] }}/carry.sh:
  file.managed:
    - source: salt://migrate/host/files/carry.sh
    - mode: '0700'
    - require:
      - file: {{ told['folder'] }}
