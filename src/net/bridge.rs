//! Bridges: the host's end of networks of many containers.

use std::net::Ipv6Addr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteProtocol, RouteType};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use super::netlink::{Netlink, Refused, Request};
use super::wire::{self, Link};
use crate::plan::name::{LinkName, Mac};
use crate::plan::network::Network;
use crate::plan::topology::EndAddr;

/// Why a network's bridge is not there.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// A link of that name that is something else's.
    #[error("there is a link {0} on the host already, and it is not this network's")]
    Foreign(LinkName),
    /// The kernel would not.
    #[error("{action}: {cause}")]
    Refused {
        /// What was being done.
        action: String,
        /// Why not.
        cause: Refused,
    },
}

/// The network's bridge, if it is there.
///
/// # Errors
/// [`BridgeError::Foreign`] where the name is another link's.
pub fn find(
    netlink: &Netlink,
    network: &Network,
    alias: &str,
) -> Result<Option<Link>, BridgeError> {
    match wire::link_by_name(netlink, &network.bridge) {
        Ok(link) if link.alias.as_deref() == Some(alias) => Ok(Some(link)),
        Ok(_) => Err(BridgeError::Foreign(network.bridge.clone())),
        Err(refused) if refused.errno == Errno::ENODEV => Ok(None),
        Err(cause) => Err(BridgeError::Refused {
            action: format!("look at the link {}", network.bridge),
            cause,
        }),
    }
}

/// Makes the network's bridge with the host's addresses on it; of one that is there, what is not there of it: with a bridge that is taken
/// down, its IPv6 addresses and routes go (`addrconf_ifdown`, net/ipv6/addrconf.c). `alias` is by what it is known as the network's.
///
/// # Errors
/// What could not be done; a bridge that was made is gone again.
pub fn ensure(netlink: &Netlink, network: &Network, alias: &str) -> Result<(), BridgeError> {
    clear_half_made(netlink, network, alias)?;
    if find(netlink, network, alias)?.is_some() {
        return furnish(netlink, network, alias);
    }
    let name = &network.bridge;
    let refused = |action: String| move |cause| BridgeError::Refused { action, cause };
    // An own link-layer address: without, a bridge has the lowest of its ports', which come and go (`br_stp_recalculate_bridge_id`,
    // net/bridge/br_stp_if.c), and everybody's neighbour tables would be wrong.
    let mut link = LinkMessageBuilder::<LinkUnspec>::new()
        .name(name.as_str())
        .address(Mac::of(alias).0.to_vec())
        .append_extra_attribute(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
            InfoKind::Bridge,
        )]));
    if let Some(mtu) = network.mtu {
        link = link.mtu(mtu);
    }
    let request = RouteNetlinkMessage::NewLink(link.build());
    let created = netlink.request(Request::new(request, NLM_F_CREATE | NLM_F_EXCL));
    created.map_err(refused(format!("create the bridge {name}")))?;
    let furnished = furnish(netlink, network, alias);
    if furnished.is_err() {
        // The first error is the one to tell.
        let _ = wire::delete(netlink, name);
    }
    furnished
}

/// Gives a bridge what it does not have yet.
fn furnish(netlink: &Netlink, network: &Network, alias: &str) -> Result<(), BridgeError> {
    let name = &network.bridge;
    let refused = |action: String| move |cause| BridgeError::Refused { action, cause };
    let found = wire::link_by_name(netlink, name);
    let index = found
        .map_err(refused(format!("find the bridge {name}")))?
        .index;
    if network.has_ipv6() {
        // Also where the host has it off on new links (`net.ipv6.conf.default.disable_ipv6`): the network is asked for by name.
        wire::enable_ipv6(name);
        refuse_advertisements(name).map_err(|cause| {
            let cause = Refused::from(cause);
            refused(format!("turn router advertisements off on {name}"))(cause)
        })?;
    } else {
        wire::disable_ipv6(name);
    }
    let add = |request: Request| match netlink.request(request) {
        Err(refused) if refused.errno == Errno::EEXIST => Ok(()),
        other => other.map(drop),
    };
    for subnet in &network.subnets {
        let addr = EndAddr {
            addr: subnet.gateway_address(),
            peer: None,
            automatic: false,
        };
        let adding = refused(format!("add the address {} to {name}", addr.addr));
        add(wire::add_address(index, &addr)).map_err(adding)?;
    }
    let set = |link: LinkMessage| {
        let request = Request::new(RouteNetlinkMessage::SetLink(link), 0);
        let done = netlink.request(request).map(drop);
        done.map_err(refused(format!("raise the bridge {name}")))
    };
    set(LinkUnspec::new_with_index(index).up().build())?;
    if network.has_ipv6() && !network.internal {
        add(loopback_route(index))
            .map_err(refused(format!("add the route to ::1 through {name}")))?;
    }
    set(LinkUnspec::new_with_index(index).alias(alias).build())
}

/// Removes the network's bridge; absent is success.
///
/// # Errors
/// [`BridgeError::Foreign`] where the name is another link's; when the kernel refuses.
pub fn remove(netlink: &Netlink, network: &Network, alias: &str) -> Result<(), BridgeError> {
    clear_half_made(netlink, network, alias)?;
    match find(netlink, network, alias)? {
        Some(_) => delete(netlink, &network.bridge),
        None => Ok(()),
    }
}

fn delete(netlink: &Netlink, name: &LinkName) -> Result<(), BridgeError> {
    wire::delete(netlink, name).map_err(|cause| BridgeError::Refused {
        action: format!("delete the bridge {name}"),
        cause,
    })
}

/// Removes a bridge that was being made when its tincan was killed: it has no alias yet, and the link-layer address that only this
/// network's has.
fn clear_half_made(netlink: &Netlink, network: &Network, alias: &str) -> Result<(), BridgeError> {
    match wire::link_by_name(netlink, &network.bridge) {
        Ok(link) if link.alias.is_none() && link.mac == Some(Mac::of(alias)) => {
            delete(netlink, &network.bridge)
        }
        _ => Ok(()),
    }
}

/// Keeps whoever is on a network from telling the host that it is its router (ip-sysctl.rst, `accept_ra`).
fn refuse_advertisements(name: &LinkName) -> std::io::Result<()> {
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "0")
}

/// Lets the host take what is for ::1 from this link, too: the answers of published ports to who came by that address. Addresses of
/// loopback are looked up for the link that a packet comes by (`rt6_need_strict`, net/ipv6/route.c), and a packet that has it before it is
/// an answer is dropped (`ip6_rcv_core`). What is sent to ::1 still goes by `lo`, whose route is the better one.
fn loopback_route(index: u32) -> Request {
    /// RT_TABLE_LOCAL (linux/rtnetlink.h).
    const LOCAL: u32 = 255;
    let route = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(Ipv6Addr::LOCALHOST, 128)
        .output_interface(index)
        .table_id(LOCAL)
        .kind(RouteType::Local)
        .protocol(RouteProtocol::Boot)
        .priority(4096)
        .build();
    let route = RouteNetlinkMessage::NewRoute(route);
    // Not exclusively: each network has one.
    Request::new(route, NLM_F_CREATE)
}
