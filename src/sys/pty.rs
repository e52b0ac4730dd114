//! Terminals: a pair of a container's own devpts, and the caller's own (pty(7), ioctl_tty(2), termios(3)).

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, OutputModes, Termios, Winsize};

/// Lets the other end of this master be opened (TIOCSPTLCK).
pub fn unlock(master: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::pty::unlockpt(master)
}

/// Opens the other end of this master (TIOCGPTPEER): it cannot be anything else, whatever paths say.
pub fn open_peer(master: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::pty::ioctl_tiocgptpeer(
        master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
}

/// The settings of a terminal.
pub fn settings(terminal: BorrowedFd<'_>) -> Result<Termios, Errno> {
    rustix::termios::tcgetattr(terminal)
}

/// Sets what [`settings`] gave, once what was written has gone out.
pub fn set_settings(terminal: BorrowedFd<'_>, settings: &Termios) -> Result<(), Errno> {
    rustix::termios::tcsetattr(terminal, OptionalActions::Drain, settings)
}

/// The same settings without the translation of newline into carriage return and newline, which the caller's own terminal
/// does already.
pub fn without_onlcr(settings: &Termios) -> Termios {
    let mut plain = settings.clone();
    plain.output_modes.remove(OutputModes::ONLCR);
    plain
}

/// The same settings with every key passed on as it comes (cfmakeraw(3)). What is shown is still translated, which the
/// terminal of a container leaves to the caller's.
pub fn raw(settings: &Termios) -> Termios {
    let mut raw = settings.clone();
    raw.make_raw();
    raw.output_modes = settings.output_modes;
    raw
}

/// Columns and rows of a terminal.
pub fn size(terminal: BorrowedFd<'_>) -> Result<(u16, u16), Errno> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_col, size.ws_row))
}

/// Sets columns and rows of a terminal; its foreground processes get SIGWINCH.
pub fn set_size(terminal: BorrowedFd<'_>, (columns, rows): (u16, u16)) -> Result<(), Errno> {
    rustix::termios::tcsetwinsize(
        terminal,
        Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
}

/// Makes a terminal the controlling one of the caller, who leads a session without one (TIOCSCTTY).
pub fn make_controlling(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::process::ioctl_tiocsctty(terminal)
}

/// Puts another file in the place of those of the standard input, output and error of which this says yes (dup2(2)).
pub fn replace_standard_streams(
    by: BorrowedFd<'_>,
    is_one: impl Fn(BorrowedFd<'_>) -> bool,
) -> Result<(), Errno> {
    if is_one(rustix::stdio::stdin()) {
        rustix::stdio::dup2_stdin(by)?;
    }
    if is_one(rustix::stdio::stdout()) {
        rustix::stdio::dup2_stdout(by)?;
    }
    if is_one(rustix::stdio::stderr()) {
        rustix::stdio::dup2_stderr(by)?;
    }
    Ok(())
}

/// Makes a terminal the standard input, output and error (dup2(2)).
pub fn make_standard_streams(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::stdio::dup2_stdin(terminal)?;
    rustix::stdio::dup2_stdout(terminal)?;
    rustix::stdio::dup2_stderr(terminal)
}
