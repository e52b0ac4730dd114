#!/bin/bash
# buildah with tincan as its runtime. See host.sh.
. "$(dirname "$0")/host.sh"

# Only its client is limited.
buildah() {
    limited buildah "$@"
}

# run [OPTIONS] NAME COMMAND...
run() {
    buildah run --runtime "$runtime" --isolation oci "$@"
}

# build [OPTIONS] NAME: of what standard input says.
build() {
    cat >"$E2E/context/Containerfile"
    buildah bud --runtime "$runtime" --isolation oci "${@:1:$#-1}" -t "${*: -1}" "$E2E/context"
}

# Removes all containers, and the images that were built.
clear_away() {
    buildah rm -a >/dev/null || :
    buildah rmi -f built limited >/dev/null 2>&1 || :
}

prepare() {
    rm -rf /etc/containers/containers.conf /etc/containers/storage.conf /etc/cni
    # The limits are those that a root without CAP_SYS_RESOURCE may set.
    cat >/etc/containers/containers.conf <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[network]
network_backend = "netavark"
END
    printf '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' \
        >/etc/containers/storage.conf
    mkdir -p "$E2E/context"
    local name
    name=$(buildah from scratch)
    buildah add "$name" "$E2E/rootfs" / >/dev/null
    buildah config --env PATH=/bin --cmd sh "$name"
    buildah commit "$name" busybox >/dev/null 2>&1
    buildah rm "$name" >/dev/null
    # What buildah mounts for all containers, it leaves.
    buildah from --name c1 busybox >/dev/null
    run c1 true
    buildah rm c1 >/dev/null
}

runs() {
    buildah from --name c1 busybox
    says hello run c1 echo hello
    [ "$(echo word | run c1 cat)" = word ]
    says 'uid=7' run --user 7:8 c1 id
    says /tmp run --workingdir /tmp c1 pwd
    says 1-2 run --env A=1 --env B=2 c1 sh -c 'echo $A-$B'
    run c1 sh -c 'echo kept >/file'
    says kept run c1 cat /file
    buildah rm c1
}

gives_exit_codes() {
    buildah from --name c1 busybox
    exits 7 run c1 sh -c 'exit 7'
    says 'executable file not found in $PATH' fails run c1 nope
    says '/nope: no such file or directory' fails run c1 /nope
    says 'permission denied' fails run c1 /etc/passwd
    buildah rm c1
}

has_a_terminal() {
    buildah from --name c1 busybox
    says /dev/pts/0 on_terminal "buildah run -t --runtime $runtime --isolation oci c1 tty"
    says 'got word' on_terminal "buildah run -t --runtime $runtime --isolation oci c1 sh -c 'read x; echo got \$x'" word
    buildah rm c1
}

has_the_rights_it_is_given() {
    buildah from --name c1 busybox
    says 00000000800405fb run c1 grep CapEff /proc/self/status
    says 00000000802405fa run --cap-drop CAP_CHOWN --cap-add CAP_SYS_ADMIN c1 grep CapEff /proc/self/status
    says 'Seccomp:	2' run c1 grep Seccomp: /proc/self/status
    echo there >"$E2E/there"
    says there run -v "$E2E/there:/mnt/there:ro" c1 cat /mnt/there
    says 'Read-only file system' fails run -v "$E2E/there:/mnt/there:ro" c1 touch /mnt/there
    [ "$(run --network none c1 ls /sys/class/net)" = lo ]
    [ "$(run --network host c1 readlink /proc/self/ns/net)" = "$(readlink /proc/self/ns/net)" ]
    [ "$(run --pid host c1 readlink /proc/self/ns/pid)" = "$(readlink /proc/self/ns/pid)" ]
    says 'inet 10.' run c1 ip addr show eth0
    buildah rm c1
}

has_a_user_namespace() {
    buildah from --name c1 --userns-uid-map 0:100000:1000 --userns-gid-map 0:100000:1000 busybox
    [ "$(run c1 cat /proc/self/uid_map | tr -s ' ')" = " 0 100000 1000" ]
    [ "$(run c1 sh -c 'stat -c %u-%g /bin/busybox')" = 0-0 ]
    buildah rm c1
}

builds() {
    echo from outside >"$E2E/context/copied"
    build built <<'END'
FROM busybox
ARG WORD
COPY copied /copied
RUN grep outside /copied && echo built >/built
USER 7
RUN test "$(id -u)" = 7 && ! touch /file
CMD ["cat", "/built"]
END
    buildah from --name c1 built
    says built run c1 cat /built
    buildah rm c1
    says "exit status 3" fails build failed <<<$'FROM busybox\nRUN exit 3'
    says 67108864 build --memory 64m limited <<'END'
FROM busybox
RUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes
END
    buildah rmi built limited
}

prepare
before=$(things | sort -u)
steps runs gives_exit_codes has_a_terminal has_the_rights_it_is_given has_a_user_namespace builds
step nothing_is_left
finish
