//! Shares of caches and of memory bandwidth, in the kernel's own resctrl. There is one for the whole machine, so groups have names that
//! no other test has, and each test looks that none of its own are left.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::host::{Case, Host, tests};
use super::oci::apart;

pub fn tests() -> Vec<Case> {
    tests![
        a_container_is_in_its_own_group needs [Root, Resctrl],
        a_named_group_is_everybodys_and_stays needs [Root, Resctrl],
        a_group_that_cannot_be_is_not_left needs [Root, Resctrl],
        update_gives_another_share needs [Root, Resctrl],
        an_update_that_fails_changes_nothing needs [Root, Resctrl],
        events_tells_of_it_as_runc_does needs [Root, Resctrl],
    ]
}

/// Where it is mounted.
fn root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    let mut mount = mounts
        .find(|fields| fields.clone().nth(2) == Some("resctrl"))
        .unwrap();
    mount.nth(1).unwrap().into()
}

fn bundle(host: &Host, name: &str, asked: &Value) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
        spec["linux"]["intelRdt"] = asked.clone();
        spec["linux"]["cgroupsPath"] = json!(format!("/tincan/{name}"));
    });
    bundle.display().to_string()
}

fn start(host: &Host, id: &str, asked: &Value) {
    let bundle = bundle(host, id, asked);
    apart(host, &format!("run -d -b {bundle} {id}"));
}

/// What the group has, line by line.
fn schemata(group: &Path) -> Vec<String> {
    let text = fs::read_to_string(group.join("schemata")).unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// Whether a container's first process is in a group.
fn has(host: &Host, group: &Path, id: &str) -> bool {
    let state: Value = serde_json::from_str(&host.tincan(["state", id]).ok()).unwrap();
    let pid = state["pid"].to_string();
    let tasks = fs::read_to_string(group.join("tasks")).unwrap();
    tasks.lines().any(|line| line == pid)
}

fn delete(host: &Host, id: &str) {
    host.tincan(["delete", "--force", id]).ok();
}

fn a_container_is_in_its_own_group(host: &Host) {
    let asked =
        json!({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=15", "enableMonitoring": true});
    start(host, "alone", &asked);
    let group = root().join("alone");
    let monitoring = group.join("mon_groups/alone");
    // Of bandwidth the kernel has steps.
    assert_eq!(schemata(&group), ["MB:0= 20", "L3:0=00f"]);
    assert!(has(host, &group, "alone"));
    assert!(has(host, &monitoring, "alone"));
    // Who comes later is there, too.
    let count = || {
        let tasks = fs::read_to_string(monitoring.join("tasks")).unwrap();
        tasks.lines().count()
    };
    assert_eq!(count(), 1);
    apart(host, "exec -d alone sleep 1000");
    assert_eq!(count(), 2);
    // Its name is taken, by a group of its own.
    let other = bundle(host, "alone-2", &asked);
    let words = ["--root", "/run/others", "create", "-b", &other, "alone"];
    let said = host.tincan(words).fails(125);
    let why = format!("alone: make {}: File exists", group.display());
    assert!(said.contains(&why), "{said}");
    assert!(has(host, &group, "alone"));
    delete(host, "alone");
    assert!(!group.exists());
}

fn a_named_group_is_everybodys_and_stays(host: &Host) {
    let group = root().join("gold");
    let asked = |line: &str| json!({"closID": "gold", "memBwSchema": line});
    // All at once: one makes it, and none finds it without its share.
    let names = ["g1", "g2", "g3", "g4"];
    for name in names {
        bundle(host, name, &asked("MB:0=15"));
    }
    let script = format!(
        "for c in {}; do {} run -d -b $c $c </dev/null >$c.said 2>&1 & done; wait; cat *.said",
        names.join(" "),
        Host::TINCAN
    );
    assert_eq!(host.sh(&script), "");
    for name in names {
        assert!(has(host, &group, name), "{name}");
    }
    let other = bundle(host, "g5", &asked("MB:0=30"));
    let said = host.tincan(["create", "-b", &other, "g5"]).fails(125);
    let why = format!(
        "g5: linux.intelRdt: {}/schemata: is not `MB:0=30`",
        group.display()
    );
    assert!(said.contains(&why), "{said}");
    for name in names {
        delete(host, name);
    }
    assert_eq!(schemata(&group), ["MB:0= 20", "L3:0=7ff"]);
    // One that is there takes containers that ask for nothing, and their monitoring groups go.
    let monitored = json!({"closID": "gold", "enableMonitoring": true});
    start(host, "g6", &monitored);
    let monitoring = group.join("mon_groups/g6");
    assert!(has(host, &monitoring, "g6"));
    delete(host, "g6");
    assert!(!monitoring.exists());
    fs::remove_dir(&group).unwrap();
    let gone = bundle(host, "g7", &monitored);
    let said = host.tincan(["create", "-b", &gone, "g7"]).fails(125);
    let why = format!(
        "g7: read {}/schemata: No such file or directory",
        group.display()
    );
    assert!(said.contains(&why), "{said}");
    // The one that everybody is in.
    start(
        host,
        "g8",
        &json!({"closID": "/", "enableMonitoring": true}),
    );
    assert!(has(host, &root(), "g8"));
    assert!(has(host, &root().join("mon_groups/g8"), "g8"));
    delete(host, "g8");
    assert!(!root().join("mon_groups/g8").exists());
}

fn a_group_that_cannot_be_is_not_left(host: &Host) {
    let group = root().join("odd");
    let refused = [
        // Further than the cache goes.
        (json!({"l3CacheSchema": "L3:0=ffff"}), "Invalid argument ("),
        (
            json!({"closID": "odd", "l3CacheSchema": "L3:0=ffff"}),
            "Invalid argument (",
        ),
        (
            json!({"closID": "odd", "schemata": ["L3:0=3", "L3:0=f"]}),
            "Invalid argument (Duplicate domain 0)",
        ),
        (json!({"schemata": ["L9:0=f"]}), "Invalid argument ("),
    ];
    for (index, (asked, why)) in refused.into_iter().enumerate() {
        let bundle = bundle(host, &format!("odd-{index}"), &asked);
        let said = host.tincan(["create", "-b", &bundle, "odd"]).fails(125);
        let why = format!("odd: write {}/schemata: {why}", group.display());
        assert!(said.contains(&why), "{said}");
        assert!(!group.exists(), "{asked}");
    }
}

fn update_gives_another_share(host: &Host) {
    let update = |words: &[&str]| {
        let all = [&["update"], words, &["changed"]].concat();
        assert_eq!(host.tincan(all).ok(), "");
    };
    // What comes last counts.
    let asked = json!({"l3CacheSchema": "L3:0=f", "schemata": ["MB:0=50", "L3:0=1"]});
    start(host, "changed", &asked);
    let group = root().join("changed");
    let changes_to = |share: [&str; 2]| assert_eq!(schemata(&group), share);
    changes_to(["MB:0= 50", "L3:0=001"]);
    update(&["--l3-cache-schema", "L3:0=7f0"]);
    changes_to(["MB:0= 50", "L3:0=7f0"]);
    update(&["--mem-bw-schema", "MB:0=30"]);
    changes_to(["MB:0= 30", "L3:0=7f0"]);
    update(&[
        "--l3-cache-schema=L3:0=3",
        "--mem-bw-schema=MB:0=100",
        "--pids-limit=7",
    ]);
    changes_to(["MB:0=100", "L3:0=003"]);
    // Other limits leave it as it is; and it is changed beside those of a file, as by runc.
    update(&["--pids-limit", "8", "--l3-cache-schema", ""]);
    changes_to(["MB:0=100", "L3:0=003"]);
    let words = [
        "update",
        "-r",
        "-",
        "--l3-cache-schema",
        "L3:0=1",
        "changed",
    ];
    let file = json!({"pids": {"limit": 9}}).to_string();
    host.tincan(words).stdin(file).ok();
    changes_to(["MB:0=100", "L3:0=001"]);
    let find = "find /sys/fs/cgroup -path '*tincan/changed/pids.max' -exec cat {} +";
    assert_eq!(host.sh(find), "9\n");
    delete(host, "changed");
    assert!(!group.exists());
}

fn an_update_that_fails_changes_nothing(host: &Host) {
    start(host, "kept", &json!({"l3CacheSchema": "L3:0=f"}));
    let group = root().join("kept");
    let schemata_file = group.join("schemata");
    let before = schemata(&group);
    let refused = |id: &str, words: &[&str], why: &str| {
        let said = host.tincan([&["update"], words, &[id]].concat()).fails(125);
        assert!(said.contains(why), "{said}");
        assert_eq!(schemata(&group), before, "{words:?}");
    };
    let written = format!(
        "kept: write {}: Invalid argument (",
        schemata_file.display()
    );
    refused("kept", &["--l3-cache-schema", "L3:0=ffff"], &written);
    // One is right, and the other is less than there can be.
    let both = ["--l3-cache-schema", "L3:0=3", "--mem-bw-schema", "MB:0=1"];
    refused("kept", &both, &written);
    let line = "`20` is no line that begins with `MB:`; a right one is `MB:0=50`";
    refused("kept", &["--mem-bw-schema", "20"], line);
    // The kernel takes the share, but there is no such processor.
    let with_limit = ["--l3-cache-schema", "L3:0=3", "--cpuset-cpus", "999"];
    refused("kept", &with_limit, "cpuset.cpus");
    // Who was made without one has none.
    let bundle = host.bundle("none", |spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
    });
    apart(host, &format!("run -d -b {} none", bundle.display()));
    let none =
        "none: l3 cache schema: updating a non-existent Intel RDT configuration is not supported";
    refused("none", &["--l3-cache-schema", "L3:0=3"], none);
    delete(host, "none");
    delete(host, "kept");
    assert!(!group.exists());
}

fn events_tells_of_it_as_runc_does(host: &Host) {
    let told = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["data"]["intel_rdt"].clone()
    };
    let asked = json!({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20"});
    let bundle = bundle(host, "told", &asked);
    let runc = format!("runc --root {}/runc", host.dir().display());
    host.sh(&format!(
        "{runc} run -d -b {bundle} told </dev/null >/dev/null 2>&1"
    ));
    let theirs = told(&host.sh(&format!("{runc} events --stats told")));
    host.sh(&format!("{runc} delete --force told"));
    apart(host, &format!("run -d -b {bundle} told"));
    let mut ours = told(&host.tincan(["events", "--stats", "told"]).ok());
    // Older ones of runc do not know this.
    assert_eq!(ours["schemata"], json!(["MB:0= 20", "L3:0=00f"]));
    if theirs.get("schemata").is_none() {
        ours.as_object_mut().unwrap().remove("schemata");
    }
    // The numbers are those of what happened meanwhile; their keys are not.
    let plain = |of: &Value| {
        let mut of = of.clone();
        for (list, keys) in [
            ("mbm_stats", &["mbm_total_bytes", "mbm_local_bytes"][..]),
            ("cmt_stats", &["llc_occupancy"]),
        ] {
            for domain in of[list].as_array_mut().expect("a list") {
                for key in keys {
                    assert!(domain[key].is_u64(), "{domain}");
                    domain[key] = json!(0);
                }
            }
        }
        of
    };
    assert_eq!(plain(&ours), plain(&theirs));
    // Again and again, with what it has by then.
    host.tincan(["update", "--l3-cache-schema", "L3:0=3", "told"])
        .ok();
    let line = format!("{} events --interval 1ms told | head -n1", Host::TINCAN);
    assert_eq!(told(&host.sh(&line))["l3_cache_schema"], "L3:0=003");
    delete(host, "told");
    assert!(!root().join("told").exists());
}
