//! OCI bundles: the life of a container as runc's callers drive it, and what a bundle may ask for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::host::{Case, Host, is_user, tests};

/// The tests of this file.
pub fn tests() -> Vec<Case> {
    tests![
        a_container_lives_from_create_to_delete,
        run_gives_the_commands_exit_code_and_leaves_nothing,
        a_missing_program_is_127_for_run_and_for_create,
        what_cannot_be_executed_is_told_by_create_or_by_start,
        exec_joins_the_container,
        the_process_is_what_the_bundle_says,
        limits_are_in_the_cgroup needs [Root],
        hooks_run_in_order_with_the_state_on_their_input,
        hooks_have_their_callers_environment_and_the_bundles_directory,
        hooks_know_the_first_process_by_the_number_where_they_are needs [Root],
        a_failing_hook_ends_the_container,
        a_hook_may_have_all_the_time_there_is,
        rights_are_what_the_bundle_says,
        devices_and_paths_are_what_the_bundle_says needs [Root],
        a_device_is_used_as_its_rule_says needs [Root],
        what_is_mounted_on_a_device_stays,
        a_limit_of_0_processes_is_none_in_a_bundle_of_before_1_3 needs [Root],
        limits_as_podman_asks_for_them needs [Root],
        a_low_limit_of_open_files_is_for_the_process_alone,
        home_and_directory_are_the_users,
        a_directory_for_root_or_for_the_user_alone_will_do,
        a_leaked_descriptor_is_no_way_out,
        streams_that_go_nowhere_are_the_containers_own,
        devices_in_the_root_itself_are_there_the_second_time_too,
        descriptors_are_kept_on_request_alone,
        exec_starts_from_what_was_created,
        exec_takes_runcs_options,
        an_id_that_is_none_is_not_roots,
        exec_enters_a_cgroup_below needs [Root],
        a_paused_container_is_entered_on_request_alone needs [Root],
        a_paused_container_can_be_killed needs [Root],
        a_frozen_cgroup_takes_no_container needs [Root],
        a_commands_container_is_entered_as_it_is,
        signals_have_names_and_numbers,
        options_of_all_commands_are_told,
        a_state_that_cannot_be_read_hides_no_other,
        the_version_is_told_in_runcs_words,
        the_log_hears_of_a_command_line_that_is_not_right,
        warnings_are_for_the_log_where_there_is_one,
        what_is_of_another_platform_is_refused_by_name,
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
pub fn apart(host: &Host, command: &str) {
    host.sh(&format!(
        "{} {command} </dev/null >/dev/null 2>&1",
        Host::TINCAN
    ));
}

pub fn status(host: &Host, id: &str) -> String {
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

fn a_missing_program_is_127_for_run_and_for_create(host: &Host) {
    let bundle = host.bundle("missing", |spec| spec["process"]["args"] = json!(["/nope"]));
    let bundle = bundle.display().to_string();
    let wanted = "exec: \"/nope\": stat /nope: no such file or directory";
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).fails(127);
    assert!(said.contains(wanted), "{said}");
    // By create, as runc: a caller whose `start` fails is left with a container.
    let said = host
        .tincan(["create", "--bundle", &bundle, "c2"])
        .fails(127);
    assert!(said.contains(wanted), "{said}");
    host.assert_clean();
}

fn what_cannot_be_executed_is_told_by_create_or_by_start(host: &Host) {
    let bundle = |name: &str, program: &str, user: u32, privileged: bool| {
        let bundle = host.bundle(name, |spec| {
            spec["process"]["args"] = json!([program]);
            spec["process"]["user"] = json!({"uid": user, "gid": user});
            // The filter comes before the user's rights then, and leaves no calls to look with.
            spec["process"]["noNewPrivileges"] = json!(!privileged);
            spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
                "names": ["access", "faccessat", "faccessat2", "stat", "newfstatat"],
                "action": "SCMP_ACT_KILL_PROCESS"
            }]});
        });
        bundle.display().to_string()
    };
    let missing = "executable file not found in $PATH";
    let forbidden = "permission denied";
    for (name, program, user, privileged, code, why) in [
        ("missing", "nope", 0, false, 127, missing),
        ("directory", "/etc", 0, false, 126, forbidden),
        ("plain", "/etc/passwd", 0, true, 126, forbidden),
        ("users", "/root/nope", 7, false, 126, forbidden),
        ("users-missing", "nope", 7, true, 127, missing),
    ] {
        let bundle = bundle(name, program, user, privileged);
        let said = host
            .tincan(["create", "--bundle", &bundle, "c1"])
            .fails(code);
        let wanted = format!("exec: \"{program}\": {why}");
        assert!(said.contains(&wanted), "{name}: {said}");
        host.assert_clean();
    }
    // What only the kernel knows, and what root cannot tell for a user who has other groups.
    for (name, program, user) in [
        ("binary", "/bin/nothing", 0),
        ("users-late", "/root/nope", 7),
    ] {
        let bundle = bundle(name, program, user, true);
        let nothing = Path::new(&bundle).join("rootfs/bin/nothing");
        fs::write(&nothing, "\0").unwrap();
        fs::set_permissions(&nothing, fs::Permissions::from_mode(0o755)).unwrap();
        apart(host, &format!("create --bundle {bundle} c1"));
        let said = host.tincan(["start", "c1"]).fails(126);
        assert!(said.contains(&format!("exec: \"{program}\"")), "{said}");
        assert_eq!(status(host, "c1"), "stopped");
        host.tincan(["delete", "c1"]).ok();
    }
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
    let wanted = "prestart \"status\":\"created\"\ncreateRuntime \"status\":\"created\"\n\
                  createContainer \"status\":\"created\"\npoststart \"status\":\"running\"\npoststop \"status\":\"stopped\"\n";
    assert_eq!(log, wanted);
}

fn hooks_have_their_callers_environment_and_the_bundles_directory(host: &Host) {
    let log = host.dir().join("log").display().to_string();
    let script = format!("echo $(pwd) $WORD >> {log}");
    let own = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["WORD=own"]});
    let callers = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    let none = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": []});
    let kinds = ["prestart", "createRuntime", "poststart", "poststop"];
    let bundle = changed(host, "where", "true", |spec| {
        for kind in kinds {
            spec["hooks"][kind] = json!([own, callers, none]);
        }
    });
    host.tincan(["run", "--bundle", &bundle, "c1"])
        .env("WORD", "callers")
        .ok();
    let said = std::fs::read_to_string(&log).expect("the hooks' log");
    let each = format!("{bundle} own\n{bundle} callers\n{bundle}\n");
    assert_eq!(said, each.repeat(kinds.len()));
    // A bundle that is gone has its poststop hooks all the same.
    apart(host, &format!("create --bundle {bundle} c2"));
    host.sh(&format!("rm -r {bundle} {log}"));
    host.tincan(["delete", "--force", "c2"]).ok();
    let said = std::fs::read_to_string(&log).expect("the hooks' log");
    let here = host.dir().display().to_string();
    assert_eq!(said, format!("{here} own\n{here}\n{here}\n"));
}

/// runtime-spec runtime.md, State: as the runtime sees it, and in the container's namespaces as the container does.
fn hooks_know_the_first_process_by_the_number_where_they_are(host: &Host) {
    let told = |host: &Host, pid_namespace: bool| {
        let log = host.dir().join("log").display().to_string();
        let hook = |kind: &str, log: &str| {
            let script = format!("echo {kind} $(grep -o '\"pid\":[0-9]*' | cut -d: -f2) >>{log}");
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
        };
        let name = if pid_namespace { "own" } else { "shared" };
        let bundle = changed(host, name, "sleep 1000", |spec| {
            spec["root"]["readonly"] = json!(false);
            for kind in ["prestart", "createRuntime", "createContainer", "poststart"] {
                spec["hooks"][kind] = hook(kind, &log);
            }
            spec["hooks"]["startContainer"] = hook("startContainer", "/log");
            let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a list");
            namespaces.retain(|it| pid_namespace || it["type"] != "pid");
        });
        apart(host, &format!("create --bundle {bundle} --pid-file pid c1"));
        host.tincan(["start", "c1"]).ok();
        host.tincan(["delete", "--force", "c1"]).ok();
        let said = host.sh(&format!("cat {log} {bundle}/rootfs/log; rm {log}"));
        (said, host.sh("cat pid"))
    };
    for (pid_namespace, inside) in [(true, Some("1")), (false, None)] {
        let (said, pid) = told(host, pid_namespace);
        let inside = inside.unwrap_or(&pid);
        assert_eq!(
            said,
            format!(
                "prestart {pid}\ncreateRuntime {pid}\ncreateContainer {inside}\npoststart {pid}\nstartContainer {inside}\n"
            )
        );
    }
}

fn a_hook_may_have_all_the_time_there_is(host: &Host) {
    let bundle = changed(host, "patient", "echo there", |spec| {
        spec["hooks"]["prestart"] = json!([{"path": "/bin/true", "timeout": i64::MAX}]);
    });
    assert_eq!(
        host.tincan(["run", "--bundle", &bundle, "c1"]).ok(),
        "there\n"
    );
}

fn streams_that_go_nowhere_are_the_containers_own(host: &Host) {
    let script = "for n in 0 1 2; do stat -L -c '%D:%t:%T' /proc/self/fd/$n; done >/said; stat -c '%D:%t:%T' /dev/null >>/said";
    let bundle = changed(host, "nowhere", script, |spec| {
        spec["root"]["readonly"] = json!(false);
    });
    let run = format!("{} run --bundle {bundle} c1", Host::TINCAN);
    host.sh(&format!("{run} </dev/null 2>/dev/null >out"));
    let said = host.sh(&format!("cat {bundle}/rootfs/said"));
    let said: Vec<&str> = said.lines().collect();
    // The standard output is the file `said`, and the other two are the null device that the container has.
    assert_eq!(said[3].split(':').skip(1).collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!((said[0], said[2]), (said[3], said[3]), "{said:?}");
    assert_ne!(said[1], said[3], "{said:?}");
}

/// A bundle of which each hook of a kind writes the kind, and what it got on its input, to `log`; one of them fails.
fn hooked(host: &Host, name: &str, script: &str, failing: &str) -> String {
    let log = host.dir().join("log").display().to_string();
    changed(host, name, script, |spec| {
        for kind in HOOKS {
            let fails = if kind == failing { "; exit 9" } else { "" };
            // Those in the container's mount namespace have no way to the log but their standard error.
            let to = if kind == "startContainer" {
                "/dev/stderr".to_owned()
            } else {
                log.clone()
            };
            let script = format!("echo {kind} $(cat) >>{to}{fails}");
            spec["hooks"][kind] =
                json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 20}]);
        }
    })
}

const HOOKS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

fn a_failing_hook_ends_the_container(host: &Host) {
    for (index, failing) in HOOKS.into_iter().enumerate() {
        let bundle = hooked(host, failing, "sleep 1000", failing);
        let log = host.dir().join("log");
        std::fs::write(&log, "").expect("the log is ours");
        let created = format!(
            "{} create --bundle {bundle} c1 </dev/null 2>>log",
            Host::TINCAN
        );
        let started = format!("{} start c1 2>>log", Host::TINCAN);
        let deleted = format!("{} delete --force c1 2>>log", Host::TINCAN);
        let said = host.sh(&format!(
            "{created} && {started} && {deleted} && echo done || true"
        ));
        let log = std::fs::read_to_string(&log).expect("the hooks' log");
        if failing == "poststop" {
            // The container is gone by then: it is told, and changes nothing.
            assert_eq!(said, "done\n", "{log}");
        } else {
            assert_eq!(said, "", "{failing}: {log}");
        }
        assert!(
            log.contains(&format!("tincan: c1: {failing} hook /bin/sh: ")),
            "{log}"
        );
        // Those before it have run, none after it but poststop (runtime.md, Lifecycle 12 and 13).
        for (other, kind) in HOOKS.into_iter().enumerate() {
            let ran = log
                .lines()
                .any(|line| line.starts_with(&format!("{kind} {{")));
            assert_eq!(
                ran,
                other <= index || kind == "poststop",
                "{failing}, {kind}: {log}"
            );
        }
        for line in log
            .lines()
            .filter(|line| HOOKS.iter().any(|kind| line.starts_with(kind)))
        {
            let (kind, state) = line.split_once(' ').expect("a kind and a state");
            let state: Value = serde_json::from_str(state).expect("the state is JSON");
            assert_eq!(state["id"], "c1");
            assert_eq!(state["bundle"], bundle);
            assert_eq!(
                state["pid"].as_i64().expect("a pid") > 0,
                kind != "poststop",
                "{line}"
            );
            let status = match kind {
                "poststart" => "running",
                "poststop" => "stopped",
                _ => "created",
            };
            assert_eq!(state["status"], status, "{line}");
        }
        host.assert_clean();
    }
}

fn rights_are_what_the_bundle_says(host: &Host) {
    let script = "grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status; ulimit -c; ulimit -Hn; ulimit -Sn; cat /proc/self/oom_score_adj";
    let rights = |spec: &mut Value| {
        spec["process"]["user"] = json!({"uid": 5, "gid": 6, "additionalGids": [9, 7, 9]});
        spec["process"]["noNewPrivileges"] = json!(false);
        spec["process"]["oomScoreAdj"] = json!(123);
        spec["process"]["rlimits"] = json!([
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_NOFILE", "soft": 70, "hard": 80},
        ]);
        // Five sets, five values: 1 << 0 is CHOWN, 1 << 5 KILL, 1 << 10 NET_BIND_SERVICE, 1 << 13 NET_RAW.
        spec["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "effective": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"],
            "ambient": ["CAP_CHOWN"],
        });
    };
    let bundle = changed(host, "rights", script, rights);
    // What the program gets by exec: the ambient set becomes permitted and effective (capabilities(7)).
    let wanted = "Groups:\t7 9 \nCapInh:\t0000000000000401\nCapPrm:\t0000000000000001\nCapEff:\t0000000000000001\n\
                  CapBnd:\t0000000000002421\nCapAmb:\t0000000000000001\nNoNewPrivs:\t0\n0\n80\n70\n123\n";
    assert_eq!(host.tincan(["run", "--bundle", &bundle, "c1"]).ok(), wanted);
}

fn devices_and_paths_are_what_the_bundle_says(host: &Host) {
    let script = "stat -c '%F %a %u:%g %t:%T' /dev/mine /dev/pipe /dev/null; head -c1 /dev/mine | wc -c; \
                  head -c1 /dev/closed 2>/dev/null || echo closed; \
                  cat /masked/file | wc -c; ls /masked/dir | wc -l; touch /frozen/x 2>/dev/null || echo frozen; \
                  touch /free/x && echo free; for l in fd stdin ptmx; do readlink /dev/$l; done";
    let bundle = changed(host, "devices", script, |spec| {
        spec["root"]["readonly"] = json!(false);
        spec["linux"]["devices"] = json!([
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o644, "uid": 3, "gid": 4},
            {"path": "/dev/closed", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
        ]);
        let rules = &mut spec["linux"]["resources"]["devices"];
        let rule = |allow: bool, minor: u32| json!({"allow": allow, "type": "c", "major": 1, "minor": minor, "access": "rwm"});
        *rules = json!([{"allow": false, "access": "rwm"}, rule(true, 5), rule(true, 3)]);
        spec["linux"]["maskedPaths"] = json!(["/masked/file", "/masked/dir", "/masked/none"]);
        spec["linux"]["readonlyPaths"] = json!(["/frozen", "/none"]);
    });
    host.sh(&format!(
        "cd {bundle}/rootfs && mkdir -p masked/dir frozen free && echo secret | tee masked/file masked/dir/file"
    ));
    let wanted = "character special file 644 3:4 1:5\nfifo 600 0:0 0:0\ncharacter special file 666 0:0 1:3\n1\nclosed\n\
                  0\n0\nfrozen\nfree\n/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n";
    assert_eq!(host.tincan(["run", "--bundle", &bundle, "c1"]).ok(), wanted);
}

fn a_device_is_used_as_its_rule_says(host: &Host) {
    // Of a number that no driver has: what is allowed fails all the same, for another reason.
    let script = "true </dev/mine; true >/dev/mine; true </dev/other; exit 3";
    let bundle = changed(host, "rules", script, |spec| {
        let node = |path, minor| json!({"path": path, "type": "c", "major": 240, "minor": minor, "fileMode": 0o666});
        spec["linux"]["devices"] = json!([node("/dev/mine", 77), node("/dev/other", 78)]);
        spec["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 240, "minor": 77, "access": "r"},
        ]);
    });
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).fails(3);
    let why: Vec<&str> = said
        .lines()
        .filter_map(|line| line.rsplit(": ").next())
        .collect();
    let driverless = "No such device or address";
    assert_eq!(
        why,
        [driverless, "Operation not permitted", driverless],
        "{said}"
    );
}

fn what_is_mounted_on_a_device_stays(host: &Host) {
    let script = "stat -c %t:%T /dev/random";
    let bundle = changed(host, "mounted", script, |spec| {
        let mount = json!({"destination": "/dev/random", "type": "bind", "source": "/dev/urandom", "options": ["bind"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).ok();
    assert_eq!(said, "1:9\n");
}

fn a_limit_of_0_processes_is_none_in_a_bundle_of_before_1_3(host: &Host) {
    for (version, said) in [("1.0.2-dev", "max"), ("1.3.0", "1")] {
        let name = format!("pids-{version}");
        let bundle = changed(host, &name, "sleep 1000", |spec| {
            spec["ociVersion"] = json!(version);
            spec["linux"]["resources"]["pids"] = json!({"limit": 0});
        });
        apart(host, &format!("run --detach --bundle {bundle} c1"));
        let limit = host.sh("cat $(find /sys/fs/cgroup -path '*/c1/pids.max')");
        assert_eq!(limit.trim(), said, "{version}");
        host.tincan(["delete", "--force", "c1"]).ok();
    }
}

fn limits_as_podman_asks_for_them(host: &Host) {
    // `podman run --memory 64m --memory-swap 64m --cpus 0.5 --cpu-shares 512 --pids-limit 50 --cpuset-cpus 0`, by its config.json.
    let bundle = changed(host, "podman", "sleep 1000", |spec| {
        spec["linux"]["cgroupsPath"] = json!("/libpod_parent/libpod-1");
        spec["linux"]["resources"] = json!({
            "devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
            ],
            "memory": {"limit": 67_108_864, "swap": 67_108_864},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"},
            "pids": {"limit": 50},
        });
    });
    apart(host, &format!("run --detach --bundle {bundle} c1"));
    let read = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("-name {name}")).collect();
        let names = names.join(" -o ");
        host.sh(&format!(
            "cat $(find /sys/fs/cgroup -path '*libpod_parent/libpod-1/*' '(' {names} ')')"
        ))
    };
    let found = [
        read(&["memory.limit_in_bytes", "memory.max"]),
        read(&["pids.max"]),
        read(&["cpuset.cpus"]),
        read(&["cpu.shares", "cpu.weight"]),
    ];
    let quota = read(&["cpu.cfs_quota_us", "cpu.max"]);
    host.tincan(["delete", "--force", "c1"]).ok();
    // 512 shares of v1 are 59 of v2's weight (runc's curve, since its 1.4).
    let shares = found[3].trim();
    assert!(shares == "512" || shares == "59", "{shares}");
    assert_eq!(&found[..3], ["67108864\n", "50\n", "0\n"]);
    assert!(quota.starts_with("50000"), "{quota}");
    // What podman made the parent for stays; nobody else does here.
    host.sh("for d in $(find /sys/fs/cgroup -name libpod_parent); do rmdir $d; done");
}

/// The container's first process has tincan's own descriptors open when it is given the limit, with v1 once one for each hierarchy.
fn a_low_limit_of_open_files_is_for_the_process_alone(host: &Host) {
    let bundle = changed(host, "few", "ulimit -n", |spec| {
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 6, "hard": 6}]);
    });
    assert_eq!(host.tincan(["run", "--bundle", &bundle, "c1"]).ok(), "6\n");
    apart(host, &format!("create --bundle {bundle} c1"));
    let said = host.tincan(["exec", "c1", "sh", "-c", "ulimit -n"]).ok();
    assert_eq!(said, "6\n");
    host.tincan(["start", "c1"]).ok();
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn home_and_directory_are_the_users(host: &Host) {
    let look = |name: &str, script: &str, env: Value| {
        let bundle = changed(host, name, script, |spec| {
            spec["process"]["user"] = json!({"uid": 5, "gid": 6});
            spec["process"]["env"] = env;
            spec["process"]["cwd"] = json!("/closed/in");
            // Root without its rights over files is no more than another user.
            spec["process"]["capabilities"] = json!({});
        });
        host.sh(&format!(
            "cd {bundle}/rootfs && mkdir -p closed/in etc && chown -R 5:6 closed && chmod 700 closed && \
             echo me:x:5:6::/home/me:/bin/sh >etc/passwd"
        ));
        host.tincan(["run", "--bundle", &bundle, "c1"]).ok()
    };
    let path = "PATH=/bin";
    assert_eq!(
        look("from-passwd", "echo $HOME; pwd", json!([path])),
        "/home/me\n/closed/in\n"
    );
    assert_eq!(look("own", "echo $HOME", json!([path, "HOME=/h"])), "/h\n");
    assert_eq!(
        look("empty", "echo $HOME", json!([path, "HOME="])),
        "/home/me\n"
    );
    let unknown = changed(host, "unknown", "echo $HOME", |spec| {
        spec["process"]["user"] = json!({"uid": 4242, "gid": 0});
    });
    host.sh(&format!("mkdir -p {unknown}/rootfs/etc && rm -f {unknown}/rootfs/etc/passwd && mkfifo {unknown}/rootfs/etc/passwd"));
    assert_eq!(host.tincan(["run", "--bundle", &unknown, "c1"]).ok(), "/\n");
}

/// The directory is tried before the user is set, and again after it: by its owner and mode one of them alone may enter it, and
/// root here is without the right to enter it all the same (capabilities(7), CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH).
fn a_directory_for_root_or_for_the_user_alone_will_do(host: &Host) {
    let weak = |line: &str| {
        let set = "--bounding-set=-dac_override,-dac_read_search";
        let line = format!("exec setpriv {set} {} {line}", Host::TINCAN);
        host.command("sh", ["-c", &line])
    };
    let bundle = |name: &str, cwd: &str, script: &str| {
        let bundle = changed(host, name, script, |spec| {
            spec["process"]["user"] = json!({"uid": 5, "gid": 6});
            spec["process"]["cwd"] = json!(cwd);
        });
        host.sh(&format!(
            "cd {bundle}/rootfs && mkdir -m 700 roots users others && chown 5:6 users && chown 7:8 others"
        ));
        bundle
    };
    let look = "id -u; readlink /proc/self/cwd";
    let still = bundle("still", "/", "sleep 1000");
    apart(host, &format!("run --detach --bundle {still} c2"));
    for (cwd, enters) in [("/users", true), ("/roots", true), ("/others", false)] {
        let bundle = bundle(&cwd[1..], cwd, look);
        for command in [
            format!("run --bundle {bundle} c1"),
            format!("exec --cwd {cwd} c2 sh -c '{look}'"),
        ] {
            if enters {
                assert_eq!(weak(&command).ok(), format!("5\n{cwd}\n"), "{command}");
            } else {
                let said = weak(&command).fails(125);
                let wanted = format!("change to the directory {cwd}: Permission denied");
                assert!(said.contains(&wanted), "{command}: {said}");
            }
        }
    }
    host.tincan(["delete", "--force", "c2"]).ok();
}

/// CVE-2024-21626: a working directory by way of a descriptor that is open while the container is made.
fn a_leaked_descriptor_is_no_way_out(host: &Host) {
    for (name, cwd) in [("plain", "/proc/self/fd/9"), ("linked", "/way/out")] {
        let bundle = changed(host, name, "pwd; ls", |spec| {
            spec["process"]["cwd"] = json!(cwd)
        });
        host.sh(&format!(
            "mkdir {bundle}/rootfs/way && ln -s /proc/self/fd/9 {bundle}/rootfs/way/out"
        ));
        let said = host.sh(&format!(
            "{} run --bundle {bundle} c1 9</ 2>&1 || true",
            Host::TINCAN
        ));
        let wanted =
            format!("tincan: c1: change to the directory {cwd}: Too many levels of symbolic links");
        assert_eq!(said.lines().next(), Some(wanted.as_str()), "{said}");
    }
    let bundle = shell(host, "still", "sleep 1000");
    apart(host, &format!("run --detach --bundle {bundle} c1"));
    let said = host.sh(&format!(
        "{} exec --cwd /proc/self/fd/9 c1 ls 9</ 2>&1 || true",
        Host::TINCAN
    ));
    assert!(said.contains("Too many levels of symbolic links"), "{said}");
    host.tincan(["delete", "--force", "c1"]).ok();
}

/// Without a file system on `/dev`, what an earlier run made there is there.
fn devices_in_the_root_itself_are_there_the_second_time_too(host: &Host) {
    let look = "for d in null zero full random urandom tty; do test -c /dev/$d || echo $d; done; head -c3 /dev/zero | wc -c";
    let bundle = changed(host, "dev", look, |spec| {
        let mounts = spec["mounts"].as_array_mut().expect("a list");
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    });
    for _ in 0..2 {
        let said = host.tincan(["run", "--bundle", &bundle, "c1"]).ok();
        assert_eq!(said, "3\n");
    }
}

fn descriptors_are_kept_on_request_alone(host: &Host) {
    let look =
        "for n in 3 4 5 6 7 8 9; do readlink /proc/self/fd/$n; done; echo $LISTEN_FDS $LISTEN_PID";
    let bundle = changed(host, "kept", &format!("{{ {look}; }} 2>/dev/null"), |_| ());
    host.sh("echo a >a; echo b >b");
    let said = |how: &str| {
        let script = format!(
            "exec 3<a 4<b 5<a; {how} exec {} run --bundle {bundle}",
            Host::TINCAN
        );
        move |options: &str| host.sh(&format!("{script} {options} c1"))
    };
    // In the container those files have no path of its own, but the one they had outside.
    assert_eq!(said("")(""), "\n");
    assert_eq!(said("")("--preserve-fds 2"), "/run/work/a\n/run/work/b\n\n");
    let sockets = said("export LISTEN_FDS=1 LISTEN_PID=$$;");
    assert_eq!(
        sockets("--preserve-fds 1"),
        "/run/work/a\n/run/work/b\n1 1\n"
    );
    let refused = host
        .tincan(["run", "--preserve-fds", "3", "-b", &bundle, "c1"])
        .fails(125);
    assert!(
        refused.contains("--preserve-fds 3: descriptor 3 is not open"),
        "{refused}"
    );
}

fn exec_starts_from_what_was_created(host: &Host) {
    let bundle = changed(host, "created", "sleep 1000", |spec| {
        spec["process"]["user"] = json!({"uid": 5, "gid": 6, "additionalGids": [7]});
        spec["process"]["cwd"] = json!("/tmp");
        spec["process"]["env"] = json!(["PATH=/bin", "WORD=first"]);
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]);
    });
    apart(host, &format!("run --detach --bundle {bundle} c1"));
    host.sh(&format!(
        "sed -i s/first/second/ {bundle}/config.json; grep -q second {bundle}/config.json"
    ));
    let look = "id -u; id -g; id -G; pwd; echo $WORD $HOME; ulimit -n; umask";
    let said = host.tincan(["exec", "c1", "sh", "-c", look]).ok();
    assert_eq!(said, "5\n6\n6 7\n/tmp\nfirst /\n77\n0022\n");
    host.sh(&format!("rm {bundle}/config.json"));
    let said = host
        .tincan(["exec", "-u", "8", "c1", "sh", "-c", "id -u; id -g"])
        .ok();
    assert_eq!(said, "8\n6\n");
    host.tincan(["delete", "--force", "c1"]).ok();
}

/// -1, as 32 bits, means to the kernel that an id stays as it is (setresuid(2)).
fn an_id_that_is_none_is_not_roots(host: &Host) {
    let none = u32::MAX;
    let bundle = changed(host, "none", "id -u", |spec| {
        spec["process"]["user"] = json!({"uid": none, "gid": 7});
    });
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).fails(125);
    let wanted = "tincan: config.json: process.user.uid: is 4294967295, which is no id\n";
    assert_eq!(said, wanted);
    let bundle = shell(host, "some", "sleep 1000");
    apart(host, &format!("run --detach --bundle {bundle} c1"));
    for option in ["-u=4294967295", "-u=7:4294967295", "-g=4294967295"] {
        let said = host.tincan(["exec", option, "c1", "id"]).fails(125);
        assert!(said.contains("4294967295"), "{said}");
    }
    let process = json!({"cwd": "/", "args": ["id"], "user": {"uid": 7, "gid": none}});
    fs::write(host.dir().join("process.json"), process.to_string()).unwrap();
    let said = host.tincan(["exec", "-p", "process.json", "c1"]).fails(125);
    assert_eq!(
        said,
        "tincan: process.json: user.gid: is 4294967295, which is no id\n"
    );
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn exec_takes_runcs_options(host: &Host) {
    let bundle = changed(host, "options", "sleep 1000", |spec| {
        spec["root"]["readonly"] = json!(false);
    });
    apart(host, &format!("run --detach --bundle {bundle} c1"));
    let exec = |args: &[&str]| host.tincan([&["exec"], args].concat()).ok();
    let status = |field: &str| format!("grep {field} /proc/self/status");
    let bounding = status("CapBnd");
    // The template's three are AUDIT_WRITE 29, KILL 5, NET_BIND_SERVICE 10; NET_RAW is 13.
    assert_eq!(
        exec(&["c1", "sh", "-c", &bounding]),
        "CapBnd:\t0000000020000420\n"
    );
    let more = exec(&["--cap", "NET_RAW", "c1", "sh", "-c", &bounding]);
    assert_eq!(more, "CapBnd:\t0000000020002420\n");
    let no_new_privs = status("NoNewPrivs");
    let off = exec(&["--no-new-privs=false", "c1", "sh", "-c", &no_new_privs]);
    assert_eq!(off, "NoNewPrivs:\t0\n");
    assert_eq!(exec(&["-g", "7", "-g", "9", "c1", "id", "-G"]), "0 7 9\n");
    // Between the name and the command an option is ours, after it the command's.
    assert_eq!(exec(&["c1", "--env", "A=b", "sh", "-c", "echo $A"]), "b\n");
    assert_eq!(exec(&["c1", "echo", "-e", "A=b"]), "A=b\n");
    let fds = format!(
        "exec 3<{bundle}/config.json; {} exec --preserve-fds 1 c1 readlink /proc/self/fd/3",
        Host::TINCAN
    );
    assert_eq!(host.sh(&fds), format!("{bundle}/config.json\n"));
    let process =
        json!({"cwd": "/tmp", "args": ["sh", "-c", "pwd; id -u"], "user": {"uid": 9, "gid": 9}});
    std::fs::write(host.dir().join("process.json"), process.to_string()).expect("a file");
    assert_eq!(exec(&["--process", "process.json", "c1"]), "/tmp\n9\n");
    for (args, text) in [
        (
            &["--process", "process.json", "-u", "1", "c1"][..],
            "--user",
        ),
        (&["--cap", "FLY", "c1", "true"], "`FLY` is no capability"),
        (&["--cwd", "tmp", "c1", "true"], "`tmp` is not absolute"),
        (&["-e", "A", "c1", "true"], "`A`"),
        (&["-u", "root", "c1", "true"], "`root`"),
        (
            &["--cwd", "/tmp/none", "c1", "true"],
            "change to the directory /tmp/none: No such file or directory",
        ),
        (&["c1"], "there is no command"),
    ] {
        let said = host.tincan([&["exec"], args].concat()).fails(125);
        assert!(said.contains(text), "{args:?}: {said}");
    }
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn exec_enters_a_cgroup_below(host: &Host) {
    let bundle = changed(host, "below", "sleep 1000", |spec| {
        spec["linux"]["cgroupsPath"] = json!("/tincan/below");
    });
    apart(host, &format!("run --detach --bundle {bundle} c1"));
    host.sh(
        "for d in $(find /sys/fs/cgroup -type d -path '*/tincan/below'); do mkdir $d/sub; for f in cpuset.cpus cpuset.mems; do [ ! -e $d/sub/$f ] || cat $d/$f >$d/sub/$f; done; done",
    );
    let inside = |args: &[&str]| {
        let look = [
            "c1",
            "sh",
            "-c",
            "grep -cE '(tincan/below|:)/sub$' /proc/self/cgroup",
        ];
        host.tincan([&["exec"], args, &look].concat())
    };
    let all: u32 = inside(&["--cgroup", "/sub"])
        .ok()
        .trim()
        .parse()
        .expect("a number");
    assert!(all > 0);
    inside(&[]).fails(1);
    let v1 = std::path::Path::new("/sys/fs/cgroup/pids").exists();
    if v1 {
        assert_eq!(inside(&["--cgroup", "pids:sub"]).ok(), "1\n");
    }
    for (asked, text) in [
        ("..", "names no cgroup below the container's"),
        ("moon:/sub", "names no cgroup below the container's"),
        ("/none", "/tincan/below/none"),
    ] {
        let said = inside(&["--cgroup", asked]).fails(125);
        assert!(said.contains(text), "{asked}: {said}");
    }
    host.tincan(["delete", "--force", "c1"]).ok();
}

/// The files by which a container's processes are frozen by hand, with the words for frozen and thawed: one in v1, one in v2,
/// or both.
fn freezers(host: &Host, id: &str) -> Vec<(std::path::PathBuf, &'static str, &'static str)> {
    let mut found = Vec::new();
    for (file, frozen, thawed) in [
        ("freezer.state", "FROZEN", "THAWED"),
        ("cgroup.freeze", "1", "0"),
    ] {
        let find = format!("find /sys/fs/cgroup -path '*/tincan/{id}/{file}'");
        let paths = host.sh(&find);
        found.extend(paths.lines().map(|path| (path.into(), frozen, thawed)));
    }
    assert!(!found.is_empty(), "no freezer for {id}");
    found
}

/// It would come up to its cgroup, and no further.
fn a_frozen_cgroup_takes_no_container(host: &Host) {
    let [first, second] = ["ice-1", "ice-2"].map(|name| shell(host, name, "sleep 1000"));
    apart(host, &format!("run --detach --bundle {first} c1"));
    for (file, frozen, thawed) in freezers(host, "c1") {
        // That above both.
        let above = file.ancestors().nth(2).expect("a cgroup above");
        let file = above.join(file.file_name().expect("a file"));
        std::fs::write(&file, frozen).expect("the cgroup freezes");
        let refused = host.tincan(["run", "--bundle", &second, "c2"]).assert();
        // Before anything else: what is frozen could not be cleared away.
        std::fs::write(&file, thawed).expect("the cgroup thaws");
        let output = refused.code(125).get_output().clone();
        let wanted = format!(
            "tincan: c2: the cgroup {} is frozen: nothing would go on in it\n",
            above.display()
        );
        assert_eq!(String::from_utf8_lossy(&output.stderr), wanted);
    }
    apart(host, &format!("run --detach --bundle {second} c2"));
    for name in ["c1", "c2"] {
        host.tincan(["delete", "--force", name]).ok();
    }
}

fn a_paused_container_is_entered_on_request_alone(host: &Host) {
    let bundle = shell(host, "paused", "sleep 1000");
    apart(host, &format!("run --detach --bundle {bundle} c1"));
    for (file, frozen, thawed) in freezers(host, "c1") {
        std::fs::write(&file, frozen).expect("the cgroup freezes");
        assert_eq!(status(host, "c1"), "paused");
        let said = host.tincan(["exec", "c1", "true"]).fails(125);
        let wanted = "tincan: c1: cannot exec in a paused container\nhint: --ignore-paused ";
        assert!(said.starts_with(wanted), "{said}");
        let said = host.tincan(["delete", "c1"]).fails(125);
        assert!(
            said.contains("cannot delete a container that is paused"),
            "{said}"
        );
        let mut child = host
            .tincan(["exec", "--ignore-paused", "c1", "sh", "-c", "exit 3"])
            .spawn();
        host.wait_until("its process is in the frozen cgroup", || {
            let processes = std::fs::read_to_string(file.with_file_name("cgroup.procs"));
            processes.expect("the cgroup's processes").lines().count() > 1
        });
        assert_eq!(child.try_wait().expect("a child of ours"), None);
        std::fs::write(&file, thawed).expect("the cgroup thaws");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert_eq!(status(host, "c1"), "running");
    }
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn a_paused_container_can_be_killed(host: &Host) {
    let bundle = shell(host, "paused", "sleep 1000");
    let kinds = {
        apart(host, &format!("run --detach --bundle {bundle} c1"));
        let kinds = freezers(host, "c1").len();
        host.tincan(["delete", "--force", "c1"]).ok();
        kinds
    };
    for kind in 0..kinds {
        for command in [
            &["kill", "c1", "KILL"][..],
            &["kill", "--all", "c1", "KILL"],
            &["delete", "--force", "c1"],
        ] {
            apart(host, &format!("run --detach --bundle {bundle} c1"));
            let (file, frozen, _) = freezers(host, "c1").swap_remove(kind);
            std::fs::write(&file, frozen).expect("the cgroup freezes");
            host.tincan(command).ok();
            if command[0] == "kill" {
                host.wait_until("the container is stopped", || {
                    status(host, "c1") == "stopped"
                });
                host.tincan(["delete", "c1"]).ok();
            }
            host.assert_clean();
        }
    }
}

fn a_commands_container_is_entered_as_it_is(host: &Host) {
    let run = |options: &str| {
        let there = format!(
            "cd /usr && WORD=tin {} run -d --name c1 {options} -- sleep 1000",
            Host::TINCAN
        );
        host.sh(&there);
    };
    let look = "pwd; echo $WORD; grep CapEff /proc/self/status; readlink /proc/1/cwd";
    run("");
    let own = host.sh("grep CapEff /proc/self/status");
    let said = host.tincan(["exec", "c1", "sh", "-c", look]).ok();
    assert_eq!(said, format!("/usr\ntin\n{own}/usr\n"));
    host.tincan(["delete", "--force", "c1"]).ok();
    run(&format!("--rootfs {}", host.busybox_rootfs().display()));
    let said = host.tincan(["exec", "c1", "sh", "-c", look]).ok();
    let first = host
        .tincan(["exec", "c1", "grep", "CapEff", "/proc/1/status"])
        .ok();
    assert_eq!(said, format!("/\n\n{first}/\n"));
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn signals_have_names_and_numbers(host: &Host) {
    let script = "for s in USR1 USR2 HUP 34 64; do trap \"echo $s >>/tmp/log\" $s; done; touch /tmp/ready; while :; do sleep 0.05; done";
    let bundle = changed(host, "signals", script, |spec| {
        spec["root"]["readonly"] = json!(false)
    });
    host.sh(&format!("mkdir -p {bundle}/rootfs/tmp"));
    apart(host, &format!("run --detach --bundle {bundle} c1"));
    let file = |name: &str| std::path::Path::new(&bundle).join("rootfs/tmp").join(name);
    host.wait_until("it is ready", || file("ready").exists());
    for (count, signal) in ["USR1", "sigusr2", "1", "SIGRTMIN", "SIGRTMAX-0"]
        .into_iter()
        .enumerate()
    {
        host.tincan(["kill", "c1", signal]).ok();
        host.wait_until("the signal has arrived", || {
            std::fs::read_to_string(file("log")).is_ok_and(|log| log.lines().count() == count + 1)
        });
    }
    // Nothing is sent, but whether something could be (kill(2)).
    host.tincan(["kill", "c1", "0"]).ok();
    let log = std::fs::read_to_string(file("log")).expect("the log");
    assert_eq!(log, "USR1\nUSR2\nHUP\n34\n64\n");
    // To every process of it: the shell's sleep as well.
    host.tincan(["kill", "--all", "c1", "KILL"]).ok();
    host.wait_until("the container is stopped", || {
        status(host, "c1") == "stopped"
    });
    let said = host.tincan(["kill", "c1"]).fails(125);
    assert!(
        said.starts_with("tincan: c1: container not running\n"),
        "{said}"
    );
    host.tincan(["delete", "c1"]).ok();
}

/// Docker takes the first two lines apart, and callers of crun look for features behind a plus.
fn the_version_is_told_in_runcs_words(host: &Host) {
    for option in ["--version", "-v"] {
        let said = host.tincan([option]).ok();
        let lines: Vec<&str> = said.lines().collect();
        let [name, commit, spec, features] = lines[..] else {
            panic!("{said}");
        };
        assert_eq!(name, concat!("tincan version ", env!("CARGO_PKG_VERSION")));
        assert!(commit.starts_with("commit: "), "{said}");
        assert_eq!(spec, "spec: 1.3.0");
        assert!(features.split(' ').all(|it| it.starts_with('+')), "{said}");
    }
}

fn a_state_that_cannot_be_read_hides_no_other(host: &Host) {
    let bundle = shell(host, "seen", "sleep 1000");
    apart(host, &format!("create --bundle {bundle} c1"));
    let root = host.state_root();
    let broken = root.join("broken");
    std::fs::create_dir(&broken).expect("a directory of that name is free");
    std::fs::write(broken.join("state.json"), "{").expect("it is ours");
    std::fs::write(root.join("stray"), "").expect("a file of that name is free");
    assert_eq!(host.tincan(["list", "-q"]).ok(), "broken\nc1\n");
    let listed = host.tincan(["list"]).any_stderr().assert().success();
    let told = String::from_utf8_lossy(&listed.get_output().stdout).into_owned();
    assert!(told.contains("c1 ") && !told.contains("stray"), "{told}");
    let said = String::from_utf8_lossy(&listed.get_output().stderr).into_owned();
    let wanted = format!("tincan: {}: ", broken.join("state.json").display());
    assert!(said.starts_with(&wanted), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let said = host.tincan(["state", "stray"]).fails(125);
    assert!(said.contains("container stray does not exist"), "{said}");
    std::fs::remove_dir_all(broken).expect("it is ours");
    std::fs::remove_file(root.join("stray")).expect("it is ours");
    host.tincan(["delete", "-f", "c1"]).ok();
}

fn options_of_all_commands_are_told(host: &Host) {
    let bundle = shell(host, "told", "sleep 1000");
    // Options after the name, as callers of runc give them too.
    apart(
        host,
        &format!("create c1 --bundle {bundle} --no-new-keyring --no-pivot --pid-file pid"),
    );
    assert_eq!(host.tincan(["list", "-q"]).ok(), "c1\n");
    let list: Value =
        serde_json::from_str(&host.tincan(["list", "-f", "json"]).ok()).expect("JSON");
    assert_eq!(list[0]["id"], "c1");
    assert_eq!(list[0]["status"], "created");
    let whose = match is_user() {
        true => host.user("id", ["-un"]).ok(),
        false => "root\n".to_owned(),
    };
    let state = host.tincan(["state", "c1"]).ok();
    for text in [&state, &list.to_string()] {
        assert!(text.contains(whose.trim()), "{text}");
    }
    let keys = state.lines().filter_map(|line| line.split('"').nth(1));
    let keys: Vec<&str> = keys.collect();
    let wanted = [
        "ociVersion",
        "id",
        "pid",
        "status",
        "bundle",
        "rootfs",
        "created",
        "owner",
    ];
    assert_eq!(keys, wanted);
    host.tincan(["delete", "c1", "--force"]).ok();
    host.tincan(["delete", "c1", "-f"]).ok();
    let said = host.tincan(["delete", "c1"]).fails(125);
    assert!(said.contains("container c1 does not exist"), "{said}");
    for (args, text) in [
        (
            &["--cgroup-manager", "disabled", "list"][..],
            "--cgroup-manager disabled: tincan does not do this yet",
        ),
        (
            &["--rootless", "true", "list"],
            "--rootless true: tincan does not do this yet",
        ),
        (&["run", "--keep", "--", "true"], "<ID>"),
        (
            &["run", "--no-pivot", "--", "true"],
            "--no-pivot is for a bundle's container",
        ),
    ] {
        let said = host.tincan(args).fails(125);
        assert!(said.contains(text), "{args:?}: {said}");
    }
    host.tincan(["--cgroup-manager", "cgroupfs", "--rootless", "auto", "list"])
        .ok();
    // An option of older callers.
    host.tincan(["--criu", "/usr/sbin/criu", "list", "-q"]).ok();
    host.tincan([
        "--debug",
        "--log",
        "log",
        "--log-format",
        "json",
        "state",
        "c1",
    ])
    .fails(125);
    let log = std::fs::read_to_string(host.dir().join("log")).expect("the log");
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines[0]["level"], "debug");
    assert_eq!(lines[1]["level"], "error");
    assert_eq!(lines[1]["msg"], "container c1 does not exist");
    // A stopped container stays, if it is told to.
    let bundle = shell(host, "keep", "exit 4");
    host.tincan(["run", "--keep", "--bundle", &bundle, "c2"])
        .fails(4);
    assert_eq!(status(host, "c2"), "stopped");
    host.tincan(["delete", "c2"]).ok();
}

/// As under runc, whose callers read the reason there and not on standard error.
fn the_log_hears_of_a_command_line_that_is_not_right(host: &Host) {
    let log = host.dir().join("log");
    let logged = |args: &[&str]| {
        let _ = std::fs::remove_file(&log);
        let said = host
            .tincan([&["--log", "log", "--log-format", "json"], args].concat())
            .fails(125);
        let text = std::fs::read_to_string(&log).expect("the log");
        let line: Value = serde_json::from_str(&text).expect("one line of JSON");
        assert_eq!(line["level"], "error");
        let message = line["msg"].as_str().expect("a message").to_owned();
        assert!(said.starts_with(&format!("tincan: {message}\n")), "{said}");
        message
    };
    for (args, message) in [
        (
            &["--bogus", "list"][..],
            "unexpected argument '--bogus' found",
        ),
        (&["list", "--bogus"], "unexpected argument '--bogus' found"),
        (&["lst"], "unrecognized subcommand 'lst'"),
        (&["start"], "required arguments were not provided: <ID>"),
        (
            &["kill", "c1", "NONE"],
            "signal `NONE` is no signal of Linux",
        ),
        (&["start", "a/b"], "a/b"),
        (&["exec", "--cgroup"], "flag needs an argument: --cgroup"),
        (
            &["--cgroup-manager", "disabled", "list"],
            "--cgroup-manager disabled: tincan does not do this yet",
        ),
        (
            &["run"],
            "there is neither a command nor a container's name",
        ),
    ] {
        let said = logged(args);
        assert!(said.contains(message), "{args:?}: {said}");
    }
    // What asks for help is no error.
    std::fs::remove_file(&log).expect("the log");
    host.tincan(["--log", "log", "start", "--help"]).ok();
    assert!(!log.exists());
    let said = host
        .tincan(["--log", "none/log", "list", "--bogus"])
        .fails(125);
    assert!(
        said.contains("tincan: --log none/log: No such file or directory\n"),
        "{said}"
    );
}

/// Standard error is the container's, too: engines show what is on it as the container's own words.
fn warnings_are_for_the_log_where_there_is_one(host: &Host) {
    let warning = "process.capabilities.bounding: CAP_FLY is left out: no such capability is known";
    let bundle = changed(host, "warned", "echo there; sleep 1000", |spec| {
        spec["process"]["capabilities"] = json!({"bounding": ["CAP_FLY"]});
        spec["hooks"]["poststop"] = json!([{"path": "/bin/false"}]);
    });
    let log = host.dir().join("log").display().to_string();
    let logged = |last: &str| {
        let text = fs::read_to_string(&log).expect("the log");
        let line: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!(
            (&line["level"], &line["msg"]),
            (&json!("warning"), &json!(last))
        );
        assert!(line["time"].is_string(), "{line}");
    };
    let globals = format!("--log {log} --log-format json");
    let tincan = Host::TINCAN;
    let run = format!("{tincan} {globals} run -d -b {bundle} c1 </dev/null >out 2>err; cat err");
    assert_eq!(host.sh(&run), "");
    logged(&format!("c1: {warning}"));
    let process = json!({"cwd": "/", "args": ["true"], "capabilities": {"bounding": ["CAP_FLY"]}});
    fs::write(host.dir().join("process.json"), process.to_string()).unwrap();
    let said = host.sh(&format!("{tincan} {globals} exec -p process.json c1 2>&1"));
    assert_eq!(said, "");
    logged(&format!("c1: {warning}"));
    let said = host.sh(&format!("{tincan} {globals} delete -f c1 2>&1"));
    assert_eq!(said, "");
    logged("c1: poststop hook /bin/false: exit status: 1");
    // Without a log they are there all the same.
    let said = host.sh(&format!(
        "{tincan} run -d -b {bundle} c1 </dev/null >out 2>err; cat err; {tincan} delete -f c1 2>/dev/null"
    ));
    assert_eq!(said, format!("tincan: c1: {warning}\n"));
}

fn what_is_of_another_platform_is_refused_by_name(host: &Host) {
    let bundle = changed(host, "windows", "true", |spec| {
        spec["windows"] = json!({"layerFolders": ["a"]});
    });
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).fails(125);
    let refusal = "config.json: windows: is for another platform than Linux";
    assert!(said.contains(refusal), "{said}");
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
    // The template of runc's older versions has ambient capabilities that are not inheritable; newer ones warn of that as well.
    let run = format!("{} --log log run --bundle {bundle} c1 2>&1", Host::TINCAN);
    assert_eq!(host.sh(&run), "runc\n");
}
