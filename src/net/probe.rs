//! What the kernel can do for a network, found out by asking it for it in a namespace that nobody uses.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use nix::errno::Errno;

use super::netlink::{Netlink, Refused, Request};
use crate::sys::netns;

/// Asks in a network namespace that is thrown away: it goes with the thread that is in it.
///
/// # Errors
/// When no such namespace can be had; what was asked.
pub fn apart<T: Send>(
    ask: impl FnOnce(&Netlink) -> Result<T, Refused> + Send,
) -> Result<T, Refused> {
    let there = || {
        netns::leave().map_err(|errno| Refused::from(std::io::Error::from(errno)))?;
        ask(&Netlink::open()?)
    };
    std::thread::scope(|scope| scope.spawn(there).join()).expect("the thread does not panic")
}

/// Whether the kernel, or a module that it loads for the asking, knows this kind of link (ip-link(8), type).
///
/// The socket has to be in a network namespace that is thrown away: of most kinds a link is made there.
///
/// # Errors
/// When the kernel refuses even to look, for want of rights.
pub fn knows_link(netlink: &Netlink, kind: &str) -> Result<bool, Refused> {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
        InfoKind::Other(kind.to_owned()),
    )])];
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let answer = netlink.request(Request::new(RouteNetlinkMessage::NewLink(link), flags));
    // An unknown kind is the one refusal that comes before the kind itself is asked (`rtnl_newlink`, net/core/rtnetlink.c).
    known(answer, Errno::EOPNOTSUPP)
}

/// Whether the kernel, or a module that it loads for the asking, knows this queueing discipline (tc(8)).
///
/// # Errors
/// As [`knows_link`].
pub fn knows_qdisc(netlink: &Netlink, kind: &str) -> Result<bool, Refused> {
    // On `lo`, whose number this is in every network namespace (LOOPBACK_IFINDEX, include/net/flow.h).
    let mut message = TcMessage::with_index(1);
    message.header.parent = TcHandle::ROOT;
    message.attributes = vec![TcAttribute::Kind(kind.to_owned())];
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let request = Request::new(RouteNetlinkMessage::NewQueueDiscipline(message), flags);
    // `qdisc_create` in net/sched/sch_api.c.
    known(netlink.request(request), Errno::ENOENT)
}

fn known<T>(answer: Result<T, Refused>, unknown: Errno) -> Result<bool, Refused> {
    match answer {
        Err(refused) if refused.errno == unknown => Ok(false),
        Err(refused) if refused.errno == Errno::EPERM => Err(refused),
        // Whatever is wrong with the rest of the request: it was looked at.
        _ => Ok(true),
    }
}
