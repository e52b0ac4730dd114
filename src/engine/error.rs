//! What went wrong, with everything that the message needs: the container, the step, the object and the cause.

use nix::sys::signal::Signal;
use rustix::io::Errno;

use super::checkpoint::CriuFailed;
use super::hook::{HookFailed, Why};
use super::network::NetworkStateError;
use super::outside::OutsideError;
use super::plugin::PluginError;
use super::publish::PublishError;
use super::resctrl;
use super::state::StateError;
use super::user::UserError;
use crate::cgroup;
use crate::net::netlink::Refused;
use crate::plan::name::ContainerName;
use crate::plan::step::Step;
use crate::sys::process::Ended;

/// Why a container did not come up, or did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Its state on disk.
    #[error(transparent)]
    State(#[from] StateError),
    /// A network on disk.
    #[error(transparent)]
    Network(#[from] NetworkStateError),
    /// The namespaces of a user who is not root.
    #[error(transparent)]
    User(#[from] UserError),
    /// A step of its first process, or of the engine for it.
    #[error("{container}: {step}: {}", describe(*.errno))]
    Step {
        /// Which container.
        container: ContainerName,
        /// What was being done.
        step: String,
        /// Why it failed.
        errno: Errno,
    },
    /// The workload could not be executed.
    #[error("{container}: {}", exec_text(program, *.errno))]
    Exec {
        /// Which container.
        container: ContainerName,
        /// The program as it was named.
        program: String,
        /// Why it failed.
        errno: Errno,
    },
    /// A program beside the containers could not be executed.
    #[error("{}", exec_text(program, *.errno))]
    Program {
        /// The program as it was named.
        program: String,
        /// Why it failed.
        errno: Errno,
    },
    /// Its first process ended before it was time.
    #[error("{container}: {step}: its process died")]
    Died {
        /// Which container.
        container: ContainerName,
        /// What was being waited for.
        step: String,
    },
    /// The host's cgroups.
    #[error("read how this host's cgroups are laid out: {0}")]
    Layout(std::io::Error),
    /// tincan was asked to go before the container was up.
    #[error("{container}: interrupted by {signal}")]
    Interrupted {
        /// Which container.
        container: ContainerName,
        /// By which signal.
        signal: Signal,
    },
    /// Its cgroup.
    #[error("{container}: {cause}")]
    Cgroup {
        /// Which container.
        container: ContainerName,
        /// What and why.
        cause: cgroup::Failed,
    },
    /// Its cgroup, which systemd was to make.
    #[error("{container}: {cause}")]
    Systemd {
        /// Which container.
        container: ContainerName,
        /// What and why.
        cause: cgroup::systemd::Failed,
    },
    /// Its control group in resctrl.
    #[error("{container}: {cause}")]
    Control {
        /// Which container.
        container: ContainerName,
        /// What and why.
        cause: resctrl::Failed,
    },
    /// A wire.
    #[error("{container}: {action}: {cause}")]
    Wire {
        /// The container, or `host`.
        container: String,
        /// What was being done to which link.
        action: String,
        /// Why it failed.
        cause: Refused,
    },
    /// Its way to the outside.
    #[error("{container}: {cause}")]
    Outside {
        /// Which container.
        container: ContainerName,
        /// Why there is none.
        cause: OutsideError,
    },
    /// A hook.
    #[error("{container}: {hook}")]
    Hook {
        /// Which container.
        container: ContainerName,
        /// Which hook, and why.
        hook: HookFailed,
    },
    /// Plugins of a network.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// A port that it publishes.
    #[error(transparent)]
    Publish(Box<PublishError>),
    /// It can be neither frozen nor limited.
    #[error("{0}: container has no cgroup of its own")]
    NoCgroup(ContainerName),
    /// It should be paused, and is not; in runc's words.
    #[error("{0}: container not paused")]
    NotPaused(ContainerName),
    /// It should run, and does not. By these words containerd knows that a signal came too late, and is none that failed.
    #[error("{0}: container not running")]
    NotRunning(ContainerName),
    /// Its bundle does not say what it is to run (runtime-spec runtime.md, Start).
    #[error("{0}: cannot start a container whose bundle has no `process`")]
    NoProcess(ContainerName),
    /// It is in no status for what is asked.
    #[error("{container}: cannot {verb} a container that is {status}")]
    WrongStatus {
        /// Which container.
        container: ContainerName,
        /// What was asked.
        verb: &'static str,
        /// What it is.
        status: super::state::Status,
    },
    /// CRIU.
    #[error("{container}: {cause}")]
    Criu {
        /// Which container.
        container: ContainerName,
        /// What it says.
        cause: CriuFailed,
    },
    /// It cannot be kept.
    #[error("{container}: cannot checkpoint a container {why}")]
    NotToKeep {
        /// Which container.
        container: ContainerName,
        /// Why not.
        why: String,
    },
    /// Some of the undoing failed; the rest was done.
    #[error("{container}: {}", causes.join("; "))]
    Undo {
        /// Which container.
        container: ContainerName,
        /// What stayed, and why.
        causes: Vec<String>,
    },
}

/// An errno as a sentence's end, as strerror(3) says it.
pub fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The texts by which callers of runc (Docker, podman) tell 127 and 126 from other failures.
fn exec_text(program: &str, errno: Errno) -> String {
    match errno {
        Errno::NOENT if program.contains('/') => {
            format!("exec: \"{program}\": stat {program}: no such file or directory")
        }
        Errno::NOENT => format!("exec: \"{program}\": executable file not found in $PATH"),
        Errno::ACCESS => format!("exec: \"{program}\": permission denied"),
        other => format!("exec: \"{program}\": {}", describe(other)),
    }
}

impl EngineError {
    /// A failure of one of the node's steps, as the child reported it.
    pub fn of_step(container: &ContainerName, step: &Step, errno: Errno) -> Self {
        let container = container.clone();
        match step {
            Step::Find(command) | Step::Exec(command) => EngineError::Exec {
                container,
                program: command.program().to_owned(),
                errno,
            },
            Step::Hook(kind, hook) => EngineError::Hook {
                container,
                hook: HookFailed {
                    kind: kind.to_string(),
                    path: hook.path.clone(),
                    why: Why::of_code(errno),
                },
            },
            step => EngineError::Step {
                container,
                step: step.to_string(),
                errno,
            },
        }
    }

    /// Whether it was a hook that failed.
    pub fn is_of_hook(&self) -> bool {
        matches!(self, EngineError::Hook { .. })
    }

    /// What could not be done to a container's cgroup.
    pub fn of_cgroup(container: &ContainerName, cause: cgroup::Failed) -> Self {
        EngineError::Cgroup {
            container: container.clone(),
            cause,
        }
    }

    /// What could not be done to a container's control group.
    pub fn of_control(container: &ContainerName, cause: resctrl::Failed) -> Self {
        EngineError::Control {
            container: container.clone(),
            cause,
        }
    }

    /// What systemd did not do for a container.
    pub fn of_systemd(container: &ContainerName, cause: cgroup::systemd::Failed) -> Self {
        let container = container.clone();
        match cause.interrupted_by() {
            Some(signal) => EngineError::Interrupted { container, signal },
            None => EngineError::Systemd { container, cause },
        }
    }

    /// A failure of something that the engine did for a container.
    pub fn of_deed(container: &ContainerName, deed: impl Into<String>, errno: Errno) -> Self {
        EngineError::Step {
            container: container.clone(),
            step: deed.into(),
            errno,
        }
    }

    /// The exit code: 127 and 126 as in a shell when there was no such command or it could not be executed, 128 + n when a
    /// signal interrupted it, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            EngineError::Exec {
                errno: Errno::NOENT | Errno::NOTDIR,
                ..
            }
            | EngineError::Program {
                errno: Errno::NOENT | Errno::NOTDIR,
                ..
            } => 127,
            EngineError::Exec { .. } | EngineError::Program { .. } => 126,
            EngineError::Interrupted { signal, .. }
            | EngineError::Hook {
                hook:
                    HookFailed {
                        why: Why::Interrupted(signal),
                        ..
                    },
                ..
            } => Ended::Signal(*signal as i32).shell_code(),
            _ => 125,
        }
    }

    /// What the user could do about it, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            EngineError::Outside { cause, .. } => cause.hint().map(str::to_owned),
            EngineError::User(error) => error.hint().map(str::to_owned),
            EngineError::State(StateError::Taken { name, status }) => Some(match status {
                super::state::Status::Stopped => format!("`tincan delete {name}` frees the name"),
                _ => format!("`tincan list` shows it; `tincan delete --force {name}` ends it"),
            }),
            EngineError::State(StateError::Unknown(_)) | EngineError::NotRunning(_) => {
                Some("`tincan list` shows which containers there are".to_owned())
            }
            EngineError::State(StateError::File { cause, .. })
                if cause.kind() == std::io::ErrorKind::PermissionDenied
                    && !rustix::process::geteuid().is_root() =>
            {
                Some("this needs root: try again with sudo".to_owned())
            }
            EngineError::Step {
                errno: Errno::PERM, ..
            } if !rustix::process::geteuid().is_root() => {
                Some("this needs root: try again with sudo".to_owned())
            }
            EngineError::Systemd { cause, .. } => cause.hint().map(str::to_owned),
            EngineError::Criu { cause, .. } => cause.hint(),
            _ => None,
        }
    }
}

/// Drops the numbers that the standard library puts behind the system's words for an error.
pub fn without_errno(message: &str) -> String {
    let mut parts = message.split(" (os error ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once(')').map_or(part, |(_, rest)| rest));
    }
    plain
}
