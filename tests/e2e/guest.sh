#!/bin/sh
# Runs in the virtual machine, as its `/tests` (tests/vm/boot.sh): podman.sh, as the kernel's command line asks for. What it prints goes to the
# second serial port, and its exit code after it.
#
#     tincan.as=root|user     who has the containers; the user is logged in
#     tincan.runtime=NAME     podman's runtime
#     tincan.only=NAME        just the steps with that in their names
exec >/dev/ttyS1 2>&1
word() {
    sed -n "s/.*tincan\.$1=\([^ ]*\).*/\1/p" /proc/cmdline
}
code=0
# Without KVM everything takes about ten times as long.
set -- env TINCAN_TEST_OWN_MACHINE=1 TINCAN_TEST_SLOWNESS=10 TINCAN=/e2e/tincan "RUNTIME=$(word runtime)" "ONLY=$(word only)" \
    /e2e/tests/e2e/podman.sh
# In memory podman takes a third of the time that it takes on the disk.
mount -t tmpfs tmpfs /home
mount -t tmpfs tmpfs /var/lib/containers
# As udev has them, which is not here.
chmod 666 /dev/net/tun /dev/fuse
if [ "$(word as)" = user ]; then
    useradd -m -s /bin/sh user
    # With a session, and so with a systemd and a bus of the user's own.
    runuser -l user -c "$*" || code=$?
else
    HOME=/root "$@" || code=$?
fi
echo "exit $code"
