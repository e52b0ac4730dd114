//! Undoing: what the kernel does not free with the container's processes. A failed start, `delete`, `gc` and the end of a
//! `run` all come here; absent is success, failures are collected, nothing stops half-way.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::io::Errno;
use serde::Serialize;

use super::attachment;
use super::dns;
use super::error::{EngineError, describe};
use super::fault;
use super::give_way;
use super::hold::{Engine, enter_running, oci_state};
use super::hook;
use super::loan;
use super::network;
use super::outside;
use super::plugin;
use super::publish;
use super::resctrl;
use super::state::{EndRecord, InterfaceRecord, State, StateError, Status, Undo};
use crate::net::netlink::{Netlink, Refused, gone_is_fine};
use crate::net::wire::{self, Link};
use crate::plan::interface::Loan;
use crate::plan::name::{ContainerName, LinkName};
use crate::plan::net::Publish;
use crate::plan::network::NetworkName;
use crate::plan::tenant::{AttachmentId, Tenant};
use crate::plan::topology::{LastingLink, Origin};
use crate::sys::errno_of;
use crate::sys::netns;
use crate::sys::process::{self, ProcessId};

/// Where `ip netns` looks for names (ip-netns(8)).
const NETNS_DIR: &str = "/run/netns";

/// How long a process that ends may take to be gone, in milliseconds: it may have much memory to give back.
pub(super) const END_LIMIT: u64 = 10_000;

/// How long a process that was killed before takes to be gone, in milliseconds.
const MOMENT: u64 = 100;

/// Gives a process's network namespace a name for `ip netns`: a symbolic link, so that the namespace goes with the process
/// and not with the name. (A bind mount, as `ip netns add` makes it, would keep the namespace and its links alive.)
///
/// # Errors
/// `EXIST` when there is such a name already.
pub fn name_netns(name: &str, pid: i32) -> Result<(), Errno> {
    let target = format!("/proc/{pid}/ns/net");
    let link = Path::new(NETNS_DIR).join(name);
    match rustix::fs::symlink(&target, &link) {
        Err(Errno::NOENT) => {
            fs::create_dir_all(NETNS_DIR).map_err(|e| errno_of(&e))?;
            rustix::fs::symlink(&target, &link)
        }
        other => other,
    }
}

/// Removes such a name, if it is a link of ours; and the directory, if that was the last name in it.
fn remove_netns_name(name: &str) -> io::Result<()> {
    let link = Path::new(NETNS_DIR).join(name);
    match fs::symlink_metadata(&link) {
        Ok(found) if found.is_symlink() => fs::remove_file(&link)?,
        _ => {}
    }
    // Not empty, or a mount of iproute2's own: then it stays.
    let _ = fs::remove_dir(NETNS_DIR);
    Ok(())
}

/// Undoes everything in a container's journal, and forgets the container. Its processes are dead. Of two who do this at once
/// the second finds it done, even when the name is another container's by then.
///
/// # Errors
/// [`EngineError::Undo`] with everything that could not be undone; then the state stays for the next attempt.
pub fn undo(engine: &Engine, state: &State) -> Result<(), EngineError> {
    // Others have written to its journal since it was read, perhaps.
    match engine.root.lock(state)? {
        Some((_lock, now)) => perform(engine, &now),
        None => Ok(()),
    }
}

/// The same for a container that is being made, whose maker knows best what there is of it.
///
/// # Errors
/// As [`undo`].
pub(super) fn undo_half_made(engine: &Engine, state: &State) -> Result<(), EngineError> {
    match engine.root.lock(state)? {
        Some((_lock, _)) => perform(engine, state),
        None => Ok(()),
    }
}

fn perform(engine: &Engine, state: &State) -> Result<(), EngineError> {
    let mut causes = Vec::new();
    // Before its addresses are given back.
    if let Err(error) = cut_wires(engine, state) {
        causes.push(error.to_string());
    }
    let mut deeds = state.undo.iter().rev().enumerate().peekable();
    while let Some((step, deed)) = deeds.next() {
        if let Err(errno) = fault::at("undo", step) {
            causes.push(describe(errno));
            continue;
        }
        match deed {
            Undo::Cgroup(location) => {
                // Without a process nobody of ours can be in it: who is in it is somebody else's.
                let removed = match state.process {
                    Some(_) => location.remove_killing(),
                    None => location.remove(),
                };
                if let Err(failures) = removed {
                    causes.extend(failures.iter().map(ToString::to_string));
                }
            }
            Undo::Control(directory) => {
                if let Err(errno) = resctrl::remove(directory) {
                    let directory = directory.display();
                    causes.push(format!("remove {directory}: {}", describe(errno)));
                }
            }
            Undo::Scope(unit) => {
                if let Err(failed) = unit.stop() {
                    causes.push(failed.to_string());
                }
            }
            Undo::Move(moved) => {
                if let Err(error) = give_way::undo(engine, moved) {
                    causes.push(error.to_string());
                }
            }
            Undo::Plugins(netns, network) => {
                // A file that nothing is mounted on is no namespace.
                let opened = fs::File::open(netns).and_then(|it| Netlink::open_in(it.as_fd()));
                let netns = opened.map_or(Path::new(""), |_| netns);
                if let Err(failed) = plugin::del(&state.id, network, netns) {
                    causes.extend(failed.iter().map(ToString::to_string));
                }
            }
            Undo::Link(link) => {
                if let Err(error) = remove_lasting(engine, &state.id, link) {
                    causes.push(error.to_string());
                }
            }
            Undo::Lease(lease) => {
                let mut leases = vec![lease];
                // Those that follow go with it: the names of a large network are gone through once.
                while let Some((step, Undo::Lease(next))) = deeds.peek() {
                    match fault::at("undo", *step) {
                        Ok(()) => leases.push(next),
                        Err(errno) => causes.push(describe(errno)),
                    }
                    deeds.next();
                }
                let networks = engine.root.networks();
                if let Err(error) = networks.give_back(leases, &Tenant::from(&state.id)) {
                    causes.push(error.to_string());
                }
            }
            Undo::OwnFiles => {
                if let Err(error) = engine.root.networks().remove_own(&state.id) {
                    causes.push(error.to_string());
                }
            }
            Undo::Publish(published) => {
                if let Err(error) = publish::undo(engine, &Tenant::from(&state.id), published) {
                    causes.push(error.to_string());
                }
            }
            Undo::Loan(loan) => {
                if let Err(error) = loan::take_back(engine, &state.id, loan) {
                    causes.push(error.to_string());
                }
            }
            Undo::Pin => {
                // Not before everything has come back from there.
                if causes.is_empty()
                    && let Err(errno) = loan::unpin(engine, &state.id)
                {
                    causes.push(format!("let its network namespace go: {}", describe(errno)));
                }
            }
            Undo::Outside => {
                if let Err(errno) = outside::end(&engine.root.directory(&state.id)) {
                    causes.push(format!("end pasta: {}", describe(errno)));
                }
            }
            Undo::NetnsName(name) => {
                if let Err(cause) = remove_netns_name(name) {
                    causes.push(format!("remove {NETNS_DIR}/{name}: {cause}"));
                }
            }
        }
    }
    if !causes.is_empty() {
        return Err(EngineError::Undo {
            container: state.id.clone(),
            causes,
        });
    }
    fault::at("undo", state.undo.len())
        .map_err(|errno| EngineError::of_deed(&state.id, "forget it", errno))?;
    Ok(engine.root.forget(&state.id)?)
}

/// Cuts a dead container's wires where its network namespace lives on without it: for a TCP connection that it closed and whose
/// other side has not said that it knows (`tcp_orphan_retries`, ip-sysctl.rst), or for somebody who is in there. It would still answer for its
/// addresses, which are somebody else's next. The far ends are taken down, in 0.2 ms; to delete them takes 15–30 ms, and the
/// kernel does so with the namespace, or [`gc`]. Of a server the namespace lives an RCU grace period longer than its processes, so that this
/// is no rare case.
fn cut_wires(engine: &Engine, state: &State) -> Result<(), EngineError> {
    for record in engine.root.wires(state)? {
        let far = |end: &&EndRecord| end.container.as_ref() != Some(&state.id);
        let Some(end) = record.ends.iter().find(far) else {
            continue;
        };
        let failed = |cause| EngineError::Wire {
            container: state.id.to_string(),
            action: format!("take the link {} down", end.interface),
            cause,
        };
        let netlink = match &end.container {
            None => engine.host_netlink().map_err(|e| failed(e.into()))?,
            Some(other) => match enter_running(engine, other) {
                Ok((_netns, netlink)) => Rc::new(netlink),
                // Its end of the wire has gone with it.
                Err(EngineError::NotRunning(_) | EngineError::State(StateError::Unknown(_))) => {
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        // The ends of a `pair` have no alias, and no others of these names are in their place.
        let is_ours = |link: &Link| match give_way::container_of(engine, link) {
            None => link.alias.is_none() && end.container.is_some(),
            Some(container) => container == state.id,
        };
        let cut = || match wire::link_by_name(&netlink, &end.interface)? {
            link if is_ours(&link) && wire::is_far_end_alive(&netlink, &link)? => {
                wire::take_down(&netlink, link.index)
            }
            _ => Ok(()),
        };
        gone_is_fine(cut()).map_err(failed)?;
    }
    Ok(())
}

/// Takes away a link in a namespace that stays; absent is success, and so is another of its name.
fn remove_lasting(
    engine: &Engine,
    container: &ContainerName,
    link: &LastingLink,
) -> Result<(), EngineError> {
    // A user's host goes with the last container, and with it all links that lead there.
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let failed = |cause: Refused| EngineError::Wire {
        container: container.to_string(),
        action: format!("take the link {} away", link.interface),
        cause,
    };
    let netlink = match &link.netns {
        None => engine
            .host_netlink()
            .map_err(|cause| failed(cause.into()))?,
        Some(path) => {
            let joined = engine.join_network();
            joined.map_err(|errno| failed(io::Error::from(errno).into()))?;
            let opened = fs::File::open(path).and_then(|netns| Netlink::open_in(netns.as_fd()));
            match opened {
                // It is gone, and with it all that was in it: the path too, or what is left of a mount (setns(2), EINVAL).
                Err(cause) if matches!(errno_of(&cause), Errno::NOENT | Errno::INVAL) => {
                    return Ok(());
                }
                other => Rc::new(other.map_err(|cause| failed(cause.into()))?),
            }
        }
    };
    match wire::link_by_name(&netlink, &link.interface) {
        Ok(found) if link.mac.is_none() || found.mac == link.mac => {}
        Ok(_) => return Ok(()),
        Err(refused) => return gone_is_fine(Err(refused)).map_err(failed),
    }
    gone_is_fine(wire::delete(&netlink, &link.interface)).map_err(failed)
}

/// Clears away what a stopped `run -- CMD` or `pair` of this name left, so that the name is free. Anything else stays.
///
/// # Errors
/// [`StateError::Taken`] when somebody has the name; as [`undo`].
pub fn make_way(engine: &Engine, name: &ContainerName) -> Result<(), EngineError> {
    match engine.root.load(name) {
        Ok(state) => match remainder(engine, &state) {
            Some(remainder) => {
                kill(&remainder)?;
                undo(engine, &remainder)
            }
            None => Err(StateError::Taken {
                name: name.clone(),
                status: engine.root.status(&state),
            }
            .into()),
        },
        // None, or one that cannot be read, which the claim will not replace.
        Err(_) => Ok(()),
    }
}

/// Clears away what is left of a tenant, so that its addresses and ports are free. Anything else stays.
///
/// # Errors
/// As [`make_way`] and [`attachment::make_way`].
pub fn make_way_of(engine: &Engine, tenant: &Tenant) -> Result<(), EngineError> {
    match tenant {
        Tenant::Container(name) => make_way(engine, name),
        Tenant::Attachment(id) => attachment::make_way(engine, id),
    }
}

/// A container as it is now, if it is what a killed or finished run left: nobody waits for it, and nobody will delete it.
fn remainder(engine: &Engine, state: &State) -> Option<State> {
    let mut creator = state.creator;
    let state = loop {
        if creator.is_alive() {
            return None;
        }
        // What was read while the maker lived may be old: it can have made the container whole since, and gone.
        let now = engine.root.load(&state.id).ok()?;
        if now.creator == creator {
            break now;
        }
        creator = now.creator;
    };
    // One that is bound to its maker is dying already, when that is gone; and nobody was ever told of one that was not made
    // to the end.
    let left = state.bound
        || !engine.root.is_complete(&state.id)
        || (state.origin == Origin::Command && engine.root.status(&state) == Status::Stopped);
    left.then_some(state)
}

/// Ends a container's first process, and with it all of its pid namespace, and waits until it is gone.
///
/// # Errors
/// When it is not gone in time.
pub fn kill(state: &State) -> Result<(), EngineError> {
    let Some(pidfd) = state.process.and_then(ProcessId::open) else {
        return Ok(());
    };
    let failed = |errno| EngineError::of_deed(&state.id, "kill its process", errno);
    match process::signal(pidfd.as_fd(), libc::SIGKILL) {
        Err(Errno::SRCH) => return Ok(()),
        other => other.map_err(failed)?,
    }
    if let Some(location) = &state.cgroup {
        location
            .let_killed_go()
            .map_err(|cause| EngineError::of_cgroup(&state.id, cause))?;
    }
    if process::wait_dead(pidfd.as_fd(), END_LIMIT).map_err(failed)? {
        Ok(())
    } else {
        Err(failed(Errno::TIMEDOUT))
    }
}

/// Whether a container's first process is dead, or becomes so in a moment.
fn dies_now(state: &State) -> Result<bool, EngineError> {
    let Some(pidfd) = state.process.and_then(ProcessId::open) else {
        return Ok(state.process.is_some());
    };
    let dead = process::wait_dead(pidfd.as_fd(), MOMENT);
    dead.map_err(|errno| EngineError::of_deed(&state.id, "wait for its process", errno))
}

/// Deletes a container: with `force` a living one too. The poststop hooks run afterwards; what goes wrong in them is told,
/// but undoes nothing (runtime-spec runtime.md, Lifecycle 13).
///
/// # Errors
/// [`EngineError::WrongStatus`] for a living one without `force`; as [`undo`].
pub fn delete(engine: &Engine, state: &State, force: bool) -> Result<(), EngineError> {
    let status = engine.root.status(state);
    match status {
        Status::Stopped => {}
        _ if force => kill(state)?,
        // One that was killed a moment ago.
        _ if dies_now(state)? => {}
        // A created one too, which runc would kill: it is not stopped (runtime.md, Delete).
        status => {
            return Err(EngineError::WrongStatus {
                container: state.id.clone(),
                verb: "delete",
                status,
            });
        }
    }
    undo(engine, state)?;
    poststop(engine, state);
    Ok(())
}

/// Runs the hooks that come after a container's end.
pub(super) fn poststop(engine: &Engine, state: &State) {
    let told = oci_state(state, Status::Stopped, 0);
    for hook in &state.poststop {
        if let Err(failed) = hook::run("poststop", hook, &told) {
            engine.warn(&format!("{}: {failed}", state.id));
        }
    }
}

/// Something that [`gc`] cleared away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cleared {
    /// A container that a killed or finished run left.
    Container(ContainerName),
    /// A claim that was never finished.
    Draft(PathBuf),
    /// An interface that CNI had attached: its namespace is gone, or it was never finished.
    Attachment(AttachmentId),
    /// A wire that was being added when its tincan was killed, or the far end of one whose container is gone while its network namespace
    /// lives on: the container and the interface.
    Link(ContainerName, LinkName),
    /// What was left on the host of a network whose removal was killed.
    Network(NetworkName),
    /// An address of a network that was taken for a container which never was.
    Lease(NetworkName, IpAddr),
    /// A port of the host's that was taken for a container which never was.
    Port(Publish),
}

/// Clears away what killed runs left: claims that were not finished, containers that nobody waits for and nobody can still
/// start, wires that were half added. What runs, or was made by `create` and is whole, stays.
///
/// # Errors
/// The first failure, after everything else was tried.
pub fn gc(engine: &Engine) -> Result<Vec<Cleared>, EngineError> {
    let mut cleared = Vec::new();
    let mut failure = None;
    let networks = engine.root.networks();
    let drafts = [
        engine.root.drafts()?,
        networks.drafts()?,
        engine.root.attachments().drafts()?,
    ];
    for (path, creator) in drafts.into_iter().flatten() {
        if !creator.is_alive() {
            // Of a network's removal that was killed.
            if dns::end(&path).is_err() {
                continue;
            }
            match fs::remove_dir_all(&path) {
                Ok(()) => cleared.push(Cleared::Draft(path)),
                Err(cause) => failure = Some(StateError::File { path, cause }.into()),
            }
        }
    }
    for name in engine.root.names()? {
        let state = match engine.root.load(&name) {
            Ok(state) => state,
            // Deleted by somebody else since the names were read.
            Err(StateError::Unknown(_)) => continue,
            Err(error) => {
                failure = Some(error.into());
                continue;
            }
        };
        if let Some(remainder) = remainder(engine, &state) {
            match kill(&remainder).and_then(|()| undo(engine, &remainder)) {
                Ok(()) => cleared.push(Cleared::Container(name)),
                Err(error) => failure = Some(error),
            }
            continue;
        }
        if let Err(error) = clear_half_links(engine, &state, &mut cleared) {
            failure = Some(error);
        }
    }
    if let Err(error) = clear_cut_wires(engine, &mut cleared) {
        failure = Some(error);
    }
    for clear in [attachment::clear_dead, attachment::clear_orphans] {
        match clear(engine) {
            Ok(all) => cleared.extend(all.into_iter().map(Cleared::Attachment)),
            Err(error) => failure = Some(error),
        }
    }
    // Those of the containers above are given back by now.
    for network in networks.all()? {
        match networks.clear_stale(&network.name) {
            Ok(leases) => {
                cleared.extend(
                    leases
                        .into_iter()
                        .map(|it| Cleared::Lease(it.network, it.ip)),
                );
            }
            Err(error) => failure = Some(error.into()),
        }
    }
    match network::clear_orphans(engine) {
        Ok(names) => cleared.extend(names.into_iter().map(Cleared::Network)),
        Err(error) => failure = Some(error.into()),
    }
    match networks.clear_stale_ports() {
        Ok(ports) => cleared.extend(ports.into_iter().map(Cleared::Port)),
        Err(error) => failure = Some(error.into()),
    }
    if networks.path.is_dir() {
        match networks.lock() {
            Ok(_lock) => networks.tidy(),
            Err(error) => failure = Some(error.into()),
        }
    }
    failure.map_or(Ok(cleared), Err)
}

/// Removes the links of a container whose adding was never finished.
///
/// # Errors
/// When one cannot be removed, or its record.
pub fn clear_half_links(
    engine: &Engine,
    state: &State,
    cleared: &mut Vec<Cleared>,
) -> Result<(), EngineError> {
    for record in engine.root.wires(state)? {
        let Some(adder) = record.pending else {
            continue;
        };
        let Some(own) = record.end_of(&state.id) else {
            continue;
        };
        if adder.is_alive() {
            continue;
        }
        if engine.root.status(state) != Status::Stopped {
            delete_link(engine, &state.id, &own.interface)?;
        }
        engine.root.forget_link(&state.id, &record)?;
        cleared.push(Cleared::Link(state.id.clone(), own.interface.clone()));
    }
    for record in engine.root.interfaces(state)? {
        let Some(adder) = record.pending else {
            continue;
        };
        if adder.is_alive() {
            continue;
        }
        clear_interface(engine, state, &record)?;
        let interface = record.interface.clone();
        cleared.push(Cleared::Link(state.id.clone(), interface));
    }
    Ok(())
}

/// Deletes what [`cut_wires`] left, on the host and in containers that run, where it is still there.
fn clear_cut_wires(engine: &Engine, cleared: &mut Vec<Cleared>) -> Result<(), EngineError> {
    let failed = |cause: Refused| EngineError::Wire {
        container: "host".to_owned(),
        action: "find and delete the ends of wires whose containers are gone".to_owned(),
        cause,
    };
    let mut sites = vec![engine.host_netlink().map_err(|e| failed(e.into()))?];
    for name in engine.root.names()? {
        // What has just ended has no links any more.
        sites.extend(enter_running(engine, &name).map(|(_netns, netlink)| Rc::new(netlink)));
    }
    let of_nobody = |link: &Link| {
        let container = give_way::container_of(engine, link)?;
        let state = engine.root.load(&container);
        matches!(state, Err(StateError::Unknown(_))).then_some(container)
    };
    let mut waited = false;
    for netlink in sites {
        let mut left = wire::links(&netlink).map_err(failed)?;
        left.retain(|link| of_nobody(link).is_some());
        if !left.is_empty() && !waited {
            netns::let_sockets_go();
            waited = true;
        }
        for link in left {
            // Those of a namespace that dies are on their way out.
            if let (Some(container), Ok(interface)) = (of_nobody(&link), link.name.parse())
                && wire::is_far_end_alive(&netlink, &link).map_err(failed)?
            {
                gone_is_fine(wire::delete(&netlink, &interface)).map_err(failed)?;
                cleared.push(Cleared::Link(container, interface));
            }
        }
    }
    Ok(())
}

/// Takes an interface of another kind from a container, and forgets it; absent is success.
///
/// # Errors
/// When it cannot be taken away.
pub fn clear_interface(
    engine: &Engine,
    state: &State,
    record: &InterfaceRecord,
) -> Result<(), EngineError> {
    let ours = |loan: &Loan| loan.interface == record.interface;
    let came_back = loan::end(engine, state, ours)?;
    if !came_back && engine.root.status(state) != Status::Stopped {
        delete_link(engine, &state.id, &record.interface)?;
        // In a namespace that is joined, what has its name from now on is somebody else's.
        let is_its = |deed: &Undo| matches!(deed, Undo::Link(link) if link.netns.is_some() && link.interface == record.interface);
        if state.undo.iter().any(is_its) {
            publish::journal(engine, state, |undo| undo.retain(|deed| !is_its(deed)))?;
        }
    }
    Ok(engine.root.forget_interface(&state.id, record)?)
}

/// Deletes a link in a running container; absent is success.
fn delete_link(
    engine: &Engine,
    container: &ContainerName,
    interface: &LinkName,
) -> Result<(), EngineError> {
    let (_netns, netlink) = enter_running(engine, container)?;
    gone_is_fine(wire::delete(&netlink, interface)).map_err(|cause| EngineError::Wire {
        container: container.to_string(),
        action: format!("delete the link {interface}"),
        cause,
    })
}
