//! `--dry-run`: the plan, and for every network action the iproute2 line that does the same by hand.

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::net::Remains;
use super::{Format, print_json};
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::state::Undo;
use crate::engine::user::Need;
use crate::plan::iproute2::{self, Known};
use crate::plan::name::ContainerName;
use crate::plan::topology::{HostStep, Topology};

/// The options of a dry run.
#[derive(Debug, clap::Args)]
pub struct DryRun {
    /// Print what would be done, with the iproute2 lines that do the same to the network, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How a dry run prints
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        requires = "dry_run"
    )]
    format: Format,
}

/// A plan, for programs.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    topology: &'a Topology,
    /// What the engine does, in this order: the indices are those of the topology's lists.
    host_steps: Vec<HostStep>,
    /// The same to the network by hand.
    iproute2: Vec<String>,
    /// And what takes that away again.
    iproute2_undo: Vec<String>,
}

/// How a running container's network namespace can be had by hand. Planning has found it running; should it have gone since,
/// the line with its old process says so when it is run.
fn known(engine: &Engine, name: &ContainerName) -> Known {
    let state = engine.root.load(name).ok();
    let named = state.as_ref().and_then(|state| {
        state.undo.iter().find_map(|deed| match deed {
            Undo::NetnsName(name) => Some(name.clone()),
            _ => None,
        })
    });
    let process = state.and_then(|state| state.process);
    named.map_or_else(
        || Known::Process(process.map_or(0, |process| process.pid)),
        Known::Named,
    )
}

impl DryRun {
    /// Whether one was asked for.
    pub fn is_asked(&self) -> bool {
        self.dry_run
    }

    /// Refuses to go on without root, but for a dry run: whoever may look at what it asks about may plan.
    ///
    /// # Errors
    /// As [`Engine::become_root`].
    pub fn become_root(&self, engine: &Engine, need: Need) -> Result<(), EngineError> {
        engine.become_root(if self.dry_run { Need::Join } else { need })
    }

    /// What to do with the ends of dead containers.
    pub fn remains(&self) -> Remains {
        if self.dry_run {
            Remains::Overlook
        } else {
            Remains::Clear
        }
    }

    /// Prints the plan.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn print(&self, engine: &Engine, topology: &Topology) -> anyhow::Result<ExitCode> {
        let known = |name: &ContainerName| known(engine, name);
        let lines = iproute2::lines(topology, &known);
        let undo_lines = iproute2::undo_lines(topology, &known);
        let host_steps = topology.host_steps();
        if self.format == Format::Json {
            print_json(&Shown {
                topology,
                host_steps,
                iproute2: lines,
                iproute2_undo: undo_lines,
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut out = std::io::stdout().lock();
        for step in host_steps {
            let (whose, what) = topology.describe(step);
            writeln!(out, "# tincan: {whose}: {what}")?;
        }
        for node in &topology.nodes {
            for step in &node.steps {
                writeln!(out, "# {}: {step}", node.name)?;
            }
        }
        for line in lines {
            writeln!(out, "{line}")?;
        }
        for line in undo_lines {
            writeln!(out, "# to undo: {line}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
