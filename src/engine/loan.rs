//! Links of the host's that containers have on loan.
//!
//! A namespace that goes takes its virtual links with it, and hands the others to the machine's first namespace, under whatever name is
//! free there. So the namespace of a container with a loan is held, by a mount of it on the file `netns` in the container's state, until
//! the link has come back.

use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::error::EngineError;
use super::hold::Engine;
use super::publish::journal;
use super::state::{State, Undo, remove_file};
use crate::net::device::{self, Return};
use crate::net::netlink::{Netlink, Refused};
use crate::plan::interface::Loan;
use crate::plan::name::ContainerName;
use crate::sys::{errno_of, mount, netns, path};

/// The file by which a container's network namespace is held.
pub(super) fn pin_of(engine: &Engine, container: &ContainerName) -> PathBuf {
    engine.root.directory(container).join("netns")
}

/// Holds a container's network namespace; one that is held already is held once.
///
/// # Errors
/// When it cannot be mounted.
pub(super) fn pin(
    engine: &Engine,
    container: &ContainerName,
    netns: BorrowedFd<'_>,
) -> Result<(), EngineError> {
    let hold = || {
        let file = pin_of(engine, container);
        match fs::File::create_new(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => drop(other.map_err(|error| errno_of(&error))?),
        }
        let target = path::open(&file, OFlags::PATH)?;
        if path::is_mount_root(target.as_fd())? {
            return Ok(());
        }
        let tree = mount::clone_path(&path::by_descriptor(netns), false)?;
        mount::attach(tree.as_fd(), target.as_fd())
    };
    hold().map_err(|errno| EngineError::of_deed(container, "hold its network namespace", errno))
}

/// Lets it go; absent is success.
///
/// # Errors
/// When it cannot be unmounted.
pub(super) fn unpin(engine: &Engine, container: &ContainerName) -> Result<(), Errno> {
    let file = pin_of(engine, container);
    match rustix::mount::unmount(&file, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Never mounted; or never made.
        Err(Errno::INVAL | Errno::NOENT) => {}
        other => other?,
    }
    remove_file(&file)
}

/// Takes a link back from a container, dead or alive, and lets it be on the host as it was.
///
/// # Errors
/// When the kernel refuses.
pub fn take_back(
    engine: &Engine,
    container: &ContainerName,
    loan: &Loan,
) -> Result<(), EngineError> {
    let back = || -> Result<Return, Refused> {
        let host = engine.host_netlink()?;
        let own = netns::current()?;
        // Without a pin the link never went.
        let inside = path::open(&pin_of(engine, container), OFlags::RDONLY);
        let inside = inside
            .ok()
            .and_then(|pin| Netlink::open_in(pin.as_fd()).ok());
        device::take_back(inside.as_ref(), &host, own.as_fd(), loan)
    };
    let returned = back().map_err(|cause| EngineError::Wire {
        container: "host".to_owned(),
        action: format!(
            "take {} back from {container}:{}",
            loan.device, loan.interface
        ),
        cause,
    })?;
    let device = &loan.device;
    match returned {
        Return::Whole => {}
        Return::Down => engine.warn(&format!(
            "{container}: {device} is back, down and without addresses: a container could have made one like it"
        )),
        Return::Gone => engine.warn(&format!("{container}: {device} is not back: it is gone")),
    }
    Ok(())
}

/// Takes back what a running container has on loan as this interface, and takes it out of its journal. Whether it had one.
///
/// # Errors
/// As [`take_back`]; when the journal cannot be written.
pub fn end(
    engine: &Engine,
    state: &State,
    is_it: impl Fn(&Loan) -> bool,
) -> Result<bool, EngineError> {
    let loans = state.undo.iter().filter_map(|deed| match deed {
        Undo::Loan(loan) if is_it(loan) => Some(loan),
        _ => None,
    });
    let mut had_one = false;
    for loan in loans {
        take_back(engine, &state.id, loan)?;
        journal(engine, state, |undo| {
            undo.retain(|deed| !matches!(deed, Undo::Loan(other) if other == loan));
        })?;
        had_one = true;
    }
    Ok(had_one)
}

/// Writes down that a running container gets a link on loan, before it does.
///
/// # Errors
/// When the journal cannot be written.
pub fn begin(engine: &Engine, state: &State, loan: &Loan) -> Result<(), EngineError> {
    journal(engine, state, |undo| {
        if !undo.contains(&Undo::Pin) {
            undo.push(Undo::Pin);
        }
        undo.push(Undo::Loan(Box::new(loan.clone())));
    })
}
