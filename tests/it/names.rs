//! The names of containers: in `/etc/hosts` and `/etc/resolv.conf`, and their own.

use super::bad_input::refused;
use super::host::{Case, Host, tests};
use super::network::{create, delete, remove};

pub fn tests() -> Vec<Case> {
    tests![
        on_two_networks_all_names_are_known needs [Nftables],
        names_that_are_added_are_known,
        the_outside_is_asked_where_it_is_said,
        a_host_name_is_the_containers_own,
        a_host_name_is_known_to_its_container needs [Nftables],
        who_shares_a_network_knows_its_names needs [Nftables],
        a_bundle_has_names_as_well needs [Root, Nftables],
        wrong_names_are_refused,
    ]
}

const SUBNETS: [[&str; 5]; 2] = [
    ["lan0", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64"],
    ["lan1", "--subnet", "10.8.0.0/24", "--subnet", "fd08::/64"],
];

/// Starts a container over busybox that stays.
fn stay(host: &Host, name: &str, options: &[&str]) {
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    let run = ["run", "-d", "--rootfs", rootfs, "--name", name];
    let stays = ["--", "sleep", "1000"];
    host.tincan(run.iter().chain(options).chain(&stays)).ok();
}

/// What a command over busybox says.
fn said(host: &Host, options: &[&str], command: &[&str]) -> String {
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    let run = ["run", "--rootfs", rootfs];
    host.tincan(run.iter().chain(options).chain(&["--"]).chain(command))
        .ok()
}

/// By how many addresses a container knows a name.
fn known(host: &Host, container: &str, name: &str) -> usize {
    let hosts = host.tincan(["exec", container, "cat", "/etc/hosts"]).ok();
    let has = |line: &&str| line.split_whitespace().skip(1).any(|word| word == name);
    hosts.lines().filter(has).count()
}

fn on_two_networks_all_names_are_known(host: &Host) {
    for subnets in SUBNETS {
        create(host, &subnets);
    }
    stay(host, "web", &["--net", "lan0"]);
    let both = ["--net", "lan0", "--net", "lan1", "--alias", "between"];
    stay(host, "both", &both);
    stay(host, "db", &["--net", "lan1", "--alias", "sql"]);
    for (from, name, times) in [
        ("both", "web", 2),
        ("both", "db", 2),
        ("both", "sql", 2),
        ("both", "localhost", 2),
        ("both", "both", 4),
        ("web", "between", 2),
        ("db", "between", 2),
        // They are on no network together.
        ("web", "db", 0),
        ("db", "web", 0),
    ] {
        assert_eq!(known(host, from, name), times, "{name} in {from}");
    }
    for name in ["web", "sql"] {
        host.tincan(["exec", "both", "ping", "-c1", "-W5", name])
            .ok();
        host.tincan(["exec", "both", "ping", "-6", "-c1", "-W5", name])
            .ok();
    }
    delete(host, &["web"]);
    assert_eq!(known(host, "both", "web"), 0);
    assert_eq!(known(host, "both", "sql"), 2);
    delete(host, &["both", "db"]);
    remove(host, "lan0");
    remove(host, "lan1");
}

fn names_that_are_added_are_known(host: &Host) {
    create(host, &SUBNETS[0]);
    stay(host, "web", &["--net", "lan0"]);
    let added = ["--add-host", "far:192.0.2.7", "--add-host", "far:fd00::7"];
    let hosts = said(host, &added, &["cat", "/etc/hosts"]);
    let lines: Vec<&str> = hosts.lines().collect();
    assert_eq!(lines[0], "127.0.0.1\tlocalhost");
    assert_eq!(&lines[2..], ["192.0.2.7\tfar", "fd00::7\tfar"]);
    stay(host, "one", &[&["--net", "lan0"][..], &added].concat());
    for (name, times) in [("web", 2), ("far", 2), ("one", 2)] {
        assert_eq!(known(host, "one", name), times, "{name}");
    }
    // And nobody else knows them.
    assert_eq!(known(host, "web", "far"), 0);
    stay(host, "late", &["--net", "lan0"]);
    assert_eq!(known(host, "one", "late"), 2);
    delete(host, &["web", "one", "late"]);
    remove(host, "lan0");
}

fn the_outside_is_asked_where_it_is_said(host: &Host) {
    let options = [
        "--dns",
        "192.0.2.53",
        "--dns",
        "fd00::53",
        "--dns-search",
        "example.org",
        "--dns-search",
        "example.net",
    ];
    assert_eq!(
        said(host, &options, &["cat", "/etc/resolv.conf"]),
        "search example.org example.net\nnameserver 192.0.2.53\nnameserver fd00::53\n"
    );
    // A domain may be longer than a host's own name.
    let domain = "service-with-a-long-name.namespace-with-a-long-name.svc.cluster.local";
    let far = format!("{domain}:192.0.2.7");
    let options = ["--dns-search", domain, "--add-host", &far];
    let files = said(host, &options, &["cat", "/etc/resolv.conf", "/etc/hosts"]);
    assert!(files.starts_with(&format!("search {domain}\n")), "{files}");
    assert!(
        files.ends_with(&format!("192.0.2.7\t{domain}\n")),
        "{files}"
    );
    let script = "echo x >>/etc/resolv.conf";
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    let run = ["run", "--rootfs", rootfs, "--dns", "192.0.2.53", "--"];
    let written = host.tincan(run.iter().chain(&["sh", "-c", script]));
    assert!(written.fails(1).contains("Read-only"));
}

fn a_host_name_is_the_containers_own(host: &Host) {
    let own = host.sh("hostname");
    let name = ["--hostname", "web.example"];
    assert_eq!(said(host, &name, &["hostname"]), "web.example\n");
    // A container's name may be longer.
    let long = ["--name", LONG];
    assert_eq!(
        said(host, &long, &["hostname"]),
        format!("{}\n", &LONG[..64])
    );
    let over_host = ["run", "--hostname", "web.example", "--", "hostname"];
    assert_eq!(host.tincan(over_host).ok(), "web.example\n");
    assert_eq!(host.sh("hostname"), own);
}

fn a_host_name_is_known_to_its_container(host: &Host) {
    create(host, &SUBNETS[0]);
    stay(host, "web", &["--net", "lan0", "--hostname", "own.example"]);
    let looked_up = |name: &str| {
        let line = format!("hostname; hostname -i; ping -q -c1 -W5 {name}");
        host.tincan(["exec", "web", "sh", "-euc", &line]).ok()
    };
    for name in ["own.example", "web"] {
        let said = looked_up(name);
        assert!(said.starts_with("own.example\n10.9.0.2\n"), "{said}");
    }
    // Who comes later is known there, and it is known by its container's name to all others.
    stay(host, "db", &["--net", "lan0"]);
    for (from, name, times) in [
        ("web", "db", 2),
        ("web", "web", 2),
        ("web", "own.example", 2),
        ("db", "web", 2),
        ("db", "own.example", 0),
    ] {
        assert_eq!(known(host, from, name), times, "{name} in {from}");
    }
    delete(host, &["web", "db"]);
    remove(host, "lan0");
}

fn who_shares_a_network_knows_its_names(host: &Host) {
    for subnets in SUBNETS {
        create(host, &subnets);
    }
    stay(host, "one", &["--net", "lan0"]);
    stay(host, "both", &["--net", "lan0", "--net", "lan1"]);
    stay(host, "beside-one", &["--net", "container:one"]);
    stay(host, "beside-both", &["--net", "container:both"]);
    let far = ["--net", "container:one", "--add-host", "far:192.0.2.7"];
    stay(host, "beside-far", &far);
    stay(host, "db", &["--net", "lan1"]);
    for (from, name, times) in [
        ("beside-one", "one", 2),
        ("beside-one", "both", 2),
        ("beside-one", "db", 0),
        ("beside-both", "one", 2),
        ("beside-both", "both", 4),
        ("beside-both", "db", 2),
        ("beside-far", "both", 2),
        ("beside-far", "far", 1),
        // It has no address of its own.
        ("one", "beside-one", 0),
    ] {
        assert_eq!(known(host, from, name), times, "{name} in {from}");
    }
    host.tincan(["exec", "beside-both", "ping", "-q", "-c1", "-W5", "db"])
        .ok();
    let all = [
        "beside-one",
        "beside-both",
        "beside-far",
        "one",
        "both",
        "db",
    ];
    delete(host, &all);
    remove(host, "lan0");
    remove(host, "lan1");
}

fn a_bundle_has_names_as_well(host: &Host) {
    create(host, &SUBNETS[0]);
    stay(host, "web", &["--net", "lan0"]);
    let bundle = host.bundle("named", |spec| {
        spec["process"]["args"] = serde_json::json!(["sleep", "1000"]);
    });
    let line = format!(
        "{} create --bundle {} --net lan0 --alias other --hostname own --add-host far:192.0.2.7 c1 </dev/null >/dev/null 2>&1",
        Host::TINCAN,
        bundle.display()
    );
    host.sh(&line);
    host.tincan(["start", "c1"]).ok();
    assert_eq!(host.tincan(["exec", "c1", "hostname"]).ok(), "own\n");
    assert_eq!(known(host, "web", "other"), 2);
    assert_eq!(known(host, "c1", "web"), 2);
    assert_eq!(known(host, "c1", "far"), 1);
    delete(host, &["c1", "web"]);
    remove(host, "lan0");
}

/// 65 letters, one more than the kernel takes.
const LONG: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn wrong_names_are_refused(host: &Host) {
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    for (options, wrong) in [
        (["--add-host", "far"], "`far` has no `:`"),
        (["--add-host", "far:there"], "`there` is no IP address"),
        (["--add-host", "f r:192.0.2.7"], "`f r` has other than"),
        (["--hostname", "a b"], "`a b` has other than"),
        (["--hostname", ""], "`` has other than"),
        (["--hostname", LONG], "is longer than 64 bytes"),
        (["--dns-search", "a..b"], "`a..b` has a part"),
        (["--dns", "there"], "there"),
    ] {
        let run = [
            "run", "--rootfs", rootfs, options[0], options[1], "--", "true",
        ];
        refused(host, &run, wrong);
    }
    for options in [
        ["--add-host", "far:192.0.2.7"],
        ["--dns", "192.0.2.53"],
        ["--dns-search", "example"],
    ] {
        let run = ["run", options[0], options[1], "--", "true"];
        refused(host, &run, "`--rootfs DIR` gives it files of its own");
    }
    let alone = ["run", "--name", "a", "--alias", "b", "--", "true"];
    refused(host, &alone, "--alias b: a is on no network");
    let shared = ["run", "--share", "uts", "--hostname", "a", "--", "true"];
    refused(host, &shared, "the container has the host's own name");
}
