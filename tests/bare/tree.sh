# shellcheck shell=bash disable=SC2154  # repo is the caller's
# A minimal Debian tree and a way to run commands in it. Sourced; the caller sets $repo and fail().
#
# Commands run in a mount and a process namespace of their own: when they end, however they end, the
# kernel takes down what was mounted and every process left, and nothing of this machine is bound below
# a directory that the caller then removes.

bare_suite=${SUITE:-bookworm}
bare_cache=$repo/.run/cache
bare_base=$bare_cache/bare-$bare_suite.tar

bare_check_machine() {
    [ "$(id -u)" = 0 ] || fail "needs root, for chroot"
    command -v debootstrap > /dev/null ||
        fail "debootstrap is missing; install the package debootstrap"
    unshare --mount --pid --fork true 2>/dev/null ||
        fail "this machine allows no namespaces (unshare)"
}

# Makes the archive $bare_base, once.
bare_make_base() {
    local part=$bare_base.part.$$ log=$bare_cache/debootstrap.log
    [ ! -s "$bare_base" ] || return 0
    echo "making a minimal $bare_suite tree"
    mkdir -p "$part"
    # ca-certificates, in case this machine's package sources are reached by https.
    if ! debootstrap --variant=minbase --include=ca-certificates "$bare_suite" "$part" \
        ${MIRROR:+"$MIRROR"} > "$log" 2>&1; then
        rm -rf --one-file-system "$part"
        tail -n 20 "$log" >&2
        fail "debootstrap failed; see $log"
    fi
    tar -C "$part" -cf "$part.tar" --numeric-owner --exclude='./var/cache/apt/archives/*.deb' .
    mv "$part.tar" "$bare_base"
    rm -rf --one-file-system "$part"
}

# Unpacks a tree into DIR and tells it how this machine reaches the network: names, package sources,
# authorities, Maven's settings.
# usage: bare_make_tree DIR
bare_make_tree() {
    local tree=$1 file
    bare_make_base
    mkdir -p "$tree"
    tar -C "$tree" -xpf "$bare_base" --numeric-owner
    bare_copy "$tree" /etc/resolv.conf /etc/hosts "${HOME:-/root}/.m2/settings.xml" \
        /usr/local/share/ca-certificates/*.crt
    if grep -qsE "^(Suites:|deb ).*\b$bare_suite\b" /etc/apt/sources.list /etc/apt/sources.list.d/*; then
        rm -f "$tree/etc/apt/sources.list"
        bare_copy "$tree" /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
            /etc/apt/sources.list.d/*.sources /etc/apt/trusted.gpg.d/* /etc/apt/keyrings/*
    fi
    for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
        if grep -qsE '^ *Acquire::' "$file"; then bare_copy "$tree" "$file"; fi
    done
    (bare_run "$tree" update-ca-certificates) > /dev/null 2>&1
}

# usage: bare_copy TREE FILE...; what does not exist is passed over
bare_copy() {
    local tree=$1 file
    shift
    for file; do
        if [ -f "$file" ]; then
            mkdir -p "$tree${file%/*}"
            cp -L "$file" "$tree$file"
        fi
    done
}

# Runs a command as root in a tree, with a fresh environment but for the proxies. It replaces the shell,
# so it is called in a subshell or in the background; kill that process and everything in the tree dies.
# usage: (bare_run TREE COMMAND...)
bare_run() {
    local tree=$1 name settings=()
    shift
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        if [ -n "${!name-}" ]; then settings+=("$name=${!name}"); fi
    done
    # shellcheck disable=SC2016  # expanded inside
    exec unshare --mount --pid --fork --kill-child bash -c '
        set -eu
        tree=$1
        shift
        mount -t proc proc "$tree/proc"
        mount --rbind /dev "$tree/dev"
        # Not exec: this shell is process 1 of the namespace and collects what servers leave behind.
        chroot "$tree" "$@"
    ' bare "$tree" env -i HOME=/root \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${settings[@]}" "$@"
}
