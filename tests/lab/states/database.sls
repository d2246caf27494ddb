# The server's configuration without its role, which the migration keeps in a file of its own.
/etc/mysql/mariadb.conf.d/80-tuning.cnf:
  file.managed:
    - contents: |
        [mysqld]
        max_connect_errors = 10000

mariadb:
  service.running:
    - watch:
      - file: /etc/mysql/mariadb.conf.d/80-tuning.cnf
