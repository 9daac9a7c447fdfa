#!/bin/sh
# Runs libFuzzer targets beside each other and says what each one reached.
#
#   tests/fuzz/run.sh SECONDS JOBS TARGET...
#
# Each begins with tests/fuzz/corpus/<target> and with what earlier runs found in
# build/fuzz/corpus/<target>. An input that shows a fault is kept as build/fuzz/fault-<target>-*; the
# log is build/fuzz/<target>.log. Exit code 1 where there was a fault.
set -u

run_one() {
    seconds=$1
    target=$2
    found=build/fuzz/corpus/$target
    log=build/fuzz/$target.log
    mkdir -p "$found"
    dictionary=
    [ ! -f "tests/fuzz/$target.dict" ] || dictionary=-dict=tests/fuzz/$target.dict
    # shellcheck disable=SC2086  # an option or nothing
    build/fuzz/tests/fuzz/fuzz_"$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2560 \
        -max_len=8192 -print_final_stats=1 -artifact_prefix="build/fuzz/fault-$target-" \
        $dictionary "$found" "tests/fuzz/corpus/$target" >"$log" 2>&1
    status=$?
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(sed -n 's/.*Loaded 1 modules *(\([0-9]*\) inline.*/\1/p' "$log" | head -n 1)
    covered=$(sed -n 's/.*cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    printf '%-12s %12s executions, %6s of %s edges%s\n' "$target" "${executions:-?}" \
        "${covered:-?}" "${edges:-?}" "$([ $status -eq 0 ] || echo ", FAULT: see $log")"
    return $status
}

if [ "${1:-}" = --one ]; then
    run_one "$2" "$3"
    exit $?
fi

seconds=$1
jobs=$2
shift 2
printf '%s\n' "$@" | xargs -P "$jobs" -n 1 "$0" --one "$seconds" || exit 1
