//! `tincan kill`: sends a signal.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::state::Status;
use crate::engine::user::Need;
use crate::plan::name::{BadWord, ContainerName};
use crate::sys::{process, signal};

/// How long a first process that is busy, since it has just begun perhaps, gets to have a handler for a signal that it would else never hear of.
const MOMENT: Duration = Duration::from_millis(300);

/// The arguments of `tincan kill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Send it to every process of the container's cgroup
    #[arg(short, long)]
    all: bool,
    /// The container
    id: ContainerName,
    /// The signal: a name with or without SIG, or a number
    #[arg(default_value = "SIGTERM")]
    signal: SignalNumber,
}

/// A signal by its number.
#[derive(Debug, Clone, Copy)]
struct SignalNumber(i32);

impl FromStr for SignalNumber {
    type Err = BadWord;
    fn from_str(word: &str) -> Result<Self, BadWord> {
        let unknown = || BadWord::new("signal", word, "is no signal of Linux", "SIGTERM");
        if let Ok(number) = word.parse::<i32>() {
            return (0..=libc::SIGRTMAX())
                .contains(&number)
                .then_some(SignalNumber(number))
                .ok_or_else(unknown);
        }
        let upper = word.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") {
            upper
        } else {
            format!("SIG{upper}")
        };
        match (name.as_str(), Signal::from_str(&name)) {
            (_, Ok(signal)) => Ok(SignalNumber(signal as i32)),
            ("SIGRTMIN", _) => Ok(SignalNumber(libc::SIGRTMIN())),
            ("SIGRTMAX", _) => Ok(SignalNumber(libc::SIGRTMAX())),
            (name, _) => real_time(name)
                .filter(|number| (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(number))
                .map(SignalNumber)
                .ok_or_else(unknown),
        }
    }
}

/// A real-time signal by its distance from the first or the last (signal(7)).
fn real_time(name: &str) -> Option<i32> {
    let offset = |text: &str| text.parse::<u8>().ok().map(i32::from);
    match (
        name.strip_prefix("SIGRTMIN+"),
        name.strip_prefix("SIGRTMAX-"),
    ) {
        (Some(text), _) => Some(libc::SIGRTMIN() + offset(text)?),
        (_, Some(text)) => Some(libc::SIGRTMAX() - offset(text)?),
        _ => None,
    }
}

/// Sends the signal.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let (state, pidfd) = engine.root.open(&args.id).map_err(EngineError::from)?;
    let failed = |cause| EngineError::of_cgroup(&args.id, cause);
    // Without a cgroup, which a user may not have, there is the first process, with which all of its pid namespace go.
    let location = state
        .cgroup
        .as_ref()
        .filter(|it| it.directories().next().is_some());
    if args.all
        && let Some(location) = location
    {
        location.kill_all(args.signal.0).map_err(failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(pidfd) = pidfd else {
        return Err(EngineError::NotRunning(args.id).into());
    };
    if engine.root.status(&state) == Status::Running
        && let Some(process) = state.process
    {
        let since = Instant::now();
        while signal::is_too_early(process.pid, args.signal.0) && since.elapsed() < MOMENT {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    process::signal(pidfd.as_fd(), args.signal.0)
        .map_err(|errno| EngineError::of_deed(&args.id, "send the signal", errno))?;
    if args.signal.0 == libc::SIGKILL
        && let Some(location) = &state.cgroup
    {
        location.let_killed_go().map_err(failed)?;
    }
    Ok(ExitCode::SUCCESS)
}
