#!/bin/sh
# Writes a C file on stdout that has the files given as arguments, in their order.
set -eu
echo '#include "core/catalog/migrations.h"'
number=0
for file; do
    echo "static const char text_$number[] = {"
    od -An -v -t u1 "$file" | sed 's/  *\([0-9][0-9]*\)/(char)\1,/g'
    echo '0};'
    number=$((number + 1))
done
echo 'const struct migration migrations[] = {'
number=0
for file; do
    echo "    {\"${file##*/}\", text_$number, sizeof text_$number - 1},"
    number=$((number + 1))
done
echo '};'
echo "const size_t migration_count = $number;"
