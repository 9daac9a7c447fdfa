#!/bin/sh
# Installs the Debian packages that are missing to build, run and test Dovetail. A repeat needs neither
# network nor root.
#
#   deps.sh          everything
#   deps.sh build    only what the compiler needs (docker/Dockerfile)
#   deps.sh browser  only what the dashboard's tests need besides: Chromium, node, npm
#   deps.sh fuzz     only what long runs of the fuzz targets need besides: clang
set -eu

packages='gcc g++ make pkg-config libc6-dev librdkafka-dev libpq-dev libjansson-dev libmicrohttpd-dev libgnutls28-dev
    libsimdjson-dev libzstd-dev zlib1g-dev libxxhash-dev libgmp-dev libssl-dev'
case ${1-} in
    '') packages="$packages libcmocka-dev libcurl4-openssl-dev maven kcat ca-certificates zstd curl jq procps tzdata
        python3-jsonschema iproute2 openssl" ;;
    build) ;;
    browser) packages=chromium ;;
    fuzz) packages=clang ;;
    *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
what=${1:-all}

fail() { printf 'deps: %s\n' "$*" >&2; exit 1; }

# What is missing, as words with a space after each.
missing_packages() {
    # shellcheck disable=SC2086  # words
    installed=" $(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' $packages 2>/dev/null |
        sed -n 's/^ii *//p' | tr '\n' ' ')"
    for package in $packages; do
        case $installed in
            *" $package "*) ;;
            *) printf '%s ' "$package" ;;
        esac
    done
    # Any version from anywhere will do.
    if [ "$what" = browser ]; then
        command -v node > /dev/null || printf 'nodejs '
        command -v npm > /dev/null || printf 'npm '
    fi
    [ "$what" != fuzz ] || fuzzer_package
    [ "$what" = all ] || return 0
    command -v psql > /dev/null || printf 'postgresql-client '
    ls /usr/lib/postgresql/*/bin/postgres > /dev/null 2>&1 || printf 'postgresql '
    command -v java > /dev/null || printf 'default-jre-headless '
    hll_package
}

# The extension that a test compares with, for the newest server; nothing where apt has none, and then
# that test is skipped.
hll_package() {
    for server in /usr/lib/postgresql/*/bin/postgres; do
        version=${server#/usr/lib/postgresql/}
        version=${version%%/*}
    done
    if [ -e "$server" ] && [ ! -e "/usr/share/postgresql/$version/extension/hll.control" ] &&
        apt-cache show "postgresql-$version-hll" > /dev/null 2>&1; then
        printf 'postgresql-%s-hll ' "$version"
    fi
}

# libFuzzer, for the clang that is Debian's default; where clang brings it along, nothing.
fuzzer_package() {
    version=$(apt-cache depends clang 2> /dev/null | sed -n 's/^ *Depends: clang-\([0-9][0-9]*\)$/\1/p')
    [ -z "$version" ] || ls /usr/lib/llvm-"$version"/lib/clang/*/lib/*/libclang_rt.fuzzer* > /dev/null 2>&1 ||
        printf 'libclang-rt-%s-dev ' "$version"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo > /dev/null; then
        sudo "$@"
    else
        fail "these packages are missing: $missing- install them as root, or install sudo"
    fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"
}

if ! command -v apt-get > /dev/null; then
    # shellcheck disable=SC2086  # words
    fail "there is no apt-get here; install by hand what these Debian packages hold: " $packages \
        postgresql default-jre-headless
fi

missing=$(missing_packages)
if [ -z "$missing" ]; then
    echo "deps: everything is installed"
    exit 0
fi

echo "deps: installing $missing"

# Debian makes and starts a cluster on port 5432 when a server is installed for the first time. The
# stack has its own, so that one is held back, for this one installation; existing ones stay as they are.
no_cluster=/etc/postgresql-common/createcluster.d/dovetail-deps.conf
restore() { as_root rm -f "$no_cluster"; }
case " $missing" in
    *' postgresql '*)
        trap restore EXIT
        trap 'exit 130' INT TERM
        as_root mkdir -p "${no_cluster%/*}"
        echo 'create_main_cluster = false' | as_root tee "$no_cluster" > /dev/null
        ;;
esac
# Slim images leave out the manual pages, and Java's package fails where their directory is missing.
as_root mkdir -p /usr/share/man/man1

apt update
# shellcheck disable=SC2086  # words
apt install --no-install-recommends $missing

missing=$(missing_packages) # the extension's name is known once the server is there
# shellcheck disable=SC2086  # words
[ -z "$missing" ] || apt install --no-install-recommends $missing
missing=$(missing_packages)
[ -z "$missing" ] || fail "still missing after the installation: $missing"
