//! `tincan ps`: the processes of a container.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, ExitCode};

use super::{Format, print_json};
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::state::{State, Status};
use crate::engine::user::Need;
use crate::plan::name::ContainerName;

/// The arguments of `tincan ps`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// The container
    id: ContainerName,
    /// Options of ps(1), by which it prints [default: -ef]
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "OPTIONS"
    )]
    options: Vec<String>,
}

/// Prints their numbers, or the lines of ps(1) that are theirs.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let state = engine.root.load(&args.id).map_err(EngineError::from)?;
    if matches!(
        engine.root.status(&state),
        Status::Stopped | Status::Creating
    ) {
        return Err(EngineError::NotRunning(args.id).into());
    }
    let pids = pids(&state)?;
    if args.format == Format::Json {
        print_json(&pids)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut ps = Command::new("ps");
    if args.options.is_empty() {
        ps.arg("-ef");
    }
    let output = ps.args(&args.options).output();
    let output = output.map_err(|cause| anyhow::anyhow!("ps: {cause}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("ps: {}: {}", output.status, said.trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split_whitespace().position(|word| word == "PID") else {
        anyhow::bail!("ps prints no column PID with these options; a right one is -ef");
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{header}")?;
    for line in lines {
        let pid = line.split_whitespace().nth(column);
        if pid
            .and_then(|pid| pid.parse().ok())
            .is_some_and(|pid| pids.contains(&pid))
        {
            writeln!(out, "{line}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The processes of a container: those in its cgroup, or else those in its pid namespace.
fn pids(state: &State) -> anyhow::Result<BTreeSet<i32>> {
    let cgroup = state.cgroup.as_ref();
    if let Some(cgroup) = cgroup.filter(|it| it.directories().next().is_some()) {
        let pids = cgroup
            .pids()
            .map_err(|cause| EngineError::of_cgroup(&state.id, cause))?;
        return Ok(pids.into_iter().collect());
    }
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let first = state.process.map_or(0, |process| process.pid);
    let theirs = namespace(&first.to_string())?;
    if theirs == namespace("self")? {
        return Ok(BTreeSet::from([first]));
    }
    let mut pids = BTreeSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        // Those that are gone meanwhile, or are somebody else's, are none.
        if let Some(name) = name.to_str()
            && let Ok(pid) = name.parse()
            && namespace(name).is_ok_and(|it| it == theirs)
        {
            pids.insert(pid);
        }
    }
    Ok(pids)
}
