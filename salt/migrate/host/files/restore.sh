# shellcheck shell=bash disable=SC2154
# The jobs `backup` and `restore` of carry.sh, which reads this: a backup of the host's own database server, and one of those
# brought to a moment after it was taken, by the server's binlogs, on a server beside it that is thrown away.

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
    local owner info file position logs=() socket
    # The trap sees no more than what is everybody's.
    server=
    export FOLDER INTO=$FOLDER/restored
    PATH=$PATH:/usr/sbin
    owner=$(stat -c %U "$(configured datadir /var/lib/mysql)") || die "there is no data folder"
    ours
    rm -rf "$INTO"
    install -d -m 0700 "$INTO" || die "cannot make $INTO"
    trap '[ -z "$server" ] || kill -KILL "$server" 2>/dev/null; rm -rf "$INTO"' EXIT
    sh -c "$RESTORE" >"$job/backup.log" 2>&1 || die "the backup does not come back: $(tail -n1 "$job/backup.log")"
    info=$INTO/mariadb_backup_binlog_info
    [ -e "$info" ] || info=$INTO/xtrabackup_binlog_info
    [ -s "$info" ] || die "the backup does not say where its binlog goes on"
    read -r file position _ <"$info"
    binlogs "$file"
    chown -R "$owner" "$INTO"
    socket=$INTO/socket
    mariadbd --defaults-file="$INTO/backup-my.cnf" --datadir="$INTO" --socket="$socket" --pid-file="$INTO/pid" --user="$owner" \
        --skip-networking --skip-slave-start --skip-log-bin --event-scheduler=OFF --max-allowed-packet=1G \
        >"$job/restored.log" 2>&1 9>&- &
    server=$!
    until mariadb-admin --no-defaults --user=root --socket="$socket" --silent ping >/dev/null 2>&1; do
        kill -0 "$server" 2>/dev/null || die "the restored data does not start: $(tail -n1 "$job/restored.log")"
        sleep 0.1
    done
    mariadb-binlog --no-defaults --start-position="$position" --stop-position="$TARGET" "${logs[@]}" 2>"$job/apply.log" |
        mariadb --no-defaults --user=root --socket="$socket" --binary-mode --max-allowed-packet=1G 2>>"$job/apply.log"
    local codes=("${PIPESTATUS[@]}")
    [ "${codes[0]}${codes[1]}" = 00 ] || die "going on to $TARGET: $(tail -n1 "$job/apply.log")"
    mariadb --no-defaults --default-character-set=utf8mb4 --user=root --socket="$socket" -N -B <<<"$SUMS" >"$job/result" 2>"$job/apply.log" ||
        die "reading what was restored: $(tail -n1 "$job/apply.log")"
    mariadb-admin --no-defaults --user=root --socket="$socket" shutdown 2>/dev/null || kill -TERM "$server"
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
