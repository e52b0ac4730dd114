//! The integration tests: the real program on the real kernel, each test on a disposable host of its own (`host.rs`).

mod clean;
mod host;
mod machine;

fn main() -> std::process::ExitCode {
    host::main([clean::tests()].concat())
}
