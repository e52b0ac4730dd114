//! Tap devices (Documentation/networking/tuntap.rst).

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::{errno_of, last_errno, netns};

/// Makes a tap device that stays when nobody has it open, in a network namespace.
///
/// # Errors
/// ENOENT without /dev/net/tun; EBUSY where the name is taken.
///
/// # Panics
/// When the thread cannot come back from there.
pub fn create(netns: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    netns::within(netns, || create_here(name)).map_err(|e| errno_of(&e))?
}

/// The device is of the network namespace that /dev/net/tun was opened in (`tun_chr_open`, drivers/net/tun.c).
fn create_here(name: &str) -> Result<(), Errno> {
    let mut options = OpenOptions::new();
    let tun = options.read(true).write(true).open("/dev/net/tun");
    let tun = tun.map_err(|e| errno_of(&e))?;
    // SAFETY: all bytes zero are a valid ifreq: it is integers, and unions of integers and of pointers nobody reads.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero, which ends the name.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives and is ours alone.
    if unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } != 0 {
        return Err(last_errno());
    }
    // SAFETY: TUNSETPERSIST takes an integer.
    if unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST, 1) } != 0 {
        return Err(last_errno());
    }
    Ok(())
}
