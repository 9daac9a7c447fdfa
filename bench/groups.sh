# shellcheck shell=bash disable=SC2034,SC2154  # variables of run.sh and common.sh
# More groups than batch.memory holds: what a run's memory is at the most, and that the counts are right.

# As many groups, in no order; a quarter of them have a second record. usage: make_visits GROUPS
make_visits() {
    awk -v groups="$1" 'BEGIN {
        for (i = 0; i < groups + int(groups / 4); i++) {
            visitor = i * 7919 % groups
            printf "{\"t\":%d,\"visitor\":\"v%08d\",\"n\":%d}\n", 1700000000 + visitor % 5 * 86400, visitor, i % 1000
        }
    }'
}

# One run, and what it took. usage: run_groups LABEL [ARGUMENT]...
run_groups() {
    local label=$1 wall cpu kib spilled pieces
    shift
    "$tools/timed" "$work/timed" "$build/dovetail-batch" run --config "$config" "$@" > "$work/groups.out" 2>&1 ||
        { cat "$work/groups.out" >&2; fail "the run failed"; }
    read -r wall cpu kib < "$work/timed"
    IFS='|' read -r spilled pieces < <(sql 'SELECT spilled_bytes, spilled_runs FROM dovetail_internal.run
        ORDER BY run DESC LIMIT 1')
    note "$label" "s" "$wall"
    note "$label: CPU of dovetail-batch" "s" "$cpu"
    note "$label: memory at most" "MiB" "$(calc %.1f "$kib / 1024")"
    note "$label: spilled" "MiB" "$(calc %.1f "$spilled / 1048576")"
    note "$label: sorted runs" "runs" "$pieces"
    step "$label: $wall s, $(calc %.0f "$kib / 1024") MiB at most, $pieces runs spilled"
    [ "$kib" -le $(((memory_mib + 64) * 1024)) ] ||
        fail "$label took $((kib / 1024)) MiB; batch.memory is $memory_mib MiB, and 64 are for the program"
}

# Every count and sum, from the rows themselves.
check_groups() {
    local found wanted table
    table=$(sql "SELECT 'dovetail_internal.batch_' || version FROM dovetail_internal.view_version")
    found=$(sql "SELECT count(*), count(*) FILTER (WHERE c = 2), sum(c) FROM $table
        WHERE _run_to = 9223372036854775807 AND c BETWEEN 1 AND 2")
    wanted="$groups|$((groups / 4))|$((groups + groups / 4))"
    [ "$found" = "$wanted" ] || fail "groups, those with two records, records: $found, not $wanted"
}

section_groups() {
    local groups=${BENCH_GROUPS:-20000000} memory_mib=${BENCH_MEMORY:-1024} folder=$work/groups
    local before=$config
    section="10 More groups than memory"
    say "$section"
    mkdir -p "$folder/sources" "$folder/views"
    cp bench/views/visits_source.json "$folder/sources/visits.json"
    cp bench/views/by_visitor.json "$folder/views"
    config=$folder/dovetail.json
    write_config "$folder/plain.json" "$folder" "$folder/archive"
    jq --arg memory "$memory_mib MiB" '.batch.memory = $memory' "$folder/plain.json" > "$config"
    fresh_database
    make_visits "$groups" > "$folder/visits.jsonl"
    "$build/dovetail-batch" import visits "$folder/visits.jsonl" --config "$config" > "$work/groups.out" 2>&1 ||
        { cat "$work/groups.out" >&2; fail "the import failed"; }
    rm "$folder/visits.jsonl"
    note "groups" "groups" "$groups"
    note "batch.memory" "MiB" "$memory_mib"
    run_groups "first run"
    check_groups
    run_groups "full run, all rows compared" --full
    check_groups
    rm -rf "$folder"
    config=$before
}
