//! `tincan list`: every container with its state, its addresses and whom it is wired to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use serde::Serialize;

use super::state::Shown;
use super::{Format, aligned, print_json};
use crate::engine::error::EngineError;
use crate::engine::hold::{Engine, enter_running};
use crate::engine::state::{StateError, Status, WireRecord};
use crate::engine::user::Need;
use crate::net::wire::{self, Link};
use crate::plan::name::{ContainerName, LinkName};
use crate::plan::network::NetworkName;
use crate::sys::netns;

/// The arguments of `tincan list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the names only
    #[arg(short, long)]
    quiet: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

/// A container in the list: its state, and what is known of its network.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    shown: Shown,
    /// `eth0 172.16.0.1/16`, by the kernel's word, for a container that is up and has a network namespace of its own.
    addresses: Vec<String>,
    /// `eth0 ns2:eth0`: interface, and what is at the other end of its wire.
    peers: Vec<String>,
}

/// Prints the list.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let names = engine.root.names().map_err(EngineError::from)?;
    let mut out = std::io::stdout().lock();
    if args.quiet {
        for name in names {
            writeln!(out, "{name}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = rows(engine, &names)?;
    match args.format {
        Format::Json => print_json(&rows)?,
        Format::Table => {
            let header = [
                "ID",
                "PID",
                "STATUS",
                "ADDRESSES",
                "PEERS",
                "BUNDLE",
                "CREATED",
            ];
            let mut table = vec![header.map(str::to_owned)];
            table.extend(rows.iter().map(|row| {
                [
                    row.shown.id.to_string(),
                    row.shown.pid.to_string(),
                    row.shown.status.to_string(),
                    row.addresses.join(", "),
                    row.peers.join(", "),
                    row.shown.bundle.display().to_string(),
                    row.shown.created.clone(),
                ]
            }));
            out.write_all(aligned(&table).as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(engine: &Engine, names: &[ContainerName]) -> anyhow::Result<Vec<Row>> {
    let mut states = Vec::new();
    for name in names {
        match engine.root.load(name) {
            Ok(state) => states.push(state),
            // Deleted since the names were read.
            Err(StateError::Unknown(_)) => {}
            // The others are there all the same.
            Err(error) => complain!("tincan: {error}"),
        }
    }
    let live: BTreeSet<ContainerName> = states
        .iter()
        .filter(|state| engine.root.status(state) != Status::Stopped)
        .map(|state| state.id.clone())
        .collect();
    let mut peers = BTreeMap::new();
    for state in states.iter().filter(|state| live.contains(&state.id)) {
        for record in engine.root.wires(state).map_err(EngineError::from)? {
            note_peers(&record, &live, &mut peers);
        }
    }
    let mut rows = Vec::new();
    for state in states {
        let links = if live.contains(&state.id) {
            links(engine, &state.id)?
        } else {
            Vec::new()
        };
        let mut peers = peers.remove(&state.id).unwrap_or_default();
        // The others have gone by themselves.
        peers.retain(|(interface, _)| links.iter().any(|link| link.name == interface.as_str()));
        let peer = |(interface, whom)| format!("{interface} {whom}");
        rows.push(Row {
            addresses: addresses(&links),
            peers: peers.into_iter().map(peer).collect(),
            shown: Shown::of(engine, state),
        });
    }
    Ok(rows)
}

/// Notes at both ends of a wire who is at the other. A wire whose other container is gone is gone as well.
fn note_peers(
    record: &WireRecord,
    live: &BTreeSet<ContainerName>,
    peers: &mut BTreeMap<ContainerName, BTreeSet<(LinkName, String)>>,
) {
    let all_live = record
        .ends
        .iter()
        .filter_map(|end| end.container.as_ref())
        .all(|name| live.contains(name));
    if !all_live {
        return;
    }
    let [a, b] = &record.ends;
    for (near, far) in [(a, b), (b, a)] {
        let Some(name) = &near.container else {
            continue;
        };
        let network = far.network.as_ref().map_or("host", NetworkName::as_str);
        let whom = far
            .container
            .as_ref()
            .map_or(network, ContainerName::as_str);
        peers
            .entry(name.clone())
            .or_default()
            .insert((near.interface.clone(), format!("{whom}:{}", far.interface)));
    }
}

/// The interfaces of a container with a network namespace of its own.
fn links(engine: &Engine, name: &ContainerName) -> anyhow::Result<Vec<Link>> {
    match enter_running(engine, name) {
        Ok((netns, netlink)) if !netns::is_current(netns.as_fd())? => Ok(wire::links(&netlink)?),
        // On the host's own network; or ended while we were looking.
        Ok(_) | Err(EngineError::NotRunning(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The addresses of interfaces, but for loopback and the kernel's link-local ones.
fn addresses(links: &[Link]) -> Vec<String> {
    let is_link_local = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let others = links.iter().filter(|link| link.name != "lo");
    others
        .flat_map(|link| {
            let addrs = link
                .addrs
                .iter()
                .filter(|addr| !is_link_local(addr.addr.ip));
            addrs.map(|addr| format!("{} {addr}", link.name))
        })
        .collect()
}
