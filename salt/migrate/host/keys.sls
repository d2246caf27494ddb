# Keys of people and tools that were let in for the time of the move go; the migration hands in which, by user.
{%- set told = pillar['saltext_migrate'] %}
{%- for user, keys in told['ssh_keys'] | dictsort %}
{%- for key in keys %}
saltext-migrate-key-{{ user }}-{{ loop.index }}:
  ssh_auth.absent:
    - name: {{ key | tojson }}
    - user: {{ user | tojson }}
{%- endfor %}
{%- endfor %}
