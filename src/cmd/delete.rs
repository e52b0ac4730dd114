//! `tincan delete`: undoes a container.

use std::process::ExitCode;

use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::state::StateError;
use crate::engine::undo;
use crate::engine::user::Need;
use crate::plan::name::ContainerName;

/// The arguments of `tincan delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kill it first if it runs; a container that does not exist is no error
    #[arg(short, long)]
    force: bool,
    /// The container
    id: ContainerName,
}

/// Deletes the container.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let state = match engine.root.load(&args.id) {
        Err(StateError::Unknown(_)) if args.force => return Ok(ExitCode::SUCCESS),
        other => other.map_err(EngineError::from)?,
    };
    undo::delete(engine, &state, args.force)?;
    Ok(ExitCode::SUCCESS)
}
