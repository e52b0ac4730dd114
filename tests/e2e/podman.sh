#!/bin/bash
# podman with tincan as its runtime. See host.sh.
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

# value HIERARCHY NAME FILE: what a file of the container's cgroup has.
value() {
    cat "/sys/fs/cgroup/$1/libpod_parent/libpod-$(field "$2" .Id)/$3"
}

prepare() {
    rm -rf /etc/containers/containers.conf /etc/containers/storage.conf /etc/cni
    # The limits are those that a root without CAP_SYS_RESOURCE may set.
    cat >/etc/containers/containers.conf <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "tested"
cgroup_manager = "cgroupfs"
events_logger = "file"
[engine.runtimes]
tested = ["$runtime"]
[network]
network_backend = "netavark"
END
    printf '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' \
        >/etc/containers/storage.conf
    tar -C "$E2E/rootfs" -c . | podman import --change ENV=PATH=/bin - busybox >/dev/null 2>&1
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
    podman run -d --name c1 -m 64m --cpus 0.5 --pids-limit 50 --cpuset-cpus 0 --ulimit nofile=200:200 --ulimit nproc=1024:1024 \
        busybox sleep 1000
    [ "$(value memory c1 memory.limit_in_bytes)" = 67108864 ]
    [ "$(value cpu c1 cpu.cfs_quota_us)" = 50000 ]
    [ "$(value pids c1 pids.max)" = 50 ]
    [ "$(value cpuset c1 cpuset.cpus)" = 0 ]
    says '200 200' podman exec c1 sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)'
    podman update -m 128m --cpus 0.25 --cpu-shares 256 c1
    [ "$(value memory c1 memory.limit_in_bytes)" = 134217728 ]
    [ "$(value cpu c1 cpu.cfs_quota_us)" = 25000 ]
    [ "$(value cpu c1 cpu.shares)" = 256 ]
    [ "$(value pids c1 pids.max)" = 50 ]
    remove c1
    [ "$(run --pids-limit -1 busybox cat /sys/fs/cgroup/pids/pids.max)" = max ]
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
    said=$(run --uidmap 0:100000:1000 busybox sh -c 'cat /proc/self/uid_map; ls -ln /bin/busybox; id -u')
    [ "$(head -n1 <<<"$said" | tr -s ' ')" = " 0 100000 1000" ]
    [ "$(sed -n 2p <<<"$said" | awk '{ print $3, $4 }')" = "0 0" ]
    [ "$(sed -n 3p <<<"$said")" = 0 ]
    # With a network, and published ports, of its own.
    podman run -d --name c1 --hostname c1 --uidmap 0:100000:1000 -p 8081:80 busybox sh -c "$serves"
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
    podman run -d --name c3 busybox sleep 1000
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

prepare
within forget_podmans_own
before=$(things | sort -u)
steps runs gives_exit_codes ends_by_signals has_a_terminal executes_beside_it is_measured pauses_and_resumes is_limited_and_updated \
    runs_out_of_memory is_watched starts_again has_the_rights_it_is_given mounts_what_it_is_given has_a_user_namespace shares_namespaces \
    is_on_networks publishes_ports groups_containers_in_pods plays_kubernetes
within forget_podmans_own
step nothing_is_left
finish
