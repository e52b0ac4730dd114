//! Many containers that come to networks and leave them at random, eight at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::host::{Case, Host, tests, tincan};
use super::network::{create, remove};

pub fn tests() -> Vec<Case> {
    tests![who_joins_and_leaves_at_random_loses_nothing needs [Nftables]]
}

/// The environment variable that says for how many seconds it goes on; without, everybody does a few things.
const SECONDS: &str = "TINCAN_TEST_CHURN";

/// How many are at it at one time, and how many containers each of them has.
const AT_ONCE: usize = 8;
const EACH: usize = 25;

/// How many things each does, when nobody says for how long.
const FEW: usize = 20;

/// The networks and their prefixes.
const NETWORKS: [(&str, &str, &str); 2] = [
    ("lan0", "10.9.0.0/22", "fd09::/64"),
    ("lan1", "10.8.0.0/22", "fd08::/64"),
];

/// Numbers that look like chance and are the same each time (xorshift64, G. Marsaglia 2003).
struct Chance(u64);

impl Chance {
    fn of(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % count as u64).unwrap()
    }
}

/// What tincan prints; it has to go well.
fn ok(args: &[&str]) -> String {
    let mut command = tincan();
    command.args(args).stdin(Stdio::null());
    let output = command.output().expect("tincan starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whose the addresses of a network are.
fn leases(network: &str) -> BTreeMap<String, String> {
    let shown: Value = serde_json::from_str(&ok(&["network", "inspect", network])).unwrap();
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let all = shown["containers"].as_array().unwrap();
    let lease = |it: &Value| (text(&it["address"]), text(&it["container"]));
    all.iter().map(lease).collect()
}

/// The lines of a network's hosts file but for the machine's own: an address and its first name.
fn named(network: &str) -> BTreeMap<String, String> {
    let root = if super::host::is_user() {
        Path::new(super::machine::RUNTIME).join("tincan")
    } else {
        Path::new("/run/tincan").to_owned()
    };
    let text = std::fs::read_to_string(root.join(".networks").join(network).join("hosts")).unwrap();
    let mut found = BTreeMap::new();
    for line in text.lines().skip(2).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (ip, name) = (words.next().unwrap(), words.next().unwrap());
        let twice = found.insert(ip.to_owned(), name.to_owned());
        assert_eq!(twice, None, "{network}: {line}");
    }
    found
}

/// The containers that ports lead to by a network.
fn published(network: &str) -> BTreeSet<String> {
    let shown: Value = serde_json::from_str(&ok(&["network", "inspect", network])).unwrap();
    let ports = shown["ports"].as_array().unwrap().iter();
    let text = |it: &Value| it["container"].as_str().unwrap().to_owned();
    ports.map(text).collect()
}

/// What one of them has done with one container.
#[derive(Default, Clone)]
struct Own {
    networks: BTreeSet<&'static str>,
    port: bool,
}

/// Does something with a container, and looks at once whether it is seen.
fn act(chance: &mut Chance, rootfs: &str, number: usize, own: &mut Option<Own>) {
    let name = format!("c{number}");
    let port = format!("{}:80", 20_000 + number);
    let host_port = (20_000 + number).to_string();
    let Some(state) = own else {
        let mut args = vec!["run", "-d", "--name", &name, "--net", "lan0"];
        let mut state = Own::default();
        state.networks.insert("lan0");
        if chance.of(3) == 0 {
            args.extend(["--net", "lan1"]);
            state.networks.insert("lan1");
        }
        if chance.of(3) == 0 {
            args.extend(["-p", &port]);
            state.port = true;
        }
        if chance.of(2) == 0 {
            args.extend(["--rootfs", rootfs]);
        }
        ok(&[&args[..], &["--", "sleep", "100000"]].concat());
        for network in &state.networks {
            let count = named(network).values().filter(|it| **it == name).count();
            assert_eq!(count, 2, "{name} in {network}");
        }
        *own = Some(state);
        return;
    };
    let leaves = |network: &str| {
        let count = named(network).values().filter(|it| **it == name).count();
        assert_eq!(count, 0, "{name} in {network}");
    };
    match chance.of(4) {
        0 if state.networks.contains("lan1") => {
            ok(&["network", "disconnect", "lan1", &name]);
            state.networks.remove("lan1");
            leaves("lan1");
            // What was published by that network went with it.
            state.port = state.port && published("lan0").contains(&name);
        }
        0 => {
            ok(&["network", "connect", "lan1", &name]);
            state.networks.insert("lan1");
        }
        1 if state.port => {
            ok(&["network", "unpublish", &name, &host_port]);
            state.port = false;
        }
        1 => {
            ok(&["network", "publish", &name, &port]);
            state.port = true;
        }
        _ => {
            ok(&["delete", "-f", &name]);
            *own = None;
            NETWORKS.iter().for_each(|(network, ..)| leaves(network));
        }
    }
}

/// All that is left when nobody does anything: each address has one holder, who has it, is known by it, and nobody else is.
fn check(all: &BTreeMap<usize, Own>) {
    for (network, ..) in NETWORKS {
        let leased = leases(network);
        assert_eq!(named(network), leased, "{network}");
        let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
        leased
            .values()
            .for_each(|it| *holders.entry(it).or_default() += 1);
        let on_it = all.iter().filter(|(_, own)| own.networks.contains(network));
        let expected: BTreeMap<String, usize> =
            on_it.map(|(it, _)| (format!("c{it}"), 2)).collect();
        let holders: BTreeMap<String, usize> = holders
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
        assert_eq!(holders, expected, "{network}");
    }
    let leased: BTreeMap<String, String> = NETWORKS
        .iter()
        .flat_map(|(network, ..)| leases(network))
        .collect();
    for number in all.keys() {
        let name = format!("c{number}");
        let has = ok(&[
            "exec", &name, "ip", "-o", "address", "show", "scope", "global",
        ]);
        let has: BTreeSet<&str> = has
            .lines()
            .filter_map(|line| line.split_whitespace().nth(3)?.split('/').next())
            .collect();
        let its = leased.iter().filter(|(_, it)| **it == name);
        assert_eq!(has, its.map(|(ip, _)| ip.as_str()).collect(), "{name}");
    }
    let ports: BTreeSet<String> = NETWORKS.iter().flat_map(|(it, ..)| published(it)).collect();
    let expected = all
        .iter()
        .filter(|(_, own)| own.port)
        .map(|(it, _)| format!("c{it}"));
    assert_eq!(ports, expected.collect());
}

fn who_joins_and_leaves_at_random_loses_nothing(host: &Host) {
    for (name, four, six) in NETWORKS {
        create(host, &[name, "--subnet", four, "--subnet", six, "--dns"]);
    }
    let seconds = std::env::var(SECONDS)
        .ok()
        .and_then(|text| text.parse().ok());
    let limit = seconds.map(Duration::from_secs);
    let began = Instant::now();
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    let all = Mutex::new(BTreeMap::new());
    let count = Mutex::new(0);
    std::thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (all, count) = (&all, &count);
            scope.spawn(move || {
                let mut chance = Chance(0x9e37_79b9_7f4a_7c15 ^ worker as u64);
                let mut own: Vec<Option<Own>> = vec![None; EACH];
                let mut done = 0;
                while limit.map_or(done < FEW, |limit| began.elapsed() < limit) {
                    let at = chance.of(if limit.is_some() { EACH } else { EACH / 4 });
                    act(&mut chance, rootfs, worker * EACH + at, &mut own[at]);
                    done += 1;
                }
                *count.lock().unwrap() += done;
                let own = own.into_iter().enumerate();
                let left = own.filter_map(|(at, own)| Some((worker * EACH + at, own?)));
                all.lock().unwrap().extend(left);
            });
        }
    });
    let all = all.into_inner().unwrap();
    let count = count.into_inner().unwrap();
    eprintln!(
        "{count} things were done, and {} containers are left",
        all.len()
    );
    check(&all);
    let names: Vec<String> = all.keys().map(|number| format!("c{number}")).collect();
    // Those too go eight at a time.
    std::thread::scope(|scope| {
        for part in names.chunks(names.len().div_ceil(AT_ONCE).max(1)) {
            scope.spawn(move || {
                part.iter()
                    .for_each(|name| drop(ok(&["delete", "-f", name])))
            });
        }
    });
    check(&BTreeMap::new());
    for (name, ..) in NETWORKS {
        let rules = host.sh(&format!("nft list table inet tincan-{name}"));
        assert!(!rules.contains("elements"), "{rules}");
        remove(host, name);
    }
}
