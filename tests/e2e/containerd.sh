#!/bin/bash
# containerd with tincan as the program behind its runc shim, driven by ctr. See host.sh.
. "$(dirname "$0")/host.sh"

image=docker.io/library/busybox:latest

# A docker-archive of the root file system, as `ctr image import` takes it.
make_image() {
    local dir=$E2E/image layer
    mkdir -p "$dir"
    tar -C "$E2E/rootfs" -cf "$dir/layer.tar" .
    layer=$(sha256sum "$dir/layer.tar" | cut -d' ' -f1)
    printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$(dpkg --print-architecture)" "$layer" >"$dir/config.json"
    printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$image" >"$dir/manifest.json"
    tar -C "$dir" -cf "$E2E/image.tar" manifest.json config.json layer.tar
}

ctr() {
    limited ctr "$@"
}

# Removes all containers.
clear_away() {
    local name
    for name in $(ctr container list -q); do
        ctr task delete --force "$name" >/dev/null 2>&1 || :
        ctr container delete "$name" || :
    done
}

# run [OPTIONS] IMAGE NAME COMMAND...: a container in the foreground.
run() {
    ctr run --rm --runc-binary "$runtime" "$@"
}

# start [OPTIONS] IMAGE NAME: a container in the background.
start() {
    ctr run -d --runc-binary "$runtime" "$@" sleep 1000
}

# remove NAME
remove() {
    ctr task kill -s KILL "$1"
    within is "$1" STOPPED
    ctr task delete "$1" >/dev/null
    ctr container delete "$1"
}

# is NAME STATUS
is() {
    ctr task list | grep "^$1 .* $2" >/dev/null
}

# value HIERARCHY NAME FILE: what a file of the container's cgroup has.
value() {
    cat "/sys/fs/cgroup/$1/default/$2/$3"
}

start_containerd() {
    printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' >"$E2E/containerd.toml"
    # With --uidmap, ctr overlooks --runc-binary.
    mkdir "$E2E/bin"
    ln -s "$runtime" "$E2E/bin/runc"
    PATH=$E2E/bin:$PATH containerd --config "$E2E/containerd.toml" >"$E2E/containerd.log" 2>&1 &
    daemon=$!
    within ctr version >/dev/null 2>&1 || { cat "$E2E/containerd.log"; exit 1; }
    make_image
    ctr image import "$E2E/image.tar" >/dev/null
}

runs() {
    says hello run $image c1 echo hello
    # The shim asks for the log in JSON, and for errors in words that name the cause.
    says 'exec: "nope": executable file not found in $PATH' fails run $image c1 nope
    says '/nope: no such file or directory' fails run $image c1 /nope
    says 'permission denied' fails run $image c1 /etc/passwd
}

gives_exit_codes() {
    exits 7 run $image c1 sh -c 'exit 7'
    exits 0 run $image c1 true
}

reads_standard_input() {
    # No end of file: ctr does not pass that on (nor with runc).
    [ "$(echo word | run $image c1 head -n1)" = word ]
}

has_what_the_image_and_the_options_say() {
    says /tmp run --cwd /tmp $image c1 pwd
    says is=here run --env is=here $image c1 env
    says 'Read-only file system' fails run --read-only $image c1 touch /x
    echo there >"$E2E/there"
    says there run --mount "type=bind,src=$E2E/there,dst=/mnt/there,options=rbind:ro" $image c1 cat /mnt/there
    says crw run --device /dev/fuse $image c1 ls -l /dev/fuse
    # The default set has CAP_CHOWN, bit 0, and not CAP_SYS_ADMIN, bit 21.
    says 00000000a80425fb run $image c1 grep CapEff /proc/self/status
    says 00000000a80425fa run --cap-drop CAP_CHOWN $image c1 grep CapEff /proc/self/status
    says 00000000a82425fb run --cap-add CAP_SYS_ADMIN $image c1 grep CapEff /proc/self/status
    says "$(sed -n 's/^CapEff://p' /proc/self/status)" run --privileged $image c1 grep CapEff /proc/self/status
    says 'NoNewPrivs:	1' run $image c1 grep NoNewPrivs /proc/self/status
    says 'NoNewPrivs:	0' run --allow-new-privs $image c1 grep NoNewPrivs /proc/self/status
}

has_a_terminal() {
    local said
    # ctr passes on the size that its own terminal has, when the container runs already.
    said=$(on_terminal "stty rows 33 cols 99; ctr run --rm -t --runc-binary $runtime $image c1 \
        sh -c 'tty; until stty size | grep 33; do :; done; exit 3'" || echo "code $?")
    says /dev/pts/0 echo "$said"
    says '33 99' echo "$said"
    says 'code 3' echo "$said"
}

executes_beside_it() {
    start $image c1
    says hello ctr task exec --exec-id e1 c1 echo hello
    exits 7 ctr task exec --exec-id e1 c1 sh -c 'exit 7'
    says 'uid=65534' ctr task exec --exec-id e1 --user 65534 c1 id
    says /tmp ctr task exec --exec-id e1 --cwd /tmp c1 pwd
    [ "$(echo word | ctr task exec --exec-id e1 c1 head -n1)" = word ]
    says /dev/pts/ on_terminal 'ctr task exec -t --exec-id e1 c1 tty'
    says 'executable file not found in $PATH' fails ctr task exec --exec-id e1 c1 nope
    says '/nope: no such file or directory' fails ctr task exec --exec-id e1 c1 /nope
    says 'permission denied' fails ctr task exec --exec-id e1 c1 /etc/passwd
    ctr task exec -d --exec-id e2 c1 sleep 1000
    says e2 ctr task ps c1
    remove c1
}

tells_its_processes() {
    start $image c1
    ctr task exec -d --exec-id e1 c1 sleep 1000
    # A line of heads, and two processes.
    [ "$(ctr task ps c1 | wc -l)" = 3 ]
    remove c1
}

is_killed() {
    start $image c1
    ctr run -d --runc-binary "$runtime" $image c2 sh -c 'trap "exit 5" USR1; while :; do sleep 0.1; done'
    ctr task kill -s USR1 c2
    within is c2 STOPPED
    says 'not found' fails ctr task kill --exec-id nobody c1
    says 'process already finished' fails ctr task kill c2
    says 'exit code 5' ctr task delete c2
    ctr container delete c2
    ctr task exec -d --exec-id e1 c1 sleep 1000
    ctr task kill --exec-id e1 -s KILL c1
    is c1 RUNNING
    ctr task kill --all -s KILL c1
    within is c1 STOPPED
    says 'exit code 137' ctr task delete c1
    ctr container delete c1
}

pauses_and_resumes() {
    start $image c1
    ctr task pause c1
    is c1 PAUSED
    [ "$(value freezer c1 freezer.state)" = FROZEN ] || [ "$(value unified c1 cgroup.freeze)" = 1 ]
    says paused fails ctr task exec --exec-id e1 c1 true
    ctr task resume c1
    is c1 RUNNING
    says hello ctr task exec --exec-id e1 c1 echo hello
    remove c1
}

# metric NAME ROW
metric() {
    ctr task metrics "$1" | awk -v row="$2" '$1 == row { print $2 }'
}

is_measured() {
    start --memory-limit 33554432 $image c1
    [ "$(metric c1 memory.limit_in_bytes)" = 33554432 ]
    [ "$(metric c1 memory.usage_in_bytes)" -gt 0 ]
    [ "$(metric c1 cpuacct.usage)" -gt 0 ]
    [ "$(metric c1 pids.current)" = 1 ]
    remove c1
}

is_limited() {
    start --memory-limit 33554432 --cpu-shares 512 --cpu-quota 20000 --cpu-period 50000 $image c1
    [ "$(value memory c1 memory.limit_in_bytes)" = 33554432 ]
    [ "$(value cpu c1 cpu.shares)" = 512 ]
    [ "$(value cpu c1 cpu.cfs_quota_us)" = 20000 ]
    [ "$(value cpu c1 cpu.cfs_period_us)" = 50000 ]
    remove c1
    start --cpus 0.5 $image c1
    [ "$(value cpu c1 cpu.cfs_quota_us)" = 50000 ]
    remove c1
    # What the bundle does not name is not there.
    says 'Operation not permitted' fails run --cap-add CAP_MKNOD $image c1 sh -c 'mknod /d b 7 0; cat /d'
}

runs_out_of_memory() {
    local events
    exits 137 run --memory-limit 16777216 $image c1 sh -c 'tail /dev/zero; exit $?'
    command ctr events >"$E2E/events" &
    events=$!
    # Again and again, as the first time may be before anybody listens.
    ctr run -d --runc-binary "$runtime" --memory-limit 16777216 $image c1 sh -c 'while :; do tail /dev/zero; done'
    within grep -q /tasks/oom "$E2E/events"
    kill -KILL $events
    wait $events || :
    remove c1
}

has_a_user_namespace() {
    local said
    said=$(run --uidmap 0:100000:1000 --gidmap 0:100000:1000 $image c1 sh -c 'cat /proc/self/uid_map; ls -ln /bin/busybox; id -u')
    [ "$(head -n1 <<<"$said" | tr -s ' ')" = " 0 100000 1000" ]
    [ "$(sed -n 2p <<<"$said" | awk '{ print $3, $4 }')" = "0 0" ]
    [ "$(sed -n 3p <<<"$said")" = 0 ]
}

filters_system_calls() {
    says 'Seccomp:	0' run $image c1 grep Seccomp: /proc/self/status
    says 'Seccomp:	2' run --seccomp $image c1 grep Seccomp: /proc/self/status
    echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}' >"$E2E/profile.json"
    says 'Function not implemented' fails run --seccomp --seccomp-profile "$E2E/profile.json" $image c1 mkdir /d
}

joins_namespaces() {
    start $image c1
    local pid
    pid=$(ctr task list | awk '$1 == "c1" { print $2 }')
    [ "$(run --with-ns "network:/proc/$pid/ns/net" $image c2 readlink /proc/self/ns/net)" = "$(readlink "/proc/$pid/ns/net")" ]
    [ "$(run --net-host $image c2 readlink /proc/self/ns/net)" = "$(readlink /proc/self/ns/net)" ]
    remove c1
}

# tincan's networks, by its plugin, whichever the runtime is.
is_on_a_network() {
    local web code=0
    # In the foreground, since ctr takes no other from its network again.
    run --cni $image c1 sh -c 'mkdir -p /tmp; echo hello from c1 >/tmp/index.html; httpd -f -p 80 -h /tmp' &
    web=$!
    within is c1 RUNNING
    says 'inet 10.9.0.2/24' ctr task exec --exec-id e1 c1 ip addr show eth0
    says 'default via 10.9.0.1' ctr task exec --exec-id e1 c1 ip route
    says 'hello from c1' run --cni $image c2 sh -c 'until wget -qO- http://10.9.0.2/; do :; done'
    says 'hello from c1' run --cni $image c2 wget -qO- 'http://[fd09::2]/'
    says "default-c1@eth0" "$tincan" network list
    ctr task kill -s KILL c1
    wait $web || code=$?
    [ "$code" = 137 ]
    says "[]" "$tincan" gc --format json
    "$tincan" network rm lan0
}

gives_links_by_annotation() {
    says 'inet 172.16.0.1/16' run --annotation io.tincan.net.0=172.16.0.1/16 $image c1 ip addr show eth0
}

start_containerd
mkdir -p /opt/cni/bin
ln -s "$tincan" /opt/cni/bin/tincan
ln -s /usr/lib/cni/loopback /opt/cni/bin/
rm -rf /etc/cni/net.d
mkdir -p /etc/cni/net.d
cat >/etc/cni/net.d/lan0.conflist <<'END'
{"cniVersion": "1.0.0", "name": "lan0", "plugins": [{"type": "tincan", "subnets": ["10.9.0.0/24", "fd09::/64"]}]}
END
before=$(things | sort -u)
steps runs gives_exit_codes reads_standard_input has_what_the_image_and_the_options_say has_a_terminal executes_beside_it \
    tells_its_processes is_killed pauses_and_resumes is_measured is_limited runs_out_of_memory has_a_user_namespace \
    filters_system_calls joins_namespaces is_on_a_network
if [ "$runtime" = "$tincan" ]; then
    step gives_links_by_annotation
else
    skip gives_links_by_annotation "a feature of tincan's"
fi
# The parent of its containers' cgroups is containerd's.
find /sys/fs/cgroup -mindepth 2 -maxdepth 2 -type d -name default -exec rmdir {} +
step nothing_is_left
kill $daemon
wait $daemon || :
finish
