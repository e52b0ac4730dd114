//! Wires: one veth pair (veth(4)) between two network namespaces, with all that belongs to its ends; and what there is to
//! know of the links of a namespace.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::fs::OFlags;
use serde::Serialize;

use super::netlink::{Netlink, Refused, Request};
use crate::plan::name::{IfAddr, LinkName, Mac};
use crate::plan::topology::{Change, End, EndAddr, Route, Wire};
use crate::sys::{netns, path};

/// A network namespace to work in: the host's, or a container's.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// A socket in it.
    pub netlink: &'a Netlink,
    /// The namespace; without, it is the one that tincan runs in.
    pub netns: Option<BorrowedFd<'a>>,
    /// The root of its container's procfs; without, the host's does.
    pub proc: Option<BorrowedFd<'a>>,
}

/// A wire that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {cause}")]
pub struct Failed {
    /// At which of the wire's ends.
    pub end: usize,
    /// What was being done: "create the interface eth0", "add the address 172.16.0.1/16 to eth0".
    pub action: String,
    /// Why not.
    pub cause: Refused,
}

/// Makes a wire: [`create`], then [`furnish_both`]. `sites` are the namespaces of its ends, in their order.
pub fn make(wire: &Wire, sites: [Site; 2]) -> Result<(), Failed> {
    let indices = create(wire, sites)?;
    furnish_both(wire, sites, indices)
}

/// Raises, addresses and routes the ends of a wire that is created, by their indices. A wire that cannot be made whole is deleted again.
pub fn furnish_both(wire: &Wire, sites: [Site; 2], indices: [u32; 2]) -> Result<(), Failed> {
    for (end, site) in wire.ends.iter().zip(sites) {
        if let Some((parameter, value)) = wire.ipv6_setting(end) {
            set_ipv6(&end.name, site, parameter, value);
        }
    }
    let furnished = (0..2)
        .rev()
        .try_for_each(|at| {
            let raise = match (at, wire.link_local()) {
                // The first end was created up.
                (0, _) => Raise::No,
                (_, Some(addr)) => Raise::With(addr),
                (_, None) => Raise::Yes,
            };
            furnish(&wire.ends[at], at, raise, sites[at], indices[at])
        })
        .and_then(|()| {
            (0..2)
                .try_for_each(|at| settle(&wire.ends[at], at, true, sites[at].netlink, indices[at]))
        });
    if furnished.is_err() {
        // The first error is the one to tell; the peer goes with the link.
        let _ = delete_by_index(sites[0].netlink, indices[0]);
    }
    furnished
}

/// Creates both ends with one message, sent in the namespace of the first, and returns their interface indices.
///
/// Neither end is ever moved or renamed, since a move waits for RCU grace periods (31–36 ms, `dev_change_net_namespace` in
/// net/core/dev.c). Name, link-layer address and MTU are taken for both ends at creation (`rtnl_create_link`, net/core/rtnetlink.c);
/// IFF_UP is for the first end alone (`rtnl_configure_link`: for the peer, veth.c calls it without flags), and an alias for
/// neither.
pub fn create(wire: &Wire, [site, peer_site]: [Site; 2]) -> Result<[u32; 2], Failed> {
    let [end, peer] = &wire.ends;
    let bridge = match &end.port {
        None => None,
        Some(port) => {
            let found = site.netlink.index_of(&port.bridge);
            Some(found.map_err(|cause| Failed {
                end: 0,
                action: format!("find the bridge {}", port.bridge),
                cause,
            })?)
        }
    };
    let peer_place = match peer_site.netns {
        Some(netns) => LinkAttribute::NetNsFd(netns.as_raw_fd()),
        None => LinkAttribute::NetNsPid(std::process::id()),
    };
    let peer_link = with_looks(LinkMessageBuilder::<LinkUnspec>::new(), peer)
        .append_extra_attribute(peer_place)
        .build();
    let link = with_looks(
        LinkMessageBuilder::<LinkVeth>::new_with_info_kind(
            netlink_packet_route::link::InfoKind::Veth,
        ),
        end,
    )
    .up()
    .set_info_data(InfoData::Veth(InfoVeth::Peer(peer_link)));
    // The kernel makes it a port as soon as it is there (`rtnl_newlink_create`).
    let link = match bridge {
        Some(bridge) => link.append_extra_attribute(LinkAttribute::Controller(bridge)),
        None => link,
    };
    let link = link.build();
    // The kernel echoes the new link, with its own and its peer's index (NLM_F_ECHO, honoured here since Linux 6.2).
    let request = Request::new(
        RouteNetlinkMessage::NewLink(link),
        NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO,
    );
    let echoed = site.netlink.request(request).map_err(|cause| {
        // The kernel does not say which of the two names is taken.
        let first_is_taken =
            cause.errno == Errno::EEXIST && link_by_name(site.netlink, &end.name).is_ok();
        let at = usize::from(cause.errno == Errno::EEXIST && !first_is_taken);
        Failed {
            end: at,
            action: format!("create the interface {}", wire.ends[at].name),
            cause,
        }
    })?;
    let indices = echoed.iter().find_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => {
            let peer = link
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    LinkAttribute::Link(index) => Some(*index),
                    _ => None,
                });
            Some([link.header.index, peer?])
        }
        _ => None,
    });
    match indices {
        Some(indices) => Ok(indices),
        None => {
            let find = |at: usize, site: Site| {
                let found = site.netlink.index_of(&wire.ends[at].name);
                found.map_err(|cause| Failed {
                    end: at,
                    action: format!("find the interface {}", wire.ends[at].name),
                    cause,
                })
            };
            Ok([find(0, site)?, find(1, peer_site)?])
        }
    }
}

/// What both ends of a veth can be given at creation.
pub(super) fn with_looks<T>(link: LinkMessageBuilder<T>, end: &End) -> LinkMessageBuilder<T> {
    with_settings(link.name(end.name.as_str()), end)
}

/// The same for one that has its name: before 6.2 the kernel refuses even its own name to a link that is up
/// (net/core/dev.c, `dev_change_name`).
fn with_settings<T>(link: LinkMessageBuilder<T>, end: &End) -> LinkMessageBuilder<T> {
    let link = match end.mac {
        Some(mac) => link.address(mac.0.to_vec()),
        None => link,
    };
    match end.mtu {
        Some(mtu) => link.mtu(mtu),
        None => link,
    }
}

/// Turns IPv6 off on an interface of the host's that is not up yet.
pub(super) fn disable_ipv6(name: &LinkName) {
    write_ipv6(name, "disable_ipv6", "1");
}

/// Turns it on where it is off.
pub(super) fn enable_ipv6(name: &LinkName) {
    write_ipv6(name, "disable_ipv6", "0");
}

/// Sets what an interface does with IPv6 (ip-sysctl.rst), in another namespace by going there, since /proc/sys/net is that of the thread
/// that opens a file below it (proc_sys_net(5)). Where that cannot be done, since the kernel has no IPv6 or /proc is read-only, the wire
/// costs more and works as well.
///
/// Of one procfs, the same file of each namespace is in the same chain of the kernel's cache of names, which is walked with a comparison that
/// costs (`proc_sys_compare`, fs/proc/proc_sysctl.c): by the host's, the 500th container would pay for 499. So its own it is, if it has one.
fn set_ipv6(name: &LinkName, site: Site, parameter: &str, value: &str) {
    let write = || {
        let is_real = |proc: &BorrowedFd| path::is_proc_root(*proc) == Ok(true);
        let by_own = site.proc.filter(is_real).is_some_and(|proc| {
            let file = ipv6_file(name, parameter);
            path::open_on_mount(proc, Path::new(&file), OFlags::WRONLY)
                .and_then(|file| path::write_once(file.as_fd(), value.as_bytes()))
                .is_ok()
        });
        if !by_own {
            write_ipv6(name, parameter, value);
        }
    };
    match site.netns {
        None => write(),
        Some(there) => {
            let _ = netns::within(there, write);
        }
    }
}

fn write_ipv6(name: &LinkName, parameter: &str, value: &str) {
    let _ = std::fs::write(format!("/proc/{}", ipv6_file(name, parameter)), value);
}

/// The file below procfs of a parameter of an interface's.
fn ipv6_file(name: &LinkName, parameter: &str) -> String {
    format!("sys/net/ipv6/conf/{name}/{parameter}")
}

/// Whether an end is raised.
pub(super) enum Raise {
    /// It is up, or not to be.
    No,
    /// Up it goes.
    Yes,
    /// It has this address before ([`Wire::link_local`]).
    With(EndAddr),
}

/// Raises an end, then addresses it, then routes through it: a route needs a link that is up, and an address there for its
/// next hop to be on the link. `at` says which end of its wire it is.
///
/// A namespace can have IPv6 off for all links that come (ip-sysctl.rst, `conf/default/disable_ipv6`), as of a sandbox whose maker thinks of
/// IPv4 alone. It is turned on where an end has IPv6 addresses, as the plugins that others come from do (`ConfigureIface`,
/// containernetworking/plugins, pkg/ipam); only where the kernel has refused one, since to look before would cost each end.
pub(super) fn furnish(
    end: &End,
    at: usize,
    raise: Raise,
    site: Site,
    index: u32,
) -> Result<(), Failed> {
    match set_up(end, at, &raise, site.netlink, index, false) {
        Err(failed) if failed.cause.errno == Errno::EACCES && end.gets_ipv6() => {
            set_ipv6(&end.name, site, "disable_ipv6", "0");
            set_up(end, at, &raise, site.netlink, index, true)
        }
        other => other,
    }
}

/// What [`furnish`] does; once more, what is there already is no failure.
fn set_up(
    end: &End,
    at: usize,
    raise: &Raise,
    netlink: &Netlink,
    index: u32,
    once_more: bool,
) -> Result<(), Failed> {
    let mut actions = Vec::new();
    let mut requests = Vec::new();
    if let Raise::With(addr) = raise {
        actions.push(format!("add the address {} to {}", addr.addr, end.name));
        requests.push(add_address(index, addr));
    }
    let is_raised = !matches!(raise, Raise::No);
    if is_raised || end.alias.is_some() {
        let mut link = LinkUnspec::new_with_index(index);
        if is_raised {
            link = link.up();
        }
        if let Some(alias) = &end.alias {
            link = link.alias(alias);
        }
        actions.push(format!("raise the interface {}", end.name));
        requests.push(Request::new(RouteNetlinkMessage::SetLink(link.build()), 0));
    }
    if let Some(port) = &end.port {
        let asked = [
            ("isolate", port.isolated, InfoBridgePort::Isolated(true)),
            (
                "reflect on",
                port.reflects,
                InfoBridgePort::HairpinMode(true),
            ),
        ];
        for (deed, _, look) in asked.into_iter().filter(|(_, wanted, _)| *wanted) {
            actions.push(format!("{deed} the port {}", end.name));
            requests.push(set_port(index, look));
        }
    }
    for addr in &end.addrs {
        actions.push(format!("add the address {} to {}", addr.addr, end.name));
        requests.push(add_address(index, addr));
    }
    for route in &end.routes {
        actions.push(format!(
            "add the route to {} through {}",
            route.to, end.name
        ));
        requests.push(add_route(index, route));
    }
    let failed = |action: String, cause| Failed {
        end: at,
        action,
        cause,
    };
    let answers = netlink
        .exchange(requests)
        .map_err(|cause| failed(format!("set up the interface {}", end.name), cause))?;
    actions
        .into_iter()
        .zip(answers)
        .try_for_each(|(action, answer)| match answer {
            Ok(_) => Ok(()),
            Err(cause) if once_more && cause.errno == Errno::EEXIST => Ok(()),
            Err(cause) => Err(failed(action, cause)),
        })
}

/// Lets an interface that is there be otherwise: what it loses goes first, and what it gets comes in the order of a new one's.
///
/// # Errors
/// The first thing that could not be done; what was done before it stays.
pub fn change(change: &Change, site: Site) -> Result<(), Failed> {
    let (end, netlink) = (&change.end, site.netlink);
    let failed = |action: String| {
        move |cause| Failed {
            end: 0,
            action,
            cause,
        }
    };
    let found = link_by_name(netlink, &end.name);
    let index = found
        .map_err(failed(format!("find the interface {}", end.name)))?
        .index;
    let ask = |action: String, message| {
        let done = netlink.request(Request::new(message, 0)).map(drop);
        done.map_err(failed(action))
    };
    if end.mac.is_some() || end.mtu.is_some() {
        let looks = with_settings(LinkUnspec::new_with_index(index), end).build();
        let action = format!("set up the interface {}", end.name);
        ask(action, RouteNetlinkMessage::SetLink(looks))?;
    }
    for route in &change.lost_routes {
        let mut message = route_message(index, route);
        // Whatever made it (`ip route delete`, ip-route(8)).
        message.header.protocol = RouteProtocol::Unspec;
        message.header.scope = RouteScope::NoWhere;
        let action = format!("delete the route to {} through {}", route.to, end.name);
        ask(action, RouteNetlinkMessage::DelRoute(message))?;
    }
    for addr in &change.lost_addrs {
        let mut message = AddressMessage::default();
        message.header.family = family(addr.ip);
        message.header.prefix_len = addr.prefix;
        message.header.index = index;
        message.attributes = vec![AddressAttribute::Local(addr.ip)];
        let action = format!("delete the address {addr} from {}", end.name);
        ask(action, RouteNetlinkMessage::DelAddress(message))?;
    }
    if end.gets_ipv6() {
        // At the host's end of a wire it may be off.
        set_ipv6(&end.name, site, "disable_ipv6", "0");
    }
    let raise = match change.up {
        Some(true) => Raise::Yes,
        _ => Raise::No,
    };
    furnish(end, 0, raise, site, index)?;
    if change.up == Some(false) {
        let action = format!("take the interface {} down", end.name);
        return take_down(netlink, index).map_err(failed(action));
    }
    if end.addrs.is_empty() {
        return Ok(());
    }
    settle(end, 0, false, netlink, index)
}

/// Takes a link down, by its number.
///
/// # Errors
/// ENODEV where there is none.
pub fn take_down(netlink: &Netlink, index: u32) -> Result<(), Refused> {
    let mut down = LinkUnspec::new_with_index(index).build();
    down.header.change_mask = LinkFlags::Up;
    netlink
        .request(Request::new(RouteNetlinkMessage::SetLink(down), 0))
        .map(drop)
}

/// Raises a link, by its number.
///
/// # Errors
/// ENODEV where there is none.
pub fn raise(netlink: &Netlink, index: u32) -> Result<(), Refused> {
    let up = LinkUnspec::new_with_index(index).up().build();
    netlink
        .request(Request::new(RouteNetlinkMessage::SetLink(up), 0))
        .map(drop)
}

/// Makes a link a port of a bridge that is there.
///
/// # Errors
/// ENODEV where one of the two is not.
pub fn attach(
    netlink: &Netlink,
    port: &LinkName,
    bridge: &LinkName,
    isolated: bool,
) -> Result<(), Refused> {
    let bridge = netlink.index_of(bridge)?;
    let index = netlink.index_of(port)?;
    let link = LinkUnspec::new_with_index(index).controller(bridge).build();
    netlink.request(Request::new(RouteNetlinkMessage::SetLink(link), 0))?;
    if isolated {
        netlink.request(set_port(index, InfoBridgePort::Isolated(true)))?;
    }
    Ok(())
}

/// Lets a bridge's port send back by which it came what is led to its own container ([`crate::plan::topology::Port::reflects`]).
///
/// # Errors
/// ENODEV without the link.
pub fn reflect(netlink: &Netlink, port: &LinkName) -> Result<(), Refused> {
    let index = netlink.index_of(port)?;
    let request = set_port(index, InfoBridgePort::HairpinMode(true));
    netlink.request(request).map(drop)
}

/// Sets how a bridge's port behaves. Only RTM_NEWLINK takes what is a port's, also for a link that is there
/// (`rtnl_newlink`, net/core/rtnetlink.c).
fn set_port(index: u32, look: InfoBridgePort) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes = vec![LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(vec![look])),
    ])];
    Request::new(RouteNetlinkMessage::NewLink(link), 0)
}

/// Waits until an end passes packets. When both ends are up and addressed, two things are still to come, each from a worker of
/// the kernel's, and what is sent before is lost:
///
/// * The end that was raised first had no carrier then, and its queue is only activated when the kernel has looked at that again
///   (net/core/link_watch.c): up to a second later where other links have changed just before. Asking for the link makes up
///   for it at once (`linkwatch_sync_dev` in `rtnl_getlink`, Linux 6.8); before that, the answer tells when it has happened.
/// * An IPv6 address is given its local route and its solicited-node group behind the request, even without duplicate address
///   detection (`addrconf_dad_work`, net/ipv6/addrconf.c); the route is the later of the two. A neighbour solicitation that
///   comes before is repeated after a second.
///
/// `has_carrier` is false for a link that may be without for as long as it is there.
pub(super) fn settle(
    end: &End,
    at: usize,
    has_carrier: bool,
    netlink: &Netlink,
    index: u32,
) -> Result<(), Failed> {
    // `linkwatch_schedule_work` waits for a second at most. If it takes longer, the wire is slow to come up, but made.
    const LONGEST: Duration = Duration::from_millis(1500);
    const INTERVAL: Duration = Duration::from_micros(50);
    let start = Instant::now();
    let mut unready: Vec<IpAddr> = end.addrs.iter().map(|addr| addr.addr.ip).collect();
    unready.retain(IpAddr::is_ipv6);
    let mut active = !has_carrier;
    loop {
        let mut requests: Vec<Request> = unready.iter().map(|ip| match_route(*ip)).collect();
        if !active {
            let question = LinkUnspec::new_with_index(index).build();
            requests.push(get_link(question));
        }
        let answers = netlink.exchange(requests).map_err(|cause| Failed {
            end: at,
            action: format!("look at the interface {}", end.name),
            cause,
        })?;
        let is_local = |answer: &Result<Vec<RouteNetlinkMessage>, Refused>| match answer.as_deref()
        {
            Ok([RouteNetlinkMessage::NewRoute(route), ..]) => route.header.kind == RouteType::Local,
            _ => false,
        };
        let is_active = |answer: &Result<Vec<RouteNetlinkMessage>, Refused>| match answer.as_deref()
        {
            Ok([RouteNetlinkMessage::NewLink(link), ..]) => {
                let is_up = |at: &LinkAttribute| matches!(at, LinkAttribute::OperState(State::Up));
                link.attributes.iter().any(is_up)
            }
            _ => false,
        };
        active = active || answers.iter().any(is_active);
        let mut answers = answers.iter();
        unready.retain(|_| !answers.next().is_some_and(is_local));
        if (active && unready.is_empty()) || start.elapsed() > LONGEST {
            return Ok(());
        }
        std::thread::sleep(INTERVAL);
    }
}

pub(super) fn add_address(index: u32, addr: &EndAddr) -> Request {
    Request::new(
        RouteNetlinkMessage::NewAddress(address(index, addr)),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// IFA_LOCAL is the address, IFA_ADDRESS the far end's where there is a peer and the address again where there is none
/// (linux/if_addr.h).
fn address(index: u32, EndAddr { addr, peer, .. }: &EndAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.family = family(addr.ip);
    message.header.prefix_len = addr.prefix;
    message.header.scope = AddressScope::Universe;
    if addr.ip.is_ipv6() {
        // Duplicate address detection (RFC 4862 5.4) would keep the address from use for a second. A wire has two ends and
        // tincan has given both their addresses, so there is nobody to ask.
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes = vec![
        AddressAttribute::Local(addr.ip),
        AddressAttribute::Address(peer.unwrap_or(addr.ip)),
    ];
    message
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

/// The route that `ip route add TO [via VIA] dev …` makes: of protocol boot, and with the scope of the link where there is
/// no next hop (ip-route(8)).
fn add_route(index: u32, route: &Route) -> Request {
    Request::new(
        RouteNetlinkMessage::NewRoute(route_message(index, route)),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

fn route_message(index: u32, route: &Route) -> RouteMessage {
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .output_interface(index)
        .protocol(RouteProtocol::Boot);
    if route.via.is_none() && route.to.ip.is_ipv4() {
        builder = builder.scope(RouteScope::Link);
    }
    let mut message = builder.build();
    message.header.address_family = family(route.to.ip);
    message.header.destination_prefix_length = route.to.prefix;
    if route.to.prefix > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(route.to.ip.into()));
    }
    if let Some(via) = route.via {
        message.attributes.push(RouteAttribute::Gateway(via.into()));
    }
    message
}

/// Deletes a link by name, and with it the far end of its wire.
///
/// # Errors
/// ENODEV where there is none of this name. It takes 15–30 ms, spent in the kernel waiting for RCU grace periods; a namespace
/// that goes takes its links with it for nothing.
pub fn delete(netlink: &Netlink, name: &LinkName) -> Result<(), Refused> {
    let link = LinkUnspec::new_with_name(name.as_str()).build();
    netlink
        .request(Request::new(RouteNetlinkMessage::DelLink(link), 0))
        .map(drop)
}

/// The same by its number, which no other link has after it.
///
/// # Errors
/// ENODEV where there is none of this number.
pub fn delete_by_index(netlink: &Netlink, index: u32) -> Result<(), Refused> {
    let link = LinkUnspec::new_with_index(index).build();
    netlink
        .request(Request::new(RouteNetlinkMessage::DelLink(link), 0))
        .map(drop)
}

/// Raises `lo`: 127.0.0.1/8 and ::1/128 come with it (`inetdev_event` in net/ipv4/devinet.c, `init_loopback` in net/ipv6/addrconf.c).
pub fn loopback_up(netlink: &Netlink) -> Result<(), Refused> {
    // It has this index in every network namespace (LOOPBACK_IFINDEX, include/net/flow.h).
    raise(netlink, 1)
}

/// A network interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind: `veth`, `bridge`, …; hardware and `lo` have none.
    pub kind: Option<String>,
    /// The index of what it hangs on, in that one's namespace: the far end of a veth.
    pub peer: Option<u32>,
    /// By which number this namespace knows the peer's (ip-netns(8), nsid); without, it is this one.
    pub peer_netnsid: Option<i32>,
    /// Its alias.
    pub alias: Option<String>,
    /// Whether it is up, by the administrator's will (IFF_UP).
    pub up: bool,
    /// Its link-layer address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The index of the bridge or the like that it is a port of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<u32>,
    /// Its addresses.
    pub addrs: Vec<LinkAddr>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LinkAddr {
    /// The address and the length of its prefix.
    pub addr: IfAddr,
    /// The far end's address, where it is a pair of two.
    pub peer: Option<IpAddr>,
}

impl LinkAddr {
    /// Whether it is one of those that IPv6 gives each link by itself (RFC 4291, 2.5.6).
    pub fn is_link_local(&self) -> bool {
        matches!(self.addr.ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
    }
}

impl fmt::Display for LinkAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "{} peer {peer}/{}", self.addr.ip, self.addr.prefix),
            None => self.addr.fmt(f),
        }
    }
}

/// The interfaces of a namespace with their addresses, in the order of their indices.
pub fn links(netlink: &Netlink) -> Result<Vec<Link>, Refused> {
    let mut get_links = LinkMessage::default();
    get_links
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let mut links: Vec<Link> = netlink
        .request(Request::new(
            RouteNetlinkMessage::GetLink(get_links),
            NLM_F_DUMP,
        ))?
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(read_link(link)),
            _ => None,
        })
        .collect();
    links.sort_by_key(|link| link.index);
    let addresses = netlink.request(Request::new(
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        NLM_F_DUMP,
    ))?;
    for message in addresses {
        if let RouteNetlinkMessage::NewAddress(message) = message
            && let Ok(at) = links.binary_search_by_key(&message.header.index, |link| link.index)
        {
            links[at].addrs.extend(read_address(&message));
        }
    }
    Ok(links)
}

/// One interface by its name, without its addresses.
///
/// # Errors
/// ENODEV where there is none of this name.
pub fn link_by_name(netlink: &Netlink, name: &LinkName) -> Result<Link, Refused> {
    one_link(netlink, LinkUnspec::new_with_name(name.as_str()).build())
}

/// By which number a namespace knows another (ip-netns(8), nsid), if it does.
///
/// # Errors
/// When the kernel does not say.
pub fn nsid_of(netlink: &Netlink, other: BorrowedFd<'_>) -> Result<Option<i32>, Refused> {
    let mut question = NsidMessage::default();
    let fd = u32::try_from(other.as_raw_fd()).expect("an open descriptor");
    question.attributes.push(NsidAttribute::Fd(fd));
    let answers = netlink.request(Request::new(RouteNetlinkMessage::GetNsId(question), 0))?;
    Ok(answers.into_iter().find_map(|message| match message {
        RouteNetlinkMessage::NewNsId(answer) => answer.attributes.iter().find_map(|it| match it {
            NsidAttribute::Id(id) if *id >= 0 => Some(*id),
            _ => None,
        }),
        _ => None,
    }))
}

/// One interface by its number, likewise.
///
/// # Errors
/// ENODEV where there is none.
pub fn link_by_index(netlink: &Netlink, index: u32) -> Result<Link, Refused> {
    one_link(netlink, LinkUnspec::new_with_index(index).build())
}

/// One interface by its number in a namespace that this one knows by a number (ip-netns(8), nsid; IFLA_TARGET_NETNSID, Linux 4.20), or in this
/// one.
///
/// # Errors
/// ENODEV where there is none.
pub fn link_by_index_in(netlink: &Netlink, index: u32, nsid: Option<i32>) -> Result<Link, Refused> {
    let mut which = LinkUnspec::new_with_index(index).build();
    if let Some(nsid) = nsid {
        which.attributes.push(LinkAttribute::IfNetnsId(nsid));
    }
    one_link(netlink, which)
}

/// Whether the far end of a link of this namespace is in another that still lives: somebody is in it, or holds it, or the kernel does, for a
/// connection that is being ended. One that dies is not found by its number any more, though its links are there for some milliseconds
/// (`get_net_ns_by_id`, net/core/net_namespace.c).
///
/// # Errors
/// The kernel's.
pub fn is_far_end_alive(netlink: &Netlink, link: &Link) -> Result<bool, Refused> {
    let (Some(peer), Some(nsid)) = (link.peer, link.peer_netnsid) else {
        return Ok(false);
    };
    match link_by_index_in(netlink, peer, Some(nsid)) {
        Ok(_) => Ok(true),
        Err(refused) if matches!(refused.errno, Errno::EINVAL | Errno::ENODEV) => Ok(false),
        Err(refused) => Err(refused),
    }
}

fn one_link(netlink: &Netlink, which: LinkMessage) -> Result<Link, Refused> {
    netlink
        .request(get_link(which))?
        .into_iter()
        .find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(read_link(link)),
            _ => None,
        })
        .ok_or(Refused {
            errno: Errno::ENODEV,
            said: None,
        })
}

/// Asks about a link, but not what has passed through it.
fn get_link(mut which: LinkMessage) -> Request {
    let unasked = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    which.attributes.push(unasked);
    Request::new(RouteNetlinkMessage::GetLink(which), 0)
}

fn read_link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        peer: None,
        peer_netnsid: None,
        alias: None,
        up: message.header.flags.contains(LinkFlags::Up),
        mac: None,
        mtu: 0,
        controller: None,
        addrs: Vec::new(),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Link(peer) => link.peer = Some(peer),
            LinkAttribute::LinkNetNsId(id) => link.peer_netnsid = Some(id),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(Mac),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

pub(super) fn read_address(message: &AddressMessage) -> Option<LinkAddr> {
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    // IPv6 leaves IFA_LOCAL out where there is no peer (`inet6_fill_ifaddr`, net/ipv6/addrconf.c).
    let ip = local.or(address)?;
    Some(LinkAddr {
        addr: IfAddr {
            ip,
            prefix: message.header.prefix_len,
        },
        peer: address.filter(|address| *address != ip),
    })
}

/// Who has an address, as seen from a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The namespace itself: it is an address of this link, or a broadcast address of its prefix.
    Local(Link),
    /// Somebody behind this link: there is a route to this one host through it.
    OnWire(Link),
}

impl Owner {
    /// The link that the address is on or behind.
    pub fn link(&self) -> &Link {
        match self {
            Owner::Local(link) | Owner::OnWire(link) => link,
        }
    }
}

/// The question which entry of the routing tables an address matches.
fn match_route(ip: IpAddr) -> Request {
    let mut question = RouteMessage::default();
    question.header.address_family = family(ip);
    question.header.destination_prefix_length = IfAddr::host(ip).prefix;
    question.header.flags = RouteFlags::FibMatch;
    let destination = RouteAttribute::Destination(RouteAddress::from(ip));
    question.attributes.push(destination);
    Request::new(RouteNetlinkMessage::GetRoute(question), 0)
}

/// Where the routes go that somebody has given a namespace, in its main table: those of links' own addresses are not among them.
///
/// # Errors
/// When the kernel does not say.
pub fn routes(netlink: &Netlink) -> Result<Vec<IfAddr>, Refused> {
    /// RT_TABLE_MAIN (linux/rtnetlink.h).
    const MAIN: u8 = 254;
    let mut found = Vec::new();
    for everything in [true, false].map(IfAddr::everything) {
        let mut question = RouteMessage::default();
        question.header.address_family = family(everything.ip);
        let question = RouteNetlinkMessage::GetRoute(question);
        for message in netlink.request(Request::new(question, NLM_F_DUMP))? {
            let RouteNetlinkMessage::NewRoute(route) = message else {
                continue;
            };
            let header = &route.header;
            if header.table != MAIN || header.protocol == RouteProtocol::Kernel {
                continue;
            }
            let ip = route.attributes.iter().find_map(|it| match it {
                RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
                RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
                _ => None,
            });
            let prefix = header.destination_prefix_length;
            found.extend(ip.map(|ip| IfAddr { ip, prefix }));
        }
    }
    Ok(found)
}

/// The number of the link by which a route leads, if it is one.
fn output_interface(route: &RouteMessage) -> Option<u32> {
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })
}

/// Whether a namespace has a route to everywhere, of IPv4 or of IPv6.
///
/// # Errors
/// As [`way_out`].
pub fn has_default_route(netlink: &Netlink, v4: bool) -> Result<bool, Refused> {
    Ok(way_out(netlink, v4)?.is_some())
}

/// By which link a namespace's route to everywhere leads, if it has one, by that link's number; 0 where it is by several. It is asked for an
/// address that nobody has (RFC 5737, RFC 3849).
///
/// # Errors
/// When the kernel does not say.
pub fn way_out(netlink: &Netlink, v4: bool) -> Result<Option<u32>, Refused> {
    let nobody = if v4 {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 255))
    } else {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xffff))
    };
    match netlink.request(match_route(nobody)) {
        Ok(messages) => {
            let index = messages.into_iter().find_map(|message| match message {
                RouteNetlinkMessage::NewRoute(route) => output_interface(&route),
                _ => None,
            });
            Ok(Some(index.unwrap_or(0)))
        }
        Err(refused)
            if matches!(
                refused.errno,
                Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL
            ) =>
        {
            Ok(None)
        }
        Err(refused) => Err(refused),
    }
}

/// Who has this address as seen from a namespace, if anybody. It takes one to three requests however many links there are:
/// the kernel is asked which entry of its routing tables matches (RTM_F_FIB_MATCH, Linux 4.13), not for all of them.
///
/// An IPv4 address is in those tables whether its link is up or down (`fib_add_ifaddr`, net/ipv4/fib_frontend.c); an IPv6 address
/// only once it is in use, so that is asked for by itself.
pub fn owner_of(netlink: &Netlink, ip: IpAddr) -> Result<Option<Owner>, Refused> {
    if let Some((kind, index)) = match_host_route(netlink, ip)? {
        let link = link_by_index(netlink, index)?;
        return Ok(Some(if kind == RouteType::Unicast {
            Owner::OnWire(link)
        } else {
            Owner::Local(link)
        }));
    }
    if ip.is_ipv4() {
        return Ok(None);
    }
    let mut question = AddressMessage::default();
    question.header.family = family(ip);
    question.attributes.push(AddressAttribute::Address(ip));
    match netlink.request(Request::new(RouteNetlinkMessage::GetAddress(question), 0)) {
        Err(refused) if refused.errno == Errno::EADDRNOTAVAIL => Ok(None),
        Err(refused) => Err(refused),
        Ok(messages) => {
            let index = messages.into_iter().find_map(|message| match message {
                RouteNetlinkMessage::NewAddress(address) => Some(address.header.index),
                _ => None,
            });
            let which = |index| LinkUnspec::new_with_index(index).build();
            let link = index.map(|index| one_link(netlink, which(index)));
            Ok(link.transpose()?.map(Owner::Local))
        }
    }
}

/// The kind and the interface of the route that an address alone has, if it has one.
fn match_host_route(netlink: &Netlink, ip: IpAddr) -> Result<Option<(RouteType, u32)>, Refused> {
    let bits = IfAddr::host(ip).prefix;
    let matched = match netlink.request(match_route(ip)) {
        Ok(messages) => messages,
        // There is no route there at all, or one that says so.
        Err(refused)
            if matches!(
                refused.errno,
                Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL
            ) =>
        {
            return Ok(None);
        }
        Err(refused) => return Err(refused),
    };
    Ok(matched.into_iter().find_map(|message| match message {
        RouteNetlinkMessage::NewRoute(route) if route.header.destination_prefix_length == bits => {
            Some((route.header.kind, output_interface(&route)?))
        }
        _ => None,
    }))
}

/// Takes an address from the link that has it, as its own or as its peer's; what else is on the link stays.
///
/// # Errors
/// ENODEV when the link has gone.
pub fn take_address(netlink: &Netlink, link: &Link, ip: IpAddr) -> Result<(), Refused> {
    let all = Request::new(
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        NLM_F_DUMP,
    );
    for message in netlink.request(all)? {
        if let RouteNetlinkMessage::NewAddress(address) = message
            && address.header.index == link.index
            && read_address(&address)
                .is_some_and(|found| found.addr.ip == ip || found.peer == Some(ip))
        {
            netlink.request(Request::new(RouteNetlinkMessage::DelAddress(address), 0))?;
        }
    }
    Ok(())
}

/// Whether a link has this address.
///
/// # Errors
/// ENODEV without the link.
pub fn has_address(netlink: &Netlink, link: &LinkName, wanted: &EndAddr) -> Result<bool, Refused> {
    let index = netlink.index_of(link)?;
    let wanted = LinkAddr {
        addr: wanted.addr,
        peer: wanted.peer,
    };
    let links = links(netlink)?;
    let link = links.iter().find(|link| link.index == index);
    Ok(link.is_some_and(|link| link.addrs.contains(&wanted)))
}

/// Replaces an address of a link by another.
///
/// # Errors
/// ENODEV without the link, EADDRNOTAVAIL where it has no such address. When the new address is refused, the old one is put
/// back.
pub fn readdress(
    netlink: &Netlink,
    link: &LinkName,
    from: &EndAddr,
    to: &EndAddr,
) -> Result<(), Refused> {
    let index = netlink.index_of(link)?;
    // The old one goes first: next to it the new one would be secondary, with the same peer, and go with it
    // (`__inet_del_ifa`, net/ipv4/devinet.c).
    netlink.request(Request::new(
        RouteNetlinkMessage::DelAddress(address(index, from)),
        0,
    ))?;
    netlink
        .request(add_address(index, to))
        .map(drop)
        .inspect_err(|_| {
            let _ = netlink.request(add_address(index, from));
        })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::{AsFd, OwnedFd};

    use super::*;
    use crate::plan::topology::Place;
    use crate::sys::netns;

    /// A new network namespace of the test's own; the thread is in it afterwards.
    struct Namespace {
        fd: OwnedFd,
        netlink: Netlink,
    }

    impl Namespace {
        fn new() -> Option<Self> {
            if let Err(errno) = netns::leave() {
                eprintln!("skipped: no network namespace can be made here: {errno}");
                return None;
            }
            let netlink = Netlink::open().unwrap();
            loopback_up(&netlink).unwrap();
            Some(Namespace {
                fd: netns::current().unwrap(),
                netlink,
            })
        }

        fn site(&self) -> Site<'_> {
            Site {
                netlink: &self.netlink,
                netns: Some(self.fd.as_fd()),
                proc: None,
            }
        }

        fn udp(&self, at: &str) -> UdpSocket {
            netns::enter(self.fd.as_fd()).unwrap();
            let socket = UdpSocket::bind(at).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(1)))
                .unwrap();
            socket
        }

        fn talks(&self, from: &str, other: &Namespace, to: &str) {
            let (a, b) = (self.udp(from), other.udp(to));
            a.send_to(b"hello", b.local_addr().unwrap()).unwrap();
            let (_, sender) = b.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(sender, a.local_addr().unwrap());
        }
    }

    fn end(name: &str, addrs: &[(&str, Option<&str>)]) -> End {
        End {
            addrs: addrs
                .iter()
                .map(|(addr, peer)| EndAddr {
                    addr: addr.parse().unwrap(),
                    peer: peer.map(|peer| peer.parse().unwrap()),
                    automatic: false,
                })
                .collect(),
            ..End::bare(Place::Host, name.parse().unwrap())
        }
    }

    fn wire(n: u8) -> Wire {
        let (ours, theirs) = (format!("172.16.0.{n}"), format!("172.16.0.{}", n + 100));
        let (ours6, theirs6) = (
            format!("fd00::{n}"),
            format!("fd00::{}", u16::from(n) + 100),
        );
        let mut near = end(
            "eth0",
            &[
                (&format!("{ours}/16"), None),
                (&format!("{ours6}/64"), None),
            ],
        );
        near.mtu = Some(1400);
        near.mac = Some("02:00:00:00:00:01".parse().unwrap());
        near.routes = vec![
            Route {
                to: "0.0.0.0/0".parse().unwrap(),
                via: Some(theirs.parse().unwrap()),
            },
            Route {
                to: "::/0".parse().unwrap(),
                via: Some(theirs6.parse().unwrap()),
            },
            Route {
                to: "10.0.0.0/8".parse().unwrap(),
                via: None,
            },
        ];
        let mut far = end(
            &format!("veth-ns{n}"),
            &[
                (&format!("{theirs}/32"), Some(&ours)),
                (&format!("{theirs6}/128"), Some(&ours6)),
            ],
        );
        far.mtu = Some(1400);
        far.alias = Some(format!("tincan:ns{n}/eth0"));
        Wire { ends: [near, far] }
    }

    #[test]
    fn a_wire_works_at_once_and_both_ends_are_as_planned() {
        let (Some(host), Some(ns1), Some(ns2)) =
            (Namespace::new(), Namespace::new(), Namespace::new())
        else {
            return;
        };
        make(&wire(1), [ns1.site(), host.site()]).unwrap();
        make(&wire(2), [ns2.site(), host.site()]).unwrap();
        ns1.talks("172.16.0.1:0", &host, "172.16.0.101:0");
        ns2.talks("172.16.0.2:0", &host, "172.16.0.102:0");
        ns1.talks("[fd00::1]:0", &host, "[fd00::101]:0");
        host.talks("[fd00::102]:0", &ns2, "[fd00::2]:0");

        let inside = links(&ns1.netlink).unwrap();
        let eth0 = inside.iter().find(|link| link.name == "eth0").unwrap();
        assert_eq!(eth0.kind.as_deref(), Some("veth"));
        assert_eq!(eth0.mac, Some("02:00:00:00:00:01".parse().unwrap()));
        assert_eq!((eth0.mtu, eth0.up), (1400, true));
        assert!(eth0.peer.is_some() && eth0.peer_netnsid.is_some());
        let outside = links(&host.netlink).unwrap();
        let veth = outside.iter().find(|link| link.name == "veth-ns1").unwrap();
        assert_eq!(veth.alias.as_deref(), Some("tincan:ns1/eth0"));
        assert_eq!((veth.mtu, veth.up), (1400, true));
        let printed: Vec<_> = veth.addrs.iter().map(ToString::to_string).collect();
        assert_eq!(
            printed[..2],
            [
                "172.16.0.101 peer 172.16.0.1/32",
                "fd00::101 peer fd00::1/128"
            ]
        );

        let owner = |ns: &Namespace, ip: &str| {
            owner_of(&ns.netlink, ip.parse().unwrap())
                .unwrap()
                .map(|owner| match owner {
                    Owner::Local(link) => format!("local {}", link.name),
                    Owner::OnWire(link) => format!("wire {}", link.name),
                })
        };
        assert_eq!(owner(&host, "172.16.0.1").as_deref(), Some("wire veth-ns1"));
        assert_eq!(
            owner(&host, "172.16.0.102").as_deref(),
            Some("local veth-ns2")
        );
        assert_eq!(owner(&host, "fd00::2").as_deref(), Some("wire veth-ns2"));
        assert_eq!(owner(&host, "fd00::101").as_deref(), Some("local veth-ns1"));
        assert_eq!(owner(&host, "172.16.0.3"), None);
        assert_eq!(owner(&host, "fd00::3"), None);
        assert_eq!(owner(&ns1, "172.16.0.9"), None);
        assert_eq!(owner(&ns1, "172.16.255.255").as_deref(), Some("local eth0"));
        assert_eq!(owner(&ns1, "fd00::9"), None);
        assert_eq!(owner(&ns1, "192.0.2.1"), None);

        let from = wire(1).ends[1].addrs[0];
        let to = EndAddr {
            addr: "172.16.0.201/32".parse().unwrap(),
            ..from
        };
        readdress(&host.netlink, &"veth-ns1".parse().unwrap(), &from, &to).unwrap();
        host.talks("172.16.0.201:0", &ns1, "172.16.0.1:0");
        assert_eq!(owner(&host, "172.16.0.101"), None);

        delete(&host.netlink, &"veth-ns1".parse().unwrap()).unwrap();
        assert_eq!(links(&ns1.netlink).unwrap().len(), 1);
        let gone = delete(&host.netlink, &"veth-ns1".parse().unwrap()).unwrap_err();
        assert_eq!(gone.errno, Errno::ENODEV);
    }

    #[test]
    fn a_wire_to_the_namespace_tincan_runs_in_needs_no_descriptor() {
        // The thread's namespace is not the process's: the far end would be born on the machine itself. So only the plan
        // for a first end without descriptor is made here.
        let (Some(ns1), Some(ns2)) = (Namespace::new(), Namespace::new()) else {
            return;
        };
        let near = Site {
            netns: None,
            ..ns1.site()
        };
        make(&wire(1), [near, ns2.site()]).unwrap();
        ns1.talks("172.16.0.1:0", &ns2, "172.16.0.101:0");
    }

    #[test]
    fn what_fails_is_named_and_leaves_nothing() {
        let (Some(ns1), Some(ns2)) = (Namespace::new(), Namespace::new()) else {
            return;
        };
        make(&wire(1), [ns1.site(), ns2.site()]).unwrap();
        let error = make(&wire(2), [ns1.site(), ns2.site()]).unwrap_err();
        assert_eq!(error.end, 0);
        assert_eq!(error.to_string(), "create the interface eth0: File exists");
        let mut second = wire(2);
        second.ends[0].name = "eth1".parse().unwrap();
        second.ends[1].name = "veth-ns1".parse().unwrap();
        let error = make(&second, [ns1.site(), ns2.site()]).unwrap_err();
        assert_eq!(error.end, 1);
        assert_eq!(error.action, "create the interface veth-ns1");
        second.ends[1].name = "veth-ns2".parse().unwrap();
        second.ends[0].routes = vec![Route {
            to: "10.0.0.0/8".parse().unwrap(),
            via: Some("192.0.2.1".parse().unwrap()),
        }];
        let error = make(&second, [ns1.site(), ns2.site()]).unwrap_err();
        assert_eq!(error.action, "add the route to 10.0.0.0/8 through eth1");
        assert_eq!(error.cause.errno, Errno::ENETUNREACH);
        eprintln!("{error}");
        assert_eq!(links(&ns1.netlink).unwrap().len(), 2);
        assert_eq!(links(&ns2.netlink).unwrap().len(), 2);
    }

    #[test]
    #[ignore = "a measurement, to be run with --release and --nocapture"]
    fn how_long_it_takes() {
        let median = |mut times: Vec<Duration>| {
            times.sort();
            times[times.len() / 2]
        };
        let Some(host) = Namespace::new() else { return };
        // All are kept to the end: the kernel's cleaning up behind a namespace holds the lock that is measured here.
        let mut kept = Vec::new();
        let (mut opened, mut made_v4, mut made) = (vec![], vec![], vec![]);
        for n in 1..=100 {
            for dual in [false, true] {
                let ns = Namespace::new().unwrap();
                netns::enter(host.fd.as_fd()).unwrap();
                let start = Instant::now();
                drop(Netlink::open_in(ns.fd.as_fd()).unwrap());
                opened.push(start.elapsed());
                let mut wire = wire(n);
                for end in &mut wire.ends {
                    end.routes.clear();
                    end.addrs.truncate(if dual { 2 } else { 1 });
                }
                wire.ends[1].name = format!("veth-{n}-{dual}").parse().unwrap();
                let start = Instant::now();
                make(&wire, [ns.site(), host.site()]).unwrap();
                let times = if dual { &mut made } else { &mut made_v4 };
                times.push(start.elapsed());
                kept.push(ns);
            }
        }
        eprintln!(
            "medians: open_in {:?}, make with v4 {:?}, make with v4 and v6 {:?}",
            median(opened),
            median(made_v4),
            median(made)
        );
    }

    /// A disposable host: the thread is in new network and mount namespaces, with an empty /run.
    fn disposable_host() -> bool {
        if let Err(errno) = netns::leave_with_mounts() {
            eprintln!("skipped: no network and mount namespaces can be made here: {errno}");
            return false;
        }
        if std::process::Command::new("ip").arg("-V").output().is_err() {
            eprintln!("skipped: there is no ip(8) to compare with");
            return false;
        }
        shell("mount -t tmpfs tmpfs /run && ip link set dev lo up");
        true
    }

    fn shell(line: &str) -> String {
        let done = std::process::Command::new("sh")
            .args(["-c", line])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{line}: {error}");
        assert_eq!(error, "", "{line}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// What ip(8) shows of a namespace, without what differs by chance: numbers, random link-layer addresses, and what the
    /// kernel derives from those.
    fn shown(netns: Option<&str>, with_macs: &[&str]) -> String {
        let ip = netns.map_or("ip".to_owned(), |name| format!("ip -n {name}"));
        let mut text = String::new();
        let read = |what: &str| -> Vec<serde_json::Value> {
            serde_json::from_str(&shell(&format!("{ip} -j {what}"))).unwrap()
        };
        for mut link in read("-d address show") {
            let fields = link.as_object_mut().unwrap();
            let named = with_macs.contains(&fields["ifname"].as_str().unwrap());
            for key in ["ifindex", "link_index", "link_netnsid"] {
                fields.remove(key);
            }
            if !named {
                fields.remove("address");
            }
            let addrs = fields["addr_info"].as_array_mut().unwrap();
            addrs.retain(|addr| addr["scope"] != "link");
            text.push_str(&format!("{link}\n"));
        }
        for family in ["-4", "-6"] {
            for mut route in read(&format!("{family} route show table all")) {
                let dst = route["dst"].as_str().unwrap().to_owned();
                if dst.starts_with("fe80") || dst.starts_with("ff00") || dst.starts_with("anycast")
                {
                    continue;
                }
                route.as_object_mut().unwrap().remove("pref");
                text.push_str(&format!("{route}\n"));
            }
        }
        text
    }

    #[test]
    fn the_printed_lines_do_what_the_wires_do() {
        use crate::plan::iproute2::tests::{end, node};
        use crate::plan::iproute2::{Known, lines, undo_lines};
        use crate::plan::name::ContainerName;
        use crate::plan::topology::Topology;

        if !disposable_host() {
            return;
        }
        let ns3: ContainerName = "ns3".parse().unwrap();
        let mut to_host = Wire {
            ends: [
                end(
                    Place::Node(0),
                    "eth0",
                    &[
                        "172.16.0.1/16",
                        "172.16.0.9/16",
                        "192.0.2.1/32",
                        "fd00::1/64",
                    ],
                    &[
                        "192.0.2.9/32",
                        "0.0.0.0/0 via 172.16.0.2",
                        "10.0.0.0/8",
                        "fd02::/64",
                        "::/0 via fd00::2",
                    ],
                ),
                end(
                    Place::Host,
                    "veth-ns1",
                    &["172.16.0.2/32 peer 172.16.0.1", "fd00::2/128 peer fd00::1"],
                    &[],
                ),
            ],
        };
        to_host.ends[0].mac = Some("02:00:00:00:00:01".parse().unwrap());
        to_host.ends[0].mtu = Some(1400);
        to_host.ends[1].mtu = Some(1400);
        to_host.ends[1].alias = Some("tincan:ns1/eth0".to_owned());
        let mut pair = Wire {
            ends: [
                end(Place::Node(0), "eth1", &["10.1.0.1/24", "fd01::1/64"], &[]),
                end(
                    Place::Node(1),
                    "eth0",
                    &["10.1.0.2/24", "fd01::2/64"],
                    &["172.16.0.0/16 via 10.1.0.1"],
                ),
            ],
        };
        pair.ends[0].alias = Some("to ns2, by hand".to_owned());
        let hot = Wire {
            ends: [
                end(Place::Running(ns3.clone()), "eth0", &["10.2.0.1/24"], &[]),
                end(Place::Host, "veth-ns3", &["10.2.0.2/32 peer 10.2.0.1"], &[]),
            ],
        };
        let topology = Topology {
            nodes: vec![node("ns1"), node("ns2")],
            wires: vec![to_host, pair, hot],
            ..Topology::default()
        };
        let known = |_: &ContainerName| Known::Named("ns3".to_owned());
        let macs = ["eth0"];
        let look = || {
            [
                (None, &macs[..0]),
                (Some("ns1"), &macs),
                (Some("ns2"), &macs[..0]),
                (Some("ns3"), &macs[..0]),
            ]
            .map(|(netns, macs)| shown(netns, macs))
        };

        shell("ip netns add ns3");
        let before = shown(None, &[]);
        for line in lines(&topology, &known) {
            shell(&line);
        }
        // Nobody waits here for the kernel to tell that they have a carrier (linkwatch), as `settle` does.
        let is_waited_for = |line: &str| line.contains("\"UP\"") && line.contains("DOWN\"");
        let is_settled = |seen: &[String]| !seen.iter().any(|it| it.lines().any(is_waited_for));
        let start = Instant::now();
        while !is_settled(&look()) && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let by_hand = look();
        for line in undo_lines(&topology, &known) {
            shell(&line);
        }
        // The kernel takes a namespace's links away behind its deletion.
        let start = Instant::now();
        while shown(None, &[]) != before && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(shown(None, &[]), before);
        assert_eq!(shell("ls /run/netns").trim(), "ns3");

        shell("ip netns add ns1; ip netns add ns2");
        let open = |name: &str| {
            let fd = OwnedFd::from(std::fs::File::open(format!("/run/netns/{name}")).unwrap());
            let netlink = Netlink::open_in(fd.as_fd()).unwrap();
            Namespace { fd, netlink }
        };
        let host = Namespace {
            fd: netns::current().unwrap(),
            netlink: Netlink::open().unwrap(),
        };
        let nodes = [open("ns1"), open("ns2")];
        let running = open("ns3");
        for node in &nodes {
            loopback_up(&node.netlink).unwrap();
        }
        for wire in &topology.wires {
            let site = |end: &End| match end.at {
                Place::Host => host.site(),
                Place::Node(node) => nodes[node].site(),
                Place::Running(_) => running.site(),
            };
            make(wire, [site(&wire.ends[0]), site(&wire.ends[1])]).unwrap();
        }
        for (ours, hand) in look().iter().zip(&by_hand) {
            for (ours, hand) in ours.lines().zip(hand.lines()) {
                assert_eq!(ours, hand);
            }
            assert_eq!(ours, hand);
        }
        assert!(by_hand[1].contains("fd00::1"), "{}", by_hand[1]);
    }
}
