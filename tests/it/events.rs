//! `tincan events`: what a container uses, and what befalls it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::bad_input::refused;
use super::host::{Case, Host, tests};
use super::oci::{apart, status};

pub fn tests() -> Vec<Case> {
    tests![
        what_is_used_is_told needs [Root],
        runc_says_the_same needs [Root],
        the_interfaces_are_those_of_the_container needs [Root],
        it_is_told_again_and_again_until_the_end needs [Root],
        a_kill_for_want_of_memory_is_told needs [Root],
        what_cannot_be_asked_is_told needs [Root],
    ]
}

fn bundle(host: &Host, script: &str) -> String {
    let bundle = host.bundle("b", |spec| {
        spec["root"]["readonly"] = json!(false);
        spec["process"]["args"] = json!(["sh", "-c", script]);
        spec["linux"]["cgroupsPath"] = json!("/tincan/counted");
        spec["linux"]["resources"]["memory"] = json!({"limit": 67_108_864, "swap": 67_108_864});
        spec["linux"]["resources"]["pids"] = json!({"limit": 21});
        spec["linux"]["resources"]["cpu"] = json!({"quota": 100_000, "period": 100_000});
    });
    bundle.display().to_string()
}

fn data(line: &str) -> Value {
    let mut event: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(
        (&event["type"], &event["id"]),
        (&json!("stats"), &json!("c"))
    );
    event["data"].take()
}

fn stats(host: &Host) -> Value {
    data(&host.tincan(["events", "--stats", "c"]).ok())
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn what_is_used_is_told(host: &Host) {
    // 8 MiB stay in memory, the loop takes time, and 20 processes come to be.
    let bundle = bundle(
        host,
        "dd if=/dev/zero of=/dev/shm/8m bs=1M count=8 2>/dev/null
        for i in $(seq 20); do sh -c :; done; : >/up; exec sleep 1000",
    );
    apart(host, &format!("run -d -b {bundle} c"));
    host.wait_until("it has done its work", || {
        Path::new(&bundle).join("rootfs/up").exists()
    });
    let told = stats(host);
    let memory = &told["memory"];
    assert_eq!(memory["usage"]["limit"], 67_108_864, "{told}");
    assert_eq!(memory["usage"]["failcnt"], 0, "{told}");
    assert!(
        (8 << 20..64 << 20).contains(&number(&memory["usage"]["usage"])),
        "{told}"
    );
    assert!(number(&memory["cache"]) >= 8 << 20, "{told}");
    assert!(!memory["raw"].as_object().unwrap().is_empty(), "{told}");
    assert_eq!(told["pids"], json!({"current": 1, "limit": 21}));
    let usage = &told["cpu"]["usage"];
    // It ran 21 programs, and ended before all of the time that there was had passed.
    assert!(
        (1_000_000..300_000_000_000).contains(&number(&usage["total"])),
        "{told}"
    );
    if let Some(each) = usage["percpu"].as_array() {
        // The last to run may have gone on between the two readings.
        assert!(
            each.iter().map(number).sum::<u64>() >= number(&usage["total"]),
            "{told}"
        );
    }
    let cpus = told["cpuset"]["cpus"].as_array().expect("processors");
    assert_eq!(
        cpus.len().to_string(),
        host.sh("nproc --all").trim(),
        "{told}"
    );
    assert_eq!(told["intel_rdt"], json!({}));
    // While it is frozen, nothing is used.
    host.tincan(["pause", "c"]).ok();
    let [first, second] = [stats(host), stats(host)];
    assert_eq!(first["cpu"]["usage"], second["cpu"]["usage"]);
    host.tincan(["delete", "--force", "c"]).ok();
}

/// Where the values of an object are that are no objects.
fn leaves(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                leaves(value, &format!("{at}/{key}"), into);
            }
        }
        _ => drop(into.insert(at.to_owned())),
    }
}

fn runc_says_the_same(host: &Host) {
    let bundle = bundle(host, "exec sleep 1000");
    let runc = format!("runc --root {}/runc", host.dir().display());
    host.sh(&format!(
        "{runc} run -d -b {bundle} c </dev/null >/dev/null 2>&1"
    ));
    let theirs = data(&host.sh(&format!("{runc} events --stats c")));
    host.sh(&format!("{runc} delete --force c"));
    apart(host, &format!("run -d -b {bundle} c"));
    let ours = stats(host);
    host.tincan(["delete", "--force", "c"]).ok();
    let [mut in_theirs, mut in_ours] = [BTreeSet::new(), BTreeSet::new()];
    leaves(&theirs, "", &mut in_theirs);
    leaves(&ours, "", &mut in_ours);
    // What depends on what happened, or on the files that there are: a zero is left out, and a list of devices that were not used.
    let chance = |path: &&String| {
        [
            "/hugetlb",
            "/blkio",
            "/cpu/throttling",
            "/memory/cache",
            "/memory/kernel",
            "/network_interfaces",
        ]
        .iter()
        .any(|start| path.starts_with(start))
    };
    let missing: Vec<_> = in_theirs
        .difference(&in_ours)
        .filter(|it| !chance(it))
        .collect();
    assert!(missing.is_empty(), "{missing:?}: {theirs} {ours}");
    for path in [
        "/memory/usage/limit",
        "/memory/swap/limit",
        "/memory/kernel/limit",
        "/memory/usage/failcnt",
        "/pids/limit",
        "/cpuset/sched_load_balance",
        "/cpuset/sched_relax_domain_level",
        "/intel_rdt",
    ] {
        assert_eq!(
            ours.pointer(path),
            theirs.pointer(path),
            "{path}: {theirs} {ours}"
        );
    }
    // runc reads them of v1 alone.
    if let Some(cpus) = theirs.pointer("/cpuset/cpus") {
        assert_eq!(ours.pointer("/cpuset/cpus"), Some(cpus));
    }
}

fn the_interfaces_are_those_of_the_container(host: &Host) {
    let bundle = bundle(host, "exec sleep 1000");
    apart(
        host,
        &format!("run -d -b {bundle} --net 172.16.0.1/16,fd00::1/64 c"),
    );
    let interfaces = || {
        stats(host)["network_interfaces"]
            .as_array()
            .unwrap()
            .clone()
    };
    let names: Vec<Value> = interfaces()
        .into_iter()
        .map(|mut it| it["Name"].take())
        .collect();
    assert_eq!(names, ["lo", "eth0"]);
    let before = interfaces()[1].clone();
    host.sh("ping -q -c3 -i0.01 -W5 172.16.0.1; ping -q -c2 -i0.01 -W5 fd00::1");
    let after = interfaces()[1].clone();
    for key in ["RxPackets", "TxPackets"] {
        assert!(
            number(&after[key]) >= number(&before[key]) + 5,
            "{key}: {before} {after}"
        );
    }
    for key in ["RxBytes", "TxBytes"] {
        // Each has 56 bytes of its own, and headers.
        assert!(
            number(&after[key]) >= number(&before[key]) + 5 * 56,
            "{key}: {before} {after}"
        );
    }
    assert_eq!(after["RxErrors"], 0);
    host.tincan(["delete", "--force", "c"]).ok();
    // What passes through the host's is not the container's.
    apart(host, &format!("run -d -b {bundle} --net host c"));
    assert_eq!(stats(host)["network_interfaces"], Value::Null);
    host.tincan(["delete", "--force", "c"]).ok();
}

fn it_is_told_again_and_again_until_the_end(host: &Host) {
    let bundle = bundle(host, "exec sleep 1000");
    let file = host.dir().join("events");
    // So often that some look while it ends: then it has no namespaces any more, and its end is not told yet.
    let line = format!("exec {} events --interval 1ms c >events", Host::TINCAN);
    for _ in 0..10 {
        apart(host, &format!("create -b {bundle} c"));
        let mut told = host.command("sh", ["-c", &line]).spawn();
        host.wait_until("three times are told", || {
            fs::read_to_string(&file).is_ok_and(|text| text.lines().count() >= 3)
        });
        host.tincan(["start", "c"]).ok();
        host.tincan(["kill", "c", "KILL"]).ok();
        assert!(told.wait().unwrap().success());
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines() {
            assert_eq!(data(line)["pids"]["current"], 1);
        }
        host.wait_until("it has ended", || status(host, "c") == "stopped");
        host.tincan(["delete", "c"]).ok();
        fs::remove_file(&file).unwrap();
    }
}

fn a_kill_for_want_of_memory_is_told(host: &Host) {
    // What has no end to its first line takes all memory there is.
    let bundle = bundle(host, "tail /dev/zero; tail /dev/zero; exec sleep 1000");
    apart(host, &format!("create -b {bundle} c"));
    let file = host.dir().join("events");
    let line = format!("exec {} events --interval 1h c >events", Host::TINCAN);
    let mut told = host.command("sh", ["-c", &line]).spawn();
    host.wait_until("events are awaited", || {
        // It sleeps in poll(2).
        let look = format!("cat /proc/{}/syscall", told.id());
        host.sh(&look).starts_with("7 ") || host.sh(&look).starts_with("271 ")
    });
    host.tincan(["start", "c"]).ok();
    host.wait_until("both are killed", || {
        fs::read_to_string(&file).is_ok_and(|text| text.lines().count() >= 2)
    });
    assert_eq!(status(host, "c"), "running");
    host.tincan(["delete", "--force", "c"]).ok();
    assert!(told.wait().unwrap().success());
    let oom = "{\"type\":\"oom\",\"id\":\"c\"}\n";
    assert_eq!(fs::read_to_string(&file).unwrap(), oom.repeat(2));
}

fn what_cannot_be_asked_is_told(host: &Host) {
    refused(host, &["events", "c"], "container c does not exist");
    let zero = "duration interval must be greater than 0";
    refused(host, &["events", "--interval", "0s", "c"], zero);
    refused(
        host,
        &["events", "--interval", "soon", "c"],
        "a right one is 5s",
    );
    let bundle = bundle(host, "exec sleep 1000");
    apart(host, &format!("run -d -b {bundle} c"));
    host.tincan(["kill", "c", "KILL"]).ok();
    host.wait_until("it has ended", || status(host, "c") == "stopped");
    refused(host, &["events", "c"], "c: container not running");
    refused(
        host,
        &["events", "--stats", "c"],
        "c: container not running",
    );
    host.tincan(["delete", "c"]).ok();
    host.tincan(["run", "-d", "--name", "c", "--", "sleep", "1000"])
        .ok();
    let none = "c: container has no cgroup of its own";
    refused(host, &["events", "c"], none);
    refused(host, &["events", "--stats", "c"], none);
    host.tincan(["delete", "--force", "c"]).ok();
}
