//! `tincan pause`: freezes the processes of a container.

use std::process::ExitCode;

use crate::cgroup::Location;
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::state::{State, Status};
use crate::engine::user::Need;
use crate::plan::name::ContainerName;

/// The arguments of `tincan pause`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container
    id: ContainerName,
}

/// Freezes them all, and returns when they are.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let state = engine.root.load(&args.id).map_err(EngineError::from)?;
    match engine.root.status(&state) {
        Status::Created | Status::Running => {}
        Status::Creating | Status::Paused | Status::Stopped => {
            return Err(EngineError::NotRunning(args.id).into());
        }
    }
    let cgroup = own_cgroup(&state)?;
    cgroup
        .freeze()
        .map_err(|cause| EngineError::of_cgroup(&args.id, cause))?;
    Ok(ExitCode::SUCCESS)
}

/// The cgroup by which a container is frozen, thawed, and limited.
///
/// # Errors
/// When it has none of its own.
pub fn own_cgroup(state: &State) -> Result<&Location, EngineError> {
    let own = state.cgroup.as_ref();
    own.filter(|it| it.directories().next().is_some())
        .ok_or_else(|| EngineError::NoCgroup(state.id.clone()))
}
