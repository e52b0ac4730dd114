//! Attacks on tincan by what it runs. Each must fail.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use serde_json::{Value, json};

use crate::host::{Case, Host, tests};

/// The tests of this file.
pub fn tests() -> Vec<Case> {
    tests![
        the_binary_is_not_executed_as_the_workload,
        the_binary_cannot_be_overwritten_during_exec,
        the_binary_cannot_be_overwritten_by_a_sibling,
        an_own_copy_of_the_binary_is_a_program_like_any,
        a_mounts_target_that_is_swapped_leads_nowhere_else,
        a_false_null_device_is_not_shown_for_what_is_masked,
        a_false_console_is_not_mounted_on,
        a_false_proc_gets_no_parameters_and_no_labels,
        what_lies_where_parameters_are_is_not_written_to,
        a_dev_that_leads_out_is_made_inside,
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

/// What a bundle's container and tincan say, whatever comes of it.
fn run(host: &Host, bundle: &str) -> String {
    host.sh(&format!("{} run -b {bundle} c1 2>&1 || true", Host::TINCAN))
}

/// Takes the mounts out of a bundle that are made at these places.
fn without_mounts(spec: &mut Value, at: impl Fn(&Path) -> bool) {
    let mounts = spec["mounts"].as_array_mut().expect("a list");
    mounts.retain(|mount| !at(Path::new(mount["destination"].as_str().expect("a path"))));
}

/// CVE-2021-30465: in a volume that two containers share, the one exchanges a directory for a link while the other's mount on it is made.
fn a_mounts_target_that_is_swapped_leads_nowhere_else(host: &Host) {
    // The link leads to a directory of the host's: a runtime that follows it makes the mount's target there.
    let [volume, outside, inner] = ["volume", "outside", "inner"].map(|name| host.dir().join(name));
    fs::create_dir_all(volume.join("here")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&inner).unwrap();
    symlink(&outside, volume.join("there")).unwrap();
    let bundle = bundle(host, "swapped", |spec| {
        spec["process"]["args"] = json!(["cat", "/proc/self/mountinfo"]);
        let bind = |source: &Path, destination: &str| json!({"destination": destination, "source": source, "options": ["bind"]});
        let mounts = spec["mounts"].as_array_mut().expect("a list");
        mounts.push(bind(&volume, "/volume"));
        mounts.push(bind(&inner, "/volume/here/inner"));
        mounts.push(json!({"destination": "/volume/here/tmp", "type": "tmpfs", "source": "tmpfs"}));
    });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let [here, there] = ["here", "there"].map(|name| volume.join(name));
            while !over.load(Ordering::Relaxed) {
                renameat2(
                    AT_FDCWD,
                    &here,
                    AT_FDCWD,
                    &there,
                    RenameFlags::RENAME_EXCHANGE,
                )
                .unwrap();
            }
        });
        let (mut on_directory, mut on_link) = (0, 0);
        // Until it was met in both states, which are half of the time each, and often enough in between.
        for _ in 0..200 {
            let said = run(host, &bundle);
            let of_inner = said
                .lines()
                .filter_map(|line| line.split(' ').nth(4))
                .find(|at| at.ends_with("/inner"));
            match of_inner {
                Some("/volume/here/inner" | "/volume/there/inner") => on_directory += 1,
                // The link leads to a path of the container's own.
                Some(at) => {
                    assert_eq!(Path::new(at), outside.join("inner"), "{said}");
                    on_link += 1;
                }
                // It was exchanged while the path was made.
                None => assert!(said.starts_with("tincan: c1: "), "{said}"),
            }
            let found: Vec<_> = fs::read_dir(&outside).unwrap().collect();
            assert!(found.is_empty(), "{found:?}");
            if on_directory > 10 && on_link > 10 {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(
            on_directory > 0 && on_link > 0,
            "the attack was not met: {on_directory} {on_link}"
        );
    });
}

/// CVE-2025-31133: what is masked is shown as what the container's `/dev/null` is.
fn a_false_null_device_is_not_shown_for_what_is_masked(host: &Host) {
    let bundle = bundle(host, "masked", |spec| {
        without_mounts(spec, |at| at.starts_with("/dev"));
        spec["process"]["args"] = json!(["cat", "/masked"]);
        spec["linux"]["maskedPaths"] = json!(["/masked"]);
    });
    let rootfs = format!("{bundle}/rootfs");
    fs::write(format!("{rootfs}/masked"), "a secret\n").unwrap();
    fs::write(format!("{rootfs}/evil"), "evil\n").unwrap();
    let null = format!("{rootfs}/dev/null");
    fs::create_dir_all(format!("{rootfs}/dev")).unwrap();
    for make in [
        "ln -s /evil",
        "ln -s /proc/sys/kernel/domainname",
        "cp /proc/version",
        "mkfifo",
        "mkdir",
    ] {
        host.sh(&format!("rm -rf {null}; {make} {null}"));
        let said = run(host, &bundle);
        // It is put right, or refused.
        let is_refused = said.starts_with("tincan: c1: ") && said.contains("/dev/null");
        assert!(said.is_empty() || is_refused, "{make}: {said}");
        assert_eq!(
            fs::read_to_string(format!("{rootfs}/evil")).unwrap(),
            "evil\n"
        );
    }
    // And where it is a device, with something else bound over it.
    let bundle = self::bundle(host, "bound", |spec| {
        spec["process"]["args"] = json!(["cat", "/masked"]);
        spec["linux"]["maskedPaths"] = json!(["/masked"]);
        let bind = json!({"destination": "/dev/null", "source": format!("{rootfs}/evil"), "options": ["bind"]});
        spec["mounts"].as_array_mut().expect("a list").push(bind);
    });
    fs::write(format!("{bundle}/rootfs/masked"), "a secret\n").unwrap();
    let said = host.tincan(["run", "-b", &bundle, "c1"]).fails(125);
    assert!(said.contains("/dev/null"), "{said}");
}

/// CVE-2025-52565: the terminal is mounted on what the container's `/dev/console` leads to.
fn a_false_console_is_not_mounted_on(host: &Host) {
    let bundle = bundle(host, "console", |spec| {
        without_mounts(spec, |at| at == Path::new("/dev"));
        spec["process"]["args"] = json!(["cat", "/proc/self/mountinfo"]);
        spec["process"]["terminal"] = json!(true);
    });
    let rootfs = format!("{bundle}/rootfs");
    fs::create_dir_all(format!("{rootfs}/dev")).unwrap();
    for to in [
        "/proc/sys/kernel/domainname",
        "/evil",
        "../../../../../../etc/hostname",
    ] {
        host.sh(&format!(
            "ln -sf {to} {rootfs}/dev/console; touch {rootfs}/evil"
        ));
        let terminal = nix::pty::openpty(None, None).unwrap();
        let tincan = host.tincan(["run", "-b", &bundle, "c1"]);
        let mut tincan = tincan.spawn_on(&terminal.slave);
        drop(terminal.slave);
        let mut said = Vec::new();
        // The last reader of a terminal hears of its end as an error (EIO).
        let _ = std::io::Read::read_to_end(&mut fs::File::from(terminal.master), &mut said);
        let said = String::from_utf8_lossy(&said);
        assert!(!tincan.wait().unwrap().success(), "{to}: {said}");
        let wanted = "Too many levels of symbolic links";
        assert!(
            said.contains(wanted) && !said.contains(" - devpts "),
            "{to}: {said}"
        );
    }
}

/// CVE-2019-16884, CVE-2025-52881: what the runtime writes for the container goes to files that only look like the kernel's.
fn a_false_proc_gets_no_parameters_and_no_labels(host: &Host) {
    let bundle = bundle(host, "proc", |spec| {
        spec["process"]["args"] = json!([
            "cat",
            "/proc/sys/kernel/domainname",
            "/false/sys/kernel/domainname"
        ]);
        spec["process"]["oomScoreAdj"] = json!(500);
        spec["linux"]["sysctl"] = json!({"kernel.domainname": "inside"});
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    });
    let rootfs = format!("{bundle}/rootfs");
    host.sh(&format!(
        "rm -rf {rootfs}/proc; ln -s /false {rootfs}/proc; mkdir -p {rootfs}/false/sys/kernel {rootfs}/false/self
         echo false | tee {rootfs}/false/sys/kernel/domainname {rootfs}/false/self/oom_score_adj"
    ));
    let said = run(host, &bundle);
    for file in ["sys/kernel/domainname", "self/oom_score_adj"] {
        let kept = fs::read_to_string(format!("{rootfs}/false/{file}")).unwrap();
        assert_eq!(kept, "false\n", "{file}: {said}");
    }
    // Where the procfs is then, the parameter is; or all is refused.
    let is_refused = said.starts_with("tincan: c1: ") && said.contains("/proc");
    assert!(said.starts_with("inside\n") || is_refused, "{said}");
}

/// CVE-2025-52881, by a mount that hides a parameter behind another file: what is given to the one must not reach the other.
fn what_lies_where_parameters_are_is_not_written_to(host: &Host) {
    let victim = host.dir().join("victim");
    fs::write(&victim, "untouched\n").unwrap();
    // Named as it is, which is refused, and by a link, which a bundle cannot be seen to do.
    for (name, destination, refused) in [
        ("named", "/proc/sys/kernel/domainname", true),
        ("linked", "/link/domainname", false),
    ] {
        let bundle = bundle(host, name, |spec| {
            spec["process"]["args"] = json!(["true"]);
            spec["linux"]["sysctl"] = json!({"kernel.domainname": "inside"});
            spec["linux"]["maskedPaths"] = json!([]);
            spec["linux"]["readonlyPaths"] = json!([]);
            let bind = json!({"destination": destination, "source": victim, "options": ["bind"]});
            spec["mounts"].as_array_mut().expect("a list").push(bind);
        });
        symlink("/proc/sys/kernel", format!("{bundle}/rootfs/link")).unwrap();
        let said = run(host, &bundle);
        assert_eq!(said.contains("nothing can be mounted"), refused, "{said}");
        assert_eq!(
            fs::read_to_string(&victim).unwrap(),
            "untouched\n",
            "{said}"
        );
    }
}

/// CVE-2026-41579, CVE-2026-47766: `/dev` of the image leads to a directory of the host's, where the usual devices and links come to be, and
/// `ptmx` is replaced.
fn a_dev_that_leads_out_is_made_inside(host: &Host) {
    let outside = host.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("ptmx"), "the host's\n").unwrap();
    let up = "../".repeat(32);
    for (name, to) in [
        ("absolute", outside.display().to_string()),
        ("relative", format!("{up}{}", outside.display())),
    ] {
        for gone in [
            &[][..],
            &["/dev"],
            &["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"],
        ] {
            let bundle = bundle(host, &format!("{name}{}", gone.len()), |spec| {
                without_mounts(spec, |at| gone.iter().any(|gone| at == Path::new(gone)));
                spec["process"]["args"] = json!(["true"]);
            });
            host.sh(&format!(
                "rm -rf {bundle}/rootfs/dev; ln -s {to} {bundle}/rootfs/dev"
            ));
            let said = run(host, &bundle);
            assert!(
                said.is_empty() || said.starts_with("tincan: c1: "),
                "{said}"
            );
            let found: Vec<_> = fs::read_dir(&outside)
                .unwrap()
                .map(|it| it.unwrap().file_name())
                .collect();
            assert_eq!(found, ["ptmx"], "{said}");
            assert_eq!(
                fs::read_to_string(outside.join("ptmx")).unwrap(),
                "the host's\n"
            );
        }
    }
}
