//! `tincan link`: wires between running containers, or a container and the host, added and removed live.

use std::io::Write as _;
use std::process::ExitCode;

use super::dry_run::DryRun;
use super::net::HOST;
use super::{Format, Usage, aligned, net, print_json};
use crate::engine::error::EngineError;
use crate::engine::fault;
use crate::engine::hold::{Engine, enter_running};
use crate::engine::state::{EndRecord, Status, WireRecord};
use crate::engine::user::Need;
use crate::net::wire;
use crate::plan::name::{ContainerName, LinkName};
use crate::plan::net::{PairEnd, pair_wire};
use crate::plan::topology::{Place, Removal, Topology, Wire};
use crate::sys::process::ProcessId;

/// The arguments of `tincan link`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Put a wire between two running containers; `host` is the host
    Add {
        /// The two ends: NAME=ADDR[,ADDR…][,mac=,mtu=,gw=,route=,name=]
        #[arg(required = true, num_args = 2, value_names = ["END", "END"])]
        ends: Vec<PairEnd>,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Remove a wire by one of its ends
    Del {
        /// The container
        container: ContainerName,
        /// The interface in it
        interface: LinkName,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// List the wires of all running containers
    List {
        /// How to print
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        format: Format,
    },
}

/// Adds, removes or lists.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Add { ends, dry_run } => {
            let [first, second] = ends.as_slice() else {
                unreachable!("clap takes two ends");
            };
            return add(engine, first, second, &dry_run);
        }
        Verb::Del {
            container,
            interface,
            dry_run,
        } => return del(engine, container, interface, &dry_run),
        Verb::List { format } => list(engine, format)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn add(
    engine: &Engine,
    first: &PairEnd,
    second: &PairEnd,
    dry_run: &DryRun,
) -> anyhow::Result<ExitCode> {
    dry_run.become_root(engine, Need::Join)?;
    let right = "tincan link add ns1=10.0.0.1/24 ns2=10.0.0.2/24";
    if first.container == second.container {
        let both = format!("both ends are in {}", first.container);
        return Err(Usage::new(both, right).into());
    }
    if let Some(rootfs) = first.rootfs.as_ref().or(second.rootfs.as_ref()) {
        let word = format!("rootfs={} has no place here: both run already", rootfs.display());
        return Err(Usage::new(word, right).into());
    }
    let a = place(engine, first, second, dry_run)?;
    let b = place(engine, second, first, dry_run)?;
    let mut wire = pair_wire([(first, a.0, a.1), (second, b.0, b.1)])?;
    net::tell_whose(engine, &mut wire, [first, second]);
    let topology = Topology {
        wires: vec![wire],
        ..Topology::default()
    };
    if dry_run.is_asked() {
        return dry_run.print(engine, &topology);
    }
    let keeper = if first.container.as_str() == HOST { second } else { first };
    put(engine, &topology, &keeper.container)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the one wire of a topology, whose ends are there already, with its record, which this container keeps.
///
/// # Errors
/// When it cannot be made, or not be recorded; then it is not there.
pub fn put(engine: &Engine, topology: &Topology, keeper: &ContainerName) -> anyhow::Result<()> {
    // What is recorded of interfaces of these names is of wires that have gone by themselves.
    forget_gone(engine, &topology.wires[0])?;
    let adder = ProcessId::own()?;
    let pending = WireRecord::of(&topology.wires[0], topology, Some(adder));
    let root = &engine.root;
    root.record_link(keeper, &pending, adder).map_err(EngineError::from)?;
    if let Err(error) = engine.raise(topology) {
        root.forget_link(keeper, &pending).map_err(EngineError::from)?;
        return Err(error.into());
    }
    let done = WireRecord {
        pending: None,
        ..pending
    };
    let recorded = fault::at("link", 0)
        .map_err(|errno| EngineError::of_deed(keeper, "record the wire", errno))
        .and_then(|()| Ok(root.record_link(keeper, &done, adder)?));
    if let Err(error) = recorded {
        if let Some(own) = done.end_of(keeper) {
            // The record is the cause to tell; what cannot be undone now is pending, for `gc`.
            let removal = Removal {
                container: keeper.clone(),
                interface: own.interface.clone(),
            };
            let undoing = Topology {
                removals: vec![removal],
                ..Topology::default()
            };
            let _ = remove(engine, &undoing);
        }
        return Err(error.into());
    }
    Ok(())
}

/// Where an end is, and what its interface is called.
fn place(
    engine: &Engine,
    end: &PairEnd,
    far: &PairEnd,
    dry_run: &DryRun,
) -> anyhow::Result<(Place, LinkName)> {
    let (place, netlink) = if end.container.as_str() == HOST {
        (Place::Host, engine.host_netlink()?)
    } else {
        let (_netns, netlink) = enter_running(engine, &end.container)?;
        (Place::Running(end.container.clone()), netlink)
    };
    net::check_free(engine, &netlink, end, far, dry_run.remains())?;
    let name = match (&end.wire.name, &place) {
        (Some(name), _) => name.clone(),
        // An `eth<n>` on the host would look like hardware.
        (None, Place::Host) => net::free_host_interface(&netlink, &far.container)?,
        (None, _) => net::free_interface(&netlink)?,
    };
    Ok((place, name))
}

fn del(
    engine: &Engine,
    container: ContainerName,
    interface: LinkName,
    dry_run: &DryRun,
) -> anyhow::Result<ExitCode> {
    dry_run.become_root(engine, Need::Join)?;
    let removal = if container.as_str() == HOST {
        far_end(engine, interface)?
    } else {
        Removal { container, interface }
    };
    let topology = Topology {
        removals: vec![removal],
        ..Topology::default()
    };
    if dry_run.is_asked() {
        return dry_run.print(engine, &topology);
    }
    remove(engine, &topology)?;
    Ok(ExitCode::SUCCESS)
}

/// The container's end of the wire whose other end is this interface on the host.
fn far_end(engine: &Engine, interface: LinkName) -> anyhow::Result<Removal> {
    for (_, record) in records(engine)? {
        let [a, b] = &record.ends;
        for (end, far) in [(a, b), (b, a)] {
            if let (None, Some(container)) = (&end.container, &far.container)
                && end.interface == interface
            {
                return Ok(Removal {
                    container: container.clone(),
                    interface: far.interface.clone(),
                });
            }
        }
    }
    Err(Usage::new(
        format!("{interface} on the host is no end of a running container's wire"),
        "`tincan link list` shows which there are",
    )
    .into())
}

/// Removes wires, and the records of them.
///
/// # Errors
/// When one cannot be removed.
pub fn remove(engine: &Engine, topology: &Topology) -> anyhow::Result<()> {
    engine.raise(topology)?;
    for removal in &topology.removals {
        let Removal { container, interface } = removal;
        fault::at("unlink", 0)
            .map_err(|errno| EngineError::of_deed(container, "forget the wire", errno))?;
        forget(engine, |record| {
            let at = |end: &EndRecord| end.container.as_ref() == Some(container) && end.interface == *interface;
            record.ends.iter().any(at)
        })?;
    }
    Ok(())
}

/// Forgets what is recorded of wires that had the ends of this one, and are gone.
fn forget_gone(engine: &Engine, wire: &Wire) -> anyhow::Result<()> {
    let is_new = |end: &EndRecord| {
        wire.ends.iter().any(|new| {
            let same_place = match (&new.at, &end.container) {
                (Place::Host, None) => true,
                (Place::Running(container), Some(other)) => container == other,
                _ => false,
            };
            same_place && new.name == end.interface
        })
    };
    forget(engine, |record| {
        // Somebody else may be adding one of this name just now.
        record.ends.iter().any(is_new)
            && !record.pending.is_some_and(ProcessId::is_alive)
            && !record.ends.iter().all(|end| is_there(engine, end))
    })
}

/// Forgets the wires of which this holds.
///
/// # Errors
/// When a record cannot be removed.
pub fn forget(engine: &Engine, is_gone: impl Fn(&WireRecord) -> bool) -> anyhow::Result<()> {
    for (keeper, record) in records(engine)? {
        if is_gone(&record) {
            engine.root.forget_link(&keeper, &record).map_err(EngineError::from)?;
        }
    }
    Ok(())
}

/// The records of the wires of all containers that are up, each with the container that keeps it.
fn records(engine: &Engine) -> anyhow::Result<Vec<(ContainerName, WireRecord)>> {
    let mut found = Vec::new();
    for name in engine.root.names().map_err(EngineError::from)? {
        let Ok(state) = engine.root.load(&name) else {
            continue;
        };
        if engine.root.status(&state) == Status::Stopped {
            continue;
        }
        let wires = engine.root.wires(&state).map_err(EngineError::from)?;
        found.extend(wires.into_iter().map(|record| (name.clone(), record)));
    }
    Ok(found)
}

/// Whether both ends of a wire are there still: its containers run, and have the interfaces.
fn is_there(engine: &Engine, end: &EndRecord) -> bool {
    let netlink = match &end.container {
        None => engine.host_netlink().ok(),
        Some(name) => enter_running(engine, name).ok().map(|(_, netlink)| netlink),
    };
    netlink.is_some_and(|netlink| wire::link_by_name(&netlink, &end.interface).is_ok())
}

fn list(engine: &Engine, format: Format) -> anyhow::Result<()> {
    engine.become_root(Need::Join)?;
    let mut wires: Vec<WireRecord> = Vec::new();
    for (_, record) in records(engine)? {
        // A wire that two containers were born with is recorded with both.
        if !wires.contains(&record) && record.ends.iter().all(|end| is_there(engine, end)) {
            wires.push(record);
        }
    }
    if format == Format::Json {
        return print_json(&wires);
    }
    let mut table = vec![["END", "ADDRESSES", "END", "ADDRESSES"].map(str::to_owned)];
    for record in &wires {
        let [a, b] = record.ends.each_ref().map(|end| {
            let whose = end.container.as_ref().map_or(HOST, ContainerName::as_str);
            (format!("{whose}:{}", end.interface), end.addresses.join(", "))
        });
        table.push([a.0, a.1, b.0, b.1]);
    }
    std::io::stdout().write_all(aligned(&table).as_bytes())?;
    Ok(())
}
