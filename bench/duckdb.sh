# shellcheck shell=bash disable=SC2034,SC2154  # variables of run.sh and common.sh
# The full recompute beside DuckDB: the same records, the same query, as many threads, equal results.

duckdb_threads=2

# DuckDB for node, at the version of bench/duckdb/package.json; false, with a message, where it cannot be had.
install_duckdb() {
    local folder=$here/duckdb
    if ! command -v node > /dev/null || ! command -v npm > /dev/null; then
        step "left out: node or npm is missing"
        return 1
    fi
    if ! cmp -s "$folder/package.json" "$folder/node_modules/.installed"; then
        (cd "$folder" && npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts) \
            > "$work/npm.log" 2>&1 || { step "left out: npm cannot install DuckDB; see $work/npm.log"; return 1; }
        cp "$folder/package.json" "$folder/node_modules/.installed"
    fi
}

checksum_of() { LC_ALL=C sort "$1" | sha256sum | cut -d' ' -f1; }

# Notes one run and fails where its result is another than the first one's; sets $rate and $side_cpu.
# usage: note_side LABEL SECONDS CPU RECORDS GROUPS ROWS
note_side() {
    local sum
    [ "$4" = "$records" ] || fail "$1 read $4 records of $records"
    sum=$(checksum_of "$6")
    [ "${result_sum:=$sum}" = "$sum" ] || fail "$1 has another result: $sum, not $result_sum"
    rate=$(calc %.1f "$records / $2")
    note "$1" "events/s" "$rate"
    side_cpu=$3
    note "$1: CPU" "s" "$3"
}

# usage: run_duckdb LABEL FILES [DATABASE]   sets $rate and $side_cpu
run_duckdb() {
    local seconds cpu count groups
    [ $# = 2 ] || rm -f "$3" "$3.wal"
    read -r seconds cpu count groups < <(
        node "$here/duckdb/duckdb.mjs" query "$2" "$duckdb_threads" "$work/duckdb.csv" "${@:3}") ||
        fail "DuckDB failed: $1"
    note_side "$1" "$seconds" "$cpu" "$count" "$groups" "$work/duckdb.csv"
}

# usage: run_fold LABEL [ARGUMENT]...   sets $rate and $side_cpu
run_fold() {
    local seconds cpu count groups
    read -r seconds cpu count groups < <(
        "$tools/recompute" fold "$work/segments" "$work/side" delays_by_hour "$duckdb_threads" \
            "$work/fold.csv" "${@:2}" 2>> "$work/fold.log") || fail "folding failed; see $work/fold.log"
    note_side "$1" "$seconds" "$cpu" "$count" "$groups" "$work/fold.csv"
}

# A batch run from an empty database: what is folded is stored, too. Sets $rate.
run_store() {
    local label=$1 sum
    fresh_database
    rm -rf "$work/side-archive"
    run_batch "$label"
    [ "$process_count" = "$records" ] || fail "$process_count records were folded of $records"
    dovetail export delays_by_hour 2> /dev/null | sed 1d | cut -d, -f1,3-8 > "$work/exported.csv"
    sum=$(checksum_of "$work/exported.csv")
    [ "$sum" = "$result_sum" ] || fail "$label has another result: $sum, not $result_sum"
    rate=$(calc %.1f "$records * 1000 / $process_ms")
    note "$label: folded" "events/s" "$rate"
    rate=$(calc %.1f "$records * 1000 / ($process_ms + $store_ms)")
    note "$label: folded and stored" "events/s" "$rate"
}

section_duckdb() {
    local i ours our_cpu json json_cpu stored result_sum=
    section="8 Full recompute beside DuckDB"
    say "$section"
    install_duckdb || return 0
    mkdir -p "$work/side/sources" "$work/side/views" "$work/segments"
    cp schemas/sources/flights.json "$work/side/sources"
    cp bench/views/delays_by_hour.json "$work/side/views"
    "$tools/recompute" archive "$work/segments" flights "$partitions" $((64 << 20)) "$flights"
    node "$here/duckdb/duckdb.mjs" parquet "$flights" "$duckdb_threads" "$work/flights.parquet"
    config=$work/side.json
    write_config "$config" "$work/side" "$work/side-archive"
    for ((i = 1; i <= runs; i++)); do
        run_fold "fold raw segments"
        ours=$rate our_cpu=$side_cpu
        run_duckdb "DuckDB, the same segments" "$work/segments/flights/*/*.jsonl.zst"
        json=$rate json_cpu=$side_cpu
        run_duckdb "DuckDB, Parquet" "$work/flights.parquet"
        note_ratio "fold raw segments / DuckDB, the same segments" "$ours" "$json"
        note_ratio "the same in CPU" "$json_cpu" "$our_cpu"
        note_ratio "fold raw segments / DuckDB, Parquet" "$ours" "$rate"
        step "run $i: fold $ours, DuckDB $json, Parquet $rate events/s; load average $(cut -d' ' -f1 /proc/loadavg)"
    done
    for ((i = 1; i <= (runs < 3 ? runs : 3); i++)); do
        run_store "batch run"
        stored=$rate
        run_duckdb "DuckDB, the same segments, table in a file" \
            "$work/segments/flights/*/*.jsonl.zst" "$work/side.duckdb"
        note_ratio "folded and stored / DuckDB, table in a file" "$stored" "$rate"
        step "run $i: with storing $stored, DuckDB $rate events/s; load average $(cut -d' ' -f1 /proc/loadavg)"
    done
    rm -rf "$work/segments" "$work/side-archive" "$work/side.duckdb" "$work/flights.parquet"
}
