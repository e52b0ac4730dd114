//! Running containers that come to networks and leave them.

use serde_json::Value;

use super::bad_input::refused;
use super::host::{Case, Host, tests, tincan};
use super::network::{create, delete, reaches, remove, stay};

pub fn tests() -> Vec<Case> {
    tests![
        a_container_comes_to_a_network_and_leaves needs [Nftables],
        names_follow_who_comes_and_leaves needs [Nftables],
        ports_go_with_the_network_that_they_came_by needs [Nftables],
        the_way_out_goes_over_to_another_network needs [Nftables],
        what_is_asked_for_is_had needs [Nftables],
        what_cannot_be_is_refused needs [Nftables],
        several_at_once_do_not_meddle needs [Root, Nftables],
        names_come_when_they_can needs [Nftables],
        who_comes_and_leaves_at_random_loses_nothing needs [Nftables],
    ]
}

const LAN0: [&str; 5] = ["lan0", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64"];
const LAN1: [&str; 5] = ["lan1", "--subnet", "10.8.0.0/24", "--subnet", "fd08::/64"];

fn connect(host: &Host, words: &[&str]) {
    host.tincan(["network", "connect"].iter().chain(words)).ok();
}

fn disconnect(host: &Host, network: &str, container: &str) {
    host.tincan(["network", "disconnect", network, container])
        .ok();
}

/// Who has addresses of a network, by the state on disk.
fn leases(host: &Host, network: &str) -> Vec<String> {
    let said = host.tincan(["network", "inspect", network]).ok();
    let network: Value = serde_json::from_str(&said).unwrap();
    let containers = network["containers"].as_array().unwrap();
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    containers
        .iter()
        .map(|it| text(&it["container"]) + " " + &text(&it["address"]))
        .collect()
}

fn inside(host: &Host, container: &str, line: &str) -> String {
    host.tincan(["exec", container, "sh", "-c", line]).ok()
}

fn a_container_comes_to_a_network_and_leaves(host: &Host) {
    create(host, &LAN0);
    create(host, &LAN1);
    stay(host, "a", "lan0");
    stay(host, "b", "lan1");
    host.tincan(["run", "-d", "--name", "alone", "--", "sleep", "1000"])
        .ok();
    connect(host, &["lan1", "a"]);
    for to in ["10.8.0.2", "fd08::2", "10.8.0.1", "fd08::1", "10.9.0.1"] {
        reaches(host, "a", to, true);
    }
    // It had a way out already, and keeps that.
    let routes = inside(host, "a", "ip route show default; ip -6 route show default");
    assert_eq!(routes.matches("default").count(), 2, "{routes}");
    assert!(routes.contains("via 10.9.0.1 dev eth0"), "{routes}");
    connect(host, &["lan0", "alone"]);
    let routes = inside(
        host,
        "alone",
        "ip route show default; ip -6 route show default",
    );
    assert!(routes.contains("via 10.9.0.1 dev eth0"), "{routes}");
    assert!(routes.contains("via fd09::1 dev eth0"), "{routes}");
    reaches(host, "alone", "10.9.0.2", true);
    assert_eq!(
        leases(host, "lan1"),
        ["b 10.8.0.2", "a 10.8.0.3", "b fd08::2", "a fd08::3"]
    );
    let listed = host.tincan(["list"]).ok();
    assert!(listed.contains("eth1 lan1:"), "{listed}");
    disconnect(host, "lan1", "a");
    reaches(host, "a", "10.8.0.2", false);
    reaches(host, "a", "10.9.0.3", true);
    assert_eq!(leases(host, "lan1"), ["b 10.8.0.2", "b fd08::2"]);
    assert_eq!(inside(host, "a", "ip -br link | grep -c eth"), "1\n");
    // And again, by the same address.
    connect(host, &["lan1", "a"]);
    assert_eq!(leases(host, "lan1").len(), 4);
    // The network that it was born with, too.
    disconnect(host, "lan0", "a");
    reaches(host, "a", "10.9.0.3", false);
    reaches(host, "a", "10.8.0.2", true);
    // Its way out was by that one, and is by the other now.
    let defaults = "ip route show default; ip -6 route show default";
    let routes = inside(host, "a", defaults);
    assert!(routes.contains("via 10.8.0.1 dev eth1"), "{routes}");
    assert!(routes.contains("via fd08::1 dev eth1"), "{routes}");
    // One that it had not does not come.
    host.tincan([
        "link",
        "set",
        "a",
        "eth1",
        "--del-route",
        "0.0.0.0/0@10.8.0.1",
    ])
    .ok();
    connect(host, &["lan0", "a"]);
    host.tincan([
        "link",
        "set",
        "a",
        "eth0",
        "--del-route",
        "default@10.9.0.1",
    ])
    .ok();
    disconnect(host, "lan0", "a");
    let routes = inside(host, "a", defaults);
    assert!(routes.starts_with("default via fd08::1"), "{routes}");
    delete(host, &["a", "b", "alone"]);
    assert!(leases(host, "lan0").is_empty() && leases(host, "lan1").is_empty());
    remove(host, "lan0");
    remove(host, "lan1");
}

fn names_follow_who_comes_and_leaves(host: &Host) {
    create(host, &LAN0);
    create(host, &LAN1);
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    for (name, net) in [("web", "lan0"), ("db", "lan1"), ("late", "none")] {
        let run = [
            "run", "-d", "--rootfs", rootfs, "--name", name, "--net", net, "--", "sleep", "1000",
        ];
        host.tincan(run).ok();
    }
    let known = |from: &str, name: &str| {
        let hosts = inside(host, from, "cat /etc/hosts 2>/dev/null || :");
        let has = |line: &&str| line.split_whitespace().skip(1).any(|word| word == name);
        hosts.lines().filter(has).count()
    };
    assert_eq!(known("web", "db"), 0);
    connect(host, &["lan1", "web", "--alias", "www"]);
    for (from, name, times) in [
        ("web", "db", 2),
        ("db", "web", 2),
        ("db", "www", 2),
        ("web", "web", 4),
    ] {
        assert_eq!(known(from, name), times, "{name} in {from}");
    }
    host.tincan(["exec", "web", "ping", "-c1", "-W5", "db"])
        .ok();
    connect(host, &["lan1", "late"]);
    assert_eq!(known("web", "late"), 2);
    assert_eq!(known("late", "db"), 2);
    assert_eq!(known("late", "localhost"), 2);
    disconnect(host, "lan1", "web");
    for (from, name, times) in [
        ("web", "db", 0),
        ("web", "late", 0),
        ("web", "web", 2),
        ("db", "web", 0),
        ("db", "www", 0),
    ] {
        assert_eq!(known(from, name), times, "{name} in {from}");
    }
    // It has left the network whose file it had.
    disconnect(host, "lan1", "db");
    assert_eq!(known("db", "late"), 0);
    assert_eq!(known("db", "localhost"), 2);
    delete(host, &["web", "db", "late"]);
    remove(host, "lan0");
    remove(host, "lan1");
}

fn ports_go_with_the_network_that_they_came_by(host: &Host) {
    create(host, &LAN0);
    host.tincan(["run", "-d", "--name", "a", "--", "sleep", "1000"])
        .ok();
    refused(
        host,
        &["network", "publish", "a", "8080:80"],
        "a is on no network that leads outside",
    );
    connect(host, &["lan0", "a"]);
    host.tincan(["network", "publish", "a", "8080:80"]).ok();
    let rules = || host.sh("nft list table inet tincan-lan0");
    assert!(rules().contains("tcp . 8080 "), "{}", rules());
    disconnect(host, "lan0", "a");
    assert!(!rules().contains("elements"), "{}", rules());
    refused(
        host,
        &["network", "unpublish", "a", "8080"],
        "publishes no port 8080/tcp; it publishes none",
    );
    delete(host, &["a"]);
    remove(host, "lan0");
}

fn the_way_out_goes_over_to_another_network(host: &Host) {
    create(host, &LAN0);
    create(host, &["inner", "--subnet", "10.7.0.0/24", "--internal"]);
    create(
        host,
        &["lan1", "--subnet", "10.8.0.0/24", "--subnet", "fd08::/64"],
    );
    stay(host, "a", "lan0");
    let ways = || {
        let line = "ip route show default; ip -6 route show default | cut -d' ' -f1-5";
        inside(host, "a", line)
    };
    for network in ["inner", "lan1"] {
        connect(host, &[network, "a"]);
    }
    disconnect(host, "lan0", "a");
    assert_eq!(
        ways(),
        "default via 10.8.0.1 dev eth2 \ndefault via fd08::1 dev eth2\n"
    );
    // One that is not the way out changes nothing, and after the last there is none.
    connect(host, &["lan0", "a"]);
    disconnect(host, "lan0", "a");
    assert!(ways().contains("10.8.0.1"), "{}", ways());
    // It goes over as often as need be, whichever way out it was that the container came with.
    connect(host, &["lan0", "a"]);
    disconnect(host, "lan1", "a");
    assert_eq!(
        ways(),
        "default via 10.9.0.1 dev eth0 \ndefault via fd09::1 dev eth0\n"
    );
    disconnect(host, "lan0", "a");
    assert_eq!(ways(), "");
    delete(host, &["a"]);
    for network in ["lan0", "inner", "lan1"] {
        remove(host, network);
    }
}

fn what_is_asked_for_is_had(host: &Host) {
    create(host, &LAN0);
    host.tincan(["run", "-d", "--name", "a", "--", "sleep", "1000"])
        .ok();
    let net = "lan0,10.9.0.7,mac=02:00:00:00:00:07,name=up0,mtu=1400,route=10.1.0.0/16@10.9.0.9";
    connect(host, &[net, "a"]);
    let said = inside(host, "a", "ip address show up0; ip route");
    for text in [
        "10.9.0.7/24",
        "fd09::2/64",
        "02:00:00:00:00:07",
        "mtu 1400",
        "10.1.0.0/16 via 10.9.0.9",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    delete(host, &["a"]);
    remove(host, "lan0");
}

fn what_cannot_be_is_refused(host: &Host) {
    create(host, &LAN0);
    create(host, &LAN1);
    stay(host, "a", "lan0");
    stay(host, "b", "lan0");
    for (words, wrong) in [
        (["connect", "lan0", "a"], "a is on network lan0 already"),
        (["connect", "lan9", "a"], "network lan9 does not exist"),
        (["connect", "lan1", "nobody"], "nobody"),
        (["connect", "lan1,10.9.0.7", "a"], "is outside lan1"),
        (
            ["connect", "lan1,name=eth0", "a"],
            "`eth0` is an interface of a already",
        ),
        (["disconnect", "lan1", "a"], "a is not on network lan1"),
        (["disconnect", "lan9", "a"], "network lan9 does not exist"),
        (["disconnect", "lan1", "nobody"], "nobody"),
    ] {
        refused(host, &["network", words[0], words[1], words[2]], wrong);
    }
    host.tincan([
        "run", "-d", "--name", "h", "--net", "host", "--", "sleep", "1000",
    ])
    .ok();
    if !super::host::is_user() {
        let own = "h has the host's own network";
        refused(host, &["network", "connect", "lan1", "h"], own);
    }
    connect(host, &["lan1,10.8.0.7", "a"]);
    refused(
        host,
        &["network", "connect", "lan1,10.8.0.7", "b"],
        "address 10.8.0.7 of network lan1 is leased to container a",
    );
    refused(
        host,
        &["network", "rm", "lan1"],
        "network lan1 is in use by a",
    );
    delete(host, &["a", "b", "h"]);
    remove(host, "lan0");
    remove(host, "lan1");
}

/// Of commands that are at it at the same time none takes away what another has made.
fn several_at_once_do_not_meddle(host: &Host) {
    create(
        host,
        &["lan0", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64"],
    );
    create(
        host,
        &["lan1", "--subnet", "10.8.0.0/24", "--subnet", "fd08::/64"],
    );
    create(host, &["lan2", "--subnet", "10.7.0.0/24"]);
    let tincan = Host::TINCAN;
    for _ in 0..8 {
        stay(host, "c", "lan0");
        let connect = |network: &str| format!("{tincan} network connect {network} c 2>/dev/null");
        // Of two for one network one has its way; and those for others have theirs.
        let (one, two) = (connect("lan1"), connect("lan2"));
        let codes = host.sh(&format!(
            "({one} && echo 0 || echo $?) >a & ({one} && echo 0 || echo $?) >b & ({two} && echo 0 || echo $?) >c; wait; sort a b; cat c"
        ));
        assert_eq!(codes, "0\n125\n0\n");
        let said = inside(host, "c", "ip -br address");
        for prefix in ["10.9.0.", "10.8.0.", "fd08::", "10.7.0."] {
            assert!(said.contains(prefix), "{prefix}: {said}");
        }
        host.tincan(["delete", "--force", "c"]).ok();
        for network in ["lan0", "lan1", "lan2"] {
            assert_eq!(leases(host, network), [""; 0]);
        }
    }
    for network in ["lan0", "lan1", "lan2"] {
        remove(host, network);
    }
}

/// What could not be mounted is not thought to be there.
fn names_come_when_they_can(host: &Host) {
    create(host, &["lan0", "--subnet", "10.9.0.0/24"]);
    let rootfs = host.bundle("d", |_| ()).join("rootfs");
    let rootfs = rootfs.to_str().unwrap();
    // Not in the container: before 6.6 no directory takes a file's place in an overlay of a user's.
    host.command(
        "sh",
        [
            "-c",
            &format!("cd {rootfs}/etc && rm -f hosts && mkdir hosts"),
        ],
    )
    .ok();
    let run = [
        "run", "-d", "--name", "d", "--rootfs", rootfs, "--", "sleep", "1000",
    ];
    host.tincan(run).ok();
    for _ in 0..2 {
        let said = host.tincan(["network", "connect", "lan0", "d"]).fails(125);
        assert!(said.contains("mount its own /etc/hosts"), "{said}");
    }
    inside(host, "d", "rmdir /etc/hosts");
    connect(host, &["lan0", "d"]);
    let said = inside(host, "d", "cat /etc/hosts");
    assert!(said.contains("10.9.0.2\td"), "{said}");
    host.tincan(["delete", "--force", "d"]).ok();
    remove(host, "lan0");
}

fn who_comes_and_leaves_at_random_loses_nothing(host: &Host) {
    create(host, &["lan0", "--subnet", "10.9.0.0/24"]);
    let program = tincan();
    let program = program.get_program().display();
    host.sh(&format!(
        "seq 8 | xargs -P8 -I% sh -c '{program} run -d --name c% -- sleep 1000 </dev/null >/dev/null'
        seq 8 | xargs -P8 -I% sh -c 'for round in 1 2 3 4 5; do
            {program} network connect lan0 c% && {program} network disconnect lan0 c% || exit 255
        done; {program} network connect lan0 c%'"
    ));
    let leased = leases(host, "lan0");
    let addresses: std::collections::BTreeSet<_> =
        leased.iter().map(|it| it.split(' ').nth(1)).collect();
    assert_eq!((leased.len(), addresses.len()), (8, 8), "{leased:?}");
    host.sh(&format!(
        "seq 8 | xargs -P8 -I% {program} delete --force c%"
    ));
    assert!(leases(host, "lan0").is_empty());
    remove(host, "lan0");
}
