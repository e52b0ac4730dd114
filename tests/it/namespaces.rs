//! Namespaces of a bundle: new ones with their mappings and clocks, and those of others, joined by path.

use serde_json::{Value, json};

use crate::host::{Case, Host, tests};

/// The tests of this file.
pub fn tests() -> Vec<Case> {
    tests![
        a_user_namespace_has_its_ids needs [Root],
        a_user_namespace_is_wired_and_limited needs [Root],
        a_user_namespace_keeps_the_hosts_network needs [Root],
        a_user_namespace_has_what_its_root_does_not_reach needs [Root],
        a_user_namespace_has_limits_over_its_makers needs [Root, SysResource],
        every_kind_is_joined_by_path needs [Root],
        a_user_namespace_is_joined_by_path needs [Root],
        a_mount_namespace_is_joined_as_it_is needs [Root],
        without_a_mount_namespace_the_mounts_are_the_containers_alone needs [MountsApart],
        in_a_mount_namespace_that_is_joined_the_mounts_are_the_containers_alone needs [Root, MountsApart],
        clocks_are_offset,
        a_new_namespace_is_another_than_the_hosts needs [Root],
        a_sysctl_of_the_hosts_own_namespace_is_refused_by_any_path needs [Root],
        a_namespace_that_cannot_be_joined_is_named needs [Root],
    ]
}

/// A bundle that runs this line of shell, with these changes.
fn bundle(host: &Host, name: &str, script: &str, change: impl FnOnce(&mut Value)) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["process"]["args"] = json!(["sh", "-c", script]);
        change(spec);
    });
    bundle.display().to_string()
}

/// What the container of a bundle prints.
fn printed(host: &Host, bundle: &str) -> String {
    host.tincan(["run", "--bundle", bundle, "c1"]).ok()
}

/// The ids from 100,000 on, and a root file system that belongs to them.
fn with_ids(spec: &mut Value) {
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    spec["linux"]["uidMappings"] = ids.clone();
    spec["linux"]["gidMappings"] = ids;
    add(spec, json!({"type": "user"}));
}

fn add(spec: &mut Value, namespace: Value) {
    let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a list");
    namespaces.retain(|other| other["type"] != namespace["type"]);
    namespaces.push(namespace);
}

fn give_rootfs(host: &Host, bundle: &str) {
    host.sh(&format!("chown -R 100000:100000 {bundle}/rootfs"));
}

fn a_user_namespace_has_its_ids(host: &Host) {
    let script = "set -- $(cat /proc/self/uid_map); echo $*; set -- $(cat /proc/self/gid_map); echo $*; \
                  id -u; id -g; id -G; stat -c %u:%g / /proc /dev/null /dev/pts/ptmx; echo x >/dev/null; \
                  cat /proc/self/oom_score_adj; touch /tmp/mine; chown 9:9 /tmp/mine; stat -c %u:%g /tmp/mine; \
                  wc -c </proc/keys; echo 1 2>/dev/null >/proc/sys/kernel/msgmax || echo kept; hostname; \
                  cat /proc/sys/net/ipv4/ip_forward";
    let bundle = bundle(host, "ids", script, |spec| {
        with_ids(spec);
        spec["root"]["readonly"] = json!(false);
        spec["process"]["oomScoreAdj"] = json!(77);
        spec["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [5, 9]});
        spec["process"]["capabilities"] = json!({"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]});
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    });
    give_rootfs(host, &bundle);
    let wanted = "0 100000 65536\n0 100000 65536\n0\n0\n0 5 9\n0:0\n65534:65534\n65534:65534\n0:0\n77\n9:9\n0\nkept\ntincan\n1\n";
    assert_eq!(printed(host, &bundle), wanted);
    let mine = host.sh(&format!("stat -c %u {bundle}/rootfs/tmp/mine"));
    assert_eq!(mine, "100009\n");
}

fn a_user_namespace_is_wired_and_limited(host: &Host) {
    let bundle = bundle(
        host,
        "wired",
        "id -u; ip -o -4 address show dev eth0; sleep 1000",
        |spec| {
            with_ids(spec);
            spec["process"]["user"] = json!({"uid": 7, "gid": 8});
            spec["linux"]["resources"]["pids"] = json!({"limit": 12});
            spec["linux"]["cgroupsPath"] = json!("/tincan/wired");
        },
    );
    give_rootfs(host, &bundle);
    host.sh(&format!(
        "{} run --detach --net 10.7.0.1/24 --bundle {bundle} c1 </dev/null >log 2>&1",
        Host::TINCAN
    ));
    let log = || host.sh("cat log");
    host.wait_until("it has looked", || log().lines().count() == 2);
    assert!(
        log().starts_with("7\n") && log().contains("10.7.0.1/24"),
        "{}",
        log()
    );
    host.sh("ping -c1 -W5 10.7.0.1");
    let pids = host.sh("cat $(find /sys/fs/cgroup -path '*tincan/wired/pids.max')");
    assert_eq!(pids, "12\n");
    // `exec` joins the user namespace, and is whom the container's process is.
    let look = "id -u; id -g; stat -c %u /proc/1; cat /proc/self/setgroups";
    let said = host.tincan(["exec", "c1", "sh", "-c", look]).ok();
    assert_eq!(said, "7\n8\n7\nallow\n");
    let said = host.tincan(["exec", "-u", "0:0", "c1", "id", "-u"]).ok();
    assert_eq!(said, "0\n");
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn a_user_namespace_keeps_the_hosts_network(host: &Host) {
    let bundle = bundle(
        host,
        "kept",
        "readlink /proc/self/ns/net; ls /sys/class/net",
        |spec| {
            with_ids(spec);
            let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a list");
            namespaces.retain(|namespace| namespace["type"] != "network");
        },
    );
    give_rootfs(host, &bundle);
    let own = host.sh("readlink /proc/self/ns/net; ls /sys/class/net");
    assert_eq!(printed(host, &bundle), own);
}

/// As the files of podman, which are in a directory for root alone.
fn a_user_namespace_has_what_its_root_does_not_reach(host: &Host) {
    host.sh(
        "mkdir -m 700 closed; mkdir closed/dir; mount -t tmpfs -o mode=755 dir closed/dir
        mount --make-shared closed/dir; mkdir closed/dir/below; echo there >closed/dir/file",
    );
    let script = "cat /there/file; touch /there/mine 2>/dev/null || echo kept; mount -t tmpfs inside /there/below; \
                  grep -c ' /there' /proc/mounts";
    let said = |name: &str, user: &dyn Fn(&mut Value)| {
        let bundle = bundle(host, name, script, |spec| {
            user(spec);
            let source = host.dir().join("closed/dir");
            let bind =
                json!({"destination": "/there", "source": source, "options": ["rbind", "ro"]});
            spec["mounts"].as_array_mut().expect("a list").push(bind);
            let admin = json!(["CAP_SYS_ADMIN"]);
            spec["process"]["capabilities"] =
                json!({"bounding": admin, "permitted": admin, "effective": admin});
        });
        give_rootfs(host, &bundle);
        printed(host, &bundle)
    };
    assert_eq!(said("own", &with_ids), "there\nkept\n2\n");
    let pid = other(host, with_ids);
    let path = format!("/proc/{pid}/ns/user");
    let joined = |spec: &mut Value| add(spec, json!({"type": "user", "path": path}));
    assert_eq!(said("joined", &joined), "there\nkept\n2\n");
    host.tincan(["delete", "--force", "other"]).ok();
    // What was mounted inside has gone with it, and never was here.
    assert_eq!(host.sh("grep -c /closed/dir /proc/mounts"), "1\n");
    host.sh("umount closed/dir; rm -r closed");
}

fn a_user_namespace_has_limits_over_its_makers(host: &Host) {
    let bundle = bundle(host, "limits", "ulimit -Hn; sleep 1000", |spec| {
        with_ids(spec);
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 3000}]);
    });
    give_rootfs(host, &bundle);
    let tincan = Host::TINCAN;
    host.sh(&format!(
        "ulimit -n 2000; {tincan} run --detach --bundle {bundle} c1 </dev/null >log 2>&1"
    ));
    host.wait_until("it has looked", || host.sh("cat log") == "3000\n");
    let exec = format!("ulimit -n 2000; {tincan} exec c1 sh -c 'ulimit -Hn'");
    assert_eq!(host.sh(&exec), "3000\n");
    host.tincan(["delete", "--force", "c1"]).ok();
}

/// A container that stays, made with these changes, and its first process.
fn other(host: &Host, change: impl FnOnce(&mut Value)) -> String {
    let bundle = bundle(host, "other", "sleep 1000", change);
    give_rootfs(host, &bundle);
    host.sh(&format!(
        "{} run --detach --bundle {bundle} other </dev/null >/dev/null 2>&1",
        Host::TINCAN
    ));
    let state: Value = serde_json::from_str(&host.tincan(["state", "other"]).ok()).expect("JSON");
    state["pid"].to_string()
}

fn every_kind_is_joined_by_path(host: &Host) {
    let pid = other(host, |spec| {
        add(spec, json!({"type": "time"}));
        add(spec, json!({"type": "cgroup"}));
        spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
        spec["hostname"] = json!("others");
    });
    for (kind, file) in [
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
        ("cgroup", "cgroup"),
        ("time", "time"),
    ] {
        let path = format!("/proc/{pid}/ns/{file}");
        let bundle = bundle(
            host,
            kind,
            &format!("readlink /proc/self/ns/{file}"),
            |spec| {
                add(spec, json!({"type": kind, "path": path}));
                if kind == "uts" {
                    spec.as_object_mut().expect("an object").remove("hostname");
                }
            },
        );
        assert_eq!(
            printed(host, &bundle),
            host.sh(&format!("readlink {path}")),
            "{kind}"
        );
    }
    // What is joined is seen: the other's processes, its name, its clock.
    let all = bundle(
        host,
        "all",
        "hostname; cat /proc/1/comm; cut -d. -f1 /proc/uptime",
        |spec| {
            for (kind, file) in [("uts", "uts"), ("pid", "pid"), ("time", "time")] {
                add(
                    spec,
                    json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}),
                );
            }
            spec.as_object_mut().expect("an object").remove("hostname");
        },
    );
    let said = printed(host, &all);
    let (rest, uptime) = said.trim_end().rsplit_once('\n').expect("lines");
    assert_eq!(rest, "others\nsleep");
    assert!(
        uptime.parse::<u64>().expect("seconds") > 1_000_000,
        "{uptime}"
    );
    host.tincan(["delete", "--force", "other"]).ok();
}

fn a_user_namespace_is_joined_by_path(host: &Host) {
    let pid = other(host, with_ids);
    let script = "readlink /proc/self/ns/user; id -u; stat -c %u /; echo x >/dev/null";
    let bundle = bundle(host, "joined", script, |spec| {
        add(
            spec,
            json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}),
        );
    });
    give_rootfs(host, &bundle);
    let theirs = host.sh(&format!("readlink /proc/{pid}/ns/user"));
    assert_eq!(printed(host, &bundle), format!("{theirs}0\n0\n"));
    host.tincan(["delete", "--force", "other"]).ok();
}

fn a_mount_namespace_is_joined_as_it_is(host: &Host) {
    let pid = other(host, |_| ());
    let join = |spec: &mut Value| {
        for (kind, file) in [("mount", "mnt"), ("pid", "pid")] {
            add(
                spec,
                json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}),
            );
        }
        spec["root"] = json!({"path": "/"});
        spec["mounts"] = json!([]);
        for property in ["maskedPaths", "readonlyPaths"] {
            spec["linux"][property] = json!([]);
        }
    };
    let look = "readlink /proc/self/ns/mnt; wc -l </proc/self/mountinfo; pwd";
    let before = host.tincan(["exec", "other", "sh", "-c", look]).ok();
    let joins = bundle(host, "joins", look, join);
    assert_eq!(printed(host, &joins), before);
    let after = host.tincan(["exec", "other", "sh", "-c", look]).ok();
    assert_eq!(after, before);
    // What would be seen by the other container is refused.
    for (property, value) in [
        ("/root/readonly", json!(true)),
        ("/mounts", json!([{"destination": "/tmp", "type": "tmpfs"}])),
        ("/linux/maskedPaths", json!(["/proc/keys"])),
    ] {
        let name = property.trim_start_matches('/').replace('/', ".");
        let bundle = bundle(host, &name, look, |spec| {
            join(spec);
            let (parent, key) = property.rsplit_once('/').expect("a pointer");
            spec.pointer_mut(parent).expect("is there")[key] = value;
        });
        let said = host.tincan(["run", "--bundle", &bundle, "c1"]).fails(125);
        assert!(said.contains(&format!("config.json: {name}: ")), "{said}");
    }
    host.tincan(["delete", "--force", "other"]).ok();
}

/// What a container does with a root that is in no mount namespace, and what that shows.
const APART: &str = "readlink /proc/self/ns/mnt; cat /mark; pwd; ls /proc/self >/dev/null && echo proc; \
    touch /late/x 2>/dev/null || echo late; wc -c </masked/file; touch /kept/x 2>/dev/null || echo kept; \
    stat -c %t:%T /dev/null; ls /root/bin/busybox 2>/dev/null || echo inside";
const APART_SHOWS: &str = "here\n/tmp\nproc\nlate\n0\nkept\n1:3\ninside\n";

/// Its bundle, with this as its mount namespace.
fn apart(host: &Host, script: &str, mount: Option<Value>) -> String {
    let bundle = bundle(host, "apart", script, |spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.retain(|namespace| namespace["type"] != "mount");
        namespaces.extend(mount);
        spec["process"]["cwd"] = json!("/tmp");
        spec["root"]["readonly"] = json!(false);
        let late = json!({"destination": "/late", "type": "tmpfs", "options": ["ro"]});
        spec["mounts"].as_array_mut().expect("a list").push(late);
        spec["linux"]["maskedPaths"] = json!(["/masked/file"]);
        spec["linux"]["readonlyPaths"] = json!(["/kept"]);
    });
    host.sh(&format!(
        "cd {bundle}/rootfs; mkdir masked kept; echo secret >masked/file; echo here >mark"
    ));
    bundle
}

fn without_a_mount_namespace_the_mounts_are_the_containers_alone(host: &Host) {
    let ours = host.sh("readlink /proc/self/ns/mnt");
    let mounts = "cut -d' ' -f5- /proc/self/mountinfo";
    let before = host.sh(mounts);
    let script = format!("{{ {APART}; }} >/said; sleep 1000");
    let bundle = apart(host, &script, None);
    host.sh(&format!(
        "{} run --detach --bundle {bundle} c1 </dev/null >/dev/null 2>&1",
        Host::TINCAN
    ));
    let said = || host.sh(&format!("cat {bundle}/rootfs/said 2>/dev/null || true"));
    host.wait_until("it has looked", || said().ends_with("inside\n"));
    assert_eq!(said(), format!("{ours}{APART_SHOWS}"));
    // Nobody else sees any of it.
    assert_eq!(host.sh(mounts), before);
    assert_eq!(
        host.sh(&format!(
            "ls {bundle}/rootfs/proc {bundle}/rootfs/late | wc -w"
        )),
        "2\n"
    );
    // Who is executed there is in the same root.
    let said = host.tincan(["exec", "c1", "sh", "-c", APART]).ok();
    assert_eq!(said, format!("{ours}{APART_SHOWS}"));
    host.tincan(["delete", "--force", "c1"]).ok();
    host.sh(&format!("rm -r {bundle}"));
}

fn in_a_mount_namespace_that_is_joined_the_mounts_are_the_containers_alone(host: &Host) {
    let mut other = host
        .command("unshare", ["--mount", "sleep", "1000"])
        .spawn();
    let pid = other.id();
    let own = host.sh("readlink /proc/self/ns/mnt");
    let theirs = || host.sh(&format!("readlink /proc/{pid}/ns/mnt"));
    host.wait_until("the other is elsewhere", || theirs() != own);
    let mounts = || host.sh(&format!("cut -d' ' -f5- /proc/{pid}/mountinfo"));
    let before = mounts();
    let join = json!({"type": "mount", "path": format!("/proc/{pid}/ns/mnt")});
    let bundle = apart(host, APART, Some(join));
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).ok();
    assert_eq!(said, format!("{}{APART_SHOWS}", theirs()));
    assert_eq!(mounts(), before);
    other.kill().expect("it runs");
    other.wait().expect("a child of ours");
}

fn clocks_are_offset(host: &Host) {
    let bundle = bundle(
        host,
        "clocks",
        "cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets",
        |spec| {
            add(spec, json!({"type": "time"}));
            spec["linux"]["timeOffsets"] = json!({
                "boottime": {"secs": 2_000_000}, "monotonic": {"secs": 3_000_000, "nanosecs": 500},
            });
        },
    );
    let said = printed(host, &bundle);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].parse::<u64>().expect("seconds") >= 2_000_000,
        "{said}"
    );
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(words(lines[1]), ["monotonic", "3000000", "500"]);
    assert_eq!(words(lines[2]), ["boottime", "2000000", "0"]);
}

fn a_new_namespace_is_another_than_the_hosts(host: &Host) {
    let look = "for n in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$n; done";
    let bundle = bundle(host, "new", look, |spec| {
        with_ids(spec);
        for kind in ["cgroup", "time"] {
            add(spec, json!({"type": kind}));
        }
    });
    give_rootfs(host, &bundle);
    let theirs = printed(host, &bundle);
    let ours = host.sh(look);
    assert_eq!(theirs.lines().count(), 8);
    for (theirs, ours) in theirs.lines().zip(ours.lines()) {
        assert_ne!(theirs, ours);
    }
}

/// The bundle with its namespace of this type behind a path.
fn joining(
    host: &Host,
    name: &str,
    [kind, path]: [&str; 2],
    change: impl FnOnce(&mut Value),
) -> String {
    bundle(host, name, "true", |spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.retain(|it| it["type"] != kind);
        namespaces.push(json!({"type": kind, "path": path}));
        if kind == "uts" {
            spec.as_object_mut().expect("an object").remove("hostname");
        }
        change(spec);
    })
}

fn a_sysctl_of_the_hosts_own_namespace_is_refused_by_any_path(host: &Host) {
    host.sh("ln -s /proc/self/ns/net own");
    let linked = host.dir().join("own").display().to_string();
    for (kind, path, key) in [
        ("network", linked.as_str(), "net.ipv4.ip_forward"),
        ("ipc", "/proc/self/ns/ipc", "kernel.msgmax"),
        ("uts", "/proc/self/ns/uts", "kernel.domainname"),
    ] {
        let changing = format!("{kind}-changing");
        let bundle = joining(host, &changing, [kind, path], |spec| {
            spec["linux"]["sysctl"] = json!({key: "1"});
        });
        let said = host.tincan(["run", "--bundle", &bundle, "c1"]).fails(125);
        let wanted = format!(
            "tincan: config.json: linux.sysctl: `{key}` is of the {kind} namespace, which the container shares\n"
        );
        assert_eq!(said, wanted);
        // To be in it is no harm.
        let bundle = joining(host, kind, [kind, path], |_| ());
        assert_eq!(printed(host, &bundle), "");
    }
}

fn a_namespace_that_cannot_be_joined_is_named(host: &Host) {
    for (name, kind, path, why) in [
        ("a", "pid", "/proc/self/ns/net", "Invalid argument"),
        ("b", "user", "/proc/self/ns/net", "Invalid argument"),
        ("c", "pid", "/nope", "No such file or directory"),
        ("d", "ipc", "/proc/self/ns/net", "Invalid argument"),
    ] {
        let bundle = joining(host, name, [kind, path], |_| ());
        let said = host.tincan(["run", "--bundle", &bundle, "c1"]).fails(125);
        let wanted = format!("tincan: c1: join the {kind} namespace {path}: {why}\n");
        assert_eq!(said, wanted);
    }
}
