# shellcheck shell=bash disable=SC2154
# The jobs `send_clone` and `receive_clone` of carry.sh, which reads this: a copy of a running MySQL. The server itself copies
# its data into a folder beside it (CLONE LOCAL DATA DIRECTORY); that is sent, and removed whatever becomes of it.

# One statement, as root.
ask() {
    mysql --defaults-file="$DEFAULTS_FILE" --user=root --protocol=socket --socket="$(configured socket /var/run/mysqld/mysqld.sock)" \
        --batch --skip-column-names -e "$1"
}

send_clone() {
    local copy=$CLONE_FOLDER/saltext-migrate-$job
    [ -d "$CLONE_FOLDER" ] || die "there is no $CLONE_FOLDER: make it, for the server's own user, or name another (clone_folder)"
    printf '%s' "$copy" >"$job/copy"
    forget_copy || die "an earlier copy in $copy cannot be removed"
    trap forget_copy EXIT
    room_for_copy
    # The server makes the folder below it, and nobody else is to look in.
    install -d -m 0700 -o "$(stat -c %U "$(configured datadir /var/lib/mysql)")" "$copy" || die "cannot make $copy"
    ask "CLONE LOCAL DATA DIRECTORY = '$copy/data'" 2>"$job/backup.log" || die "CLONE: $(tail -n1 "$job/backup.log")"
    ask "SELECT CONCAT('Ver ', VERSION())" >"$copy/saltext-migrate-whole" || die "the server does not say its version"
    # What comes last says that all of it came.
    nice -n 10 tar -S -cf - -C "$copy/data" . -C "$copy" saltext-migrate-whole 2>"$job/backup.log" | away
    local codes=("${PIPESTATUS[@]}")
    [ "${codes[1]}" -eq 0 ] || die "the way to $ADDRESS:$PORT: $(tail -n1 "$job/log")"
    [ "${codes[0]}" -eq 0 ] || die "reading the copy: $(tail -n1 "$job/backup.log")"
}

# A full disk would stop the server itself.
room_for_copy() {
    local need free
    need=$(ask "SELECT CEIL((SUM(FILE_SIZE) + (SELECT SUM(TOTAL_EXTENTS * EXTENT_SIZE) FROM information_schema.FILES
        WHERE FILE_ID = 0)) / 1024 * 1.1) + 1048576 FROM information_schema.INNODB_TABLESPACES") ||
        die "root cannot ask the server: see docs/prepare.md"
    free=$(df -Pk "$CLONE_FOLDER" | awk 'NR == 2 { print $4 }')
    [ "$free" -gt "$need" ] || die "$CLONE_FOLDER has $free KiB free, and a copy with 1 GiB to spare needs $need"
}

# The server goes on to write after whoever asked it to is dead.
forget_copy() {
    local copy id
    copy=$(cat "$job/copy")
    case $copy in /*/saltext-migrate-*) ;; *) return 1 ;; esac
    [ -e "$copy" ] || return 0
    for _ in $(seq 100); do
        # Where the server is dead, so is what it did.
        id=$(ask "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'CLONE LOCAL DATA DIRECTORY%$copy/%' LIMIT 1" 2>/dev/null) || break
        [ -n "$id" ] || break
        ask "KILL QUERY $id" 2>/dev/null
        sleep 0.1
    done
    rm -rf "$copy"
}

receive_clone() {
    unpack() { tar -x -S -C "$incoming"; }
    whole() { whole_clone; }
    come_up() { first_start; }
    # Else a server that is started by hand would forget whom it follows.
    rm -f "$FIRST_START"
    trap 'rm -f "$FIRST_START"' EXIT
    receive
}

whole_clone() {
    local theirs ours
    [ -s "$incoming/saltext-migrate-whole" ] || die "the stream ended early"
    theirs=$(series <"$incoming/saltext-migrate-whole")
    ours=$(mysqld --version | series)
    [ "$theirs" = "$ours" ] || die "a copy of MySQL $theirs, and MySQL $ours here: install the same series"
    rm "$incoming/saltext-migrate-whole"
    # Its own gtid_executed says it, once it runs.
    : >"$job/position"
}

series() { sed -n 's/.*Ver \([0-9]*\.[0-9]*\).*/\1/p'; }

# The copy of a replica has its source's channel, whose relay logs did not come along: it is gone before anybody can connect.
first_start() {
    local words=$data/saltext-migrate-first-start.sql up=
    echo 'RESET REPLICA ALL;' >"$words"
    chown "$owner" "$words"
    printf '[mysqld]\nskip_replica_start=ON\ninit_file=%s\n' "$words" >"$FIRST_START"
    # The server is not root.
    chmod 0644 "$FIRST_START"
    sh -c "$START" 9>&- || die "the server does not start"
    for _ in $(seq 300); do
        up=$(ask "SELECT @@global.super_read_only AND @@global.init_file = '$words'" 2>"$job/backup.log") && break
        sleep 0.2
    done
    [ -n "$up" ] || die "root cannot ask the copy: $(tail -n1 "$job/backup.log")"
    if [ "$up" != 1 ]; then
        sh -c "$STOP" 9>&-
        die "the server does not read $(dirname "$FIRST_START"): name a file that it reads in migrate:databases:role_file"
    fi
    rm "$FIRST_START" "$words"
    ask "SELECT REPLACE(@@global.gtid_executed, '\n', '')" >"$job/position" || die "the copy does not say where it stands"
}
