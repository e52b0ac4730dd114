//! What network testers do in containers with what their kernel has, and what only some kernels have.

use std::path::Path;

use serde_json::json;

use super::host::{Case, Host, own_mark, tests};
use super::machine::TINCAN;

pub fn tests() -> Vec<Case> {
    tests![
        a_wire_is_delayed needs [Netem],
        a_wire_carries_vlans needs [Vlan],
        an_ipvlan_shares_an_end needs [Ipvlan],
        a_container_has_a_tunnel needs [Wireguard],
        a_container_has_a_dummy needs [Dummy],
        a_container_has_netkit needs [Netkit],
        v1_limits_are_in_their_hierarchies needs [Root, CgroupV1],
        v2_limits_and_unified_ones_are_in_the_cgroup needs [Root, CgroupV2],
        v2_device_rules_are_enforced needs [Root, CgroupV2],
        v2_a_container_is_born_in_its_cgroup needs [Root, CgroupV2],
        pressure_is_told_of_a_container needs [Root, CgroupV2, Psi],
        an_apparmor_profile_confines_a_container needs [Root, AppArmor],
        a_profile_without_apparmor_is_left_out_with_a_word needs [NoAppArmor],
        selinux_labels_are_those_of_processes_and_mounts needs [Root, Selinux],
        labels_without_selinux_are_left_out_with_a_word needs [NoSelinux],
        shares_of_caches_without_resctrl_are_refused needs [NoResctrl],
        apparmor_that_forbids_user_namespaces_is_told needs [Root, AppArmor, AppArmorUserns],
        user_namespaces_that_are_forbidden_to_users_are_told needs [Root, UsernsSysctl],
    ]
}

/// What a line of shell prints in `a`, which is wired to `b`.
fn in_pair(host: &Host, script: &str) -> String {
    let pair = [
        "pair",
        "a=10.0.0.1/24",
        "b=10.0.0.2/24",
        "--",
        "sh",
        "-euc",
        script,
    ];
    host.tincan(pair).ok()
}

fn a_wire_is_delayed(host: &Host) {
    let said = in_pair(
        host,
        "tc qdisc add dev eth0 root netem delay 300ms; ping -q -c2 -W5 10.0.0.2",
    );
    // The shortest of them: rtt min/avg/max/mdev = 300.1/…
    let shortest = said
        .rsplit("= ")
        .next()
        .and_then(|times| times.split('/').next());
    let shortest: f64 = shortest.unwrap().parse().unwrap();
    assert!(shortest >= 300.0, "{said}");
}

fn a_wire_carries_vlans(host: &Host) {
    host.tincan(["pair", "a=10.0.0.1/24", "b=10.0.0.2/24"]).ok();
    for (name, address) in [("a", "10.5.0.1/24"), ("b", "10.5.0.2/24")] {
        let add = format!(
            "ip link add link eth0 name eth0.5 type vlan id 5; ip address add {address} dev eth0.5; ip link set eth0.5 up"
        );
        host.tincan(["exec", name, "sh", "-euc", &add]).ok();
    }
    host.tincan(["exec", "a", "ping", "-c1", "-W5", "10.5.0.2"])
        .ok();
    for name in ["a", "b"] {
        host.tincan(["delete", "--force", name]).ok();
    }
}

fn an_ipvlan_shares_an_end(host: &Host) {
    let said = in_pair(
        host,
        "ip link add link eth0 name shared type ipvlan mode l2; ip link set shared up; ip -br link show shared; \
         cat /sys/class/net/eth0/address /sys/class/net/shared/address",
    );
    let words: Vec<&str> = said.split_whitespace().collect();
    assert!(said.starts_with("shared@eth0"), "{said}");
    assert_eq!(words[words.len() - 1], words[words.len() - 2], "{said}");
}

fn a_container_has_a_tunnel(host: &Host) {
    let said = in_pair(host, "ip link add wg0 type wireguard; ip -d link show wg0");
    assert!(said.contains("wireguard"), "{said}");
}

fn a_container_has_a_dummy(host: &Host) {
    let said = in_pair(
        host,
        "ip link add d0 type dummy; ip address add 10.9.0.1/24 dev d0; ip link set d0 up; ping -q -c1 -W5 10.9.0.1",
    );
    assert!(said.contains(" 0% packet loss"), "{said}");
}

fn a_container_has_netkit(host: &Host) {
    let said = in_pair(host, "ip link add k0 type netkit; ip -d link show k0");
    assert!(said.contains("netkit"), "{said}");
}

/// Runs a line of shell on the host while a bundle with these resources runs as `c1`.
fn beside_limits(host: &Host, resources: serde_json::Value, script: &str) -> String {
    let bundle = host.bundle("limits", |spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
        spec["linux"]["resources"] = resources;
    });
    let line = format!(
        "{} run --detach --bundle {} c1 </dev/null >/dev/null 2>&1; {script}",
        Host::TINCAN,
        bundle.display()
    );
    let said = host.sh(&line);
    host.tincan(["delete", "--force", "c1"]).ok();
    said
}

fn v1_limits_are_in_their_hierarchies(host: &Host) {
    let said = beside_limits(
        host,
        json!({"memory": {"limit": 33_554_432}}),
        "cat /sys/fs/cgroup/memory/tincan/c1/memory.limit_in_bytes",
    );
    assert_eq!(said, "33554432\n");
}

fn v2_limits_and_unified_ones_are_in_the_cgroup(host: &Host) {
    let said = beside_limits(
        host,
        json!({
            "memory": {"limit": 33_554_432},
            "pids": {"limit": 77},
            "cpu": {"quota": 50_000, "period": 100_000},
            "unified": {"memory.high": "30000000", "cpu.weight.nice": "5"},
        }),
        "cd /sys/fs/cgroup/tincan/c1; cat memory.max pids.max cpu.max memory.high cpu.weight.nice",
    );
    // The kernel counts in pages.
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines, ["33554432", "77", "50000 100000", "29999104", "5"]);
}

fn v2_device_rules_are_enforced(host: &Host) {
    // The same node and the same rights; the rule alone differs.
    for (allow, code) in [(true, "0\n"), (false, "1\n")] {
        let bundle = host.bundle(if allow { "allowed" } else { "denied" }, |spec| {
            // The kernel's log: no device that containers may use by default, and anybody may write to it.
            let script = "mknod /tmp/k c 1 11 && echo test 2>/dev/null >/tmp/k; echo $?";
            spec["process"]["args"] = json!(["sh", "-c", script]);
            for set in ["effective", "permitted", "bounding"] {
                spec["process"]["capabilities"][set] = json!(["CAP_MKNOD"]);
            }
            spec["root"]["readonly"] = json!(false);
            spec["linux"]["resources"] = json!({"devices": [
                {"allow": false, "access": "rwm"},
                {"allow": allow, "type": "c", "major": 1, "minor": 11, "access": "w"},
            ]});
        });
        let run = ["run", "--bundle", bundle.to_str().unwrap(), "c1"];
        assert_eq!(host.tincan(run).ok(), code, "{allow}");
    }
}

fn pressure_is_told_of_a_container(host: &Host) {
    let said = beside_limits(host, json!({}), "cat /sys/fs/cgroup/tincan/c1/cpu.pressure");
    assert!(said.starts_with("some avg10="), "{said}");
}

/// A cgroup of one process has no room for a second one; but a process that clone3 makes in another cgroup counts there
/// (CLONE_INTO_CGROUP, clone(2)).
fn v2_a_container_is_born_in_its_cgroup(host: &Host) {
    let bundle = host.bundle("born", |spec| {
        spec["process"]["args"] = json!(["cat", "/proc/self/cgroup"]);
    });
    let in_full_cgroup = |command: &str| {
        let script = "cd /sys/fs/cgroup/full; echo 1 >pids.max; echo $$ >cgroup.procs; ".to_owned();
        host.command("sh", ["-euc", &(script + command)])
    };
    host.sh("cd /sys/fs/cgroup; echo +pids >cgroup.subtree_control; mkdir full");
    let said = in_full_cgroup("true | true").fails(2);
    assert!(said.contains("fork"), "{said}");
    let run = format!("exec {} run --bundle {} c1", Host::TINCAN, bundle.display());
    // The container's own cgroup is the root of its cgroup namespace.
    assert_eq!(in_full_cgroup(&run).ok(), "0::/\n");
    host.sh("rmdir /sys/fs/cgroup/full");
}

/// An AppArmor profile, for as long as this lives: it is the kernel's, and other machines of tests see it too.
struct Profile<'a> {
    host: &'a Host,
    name: String,
    text: String,
}

impl<'a> Profile<'a> {
    fn load(host: &'a Host, name: &str, abi: &str, rules: &str) -> Self {
        let name = format!("tincan-{name}{}", own_mark());
        let text = format!("{abi}\nprofile {name} flags=(attach_disconnected) {{ {rules} }}\n");
        let profile = Profile { host, name, text };
        host.sh("mount -t securityfs securityfs /sys/kernel/security");
        profile.change("--replace");
        profile
    }

    fn change(&self, how: &str) {
        let parser = self.host.command("apparmor_parser", [how, "--skip-cache"]);
        parser.stdin(self.text.clone()).any_stderr().ok();
    }
}

impl Drop for Profile<'_> {
    fn drop(&mut self) {
        // After a test that failed the machine's own mounts are gone with it, but the profile is not.
        self.change("--remove");
        self.host.sh("umount /sys/kernel/security");
    }
}

fn an_apparmor_profile_confines_a_container(host: &Host) {
    let rules = "file, capability, signal, network, deny /secret r,";
    let profile = Profile::load(host, "confined", "", rules);
    let bundle = host.bundle("confined", |spec| {
        let script =
            "cat /proc/self/attr/current; cat /secret 2>/dev/null || echo denied; exec sleep 1000";
        spec["process"]["args"] = json!(["sh", "-c", script]);
        spec["process"]["apparmorProfile"] = json!(profile.name);
    });
    std::fs::write(bundle.join("rootfs/secret"), "found\n").unwrap();
    let line = format!(
        "{} run --detach --bundle {} c1 </dev/null >said 2>&1",
        Host::TINCAN,
        bundle.display()
    );
    host.sh(&line);
    let confined = format!("{} (enforce)\n", profile.name);
    host.wait_until("the container has said who it is", || {
        host.sh("cat said") == format!("{confined}denied\n")
    });
    let current = ["cat", "/proc/self/attr/current"];
    let exec = |options: &[&str]| {
        let words = ["exec"]
            .iter()
            .chain(options)
            .chain(&["c1"])
            .chain(&current);
        host.tincan(words).ok()
    };
    assert_eq!(exec(&[]), confined);
    assert_eq!(exec(&["--apparmor", "unconfined"]), "unconfined\n");
    let said = host
        .tincan(["exec", "--apparmor", "tincan-nosuch", "c1", "true"])
        .fails(125);
    assert!(
        said.contains("c1: take the AppArmor profile tincan-nosuch: No such file or directory"),
        "{said}"
    );
    host.tincan(["delete", "--force", "c1"]).ok();
}

fn a_profile_without_apparmor_is_left_out_with_a_word(host: &Host) {
    let bundle = host.bundle("labelled", |spec| {
        spec["process"]["args"] = json!(["echo", "up"]);
        spec["process"]["apparmorProfile"] = json!("containers-default-0.57.4");
    });
    let run = ["run", "--bundle", bundle.to_str().unwrap(), "c1"];
    let assert = host.tincan(run).assert().success().stdout("up\n");
    let said = String::from_utf8_lossy(&assert.get_output().stderr);
    let expected = "tincan: c1: AppArmor profile containers-default-0.57.4 is left out: this kernel runs without AppArmor\n";
    assert!(said.ends_with(expected), "{said}");
}

/// A policy in which everybody may do everything, but for one: who is `can_t` reads nothing that is `secret_t`.
const POLICY: &str = "
(handleunknown allow)
(mls true)
(policycap nnp_nosuid_transition)
(class process (transition dyntransition))
(class file (read open))
(class dir (read))
(classorder (process file dir))
(sid kernel) (sid security) (sid unlabeled) (sid fs) (sid file) (sid file_labels) (sid init) (sid any_socket) (sid port)
(sid netif) (sid netmsg) (sid node)
(sidorder (kernel security unlabeled fs file file_labels init any_socket port netif netmsg node))
(sensitivity s0)
(sensitivityorder (s0))
(category c1) (category c2)
(categoryorder (c1 c2))
(sensitivitycategory s0 (c1 c2))
(level low (s0))
(level high (s0 (c1 c2)))
(levelrange all (low high))
(user u) (role r) (role object_r)
(userrole u r) (userrole u object_r)
(userlevel u low)
(userrange u all)
(type base_t) (type can_t) (type file_t) (type secret_t)
(roletype r base_t) (roletype r can_t) (roletype object_r file_t) (roletype object_r secret_t)
(typeattribute every)
(typeattributeset every (base_t can_t file_t secret_t))
(typeattribute public)
(typeattributeset public (base_t can_t file_t))
(allow every every (process (transition dyntransition)))
(allow every public (file (read open)))
(allow base_t secret_t (file (read open)))
(allow every every (dir (read)))
(context base (u r base_t (low low)))
(context files (u object_r file_t (low low)))
(sidcontext kernel base) (sidcontext security base) (sidcontext unlabeled files) (sidcontext fs files) (sidcontext file files)
(sidcontext file_labels files) (sidcontext init base) (sidcontext any_socket base) (sidcontext port base)
(sidcontext netif base) (sidcontext netmsg base) (sidcontext node base)
(fsuse xattr ext4 files)
(fsuse trans tmpfs files)
(fsuse trans devpts files)
(fsuse trans mqueue files)
(genfscon proc \"/\" files)
(genfscon sysfs \"/\" files)
";

/// The policy is the whole machine's, so this test runs alone on one.
fn selinux_labels_are_those_of_processes_and_mounts(host: &Host) {
    host.sh("mount -t selinuxfs selinuxfs /sys/fs/selinux");
    let label = "u:r:can_t:s0:c1,c2";
    let files = "u:object_r:file_t:s0:c1,c2";
    let bundle = host.bundle("labelled", |spec| {
        let script = "cat /proc/self/attr/current; echo; cat /secret 2>/dev/null || echo denied; exec sleep 1000";
        spec["process"]["args"] = json!(["sh", "-c", script]);
        spec["process"]["selinuxLabel"] = json!(label);
        spec["linux"]["mountLabel"] = json!(files);
    });
    let run = |log: &str| {
        let line = format!(
            "{} run --detach --bundle {} c1 </dev/null >{log} 2>&1",
            Host::TINCAN,
            bundle.display()
        );
        host.sh(&line);
    };
    // Without a policy there are no labels.
    std::fs::write(bundle.join("rootfs/secret"), "found\n").unwrap();
    run("before");
    let said = host.sh("cat before");
    let left_out = "is left out: this kernel runs without SELinux\n";
    assert_eq!(said.matches(left_out).count(), 2, "{said}");
    host.tincan(["delete", "--force", "c1"]).ok();

    std::fs::write(host.dir().join("policy.cil"), POLICY).unwrap();
    host.sh("secilc -c $(cat /sys/fs/selinux/policyvers) -o policy -f contexts policy.cil && cat policy >/sys/fs/selinux/load && echo 1 >/sys/fs/selinux/enforce");
    host.sh(&format!(
        "chcon u:object_r:secret_t:s0 {}/rootfs/secret",
        bundle.display()
    ));
    run("said");
    host.wait_until("the container has said who it is", || {
        host.sh("cat said").ends_with("denied\n")
    });
    assert!(
        host.sh("cat said").starts_with(label),
        "{}",
        host.sh("cat said")
    );
    let exec = |options: &[&str]| {
        let current = ["c1", "cat", "/proc/self/attr/current"];
        let words = ["exec"].iter().chain(options).chain(&current);
        let said = host.tincan(words).ok();
        said.trim_end_matches('\0').to_owned()
    };
    assert_eq!(exec(&[]), label);
    assert_eq!(exec(&["--process-label", "u:r:base_t:s0"]), "u:r:base_t:s0");
    let process = json!({"cwd": "/", "args": ["cat", "/secret"], "selinuxLabel": "u:r:base_t:s0"});
    std::fs::write(host.dir().join("process.json"), process.to_string()).unwrap();
    let own = ["exec", "--process", "process.json", "c1"];
    assert_eq!(host.tincan(own).ok(), "found\n");
    let said = host
        .tincan(["exec", "--process-label", "u:r:nosuch_t:s0", "c1", "true"])
        .fails(125);
    assert!(
        said.contains("c1: give keys the SELinux label u:r:nosuch_t:s0: Invalid argument"),
        "{said}"
    );

    let mounts = host.tincan(["exec", "c1", "cat", "/proc/self/mounts"]).ok();
    let context = format!("context=\"{files}\"");
    for (at, is_labelled) in [
        ("/dev", true),
        ("/dev/pts", true),
        ("/dev/shm", true),
        ("/proc", false),
        ("/sys", false),
    ] {
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(1) == Some(at));
        assert_eq!(line.unwrap().contains(&context), is_labelled, "{line:?}");
    }
    let state: serde_json::Value =
        serde_json::from_str(&host.tincan(["state", "c1"]).ok()).unwrap();
    let queue = format!("stat -c %C /proc/{}/root/dev/mqueue", state["pid"]);
    let queue = host.sh(&queue);
    assert_eq!(queue, format!("{files}\n"));
    host.tincan(["delete", "--force", "c1"]).ok();
    host.sh("echo 0 >/sys/fs/selinux/enforce; umount /sys/fs/selinux");
}

fn labels_without_selinux_are_left_out_with_a_word(host: &Host) {
    let bundle = host.bundle("labelled", |spec| {
        spec["process"]["args"] = json!(["echo", "up"]);
        spec["process"]["selinuxLabel"] = json!("u:r:can_t:s0");
        spec["linux"]["mountLabel"] = json!("u:object_r:can_t:s0");
    });
    let run = ["run", "--bundle", bundle.to_str().unwrap(), "c1"];
    let assert = host.tincan(run).assert().success().stdout("up\n");
    let said = String::from_utf8_lossy(&assert.get_output().stderr);
    let expected = "tincan: c1: SELinux label u:r:can_t:s0 is left out: this kernel runs without SELinux\n\
                    tincan: c1: SELinux label u:object_r:can_t:s0 of mounts is left out: this kernel runs without SELinux\n";
    assert!(said.ends_with(expected), "{said}");
    host.tincan(["run", "--detach", "--name", "c2", "--", "sleep", "1000"])
        .ok();
    let exec = [
        "exec",
        "--process-label",
        "u:r:can_t:s0",
        "c2",
        "echo",
        "in",
    ];
    let assert = host.tincan(exec).assert().success().stdout("in\n");
    let said = String::from_utf8_lossy(&assert.get_output().stderr);
    let expected =
        "tincan: c2: SELinux label u:r:can_t:s0 is left out: this kernel runs without SELinux\n";
    assert_eq!(said, expected);
    host.tincan(["delete", "--force", "c2"]).ok();
}

fn shares_of_caches_without_resctrl_are_refused(host: &Host) {
    let refused = |name: &str, asked: serde_json::Value, why: &str| {
        let bundle = host.bundle(name, |spec| spec["linux"]["intelRdt"] = asked);
        let create = ["create", "--bundle", bundle.to_str().unwrap(), "c1"];
        let said = host.tincan(create).fails(125);
        assert!(said.contains(why), "{said}");
    };
    let none = "c1: linux.intelRdt: no resctrl file system is mounted";
    refused("own", json!({}), none);
    refused("class", json!({"closID": "/"}), none);
    let wrong = "config.json: linux.intelRdt.memBwSchema: `20` is no line that begins with `MB:`";
    refused("wrong", json!({"memBwSchema": "20"}), wrong);
    // Nor is there another one to get.
    let run = ["run", "-d", "--name", "c2", "--", "sleep", "1000"];
    host.tincan(run).ok();
    for (option, line, kind) in [
        ("--l3-cache-schema", "L3:0=f", "l3 cache schema"),
        ("--mem-bw-schema", "MB:0=20", "memory bandwidth schema"),
    ] {
        let said = host.tincan(["update", option, line, "c2"]).fails(125);
        let none = format!("c2: {kind}: is not enabled: no resctrl file system is mounted");
        assert!(said.contains(&none), "{said}");
    }
    host.tincan(["delete", "--force", "c2"]).ok();
}

/// As Ubuntu does it: who has a profile, and it does not allow them, has no user namespaces.
fn apparmor_that_forbids_user_namespaces_is_told(host: &Host) {
    let abi = "abi <abi/4.0>,";
    let rules = "file, capability, signal, network, mount, umount, pivot_root, ptrace, unix,";
    let profile = Profile::load(host, "no-userns", abi, rules);
    let under = ["-p", &profile.name, "--", TINCAN, "run", "--", "true"];
    let said = host.user("aa-exec", under).fails(125);
    assert!(said.contains("user namespace"), "{said}");
    assert!(said.contains("AppArmor"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
}

/// The setting is the whole machine's, so this test runs alone on one.
fn user_namespaces_that_are_forbidden_to_users_are_told(host: &Host) {
    let setting = Path::new("/proc/sys/kernel/unprivileged_userns_clone");
    std::fs::write(setting, "0").unwrap();
    let run = host.user_tincan(["run", "--", "true"]).assert();
    std::fs::write(setting, "1").unwrap();
    let assert = run.code(125);
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(
        said.contains("kernel.unprivileged_userns_clone is 0")
            && said.contains("sysctl kernel.unprivileged_userns_clone=1"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 2, "{said}");
}
