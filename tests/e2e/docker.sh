#!/bin/bash
# dockerd with tincan as its runtime, driven by docker. See host.sh.
engine=docker
. "$(dirname "$0")/host.sh"
. "$here/engine.sh"

# remove NAME...
remove() {
    docker rm -f "$@"
}

# Removes all containers.
clear_away() {
    docker ps -aq | xargs -r timeout "$command_limit" docker rm -f >/dev/null || :
    docker network prune -f >/dev/null || :
    docker volume prune -f >/dev/null || :
}

# value HIERARCHY NAME FILE: what a file of the container's cgroup has.
value() {
    cat "/sys/fs/cgroup/$1/docker/$(field "$2" .Id)/$3"
}

start_dockerd() {
    dockerd --add-runtime "tested=$runtime" --default-runtime tested --exec-opt native.cgroupdriver=cgroupfs \
        --oom-score-adjust 0 --storage-driver overlay2 --shutdown-timeout 1 >"$E2E/dockerd.log" 2>&1 &
    daemon=$!
    within docker version >/dev/null 2>&1 || { cat "$E2E/dockerd.log"; exit 1; }
    tar -C "$E2E/rootfs" -c . | docker import - busybox >/dev/null
}

stop_dockerd() {
    kill $daemon
    wait $daemon || :
    # What is dockerd's own.
    ip link del docker0
    find /sys/fs/cgroup -mindepth 2 -maxdepth 2 -type d -name docker -exec rmdir {} + || :
    awk '$5 ~ "^/run/docker/" { print $5 }' /proc/self/mountinfo | xargs -r umount
}

runs() {
    says hello run busybox echo hello
    [ "$(echo word | run -i busybox cat)" = word ]
    has_id=$(docker run -d --name c1 busybox sh -c 'echo out; echo err >&2; sleep 1000')
    [ ${#has_id} = 64 ]
    within says err docker logs c1 >/dev/null
    [ "$(docker logs c1 2>/dev/null)" = out ]
    says c1 docker ps
    says 'sleep 1000' docker top c1
    has c1 .State.Status running
    [ "$(readlink "/proc/$(field c1 .State.Pid)/ns/pid")" != "$(readlink /proc/self/ns/pid)" ]
    remove c1
}

gives_exit_codes() {
    exits 7 run busybox sh -c 'exit 7'
    exits 127 run busybox nope
    exits 127 run busybox /nope
    exits 126 run busybox /etc/passwd
    exits 126 run busybox /etc
    exits 126 run -u 7 busybox /root/tool
    # docker tells what it was told.
    says 'exec: "nope": executable file not found in $PATH' fails run busybox nope
    says 'exec: "/nope": stat /nope: no such file or directory' fails run busybox /nope
    says 'exec: "/etc/passwd": permission denied' fails run busybox /etc/passwd
}

has_a_terminal() {
    says /dev/pts/0 on_terminal 'docker run --rm -t busybox tty'
    says 'got word' on_terminal "docker run --rm -it busybox sh -c 'echo ready; read x; echo got \$x'" word
    docker run -dit --name c1 busybox sleep 1000
    says /dev/pts/ on_terminal 'docker exec -t c1 tty'
    says '33 99' on_terminal 'stty rows 33 cols 99; docker exec -it c1 sh -c "until stty size | grep 33; do :; done"'
    remove c1
}

executes_beside_it() {
    executes_as_it_is_told
    docker run -d --name c1 busybox sleep 1000
    # This docker's own number, whichever the runtime.
    exits 126 docker exec c1 nope
    remove c1
}

is_measured() {
    docker run -d --name c1 -m 64m busybox sleep 1000
    says '/ 64MiB' docker stats --no-stream c1
    [ "$(docker stats --no-stream --format '{{.PIDs}}' c1)" = 1 ]
    remove c1
}

pauses_and_resumes() {
    docker run -d --name c1 busybox sleep 1000
    docker pause c1
    has c1 .State.Status paused
    says paused fails docker exec c1 true
    docker unpause c1
    has c1 .State.Status running
    says hello docker exec c1 echo hello
    docker pause c1
    remove c1
}

is_limited_and_updated() {
    docker run -d --name c1 -m 64m --cpus 0.5 --cpu-shares 512 --pids-limit 50 --cpuset-cpus 0 --blkio-weight 0 \
        --ulimit nofile=100:200 busybox sleep 1000
    [ "$(value memory c1 memory.limit_in_bytes)" = 67108864 ]
    [ "$(value cpu c1 cpu.cfs_quota_us)" = 50000 ]
    [ "$(value cpu c1 cpu.shares)" = 512 ]
    [ "$(value pids c1 pids.max)" = 50 ]
    [ "$(value cpuset c1 cpuset.cpus)" = 0 ]
    says '100 200' docker exec c1 sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)'
    docker update -m 128m --memory-swap 128m --cpus 0.25 --cpu-shares 256 --pids-limit 60 c1
    [ "$(value memory c1 memory.limit_in_bytes)" = 134217728 ]
    [ "$(value cpu c1 cpu.cfs_quota_us)" = 25000 ]
    [ "$(value cpu c1 cpu.shares)" = 256 ]
    [ "$(value pids c1 pids.max)" = 60 ]
    remove c1
}

runs_out_of_memory() {
    exits 137 run -m 16m --memory-swap 16m busybox tail /dev/zero
    # Of one that lives on: what comes after the end of a container, docker does not count.
    docker run -d --name c1 -m 16m --memory-swap 16m busybox sh -c 'tail /dev/zero; sleep 1000'
    within told_of_no_memory
    remove c1
}

told_of_no_memory() {
    says 'container oom' docker events --since 0 --until "$(date +%s)" --filter event=oom --filter container=c1 >/dev/null
}

# reaches NAME: from c2, by its name.
reaches() {
    within says "hello from $1" docker exec c2 wget -qO- "http://$1/"
}

is_on_networks() {
    docker network create lan0
    docker run -d --name web --hostname web --network lan0 --network-alias www busybox sh -c "$serves"
    docker run -d --name c2 --network lan0 busybox sleep 1000
    reaches web
    says 'hello from web' docker exec c2 wget -qO- http://www/
    says 'Name:' docker exec c2 nslookup web 127.0.0.11
    # By name on user-defined networks alone.
    docker run -d --name c3 busybox sleep 1000
    fails docker exec c3 wget -T 2 -qO- http://web/
    docker network connect lan0 c3
    within says 'hello from web' docker exec c3 wget -qO- http://web/
    docker network disconnect lan0 c3
    fails docker exec c3 ip link show eth1
    says 'hello from' run --network container:web busybox wget -qO- http://127.0.0.1/
    remove web c2 c3
    docker network rm lan0
}

publishes_ports() {
    docker run -d --name web --hostname web -p 8080:80 busybox sh -c "$serves"
    within says 'hello from web' busybox wget -qO- http://127.0.0.1:8080/
    says 'hello from web' busybox wget -qO- "http://$(ip -o -4 address show docker0 | sed 's,.*inet \([^/]*\).*,\1,'):8080/"
    says 0.0.0.0:8080 docker port web
    remove web
    fails busybox wget -T 5 -qO- http://127.0.0.1:8080/
}

has_the_rights_it_is_given() {
    # The default set, and without CAP_CHOWN (bit 0) and with CAP_SYS_ADMIN (bit 21).
    says 00000000a80425fb run busybox grep CapEff /proc/self/status
    says 00000000a82425fa run --cap-drop chown --cap-add sys_admin busybox grep CapEff /proc/self/status
    is_confined
}

is_privileged() {
    says 'CapEff:	000001ffffffffff' run --privileged busybox grep CapEff /proc/self/status
    run --privileged busybox mount -t tmpfs tmpfs /mnt
}

is_watched() {
    docker run -d --name c1 --health-cmd 'test -e /healthy' --health-interval 100ms busybox sleep 1000
    docker exec c1 touch /healthy
    within has c1 .State.Health.Status healthy
    remove c1
    docker run -d --name c1 --init busybox sleep 1000
    says docker-init docker top c1
    remove c1
}

builds() {
    mkdir -p "$E2E/context"
    printf 'FROM busybox\nRUN echo built >/built && id\nUSER 7\nRUN test "$(id -u)" = 7\nCMD ["cat", "/built"]\n' >"$E2E/context/Dockerfile"
    docker build -t built "$E2E/context"
    says built run built
    docker rmi built
}

before=$(things | sort -u)
start_dockerd
steps runs gives_exit_codes ends_by_signals has_a_terminal executes_beside_it is_measured pauses_and_resumes is_limited_and_updated \
    runs_out_of_memory is_on_networks publishes_ports has_the_rights_it_is_given mounts_what_it_is_given shares_namespaces \
    is_watched starts_again builds
if grep -q 'CapEff:	000001ffffffffff' /proc/self/status; then
    step is_privileged
else
    skip is_privileged "this machine's root has not all capabilities to give"
fi
stop_dockerd
step nothing_is_left
finish
