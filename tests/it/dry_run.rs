//! `--dry-run`: what it prints does by hand what tincan does.

use serde_json::Value;

use crate::host::{Case, Host, tests};

/// The tests of this file.
pub fn tests() -> Vec<Case> {
    tests![
        the_lines_of_a_run_make_what_it_makes needs [Root],
        the_lines_of_a_pair_make_what_it_makes needs [Root],
        the_lines_of_a_link_make_what_it_makes needs [Root],
        the_lines_of_a_link_to_the_host_make_what_it_makes needs [Root],
        the_lines_of_every_key_make_what_it_makes needs [Root],
        the_plan_is_data_as_well needs [Root],
    ]
}

/// The links and addresses of a namespace, without what the kernel chooses: `ip` is asked by what comes before.
fn network(host: &Host, ip: &str) -> Vec<String> {
    let mut lines: Vec<String> = host
        .sh(&format!("{ip} -br address"))
        .lines()
        .map(|line| {
            let words = line.split_whitespace();
            let kept = words.filter(|word| !word.starts_with("fe80:") && !is_state(word));
            kept.map(|word| word.split("@if").next().unwrap_or(word))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    lines.sort();
    lines
}

/// Whether a word is the state of a link, or of a route by it, which follows its carrier some time after it is raised.
pub fn is_state(word: &str) -> bool {
    ["UP", "DOWN", "UNKNOWN", "LOWERLAYERDOWN", "linkdown"].contains(&word)
}

/// Runs the lines that are no comments.
pub fn by_hand(host: &Host, plan: &str) {
    let lines: Vec<&str> = plan.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(!lines.is_empty(), "{plan}");
    host.sh(&lines.join("\n"));
}

/// Runs the lines that take it away again, and waits until the kernel has.
pub fn undo(host: &Host, plan: &str) {
    let lines: Vec<&str> = plan
        .lines()
        .filter_map(|line| line.strip_prefix("# to undo: "))
        .collect();
    host.sh(&lines.join("\n"));
    host.wait_until("the links are gone", || {
        !host.sh("ip -br link").contains("veth")
    });
}

fn the_lines_of_a_run_make_what_it_makes(host: &Host) {
    let net = "172.16.0.1/16,fd00::1/64,gw=172.16.0.2,mtu=1400,mac=02:00:00:00:00:01";
    let asked = [
        "run",
        "--name",
        "ns1",
        "--net",
        net,
        "--dry-run",
        "--",
        "true",
    ];
    let plan = host.tincan(asked).ok();
    by_hand(host, &plan);
    let hand = (
        network(host, "ip"),
        network(host, "ip -n ns1"),
        host.sh("ip -n ns1 route"),
    );
    undo(host, &plan);
    host.sh("rmdir /run/netns 2>/dev/null || umount /run/netns && rmdir /run/netns");
    host.tincan([
        "run",
        "-d",
        "--name",
        "ns1",
        "--netns-name",
        "--net",
        net,
        "--",
        "sleep",
        "100",
    ])
    .ok();
    let tincan = (
        network(host, "ip"),
        network(host, "ip -n ns1"),
        host.sh("ip -n ns1 route"),
    );
    host.tincan(["delete", "--force", "ns1"]).ok();
    assert_eq!(hand, tincan);
}

fn the_lines_of_a_pair_make_what_it_makes(host: &Host) {
    let asked = [
        "pair",
        "--dry-run",
        "ns1=172.16.0.1/16",
        "ns2=172.16.0.2/16",
    ];
    let plan = host.tincan(asked).ok();
    by_hand(host, &plan);
    let hand = (network(host, "ip -n ns1"), network(host, "ip -n ns2"));
    host.sh("ip netns exec ns1 ping -q -c1 172.16.0.2");
    undo(host, &plan);
    host.sh("rmdir /run/netns 2>/dev/null || umount /run/netns && rmdir /run/netns");
    host.tincan(["pair", "ns1=172.16.0.1/16", "ns2=172.16.0.2/16"])
        .ok();
    let seen = |name: &str| {
        let text = host.tincan(["exec", name, "ip", "-br", "address"]).ok();
        let quoted = text.replace('\'', "");
        network(host, &format!("printf '%s' '{quoted}' #"))
    };
    let tincan = (seen("ns1"), seen("ns2"));
    host.tincan(["delete", "--force", "ns1"]).ok();
    host.tincan(["delete", "--force", "ns2"]).ok();
    assert_eq!(hand, tincan);
}

fn the_lines_of_a_link_make_what_it_makes(host: &Host) {
    for name in ["a", "b"] {
        let named = format!("--netns-name={name}");
        host.tincan(["run", "-d", "--name", name, &named, "--", "sleep", "100"])
            .ok();
    }
    let ends = ["link", "add", "a=10.0.0.1/24", "b=10.0.0.2/24"];
    let plan = host.tincan(ends.iter().copied().chain(["--dry-run"])).ok();
    by_hand(host, &plan);
    let hand = (network(host, "ip -n a"), network(host, "ip -n b"));
    // By its lines, too, the wire goes.
    let plan = host.tincan(["link", "del", "a", "eth0", "--dry-run"]).ok();
    by_hand(host, &plan);
    assert!(
        !network(host, "ip -n b").concat().contains("eth0"),
        "{plan}"
    );
    host.tincan(ends).ok();
    let tincan = (network(host, "ip -n a"), network(host, "ip -n b"));
    for name in ["a", "b"] {
        host.tincan(["delete", "--force", name]).ok();
    }
    assert_eq!(hand, tincan);
}

fn the_lines_of_a_link_to_the_host_make_what_it_makes(host: &Host) {
    host.tincan([
        "run",
        "-d",
        "--name",
        "a",
        "--netns-name",
        "--",
        "sleep",
        "100",
    ])
    .ok();
    let ends = [
        "link",
        "add",
        "host=10.0.0.1/24,fd00::1/64",
        "a=10.0.0.2/24,fd00::2/64,name=up0",
    ];
    let plan = host.tincan(ends.iter().copied().chain(["--dry-run"])).ok();
    by_hand(host, &plan);
    let aliases = || host.sh("ip -o -d link show type veth | grep -o 'alias .*'");
    let hand = (network(host, "ip"), network(host, "ip -n a"), aliases());
    undo(host, &plan);
    host.tincan(ends).ok();
    let tincan = (network(host, "ip"), network(host, "ip -n a"), aliases());
    host.tincan(["delete", "--force", "a"]).ok();
    assert_eq!(hand, tincan);
}

fn the_lines_of_every_key_make_what_it_makes(host: &Host) {
    host.tincan([
        "run",
        "-d",
        "--name",
        "hub",
        "--netns-name",
        "--",
        "sleep",
        "100",
    ])
    .ok();
    let to_hub = "10.0.0.2/24,to=hub,peer=10.0.0.1/24,route=10.5.0.0/16@10.0.0.1,route=10.6.0.0/16,name=up0,mac=02:00:00:00:00:02";
    let to_host = "172.16.0.1/16,172.17.0.1/16,fd00::1/64,peer=172.16.9.9,peer=fd01::9/64,gw=172.16.9.9,gw=fd01::9,mtu=1280";
    let second = "10.9.0.1/24";
    let nets = ["--net", to_hub, "--net", to_host, "--net", second];
    let run = |first: &[&str], last: &[&str]| {
        host.tincan([&["run", "--name", "ns1"], first, &nets[..], last].concat())
            .ok()
    };
    let look = || {
        let hub = network(host, "ip -n hub");
        let routes = host.sh(
            "ip -n ns1 route; ip -n ns1 -6 route; ip route; ip -n hub route; ip -n hub -6 route",
        );
        let routes: Vec<String> = routes
            .lines()
            .filter(|route| !route.starts_with("fe80::"))
            .map(str::to_owned)
            .collect();
        let looks = host.sh("ip -n ns1 -o link | grep -o 'mtu [0-9]*'; ip -n ns1 -o link show up0 | grep -o 'link/ether [^ ]*'");
        (
            network(host, "ip"),
            network(host, "ip -n ns1"),
            hub,
            routes,
            looks,
        )
    };
    let plan = run(&["--dry-run"], &["--", "true"]);
    by_hand(host, &plan);
    let hand = look();
    undo(host, &plan);
    run(&["-d", "--netns-name"], &["--", "sleep", "100"]);
    let tincan = look();
    for name in ["ns1", "hub"] {
        host.tincan(["delete", "--force", name]).ok();
    }
    assert_eq!(hand, tincan);
}

fn the_plan_is_data_as_well(host: &Host) {
    let asked = [
        "run",
        "--name",
        "ns1",
        "--net",
        "10.0.0.1/24",
        "--dry-run",
        "--format",
        "json",
    ];
    let text = host
        .tincan(asked.iter().copied().chain(["--", "true"]))
        .ok();
    let plan: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(plan["topology"]["nodes"][0]["name"], "ns1");
    assert_eq!(plan["host_steps"][0]["step"], "claim");
    assert_eq!(plan["iproute2"][0], "ip netns add ns1");
}
