#!/bin/sh
# What `tincan pair ns1=172.16.0.1/16 ns2=172.16.0.2/16 -- ping -c1 172.16.0.2` does, by hand with iproute2, in the six
# steps that the project began with. With the argument `undo`, also removes it all again, as `pair` does.
set -eu
ip netns add ns1
ip netns add ns2
ip link add veth-ns1 type veth peer name veth-ns2
ip link set veth-ns1 netns ns1
ip link set veth-ns2 netns ns2
ip netns exec ns1 ip address add 172.16.0.1/16 dev veth-ns1
ip netns exec ns2 ip address add 172.16.0.2/16 dev veth-ns2
ip netns exec ns1 ip link set dev veth-ns1 up
ip netns exec ns2 ip link set dev veth-ns2 up
ip netns exec ns1 ping -c1 172.16.0.2
if [ "${1-}" = undo ]; then
    ip netns delete ns1
    ip netns delete ns2
fi
