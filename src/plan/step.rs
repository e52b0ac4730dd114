//! What a container's first process does between clone and exec: the child performs the list, the parent prints it.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::seccomp::Filter;
use super::topology::{IdMaps, NamespaceKind};

/// One thing that the child does. Each is one object and one action, so that an index and an errno say what went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", content = "of", rename_all = "kebab-case")]
pub enum Step {
    /// Say that this gate is reached and wait until the parent opens it.
    Gate(Gate),
    /// Join the namespace of this kind behind this path (setns(2)). The engine joins pid namespaces before the clone,
    /// since setns moves only the caller's future children into those.
    Join(NamespaceKind, PathBuf),
    /// Leave the namespace of this kind for a new one (unshare(2)): the cgroup namespace, whose root is the cgroup that the
    /// process is in at that moment.
    Unshare(NamespaceKind),
    /// Become id 0 of the new user namespace.
    BecomeRoot,
    /// Enter the container's cgroup, in every v1 hierarchy (v2 is entered by clone3's CLONE_INTO_CGROUP).
    EnterCgroup,
    /// Start a session of its own (setsid(2)).
    NewSession,
    /// Let go of the caller's standard streams: those that are pipes or terminals become `/dev/null`, since whoever reads
    /// them would wait for as long as the container lives; files stay.
    DetachStreams,
    /// Set how the mounts that came with the new mount namespace pass on what happens to them.
    RootPropagation(Propagation),
    /// Make the root file system a mount of its own, below which everything else is mounted.
    Root(Root),
    /// Keep hold of what is mounted at and below a path outside, because the next mount hides it. The next bind from that
    /// very path takes what was kept.
    Keep(PathBuf),
    /// Mount something below the root.
    Mount(Mount),
    /// Make what something is mounted on later, where it is missing.
    MountPoint {
        /// Where it is.
        at: PathBuf,
        /// What is bound there: of a file it is a file, else a directory.
        source: Option<PathBuf>,
    },
    /// Make a device node below the root.
    Device(Device),
    /// Make a symbolic link below the root, where nothing has the name yet.
    Symlink {
        /// What it says.
        target: PathBuf,
        /// Where it is.
        at: PathBuf,
    },
    /// Open a terminal of the container's own devpts, hand its master to the parent, mount it on `/dev/console` and make it
    /// the controlling terminal and the standard streams.
    Console {
        /// Columns and rows, where the caller gave them.
        size: Option<(u16, u16)>,
    },
    /// Open a terminal of the host's, hand its master to the parent, mount it on this file, which is made, and make it the standard
    /// streams: for a container whose own comes later.
    Terminal {
        /// The file.
        at: PathBuf,
        /// Columns and rows, where the caller gave them.
        size: Option<(u16, u16)>,
    },
    /// Run a hook in the container's namespaces: before pivot_root for createContainer, after it for startContainer.
    Hook(HookKind, Hook),
    /// Make the prepared root the root of the mount namespace, and let go of the old one.
    PivotRoot,
    /// Move the prepared root over the old one instead, and change to it (chroot(2)): pivot_root cannot leave a root that is
    /// an initramfs (runc's `--no-pivot`).
    MoveRoot,
    /// Change to the prepared root alone (chroot(2)): the mount namespace is not the container's.
    ChangeRoot,
    /// Take the container's null device for those standard streams that are the host's: whatever else is open of the host's files keeps
    /// CRIU from seeing the whole of the container. As runc and crun do.
    OwnNull,
    /// Make the root mount itself read-only.
    ReadonlyRoot,
    /// Make the mount at this path read-only, now that everything below it is made: a read-only tmpfs such as `/dev` takes
    /// its mount points, nodes and links first.
    ReadonlyMount(PathBuf),
    /// Set how the finished root passes on mounts.
    FinalPropagation(Propagation),
    /// Hide a path: nothing can be read there any more.
    Mask(PathBuf),
    /// Make what is mounted at a path read-only.
    Readonly(PathBuf),
    /// Set a kernel parameter of the container's namespaces (sysctl(8)).
    Sysctl {
        /// With dots or slashes: `net.ipv4.ip_forward`.
        key: String,
        /// The value.
        value: String,
    },
    /// Set the host name (sethostname(2)).
    Hostname(String),
    /// Set the NIS domain name (setdomainname(2)).
    Domainname(String),
    /// Set how eagerly the OOM killer takes the process: −1000 to 1000.
    OomScoreAdj(i32),
    /// Set a resource limit (setrlimit(2)).
    Rlimit(Rlimit),
    /// Be scheduled so (sched_setattr(2)).
    Scheduler(Scheduling),
    /// Be served so where block devices are busy (ioprio_set(2)).
    IoPriority {
        /// 1 is realtime, 2 best effort, 3 idle.
        class: u8,
        /// 0, the first, to 7.
        level: u8,
    },
    /// Run on these CPUs (sched_setaffinity(2)).
    CpuAffinity(Vec<u32>),
    /// Be on a system of this kind (personality(2)).
    Personality(u32),
    /// Have memory from these nodes (set_mempolicy(2)).
    MemoryPolicy {
        /// MPOL_*, with its flags.
        mode: u32,
        /// The nodes.
        nodes: Vec<u32>,
    },
    /// Join a new session keyring named after the container (keyrings(7)).
    SessionKeyring(String),
    /// Set user, groups and umask, keeping the capabilities until the next step.
    User(User),
    /// Set all five capability sets (capabilities(7)).
    Capabilities(Capabilities),
    /// Be confined by this AppArmor profile from the next exec on (aa_change_onexec(2)).
    AppArmor(String),
    /// Have this SELinux label from the next exec on, or give it to keys that are made until then (setexeccon(3), setkeycreatecon(3)).
    Label {
        /// What is labelled.
        of: Labelled,
        /// USER:ROLE:TYPE:LEVEL.
        label: String,
    },
    /// Label the root of a mount (setfilecon(3)), of a file system that takes no label when it is mounted.
    LabelMount {
        /// Where it is.
        at: PathBuf,
        /// USER:ROLE:TYPE:LEVEL.
        label: String,
    },
    /// Give up gaining privileges by exec (PR_SET_NO_NEW_PRIVS).
    NoNewPrivileges,
    /// Install a seccomp filter (seccomp(2)); where it leaves calls to an agent, hand the descriptor for that to the parent.
    Seccomp(Filter),
    /// Change the working directory, made where it is missing.
    Chdir(PathBuf),
    /// Have what is at a path open as this descriptor, for the program that is executed.
    Offer {
        /// The path.
        path: PathBuf,
        /// The descriptor.
        descriptor: i32,
    },
    /// Have the standard output as this descriptor, and the null device in its place, for the program that is executed.
    SetOutputAside {
        /// The descriptor.
        descriptor: i32,
    },
    /// Keep the standard streams and this many descriptors after them, close all others at exec.
    CloseDescriptors {
        /// How many after the standard three stay open.
        preserve: u32,
    },
    /// Look for the program, so that `create` tells when there is none, as in runc: after a failed `start` callers have a
    /// container that was created and is dead.
    Find(Command),
    /// Become the workload. The last step of a container with a command.
    Exec(Command),
    /// Stay, do nothing but reap, go on SIGTERM: tincan's own pid 1, the last step of a container without a command.
    Hold,
}

/// What of a process is labelled, by the files in `/proc/self/attr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Labelled {
    /// The process, when it executes a program.
    Exec,
    /// The keys that it makes until then.
    Keys,
}

/// What sched_setattr(2) takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Scheduling {
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// -20, the most eager, to 19.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR: 1 to 99, the most eager.
    pub priority: u32,
    /// For SCHED_DEADLINE, in nanoseconds, as are the next two.
    pub runtime: u64,
    /// By when that has to be had.
    pub deadline: u64,
    /// How often.
    pub period: u64,
}

/// Where the two sides meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// systemd has put the process into the container's cgroup.
    Cgroup,
    /// The parent has written the id maps and clock offsets.
    Maps,
    /// The container's mounts are made; the parent runs the hooks that want to see them.
    Hooks,
    /// The wires are up.
    Wired,
    /// `start` has been called.
    Start,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gate::Cgroup => "cgroup",
            Gate::Maps => "maps",
            Gate::Hooks => "hooks",
            Gate::Wired => "wired",
            Gate::Start => "start",
        })
    }
}

/// What the root file system is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Root {
    /// The host's own files.
    Host,
    /// This directory; writes go through to it.
    Directory(PathBuf),
    /// This directory below an overlay in memory; writes are gone with the container.
    Overlay(PathBuf),
    /// This directory, with mounts in it that are in no mount namespace: the container's alone, though its mount namespace is not.
    Apart(PathBuf),
}

/// How a mount passes on what is mounted below it (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Propagation {
    /// To whom.
    pub kind: PropagationKind,
    /// For all mounts below as well (MS_REC).
    pub recursive: bool,
}

/// The four types of propagation (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PropagationKind {
    /// Both ways.
    Shared,
    /// Inwards only.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and not to be bind mounted.
    Unbindable,
}

/// A mount below the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Where: an absolute path in the container. Missing directories, or the file for a bind of a file, are made.
    pub destination: PathBuf,
    /// What.
    pub what: MountWhat,
    /// Its attributes.
    pub attrs: MountAttrs,
    /// Its propagation, set after it is mounted.
    pub propagation: Vec<Propagation>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MountWhat {
    /// A new file system (fsopen(2)).
    Filesystem {
        /// Its type: `proc`, `tmpfs`.
        fstype: String,
        /// Its source, which most ignore but show.
        source: String,
        /// Its own options: `size=64k` is `("size", Some("64k"))`.
        options: Vec<(String, Option<String>)>,
        /// Fill the new tmpfs with what was there before (runc's `tmpcopyup`).
        copy_up: bool,
    },
    /// What is mounted there already, with other options (`remount` of mount(8)): those that are not spoken of stay.
    Remount {
        /// Its type, where it is said.
        fstype: String,
        /// Options of the file system.
        options: Vec<(String, Option<String>)>,
    },
    /// What is at a path outside.
    Bind {
        /// The path outside, absolute.
        source: PathBuf,
        /// With everything mounted below it.
        recursive: bool,
        /// How its ids are mapped, where they are.
        #[serde(skip_serializing_if = "Option::is_none")]
        ids: Option<MountIds>,
    },
}

/// How the ids of a mount's files are mapped (mount_setattr(2), ID-mapped mounts): those on the file system are `inside`, and are shown to be
/// those `outside`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MountIds {
    /// The maps.
    pub maps: IdMaps,
    /// On everything mounted below it as well.
    pub recursive: bool,
}

/// Attributes of a mount, as bits of `MOUNT_ATTR_*` (mount_setattr(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MountAttrs {
    /// To set, on the mount itself.
    pub set: u64,
    /// To clear, on the mount itself.
    pub clear: u64,
    /// To set on it and everything below.
    pub set_recursive: u64,
    /// To clear on it and everything below.
    pub clear_recursive: u64,
}

/// A device node (mknod(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Where: an absolute path in the container.
    pub path: PathBuf,
    /// Which kind of node.
    pub kind: DeviceKind,
    /// The driver; unused for a pipe.
    pub major: u32,
    /// The unit; unused for a pipe.
    pub minor: u32,
    /// The permission bits, at most 0o7777.
    pub mode: u32,
    /// The owner inside the container.
    pub uid: u32,
    /// The group inside the container.
    pub gid: u32,
}

/// The kinds of device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Named pipe.
    Fifo,
}

/// A program that the container's creator wants run at a point of its life (runtime-spec config.md, POSIX-platform Hooks).
/// It gets the container's state on standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Its arguments, argv\[0\] included; empty means just the path.
    pub args: Vec<String>,
    /// Its whole environment, as `KEY=value`; none is tincan's own, as with runc and crun.
    pub env: Option<Vec<String>>,
    /// Seconds until it is killed and counts as failed.
    pub timeout: Option<u64>,
}

/// When a hook in the container's namespaces runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HookKind {
    /// After the mounts, before pivot_root.
    CreateContainer,
    /// After `start`, before the workload.
    StartContainer,
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rlimit {
    /// As in the specification: `RLIMIT_NOFILE`.
    pub name: String,
    /// The kernel's number of it (`libc::RLIMIT_NOFILE`).
    pub resource: u32,
    /// The soft limit; `u64::MAX` is none.
    pub soft: u64,
    /// The hard limit; `u64::MAX` is none.
    pub hard: u64,
}

/// Whom the workload runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct User {
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// File mode creation mask, where one is asked for.
    pub umask: Option<u32>,
}

/// The five capability sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// What exec can ever give.
    #[serde(serialize_with = "cap_names")]
    pub bounding: Vec<caps::Capability>,
    /// What counts now.
    #[serde(serialize_with = "cap_names")]
    pub effective: Vec<caps::Capability>,
    /// What exec passes on to a program that has it in its file.
    #[serde(serialize_with = "cap_names")]
    pub inheritable: Vec<caps::Capability>,
    /// What can be made effective.
    #[serde(serialize_with = "cap_names")]
    pub permitted: Vec<caps::Capability>,
    /// What exec keeps for an ordinary user.
    #[serde(serialize_with = "cap_names")]
    pub ambient: Vec<caps::Capability>,
}

fn cap_names<S: Serializer>(set: &[caps::Capability], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(set.iter().map(ToString::to_string))
}

/// A command to become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Command {
    /// The program and its arguments; the program is looked up in `PATH` of `env` when it has no slash (execvpe(3)).
    pub args: Vec<String>,
    /// The whole environment, as `KEY=value`.
    pub env: Vec<String>,
    /// The user whose home directory, as the container's `/etc/passwd` has it, becomes HOME; none where `env` has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_of: Option<u32>,
}

impl Command {
    /// The program as it was named.
    pub fn program(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }
}

/// Writes the bits of `MOUNT_ATTR_*` as the words of mount(8).
pub fn attr_words(bits: u64) -> Vec<&'static str> {
    let mut words = Vec::new();
    for (bit, word) in [
        (libc::MOUNT_ATTR_RDONLY, "ro"),
        (libc::MOUNT_ATTR_NOSUID, "nosuid"),
        (libc::MOUNT_ATTR_NODEV, "nodev"),
        (libc::MOUNT_ATTR_NOEXEC, "noexec"),
        (libc::MOUNT_ATTR_NODIRATIME, "nodiratime"),
        (libc::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
    ] {
        if bits & bit != 0 {
            words.push(word);
        }
    }
    match bits & libc::MOUNT_ATTR__ATIME {
        libc::MOUNT_ATTR_NOATIME => words.push("noatime"),
        libc::MOUNT_ATTR_STRICTATIME => words.push("strictatime"),
        _ => {}
    }
    words
}

impl fmt::Display for PropagationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PropagationKind::Shared => "shared",
            PropagationKind::Slave => "slave",
            PropagationKind::Private => "private",
            PropagationKind::Unbindable => "unbindable",
        })
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HookKind::CreateContainer => "createContainer",
            HookKind::StartContainer => "startContainer",
        })
    }
}

/// What the step does, as a phrase that fits after a container's name: `mount proc on /proc`.
impl Step {
    /// Whether it mounts a procfs.
    pub fn mounts_proc(&self) -> bool {
        let Step::Mount(mount) = self else {
            return false;
        };
        matches!(&mount.what, MountWhat::Filesystem { fstype, .. } if fstype == "proc")
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Gate(gate) => write!(f, "wait at the gate `{gate}`"),
            Step::Join(kind, path) => write!(f, "join the {kind} namespace {}", path.display()),
            Step::Unshare(kind) => write!(f, "make a new {kind} namespace"),
            Step::BecomeRoot => f.write_str("become root of the user namespace"),
            Step::EnterCgroup => f.write_str("enter the cgroup"),
            Step::NewSession => f.write_str("start a session"),
            Step::DetachStreams => f.write_str("let go of the caller's streams"),
            Step::RootPropagation(p) => write!(f, "make the host's mounts {}", p.kind),
            Step::Root(Root::Host) => f.write_str("take the host's files as the root"),
            Step::Root(Root::Directory(dir)) => write!(f, "take {} as the root", dir.display()),
            Step::Root(Root::Overlay(dir)) => {
                write!(f, "take {} under an overlay as the root", dir.display())
            }
            Step::Root(Root::Apart(dir)) => write!(
                f,
                "take {} as the root, in no mount namespace (since Linux 6.15)",
                dir.display()
            ),
            Step::Keep(path) => write!(f, "keep {}", path.display()),
            Step::Mount(mount) => {
                match &mount.what {
                    MountWhat::Filesystem { fstype, .. } => write!(f, "mount {fstype}")?,
                    MountWhat::Remount { .. } => f.write_str("remount what is")?,
                    MountWhat::Bind { source, ids, .. } => {
                        let mapped = ids.as_ref().map_or("", |_| " with mapped ids");
                        write!(f, "bind {}{mapped}", source.display())?;
                    }
                }
                write!(f, " on {}", mount.destination.display())?;
                let words = attr_words(mount.attrs.set | mount.attrs.set_recursive);
                if !words.is_empty() {
                    write!(f, " ({})", words.join(","))?;
                }
                Ok(())
            }
            Step::MountPoint { at, .. } => write!(f, "make the mount point {}", at.display()),
            Step::Device(device) => write!(f, "make the device {}", device.path.display()),
            Step::Symlink { target, at } => {
                write!(f, "link {} to {}", at.display(), target.display())
            }
            Step::Console { .. } => f.write_str("open the terminal"),
            Step::Terminal { at, .. } => write!(f, "open a terminal at {}", at.display()),
            Step::Hook(kind, hook) => write!(f, "run the {kind} hook {}", hook.path.display()),
            Step::PivotRoot => f.write_str("change to the root"),
            Step::MoveRoot => f.write_str("move to the root"),
            Step::ChangeRoot => f.write_str("change to the root, but not the mount namespace's"),
            Step::OwnNull => f.write_str("take the container's null device"),
            Step::ReadonlyRoot => f.write_str("make the root read-only"),
            Step::ReadonlyMount(path) => write!(f, "make the mount {} read-only", path.display()),
            Step::FinalPropagation(p) => write!(f, "make the root's mounts {}", p.kind),
            Step::Mask(path) => write!(f, "mask {}", path.display()),
            Step::Readonly(path) => write!(f, "make {} read-only", path.display()),
            Step::Sysctl { key, value } => write!(f, "set {key} to `{value}`"),
            Step::Hostname(name) => write!(f, "set the host name {name}"),
            Step::Domainname(name) => write!(f, "set the domain name {name}"),
            Step::OomScoreAdj(score) => write!(f, "set oom_score_adj to {score}"),
            Step::Rlimit(limit) => write!(f, "set {}", limit.name),
            Step::Scheduler(_) => f.write_str("set the scheduler"),
            Step::IoPriority { .. } => f.write_str("set the I/O priority"),
            Step::CpuAffinity(_) => f.write_str("choose the CPUs"),
            Step::Personality(_) => f.write_str("set the personality"),
            Step::MemoryPolicy { .. } => f.write_str("set the memory policy"),
            Step::SessionKeyring(name) => write!(f, "join the session keyring {name}"),
            Step::User(user) => write!(f, "become user {}:{}", user.uid, user.gid),
            Step::Capabilities(_) => f.write_str("set the capabilities"),
            Step::AppArmor(profile) => write!(f, "take the AppArmor profile {profile}"),
            Step::Label { of, label } => match of {
                Labelled::Exec => write!(f, "take the SELinux label {label}"),
                Labelled::Keys => write!(f, "give keys the SELinux label {label}"),
            },
            Step::LabelMount { at, label } => {
                write!(f, "give {} the SELinux label {label}", at.display())
            }
            Step::NoNewPrivileges => f.write_str("give up new privileges"),
            Step::Seccomp(filter) => {
                let length = filter.program.len();
                write!(f, "install the seccomp filter of {length} instructions")
            }
            Step::Chdir(dir) => write!(f, "change to the directory {}", dir.display()),
            Step::Offer { path, descriptor } => {
                write!(f, "open {} as descriptor {descriptor}", path.display())
            }
            Step::SetOutputAside { descriptor } => {
                write!(f, "have the standard output as descriptor {descriptor}")
            }
            Step::CloseDescriptors { .. } => f.write_str("close the other descriptors"),
            Step::Find(command) => write!(f, "find {}", command.program()),
            Step::Exec(command) => write!(f, "exec {}", command.program()),
            Step::Hold => f.write_str("hold"),
        }
    }
}
