//! Wires between network namespaces: plans become netlink requests here.

pub mod bridge;
pub mod interface;
pub mod netlink;
pub mod nft;
pub mod probe;
pub mod sockets;
pub mod wire;
