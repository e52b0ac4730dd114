//! What `--net` asks for, against the facts of this host: which addresses and names are free here, and whose they are.

use std::net::IpAddr;

use nix::errno::Errno;

use crate::engine::error::EngineError;
use crate::engine::hold::{Engine, enter_running};
use crate::engine::state::{StateError, Status};
use crate::net::netlink::{Netlink, Refused};
use crate::net::wire::{self, Link, Owner};
use crate::plan::name::{BadWord, ContainerName, IfAddr, LinkName};
use crate::plan::net::{
    FarEnd, NetSpec, WireSpec, alias_container, check_together, default_name, host_link_alias,
    host_link_name,
};
use crate::plan::topology::{EndAddr, NamespaceKind, NamespaceSource, Node, Place, Wire};

/// Why the network that was asked for cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A word of the value.
    #[error(transparent)]
    Word(#[from] BadWord),
    /// The other end's container.
    #[error(transparent)]
    Engine(#[from] EngineError),
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
    /// A namespace that is not there.
    #[error("network namespace {0} does not exist; `ip netns list` shows those with names")]
    NoNamespace(String),
}

/// Whether what is in the way of a wire, and may be moved, is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MakingWay {
    /// It is: the ends of dead containers, and addresses that tincan chose.
    Done,
    /// It is only planned around, as a dry run does.
    Planned,
}

/// Puts a node's network as the values of `--net` say: its namespace, and its wires.
///
/// # Errors
/// When a value, or what it asks for, is not to be had; nothing was made then.
pub fn attach(
    engine: &Engine,
    node: &mut Node,
    index: usize,
    specs: &[NetSpec],
    making_way: MakingWay,
) -> Result<Vec<Wire>, NetworkError> {
    check_together(specs)?;
    // What any of them asks for is not free for tincan to choose for another.
    let asked: Vec<IpAddr> = specs
        .iter()
        .filter_map(|spec| match spec {
            NetSpec::Wire(spec) => Some(given(spec)),
            _ => None,
        })
        .flatten()
        .collect();
    let mut wires: Vec<Wire> = Vec::new();
    for (number, spec) in specs.iter().enumerate() {
        match spec {
            NetSpec::None => {}
            NetSpec::Host => share(node, None),
            NetSpec::Container(name) => {
                let (state, pidfd) = engine.root.open(name).map_err(EngineError::from)?;
                let (Some(process), Some(_)) = (state.process, pidfd) else {
                    return Err(EngineError::NotRunning(name.clone()).into());
                };
                share(node, Some(format!("/proc/{}/ns/net", process.pid).into()));
            }
            NetSpec::Namespace(path) => {
                if !path.exists() {
                    return Err(NetworkError::NoNamespace(path.display().to_string()));
                }
                share(node, Some(path.clone()));
            }
            NetSpec::Wire(spec) => {
                let name = spec.name.clone().unwrap_or_else(|| default_name(number));
                let netlink = match &spec.to {
                    None => Netlink::open().map_err(|e| asking("its links", Refused::from(e)))?,
                    Some(to) => enter_running(&engine.root, to)?.1,
                };
                let here = Here {
                    engine,
                    netlink,
                    making_way,
                    asked: &asked,
                    planned: &wires,
                };
                let wire = match &spec.to {
                    None => wire_to_host(&here, &node.name, index, number, name, spec)?,
                    Some(to) => wire_to_container(&here, &node.name, index, name, spec, to)?,
                };
                wires.push(wire);
            }
        }
    }
    Ok(wires)
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

fn wire_to_host(
    here: &Here<'_>,
    container: &ContainerName,
    index: usize,
    number: usize,
    name: LinkName,
    spec: &WireSpec,
) -> Result<Wire, NetworkError> {
    for ip in given(spec) {
        if let Some(owner) = here.owner(ip)? {
            if here.gives_way(ip, &owner)? {
                continue;
            }
            return Err(in_use(ip, "on the host", &owner));
        }
    }
    let far = FarEnd {
        at: Place::Host,
        name: here.free_name(container, number)?,
        alias: Some(host_link_alias(container, &name, here.engine.root.path())),
    };
    spec.wire(index, name, far, |ip| here.is_free(ip))
}

fn wire_to_container(
    here: &Here<'_>,
    container: &ContainerName,
    index: usize,
    name: LinkName,
    spec: &WireSpec,
    to: &ContainerName,
) -> Result<Wire, NetworkError> {
    for peer in &spec.peers {
        if let Some(owner @ Owner::Local(_)) = here.owner(peer.ip)? {
            return Err(in_use(peer.ip, &format!("in {to}"), &owner));
        }
    }
    for addr in &spec.addrs {
        if let Some(owner) = here.owner(addr.ip)? {
            return Err(in_use(addr.ip, &format!("in {to}"), &owner));
        }
    }
    let at = Place::Running(to.clone());
    let far = FarEnd {
        name: here.free_interface(&at)?,
        at,
        alias: Some(host_link_alias(container, &name, here.engine.root.path())),
    };
    spec.wire(index, name, far, |ip| here.is_free(ip))
}

/// Refuses an end whose addresses somebody has in that namespace, or sees from there.
///
/// # Errors
/// [`NetworkError::InUse`].
pub fn check_free(
    netlink: &Netlink,
    place: &ContainerName,
    spec: &WireSpec,
) -> Result<(), NetworkError> {
    for addr in &spec.addrs {
        let owner = wire::owner_of(netlink, addr.ip).map_err(|cause| asking(addr.ip, cause))?;
        if let Some(owner @ Owner::Local(_)) = owner {
            return Err(in_use(addr.ip, &format!("in {place}"), &owner));
        }
    }
    Ok(())
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

fn in_use(ip: IpAddr, place: &str, owner: &Owner) -> NetworkError {
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
    netlink: Netlink,
    making_way: MakingWay,
    /// The addresses that any value of the command names.
    asked: &'a [IpAddr],
    /// The wires of the values before.
    planned: &'a [Wire],
}

impl Here<'_> {
    /// Whether tincan may choose this address: nobody has it, and nobody else will.
    fn is_free(&self, ip: IpAddr) -> Result<bool, NetworkError> {
        let mut ends = self.planned.iter().flat_map(|wire| &wire.ends);
        let chosen = ends.any(|end| end.addrs.iter().any(|addr| addr.addr.ip == ip));
        Ok(!chosen && !self.asked.contains(&ip) && self.owner(ip)?.is_none())
    }

    /// The first `eth<n>` that is free here and will be.
    fn free_interface(&self, at: &Place) -> Result<LinkName, NetworkError> {
        free_interface_but(&self.netlink, |name| {
            let mut ends = self.planned.iter().flat_map(|wire| &wire.ends);
            ends.any(|end| end.at == *at && end.name == *name)
        })
    }

    /// Who has an address. The links of a container that is dead are on their way out, which takes the kernel some ten
    /// milliseconds: one that is still there is helped along, and does not count.
    fn owner(&self, ip: IpAddr) -> Result<Option<Owner>, NetworkError> {
        loop {
            let owner = match wire::owner_of(&self.netlink, ip) {
                // Its link went between the question and the answer.
                Err(refused) if refused.errno == Errno::ENODEV => continue,
                other => other.map_err(|cause| asking(ip, cause))?,
            };
            match owner {
                Some(owner) if self.is_dead(owner.link()) => match self.making_way {
                    MakingWay::Done => self.clear(owner.link())?,
                    MakingWay::Planned => return Ok(None),
                },
                other => return Ok(other),
            }
        }
    }

    fn is_dead(&self, link: &Link) -> bool {
        let Some((container, root)) = link.alias.as_deref().and_then(alias_container) else {
            return false;
        };
        root == self.engine.root.path()
            && match self.engine.root.load(&container) {
                Ok(state) => self.engine.root.status(&state) == Status::Stopped,
                Err(StateError::Unknown(_)) => true,
                // Nobody can say so of one whose state cannot be read.
                Err(_) => false,
            }
    }

    fn clear(&self, link: &Link) -> Result<(), NetworkError> {
        let name: LinkName = link.name.parse()?;
        match wire::delete(&self.netlink, &name) {
            Err(refused) if refused.errno != Errno::ENODEV => Err(asking(name, refused)),
            _ => Ok(()),
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
            match link(&self.netlink, &name)? {
                None => return Ok(name),
                Some(link) if self.is_dead(&link) => match self.making_way {
                    MakingWay::Done => self.clear(&link)?,
                    MakingWay::Planned => return Ok(name),
                },
                Some(_) => attempt += 1,
            }
        }
    }

    /// Whether an address that the user names is one that tincan chose for the end of another wire: that wire then takes the
    /// next free one instead.
    fn gives_way(&self, ip: IpAddr, owner: &Owner) -> Result<bool, NetworkError> {
        let Owner::Local(link) = owner else {
            return Ok(false);
        };
        let Some((container, _)) = link.alias.as_deref().and_then(alias_container) else {
            return Ok(false);
        };
        let Ok(mut state) = self.engine.root.load(&container) else {
            return Ok(false);
        };
        let text = IfAddr::host(ip).to_string();
        for record in &mut state.wires {
            let Some(near) = record.end_of(&container).cloned() else {
                continue;
            };
            let Some(far) = record
                .ends
                .iter_mut()
                .find(|end| end.container.is_none() && end.interface.as_str() == link.name)
            else {
                continue;
            };
            if !far.automatic.contains(&text) {
                continue;
            }
            if self.making_way == MakingWay::Planned {
                return Ok(true);
            }
            for peer in near
                .addresses
                .iter()
                .filter_map(|addr| addr.parse::<IfAddr>().ok())
            {
                if !peer.covers(ip) {
                    continue;
                }
                for next in peer.others().skip_while(|next| *next != ip).skip(1) {
                    if self.owner(next)?.is_some() {
                        continue;
                    }
                    let moved = |ip| EndAddr {
                        addr: IfAddr::host(ip),
                        peer: Some(peer.ip),
                        automatic: true,
                    };
                    wire::readdress(&self.netlink, &far.interface, &moved(ip), &moved(next))
                        .map_err(|cause| asking(&far.interface, cause))?;
                    let new = IfAddr::host(next).to_string();
                    for addr in far.addresses.iter_mut().chain(&mut far.automatic) {
                        if *addr == text {
                            addr.clone_from(&new);
                        }
                    }
                    self.engine.root.save(&state).map_err(EngineError::from)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
