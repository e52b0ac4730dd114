//! Network namespaces (network_namespaces(7)).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::panic::resume_unwind;
use std::thread;

use nix::sched::{CloneFlags, setns};
use rustix::io::Errno;

/// The calling thread's network namespace.
pub fn current() -> io::Result<OwnedFd> {
    // Not /proc/self: that is the main thread's, and each thread has its own (namespaces(7)).
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

/// Which network namespace a descriptor is of: two descriptors of one tell the same, while it lives.
///
/// # Errors
/// As fstat(2).
fn identity(netns: BorrowedFd) -> io::Result<(u64, u64)> {
    let status = rustix::fs::fstat(netns)?;
    Ok((status.st_dev, status.st_ino))
}

/// Whether it is the calling thread's own network namespace.
///
/// # Errors
/// As fstat(2) and open(2).
pub fn is_current(netns: BorrowedFd) -> io::Result<bool> {
    Ok(identity(netns)? == identity(current()?.as_fd())?)
}

/// Which network namespace it is among all that there have been since the machine started: the number of its inode, which the kernel soon
/// gives to another, and its cookie, 0 where the kernel has none (before Linux 5.14).
///
/// # Errors
/// As fstat(2), socket(2) and [`within`].
pub fn incarnation(netns: BorrowedFd) -> io::Result<(u64, u64)> {
    let (_, inode) = identity(netns)?;
    let socket = within(netns, UnixDatagram::unbound)?;
    Ok((inode, cookie(socket?.as_fd())?.unwrap_or(0)))
}

/// The number of a socket's network namespace, if the kernel has such (SO_NETNS_COOKIE).
fn cookie(socket: BorrowedFd) -> io::Result<Option<u64>> {
    let mut cookie = 0_u64;
    let mut length = 8;
    // SAFETY: the descriptor is open while it is borrowed, and both pointers are to variables that live until the call returns; the kernel
    // writes no more than the 8 bytes that `length` says.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    match nix::errno::Errno::result(got) {
        Ok(_) => Ok(Some(cookie)),
        Err(nix::errno::Errno::ENOPROTOOPT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Moves the calling thread, and no other, into a network namespace (setns(2)).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN here or in the user namespace that owns it; EINVAL where it is no network namespace.
pub fn enter(netns: BorrowedFd) -> Result<(), Errno> {
    setns(netns, CloneFlags::CLONE_NEWNET).map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

/// Does something in a network namespace, where the calling thread goes and comes back from: that costs 20–30 µs, a thread that goes and
/// ends there 400–700 µs (measured on Linux 6.18). Such a thread it is where nobody could come back: the root of a user namespace may not
/// enter a network namespace that is not of it, though it be its own, as podman's without root has the machine's (setns(2)).
///
/// # Errors
/// As [`current`] and [`enter`]; then nothing was done.
///
/// # Panics
/// When the thread cannot come back all the same.
pub fn within<T: Send>(netns: BorrowedFd, deed: impl FnOnce() -> T + Send) -> io::Result<T> {
    let own = current()?;
    if enter(own.as_fd()).is_err() {
        return thread::scope(|threads| {
            let there = threads.spawn(|| {
                enter(netns)?;
                Ok(deed())
            });
            there.join().unwrap_or_else(|panic| resume_unwind(panic))
        });
    }
    enter(netns)?;
    let done = deed();
    enter(own.as_fd()).expect("a thread can return to its own network namespace");
    Ok(done)
}

/// Waits until the network namespaces are dead of which nothing was left but closed sockets: the kernel keeps those of servers for an RCU
/// grace period (SOCK_RCU_FREE, include/net/sock.h). Where it cannot be waited for it is not (membarrier(2), EINVAL with `nohz_full`).
pub fn let_sockets_go() {
    // The second is over only after what waited for the first was done, if nothing holds the kernel up.
    for _ in 0..2 {
        // SAFETY: the call has no pointers.
        unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    }
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
