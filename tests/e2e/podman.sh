#!/bin/bash
# podman with tincan as its runtime. See host.sh. In a machine with systemd that is who makes cgroups, root's or the user's.
engine=podman
. "$(dirname "$0")/host.sh"
. "$here/engine.sh"

# Removes all containers.
clear_away() {
    podman pod rm -fa -t 0 >/dev/null || :
    podman rm -fa -t 0 >/dev/null || :
    podman network prune -f >/dev/null || :
    podman volume prune -f >/dev/null || :
}

# remove NAME...: again where podman finds it busy with its own cleaning up (with runc, too).
remove() {
    within podman rm -f -i -t 0 "$@"
}

# limits NAME: how much memory, processor time, which share of it, how many processes, and which processors its cgroup's files say.
limits() {
    local at file
    at=$(field "$1" .State.CgroupPath)
    if [ -n "$own_machine" ]; then
        cd "/sys/fs/cgroup$at"
        set -- memory.max cpu.max cpu.weight pids.max cpuset.cpus
    else
        cd /sys/fs/cgroup
        set -- "memory$at/memory.limit_in_bytes" "cpu$at/cpu.cfs_quota_us" "cpu$at/cpu.shares" "pids$at/pids.max" "cpuset$at/cpuset.cpus"
    fi
    # Of the quota, not the period that follows it on v2.
    for file; do
        cut -d ' ' -f1 "$file" 2>/dev/null || :
    done | xargs
}

prepare() {
    local at=/etc/containers ulimits= manager=systemd
    [ -z "$as_user" ] || at=$HOME/.config/containers
    mkdir -p "$at"
    if [ -z "$own_machine" ]; then
        manager=cgroupfs
        # The limits are those that a root without CAP_SYS_RESOURCE may set.
        ulimits='default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]'
        rm -rf /etc/cni "$at/containers.conf"
        printf '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' \
            >"$at/storage.conf"
    fi
    cat >"$at/containers.conf" <<END
[containers]
log_driver = "k8s-file"
$ulimits
[engine]
runtime = "tested"
cgroup_manager = "$manager"
events_logger = "file"
[engine.runtimes]
tested = ["$runtime"]
[network]
network_backend = "netavark"
END
    tar -C "$E2E/rootfs" --owner=0 --group=0 -c . | podman import --change ENV=PATH=/bin - busybox >/dev/null 2>&1
    # What podman mounts for all containers, it leaves.
    run busybox true
}

# The cgroups that podman makes itself, of its monitors and pods, and forgets in some hierarchies.
forget_podmans_own() {
    find /sys/fs/cgroup -depth -type d -path '*/libpod_parent*' ! -name 'libpod-*' -exec rmdir {} + 2>/dev/null
}

runs() {
    says hello run busybox echo hello
    [ "$(echo word | run -i busybox cat)" = word ]
    podman run -d --name c1 busybox sh -c 'echo out; echo err >&2; sleep 1000'
    within says err podman logs c1 >/dev/null
    [ "$(podman logs c1 2>/dev/null)" = out ]
    says c1 podman ps
    says 'sleep 1000' podman top c1
    [ "$(podman top c1 pid comm | sed -n 2p | xargs)" = "1 sleep" ]
    has c1 .State.Status running
    has c1 .OCIRuntime tested
    remove c1
}

gives_exit_codes() {
    exits 7 run busybox sh -c 'exit 7'
    exits 127 run busybox nope
    exits 127 run busybox /nope
    exits 126 run busybox /etc/passwd
    exits 126 run busybox /etc
    says 'executable file' fails run busybox nope
}

has_a_terminal() {
    says /dev/pts/0 on_terminal 'podman run --rm -it busybox tty'
    says 'got word' on_terminal "podman run --rm -it busybox sh -c 'read x; echo got \$x'" word
    podman run -dit --name c1 busybox sleep 1000
    says /dev/pts/ on_terminal 'podman exec -it c1 tty'
    says '33 99' on_terminal 'stty rows 33 cols 99; podman exec -it c1 sh -c "until stty size | grep 33; do :; done"'
    remove c1
}

executes_beside_it() {
    executes_as_it_is_told
    podman run -d --name c1 busybox sleep 1000
    exits 127 podman exec c1 nope
    says word podman exec --preserve-fds 1 c1 sh -c 'cat <&3' 3<<<word
    remove c1
}

is_measured() {
    podman run -d --name c1 -m 64m busybox sleep 1000
    says '/ 67.11MB' podman stats --no-stream c1
    [ "$(podman stats --no-stream --format '{{.PIDS}}' c1)" = 1 ]
    remove c1
}

pauses_and_resumes() {
    podman run -d --name c1 busybox sleep 1000
    podman pause c1
    has c1 .State.Status paused
    fails podman exec c1 true
    podman unpause c1
    has c1 .State.Status running
    says hello podman exec c1 echo hello
    remove c1
}

is_limited_and_updated() {
    # systemd does not give processors to users.
    local processors=' 0' cpuset='--cpuset-cpus 0'
    [ -z "$as_user" ] || processors= cpuset=
    # shellcheck disable=SC2086 # words
    podman run -d --name c1 -m 64m --cpus 0.5 --pids-limit 50 $cpuset --ulimit nofile=200:200 --ulimit nproc=1024:1024 \
        busybox sleep 1000
    [ "$(limits c1)" = "67108864 50000 $shares 50$processors" ]
    says '200 200' podman exec c1 sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)'
    podman update -m 128m --cpus 0.25 --cpu-shares 256 c1
    [ "$(limits c1)" = "134217728 25000 $few_shares 50$processors" ]
    remove c1
    [ "$(run --pids-limit -1 busybox cat "/sys/fs/cgroup/$pids/pids.max")" = max ]
}

runs_out_of_memory() {
    exits 137 podman run --name c1 -m 16m --memory-swap 16m busybox tail /dev/zero
    podman rm c1
}

is_watched() {
    podman run -d --name c1 --health-cmd 'test -e /healthy' --health-interval disable busybox sleep 1000
    exits 1 podman healthcheck run c1
    podman exec c1 touch /healthy
    exits 0 podman healthcheck run c1
    remove c1
    podman run -d --name c1 --init busybox sleep 1000
    says '/run/podman-init' podman top c1
    remove c1
}

has_the_rights_it_is_given() {
    # The default set, and without CAP_CHOWN (bit 0) and with CAP_SYS_ADMIN (bit 21).
    says 00000000800405fb run busybox grep CapEff /proc/self/status
    says 00000000802405fa run --cap-drop chown --cap-add sys_admin busybox grep CapEff /proc/self/status
    is_confined
}

has_a_user_namespace() {
    local said
    said=$(run --uidmap "0:$first_id:1000" busybox sh -c 'cat /proc/self/uid_map; ls -ln /bin/busybox; id -u')
    [ "$(head -n1 <<<"$said" | tr -s ' ')" = " 0 $first_id 1000" ]
    [ "$(sed -n 2p <<<"$said" | awk '{ print $3, $4 }')" = "0 0" ]
    [ "$(sed -n 3p <<<"$said")" = 0 ]
    # With a network, and published ports, of its own.
    podman run -d --name c1 --hostname c1 --uidmap "0:$first_id:1000" -p 8081:80 busybox sh -c "$serves"
    within says 'hello from c1' busybox wget -qO- http://127.0.0.1:8081/
    remove c1
}

is_on_networks() {
    podman network create --subnet 10.9.0.0/24 --ipv6 --subnet fd09::/64 lan0
    podman run -d --name web --hostname web --network lan0 --network-alias www busybox sh -c "$serves"
    podman run -d --name c2 --network lan0 busybox sleep 1000
    within says 'hello from web' podman exec c2 wget -qO- http://web/
    says 'hello from web' podman exec c2 wget -qO- http://www/
    says fd09:: podman exec c2 nslookup -type=aaaa web.dns.podman
    podman run -d --name c3 --network podman busybox sleep 1000
    podman network connect lan0 c3
    says 'inet 10.9.0.' podman exec c3 ip addr show eth1
    podman network disconnect lan0 c3
    fails podman exec c3 ip link show eth1
    says 'hello from' run --network container:web busybox wget -qO- http://127.0.0.1/
    remove web c2 c3
    podman network rm lan0
}

publishes_ports() {
    podman run -d --name web --hostname web -p 8080:80 busybox sh -c "$serves"
    within says 'hello from web' busybox wget -qO- http://127.0.0.1:8080/
    says '0.0.0.0:8080' podman port web
    remove web
    fails busybox wget -T 5 -qO- http://127.0.0.1:8080/
}

groups_containers_in_pods() {
    podman pod create --name p1 -p 8082:80 --hostname p1
    podman run -d --pod p1 --name c1 busybox sh -c "$serves"
    podman run -d --pod p1 --name c2 busybox sleep 1000
    within says 'hello from p1' podman exec c2 wget -qO- http://127.0.0.1/
    within says 'hello from p1' busybox wget -qO- http://127.0.0.1:8082/
    says 'httpd' podman pod top p1
    podman pod pause p1
    has c1 .State.Status paused
    podman pod unpause p1
    podman pod stats --no-stream p1
    podman pod stop -t 0 p1
    podman pod start p1
    has c2 .State.Status running
    within podman pod rm -f -i -t 0 p1
}

plays_kubernetes() {
    cat >"$E2E/pod.yaml" <<END
apiVersion: v1
kind: Pod
metadata:
  name: played
spec:
  containers:
  - name: web
    image: localhost/busybox:latest
    imagePullPolicy: Never
    command: ["sh", "-c", "mkdir -p /tmp; echo hello from \$GREETED >/tmp/index.html; exec httpd -f -p 80 -h /tmp"]
    env: [{name: GREETED, value: kube}]
    ports: [{containerPort: 80, hostPort: 8083}]
    resources: {limits: {memory: 64Mi}}
END
    podman play kube "$E2E/pod.yaml"
    within says 'hello from kube' busybox wget -qO- http://127.0.0.1:8083/
    podman play kube --down "$E2E/pod.yaml"
}

# What the shares of processor time are that nobody asked for, and 256 of them, in the words of the cgroups' version.
if [ -n "$own_machine" ]; then
    shares=100 few_shares=35 pids=.
else
    shares=1024 few_shares=256 pids=pids
fi
# The first of the ids that root, or a user with some, gives to a container: a user's are counted from the user's own, 0.
first_id=${as_user:+1}
first_id=${first_id:-100000}

# It is a unit of systemd's, alone in its cgroup, with what limits it as properties, and no longer than it runs.
is_a_scope() {
    local unit
    podman run -d --name c1 -m 64m --pids-limit 50 busybox sleep 1000
    unit=$(scope c1)
    is_limited_as_a_scope c1
    [ "$(cat "/sys/fs/cgroup$(field c1 .State.CgroupPath)/cgroup.procs")" = "$(field c1 .State.Pid)" ]
    remove c1
    is_no_unit "$unit"
}

# scope NAME
scope() {
    echo "libpod-$(field "$1" .Id).scope"
}

# is_limited_as_a_scope NAME: its process is there, and 64 MiB and 50 processes are all that it may have.
is_limited_as_a_scope() {
    local unit at
    unit=$(scope "$1")
    at=$(field "$1" .State.CgroupPath)
    [ "${at##*/}" = "$unit" ]
    grep -x "$(field "$1" .State.Pid)" "/sys/fs/cgroup$at/cgroup.procs"
    # shellcheck disable=SC2086 # a word or none
    [ "$(systemctl $as_user show --value -p ControlGroup -p MemoryMax -p TasksMax -p ActiveState "$unit" | sort | xargs)" = \
        "$at 50 67108864 active" ]
    [ "$(cat "/sys/fs/cgroup$at/memory.max" "/sys/fs/cgroup$at/pids.max" | xargs)" = "67108864 50" ]
}

# is_no_unit UNIT
is_no_unit() {
    # shellcheck disable=SC2086 # a word or none
    [ "$(systemctl $as_user show --value -p LoadState "$1")" = not-found ]
}

# Counts the signals that it gets, in its memory alone, says how far it is, and ends with 6 when it is to.
counts='n=0; trap "n=\$((n+1)); echo \$n" USR1; trap "exit 6" TERM; echo $n; while :; do sleep 0.1; done'

# start_counting [OPTIONS] NAME
start_counting() {
    podman run -d "${@:1:$#-1}" --name "${*: -1}" busybox sh -c "$counts"
    within said_last "${*: -1}" 0
}

# said_last NAME NUMBER
said_last() {
    [ "$(podman logs --tail 1 "$1" 2>/dev/null)" = "$2" ]
}

# counts_to NAME NUMBER: one signal more, and it is that far.
counts_to() {
    podman kill -s USR1 "$1"
    within said_last "$1" "$2"
}

# What it has in memory, how it is limited, how it is reached and who waits for its end is as before, also where it was kept twice.
is_kept_and_restored() {
    local unit looks
    start_counting -m 64m --pids-limit 50 c1
    unit=$(scope c1)
    looks=$(addresses c1 eth0)
    counts_to c1 1
    podman container checkpoint c1
    has c1 .State.Status exited
    has c1 .State.Checkpointed true
    is_no_unit "$unit"
    podman container restore c1
    has c1 .State.Status running
    has c1 .State.Restored true
    is_limited_as_a_scope c1
    [ "$(addresses c1 eth0)" = "$looks" ]
    counts_to c1 2
    podman pause c1
    has c1 .State.Status paused
    podman unpause c1
    podman container checkpoint --keep --print-stats c1 >"$E2E/stats"
    grep -E '"pages_written": [1-9]' "$E2E/stats"
    podman container restore --keep c1
    [ -e "$(field c1 .State.CheckpointPath)/inventory.img" ]
    counts_to c1 3
    podman stop -t 20 c1
    has c1 .State.ExitCode 6
    remove c1
}

# addresses NAME INTERFACE: its link-layer address and its addresses, but for those that come by themselves.
addresses() {
    podman exec "$1" ip addr show "$2" | awk '$1 == "link/ether" || / scope global/ { print $1, $2 }'
}

# It goes on meanwhile, and what was kept goes on from there.
is_kept_and_goes_on() {
    local pid
    start_counting c1
    counts_to c1 1
    pid=$(field c1 .State.Pid)
    podman container checkpoint --leave-running --keep c1
    has c1 .State.Pid "$pid"
    counts_to c1 2
    counts_to c1 3
    podman kill c1
    [ "$(podman wait c1)" = 137 ]
    podman container restore --keep c1
    counts_to c1 2
    remove c1
}

# As often as it is asked, under another name too, with what it has written to its root, its volume and its memory.
is_restored_from_a_file() {
    start_counting -v v1:/v --tmpfs /t c1
    podman exec c1 sh -c 'echo one >/file; echo two >/v/file; echo three >/t/file'
    counts_to c1 1
    podman container checkpoint --export "$E2E/c1.tar.gz" c1
    remove c1
    podman volume rm v1
    podman container restore --import "$E2E/c1.tar.gz"
    podman container restore --import "$E2E/c1.tar.gz" --name c2 --ignore-volumes
    counts_to c1 2
    counts_to c1 3
    counts_to c2 2
    [ "$(podman exec c1 cat /file /v/file /t/file | xargs)" = "one two three" ]
    [ "$(podman exec c2 cat /file /t/file | xargs)" = "one three" ]
    remove c1 c2
    podman volume rm v1
}

# What is in memory first, and then the rest.
is_kept_in_two_parts() {
    start_counting c1
    podman container checkpoint --pre-checkpoint --export "$E2E/first.tar.gz" c1
    counts_to c1 1
    podman container checkpoint --with-previous --export "$E2E/second.tar.gz" c1
    remove c1
    podman container restore --import-previous "$E2E/first.tar.gz" --import "$E2E/second.tar.gz"
    counts_to c1 2
    remove c1
}

# So does a connection with the machine.
is_restored_with_a_connection() {
    local address heard
    podman run -d --name c1 busybox nc -l -p 5000 -e cat
    address=$(field c1 .NetworkSettings.IPAddress)
    within connects "$address"
    echo tin >&9
    read -r -t "$command_limit" heard <&9
    [ "$heard" = tin ]
    fails podman container checkpoint c1
    has c1 .State.Status running
    podman container checkpoint --tcp-established c1
    podman container restore --tcp-established c1
    echo can >&9
    read -r -t "$command_limit" heard <&9
    [ "$heard" = can ]
    exec 9>&-
    remove c1
}

# connects ADDRESS: by descriptor 9.
connects() {
    { exec 9<>"/dev/tcp/$1/5000"; } 2>/dev/null
}

# In its own pod, and from a file in another one.
is_restored_in_pods() {
    podman pod create --name p1
    podman pod create --name p2
    start_counting --pod p1 c1
    counts_to c1 1
    podman container checkpoint c1
    podman container restore c1
    counts_to c1 2
    is_in_pod c1 p1
    podman container checkpoint --export "$E2E/c1.tar.gz" c1
    remove c1
    podman container restore --import "$E2E/c1.tar.gz" --pod p2
    counts_to c1 3
    is_in_pod c1 p2
    podman pod rm -f -t 0 p1 p2
}

# is_in_pod NAME POD: its namespaces are those of the pod.
is_in_pod() {
    local infra kind
    infra=$(podman pod inspect --format '{{.InfraContainerID}}' "$2")
    for kind in net ipc uts; do
        [ "$(readlink "/proc/$(field "$1" .State.Pid)/ns/$kind")" = "$(readlink "/proc/$(field "$infra" .State.Pid)/ns/$kind")" ]
    done
}

# The program that is first in it is mounted by a symbolic link, in Debian.
is_restored_with_an_init() {
    start_counting --init c1
    counts_to c1 1
    podman container checkpoint c1
    podman container restore c1
    counts_to c1 2
    says '/run/podman-init' podman top c1
    podman stop -t 20 c1
    has c1 .State.ExitCode 6
    remove c1
}

# The links that its annotations ask for come back as they were, and so do the ports.
is_restored_with_tincans_links() {
    local looks
    "$tincan" network create lan0 --subnet 10.9.0.0/24
    podman run -d --name c1 --hostname c1 --annotation io.tincan.net.0=172.16.0.1/16 --annotation io.tincan.net.1=lan0 \
        --annotation io.tincan.publish=8084:80 busybox sh -c "($serves) & $counts"
    within said_last c1 0
    within says 'hello from c1' busybox wget -qO- http://127.0.0.1:8084/
    looks=$(addresses c1 eth1; addresses c1 eth2)
    says 172.16.0.1/16 echo "$looks"
    says 10.9.0.2/24 echo "$looks"
    counts_to c1 1
    podman container checkpoint c1
    [ "$(ip -o link show type veth)" = "" ]
    podman container restore c1
    counts_to c1 2
    [ "$(addresses c1 eth1; addresses c1 eth2)" = "$looks" ]
    busybox ping -c1 -W10 172.16.0.1
    says 'hello from c1' busybox wget -qO- http://127.0.0.1:8084/
    podman container checkpoint --export "$E2E/c1.tar.gz" c1
    remove c1
    podman container restore --import "$E2E/c1.tar.gz" --name c2
    counts_to c2 3
    [ "$(addresses c2 eth1; addresses c2 eth2)" = "$looks" ]
    says 'hello from c1' busybox wget -qO- http://10.9.0.2/
    remove c2
    "$tincan" network rm lan0
}

# The user is the same one inside, and so are the files.
keeps_its_ids() {
    local own
    own=$(id -u)-$(id -g)
    mkdir "$E2E/mine"
    [ "$(run --userns keep-id busybox sh -c 'echo $(id -u)-$(id -g)')" = "$own" ]
    says 5-6 run --userns keep-id:uid=5,gid=6 -v "$E2E/mine:/mine" busybox sh -c 'stat -c %u-%g /mine; echo x >/mine/file'
    [ "$(stat -c %u-%g "$E2E/mine/file")" = "$own" ]
    podman run -d --name c1 --userns keep-id --network none busybox sleep 1000
    [ "$(stat -c %u "/proc/$(field c1 .State.Pid)")" = "$(id -u)" ]
    says 'uid=0(root)' podman exec -u 0 c1 id
    remove c1
}

prepare
within forget_podmans_own
before=$(things | sort -u)
steps runs gives_exit_codes ends_by_signals has_a_terminal executes_beside_it is_measured pauses_and_resumes is_limited_and_updated \
    runs_out_of_memory is_watched starts_again has_the_rights_it_is_given mounts_what_it_is_given has_a_user_namespace shares_namespaces \
    is_on_networks publishes_ports groups_containers_in_pods plays_kubernetes
[ -z "$own_machine" ] || steps is_a_scope
[ -z "$as_user" ] || steps keeps_its_ids
# CRIU is root's.
if [ -n "$own_machine" ] && [ -z "$as_user" ]; then
    # Of the tools by which CRIU can close a network meanwhile, the one that is here; tincan asks for it itself.
    [ "$runtime" = "$tincan" ] || { mkdir -p /etc/criu; echo 'network-lock nftables' >/etc/criu/default.conf; }
    steps is_kept_and_restored is_kept_and_goes_on is_restored_from_a_file is_kept_in_two_parts is_restored_with_a_connection \
        is_restored_in_pods
    if [ "$runtime" = "$tincan" ]; then
        steps is_restored_with_an_init is_restored_with_tincans_links
    else
        skip is_restored_with_an_init "CRIU mounts the link itself"
        skip is_restored_with_tincans_links "a feature of tincan's"
    fi
fi
within forget_podmans_own
step nothing_is_left
finish
