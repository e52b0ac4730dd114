//! The disposable host itself: what is left on it is found.

use std::fs;
use std::path::Path;

use super::host::{Case, Host, tests};

pub fn tests() -> Vec<Case> {
    tests![
        a_new_host_has_lo_and_nothing_else,
        a_leaked_link_is_found,
        a_lost_address_is_found,
        a_leaked_mount_is_found needs [Root],
        a_leaked_name_is_found needs [Root],
        a_leaked_process_is_found needs [Root],
        an_orphan_is_reaped needs [Root],
        a_leaked_cgroup_is_found needs [Root],
        leaked_state_is_found needs [Root],
        a_busybox_rootfs_works,
    ]
}

/// Asserts that the host differs by one thing of this kind.
#[track_caller]
fn assert_found(host: &Host, what: &str) {
    let found = host.differences();
    assert!(
        found.iter().any(|fact| fact.starts_with(what)),
        "{what} is not in {found:?}"
    );
}

fn a_new_host_has_lo_and_nothing_else(host: &Host) {
    let links = host.sh("ip -br link | cut -d' ' -f1");
    assert!(
        links
            .lines()
            .all(|link| link == "lo" || host.sh("cat /proc/1/net/dev").contains(link))
    );
    host.sh("ping -c1 -W1 127.0.0.1");
    assert_eq!(host.sh("ls /run"), "user\nwork\n");
    assert_eq!(host.differences(), Vec::<String>::new());
}

fn a_leaked_link_is_found(host: &Host) {
    host.sh("ip link add left type veth peer name right");
    assert_found(host, "left behind: link: left");
    host.sh("ip link del left");
}

fn a_lost_address_is_found(host: &Host) {
    host.sh("ip address del 127.0.0.1/8 dev lo");
    assert_found(host, "lost: address: lo");
    host.sh("ip address add 127.0.0.1/8 dev lo scope host");
}

fn a_leaked_mount_is_found(host: &Host) {
    host.sh("mkdir here && mount -t tmpfs tmpfs here");
    assert_found(host, "left behind: mount:");
    host.sh("umount here");
}

fn a_leaked_name_is_found(host: &Host) {
    host.sh("ip netns add blue");
    assert_found(host, "left behind: named network namespace: blue");
    host.sh("ip netns del blue");
}

fn a_leaked_process_is_found(host: &Host) {
    let mut child = host.command("sleep", ["1000"]).spawn();
    assert_found(host, &format!("left behind: process: {} ", child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn an_orphan_is_reaped(host: &Host) {
    let pid = host.sh("sleep 1000 >&- 2>&- & echo $!");
    let pid = pid.trim();
    assert_found(host, &format!("left behind: process: {pid} "));
    host.sh(&format!("kill {pid}"));
    host.wait_until("the orphan is gone", || {
        !Path::new("/proc").join(pid).exists()
    });
}

fn a_leaked_cgroup_is_found(host: &Host) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let cgroups = mounts.lines().filter(|line| line.starts_with("cgroup "));
    for hierarchy in cgroups.filter_map(|line| line.split(' ').nth(1)) {
        let left = Path::new(hierarchy).join("left");
        fs::create_dir(&left).unwrap();
        assert_found(host, &format!("left behind: cgroup: {}", left.display()));
        fs::remove_dir(left).unwrap();
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert!(
        own.lines()
            .all(|line| line.ends_with(":/") || line == "0::/session"),
        "{own}"
    );
}

fn leaked_state_is_found(host: &Host) {
    host.sh("mkdir -p /run/tincan/ns1");
    assert_found(host, "left behind: state: /run/tincan/ns1");
    host.sh("rm -r /run/tincan");
}

fn a_busybox_rootfs_works(host: &Host) {
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    assert_eq!(
        host.command("chroot", [rootfs, "/bin/sh", "-c", "echo works"])
            .ok(),
        "works\n"
    );
    host.command("chroot", [rootfs, "/bin/sh", "-c", "exit 3"])
        .fails(3);
    assert_eq!(
        host.command("cat", ["-"])
            .stdin("said")
            .env("A", "b")
            .in_dir("/")
            .ok(),
        "said"
    );
}
