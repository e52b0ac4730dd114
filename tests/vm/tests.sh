#!/bin/sh
# Runs in the virtual machine: the integration tests, as root, or with `tincan.as=user` on the kernel's command line as a user who
# is not. What they print goes to the second serial port, and their exit code after it.
exec >/dev/ttyS1 2>&1
. /checkout.env
if grep -qw tincan.as=user /proc/cmdline; then
    export TINCAN_TEST_USER=1
fi
skip=
if grep -qw tincan.long=no /proc/cmdline; then
    skip='--skip faults:: --skip many::'
fi
# Without KVM everything takes about ten times as long.
export TINCAN_TEST_SLOWNESS=10
cd "$CHECKOUT" || echo "exit 1"
# shellcheck disable=SC2086 # the skipped are words
"$TESTS" --color never --test-threads=2 $skip
echo "exit $?"
