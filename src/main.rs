//! tincan: a minimal container runtime focused on networking.
mod engine;
mod plan;
mod sys;
fn main() {}
