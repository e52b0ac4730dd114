//! `tincan link`: wires between running containers, or a container and the host, and interfaces of other kinds, added, changed and removed
//! live.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;

use serde::Serialize;

use super::dry_run::DryRun;
use super::link_set::{self as set, Set};
use super::net::HOST;
use super::{Format, Usage, aligned, net, print_json};
use crate::engine::error::EngineError;
use crate::engine::hold::{Engine, enter_running};
use crate::engine::state::{EndRecord, InterfaceRecord, Status, Undo, WireRecord};
use crate::engine::user::Need;
use crate::engine::{fault, loan, publish, undo};
use crate::net::wire::{self, Link};
use crate::plan::interface::{InterfaceKind, InterfaceSpec};
use crate::plan::name::{ContainerName, LinkName};
use crate::plan::net::{LinkEnd, PairEnd, host_link_alias, pair_wire};
use crate::plan::network::NetworkName;
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
    /// Put a wire between two running containers, or give one an interface of another kind; `host` is the host
    Add {
        /// The two ends, NAME=ADDR[,ADDR…][,mac=,mtu=,gw=,route=,name=]; or NAME=KIND as a value of --net, macvlan:eth0,192.0.2.7/24
        #[arg(required = true, num_args = 1..=2, value_names = ["END", "END"])]
        ends: Vec<LinkEnd>,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Change an interface of a running container
    Set(Set),
    /// Remove a wire by one of its ends, or an interface of another kind
    Del {
        /// The container
        container: ContainerName,
        /// The interface in it
        interface: LinkName,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// List the wires and other interfaces of all running containers
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
            return match ends.as_slice() {
                [LinkEnd::Wire(first), LinkEnd::Wire(second)] => {
                    add(engine, first, second, &dry_run)
                }
                [LinkEnd::Interface(container, spec)] => {
                    add_interface(engine, container, spec, &dry_run)
                }
                [LinkEnd::Wire(end)] => Err(Usage::new(
                    format!("the wire of {} has one end", end.container),
                    "tincan link add ns1=10.0.0.1/24 ns2=10.0.0.2/24",
                )
                .into()),
                _ => Err(Usage::new(
                    "an interface that is no wire has no other end",
                    "tincan link add ns1=macvlan:eth0,192.0.2.7/24",
                )
                .into()),
            };
        }
        Verb::Set(args) => return set::run(args, engine),
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
    let _locks = lock(engine, dry_run, [&first.container, &second.container])?;
    let right = "tincan link add ns1=10.0.0.1/24 ns2=10.0.0.2/24";
    if first.container == second.container {
        let both = format!("both ends are in {}", first.container);
        return Err(Usage::new(both, right).into());
    }
    if let Some(rootfs) = first.rootfs.as_ref().or(second.rootfs.as_ref()) {
        let word = format!(
            "rootfs={} has no place here: both run already",
            rootfs.display()
        );
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
    let keeper = if first.container.as_str() == HOST {
        second
    } else {
        first
    };
    put(engine, topology, &keeper.container)?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps others from changing the networks of these containers meanwhile; a dry run changes nothing.
///
/// # Errors
/// When one is not there.
pub fn lock<'a>(
    engine: &Engine,
    dry_run: &DryRun,
    containers: impl IntoIterator<Item = &'a ContainerName>,
) -> Result<Vec<OwnedFd>, EngineError> {
    if dry_run.is_asked() {
        return Ok(Vec::new());
    }
    let names = containers.into_iter().filter(|name| name.as_str() != HOST);
    Ok(engine.root.lock_networks(names)?)
}

fn add_interface(
    engine: &Engine,
    container: &ContainerName,
    spec: &InterfaceSpec,
    dry_run: &DryRun,
) -> anyhow::Result<ExitCode> {
    dry_run.become_root(engine, Need::Join)?;
    net::check_name(container)?;
    let _locks = lock(engine, dry_run, [container])?;
    let (netns, inside) = enter_running(engine, container)?;
    net::check_own_network(container, netns.as_fd())?;
    let name = match &spec.wire.name {
        Some(name) => name.clone(),
        None => net::free_interface(&inside)?,
    };
    net::check_new(&inside, container, &name, &spec.wire)?;
    let at = Place::Running(container.clone());
    let interface = net::interface(engine, spec, at, name)?;
    let topology = Topology {
        interfaces: vec![interface],
        ..Topology::default()
    };
    if dry_run.is_asked() {
        return dry_run.print(engine, &topology);
    }
    put_interface(engine, topology, container)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the one interface of a topology in a running container, with its record.
fn put_interface(
    engine: &Engine,
    mut topology: Topology,
    container: &ContainerName,
) -> anyhow::Result<()> {
    journal_lasting(engine, &mut topology)?;
    let root = &engine.root;
    let state = root.load(container).map_err(EngineError::from)?;
    let interface = &topology.interfaces[0];
    let adder = ProcessId::own()?;
    let pending = InterfaceRecord::of(interface, Some(adder));
    // What is recorded under this name is of one that has gone by itself.
    let recorded = root.interfaces(&state).map_err(EngineError::from)?;
    let is_gone = |old: &&InterfaceRecord| {
        old.interface == pending.interface && !old.pending.is_some_and(ProcessId::is_alive)
    };
    for old in recorded.iter().filter(is_gone) {
        root.forget_interface(container, old)
            .map_err(EngineError::from)?;
    }
    root.record_interface(container, &pending, adder)
        .map_err(EngineError::from)?;
    let made = || -> Result<(), EngineError> {
        if let Some(loan) = interface.kind.loan() {
            loan::begin(engine, &state, loan)?;
        }
        engine.raise(&topology)?;
        fault::at("link", 0)
            .map_err(|errno| EngineError::of_deed(container, "record the interface", errno))?;
        let done = InterfaceRecord {
            pending: None,
            ..pending.clone()
        };
        Ok(root.record_interface(container, &done, adder)?)
    };
    if let Err(error) = made() {
        // The first error is the one to tell; what cannot be undone now is pending, for `gc`.
        if let Ok(now) = root.load(container) {
            let _ = undo::clear_interface(engine, &now, &pending);
        }
        return Err(error.into());
    }
    Ok(())
}

/// Makes the one wire of a topology, whose ends are there already, with its record, which this container keeps.
///
/// # Errors
/// When it cannot be made, or not be recorded; then it is not there.
pub fn put(engine: &Engine, mut topology: Topology, keeper: &ContainerName) -> anyhow::Result<()> {
    journal_lasting(engine, &mut topology)?;
    // What is recorded of interfaces of these names is of wires that have gone by themselves.
    forget_gone(engine, &topology.wires[0])?;
    let adder = ProcessId::own()?;
    let pending = WireRecord::of(&topology.wires[0], &topology, Some(adder));
    let root = &engine.root;
    root.record_link(keeper, &pending, adder)
        .map_err(EngineError::from)?;
    if let Err(error) = engine.raise(&topology) {
        root.forget_link(keeper, &pending)
            .map_err(EngineError::from)?;
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

/// Makes a wire anew that has gone, and whose record this container has kept. That stays as it is, whatever comes: what of the wire is half made
/// is pending beside it.
///
/// # Errors
/// When it cannot be made; then it is not there.
pub fn put_again(
    engine: &Engine,
    mut topology: Topology,
    keeper: &ContainerName,
) -> anyhow::Result<()> {
    journal_lasting(engine, &mut topology)?;
    let adder = ProcessId::own()?;
    let pending = WireRecord::of(&topology.wires[0], &topology, Some(adder));
    let root = &engine.root;
    root.record_link(keeper, &pending, adder)
        .map_err(EngineError::from)?;
    let made = engine.raise(&topology).map(drop).and_then(|()| {
        fault::at("rewire", 0)
            .map_err(|errno| EngineError::of_deed(keeper, "make the wire anew", errno))
    });
    root.forget_link(keeper, &pending)
        .map_err(EngineError::from)?;
    Ok(made?)
}

/// Writes down, in the journals of containers that run in namespaces that they have joined, that these links are to be taken away with them.
/// One that is gone by then is known by its address, so that no other of its name is taken for it.
fn journal_lasting(engine: &Engine, topology: &mut Topology) -> Result<(), EngineError> {
    let root = &engine.root;
    let ends = topology.wires.iter().flat_map(|wire| &wire.ends);
    let ends = ends.chain(topology.interfaces.iter().map(|it| &it.end));
    let running: BTreeSet<ContainerName> = ends
        .filter_map(|end| match &end.at {
            Place::Running(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    for name in running {
        let state = root.load(&name)?;
        let Some(path) = &state.netns else {
            continue;
        };
        let at = Place::Running(name.clone());
        topology.mark_lasting_links(&at, |interface| {
            host_link_alias(&name, interface, root.path())
        });
        let links = topology.lasting_links(&at, path);
        publish::journal(engine, &state, |undo| {
            for deed in links.into_iter().map(Undo::Link) {
                if !undo.contains(&deed) {
                    undo.push(deed);
                }
            }
        })?;
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
        (Place::Running(end.container.clone()), Rc::new(netlink))
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
        Removal {
            container,
            interface,
        }
    };
    refuse_place_on_network(engine, &removal)?;
    let topology = Topology {
        removals: vec![removal],
        ..Topology::default()
    };
    if dry_run.is_asked() {
        return dry_run.print(engine, &topology);
    }
    let Removal {
        container,
        interface,
    } = &topology.removals[0];
    let _locks = lock(engine, dry_run, [container])?;
    let state = engine.root.load(container).map_err(EngineError::from)?;
    let others = engine.root.interfaces(&state).map_err(EngineError::from)?;
    match others.into_iter().find(|it| it.interface == *interface) {
        Some(InterfaceRecord {
            kind: InterfaceKind::Phys { device, loan: None },
            ..
        }) => {
            let what = format!(
                "{interface} is {device} of the host, which the bundle has given {container} for good"
            );
            return Err(Usage::new(what, "its `linux.netDevices` says so").into());
        }
        // What is lent comes back whatever it is called there by now.
        Some(record)
            if record.kind.loan().is_some() || is_there_in(engine, container, interface) =>
        {
            fault::at("unlink", 0)
                .map_err(|errno| EngineError::of_deed(container, "remove the interface", errno))?;
            undo::clear_interface(engine, &state, &record)?;
        }
        _ => remove(engine, &topology)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses to take a container's wire to a network for a wire alone: its addresses, its names and its ports would stay.
fn refuse_place_on_network(engine: &Engine, removal: &Removal) -> anyhow::Result<()> {
    let Removal {
        container,
        interface,
    } = removal;
    let is_it =
        |end: &EndRecord| end.container.as_ref() == Some(container) && end.interface == *interface;
    for (_, record) in records(engine)? {
        let network = record.ends.iter().find_map(|end| end.network.as_ref());
        if let (Some(network), true) = (network, record.ends.iter().any(is_it)) {
            return Err(Usage::new(
                format!("{interface} of {container} is its place on network {network}"),
                format!("`tincan network disconnect {network} {container}` takes it off"),
            )
            .into());
        }
    }
    Ok(())
}

/// The container's end of the wire whose other end is this interface on the host.
pub(super) fn far_end(engine: &Engine, interface: LinkName) -> anyhow::Result<Removal> {
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
        let Removal {
            container,
            interface,
        } = removal;
        fault::at("unlink", 0)
            .map_err(|errno| EngineError::of_deed(container, "forget the wire", errno))?;
        forget(engine, |record| {
            let at = |end: &EndRecord| {
                end.container.as_ref() == Some(container) && end.interface == *interface
            };
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
            engine
                .root
                .forget_link(&keeper, &record)
                .map_err(EngineError::from)?;
        }
    }
    Ok(())
}

/// The records of the wires of all containers that are up, each with the container that keeps it.
pub(super) fn records(engine: &Engine) -> anyhow::Result<Vec<(ContainerName, WireRecord)>> {
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
    match &end.container {
        None => engine
            .host_netlink()
            .is_ok_and(|netlink| wire::link_by_name(&netlink, &end.interface).is_ok()),
        Some(name) => is_there_in(engine, name, &end.interface),
    }
}

fn is_there_in(engine: &Engine, container: &ContainerName, interface: &LinkName) -> bool {
    enter_running(engine, container)
        .is_ok_and(|(_, netlink)| wire::link_by_name(&netlink, interface).is_ok())
}

/// What the list has: a wire, or an interface of another kind.
#[derive(Serialize)]
#[serde(untagged)]
enum Row {
    Wire {
        ends: [Shown; 2],
    },
    Interface {
        #[serde(flatten)]
        end: Shown,
        /// As a value of `--net` begins.
        kind: String,
    },
}

/// An interface in the list.
#[derive(Serialize)]
struct Shown {
    /// Its container; none is the host.
    container: Option<ContainerName>,
    /// The network whose bridge it is a port of.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<NetworkName>,
    interface: LinkName,
    /// By the kernel's word.
    addresses: Vec<String>,
}

impl Shown {
    /// None where the interface is not there any more.
    fn of(
        links: &Links,
        container: Option<&ContainerName>,
        network: Option<&NetworkName>,
        interface: &LinkName,
    ) -> Option<Self> {
        let links = links.0.get(&container.cloned())?;
        let link = links.iter().find(|link| link.name == interface.as_str())?;
        let addrs = link.addrs.iter().filter(|addr| !addr.is_link_local());
        Some(Shown {
            container: container.cloned(),
            network: network.cloned(),
            interface: interface.clone(),
            addresses: addrs.map(|found| found.addr.to_string()).collect(),
        })
    }

    fn columns(&self) -> [String; 2] {
        let whose = self.container.as_ref().map_or(HOST, ContainerName::as_str);
        let end = format!("{whose}:{}", self.interface);
        [end, self.addresses.join(", ")]
    }
}

/// The interfaces of the host, and of all running containers.
struct Links(BTreeMap<Option<ContainerName>, Vec<Link>>);

impl Links {
    fn read(engine: &Engine, containers: &[ContainerName]) -> anyhow::Result<Self> {
        let host = engine.host_netlink()?;
        let mut links = BTreeMap::from([(None, wire::links(&host)?)]);
        for name in containers {
            // One that has ended since has none.
            if let Ok((_, netlink)) = enter_running(engine, name) {
                links.insert(Some(name.clone()), wire::links(&netlink)?);
            }
        }
        Ok(Links(links))
    }
}

fn list(engine: &Engine, format: Format) -> anyhow::Result<()> {
    engine.become_root(Need::Join)?;
    let names = engine.root.names().map_err(EngineError::from)?;
    let links = Links::read(engine, &names)?;
    let mut wires: Vec<WireRecord> = Vec::new();
    let mut rows = Vec::new();
    for (_, record) in records(engine)? {
        // A wire that two containers were born with is recorded with both.
        if wires.contains(&record) {
            continue;
        }
        let shown = record.ends.each_ref().map(|end| {
            let (container, network) = (end.container.as_ref(), end.network.as_ref());
            Shown::of(&links, container, network, &end.interface)
        });
        wires.push(record);
        if let [Some(a), Some(b)] = shown {
            rows.push(Row::Wire { ends: [a, b] });
        }
    }
    for name in &names {
        let Ok(state) = engine.root.load(name) else {
            continue;
        };
        for record in engine.root.interfaces(&state).map_err(EngineError::from)? {
            if let Some(end) = Shown::of(&links, Some(name), None, &record.interface) {
                let kind = record.kind.to_string();
                rows.push(Row::Interface { end, kind });
            }
        }
    }
    if format == Format::Json {
        return print_json(&rows);
    }
    let mut table = vec![["END", "ADDRESSES", "END", "ADDRESSES"].map(str::to_owned)];
    table.extend(rows.iter().map(|row| match row {
        Row::Wire { ends: [a, b] } => {
            let [[a, b], [c, d]] = [a.columns(), b.columns()];
            [a, b, c, d]
        }
        Row::Interface { end, kind } => {
            let [a, b] = end.columns();
            [a, b, kind.clone(), String::new()]
        }
    }));
    std::io::stdout().write_all(aligned(&table).as_bytes())?;
    Ok(())
}
