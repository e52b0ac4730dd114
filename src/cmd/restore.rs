//! `tincan restore`: a container from its bundle and what `checkpoint` has kept of its processes.

use std::process::ExitCode;

use super::bundle::{self, BundleArgs};
use super::checkpoint::{CriuArgs, find};
use super::run::{finish, has_terminal};
use super::{Usage, names};
use crate::engine::checkpoint::{follow_sources, prepare, search_path};
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::supervise::Session;
use crate::plan::checkpoint::{self, RECORD, RESTORE_LOG, Record};
use crate::plan::name::ContainerName;

/// The arguments of `tincan restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    criu: CriuArgs,
    /// Return when the container runs
    #[arg(short, long)]
    detach: bool,
    /// Another profile of the security module, as TYPE:NAME
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// Another SELinux label of mounts
    #[arg(long, value_name = "LABEL")]
    lsm_mount_context: Option<String>,
    #[command(flatten)]
    bundle: BundleArgs,
    /// The container's name
    id: ContainerName,
}

/// Restores the container, and in the foreground waits for it.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    let mut settings = args.criu.settings()?;
    let criu = find(engine, "restore")?;
    let path = settings.images.join(RECORD);
    let record = std::fs::read(&path).map_err(|cause| {
        Usage::new(
            format!("{}: {cause}", path.display()),
            "`tincan checkpoint --image-path DIR` makes such a directory",
        )
    })?;
    let record: Record = serde_json::from_slice(&record)
        .map_err(|cause| anyhow::anyhow!("{}: {cause}", path.display()))?;
    for (option, given) in [
        ("--lsm-profile", &args.lsm_profile),
        ("--lsm-mount-context", &args.lsm_mount_context),
    ] {
        if let Some(value) = given {
            settings
                .passed_on
                .extend([option.to_owned(), value.clone()]);
        }
    }
    let mut node = bundle::plan(engine, &args.id, &args.bundle, false, false)?;
    checkpoint::check(&node)?;
    follow_sources(&mut node);
    let mut asked = bundle::links(&node, Vec::new(), Vec::new())?;
    record.pin(&mut asked.net, &mut asked.publish);
    names::Names::default().give(engine, &mut node, &asked.net)?;
    let env = vec![format!("PATH={}", search_path())];
    args.bundle
        .sockets
        .check(has_terminal(&node), args.detach)?;
    checkpoint::restore(
        &mut node,
        &criu.display().to_string(),
        env,
        &record,
        &settings,
        &engine.root.directory(&args.id),
    )?;
    prepare(&settings, RESTORE_LOG).map_err(EngineError::from)?;
    let up = bundle::raise(engine, node, &asked, &args.bundle)?;
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    finish(engine, up, Session::Own, false)
}
