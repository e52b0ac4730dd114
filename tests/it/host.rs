//! A disposable host for every test: new mount, network, pid, uts, ipc and cgroup namespaces in which a test may do what
//! root may do, and which are gone afterwards whatever happened.
//!
//! The test program runs itself three times for that, one after the other:
//!
//! 1. [`machine`] takes the test a sub-tree of every cgroup hierarchy and leaves for new namespaces;
//! 2. [`init`], the first process in there, mounts `/proc`, `/sys`, cgroups and an empty `/run`, and reaps orphans;
//! 3. [`test`] runs the test's function and then asks that the host be as it was before ([`Host::assert_clean`]).

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, Uid};
use serde_json::Value;

/// Which of the three processes this one is, for the two inner ones and the machine's.
const STAGE: &str = "TINCAN_TEST_STAGE";

/// How long a test may take before its host is taken away.
const TEST_LIMIT: Duration = Duration::from_secs(300);

/// How long one command of a test may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// How long the kernel may take to clean up behind a container: it frees network namespaces in a work queue, many in
/// one go, each after RCU grace periods.
const SETTLE: Duration = Duration::from_secs(5);

/// The directory of a disposable host that a test works in.
const WORK: &str = "/run/work";

/// What the machine's cgroup of a test is called, before the pid of the process that made it.
const CGROUP_PREFIX: &str = "tincan-test-";

/// One test.
#[derive(Clone)]
pub struct Case {
    name: &'static str,
    run: fn(&Host),
}

impl Case {
    /// The test `name`, `module::function` with or without the crate before it.
    pub fn new(name: &'static str, run: fn(&Host)) -> Self {
        let name = name.strip_prefix("it::").unwrap_or(name);
        Case { name, run }
    }
}

/// Lists the tests of a file: `pub fn tests() -> Vec<Case> { tests![this_happens, that_fails] }`.
macro_rules! tests {
    ($($function:ident),* $(,)?) => {
        vec![$($crate::host::Case::new(concat!(module_path!(), "::", stringify!($function)), $function)),*]
    };
}
pub(crate) use tests;

/// Runs the tests that the command line asks for, or is one of the processes of a disposable host.
pub fn main(cases: Vec<Case>) -> ExitCode {
    let Ok(stage) = std::env::var(STAGE) else {
        return run_all(cases);
    };
    let name = std::env::args().nth(1).unwrap_or_default();
    let case = cases.into_iter().find(|case| case.name == name);
    let case = case.expect("the runner names a test that exists");
    match stage.as_str() {
        "machine" => machine(&case),
        "init" => init(&case),
        "test" => test(&case),
        other => panic!("{STAGE} is `{other}`, not machine, init or test"),
    }
}

fn run_all(cases: Vec<Case>) -> ExitCode {
    let arguments = Arguments::from_args();
    let root = Uid::effective().is_root();
    if !root {
        eprintln!(
            "the tests are skipped: making a disposable host needs root; try `sudo -E make test`"
        );
    } else if !arguments.list {
        remove_abandoned_cgroups();
    }
    let shown = arguments.nocapture;
    let trials = cases.into_iter().map(|case| {
        Trial::test(case.name, move || run_on_a_machine(&case, shown)).with_ignored_flag(!root)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// The outermost part of a test, in the runner: start the machine, tell how it went, and see that no cgroup stays.
fn run_on_a_machine(case: &Case, shown: bool) -> Result<(), Failed> {
    let mut machine = next_stage("machine", case);
    machine.stdin(Stdio::null());
    if !shown {
        machine.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let machine = machine.spawn()?;
    let pid = machine.id();
    let output = wait_at_most(machine, TEST_LIMIT);
    let leftover_cgroups = remove_cgroups_of(pid);
    let output = output?;
    let mut complaints = String::from_utf8_lossy(&output.stdout).into_owned();
    complaints += &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{complaints}{}", output.status).into());
    }
    if !leftover_cgroups.is_empty() {
        return Err(format!("{complaints}left on the machine: {leftover_cgroups:?}").into());
    }
    Ok(())
}

/// Waits for a process and what it prints; past the limit it is killed, and its disposable host goes with it.
fn wait_at_most(child: Child, limit: Duration) -> Result<std::process::Output, Failed> {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid is positive"));
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            // The sender is dropped, which ends the wait, as soon as the process is reaped.
            let late =
                is_done.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            if late {
                let _ = kill(pid, Signal::SIGKILL);
            }
            late
        });
        let output = child.wait_with_output();
        drop(done);
        if watch.join().expect("the watch does not panic") {
            return Err(format!("took longer than {} s", limit.as_secs()).into());
        }
        Ok(output?)
    })
}

/// This program again, as the next of the three processes.
fn next_stage(stage: &str, case: &Case) -> Command {
    let me = std::env::current_exe().expect("/proc/self/exe is readable");
    let mut command = Command::new(me);
    command.arg(case.name).env(STAGE, stage);
    command
}

/// The first process: still on the machine, makes the new one and waits for it.
fn machine(case: &Case) -> ExitCode {
    die_with_parent();
    enter_own_cgroups().expect("the test's cgroups");
    let new = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(new).expect("new namespaces");
    let status = next_stage("init", case)
        .status()
        .expect("the host's init starts");
    exit_code(status)
}

/// The second process: pid 1 of the disposable host. A process of its own and not the test, since it reaps whoever dies,
/// and would take a test's children from under its `wait`.
fn init(case: &Case) -> ExitCode {
    die_with_parent();
    mount_everything().expect("the host's mounts");
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.expect("ip runs").success(), "lo does not come up");
    let test = next_stage("test", case).spawn().expect("the test starts");
    let test = Pid::from_raw(i32::try_from(test.id()).expect("a pid is positive"));
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == test => {
                return ExitCode::from(u8::try_from(code).expect("an exit code is one byte"));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == test => {
                eprintln!("the test was ended by {signal}");
                return ExitCode::from(128 + signal as u8);
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => panic!("waiting for the test: {errno}"),
        }
    }
}

/// The third process: the test itself.
fn test(case: &Case) -> ExitCode {
    fs::create_dir_all(WORK).expect("the work directory");
    std::env::set_current_dir(WORK).expect("the work directory");
    let host = Host {
        before: Facts::now(),
        rootfs: OnceCell::new(),
    };
    (case.run)(&host);
    host.assert_clean();
    ExitCode::SUCCESS
}

/// Nobody is left to clean up behind a killed runner, so the whole chain goes with it: SIGKILL reaches even a pid 1 from
/// outside its namespace (pid_namespaces(7)), and takes all its processes along.
fn die_with_parent() {
    prctl::set_pdeathsig(Signal::SIGKILL).expect("PR_SET_PDEATHSIG takes SIGKILL");
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(u8::MAX))
}

/// A mounted cgroup hierarchy, as mountinfo tells (proc_pid_mountinfo(5)).
struct Hierarchy {
    mount_point: PathBuf,
    fstype: String,
    /// What names a v1 hierarchy when it is mounted: `cpu,cpuacct`, `name=systemd`. Empty for v2.
    options: String,
}

fn hierarchies() -> Vec<Hierarchy> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo is readable");
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else {
            continue;
        };
        let mut kind = kind.split(' ');
        let (fstype, options) = (
            kind.next().unwrap_or_default(),
            kind.nth(1).unwrap_or_default(),
        );
        let mount_point = PathBuf::from(mount.split(' ').nth(4).unwrap_or_default());
        let under = mount_point.starts_with("/sys/fs/cgroup");
        if !under || !matches!(fstype, "cgroup" | "cgroup2") {
            continue;
        }
        // Of all options of a v1 mount, these are its identity; the others are flags (cgroups(7), Documentation/
        // admin-guide/cgroup-v1/cgroups.rst).
        let not_identity = [
            "rw",
            "ro",
            "xattr",
            "clone_children",
            "noprefix",
            "cpuset_v2_mode",
        ];
        let identity = options.split(',').filter(|option| {
            fstype == "cgroup"
                && !not_identity.contains(option)
                && !option.starts_with("release_agent=")
        });
        found.push(Hierarchy {
            options: identity.collect::<Vec<_>>().join(","),
            fstype: fstype.to_owned(),
            mount_point,
        });
    }
    found
}

/// Makes `tincan-test-<pid>` in every hierarchy and moves this process there.
fn enter_own_cgroups() -> io::Result<()> {
    let name = format!("{CGROUP_PREFIX}{}", std::process::id());
    for hierarchy in hierarchies() {
        let root = &hierarchy.mount_point;
        let own = root.join(&name);
        fs::create_dir(&own)?;
        if hierarchy.fstype == "cgroup2" {
            // What the root does not hand down, the sub-tree does not have (cgroups(7), cgroup.subtree_control).
            for controller in
                fs::read_to_string(root.join("cgroup.controllers"))?.split_whitespace()
            {
                let _ = fs::write(
                    root.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
            fs::write(own.join("cgroup.procs"), "0")?;
        } else {
            // A new v1 cpuset is empty, and takes nobody until it has cpus and memory nodes (cpuset(7)).
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if own.join(file).exists() {
                    fs::write(own.join(file), fs::read_to_string(root.join(file))?)?;
                }
            }
            // `tasks`, not `cgroup.procs`: the latter takes a lock that costs ten milliseconds a hierarchy.
            fs::write(own.join("tasks"), "0")?;
        }
    }
    Ok(())
}

/// Removes the cgroups of the machine with this pid, and says which directories it had left in them.
fn remove_cgroups_of(pid: u32) -> Vec<PathBuf> {
    let name = format!("{CGROUP_PREFIX}{pid}");
    let own: Vec<PathBuf> = hierarchies()
        .iter()
        .map(|hierarchy| hierarchy.mount_point.join(&name))
        .filter(|own| own.exists())
        .collect();
    let mut left: Vec<PathBuf> = own.iter().flat_map(|own| directories_below(own)).collect();
    // The leaf that the host itself made for its processes.
    left.retain(|dir| !own.iter().any(|own| *dir == own.join(SESSION)));
    for own in &own {
        for dir in directories_below(own).iter().rev().chain([own]) {
            let since = Instant::now();
            // EBUSY while a killed process is still on its way out.
            while let Err(error) = fs::remove_dir(dir) {
                if error.kind() != ErrorKind::ResourceBusy || since.elapsed() > SETTLE {
                    left.push(dir.clone());
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    left
}

/// Removes the cgroups of tests whose runner was killed.
fn remove_abandoned_cgroups() {
    for hierarchy in hierarchies() {
        for entry in fs::read_dir(&hierarchy.mount_point)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let pid = name
                .to_str()
                .and_then(|name| name.strip_prefix(CGROUP_PREFIX)?.parse::<u32>().ok());
            if let Some(pid) = pid.filter(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                remove_cgroups_of(pid);
            }
        }
    }
}

/// All directories below this one, a directory before what is in it.
fn directories_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            found.extend(directories_below(&entry.path()));
        }
    }
    found
}

/// The cgroup, at the root of a v2 hierarchy, that the host's own processes are in: a cgroup that hands controllers down
/// must be without processes (cgroups(7), "no internal processes"), and the real root alone is free of that rule.
const SESSION: &str = "session";

/// Gives the new namespaces their own view of the kernel, and an empty `/run` for state.
fn mount_everything() -> io::Result<()> {
    const NONE: Option<&str> = None;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Nothing that is mounted here may reach the machine, nor the other way.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let machines = hierarchies();
    let links: Vec<(PathBuf, PathBuf)> = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.path(), fs::read_link(entry.path()).ok()?)))
        .collect();
    mount(Some("proc"), "/proc", Some("proc"), plain, NONE)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), plain, NONE)?;
    mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )?;
    let hybrid = machines
        .iter()
        .any(|hierarchy| hierarchy.mount_point != Path::new("/sys/fs/cgroup"));
    if hybrid {
        mount(
            Some("tmpfs"),
            "/sys/fs/cgroup",
            Some("tmpfs"),
            plain,
            Some("mode=755"),
        )?;
    }
    for hierarchy in machines {
        // In the new cgroup namespace the root of each hierarchy is the test's sub-tree (cgroup_namespaces(7)).
        fs::create_dir_all(&hierarchy.mount_point)?;
        let (at, fstype) = (&hierarchy.mount_point, hierarchy.fstype.as_str());
        let options = (fstype == "cgroup").then_some(hierarchy.options.as_str());
        mount(Some("cgroup"), at, Some(fstype), plain, options)?;
        let controllers = fs::read_to_string(at.join("cgroup.controllers")).unwrap_or_default();
        if fstype == "cgroup2" && !controllers.trim().is_empty() {
            fs::create_dir(at.join(SESSION))?;
            for process in fs::read_to_string(at.join("cgroup.procs"))?.lines() {
                fs::write(at.join(SESSION).join("cgroup.procs"), process)?;
            }
        }
    }
    for (name, target) in links {
        std::os::unix::fs::symlink(target, name)?;
    }
    Ok(())
}

/// What a host has: one line for each thing that a test could leave behind or take away.
#[derive(Debug, PartialEq, Eq)]
struct Facts(BTreeSet<String>);

impl Facts {
    fn now() -> Self {
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
            let output = Command::new("ip")
                .args(question.split(' '))
                .output()
                .expect("ip runs");
            let text = String::from_utf8_lossy(&output.stdout);
            text.lines().for_each(|line| tell(kind, line));
        }
        for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            tell(
                "named network namespace",
                &entry.file_name().to_string_lossy(),
            );
        }
        for path in everything_below(Path::new("/run/tincan")) {
            tell("state", &path.to_string_lossy());
        }
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo is readable");
        for line in mountinfo.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            // `ip netns add` mounts this directory on itself and leaves it so for the next (ip-netns(8)).
            if fields[4] != "/run/netns" {
                tell(
                    "mount",
                    &format!("{} of {} on {}", fields[0], fields[3], fields[4]),
                );
            }
        }
        for hierarchy in hierarchies() {
            for dir in directories_below(&hierarchy.mount_point) {
                tell("cgroup", &dir.to_string_lossy());
            }
        }
        for entry in fs::read_dir("/proc").expect("/proc is readable").flatten() {
            let name = entry.file_name();
            let Some(pid) = name
                .to_str()
                .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
            else {
                continue;
            };
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

    /// `tincan` with these arguments, not yet started.
    pub fn tincan<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        self.command(Self::TINCAN, args)
    }

    /// Any program with these arguments, not yet started.
    pub fn command<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
    ) -> Run {
        let mut command = Command::new(program);
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
        Facts::now().differences(&self.before)
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

/// Whether a condition comes true in the time that things may take.
fn settles(mut condition: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    while !condition() {
        if since.elapsed() > SETTLE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
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
            .timeout(COMMAND_LIMIT)
            .assert()
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
