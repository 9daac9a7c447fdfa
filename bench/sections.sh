# shellcheck shell=bash disable=SC2034,SC2154  # variables of run.sh and common.sh
# The sections of the benchmark, in the order of docs/BENCHMARKS.md.

# --- 1: core, without servers ---

section_core() {
    section="1 Core, one thread, in memory"
    say "$section"
    local sample=$work/sample.jsonl count=1000000 name ns rest net groups
    [ "$count" -lt "$records" ] || count=$records
    head -n "$count" "$flights" > "$sample"
    "$tools/event_parser" "$sample" | tee "$work/event_parser.txt" >&2
    note "event parser" "M/s" "$(awk '$1 == "event_parser" { print $2; exit }' "$work/event_parser.txt")"
    note "jansson" "M/s" "$(awk '$1 == "jansson" { print $2 }' "$work/event_parser.txt")"
    note "event parser / jansson" "ratio" "$(sed -n 's/^event_parser .* \([0-9.]*\) × jansson/\1/p' \
        "$work/event_parser.txt" | head -n 1)"
    "$tools/fold" schemas flights "$sample" 3 > "$work/fold.txt"
    while read -r name ns net groups rest; do
        case $name in
            parse) note "parse" "ns/record" "$ns" ;;
            fold:all)
                note "fold into all views" "ns/record" "$net"
                note "parse and fold into all views" "M/s" "$(calc %.4f "1000 / $ns")"
                ;;
            fold:*) note "fold into ${name#fold:} ($groups groups)" "ns/record" "$net" ;;
            encode:*) note "encode a row of ${name#encode:}" "ns/row" "$ns" ;;
        esac
    done < "$work/fold.txt"
    "$tools/measures" schemas flights "$sample" 11 > "$work/measures.txt"
    local ratio least greatest state more row
    while IFS=$'\t' read -r name rest ratio least greatest state more row; do
        note "$name / count(*)" "ratio" "$ratio"
        note "$name: state, and what it holds" "bytes/group" "$((state + more))"
        note "$name: stored" "bytes/group" "$row"
    done < "$work/measures.txt"
}

# --- the topic ---

load_topic() {
    say "loading the topic"
    local begin=$EPOCHREALTIME
    produce "$flights"
    [ "$(records_in_topic)" = "$produced" ] || fail "the topic has not what was produced"
    step "$(calc %.0f "$produced / ($EPOCHREALTIME - $begin)") records a second produced and acknowledged"
}

# --- 2: the speed layer beside consume-and-discard ---

run_consume() {
    local count bytes cpu before
    before=$(cpu_of "$kafka_pid")
    read -r count bytes consume_seconds consume_all cpu < <(
        "$tools/consume" "$DOVETAIL_KAFKA" flights "$partitions")
    [ "$count" = "$produced" ] || fail "consume read $count records, the topic has $produced"
    consume_rate=$(calc %.1f "$count / $consume_seconds")
    note "consume and discard" "events/s" "$consume_rate"
    note "consume: CPU of librdkafka" "s" "$cpu"
    note "consume: CPU of Kafka" "s" "$(calc %.2f "$(cpu_of "$kafka_pid") - $before")"
}

# A fresh database, P from 0 to the topic's end. usage: run_speed VIEW_TO_CHECK
run_speed() {
    local first at_first last kafka postgres machine begin main fetch flush pid watcher
    fresh_database
    kafka=$(cpu_of "$kafka_pid")
    postgres=$(cpu_of -r "$postgres_pid")
    "$tools/watch" "$DOVETAIL_POSTGRES" flights "$produced" "$patience" \
        > "$work/watch.out" 2> "$work/watch.log" &
    watcher=$!
    until grep -qs watching "$work/watch.log"; do
        kill -0 "$watcher" 2> /dev/null || { cat "$work/watch.log" >&2; fail "watch ended"; }
        sleep 0.05
    done
    machine=$(cpu_of_machine)
    begin=$EPOCHREALTIME
    start dovetail-speed --config "$config"
    pid=$started
    wait "$watcher" || { cat "$work/watch.log" >&2; fail "see $work/dovetail-speed.log"; }
    read -r first at_first last < "$work/watch.out"
    machine=$(calc %.2f "$(cpu_of_machine) - $machine")
    read -r main fetch flush < <(cpu_of_speed "$pid")
    kafka=$(calc %.2f "$(cpu_of "$kafka_pid") - $kafka")
    postgres=$(calc %.2f "$(cpu_of -r "$postgres_pid") - $postgres")
    speed_rate=$(calc %.1f "($produced - $at_first) / ($last - $first)")
    note "dovetail-speed" "events/s" "$speed_rate"
    note "dovetail-speed with its start" "events/s" "$(calc %.1f "$produced / ($last - $begin)")"
    note "start until P first moves" "s" "$(calc %.3f "$first - $begin")"
    note "CPU of the folding thread" "s" "$main"
    note "CPU of librdkafka's threads" "s" "$fetch"
    note "CPU of the flushing thread" "s" "$flush"
    note "CPU of PostgreSQL" "s" "$postgres"
    note "CPU of Kafka" "s" "$kafka"
    note "CPU of all others" "s" "$(calc %.2f "$machine - $main - $fetch - $flush - $postgres - $kafka")"
    note "rows in the speed tables" "rows" "$(speed_rows)"
    note "memory after (VmRSS)" "MiB" "$(memory_mib "$pid" VmRSS)"
    note "memory at most (VmHWM)" "MiB" "$(memory_mib "$pid" VmHWM)"
    stop "$pid"
    check_total "$1" "$produced"
}

# Rows of all views' speed tables together.
speed_rows() {
    sql "SELECT format('SELECT count(*) FROM %s', oid::regclass) FROM pg_class
         WHERE relkind = 'r' AND relname LIKE 'speed\\_%'" |
        while read -r count_sql; do sql "$count_sql"; done | awk '{ sum += $1 } END { print sum }'
}

# usage: compare_speed CONFIG VIEW RUNS
compare_speed() {
    local i
    config=$work/$1.json
    for ((i = 1; i <= $3; i++)); do
        run_consume
        run_speed "$2"
        note_ratio "dovetail-speed / consume" "$speed_rate" "$consume_rate"
        step "run $i: consume $consume_rate, dovetail-speed $speed_rate events/s"
    done
}

section_speed() {
    section="2 Speed layer, one view of a row a day"
    say "$section"
    compare_speed tiny flights_by_day "$runs"
    section="3 Speed layer, the demonstration's views"
    say "$section"
    compare_speed demo flights_total "$runs"
    measured_rate=$(median "dovetail-speed")
    step "verifying the last run's answer"
    dovetail verify flights_total > "$work/verify.out" 2>&1 ||
        { tail -n 5 "$work/verify.out" >&2; fail "the answer is not the recomputed one"; }
}

# --- 4: recompute beside decompression ---

# Runs dovetail-batch; notes what it printed. usage: run_batch LABEL [ARGUMENT]...
run_batch() {
    local label=$1 stage ms count unit rest wall cpu peak postgres
    shift
    postgres=$(cpu_of -r "$postgres_pid")
    "$tools/timed" "$work/timed" "$build/dovetail-batch" run "$@" --config "$config" \
        > "$work/batch.out" 2>> "$work/dovetail-batch.log" ||
        fail "dovetail-batch failed; see $work/dovetail-batch.log"
    read -r wall cpu peak < "$work/timed"
    while read -r stage ms count unit rest; do
        case $stage in load | prepare | process | audit | store) note "$label: $stage" "ms" "$ms" ;; esac
        case $stage in
            load) load_ms=$ms load_count=$count ;;
            process) process_ms=$ms process_count=$count ;;
            store) store_ms=$ms ;;
        esac
    done < "$work/batch.out"
    postgres=$(calc %.2f "$(cpu_of -r "$postgres_pid") - $postgres")
    batch_wall=$wall
    batch_cpu=$(calc %.3f "$cpu + $postgres")
    note "$label: all" "s" "$wall"
    note "$label: CPU of dovetail-batch" "s" "$cpu"
    note "$label: CPU of PostgreSQL" "s" "$postgres"
    note "$label: memory at most" "MiB" "$(calc %.1f "$peak / 1024")"
}

# Decompression of the same segments with as many threads: what reading them costs at least.
run_decompression() {
    local wall cpu peak
    # shellcheck disable=SC2016  # the inner shell's parameters
    "$tools/timed" "$work/timed" sh -c 'find "$1" -name "*.jsonl.zst" -print0 |
        xargs -0 -n 1 -P "$(nproc)" zstdcat > /dev/null' sh "$work/archive"
    read -r wall cpu peak < "$work/timed"
    zstd_rate=$(calc %.1f "$produced / $wall")
    note "zstdcat of the same segments" "events/s" "$zstd_rate"
}

section_recompute() {
    local i rate new=${BENCH_NEW:-$((records / 100))} times=$((runs < 3 ? runs : 3))
    section="4 Recompute"
    say "$section"
    config=$work/demo.json
    for ((i = 1; i <= times; i++)); do
        fresh_database
        rm -rf "$work/archive"
        run_batch "first run"
        [ "$load_count" = "$produced" ] || fail "$load_count records were archived of $produced"
        note "archive" "events/s" "$(calc %.1f "$load_count * 1000 / $load_ms")"
        note "first run, archive to publication" "events/s" "$(calc %.1f "$produced / $batch_wall")"
        check_total flights_total "$produced"
        run_decompression
        run_batch "run with nothing new"
        run_batch "full run" --full
        [ "$process_count" = "$produced" ] || fail "$process_count records were folded of $produced"
        rate=$(calc %.1f "$process_count * 1000 / $process_ms")
        note "fold archived events" "events/s" "$rate"
        note_ratio "fold / zstdcat" "$rate" "$zstd_rate"
        check_total flights_total "$produced"
        step "run $i: first run $(calc %.0f "$produced / $batch_wall") events/s, fold $rate, zstdcat $zstd_rate"
    done
    for ((i = 1; i <= times; i++)); do
        produce < <(tail -n "$new" "$flights")
        run_batch "run with $new new"
        [ "$process_count" = "$new" ] || fail "$process_count records were folded, not $new"
        check_total flights_total "$produced"
    done
}

# --- 5: queries over HTTP beside bare SELECTs ---

prepare_serving() {
    say "serving: batch rows of all records, speed rows of 1 % more"
    config=$work/demo.json
    url=http://127.0.0.1:$http_port
    if ! wants recompute; then
        fresh_database
        rm -rf "$work/archive"
        section=unused run_batch "run"
        sed -i '/^unused/d' "$results"
    fi
    start dovetail-speed --config "$config"
    speed_pid=$started
    start dovetail-serving --config "$config"
    serving_pid=$started
    wait_for_position "$produced"
    produce < <(tail -n "$((records / 100))" "$flights")
    wait_for_position "$produced"
    until curl -fs --noproxy '*' -o /dev/null "$url/readyz"; do
        kill -0 "$serving_pid" 2> /dev/null || {
            tail -n 1 "$work/dovetail-serving.log" >&2
            fail "dovetail-serving ended; another port: BENCH_HTTP_PORT"
        }
        sleep 0.1
    done
    check_total flights_total "$produced"
}

# usage: run_wrk LABEL CONNECTIONS PATHS   sets $rate
run_wrk() {
    local count p50 p99 errors
    read -r _ count rate p50 p99 errors < <(
        BENCH_PATHS=$3 wrk -t 1 -c "$2" -d "${seconds}s" -s bench/paths.lua "$url" |
            grep '^result ')
    [ "$errors" = 0 ] || fail "$errors of $count requests failed"
    note "$1" "requests/s" "$rate"
    note "$1: median" "ms" "$p50"
    note "$1: p99" "ms" "$p99"
}

# usage: run_select LABEL CONNECTIONS SQL PARAMETERS   sets $base
run_select() {
    local count p50 p99
    read -r count base p50 p99 < <(
        "$tools/select" "$DOVETAIL_POSTGRES" "$3" "$4" "$2" "$seconds")
    note "$1" "requests/s" "$base"
    note "$1: median" "ms" "$p50"
    note "$1: p99" "ms" "$p99"
}

# Keys to ask for, as parameters and as paths; the answers must be those of the SQL view.
make_queries() {
    local from to origin want got checked=0 begin=2001-01-04T06:00:00Z end=2001-01-08T10:00:00Z
    sql "SELECT window_start, origin FROM $batch_table WHERE window_start >= '2001-01-03'
         ORDER BY hashtext(origin || window_start) LIMIT 1000" |
        tr '|' '\t' > "$work/point.params"
    awk -F'\t' '{ gsub(" ", "T", $1); sub("\\+00$", "Z", $1); split($1, t, ":"); h = t[1];
        print $1 "\t" $2 }' "$work/point.params" > "$work/point.keys"
    while IFS=$'\t' read -r from origin; do
        to=$(date -u -d "$from + 1 hour" +%Y-%m-%dT%H:%M:%SZ)
        echo "/v1/views/delay_by_origin/rows?from=$from&to=$to&origin=$origin"
    done < "$work/point.keys" > "$work/point.paths"
    # The busiest airports have a row in nearly every hour.
    sql "SELECT origin FROM $batch_table GROUP BY origin ORDER BY count(*) DESC, origin LIMIT 20" |
        while read -r origin; do
            echo "/v1/views/delay_by_origin/rows?from=$begin&to=$end&origin=$origin"
            printf '%s\t%s\t%s\n' "$begin" "$end" "$origin" >&3
        done > "$work/range.paths" 3> "$work/range.params"
    while IFS=$'\t' read -r from origin; do
        [ $((checked += 1)) -le 20 ] || break
        want=$(sql "SELECT flights, late, total_delay, best, worst FROM dovetail.delay_by_origin
                    WHERE window_start = '$from' AND origin = '$origin'")
        got=$(curl -fs --noproxy '*' "$url$(sed -n "${checked}p" "$work/point.paths")" | jq -r \
            '.rows | if length == 1 then .[0] | [.flights, .late, .total_delay, .best, .worst] |
             map(tostring) | join("|") else "\(length) rows" end')
        [ "$want" = "$got" ] || fail "$origin at $from: SQL says $want, HTTP says $got"
    done < "$work/point.keys"
}

section_queries() {
    local connections i version batch_table
    section="5 Queries over HTTP"
    say "$section"
    version=$(sql "SELECT version FROM dovetail_internal.view_version
                   WHERE view = 'delay_by_origin' AND state = 'current'")
    batch_table=dovetail_internal.batch_$version
    sql "VACUUM ANALYZE"
    make_queries
    if ! command -v wrk > /dev/null; then
        step "left out: wrk is missing (apt-get install wrk)"
        return
    fi
    for ((i = 1; i <= 3; i++)); do
        for connections in 1 8; do
            run_select "SELECT of one row, $connections connections" $connections \
                "SELECT * FROM $batch_table WHERE window_start = \$1 AND origin = \$2" "$work/point.params"
            run_wrk "point query, $connections connections" $connections "$work/point.paths"
            note_ratio "point query / SELECT, $connections connections" "$rate" "$base"
            step "run $i, $connections connections: SELECT $base/s, point query $rate/s"
        done
        run_select "SELECT of 100 windows, 1 connection" 1 "SELECT * FROM $batch_table WHERE
            window_start >= \$1 AND window_start < \$2 AND origin = \$3" "$work/range.params"
        run_wrk "100 windows, 1 connection" 1 "$work/range.paths"
        note_ratio "100 windows / SELECT" "$rate" "$base"
    done
}

# --- 5b: kept answers beside a server that does nothing else ---

# usage: start_kept LABEL SERVING   a server of its own; sets $kept_url and $kept_pid
start_kept() {
    write_config "$work/$1.json" "$root/schemas" "$work/archive" $((http_port + 1)) "$2"
    start dovetail-serving --config "$work/$1.json"
    kept_pid=$started
    kept_url=http://127.0.0.1:$((http_port + 1))
    until curl -fs --noproxy '*' -o /dev/null "$kept_url/readyz"; do
        kill -0 "$kept_pid" 2> /dev/null || fail "see $work/dovetail-serving.log"
        sleep 0.1
    done
}

# usage: run_hello LABEL CONNECTIONS   sets $hello
run_hello() {
    local pid url=http://127.0.0.1:$((http_port + 2)) threads
    threads=$(nproc)
    [ "$threads" -ge 4 ] || threads=4 # as dovetail-serving has
    mkfifo "$work/hello.in"
    "$tools/hello" $((http_port + 2)) "$threads" "$work/kept.json" < "$work/hello.in" > "$work/hello.out" &
    pid=$!
    exec 4> "$work/hello.in"
    until grep -qs ready "$work/hello.out"; do
        kill -0 "$pid" 2> /dev/null || fail "hello ended"
        sleep 0.05
    done
    run_wrk "$1" "$2" "$work/kept.paths"
    hello=$rate
    exec 4>&-
    wait "$pid"
    rm -f "$work/hello.in"
}

section_cache() {
    local i age connections=8 path="/v1/views/delay_by_origin/rows?origin=JFK&limit=5"
    section="5b Kept answers over HTTP"
    say "$section"
    if ! command -v wrk > /dev/null; then
        step "left out: wrk is missing (apt-get install wrk)"
        return
    fi
    echo "$path" > "$work/kept.paths"
    curl -fs --noproxy '*' "$url$path" > "$work/kept.json"
    note "body" "bytes" "$(stat -c %s "$work/kept.json")"
    for ((i = 1; i <= 3; i++)); do
        run_hello "libmicrohttpd alone, $connections connections" $connections
        for age in 20 0; do
            start_kept "kept$age" "{\"cache_age_ms\": $age}"
            url=$kept_url run_wrk "kept, age $age ms, $connections connections" $connections "$work/kept.paths"
            stop "$kept_pid"
            note_ratio "kept, age $age ms / libmicrohttpd" "$rate" "$hello"
            step "run $i: libmicrohttpd $hello/s, kept with age $age ms $rate/s"
        done
        run_wrk "the same, not kept, $connections connections" $connections "$work/kept.paths"
        note_ratio "not kept / libmicrohttpd" "$rate" "$hello"
    done
}

# --- 5c: while both layers work ---

# usage: note_steady LABEL, with the line of bench/steady on standard input   sets $p99, $runs_seen, $positions_seen
note_steady() {
    local count p50 most
    read -r count p50 p99 most runs_seen positions_seen || fail "an answer was wrong or missing"
    note "$1: answers, each checked" "answers" "$count"
    note "$1: median" "ms" "$p50"
    note "$1: p99" "ms" "$p99"
    note "$1: greatest" "ms" "$most"
}

# The speed layer works off a backlog as fast as it can, while batch runs publish one after the other.
section_busy() {
    local i idle rate=50 connections=4 pid publisher begin
    section="5c Merged queries while speed and batch are busy"
    say "$section"
    for ((i = 1; i <= 3; i++)); do
        note_steady "idle" < <(setsid "$tools/steady" "$url" flights_total flights $rate $connections $((seconds * 2)))
        idle=$p99
        stop "$speed_pid"
        produce "$flights"
        mkfifo "$work/steady.in"
        start dovetail-speed --config "$config"
        speed_pid=$started
        setsid "$tools/steady" "$url" flights_total flights $rate $connections \
            < "$work/steady.in" > "$work/steady.out" &
        pid=$!
        running="$running $pid"
        exec 5> "$work/steady.in"
        begin=$EPOCHREALTIME
        publish_until_enough &
        publisher=$!
        running="$running $publisher"
        wait_for_position "$produced"
        note "speed layer meanwhile" "events/s" "$(calc %.0f "$records / ($EPOCHREALTIME - $begin)")"
        touch "$work/enough"
        wait "$publisher" || fail "dovetail-batch failed; see $work/dovetail-batch.log"
        running=${running/ $publisher/}
        rm "$work/enough"
        exec 5>&-
        wait "$pid" || fail "an answer was wrong or missing"
        running=${running/ $pid/}
        rm -f "$work/steady.in"
        note_steady "busy" < "$work/steady.out"
        note "busy: publications seen" "runs" "$runs_seen"
        note "busy: positions seen" "positions" "$positions_seen"
        note_ratio "p99 busy / idle" "$p99" "$idle"
        step "round $i: p99 idle $idle ms, busy $p99 ms, $runs_seen publications"
    done
    check_total flights_total "$produced"
}

# One run after the other, until it is enough; the last one is finished.
publish_until_enough() {
    trap 'kill "$run" 2> /dev/null || true; wait "$run" || true; exit 0' TERM
    until [ -e "$work/enough" ]; do
        setsid "$build/dovetail-batch" run --config "$config" \
            > /dev/null 2>> "$work/dovetail-batch.log" &
        run=$!
        wait "$run" || exit 1
    done
}

# --- 6: freshness ---

# Sends a file again and again until it is stopped. usage: background_load FILE RATE
background_load() {
    # A producer that has just begun dies of the signal, and one may have ended already.
    trap 'kill "$producer" 2> /dev/null || true; wait "$producer" || true; exit 0' TERM
    while :; do
        "$build/dovetail" produce flights "$1" --rate "$2" --config "$config" \
            > /dev/null 2>> "$work/produce.log" &
        producer=$!
        wait "$producer" || exit 1
    done
}

# usage: run_freshness LABEL FIRST_DAY
run_freshness() {
    local count p50 p99 most acknowledged
    read -r count p50 p99 most acknowledged < <(
        "$tools/freshness" "$DOVETAIL_KAFKA" flights "$url" "$samples" "$2" $((samples / 2 + 1)))
    produced=$((produced + count + 1)) # the first does not count
    note "$1: samples" "records" "$count"
    note "$1: median" "ms" "$p50"
    note "$1: p99" "ms" "$p99"
    note "$1: greatest" "ms" "$most"
    note "$1: median until acknowledged" "ms" "$acknowledged"
    step "$1: median $p50 ms, p99 $p99 ms, greatest $most ms"
}

# usage: run_loaded LABEL FILE RATE FIRST_DAY
run_loaded() {
    local before begin pid position
    background_load "$2" "$3" &
    pid=$!
    running="$running $pid"
    sleep 5
    before=$(records_in_topic)
    begin=$EPOCHREALTIME
    run_freshness "$1" "$4"
    note "$1: wanted" "events/s" "$3"
    note "$1: reached" "events/s" \
        "$(calc %.0f "($(records_in_topic) - $before) / ($EPOCHREALTIME - $begin)")"
    position=$(sql "SELECT sum(next_offset) FROM dovetail_internal.position WHERE topic = 'flights'")
    note "$1: events behind P at its end" "events" "$(($(records_in_topic) - position))"
    stop "$pid"
    produced=$(records_in_topic)
    wait_for_position "$produced"
    check_total flights_total "$produced"
}

section_freshness() {
    local load=${BENCH_LOAD:-}
    section="6 Freshness: produced to queryable over HTTP"
    say "$section"
    run_freshness "idle" 3000
    [ -n "$load" ] || load=$(calc %.0f "${measured_rate:-300000} / 2")
    # As a stream is: every flight in the present hour, so that the same groups change again and again.
    sed "s/\"time\":\"[^\"]*\"/\"time\":\"$(date -u +%Y-%m-%dT%H:%M:00Z)\"/" "$flights" \
        > "$work/live.jsonl"
    run_loaded "half load, live" "$work/live.jsonl" "$load" 13000
    # Half a year in seconds: nearly every event makes or changes a row of its own.
    run_loaded "half load, history" "$flights" "$load" 23000
}

# --- 7: memory ---

section_memory() {
    section="7 Resident memory at the end"
    local name pid
    for name in dovetail-speed:$speed_pid dovetail-serving:$serving_pid Kafka:$kafka_pid; do
        pid=${name#*:}
        note "${name%%:*}" "MiB" "$(memory_mib "$pid" VmRSS)"
        note "${name%%:*} at most" "MiB" "$(memory_mib "$pid" VmHWM)"
    done
    stop "$serving_pid"
    stop "$speed_pid"
}
