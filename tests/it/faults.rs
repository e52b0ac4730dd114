//! A fault at every step: whatever fails, or whoever is killed, `tincan gc` leaves the host as it was.
//!
//! The walk goes on until a run is through without the fault, so a step that is new is covered by itself.

use super::host::{Case, Host, tests};

/// More steps than any plan has: a walk that comes here never met a run that is through.
const MANY: usize = 500;

pub fn tests() -> Vec<Case> {
    tests![
        an_error_in_run_leaves_nothing,
        a_kill_in_run_leaves_nothing,
        an_error_in_the_container_leaves_nothing,
        a_kill_in_the_container_leaves_nothing,
        an_error_in_pair_leaves_nothing,
        a_kill_in_pair_leaves_nothing,
        an_error_in_a_bundle_leaves_nothing,
        a_kill_in_a_bundle_leaves_nothing,
    ]
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

const PAIR: [&str; 5] = ["pair", "f=172.16.0.1/16", "g=172.16.0.2/16", "--", "true"];

/// Runs the command with the fault at each step of this side.
fn walk(host: &Host, side: &str, kind: &str, args: &[&str]) {
    for step in 0..MANY {
        let fault = format!("{side}:{step}:{kind}");
        let assert = host.tincan(args).env("TINCAN_FAULT", &fault).assert();
        let through = assert.get_output().status.success();
        host.tincan(["gc"]).ok();
        // Shown when the test fails.
        eprintln!("after {fault}");
        host.assert_clean();
        if through {
            assert!(step > 2, "{side} has only {step} steps");
            return;
        }
    }
    panic!("{args:?} is not through after {MANY} steps");
}

fn an_error_in_run_leaves_nothing(host: &Host) {
    walk(host, "host", "error", &RUN);
}

fn a_kill_in_run_leaves_nothing(host: &Host) {
    walk(host, "host", "kill", &RUN);
}

fn an_error_in_the_container_leaves_nothing(host: &Host) {
    walk(host, "f", "error", &RUN);
}

fn a_kill_in_the_container_leaves_nothing(host: &Host) {
    walk(host, "f", "kill", &RUN);
}

fn an_error_in_pair_leaves_nothing(host: &Host) {
    for side in ["host", "f", "g"] {
        walk(host, side, "error", &PAIR);
    }
}

fn a_kill_in_pair_leaves_nothing(host: &Host) {
    for side in ["host", "f", "g"] {
        walk(host, side, "kill", &PAIR);
    }
}

fn walk_bundle(host: &Host, kind: &str) {
    let bundle = host.bundle("bundle", |spec| {
        spec["process"]["args"] = serde_json::json!(["true"]);
    });
    let bundle = bundle.to_str().expect("the directory's name is text");
    let args = ["run", "-b", bundle, "--net", "172.16.0.1/16", "f"];
    walk(host, "host", kind, &args);
    walk(host, "f", kind, &args);
}

fn an_error_in_a_bundle_leaves_nothing(host: &Host) {
    walk_bundle(host, "error");
}

fn a_kill_in_a_bundle_leaves_nothing(host: &Host) {
    walk_bundle(host, "kill");
}
