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
    says 1 podman top c1 pid
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
    local unit at
    podman run -d --name c1 -m 64m --pids-limit 50 busybox sleep 1000
    unit=libpod-$(field c1 .Id).scope
    at=$(field c1 .State.CgroupPath)
    [ "${at##*/}" = "$unit" ]
    [ "$(cat "/sys/fs/cgroup$at/cgroup.procs")" = "$(field c1 .State.Pid)" ]
    # shellcheck disable=SC2086 # a word or none
    [ "$(systemctl $as_user show --value -p ControlGroup -p MemoryMax -p TasksMax -p ActiveState "$unit" | sort | xargs)" = \
        "$at 50 67108864 active" ]
    remove c1
    [ "$(systemctl $as_user show --value -p LoadState "$unit")" = not-found ]
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
within forget_podmans_own
step nothing_is_left
finish
