//! A process.json of `exec --process`, and the resources of `update`.

#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/plan/mod.rs"]
mod plan;

use libfuzzer_sys::fuzz_target;

use plan::oci;

fuzz_target!(|json: &[u8]| {
    let _ = oci::parse_process(json);
    let _ = oci::parse_resources(json);
});
