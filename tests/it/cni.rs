//! `tincan cni`, called as runtimes call a plugin: by the environment and standard input.

use std::path::Path;

use serde_json::{Value, json};

use super::bad_input::refused;
use super::host::{Case, Host, tests};
use super::network::{create, delete, reaches, remove, stay};

pub fn tests() -> Vec<Case> {
    tests![
        containers_are_attached_and_detached needs [Root, Nftables],
        attachments_and_containers_are_on_one_network needs [Root, Nftables],
        ports_lead_to_an_attachment needs [Root, Nftables],
        what_is_asked_for_is_had needs [Root, Nftables],
        a_network_that_is_there_is_used_as_it_is needs [Root, Nftables],
        an_isolated_internal_network_is_made needs [Root, Nftables],
        of_a_namespace_that_is_gone_nothing_is_left needs [Root, Nftables],
        check_finds_what_was_changed needs [Root, Nftables],
        gc_leaves_those_that_are_told needs [Root, Nftables],
        status_says_whether_add_can_be_done needs [Root, Nftables],
        versions_have_their_own_form needs [Root, Nftables],
        what_is_empty_may_be_null needs [Root, Nftables],
        what_is_wrong_keeps_nothing_from_being_taken_away needs [Root, Nftables],
        servers_of_names_are_told needs [Root, Nftables],
        a_namespace_without_ipv6_gets_it needs [Root, Nftables],
        wrong_calls_are_refused needs [Root, Nftables],
        many_are_attached_at_once needs [Root, Nftables],
        what_was_taken_away_is_put_back needs [Root, Nftables],
        a_half_made_wire_is_taken_away needs [Root, Nftables],
        a_state_root_can_be_named needs [Root, Nftables],
    ]
}

/// How a plugin is called.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub command: &'a str,
    pub container: &'a str,
    pub netns: &'a str,
    pub interface: &'a str,
    pub arguments: &'a str,
}

impl<'a> Call<'a> {
    pub fn new(command: &'a str, container: &'a str) -> Self {
        Call {
            command,
            container,
            netns: "",
            interface: "eth0",
            arguments: "",
        }
    }
}

/// The configuration of a network of both families.
pub fn config() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "name": "lan0",
        "type": "tincan",
        "subnets": ["10.9.0.0/24", "fd09::/64"],
    })
}

/// Calls the plugin; returns its exit code and its answer.
pub fn call_with(host: &Host, call: Call, input: &str, fault: &str) -> (Option<i32>, Value) {
    let netns = match call.netns {
        "" => String::new(),
        name if name.contains('/') => name.to_owned(),
        name => format!("/run/netns/{name}"),
    };
    let run = host
        .command(Host::TINCAN, [] as [&str; 0])
        .env("CNI_COMMAND", call.command)
        .env("CNI_CONTAINERID", call.container)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", call.interface)
        .env("CNI_ARGS", call.arguments)
        .env("CNI_PATH", "/opt/cni/bin")
        .env("TINCAN_FAULT", fault)
        .stdin(input);
    let assert = run.any_stderr().assert();
    let output = assert.get_output();
    let said = String::from_utf8_lossy(&output.stdout);
    let answer = match said.trim() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
    };
    (output.status.code(), answer)
}

fn call(host: &Host, call: Call, config: &Value) -> Value {
    let (code, answer) = call_with(host, call, &config.to_string(), "none");
    assert_eq!(code, Some(0), "{}: {answer}", call.command);
    answer
}

/// Calls the plugin, which must answer with this error.
fn wrong(host: &Host, call: Call, config: &Value, error: u64, why: &str) {
    let (code, answer) = call_with(host, call, &config.to_string(), "none");
    assert_eq!(code, Some(1), "{answer}");
    assert_eq!(answer["code"], error, "{answer}");
    assert!(answer["msg"].as_str().unwrap().contains(why), "{answer}");
}

pub fn add<'a>(container: &'a str) -> Call<'a> {
    Call {
        netns: container,
        ..Call::new("ADD", container)
    }
}

fn check<'a>(container: &'a str) -> Call<'a> {
    Call {
        netns: container,
        ..Call::new("CHECK", container)
    }
}

pub fn del<'a>(container: &'a str) -> Call<'a> {
    Call {
        netns: container,
        ..Call::new("DEL", container)
    }
}

fn namespaces(host: &Host, names: &[&str]) {
    for name in names {
        host.sh(&format!("ip netns add {name}; ip -n {name} link set lo up"));
    }
}

fn remove_namespaces(host: &Host, names: &[&str]) {
    for name in names {
        host.sh(&format!("ip netns del {name}"));
    }
}

/// Who has addresses of the network.
fn tenants(host: &Host) -> Vec<String> {
    let said = host.tincan(["network", "inspect", "lan0"]).ok();
    let network: Value = serde_json::from_str(&said).unwrap();
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let containers = network["containers"].as_array().unwrap();
    let all = containers.iter();
    all.map(|it| text(&it["container"]) + " " + &text(&it["address"]))
        .collect()
}

fn pings(host: &Host, from: &str, to: &[&str]) {
    for to in to {
        host.sh(&format!("ip netns exec {from} ping -q -c1 -W5 {to}"));
    }
}

fn links(host: &Host, netns: &str) -> String {
    host.sh(&format!("ip -n {netns} -br link | cut -d' ' -f1"))
}

fn containers_are_attached_and_detached(host: &Host) {
    namespaces(host, &["c1", "c2"]);
    let result = call(host, add("c1"), &config());
    assert_eq!(result["cniVersion"], "1.1.0");
    let [bridge, port, eth0] = [0, 1, 2].map(|at| &result["interfaces"][at]);
    assert_eq!(
        (&bridge["name"], bridge.get("sandbox")),
        (&json!("lan0"), None)
    );
    assert_eq!(
        (&eth0["name"], &eth0["sandbox"]),
        (&json!("eth0"), &json!("/run/netns/c1"))
    );
    assert_eq!(eth0["mtu"], 1500);
    let mac = eth0["mac"].as_str().unwrap();
    assert!(host.sh("ip -n c1 link show eth0").contains(mac));
    assert_eq!(
        result["ips"],
        json!([
            {"interface": 2, "address": "10.9.0.2/24", "gateway": "10.9.0.1"},
            {"interface": 2, "address": "fd09::2/64", "gateway": "fd09::1"},
        ])
    );
    assert_eq!(
        result["routes"],
        json!([{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}, {"dst": "::/0", "gw": "fd09::1"}])
    );
    let port = port["name"].as_str().unwrap();
    let alias = "alias tincan cni:c1/eth0@/run/tincan";
    assert!(host.sh(&format!("ip -d link show {port}")).contains(alias));
    call(host, add("c2"), &config());
    pings(host, "c1", &["10.9.0.1", "fd09::1", "10.9.0.3", "fd09::3"]);
    pings(host, "c2", &["10.9.0.2", "fd09::2"]);
    let routes = host.sh("ip -n c2 route; ip -n c2 -6 route");
    assert!(
        routes.contains("default via 10.9.0.1") && routes.contains("default via fd09::1"),
        "{routes}"
    );
    // One more interface of the same container, which has its ways out already.
    let second = Call {
        interface: "up0",
        ..add("c1")
    };
    let more = call(host, second, &config());
    assert_eq!(more["routes"], json!([]));
    assert_eq!(more["ips"][0]["address"], "10.9.0.4/24");
    let checked = |result: &Value| {
        let mut config = config();
        config["prevResult"] = result.clone();
        config
    };
    call(host, check("c1"), &checked(&result));
    assert_eq!(
        tenants(host),
        [
            "c1@eth0 10.9.0.2",
            "c2@eth0 10.9.0.3",
            "c1@up0 10.9.0.4",
            "c1@eth0 fd09::2",
            "c2@eth0 fd09::3",
            "c1@up0 fd09::4",
        ]
    );
    wrong(
        host,
        add("c1"),
        &config(),
        100,
        "eth0 of c1 is attached already",
    );
    call(
        host,
        Call {
            command: "DEL",
            ..second
        },
        &config(),
    );
    for _ in 0..2 {
        call(host, del("c1"), &config());
        assert_eq!(links(host, "c1"), "lo\n");
    }
    wrong(
        host,
        check("c1"),
        &checked(&result),
        101,
        "is not attached to network lan0",
    );
    pings(host, "c2", &["10.9.0.1"]);
    // Its address is free again, and it may come again.
    assert_eq!(
        call(host, add("c1"), &config())["ips"][0]["address"],
        "10.9.0.2/24"
    );
    // With the subcommand it is the same, and so by a link.
    let link = host.dir().join("link");
    std::os::unix::fs::symlink(Host::TINCAN, &link).unwrap();
    for (program, words) in [(Path::new(Host::TINCAN), &["cni"][..]), (&link, &[])] {
        let run = host
            .command(program, words)
            .env("CNI_COMMAND", "DEL")
            .env("CNI_CONTAINERID", "c1");
        assert_eq!(
            run.env("CNI_IFNAME", "eth0")
                .stdin(config().to_string())
                .ok(),
            ""
        );
    }
    call(host, del("c2"), &config());
    assert_eq!(tenants(host), Vec::<String>::new());
    remove_namespaces(host, &["c1", "c2"]);
    // The network stays, as one that was created does.
    remove(host, "lan0");
}

fn attachments_and_containers_are_on_one_network(host: &Host) {
    namespaces(host, &["c1"]);
    call(host, add("c1"), &config());
    stay(host, "web", "lan0");
    reaches(host, "web", "10.9.0.2", true);
    reaches(host, "web", "fd09::2", true);
    pings(host, "c1", &["10.9.0.3", "fd09::3"]);
    // Whose maker is gone, and whose namespace lives, is nobody's to clear away.
    assert_eq!(host.tincan(["gc"]).ok(), "");
    let leased = "address 10.9.0.2 of network lan0 is leased to container c1@eth0";
    refused(
        host,
        &["run", "--net", "lan0,10.9.0.2", "--", "true"],
        leased,
    );
    refused(
        host,
        &["network", "rm", "lan0"],
        "network lan0 is in use by c1@eth0, web",
    );
    let ip = Call {
        arguments: "IP=10.9.0.3",
        ..add("c2")
    };
    namespaces(host, &["c2"]);
    wrong(host, ip, &config(), 100, "is leased to container web");
    assert_eq!(links(host, "c2"), "lo\n");
    assert_eq!(host.tincan(["list", "-q"]).ok(), "web\n");
    delete(host, &["web"]);
    call(host, del("c1"), &config());
    remove_namespaces(host, &["c1", "c2"]);
    remove(host, "lan0");
}

fn ports_lead_to_an_attachment(host: &Host) {
    namespaces(host, &["c1", "c2"]);
    let mut config = config();
    config["capabilities"] = json!({"portMappings": true});
    config["runtimeConfig"] = json!({"portMappings": [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"},
    ]});
    call(host, add("c1"), &config);
    let rules = || host.sh("nft list table inet tincan-lan0");
    let elements = [
        "tcp . 8080 : 10.9.0.2 . 80",
        "tcp . 8080 : fd09::2 . 80",
        "udp . 5353 . 127.0.0.1 : 10.9.0.2 . 53",
    ];
    assert!(
        elements.iter().all(|it| rules().contains(it)),
        "{}",
        rules()
    );
    let dir = host.dir().display();
    host.sh(&format!(
        "echo works >{dir}/page; ip netns exec c1 busybox httpd -p 80 -h {dir}"
    ));
    let get = |before: &str, address: &str| {
        let question = r"printf 'GET /page HTTP/1.0\r\n\r\n'";
        let answer = host.sh(&format!(
            "{question} | {before} timeout 5 busybox nc {address} 8080"
        ));
        answer.lines().last().unwrap_or_default().to_owned()
    };
    // Where bridges call netfilter, answers to ::1 are dropped.
    for address in ["127.0.0.1", "10.9.0.1", "fd09::1"] {
        assert_eq!(get("", address), "works", "{address}");
    }
    // From itself, too.
    assert_eq!(get("ip netns exec c1", "10.9.0.1"), "works");
    let taken = "port 8080:80 is published for container c1@eth0 already";
    wrong(host, add("c2"), &config, 100, taken);
    refused(
        host,
        &["run", "--net", "lan0", "-p", "8080:80", "--", "true"],
        taken,
    );
    assert_eq!(host.tincan(["gc"]).ok(), "");
    host.sh("nft delete table inet tincan-lan0");
    host.tincan(["network", "reload"]).ok();
    assert!(
        elements.iter().all(|it| rules().contains(it)),
        "{}",
        rules()
    );
    assert_eq!(get("", "127.0.0.1"), "works");
    call(host, del("c1"), &config);
    assert!(!rules().contains("elements"), "{}", rules());
    call(host, add("c2"), &config);
    call(host, del("c2"), &config);
    host.sh("ip netns pids c1 | xargs kill");
    remove_namespaces(host, &["c1", "c2"]);
    remove(host, "lan0");
}

fn what_is_asked_for_is_had(host: &Host) {
    namespaces(host, &["c1", "c2", "c3"]);
    let mut asked = config();
    asked["mtu"] = json!(1400);
    asked["runtimeConfig"] = json!({"ips": ["10.9.0.7/24"], "mac": "02:00:00:00:00:07"});
    let by_arguments = Call {
        arguments: "IgnoreUnknown=1;K8S_POD_NAME=web;IP=fd09::7",
        ..add("c1")
    };
    let result = call(host, by_arguments, &asked);
    assert_eq!(result["ips"][0]["address"], "10.9.0.7/24");
    assert_eq!(result["ips"][1]["address"], "fd09::7/64");
    assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:07");
    assert_eq!(result["interfaces"][2]["mtu"], 1400);
    let mut third = config();
    third["args"] = json!({"cni": {"ips": ["10.9.0.9"]}});
    assert_eq!(
        call(host, add("c2"), &third)["ips"][0]["address"],
        "10.9.0.9/24"
    );
    third["args"] = json!({"cni": {"ips": ["10.8.0.9"]}});
    wrong(host, add("c3"), &third, 7, "`10.8.0.9` is outside lan0");
    third["args"] = json!({"cni": {"ips": ["10.9.0.8", "10.9.0.9"]}});
    let second = "`10.9.0.9` is a second address of one family, beside 10.9.0.8";
    wrong(host, add("c3"), &third, 7, second);
    // What is said there counts before the variable, which then may say what it likes; and what is said twice is said once.
    third["args"] = json!({"cni": {"ips": ["10.9.0.8", "10.9.0.8/24"]}});
    let by_variable = Call {
        arguments: "IP=10.9.0.10,10.8.0.9",
        ..add("c3")
    };
    assert_eq!(
        call(host, by_variable, &third)["ips"][0]["address"],
        "10.9.0.8/24"
    );
    call(host, del("c3"), &third);
    let empty = Call {
        arguments: "IgnoreUnknown=1;IP=",
        ..add("c3")
    };
    call(host, empty, &config());
    call(host, del("c3"), &config());
    // What it cannot do of what is asked for is named, with its value.
    let mut limited = config();
    limited["runtimeConfig"] = json!({"bandwidth": {"ingressRate": 2048}});
    let unknown = "no capability `bandwidth`, which is asked to be {\"ingressRate\":2048}";
    wrong(host, add("c3"), &limited, 2, unknown);
    call(host, del("c3"), &limited);
    asked["runtimeConfig"] = json!({"ips": ["10.9.0.9"]});
    wrong(
        host,
        add("c3"),
        &asked,
        100,
        "is leased to container c2@eth0",
    );
    // An interface of that name is there already.
    host.sh("ip -n c3 link add eth0 type veth peer name other");
    wrong(host, add("c3"), &config(), 100, "create the interface eth0");
    assert_eq!(tenants(host).len(), 4);
    for name in ["c1", "c2", "c3"] {
        call(host, del(name), &config());
    }
    remove_namespaces(host, &["c1", "c2", "c3"]);
    remove(host, "lan0");
}

fn a_network_that_is_there_is_used_as_it_is(host: &Host) {
    namespaces(host, &["c1"]);
    create(
        host,
        &[
            "lan0",
            "--subnet",
            "10.8.0.0/24",
            "--subnet",
            "fd08::/64",
            "--route",
            "10.1.0.0/16@10.8.0.9",
        ],
    );
    let bare = json!({"cniVersion": "1.0.0", "name": "lan0", "type": "tincan"});
    let result = call(host, add("c1"), &bare);
    assert_eq!(result["ips"][0]["address"], "10.8.0.2/24");
    assert_eq!(
        result["routes"][0],
        json!({"dst": "10.1.0.0/16", "gw": "10.8.0.9"})
    );
    call(host, del("c1"), &bare);
    let differs = "network lan0 exists already, with subnets 10.8.0.0/24 and fd08::/64, and the configuration says 10.9.0.0/24 and fd09::/64";
    wrong(host, add("c1"), &config(), 7, differs);
    let mut mtu = bare.clone();
    mtu["mtu"] = json!(1400);
    wrong(
        host,
        add("c1"),
        &mtu,
        7,
        "with mtu as it comes, and the configuration says 1400",
    );
    remove(host, "lan0");
    wrong(
        host,
        add("c1"),
        &bare,
        7,
        "network lan0 does not exist, and the configuration has no `subnets`",
    );
    create(host, &["lan1", "--subnet", "10.9.0.0/16"]);
    wrong(host, add("c1"), &config(), 7, "overlaps with network lan1");
    remove(host, "lan1");
    remove_namespaces(host, &["c1"]);
}

fn an_isolated_internal_network_is_made(host: &Host) {
    namespaces(host, &["c1", "c2"]);
    let mut config = config();
    config["isolate"] = json!(true);
    config["internal"] = json!(true);
    let result = call(host, add("c1"), &config);
    assert_eq!(result["routes"], json!([]));
    call(host, add("c2"), &config);
    pings(host, "c1", &["10.9.0.1", "fd09::1"]);
    host.sh(
        "! ip netns exec c1 ping -q -c1 -W1 10.9.0.3; ! ip netns exec c1 ping -q -c1 -W1 fd09::3",
    );
    let listed = host.tincan(["network", "list"]).ok();
    assert!(
        listed.contains("c1@eth0, c2@eth0  internal, isolate"),
        "{listed}"
    );
    // Forwarding was never turned on.
    for name in ["c1", "c2"] {
        call(host, del(name), &config);
    }
    remove_namespaces(host, &["c1", "c2"]);
    remove(host, "lan0");
}

fn of_a_namespace_that_is_gone_nothing_is_left(host: &Host) {
    // DEL with a path that is nothing any more, and without one.
    for netns in ["c1", ""] {
        namespaces(host, &["c1"]);
        call(host, add("c1"), &config());
        remove_namespaces(host, &["c1"]);
        call(host, Call { netns, ..del("c1") }, &config());
        assert_eq!(tenants(host), Vec::<String>::new());
    }
    // Without one, the namespace may live on.
    namespaces(host, &["c1"]);
    call(host, add("c1"), &config());
    call(
        host,
        Call {
            netns: "",
            ..del("c1")
        },
        &config(),
    );
    assert_eq!(links(host, "c1"), "lo\n");
    // Where nobody calls DEL, `gc` clears it away, and so does the next one of the name.
    call(host, add("c1"), &config());
    remove_namespaces(host, &["c1"]);
    host.wait_until("the port is gone", || {
        !host.sh("ip -br link").contains("veth-")
    });
    assert_eq!(host.tincan(["gc"]).ok(), "attachment c1@eth0\n");
    namespaces(host, &["c1"]);
    call(host, add("c1"), &config());
    remove_namespaces(host, &["c1"]);
    namespaces(host, &["c1"]);
    host.wait_until("the port is gone", || {
        !host.sh("ip -br link").contains("veth-")
    });
    call(host, add("c1"), &config());
    // Of whose record somebody has made away with, the wire tells whose it was.
    host.sh("rm -r /run/tincan/.attachments");
    let cleared = host.tincan(["gc"]).ok();
    assert!(cleared.starts_with("attachment c1@eth0\n"), "{cleared}");
    assert_eq!(links(host, "c1"), "lo\n");
    assert_eq!(tenants(host), Vec::<String>::new());
    call(host, add("c1"), &config());
    // Whose wire somebody has taken away, that is there still.
    host.sh("ip -n c1 link del eth0");
    assert_eq!(host.tincan(["gc"]).ok(), "");
    call(host, del("c1"), &config());
    remove_namespaces(host, &["c1"]);
    remove(host, "lan0");
}

fn check_finds_what_was_changed(host: &Host) {
    for (change, why) in [
        (
            "ip -n c1 address del 10.9.0.2/24 dev eth0",
            "c1@eth0: has no address 10.9.0.2/24",
        ),
        (
            "ip -n c1 address del fd09::2/64 dev eth0",
            "c1@eth0: has no address fd09::2/64",
        ),
        (
            "ip -n c1 route del default",
            "has no default route for IPv4",
        ),
        (
            "ip -n c1 -6 route del default",
            "has no default route for IPv6",
        ),
        ("ip -n c1 link set eth0 down", "c1@eth0: is down"),
        (
            "ip -n c1 link del eth0",
            "the host's end of its wire is gone",
        ),
        ("ip link set $port nomaster", "is no port of lan0"),
        (
            "ip link del lan0",
            "the bridge lan0 is gone; `tincan network reload lan0` puts it back",
        ),
        (
            "nft 'delete element inet tincan-lan0 ports6 { tcp . 8080 }'",
            "ports 8080:80, 127.0.0.1:53:53/udp do not all lead to it; `tincan network reload lan0` puts it back",
        ),
        (
            "nft delete table inet tincan-lan0",
            "the rules of network lan0 are gone",
        ),
        (
            "ip netns del c1; ip netns add c1",
            "c1 is another namespace now",
        ),
    ] {
        namespaces(host, &["c1"]);
        let mut config = config();
        config["runtimeConfig"] = json!({"portMappings": [
            {"hostPort": 8080, "containerPort": 80},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"},
        ]});
        let result = call(host, add("c1"), &config);
        let port = result["interfaces"][1]["name"].as_str().unwrap().to_owned();
        config["prevResult"] = result;
        call(host, check("c1"), &config);
        for (link, why) in [
            ("lan0", "the bridge lan0 is down"),
            (&port, "the host's end of its wire, "),
        ] {
            host.sh(&format!("ip link set {link} down"));
            wrong(host, check("c1"), &config, 101, why);
            host.sh(&format!("ip link set {link} up"));
        }
        call(host, check("c1"), &config);
        host.sh(&change.replace("$port", &port));
        wrong(host, check("c1"), &config, 101, why);
        call(host, del("c1"), &config);
        remove_namespaces(host, &["c1"]);
    }
    let mut old = config();
    wrong(host, check("c1"), &old, 7, "has no prevResult");
    old["cniVersion"] = json!("0.3.1");
    wrong(
        host,
        check("c1"),
        &old,
        1,
        "has no such call, which came with 0.4.0",
    );
    remove(host, "lan0");
}

fn gc_leaves_those_that_are_told(host: &Host) {
    namespaces(host, &["c1", "c2", "c3"]);
    for name in ["c1", "c2", "c3"] {
        call(host, add(name), &config());
    }
    let mut other = config();
    other["name"] = json!("lan1");
    other["subnets"] = json!(["10.8.0.0/24"]);
    let second = Call {
        interface: "eth1",
        ..add("c1")
    };
    call(host, second, &other);
    let gc = Call::new("GC", "");
    wrong(host, gc, &config(), 7, "has no `cni.dev/valid-attachments`");
    let mut told = config();
    told["cni.dev/valid-attachments"] = json!([
        {"containerID": "c2", "ifname": "eth0"},
        {"containerID": "not ours/", "ifname": "eth0"},
    ]);
    for _ in 0..2 {
        call(host, gc, &told);
        assert_eq!(tenants(host), ["c2@eth0 10.9.0.3", "c2@eth0 fd09::3"]);
    }
    // Another network's is not its to clear away.
    assert_eq!(links(host, "c1").lines().count(), 2);
    // So libcni tells that there is none.
    told["cni.dev/valid-attachments"] = Value::Null;
    call(host, gc, &told);
    assert_eq!(links(host, "c2"), "lo\n");
    // One that cannot be read is told of, and keeps none of the others.
    for name in ["c2", "c3"] {
        call(host, add(name), &config());
    }
    let record = "/run/tincan/.attachments/c2@eth0/attachment.json";
    host.sh(&format!("mv {record} record; echo '{{' >{record}"));
    wrong(host, gc, &told, 5, "c2@eth0/attachment.json: ");
    assert_eq!(links(host, "c3"), "lo\n");
    let broken = host.tincan(["gc"]).fails(125);
    assert!(broken.contains("c2@eth0/attachment.json: "), "{broken}");
    host.sh(&format!("mv record {record}"));
    call(host, gc, &told);
    assert_eq!(links(host, "c2"), "lo\n");
    other["cni.dev/valid-attachments"] = json!([]);
    call(host, gc, &other);
    assert_eq!(links(host, "c1"), "lo\n");
    remove_namespaces(host, &["c1", "c2", "c3"]);
    remove(host, "lan0");
    remove(host, "lan1");
}

fn status_says_whether_add_can_be_done(host: &Host) {
    let status = Call::new("STATUS", "");
    call(host, status, &config());
    let bare = json!({"cniVersion": "1.1.0", "name": "lan0", "type": "tincan"});
    wrong(host, status, &bare, 50, "network lan0 does not exist");
    create(host, &["lan0", "--subnet", "10.9.0.0/30"]);
    call(host, status, &bare);
    wrong(host, status, &config(), 50, "with subnets 10.9.0.0/30");
    stay(host, "a", "lan0");
    wrong(
        host,
        status,
        &bare,
        50,
        "network lan0 is full: no address of 10.9.0.0/30 is free",
    );
    namespaces(host, &["c1"]);
    wrong(host, add("c1"), &bare, 11, "network lan0 is full");
    delete(host, &["a"]);
    host.sh("ip link del lan0; ip link add lan0 type bridge");
    wrong(
        host,
        status,
        &bare,
        51,
        "there is a link lan0 on the host already, and it is not this network's",
    );
    host.sh("ip link del lan0");
    call(host, status, &bare);
    // One that is to be made is looked at as it would be then.
    for (key, value, why) in [
        (
            "subnets",
            json!(["10.9.0.0/29"]),
            "overlaps with network lan0",
        ),
        (
            "subnets",
            json!(["10.8.0.0/24", "10.7.0.0/24"]),
            "is a second subnet of one family",
        ),
        ("mtu", json!(1000), "is under the 1280 that IPv6 needs"),
    ] {
        let mut other = config();
        other["name"] = json!("lan1");
        other[key] = value;
        if key == "mtu" {
            other["subnets"] = json!(["10.8.0.0/24", "fd08::/64"]);
        }
        wrong(host, status, &other, 50, why);
        wrong(host, add("c1"), &other, 7, why);
    }
    let mut other = config();
    other["name"] = json!("lan1");
    other["subnets"] = json!(["10.8.0.0/24"]);
    call(host, status, &other);
    host.sh("ip link add lan1 type bridge");
    let foreign = "there is a link lan1 on the host already";
    wrong(host, status, &other, 50, foreign);
    wrong(host, add("c1"), &other, 100, foreign);
    host.sh("ip link del lan1");
    remove_namespaces(host, &["c1"]);
    remove(host, "lan0");
}

fn versions_have_their_own_form(host: &Host) {
    let versions = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    let answer = call(
        host,
        Call::new("VERSION", ""),
        &json!({"cniVersion": "0.4.0"}),
    );
    assert_eq!(
        answer,
        json!({"cniVersion": "0.4.0", "supportedVersions": versions})
    );
    // It is told whatever is asked for, and without a question as well.
    for (input, version) in [
        (r#"{"cniVersion": "0.2.0"}"#, "0.2.0"),
        (r#"{"cniVersion": "9.0.0"}"#, "9.0.0"),
        ("", "1.1.0"),
    ] {
        let (code, answer) = call_with(host, Call::new("VERSION", ""), input, "none");
        let expected = json!({"cniVersion": version, "supportedVersions": versions});
        assert_eq!((code, answer), (Some(0), expected), "{input}");
    }
    namespaces(host, &["c1"]);
    for version in versions.as_array().unwrap() {
        let mut config = config();
        config["cniVersion"] = version.clone();
        let result = call(host, add("c1"), &config);
        assert_eq!(result["cniVersion"], *version);
        let has_version = result["ips"][1].get("version") == Some(&json!("6"));
        assert_eq!(has_version, version.as_str() < Some("1.0.0"), "{result}");
        assert_eq!(
            result["interfaces"][2].get("mtu").is_some(),
            version == "1.1.0"
        );
        call(host, del("c1"), &config);
    }
    remove_namespaces(host, &["c1"]);
    remove(host, "lan0");
}

/// As programs in Go write what they have nothing of.
fn what_is_empty_may_be_null(host: &Host) {
    namespaces(host, &["c1"]);
    for (key, value) in [
        ("args", Value::Null),
        ("args", json!({"cni": null})),
        ("args", json!({"cni": {"ips": null}})),
        ("prevResult", Value::Null),
        ("dns", Value::Null),
        ("runtimeConfig", Value::Null),
        (
            "runtimeConfig",
            json!({"portMappings": null, "ips": null, "mac": "", "bandwidth": null}),
        ),
    ] {
        let mut config = config();
        config[key] = value;
        call(host, add("c1"), &config);
        call(host, del("c1"), &config);
    }
    let mut config = config();
    config["subnets"] = Value::Null;
    // By now it is there.
    call(host, add("c1"), &config);
    call(host, del("c1"), &config);
    remove_namespaces(host, &["c1"]);
    remove(host, "lan0");
}

/// A caller whose ADD was refused for its configuration calls DEL with the same, and is to be rid of the container then.
fn what_is_wrong_keeps_nothing_from_being_taken_away(host: &Host) {
    for (key, value) in [
        ("runtimeConfig", json!({"mac": "zz"})),
        (
            "runtimeConfig",
            json!({"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "icmp"}]}),
        ),
        ("runtimeConfig", json!({"portMappings": [{"hostPort": -1}]})),
        ("runtimeConfig", json!("none")),
        ("subnets", json!(["10.9.0.1/24"])),
        ("mtu", json!("large")),
        ("prevResult", json!([])),
    ] {
        namespaces(host, &["c1"]);
        call(host, add("c1"), &config());
        let mut wrong_one = config();
        wrong_one[key] = value;
        wrong(host, add("c2"), &wrong_one, 7, "");
        call(host, del("c2"), &wrong_one);
        call(host, del("c1"), &wrong_one);
        assert_eq!(links(host, "c1"), "lo\n");
        assert_eq!(tenants(host), Vec::<String>::new());
        call(host, add("c1"), &config());
        wrong_one["cni.dev/valid-attachments"] = json!([]);
        call(host, Call::new("GC", ""), &wrong_one);
        assert_eq!(tenants(host), Vec::<String>::new());
        remove_namespaces(host, &["c1"]);
    }
    // No network of tincan's can be called so.
    let mut dotted = config();
    dotted["name"] = json!("lan.0");
    wrong(host, add("c1"), &dotted, 7, "has a '.'");
    call(host, del("c1"), &dotted);
    dotted["name"] = json!("");
    wrong(host, del("c1"), &dotted, 7, "is empty");
    remove(host, "lan0");
}

fn servers_of_names_are_told(host: &Host) {
    namespaces(host, &["c1"]);
    let dns = |config: &Value| {
        let result = call(host, add("c1"), config);
        call(host, del("c1"), config);
        result["dns"].clone()
    };
    assert_eq!(dns(&config()), json!({}));
    let given = json!({"nameservers": ["192.0.2.53"], "search": ["example.org"]});
    let mut config = config();
    config["dns"] = given.clone();
    config["prevResult"] = json!({"dns": {"domain": "before"}});
    assert_eq!(dns(&config), given);
    config["dns"] = json!({});
    assert_eq!(dns(&config), json!({"domain": "before"}));
    remove(host, "lan0");
    // Who answers for a network is asked first.
    create(
        host,
        &[
            "lan0",
            "--dns",
            "--subnet",
            "10.9.0.0/24",
            "--subnet",
            "fd09::/64",
        ],
    );
    assert_eq!(
        dns(&config),
        json!({"nameservers": ["10.9.0.1", "fd09::1"]})
    );
    config["dns"] = given.clone();
    assert_eq!(dns(&config), given);
    remove_namespaces(host, &["c1"]);
    remove(host, "lan0");
}

/// Whoever makes a container's namespace may have turned IPv6 off there, and the network has it.
fn a_namespace_without_ipv6_gets_it(host: &Host) {
    namespaces(host, &["c1", "c2"]);
    for name in ["all", "default"] {
        let off = format!("echo 1 >/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
        host.sh(&format!("ip netns exec c1 sh -c '{off}'"));
    }
    call(host, add("c1"), &config());
    call(host, add("c2"), &config());
    pings(host, "c1", &["10.9.0.3", "fd09::3", "fd09::1"]);
    pings(host, "c2", &["10.9.0.2", "fd09::2"]);
    let routes = host.sh("ip -n c1 -6 route");
    assert!(routes.contains("default via fd09::1"), "{routes}");
    for name in ["c1", "c2"] {
        call(host, del(name), &config());
    }
    // And so has a wire.
    let run = [
        "run", "-d", "--name", "a", "--net", "ns:c1", "--", "sleep", "1000",
    ];
    host.tincan(run).ok();
    host.tincan(["run", "-d", "--name", "b", "--", "sleep", "1000"])
        .ok();
    host.tincan(["link", "add", "a=fd00::1/64", "b=fd00::2/64"])
        .ok();
    pings(host, "c1", &["fd00::2"]);
    delete(host, &["a", "b"]);
    remove_namespaces(host, &["c1", "c2"]);
    remove(host, "lan0");
}

fn wrong_calls_are_refused(host: &Host) {
    namespaces(host, &["c1"]);
    let with = |key: &str, value: Value| {
        let mut config = config();
        config[key] = value;
        config
    };
    for (wrong_call, config, code, why) in [
        (
            add("c1"),
            with("cniVersion", json!("0.2.0")),
            1,
            "version 0.2.0 of CNI is not spoken",
        ),
        (
            add("c1"),
            with("cniVersion", Value::Null),
            1,
            "has no cniVersion",
        ),
        (Call::new("ADD", "c1"), config(), 4, "CNI_NETNS is not set"),
        (
            Call {
                netns: "none",
                ..add("c1")
            },
            config(),
            4,
            "CNI_NETNS /run/netns/none: No such file or directory",
        ),
        (
            Call {
                netns: "/proc/self/ns/net",
                ..add("c1")
            },
            config(),
            4,
            "is the host's own network namespace",
        ),
        (
            Call {
                netns: "/etc/passwd",
                ..add("c1")
            },
            config(),
            4,
            "CNI_NETNS /etc/passwd: Invalid argument",
        ),
        (
            Call {
                container: "a/b",
                ..add("c1")
            },
            config(),
            4,
            "CNI_CONTAINERID: container name `a/b`",
        ),
        (
            Call {
                interface: "",
                ..add("c1")
            },
            config(),
            4,
            "CNI_IFNAME is not set",
        ),
        (Call::new("SUB", "c1"), config(), 4, "`SUB` is none of"),
        (
            add("c1"),
            with("name", json!("macvlan")),
            7,
            "means something else",
        ),
        (
            add("c1"),
            with("subnets", json!(["10.9.0.1/24"])),
            7,
            "has bits beyond its prefix",
        ),
        (
            add("c1"),
            with("subnets", json!(["10.9.0.0/24", "10.8.0.0/24"])),
            7,
            "is a second subnet of one family",
        ),
        (
            add("c1"),
            with("mtu", json!(1000)),
            7,
            "is under the 1280 that IPv6 needs",
        ),
        (
            Call::new("GC", ""),
            with("cniVersion", json!("1.0.0")),
            1,
            "came with 1.1.0",
        ),
        (
            Call::new("STATUS", ""),
            with("cniVersion", json!("1.0.0")),
            1,
            "came with 1.1.0",
        ),
    ] {
        wrong(host, wrong_call, &config, code, why);
    }
    for input in ["", "{", "[]"] {
        let (code, answer) = call_with(host, add("c1"), input, "none");
        assert_eq!((code, &answer["code"]), (Some(1), &json!(6)), "{answer}");
    }
    // What ends the plugin's chain is there for a caller who has no words of its own.
    let code = host
        .command(Host::TINCAN, [] as [&str; 0])
        .assert()
        .get_output()
        .status
        .code();
    assert_eq!(code, Some(125));
    remove_namespaces(host, &["c1"]);
    // A network that was made for a call that failed is a network.
    let names = host.tincan(["network", "list", "-q"]).ok();
    assert_eq!(names, "");
}

fn many_are_attached_at_once(host: &Host) {
    let file = host.dir().join("config");
    std::fs::write(&file, config().to_string()).unwrap();
    let program = Host::TINCAN;
    let call = |command: &str| {
        format!(
            "seq 24 | CNI_COMMAND={command} CNI_IFNAME=eth0 xargs -P8 -I% sh -c \
             'CNI_CONTAINERID=c% CNI_NETNS=/run/netns/c% {program} <{} >answer.% || exit 255'",
            file.display()
        )
    };
    host.sh("for n in $(seq 24); do ip netns add c$n; ip -n c$n link set lo up; done");
    host.sh(&call("ADD"));
    let all = tenants(host);
    let addresses: std::collections::BTreeSet<_> =
        all.iter().map(|it| it.split(' ').nth(1)).collect();
    assert_eq!((all.len(), addresses.len()), (48, 48), "{all:?}");
    pings(
        host,
        "c24",
        &["10.9.0.2", "fd09::2", "10.9.0.25", "fd09::19"],
    );
    host.sh(&call("DEL"));
    assert_eq!(tenants(host), Vec::<String>::new());
    host.sh("for n in $(seq 24); do ip netns del c$n; done");
    remove(host, "lan0");
}

fn what_was_taken_away_is_put_back(host: &Host) {
    namespaces(host, &["c1", "c2"]);
    call(host, add("c1"), &config());
    // The next ADD does it, and `reload`.
    host.sh("ip link del lan0");
    call(host, add("c2"), &config());
    pings(host, "c1", &["10.9.0.1", "fd09::1", "10.9.0.3", "fd09::3"]);
    host.sh("ip link del lan0; nft delete table inet tincan-lan0");
    host.tincan(["network", "reload", "lan0"]).ok();
    pings(host, "c2", &["10.9.0.1", "fd09::1", "10.9.0.2", "fd09::2"]);
    for name in ["c1", "c2"] {
        call(host, del(name), &config());
    }
    remove_namespaces(host, &["c1", "c2"]);
    remove(host, "lan0");
}

/// Killed between the making of its ends and their naming: it has no alias, and its own link-layer address.
fn a_half_made_wire_is_taken_away(host: &Host) {
    namespaces(host, &["c1"]);
    let result = call(host, add("c1"), &config());
    let port = result["interfaces"][1]["name"].as_str().unwrap();
    host.sh(&format!("ip link set {port} alias ''"));
    call(host, del("c1"), &config());
    assert_eq!(links(host, "c1"), "lo\n");
    // Another of its name is not its own, with an alias or without.
    for alias in ["", "somebody's"] {
        call(host, add("c1"), &config());
        host.sh(&format!(
            "ip link del {port}; ip link add {port} type veth peer name other; ip link set {port} alias \"{alias}\""
        ));
        call(host, del("c1"), &config());
        host.sh(&format!("ip link del {port}"));
    }
    remove_namespaces(host, &["c1"]);
    remove(host, "lan0");
}

fn a_state_root_can_be_named(host: &Host) {
    namespaces(host, &["c1"]);
    let root = host.dir().join("root");
    let mut config = config();
    config["stateRoot"] = json!(root);
    call(host, add("c1"), &config);
    let root = root.to_str().unwrap();
    let listed = host.tincan(["--root", root, "network", "list"]).ok();
    assert!(listed.contains("c1@eth0"), "{listed}");
    assert_eq!(host.tincan(["network", "list", "-q"]).ok(), "");
    call(host, del("c1"), &config);
    host.tincan(["--root", root, "network", "rm", "lan0"]).ok();
    remove_namespaces(host, &["c1"]);
}
