//! What has passed through the interfaces of a namespace (rtnl_link_stats64, linux/if_link.h).

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use serde::Serialize;

use super::netlink::{Netlink, Refused, Request};

/// What has passed through an interface; the keys are those of `runc events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceStatistics {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Bad packets received.
    pub rx_errors: u64,
    /// Packets received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets dropped on the way out.
    pub tx_dropped: u64,
}

/// What has passed through each interface of a namespace, in the order of their indices, `lo` too.
///
/// # Errors
/// The kernel's.
pub fn of_all(netlink: &Netlink) -> Result<Vec<InterfaceStatistics>, Refused> {
    let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut links = Vec::new();
    for message in netlink.request(Request::new(question, NLM_F_DUMP))? {
        let RouteNetlinkMessage::NewLink(link) = message else {
            continue;
        };
        let (mut name, mut counted) = (None, None);
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(it) => name = Some(it),
                LinkAttribute::Stats64(it) => counted = Some(it),
                _ => {}
            }
        }
        if let (Some(name), Some(counted)) = (name, counted) {
            let statistics = InterfaceStatistics {
                name,
                rx_bytes: counted.rx_bytes,
                rx_packets: counted.rx_packets,
                rx_errors: counted.rx_errors,
                rx_dropped: counted.rx_dropped,
                tx_bytes: counted.tx_bytes,
                tx_packets: counted.tx_packets,
                tx_errors: counted.tx_errors,
                tx_dropped: counted.tx_dropped,
            };
            links.push((link.header.index, statistics));
        }
    }
    links.sort_by_key(|(index, _)| *index);
    Ok(links
        .into_iter()
        .map(|(_, statistics)| statistics)
        .collect())
}
