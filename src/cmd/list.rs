//! `tincan list`: every container with its state, its addresses and whom it is wired to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::state::Shown;
use super::{Format, aligned, need_root, print_json};
use crate::engine::error::EngineError;
use crate::engine::hold::{Engine, enter_running};
use crate::engine::state::{StateError, Status, WireRecord};
use crate::net::wire;
use crate::plan::name::ContainerName;

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
    need_root()?;
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
            let header = ["ID", "PID", "STATUS", "ADDRESSES", "PEERS", "BUNDLE", "CREATED"];
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
            Err(error) => return Err(EngineError::from(error).into()),
        }
    }
    let live: BTreeSet<ContainerName> = states
        .iter()
        .filter(|state| engine.root.status(state) != Status::Stopped)
        .map(|state| state.id.clone())
        .collect();
    let mut peers: BTreeMap<ContainerName, BTreeSet<String>> = BTreeMap::new();
    for state in states.iter().filter(|state| live.contains(&state.id)) {
        for record in engine.root.wires(state).map_err(EngineError::from)? {
            note_peers(&record, &live, &mut peers);
        }
    }
    let mut rows = Vec::new();
    for state in states {
        let addresses = if live.contains(&state.id) {
            addresses(engine, &state.id)?
        } else {
            Vec::new()
        };
        rows.push(Row {
            addresses,
            peers: peers.remove(&state.id).into_iter().flatten().collect(),
            shown: Shown::of(engine, state),
        });
    }
    Ok(rows)
}

/// Notes at both ends of a wire who is at the other. A wire whose other container is gone is gone as well.
fn note_peers(
    record: &WireRecord,
    live: &BTreeSet<ContainerName>,
    peers: &mut BTreeMap<ContainerName, BTreeSet<String>>,
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
        let whom = far.container.as_ref().map_or("host", ContainerName::as_str);
        peers
            .entry(name.clone())
            .or_default()
            .insert(format!("{} {whom}:{}", near.interface, far.interface));
    }
}

/// The addresses that a container's interfaces have, but for loopback and the kernel's link-local ones.
fn addresses(engine: &Engine, name: &ContainerName) -> anyhow::Result<Vec<String>> {
    let netlink = match enter_running(&engine.root, name) {
        Ok((netns, netlink)) if !is_ours(&netns)? => netlink,
        // On the host's own network; or ended while we were looking.
        Ok(_) | Err(EngineError::NotRunning(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let links = wire::links(&netlink)?;
    Ok(links
        .iter()
        .filter(|link| link.name != "lo")
        .flat_map(|link| {
            link.addrs
                .iter()
                .filter(|addr| match addr.addr.ip {
                    std::net::IpAddr::V6(ip) => !ip.is_unicast_link_local(),
                    std::net::IpAddr::V4(_) => true,
                })
                .map(move |addr| format!("{} {}", link.name, addr))
        })
        .collect())
}

/// Whether a network namespace is the one that tincan runs in.
fn is_ours(netns: &std::os::fd::OwnedFd) -> anyhow::Result<bool> {
    let ours = rustix::fs::stat("/proc/self/ns/net")?;
    let theirs = rustix::fs::fstat(netns)?;
    Ok((ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino))
}
