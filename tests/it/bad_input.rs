//! What is asked for wrongly: one line that names the wrong word, where there is one a right word beside it, exit code 125, and
//! nothing made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::host::{Case, Host, tests};

pub fn tests() -> Vec<Case> {
    tests![
        values_of_net,
        values_of_net_together,
        ends_of_a_pair,
        ends_of_a_link,
        names,
        flags,
        root_file_systems,
        bundles,
        commands_that_cannot_be_executed,
        addresses_in_use,
        containers_that_are_not_there,
        containers_that_do_not_run,
        names_that_are_taken needs [Root],
        without_a_place_for_state_users_are_told needs [Root],
        without_root_a_plan_can_be_had needs [Root],
    ]
}

/// Fails with one line, and perhaps a hint, that has these texts, and makes nothing.
#[track_caller]
pub fn refused_with(host: &Host, args: &[&str], texts: &[&str]) {
    let before = host.differences();
    let said = host.tincan(args).fails(125);
    check(args, &said, texts);
    assert_eq!(host.differences(), before, "{args:?}");
}

/// The same with one text.
#[track_caller]
pub fn refused(host: &Host, args: &[&str], text: &str) {
    refused_with(host, args, &[text]);
}

#[track_caller]
fn check(args: &[&str], said: &str, texts: &[&str]) {
    // Shown when the test fails, and with --nocapture.
    eprintln!(
        "{}\n  {}",
        args.join(" "),
        said.trim_end().replace('\n', "\n  ")
    );
    for text in texts {
        assert!(said.contains(text), "{args:?}: no {text:?} in {said}");
    }
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("tincan: "), "{args:?}: {said}");
    let hint = lines[1..].iter().all(|line| line.starts_with("hint: "));
    assert!(lines.len() <= 2 && hint, "{args:?}: {said}");
    assert!(!said.contains("os error"), "{args:?}: {said}");
}

fn values_of_net(host: &Host) {
    let address = "172.16.0.1/16";
    for (value, wrong, right) in [
        ("", "`` is empty", address),
        (",", "``", address),
        ("172.16.0.1/33", "`/33`", address),
        ("172.16.0.1/-1", "`/-1`", address),
        ("172.16.0.1/", "`/`", address),
        ("172.16.0.256/16", "`172.16.0.256`", address),
        ("172.16.0/16", "`172.16.0`", address),
        ("fd00::1/129", "`/129`", "fd00::1/64"),
        ("fd00:::1/64", "`fd00:::1`", "fd00::1/64"),
        ("172.16.0.0/16", "`172.16.0.0/16`", address),
        ("172.16.255.255/16", "`172.16.255.255/16`", address),
        ("0.0.0.0/0", "`0.0.0.0/0`", address),
        ("224.0.0.1/4", "`224.0.0.1/4`", address),
        ("127.0.0.1/8", "`127.0.0.1/8`", address),
        ("172.16.0.1/16,172.16.0.1/24", "`172.16.0.1/24`", address),
        ("172.16.0.1/32", "`172.16.0.1/32`", "peer=172.16.0.2"),
        ("172.16.0.1/16,", "``", address),
        ("172.16.0.1/16 ,mtu=1500", "`/16 `", address),
        ("172.16.0.1/16,mtu=", "mtu ``", "mtu=1500"),
        ("172.16.0.1/16,mtu=big", "`big`", "mtu=1500"),
        ("172.16.0.1/16,mtu=67", "`67`", "mtu=1500"),
        ("172.16.0.1/16,mtu=65536", "`65536`", "mtu=1500"),
        (
            "172.16.0.1/16,mtu=1500,mtu=1400",
            "`mtu=1400`",
            "172.16.0.1/16",
        ),
        ("fd00::1/64,mtu=1279", "`1279`", "mtu=1500"),
        ("172.16.0.1/16,mac=02:00", "`02:00`", "02:00:00:00:00:01"),
        (
            "172.16.0.1/16,mac=01:00:00:00:00:01",
            "`01:00:00:00:00:01`",
            "02:00:00:00:00:01",
        ),
        (
            "172.16.0.1/16,mac=00:00:00:00:00:00",
            "`00:00:00:00:00:00`",
            "02:00:00:00:00:01",
        ),
        ("172.16.0.1/16,gw=there", "`there`", "gw=172.16.0.2"),
        ("172.16.0.1/16,gw=10.0.0.1", "`10.0.0.1`", "172.16.0.1/16"),
        (
            "172.16.0.1/16,gw=172.16.0.1",
            "`172.16.0.1`",
            "172.16.0.1/16",
        ),
        ("172.16.0.1/16,gw=fd00::1", "`fd00::1`", "172.16.0.1/16"),
        (
            "172.16.0.1/16,route=away",
            "`away`",
            "route=10.0.0.0/8@172.16.0.2",
        ),
        (
            "172.16.0.1/16,route=10.0.0.0/8@there",
            "`10.0.0.0/8@there`",
            "route=10.0.0.0/8@172.16.0.2",
        ),
        (
            "172.16.0.1/16,route=10.0.0.0/8@fd00::1",
            "`10.0.0.0/8@fd00::1`",
            "route=10.0.0.0/8@172.16.0.2",
        ),
        (
            "172.16.0.1/16,route=10.0.0.0/8@9.9.9.9",
            "`9.9.9.9`",
            "172.16.0.1/16",
        ),
        ("172.16.0.1/16,name=", "interface name ``", "eth0"),
        (
            "172.16.0.1/16,name=sixteen-letters-",
            "`sixteen-letters-` is 16 bytes long, over the kernel's 15",
            "eth0",
        ),
        ("172.16.0.1/16,name=a/b", "`a/b`", "eth0"),
        ("172.16.0.1/16,name=lo", "`lo`", "name=eth0"),
        (
            "172.16.0.1/16,peer=172.16.0.1",
            "`172.16.0.1/32`",
            "peer=172.16.0.2",
        ),
        (
            "172.16.0.1/16,peer=fd00::1",
            "`fd00::1/128`",
            "peer=172.16.0.2",
        ),
        ("172.16.0.1/16,peer=x", "`x`", "172.16.0.1/16"),
        ("172.16.0.1/16,to=a/b", "`a/b`", "ns1"),
        (
            "172.16.0.1/16,colour=red",
            "`colour`",
            "mac, mtu, gw, route, name, to, peer",
        ),
        ("to=ns1", "`to=ns1`", address),
        ("mtu=1500", "`mtu=1500`", address),
        (
            "nonsense",
            "network nonsense does not exist",
            "`tincan network list`",
        ),
        (
            "None",
            "network None does not exist",
            "`tincan network list`",
        ),
        ("lan0,10.0.0.1/24", "`10.0.0.1/24`", "lan0,10.9.0.7"),
        ("lan0,gw=10.0.0.1", "`gw`", "mac, mtu, name, route"),
        ("lan 0", "`lan 0`", "lan0"),
        ("container:", "container name ``", "ns1"),
        ("container:a/b", "`a/b`", "ns1"),
        ("ns:", "`ns:`", "ns:blue"),
        ("ns:blue,mtu=1500", "`ns:blue,mtu=1500`", "ns:blue"),
        ("ns:gone", "/run/netns/gone does not exist", "ip netns list"),
        ("macvlan", "`macvlan` names no link", "macvlan:eth0,"),
        ("macvlan:gone", "no link gone on the host", "`ip link`"),
        ("macvlan:lo,to=a", "`to=a` is of a wire", "macvlan:eth0,"),
        (
            "macvlan:lo,mode=l2",
            "`l2`",
            "bridge, private, vepa, passthru",
        ),
        ("ipvlan:lo,mode=bridge", "`bridge`", "l2, l3, l3s"),
        ("vlan:lo,10.0.0.1/24", "has no tag (id=)", "vlan:eth0,id=5"),
        ("vlan:lo,id=4095", "`4095`", "1 to 4094"),
        (
            "vxlan:42",
            "has no other machine (remote=)",
            "vxlan:42,remote=",
        ),
        (
            "vxlan:42,remote=239.1.1.1",
            "`239.1.1.1`",
            "vxlan:42,remote=",
        ),
        ("tap:tap0", "`tap0`", "name="),
        ("tap,mac=x", "`x`", "02:00:00:00:00:01"),
        ("wireguard:", "`wireguard:`", "/etc/wireguard/wg0.conf"),
        ("phys:", "`phys:`", "phys:eth1"),
    ] {
        refused_with(
            host,
            &["run", "--net", value, "--", "true"],
            &[wrong, right],
        );
    }
}

fn values_of_net_together(host: &Host) {
    for (first, second, wrong) in [
        ("none", "172.16.0.1/16", "`none` does not go together"),
        ("172.16.0.1/16", "host", "`host` does not go together"),
        ("container:a", "ns:b", "`container:a` does not go together"),
        (
            "172.16.0.1/16",
            "172.16.0.1/24",
            "`172.16.0.1/24` is given to two",
        ),
        (
            "172.16.0.1/16,name=eth1",
            "172.17.0.1/16",
            "`eth1` is given to two",
        ),
        (
            "172.16.0.1/16,gw=172.16.0.2",
            "10.0.0.1/8,gw=10.0.0.2",
            "`0.0.0.0/0` goes through two",
        ),
    ] {
        let args = ["run", "--net", first, "--net", second, "--", "true"];
        refused_with(host, &args, &[wrong, "a right one is"]);
    }
    let args = [
        "run",
        "--share",
        "network",
        "--net",
        "172.16.0.1/16",
        "--",
        "true",
    ];
    refused_with(host, &args, &["`--share network`", "`--net`"]);
}

fn ends_of_a_pair(host: &Host) {
    const B: &str = "b=172.16.0.2/16";
    for (first, wrong) in [
        ("", "end ``"),
        ("a", "`a` has no `=`"),
        ("172.16.0.1/16", "`172.16.0.1/16` has no `=`"),
        ("a=", "``"),
        ("=172.16.0.1/16", "container name ``"),
        ("a=172.16.0.1/33", "`/33`"),
        ("a=172.16.0.1/16,to=b", "`to=b`"),
        ("a=172.16.0.1/16,peer=172.16.0.2", "`peer=172.16.0.2`"),
        (
            "a=172.16.0.1/16,name=sixteen-letters-",
            "`sixteen-letters-` is 16 bytes long",
        ),
        ("a=172.16.0.1/16,rootfs=", "`rootfs=`"),
        ("a=172.16.0.2/16", "`172.16.0.2/16` is given to both ends"),
        ("a=fd00::1/64", "`172.16.0.2/16` is of a family"),
        ("a/b=172.16.0.1/16", "`a/b`"),
    ] {
        refused_with(
            host,
            &["pair", first, B, "--", "true"],
            &[wrong, "a right one is"],
        );
    }
    refused_with(
        host,
        &["pair", B, B],
        &["both ends are in b", "ns1=172.16.0.1/16 ns2="],
    );
    refused_with(host, &["pair", B], &["<SECOND>", "tincan pair --help"]);
    let gone = ["pair", "--rootfs", "gone", "a=172.16.0.1/16", B];
    refused_with(host, &gone, &["root file system gone: ", "--rootfs"]);
}

fn ends_of_a_link(host: &Host) {
    host.tincan(["run", "-d", "--name", "c", "--", "sleep", "1000"])
        .ok();
    for (ends, wrong) in [
        (["c=10.0.0.1/24", "c=10.0.0.2/24"], "both ends are in c"),
        (
            ["c=10.0.0.1/24", "gone=10.0.0.2/24"],
            "container gone does not exist",
        ),
        (["c=10.0.0.1/24,rootfs=/x", "host=10.0.0.2/24"], "rootfs=/x"),
        (["c=10.0.0.1/24,name=lo", "host=10.0.0.2/24"], "`lo`"),
        (["c", "host=10.0.0.2/24"], "`c` has no `=`"),
    ] {
        refused(host, &["link", "add", ends[0], ends[1]], wrong);
    }
    refused(
        host,
        &["link", "add", "c=10.0.0.1/24"],
        "the wire of c has one end",
    );
    refused(
        host,
        &["link", "del", "c", "eth7"],
        "c: delete the link eth7",
    );
    refused(
        host,
        &["link", "del", "gone", "eth0"],
        "container gone does not exist",
    );
    refused(host, &["link", "del", "c", "a/b"], "`a/b`");
    host.tincan(["delete", "-f", "c"]).ok();
}

fn names(host: &Host) {
    let long = "x".repeat(129);
    for (name, wrong) in [
        ("", "container name ``"),
        ("a/b", "`a/b` has a '/'"),
        ("..", "`..`"),
        (".hidden", "`.hidden`"),
        ("a b", "`a b`"),
        ("naïve", "`naïve`"),
        (long.as_str(), "is longer than 128 bytes"),
    ] {
        let wanted = [wrong, "a right one is `ns1`"];
        refused_with(host, &["run", "--name", name, "--", "true"], &wanted);
        for verb in ["run", "create", "start", "state", "kill", "delete"] {
            refused_with(host, &[verb, name], &wanted);
        }
        refused_with(host, &["exec", name, "true"], &wanted);
    }
    for name in ["a/b", "..", "."] {
        let option = format!("--netns-name={name}");
        refused(host, &["run", &option, "--", "true"], &format!("`{name}`"));
    }
}

fn flags(host: &Host) {
    for (args, wrong, right) in [
        (&["moon"][..], "'moon'", "tincan --help"),
        (
            &["run", "--moon", "--", "true"],
            "'--moon'",
            "tincan run --help",
        ),
        (&["run"], "neither a command nor", "tincan run -- COMMAND"),
        (&["run", "true"], "true", "--"),
        (&["run", "c", "--", "true"], "`c`", "--name c"),
        (
            &["run", "--name", "c"],
            "neither a command nor",
            "tincan run -- COMMAND",
        ),
        (
            &["run", "--share", "moon", "--", "true"],
            "'moon'",
            "network",
        ),
        (
            &["run", "--read-only", "--", "true"],
            "--rootfs",
            "tincan run --help",
        ),
        (
            &[
                "run",
                "--rootfs",
                ".",
                "--read-only",
                "--writable",
                "--",
                "true",
            ],
            "--writable",
            "tincan run --help",
        ),
        (
            &["run", "--tty", "--", "true"],
            "--rootfs",
            "tincan run --help",
        ),
        (
            &["run", "--preserve-fds", "x", "--", "true"],
            "'x'",
            "tincan run --help",
        ),
        (
            &["run", "--format", "json", "--", "true"],
            "--dry-run",
            "tincan run --help",
        ),
        (
            &["run", "--dry-run", "--format", "xml", "--", "true"],
            "'xml'",
            "json",
        ),
        (&["list", "--format", "xml"], "'xml'", "json"),
        (&["kill", "c", "SIGMOON"], "`SIGMOON`", "SIGTERM"),
        (&["kill", "c", "65"], "`65`", "SIGTERM"),
        (&["state"], "<ID>", "tincan state --help"),
        (&["--log-format", "xml", "list"], "'xml'", "json"),
    ] {
        refused_with(host, args, &[wrong, right]);
    }
}

fn root_file_systems(host: &Host) {
    fs::write(host.dir().join("file"), "").expect("the directory is writable");
    for (rootfs, wrong) in [
        ("file", "root file system file is no directory"),
        ("gone", "root file system gone: No such file or directory"),
        ("file/below", "root file system file/below: Not a directory"),
    ] {
        let args = ["run", "--rootfs", rootfs, "--", "true"];
        refused_with(host, &args, &[wrong, "--rootfs rootfs/busybox"]);
        let end = format!("a=10.0.0.1/24,rootfs={rootfs}");
        refused(host, &["pair", &end, "b=10.0.0.2/24"], wrong);
    }
}

/// A bundle directory with this in its `config.json`, and nothing else.
fn bare_bundle(host: &Host, name: &str, config: &str) -> PathBuf {
    let dir = host.dir().join(name);
    fs::create_dir(&dir).expect("a name of its own");
    fs::write(dir.join("config.json"), config).expect("the directory is writable");
    dir
}

fn bundles(host: &Host) {
    fs::write(host.dir().join("file"), "").expect("the directory is writable");
    fs::create_dir(host.dir().join("empty")).expect("a name of its own");
    let mut table: Vec<(PathBuf, &str)> = vec![
        ("gone".into(), "bundle gone: No such file or directory"),
        ("file".into(), "bundle file is no directory"),
        ("empty".into(), "config.json: No such file or directory"),
    ];
    for (name, config, wrong) in [
        ("nothing", "", "config.json"),
        ("broken", "{\"ociVersion\": \"1.0.2\",", "config.json"),
        ("list", "[]", "config.json"),
        ("bare", "{}", "ociVersion"),
        ("number", "{\"ociVersion\": 1}", "ociVersion"),
        (
            "old",
            "{\"ociVersion\": \"9.0.0\", \"process\": {\"args\": [\"true\"], \"cwd\": \"/\"}, \"root\": {\"path\": \"rootfs\"}}",
            "9.0.0",
        ),
    ] {
        table.push((bare_bundle(host, name, config), wrong));
    }
    for (name, pointer, value, wrong) in [
        (
            "args",
            "/process/args",
            serde_json::json!("sh"),
            "process.args",
        ),
        (
            "noargs",
            "/process/args",
            serde_json::json!([]),
            "process.args",
        ),
        (
            "cwd",
            "/process/cwd",
            serde_json::json!("tmp"),
            "process.cwd",
        ),
        (
            "limit",
            "/process/rlimits/0/type",
            serde_json::json!("RLIMIT_MOON"),
            "RLIMIT_MOON",
        ),
        (
            "kind",
            "/linux/namespaces/0/type",
            serde_json::json!("moon"),
            "moon",
        ),
        (
            "mount",
            "/mounts/0/destination",
            serde_json::json!(7),
            "mounts",
        ),
        ("uid", "/process/user/uid", serde_json::json!(-1), "uid"),
        ("noroot", "/root", serde_json::json!(null), "root"),
        (
            "rootless",
            "/root/path",
            serde_json::json!("nowhere"),
            "nowhere",
        ),
        (
            "rootfile",
            "/root/path",
            serde_json::json!("config.json"),
            "config.json",
        ),
    ] {
        let dir = host.bundle(name, |spec| {
            *spec.pointer_mut(pointer).expect("the template has it") = value;
        });
        table.push((dir, wrong));
    }
    for (bundle, wrong) in &table {
        let bundle = bundle.to_str().expect("text");
        for verb in ["create", "run"] {
            refused(host, &[verb, "--bundle", bundle, "c"], wrong);
        }
    }
}

fn commands_that_cannot_be_executed(host: &Host) {
    fs::write(host.dir().join("plain"), "no program").expect("the directory is writable");
    fs::write(host.dir().join("garbage"), "no program").expect("the directory is writable");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(host.dir().join("garbage"), executable).expect("it is ours");
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().expect("text");
    let before = host.differences();
    for (program, code) in [
        ("no-such-program", 127),
        ("/no/such/program", 127),
        ("/etc/passwd/x", 127),
        ("", 127),
        ("./plain", 126),
        ("./garbage", 126),
        ("/etc", 126),
    ] {
        for start in [
            &["run", "--"][..],
            &["run", "-d", "--"],
            &["run", "--net", "172.16.0.1/16", "--"],
            &["pair", "a=172.16.0.1/16", "b=172.16.0.2/16", "--"],
            &["run", "--rootfs", rootfs, "--"],
        ] {
            let in_rootfs = start.contains(&"--rootfs");
            if in_rootfs && program.starts_with("./") {
                continue;
            }
            let args: Vec<&str> = start.iter().copied().chain([program]).collect();
            let said = host.tincan(&args).fails(code);
            check(&args, &said, &[&format!("exec: \"{program}\": ")]);
            host.wait_until("nothing is left", || host.differences() == before);
        }
    }
}

fn stays(host: &Host, name: &str, net: &str) {
    host.tincan([
        "run", "-d", "--name", name, "--net", net, "--", "sleep", "1000",
    ])
    .ok();
}

fn addresses_in_use(host: &Host) {
    // Without link-local addresses, whose routes come only when nobody else has been found to have them.
    host.sh(
        "ip link add here type veth peer name there; ip link set here addrgenmode none; ip link set there addrgenmode none
         ip address add 10.9.0.1/24 dev here
         ip address add fd09::1/64 dev here nodad; ip link set here up; ip link set there up",
    );
    host.wait_until("both ends have their routes", || {
        let routes =
            host.sh("ip -6 route show table all; ip -br link show here; ip -br link show there");
        routes.matches("multicast ff00::/8").count() == 2 && routes.matches(" UP ").count() == 2
    });
    stays(host, "c", "172.16.0.1/16");
    for (value, wrong) in [
        (
            "10.9.0.1/24",
            "address 10.9.0.1 is in use on the host: link here",
        ),
        (
            "fd09::1/64",
            "address fd09::1 is in use on the host: link here",
        ),
        (
            "10.9.0.7/24,peer=10.9.0.1",
            "address 10.9.0.1 is in use on the host: link here",
        ),
        (
            "172.16.0.1/16",
            "address 172.16.0.1 is in use on the host: container c, link veth-c",
        ),
        (
            "10.0.0.2/24,to=c,peer=172.16.0.1",
            "address 172.16.0.1 is in use in c: link eth0",
        ),
        (
            "172.16.0.1/24,to=c,peer=172.16.0.9",
            "address 172.16.0.1 is in use in c: link eth0",
        ),
    ] {
        refused(host, &["run", "--net", value, "--", "true"], wrong);
    }
    let taken = "address 172.16.0.1 is in use in c";
    refused(host, &["pair", "n=10.0.0.1/24", "c=172.16.0.1/16"], taken);
    refused(
        host,
        &["link", "add", "c=172.16.0.1/16", "host=10.0.0.1/24"],
        taken,
    );
    let taken = "address 10.9.0.1 is in use";
    refused(
        host,
        &["link", "add", "c=10.0.0.1/24", "host=10.9.0.1/24"],
        taken,
    );
    host.tincan(["delete", "-f", "c"]).ok();
    host.sh("ip link del here");
}

fn containers_that_are_not_there(host: &Host) {
    let hint = "`tincan list` shows";
    for args in [
        &["state", "gone"][..],
        &["start", "gone"],
        &["kill", "gone"],
        &["delete", "gone"],
        &["exec", "gone", "true"],
        &["run", "--net", "container:gone", "--", "true"],
        &["run", "--net", "10.0.0.1/24,to=gone", "--", "true"],
        &["link", "add", "gone=10.0.0.1/24", "host=10.0.0.2/24"],
    ] {
        refused_with(host, args, &["container gone does not exist", hint]);
    }
}

fn containers_that_do_not_run(host: &Host) {
    host.tincan(["run", "-d", "--name", "c", "--", "true"]).ok();
    host.wait_until("the container is stopped", || {
        host.tincan(["state", "c"]).ok().contains("stopped")
    });
    for args in [
        &["exec", "c", "true"][..],
        &["run", "--net", "container:c", "--", "true"],
        &["run", "--net", "10.0.0.1/24,to=c", "--", "true"],
        &["link", "add", "c=10.0.0.1/24", "host=10.0.0.2/24"],
    ] {
        refused(host, args, "c: container not running");
    }
    refused(
        host,
        &["start", "c"],
        "c: cannot start a container that is stopped",
    );
    refused(host, &["kill", "c"], "c: container not running");
    host.tincan(["delete", "c"]).ok();
}

fn names_that_are_taken(host: &Host) {
    stays(host, "c", "172.16.0.1/16");
    let bundle = host.bundle("bundle", |_| ());
    let bundle = bundle.to_str().expect("text");
    for args in [
        &["run", "--name", "c", "--", "true"][..],
        &["run", "--name", "c", "--net", "10.0.0.1/24", "--", "true"],
        &["run", "-b", bundle, "c"],
        &["create", "-b", bundle, "c"],
    ] {
        let wanted = [
            "c: a container of this name is running already",
            "tincan delete --force c",
        ];
        refused_with(host, args, &wanted);
    }
    host.sh("ip netns add blue");
    let args = ["run", "--name", "d", "--netns-name=blue", "--", "true"];
    refused(
        host,
        &args,
        "d: name its network namespace blue: File exists",
    );
    host.sh("ip netns del blue");
    host.tincan(["delete", "-f", "c"]).ok();
}

/// tincan as a user who may do nothing.
fn as_nobody(host: &Host, args: &[&str]) -> super::host::Run {
    // The build's directory may be closed to others.
    let open = host.dir().join("tincan");
    if !open.exists() {
        fs::copy(Host::TINCAN, &open).expect("the program is readable");
    }
    let open = open.to_str().expect("text").to_owned();
    let nobody = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--",
        &open,
    ];
    host.command("setpriv", nobody.iter().chain(args))
}

fn without_a_place_for_state_users_are_told(host: &Host) {
    let before = host.differences();
    let bundle = host.bundle("state", |_| {});
    let bundle = bundle.to_str().expect("text");
    for args in [
        &["run", "--", "true"][..],
        &["run", "-b", bundle, "c"],
        &["pair", "a=10.0.0.1/24", "b=10.0.0.2/24"],
        &["create", "-b", bundle, "c"],
        &["unshare", "true"],
    ] {
        let said = as_nobody(host, args).fails(125);
        check(
            args,
            &said,
            &["/run/user/65534", "XDG_RUNTIME_DIR", "--root"],
        );
    }
    for args in [
        &["start", "c"][..],
        &["state", "c"],
        &["kill", "c"],
        &["delete", "c"],
        &["exec", "c", "true"],
        &["link", "del", "c", "eth0"],
    ] {
        let said = as_nobody(host, args).fails(125);
        check(args, &said, &["container c does not exist", "list"]);
    }
    assert_eq!(as_nobody(host, &["list", "-q"]).ok(), "");
    assert_eq!(as_nobody(host, &["gc"]).ok(), "");
    assert_eq!(host.differences(), before);
}

fn without_root_a_plan_can_be_had(host: &Host) {
    assert!(as_nobody(host, &["--help"]).ok().contains("Usage:"));
    assert!(as_nobody(host, &["run", "--help"]).ok().contains("--net"));
    assert!(as_nobody(host, &["--version"]).ok().starts_with("tincan "));
    let net = [
        "run",
        "--dry-run",
        "--name",
        "c",
        "--net",
        "172.16.0.1/16",
        "--",
        "true",
    ];
    let theirs = as_nobody(host, &net).ok();
    assert!(theirs.contains("172.16.0.2"), "{theirs}");
    let pair = ["pair", "--dry-run", "a=10.0.0.1/24", "b=10.0.0.2/24"];
    assert_eq!(as_nobody(host, &pair).ok(), host.tincan(pair).ok());
    let open = host.dir().join("open");
    fs::create_dir(&open).expect("a name of its own");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("it is ours");
    as_nobody(host, &["spec"]).in_dir(&open).ok();
    assert!(open.join("config.json").exists());
}
