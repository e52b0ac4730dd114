#!/bin/sh
# Boots a kernel without KVM, lets it run what a tar file brings, and gives that program's exit code.
#
#     boot.sh IMAGES SUITE PAYLOAD OUT SECONDS WORDS...
#
# PAYLOAD is unpacked over the root file system; its /tests is run and writes to /dev/ttyS1, which is OUT here, whose last line
# has to be `exit CODE`. WORDS are added to the kernel's command line, where /tests finds them. A machine that hangs, panics or
# goes without that line has failed; the console's end is shown then. With CPUID in the environment, the address at which the kernel asks
# for what its processor has, it hears of more than there is (resctrl.gdb).
set -eu
images=$1 suite=$2 payload=$3 out=$4 seconds=$5
shift 5
console=$out.console
: >"$out"
# The disks are not written to: what the machine writes goes to a temporary file of QEMU's.
# QEMU translates code once for each virtual address, so with programs at random addresses (norandmaps) each start of a
# dynamic one would take four times as long. An old processor is a fast one here: what it lacks needs no emulation.
set -- timeout --foreground -k 5 "$seconds" qemu-system-x86_64 \
    -accel tcg,thread=multi -cpu "Nehalem${CPUID:+,level=0x10}" -smp 1 -m 3072 \
    -nodefaults -no-user-config -display none -no-reboot \
    -kernel "$images/$suite.vmlinuz" -initrd "$images/$suite.initrd" \
    -append "console=ttyS0 panic=-1 quiet systemd.show_status=false norandmaps mitigations=off $*" \
    -drive "file=$images/$suite.ext4,format=raw,if=virtio,snapshot=on" \
    -drive "file=$payload,format=raw,if=virtio,snapshot=on" \
    -device virtio-rng-pci \
    -serial "file:$console" -serial "file:$out"
if [ -z "${CPUID:-}" ]; then
    "$@" </dev/null || echo "qemu ended with $?" >>"$console"
else
    qemu=
    for word; do qemu="$qemu '$word'"; done
    # It ends by an error, with the machine.
    gdb -nx -batch -ex "set \$cpuid = 0x$CPUID" -ex "target remote | exec$qemu -S -gdb stdio" \
        -x "$(dirname "$0")/resctrl.gdb" >"$out.gdb" 2>&1 </dev/null || true
fi
code=$(tr -d '\r' <"$out" | sed -n '$s/^exit \([0-9]*\)$/\1/p')
if [ -z "$code" ]; then
    echo "$suite: the machine did not finish within $seconds s; the end of its console:" >&2
    tail -40 "$console" >&2
    echo "and of what the tests printed:" >&2
    tail -20 "$out" >&2
    exit 1
fi
exit "$code"
