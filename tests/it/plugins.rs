//! `--cni`: containers of tincan's on networks that CNI plugins make.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::{Value, json};

use super::annotations::{self, quietly};
use super::bad_input::refused_with;
use super::host::{Case, Host, Run, tests};
use super::network::{delete, reaches, remove, stay};

pub fn tests() -> Vec<Case> {
    tests![
        a_container_is_attached_by_tincans_own_plugin needs [Root, Nftables],
        a_bundle_is_attached_beside_its_links needs [Root, Nftables],
        the_plugins_of_others_attach_a_container needs [Root, CniPlugins],
        each_plugin_is_called_in_its_turn needs [Root],
        what_cannot_be_called_is_refused needs [Root],
    ]
}

/// Makes a directory of configurations and one of plugins, with tincan as one of them and these scripts.
pub fn configure(host: &Host, lists: &[Value], scripts: &[(&str, &str)]) {
    let [conf, bin] = ["conf", "bin"].map(|name| host.dir().join(name));
    for directory in [&conf, &bin] {
        fs::create_dir_all(directory).unwrap();
    }
    for list in lists {
        let file = conf.join(format!("{}.conflist", list["name"].as_str().unwrap()));
        fs::write(file, list.to_string()).unwrap();
    }
    let _ = symlink(Host::TINCAN, bin.join("tincan"));
    for (name, script) in scripts {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// A network of tincan's own plugin.
pub fn lan0() -> Value {
    json!({"cniVersion": "1.0.0", "name": "lan0", "plugins": [{
        "type": "tincan", "subnets": ["10.9.0.0/24", "fd09::/64"],
        "capabilities": {"portMappings": true},
    }]})
}

/// tincan with those directories.
fn with_plugins(host: &Host, words: &[&str]) -> Run {
    let dir = host.dir();
    let run = host.tincan(words).env("NETCONFPATH", dir.join("conf"));
    run.env(
        "CNI_PATH",
        format!("{}:/usr/lib/cni", dir.join("bin").display()),
    )
}

fn refused(host: &Host, words: &[&str], wrong: &str) {
    let run = with_plugins(host, words);
    let said = run.fails(125);
    assert!(said.contains(wrong), "{said}");
}

fn a_container_is_attached_by_tincans_own_plugin(host: &Host) {
    configure(host, &[lan0()], &[]);
    let run = [
        "run",
        "-d",
        "--name",
        "a",
        "--cni",
        "lan0",
        "-p",
        "8080-8081:80",
        "--",
        "sleep",
        "1000",
    ];
    with_plugins(host, &run).ok();
    let said = host
        .tincan(["exec", "a", "sh", "-c", "ip -o address show eth0; ip route"])
        .ok();
    for text in ["10.9.0.2/24", "fd09::2/64", "default via 10.9.0.1"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    stay(host, "b", "lan0");
    reaches(host, "b", "10.9.0.2", true);
    reaches(host, "b", "fd09::2", true);
    let rules = || host.sh("nft list table inet tincan-lan0");
    assert!(
        rules().contains("tcp . 8080 : 10.9.0.2 . 80"),
        "{}",
        rules()
    );
    assert!(rules().contains("tcp . 8081 : fd09::2 . 81"), "{}", rules());
    let listed = host.tincan(["network", "list"]).ok();
    assert!(listed.contains("a@eth0, b"), "{listed}");
    assert_eq!(host.tincan(["gc"]).ok(), "");
    // Whose command ends by itself leaves as much as whose is ended: nothing.
    let run = [
        "run", "--cni", "lan0", "--", "ping", "-q", "-c1", "-W5", "fd09::2",
    ];
    with_plugins(host, &run).ok();
    delete(host, &["a", "b"]);
    assert!(!rules().contains("elements"), "{}", rules());
    let listed = host.tincan(["network", "inspect", "lan0"]).ok();
    assert!(listed.contains("\"containers\": []"), "{listed}");
    remove(host, "lan0");
}

fn a_bundle_is_attached_beside_its_links(host: &Host) {
    configure(host, &[lan0()], &[]);
    annotations::somebodys_namespace(host);
    let links = json!({"io.tincan.net.0": "172.16.0.1/16"});
    for (name, netns, interface) in [
        ("own", None, "eth1"),
        ("blue", Some("/run/netns/blue"), "eth2"),
    ] {
        let bundle = annotations::annotated(host, name, links.clone(), netns);
        let dir = host.dir().display();
        host.sh(&format!(
            "CNI_PATH={dir}/bin exec {} create -b {bundle} --cni lan0 --cni-conf-dir {dir}/conf c1 \
             </dev/null >/dev/null 2>&1",
            Host::TINCAN
        ));
        let said = host.tincan(["network", "list"]).ok();
        assert!(said.contains(&format!("c1@{interface}")), "{said}");
        host.tincan(["start", "c1"]).ok();
        let said = host
            .tincan(["exec", "c1", "ip", "-o", "address", "show", interface])
            .ok();
        assert!(
            said.contains("10.9.0.2/24") && said.contains("fd09::2/64"),
            "{said}"
        );
        host.tincan(["delete", "--force", "c1"]).ok();
    }
    assert_eq!(
        annotations::in_blue(host).lines().count(),
        2,
        "{}",
        annotations::in_blue(host)
    );
    annotations::remove_it(host);
    remove(host, "lan0");
}

/// Debian's: a bridge, addresses from files, and ports by iptables.
fn the_plugins_of_others_attach_a_container(host: &Host) {
    let data = host.dir().join("ipam");
    let list = json!({"cniVersion": "1.0.0", "name": "theirs", "plugins": [
        {"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": {
            "type": "host-local", "dataDir": data,
            "ranges": [[{"subnet": "10.5.0.0/24"}], [{"subnet": "fd05::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]});
    configure(host, &[list], &[]);
    let forwarding = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding";
    let before = host.sh(forwarding);
    let run = [
        "run", "-d", "--name", "a", "--cni", "theirs", "-p", "8080:80", "--", "sleep", "1000",
    ];
    with_plugins(host, &run).ok();
    reaches(host, "a", "10.5.0.1", true);
    let said = host
        .tincan(["exec", "a", "ip", "-o", "address", "show", "eth0"])
        .ok();
    assert!(
        said.contains("10.5.0.2/24") && said.contains("fd05::2/64"),
        "{said}"
    );
    let ports = || host.sh("iptables -t nat -S");
    assert!(
        ports().contains("--dport 8080 -j DNAT --to-destination 10.5.0.2:80"),
        "{}",
        ports()
    );
    let leased = || host.sh(&format!("ls {}/theirs", data.display()));
    assert!(
        leased().contains("10.5.0.2") && leased().contains("fd05::2"),
        "{}",
        leased()
    );
    delete(host, &["a"]);
    assert!(!ports().contains("8080"), "{}", ports());
    assert!(
        !leased().contains("10.5.0.2") && !leased().contains("fd05::2"),
        "{}",
        leased()
    );
    // What these leave, as they do under other runtimes.
    host.sh("ip link del br0");
    let [v4, v6] = before.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{before}");
    };
    host.sh(&format!("echo {v4} >/proc/sys/net/ipv4/ip_forward; echo {v6} >/proc/sys/net/ipv6/conf/all/forwarding"));
}

/// A plugin that writes down how it was called, and answers with its own name as well as the others'.
const TELLER: &str = r#"
config=$(cat)
echo "$CNI_COMMAND $(basename "$0") $CNI_CONTAINERID $CNI_IFNAME ${CNI_NETNS##*/} $(echo "$config" | tr -d ' ' | grep -o '"dns":{"domain":"[a-z]*"}')" >>"$(dirname "$0")/log"
if [ "$CNI_COMMAND" = DEL ]; then test -z "$CNI_NETNS" || nsenter --net="$CNI_NETNS" true; exit; fi
nsenter --net="$CNI_NETNS" ip link show lo >/dev/null || exit 1
if [ -e "$(dirname "$0")/refuse.$(basename "$0")" ]; then
    echo '{"cniVersion": "1.0.0", "code": 100, "msg": "not today", "details": "nor tomorrow"}'
    exit 1
fi
echo '{"cniVersion": "1.0.0", "dns": {"domain": "'"$(basename "$0")"'"}}'
"#;

fn each_plugin_is_called_in_its_turn(host: &Host) {
    let list = |name: &str| json!({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": "first"}, {"type": "second"}]});
    configure(
        host,
        &[list("n"), list("m")],
        &[("first", TELLER), ("second", TELLER)],
    );
    let log = host.dir().join("bin/log");
    let told = || {
        let text = fs::read_to_string(&log).unwrap();
        fs::remove_file(&log).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = [
        "run",
        "--name",
        "a",
        "--cni",
        "n",
        "--net",
        "172.16.0.1/16",
        "--cni",
        "m",
        "--",
        "true",
    ];
    with_plugins(host, &run).ok();
    let second = r#""dns":{"domain":"second"}"#;
    assert_eq!(
        told(),
        [
            "ADD first a eth1 netns ".to_owned(),
            r#"ADD second a eth1 netns "dns":{"domain":"first"}"#.to_owned(),
            "ADD first a eth2 netns ".to_owned(),
            r#"ADD second a eth2 netns "dns":{"domain":"first"}"#.to_owned(),
            // With the namespace, though its processes are gone, and what the last has answered.
            format!("DEL second a eth2 netns {second}"),
            format!("DEL first a eth2 netns {second}"),
            format!("DEL second a eth1 netns {second}"),
            format!("DEL first a eth1 netns {second}"),
        ]
    );
    // With more plugins in files of their own, unless the list says that it is whole.
    let more = host.dir().join("conf/n");
    fs::create_dir(&more).unwrap();
    for (file, kind) in [("2.conf", "second"), ("1.conf", "first"), ("3.txt", "no")] {
        fs::write(more.join(file), json!({"type": kind}).to_string()).unwrap();
    }
    let mut closed = list("n");
    closed["loadOnlyInlinedPlugins"] = json!(true);
    let open = json!({"cniVersion": "1.0.0", "name": "n"});
    let run = ["run", "--name", "a", "--cni", "n", "--", "true"];
    for (list, programs) in [
        (list("n"), &["first", "second", "first", "second"][..]),
        (open, &["first", "second"]),
        (closed, &["first", "second"]),
    ] {
        configure(host, &[list], &[]);
        with_plugins(host, &run).ok();
        let adds = told().into_iter().filter(|line| line.starts_with("ADD "));
        let called: Vec<String> = adds
            .filter_map(|it| Some(it.split(' ').nth(1)?.to_owned()))
            .collect();
        assert_eq!(called, programs);
    }
    fs::write(more.join("1.conf"), "{}").unwrap();
    configure(host, &[list("n")], &[]);
    refused(host, &run, "conf/n/1.conf: has a plugin without a type");
    fs::remove_dir_all(&more).unwrap();
    // One that says no: all are undone, and nothing is left.
    fs::write(host.dir().join("bin/refuse.second"), "").unwrap();
    let refusal = "CNI network n: second ADD: not today; nor tomorrow";
    refused(
        host,
        &["run", "--name", "a", "--cni", "n", "--", "true"],
        refusal,
    );
    assert_eq!(
        told(),
        [
            "ADD first a eth0 netns ",
            r#"ADD second a eth0 netns "dns":{"domain":"first"}"#,
            "DEL second a eth0 netns ",
            "DEL first a eth0 netns ",
        ]
    );
}

fn what_cannot_be_called_is_refused(host: &Host) {
    let with = |name: &str, kind: &str| json!({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": kind}]});
    configure(
        host,
        &[with("n", "nosuch"), lan0()],
        &[
            ("silent", "exit 3"),
            ("babbler", "echo hello"),
            ("crashing", "echo how >&2; echo why >&2; exit 3"),
        ],
    );
    configure(host, &[with("s", "silent"), with("b", "babbler")], &[]);
    configure(host, &[with("c", "crashing")], &[]);
    fs::write(host.dir().join("conf/broken.conflist"), "{").unwrap();
    let run = |name: &'static str| ["run", "--name", "a", "--cni", name, "--", "true"];
    refused(
        host,
        &run("x"),
        "there is no network of this name; there are: b, c, lan0, n, s",
    );
    refused(host, &run("broken"), "broken.conflist: is no JSON");
    refused(
        host,
        &run("n"),
        "CNI network n: there is no plugin nosuch in ",
    );
    // Whose DEL fails as well stays in the journal, until that works.
    refused(host, &run("s"), "CNI network s: silent ADD: exit status: 3");
    // Whose words are not those of a plugin is heard as a program is.
    let crash = ["run", "--name", "other", "--cni", "c", "--", "true"];
    refused(
        host,
        &crash,
        "CNI network c: crashing ADD: exit status: 3: why",
    );
    configure(host, &[], &[("silent", "exit 0"), ("crashing", "exit 0")]);
    host.tincan(["gc"]).ok();
    refused(
        host,
        &run("b"),
        "CNI network b: call babbler: expected value",
    );
    let missing = host.dir().join("missing").display().to_string();
    let words = [
        "run",
        "--cni",
        "n",
        "--cni-conf-dir",
        &missing,
        "--",
        "true",
    ];
    refused(host, &words, "missing: No such file or directory");
    refused_with(
        host,
        &["run", "--cni-conf-dir", "/", "--", "true"],
        &["--cni <NAME>", "hint: "],
    );
    let on_host = [
        "run", "--name", "a", "--net", "host", "--cni", "lan0", "--", "true",
    ];
    refused(host, &on_host, "a has the host's own network");
    let port = ["run", "--cni", "b", "-p", "8080:80", "--", "true"];
    refused(host, &port, "--publish `8080:80` goes with a network");
    // Nothing of it was made.
    quietly(host, &["gc"]);
}
