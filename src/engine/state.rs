//! What tincan keeps of a container on disk: one directory a container below the state root, in it `state.json`, the file `made`
//! that says whether it was made to the end, while it waits for `start` the socket `start`, and one file a link that was added
//! live; and where it has a link of the host's, its network namespace. Nothing else knows anything:
//! there is no daemon, and what the kernel can tell (who is alive) is asked of the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FlockOperation, RenameFlags, flock};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fault;
use super::resctrl;
use crate::cgroup;
use crate::plan::checkpoint::Bind;
use crate::plan::interface::{Interface, InterfaceKind, Loan};
use crate::plan::name::{ContainerName, LinkName, Mac};
use crate::plan::network::{Lease, NetworkName, Published};
use crate::plan::plugin::PluginNetwork;
use crate::plan::step::Hook;
use crate::plan::topology::{
    End, LastingLink, Move, Origin, Place, Route, Topology, Wire, Workload,
};
use crate::sys::process::ProcessId;

/// The file that says by its size whether a container was made to the end: empty, or not.
const MADE: &str = "made";

/// The directories of records of what was added to a running container: wires, and interfaces of other kinds.
const LINKS: &str = "links";
const INTERFACES: &str = "interfaces";

/// Where the containers' state directories are: `/run/tincan`, or what `--root` says.
#[derive(Debug, Clone)]
pub struct StateRoot(PathBuf);

/// What is written down of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Its name.
    pub id: ContainerName,
    /// Its first process, once there is one.
    pub process: Option<ProcessId>,
    /// The tincan process that made it, and while in the foreground waits for it.
    pub creator: ProcessId,
    /// Whether it dies with the process that made it.
    pub bound: bool,
    /// Which command made it.
    pub origin: Origin,
    /// The bundle's directory, absolute; for `run -- CMD`, the working directory.
    pub bundle: PathBuf,
    /// The root file system's directory, absolute.
    pub rootfs: PathBuf,
    /// The path by which it has joined a network namespace, which then outlasts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// Its root is in no mount namespace: who joins its namespaces has to change to it.
    #[serde(default)]
    pub apart: bool,
    /// When it was made, as RFC 3339 in UTC with nanoseconds.
    pub created: String,
    /// The bundle's annotations.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// What has to be undone when it goes, and the kernel does not by itself: written before it is done.
    pub undo: Vec<Undo>,
    /// What its workload was made with.
    pub workload: Option<Workload>,
    /// The wires that it was born with.
    pub wires: Vec<WireRecord>,
    /// The interfaces of other kinds that it was born with.
    pub interfaces: Vec<InterfaceRecord>,
    /// What its first process does after `start`, step by step, for the message when one fails.
    pub release: Vec<ReleaseStep>,
    /// Its mounts that come from outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<Bind>,
    /// The hooks that run after `start`.
    pub poststart: Vec<Hook>,
    /// The hooks that run after `delete`.
    pub poststop: Vec<Hook>,
    /// Its cgroup.
    pub cgroup: Option<cgroup::Location>,
    /// Its control group in resctrl, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<resctrl::Location>,
}

impl State {
    /// The unit by which systemd made its cgroup, if that did.
    pub fn unit(&self) -> Option<&cgroup::systemd::Unit> {
        self.undo.iter().find_map(|deed| match deed {
            Undo::Scope(unit) => Some(unit),
            _ => None,
        })
    }

    /// The ports that are published for it.
    pub fn published(&self) -> impl Iterator<Item = &Published> {
        self.undo.iter().flat_map(|deed| match deed {
            Undo::Publish(published) => published.as_slice(),
            _ => &[],
        })
    }

    /// The addresses of networks that it has.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.undo.iter().filter_map(|deed| match deed {
            Undo::Lease(lease) => Some(lease),
            _ => None,
        })
    }
}

/// A step after the start gate: its index in the plan, and what it does, in words.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReleaseStep {
    /// The index in the node's list.
    pub index: u32,
    /// What it does.
    pub what: String,
    /// The program, when the step is the exec: its failure has messages of its own.
    pub program: Option<String>,
    /// The program, when the step is a hook, whose failure is the container's end.
    pub hook: Option<PathBuf>,
}

/// What undoes a deed that outlives the container's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Remove the cgroup.
    Cgroup(cgroup::Location),
    /// Remove a group of resctrl's.
    Control(PathBuf),
    /// Stop the unit that systemd made for it.
    Scope(cgroup::systemd::Unit),
    /// Unmount and remove the name for `ip netns`.
    NetnsName(String),
    /// End the process that leads to the outside.
    Outside,
    /// Give back an address of a network.
    Lease(Lease),
    /// Remove the files of names that it has of its own.
    OwnFiles,
    /// Let its network namespace go, which was held.
    Pin,
    /// Take back a link of the host's.
    Loan(Box<Loan>),
    /// Let published ports lead nowhere again.
    Publish(Vec<Published>),
    /// Give back the address that made way.
    Move(Move),
    /// Let plugins detach it from their network: by its namespace's path, where that is there.
    Plugins(PathBuf, Box<PluginNetwork>),
    /// Take away a link in a namespace that stays.
    Link(LastingLink),
}

/// A wire as it was made: with names for places, since indices mean nothing later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireRecord {
    /// Its ends.
    pub ends: [EndRecord; 2],
    /// For a wire that is being added to running containers, the process that adds it; none once it is done. When that
    /// process is gone, the wire is a remainder.
    pub pending: Option<ProcessId>,
}

/// An interface of a container's that is no end of a wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceRecord {
    /// Its name there.
    pub interface: LinkName,
    /// What it is.
    #[serde(flatten)]
    pub kind: InterfaceKind,
    /// As [`WireRecord::pending`].
    pub pending: Option<ProcessId>,
}

/// One end of a recorded wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// The container; none is the host.
    pub container: Option<ContainerName>,
    /// The network whose bridge it is a port of, for an end on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// The interface's name there.
    pub interface: LinkName,
    /// Its addresses, as they were given.
    pub addresses: Vec<String>,
    /// Those of them that tincan chose.
    pub automatic: Vec<String>,
    /// The routes through it, in a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// The MTU that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The link-layer address that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

impl WireRecord {
    /// The end that is in this container.
    pub fn end_of(&self, name: &ContainerName) -> Option<&EndRecord> {
        self.ends
            .iter()
            .find(|end| end.container.as_ref() == Some(name))
    }

    /// The end that is on the host, if one is.
    pub fn end_on_host(&self) -> Option<&EndRecord> {
        self.ends.iter().find(|end| end.container.is_none())
    }

    /// The record of a wire of a topology.
    pub fn of(wire: &Wire, topology: &Topology, pending: Option<ProcessId>) -> Self {
        let end = |end: &End| EndRecord {
            container: match &end.at {
                Place::Host => None,
                Place::Node(index) => Some(topology.nodes[*index].name.clone()),
                Place::Running(name) => Some(name.clone()),
            },
            network: end.port.as_ref().map(|port| port.network.clone()),
            interface: end.name.clone(),
            addresses: end.addrs.iter().map(|a| a.addr.to_string()).collect(),
            automatic: end
                .addrs
                .iter()
                .filter(|a| a.automatic)
                .map(|a| a.addr.to_string())
                .collect(),
            routes: match end.at {
                Place::Host => Vec::new(),
                Place::Node(_) | Place::Running(_) => end.routes.clone(),
            },
            mtu: end.mtu,
            mac: end.mac,
        };
        WireRecord {
            ends: [end(&wire.ends[0]), end(&wire.ends[1])],
            pending,
        }
    }
}

impl InterfaceRecord {
    /// The record of an interface of a topology.
    pub fn of(interface: &Interface, pending: Option<ProcessId>) -> Self {
        InterfaceRecord {
            interface: interface.end.name.clone(),
            kind: interface.kind.clone(),
            pending,
        }
    }
}

/// Where a container is in its life (runtime-spec runtime.md, State).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made.
    Creating,
    /// Made, and waiting for `start`.
    Created,
    /// The workload runs.
    Running,
    /// Its processes are frozen; runc's word beyond the specification's.
    Paused,
    /// The workload has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// What can go wrong with the state of a container.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// No such container. Callers of runc look for these words.
    #[error("container {0} does not exist")]
    Unknown(ContainerName),
    /// The name is another container's.
    #[error("{name}: a container of this name is {status} already")]
    Taken {
        /// The name.
        name: ContainerName,
        /// What that container is.
        status: Status,
    },
    /// A file could not be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

pub(super) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> StateError + '_ {
    move |cause| StateError::File {
        path: path.to_owned(),
        cause,
    }
}

/// The names in a directory; one that does not exist has none.
pub(super) fn entries(path: &Path) -> Result<Vec<String>, StateError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(file_error(path))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(file_error(path))?.file_name().into_string());
    }
    Ok(names)
}

/// What is half made in a directory, `.PID-START-NAME`, with the process that is or was at it.
pub(super) fn drafts(path: &Path) -> Result<Vec<(PathBuf, ProcessId)>, StateError> {
    let entries = entries(path)?;
    let drafts = entries.iter().filter_map(|name| {
        let mut parts = name.strip_prefix('.')?.splitn(3, '-');
        let pid = parts.next()?.parse().ok()?;
        let start = parts.next()?.parse().ok()?;
        Some((path.join(name), ProcessId { pid, start }))
    });
    Ok(drafts.collect())
}

impl StateRoot {
    /// The state root at this path, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        StateRoot(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The state directory of a container.
    pub fn directory(&self, name: &ContainerName) -> PathBuf {
        self.0.join(name.as_str())
    }

    /// What a process is making of a container's state directory, or has left of it.
    fn draft(&self, at: ProcessId, name: &ContainerName) -> PathBuf {
        self.0.join(format!(".{}-{}-{name}", at.pid, at.start))
    }

    /// The socket on which a created container waits for `start`.
    pub fn start_socket(&self, name: &ContainerName) -> PathBuf {
        self.directory(name).join("start")
    }

    /// Takes the container's name: its directory appears whole, with its state in it, or not at all, so that of two
    /// processes one wins, and nobody ever sees half a container. `first` is one that is made together with it, and was
    /// claimed before: [`StateRoot::complete`] is for both, then.
    ///
    /// # Errors
    /// [`StateError::Taken`] when there is one, whatever its status.
    pub fn claim(&self, state: &State, first: Option<&ContainerName>) -> Result<(), StateError> {
        let draft = self.draft(state.creator, &state.id);
        let mut private = fs::DirBuilder::new();
        private.mode(0o700);
        match private.create(&draft) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o711)
                    .create(&self.0)
                    .map_err(file_error(&self.0))?;
                private.create(&draft).map_err(file_error(&draft))?;
            }
            other => other.map_err(file_error(&draft))?,
        }
        let mark = draft.join(MADE);
        let marked = match first {
            Some(first) => fs::hard_link(self.directory(first).join(MADE), &mark),
            None => fs::File::create_new(&mark).map(drop),
        };
        let written = marked
            .map_err(file_error(&mark))
            .and_then(|()| write_json(&draft.join("state.json"), state));
        let claimed = written.and_then(|()| {
            let to = self.directory(&state.id);
            match rustix::fs::renameat_with(CWD, &draft, CWD, &to, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(()),
                Err(Errno::EXIST) => Err(StateError::Taken {
                    name: state.id.clone(),
                    status: self
                        .load(&state.id)
                        .map_or(Status::Creating, |other| self.status(&other)),
                }),
                Err(errno) => Err(file_error(&to)(errno.into())),
            }
        });
        if claimed.is_err() {
            fs::remove_dir_all(&draft).map_err(file_error(&draft))?;
        }
        claimed
    }

    /// Says that a container that outlives its maker was made to the end, and all that are made together with it: at one
    /// stroke, since they share the file that says so.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn complete(&self, name: &ContainerName) -> Result<(), StateError> {
        let mark = self.directory(name).join(MADE);
        let opened = fs::OpenOptions::new().write(true).open(&mark);
        opened
            .and_then(|file| file.set_len(1))
            .map_err(file_error(&mark))
    }

    /// Whether a container that outlives its maker was made to the end; until then it is a remainder once that is gone.
    pub fn is_complete(&self, name: &ContainerName) -> bool {
        fs::metadata(self.directory(name).join(MADE)).is_ok_and(|mark| mark.len() > 0)
    }

    /// Writes the state anew, in one step.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        let directory = self.directory(&state.id);
        let next = directory.join("state.json.next");
        let current = directory.join("state.json");
        write_json(&next, state)?;
        fs::rename(&next, &current).map_err(file_error(&current))
    }

    /// Reads a container's state.
    ///
    /// # Errors
    /// [`StateError::Unknown`] when there is no such container.
    pub fn load(&self, name: &ContainerName) -> Result<State, StateError> {
        let path = self.directory(name).join("state.json");
        let bytes = fs::read(&path).map_err(|cause| match cause.kind() {
            // A file of that name is nobody's.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                StateError::Unknown(name.clone())
            }
            _ => file_error(&path)(cause),
        })?;
        serde_json::from_slice(&bytes).map_err(|cause| file_error(&path)(cause.into()))
    }

    /// The names of all containers, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read; one that does not exist has none.
    pub fn names(&self) -> Result<Vec<ContainerName>, StateError> {
        let mut names: Vec<ContainerName> = entries(&self.0)?
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(|name| self.directory(name).is_dir())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Directories of claims that were never finished, with the process that was at it.
    ///
    /// # Errors
    /// As [`StateRoot::names`].
    pub fn drafts(&self) -> Result<Vec<(PathBuf, ProcessId)>, StateError> {
        drafts(&self.0)
    }

    /// Where a container is in its life, by what the kernel and the start socket say.
    pub fn status(&self, state: &State) -> Status {
        // One that cannot be asked is gone, or was never frozen.
        let is_frozen = |cgroup: &cgroup::Location| cgroup.is_frozen().unwrap_or(false);
        match state.process {
            None if state.creator.is_alive() => Status::Creating,
            None => Status::Stopped,
            Some(process) if !process.is_alive() => Status::Stopped,
            Some(_) if state.cgroup.as_ref().is_some_and(is_frozen) => Status::Paused,
            Some(_) if self.start_socket(&state.id).exists() => Status::Created,
            Some(_) => Status::Running,
        }
    }

    /// The state and a descriptor of the first process of a container that is created or running.
    ///
    /// # Errors
    /// [`StateError::Unknown`]; `Ok(None)` beside the state when the process is dead.
    pub fn open(&self, name: &ContainerName) -> Result<(State, Option<OwnedFd>), StateError> {
        let state = self.load(name)?;
        let pidfd = state.process.and_then(ProcessId::open);
        Ok((state, pidfd))
    }

    /// Keeps others from undoing this container until the descriptor is closed, and gives its state as it is then. The lock is on its
    /// directory, which goes with it: whoever waited for it then finds none, or another container's of the same name.
    ///
    /// # Errors
    /// When the directory cannot be read. `Ok(None)` when the container is forgotten already.
    pub fn lock(&self, state: &State) -> Result<Option<(OwnedFd, State)>, StateError> {
        let path = self.directory(&state.id);
        let directory = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(file_error(&path))?,
        };
        rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))
            .map_err(|errno| file_error(&path)(errno.into()))?;
        match self.load(&state.id) {
            Ok(now) if now.creator == state.creator => Ok(Some((directory.into(), now))),
            Ok(_) | Err(StateError::Unknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps others from changing the networks of these containers, for as long as a whole command takes, until the descriptors are closed.
    /// What is written down is under [`StateRoot::lock`] besides. The locks are on the files that say that the containers are whole, of
    /// which those that were made together have one.
    ///
    /// # Errors
    /// [`StateError::Unknown`] when one is not there any more.
    pub fn lock_networks<'a>(
        &self,
        names: impl IntoIterator<Item = &'a ContainerName>,
    ) -> Result<Vec<OwnedFd>, StateError> {
        let mut files = BTreeMap::new();
        for name in names {
            let path = self.directory(name).join(MADE);
            let opened = fs::File::open(&path).and_then(|file| Ok((file.metadata()?.ino(), file)));
            let (number, file) = opened.map_err(|cause| match cause.kind() {
                io::ErrorKind::NotFound => StateError::Unknown(name.clone()),
                _ => file_error(&path)(cause),
            })?;
            files.insert(number, (name, file));
        }
        // In one order, whoever locks.
        let locked = files.into_values().map(|(name, file)| {
            let path = self.directory(name).join(MADE);
            rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))
                .map_err(|errno| file_error(&path)(errno.into()))?;
            // It has gone while the lock was waited for, where no name leads to it any more.
            let held = file.metadata().map_err(file_error(&path))?;
            if held.nlink() == 0 {
                return Err(StateError::Unknown(name.clone()));
            }
            Ok(OwnedFd::from(file))
        });
        locked.collect()
    }

    /// Removes a container's directory; absent is success. It gives up the name first, in one step: whoever is killed at it leaves a draft
    /// for `gc`, and no directory that has the name and no container in it.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn forget(&self, name: &ContainerName) -> Result<(), StateError> {
        let directory = self.directory(name);
        let at = ProcessId::own().map_err(file_error(&directory))?;
        let draft = self.draft(at, name);
        match fs::rename(&directory, &draft) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(file_error(&directory))?,
        }
        fault::at("forget", 0).map_err(|errno| file_error(&draft)(errno.into()))?;
        fs::remove_dir_all(&draft).map_err(file_error(&draft))
    }

    /// Records a wire that is added to a running container, as it is now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record_link(
        &self,
        name: &ContainerName,
        wire: &WireRecord,
        adder: ProcessId,
    ) -> Result<(), StateError> {
        let own = wire.end_of(name).unwrap_or(&wire.ends[0]);
        self.record(name, LINKS, &own.interface, wire, adder)
    }

    /// Records an interface of another kind that is added to a running container, as it is now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record_interface(
        &self,
        name: &ContainerName,
        record: &InterfaceRecord,
        adder: ProcessId,
    ) -> Result<(), StateError> {
        self.record(name, INTERFACES, &record.interface, record, adder)
    }

    /// Writes a record into a directory of the container's state: the file's name is the interface's and that of the process that adds
    /// it, so that of two processes that add the same one each has its own record.
    fn record(
        &self,
        name: &ContainerName,
        kind: &str,
        interface: &LinkName,
        record: &impl Serialize,
        adder: ProcessId,
    ) -> Result<(), StateError> {
        let directory = self.directory(name).join(kind);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(file_error(&directory)(error));
            }
            _ => {}
        }
        let file = format!("{interface}@{}", adder.pid);
        // Whoever reads the directory reads whole files.
        let next = self.directory(name).join(format!("{file}.next"));
        let path = directory.join(file);
        write_json(&next, record)?;
        fs::rename(&next, &path).map_err(file_error(&path))
    }

    /// Forgets a wire of a running container, one that it was born with too; absent is success.
    ///
    /// # Errors
    /// When a file cannot be read, written or removed.
    pub fn forget_link(&self, name: &ContainerName, wire: &WireRecord) -> Result<(), StateError> {
        self.forget_added(name, LINKS, wire)?;
        self.forget_born(
            name,
            |state| state.wires.contains(wire),
            |state| state.wires.retain(|record| record != wire),
        )
    }

    /// Forgets an interface of another kind, as [`StateRoot::forget_link`] does a wire.
    ///
    /// # Errors
    /// As that.
    pub fn forget_interface(
        &self,
        name: &ContainerName,
        gone: &InterfaceRecord,
    ) -> Result<(), StateError> {
        self.forget_added(name, INTERFACES, gone)?;
        self.forget_born(
            name,
            |state| state.interfaces.contains(gone),
            |state| state.interfaces.retain(|record| record != gone),
        )
    }

    fn forget_added<T: DeserializeOwned + PartialEq>(
        &self,
        name: &ContainerName,
        kind: &str,
        gone: &T,
    ) -> Result<(), StateError> {
        for (path, record) in self.added::<T>(name, kind)? {
            if record == *gone {
                remove_file(&path).map_err(|errno| file_error(&path)(errno.into()))?;
            }
        }
        Ok(())
    }

    fn forget_born(
        &self,
        name: &ContainerName,
        has_it: impl Fn(&State) -> bool,
        forget: impl Fn(&mut State),
    ) -> Result<(), StateError> {
        let state = match self.load(name) {
            Err(StateError::Unknown(_)) => return Ok(()),
            other => other?,
        };
        if !has_it(&state) {
            return Ok(());
        }
        let Some(_lock) = self.lock(&state)? else {
            return Ok(());
        };
        let mut state = self.load(name)?;
        forget(&mut state);
        self.save(&state)
    }

    /// The records of what was added to a running container, each with its file.
    fn added<T: DeserializeOwned>(
        &self,
        name: &ContainerName,
        kind: &str,
    ) -> Result<Vec<(PathBuf, T)>, StateError> {
        let directory = self.directory(name).join(kind);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(file_error(&directory))?,
        };
        let mut added = Vec::new();
        for entry in entries {
            let path = entry.map_err(file_error(&directory))?.path();
            let bytes = match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(file_error(&path))?,
            };
            let record =
                serde_json::from_slice(&bytes).map_err(|cause| file_error(&path)(cause.into()))?;
            added.push((path, record));
        }
        Ok(added)
    }

    /// The wires of a container: those it was born with and those added since, made by it or recorded with it.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn wires(&self, state: &State) -> Result<Vec<WireRecord>, StateError> {
        let added = self.added(&state.id, LINKS)?.into_iter();
        let added = added.map(|(_, record)| record);
        Ok(state.wires.iter().cloned().chain(added).collect())
    }

    /// Likewise its interfaces of other kinds.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn interfaces(&self, state: &State) -> Result<Vec<InterfaceRecord>, StateError> {
        let added = self.added(&state.id, INTERFACES)?.into_iter();
        let added = added.map(|(_, record)| record);
        Ok(state.interfaces.iter().cloned().chain(added).collect())
    }
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StateError> {
    let bytes = serde_json::to_vec(value).map_err(|cause| file_error(path)(cause.into()))?;
    fs::write(path, bytes).map_err(file_error(path))
}

/// The time now, as the state has it: RFC 3339, UTC, nanoseconds.
pub fn now() -> String {
    humantime::format_rfc3339_nanos(SystemTime::now()).to_string()
}

/// Unlinks a file below a directory; absent is success.
///
/// # Errors
/// As unlink(2).
pub fn remove_file(path: &Path) -> Result<(), Errno> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
