#!/usr/bin/env bash
# The benchmarks: `make bench`. docs/BENCHMARKS.md says what is measured and how to read it.
#
#   run.sh [SECTION]...     all sections, or some of: core speed duckdb recompute growth groups
#                           queries cache freshness
#
# Works on a stack of its own (DOVETAIL_RUN_DIR and the ports come from make/bench.mk), which is made
# anew and removed afterwards. The environment may set
#   BENCH_RECORDS   records in the topic (3000000)
#   BENCH_RUNS      runs of the speed layer and of the batch layer, of which medians are told (5)
#   BENCH_GROUPS    groups of section 10 (20000000), and BENCH_MEMORY its batch.memory in MiB (1024)
#   BENCH_NEW       records that are new to an incremental run (1 % of the topic's)
#   BENCH_SAMPLES   marker records for the freshness (300)
#   BENCH_SECONDS   length of one measurement over HTTP (5)
#   BENCH_LOAD      records a second while freshness is measured (half of what was measured)
#   BENCH_HTTP_PORT (28080), BENCH_KEEP=1: leave the stack up
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(cd "$here/.." && pwd -P)
cd "$root"

: "${DOVETAIL_RUN_DIR:?run it with: make bench}"
build=$root/${DOVETAIL_BUILD:-build/release}
tools=$build/bench
run=$(realpath -m "$DOVETAIL_RUN_DIR")
work=$run/bench
records=${BENCH_RECORDS:-3000000}
runs=${BENCH_RUNS:-5}
samples=${BENCH_SAMPLES:-300}
seconds=${BENCH_SECONDS:-5}
http_port=${BENCH_HTTP_PORT:-28080}
patience=300
partitions=3
hz=$(getconf CLK_TCK)
results=$work/results.tsv
config=$work/demo.json
flights=$work/flights.jsonl
sections=" ${*:-core speed duckdb recompute growth groups queries cache busy freshness} "

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"
# shellcheck source-path=SCRIPTDIR source=sections.sh
. "$here/sections.sh"
# shellcheck source-path=SCRIPTDIR source=duckdb.sh
. "$here/duckdb.sh"
# shellcheck source-path=SCRIPTDIR source=growth.sh
. "$here/growth.sh"
# shellcheck source-path=SCRIPTDIR source=groups.sh
. "$here/groups.sh"

wants() { [[ $sections = *" $1 "* ]]; }

stack_up() {
    docker/local/stack.sh clean >&2
    docker/local/stack.sh up >&2
    # shellcheck disable=SC1091
    . "$run/env"
    rm -rf "$work"
    mkdir -p "$work/tiny/sources" "$work/tiny/views"
    cp schemas/sources/flights.json "$work/tiny/sources"
    cp bench/views/flights_by_day.json "$work/tiny/views"
    write_config "$work/demo.json" "$root/schemas" "$work/archive"
    write_config "$work/tiny.json" "$work/tiny" "$work/archive"
    kafka_pid=$(cat "$run/kafka/pid")
    postgres_pid=$(head -n 1 "$run/postgres/data/postmaster.pid")
}

finish() {
    local status=$?
    trap - EXIT
    stop_all
    [ -z "${BENCH_KEEP:-}" ] || exit "$status"
    if [ "$status" != 0 ]; then
        mkdir -p "$run/failed"
        cp "$work"/*.log "$run/failed" 2> /dev/null || true
        printf 'bench: the logs are in %s\n' "$run/failed" >&2
    fi
    docker/local/stack.sh clean >&2 || true
    rm -rf "$work"
    exit "$status"
}

make_records() {
    local real=../shared/data/flights-3m.jsonl.zst
    if [ -r "$real" ] && [ "$records" -le 3000000 ]; then
        zstdcat "$real" | head -n "$records" > "$flights" || [ $? = 141 ]
        origin="real flights"
    else
        "$tools/generate" "$records" > "$flights"
        origin="generated flights"
    fi
    [ "$(wc -l < "$flights")" = "$records" ] || fail "there are not $records records in $flights"
    step "$records $origin, $(($(stat -c %s "$flights") / records)) bytes each"
}

trap finish EXIT
trap 'exit 130' INT TERM
begun=$SECONDS
say "a stack of its own in $run"
stack_up
make_records
if wants core; then section_core; fi
fresh_database
load_topic
if wants speed; then section_speed; fi
if wants duckdb; then section_duckdb; fi
if wants growth; then section_growth; fi
if wants groups; then section_groups; fi
if wants recompute; then section_recompute; fi
if wants queries || wants cache || wants busy || wants freshness; then prepare_serving; fi
if wants queries; then section_queries; fi
if wants cache; then section_cache; fi
if wants busy; then section_busy; fi
if wants freshness; then section_freshness; fi
if wants queries || wants cache || wants busy || wants freshness; then section_memory; fi

say "results: median, least .. greatest, number of runs"
echo
print_machine
printf 'data: %s %s in %s partitions; everything on this machine, load average %s; %s s in all\n' \
    "$records" "$origin" "$partitions" "$(cut -d' ' -f1-3 /proc/loadavg)" $((SECONDS - begun))
print_results
