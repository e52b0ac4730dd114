//! What conntrack knows of datagrams (nfnetlink_conntrack.h). A rule that leads them elsewhere is asked for the first packet of a connection
//! alone, and for UDP that lasts as long as somebody sends: who began before a port was published, or to the container that had it before,
//! would never get to the one that has it now.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::attributes::{self, Attributes};
use super::nft::{error_of, messages};
use crate::plan::net::Protocol;
use crate::plan::network::Published;

/// Messages of conntrack: the subsystem's number is the upper byte of their type (NFNL_SUBSYS_CTNETLINK).
const NEW: u16 = 1 << 8;
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;

/// What a connection is told by, in one direction.
#[derive(Default)]
struct Tuple {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: Option<u8>,
    port: Option<u16>,
}

/// Has conntrack forget the connections of datagrams for these ports of the host's, of which these are the addresses: but for those that lead
/// to where they are to lead now, where they are `kept`.
///
/// # Errors
/// When the kernel has no netlink for conntrack, or refuses.
pub fn forget_datagrams(
    published: &[&Published],
    is_local: impl Fn(IpAddr) -> bool,
    kept: bool,
) -> io::Result<()> {
    let udp = published
        .iter()
        .filter(|one| one.publish.protocol == Protocol::Udp);
    let ports: Vec<(&Published, IpAddr)> = udp
        .flat_map(|one| one.to.iter().map(|to| (*one, *to)))
        .collect();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let v4 = family == libc::AF_INET;
        let family = u8::try_from(family).expect("a number of 8 bits");
        if !ports.iter().any(|(_, to)| to.is_ipv4() == v4) {
            continue;
        }
        let is_stale = |original: &Tuple, answer: &Tuple| {
            let (Some(at), Some(port)) = (original.destination, original.port) else {
                return false;
            };
            let is_for = |(one, to): &(&Published, IpAddr)| {
                let asked = one.publish.address.filter(|ip| !ip.is_unspecified());
                let range = one.publish.ports;
                (range.first..=range.last).contains(&port)
                    && to.is_ipv4() == v4
                    && asked.is_none_or(|asked| asked == at)
                    && !(kept && answer.source == Some(*to))
            };
            let is_udp = original.protocol.map(i32::from) == Some(libc::IPPROTO_UDP);
            is_udp && is_local(at) && ports.iter().any(is_for)
        };
        for stale in find(family, is_stale)? {
            delete(family, &stale)?;
        }
    }
    Ok(())
}

/// The connections of a family of which this holds, each by what it is asked for by: its tuple, and its zone where it is in one.
fn find(family: u8, is_it: impl Fn(&Tuple, &Tuple) -> bool) -> io::Result<Vec<Attributes>> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    send(&socket, GET, libc::NLM_F_DUMP, family, &[])?;
    let mut found = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        for (kind, message) in messages(&datagram) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(found),
                libc::NLMSG_ERROR => {
                    return match error_of(message) {
                        Some(errno) => Err(errno.into()),
                        None => Ok(found),
                    };
                }
                _ if kind == NEW => {
                    // Behind struct nfgenmsg.
                    let told = message.get(4..).unwrap_or_default();
                    let of = |wanted: u16| {
                        let mut all = attributes::read(told);
                        all.find(|(kind, _)| *kind == wanted)
                            .map(|(_, value)| value)
                    };
                    let (Some(original), Some(answer)) = (of(1), of(2)) else {
                        continue; // CTA_TUPLE_ORIG, CTA_TUPLE_REPLY
                    };
                    if is_it(&read(original), &read(answer)) {
                        let mut which = Attributes::default();
                        which.nested_bytes(1, original);
                        if let Some(zone) = of(18) {
                            which.bytes(18, zone); // CTA_ZONE
                        }
                        found.push(which);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Absent is success.
fn delete(family: u8, which: &Attributes) -> io::Result<()> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    send(&socket, DELETE, libc::NLM_F_ACK, family, which.as_bytes())?;
    let (datagram, _) = socket.recv_from_full()?;
    let answered = messages(&datagram).find_map(|(_, message)| error_of(message));
    match answered {
        None | Some(nix::errno::Errno::ENOENT) => Ok(()),
        Some(errno) => Err(errno.into()),
    }
}

/// One message: a header of netlink's (struct nlmsghdr), one of netfilter's (struct nfgenmsg), and attributes.
fn send(
    socket: &Socket,
    kind: u16,
    flags: libc::c_int,
    family: u8,
    attributes: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(20 + attributes.len()).expect("a short message");
    let flags = u16::try_from(libc::NLM_F_REQUEST | flags).expect("flags of 16 bits");
    let mut bytes = Vec::with_capacity(20 + attributes.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(attributes);
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).map(drop)
}

fn read(tuple: &[u8]) -> Tuple {
    let mut read = Tuple::default();
    let ip = |value: &[u8]| match value.len() {
        4 => <[u8; 4]>::try_from(value)
            .ok()
            .map(|it| Ipv4Addr::from(it).into()),
        _ => <[u8; 16]>::try_from(value)
            .ok()
            .map(|it| Ipv6Addr::from(it).into()),
    };
    for (part, value) in attributes::read(tuple) {
        for (kind, value) in attributes::read(value) {
            match (part, kind) {
                // CTA_TUPLE_IP: CTA_IP_V4_SRC, CTA_IP_V6_SRC; CTA_IP_V4_DST, CTA_IP_V6_DST.
                (1, 1 | 3) => read.source = ip(value),
                (1, 2 | 4) => read.destination = ip(value),
                // CTA_TUPLE_PROTO: CTA_PROTO_NUM, CTA_PROTO_DST_PORT.
                (2, 1) => read.protocol = value.first().copied(),
                (2, 3) => read.port = value.try_into().ok().map(u16::from_be_bytes),
                _ => {}
            }
        }
    }
    read
}
