# shellcheck shell=bash
# What the scripts here have in common. Each of them begins with `. host.sh` and is then, started anew, the first process of a disposable
# host: new namespaces of all kinds but user, a sub-tree in each cgroup hierarchy, a copy of /etc, and an empty /run, /var/lib, /var/tmp,
# /opt and /dev/shm, in memory. $E2E is a directory to work in, with the root file system of a busybox in `rootfs`.
#
# In a virtual machine of its own (see vm.sh) that is not needed: with TINCAN_TEST_OWN_MACHINE the script runs where it is, on cgroups of
# version 2 with systemd, as root or as a user.
#
# TINCAN is the program, target/tincan by default. RUNTIME is the runtime that the client is to use, tincan by default; RUNTIME=runc
# shows what the client and the machine do without tincan. With ONLY=NAME just the steps with that in their names are taken.

set -euo pipefail
here=$(dirname "$(realpath "$0")")
tincan=$(realpath "${TINCAN:-$here/../../target/tincan}")
runtime=$(realpath "$(command -v "${RUNTIME:-$tincan}")")
# Debian's clients.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

# How long the whole script may take, and one command or one condition in it.
script_limit=600
command_limit=$((60 * ${TINCAN_TEST_SLOWNESS:-1}))

# The mount point, type and options of each cgroup hierarchy; of a v1 mount's options, those that say which it is.
hierarchies() {
    awk '$5 ~ "^/sys/fs/cgroup" {
        for (i = 7; $i != "-"; i++);
        if ($(i + 1) !~ /^cgroup2?$/) next
        of = ""
        n = split($(i + 3), options, ",")
        for (o = 1; $(i + 1) == "cgroup" && o <= n; o++)
            if (options[o] !~ /^(rw|ro|xattr|clone_children|noprefix|cpuset_v2_mode|release_agent=.*)$/)
                of = of "," options[o]
        print $5, $(i + 1), substr(of, 2)
    }' /proc/self/mountinfo
}

# Makes the namespaces and the cgroups, runs the script there, and looks afterwards whether a cgroup is left.
make_host() {
    local at file code=0
    [ "$(id -u)" = 0 ] || { echo "$0 needs root: it makes a disposable host" >&2; exit 1; }
    [ ! -e /sys/fs/cgroup/cgroup.controllers ] || { echo "$0 reads what cgroups of version 1 have" >&2; exit 1; }
    own=tincan-e2e-$$
    child=
    trap 'end_host' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    while read -r at _; do
        mkdir "$at/$own"
        # Without these no process may join (cpuset(7)).
        for file in cpuset.cpus cpuset.mems; do
            [ ! -e "$at/$own/$file" ] || cat "$at/$file" >"$at/$own/$file"
        done
    done < <(hierarchies)
    (
        while read -r at _; do
            echo $BASHPID >"$at/$own/cgroup.procs"
        done < <(hierarchies)
        # SIGKILL at once, and after another signal: unshare(1) waits for its child whatever comes, and takes it along when it dies.
        E2E=/run/e2e exec timeout --foreground -s KILL -k 1 "$script_limit" unshare --mount --net --pid --uts --ipc --cgroup --fork \
            --kill-child bash "$0"
    ) &
    child=$!
    wait $child || code=$?
    child=
    [ $code != 137 ] || echo "$0 took longer than $script_limit s" >&2
    exit "$code"
}

# Ends the host, if it is still there, and removes its cgroups.
end_host() {
    local code=$?
    if [ -n "$child" ]; then
        kill $child
        wait $child || :
    fi
    remove_cgroups || code=1
    exit $code
}

# Removes the host's cgroups. What is in them was left.
remove_cgroups() {
    local at dir result=0
    while read -r at _; do
        while read -r dir; do
            [ "$dir" = "$at/$own" ] || { echo "left behind: cgroup $dir"; result=1; }
            # A process that was killed is in it until it is gone.
            within rmdir "$dir" 2>/dev/null || { echo "cannot be removed: cgroup $dir"; result=1; }
        done < <(find "$at/$own" -depth -type d)
    done < <(hierarchies)
    return $result
}

# Gives the namespaces their own view of the kernel, and directories of their own.
mount_everything() {
    local trees at kind options place
    trees=$(hierarchies)
    mount --make-rprivate /
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    for place in /run /var/lib /var/tmp /opt /dev/shm; do
        mount -t tmpfs -o mode=755 tmpfs "$place"
    done
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    while read -r at kind options; do
        mkdir -p "$at"
        mount -t "$kind" ${options:+-o "$options"} cgroup "$at"
    done <<<"$trees"
    mkdir -p "$E2E/tmp"
    cp -a /etc "$E2E/etc"
    mount --bind "$E2E/etc" /etc
    # Clients leave things in these, too.
    export TMPDIR=$E2E/tmp HOME=$E2E
    ip link set lo up
    "$here/../../rootfs-examples/busybox/make.sh" "$E2E/rootfs"
    # conmon writes a file `oom` where it is called.
    cd "$E2E"
}

# One line for each thing that may be left.
things() {
    local -
    set +x
    local pid own_group
    ip -o -br link | awk '{ print "link", $1 }'
    ip netns list | sed 's/^/netns /'
    # systemd mounts that one when somebody opens /dev/fuse.
    awk '$5 != "/sys/fs/fuse/connections" { print "mount", $5 }' /proc/self/mountinfo
    if [ -n "$own_machine" ]; then
        # systemd's own services come and go.
        find /sys/fs/cgroup -type d -name '*libpod*' | sed 's/^/cgroup /'
        find "${XDG_RUNTIME_DIR:-/run}/tincan" -mindepth 1 2>/dev/null | sed 's/^/state /'
        find /proc -maxdepth 2 -name exe -lname "$runtime" 2>/dev/null | sed 's/^/process /'
        # shellcheck disable=SC2086 # a word or none
        systemctl $as_user list-units --all --plain --no-legend '*libpod*' | awk '{ print "unit", $1 }'
        return
    fi
    find /sys/fs/cgroup -mindepth 2 -type d | sed 's/^/cgroup /'
    find /run/tincan -mindepth 1 2>/dev/null | sed 's/^/state /'
    # The script's own group, with the daemon that it started, does not count.
    own_group=$(group 1)
    for pid in /proc/[0-9]*; do
        pid=${pid#/proc/}
        [ "$(group "$pid")" = "$own_group" ] || echo "process $pid $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")"
    done
}

# group PID: its process group (proc_pid_stat(5)), or the script's own when it is gone.
group() {
    local stat
    read -r stat 2>/dev/null <"/proc/$1/stat" || stat=") gone 0 $own_group"
    # shellcheck disable=SC2086 # words
    set -- ${stat##*) }
    echo "$3"
}

# within CONDITION...: waits until the command succeeds.
within() {
    local -
    set +x
    local end=$((SECONDS + command_limit))
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

# limited COMMAND...: ends what takes too long.
limited() {
    local -
    set +x
    timeout --foreground -k 5 "$command_limit" "$@"
}

# says TEXT COMMAND...: it succeeds, and prints this among other things.
says() {
    local -
    set +x
    local text=$1 said
    shift
    said=$("$@" 2>&1) || { echo "$said"; echo "failed: $*"; return 1; }
    case $said in
    *"$text"*) ;;
    *) echo "$said"; echo "not there: $text"; return 1 ;;
    esac
}

# exits CODE COMMAND...
exits() {
    local -
    set +x
    local wanted=$1 said code=0
    shift
    said=$("$@" 2>&1) || code=$?
    [ "$code" = "$wanted" ] || { echo "$said"; echo "exit code $code, not $wanted: $*"; return 1; }
}

# fails COMMAND...: it does, and not by taking too long.
fails() {
    local -
    set +x
    local code=0
    "$@" || code=$?
    [ $code != 0 ] && [ $code != 124 ]
}

# on_terminal COMMAND [INPUT]: runs a line of shell on a terminal of its own, on which this line is typed.
on_terminal() {
    local -
    set +x
    # Open for both, so that no end comes of what is typed: it would end what runs.
    rm -f "$E2E/typed"
    mkfifo "$E2E/typed"
    exec 8<>"$E2E/typed"
    [ $# = 1 ] || echo "$2" >&8
    limited script -qec "$1" /dev/null <&8 | tr -d '\r'
}

passed=0
failed=0
skipped=0

# step FUNCTION: one named check. What it did is shown when it fails, and the script's `clear_away` removes what it may have left.
step() {
    local code
    case $1 in
    nothing_is_left | *"${ONLY:-}"*) ;;
    *) return 0 ;;
    esac
    # To a file, of which nobody waits for the end, as for that of a pipe which a container left behind holds.
    set +e
    (exec >"$E2E/said" 2>&1 7>&1; BASH_XTRACEFD=7; set -ex; "$1")
    code=$?
    set -e
    if [ $code = 0 ]; then
        echo "ok $1"
        passed=$((passed + 1))
    else
        echo "FAILED $1"
        sed 's/^/    /' "$E2E/said"
        failed=$((failed + 1))
        clear_away
    fi
}

# steps FUNCTION...
steps() {
    local function
    for function; do
        step "$function"
    done
}

# skip FUNCTION WHY
skip() {
    echo "skipped $1: $2"
    skipped=$((skipped + 1))
}

# Whether all is as it was when `before` was taken.
nothing_new() {
    [ -z "$(comm -13 <(echo "$before") <(things | sort -u))" ]
}

nothing_is_left() {
    local -
    set +x
    within nothing_new || { comm -13 <(echo "$before") <(things | sort -u); return 1; }
}

# Prints the sum, and ends the script.
finish() {
    echo "$(basename "$0" .sh) with $(basename "$runtime"): $passed ok, $failed failed, $skipped skipped"
    [ "$failed" = 0 ] || exit 1
    exit 0
}

# Of a machine that is the script's own.
own_machine=${TINCAN_TEST_OWN_MACHINE:-}
as_user=
if [ -n "$own_machine" ]; then
    [ "$(id -u)" = 0 ] || as_user=--user
    E2E=$(mktemp -d)
    "$here/../../rootfs-examples/busybox/make.sh" "$E2E/rootfs"
    cd "$E2E"
else
    [ "${E2E:-}" = /run/e2e ] && [ $$ = 1 ] || make_host
    mount_everything
fi
