#!/usr/bin/env bash
# Checks docker/ without a Docker engine.
#
#   tests/docker/check.sh               is compose.yaml right by the Compose specification?
#   tests/docker/check.sh --tree DIR    moreover follow the Dockerfile's steps in bare Debian trees made
#                                       in DIR (new or empty; needs root, debootstrap and a network)
#
# compose.yaml is read by `docker compose config` where the plugin is there, otherwise by compose-go,
# the library inside it, which Go fetches and builds. With neither, that part is skipped, and says so.
# Where an engine runs, `docker compose build` does what --tree does, and better.
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
repo=$(cd "$here/../.." && pwd -P)
compose=$repo/docker/compose.yaml
compose_go=github.com/compose-spec/compose-go/v2/cmd@v2.16.2

fail() { printf 'docker check: %s\n' "$*" >&2; exit 1; }
say()  { printf 'docker check: %s\n' "$*"; }

work=$(mktemp -d)
child=
# shellcheck disable=SC2317  # called by the traps
cleanup() {
    status=$?
    trap - EXIT INT TERM HUP
    if [ -n "$child" ]; then
        kill -KILL "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# Prints the resolved model as JSON; fails when the file breaks the specification.
read_compose() {
    case $validator in
        docker) docker compose -f "$1" config --format json ;;
        *) (cd "$(dirname "$1")" && "$validator" -format json "$1") ;;
    esac
}

choose_validator() {
    validator=
    command -v jq > /dev/null || fail "jq is missing; run: make deps"
    if docker compose version > /dev/null 2>&1; then
        validator=docker
    elif command -v go > /dev/null; then
        validator=$repo/.run/cache/${compose_go##*@}-compose-go
        if [ ! -x "$validator" ]; then
            mkdir -p "${validator%/*}"
            if ! GOBIN=$work go install "$compose_go" > "$work/go.log" 2>&1; then
                tail -n 5 "$work/go.log" >&2
                validator=
                return
            fi
            mv "$work/cmd" "$validator"
        fi
    fi
}

# What compose-go leaves to the engine, and what we ask for ourselves. Prints the faults.
model_faults() {
    jq -r '
        . as $model | .services | to_entries[] | .key as $service | .value |
        ((.depends_on // {} | keys[] | select($model.services[.] == null)),
         (.secrets // [] | .[].source | select($model.secrets[.] == null)),
         (.volumes // [] | .[] | select(.type == "volume") | .source
             | . as $volume | select($model.volumes | has($volume) | not))
         | "\($service) names \(.), which is not there"),
        (select(.healthcheck == null and $service != "init") | "\($service) has no health check"),
        (.ports // [] | .[] | select(.host_ip != "127.0.0.1")
         | "\($service) publishes \(.published) beyond loopback"),
        (select(.read_only != true and $service != "kafka")
         | "\($service) can write to its root file system")
    ' "$1"
}

check_compose() {
    local broken=$work/docker/compose.yaml service faults
    choose_validator
    if [ -z "$validator" ]; then
        say "SKIPPED compose.yaml: neither the docker compose plugin nor Go is here"
        return
    fi
    read_compose "$compose" > "$work/model.json" || fail "compose.yaml is not valid"
    faults=$(model_faults "$work/model.json")
    [ -z "$faults" ] || fail "compose.yaml: $faults"
    for service in kafka postgres init speed batch serving; do
        jq -e --arg service "$service" '.services[$service]' "$work/model.json" > /dev/null ||
            fail "compose.yaml has no service $service"
    done

    # The checks have to be able to say no: a misspelt key, and a service that is not there.
    mkdir -p "$work/docker"
    sed 's/^    healthcheck:/    healthchekc:/' "$compose" > "$broken"
    if read_compose "$broken" > /dev/null 2>&1; then fail "the validator lets a wrong key pass"; fi
    sed 's/init: { condition/nobody: { condition/' "$compose" > "$broken"
    if read_compose "$broken" > "$work/model.json" 2> /dev/null &&
        [ -z "$(model_faults "$work/model.json")" ]; then
        fail "a service that is not there passes"
    fi
    say "compose.yaml is valid ($validator)"
}

# ---- The Dockerfile's steps, one tree per stage. Understands what our Dockerfile uses.

# Logical lines: continuations joined, comments and empty lines left out.
dockerfile_lines() {
    sed -e '/^[[:space:]]*#/d' "$repo/docker/Dockerfile" |
        sed -e ':a' -e '/\\$/{N;s/\\\n[[:space:]]*/ /;ba' -e '}' -e '/^[[:space:]]*$/d'
}

# Runs a shell command in the current stage, as its user and in its directory.
in_stage() {
    # shellcheck disable=SC2016  # expanded inside
    bare_run "$tree" setpriv --reuid "$user" --regid "$user" --init-groups \
        sh -c 'cd "$1" && eval "$2"' stage "$directory" "$1" < /dev/null &
    child=$!
    wait "$child" || fail "this step failed: $1"
    child=
}

# The build context is what is committed, and what .dockerignore leaves of it.
make_context() {
    git clone --quiet "file://$repo" "$context"
    grep -v '^#' "$repo/docker/Dockerfile.dockerignore" | while read -r path; do
        rm -rf "${context:?}/$path"
    done
}

step_copy() {
    local from=$context
    case $1 in
        --from=*) from=$trees/${1#--from=}; shift ;;
        --*) fail "COPY $1 is not understood here" ;;
    esac
    [ $# = 2 ] || fail "COPY with $# paths is not understood here"
    local target=$2
    case $target in /*) ;; *) target=$directory/$target ;; esac
    if [ -d "$from/$1" ]; then
        mkdir -p "$tree$target"
        cp -a --no-preserve=ownership "$from/$1/." "$tree$target"
    else
        mkdir -p "$(dirname "$tree$target")"
        cp -a --no-preserve=ownership "$from/$1" "$tree$target"
    fi
}

follow_dockerfile() {
    local keyword rest stage=0
    while read -r keyword rest; do
        say "$keyword $rest"
        case $keyword in
            FROM)
                case $rest in
                    "debian:$bare_suite-slim" | "debian:$bare_suite-slim AS "*) ;;
                    *) fail "FROM $rest is not understood here" ;;
                esac
                case $rest in *' AS '*) tree=$trees/${rest##* } ;; *) tree=$trees/stage$stage ;; esac
                stage=$((stage + 1)) user=root directory=/
                bare_make_tree "$tree"
                ;;
            RUN) in_stage "$rest" ;;
            COPY)
                # shellcheck disable=SC2086  # words
                step_copy $rest
                ;;
            WORKDIR)
                directory=$rest
                mkdir -p "$tree$directory"
                ;;
            USER) user=$rest ;;
            CMD) ;;
            *) fail "$keyword is not understood here" ;;
        esac
    done < <(dockerfile_lines)
}

check_tree() {
    # shellcheck source-path=SCRIPTDIR source=../bare/tree.sh
    . "$here/../bare/tree.sh"
    bare_check_machine
    mkdir -p "$1"
    trees=$(realpath "$1")
    [ -z "$(ls -A "$trees")" ] || fail "$trees is not empty"
    context=$work/context
    make_context
    follow_dockerfile
    # The finished image, as its user: each program starts and finds its libraries.
    for program in dovetail dovetail-speed dovetail-batch dovetail-serving; do
        in_stage "$program --version"
    done
    say "the Dockerfile's steps work; the image's tree is $tree"
}

case ${1-} in
    '') check_compose ;;
    --tree)
        [ $# = 2 ] || fail "--tree needs a directory"
        check_compose
        check_tree "$2"
        ;;
    *)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
