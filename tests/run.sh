#!/bin/sh
# Runs cmocka test programs and counts their tests.
#
#   tests/run.sh [--env FILE] [--jobs N] PROGRAM...
#
# FILE sets the servers' addresses. N programs run at a time (1); each has topics, a database and
# files of its own, so they do not meet. Prints every program's output, as it comes or, where it is
# not alone, as a whole at its end; then the ones that failed, then "N passed, N failed". A program
# that crashes, prints no result or is not done after TEST_SECONDS (900) counts as one failure: a
# test that stands still must not take the others with it.
set -u

# One program, for the run that this is part of: its lines, and its counts as a file in $results.
if [ "${1:-}" = --one ]; then
    program=$2
    log=$results/${program##*/}.$$.log
    foreground=""
    [ ! -t 1 ] || foreground=--foreground # so that Ctrl-C reaches it; else its whole group is ended
    start=$(date +%s)
    run() {
        timeout $foreground --verbose --kill-after 10 "${TEST_SECONDS:-900}" "$program" 2>&1
        echo $? >"$log.status"
    }
    echo "== $program"
    if [ "$jobs" -eq 1 ]; then
        run | tee "$log"
    else
        run >"$log"
        exec 9>"$results/output"
        flock 9
        echo "== $program: what it said"
        cat "$log"
    fi
    status=$(cat "$log.status")
    p=$(sed -n 's/^\[  PASSED  \] \([0-9][0-9]*\) test(s).*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
    f=$(sed -n 's/^\[  FAILED  \] \([0-9][0-9]*\) test(s).*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
        echo "$program: ended with $status"
        f=1
    elif [ "$p" -eq 0 ] && [ "$f" -eq 0 ]; then
        echo "$program: ran no test"
        f=1
    fi
    echo "== $program: $(($(date +%s) - start)) s"
    echo "$p $f $program" >"$log.counts"
    exit 0
fi

jobs=1
while :; do
    case "${1:-}" in
    --env)
        set -a
        # shellcheck disable=SC1090
        . "$2"
        set +a
        ;;
    --jobs) jobs=$2 ;;
    *) break ;;
    esac
    shift 2
done

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
trap 'exit 130' INT TERM
export results jobs

printf '%s\0' "$@" | xargs -0 -n 1 -P "$jobs" "$0" --one

# Sums up, and names what failed. A program without counts was ended before it could tell.
cat "$results"/*.counts | awk -v programs=$# '
    $2 > 0 { print "failed: " $3 }
    { passed += $1; failed += $2 }
    END {
        if (NR < programs) print programs - NR " programs were not run to their end"
        print passed + 0 " passed, " failed + programs - NR " failed"
        exit failed > 0 || NR < programs
    }'
