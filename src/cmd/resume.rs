//! `tincan resume`: lets the processes of a paused container go on.

use std::process::ExitCode;

use super::pause::own_cgroup;
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::state::Status;
use crate::engine::user::Need;
use crate::plan::name::ContainerName;

/// The arguments of `tincan resume`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container
    id: ContainerName,
}

/// Thaws them all.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let state = engine.root.load(&args.id).map_err(EngineError::from)?;
    if engine.root.status(&state) != Status::Paused {
        return Err(EngineError::NotPaused(args.id).into());
    }
    let cgroup = own_cgroup(&state)?;
    cgroup
        .thaw()
        .map_err(|cause| EngineError::of_cgroup(&args.id, cause))?;
    Ok(ExitCode::SUCCESS)
}
