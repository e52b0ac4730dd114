//! OCI bundles: the life of a container as runc's callers drive it, and what a bundle may ask for.

use serde_json::{Value, json};

use crate::host::{Case, Host, tests};

/// The tests of this file.
pub fn tests() -> Vec<Case> {
    tests![
        a_container_lives_from_create_to_delete,
        run_gives_the_commands_exit_code_and_leaves_nothing,
        a_missing_program_is_127_for_run_and_for_start,
        exec_joins_the_container,
        the_process_is_what_the_bundle_says,
        limits_are_in_the_cgroup,
        hooks_run_in_order_with_the_state_on_their_input,
        what_is_not_done_yet_is_refused_by_name,
        a_bundle_is_wired,
        a_bundle_of_runcs_own_runs,
    ]
}

/// A bundle that runs this line of shell.
fn shell(host: &Host, name: &str, script: &str) -> String {
    changed(host, name, script, |_| ())
}

/// The same, with more said in its config.json.
fn changed(host: &Host, name: &str, script: &str, change: impl FnOnce(&mut Value)) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["process"]["args"] = json!(["sh", "-c", script]);
        change(spec);
    });
    bundle.display().to_string()
}

/// Runs a command whose container keeps the standard streams, as runc's does: so it gets none that anybody waits on.
fn apart(host: &Host, command: &str) {
    host.sh(&format!(
        "{} {command} </dev/null >/dev/null 2>&1",
        Host::TINCAN
    ));
}

fn status(host: &Host, id: &str) -> String {
    let state: Value = serde_json::from_str(&host.tincan(["state", id]).ok()).expect("JSON");
    state["status"].as_str().expect("a status").to_owned()
}

fn a_container_lives_from_create_to_delete(host: &Host) {
    let bundle = shell(host, "life", "sleep 1000");
    apart(host, &format!("create --bundle {bundle} --pid-file pid c1"));
    assert_eq!(status(host, "c1"), "created");
    let state: Value = serde_json::from_str(&host.tincan(["state", "c1"]).ok()).expect("JSON");
    let pid = std::fs::read_to_string(host.dir().join("pid")).expect("the pid file");
    assert_eq!(state["pid"].to_string(), pid);
    assert_eq!(state["bundle"], bundle);
    let said = host
        .tincan(["create", "--bundle", &bundle, "c1"])
        .fails(125);
    assert!(
        said.contains("c1: a container of this name is created already"),
        "{said}"
    );
    host.tincan(["start", "c1"]).ok();
    assert_eq!(status(host, "c1"), "running");
    let said = host.tincan(["start", "c1"]).fails(125);
    assert!(
        said.contains("cannot start a container that is running"),
        "{said}"
    );
    let said = host.tincan(["delete", "c1"]).fails(125);
    assert!(
        said.contains("cannot delete a container that is running"),
        "{said}"
    );
    host.tincan(["kill", "c1", "KILL"]).ok();
    host.wait_until("the container is stopped", || {
        status(host, "c1") == "stopped"
    });
    host.tincan(["gc"]).ok();
    assert_eq!(status(host, "c1"), "stopped");
    host.tincan(["delete", "c1"]).ok();
    let said = host.tincan(["state", "c1"]).fails(125);
    assert!(said.contains("container c1 does not exist"), "{said}");
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn run_gives_the_commands_exit_code_and_leaves_nothing(host: &Host) {
    let bundle = shell(host, "code", "exit 7");
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).fails(7);
    assert_eq!(said, "");
    host.assert_clean();
}

fn a_missing_program_is_127_for_run_and_for_start(host: &Host) {
    let bundle = host.bundle("missing", |spec| spec["process"]["args"] = json!(["/nope"]));
    let bundle = bundle.display().to_string();
    let wanted = "exec: \"/nope\": stat /nope: no such file or directory";
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).fails(127);
    assert!(said.contains(wanted), "{said}");
    apart(host, &format!("create --bundle {bundle} c2"));
    let said = host.tincan(["start", "c2"]).fails(127);
    assert!(said.contains(wanted), "{said}");
    host.tincan(["delete", "--force", "c2"]).ok();
}

fn exec_joins_the_container(host: &Host) {
    let bundle = shell(host, "exec", "sleep 1000");
    apart(host, &format!("run --detach --bundle {bundle} c1"));
    host.tincan(["exec", "c1", "sh", "-c", "exit 3"]).fails(3);
    let said = host
        .tincan([
            "exec",
            "--cwd",
            "/proc",
            "-e",
            "WORD=tin",
            "c1",
            "sh",
            "-c",
            "echo $WORD $PWD $(hostname)",
        ])
        .ok();
    assert_eq!(said, "tin /proc tincan\n");
    let said = host
        .tincan(["exec", "-u", "7:8", "c1", "sh", "-c", "id -u; id -g"])
        .ok();
    assert_eq!(said, "7\n8\n");
    host.tincan(["exec", "c1", "/nope"]).fails(127);
    host.tincan(["delete", "--force", "c1"]).ok();
    let said = host.tincan(["exec", "c1", "true"]).fails(125);
    assert!(said.contains("container c1 does not exist"), "{said}");
}

fn the_process_is_what_the_bundle_says(host: &Host) {
    let script = "hostname; id -u; id -g; umask; ulimit -n; pwd; cat /proc/sys/net/ipv4/ip_forward; \
                  grep -E 'CapEff|NoNewPrivs' /proc/self/status; \
                  touch /x 2>/dev/null || echo read-only; echo 1 2>/dev/null > /proc/sys/kernel/domainname || echo kept";
    let bundle = changed(host, "process", script, |spec| {
        spec["hostname"] = json!("can");
        spec["process"]["user"] = json!({"uid": 5, "gid": 6, "umask": 0o027});
        spec["process"]["cwd"] = json!("/tmp");
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]);
        spec["process"]["capabilities"] = json!({});
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    });
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).ok();
    let wanted = "can\n5\n6\n0027\n77\n/tmp\n1\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nread-only\nkept\n";
    assert_eq!(said, wanted);
}

fn limits_are_in_the_cgroup(host: &Host) {
    let bundle = changed(host, "limits", "sleep 1000", |spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 33_554_432});
        spec["linux"]["resources"]["pids"] = json!({"limit": 12});
        spec["linux"]["cgroupsPath"] = json!("/tincan/limited");
    });
    apart(host, &format!("run --detach --bundle {bundle} c1"));
    let find = "cat $(find /sys/fs/cgroup -path '*tincan/limited/*'";
    let pids = host.sh(&format!("{find} -name pids.max)"));
    let memory = host.sh(&format!(
        "{find} '(' -name memory.max -o -name memory.limit_in_bytes ')')"
    ));
    host.tincan(["delete", "--force", "c1"]).ok();
    assert_eq!((pids.as_str(), memory.as_str()), ("12\n", "33554432\n"));
}

fn hooks_run_in_order_with_the_state_on_their_input(host: &Host) {
    let log = host.dir().join("log").display().to_string();
    let hook = |name: &str| {
        let script = format!("echo {name} $(grep -o '\"status\":\"[a-z]*\"') >> {log}");
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    let bundle = changed(host, "hooks", "true", |spec| {
        spec["hooks"] = json!({
            "prestart": hook("prestart"),
            "createRuntime": hook("createRuntime"),
            "createContainer": hook("createContainer"),
            "poststart": hook("poststart"),
            "poststop": hook("poststop"),
        });
    });
    apart(host, &format!("create --bundle {bundle} c1"));
    host.tincan(["start", "c1"]).ok();
    host.wait_until("the container is stopped", || {
        status(host, "c1") == "stopped"
    });
    host.tincan(["delete", "c1"]).ok();
    let log = std::fs::read_to_string(log).expect("the hooks' log");
    let wanted = "prestart \"status\":\"creating\"\ncreateRuntime \"status\":\"creating\"\n\
                  createContainer \"status\":\"creating\"\npoststart \"status\":\"running\"\npoststop \"status\":\"stopped\"\n";
    assert_eq!(log, wanted);
}

fn what_is_not_done_yet_is_refused_by_name(host: &Host) {
    let bundle = changed(host, "seccomp", "true", |spec| {
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    });
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).fails(125);
    assert!(said.contains("config.json: linux.seccomp: "), "{said}");
    host.assert_clean();
}

fn a_bundle_is_wired(host: &Host) {
    let bundle = shell(host, "wired", "ip -o -4 address show dev eth0");
    let net = ["run", "--net", "10.7.0.1/24", "--bundle", &bundle, "c1"];
    let said = host.tincan(net).ok();
    assert!(said.contains("10.7.0.1/24"), "{said}");
}

fn a_bundle_of_runcs_own_runs(host: &Host) {
    let bundle = host.dir().join("runcs");
    let rootfs = host.busybox_rootfs();
    let dir = bundle.display();
    host.sh(&format!(
        "mkdir {dir} && cp -a {} {dir}/rootfs",
        rootfs.display()
    ));
    host.sh(&format!("cd {dir} && runc spec"));
    host.sh(&format!(
        "sed -i 's/\"terminal\": true/\"terminal\": false/; s/\"sh\"/\"hostname\"/' {dir}/config.json"
    ));
    let bundle = bundle.display().to_string();
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).ok();
    assert_eq!(said, "runc\n");
}
