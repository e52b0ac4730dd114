//! Network namespaces (network_namespaces(7)).

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use rustix::io::Errno;

/// The calling thread's network namespace.
pub fn current() -> io::Result<OwnedFd> {
    // Not /proc/self: that is the main thread's, and each thread has its own (namespaces(7)).
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

/// Which network namespace a descriptor is of: two descriptors of one tell the same.
///
/// # Errors
/// As fstat(2).
pub fn identity(netns: BorrowedFd) -> io::Result<(u64, u64)> {
    let status = rustix::fs::fstat(netns)?;
    Ok((status.st_dev, status.st_ino))
}

/// Moves the calling thread, and no other, into a network namespace (setns(2)).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN here or in the user namespace that owns it; EINVAL where it is no network namespace.
pub fn enter(netns: BorrowedFd) -> Result<(), Errno> {
    setns(netns, CloneFlags::CLONE_NEWNET).map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

/// Moves the calling thread into a new network namespace (unshare(2)).
pub fn leave() -> Result<(), Errno> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

/// Moves the calling thread into new network and mount namespaces, of which nothing that is mounted there gets out.
#[cfg(test)]
pub fn leave_with_mounts() -> Result<(), Errno> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )
}
