//! `tincan update`: other limits for a container that is there.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::Usage;
use super::pause::own_cgroup;
use crate::cgroup::Location;
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::resctrl;
use crate::engine::state::{State, Status};
use crate::engine::user::Need;
use crate::plan::cgroup;
use crate::plan::facts::CgroupLayout;
use crate::plan::name::{BadWord, ContainerName};
use crate::plan::oci;
use crate::plan::resctrl::{Share, check_bandwidth};
use crate::plan::systemd;
use crate::plan::topology::{Cgroup, Hierarchies};

/// The arguments of `tincan update`, which are runc's.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file with the limits, as `linux.resources` of config.json has them; `-` is standard input. Of the other options only those of
    /// caches and memory bandwidth count then
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
    /// Memory of the kernel's own, which no kernel limits any more
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true, hide = true)]
    kernel_memory: Option<i64>,
    /// Memory of TCP's buffers, with v1
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true, hide = true)]
    kernel_memory_tcp: Option<i64>,
    /// Processes and threads; -1 is no limit
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Share of the caches of the third level, for a container with linux.intelRdt: L3:0=7f0;1=1f
    #[arg(long, value_name = "LINE")]
    l3_cache_schema: Option<String>,
    /// Share of memory bandwidth, likewise: MB:0=20;1=70
    #[arg(long, value_name = "LINE", value_parser = bandwidth)]
    mem_bw_schema: Option<String>,
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

/// A line about memory bandwidth; an empty one asks for nothing, as in runc.
fn bandwidth(word: &str) -> Result<String, String> {
    if !word.is_empty() {
        check_bandwidth(word).map_err(|why| format!("{why}; a right one is `MB:0=50`"))?;
    }
    Ok(word.to_owned())
}

/// Sets the limits.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let state = engine.root.load(&args.id).map_err(EngineError::from)?;
    if engine.root.status(&state) == Status::Stopped {
        return Err(EngineError::NotRunning(args.id).into());
    }
    let resources = args.resources()?;
    let share = args.share();
    if resources.is_none() && share == Share::default() {
        let right = "tincan update --memory 64m ID";
        return Err(Usage::new("there is nothing to change", right).into());
    }
    let layout = engine.layout()?;
    let limits = match &resources {
        Some(resources) => Some((
            own_cgroup(&state)?,
            cgroup::update(resources, layout, Hierarchies::Every)?,
        )),
        None => None,
    };
    let of_control = |cause| EngineError::of_control(&args.id, cause);
    // A share is changed whole or not at all, where limits before one that fails stay: it comes first, and is put back for them.
    let mut put_back = None;
    if share != Share::default() {
        let control = resctrl::Location::to_update(state.control.as_ref(), &share);
        let control = control.map_err(of_control)?;
        let former = control.update(&share).map_err(of_control)?;
        put_back = Some((control, former));
    }
    let set = limits.map_or(Ok(()), |(location, plan)| {
        set(&state, location, &plan, layout)
    });
    if let (Err(_), Some((control, former))) = (&set, put_back)
        && let Err(failed) = control.put_back(&former)
    {
        complain!("tincan: {}: put its share back: {failed}", args.id);
    }
    set?;
    Ok(ExitCode::SUCCESS)
}

/// Sets the limits of a cgroup: with systemd, and in its files.
fn set(
    state: &State,
    location: &Location,
    plan: &Cgroup,
    layout: &CgroupLayout,
) -> Result<(), EngineError> {
    if let Some(unit) = state.unit() {
        let properties = systemd::properties(&plan.settings, layout);
        unit.set(&properties)
            .map_err(|cause| EngineError::of_systemd(&state.id, cause))?;
    }
    location
        .update(plan, layout)
        .map_err(|cause| EngineError::of_cgroup(&state.id, cause))
}

impl Args {
    /// What is asked for of caches and bandwidth.
    fn share(&self) -> Share {
        let given = |line: &Option<String>| line.clone().filter(|it| !it.is_empty());
        Share {
            caches: given(&self.l3_cache_schema),
            bandwidth: given(&self.mem_bw_schema),
        }
    }

    /// The limits that are asked for; none if none is.
    fn resources(&self) -> anyhow::Result<Option<LinuxResources>> {
        let json = match &self.resources {
            None => match self.asked()? {
                Some(json) => json,
                None => return Ok(None),
            },
            Some(path) if path.as_os_str() == "-" => {
                let mut text = Vec::new();
                std::io::stdin().read_to_end(&mut text)?;
                text
            }
            Some(path) => std::fs::read(path)
                .map_err(|cause| anyhow::anyhow!("--resources {}: {cause}", path.display()))?,
        };
        Ok(Some(oci::parse_resources(&json)?))
    }

    /// What the single options ask for, as a file would; none if they ask for nothing.
    fn asked(&self) -> anyhow::Result<Option<Vec<u8>>> {
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
            ("kernel", json!(self.kernel_memory)),
            ("kernelTCP", json!(self.kernel_memory_tcp)),
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
            return Ok(None);
        }
        let all = json!({"cpu": cpu, "memory": memory, "pids": pids, "blockIO": block});
        Ok(Some(serde_json::to_vec(&all)?))
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
