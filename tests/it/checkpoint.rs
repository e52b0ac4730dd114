//! `tincan checkpoint` and `tincan restore`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::annotations::quietly;
use super::host::{Case, Host, tests};
use super::network::{create, remove, stay};
use super::oci::status;
use super::terminal::terminal_of;

pub fn tests() -> Vec<Case> {
    tests![
        a_container_goes_on_where_it_was needs [Root, Criu],
        a_copy_is_kept_of_one_that_goes_on needs [Root, Criu],
        what_was_in_memory_comes_first needs [Root, Criu],
        links_come_back_with_their_addresses needs [Root, Criu, Nftables],
        a_connection_goes_on needs [Root, Criu, Nftables],
        binds_show_what_is_there_then needs [Root, Criu],
        pipes_are_those_of_the_caller needs [Root, Criu],
        a_terminal_is_sent_again needs [Root, Criu],
        a_restore_that_fails_leaves_nothing needs [Root, Criu],
        a_paused_container_is_kept needs [Root, Criu],
        the_cgroup_namespace_is_the_containers needs [Root, Criu, CgroupV2],
        what_cannot_be_kept_is_told needs [Root, Criu],
        without_criu_that_is_told needs [Root],
        what_is_not_done_is_told needs [Root],
    ]
}

/// Counts in a file that is in memory.
const COUNT: &str =
    "n=0; while :; do n=$((n+1)); echo $n >/tmp/next; mv /tmp/next /tmp/count; sleep 0.1; done";

/// A bundle with a directory in memory.
fn bundle(host: &Host, name: &str, script: &str, change: impl FnOnce(&mut Value)) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["process"]["args"] = json!(["sh", "-c", script]);
        let memory = json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"});
        spec["mounts"].as_array_mut().expect("a list").push(memory);
        change(spec);
    });
    bundle.display().to_string()
}

fn count(host: &Host, name: &str) -> u32 {
    let said = host.tincan(["exec", name, "cat", "/tmp/count"]).ok();
    said.trim().parse().expect("a number")
}

/// Waits until a container counts on from there.
fn counts_on(host: &Host, name: &str, from: u32) {
    host.wait_until("it counts on", || count(host, name) > from);
}

/// Starts a container that counts, and waits until it does.
fn start(host: &Host, bundle: &str, name: &str) {
    quietly(host, &["run", "--detach", "--bundle", bundle, name]);
    host.wait_until("it counts", || {
        let look = ["exec", name, "test", "-e", "/tmp/count"];
        host.tincan(look).assert().get_output().status.success()
    });
    counts_on(host, name, 3);
}

fn checkpoint(host: &Host, more: &[&str]) {
    let words = ["checkpoint", "--image-path", "images"];
    host.tincan(words.iter().chain(more)).ok();
}

fn restore(host: &Host, bundle: &str, more: &[&str]) {
    let words = [
        "restore",
        "--detach",
        "--image-path",
        "images",
        "--bundle",
        bundle,
    ];
    quietly(host, &[&words[..], more].concat());
}

fn end(host: &Host, name: &str) {
    host.tincan(["delete", "--force", name]).ok();
}

fn a_container_goes_on_where_it_was(host: &Host) {
    let bundle = bundle(host, "b", COUNT, |_| ());
    start(host, &bundle, "c1");
    let before = count(host, "c1");
    checkpoint(host, &["c1"]);
    // As with runc and crun.
    let said = host.tincan(["state", "c1"]).fails(125);
    assert!(said.contains("container c1 does not exist"), "{said}");
    host.wait_until("nothing is left of it", || host.differences().is_empty());
    // Whoever restores it may call it otherwise.
    for name in ["c1", "c2"] {
        restore(host, &bundle, &["--pid-file", "pid", name]);
        assert_eq!(status(host, name), "running");
        let pid = fs::read_to_string(host.dir().join("pid")).expect("the pid file");
        assert_eq!(pid, host.pid(name).to_string());
        let after = count(host, name);
        // What it had counted to, and not from the beginning.
        assert!(after >= before, "{before} {after}");
        counts_on(host, name, after);
    }
    assert_eq!(host.tincan(["list", "-q"]).ok(), "c1\nc2\n");
    assert_eq!(host.tincan(["exec", "c1", "hostname"]).ok(), "tincan\n");
    host.tincan(["pause", "c1"]).ok();
    assert_eq!(status(host, "c1"), "paused");
    host.tincan(["resume", "c1"]).ok();
    host.tincan(["kill", "c1", "KILL"]).ok();
    host.wait_until("it has ended", || status(host, "c1") == "stopped");
    host.tincan(["delete", "c1"]).ok();
    // What was restored is kept again, as it is now.
    let now = count(host, "c2");
    checkpoint(host, &["c2"]);
    restore(host, &bundle, &["c2"]);
    assert!(count(host, "c2") >= now);
    end(host, "c2");
}

fn a_copy_is_kept_of_one_that_goes_on(host: &Host) {
    let bundle = bundle(host, "b", COUNT, |_| ());
    start(host, &bundle, "c1");
    let pid = host.pid("c1");
    // As podman does.
    checkpoint(host, &["--leave-running", "--leave-running", "c1"]);
    let kept = count(host, "c1");
    counts_on(host, "c1", kept + 3);
    assert_eq!(host.pid("c1"), pid);
    end(host, "c1");
    restore(host, &bundle, &["c1"]);
    counts_on(host, "c1", 3);
    end(host, "c1");
}

fn what_was_in_memory_comes_first(host: &Host) {
    let bundle = bundle(host, "b", COUNT, |_| ());
    start(host, &bundle, "c1");
    let first = ["checkpoint", "--pre-dump", "--image-path", "first", "c1"];
    host.tincan(first).ok();
    let kept = count(host, "c1");
    counts_on(host, "c1", kept);
    checkpoint(host, &["--parent-path", "../first", "c1"]);
    restore(host, &bundle, &["c1"]);
    assert!(count(host, "c1") >= kept);
    end(host, "c1");
    start(host, &bundle, "c2");
    for (parent, why) in [
        ("../none", "there is no such directory"),
        ("/first", "is not relative"),
    ] {
        let words = ["checkpoint", "--parent-path", parent, "c2"];
        let said = host.tincan(words).fails(125);
        assert!(said.contains(why), "{said}");
    }
    end(host, "c2");
}

/// The link-layer address and the addresses of a container's interface, but for those that come by themselves.
fn looks(host: &Host, name: &str, interface: &str) -> String {
    let said = host
        .tincan(["exec", name, "ip", "addr", "show", interface])
        .ok();
    let kept = said
        .lines()
        .filter(|line| line.contains("link/ether") || line.contains("scope global"));
    kept.map(|line| line.trim().to_owned() + "\n").collect()
}

fn links_come_back_with_their_addresses(host: &Host) {
    create(host, &["lan0", "--subnet", "10.9.0.0/24"]);
    let bundle = bundle(host, "b", COUNT, |spec| {
        spec["annotations"] = json!({
            "io.tincan.net.0": "lan0",
            "io.tincan.net.1": "172.16.0.1/16",
            "io.tincan.publish": "8080:80",
        });
    });
    // An address that the network would not give it again.
    stay(host, "other", "lan0");
    quietly(
        host,
        &[
            "run",
            "--detach",
            "--bundle",
            &bundle,
            "--net",
            "10.7.0.1/24,gw=10.7.0.2,mtu=1400",
            "c1",
        ],
    );
    end(host, "other");
    let interfaces = ["eth0", "eth1", "eth2"];
    let seen = |name: &str| -> Vec<String> { interfaces.map(|it| looks(host, name, it)).into() };
    let routes = |name: &str| host.tincan(["exec", name, "ip", "route"]).ok();
    let (links, ways) = (seen("c1"), routes("c1"));
    assert!(links[0].contains("10.9.0.3/24"), "{links:?}");
    assert!(ways.contains("default via 10.7.0.2 dev eth2"), "{ways}");
    checkpoint(host, &["c1"]);
    host.wait_until("its links are gone", || {
        !host.sh("ip -br link").contains("veth")
    });
    restore(host, &bundle, &["c1"]);
    assert_eq!(seen("c1"), links);
    assert_eq!(routes("c1"), ways);
    let mtu = host
        .tincan(["exec", "c1", "cat", "/sys/class/net/eth2/mtu"])
        .ok();
    assert_eq!(mtu, "1400\n");
    for address in ["172.16.0.1", "10.7.0.1"] {
        host.command("ping", ["-c1", "-W5", address]).ok();
    }
    let rootfs = host.busybox_rootfs().display().to_string();
    let ping = [
        "run", "--rootfs", &rootfs, "--net", "lan0", "--", "ping", "-c1", "10.9.0.3",
    ];
    host.tincan(ping).ok();
    let list = host.tincan(["network", "inspect", "lan0"]).ok();
    assert!(list.contains("8080"), "{list}");
    end(host, "c1");
    // Somebody has its address now.
    let taken = [
        "run",
        "-d",
        "--name",
        "other",
        "--net",
        "lan0,10.9.0.3",
        "--",
        "sleep",
        "1000",
    ];
    host.tincan(taken).ok();
    let words = [
        "restore",
        "--image-path",
        "images",
        "--bundle",
        &bundle,
        "c1",
    ];
    let said = host.tincan(words).fails(125);
    let wanted = "tincan: address 10.9.0.3 of network lan0 is leased to container other\n";
    assert_eq!(said, wanted);
    end(host, "other");
    remove(host, "lan0");
}

fn a_connection_goes_on(host: &Host) {
    create(host, &["lan0", "--subnet", "10.9.0.0/24"]);
    let bundle = bundle(host, "b", "exec nc -l -p 5000 -e cat", |spec| {
        spec["annotations"] = json!({"io.tincan.net.0": "lan0"});
    });
    quietly(host, &["run", "--detach", "--bundle", &bundle, "c1"]);
    let mut connection = None;
    host.wait_until("it listens", || {
        connection = TcpStream::connect("10.9.0.2:5000").ok();
        connection.is_some()
    });
    let mut connection = connection.expect("just connected");
    let patience = Duration::from_secs(30);
    let timed = connection.set_read_timeout(Some(patience));
    timed.expect("a socket takes a time");
    let mut echoes = |word: &[u8; 4]| {
        connection.write_all(word).expect("it is open");
        let mut heard = [0; 4];
        connection.read_exact(&mut heard).expect("it is open");
        assert_eq!(heard, *word);
    };
    echoes(b"tin\n");
    let said = host
        .tincan(["checkpoint", "--image-path", "images", "c1"])
        .fails(125);
    assert!(
        said.starts_with("tincan: c1: criu dump: ") && said.contains("--tcp-established"),
        "{said}"
    );
    echoes(b"can\n");
    checkpoint(host, &["--tcp-established", "--leave-running", "c1"]);
    echoes(b"one\n");
    checkpoint(host, &["--tcp-established", "c1"]);
    restore(host, &bundle, &["--tcp-established", "c1"]);
    echoes(b"two\n");
    // What is closed by one side alone keeps a namespace for a while.
    drop(connection);
    host.wait_until("it has ended", || status(host, "c1") == "stopped");
    end(host, "c1");
    remove(host, "lan0");
}

fn binds_show_what_is_there_then(host: &Host) {
    host.sh("mkdir data; echo one >data/file; mkdir data/below; mount -t tmpfs none data/below; echo one >data/below/file; echo one >lone; ln -s lone link");
    let at = |name: &str| host.dir().join(name);
    let bundle = bundle(host, "b", COUNT, |spec| {
        let mounts = spec["mounts"].as_array_mut().expect("a list");
        mounts.push(
            json!({"destination": "/data", "source": at("data"), "options": ["rbind", "ro"]}),
        );
        mounts
            .push(json!({"destination": "/link/lone", "source": at("link"), "options": ["bind"]}));
    });
    host.sh(&format!(
        "mkdir {bundle}/rootfs/real; ln -s real {bundle}/rootfs/link"
    ));
    start(host, &bundle, "c1");
    let files = [
        "exec",
        "c1",
        "cat",
        "/data/file",
        "/data/below/file",
        "/real/lone",
    ];
    assert_eq!(host.tincan(files).ok(), "one\none\none\n");
    checkpoint(host, &["c1"]);
    host.sh("echo two >data/file; echo three >data/below/file; echo four >lone");
    // As in a root that was made anew.
    host.sh(&format!(
        "cd {bundle}/rootfs; rmdir data; rm real/lone; rmdir sys proc"
    ));
    restore(host, &bundle, &["c1"]);
    assert_eq!(host.tincan(files).ok(), "two\nthree\nfour\n");
    let said = host.tincan(["exec", "c1", "touch", "/data/new"]).fails(1);
    assert!(said.contains("Read-only file system"), "{said}");
    host.sh("echo five >lone");
    assert_eq!(host.tincan(files).ok(), "two\nthree\nfive\n");
    end(host, "c1");
    // The same bind from elsewhere, as of who makes a bundle anew.
    host.sh(&format!("mkdir other; echo six >other/file; mkdir other/below; echo seven >other/below/file; sed -i s,{0}/data,{0}/other, {bundle}/config.json", host.dir().display()));
    restore(host, &bundle, &["c1"]);
    assert_eq!(host.tincan(files).ok(), "six\nseven\nfive\n");
    end(host, "c1");
    host.sh(&format!(
        "sed -i s,/link/lone,/link/other, {bundle}/config.json; umount data/below"
    ));
    let words = [
        "restore",
        "--image-path",
        "images",
        "--bundle",
        &bundle,
        "c1",
    ];
    let said = host.tincan(words).fails(125);
    let wanted =
        "tincan: config.json: mounts: has no bind on /link/lone, which the checkpoint has\n";
    assert_eq!(said, wanted);
}

fn pipes_are_those_of_the_caller(host: &Host) {
    let script = "n=0; while read line; do n=$((n+1)); echo $n $line; done";
    let bundle = bundle(host, "b", script, |_| ());
    let speaks = |words: &[&str], word: &str, wanted: &str| {
        let mut tincan = host.tincan(words).spawn();
        let mut to = tincan.stdin.take().expect("a pipe");
        let mut from = BufReader::new(tincan.stdout.take().expect("a pipe"));
        assert!(tincan.wait().expect("a child").success(), "{words:?}");
        writeln!(to, "{word}").expect("the container reads");
        let mut line = String::new();
        let read = from.read_line(&mut line);
        assert!(read.is_ok() && line == wanted, "{words:?}: {line}");
        (to, from)
    };
    let first = speaks(
        &["run", "--detach", "--bundle", &bundle, "c1"],
        "tin",
        "1 tin\n",
    );
    checkpoint(host, &["c1"]);
    drop(first);
    let words = ["restore", "--image-path", "images", "--bundle", &bundle];
    let again = [&words[..], &["--detach", "c1"]].concat();
    let _second = speaks(&again, "can", "2 can\n");
    end(host, "c1");
}

fn a_terminal_is_sent_again(host: &Host) {
    let script = "stty -echo; while read line; do n=$((n+1)); echo $n $line; done";
    let with_terminal = |spec: &mut Value| spec["process"]["terminal"] = json!(true);
    let bundle = bundle(host, "b", script, with_terminal);
    let run = format!("run --detach --bundle {bundle} c1");
    let (_, mut screen) = terminal_of(host, &run);
    screen.types("tin\n");
    screen.shows("1 tin\n");
    checkpoint(host, &["c1"]);
    let words = [
        "restore",
        "--image-path",
        "images",
        "--bundle",
        &bundle,
        "--detach",
        "c1",
    ];
    let said = host.tincan(words).fails(125);
    assert!(said.contains("no --console-socket"), "{said}");
    let restore = format!("restore --image-path images --bundle {bundle} --detach c1");
    let (name, mut screen) = terminal_of(host, &restore);
    assert_eq!(name, "/dev/ptmx");
    screen.types("can\n");
    screen.shows("2 can\n");
    assert_eq!(status(host, "c1"), "running");
    end(host, "c1");
}

fn a_restore_that_fails_leaves_nothing(host: &Host) {
    create(host, &["lan0", "--subnet", "10.9.0.0/24"]);
    let bundle = bundle(host, "b", COUNT, |spec| {
        spec["annotations"] = json!({"io.tincan.net.0": "lan0"});
    });
    let before = host.differences();
    start(host, &bundle, "c1");
    checkpoint(host, &["c1"]);
    host.sh("echo nothing >images/core-1.img");
    let words = [
        "restore",
        "--image-path",
        "images",
        "--work-path",
        "work",
        "--bundle",
        &bundle,
        "c1",
    ];
    let said = host.tincan(words).fails(125);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with("tincan: c1: criu restore: Error ("),
        "{said}"
    );
    let log = host.dir().join("work/restore.log");
    let hint = format!("hint: {} has all that CRIU says", log.display());
    assert_eq!(lines[1..], [hint], "{said}");
    assert!(Path::new(&log).exists());
    host.wait_until("nothing is left", || host.differences() == before);
    let said = host
        .tincan(["restore", "--image-path", "none", "--bundle", &bundle, "c1"])
        .fails(125);
    assert!(
        said.contains("none/tincan.json: No such file or directory"),
        "{said}"
    );
    remove(host, "lan0");
}

fn a_paused_container_is_kept(host: &Host) {
    let bundle = bundle(host, "b", COUNT, |_| ());
    start(host, &bundle, "c1");
    host.tincan(["pause", "c1"]).ok();
    // containerd has it paused meanwhile.
    checkpoint(host, &["--leave-running", "c1"]);
    assert_eq!(status(host, "c1"), "paused");
    host.tincan(["resume", "c1"]).ok();
    let kept = count(host, "c1");
    counts_on(host, "c1", kept);
    end(host, "c1");
    restore(host, &bundle, &["c1"]);
    assert_eq!(status(host, "c1"), "running");
    counts_on(host, "c1", kept);
    end(host, "c1");
}

fn the_cgroup_namespace_is_the_containers(host: &Host) {
    let bundle = bundle(host, "b", COUNT, |spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.retain(|it| it["type"] != "cgroup");
        namespaces.push(json!({"type": "cgroup"}));
        spec["linux"]["resources"] = json!({"pids": {"limit": 77}});
    });
    let look = || {
        let words = [
            "exec",
            "c1",
            "cat",
            "/proc/self/cgroup",
            "/sys/fs/cgroup/pids.max",
        ];
        host.tincan(words).ok()
    };
    let options = || host.sh("grep ' cgroup2 ' /proc/self/mountinfo | sed 's/.* - //'");
    let before = options();
    start(host, &bundle, "c1");
    assert_eq!(look(), "0::/\n77\n");
    checkpoint(host, &["c1"]);
    restore(host, &bundle, &["c1"]);
    assert_eq!(look(), "0::/\n77\n");
    assert_eq!(options(), before);
    end(host, "c1");
}

fn what_cannot_be_kept_is_told(host: &Host) {
    let refused = |name: &str, why: &str| {
        let said = host
            .tincan(["checkpoint", "--image-path", "images", name])
            .fails(125);
        assert!(said.contains(why), "{said}");
        assert!(!host.dir().join("images").exists());
    };
    refused("none", "container none does not exist");
    stay(host, "command", "none");
    refused(
        "command",
        "tincan: command: cannot checkpoint a container of `run -- COMMAND`",
    );
    end(host, "command");
    let plain = bundle(host, "plain", COUNT, |_| ());
    quietly(host, &["create", "--bundle", &plain, "created"]);
    refused(
        "created",
        "tincan: created: cannot checkpoint a container that is created",
    );
    end(host, "created");
    let with_user = |spec: &mut Value| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
    };
    let user = bundle(host, "user", "sleep 1000", with_user);
    quietly(host, &["run", "--detach", "--bundle", &user, "user"]);
    refused("user", "with a user namespace");
    end(host, "user");
}

fn without_criu_that_is_told(host: &Host) {
    let bundle = bundle(host, "b", "sleep 1000", |_| ());
    quietly(host, &["run", "--detach", "--bundle", &bundle, "c1"]);
    let hint = "\nhint: the package criu has it; `--criu PATH` says where it is\n";
    for verb in [
        &["checkpoint", "c1"][..],
        &["restore", "--bundle", &bundle, "c2"],
    ] {
        let said = host
            .tincan([&["--criu", "/none/criu"], verb].concat())
            .fails(125);
        let wanted = format!("tincan: --criu /none/criu: there is no such program{hint}");
        assert_eq!(said, wanted);
        let said = host.tincan(verb).env("PATH", "/none").fails(125);
        assert_eq!(said, format!("tincan: there is no criu in /none{hint}"));
    }
    assert!(!host.dir().join("checkpoint").exists());
    assert_eq!(status(host, "c1"), "running");
    end(host, "c1");
}

fn what_is_not_done_is_told(host: &Host) {
    for (verb, option) in [
        ("checkpoint", "--lazy-pages"),
        ("checkpoint", "--page-server=192.0.2.1:99"),
        ("checkpoint", "--status-fd=7"),
        ("checkpoint", "--empty-ns=uts"),
        ("restore", "--lazy-pages"),
    ] {
        let said = host.tincan([verb, option, "c1"]).fails(125);
        let named = option.replace("--empty-ns=", "--empty-ns ");
        let named = if option.starts_with("--empty") {
            named.as_str()
        } else {
            option.split('=').next().unwrap()
        };
        let wanted = format!("tincan: {named}: tincan does not do this\n");
        assert!(said.starts_with(&wanted), "{said}");
    }
}
