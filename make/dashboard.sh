#!/bin/sh
# Writes a C file on stdout that has the files given after the folder, by their paths below it.
# usage: dashboard.sh FOLDER FILE...
set -eu
folder=$1
shift

content_type() {
    case $1 in
        *.html) echo 'text/html; charset=utf-8' ;;
        *.css) echo 'text/css; charset=utf-8' ;;
        *.js) echo 'text/javascript; charset=utf-8' ;;
        *.svg) echo 'image/svg+xml' ;;
        *) echo 'text/plain; charset=utf-8' ;;
    esac
}

echo '#include "serving/dashboard.h"'
number=0
for file; do
    echo "static const unsigned char file_${number}[] = {"
    od -An -v -t u1 "$file" | sed 's/  *\([0-9][0-9]*\)/\1,/g'
    echo '0};'
    number=$((number + 1))
done
echo 'const struct dashboard_file dashboard_files[] = {'
number=0
for file; do
    sum=$(sha256sum "$file" | cut -c 1-32)
    echo "    {\"${file#"$folder"/}\", \"$(content_type "$file")\", \"\\\"$sum\\\"\", file_$number,"
    echo "     sizeof file_$number - 1},"
    number=$((number + 1))
done
echo '};'
echo "const size_t dashboard_file_count = $number;"
