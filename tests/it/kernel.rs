//! What network testers do in containers with what their kernel has, and what only some kernels have.

use serde_json::json;

use super::host::{Case, Host, tests};

pub fn tests() -> Vec<Case> {
    tests![
        a_wire_is_delayed needs [Netem],
        a_wire_carries_vlans needs [Vlan],
        an_ipvlan_shares_an_end needs [Ipvlan],
        a_container_has_a_tunnel needs [Wireguard],
        a_container_has_a_dummy needs [Dummy],
        a_container_has_netkit needs [Netkit],
        v1_limits_are_in_their_hierarchies needs [Root, CgroupV1],
        v2_limits_and_unified_ones_are_in_the_cgroup needs [Root, CgroupV2],
        v2_device_rules_are_enforced needs [Root, CgroupV2],
        pressure_is_told_of_a_container needs [Root, CgroupV2, Psi],
    ]
}

/// What a line of shell prints in `a`, which is wired to `b`.
fn in_pair(host: &Host, script: &str) -> String {
    let pair = [
        "pair",
        "a=10.0.0.1/24",
        "b=10.0.0.2/24",
        "--",
        "sh",
        "-euc",
        script,
    ];
    host.tincan(pair).ok()
}

fn a_wire_is_delayed(host: &Host) {
    let said = in_pair(
        host,
        "tc qdisc add dev eth0 root netem delay 300ms; ping -q -c2 -W5 10.0.0.2",
    );
    // The shortest of them: rtt min/avg/max/mdev = 300.1/…
    let shortest = said
        .rsplit("= ")
        .next()
        .and_then(|times| times.split('/').next());
    let shortest: f64 = shortest.unwrap().parse().unwrap();
    assert!(shortest >= 300.0, "{said}");
}

fn a_wire_carries_vlans(host: &Host) {
    host.tincan(["pair", "a=10.0.0.1/24", "b=10.0.0.2/24"]).ok();
    for (name, address) in [("a", "10.5.0.1/24"), ("b", "10.5.0.2/24")] {
        let add = format!(
            "ip link add link eth0 name eth0.5 type vlan id 5; ip address add {address} dev eth0.5; ip link set eth0.5 up"
        );
        host.tincan(["exec", name, "sh", "-euc", &add]).ok();
    }
    host.tincan(["exec", "a", "ping", "-c1", "-W5", "10.5.0.2"])
        .ok();
    for name in ["a", "b"] {
        host.tincan(["delete", "--force", name]).ok();
    }
}

fn an_ipvlan_shares_an_end(host: &Host) {
    let said = in_pair(
        host,
        "ip link add link eth0 name shared type ipvlan mode l2; ip link set shared up; ip -br link show shared; \
         cat /sys/class/net/eth0/address /sys/class/net/shared/address",
    );
    let words: Vec<&str> = said.split_whitespace().collect();
    assert!(said.starts_with("shared@eth0"), "{said}");
    assert_eq!(words[words.len() - 1], words[words.len() - 2], "{said}");
}

fn a_container_has_a_tunnel(host: &Host) {
    let said = in_pair(host, "ip link add wg0 type wireguard; ip -d link show wg0");
    assert!(said.contains("wireguard"), "{said}");
}

fn a_container_has_a_dummy(host: &Host) {
    let said = in_pair(
        host,
        "ip link add d0 type dummy; ip address add 10.9.0.1/24 dev d0; ip link set d0 up; ping -q -c1 -W5 10.9.0.1",
    );
    assert!(said.contains(" 0% packet loss"), "{said}");
}

fn a_container_has_netkit(host: &Host) {
    let said = in_pair(host, "ip link add k0 type netkit; ip -d link show k0");
    assert!(said.contains("netkit"), "{said}");
}

/// Runs a line of shell on the host while a bundle with these resources runs as `c1`.
fn beside_limits(host: &Host, resources: serde_json::Value, script: &str) -> String {
    let bundle = host.bundle("limits", |spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
        spec["linux"]["resources"] = resources;
    });
    let line = format!(
        "{} run --detach --bundle {} c1 </dev/null >/dev/null 2>&1; {script}",
        Host::TINCAN,
        bundle.display()
    );
    let said = host.sh(&line);
    host.tincan(["delete", "--force", "c1"]).ok();
    said
}

fn v1_limits_are_in_their_hierarchies(host: &Host) {
    let said = beside_limits(
        host,
        json!({"memory": {"limit": 33_554_432}}),
        "cat /sys/fs/cgroup/memory/tincan/c1/memory.limit_in_bytes",
    );
    assert_eq!(said, "33554432\n");
}

fn v2_limits_and_unified_ones_are_in_the_cgroup(host: &Host) {
    let said = beside_limits(
        host,
        json!({
            "memory": {"limit": 33_554_432},
            "pids": {"limit": 77},
            "cpu": {"quota": 50_000, "period": 100_000},
            "unified": {"memory.high": "30000000", "cpu.weight.nice": "5"},
        }),
        "cd /sys/fs/cgroup/tincan/c1; cat memory.max pids.max cpu.max memory.high cpu.weight.nice",
    );
    // The kernel counts in pages.
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines, ["33554432", "77", "50000 100000", "29999104", "5"]);
}

fn v2_device_rules_are_enforced(host: &Host) {
    // The same node and the same rights; the rule alone differs.
    for (allow, code) in [(true, "0\n"), (false, "1\n")] {
        let bundle = host.bundle(if allow { "allowed" } else { "denied" }, |spec| {
            // The kernel's log: no device that containers may use by default, and anybody may write to it.
            let script = "mknod /tmp/k c 1 11 && echo test 2>/dev/null >/tmp/k; echo $?";
            spec["process"]["args"] = json!(["sh", "-c", script]);
            for set in ["effective", "permitted", "bounding"] {
                spec["process"]["capabilities"][set] = json!(["CAP_MKNOD"]);
            }
            spec["root"]["readonly"] = json!(false);
            spec["linux"]["resources"] = json!({"devices": [
                {"allow": false, "access": "rwm"},
                {"allow": allow, "type": "c", "major": 1, "minor": 11, "access": "w"},
            ]});
        });
        let run = ["run", "--bundle", bundle.to_str().unwrap(), "c1"];
        assert_eq!(host.tincan(run).ok(), code, "{allow}");
    }
}

fn pressure_is_told_of_a_container(host: &Host) {
    let said = beside_limits(host, json!({}), "cat /sys/fs/cgroup/tincan/c1/cpu.pressure");
    assert!(said.starts_with("some avg10="), "{said}");
}
