//! Interfaces of other runtimes' containers that CNI attached to a network. Nothing of tincan's runs in such a container, so what there
//! is of it on the host is known by a record alone: below the state root in `.attachments/CONTAINER@INTERFACE/`, written before anything
//! is made, and undone by DEL, by GC, or by `tincan gc` when its namespace is gone. Who works at it holds a lock on the directory.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use nix::errno::Errno as KernelErrno;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::{EngineError, describe};
use super::fault;
use super::hold::Engine;
use super::publish;
use super::state::{StateError, StateRoot, drafts, entries, file_error, write_json};
use crate::net::netlink::{Netlink, Refused, gone_is_fine};
use crate::net::wire;
use crate::plan::name::{LinkName, Mac};
use crate::plan::network::{Lease, NetworkName, Published};
use crate::plan::tenant::{AttachmentId, Tenant};
use crate::sys::netns;
use crate::sys::process::ProcessId;

/// What is written down of an attachment: what has to be undone when it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which it is.
    pub id: AttachmentId,
    /// The network.
    pub network: NetworkName,
    /// The path of the container's network namespace (CNI_NETNS).
    pub netns: PathBuf,
    /// Which namespace that was ([`netns::incarnation`]).
    pub namespace: (u64, u64),
    /// The process that makes it.
    pub maker: ProcessId,
    /// Whether it was made to the end; until then it is a remainder once its maker is gone.
    pub whole: bool,
    /// The host's end of its wire.
    pub port: Option<LinkName>,
    /// Its addresses.
    pub leases: Vec<Lease>,
    /// The ports of the host's that lead to it.
    pub published: Vec<Published>,
}

/// The attachments of a state root.
pub struct Attachments<'a> {
    root: &'a StateRoot,
    path: PathBuf,
}

impl StateRoot {
    /// The attachments of this root.
    pub fn attachments(&self) -> Attachments<'_> {
        Attachments {
            root: self,
            path: self.path().join(".attachments"),
        }
    }
}

impl Attachments<'_> {
    fn directory(&self, id: &AttachmentId) -> PathBuf {
        self.path.join(id.to_string())
    }

    /// Writes a new attachment down, which appears whole or not at all, and returns the lock on it; none where there is one already.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn claim(&self, attachment: &Attachment) -> Result<Option<OwnedFd>, StateError> {
        let ProcessId { pid, start } = attachment.maker;
        let draft = self.path.join(format!(".{pid}-{start}-{}", attachment.id));
        let mut private = fs::DirBuilder::new();
        private.mode(0o700);
        loop {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o711);
            builder
                .create(self.root.path())
                .map_err(file_error(self.root.path()))?;
            builder.create(&self.path).map_err(file_error(&self.path))?;
            match private.create(&draft) {
                // Removed in between, with the last of the others.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                other => break other.map_err(file_error(&draft))?,
            }
        }
        let to = self.directory(&attachment.id);
        let claim = || {
            write_json(&draft.join("attachment.json"), attachment)?;
            let directory = fs::File::open(&draft).map_err(file_error(&draft))?;
            let locked = flock(&directory, FlockOperation::LockExclusive);
            locked.map_err(|errno| file_error(&draft)(errno.into()))?;
            match rustix::fs::renameat_with(CWD, &draft, CWD, &to, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(Some(OwnedFd::from(directory))),
                Err(Errno::EXIST) => Ok(None),
                Err(errno) => Err(file_error(&to)(errno.into())),
            }
        };
        let claimed = claim();
        if !matches!(claimed, Ok(Some(_))) {
            fs::remove_dir_all(&draft).map_err(file_error(&draft))?;
        }
        claimed
    }

    /// Writes it anew, in one step.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, attachment: &Attachment) -> Result<(), StateError> {
        let directory = self.directory(&attachment.id);
        let next = directory.join("attachment.json.next");
        let current = directory.join("attachment.json");
        write_json(&next, attachment)?;
        fs::rename(&next, &current).map_err(file_error(&current))
    }

    /// Reads one; none where there is none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load(&self, id: &AttachmentId) -> Result<Option<Attachment>, StateError> {
        let path = self.directory(id).join("attachment.json");
        match fs::read(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(file_error(&path)(cause)),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(attachment) => Ok(Some(attachment)),
                Err(cause) => Err(file_error(&path)(cause.into())),
            },
        }
    }

    /// Which attachments there are, in their order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn ids(&self) -> Result<Vec<AttachmentId>, StateError> {
        let names = entries(&self.path)?;
        let mut ids: Vec<AttachmentId> = names
            .iter()
            .filter(|name| !name.starts_with('.'))
            .filter_map(|name| name.parse().ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Those that were never written to the end, with the process that was at it.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn drafts(&self) -> Result<Vec<(PathBuf, ProcessId)>, StateError> {
        drafts(&self.path)
    }

    /// Keeps others from working at it; none where it is gone, or another one of its name by now.
    pub(super) fn lock(&self, attachment: &Attachment) -> Result<Option<OwnedFd>, StateError> {
        let path = self.directory(&attachment.id);
        let directory = match fs::File::open(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(file_error(&path))?,
        };
        rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))
            .map_err(|errno| file_error(&path)(errno.into()))?;
        let same = self
            .load(&attachment.id)?
            .is_some_and(|now| now.maker == attachment.maker);
        Ok(same.then(|| directory.into()))
    }

    /// Removes what is written down of it; absent is success. The directory of all goes with the last.
    fn forget(&self, id: &AttachmentId) -> Result<(), StateError> {
        let directory = self.directory(id);
        match fs::remove_dir_all(&directory) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(file_error(&directory)(cause));
            }
            _ => {}
        }
        // Not empty: then it stays.
        let _ = fs::remove_dir(&self.path);
        Ok(())
    }
}

impl Attachment {
    /// The link-layer address of the host's end, by which that is known before it has its alias.
    pub fn port_mac(engine: &Engine, id: &AttachmentId) -> Mac {
        Mac::of(&id.alias(engine.root.path()))
    }

    /// Whether the host's end is there, and its own.
    ///
    /// # Errors
    /// When the kernel will not tell.
    pub fn has_port(&self, engine: &Engine, netlink: &Netlink) -> Result<bool, Refused> {
        let Some(port) = &self.port else {
            return Ok(false);
        };
        let alias = self.id.alias(engine.root.path());
        match wire::link_by_name(netlink, port) {
            Ok(link) => Ok(match link.alias {
                Some(found) => found == alias,
                // Killed between the making and the naming.
                None => link.mac == Some(Attachment::port_mac(engine, &self.id)),
            }),
            Err(refused) if refused.errno == KernelErrno::ENODEV => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// Whether its maker is still at it.
    pub fn is_being_made(&self) -> bool {
        !self.whole && self.maker.is_alive()
    }

    /// Whether nobody has use for it: it was never finished, or its namespace is gone. That namespace lives as long as the wire to it
    /// does; and where somebody has taken that away, it still is at its path.
    fn is_dead(&self, engine: &Engine) -> bool {
        if !self.whole {
            return !self.maker.is_alive();
        }
        let Ok(netlink) = engine.host_netlink() else {
            return false;
        };
        if self.has_port(engine, &netlink).unwrap_or(true) {
            return false;
        }
        let there = fs::File::open(&self.netns).and_then(|it| netns::incarnation(it.as_fd()));
        !there.is_ok_and(|there| there == self.namespace)
    }
}

/// Undoes an attachment, and forgets it; absent is success. Failures are collected, and nothing stops half-way.
///
/// # Errors
/// [`EngineError::Undo`] with everything that could not be undone; then the record stays for the next attempt.
pub fn undo(engine: &Engine, attachment: &Attachment) -> Result<(), EngineError> {
    match engine.root.attachments().lock(attachment)? {
        Some(_lock) => undo_locked(engine, attachment),
        None => Ok(()),
    }
}

/// The same for who has the lock.
///
/// # Errors
/// As [`undo`].
pub fn undo_locked(engine: &Engine, attachment: &Attachment) -> Result<(), EngineError> {
    let attachments = engine.root.attachments();
    // It may have been finished since it was looked at.
    let Some(attachment) = attachments.load(&attachment.id)? else {
        return Ok(());
    };
    let id = &attachment.id;
    let tenant = Tenant::from(id);
    let mut causes = Vec::new();
    let mut attempt = |step: usize, deed: &dyn Fn() -> Result<(), EngineError>| {
        let done = fault::at("detach", step)
            .map_err(describe)
            .and_then(|()| deed().map_err(|error| error.to_string()));
        causes.extend(done.err());
    };
    attempt(0, &|| publish::undo(engine, &tenant, &attachment.published));
    attempt(1, &|| {
        let failed = |cause| EngineError::Wire {
            container: id.to_string(),
            action: "delete the host's end of its wire".to_owned(),
            cause,
        };
        let netlink = engine
            .host_netlink()
            .map_err(|cause| failed(cause.into()))?;
        match &attachment.port {
            Some(port) if attachment.has_port(engine, &netlink).map_err(failed)? => {
                gone_is_fine(wire::delete(&netlink, port)).map_err(failed)
            }
            _ => Ok(()),
        }
    });
    attempt(2, &|| {
        let networks = engine.root.networks();
        networks.give_back(&attachment.leases, &tenant)?;
        if attachment.whole {
            return Ok(());
        }
        // Taken, and not written down any more.
        let leased = networks.leased(&attachment.network)?;
        networks.give_back(leased.iter().map(|(lease, _)| lease), &tenant)?;
        Ok(networks.release_all(&tenant)?)
    });
    if !causes.is_empty() {
        return Err(EngineError::Undo {
            container: id.container.clone(),
            causes,
        });
    }
    fault::at("detach", 3)
        .map_err(|errno| EngineError::of_deed(&id.container, "forget the attachment", errno))?;
    Ok(attachments.forget(id)?)
}

/// Clears away what is left of an attachment, if nobody has use for it.
///
/// # Errors
/// As [`undo`].
pub fn make_way(engine: &Engine, id: &AttachmentId) -> Result<(), EngineError> {
    match engine.root.attachments().load(id)? {
        Some(attachment) if attachment.is_dead(engine) => undo(engine, &attachment),
        _ => Ok(()),
    }
}

/// Clears away all attachments that nobody has use for. Returns which.
///
/// # Errors
/// The first failure, after everything else was tried.
pub fn clear_dead(engine: &Engine) -> Result<Vec<AttachmentId>, EngineError> {
    clear(engine, |attachment| attachment.is_dead(engine))
}

/// Clears away the attachments of which this holds, but for those that somebody is making. Returns which.
///
/// # Errors
/// The first failure, after everything else was tried.
pub fn clear(
    engine: &Engine,
    is_out: impl Fn(&Attachment) -> bool,
) -> Result<Vec<AttachmentId>, EngineError> {
    let mut cleared = Vec::new();
    let mut failure = None;
    let attachments = engine.root.attachments();
    for id in attachments.ids()? {
        let attachment = match attachments.load(&id) {
            Ok(Some(attachment)) => attachment,
            // Taken off by somebody else since.
            Ok(None) => continue,
            Err(error) => {
                failure = failure.or(Some(error.into()));
                continue;
            }
        };
        if attachment.is_being_made() || !is_out(&attachment) {
            continue;
        }
        match undo(engine, &attachment) {
            Ok(()) => cleared.push(attachment.id),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(cleared), Err)
}

/// Takes away the host's ends of attachments of this state root of which nothing is written down, as where somebody has removed the state:
/// a wire is made behind its record, and goes before it. Returns whose they were.
///
/// # Errors
/// The first failure, after everything else was tried.
pub fn clear_orphans(engine: &Engine) -> Result<Vec<AttachmentId>, EngineError> {
    let failed = |cause: Refused| EngineError::Wire {
        container: "host".to_owned(),
        action: "find and delete the ends of wires whose attachments are gone".to_owned(),
        cause,
    };
    let netlink = engine.host_netlink().map_err(|e| failed(e.into()))?;
    let mut cleared = Vec::new();
    let mut failure = None;
    for link in wire::links(&netlink).map_err(failed)? {
        let alias = link.alias.as_deref();
        let id = alias.and_then(|it| AttachmentId::of_alias(it, engine.root.path()));
        let Some(id) = id else {
            continue;
        };
        match engine.root.attachments().load(&id) {
            Ok(None) => {}
            Ok(Some(_)) => continue,
            Err(error) => {
                failure = failure.or(Some(error.into()));
                continue;
            }
        }
        // Not by its name, which one that is just being made may have.
        match gone_is_fine(wire::delete_by_index(&netlink, link.index)) {
            Ok(()) => cleared.push(id),
            Err(cause) => failure = failure.or(Some(failed(cause))),
        }
    }
    failure.map_or(Ok(cleared), Err)
}
