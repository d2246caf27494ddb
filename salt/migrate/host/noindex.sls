# Keeps search engines out while the new side is a test site; the migration hands in the file of the web server.
{%- set told = pillar['saltext_migrate'] %}
saltext-migrate-noindex:
{%- if told['on'] %}
  file.managed:
    - name: {{ told['path'] | tojson }}
    - contents: {{ told['content'] | tojson }}
    - mode: '0644'
    - makedirs: True
{%- else %}
  file.absent:
    - name: {{ told['path'] | tojson }}
{%- endif %}
{%- if told.get('service') %}
saltext-migrate-noindex-service:
  service.running:
    - name: {{ told['service'] | tojson }}
    - reload: True
    - watch:
      - file: saltext-migrate-noindex
{%- endif %}
