#!/bin/bash
# dockerd with tincan as its runtime, driven by docker. See host.sh.
. "$(dirname "$0")/host.sh"

# Only its client is limited.
docker() {
    limited docker "$@"
}

# run [OPTIONS] IMAGE COMMAND...: a container in the foreground.
run() {
    docker run --rm "$@"
}

# Removes all containers.
clear_away() {
    docker ps -aq | xargs -r timeout "$command_limit" docker rm -f >/dev/null || :
    docker network prune -f >/dev/null || :
    docker volume prune -f >/dev/null || :
}

# field NAME TEMPLATE: what `docker inspect` says.
field() {
    docker inspect --format "{{$2}}" "$1"
}

# has NAME TEMPLATE TEXT
has() {
    [ "$(field "$1" "$2")" = "$3" ]
}

# value HIERARCHY NAME FILE: what a file of the container's cgroup has.
value() {
    cat "/sys/fs/cgroup/$1/docker/$(field "$2" .Id)/$3"
}

# Answers hello on port 80.
serves='mkdir -p /tmp; echo hello from $(hostname) >/tmp/index.html; exec httpd -f -p 80 -h /tmp'

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
    docker rm -f c1
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
    docker run -d --name c1 busybox sh -c 'trap "exit 5" USR1; while :; do sleep 0.1; done'
    docker kill -s USR1 c1
    [ "$(docker wait c1)" = 5 ]
    docker start c1
    docker kill c1
    [ "$(docker wait c1)" = 137 ]
    docker rm c1
    docker run -d --name c1 busybox sh -c 'trap "exit 6" TERM; while :; do sleep 0.1; done'
    docker stop -t 20 c1
    has c1 .State.ExitCode 6
    docker rm c1
}

has_a_terminal() {
    says /dev/pts/0 on_terminal 'docker run --rm -t busybox tty'
    says 'got word' on_terminal "docker run --rm -it busybox sh -c 'echo ready; read x; echo got \$x'" word
    docker run -dit --name c1 busybox sleep 1000
    says /dev/pts/ on_terminal 'docker exec -t c1 tty'
    says '33 99' on_terminal 'stty rows 33 cols 99; docker exec -it c1 sh -c "until stty size | grep 33; do :; done"'
    docker rm -f c1
}

executes_beside_it() {
    docker run -d --name c1 -e A=1 busybox sleep 1000
    says hello docker exec c1 echo hello
    exits 7 docker exec c1 sh -c 'exit 7'
    # This docker's own number, whichever the runtime.
    exits 126 docker exec c1 nope
    exits 126 docker exec c1 /etc/passwd
    says 'uid=65534(nobody) gid=65534' docker exec -u nobody c1 id
    says /tmp docker exec -w /tmp c1 pwd
    says 1-2 docker exec -e B=2 c1 sh -c 'echo $A-$B'
    [ "$(echo word | docker exec -i c1 cat)" = word ]
    docker exec -d c1 sleep 2000
    within says 'sleep 2000' docker top c1
    docker rm -f c1
}

is_measured() {
    docker run -d --name c1 -m 64m busybox sleep 1000
    says '/ 64MiB' docker stats --no-stream c1
    [ "$(docker stats --no-stream --format '{{.PIDs}}' c1)" = 1 ]
    docker rm -f c1
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
    docker rm -f c1
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
    docker rm -f c1
}

runs_out_of_memory() {
    exits 137 run -m 16m --memory-swap 16m busybox tail /dev/zero
    # Of one that lives on: what comes after the end of a container, docker does not count.
    docker run -d --name c1 -m 16m --memory-swap 16m busybox sh -c 'tail /dev/zero; sleep 1000'
    within told_of_no_memory
    docker rm -f c1
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
    docker exec c2 wget -qO- http://www/
    says 'Name:' docker exec c2 nslookup web 127.0.0.11
    # By name on user-defined networks alone.
    docker run -d --name c3 busybox sleep 1000
    fails docker exec c3 wget -T 2 -qO- http://web/
    docker network connect lan0 c3
    within docker exec c3 wget -qO- http://web/
    docker network disconnect lan0 c3
    fails docker exec c3 ip link show eth1
    says 'hello from' run --network container:web busybox wget -qO- http://127.0.0.1/
    [ "$(run --network host busybox readlink /proc/self/ns/net)" = "$(readlink /proc/self/ns/net)" ]
    [ "$(run --network none busybox ls /sys/class/net)" = lo ]
    docker rm -f web c2 c3
    docker network rm lan0
}

publishes_ports() {
    docker run -d --name web --hostname web -p 8080:80 busybox sh -c "$serves"
    within says 'hello from web' busybox wget -qO- http://127.0.0.1:8080/
    says 'hello from web' busybox wget -qO- "http://$(ip -o -4 address show docker0 | sed 's,.*inet \([^/]*\).*,\1,'):8080/"
    says 0.0.0.0:8080 docker port web
    docker rm -f web
    fails busybox wget -T 5 -qO- http://127.0.0.1:8080/
}

has_the_rights_it_is_given() {
    # The default set, without CAP_CHOWN (bit 0), with CAP_SYS_ADMIN (bit 21), and none.
    says 00000000a80425fb run busybox grep CapEff /proc/self/status
    says 00000000a82425fa run --cap-drop chown --cap-add sys_admin busybox grep CapEff /proc/self/status
    says 0000000000000000 run --cap-drop all busybox grep CapEff /proc/self/status
    says 'Read-only file system' fails run --read-only busybox touch /x
    says 'uid=7 gid=8' run -u 7:8 busybox id
    says 'groups=0(root),9' run --group-add 9 busybox id
    says 'NoNewPrivs:	1' run --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status
    says 'Seccomp:	2' run busybox grep Seccomp: /proc/self/status
    says 'Seccomp:	0' run --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status
    echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}' >"$E2E/profile.json"
    says 'Function not implemented' fails run --security-opt "seccomp=$E2E/profile.json" busybox mkdir /d
    says 42 run --sysctl net.ipv4.ping_group_range='0 42' busybox cat /proc/sys/net/ipv4/ping_group_range
    says crw run --device /dev/fuse busybox ls -l /dev/fuse
    exits 0 run --device /dev/fuse busybox sh -c ': </dev/fuse'
    says 'Operation not permitted' fails run --device /dev/fuse:/dev/fuse:r busybox sh -c ': </dev/fuse; : >/dev/fuse'
    says 1:9 run -v /dev/urandom:/dev/random busybox stat -c %t:%T /dev/random
    says 'Operation not permitted' fails run busybox sh -c 'mknod /d c 10 229; : </d'
}

is_privileged() {
    says 'CapEff:	000001ffffffffff' run --privileged busybox grep CapEff /proc/self/status
    run --privileged busybox mount -t tmpfs tmpfs /mnt
}

mounts_what_it_is_given() {
    echo there >"$E2E/there"
    says there run -v "$E2E/there:/mnt/there:ro" busybox cat /mnt/there
    says 'Read-only file system' fails run -v "$E2E/there:/mnt/there:ro" busybox touch /mnt/there
    says 'tmpfs /t tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k' run --tmpfs /t:size=1m busybox grep ' /t ' /proc/mounts
    docker volume create v1
    run -v v1:/v busybox sh -c 'echo kept >/v/file'
    says kept run -v v1:/v busybox cat /v/file
    docker volume rm v1
    says 'size=2048k' run --shm-size 2m busybox grep ' /dev/shm ' /proc/mounts
    docker run -d --name c1 busybox sleep 1000
    docker cp "$E2E/there" c1:/copied
    says there docker exec c1 cat /copied
    docker rm -f c1
}

shares_namespaces() {
    docker run -d --name c1 --ipc shareable busybox sleep 1000
    local pid
    pid=$(field c1 .State.Pid)
    [ "$(run --ipc container:c1 busybox readlink /proc/self/ns/ipc)" = "$(readlink "/proc/$pid/ns/ipc")" ]
    says 'sleep 1000' run --pid container:c1 busybox ps
    [ "$(run --pid host busybox readlink /proc/self/ns/pid)" = "$(readlink /proc/self/ns/pid)" ]
    [ "$(run --uts host busybox readlink /proc/self/ns/uts)" = "$(readlink /proc/self/ns/uts)" ]
    docker rm -f c1
}

is_watched() {
    docker run -d --name c1 --health-cmd 'test -e /healthy' --health-interval 100ms busybox sleep 1000
    docker exec c1 touch /healthy
    within has c1 .State.Health.Status healthy
    docker rm -f c1
    docker run -d --name c1 --restart on-failure:2 busybox sh -c 'exit 3'
    within has c1 .RestartCount 2
    within has c1 .State.Status exited
    has c1 .State.ExitCode 3
    docker rm c1
    docker run -d --name c1 --init busybox sleep 1000
    says docker-init docker top c1
    docker restart -t 0 c1
    has c1 .State.Status running
    docker rm -f c1
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
steps runs gives_exit_codes has_a_terminal executes_beside_it is_measured pauses_and_resumes is_limited_and_updated \
    runs_out_of_memory is_on_networks publishes_ports has_the_rights_it_is_given mounts_what_it_is_given shares_namespaces \
    is_watched builds
if grep -q 'CapEff:	000001ffffffffff' /proc/self/status; then
    step is_privileged
else
    skip is_privileged "this machine's root has not all capabilities to give"
fi
stop_dockerd
step nothing_is_left
finish
