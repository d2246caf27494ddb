# The last backup of the old side: everything its databases hold, packed, and looked through to its end.
# Root's own way to the server is used, or the options that the migration hands in.
{%- set told = pillar['saltext_migrate'] %}
{%- set half = told['path'] ~ '.half' %}
saltext-migrate-backup:
  cmd.run:
    - name: |
        set -euo pipefail
        umask 077
        mkdir -p "$(dirname "$TO")"
        client=$(command -v mysql || command -v mariadb)
        ask() { "$client" $OPTIONS -N -B -e "$1"; }
        system="'mysql','information_schema','performance_schema','sys'"
        databases=$(ask "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN ($system)")
        kinds="'BASE TABLE','SYSTEM VERSIONED'"
        tables=$(ask "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_TYPE IN ($kinds) AND TABLE_SCHEMA NOT IN ($system)")
        whole="--single-transaction --routines --events --triggers --hex-blob"
        # Accounts come last, for their grants name tables; and one that an empty server has already must not end a restore.
        mariadb_dumps() {
          mariadb-dump $OPTIONS $whole --gtid --master-data=2 --databases $databases
          mariadb-dump $OPTIONS --insert-ignore --system=users
        }
        # Its dump has no word for accounts. Roles are accounts too, so all of them are there before any grant.
        mysql_dumps() {
          mysqldump $OPTIONS $whole --set-gtid-purged=ON --source-data=2 --databases $databases
          own="'mysql.sys','mysql.session','mysql.infoschema'"
          accounts=$(ask "SELECT CONCAT(QUOTE(User), '@', QUOTE(Host)) FROM mysql.user WHERE User NOT IN ($own)")
          echo "SET SESSION sql_log_bin=0;"
          while read -r account; do
            "$client" $OPTIONS -N -B -r -e "SET SESSION print_identified_with_as_hex=ON; SHOW CREATE USER $account" |
              sed 's/^CREATE USER /CREATE USER IF NOT EXISTS /; s/$/;/'
          done <<<"$accounts"
          while read -r account; do
            "$client" $OPTIONS -N -B -r -e "SHOW GRANTS FOR $account" | sed 's/$/;/'
          done <<<"$accounts"
          echo "-- Dump completed"
        }
        case $(ask "SELECT VERSION()") in *MariaDB*) dumps=mariadb_dumps ;; *) dumps=mysql_dumps ;; esac
        $dumps | gzip >"$TO"
        gzip -t "$TO"
        ends=$(zcat "$TO" | grep -c '^-- Dump completed') || true
        [ "$ends" = 2 ] || { echo "the dump has no end" >&2; exit 1; }
        seen=$(zcat "$TO" | grep -c '^CREATE TABLE ')
        [ "$seen" = "$tables" ] || { echo "the dump has $seen tables, and the server $tables" >&2; exit 1; }
        mv "$TO" "$PLACE"
    - shell: /bin/bash
    - env:
      - TO: {{ half | tojson }}
      - PLACE: {{ told['path'] | tojson }}
      - OPTIONS: {{ told.get('options', '') | tojson }}
    - timeout: {{ told['seconds'] }}
