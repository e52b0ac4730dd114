//! Values of `--net`, `--publish` and `link add`: what is taken is told in words that mean the same again.

#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/plan/mod.rs"]
mod plan;

use libfuzzer_sys::fuzz_target;

use plan::net::{LinkEnd, NetSpec, Publish};

fuzz_target!(|word: &str| {
    let _ = word.parse::<NetSpec>();
    let _ = word.parse::<LinkEnd>();
    if let Ok(publish) = word.parse::<Publish>() {
        assert_eq!(publish.to_string().parse::<Publish>().ok(), Some(publish));
    }
});
