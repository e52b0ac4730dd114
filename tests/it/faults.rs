//! A fault at every step: what fails is undone by tincan itself, and what a killed tincan left goes with `tincan gc`, or with the
//! next container of the same name.
//!
//! A walk goes on until a run is through without the fault, so a step that is new is covered by itself.

use std::ffi::OsStr;
use std::fs;

use serde_json::json;

use super::annotations;
use super::cni;
use super::host::{Case, Host, own_mark, tests};
use super::plugins;

/// More steps than any plan has: a walk that comes here never met a run that is through.
const MANY: usize = 500;

pub fn tests() -> Vec<Case> {
    tests![
        errors_in_run needs [Root],
        kills_in_run needs [Root],
        errors_in_run_over_a_rootfs needs [Root],
        kills_in_run_over_a_rootfs needs [Root],
        errors_in_a_run_with_interfaces needs [Root, Vxlan, Tun],
        kills_in_a_run_with_interfaces needs [Root, Vxlan, Tun],
        faults_in_a_run_with_a_lent_link needs [Root],
        faults_while_a_link_is_lent needs [Root],
        faults_while_an_interface_is_added needs [Root, Vxlan],
        errors_in_a_run_on_a_network needs [Root, Nftables],
        kills_in_a_run_on_a_network needs [Root, Nftables],
        faults_in_network_create needs [Root, Nftables],
        faults_in_network_rm needs [Root, Nftables],
        faults_in_network_reload needs [Root, Nftables],
        faults_in_network_publish needs [Root, Nftables],
        faults_where_dns_is_started needs [Root, Nftables],
        faults_in_network_connect needs [Root, Nftables],
        errors_in_a_detached_run needs [Root],
        kills_in_a_detached_run needs [Root],
        errors_in_pair,
        kills_in_pair,
        errors_in_a_pair_that_stays,
        kills_in_a_pair_that_stays,
        errors_in_a_bundles_run,
        kills_in_a_bundles_run,
        errors_in_create,
        kills_in_create,
        errors_in_restore needs [Root, Criu, Nftables],
        kills_in_restore needs [Root, Criu, Nftables],
        faults_in_a_run_with_plugins needs [Root, Nftables],
        faults_in_cni_add needs [Root, Nftables],
        faults_in_cni_del needs [Root, Nftables],
        faults_in_a_create_in_a_joined_namespace needs [Root, Nftables, Tun],
        faults_on_the_way_from_start_to_the_command,
        faults_in_exec,
        faults_in_link_add,
        faults_in_link_del,
        faults_while_an_address_makes_way,
        kills_in_delete,
        a_deletion_that_is_cut_short_gives_the_name_up,
        errors_in_create_with_a_scope needs [Root, Systemd],
        kills_in_create_with_a_scope needs [Root, Systemd],
        kills_in_delete_with_a_scope needs [Root, Systemd],
    ]
}

/// What is injected.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Error,
    Kill,
}

impl Fault {
    /// As the program takes it (`src/engine/fault.rs`).
    fn at(self, side: &str, step: usize) -> String {
        let kind = if self == Fault::Error {
            "error"
        } else {
            "kill"
        };
        format!("{side}:{step}:{kind}")
    }
}

/// A walk: a command, whose steps are the engine's (`host`) and those of the containers' first processes.
struct Walk<'a> {
    host: &'a Host,
    args: Vec<&'a str>,
    sides: &'a [&'a str],
    fault: Fault,
    /// What ends what a run that is through leaves.
    after: &'a [&'a [&'a str]],
}

impl Walk<'_> {
    fn go(&self) {
        for side in self.sides {
            let mut step = 0;
            while !self.is_through(side, step) {
                step += 1;
                assert!(
                    step < MANY,
                    "{:?} is not through after {MANY} steps",
                    self.args
                );
            }
            assert!(step > 2, "{side} has only {step} steps in {:?}", self.args);
        }
    }

    /// Runs with the fault at this step; whether it was one step too many.
    fn is_through(&self, side: &str, step: usize) -> bool {
        let fault = self.fault.at(side, step);
        let outcome = quiet(self.host, &self.args, &fault);
        // Shown when the test fails.
        eprintln!("{:?} with {fault}: {outcome:?}", self.args);
        let Outcome { code, said, met } = outcome;
        let killed = met && self.fault == Fault::Kill;
        if !met {
            assert_eq!((code, said.as_str()), (Some(0), ""), "{fault}");
            self.end_what_stays();
        } else if killed && side == "host" {
            if step.is_multiple_of(2) {
                self.host.tincan(["gc"]).ok();
                // All of them or none: where they stay, `after` ends one each.
                let stay = self.host.tincan(["list", "-q"]).ok().lines().count();
                assert!(
                    stay == 0 || stay == self.after.len(),
                    "{fault}: {stay} stay"
                );
            } else {
                let next = quiet(self.host, &self.args, NO_FAULT);
                assert_eq!(
                    (next.code, next.said.as_str()),
                    (Some(0), ""),
                    "the next after {fault}"
                );
            }
            // Where the kill came last of all, the containers are whole.
            self.end_what_stays();
        } else if killed && said.is_empty() {
            // Behind the last gate, a first process that was killed is a command that was killed.
            let awaited = self.after.is_empty() && side == self.sides[1];
            assert_eq!(code, Some(if awaited { 137 } else { 0 }), "{fault}");
            self.end_what_stays();
        } else {
            // tincan lives, so it says what failed, and leaves nothing for others to clear away.
            assert!(matches!(code, Some(125..=127)), "{fault}: {code:?} {said}");
            assert!(said.starts_with("tincan: "), "{fault}: {said}");
            assert_eq!(said.lines().count(), 1, "{fault}: {said}");
        }
        self.host.assert_clean();
        !met
    }

    fn end_what_stays(&self) {
        for command in self.after {
            self.host.tincan(*command).ok();
        }
    }
}

/// What came of a run with a fault.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    /// Its standard error.
    said: String,
    /// Whether it came to the step of the fault.
    met: bool,
}

/// A fault that nobody meets.
const NO_FAULT: &str = "none:0:error";

/// Runs tincan with a fault, its streams in files: a container that stays keeps them.
fn quiet(host: &Host, args: &[&str], fault: &str) -> Outcome {
    let file = host.dir().join("said");
    // A container of the run before may have the old one still.
    let _ = fs::remove_file(&file);
    let line = "exec \"$0\" \"$@\" </dev/null >/dev/null 2>said";
    let words = ["-c", line, Host::TINCAN];
    let run = host.command("sh", words.iter().chain(args).map(OsStr::new));
    let run = run.env("CNI_PATH", host.dir().join("bin"));
    let assert = run.env("TINCAN_FAULT", fault).assert();
    let said = fs::read_to_string(file).expect("the shell made it");
    let mark = format!("fault {fault}\n");
    Outcome {
        code: assert.get_output().status.code(),
        met: said.contains(&mark),
        said: said.replace(&mark, ""),
    }
}

const RUN: [&str; 8] = [
    "run",
    "--name",
    "f",
    "--net",
    "172.16.0.1/16",
    "--netns-name",
    "--",
    "true",
];

fn run(host: &Host, fault: Fault) {
    let sides = &["host", "f"];
    let (args, after) = (RUN.to_vec(), &[][..]);
    Walk {
        host,
        args,
        sides,
        fault,
        after,
    }
    .go();
}

fn errors_in_run(host: &Host) {
    run(host, Fault::Error);
}

fn kills_in_run(host: &Host) {
    run(host, Fault::Kill);
}

fn run_over_a_rootfs(host: &Host, fault: Fault) {
    let rootfs = host.busybox_rootfs();
    let mut args = RUN.to_vec();
    args.splice(1..1, ["--rootfs", rootfs.to_str().expect("text")]);
    args.splice(1..1, ["--add-host", "far:192.0.2.7"]);
    let (sides, after) = (&["host", "f"], &[][..]);
    Walk {
        host,
        args,
        sides,
        fault,
        after,
    }
    .go();
}

fn errors_in_run_over_a_rootfs(host: &Host) {
    run_over_a_rootfs(host, Fault::Error);
}

fn kills_in_run_over_a_rootfs(host: &Host) {
    run_over_a_rootfs(host, Fault::Kill);
}

/// Interfaces that are no end of a wire.
fn run_with_interfaces(host: &Host, fault: Fault) {
    let mut args = RUN.to_vec();
    args[4] = "vxlan:42,remote=192.0.2.9,10.0.0.1/24";
    args.splice(5..5, ["--net", "tap"]);
    let (sides, after) = (&["host", "f"], &[][..]);
    Walk {
        host,
        args,
        sides,
        fault,
        after,
    }
    .go();
}

fn errors_in_a_run_with_interfaces(host: &Host) {
    run_with_interfaces(host, Fault::Error);
}

fn kills_in_a_run_with_interfaces(host: &Host) {
    run_with_interfaces(host, Fault::Kill);
}

/// Walks through the steps of a command that is undone by another; after each, the host and what `look` sees are as before.
fn walk_there_and_back(
    host: &Host,
    there: &[&str],
    back: &[&str],
    sides: &[&str],
    look: &dyn Fn() -> String,
) {
    let now = || (look(), host.differences());
    let before = now();
    for kind in [Fault::Error, Fault::Kill] {
        for side in sides {
            for step in 0..=MANY {
                assert!(step < MANY, "{there:?} is not through after {MANY} steps");
                let fault = kind.at(side, step);
                let outcome = quiet(host, there, &fault);
                eprintln!("{there:?} with {fault}: {outcome:?}");
                if !outcome.met {
                    assert_eq!(outcome.code, Some(0), "{outcome:?}");
                    if !back.is_empty() {
                        host.tincan(back).ok();
                    }
                } else if kind == Fault::Kill {
                    host.tincan(["gc"]).ok();
                }
                host.wait_until("all is as before", || now() == before);
                if !outcome.met {
                    assert!(step > 0, "{side} has no step in {there:?}");
                    break;
                }
            }
        }
    }
}

const LENT: &str = "ip link add p0 type veth peer name q0; ip link set p0 up; ip link set q0 up
    ip address add 192.0.2.1/24 dev p0; ip address add fd00:2::1/64 dev p0 nodad; ip route add 198.51.100.0/24 via 192.0.2.2";

fn faults_in_a_run_with_a_lent_link(host: &Host) {
    host.sh(LENT);
    let run = ["run", "--name", "f", "--net", "phys:p0", "--", "true"];
    let look = || host.sh("ip -br address show p0; ip route");
    walk_there_and_back(host, &run, &[], &["host", "f", "loan"], &look);
    host.sh("ip link del p0");
}

fn faults_while_a_link_is_lent(host: &Host) {
    host.sh(LENT);
    host.tincan(["run", "-d", "--name", "f", "--", "sleep", "1000"])
        .ok();
    let look = || host.sh("ip -br address show p0; ip route") + &host.tincan(["link", "list"]).ok();
    let add = ["link", "add", "f=phys:p0"];
    let del = ["link", "del", "f", "eth0"];
    // What holds the container's namespace stays with the container.
    host.tincan(add).ok();
    host.tincan(del).ok();
    walk_there_and_back(host, &add, &del, &["host", "link", "loan"], &look);
    host.tincan(add).ok();
    let lent = host.tincan(["link", "list"]).ok();
    for kind in [Fault::Error, Fault::Kill] {
        let outcome = quiet(host, &del, &kind.at("unlink", 0));
        assert!(outcome.met, "{outcome:?}");
        assert_eq!(host.tincan(["link", "list"]).ok(), lent);
    }
    host.tincan(del).ok();
    host.tincan(END_F).ok();
    host.sh("ip link del p0");
}

fn faults_while_an_interface_is_added(host: &Host) {
    host.tincan(["run", "-d", "--name", "f", "--", "sleep", "1000"])
        .ok();
    let look = || host.tincan(["exec", "f", "ip", "-br", "link"]).ok();
    let add = [
        "link",
        "add",
        "f=vxlan:42,remote=192.0.2.9,10.0.0.1/24,fd00::1/64",
    ];
    let del = ["link", "del", "f", "eth0"];
    host.tincan(add).ok();
    host.tincan(del).ok();
    walk_there_and_back(host, &add, &del, &["host", "link"], &look);
    host.tincan(END_F).ok();
}

const CREATE: [&str; 7] = [
    "network",
    "create",
    "lan0",
    "--subnet",
    "10.9.0.0/24",
    "--subnet",
    "fd09::/64",
];

/// Removes the network, which nobody may be on any more.
fn remove_network(host: &Host) {
    host.tincan(["network", "rm", "lan0"]).ok();
    host.assert_clean();
}

/// Whatever a removal that was killed leaves, `gc` clears away, and a network of the same name and another prefix is made over.
fn faults_in_network_rm(host: &Host) {
    for fault in [Fault::Error, Fault::Kill] {
        let mut step = 0;
        loop {
            host.tincan(CREATE).ok();
            let at = fault.at("dismantle", step);
            let outcome = quiet(host, &["network", "rm", "lan0"], &at);
            eprintln!("{at}: {outcome:?}");
            if outcome.met && fault == Fault::Error {
                assert_eq!(outcome.code, Some(125));
                let run = ["run", "--net", "lan0", "--", "ping", "-q", "-c1", "-W5"];
                host.tincan(run.iter().chain(&["fd09::1"])).ok();
                remove_network(host);
            } else if outcome.met && step.is_multiple_of(2) {
                host.tincan(["gc"]).ok();
            } else if outcome.met {
                let create = ["network", "create", "lan0", "--subnet", "10.7.0.0/24"];
                host.tincan(create).ok();
                let seen = host.sh("ip -br address show lan0; nft list table inet tincan-lan0");
                assert!(seen.contains("10.7.0.1/24"), "{at}: {seen}");
                assert!(seen.contains("ip saddr 10.7.0.0/24"), "{at}: {seen}");
                assert!(!seen.contains("fd09::"), "{at}: {seen}");
                host.tincan(["gc"]).ok();
                remove_network(host);
            }
            host.assert_clean();
            if !outcome.met {
                break;
            }
            step += 1;
            assert!(step < MANY, "removal is not through after {MANY} steps");
        }
        assert!(step > 2, "removal has only {step} steps");
    }
}

/// Each step on a new network: afterwards no address of it is anybody's, or it could not be removed.
fn run_on_a_network(host: &Host, fault: Fault) {
    let mut args = RUN.to_vec();
    args[4] = "lan0";
    args.splice(5..5, ["-p", "8080:80"]);
    for side in ["host", "f"] {
        let mut step = 0;
        loop {
            host.tincan(CREATE).ok();
            let at = fault.at(side, step);
            let outcome = quiet(host, &args, &at);
            eprintln!("{at}: {outcome:?}");
            if outcome.met && fault == Fault::Kill && side == "host" {
                if step.is_multiple_of(2) {
                    host.tincan(["gc"]).ok();
                } else {
                    let next = quiet(host, &args, NO_FAULT);
                    assert_eq!(
                        (next.code, next.said.as_str()),
                        (Some(0), ""),
                        "the next after {at}"
                    );
                }
            }
            remove_network(host);
            if !outcome.met {
                assert_eq!((outcome.code, outcome.said.as_str()), (Some(0), ""), "{at}");
                break;
            }
            step += 1;
            assert!(step < MANY, "{side} is not through after {MANY} steps");
        }
        assert!(step > 2, "{side} has only {step} steps");
    }
}

fn errors_in_a_run_on_a_network(host: &Host) {
    run_on_a_network(host, Fault::Error);
}

fn kills_in_a_run_on_a_network(host: &Host) {
    run_on_a_network(host, Fault::Kill);
}

fn faults_in_network_create(host: &Host) {
    for fault in [Fault::Error, Fault::Kill] {
        let mut step = 0;
        loop {
            let at = fault.at("network", step);
            let outcome = quiet(host, &CREATE, &at);
            eprintln!("{at}: {outcome:?}");
            if outcome.met && fault == Fault::Error {
                assert_eq!(outcome.code, Some(125));
                host.assert_clean();
            } else {
                // What a killed one has written down is a network, that the next container makes whole.
                let run = [
                    "run", "--net", "lan0", "--", "ping", "-q", "-c1", "-W5", "10.9.0.1",
                ];
                host.tincan(run).ok();
                remove_network(host);
            }
            if !outcome.met {
                break;
            }
            step += 1;
        }
        assert_eq!(step, 4);
    }
}

/// Whoever starts the process that answers DNS: killed anywhere, or that killed anywhere, there is one afterwards, and no more.
fn faults_where_dns_is_started(host: &Host) {
    let create = [&CREATE[..], &["--dns"]].concat();
    let is_answered = || {
        let shown = host.tincan(["network", "inspect", "lan0"]).ok();
        assert!(shown.contains("dns_pid"), "{shown}");
        // One that was not told to stay goes a moment later.
        host.wait_until("there is one", || {
            host.sh("grep -l '^tincan-dns$' /proc/[0-9]*/comm | wc -l") == "1\n"
        });
    };
    let run = ["run", "--net", "lan0", "--", "true"];
    for fault in [Fault::Error, Fault::Kill] {
        for (side, steps) in [("dns", 4), ("dns-server", 1)] {
            let mut step = 0;
            loop {
                let at = fault.at(side, step);
                let outcome = quiet(host, &create, &at);
                eprintln!("{at}: {outcome:?}");
                // One that was not told to stay ends by itself, a moment later.
                if outcome.met && outcome.code == Some(125) {
                    host.assert_clean();
                } else {
                    host.tincan(run).ok();
                    is_answered();
                    // And where it is started again.
                    host.sh("kill -9 $(grep -l '^tincan-dns$' /proc/[0-9]*/comm | cut -d/ -f3)");
                    host.wait_until("it is gone", || {
                        let shown = host.tincan(["network", "inspect", "lan0"]).ok();
                        !shown.contains("dns_pid")
                    });
                    let outcome = quiet(host, &run, &at);
                    eprintln!("again, {at}: {outcome:?}");
                    host.tincan(run).ok();
                    is_answered();
                    remove_network(host);
                }
                if !outcome.met {
                    break;
                }
                step += 1;
            }
            assert_eq!(step, steps, "{side}");
        }
    }
}

/// Whether a container comes to a network or leaves it: killed anywhere, it can do so again.
fn faults_in_network_connect(host: &Host) {
    host.tincan(CREATE).ok();
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().expect("text");
    for kind in [Fault::Error, Fault::Kill] {
        for side in ["connect", "link", "host", "disconnect", "unlink", "publish"] {
            for step in 0..MANY {
                let run = ["run", "-d", "--rootfs", rootfs, "--name", "f"];
                host.tincan(run.iter().chain(&["--", "sleep", "1000"])).ok();
                let at = kind.at(side, step);
                let connect = ["network", "connect", "lan0", "f"];
                let disconnect = ["network", "disconnect", "lan0", "f"];
                let outcomes = [
                    quiet(host, &connect, &at),
                    quiet(host, &["network", "publish", "f", "8080:80"], &at),
                    quiet(host, &disconnect, &at),
                ];
                let met = outcomes.iter().any(|outcome| outcome.met);
                eprintln!("{at}: {outcomes:?}");
                host.tincan(["gc"]).ok();
                if !met {
                    let all_went = outcomes.iter().all(|outcome| outcome.code == Some(0));
                    assert!(all_went, "{at}: {outcomes:?}");
                }
                // Whatever there is of it now, it comes to be on the network, and no more.
                let _ = quiet(host, &disconnect, NO_FAULT);
                host.tincan(connect).ok();
                let ping = ["exec", "f", "ping", "-q", "-c1", "-W5", "10.9.0.1"];
                host.tincan(ping).ok();
                host.tincan(disconnect).ok();
                let rules = host.sh("nft list table inet tincan-lan0");
                assert!(!rules.contains("elements"), "{at}: {rules}");
                host.tincan(END_F).ok();
                if !met {
                    break;
                }
            }
        }
    }
    remove_network(host);
}

/// A wire that a reload has not made anew, the next one does.
fn faults_in_network_reload(host: &Host) {
    host.tincan(CREATE).ok();
    let run = ["run", "-d", "--name", "f", "--net", "lan0"];
    host.tincan(run.iter().chain(&["--", "sleep", "1000"])).ok();
    for kind in [Fault::Error, Fault::Kill] {
        for side in ["host", "rewire"] {
            for step in 0..MANY {
                host.sh("ip link del veth-f");
                let at = kind.at(side, step);
                let outcome = quiet(host, &["network", "reload"], &at);
                eprintln!("{at}: {outcome:?}");
                for cleared in [false, true] {
                    if cleared {
                        host.tincan(["gc"]).ok();
                    }
                    host.tincan(["network", "reload"]).ok();
                    let ping = ["exec", "f", "ping", "-q", "-c1", "-W5"];
                    for gateway in ["10.9.0.1", "fd09::1"] {
                        host.tincan(ping.iter().chain(&[gateway])).ok();
                    }
                    let listed = host.tincan(["link", "list"]).ok();
                    assert_eq!(listed.lines().count(), 2, "{at}: {listed}");
                }
                if !outcome.met {
                    assert!(step > 0, "{side} has no step");
                    break;
                }
            }
        }
    }
    host.tincan(END_F).ok();
    remove_network(host);
}

/// A port is published whole, with what undoes it on disk, or not at all.
fn faults_in_network_publish(host: &Host) {
    host.tincan(CREATE).ok();
    let run = [
        "run", "-d", "--name", "f", "--net", "lan0", "--", "sleep", "1000",
    ];
    host.tincan(run).ok();
    let now = || host.sh("nft list table inet tincan-lan0; cat /run/tincan/.networks/.ports || :");
    let before = now();
    let publish = ["network", "publish", "f", "8080:80", "9000-9100"];
    for kind in [Fault::Error, Fault::Kill] {
        for step in 0..MANY {
            let at = kind.at("publish", step);
            let outcome = quiet(host, &publish, &at);
            eprintln!("{at}: {outcome:?}");
            if !outcome.met {
                assert_eq!((outcome.code, outcome.said.as_str()), (Some(0), ""), "{at}");
                assert!(step > 1, "there are only {step} steps");
            } else if kind == Fault::Kill {
                host.tincan(["gc"]).ok();
            }
            // What a killed one has in the journal is the container's.
            host.tincan(["network", "unpublish", "f", "8080", "9000-9100"])
                .any_stderr()
                .assert();
            assert_eq!(now(), before, "{at}");
            if !outcome.met {
                break;
            }
        }
    }
    host.tincan(END_F).ok();
    remove_network(host);
}

/// What ends containers that stay.
const END_F: &[&str] = &["delete", "-f", "f"];
const END_G: &[&str] = &["delete", "-f", "g"];

fn detached_run(host: &Host, fault: Fault) {
    let mut args = RUN.to_vec();
    args.pop();
    args.insert(1, "-d");
    args.extend(["sleep", "1000"]);
    let (sides, after) = (&["host", "f"], &[END_F][..]);
    Walk {
        host,
        args,
        sides,
        fault,
        after,
    }
    .go();
}

fn errors_in_a_detached_run(host: &Host) {
    detached_run(host, Fault::Error);
}

fn kills_in_a_detached_run(host: &Host) {
    detached_run(host, Fault::Kill);
}

const PAIR: [&str; 3] = ["pair", "f=172.16.0.1/16", "g=172.16.0.2/16"];

fn pair(host: &Host, fault: Fault) {
    let args = PAIR.into_iter().chain(["--", "true"]).collect();
    let (sides, after) = (&["host", "f", "g"], &[][..]);
    Walk {
        host,
        args,
        sides,
        fault,
        after,
    }
    .go();
}

fn errors_in_pair(host: &Host) {
    pair(host, Fault::Error);
}

fn kills_in_pair(host: &Host) {
    pair(host, Fault::Kill);
}

fn pair_that_stays(host: &Host, fault: Fault) {
    let (sides, after) = (&["host", "f", "g"], &[END_F, END_G][..]);
    let args = PAIR.to_vec();
    Walk {
        host,
        args,
        sides,
        fault,
        after,
    }
    .go();
}

fn errors_in_a_pair_that_stays(host: &Host) {
    pair_that_stays(host, Fault::Error);
}

fn kills_in_a_pair_that_stays(host: &Host) {
    pair_that_stays(host, Fault::Kill);
}

/// A bundle that has something for every kind of step, hooks too.
fn bundle(host: &Host, command: &[&str]) -> String {
    let hook = json!([{"path": "/bin/true"}]);
    let bundle = host.bundle("bundle", |spec| {
        spec["process"]["args"] = json!(command);
        spec["hooks"] = json!({
            "prestart": hook,
            "createRuntime": hook,
            "createContainer": hook,
            "startContainer": hook,
            "poststart": hook,
            "poststop": hook,
        });
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    });
    bundle.display().to_string()
}

fn bundles_run(host: &Host, fault: Fault) {
    let bundle = bundle(host, &["true"]);
    let args = vec!["run", "-b", &bundle, "--net", "172.16.0.1/16", "f"];
    let (sides, after) = (&["host", "f"], &[][..]);
    Walk {
        host,
        args,
        sides,
        fault,
        after,
    }
    .go();
}

fn errors_in_a_bundles_run(host: &Host) {
    bundles_run(host, Fault::Error);
}

fn kills_in_a_bundles_run(host: &Host) {
    bundles_run(host, Fault::Kill);
}

/// Up to the start gate: what comes behind it is another walk's.
fn create(host: &Host, fault: Fault) {
    let bundle = bundle(host, &["sleep", "1000"]);
    let args = vec!["create", "-b", &bundle, "--net", "172.16.0.1/16", "f"];
    let (sides, after) = (&["host", "f"], &[END_F][..]);
    Walk {
        host,
        args,
        sides,
        fault,
        after,
    }
    .go();
}

fn errors_in_create(host: &Host) {
    create(host, Fault::Error);
}

fn kills_in_create(host: &Host) {
    create(host, Fault::Kill);
}

fn restore(host: &Host, fault: Fault) {
    let bundle = bundle(host, &["sh", "-c", "while :; do sleep 0.1; done"]);
    let run = ["run", "-d", "-b", &bundle, "--net", "172.16.0.1/16", "f"];
    assert_eq!(quiet(host, &run, NO_FAULT).code, Some(0));
    host.tincan(["checkpoint", "--image-path", "images", "f"])
        .ok();
    let images = ["--image-path", "images", "--tcp-established"];
    let args = [&["restore", "-d", "-b", &bundle, "f"][..], &images].concat();
    let (sides, after) = (&["host", "f"], &[END_F][..]);
    Walk {
        host,
        args,
        sides,
        fault,
        after,
    }
    .go();
}

fn errors_in_restore(host: &Host) {
    restore(host, Fault::Error);
}

fn kills_in_restore(host: &Host) {
    restore(host, Fault::Kill);
}

/// By tincan's own plugin, which is undone by another call of it.
fn faults_in_a_run_with_plugins(host: &Host) {
    plugins::configure(host, &[plugins::lan0()], &[]);
    let conf = host.dir().join("conf");
    let conf = conf.to_str().expect("text");
    let mut args = RUN.to_vec();
    args[3..5].clone_from_slice(&["--cni", "lan0"]);
    args.splice(5..5, ["--cni-conf-dir", conf, "-p", "8080:80"]);
    for kind in [Fault::Error, Fault::Kill] {
        for side in ["host", "plugins", "undo"] {
            for step in 0..MANY {
                host.tincan(CREATE).ok();
                let at = kind.at(side, step);
                let outcome = quiet(host, &args, &at);
                eprintln!("{at}: {outcome:?}");
                if outcome.met && (kind == Fault::Kill || side == "undo") {
                    if step.is_multiple_of(2) {
                        host.tincan(["gc"]).ok();
                    } else {
                        let next = quiet(host, &args, NO_FAULT);
                        let is_through = (next.code, next.said.as_str()) == (Some(0), "");
                        assert!(is_through, "the next after {at}: {next:?}");
                    }
                }
                // Nobody has an address of it any more.
                remove_network(host);
                if !outcome.met {
                    assert_eq!((outcome.code, outcome.said.as_str()), (Some(0), ""), "{at}");
                    assert!(step > 2, "{side} has only {step} steps");
                    break;
                }
            }
        }
    }
}

/// The configuration of a network that is there, with a port to publish.
fn attachable() -> String {
    let mut config = cni::config();
    config["runtimeConfig"] = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80}]});
    config["cni.dev/valid-attachments"] = json!([]);
    config.to_string()
}

/// What there is of attachments: on disk, in the kernel, in the namespace.
fn attached(host: &Host) -> String {
    let links = "ip -br link | cut -d' ' -f1; ip -n c1 -br link | cut -d' ' -f1; ";
    host.sh(&format!(
        "{links} nft list table inet tincan-lan0; find /run/tincan -mindepth 1 | sort"
    ))
}

/// Killed anywhere, what it left goes with DEL, with GC, with `tincan gc`, or with the next ADD, at the choice of who called.
fn faults_in_cni_add(host: &Host) {
    host.tincan(CREATE).ok();
    host.sh("ip netns add c1");
    let before = attached(host);
    for (kind, side) in [
        (Fault::Error, "cni"),
        (Fault::Kill, "cni"),
        (Fault::Error, "detach"),
    ] {
        for step in 0..MANY {
            let mut met = false;
            for clearing in ["DEL", "GC", "gc", "ADD"] {
                // An undoing that fails comes after an ADD that does.
                let at = match side {
                    "cni" => kind.at(side, step),
                    _ => kind.at("cni", 4),
                };
                let (code, answer) = cni::call_with(host, cni::add("c1"), &attachable(), &at);
                eprintln!("{at}: {code:?} {answer}");
                met = code != Some(0);
                if met && kind == Fault::Error {
                    assert_eq!((code, &answer["code"]), (Some(1), &json!(100)), "{at}");
                    assert_eq!(attached(host), before, "{at}");
                }
                let clear = |call| {
                    let (code, answer) = cni::call_with(host, call, &attachable(), NO_FAULT);
                    assert_eq!(code, Some(0), "{clearing} after {at}: {answer}");
                };
                match clearing {
                    "DEL" => clear(cni::del("c1")),
                    "GC" => clear(cni::Call::new("GC", "")),
                    "gc" if met => drop(host.tincan(["gc"]).ok()),
                    // Killed behind its last deed, it is attached, and nobody was told: that is DEL's.
                    "ADD" if met && step < 6 => clear(cni::add("c1")),
                    _ => {}
                }
                clear(cni::del("c1"));
                if clearing == "DEL" {
                    // Taken, and written down by nobody.
                    host.tincan(["gc"]).ok();
                }
                assert_eq!(attached(host), before, "{clearing} after {at}");
            }
            if !met || side == "detach" {
                assert!(step > 5 || side == "detach", "there are only {step} steps");
                break;
            }
        }
    }
    host.sh("ip netns del c1");
    remove_network(host);
}

/// A DEL that fails or is killed is done by the next one, or by `tincan gc` once the namespace is gone.
fn faults_in_cni_del(host: &Host) {
    host.tincan(CREATE).ok();
    host.sh("ip netns add c1");
    let before = attached(host);
    for kind in [Fault::Error, Fault::Kill] {
        for step in 0..MANY {
            let add = cni::call_with(host, cni::add("c1"), &attachable(), NO_FAULT);
            assert_eq!(add.0, Some(0), "{add:?}");
            let at = kind.at("detach", step);
            let (code, answer) = cni::call_with(host, cni::del("c1"), &attachable(), &at);
            eprintln!("{at}: {code:?} {answer}");
            let met = code != Some(0);
            if met && kind == Fault::Error {
                assert_eq!((code, &answer["code"]), (Some(1), &json!(100)), "{at}");
            }
            if met && step.is_multiple_of(2) {
                host.sh("ip netns del c1; ip netns add c1");
                host.wait_until("the port is gone", || {
                    !host.sh("ip -br link").contains("veth-")
                });
                host.tincan(["gc"]).ok();
            } else {
                let again = cni::call_with(host, cni::del("c1"), &attachable(), NO_FAULT);
                assert_eq!(again.0, Some(0), "{again:?}");
            }
            assert_eq!(attached(host), before, "{at}");
            if !met {
                assert!(step > 3, "there are only {step} steps");
                break;
            }
        }
    }
    host.sh("ip netns del c1");
    remove_network(host);
}

/// In a namespace that outlasts the container, nothing of it stays.
fn faults_in_a_create_in_a_joined_namespace(host: &Host) {
    let links = json!({
        "io.tincan.net.0": "172.16.0.1/16",
        "io.tincan.net.1": "lan0",
        "io.tincan.net.2": "tap",
    });
    let bundle = annotations::annotated(host, "bundle", links, Some("/run/netns/blue"));
    annotations::somebodys_namespace(host);
    host.tincan(CREATE).ok();
    let now = || host.sh("ip -br link | cut -d' ' -f1; ip -n blue -br link | cut -d' ' -f1");
    let before = now();
    let create = ["create", "-b", &bundle, "f"];
    for kind in [Fault::Error, Fault::Kill] {
        for step in 0..MANY {
            let at = kind.at("host", step);
            let created = quiet(host, &create, &at);
            eprintln!("{at}: {created:?}");
            if !created.met {
                assert_eq!((created.code, created.said.as_str()), (Some(0), ""), "{at}");
            } else if kind == Fault::Kill && step.is_multiple_of(2) {
                host.tincan(["gc"]).ok();
            } else if kind == Fault::Kill {
                let next = quiet(host, &create, NO_FAULT);
                assert_eq!((next.code, next.said.as_str()), (Some(0), ""), "after {at}");
            }
            // Where the kill came last of all, it is whole.
            host.tincan(["delete", "--force", "f"]).ok();
            assert_eq!(now(), before, "{at}");
            if !created.met {
                assert!(step > 5, "there are only {step} steps");
                break;
            }
        }
    }
    // Nor of a deletion that is killed.
    for step in 0..MANY {
        let created = quiet(host, &create, NO_FAULT);
        assert_eq!(created.code, Some(0), "{created:?}");
        let deleted = quiet(host, END_F, &Fault::Kill.at("undo", step));
        host.tincan(END_F).ok();
        assert_eq!(now(), before, "undo {step}");
        if !deleted.met {
            assert!(step > 3, "there are only {step} steps");
            break;
        }
    }
    annotations::remove_it(host);
    remove_network(host);
}

/// The container's process meets the fault after `create` is done: `start` says so, and `delete` ends it.
fn faults_on_the_way_from_start_to_the_command(host: &Host) {
    let bundle = bundle(host, &["true"]);
    for kind in [Fault::Error, Fault::Kill] {
        let mut behind = 0;
        for step in 0..MANY {
            let fault = kind.at("f", step);
            let created = quiet(host, &["create", "-b", &bundle, "f"], &fault);
            if created.met {
                // Before the gate, which is another walk's.
                assert_ne!(created.code, Some(0), "{fault}");
                continue;
            }
            let file = fs::File::open(host.dir().join("said")).expect("create's standard error");
            let start = quiet(host, &["start", "f"], NO_FAULT);
            host.tincan(END_F).ok();
            host.assert_clean();
            let met = std::io::read_to_string(file)
                .expect("text")
                .contains("fault ");
            eprintln!("start with {fault}: {start:?} {met}");
            if !met {
                assert_eq!((start.code, start.said.as_str()), (Some(0), ""), "{fault}");
                break;
            }
            if kind == Fault::Error {
                assert!(matches!(start.code, Some(125..=127)), "{fault}: {start:?}");
                assert!(start.said.starts_with("tincan: f: "), "{fault}: {start:?}");
            }
            behind += 1;
        }
        assert!(behind > 2, "only {behind} steps come after the start");
    }
}

/// A process beside the first one: whatever meets it, the container runs on.
fn faults_in_exec(host: &Host) {
    let bundle = bundle(host, &["sleep", "1000"]);
    let run = quiet(host, &["run", "-d", "-b", &bundle, "f"], NO_FAULT);
    assert_eq!(run.code, Some(0), "{run:?}");
    let before = host.differences();
    for kind in [Fault::Error, Fault::Kill] {
        for step in 0..MANY {
            let fault = kind.at("f", step);
            let exec = quiet(host, &["exec", "f", "true"], &fault);
            eprintln!("exec with {fault}: {exec:?}");
            host.wait_until("only the container is left", || {
                host.differences() == before
            });
            if !exec.met {
                assert_eq!((exec.code, exec.said.as_str()), (Some(0), ""), "{fault}");
                assert!(step > 2, "exec has only {step} steps");
                break;
            }
            match kind {
                Fault::Error => assert!(exec.said.starts_with("tincan: f: "), "{exec:?}"),
                Fault::Kill => assert_eq!(exec.code, Some(137), "{exec:?}"),
            }
        }
    }
    host.tincan(END_F).ok();
}

fn faults_in_link_add(host: &Host) {
    let links = host.sh("ip -br link");
    for name in ["f", "g"] {
        host.tincan(["run", "-d", "--name", name, "--", "sleep", "1000"])
            .ok();
    }
    let of = |name: &str| host.tincan(["exec", name, "ip", "-br", "address"]).ok();
    let now = || (of("f"), of("g"), host.differences());
    // Where the wires of a container are recorded stays with it.
    host.tincan(["link", "add", "f=10.0.0.1/24", "g=10.0.0.2/24"])
        .ok();
    host.tincan(["link", "add", "g=10.1.0.1/24", "host=10.1.0.2/24"])
        .ok();
    host.tincan(["link", "del", "g", "eth1"]).ok();
    host.tincan(["link", "del", "g", "eth0"]).ok();
    host.wait_until("the wires are gone", || host.sh("ip -br link") == links);
    let before = now();
    for second in ["g=10.0.0.2/24", "host=10.0.0.2/24"] {
        for kind in [Fault::Error, Fault::Kill] {
            for side in ["host", "link"] {
                for step in 0..MANY {
                    let fault = kind.at(side, step);
                    let added = quiet(host, &["link", "add", "f=10.0.0.1/24", second], &fault);
                    eprintln!("link add with {fault}: {added:?}");
                    if !added.met {
                        assert_eq!(added.code, Some(0), "{added:?}");
                        host.tincan(["link", "del", "f", "eth0"]).ok();
                    } else if kind == Fault::Kill {
                        host.tincan(["gc"]).ok();
                    }
                    host.wait_until("the wire is gone", || now() == before);
                    if !added.met {
                        assert!(step > 0, "{side} has no step");
                        break;
                    }
                }
            }
        }
    }
    host.tincan(END_F).ok();
    host.tincan(END_G).ok();
}

/// Whether the wire goes or stays, what is recorded of it is what there is.
fn faults_in_link_del(host: &Host) {
    let links = host.sh("ip -br link");
    for name in ["f", "g"] {
        host.tincan(["run", "-d", "--name", name, "--", "sleep", "1000"])
            .ok();
    }
    let add = ["link", "add", "f=10.0.0.1/24", "g=10.0.0.2/24"];
    for kind in [Fault::Error, Fault::Kill] {
        for side in ["host", "unlink"] {
            for step in 0..MANY {
                host.tincan(add).ok();
                let fault = kind.at(side, step);
                let removed = quiet(host, &["link", "del", "f", "eth0"], &fault);
                eprintln!("link del with {fault}: {removed:?}");
                let list = host.tincan(["link", "list"]).ok();
                let stays = list.contains("f:eth0  10.0.0.1/24");
                let inside = host.tincan(["exec", "g", "ip", "-br", "link"]).ok();
                assert_eq!(stays, inside.contains("eth0"), "{fault}: {list}");
                if stays {
                    host.tincan(["link", "del", "f", "eth0"]).ok();
                }
                if !removed.met {
                    assert!(!stays && removed.code == Some(0), "{removed:?}");
                    assert!(step > 0, "{side} has no step");
                    break;
                }
            }
        }
    }
    host.tincan(END_F).ok();
    host.tincan(END_G).ok();
    host.wait_until("the wires are gone", || host.sh("ip -br link") == links);
}

/// An address that made way for a run that did not come to be is back where it was, by the kernel's word and by tincan's.
fn faults_while_an_address_makes_way(host: &Host) {
    let stays = [
        "run",
        "-d",
        "--name",
        "g",
        "--net",
        "172.16.0.1/16",
        "--",
        "sleep",
        "1000",
    ];
    host.tincan(stays).ok();
    let written = || fs::read_to_string(host.state_root().join("g/state.json")).unwrap();
    let now = || (host.differences(), written());
    let before = now();
    assert!(before.1.contains("172.16.0.2/32"), "{before:?}");
    let run = ["run", "--name", "f", "--net", "172.16.0.2/16", "--", "true"];
    for kind in [Fault::Error, Fault::Kill] {
        for side in ["host", "f", "undo"] {
            for step in 0..MANY {
                let fault = kind.at(side, step);
                let outcome = quiet(host, &run, &fault);
                eprintln!("run with {fault}: {outcome:?}");
                if outcome.met && (kind == Fault::Kill || side == "undo") {
                    host.tincan(["gc"]).ok();
                }
                host.wait_until("all is as before", || now() == before);
                if !outcome.met {
                    assert_eq!(outcome.code, Some(0), "{outcome:?}");
                    assert!(step > 0, "{side} has no step");
                    break;
                }
            }
        }
    }
    host.tincan(END_G).ok();
}

/// `delete` is killed before each of its deeds; the next one does what is left.
fn kills_in_delete(host: &Host) {
    let bundle = bundle(host, &["sleep", "1000"]);
    let create = ["create", "-b", &bundle, "--net", "172.16.0.1/16", "f"];
    walk_delete(host, &create, END_F);
}

fn walk_delete(host: &Host, create: &[&str], end: &[&str]) {
    for step in 0..MANY {
        let created = quiet(host, create, NO_FAULT);
        assert_eq!((created.code, created.said.as_str()), (Some(0), ""));
        let fault = Fault::Kill.at("undo", step);
        let delete = quiet(host, end, &fault);
        eprintln!("delete with {fault}: {delete:?}");
        if !delete.met {
            assert_eq!(delete.code, Some(0), "{delete:?}");
            assert!(step > 1, "delete has only {step} steps");
            return;
        }
        host.tincan(end.iter()).ok();
        host.assert_clean();
    }
}

/// All of the container's directory but its name may still be there, which is nobody's any more.
fn a_deletion_that_is_cut_short_gives_the_name_up(host: &Host) {
    let bundle = bundle(host, &["sleep", "1000"]);
    let create = ["create", "-b", &bundle, "f"];
    for fault in [Fault::Error, Fault::Kill] {
        quiet(host, &create, NO_FAULT);
        let delete = quiet(host, END_F, &fault.at("forget", 0));
        assert!(delete.met && delete.code != Some(0), "{delete:?}");
        let said = host.tincan(["state", "f"]).fails(125);
        assert!(said.contains("container f does not exist"), "{said}");
        assert_eq!(host.tincan(["list", "-q"]).ok(), "");
        let again = quiet(host, &create, NO_FAULT);
        assert_eq!((again.code, again.said.as_str()), (Some(0), ""));
        host.tincan(END_F).ok();
        assert!(host.tincan(["gc"]).ok().contains("unfinished"));
        host.assert_clean();
    }
}

/// Scopes are of the machine's systemd: their containers are known by a name that no other test's has. What goes on in their
/// first processes is as in every other.
fn create_with_a_scope(host: &Host, fault: Fault) {
    let bundle = bundle(host, &["sleep", "1000"]);
    let name = format!("f{}", own_mark());
    Walk {
        host,
        args: vec!["--systemd-cgroup", "create", "-b", &bundle, &name],
        sides: &["host"],
        fault,
        after: &[&["delete", "--force", &name]],
    }
    .go();
}

fn errors_in_create_with_a_scope(host: &Host) {
    create_with_a_scope(host, Fault::Error);
}

fn kills_in_create_with_a_scope(host: &Host) {
    create_with_a_scope(host, Fault::Kill);
}

fn kills_in_delete_with_a_scope(host: &Host) {
    let bundle = bundle(host, &["sleep", "1000"]);
    let name = format!("f{}", own_mark());
    let create = ["--systemd-cgroup", "create", "-b", &bundle, &name];
    walk_delete(host, &create, &["delete", "--force", &name]);
}
