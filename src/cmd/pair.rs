//! `tincan pair`: two containers and one wire, with nothing on the host.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use super::dry_run::DryRun;
use super::run::{Rootfs, Tail, over_host, over_rootfs, session_of};
use super::{Usage, net};
use crate::engine::error::EngineError;
use crate::engine::hold::{Engine, enter_running};
use crate::engine::state::{StateError, Status};
use crate::engine::supervise::supervise;
use crate::engine::undo;
use crate::engine::user::Need;
use crate::plan::name::LinkName;
use crate::plan::net::{PairEnd, default_name, pair_wire};
use crate::plan::topology::{Place, Topology};

/// The arguments of `tincan pair`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The root file system of both, where an end has no `rootfs=` of its own; writes are thrown away
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    #[command(flatten)]
    dry_run: DryRun,
    /// The first container: NAME=ADDR[,ADDR…][,mac=,mtu=,gw=,route=,name=,rootfs=]
    first: PairEnd,
    /// The second container
    second: PairEnd,
    /// A command to run in the first; both containers go with it
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Starts those of the two that do not run, wires them, and runs the command.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    args.dry_run.become_root(engine, Need::Make)?;
    if args.first.container == args.second.container {
        return Err(Usage::new(
            format!("both ends are in {}", args.first.container),
            "tincan pair ns1=172.16.0.1/16 ns2=172.16.0.2/16",
        )
        .into());
    }
    for end in [&args.first, &args.second] {
        net::check_name(&end.container)?;
    }
    let command = (!args.command.is_empty()).then_some(args.command.as_slice());
    let mut topology = Topology::default();
    let first = place(
        engine,
        &args,
        [&args.first, &args.second],
        command,
        &mut topology,
    )?;
    if let (Place::Running(name), true) = (&first.0, command.is_some()) {
        return Err(Usage::new(
            format!("{name} runs already, and takes no command from `pair`"),
            format!("`tincan exec {name} COMMAND` runs one there"),
        )
        .into());
    }
    let second = place(
        engine,
        &args,
        [&args.second, &args.first],
        None,
        &mut topology,
    )?;
    let mut wire = pair_wire([
        (&args.first, first.0, first.1),
        (&args.second, second.0, second.1),
    ])?;
    net::tell_whose(engine, &mut wire, [&args.first, &args.second]);
    topology.wires.push(wire);
    if topology.nodes.is_empty() {
        return Err(Usage::new(
            "both containers run already",
            format!(
                "`tincan link add` puts a wire between {} and {}",
                args.first.container, args.second.container
            ),
        )
        .into());
    }
    if args.dry_run.is_asked() {
        return args.dry_run.print(engine, &topology);
    }
    let mut up = engine.raise(&topology)?.into_iter();
    if command.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let first = up.next().expect("the first node has the command");
    let session = session_of(&topology.nodes[0]);
    let ended = supervise(first.pidfd.as_fd(), session, first.console)
        .map_err(|errno| anyhow::anyhow!("{}: wait for it: {errno}", first.state.id))?;
    undo::delete(engine, &first.state, true)?;
    for other in up {
        undo::delete(engine, &other.state, true)?;
    }
    Ok(ExitCode::from(ended.shell_code()))
}

/// Where an end is, a node of its own for a container that does not run; and its interface's name there.
fn place(
    engine: &Engine,
    args: &Args,
    [end, far]: [&PairEnd; 2],
    command: Option<&[String]>,
    topology: &mut Topology,
) -> anyhow::Result<(Place, LinkName)> {
    if !args.dry_run.is_asked() {
        match undo::make_way(engine, &end.container) {
            // It is wired as it is, if it runs.
            Err(EngineError::State(StateError::Taken { .. })) => {}
            other => other?,
        }
    }
    let runs = engine
        .root
        .load(&end.container)
        .is_ok_and(|state| matches!(engine.root.status(&state), Status::Running | Status::Paused));
    if runs {
        let (_netns, netlink) = enter_running(engine, &end.container)?;
        net::check_free(engine, &netlink, end, far, args.dry_run.remains())?;
        let name = match &end.wire.name {
            Some(name) => name.clone(),
            None => net::free_interface(&netlink)?,
        };
        return Ok((Place::Running(end.container.clone()), name));
    }
    let shared = BTreeSet::new();
    let tail = Tail {
        // Both go with the command; without one, both stay.
        detach: args.command.is_empty(),
        preserve_fds: 0,
    };
    let node = match end.rootfs.as_ref().or(args.rootfs.as_ref()) {
        None => over_host(engine, &end.container, &shared, command, tail)?,
        Some(path) => {
            let rootfs = Rootfs {
                path,
                read_only: false,
                writable: false,
                tty: false,
                tun: false,
            };
            over_rootfs(engine, &end.container, &shared, &rootfs, command, tail)?
        }
    };
    topology.nodes.push(node);
    let name = end.wire.name.clone().unwrap_or_else(|| default_name(0));
    Ok((Place::Node(topology.nodes.len() - 1), name))
}
