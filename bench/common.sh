# shellcheck shell=bash disable=SC2034,SC2154  # variables of run.sh
# What the sections of the benchmark share: measures taken, processes, the fresh database.

say() { printf '\n== %s\n' "$*" >&2; }
step() { printf '   %s\n' "$*" >&2; }
fail() { printf 'bench: %s\n' "$*" >&2; exit 1; }

# --- results: one line for each value, in $results ---

section=
# usage: note METRIC UNIT VALUE
note() { printf '%s\t%s\t%s\t%s\n' "$section" "$1" "$2" "$3" >> "$results"; }

# Arithmetic with fractions. usage: calc FORMAT EXPRESSION
calc() { awk "BEGIN { printf \"$1\", $2 }"; }

# usage: note_ratio METRIC A B   (A over B)
note_ratio() { note "$1" ratio "$(calc %.4f "$2 / $3")"; }

# usage: median METRIC   (of the current section)
median() {
    awk -F'\t' -v s="$section" -v m="$1" '$1 == s && $2 == m { print $4 }' "$results" | sort -g |
        awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }'
}

# --- processes ---

# CPU seconds of a process, or with `-r` of it and everything below it, also what has ended.
cpu_of() {
    local recursive=0
    [ "$1" != -r ] || { recursive=1; shift; }
    { cat /proc/[0-9]*/stat 2> /dev/null || true; } | awk -v pid="$1" -v recursive="$recursive" -v hz="$hz" '
        { own = $1; sub(/^.*\) /, ""); }
        own == pid { sum += $12 + $13; if (recursive) sum += $14 + $15 }
        recursive && $2 == pid { sum += $12 + $13 }
        END { printf "%.2f\n", sum / hz }'
}

# "main fetch flush": CPU seconds of dovetail-speed's main thread, of librdkafka's and of the flusher.
cpu_of_speed() {
    { cat "/proc/$1/task/"*/stat 2> /dev/null || true; } | awk -v pid="$1" -v hz="$hz" '
        { id = $1; name = $0; sub(/^[^(]*\(/, "", name); sub(/\).*/, "", name); sub(/^.*\) /, "") }
        { seconds = ($12 + $13) / hz }
        id == pid { main += seconds; next }
        name ~ /^rdk/ { fetch += seconds; next }
        { flush += seconds }
        END { printf "%.2f %.2f %.2f\n", main, fetch, flush }'
}

# Busy CPU seconds of the whole machine since it started, time that the hypervisor took included.
cpu_of_machine() {
    awk -v hz="$hz" '/^cpu / { printf "%.2f\n", ($2 + $3 + $4 + $7 + $8 + $9) / hz }' /proc/stat
}

# usage: memory_mib PID VmRSS|VmHWM
memory_mib() { awk -v key="$2:" '$1 == key { printf "%.1f\n", $2 / 1024 }' "/proc/$1/status"; }

# Programs that were started and not stopped yet, for the trap.
running=

# Starts a program in the background; its process id is $started. usage: start NAME ARGUMENT...
# Each is in a session of its own, as under an init system: Linux shares the processors among
# sessions first (sched_autogroup), so those of one session would wait for each other's work.
start() {
    local name=$1
    shift
    setsid "$build/$name" "$@" > "$work/$name.out" 2>> "$work/$name.log" &
    started=$!
    running="$running $started"
}

# Ends a program as an operator would. usage: stop PID
stop() {
    local status=0
    kill "$1" 2> /dev/null || true
    wait "$1" 2> /dev/null || status=$?
    running=${running/ $1/}
    [ "$status" = 0 ] || fail "a program ended with status $status; see the logs in $work"
}

stop_all() {
    local pid
    for pid in $running; do kill "$pid" 2> /dev/null || true; done
    for pid in $running; do wait "$pid" 2> /dev/null || true; done
    running=
}

# --- configuration, database, topic ---

# usage: write_config FILE SCHEMAS ARCHIVE [PORT SERVING]   no answers are kept unless SERVING says so
write_config() {
    jq -n --arg kafka "$DOVETAIL_KAFKA" --arg postgres "$DOVETAIL_POSTGRES" --arg schemas "$2" \
        --arg archive "$3" --arg listen "127.0.0.1:${4:-$http_port}" \
        --argjson serving "${5:-{\"cache_bytes\": 0\}}" '
        { kafka: { "bootstrap.servers": $kafka }, postgres: $postgres, schemas: $schemas,
          batch: { archive: $archive, schedule: "0 0 1 1 *" }, serving: ({ listen: $listen } + $serving) }' > "$1"
}

dovetail() { "$build/dovetail" "$@" --config "$config"; }

sql() { psql --no-psqlrc -qtA -v ON_ERROR_STOP=1 -d "$DOVETAIL_POSTGRES" -c "$1"; }

# A database without anything, tables and positions made by init; P is 0.
fresh_database() {
    psql --no-psqlrc -q -v ON_ERROR_STOP=1 -d "${DOVETAIL_POSTGRES/dbname=dovetail/dbname=postgres}" \
        -c 'DROP DATABASE IF EXISTS dovetail WITH (FORCE)' -c 'CREATE DATABASE dovetail' \
        -c CHECKPOINT 2> /dev/null
    dovetail init > "$work/init.out" 2>&1 || { cat "$work/init.out" >&2; fail "dovetail init failed"; }
}

# Sends lines from standard input; $produced counts all of them.
produced=0
produce() {
    local sent
    sent=$(dovetail produce flights "$@" 2>> "$work/produce.log" |
        sed -n 's/^produced \([0-9]*\) records$/\1/p')
    [ -n "$sent" ] || fail "dovetail produce failed; see $work/produce.log"
    produced=$((produced + sent))
}

# Records in the topic, by the log's end. Nothing is transactional or compacted here.
records_in_topic() {
    local p sum=0 end
    for ((p = 0; p < partitions; p++)); do
        end=$(kcat -b "$DOVETAIL_KAFKA" -Q -t "flights:$p:-1" 2> /dev/null | sed -n 's/.*offset //p')
        sum=$((sum + end))
    done
    echo "$sum"
}

# Fails unless a count view's total over all time is $2. usage: check_total VIEW COUNT
check_total() {
    local total
    total=$(dovetail query "$1" --granularity all --format json | jq '.rows[0].flights')
    [ "$total" = "$2" ] || fail "view $1 counts $total flights, the topic has $2: the figures are void"
}

# Waits until all records of the topic are below P. usage: wait_for_position COUNT
wait_for_position() {
    "$tools/watch" "$DOVETAIL_POSTGRES" flights "$1" "$patience" > /dev/null 2>&1 ||
        fail "the speed layer did not reach the topic's end; see $work/dovetail-speed.log"
}

# --- the table ---

print_results() {
    sort -s -t"$(printf '\t')" -k1,1n "$results" | awk -F'\t' '
        function number(x) {
            return sprintf(x >= 10000 ? "%.0f" : x >= 100 ? "%.1f" : x >= 10 ? "%.2f" : "%.3f", x)
        }
        function tell(    i, j, k, t, x) {
            for (i = 1; i <= count; i++) {
                k = order[i]
                for (j = 2; j <= n[k]; j++)     # insertion sort: a handful of values
                    for (t = j; t > 1 && v[k, t - 1] > v[k, t]; t--) {
                        x = v[k, t]; v[k, t] = v[k, t - 1]; v[k, t - 1] = x
                    }
                printf "  %-52s %12s %-10s", k, number(v[k, int((n[k] + 1) / 2)]), unit[k]
                if (n[k] > 1)
                    printf " %12s .. %-12s %d", number(v[k, 1]), number(v[k, n[k]]), n[k]
                printf "\n"
            }
            split("", order); split("", n); split("", v); count = 0
        }
        $1 != current { tell(); current = $1; printf "\n%s\n", $1 }
        { if (!($2 in n)) order[++count] = $2; v[$2, ++n[$2]] = $4 + 0; unit[$2] = $3 }
        END { tell() }'
}

print_machine() {
    local librdkafka
    librdkafka=$(pkg-config --modversion rdkafka 2> /dev/null || echo unknown)
    printf 'machine: %s, %s processors, %s MiB memory, Linux %s; PostgreSQL %s, librdkafka %s, Kafka %s\n' \
        "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" \
        "$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)" "$(uname -r)" \
        "$(sql 'SHOW server_version' | cut -d' ' -f1)" "$librdkafka" \
        "$(sed -n '/kafka_2.13/,/version/s:.*<version>\(.*\)</version>:\1:p' \
            "$root/docker/local/kafka/pom.xml")"
}
