//! DNS on networks: who answers, what, and to whom.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

use super::host::{Case, Host, tests};
use super::machine::at_most;
use super::network::{create, delete, remove, stay};

pub fn tests() -> Vec<Case> {
    tests![
        names_are_answered_as_they_come_and_go needs [Nftables],
        programs_over_a_rootfs_ask_the_gateway needs [Nftables],
        on_two_networks_the_names_of_both_are_answered needs [Nftables],
        everything_else_is_asked_of_the_machines_servers needs [Nftables],
        an_internal_network_asks_nobody needs [Nftables],
        long_answers_come_over_tcp needs [Nftables],
        hostile_queries_do_no_harm needs [Nftables],
        a_flood_with_dead_servers_stops_nobody_else needs [Nftables],
        nobody_else_is_answered needs [Root, Nftables],
        one_that_was_killed_is_started_by_the_next_run needs [Nftables],
        one_ends_with_its_bridge_and_with_its_network needs [Root, Nftables],
        it_has_nothing_of_its_callers_and_no_rights needs [Root, Nftables],
        a_running_container_follows_its_networks needs [Nftables],
    ]
}

const LAN0: [&str; 6] = [
    "lan0",
    "--subnet",
    "10.9.0.0/24",
    "--subnet",
    "fd09::/64",
    "--dns",
];
const LAN1: [&str; 6] = [
    "lan1",
    "--subnet",
    "10.8.0.0/24",
    "--subnet",
    "fd08::/64",
    "--dns",
];

const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;

/// How long an answer may take that is to come.
const SOON: Duration = Duration::from_secs(10);

/// A query for a name, with EDNS of this size or without.
fn query(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns.is_some().into()];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    if let Some(size) = edns {
        bytes.extend([0, 0, 41]);
        bytes.extend(size.to_be_bytes());
        bytes.extend([0; 6]);
    }
    bytes
}

/// An answer, read: its code, whether it is cut short, and the data of its records.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: u8,
    truncated: bool,
    records: Vec<String>,
}

fn read(answer: &[u8]) -> Said {
    assert_eq!(answer[..2], [0x12, 0x34], "{answer:?}");
    assert_eq!(answer[2] & 0x80, 0x80, "{answer:?}");
    let mut at = 12;
    let skip_name = |mut at: usize| loop {
        match answer[at] {
            0 => return at + 1,
            192.. => return at + 2,
            length => at += 1 + usize::from(length),
        }
    };
    at = skip_name(at) + 4;
    let mut records = Vec::new();
    for _ in 0..u16::from_be_bytes([answer[6], answer[7]]) {
        at = skip_name(at);
        let length = usize::from(u16::from_be_bytes([answer[at + 8], answer[at + 9]]));
        let data = &answer[at + 10..at + 10 + length];
        records.push(match (answer[at + 1], length) {
            (1, 4) => IpAddr::from(<[u8; 4]>::try_from(data).unwrap()).to_string(),
            (28, 16) => IpAddr::from(<[u8; 16]>::try_from(data).unwrap()).to_string(),
            _ => String::from_utf8_lossy(data).into_owned(),
        });
        at += 10 + length;
    }
    Said {
        code: answer[3] & 0xf,
        truncated: answer[2] & 2 != 0,
        records,
    }
}

/// A socket that asks a server.
fn asking(server: &str) -> UdpSocket {
    let own = if server.contains(':') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(own).unwrap();
    socket
        .connect(SocketAddr::new(server.parse().unwrap(), 53))
        .unwrap();
    socket.set_read_timeout(Some(at_most(SOON))).unwrap();
    socket
}

/// What a server answers a message in a datagram.
fn ask_raw(server: &str, message: &[u8]) -> Vec<u8> {
    let socket = asking(server);
    socket.send(message).unwrap();
    let mut answer = vec![0; 65_535];
    let length = socket.recv(&mut answer).expect("an answer in time");
    answer.truncate(length);
    answer
}

/// The same, asked again each second as resolvers do: a datagram may be lost where there are too many.
fn ask_again_raw(server: &str, message: &[u8]) -> Vec<u8> {
    let socket = asking(server);
    let second = Duration::from_secs(1);
    socket.set_read_timeout(Some(second)).unwrap();
    let mut answer = vec![0; 65_535];
    let since = Instant::now();
    loop {
        socket.send(message).unwrap();
        match socket.recv(&mut answer) {
            Ok(length) => {
                answer.truncate(length);
                return answer;
            }
            Err(error) => assert!(
                since.elapsed() < at_most(SOON),
                "no answer in time: {error}"
            ),
        }
    }
}

fn stream(server: &str) -> TcpStream {
    let stream = TcpStream::connect(SocketAddr::new(server.parse().unwrap(), 53)).unwrap();
    stream.set_read_timeout(Some(at_most(SOON))).unwrap();
    stream
}

fn ask_stream(stream: &mut TcpStream, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, message].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// Ends a connection, and waits until the server has too: while the kernel tries to tell it, for a minute where the way there is gone by
/// then, the network namespace lives on (net/ipv4/tcp_timer.c, `tcp_orphan_retries`).
fn hang_up(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
    let rest = stream.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(rest, 0, "the server says more than it was asked");
}

/// What the servers of a network answer to a container: by both families and both transports the same.
fn ask(host: &Host, container: &str, servers: [&str; 2], name: &str, kind: u16) -> Said {
    host.inside(container, || {
        let message = query(name, kind, Some(1232));
        let mut all = Vec::new();
        for server in servers {
            all.push(read(&ask_raw(server, &message)));
            let mut stream = stream(server);
            all.push(read(&ask_stream(&mut stream, &message)));
            hang_up(stream);
        }
        assert!(
            all.windows(2).all(|two| two[0] == two[1]),
            "{name}: {all:?}"
        );
        all.remove(0)
    })
}

const GATEWAYS: [&str; 2] = ["10.9.0.1", "fd09::1"];

fn has(records: &[&str]) -> Said {
    Said {
        code: 0,
        truncated: false,
        records: records.iter().map(|it| (*it).to_owned()).collect(),
    }
}

fn no_such_name() -> Said {
    Said {
        code: 3,
        ..has(&[])
    }
}

/// The machine's `/etc/resolv.conf`, for as long as it lasts.
pub struct ResolvConf;

impl ResolvConf {
    pub fn of(host: &Host, text: &str) -> Self {
        let path = host.dir().join("machines-resolv.conf");
        fs::write(&path, text).unwrap();
        let none = None::<&str>;
        mount(
            Some(&path),
            "/etc/resolv.conf",
            none,
            MsFlags::MS_BIND,
            none,
        )
        .unwrap();
        ResolvConf
    }
}

impl Drop for ResolvConf {
    fn drop(&mut self) {
        umount2("/etc/resolv.conf", MntFlags::MNT_DETACH).unwrap();
    }
}

/// A server of the machine's, at an address of its loopback: it answers a text question with how many it has had, `no.…` with that there is
/// no such name, `long.…` in a datagram with that it is cut short and over a stream with much, `forged.…` with wrong answers before
/// the right one, and anything else with 192.0.2.1.
pub struct Upstream {
    over: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
    ports: Arc<Mutex<Vec<u16>>>,
    threads: Vec<JoinHandle<()>>,
}

fn upstream_answer(message: &[u8], over_stream: bool) -> (String, Vec<Vec<u8>>) {
    let name_end = 12 + message[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let mut name = String::new();
    let mut at = 12;
    while message[at] != 0 {
        let length = usize::from(message[at]);
        name += &String::from_utf8_lossy(&message[at + 1..=at + length]);
        name.push('.');
        at += 1 + length;
    }
    let mut answer = message[..name_end + 4].to_vec();
    answer[2] = 0x81;
    answer[3] = 0x80;
    answer[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    let record = |answer: &mut Vec<u8>, data: &[u8]| {
        answer[7] += 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(data);
    };
    let mut forged = Vec::new();
    match name.split('.').next().unwrap() {
        "no" => answer[3] |= 3,
        "broken" => answer[3] |= 2,
        "long" if over_stream => (0..200).for_each(|n| record(&mut answer, &[192, 0, 2, n])),
        "long" => answer[2] |= 2,
        "forged" => {
            for at in [0, 1, 13] {
                let mut wrong = answer.clone();
                record(&mut wrong, &[203, 0, 113, 66]);
                wrong[at] ^= 1;
                forged.push(wrong);
            }
            record(&mut answer, &[192, 0, 2, 1]);
        }
        _ => record(&mut answer, &[192, 0, 2, 1]),
    }
    forged.push(answer);
    (name, forged)
}

impl Upstream {
    pub fn at(address: &str) -> Self {
        let address = SocketAddr::new(address.parse().unwrap(), 53);
        let datagrams = UdpSocket::bind(address).unwrap();
        let listener = TcpListener::bind(address).unwrap();
        let tick = Some(Duration::from_millis(20));
        datagrams.set_read_timeout(tick).unwrap();
        listener.set_nonblocking(true).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let ports = Arc::new(Mutex::new(Vec::new()));
        let (over_1, asked_1, ports_1) = (over.clone(), asked.clone(), ports.clone());
        let serve_datagrams = move || {
            let mut message = vec![0; 65_535];
            while !over_1.load(Ordering::Relaxed) {
                let Ok((length, from)) = datagrams.recv_from(&mut message) else {
                    continue;
                };
                let (name, answers) = upstream_answer(&message[..length], false);
                asked_1.lock().unwrap().push(name);
                ports_1.lock().unwrap().push(from.port());
                for answer in answers {
                    datagrams.send_to(&answer, from).unwrap();
                }
            }
        };
        let over_2 = over.clone();
        let serve_streams = move || {
            while !over_2.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    std::thread::yield_now();
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    continue;
                }
                let mut message = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut message).unwrap();
                let (_, mut answers) = upstream_answer(&message, true);
                let answer = answers.pop().unwrap();
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length[..], &answer].concat()).unwrap();
            }
        };
        Upstream {
            over,
            asked,
            ports,
            threads: vec![
                std::thread::spawn(serve_datagrams),
                std::thread::spawn(serve_streams),
            ],
        }
    }

    fn was_asked(&self, name: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|it| it.as_str() == name).count()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

/// The process that answers for a network.
fn server(host: &Host, network: &str) -> Option<i32> {
    let text = host.tincan(["network", "inspect", network]).ok();
    let shown: Value = serde_json::from_str(&text).unwrap();
    shown["dns_pid"]
        .as_i64()
        .map(|pid| i32::try_from(pid).unwrap())
}

fn is_there(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn stay_over_busybox(host: &Host, name: &str, options: &[&str]) {
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    let run = ["run", "-d", "--rootfs", rootfs, "--name", name];
    let stays = ["--", "sleep", "1000"];
    host.tincan(run.iter().chain(options).chain(&stays)).ok();
}

fn names_are_answered_as_they_come_and_go(host: &Host) {
    let _resolv = ResolvConf::of(host, "nameserver 127.0.0.1\n");
    let _upstream = Upstream::at("127.0.0.1");
    create(host, &LAN0);
    assert!(host.tincan(["network", "list"]).ok().contains(" dns\n"));
    stay(host, "web", "lan0");
    let from_web = |name: &str, kind| ask(host, "web", GATEWAYS, name, kind);
    assert_eq!(from_web("web", A), has(&["10.9.0.2"]));
    assert_eq!(from_web("WEB", AAAA), has(&["fd09::2"]));
    // There is the name, and no such record.
    assert_eq!(from_web("web", TXT), has(&[]));
    assert_eq!(from_web("2.0.9.10.in-addr.arpa", PTR), has(&["\u{3}web\0"]));
    let six = format!("2.{}9.0.d.f.ip6.arpa", "0.".repeat(27));
    assert_eq!(from_web(&six, PTR), has(&["\u{3}web\0"]));
    assert_eq!(from_web("9.0.9.10.in-addr.arpa", PTR), no_such_name());
    assert_eq!(from_web("no.such", A), no_such_name());
    assert_eq!(from_web("localhost", A), has(&["127.0.0.1"]));
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    let late = [
        "run", "-d", "--rootfs", rootfs, "--name", "late", "--net", "lan0", "--alias", "no.more",
    ];
    host.tincan(late.iter().chain(&["--", "sleep", "1000"]))
        .ok();
    for name in ["late", "no.more"] {
        assert_eq!(from_web(name, A), has(&["10.9.0.3"]));
        assert_eq!(from_web(name, AAAA), has(&["fd09::3"]));
    }
    delete(host, &["late"]);
    assert_eq!(from_web("no.more", A), no_such_name());
    assert_eq!(from_web("no.more", AAAA), no_such_name());
    delete(host, &["web"]);
    remove(host, "lan0");
}

fn programs_over_a_rootfs_ask_the_gateway(host: &Host) {
    let _resolv = ResolvConf::of(host, "nameserver 127.0.0.1\n");
    let upstream = Upstream::at("127.0.0.1");
    create(host, &LAN0);
    stay_over_busybox(host, "web", &["--net", "lan0"]);
    let cat = |container: &str| {
        host.tincan(["exec", container, "cat", "/etc/resolv.conf"])
            .ok()
    };
    assert_eq!(cat("web"), "nameserver 10.9.0.1\nnameserver fd09::1\n");
    // One question at a time: busybox may give two the same number, and takes the second answer for the first once more then.
    for (kind, address) in [("-type=a", "10.9.0.2"), ("-type=aaaa", "fd09::2")] {
        let said = host.tincan(["exec", "web", "nslookup", kind, "web"]).ok();
        assert!(said.contains(address), "{said}");
    }
    stay_over_busybox(
        host,
        "searching",
        &["--net", "lan0", "--dns-search", "example.org"],
    );
    let text = "search example.org\nnameserver 10.9.0.1\nnameserver fd09::1\n";
    assert_eq!(cat("searching"), text);
    let found = ask(host, "searching", GATEWAYS, "web.example.org", A);
    assert_eq!(found, has(&["10.9.0.2"]));
    assert_eq!(upstream.was_asked("web.example.org."), 0);
    assert_eq!(
        ask(host, "web", GATEWAYS, "web.example.org", A),
        has(&["192.0.2.1"])
    );
    // Who names servers asks those.
    stay_over_busybox(host, "own", &["--net", "lan0", "--dns", "192.0.2.53"]);
    assert_eq!(cat("own"), "nameserver 192.0.2.53\n");
    delete(host, &["web", "searching", "own"]);
    remove(host, "lan0");
}

fn on_two_networks_the_names_of_both_are_answered(host: &Host) {
    let _resolv = ResolvConf::of(host, "nameserver 127.0.0.1\n");
    let _upstream = Upstream::at("127.0.0.1");
    create(host, &[&LAN0[..], &["--internal"]].concat());
    create(host, &LAN1);
    stay(host, "no.web", "lan0");
    stay(host, "no.db", "lan1");
    stay_over_busybox(host, "both", &["--net", "lan0", "--net", "lan1"]);
    // First who knows more than the network's names.
    let resolv = host
        .tincan(["exec", "both", "cat", "/etc/resolv.conf"])
        .ok();
    let all = ["10.8.0.1", "fd08::1", "10.9.0.1", "fd09::1"];
    let lines: Vec<String> = all.iter().map(|it| format!("nameserver {it}\n")).collect();
    assert_eq!(resolv, lines.concat());
    let others = ["10.8.0.1", "fd08::1"];
    for servers in [GATEWAYS, others] {
        assert_eq!(ask(host, "both", servers, "no.web", A), has(&["10.9.0.2"]));
        assert_eq!(ask(host, "both", servers, "no.db", AAAA), has(&["fd08::2"]));
        let reverse = ask(host, "both", servers, "2.0.8.10.in-addr.arpa", PTR);
        assert_eq!(reverse, has(&["\u{2}no\u{2}db\0"]));
    }
    // Its addresses there where it is asked for.
    assert_eq!(ask(host, "no.web", GATEWAYS, "both", A), has(&["10.9.0.3"]));
    assert_eq!(ask(host, "no.db", others, "both", A), has(&["10.8.0.3"]));
    assert_eq!(ask(host, "no.web", GATEWAYS, "no.db", A), no_such_name());
    assert_eq!(ask(host, "no.db", others, "no.web", AAAA), no_such_name());
    delete(host, &["no.web", "no.db", "both"]);
    remove(host, "lan0");
    remove(host, "lan1");
}

fn everything_else_is_asked_of_the_machines_servers(host: &Host) {
    // Nobody is at the first, the second cannot.
    let resolv = ResolvConf::of(
        host,
        "nameserver 127.0.0.2\nnameserver 127.0.0.3\nnameserver ::1\n",
    );
    let upstream = Upstream::at("::1");
    create(host, &LAN0);
    stay(host, "web", "lan0");
    let from_web = |name: &str, kind| ask(host, "web", GATEWAYS, name, kind);
    for _ in 0..10 {
        assert_eq!(from_web("example.org", A), has(&["192.0.2.1"]));
    }
    assert_eq!(from_web("no.example.org", A), no_such_name());
    assert_eq!(from_web("forged.example.org", A), has(&["192.0.2.1"]));
    // Each from another port.
    let mut ports = upstream.ports.lock().unwrap().clone();
    let count = ports.len();
    ports.sort_unstable();
    ports.dedup();
    assert!(
        count > 20 && ports.len() > count / 2,
        "{ports:?} of {count}"
    );
    let failed = Said {
        code: 2,
        ..has(&[])
    };
    assert_eq!(from_web("broken.example.org", A), failed);
    drop(upstream);
    assert_eq!(from_web("example.org", A), failed);
    // As the file is now.
    drop(resolv);
    let path = host.dir().join("machines-resolv.conf");
    let _resolv = ResolvConf::of(host, "nameserver 127.0.0.4\n");
    fs::write(path, "nameserver 127.0.0.5\n").unwrap();
    let _upstream = Upstream::at("127.0.0.5");
    if !super::host::is_user() {
        assert_eq!(from_web("example.org", A), has(&["192.0.2.1"]));
    }
    delete(host, &["web"]);
    remove(host, "lan0");
}

fn an_internal_network_asks_nobody(host: &Host) {
    let _resolv = ResolvConf::of(host, "nameserver 127.0.0.1\n");
    let upstream = Upstream::at("127.0.0.1");
    create(host, &[&LAN0[..], &["--internal"]].concat());
    stay(host, "web", "lan0");
    assert_eq!(ask(host, "web", GATEWAYS, "example.org", A), no_such_name());
    assert_eq!(ask(host, "web", GATEWAYS, "web", A), has(&["10.9.0.2"]));
    assert_eq!(upstream.asked.lock().unwrap().len(), 0);
    delete(host, &["web"]);
    remove(host, "lan0");
}

fn long_answers_come_over_tcp(host: &Host) {
    let _resolv = ResolvConf::of(host, "nameserver 127.0.0.1\n");
    let _upstream = Upstream::at("127.0.0.1");
    create(host, &LAN0);
    stay(host, "web", "lan0");
    // As many as 90 containers of one alias would have.
    let hosts = network_file("lan0/hosts");
    let lines: String = (10..100).map(|n| format!("10.9.0.{n}\tmany\n")).collect();
    let before = fs::read_to_string(&hosts).unwrap();
    fs::write(&hosts, format!("{before}{lines}")).unwrap();
    host.inside("web", || {
        for server in GATEWAYS {
            for edns in [None, Some(512), Some(1232), Some(4096)] {
                let said = read(&ask_raw(server, &query("many", A, edns)));
                assert!(
                    said.truncated && said.records.is_empty(),
                    "{edns:?}: {said:?}"
                );
                let said = read(&ask_raw(server, &query("long.example.org", A, edns)));
                assert!(
                    said.truncated && said.records.is_empty(),
                    "{edns:?}: {said:?}"
                );
            }
            // Several on one stream, and two at once.
            let mut stream = stream(server);
            for (name, count) in [("many", 90), ("long.example.org", 200), ("web", 1)] {
                let said = read(&ask_stream(&mut stream, &query(name, A, None)));
                assert_eq!(
                    (said.truncated, said.records.len()),
                    (false, count),
                    "{name}"
                );
            }
            let one = query("web", A, None);
            let length = u16::try_from(one.len()).unwrap().to_be_bytes();
            let two = [&length[..], &one, &length, &one[..5]].concat();
            stream.write_all(&two).unwrap();
            stream.write_all(&one[5..]).unwrap();
            for _ in 0..2 {
                let mut answer = vec![0; 2 + one.len() + 16];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(read(&answer[2..]), has(&["10.9.0.2"]));
            }
        }
    });
    fs::write(&hosts, before).unwrap();
    delete(host, &["web"]);
    remove(host, "lan0");
}

/// A file of the state of networks.
fn network_file(path: &str) -> std::path::PathBuf {
    let root = if super::host::is_user() {
        Path::new(super::machine::RUNTIME).join("tincan")
    } else {
        Path::new("/run/tincan").to_owned()
    };
    root.join(".networks").join(path)
}

fn hostile_queries_do_no_harm(host: &Host) {
    let _resolv = ResolvConf::of(host, "nameserver 127.0.0.1\n");
    let _upstream = Upstream::at("127.0.0.1");
    create(host, &LAN0);
    stay(host, "web", "lan0");
    let before = server(host, "lan0");
    let good = query("web", A, Some(1232));
    let mut bad: Vec<Vec<u8>> = (0..good.len())
        .map(|length| good[..length].to_vec())
        .collect();
    for at in 2..good.len() {
        for byte in [0, 1, 63, 64, 0xc0, 0xff] {
            let mut one = good.clone();
            one[at] = byte;
            bad.push(one);
        }
    }
    // A name that refers to itself, and names without an end.
    bad.push([&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat());
    bad.push(query(&"a.".repeat(2000), A, None));
    bad.push([&good[..12], &[63; 6000]].concat());
    bad.push(vec![0xff; 60_000]);
    host.inside("web", || {
        for server in GATEWAYS {
            let socket = asking(server);
            for message in &bad {
                socket.send(message).unwrap();
                let mut stream = stream(server);
                let length = u16::try_from(message.len()).unwrap().to_be_bytes();
                // Closed by then, or not.
                let _ = stream.write_all(&[&length, &message[..]].concat());
            }
            // A stream that never says anything more keeps nobody out.
            let silent: Vec<TcpStream> = (0..40).map(|_| stream(server)).collect();
            assert_eq!(read(&ask_raw(server, &good)), has(&["10.9.0.2"]));
            drop(silent);
        }
    });
    host.wait_until("streams are let in again", || {
        host.inside("web", || {
            let mut stream = stream(GATEWAYS[0]);
            let length = u16::try_from(good.len()).unwrap().to_be_bytes();
            let sent = stream.write_all(&[&length, &good[..]].concat());
            sent.and_then(|()| stream.read_exact(&mut [0; 2])).is_ok()
        })
    });
    assert_eq!(server(host, "lan0"), before);
    delete(host, &["web"]);
    remove(host, "lan0");
}

fn a_flood_with_dead_servers_stops_nobody_else(host: &Host) {
    // It hears, and says nothing.
    let _resolv = ResolvConf::of(host, "nameserver 127.0.0.1\n");
    let dead = UdpSocket::bind("127.0.0.1:53").unwrap();
    create(host, &LAN0);
    stay(host, "floods", "lan0");
    stay(host, "web", "lan0");
    host.inside("floods", || {
        let socket = asking("10.9.0.1");
        for number in 0..2000 {
            socket
                .send(&query(&format!("n{number}.example.org"), A, None))
                .unwrap();
        }
        // Those beyond its share are told at once.
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(read(&answer[..length]).code, 2);
    });
    let count = AtomicUsize::new(0);
    host.inside("web", || {
        for server in GATEWAYS {
            assert_eq!(
                read(&ask_again_raw(server, &query("floods", A, None))),
                has(&["10.9.0.2"])
            );
        }
        // And others are still asked for it.
        asking("fd09::1")
            .send(&query("other.example.org", A, None))
            .unwrap();
        dead.set_read_timeout(Some(at_most(SOON))).unwrap();
        let mut message = [0; 512];
        while let Ok(length) = dead.recv(&mut message) {
            count.fetch_add(1, Ordering::Relaxed);
            if message[..length].windows(5).any(|part| part == b"other") {
                return;
            }
        }
        panic!("it was never asked");
    });
    let count = count.into_inner();
    assert!(count <= 60, "{count} were on their way at one time");
    delete(host, &["floods", "web"]);
    remove(host, "lan0");
}

fn nobody_else_is_answered(host: &Host) {
    let _resolv = ResolvConf::of(host, "nameserver 127.0.0.1\n");
    let _upstream = Upstream::at("127.0.0.1");
    create(host, &LAN0);
    create(host, &LAN1);
    stay(host, "web", "lan0");
    stay(host, "other", "lan1");
    let message = query("web", A, None);
    let silence = |server: &str| {
        let socket = asking(server);
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        socket.send(&message).unwrap();
        assert!(socket.recv(&mut [0; 512]).is_err(), "{server} answers");
        let address = SocketAddr::new(server.parse().unwrap(), 53);
        let limit = Duration::from_millis(200);
        // Not let in, or let go.
        if let Ok(mut stream) = TcpStream::connect_timeout(&address, limit) {
            let length = u16::try_from(message.len()).unwrap().to_be_bytes();
            let _ = stream.write_all(&[&length[..], &message].concat());
            let heard = stream.read(&mut [0; 512]);
            assert!(!matches!(heard, Ok(1..)), "{server} answers");
        }
    };
    host.inside("other", || {
        GATEWAYS.iter().for_each(|server| silence(server))
    });
    // The machine itself, and its other addresses.
    GATEWAYS.iter().for_each(|server| silence(server));
    host.sh("ip link add outside type veth peer name machine; ip link set machine up; ip link set outside up; ip address add 192.0.2.9/24 dev machine");
    host.inside("web", || silence("192.0.2.9"));
    // Who has an address that is none of the network's.
    host.tincan([
        "exec",
        "web",
        "ip",
        "address",
        "add",
        "10.7.0.2/24",
        "dev",
        "eth0",
    ])
    .ok();
    host.sh("ip route add 10.7.0.0/24 dev lan0");
    host.inside("web", || {
        let socket = UdpSocket::bind("10.7.0.2:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        socket.send_to(&message, "10.9.0.1:53").unwrap();
        assert!(socket.recv(&mut [0; 512]).is_err());
    });
    host.sh("ip link del outside; ip route del 10.7.0.0/24 dev lan0");
    delete(host, &["web", "other"]);
    remove(host, "lan0");
    remove(host, "lan1");
}

fn kill(pid: i32) {
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}

fn one_that_was_killed_is_started_by_the_next_run(host: &Host) {
    let _resolv = ResolvConf::of(host, "nameserver 127.0.0.1\n");
    let _upstream = Upstream::at("127.0.0.1");
    create(host, &LAN0);
    stay(host, "web", "lan0");
    let first = server(host, "lan0").unwrap();
    kill(first);
    host.wait_until("it is gone", || !is_there(first));
    assert_eq!(server(host, "lan0"), None);
    stay(host, "next", "lan0");
    let second = server(host, "lan0").unwrap();
    assert_eq!(ask(host, "web", GATEWAYS, "next", A), has(&["10.9.0.3"]));
    assert_eq!(
        ask(host, "web", GATEWAYS, "example.org", A),
        has(&["192.0.2.1"])
    );
    kill(second);
    host.wait_until("it is gone", || !is_there(second));
    host.tincan(["network", "reload"]).ok();
    assert_eq!(ask(host, "next", GATEWAYS, "web", AAAA), has(&["fd09::2"]));
    assert_eq!(
        ask(host, "web", GATEWAYS, "example.org", A),
        has(&["192.0.2.1"])
    );
    // It stays while it is there.
    let third = server(host, "lan0");
    host.tincan(["network", "reload"]).ok();
    host.tincan(["run", "--net", "lan0", "--", "true"]).ok();
    assert_eq!(server(host, "lan0"), third);
    delete(host, &["web", "next"]);
    remove(host, "lan0");
}

fn one_ends_with_its_bridge_and_with_its_network(host: &Host) {
    create(host, &LAN0);
    let first = server(host, "lan0").unwrap();
    remove(host, "lan0");
    assert!(!is_there(first));
    create(host, &LAN0);
    stay(host, "web", "lan0");
    let first = server(host, "lan0").unwrap();
    host.sh("ip link del lan0");
    // At once, whether it has seen that already or not.
    host.tincan(["network", "reload"]).ok();
    assert!(!is_there(first));
    assert_eq!(ask(host, "web", GATEWAYS, "web", A), has(&["10.9.0.2"]));
    let second = server(host, "lan0").unwrap();
    host.sh("ip link del lan0");
    host.wait_until("it is gone", || !is_there(second));
    host.tincan(["network", "reload"]).ok();
    delete(host, &["web"]);
    // Somebody takes the whole state away.
    let third = server(host, "lan0").unwrap();
    host.sh("rm -r /run/tincan/.networks/lan0");
    host.wait_until("it is gone", || !is_there(third));
    host.tincan(["gc"]).ok();
    let left = host.sh("ip -br link show type bridge; nft list ruleset");
    assert_eq!(left, "");
}

fn it_has_nothing_of_its_callers_and_no_rights(host: &Host) {
    // A reader of its caller's streams is at their end.
    let line = format!(
        "{} network create {} 2>&1 3>&1 | cat",
        Host::TINCAN,
        LAN0.join(" ")
    );
    assert_eq!(host.sh(&line), "");
    let pid = server(host, "lan0").unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(field("Name:"), "tincan-dns");
    assert_eq!(field("Uid:"), "65534 65534 65534 65534");
    assert_eq!(field("Gid:"), "65534 65534 65534 65534");
    assert_eq!(field("Groups:"), "");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Threads:"), "1");
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap(),
        Path::new("/")
    );
    let session = host.sh(&format!("cut -d' ' -f6 /proc/{pid}/stat"));
    assert_eq!(session.trim(), pid.to_string());
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let open = fs::read_link(entry.unwrap().path()).unwrap();
        let open = open.to_string_lossy();
        let ours = [
            "/dev/null",
            "/run/tincan",
            "/run/tincan/.networks",
            "anon_inode:inotify",
        ];
        assert!(
            open.starts_with("socket:") || ours.contains(&open.as_ref()),
            "{open}"
        );
    }
    remove(host, "lan0");
}

fn a_running_container_follows_its_networks(host: &Host) {
    let _resolv = ResolvConf::of(host, "nameserver 127.0.0.1\n");
    let _upstream = Upstream::at("127.0.0.1");
    create(host, &["plain", "--subnet", "10.7.0.0/24"]);
    create(host, &LAN0);
    create(host, &LAN1);
    stay(host, "no.db", "lan1");
    stay_over_busybox(host, "web", &["--net", "plain"]);
    let cat = || {
        host.tincan(["exec", "web", "cat", "/etc/resolv.conf"])
            .any_stderr()
            .assert()
    };
    let text = || String::from_utf8(cat().get_output().stdout.clone()).unwrap();
    assert_eq!(text(), "");
    let to = |verb: &str, network: &str| {
        host.tincan(["network", verb, network, "web"]).ok();
    };
    to("connect", "lan0");
    assert_eq!(text(), "nameserver 10.9.0.1\nnameserver fd09::1\n");
    to("connect", "lan1");
    assert_eq!(ask(host, "web", GATEWAYS, "no.db", A), has(&["10.8.0.2"]));
    to("disconnect", "lan0");
    assert_eq!(text(), "nameserver 10.8.0.1\nnameserver fd08::1\n");
    to("disconnect", "lan1");
    assert_eq!(text(), "");
    to("connect", "lan0");
    assert_eq!(ask(host, "web", GATEWAYS, "no.db", A), no_such_name());
    delete(host, &["web", "no.db"]);
    for network in ["plain", "lan0", "lan1"] {
        remove(host, network);
    }
}
