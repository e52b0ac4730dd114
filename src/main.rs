//! tincan: a minimal container runtime focused on networking.
mod cgroup;
mod engine;
mod net;
mod plan;
mod sys;
fn main() {}
