//! tincan: a minimal container runtime focused on networking. Two tin cans and a string are a telephone: it starts isolated
//! processes and wires them together, in one command, and launches OCI bundles as runc and crun do.
//!
//! `cmd` parses and asks, `plan` decides, `engine` does; `net`, `cgroup` and `sys` are how.

mod cgroup;
mod cmd;
mod engine;
mod net;
mod plan;
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    cmd::main()
}
