//! tincan: a minimal container runtime focused on networking.
mod plan;
mod sys;
fn main() {}
