//! `tincan events`: what a container uses, and what befalls it.

use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::pause::own_cgroup;
use crate::cgroup::Location;
use crate::cgroup::oom::OomWatch;
use crate::cgroup::stats::Stats;
use crate::engine::error::EngineError;
use crate::engine::hold::{Engine, enter_running};
use crate::engine::resctrl;
use crate::engine::state::State;
use crate::engine::user::Need;
use crate::net::statistics::{self, InterfaceStatistics};
use crate::plan::name::ContainerName;
use crate::sys::netns;
use crate::sys::process::wait_ready;

/// The arguments of `tincan events`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print what it uses once, and no more
    #[arg(long)]
    stats: bool,
    /// How long to wait from one time to the next that what it uses is printed: 300ms, 5s, 1m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_interval)]
    interval: Duration,
    /// The container
    id: ContainerName,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("duration interval must be greater than 0".to_owned()),
        Ok(interval) => Ok(interval),
        Err(cause) => Err(format!("{cause}; a right one is 5s")),
    }
}

/// One line of what is printed, as runc's.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    id: &'a ContainerName,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Serialize)]
struct Data {
    #[serde(flatten)]
    cgroup: Stats,
    /// Caches and memory bandwidth; empty without a control group.
    intel_rdt: resctrl::Stats,
    network_interfaces: Option<Vec<InterfaceStatistics>>,
}

/// Prints until the container has ended; with `--stats`, once.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let (state, pidfd) = engine.root.open(&args.id).map_err(EngineError::from)?;
    let pidfd = pidfd.ok_or_else(|| EngineError::NotRunning(args.id.clone()))?;
    let cgroup = own_cgroup(&state)?;
    if args.stats {
        print(&args.id, "stats", Some(data(engine, &state, cgroup)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let failed = |cause| EngineError::of_cgroup(&args.id, cause);
    let mut oom = OomWatch::open(cgroup).map_err(failed)?;
    let mut due = Instant::now() + args.interval;
    loop {
        let fds: Vec<BorrowedFd> = [pidfd.as_fd()]
            .into_iter()
            .chain(oom.as_ref().map(|it| it.as_fd()))
            .collect();
        let left = due.saturating_duration_since(Instant::now());
        let ready = wait_ready(&fds, left)
            .map_err(|errno| EngineError::of_deed(&args.id, "wait for what befalls it", errno))?;
        // First: it may have ended of this.
        let news = oom.as_mut().map_or(Ok(0), OomWatch::news);
        for _ in 0..news.map_err(failed)? {
            print(&args.id, "oom", None)?;
        }
        if ready[0] {
            return Ok(ExitCode::SUCCESS);
        }
        if due <= Instant::now() {
            match data(engine, &state, cgroup) {
                Ok(data) => print(&args.id, "stats", Some(data))?,
                // It is ending, which is seen soon.
                Err(EngineError::NotRunning(_)) => {}
                // It has just ended, which is seen next.
                Err(_) if wait_ready(&[pidfd.as_fd()], Duration::ZERO).is_ok_and(|it| it[0]) => {}
                Err(error) => return Err(error.into()),
            }
            due += args.interval;
        }
    }
}

fn data(engine: &Engine, state: &State, cgroup: &Location) -> Result<Data, EngineError> {
    let id = &state.id;
    let cgroup = cgroup.stats();
    let cgroup = cgroup.map_err(|cause| EngineError::of_cgroup(id, cause))?;
    let control = state.control.as_ref();
    let intel_rdt = control.map_or_else(|| Ok(resctrl::Stats::default()), |it| it.stats());
    let intel_rdt = intel_rdt.map_err(|cause| EngineError::of_control(id, cause))?;
    let (netns, netlink) = enter_running(engine, id)?;
    // With the host's own network, what passes there is not the container's.
    let is_hosts = netns::is_current(netns.as_fd());
    let is_hosts = is_hosts.map_err(|cause| {
        EngineError::of_deed(
            id,
            "look at its network namespace",
            crate::sys::errno_of(&cause),
        )
    })?;
    let interfaces = (!is_hosts)
        .then(|| statistics::of_all(&netlink))
        .transpose();
    Ok(Data {
        cgroup,
        intel_rdt,
        network_interfaces: interfaces.map_err(|cause| EngineError::Wire {
            container: id.to_string(),
            action: "read what passed through its interfaces".to_owned(),
            cause,
        })?,
    })
}

fn print(id: &ContainerName, r#type: &'static str, data: Option<Data>) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(&Event { r#type, id, data })?;
    line.push(b'\n');
    // One event, one write: whoever reads along reads whole lines.
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}
