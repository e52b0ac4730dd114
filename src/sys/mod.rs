//! One function, one kernel call: the only place for `unsafe`, and for the crates that wrap the system's interface.

pub mod bpf;
pub mod channel;
pub mod credentials;
pub mod descriptor;
pub mod lsm;
pub mod mount;
pub mod netns;
pub mod path;
pub mod process;
pub mod pty;
pub mod schedule;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod tap;

/// The errno of an error of the standard library; `IO` where it carries none.
pub fn errno_of(error: &std::io::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(error).unwrap_or(rustix::io::Errno::IO)
}

/// The errno of the call that has just failed.
fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&std::io::Error::last_os_error())
        .expect("the last error of the system is an errno")
}
