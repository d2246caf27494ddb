# What an application node finds its rendered pages and sessions in.
/etc/memcached.conf:
  file.managed:
    - contents: |
        -d
        -m 64
        -p 11211
        -u memcache
        -l 0.0.0.0

memcached:
  service.running:
    - enable: True
    - watch:
      - file: /etc/memcached.conf
