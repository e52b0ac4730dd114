//! `tincan gc`: clears away what killed runs left.

use std::io::Write as _;
use std::process::ExitCode;

use super::{Format, print_json};
use crate::engine::hold::Engine;
use crate::engine::undo::{self, Cleared};
use crate::engine::user::Need;

/// The arguments of `tincan gc`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print what was cleared away
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

/// Clears away, and says what.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let cleared = undo::gc(engine)?;
    match args.format {
        Format::Json => print_json(&cleared)?,
        Format::Table => {
            let mut out = std::io::stdout().lock();
            for item in cleared {
                match item {
                    Cleared::Container(name) => writeln!(out, "container {name}")?,
                    Cleared::Draft(path) => writeln!(out, "unfinished {}", path.display())?,
                    Cleared::Network(name) => writeln!(out, "network {name}")?,
                    Cleared::Lease(network, ip) => writeln!(out, "address {ip} of {network}")?,
                    Cleared::Port(publish) => writeln!(out, "port {publish}")?,
                    Cleared::Attachment(id) => writeln!(out, "attachment {id}")?,
                    Cleared::Link(name, interface) => writeln!(out, "link {interface} of {name}")?,
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
