//! Checkpoints: what CRIU is asked to keep of a running container, and how a container is made of that again. CRIU keeps processes, their
//! memory and their mounts; what is around them, cgroup and links, tincan makes as for any other container, and tells CRIU that it is there
//! (criu(8), `--external` and `--inherit-fd`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::name::{IfAddr, LinkName, Mac};
use super::net::{NetSpec, Publish, WireSpec};
use super::network::{NetworkName, NetworkSpec};
use super::oci::BadBundle;
use super::step::{Command, Gate, Mount, MountWhat, Propagation, PropagationKind, Root, Step};
use super::topology::{NamespaceKind, NamespaceSource, Node, Route};

/// The file in which tincan keeps, beside CRIU's, what it has to know.
pub const RECORD: &str = "tincan.json";

/// CRIU's logs, in its working directory. Callers of runc look for them there.
pub const DUMP_LOG: &str = "dump.log";
/// As [`DUMP_LOG`].
pub const RESTORE_LOG: &str = "restore.log";

/// How CRIU knows the namespaces again that it does not make, as runc and crun have it.
const NETWORK_KEY: &str = "extRootNetNS";
const PID_KEY: &str = "extRootPidNS";

/// The descriptor by which CRIU has the standard output that is not its own but the container's: behind all that is open before.
const OUTPUT: i32 = 100;

/// Where a container's terminal is mounted.
const CONSOLE: &str = "/dev/console";

/// What CRIU does with cgroups (criu(8), `--manage-cgroups`).
///
/// The container's own is tincan's, so that CRIU need not look at any. Where it does, it mounts version 2 anew, which takes `nsdelegate` and
/// the like from the whole machine (`apply_cgroup_root_flags`, kernel/cgroup/cgroup.c).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CgroupsMode {
    /// Those below that are not there are made, and get their properties.
    Soft,
    /// All get their properties.
    Full,
    /// None may be there.
    Strict,
    /// None are looked at: all processes are in the container's own.
    #[default]
    Ignore,
}

impl CgroupsMode {
    fn word(self) -> &'static str {
        match self {
            CgroupsMode::Soft => "soft",
            CgroupsMode::Full => "full",
            CgroupsMode::Strict => "strict",
            CgroupsMode::Ignore => "ignore",
        }
    }
}

/// What is said of both, a dump and a restore.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where the images are, absolute.
    pub images: PathBuf,
    /// Where CRIU works and has its logs, absolute.
    pub work: PathBuf,
    /// What is done with cgroups.
    pub cgroups: CgroupsMode,
    /// With connections of TCP.
    pub connections: bool,
    /// CRIU's options that are just passed on.
    pub passed_on: Vec<String>,
}

/// What tincan keeps beside CRIU's images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the first process's standard streams are that come from outside, each by CRIU's word for it: `pipe:[42]`.
    pub streams: Vec<Option<String>>,
    /// Its terminal, by CRIU's word for it: `tty[8800:4]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<String>,
    /// The mounts that come from outside.
    pub mounts: Vec<OuterMount>,
    /// Its wires, in their order.
    pub links: Vec<LinkRecord>,
    /// The ports of the host's that lead to it.
    pub publish: Vec<Publish>,
    /// Whether its pid namespace is somebody else's.
    pub joined_pid: bool,
    /// Whether it has a network namespace.
    pub network: bool,
}

/// A mount that comes from outside the container, as a bind of its bundle does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OuterMount {
    /// Where it is in the container.
    pub at: PathBuf,
    /// By which bind of the bundle it came there.
    pub destination: PathBuf,
    /// Where it is below that one's source, if it came with it.
    pub below: PathBuf,
}

/// A wire of a container, as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// What it is called in the container.
    pub interface: LinkName,
    /// The link-layer address there.
    pub mac: Option<Mac>,
    /// The addresses there.
    pub addresses: Vec<IfAddr>,
    /// The network that it leads to, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// The container that it leads to, if it does; else it leads to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<super::name::ContainerName>,
    /// The far end's addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<IfAddr>,
    /// The routes through it, of a wire that leads to no network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Its MTU, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// A bind of a bundle: where it is in the container, and what it shows of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Where it is, as the bundle says.
    pub destination: PathBuf,
    /// What it shows.
    pub source: PathBuf,
}

/// The binds of a node: its mounts that come from outside.
pub fn binds(node: &Node) -> Vec<Bind> {
    if let Some(restoring) = &node.restoring {
        return restoring.binds.clone();
    }
    let bind = |step: &Step| match step {
        Step::Mount(Mount {
            destination,
            what: MountWhat::Bind { source, .. },
            ..
        }) => Some(Bind {
            destination: destination.clone(),
            source: source.clone(),
        }),
        _ => None,
    };
    node.steps.iter().filter_map(bind).collect()
}

/// A running container that is to be kept.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// Its first process.
    pub pid: i32,
    /// Its root file system on the host.
    pub root: &'a Path,
    /// The cgroup by which it is frozen, if it has one.
    pub freezer: Option<&'a Path>,
    /// The number of its network namespace, unless that is the host's.
    pub network: Option<u64>,
    /// The number of its pid namespace, if that is somebody else's.
    pub pid_namespace: Option<u64>,
    /// What tincan keeps of it.
    pub record: &'a Record,
}

/// How far a dump goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it, and the container ends.
    Whole,
    /// All of it, and the container goes on.
    Copy,
    /// What is in memory, for a dump that comes later.
    Memory,
}

/// The command line of CRIU that keeps a container.
pub fn dump(criu: &str, subject: &Subject<'_>, settings: &Settings, extent: Extent) -> Vec<String> {
    let verb = match extent {
        Extent::Memory => "pre-dump",
        Extent::Whole | Extent::Copy => "dump",
    };
    let mut words = begin(criu, verb, settings, DUMP_LOG, subject.root);
    words.extend(["--tree".to_owned(), subject.pid.to_string()]);
    // The default asks for a tool that need not be there, iptables-restore.
    words.extend(["--network-lock", "nftables"].map(str::to_owned));
    if let Some(freezer) = subject.freezer {
        words.extend(["--freeze-cgroup".to_owned(), text(freezer)]);
    }
    let mut external = |what: String| words.extend(["--external".to_owned(), what]);
    if let Some(number) = subject.network {
        external(format!("net[{number}]:{NETWORK_KEY}"));
    }
    if let Some(number) = subject.pid_namespace {
        external(format!("pid[{number}]:{PID_KEY}"));
    }
    for mount in &subject.record.mounts {
        let at = text(&mount.at);
        external(format!("mnt[{at}]:{at}"));
    }
    if let Some(terminal) = &subject.record.terminal {
        external(terminal.clone());
        external(format!("mnt[{CONSOLE}]:{CONSOLE}"));
    }
    for stream in subject.record.streams.iter().flatten() {
        external(stream.clone());
    }
    match extent {
        Extent::Copy => words.push("--leave-running".to_owned()),
        Extent::Memory => words.push("--track-mem".to_owned()),
        Extent::Whole => {}
    }
    words
}

/// What both of CRIU's command lines begin with.
fn begin(criu: &str, verb: &str, settings: &Settings, log: &str, root: &Path) -> Vec<String> {
    let mut words: Vec<String> = [criu, verb, "-v4", "--images-dir"]
        .map(str::to_owned)
        .into();
    words.push(text(&settings.images));
    words.extend(["--work-dir".to_owned(), text(&settings.work)]);
    words.extend(["--log-file".to_owned(), log.to_owned()]);
    words.extend(["--root".to_owned(), text(root)]);
    words.push(format!("--manage-cgroups={}", settings.cgroups.word()));
    // A bind that gets what is mounted at its source later gets it again.
    words.push("--enable-external-masters".to_owned());
    if settings.connections {
        words.push("--tcp-established".to_owned());
    }
    words.extend(settings.passed_on.iter().cloned());
    words
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// How CRIU makes a container's processes, in the place of its own first one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restoring {
    /// Where CRIU writes which process is the first.
    pub pid_file: PathBuf,
    /// CRIU's log.
    pub log: PathBuf,
    /// The mounts that come from outside, which CRIU makes.
    pub binds: Vec<Bind>,
    /// There are connections of TCP, in a network namespace: what comes for them before they are there would be answered by their end.
    pub connections: bool,
}

/// Refuses what CRIU does not do with a container, before anything is done.
///
/// # Errors
/// [`BadBundle`] with the property.
pub fn check(node: &Node) -> Result<(), BadBundle> {
    let bad = |property: &str, why: &str| Err(BadBundle::new(property, why));
    let source = |kind| node.namespaces.get(&kind);
    if source(NamespaceKind::User).is_some() {
        return bad(
            "linux.namespaces",
            "has one of the type `user`, and such a container is not restored",
        );
    }
    if source(NamespaceKind::Mount) != Some(&NamespaceSource::New) {
        return bad(
            "linux.namespaces",
            "has no new one of the type `mount`, and such a container is not restored",
        );
    }
    Ok(())
}

/// Turns the plan of a container that would be started into that of one that CRIU restores: its first process becomes CRIU, in the
/// container's cgroup and network namespace and with its root as a mount.
///
/// # Errors
/// [`BadBundle`] when the checkpoint has a mount that the bundle does not.
pub fn restore(
    node: &mut Node,
    criu: &str,
    env: Vec<String>,
    record: &Record,
    settings: &Settings,
    state_dir: &Path,
) -> Result<(), BadBundle> {
    let pid_file = state_dir.join("restored");
    let root = node.identity.rootfs.clone();
    let mut words = begin(criu, "restore", settings, RESTORE_LOG, &root);
    words.extend(["--restore-detached", "--restore-sibling", "--pidfile"].map(str::to_owned));
    words.push(text(&pid_file));
    let binds = binds(node);
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    if let Some(cgroup) = &node.cgroup
        && settings.cgroups != CgroupsMode::Ignore
    {
        option("--cgroup-root", text(&cgroup.path));
    }
    for (number, stream) in record.streams.iter().enumerate() {
        if let Some(stream) = stream {
            let number = if number == 1 {
                OUTPUT.to_string()
            } else {
                number.to_string()
            };
            option("--inherit-fd", format!("fd[{number}]:{stream}"));
        }
    }
    for mount in &record.mounts {
        let is_it = |bind: &Bind| bind.destination == mount.destination;
        let Some(bind) = binds.iter().rev().find(|bind| is_it(bind)) else {
            let at = mount.destination.display();
            let why = format!("has no bind on {at}, which the checkpoint has");
            return Err(BadBundle::new("mounts", why));
        };
        let source = if mount.below.as_os_str().is_empty() {
            bind.source.clone()
        } else {
            bind.source.join(&mount.below)
        };
        option(
            "--external",
            format!("mnt[{}]:{}", text(&mount.at), text(&source)),
        );
    }
    let mut next = OUTPUT + 1;
    let mut offers = Vec::new();
    let mut offer = |path: PathBuf, key: &str| {
        offers.push(Step::Offer {
            path,
            descriptor: next,
        });
        words.extend(["--inherit-fd".to_owned(), format!("fd[{next}]:{key}")]);
        next += 1;
    };
    let mut joins = Vec::new();
    for (kind, source) in &node.namespaces {
        match (kind, source) {
            (NamespaceKind::Network, _) if record.network => {
                offer(PathBuf::from("/proc/self/ns/net"), NETWORK_KEY);
            }
            (NamespaceKind::Pid, NamespaceSource::Path(path)) if record.joined_pid => {
                offer(path.clone(), PID_KEY);
            }
            (NamespaceKind::Ipc | NamespaceKind::Uts, NamespaceSource::Path(path)) => {
                joins.push(format!("{}:{}", kind.proc_name(), text(path)));
            }
            _ => {}
        }
    }
    for join in joins {
        words.extend(["--join-ns".to_owned(), join]);
    }
    let console = node.steps.iter().find_map(|step| match step {
        Step::Console { size } => Some(*size),
        _ => None,
    });
    let terminal = match (&record.terminal, console) {
        (Some(terminal), Some(size)) => {
            let at = state_dir.join("console");
            let source = text(&at);
            words.extend(["--inherit-fd".to_owned(), format!("fd[0]:{terminal}")]);
            words.extend(["--external".to_owned(), format!("mnt[{CONSOLE}]:{source}")]);
            Some(Step::Terminal { at, size })
        }
        (None, None) => None,
        (Some(_), None) => {
            let why = "is false, and the checkpoint has a terminal";
            return Err(BadBundle::new("process.terminal", why));
        }
        (None, Some(_)) => {
            let why = "is true, and the checkpoint has no terminal";
            return Err(BadBundle::new("process.terminal", why));
        }
    };
    let first = node
        .steps
        .iter()
        .find(|step| matches!(step, Step::EnterCgroup | Step::Gate(Gate::Cgroup)));
    let mut steps: Vec<Step> = first.cloned().into_iter().collect();
    if let Some(path) = node.joined_netns() {
        steps.push(Step::Join(NamespaceKind::Network, path.to_owned()));
    }
    steps.push(Step::RootPropagation(Propagation {
        kind: PropagationKind::Slave,
        recursive: true,
    }));
    steps.extend(terminal);
    // CRIU takes a root that is a mount of its own.
    steps.push(Step::Root(Root::Directory(root)));
    steps.extend(mount_points(node));
    if node.has_gate(Gate::Hooks) {
        steps.push(Step::Gate(Gate::Hooks));
    }
    // Without it CRIU makes no such namespace, and the container's mount of cgroups would show all of the machine's.
    if settings.cgroups == CgroupsMode::Ignore {
        steps.extend(match node.namespaces.get(&NamespaceKind::Cgroup) {
            Some(NamespaceSource::New) => Some(Step::Unshare(NamespaceKind::Cgroup)),
            Some(NamespaceSource::Path(path)) => {
                Some(Step::Join(NamespaceKind::Cgroup, path.clone()))
            }
            None => None,
        });
    }
    steps.push(Step::Gate(Gate::Wired));
    steps.push(Step::CloseDescriptors { preserve: 0 });
    // CRIU's own words are not the container's.
    steps.push(Step::SetOutputAside { descriptor: OUTPUT });
    steps.extend(offers);
    steps.push(Step::Exec(Command {
        args: words,
        env,
        home_of: None,
    }));
    node.steps = steps;
    // CRIU makes the others, and sets their clocks.
    node.namespaces
        .retain(|kind, _| matches!(kind, NamespaceKind::Network | NamespaceKind::Mount));
    node.time_offsets.clear();
    node.restoring = Some(Restoring {
        pid_file,
        log: settings.work.join(RESTORE_LOG),
        binds,
        connections: settings.connections && record.network,
    });
    Ok(())
}

/// What a node's mounts go on, in its root: CRIU makes none of it. What is in another file system is kept with that.
fn mount_points(node: &Node) -> Vec<Step> {
    let mounts: Vec<&Mount> = node
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Mount(mount) => Some(mount),
            _ => None,
        })
        .collect();
    let is_in_another = |mount: &&&Mount| {
        let at = &mount.destination;
        let mut others = mounts.iter().map(|other| &other.destination);
        others.any(|other| other != at && at.starts_with(other))
    };
    let in_root = mounts.iter().filter(|mount| !is_in_another(mount));
    let point = |mount: &&Mount| Step::MountPoint {
        at: mount.destination.clone(),
        source: match &mount.what {
            MountWhat::Bind { source, .. } => Some(source.clone()),
            MountWhat::Filesystem { .. } | MountWhat::Remount { .. } => None,
        },
    };
    in_root.map(point).collect()
}

impl Record {
    /// Lets the values that a container's links are asked for by say what the links were, and adds those that nobody asks for: what
    /// the command line had asked for, or was added later.
    pub fn pin(&self, asked: &mut Vec<NetSpec>, publish: &mut Vec<Publish>) {
        let mut links = self.links.iter().peekable();
        for spec in asked.iter_mut() {
            let Some(link) = links.peek() else {
                break;
            };
            let is_pinned = match (&mut *spec, &link.network) {
                (NetSpec::Network(spec), Some(network)) if spec.network == *network => {
                    spec.addrs = link.addresses.iter().map(|addr| addr.ip).collect();
                    link.pin(&mut spec.wire);
                    true
                }
                (NetSpec::Wire(spec), None) if spec.addrs == link.addresses => {
                    spec.peers.clone_from(&link.peers);
                    link.pin(spec);
                    true
                }
                _ => false,
            };
            if is_pinned {
                links.next();
            }
        }
        asked.extend(links.map(LinkRecord::spec));
        for one in &self.publish {
            if !publish.contains(one) {
                publish.push(*one);
            }
        }
    }
}

impl LinkRecord {
    fn pin(&self, spec: &mut WireSpec) {
        spec.mac = self.mac.or(spec.mac);
        spec.name = Some(self.interface.clone());
    }

    /// A value that asks for just this link.
    fn spec(&self) -> NetSpec {
        let mut wire = WireSpec {
            mtu: self.mtu,
            ..WireSpec::default()
        };
        self.pin(&mut wire);
        match &self.network {
            Some(network) => NetSpec::Network(Box::new(NetworkSpec {
                network: network.clone(),
                addrs: self.addresses.iter().map(|addr| addr.ip).collect(),
                wire,
            })),
            None => NetSpec::Wire(Box::new(WireSpec {
                addrs: self.addresses.clone(),
                to: self.to.clone(),
                peers: self.peers.clone(),
                routes: self.routes.clone(),
                ..wire
            })),
        }
    }
}
