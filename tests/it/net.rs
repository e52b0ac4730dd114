//! Several `--net` values of one command, and what tincan chooses beside what they say.

use std::net::{TcpListener, TcpStream};

use super::bad_input::refused;
use super::host::{Case, Host, tests};
use super::run::{delete, stays};

pub fn tests() -> Vec<Case> {
    tests![
        what_one_value_asks_for_is_not_chosen_for_another,
        two_wires_into_one_container_have_two_names_there,
        what_gave_way_comes_back,
        a_dry_run_moves_nothing_and_prints_the_move needs [Root],
        an_end_that_stays_knows_its_new_address,
        a_run_can_be_repeated_at_once,
        a_pair_can_be_repeated_at_once_into_a_running_container,
        a_wire_passes_packets_when_the_command_starts,
        an_end_on_the_host_has_ipv6_on_request_alone,
        prefixes_of_one_and_two_addresses,
        addresses_that_do_not_answer_yet_are_in_use,
        what_is_behind_another_wire_is_in_use,
        the_smallest_and_the_largest_mtu,
        names_as_long_as_they_can_be,
        a_link_on_the_host_tells_whose_it_is needs [Root],
        a_wire_goes_by_either_end_and_is_forgotten,
        of_two_that_add_one_interface_one_wins,
        what_a_dead_container_left_answers_nobody needs [Root, Nftables],
        of_a_server_nothing_is_left needs [Root],
        gc_deletes_the_end_of_a_namespace_that_lives_on,
        a_wire_into_another_container_is_cut,
    ]
}

fn what_one_value_asks_for_is_not_chosen_for_another(host: &Host) {
    let both = ["--net", "10.1.0.1/24", "--net", "10.1.0.2/24,peer=10.1.0.9"];
    let run = [&["run"][..], &both, &["--", "ip", "-br", "-4", "addr"]].concat();
    let inside = host.tincan(run).ok();
    for word in ["10.1.0.1/24", "10.1.0.2/24"] {
        assert!(inside.contains(word), "{inside}");
    }
    let plan = host
        .tincan([
            "run",
            "--dry-run",
            "--net",
            "10.1.0.1/24",
            "--net",
            "10.1.0.3/24",
            "--",
            "true",
        ])
        .ok();
    for words in ["10.1.0.2 peer 10.1.0.1/", "10.1.0.4 peer 10.1.0.3/"] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
}

fn two_wires_into_one_container_have_two_names_there(host: &Host) {
    host.tincan(["run", "-d", "--name", "ns1", "--", "sleep", "1000"])
        .ok();
    let run = [
        "run",
        "--net",
        "10.1.0.1/24,to=ns1,peer=10.1.0.2",
        "--net",
        "10.2.0.1/24,to=ns1,peer=10.2.0.2",
    ];
    let there = ["--", "sh", "-c", "ping -c1 10.1.0.2 && ping -c1 10.2.0.2"];
    let said = host.tincan([&run[..], &there].concat()).ok();
    assert_eq!(said.matches(" 0% packet loss").count(), 2, "{said}");
    host.tincan(["delete", "--force", "ns1"]).ok();
}

/// The IPv4 addresses of the host's veths, `veth-a 172.16.0.2 peer 172.16.0.1/32` each.
fn host_ends(host: &Host) -> Vec<String> {
    let lines = host.sh("ip -br -4 address");
    let veths = lines.lines().filter(|line| line.starts_with("veth"));
    veths
        .map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let name = name.split('@').next().unwrap_or_default();
            // The state of the link.
            words.next();
            let words: Vec<&str> = std::iter::once(name).chain(words).collect();
            words.join(" ")
        })
        .collect()
}

fn what_gave_way_comes_back(host: &Host) {
    stays(host, "a", &["172.16.0.1/16,fd00::1/64"]);
    assert_eq!(host_ends(host), ["veth-a 172.16.0.2 peer 172.16.0.1/32"]);
    stays(host, "b", &["172.16.0.2/16,fd00::2/64"]);
    let both = [
        "veth-a 172.16.0.3 peer 172.16.0.1/32",
        "veth-b 172.16.0.4 peer 172.16.0.2/32",
    ];
    assert_eq!(host_ends(host), both);
    for ip in ["172.16.0.1", "172.16.0.2", "fd00::1", "fd00::2"] {
        host.wait_until("it is reached", || {
            let said = host.sh(&format!("ping -q -c1 -W2 {ip} 2>&1 || true"));
            said.contains(" 0% packet loss")
        });
    }
    delete(host, "b");
    host.wait_until("the address is back", || {
        host_ends(host) == ["veth-a 172.16.0.2 peer 172.16.0.1/32"]
    });
    host.sh("ping -q -c1 -W2 172.16.0.1");
    // The kernel adds the route to the other end from a work queue (addrconf_dad_completed in net/ipv6/addrconf.c).
    host.wait_until("the other end is reached by IPv6", || {
        let said = host.sh("ping -q -c1 -W2 fd00::1 2>&1 || true");
        said.contains(" 0% packet loss")
    });
    // Whoever goes first gives nothing back to one that is gone.
    stays(host, "b", &["172.16.0.2/16"]);
    delete(host, "a");
    delete(host, "b");
}

fn a_dry_run_moves_nothing_and_prints_the_move(host: &Host) {
    stays(host, "a", &["172.16.0.1/16"]);
    let before = host_ends(host);
    let run = ["run", "--name", "b", "--net", "172.16.0.2/16", "--dry-run"];
    let plan = host.tincan([&run[..], &["--", "true"]].concat()).ok();
    assert_eq!(host_ends(host), before);
    let lines = [
        "# tincan: a: move host:veth-a from 172.16.0.2 to 172.16.0.3",
        "ip address delete 172.16.0.2 peer 172.16.0.1/32 dev veth-a",
        "ip address add 172.16.0.3 peer 172.16.0.1/32 dev veth-a",
    ];
    for line in lines {
        assert!(plan.lines().any(|other| other == line), "{line}: {plan}");
    }
    let by_hand: Vec<&str> = plan.lines().filter(|line| !line.starts_with('#')).collect();
    host.sh(&by_hand.join("\n"));
    let hand = host_ends(host);
    let undo = plan
        .lines()
        .filter_map(|line| line.strip_prefix("# to undo: "));
    host.sh(&undo.collect::<Vec<_>>().join("\n"));
    host.wait_until("the lines are undone", || host_ends(host) == before);
    host.sh("umount /run/netns; rmdir /run/netns");
    stays(host, "b", &["172.16.0.2/16"]);
    assert_eq!(host_ends(host), hand);
    delete(host, "b");
    delete(host, "a");
}

fn an_end_that_stays_knows_its_new_address(host: &Host) {
    stays(host, "a", &["172.16.0.1/16"]);
    stays(host, "b", &["172.16.0.2/16"]);
    // Were it still thought to be on 172.16.0.2, this would not be seen to be in the way.
    stays(host, "c", &["172.16.0.3/16"]);
    for ip in ["172.16.0.1", "172.16.0.2", "172.16.0.3"] {
        host.sh(&format!("ping -q -c1 -W2 {ip}"));
    }
    let list = host.tincan(["link", "list"]).ok();
    assert!(list.contains("host:veth-a  172.16.0.5/32"), "{list}");
    // In any order: each takes back what was its own, where nobody else has it.
    for name in ["b", "c", "a"] {
        delete(host, name);
    }
}

fn a_run_can_be_repeated_at_once(host: &Host) {
    for _ in 0..20 {
        let net = "172.16.0.1/16,peer=172.16.0.2";
        let run = [
            "run",
            "--net",
            net,
            "--",
            "ping",
            "-q",
            "-c1",
            "-W2",
            "172.16.0.2",
        ];
        host.tincan(run).ok();
    }
    for _ in 0..5 {
        let run = ["run", "--name", "a", "--net", "172.16.0.1/16", "--", "true"];
        host.tincan(run).ok();
    }
}

fn a_pair_can_be_repeated_at_once_into_a_running_container(host: &Host) {
    stays(host, "a", &[]);
    for _ in 0..5 {
        host.tincan(["pair", "a=10.0.0.1/24", "b=10.0.0.2/24"]).ok();
        host.tincan(["exec", "a", "ping", "-q", "-c1", "-W2", "10.0.0.2"])
            .ok();
        delete(host, "b");
    }
    for _ in 0..5 {
        let net = "10.0.0.2/24,to=a,peer=10.0.0.1/24";
        let run = [
            "run", "--net", net, "--", "ping", "-q", "-c1", "-W2", "10.0.0.1",
        ];
        host.tincan(run).ok();
    }
    delete(host, "a");
}

fn a_wire_passes_packets_when_the_command_starts(host: &Host) {
    for _ in 0..20 {
        let look = "cat /sys/class/net/eth0/operstate; ping -q -c1 -W1 172.16.0.2; ping -q -c1 -W1 fd00::2";
        let net = "172.16.0.1/16,fd00::1/64";
        let said = host
            .tincan(["run", "--net", net, "--", "sh", "-c", look])
            .ok();
        assert!(said.starts_with("up\n"), "{said}");
        assert_eq!(said.matches(" 0% packet loss").count(), 2, "{said}");
    }
}

fn an_end_on_the_host_has_ipv6_on_request_alone(host: &Host) {
    stays(host, "a", &["172.16.0.1/16"]);
    stays(host, "b", &["172.17.0.1/16,fd00::1/64"]);
    // The kernel gives both containers' ends theirs, and the second's on the host, when the links are up.
    for name in ["a", "b"] {
        host.wait_until("the container has a link-local address", || {
            let inside = ["exec", name, "ip", "-br", "-6", "address", "show", "eth0"];
            host.tincan(inside).ok().contains("fe80::")
        });
    }
    host.wait_until("the end with IPv6 has a link-local address", || {
        host.sh("ip -br -6 address show veth-b").contains("fe80::")
    });
    assert_eq!(host.sh("ip -br -6 address show veth-a").trim(), "");
    assert_eq!(host.sh("ip -6 route show table all dev veth-a").trim(), "");
    // What the user does by hand is the user's.
    host.sh(
        "echo 0 >/proc/sys/net/ipv6/conf/veth-a/disable_ipv6; ip address add fd01::2/64 dev veth-a",
    );
    delete(host, "a");
    delete(host, "b");
}

fn prefixes_of_one_and_two_addresses(host: &Host) {
    for (net, far) in [
        ("10.0.0.0/31", "10.0.0.1"),
        ("10.0.0.1/31", "10.0.0.0"),
        ("fd00::/127", "fd00::1"),
        ("10.0.0.1/32,peer=10.9.9.9", "10.9.9.9"),
        ("fd00::1/128,peer=fd09::9", "fd09::9"),
        ("10.0.0.1/30", "10.0.0.2"),
        ("10.0.0.2/30", "10.0.0.1"),
    ] {
        let run = ["run", "--net", net, "--", "ping", "-q", "-c1", "-W2", far];
        host.tincan(run).ok();
    }
    host.assert_clean();
    for (net, words) in [
        ("10.0.0.1/32", "has no free address"),
        ("fd00::1/128", "has no free address"),
        ("10.0.0.0/30", "is the address of its prefix itself"),
        ("10.0.0.3/30", "is the broadcast address"),
        ("224.0.0.1/24", "is no address of a host"),
        ("ff02::1/64", "is no address of a host"),
        ("0.0.0.0/0", "is no address of a host"),
        ("127.0.0.1/8", "is a loopback address"),
        (
            "255.255.255.255/32,peer=10.0.0.1",
            "is no address of a host",
        ),
        ("::ffff:10.0.0.1/96", "is an IPv4 address in an IPv6 one"),
    ] {
        refused(host, &["run", "--net", net, "--", "true"], words);
    }
    // All of a prefix: the second asks for the address that the first one's end has, and there is no other for that.
    stays(host, "a", &["10.0.0.1/30"]);
    refused(
        host,
        &["run", "--net", "10.0.0.2/30", "--", "true"],
        "10.0.0.2 is in use on the host: container a, link veth-a",
    );
    delete(host, "a");
}

fn addresses_that_do_not_answer_yet_are_in_use(host: &Host) {
    host.sh("ip link add br0 type bridge; ip address add 10.0.0.2/24 dev br0; ip address add fd00::2/64 dev br0");
    for net in ["10.0.0.1/24,peer=10.0.0.2", "fd00::1/64,peer=fd00::2"] {
        refused(
            host,
            &["run", "--net", net, "--", "true"],
            "is in use on the host: link br0",
        );
    }
    let chosen = "ip -br address show eth0; ping -q -c1 -W2 10.0.0.3; ping -q -c1 -W2 fd00::3";
    let net = "10.0.0.1/24,fd00::1/64";
    let said = host
        .tincan(["run", "--net", net, "--", "sh", "-c", chosen])
        .ok();
    assert_eq!(said.matches(" 0% packet loss").count(), 2, "{said}");
    // Up and without anybody else on the link the second is tentative for a second (RFC 4862, 5.4).
    host.sh("ip link set br0 up");
    let run = ["run", "--net", "fd00::2/64", "--", "true"];
    let said = host.tincan(run).fails(125);
    assert!(
        said.contains("fd00::2 is in use on the host: link br0"),
        "{said}"
    );
    host.sh("ip link del br0");
}

fn what_is_behind_another_wire_is_in_use(host: &Host) {
    stays(host, "a", &["10.0.0.1/24"]);
    stays(host, "b", &[]);
    let whose = "10.0.0.1 is in use on the host: container a, link veth-a";
    refused(host, &["run", "--net", "10.0.0.1/24", "--", "true"], whose);
    refused(
        host,
        &["link", "add", "b=10.0.0.9/24", "host=10.0.0.1/24"],
        whose,
    );
    refused(
        host,
        &["link", "add", "b=10.0.0.1/24", "host=10.0.0.9/24"],
        whose,
    );
    let inside = "10.0.0.1 is in use in a: link eth0";
    refused(
        host,
        &["link", "add", "a=10.0.0.1/24", "b=10.0.0.9/24"],
        inside,
    );
    refused(
        host,
        &["link", "add", "a=10.0.0.9/24", "b=10.0.0.1/24"],
        inside,
    );
    delete(host, "a");
    delete(host, "b");
}

fn the_smallest_and_the_largest_mtu(host: &Host) {
    for mtu in ["68", "65535"] {
        let net = format!("10.0.0.1/24,mtu={mtu}");
        let look = "cat /sys/class/net/eth0/mtu; ping -q -c1 -W2 10.0.0.2";
        let said = host
            .tincan(["run", "--net", &net, "--", "sh", "-c", look])
            .ok();
        assert!(said.starts_with(&format!("{mtu}\n")), "{said}");
    }
    host.assert_clean();
    for (mtu, net) in [
        ("67", "10.0.0.1/24"),
        ("65536", "10.0.0.1/24"),
        ("1279", "fd00::1/64"),
    ] {
        let net = format!("{net},mtu={mtu}");
        refused(
            host,
            &["run", "--net", &net, "--", "true"],
            &format!("mtu `{mtu}`"),
        );
    }
    for (mac, words) in [
        ("01:00:00:00:00:01", "mac"),
        ("00:00:00:00:00:00", "mac"),
        ("ff:ff:ff:ff:ff:ff", "mac"),
    ] {
        let net = format!("10.0.0.1/24,mac={mac}");
        refused(host, &["run", "--net", &net, "--", "true"], words);
    }
}

fn names_as_long_as_they_can_be(host: &Host) {
    let long = "a-container-of-a-name-that-is-much-longer-than-fifteen-bytes";
    stays(
        host,
        long,
        &["10.0.0.1/24,name=fifteen-bytes-x", "10.1.0.1/24"],
    );
    host.sh("ping -q -c1 -W2 10.0.0.1; ping -q -c1 -W2 10.1.0.1");
    let list = host.tincan(["list"]).ok();
    assert!(list.contains("fifteen-bytes-x 10.0.0.1/24"), "{list}");
    let names: Vec<String> = host_ends(host);
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names.iter().all(|line| line.starts_with("veth-")),
        "{names:?}"
    );
    delete(host, long);
    host.assert_clean();
    let net = "10.0.0.1/24,name=sixteen-bytes-xx";
    refused(
        host,
        &["run", "--net", net, "--", "true"],
        "sixteen-bytes-xx",
    );
    // Names that look alike when they are cut stay apart.
    for (name, net) in [
        ("eleven-char", "10.0.0.1/24"),
        ("eleven-chars", "10.1.0.1/24"),
    ] {
        stays(host, name, &[net]);
    }
    host.sh("ping -q -c1 -W2 10.0.0.1; ping -q -c1 -W2 10.1.0.1");
    delete(host, "eleven-char");
    delete(host, "eleven-chars");
}

fn a_link_on_the_host_tells_whose_it_is(host: &Host) {
    stays(host, "a", &["10.0.0.1/24"]);
    host.tincan(["link", "add", "host=10.1.0.1/24", "a=10.1.0.2/24"])
        .ok();
    let links = host.sh("ip -d link");
    for alias in ["tincan:a/eth0@/run/tincan", "tincan:a/eth1@/run/tincan"] {
        assert!(links.contains(alias), "{alias}: {links}");
    }
    let list = host.tincan(["list", "--format", "json"]).ok();
    assert!(
        list.contains("\"eth1 host:veth-a.1\"") || list.contains("eth1 host:veth-"),
        "{list}"
    );
    delete(host, "a");
}

fn a_wire_goes_by_either_end_and_is_forgotten(host: &Host) {
    refused(
        host,
        &["run", "--name", "host", "--", "true"],
        "container name `host`",
    );
    refused(
        host,
        &["pair", "host=10.0.0.1/24", "b=10.0.0.2/24"],
        "container name `host`",
    );
    stays(host, "a", &["10.0.0.1/24"]);
    stays(host, "b", &[]);
    let lists = || {
        let list = host.tincan(["list", "--format", "json"]).ok();
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let peers: Vec<_> = list
            .as_array()
            .expect("a list")
            .iter()
            .map(|row| row["peers"].to_string())
            .collect();
        (
            host.tincan(["link", "list"]).ok().lines().count() - 1,
            peers.join(" "),
        )
    };
    let of = |wires, peers: &str| (wires, peers.to_owned());
    assert_eq!(lists(), of(1, r#"["eth0 host:veth-a"] []"#));
    refused(
        host,
        &["link", "del", "host", "lo"],
        "lo on the host is no end",
    );
    host.tincan(["link", "del", "host", "veth-a"]).ok();
    assert_eq!(lists(), of(0, "[] []"));
    host.tincan(["link", "add", "a=10.0.0.1/24", "b=10.0.0.2/24"])
        .ok();
    assert_eq!(lists(), of(1, r#"["eth0 b:eth0"] ["eth0 a:eth0"]"#));
    host.tincan(["link", "del", "b", "eth0"]).ok();
    assert_eq!(lists(), of(0, "[] []"));
    // One that goes by other hands is not shown, and does not come back with the next of its name.
    host.tincan(["link", "add", "a=10.0.0.1/24", "host=10.0.0.2/24,name=wan"])
        .ok();
    host.sh("ip link del wan");
    assert_eq!(lists(), of(0, "[] []"));
    host.tincan(["link", "add", "a=10.0.0.1/24", "b=10.0.0.2/24"])
        .ok();
    host.tincan(["link", "add", "b=10.1.0.1/24", "host=10.1.0.2/24,name=wan"])
        .ok();
    assert_eq!(
        lists(),
        of(2, r#"["eth0 b:eth0"] ["eth0 a:eth0","eth1 host:wan"]"#)
    );
    delete(host, "a");
    host.wait_until("the wire is gone with a container", || {
        lists() == of(1, r#"["eth1 host:wan"]"#)
    });
    delete(host, "b");
}

fn of_two_that_add_one_interface_one_wins(host: &Host) {
    stays(host, "a", &[]);
    for round in 0..10 {
        let both = format!(
            "{0} link add a=10.0.0.1/24,name=x host=10.0.1.1/24,name=one & {0} link add a=10.0.0.2/24,name=x host=10.0.1.2/24,name=two & \
             wait %1 && echo won; wait %2 && echo won; true",
            Host::TINCAN
        );
        let said = host.sh(&both);
        assert_eq!(said.matches("won").count(), 1, "{round}: {said}");
        let list = host.tincan(["link", "list"]).ok();
        assert_eq!(list.matches("a:x").count(), 1, "{round}: {list}");
        host.tincan(["link", "del", "a", "x"]).ok();
    }
    delete(host, "a");
}

/// A TCP connection of a container's to an address of the host's is closed there, and the host is never told: for as long as the kernel tries, a
/// minute or so, the network namespace lives on. What the host has of it is to be kept until [`way_back`].
pub fn closes_unheard(host: &Host, container: &str, to: &str) -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind((to, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let theirs = host.inside(container, || TcpStream::connect(at).unwrap());
    let (ours, _) = listener.accept().unwrap();
    host.sh(&format!(
        "nft 'table inet unheard {{ chain in {{ type filter hook input priority -300; tcp dport {} drop; }}; }}'",
        at.port()
    ));
    drop(theirs);
    (listener, ours)
}

pub fn way_back(host: &Host, heard: (TcpListener, TcpStream)) {
    drop(heard);
    host.sh("nft delete table inet unheard");
}

/// Whether the host's end of a container's wire is there, and up.
pub fn host_end(host: &Host, container: &str) -> Option<bool> {
    let look = format!("ip -br link show veth-{container} 2>/dev/null || :");
    let said = host.sh(&look);
    (!said.is_empty()).then(|| said.contains("<UP") || said.contains(",UP"))
}

fn what_a_dead_container_left_answers_nobody(host: &Host) {
    let nets: &[&str] = &["172.16.0.1/16,fd00::1/64,peer=172.16.0.2,peer=fd00::2"];
    let answers = |limit: &str| {
        ["172.16.0.1", "fd00::1"].map(|to| {
            let ping = format!("ping -q -c1 -W{limit} {to} >/dev/null 2>&1 && echo yes || echo no");
            host.sh(&ping).trim() == "yes"
        })
    };
    for to in ["172.16.0.2", "fd00::2"] {
        // Killed by `delete`, or before.
        for before in [false, true] {
            stays(host, "a", nets);
            assert_eq!(answers("5"), [true, true]);
            let heard = closes_unheard(host, "a", to);
            if before {
                host.tincan(["kill", "a", "KILL"]).ok();
                host.wait_until("it has ended", || {
                    host.tincan(["state", "a"]).ok().contains("stopped")
                });
            }
            host.tincan(["delete", "--force", "a"]).ok();
            assert_eq!(host_end(host, "a"), Some(false));
            assert_eq!(answers("1"), [false, false]);
            // All that it had can be had again, the name too.
            stays(host, "a", nets);
            assert_eq!(answers("5"), [true, true]);
            delete(host, "a");
            way_back(host, heard);
        }
    }
}

fn of_a_server_nothing_is_left(host: &Host) {
    for _ in 0..3 {
        stays(host, "a", &["172.16.0.1/16"]);
        let listener = host.inside("a", || TcpListener::bind("172.16.0.1:80").unwrap());
        TcpStream::connect("172.16.0.1:80").unwrap();
        drop(listener);
        delete(host, "a");
        host.wait_until("the link is gone", || host_end(host, "a").is_none());
    }
}

fn gc_deletes_the_end_of_a_namespace_that_lives_on(host: &Host) {
    stays(host, "a", &["172.16.0.1/16"]);
    stays(host, "b", &["172.17.0.1/16"]);
    let held = std::fs::File::open(format!("/proc/{}/ns/net", host.pid("a"))).unwrap();
    delete(host, "a");
    assert_eq!(host_end(host, "a"), Some(false));
    assert_eq!(host.tincan(["gc"]).ok(), "link veth-a of a\n");
    assert_eq!(
        (host_end(host, "a"), host_end(host, "b")),
        (None, Some(true))
    );
    assert_eq!(host.tincan(["gc"]).ok(), "");
    drop(held);
    delete(host, "b");
}

fn a_wire_into_another_container_is_cut(host: &Host) {
    let is_up = || {
        let look = ["exec", "b", "ip", "-br", "link", "show", "eth0"];
        let said = host.tincan(look).any_stderr();
        let said = said.assert().get_output().stdout.clone();
        let said = String::from_utf8(said).unwrap();
        (!said.is_empty()).then(|| said.contains(",UP"))
    };
    let answers = || {
        let ping = ["exec", "b", "ping", "-q", "-c1", "-W1", "10.1.0.1"];
        let said = host.tincan(ping).any_stderr();
        said.assert().get_output().status.success()
    };
    for by in ["run", "link add", "pair"] {
        match by {
            "run" => {
                stays(host, "b", &["none"]);
                stays(host, "a", &["10.1.0.1/24,to=b,peer=10.1.0.2/24"]);
            }
            "link add" => {
                stays(host, "a", &["none"]);
                stays(host, "b", &["none"]);
                host.tincan(["link", "add", "a=10.1.0.1/24", "b=10.1.0.2/24"])
                    .ok();
            }
            _ => {
                host.tincan(["pair", "a=10.1.0.1/24", "b=10.1.0.2/24"]).ok();
            }
        }
        assert!(answers());
        let held = std::fs::File::open(format!("/proc/{}/ns/net", host.pid("a"))).unwrap();
        delete(host, "a");
        assert_eq!((is_up(), answers()), (Some(false), false), "{by}");
        // Of a pair's ends nothing says whose they are.
        if by != "pair" {
            assert_eq!(host.tincan(["gc"]).ok(), "link eth0 of a\n", "{by}");
            assert_eq!(is_up(), None);
        }
        drop(held);
        delete(host, "b");
    }
}
