//! Descriptors that go by their number over an exec.

use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::io::{Errno, FdFlags};

use super::errno_of;

/// A descriptor's number, to be told to the program that inherits it.
pub fn number(fd: BorrowedFd<'_>) -> RawFd {
    fd.as_raw_fd()
}

/// Whether the program was started with this descriptor: what it opens itself is closed by exec.
pub fn is_inherited(number: RawFd) -> bool {
    // SAFETY: borrowed for the one call, which says so when it is not open; -1 alone must not be borrowed.
    number >= 0
        && rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) })
            .is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
}

/// Takes over a descriptor that the program was started with, and keeps it from the programs that this one starts.
///
/// # Errors
/// `BADF` for one of the three standard streams, or when there is none of that number.
pub fn inherited(number: RawFd) -> Result<OwnedFd, Errno> {
    if number <= 2 {
        return Err(Errno::BADF);
    }
    // SAFETY: only borrowed until fcntl(2) has said that it is open.
    rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and nobody in this process owns it: it is asked for once, at the program's start, when the process
    // has opened nothing else yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Leaves what is at a path open as the descriptor of just this number, for the program that is executed.
///
/// # Errors
/// As open(2) and [`leave_open`].
pub fn offer(path: &Path, descriptor: RawFd) -> Result<(), Errno> {
    let file = std::fs::File::open(path).map_err(|e| errno_of(&e))?;
    leave_open(file.as_fd(), descriptor)
}

/// Leaves what is open as another descriptor, of just this number, for the program that is executed.
///
/// # Errors
/// `BUSY` where the number is taken.
pub fn leave_open(fd: BorrowedFd<'_>, descriptor: RawFd) -> Result<(), Errno> {
    let copy = rustix::io::fcntl_dupfd_cloexec(fd, descriptor)?;
    if copy.as_raw_fd() != descriptor {
        return Err(Errno::BUSY);
    }
    rustix::io::fcntl_setfd(&copy, FdFlags::empty())?;
    // The program's from here on.
    let _ = copy.into_raw_fd();
    Ok(())
}
