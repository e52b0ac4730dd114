//! Networks on disk: what each is, and whose addresses on it are.
//!
//! Below the state root there is `.networks/NAME/`, with `network.json` and `leases/`. A lease is a symbolic link: its name is the
//! address, its text says whose it is; so it appears whole, once, and by one call. Nobody of tincan's runs for it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock};
use rustix::io::Errno;

use super::dns::{self, DnsError};
use super::fault;
use super::hold::Engine;
use super::names::rewrite;
use super::publish;
use super::state::{EndRecord, StateError, StateRoot, drafts, entries, file_error, write_json};
use crate::net::bridge::{self, BridgeError};
use crate::net::netlink::Netlink;
use crate::net::nft;
use crate::net::wire::{self, Link};
use crate::plan::hosts::{self, HOSTS, resolv_conf};
use crate::plan::name::{ContainerName, LinkName};
use crate::plan::net::host_link_alias;
use crate::plan::network::{Lease, Network, NetworkName, Published, Subnet, gateways};
use crate::plan::tenant::Tenant;
use crate::sys::process::ProcessId;

/// Why a network, or an address on it, cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NetworkStateError {
    /// There is none of this name.
    #[error("network {0} does not exist; `tincan network list` shows which there are")]
    Unknown(NetworkName),
    /// There is one already.
    #[error("network {0} exists already")]
    Taken(NetworkName),
    /// Somebody is on it.
    #[error("network {network} is in use by {whose}")]
    InUse {
        /// The network.
        network: NetworkName,
        /// The containers.
        whose: String,
    },
    /// A container is on it already.
    #[error("{container} is on network {network} already")]
    Joined {
        /// The container.
        container: ContainerName,
        /// The network.
        network: NetworkName,
    },
    /// A container is not on it.
    #[error("{container} is not on network {network}")]
    NotJoined {
        /// The container.
        container: ContainerName,
        /// The network.
        network: NetworkName,
    },
    /// A container that has the host's network namespace.
    #[error("{0} has the host's own network, and can be on no other")]
    OnHost(ContainerName),
    /// A file could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The process that answers DNS for it.
    #[error("network {network}: {cause}")]
    Dns {
        /// The network.
        network: NetworkName,
        /// What and why.
        cause: DnsError,
    },
    /// Its bridge on the host.
    #[error("network {network}: {cause}")]
    Bridge {
        /// The network.
        network: NetworkName,
        /// What and why.
        cause: BridgeError,
    },
    /// The host, for a network.
    #[error("network {network}: {deed}: {cause}")]
    Host {
        /// The network.
        network: NetworkName,
        /// What was being done.
        deed: &'static str,
        /// Why not.
        cause: io::Error,
    },
}

/// Whose a lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The container, or the attachment.
    pub tenant: Tenant,
    /// The process that took it. Until the tenant is on disk, it lasts as long as that.
    pub taker: ProcessId,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ProcessId { pid, start } = self.taker;
        write!(f, "{pid}-{start}-{}", self.tenant)
    }
}

impl FromStr for Holder {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '-');
        let mut number = || parts.next().unwrap_or_default();
        let (pid, start) = (number().parse(), number().parse());
        let (Ok(pid), Ok(start)) = (pid, start) else {
            return Err(());
        };
        let tenant = number().parse().map_err(|_| ())?;
        let taker = ProcessId { pid, start };
        Ok(Holder { tenant, taker })
    }
}

/// What a tenant has of networks, by its own journal.
pub(super) struct Tenancy {
    pub(super) leases: Vec<Lease>,
    pub(super) published: Vec<Published>,
}

/// The networks of a state root.
pub struct Networks<'a> {
    pub(super) root: &'a StateRoot,
    pub(super) path: PathBuf,
}

impl StateRoot {
    /// The networks of this root.
    pub fn networks(&self) -> Networks<'_> {
        Networks {
            root: self,
            path: self.path().join(".networks"),
        }
    }
}

impl Networks<'_> {
    /// What is kept of a network.
    pub fn directory(&self, name: &NetworkName) -> PathBuf {
        self.path.join(name.as_str())
    }

    /// What a network is called while this process makes or removes it.
    fn draft(&self, own: ProcessId, name: &NetworkName) -> PathBuf {
        self.path.join(format!(".{}-{}-{name}", own.pid, own.start))
    }

    fn leases(&self, name: &NetworkName) -> PathBuf {
        self.directory(name).join("leases")
    }

    /// Keeps everybody else of this root from making and removing networks, and what they have on the host, while it is held. Containers
    /// that find all of their network there do not ask for it.
    ///
    /// # Errors
    /// When the state root can be neither made nor opened.
    pub fn lock(&self) -> Result<OwnedFd, NetworkStateError> {
        let root = self.root.path();
        let failed = |cause| file_error(root)(cause);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o711);
        builder.create(root).map_err(failed)?;
        let directory = fs::File::open(root).map_err(failed)?;
        rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))
            .map_err(|errno| failed(errno.into()))?;
        Ok(directory.into())
    }

    /// Writes a new network down: it appears whole, or not at all.
    ///
    /// # Errors
    /// [`NetworkStateError::Taken`] where there is one of the name.
    pub fn add(&self, network: &Network) -> Result<(), NetworkStateError> {
        let own = ProcessId::own().map_err(file_error(&self.path))?;
        let draft = self.draft(own, &network.name);
        let leases = draft.join("leases");
        fs::create_dir_all(&leases).map_err(file_error(&leases))?;
        // Whatever the caller's umask: root of a container's user namespace, who is somebody else here, mounts the file.
        let hosts = draft.join("hosts");
        let open_to_all = || {
            fs::write(&hosts, HOSTS)?;
            fs::set_permissions(&hosts, fs::Permissions::from_mode(0o644))?;
            if network.dns {
                let resolv = draft.join("resolv.conf");
                fs::write(
                    &resolv,
                    resolv_conf(&gateways(&[network]), &[]).unwrap_or_default(),
                )?;
                fs::set_permissions(&resolv, fs::Permissions::from_mode(0o644))?;
                dns::prepare(&draft)?;
            }
            for subnet in &network.subnets {
                let ip = subnet.prefix.ip;
                symlink(ip.to_string(), draft.join(search_file(ip.is_ipv4())))?;
            }
            for directory in [&self.path, &draft, &leases] {
                fs::set_permissions(directory, fs::Permissions::from_mode(0o711))?;
            }
            Ok(())
        };
        let written = write_json(&draft.join("network.json"), network)
            .and_then(|()| open_to_all().map_err(file_error(&hosts)))
            .map_err(Into::into);
        let added = written.and_then(|()| {
            let to = self.directory(&network.name);
            match rustix::fs::renameat_with(CWD, &draft, CWD, &to, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(()),
                Err(Errno::EXIST) => Err(NetworkStateError::Taken(network.name.clone())),
                Err(errno) => Err(file_error(&to)(errno.into()).into()),
            }
        });
        if added.is_err() {
            fs::remove_dir_all(&draft).map_err(file_error(&draft))?;
            self.tidy();
        }
        added
    }

    /// The file that is `/etc/hosts` in containers of a network: one for all of them, so that who comes and goes costs the same however
    /// many there are, and is seen at once.
    pub fn hosts_file(&self, name: &NetworkName) -> PathBuf {
        self.directory(name).join("hosts")
    }

    /// Likewise the file that is `/etc/resolv.conf` in those of a network that has DNS.
    pub fn resolv_file(&self, name: &NetworkName) -> PathBuf {
        self.directory(name).join("resolv.conf")
    }

    /// Where a container of these networks asks DNS; one that is not there has none.
    pub fn gateways(&self, names: &[NetworkName]) -> Vec<IpAddr> {
        let loaded: Vec<Network> = names
            .iter()
            .filter_map(|name| self.load(name).ok())
            .collect();
        gateways(&loaded.iter().collect::<Vec<_>>())
    }

    /// Keeps everybody else from giving back addresses of a network, and from changing its names, while it is held; none where the network
    /// is gone. Not by a lock on the hosts file, which containers can open, and so lock as well (flock(2)).
    fn lock_leases(&self, name: &NetworkName) -> Result<Option<OwnedFd>, NetworkStateError> {
        let path = self.leases(name);
        let directory = match fs::File::open(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(file_error(&path))?,
        };
        rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))
            .map_err(|errno| file_error(&path)(errno.into()))?;
        Ok(Some(directory.into()))
    }

    /// Lets the others on a container's networks know it by its name and these, at the addresses that it has there.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn announce(
        &self,
        leases: &[Lease],
        container: &ContainerName,
        aliases: &[ContainerName],
    ) -> Result<(), NetworkStateError> {
        let names = [container].into_iter().chain(aliases);
        let names: Vec<&str> = names.map(ContainerName::as_str).collect();
        let names = names.join(" ");
        // Those of one network stand together.
        for leases in leases.chunk_by(|one, next| one.network == next.network) {
            let network = &leases[0].network;
            let Some(_lock) = self.lock_leases(network)? else {
                continue;
            };
            let lines: String = leases.iter().map(|it| hosts::line(it.ip, &names)).collect();
            let path = self.hosts_file(network);
            let file = fs::OpenOptions::new().append(true).open(&path);
            file.and_then(|mut file| file.write_all(lines.as_bytes()))
                .map_err(file_error(&path))?;
            self.refresh_all_own(network)?;
        }
        Ok(())
    }

    /// Takes a network that nobody is on out of everybody's sight, to be removed: whoever comes now finds none.
    ///
    /// # Errors
    /// [`NetworkStateError::InUse`] where somebody is on it; [`NetworkStateError::Unknown`] where there is none.
    pub fn set_aside(&self, name: &NetworkName) -> Result<PathBuf, NetworkStateError> {
        let in_use = |leased: Vec<(Lease, Holder)>| {
            let mut whose: Vec<String> = leased
                .into_iter()
                .map(|(_, holder)| holder.tenant.to_string())
                .collect();
            whose.sort();
            whose.dedup();
            NetworkStateError::InUse {
                network: name.clone(),
                whose: whose.join(", "),
            }
        };
        let leased = self.leased(name)?;
        if !leased.is_empty() {
            return Err(in_use(leased));
        }
        let own = ProcessId::own().map_err(file_error(&self.path))?;
        let (directory, draft) = (self.directory(name), self.draft(own, name));
        match fs::rename(&directory, &draft) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Err(NetworkStateError::Unknown(name.clone()));
            }
            other => other.map_err(file_error(&directory))?,
        }
        // Taken between the look and the renaming.
        if !entries(&draft.join("leases"))?.is_empty() {
            self.put_back(&draft, name)?;
            return Err(in_use(self.leased(name)?));
        }
        Ok(draft)
    }

    /// Undoes [`Networks::set_aside`].
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn put_back(&self, draft: &Path, name: &NetworkName) -> Result<(), NetworkStateError> {
        let directory = self.directory(name);
        fs::rename(draft, &directory).map_err(|cause| file_error(&directory)(cause).into())
    }

    /// Removes what was set aside.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(&self, draft: &Path) -> Result<(), NetworkStateError> {
        fs::remove_dir_all(draft).map_err(file_error(draft))?;
        self.tidy();
        Ok(())
    }

    /// Removes the directory of all networks with the last one.
    pub(super) fn tidy(&self) {
        // Not empty: then it stays.
        let _ = fs::remove_dir(&self.path);
    }

    /// Reads a network.
    ///
    /// # Errors
    /// [`NetworkStateError::Unknown`] where there is none of the name.
    pub fn load(&self, name: &NetworkName) -> Result<Network, NetworkStateError> {
        let path = self.directory(name).join("network.json");
        let bytes = fs::read(&path).map_err(|cause| {
            if cause.kind() == io::ErrorKind::NotFound {
                NetworkStateError::Unknown(name.clone())
            } else {
                file_error(&path)(cause).into()
            }
        })?;
        let network = serde_json::from_slice(&bytes);
        network.map_err(|cause| file_error(&path)(cause.into()).into())
    }

    /// The names of all networks.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn names(&self) -> Result<Vec<NetworkName>, StateError> {
        let entries = entries(&self.path)?;
        Ok(entries
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect())
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn all(&self) -> Result<Vec<Network>, NetworkStateError> {
        let mut names = self.names()?;
        names.sort();
        let loaded = names.iter().map(|name| self.load(name));
        // Removed since the names were read.
        let is_there = |it: &Result<_, _>| !matches!(it, Err(NetworkStateError::Unknown(_)));
        loaded.filter(is_there).collect()
    }

    /// Which families tincan has turned forwarding on for: written down before it is done.
    fn forwarding_file(&self) -> PathBuf {
        self.path.join(".forwarding")
    }

    fn forwarded(&self) -> Vec<String> {
        let text = fs::read_to_string(self.forwarding_file()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Writes it down in one step.
    fn write_forwarded(&self, paths: &[String]) -> io::Result<()> {
        let file = self.forwarding_file();
        if paths.is_empty() {
            return match fs::remove_file(&file) {
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
        }
        let next = self.path.join(".forwarding.next");
        fs::write(&next, paths.join("\n"))?;
        fs::rename(&next, &file)
    }

    /// Lets the host pass on packets of a network's families.
    fn open_forwarding(&self, network: &Network) -> io::Result<()> {
        for path in closed_forwarding(network) {
            let mut ours = self.forwarded();
            if !ours.iter().any(|it| it == path) {
                ours.push(path.to_owned());
                self.write_forwarded(&ours)?;
            }
            fs::write(path, "1")?;
        }
        Ok(())
    }

    /// Puts back what only this network needed. While `others_need_it`, networks of another state root's, it stays on, and is theirs.
    fn close_forwarding(
        &self,
        leaving: &NetworkName,
        others_need_it: bool,
    ) -> Result<(), NetworkStateError> {
        let networks = self.all()?;
        let others = networks
            .iter()
            .filter(|it| it.name != *leaving && !it.internal);
        let needed = |v4: bool| others.clone().any(|it| it.has_family(v4));
        let mut left = Vec::new();
        for path in self.forwarded() {
            let v4 = FORWARDING.iter().any(|(v4, it)| *v4 && *it == path);
            if needed(v4) {
                left.push(path);
            } else if !others_need_it {
                fs::write(&path, "0").map_err(file_error(Path::new(&path)))?;
            }
        }
        let file = self.forwarding_file();
        let written = self.write_forwarded(&left);
        written.map_err(|cause| file_error(&file)(cause).into())
    }

    /// Networks that were never finished, with the process that was at it.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn drafts(&self) -> Result<Vec<(PathBuf, ProcessId)>, NetworkStateError> {
        Ok(drafts(&self.path)?)
    }

    /// Takes an address for a container, unless somebody has it.
    ///
    /// # Errors
    /// When the network is gone meanwhile. Whose it is, where it is taken, is no error.
    pub fn take(
        &self,
        lease: &Lease,
        holder: &Holder,
    ) -> Result<Result<(), Holder>, NetworkStateError> {
        let path = self.leases(&lease.network).join(lease.ip.to_string());
        loop {
            match rustix::fs::symlink(holder.to_string(), &path) {
                Ok(()) => return Ok(Ok(())),
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => {
                    return Err(NetworkStateError::Unknown(lease.network.clone()));
                }
                Err(errno) => return Err(file_error(&path)(errno.into()).into()),
            }
            match self.holder(lease)? {
                // Given back meanwhile; or nobody can say whose it is.
                None => match fs::read_link(&path) {
                    Ok(text) if text.to_str().is_none_or(|it| it.parse::<Holder>().is_err()) => {
                        let cause = io::Error::other("it does not say whose it is");
                        return Err(file_error(&path)(cause).into());
                    }
                    _ => {}
                },
                Some(other) if self.is_stale(lease, &other) => self.take_back(&[(lease, other)])?,
                Some(other) => return Ok(Err(other)),
            }
        }
    }

    /// Whose an address is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn holder(&self, lease: &Lease) -> Result<Option<Holder>, NetworkStateError> {
        let path = self.leases(&lease.network).join(lease.ip.to_string());
        match fs::read_link(&path) {
            Ok(text) => Ok(text.to_str().and_then(|text| text.parse().ok())),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(file_error(&path)(cause).into()),
        }
    }

    /// Whether a lease is nobody's: its tenant is not there, or has no such address, and who took it is gone.
    fn is_stale(&self, lease: &Lease, holder: &Holder) -> bool {
        if holder.taker.is_alive() {
            return false;
        }
        match self.tenancy(&holder.tenant) {
            Ok(Some(tenancy)) => !tenancy.leases.contains(lease),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// What a tenant's journal has; none where there is no such tenant.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn tenancy(&self, tenant: &Tenant) -> Result<Option<Tenancy>, StateError> {
        match tenant {
            Tenant::Container(name) => match self.root.load(name) {
                Err(StateError::Unknown(_)) => Ok(None),
                Err(error) => Err(error),
                Ok(state) => Ok(Some(Tenancy {
                    leases: state.leases().cloned().collect(),
                    published: state.published().cloned().collect(),
                })),
            },
            Tenant::Attachment(id) => Ok(self.root.attachments().load(id)?.map(|it| Tenancy {
                leases: it.leases,
                published: it.published,
            })),
        }
    }

    /// The same, while nobody else changes it; none where it goes meanwhile.
    ///
    /// # Errors
    /// As [`Networks::tenancy`].
    pub(super) fn lock_tenant(
        &self,
        tenant: &Tenant,
    ) -> Result<Option<(OwnedFd, Tenancy)>, StateError> {
        let lock = match tenant {
            Tenant::Container(name) => match self.root.load(name) {
                Err(StateError::Unknown(_)) => None,
                other => self.root.lock(&other?)?.map(|(lock, _)| lock),
            },
            Tenant::Attachment(id) => match self.root.attachments().load(id)? {
                None => None,
                Some(attachment) => self.root.attachments().lock(&attachment)?,
            },
        };
        let Some(lock) = lock else {
            return Ok(None);
        };
        Ok(self.tenancy(tenant)?.map(|tenancy| (lock, tenancy)))
    }

    /// Gives addresses of one network back, and takes their names away, as far as they still are these holders'. All who give back do so under
    /// the lock, so that nobody takes away what another has got meanwhile.
    fn take_back(&self, held: &[(&Lease, Holder)]) -> Result<(), NetworkStateError> {
        let Some((Lease { network, .. }, _)) = held.first() else {
            return Ok(());
        };
        let Some(_lock) = self.lock_leases(network)? else {
            return Ok(());
        };
        let mut lines = Vec::new();
        for (lease, holder) in held {
            if self.holder(lease)?.as_ref() == Some(holder) {
                let line = hosts::line(lease.ip, &holder.tenant.to_string());
                lines.push((*lease, line.trim_end().to_owned()));
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        // Its aliases follow.
        let is_theirs = |line: &str| {
            let mut more = lines
                .iter()
                .filter_map(|(_, its)| line.strip_prefix(&**its));
            more.any(|more| more.starts_with([' ', '\n']))
        };
        let path = self.hosts_file(network);
        rewrite(&path, |text| {
            let others = text.split_inclusive('\n').filter(|line| !is_theirs(line));
            others.collect()
        })
        .map_err(file_error(&path))?;
        self.refresh_all_own(network)?;
        for (lease, _) in &lines {
            let path = self.leases(network).join(lease.ip.to_string());
            fs::remove_file(&path).map_err(file_error(&path))?;
            let begin = self.search_begin(network, lease.ip.is_ipv4());
            if begin.is_none_or(|begin| lease.ip < begin) {
                self.begin_search_at(lease);
            }
        }
        Ok(())
    }

    /// Gives those of these addresses back that this tenant has; absent is success, and so is another's.
    ///
    /// # Errors
    /// When a link cannot be read or removed: the first failure, after everything else was tried.
    pub fn give_back<'a>(
        &self,
        leases: impl IntoIterator<Item = &'a Lease>,
        tenant: &Tenant,
    ) -> Result<(), NetworkStateError> {
        let mut held = Vec::new();
        let mut failure = None;
        for lease in leases {
            match self.holder(lease) {
                Ok(Some(holder)) if holder.tenant == *tenant => held.push((lease, holder)),
                Ok(_) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        for held in held.chunk_by(|(one, _), (next, _)| one.network == next.network) {
            failure = failure.or(self.take_back(held).err());
        }
        failure.map_or(Ok(()), Err)
    }

    /// All leases of a network.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn leased(&self, name: &NetworkName) -> Result<Vec<(Lease, Holder)>, NetworkStateError> {
        let mut leased = Vec::new();
        for entry in entries(&self.leases(name))? {
            let Ok(ip) = entry.parse() else {
                continue;
            };
            let network = name.clone();
            let lease = Lease { network, ip };
            if let Some(holder) = self.holder(&lease)? {
                leased.push((lease, holder));
            }
        }
        leased.sort_by_key(|(lease, _)| lease.ip);
        Ok(leased)
    }

    /// The addresses of a subnet that are free, as far as a glance tells: from where the last search ended, and only then those before, which
    /// were taken at that time. A look at the whole directory would take longer with each address that is taken.
    pub fn free(&self, name: &NetworkName, subnet: &Subnet) -> impl Iterator<Item = IpAddr> {
        let begin = self.search_begin(name, subnet.prefix.ip.is_ipv4());
        let is_before = move |ip: &IpAddr| begin.is_some_and(|begin| *ip < begin);
        let after = subnet.prefix.others().skip_while(is_before);
        let before = subnet.prefix.others().take_while(is_before);
        let (gateway, leases) = (subnet.gateway, self.leases(name));
        after
            .chain(before)
            .filter(move |ip| *ip != gateway && !leases.join(ip.to_string()).is_symlink())
    }

    /// Has the next search begin at the address that the last one found, which was all that was free up to there. No more than a hint: where
    /// it is not written the next search takes longer, and an address that is given back at the same moment waits until there is none
    /// after it.
    pub fn search_from(&self, lease: &Lease) {
        if let Ok(Some(_lock)) = self.lock_leases(&lease.network) {
            self.begin_search_at(lease);
        }
    }

    fn search_begin(&self, name: &NetworkName, v4: bool) -> Option<IpAddr> {
        let text = fs::read_link(self.directory(name).join(search_file(v4))).ok()?;
        text.to_str()?.parse().ok()
    }

    /// For who holds the lock on the leases.
    fn begin_search_at(&self, lease: &Lease) {
        let directory = self.directory(&lease.network);
        let file = search_file(lease.ip.is_ipv4());
        let draft = directory.join(format!(".{file}"));
        let begin = lease.ip.to_string();
        let drafted = symlink(&begin, &draft).or_else(|_| {
            // Somebody was killed before the renaming.
            fs::remove_file(&draft)?;
            symlink(&begin, &draft)
        });
        let _ = drafted.and_then(|()| fs::rename(&draft, directory.join(file)));
    }

    /// Gives back the leases of a network that are nobody's.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn clear_stale(&self, name: &NetworkName) -> Result<Vec<Lease>, NetworkStateError> {
        let mut cleared = Vec::new();
        for (lease, holder) in self.leased(name)? {
            if self.is_stale(&lease, &holder) {
                self.take_back(&[(&lease, holder)])?;
                cleared.push(lease);
            }
        }
        Ok(cleared)
    }
}

/// The symbolic link, beside the leases, whose text is the address at which the search for a free one of a family begins.
fn search_file(v4: bool) -> &'static str {
    if v4 { "search4" } else { "search6" }
}

/// What makes the host pass on packets of a family (Documentation/networking/ip-sysctl.rst).
const FORWARDING: [(bool, &str); 2] = [
    (true, "/proc/sys/net/ipv4/ip_forward"),
    (false, "/proc/sys/net/ipv6/conf/all/forwarding"),
];

/// What a network needs to be on and is off. What cannot be read is no file of this kernel's, and nothing that could be turned on.
fn closed_forwarding(network: &Network) -> impl Iterator<Item = &'static str> {
    let is_off = |path: &&str| {
        let mut value = [0];
        let read = fs::File::open(path).and_then(|mut file| file.read(&mut value));
        read.is_ok() && value == *b"0"
    };
    let is_wanted = |v4: bool| !network.internal && network.has_family(v4);
    let wanted = FORWARDING.into_iter().filter(move |(v4, _)| is_wanted(*v4));
    wanted.map(|(_, path)| path).filter(is_off)
}

/// What the aliases of networks' bridges begin with.
const ALIAS: &str = "tincan network ";

/// The alias of a network's bridge, by which it is known as tincan's: the state root is in it, since two roots may have networks of one
/// name.
pub fn alias(root: &StateRoot, network: &Network) -> String {
    format!("tincan network {}@{}", network.name, root.path().display())
}

/// Sees to it that a network is on the host: at no cost but two or three questions where it is.
///
/// # Errors
/// What could not be made.
pub fn ensure(engine: &Engine, network: &Network) -> Result<(), NetworkStateError> {
    let is_whole = |netlink: &Netlink| {
        let directory = engine.root.networks().directory(&network.name);
        let bridge = bridge::find(netlink, network, &alias(&engine.root, network));
        matches!(bridge, Ok(Some(bridge)) if bridge.up && (!network.dns || dns::is_served(&directory, bridge.index)))
            && nft::is_there(network).is_ok_and(|there| there)
            && closed_forwarding(network).next().is_none()
    };
    if engine
        .host_netlink()
        .is_ok_and(|netlink| is_whole(&netlink))
    {
        return Ok(());
    }
    let networks = engine.root.networks();
    let _lock = networks.lock()?;
    // Removed while the lock was waited for.
    networks.load(&network.name)?;
    make(engine, network)
}

/// Makes what a network has on the host, as far as it is not there: its bridge with its addresses, and with the ports of its running
/// containers, forwarding, its table of rules, and who answers DNS. To be called under the lock.
///
/// # Errors
/// What could not be made.
pub fn make(engine: &Engine, network: &Network) -> Result<(), NetworkStateError> {
    let failed = |deed| failed_host(network, deed);
    let step = |step| fault::at("network", step).map_err(io::Error::from);
    let netlink = engine.host_netlink().map_err(failed("open netlink"))?;
    step(0).map_err(failed("make its bridge"))?;
    bridge::ensure(&netlink, network, &alias(&engine.root, network))
        .map_err(failed_bridge(network))?;
    step(1).map_err(failed("attach its ports"))?;
    for port in ports(engine, network, &netlink)? {
        match wire::attach(&netlink, &port, &network.bridge, network.isolate) {
            // Its container has ended since, and it went along.
            Err(_) if wire::link_by_name(&netlink, &port).is_err() => {}
            other => {
                other.map_err(|refused| failed("attach its ports")(refused.errno.into()))?;
            }
        }
    }
    let opened = step(2).and_then(|()| engine.root.networks().open_forwarding(network));
    opened.map_err(failed("turn on forwarding"))?;
    let allowed: Vec<_> = network.allow.iter().map(NetworkName::bridge).collect();
    let whole = nft::is_whole(network, &allowed);
    if !whole.map_err(failed("look for its rules (nftables)"))? {
        let made = step(3).and_then(|()| nft::make(network, &allowed));
        made.map_err(failed("make its rules (nftables)"))?;
    }
    if network.dns {
        let answered = bridge::find(&netlink, network, &alias(&engine.root, network))
            .map_err(failed_bridge(network))?
            .map_or(Ok(()), |bridge| dns::ensure(engine, network, bridge.index));
        answered.map_err(failed_dns(network))?;
    }
    if network.internal {
        return Ok(());
    }
    publish::restore(engine, network, &netlink).map_err(failed("publish its ports anew"))
}

/// Says so where somebody else's rules drop what a network's containers send elsewhere.
pub fn warn_of_barrier(engine: &Engine, network: &Network) {
    if network.internal {
        return;
    }
    // Who is not told does without the warning.
    if let Ok(Some(nft::Barrier {
        family,
        table,
        chain,
    })) = nft::barrier(network)
    {
        let (name, bridge) = (&network.name, &network.bridge);
        let at = format!("{family} {table} {chain}");
        engine.warn(&format!(
            "network {name}: the chain `{at}` drops what the host passes on, and so what is to leave {name} and to come there; \
             `nft insert rule {at} iifname {bridge} accept` and `nft insert rule {at} oifname {bridge} accept` let it pass"
        ));
    }
}

fn failed_host(
    network: &Network,
    deed: &'static str,
) -> impl FnOnce(io::Error) -> NetworkStateError {
    move |cause| NetworkStateError::Host {
        network: network.name.clone(),
        deed,
        cause,
    }
}

/// The error of whatever has failed with the process that answers DNS for a network.
pub fn failed_dns(network: &Network) -> impl FnOnce(DnsError) -> NetworkStateError {
    |cause| NetworkStateError::Dns {
        network: network.name.clone(),
        cause,
    }
}

fn failed_bridge(network: &Network) -> impl FnOnce(BridgeError) -> NetworkStateError {
    |cause| NetworkStateError::Bridge {
        network: network.name.clone(),
        cause,
    }
}

/// The host's ends of a network's containers that are there, and by their alias are these containers'.
fn ports(
    engine: &Engine,
    network: &Network,
    netlink: &Netlink,
) -> Result<Vec<LinkName>, NetworkStateError> {
    let mut found = Vec::new();
    let mut whose = engine.root.networks().leased(&network.name)?;
    whose.sort_by(|(_, a), (_, b)| a.tenant.cmp(&b.tenant));
    whose.dedup_by(|(_, a), (_, b)| a.tenant == b.tenant);
    for (_, holder) in whose {
        for (port, own) in ports_of(engine, &holder.tenant, &network.name)? {
            let link = wire::link_by_name(netlink, &port);
            if link.is_ok_and(|link| link.alias.as_deref() == Some(&own)) {
                found.push(port);
            }
        }
    }
    Ok(found)
}

/// The host's ends of a tenant's wires to a network, each with the alias that it has.
///
/// # Errors
/// When what is recorded of them cannot be read.
pub(super) fn ports_of(
    engine: &Engine,
    tenant: &Tenant,
    network: &NetworkName,
) -> Result<Vec<(LinkName, String)>, StateError> {
    let root = &engine.root;
    let name = match tenant {
        Tenant::Container(name) => name,
        Tenant::Attachment(id) => {
            let attachment = root.attachments().load(id)?;
            let port = attachment.and_then(|it| it.port);
            return Ok(port
                .map(|port| (port, id.alias(root.path())))
                .into_iter()
                .collect());
        }
    };
    let Ok(state) = root.load(name) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for record in root.wires(&state)? {
        let on = |it: &&EndRecord| it.network.as_ref() == Some(network);
        if let (Some(port), Some(near)) = (record.ends.iter().find(on), record.end_of(name)) {
            let own = host_link_alias(name, &near.interface, root.path());
            found.push((port.interface.clone(), own));
        }
    }
    Ok(found)
}

/// Takes away what a network has on the host, but for what another state root, or somebody else, has there under its name. The bridge goes
/// last: it is by this that [`clear_orphans`] finds what is left when tincan is killed meanwhile.
///
/// # Errors
/// What could not be removed.
pub fn dismantle(engine: &Engine, network: &Network) -> Result<(), NetworkStateError> {
    let failed = |deed| failed_host(network, deed);
    let netlink = engine.host_netlink().map_err(failed("open netlink"))?;
    let own = alias(&engine.root, network);
    let links = wire::links(&netlink)
        .map_err(|refused| failed("look for other networks")(refused.errno.into()))?;
    let ours = format!("@{}", engine.root.path().display());
    let of_others = |link: &Link| {
        let alias = link.alias.as_deref();
        alias.is_some_and(|alias| alias.starts_with(ALIAS) && !alias.ends_with(&ours))
    };
    let is_bridge = |link: &&Link| link.name == network.bridge.as_str();
    let step = |step| fault::at("dismantle", step).map_err(io::Error::from);
    // Whose the bridge is, they are; where it is somebody's own, there are none but ours.
    if !links.iter().find(is_bridge).is_some_and(of_others) {
        let removed = step(0).and_then(|()| nft::remove(network));
        removed.map_err(failed("remove its rules (nftables)"))?;
    }
    step(1).map_err(failed("turn off forwarding"))?;
    let networks = engine.root.networks();
    networks.close_forwarding(&network.name, links.iter().any(of_others))?;
    step(2).map_err(failed("remove its bridge"))?;
    match bridge::remove(&netlink, network, &own) {
        Ok(()) | Err(BridgeError::Foreign(_)) => {}
        Err(cause) => return Err(failed_bridge(network)(cause)),
    }
    step(3).map_err(failed("forget it"))
}

/// Takes away bridges and rules of this root's whose networks are not there, as those of a removal that was killed. Returns their names.
///
/// # Errors
/// What could not be removed.
pub fn clear_orphans(engine: &Engine) -> Result<Vec<NetworkName>, NetworkStateError> {
    let networks = engine.root.networks();
    let Ok(netlink) = engine.host_netlink() else {
        return Ok(Vec::new());
    };
    let mut cleared = Vec::new();
    for link in wire::links(&netlink).unwrap_or_default() {
        let of_this_root = |alias: &str| {
            let (name, root) = alias.strip_prefix(ALIAS)?.split_once('@')?;
            let ours = Path::new(root) == engine.root.path();
            ours.then(|| name.parse::<NetworkName>().ok())?
        };
        let Some(name) = link.alias.as_deref().and_then(of_this_root) else {
            continue;
        };
        let _lock = networks.lock()?;
        if !matches!(networks.load(&name), Err(NetworkStateError::Unknown(_))) {
            continue;
        }
        let network = Network {
            bridge: name.bridge(),
            name: name.clone(),
            subnets: Vec::new(),
            internal: true,
            isolate: false,
            mtu: None,
            routes: Vec::new(),
            allow: Vec::new(),
            dns: false,
        };
        dismantle(engine, &network)?;
        cleared.push(name);
    }
    Ok(cleared)
}
