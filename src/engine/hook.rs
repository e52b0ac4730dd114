//! Programs that the container's creator wants run at points of its life (runtime-spec config.md, POSIX-platform Hooks).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use nix::sys::signal::Signal;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;

use super::error::describe;
use super::state::Status;
use crate::plan::name::ContainerName;
use crate::plan::step::Hook;
use crate::sys::errno_of;
use crate::sys::signal::{Interrupts, Woken};

/// The version of the runtime specification that tincan speaks.
pub const OCI_VERSION: &str = "1.3.0";

/// A container's state as hooks and `state` get it (runtime-spec runtime.md, State).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState {
    /// The specification's version.
    pub oci_version: &'static str,
    /// The container's name.
    pub id: ContainerName,
    /// Its status.
    pub status: Status,
    /// Its first process: as the runtime sees it, and for hooks in the container's namespaces as the container does.
    pub pid: i32,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The bundle's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A hook that did not do its work.
#[derive(Debug, thiserror::Error)]
#[error("{kind} hook {}: {why}", path.display())]
pub struct HookFailed {
    /// When it ran.
    pub kind: String,
    /// The program.
    pub path: PathBuf,
    /// What went wrong.
    pub why: Why,
}

/// What went wrong with a hook.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// It ended otherwise than with 0; how, where that is known.
    #[error("{}", .0.map_or("it failed".to_owned(), |status| status.to_string()))]
    Ended(Option<ExitStatus>),
    /// It was not done in its time.
    #[error("not done in its time")]
    Late,
    /// tincan was asked to go while it ran.
    #[error("interrupted by {0}")]
    Interrupted(Signal),
    /// It could not be run.
    #[error("{}", describe(*.0))]
    NotRun(Errno),
}

impl Why {
    /// As the number that a container's first process reports.
    pub fn code(&self) -> Errno {
        match self {
            Why::Ended(_) => Errno::CANCELED,
            Why::Late => Errno::TIMEDOUT,
            Why::Interrupted(_) => Errno::INTR,
            Why::NotRun(errno) => *errno,
        }
    }

    /// What such a number says.
    pub fn of_code(code: Errno) -> Why {
        match code {
            Errno::CANCELED => Why::Ended(None),
            Errno::TIMEDOUT => Why::Late,
            errno => Why::NotRun(errno),
        }
    }
}

/// The kinds that run in the container's namespaces, where perhaps nobody may enter the bundle's directory.
const IN_CONTAINER: [&str; 2] = ["createContainer", "startContainer"];

/// Runs a hook to its end, with the state on its standard input.
///
/// # Errors
/// When it cannot be started, exits other than with 0, is not done in its time, or tincan is asked to go meanwhile; in the
/// last two cases it is killed.
pub fn run(kind: &str, hook: &Hook, state: &OciState) -> Result<(), HookFailed> {
    let failed = |why: Why| HookFailed {
        kind: kind.to_owned(),
        path: hook.path.clone(),
        why,
    };
    let io = |cause: std::io::Error| failed(Why::NotRun(errno_of(&cause)));
    let stdin = state_file(state).map_err(io)?;
    let mut command = Command::new(&hook.path);
    if let Some(name) = hook.args.first() {
        command.arg0(name);
    }
    command.args(hook.args.iter().skip(1)).stdin(stdin);
    if let Some(env) = &hook.env {
        command
            .env_clear()
            .envs(env.iter().filter_map(|pair| pair.split_once('=')));
    }
    // Where runc and crun run those of the host. It may be gone at a container's end, which is no reason to skip its hooks.
    if !IN_CONTAINER.contains(&kind) && state.bundle.is_dir() {
        command.current_dir(&state.bundle);
    }
    let mut child = command.spawn().map_err(io)?;
    let limit = hook
        .timeout
        .map(|seconds| i64::try_from(seconds).map_or(i64::MAX, |it| it.saturating_mul(1000)));
    let woken = Interrupts::hear().and_then(|interrupts| {
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        interrupts.wait(pidfd.as_fd(), limit)
    });
    if woken != Ok(Woken::Ready) {
        child.kill().map_err(io)?;
        child.wait().map_err(io)?;
    }
    match woken.map_err(|errno| io(errno.into()))? {
        Woken::Ready => {}
        Woken::Interrupted(signal) => return Err(failed(Why::Interrupted(signal))),
        Woken::TimedOut => return Err(failed(Why::Late)),
    }
    let status = child.wait().map_err(io)?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(Why::Ended(Some(status))))
    }
}

/// The state as a file in memory: a hook need not read its input, and a pipe would then break, or be full, for whoever writes.
fn state_file(state: &OciState) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("state", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(state)?)?;
    file.rewind()?;
    Ok(file)
}
