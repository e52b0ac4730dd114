//! What is to be done, as data: pure code that asks nothing of the machine. Facts about the host come in as arguments
//! ([`facts`]), the plan goes out as a [`topology::Topology`], and the engine performs it.

pub mod annotation;
pub mod cgroup;
pub mod checkpoint;
pub mod cni;
pub mod dns;
pub mod facts;
pub mod hosts;
pub mod interface;
pub mod iproute2;
pub mod name;
pub mod net;
pub mod network;
pub mod oci;
pub mod plugin;
pub mod resctrl;
pub mod seccomp;
pub mod step;
pub mod subid;
pub mod systemd;
pub mod tenant;
pub mod topology;
pub mod variant;
pub mod wireguard;
