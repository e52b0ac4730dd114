//! Wires between network namespaces: plans become netlink requests here.

pub mod attributes;
pub mod bridge;
pub mod conntrack;
pub mod device;
pub mod dns;
pub mod interface;
pub mod netlink;
pub mod nft;
pub mod probe;
pub mod sockets;
pub mod statistics;
pub mod wire;
pub mod wireguard;
