#!/bin/bash
# Carries a copy from one host to another, over TLS in which each side knows the other's certificate: of a running MariaDB
# (`send` on the one, `receive` on the other; MySQL's way is in clone.sh), or of trees of files (`push` and `take`). A worker
# outlives whoever started it; its lock says whether it lives.
#
#     carry.sh identity            this host's certificate; made once, the key never leaves
#     carry.sh start JOB           begins to work as JOB/settings say, or $SETTINGS, unless it works already or is done
#     carry.sh status JOB [WAIT]   how it stands; with WAIT, once it has ended or so many seconds are over
#     carry.sh reset JOB           ends the worker, and forgets how it ended
#     carry.sh ready JOB           both: reset, and then this host's certificate
#     carry.sh result JOB          what it found
#     carry.sh manifest            a BLAKE3 hash over everything below each of $PATHS, and how many files; with $PARTS, see below;
#                                  with FACTS=times of sizes and times instead of contents, and the links that lead out of all $TREES
set -uo pipefail
umask 077
# Two hosts sort alike.
export LC_ALL=C
# Where servers are.
PATH=$PATH:/usr/sbin
cd "$(dirname "$0")"
here=$PWD
# Below each tree, while files come in: what they replace.
ASIDE=.saltext-migrate-aside
verb=${1:-} job=${2:-}
case $verb$job in *[!A-Za-z0-9._-]*) echo "carry: unfit name" >&2; exit 2 ;; esac

say() { printf '%s %s\n' "$(date -u +%FT%TZ)" "$*"; }
die() { say "$*"; printf '%s\n' "$*" >"$here/$job/words"; exit 1; }

# What the server's own configuration says; the last word counts.
configured() {
    local found
    found=$(my_print_defaults --defaults-file="$DEFAULTS_FILE" mysqld server mariadbd mariadb | sed -n "s/^--$1=//p" | tail -n1)
    echo "${found:-$2}"
}

identity() {
    # Two at once would keep the key of one and the certificate of the other.
    exec 8>identity.lock && flock 8 || exit 1
    if [ ! -s cert.pem ]; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=saltext-migrate-carry \
            -keyout key.pem.new -out cert.pem.new 2>/dev/null || exit 1
        mv key.pem.new key.pem && mv cert.pem.new cert.pem
    fi
    cat cert.pem
}

works() { [ -e "$job/lock" ] && ! flock --nonblock "$job/lock" true; }

# A copy whose server was emptied since is none.
emptied() { [ -e "$job/data" ] && [ ! -e "$(cat "$job/data")/saltext-migrate-seed" ]; }

status() {
    [ -d "$job" ] || { echo state=nothing; return; }
    if [ -n "${1:-}" ] && [ -e "$job/lock" ]; then flock --wait "$1" "$job/lock" true; fi
    if works; then echo state=working
    elif [ -e "$job/done" ] && ! emptied; then echo state=done
    elif [ -e "$job/started" ] && [ ! -e "$job/done" ]; then echo state=failed
    else echo state=nothing; fi
    [ ! -e "$job/brought" ] || cat "$job/brought"
    [ ! -e "$job/position" ] || echo "position=$(cat "$job/position")"
    [ ! -e "$job/words" ] || echo "words=$(tr '\n' ' ' <"$job/words")"
}

stop() {
    works || return 0
    # The worker leads a group of its own.
    kill -TERM -- "-$(cat "$job/pid")" 2>/dev/null
    flock --wait 10 "$job/lock" true || kill -KILL -- "-$(cat "$job/pid")" 2>/dev/null
    flock --wait 10 "$job/lock" true
}

# What jobs of one kind only need stands beside this.
further() {
    local part
    # shellcheck source=/dev/null
    for part in clone.sh restore.sh; do [ ! -e "$here/$part" ] || . "$here/$part"; done
}

reset() {
    stop || exit 1
    # What a worker that was killed left of a copy.
    # shellcheck source=/dev/null
    [ ! -e "$job/copy" ] || (. "$job/settings" && further && forget_copy) || exit 1
    # shellcheck source=/dev/null
    [ ! -e "$job/settings" ] || (. "$job/settings" && [ "$ROLE" != take ] || put_back) || exit 1
    rm -f "$job/started" "$job/done" "$job/words" "$job/brought"
}

# The other end: half a second for each try, and two more where something on the way swallows what it does not let through.
there() {
    echo "OPENSSL:$ADDRESS:$PORT,retry=$1,interval=0.5,connect-timeout=2,cert=$here/cert.pem,key=$here/key.pem,cafile=$here/$job/peer.pem,commonname=saltext-migrate-carry,verify=1"
}
# Hands on what it is given, and what the other end hands on. That one stops its server first.
away() { socat -u STDIN "$(there 120)"; }
arriving() {
    socat -u "OPENSSL-LISTEN:$PORT,bind=$ADDRESS,reuseaddr,accept-timeout=${LIMIT:-600},cert=$here/cert.pem,key=$here/key.pem,cafile=$here/$job/peer.pem,verify=1" STDOUT
}

send() {
    # A stream that ends early lacks its last file, and is refused over there.
    nice -n 10 mariadb-backup --defaults-file="$DEFAULTS_FILE" --backup --stream=mbstream --target-dir="$here/$job/tmp" \
        --user=root --socket="$(configured socket /run/mysqld/mysqld.sock)" --parallel=2 2>"$job/backup.log" | away
    local codes=("${PIPESTATUS[@]}")
    [ "${codes[0]}" -eq 0 ] || die "mariadb-backup: $(grep -v ' 00000000 ' "$job/backup.log" | tail -n1)"
    [ "${codes[1]}" -eq 0 ] || die "the way to $ADDRESS:$PORT: $(tail -n1 "$job/log")"
}

# Databases that no seed of ours brought. The mark of one counts on the host where it was made: on a volume that came from
# another one, people may have written since.
foreign() {
    [ ! -e "$data/saltext-migrate-seed" ] || [ "$(cat "$job/data" 2>/dev/null)" != "$data" ] || return 0
    find "$data" -mindepth 1 -maxdepth 1 -type d ! -name mysql ! -name performance_schema ! -name sys ! -name test \
        ! -name lost+found ! -name '#*' ! -name .saltext-migrate-seed -printf '%f '
}

receive() {
    local data incoming owner
    data=$(configured datadir /var/lib/mysql) incoming=$data/.saltext-migrate-seed
    owner=$(stat -c %U:%G "$data") || die "there is no $data"
    if [ ! -e "$job/clearing" ] && [ ! -e "$job/moving" ]; then
        [ -z "$(foreign)" ] || die "$data holds databases that no seed brought: $(foreign)"
        sh -c "$STOP" 9>&- || die "the server does not stop"
        fetch
        : >"$job/clearing"
    fi
    if [ -e "$job/clearing" ]; then
        # An empty server's files, or what an earlier seed of ours left.
        find "$data" -mindepth 1 -maxdepth 1 ! -name .saltext-migrate-seed ! -name lost+found -exec rm -rf {} +
        forget_binlogs || die "old binlogs cannot be removed"
        mv "$job/clearing" "$job/moving"
    fi
    find "$incoming" -mindepth 1 -maxdepth 1 ! -name saltext-migrate-seed -exec mv -t "$data" {} + || die "moving into $data failed"
    if [ -e "$incoming/saltext-migrate-seed" ]; then mv "$incoming/saltext-migrate-seed" "$data"; fi
    rmdir "$incoming"
    printf '%s' "$data" >"$job/data"
    rm "$job/moving"
    come_up
}

# Those that lie outside of the data would stay, and with them what the empty server wrote by itself: nobody else has that, and
# a copy that stands before it is refused its position (error 1947).
forget_binlogs() {
    local logs name
    logs=$(configured 'log[-_]bin' "")
    case $logs in /*) ;; *) return 0 ;; esac
    name=${logs##*/}
    # Servers leave the ending out.
    name=${name%.*}
    find "${logs%/*}/" -maxdepth 1 -type f \( -name "$name.[0-9]*" -o -name "$name.index" -o -name "$name.state" \) -delete
}

# Its lock is not the server's.
come_up() { sh -c "$START" 9>&- || die "the server does not start"; }

fetch() {
    rm -rf "$incoming"
    mkdir "$incoming" || die "cannot write into $data"
    arriving | unpack
    local codes=("${PIPESTATUS[@]}")
    [ "${codes[0]}" -eq 0 ] || die "receiving: $(tail -n1 "$job/log")"
    [ "${codes[1]}" -eq 0 ] || die "the stream is broken"
    whole
    cp "$job/position" "$incoming/saltext-migrate-seed"
    chown -R "$owner" "$incoming"
}

unpack() { mbstream -x -C "$incoming"; }

# All of it came, and can be used here.
whole() {
    # The last file of a backup: without it the stream ended early, at whatever point.
    local info=$incoming/xtrabackup_info logged=$incoming/xtrabackup_binlog_info
    [ -e "$info" ] || info=$incoming/mariadb_backup_info
    [ -e "$logged" ] || logged=$incoming/mariadb_backup_binlog_info
    [ -s "$info" ] || die "the stream ended early"
    local theirs ours
    theirs=$(sed -n 's/^server_version = \([0-9]*\.[0-9]*\).*/\1/p' "$info")
    ours=$(mariadb-backup --version 2>&1 | sed -n 's/.*server \([0-9]*\.[0-9]*\).*/\1/p')
    [ "$theirs" = "$ours" ] || die "a copy of MariaDB $theirs, and mariadb-backup of $ours here: install the same series"
    mariadb-backup --prepare --target-dir="$incoming" >"$job/backup.log" 2>&1 ||
        die "mariadb-backup --prepare: $(tail -n1 "$job/backup.log")"
    forget_prepared "$incoming"
    cut -f3 "$logged" 2>/dev/null | head -n1 >"$job/position"
}

# A server that replicates in parallel commits in its source's order: while one transaction waits, those behind it stand
# prepared, and a copy of then holds them so. Such data does not start (MDEV-36025). The copy's position is before them: they
# are rolled back here, and come once more from there on.
forget_prepared() {
    # It reads no statement, and ends. What the server knew of warm pages stays.
    mariadbd --defaults-file="$1/backup-my.cnf" --datadir="$1" --user="$(stat -c %U "$1")" --bootstrap --skip-log-bin \
        --tc-heuristic-recover=ROLLBACK --skip-innodb-buffer-pool-load-at-startup --skip-innodb-buffer-pool-dump-at-shutdown \
        </dev/null >>"$job/backup.log" 2>&1 9>&- || die "prepared transactions of the copy: $(first_error "$job/backup.log")"
}

# A server's last word is only that it gives up.
first_error() { { grep '\[ERROR\]' "$1" || tail -n1 "$1"; } | head -n 2 | tr '\n' ' '; }

# -- trees of files

patterns() { while IFS= read -r pattern; do [ -z "$pattern" ] || printf '%s\n' "$pattern"; done <<<"${EXCLUDE:-}"$'\n'"$ASIDE"; }

push() {
    local path number pass=0 all=0 brought passes=1 vanished code said=$job/said how=(--delete --hard-links)
    # Where people write on both sides nothing goes, and what is newer stays; until nothing is left to bring. (A name that is to
    # be a hard link would be replaced whatever its time.)
    [ -z "${ADD:-}" ] || { how=(--update --backup --backup-dir="$ASIDE"); passes=3; }
    # It listens already.
    RSYNC_CONNECT_PROG="socat - $(there 20)"
    export RSYNC_CONNECT_PROG
    while [ $pass -lt $passes ]; do
        pass=$((pass + 1)) number=0 vanished=
        : >"$job/went"
        while IFS= read -r path; do
            number=$((number + 1))
            if [ ! -e "$path" ]; then
                # Of a deployment node's trees some need not be there; what people wrote was seen before.
                [ -n "${ADD:-}" ] || continue
                die "there is no $path any more: is its volume mounted?"
            fi
            # Anchored patterns are paths of this host; rsync counts from the tree. Without a sign it takes `#…` for a comment.
            patterns | sed -n "s,^$path/,- /,p; s/^[^\/]/- &/p" >"$job/exclude.$number"
            rsync -aAXS --timeout=600 --numeric-ids "${how[@]}" ${CHECKSUM:+--checksum} --exclude-from="$job/exclude.$number" \
                --out-format='%i %n' "$path/" "rsync://$ADDRESS/tree$number/" >>"$job/went" 2>"$said"
            code=$?
            cat "$said"
            # People take files away, and give them other names, while they are carried (24): then one pass more is due.
            if [ $code -eq 24 ] && [ -n "${ADD:-}" ]; then vanished=1
            elif [ $code -ne 0 ]; then die "rsync of $path to TCP $ADDRESS:$PORT: $(why "$said")"; fi
        done <<<"$PATHS"
        # Files and links: of folders it tells a new time too.
        brought=$(grep -c '^[<ch][fL]' "$job/went")
        all=$((all + brought))
        {
            # One that went away may have come back under another name, behind the place where it was looked for.
            printf 'brought=%s %s %s\n' "$all" "$pass" $((brought + ${vanished:-0}))
            sed -n 's/^[<ch][fL][^ ]* /name=/p' "$job/went" | head -n 3
            [ -z "$vanished" ] || echo "name=one that went away as it was carried"
        } >"$job/brought"
        [ "$brought" -gt 0 ] || [ -n "$vanished" ] || break
    done
}

# What is wrong stands above rsync's closing line, which only says that something is.
why() { { grep -v '^rsync error: ' "$1" | head -n 2; tail -n 1 "$1"; } | uniq | tr '\n' ' '; }

# rsync looks at times before it carries, and may have much to carry: what people wrote here meanwhile, or as a link, or as
# another kind of thing than over there, is the newer one all the same. It goes back where it was.
put_back() {
    local path name there
    while IFS= read -r path; do
        [ -d "$path/$ASIDE" ] || continue
        find "$path/$ASIDE" \( -type f -o -type l \) -printf '%P\0' | while IFS= read -rd '' name; do
            there=$path/$name
            [ "$(stat -c %Y "$path/$ASIDE/$name")" -gt "$(stat -c %Y "$there" 2>/dev/null || echo 0)" ] || continue
            [ -L "$there" ] || [ ! -d "$there" ] || there=$there.newer
            mv -fT "$path/$ASIDE/$name" "$there" || exit 1
        done || return 1
        rm -rf "${path:?}/$ASIDE"
    done <<<"$PATHS"
}

take() {
    local path number=0
    # Whoever told it to listen may never come back.
    { sleep "$LIMIT"; kill -TERM -- "-$$"; } 9>&- &
    while IFS= read -r path; do
        # What stands above a tree is nobody's secret: the application has to come through.
        (umask 022; mkdir -p "$path") || die "cannot make $path"
    done <<<"$PATHS"
    {
        # Without a root of its own it would cut the first slash off links.
        printf 'use chroot = yes\nuid = 0\ngid = 0\nread only = no\nmunge symlinks = no\nreverse lookup = no\n'
        while IFS= read -r path; do
            number=$((number + 1))
            printf '[tree%s]\npath = %s\n' "$number" "$path"
        done <<<"$PATHS"
    } >"$job/rsyncd.conf"
    socat "OPENSSL-LISTEN:$PORT,bind=$ADDRESS,reuseaddr,fork,cert=$here/cert.pem,key=$here/key.pem,cafile=$here/$job/peer.pem,verify=1" \
        "EXEC:rsync --server --daemon --config=$here/$job/rsyncd.conf ." || die "listening on TCP $ADDRESS:$PORT: $(tail -n1 "$job/log")"
}

# What a copy must keep, a line for each fact of each path: kind, mode, owners and link; contents; extended attributes. Times
# are rsync's own affair.
entries() {
    local skip=() pattern
    excluding "$1"
    (
        cd "$1" || exit 1
        if [ "${FACTS:-}" = times ]; then
            # A line for each, whatever signs its name has.
            find -H "$PWD" -ignore_readdir_race "${skip[@]}" \( -type f -o -type l \) -printf '%P\1file\1%T@ %y %s %l\0' |
                sed -z 's/\\/\\\\/g; s/\n/\\n/g; s/\t/\\t/g; s/\x01/\t/g' | tr '\0' '\n'
            exit
        fi
        find -H "$PWD" -ignore_readdir_race "${skip[@]}" -printf '%P\tnode\t%y %m %U:%G %l\n' || exit 1
        find -H "$PWD" "${skip[@]}" -type f -print0 | sed -z "s,^$PWD/,," | xargs -0r b3sum |
            sed -E 's/^(\\?[0-9a-f]{64})  (.*)/\2\tcontents\t\1/'
        find -H "$PWD" "${skip[@]}" ! -type l -print0 | sed -z "s,^$PWD,.," | xargs -0r getfattr -hd -m- -- 2>/dev/null |
            sed -nE '/^# file: /{s,^# file: \.?/?,,;h;d}; /./{G;s/^(.*)\n(.*)$/\2\tattributes\t\1/;p}'
        exit 0
    ) | sort -T "$here"
}

# Fills the caller's `skip` with what `find` is to leave out below a tree; the tree itself may have any name.
excluding() {
    while IFS= read -r pattern; do
        case $pattern in /*) skip+=(-path "$pattern" -prune -o) ;; *) skip+=(-name "$pattern" ! -path "$1" -prune -o) ;; esac
    done < <(patterns)
}

# The links whose end lies in none of $TREES, the first of them: what is behind those stays where it is.
outside() {
    local skip=() pattern link end tree
    excluding "$1"
    find -H "$1" -ignore_readdir_race "${skip[@]}" -type l \( -lname '/*' -o -lname '*..*' \) -print0 | while IFS= read -rd '' link; do
        end=$(readlink -m -- "$link")
        while IFS= read -r tree; do
            case $end/ in "$(readlink -m -- "$tree")"/*) continue 2 ;; esac
        done <<<"$TREES"
        printf 'outside=%q\n' "$link"
        # Whoever reads no further would end those before it by a signal.
    done | sed -n 1,20p
}

manifest() {
    local path list
    list=$(mktemp -d "$here/manifest.XXXXXX") || exit 1
    # shellcheck disable=SC2064
    trap "rm -rf '$list'" EXIT
    while IFS= read -r path; do
        if [ ! -d "$path" ]; then
            echo "tree=absent 0 $path"
            continue
        fi
        # Of a list that breaks off it would seem that nothing else is there.
        entries "$path" >"$list/all" || { echo "carry: not all of $path can be read" >&2; exit 1; }
        case ${PARTS:-} in
        "") echo "tree=$(b3sum <"$list/all" | cut -c1-64) $(grep -c $'\tcontents\t' "$list/all") $path" ;;
        all)
            parts "$list" || exit 1
            [ "${FACTS:-}" != times ] || outside "$path" || exit 1
            ;;
        *) numbered <"$list/all" | named "$PARTS" ;;
        esac
    done <<<"$PATHS"
}

# Two sides find out what differs without telling each other everything: each cuts its manifest into parts, all facts of a
# path in one, and tells the hash and the size of each; then the lines of those that differ.
numbered() {
    awk -F '\t' 'BEGIN { for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i }
        { part = 0; for (i = 1; i <= length($1); i++) part = (part * 31 + code[substr($1, i, 1)]) % 1021; print part "\t" $0 }'
}
parts() {
    [ -s "$1/all" ] || return 0
    mkdir "$1/parts"
    numbered <"$1/all" | sort -T "$here" -s -n -k1,1 | awk -F '\t' -v folder="$1/parts/" '
        folder $1 != file { close(file); file = folder $1 } { sub(/^[0-9]+\t/, ""); print >file }' || return 1
    (cd "$1/parts" && paste -d ' ' <(stat -c 'part=%n %s' -- *) <(b3sum --no-names -- * | cut -c1-32))
    rm -r "$1/parts"
}
# What an attribute holds is nobody's affair.
named() {
    local fact hash
    awk -F '\t' -v parts="$1" 'BEGIN { split(parts, list, " "); for (i in list) wanted[list[i]] }
        $1 in wanted { sub(/^[0-9]+\t/, "entry="); print }' |
        while IFS= read -r fact; do
            case $fact in
            *$'\tattributes\t'*) hash=$(b3sum <<<"$fact") && echo "${fact%%$'\t'*}"$'\tattributes\t'"${hash:0:64}" ;;
            *) echo "$fact" ;;
            esac
        done
}

work() {
    exec 9>"$job/lock"
    flock --nonblock 9 || exit 0
    echo $$ >"$job/pid"
    rm -f "$job/words"
    : >"$job/started"
    # shellcheck source=/dev/null
    . "$job/settings"
    printf '%s\n' "$PEER" >"$job/peer.pem"
    further
    "$ROLE"
    : >"$job/done"
}

case $verb in
identity) identity ;;
start)
    if works || [ -e "$job/done" ]; then exit 0; fi
    [ -z "${SETTINGS:-}" ] || { mkdir -p "$job" && printf '%s' "$SETTINGS" >"$job/settings"; }
    rm -f "$job/started"
    setsid --fork "$here/$(basename "$0")" work "$job" </dev/null >>"$job/log" 2>&1
    # Once it has the lock it is seen.
    for _ in $(seq 100); do [ ! -e "$job/started" ] || break; sleep 0.05; done
    ;;
work) work ;;
status) status "${3:-}" ;;
reset) reset ;;
ready) reset && identity ;;
result) cat "$job/result" ;;
manifest) manifest ;;
*) echo "carry: identity, start, status, reset, ready, result or manifest" >&2; exit 2 ;;
esac
