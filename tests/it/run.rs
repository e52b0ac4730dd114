//! `tincan run` of a command: its namespaces, its wires, its root and its end.

use std::fs;

use super::bad_input::refused;
use super::host::{Case, Host, tests};

pub fn tests() -> Vec<Case> {
    tests![
        both_ends_have_an_address_and_ping,
        the_exit_code_is_the_commands,
        two_containers_of_one_prefix_are_reachable,
        one_value_wires_both_families,
        a_container_is_wired_to_a_running_one,
        the_network_of_a_container_is_joined,
        cgroups_that_something_is_mounted_over_are_as_none needs [Root],
        the_network_of_a_name_is_joined needs [Root],
        there_is_only_lo_with_none,
        the_hosts_network_is_kept_with_host needs [Root],
        a_namespace_is_shared,
        writes_to_a_rootfs_are_thrown_away,
        writable_writes_through,
        read_only_takes_no_write,
        the_network_has_its_name needs [Root],
        gc_clears_a_killed_run_away needs [Root],
    ]
}

const NET: &str = "172.16.0.1/16";

/// A container that stays.
pub fn stays(host: &Host, name: &str, net: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(net.iter().flat_map(|value| ["--net", *value]));
    args.extend(["--", "sleep", "1000"]);
    host.tincan(args).ok();
}

/// Its end.
pub fn delete(host: &Host, name: &str) {
    host.tincan(["delete", "-f", name]).ok();
}

fn both_ends_have_an_address_and_ping(host: &Host) {
    let script = "ip -br address; ip -o link show up; ping -c1 -W2 172.16.0.2";
    let said = host
        .tincan(["run", "--net", NET, "--", "sh", "-c", script])
        .ok();
    let eth0 = said.lines().find(|line| line.starts_with("eth0")).unwrap();
    assert!(eth0.contains(NET), "{said}");
    // The flag: the operational state follows it some milliseconds later.
    assert!(said.contains("LOWER_UP> mtu 1500"), "{said}");
    let lo = said.lines().find(|line| line.starts_with("lo")).unwrap();
    assert!(lo.contains("127.0.0.1/8"), "{said}");
    assert!(said.contains(" 0% packet loss"), "{said}");
    stays(host, "c", &[NET]);
    host.sh("ping -c1 -W2 172.16.0.1");
    assert!(host.sh("ip -br -4 address").contains("172.16.0.2"));
    delete(host, "c");
}

fn the_exit_code_is_the_commands(host: &Host) {
    host.tincan(["run", "--", "sh", "-c", "exit 3"]).fails(3);
    host.tincan(["run", "--", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"])
        .fails(137);
    host.tincan(["run", "--", "no-such-program"]).fails(127);
    host.tincan(["run", "--", "/no/such/program"]).fails(127);
    fs::write(host.dir().join("plain"), "not a program").unwrap();
    host.tincan(["run", "--", "./plain"]).fails(126);
}

fn two_containers_of_one_prefix_are_reachable(host: &Host) {
    stays(host, "one", &["172.16.0.1/16"]);
    stays(host, "two", &["172.16.0.2/16"]);
    host.sh("ping -c1 -W2 172.16.0.1");
    host.sh("ping -c1 -W2 172.16.0.2");
    delete(host, "one");
    host.sh("ping -c1 -W2 172.16.0.2");
    delete(host, "two");
}

fn one_value_wires_both_families(host: &Host) {
    let said = host
        .tincan([
            "run",
            "--net",
            "172.16.0.1/16,fd00::1/64",
            "--",
            "sh",
            "-c",
            "ping -c1 -W2 172.16.0.2 && ping -c1 -W2 fd00::2 && ip -br address show eth0",
        ])
        .ok();
    assert!(said.contains(NET) && said.contains("fd00::1/64"), "{said}");
}

fn a_container_is_wired_to_a_running_one(host: &Host) {
    stays(host, "ns1", &[NET]);
    host.tincan([
        "run",
        "--net",
        "10.0.0.2/24,to=ns1,peer=10.0.0.1/24",
        "--",
        "ping",
        "-c1",
        "-W2",
        "10.0.0.1",
    ])
    .ok();
    host.sh("ping -c1 -W2 172.16.0.1");
    refused(
        host,
        &[
            "run",
            "--net",
            "10.0.0.2/24,to=ns1,peer=172.16.0.1/16",
            "--",
            "true",
        ],
        "172.16.0.1",
    );
    delete(host, "ns1");
}

/// As for who comes by `ip netns exec`, which mounts a sysfs of the namespace's.
fn cgroups_that_something_is_mounted_over_are_as_none(host: &Host) {
    let wired = format!(
        "unshare -mn sh -euc 'mount -t sysfs sysfs /sys; {} run --net 172.16.0.1/16 -- ip -br -4 address show dev eth0'",
        Host::TINCAN
    );
    let said = host.sh(&wired);
    assert!(said.contains("172.16.0.1/16"), "{said}");
    host.assert_clean();
}

fn the_network_of_a_container_is_joined(host: &Host) {
    stays(host, "ns1", &[NET]);
    let said = host
        .tincan([
            "run",
            "--net",
            "container:ns1",
            "--",
            "ip",
            "-br",
            "address",
        ])
        .ok();
    assert!(said.contains(NET), "{said}");
    delete(host, "ns1");
    host.assert_clean();
    refused(
        host,
        &["run", "--net", "container:ns1", "--", "true"],
        "ns1",
    );
}

fn the_network_of_a_name_is_joined(host: &Host) {
    host.sh("ip netns add blue && ip -n blue link add marked type veth peer name other");
    let said = host
        .tincan(["run", "--net", "ns:blue", "--", "ip", "-br", "link"])
        .ok();
    assert!(said.contains("marked"), "{said}");
    host.sh("ip netns del blue");
    refused(
        host,
        &["run", "--net", "ns:blue", "--", "true"],
        "/run/netns/blue does not exist",
    );
}

fn there_is_only_lo_with_none(host: &Host) {
    host.sh("ip link add marked type veth peer name other");
    let said = host
        .tincan(["run", "--net", "none", "--", "ip", "-br", "address"])
        .ok();
    assert!(said.contains("127.0.0.1/8"), "{said}");
    assert!(!said.contains("marked"), "{said}");
    host.sh("ip link del marked");
}

fn the_hosts_network_is_kept_with_host(host: &Host) {
    let own = host.sh("readlink /proc/self/ns/net");
    let said = host
        .tincan([
            "run",
            "--net",
            "host",
            "--",
            "readlink",
            "/proc/self/ns/net",
        ])
        .ok();
    assert_eq!(said, own);
}

fn a_namespace_is_shared(host: &Host) {
    let script = "readlink /proc/self/ns/uts /proc/self/ns/ipc";
    let own = host.sh(script);
    let said = host
        .tincan(["run", "--share", "uts", "--", "sh", "-c", script])
        .ok();
    let (own, said): (Vec<&str>, Vec<&str>) = (own.lines().collect(), said.lines().collect());
    assert_eq!(own[0], said[0]);
    assert_ne!(own[1], said[1]);
}

/// Runs a line of shell in the busybox root, with one more option.
fn in_rootfs(host: &Host, option: Option<&str>, script: &str) -> Option<i32> {
    let rootfs = host.busybox_rootfs();
    let mut args = vec!["run", "--rootfs", rootfs.to_str().unwrap()];
    args.extend(option);
    args.extend(["--", "sh", "-c", script]);
    host.tincan(args).assert().get_output().status.code()
}

const WRITE: &str = "echo said >/written && test -e /written";

fn writes_to_a_rootfs_are_thrown_away(host: &Host) {
    assert_eq!(in_rootfs(host, None, WRITE), Some(0));
    assert!(!host.busybox_rootfs().join("written").exists());
}

fn writable_writes_through(host: &Host) {
    assert_eq!(in_rootfs(host, Some("--writable"), WRITE), Some(0));
    let written = fs::read_to_string(host.busybox_rootfs().join("written"));
    assert_eq!(written.unwrap(), "said\n");
}

fn read_only_takes_no_write(host: &Host) {
    assert_eq!(
        in_rootfs(host, Some("--read-only"), "test -x /bin/sh"),
        Some(0)
    );
    assert_eq!(in_rootfs(host, Some("--read-only"), WRITE), Some(1));
    assert!(!host.busybox_rootfs().join("written").exists());
}

fn the_network_has_its_name(host: &Host) {
    let args = ["run", "-d", "--name", "c", "--net", NET];
    host.tincan(
        args.iter()
            .chain(&["--netns-name=blue", "--", "sleep", "1000"]),
    )
    .ok();
    assert!(host.sh("ip netns list").contains("blue"));
    assert!(host.sh("ip -n blue -br address show eth0").contains(NET));
    delete(host, "c");
    assert!(!host.sh("ip netns list").contains("blue"));
}

fn gc_clears_a_killed_run_away(host: &Host) {
    let script = "touch ready; sleep 1000";
    let mut child = host
        .tincan([
            "run",
            "--name",
            "c",
            "--net",
            NET,
            "--netns-name",
            "--",
            "sh",
            "-c",
            script,
        ])
        .spawn();
    host.wait_until("the command is ready", || host.dir().join("ready").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    host.tincan(["gc"]).ok();
    host.assert_clean();
}
