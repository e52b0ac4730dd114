//! Signals, closed streams and terminals: tincan stands between the caller and the workload, and neither notices.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::host::{Case, Host, tests, tincan};

pub fn tests() -> Vec<Case> {
    tests![
        signals_reach_the_command_of_run,
        signals_reach_the_command_of_pair,
        signals_reach_a_bundles_process,
        signals_reach_the_process_of_exec,
        a_command_that_dies_of_a_signal_is_128_and_its_number,
        a_hanging_hook_is_interrupted,
        a_hanging_poststop_hook_is_interrupted,
        an_ignored_signal_interrupts_nothing,
        a_failing_poststart_hook_leaves_nothing,
        a_pid_file_that_cannot_be_written_leaves_nothing,
        nobody_reads_what_is_printed,
        nobody_reads_the_name_of_a_detached_container,
        nobody_reads_what_the_command_prints,
        the_terminal_follows_the_callers_size,
        a_key_is_a_signal_in_the_container,
        who_has_just_begun_hears_a_signal,
        what_was_written_last_is_not_lost,
        who_never_reads_does_not_keep_tincan_from_going,
    ]
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().cast_signed());
    kill(pid, signal).expect("the child is there");
}

/// Waits until a file is there that says something, and removes it.
fn wait_for(host: &Host, file: &str) {
    let path = host.dir().join(file);
    host.wait_until(&format!("there is a file {file}"), || path.exists());
    std::fs::remove_file(path).expect("it is there");
}

/// Starts this command with a shell's line at its end that a signal ends with 7, once for each signal.
#[track_caller]
fn forwards(host: &Host, args: &[&str]) {
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGWINCH,
    ] {
        let script = script(signal);
        let child = host.tincan(args.iter().copied().chain(["sh", "-c", &script]));
        let child = child.spawn();
        wait_for(host, "ready");
        send(&child, signal);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(
            output.status.code(),
            Some(7),
            "{args:?} {signal}: {output:?}"
        );
        assert_eq!(output.stderr, b"", "{args:?} {signal}");
    }
}

fn script(signal: Signal) -> String {
    let name = signal.as_str().trim_start_matches("SIG");
    format!("trap 'kill $!; exit 7' {name}; sleep 1000 & touch /run/work/ready; wait")
}

fn signals_reach_the_command_of_run(host: &Host) {
    forwards(host, &["run", "--"]);
    forwards(host, &["run", "--net", "172.16.0.1/16", "--"]);
}

fn signals_reach_the_command_of_pair(host: &Host) {
    forwards(host, &["pair", "a=172.16.0.1/16", "b=172.16.0.2/16", "--"]);
}

/// A bundle that sees the test's directory, and has more said in its config.json.
fn bundle(host: &Host, name: &str, script: &str, change: impl FnOnce(&mut Value)) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["process"]["args"] = json!(["sh", "-c", script]);
        let work = json!({"destination": "/run/work", "type": "bind", "source": host.dir(), "options": ["bind"]});
        spec["mounts"].as_array_mut().expect("mounts").push(work);
        change(spec);
    });
    bundle.display().to_string()
}

fn signals_reach_a_bundles_process(host: &Host) {
    for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGUSR1] {
        let bundle = bundle(host, signal.as_str(), &script(signal), |_| ());
        let child = host.tincan(["run", "-b", &bundle, "c"]).spawn();
        wait_for(host, "ready");
        send(&child, signal);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(7), "{signal}: {output:?}");
    }
}

fn signals_reach_the_process_of_exec(host: &Host) {
    host.tincan(["run", "-d", "--name", "c", "--", "sleep", "1000"])
        .ok();
    forwards(host, &["exec", "c"]);
    host.tincan(["delete", "-f", "c"]).ok();
}

fn a_command_that_dies_of_a_signal_is_128_and_its_number(host: &Host) {
    // As pid 1 of a namespace of its own it would not die of them (pid_namespaces(7)).
    let args = [
        "run",
        "--share",
        "pid",
        "--",
        "sh",
        "-c",
        "touch ready; exec sleep 1000",
    ];
    for (signal, code) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGINT, 130),
        (Signal::SIGHUP, 129),
    ] {
        let child = host.tincan(args).spawn();
        wait_for(host, "ready");
        send(&child, signal);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code), "{signal}: {output:?}");
    }
}

/// A hook that says that it is there, and then does not end before `go` is there.
fn hanging() -> Value {
    let script =
        "cat >/dev/null; touch /run/work/ready; until test -e /run/work/go; do sleep 0.05; done";
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
}

fn a_hanging_hook_is_interrupted(host: &Host) {
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
    ] {
        let bundle = bundle(host, kind, "sleep 1000", |spec| {
            spec["hooks"] = json!({kind: hanging()});
        });
        let at_create = !matches!(kind, "startContainer" | "poststart");
        let verbs = if at_create {
            &["create", "run"][..]
        } else {
            &["run"]
        };
        for verb in verbs {
            for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
                let child = host.tincan([verb, "-b", &bundle, "c"]).spawn();
                wait_for(host, "ready");
                send(&child, signal);
                let output = child.wait_with_output().expect("it ends");
                let said = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(code), "{kind} {verb}: {said}");
                let wanted = format!("interrupted by {signal}\n");
                assert!(
                    said.starts_with("tincan: c: ") && said.ends_with(&wanted),
                    "{said}"
                );
                host.assert_clean();
            }
        }
    }
}

fn a_hanging_poststop_hook_is_interrupted(host: &Host) {
    let bundle = bundle(host, "poststop", "exit 3", |spec| {
        spec["hooks"] = json!({"poststop": hanging()});
    });
    let child = host.tincan(["run", "-b", &bundle, "c"]).spawn();
    wait_for(host, "ready");
    send(&child, Signal::SIGTERM);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("interrupted by SIGTERM"), "{said}");
}

fn an_ignored_signal_interrupts_nothing(host: &Host) {
    let bundle = bundle(host, "nohup", "exit 3", |spec| {
        spec["hooks"] = json!({"prestart": hanging()});
    });
    let line = format!("trap '' HUP; exec {} run -b {bundle} c", Host::TINCAN);
    let child = host.command("sh", ["-c", &line]).spawn();
    wait_for(host, "ready");
    send(&child, Signal::SIGHUP);
    std::fs::write(host.dir().join("go"), "").expect("the directory is writable");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

fn a_failing_poststart_hook_leaves_nothing(host: &Host) {
    let bundle = bundle(host, "poststart", "sleep 1000", |spec| {
        spec["hooks"] = json!({"poststart": [{"path": "/bin/false"}]});
    });
    let said = host.tincan(["run", "-b", &bundle, "c"]).fails(125);
    assert!(said.contains("poststart hook /bin/false"), "{said}");
    host.assert_clean();
    host.sh(&format!(
        "{} create -b {bundle} c </dev/null >/dev/null 2>&1",
        Host::TINCAN
    ));
    let said = host.tincan(["start", "c"]).fails(125);
    assert!(said.contains("poststart hook /bin/false"), "{said}");
}

fn a_pid_file_that_cannot_be_written_leaves_nothing(host: &Host) {
    let bundle = bundle(host, "unwritable", "sleep 1000", |_| ());
    for verb in ["create", "run"] {
        let args = [verb, "-b", &bundle, "--pid-file", "gone/pid", "c"];
        let said = host.tincan(args).fails(125);
        assert!(said.contains("--pid-file gone/pid"), "{said}");
        host.assert_clean();
    }
}

/// Runs a command whose standard output is a pipe that nobody reads.
fn unread(args: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    to(args, Stdio::from(writer))
}

fn to(args: &[&str], stdout: Stdio) -> Output {
    let mut command = tincan();
    command.args(args).stdin(Stdio::null()).stdout(stdout);
    command
        .stderr(Stdio::piped())
        .output()
        .expect("tincan starts")
}

fn nobody_reads_what_is_printed(host: &Host) {
    host.tincan(["run", "-d", "--name", "c", "--", "sleep", "1000"])
        .ok();
    for args in [
        &["--help"][..],
        &["--version"],
        &["list"],
        &["list", "--format", "json"],
        &["state", "c"],
        &["link", "list"],
        &["gc", "--format", "json"],
        &["run", "--dry-run", "--net", "172.16.0.1/16", "--", "true"],
        &[
            "pair",
            "--dry-run",
            "--format",
            "json",
            "a=10.0.0.1/24",
            "b=10.0.0.2/24",
        ],
    ] {
        let output = unread(args);
        let quiet = output.status.signal() == Some(libc::SIGPIPE) || output.status.success();
        assert!(quiet && output.stderr.is_empty(), "{args:?}: {output:?}");
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("/dev/full");
        let output = to(args, full.into());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !said.contains("panicked") && said.lines().count() <= 1,
            "{args:?}: {said}"
        );
        let code = if args[0].starts_with("--") { 0 } else { 125 };
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        let line = format!("{} {} >&- 2>&-", Host::TINCAN, args.join(" "));
        host.sh(&line);
    }
    let line = format!("{} state gone 2>/dev/full", Host::TINCAN);
    host.command("sh", ["-c", &line]).fails(125);
    host.tincan(["delete", "-f", "c"]).ok();
}

fn nobody_reads_the_name_of_a_detached_container(host: &Host) {
    let output = unread(&["run", "-d", "--", "sleep", "1000"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    let name = host.tincan(["list", "-q"]).ok();
    let wanted = format!(
        "tincan: {}: it runs; print its name: Broken pipe",
        name.trim()
    );
    assert!(said.starts_with(&wanted), "{said}");
    host.tincan(["delete", "-f", name.trim()]).ok();
}

fn nobody_reads_what_the_command_prints(host: &Host) {
    let rootfs = host.busybox_rootfs();
    for args in [
        &["run", "--", "yes"][..],
        &["run", "--net", "172.16.0.1/16", "--", "yes"],
        &["pair", "a=172.16.0.1/16", "b=172.16.0.2/16", "--", "yes"],
        &[
            "run",
            "--rootfs",
            rootfs.to_str().expect("text"),
            "--",
            "yes",
        ],
    ] {
        let line = format!(
            "timeout -s KILL 20 {} {} 2>/dev/null | head -n 1",
            Host::TINCAN,
            args.join(" ")
        );
        assert_eq!(host.sh(&line), "y\n", "{args:?}");
        host.assert_clean();
    }
    // The container's own terminal takes what nobody reads, so the command ends by itself.
    let output = unread(&[
        "run",
        "-t",
        "--rootfs",
        rootfs.to_str().expect("text"),
        "--",
        "seq",
        "1000",
    ]);
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

/// A command at a terminal of its own, whose other side the test holds.
struct AtTerminal {
    child: Child,
    master: File,
    said: String,
}

impl AtTerminal {
    /// Runs a line of shell in the busybox root, at a terminal of 24 lines and 80 columns.
    fn start(host: &Host, script: &str) -> Self {
        let size = nix::pty::Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = nix::pty::openpty(Some(&size), None).expect("a terminal");
        let stream = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        let child = Command::new("setsid")
            .args(["-w", "-c", Host::TINCAN, "run", "-t", "--rootfs"])
            .arg(host.busybox_rootfs())
            .args(["--", "sh", "-c", script])
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .expect("setsid starts");
        AtTerminal {
            child,
            master: File::from(pty.master),
            said: String::new(),
        }
    }

    /// Reads until the terminal has shown this.
    fn shows(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.said.contains(text) {
            let count = self.master.read(&mut bytes).expect("the terminal is open");
            self.said
                .push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    fn ends(mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

fn the_terminal_follows_the_callers_size(host: &Host) {
    let script = "trap 'stty size; exit 5' WINCH; stty size; while :; do sleep 0.05; done";
    let mut terminal = AtTerminal::start(host, script);
    terminal.shows("24 80");
    let size = rustix::termios::Winsize {
        ws_row: 33,
        ws_col: 101,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&terminal.master, size).expect("a terminal has a size");
    terminal.shows("33 101");
    assert_eq!(terminal.ends(), Some(5));
}

fn a_key_is_a_signal_in_the_container(host: &Host) {
    let script = "trap 'exit 6' INT; echo here; while :; do sleep 0.05; done";
    let mut terminal = AtTerminal::start(host, script);
    terminal.shows("here");
    let before = rustix::termios::tcgetattr(&terminal.master).expect("settings");
    let canonical = rustix::termios::LocalModes::ICANON;
    assert!(
        !before.local_modes.contains(canonical),
        "the caller's is raw meanwhile"
    );
    terminal
        .master
        .write_all(b"\x03")
        .expect("the terminal is open");
    let master = terminal.master.try_clone().expect("a descriptor");
    assert_eq!(terminal.ends(), Some(6));
    let after = rustix::termios::tcgetattr(&master).expect("settings");
    assert!(
        after.local_modes.contains(canonical),
        "and as before afterwards"
    );
}

/// A command at a terminal of its own that writes as long as it can, and when that has ended ends with 5. The process that
/// writes has written nothing else.
fn writer(host: &Host) -> (Child, Pid) {
    let rootfs = host.busybox_rootfs().display().to_string();
    let script = "exec 2>/dev/null; dd if=/dev/zero bs=1; exit 5";
    let args = ["run", "-t", "--rootfs", &rootfs, "--", "sh", "-c", script];
    let tincan = host.tincan(args).spawn();
    let mut writer = None;
    host.wait_until("somebody writes", || {
        let processes = host.sh("ps -eo pid=,comm=");
        let mut lines = processes.lines();
        let dd = lines.find(|line| line.ends_with(" dd"));
        writer = dd.and_then(|line| line.split_whitespace().next()?.parse().ok());
        writer.is_some()
    });
    (tincan, Pid::from_raw(writer.expect("just found")))
}

/// How many bytes a process has written (proc_pid_io(5)).
fn written_by(pid: Pid) -> usize {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("the process is there");
    let count = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    count.expect("a line").parse().expect("a number")
}

/// Ends the process that writes, and waits until tincan could know that the command has ended.
fn end(host: &Host, tincan: &Child, writer: Pid) {
    kill(writer, Signal::SIGKILL).expect("it writes");
    let look = format!("ps -o stat= --ppid {}", tincan.id());
    host.wait_until("the command ends", || host.sh(&look).starts_with('Z'));
}

fn who_has_just_begun_hears_a_signal(host: &Host) {
    let bundle = host.bundle("begun", |spec| {
        let script = "trap 'echo heard >>/heard; exit' TERM; sleep 1000 & wait";
        spec["process"]["args"] = json!(["sh", "-c", script]);
        spec["root"]["readonly"] = json!(false);
    });
    let (tincan, bundle) = (Host::TINCAN, bundle.display());
    // Often enough for a signal that is sent at once to be lost.
    for round in 1..=10 {
        host.sh(&format!(
            "{tincan} create --bundle {bundle} c1 </dev/null >/dev/null 2>&1; {tincan} start c1; {tincan} kill c1 TERM"
        ));
        host.wait_until("it has ended", || {
            super::oci::status(host, "c1") == "stopped"
        });
        host.tincan(["delete", "c1"]).ok();
        let heard = host.sh(&format!("cat {bundle}/rootfs/heard"));
        assert_eq!(heard.lines().count(), round);
    }
    // Who has no handler, and never makes one, goes on.
    host.sh(&format!(
        "sed -i \"s/trap '[^']*' TERM; //\" {bundle}/config.json
         {tincan} run --detach --bundle {bundle} c1 </dev/null >/dev/null 2>&1; {tincan} kill c1 TERM"
    ));
    assert_eq!(super::oci::status(host, "c1"), "running");
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn what_was_written_last_is_not_lost(host: &Host) {
    let (tincan, writer) = writer(host);
    // So all that the terminal holds is still there when the command has ended, and takes more than one read.
    send(&tincan, Signal::SIGSTOP);
    let mut written = 0;
    host.wait_until("the terminal is full", || {
        let before = std::mem::replace(&mut written, written_by(writer));
        before == written && written > 8192
    });
    end(host, &tincan, writer);
    send(&tincan, Signal::SIGCONT);
    let output = tincan.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(5));
    let read = output.stdout.len();
    assert!(read >= written, "{read} of {written} bytes");
}

fn who_never_reads_does_not_keep_tincan_from_going(host: &Host) {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let (mut tincan, writer) = writer(host);
        // A pipe holds 64 KiB (pipe(7)), so more than that can never get through.
        host.wait_until("the pipe is full", || written_by(writer) > 100 << 10);
        end(host, &tincan, writer);
        send(&tincan, signal);
        host.wait_until("tincan goes", || {
            tincan.try_wait().expect("a child of ours").is_some()
        });
        let output = tincan.wait_with_output().expect("it has ended");
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(5), &b""[..])
        );
        host.assert_clean();
    }
}
