//! Links of the host's that containers have: by `--net phys:`, which come back, and by a bundle's `linux.netDevices`, which do not.

use serde_json::json;

use super::bad_input::refused;
use super::host::{Case, Host, tests};

pub fn tests() -> Vec<Case> {
    tests![
        a_link_is_lent_and_comes_back_as_it_was needs [Root],
        a_link_has_the_addresses_that_are_asked_for needs [Root],
        a_link_comes_back_from_whoever_was_killed needs [Root],
        a_link_comes_back_when_a_detached_container_goes needs [Root],
        a_link_that_was_renamed_comes_back needs [Root],
        a_link_whose_name_is_taken_waits needs [Root],
        a_link_that_was_replaced_is_not_taken_for_it needs [Root],
        a_link_that_was_renamed_is_removed_by_its_old_name needs [Root],
        what_cannot_be_lent_is_told needs [Root],
        users_lend_none,
        a_bundles_devices_move_in needs [Root],
        a_bundles_dummies_move_in needs [Root, Dummy],
        a_bundles_devices_go_to_a_joined_namespace needs [Root],
        a_bundles_devices_that_cannot_be_are_told needs [Root],
    ]
}

/// A link `p0` with all that one can have, whose far end answers.
fn link(host: &Host) {
    host.sh(
        "ip netns add world; ip link add p0 type veth peer name q0 netns world
        ip link set p0 address 02:00:00:00:00:70 mtu 1450 up
        ip address add 192.0.2.7/24 dev p0; ip address add 192.0.2.77/32 dev p0
        ip address add fd00:2::7/64 dev p0 nodad
        ip -n world address add 192.0.2.254/24 dev q0; ip -n world address add fd00:2::254/64 dev q0 nodad
        ip -n world link set q0 up
        ip route add 198.51.100.0/24 via 192.0.2.254 metric 7; ip route add 203.0.113.0/24 dev p0 table 42
        ip -6 route add 2001:db8::/32 via fd00:2::254",
    );
}

fn no_link(host: &Host) {
    host.sh("ip link del p0; ip netns del world; umount /run/netns; rmdir /run/netns");
}

/// Several each, since a link that has just come up may lose the first.
const PING: &str = "ping -q -c3 -i0.3 -W5 192.0.2.254 && ping -q -c3 -i0.3 -W5 fd00:2::254";

/// What the host has now; where the link is back, it is as before.
fn is_as(host: &Host, before: &[String]) {
    host.wait_until("the host is as before", || host.differences() == before);
    host.sh(PING);
}

fn a_link_is_lent_and_comes_back_as_it_was(host: &Host) {
    link(host);
    let before = host.differences();
    let script = format!(
        "{PING} && ip -br address show eth0 && ip link set eth0 mtu 1300 address 02:00:00:00:00:71"
    );
    let run = ["run", "--net", "phys:p0", "--", "sh", "-euc", &script];
    let said = host.tincan(run).ok();
    for text in ["192.0.2.7/24", "192.0.2.77/32", "fd00:2::7/64"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    is_as(host, &before);
    let said = host.sh("ip link show p0");
    assert!(
        said.contains("mtu 1450") && said.contains("02:00:00:00:00:70"),
        "{said}"
    );
    no_link(host);
}

fn a_link_has_the_addresses_that_are_asked_for(host: &Host) {
    link(host);
    let before = host.differences();
    let net =
        "phys:p0,192.0.2.8/24,fd00:2::8/64,name=lan,gw=192.0.2.254,mtu=1400,mac=02:00:00:00:00:08";
    let script = format!("{PING}; ip address show lan; ip route");
    let said = host
        .tincan(["run", "--net", net, "--", "sh", "-euc", &script])
        .ok();
    for text in [
        "192.0.2.8/24",
        "fd00:2::8/64",
        "mtu 1400",
        "02:00:00:00:00:08",
        "default via 192.0.2.254 dev lan",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert!(!said.contains("192.0.2.7"), "{said}");
    is_as(host, &before);
    no_link(host);
}

fn a_link_comes_back_from_whoever_was_killed(host: &Host) {
    link(host);
    let before = host.differences();
    let script = format!(
        "{} run --name a --net phys:p0 -- sleep 1000 & run=$!
        until {} exec a true 2>/dev/null; do :; done
        kill -9 $run; wait $run || true",
        Host::TINCAN,
        Host::TINCAN
    );
    host.sh(&script);
    // The link is in a namespace that nobody is in any more.
    host.sh("! ip link show p0 2>/dev/null");
    assert_eq!(host.tincan(["gc"]).ok(), "container a\n");
    is_as(host, &before);
    no_link(host);
}

fn a_link_comes_back_when_a_detached_container_goes(host: &Host) {
    link(host);
    let before = host.differences();
    host.tincan(["run", "-d", "--name", "a", "--net", "phys:p0", "--", "true"])
        .ok();
    // The next of its name clears it away.
    let next = [
        "run", "--name", "a", "--net", "phys:p0", "--", "sh", "-c", PING,
    ];
    host.wait_until("the first has ended", || {
        host.tincan(["state", "a"]).ok().contains("stopped")
    });
    host.tincan(next).ok();
    is_as(host, &before);
    host.tincan([
        "run", "-d", "--name", "a", "--net", "phys:p0", "--", "sleep", "1000",
    ])
    .ok();
    host.tincan(["delete", "--force", "a"]).ok();
    is_as(host, &before);
    no_link(host);
}

fn a_link_that_was_renamed_comes_back(host: &Host) {
    link(host);
    let before = host.differences();
    let script = "ip link set eth0 down; ip link set eth0 name mine; ip link add eth0 type veth peer name other";
    let other = "ip link set eth0 down; ip link set eth0 name mine";
    for script in [other, script] {
        // A link of the container's own that has the name goes to nobody: the lent one is known by its number.
        let run = ["run", "--net", "phys:p0", "--", "sh", "-euc", script];
        host.tincan(run).ok();
        is_as(host, &before);
    }
    no_link(host);
}

fn a_link_whose_name_is_taken_waits(host: &Host) {
    link(host);
    let before = host.differences();
    host.tincan([
        "run", "-d", "--name", "a", "--net", "phys:p0", "--", "sleep", "1000",
    ])
    .ok();
    host.sh("ip link add p0 type veth peer name p1");
    let said = host.tincan(["delete", "--force", "a"]).fails(125);
    assert!(
        said.contains("take p0 back from a:eth0: File exists"),
        "{said}"
    );
    host.sh("ip link del p0");
    host.tincan(["delete", "a"]).ok();
    is_as(host, &before);
    no_link(host);
}

fn a_link_that_was_replaced_is_not_taken_for_it(host: &Host) {
    for (name, own, other) in [
        // Another link of the kind, whose other end is in the container; one of another kind; none.
        (
            "veth",
            "ip link add name eth0 index $i type veth peer name trap; ip link set trap up",
            "type veth",
        ),
        ("ifb", "ip link add name eth0 index $i type ifb", "type ifb"),
        ("none", "true", "nothing"),
    ] {
        link(host);
        let run = [
            "run", "-d", "--name", name, "--net", "phys:p0", "--", "sleep", "1000",
        ];
        host.tincan(run).ok();
        let script = format!("i=$(ip -o link show eth0 | cut -d: -f1); ip link del eth0; {own}");
        host.tincan(["exec", name, "sh", "-euc", &script]).ok();
        let said = host
            .tincan(["link", "del", name, "eth0"])
            .any_stderr()
            .assert();
        let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
        assert_eq!(
            said,
            format!("tincan: {name}: p0 is not back: it is gone\n"),
            "{other}"
        );
        host.sh("! ip link show p0 2>/dev/null");
        host.tincan(["delete", "--force", name]).ok();
        host.sh("! ip link show p0 2>/dev/null; ip netns del world; umount /run/netns; rmdir /run/netns");
        host.assert_clean();
    }
}

fn a_link_that_was_renamed_is_removed_by_its_old_name(host: &Host) {
    link(host);
    let before = host.differences();
    host.tincan([
        "run", "-d", "--name", "a", "--net", "phys:p0", "--", "sleep", "1000",
    ])
    .ok();
    let script = "ip link set eth0 down; ip link set eth0 name mine";
    host.tincan(["exec", "a", "sh", "-euc", script]).ok();
    host.tincan(["link", "del", "a", "eth0"]).ok();
    host.tincan(["delete", "--force", "a"]).ok();
    is_as(host, &before);
    no_link(host);
}

fn what_cannot_be_lent_is_told(host: &Host) {
    link(host);
    host.sh("ip link add br0 type bridge; ip link add l0 type veth peer name l1; ip link set l1 master br0");
    host.tincan([
        "run",
        "-d",
        "--name",
        "a",
        "--net",
        "172.16.0.1/16",
        "--",
        "sleep",
        "1000",
    ])
    .ok();
    let run = |net: &'static str| ["run", "--net", net, "--", "true"];
    for (net, why) in [
        ("phys:p9", "no link p9 on the host"),
        ("phys:lo", "goes nowhere"),
        ("phys:l1", "l1 is a port of another link"),
        ("phys:veth-a", "veth-a is a link of tincan's own"),
    ] {
        refused(host, &run(net), why);
    }
    host.tincan(["delete", "--force", "a"]).ok();
    host.sh("ip link del br0; ip link del l0");
    no_link(host);
}

fn users_lend_none(host: &Host) {
    if super::host::is_user() {
        host.sh("ip link add p0 type veth peer name q0");
        refused(
            host,
            &["run", "--net", "phys:p0", "--", "true"],
            "is for root",
        );
        host.sh("ip link del p0");
    } else {
        let said = host
            .user_tincan(["run", "--net", "phys:eth0", "--", "true"])
            .fails(125);
        assert!(said.contains("phys:eth0"), "{said}");
    }
}

/// A bundle whose container runs this line of shell, with these devices.
fn with_devices(host: &Host, name: &str, devices: serde_json::Value, script: &str) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["linux"]["netDevices"] = devices;
        spec["process"]["args"] = json!(["sh", "-euc", script]);
    });
    bundle.display().to_string()
}

fn a_bundles_devices_move_in(host: &Host) {
    link(host);
    host.sh("ip link add r0 type veth peer name s0 netns world; ip -n world link set s0 up");
    let devices = json!({"p0": {"name": "lan%d"}, "r0": {}});
    let look = "ip -o address; ip -o link";
    let bundle = with_devices(host, "b", devices, look);
    let said = host.tincan(["run", "-b", &bundle, "c"]).ok();
    for text in [
        "lan0    inet 192.0.2.7/24",
        "lan0    inet6 fd00:2::7/64",
        "mtu 1450",
        "02:00:00:00:00:70",
        " r0@",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let down = said
        .lines()
        .filter(|line| line.contains("<") && !line.contains(",UP"));
    assert_eq!(down.count(), 0, "{said}");
    // The kernel has done with them what it does with virtual ones.
    host.wait_until("they are gone", || !host.sh("ip -br link").contains("0@"));
    host.sh("ip netns del world; umount /run/netns; rmdir /run/netns");
}

fn a_bundles_dummies_move_in(host: &Host) {
    host.sh("ip link add d0 type dummy; ip link add d1 type dummy
        ip link set d0 address 02:00:00:00:00:d0 mtu 1400 up
        ip address add 192.0.2.7/24 dev d0; ip address add fd00:2::7/64 dev d0 nodad");
    let look = "ip -o address; ip -o link";
    let devices = json!({"d0": {"name": "lan0"}, "d1": {}});
    let bundle = with_devices(host, "b", devices, look);
    let said = host.tincan(["run", "-b", &bundle, "c"]).ok();
    for text in [
        "lan0    inet 192.0.2.7/24",
        "lan0    inet6 fd00:2::7/64",
        "mtu 1400",
        "02:00:00:00:00:d0",
        " d1: ",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    host.wait_until("they are gone", || {
        host.sh("ip -o link").lines().count() == 1
    });
}

fn a_bundles_devices_go_to_a_joined_namespace(host: &Host) {
    link(host);
    let before = host.differences();
    host.sh("ip netns add there; ip -n there link add lan0 type veth peer name other");
    let bundle = host.bundle("b", |spec| {
        spec["linux"]["netDevices"] = json!({"p0": {"name": "lan%d"}});
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        let network = namespaces
            .iter_mut()
            .find(|it| it["type"] == "network")
            .unwrap();
        network["path"] = json!("/run/netns/there");
        spec["process"]["args"] = json!(["true"]);
    });
    host.tincan(["run", "-b", bundle.to_str().unwrap(), "c"])
        .ok();
    // It stays where it is, whoever ends.
    let said = host.sh("ip -n there -br address show lan1");
    assert!(
        said.contains("192.0.2.7/24") && said.contains("fd00:2::7/64"),
        "{said}"
    );
    host.sh("ip -n there link set lan1 name p0 netns $$; ip netns del there");
    host.sh(
        "ip link set p0 up; ip address add 192.0.2.7/24 dev p0; ip address add 192.0.2.77/32 dev p0
        ip address add fd00:2::7/64 dev p0 nodad
        ip route add 198.51.100.0/24 via 192.0.2.254 metric 7; ip route add 203.0.113.0/24 dev p0 table 42
        ip -6 route add 2001:db8::/32 via fd00:2::254",
    );
    is_as(host, &before);
    no_link(host);
}

fn a_bundles_devices_that_cannot_be_are_told(host: &Host) {
    link(host);
    let before = host.differences();
    for (name, devices, why) in [
        (
            "b1",
            json!({"p9": {}}),
            "linux.netDevices: there is no link p9 on the host",
        ),
        (
            "b2",
            json!({"p0": {"name": "lo"}}),
            "`lo` is an interface of the container already",
        ),
        ("b3", json!({"lo": {}}), "is in every namespace"),
        (
            "b4",
            json!({"p0": {"name": "sixteen-bytes-xx"}}),
            "linux.netDevices.p0.name",
        ),
    ] {
        let bundle = with_devices(host, name, devices, "true");
        refused(host, &["run", "-b", &bundle, "c"], why);
    }
    let bundle = with_devices(host, "b5", json!({"p0": {"name": "eth0"}}), "true");
    let both = ["run", "-b", &bundle, "--net", "172.16.0.1/16", "c"];
    refused(
        host,
        &both,
        "`eth0` is an interface of the container already",
    );
    let bundle = host.bundle("b6", |spec| {
        spec["linux"]["netDevices"] = json!({"p0": {}});
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|it| it["type"] != "network");
    });
    refused(
        host,
        &["run", "-b", bundle.to_str().unwrap(), "c"],
        "with a network namespace",
    );
    // What fails after they have moved takes them back to nobody: so nothing that can fail comes behind, but the workload.
    assert_eq!(host.differences(), before);
    no_link(host);
}
