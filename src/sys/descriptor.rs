//! Descriptors that go by their number over an exec.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, FdFlags};

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
