# shellcheck shell=bash
# What docker and podman are asked in the same words. A script has `engine=docker` or `engine=podman`, its `remove NAME...`, and sources this
# after host.sh.

# Only the client is limited.
docker() {
    limited docker "$@"
}

podman() {
    limited podman "$@"
}

# run [OPTIONS] IMAGE COMMAND...: a container in the foreground.
run() {
    $engine run --rm "$@"
}

# field NAME TEMPLATE: what `inspect` says.
field() {
    $engine inspect --format "{{$2}}" "$1"
}

# has NAME TEMPLATE TEXT
has() {
    [ "$(field "$1" "$2")" = "$3" ]
}

# Answers hello on port 80.
serves='mkdir -p /tmp; echo hello from $(hostname) >/tmp/index.html; exec httpd -f -p 80 -h /tmp'

ends_by_signals() {
    $engine run -d --name c1 busybox sh -c 'trap "exit 5" USR1; while :; do sleep 0.1; done'
    $engine kill -s USR1 c1
    [ "$($engine wait c1)" = 5 ]
    $engine start c1
    $engine kill c1
    [ "$($engine wait c1)" = 137 ]
    $engine rm c1
    $engine run -d --name c1 busybox sh -c 'trap "exit 6" TERM; while :; do sleep 0.1; done'
    $engine stop -t 20 c1
    has c1 .State.ExitCode 6
    $engine rm c1
}

executes_as_it_is_told() {
    $engine run -d --name c1 -e A=1 busybox sleep 1000
    says hello $engine exec c1 echo hello
    exits 7 $engine exec c1 sh -c 'exit 7'
    exits 126 $engine exec c1 /etc/passwd
    says 'uid=65534(nobody) gid=65534' $engine exec -u nobody c1 id
    says /tmp $engine exec -w /tmp c1 pwd
    says 1-2 $engine exec -e B=2 c1 sh -c 'echo $A-$B'
    [ "$(echo word | $engine exec -i c1 cat)" = word ]
    $engine exec -d c1 sleep 2000
    within says 'sleep 2000' $engine top c1
    remove c1
}

is_confined() {
    says 0000000000000000 run --cap-drop all busybox grep CapEff /proc/self/status
    says 'Read-only file system' fails run --read-only busybox touch /x
    says 7-8 run -u 7:8 busybox sh -c 'echo $(id -u)-$(id -g)'
    says 9 run --group-add 9 busybox id -G
    says 'NoNewPrivs:	1' run --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status
    says 'Seccomp:	2' run busybox grep Seccomp: /proc/self/status
    says 'Seccomp:	0' run --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status
    echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}' >"$E2E/profile.json"
    says 'Function not implemented' fails run --security-opt "seccomp=$E2E/profile.json" busybox mkdir /d
    says 42 run --sysctl net.ipv4.ping_group_range='0 42' busybox cat /proc/sys/net/ipv4/ping_group_range
    says crw run --device /dev/fuse busybox ls -l /dev/fuse
    exits 0 run --device /dev/fuse busybox sh -c ': </dev/fuse'
    # No rules for devices are a user's.
    [ -n "$as_user" ] || says 'Operation not permitted' fails run --device /dev/fuse:/dev/fuse:r busybox sh -c ': </dev/fuse; : >/dev/fuse'
    says 1:9 run -v /dev/urandom:/dev/random busybox stat -c %t:%T /dev/random
    says 'Operation not permitted' fails run --cap-add mknod busybox sh -c 'mknod /d c 10 229; : </d'
}

mounts_what_it_is_given() {
    echo there >"$E2E/there"
    says there run -v "$E2E/there:/mnt/there:ro" busybox cat /mnt/there
    says 'Read-only file system' fails run -v "$E2E/there:/mnt/there:ro" busybox touch /mnt/there
    says there run --read-only --mount "type=bind,src=$E2E/there,dst=/mnt/there" busybox cat /mnt/there
    says size=1024k run --tmpfs /t:size=1m busybox grep '^tmpfs /t tmpfs rw,nosuid,nodev,' /proc/mounts
    $engine volume create v1
    run -v v1:/v busybox sh -c 'echo kept >/v/file'
    says kept run -v v1:/v busybox cat /v/file
    $engine volume rm v1
    says size=2048k run --shm-size 2m busybox grep ' /dev/shm ' /proc/mounts
    $engine run -d --name c1 busybox sleep 1000
    $engine cp "$E2E/there" c1:/copied
    says there $engine exec c1 cat /copied
    remove c1
}

shares_namespaces() {
    local pid
    $engine run -d --name c1 --ipc shareable busybox sleep 1000
    pid=$(field c1 .State.Pid)
    [ "$(run --ipc container:c1 busybox readlink /proc/self/ns/ipc)" = "$(readlink "/proc/$pid/ns/ipc")" ]
    says 'sleep 1000' run --pid container:c1 busybox ps
    [ "$(run --pid host busybox readlink /proc/self/ns/pid)" = "$(readlink /proc/self/ns/pid)" ]
    [ "$(run --uts host busybox readlink /proc/self/ns/uts)" = "$(readlink /proc/self/ns/uts)" ]
    [ "$(run --network host busybox readlink /proc/self/ns/net)" = "$(readlink /proc/self/ns/net)" ]
    [ "$(run --network none busybox ls /sys/class/net)" = lo ]
    remove c1
}

# Whether a container is started again, twice, after a failure, and by hand.
starts_again() {
    $engine run -d --name c1 busybox sleep 1000
    $engine restart -t 0 c1
    has c1 .State.Status running
    remove c1
    $engine run -d --name c1 --restart on-failure:2 busybox sh -c 'exit 3'
    within has c1 .RestartCount 2
    within has c1 .State.Status exited
    has c1 .State.ExitCode 3
    $engine rm c1
}
