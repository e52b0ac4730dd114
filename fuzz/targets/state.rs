//! A container's state.json: what is read can be written and read again.

#![no_main]
#![allow(dead_code, unused_imports)]

/// As in src/main.rs.
macro_rules! complain {
    ($($line:tt)*) => {{
        eprintln!($($line)*)
    }};
}

#[path = "../../src/cgroup/mod.rs"]
mod cgroup;
#[path = "../../src/cmd/mod.rs"]
mod cmd;
#[path = "../../src/engine/mod.rs"]
mod engine;
#[path = "../../src/net/mod.rs"]
mod net;
#[path = "../../src/plan/mod.rs"]
mod plan;
#[path = "../../src/sys/mod.rs"]
mod sys;

use libfuzzer_sys::fuzz_target;

use engine::state::State;

fuzz_target!(|json: &[u8]| {
    if let Ok(state) = serde_json::from_slice::<State>(json) {
        let written = serde_json::to_vec(&state).expect("a state can be written");
        let again: State = serde_json::from_slice(&written).expect("what is written can be read");
        assert_eq!((again.id, again.undo), (state.id, state.undo));
        assert_eq!(
            (again.wires, again.interfaces),
            (state.wires, state.interfaces)
        );
    }
});
