//! `tincan link` with interfaces of every kind on running containers, and `link set`.

use super::bad_input::refused;
use super::dry_run::{by_hand, is_state};
use super::host::{Case, Host, tests};
use super::network::{no_world, world};

pub fn tests() -> Vec<Case> {
    tests![
        every_kind_comes_and_goes needs [Root, Macvlan, Vxlan, Tun],
        kinds_of_other_kernels_come_and_go needs [Root, Ipvlan, Vlan],
        a_lent_link_comes_and_goes needs [Root],
        what_cannot_be_added_is_told needs [Root, Macvlan],
        an_interface_is_changed_while_it_runs,
        both_ends_of_a_wire_have_one_mtu,
        a_name_does_not_reach_the_terminal needs [Root],
        a_port_of_a_network_is_changed needs [Nftables],
        a_place_on_a_network_is_no_wire needs [Nftables],
        a_change_that_cannot_be_is_told needs [Nftables],
        the_lines_of_a_change_do_what_it_does needs [Root],
    ]
}

fn start(host: &Host, name: &str) {
    host.tincan(["run", "-d", "--name", name, "--", "sleep", "1000"])
        .ok();
}

fn end(host: &Host, name: &str) {
    host.tincan(["delete", "--force", name]).ok();
}

fn in_container(host: &Host, name: &str, script: &str) -> String {
    // ip(8) complains of names of namespaces that go while it looks.
    let run = host.tincan(["exec", name, "sh", "-euc", script]);
    run.any_stderr().ok()
}

/// Adds each, looks at it, lists it, and removes it.
fn come_and_go(host: &Host, kinds: &[(&str, &str)]) {
    world(host);
    start(host, "a");
    for (value, kind) in kinds {
        host.tincan(["link", "add", &format!("a={value}")]).ok();
        let said = in_container(host, "a", "ip -d address show eth0");
        assert!(said.contains(kind), "{value}: {said}");
        let list = host.tincan(["link", "list"]).ok();
        let row = list.lines().nth(1).unwrap_or_default();
        let beginning = value.split([',']).next().unwrap();
        assert!(
            row.starts_with("a:eth0") && row.contains(beginning),
            "{list}"
        );
        host.tincan(["link", "del", "a", "eth0"]).ok();
        assert_eq!(host.tincan(["link", "list"]).ok().lines().count(), 1);
        let said = in_container(host, "a", "ip -br link");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    end(host, "a");
    no_world(host);
}

fn every_kind_comes_and_goes(host: &Host) {
    come_and_go(
        host,
        &[
            (
                "macvlan:p0,192.0.2.7/24,fd00:2::7/64",
                "macvlan mode bridge",
            ),
            ("vxlan:42,remote=192.0.2.254,10.0.0.1/24", "vxlan id 42"),
            ("tap,10.0.0.1/24", "tun type tap"),
        ],
    );
}

fn kinds_of_other_kernels_come_and_go(host: &Host) {
    come_and_go(
        host,
        &[
            ("ipvlan:p0,192.0.2.7/24,fd00:2::7/64", "ipvlan"),
            ("vlan:p0,id=5,192.0.2.7/24", "vlan protocol 802.1Q id 5"),
        ],
    );
}

fn a_lent_link_comes_and_goes(host: &Host) {
    world(host);
    let before = host.differences();
    start(host, "a");
    host.tincan(["link", "add", "a=phys:p0,name=lan"]).ok();
    in_container(
        host,
        "a",
        "ping -q -c1 -W5 192.0.2.254 && ping -q -c1 -W5 fd00:2::254",
    );
    let list = host.tincan(["link", "list", "--format", "json"]).ok();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["kind"], "phys:p0");
    assert_eq!(list[0]["interface"], "lan");
    assert_eq!(list[0]["addresses"][0], "192.0.2.1/24");
    host.tincan(["link", "del", "a", "lan"]).ok();
    host.sh("ping -q -c1 -W5 192.0.2.254");
    // Twice: and then it goes with the container.
    host.tincan(["link", "add", "a=phys:p0"]).ok();
    end(host, "a");
    host.wait_until("the link is back", || host.differences() == before);
    host.sh("ping -q -c1 -W5 192.0.2.254");
    no_world(host);
}

fn what_cannot_be_added_is_told(host: &Host) {
    world(host);
    start(host, "a");
    host.tincan(["link", "add", "a=macvlan:p0,192.0.2.7/24"])
        .ok();
    let add = |value: &'static str| ["link", "add", value];
    for (value, why) in [
        ("a=macvlan:p9,192.0.2.8/24", "no link p9 on the host"),
        ("a=macvlan:p0,192.0.2.7/24", "192.0.2.7 is in use in a"),
        (
            "a=macvlan:p0,name=eth0",
            "`eth0` is an interface of a already",
        ),
        ("b=macvlan:p0", "container b does not exist"),
        ("host=macvlan:p0", "means the host itself"),
        ("a=10.0.0.1/24", "the wire of a has one end"),
        (
            "a=lan0,10.9.0.7",
            "`tincan network connect lan0,10.9.0.7 a` puts a container",
        ),
        ("a=macvlan:p0,mode=x", "`x`"),
    ] {
        refused(host, &add(value), why);
    }
    // It is on the network of the host's own addresses.
    for words in [
        &["add", "a=macvlan:p0,192.0.2.1/24"][..],
        &["set", "a", "eth0", "--addr", "192.0.2.1/24"],
        &["set", "a", "eth0", "--addr", "fd00:2::1/64"],
    ] {
        let change = [&["link"], words].concat();
        refused(host, &change, "is in use on the host: link p0");
    }
    let two = ["link", "add", "a=macvlan:p0", "a=10.0.0.1/24"];
    refused(host, &two, "has no other end");
    let nothing = ["link", "del", "a", "eth7"];
    refused(host, &nothing, "eth7");
    host.tincan([
        "run", "-d", "--name", "h", "--net", "host", "--", "sleep", "1000",
    ])
    .ok();
    refused(host, &add("h=macvlan:p0"), "has the host's own network");
    end(host, "h");
    end(host, "a");
    no_world(host);
}

/// A container on a wire to the host.
fn wired(host: &Host) {
    let net = "172.16.0.1/16,fd00::1/64,peer=172.16.0.2,peer=fd00::2";
    host.tincan([
        "run", "-d", "--name", "a", "--net", net, "--", "sleep", "1000",
    ])
    .ok();
}

fn an_interface_is_changed_while_it_runs(host: &Host) {
    wired(host);
    let set = ["link", "set", "a", "eth0"];
    let change = |words: &[&str]| drop(host.tincan(set.iter().chain(words)).ok());
    change(&[
        "--mtu",
        "1400",
        "--mac",
        "02:00:00:00:00:07",
        "--addr",
        "10.0.0.7/24",
        "--addr",
        "fd07::7/64",
        "--route",
        "10.7.0.0/16@10.0.0.1",
        "--route",
        "2001:db8::/32@fd07::1",
    ]);
    let look = "ip link show eth0; ip -br address show eth0; ip route; ip -6 route";
    let said = in_container(host, "a", look);
    for text in [
        "mtu 1400",
        "02:00:00:00:00:07",
        "172.16.0.1/16",
        "10.0.0.7/24",
        "fd07::7/64",
        "10.7.0.0/16 via 10.0.0.1 dev eth0",
        "2001:db8::/32 via fd07::1 dev eth0",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let list = host.tincan(["link", "list"]).ok();
    assert!(list.contains("10.0.0.7/24"), "{list}");
    change(&[
        "--del-addr",
        "10.0.0.7/24",
        "--del-route",
        "2001:db8::/32@fd07::1",
        "--del-route",
        "10.7.0.0/16",
        "--del-addr",
        "fd07::7/64",
        "--addr",
        "10.0.0.8/24",
    ]);
    let said = in_container(host, "a", look);
    assert!(said.contains("10.0.0.8/24"), "{said}");
    for text in ["10.0.0.7", "fd07::7", "2001:db8", "10.7.0.0"] {
        assert!(!said.contains(text), "{text}: {said}");
    }
    host.sh("ping -q -c1 -W5 172.16.0.1; ping -q -c1 -W5 fd00::1");
    change(&["--down"]);
    let said = in_container(host, "a", "ip link show eth0");
    assert!(!said.contains(",UP") && !said.contains("<UP"), "{said}");
    change(&["--up", "--addr", "fd00::1/64"]);
    host.sh("ping -q -c1 -W5 172.16.0.1; ping -q -c1 -W5 fd00::1");
    // The host's end of a wire that had no IPv6 is given some.
    host.tincan(["link", "add", "host=10.3.0.1/24", "a=10.3.0.2/24,name=eth1"])
        .ok();
    let far = ["link", "set", "host", "veth-a.1"];
    host.tincan(far.iter().chain(&["--addr", "fd03::1/64"]))
        .ok();
    let near = ["link", "set", "a", "eth1", "--addr", "fd03::2/64"];
    host.tincan(near).ok();
    host.sh("ping -q -c1 -W5 fd03::2");
    end(host, "a");
}

/// Shows the host's end. Not below /sys, which a user's namespaces have from the machine.
const PORT: &str = "ip -o link show veth-a";

fn both_ends_of_a_wire_have_one_mtu(host: &Host) {
    wired(host);
    host.tincan([
        "run",
        "-d",
        "--name",
        "b",
        "--net",
        "10.0.0.2/24,to=a,peer=10.0.0.1/24",
        "--",
        "sleep",
        "1000",
    ])
    .ok();
    let mtu = |name: &str, interface: &str| {
        in_container(host, name, &format!("cat /sys/class/net/{interface}/mtu"))
    };
    for (container, interface, mtu) in [
        ("a", "eth0", "1400"),
        ("host", "veth-a", "1399"),
        ("b", "eth0", "1398"),
        ("a", "eth1", "1397"),
    ] {
        host.tincan(["link", "set", container, interface, "--mtu", mtu])
            .ok();
    }
    assert!(host.sh(PORT).contains("mtu 1399 "));
    assert_eq!(
        [mtu("a", "eth0"), mtu("a", "eth1"), mtu("b", "eth0")],
        ["1399\n", "1397\n", "1397\n"]
    );
    end(host, "b");
    end(host, "a");
}

/// The kernel takes nearly everything for a link's name.
fn a_name_does_not_reach_the_terminal(host: &Host) {
    wired(host);
    let script = "ip link set eth0 down; ip link set eth0 name \"$(printf '\\033[31mX')\"; ip link set dev \"$(printf '\\033[31mX')\" up";
    in_container(host, "a", script);
    let said = host.tincan(["list"]).ok();
    assert!(
        said.contains("?[31mX 172.16.0.1/16") && !said.contains('\u{1b}'),
        "{said:?}"
    );
    end(host, "a");
}

fn network(host: &Host) {
    let create = [
        "network",
        "create",
        "lan0",
        "--subnet",
        "10.9.0.0/24",
        "--subnet",
        "fd09::/64",
    ];
    host.tincan(create).ok();
    for name in ["a", "b"] {
        host.tincan([
            "run", "-d", "--name", name, "--net", "lan0", "--", "sleep", "1000",
        ])
        .ok();
    }
}

fn no_network(host: &Host) {
    end(host, "a");
    end(host, "b");
    host.tincan(["network", "rm", "lan0"]).ok();
}

fn a_port_of_a_network_is_changed(host: &Host) {
    network(host);
    host.tincan([
        "link",
        "set",
        "a",
        "eth0",
        "--mtu",
        "1400",
        "--addr",
        "10.77.0.1/24",
        "--mac",
        "02:00:00:00:00:09",
    ])
    .ok();
    host.tincan(["link", "set", "b", "eth0", "--addr", "10.77.0.2/24"])
        .ok();
    assert!(in_container(host, "a", "ip link show eth0").contains("mtu 1400 "));
    // The bridge has the least of its ports', and the others on the network its.
    for link in [PORT, "ip link show lan0"] {
        assert!(host.sh(link).contains("mtu 1500 "), "{link}");
    }
    in_container(
        host,
        "b",
        "ping -q -c1 -W5 10.77.0.1; ping -q -c1 -W5 10.9.0.2; ping -q -c1 -W5 fd09::2",
    );
    no_network(host);
}

/// As a wire alone, its addresses and names would stay behind.
fn a_place_on_a_network_is_no_wire(host: &Host) {
    network(host);
    let port = host.sh("ip -br link | grep -o '^veth-a'");
    for (container, interface) in [("a", "eth0"), ("host", port.trim())] {
        for words in [&[][..], &["--dry-run"]] {
            let del = [&["link", "del", container, interface][..], words].concat();
            refused(host, &del, "eth0 of a is its place on network lan0");
        }
    }
    in_container(
        host,
        "b",
        "ping -q -c1 -W5 10.9.0.2; ping -q -c1 -W5 fd09::2",
    );
    host.tincan(["network", "disconnect", "lan0", "a"]).ok();
    // What comes in its place is a wire again.
    host.tincan(["link", "add", "a=10.1.0.1/24", "b=10.1.0.2/24"])
        .ok();
    host.tincan(["link", "del", "a", "eth0"]).ok();
    no_network(host);
}

fn a_change_that_cannot_be_is_told(host: &Host) {
    network(host);
    let set = |words: &[&'static str]| [&["link", "set"][..], words].concat();
    for (words, why) in [
        (&["a", "eth0"][..], "there is nothing to change"),
        (&["a", "eth7", "--up"], "`eth7` is no interface of a"),
        (&["a", "lo", "--down"], "`lo` is no interface of a"),
        (&["c", "eth0", "--up"], "container c does not exist"),
        (&["a", "eth0", "--mtu", "67"], "is no number from 68"),
        (
            &["a", "eth0", "--mtu", "1279"],
            "under the 1280 that IPv6 needs",
        ),
        (&["a", "eth0", "--up", "--down"], "cannot be used with"),
        (
            &["a", "eth0", "--del-addr", "10.1.0.1/24"],
            "is not on eth0",
        ),
        (
            &["a", "eth0", "--del-addr", "10.9.0.2/24"],
            "is leased from network lan0",
        ),
        (
            &["a", "eth0", "--addr", "10.9.0.7/24"],
            "is for network lan0 to lease",
        ),
        (
            &["a", "eth0", "--addr", "10.1.0.0/24"],
            "is the address of its prefix itself",
        ),
        (&["a", "eth0", "--addr", "127.0.0.9/8"], "loopback"),
        (
            &[
                "a",
                "eth0",
                "--addr",
                "10.1.0.1/24",
                "--addr",
                "10.1.0.1/24",
            ],
            "is given twice",
        ),
        (
            &["a", "eth0", "--route", "10.1.0.0/33"],
            "has no prefix to go to",
        ),
        (
            &["a", "eth0", "--route", "default"],
            "has no prefix to go to",
        ),
        (
            &["host", "lan0", "--up"],
            "is no end of a running container's wire",
        ),
    ] {
        refused(host, &set(words), why);
    }
    // The kernel says what it has not; what was before stays.
    let said = host
        .tincan(set(&["a", "eth0", "--del-route", "10.1.0.0/24"]))
        .fails(125);
    assert!(
        said.contains("a: delete the route to 10.1.0.0/24 through eth0: "),
        "{said}"
    );
    no_network(host);
}

fn the_lines_of_a_change_do_what_it_does(host: &Host) {
    let words = [
        "link",
        "set",
        "a",
        "eth0",
        "--mtu",
        "1400",
        "--mac",
        "02:00:00:00:00:07",
        "--addr",
        "10.0.0.7/24",
        "--addr",
        "fd07::7/64",
        "--route",
        "10.7.0.0/16@10.0.0.1",
        "--del-addr",
        "fd00::1/64",
    ];
    let look = || {
        let script = "cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address
            ip -br address show eth0; ip route; ip -6 route";
        let said = in_container(host, "a", script) + &host.sh("cat /sys/class/net/veth-a/mtu");
        let kept = said.split_whitespace();
        let kept = kept.filter(|word| !word.starts_with("fe80") && !is_state(word));
        let kept = kept.map(|word| word.split('@').next().unwrap_or(word).to_owned());
        kept.collect::<Vec<_>>()
    };
    wired(host);
    let plan = host.tincan(words.iter().chain(&["--dry-run"])).ok();
    by_hand(host, &plan);
    let hand = look();
    host.sh("ip netns del a; umount /run/netns; rmdir /run/netns");
    end(host, "a");
    host.wait_until("the wire is gone", || {
        !host.sh("ip -br link").contains("veth-a")
    });
    wired(host);
    host.tincan(words).ok();
    assert_eq!(look(), hand, "{plan}");
    end(host, "a");
}
