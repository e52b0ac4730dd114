//! A bundle's config.json, whatever is in it: read, and made a plan.

#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/plan/mod.rs"]
mod plan;

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;

use plan::facts::{CgroupLayout, Hierarchy};
use plan::oci::{self, Request};
use plan::topology::{Hierarchies, Origin};

fuzz_target!(|json: &[u8]| {
    let Ok(bundle) = oci::parse(json) else {
        return;
    };
    let hierarchy = |controllers: &[&str]| Hierarchy {
        controllers: controllers.iter().map(ToString::to_string).collect(),
        mount_point: PathBuf::from("/sys/fs/cgroup").join(controllers[0]),
        own: PathBuf::from("/"),
    };
    let v1 = [
        &["cpu", "cpuacct"][..],
        &["memory"],
        &["devices"],
        &["pids"],
    ];
    let layouts = [
        CgroupLayout {
            v1: v1.into_iter().map(hierarchy).collect(),
            v2: None,
            whole: None,
        },
        CgroupLayout {
            v1: Vec::new(),
            v2: Some(hierarchy(&["cpu", "cpuset", "io", "memory", "pids"])),
            whole: None,
        },
    ];
    let name = "c1".parse().expect("a name");
    for layout in &layouts {
        let request = Request {
            bundle_dir: Path::new("/b"),
            layout,
            confinement: None,
            origin: Origin::Bundle,
            hierarchies: Hierarchies::Every,
            manager: None,
            gate_start: true,
            wired: true,
            console_size: None,
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: 0,
            listen_fds: 0,
            overlay: layout.v1.is_empty(),
            die_with_parent: false,
            hold: false,
            seccomp: None,
        };
        if let Ok(node) = oci::node(&name, &bundle, &request) {
            // Every step can be told.
            assert!(node.steps.iter().all(|step| !step.to_string().is_empty()));
        }
    }
});
