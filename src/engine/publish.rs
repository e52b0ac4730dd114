//! Published ports: which of the host's ports are whose.
//!
//! The file `.networks/.ports` below the state root has a line for each value of `--publish` that is somebody's: the ports, the network by
//! which they lead to the container, and whose they are. It is replaced in one step, under a lock on the directory. What undoes it is in the
//! container's journal, as everything.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::EngineError;
use super::fault;
use super::hold::{Engine, own_holder};
use super::network::{self, Holder, NetworkStateError, Networks};
use super::state::{State, StateError, Undo, file_error};
use crate::net::netlink::{Netlink, gone_is_fine};
use crate::net::{conntrack, nft, sockets, wire};
use crate::plan::name::{ContainerName, LinkName};
use crate::plan::net::{PortSet, Protocol, Publish};
use crate::plan::network::{Network, NetworkName, Published};
use crate::plan::tenant::Tenant;
use crate::sys::socket;

/// Why a port cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Another container has it.
    #[error("port {publish} is published for container {tenant} already, as {theirs}")]
    Taken {
        /// What was asked for.
        publish: Publish,
        /// Whose it is.
        tenant: Tenant,
        /// What that one has.
        theirs: Publish,
    },
    /// A process on the host has it.
    #[error("port {port}/{} is in use by a process on the host; `ss -lnp` shows which", publish.protocol)]
    InUse {
        /// What was asked for.
        publish: Publish,
        /// The first port of it that is taken.
        port: u16,
    },
    /// It is at an address that the host does not have.
    #[error("port {publish}: the host has no address {address}")]
    NoAddress {
        /// What was asked for.
        publish: Publish,
        /// Its address.
        address: IpAddr,
    },
    /// It leads nowhere.
    #[error("port {publish}: {tenant} has no {family} address on {network}")]
    NoFamily {
        /// What was asked for.
        publish: Publish,
        /// For whom.
        tenant: Tenant,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The network.
        network: NetworkName,
    },
    /// The container has no network by which something could come in.
    #[error("port {publish}: {tenant} is on no network that leads outside")]
    NoNetwork {
        /// What was asked for.
        publish: Publish,
        /// For whom.
        tenant: Tenant,
    },
    /// Two of the same command.
    #[error("port {0} is given twice")]
    Twice(Publish),
    /// There is nothing to take back.
    #[error("container {container} publishes no port {publish}; it publishes {what}")]
    NotPublished {
        /// What was asked for.
        publish: String,
        /// Whose.
        container: ContainerName,
        /// What there is.
        what: String,
    },
    /// The kernel would not.
    #[error("{tenant}: publish {publish}: {cause}")]
    Kernel {
        /// For whom.
        tenant: Tenant,
        /// What was being done.
        publish: String,
        /// Why not.
        cause: io::Error,
    },
}

/// A line of the file.
struct Line {
    publish: Publish,
    network: NetworkName,
    holder: Holder,
}

impl Line {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next();
        Some(Line {
            publish: word()?.parse().ok()?,
            network: word()?.parse().ok()?,
            holder: word()?.parse().ok()?,
        })
    }

    fn is_of(&self, published: &Published, tenant: &Tenant) -> bool {
        self.holder.tenant == *tenant
            && self.publish == published.publish
            && self.network == published.network
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.publish, self.network, self.holder)
    }
}

impl Networks<'_> {
    fn ports_file(&self) -> PathBuf {
        self.path.join(".ports")
    }

    fn ports(&self) -> Result<Vec<Line>, StateError> {
        let path = self.ports_file();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(Line::parse).collect()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(cause) => Err(file_error(&path)(cause)),
        }
    }

    /// Keeps others from changing the file; none where there are no networks.
    fn lock_ports(&self) -> Result<Option<OwnedFd>, StateError> {
        let directory = match fs::File::open(&self.path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(file_error(&self.path))?,
        };
        rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))
            .map_err(|errno| file_error(&self.path)(errno.into()))?;
        Ok(Some(directory.into()))
    }

    fn write_ports(&self, lines: &[Line]) -> Result<(), StateError> {
        let path = self.ports_file();
        let next = self.path.join(".ports.next");
        if lines.is_empty() {
            for path in [&next, &path] {
                super::state::remove_file(path).map_err(|errno| file_error(path)(errno.into()))?;
            }
            return Ok(());
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&next, text).map_err(file_error(&next))?;
        fs::rename(&next, &path).map_err(file_error(&path))
    }

    /// Takes ports for a container, all or none.
    ///
    /// # Errors
    /// When the file cannot be written. Whose one is, where it is taken, is no error: which was asked for, what there is, and whose.
    pub fn reserve(
        &self,
        wanted: &[Published],
        holder: &Holder,
    ) -> Result<Result<(), PublishError>, StateError> {
        let Some(_lock) = self.lock_ports()? else {
            return Ok(Ok(()));
        };
        let mut lines = self.ports()?;
        if let Some(taken) = self.conflict(&mut lines, wanted) {
            return Ok(Err(taken));
        }
        lines.extend(wanted.iter().map(|published| Line {
            publish: published.publish,
            network: published.network.clone(),
            holder: holder.clone(),
        }));
        self.write_ports(&lines).map(Ok)
    }

    /// The first of these ports that somebody has; what is nobody's any more is taken out.
    fn conflict(&self, lines: &mut Vec<Line>, wanted: &[Published]) -> Option<PublishError> {
        let mut ports = PortSet::default();
        for line in lines.iter() {
            ports.insert(&line.publish);
        }
        for Published { publish, .. } in wanted {
            if !ports.meets(publish) {
                continue;
            }
            let clashes = |line: &Line| line.publish.overlaps(publish);
            lines.retain(|line| !clashes(line) || !self.is_nobodys(line));
            if let Some(line) = lines.iter().find(|line| clashes(line)) {
                return Some(PublishError::Taken {
                    publish: *publish,
                    tenant: line.holder.tenant.clone(),
                    theirs: line.publish,
                });
            }
        }
        None
    }

    /// Who has one of these ports, if somebody has.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn port_taken(&self, wanted: &[Published]) -> Result<Option<PublishError>, StateError> {
        Ok(self.conflict(&mut self.ports()?, wanted))
    }

    /// Gives ports back that this tenant has; absent is success.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn release(&self, published: &[Published], tenant: &Tenant) -> Result<(), StateError> {
        let all: HashSet<_> = published
            .iter()
            .map(|it| (&it.network, it.publish))
            .collect();
        let ours = |line: &Line| {
            line.holder.tenant == *tenant && all.contains(&(&line.network, line.publish))
        };
        self.drop_ports(ours).map(drop)
    }

    /// Gives all ports back that this tenant has.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn release_all(&self, tenant: &Tenant) -> Result<(), StateError> {
        self.drop_ports(|line| line.holder.tenant == *tenant)
            .map(drop)
    }

    /// Forgets what is published by a network.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn forget_ports(&self, network: &NetworkName) -> Result<(), StateError> {
        self.drop_ports(|line| line.network == *network).map(drop)
    }

    /// Gives back the ports that are nobody's.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn clear_stale_ports(&self) -> Result<Vec<Publish>, StateError> {
        // Each tenant is looked at once, however many ports it has.
        let mut lines = self.ports()?;
        lines.retain(|line| !line.holder.taker.is_alive());
        let mut whose: BTreeMap<&Tenant, Vec<&Line>> = BTreeMap::new();
        for line in &lines {
            whose.entry(&line.holder.tenant).or_default().push(line);
        }
        let mut stale: HashSet<String> = HashSet::new();
        for (tenant, lines) in whose {
            let Ok(tenancy) = self.tenancy(tenant) else {
                continue;
            };
            let published = tenancy.iter().flat_map(|it| &it.published);
            let has: HashSet<_> = published.map(|it| (&it.network, it.publish)).collect();
            let is_stale = |line: &&Line| !has.contains(&(&line.network, line.publish));
            stale.extend(lines.into_iter().filter(is_stale).map(Line::to_string));
        }
        let dropped = self.drop_ports(|line| stale.contains(&line.to_string()))?;
        Ok(dropped.into_iter().map(|line| line.publish).collect())
    }

    fn drop_ports(&self, is_out: impl Fn(&Line) -> bool) -> Result<Vec<Line>, StateError> {
        let Some(_lock) = self.lock_ports()? else {
            return Ok(Vec::new());
        };
        let (out, kept): (Vec<Line>, Vec<Line>) = self.ports()?.into_iter().partition(is_out);
        if !out.is_empty() {
            self.write_ports(&kept)?;
        }
        Ok(out)
    }

    /// Whether ports are nobody's: the tenant is not there, or has none such, and who took them is gone.
    fn is_nobodys(&self, line: &Line) -> bool {
        if line.holder.taker.is_alive() {
            return false;
        }
        let tenant = &line.holder.tenant;
        match self.tenancy(tenant) {
            Ok(Some(tenancy)) => !tenancy.published.iter().any(|one| line.is_of(one, tenant)),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// The tenants for whom something is published by a network.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn publishing(&self, network: &NetworkName) -> Result<BTreeSet<Tenant>, StateError> {
        let lines = self.ports()?.into_iter();
        let of_network = lines.filter(|line| line.network == *network);
        Ok(of_network.map(|line| line.holder.tenant).collect())
    }

    /// What is published by a network, with for whom: by the tenants' own word.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn published_by(
        &self,
        network: &NetworkName,
    ) -> Result<Vec<(Tenant, Published)>, StateError> {
        let mut published = Vec::new();
        for tenant in self.publishing(network)? {
            let Some(tenancy) = self.tenancy(&tenant)? else {
                continue;
            };
            let ours = tenancy
                .published
                .into_iter()
                .filter(|one| one.network == *network);
            published.extend(ours.map(|one| (tenant.clone(), one)));
        }
        Ok(published)
    }

    /// Does something where nothing is published by a network, and nothing will be meanwhile.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn unless_publishing(
        &self,
        network: &NetworkName,
        deed: impl FnOnce(),
    ) -> Result<(), StateError> {
        let _lock = self.lock_ports()?;
        if self.publishing(network)?.is_empty() {
            deed();
        }
        Ok(())
    }
}

/// What is to be published for a tenant: of each family by the first of these networks that leads outside and has an address of it for the
/// tenant. So it is for the default routes, by which the answers go.
///
/// # Errors
/// When a port has nowhere to lead to, or is asked for twice.
pub fn plan(
    tenant: &Tenant,
    networks: &[(Network, Vec<IpAddr>)],
    publish: &[Publish],
) -> Result<Vec<Published>, PublishError> {
    let mut planned: Vec<Published> = Vec::new();
    let mut ports = PortSet::default();
    let outside = || networks.iter().filter(|(network, _)| !network.internal);
    for publish in publish {
        let Some((first, _)) = outside().next() else {
            return Err(PublishError::NoNetwork {
                publish: *publish,
                tenant: tenant.clone(),
            });
        };
        let of_family = |v4: bool| {
            let mut ways = outside().flat_map(|(network, addrs)| {
                let of_it = addrs.iter().filter(move |ip| ip.is_ipv4() == v4);
                of_it.map(move |ip| (&network.name, *ip))
            });
            ways.next().filter(|_| publish.is_of(v4))
        };
        let to: Vec<(&NetworkName, IpAddr)> =
            [true, false].into_iter().filter_map(of_family).collect();
        if to.is_empty() {
            return Err(PublishError::NoFamily {
                publish: *publish,
                tenant: tenant.clone(),
                family: if publish.is_of(true) { "IPv4" } else { "IPv6" },
                network: first.name.clone(),
            });
        }
        let overlaps = |other: &Published| other.publish.overlaps(publish);
        if ports.meets(publish) && planned.iter().any(overlaps) {
            return Err(PublishError::Twice(*publish));
        }
        ports.insert(publish);
        for ways in to.chunk_by(|(one, _), (next, _)| one == next) {
            planned.push(Published {
                network: ways[0].0.clone(),
                publish: *publish,
                to: ways.iter().map(|(_, ip)| *ip).collect(),
            });
        }
    }
    Ok(planned)
}

/// Refuses ports that a process on the host has. To be called on the host.
///
/// # Errors
/// The first that is taken.
pub fn check_host(published: &[Published]) -> Result<(), PublishError> {
    // To try one takes 6 µs, to be told of all some 50.
    const MANY: usize = 20;
    let ports = |one: &Published| usize::from(one.publish.ports.last - one.publish.ports.first) + 1;
    let many = published.iter().map(ports).sum::<usize>() > MANY;
    let mut known: Vec<(Protocol, Option<HashSet<u16>>)> = Vec::new();
    for Published { publish, to, .. } in published {
        for ip in to {
            let any = if ip.is_ipv4() {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            } else {
                IpAddr::V6(Ipv6Addr::UNSPECIFIED)
            };
            let address = publish.address.unwrap_or(any);
            let protocol = publish.protocol;
            if many && !known.iter().any(|(it, _)| *it == protocol) {
                // Where the kernel does not say, all are tried.
                known.push((protocol, sockets::ports_in_use(protocol).ok()));
            }
            let in_use = known.iter().find(|(it, _)| *it == protocol);
            let in_use = in_use.and_then(|(_, ports)| ports.as_ref());
            for port in publish.ports.first..=publish.ports.last {
                // Of one address the first is tried in any case: by that it is told whether there is such an address.
                let is_told = publish.address.is_none() || port > publish.ports.first;
                if is_told && in_use.is_some_and(|all| !all.contains(&port)) {
                    continue;
                }
                match socket::try_bind(SocketAddr::new(address, port), publish.protocol) {
                    Err(Errno::ADDRINUSE) => {
                        let publish = *publish;
                        return Err(PublishError::InUse { publish, port });
                    }
                    Err(Errno::ADDRNOTAVAIL) => {
                        let publish = *publish;
                        return Err(PublishError::NoAddress { publish, address });
                    }
                    // Nobody can say so then; the kernel leads it all the same.
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// Leads ports to a container. To be called on the host.
///
/// # Errors
/// When the kernel refuses.
pub fn lead(tenant: &Tenant, published: &[Published]) -> Result<(), PublishError> {
    each_network(tenant, published, |bridge, some| {
        nft::publish(bridge, some)?;
        forget_datagrams(some, true);
        let_answers_to_loopback(bridge, true)
    })
}

/// Lets nobody who has sent datagrams to these ports go on to where they led before. Without it, it ends when nothing was sent for a while
/// (`nf_conntrack_udp_timeout_stream`, nf_conntrack-sysctl.rst).
fn forget_datagrams(published: &[&Published], kept: bool) {
    let is_udp = |one: &&Published| one.publish.protocol == Protocol::Udp;
    if !published.iter().any(is_udp) {
        return;
    }
    // Asked for only where somebody sends.
    let own: LazyCell<HashSet<IpAddr>> = LazyCell::new(|| {
        let links = Netlink::open().map(|netlink| wire::links(&netlink));
        let links = links.ok().and_then(Result::ok).unwrap_or_default();
        let addrs = links.into_iter().flat_map(|link| link.addrs);
        addrs.map(|at| at.addr.ip).collect()
    });
    let is_local = |ip: IpAddr| ip.is_loopback() || own.contains(&ip);
    // A kernel that cannot be asked goes by time.
    let _ = conntrack::forget_datagrams(published, is_local, kept);
}

/// Leads them nowhere again; absent is success. To be called on the host.
///
/// # Errors
/// When the kernel refuses.
pub fn unlead(tenant: &Tenant, published: &[Published]) -> Result<(), PublishError> {
    each_network(tenant, published, |bridge, some| {
        nft::unpublish(bridge, some)?;
        forget_datagrams(some, false);
        Ok(())
    })
}

fn each_network(
    tenant: &Tenant,
    published: &[Published],
    deed: impl Fn(&LinkName, &[&Published]) -> io::Result<()>,
) -> Result<(), PublishError> {
    let networks: BTreeSet<&NetworkName> = published.iter().map(|one| &one.network).collect();
    for network in networks {
        let by_it = |one: &&Published| one.network == *network;
        let some: Vec<&Published> = published.iter().filter(by_it).collect();
        deed(&network.bridge(), &some).map_err(|cause| PublishError::Kernel {
            tenant: tenant.clone(),
            publish: words(&some),
            cause,
        })?;
    }
    Ok(())
}

/// Published ports, for a message: the first few of them.
fn words(published: &[&Published]) -> String {
    const MANY: usize = 5;
    let some = published.iter().take(MANY);
    let mut words: Vec<String> = some.map(|one| one.publish.to_string()).collect();
    if published.len() > MANY {
        words.push(format!("{} more", published.len() - MANY));
    }
    words.join(", ")
}

/// Undoes what is published for a container: in the kernel, then on disk.
///
/// # Errors
/// When it cannot be undone.
pub fn undo(engine: &Engine, tenant: &Tenant, published: &[Published]) -> Result<(), EngineError> {
    // A user's host goes with the last container, and what leads into it goes with the host.
    if rustix::process::geteuid().is_root() {
        let joined = engine.join_network();
        joined.map_err(|errno| {
            EngineError::of_deed(tenant.container(), "enter the host's network", errno)
        })?;
        unlead(tenant, published)?;
    }
    let networks = engine.root.networks();
    networks.release(published, tenant)?;
    if rustix::process::geteuid().is_root() {
        let of: BTreeSet<&NetworkName> = published.iter().map(|one| &one.network).collect();
        for network in of {
            networks.unless_publishing(network, || {
                // The bridge may be gone.
                let _ = let_answers_to_loopback(&network.bridge(), false);
            })?;
        }
    }
    Ok(())
}

/// The networks of a container that is there, with its addresses on each.
///
/// # Errors
/// When one cannot be read.
fn networks_of(
    engine: &Engine,
    state: &State,
) -> Result<Vec<(Network, Vec<IpAddr>)>, NetworkStateError> {
    let mut found: Vec<(Network, Vec<IpAddr>)> = Vec::new();
    for lease in state.leases() {
        match found.iter_mut().find(|(it, _)| it.name == lease.network) {
            Some((_, addrs)) => addrs.push(lease.ip),
            None => {
                let network = engine.root.networks().load(&lease.network)?;
                found.push((network, vec![lease.ip]));
            }
        }
    }
    Ok(found)
}

/// Publishes ports of a container that runs.
///
/// # Errors
/// When a port is not to be had; then nothing is published.
pub fn add(engine: &Engine, name: &ContainerName, publish: &[Publish]) -> Result<(), EngineError> {
    let (state, pidfd) = engine.root.open(name)?;
    if pidfd.is_none() {
        return Err(EngineError::NotRunning(name.clone()));
    }
    let tenant = Tenant::from(name);
    let published = plan(&tenant, &networks_of(engine, &state)?, publish)?;
    let step = |step| {
        fault::at("publish", step).map_err(|errno| EngineError::of_deed(name, "publish", errno))
    };
    engine
        .join_network()
        .map_err(|errno| EngineError::of_deed(name, "enter the host's network", errno))?;
    let holder = own_holder(&tenant)?;
    engine.root.networks().reserve(&published, &holder)??;
    // Until the ports lead to it nobody undoes what the journal says of them.
    let Some((_lock, _)) = engine.root.lock(&state)? else {
        engine.root.networks().release(&published, &tenant)?;
        return Err(StateError::Unknown(name.clone()).into());
    };
    let done = check_host(&published)
        .map_err(EngineError::from)
        .and_then(|()| step(0))
        .and_then(|()| {
            rewrite_journal(engine, name, |undo| {
                undo.push(Undo::Publish(published.clone()));
            })
        })
        .and_then(|()| step(1))
        .and_then(|()| {
            let host = engine.host_netlink().map_err(netlink_failed)?;
            reflect(engine, &host, &tenant)
        })
        .and_then(|()| Ok(lead(&tenant, &published)?));
    if done.is_err() {
        // The first error is the one to tell; what stays is in the journal.
        let _ = take_locked(engine, name, &published);
    }
    done
}

fn netlink_failed(cause: io::Error) -> EngineError {
    EngineError::Wire {
        container: "host".to_owned(),
        action: "open netlink".to_owned(),
        cause: cause.into(),
    }
}

/// Lets the ports of bridges by which a tenant has published ports send back to it what it sends to those.
///
/// # Errors
/// When the kernel refuses.
fn reflect(engine: &Engine, netlink: &Netlink, tenant: &Tenant) -> Result<(), EngineError> {
    let tenancy = engine.root.networks().tenancy(tenant)?;
    let published = tenancy.into_iter().flat_map(|it| it.published);
    let networks: BTreeSet<NetworkName> = published.map(|one| one.network).collect();
    for network in networks {
        for (port, _) in network::ports_of(engine, tenant, &network)? {
            gone_is_fine(wire::reflect(netlink, &port)).map_err(|cause| EngineError::Wire {
                container: "host".to_owned(),
                action: format!("reflect on the port {port}"),
                cause,
            })?;
        }
    }
    Ok(())
}

/// Takes back ports that a container publishes.
///
/// # Errors
/// When the container publishes none such, or the kernel refuses.
pub fn remove(
    engine: &Engine,
    name: &ContainerName,
    publish: &[Publish],
) -> Result<(), EngineError> {
    let state = engine.root.load(name)?;
    let mut out = Vec::new();
    for wanted in publish {
        let is_it = |one: &&Published| {
            one.publish.ports == wanted.ports
                && one.publish.protocol == wanted.protocol
                && (wanted.address.is_none() || one.publish.address == wanted.address)
        };
        let found: Vec<Published> = state.published().filter(is_it).cloned().collect();
        if found.is_empty() {
            let all: Vec<&Published> = state.published().collect();
            return Err(PublishError::NotPublished {
                publish: format!("{}/{}", wanted.ports, wanted.protocol),
                container: name.clone(),
                what: if all.is_empty() {
                    "none".to_owned()
                } else {
                    words(&all)
                },
            }
            .into());
        }
        out.extend(found);
    }
    take(engine, &state, &out)
}

/// Takes back what a container publishes by a network.
///
/// # Errors
/// As [`remove`].
pub fn withdraw(engine: &Engine, state: &State, network: &NetworkName) -> Result<(), EngineError> {
    let by_it = |one: &&Published| one.network == *network;
    let out: Vec<Published> = state.published().filter(by_it).cloned().collect();
    if out.is_empty() {
        return Ok(());
    }
    take(engine, state, &out)
}

/// Undoes some of what a container publishes, and takes it out of its journal.
fn take(engine: &Engine, state: &State, out: &[Published]) -> Result<(), EngineError> {
    let Some((_lock, _)) = engine.root.lock(state)? else {
        return Err(StateError::Unknown(state.id.clone()).into());
    };
    take_locked(engine, &state.id, out)
}

/// The same, under the container's lock.
fn take_locked(
    engine: &Engine,
    container: &ContainerName,
    out: &[Published],
) -> Result<(), EngineError> {
    undo(engine, &Tenant::from(container), out)?;
    rewrite_journal(engine, container, |undo| {
        for deed in undo.iter_mut() {
            if let Undo::Publish(published) = deed {
                published.retain(|one| !out.contains(one));
            }
        }
        undo.retain(|deed| !matches!(deed, Undo::Publish(published) if published.is_empty()));
    })
}

/// Changes the journal of a container that is there still.
///
/// # Errors
/// When it cannot be read or written.
pub fn journal(
    engine: &Engine,
    state: &State,
    change: impl FnOnce(&mut Vec<Undo>),
) -> Result<(), EngineError> {
    let Some((_lock, mut now)) = engine.root.lock(state)? else {
        return Err(StateError::Unknown(state.id.clone()).into());
    };
    change(&mut now.undo);
    Ok(engine.root.save(&now)?)
}

/// The same, under the container's lock.
fn rewrite_journal(
    engine: &Engine,
    container: &ContainerName,
    change: impl FnOnce(&mut Vec<Undo>),
) -> Result<(), EngineError> {
    let mut state = engine.root.load(container)?;
    change(&mut state.undo);
    Ok(engine.root.save(&state)?)
}

/// Leads all ports anew that are published by a network, whose bridge or rules have been made anew.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn restore(engine: &Engine, network: &Network, netlink: &Netlink) -> io::Result<()> {
    let other = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let networks = engine.root.networks();
    let mut led: Vec<Published> = Vec::new();
    let tenants = networks.publishing(&network.name);
    for tenant in tenants.map_err(|error| other(&error))? {
        // What it has now is what counts, and nobody undoes it meanwhile.
        let locked = networks.lock_tenant(&tenant);
        let Some((_lock, tenancy)) = locked.map_err(|error| other(&error))? else {
            continue;
        };
        let ours = tenancy.published.iter();
        let ours: Vec<&Published> = ours.filter(|one| one.network == network.name).collect();
        if ours.is_empty() {
            continue;
        }
        reflect(engine, netlink, &tenant).map_err(|error| other(&error))?;
        nft::publish(&network.bridge, &ours)?;
        let_answers_to_loopback(&network.bridge, true)?;
        led.extend(ours.into_iter().cloned());
    }
    // Once for all of them, since it costs the same.
    forget_datagrams(&led.iter().collect::<Vec<_>>(), true);
    Ok(())
}

/// Whether what comes back to the host's loopback address may come by a bridge (Documentation/networking/ip-sysctl.rst, route_localnet): so
/// it is while something is published there. The rules keep it from what would come there by itself.
fn let_answers_to_loopback(bridge: &LinkName, is_so: bool) -> io::Result<()> {
    let path = format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet");
    fs::write(path, if is_so { "1" } else { "0" })
}

impl From<PublishError> for EngineError {
    fn from(error: PublishError) -> Self {
        EngineError::Publish(Box::new(error))
    }
}

impl PublishError {
    /// Who has the port, if somebody on a network has.
    pub fn taken_by(&self) -> Option<&Tenant> {
        match self {
            PublishError::Taken { tenant, .. } => Some(tenant),
            _ => None,
        }
    }
}
