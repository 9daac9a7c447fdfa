#!/usr/bin/env bash
# Does the README work on a machine that has nothing? Makes a minimal Debian tree, clones the
# repository's commits into it and runs ./run there.
#
#   tests/bare/trial.sh TARGET...      e.g. trial.sh stack-up stack-down; trial.sh demo; trial.sh test
#
# Needs root, debootstrap and a network. Environment:
#   SUITE          the Debian release (bookworm)
#   MIRROR         where debootstrap takes it from (debootstrap's default)
#   TMPDIR         where the tree is made (/var/tmp); about 3 GB
#   KEEP=1         leaves the tree for inspection
#   DOVETAIL_...   is handed on; the stack's ports default to others than a stack on this machine has
set -eu

fail() { printf 'trial: %s\n' "$*" >&2; exit 1; }

[ $# -gt 0 ] || { sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd -P)
repo=$(cd "$here/../.." && pwd -P)
# shellcheck source-path=SCRIPTDIR source=tree.sh
. "$here/tree.sh"
bare_check_machine

top=$(mktemp -d "${TMPDIR:-/var/tmp}/dovetail-trial.XXXXXX")
tree=$top/tree
child=
# shellcheck disable=SC2317  # called by the traps
cleanup() {
    status=$?
    trap - EXIT INT TERM HUP
    # unshare takes the namespace's first process down with itself, and that one all others.
    if [ -n "$child" ]; then
        kill -KILL "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    if [ -n "${KEEP:-}" ]; then
        echo "trial: the tree is kept in $tree"
    else
        rm -rf --one-file-system "$top"
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

bare_make_tree "$tree"

git clone --quiet "file://$repo" "$tree/srv/dovetail"
[ -z "$(git -C "$repo" status --porcelain --untracked-files=no)" ] ||
    echo "trial: there are uncommitted changes; only what is committed is tried"

stack_ports=(DOVETAIL_KAFKA_PORT=39092 DOVETAIL_KAFKA_CONTROLLER_PORT=39093
    DOVETAIL_POSTGRES_PORT=35432)
settings=()
for name in $(compgen -e DOVETAIL_ || true); do settings+=("$name=${!name}"); done

echo "trial: ./run $* in a bare $bare_suite"
# In the background, so that a signal is handled at once and not after the trial.
# shellcheck disable=SC2016  # expanded inside
bare_run "$tree" env "${stack_ports[@]}" "${settings[@]}" sh -c '
    cd /srv/dovetail
    ./run "$@"
' run "$@" < /dev/null &
child=$!
status=0
wait "$child" || status=$?
child=
if [ "$status" = 0 ]; then
    echo "trial: passed"
else
    echo "trial: ./run $* failed with status $status" >&2
fi
exit "$status"
