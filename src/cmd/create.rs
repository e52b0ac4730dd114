//! `tincan create`: a container from an OCI bundle, up to its start gate (runtime-spec runtime.md, Create).

use std::process::ExitCode;

use super::bundle::{self, BundleArgs};
use super::names::Names;
use super::plugins::Plugins;
use super::run::has_terminal;
use crate::engine::hold::Engine;
use crate::engine::user::Need;
use crate::plan::name::ContainerName;
use crate::plan::net::{NetSpec, Publish};

/// The arguments of `tincan create`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A wire, a place on a network, an interface of another kind, or a namespace, as `run` has it; added to what the bundle asks for
    #[arg(long, value_name = "VALUE")]
    net: Vec<NetSpec>,
    /// Ports of the host's that lead into the container on a network, or by pasta: [ADDR:]PORT[-PORT][:PORT][/tcp|udp|sctp]
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<Publish>,
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    plugins: Plugins,
    #[command(flatten)]
    bundle: BundleArgs,
    /// The container's name
    id: ContainerName,
}

/// Creates the container.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Make)?;
    let mut node = bundle::plan(engine, &args.id, &args.bundle, true, false)?;
    let asked = bundle::links(&node, args.net, args.publish)?;
    args.names.give(engine, &mut node, &asked.net)?;
    args.plugins.give(engine, &mut node)?;
    args.bundle.sockets.check(has_terminal(&node), true)?;
    bundle::raise(engine, node, &asked, &args.bundle)?;
    Ok(ExitCode::SUCCESS)
}
