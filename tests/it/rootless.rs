//! A user who is not root: the same commands, in the user's own namespaces, and nothing left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::dns::{ResolvConf, Upstream};
use super::host::{Case, Host, tests};
use super::machine::{RUNTIME, SUBIDS, USER};

pub fn tests() -> Vec<Case> {
    tests![
        a_users_container_is_wired_to_the_users_host needs [Root],
        a_users_containers_are_wired_to_each_other needs [Root],
        later_commands_join_what_the_first_one_made needs [Root],
        ids_are_those_of_subuid needs [Root],
        without_subids_root_is_the_only_one needs [Root],
        a_bundle_has_the_users_ids needs [Root],
        a_created_container_is_wired_and_entered needs [Root],
        limits_that_are_not_delegated_are_told_once needs [Root],
        limits_are_those_of_a_cgroup_that_is_delegated needs [Root, CgroupV2],
        the_machines_network_is_kept_with_host needs [Root],
        forbidden_user_namespaces_are_told needs [Root],
        the_root_of_a_user_namespace_leaves_the_machines_network needs [Root],
        a_missing_helper_is_told needs [Root],
        a_broken_helper_is_told needs [Root],
        a_full_or_closed_place_for_state_is_told needs [Root],
        a_holder_that_was_killed_is_told needs [Root],
        a_network_outlasts_the_users_namespaces needs [Root, Nftables],
        a_users_network_answers_dns needs [Root, Nftables],
        the_machine_has_nothing_of_it needs [Root],
        the_outside_is_reached_and_comes_in needs [Root],
        without_a_way_outside_users_are_told needs [Root],
        #[cfg(feature = "faults")]
        a_fault_at_every_step_leaves_nothing needs [Root],
    ]
}

/// The file that names the process which holds the user's namespaces.
fn holder() -> Option<i32> {
    let text = fs::read_to_string(Path::new(RUNTIME).join("tincan/.user")).ok()?;
    text.split(' ').next()?.parse().ok()
}

fn a_users_container_is_wired_to_the_users_host(host: &Host) {
    let script = "ip -br addr show eth0; ping -c1 -W1 172.16.0.2 >/dev/null && id -u";
    let said = host
        .user_tincan(["run", "--net", "172.16.0.1/16", "--", "sh", "-c", script])
        .ok();
    assert!(said.contains("172.16.0.1/16"), "{said}");
    assert!(said.ends_with("\n0\n"), "{said}");
    assert_eq!(holder(), None);
    host.user_tincan(["run", "--", "sh", "-c", "exit 7"])
        .fails(7);
    host.user_tincan(["run", "--", "no-such-program"])
        .fails(127);
}

fn a_users_containers_are_wired_to_each_other(host: &Host) {
    let pair = ["pair", "a=10.0.0.1/24", "b=10.0.0.2/24"];
    let ping = ["--", "ping", "-c1", "-W1", "10.0.0.2"];
    let said = host.user_tincan(pair.iter().chain(&ping)).ok();
    assert!(said.contains(" 0% packet loss"), "{said}");
    host.user_tincan(pair).ok();
    let list = host.user_tincan(["link", "list"]).ok();
    assert!(list.contains("a:eth0") && list.contains("b:eth0"), "{list}");
    host.user_tincan(["exec", "b", "ping", "-c1", "-W1", "10.0.0.1"])
        .ok();
    host.user_tincan(["delete", "--force", "a"]).ok();
    assert!(holder().is_some());
    host.user_tincan(["delete", "--force", "b"]).ok();
    assert_eq!(holder(), None);
}

fn later_commands_join_what_the_first_one_made(host: &Host) {
    let run = ["run", "-d", "--name"];
    let sleep = ["--", "sleep", "1000"];
    let first = ["a", "--net", "172.16.0.1/16"];
    host.user_tincan(run.iter().chain(&first).chain(&sleep))
        .ok();
    let made = holder();
    assert!(made.is_some());
    let second = ["b", "--net", "172.16.0.3/16"];
    host.user_tincan(run.iter().chain(&second).chain(&sleep))
        .ok();
    assert_eq!(holder(), made);
    let ping = "ping -c1 -W1 172.16.0.1 && ping -c1 -W1 172.16.0.3";
    host.user_tincan(["unshare", "--", "sh", "-euc", ping]).ok();
    let wired = ["run", "--net", "10.1.0.1/24,to=a,peer=10.1.0.2/24", "--"];
    host.user_tincan(wired.iter().chain(&["ping", "-c1", "-W1", "10.1.0.2"]))
        .ok();
    host.user_tincan(["link", "add", "a=10.2.0.1/24,name=wire0", "b=10.2.0.2/24"])
        .ok();
    host.user_tincan(["exec", "a", "ping", "-c1", "-W1", "10.2.0.2"])
        .ok();
    host.user_tincan(["link", "del", "a", "wire0"]).ok();
    // The command's end frees what was raised beside it, and not what others use.
    assert_eq!(holder(), made);
    for name in ["a", "b"] {
        host.user_tincan(["delete", "--force", name]).ok();
    }
    assert_eq!(holder(), None);
}

fn ids_are_those_of_subuid(host: &Host) {
    let (first, count) = SUBIDS;
    let map = host
        .user_tincan([
            "run",
            "--",
            "cat",
            "/proc/self/uid_map",
            "/proc/self/gid_map",
        ])
        .ok();
    let numbers: Vec<u32> = map.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let one = [0, USER, 1, 1, first, count];
    assert_eq!(numbers, [one, one].concat());
}

fn without_subids_root_is_the_only_one(host: &Host) {
    host.sh("mount --bind /dev/null /etc/subuid; mount --bind /dev/null /etc/subgid");
    let map = host
        .user_tincan([
            "run",
            "--",
            "cat",
            "/proc/self/uid_map",
            "/proc/self/gid_map",
        ])
        .ok();
    let numbers: Vec<u32> = map.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert_eq!(numbers, [0, USER, 1, 0, USER, 1]);
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    let own = format!("{RUNTIME}/rootfs");
    host.sh(&format!(
        "cp -a {rootfs} {own}; chown -R {USER}:{USER} {own}"
    ));
    // The terminals cannot be given to a group that is not there.
    host.user_tincan([
        "run",
        "--rootfs",
        &own,
        "--net",
        "10.0.0.1/24",
        "--",
        "true",
    ])
    .ok();
    let bundle = user_bundle(host, "other", r#"s/"uid":0/"uid":33/"#);
    let said = host.user_tincan(["run", "-b", &bundle, "c"]).fails(125);
    assert!(
        said.contains("33") && said.contains("/etc/subuid"),
        "{said}"
    );
    host.sh(&format!(
        "umount /etc/subuid /etc/subgid; rm -rf {RUNTIME}/*"
    ));
}

/// A bundle of the user's, `config.json` changed by sed(1).
fn user_bundle(host: &Host, name: &str, change: &str) -> String {
    let bundle = host.bundle(name, |_| {});
    let bundle = bundle.to_str().unwrap();
    let own = format!("{RUNTIME}/{name}");
    host.sh(&format!(
        "sed -i '{change}' {bundle}/config.json; cp -a {bundle} {own}; chown -R {USER}:{USER} {own}"
    ));
    own
}

fn a_bundle_has_the_users_ids(host: &Host) {
    let bundle = user_bundle(host, "ids", r#"s/"sh"/"id"/"#);
    assert!(
        host.user_tincan(["run", "-b", &bundle, "c"])
            .ok()
            .starts_with("uid=0(root) gid=0(root)")
    );
    // As `runc spec --rootless` has it: a user namespace of its own, with the machine's id of the user.
    let rootless = format!("{RUNTIME}/rootless");
    host.sh(&format!(
        "cp -a {bundle} {rootless}; rm {rootless}/config.json"
    ));
    host.user_tincan(["spec", "--rootless", "-b", &rootless])
        .ok();
    host.sh(&format!(r#"sed -i 's/"terminal":true/"terminal":false/; s/"terminal": true/"terminal": false/; s/"sh"/"id"/' {rootless}/config.json"#));
    assert!(
        host.user_tincan(["run", "-b", &rootless, "c"])
            .ok()
            .starts_with("uid=0(root) gid=0(root)")
    );
    host.sh(&format!(
        r#"sed -i 's/"hostID": *{USER}/"hostID":77/' {rootless}/config.json"#
    ));
    let said = host.user_tincan(["run", "-b", &rootless, "c"]).fails(125);
    assert!(said.contains("77 is no id of yours"), "{said}");
    host.sh(&format!("rm -rf {RUNTIME}/*"));
}

fn a_created_container_is_wired_and_entered(host: &Host) {
    let bundle = user_bundle(host, "life", r#"s/"sh"/"sleep","1000"/"#);
    let create = format!(
        "exec {} create -b {bundle} c </dev/null >/dev/null 2>&1",
        super::machine::TINCAN
    );
    host.user("sh", ["-c", &create]).ok();
    host.user_tincan(["link", "add", "c=10.0.0.1/24", "host=10.0.0.2/24"])
        .ok();
    host.user_tincan(["start", "c"]).ok();
    host.user_tincan(["exec", "c", "ip", "addr"]).ok();
    assert!(host.user_tincan(["state", "c"]).ok().contains("running"));
    host.user_tincan(["kill", "c", "KILL"]).ok();
    host.wait_until("it is gone", || {
        host.user_tincan(["state", "c"]).ok().contains("stopped")
    });
    host.user_tincan(["delete", "c"]).ok();
    assert_eq!(holder(), None);
    host.sh(&format!("rm -rf {RUNTIME}/*"));
}

fn limits_that_are_not_delegated_are_told_once(host: &Host) {
    let bundle = user_bundle(
        host,
        "limits",
        r#"s/"sh"/"true"/; s/"resources":{/"resources":{"pids":{"limit":10},"memory":{"limit":100000000},/"#,
    );
    let said = host
        .user_tincan(["run", "-b", &bundle, "c"])
        .any_stderr()
        .assert();
    let said = String::from_utf8_lossy(&said.success().get_output().stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("memory.limit") && said.contains("pids.limit"),
        "{said}"
    );
    host.sh(&format!("rm -rf {RUNTIME}/*"));
}

/// As an administrator delegates by hand: the directory and the two files are the user's (cgroups(7), "Cgroups delegation").
fn limits_are_those_of_a_cgroup_that_is_delegated(host: &Host) {
    let bundle = user_bundle(
        host,
        "delegated",
        r#"s/"sh"/"cat","\/proc\/self\/cgroup"/; s/"resources":{/"resources":{"pids":{"limit":10},/"#,
    );
    host.sh(&format!(
        "cd /sys/fs/cgroup; echo +pids >cgroup.subtree_control; mkdir -p users users/session
        chown {USER}:{USER} users users/cgroup.procs users/cgroup.subtree_control users/session users/session/cgroup.procs"
    ));
    let in_session = |command: &str| {
        let line = format!(
            "echo $$ >/sys/fs/cgroup/users/session/cgroup.procs
            XDG_RUNTIME_DIR={RUNTIME} exec setpriv --reuid {USER} --regid {USER} --clear-groups {command}"
        );
        host.command("sh", ["-euc", &line])
    };
    let tincan = super::machine::TINCAN;
    let said = in_session(&format!("{tincan} run -b {bundle} c")).ok();
    assert_eq!(said, "0::/\n");
    let stay = r#"sed -i 's/"cat","\/proc\/self\/cgroup"/"sleep","1000"/' "#;
    host.sh(&format!("{stay} {bundle}/config.json"));
    let detached = format!("sh -c '{tincan} run -d -b {bundle} c </dev/null >/dev/null 2>&1'");
    in_session(&detached).ok();
    let limits = "find /sys/fs/cgroup/users -path '*/c/pids.max' | xargs cat";
    assert_eq!(host.sh(limits), "10\n");
    in_session(&format!("{tincan} delete --force c")).ok();
    assert_eq!(host.sh(limits), "");
    host.sh(&format!(
        "cd /sys/fs/cgroup; find users -depth -type d -exec rmdir {{}} +; rm -rf {RUNTIME}/*"
    ));
}

fn the_machines_network_is_kept_with_host(host: &Host) {
    let inside = host
        .user_tincan([
            "run",
            "--net",
            "host",
            "--",
            "readlink",
            "/proc/self/ns/net",
        ])
        .ok();
    assert_eq!(inside, host.sh("readlink /proc/self/ns/net"));
    let named = ["run", "--netns-name=blue", "--", "true"];
    let said = host.user_tincan(named).fails(125);
    assert!(said.contains("/run/netns, which is root's"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
}

/// As under podman without root: the network namespace is the machine's, and who has left it may not come back.
fn the_root_of_a_user_namespace_leaves_the_machines_network(host: &Host) {
    let run = |net: &str| {
        let tincan = ["--user", "--map-root-user", Host::TINCAN];
        let command = ["run", "--net", net, "--", "ip", "-o", "-br", "address"];
        host.command("unshare", tincan.iter().chain(&command))
    };
    let said = run("none").ok();
    assert!(
        said.starts_with("lo ") && said.contains("127.0.0.1/8"),
        "{said}"
    );
    let said = run("10.0.0.1/24").fails(125);
    assert!(said.contains("Operation not permitted"), "{said}");
}

fn forbidden_user_namespaces_are_told(host: &Host) {
    // The limit is each user namespace's own: so one is made that may have none below it, and a user in there.
    let script = "unshare --user sleep 1000 & made=$!
        until [ $(readlink /proc/$made/ns/user) != $(readlink /proc/self/ns/user) ]; do :; done
        echo 0 0 100000 >/proc/$made/uid_map; echo 0 0 100000 >/proc/$made/gid_map
        nsenter -U -t $made -S 0 -G 0 sh -c '
            echo 0 >/proc/sys/user/max_user_namespaces
            exec setpriv --reuid 1 --regid 1 --clear-groups $0 run -- true' $0
        code=$?; kill $made; exit $code";
    let said = host
        .command("sh", ["-c", script, super::machine::TINCAN])
        .env("XDG_RUNTIME_DIR", open_dir(host))
        .fails(125);
    assert!(
        said.contains("user.max_user_namespaces is 0")
            && said.contains("sysctl user.max_user_namespaces="),
        "{said}"
    );
    assert_eq!(said.lines().count(), 2, "{said}");
    assert_eq!(host.sh("ls -A open/tincan"), "");
}

/// A directory for everybody.
fn open_dir(host: &Host) -> String {
    let open = host.dir().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    open.to_str().unwrap().to_owned()
}

fn a_missing_helper_is_told(host: &Host) {
    host.sh("mkdir bin; ln -s $(command -v true) bin/; mkdir -m 700 shut");
    let [bin, shut] = ["bin", "shut"].map(|name| host.dir().join(name).display().to_string());
    // A directory that a user may not search, as root's are after su(1), could have it.
    for path in [bin.clone(), format!("{shut}:{bin}")] {
        let said = host
            .user_tincan(["run", "--", "true"])
            .env("PATH", path)
            .fails(125);
        assert!(
            said.contains("newuidmap: PATH has none that you may run")
                && said.contains("apt-get install uidmap"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 2, "{said}");
        assert_eq!(holder(), None);
    }
}

fn a_broken_helper_is_told(host: &Host) {
    // Without its rights it can map nothing; as where somebody copied it.
    host.sh("mkdir bin; cp $(command -v newuidmap) bin/; chmod 755 bin/newuidmap");
    let path = format!(
        "{}:{}",
        host.dir().join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let said = host
        .user_tincan(["run", "--", "true"])
        .env("PATH", path)
        .fails(125);
    assert!(
        said.contains("newuidmap: ") && said.contains("set-user-ID"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 2, "{said}");
    assert_eq!(holder(), None);
}

fn a_full_or_closed_place_for_state_is_told(host: &Host) {
    host.sh("mkdir small; mount -t tmpfs -o nr_inodes=1,mode=777 tmpfs small");
    let small = host.dir().join("small");
    let said = host
        .user_tincan(["run", "--", "true"])
        .env("XDG_RUNTIME_DIR", &small)
        .fails(125);
    assert!(
        said.contains("No space left on device") && said.contains("--root"),
        "{said}"
    );
    host.sh("umount small");
    let closed = host.dir().join("closed");
    fs::create_dir(&closed).unwrap();
    let said = host
        .user_tincan(["run", "--", "true"])
        .env("XDG_RUNTIME_DIR", &closed)
        .fails(125);
    assert!(
        said.contains("Permission denied") && said.contains("--root"),
        "{said}"
    );
    // Nobody has logged in: neither the variable nor the directory that stands for it is there.
    let tincan = super::machine::TINCAN;
    let line = format!(
        "unset XDG_RUNTIME_DIR; exec setpriv --reuid 4711 --regid 4711 --clear-groups {tincan} run -- true"
    );
    let said = host.command("sh", ["-euc", &line]).fails(125);
    assert!(
        said.contains("/run/user/4711")
            && said.contains("XDG_RUNTIME_DIR")
            && said.contains("--root"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 2, "{said}");
    // One file short of what the first command needs.
    host.sh("mount -t tmpfs -o nr_inodes=4,mode=777 tmpfs small");
    let said = host
        .user_tincan(["run", "--", "true"])
        .env("XDG_RUNTIME_DIR", &small)
        .fails(125);
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(host.sh("ls -A small/tincan"), "");
    host.sh("umount small");
}

fn a_holder_that_was_killed_is_told(host: &Host) {
    host.user_tincan(["run", "-d", "--name", "a", "--", "sleep", "1000"])
        .ok();
    let holder_was = holder().unwrap();
    host.sh(&format!("kill -9 {holder_was}"));
    host.wait_until("the holder is gone", || {
        !Path::new(&format!("/proc/{holder_was}")).exists()
    });
    let said = host.user_tincan(["run", "--", "true"]).fails(125);
    assert!(
        said.contains("is gone")
            && said.contains("a is still in them")
            && said.contains("delete --force"),
        "{said}"
    );
    host.user_tincan(["delete", "--force", "a"]).ok();
    host.user_tincan(["run", "--", "true"]).ok();
    assert_eq!(holder(), None);
}

fn a_network_outlasts_the_users_namespaces(host: &Host) {
    let create = [
        "network",
        "create",
        "lan0",
        "--subnet",
        "10.9.0.0/24",
        "--subnet",
        "fd09::/64",
    ];
    host.user_tincan(create).ok();
    assert_eq!(holder(), None);
    assert!(!host.sh("ip -br link").contains("lan0"));
    let script = "ping -q -c1 -W5 10.9.0.1 >/dev/null && ping -q -c1 -W5 fd09::1 >/dev/null && ip -br address show eth0";
    for _ in 0..2 {
        let run = ["run", "--net", "lan0", "--", "sh", "-c", script];
        let said = host.user_tincan(run).ok();
        assert!(
            said.contains("10.9.0.2/24") && said.contains("fd09::2/64"),
            "{said}"
        );
    }
    let listed = host.user_tincan(["network", "list"]).ok();
    assert!(
        listed.contains("lan0") && listed.contains("down"),
        "{listed}"
    );
    assert_eq!(host.user_tincan(["gc"]).ok(), "");
    host.user_tincan(["network", "rm", "lan0"]).ok();
    assert_eq!(host.user_tincan(["network", "list", "-q"]).ok(), "");
    assert_eq!(holder(), None);
}

/// The names of the user's own networks; and everything else by the machine's servers, though the process is in the user's namespaces.
fn a_users_network_answers_dns(host: &Host) {
    let _resolv = ResolvConf::of(host, "nameserver 127.0.0.1\n");
    let _upstream = Upstream::at("127.0.0.1");
    for (name, four, six) in [
        ("lan0", "10.9.0.0/24", "fd09::/64"),
        ("lan1", "10.8.0.0/24", "fd08::/64"),
    ] {
        let create = [
            "network", "create", name, "--subnet", four, "--subnet", six, "--dns",
        ];
        host.user_tincan(create).ok();
        // With the last of the user's processes it goes.
        assert_eq!(holder(), None);
        host.wait_until("it is gone", || {
            host.sh("grep -l '^tincan-dns$' /proc/[0-9]*/comm || :")
                .is_empty()
        });
    }
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    // It has no /etc/resolv.conf, and gets one.
    host.sh(&format!("chown -R {USER}:{USER} {rootfs}"));
    let run = ["run", "--rootfs", rootfs, "--net", "lan0", "--net", "lan1"];
    // One question at a time: busybox may give two the same number, and takes the second answer for the first once more then.
    let look = "both() { nslookup -type=a $*; nslookup -type=aaaa $*; }; cat /etc/resolv.conf; \
        both web; both example.org; both example.org fd09::1";
    for _ in 0..2 {
        let named = ["--name", "web", "--", "sh", "-c", look];
        let said = host.user_tincan(run.iter().chain(&named)).ok();
        for part in [
            "nameserver 10.9.0.1",
            "nameserver fd08::1",
            "10.9.0.2",
            "fd09::2",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        // For both families, by that server.
        assert_eq!(said.matches("192.0.2.1").count(), 4, "{said}");
        assert_eq!(holder(), None);
    }
    host.user_tincan(["network", "rm", "lan0", "lan1"]).ok();
    assert_eq!(holder(), None);
}

fn the_machine_has_nothing_of_it(host: &Host) {
    let before = host.differences();
    host.user_tincan([
        "run",
        "-d",
        "--name",
        "a",
        "--net",
        "172.16.0.1/16",
        "--",
        "sleep",
        "1000",
    ])
    .ok();
    let more = host.differences();
    let more: Vec<&String> = more.iter().filter(|fact| !before.contains(fact)).collect();
    assert!(
        more.iter()
            .all(|fact| fact.contains(": process: ") || fact.contains(": state: ")),
        "{more:?}"
    );
    host.user_tincan(["delete", "--force", "a"]).ok();
}

/// Gives the machine an outside: a namespace `world` behind its default route; and lets users make tap devices, as Debian does.
fn outside(host: &Host) {
    host.sh(
        "ip netns add world
        ip link add out0 type veth peer name in0 netns world
        ip address add 192.0.2.1/24 dev out0; ip link set out0 up; ip route add default via 192.0.2.254
        ip -n world address add 192.0.2.254/24 dev in0; ip -n world link set in0 up; ip -n world link set lo up
        mkdir dev; mount -t tmpfs tmpfs dev; mknod dev/tun c 10 200; chmod 666 dev/tun
        mount --bind dev/tun /dev/net/tun",
    );
}

/// Takes it away again.
fn no_outside(host: &Host) {
    host.sh("umount /dev/net/tun dev; ip link del out0; ip netns del world");
}

fn the_outside_is_reached_and_comes_in(host: &Host) {
    outside(host);
    let rootfs = host.busybox_rootfs();
    let rootfs = rootfs.to_str().unwrap();
    let own = format!("{RUNTIME}/rootfs");
    host.sh(&format!("cp -a {rootfs} {own}; echo inside >{own}/index.html; chown -R {USER}:{USER} {own}; echo outside >index.html"));
    let mut world = host
        .command(
            "ip",
            [
                "netns",
                "exec",
                "world",
                "busybox",
                "httpd",
                "-f",
                "-p",
                "192.0.2.254:80",
            ],
        )
        .spawn();
    let fetch = "until wget -q -O- http://192.0.2.254/; do sleep 0.1; done";
    let run = ["run", "--rootfs", &own, "--net", "pasta"];
    let said = host
        .user_tincan(run.iter().chain(&["--", "sh", "-c", fetch]))
        .ok();
    assert_eq!(said, "outside\n");
    // -v says who asks; it is to be the one in the world.
    let log = format!("{RUNTIME}/log");
    let serve = format!(
        "exec {} run --rootfs {own} --writable -d --name web --net pasta -p 8080:80 -- sh -c 'exec httpd -f -v -p 80 -h / 2>/log'",
        super::machine::TINCAN
    );
    host.user("sh", ["-c", &serve]).ok();
    let asked = host.sh("for n in $(seq 100); do ip netns exec world busybox wget -q -O- http://192.0.2.1:8080/ 2>/dev/null && break; sleep 0.1; done");
    assert_eq!(asked, "inside\n");
    let said = fs::read_to_string(format!("{own}/log")).unwrap();
    assert!(said.contains("192.0.2.254"), "{log}: {said}");
    host.user_tincan(["delete", "--force", "web"]).ok();
    world.kill().unwrap();
    world.wait().unwrap();
    host.sh(&format!("rm -rf {RUNTIME}/*"));
    no_outside(host);
}

fn without_a_way_outside_users_are_told(host: &Host) {
    let run = ["run", "--net", "pasta", "--", "true"];
    outside(host);
    host.sh("ip route del default");
    let without_route = host.user_tincan(run).assert();
    // A pasta of 2025 goes on without one, and its container is alone with the machine.
    if without_route.get_output().status.code() != Some(0) {
        let said = String::from_utf8_lossy(&without_route.get_output().stderr).into_owned();
        without_route.code(125);
        assert!(
            said.contains("pasta: ") && said.contains("ip route"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 2, "{said}");
    }
    host.sh("mkdir bin; for tool in newuidmap newgidmap; do printf '#!/bin/sh\\nexec '$(command -v $tool)' \"$@\"' >bin/$tool; chmod 755 bin/$tool; done");
    let said = host
        .user_tincan(run)
        .env("PATH", format!("{}/bin", host.dir().display()))
        .fails(125);
    assert!(
        said.contains("pasta: it is not installed") && said.contains("apt-get install passt"),
        "{said}"
    );
    let said = host
        .user_tincan(["run", "-p", "80", "--", "true"])
        .fails(125);
    assert!(
        said.contains("`80:80` goes with a network: `--net lan0`, or `--net pasta`"),
        "{said}"
    );
    let said = host
        .tincan(["run", "--net", "pasta", "--", "true"])
        .fails(125);
    assert!(said.contains("not root"), "{said}");
    host.sh("ip route add default via 192.0.2.254; chmod 600 dev/tun");
    let said = host.user_tincan(run).fails(125);
    assert!(
        said.contains("tun") && said.contains("ls -l /dev/net/tun"),
        "{said}"
    );
    no_outside(host);
    assert_eq!(holder(), None);
}

/// More steps than anything here has.
#[cfg(feature = "faults")]
const MANY: usize = 500;

/// What the user's own namespaces take, and a container in them: after an error, and after a kill and `gc`, none of it is there.
#[cfg(feature = "faults")]
fn a_fault_at_every_step_leaves_nothing(host: &Host) {
    outside(host);
    for net in ["10.0.0.1/24", "pasta"] {
        let args = ["run", "--name", "a", "--net", net, "--", "true"];
        walk(host, &args);
    }
    no_outside(host);
}

#[cfg(feature = "faults")]
fn walk(host: &Host, args: &[&str]) {
    let state = Path::new(RUNTIME).join("tincan");
    for (side, least) in [
        ("user", 6),
        ("user-end", 2),
        ("host", 5),
        ("a", 5),
        ("undo", 1),
    ] {
        for kind in ["error", "kill"] {
            for step in 0.. {
                let fault = format!("{side}:{step}:{kind}");
                assert!(step < MANY, "{side} has no end");
                let run = host
                    .user_tincan(args)
                    .env("TINCAN_FAULT", &fault)
                    .any_stderr();
                let said = run.assert();
                let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
                if !said.contains(&format!("fault {fault}")) {
                    assert_eq!(said, "", "{fault}");
                    assert!(step >= least, "{side} has only {step} steps");
                    break;
                }
                // Half of them are met by the next run instead, which has the same name.
                if step % 2 == 0 {
                    host.user_tincan(["gc"]).any_stderr().ok();
                } else {
                    host.user_tincan(args).ok();
                }
                assert_eq!(host.user_tincan(["list", "-q"]).ok(), "", "{fault}");
                assert_eq!(
                    fs::read_dir(&state).map_or(0, Iterator::count),
                    0,
                    "{fault}: {said}"
                );
            }
        }
    }
}
