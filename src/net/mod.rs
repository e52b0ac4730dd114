//! Wires between network namespaces: plans become netlink requests here.

pub mod interface;
pub mod netlink;
pub mod probe;
pub mod wire;
