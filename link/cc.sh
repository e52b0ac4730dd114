#!/bin/sh
# What rustc links the release program with, in the place of cc: the functions that link/order names come first, in that order. A run
# takes few of them; side by side they fill a third of the pages (fault-around maps sixteen at a time), which is that much less
# memory, and fewer faults. What link/order lacks, or has too much, costs no more than that: `make order` writes it anew.
set -eu
here=$(dirname "$0")
order=$(mktemp)
trap 'rm -f "$order"' EXIT
for file; do
    case $file in
    # The members of an rlib that are no objects are told on stderr.
    *.o | *.rlib) nm --defined-only --format=posix "$file" 2>/dev/null || true ;;
    esac
done | awk -f "$here/plain.awk" | awk '
    FNR == NR {
        rank[$1] = FNR
        # The functions of static libraries are not among the files, and have just one name.
        if ($1 !~ /^_(ZN|R)/) print FNR, $1
        next
    }
    $1 in rank && $1 != $2 { print rank[$1], $2 }
' "$here/order" - | sort -n | cut -d" " -f2 >"$order"
cc "$@" "-Wl,--symbol-ordering-file=$order" -Wl,--no-warn-symbol-ordering
