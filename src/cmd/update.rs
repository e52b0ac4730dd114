//! `tincan update`: other limits for a container that is there.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::Usage;
use super::pause::own_cgroup;
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::state::Status;
use crate::engine::user::Need;
use crate::plan::cgroup;
use crate::plan::name::{BadWord, ContainerName};
use crate::plan::oci;
use crate::plan::systemd;
use crate::plan::topology::Hierarchies;

/// The arguments of `tincan update`, which are runc's.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file with the limits, as `linux.resources` of config.json has them; `-` is standard input. The other options count for nothing then
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Period of CPU time in microseconds
    #[arg(long, value_name = "USECS")]
    cpu_period: Option<u64>,
    /// CPU time in a period, in microseconds; -1 is no limit
    #[arg(long, value_name = "USECS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// CPU time beyond the quota that has been saved up, in microseconds
    #[arg(long, value_name = "USECS")]
    cpu_burst: Option<u64>,
    /// Share of CPU time beside others
    #[arg(long, visible_alias = "cpu-shares", value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// Period of realtime scheduling in microseconds
    #[arg(long, value_name = "USECS")]
    cpu_rt_period: Option<u64>,
    /// Realtime scheduling in a period, in microseconds
    #[arg(long, value_name = "USECS", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// CPUs to run on: 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use: 0-1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Whether it runs only where nobody else does: 0 or 1
    #[arg(long, value_name = "IDLE", allow_hyphen_values = true)]
    cpu_idle: Option<i64>,
    /// Memory in bytes, or with k, m or g; -1 is no limit
    #[arg(short, long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    memory: Option<i64>,
    /// Memory that it is left where memory is short
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    memory_reservation: Option<i64>,
    /// Memory and swap together
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Processes and threads; -1 is no limit
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// The container
    id: ContainerName,
}

/// A number of bytes, as runc's options take it.
fn bytes(word: &str) -> Result<i64, BadWord> {
    let bad = || BadWord::new("amount", word, "is no number of bytes", "64m");
    let lower = word.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: i64 = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "ki" | "kib" => 1 << 10,
        "m" | "mb" | "mi" | "mib" => 1 << 20,
        "g" | "gb" | "gi" | "gib" => 1 << 30,
        "t" | "tb" | "ti" | "tib" => 1 << 40,
        _ => return Err(bad()),
    };
    let number: i64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(factor).ok_or_else(bad)
}

/// Sets the limits.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let state = engine.root.load(&args.id).map_err(EngineError::from)?;
    if engine.root.status(&state) == Status::Stopped {
        return Err(EngineError::NotRunning(args.id).into());
    }
    let json = match &args.resources {
        None => args.asked()?,
        Some(path) if path.as_os_str() == "-" => {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text)?;
            text
        }
        Some(path) => std::fs::read(path)
            .map_err(|cause| anyhow::anyhow!("--resources {}: {cause}", path.display()))?,
    };
    let resources = oci::parse_resources(&json)?;
    let location = own_cgroup(&state)?;
    let layout = engine.layout()?;
    let plan = cgroup::update(&resources, layout, Hierarchies::Every)?;
    if let Some(unit) = state.unit() {
        let properties = systemd::properties(&plan.settings, layout);
        unit.set(&properties)
            .map_err(|cause| EngineError::of_systemd(&args.id, cause))?;
    }
    location
        .update(&plan, layout)
        .map_err(|cause| EngineError::of_cgroup(&args.id, cause))?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// What the single options ask for, as a file would.
    fn asked(&self) -> anyhow::Result<Vec<u8>> {
        let some = |pairs: &[(&str, Value)]| {
            let given = pairs.iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                given
                    .map(|(key, value)| ((*key).to_owned(), value.clone()))
                    .collect(),
            )
        };
        let cpu = some(&[
            ("period", json!(self.cpu_period)),
            ("quota", json!(self.cpu_quota)),
            ("burst", json!(self.cpu_burst)),
            ("shares", json!(self.cpu_share)),
            ("realtimePeriod", json!(self.cpu_rt_period)),
            ("realtimeRuntime", json!(self.cpu_rt_runtime)),
            ("cpus", json!(self.cpuset_cpus)),
            ("mems", json!(self.cpuset_mems)),
            ("idle", json!(self.cpu_idle)),
        ]);
        let memory = some(&[
            ("limit", json!(self.memory)),
            ("reservation", json!(self.memory_reservation)),
            ("swap", json!(self.memory_swap)),
        ]);
        let pids = some(&[("limit", json!(self.pids_limit))]);
        let block = some(&[("weight", json!(self.blkio_weight))]);
        let is_asked = |value: &&Value| value.as_object().is_some_and(|it| !it.is_empty());
        if [&cpu, &memory, &pids, &block]
            .into_iter()
            .filter(is_asked)
            .count()
            == 0
        {
            let right = "tincan update --memory 64m ID";
            return Err(Usage::new("there is nothing to change", right).into());
        }
        let all = json!({"cpu": cpu, "memory": memory, "pids": pids, "blockIO": block});
        Ok(serde_json::to_vec(&all)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        for (word, number) in [
            ("64m", 64 << 20),
            ("-1", -1),
            ("1024", 1024),
            ("2GiB", 2 << 30),
            ("3k", 3072),
        ] {
            assert_eq!(bytes(word).unwrap(), number, "{word}");
        }
        for word in ["", "m", "64x", "1.5g", "9999999999g"] {
            assert!(bytes(word).is_err(), "{word}");
        }
    }
}
