//! Addresses that make way: what tincan chose for the host's end of one container's wire goes to whoever asks for it by name,
//! and comes back when that container goes.

use super::error::EngineError;
use super::hold::Engine;
use super::state::{StateError, Status};
use crate::net::netlink::{Netlink, Refused};
use crate::net::wire::{self, Link, Owner};
use crate::plan::name::ContainerName;
use crate::plan::net::alias_container;
use crate::plan::topology::{EndAddr, Move};

/// The container that a link of the host's is an end of a wire of, dead or alive, if it is one of this state root's.
pub fn container_of(engine: &Engine, link: &Link) -> Option<ContainerName> {
    let (container, root) = link.alias.as_deref().and_then(alias_container)?;
    (root == engine.root.path()).then_some(container)
}

/// Whether a link of the host's is a container's that is dead: then it is on its way out, which takes the kernel some ten
/// milliseconds.
pub fn is_dead(engine: &Engine, link: &Link) -> bool {
    container_of(engine, link).is_some_and(|container| match engine.root.load(&container) {
        Ok(state) => engine.root.status(&state) == Status::Stopped,
        Err(StateError::Unknown(_)) => true,
        // Nobody can say so of one whose state cannot be read.
        Err(_) => false,
    })
}

/// Gives an interface of the host's its other address.
///
/// # Errors
/// When the kernel refuses, which changes nothing.
pub(super) fn make(engine: &Engine, netlink: &Netlink, moved: &Move) -> Result<(), EngineError> {
    wire::readdress(netlink, &moved.interface, &moved.from, &moved.to).map_err(failed(moved))?;
    record(engine, moved, &moved.from, &moved.to)
}

/// Gives it back the one it had, unless the interface is gone, has neither any more, or somebody else has taken that address.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn undo(engine: &Engine, moved: &Move) -> Result<(), EngineError> {
    let netlink = engine
        .host_netlink()
        .map_err(|cause| failed(moved)(cause.into()))?;
    match take_back(engine, &netlink, moved) {
        // It has gone with its container, at whichever of the questions.
        Err(refused) if refused.errno == nix::errno::Errno::ENODEV => Ok(()),
        Err(refused) => Err(failed(moved)(refused)),
        Ok(false) => Ok(()),
        Ok(true) => record(engine, moved, &moved.to, &moved.from),
    }
}

/// Whether the interface has the address now that it had before.
fn take_back(engine: &Engine, netlink: &Netlink, moved: &Move) -> Result<bool, Refused> {
    // It was never moved; or somebody else has moved it since.
    if !wire::has_address(netlink, &moved.interface, &moved.to)? {
        return Ok(true);
    }
    let owner = loop {
        match wire::owner_of(netlink, moved.from.addr.ip) {
            // The link that had it went between the question and the answer.
            Err(refused) if refused.errno == nix::errno::Errno::ENODEV => {}
            other => break other?,
        }
    };
    match owner {
        Some(Owner::Local(_)) => return Ok(false),
        Some(Owner::OnWire(link)) if !is_dead(engine, &link) => return Ok(false),
        _ => {}
    }
    wire::readdress(netlink, &moved.interface, &moved.to, &moved.from)?;
    Ok(true)
}

fn failed(moved: &Move) -> impl FnOnce(Refused) -> EngineError + '_ {
    |cause| EngineError::Wire {
        container: "host".to_owned(),
        action: format!("move an address of {}", moved.interface),
        cause,
    }
}

/// Writes down which address the interface has now, in the state of the container whose wire it is. Its maker has written that
/// for the last time before there was an address.
fn record(engine: &Engine, moved: &Move, from: &EndAddr, to: &EndAddr) -> Result<(), EngineError> {
    let state = match engine.root.load(&moved.container) {
        Err(StateError::Unknown(_)) => return Ok(()),
        other => other?,
    };
    let Some((_lock, mut state)) = engine.root.lock(&state)? else {
        return Ok(());
    };
    let (from, to) = (from.addr.to_string(), to.addr.to_string());
    let ends = state.wires.iter_mut().flat_map(|wire| &mut wire.ends);
    for end in ends.filter(|end| end.container.is_none() && end.interface == moved.interface) {
        for addr in end.addresses.iter_mut().chain(&mut end.automatic) {
            if *addr == from {
                addr.clone_from(&to);
            }
        }
    }
    Ok(engine.root.save(&state)?)
}
