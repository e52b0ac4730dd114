//! `--systemd-cgroup`: scopes of systemd's. What needs systemd is done with the one that is process 1 of this machine, and each
//! container has the test's mark in its name there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::host::{Case, Host, own_mark, tests};

pub fn tests() -> Vec<Case> {
    tests![
        without_systemd_that_is_told needs [Root],
        a_dry_run_shows_the_scope needs [Root],
        a_path_that_is_no_unit_is_refused needs [Root],
        who_is_no_systemd_is_told needs [Root],
        a_systemd_that_does_not_answer_is_left_when_asked needs [Root],
        a_scope_has_the_limits needs [Root, Systemd],
        a_bundle_says_slice_and_unit needs [Root, Systemd],
        annotations_are_properties needs [Root, Systemd],
        what_runs_in_the_foreground_takes_its_scope_along needs [Root, Systemd],
        a_processs_descendants_go_with_the_scope needs [Root, Systemd],
        a_unit_of_somebody_else_stays needs [Root, Systemd],
        a_unit_that_was_stopped_is_deleted needs [Root, Systemd],
        a_property_that_systemd_does_not_know_is_told needs [Root, Systemd],
        a_name_is_free_at_once needs [Root, Systemd],
        the_bus_does_as_well needs [Root, Systemd],
        a_user_has_scopes_of_the_users_systemd needs [Root, Systemd],
    ]
}

/// A bundle that sleeps.
fn bundle(host: &Host, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    host.bundle(name, |spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
        change(spec);
    })
}

/// A name that no other test's container has.
fn named(name: &str) -> String {
    format!("{name}{}", own_mark())
}

/// Creates a container, whose process does not keep our pipes.
fn create(host: &Host, bundle: &Path, name: &str) {
    let tincan = Host::TINCAN;
    let bundle = bundle.display();
    host.sh(&format!(
        "{tincan} --systemd-cgroup create -b {bundle} {name} >/dev/null 2>said || {{ cat said; exit 1; }}"
    ));
}

fn is_active(host: &Host, unit: &str) -> bool {
    host.sh(&format!("systemctl is-active {unit} || true")) == "active\n"
}

/// A property of a unit.
fn show(host: &Host, unit: &str, property: &str) -> String {
    let line = host
        .command("systemctl", ["show", "--value", "-p", property, unit])
        .ok();
    line.trim_end().to_owned()
}

/// Whether this machine has v2 alone.
fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn state(host: &Host, name: &str) -> Value {
    serde_json::from_str(&host.tincan(["state", name]).ok()).expect("JSON")
}

fn without_systemd_that_is_told(host: &Host) {
    let bundle = bundle(host, "b", |_| {});
    let bundle = bundle.to_str().expect("text");
    for options in [&["--systemd-cgroup"][..], &["--cgroup-manager", "systemd"]] {
        for verb in ["create", "run"] {
            let args = [options, &[verb, "-b", bundle, "c1"]].concat();
            let said = host.tincan(args).fails(125);
            assert_eq!(
                said,
                "tincan: c1: no systemd answers at /run/dbus/system_bus_socket: No such file or directory\n\
                 hint: where systemd is not process 1, leave --systemd-cgroup out: tincan makes cgroups itself\n"
            );
            host.assert_clean();
        }
    }
}

fn a_dry_run_shows_the_scope(host: &Host) {
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().expect("text");
    let run = [
        "--systemd-cgroup",
        "run",
        "--dry-run",
        "--name",
        "c1",
        "--rootfs",
        rootfs,
    ];
    let said = host.tincan(run.iter().chain(&["--", "true"])).ok();
    let steps: Vec<&str> = said.lines().collect();
    let scope = "# tincan: c1: start the scope tincan-c1.scope in system.slice with Delegate=yes DefaultDependencies=no ";
    let at = |wanted: &str| {
        let at = steps.iter().position(|step| step.starts_with(wanted));
        at.unwrap_or_else(|| panic!("no `{wanted}` in {said}"))
    };
    assert!(at("# tincan: c1: record the process") < at(scope));
    assert!(at(scope) < at("# tincan: c1: open the gate `cgroup`"));
    assert_eq!(
        at("# c1: wait at the gate `cgroup`") + 1,
        at("# c1: make a new ").min(at("# c1: start a session"))
    );
    let json = host
        .tincan(run.iter().chain(&["--format", "json", "--", "true"]))
        .ok();
    let plan: Value = serde_json::from_str(&json).expect("JSON");
    let scope = &plan["topology"]["nodes"][0]["cgroup"]["scope"];
    assert_eq!(
        (&scope["unit"], &scope["manager"]),
        (&json!("tincan-c1.scope"), &json!("system"))
    );
}

fn a_path_that_is_no_unit_is_refused(host: &Host) {
    let bundle = bundle(host, "b", |spec| {
        spec["linux"]["cgroupsPath"] = json!("/tincan/a")
    });
    let bundle = bundle.to_str().expect("text");
    let said = host
        .tincan(["--systemd-cgroup", "create", "-b", bundle, "c1"])
        .fails(125);
    let why = "linux.cgroupsPath: `/tincan/a` is no `slice:prefix:name`, which systemd needs; a right one is `system.slice:tincan:c1`";
    assert!(said.contains(why), "{said}");
}

/// One who listens where systemd should, and answers each connection with this. Each test has its own machine, and so this
/// thread ends with it.
fn impostor(host: &Host, answer: &'static [u8]) -> String {
    let socket = host.dir().join("impostor");
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut heard = [0; 64];
            let _ = stream.read(&mut heard);
            if answer.ends_with(b"\r\n") {
                // What is sent after the answer finds a closed end.
                let _ = stream.shutdown(std::net::Shutdown::Read);
            }
            let _ = stream.write_all(answer);
            open.push(stream);
        }
    });
    format!("unix:path={}", socket.display())
}

fn who_is_no_systemd_is_told(host: &Host) {
    let bundle = bundle(host, "b", |_| {});
    let bundle = bundle.to_str().expect("text");
    let lines = b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n";
    let garbage: &'static [u8] = Box::leak([&lines[..], &[0xff; 64]].concat().into_boxed_slice());
    for (answer, why) in [
        (&b"REJECTED ANONYMOUS\r\n"[..], "it does not let us in"),
        (&lines[..], "Broken pipe"),
        (garbage, "what it says is no D-Bus"),
    ] {
        let address = impostor(host, answer);
        // The last place that is looked at is told: so there is to be none but this.
        for place in ["/run/systemd/private", "/run/dbus/system_bus_socket"] {
            let place = Path::new(place);
            fs::create_dir_all(place.parent().expect("a directory")).expect("a directory");
            let _ = fs::remove_file(place);
            std::os::unix::fs::symlink(host.dir().join("impostor"), place).expect("a link");
        }
        let run = host.tincan(["--systemd-cgroup", "run", "-b", bundle, "c1"]);
        let said = run.env("DBUS_SYSTEM_BUS_ADDRESS", address).fails(125);
        let first = said.lines().next().expect("a line");
        assert_eq!(
            first,
            format!("tincan: c1: no systemd answers at /run/dbus/system_bus_socket: {why}")
        );
        host.assert_clean();
    }
}

fn a_systemd_that_does_not_answer_is_left_when_asked(host: &Host) {
    let bundle = bundle(host, "b", |_| {});
    let bundle = bundle.to_str().expect("text");
    let address = impostor(host, b"");
    let run = host.tincan(["--systemd-cgroup", "run", "-b", bundle, "c1"]);
    let child = run.env("DBUS_SYSTEM_BUS_ADDRESS", address).spawn();
    host.wait_until("it has a process, and so waits for systemd", || {
        let state = fs::read_to_string("/run/tincan/c1/state.json").unwrap_or_default();
        serde_json::from_str::<Value>(&state).is_ok_and(|state| !state["process"].is_null())
    });
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("it is there");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), said.as_ref()),
        (Some(143), "tincan: c1: interrupted by SIGTERM\n")
    );
}

fn a_scope_has_the_limits(host: &Host) {
    let name = named("limits");
    let bundle = bundle(host, "b", |spec| {
        spec["linux"]["resources"] = json!({
            "memory": {"limit": 50_003_968},
            "pids": {"limit": 33},
            "cpu": {"shares": 512, "quota": 50_001, "period": 100_000},
        });
    });
    create(host, &bundle, &name);
    let unit = format!("tincan-{name}.scope");
    let (memory, weight) = if is_v2() {
        (("MemoryMax", "memory", "memory.max"), ("CPUWeight", "59"))
    } else {
        (
            ("MemoryLimit", "memory", "memory.limit_in_bytes"),
            ("CPUShares", "512"),
        )
    };
    for (property, value) in [
        (
            "Description",
            format!("tincan container {name} (/run/tincan)").as_str(),
        ),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("CollectMode", "inactive-or-failed"),
        (memory.0, "50003968"),
        ("TasksMax", "33"),
        // What systemd can say, in whole percents; the file has the exact one.
        ("CPUQuotaPerSecUSec", "510ms"),
        weight,
    ] {
        assert_eq!(show(host, &unit, property), value, "{property}");
    }
    let files = |controller: &str| match is_v2() {
        true => format!("/sys/fs/cgroup/system.slice/{unit}"),
        false => format!("/sys/fs/cgroup/{controller}/system.slice/{unit}"),
    };
    let quota = if is_v2() {
        ("cpu.max", "50001 100000\n")
    } else {
        ("cpu.cfs_quota_us", "50001\n")
    };
    let check = |controller: &str, file: &str, value: &str| {
        let file = format!("{}/{file}", files(controller));
        let found = fs::read_to_string(&file).expect(&file);
        assert_eq!(found, value, "{file}");
    };
    check("cpu", quota.0, quota.1);
    // systemd looks at its units anew, and from then on its quota is the one.
    for reloaded in [false, true] {
        if reloaded {
            host.command("systemctl", ["daemon-reload"]).ok();
        }
        check(memory.1, memory.2, "50003968\n");
        check("pids", "pids.max", "33\n");
    }
    let pid = &state(host, &name)["pid"];
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it is there");
    let its = format!("/system.slice/{unit}");
    assert!(cgroup.lines().all(|line| line.ends_with(&its)), "{cgroup}");
    host.tincan(["start", &name]).ok();
    // A process of exec is in it, and devices are limited.
    let seen = host
        .tincan(["exec", &name, "cat", "/proc/self/cgroup"])
        .ok();
    assert!(!seen.contains("session") && !seen.contains("ctl"), "{seen}");
    let script = "mknod /dev/sda b 8 0 && cat /dev/null && cat /dev/sda 2>&1 || true";
    let mut exec = vec!["exec", "--cap", "CAP_MKNOD", &name];
    exec.extend(["sh", "-c", script]);
    let said = host.tincan(exec).ok();
    assert_eq!(
        said,
        "cat: can't open '/dev/sda': Operation not permitted\n"
    );
    // Other limits are systemd's as well.
    let update = [
        "update",
        "--memory",
        "62914560",
        "--pids-limit",
        "44",
        &name,
    ];
    host.tincan(update).ok();
    for reloaded in [false, true] {
        if reloaded {
            host.command("systemctl", ["daemon-reload"]).ok();
        }
        check(memory.1, memory.2, "62914560\n");
        check("pids", "pids.max", "44\n");
    }
    assert_eq!(show(host, &unit, "TasksMax"), "44");
    host.tincan(["kill", &name, "KILL"]).ok();
    host.wait_until("it has stopped", || {
        state(host, &name)["status"] == "stopped"
    });
    host.tincan(["delete", &name]).ok();
    assert!(!is_active(host, &unit));
}

fn a_bundle_says_slice_and_unit(host: &Host) {
    let slice = format!("tincantest{}.slice", std::process::id());
    let bundle = bundle(host, "b", |spec| {
        spec["linux"]["cgroupsPath"] = json!(format!("{slice}:libpod:c{}", own_mark()));
        spec["linux"]["resources"]["unified"] = json!({});
    });
    create(host, &bundle, &named("other"));
    let unit = format!("libpod-c{}.scope", own_mark());
    assert_eq!(show(host, &unit, "Slice"), slice);
    assert_eq!(
        show(host, &unit, "ControlGroup"),
        format!("/{slice}/{unit}")
    );
    host.tincan(["delete", "--force", &named("other")]).ok();
    host.command("systemctl", ["stop", &slice]).ok();
}

fn annotations_are_properties(host: &Host) {
    let name = named("annotated");
    let bundle = bundle(host, "b", |spec| {
        spec["annotations"] = json!({
            "org.systemd.property.TimeoutStopSec": "uint64 7",
            "org.systemd.property.CollectMode": "'inactive'",
            "org.systemd.property.TasksMax": "uint64 44",
        });
    });
    create(host, &bundle, &name);
    let unit = format!("tincan-{name}.scope");
    for (property, value) in [
        ("TimeoutStopUSec", "7s"),
        ("CollectMode", "inactive"),
        ("TasksMax", "44"),
    ] {
        assert_eq!(show(host, &unit, property), value, "{property}");
    }
    host.tincan(["delete", "--force", &name]).ok();
}

fn what_runs_in_the_foreground_takes_its_scope_along(host: &Host) {
    let name = named("front");
    let bundle = host.bundle("b", |spec| {
        let script = "head -1 /proc/1/cgroup >/dev/null; exit 7";
        spec["process"]["args"] = json!(["sh", "-c", script]);
    });
    let bundle = bundle.to_str().expect("text");
    let run = ["--cgroup-manager", "systemd", "run", "-b", bundle, &name];
    let said = host.tincan(run).fails(7);
    assert_eq!(said, "");
    // And a command's container over another root.
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().expect("text");
    let run = [
        "--systemd-cgroup",
        "run",
        "--name",
        &name,
        "--rootfs",
        rootfs,
        "--",
        "cat",
        "/proc/self/cgroup",
    ];
    host.tincan(run).ok();
    assert!(!is_active(host, &format!("tincan-{name}.scope")));
}

fn a_processs_descendants_go_with_the_scope(host: &Host) {
    let name = named("family");
    let bundle = host.bundle("b", |spec| {
        // No pid namespace of its own: nothing but the cgroup holds them together.
        let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.retain(|one| one["type"] != "pid");
        spec["process"]["args"] = json!(["sh", "-c", "trap '' TERM; sleep 1000 & sleep 1001"]);
    });
    create(host, &bundle, &name);
    host.tincan(["start", &name]).ok();
    host.tincan(["delete", "--force", &name]).ok();
}

fn a_unit_of_somebody_else_stays(host: &Host) {
    let name = named("taken");
    let unit = format!("tincan-{name}.scope");
    let mut theirs = host
        .command(
            "systemd-run",
            ["--quiet", "--scope", "--unit", &unit, "sleep", "1000"],
        )
        .spawn();
    host.wait_until("the unit is there", || is_active(host, &unit));
    let bundle = bundle(host, "b", |_| {});
    let bundle = bundle.to_str().expect("text");
    let said = host
        .tincan(["--systemd-cgroup", "run", "-b", bundle, &name])
        .fails(125);
    assert_eq!(
        said,
        format!(
            "tincan: {name}: systemd has a unit {unit} already\n\
             hint: `systemctl status` shows whose it is; `systemctl stop` ends it\n"
        )
    );
    // The undo of one who was killed before systemd refused finds it, and leaves it.
    #[cfg(feature = "faults")]
    {
        let run = host.tincan(["--systemd-cgroup", "run", "-b", bundle, &name]);
        run.env("TINCAN_FAULT", "host:2:kill")
            .assert()
            .interrupted();
        host.tincan(["gc"]).ok();
        assert_eq!(host.tincan(["list", "-q"]).ok(), "");
    }
    assert!(is_active(host, &unit));
    theirs.kill().expect("it is ours");
    theirs.wait().expect("it is ours");
}

fn a_unit_that_was_stopped_is_deleted(host: &Host) {
    let name = named("stopped");
    let bundle = bundle(host, "b", |_| {});
    create(host, &bundle, &name);
    host.tincan(["start", &name]).ok();
    // The first process of a pid namespace is deaf to SIGTERM, and SIGKILL comes after the time to stop.
    host.command(
        "systemctl",
        ["kill", "--signal", "KILL", &format!("tincan-{name}.scope")],
    )
    .ok();
    host.wait_until("it has stopped", || {
        state(host, &name)["status"] == "stopped"
    });
    host.tincan(["delete", &name]).ok();
}

fn a_property_that_systemd_does_not_know_is_told(host: &Host) {
    let name = named("unknown");
    let bundle = bundle(host, "b", |spec| {
        spec["annotations"] = json!({"org.systemd.property.NoSuchThing": "true"});
    });
    let bundle = bundle.to_str().expect("text");
    let said = host
        .tincan(["--systemd-cgroup", "run", "-b", bundle, &name])
        .fails(125);
    let expected = format!("tincan: {name}: start the scope tincan-{name}.scope in system.slice: ");
    assert!(
        said.starts_with(&expected) && said.contains("NoSuchThing"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

fn a_name_is_free_at_once(host: &Host) {
    let name = named("again");
    let bundle = bundle(host, "b", |_| {});
    for _ in 0..8 {
        create(host, &bundle, &name);
        host.tincan(["delete", "--force", &name]).ok();
    }
}

/// What systemd itself listens at is asked first; this is the other way.
fn the_bus_does_as_well(host: &Host) {
    let name = named("bus");
    let bundle = bundle(host, "b", |spec| spec["process"]["args"] = json!(["true"]));
    let bundle = bundle.to_str().expect("text");
    let run = host.tincan(["--systemd-cgroup", "run", "-b", bundle, &name]);
    run.env(
        "DBUS_SYSTEM_BUS_ADDRESS",
        "unix:path=/run/dbus/system_bus_socket",
    )
    .ok();
}

/// A user of every machine, whose systemd is started for the test.
const NOBODY: u32 = 65_534;

fn a_user_has_scopes_of_the_users_systemd(host: &Host) {
    let name = named("user");
    let unit = format!("tincan-{name}.scope");
    let manager = format!("user@{NOBODY}.service");
    let bundle = bundle(host, "b", |spec| {
        spec["linux"]["resources"] =
            json!({"memory": {"limit": 50_003_968}, "pids": {"limit": 33}});
    });
    host.command("systemctl", ["start", &manager]).ok();
    // The directory of the build may be closed to others.
    let tincan = host.dir().join("tincan");
    fs::copy(Host::TINCAN, &tincan).expect("a copy");
    fs::set_permissions(&tincan, fs::Permissions::from_mode(0o755)).expect("ours");
    let runtime = format!("/run/user/{NOBODY}");
    let as_user = |script: &str| {
        host.sh(&format!(
            "cd /; setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups env -i PATH=$PATH XDG_RUNTIME_DIR={runtime} \
             sh -euc '{script}'"
        ))
    };
    let (tincan, bundle) = (tincan.display(), bundle.display());
    as_user(&format!(
        "{tincan} --systemd-cgroup create -b {bundle} {name} >/dev/null 2>{runtime}/said || {{ cat {runtime}/said; exit 1; }}"
    ));
    let shown = as_user(&format!(
        "cat {runtime}/said; systemctl --user show {unit} -p MemoryMax,TasksMax,ControlGroup,ActiveState"
    ));
    let root = format!("/user.slice/user-{NOBODY}.slice/user@{NOBODY}.service/user.slice");
    let path = format!("ControlGroup={root}/{unit}");
    let mut lines = vec![path.as_str(), "ActiveState=active"];
    if is_v2() {
        lines.extend(["MemoryMax=50003968", "TasksMax=33"]);
        let limit = format!("/sys/fs/cgroup{root}/{unit}/pids.max");
        assert_eq!(fs::read_to_string(limit).expect("the cgroup"), "33\n");
    } else {
        // No part of v1 is a user's.
        lines.extend(["MemoryMax=infinity"]);
        assert!(
            shown.contains("goes without linux.resources.memory.limit, "),
            "{shown}"
        );
    }
    for line in lines {
        assert!(shown.lines().any(|one| one == line), "{line} in {shown}");
    }
    // We are not in a cgroup of this user's, and so only systemd can move a process into that of the container.
    let seen = as_user(&format!(
        "{tincan} start {name}; {tincan} exec {name} cat /proc/self/cgroup; {tincan} delete --force {name}"
    ));
    assert!(!is_v2() || seen == "0::/\n", "{seen}");
    let left = as_user(&format!("systemctl --user is-active {unit} || true"));
    assert_eq!(left, "inactive\n");
    host.command("systemctl", ["stop", &manager]).ok();
}
