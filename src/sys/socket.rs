//! Sockets, beyond what the standard library makes.

use std::ffi::OsString;
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use super::last_errno;

use crate::plan::net::Protocol;

/// Whether a port of this network namespace's can be had (bind(2)): tried, and given back at once.
///
/// # Errors
/// ADDRINUSE where somebody has it, ADDRNOTAVAIL where the address is none of this namespace's.
pub fn try_bind(address: SocketAddr, protocol: Protocol) -> Result<(), Errno> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let (kind, protocol) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = match socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol)) {
        // Nobody has a port of a protocol that the kernel does not speak.
        Err(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => return Ok(()),
        other => other?,
    };
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        // What is left of closed connections has the port no more; who listens there has it all the same (socket(7)).
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)
}

/// A socket by which a server is asked, for datagrams or for streams: at one address, by one link alone (SO_BINDTODEVICE, socket(7)), so
/// that nobody is heard who comes by another.
///
/// # Errors
/// As bind(2) and listen(2).
pub fn serving(address: SocketAddr, link: &str, stream: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let kind = if stream {
        SocketType::STREAM
    } else {
        SocketType::DGRAM
    };
    let socket = socket_with(
        family,
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    let to_device = nix::sys::socket::sockopt::BindToDevice;
    nix::sys::socket::setsockopt(&socket, to_device, &OsString::from(link))
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
    if stream {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    if stream {
        rustix::net::listen(&socket, 16)?;
    }
    Ok(socket)
}

/// A socket for datagrams of either family, as far as there are both, that waits for nothing.
///
/// # Errors
/// As socket(2).
pub fn for_datagrams() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = |family| socket_with(family, SocketType::DGRAM, flags, None);
    match socket(AddressFamily::INET6) {
        Err(Errno::AFNOSUPPORT) => socket(AddressFamily::INET),
        other => {
            let socket = other?;
            sockopt::set_ipv6_v6only(&socket, false)?;
            Ok(socket)
        }
    }
}

/// Sockets for a stream, one of each family that there is, that wait for nothing.
///
/// # Errors
/// As socket(2).
pub fn for_streams() -> Result<Vec<OwnedFd>, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let families = [AddressFamily::INET, AddressFamily::INET6];
    let sockets = families.map(|family| socket_with(family, SocketType::STREAM, flags, None));
    let is_there = |socket: &Result<_, Errno>| !matches!(socket, Err(Errno::AFNOSUPPORT));
    sockets.into_iter().filter(is_there).collect()
}

/// Whether a socket speaks IPv4 alone.
pub fn is_v4(socket: BorrowedFd<'_>) -> bool {
    matches!(sockopt::socket_domain(socket), Ok(AddressFamily::INET))
}

/// An address, as this socket takes it: IPv4 within IPv6, where it speaks that (ipv6(7)).
pub fn mapped(address: SocketAddr, socket: BorrowedFd<'_>) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if !is_v4(socket) => {
            SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
        }
        address => address,
    }
}

/// The address at the other end of a connection.
pub fn peer(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    SocketAddr::try_from(rustix::net::getpeername(socket).ok()??).ok()
}

/// A socket that becomes readable when this link of the network namespace's is gone (rtnetlink(7)), and by nothing else.
///
/// # Errors
/// As socket(2), bind(2) and setsockopt(2).
pub fn end_of_link(index: u32) -> Result<OwnedFd, Errno> {
    /// RTMGRP_LINK (linux/rtnetlink.h).
    const LINKS: u32 = 1;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // No protocol is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    // Loads are big-endian (filter.txt of the kernel), what is loaded has the machine's order.
    let jump = |value: u32, jf| libc::sock_filter {
        code: 0x15,
        jt: 0,
        jf,
        k: value,
    };
    let line = |code, k| libc::sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let mut program = [
        // The type of the message (struct nlmsghdr) and the link's number (struct ifinfomsg).
        line(0x28, 4),
        jump(libc::RTM_DELLINK.to_be().into(), 3),
        line(0x20, 20),
        jump(index.to_be(), 1),
        line(0x06, u32::MAX),
        line(0x06, 0),
    ];
    let filter = libc::sock_fprog {
        len: 6,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the filter and its program outlive the call, which copies them; `len` is the program's length.
    let attached = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            libc::socklen_t::try_from(size_of_val(&filter)).map_err(|_| Errno::INVAL)?,
        )
    };
    if attached != 0 {
        return Err(last_errno());
    }
    bind(
        &socket,
        &rustix::net::netlink::SocketAddrNetlink::new(0, LINKS),
    )?;
    Ok(socket)
}
