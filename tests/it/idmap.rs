//! Mounts whose ids are mapped.

use std::path::Path;

use serde_json::{Value, json};

use super::host::{Case, Host, tests};

pub fn tests() -> Vec<Case> {
    tests![
        files_are_shown_with_other_ids needs [Root, TmpfsIds],
        files_of_the_hosts_are_those_of_the_containers_own_ids needs [Root, TmpfsIds],
        what_is_mounted_below_is_mapped_on_request needs [Root, TmpfsIds],
        what_is_mounted_in_it_is_not_the_hosts needs [Root, TmpfsIds],
        what_cannot_be_mapped_is_told needs [Root],
    ]
}

/// A tmpfs on the host with files of two owners, and another below it.
struct Volume<'h>(&'h Host);

impl<'h> Volume<'h> {
    fn new(host: &'h Host) -> Self {
        host.sh("mkdir volume; mount -t tmpfs volume volume; mkdir volume/below; mount -t tmpfs below volume/below
            cd volume; echo a >root; echo b >user; echo c >below/root; chown 1000:1001 user; chmod 777 . below");
        Volume(host)
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        self.0
            .sh("umount volume/below; umount volume; rmdir volume");
    }
}

fn bundle(
    host: &Host,
    name: &str,
    script: &str,
    options: &[&str],
    change: impl FnOnce(&mut Value),
) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["process"]["args"] = json!(["sh", "-c", script]);
        let source = host.dir().join("volume");
        let bind = json!({"destination": "/volume", "source": source, "options": options});
        spec["mounts"].as_array_mut().expect("a list").push(bind);
        change(spec);
    });
    bundle.display().to_string()
}

fn maps(uid: u32, gid: u32) -> (Value, Value) {
    let map = |first| json!([{"containerID": 0, "hostID": first, "size": 65536}]);
    (map(uid), map(gid))
}

/// The mount of the volume, the bundle's last.
fn own_mount(spec: &mut Value) -> &mut Value {
    let mounts = spec["mounts"].as_array_mut().expect("a list");
    mounts.last_mut().expect("ours")
}

/// Gives it maps of its own.
fn of_mount(spec: &mut Value) {
    let mount = own_mount(spec);
    (mount["uidMappings"], mount["gidMappings"]) = maps(100_000, 200_000);
}

const LOOK: &str = "cd /volume; stat -c '%n %u %g' root user below/root";

fn files_are_shown_with_other_ids(host: &Host) {
    let _volume = Volume::new(host);
    for (name, options) in [("idmap", &["bind", "idmap"][..]), ("without", &["bind"])] {
        let script = "cd /volume; stat -c '%n %u %g' root user; echo x >mine; stat -c '%n %u %g' mine; rm mine; echo x >kept";
        let bundle = bundle(host, name, script, options, |spec| {
            of_mount(spec);
            spec["process"]["user"] = json!({"uid": 100_007, "gid": 200_008});
        });
        let said = host.tincan(["run", "-b", &bundle, "c1"]).ok();
        assert_eq!(
            said,
            "root 100000 200000\nuser 101000 201001\nmine 100007 200008\n"
        );
        // On the file system they are what they were.
        let kept = host.sh("cd volume; stat -c '%u %g' root user kept; rm kept");
        assert_eq!(kept, "0 0\n1000 1001\n7 8\n");
    }
    // Who has no id there owns nothing there.
    let bundle = bundle(
        host,
        "nobody",
        "echo x >/volume/mine",
        &["bind", "idmap"],
        of_mount,
    );
    let said = host.tincan(["run", "-b", &bundle, "c1"]).any_stderr();
    said.assert().failure();
    assert!(!Path::new(&host.dir().join("volume/mine")).exists());
}

fn files_of_the_hosts_are_those_of_the_containers_own_ids(host: &Host) {
    let _volume = Volume::new(host);
    let own_ids = |spec: &mut Value| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.push(json!({"type": "user"}));
        (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = maps(300_000, 400_000);
    };
    let script = "cd /volume; stat -c '%n %u %g' root user; echo x >mine; stat -c '%n %u %g' mine";
    let said = |name: &str, options: &[&str]| {
        let bundle = bundle(host, name, script, options, own_ids);
        host.sh(&format!("chown -R 300000:400000 {bundle}/rootfs"));
        host.tincan(["run", "-b", &bundle, "c1"]).ok()
    };
    assert_eq!(
        said("mapped", &["bind", "idmap"]),
        "root 0 0\nuser 1000 1001\nmine 0 0\n"
    );
    assert_eq!(
        host.sh("stat -c '%u %g' volume/mine; rm volume/mine"),
        "0 0\n"
    );
    // As it is without: the files are nobody's that the container has.
    assert_eq!(
        said("plain", &["rbind"]),
        "root 65534 65534\nuser 65534 65534\nmine 0 0\n"
    );
    assert_eq!(
        host.sh("stat -c '%u %g' volume/mine; rm volume/mine"),
        "300000 400000\n"
    );
}

fn what_is_mounted_below_is_mapped_on_request(host: &Host) {
    let _volume = Volume::new(host);
    for (name, options, below) in [
        ("all", &["rbind", "ridmap"][..], "100000 200000"),
        ("one", &["rbind", "idmap"], "0 0"),
    ] {
        let bundle = bundle(host, name, LOOK, options, of_mount);
        let said = host.tincan(["run", "-b", &bundle, "c1"]).ok();
        assert_eq!(
            said,
            format!("root 100000 200000\nuser 101000 201001\nbelow/root {below}\n")
        );
    }
}

fn what_is_mounted_in_it_is_not_the_hosts(host: &Host) {
    let _volume = Volume::new(host);
    host.sh("mount --make-rshared volume");
    let script = "mount -t tmpfs inside /volume/below && grep -c ' /volume/below ' /proc/mounts";
    let bundle = bundle(host, "b", script, &["rbind", "idmap"], |spec| {
        of_mount(spec);
        spec["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"]});
    });
    let run = format!(
        "{} run -b {bundle} c1; grep -c /volume/below /proc/mounts",
        Host::TINCAN
    );
    assert_eq!(host.sh(&run), "2\n1\n");
}

fn what_cannot_be_mapped_is_told(host: &Host) {
    host.sh("mkdir volume");
    let refused = |name: &str, options: &[&str], change: &dyn Fn(&mut Value)| {
        let bundle = bundle(host, name, LOOK, options, change);
        host.tincan(["run", "-b", &bundle, "c1"]).fails(125)
    };
    let said = refused("none", &["bind", "idmap"], &|_| ());
    assert!(
        said.contains("has no uidMappings and gidMappings"),
        "{said}"
    );
    let said = refused("half", &["bind"], &|spec| {
        of_mount(spec);
        let mount = own_mount(spec);
        mount
            .as_object_mut()
            .expect("a mount")
            .remove("gidMappings");
    });
    assert!(said.contains("which go together"), "{said}");
    let said = refused("tmpfs", &[], &|spec| {
        of_mount(spec);
        let mount = own_mount(spec);
        mount["type"] = json!("tmpfs");
    });
    assert!(
        said.contains("maps ids, which only a bind can have"),
        "{said}"
    );
    // Of a procfs the kernel maps none.
    let said = refused("proc", &["bind", "idmap"], &|spec| {
        of_mount(spec);
        let mount = own_mount(spec);
        mount["source"] = json!("/proc/sys");
    });
    let wanted = "tincan: c1: bind /proc/sys with mapped ids on /volume: Invalid argument";
    assert!(said.starts_with(wanted), "{said}");
}
