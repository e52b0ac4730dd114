#!/bin/sh
# Runs the integration tests under each kernel, as root and as a user, in as many virtual machines at once as there are
# processors, and writes the table of docs/KERNELS.md.
#
#     run.sh IMAGES OUT TESTS TINCAN SUITE...
#
# IMAGES is what image.sh made for these SUITEs, TESTS and TINCAN are static binaries, which are found in the machine under the
# same names. What the machines print is in OUT. The walks through all faults and the thousands of containers take most of the
# time; they are done once, as root under the first kernel.
set -eu
images=$1 out=$2 tests=$3 tincan=$4
shift 4
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
rm -rf "$out"
mkdir -p "$out"

payload=$out/payload
mkdir -p "$payload$checkout/tests" "$payload$(dirname "$tests")" "$payload$(dirname "$tincan")"
cp -a "$checkout/rootfs-examples" "$payload$checkout/"
strip -o "$payload$tests" "$tests"
strip -o "$payload$tincan" "$tincan"
cp "$here/tests.sh" "$payload/tests"
printf 'CHECKOUT=%s\nTESTS=%s\n' "$checkout" "$tests" >"$payload/checkout.env"
tar -C "$payload" -cf "$out/payload.tar" .
rm -rf "$payload"

# One line a machine: its kernel, whose tests, and whether those that take long are among them.
long=yes
for suite; do
    for as in root user; do
        echo "$suite $as $long"
        long=no
    done
done >"$out/machines"

failed=0
# shellcheck disable=SC2016 # for the inner shell
xargs -P "$(nproc)" -L1 sh -c '
    boot=$0 images=$1 out=$2 suite=$3 as=$4 long=$5
    if "$boot" "$images" "$suite" "$out/payload.tar" "$out/$suite.$as" 1700 "tincan.as=$as" "tincan.long=$long"; then
        verdict=passed
    else
        verdict=FAILED
        sed -n "/^failures:/,\$p" "$out/$suite.$as" | head -n 400 >&2
    fi
    echo "== $(cat "$images/$suite.release") as $as: $verdict: $(grep -a "^test result" "$out/$suite.$as" || true)"
    [ "$verdict" = passed ]
' "$here/boot.sh" "$images" "$out" <"$out/machines" || failed=1

while read -r suite as long; do
    # 6.1.0-50-cloud-amd64 is 6.1: the table stays as it is with each of its updates.
    kernel=$(cut -d. -f1,2 "$images/$suite.release")
    echo "column $kernel, v2, $as"
    tr -d '\r' <"$out/$suite.$as"
done <"$out/machines" | awk -f "$here/table.awk" >"$out/table"
page=$checkout/docs/KERNELS.md
awk -v table="$out/table" '
    /^<!-- table/ { print; while ((getline line < table) > 0) print line; inside = 1; next }
    /^<!-- end/ { inside = 0 }
    !inside { print }
' "$page" >"$out/page"
cat "$out/page" >"$page"
cat "$out/table"
exit "$failed"
