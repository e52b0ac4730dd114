#!/bin/sh
# Runs in the virtual machine: all integration tests, as root, or with `tincan.as=user` as a user who is not. What they print goes
# to the second serial port, and their exit code after it.
exec >/dev/ttyS1 2>&1
. /checkout.env
grep -qw tincan.as=user /proc/cmdline && export TINCAN_TEST_USER=1
# Without KVM everything takes about ten times as long.
export TINCAN_TEST_SLOWNESS=10
cd "$CHECKOUT" || echo "exit 1"
"$TESTS" --test-threads=2 $FILTER
echo "exit $?"
