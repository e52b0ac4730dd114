//! What conntrack knows of datagrams (nfnetlink_conntrack.h). A rule that leads them elsewhere is asked for the first packet of a connection
//! alone, and for UDP that lasts as long as somebody sends: who began before a port was published, or to the container that had it before,
//! would never get to the one that has it now.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::Socket;

use super::attributes::{self, Attributes};
use super::nft;
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
    let is_stale = |original: &Tuple, answer: &Tuple| {
        let (Some(at), Some(port)) = (original.destination, original.port) else {
            return false;
        };
        let is_for = |(one, to): &(&Published, IpAddr)| {
            let asked = one.publish.address.filter(|ip| !ip.is_unspecified());
            let range = one.publish.ports;
            (range.first..=range.last).contains(&port)
                && to.is_ipv4() == at.is_ipv4()
                && asked.is_none_or(|asked| asked == at)
                && !(kept && answer.source == Some(*to))
        };
        let is_udp = original.protocol.map(i32::from) == Some(libc::IPPROTO_UDP);
        is_udp && ports.iter().any(is_for) && is_local(at)
    };
    nft::with_socket(|socket| {
        let stale = find(socket, is_stale)?;
        stale.iter().try_for_each(|stale| delete(socket, stale))
    })
}

/// A connection, by what it is asked for by: its family, and its tuple, with its zone where it is in one.
struct Connection(u8, Attributes);

/// The connections of which this holds. They are all looked at once, of whatever family: to go through the kernel's table takes 5 ms, however
/// few are in it, since it has room for a quarter of a million (`nf_conntrack_buckets`, nf_conntrack-sysctl.rst).
fn find(socket: &Socket, is_it: impl Fn(&Tuple, &Tuple) -> bool) -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    let all = Attributes::default();
    let any_family = libc::AF_UNSPEC as u8;
    nft::dump(socket, [GET, NEW], any_family, &all, |family, told| {
        let tuples = (attributes::find(told, 1), attributes::find(told, 2)); // CTA_TUPLE_ORIG, CTA_TUPLE_REPLY
        let (Some(original), Some(answer)) = tuples else {
            return;
        };
        if is_it(&read(original), &read(answer)) {
            let mut which = Attributes::default();
            which.nested_bytes(1, original);
            // CTA_ZONE
            if let Some(zone) = attributes::find(told, 18) {
                which.bytes(18, zone);
            }
            found.push(Connection(family, which));
        }
    })?;
    Ok(found)
}

/// Absent is success.
fn delete(socket: &Socket, Connection(family, which): &Connection) -> io::Result<()> {
    match nft::demand(socket, DELETE, *family, which) {
        Err(error) if nft::is_absent(&error) => Ok(()),
        other => other,
    }
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
