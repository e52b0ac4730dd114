//! Terminals: a container's own on the caller's, or handed to whoever listens on a socket.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::termios::{OutputFlags, Termios, tcgetattr};
use nix::unistd::Pid;
use serde_json::json;

use crate::host::{Case, Host, tests};

/// The tests of this file.
pub fn tests() -> Vec<Case> {
    tests![
        a_bundles_shell_has_a_terminal_of_its_own,
        a_commands_shell_has_a_terminal_of_its_own,
        keys_are_signals_and_jobs_are_controlled,
        the_size_follows_the_callers,
        the_terminal_belongs_to_the_user,
        the_console_is_sent_to_a_socket,
        exec_opens_a_terminal,
        a_terminal_and_its_socket_go_together,
        a_socket_that_nobody_listens_on_leaves_nothing,
        a_pidfd_is_sent_to_a_socket,
        a_busy_socket_is_waited_for_until_tincan_is_to_go,
    ]
}

/// How long a terminal may take to show something.
const PATIENCE: Duration = Duration::from_secs(20);

/// One side of a terminal, and what has been read there.
pub struct Screen {
    master: File,
    seen: String,
}

impl Screen {
    fn new(master: OwnedFd) -> Self {
        Screen {
            master: master.into(),
            seen: String::new(),
        }
    }

    /// Waits until the terminal has shown this since the last call.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        let since = Instant::now();
        while !self.seen.contains(text) {
            let more = self.read(PATIENCE.saturating_sub(since.elapsed()));
            assert!(
                more,
                "the terminal does not show {text:?}, but {:?}",
                self.seen
            );
        }
        let at = self.seen.find(text).expect("just seen") + text.len();
        self.seen.drain(..at);
    }

    /// Everything until the other side is closed.
    fn rest(mut self) -> String {
        while self.read(PATIENCE) {}
        self.seen
    }

    /// Reads what there is; `false` when nothing comes in this time, or ever.
    fn read(&mut self, limit: Duration) -> bool {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).expect("some seconds");
        if poll(&mut fds, limit).expect("poll") == 0 {
            return false;
        }
        let mut bytes = [0; 4096];
        // EIO: nobody has the other side open any more (pty(7)).
        let count = self.master.read(&mut bytes).unwrap_or(0);
        self.seen += &String::from_utf8_lossy(&bytes[..count]);
        count > 0
    }

    pub fn types(&mut self, keys: &str) {
        self.master
            .write_all(keys.as_bytes())
            .expect("the terminal takes keys");
    }

    fn resize(&self, columns: u16, rows: u16) {
        rustix::termios::tcsetwinsize(
            &self.master,
            rustix::termios::Winsize {
                ws_col: columns,
                ws_row: rows,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )
        .expect("the terminal takes a size");
    }
}

/// A program on a terminal, as a shell of a user's runs it.
struct OnTerminal {
    screen: Screen,
    /// Kept open, so that its settings can be looked at after the program has ended.
    terminal: OwnedFd,
    before: Termios,
    child: Child,
}

impl OnTerminal {
    /// tincan with these arguments, leading a session on a terminal of 90 columns and 33 rows.
    fn tincan(host: &Host, args: &[&str]) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).expect("openpty");
        let screen = Screen::new(master);
        screen.resize(90, 33);
        let before = tcgetattr(&slave).expect("settings");
        let all = ["--ctty", Host::TINCAN].iter().chain(args);
        let child = host.command("setsid", all).spawn_on(&slave);
        OnTerminal {
            screen,
            terminal: slave,
            before,
            child,
        }
    }

    /// Waits for its end; the terminal must be as it was before. Returns the exit code and what it still showed.
    fn ends(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("the program is ours to wait for");
        let after = tcgetattr(&self.terminal).expect("settings");
        assert_eq!(after, self.before, "the terminal is not as before");
        drop(self.terminal);
        (status.code(), self.screen.rest())
    }
}

/// A bundle whose process is this shell script on a terminal.
fn bundle(host: &Host, name: &str, args: &[&str]) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["process"]["terminal"] = json!(true);
        spec["process"]["args"] = json!(args);
    });
    bundle.display().to_string()
}

const LOOK: &str =
    "tty; stty size; tty </dev/console; echo in >/dev/tty; test -t 0 -a -t 1 -a -t 2 && exit 7";

fn a_bundles_shell_has_a_terminal_of_its_own(host: &Host) {
    let bundle = bundle(host, "look", &["sh", "-c", LOOK]);
    let shell = OnTerminal::tincan(host, &["run", "--bundle", &bundle, "c1"]);
    let (code, shown) = shell.ends();
    // The container's terminal does not turn a newline into two characters; the caller's does.
    let wanted = "/dev/pts/0\r\n33 90\r\n/dev/console\r\nin\r\n";
    assert_eq!((code, shown.as_str()), (Some(7), wanted));
}

fn a_commands_shell_has_a_terminal_of_its_own(host: &Host) {
    let rootfs = host.busybox_rootfs().display().to_string();
    let args = ["run", "-t", "--rootfs", &rootfs, "--", "sh", "-c", LOOK];
    let (code, shown) = OnTerminal::tincan(host, &args).ends();
    let wanted = "/dev/pts/0\r\n33 90\r\n/dev/console\r\nin\r\n";
    assert_eq!((code, shown.as_str()), (Some(7), wanted));
}

fn keys_are_signals_and_jobs_are_controlled(host: &Host) {
    let bundle = bundle(host, "keys", &["sh", "-i"]);
    let mut shell = OnTerminal::tincan(host, &["run", "--bundle", &bundle, "c1"]);
    let screen = &mut shell.screen;
    screen.shows("/ # ");
    // The words are put together by the shell, so that they are not seen in the echo of what is typed.
    screen.types("sleep 1000 || echo cut$((40 + 2))\r");
    host.wait_until("the first sleep runs", || running(host, "sleep 1000"));
    screen.types("\x03");
    screen.shows("/ # ");
    screen.types("sleep 2000\r");
    screen.shows("sleep 2000");
    host.wait_until("the second sleep runs", || running(host, "sleep 2000"));
    screen.types("\x1a");
    screen.shows("Stopped");
    screen.shows("/ # ");
    screen.types("fg\r");
    host.wait_until("it goes on in the foreground", || {
        // Of a nice test it is SN+.
        host.sh("ps -eo stat,args").lines().any(|line| {
            let (stat, args) = line.split_once(' ').unwrap_or_default();
            stat.starts_with('S') && stat.ends_with('+') && args.trim() == "sleep 2000"
        })
    });
    screen.types("\x03");
    screen.shows("/ # ");
    screen.types("exit 9\r");
    let (code, _) = shell.ends();
    assert_eq!(code, Some(9));
}

fn running(host: &Host, command: &str) -> bool {
    host.sh("ps -eo args").lines().any(|line| line == command)
}

fn the_size_follows_the_callers(host: &Host) {
    let script = "trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.1; done";
    let bundle = bundle(host, "size", &["sh", "-c", script]);
    let mut shell = OnTerminal::tincan(host, &["run", "--bundle", &bundle, "c1"]);
    shell.screen.shows("ready");
    shell.screen.resize(44, 11);
    shell.screen.shows("11 44");
    assert_eq!(shell.ends().0, Some(3));
}

fn the_terminal_belongs_to_the_user(host: &Host) {
    let bundle = host.bundle("user", |spec| {
        spec["process"]["terminal"] = json!(true);
        spec["process"]["user"] = json!({"uid": 5, "gid": 6});
        spec["process"]["args"] = json!([
            "sh",
            "-c",
            "stat -c %u:%g /dev/pts/0 /dev/console; echo in > /dev/pts/0"
        ]);
    });
    let bundle = bundle.display().to_string();
    let shell = OnTerminal::tincan(host, &["run", "--bundle", &bundle, "c1"]);
    let (code, shown) = shell.ends();
    assert_eq!((code, shown.as_str()), (Some(0), "5:5\r\n5:5\r\nin\r\n"));
}

/// Runs tincan, which has to send a terminal to `./console` meanwhile.
pub fn terminal_of(host: &Host, command: &str) -> (String, Screen) {
    let path = host.dir().join("console");
    let listener = UnixListener::bind(&path).expect("a socket");
    host.sh(&format!(
        "{} {command} --console-socket ./console </dev/null >log 2>&1 || {{ cat log; exit 1; }}",
        Host::TINCAN
    ));
    let (name, master) = sent_to(&listener);
    std::fs::remove_file(path).expect("the socket is ours");
    (name, Screen::new(master))
}

/// A text and the one descriptor that came with it, from who has connected to this socket.
fn sent_to(listener: &UnixListener) -> (String, OwnedFd) {
    let (socket, _) = listener.accept().expect("tincan has connected");
    let mut name = [0; 64];
    let mut space = cmsg_space!([std::os::fd::RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut name)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .expect("a message");
    let fds: Vec<_> = message
        .cmsgs()
        .expect("control messages")
        .filter_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    let [fd] = fds[..] else {
        panic!("{} descriptors instead of one", fds.len());
    };
    let length = message.bytes;
    // SAFETY: the kernel has just made this descriptor for us (unix(7), SCM_RIGHTS), and nobody else knows of it.
    let sent = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    let name = String::from_utf8_lossy(&name[..length]).into_owned();
    (name, sent)
}

fn the_console_is_sent_to_a_socket(host: &Host) {
    let bundle = bundle(
        host,
        "sent",
        &["sh", "-c", "read line; echo got $line; tty"],
    );
    let (name, mut screen) = terminal_of(host, &format!("create --bundle {bundle} c1"));
    assert_eq!(name, "/dev/ptmx");
    let settings = tcgetattr(&screen.master).expect("settings");
    assert!(!settings.output_flags.contains(OutputFlags::ONLCR));
    host.tincan(["start", "c1"]).ok();
    screen.types("tin\n");
    screen.shows("got tin\n/dev/pts/0\n");
    host.tincan(["delete", "--force", "c1"]).ok();
    let (_, mut screen) = terminal_of(host, &format!("run --detach --bundle {bundle} c2"));
    screen.types("can\n");
    screen.shows("got can\n/dev/pts/0\n");
    host.tincan(["delete", "--force", "c2"]).ok();
}

fn exec_opens_a_terminal(host: &Host) {
    let still = host.bundle("still", |spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
    });
    host.sh(&format!(
        "{} run --detach --bundle {} c1 </dev/null >/dev/null 2>&1",
        Host::TINCAN,
        still.display()
    ));
    let look = "tty; stty size; echo in >/dev/tty; exit 8";
    let shell = OnTerminal::tincan(host, &["exec", "-t", "c1", "sh", "-c", look]);
    let (code, shown) = shell.ends();
    assert_eq!(
        (code, shown.as_str()),
        (Some(8), "/dev/pts/0\r\n33 90\r\nin\r\n")
    );
    std::fs::write(
        host.dir().join("process.json"),
        json!({"terminal": true, "cwd": "/", "args": ["sh", "-c", "tty; sleep 1000; true"]})
            .to_string(),
    )
    .expect("a file");
    let command = "exec --detach --process process.json --pid-file pid c1";
    let (_, mut screen) = terminal_of(host, command);
    screen.shows("/dev/pts/0\n");
    let pid = std::fs::read_to_string(host.dir().join("pid")).expect("the pid file");
    assert_eq!(
        host.sh(&format!("ps -o args= {pid}")),
        "sh -c tty; sleep 1000; true\n"
    );
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn a_terminal_and_its_socket_go_together(host: &Host) {
    let with = bundle(host, "with", &["true"]);
    let without = host.bundle("without", |_| ()).display().to_string();
    let refused = |args: &[&str], text: &str| {
        let said = host.tincan(args).fails(125);
        assert!(said.contains(text), "{args:?}: {said}");
        host.assert_clean();
    };
    let nobody = "a terminal is asked for, and with no --console-socket nobody is there";
    refused(&["create", "-b", &with, "c1"], nobody);
    refused(&["run", "-d", "-b", &with, "c1"], nobody);
    let no_terminal = "--console-socket is given, and no terminal is asked for";
    refused(
        &["create", "-b", &without, "--console-socket", "s", "c1"],
        no_terminal,
    );
    refused(
        &["run", "-d", "-b", &without, "--console-socket", "s", "c1"],
        no_terminal,
    );
    let foreground = "--console-socket is given, and the terminal is the caller's own";
    refused(
        &["run", "-b", &with, "--console-socket", "s", "c1"],
        foreground,
    );
    host.sh(&format!("{} run -d --name c2 -- sleep 1000", Host::TINCAN));
    let said = host.tincan(["exec", "-t", "-d", "c2", "true"]).fails(125);
    assert!(said.contains(nobody), "{said}");
    let said = host
        .tincan(["exec", "--console-socket", "s", "c2", "true"])
        .fails(125);
    assert!(said.contains(no_terminal), "{said}");
    host.tincan(["delete", "--force", "c2"]).ok();
}

fn a_socket_that_nobody_listens_on_leaves_nothing(host: &Host) {
    let bundle = bundle(host, "deaf", &["sleep", "1000"]);
    for verb in [&["create"][..], &["run", "-d"]] {
        let args = [
            verb,
            &["-b", &bundle, "--console-socket", "deaf.sock", "c1"],
        ]
        .concat();
        let said = host.tincan(args).fails(125);
        assert!(said.contains("--console-socket deaf.sock: "), "{said}");
        host.assert_clean();
    }
}

fn a_pidfd_is_sent_to_a_socket(host: &Host) {
    let bundle = host.bundle("still", |spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
    });
    let bundle = bundle.display().to_string();
    let listener = UnixListener::bind(host.dir().join("pidfd")).expect("a socket");
    let sent = "--pidfd-socket ./pidfd --pid-file pid";
    // The texts are runc's, which name what was started.
    for (command, text) in [
        (format!("create --bundle {bundle} {sent} c1"), "standard"),
        (
            format!("run --detach --bundle {bundle} {sent} c2"),
            "standard",
        ),
        (format!("exec --detach {sent} c2 sleep 2000"), "setns"),
    ] {
        host.sh(&format!(
            "{} {command} </dev/null >log 2>&1 || {{ cat log; exit 1; }}",
            Host::TINCAN
        ));
        let (said, pidfd) = sent_to(&listener);
        assert_eq!(said, text, "{command}");
        // Only a pidfd has this line, and it names the process as this pid namespace sees it (proc_pid_fdinfo(5)).
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()));
        let info = info.expect("the descriptor is open");
        let pid = std::fs::read_to_string(host.dir().join("pid")).expect("the pid file");
        assert!(
            info.lines().any(|line| line == format!("Pid:\t{pid}")),
            "{command}: {info} {pid}"
        );
    }
    host.tincan(["delete", "--force", "c1"]).ok();
    host.tincan(["delete", "--force", "c2"]).ok();
    for command in [
        format!("create --bundle {bundle} c3"),
        format!("run --detach --bundle {bundle} c3"),
    ] {
        let line = format!("{} {command} --pidfd-socket ./deaf", Host::TINCAN);
        let said = host.command("sh", ["-c", &line]).fails(125);
        assert!(said.contains("--pidfd-socket ./deaf: "), "{said}");
        host.assert_clean();
    }
}

fn a_busy_socket_is_waited_for_until_tincan_is_to_go(host: &Host) {
    let bundle = bundle(host, "busy", &["sleep", "1000"]);
    let path = host.dir().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    rustix::net::listen(&listener, 0).expect("a shorter queue");
    let first = UnixStream::connect(&path).expect("there is room for one");
    let start = |verb: &[&str]| {
        let options = ["-b", &bundle, "--console-socket", "socket", "c1"];
        let tincan = host.tincan([verb, &options].concat()).spawn();
        // The container is up, so only its terminal's socket is left to wait for.
        host.wait_until("the container is there", || {
            let list = host.tincan(["list"]).ok();
            list.contains("created") || list.contains("running")
        });
        tincan
    };
    for verb in [&["create"][..], &["run", "-d"]] {
        let tincan = start(verb);
        let pid = Pid::from_raw(tincan.id().cast_signed());
        kill(pid, Signal::SIGTERM).expect("it waits");
        let output = tincan.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), said.as_ref()),
            (Some(143), "tincan: c1: interrupted by SIGTERM\n")
        );
        host.assert_clean();
    }
    let mut tincan = start(&["run", "-d"]);
    drop(listener.accept().expect("the one that was there"));
    drop(first);
    let (name, _master) = sent_to(&listener);
    assert_eq!(name, "/dev/ptmx");
    assert_eq!(tincan.wait().expect("it ends").code(), Some(0));
    host.tincan(["delete", "--force", "c1"]).ok();
}
