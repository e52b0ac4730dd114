//! What a test has to do with its host, a [`machine`] of its own: run tincan and others there, and find what was left.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use serde_json::Value;

use super::feature::Need;
use super::machine::{self, Kind, STAGE, WORK, directories_below, hierarchies, settles};

/// How long a test may take before its host is taken away.
const TEST_LIMIT: Duration = Duration::from_secs(300);

/// How long one command of a test may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// One test.
#[derive(Clone)]
pub struct Case {
    name: &'static str,
    needs: &'static [Need],
    run: fn(&Host),
}

impl Case {
    /// The test `name`, `module::function` with or without the crate before it.
    pub fn new(name: &'static str, needs: &'static [Need], run: fn(&Host)) -> Self {
        let name = name.strip_prefix("it::").unwrap_or(name);
        Case { name, needs, run }
    }

    /// On which kind of machine it runs.
    fn kind(&self) -> Kind {
        if self.needs.contains(&Need::Systemd) {
            Kind::BesideSystemd
        } else {
            Kind::Alone
        }
    }
}

/// Lists the tests of a file: `pub fn tests() -> Vec<Case> { tests![this_happens, that_fails needs [Root]] }`.
macro_rules! tests {
    ($($(#[$if:meta])* $function:ident $(needs [$($need:ident),*])?),* $(,)?) => {
        vec![$(
            $(#[$if])*
            $crate::host::Case::new(
                concat!(module_path!(), "::", stringify!($function)),
                &[$($($crate::feature::Need::$need),*)?],
                $function,
            )
        ),*]
    };
}
pub(crate) use tests;

/// Runs the tests that the command line asks for, or is one of the processes of a disposable host.
pub fn main(cases: Vec<Case>) -> ExitCode {
    let Some((stage, name)) = machine::stage() else {
        return run_all(cases);
    };
    let case = cases.into_iter().find(|case| case.name == name);
    let case = case.expect("the runner names a test that exists");
    machine::go_on(&stage, case.name, case.kind(), || {
        let beside = is_user().then(Beside::start);
        let host = Host {
            kind: case.kind(),
            before: Facts::now(case.kind()),
            rootfs: OnceCell::new(),
        };
        (case.run)(&host);
        host.assert_clean();
        drop(beside);
    })
}

fn run_all(cases: Vec<Case>) -> ExitCode {
    let arguments = Arguments::from_args();
    let root = Uid::effective().is_root();
    if !root {
        eprintln!(
            "the tests are skipped: making a disposable host needs root; try `sudo -E make test`"
        );
    } else if !arguments.list {
        machine::remove_abandoned_cgroups();
    }
    let shown = arguments.nocapture;
    let mut known: Vec<(Need, Option<String>)> = Vec::new();
    let trials = cases.into_iter().map(|case| {
        let missing = case.needs.iter().find_map(|need| {
            if let Some((_, missing)) = known.iter().find(|(one, _)| one == need) {
                return missing.clone();
            }
            let missing = if root { need.missing() } else { None };
            known.push((*need, missing.clone()));
            missing
        });
        let skipped = missing.map_or(String::new(), |why| format!("skipped: {why}"));
        Trial::test(case.name, move || {
            machine::run(case.name, TEST_LIMIT, shown).map_err(Failed::from)
        })
        .with_ignored_flag(!root || !skipped.is_empty())
        .with_kind(skipped)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// The environment variable by which all tests are those of a user who is not root: tincan is the user's, and all other
/// commands run beside the user's containers (`tincan unshare`).
const AS_USER: &str = "TINCAN_TEST_USER";

pub fn is_user() -> bool {
    std::env::var_os(AS_USER).is_some()
}

/// Where the user's tincan keeps its state.
fn users_state() -> PathBuf {
    Path::new(machine::RUNTIME).join("tincan")
}

/// A command of the machine's user.
fn of_user(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .uid(machine::USER)
        .gid(machine::USER)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", machine::RUNTIME)
        .env("XDG_RUNTIME_DIR", machine::RUNTIME);
    command
}

/// tincan, of whom the suite is.
pub fn tincan() -> Command {
    if is_user() {
        of_user(machine::TINCAN)
    } else {
        Command::new(Host::TINCAN)
    }
}

/// A command where the far ends of wires are: root's on the machine, a user's beside the user's containers.
fn on_host(program: impl AsRef<OsStr>) -> Command {
    if !is_user() {
        return Command::new(program);
    }
    let mut command = of_user(machine::TINCAN);
    command.args(["unshare", "--"]).arg(program);
    command
}

/// A process beside the user's containers, by which the namespaces that are their host last for a whole test.
struct Beside(Child);

impl Beside {
    fn start() -> Self {
        chown(WORK, Some(machine::USER), Some(machine::USER)).expect("the work directory");
        // What the test itself writes is the user's.
        setfsgid(Gid::from_raw(machine::USER));
        setfsuid(Uid::from_raw(machine::USER));
        let mut command = on_host("sh");
        command.args(["-c", "echo up; exec cat"]);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut beside = pipes.spawn().expect("tincan starts");
        let mut said = [0; 3];
        let out = beside.stdout.as_mut().expect("a pipe");
        out.read_exact(&mut said).expect("tincan unshare works");
        Beside(beside)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("a child of ours");
    }
}

/// What a host has: one line for each thing that a test could leave behind or take away.
#[derive(Debug, PartialEq, Eq)]
struct Facts(BTreeSet<String>);

impl Facts {
    fn now(kind: Kind) -> Self {
        let mut facts = BTreeSet::new();
        let mut tell = |kind: &str, of: &str| {
            facts.insert(format!("{kind}: {}", of.trim()));
        };
        for (kind, question) in [
            ("link", "-o -br link"),
            ("address", "-o -br address"),
            ("route", "route show table all"),
            ("route", "-6 route show table all"),
            ("rule", "rule"),
            ("neighbour", "neighbour show nud permanent"),
        ] {
            let output = on_host("ip")
                .args(question.split(' '))
                .output()
                .expect("ip runs");
            let text = String::from_utf8_lossy(&output.stdout);
            // What a link has by itself for IPv6, and its state, comes and goes some time after its carrier does, and tells no more
            // than the link and what it was set to.
            let by_itself = |word: &&str| word.starts_with("fe80::") || word.starts_with("ff00::");
            let state = ["UP", "DOWN", "UNKNOWN", "LOWERLAYERDOWN", "linkdown"];
            for line in text.lines() {
                let words = line.split_whitespace();
                if kind == "route" && words.clone().any(|word| by_itself(&word)) {
                    continue;
                }
                let kept = words.filter(|word| !by_itself(word) && !state.contains(word));
                let kept: Vec<&str> = kept.collect();
                let kept = kept.join(" ");
                let kept = kept.replace("NO-CARRIER,", "").replace(",LOWER_UP", "");
                tell(kind, &kept);
            }
        }
        for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            tell(
                "named network namespace",
                &entry.file_name().to_string_lossy(),
            );
        }
        for root in [PathBuf::from("/run/tincan"), users_state()] {
            for path in everything_below(&root) {
                tell("state", &path.to_string_lossy());
            }
        }
        // Beside systemd, what is not ours comes and goes.
        let is_shared = kind == Kind::BesideSystemd;
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo is readable");
        for line in mountinfo.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            // `ip netns add` mounts this directory on itself and leaves it so for the next (ip-netns(8)).
            let is_own = machine::OWN_PLACES
                .iter()
                .any(|own| Path::new(fields[4]).starts_with(own));
            if fields[4] != "/run/netns" && (is_own || !is_shared) {
                tell(
                    "mount",
                    &format!("{} of {} on {}", fields[0], fields[3], fields[4]),
                );
            }
        }
        for hierarchy in hierarchies() {
            for dir in directories_below(&hierarchy.mount_point) {
                let dir = dir.to_string_lossy();
                if !is_shared || dir.contains(&own_mark()) {
                    tell("cgroup", &dir);
                }
            }
        }
        if is_shared {
            let units = Command::new("systemctl")
                .args(["list-units", "--all", "--plain", "--no-legend", "--full"])
                .output()
                .expect("systemctl runs");
            let units = String::from_utf8_lossy(&units.stdout);
            let own = units.lines().filter(|line| line.contains(&own_mark()));
            own.for_each(|line| tell("unit", line));
        }
        let own = machine::descendants(std::os::unix::process::parent_id());
        for entry in fs::read_dir("/proc").expect("/proc is readable").flatten() {
            let name = entry.file_name();
            let Some(pid) = name
                .to_str()
                .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
            else {
                continue;
            };
            if is_shared && !own.iter().any(|pid| *pid.to_string() == *name) {
                continue;
            }
            // Gone meanwhile is gone.
            if let Ok(stat) = fs::read_to_string(entry.path().join("stat")) {
                let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
                let command = command.trim_end_matches('\0').replace('\0', " ");
                let state = stat.rsplit(") ").next().unwrap_or_default();
                let dead = if state.starts_with('Z') {
                    " (dead, not waited for)"
                } else {
                    ""
                };
                tell("process", &format!("{pid} {command}{dead}"));
            }
        }
        for parameter in [
            "ipv4/ip_forward",
            "ipv6/conf/all/forwarding",
            "ipv6/conf/default/disable_ipv6",
        ] {
            let value =
                fs::read_to_string(Path::new("/proc/sys/net").join(parameter)).unwrap_or_default();
            tell("sysctl", &format!("{parameter} = {value}"));
        }
        Facts(facts)
    }

    /// What is there beyond, or no longer there of, what was before.
    fn differences(&self, before: &Facts) -> Vec<String> {
        let left = self
            .0
            .difference(&before.0)
            .map(|fact| format!("left behind: {fact}"));
        let lost = before
            .0
            .difference(&self.0)
            .map(|fact| format!("lost: {fact}"));
        left.chain(lost).collect()
    }
}

/// What the names of a test have in them that are known beyond its own host: the test's process, one of all on the machine.
pub fn own_mark() -> String {
    format!("-{}x", std::process::id())
}

/// All files below a directory that is perhaps not there; the directory itself does not count.
fn everything_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(everything_below(&entry.path()));
        }
    }
    found
}

/// The disposable host that a test runs on.
pub struct Host {
    kind: Kind,
    before: Facts,
    rootfs: OnceCell<PathBuf>,
}

impl Host {
    /// The program under test.
    pub const TINCAN: &str = env!("CARGO_BIN_EXE_tincan");

    /// The test's own directory, empty at its beginning and the current one.
    pub fn dir(&self) -> &Path {
        Path::new(WORK)
    }

    /// Where tincan keeps its state.
    pub fn state_root(&self) -> PathBuf {
        if is_user() {
            users_state()
        } else {
            PathBuf::from("/run/tincan")
        }
    }

    /// `tincan` with these arguments, not yet started.
    pub fn tincan<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        self.run(tincan(), args)
    }

    /// `tincan` of the machine's user who is not root.
    pub fn user_tincan<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        self.user(machine::TINCAN, args)
    }

    /// Any program of the machine's user who is not root.
    pub fn user<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
    ) -> Run {
        self.run(of_user(program), args)
    }

    /// Any program with these arguments, not yet started.
    pub fn command<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
    ) -> Run {
        self.run(on_host(program), args)
    }

    fn run<A: AsRef<OsStr>>(&self, mut command: Command, args: impl IntoIterator<Item = A>) -> Run {
        command.args(args).env_remove(STAGE);
        Run {
            command,
            stdin: Vec::new(),
            stderr: Stderr::Empty,
        }
    }

    /// What a line of shell prints; the test fails if the line does.
    pub fn sh(&self, script: &str) -> String {
        self.command("sh", ["-euc", script]).any_stderr().ok()
    }

    /// The first process of a container.
    pub fn pid(&self, container: &str) -> i32 {
        let state: Value = serde_json::from_str(&self.tincan(["state", container]).ok()).unwrap();
        i32::try_from(state["pid"].as_i64().unwrap()).unwrap()
    }

    /// What a piece of work gives in a container's network namespace, done by a thread that goes there: a socket stays there.
    pub fn inside<T: Send>(&self, container: &str, work: impl FnOnce() -> T + Send) -> T {
        let netns = fs::File::open(format!("/proc/{}/ns/net", self.pid(container))).unwrap();
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            there.join().unwrap()
        })
    }

    /// A busybox root file system of this test's own: what is written there stays there.
    pub fn busybox_rootfs(&self) -> PathBuf {
        let make = || {
            let recipe = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/rootfs-examples/busybox/make.sh"
            );
            let rootfs = self.dir().join("busybox");
            self.command(recipe, [&rootfs]).ok();
            rootfs
        };
        self.rootfs.get_or_init(make).clone()
    }

    /// A bundle directory with a copy of the busybox root file system and the `config.json` of `tincan spec`, its
    /// terminal turned off and then changed by `change`.
    pub fn bundle(&self, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
        let bundle = self.dir().join(name);
        fs::create_dir(&bundle).expect("a bundle has a name of its own");
        let copied = self.command(
            "cp",
            [
                OsStr::new("-a"),
                self.busybox_rootfs().as_os_str(),
                bundle.join("rootfs").as_os_str(),
            ],
        );
        copied.ok();
        self.tincan([
            OsStr::new("spec"),
            OsStr::new("--bundle"),
            bundle.as_os_str(),
        ])
        .ok();
        let config = bundle.join("config.json");
        let text = fs::read_to_string(&config).expect("`tincan spec` writes config.json");
        let mut spec: Value = serde_json::from_str(&text).expect("`tincan spec` writes JSON");
        spec["process"]["terminal"] = Value::Bool(false);
        change(&mut spec);
        fs::write(config, spec.to_string()).expect("config.json is writable");
        bundle
    }

    /// What this host has more or less than at the test's beginning.
    pub fn differences(&self) -> Vec<String> {
        Facts::now(self.kind).differences(&self.before)
    }

    /// Fails the test unless the host is as it was at the beginning: the same links, addresses, routes, named
    /// namespaces, mounts, cgroups and processes, and no state of tincan. Done after every test.
    pub fn assert_clean(&self) {
        if !settles(|| self.differences().is_empty()) {
            panic!(
                "the host is not as before:\n  {}",
                self.differences().join("\n  ")
            );
        }
    }

    /// Waits until something is so; the test fails after some seconds.
    pub fn wait_until(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(settles(condition), "it does not happen that {what}");
    }
}

/// What a successful command may say on standard error.
enum Stderr {
    Empty,
    Anything,
}

/// A command that is about to run.
pub struct Run {
    command: Command,
    stdin: Vec<u8>,
    stderr: Stderr,
}

impl Run {
    /// Feeds this to its standard input, which is empty otherwise.
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = text.into();
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in this directory.
    pub fn in_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Lets it succeed although it says something on standard error.
    pub fn any_stderr(mut self) -> Self {
        self.stderr = Stderr::Anything;
        self
    }

    /// Runs it; it must exit with 0 and say nothing on standard error. Returns its standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        let quiet = matches!(self.stderr, Stderr::Empty);
        let assert = self.assert().success();
        let assert = if quiet { assert.stderr("") } else { assert };
        String::from_utf8_lossy(&assert.get_output().stdout).into_owned()
    }

    /// Runs it; it must exit with this code. Returns its standard error.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        let assert = self.assert().code(code);
        String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
    }

    /// Runs it, for a look at all of its outcome.
    #[track_caller]
    pub fn assert(self) -> assert_cmd::assert::Assert {
        let mut command = assert_cmd::Command::from_std(self.command);
        command
            .write_stdin(self.stdin)
            .timeout(machine::at_most(COMMAND_LIMIT))
            .assert()
    }

    /// Starts it with a terminal as its three standard streams. The test has to wait for it.
    pub fn spawn_on(mut self, terminal: &OwnedFd) -> Child {
        let stream = || Stdio::from(terminal.try_clone().expect("a descriptor can be had"));
        let on = self
            .command
            .stdin(stream())
            .stdout(stream())
            .stderr(stream());
        on.spawn().expect("the program starts")
    }

    /// Starts it, with pipes for all three standard streams. The test has to wait for it.
    pub fn spawn(mut self) -> Child {
        let pipes = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        pipes.spawn().expect("the program starts")
    }
}
