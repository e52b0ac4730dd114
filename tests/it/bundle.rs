//! What is in bundles that other runtimes take, too.

use serde_json::{Value, json};

use super::host::{Case, Host, tests};
use super::oci::{apart, status};

pub fn tests() -> Vec<Case> {
    tests![
        a_bind_leaves_out_options_of_a_file_system,
        a_bundle_without_a_process_is_created_and_not_started,
        masked_and_read_only_paths_start_at_the_root,
        capabilities_that_tincan_lacks_are_left_out needs [Root],
        what_is_created_is_deleted_when_it_is_dead_or_by_force,
    ]
}

/// A bundle with this config.json.
fn bundle(host: &Host, name: &str, change: impl FnOnce(&mut Value)) -> String {
    host.bundle(name, change).display().to_string()
}

fn a_bind_leaves_out_options_of_a_file_system(host: &Host) {
    host.sh("mkdir shown; echo there >shown/file");
    let bundle = bundle(host, "bind", |spec| {
        spec["process"]["args"] = json!([
            "sh",
            "-c",
            "cat /shown/file; grep -c ' /shown ' /proc/mounts; touch /shown/new"
        ]);
        let options = ["bind", "ro", "nosuid", "mode=700", "size=1k"];
        let bind = json!({"destination": "/shown", "source": host.dir().join("shown"), "options": options});
        spec["mounts"].as_array_mut().expect("a list").push(bind);
    });
    let run = host.tincan(["run", "--bundle", &bundle, "c1"]).assert();
    let output = run.code(1).get_output().clone();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "there\n1\n");
    let said = String::from_utf8_lossy(&output.stderr);
    for word in ["mode", "size"] {
        let warning = format!("`{word}` is left out, an option of a file system");
        assert!(said.contains(&warning), "{said}");
    }
    // The attributes of the mount are set all the same.
    assert!(said.contains("/shown/new: Read-only file system"), "{said}");
    assert!(!said.contains("nosuid"), "{said}");
    assert_eq!(host.sh("stat -c %a shown"), host.sh("stat -c %a ."));
}

fn a_bundle_without_a_process_is_created_and_not_started(host: &Host) {
    let bundle = bundle(host, "empty", |spec| {
        spec.as_object_mut().expect("an object").remove("process");
    });
    apart(host, &format!("create --bundle {bundle} c1"));
    assert_eq!(status(host, "c1"), "created");
    let said = host.tincan(["start", "c1"]).fails(125);
    assert_eq!(
        said,
        "tincan: c1: cannot start a container whose bundle has no `process`\n"
    );
    assert_eq!(status(host, "c1"), "created");
    assert_eq!(host.tincan(["exec", "c1", "hostname"]).ok(), "tincan\n");
    host.tincan(["delete", "--force", "c1"]).ok();
    let said = host.tincan(["run", "--bundle", &bundle, "c1"]).fails(125);
    assert_eq!(said, "tincan: config.json: process: is missing\n");
}

fn masked_and_read_only_paths_start_at_the_root(host: &Host) {
    let script = "wc -c </masked/file; touch /kept/new 2>/dev/null || echo kept";
    let bundle = bundle(host, "relative", |spec| {
        spec["process"]["args"] = json!(["sh", "-c", script]);
        spec["process"]["cwd"] = json!("/tmp");
        spec["root"]["readonly"] = json!(false);
        spec["linux"]["maskedPaths"] = json!(["masked/file", "none/at/all"]);
        spec["linux"]["readonlyPaths"] = json!(["kept", "none"]);
    });
    host.sh(&format!(
        "cd {bundle}/rootfs; mkdir masked kept; echo secret >masked/file"
    ));
    assert_eq!(
        host.tincan(["run", "--bundle", &bundle, "c1"]).ok(),
        "0\nkept\n"
    );
}

fn what_is_created_is_deleted_when_it_is_dead_or_by_force(host: &Host) {
    let bundle = bundle(host, "created", |_| ());
    let create = format!("create --bundle {bundle} c1");
    apart(host, &create);
    let said = host.tincan(["delete", "c1"]).fails(125);
    assert_eq!(
        said,
        "tincan: c1: cannot delete a container that is created\n"
    );
    assert_eq!(status(host, "c1"), "created");
    // At once: it may still be dying.
    let tincan = Host::TINCAN;
    host.sh(&format!("{tincan} kill c1 KILL; {tincan} delete c1"));
    apart(host, &create);
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn capabilities_that_tincan_lacks_are_left_out(host: &Host) {
    let look = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | cut -f2 | sort -u";
    let bundle = bundle(host, "rights", |spec| {
        spec["process"]["args"] = json!(["sh", "-c", look]);
        let all = json!(["CAP_CHOWN", "CAP_SYS_TIME"]);
        let sets = [
            "bounding",
            "effective",
            "permitted",
            "inheritable",
            "ambient",
        ];
        spec["process"]["capabilities"] = sets
            .map(|set| (set.to_owned(), all.clone()))
            .into_iter()
            .collect();
    });
    let lacking = |arguments: &[&str]| {
        let drop = ["--bounding-set", "-sys_time", Host::TINCAN];
        let run = host
            .command("setpriv", drop.iter().chain(arguments))
            .assert();
        let output = run.success().get_output().clone();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let chown = "0000000000000001\n".to_owned();
    let said =
        "tincan: c1: process.capabilities: CAP_SYS_TIME is left out: tincan does not have it\n";
    assert_eq!(
        lacking(&["run", "--bundle", &bundle, "c1"]),
        (chown.clone(), said.to_owned())
    );
    // Who has it gives it on, and `exec` does without it likewise.
    let both = "0000000002000001\n";
    assert_eq!(host.tincan(["run", "--bundle", &bundle, "c1"]).ok(), both);
    host.sh(&format!(
        "sed -i 's/sort -u/sort -u; sleep 1000/' {bundle}/config.json"
    ));
    apart(host, &format!("run --detach --bundle {bundle} c1"));
    let exec = ["exec", "c1", "sh", "-c", look];
    assert_eq!(host.tincan(exec).ok(), both);
    assert_eq!(lacking(&exec), (chown, said.to_owned()));
    host.tincan(["delete", "--force", "c1"]).ok();
}
