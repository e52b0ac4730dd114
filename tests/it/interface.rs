//! `--net` with interfaces of other kinds than veth.

use super::bad_input::refused;
use super::dry_run::{by_hand, is_state, undo};
use super::feature::Need;
use super::host::{Case, Host, tests};
use super::network::{no_world, world};

pub fn tests() -> Vec<Case> {
    tests![
        a_macvlan_is_on_its_parents_network needs [Root, Macvlan],
        a_private_macvlan_reaches_no_other needs [Root, Macvlan],
        a_parent_that_one_had_to_itself_is_the_next_ones needs [Root, Macvlan],
        an_interface_may_have_its_parents_name needs [Root, Macvlan],
        an_ipvlan_is_on_its_parents_network needs [Root, Ipvlan],
        a_vlan_is_on_its_parents_tagged_network needs [Root, Vlan],
        machines_share_a_vxlan needs [Root, Vxlan],
        machines_share_a_vxlan_over_ipv6 needs [Root, Vxlan],
        machines_share_a_wireguard needs [Root, Wireguard],
        machines_share_a_wireguard_over_ipv6 needs [Root, Wireguard],
        the_lines_of_a_wireguard_make_what_it_makes needs [Root, Wireguard],
        a_file_of_a_wireguard_that_is_wrong_is_told needs [Root, Wireguard],
        a_tap_is_there_to_be_opened needs [Tun],
        what_cannot_be_is_said_before_anything_is_made needs [Root, Macvlan],
        the_lines_make_what_it_makes needs [Root, Macvlan, Vxlan, Tun],
        users_have_them_on_links_of_theirs needs [Macvlan],
    ]
}

/// Pings both addresses of the world, once each, with time for a neighbour to be found.
const PING_BOTH: &str = "ping -q -c1 -W5 192.0.2.254 && ping -q -c1 -W5 fd00:2::254";

fn a_macvlan_is_on_its_parents_network(host: &Host) {
    world(host);
    let net = |n: u32| {
        format!(
            "macvlan:p0,192.0.2.{n}/24,fd00:2::{n}/64,gw=192.0.2.254,gw=fd00:2::254,mac=02:00:00:00:00:0{n}"
        )
    };
    let web = [
        "run",
        "-d",
        "--name",
        "web",
        "--net",
        &net(7),
        "--",
        "sleep",
        "1000",
    ];
    host.tincan(web).ok();
    let script = format!(
        "{PING_BOTH} && ping -q -c1 -W5 192.0.2.7 && ping -q -c1 -W5 fd00:2::7 && ip -d link show eth0 && ip route && ip -6 route"
    );
    let said = host
        .tincan(["run", "--net", &net(8), "--", "sh", "-c", &script])
        .ok();
    for text in [
        "macvlan mode bridge",
        "02:00:00:00:00:08",
        "default via 192.0.2.254 dev eth0",
        "default via fd00:2::254 dev eth0",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert!(host.tincan(["list"]).ok().contains("eth0 192.0.2.7/24"));
    host.tincan(["delete", "--force", "web"]).ok();
    no_world(host);
}

fn a_parent_that_one_had_to_itself_is_the_next_ones(host: &Host) {
    world(host);
    let net = |mode: &str| format!("macvlan:p0,192.0.2.7/24,fd00:2::7/64,mode={mode}");
    // One after the other, each while the kernel still frees the one before.
    for mode in ["bridge", "passthru", "passthru", "vepa", "passthru"] {
        let run = ["run", "--net", &net(mode), "--", "sh", "-c", PING_BOTH];
        host.tincan(run).ok();
    }
    let stay = ["run", "-d", "--name", "a", "--net", &net("passthru")];
    host.tincan([&stay[..], &["--", "sleep", "1000"]].concat())
        .ok();
    refused(
        host,
        &["run", "--net", "macvlan:p0", "--", "true"],
        "create the interface eth0 (macvlan:p0): Invalid argument",
    );
    host.tincan(["delete", "--force", "a"]).ok();
    no_world(host);
}

fn a_private_macvlan_reaches_no_other(host: &Host) {
    world(host);
    let net = |n: u32| format!("macvlan:p0,192.0.2.{n}/24,mode=private");
    let web = [
        "run",
        "-d",
        "--name",
        "web",
        "--net",
        &net(7),
        "--",
        "sleep",
        "1000",
    ];
    host.tincan(web).ok();
    let script = "ping -q -c1 -W5 192.0.2.254 >/dev/null && ! ping -q -c1 -W1 192.0.2.7 >/dev/null";
    host.tincan(["run", "--net", &net(8), "--", "sh", "-c", script])
        .ok();
    host.tincan(["delete", "--force", "web"]).ok();
    no_world(host);
}

/// Until Linux 6.15 a link could not be made elsewhere under a name that the host has.
fn an_interface_may_have_its_parents_name(host: &Host) {
    world(host);
    host.sh("ip link set p0 down; ip link set p0 name eth0; ip link set eth0 up");
    let net = "macvlan:eth0,192.0.2.7/24,mtu=1400";
    let run = [
        "run",
        "--net",
        net,
        "--",
        "sh",
        "-c",
        "ping -q -c1 -W5 192.0.2.254 >/dev/null; ip -br link",
    ];
    let said = host.tincan(run).ok();
    assert!(said.contains("eth0@if") && !said.contains("tc-"), "{said}");
    host.sh("ip link set eth0 down; ip link set eth0 name p0");
    no_world(host);
}

fn an_ipvlan_is_on_its_parents_network(host: &Host) {
    world(host);
    let net = "ipvlan:p0,192.0.2.7/24,fd00:2::7/64";
    let script = format!("{PING_BOTH} && ip -d link show eth0");
    let said = host
        .tincan(["run", "--net", net, "--", "sh", "-c", &script])
        .ok();
    assert!(said.contains("ipvlan  mode l2"), "{said}");
    no_world(host);
}

fn a_vlan_is_on_its_parents_tagged_network(host: &Host) {
    world(host);
    host.sh(
        "ip -n world link add link q0 name q5 type vlan id 5; ip -n world link set q5 up
        ip -n world address add 198.51.100.254/24 dev q5; ip -n world address add fd00:5::254/64 dev q5 nodad",
    );
    let net = "vlan:p0,id=5,198.51.100.7/24,fd00:5::7/64";
    let script =
        "ping -q -c1 -W5 198.51.100.254 && ping -q -c1 -W5 fd00:5::254 && ip -d link show eth0";
    let said = host
        .tincan(["run", "--net", net, "--", "sh", "-c", script])
        .ok();
    assert!(said.contains("vlan protocol 802.1Q id 5"), "{said}");
    no_world(host);
}

/// Three machines, each a namespace with its own tincan: a bridge between them is the network that they are on.
fn three_machines(host: &Host, address: impl Fn(u32) -> String) {
    host.sh("ip link add wires type bridge; ip link set wires up");
    for n in 1..=3 {
        let outer = address(n);
        let outer_net = if outer.contains(':') { 64 } else { 24 };
        host.sh(&format!(
            "ip netns add m{n}; ip link add w{n} master wires type veth peer name eth0 netns m{n}; ip link set w{n} up
            ip -n m{n} address add {outer}/{outer_net} dev eth0 $(case {outer} in *:*) echo nodad;; esac)
            ip -n m{n} link set eth0 up; ip -n m{n} link set lo up"
        ));
    }
    let tincan = Host::TINCAN;
    let on = |n: u32, line: &str| {
        format!("nsenter --net=/run/netns/m{n} {tincan} --root /run/work/m{n} {line}")
    };
    for n in 1..=3 {
        let others = (1..=3).filter(|other| *other != n);
        let remotes: Vec<String> = others
            .map(|other| format!("remote={}", address(other)))
            .collect();
        let remotes = remotes.join(",");
        let net = format!("vxlan:42,{remotes},10.0.0.{n}/24,fd00::{n}/64");
        let run = format!("run -d --name c{n} --net {net} -- sleep 1000 </dev/null >/dev/null");
        host.sh(&on(n, &run));
    }
    for (from, to) in [(1, 2), (1, 3), (2, 3), (3, 1)] {
        for ip in [format!("10.0.0.{to}"), format!("fd00::{to}")] {
            host.sh(&on(from, &format!("exec c{from} ping -q -c1 -W5 {ip}")));
        }
    }
    let said = host.sh(&on(1, "exec c1 ip -d link show eth0"));
    assert!(
        said.contains("vxlan id 42") && said.contains("dstport 4789"),
        "{said}"
    );
    for n in 1..=3 {
        host.sh(&on(n, &format!("delete --force c{n}")));
        host.sh(&format!("ip netns del m{n}; rmdir /run/work/m{n}"));
    }
    host.sh("ip link del wires; umount /run/netns; rmdir /run/netns");
}

fn machines_share_a_vxlan(host: &Host) {
    three_machines(host, |n| format!("192.0.2.{n}"));
}

fn machines_share_a_vxlan_over_ipv6(host: &Host) {
    three_machines(host, |n| format!("fd00:2::{n}"));
}

/// Two private keys, which are all ones and all twos, and their public ones (RFC 7748, 5).
const KEYS: [[&str; 2]; 2] = [
    [
        "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
        "pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk=",
    ],
    [
        "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
        "zo060cy2M+x7cMF4FKXHbs0CloUFDTRHRboFhw5YfVk=",
    ],
];

/// The file of one of two ends of a tunnel. Without an endpoint it waits until the other end has spoken.
fn tunnel(n: usize, endpoint: Option<&str>) -> String {
    let (own, other) = (n - 1, 2 - n);
    let far = 3 - n;
    let begins = endpoint.map_or(String::new(), |endpoint| {
        format!("Endpoint = {endpoint}:51820\nPersistentKeepalive = 25\n")
    });
    format!(
        "[Interface]
        PrivateKey = {}
        ListenPort = 51820
        Address = 10.7.0.{n}/24, fd07::{n}/64
        MTU = 1400
        [Peer]
        PublicKey = {}
        PresharedKey = {}
        {begins}
        AllowedIPs = 10.7.0.{far}/32, fd07::{far}/128, 10.8.{far}.0/24
        ",
        KEYS[own][0], KEYS[other][1], KEYS[0][1],
    )
}

/// Two machines, each a namespace with its own tincan: what is between them carries the tunnel's packets, and no others.
fn two_machines(host: &Host, address: impl Fn(usize) -> String) {
    let tincan = Host::TINCAN;
    let on = |n: usize, line: &str| {
        format!("nsenter --net=/run/netns/m{n} {tincan} --root /run/work/m{n} {line}")
    };
    host.sh("ip netns add m1; ip netns add m2; ip -n m1 link add eth0 type veth peer name eth0 netns m2");
    for n in [1, 2] {
        let (outer, far) = (address(n), address(3 - n));
        let (length, far) = if outer.contains(':') {
            (64, format!("[{far}]"))
        } else {
            (24, far)
        };
        host.sh(&format!(
            "ip -n m{n} address add {outer}/{length} dev eth0 $(case {outer} in *:*) echo nodad;; esac)
            ip -n m{n} link set eth0 up; ip -n m{n} link set lo up"
        ));
        // Only one end begins: handshakes that cross each other are both void, and their second tries, five seconds later, can
        // cross again (drivers/net/wireguard/noise.c, where what arrives takes the place of what was sent).
        let endpoint = (n == 2).then_some(far.as_str());
        let file = host.dir().join(format!("m{n}.conf"));
        std::fs::write(file, tunnel(n, endpoint)).unwrap();
    }
    for n in [1, 2] {
        let file = host.dir().join(format!("m{n}.conf"));
        let net = format!("wireguard:{}", file.display());
        let run = format!("run -d --name c{n} --net {net} -- sleep 1000 </dev/null >/dev/null");
        host.sh(&on(n, &run));
    }
    for (from, to) in [(2, 1), (1, 2)] {
        for ip in [format!("10.7.0.{to}"), format!("fd07::{to}")] {
            host.sh(&on(from, &format!("exec c{from} ping -q -c1 -W10 {ip}")));
        }
    }
    let said = host.sh(&on(
        2,
        "exec c2 sh -c 'ip -d link show eth0; ip route; wg show eth0'",
    ));
    for text in [
        "wireguard",
        "mtu 1400",
        "10.8.1.0/24 dev eth0",
        "preshared key: (hidden)",
        "every 25 seconds",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    // The container has the tunnel, and nothing of what it goes through.
    let said = host.sh(&on(1, "exec c1 ip -br link"));
    assert_eq!(said.lines().count(), 2, "{said}");
    let said = host.sh("ip netns exec m1 ip -br link");
    assert!(!said.contains("wg"), "{said}");
    for n in [1, 2] {
        host.sh(&on(n, &format!("delete --force c{n}")));
        host.sh(&format!("ip netns del m{n}; rmdir /run/work/m{n}"));
    }
    host.sh("umount /run/netns; rmdir /run/netns");
}

fn machines_share_a_wireguard(host: &Host) {
    two_machines(host, |n| format!("192.0.2.{n}"));
}

fn machines_share_a_wireguard_over_ipv6(host: &Host) {
    two_machines(host, |n| format!("fd00:2::{n}"));
}

fn the_lines_of_a_wireguard_make_what_it_makes(host: &Host) {
    let file = host.dir().join("wg0.conf");
    std::fs::write(&file, tunnel(1, Some("192.0.2.2"))).unwrap();
    let net = format!("wireguard:{}", file.display());
    let look = || {
        host.sh("ip -n a -br address; ip -n a route; ip -n a -6 route; ip netns exec a wg showconf eth0")
    };
    let plan = host
        .tincan([
            "run",
            "--name",
            "a",
            "--net",
            &net,
            "--dry-run",
            "--",
            "true",
        ])
        .ok();
    assert!(!plan.contains(KEYS[0][0]), "{plan}");
    by_hand(host, &plan);
    let hand = look();
    undo(host, &plan);
    host.tincan([
        "run",
        "-d",
        "--name",
        "a",
        "--netns-name",
        "--net",
        &net,
        "--",
        "sleep",
        "1000",
    ])
    .ok();
    assert_eq!(look(), hand, "{plan}");
    let state = std::fs::read_to_string("/run/tincan/a/state.json").unwrap();
    for key in [KEYS[0][0], KEYS[0][1], KEYS[1][1]] {
        assert!(!state.contains(key), "{state}");
    }
    // Live, with several hundred peers, which are more than one message.
    let mut text = tunnel(1, Some("192.0.2.2"));
    for n in 0..400u32 {
        let key = [KEYS[1][1].split_at(2).1, ""].concat();
        let digits = format!(
            "{}{}",
            char::from(b'A' + (n / 26 % 26) as u8),
            char::from(b'A' + (n % 26) as u8)
        );
        text.push_str(&format!("[Peer]\nPublicKey = {digits}{key}\n"));
        text.push_str(&format!(
            "AllowedIPs = 10.{}.{}.0/24, fd{:02x}:{:x}::/64\n",
            100 + n / 256,
            n % 256,
            16 + n / 256,
            n
        ));
    }
    text = text
        .replace("10.7.0.1/24, fd07::1/64", "10.6.0.1/24")
        .replace("10.7.0.2/32, fd07::2/128, 10.8.2.0/24", "10.6.0.2/32")
        .replace("ListenPort = 51820", "");
    std::fs::write(&file, text).unwrap();
    host.tincan(["link", "add", &format!("a={net},name=many")])
        .ok();
    let said = host.sh("ip netns exec a wg showconf many");
    assert_eq!(said.matches("[Peer]").count(), 401, "{said}");
    assert!(said.contains("10.101.143.0/24"), "{said}");
    host.tincan(["link", "del", "a", "many"]).ok();
    host.tincan(["delete", "--force", "a"]).ok();
    host.sh("umount /run/netns; rmdir /run/netns");
}

fn a_file_of_a_wireguard_that_is_wrong_is_told(host: &Host) {
    let run = |net: &str| {
        [
            "run".to_owned(),
            "--net".to_owned(),
            net.to_owned(),
            "--".to_owned(),
            "true".to_owned(),
        ]
    };
    let refused = |net: &str, why: &str| {
        let args = run(net);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refused(host, &args, why);
    };
    refused("wireguard:wg9", "/etc/wireguard/wg9.conf: No such file");
    let file = host.dir().join("wg0.conf");
    let net = format!("wireguard:{}", file.display());
    for (text, why) in [
        (
            tunnel(1, Some("example.com")),
            "line 9: `example.com:51820` is no address with a port",
        ),
        (
            tunnel(1, Some("192.0.2.2")).replace("MTU = 1400", "MTU = 1200"),
            "under the 1280 that IPv6 needs",
        ),
        (
            tunnel(1, Some("192.0.2.2")).replace("MTU", "PostUp"),
            "postup is what wg-quick does",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        refused(&net, why);
    }
}

fn a_tap_is_there_to_be_opened(host: &Host) {
    let net = "tap,10.0.0.1/24,name=tap0,mac=02:00:00:00:00:07,mtu=1300";
    let run = [
        "run", "--net", net, "--", "ip", "-d", "address", "show", "tap0",
    ];
    let said = host.tincan(run).ok();
    for text in [
        "tun type tap",
        "persist on",
        "02:00:00:00:00:07",
        "mtu 1300",
        "10.0.0.1/24",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    if Need::Root.missing().is_none() {
        let rootfs = host.busybox_rootfs();
        let open = ["sh", "-c", "exec 3<>/dev/net/tun && echo opened"];
        let run = [
            "run",
            "--rootfs",
            rootfs.to_str().unwrap(),
            "--net",
            net,
            "--",
        ];
        assert_eq!(host.tincan(run.iter().chain(&open)).ok(), "opened\n");
        let run = ["run", "--rootfs", rootfs.to_str().unwrap(), "--"];
        let said = host.tincan(run.iter().chain(&open)).any_stderr().assert();
        said.failure();
    }
}

fn what_cannot_be_is_said_before_anything_is_made(host: &Host) {
    world(host);
    let run = |net: &'static str| ["run", "--net", net, "--", "true"];
    refused(
        host,
        &run("macvlan:p9,192.0.2.7/24"),
        "no link p9 on the host",
    );
    refused(
        host,
        &run("macvlan:p0,192.0.2.1/24"),
        "address 192.0.2.1 is in use on the host: link p0",
    );
    refused(
        host,
        &run("vxlan:42,remote=192.0.2.254,dev=p9"),
        "no link p9 on the host",
    );
    for (need, net, kind) in [
        (Need::Ipvlan, "ipvlan:p0,192.0.2.7/24", "ipvlan"),
        (Need::Vlan, "vlan:p0,id=5,192.0.2.7/24", "vlan"),
    ] {
        if need.missing().is_some() {
            let wrong = format!("this kernel has no {kind}; `tincan doctor` shows");
            refused(host, &run(net), &wrong);
        }
    }
    let two = [
        "run",
        "--net",
        "tap",
        "--net",
        "macvlan:p0,name=eth0",
        "--",
        "true",
    ];
    refused(host, &two, "`eth0` is given to two interfaces");
    no_world(host);
}

fn the_lines_make_what_it_makes(host: &Host) {
    world(host);
    let nets = [
        "macvlan:p0,192.0.2.7/24,fd00:2::7/64,gw=192.0.2.254,mode=vepa,mac=02:00:00:00:00:07,mtu=1400",
        "vxlan:42,remote=192.0.2.254,remote=192.0.2.253,10.0.0.1/24,dev=p0,local=192.0.2.1",
        "tap,10.1.0.1/24,mtu=1300,mac=02:00:00:00:00:08",
    ];
    let nets: Vec<&str> = nets.iter().flat_map(|net| ["--net", net]).collect();
    let look = || {
        let seen = "ip -n a -d -j link show; ip -n a -br address; ip -n a route; ip -n a -6 route; bridge -n a fdb show dev eth1";
        let seen = host.sh(seen);
        // Numbers, what the kernel makes up, and what follows the carrier some time after a link is raised.
        let made_up = ["ifindex", "link_index", "link_netnsid", "operstate"];
        let mut text = String::new();
        for line in seen.lines() {
            match serde_json::from_str::<serde_json::Value>(line) {
                Ok(links) => {
                    for mut link in links.as_array().unwrap().clone() {
                        let fields = link.as_object_mut().unwrap();
                        made_up.iter().for_each(|key| drop(fields.remove(*key)));
                        let flags = fields["flags"].as_array_mut().unwrap();
                        flags.retain(|flag| flag != "NO-CARRIER" && flag != "LOWER_UP");
                        if fields["ifname"] == "eth1" {
                            fields.remove("address");
                        }
                        text.push_str(&format!("{link}\n"));
                    }
                }
                Err(_) => {
                    let kept = line
                        .split_whitespace()
                        .filter(|word| !word.starts_with("fe80:") && !is_state(word));
                    let kept = kept.map(|word| word.split("@if").next().unwrap_or(word));
                    text.push_str(&kept.collect::<Vec<_>>().join(" "));
                    text.push('\n');
                }
            }
        }
        text
    };
    let run = ["run", "--name", "a"].iter().chain(&nets);
    let plan = host.tincan(run.chain(&["--dry-run", "--", "true"])).ok();
    by_hand(host, &plan);
    let hand = look();
    undo(host, &plan);
    let run = ["run", "-d", "--name", "a", "--netns-name"]
        .iter()
        .chain(&nets);
    host.tincan(run.chain(&["--", "sleep", "1000"])).ok();
    let tincan = look();
    for (ours, hand) in tincan.lines().zip(hand.lines()) {
        assert_eq!(ours, hand, "{plan}");
    }
    assert_eq!(tincan, hand);
    host.tincan(["delete", "--force", "a"]).ok();
    no_world(host);
}

/// The parent is on the host of the containers: the machine, or a user's.
fn users_have_them_on_links_of_theirs(host: &Host) {
    host.sh("ip link add p0 type veth peer name q0; ip link set p0 up; ip link set q0 up");
    let a = [
        "run",
        "-d",
        "--name",
        "a",
        "--net",
        "macvlan:p0,10.0.0.1/24",
        "--",
        "sleep",
        "1000",
    ];
    host.tincan(a).ok();
    let b = [
        "run",
        "--net",
        "macvlan:p0,10.0.0.2/24",
        "--",
        "ping",
        "-q",
        "-c1",
        "-W5",
        "10.0.0.1",
    ];
    host.tincan(b).ok();
    host.tincan(["delete", "--force", "a"]).ok();
    host.sh("ip link del p0");
}
