#!/bin/sh
# Prints the directory of promtool, Prometheus's own judge of metrics, which the tests ask. Where none is
# installed, it is taken out of Debian's package without installing that, which would start a server. Where
# that cannot be had either, prints nothing but why, and the tests that want it say that they are skipped.
set -eu
cd "$(dirname "$0")/.."

if found=$(command -v promtool); then
    dirname "$found"
    exit 0
fi
cache=$PWD/.run/cache/promtool
if [ ! -x "$cache/promtool" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    if ! (cd "$work" && apt-get -q download prometheus && dpkg-deb -x prometheus_*.deb .) > "$work/log" 2>&1; then
        echo "promtool: Debian's package prometheus is not to be had: $(tail -n 1 "$work/log")" >&2
        exit 0
    fi
    mkdir -p "$cache"
    cp "$work/usr/bin/promtool" "$cache/promtool.new"
    mv "$cache/promtool.new" "$cache/promtool"
fi
echo "$cache"
