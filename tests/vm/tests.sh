#!/bin/sh
# Runs in the virtual machine: the integration tests that the kernel's command line asks for. What they print goes to the second
# serial port, and their exit code after it.
#
#     tincan.as=root|user     whose tests: root's, or those of a user who is not
#     tincan.part=most|long|selinux|resctrl|address
#                             all but the walks through all faults and the very many containers, or those alone, or what takes a
#                             kernel with SELinux, or one with resctrl; or no test, but the address at which the kernel asks for
#                             what its processor has
#     tincan.only=NAME        the tests with NAME in their names, instead
exec >/dev/ttyS1 2>&1
. /checkout.env
word() {
    sed -n "s/.*tincan\.$1=\([^ ]*\).*/\1/p" /proc/cmdline
}
code=0
run() {
    "$TESTS" --color never --test-threads=2 "$@" || code=$?
}
[ "$(word as)" != user ] || export TINCAN_TEST_USER=1
# Without KVM everything takes about ten times as long.
export TINCAN_TEST_SLOWNESS=10
cd "$CHECKOUT" || echo "exit 1"
if [ "$(word part)" = selinux ]; then
    # Its policy is the whole machine's.
    export TINCAN_TEST_OWN_MACHINE=1
    run selinux_labels
elif [ "$(word part)" = resctrl ]; then
    # There is one for all, which the tests find by its type: the machines that they make have a /sys of their own.
    mkdir /resctrl
    mount -t resctrl resctrl /resctrl || code=1
    run resctrl::
elif [ "$(word part)" = address ]; then
    grep " native_cpuid$" /proc/kallsyms || code=1
elif [ -n "$(word only)" ]; then
    run "$(word only)"
elif [ "$(word part)" = long ]; then
    run faults::
    run many::
else
    run --skip faults:: --skip many:: --skip forbidden_to_users
    # It changes the whole machine, so nothing runs beside it.
    export TINCAN_TEST_OWN_MACHINE=1
    run forbidden_to_users
fi
echo "exit $code"
