//! Waits for a container in the foreground: passes signals on, and carries bytes between the caller's terminal and the
//! container's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::Termios;

use crate::sys::process::{self, Ended};
use crate::sys::pty;
use crate::sys::signal::{Interrupts, Woken};

/// How signals reach the container's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// It is in the caller's session: what a terminal's keys send (SI_KERNEL) reaches it without us.
    Callers,
    /// It has one of its own: everything is passed on.
    Own,
}

/// The code of a signal that the kernel sent itself, as for Ctrl-C (sigaction(2), si_code).
const SI_KERNEL: i32 = 0x80;

/// Waits until the process is dead, and reaps it. All signals are blocked: `raise` did that.
///
/// # Errors
/// When the kernel refuses a descriptor or a read.
pub fn supervise(
    pidfd: BorrowedFd<'_>,
    session: Session,
    console: Option<OwnedFd>,
) -> Result<Ended, Errno> {
    let mut heard = SigSet::all();
    // A child's death is seen by its pidfd.
    heard.remove(Signal::SIGCHLD);
    let signals = SignalFd::with_flags(&heard, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| Errno::from_raw_os_error(e as i32))?;
    // A reader that goes away must not take us, and the container's cleaning up, with it.
    process::set_sigpipe(SigHandler::SigIgn).map_err(|e| Errno::from_raw_os_error(e as i32))?;
    let mut terminal = console.map(Terminal::open).transpose()?;
    loop {
        let mut fds = vec![
            PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        if let Some(terminal) = &terminal {
            terminal.poll_fds(&mut fds);
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        if let Some(terminal) = &mut terminal {
            terminal.carry(&ready[2..])?;
        }
        if !ready[1].is_empty() {
            // What comes when the process is dead is for us: whoever carries its last words hears it.
            while !process::wait_dead(pidfd, 0)?
                && let Ok(Some(signal)) = signals.read_signal()
            {
                let number = signal.ssi_signo.cast_signed();
                match &terminal {
                    Some(terminal) if number == libc::SIGWINCH => terminal.resize()?,
                    _ => pass_on(pidfd, session, number, signal.ssi_code)?,
                }
            }
        }
        if !ready[0].is_empty() {
            if let Some(terminal) = &mut terminal {
                terminal.drain()?;
            }
            return process::wait(pidfd);
        }
    }
}

fn pass_on(pidfd: BorrowedFd<'_>, session: Session, number: i32, code: i32) -> Result<(), Errno> {
    if session == Session::Callers && code == SI_KERNEL {
        return Ok(());
    }
    match process::signal(pidfd, number) {
        // Dead already: the next turn sees it.
        Err(Errno::SRCH) => Ok(()),
        other => other,
    }
}

/// Columns and rows of the caller's terminal, if a standard stream is one.
pub fn callers_size() -> Option<(u16, u16)> {
    let streams = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    streams.into_iter().find_map(|fd| pty::size(fd).ok())
}

/// The two terminals: the caller's standard input and output, and the master of the container's.
struct Terminal {
    master: OwnedFd,
    /// What the caller's terminal was set to; none when standard input is no terminal.
    before: Option<Termios>,
    to_container: Buffer,
    to_caller: Buffer,
    /// Whether standard input may still say something.
    stdin_open: bool,
    /// Whether standard output still takes something.
    stdout_open: bool,
    /// Whether the container's terminal is still open on its side.
    master_open: bool,
}

/// As much as can be written without blocking where poll(2) says that something can: PIPE_BUF of a pipe (pipe(7)). A write that
/// blocks would keep signals waiting, too.
const AT_ONCE: usize = 4096;

/// Bytes that were read and not yet written.
#[derive(Default)]
struct Buffer(Vec<u8>);

impl Buffer {
    /// Reads what is there; `false` at the end.
    fn fill(&mut self, from: impl AsFd) -> Result<bool, Errno> {
        let mut bytes = [0; 8192];
        match rustix::io::read(from, &mut bytes) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.0.extend_from_slice(&bytes[..count]);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            // A terminal's master whose other side is closed (pty(7)).
            Err(Errno::IO) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Writes what surely fits; `false` when nobody reads any more.
    fn empty(&mut self, to: impl AsFd) -> Result<bool, Errno> {
        match rustix::io::write(to, &self.0[..self.0.len().min(AT_ONCE)]) {
            Ok(count) => {
                self.0.drain(..count);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(Errno::IO | Errno::PIPE) => {
                self.0.clear();
                Ok(false)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Whether there is room for more: a reader that does not read must not make us grow.
    fn has_room(&self) -> bool {
        self.0.len() < 64 * 1024
    }
}

impl Terminal {
    fn open(master: OwnedFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&master, true)?;
        let stdin = rustix::stdio::stdin();
        let before = if rustix::termios::isatty(stdin) {
            let before = pty::settings(stdin)?;
            pty::set_settings(stdin, &pty::raw(&before))?;
            Some(before)
        } else {
            None
        };
        let terminal = Terminal {
            master,
            before,
            to_container: Buffer::default(),
            to_caller: Buffer::default(),
            stdin_open: true,
            stdout_open: true,
            master_open: true,
        };
        terminal.resize()?;
        Ok(terminal)
    }

    /// Gives the container's terminal the size of the caller's.
    fn resize(&self) -> Result<(), Errno> {
        match callers_size() {
            Some(size) => pty::set_size(self.master.as_fd(), size),
            None => Ok(()),
        }
    }

    /// In this order: master, standard input, standard output. A negative descriptor is skipped by poll(2), but a borrowed one
    /// cannot be negative: so one that is not wanted is asked for nothing.
    fn poll_fds<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let mut master = PollFlags::empty();
        if self.to_caller.has_room() {
            master |= PollFlags::IN;
        }
        if !self.to_container.0.is_empty() {
            master |= PollFlags::OUT;
        }
        if self.master_open {
            fds.push(PollFd::from_borrowed_fd(self.master.as_fd(), master));
        }
        if self.wants_stdin() {
            fds.push(PollFd::from_borrowed_fd(
                rustix::stdio::stdin(),
                PollFlags::IN,
            ));
        }
        if self.wants_stdout() {
            fds.push(PollFd::from_borrowed_fd(
                rustix::stdio::stdout(),
                PollFlags::OUT,
            ));
        }
    }

    fn wants_stdin(&self) -> bool {
        self.stdin_open && self.master_open && self.to_container.has_room()
    }

    fn wants_stdout(&self) -> bool {
        self.stdout_open && !self.to_caller.0.is_empty()
    }

    /// Carries bytes where poll said that there are some, in the order of [`Terminal::poll_fds`].
    fn carry(&mut self, ready: &[PollFlags]) -> Result<(), Errno> {
        let mut ready = ready.iter().copied();
        let (stdin_wanted, stdout_wanted) = (self.wants_stdin(), self.wants_stdout());
        if self.master_open {
            let flags = ready.next().unwrap_or(PollFlags::empty());
            if flags.contains(PollFlags::OUT) {
                self.master_open = self.to_container.empty(&self.master)?;
            }
            if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.master_open &= self.to_caller.fill(&self.master)?;
            }
        }
        if stdin_wanted && ready.next().is_some_and(|flags| !flags.is_empty()) {
            self.stdin_open = self.to_container.fill(rustix::stdio::stdin())?;
        }
        if stdout_wanted && ready.next().is_some_and(|flags| !flags.is_empty()) {
            self.stdout_open = self.to_caller.empty(rustix::stdio::stdout())?;
        }
        if !self.stdout_open {
            self.to_caller.0.clear();
        }
        Ok(())
    }

    /// Carries what the container wrote before it ended, unless tincan is asked to go while nobody reads.
    fn drain(&mut self) -> Result<(), Errno> {
        let interrupts = Interrupts::hear()?;
        loop {
            let before = self.to_caller.0.len();
            let more = self.master_open && self.to_caller.fill(&self.master)?;
            let said = self.to_caller.0.len() > before;
            while self.wants_stdout() {
                if let Woken::Interrupted(_) = interrupts.wait_writable(rustix::stdio::stdout())? {
                    return Ok(());
                }
                self.stdout_open = self.to_caller.empty(rustix::stdio::stdout())?;
            }
            if !more || !said || !self.stdout_open {
                return Ok(());
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The terminal may be gone, and then needs nothing.
            let _ = pty::set_settings(rustix::stdio::stdin(), before);
        }
    }
}
