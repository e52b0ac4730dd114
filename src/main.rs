//! tincan: a minimal container runtime focused on networking. Two tin cans and a string are a telephone: it starts isolated
//! processes and wires them together, in one command, and launches OCI bundles as runc and crun do.
//!
//! `cmd` parses and asks, `plan` decides, `engine` does; `net`, `cgroup` and `sys` are how.

/// Prints a line on standard error. Unlike `eprintln!` it does not panic where there is nobody to read it: the exit code says
/// enough then. What controls a terminal, as a name can that a container has given, is not passed on to it.
macro_rules! complain {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let controls = |c: char| c.is_control() && c != '\n' && c != '\t';
        let line = format!($($line)*).replace(controls, "?");
        let _ = writeln!(std::io::stderr(), "{line}");
    }};
}

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
