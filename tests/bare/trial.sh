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
#
# The tree lives in a mount and a process namespace of its own: when the trial ends, however it ends,
# the kernel takes down its mounts and every process in it, and nothing of this machine is left bound
# below the directory that is then removed.
set -eu

fail() { printf 'trial: %s\n' "$*" >&2; exit 1; }

[ $# -gt 0 ] || { sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || fail "needs root, for chroot"
command -v debootstrap > /dev/null || fail "debootstrap is missing; install the package debootstrap"
unshare --mount --pid --fork true 2>/dev/null || fail "this machine allows no namespaces (unshare)"

repo=$(cd "$(dirname "$0")/../.." && pwd -P)
suite=${SUITE:-bookworm}
cache=$repo/.run/cache
base=$cache/bare-$suite.tar

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

# The bare tree, made once.
if [ ! -s "$base" ]; then
    echo "trial: making a minimal $suite tree"
    mkdir -p "$cache"
    mkdir "$top/base"
    # ca-certificates, in case this machine's package sources are reached by https.
    debootstrap --variant=minbase --include=ca-certificates "$suite" "$top/base" ${MIRROR:+"$MIRROR"} \
        > "$top/debootstrap.log" 2>&1 || { tail -n 20 "$top/debootstrap.log" >&2; fail "debootstrap failed"; }
    tar -C "$top/base" -cf "$base.part" --numeric-owner --exclude='./var/cache/apt/archives/*.deb' .
    mv "$base.part" "$base"
    rm -rf "$top/base"
fi
mkdir "$tree"
tar -C "$tree" -xpf "$base" --numeric-owner

# How this machine reaches the network: names, package sources, proxies, Maven's settings.
copy() { if [ -e "$1" ]; then mkdir -p "$tree${1%/*}" && cp -L "$1" "$tree$1"; fi; }
copy /etc/resolv.conf
copy /etc/hosts
copy "${HOME:-/root}/.m2/settings.xml"
if grep -qsE "^(Suites:|deb ).*\b$suite\b" /etc/apt/sources.list /etc/apt/sources.list.d/*; then
    rm -f "$tree/etc/apt/sources.list"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
        /etc/apt/sources.list.d/*.sources /etc/apt/trusted.gpg.d/* /etc/apt/keyrings/*; do
        copy "$file"
    done
fi
for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
    if grep -qsE '^ *Acquire::' "$file"; then copy "$file"; fi
done
for file in /usr/local/share/ca-certificates/*.crt; do copy "$file"; done

git clone --quiet "file://$repo" "$tree/srv/dovetail"
[ -z "$(git -C "$repo" status --porcelain --untracked-files=no)" ] ||
    echo "trial: there are uncommitted changes; only what is committed is tried"

settings=()
while IFS= read -r name; do
    case $name in
        DOVETAIL_* | http_proxy | https_proxy | no_proxy | HTTP_PROXY | HTTPS_PROXY | NO_PROXY)
            settings+=("$name=${!name}") ;;
    esac
done < <(compgen -e)

echo "trial: ./run $* in a bare $suite"
# Not by job control: a background process of a script ignores ^C, which the trap above handles.
# shellcheck disable=SC2016  # expanded inside
unshare --mount --pid --fork --kill-child bash -c '
    set -eu
    tree=$1
    shift
    mount -t proc proc "$tree/proc"
    mount --rbind /dev "$tree/dev"
    # Not exec: this shell is process 1 of the namespace and collects what the servers leave.
    chroot "$tree" env -i "$@"
' trial "$tree" HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    DOVETAIL_KAFKA_PORT=39092 DOVETAIL_KAFKA_CONTROLLER_PORT=39093 DOVETAIL_POSTGRES_PORT=35432 \
    "${settings[@]}" sh -c '
    if ls /usr/local/share/ca-certificates/*.crt > /dev/null 2>&1; then update-ca-certificates > /dev/null; fi
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
