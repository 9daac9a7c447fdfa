#!/usr/bin/env bash
# The local stack: Apache Kafka and PostgreSQL on loopback, for development and tests.
#
#   stack.sh up      start both and return when both answer; safe to repeat
#   stack.sh down    stop both; their data stays
#   stack.sh clean   stop both and remove their data
#
# State lies in .run/ (README.md in this folder says what is where). The environment may set
# DOVETAIL_RUN_DIR, DOVETAIL_KAFKA_PORT, DOVETAIL_KAFKA_CONTROLLER_PORT, DOVETAIL_POSTGRES_PORT and
# DOVETAIL_KAFKA_HEAP_OPTS; with other ports and another directory a second stack runs beside the first.
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
repo=$(cd "$here/../.." && pwd -P)
run=$(realpath -m "${DOVETAIL_RUN_DIR:-$repo/.run}")
logs=$run/log

kafka_port=${DOVETAIL_KAFKA_PORT:-19092}
kafka_controller_port=${DOVETAIL_KAFKA_CONTROLLER_PORT:-19093}
postgres_port=${DOVETAIL_POSTGRES_PORT:-15432}
postgres_elsewhere=/var/lib/dovetail-stack

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"
# shellcheck source-path=SCRIPTDIR source=kafka.sh
. "$here/kafka.sh"
# shellcheck source-path=SCRIPTDIR source=postgres.sh
. "$here/postgres.sh"

# One of these commands at a time per stack. The servers do not inherit descriptor 9.
take_lock() {
    local path
    for path in "$run" "$run/lock" "$logs" "$kafka_dir/data/meta.properties"; do
        if [ -e "$path" ] && [ ! -w "$path" ]; then
            fail "$path belongs to user $(stat -c %U "$path"); run this as that user or as root"
        fi
    done
    exec 9> "$run/lock"
    flock --wait 300 9 || fail "another command works on this stack ($run) since five minutes"
}

write_env() {
    cat > "$run/env.part" << EOF
DOVETAIL_KAFKA=127.0.0.1:$kafka_port
DOVETAIL_POSTGRES='host=127.0.0.1 port=$postgres_port dbname=dovetail user=postgres'
export DOVETAIL_KAFKA DOVETAIL_POSTGRES
EOF
    mv -f "$run/env.part" "$run/env"
}

# Runs two functions side by side and ends with MESSAGE when either fails. Not a status for the caller to
# test: called in a condition, the functions would run without set -e.
# usage: both FUNCTION FUNCTION MESSAGE
both() {
    local first second status=0
    "$1" &
    first=$!
    "$2" &
    second=$!
    # shellcheck disable=SC2064  # the numbers as they are now
    trap "kill $first $second 2>/dev/null; exit 130" INT TERM
    wait "$first" || status=1
    wait "$second" || status=1
    trap - INT TERM
    [ "$status" = 0 ] || fail "$3"
}

stack_up() {
    mkdir -p "$logs"
    # State is never committed, wherever the directory lies.
    printf '*\n' > "$run/.gitignore"
    take_lock
    both kafka_up postgres_up "the stack is not up"
    write_env
    say "ready; connection settings are in $run/env"
}

stack_down() {
    if [ ! -d "$run" ]; then
        say "nothing is running: there is no $run"
        return
    fi
    take_lock
    both kafka_down postgres_down "the stack is not fully stopped"
    rm -f "$run/env"
}

# Removes only what the stack itself made; other state below .run, and the fetched jars, stay.
stack_clean() {
    local target
    stack_down
    target=$(realpath -m "$postgres_dir")
    case $target in
        "$postgres_elsewhere"/?*) rm -rf "$target" ;;
    esac
    rm -rf "$kafka_dir" "$postgres_dir" "$logs"
    say "the state below $run is removed"
}

case ${1-} in
    up) stack_up ;;
    down) stack_down ;;
    clean) stack_clean ;;
    *)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
