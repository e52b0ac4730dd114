//! The way of a user's container to the outside: pasta(1), which makes a tap device in the container's network namespace and
//! speaks for it with the machine's own sockets, so that whoever comes by a published port is seen by its own address. One
//! process for each such container; it ends with the container's undoing.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::SigSet;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::error::describe;
use crate::plan::net::Outside;
use crate::sys::errno_of;
use crate::sys::process::{self, Cloned, Ended, ProcessId};

/// The program.
const PASTA: &str = "pasta";

/// The file in a container's state directory that pasta writes its pid to.
const PID_FILE: &str = "pasta";

/// By which its own exec tells that there is no such program, as shells do.
const NOT_FOUND: i32 = 127;

/// How long it may take to be gone once it was killed, in milliseconds.
const END_LIMIT: u64 = 10_000;

/// Why a container does not get to the outside.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// The program is not there.
    #[error("pasta: it is not installed")]
    Missing,
    /// It has said why not.
    #[error("pasta: {0}")]
    Refused(String),
    /// A call of our own.
    #[error("start pasta: {}", describe(*.0))]
    Call(#[from] Errno),
}

impl OutsideError {
    /// What the user could do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            OutsideError::Missing => Some(
                "install it: `apt-get install passt` on Debian; without it, `--net ADDRESS` wires containers to each other",
            ),
            OutsideError::Refused(said) if said.contains("tun") => Some(
                "pasta needs /dev/net/tun, which has to be open to you: `ls -l /dev/net/tun` shows it",
            ),
            OutsideError::Refused(said) if said.contains("xternal interface") => Some(
                "the machine has no route to the outside that the container could use: `ip route` shows them",
            ),
            OutsideError::Refused(_) | OutsideError::Call(_) => None,
        }
    }
}

/// Leads a network namespace to the outside; returns when it is there. To be called in the machine's network namespace.
/// Should tincan be killed meanwhile, pasta goes with it.
///
/// # Errors
/// When pasta is not there or says no; then it has ended.
pub fn lead(state_dir: &Path, netns: OwnedFd, outside: &Outside) -> Result<(), OutsideError> {
    // Its own end is closed with its exec or when it goes to the background: then everything is in place.
    let (said, says) = pipe_with(PipeFlags::CLOEXEC)?;
    let pidfd = match process::clone(0, None)? {
        Cloned::Child => {
            drop(said);
            let mut command = Command::new(PASTA);
            command
                .args(outside.arguments())
                .args(["--ns-ifname", "eth0", "--no-netns-quit", "--pid"])
                .arg(pid_file(state_dir))
                // By its own descriptor: a path in another's /proc takes rights that it has given up by then.
                .args(["--netns", "/proc/self/fd/0"])
                .stdin(Stdio::from(netns))
                .stdout(Stdio::null())
                .stderr(Stdio::from(says));
            // Ours waits for signals, and has them blocked.
            let ready = process::die_with_parent().and_then(|()| {
                process::set_signal_mask(&SigSet::empty())
                    .map_err(|e| Errno::from_raw_os_error(e as i32))
            });
            let errno = match ready {
                Ok(()) => errno_of(&command.exec()),
                Err(errno) => errno,
            };
            let missing = matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::ACCESS);
            process::exit_now(if missing { NOT_FOUND } else { 126 })
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop(says);
    let mut text = String::new();
    // What it says is for the message alone.
    let _ = File::from(said).read_to_string(&mut text);
    match process::wait(pidfd.as_fd())? {
        Ended::Code(0) => Ok(()),
        Ended::Code(NOT_FOUND) => Err(OutsideError::Missing),
        _ => Err(OutsideError::Refused(reason(&text).to_owned())),
    }
}

/// What pasta ended for, of all that it said: the first thing that failed, after which newer ones name what failed with it, or else
/// the last line. It also tells when it cannot reach the system's log.
fn reason(said: &str) -> &str {
    let mut lines = said.lines().filter(|line| !line.contains("to syslog"));
    let failed = lines.clone().find(|line| line.starts_with("Failed"));
    failed
        .or(lines.next_back())
        .unwrap_or("it does not say why")
        .trim()
}

/// Ends the pasta of a container; absent is success.
///
/// # Errors
/// When it does not go.
pub fn end(state_dir: &Path) -> Result<(), Errno> {
    let path = pid_file(state_dir);
    let pid = fs::read_to_string(&path).unwrap_or_default();
    let Some(found) = pid
        .trim()
        .parse()
        .ok()
        .and_then(|pid| ProcessId::of(pid).ok())
    else {
        return Ok(());
    };
    let Some(pidfd) = found.open() else {
        return Ok(());
    };
    // The number may be somebody else's by now: who has the file's name among its arguments is it.
    let line = fs::read(format!("/proc/{}/cmdline", found.pid)).unwrap_or_default();
    if !line
        .split(|byte| *byte == 0)
        .any(|word| word == path.as_os_str().as_bytes())
    {
        return Ok(());
    }
    match process::signal(pidfd.as_fd(), libc::SIGKILL) {
        Err(Errno::SRCH) => return Ok(()),
        other => other?,
    }
    match process::wait_dead(pidfd.as_fd(), END_LIMIT)? {
        true => Ok(()),
        false => Err(Errno::TIMEDOUT),
    }
}

fn pid_file(state_dir: &Path) -> PathBuf {
    state_dir.join(PID_FILE)
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_reason_is_what_failed_first_or_what_was_said_last() {
        let of_2025 = "No interfaces with usable IPv4 routes\nFailed to open() /dev/net/tun: Permission denied\n\
                       Failed to set up tap device in namespace\n";
        assert_eq!(
            reason(of_2025),
            "Failed to open() /dev/net/tun: Permission denied"
        );
        let of_2023 = "Failed to connect to syslog\nCouldn't get any nameserver address\nExternal interface not usable\n";
        assert_eq!(reason(of_2023), "External interface not usable");
        assert_eq!(reason(""), "it does not say why");
    }
}
