//! `tincan network`, and containers on networks.

use serde_json::{Value, json};

use super::bad_input::refused;
use super::dry_run::{by_hand, undo};
use super::host::{Case, Host, tests};
use super::net::{closes_unheard, host_end, way_back};

pub fn tests() -> Vec<Case> {
    tests![
        containers_reach_each_other_and_the_host needs [Nftables],
        addresses_are_leased_and_come_back needs [Nftables],
        a_lease_outlasts_a_kill_and_is_cleared_away needs [Nftables],
        many_join_at_once_and_none_shares_an_address needs [Nftables],
        of_many_that_are_made_at_once_one_gets_the_prefix needs [Nftables],
        the_outside_is_reached_under_the_hosts_address needs [Root, Nftables],
        who_drops_what_is_passed_on_is_told needs [Root, Nftables],
        nothing_comes_in_from_outside needs [Root, Nftables],
        networks_do_not_reach_each_other_unless_allowed needs [Nftables],
        isolated_ports_reach_the_host_alone needs [Nftables],
        an_internal_network_has_no_way_out needs [Root, Nftables],
        forwarding_is_put_back_with_the_last_network needs [Nftables],
        what_was_taken_away_is_put_back needs [Nftables],
        what_was_taken_of_the_bridge_and_the_rules_is_put_back needs [Nftables],
        a_wire_that_was_taken_away_is_put_back needs [Nftables],
        routes_of_all_and_of_one_do_not_clash needs [Nftables],
        a_network_may_have_the_names_of_all_links needs [Nftables],
        ipv6_is_on_where_the_host_has_it_off needs [Root, Nftables],
        routes_and_looks_are_the_containers needs [Nftables],
        a_bundle_is_on_a_network needs [Root, Nftables],
        containers_know_each_other_by_name needs [Nftables],
        a_container_that_locks_its_hosts_file_holds_nobody_up needs [Root, Nftables],
        two_roots_leave_each_others_networks_alone needs [Root, Nftables],
        a_half_made_bridge_is_made_anew needs [Nftables],
        what_is_left_under_its_name_is_made_anew needs [Root, Nftables],
        rules_go_where_the_bridge_is_somebody_elses needs [Nftables],
        wires_to_single_containers_are_not_reached needs [Nftables],
        nobody_on_a_network_is_the_hosts_router needs [Nftables],
        ipv6_is_as_the_network_has_it_whatever_procfs_a_bundle_has needs [Root, Nftables],
        an_address_answers_for_its_new_holder_alone needs [Root, Nftables],
        a_container_is_itself_from_the_first_moment needs [Nftables],
        wrong_networks_are_refused needs [Nftables],
        the_lines_of_a_run_make_what_it_makes needs [Root, Nftables],
    ]
}

pub fn create(host: &Host, words: &[&str]) {
    host.tincan(["network", "create"].iter().chain(words)).ok();
}

pub fn remove(host: &Host, name: &str) {
    host.tincan(["network", "rm", name]).ok();
    host.wait_until("its bridge is gone", || {
        !host.sh("ip -br link").contains(name)
    });
}

/// Starts a container that stays.
pub fn stay(host: &Host, name: &str, net: &str) {
    let run = [
        "run", "-d", "--name", name, "--net", net, "--", "sleep", "1000",
    ];
    host.tincan(run).ok();
}

pub fn delete(host: &Host, names: &[&str]) {
    for name in names {
        host.tincan(["delete", "--force", name]).ok();
    }
}

/// A line of shell that pings each of these once.
fn pings(addresses: &[&str]) -> String {
    let lines: Vec<String> = addresses
        .iter()
        .map(|it| format!("ping -q -c1 -W5 {it} >/dev/null"))
        .collect();
    lines.join(" && ")
}

/// Fails the test unless a container reaches an address, or does not. What is to be there may take its time on a busy machine.
pub fn reaches(host: &Host, from: &str, to: &str, expected: bool) {
    let patience = if expected { "-W10" } else { "-W1" };
    let ping = ["exec", from, "ping", "-q", "-c1", patience, to];
    let code = host
        .tincan(ping)
        .any_stderr()
        .assert()
        .get_output()
        .status
        .code();
    assert_eq!(code == Some(0), expected, "{from} to {to}");
}

const LAN0: [&str; 5] = ["lan0", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64"];

fn containers_reach_each_other_and_the_host(host: &Host) {
    create(host, &LAN0);
    stay(host, "web", "lan0");
    let script = pings(&["10.9.0.2", "fd09::2", "10.9.0.1", "fd09::1"]);
    let run = ["run", "--net", "lan0", "--", "sh", "-euc", &script];
    host.tincan(run).ok();
    host.sh(&pings(&["10.9.0.2", "fd09::2"]));
    assert!(host.tincan(["list"]).ok().contains("eth0 lan0:veth-web"));
    let listed = host.tincan(["network", "list"]).ok();
    let words: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        words,
        ["lan0", "lan0", "10.9.0.0/24,", "fd09::/64", "web"],
        "{listed}"
    );
    assert_eq!(host.tincan(["network", "list", "-q"]).ok(), "lan0\n");
    delete(host, &["web"]);
    remove(host, "lan0");
}

fn addresses_are_leased_and_come_back(host: &Host) {
    create(host, &LAN0);
    stay(host, "a", "lan0");
    stay(host, "b", "lan0,10.9.0.7,fd09::7");
    stay(host, "c", "lan0,fd09::9");
    let inspect = || -> Value {
        serde_json::from_str(&host.tincan(["network", "inspect", "lan0"]).ok()).unwrap()
    };
    let leases = || -> Vec<String> {
        let network = inspect();
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        let containers = network["containers"].as_array().unwrap();
        containers
            .iter()
            .map(|it| text(&it["container"]) + " " + &text(&it["address"]))
            .collect()
    };
    let mut all = leases();
    all.sort();
    let expected = [
        "a 10.9.0.2",
        "a fd09::2",
        "b 10.9.0.7",
        "b fd09::7",
        "c 10.9.0.3",
        "c fd09::9",
    ];
    assert_eq!(all, expected);
    let taken = "address 10.9.0.7 of network lan0 is leased to container b";
    refused(
        host,
        &["run", "--net", "lan0,10.9.0.7", "--", "true"],
        taken,
    );
    refused(
        host,
        &["network", "rm", "lan0"],
        "network lan0 is in use by a, b, c",
    );
    delete(host, &["b", "a"]);
    // The first that is free.
    stay(host, "d", "lan0");
    let mut all = leases();
    all.sort();
    assert_eq!(all, ["c 10.9.0.3", "c fd09::9", "d 10.9.0.2", "d fd09::2"]);
    assert_eq!(inspect()["up"], true);
    // A run that fails has none.
    host.tincan(["run", "--net", "lan0", "--", "nosuch"])
        .fails(127);
    assert_eq!(leases().len(), 4);
    delete(host, &["c", "d"]);
    remove(host, "lan0");
}

fn a_lease_outlasts_a_kill_and_is_cleared_away(host: &Host) {
    create(host, &LAN0);
    let line = format!(
        "{} run --name lost --net lan0,10.9.0.7 -- sh -c 'echo up; exec sleep 1000' >up & tincan=$!
        until grep -q up up; do :; done; kill -9 $tincan",
        super::host::tincan().get_program().display()
    );
    host.sh(&line);
    // Whoever asks for it by name has it, since nobody waits for its container any more.
    stay(host, "next", "lan0,10.9.0.7");
    reaches(host, "next", "10.9.0.1", true);
    delete(host, &["next"]);
    assert_eq!(host.tincan(["gc"]).ok(), "");
    remove(host, "lan0");
}

fn many_join_at_once_and_none_shares_an_address(host: &Host) {
    create(host, &["lan0", "--subnet", "10.9.0.0/24"]);
    let tincan = super::host::tincan();
    let tincan = tincan.get_program().display();
    host.sh(&format!(
        "seq 40 | xargs -P8 -I% sh -c '{tincan} run -d --name c% --net lan0 -- sleep 1000 </dev/null >/dev/null'"
    ));
    let said = host.tincan(["network", "inspect", "lan0"]).ok();
    let network: Value = serde_json::from_str(&said).unwrap();
    let containers = network["containers"].as_array().unwrap();
    let addresses: std::collections::BTreeSet<&str> = containers
        .iter()
        .map(|it| it["address"].as_str().unwrap())
        .collect();
    assert_eq!((containers.len(), addresses.len()), (40, 40));
    let last = containers[39]["address"].as_str().unwrap();
    reaches(host, "c1", last, true);
    host.sh(&format!(
        "seq 40 | xargs -P8 -I% {tincan} delete --force c%"
    ));
    remove(host, "lan0");
}

fn of_many_that_are_made_at_once_one_gets_the_prefix(host: &Host) {
    let tincan = super::host::tincan();
    let tincan = tincan.get_program().display();
    host.sh(&format!(
        "seq 8 | xargs -P8 -I% sh -c '{tincan} network create lan% --subnet 10.9.0.0/24 2>>said || :'"
    ));
    let said = host.sh("cat said");
    assert_eq!(
        said.matches("overlaps with network lan").count(),
        7,
        "{said}"
    );
    let left = host.tincan(["network", "list", "-q"]).ok();
    assert_eq!(left.lines().count(), 1, "{left}");
    // All repair it at once, and nobody finds it half made.
    host.sh(&format!(
        "ip link del {net}; nft flush ruleset; seq 8 | xargs -P8 -I% {tincan} run --net {net} -- ping -q -c1 -W5 10.9.0.1",
        net = left.trim()
    ));
    remove(host, left.trim());
}

/// A namespace `world` behind the host's link `p0`, which knows the host alone: 192.0.2.254 and fd00:2::254.
pub fn world(host: &Host) {
    host.sh(
        "ip netns add world; ip link add p0 type veth peer name q0 netns world
        ip address add 192.0.2.1/24 dev p0; ip address add fd00:2::1/64 dev p0 nodad; ip link set p0 up
        ip -n world address add 192.0.2.254/24 dev q0; ip -n world address add fd00:2::254/64 dev q0 nodad
        ip -n world link set q0 up; ip -n world link set lo up",
    );
}

/// Takes it away again.
pub fn no_world(host: &Host) {
    host.sh("ip link del p0; ip netns del world; umount /run/netns; rmdir /run/netns");
}

fn the_outside_is_reached_under_the_hosts_address(host: &Host) {
    world(host);
    create(host, &LAN0);
    // The world has no route to the network, so an answer can only come to the host's own address.
    let script = pings(&["192.0.2.254", "fd00:2::254"]);
    host.tincan(["run", "--net", "lan0", "--", "sh", "-euc", &script])
        .ok();
    let said = host.sh("nft list table inet tincan-lan0");
    assert_eq!(said.matches("oifname != \"lan0\"").count(), 2, "{said}");
    remove(host, "lan0");
    no_world(host);
}

/// As Docker, and ufw, have it.
fn who_drops_what_is_passed_on_is_told(host: &Host) {
    world(host);
    create(host, &LAN0);
    // What is no chain for that, or lets pass, is nothing to tell.
    host.sh("nft 'table inet other { chain c { type filter hook input priority 0; policy drop; }; chain f { type filter hook forward priority 0; }; }'");
    host.tincan(["network", "reload"]).ok();
    // Nor does it let a bridge pass that it lets one pass whose name ends so.
    host.sh("nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; iifname wlan0 accept; }; }'");
    let run = |code| {
        let ping = ["run", "--net", "lan0", "--", "ping", "-q", "-c1", "-W1"];
        let ping = ping.iter().chain(&["192.0.2.254"]);
        host.tincan(ping).assert().code(code);
    };
    run(1);
    let told = |words: &[&str]| -> String {
        let done = host.tincan(["network"].iter().chain(words)).any_stderr();
        let output = done.assert().success().get_output().clone();
        String::from_utf8(output.stderr).unwrap()
    };
    let said = told(&["reload"]);
    assert!(
        said.contains("network lan0: the chain `ip filter FORWARD` drops"),
        "{said}"
    );
    let said = told(&["create", "lan1", "--subnet", "10.8.0.0/24"]);
    assert!(
        said.contains("network lan1: the chain `ip filter FORWARD` drops"),
        "{said}"
    );
    // It is not the way of a network without IPv4, nor of one without a way out.
    for words in [
        &["--subnet", "fd07::/64"][..],
        &["--subnet", "10.7.0.0/24", "--internal"],
    ] {
        create(host, &[&["lan2"], words].concat());
        remove(host, "lan2");
    }
    // The lines that it says are the remedy.
    let said = told(&["reload", "lan0"]);
    let lines: Vec<&str> = said
        .split('`')
        .filter(|it| it.starts_with("nft "))
        .collect();
    assert_eq!(lines.len(), 2, "{said}");
    host.sh(&lines.join("; "));
    run(0);
    assert_eq!(told(&["reload", "lan0"]), "");
    host.sh("nft delete table ip filter; nft delete table inet other");
    remove(host, "lan0");
    remove(host, "lan1");
    no_world(host);
}

fn nothing_comes_in_from_outside(host: &Host) {
    world(host);
    create(host, &LAN0);
    stay(host, "web", "lan0");
    host.sh("ip -n world route add 10.9.0.0/24 via 192.0.2.1; ip -n world route add fd09::/64 via fd00:2::1");
    for ip in ["10.9.0.2", "fd09::2"] {
        let ping = format!("! ip netns exec world ping -q -c1 -W1 {ip} >/dev/null");
        host.sh(&ping);
    }
    host.sh(&pings(&["10.9.0.2", "fd09::2"]));
    delete(host, &["web"]);
    remove(host, "lan0");
    no_world(host);
}

fn networks_do_not_reach_each_other_unless_allowed(host: &Host) {
    create(host, &LAN0);
    create(
        host,
        &["lan1", "--subnet", "10.8.0.0/24", "--subnet", "fd08::/64"],
    );
    let lan2 = [
        "lan2",
        "--subnet",
        "10.7.0.0/24",
        "--subnet",
        "fd07::/64",
        "--allow",
        "lan1",
    ];
    create(host, &lan2);
    for (name, net) in [("a", "lan0"), ("b", "lan1"), ("c", "lan2")] {
        stay(host, name, net);
    }
    for (from, to, is_reached) in [
        ("a", "10.8.0.2", false),
        ("a", "fd08::2", false),
        ("b", "10.9.0.2", false),
        ("b", "fd09::2", false),
        ("a", "10.7.0.2", false),
        ("a", "fd07::2", false),
        ("c", "10.8.0.2", false),
        ("b", "10.7.0.2", true),
        ("b", "fd07::2", true),
    ] {
        reaches(host, from, to, is_reached);
    }
    delete(host, &["a", "b", "c"]);
    // So it is with an internal one, which has no default route to answer by but the allowed network's.
    let lan3 = [
        "lan3",
        "--subnet",
        "10.6.0.0/24",
        "--internal",
        "--allow",
        "lan1",
        "--route",
        "10.8.0.0/24@10.6.0.1",
    ];
    create(host, &lan3);
    stay(host, "b", "lan1");
    stay(host, "d", "lan3");
    reaches(host, "b", "10.6.0.2", true);
    reaches(host, "d", "10.8.0.2", false);
    delete(host, &["b", "d"]);
    for name in ["lan0", "lan1", "lan2", "lan3"] {
        remove(host, name);
    }
}

fn isolated_ports_reach_the_host_alone(host: &Host) {
    create(host, &[&LAN0[..], &["--isolate"]].concat());
    stay(host, "a", "lan0");
    stay(host, "b", "lan0");
    for (to, is_reached) in [
        ("10.9.0.3", false),
        ("fd09::3", false),
        ("10.9.0.1", true),
        ("fd09::1", true),
    ] {
        reaches(host, "a", to, is_reached);
    }
    // Not by the host either, which passes on what is for others.
    for (from, to) in [("a", "3"), ("b", "2")] {
        for (prefix, gateway) in [("10.9.0.", "10.9.0.1"), ("fd09::", "fd09::1")] {
            let to = format!("{prefix}{to}");
            host.tincan(["exec", from, "ip", "route", "add", &to, "via", gateway])
                .ok();
        }
    }
    for to in ["10.9.0.3", "fd09::3"] {
        reaches(host, "a", to, false);
    }
    delete(host, &["a", "b"]);
    remove(host, "lan0");
}

fn an_internal_network_has_no_way_out(host: &Host) {
    world(host);
    create(host, &[&LAN0[..], &["--internal"]].concat());
    stay(host, "a", "lan0");
    stay(host, "b", "lan0");
    reaches(host, "a", "10.9.0.3", true);
    reaches(host, "a", "fd09::3", true);
    assert_eq!(
        host.tincan(["exec", "a", "ip", "route", "show", "default"])
            .ok(),
        ""
    );
    assert_eq!(host.sh("cat /proc/sys/net/ipv4/ip_forward"), "0\n");
    // Not even where somebody else has turned forwarding on, and given it a route.
    host.sh("echo 1 >/proc/sys/net/ipv4/ip_forward");
    host.tincan([
        "exec", "a", "ip", "route", "add", "default", "via", "10.9.0.1",
    ])
    .ok();
    host.sh("ip -n world route add 10.9.0.0/24 via 192.0.2.1");
    reaches(host, "a", "192.0.2.254", false);
    host.sh("echo 0 >/proc/sys/net/ipv4/ip_forward");
    delete(host, &["a", "b"]);
    remove(host, "lan0");
    no_world(host);
}

fn forwarding_is_put_back_with_the_last_network(host: &Host) {
    let forwarding =
        || host.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding");
    assert_eq!(forwarding(), "0\n0\n");
    create(host, &["lan0", "--subnet", "10.9.0.0/24"]);
    assert_eq!(forwarding(), "1\n0\n");
    create(
        host,
        &["lan1", "--subnet", "10.8.0.0/24", "--subnet", "fd08::/64"],
    );
    assert_eq!(forwarding(), "1\n1\n");
    remove(host, "lan1");
    assert_eq!(forwarding(), "1\n0\n");
    remove(host, "lan0");
    assert_eq!(forwarding(), "0\n0\n");
    // What somebody else has turned on stays.
    host.sh("echo 1 >/proc/sys/net/ipv4/ip_forward");
    create(host, &["lan0", "--subnet", "10.9.0.0/24"]);
    remove(host, "lan0");
    assert_eq!(forwarding(), "1\n0\n");
    host.sh("echo 0 >/proc/sys/net/ipv4/ip_forward");
}

fn what_was_taken_away_is_put_back(host: &Host) {
    create(host, &LAN0);
    stay(host, "a", "lan0");
    stay(host, "b", "lan0");
    host.sh("ip link del lan0; nft flush ruleset");
    reaches(host, "a", "10.9.0.3", false);
    let listed = host.tincan(["network", "list"]).ok();
    assert!(listed.contains("down"), "{listed}");
    host.tincan(["network", "reload"]).ok();
    for to in ["10.9.0.3", "fd09::3", "10.9.0.1", "fd09::1"] {
        reaches(host, "a", to, true);
    }
    host.sh("nft list table inet tincan-lan0");
    // The next container does it as well.
    host.sh("ip link del lan0; nft flush ruleset");
    let script = pings(&["10.9.0.2", "fd09::2"]);
    host.tincan(["run", "--net", "lan0", "--", "sh", "-euc", &script])
        .ok();
    host.sh("nft list table inet tincan-lan0");
    delete(host, &["a", "b"]);
    remove(host, "lan0");
}

/// Bridge and table are there, but not whole.
fn what_was_taken_of_the_bridge_and_the_rules_is_put_back(host: &Host) {
    create(host, &LAN0);
    create(
        host,
        &["lan1", "--subnet", "10.8.0.0/24", "--subnet", "fd08::/64"],
    );
    stay(host, "a", "lan0");
    stay(host, "b", "lan0");
    stay(host, "far", "lan1");
    let rules = || {
        let listed = host.sh("nft list table inet tincan-lan0");
        assert!(listed.contains("oifname \"lan0\" drop"), "{listed}");
        listed
    };
    let whole = rules();
    for harm in [
        "nft flush table inet tincan-lan0",
        "nft flush chain inet tincan-lan0 forward",
        "nft insert rule inet tincan-lan0 forward accept",
        "ip link set lan0 down",
        "ip link set lan0 down; ip link set lan0 up",
        "ip address flush dev lan0",
        "ip link set veth-a nomaster",
        "echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding",
    ] {
        host.sh(harm);
        host.tincan(["network", "reload", "lan0"]).ok();
        assert_eq!(rules(), whole, "{harm}");
        for to in ["10.9.0.3", "fd09::3", "10.9.0.1", "fd09::1"] {
            eprintln!("{harm}");
            reaches(host, "a", to, true);
        }
        reaches(host, "far", "10.9.0.2", false);
        let seen = host.sh(
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding
            ip -6 route show table local ::1 dev lan0",
        );
        assert!(seen.starts_with("1\n1\nlocal ::1 "), "{harm}: {seen}");
    }
    // The next container finds these out by itself.
    for harm in [
        "ip link set lan0 down",
        "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding",
    ] {
        host.sh(harm);
        let script = pings(&["10.9.0.2", "fd09::2", "fd09::1"]);
        host.tincan(["run", "--net", "lan0", "--", "sh", "-euc", &script])
            .ok();
        let forwarded = host.sh("cat /proc/sys/net/ipv6/conf/all/forwarding");
        assert_eq!(forwarded, "1\n", "{harm}");
    }
    delete(host, &["a", "b", "far"]);
    remove(host, "lan0");
    remove(host, "lan1");
}

fn a_wire_that_was_taken_away_is_put_back(host: &Host) {
    create(host, &[&LAN0[..], &["--mtu", "1400"]].concat());
    create(host, &["lan1", "--subnet", "10.8.0.0/24"]);
    let net = "lan0,10.9.0.7,mac=02:00:00:00:00:07,name=up0,route=10.2.0.0/16@10.9.0.8";
    stay(host, "a", net);
    stay(host, "b", "lan0");
    host.tincan(["network", "connect", "lan1", "a"]).ok();
    let look = || {
        let seen = "ip -o link show up0 | tr ' ' '\\n' | grep -A1 'mtu\\|link/ether'
            ip -br address | sed 's/@[^ ]*//; s/  */ /g' | sort; ip route | sort; ip -6 route | grep -v fe80 | sort";
        host.tincan(["exec", "a", "sh", "-c", seen]).ok()
    };
    let before = look();
    assert!(before.contains("02:00:00:00:00:07"), "{before}");
    for harm in [
        "ip link del veth-a",
        "ip link del veth-a.1",
        "ip link set veth-a down",
        "ip link del veth-a; ip link del veth-a.1; ip link del veth-b; ip link del lan0",
    ] {
        host.sh(harm);
        host.tincan(["network", "reload"]).ok();
        assert_eq!(look(), before, "{harm}");
        for (from, to) in [("a", "10.9.0.1"), ("a", "fd09::1"), ("b", "10.9.0.7")] {
            reaches(host, from, to, true);
        }
        reaches(host, "a", "10.8.0.1", true);
        let listed = host.tincan(["link", "list"]).ok();
        assert_eq!(listed.lines().count(), 4, "{harm}: {listed}");
    }
    // The way out is by another one meanwhile, which has no IPv6.
    host.sh("ip link del veth-a");
    let route = ["--route", "default@10.8.0.1"];
    host.tincan([&["link", "set", "a", "eth0"], &route[..]].concat())
        .ok();
    host.tincan(["network", "reload"]).ok();
    reaches(host, "a", "10.9.0.1", true);
    let ways = "ip route show default; ip -6 route show default";
    let ways = host.tincan(["exec", "a", "sh", "-c", ways]).ok();
    assert!(ways.starts_with("default via 10.8.0.1 "), "{ways}");
    assert!(ways.contains("default via fd09::1 dev up0"), "{ways}");
    // What the user has taken away stays so.
    host.tincan(["network", "disconnect", "lan1", "a"]).ok();
    host.tincan(["network", "reload"]).ok();
    let listed = host.tincan(["link", "list"]).ok();
    assert_eq!(listed.lines().count(), 3, "{listed}");
    delete(host, &["a", "b"]);
    assert_eq!(host.tincan(["gc"]).ok(), "");
    remove(host, "lan0");
    remove(host, "lan1");
}

fn routes_of_all_and_of_one_do_not_clash(host: &Host) {
    let routes = [
        "--route",
        "0.0.0.0/0@10.9.0.254",
        "--route",
        "10.1.0.0/16@10.9.0.9",
    ];
    create(host, &[&LAN0[..], &routes].concat());
    let routes = |net: &[&str]| {
        let nets = net.iter().flat_map(|net| ["--net", *net]);
        let script =
            "ip route | cut -d' ' -f1-3 | sort; ip -6 route show default | cut -d' ' -f1-3";
        let run = ["run"].into_iter().chain(nets);
        let said = host.tincan(run.chain(["--", "sh", "-c", script])).ok();
        let kept = said.lines().filter(|line| line.contains("via"));
        kept.collect::<Vec<_>>().join(", ")
    };
    let (far, default6) = ("10.1.0.0/16 via 10.9.0.9", "default via fd09::1");
    let default = "default via 10.9.0.254";
    assert_eq!(routes(&["lan0"]), [far, default, default6].join(", "));
    // The next hop itself.
    assert_eq!(routes(&["lan0,10.9.0.9"]), [default, default6].join(", "));
    let by_host = "default via 10.9.0.1";
    assert_eq!(
        routes(&["lan0,10.9.0.254"]),
        [far, by_host, default6].join(", ")
    );
    // A container's own.
    assert_eq!(
        routes(&["lan0,route=10.1.0.0/16@10.9.0.8,route=0.0.0.0/0@10.9.0.7"]),
        ["10.1.0.0/16 via 10.9.0.8", "default via 10.9.0.7", default6].join(", ")
    );
    // Where another network leads everywhere already, it stays so.
    create(host, &["lan1", "--subnet", "10.8.0.0/24"]);
    let both = [far, "default via 10.8.0.1", default6].join(", ");
    assert_eq!(routes(&["lan1", "lan0"]), both);
    stay(host, "a", "lan1");
    host.tincan(["network", "connect", "lan0", "a"]).ok();
    let show = ["exec", "a", "ip", "route", "show", "default"];
    assert_eq!(host.tincan(show).ok(), "default via 10.8.0.1 dev eth0 \n");
    delete(host, &["a"]);
    remove(host, "lan0");
    remove(host, "lan1");
}

fn a_network_may_have_the_names_of_all_links(host: &Host) {
    for name in ["default", "all"] {
        create(host, &[&[name], &LAN0[1..]].concat());
        let ping = pings(&["10.9.0.1", "fd09::1"]);
        host.tincan([
            "run", "--net", name, "-p", "8080", "--", "sh", "-euc", &ping,
        ])
        .ok();
        host.tincan(["network", "rm", name]).ok();
    }
    assert_eq!(
        host.sh("cat /proc/sys/net/ipv4/conf/all/route_localnet"),
        "0\n"
    );
}

fn ipv6_is_on_where_the_host_has_it_off(host: &Host) {
    let set = |value: u8| {
        host.sh(&format!(
            "echo {value} >/proc/sys/net/ipv6/conf/default/disable_ipv6"
        ));
    };
    set(1);
    create(host, &LAN0);
    stay(host, "a", "lan0");
    reaches(host, "a", "fd09::1", true);
    host.sh(&pings(&["fd09::2"]));
    // A wire to the host as well.
    stay(host, "b", "fd00::1/64");
    reaches(host, "b", "fd00::2", true);
    delete(host, &["a", "b"]);
    remove(host, "lan0");
    set(0);
}

fn routes_and_looks_are_the_containers(host: &Host) {
    create(
        host,
        &[
            &LAN0[..],
            &["--mtu", "1400", "--route", "10.1.0.0/16@10.9.0.9"],
        ]
        .concat(),
    );
    let net = "lan0,mac=02:00:00:00:00:07,name=up0,route=10.2.0.0/16@10.9.0.8";
    let script = "ip link show up0; ip route; ip -6 route";
    let said = host
        .tincan(["run", "--net", net, "--", "sh", "-c", script])
        .ok();
    for text in [
        "mtu 1400",
        "02:00:00:00:00:07",
        "default via 10.9.0.1 dev up0",
        "default via fd09::1 dev up0",
        "10.1.0.0/16 via 10.9.0.9 dev up0",
        "10.2.0.0/16 via 10.9.0.8 dev up0",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    // A wire that says where everything goes has the last word.
    let gateway = "172.16.0.1/16,gw=172.16.0.2,name=out0";
    let show = ["ip", "route", "show", "default"];
    let run = ["run", "--net", "lan0", "--net", gateway, "--"];
    let said = host.tincan(run.iter().chain(&show)).ok();
    assert_eq!(said.trim_end(), "default via 172.16.0.2 dev out0");
    // Two networks: the way out is by the first.
    create(host, &["lan1", "--subnet", "10.8.0.0/24"]);
    let script = "ip -br address; ip route show default";
    let said = host
        .tincan([
            "run", "--net", "lan1", "--net", "lan0", "--", "sh", "-c", script,
        ])
        .ok();
    assert!(
        said.contains("default via 10.8.0.1 dev eth0") && said.contains("10.9.0.2/24"),
        "{said}"
    );
    assert_eq!(said.matches("default").count(), 1, "{said}");
    // Where the first leads nowhere, the second does.
    create(host, &["inner", "--subnet", "10.7.0.0/24", "--internal"]);
    let run = ["run", "--net", "inner", "--net", "lan1", "--"];
    let said = host.tincan(run.iter().chain(&show)).ok();
    assert_eq!(said.trim_end(), "default via 10.8.0.1 dev eth1");
    remove(host, "inner");
    // A container's own MTU is its own.
    let run = [
        "run",
        "--net",
        "lan1,mtu=1300",
        "--",
        "ip",
        "link",
        "show",
        "eth0",
    ];
    assert!(host.tincan(run).ok().contains("mtu 1300"));
    assert!(host.sh("ip link show lan1").contains("mtu 1500"));
    // Without IPv6 on the network there is none on the interface.
    let said = host
        .tincan([
            "run", "--net", "lan1", "--", "ip", "-6", "address", "show", "eth0",
        ])
        .ok();
    assert_eq!(said, "");
    remove(host, "lan0");
    remove(host, "lan1");
}

fn a_bundle_is_on_a_network(host: &Host) {
    create(host, &LAN0);
    let bundle = host.bundle("on-lan0", |spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
    });
    let line = format!(
        "{} create --bundle {} --net lan0,10.9.0.9 c1 </dev/null >/dev/null 2>&1",
        Host::TINCAN,
        bundle.display()
    );
    host.sh(&line);
    host.tincan(["start", "c1"]).ok();
    host.sh(&pings(&["10.9.0.9", "fd09::2"]));
    delete(host, &["c1"]);
    remove(host, "lan0");
}

fn containers_know_each_other_by_name(host: &Host) {
    create(host, &LAN0);
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    let own = std::fs::read_to_string(format!("{rootfs}/etc/hosts")).unwrap();
    let run = |name: &str, more: &[&str]| {
        let run = [
            "run", "-d", "--rootfs", rootfs, "--name", name, "--net", "lan0",
        ];
        host.tincan(run.iter().chain(more).chain(&["--", "sleep", "1000"]))
            .ok();
    };
    run("web", &["--alias", "www"]);
    run("other", &[]);
    let hosts = |name: &str| host.tincan(["exec", name, "cat", "/etc/hosts"]).ok();
    let lines = |text: &str, name: &str| {
        text.lines()
            .filter(|line| line.split_whitespace().any(|word| word == name))
            .count()
    };
    // By both families, and the one that was there before knows of the later one.
    for name in ["web", "www", "other", "localhost"] {
        for from in ["web", "other"] {
            assert_eq!(lines(&hosts(from), name), 2, "{name} in {from}");
        }
    }
    host.tincan(["exec", "other", "ping", "-c1", "-W5", "www"])
        .ok();
    host.tincan(["exec", "web", "ping", "-6", "-c1", "-W5", "other"])
        .ok();
    host.tincan([
        "exec",
        "web",
        "sh",
        "-c",
        "! echo x 2>/dev/null >>/etc/hosts",
    ])
    .ok();
    delete(host, &["web"]);
    assert_eq!(lines(&hosts("other"), "web"), 0);
    assert_eq!(lines(&hosts("other"), "other"), 2);
    delete(host, &["other"]);
    remove(host, "lan0");
    // The root file system's own is as it was.
    assert_eq!(
        std::fs::read_to_string(format!("{rootfs}/etc/hosts")).unwrap(),
        own
    );
}

/// As any container could: flock(2) takes no more than a descriptor of the file that is its `/etc/hosts`.
fn a_container_that_locks_its_hosts_file_holds_nobody_up(host: &Host) {
    create(host, &LAN0);
    host.sh(&format!(
        "flock /run/tincan/.networks/lan0/hosts sh -c 'echo >locked; exec sleep 1000' & locker=$!
        until [ -s locked ]; do sleep 0.01; done
        {} run --net lan0 -- true; kill $locker; pkill -x sleep",
        Host::TINCAN
    ));
    remove(host, "lan0");
}

fn two_roots_leave_each_others_networks_alone(host: &Host) {
    create(host, &LAN0);
    let other = [
        "--root",
        "/run/work/other",
        "network",
        "create",
        "lan0",
        "--subnet",
        "10.8.0.0/24",
    ];
    let said = host.tincan(other).fails(125);
    assert!(said.contains("it is not this network's"), "{said}");
    host.sh("nft list table inet tincan-lan0");
    let other = |words: &[&str]| {
        host.tincan([&["--root", "/run/work/other", "network"], words].concat())
            .ok();
    };
    other(&["create", "lan1", "--subnet", "10.8.0.0/24"]);
    remove(host, "lan0");
    // The other one needs it still.
    assert_eq!(host.sh("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    other(&["rm", "lan1"]);
    host.sh(
        "echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding; rmdir /run/work/other",
    );
}

/// As a tincan leaves it that is killed between two of its requests.
fn a_half_made_bridge_is_made_anew(host: &Host) {
    create(host, &LAN0);
    let half = "mac=$(ip -br link show lan0 | awk '{ print $3 }'); ip link del lan0; ip link add lan0 address $mac type bridge";
    host.sh(half);
    let script = pings(&["10.9.0.1", "fd09::1"]);
    host.tincan(["run", "--net", "lan0", "--", "sh", "-euc", &script])
        .ok();
    host.sh(half);
    remove(host, "lan0");
    host.assert_clean();
    // Somebody else's bridge of that name stays.
    host.sh("ip link add lan0 type bridge");
    let create = [&["network", "create"], &LAN0[..]].concat();
    refused(host, &create, "it is not this network's");
    host.sh("ip link del lan0");
}

/// The state is gone, as with what /run had, and the bridge and the rules are those of another network.
fn what_is_left_under_its_name_is_made_anew(host: &Host) {
    create(host, &[&LAN0[..], &["--internal"]].concat());
    host.sh("rm -r /run/tincan/.networks");
    create(host, &["lan0", "--subnet", "10.9.0.0/25"]);
    let seen = host.sh("ip -br address show lan0; nft list table inet tincan-lan0");
    assert!(seen.contains("10.9.0.1/25"), "{seen}");
    assert!(seen.contains("ip saddr 10.9.0.0/25 masquerade"), "{seen}");
    assert!(!seen.contains("fd09::"), "{seen}");
    remove(host, "lan0");
}

fn rules_go_where_the_bridge_is_somebody_elses(host: &Host) {
    create(host, &LAN0);
    host.sh("ip link del lan0; ip link add lan0 type bridge");
    let said = host.tincan(["network", "reload"]).fails(125);
    assert!(said.contains("it is not this network's"), "{said}");
    host.tincan(["network", "rm", "lan0"]).ok();
    // They would drop what is for the other's bridge.
    assert_eq!(host.sh("nft list ruleset"), "");
    host.sh("ip link del lan0");
}

fn wires_to_single_containers_are_not_reached(host: &Host) {
    create(host, &LAN0);
    stay(host, "a", "lan0");
    stay(host, "single", "172.16.0.1/16,fd16::1/64");
    host.sh(&pings(&["172.16.0.1", "fd16::1"]));
    for to in ["172.16.0.1", "fd16::1"] {
        reaches(host, "a", to, false);
    }
    delete(host, &["a", "single"]);
    remove(host, "lan0");
}

fn nobody_on_a_network_is_the_hosts_router(host: &Host) {
    create(host, &[&LAN0[..], &["--internal"]].concat());
    let ask = "cat /proc/sys/net/ipv6/conf/lan0/accept_ra";
    assert_eq!(host.sh(ask), "0\n");
    let ask = ["cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"];
    let run = ["run", "--net", "lan0", "--"];
    assert_eq!(host.tincan(run.iter().chain(&ask)).ok(), "0\n");
    remove(host, "lan0");
}

/// Some of these cannot lend theirs to be written to.
fn ipv6_is_as_the_network_has_it_whatever_procfs_a_bundle_has(host: &Host) {
    create(host, &LAN0);
    create(host, &["lan4", "--subnet", "10.8.0.0/24"]);
    fn proc(spec: &mut Value) -> &mut Value {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.iter_mut().find(|it| it["type"] == "proc").unwrap()
    }
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 6] = [
        ("plain", |_| ()),
        ("ro", |spec| proc(spec)["options"] = json!(["ro"])),
        ("pids", |spec| proc(spec)["options"] = json!(["subset=pid"])),
        ("none", |spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|it| it["type"] != "proc");
            for paths in ["maskedPaths", "readonlyPaths"] {
                spec["linux"].as_object_mut().unwrap().remove(paths);
            }
        }),
        ("hooked", |spec| {
            spec["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]});
        }),
        ("mapped", |spec| {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map;
        }),
    ];
    for (name, change) in changes {
        let bundle = host.bundle(name, |spec| {
            spec["process"]["args"] = json!(["sleep", "1000"]);
            change(spec);
        });
        let line = format!(
            "{} run -d --bundle {} --net lan0 --net lan4 {name} </dev/null >/dev/null 2>&1",
            Host::TINCAN,
            bundle.display()
        );
        host.sh(&line);
        let settings = host.inside(name, || {
            ["eth0/accept_ra", "eth0/disable_ipv6", "eth1/disable_ipv6"].map(|it| {
                let file = format!("/proc/sys/net/ipv6/conf/{it}");
                std::fs::read_to_string(file).unwrap()
            })
        });
        assert_eq!(settings, ["0\n", "0\n", "1\n"], "{name}");
        delete(host, &[name]);
    }
    remove(host, "lan0");
    remove(host, "lan4");
}

fn an_address_answers_for_its_new_holder_alone(host: &Host) {
    create(host, &LAN0);
    stay(host, "asks", "lan0");
    for gateway in ["10.9.0.1", "fd09::1"] {
        stay(host, "old", "lan0,10.9.0.7,fd09::7");
        let heard = closes_unheard(host, "old", gateway);
        delete(host, &["old"]);
        // It is taken down, where the kernel cannot have deleted it yet.
        assert_eq!(host_end(host, "old"), Some(false));
        stay(host, "new", "lan0,10.9.0.7,fd09::7");
        let mac = host
            .tincan(["exec", "new", "cat", "/sys/class/net/eth0/address"])
            .ok();
        for address in ["10.9.0.7", "fd09::7"] {
            let look =
                format!("ping -q -c1 -W5 {address} >/dev/null && ip neighbour show to {address}");
            let said = host.tincan(["exec", "asks", "sh", "-euc", &look]).ok();
            assert!(said.contains(mac.trim()), "{said} and not {mac}");
        }
        delete(host, &["new"]);
        way_back(host, heard);
        // Nobody knows any more who had it.
        host.sh("ip neighbour flush all");
        host.tincan(["exec", "asks", "ip", "neighbour", "flush", "all"])
            .ok();
    }
    delete(host, &["asks"]);
    remove(host, "lan0");
    // It waits for the kernel to give up, a minute or so.
    assert_eq!(host.tincan(["gc"]).ok(), "link veth-old of old\n");
}

fn a_container_is_itself_from_the_first_moment(host: &Host) {
    create(host, &LAN0);
    // The kernel's own link-local address would be tentative for a second.
    let look = |name: &str| {
        let script = "ip -6 -o address show dev eth0 scope link; cat /sys/class/net/eth0/address";
        host.tincan(["exec", name, "sh", "-euc", script]).ok()
    };
    stay(host, "asks", "lan0");
    stay(host, "a", "lan0,10.9.0.7");
    let first = look("a");
    assert_eq!(first.matches("inet6 fe80::").count(), 1, "{first}");
    assert!(!first.contains("tentative"), "{first}");
    let addr = first.split_whitespace().find(|it| it.starts_with("fe80:"));
    let addr = addr.unwrap().trim_end_matches("/64");
    reaches(host, "asks", &format!("{addr}%eth0"), true);
    delete(host, &["a"]);
    // What others know of the address stays true.
    stay(host, "b", "lan0,10.9.0.7");
    assert_eq!(look("b"), first);
    stay(host, "c", "lan0,10.9.0.8");
    assert_ne!(look("c"), first);
    delete(host, &["asks", "b", "c"]);
    remove(host, "lan0");
}

fn wrong_networks_are_refused(host: &Host) {
    create(host, &LAN0);
    stay(host, "a", "lan0");
    let bad = |words: &[&str], wrong: &str| {
        refused(host, &[&["network", "create"], words].concat(), wrong);
    };
    bad(
        &["lan0", "--subnet", "10.8.0.0/24"],
        "network lan0 exists already",
    );
    bad(
        &["lan1", "--subnet", "10.9.0.128/25"],
        "overlaps with network lan0; a right one is `10.10.0.0/24`",
    );
    bad(
        &["lan1", "--subnet", "fd09::/48"],
        "overlaps with network lan0; a right one is `fd10::/64`",
    );
    for subnet in [
        "0.0.0.0/8",
        "0.1.0.0/16",
        "::ffff:10.0.0.0/104",
        "0.0.0.0/0",
    ] {
        bad(&["lan1", "--subnet", subnet], "is no prefix of hosts");
    }
    // One that nobody can say of whose it is.
    let leases = host.state_root().join(".networks/lan0/leases");
    std::os::unix::fs::symlink("somebody", leases.join("10.9.0.77")).unwrap();
    let run_there = ["run", "--net", "lan0,10.9.0.77", "--", "true"];
    refused(host, &run_there, "10.9.0.77: it does not say whose it is");
    std::fs::remove_file(leases.join("10.9.0.77")).unwrap();
    bad(
        &["lan1", "--subnet", "10.8.0.1/24"],
        "has bits beyond its prefix",
    );
    bad(&["lan1", "--subnet", "10.8.0.0/32"], "has no room");
    bad(
        &["lan1", "--subnet", "10.8.0.0/24", "--subnet", "10.7.0.0/24"],
        "second subnet of one family",
    );
    bad(
        &["lan1", "--subnet", "fd08::/64", "--mtu", "1000"],
        "1280 that IPv6 needs",
    );
    bad(
        &[
            "lan1",
            "--subnet",
            "10.8.0.0/24",
            "--route",
            "10.1.0.0/16@10.7.0.1",
        ],
        "outside the network",
    );
    for (routes, wrong) in [
        (
            &["10.1.0.0/16@10.8.0.2", "10.1.0.0/16@10.8.0.3"][..],
            "route `10.1.0.0/16` is routed twice",
        ),
        (&["fd01::/64"], "a family that the network has no subnet of"),
        (&["10.8.0.0/24"], "is the network's own prefix"),
    ] {
        let routes = routes.iter().flat_map(|route| ["--route", *route]);
        let words = ["lan1", "--subnet", "10.8.0.0/24"].into_iter();
        bad(&words.chain(routes).collect::<Vec<_>>(), wrong);
    }
    bad(
        &["none", "--subnet", "10.8.0.0/24"],
        "`none` means something else",
    );
    bad(
        &["tap", "--subnet", "10.8.0.0/24"],
        "`tap` means something else",
    );
    bad(
        &["lo", "--subnet", "10.8.0.0/24"],
        "there is a link lo on the host already",
    );
    let run = |net: &'static str| ["run", "--net", net, "--", "true"];
    refused(
        host,
        &run("lan0,10.8.0.7"),
        "`10.8.0.7` is outside lan0, which is 10.9.0.0/24 and fd09::/64",
    );
    refused(
        host,
        &run("lan0,10.9.0.1"),
        "`10.9.0.1` is the host's own on lan0",
    );
    refused(
        host,
        &run("lan0,10.9.0.255"),
        "`10.9.0.255` is the broadcast address",
    );
    refused(host, &run("lan0,mtu=1000"), "1280 that IPv6 needs");
    refused(
        host,
        &run("lan0,route=10.1.0.0/16@10.7.0.1"),
        "route `10.7.0.1` is a next hop outside the network",
    );
    refused(host, &run("lan9"), "network lan9 does not exist");
    refused(
        host,
        &["network", "rm", "lan9"],
        "network lan9 does not exist",
    );
    refused(
        host,
        &["network", "inspect", "lan9"],
        "network lan9 does not exist",
    );
    delete(host, &["a"]);
    remove(host, "lan0");
    create(host, &["tiny", "--subnet", "10.8.0.0/30"]);
    stay(host, "a", "tiny");
    refused(
        host,
        &run("tiny"),
        "network tiny is full: no address of 10.8.0.0/30 is free",
    );
    delete(host, &["a"]);
    remove(host, "tiny");
    // What comes next leaves the host as it is, and not as it is until the kernel has freed a link.
    host.wait_until("its port is gone", || {
        !host.sh("ip -br link").contains("veth-")
    });
    host.sh("ip link add here type veth peer name there; ip address add 10.8.0.9/24 dev here");
    bad(
        &["lan1", "--subnet", "10.8.0.0/24"],
        "overlaps with the host's link here",
    );
    bad(
        &["lan1", "--subnet", "10.8.0.128/25"],
        "overlaps with the host's link here",
    );
    // Nothing of it is to come later by itself.
    host.sh("ip link set here addrgenmode none up; ip link set there addrgenmode none up; ip address add fd08::1/64 dev here nodad
        ip route add 10.7.1.0/24 via 10.8.0.1; ip route add fd07::/64 via fd08::2; ip route add 10.6.0.0/15 via 10.8.0.1");
    for (subnet, route) in [
        ("10.7.1.0/24", "10.7.1.0/24"),
        ("10.7.0.0/16", "10.7.1.0/24"),
        ("fd07::/48", "fd07::/64"),
    ] {
        let wrong = format!("overlaps with the host's route to {route}");
        bad(&["lan1", "--subnet", subnet], &wrong);
    }
    // A part of what is elsewhere may be here.
    create(host, &["lan1", "--subnet", "10.6.1.0/24"]);
    remove(host, "lan1");
    host.sh("ip link del here");
    bad(
        &["lan1", "--subnet", "10.8.0.0/24", "--allow", "lan9"],
        "network lan9 does not exist",
    );
}

fn the_lines_of_a_run_make_what_it_makes(host: &Host) {
    create(host, &[&LAN0[..], &["--isolate"]].concat());
    let look = || {
        let seen = "ip -n a -br address | sed 's/@[^ ]*//' | awk '{ $2 = \"\"; print }'; ip -n a route | sed 's/ linkdown//'; ip -n a -6 route | sed 's/ linkdown//' | grep -v fe80; bridge -d link show dev veth-a | grep -o 'master lan0\\|isolated on'; cat /proc/sys/net/ipv6/conf/veth-a/disable_ipv6";
        host.sh(seen)
    };
    let plan = host
        .tincan([
            "run",
            "--dry-run",
            "--name",
            "a",
            "--net",
            "lan0",
            "--",
            "true",
        ])
        .ok();
    by_hand(host, &plan);
    let hand = look();
    undo(host, &plan);
    let run = [
        "run",
        "-d",
        "--name",
        "a",
        "--netns-name",
        "--net",
        "lan0",
        "--",
        "sleep",
        "1000",
    ];
    host.tincan(run).ok();
    assert_eq!(look(), hand, "{plan}");
    assert!(hand.contains("isolated on"), "{hand}");
    delete(host, &["a"]);
    remove(host, "lan0");
    host.sh("umount /run/netns; rmdir /run/netns");
}
