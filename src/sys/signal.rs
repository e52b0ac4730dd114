//! Sending signals.

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
