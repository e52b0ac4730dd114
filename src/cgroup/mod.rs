//! A container's cgroup: made, limited, entered, frozen, emptied and removed, whether the host has v1 hierarchies, v2, or
//! both (cgroups(7)).

mod dbus;
pub mod oom;
pub mod stats;
pub mod systemd;
mod v1;
mod v2;

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Access;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::plan;
use crate::plan::cgroup::PARENT;
use crate::plan::facts::{CgroupLayout, Hierarchy, Manager};
use crate::plan::topology::{Absent, Cgroup, CgroupSetting, Hierarchies};
use crate::sys;
use crate::sys::errno_of;

/// Something that could not be done to a cgroup: what, to which file or directory, for which property, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What was tried.
    pub what: What,
    /// The file or directory.
    pub path: PathBuf,
    /// The property of `config.json` that asked for it, if one did.
    pub property: Option<String>,
    /// Why.
    pub errno: Errno,
}

/// What was tried, for [`Failed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Make the directory.
    Make,
    /// Use a directory that exists: a process, one of maybe many, is in it.
    Use {
        /// The process.
        pid: i32,
    },
    /// Read the file.
    Read,
    /// Write this text to the file.
    Write(String),
    /// Write this limit to the file, although so much is in use.
    Limit {
        /// The limit.
        value: u64,
        /// What is in use.
        used: u64,
    },
    /// Open the file or directory.
    Open,
    /// Load the device program for the directory.
    LoadDevices,
    /// Attach the device program to the directory.
    AttachDevices,
    /// Use the directory, in which, or above which, everything is frozen.
    UseFrozen,
    /// Freeze the processes, and wait until they are.
    Freeze,
    /// Send a signal to one of the processes.
    Kill {
        /// The process.
        pid: i32,
        /// The signal's number.
        signal: i32,
    },
    /// Remove the directory.
    Remove,
}

impl Failed {
    fn new(what: What, path: &Path, errno: Errno) -> Failed {
        Failed {
            what,
            path: path.to_owned(),
            property: None,
            errno,
        }
    }

    /// Whether the cgroup belongs to somebody else, so that its undo must not touch it.
    pub fn is_occupied(&self) -> bool {
        matches!(self.what, What::Use { .. })
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.what {
            What::Make => write!(f, "make the cgroup {path}")?,
            What::Use { pid } => {
                return write!(f, "the cgroup {path} is not empty: process {pid} is in it");
            }
            What::UseFrozen => {
                return write!(f, "the cgroup {path} is frozen: nothing would go on in it");
            }
            What::Read => write!(f, "read {path}")?,
            What::Write(text) => write!(f, "write `{text}` to {path}")?,
            What::Limit { value, .. } => write!(f, "write `{value}` to {path}")?,
            What::Open => write!(f, "open {path}")?,
            What::LoadDevices => write!(f, "load the device program for {path}")?,
            What::AttachDevices => write!(f, "attach the device program to {path}")?,
            What::Freeze => write!(f, "freeze the processes in {path}")?,
            What::Kill { pid, signal } => {
                write!(f, "send signal {signal} to process {pid} in {path}")?
            }
            What::Remove => write!(f, "remove the cgroup {path}")?,
        }
        if let Some(property) = &self.property {
            write!(f, " for {property}")?;
        }
        if let What::Limit { used, .. } = self.what {
            return write!(f, ": {used} are in use already");
        }
        let cause = nix::errno::Errno::from_raw(self.errno.raw_os_error()).desc();
        write!(f, ": {cause}")
    }
}

impl std::error::Error for Failed {}

/// How this host's cgroups are laid out.
pub fn layout() -> io::Result<CgroupLayout> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    File::open("/proc/self/mountinfo")?.read_to_end(&mut buffer)?;
    let mounts = buffer.len();
    File::open("/proc/self/cgroup")?.read_to_end(&mut buffer)?;
    let mut layout = parse_layout(&buffer[..mounts], &buffer[mounts..]);
    if let Some(v2) = &mut layout.v2 {
        match fs::read_to_string(v2.mount_point.join("cgroup.controllers")) {
            Ok(text) => v2.controllers = text.split_whitespace().map(str::to_owned).collect(),
            // Another file system is mounted above it, as a new sysfs on /sys: none of them can be reached.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                layout.v2 = None;
                let is_there = |it: &Hierarchy| it.mount_point.join("cgroup.procs").exists();
                layout.v1.retain(is_there);
            }
            Err(cause) => return Err(cause),
        }
    }
    Ok(layout)
}

/// The part of a layout that is delegated to a user who is not root (cgroup-v2.rst, Delegation): of v2 alone, since giving a
/// part of v1 away is not safe; from the highest cgroup above our own that the user may move processes in.
pub fn delegated(whole: CgroupLayout) -> CgroupLayout {
    let v2 = whole.v2.as_ref().filter(|_| whole.v1.is_empty());
    CgroupLayout {
        v1: Vec::new(),
        v2: v2.and_then(delegated_part),
        whole: Some(Box::new(whole)),
    }
}

/// The part of a layout in which a user's systemd makes cgroups: all of v2, but with those controllers alone that the system's
/// gives on to it (user@.service(5)).
pub fn delegated_to(manager: Manager, whole: CgroupLayout) -> CgroupLayout {
    let root = plan::systemd::root(manager);
    let v2 = whole.v2.as_ref().filter(|_| whole.v1.is_empty());
    let v2 = v2.map(|v2| {
        let dir = v2.mount_point.join(root.strip_prefix("/").unwrap_or(&root));
        let given = read(&dir.join("cgroup.controllers")).unwrap_or_default();
        Hierarchy {
            controllers: given.split_whitespace().map(str::to_owned).collect(),
            ..v2.clone()
        }
    });
    CgroupLayout {
        v1: Vec::new(),
        v2,
        whole: Some(Box::new(whole)),
    }
}

fn delegated_part(v2: &Hierarchy) -> Option<Hierarchy> {
    let own = v2
        .mount_point
        .join(v2.own.strip_prefix("/").unwrap_or(&v2.own));
    let may_write = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
    let is_ours = |dir: &&Path| {
        dir.starts_with(&v2.mount_point) && may_write(dir) && may_write(&dir.join("cgroup.procs"))
    };
    let top = own.ancestors().take_while(is_ours).last()?;
    // A cgroup with processes in it can give no more controllers on than it does already (cgroups(7), "no internal
    // processes" rule).
    let is_empty = read(&top.join("cgroup.procs")).ok()?.is_empty();
    let file = if is_empty {
        "cgroup.controllers"
    } else {
        "cgroup.subtree_control"
    };
    let controllers = read(&top.join(file)).ok()?;
    Some(Hierarchy {
        controllers: controllers.split_whitespace().map(str::to_owned).collect(),
        mount_point: top.to_owned(),
        own: PathBuf::from("/"),
    })
}

/// The layout by `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and `/proc/self/cgroup`, without the controllers of v2.
fn parse_layout(mountinfo: &[u8], own: &[u8]) -> CgroupLayout {
    let mut layout = CgroupLayout {
        v1: Vec::new(),
        v2: None,
        whole: None,
    };
    // Mount point, and the super block's options for v1, of each mount of a hierarchy.
    let mut mounts: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
    for line in mountinfo.split(|b| *b == b'\n') {
        let mut words = line.split(|b| *b == b' ');
        let Some(mount_point) = words.nth(4) else {
            continue;
        };
        // The optional fields end with a dash; after it type, source and the super block's options.
        let mut words = words.skip_while(|word| *word != b"-").skip(1);
        match (words.next(), words.nth(1)) {
            (Some(b"cgroup"), Some(options)) => mounts.push((mount_point, Some(options))),
            (Some(b"cgroup2"), _) => mounts.push((mount_point, None)),
            _ => {}
        }
    }
    for line in own.split(|b| *b == b'\n') {
        let mut words = line.splitn(3, |b| *b == b':');
        let (Some(_), Some(controllers), Some(path)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let mounted = mounts.iter().find(|(_, options)| match options {
            None => controllers.is_empty(),
            Some(options) => {
                !controllers.is_empty()
                    && controllers
                        .split(|b| *b == b',')
                        .all(|controller| options.split(|b| *b == b',').any(|o| o == controller))
            }
        });
        let Some((mount_point, options)) = mounted else {
            continue;
        };
        let hierarchy = Hierarchy {
            controllers: String::from_utf8_lossy(controllers)
                .split_terminator(',')
                .map(str::to_owned)
                .collect(),
            mount_point: unescape(mount_point),
            own: PathBuf::from(OsStr::from_bytes(path)),
        };
        if options.is_some() {
            layout.v1.push(hierarchy);
        } else {
            layout.v2 = Some(hierarchy);
        }
    }
    layout
}

/// The kernel writes white space and backslashes in a path of mountinfo as `\040` (fs/seq_file.c, mangle_path).
fn unescape(path: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|digits| *byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                plain.push(
                    digits
                        .iter()
                        .fold(0u8, |n, d| n.wrapping_mul(8).wrapping_add(d - b'0')),
                );
                rest = &after[3..];
            }
            None => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsStr::from_bytes(&plain))
}

/// Where a container's cgroup is: the directory in every hierarchy that it is in. Known before anything is made, so that
/// the undo can be journalled first; kept in the container's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// In v1: the hierarchy's controllers, joined by commas, and the directory.
    pub v1: Vec<(String, PathBuf)>,
    /// In v2.
    pub v2: Option<PathBuf>,
}

impl Location {
    /// Where the cgroup of a plan will be.
    pub fn planned(plan: &Cgroup, layout: &CgroupLayout) -> Location {
        Location::at(&plan.path, plan, layout)
    }

    /// Where the cgroup of a plan is, when it is at this path.
    pub fn at(path: &Path, plan: &Cgroup, layout: &CgroupLayout) -> Location {
        let below = |h: &Hierarchy| {
            let mut dir = h.mount_point.clone();
            // No path of a bundle leads out of the hierarchy.
            let mut depth = 0;
            for component in path.components() {
                match component {
                    Component::Normal(name) => {
                        dir.push(name);
                        depth += 1;
                    }
                    Component::ParentDir if depth > 0 => {
                        dir.pop();
                        depth -= 1;
                    }
                    _ => {}
                }
            }
            dir
        };
        let v1 = layout.v1.iter().filter(|h| plan.is_made_in(h, layout));
        Location {
            v1: v1.map(|h| (h.controllers.join(","), below(h))).collect(),
            v2: layout.v2.as_ref().map(below),
        }
    }

    /// Gives a cgroup that is there other settings. Those before one that fails stay.
    ///
    /// # Errors
    /// The first that the kernel refuses, or that is for a hierarchy in which the cgroup is not.
    pub fn update(&self, plan: &Cgroup, layout: &CgroupLayout) -> Result<(), Failed> {
        self.enable(plan, layout)?;
        write_settings(self, &plan.settings)
    }

    /// Enables the controllers of v2 that a plan has settings for.
    fn enable(&self, plan: &Cgroup, layout: &CgroupLayout) -> Result<(), Failed> {
        let (Some(dir), Some(v2)) = (&self.v2, &layout.v2) else {
            return Ok(());
        };
        let needed: Vec<&str> = plan
            .settings
            .iter()
            .map(|setting| setting.controller.as_str())
            .filter(|c| self.v1_of(c).is_none() && v2.controllers.iter().any(|has| has == c))
            .collect();
        let all = layout.v1.is_empty() && plan.hierarchies == Hierarchies::Every;
        v2::enable(v2, dir, &needed, all)
    }

    /// The directory by which it is frozen.
    pub fn freezer(&self) -> Option<&Path> {
        match &self.v2 {
            Some(dir) if v2::can_freeze(dir) => Some(dir),
            _ => self.v1_of("freezer"),
        }
    }

    /// Every directory.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        let v1 = self.v1.iter().map(|(_, dir)| dir.as_path());
        v1.chain(self.v2.as_deref())
    }

    /// The v1 directory of a controller.
    fn v1_of(&self, controller: &str) -> Option<&Path> {
        self.v1
            .iter()
            .find(|(controllers, _)| controllers.split(',').any(|c| c == controller))
            .map(|(_, dir)| dir.as_path())
    }

    /// Fails when a process is in any of the directories already, or below. To be asked before the undo is journalled: what
    /// is somebody else's must not be undone.
    pub fn check_vacant(&self) -> Result<(), Failed> {
        self.directories().try_for_each(check_vacant)
    }

    /// Fails when a process that comes into the cgroup, which need not be there yet, would not go on (config-linux.md, Control groups: a frozen
    /// one is an error). Like [`check_vacant`](Self::check_vacant), to be asked first.
    pub fn check_thawed(&self) -> Result<(), Failed> {
        let v1 = self.v1_of("freezer").map(|dir| (dir, v1::holds as Holds));
        let v2 = self.v2.as_deref().map(|dir| (dir, v2::holds as Holds));
        for (dir, holds) in v1.into_iter().chain(v2) {
            // The nearest one that is there: what is made below is frozen with it.
            let there = dir.ancestors().find(|dir| dir.exists());
            if let Some(dir) = there
                && holds(dir)?
            {
                return Err(Failed::new(What::UseFrozen, dir, Errno::BUSY));
            }
        }
        Ok(())
    }

    /// Goes down to a cgroup below, in the hierarchy of one controller (`unified` is v2) or in all. `false` when the path
    /// leads up, or no hierarchy of ours has the controller.
    pub fn descend(&mut self, controller: Option<&str>, below: &Path) -> bool {
        let below = below.strip_prefix("/").unwrap_or(below);
        let mut parts = below.components();
        if !parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return false;
        }
        let is_asked = |controllers: &str| {
            controller.is_none_or(|asked| controllers.split(',').any(|one| one == asked))
        };
        let mut found = false;
        for (controllers, dir) in &mut self.v1 {
            if is_asked(controllers) {
                dir.push(below);
                found = true;
            }
        }
        if let Some(dir) = self.v2.as_mut().filter(|_| is_asked("unified")) {
            dir.push(below);
            found = true;
        }
        found
    }

    /// What a process needs to enter the cgroup, which exists.
    pub fn open_existing(&self) -> Result<Entrances, Failed> {
        let mut tasks = Vec::with_capacity(self.v1.len());
        for (_, dir) in &self.v1 {
            let file = dir.join("tasks");
            let opened = OpenOptions::new().write(true).open(&file);
            tasks.push(opened.map_err(|e| Failed::new(What::Open, &file, errno_of(&e)))?);
        }
        let v2 = match &self.v2 {
            Some(dir) => {
                let opened = File::open(dir);
                Some(
                    opened
                        .map_err(|e| Failed::new(What::Open, dir, errno_of(&e)))?
                        .into(),
                )
            }
            None => None,
        };
        Ok(Entrances { tasks, v2 })
    }

    /// The one directory by which the processes are listed. Every process of a container is in the v2 cgroup, where there
    /// is one.
    fn list_in(&self) -> Option<&Path> {
        self.v2
            .as_deref()
            .or_else(|| self.v1_of("freezer"))
            .or_else(|| self.directories().next())
    }

    /// The processes in the cgroup and below it, as this process's pid namespace numbers them. None when it is gone.
    pub fn pids(&self) -> Result<Vec<i32>, Failed> {
        let mut pids = Vec::new();
        if let Some(dir) = self.list_in() {
            collect_pids(dir, &mut pids)?;
        }
        Ok(pids)
    }

    /// Sends a signal to every process in the cgroup and below it. They are frozen meanwhile, so that none escapes by
    /// forking; a container that was frozen before stays so, but for SIGKILL.
    pub fn kill_all(&self, signal: i32) -> Result<(), Failed> {
        let kill = signal == libc::SIGKILL;
        if kill && self.v2.as_deref().is_some_and(v2::kill) {
            return self.let_killed_go();
        }
        let was_frozen = self.is_frozen()?;
        let froze = !was_frozen && self.freeze().is_ok();
        let sent = self.pids().and_then(|pids| self.send(&pids, signal));
        if froze || (was_frozen && kill) {
            self.thaw()?;
        }
        sent
    }

    fn send(&self, pids: &[i32], signal: i32) -> Result<(), Failed> {
        let mut result = Ok(());
        for &pid in pids {
            match sys::signal::send(pid, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(e) => {
                    let dir = self.list_in().unwrap_or(Path::new(""));
                    result = Err(Failed::new(What::Kill { pid, signal }, dir, e));
                }
            }
        }
        result
    }

    /// Stops every process in the cgroup and below it until [`thaw`](Self::thaw), and returns when they are stopped.
    pub fn freeze(&self) -> Result<(), Failed> {
        match &self.v2 {
            Some(dir) if v2::can_freeze(dir) => v2::freeze(dir),
            _ => v1::freeze(self),
        }
    }

    /// Lets the processes go on, whoever froze them: where there are v1 hierarchies and v2, either does.
    pub fn thaw(&self) -> Result<(), Failed> {
        if let Some(dir) = self.v2.as_deref().filter(|dir| v2::can_freeze(dir)) {
            v2::thaw(dir)?;
        }
        v1::thaw(self)
    }

    /// Whether the processes are frozen, or about to be, in v1 or v2. Not when the cgroup is gone, or cannot freeze.
    pub fn is_frozen(&self) -> Result<bool, Failed> {
        let v2 = self.v2.as_deref().filter(|dir| v2::can_freeze(dir));
        Ok(v2.map_or(Ok(false), v2::is_frozen)? || v1::is_frozen(self)?)
    }

    /// Lets processes that were killed die: v2 does so by itself, but a v1 freezer holds even them back.
    pub fn let_killed_go(&self) -> Result<(), Failed> {
        v1::thaw(self)
    }

    /// Removes the cgroup, and what the workload made below it. What is not there counts as removed. A process in it is a
    /// failure.
    pub fn remove(&self) -> Result<(), Vec<Failed>> {
        self.remove_within(Duration::from_secs(2), false)
    }

    /// Removes the cgroup and kills what is still in it. Never for a cgroup whose [`check_vacant`](Self::check_vacant)
    /// failed.
    pub fn remove_killing(&self) -> Result<(), Vec<Failed>> {
        self.remove_within(Duration::from_secs(2), true)
    }

    /// A process leaves its cgroup a moment after its parent was told of its end (kernel/exit.c), hence the patience.
    fn remove_within(&self, patience: Duration, kill: bool) -> Result<(), Vec<Failed>> {
        let mut left: Vec<(&Path, Failed)> = Vec::new();
        for dir in self.directories() {
            if let Err(failed) = remove_dir(dir) {
                left.push((dir, failed));
            }
        }
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_micros(50);
        let mut killed = Ok(());
        if kill && !left.is_empty() {
            killed = self.kill_all(libc::SIGKILL);
        }
        while left.iter().any(|(_, failed)| failed.errno == Errno::BUSY)
            && Instant::now() < deadline
        {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
            left.retain_mut(|(dir, failed)| {
                if kill {
                    // What is in this directory alone, where a start was cut off half-way.
                    let mut pids = Vec::new();
                    killed =
                        collect_pids(dir, &mut pids).and_then(|()| self.send(&pids, libc::SIGKILL));
                }
                match remove_tree(dir) {
                    Ok(()) => false,
                    Err(now) => {
                        *failed = now;
                        true
                    }
                }
            });
        }
        for dir in self.directories() {
            if let Some(parent) = dir
                .parent()
                .filter(|p| p.file_name() == Some(OsStr::new(PARENT)))
            {
                // Fails as long as another container is there, which is as it should be.
                let _ = fs::remove_dir(parent);
            }
        }
        for (_, dir) in self.v1.iter().filter(|(names, _)| !v1::is_systemds(names)) {
            let slices = dir.ancestors().skip(1);
            let mut slices = slices.take_while(|d| d.extension() == Some(OsStr::new("slice")));
            // Made for this container, since systemd makes none there; the first that another one needs stays.
            while slices
                .next()
                .is_some_and(|slice| fs::remove_dir(slice).is_ok())
            {}
        }
        if left.is_empty() {
            return Ok(());
        }
        let failures = left.into_iter().map(|(_, failed)| failed);
        Err(killed.err().into_iter().chain(failures).collect())
    }
}

/// What a process needs to enter a cgroup. All descriptors are close-on-exec.
#[derive(Debug)]
pub struct Entrances {
    /// The `tasks` file of each v1 directory.
    tasks: Vec<File>,
    v2: Option<OwnedFd>,
}

impl Entrances {
    /// Puts the calling thread, which is the only one of its process, into every v1 hierarchy. Into v2 it comes by being
    /// cloned there ([`v2_dir`](Self::v2_dir)).
    ///
    /// By `tasks` and not `cgroup.procs`, whose lock on the whole thread group waits for an RCU grace period: 5 to 13 ms
    /// against 0.25 for ten hierarchies.
    pub fn enter(&self) -> Result<(), Errno> {
        for mut file in &self.tasks {
            file.write_all(b"0").map_err(|e| errno_of(&e))?;
        }
        Ok(())
    }

    /// The v2 directory, for clone3's CLONE_INTO_CGROUP.
    pub fn v2_dir(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }
}

/// A container's cgroup that has just been made.
#[derive(Debug)]
pub struct Group {
    location: Location,
    entrances: Entrances,
}

impl Group {
    /// Makes the cgroup in its hierarchies, and writes the settings. What exists already and is empty is used; when a
    /// process is in it, that is an error, as in runc. What was made stays on failure: the undo, journalled before, takes
    /// it away.
    pub fn create(plan: &Cgroup, layout: &CgroupLayout) -> Result<Group, Failed> {
        let location = Location::planned(plan, layout);
        for dir in location.directories() {
            make(dir)?;
        }
        let entrances = set_up(&location, plan, layout)?;
        Ok(Group {
            location,
            entrances,
        })
    }

    /// Where it is, for the container's state.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// What the child needs to enter it.
    pub fn into_entrances(self) -> Entrances {
        self.entrances
    }

    /// The v2 directory, for clone3's CLONE_INTO_CGROUP.
    pub fn v2_dir(&self) -> Option<BorrowedFd<'_>> {
        self.entrances.v2_dir()
    }
}

/// Gives a cgroup whose directories are there its controllers and settings, and opens the ways into it.
fn set_up(location: &Location, plan: &Cgroup, layout: &CgroupLayout) -> Result<Entrances, Failed> {
    if let Some(dir) = location.v1_of("cpuset") {
        v1::inherit_cpuset(dir, plan, layout)?;
    }
    location.enable(plan, layout)?;
    write_settings(location, &plan.settings)?;
    let entrances = location.open_existing()?;
    if let (Some(dir), Some(fd)) = (&location.v2, entrances.v2_dir()) {
        v2::limit_devices(dir, fd, &plan.devices)?;
    }
    Ok(entrances)
}

/// Makes the rest of a cgroup that systemd has made around a process: the hierarchies that systemd leaves alone, and what it
/// has no properties for.
///
/// # Errors
/// As [`Group::create`]; what was made stays for the undo.
pub fn complete(
    location: &Location,
    plan: &Cgroup,
    layout: &CgroupLayout,
    pid: i32,
) -> Result<(), Failed> {
    for dir in location.directories() {
        fs::create_dir_all(dir).map_err(|e| Failed::new(What::Make, dir, errno_of(&e)))?;
    }
    drop(set_up(location, plan, layout)?);
    if !layout.v1.is_empty() {
        for (_, dir) in &location.v1 {
            write(&dir.join("tasks"), &pid.to_string())?;
        }
        if let Some(dir) = &location.v2 {
            write(&dir.join("cgroup.procs"), &pid.to_string())?;
        }
    }
    Ok(())
}

/// Whether a cgroup of one version holds whoever comes into it.
type Holds = fn(&Path) -> Result<bool, Failed>;

/// Makes a directory and what is missing above it. One that exists must be vacant.
fn make(dir: &Path) -> Result<(), Failed> {
    loop {
        match fs::create_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return check_vacant(dir),
            // The parent is missing, or has just gone with another container: once more.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let Some(parent) = dir.parent() else {
                    return Err(Failed::new(What::Make, dir, errno_of(&e)));
                };
                fs::create_dir_all(parent)
                    .map_err(|e| Failed::new(What::Make, parent, errno_of(&e)))?;
            }
            Err(e) => return Err(Failed::new(What::Make, dir, errno_of(&e))),
        }
    }
}

fn check_vacant(dir: &Path) -> Result<(), Failed> {
    let mut pids = Vec::new();
    collect_pids(dir, &mut pids)?;
    match pids.first() {
        None => Ok(()),
        Some(&pid) => Err(Failed::new(What::Use { pid }, dir, Errno::BUSY)),
    }
}

/// Writes the settings, each to its file where its controller is. Settings of one file that follow each other (the device
/// rules) are written through one descriptor, each in a call of its own.
fn write_settings(location: &Location, settings: &[CgroupSetting]) -> Result<(), Failed> {
    let mut last: Option<(PathBuf, File)> = None;
    for setting in settings {
        let failed = |file: &Path, errno| Failed {
            property: Some(setting.property.clone()),
            ..Failed::new(What::Write(setting.value.clone()), file, errno)
        };
        let dir = location
            .v1_of(&setting.controller)
            .or(location.v2.as_deref());
        let Some(dir) = dir else {
            return Err(failed(Path::new(&setting.file), Errno::NOENT));
        };
        let path = dir.join(&setting.file);
        if let Some(above) = &setting.above {
            check_above_use(&setting.value, &dir.join(above), &path).map_err(|other| Failed {
                property: Some(setting.property.clone()),
                ..other
            })?;
        }
        let mut file = match last.take().filter(|(last, _)| *last == path) {
            Some((_, file)) => file,
            None => match (OpenOptions::new().write(true).open(&path), &setting.absent) {
                (Ok(file), _) => file,
                (Err(e), Absent::Leave) if errno_of(&e) == Errno::NOENT => continue,
                (Err(e), Absent::Instead { file, value }) if errno_of(&e) == Errno::NOENT => {
                    write(&dir.join(file), value).map_err(|other| Failed {
                        property: Some(setting.property.clone()),
                        ..other
                    })?;
                    continue;
                }
                (Err(e), _) => return Err(failed(&path, errno_of(&e))),
            },
        };
        file.write_all(setting.value.as_bytes())
            .map_err(|e| failed(&path, errno_of(&e)))?;
        last = Some((path, file));
    }
    Ok(())
}

/// Refuses a limit that is not above what is in use. As in runc, nothing is refused where the use is not told.
fn check_above_use(value: &str, usage: &Path, file: &Path) -> Result<(), Failed> {
    let used = read(usage).ok().and_then(|text| text.trim().parse().ok());
    match (value.parse(), used) {
        (Ok(value), Some(used)) if value <= used => {
            Err(Failed::new(What::Limit { value, used }, file, Errno::BUSY))
        }
        _ => Ok(()),
    }
}

/// Writes a file of a cgroup: in one call, since each call is a command of its own to the kernel.
fn write(file: &Path, text: &str) -> Result<(), Failed> {
    // Without O_CREAT, by which a missing file would be EACCES and not ENOENT.
    let written = OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut opened| opened.write_all(text.as_bytes()));
    written.map_err(|e| Failed::new(What::Write(text.to_owned()), file, errno_of(&e)))
}

/// What stands for a file that is not there, or whose cgroup is just going.
fn absent_is<T>(result: Result<T, Failed>, otherwise: T) -> Result<T, Failed> {
    match result {
        Err(Failed {
            errno: Errno::NOENT | Errno::NODEV,
            ..
        }) => Ok(otherwise),
        other => other,
    }
}

fn read(file: &Path) -> Result<String, Failed> {
    fs::read_to_string(file).map_err(|e| Failed::new(What::Read, file, errno_of(&e)))
}

/// Adds the processes in a cgroup and below it. What vanishes meanwhile, or has threads alone (cgroup-v2.rst, Threads:
/// the domain above lists those), has none.
fn collect_pids(dir: &Path, pids: &mut Vec<i32>) -> Result<(), Failed> {
    match read(&dir.join("cgroup.procs")) {
        // 0 is a process that this pid namespace does not see.
        Ok(text) => pids.extend(
            text.lines()
                .filter_map(|l| l.parse::<i32>().ok())
                .filter(|pid| *pid > 0),
        ),
        Err(Failed {
            errno: Errno::NOENT | Errno::NODEV,
            ..
        }) => return Ok(()),
        Err(Failed {
            errno: Errno::OPNOTSUPP,
            ..
        }) => {}
        Err(failed) => return Err(failed),
    }
    for child in children(dir)? {
        collect_pids(&child, pids)?;
    }
    Ok(())
}

fn children(dir: &Path) -> Result<Vec<PathBuf>, Failed> {
    let failed = |e: io::Error| Failed::new(What::Read, dir, errno_of(&e));
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut children = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type().is_ok_and(|t| t.is_dir()) => children.push(entry.path()),
            Ok(_) => {}
            Err(e) if errno_of(&e) == Errno::NODEV || errno_of(&e) == Errno::NOENT => break,
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(children)
}

fn remove_dir(dir: &Path) -> Result<(), Failed> {
    match fs::remove_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Failed::new(What::Remove, dir, errno_of(&e)))
        }
        _ => Ok(()),
    }
}

/// Removes a directory and what is below it, the deepest first.
fn remove_tree(dir: &Path) -> Result<(), Failed> {
    for child in children(dir)? {
        remove_tree(&child)?;
    }
    remove_dir(dir)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use oci_spec::runtime::LinuxResources;

    use super::*;
    use crate::plan;

    const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 master:1 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/a\\040b rw,relatime - cgroup cgroup rw,xattr,name=systemd
34 31 0:30 / /mnt/again rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn the_layout_is_the_first_mount_of_each_hierarchy() {
        let layout = parse_layout(
            MOUNTS.as_bytes(),
            b"9:name=systemd:/user.slice\n3:cpuset:/\n1:cpu,cpuacct:/a:b\n0::/x\n",
        );
        let hierarchy = |controllers: &[&str], mount_point: &str, own: &str| Hierarchy {
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            mount_point: mount_point.into(),
            own: own.into(),
        };
        assert_eq!(
            layout.v1,
            [
                hierarchy(&["name=systemd"], "/sys/fs/cgroup/a b", "/user.slice"),
                hierarchy(&["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct", "/a:b"),
            ]
        );
        assert_eq!(
            layout.v2,
            Some(hierarchy(&[], "/sys/fs/cgroup/unified", "/x"))
        );
    }

    #[test]
    fn no_path_leads_out_of_the_hierarchy() {
        let layout = parse_layout(MOUNTS.as_bytes(), b"9:name=systemd:/\n0::/\n");
        let location = Location::planned(
            &plan("/../../a/../b", "{}", &layout, Hierarchies::Every),
            &layout,
        );
        let dirs: Vec<&Path> = location.directories().collect();
        assert_eq!(
            dirs,
            [
                Path::new("/sys/fs/cgroup/a b/b"),
                Path::new("/sys/fs/cgroup/unified/b")
            ]
        );
    }

    #[test]
    fn only_what_is_needed_is_made() {
        let layout = parse_layout(
            MOUNTS.as_bytes(),
            b"9:name=systemd:/\n1:cpu,cpuacct:/\n0::/\n",
        );
        let planned = |json: &str, layout: &CgroupLayout| {
            Location::planned(&plan("/a", json, layout, Hierarchies::Needed), layout)
        };
        assert_eq!(planned("{}", &layout).directories().count(), 1);
        let limited = planned(r#"{"cpu": {"shares": 512}}"#, &layout);
        assert_eq!(
            limited.v1,
            [(
                "cpu,cpuacct".to_owned(),
                "/sys/fs/cgroup/cpu,cpuacct/a".into()
            )]
        );
        let mut alone = plan("/a", "{}", &layout, Hierarchies::Needed);
        alone.devices.clear();
        let v1 = CgroupLayout { v2: None, ..layout };
        assert_eq!(Location::planned(&alone, &v1).directories().count(), 1);
    }

    fn plan(path: &str, json: &str, layout: &CgroupLayout, hierarchies: Hierarchies) -> Cgroup {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        plan::cgroup::cgroup(path.into(), &resources, &[], layout, hierarchies).unwrap()
    }

    /// The host's layout, if this is root; the tests below make and remove directories of their own.
    fn host() -> Option<CgroupLayout> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root may make cgroups");
            return None;
        }
        Some(layout().unwrap())
    }

    /// A cgroup that goes with the test, however that ends.
    struct Own(Location);
    impl Drop for Own {
        fn drop(&mut self) {
            self.0.remove_killing().unwrap();
        }
    }

    fn create(name: &str, json: &str, layout: &CgroupLayout) -> (Own, Cgroup, Group) {
        let path = format!("/tincan-unit-{}-{name}", std::process::id());
        let plan = plan(&path, json, layout, Hierarchies::Every);
        let own = Own(Location::planned(&plan, layout));
        own.0.check_vacant().unwrap();
        let group = Group::create(&plan, layout).unwrap();
        assert_eq!(group.location(), &own.0);
        (own, plan, group)
    }

    /// A shell in the cgroup. It does what it reads.
    fn shell(group: &Group) -> Child {
        let child = std::thread::scope(|scope| {
            let enter_and_start = || {
                group.entrances.enter().unwrap();
                Command::new("sh")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            };
            scope.spawn(enter_and_start).join().unwrap()
        });
        if let Some(v2) = &group.location().v2 {
            write(&v2.join("cgroup.procs"), &child.id().to_string()).unwrap();
        }
        child
    }

    fn answer(group: &Group, script: &str) -> String {
        let mut child = shell(group);
        child
            .stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_cgroup_lives_from_create_to_remove() {
        let Some(layout) = host() else { return };
        let (own, plan, group) = create("life", r#"{"pids": {"limit": 7}}"#, &layout);
        let pids = own.0.v1_of("pids").or(own.0.v2.as_deref()).unwrap();
        assert_eq!(read(&pids.join("pids.max")).unwrap(), "7\n");

        let mut child = shell(&group);
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(own.0.pids().unwrap(), [pid]);
        for (_, dir) in &own.0.v1 {
            assert_eq!(
                read(&dir.join("tasks")).unwrap(),
                format!("{pid}\n"),
                "{}",
                dir.display()
            );
        }
        let occupied = Group::create(&plan, &layout).unwrap_err();
        assert!(occupied.is_occupied(), "{occupied}");
        assert!(own.0.check_vacant().is_err());
        assert!(
            own.0.remove().unwrap_err()[0]
                .to_string()
                .ends_with("Device or resource busy")
        );

        assert!(!own.0.is_frozen().unwrap());
        own.0.freeze().unwrap();
        assert!(own.0.is_frozen().unwrap());
        own.0.kill_all(libc::SIGUSR1).unwrap();
        assert!(own.0.is_frozen().unwrap(), "a signal does not thaw");
        own.0.thaw().unwrap();
        assert!(!child.wait().unwrap().success());

        let mut child = shell(&group);
        own.0.freeze().unwrap();
        own.0.kill_all(libc::SIGKILL).unwrap();
        assert!(!child.wait().unwrap().success());
        own.0.remove().unwrap();
        own.0.remove().unwrap();
        assert!(own.0.directories().all(|dir| !dir.exists()));
        assert!(own.0.pids().unwrap().is_empty());
        assert!(own.0.open_existing().is_err());
    }

    #[test]
    fn what_the_workload_made_goes_too_and_who_is_left_is_killed_when_told() {
        let Some(layout) = host() else { return };
        let (own, _, group) = create("nested", "{}", &layout);
        for dir in own.0.directories() {
            fs::create_dir_all(dir.join("a/b")).unwrap();
        }
        let mut child = shell(&group);
        if let Some(v2) = &own.0.v2 {
            write(&v2.join("a/b/cgroup.procs"), &child.id().to_string()).unwrap();
            assert_eq!(own.0.pids().unwrap(), [i32::try_from(child.id()).unwrap()]);
        }
        own.0.remove_killing().unwrap();
        assert!(own.0.directories().all(|dir| !dir.exists()));
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_failed_write_names_file_property_and_cause() {
        let Some(layout) = host() else { return };
        let path = format!("/tincan-unit-{}-bad", std::process::id());
        let mut plan = plan(
            &path,
            r#"{"pids": {"limit": 7}}"#,
            &layout,
            Hierarchies::Every,
        );
        let own = Own(Location::planned(&plan, &layout));
        for setting in plan.settings.iter_mut().filter(|s| s.file == "pids.max") {
            setting.value = "many".to_owned();
        }
        let failed = Group::create(&plan, &layout).unwrap_err().to_string();
        drop(own);
        assert!(
            failed.starts_with("write `many` to /sys/fs/cgroup/"),
            "{failed}"
        );
        assert!(
            failed.ends_with("pids.max for linux.resources.pids.limit: Invalid argument"),
            "{failed}"
        );
    }

    #[test]
    fn a_limit_that_is_to_be_checked_is_not_set_below_the_use() {
        let Some(layout) = host() else { return };
        let (own, _, group) = create("used", r#"{"memory": {"limit": 99999744}}"#, &layout);
        let mut child = shell(&group);
        let (dir, file, above) = match own.0.v1_of("memory") {
            Some(dir) => (dir, "memory.limit_in_bytes", "memory.usage_in_bytes"),
            None => (own.0.v2.as_deref().unwrap(), "memory.max", "memory.current"),
        };
        let set = |value: &str, above: &str| {
            let setting = CgroupSetting {
                controller: "memory".to_owned(),
                file: file.to_owned(),
                value: value.to_owned(),
                property: "linux.resources.memory.limit".to_owned(),
                absent: Absent::Fail,
                above: Some(above.to_owned()),
            };
            write_settings(&own.0, &[setting]).map_err(|failed| failed.to_string())
        };
        let limit = || read(&dir.join(file)).unwrap();
        let refused = set("4096", above).unwrap_err();
        assert_eq!(limit(), "99999744\n");
        let start = format!(
            "write `4096` to {} for linux.resources.memory.limit: ",
            dir.join(file).display()
        );
        assert!(refused.starts_with(&start), "{refused}");
        assert!(refused.ends_with(" are in use already"), "{refused}");
        set("88080384", above).unwrap();
        assert_eq!(limit(), "88080384\n");
        set("77070336", "memory.no_such_file").unwrap();
        assert_eq!(limit(), "77070336\n");
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    const TRY_DEVICES: &str = "
        (: < /dev/null) && echo null
        (: < /dev/kmsg) && echo kmsg
        (: < /dev/loop-control) && echo loop-control
        mknod $NODE c 1 11 && echo mknod
        rm -f $NODE
    ";

    fn tries_devices(name: &str, layout: &CgroupLayout) {
        let node = std::env::temp_dir().join(format!("tincan-unit-{}-{name}", std::process::id()));
        let script = TRY_DEVICES.replace("$NODE", node.to_str().unwrap());
        let deny = r#"{"devices": [{"allow": false, "access": "rwm"}]}"#;
        let (own, _, group) = create(name, deny, layout);
        assert_eq!(answer(&group, &script), "null\nmknod\n");
        drop(own);
        let kmsg = r#"{"devices": [{"allow": false}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"},
            {"allow": true, "type": "c", "major": 10, "access": "rw"}]}"#;
        let (own, _, group) = create(name, kmsg, layout);
        assert_eq!(answer(&group, &script), answer_of_all(&script));
        drop(own);
        let all = r#"{"devices": [{"allow": true}]}"#;
        let (_own, _, group) = create(name, all, layout);
        assert_eq!(answer(&group, &script), answer_of_all(&script));
    }

    /// What the script says without any cgroup of its own: not every kernel has every device.
    fn answer_of_all(script: &str) -> String {
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn devices_are_limited_by_v1() {
        let Some(layout) = host() else { return };
        if !layout
            .v1
            .iter()
            .any(|h| h.controllers.iter().any(|c| c == "devices"))
        {
            eprintln!("skipped: this host has no v1 devices controller");
            return;
        }
        tries_devices("devices1", &CgroupLayout { v2: None, ..layout });
    }

    #[test]
    fn devices_are_limited_by_a_program_on_v2() {
        let Some(layout) = host() else { return };
        if layout.v2.is_none() {
            eprintln!("skipped: this host has no cgroup v2");
            return;
        }
        // Nothing but the program is of v2 here: the controllers stay as they are.
        let mut layout = CgroupLayout {
            v1: Vec::new(),
            ..layout
        };
        layout.v2.iter_mut().for_each(|v2| v2.controllers.clear());
        tries_devices("devices2", &layout);
    }

    #[test]
    fn cpusets_are_inherited_down_the_path() {
        let Some(layout) = host() else { return };
        let Some(root) = layout
            .v1
            .iter()
            .find(|h| h.controllers.iter().any(|c| c == "cpuset"))
        else {
            eprintln!("skipped: this host has no v1 cpuset controller");
            return;
        };
        let outer = format!("/tincan-unit-{}-cpuset", std::process::id());
        let outer_plan = plan(&outer, "{}", &layout, Hierarchies::Every);
        let _outer = Own(Location::planned(&outer_plan, &layout));
        let plan = plan(
            &format!("{outer}/b"),
            r#"{"cpu": {"cpus": "0"}}"#,
            &layout,
            Hierarchies::Every,
        );
        let group = Group::create(&plan, &layout).unwrap();
        let inner = group.location().v1_of("cpuset").unwrap();
        assert_eq!(read(&inner.join("cpuset.cpus")).unwrap(), "0\n");
        let mems = read(&root.mount_point.join("cpuset.mems")).unwrap();
        assert_eq!(read(&inner.join("cpuset.mems")).unwrap(), mems);
        assert_eq!(answer(&group, "echo in"), "in\n");
    }
}
