//! A disposable machine: new mount, network, pid, uts, ipc and cgroup namespaces in which a program may do what root may do,
//! and which are gone afterwards whatever happened. Tests and benchmarks run there.
//!
//! The program runs itself three times for that, one after the other:
//!
//! 1. [`machine`] takes a sub-tree of every cgroup hierarchy and leaves for new namespaces;
//! 2. [`init`], the first process in there, mounts `/proc`, `/sys`, cgroups and an empty `/run`, and reaps orphans;
//! 3. the guest does the work.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

/// The environment variable that says which of the three processes this one is.
pub const STAGE: &str = "TINCAN_TEST_STAGE";

/// The directory that the guest works in, empty at first.
pub const WORK: &str = "/run/work";

/// A user of the machine who is not root, by number and name.
pub const USER: u32 = 47_110;
const USER_NAME: &str = "tincan-tester";

/// The user's ids beside the own one, first and how many.
pub const SUBIDS: (u32, u32) = (2_000_000, 65_536);

/// The user's XDG_RUNTIME_DIR.
pub const RUNTIME: &str = "/run/user/47110";

/// tincan, where the user may execute it too: the directory of the build may be closed to others.
pub const TINCAN: &str = "/run/user/tincan";

/// How long the kernel may take to clean up behind a container: it frees network namespaces in a work queue, many in
/// one go, each after RCU grace periods.
const SETTLE: Duration = Duration::from_secs(30);

/// The environment variable that says how many times slower than usual this machine is, as one that is emulated is.
const SLOWNESS: &str = "TINCAN_TEST_SLOWNESS";

/// A limit of time, on this machine.
pub fn at_most(limit: Duration) -> Duration {
    let slowness = std::env::var(SLOWNESS).ok().and_then(|n| n.parse().ok());
    limit * slowness.unwrap_or(1)
}

/// Where cgroups are mounted, be it v2 alone or a directory with one mount for each hierarchy.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What the cgroups of a machine are called, before the pid of the process that made them.
const CGROUP_PREFIX: &str = "tincan-test-";

/// How much of a machine is its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything: nobody outside knows of what happens there.
    Alone,
    /// All but the processes and cgroups, which are those of the systemd that runs outside.
    BesideSystemd,
}

/// Runs a job on a machine of its own, from outside: this program is started again, with the job's name as its argument,
/// and has to call [`go_on`]. Fails, with what the job printed, when it failed, took longer than `limit` or left a cgroup.
pub fn run(job: &str, limit: Duration, shown: bool) -> Result<(), String> {
    let mut machine = next_stage("machine", job);
    machine.stdin(Stdio::null());
    if !shown {
        machine.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let machine = machine
        .spawn()
        .map_err(|error| format!("the machine does not start: {error}"))?;
    let pid = machine.id();
    let output = wait_at_most(machine, at_most(limit));
    let leftover_cgroups = remove_cgroups_of(pid);
    let output = output?;
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed += &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{printed}{}", output.status));
    }
    if !leftover_cgroups.is_empty() {
        return Err(format!(
            "{printed}left on the machine: {leftover_cgroups:?}"
        ));
    }
    Ok(())
}

/// The stage that this process is to go on with and its job, unless it is the outermost one.
pub fn stage() -> Option<(String, String)> {
    let stage = std::env::var(STAGE).ok()?;
    Some((stage, std::env::args().nth(1).unwrap_or_default()))
}

/// Goes on with a stage; the innermost does the work, and fails by a panic.
pub fn go_on(stage: &str, job: &str, kind: Kind, work: impl FnOnce()) -> ExitCode {
    match stage {
        "machine" => machine(job, kind),
        "init" => init(job, kind),
        "guest" => {
            fs::create_dir_all(WORK).expect("the work directory");
            std::env::set_current_dir(WORK).expect("the work directory");
            work();
            ExitCode::SUCCESS
        }
        other => panic!("{STAGE} is `{other}`, not machine, init or guest"),
    }
}

/// Waits for a process and what it prints; past the limit it is killed, and its machine goes with it.
fn wait_at_most(child: Child, limit: Duration) -> Result<Output, String> {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid is positive"));
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            // The sender is dropped, which ends the wait, as soon as the process is reaped.
            let late = is_done.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                let _ = kill(pid, Signal::SIGKILL);
            }
            late
        });
        let output = child.wait_with_output();
        drop(done);
        if watch.join().expect("the watch does not panic") {
            return Err(format!("took longer than {} s", limit.as_secs()));
        }
        output.map_err(|error| format!("waiting for the machine: {error}"))
    })
}

/// This program again, as the next of the three processes. What the caller ignores (nohup(1): SIGHUP) is not ignored there: a
/// shell cannot catch what was ignored when it was started (sh(1), trap).
fn next_stage(stage: &str, job: &str) -> Command {
    let me = std::env::current_exe().expect("/proc/self/exe is readable");
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(me);
    command.arg(job).env(STAGE, stage);
    command
}

/// The first process: still on the machine, makes the new one and waits for it.
fn machine(job: &str, kind: Kind) -> ExitCode {
    die_with_parent();
    let mut new = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    if kind == Kind::Alone {
        enter_own_cgroups().expect("the machine's cgroups");
        new |= CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWCGROUP;
    }
    unshare(new).expect("new namespaces");
    leave_the_root_cgroup().expect("the session's cgroup");
    let status = next_stage("init", job)
        .status()
        .expect("the machine's init starts");
    exit_code(status)
}

/// The second process: pid 1 of the machine. A process of its own and not the guest, since it reaps whoever dies, and would take
/// the guest's children from under its `wait`.
fn init(job: &str, kind: Kind) -> ExitCode {
    die_with_parent();
    match kind {
        Kind::Alone => mount_everything().expect("the machine's mounts"),
        Kind::BesideSystemd => {
            mount_own_places().expect("the machine's mounts");
            prctl::set_child_subreaper(true).expect("PR_SET_CHILD_SUBREAPER takes 1");
        }
    }
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.expect("ip runs").success(), "lo does not come up");
    let mut guest = next_stage("guest", job).spawn().expect("the guest starts");
    let guest_pid = Pid::from_raw(i32::try_from(guest.id()).expect("a pid is positive"));
    loop {
        // Looks only, so that the guest is still there for its own `wait`.
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Ok(status) if status.pid() == Some(guest_pid) => {
                let status = guest.wait().expect("the guest is dead and not yet reaped");
                if kind == Kind::BesideSystemd {
                    end_descendants();
                }
                return exit_code(status);
            }
            Ok(status) => {
                waitpid(status.pid(), None).expect("an orphan is dead and not yet reaped");
            }
            Err(Errno::EINTR) => {}
            Err(errno) => panic!("waiting for the guest: {errno}"),
        }
    }
}

/// Ends what is left of a machine's processes, where no pid namespace does: as the subreaper, this process inherits them one
/// after the other.
fn end_descendants() {
    loop {
        for pid in descendants(std::process::id()) {
            // Dead already, or it dies now.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        match waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// The processes that descend from this one.
pub fn descendants(of: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .expect("/proc is readable")
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent = stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, its)| *its == parent)
                .map(|(pid, _)| pid),
        );
        next += 1;
    }
    found.split_off(1)
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
pub struct Hierarchy {
    /// Where it is.
    pub mount_point: PathBuf,
    fstype: String,
    /// What names a v1 hierarchy when it is mounted: `cpu,cpuacct`, `name=systemd`. Empty for v2.
    options: String,
}

/// All that are mounted below `/sys/fs/cgroup`.
pub fn hierarchies() -> Vec<Hierarchy> {
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
        let under = mount_point.starts_with(CGROUPS);
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
            // What the root does not hand down, the sub-tree does not have (cgroups(7), cgroup.subtree_control). Beside v1
            // there is nothing of use in it, and crun refuses a v2 with controllers there.
            if root == Path::new(CGROUPS) {
                let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
                for controller in controllers.split_whitespace() {
                    // One that is refused, as cpu is while there are real-time processes, is not there for the job.
                    let _ = fs::write(
                        root.join("cgroup.subtree_control"),
                        format!("+{controller}"),
                    );
                }
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

/// Goes on in the cgroup of the machine's own processes: this process is in the root of the new cgroup namespace, where
/// [`init`] cannot see it, and where nobody may be for controllers to be handed down.
fn leave_the_root_cgroup() -> io::Result<()> {
    let name = format!("{CGROUP_PREFIX}{}", std::process::id());
    for hierarchy in hierarchies() {
        let own = hierarchy.mount_point.join(&name);
        let controllers = fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
        if hierarchy.fstype == "cgroup2" && !controllers.trim().is_empty() {
            fs::create_dir(own.join(SESSION))?;
            fs::write(own.join(SESSION).join("cgroup.procs"), "0")?;
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
    // The leaf that init itself made for its processes.
    left.retain(|dir| !own.iter().any(|own| *dir == own.join(SESSION)));
    for own in &own {
        for dir in directories_below(own).iter().rev().chain([own]) {
            let since = Instant::now();
            // EBUSY while a killed process is still on its way out.
            while let Err(error) = fs::remove_dir(dir) {
                if error.kind() != ErrorKind::ResourceBusy || since.elapsed() > at_most(SETTLE) {
                    left.push(dir.clone());
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    left
}

/// Removes the cgroups of machines whose maker was killed.
pub fn remove_abandoned_cgroups() {
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
pub fn directories_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            found.extend(directories_below(&entry.path()));
        }
    }
    found
}

/// The cgroup, at the root of a v2 hierarchy, that the machine's own processes are in: a cgroup that hands controllers down
/// must be without processes (cgroups(7), "no internal processes"), and the real root alone is free of that rule.
const SESSION: &str = "session";

/// Gives the new namespaces their own view of the kernel, and an empty `/run` for state.
fn mount_everything() -> io::Result<()> {
    const NONE: Option<&str> = None;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Nothing that is mounted here may reach the machine, nor the other way.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    // What is below the new /run would be out of sight, but not out of reach: a mount goes with its mount point (rmdir(2) of one
    // in use by another namespace, `detach_mounts` in fs/namespace.c), as when a user logs out.
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    for mounted in mountinfo.lines().rev() {
        let at = mounted.split(' ').nth(4).unwrap_or_default();
        if at.starts_with("/run/") {
            umount2(at, MntFlags::MNT_DETACH)?;
        }
    }
    let machines = hierarchies();
    let links: Vec<(PathBuf, PathBuf)> = fs::read_dir(CGROUPS)
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
        .any(|hierarchy| hierarchy.mount_point != Path::new(CGROUPS));
    if hybrid {
        mount(
            Some("tmpfs"),
            CGROUPS,
            Some("tmpfs"),
            plain,
            Some("mode=755"),
        )?;
    }
    for hierarchy in machines {
        // In the new cgroup namespace the root of each hierarchy is the machine's sub-tree (cgroup_namespaces(7)).
        fs::create_dir_all(&hierarchy.mount_point)?;
        let (at, fstype) = (&hierarchy.mount_point, hierarchy.fstype.as_str());
        let options = (fstype == "cgroup").then_some(hierarchy.options.as_str());
        mount(Some("cgroup"), at, Some(fstype), plain, options)?;
        let controllers = fs::read_to_string(at.join("cgroup.controllers")).unwrap_or_default();
        if fstype == "cgroup2" && !controllers.trim().is_empty() {
            for process in fs::read_to_string(at.join("cgroup.procs"))?.lines() {
                fs::write(at.join(SESSION).join("cgroup.procs"), process)?;
            }
        }
    }
    for (name, target) in links {
        std::os::unix::fs::symlink(target, name)?;
    }
    mount_cache()?;
    add_user()
}

/// Gives the machine a place of its own for what tincan keeps to be faster.
fn mount_cache() -> io::Result<()> {
    const NONE: Option<&str> = None;
    let tmpfs = Some("tmpfs");
    mount(
        tmpfs,
        "/var/cache",
        tmpfs,
        MsFlags::empty(),
        Some("mode=755"),
    )?;
    mount(NONE, "/var/cache", NONE, MsFlags::MS_PRIVATE, NONE)?;
    Ok(())
}

/// The directories in which tincan keeps something, and the one to work in.
pub const OWN_PLACES: [&str; 3] = ["/run/tincan", "/run/netns", WORK];

/// Gives the machine its own of those, where all else is as it is outside; what is mounted outside, as for a user who comes,
/// is seen here.
fn mount_own_places() -> io::Result<()> {
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
    for place in OWN_PLACES {
        fs::create_dir_all(place)?;
        mount(
            Some("tmpfs"),
            place,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=755"),
        )?;
    }
    mount_cache()
}

/// Adds the user to the tables of users, of which the machine gets copies.
fn add_user() -> io::Result<()> {
    const NONE: Option<&str> = None;
    let (first, count) = SUBIDS;
    fs::create_dir_all(RUNTIME)?;
    for (table, line) in [
        (
            "passwd",
            format!("{USER_NAME}:x:{USER}:{USER}::{RUNTIME}:/bin/sh\n"),
        ),
        ("group", format!("{USER_NAME}:x:{USER}:\n")),
        ("subuid", format!("{USER_NAME}:{first}:{count}\n")),
        ("subgid", format!("{USER_NAME}:{first}:{count}\n")),
    ] {
        let place = Path::new("/etc").join(table);
        let copy = Path::new("/run/user").join(table);
        fs::write(&copy, fs::read_to_string(&place)? + &line)?;
        mount(Some(&copy), &place, NONE, MsFlags::MS_BIND, NONE)?;
    }
    std::os::unix::fs::chown(RUNTIME, Some(USER), Some(USER))?;
    fs::set_permissions(RUNTIME, fs::Permissions::from_mode(0o700))?;
    fs::File::create(TINCAN)?;
    let tincan = env!("CARGO_BIN_EXE_tincan");
    mount(Some(tincan), TINCAN, NONE, MsFlags::MS_BIND, NONE).map_err(io::Error::from)
}

/// Whether a condition comes true in the time that things may take.
pub fn settles(mut condition: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    while !condition() {
        if since.elapsed() > at_most(SETTLE) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
