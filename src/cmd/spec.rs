//! `tincan spec`: a template of a bundle's config.json, with what runc's has.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Usage;
use crate::engine::hold::Engine;
use crate::plan::oci::template::{Owner, template};

/// The arguments of `tincan spec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory to write config.json into
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// With a user namespace in which the caller is root
    #[arg(long)]
    rootless: bool,
}

/// Writes the file; one that exists stays.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    let owner = args.rootless.then(|| Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    });
    let path = args.bundle.join("config.json");
    let file = std::fs::File::create_new(&path).map_err(|cause| {
        Usage::new(
            format!("{}: {cause}", path.display()),
            "--bundle DIR names another directory",
        )
    })?;
    let value = template(owner, engine.layout()?);
    serde_json::to_writer_pretty(file, &value)?;
    Ok(ExitCode::SUCCESS)
}
