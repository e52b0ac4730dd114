//! `tincan update`: other limits for a container that is there.

use serde_json::json;

use super::bad_input::refused;
use super::host::{Case, Host, tests};
use super::oci::apart;

pub fn tests() -> Vec<Case> {
    tests![
        options_set_limits needs [Root],
        a_file_sets_limits needs [Root],
        what_cannot_be_is_told needs [Root],
        without_a_cgroup_that_is_told,
    ]
}

fn start(host: &Host) {
    let bundle = host.bundle("b", |spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
        spec["linux"]["cgroupsPath"] = json!("/tincan/updated");
    });
    apart(host, &format!("run -d -b {} c", bundle.display()));
}

/// What is in the first of these files of the container's cgroup that there is: those of v1 and of v2.
fn limit(host: &Host, files: &[&str]) -> String {
    let names: Vec<String> = files.iter().map(|file| format!("-name {file}")).collect();
    let script = format!(
        "cat $(find /sys/fs/cgroup -path '*tincan/updated/*' '(' {} ')')",
        names.join(" -o ")
    );
    host.sh(&script).trim_end().to_owned()
}

const MEMORY: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];
const PIDS: [&str; 1] = ["pids.max"];

fn options_set_limits(host: &Host) {
    start(host);
    let update = |words: &[&str]| {
        let all = [&["update"], words, &["c"]].concat();
        assert_eq!(host.tincan(all).ok(), "");
    };
    update(&["--memory", "64m", "--pids-limit", "17"]);
    assert_eq!(limit(host, &MEMORY), "67108864");
    assert_eq!(limit(host, &PIDS), "17");
    // Up and down, and none.
    update(&["--memory=128m", "--memory-reservation", "32m"]);
    assert_eq!(limit(host, &MEMORY), "134217728");
    assert_eq!(
        limit(host, &["memory.soft_limit_in_bytes", "memory.low"]),
        "33554432"
    );
    assert_eq!(limit(host, &PIDS), "17", "what is not named stays");
    update(&["--memory", "50331648"]);
    assert_eq!(limit(host, &MEMORY), "50331648");
    // As with runc, none of memory is none of memory and swap either, which with v1 could not be over it.
    let unlimited = ["9223372036854771712", "max"];
    const BOTH: [&str; 2] = ["memory.memsw.limit_in_bytes", "memory.swap.max"];
    update(&["--memory", "64m", "--memory-swap", "96m"]);
    assert!(!unlimited.contains(&limit(host, &BOTH).as_str()));
    update(&["--memory", "-1"]);
    for files in [MEMORY, BOTH] {
        let now = limit(host, &files);
        assert!(unlimited.contains(&now.as_str()), "{files:?}: {now}");
    }
    update(&["--pids-limit", "-1"]);
    assert_eq!(limit(host, &PIDS), "max");
    update(&[
        "--cpu-quota",
        "50000",
        "--cpu-period",
        "100000",
        "--cpu-share",
        "512",
    ]);
    let quota = limit(host, &["cpu.cfs_quota_us", "cpu.max"]);
    assert!(
        ["50000", "50000 100000"].contains(&quota.as_str()),
        "{quota}"
    );
    update(&["--cpu-quota", "-1"]);
    let quota = limit(host, &["cpu.cfs_quota_us", "cpu.max"]);
    assert!(["-1", "max 100000"].contains(&quota.as_str()), "{quota}");
    update(&["--cpuset-cpus", "0"]);
    assert_eq!(limit(host, &["cpuset.cpus"]), "0");
    // What the container's own processes are limited by.
    update(&["--pids-limit", "2"]);
    let script = "sleep 9 & sleep 9 & wait";
    host.tincan(["exec", "c", "sh", "-c", script])
        .any_stderr()
        .assert()
        .failure();
    host.tincan(["delete", "--force", "c"]).ok();
}

fn a_file_sets_limits(host: &Host) {
    start(host);
    let resources = json!({
        "memory": {"limit": 71_303_168}, "pids": {"limit": 21}, "cpu": {},
        // As in runc, they stay as they are.
        "devices": [{"allow": true, "access": "rwm"}],
    });
    let file = host.dir().join("resources.json");
    std::fs::write(&file, resources.to_string()).unwrap();
    host.tincan(["update", "-r", file.to_str().unwrap(), "c"])
        .ok();
    assert_eq!(limit(host, &MEMORY), "71303168");
    assert_eq!(limit(host, &PIDS), "21");
    let run = host.tincan([
        "exec",
        "c",
        "sh",
        "-c",
        "cat /dev/null && mknod /dev/sda b 8 0 2>&1 || true",
    ]);
    run.ok();
    let resources = json!({"pids": {"limit": 22}, "memory": null});
    let run = host.tincan(["update", "--resources", "-", "c"]);
    run.stdin(resources.to_string()).ok();
    assert_eq!(limit(host, &PIDS), "22");
    assert_eq!(limit(host, &MEMORY), "71303168");
    host.tincan(["delete", "--force", "c"]).ok();
}

fn what_cannot_be_is_told(host: &Host) {
    refused(
        host,
        &["update", "--pids-limit", "5", "c"],
        "container c does not exist",
    );
    start(host);
    for (words, why) in [
        (&["c"][..], "there is nothing to change"),
        (&["--memory", "1.5g", "c"], "`1.5g` is no number of bytes"),
        (&["--memory-swap", "64m", "c"], "memory.swap"),
        (&["--cpuset-cpus", "999", "c"], "cpuset.cpus"),
        (
            &["-r", "/nowhere", "c"],
            "--resources /nowhere: No such file",
        ),
    ] {
        refused(host, &[&["update"], words].concat(), why);
    }
    let run = host
        .tincan(["update", "-r", "-", "c"])
        .stdin("{\"pids\": {\"limit\": \"x\"}}");
    let said = run.fails(125);
    assert!(said.contains("linux.resources.pids.limit"), "{said}");
    host.tincan(["kill", "c", "KILL"]).ok();
    host.wait_until("it has ended", || {
        super::oci::status(host, "c") == "stopped"
    });
    refused(
        host,
        &["update", "--pids-limit", "5", "c"],
        "c: container not running",
    );
    host.tincan(["delete", "c"]).ok();
}

fn without_a_cgroup_that_is_told(host: &Host) {
    host.tincan(["run", "-d", "--name", "a", "--", "sleep", "1000"])
        .ok();
    refused(
        host,
        &["update", "--pids-limit", "5", "a"],
        "a: container has no cgroup of its own",
    );
    host.tincan(["delete", "--force", "a"]).ok();
}
