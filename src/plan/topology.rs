//! Nodes and wires: everything that tincan starts is one of these.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

use super::checkpoint::Restoring;
use super::hosts::OwnFiles;
use super::interface::{Interface, InterfaceKind};
use super::name::{ContainerName, IfAddr, LinkName, Mac};
use super::net::Outside;
use super::network::{Lease, NetworkName, Published};
use super::plugin::PluginNetwork;
use super::resctrl::ControlGroup;
use super::seccomp::Filter;
use super::step::{Gate, Hook, Step};
use super::systemd::Scope;

/// Containers to start, and the wires to put between them, running containers and the host.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Topology {
    /// The containers to start.
    pub nodes: Vec<Node>,
    /// The addresses that make way for those wires.
    pub moves: Vec<Move>,
    /// The wires to make.
    pub wires: Vec<Wire>,
    /// The interfaces to make that are no end of a wire.
    pub interfaces: Vec<Interface>,
    /// The wires to remove, each by one of its ends.
    pub removals: Vec<Removal>,
    /// What of interfaces that are there is to be otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// An address that tincan chose for the host's end of somebody's wire, and that is now asked for by name: that end takes
/// another one, until whoever asked is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The container whose wire it is.
    pub container: ContainerName,
    /// The interface on the host.
    pub interface: LinkName,
    /// What it has.
    pub from: EndAddr,
    /// What it gets.
    pub to: EndAddr,
}

/// The port of a network's bridge that an end on the host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// The network.
    pub network: NetworkName,
    /// Its bridge.
    pub bridge: LinkName,
    /// It does not reach other such ports (bridge(8), isolated).
    pub isolated: bool,
    /// It may send back by which it came (bridge(8), hairpin): what a container sends to a port of the host's that leads to itself. Where
    /// bridges call netfilter (`bridge-nf-call-iptables`), that never leaves the bridge (`br_nf_pre_routing_finish`).
    pub reflects: bool,
}

/// A wire to remove: with one end goes the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// The running container that has the end.
    pub container: ContainerName,
    /// The interface there.
    pub interface: LinkName,
}

/// What of an interface of a running container, or of the other end of its wire, is to be otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The container.
    pub container: ContainerName,
    /// Where the interface is, its name, and what it gets beside what it has.
    pub end: End,
    /// Whether it is to be up; as it is, if nothing is said.
    pub up: Option<bool>,
    /// The addresses that it loses.
    pub lost_addrs: Vec<IfAddr>,
    /// The routes that it loses.
    pub lost_routes: Vec<Route>,
}

/// A link that does not go with a container, since it is in a namespace that the container only joins: so it is taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastingLink {
    /// The namespace that it is in; without, the host's.
    pub netns: Option<PathBuf>,
    /// Its name there.
    pub interface: LinkName,
    /// Its link-layer address, by which it is no other link of that name. Without, it has none of its own.
    pub mac: Option<Mac>,
}

/// A container to start.
#[derive(Debug, Clone, Serialize)]
pub struct Node {
    /// The container's name, one among all under a state root.
    pub name: ContainerName,
    /// What its state says of where it comes from.
    pub identity: Identity,
    /// What the container does not share with the runtime. A kind that is not named is shared.
    pub namespaces: BTreeMap<NamespaceKind, NamespaceSource>,
    /// The ids of a new user namespace (user_namespaces(7)).
    pub id_maps: Option<IdMaps>,
    /// Offsets of a new time namespace's clocks (time_namespaces(7)), as lines of `/proc/PID/timens_offsets`.
    pub time_offsets: Vec<String>,
    /// The container's cgroup, if it has one of its own.
    pub cgroup: Option<Cgroup>,
    /// Its share of caches and memory bandwidth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlGroup>,
    /// What the container's first process does between clone and exec, in this order.
    pub steps: Vec<Step>,
    /// The hooks that run outside, in the runtime's namespaces (runtime-spec config.md, POSIX-platform Hooks).
    pub hooks: RuntimeHooks,
    /// The name under which `ip netns` shows the container's network namespace.
    pub netns_name: Option<String>,
    /// Whether `lo` of the new network namespace is brought up.
    pub loopback: bool,
    /// The links of the host's that are moved into its network namespace, and stay there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<NetDevice>,
    /// The container's way to the outside, for a user who is not root.
    pub outside: Option<Outside>,
    /// Whether the container dies with the process that started it.
    pub die_with_parent: bool,
    /// The addresses of networks that it has, and gives back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<Lease>,
    /// The ports of the host's that lead to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// The files of names that it has of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_files: Option<OwnFiles>,
    /// By what the others on its networks know it beside its name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<ContainerName>,
    /// The networks that plugins of others attach it to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginNetwork>,
    /// Its processes are made by CRIU, which its first process becomes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restoring: Option<Restoring>,
}

/// A link of the host's that a bundle asks for (runtime-spec config-linux.md, Network Devices).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetDevice {
    /// What it is called on the host.
    pub device: LinkName,
    /// What it is called in the container.
    pub name: DeviceName,
}

/// What a link is to be called where it comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum DeviceName {
    /// So.
    Exactly(LinkName),
    /// So, with the first number after it that makes it new.
    Numbered(String),
}

/// Where a container comes from: what its state tells of it, and how long that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Which command makes it.
    pub origin: Origin,
    /// The bundle's directory, absolute; for `run -- CMD`, the working directory.
    pub bundle: PathBuf,
    /// The root file system's directory, absolute.
    pub rootfs: PathBuf,
    /// The bundle's annotations.
    pub annotations: BTreeMap<String, String>,
    /// What the workload is made with.
    #[serde(skip)]
    pub workload: Option<Workload>,
}

/// What a container's workload was made with, but for its arguments: a process of `exec` starts from it, and not from a
/// `config.json` that may have changed since (runtime-spec runtime.md, Lifecycle 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// As the bundle says.
    pub process: Process,
    /// Whether it has a session keyring of its own (keyrings(7)).
    pub keyring: bool,
    /// Its seccomp filter, which all further processes have, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Filter>,
    /// Its execution domain (personality(2)), which they have, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<u32>,
}

impl Workload {
    /// The workload of this process.
    pub fn of(process: &Process, keyring: bool) -> Self {
        let mut process = process.clone();
        process.set_args(None);
        Workload {
            process,
            keyring,
            seccomp: None,
            personality: None,
        }
    }
}

/// Which command makes a container: it decides how long its remains stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// `create`, or `run` of a bundle: its state stays until `delete`, as with runc.
    Bundle,
    /// `run -- CMD` or `pair`: when it has stopped, its remains are anybody's to clear away.
    Command,
}

/// The kinds of namespace (namespaces(7)), in the order in which they are joined: user first, because it gives the rights
/// to join the others; mount last, because joining it changes what paths mean.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// User and group ids, capabilities.
    User,
    /// Cgroup root directory.
    Cgroup,
    /// System V IPC, POSIX message queues.
    Ipc,
    /// Hostname and NIS domain name.
    Uts,
    /// Network devices, stacks, ports.
    Network,
    /// Process ids.
    Pid,
    /// Boot and monotonic clocks.
    Time,
    /// Mount points.
    Mount,
}

impl NamespaceKind {
    /// Every kind, in the order of joining.
    pub const ALL: [NamespaceKind; 8] = [
        NamespaceKind::User,
        NamespaceKind::Cgroup,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Network,
        NamespaceKind::Pid,
        NamespaceKind::Time,
        NamespaceKind::Mount,
    ];

    /// The file of this kind in `/proc/PID/ns` (namespaces(7)).
    pub fn proc_name(self) -> &'static str {
        match self {
            NamespaceKind::User => "user",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Network => "net",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Time => "time",
            NamespaceKind::Mount => "mnt",
        }
    }

    /// The clone(2) flag of this kind.
    pub fn clone_flag(self) -> i32 {
        match self {
            NamespaceKind::User => libc::CLONE_NEWUSER,
            NamespaceKind::Cgroup => libc::CLONE_NEWCGROUP,
            NamespaceKind::Ipc => libc::CLONE_NEWIPC,
            NamespaceKind::Uts => libc::CLONE_NEWUTS,
            NamespaceKind::Network => libc::CLONE_NEWNET,
            NamespaceKind::Pid => libc::CLONE_NEWPID,
            NamespaceKind::Time => libc::CLONE_NEWTIME,
            NamespaceKind::Mount => libc::CLONE_NEWNS,
        }
    }
}

impl fmt::Display for NamespaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NamespaceKind::Network => "network",
            NamespaceKind::Mount => "mount",
            other => other.proc_name(),
        })
    }
}

/// Where a container's namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceSource {
    /// A new one, made with the container.
    New,
    /// The one behind this path: `/run/netns/blue`, `/proc/42/ns/net`.
    Path(PathBuf),
}

/// How ids in a new user namespace map to those outside, as `/proc/PID/uid_map` and `gid_map` take them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdMaps {
    /// User ids.
    pub uids: Vec<IdMap>,
    /// Group ids.
    pub gids: Vec<IdMap>,
}

/// One line of an id map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IdMap {
    /// The first id inside.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// How many follow each other.
    pub size: u32,
}

/// A container's cgroup: where it is and what is written into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cgroup {
    /// The directory in each hierarchy, from the hierarchy's mount point: `/tincan/ns1`. Always absolute here.
    pub path: PathBuf,
    /// The values to set before the first process enters, in this order.
    pub settings: Vec<CgroupSetting>,
    /// Which devices may be used, on a host without the v1 `devices` controller: there they become a program on the v2
    /// cgroup. Empty where the controller exists, since the rules are among the `settings` then.
    pub devices: Vec<DeviceRule>,
    /// In which of the host's hierarchies the cgroup is made.
    pub hierarchies: Hierarchies,
    /// The properties that a user who is not root asks for, and has no cgroup for.
    pub undelegated: Vec<String>,
    /// The unit by which systemd makes it around the first process; without, the engine makes it before there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// In which of the host's hierarchies a cgroup is made. On v2 there is only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hierarchies {
    /// In all, so that whoever reads statistics finds the container in each controller's.
    Every,
    /// In those that a setting asks for, and in one by which the processes can be listed, frozen and killed. The processes
    /// stay where the runtime is in the others, and are accounted there.
    Needed,
}

/// A rule on the use of devices. The last rule that speaks of a device and a kind of access decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// Of which kind the device is; `All` comes only with every number and every access.
    pub kind: DeviceRuleKind,
    /// Its driver; without, any.
    pub major: Option<u32>,
    /// Its unit; without, any.
    pub minor: Option<u32>,
    /// What of it is allowed or denied.
    pub access: DeviceAccess,
    /// The property of `config.json` that asked for it, for messages: `linux.resources.devices[0]`.
    pub property: String,
}

/// The kinds of device that a rule can speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceRuleKind {
    /// Both kinds.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// What may be done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeviceAccess {
    /// Open it for reading.
    pub read: bool,
    /// Open it for writing.
    pub write: bool,
    /// Make a node for it (mknod(2)).
    pub mknod: bool,
}

impl fmt::Display for DeviceRule {
    /// As `devices.allow` and `devices.deny` take it (Documentation/admin-guide/cgroup-v1/devices.rst).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let kind = match self.kind {
            DeviceRuleKind::All => 'a',
            DeviceRuleKind::Block => 'b',
            DeviceRuleKind::Char => 'c',
        };
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        let access = self.access;
        for (letter, given) in [('r', access.read), ('w', access.write), ('m', access.mknod)] {
            if given {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// A value to write into a file of the container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CgroupSetting {
    /// The controller whose hierarchy has the file: `memory`, `cpu`, …
    pub controller: String,
    /// The file: `memory.limit_in_bytes`, `cpu.max`.
    pub file: String,
    /// The text to write.
    pub value: String,
    /// The property of `config.json` that asked for it, for messages: `linux.resources.memory.limit`.
    pub property: String,
    /// What to do on a kernel that does not have the file.
    pub absent: Absent,
    /// A file that tells how much is in use: the value, a limit, is written only if it is more than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<String>,
}

/// What to do when a cgroup does not have the file of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Absent {
    /// Fail: the setting cannot be had here.
    Fail,
    /// Nothing: the kernel does not have what the setting would limit.
    Leave,
    /// Write this instead: the file's name, and the text, of the same property under another I/O scheduler.
    Instead {
        /// The file.
        file: String,
        /// The text to write.
        value: String,
    },
}

/// The hooks that run in the runtime's namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RuntimeHooks {
    /// After the namespaces exist, before pivot_root (deprecated in the specification, used by Docker).
    pub prestart: Vec<Hook>,
    /// As `prestart`, after them.
    pub create_runtime: Vec<Hook>,
    /// After the user's process has started.
    pub poststart: Vec<Hook>,
    /// After the container is deleted.
    pub poststop: Vec<Hook>,
}

/// A veth pair: one wire with two ends, each born where it belongs (veth(4)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wire {
    /// The two ends. The kernel makes the second first, as the peer of the first.
    pub ends: [End; 2],
}

impl Wire {
    /// What an end does otherwise than the kernel would have it do with IPv6 (Documentation/networking/ip-sysctl.rst): the parameter, and
    /// its value.
    pub fn ipv6_setting(&self, end: &End) -> Option<(&'static str, &'static str)> {
        let on_network = self.ends.iter().any(|end| end.port.is_some());
        if end.no_ipv6 {
            Some(("disable_ipv6", "1"))
        } else if on_network {
            // The others on a network are no routers of this container's.
            Some(("accept_ra", "0"))
        } else {
            None
        }
    }

    /// The link-local address that the second end of a network's wire gets before it is raised, the one that the kernel would make of
    /// its link-layer address (RFC 4291, appendix A).
    ///
    /// The kernel's own would be asked for first (RFC 4862, 5.4), and what is told of multicast groups would be told again when
    /// nobody has answered (`mld_dad_work`, net/ipv6/mcast.c): 7 packets of each container to every other instead of 4.
    pub fn link_local(&self) -> Option<EndAddr> {
        let [port, end] = &self.ends;
        if port.port.is_none() || !end.gets_ipv6() {
            return None;
        }
        let [a, b, c, d, e, f] = end.mac?.0;
        let own = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        let ip = Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(own));
        Some(EndAddr::on_link(IfAddr {
            ip: ip.into(),
            prefix: 64,
        }))
    }
}

/// One end of a wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct End {
    /// Whose network namespace it is in.
    pub at: Place,
    /// The interface's name there.
    pub name: LinkName,
    /// Its link-layer address; without, the kernel's random one.
    pub mac: Option<Mac>,
    /// Its MTU in bytes; without, the kernel's 1500.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub addrs: Vec<EndAddr>,
    /// Routes through it, beyond those that its addresses bring.
    pub routes: Vec<Route>,
    /// The interface's alias (`ip link … alias`), by which a link on the host tells whose it is; at most 255 bytes.
    pub alias: Option<String>,
    /// Whether IPv6 is off on it (Documentation/networking/ip-sysctl.rst, `disable_ipv6`): so it is at the host's end of a wire
    /// without IPv6.
    ///
    /// On the host, the links of all wires are in the same tables, which the kernel walks for each link that comes up and for
    /// each multicast packet that a container sends behind its link-local address (`fib6_ifup`, `__find_rr_leaf` in
    /// net/ipv6/route.c), so that each wire would cost more than the last.
    pub no_ipv6: bool,
    /// The port of a bridge that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
}

/// An address of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndAddr {
    /// The address and its prefix. With a `peer`, the prefix is the host's: /32 or /128.
    pub addr: IfAddr,
    /// The far end's address: the kernel then makes a route to that one host instead of to the prefix (`ip address add …
    /// peer …`), so that two ends in one prefix do not hide one another.
    pub peer: Option<IpAddr>,
    /// Whether tincan chose it: then it gives way when somebody asks for it by name.
    pub automatic: bool,
}

impl End {
    /// An end with nothing but a name.
    pub fn bare(at: Place, name: LinkName) -> Self {
        End {
            at,
            name,
            mac: None,
            mtu: None,
            addrs: Vec::new(),
            routes: Vec::new(),
            alias: None,
            no_ipv6: false,
            port: None,
        }
    }

    /// Whether an address is of IPv6.
    pub fn gets_ipv6(&self) -> bool {
        self.addrs.iter().any(|addr| addr.addr.ip.is_ipv6())
    }
}

impl EndAddr {
    /// An address with the whole of its prefix on the link.
    pub fn on_link(addr: IfAddr) -> Self {
        EndAddr {
            addr,
            peer: None,
            automatic: false,
        }
    }
}

/// A route through an end of a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to: `0.0.0.0/0` and `::/0` are the default routes.
    pub to: IfAddr,
    /// The next hop; without, the destination is on the link.
    pub via: Option<IpAddr>,
}

/// Whose network namespace an end is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The namespace that tincan itself runs in.
    Host,
    /// A node of this topology, by its index.
    Node(usize),
    /// A container that runs already.
    Running(ContainerName),
}

/// What the engine itself does, outside the containers. The order is the order of doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum HostStep {
    /// Take the container's name: the state directory, with the journal of what will have to be undone.
    Claim {
        /// Which node.
        node: usize,
    },
    /// Make its cgroup and set its limits.
    Cgroup {
        /// Which node.
        node: usize,
    },
    /// Let systemd make its cgroup around its first process, and set its limits.
    Scope {
        /// Which node.
        node: usize,
    },
    /// Clone its first process into its namespaces, held at its first gate.
    Clone {
        /// Which node.
        node: usize,
    },
    /// Write the id maps of its user namespace, and the offsets of its clocks.
    Map {
        /// Which node.
        node: usize,
    },
    /// Record its process id in the state.
    Record {
        /// Which node.
        node: usize,
    },
    /// Make its control group in resctrl, and put its first process there.
    Control {
        /// Which node.
        node: usize,
    },
    /// Lead its network namespace to the outside.
    Outside {
        /// Which node.
        node: usize,
    },
    /// Raise `lo` in its network namespace.
    Loopback {
        /// Which node.
        node: usize,
    },
    /// Let nothing come to its network namespace and nothing leave it, until CRIU has made its connections.
    Still {
        /// Which node.
        node: usize,
    },
    /// Give its network namespace a name for `ip netns`.
    NameNetns {
        /// Which node.
        node: usize,
    },
    /// Give the host's end of a running container's wire another address.
    Move {
        /// Which move.
        index: usize,
    },
    /// Remove a wire.
    Remove {
        /// Which removal.
        index: usize,
    },
    /// Let an interface that is there be otherwise.
    Change {
        /// Which change.
        index: usize,
    },
    /// Make a wire, address and raise both ends.
    Wire {
        /// Which wire.
        wire: usize,
    },
    /// Make an interface of another kind, address and raise it.
    Interface {
        /// Which interface.
        index: usize,
    },
    /// Let plugins attach it to their networks.
    Plugins {
        /// Which node.
        node: usize,
    },
    /// Lead the host's ports to it that it publishes.
    Publish {
        /// Which node.
        node: usize,
    },
    /// Run its prestart and createRuntime hooks.
    Hooks {
        /// Which node.
        node: usize,
    },
    /// Wait until its first process is at this gate, and open it.
    Open {
        /// Which node.
        node: usize,
        /// Which gate.
        gate: Gate,
    },
    /// Wait until its first process holds at the gate that `start` opens.
    AwaitStart {
        /// Which node.
        node: usize,
    },
    /// Wait until its first process has become the workload.
    AwaitExec {
        /// Which node.
        node: usize,
    },
    /// Wait until CRIU has made its processes, and record which is the first.
    Restore {
        /// Which node.
        node: usize,
    },
    /// Record that the containers that outlive tincan are whole: until then they are remainders when their maker is gone.
    Complete {
        /// The first of them.
        node: usize,
    },
}

impl Topology {
    /// The step of a node by which it mounts a procfs that the engine can use to set what its ends on networks do with IPv6: one that comes
    /// before every gate at which it would wait for just that.
    pub fn lent_proc(&self, node: usize) -> Option<usize> {
        let is_set = |wire: &Wire| {
            let mut own = wire.ends.iter().filter(|end| end.at == Place::Node(node));
            own.any(|end| wire.ipv6_setting(end).is_some())
        };
        if !self.wires.iter().any(is_set) {
            return None;
        }
        let steps = &self.nodes[node].steps;
        let is_before =
            |step: &&Step| !matches!(step, Step::Gate(Gate::Hooks | Gate::Wired | Gate::Start));
        steps
            .iter()
            .take_while(is_before)
            .position(Step::mounts_proc)
    }

    /// What the engine does, in order: every name is claimed before anything is made; all containers are held before the
    /// first wire; the wires are made while the containers mount; then the gates open.
    pub fn host_steps(&self) -> Vec<HostStep> {
        let mut steps = Vec::new();
        let each = |steps: &mut Vec<HostStep>, of: &dyn Fn(usize, &Node, &mut Vec<HostStep>)| {
            for (index, node) in self.nodes.iter().enumerate() {
                of(index, node, steps);
            }
        };
        each(&mut steps, &|node, _, steps| {
            steps.push(HostStep::Claim { node })
        });
        each(&mut steps, &|node, n, steps| {
            if n.cgroup.as_ref().is_some_and(|one| one.scope.is_none()) {
                steps.push(HostStep::Cgroup { node });
            }
            steps.push(HostStep::Clone { node });
            steps.push(HostStep::Record { node });
            if n.control.is_some() {
                steps.push(HostStep::Control { node });
            }
            if n.has_gate(Gate::Cgroup) {
                steps.push(HostStep::Scope { node });
                steps.push(HostStep::Open {
                    node,
                    gate: Gate::Cgroup,
                });
            }
            if n.has_gate(Gate::Maps) {
                steps.push(HostStep::Map { node });
                steps.push(HostStep::Open {
                    node,
                    gate: Gate::Maps,
                });
            }
            // Before any link is looked at: the outside is seen from the machine's network namespace.
            if n.outside.is_some() {
                steps.push(HostStep::Outside { node });
            }
        });
        each(&mut steps, &|node, n, steps| {
            if n.loopback {
                steps.push(HostStep::Loopback { node });
            }
            if n.restoring.as_ref().is_some_and(|it| it.connections) {
                steps.push(HostStep::Still { node });
            }
            if n.netns_name.is_some() {
                steps.push(HostStep::NameNetns { node });
            }
        });
        steps.extend((0..self.removals.len()).map(|index| HostStep::Remove { index }));
        steps.extend((0..self.changes.len()).map(|index| HostStep::Change { index }));
        steps.extend((0..self.moves.len()).map(|index| HostStep::Move { index }));
        steps.extend((0..self.wires.len()).map(|wire| HostStep::Wire { wire }));
        steps.extend((0..self.interfaces.len()).map(|index| HostStep::Interface { index }));
        each(&mut steps, &|node, n, steps| {
            if !n.plugins.is_empty() {
                steps.push(HostStep::Plugins { node });
            }
            if !n.published.is_empty() {
                steps.push(HostStep::Publish { node });
            }
            if n.has_gate(Gate::Hooks) {
                steps.push(HostStep::Hooks { node });
                steps.push(HostStep::Open {
                    node,
                    gate: Gate::Hooks,
                });
            }
        });
        // The last node first: when the first, whose command is awaited, is released, all others are up.
        for (node, n) in self.nodes.iter().enumerate().rev() {
            if n.has_gate(Gate::Wired) {
                steps.push(HostStep::Open {
                    node,
                    gate: Gate::Wired,
                });
            }
            steps.push(if n.has_gate(Gate::Start) {
                HostStep::AwaitStart { node }
            } else {
                HostStep::AwaitExec { node }
            });
            if n.restoring.is_some() {
                steps.push(HostStep::Restore { node });
            }
        }
        // All or none: while one is not up, every one is a remainder should tincan be killed. So it is one step for all.
        let stays = self.nodes.iter().position(|node| !node.die_with_parent);
        steps.extend(stays.map(|node| HostStep::Complete { node }));
        steps
    }

    /// The links that outlast the container at a place, since they are in a namespace that it joins by this path: each by its end on the
    /// host, where it has one.
    pub fn lasting_links(&self, at: &Place, path: &Path) -> Vec<LastingLink> {
        let lasting = |end: &End| LastingLink {
            netns: (end.at == *at).then(|| path.to_owned()),
            interface: end.name.clone(),
            mac: end.mac,
        };
        let wires = self.wires.iter().filter_map(|wire| {
            let own = wire.ends.iter().find(|end| end.at == *at)?;
            let on_host = wire.ends.iter().find(|end| end.at == Place::Host);
            Some(lasting(on_host.unwrap_or(own)))
        });
        // A link of the host's that was moved there is its own undoing.
        let made = |it: &&Interface| !matches!(it.kind, InterfaceKind::Phys { .. });
        let interfaces = self.interfaces.iter().filter(made).map(|it| &it.end);
        let interfaces = interfaces.filter(|end| end.at == *at).map(lasting);
        wires.chain(interfaces).collect()
    }

    /// Gives the links of [`Topology::lasting_links`] addresses by which they are known again. They are made of the `alias` of each.
    pub fn mark_lasting_links(&mut self, at: &Place, alias: impl Fn(&LinkName) -> String) {
        for wire in &mut self.wires {
            let Some(own) = wire.ends.iter().find(|end| end.at == *at) else {
                continue;
            };
            let mac = Mac::of(&alias(&own.name));
            let on_host = wire.ends.iter().any(|end| end.at == Place::Host);
            for end in &mut wire.ends {
                if end.at == if on_host { Place::Host } else { at.clone() } {
                    end.mac.get_or_insert(mac);
                }
            }
        }
        for interface in &mut self.interfaces {
            if interface.end.at == *at && interface.kind.takes_mac() {
                let mac = Mac::of(&alias(&interface.end.name));
                interface.end.mac.get_or_insert(mac);
            }
        }
    }

    /// Whom a step of the engine is for, and what it does, as a phrase that fits after the name.
    pub fn describe(&self, step: HostStep) -> (&ContainerName, String) {
        let (node, what) = match step {
            HostStep::Claim { node } => (node, "take the name".to_owned()),
            HostStep::Cgroup { node } => (node, "make the cgroup".to_owned()),
            HostStep::Scope { node } => {
                let scope = self.nodes[node]
                    .cgroup
                    .as_ref()
                    .and_then(|c| c.scope.as_ref());
                let what = scope.map_or(String::new(), |scope| {
                    let properties: Vec<_> =
                        scope.properties.iter().map(ToString::to_string).collect();
                    format!("start the scope {scope} with {}", properties.join(" "))
                });
                (node, what)
            }
            HostStep::Clone { node } => (node, "clone into the namespaces".to_owned()),
            HostStep::Map { node } => (node, "map its ids and clocks".to_owned()),
            HostStep::Record { node } => (node, "record the process".to_owned()),
            HostStep::Control { node } => {
                let control = self.nodes[node].control.as_ref();
                let group = control.map_or(Path::new(""), |it| &it.path);
                let what = format!("give it the share of /{} in resctrl", group.display());
                (node, what)
            }
            HostStep::Outside { node } => (node, "lead it to the outside by pasta".to_owned()),
            HostStep::Loopback { node } => (node, "raise lo".to_owned()),
            HostStep::Still { node } => (node, "keep the network still".to_owned()),
            HostStep::NameNetns { node } => (node, "name the network namespace".to_owned()),
            HostStep::Plugins { node } => {
                let attach = |network: &PluginNetwork| {
                    let programs: Vec<_> = network.programs().collect();
                    let interface = network.interface.as_ref().map_or("", LinkName::as_str);
                    let name = &network.name;
                    format!("attach {interface} to {name} by {}", programs.join(", "))
                };
                let all: Vec<_> = self.nodes[node].plugins.iter().map(attach).collect();
                (node, all.join("; "))
            }
            HostStep::Publish { node } => {
                let published = self.nodes[node].published.iter();
                let ports: Vec<_> = published.map(|one| one.publish.to_string()).collect();
                (node, format!("publish {}", ports.join(", ")))
            }
            HostStep::Hooks { node } => (node, "run the hooks".to_owned()),
            HostStep::Open { node, gate } => (node, format!("open the gate `{gate}`")),
            HostStep::AwaitStart { node } => (node, "wait at the gate `start`".to_owned()),
            HostStep::AwaitExec { node } => (node, "wait for the exec".to_owned()),
            HostStep::Restore { node } => (node, "wait for CRIU".to_owned()),
            HostStep::Complete { node } => (
                node,
                "record that it is whole, and all that stay with it".to_owned(),
            ),
            HostStep::Move { index } => {
                let moved = &self.moves[index];
                let (from, to) = (moved.from.addr.ip, moved.to.addr.ip);
                let what = format!("move host:{} from {from} to {to}", moved.interface);
                return (&moved.container, what);
            }
            HostStep::Remove { index } => {
                let removal = &self.removals[index];
                let what = format!("delete the link {}", removal.interface);
                return (&removal.container, what);
            }
            HostStep::Change { index } => {
                let change = &self.changes[index];
                let what = format!("change {}", self.end_name(&change.end));
                return (&change.container, what);
            }
            HostStep::Wire { wire } => {
                let [a, b] = &self.wires[wire].ends;
                let what = format!("wire {} to {}", self.end_name(a), self.end_name(b));
                let whose = self.container(&a.at).or(self.container(&b.at));
                return (whose.expect("one end of a wire is a container's"), what);
            }
            HostStep::Interface { index } => {
                let Interface { end, kind } = &self.interfaces[index];
                let what = format!("make {kind} as {}", self.end_name(end));
                let whose = self.container(&end.at);
                return (whose.expect("an interface is a container's"), what);
            }
        };
        (&self.nodes[node].name, what)
    }

    /// The container that a place is.
    pub fn container<'a>(&'a self, at: &'a Place) -> Option<&'a ContainerName> {
        match at {
            Place::Node(node) => Some(&self.nodes[*node].name),
            Place::Running(name) => Some(name),
            Place::Host => None,
        }
    }

    /// An end as `container:interface`.
    pub fn end_name(&self, end: &End) -> String {
        match &end.at {
            Place::Host => format!("host:{}", end.name),
            Place::Node(node) => format!("{}:{}", self.nodes[*node].name, end.name),
            Place::Running(name) => format!("{name}:{}", end.name),
        }
    }
}

impl Node {
    /// The network namespace that it joins, by path.
    pub fn joined_netns(&self) -> Option<&Path> {
        match self.namespaces.get(&NamespaceKind::Network) {
            Some(NamespaceSource::Path(path)) => Some(path),
            _ => None,
        }
    }

    /// A process beside a container's first one, with nothing of its own: `exec` adds its steps.
    pub fn beside(name: &ContainerName) -> Self {
        Node {
            name: name.clone(),
            identity: Identity {
                origin: Origin::Command,
                bundle: PathBuf::from("/"),
                rootfs: PathBuf::from("/"),
                annotations: BTreeMap::new(),
                workload: None,
            },
            namespaces: BTreeMap::new(),
            id_maps: None,
            time_offsets: Vec::new(),
            cgroup: None,
            control: None,
            steps: Vec::new(),
            hooks: RuntimeHooks::default(),
            netns_name: None,
            loopback: false,
            devices: Vec::new(),
            outside: None,
            die_with_parent: false,
            leases: Vec::new(),
            published: Vec::new(),
            own_files: None,
            aliases: Vec::new(),
            plugins: Vec::new(),
            restoring: None,
        }
    }

    /// Whether the root is another than the host's.
    pub fn has_own_root(&self) -> bool {
        let own = |step: &Step| matches!(step, Step::PivotRoot | Step::MoveRoot | Step::ChangeRoot);
        self.steps.iter().any(own)
    }

    /// Whether its root is in no mount namespace, so that who joins its namespaces is not in it yet.
    pub fn is_apart(&self) -> bool {
        self.steps.contains(&Step::ChangeRoot)
    }

    /// Whether a process of the container could look at one of tincan's: the root is not the host's, the process ids are not
    /// new, and root of the container is root of the host.
    pub fn is_watched(&self) -> bool {
        let source = |kind| self.namespaces.get(&kind);
        self.has_own_root()
            && source(NamespaceKind::Pid) != Some(&NamespaceSource::New)
            && source(NamespaceKind::User).is_none()
    }

    /// Whether this gate is among the node's steps.
    pub fn has_gate(&self, gate: Gate) -> bool {
        self.steps.contains(&Step::Gate(gate))
    }
}
