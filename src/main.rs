//! tincan: a minimal container runtime focused on networking.
mod plan;
fn main() {}
