//! The one line between the engine and a container's first process: a SEQPACKET pair, whose end of file means that the
//! other side is dead or has become the workload.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::errno_of;

/// What the child says: at which step it is, and how it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The index of the step in the node's list.
    pub step: u32,
    /// 0: at this gate, or this descriptor is passed; else why the step failed.
    pub errno: i32,
}

/// A pair of connected ends, closed by exec.
///
/// # Errors
/// As socketpair(2).
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// Listens on a new socket file, whose directory says who may connect.
///
/// # Errors
/// As bind(2).
pub fn listen(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = socket()?;
    let (address, _directory) = address(path)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 1)?;
    Ok(socket)
}

/// Connects to such a socket.
///
/// # Errors
/// `CONNREFUSED` when nobody listens any more, `NOENT` when there is no such file.
pub fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = socket()?;
    let (address, _directory) = address(path)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Connects to another program's stream socket, or says at once that it has more callers waiting than it wants.
///
/// # Errors
/// `AGAIN` in that case (unix(7)); as connect(2).
pub fn try_connect_stream(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// The same, and waits for its turn.
///
/// # Errors
/// As connect(2).
pub fn connect_stream(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn socket() -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// A socket file's address by way of its directory's descriptor, which must stay open while it is used: the path of a socket
/// has at most 107 bytes (unix(7)), that of a state root may have more.
fn address(path: &Path) -> Result<(SocketAddrUnix, File), Errno> {
    let (Some(directory), Some(file)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL);
    };
    let directory = File::open(directory).map_err(|e| errno_of(&e))?;
    let by_descriptor = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(file);
    Ok((SocketAddrUnix::new(&by_descriptor)?, directory))
}

/// Sends a report, with a descriptor or without.
///
/// # Errors
/// `PIPE` when the other side is gone.
pub fn report(to: impl AsFd, report: Report, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&report.step.to_ne_bytes());
    bytes[4..].copy_from_slice(&report.errno.to_ne_bytes());
    send_with(to, &bytes, fd)
}

/// Lets a worker of the kernel's have the last reference to what is open here, so that nobody waits for its closing once the caller has let
/// go of it: it is sent to a socket that is sent to itself, which nobody can receive from any more, and which the kernel's collector of
/// such things frees (net/unix/garbage.c, `unix_gc`; before Linux 6.8 it does so in the caller's time).
///
/// # Errors
/// As socketpair(2) and sendmsg(2); then the caller's own closing is the last.
pub fn close_behind(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let (here, there) = pair()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [here.as_fd(), fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(
        &there,
        &[IoSlice::new(b"x")],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .map(drop)
}

/// Sends some bytes, with a descriptor or without.
///
/// # Errors
/// `PIPE` when the other side is gone.
pub fn send_with(to: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(
            &to,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })
    .map(drop)
}

/// Receives a report; `None` is the end: the other side is dead, or has exec'd.
///
/// # Errors
/// As recvmsg(2).
pub fn receive(from: impl AsFd) -> Result<Option<(Report, Option<OwnedFd>)>, Errno> {
    let mut bytes = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match rustix::net::recvmsg(
            &from,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            // The child was killed with bytes of ours unread: as dead as after an orderly close.
            Err(Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    if message.bytes == 0 {
        return Ok(None);
    }
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let word = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).expect("four bytes");
    let report = Report {
        step: u32::from_ne_bytes(word(0)),
        errno: i32::from_ne_bytes(word(4)),
    };
    Ok(Some((report, fd)))
}

/// Opens a gate.
///
/// # Errors
/// `PIPE` when the other side is gone.
pub fn go(to: impl AsFd) -> Result<(), Errno> {
    send_with(to, b"!", None)
}

/// Waits at a gate; `false` when the other side is gone and the gate will never open.
///
/// # Errors
/// As recv(2).
pub fn await_go(from: impl AsFd) -> Result<bool, Errno> {
    let mut byte = [0; 1];
    loop {
        match rustix::net::recv(&from, &mut byte[..], RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(false),
            other => return other.map(|(count, _)| count == 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_arrive_with_their_descriptor_and_the_end_is_seen() {
        let (a, b) = pair().unwrap();
        let sent = Report { step: 3, errno: 17 };
        report(&a, sent, Some(std::io::stdin().as_fd())).unwrap();
        let (got, fd) = receive(&b).unwrap().unwrap();
        assert_eq!(got, sent);
        assert!(fd.is_some());
        go(&b).unwrap();
        assert!(await_go(&a).unwrap());
        drop(b);
        assert!(!await_go(&a).unwrap());
        assert_eq!(report(&a, sent, None), Err(Errno::PIPE));
    }
}
