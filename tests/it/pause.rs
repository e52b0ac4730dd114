//! `tincan pause`, `resume` and `ps`: what runs in a container, and whether it does.

use serde_json::{Value, json};

use super::bad_input::refused;
use super::host::{Case, Host, tests};
use super::oci::{apart, status};

pub fn tests() -> Vec<Case> {
    tests![
        nothing_runs_until_it_is_resumed needs [Root],
        a_created_container_is_paused needs [Root],
        what_cannot_be_paused_is_told needs [Root],
        processes_are_shown needs [Root],
        processes_without_a_cgroup_are_shown,
        what_has_no_processes_is_told,
    ]
}

/// A bundle whose container counts in a file that the host sees.
fn counter(host: &Host) -> String {
    let bundle = host.bundle("b", |spec| {
        spec["root"]["readonly"] = json!(false);
        spec["process"]["args"] =
            json!(["sh", "-c", "while :; do echo >>/count; usleep 1000; done"]);
    });
    bundle.display().to_string()
}

fn nothing_runs_until_it_is_resumed(host: &Host) {
    let bundle = counter(host);
    apart(host, &format!("run -d -b {bundle} c"));
    let count = || std::fs::metadata(format!("{bundle}/rootfs/count")).map_or(0, |it| it.len());
    host.wait_until("it counts", || count() > 3);
    host.tincan(["pause", "c"]).ok();
    assert_eq!(status(host, "c"), "paused");
    let before = count();
    // It has all the time that a process of ours has to be made and to end.
    for _ in 0..20 {
        host.sh("true");
    }
    assert_eq!(count(), before);
    host.tincan(["resume", "c"]).ok();
    assert_eq!(status(host, "c"), "running");
    host.wait_until("it goes on", || count() > before);
    // And again, for it is paused with a process of exec's in it.
    host.tincan(["pause", "c"]).ok();
    refused(
        host,
        &["exec", "c", "true"],
        "cannot exec in a paused container",
    );
    host.tincan(["resume", "c"]).ok();
    host.tincan(["delete", "--force", "c"]).ok();
}

fn a_created_container_is_paused(host: &Host) {
    let bundle = counter(host);
    apart(host, &format!("create -b {bundle} c"));
    host.tincan(["pause", "c"]).ok();
    assert_eq!(status(host, "c"), "paused");
    host.tincan(["resume", "c"]).ok();
    assert_eq!(status(host, "c"), "created");
    host.tincan(["start", "c"]).ok();
    host.tincan(["pause", "c"]).ok();
    host.tincan(["delete", "--force", "c"]).ok();
}

fn what_cannot_be_paused_is_told(host: &Host) {
    refused(host, &["pause", "c"], "container c does not exist");
    refused(host, &["resume", "c"], "container c does not exist");
    let bundle = host.bundle("b", |spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
    });
    let bundle = bundle.display();
    apart(host, &format!("run -d -b {bundle} c"));
    refused(host, &["resume", "c"], "c: container not paused");
    host.tincan(["pause", "c"]).ok();
    refused(host, &["pause", "c"], "c: container not running");
    host.tincan(["kill", "c", "KILL"]).ok();
    host.wait_until("it has ended", || status(host, "c") == "stopped");
    refused(host, &["pause", "c"], "c: container not running");
    refused(host, &["resume", "c"], "c: container not paused");
    host.tincan(["delete", "c"]).ok();
}

/// The numbers of all that `ps --format json` shows.
fn shown(host: &Host, id: &str) -> Vec<i64> {
    let text = host.tincan(["ps", "--format", "json", id]).ok();
    let shown: Value = serde_json::from_str(&text).expect("JSON");
    let numbers = shown.as_array().expect("a list").iter();
    numbers
        .map(|number| number.as_i64().expect("a number"))
        .collect()
}

fn processes_are_shown(host: &Host) {
    let bundle = host.bundle("b", |spec| {
        spec["process"]["args"] = json!(["sh", "-c", "sleep 1001 & exec sleep 1002"]);
    });
    apart(host, &format!("run -d -b {} c", bundle.display()));
    host.wait_until("both are there", || shown(host, "c").len() == 2);
    let state: Value = serde_json::from_str(&host.tincan(["state", "c"]).ok()).unwrap();
    assert!(shown(host, "c").contains(&state["pid"].as_i64().unwrap()));
    for (options, has) in [
        (&[][..], "UID"),
        (&["-o", "pid,args"], "PID COMMAND"),
        (&["aux"], "USER"),
    ] {
        let said = host.tincan([&["ps", "c"], options].concat()).ok();
        let mut lines = said.lines();
        let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert!(header.join(" ").starts_with(has), "{said}");
        let rest: Vec<&str> = lines.collect();
        assert_eq!(rest.len(), 2, "{said}");
        assert!(
            rest.iter().any(|line| line.contains("sleep 1001")),
            "{said}"
        );
    }
    let said = host.tincan(["ps", "c", "-o", "args"]).fails(125);
    assert!(said.contains("no column PID"), "{said}");
    let said = host.tincan(["ps", "c", "--no-such-option"]).fails(125);
    assert!(said.contains("ps: "), "{said}");
    host.tincan(["delete", "--force", "c"]).ok();
}

fn processes_without_a_cgroup_are_shown(host: &Host) {
    host.tincan([
        "run",
        "-d",
        "--name",
        "a",
        "--",
        "sh",
        "-c",
        "sleep 1001 & exec sleep 1002",
    ])
    .ok();
    host.wait_until("both are there", || shown(host, "a").len() == 2);
    host.tincan(["delete", "--force", "a"]).ok();
}

fn what_has_no_processes_is_told(host: &Host) {
    refused(host, &["ps", "c"], "container c does not exist");
    let bundle = host.bundle("b", |spec| spec["process"]["args"] = json!(["true"]));
    apart(host, &format!("run -d -b {} c", bundle.display()));
    host.wait_until("it has ended", || status(host, "c") == "stopped");
    refused(host, &["ps", "c"], "c: container not running");
    host.tincan(["delete", "c"]).ok();
}
