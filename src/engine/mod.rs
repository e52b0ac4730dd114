//! Hold, wire, release, undo: the one way in which anything starts and stops.
//!
//! A container is cloned with every namespace at once and **held** at a gate; the engine **wires** it from outside; then the
//! gate opens and the child performs its list of steps, the last of which is exec: it is **released**. What the kernel does
//! not free by itself when the process dies is written down before it is made, and **undone** from there.

pub mod attachment;
pub mod binds;
pub mod checkpoint;
pub mod child;
pub mod dns;
pub mod enter;
pub mod error;
pub mod fault;
pub mod give_way;
pub mod hold;
pub mod hook;
pub mod loan;
pub mod log;
pub mod names;
pub mod network;
pub mod outside;
pub mod plugin;
pub mod publish;
pub mod resctrl;
pub mod rootfs;
pub mod seal;
pub mod seccomp;
pub mod state;
pub mod supervise;
pub mod undo;
pub mod user;
