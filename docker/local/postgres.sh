# shellcheck shell=bash disable=SC2154  # variables of stack.sh and common.sh
# A PostgreSQL cluster of its own, from Debian's binaries. State in $run/postgres/data.
# PostgreSQL refuses to run as root; started by root it runs as user postgres, else as the caller.
# Where postgres cannot enter the checkout (say, below /root), $run/postgres is a link to a directory
# below /var/lib/dovetail-stack. Sourced by stack.sh.

postgres_dir=$run/postgres
postgres_log=$logs/postgres.log

# Runs a command as the cluster's user, in a directory which that user can enter.
# usage: as_postgres COMMAND...
as_postgres() {
    if [ "$postgres_user" = "$(id -un)" ]; then
        (cd / && exec "$@")
    else
        (cd / && exec setpriv --reuid "$postgres_user" --regid "$(id -g "$postgres_user")" \
            --init-groups "$@")
    fi
}

# Sets $postgres_user: the owner of a cluster that is there, else whoever may own a new one.
postgres_set_user() {
    local me
    me=$(id -un)
    if [ -d "$postgres_dir/" ]; then
        postgres_user=$(stat -L -c %U "$postgres_dir")
        if [ "$me" != root ] && [ "$me" != "$postgres_user" ]; then
            fail "$postgres_dir belongs to user $postgres_user; run this as root or as $postgres_user"
        fi
    elif [ "$me" = root ]; then
        postgres_user=postgres
    else
        postgres_user=$me
    fi
    id "$postgres_user" > /dev/null 2>&1 || fail "there is no user $postgres_user; run: make deps"
    [ "$postgres_user" != root ] || fail "$postgres_dir belongs to root; PostgreSQL refuses to run as root"
}

# Makes $run/postgres, where its user can reach it.
postgres_make_dir() {
    local elsewhere
    if [ -d "$postgres_dir/" ]; then return; fi
    if as_postgres test -x "$run"; then
        mkdir "$postgres_dir"
    else
        elsewhere=$postgres_elsewhere/$(printf '%s' "$run" | sha256sum | cut -c 1-16)
        mkdir -p "$elsewhere"
        ln -sfn "$elsewhere" "$postgres_dir"
        say "user $postgres_user cannot enter $run; PostgreSQL's data goes to $elsewhere"
    fi
    if [ "$(id -un)" = root ]; then chown "$postgres_user:" "$postgres_dir/"; fi
    chmod 700 "$postgres_dir/"
}

# Sets $postgres_bin: the version that made the cluster, or the newest one for a new cluster.
postgres_set_bin() {
    local version
    if [ -s "$postgres_data/PG_VERSION" ]; then
        version=$(cat "$postgres_data/PG_VERSION")
        postgres_bin=/usr/lib/postgresql/$version/bin
        [ -x "$postgres_bin/postgres" ] ||
            fail "$postgres_dir was made by PostgreSQL $version, which is not installed; install it or run: make stack-clean"
    else
        postgres_bin=$(find /usr/lib/postgresql/*/bin -name postgres -printf '%h\n' 2>/dev/null |
            sort -V | tail -n 1)
        [ -n "$postgres_bin" ] || fail "PostgreSQL is missing; run: make deps"
    fi
}

postgres_init() {
    [ ! -s "$postgres_data/PG_VERSION" ] || return 0
    # Made aside and renamed, so that an interrupted initdb leaves nothing that looks like a cluster.
    rm -rf "$postgres_data.part"
    if ! as_postgres "$postgres_bin/initdb" --pgdata "$postgres_data.part" --username postgres \
        --auth trust --locale C.UTF-8 --encoding UTF8 \
        > "$logs/initdb.log" 2>&1 < /dev/null; then
        fail_with_log "$logs/initdb.log" "initdb failed"
    fi
    mv -T "$postgres_data.part" "$postgres_data"
}

postgres_write_conf() {
    local name
    for name in postgresql.conf pg_hba.conf; do
        as_postgres tee "$postgres_data/$name" > /dev/null < "$repo/docker/local/postgres/$name"
    done
}

postgres_pid() {
    local pid
    pid=$(head -n 1 "$postgres_data/postmaster.pid" 2>/dev/null) || return 1
    is_ours "$pid" "$postgres_data" || return 1
    printf '%s\n' "$pid"
}

# PostgreSQL copes with a pid file whose process is gone. It refuses to start when the number has
# gone to another process, as happens after a reboot; then the file is removed here.
postgres_drop_stale_pid() {
    local pid
    pid=$(head -n 1 "$postgres_data/postmaster.pid" 2>/dev/null) || return 0
    if [ -d "/proc/$pid" ] && ! is_ours "$pid" "$postgres_data"; then
        rm -f "$postgres_data/postmaster.pid"
    fi
}

postgres_sql() {
    env -u PGSERVICE -u PGOPTIONS -u PGPASSWORD -u PGPASSFILE -u PGSSLMODE PGCONNECT_TIMEOUT=10 \
        "$postgres_bin/psql" --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 \
        --dbname "host=127.0.0.1 port=$postgres_port dbname=postgres user=postgres" --command "$1"
}

postgres_wait() {
    local pid=$1 deadline=$((SECONDS + 60))
    until "$postgres_bin/pg_isready" --quiet --host 127.0.0.1 --port "$postgres_port" --timeout 3; do
        is_ours "$pid" "$postgres_data" ||
            fail_with_log "$postgres_log" "PostgreSQL ended while starting"
        [ "$SECONDS" -lt "$deadline" ] || fail_with_log "$postgres_log" \
            "PostgreSQL (process $pid) does not answer on port $postgres_port after 60 s"
        sleep 0.1
    done
    if [ "$(postgres_sql "SELECT 1 FROM pg_database WHERE datname = 'dovetail'")" != 1 ]; then
        postgres_sql 'CREATE DATABASE dovetail' ||
            fail_with_log "$postgres_log" "the database dovetail could not be created"
    fi
}

postgres_up() {
    local pid port
    postgres_set_user
    postgres_make_dir
    # The real path: it is the marker by which the process is known, and PostgreSQL keeps it too.
    postgres_data=$(realpath "$postgres_dir")/data
    postgres_set_bin
    if pid=$(postgres_pid); then
        port=$(sed -n 4p "$postgres_data/postmaster.pid")
        [ "${port:-$postgres_port}" = "$postgres_port" ] ||
            fail "PostgreSQL already runs on port $port, not $postgres_port; stop it first: make stack-down"
        postgres_wait "$pid"
        say "PostgreSQL is already running on 127.0.0.1:$postgres_port (process $pid)"
        return
    fi
    check_port "$postgres_port" DOVETAIL_POSTGRES_PORT PostgreSQL
    postgres_init
    postgres_write_conf
    postgres_drop_stale_pid
    as_postgres_server
    postgres_wait "$started_pid"
    say "PostgreSQL is up on 127.0.0.1:$postgres_port (process $started_pid)"
}

as_postgres_server() {
    local command
    command=("$postgres_bin/postgres" -D "$postgres_data" -h 127.0.0.1 -p "$postgres_port")
    if [ "$postgres_user" != "$(id -un)" ]; then
        command=(setpriv --reuid "$postgres_user" --regid "$(id -g "$postgres_user")" --init-groups
            "${command[@]}")
    fi
    start_server "$postgres_log" "$postgres_data" "${command[@]}"
}

postgres_down() {
    local pid
    postgres_data=$(realpath -m "$postgres_dir")/data
    if ! pid=$(postgres_pid); then
        say "PostgreSQL is not running"
        return
    fi
    # INT is a fast shutdown: sessions are ended, everything is written.
    if ! stop_server "$pid" "$postgres_data" INT 30; then
        say "PostgreSQL did not stop within 30 s; stopping it at once (it recovers at the next start)"
        stop_server "$pid" "$postgres_data" QUIT 10 ||
            fail_with_log "$postgres_log" "PostgreSQL (process $pid) cannot be stopped"
    fi
    say "PostgreSQL is stopped"
}
