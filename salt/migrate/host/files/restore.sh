# shellcheck shell=bash disable=SC2154
# The jobs `backup` and `restore` of carry.sh, which reads this: a backup of the host's own database server, and one of those
# brought to a moment after it was taken, by the server's binlogs, on a server beside it that is thrown away. MySQL's way
# (`backup_clone`, `restore_clone`) is at the end.

backup() {
    export FOLDER DEFAULTS_FILE SOCKET
    SOCKET=$(configured socket /run/mysqld/mysqld.sock)
    # No pipe: whoever has found what it looks for reads no further, and the writer fails of that.
    [[ $(mariadb-binlog --help 2>/dev/null) == *'GTID list'* ]] || die "mariadb-binlog here stops at no GTID: MariaDB 10.8 or later can"
    ours
    room
    sh -c "$TAKE" >"$job/backup.log" 2>&1 || die "the backup failed: $(tail -n1 "$job/backup.log")"
}

restore() {
    local info file position logs=()
    bring_back
    info=$INTO/mariadb_backup_binlog_info
    [ -e "$info" ] || info=$INTO/xtrabackup_binlog_info
    [ -s "$info" ] || die "the backup does not say where its binlog goes on"
    read -r file position _ <"$info"
    binlogs "$file"
    forget_prepared "$INTO"
    mariadbd --defaults-file="$INTO/backup-my.cnf" --datadir="$INTO" --socket="$INTO/socket" --pid-file="$INTO/pid" --user="$owner" \
        --skip-networking --skip-slave-start --skip-log-bin --event-scheduler=OFF --max-allowed-packet=1G \
        >"$job/restored.log" 2>&1 9>&- &
    comes_up mariadb-admin --no-defaults --user=root --socket="$INTO/socket"
    mariadb-binlog --no-defaults --start-position="$position" --stop-position="$TARGET" "${logs[@]}" 2>"$job/apply.log" |
        mariadb --no-defaults --user=root --socket="$INTO/socket" --binary-mode --max-allowed-packet=1G 2>>"$job/apply.log"
    went_on "${PIPESTATUS[@]}"
    sums_up mariadb --no-defaults --user=root --socket="$INTO/socket"
}

# The backup in a folder of its own, which goes with whoever looks.
bring_back() {
    # The trap sees no more than what is everybody's.
    server=
    export FOLDER INTO=$FOLDER/restored
    owner=$(stat -c %U "$(configured datadir /var/lib/mysql)") || die "there is no data folder"
    ours
    rm -rf "$INTO"
    install -d -m 0700 "$INTO" || die "cannot make $INTO"
    trap '[ -z "$server" ] || kill -KILL "$server" 2>/dev/null; rm -rf "$INTO"' EXIT
    sh -c "$RESTORE" >"$job/backup.log" 2>&1 || die "the backup does not come back: $(tail -n1 "$job/backup.log")"
    chown -R "$owner" "$INTO"
}

# Waits for the server that was started last; given is what asks it.
comes_up() {
    server=$!
    until "$@" --silent ping >/dev/null 2>&1; do
        kill -0 "$server" 2>/dev/null || die "the restored data does not start: $(first_error "$job/restored.log")"
        sleep 0.1
    done
}

went_on() { [ "$1$2" = 00 ] || die "going on to $TARGET: $(tail -n1 "$job/apply.log")"; }

# Given is the client, with the way to the server.
sums_up() {
    "$@" --default-character-set=utf8mb4 -N -B <<<"$SUMS" >"$job/result" 2>"$job/apply.log" ||
        die "reading what was restored: $(tail -n1 "$job/apply.log")"
    kill -TERM "$server"
    wait "$server"
    server=
}

# Whole trees below it are removed: so only in a folder that was made for this.
ours() {
    if [ ! -e "$FOLDER/.saltext-migrate" ]; then
        [ -z "$(ls -A "$FOLDER" 2>/dev/null | grep -vx lost+found)" ] || die "$FOLDER holds what is not ours: name a folder of its own"
        # The server's own user looks for the restored data below it.
        install -d -m 0711 "$FOLDER" && : >"$FOLDER/.saltext-migrate" || die "cannot make $FOLDER"
    fi
}

# A full disk would stop the server itself.
room() {
    local copies=2 need free
    [ ! -d "$FOLDER/base" ] || copies=1
    need=$(du -skx "$(configured datadir /var/lib/mysql)" | cut -f1)
    free=$(df -Pk "$FOLDER" | awk 'NR == 2 { print $4 }')
    need=$((need * copies + need / 10))
    [ "$free" -gt "$need" ] || die "$FOLDER has $free KiB free, and the backup needs $need"
}

# The server's binlogs, from one on.
binlogs() {
    local index basename log
    IFS=$'\t' read -r index basename < <(mariadb --no-defaults --user=root --socket="$(configured socket /run/mysqld/mysqld.sock)" \
        -N -B -e 'SELECT @@log_bin_index, @@log_bin_basename')
    while IFS= read -r log; do
        if [ ${#logs[@]} -gt 0 ] || [ "${log##*/}" = "$1" ]; then logs+=("$(dirname "$basename")/${log##*/}"); fi
    done <"$index"
    [ ${#logs[@]} -gt 0 ] || die "the server has no $1 any more, on which its backup goes on"
}

backup_clone() {
    export FOLDER DEFAULTS_FILE SOCKET OWNER COPY=$FOLDER/saltext-migrate-new
    SOCKET=$(configured socket /var/run/mysqld/mysqld.sock)
    OWNER=$(stat -c %U "$(configured datadir /var/lib/mysql)") || die "there is no data folder"
    ours
    room
    printf '%s' "$COPY" >"$job/copy"
    forget_copy || die "an earlier copy in $COPY cannot be removed"
    trap forget_copy EXIT
    sh -c "$TAKE" >"$job/backup.log" 2>&1 || die "the backup failed: $(tail -n1 "$job/backup.log")"
}

restore_clone() {
    local told=() logs=() index log purged words root
    bring_back
    # As the server itself was made and installed; where its files are is another matter.
    IFS=' ' read -ra told < <(ask "SELECT CONCAT_WS(' ', CONCAT('--innodb-page-size=', @@innodb_page_size),
        CONCAT('--innodb-data-file-path=', @@innodb_data_file_path), CONCAT('--lower-case-table-names=', @@lower_case_table_names),
        CONCAT('--basedir=', @@basedir), CONCAT('--plugin-dir=', @@plugin_dir), CONCAT('--lc-messages-dir=', @@lc_messages_dir),
        CONCAT('--character-sets-dir=', @@character_sets_dir))")
    [ ${#told[@]} -eq 7 ] || die "root cannot ask the server: see docs/prepare.md"
    [ "$(ask "SELECT plugin FROM mysql.user WHERE User='root' AND Host='localhost'")" != auth_socket ] ||
        told+=(--plugin-load-add=auth_socket.so)
    mysqld --no-defaults "${told[@]}" --datadir="$INTO" --socket="$INTO/socket" --pid-file="$INTO/pid" --user="$owner" \
        --skip-networking --mysqlx=OFF --secure-file-priv=NULL --skip-replica-start --skip-log-bin --gtid-mode=ON --enforce-gtid-consistency=ON \
        --event-scheduler=OFF --performance-schema=OFF --max-allowed-packet=1G >"$job/restored.log" 2>&1 9>&- &
    root=(--defaults-file="$DEFAULTS_FILE" --user=root --protocol=socket --socket="$INTO/socket")
    comes_up mysqladmin "${root[@]}"
    purged=$(ask "SELECT REPLACE(@@global.gtid_purged, '\n', '')")
    words=$(mysql "${root[@]}" -N -B -e "SELECT GTID_SUBSET('$purged', @@global.gtid_executed)") || die "the restored data does not answer"
    [ "$words" = 1 ] || die "the server has no longer all of the binlogs on which its backup goes on"
    index=$(ask "SELECT @@log_bin_index")
    while IFS= read -r log; do logs+=("$(dirname "$index")/${log##*/}"); done <"$index"
    words=$(mysql "${root[@]}" -N -B -e "SELECT REPLACE(@@global.gtid_executed, '\n', '')") || die "the restored data does not answer"
    mysqlbinlog --no-defaults --include-gtids="$TARGET" --exclude-gtids="$words" "${logs[@]}" 2>"$job/apply.log" |
        mysql "${root[@]}" --binary-mode --max-allowed-packet=1G 2>>"$job/apply.log"
    went_on "${PIPESTATUS[@]}"
    words=$(mysql "${root[@]}" -N -B -e "SELECT GTID_SUBTRACT('$TARGET', @@global.gtid_executed)") || die "the restored data does not answer"
    [ -z "$words" ] || die "going on to $TARGET: $words did not come"
    sums_up mysql "${root[@]}"
}
