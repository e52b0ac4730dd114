//! What `--net` asks for, against the facts of this host: which addresses and names are free here, and whose they are.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;

use crate::engine::error::EngineError;
use crate::engine::give_way::is_dead;
use crate::engine::hold::{Engine, enter_running};
use crate::engine::network::{self, Holder, NetworkStateError};
use crate::engine::publish;
use crate::engine::undo;
use crate::net::device;
use crate::net::netlink::{Netlink, Refused, gone_is_fine};
use crate::net::probe;
use crate::net::wire::{self, Link, Owner};
use crate::plan::interface::{Interface, InterfaceKind, InterfaceSpec};
use crate::plan::name::{BadWord, ContainerName, IfAddr, LinkName};
use crate::plan::net::check_mtu;
use crate::plan::net::{
    FarEnd, NetSpec, Outside, PairEnd, Protocol, Publish, WireSpec, alias_container,
    check_together, default_name, host_link_alias, host_link_name,
};
use crate::plan::network::{Lease, Network, NetworkName, NetworkSpec, PortEnd, Published, Subnet};
use crate::plan::oci::borrow_sysfs;
use crate::plan::tenant::Tenant;
use crate::plan::topology::{
    DeviceName, End, EndAddr, Move, NamespaceKind, NamespaceSource, NetDevice, Node, Place,
    Topology, Wire,
};
use crate::plan::wireguard::{BadLine, Tunnel};
use crate::sys::netns;

/// The name by which an end of a wire is the host's.
pub const HOST: &str = "host";

/// Refuses the name that means the host where wires are added and removed.
///
/// # Errors
/// [`BadWord`] for that name.
pub fn check_name(name: &ContainerName) -> Result<(), BadWord> {
    if name.as_str() == HOST {
        let why = "means the host itself";
        return Err(BadWord::new("container name", HOST, why, "ns1"));
    }
    Ok(())
}

/// Refuses a container that has no network namespace of its own.
///
/// # Errors
/// [`NetworkStateError::OnHost`].
pub fn check_own_network(
    container: &ContainerName,
    own: BorrowedFd<'_>,
) -> Result<(), NetworkError> {
    let is_host = netns::is_current(own);
    if is_host.map_err(|cause| asking("its network namespace", cause.into()))? {
        return Err(EngineError::from(NetworkStateError::OnHost(container.clone())).into());
    }
    Ok(())
}

/// Refuses an interface that a running container, in whose namespace `inside` is, has already, or whose addresses it has.
///
/// # Errors
/// [`BadWord`] for the name, [`NetworkError::InUse`] for an address.
pub fn check_new(
    inside: &Netlink,
    container: &ContainerName,
    name: &LinkName,
    words: &WireSpec,
) -> Result<(), NetworkError> {
    if link(inside, name)?.is_some() {
        let why = format!("is an interface of {container} already");
        return Err(BadWord::new("interface name", name.as_str(), why, "name=eth1").into());
    }
    check_unused(inside, &words.addrs, &format!("in {container}"))
}

/// Refuses addresses that a link of a namespace has.
///
/// # Errors
/// [`NetworkError::InUse`].
pub fn check_unused(inside: &Netlink, addrs: &[IfAddr], place: &str) -> Result<(), NetworkError> {
    for addr in addrs {
        let owner = wire::owner_of(inside, addr.ip).map_err(|cause| asking(addr.ip, cause))?;
        if let Some(owner) = owner {
            return Err(in_use(addr.ip, place, &owner));
        }
    }
    Ok(())
}

/// Why the network that was asked for cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A word of the value.
    #[error(transparent)]
    Word(#[from] BadWord),
    /// The other end's container.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Root needs none.
    #[error(
        "--net `pasta` is for users who are not root; `--net 172.16.0.1/16` is a wire to the host"
    )]
    NotForRoot,
    /// A port for a container that has no way to the outside.
    #[error("--publish `{0}` goes with a network: `--net lan0`, or `--net pasta` of a user")]
    NothingPublishes(Publish),
    /// A protocol that pasta(1) does not speak.
    #[error("--publish `{0}`: pasta leads tcp and udp in, and no sctp")]
    NotByPasta(Publish),
    /// The kernel would not answer.
    #[error("ask the kernel about {what}: {cause}")]
    Asking {
        /// About what.
        what: String,
        /// Why not.
        cause: Refused,
    },
    /// An address that somebody has.
    #[error("address {ip} is in use {place}: {whose}")]
    InUse {
        /// The address.
        ip: IpAddr,
        /// `on the host`, `in ns1`.
        place: String,
        /// Of whom.
        whose: String,
    },
    /// A kind of link that the kernel does not make.
    #[error(
        "--net `{what}`: this kernel has no {kind}; `tincan doctor` shows what would provide it"
    )]
    NoKind {
        /// What was asked for.
        what: String,
        /// What it would take.
        kind: &'static str,
    },
    /// A link of the host's to be on.
    #[error(
        "--net `{what}`: there is no link {parent} on the host; `ip link` shows which there are"
    )]
    NoParent {
        /// What was asked for.
        what: String,
        /// Its parent.
        parent: LinkName,
    },
    /// A bundle asks for a link that the host does not have.
    #[error(
        "config.json: linux.netDevices: there is no link {0} on the host; `ip link` shows which there are"
    )]
    NoDevice(LinkName),
    /// A link of the host's that stays there.
    #[error("--net `{what}`: {device} {why}, and stays where it is")]
    NotToLend {
        /// What was asked for.
        what: String,
        /// The link.
        device: LinkName,
        /// Why.
        why: &'static str,
    },
    /// A link of the machine's, for somebody who is not its root.
    #[error("--net `{0}` is for root: a user has no links of the machine's to move")]
    NotForUsers(String),
    /// The file of a tunnel.
    #[error("{}: {cause}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why it cannot be read.
        cause: std::io::Error,
    },
    /// What is in it.
    #[error(transparent)]
    Tunnel(#[from] BadLine),
    /// An address of a network that somebody has.
    #[error("address {ip} of network {network} is leased to container {tenant}")]
    Leased {
        /// The address.
        ip: IpAddr,
        /// The network.
        network: NetworkName,
        /// Whose it is.
        tenant: Tenant,
    },
    /// A network without a free address.
    #[error("network {network} is full: no address of {subnet} is free")]
    Full {
        /// The network.
        network: NetworkName,
        /// Its subnet.
        subnet: IfAddr,
    },
    /// A namespace that is not there.
    #[error("network namespace {0} does not exist; `ip netns list` shows those with names")]
    NoNamespace(String),
}

/// What to do with the ends of dead containers, which are in the way for the milliseconds that the kernel takes to free them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// Help the kernel along.
    Clear,
    /// Plan as if they were gone, as a dry run does.
    Overlook,
}

/// Puts a node's network as the values of `--net` say: its namespace, and its wires.
///
/// # Errors
/// When a value, or what it asks for, is not to be had; nothing was made then.
pub fn attach(
    engine: &Engine,
    topology: &mut Topology,
    index: usize,
    specs: &[NetSpec],
    publish: &[Publish],
    remains: Remains,
) -> Result<(), NetworkError> {
    check_together(specs)?;
    let by_network = specs.iter().any(|it| matches!(it, NetSpec::Network(_)));
    let by_pasta = specs.contains(&NetSpec::Pasta);
    let by_plugins = leave_ports(&mut topology.nodes[index], publish, by_network || by_pasta);
    if let (Some(port), false) = (publish.first(), by_network || by_pasta || by_plugins) {
        return Err(NetworkError::NothingPublishes(*port));
    }
    let for_pasta = |it: &&Publish| it.protocol != Protocol::Sctp;
    if let (Some(port), true) = (publish.iter().find(|it| !for_pasta(it)), by_pasta) {
        return Err(NetworkError::NotByPasta(*port));
    }
    let joined = match specs.iter().any(NetSpec::is_link) {
        true => joined(engine, &topology.nodes[index])?,
        false => None,
    };
    let names = names(joined.as_ref(), &topology.nodes[index], specs)?;
    let made = specs.iter().zip(&names).filter(|(spec, _)| spec.is_link());
    let made = made.map(|(_, name)| name.clone()).collect();
    lend_devices(engine, topology, index, made)?;
    let mut networks = Vec::new();
    // What any of them asks for is not free for tincan to choose for another.
    let asked: Vec<IpAddr> = specs
        .iter()
        .filter_map(|spec| match spec {
            NetSpec::Wire(spec) => Some(given(spec)),
            _ => None,
        })
        .flatten()
        .collect();
    for (number, (spec, name)) in specs.iter().zip(names).enumerate() {
        if let Some(joined) = &joined {
            joined.check_free(spec)?;
        }
        match spec {
            NetSpec::None => {}
            NetSpec::Pasta => {
                if rustix::process::geteuid().is_root() && engine.user().is_none() {
                    return Err(NetworkError::NotForRoot);
                }
                topology.nodes[index].outside = Some(Outside {
                    publish: publish.to_vec(),
                });
            }
            NetSpec::Host => {
                let node = &mut topology.nodes[index];
                share(node, None);
                if engine.confinement().is_some() {
                    borrow_sysfs(&mut node.steps);
                }
            }
            NetSpec::Container(name) => {
                let (state, pidfd) = engine.root.open(name).map_err(EngineError::from)?;
                let (Some(process), Some(_)) = (state.process, pidfd) else {
                    return Err(EngineError::NotRunning(name.clone()).into());
                };
                let path = format!("/proc/{}/ns/net", process.pid);
                share(&mut topology.nodes[index], Some(path.into()));
            }
            NetSpec::Namespace(path) => {
                if !path.exists() {
                    return Err(NetworkError::NoNamespace(path.display().to_string()));
                }
                share(&mut topology.nodes[index], Some(path.clone()));
            }
            NetSpec::Network(spec) => {
                let netlink = engine
                    .host_netlink()
                    .map_err(|e| asking("its links", Refused::from(e)))?;
                let mut here = Here {
                    engine,
                    netlink: &netlink,
                    remains,
                    asked: &[],
                    topology,
                };
                let mut is_said = [false; 2];
                for (said, v4) in is_said.iter_mut().zip([true, false]) {
                    *said = specs.iter().any(|spec| spec.says_default_route(v4));
                    if let Some(joined) = &joined {
                        *said |= joined.has_default_route(v4)?;
                    }
                }
                let is_said = |v4: bool| is_said[usize::from(!v4)];
                networks.push(here.join(index, number, spec, name, is_said)?);
            }
            NetSpec::Interface(spec) => {
                let at = Place::Node(index);
                topology.interfaces.push(interface(engine, spec, at, name)?);
            }
            NetSpec::Wire(spec) => {
                let netlink = match &spec.to {
                    None => engine
                        .host_netlink()
                        .map_err(|e| asking("its links", Refused::from(e)))?,
                    Some(to) => Rc::new(enter_running(engine, to)?.1),
                };
                let mut here = Here {
                    engine,
                    netlink: &netlink,
                    remains,
                    asked: &asked,
                    topology,
                };
                match &spec.to {
                    None => here.wire_to_host(index, number, name, spec)?,
                    Some(to) => here.wire_to_container(index, name, spec, to)?,
                }
            }
        }
    }
    if joined.is_some() {
        let container = topology.nodes[index].name.clone();
        topology.mark_lasting_links(&Place::Node(index), |name| {
            host_link_alias(&container, name, engine.root.path())
        });
    }
    name_plugins(engine, topology, index)?;
    if by_network {
        publish_by(engine, topology, index, &networks, publish, remains)?;
    }
    Ok(())
}

/// Plans the links of the host's that a bundle asks for, with the addresses that they have.
fn lend_devices(
    engine: &Engine,
    topology: &mut Topology,
    index: usize,
    mut taken: Vec<LinkName>,
) -> Result<(), NetworkError> {
    let node = &topology.nodes[index];
    if node.devices.is_empty() {
        return Ok(());
    }
    let open = |cause: std::io::Error| asking("its links", cause.into());
    let host = engine.host_netlink().map_err(open)?;
    let inside = match node.namespaces.get(&NamespaceKind::Network) {
        Some(NamespaceSource::Path(path)) => {
            let netns = std::fs::File::open(path);
            let netns = netns.map_err(|_| NetworkError::NoNamespace(path.display().to_string()))?;
            Some(Netlink::open_in(netns.as_fd()).map_err(open)?)
        }
        _ => None,
    };
    let mut interfaces = Vec::new();
    for NetDevice { device, name } in &node.devices {
        if link(&host, device)?.is_none() {
            return Err(NetworkError::NoDevice(device.clone()));
        }
        let is_new = |name: &LinkName, taken: &[LinkName]| -> Result<bool, NetworkError> {
            let inside = inside.as_ref().map(|inside| link(inside, name));
            let is_there = inside.transpose()?.flatten().is_some() || name.as_str() == "lo";
            Ok(!is_there && !taken.contains(name))
        };
        let name = match name {
            DeviceName::Exactly(name) if is_new(name, &taken)? => name.clone(),
            DeviceName::Exactly(name) => {
                let why = "is an interface of the container already";
                return Err(BadWord::new("interface name", name.as_str(), why, "eth%d").into());
            }
            DeviceName::Numbered(stem) => {
                let mut number = 0;
                loop {
                    let name: LinkName = format!("{stem}{number}").parse()?;
                    if is_new(&name, &taken)? {
                        break name;
                    }
                    number += 1;
                }
            }
        };
        let (_, addrs) = device::look(&host, device, &name)
            .map_err(|cause| asking(format!("the link {device}"), cause))?;
        taken.push(name.clone());
        interfaces.push(Interface {
            end: End {
                addrs: addrs.into_iter().map(EndAddr::on_link).collect(),
                ..End::bare(Place::Node(index), name)
            },
            kind: InterfaceKind::Phys {
                device: device.clone(),
                loan: None,
            },
        });
    }
    topology.interfaces.extend(interfaces);
    Ok(())
}

/// Leaves it to plugins to lead ports to a node that is on no network of tincan's; whether there is one that does.
fn leave_ports(node: &mut Node, publish: &[Publish], is_published: bool) -> bool {
    let mut networks = node.plugins.iter_mut();
    match networks.find(|network| network.publishes()) {
        Some(network) if !is_published => {
            network.publish = publish.to_vec();
            true
        }
        _ => false,
    }
}

/// Names the interfaces that plugins are to make in a node, each by the first `eth<n>` that is free.
fn name_plugins(
    engine: &Engine,
    topology: &mut Topology,
    index: usize,
) -> Result<(), NetworkError> {
    if topology.nodes[index].plugins.is_empty() {
        return Ok(());
    }
    let joined = joined(engine, &topology.nodes[index])?;
    let at = Place::Node(index);
    let ends = topology.wires.iter().flat_map(|wire| &wire.ends);
    let ends = ends.chain(topology.interfaces.iter().map(|it| &it.end));
    let mut taken: Vec<LinkName> = ends
        .filter(|end| end.at == at)
        .map(|end| end.name.clone())
        .collect();
    for network in &mut topology.nodes[index].plugins {
        let is_free = |name: &LinkName| -> Result<bool, NetworkError> {
            let inside = joined.as_ref().map(|joined| link(&joined.inside, name));
            Ok(!taken.contains(name) && inside.transpose()?.flatten().is_none())
        };
        let mut number = 0;
        while !is_free(&default_name(number))? {
            number += 1;
        }
        taken.push(default_name(number));
        network.interface = Some(default_name(number));
    }
    Ok(())
}

/// A network namespace that a node joins: somebody else has made it, and may have put links into it.
struct Joined {
    path: PathBuf,
    inside: Netlink,
}

/// The namespace that a node's links are to be made in where it is not a new one.
fn joined(engine: &Engine, node: &Node) -> Result<Option<Joined>, NetworkError> {
    let path = match node.namespaces.get(&NamespaceKind::Network) {
        Some(NamespaceSource::New) => return Ok(None),
        Some(NamespaceSource::Path(path)) => path.clone(),
        None => {
            let container = node.name.clone();
            return Err(EngineError::from(NetworkStateError::OnHost(container)).into());
        }
    };
    let failed = |cause: io::Error| asking(path.display(), Refused::from(cause));
    engine
        .join_network()
        .map_err(|errno| failed(errno.into()))?;
    let netns = match std::fs::File::open(&path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            return Err(NetworkError::NoNamespace(path.display().to_string()));
        }
        other => other.map_err(failed)?,
    };
    check_own_network(&node.name, netns.as_fd())?;
    let inside = Netlink::open_in(netns.as_fd()).map_err(failed)?;
    Ok(Some(Joined { path, inside }))
}

impl Joined {
    fn has_default_route(&self, v4: bool) -> Result<bool, NetworkError> {
        wire::has_default_route(&self.inside, v4)
            .map_err(|cause| asking(self.path.display(), cause))
    }

    /// Refuses addresses that somebody in the namespace has.
    fn check_free(&self, spec: &NetSpec) -> Result<(), NetworkError> {
        let place = format!("in {}", self.path.display());
        check_unused(&self.inside, spec.addrs(), &place)
    }
}

/// What the links of a node are called in it: as they ask for, or `eth<n>` for the n-th value; in a namespace that is joined, the first
/// such that is free.
fn names(
    joined: Option<&Joined>,
    node: &Node,
    specs: &[NetSpec],
) -> Result<Vec<LinkName>, NetworkError> {
    let is_lent = |name: &LinkName| {
        let mut names = node.devices.iter().map(|it| &it.name);
        names.any(|it| *it == DeviceName::Exactly(name.clone()))
    };
    let mut names: Vec<LinkName> = Vec::new();
    for (number, spec) in specs.iter().enumerate() {
        names.push(match (spec.name(), joined) {
            (None, None) => default_name(number),
            (None, Some(joined)) => free_interface_but(&joined.inside, |name| {
                let is_asked = specs.iter().any(|other| other.name() == Some(name));
                names.contains(name) || is_asked || is_lent(name)
            })?,
            (Some(name), Some(joined)) if link(&joined.inside, name)?.is_some() => {
                let why = format!("is an interface in {} already", joined.path.display());
                return Err(BadWord::new("interface name", name.as_str(), why, "name=eth1").into());
            }
            (Some(name), _) => name.clone(),
        });
    }
    Ok(names)
}

/// Plans the wire by which a running container, in whose namespace `inside` is, comes to be on a network, and takes its addresses. Its
/// default routes stay where there are some.
///
/// # Errors
/// When what is asked for is not to be had.
pub fn connect(
    engine: &Engine,
    inside: &Netlink,
    container: &ContainerName,
    spec: &NetworkSpec,
) -> Result<(Wire, Vec<Lease>), NetworkError> {
    let network = engine.root.networks().load(&spec.network);
    let network = network.map_err(EngineError::from)?;
    let joining = Joining {
        engine,
        network: &network,
        tenant: Tenant::from(container),
        remains: Remains::Clear,
    };
    let name = match &spec.wire.name {
        Some(name) => name.clone(),
        None => free_interface(inside)?,
    };
    check_new(inside, container, &name, &WireSpec::default())?;
    let host = engine
        .host_netlink()
        .map_err(|e| asking("its links", Refused::from(e)))?;
    let leads = |v4| -> Result<bool, NetworkError> {
        let has = wire::has_default_route(inside, v4);
        let has = has.map_err(|cause| asking(format!("the routes of {container}"), cause))?;
        Ok(!has)
    };
    let port = PortEnd {
        name: free_host_interface(&host, container)?,
        alias: host_link_alias(container, &name, engine.root.path()),
        default_v4: leads(true)?,
        default_v6: leads(false)?,
    };
    let (addrs, leases) = joining.take_all(spec)?;
    let at = Place::Running(container.clone());
    Ok((network.wire(spec, &addrs, at, name, port), leases))
}

/// Plans the ports that are published for a node, and takes them for it.
fn publish_by(
    engine: &Engine,
    topology: &mut Topology,
    index: usize,
    networks: &[(Network, Vec<IpAddr>)],
    publish: &[Publish],
    remains: Remains,
) -> Result<(), NetworkError> {
    let node = &mut topology.nodes[index];
    let tenant = Tenant::from(&node.name);
    let published = take_ports(engine, &tenant, networks, publish, remains)?;
    if published.is_empty() {
        return Ok(());
    }
    let ends = topology.wires.iter_mut().flat_map(|wire| &mut wire.ends);
    for port in ends.filter_map(|end| end.port.as_mut()) {
        port.reflects = published.iter().any(|one| one.network == port.network);
    }
    node.published = published;
    Ok(())
}

/// Plans the ports that are published for a tenant, and takes them for it.
fn take_ports(
    engine: &Engine,
    tenant: &Tenant,
    networks: &[(Network, Vec<IpAddr>)],
    publish: &[Publish],
    remains: Remains,
) -> Result<Vec<Published>, NetworkError> {
    let published = publish::plan(tenant, networks, publish).map_err(EngineError::from)?;
    if published.is_empty() {
        return Ok(published);
    }
    let taken = if remains == Remains::Clear {
        let mut taken = engine.reserve(&published, tenant)?;
        // What a killed run left of a container that has one is cleared away.
        if let Err(error) = &taken
            && let Some(holder) = error.taken_by()
            && undo::make_way_of(engine, holder).is_ok()
        {
            taken = engine.reserve(&published, tenant)?;
        }
        taken
    } else {
        let taken = engine.root.networks().port_taken(&published);
        taken.map_err(EngineError::from)?.map_or(Ok(()), Err)
    };
    taken.map_err(EngineError::from)?;
    publish::check_host(&published).map_err(EngineError::from)?;
    Ok(published)
}

/// What an attachment has of its network once it is taken for it.
pub struct Taken {
    /// Its addresses.
    pub addrs: Vec<IpAddr>,
    /// As what it has them.
    pub leases: Vec<Lease>,
    /// The ports of the host's that are to lead there.
    pub published: Vec<Published>,
}

/// Takes addresses and ports of a network for an interface of somebody else's container.
///
/// # Errors
/// When what is asked for is not to be had; what was taken then is given back at the end of everything.
pub fn take(
    engine: &Engine,
    network: &Network,
    tenant: &Tenant,
    spec: &NetworkSpec,
    publish: &[Publish],
) -> Result<Taken, NetworkError> {
    let joining = Joining {
        engine,
        network,
        tenant: tenant.clone(),
        remains: Remains::Clear,
    };
    let (addrs, leases) = joining.take_all(spec)?;
    let networks = [(network.clone(), addrs)];
    let published = take_ports(engine, tenant, &networks, publish, Remains::Clear)?;
    let [(_, addrs)] = networks;
    Ok(Taken {
        addrs,
        leases,
        published,
    })
}

/// Somebody on the way to a network.
struct Joining<'a> {
    engine: &'a Engine,
    network: &'a Network,
    tenant: Tenant,
    remains: Remains,
}

impl Joining<'_> {
    fn lease(&self, ip: IpAddr) -> Lease {
        let network = self.network.name.clone();
        Lease { network, ip }
    }

    /// Takes an address of each subnet: the ones that are asked for, and any for the others. The network is made whole before where
    /// somebody has taken something of it away.
    fn take_all(&self, spec: &NetworkSpec) -> Result<(Vec<IpAddr>, Vec<Lease>), NetworkError> {
        for ip in &spec.addrs {
            self.network.check_address(*ip)?;
        }
        self.network.check_routes(&spec.wire.routes)?;
        let mtu = spec.wire.mtu.or(self.network.mtu);
        let subnets = &self.network.subnets;
        let prefixes: Vec<IfAddr> = subnets.iter().map(|it| it.prefix).collect();
        check_mtu(mtu, &prefixes)?;
        if self.remains == Remains::Clear {
            network::ensure(self.engine, self.network).map_err(EngineError::from)?;
        }
        let mut addrs = Vec::new();
        for subnet in subnets {
            let asked = spec.addrs.iter().find(|ip| subnet.prefix.covers(**ip));
            addrs.push(match asked {
                Some(ip) => self.take_asked(*ip)?,
                None => self.take_any(subnet)?,
            });
        }
        let leases = addrs.iter().map(|ip| self.lease(*ip)).collect();
        Ok((addrs, leases))
    }

    /// Takes an address, if nobody has it.
    fn take(&self, ip: IpAddr) -> Result<Result<(), Holder>, EngineError> {
        let lease = self.lease(ip);
        match self.remains {
            Remains::Clear => self.engine.take(&lease, &self.tenant),
            // A dry run looks only.
            Remains::Overlook => {
                let holder = self.engine.root.networks().holder(&lease)?;
                Ok(holder.map_or(Ok(()), Err))
            }
        }
    }

    /// Takes the address that is asked for. What a killed run left of a container that has it is cleared away.
    fn take_asked(&self, ip: IpAddr) -> Result<IpAddr, NetworkError> {
        let mut taken = self.take(ip)?;
        if let (Err(holder), Remains::Clear) = (&taken, self.remains)
            && undo::make_way_of(self.engine, &holder.tenant).is_ok()
        {
            taken = self.take(ip)?;
        }
        taken.map(|()| ip).map_err(|holder| NetworkError::Leased {
            ip,
            network: self.network.name.clone(),
            tenant: holder.tenant,
        })
    }

    /// Takes the first address of a subnet that nobody has; where all are somebody's, after what killed runs left is cleared away.
    fn take_any(&self, subnet: &Subnet) -> Result<IpAddr, NetworkError> {
        if let Some(ip) = self.take_first(subnet)? {
            return Ok(ip);
        }
        if self.remains == Remains::Clear {
            undo::gc(self.engine)?;
            if let Some(ip) = self.take_first(subnet)? {
                return Ok(ip);
            }
        }
        Err(NetworkError::Full {
            network: self.network.name.clone(),
            subnet: subnet.prefix,
        })
    }

    fn take_first(&self, subnet: &Subnet) -> Result<Option<IpAddr>, NetworkError> {
        let networks = self.engine.root.networks();
        for ip in networks.free(&self.network.name, subnet) {
            // Of two who want the same one, one goes on to the next.
            if self.take(ip)?.is_ok() {
                if self.remains == Remains::Clear {
                    networks.search_from(&self.lease(ip));
                }
                return Ok(Some(ip));
            }
        }
        Ok(None)
    }
}

/// Plans an interface that is no end of a wire: with what the file of a tunnel says, and how a link of the host's is before it goes.
///
/// # Errors
/// When the kernel cannot make it, its parent is not there, or its parent's network knows its address as the host's.
pub fn interface(
    engine: &Engine,
    spec: &InterfaceSpec,
    at: Place,
    name: LinkName,
) -> Result<Interface, NetworkError> {
    let host = engine
        .host_netlink()
        .map_err(|e| asking("its links", Refused::from(e)))?;
    check_possible(&host, spec)?;
    match &spec.kind {
        InterfaceKind::Wireguard { file, .. } => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|cause| NetworkError::File {
                file: file.clone(),
                cause,
            })?;
            let tunnel = Tunnel::parse(file, &text)?;
            Ok(spec.clone().with_tunnel(tunnel)?.at(at, name))
        }
        InterfaceKind::Phys { device, .. } => {
            if engine.user().is_some() || !rustix::process::geteuid().is_root() {
                return Err(NetworkError::NotForUsers(spec.kind.to_string()));
            }
            let (loan, addrs) = device::look(&host, device, &name)
                .map_err(|cause| asking(format!("the link {device}"), cause))?;
            let mut planned = spec.at(at, name);
            if spec.wire.addrs.is_empty() {
                planned.end.addrs = addrs.into_iter().map(EndAddr::on_link).collect();
            }
            planned.kind = InterfaceKind::Phys {
                device: device.clone(),
                loan: Some(Box::new(loan)),
            };
            Ok(planned)
        }
        _ => Ok(spec.at(at, name)),
    }
}

fn check_possible(host: &Netlink, spec: &InterfaceSpec) -> Result<(), NetworkError> {
    let what = || spec.kind.to_string();
    let is_known = match (spec.kind.link_kind(), &spec.kind) {
        (Some(kind), _) => probe::apart(|netlink| probe::knows_link(netlink, kind))
            .map_err(|cause| asking(format!("links of the kind {kind}"), cause))?,
        (None, InterfaceKind::Tap) => Path::new("/dev/net/tun").exists(),
        (None, _) => true,
    };
    if !is_known {
        return Err(NetworkError::NoKind {
            what: what(),
            kind: spec.kind.link_kind().unwrap_or("/dev/net/tun"),
        });
    }
    let Some(parent) = spec.kind.parent() else {
        return Ok(());
    };
    let Some(found) = link(host, parent)? else {
        return Err(NetworkError::NoParent {
            what: what(),
            parent: parent.clone(),
        });
    };
    if let InterfaceKind::Phys { .. } = spec.kind {
        let why = if found.controller.is_some() {
            "is a port of another link"
        } else if found
            .alias
            .as_deref()
            .is_some_and(|it| it.starts_with("tincan"))
        {
            "is a link of tincan's own"
        } else {
            return Ok(());
        };
        let (what, device) = (what(), parent.clone());
        return Err(NetworkError::NotToLend { what, device, why });
    }
    if spec.kind.is_on_parents_network() {
        check_unused(host, &spec.wire.addrs, "on the host")?;
    }
    Ok(())
}

/// Gives a node somebody else's network namespace, or the host's.
fn share(node: &mut Node, path: Option<std::path::PathBuf>) {
    use crate::plan::step::Step;
    node.loopback = false;
    match path {
        None => drop(node.namespaces.remove(&NamespaceKind::Network)),
        Some(path) => {
            node.namespaces
                .insert(NamespaceKind::Network, NamespaceSource::Path(path.clone()));
            // After the cgroup, whose files are the host's, and before the first mount: a sysfs shows the namespace it was
            // mounted in.
            let after = node
                .steps
                .iter()
                .position(|step| {
                    !matches!(step, Step::EnterCgroup | Step::Gate(_) | Step::BecomeRoot)
                })
                .unwrap_or(0);
            node.steps
                .insert(after, Step::Join(NamespaceKind::Network, path));
        }
    }
}

/// Refuses an end in a namespace where its addresses, or those of the far end, are somebody's already.
///
/// # Errors
/// [`NetworkError::InUse`].
pub fn check_free(
    engine: &Engine,
    netlink: &Netlink,
    end: &PairEnd,
    far: &PairEnd,
    remains: Remains,
) -> Result<(), NetworkError> {
    let here = Here {
        engine,
        netlink,
        remains,
        asked: &[],
        topology: &mut Topology::default(),
    };
    let place = if end.container.as_str() == HOST {
        "on the host".to_owned()
    } else {
        format!("in {}", end.container)
    };
    here.check_free(&place, &end.wire.addrs, &far.wire.addrs)
}

/// Gives each end that is born where others are already, on the host or in a running container, the alias by which it tells
/// whose wire it is. `whose` are the containers of the ends, in their order.
pub fn tell_whose(engine: &Engine, wire: &mut Wire, whose: [&PairEnd; 2]) {
    for at in 0..2 {
        let [end, far] = [&wire.ends[at], &wire.ends[1 - at]];
        let is_new = matches!(end.at, Place::Node(_));
        if !is_new && far.at != Place::Host {
            let root = engine.root.path();
            let alias = host_link_alias(&whose[1 - at].container, &far.name, root);
            wire.ends[at].alias = Some(alias);
        }
    }
}

/// The first `eth<n>` that a namespace does not have.
///
/// # Errors
/// When the kernel does not say.
pub fn free_interface(netlink: &Netlink) -> Result<LinkName, NetworkError> {
    free_interface_but(netlink, |_| false)
}

/// The first `eth<n>` that a namespace does not have and that is not taken otherwise.
fn free_interface_but(
    netlink: &Netlink,
    is_taken: impl Fn(&LinkName) -> bool,
) -> Result<LinkName, NetworkError> {
    let mut number = 0;
    loop {
        let name = default_name(number);
        if !is_taken(&name) && link(netlink, &name)?.is_none() {
            return Ok(name);
        }
        number += 1;
    }
}

/// The first name for the host's end of a container's wire that the host does not have.
///
/// # Errors
/// When the kernel does not say.
pub fn free_host_interface(
    netlink: &Netlink,
    container: &ContainerName,
) -> Result<LinkName, NetworkError> {
    let mut number = 0;
    loop {
        let name = host_link_name(container, number, 0);
        if link(netlink, &name)?.is_none() {
            return Ok(name);
        }
        number += 1;
    }
}

fn link(netlink: &Netlink, name: &LinkName) -> Result<Option<Link>, NetworkError> {
    match wire::link_by_name(netlink, name) {
        Err(refused) if refused.errno == Errno::ENODEV => Ok(None),
        other => other.map(Some).map_err(|cause| asking(name, cause)),
    }
}

/// The addresses that the user has named for either end.
fn given(spec: &WireSpec) -> impl Iterator<Item = IpAddr> {
    spec.addrs.iter().chain(&spec.peers).map(|addr| addr.ip)
}

fn asking(what: impl std::fmt::Display, cause: Refused) -> NetworkError {
    NetworkError::Asking {
        what: what.to_string(),
        cause,
    }
}

/// Whose an address is that was asked for.
pub fn in_use(ip: IpAddr, place: &str, owner: &Owner) -> NetworkError {
    let link = owner.link();
    let whose = match link.alias.as_deref().and_then(alias_container) {
        Some((container, _)) => format!("container {container}, link {}", link.name),
        None => format!("link {}", link.name),
    };
    NetworkError::InUse {
        ip,
        place: place.to_owned(),
        whose,
    }
}

/// A side that is there already: the host, or a running container.
struct Here<'a> {
    engine: &'a Engine,
    netlink: &'a Netlink,
    remains: Remains,
    /// The addresses that any value of the command names.
    asked: &'a [IpAddr],
    /// What is planned so far.
    topology: &'a mut Topology,
}

impl Here<'_> {
    fn wire_to_host(
        &mut self,
        node: usize,
        number: usize,
        name: LinkName,
        spec: &WireSpec,
    ) -> Result<(), NetworkError> {
        for ip in given(spec) {
            if let Some(owner) = self.owner(ip)? {
                match self.way(ip, &owner)? {
                    Some(moved) => self.topology.moves.push(moved),
                    None => return Err(in_use(ip, "on the host", &owner)),
                }
            }
        }
        let container = &self.topology.nodes[node].name;
        let far = FarEnd {
            at: Place::Host,
            name: self.free_name(container, number)?,
            alias: Some(host_link_alias(container, &name, self.engine.root.path())),
        };
        let wire = spec.wire(node, name, far, |ip| self.is_free(ip))?;
        self.topology.wires.push(wire);
        Ok(())
    }

    /// Puts a node on a network: takes addresses for it, and plans the wire to the bridge, which is made anew where somebody took it
    /// away.
    fn join(
        &mut self,
        node: usize,
        number: usize,
        spec: &NetworkSpec,
        name: LinkName,
        is_said: impl Fn(bool) -> bool,
    ) -> Result<(Network, Vec<IpAddr>), NetworkError> {
        let networks = self.engine.root.networks();
        let network = networks.load(&spec.network).map_err(EngineError::from)?;
        let joining = Joining {
            engine: self.engine,
            network: &network,
            tenant: Tenant::from(&self.topology.nodes[node].name),
            remains: self.remains,
        };
        let (addrs, leases) = joining.take_all(spec)?;
        self.topology.nodes[node].leases.extend(leases);
        // The first network that leads out of a family does so for the container, unless the user has said another way.
        let leads = |v4: bool| {
            let ends = self.topology.wires.iter().flat_map(|wire| &wire.ends);
            let mut own = ends.filter(|end| end.at == Place::Node(node));
            let everywhere = IfAddr::everything(v4);
            let earlier = own.any(|end| end.routes.iter().any(|route| route.to == everywhere));
            !earlier && !is_said(v4)
        };
        let port = PortEnd {
            name: self.free_name(joining.tenant.container(), number)?,
            alias: host_link_alias(joining.tenant.container(), &name, self.engine.root.path()),
            default_v4: leads(true),
            default_v6: leads(false),
        };
        let wire = network.wire(spec, &addrs, Place::Node(node), name, port);
        self.topology.wires.push(wire);
        Ok((network, addrs))
    }

    fn wire_to_container(
        &mut self,
        node: usize,
        name: LinkName,
        spec: &WireSpec,
        to: &ContainerName,
    ) -> Result<(), NetworkError> {
        // Seen from there, the peer's addresses are its own.
        self.check_free(&format!("in {to}"), &spec.peers, &spec.addrs)?;
        let at = Place::Running(to.clone());
        let container = &self.topology.nodes[node].name;
        let far = FarEnd {
            name: self.free_interface(&at)?,
            at,
            alias: Some(host_link_alias(container, &name, self.engine.root.path())),
        };
        let wire = spec.wire(node, name, far, |ip| self.is_free(ip))?;
        self.topology.wires.push(wire);
        Ok(())
    }

    /// Refuses addresses of an end here that somebody has, and addresses of the far end that are reached another way.
    fn check_free(
        &self,
        place: &str,
        addrs: &[IfAddr],
        far: &[IfAddr],
    ) -> Result<(), NetworkError> {
        for addr in addrs.iter().chain(far) {
            if let Some(owner) = self.owner(addr.ip)? {
                return Err(in_use(addr.ip, place, &owner));
            }
        }
        Ok(())
    }

    /// Whether tincan may choose this address: nobody has it, and nobody else will.
    fn is_free(&self, ip: IpAddr) -> Result<bool, NetworkError> {
        let ends = self.topology.wires.iter().flat_map(|wire| &wire.ends);
        let moves = self.topology.moves.iter().map(|moved| &moved.to);
        let mut planned = ends.flat_map(|end| &end.addrs).chain(moves);
        let chosen = planned.any(|addr| addr.addr.ip == ip);
        Ok(!chosen && !self.asked.contains(&ip) && self.owner(ip)?.is_none())
    }

    /// The first `eth<n>` that is free here and will be.
    fn free_interface(&self, at: &Place) -> Result<LinkName, NetworkError> {
        free_interface_but(self.netlink, |name| {
            let mut ends = self.topology.wires.iter().flat_map(|wire| &wire.ends);
            ends.any(|end| end.at == *at && end.name == *name)
        })
    }

    /// Who has an address. The link of a container that is dead does not count, and gives it up.
    fn owner(&self, ip: IpAddr) -> Result<Option<Owner>, NetworkError> {
        loop {
            let owner = match wire::owner_of(self.netlink, ip) {
                // Its link went between the question and the answer.
                Err(refused) if refused.errno == Errno::ENODEV => continue,
                other => other.map_err(|cause| asking(ip, cause))?,
            };
            match owner {
                Some(owner) if is_dead(self.engine, owner.link()) => {
                    if self.remains == Remains::Overlook {
                        return Ok(None);
                    }
                    gone_is_fine(wire::take_address(self.netlink, owner.link(), ip))
                        .map_err(|cause| asking(ip, cause))?;
                }
                other => return Ok(other),
            }
        }
    }

    /// A name for the host's end that no link has.
    fn free_name(
        &self,
        container: &ContainerName,
        number: usize,
    ) -> Result<LinkName, NetworkError> {
        let mut attempt = 0;
        loop {
            let name = host_link_name(container, number, attempt);
            match link(self.netlink, &name)? {
                None => return Ok(name),
                Some(link) if is_dead(self.engine, &link) => {
                    if self.remains == Remains::Clear {
                        gone_is_fine(wire::delete(self.netlink, &name))
                            .map_err(|cause| asking(&name, cause))?;
                    }
                    return Ok(name);
                }
                Some(_) => attempt += 1,
            }
        }
    }

    /// How an address that the user names is had from its owner, if that is the end of another wire for which tincan chose it:
    /// that end then takes the next free one of its prefix instead.
    fn way(&self, ip: IpAddr, owner: &Owner) -> Result<Option<Move>, NetworkError> {
        let Owner::Local(link) = owner else {
            return Ok(None);
        };
        let Some((container, _)) = link.alias.as_deref().and_then(alias_container) else {
            return Ok(None);
        };
        let Ok(state) = self.engine.root.load(&container) else {
            return Ok(None);
        };
        let text = IfAddr::host(ip).to_string();
        for record in &state.wires {
            let Some(near) = record.end_of(&container) else {
                continue;
            };
            let on_host = record.end_on_host();
            let Some(far) = on_host.filter(|end| end.interface.as_str() == link.name) else {
                continue;
            };
            if !far.automatic.contains(&text) {
                continue;
            }
            let peers = near.addresses.iter().filter_map(|addr| addr.parse().ok());
            for peer in peers.filter(|peer: &IfAddr| peer.covers(ip)) {
                for next in peer.others() {
                    if self.is_free(next)? {
                        let host_addr = |ip| EndAddr {
                            addr: IfAddr::host(ip),
                            peer: Some(peer.ip),
                            automatic: true,
                        };
                        return Ok(Some(Move {
                            container,
                            interface: far.interface.clone(),
                            from: host_addr(ip),
                            to: host_addr(next),
                        }));
                    }
                }
            }
        }
        Ok(None)
    }
}
