//! Which ports the sockets of a network namespace have (sock_diag(7)): asked for all of them at once.

use std::collections::HashSet;
use std::io;

use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

use crate::plan::net::Protocol;

/// NETLINK_SOCK_DIAG and SOCK_DIAG_BY_FAMILY (linux/netlink.h, linux/sock_diag.h).
const SOCK_DIAG: isize = 4;
const BY_FAMILY: u16 = 20;

/// The ports that somebody listens on, or has for datagrams, of either family.
///
/// # Errors
/// When the kernel does not say.
pub fn ports_in_use(protocol: Protocol) -> io::Result<HashSet<u16>> {
    let (number, states) = match protocol {
        // Those that listen, or are bound and do not yet (1 << TCP_LISTEN, 1 << TCP_BOUND_INACTIVE; include/net/tcp_states.h).
        Protocol::Tcp => (libc::IPPROTO_TCP, 1 << 10 | 1 << 13),
        Protocol::Udp => (libc::IPPROTO_UDP, u32::MAX),
        Protocol::Sctp => (libc::IPPROTO_SCTP, u32::MAX),
    };
    let socket = Socket::new(SOCK_DIAG)?;
    let mut ports = HashSet::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        socket.send_to(&request(family, number, states), &SocketAddr::new(0, 0), 0)?;
        while read(&socket.recv_from_full()?.0, &mut ports)? {}
    }
    Ok(ports)
}

/// A header of netlink's (struct nlmsghdr), and which sockets are asked for (struct inet_diag_req_v2), whatever their addresses.
fn request(family: libc::c_int, protocol: libc::c_int, states: u32) -> Vec<u8> {
    const LENGTH: usize = 16 + 56;
    let byte = |number: libc::c_int| u8::try_from(number).expect("a number of 8 bits");
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).expect("16 bits");
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend(u32::try_from(LENGTH).expect("a small number").to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([byte(family), byte(protocol), 0, 0]);
    bytes.extend(states.to_ne_bytes());
    bytes.resize(LENGTH, 0);
    bytes
}

/// Takes the ports from a datagram of answers; whether there are more to come.
fn read(datagram: &[u8], ports: &mut HashSet<u16>) -> io::Result<bool> {
    let mut rest = datagram;
    while let [a, b, c, d, kind_low, kind_high, ..] = *rest {
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        match i32::from(u16::from_ne_bytes([kind_low, kind_high])) {
            libc::NLMSG_DONE => return Ok(false),
            libc::NLMSG_ERROR => {
                let code = rest
                    .get(16..20)
                    .map_or([0; 4], |it| [it[0], it[1], it[2], it[3]]);
                return Err(Errno::from_raw(-i32::from_ne_bytes(code)).into());
            }
            // Its own port is behind four bytes (struct inet_diag_msg).
            _ => {
                if let Some(port) = rest.get(20..22) {
                    ports.insert(u16::from_be_bytes([port[0], port[1]]));
                }
            }
        }
        rest = rest
            .get(length.max(16).next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(true)
}
