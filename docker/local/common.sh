# shellcheck shell=bash
# What kafka.sh and postgres.sh share. Sourced by stack.sh, which sets $repo and $run.

say()  { printf 'stack: %s\n' "$*"; }
fail() { printf 'stack: %s\n' "$*" >&2; exit 1; }

# Ends the step with the last lines of the log that tells why.
# usage: fail_with_log FILE MESSAGE...
fail_with_log() {
    local log=$1
    shift
    printf 'stack: %s\n' "$*" >&2
    if [ -s "$log" ]; then
        printf 'stack: the end of %s:\n' "$log" >&2
        tail -n 20 "$log" | sed 's/^/    /' >&2
    else
        printf 'stack: %s is empty\n' "$log" >&2
    fi
    exit 1
}

# Is process PID alive and really ours? A pid file outlives a crash, and the number may belong to
# somebody else by then; so one argument of the process has to be MARKER, a path of this stack.
# usage: is_ours PID MARKER
is_ours() {
    [ -n "$1" ] && [ -r "/proc/$1/cmdline" ] &&
        tr '\0' '\n' < "/proc/$1/cmdline" 2>/dev/null | grep -qxF -- "$2"
}

# Does anything listen on 127.0.0.1:PORT?
port_is_taken() {
    (exec 3<> "/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# usage: check_port PORT VARIABLE NAME
check_port() {
    case $1 in
        '' | *[!0-9]*) fail "$2 is '$1', which is not a port number" ;;
    esac
    if [ "$1" -lt 1 ] || [ "$1" -gt 65535 ]; then
        fail "$2 is $1, which is not a port number"
    fi
    if port_is_taken "$1"; then
        fail "port $1 (for $3) is already taken by another process; choose another: $2=PORT"
    fi
}

# Runs a server that outlives this script, in a session of its own and with no descriptor of the
# caller left open: neither the terminal, nor the lock of stack.sh, nor a pipe that somebody reads to
# its end. Sets $started_pid, when the process shows MARKER among its arguments or has already ended.
# LOG starts afresh; the previous one is kept as LOG.1.
# usage: start_server LOG MARKER COMMAND...
start_server() {
    local log=$1 marker=$2 fd
    shift 2
    if [ -s "$log" ]; then mv -f "$log" "$log.1"; fi
    {
        cd /
        for fd in "/proc/$BASHPID/fd"/*; do
            fd=${fd##*/}
            if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
        done
        exec setsid "$@"
    } < /dev/null > "$log" 2>&1 &
    started_pid=$!
    # Between fork and exec the child still looks like this script.
    until is_ours "$started_pid" "$marker" || ! kill -0 "$started_pid" 2>/dev/null; do
        sleep 0.02
    done
}

# Signals a server and waits until it is gone.
# usage: stop_server PID MARKER SIGNAL SECONDS; returns 1 when it is still there
stop_server() {
    local pid=$1 marker=$2 signal=$3 tenths=$(($4 * 10))
    if ! kill -s "$signal" "$pid" 2>/dev/null; then
        if is_ours "$pid" "$marker"; then
            fail "may not stop process $pid; it belongs to user $(stat -c %U "/proc/$pid")"
        fi
        return 0
    fi
    while is_ours "$pid" "$marker"; do
        [ "$tenths" -gt 0 ] || return 1
        tenths=$((tenths - 1))
        sleep 0.1
    done
}
