//! Sending signals, and hearing those that ask a program to go.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Sends a signal, by its number (real-time ones included, which `nix` and `rustix` have no names for), to one process
/// (kill(2)). `pid` is above 0: 0 and below are whole groups, which nobody here means.
pub fn send(pid: i32, signal: i32) -> Result<(), Errno> {
    if pid <= 0 {
        return Err(Errno::SRCH);
    }
    // SAFETY: kill takes two numbers and touches no memory of the caller.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(super::last_errno()),
    }
}

/// The signals by which a user, a shell or a supervisor asks a program to go.
const REQUESTS: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// Hears, while it waits for something else, that the process is asked to go, although the signals for that are blocked.
pub struct Interrupts(SignalFd);

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// What was waited for can be read, or written.
    Ready,
    /// This signal came instead; it is no longer pending.
    Interrupted(Signal),
    /// The time was up.
    TimedOut,
}

impl Interrupts {
    /// Hears those requests that are blocked now, and not ignored: nohup(1) ignores SIGHUP. One that is not blocked needs
    /// nobody to hear it.
    ///
    /// # Errors
    /// As signalfd(2).
    pub fn hear() -> Result<Self, Errno> {
        let raw = |errno: nix::Error| Errno::from_raw_os_error(errno as i32);
        let blocked = SigSet::thread_get_mask().map_err(raw)?;
        let heard = REQUESTS
            .into_iter()
            .filter(|signal| blocked.contains(*signal) && !is_ignored(*signal))
            .collect();
        SignalFd::with_flags(&heard, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(Interrupts)
            .map_err(raw)
    }

    /// Waits until there is something to read, for at most this many milliseconds if a number is given. What is there counts
    /// before a signal.
    ///
    /// # Errors
    /// As poll(2).
    pub fn wait(&self, fd: BorrowedFd<'_>, milliseconds: Option<i64>) -> Result<Woken, Errno> {
        self.poll(&[PollFd::from_borrowed_fd(fd, PollFlags::IN)], milliseconds)
    }

    /// Waits until something can be written.
    ///
    /// # Errors
    /// As poll(2).
    pub fn wait_writable(&self, fd: BorrowedFd<'_>) -> Result<Woken, Errno> {
        self.poll(&[PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)
    }

    /// Waits for this many milliseconds.
    ///
    /// # Errors
    /// As poll(2).
    pub fn pause(&self, milliseconds: i64) -> Result<Woken, Errno> {
        self.poll(&[], Some(milliseconds))
    }

    fn poll(&self, others: &[PollFd<'_>], milliseconds: Option<i64>) -> Result<Woken, Errno> {
        let limit = milliseconds.map(|milliseconds| Timespec {
            tv_sec: milliseconds / 1000,
            tv_nsec: milliseconds % 1000 * 1_000_000,
        });
        let mut fds = others.to_vec();
        fds.push(PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN));
        loop {
            match poll(&mut fds, limit.as_ref()) {
                Ok(0) => return Ok(Woken::TimedOut),
                Err(Errno::INTR) => continue,
                other => other?,
            };
            if fds[..others.len()]
                .iter()
                .any(|fd| !fd.revents().is_empty())
            {
                return Ok(Woken::Ready);
            }
            if let Ok(Some(signal)) = self.0.read_signal()
                && let Ok(signal) = Signal::try_from(signal.ssi_signo.cast_signed())
            {
                return Ok(Woken::Interrupted(signal));
            }
        }
    }
}

/// Whether a signal to a process would be lost, and may not be soon: the first one of a pid namespace gets none that it has no handler for,
/// though its default were to end the process (pid_namespaces(7)), and only one that is busy can be about to have one. No, when the
/// kernel does not say.
pub fn is_too_early(pid: i32, signal: i32) -> bool {
    const HARMLESS: [i32; 7] = [
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGURG,
        libc::SIGWINCH,
    ];
    if signal <= 0 || [libc::SIGKILL, libc::SIGSTOP].contains(&signal) || HARMLESS.contains(&signal)
    {
        return false;
    }
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let has = |name| {
        let set = field(name).and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        set.is_none_or(|set| set & (1 << (signal - 1)) != 0)
    };
    let is_first =
        field("NSpid:").is_some_and(|pids| pids.split_whitespace().skip(1).last() == Some("1"));
    let is_busy = field("State:").is_some_and(|state| state.trim_start().starts_with(['R', 'D']));
    is_first && is_busy && !has("SigBlk:") && !has("SigIgn:") && !has("SigCgt:")
}

/// Whether a signal has no effect on this process (sigaction(2)).
fn is_ignored(signal: Signal) -> bool {
    // SAFETY: a sigaction is integers and a pointer, for all of which zero is a value; the kernel overwrites it.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action nothing is changed; the old one is written into a place of its type.
    let asked = unsafe { libc::sigaction(signal as i32, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}
