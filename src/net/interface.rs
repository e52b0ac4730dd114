//! Interfaces of other kinds than veth: made in the container's namespace by a request in the host's, where their parents are.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoVlan, InfoVxlan, IpVlanMode, LinkAttribute,
    LinkInfo, MacVlanMode,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::netlink::{Netlink, Refused, Request};
use super::wire::{self, Failed, Site};
use super::{device, wireguard};
use crate::plan::interface::{Interface, InterfaceKind, IpvlanMode, MacvlanMode};
use crate::plan::name::LinkName;
use crate::sys::tap;

/// Makes an interface where it belongs, then raises, addresses and routes it.
///
/// # Errors
/// What could not be done; the interface is not there then, but for a link of the host's, which its journal brings back.
pub fn make(interface: &Interface, host: &Netlink, site: Site) -> Result<(), Failed> {
    create(interface, host, site)?;
    let furnished = furnish(interface, site);
    if furnished.is_err() && !matches!(interface.kind, InterfaceKind::Phys { .. }) {
        // The first error is the one to tell.
        let _ = wire::delete(site.netlink, &interface.end.name);
    }
    furnished
}

fn create(interface: &Interface, host: &Netlink, site: Site) -> Result<(), Failed> {
    let end = &interface.end;
    let failed = |action: String| {
        move |cause| Failed {
            end: 0,
            action,
            cause,
        }
    };
    let creating = || {
        failed(format!(
            "create the interface {} ({})",
            end.name, interface.kind
        ))
    };
    match &interface.kind {
        InterfaceKind::Tap => {
            let netns = site.netns.expect("an interface is a container's");
            let creating = failed(format!("create the tap {} by /dev/net/tun", end.name));
            tap::create(netns, end.name.as_str()).map_err(|errno| {
                let errno = Errno::from_raw(errno.raw_os_error());
                creating(Refused { errno, said: None })
            })?;
        }
        InterfaceKind::Phys { device, loan } => {
            let netns = site.netns.expect("an interface is a container's");
            let moving = failed(format!("move {device} into the container as {}", end.name));
            device::lend(
                host,
                device,
                site.netlink,
                netns,
                &end.name,
                loan.as_deref(),
            )
            .map_err(moving)?;
        }
        kind => {
            let taken: &[Errno] = match kind {
                // Beside one that has the parent to itself (passthru) there is no other (`macvlan_common_newlink`, drivers/net/macvlan.c).
                InterfaceKind::Macvlan { .. } => &[Errno::EINVAL],
                _ => &[],
            };
            once_free(taken, || create_link(interface, kind, host, site)).map_err(creating())?;
        }
    }
    Ok(())
}

fn furnish(interface: &Interface, site: Site) -> Result<(), Failed> {
    let end = &interface.end;
    let failed = |action: String| {
        move |cause| Failed {
            end: 0,
            action,
            cause,
        }
    };
    let find = failed(format!("find the interface {}", end.name));
    let index = site.netlink.index_of(&end.name).map_err(find)?;
    // What the others were given when they were made.
    if matches!(
        interface.kind,
        InterfaceKind::Tap | InterfaceKind::Phys { .. }
    ) {
        let looks = wire::with_looks(LinkUnspec::new_with_index(index), end).build();
        let request = Request::new(RouteNetlinkMessage::SetLink(looks), 0);
        let setting = failed(format!("set up the interface {}", end.name));
        site.netlink.request(request).map_err(setting)?;
    }
    if let InterfaceKind::Wireguard { file, tunnel } = &interface.kind {
        let setting = failed(format!("set up {} as {} says", end.name, file.display()));
        wireguard::configure(site.netns, &end.name, tunnel).map_err(setting)?;
    }
    if let InterfaceKind::Vxlan { remotes, .. } = &interface.kind {
        // The first is what the link itself was given.
        for remote in &remotes[1..] {
            let adding = failed(format!("add the machine {remote} to {}", end.name));
            site.netlink
                .request(everybody_at(index, *remote))
                .map_err(adding)?;
        }
    }
    let raised = once_free(&[], || wire::raise(site.netlink, index));
    raised.map_err(failed(format!("raise the interface {}", end.name)))?;
    wire::furnish(end, 0, wire::Raise::No, site, index)?;
    // A parent can be down, and nobody has opened the tap yet: that is no fault of the container's.
    wire::settle(end, 0, false, site.netlink, index)
}

/// Does what wants a tag, a number, a link-layer address or a parent to itself. The link that had it may be one of a container that has just
/// ended, which the kernel frees some ten milliseconds later: that is waited for. `taken` is what the kernel says so beside the usual.
fn once_free(
    taken: &[Errno],
    mut deed: impl FnMut() -> Result<(), Refused>,
) -> Result<(), Refused> {
    const LONGEST: Duration = Duration::from_millis(500);
    const INTERVAL: Duration = Duration::from_millis(2);
    const USUAL: [Errno; 3] = [Errno::EEXIST, Errno::EADDRINUSE, Errno::EBUSY];
    let is_taken = |errno: Errno| USUAL.contains(&errno) || taken.contains(&errno);
    let since = Instant::now();
    loop {
        match deed() {
            Err(refused) if is_taken(refused.errno) && since.elapsed() < LONGEST => {
                std::thread::sleep(INTERVAL);
            }
            other => return other,
        }
    }
}

/// Creates the link with one request, in the host's namespace: IFLA_LINK is a number there, and so is the address that a tunnel
/// sends from (`newlink` of each kind gets the namespace that the request came from; net/core/rtnetlink.c, `rtnl_newlink_create`).
fn create_link(
    interface: &Interface,
    kind: &InterfaceKind,
    host: &Netlink,
    site: Site,
) -> Result<(), Refused> {
    let parent = kind
        .parent()
        .map(|name| wire::link_by_name(host, name))
        .transpose()?;
    let parent = parent.map(|link| link.index);
    let request = |name: &LinkName| {
        let end = &interface.end;
        let mut link = wire::with_looks(LinkMessageBuilder::<LinkUnspec>::new(), end)
            .name(name.as_str())
            .append_extra_attribute(LinkAttribute::LinkInfo(info(kind, parent)));
        if let (Some(index), false) = (parent, matches!(kind, InterfaceKind::Vxlan { .. })) {
            link = link.append_extra_attribute(LinkAttribute::Link(index));
        }
        if let Some(netns) = site.netns {
            link = link.append_extra_attribute(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        }
        let message = RouteNetlinkMessage::NewLink(link.build());
        Request::new(message, NLM_F_CREATE | NLM_F_EXCL)
    };
    let name = &interface.end.name;
    let there = |netlink: &Netlink| wire::link_by_name(netlink, name).is_ok();
    match host.request(request(name)) {
        // Before Linux 6.15 the name must be free on the host as well (`rtnl_newlink` looks there first).
        Err(refused) if refused.errno == Errno::EEXIST && !there(site.netlink) && there(host) => {
            let other: LinkName = format!("tc-{}", std::process::id())
                .parse()
                .expect("a number of at most 10 digits");
            host.request(request(&other))?;
            let index = site.netlink.index_of(&other)?;
            let renamed = LinkUnspec::new_with_index(index)
                .name(name.as_str())
                .build();
            let request = Request::new(RouteNetlinkMessage::SetLink(renamed), 0);
            site.netlink.request(request).map(drop)
        }
        other => other.map(drop),
    }
}

/// The kind, and what is particular to it.
fn info(kind: &InterfaceKind, parent: Option<u32>) -> Vec<LinkInfo> {
    let (kind, data) = match kind {
        InterfaceKind::Macvlan { mode, .. } => {
            let mode = match mode {
                MacvlanMode::Bridge => MacVlanMode::Bridge,
                MacvlanMode::Private => MacVlanMode::Private,
                MacvlanMode::Vepa => MacVlanMode::Vepa,
                MacvlanMode::Passthru => MacVlanMode::Passthrough,
            };
            let data = InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)]);
            (InfoKind::MacVlan, data)
        }
        InterfaceKind::Ipvlan { mode, .. } => {
            let mode = match mode {
                IpvlanMode::L2 => IpVlanMode::L2,
                IpvlanMode::L3 => IpVlanMode::L3,
                IpvlanMode::L3s => IpVlanMode::L3S,
            };
            let data = InfoData::IpVlan(vec![InfoIpVlan::Mode(mode)]);
            (InfoKind::IpVlan, data)
        }
        InterfaceKind::Vlan { id, .. } => (InfoKind::Vlan, InfoData::Vlan(vec![InfoVlan::Id(*id)])),
        InterfaceKind::Vxlan {
            vni,
            remotes,
            local,
            port,
            ..
        } => {
            let mut data = vec![InfoVxlan::Id(*vni), InfoVxlan::Port(*port)];
            // One machine is no group: its packets go to it alone (`vxlan_nl2conf`, drivers/net/vxlan/vxlan_core.c).
            data.extend(remotes.first().map(|remote| match remote {
                IpAddr::V4(ip) => InfoVxlan::Group(*ip),
                IpAddr::V6(ip) => InfoVxlan::Group6(*ip),
            }));
            data.extend(local.map(|local| match local {
                IpAddr::V4(ip) => InfoVxlan::Local(ip),
                IpAddr::V6(ip) => InfoVxlan::Local6(ip),
            }));
            data.extend(parent.map(InfoVxlan::Link));
            (InfoKind::Vxlan, InfoData::Vxlan(data))
        }
        InterfaceKind::Wireguard { .. } => return vec![LinkInfo::Kind(InfoKind::Wireguard)],
        InterfaceKind::Tap | InterfaceKind::Phys { .. } => {
            unreachable!("neither is a link of rtnetlink's making")
        }
    };
    vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]
}

/// One more machine that gets what is for everybody, or for a station nobody has heard yet: `bridge fdb append` with the zero
/// address (bridge(8)).
fn everybody_at(index: u32, remote: IpAddr) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(vec![0; 6]),
        NeighbourAttribute::Destination(match remote {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        }),
    ];
    let message = RouteNetlinkMessage::NewNeighbour(message);
    Request::new(message, NLM_F_CREATE | NLM_F_APPEND)
}
