//! Processes: clone, exec, pidfds, signals, and what `/proc` says of a process.

use std::ffi::{CString, c_char};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};
use nix::unistd::AccessFlags;
use rustix::fs::FileType;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{errno_of, last_errno};

/// clone3's CLONE_INTO_CGROUP (linux/sched.h); libc's constant is an `int`, into which it does not fit.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a clone this is.
pub enum Cloned {
    /// The child's process id, as the caller sees it, and a descriptor of it.
    Parent {
        /// Process id in the caller's pid namespace.
        pid: i32,
        /// Becomes readable when the child is dead (pidfd_open(2)).
        pidfd: OwnedFd,
    },
    /// The child itself.
    Child,
}

/// Clones the calling process into new namespaces (clone3(2)): `flags` are CLONE_NEW*, and CLONE_PARENT to give the child
/// to the caller's parent; `cgroup` is a v2 cgroup directory that the child is born in.
///
/// # Errors
/// As clone3(2).
pub fn clone(flags: i32, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned, Errno> {
    let mut pidfd: RawFd = -1;
    let flags = u64::from(flags as u32)
        | libc::CLONE_PIDFD as u64
        | cgroup.map_or(0, |_| CLONE_INTO_CGROUP);
    // CLONE_PARENT takes the exit signal from the caller and wants 0 here (clone(2)).
    let exit_signal = if flags & libc::CLONE_PARENT as u64 != 0 {
        0
    } else {
        libc::SIGCHLD as u64
    };
    // SAFETY: clone_args is plain integers, for which zero is "not used" (clone3(2)).
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.pidfd = (&raw mut pidfd).addr() as u64;
    args.exit_signal = exit_signal;
    args.cgroup = cgroup.map_or(0, |fd| fd.as_raw_fd() as u64);
    // SAFETY: without CLONE_VM and with no stack given this is fork(2): the child runs on a copy of the caller's memory and
    // stack. `args` outlives the call and has the size that is passed; the kernel writes only `pidfd`. The caller has one
    // thread (netlink's setns thread is joined before), so no lock of the allocator can be held in the copy.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            std::mem::size_of::<libc::clone_args>(),
        )
    };
    match pid {
        -1 => Err(last_errno()),
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: on success the kernel put a new descriptor here, which nobody else owns (CLONE_PIDFD).
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent {
                pid: i32::try_from(pid).expect("a pid is an int"),
                pidfd,
            })
        }
    }
}

/// A user namespace that nobody is in, with these maps, as `/proc/PID/uid_map` and `gid_map` take them (user_namespaces(7)).
///
/// # Errors
/// As clone(2); as write(2) for maps that are not right, or not allowed to whoever is not root.
pub fn user_namespace(uids: &str, gids: &str) -> Result<OwnedFd, Errno> {
    // It waits for the end of a pipe that this process has the other end of, and so does not outlive it.
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (pid, pidfd) = match clone(libc::CLONE_NEWUSER, None)? {
        Cloned::Child => {
            drop(writer);
            let _ = rustix::io::retry_on_intr(|| rustix::io::read(&reader, &mut [0]));
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    let of_child = |name: &str| format!("/proc/{pid}/{name}");
    let made = std::fs::write(of_child("uid_map"), uids)
        .and_then(|()| std::fs::write(of_child("gid_map"), gids))
        .and_then(|()| File::open(of_child("ns/user")))
        .map_err(|e| errno_of(&e));
    drop(writer);
    wait(pidfd.as_fd())?;
    made.map(OwnedFd::from)
}

/// Ends the process at once, without destructors or exit handlers: the child of a clone must run none of its parent's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes any integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Arguments and environment in the form that execve(2) wants, made before they are needed.
pub struct ExecImage {
    strings: Vec<CString>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
}

impl ExecImage {
    /// Prepares `args` and `env`.
    ///
    /// # Errors
    /// `EINVAL` when one has a NUL byte.
    pub fn new<'a>(
        args: &'a [String],
        env: impl IntoIterator<Item = &'a String>,
    ) -> Result<Self, Errno> {
        let strings = args
            .iter()
            .chain(env)
            .map(|s| CString::new(s.as_str()).map_err(|_| Errno::INVAL))
            .collect::<Result<Vec<_>, _>>()?;
        let pointers = |part: &[CString]| {
            part.iter()
                .map(|s| s.as_ptr())
                .chain([std::ptr::null()])
                .collect()
        };
        Ok(ExecImage {
            argv: pointers(&strings[..args.len()]),
            envp: pointers(&strings[args.len()..]),
            strings,
        })
    }

    /// The program's name: the first argument.
    pub fn program(&self) -> &CString {
        &self.strings[0]
    }

    /// Becomes the program at `path` (execve(2)). Returns only when that failed.
    pub fn exec(&self, path: &CString) -> Errno {
        // SAFETY: all pointers come from `strings`, which `self` keeps alive and unmoved; both arrays end in null.
        unsafe { libc::execve(path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
        last_errno()
    }
}

/// Whether the calling process, as it is now, may execute what is behind this path (faccessat2(2)): a directory it may not.
///
/// # Errors
/// Why not.
pub fn may_execute(path: &Path) -> Result<(), Errno> {
    let access = nix::unistd::faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS);
    access.map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
    match rustix::fs::stat(path) {
        Ok(found) if FileType::from_raw_mode(found.st_mode).is_dir() => Err(Errno::ACCESS),
        other => other.map(drop),
    }
}

/// Becomes the program that is open here (execveat(2) with AT_EMPTY_PATH). Returns only when that failed.
pub fn exec_descriptor(program: BorrowedFd<'_>, args: Vec<Vec<u8>>, env: Vec<Vec<u8>>) -> Errno {
    let strings = |all: Vec<Vec<u8>>| {
        let all = all.into_iter().map(CString::new);
        all.collect::<Result<Vec<_>, _>>().map_err(|_| Errno::INVAL)
    };
    let (args, env) = match (strings(args), strings(env)) {
        (Ok(args), Ok(env)) => (args, env),
        (Err(errno), _) | (_, Err(errno)) => return errno,
    };
    let pointers = |all: &[CString]| -> Vec<*const c_char> {
        let all = all.iter().map(|string| string.as_ptr());
        all.chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&args), pointers(&env));
    // SAFETY: all pointers come from `args` and `env`, which outlive the call; both arrays end in null, and the path is an
    // empty string that ends in NUL.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

/// Keeps processes without CAP_SYS_PTRACE from looking into the calling one, until exec (PR_SET_DUMPABLE(2const), ptrace(2)
/// "Ptrace access mode checking").
///
/// # Errors
/// None for this value.
pub fn hide() -> Result<(), Errno> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Lets processes of the same user look into the calling one again, as after its start.
///
/// # Errors
/// None for this value.
pub fn show() -> Result<(), Errno> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::Dumpable)
}

/// A process that cannot be confused with a later one of the same number: its id and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number in the pid namespace of whoever wrote this down.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`, proc_pid_stat(5)).
    pub start: u64,
}

impl ProcessId {
    /// The calling process.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn own() -> io::Result<Self> {
        Self::of(std::process::id().cast_signed())
    }

    /// The process that has this number now.
    ///
    /// # Errors
    /// `NotFound` when there is none, and when `/proc` cannot be read.
    pub fn of(pid: i32) -> io::Result<Self> {
        let (start, _) = stat(pid)?;
        Ok(ProcessId { pid, start })
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        matches!(stat(self.pid), Ok((start, state)) if start == self.start && !matches!(state, b'Z' | b'X'))
    }

    /// A descriptor of it, unless it is gone.
    pub fn open(self) -> Option<OwnedFd> {
        let pid = rustix::process::Pid::from_raw(self.pid)?;
        let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
        // Looked at only after it was opened: from here on the descriptor is of the process that was looked at.
        self.is_alive().then_some(fd)
    }
}

/// Start time and state letter from `/proc/PID/stat`. The command's name may contain anything, so the fields are counted
/// from the last parenthesis.
fn stat(pid: i32) -> io::Result<(u64, u8)> {
    // The file is a kilobyte at most, 52 fields of which the longest are numbers of 64 bits, and is read as a whole (`seq_read`); of a file that
    // tells no length the standard library reads a little at a time.
    let mut text = [0; 2048];
    let length = File::open(format!("/proc/{pid}/stat"))?.read(&mut text)?;
    let text = &text[..length];
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let after = text.iter().rposition(|b| *b == b')').ok_or_else(bad)? + 2;
    let mut fields = text.get(after..).ok_or_else(bad)?.split(|b| *b == b' ');
    let state = *fields.next().and_then(<[u8]>::first).ok_or_else(bad)?;
    let start = fields
        .nth(18)
        .and_then(|field| std::str::from_utf8(field).ok()?.parse().ok())
        .ok_or_else(bad)?;
    Ok((start, state))
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By exit, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Ended {
    /// The exit code that a shell would show: the code, or 128 + the signal's number.
    pub fn shell_code(self) -> u8 {
        let code = match self {
            Ended::Code(code) => code,
            Ended::Signal(signal) => 128 + signal,
        };
        u8::try_from(code & 0xff).expect("eight bits")
    }
}

/// A descriptor of the process of this number, be it dead or not: of a child that was not waited for yet it is the right one.
///
/// # Errors
/// As pidfd_open(2).
pub fn open(pid: i32) -> Result<OwnedFd, Errno> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
}

/// The number of the process behind a pidfd, from `/proc/self/fdinfo` (pidfd_open(2)).
///
/// # Errors
/// `SRCH` when it is dead and reaped, or in no pid namespace that is seen from here.
pub fn pid_of(pidfd: BorrowedFd<'_>) -> Result<i32, Errno> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(path).map_err(|e| errno_of(&e))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        .filter(|pid| *pid > 0)
        .ok_or(Errno::SRCH)
}

/// Waits until a child is dead and reaps it (waitid(2) with P_PIDFD).
///
/// # Errors
/// `CHILD` when it is not the caller's child, or was reaped before.
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<Ended, Errno> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Ended::Code(code),
                    (None, Some(signal)) => Ended::Signal(signal),
                    (None, None) => Ended::Code(0),
                });
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Waits until a process, child or not, is dead, for at most this many milliseconds.
///
/// # Errors
/// As poll(2).
pub fn wait_dead(pidfd: BorrowedFd<'_>, milliseconds: u64) -> Result<bool, Errno> {
    Ok(wait_ready(&[pidfd], Duration::from_millis(milliseconds))?[0])
}

/// Waits until one of these has something to read, for at most so long; which have. A pidfd has when its process is dead.
///
/// # Errors
/// As poll(2); EINVAL for a time of more than 2^63 seconds.
pub fn wait_ready(fds: &[BorrowedFd<'_>], limit: Duration) -> Result<Vec<bool>, Errno> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec::try_from(limit).map_err(|_| Errno::INVAL)?;
    let mut polled: Vec<PollFd> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    rustix::io::retry_on_intr(|| poll(&mut polled, Some(&limit)))?;
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// Sends a signal by its number (pidfd_send_signal(2)).
///
/// # Errors
/// `SRCH` when the process is dead.
pub fn signal(pidfd: BorrowedFd<'_>, number: i32) -> Result<(), Errno> {
    // SAFETY: takes a descriptor that is open for the call, a number that the kernel checks, no siginfo, no flags.
    match unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Blocks all signals that can be blocked, and returns what was blocked before.
///
/// # Errors
/// None that the kernel documents for these arguments.
pub fn block_signals() -> nix::Result<SigSet> {
    let mut before = SigSet::empty();
    nix::sys::signal::sigprocmask(
        SigmaskHow::SIG_SETMASK,
        Some(&SigSet::all()),
        Some(&mut before),
    )?;
    Ok(before)
}

/// Sets which signals are blocked.
///
/// # Errors
/// None that the kernel documents for these arguments.
pub fn set_signal_mask(mask: &SigSet) -> nix::Result<()> {
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None)
}

/// Gives SIGPIPE its default effect, or ignores it. Rust's start-up ignores it, and both exec and clone would pass that on.
///
/// # Errors
/// None that the kernel documents for these arguments.
pub fn set_sigpipe(handler: SigHandler) -> nix::Result<()> {
    // SAFETY: neither SIG_DFL nor SIG_IGN is a function that could run in a signal's context.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, handler) }.map(drop)
}

/// Marks every descriptor from `first` on as closed by exec (close_range(2)).
///
/// # Errors
/// As close_range(2).
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor from `first` on (close_range(2)). Only for a process that will not use any of them again.
///
/// # Errors
/// As close_range(2).
pub fn close_from(first: u32) -> Result<(), Errno> {
    close_range(first, 0)
}

/// Closes every descriptor but the three standard ones and these. Only for a process that will not use any of the others again.
///
/// # Errors
/// As close_range(2).
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let number = |fd: &BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).ok();
    let mut kept: Vec<u32> = kept.iter().filter_map(number).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if first < fd {
            close_span(first, fd - 1, 0)?;
        }
        first = first.max(fd + 1);
    }
    close_from(first)
}

fn close_range(first: u32, flags: u32) -> Result<(), Errno> {
    close_span(first, u32::MAX, flags)
}

fn close_span(first: u32, last: u32, flags: u32) -> Result<(), Errno> {
    // SAFETY: takes three integers. Callers of the closing form own the whole process and exit or exec next, so no `OwnedFd`
    // in it closes a number that somebody else has got meanwhile.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Lets go of the program's code in memory, of which a part comes back as it is needed: what stays running after its start needs little of it.
///
/// # Errors
/// When `/proc/self/maps` cannot be read; as madvise(2).
pub fn let_code_go() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    // Code that nobody may write to, of a file: first the program's own (proc_pid_maps(5)).
    let is_code = |(_, rest): &(&str, &str)| rest.starts_with("r-xp ") && rest.contains('/');
    let Some((range, _)) = maps
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(is_code)
    else {
        return Ok(());
    };
    let address = |text: &str| usize::from_str_radix(text, 16).map_err(io::Error::other);
    let (from, to) = range.split_once('-').unwrap_or_default();
    let (from, to) = (address(from)?, address(to)?);
    let start = std::ptr::with_exposed_provenance_mut::<libc::c_void>(from);
    // SAFETY: these pages were never written to, as their protection says, so what comes back from the file is what was there
    // (madvise(2), MADV_DONTNEED).
    match unsafe { libc::madvise(start, to - from, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(last_errno().into()),
    }
}

/// Joins every namespace that `flags` (CLONE_NEW*) names of the process behind a pidfd, at once (setns(2), Linux 5.8).
///
/// # Errors
/// As setns(2).
pub fn join_all(pidfd: BorrowedFd<'_>, flags: i32) -> Result<(), Errno> {
    // SAFETY: takes a descriptor that is open for the call and an integer.
    match unsafe { libc::setns(pidfd.as_raw_fd(), flags) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Joins the namespace behind a descriptor; `kind` (CLONE_NEW*) is what it must be.
///
/// # Errors
/// As setns(2).
pub fn join(namespace: impl AsFd, kind: i32) -> Result<(), Errno> {
    join_all(namespace.as_fd(), kind)
}

/// Leaves namespaces for new ones (unshare(2)).
///
/// # Errors
/// As unshare(2).
pub fn unshare(flags: i32) -> Result<(), Errno> {
    // SAFETY: takes an integer; the process has one thread, and flags are only CLONE_NEW*.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Sends the calling process this signal when the thread that made it ends (PR_SET_PDEATHSIG(2const)). Cleared by exec of a
/// program that gains privileges, and by a change of user.
///
/// # Errors
/// None for a valid signal.
pub fn die_with_parent() -> Result<(), Errno> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_not_a_later_one() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive());
        assert!(own.open().is_some());
        let other = ProcessId {
            start: own.start + 1,
            ..own
        };
        assert!(!other.is_alive());
        assert!(other.open().is_none());
    }

    #[test]
    fn a_child_says_how_it_ended() {
        let Cloned::Parent { pidfd, .. } = clone(0, None).unwrap() else {
            exit_now(7)
        };
        assert_eq!(wait(pidfd.as_fd()).unwrap(), Ended::Code(7));
        let Cloned::Parent { pidfd, .. } = clone(0, None).unwrap() else {
            loop {
                nix::unistd::pause();
            }
        };
        assert!(!wait_dead(pidfd.as_fd(), 0).unwrap());
        signal(pidfd.as_fd(), libc::SIGKILL).unwrap();
        let ended = wait(pidfd.as_fd()).unwrap();
        assert_eq!(ended, Ended::Signal(9));
        assert_eq!(ended.shell_code(), 137);
    }
}
