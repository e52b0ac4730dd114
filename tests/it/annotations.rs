//! Links that a bundle's annotations ask for, whoever calls.

use serde_json::{Value, json};

use super::bad_input::refused;
use super::host::{Case, Host, tests};
use super::network::{create, remove};

pub fn tests() -> Vec<Case> {
    tests![
        annotations_are_links_before_those_of_the_command_line,
        a_namespace_that_is_joined_gets_links_and_loses_them needs [Root, Nftables],
        what_comes_in_place_of_a_link_is_somebody_elses needs [Root, Macvlan],
        what_comes_to_a_namespace_that_is_joined_goes_with_the_container needs [Root, Nftables],
        of_a_namespace_that_is_gone_nothing_is_left needs [Root],
        a_port_is_published_by_annotation needs [Root, Nftables],
        wrong_annotations_are_refused,
        features_tell_of_the_annotations,
        the_lines_of_a_run_with_annotations_name_its_links,
    ]
}

/// A bundle that stays, with these annotations.
pub fn annotated(host: &Host, name: &str, annotations: Value, netns: Option<&str>) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
        spec["annotations"] = annotations;
        if let Some(path) = netns {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            let of_kind = |it: &&mut Value| it["type"] == "network";
            namespaces.iter_mut().find(of_kind).unwrap()["path"] = json!(path);
        }
    });
    bundle.display().to_string()
}

/// Runs tincan with no streams of the test's, which a container that stays would keep.
pub fn quietly(host: &Host, words: &[&str]) {
    let program = super::host::tincan();
    let program = program.get_program().display();
    host.sh(&format!(
        "{program} {} </dev/null >/dev/null 2>said || {{ cat said >&2; exit 1; }}",
        words.join(" ")
    ));
}

/// The namespace `blue` with an `eth0` that somebody else has made, and that leads everywhere.
pub fn somebodys_namespace(host: &Host) {
    host.sh("ip netns add blue
        ip link add outer type veth peer name eth0 netns blue
        ip -n blue address add 192.0.2.2/24 dev eth0
        ip -n blue address add fd00:2::2/64 dev eth0 nodad
        ip link set outer up; ip -n blue link set eth0 up
        ip -n blue route add default via 192.0.2.1
        ip -n blue route add default via fd00:2::1");
}

pub fn remove_it(host: &Host) {
    host.sh("ip netns del blue; ip link del outer 2>/dev/null || :");
}

/// The interfaces and their addresses in `blue`, but for what the kernel gives them by itself.
pub fn in_blue(host: &Host) -> String {
    host.sh("ip -n blue -o address | grep -v fe80 | awk '{print $2, $4}' | sort")
}

/// The routes in `blue`, but for those of link-local addresses, which the kernel gives some time after a link has been raised.
fn routes_in_blue(host: &Host) -> String {
    host.sh("ip -n blue route; ip -n blue -6 route | grep -v ^fe80::")
}

fn annotations_are_links_before_those_of_the_command_line(host: &Host) {
    let annotations = json!({
        "io.tincan.net.10": "10.10.0.1/24,fd10::1/64",
        "io.tincan.net.2": "172.16.0.1/16",
        "org.example": "else",
    });
    let bundle = annotated(host, "bundle", annotations, None);
    for verb in [&["create"][..], &["run", "-d"]] {
        let words = ["-b", &bundle, "--net", "10.11.0.1/24", "c1"];
        quietly(host, &[verb, &words].concat());
        if verb == ["create"] {
            host.tincan(["start", "c1"]).ok();
        }
        let said = host.tincan(["exec", "c1", "ip", "-o", "address"]).ok();
        for (interface, address) in [
            ("eth0", "172.16.0.1/16"),
            ("eth1", "10.10.0.1/24"),
            ("eth1", "fd10::1/64"),
            ("eth2", "10.11.0.1/24"),
        ] {
            let has = |line: &str| line.contains(interface) && line.contains(address);
            assert!(said.lines().any(has), "{interface} {address}: {said}");
        }
        host.sh("ping -q -c1 -W5 172.16.0.1; ping -q -c1 -W5 fd10::1");
        host.tincan(["delete", "--force", "c1"]).ok();
    }
}

fn a_namespace_that_is_joined_gets_links_and_loses_them(host: &Host) {
    somebodys_namespace(host);
    let before = (in_blue(host), routes_in_blue(host));
    create(
        host,
        &["lan0", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64"],
    );
    let links = host.sh("ip -br link | cut -d' ' -f1");
    let annotations = json!({
        "io.tincan.net.0": "172.16.0.1/16,fd16::1/64",
        "io.tincan.net.1": "lan0",
        "io.tincan.net.2": "tap,name=eth2",
    });
    let bundle = annotated(host, "bundle", annotations, Some("/run/netns/blue"));
    // The second time as the first: the names are free again.
    for _ in 0..2 {
        quietly(host, &["create", "-b", &bundle, "c1"]);
        host.tincan(["start", "c1"]).ok();
        let said = in_blue(host);
        for line in [
            "eth1 172.16.0.1/16",
            "eth1 fd16::1/64",
            "eth3 10.9.0.2/24",
            "eth3 fd09::2/64",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(host.sh("ip -n blue -br link").contains("eth2 "));
        // It has a way out, and keeps that.
        let routes = host.sh("ip -n blue route show default; ip -n blue -6 route show default");
        assert!(
            routes.contains("via 192.0.2.1") && !routes.contains("10.9.0.1"),
            "{routes}"
        );
        assert_eq!(routes.matches("default").count(), 2, "{routes}");
        for to in ["172.16.0.2", "fd16::2", "10.9.0.1", "fd09::1"] {
            host.sh(&format!("ip netns exec blue ping -q -c1 -W5 {to}"));
        }
        host.tincan(["delete", "--force", "c1"]).ok();
        assert_eq!((in_blue(host), routes_in_blue(host)), before);
        assert_eq!(host.sh("ip -br link | cut -d' ' -f1"), links);
    }
    // What another has there meanwhile stays.
    quietly(host, &["create", "-b", &bundle, "c1"]);
    host.sh("ip link del veth-c1; ip link add veth-c1 type veth peer name eth1 netns blue");
    host.tincan(["delete", "--force", "c1"]).ok();
    host.sh("ip -n blue link del eth1");
    assert_eq!(in_blue(host), before.0);
    remove(host, "lan0");
    remove_it(host);
}

fn what_comes_to_a_namespace_that_is_joined_goes_with_the_container(host: &Host) {
    somebodys_namespace(host);
    create(
        host,
        &["lan0", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64"],
    );
    super::network::stay(host, "other", "none");
    let before = in_blue(host);
    let links = host.sh("ip -br link | cut -d' ' -f1");
    let bundle = annotated(host, "bundle", json!({}), Some("/run/netns/blue"));
    for ended in [false, true] {
        quietly(host, &["create", "-b", &bundle, "c1"]);
        host.tincan(["start", "c1"]).ok();
        for words in [
            &["link", "add", "c1=172.16.0.1/16", "host=172.16.0.2/16"][..],
            &["link", "add", "other=172.17.0.1/16", "c1=172.17.0.2/16"],
            &["link", "add", "c1=tap,name=tap9"],
            &["network", "connect", "lan0", "c1"],
        ] {
            host.tincan(words).ok();
        }
        let said = in_blue(host);
        for line in ["172.16.0.1/16", "172.17.0.2/16", "10.9.0.2/24"] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(host.sh("ip -n blue -br link").contains("tap9 "));
        // By its link-layer address each is known, whatever that is by then.
        for (number, [container, link]) in [["c1", "tap9"], ["c1", "eth2"], ["host", "veth-c1"]]
            .iter()
            .enumerate()
        {
            let mac = format!("02:00:00:00:00:0{number}");
            host.tincan(["link", "set", container, link, "--mac", &mac])
                .ok();
        }
        if ended {
            host.tincan(["kill", "c1", "KILL"]).ok();
        }
        host.tincan(["delete", "--force", "c1"]).ok();
        assert_eq!(in_blue(host), before);
        assert!(!host.sh("ip -n blue -br link").contains("tap9 "));
        assert_eq!(host.sh("ip -br link | cut -d' ' -f1"), links);
    }
    host.tincan(["delete", "--force", "other"]).ok();
    remove(host, "lan0");
    remove_it(host);
}

/// A macvlan that has its parent's address has none by which it is known again.
fn what_comes_in_place_of_a_link_is_somebody_elses(host: &Host) {
    somebodys_namespace(host);
    let bundle = annotated(host, "bundle", json!({}), Some("/run/netns/blue"));
    quietly(host, &["create", "-b", &bundle, "c1"]);
    host.tincan(["start", "c1"]).ok();
    host.tincan(["link", "add", "c1=macvlan:outer,mode=passthru,name=x"])
        .ok();
    host.tincan(["link", "del", "c1", "x"]).ok();
    host.sh("ip -n blue link add x type veth peer name y");
    host.tincan(["delete", "--force", "c1"]).ok();
    host.sh("ip -n blue link del x");
    // What is there still goes.
    quietly(host, &["create", "-b", &bundle, "c1"]);
    host.tincan(["start", "c1"]).ok();
    host.tincan(["link", "add", "c1=macvlan:outer,mode=passthru,name=x"])
        .ok();
    host.tincan(["delete", "--force", "c1"]).ok();
    assert!(!host.sh("ip -n blue -br link").contains("x@"));
    remove_it(host);
}

fn of_a_namespace_that_is_gone_nothing_is_left(host: &Host) {
    somebodys_namespace(host);
    let annotations = json!({"io.tincan.net.0": "172.16.0.1/16"});
    let bundle = annotated(host, "bundle", annotations, Some("/run/netns/blue"));
    quietly(host, &["create", "-b", &bundle, "c1"]);
    remove_it(host);
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn a_port_is_published_by_annotation(host: &Host) {
    create(
        host,
        &["lan0", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64"],
    );
    let annotations = json!({
        "io.tincan.net.0": "lan0",
        "io.tincan.publish": "8080:80,9000-9010/udp",
    });
    let bundle = annotated(host, "bundle", annotations, None);
    quietly(host, &["create", "-b", &bundle, "-p", "8443:443", "c1"]);
    let rules = host.sh("nft list table inet tincan-lan0");
    for element in [
        "tcp . 8080 : 10.9.0.2 . 80",
        "tcp . 8080 : fd09::2 . 80",
        "udp . 9000-9010",
        "tcp . 8443 : 10.9.0.2 . 443",
    ] {
        assert!(rules.contains(element), "{element}: {rules}");
    }
    host.tincan(["delete", "--force", "c1"]).ok();
    remove(host, "lan0");
}

fn wrong_annotations_are_refused(host: &Host) {
    for (at, (key, value, wrong)) in [
        (
            "io.tincan.net.0",
            "172.16.0.300/16",
            "config.json: annotations.io.tincan.net.0: address `172.16.0.300/16` has `172.16.0.300`, which is no IP address",
        ),
        (
            "io.tincan.net.0",
            "container:c2",
            "config.json: annotations.io.tincan.net.0: `container:c2` is no link but a whole network",
        ),
        (
            "io.tincan.net.first",
            "172.16.0.1/16",
            "config.json: annotations.io.tincan.net.first: ends with `first`, which is no number",
        ),
        ("io.tincan.net.0", "lan9", "network lan9 does not exist"),
        ("io.tincan.publish", "8080:80", "--publish `8080:80` goes with a network"),
    ]
    .into_iter()
    .enumerate()
    {
        let bundle = annotated(host, &format!("b{at}"), json!({key: value}), None);
        refused(host, &["create", "-b", &bundle, "c1"], wrong);
        refused(host, &["run", "-b", &bundle, "c1"], wrong);
    }
    let bundle = host.bundle("own", |spec| {
        spec["annotations"] = json!({"io.tincan.net.0": "172.16.0.1/16"});
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|it| it["type"] != "network");
        // A sysfs is of a network namespace, which has to be one's own.
        spec["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|it| it["destination"] != "/sys");
    });
    let own = "c1 has the host's own network, and can be on no other";
    refused(host, &["create", "-b", bundle.to_str().unwrap(), "c1"], own);
    refused(
        host,
        &[
            "create",
            "-b",
            bundle.to_str().unwrap(),
            "--net",
            "10.0.0.1/8",
            "c1",
        ],
        own,
    );
    let annotations = json!({"io.tincan.net.0": "172.16.0.1/16"});
    let path = annotated(host, "path", annotations.clone(), Some("/run/netns/none"));
    refused(
        host,
        &["create", "-b", &path, "c1"],
        "network namespace /run/netns/none does not exist",
    );
    if !super::host::is_user() {
        let hosts = annotated(host, "hosts", annotations, Some("/proc/self/ns/net"));
        refused(host, &["create", "-b", &hosts, "c1"], own);
        // Somebody there has the address, or the name.
        somebodys_namespace(host);
        for (at, (value, wrong)) in [
            (
                "192.0.2.2/24",
                "address 192.0.2.2 is in use in /run/netns/blue: link eth0",
            ),
            (
                "10.0.0.1/24,name=eth0",
                "`eth0` is an interface in /run/netns/blue already",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let annotations = json!({"io.tincan.net.0": value});
            let name = format!("taken{at}");
            let bundle = annotated(host, &name, annotations, Some("/run/netns/blue"));
            refused(host, &["create", "-b", &bundle, "c1"], wrong);
        }
        remove_it(host);
    }
}

fn features_tell_of_the_annotations(host: &Host) {
    let said = host.tincan(["features"]).ok();
    let features: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        features["potentiallyUnsafeConfigAnnotations"],
        json!([
            "io.tincan.net.",
            "io.tincan.publish",
            "org.systemd.property."
        ])
    );
    assert_eq!(features["ociVersionMax"], "1.3.0");
    let kept = &features["annotations"]["org.opencontainers.runc.checkpoint.enabled"];
    assert_eq!(kept, "true");
    for part in ["seccomp", "apparmor", "selinux", "intelRdt", "netDevices"] {
        assert_eq!(features["linux"][part]["enabled"], true, "{part}");
    }
}

fn the_lines_of_a_run_with_annotations_name_its_links(host: &Host) {
    let annotations = json!({"io.tincan.net.7": "172.16.0.1/16"});
    let bundle = annotated(host, "bundle", annotations, None);
    let said = host.tincan(["run", "--dry-run", "-b", &bundle, "c1"]).ok();
    let line = "ip link add veth-c1 type veth peer name eth0 netns c1";
    assert!(said.contains(line), "{said}");
}
