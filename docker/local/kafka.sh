# shellcheck shell=bash disable=SC2154  # variables of stack.sh and common.sh
# Apache Kafka, one node, from Maven's jars. State in $run/kafka:
#   data/  server.properties (made anew at every start)  pid  tmp/
# Sourced by stack.sh.

kafka_dir=$run/kafka
kafka_conf=$kafka_dir/server.properties
kafka_log=$logs/kafka.log

# Leaves the jars in $kafka_libs, from the cache if they were fetched before. The cache belongs to the
# checkout, not to the run directory, so a second stack and `make stack-clean` cost no download.
kafka_fetch() {
    local pom=$repo/docker/local/kafka/pom.xml part
    kafka_libs=$repo/.run/cache/kafka-$(cksum < "$pom" | cut -d ' ' -f 1)
    if [ -d "$kafka_libs" ]; then return; fi
    command -v mvn > /dev/null || fail "Maven is missing; run: make deps"
    say "fetching Kafka with Maven (once, about 45 MB)"
    part=$kafka_libs.part.$$
    rm -rf "$part"
    mkdir -p "$part"
    if ! mvn --quiet --batch-mode --strict-checksums --file "$pom" \
        dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$part" \
        > "$logs/maven.log" 2>&1 < /dev/null; then
        rm -rf "$part"
        fail_with_log "$logs/maven.log" "Maven could not fetch Kafka"
    fi
    # One rename, so that an interrupted download is never taken for a whole one. Should another
    # stack have been quicker, its copy is as good.
    mv -T "$part" "$kafka_libs" 2>/dev/null || rm -rf "$part"
}

# Sets the array kafka_java: the JVM, to be followed by a class and its arguments.
kafka_set_java() {
    local heap
    # shellcheck disable=SC2206  # several words
    heap=(${DOVETAIL_KAFKA_HEAP_OPTS:--Xms256m -Xmx512m})
    kafka_java=(java "${heap[@]}" -server -XX:+UseG1GC -XX:MaxGCPauseMillis=50 -XX:-UsePerfData
        -Djava.awt.headless=true "-XX:ErrorFile=$logs/kafka-crash-%p.log"
        "-Djava.io.tmpdir=$kafka_dir/tmp"
        "-Dlog4j2.configurationFile=$repo/docker/local/kafka/log4j2.xml"
        -cp "$kafka_libs/*")
}

kafka_write_conf() {
    {
        cat "$repo/docker/local/kafka/server.properties"
        printf '\n# This stack.\n'
        printf 'listeners=BROKER://127.0.0.1:%s,CONTROLLER://127.0.0.1:%s\n' \
            "$kafka_port" "$kafka_controller_port"
        printf 'advertised.listeners=BROKER://127.0.0.1:%s\n' "$kafka_port"
        # A fixed voter, not a recorded one: the controller's port may change between two starts.
        printf 'controller.quorum.voters=1@127.0.0.1:%s\n' "$kafka_controller_port"
        printf 'log.dirs=%s\n' "$kafka_dir/data"
    } > "$kafka_conf"
}

kafka_format() {
    local cluster_id
    [ ! -e "$kafka_dir/data/meta.properties" ] || return 0
    # 22 characters of base64url are the 16 bytes of a Kafka UUID; the last one may only be A, Q, g, w.
    cluster_id=$(head -c 256 /dev/urandom | base64 -w 0 | tr -dc 'A-Za-z0-9' | head -c 21)A
    if ! "${kafka_java[@]}" kafka.tools.StorageTool format --ignore-formatted \
        --cluster-id "$cluster_id" --config "$kafka_conf" \
        > "$logs/kafka-format.log" 2>&1 < /dev/null; then
        fail_with_log "$logs/kafka-format.log" "Kafka's storage could not be formatted"
    fi
}

kafka_pid() {
    local pid
    pid=$(cat "$kafka_dir/pid" 2>/dev/null) || return 1
    is_ours "$pid" "$kafka_conf" || return 1
    printf '%s\n' "$pid"
}

# The broker lists itself only once it may serve requests.
kafka_answers() {
    timeout 5 kcat -b "127.0.0.1:$kafka_port" -L -m 2 2>/dev/null |
        grep -q "^ *broker 1 at 127.0.0.1:$kafka_port"
}

kafka_wait() {
    local pid=$1 deadline=$((SECONDS + 90))
    until kafka_answers; do
        is_ours "$pid" "$kafka_conf" || fail_with_log "$kafka_log" "Kafka ended while starting"
        [ "$SECONDS" -lt "$deadline" ] ||
            fail_with_log "$kafka_log" "Kafka (process $pid) does not answer on port $kafka_port after 90 s"
        sleep 0.2
    done
}

kafka_up() {
    local pid port
    command -v kcat > /dev/null || fail "kcat is missing; run: make deps"
    command -v java > /dev/null || fail "Java is missing; run: make deps"
    mkdir -p "$kafka_dir/tmp"
    if pid=$(kafka_pid); then
        port=$(sed -n 's/^advertised.listeners=.*:\([0-9]*\)$/\1/p' "$kafka_conf")
        [ "$port" = "$kafka_port" ] ||
            fail "Kafka already runs on port $port, not $kafka_port; stop it first: make stack-down"
        kafka_wait "$pid"
        say "Kafka is already running on 127.0.0.1:$kafka_port (process $pid)"
        return
    fi
    check_port "$kafka_port" DOVETAIL_KAFKA_PORT Kafka
    check_port "$kafka_controller_port" DOVETAIL_KAFKA_CONTROLLER_PORT "Kafka's controller"
    [ "$kafka_port" != "$kafka_controller_port" ] ||
        fail "DOVETAIL_KAFKA_PORT and DOVETAIL_KAFKA_CONTROLLER_PORT are both $kafka_port"
    kafka_fetch
    kafka_set_java
    kafka_write_conf
    kafka_format
    # What a killed broker unpacked there: native libraries of the compressors.
    find "$kafka_dir/tmp" -mindepth 1 -delete
    start_server "$kafka_log" "$kafka_conf" "${kafka_java[@]}" kafka.Kafka "$kafka_conf"
    printf '%s\n' "$started_pid" > "$kafka_dir/pid"
    kafka_wait "$started_pid"
    say "Kafka is up on 127.0.0.1:$kafka_port (process $started_pid)"
}

kafka_down() {
    local pid
    if ! pid=$(kafka_pid); then
        rm -f "$kafka_dir/pid"
        say "Kafka is not running"
        return
    fi
    if ! stop_server "$pid" "$kafka_conf" TERM 30; then
        say "Kafka did not stop within 30 s; killing it (it recovers its log at the next start)"
        stop_server "$pid" "$kafka_conf" KILL 10 ||
            fail_with_log "$kafka_log" "Kafka (process $pid) cannot be stopped"
    fi
    rm -f "$kafka_dir/pid"
    say "Kafka is stopped"
}
