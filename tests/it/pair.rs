//! `tincan pair`: two containers and one wire, with nothing on the host.

use super::host::{Case, Host, tests};

pub fn tests() -> Vec<Case> {
    tests![
        the_exit_code_is_the_commands,
        the_wire_has_both_ends_and_the_host_none,
        the_second_end_is_up_and_has_its_address,
        without_a_command_both_stay,
        a_running_container_is_wired_as_it_is,
        each_end_has_its_keys_and_its_root,
        who_holds_reaps_and_goes_when_told,
    ]
}

const A: &str = "a=172.16.0.1/16";
const B: &str = "b=172.16.0.2/16";

fn the_exit_code_is_the_commands(host: &Host) {
    host.tincan(["pair", A, B, "--", "sh", "-c", "exit 7"])
        .fails(7);
    host.tincan(["pair", A, B, "--", "no-such-program"])
        .fails(127);
}

fn the_wire_has_both_ends_and_the_host_none(host: &Host) {
    let before = host.sh("ip -o link");
    let said = host
        .tincan([
            "pair",
            A,
            B,
            "--",
            "sh",
            "-c",
            "ping -c1 -W2 172.16.0.2; ip -o -4 address",
        ])
        .ok();
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert!(said.contains("eth0    inet 172.16.0.1/16"), "{said}");
    assert_eq!(host.sh("ip -o link"), before);
}

fn the_second_end_is_up_and_has_its_address(host: &Host) {
    host.tincan([
        "pair",
        A,
        "b=172.16.0.2/16,mtu=1400,mac=02:00:00:00:00:02,name=left",
    ])
    .ok();
    let said = host
        .tincan(["exec", "b", "ip", "address", "show", "left"])
        .ok();
    for part in ["mtu 1400", "02:00:00:00:00:02", "172.16.0.2/16", "state UP"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    host.tincan(["delete", "-f", "a"]).ok();
    host.tincan(["delete", "-f", "b"]).ok();
}

fn without_a_command_both_stay(host: &Host) {
    let before = host.sh("ip -o link");
    host.tincan(["pair", A, B]).ok();
    assert_eq!(host.sh("ip -o link"), before);
    host.tincan(["exec", "a", "ping", "-c1", "-W2", "172.16.0.2"])
        .ok();
    let table = host.tincan(["list"]).ok();
    let row = table.lines().find(|line| line.starts_with("a ")).unwrap();
    for part in ["running", "eth0 172.16.0.1/16", "eth0 b:eth0"] {
        assert!(row.contains(part), "no {part} in {table}");
    }
    let json = host.tincan(["list", "--format", "json"]).ok();
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows[0]["id"], "a");
    assert_eq!(rows[0]["peers"][0], "eth0 b:eth0");
    assert_eq!(rows[1]["id"], "b");
    assert_eq!(rows[1]["addresses"][0], "eth0 172.16.0.2/16");
    assert_eq!(rows[1]["peers"][0], "eth0 a:eth0");
    let said = host.tincan(["delete", "a"]).fails(125);
    assert!(said.contains("running"), "{said}");
    host.tincan(["delete", "-f", "a"]).ok();
    host.tincan(["delete", "-f", "b"]).ok();
    assert_eq!(host.tincan(["list", "-q"]).ok(), "");
}

fn a_running_container_is_wired_as_it_is(host: &Host) {
    host.tincan(["run", "-d", "--name", "b", "--", "sleep", "1000"])
        .ok();
    host.tincan(["pair", A, B, "--", "ping", "-c1", "-W2", "172.16.0.2"])
        .ok();
    // The wire went with the container at its other end, and the one that was there before stays.
    assert_eq!(host.tincan(["list", "-q"]).ok(), "b\n");
    host.tincan(["delete", "-f", "b"]).ok();
}

fn each_end_has_its_keys_and_its_root(host: &Host) {
    let busybox = host.busybox_rootfs();
    let first = format!(
        "a=172.16.0.1/16,fd00::1/64,mac=02:00:00:00:00:01,gw=172.16.0.2,name=left,rootfs={}",
        busybox.display()
    );
    let second = "b=172.16.0.2/16,fd00::2/64,mtu=1400,route=10.0.0.0/8@172.16.0.1,name=right";
    let look = "ip address show left; ip route; ping -c1 -W2 172.16.0.2; ping -c1 -W2 fd00::2; [ -e /etc/debian_version ] || echo own root";
    let said = host
        .tincan(["pair", &first, second, "--", "sh", "-c", look])
        .ok();
    for part in [
        "02:00:00:00:00:01",
        "mtu 1400",
        "172.16.0.1/16",
        "fd00::1/64",
        "default via 172.16.0.2 dev left",
        "own root",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    assert_eq!(said.matches(" 0% packet loss").count(), 2, "{said}");
    // The second end's, and one root for both.
    let rootfs = busybox.to_str().expect("text");
    host.tincan(["pair", "--rootfs", rootfs, A, second]).ok();
    let look = "ip address show right; ip route; [ -e /etc/debian_version ] || echo own root";
    let said = host.tincan(["exec", "b", "sh", "-c", look]).ok();
    for part in [
        "mtu 1400",
        "172.16.0.2/16",
        "fd00::2/64",
        "10.0.0.0/8 via 172.16.0.1 dev right",
        "own root",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    host.tincan(["delete", "-f", "a"]).ok();
    host.tincan(["delete", "-f", "b"]).ok();
}

fn who_holds_reaps_and_goes_when_told(host: &Host) {
    host.tincan(["pair", A, B]).ok();
    // Its parent ends first, so that it becomes a child of the container's first process, and then ends as well.
    host.tincan(["exec", "a", "sh", "-c", "sh -c 'exec sleep 0.01' & exit"])
        .ok();
    let others = "for d in /proc/[0-9]*; do [ $d = /proc/1 ] || [ $d = /proc/$$ ] || echo $d; done";
    host.wait_until("the orphan is reaped", || {
        host.tincan(["exec", "a", "sh", "-c", others])
            .ok()
            .is_empty()
    });
    for name in ["a", "b"] {
        host.tincan(["kill", name]).ok();
        host.wait_until("it is stopped", || {
            host.tincan(["state", name]).ok().contains("\"stopped\"")
        });
        host.tincan(["delete", name]).ok();
    }
}
