#!/bin/bash
# Runs all tests, or the demo, and leaves nothing behind: also after Ctrl-C, after SIGTERM and after a failure.
#
#     tests/run.sh test | chaos | demo
#
# The tests' last line counts all of them: `N passed, N failed, N skipped`.
set -uo pipefail
# Children get process groups of their own: so a signal reaches us first, and then the whole group by our hand.
set -m
cd "$(dirname "$0")/.."

LAB=/var/lib/saltext-migrate-lab
python=target/venv/bin/python
log=$(mktemp)
logs=$(mktemp -d)
children=()
in_lab=
memory=
passed=0 failed=0 skipped=0

say() { echo "==> $*"; }

stop() {
    trap '' INT TERM
    say "stopping; what is running is given a minute to tidy up"
    # As Ctrl-C, for Python then unwinds.
    for child in "${children[@]}"; do kill -INT -- "-$child" 2>/dev/null; done
    for child in "${children[@]}"; do
        for _ in $(seq 600); do
            kill -0 -- "-$child" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-$child" 2>/dev/null
    done
    exit "$1"
}

end() {
    local code=$?
    trap '' INT TERM
    if [ -n "$in_lab" ] && [ -d "$LAB" ]; then
        # Whoever holds the lock has a lab of their own up, and theirs is not ours to take down.
        flock --nonblock "$LAB/lock" "$python" -m tests.lab down </dev/null || true
    fi
    rm -rf "$log" "$logs"
    [ -z "$memory" ] || rm -rf "$memory"
    exit $code
}

trap 'stop 130' INT
trap 'stop 143' TERM
trap end EXIT

# Runs a command as a group of its own, with what it prints kept for counting.
run() {
    "$@" </dev/null > >(tee -i "$log") 2>&1 &
    children=($!)
    wait "$!"
    local code=$?
    children=()
    # What is still in the pipe.
    sleep 0.1
    count "$log"
    return $code
}

# Runs pytest several times at once, for most tests wait for servers: on the files of each further argument, and on all
# others of the folders. Beside them, on what they leave of the processors, the checks and tests of Rust are compiled and run.
# What the others print comes when the first has ended.
run_side_by_side() {
    local folders=$1 code=0 lane=1 files file others=() child
    shift
    nice -n 19 bash -c 'make --silent check-rust && cargo test --quiet --locked' </dev/null >"$logs/9" 2>&1 &
    children=("$!")
    for files in "$@"; do
        lane=$((lane + 1))
        for file in $files; do others+=("--ignore=$file"); done
        # shellcheck disable=SC2086
        pytest_in $lane $files >"$logs/$lane" 2>&1 &
        children+=("$!")
    done
    # shellcheck disable=SC2086
    pytest_in 1 "${others[@]}" $folders > >(tee -i "$log") 2>&1 &
    children+=("$!")
    wait "$!" || code=$?
    for child in "${children[@]}"; do wait "$child" || code=$?; done
    children=()
    sleep 0.1
    cat "$logs"/*
    for file in "$log" "$logs"/*; do count "$file"; done
    return $code
}

# Each in a folder of its own with a short name: a socket's whole path may have 107 bytes.
pytest_in() { exec env ${memory:+TMPDIR=$memory} "$python" -m pytest ${memory:+--basetemp=$memory/$1} "${@:2}" </dev/null; }

# Has the servers of the tests keep their files in memory, where there is plenty: dozens of databases that each wait for
# the disk say nothing of the product.
in_memory() {
    local free left
    free=$(df --output=avail -BG -t tmpfs /dev/shm 2>/dev/null | tail -n1 | tr -dc 0-9)
    [ "${free:-0}" -ge 8 ] || return 0
    # What a run that was killed left there.
    for left in /dev/shm/saltext-migrate.*; do [ -d "/proc/${left##*.}" ] || rm -rf "$left"; done
    memory=/dev/shm/saltext-migrate.$$
    mkdir "$memory"
}

# Adds up the closing lines of pytest and of cargo test.
count() {
    local pytest cargo
    pytest=$(grep -aE '^=+ .* in [0-9.]+s.* =+' "$1" | tail -n1)
    cargo=$(grep -a '^test result: ' "$1")
    sum() { grep -oE "[0-9]+ $1" <<<"$pytest"$'\n'"$cargo" | awk '{n += $1} END {print n + 0}'; }
    passed=$((passed + $(sum passed)))
    failed=$((failed + $(sum failed) + $(sum errors?)))
    skipped=$((skipped + $(sum skipped) + $(sum ignored)))
}

finish() {
    # A stage that failed without a failed test is a failure all the same.
    [ "$1" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
    echo "$passed passed, $failed failed, $skipped skipped"
    exit "$1"
}

# Runs one stage; ends everything where it fails.
stage() {
    say "$1"
    shift
    "$@" || finish $?
}

kept() { [ -f "$LAB/run/site.json" ] && grep -q '"keep": true' "$LAB/run/site.json"; }

case "${1:-}" in
test)
    if kept; then
        echo "the lab is up, and the tests need it for themselves: make lab-down" >&2
        finish 1
    fi
    in_memory
    # What has a cloud, what moves data, and the rest; each takes as long as the others.
    stage "unit, contract and functional tests, three at a time, and the checks and tests of Rust" \
        run_side_by_side "tests/unit tests/contract tests/functional" \
        "$(echo tests/functional/test_{plane,prepare,prepare_access,prepare_salt,prepare_volumes,two_masters,cleanup,cleanup_salt,testing,edge_many,edge_salt,tls}.py)" \
        "$(echo tests/functional/test_{seeding,seeding_mysql,mysql,kinds,deployment,uploads,salt_versions}.py)"
    in_lab=1
    stage "the lab: two clouds on this machine (root only)" run "$python" -m pytest -m lab tests/lab_tests
    in_lab=
    finish 0
    ;;
chaos)
    if kept; then
        echo "the lab is up, and the fault matrix needs it for itself: make lab-down" >&2
        exit 1
    fi
    in_lab=1
    say "the fault matrix; its report is target/chaos/report.json"
    run "$python" -m tests.chaos || exit $?
    ;;
demo)
    if kept; then
        echo "the lab is up, and the demo needs it for itself: make lab-down" >&2
        exit 1
    fi
    in_lab=1
    say "the demo; its report comes last"
    run "$python" -m tests.demo || exit $?
    ;;
*)
    echo "usage: tests/run.sh test | chaos | demo" >&2
    exit 2
    ;;
esac
