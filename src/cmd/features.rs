//! `tincan features`: what this runtime does of the specification (runtime-spec features.md).

use std::process::ExitCode;

use super::print_json;
use crate::engine::hold::Engine;
use crate::plan::oci::features::features;

/// The arguments of `tincan features`: none.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints them.
pub fn run(_: Args, _: &Engine) -> anyhow::Result<ExitCode> {
    print_json(&features())?;
    Ok(ExitCode::SUCCESS)
}
