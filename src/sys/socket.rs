//! Sockets that are asked for and thrown away.

use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

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
