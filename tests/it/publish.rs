//! Ports of the host's that lead to containers on networks.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use super::bad_input::{refused, refused_with};
use super::dry_run::{by_hand, undo};
use super::host::{Case, Host, tests, tincan};
use super::network::{create, delete, no_world, remove, stay, world};

pub fn tests() -> Vec<Case> {
    tests![
        a_port_is_reached_from_everywhere_and_sees_who_comes needs [Root, Nftables],
        ranges_lead_to_as_many_ports needs [Nftables],
        datagrams_come_in_and_go_back needs [Root, Nftables],
        who_sends_datagrams_gets_to_whoever_has_the_port needs [Root, Nftables],
        associations_come_in needs [Root, Nftables, Sctp],
        a_port_at_one_address_is_at_no_other needs [Nftables],
        of_each_family_a_port_is_where_its_network_is needs [Nftables],
        ports_come_and_go_while_the_container_runs needs [Nftables],
        ports_that_are_taken_are_refused needs [Root, Nftables],
        ports_that_lead_nowhere_are_refused needs [Nftables],
        what_was_flushed_leads_in_again needs [Nftables],
        a_port_outlasts_a_kill_and_is_cleared_away needs [Nftables],
        of_many_that_want_one_port_one_has_it needs [Nftables],
        the_hosts_loopback_is_not_the_containers needs [Root, Nftables],
        a_loopback_port_is_not_the_neighbours needs [Root, Nftables],
        without_ports_and_rules_loopback_stays_the_hosts needs [Root, Nftables],
        containers_on_wires_reach_ports needs [Root, Nftables],
        a_port_goes_with_a_container_that_goes_meanwhile needs [Root, Nftables],
        a_thousand_ports_lead_in needs [Nftables],
        more_ports_than_a_message_has_room_for_lead_in needs [Nftables],
        the_lines_of_a_run_make_what_it_makes needs [Root, Nftables],
    ]
}

const LAN0: [&str; 5] = ["lan0", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64"];

/// A program that tells whoever connects by which address it sees them.
fn teller(host: &Host) -> String {
    let path = host.dir().join("teller");
    let script = "#!/bin/sh
ino=$(readlink /proc/self/fd/0 | tr -dc 0-9)
ss -Htne | grep \"ino:$ino \" | awk '{print $5}'
";
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Starts a container that tells who connects to these ports of its own.
fn serve(host: &Host, name: &str, options: &[&str], ports: &[&str]) {
    let teller = teller(host);
    let servers: Vec<String> = ports
        .iter()
        .map(|port| format!("busybox nc -ll -p {port} -e {teller}"))
        .collect();
    let script = format!("{} & wait", servers.join(" & "));
    let run = ["run", "-d", "--name", name, "--net", "lan0"];
    let script = ["--", "sh", "-c", &script];
    host.tincan(run.iter().chain(options).chain(&script)).ok();
    for port in ports {
        let line = format!("! ss -Hltn 'sport = :{port}' | grep -q .");
        let not_yet = ["exec", name, "sh", "-c", &line];
        host.wait_until("it listens", || {
            host.tincan(not_yet).assert().get_output().status.code() != Some(0)
        });
    }
}

/// What is said at an address and a port; none where nobody is.
fn ask(host: &Host, before: &str, address: &str, port: u16) -> Option<String> {
    let line =
        format!("{before} timeout 3 busybox nc {address} {port} </dev/null 2>/dev/null || :");
    let said = host.sh(&line).trim().to_owned();
    // The port of the one that asks is any.
    let end = said.rfind(':')?;
    Some(said[..end].replace("[::ffff:", "").replace(['[', ']'], ""))
}

fn a_port_is_reached_from_everywhere_and_sees_who_comes(host: &Host) {
    world(host);
    create(host, &LAN0);
    create(
        host,
        &["lan1", "--subnet", "10.8.0.0/24", "--subnet", "fd08::/64"],
    );
    serve(host, "web", &["-p", "8080:80"], &["80"]);
    // Where bridges call netfilter, answers to ::1 are dropped.
    let netfilter = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";
    host.sh(&format!("test ! -e {netfilter} || echo 0 >{netfilter}"));
    let from_world = "ip netns exec world";
    let container = tincan().get_program().display().to_string();
    stay(host, "near", "lan0");
    stay(host, "far", "lan1");
    let from = |name: &str| format!("{container} exec {name}");
    for (before, address, seen) in [
        (from_world, "192.0.2.1", "192.0.2.254"),
        (from_world, "fd00:2::1", "fd00:2::254"),
        // The host, by loopback and by its own addresses.
        ("", "127.0.0.1", "10.9.0.1"),
        ("", "127.1.2.3", "10.9.0.1"),
        ("", "::1", "fd09::1"),
        ("", "192.0.2.1", "192.0.2.1"),
        ("", "fd00:2::1", "fd00:2::1"),
        ("", "10.9.0.1", "10.9.0.1"),
        // Another network's container is seen by its own address; one of the same network by the host's, through which the answer has
        // to come back.
        (&from("far"), "192.0.2.1", "10.8.0.2"),
        (&from("far"), "fd00:2::1", "fd08::2"),
        (&from("near"), "192.0.2.1", "10.9.0.1"),
        (&from("near"), "fd00:2::1", "fd09::1"),
        // And itself.
        (&from("web"), "192.0.2.1", "10.9.0.1"),
    ] {
        let said = ask(host, before, address, 8080);
        assert_eq!(said.as_deref(), Some(seen), "{before} {address}");
    }
    // The port alone is open, and not the container.
    host.sh("ip -n world route add 10.9.0.0/24 via 192.0.2.1");
    assert_eq!(ask(host, from_world, "10.9.0.2", 80), None);
    assert_eq!(ask(host, from_world, "192.0.2.1", 80), None);
    delete(host, &["web", "near", "far"]);
    assert_eq!(ask(host, from_world, "192.0.2.1", 8080), None);
    remove(host, "lan0");
    remove(host, "lan1");
    no_world(host);
}

fn ranges_lead_to_as_many_ports(host: &Host) {
    create(host, &LAN0);
    let ports = ["-p", "9000-9500", "-p", "7000-7002:90"];
    serve(host, "web", &ports, &["9300", "92"]);
    let gateway = "fd09::1";
    for address in ["127.0.0.1", "10.9.0.1", gateway] {
        for (port, leads) in [(9300, true), (7002, true), (9301, false), (7001, false)] {
            assert_eq!(
                ask(host, "", address, port).is_some(),
                leads,
                "{address} {port}"
            );
        }
    }
    let rules = host.sh("nft list table inet tincan-lan0");
    assert_eq!(rules.matches("tcp . 9000-9500 . ").count(), 2, "{rules}");
    assert_eq!(rules.matches("tcp . 700").count(), 6, "{rules}");
    delete(host, &["web"]);
    let rules = host.sh("nft list table inet tincan-lan0");
    assert!(!rules.contains("elements"), "{rules}");
    remove(host, "lan0");
}

fn datagrams_come_in_and_go_back(host: &Host) {
    create(host, &LAN0);
    let run = ["run", "-d", "--name", "echo", "--net", "lan0"];
    let ports = ["-p", "5353:53/udp", "-p", "5353:54"];
    let stays = ["--", "sleep", "1000"];
    host.tincan(run.iter().chain(&ports).chain(&stays)).ok();
    let server = host.inside("echo", || UdpSocket::bind("[::]:53").unwrap());
    for (own, address) in [
        ("127.0.0.1:0", "127.0.0.1:5353"),
        ("[fd09::1]:0", "[fd09::1]:5353"),
    ] {
        let client = UdpSocket::bind(own).unwrap();
        for socket in [&client, &server] {
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
        }
        client.connect(address).unwrap();
        client.send(b"there").unwrap();
        let mut text = [0; 16];
        let (length, from) = server.recv_from(&mut text).unwrap();
        assert_eq!(&text[..length], b"there");
        server.send_to(b"back", from).unwrap();
        let length = client.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"back");
    }
    drop(server);
    delete(host, &["echo"]);
    remove(host, "lan0");
}

/// A socket of SCTP for an address of this one's family, which is used as one of TCP (sctp(7), the one-to-one interface).
pub fn associates(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    Ok(net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        Some(net::ipproto::SCTP),
    )?)
}

fn listens(address: &str) -> TcpListener {
    let address: SocketAddr = address.parse().unwrap();
    let socket = associates(&address).unwrap();
    net::bind(&socket, &address).unwrap();
    net::listen(&socket, 8).unwrap();
    socket.into()
}

fn associations_come_in(host: &Host) {
    create(host, &LAN0);
    let run = [
        "run",
        "-d",
        "--name",
        "hears",
        "--net",
        "lan0,10.9.0.7,fd09::7",
    ];
    let rest = ["-p", "3868:5000/sctp", "--", "sleep", "1000"];
    host.tincan(run.iter().chain(&rest)).ok();
    for (own, server) in [
        ("10.9.0.1", "10.9.0.7:5000"),
        ("[fd09::1]", "[fd09::7]:5000"),
    ] {
        let server = host.inside("hears", || listens(server));
        let [from, to] =
            [0, 3868].map(|port| format!("{own}:{port}").parse::<SocketAddr>().unwrap());
        let client = associates(&to).unwrap();
        net::bind(&client, &from).unwrap();
        net::connect(&client, &to).unwrap();
        let mut client = TcpStream::from(client);
        let (mut heard, _) = server.accept().unwrap();
        let mut text = [0; 4];
        client.write_all(b"here").unwrap();
        heard.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"here");
        heard.write_all(b"back").unwrap();
        client.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"back");
    }
    let listener = listens("10.9.0.1:6000");
    refused(
        host,
        &["run", "--net", "lan0", "-p", "6000:80/sctp", "--", "true"],
        "port 6000/sctp is in use by a process on the host",
    );
    drop(listener);
    delete(host, &["hears"]);
    remove(host, "lan0");
}

/// From one port of its own all the time, which is one connection to conntrack.
fn who_sends_datagrams_gets_to_whoever_has_the_port(host: &Host) {
    create(host, &LAN0);
    let clients = ["10.9.0.1", "fd09::1"].map(|ip| UdpSocket::bind((ip, 5000)).unwrap());
    let send = || {
        for client in &clients {
            // Where nobody is, an earlier one has been refused.
            let to = (client.local_addr().unwrap().ip(), 5353);
            let _ = client
                .send_to(b"there", to)
                .or_else(|_| client.send_to(b"there", to));
        }
    };
    let serve = |name: &str| {
        let run = ["run", "-d", "--name", name, "--net", "lan0"];
        let rest = ["-p", "5353:53/udp", "--", "sleep", "1000"];
        host.tincan(run.iter().chain(&rest)).ok();
        host.inside(name, || UdpSocket::bind("[::]:53").unwrap())
    };
    let hears = |server: &UdpSocket, what: &str| {
        let limit = Some(Duration::from_secs(10));
        server.set_read_timeout(limit).unwrap();
        send();
        for _ in &clients {
            let heard = server.recv_from(&mut [0; 16]);
            assert!(heard.is_ok(), "{what}: {heard:?}");
        }
    };
    // Who began when nobody had the port,
    send();
    let first = serve("a");
    hears(&first, "the first");
    drop(first);
    // and with another.
    delete(host, &["a"]);
    stay(host, "hold", "lan0");
    send();
    let second = serve("b");
    hears(&second, "the second");
    host.sh("nft flush ruleset");
    send();
    host.tincan(["network", "reload"]).ok();
    hears(&second, "after a reload");
    host.tincan(["network", "unpublish", "b", "5353/udp"]).ok();
    send();
    second.set_nonblocking(true).unwrap();
    assert!(second.recv_from(&mut [0; 16]).is_err());
    drop(second);
    delete(host, &["b", "hold"]);
    remove(host, "lan0");
}

fn a_port_at_one_address_is_at_no_other(host: &Host) {
    create(host, &LAN0);
    serve(
        host,
        "web",
        &["-p", "127.0.0.1:8080:80", "-p", "[fd09::1]:8081:80"],
        &["80"],
    );
    for (address, port, leads) in [
        ("127.0.0.1", 8080, true),
        ("10.9.0.1", 8080, false),
        ("fd09::1", 8080, false),
        ("fd09::1", 8081, true),
        ("127.0.0.1", 8081, false),
    ] {
        assert_eq!(
            ask(host, "", address, port).is_some(),
            leads,
            "{address} {port}"
        );
    }
    // The same port at another address is another's.
    serve(host, "next", &["-p", "10.9.0.1:8080:80"], &["80"]);
    assert!(ask(host, "", "10.9.0.1", 8080).is_some());
    delete(host, &["web", "next"]);
    remove(host, "lan0");
}

/// A container on two networks, each of one family.
fn of_each_family_a_port_is_where_its_network_is(host: &Host) {
    create(host, &["lan0", "--subnet", "10.9.0.0/24"]);
    create(host, &["six", "--subnet", "fd09::/64"]);
    let ports = ["-p", "8080:80", "-p", "[::]:8081:80"];
    serve(
        host,
        "web",
        &[&["--net", "six"], &ports[..]].concat(),
        &["80"],
    );
    let leads = || {
        [
            ("127.0.0.1", 8080),
            ("fd09::1", 8080),
            ("fd09::1", 8081),
            ("127.0.0.1", 8081),
        ]
        .map(|(address, port)| ask(host, "", address, port).is_some())
    };
    assert_eq!(leads(), [true, true, true, false]);
    host.sh("nft flush ruleset");
    host.tincan(["network", "reload"]).ok();
    assert_eq!(leads(), [true, true, true, false]);
    let taken = "port 8080:80 is published for container web already";
    let other = ["run", "--net", "lan0", "-p", "8080:80", "--", "true"];
    refused(host, &other, taken);
    host.tincan(["network", "unpublish", "web", "8080"]).ok();
    assert_eq!(leads(), [false, false, true, false]);
    delete(host, &["web"]);
    let rules = host.sh("nft list ruleset");
    assert!(!rules.contains("elements"), "{rules}");
    remove(host, "lan0");
    remove(host, "six");
}

fn ports_come_and_go_while_the_container_runs(host: &Host) {
    create(host, &LAN0);
    serve(host, "web", &["-p", "8080:80"], &["80"]);
    host.tincan(["network", "publish", "web", "8081:80", "8082:80"])
        .ok();
    let leads = |port| {
        ask(host, "", "127.0.0.1", port).is_some() && ask(host, "", "fd09::1", port).is_some()
    };
    assert!(leads(8080) && leads(8081) && leads(8082));
    let shown = host.tincan(["network", "inspect", "lan0"]).ok();
    for port in ["8080:80", "8081:80", "8082:80"] {
        assert!(
            shown.contains(&format!("\"publish\": \"{port}\"")),
            "{shown}"
        );
    }
    let taken = "port 8081:81 is published for container web already, as 8081:80";
    refused(
        host,
        &["network", "publish", "web", "8083:80", "8081:81"],
        taken,
    );
    assert!(!leads(8083));
    host.tincan(["network", "unpublish", "web", "8080", "8082"])
        .ok();
    assert!(!leads(8080) && leads(8081) && !leads(8082));
    refused(
        host,
        &["network", "unpublish", "web", "8081", "8080"],
        "container web publishes no port 8080/tcp; it publishes 8081:80",
    );
    assert!(leads(8081));
    refused(
        host,
        &["network", "unpublish", "web", "8081/udp"],
        "publishes no port 8081/udp",
    );
    refused(host, &["network", "publish", "nobody", "8090"], "nobody");
    // What was published live goes with the container as well.
    delete(host, &["web"]);
    let rules = host.sh("nft list table inet tincan-lan0");
    assert!(!rules.contains("elements"), "{rules}");
    remove(host, "lan0");
}

fn ports_that_are_taken_are_refused(host: &Host) {
    create(host, &LAN0);
    stay(host, "other", "lan0");
    host.tincan(["network", "publish", "other", "8080-8090", "53:53/udp"])
        .ok();
    let listeners = (
        TcpListener::bind("[::]:6000").unwrap(),
        UdpSocket::bind("127.0.0.1:6001").unwrap(),
    );
    for (port, wrong) in [
        (
            "8085:80",
            "port 8085:80 is published for container other already, as 8080-8090:8080-8090",
        ),
        (
            "127.0.0.1:8080:80",
            "is published for container other already",
        ),
        ("8000-9000", "is published for container other already"),
        (
            "53/udp",
            "is published for container other already, as 53:53/udp",
        ),
        (
            "6000:80",
            "port 6000/tcp is in use by a process on the host",
        ),
        (
            "5990-6010:80",
            "port 6000/tcp is in use by a process on the host",
        ),
        (
            "6001:80/udp",
            "port 6001/udp is in use by a process on the host",
        ),
    ] {
        refused(
            host,
            &["run", "--net", "lan0", "-p", port, "--", "true"],
            wrong,
        );
        refused(
            host,
            &[
                "run",
                "--dry-run",
                "--net",
                "lan0",
                "-p",
                port,
                "--",
                "true",
            ],
            wrong,
        );
        refused(host, &["network", "publish", "other", port], wrong);
    }
    // Other protocols and other ports are nobody's.
    for port in ["8085:80/udp", "53:80", "6001:80", "6000:80/udp"] {
        host.tincan(["run", "--net", "lan0", "-p", port, "--", "true"])
            .ok();
    }
    drop(listeners);
    delete(host, &["other"]);
    remove(host, "lan0");
}

fn ports_that_lead_nowhere_are_refused(host: &Host) {
    create(host, &["lan4", "--subnet", "10.8.0.0/24"]);
    create(host, &["inner", "--subnet", "10.7.0.0/24", "--internal"]);
    let run = |net: &'static str, ports: &[&'static str], wrong: &str| {
        let ports = ports.iter().flat_map(|port| ["-p", *port]);
        let args: Vec<&str> = ["run", "--name", "c", "--net", net]
            .into_iter()
            .chain(ports)
            .chain(["--", "true"])
            .collect();
        refused_with(host, &args, &[wrong]);
    };
    run("inner", &["8080"], "c is on no network that leads outside");
    run("lan4", &["[::1]:8080:80"], "c has no IPv6 address on lan4");
    run(
        "lan4",
        &["192.0.2.7:8080:80"],
        "the host has no address 192.0.2.7",
    );
    run(
        "lan4",
        &["8080:80", "8000-9000:80"],
        "port 8000-9000:80-1080 is given twice",
    );
    run(
        "lan4",
        &["8080-8070:80"],
        "`8080-8070` ends before it begins",
    );
    run(
        "lan4",
        &["8080-8090:80-81"],
        "`80-81` has not as many ports",
    );
    run(
        "lan4",
        &["8080-8090:65530"],
        "`65530` has not as many ports after it",
    );
    run("lan4", &["0:80"], "`0` is no port");
    run("lan4", &["80/icmp"], "`icmp` is none of tcp, udp, sctp");
    run("172.16.0.1/16", &["80"], "goes with a network");
    run("none", &["80"], "goes with a network");
    remove(host, "lan4");
    remove(host, "inner");
}

fn what_was_flushed_leads_in_again(host: &Host) {
    create(host, &LAN0);
    serve(host, "web", &["-p", "8080:80"], &["80"]);
    let leads = || ask(host, "", "127.0.0.1", 8080).is_some();
    assert!(leads());
    // Another's table is another's business.
    host.sh("nft add table inet other; nft delete table inet other");
    assert!(leads());
    for harm in [
        "nft flush ruleset",
        "nft flush map inet tincan-lan0 ports4",
        "ip link del lan0",
    ] {
        host.sh(harm);
        host.tincan(["network", "reload"]).ok();
        host.wait_until(harm, leads);
    }
    // The next container does it as well.
    host.sh("nft flush ruleset");
    host.tincan(["run", "--net", "lan0", "-p", "8081:80", "--", "true"])
        .ok();
    assert!(leads());
    delete(host, &["web"]);
    remove(host, "lan0");
}

fn a_port_outlasts_a_kill_and_is_cleared_away(host: &Host) {
    create(host, &LAN0);
    let line = format!(
        "{} run --name lost --net lan0 -p 8080:80 -- sh -c 'echo up; exec sleep 1000' >up & tincan=$!
        until grep -q up up; do :; done; kill -9 $tincan",
        tincan().get_program().display()
    );
    host.sh(&line);
    let rules = host.sh("nft list table inet tincan-lan0");
    assert!(rules.contains("tcp . 8080"), "{rules}");
    // Whoever asks for it has it, since nobody waits for its container any more.
    serve(host, "next", &["-p", "8080:80"], &["80"]);
    assert!(ask(host, "", "127.0.0.1", 8080).is_some());
    delete(host, &["next"]);
    host.sh(&line);
    host.tincan(["gc"]).ok();
    let rules = host.sh("nft list table inet tincan-lan0");
    assert!(!rules.contains("elements"), "{rules}");
    remove(host, "lan0");
}

fn of_many_that_want_one_port_one_has_it(host: &Host) {
    create(host, &LAN0);
    let program = tincan();
    let program = program.get_program().display();
    host.sh(&format!(
        "seq 8 | xargs -P8 -I% sh -c '{program} run -d --name c% --net lan0 -p 8080:80 -- sleep 1000 </dev/null >/dev/null 2>>said || :'"
    ));
    let said = host.sh("cat said");
    assert_eq!(
        said.matches("port 8080:80 is published for container c")
            .count(),
        7,
        "{said}"
    );
    let left = host.tincan(["list", "-q"]).ok();
    assert_eq!(left.lines().count(), 1, "{left}");
    delete(host, &[left.trim()]);
    remove(host, "lan0");
}

fn the_hosts_loopback_is_not_the_containers(host: &Host) {
    create(host, &LAN0);
    stay(host, "c", "lan0");
    let listener = TcpListener::bind("127.0.0.1:6000").unwrap();
    // A container that sends to the host's loopback addresses by its gateway.
    let script = "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet
        ip address del 127.0.0.1/8 dev lo; ip route flush table local dev lo 2>/dev/null
        ip route add 127.0.0.1 via 10.9.0.1
        ! timeout 2 busybox nc 127.0.0.1 6000 </dev/null";
    host.tincan(["exec", "c", "sh", "-c", script])
        .any_stderr()
        .ok();
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    delete(host, &["c"]);
    remove(host, "lan0");
}

/// Who is beside the host sends to its loopback address (CVE-2020-8558).
fn a_loopback_port_is_not_the_neighbours(host: &Host) {
    world(host);
    create(host, &LAN0);
    serve(
        host,
        "web",
        &["-p", "127.0.0.1:8080:80", "-p", "8081:81"],
        &["80", "81"],
    );
    assert!(ask(host, "", "127.0.0.1", 8080).is_some());
    host.sh(
        "ip netns exec world sh -euc 'echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet
        ip link set lo up; ip address del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via 192.0.2.1 src 192.0.2.254'",
    );
    // Also where the host's own link would let it through.
    host.sh("echo 1 >/proc/sys/net/ipv4/conf/p0/route_localnet");
    for port in [8080, 8081] {
        assert_eq!(ask(host, "ip netns exec world", "127.0.0.1", port), None);
    }
    assert!(ask(host, "ip netns exec world", "192.0.2.1", 8081).is_some());
    delete(host, &["web"]);
    remove(host, "lan0");
    no_world(host);
}

fn without_ports_and_rules_loopback_stays_the_hosts(host: &Host) {
    create(host, &LAN0);
    let allowed = || host.sh("cat /proc/sys/net/ipv4/conf/lan0/route_localnet");
    assert_eq!(allowed(), "0\n");
    serve(host, "web", &["-p", "8080:80"], &["80"]);
    assert_eq!(allowed(), "1\n");
    host.tincan(["network", "publish", "web", "8081:80"]).ok();
    host.tincan(["network", "unpublish", "web", "8080"]).ok();
    assert_eq!(allowed(), "1\n");
    assert!(ask(host, "", "127.0.0.1", 8081).is_some());
    host.tincan(["network", "unpublish", "web", "8081"]).ok();
    assert_eq!(allowed(), "0\n");
    host.tincan(["network", "publish", "web", "8082:80"]).ok();
    delete(host, &["web"]);
    assert_eq!(allowed(), "0\n");
    remove(host, "lan0");
}

fn containers_on_wires_reach_ports(host: &Host) {
    create(host, &LAN0);
    serve(host, "web", &["-p", "8080:80"], &["80"]);
    stay(
        host,
        "single",
        "172.16.0.1/16,fd16::1/64,gw=172.16.0.2,gw=fd16::2",
    );
    let tincan = tincan().get_program().display().to_string();
    let from = format!("{tincan} exec single");
    for (address, seen) in [
        ("172.16.0.2", "172.16.0.1"),
        ("10.9.0.1", "172.16.0.1"),
        ("fd16::2", "fd16::1"),
    ] {
        assert_eq!(
            ask(host, &from, address, 8080).as_deref(),
            Some(seen),
            "{address}"
        );
    }
    delete(host, &["web", "single"]);
    remove(host, "lan0");
}

fn a_port_goes_with_a_container_that_goes_meanwhile(host: &Host) {
    create(host, &LAN0);
    let tincan = Host::TINCAN;
    for round in 0..40 {
        stay(host, "x", "lan0");
        host.sh(&format!(
            "{tincan} network publish x 9000:80 2>/dev/null & {tincan} delete -f x 2>/dev/null; wait
            {tincan} delete -f x 2>/dev/null || true"
        ));
        let elements =
            host.sh("nft list map inet tincan-lan0 ports4; nft list map inet tincan-lan0 ports6");
        assert!(!elements.contains("9000"), "round {round}: {elements}");
    }
    assert_eq!(host.tincan(["gc"]).ok(), "");
    remove(host, "lan0");
}

fn a_thousand_ports_lead_in(host: &Host) {
    create(host, &LAN0);
    let ports: Vec<String> = (0..1000).map(|n| format!("-p{}:80", 20_000 + n)).collect();
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    serve(host, "web", &ports, &["80"]);
    for port in [20_000, 20_500, 20_999] {
        assert!(ask(host, "", "127.0.0.1", port).is_some(), "{port}");
        assert!(ask(host, "", "fd09::1", port).is_some(), "{port}");
    }
    delete(host, &["web"]);
    let rules = host.sh("nft list table inet tincan-lan0");
    assert!(!rules.contains("elements"), "{rules}");
    remove(host, "lan0");
}

/// Each port of a range that changes its numbers is one element for each family: of these there are 10,000.
fn more_ports_than_a_message_has_room_for_lead_in(host: &Host) {
    create(host, &LAN0);
    let serving = |name: &str| {
        serve(host, name, &["-p", "20000-24999:30000"], &["34000"]);
        for address in ["127.0.0.1", "fd09::1"] {
            assert!(ask(host, "", address, 24_000).is_some(), "{address}");
        }
    };
    let nothing_is_left = || {
        let rules = host.sh("nft list table inet tincan-lan0");
        assert!(!rules.contains("elements"), "{rules}");
    };
    serving("web");
    // Those that somebody has taken away are no obstacle for the others.
    host.sh("nft delete element inet tincan-lan0 ports4 '{ tcp . 20001, tcp . 24998 }'");
    delete(host, &["web"]);
    nothing_is_left();
    serving("web");
    host.tincan(["network", "unpublish", "web", "20000-24999"])
        .ok();
    nothing_is_left();
    host.tincan(["network", "publish", "web", "20000-24999:30000"])
        .ok();
    host.sh("nft flush ruleset");
    delete(host, &["web"]);
    remove(host, "lan0");
}

fn the_lines_of_a_run_make_what_it_makes(host: &Host) {
    create(host, &LAN0);
    let look = || host.sh("nft list table inet tincan-lan0 | grep -A9 '^	map'");
    let before = look();
    let ports = [
        "-p",
        "8080:80",
        "-p",
        "9000-9100",
        "-p",
        "127.0.0.1:53:53/udp",
    ];
    let args = ["run", "--name", "a", "--net", "lan0"];
    let plan = host
        .tincan(
            args.iter()
                .chain(&ports)
                .chain(&["--dry-run", "--", "true"]),
        )
        .ok();
    by_hand(host, &plan);
    let hand = look();
    undo(host, &plan);
    assert_eq!(look(), before);
    host.tincan(
        args.iter()
            .chain(&ports)
            .chain(&["-d", "--", "sleep", "1000"]),
    )
    .ok();
    assert_eq!(look(), hand, "{plan}");
    assert_ne!(hand, before);
    delete(host, &["a"]);
    assert_eq!(look(), before);
    remove(host, "lan0");
    host.sh("umount /run/netns; rmdir /run/netns");
}
