#!/bin/sh
# The demonstration: real flights through the whole pipeline, on the local stack.
#
#   demo.sh          start everything, stream, run batches meanwhile, show and verify merged answers
#   demo.sh --stop   end the demonstration's programs (the stack stays: see stack.sh down)
#
# The programs stay up afterwards. State lies in .run/demo; DOVETAIL_HTTP_PORT (8080) is where
# dovetail-serving listens, DOVETAIL_DEMO_RATE (900) how many flights arrive each second.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd -P)
run=${DOVETAIL_RUN_DIR:-$root/.run}
case $run in /*) ;; *) run=$root/$run ;; esac
here=$run/demo
port=${DOVETAIL_HTTP_PORT:-8080}
rate=${DOVETAIL_DEMO_RATE:-900}
url=http://127.0.0.1:$port

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# Ends the program of a pid file, if it is still that program, and waits for it.
stop_program() {
    file=$here/$1.pid
    [ -f "$file" ] || return 0
    pid=$(cat "$file")
    case $(readlink "/proc/$pid/exe" 2> /dev/null) in "$root/build/$1"*)
        kill "$pid" 2> /dev/null || true
        tail --pid="$pid" -f /dev/null 2> /dev/null & waiter=$!
        ( sleep 20; kill -9 "$pid" 2> /dev/null ) & guard=$!
        wait "$waiter" || true
        kill "$guard" 2> /dev/null || true
        ;;
    esac
    rm -f "$file"
}

stop_all() {
    for program in dovetail-serving dovetail-batch dovetail-speed; do stop_program "$program"; done
}

if [ "${1:-}" = --stop ]; then
    stop_all
    exit 0
fi

start_program() {
    name=$1
    shift
    setsid nohup "$root/build/$name" --config "$here/dovetail.json" "$@" \
        > "$here/$name.log" 2>&1 < /dev/null &
    echo $! > "$here/$name.pid"
}

dovetail() { "$root/build/dovetail" "$@" --config "$here/dovetail.json"; }

# How many flights there are, and how many of them each layer has: one line. The batch layer's part
# belongs to a run, so both are asked until both answer from the same one.
count() {
    ask="query flights_total --granularity all --measures flights --format json"
    while :; do
        # shellcheck disable=SC2086  # words
        dovetail $ask --layer batch > "$here/batch.json"
        # shellcheck disable=SC2086
        dovetail $ask > "$here/merged.json"
        ! jq -en --slurpfile b "$here/batch.json" --slurpfile m "$here/merged.json" \
            '$b[0].receipt.run == $m[0].receipt.run' > /dev/null || break
    done
    jq -rn --arg when "$1" --slurpfile b "$here/batch.json" --slurpfile m "$here/merged.json" '
        ($m[0].rows[0].flights // 0) as $all | ($b[0].rows[0].flights // 0) as $batch |
        "  \($when): \($all) flights = \($batch) batch (run \($m[0].receipt.run)) "
        + "+ \($all - $batch) speed;  C \($m[0].receipt.cutoffs.flights | tostring) "
        + "P \($m[0].receipt.positions.flights | tostring)"'
}

# --- 1: start ---

"$root/docker/local/stack.sh" up
# shellcheck disable=SC1091
. "$run/env"
mkdir -p "$here"
stop_all
if curl -fs -o /dev/null "$url/livez" 2> /dev/null; then
    fail "something else listens on port $port; set DOVETAIL_HTTP_PORT"
fi
jq -n --arg kafka "$DOVETAIL_KAFKA" --arg postgres "$DOVETAIL_POSTGRES" \
    --arg schemas "$root/schemas" --arg archive "$here/archive" --arg listen "127.0.0.1:$port" '
    { kafka: { "bootstrap.servers": $kafka }, postgres: $postgres, schemas: $schemas,
      batch: { archive: $archive, schedule: "*/10 * * * *" }, serving: { listen: $listen } }' \
    > "$here/dovetail.json"

say "1. dovetail init: tables, topics and views from $root/schemas"
dovetail init

say "2. The layers start: dovetail-speed and dovetail-serving on $url"
start_program dovetail-speed
start_program dovetail-serving
tries=0
until curl -fs -o /dev/null "$url/readyz"; do
    tries=$((tries + 1))
    [ $tries -lt 150 ] || fail "dovetail-serving does not answer; see $here/dovetail-serving.log"
    sleep 0.2
done

# --- 2: stream, with batch runs meanwhile ---

say "3. 20,000 real flights arrive, $rate a second; every line below is one merged answer"
dovetail produce flights "$root/tests/data/flights-20k.jsonl.zst" --rate "$rate" --offsets \
    > "$here/produced.txt" 2> "$here/produce.log" &
producer=$!
trap 'kill $producer 2> /dev/null || true' EXIT
sleep 5
count "before the first batch run"
sleep 2
count "before the first batch run"

say "4. dovetail-batch run, while they still arrive"
"$root/build/dovetail-batch" run --config "$here/dovetail.json" > "$here/batch-run.txt" \
    2> "$here/batch-run.log" &
batch=$!
while kill -0 $batch 2> /dev/null; do count "during the run"; done
wait $batch || { cat "$here/batch-run.log" >&2; fail "dovetail-batch run failed"; }
count "after its publication"
cat "$here/batch-run.txt"
sleep 3
count "speed goes on"

wait $producer || { cat "$here/produce.log" >&2; fail "dovetail produce failed"; }
trap - EXIT
offsets=$(grep -o '{.*}' "$here/produced.txt" | tail -n 1)

# --- 3: what came out ---

say "5. All have arrived. Airports by departures: flights merged from both layers"
curl -fsG "$url/v1/views/flights_total/rows" --data-urlencode "at_least=$offsets" > /dev/null ||
    fail "the speed layer did not reach $offsets; see $here/dovetail-speed.log"
dovetail query delay_by_origin --granularity all --group-by origin --order -flights --limit 10
count "all in all"

say "6. dovetail verify: PostgreSQL recomputes every view from the raw records"
for view in "$root"/schemas/views/*.json; do
    dovetail verify "$(basename "$view" .json)"
done

say "7. The ledger: consumed = counted + filtered + duplicate + dead-lettered"
dovetail status

start_program dovetail-batch schedule
say "The pipeline stays up, with a batch run every ten minutes. Look at it:"
cat << END
  dashboard   $url/
  query       curl '$url/v1/views/delay_by_origin/rows?group_by=origin&granularity=1d&limit=5'
  SQL         psql '$DOVETAIL_POSTGRES' -c 'SELECT * FROM dovetail.delay_by_origin LIMIT 5'
  logs        $here/*.log
  end it      make stop
END
