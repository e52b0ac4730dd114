//! `tincan state`: what the specification calls querying (runtime-spec runtime.md, Query State).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::print_json;
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::hook::OCI_VERSION;
use crate::engine::state::{State, Status};
use crate::engine::user::{self, Need};
use crate::plan::name::ContainerName;

/// The arguments of `tincan state`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container
    id: ContainerName,
}

/// A container as `state` and `list` print it; the order of the fields is runc's, which callers' tests compare.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    oci_version: &'static str,
    /// Its name.
    pub id: ContainerName,
    /// Its first process; 0 when it is dead.
    pub pid: i32,
    /// Its status.
    pub status: Status,
    /// The bundle's directory.
    pub bundle: PathBuf,
    rootfs: PathBuf,
    /// When it was made.
    pub created: String,
    /// Whose it is, by the owner of its state directory; nothing where that has just gone.
    owner: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Shown {
    /// A container as it is now.
    pub fn of(engine: &Engine, state: State) -> Self {
        let status = engine.root.status(&state);
        let directory = fs::metadata(engine.root.directory(&state.id));
        Shown {
            oci_version: OCI_VERSION,
            pid: match (status, state.process) {
                (Status::Stopped, _) | (_, None) => 0,
                (_, Some(process)) => process.pid,
            },
            id: state.id,
            status,
            bundle: state.bundle,
            rootfs: state.rootfs,
            created: state.created,
            owner: directory.map_or_else(|_| String::new(), |it| user::owner(it.uid())),
            annotations: state.annotations,
        }
    }
}

/// Prints the container's state.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let state = engine.root.load(&args.id).map_err(EngineError::from)?;
    print_json(&Shown::of(engine, state))?;
    Ok(ExitCode::SUCCESS)
}
