//! Seccomp filters of bundles: every action, conditions, agents, further processes, and what is kept of profiles.

use std::fs;
use std::io::{IoSliceMut, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

use super::bad_input::refused;
use super::host::{Case, Host, tests};
use super::oci::apart;

pub fn tests() -> Vec<Case> {
    tests![
        a_call_fails_as_the_profile_says,
        conditions_are_on_arguments,
        actions_kill_trap_and_log,
        all_but_what_is_allowed_is_forbidden,
        a_filter_comes_with_new_privileges_or_without,
        further_processes_have_the_filter,
        a_filter_stays_that_of_the_creation,
        a_filter_holds_between_create_and_start,
        an_agent_decides,
        an_agent_decides_for_further_processes,
        an_agent_that_is_not_there_is_told,
        a_profile_is_compiled_once needs [Root],
        a_cache_that_others_can_write_is_not_believed needs [Root],
        a_profile_that_cannot_be_is_told,
    ]
}

/// A bundle that runs this line of shell under this profile.
fn bundle(host: &Host, name: &str, profile: Value, script: &str) -> String {
    changed(host, name, profile, script, |_| ())
}

fn changed(
    host: &Host,
    name: &str,
    profile: Value,
    script: &str,
    change: impl FnOnce(&mut Value),
) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["linux"]["seccomp"] = profile;
        spec["process"]["args"] = json!(["sh", "-c", script]);
        change(spec);
    });
    bundle.display().to_string()
}

/// A profile that allows all but one rule.
fn but(rule: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]})
}

fn a_call_fails_as_the_profile_says(host: &Host) {
    let rule = json!({"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28});
    let script = "mkdir /dev/shm/a; grep -E 'Seccomp:|NoNewPrivs' /proc/self/status; echo $$ >/dev/null && echo on";
    let b = bundle(host, "b", but(rule), script);
    let run = host.tincan(["run", "-b", &b, "c"]).any_stderr().assert();
    let output = run.get_output();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("No space left on device"), "{said}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("Seccomp:\t2") && said.ends_with("on\n"),
        "{said}"
    );
    // Without a number of its own it is EPERM.
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"});
    let b = bundle(host, "d", but(rule), "mkdir /dev/shm/a");
    let said = host.tincan(["run", "-b", &b, "c"]).fails(1);
    assert!(said.contains("Operation not permitted"), "{said}");
}

fn conditions_are_on_arguments(host: &Host) {
    // kill(2) with these signals; of several conditions on one argument any may hold.
    let arg = |index: u32, value: u64, op: &str| json!({"index": index, "value": value, "op": op});
    let signals = [arg(1, 10, "SCMP_CMP_EQ"), arg(1, 12, "SCMP_CMP_EQ")];
    let rule = json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": signals});
    let script =
        "trap : USR1 USR2 HUP; for s in USR1 USR2 HUP; do kill -$s $$ 2>/dev/null && echo $s; done";
    let b = bundle(host, "b", but(rule), script);
    assert_eq!(host.tincan(["run", "-b", &b, "c"]).ok(), "HUP\n");
    // On several arguments all must hold; and a mask picks bits.
    let both = [
        arg(0, 1, "SCMP_CMP_EQ"),
        json!({"index": 1, "value": 8, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}),
    ];
    let rule = json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": both});
    // The shell is process 1; USR1 is 10 and USR2 12, which have the bit, HUP is 1.
    let b = bundle(host, "d", but(rule), script);
    assert_eq!(host.tincan(["run", "-b", &b, "c"]).ok(), "HUP\n");
    let others = "trap : HUP; sleep 9 & kill -USR1 $! && echo sent; kill -HUP $$ && echo own";
    let b = changed(
        host,
        "e",
        but(json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": both})),
        others,
        |_| (),
    );
    assert_eq!(host.tincan(["run", "-b", &b, "c"]).ok(), "sent\nown\n");
}

fn actions_kill_trap_and_log(host: &Host) {
    for (n, (action, script, said)) in [
        (
            "SCMP_ACT_KILL_PROCESS",
            "(mkdir /dev/shm/a); echo $?",
            "159\n",
        ),
        ("SCMP_ACT_KILL", "(mkdir /dev/shm/a); echo $?", "159\n"),
        (
            "SCMP_ACT_KILL_THREAD",
            "(mkdir /dev/shm/a); echo $?",
            "159\n",
        ),
        ("SCMP_ACT_TRAP", "(mkdir /dev/shm/a); echo $?", "159\n"),
        ("SCMP_ACT_LOG", "mkdir /dev/shm/a; echo $?", "0\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let rule = json!({"names": ["mkdir", "mkdirat"], "action": action});
        let b = bundle(host, &format!("b{n}"), but(rule), script);
        let run = host.tincan(["run", "-b", &b, "c"]).any_stderr();
        assert_eq!(run.ok(), said, "{action}");
    }
    // Nobody traces: the call is as if it were not there.
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_TRACE", "errnoRet": 7});
    let b = bundle(host, "t", but(rule), "mkdir /dev/shm/a");
    let said = host.tincan(["run", "-b", &b, "c"]).fails(1);
    assert!(said.contains("Function not implemented"), "{said}");
}

/// What a shell, and tincan's own way to it, takes.
const ALLOWED: [&str; 48] = [
    "accept4",
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clone",
    "clone3",
    "close",
    "dup",
    "dup2",
    "execve",
    "exit",
    "exit_group",
    "fchown",
    "fcntl",
    "fstat",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getrandom",
    "getuid",
    "ioctl",
    "mmap",
    "mprotect",
    "munmap",
    "newfstatat",
    "openat",
    "prctl",
    "prlimit64",
    "read",
    "readlink",
    "recvfrom",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sendmsg",
    "set_robust_list",
    "set_tid_address",
    "setgroups",
    "wait4",
    "write",
];

fn all_but_what_is_allowed_is_forbidden(host: &Host) {
    let more = [
        "rseq",
        "setgid",
        "setuid",
        "setresgid",
        "setresuid",
        "statx",
        "stat",
        "readlinkat",
        "fstatfs",
        "sigaltstack",
        "setsid",
    ];
    let names: Vec<&str> = ALLOWED.into_iter().chain(more).collect();
    let profile = |errno: Option<u32>| {
        let rules = [json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
        let mut profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules});
        if let Some(errno) = errno {
            profile["defaultErrnoRet"] = json!(errno);
        }
        profile
    };
    let b = bundle(host, "b", profile(Some(38)), "echo in; mkdir /dev/shm/a");
    let run = host.tincan(["run", "-b", &b, "c"]).assert().code(1);
    let said = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(said.contains("Function not implemented"), "{said}");
    assert_eq!(String::from_utf8_lossy(&run.get_output().stdout), "in\n");
    let b = bundle(host, "d", profile(None), "mkdir /dev/shm/a");
    let said = host.tincan(["run", "-b", &b, "c"]).fails(1);
    assert!(said.contains("Operation not permitted"), "{said}");
}

fn a_filter_comes_with_new_privileges_or_without(host: &Host) {
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"});
    for (name, no_new_privileges, uid) in [
        ("b1", true, 0),
        ("b2", false, 0),
        ("b3", true, 7),
        ("b4", false, 7),
    ] {
        let b = changed(
            host,
            name,
            but(rule.clone()),
            "id -u; mkdir /dev/shm/a 2>/dev/null || echo no; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status",
            |spec| {
                spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
                spec["process"]["user"] = json!({"uid": uid, "gid": uid});
                spec["process"]["capabilities"] = json!({});
            },
        );
        let said = host.tincan(["run", "-b", &b, "c"]).ok();
        let wanted = format!(
            "{uid}\nno\nCapEff:\t0000000000000000\nNoNewPrivs:\t{}\n",
            u8::from(no_new_privileges)
        );
        assert_eq!(said, wanted, "{name}");
    }
}

fn further_processes_have_the_filter(host: &Host) {
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"});
    let b = bundle(host, "b", but(rule), "sleep 1000");
    apart(host, &format!("run -d -b {b} c"));
    let said = host.tincan(["exec", "c", "mkdir", "/dev/shm/a"]).fails(1);
    assert!(said.contains("Operation not permitted"), "{said}");
    // Root with all capabilities has it, too.
    let status = [
        "exec",
        "--cap",
        "CAP_SYS_ADMIN",
        "c",
        "grep",
        "Seccomp:",
        "/proc/self/status",
    ];
    assert_eq!(host.tincan(status).ok(), "Seccomp:\t2\n");
    host.tincan(["delete", "--force", "c"]).ok();
}

fn a_filter_stays_that_of_the_creation(host: &Host) {
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"});
    let b = bundle(host, "b", but(rule), "sleep 1000");
    apart(host, &format!("run -d -b {b} c"));
    // What the bundle says by now is of no account.
    let config = Path::new(&b).join("config.json");
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    spec["linux"]["seccomp"] = json!(null);
    fs::write(&config, spec.to_string()).unwrap();
    host.tincan(["exec", "c", "mkdir", "/dev/shm/a"]).fails(1);
    host.tincan(["delete", "--force", "c"]).ok();
}

fn a_filter_holds_between_create_and_start(host: &Host) {
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"});
    let script = "mkdir /dev/shm/a 2>/dev/null || echo no >/dev/shm/said; sleep 1000";
    let b = bundle(host, "b", but(rule), script);
    apart(host, &format!("create -b {b} c"));
    host.tincan(["start", "c"]).ok();
    host.wait_until("it has said so", || {
        let said = host
            .tincan(["exec", "c", "cat", "/dev/shm/said"])
            .any_stderr()
            .assert();
        said.get_output().stdout == b"no\n"
    });
    host.tincan(["delete", "--force", "c"]).ok();
}

/// An agent on a socket: it answers each call with this error, and says what it was told of the container.
fn agent(path: &Path, errno: i32) -> mpsc::Receiver<Value> {
    let listener = UnixListener::bind(path).expect("a socket of the test's own");
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (state, fd) = receive(&stream);
            if told.send(state).is_err() {
                return;
            }
            std::thread::spawn(move || answer(&fd, errno));
        }
    });
    heard
}

fn receive(stream: &UnixStream) -> (Value, OwnedFd) {
    let mut bytes = vec![0; 64 * 1024];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let (count, fd) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<()>(
            stream.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::empty(),
        );
        let message = message.expect("tincan speaks");
        let fd = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        (message.bytes, fd.expect("a descriptor"))
    };
    let mut rest = Vec::new();
    let mut stream = stream;
    stream.read_to_end(&mut rest).expect("tincan ends");
    let text = [&bytes[..count], &rest].concat();
    // SAFETY: the descriptor was just received, and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    (serde_json::from_slice(&text).expect("JSON"), fd)
}

/// Answers what comes (seccomp_unotify(2)), until the last process is gone.
fn answer(fd: &OwnedFd, errno: i32) {
    // SECCOMP_IOCTL_NOTIF_RECV and _SEND: structures of 80 and 24 bytes.
    const RECEIVE: libc::c_ulong = 0xc050_2100;
    const SEND: libc::c_ulong = 0xc018_2101;
    loop {
        let mut call = [0_u8; 80];
        // SAFETY: the structure is as long as its number says.
        if unsafe { libc::ioctl(fd.as_raw_fd(), RECEIVE as _, call.as_mut_ptr()) } < 0 {
            return;
        }
        let mut reply = [0_u8; 24];
        reply[..8].copy_from_slice(&call[..8]);
        reply[16..20].copy_from_slice(&(-errno).to_ne_bytes());
        // SAFETY: as above.
        unsafe { libc::ioctl(fd.as_raw_fd(), SEND as _, reply.as_mut_ptr()) };
    }
}

/// A profile that leaves a call to the agent at this socket.
fn left_to(socket: &Path) -> Value {
    let mut profile = but(json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}));
    profile["listenerPath"] = json!(socket);
    profile["listenerMetadata"] = json!("for the agent");
    profile
}

fn an_agent_decides(host: &Host) {
    let socket = host.dir().join("agent");
    let heard = agent(&socket, libc::EDQUOT);
    for (name, no_new_privileges) in [("b1", true), ("b2", false)] {
        let b = changed(host, name, left_to(&socket), "mkdir /dev/shm/a", |spec| {
            spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
            spec["annotations"] = json!({"org.example": "x"});
        });
        let said = host.tincan(["run", "-b", &b, "c"]).fails(1);
        assert!(said.contains("quota exceeded"), "{said}");
        let told = heard.recv().unwrap();
        assert_eq!(told["ociVersion"], "1.3.0");
        assert_eq!(told["fds"], json!(["seccompFd"]));
        assert_eq!(told["metadata"], "for the agent");
        assert!(told["pid"].as_i64().unwrap() > 0);
        assert_eq!(told["state"]["id"], "c");
        assert_eq!(told["state"]["status"], "creating");
        assert_eq!(told["state"]["useSystemd"], false);
        assert_eq!(told["state"]["pid"], told["pid"]);
        assert_eq!(told["state"]["annotations"]["org.example"], "x");
    }
    fs::remove_file(socket).unwrap();
}

fn an_agent_decides_for_further_processes(host: &Host) {
    let socket = host.dir().join("agent");
    let heard = agent(&socket, libc::EDQUOT);
    let b = bundle(host, "b", left_to(&socket), "sleep 1000");
    apart(host, &format!("create -b {b} c"));
    host.tincan(["start", "c"]).ok();
    let first = heard.recv().unwrap();
    let said = host.tincan(["exec", "c", "mkdir", "/dev/shm/a"]).fails(1);
    assert!(said.contains("quota exceeded"), "{said}");
    let told = heard.recv().unwrap();
    assert_eq!(told["state"]["status"], "running");
    assert_eq!(told["state"]["pid"], first["pid"]);
    assert_ne!(told["pid"], first["pid"]);
    host.tincan(["delete", "--force", "c"]).ok();
    fs::remove_file(socket).unwrap();
}

fn an_agent_that_is_not_there_is_told(host: &Host) {
    let socket = host.dir().join("agent");
    let b = bundle(host, "b", left_to(&socket), "true");
    let said = host.tincan(["run", "-b", &b, "c"]).fails(125);
    let wanted = format!(
        "c: hand its seccomp descriptor to the agent at {}: No such file",
        socket.display()
    );
    assert!(said.contains(&wanted), "{said}");
    host.assert_clean();
}

fn kept() -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir("/var/cache/tincan/seccomp")
        .into_iter()
        .flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn a_profile_is_compiled_once(host: &Host) {
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"});
    let b = bundle(
        host,
        "b",
        but(rule),
        "mkdir /dev/shm/a 2>/dev/null || echo no",
    );
    let run = || host.tincan(["run", "-b", &b, "c"]).ok();
    assert_eq!(run(), "no\n");
    let [file] = kept().try_into().unwrap();
    let before = fs::read(&file).unwrap();
    // Another program in it is taken for the profile's: allow all. So it is from there.
    let allow = [6_u8, 0, 0, 0, 0, 0, 0xff, 0x7f];
    let key = before.iter().position(|byte| *byte == 0).unwrap() + 1;
    fs::write(&file, [&before[..key], &allow].concat()).unwrap();
    assert_eq!(run(), "");
    // What is no program, or of another profile, is made again.
    for broken in [&before[..key], &before[..key + 5], &before[1..], b""] {
        fs::write(&file, broken).unwrap();
        assert_eq!(run(), "no\n");
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    // Another profile is another file, and the number of files is bounded.
    for n in 0..70 {
        let rule = json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": n});
        let config = Path::new(&b).join("config.json");
        let mut spec: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
        spec["linux"]["seccomp"] = but(rule);
        fs::write(&config, spec.to_string()).unwrap();
        host.tincan(["run", "-b", &b, "c"]).any_stderr().assert();
    }
    assert_eq!(kept().len(), 64);
}

fn a_cache_that_others_can_write_is_not_believed(host: &Host) {
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"});
    let b = bundle(
        host,
        "b",
        but(rule),
        "mkdir /dev/shm/a 2>/dev/null || echo no",
    );
    let run = || host.tincan(["run", "-b", &b, "c"]).ok();
    run();
    let [file] = kept().try_into().unwrap();
    let good = fs::read(&file).unwrap();
    let key = good.iter().position(|byte| *byte == 0).unwrap() + 1;
    let evil = [&good[..key], &[6_u8, 0, 0, 0, 0, 0, 0xff, 0x7f]].concat();
    // A file that others may write; one of somebody else; a link to one; a directory that others may write.
    let elsewhere = host.dir().join("evil");
    fs::write(&elsewhere, &evil).unwrap();
    let name = file.display();
    for spoil in [
        format!("chmod 666 {name}"),
        format!("chown 1000 {name}"),
        format!("rm {name}; ln -s {} {name}", elsewhere.display()),
        format!("chmod 777 {}", file.parent().unwrap().display()),
    ] {
        host.sh("rm -rf /var/cache/tincan");
        run();
        fs::write(&file, &evil).unwrap();
        assert_eq!(run(), "", "the cache is used before: {spoil}");
        host.sh(&spoil);
        assert_eq!(run(), "no\n", "{spoil}");
    }
}

fn a_profile_that_cannot_be_is_told(host: &Host) {
    for (name, profile, wrong) in [
        (
            "b1",
            but(json!({"names": [], "action": "SCMP_ACT_ERRNO"})),
            "linux.seccomp.syscalls[0].names: names no call",
        ),
        (
            "b2",
            but(json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"})),
            "linux.seccomp.syscalls[0].action",
        ),
        (
            "b3",
            json!({"defaultAction": "SCMP_ACT_NONE"}),
            "linux.seccomp",
        ),
        (
            "b4",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]}),
            "linux.seccomp",
        ),
        // Of the other byte order.
        (
            "b5",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NATIVE", "SCMP_ARCH_S390X"]}),
            "linux.seccomp.architectures[1]: libseccomp ",
        ),
        (
            "b6",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70_000}),
            "linux.seccomp.defaultErrnoRet: is no number of an error",
        ),
    ] {
        let b = bundle(host, name, profile, "true");
        refused(host, &["run", "-b", &b, "c"], wrong);
    }
}
