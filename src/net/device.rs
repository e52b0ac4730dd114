//! Links of the host's that containers are lent: moved into their namespaces, and moved back as they were.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_DUMP, NetlinkDeserializable as _, NetlinkHeader, NetlinkSerializable as _,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use rtnetlink::LinkUnspec;

use super::netlink::{Netlink, Refused, Request};
use super::wire::{self, Link};
use crate::plan::interface::{Loan, Saved};
use crate::plan::name::{IfAddr, LinkName};

/// How a link of the host's is, to be written down before it goes, and its addresses that go with it: those of global scope that do
/// not expire (runtime-spec config-linux.md, Network Devices).
///
/// # Errors
/// ENODEV without the link.
pub fn look(
    host: &Netlink,
    device: &LinkName,
    interface: &LinkName,
) -> Result<(Loan, Vec<IfAddr>), Refused> {
    let link = wire::link_by_name(host, device)?;
    let addresses = addresses(host, link.index)?;
    let lasting = addresses.iter().filter(|message| {
        let is_permanent = flags(message).contains(AddressFlags::Permanent);
        is_permanent && message.header.scope == AddressScope::Universe
    });
    let addrs = lasting
        .filter_map(wire::read_address)
        .map(|found| found.addr);
    let addrs = addrs.collect();
    let addresses = addresses.into_iter().filter(is_worth_keeping);
    let addresses = addresses.map(|message| RouteNetlinkMessage::NewAddress(again(message)));
    let routes = routes(host, link.index)?.into_iter();
    let routes = routes.map(RouteNetlinkMessage::NewRoute);
    let loan = Loan {
        device: device.clone(),
        interface: interface.clone(),
        index: link.index,
        kind: link.kind,
        peer: link.peer,
        peer_nsid: link.peer_netnsid,
        up: link.up,
        mac: link.mac,
        mtu: link.mtu,
        requests: addresses.chain(routes).map(|it| save(&it)).collect(),
    };
    Ok((loan, addrs))
}

/// Moves a link of the host's into a namespace, under another name; one on loan under a number that is in its journal. It is down
/// afterwards, and has no address.
///
/// # Errors
/// ENODEV without the link, EEXIST where the namespace has one of that name, EINVAL for one that the kernel does not move.
pub fn lend(
    host: &Netlink,
    device: &LinkName,
    inside: &Netlink,
    netns: BorrowedFd<'_>,
    interface: &LinkName,
    loan: Option<&Loan>,
) -> Result<(), Refused> {
    // The kernel moves it first, and finds the name taken then.
    if wire::link_by_name(inside, interface).is_ok() {
        return Err(Refused {
            errno: Errno::EEXIST,
            said: None,
        });
    }
    let index = host.index_of(device)?;
    let new_index = loan.map(Loan::inside);
    host.request(moved(index, interface, netns, new_index))
        .map(drop)
}

/// How a lent link has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// As it was.
    Whole,
    /// Down and without addresses, since it could be one that the container has made in its place.
    Down,
    /// Not at all: it is gone, or another is in its place.
    Gone,
}

/// Moves a lent link back to the host, and lets it be there as it was.
///
/// # Errors
/// EEXIST where the host has a link of its name by now.
pub fn take_back(
    inside: Option<&Netlink>,
    host: &Netlink,
    netns: BorrowedFd<'_>,
    loan: &Loan,
) -> Result<Return, Refused> {
    let mut is_back = false;
    if let Some(inside) = inside {
        let index = loan.inside().cast_unsigned();
        match wire::link_by_index(inside, index) {
            Err(refused) if refused.errno == Errno::ENODEV => {}
            Err(refused) => return Err(refused),
            Ok(found) if !is_it(&found, inside, host, netns, loan)? => return Ok(Return::Gone),
            Ok(_) => {
                move_back(inside, host, netns, loan, index)?;
                is_back = true;
            }
        }
    }
    let link = match wire::link_by_name(host, &loan.device) {
        Err(refused) if refused.errno == Errno::ENODEV => return Ok(Return::Gone),
        other => other?,
    };
    if is_back && !loan.is_told_apart() {
        return Ok(Return::Down);
    }
    // One that never went, or came back before; else another has its name by now.
    if !is_back && (link.index != loan.index || link.kind != loan.kind) {
        return Ok(Return::Gone);
    }
    restore(host, &link, loan)?;
    Ok(Return::Whole)
}

/// Whether what has a lent link's number in the container is that link: of its kind, and hanging on the same link of the host's.
fn is_it(
    found: &Link,
    inside: &Netlink,
    host: &Netlink,
    netns: BorrowedFd<'_>,
    loan: &Loan,
) -> Result<bool, Refused> {
    if found.kind != loan.kind {
        return Ok(false);
    }
    let Some(peer) = loan.peer else {
        return Ok(true);
    };
    if found.kind.as_deref() == Some("veth") {
        // Its other end, whoever has that, has no choice.
        let other = wire::link_by_index_in(host, peer, loan.peer_nsid);
        return Ok(other.is_ok_and(|it| it.peer == Some(loan.inside().cast_unsigned())));
    }
    if loan.peer_nsid.is_some() {
        return Ok(true);
    }
    let known = wire::nsid_of(inside, netns)?;
    Ok(found.peer == Some(peer) && known.is_some() && found.peer_netnsid == known)
}

fn move_back(
    inside: &Netlink,
    host: &Netlink,
    netns: BorrowedFd<'_>,
    loan: &Loan,
    index: u32,
) -> Result<(), Refused> {
    if wire::link_by_name(host, &loan.device).is_ok() {
        return Err(Refused {
            errno: Errno::EEXIST,
            said: None,
        });
    }
    let again = i32::try_from(loan.index).ok();
    match inside.request(moved(index, &loan.device, netns, again)) {
        // Its number is another's by now.
        Err(refused) if refused.errno == Errno::EBUSY => inside
            .request(moved(index, &loan.device, netns, None))
            .map(drop),
        other => other.map(drop),
    }
}

/// Moves a link, renames and renumbers it in one request (`do_setlink`, net/core/rtnetlink.c; IFLA_NEW_IFINDEX since Linux 5.13).
fn moved(index: u32, name: &LinkName, netns: BorrowedFd<'_>, new_index: Option<i32>) -> Request {
    let mut link = LinkUnspec::new_with_index(index)
        .name(name.as_str())
        .append_extra_attribute(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    if let Some(new_index) = new_index {
        link = link.append_extra_attribute(LinkAttribute::NewIfIndex(new_index));
    }
    Request::new(RouteNetlinkMessage::SetLink(link.build()), 0)
}

/// Gives a link what it had. What it has already is no failure: it may never have gone.
fn restore(host: &Netlink, link: &Link, loan: &Loan) -> Result<(), Refused> {
    let mut looks = LinkUnspec::new_with_index(link.index).mtu(loan.mtu);
    if let Some(mac) = loan.mac.filter(|mac| link.mac != Some(*mac)) {
        looks = looks.address(mac.0.to_vec());
    }
    if loan.up {
        looks = looks.up();
    }
    let looks = RouteNetlinkMessage::SetLink(looks.build());
    host.request(Request::new(looks, 0))?;
    for saved in &loan.requests {
        let Some(message) = load(saved, link.index) else {
            continue;
        };
        match host.request(Request::new(message, NLM_F_CREATE)) {
            // It is there.
            Err(refused) if refused.errno == Errno::EEXIST => {}
            other => drop(other?),
        }
    }
    Ok(())
}

fn addresses(netlink: &Netlink, index: u32) -> Result<Vec<AddressMessage>, Refused> {
    let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = netlink.request(Request::new(all, NLM_F_DUMP))?;
    let of_link = answers.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewAddress(address) if address.header.index == index => Some(address),
        _ => None,
    });
    Ok(of_link.collect())
}

fn flags(message: &AddressMessage) -> AddressFlags {
    let attributes = message.attributes.iter();
    let all = attributes.filter_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    all.into_iter().next_back().unwrap_or(AddressFlags::empty())
}

/// Whether an address would not come by itself, as those do that IPv6 makes of a router's advertisements.
fn is_worth_keeping(message: &AddressMessage) -> bool {
    message.header.family == AddressFamily::Inet || flags(message).contains(AddressFlags::Permanent)
}

/// The request that makes an address as it is, without asking whether somebody else has it, since it had been ours.
fn again(mut message: AddressMessage) -> AddressMessage {
    let lasting = flags(&message) & (AddressFlags::Noprefixroute | AddressFlags::Mcautojoin);
    message.attributes.retain(|attribute| {
        matches!(
            attribute,
            AddressAttribute::Local(_)
                | AddressAttribute::Address(_)
                | AddressAttribute::Broadcast(_)
                | AddressAttribute::Label(_)
                | AddressAttribute::CacheInfo(_)
        )
    });
    let flags = lasting | AddressFlags::Nodad;
    message.attributes.push(AddressAttribute::Flags(flags));
    message
}

/// The routes through a link that do not come with its addresses. Those through several links at once are not among them.
fn routes(netlink: &Netlink, index: u32) -> Result<Vec<RouteMessage>, Refused> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut all = RouteMessage::default();
        all.header.address_family = family;
        let all = RouteNetlinkMessage::GetRoute(all);
        for message in netlink.request(Request::new(all, NLM_F_DUMP))? {
            let RouteNetlinkMessage::NewRoute(mut route) = message else {
                continue;
            };
            let is_its = route.attributes.contains(&RouteAttribute::Oif(index));
            let comes_by_itself = matches!(
                route.header.protocol,
                RouteProtocol::Kernel | RouteProtocol::Ra | RouteProtocol::IcmpRedirect
            );
            if !is_its || comes_by_itself {
                continue;
            }
            route.header.flags = RouteFlags::empty();
            route.attributes.retain(|attribute| {
                matches!(
                    attribute,
                    RouteAttribute::Destination(_)
                        | RouteAttribute::Gateway(_)
                        | RouteAttribute::Via(_)
                        | RouteAttribute::PrefSource(_)
                        | RouteAttribute::Priority(_)
                        | RouteAttribute::Metrics(_)
                        | RouteAttribute::Table(_)
                        | RouteAttribute::Preference(_)
                        | RouteAttribute::Oif(_)
                )
            });
            routes.push(route);
        }
    }
    // Those on the link first: the others' next hops are behind them.
    let has_hop = |route: &RouteMessage| {
        let mut attributes = route.attributes.iter();
        attributes.any(|it| matches!(it, RouteAttribute::Gateway(_) | RouteAttribute::Via(_)))
    };
    routes.sort_by_key(has_hop);
    Ok(routes)
}

fn save(message: &RouteNetlinkMessage) -> Saved {
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    Saved {
        kind: message.message_type(),
        payload: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// The request, for the link under the number that it has now; none where what is written down is no request of these.
fn load(saved: &Saved, index: u32) -> Option<RouteNetlinkMessage> {
    let digits = saved.payload.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let mut header = NetlinkHeader::default();
    header.message_type = saved.kind;
    let mut message = RouteNetlinkMessage::deserialize(&header, &bytes?).ok()?;
    match &mut message {
        RouteNetlinkMessage::NewAddress(address) => address.header.index = index,
        RouteNetlinkMessage::NewRoute(route) => {
            for attribute in &mut route.attributes {
                if let RouteAttribute::Oif(oif) = attribute {
                    *oif = index;
                }
            }
        }
        _ => return None,
    }
    Some(message)
}
