//! `tincan network connect` and `disconnect`: running containers come to networks, and leave them; and what `reload` does for them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use super::{link, net};
use crate::engine::error::EngineError;
use crate::engine::fault;
use crate::engine::hold::{Engine, enter_running};
use crate::engine::names;
use crate::engine::network::NetworkStateError;
use crate::engine::publish;
use crate::engine::state::{EndRecord, State, StateError, Status, Undo, WireRecord};
use crate::engine::undo;
use crate::net::netlink::{Netlink, gone_is_fine};
use crate::net::wire;
use crate::plan::name::{ContainerName, IfAddr, LinkName};
use crate::plan::net::{WireSpec, host_link_alias};
use crate::plan::network::{Lease, Network, NetworkName, NetworkSpec, PortEnd};
use crate::plan::tenant::Tenant;
use crate::plan::topology::{Change, End, Place, Removal, Topology};

/// Puts a running container on a network.
///
/// # Errors
/// When that is not to be had; then it is not on it.
pub fn connect(
    engine: &Engine,
    spec: &NetworkSpec,
    container: &ContainerName,
    aliases: &[ContainerName],
) -> anyhow::Result<()> {
    let (netns, inside) = enter_running(engine, container)?;
    net::check_own_network(container, netns.as_fd())?;
    let _lock = engine
        .root
        .lock_networks([container])
        .map_err(EngineError::from)?;
    let state = engine.root.load(container).map_err(EngineError::from)?;
    if !interfaces(engine, &state, &inside, &spec.network)?.is_empty() {
        let (container, network) = (container.clone(), spec.network.clone());
        return Err(EngineError::from(NetworkStateError::Joined { container, network }).into());
    }
    // What a connection that was killed has left.
    leave(engine, &state, &spec.network)?;
    let (wire, leases) = net::connect(engine, &inside, container, spec)?;
    let topology = Topology {
        wires: vec![wire],
        ..Topology::default()
    };
    let step = |step| {
        fault::at("connect", step)
            .map_err(|errno| EngineError::of_deed(container, "connect", errno))
    };
    step(0)?;
    publish::journal(engine, &state, |undo| {
        // First, so that they are given back last.
        undo.splice(0..0, leases.iter().cloned().map(Undo::Lease));
    })?;
    engine.keep(&leases);
    let done = step(1)
        .map_err(anyhow::Error::from)
        .and_then(|()| link::put(engine, topology, container))
        .and_then(|()| Ok(step(2)?))
        .and_then(|()| {
            let networks = engine.root.networks();
            networks
                .announce(&leases, container, aliases)
                .map_err(EngineError::from)?;
            Ok(names::follow_networks(engine, container)?)
        });
    if done.is_err() {
        // The first error is the one to tell; what stays is in the journal.
        let _ = disconnect_locked(engine, &spec.network, container);
    }
    done
}

/// Makes the wires of a network's running containers anew that somebody has taken away, as they were made, and raises those that are down.
///
/// # Errors
/// The first failure, after everything else was tried.
pub fn rewire(engine: &Engine, network: &Network) -> anyhow::Result<()> {
    let leased = engine.root.networks().leased(&network.name);
    let tenants = leased.map_err(EngineError::from)?.into_iter();
    let containers: BTreeSet<ContainerName> = tenants
        .filter_map(|(_, holder)| match holder.tenant {
            Tenant::Container(name) => Some(name),
            // Its own runtime finds it out, by CHECK.
            Tenant::Attachment(_) => None,
        })
        .collect();
    let mut failure = None;
    for container in containers {
        let Ok(state) = engine.root.load(&container) else {
            continue;
        };
        // One that is being made has its maker, who makes its wires.
        if !engine.root.is_complete(&container) {
            continue;
        }
        let done = rewire_one(engine, network, &state);
        // Who has ended meanwhile needs none.
        if let Err(error) = done
            && engine.root.status(&state) != Status::Stopped
        {
            failure.get_or_insert(error);
        }
    }
    failure.map_or(Ok(()), Err)
}

fn rewire_one(engine: &Engine, network: &Network, seen: &State) -> anyhow::Result<()> {
    let container = &seen.id;
    let _lock = match engine.root.lock_networks([container]) {
        Err(StateError::Unknown(_)) => return Ok(()),
        other => other.map_err(EngineError::from)?,
    };
    let state = engine.root.load(container).map_err(EngineError::from)?;
    // Of another that has got its name since, perhaps nothing is made yet.
    if state.process != seen.process || engine.root.status(&state) == Status::Stopped {
        return Ok(());
    }
    // What a reload has left half made that was killed.
    undo::clear_half_links(engine, &state, &mut Vec::new())?;
    let host = engine.host_netlink()?;
    let (_netns, inside) = enter_running(engine, container)?;
    for record in engine.root.wires(&state).map_err(EngineError::from)? {
        let (Some(port), Some(near)) = (record.end_on_host(), record.end_of(container)) else {
            continue;
        };
        // One that is being added is its adder's.
        let is_ours = is_to(&record, &network.name) && record.pending.is_none();
        if !is_ours {
            continue;
        }
        if let Ok(link) = wire::link_by_name(&host, &port.interface) {
            if !link.up {
                gone_is_fine(wire::raise(&host, link.index))?;
            }
            continue;
        }
        let addrs: Vec<IfAddr> = near
            .addresses
            .iter()
            .map(|addr| addr.parse())
            .collect::<Result<_, _>>()?;
        let spec = NetworkSpec {
            network: network.name.clone(),
            addrs: Vec::new(),
            wire: WireSpec {
                mac: near.mac,
                mtu: near.mtu,
                ..WireSpec::default()
            },
        };
        let end = PortEnd {
            name: port.interface.clone(),
            alias: host_link_alias(container, &near.interface, engine.root.path()),
            // Those that it had are among its routes.
            default_v4: false,
            default_v6: false,
        };
        let at = Place::Running(container.clone());
        let ips: Vec<IpAddr> = addrs.iter().map(|addr| addr.ip).collect();
        let mut wire = network.wire(&spec, &ips, at, near.interface.clone(), end);
        let publishes = state.published().any(|one| one.network == network.name);
        let mut routes = near.routes.clone();
        for v4 in [true, false] {
            // The way out is by another link since.
            if wire::has_default_route(&inside, v4)? {
                routes.retain(|route| route.to != IfAddr::everything(v4));
            }
        }
        for end in &mut wire.ends {
            match &mut end.port {
                Some(port) => port.reflects = publishes,
                None => end.routes.clone_from(&routes),
            }
        }
        let topology = Topology {
            wires: vec![wire],
            ..Topology::default()
        };
        link::put_again(engine, topology, container)?;
    }
    Ok(())
}

/// Takes a container off a network, with its wire, its addresses, its names there, and the ports that are published by it. Where the way out
/// was by it, it is by another of the container's networks from then on.
///
/// # Errors
/// When it is not on it, or something of it cannot be undone.
pub fn disconnect(
    engine: &Engine,
    network: &NetworkName,
    container: &ContainerName,
) -> anyhow::Result<()> {
    let _lock = engine
        .root
        .lock_networks([container])
        .map_err(EngineError::from)?;
    disconnect_locked(engine, network, container)
}

fn disconnect_locked(
    engine: &Engine,
    network: &NetworkName,
    container: &ContainerName,
) -> anyhow::Result<()> {
    let state = engine.root.load(container).map_err(EngineError::from)?;
    engine
        .root
        .networks()
        .load(network)
        .map_err(EngineError::from)?;
    let (_netns, inside) = enter_running(engine, container)?;
    let found = interfaces(engine, &state, &inside, network)?;
    if found.is_empty() && !state.leases().any(|lease| lease.network == *network) {
        let (container, network) = (container.clone(), network.clone());
        return Err(EngineError::from(NetworkStateError::NotJoined { container, network }).into());
    }
    let step = |step| {
        fault::at("disconnect", step)
            .map_err(|errno| EngineError::of_deed(container, "disconnect", errno))
    };
    step(0)?;
    publish::withdraw(engine, &state, network)?;
    step(1)?;
    let links = found
        .iter()
        .filter_map(|it| wire::link_by_name(&inside, it).ok());
    let its: Vec<u32> = links.map(|link| link.index).collect();
    // As it is now: it may have come over from another, and what somebody has taken away does not come back.
    let mut led = Vec::new();
    for v4 in [true, false] {
        let way_out = wire::way_out(&inside, v4)?;
        if way_out.is_some_and(|index| its.contains(&index)) {
            led.push(v4);
        }
    }
    let removals = found.into_iter().map(|interface| Removal {
        container: container.clone(),
        interface,
    });
    let topology = Topology {
        removals: removals.collect(),
        ..Topology::default()
    };
    link::remove(engine, &topology)?;
    step(2)?;
    leave(engine, &state, network)?;
    for v4 in led {
        lead_by_another(engine, &inside, container, v4)?;
    }
    Ok(names::follow_networks(engine, container)?)
}

/// Gives a container a default route by the first of its networks that leads out, where it has none any more.
fn lead_by_another(
    engine: &Engine,
    inside: &Netlink,
    container: &ContainerName,
    v4: bool,
) -> anyhow::Result<()> {
    if wire::has_default_route(inside, v4)? {
        return Ok(());
    }
    let state = engine.root.load(container).map_err(EngineError::from)?;
    for lease in state.leases().filter(|lease| lease.ip.is_ipv4() == v4) {
        let network = engine.root.networks().load(&lease.network);
        let network = network.map_err(EngineError::from)?;
        let interface = interfaces(engine, &state, inside, &network.name)?;
        let route = network.default_route(v4, &[lease.ip]);
        let (Some(route), Some(interface)) = (route, interface.first()) else {
            continue;
        };
        let at = Place::Running(container.clone());
        let change = Change {
            container: container.clone(),
            end: End {
                routes: vec![route],
                ..End::bare(at, interface.clone())
            },
            up: None,
            lost_addrs: Vec::new(),
            lost_routes: Vec::new(),
        };
        let topology = Topology {
            changes: vec![change],
            ..Topology::default()
        };
        engine.raise(&topology)?;
        break;
    }
    Ok(())
}

/// The container's ends of its wires to a network that are there.
fn interfaces(
    engine: &Engine,
    state: &State,
    inside: &Netlink,
    network: &NetworkName,
) -> anyhow::Result<Vec<LinkName>> {
    let wires = engine.root.wires(state).map_err(EngineError::from)?;
    let near = wires
        .iter()
        .filter(|record| is_to(record, network))
        .filter_map(|record| record.end_of(&state.id));
    let is_there = |end: &&EndRecord| wire::link_by_name(inside, &end.interface).is_ok();
    Ok(near
        .filter(is_there)
        .map(|end| end.interface.clone())
        .collect())
}

fn is_to(record: &WireRecord, network: &NetworkName) -> bool {
    record
        .ends
        .iter()
        .any(|end| end.network.as_ref() == Some(network))
}

/// Gives back a container's addresses of a network, forgets what is recorded of its wires there, and takes both out of its journal.
fn leave(engine: &Engine, state: &State, network: &NetworkName) -> anyhow::Result<()> {
    let id = &state.id;
    link::forget(engine, |record| {
        record.end_of(id).is_some() && is_to(record, network)
    })?;
    let leases: Vec<Lease> = state
        .leases()
        .filter(|lease| lease.network == *network)
        .cloned()
        .collect();
    if leases.is_empty() {
        return Ok(());
    }
    let networks = engine.root.networks();
    networks
        .give_back(&leases, &Tenant::from(id))
        .map_err(EngineError::from)?;
    publish::journal(engine, state, |undo| {
        undo.retain(|deed| !matches!(deed, Undo::Lease(lease) if lease.network == *network));
    })?;
    Ok(())
}
