//! Attacks on tincan by what it runs. Each must fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::host::{Case, Host, tests};

/// The tests of this file.
pub fn tests() -> Vec<Case> {
    tests![
        the_binary_is_not_executed_as_the_workload,
        the_binary_cannot_be_overwritten_during_exec,
        the_binary_cannot_be_overwritten_by_a_sibling,
        an_own_copy_of_the_binary_is_a_program_like_any,
    ]
}

/// A copy of tincan, so that an attack that succeeds spoils nothing else, and what it is made of.
fn victim(host: &Host) -> (String, Vec<u8>) {
    let path = host.dir().join("victim");
    fs::copy(Host::TINCAN, &path).expect("a copy");
    let bytes = fs::read(&path).expect("the copy");
    (path.display().to_string(), bytes)
}

/// What a dynamic tincan needs to run in there, as an attacker would provide it.
fn provide_libraries(host: &Host, rootfs: &str) {
    host.sh(&format!(
        "for l in $(ldd {} | grep -o '/[^ ]*'); do mkdir -p {rootfs}$(dirname $l); cp -L $l {rootfs}$l; done",
        Host::TINCAN
    ));
}

fn bundle(host: &Host, name: &str, change: impl FnOnce(&mut Value)) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["root"]["readonly"] = json!(false);
        change(spec);
    });
    bundle.display().to_string()
}

fn executable(path: &str, text: &str) {
    fs::write(path, text).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

fn the_binary_is_not_executed_as_the_workload(host: &Host) {
    for (name, program) in [
        ("direct", "/proc/self/exe"),
        ("linked", "/evil"),
        ("script", "/script"),
        ("searched", "evil"),
    ] {
        let bundle = bundle(host, name, |spec| {
            spec["process"]["args"] = json!([program, "list"]);
            spec["process"]["env"] = json!(["PATH=/"]);
        });
        host.sh(&format!("ln -s /proc/self/exe {bundle}/rootfs/evil"));
        executable(&format!("{bundle}/rootfs/script"), "#!/evil\n");
        let said = host.tincan(["run", "--bundle", &bundle, "c1"]).fails(126);
        let wanted = format!("tincan: c1: exec: \"{program}\": Operation not permitted\n");
        assert_eq!(said, wanted);
    }
}

/// A program of the container looks for a process of tincan, keeps its binary open until nobody executes it any more, and
/// writes to it. It may look into every process (CAP_SYS_PTRACE), which containers usually may not.
const ATTACK: &str = "own=$(stat -Lc %i /proc/self/exe); while :; do for p in /proc/[0-9]*; do \
    case $(stat -Lc %i $p/exe) in $own|'') ;; *) command exec 9<$p/exe && break 2;; esac; done; done; \
    touch /caught; until [ -e /over ]; do sleep 0.05; done; \
    { echo pwned >/proc/self/fd/9; } 2>/result || :; echo done >>/result; exec sleep 1000";

fn attacker(spec: &mut Value) {
    let all = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_SYS_PTRACE",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
        "CAP_NET_BIND_SERVICE",
    ];
    for set in ["bounding", "effective", "permitted"] {
        spec["process"]["capabilities"][set] = json!(all);
    }
}

/// Waits until the attacker has the binary, ends who executes it, and looks at what the attacker could do.
fn outcome(host: &Host, rootfs: &str, victim: &str, bytes: &[u8], over: impl FnOnce()) {
    let at = |name: &str| Path::new(rootfs).join(name);
    host.wait_until("the attacker has got hold of the binary", || {
        at("caught").exists()
    });
    over();
    host.wait_until("nobody executes the binary", || {
        // What is executed cannot be opened for writing (execve(2), ETXTBSY).
        fs::OpenOptions::new().append(true).open(victim).is_ok()
    });
    fs::write(at("over"), "").expect("a signal to the attacker");
    host.wait_until("the attacker is done", || {
        fs::read_to_string(at("result")).is_ok_and(|text| text.ends_with("done\n"))
    });
    let result = fs::read_to_string(at("result")).expect("what the attacker met");
    assert!(result.contains("Read-only file system"), "{result}");
    assert!(
        fs::read(victim).expect("the binary") == bytes,
        "the binary is overwritten"
    );
}

fn the_binary_cannot_be_overwritten_during_exec(host: &Host) {
    let (victim, bytes) = victim(host);
    let bundle = bundle(host, "during", |spec| {
        attacker(spec);
        spec["process"]["args"] = json!(["sh", "-c", ATTACK]);
    });
    let rootfs = format!("{bundle}/rootfs");
    provide_libraries(host, &rootfs);
    // tincan is executed in the container, and stays there because nobody reads its log.
    host.sh(&format!(
        "ln -s /proc/self/exe {rootfs}/evil; mkfifo {rootfs}/log"
    ));
    host.sh(&format!(
        "{victim} run -d -b {bundle} c1 </dev/null >/dev/null 2>&1"
    ));
    host.sh(&format!(
        "{victim} exec -d --pid-file pid c1 /evil --debug --log /log list </dev/null >/dev/null 2>&1"
    ));
    outcome(host, &rootfs, &victim, &bytes, || {
        host.sh("kill -9 $(cat pid)");
    });
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn the_binary_cannot_be_overwritten_by_a_sibling(host: &Host) {
    let (victim, bytes) = victim(host);
    let watcher = bundle(host, "watcher", |spec| {
        attacker(spec);
        spec["process"]["args"] = json!(["sh", "-c", ATTACK]);
    });
    host.sh(&format!(
        "{victim} run -d -b {watcher} c1 </dev/null >/dev/null 2>&1"
    ));
    let state: Value = serde_json::from_str(&host.tincan(["state", "c1"]).ok()).expect("JSON");
    // Created and held in the process ids of another: that one sees the process, which is tincan still.
    let sibling = bundle(host, "sibling", |spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
        let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.retain(|namespace| namespace["type"] != "pid");
        namespaces.push(json!({"type": "pid", "path": format!("/proc/{}/ns/pid", state["pid"])}));
    });
    host.sh(&format!(
        "{victim} create -b {sibling} c2 </dev/null >/dev/null 2>&1"
    ));
    outcome(host, &format!("{watcher}/rootfs"), &victim, &bytes, || {
        host.tincan(["start", "c2"]).ok();
    });
    host.tincan(["delete", "--force", "c2"]).ok();
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn an_own_copy_of_the_binary_is_a_program_like_any(host: &Host) {
    let bundle = bundle(host, "copy", |spec| {
        spec["process"]["args"] = json!(["/tincan", "--version"]);
        let bind =
            json!({"destination": "/tincan", "source": Host::TINCAN, "options": ["bind", "ro"]});
        spec["mounts"].as_array_mut().expect("a list").push(bind);
    });
    provide_libraries(host, &format!("{bundle}/rootfs"));
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).ok();
    assert!(said.starts_with("tincan "), "{said}");
}
