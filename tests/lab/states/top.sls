# The site's own states, as far as they touch what a flip touches: its highstate must leave a flip alone.
base:
  '*-db*':
    - database
  '*-app*':
    - wiki
  '*-memcache*':
    - memcache
