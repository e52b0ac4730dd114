//! `tincan start`: opens the start gate of a created container.

use std::process::ExitCode;

use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::user::Need;
use crate::plan::name::ContainerName;

/// The arguments of `tincan start`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container
    id: ContainerName,
}

/// Starts the workload and returns when it runs.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let state = engine.root.load(&args.id).map_err(EngineError::from)?;
    engine.start(&state)?;
    Ok(ExitCode::SUCCESS)
}
