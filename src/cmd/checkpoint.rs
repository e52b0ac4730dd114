//! `tincan checkpoint`: keeps the processes of a container in files, by CRIU; and what `restore` has in common with it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::Usage;
use crate::engine::checkpoint;
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::user::Need;
use crate::plan::checkpoint::{CgroupsMode, DUMP_LOG, Extent, Settings};
use crate::plan::name::ContainerName;

/// The arguments of `tincan checkpoint`.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)] // podman gives `--leave-running` twice
pub struct Args {
    #[command(flatten)]
    criu: CriuArgs,
    /// Let the container go on
    #[arg(long)]
    leave_running: bool,
    /// Keep what is in memory alone, for a checkpoint that comes later, and let the container go on
    #[arg(long)]
    pre_dump: bool,
    /// A directory of --pre-dump, relative to that of the images
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Leave out connections that are being made
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Link files that are open and have no name any more
    #[arg(long)]
    link_remap: bool,
    /// Not done: pages go into the directory of images
    #[arg(long, hide = true, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// Not done
    #[arg(long, hide = true, value_name = "FD")]
    status_fd: Option<i32>,
    /// The container
    id: ContainerName,
}

/// The options of CRIU that a checkpoint and the way back both have, as runc has them.
#[derive(Debug, clap::Args)]
pub struct CriuArgs {
    /// The directory of images
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    pub image_path: PathBuf,
    /// Where CRIU works and has its log [default: that of the images]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// With connections of TCP
    #[arg(long)]
    tcp_established: bool,
    /// With sockets that lead to others outside
    #[arg(long)]
    ext_unix_sk: bool,
    /// With the caller's terminal
    #[arg(long)]
    shell_job: bool,
    /// With locks of files
    #[arg(long)]
    file_locks: bool,
    /// What CRIU does with cgroups below the container's
    #[arg(long, value_name = "MODE", default_value = "ignore")]
    manage_cgroups_mode: CgroupsMode,
    /// Changes nothing for `network`, which tincan makes; others are not done
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    empty_ns: Vec<String>,
    /// Give the disk back what later images have
    #[arg(long)]
    auto_dedup: bool,
    /// Not done: memory is read before the container goes on
    #[arg(long, hide = true)]
    lazy_pages: bool,
}

impl CriuArgs {
    /// What is said of both ways.
    ///
    /// # Errors
    /// For what is not done.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        if self.lazy_pages {
            return Err(not_done("--lazy-pages").into());
        }
        if let Some(other) = self.empty_ns.iter().find(|it| *it != "network") {
            return Err(not_done(&format!("--empty-ns {other}")).into());
        }
        let absolute = |path: &Path, option: &str| {
            std::path::absolute(path)
                .map_err(|cause| anyhow::anyhow!("{option} {}: {cause}", path.display()))
        };
        let images = absolute(&self.image_path, "--image-path")?;
        let work = match &self.work_path {
            Some(path) => absolute(path, "--work-path")?,
            None => images.clone(),
        };
        let given = [
            (self.ext_unix_sk, "--ext-unix-sk"),
            (self.shell_job, "--shell-job"),
            (self.file_locks, "--file-locks"),
            (self.auto_dedup, "--auto-dedup"),
        ];
        let given = given.iter().filter(|(is_given, _)| *is_given);
        Ok(Settings {
            images,
            work,
            cgroups: self.manage_cgroups_mode,
            connections: self.tcp_established,
            passed_on: given.map(|(_, option)| (*option).to_owned()).collect(),
        })
    }
}

fn not_done(option: &str) -> Usage {
    Usage::new(
        format!("{option}: tincan does not do this"),
        "leave it out: all that there is of a container goes into the directory of images",
    )
}

/// Becomes root of the machine, who alone can do what CRIU does, and finds CRIU.
///
/// # Errors
/// When either is not to be had.
pub fn find(engine: &Engine, verb: &str) -> anyhow::Result<PathBuf> {
    if !rustix::process::geteuid().is_root() || engine.confinement().is_some() {
        return Err(Usage::new(
            format!("{verb} is for the machine's root: CRIU has to be it"),
            "try again with sudo",
        )
        .into());
    }
    engine.become_root(Need::Join)?;
    let missing = |what| {
        Usage::new(
            what,
            "the package criu has it; `--criu PATH` says where it is",
        )
    };
    Ok(engine.criu().map_err(missing)?)
}

/// Keeps the container.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    if args.page_server.is_some() {
        return Err(not_done("--page-server").into());
    }
    if args.status_fd.is_some_and(|number| number >= 0) {
        return Err(not_done("--status-fd").into());
    }
    let mut settings = args.criu.settings()?;
    let criu = find(engine, "checkpoint")?;
    let state = engine.root.load(&args.id).map_err(EngineError::from)?;
    if let Some(parent) = &args.parent_path {
        // It is seen from there.
        checkpoint::prepare(&settings, DUMP_LOG).map_err(EngineError::from)?;
        check_parent(&settings.images, parent)?;
        let words = ["--track-mem", "--prev-images-dir"].map(str::to_owned);
        settings.passed_on.extend(words);
        settings.passed_on.push(parent.display().to_string());
    }
    let given = [
        (args.tcp_skip_in_flight, "--skip-in-flight"),
        (args.link_remap, "--link-remap"),
    ];
    let given = given.iter().filter(|(is_given, _)| *is_given);
    settings
        .passed_on
        .extend(given.map(|(_, option)| (*option).to_owned()));
    let extent = match (args.pre_dump, args.leave_running) {
        (true, _) => Extent::Memory,
        (false, true) => Extent::Copy,
        (false, false) => Extent::Whole,
    };
    checkpoint::keep(engine, &state, &criu, &settings, extent)?;
    Ok(ExitCode::SUCCESS)
}

/// CRIU says of a wrong one only that it is not there.
fn check_parent(images: &Path, parent: &Path) -> Result<(), Usage> {
    let right = "a directory beside that of the images is `../NAME`";
    if parent.is_absolute() {
        let said = format!(
            "--parent-path {}: is not relative to --image-path",
            parent.display()
        );
        return Err(Usage::new(said, right));
    }
    if !images.join(parent).is_dir() {
        let said = format!(
            "--parent-path {}: there is no such directory, seen from {}",
            parent.display(),
            images.display()
        );
        return Err(Usage::new(said, right));
    }
    Ok(())
}
