# What may run on one side alone, on one host: held, or let run. The migration hands in which, and tells to hold or not.
{%- set told = pillar['saltext_migrate'] %}
{%- for name, one in told['singletons'] | dictsort %}
saltext-migrate-singleton-{{ name }}:
{%- if one.get('service') %}
  service.{{ 'dead' if told['held'] else 'running' }}:
    - name: {{ one['service'] | tojson }}
    - enable: {{ not told['held'] }}
{%- else %}
  {#- cron reads no file with a dot in its name #}
  {%- set running, held = one['cron'], one['cron'] ~ '.held' %}
  file.rename:
    - name: {{ (held if told['held'] else running) | tojson }}
    - source: {{ (running if told['held'] else held) | tojson }}
{%- endif %}
{%- endfor %}
