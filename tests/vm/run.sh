#!/bin/sh
# Runs the integration tests under each kernel, as root and as a user, in as many virtual machines at once as there are
# processors, and writes the table of docs/KERNELS.md.
#
#     run.sh IMAGES OUT TESTS TINCAN SUITE...
#
# IMAGES is what image.sh made for these SUITEs, TESTS and TINCAN are static binaries, which are found in the machine under the
# same names. What the machines print is in OUT. With ONLY=NAME in the environment just the tests with that in their names are
# run, and the table stays as it is. TEST_LOG is what `make test` has printed on this machine, for a column of its own.
#
# The walks through all faults and the thousands of containers take most of the time; they are done once, as root under the
# first kernel. So are the tests on cgroups of version 1 beside version 2, as systemd lays them out where it is asked to, the one
# that needs a kernel with SELinux in the place of AppArmor, and is alone there, and those of resctrl, on a processor that seems to have it.
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

# One line a machine: its kernel, its cgroups, whose tests, and which; those that take longest come first.
first=$1
{
    if [ -z "${ONLY:-}" ]; then
        echo "$first v2 root long"
        echo "$first hybrid root most"
    fi
    case ${ONLY:-selinux} in
    *selinux*) echo "$first v2 root selinux" ;;
    esac
    case ${ONLY:-resctrl} in
    *resctrl*) echo "$first v2 root resctrl" ;;
    esac
    for suite; do
        echo "$suite v2 root most"
        echo "$suite v2 user most"
    done
} >"$out/machines"

# How this machine's own cgroups are laid out.
layout() {
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
        echo v2
    elif grep -q " /sys/fs/cgroup/.* cgroup2 " /proc/mounts; then
        echo hybrid
    else
        echo v1
    fi
}

failed=0
# shellcheck disable=SC2016 # for the inner shell
xargs -P "$(nproc)" -L1 sh -c '
    boot=$0 images=$1 out=$2 suite=$3 cgroups=$4 as=$5 part=$6
    [ "$cgroups" = v2 ] && unified=1 || unified=0
    [ "$part" = selinux ] && module=security=selinux || module=
    name=$suite.$cgroups.$as.$part
    begun=$(date +%s)
    if [ "$part" = resctrl ]; then
        # Where the kernel says that it is.
        module=nokaslr
        "$boot" "$images" "$suite" "$out/payload.tar" "$out/address" 300 $module tincan.part=address || exit 1
        CPUID=$(sed -n "s/ . native_cpuid.*//p" "$out/address")
        export CPUID
    fi
    if "$boot" "$images" "$suite" "$out/payload.tar" "$out/$name" 1700 systemd.unified_cgroup_hierarchy=$unified $module \
        "tincan.as=$as" "tincan.part=$part" ${ONLY:+"tincan.only=$ONLY"}; then
        verdict=passed
    else
        verdict=FAILED
        sed -n "/^failures:/,\$p" "$out/$name" | head -n 400 >&2
    fi
    echo "== $(cat "$images/$suite.release"), cgroups $cgroups, as $as, $part: $verdict in $(($(date +%s) - begun)) s"
    grep -a "^test result" "$out/$name" || true
    [ "$verdict" = passed ]
' "$here/boot.sh" "$images" "$out" <"$out/machines" || failed=1
[ -z "${ONLY:-}" ] || exit "$failed"

{
    while read -r suite cgroups as part; do
        # 6.1.0-50-cloud-amd64 is 6.1: the table stays as it is with each of its updates.
        echo "column $(cut -d. -f1,2 "$images/$suite.release"), cgroups $cgroups, $as"
        tr -d '\r' <"$out/$suite.$cgroups.$as.$part"
    done <"$out/machines"
    if [ -f "${TEST_LOG:-}" ]; then
        echo "column $(uname -r | cut -d. -f1,2), cgroups $(layout), root"
        sed -n '/Running tests\/it/,$p' "$TEST_LOG"
    fi
} | awk -f "$here/table.awk" >"$out/table"
page=$checkout/docs/KERNELS.md
awk -v table="$out/table" '
    /^<!-- table/ { print; while ((getline line < table) > 0) print line; inside = 1; next }
    /^<!-- end/ { inside = 0 }
    !inside { print }
' "$page" >"$out/page"
cat "$out/page" >"$page"
cat "$out/table"
exit "$failed"
