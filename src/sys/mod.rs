//! One function, one kernel call: the only place for `unsafe`, and for the crates that wrap the system's interface.

pub mod channel;
pub mod credentials;
pub mod mount;
pub mod path;
pub mod pty;
pub mod process;
