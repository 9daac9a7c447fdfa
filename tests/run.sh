#!/bin/sh
# Runs cmocka test programs one after the other and counts their tests.
#
#   tests/run.sh [--env FILE] PROGRAM...
#
# FILE sets the servers' addresses. Prints every program's output, then the ones that failed, then
# "N passed, N failed". A program that crashes or prints no result counts as one failure.
set -u

if [ "${1:-}" = --env ]; then
    set -a
    # shellcheck disable=SC1090
    . "$2"
    set +a
    shift 2
fi

passed=0
failed=0
bad=""
log=$(mktemp)
trap 'rm -f "$log"' EXIT

for program in "$@"; do
    echo "== $program"
    "$program" >"$log" 2>&1
    status=$?
    cat "$log"
    p=$(sed -n 's/^\[  PASSED  \] \([0-9][0-9]*\) test(s).*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
    f=$(sed -n 's/^\[  FAILED  \] \([0-9][0-9]*\) test(s).*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
        f=1
    elif [ "$p" -eq 0 ] && [ "$f" -eq 0 ]; then
        echo "$program: ran no test"
        f=1
    fi
    passed=$((passed + p))
    failed=$((failed + f))
    [ "$f" -eq 0 ] || bad="$bad $program"
done

for program in $bad; do
    echo "failed: $program"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
