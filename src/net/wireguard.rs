//! WireGuard's keys and peers, by its own family of netlink (include/uapi/linux/wireguard.h, genetlink.h).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr as Kernel};
use nix::errno::Errno;

use super::attributes::Attributes;
use super::netlink::Refused;
use crate::plan::name::{IfAddr, LinkName};
use crate::plan::wireguard::{Peer, Tunnel};
use crate::sys::netns;

/// The family that knows the numbers of the others, and its question for one (GENL_ID_CTRL, CTRL_CMD_GETFAMILY).
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;

/// WG_CMD_SET_DEVICE.
const SET_DEVICE: u8 = 1;

/// How many addresses of a peer, and how many bytes of peers, one message has: the list's length is a number of 16 bits.
const ADDRESSES: usize = 500;
const BYTES: usize = 16 * 1024;

/// Gives a WireGuard link in this namespace its keys and its peers.
///
/// # Errors
/// What the kernel says.
pub fn configure(
    netns: Option<BorrowedFd<'_>>,
    link: &LinkName,
    tunnel: &Tunnel,
) -> Result<(), Refused> {
    let socket = open_in(netns)?;
    let mut name = Attributes::default();
    name.text(2, "wireguard"); // CTRL_ATTR_FAMILY_NAME
    let answer = exchange(&socket, CONTROL, GET_FAMILY, &name)?;
    let family = family(&answer).ok_or_else(|| io::Error::from(Errno::ENOENT))?;
    let mut device = Attributes::default();
    device.text(2, link.as_str()); // WGDEVICE_A_IFNAME
    if let Some(key) = tunnel.private_key {
        device.bytes(3, &key.0); // WGDEVICE_A_PRIVATE_KEY
    }
    if let Some(port) = tunnel.port {
        device.bytes(6, &port.to_ne_bytes()); // WGDEVICE_A_LISTEN_PORT
    }
    if let Some(mark) = tunnel.mark {
        device.bytes(7, &mark.to_ne_bytes()); // WGDEVICE_A_FWMARK
    }
    exchange(&socket, family, SET_DEVICE, &device)?;
    for peers in messages(&tunnel.peers) {
        let mut device = Attributes::default();
        device.text(2, link.as_str());
        device.nested(8, &peers); // WGDEVICE_A_PEERS
        exchange(&socket, family, SET_DEVICE, &device)?;
    }
    Ok(())
}

fn open_in(netns: Option<BorrowedFd<'_>>) -> io::Result<Socket> {
    let Some(there) = netns else {
        return Socket::new(NETLINK_GENERIC);
    };
    netns::within(there, || Socket::new(NETLINK_GENERIC))?
}

/// The peers, as lists of which each fits into a message.
fn messages(peers: &[Peer]) -> Vec<Attributes> {
    let mut lists: Vec<Attributes> = Vec::new();
    for peer in peers {
        let (first, rest) = peer.allowed.split_at(peer.allowed.len().min(ADDRESSES));
        let mut pieces = vec![whole(peer, first)];
        pieces.extend(rest.chunks(ADDRESSES).map(|some| {
            let mut more = Attributes::default();
            more.bytes(1, &peer.public_key.0);
            more.nested(9, &addresses(some));
            more
        }));
        for piece in pieces {
            let fits = |list: &&mut Attributes| list.as_bytes().len() < BYTES;
            match lists.last_mut().filter(fits) {
                Some(list) => list.nested(0, &piece),
                None => {
                    let mut list = Attributes::default();
                    list.nested(0, &piece);
                    lists.push(list);
                }
            }
        }
    }
    lists
}

fn whole(peer: &Peer, allowed: &[IfAddr]) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.bytes(1, &peer.public_key.0); // WGPEER_A_PUBLIC_KEY
    if let Some(key) = peer.preshared_key {
        attributes.bytes(2, &key.0); // WGPEER_A_PRESHARED_KEY
    }
    if let Some(endpoint) = peer.endpoint {
        attributes.bytes(4, &socket_address(endpoint)); // WGPEER_A_ENDPOINT
    }
    if let Some(seconds) = peer.keepalive {
        attributes.bytes(5, &seconds.to_ne_bytes()); // WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL
    }
    attributes.nested(9, &addresses(allowed)); // WGPEER_A_ALLOWEDIPS
    attributes
}

fn addresses(allowed: &[IfAddr]) -> Attributes {
    let mut list = Attributes::default();
    for prefix in allowed {
        let (family, bytes) = match prefix.ip {
            IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
            IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
        };
        let family = u16::try_from(family).expect("a small number");
        let mut one = Attributes::default();
        one.bytes(1, &family.to_ne_bytes()); // WGALLOWEDIP_A_FAMILY
        one.bytes(2, &bytes); // WGALLOWEDIP_A_IPADDR
        one.bytes(3, &[prefix.prefix]); // WGALLOWEDIP_A_CIDR_MASK
        list.nested(0, &one);
    }
    list
}

/// As the kernel has addresses of sockets (ip(7), ipv6(7)): struct sockaddr_in, struct sockaddr_in6.
fn socket_address(endpoint: SocketAddr) -> Vec<u8> {
    let family = |number: libc::c_int| u16::try_from(number).expect("a small number").to_ne_bytes();
    let port = endpoint.port().to_be_bytes();
    match endpoint {
        SocketAddr::V4(it) => [
            &family(libc::AF_INET)[..],
            &port,
            &it.ip().octets(),
            &[0; 8],
        ]
        .concat(),
        SocketAddr::V6(it) => [
            &family(libc::AF_INET6)[..],
            &port,
            &it.flowinfo().to_be_bytes(),
            &it.ip().octets(),
            &it.scope_id().to_ne_bytes(),
        ]
        .concat(),
    }
}

/// The number of a family in the control family's answer (CTRL_ATTR_FAMILY_ID), which has a header of 4 bytes before its attributes.
fn family(answer: &[u8]) -> Option<u16> {
    let mut rest = answer.get(4..)?;
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        if u16::from_ne_bytes([c, d]) == 1 {
            return Some(u16::from_ne_bytes([*rest.get(4)?, *rest.get(5)?]));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}

/// Sends a request, and reads what the kernel answers before it acknowledges.
fn exchange(
    socket: &Socket,
    family: u16,
    command: u8,
    attributes: &Attributes,
) -> Result<Vec<u8>, Refused> {
    const HEADERS: usize = 16 + 4;
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK).expect("16 bits");
    let length = u32::try_from(HEADERS + attributes.as_bytes().len()).expect("short messages");
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attributes.as_bytes());
    socket.send_to(&message, &Kernel::new(0, 0), 0)?;
    let mut answer = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let kind = datagram
            .get(4..6)
            .map(|it| u16::from_ne_bytes([it[0], it[1]]));
        let Some(payload) = datagram.get(16..) else {
            return Err(io::Error::from(Errno::EBADMSG).into());
        };
        if kind.map(i32::from) != Some(libc::NLMSG_ERROR) {
            answer = payload.to_vec();
            continue;
        }
        let code = payload
            .get(..4)
            .map_or([0; 4], |it| [it[0], it[1], it[2], it[3]]);
        return match i32::from_ne_bytes(code) {
            0 => Ok(answer),
            code => Err(io::Error::from(Errno::from_raw(-code)).into()),
        };
    }
}
