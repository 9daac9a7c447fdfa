#!/bin/sh
# Runs cmocka test programs one after the other and counts their tests.
#
#   tests/run.sh [--env FILE] PROGRAM...
#
# FILE sets the servers' addresses. Prints every program's output as it comes, then the ones that
# failed, then "N passed, N failed". A program that crashes, prints no result or is not done after
# TEST_SECONDS (900) counts as one failure: a test that stands still
# must not take the others with it.
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
limit=${TEST_SECONDS:-900}
foreground=""
[ ! -t 1 ] || foreground=--foreground # so that Ctrl-C reaches it; else its whole group is ended
log=$(mktemp)
ended=$(mktemp)
trap 'rm -f "$log" "$ended"' EXIT

for program in "$@"; do
    echo "== $program"
    start=$(date +%s)
    { timeout $foreground --verbose --kill-after 10 "$limit" "$program" 2>&1; echo $? >"$ended"; } | tee "$log"
    status=$(cat "$ended")
    echo "== $program: $(($(date +%s) - start)) s"
    p=$(sed -n 's/^\[  PASSED  \] \([0-9][0-9]*\) test(s).*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
    f=$(sed -n 's/^\[  FAILED  \] \([0-9][0-9]*\) test(s).*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
        echo "$program: ended with $status"
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
