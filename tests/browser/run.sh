#!/bin/sh
# Runs the dashboard's tests in Chromium and prints "N passed, N failed". Screenshots go to build/browser/.
#
#   run.sh [--env FILE]      FILE sets the servers' addresses
#
# The programs are those in $DOVETAIL_BUILD; $CHROMIUM is the browser, /usr/bin/chromium by default. The one
# module that is needed comes from npm, at the version of the lock file, when it is missing.
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
fail() { printf 'browser: %s\n' "$*" >&2; exit 1; }

if [ "${1:-}" = --env ]; then
    set -a
    # shellcheck disable=SC1090
    . "$2"
    set +a
fi

command -v node > /dev/null || fail "node is missing: docker/local/deps.sh browser installs it"
command -v "${CHROMIUM:-chromium}" > /dev/null || fail "chromium is missing: docker/local/deps.sh browser installs it"

# The lock file names no registry: npm takes the one that it is configured for.
if ! cmp -s "$here/package-lock.json" "$here/node_modules/.installed-lock"; then
    command -v npm > /dev/null || fail "npm is missing: docker/local/deps.sh browser installs it"
    echo "browser: installing npm modules into tests/browser/node_modules"
    (cd "$here" && npm ci --silent --no-audit --no-fund) || fail "npm ci failed"
    cp "$here/package-lock.json" "$here/node_modules/.installed-lock"
fi

export DOVETAIL_BUILD="${DOVETAIL_BUILD:-$root/build}"
export DOVETAIL_SCREENSHOTS="${DOVETAIL_SCREENSHOTS:-$root/build/browser}"
mkdir -p "$DOVETAIL_SCREENSHOTS"
rm -f "$DOVETAIL_SCREENSHOTS"/*.png
exec node --test-reporter="$here/reporter.mjs" --test-reporter-destination=stdout "$here/dashboard.test.mjs"
