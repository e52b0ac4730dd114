#!/bin/sh
# podman with tincan as its runtime in virtual machines, one as root and one as a user, at once: on cgroups of version 2, which systemd
# makes (podman.sh).
#
#     vm.sh IMAGES OUT TINCAN SUITE
#
# IMAGES is what tests/vm/image.sh made for the SUITE, TINCAN a static binary. What the machines print is in OUT. RUNTIME is the runtime that
# podman is to use, tincan by default; RUNTIME=crun shows what podman and the machine do without tincan. With ONLY=NAME just the steps with that
# in their names are taken.
set -eu
images=$1 out=$2 tincan=$3 suite=$4
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
rm -rf "$out"
mkdir -p "$out/payload/e2e/tests"
cp -a "$here" "$out/payload/e2e/tests/"
cp -a "$checkout/rootfs-examples" "$out/payload/e2e/"
strip -o "$out/payload/e2e/tincan" "$tincan"
cp "$here/guest.sh" "$out/payload/tests"
chmod -R a+rX "$out/payload"
tar -C "$out/payload" -cf "$out/payload.tar" .
rm -rf "$out/payload"

# shellcheck disable=SC2016 # for the inner shell
printf '%s\n' root user | xargs -P 2 -I AS sh -c '
    boot=$0 images=$1 out=$2 suite=$3 runtime=$4 as=$5
    begun=$(date +%s)
    if "$boot" "$images" "$suite" "$out/payload.tar" "$out/$as" 1700 "tincan.as=$as" "tincan.runtime=$runtime" \
        ${ONLY:+"tincan.only=$ONLY"}; then
        verdict=passed
    else
        verdict=FAILED
        cat "$out/$as" >&2
    fi
    echo "== $(cat "$images/$suite.release"), as $as: $verdict in $(($(date +%s) - begun)) s"
    grep -a "ok, .* failed" "$out/$as" || true
    [ "$verdict" = passed ]
' "$here/../vm/boot.sh" "$images" "$out" "$suite" "${RUNTIME:-/e2e/tincan}" AS
