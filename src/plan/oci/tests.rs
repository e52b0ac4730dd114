use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::topology::Topology;
use super::template::template;
use super::template::tests::{v1, v2};
use super::*;

fn name() -> ContainerName {
    "ns1".parse().unwrap()
}

static NONE: BTreeSet<NamespaceKind> = BTreeSet::new();

fn request(layout: &CgroupLayout) -> Request<'_> {
    Request {
        bundle_dir: Path::new("/b"),
        layout,
        confinement: None,
        origin: Origin::Bundle,
        hierarchies: Hierarchies::Every,
        manager: None,
        gate_start: false,
        own: &NONE,
        wired: false,
        console_size: None,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        listen_fds: 0,
        overlay: false,
        die_with_parent: false,
        hold: false,
        seccomp: None,
    }
}

/// The template with these properties changed, by JSON pointer; `null` takes one away.
fn changed(changes: &[(&str, Value)]) -> Bundle {
    let mut config = template(None, &v1());
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match config.pointer_mut(parent).unwrap() {
            Value::Object(members) => {
                members.insert(key.to_owned(), value.clone());
            }
            Value::Array(items) => items.push(value.clone()),
            other => panic!("{other} has no members"),
        }
    }
    parse(&serde_json::to_vec(&config).unwrap()).unwrap()
}

fn plan(changes: &[(&str, Value)]) -> Result<Node, String> {
    node(&name(), &changed(changes), &request(&v1())).map_err(|error| error.to_string())
}

fn lines(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

fn position(steps: &[String], wanted: &str) -> usize {
    steps
        .iter()
        .position(|step| step == wanted)
        .unwrap_or_else(|| panic!("no `{wanted}` in {steps:#?}"))
}

/// Checks that these steps are there, in this order.
fn in_order(node: &Node, wanted: &[&str]) {
    let steps = lines(&node.steps);
    let positions: Vec<usize> = wanted.iter().map(|step| position(&steps, step)).collect();
    assert!(positions.is_sorted(), "{steps:#?}");
}

#[test]
fn the_templates_steps_are_runcs_in_runcs_order() {
    let node = plan(&[]).unwrap();
    insta::assert_snapshot!(lines(&node.steps).join("\n"), @r"
    enter the cgroup
    start a session
    make the host's mounts slave
    take /b/rootfs as the root
    mount proc on /proc
    mount tmpfs on /dev (nosuid,strictatime)
    mount devpts on /dev/pts (nosuid,noexec)
    mount tmpfs on /dev/shm (nosuid,nodev,noexec)
    mount mqueue on /dev/mqueue (nosuid,nodev,noexec)
    mount sysfs on /sys (ro,nosuid,nodev,noexec)
    mount tmpfs on /sys/fs/cgroup (nosuid,nodev,noexec)
    bind /sys/fs/cgroup/devices/tincan/ns1 on /sys/fs/cgroup/devices (ro,nosuid,nodev,noexec)
    bind /sys/fs/cgroup/systemd/tincan/ns1 on /sys/fs/cgroup/systemd (ro,nosuid,nodev,noexec)
    make the device /dev/null
    make the device /dev/zero
    make the device /dev/full
    make the device /dev/random
    make the device /dev/urandom
    make the device /dev/tty
    link /dev/fd to /proc/self/fd
    link /dev/stdin to /proc/self/fd/0
    link /dev/stdout to /proc/self/fd/1
    link /dev/stderr to /proc/self/fd/2
    link /dev/core to /proc/kcore
    link /dev/ptmx to pts/ptmx
    open the terminal
    change to the root
    take the container's null device
    set the host name tincan
    make the mount /sys/fs/cgroup read-only
    make the root read-only
    make /proc/bus read-only
    make /proc/fs read-only
    make /proc/irq read-only
    make /proc/sys read-only
    make /proc/sysrq-trigger read-only
    mask /proc/acpi
    mask /proc/asound
    mask /proc/kcore
    mask /proc/keys
    mask /proc/latency_stats
    mask /proc/timer_list
    mask /proc/timer_stats
    mask /proc/sched_debug
    mask /sys/firmware
    mask /proc/scsi
    join the session keyring _ses.ns1
    set RLIMIT_NOFILE
    give up new privileges
    change to the directory /
    become user 0:0
    set the capabilities
    close the other descriptors
    exec sh
    ");
    assert!(node.loopback);
    assert_eq!(node.cgroup.unwrap().path, Path::new("/tincan/ns1"));
}

#[test]
fn create_and_wires_add_their_gates_after_everything_that_can_fail() {
    let layout = v1();
    let asked = Request {
        gate_start: true,
        wired: true,
        ..request(&layout)
    };
    let hooks = json!({"startContainer": [{"path": "/h"}]});
    let node = node(&name(), &changed(&[("/hooks", hooks)]), &asked).unwrap();
    in_order(
        &node,
        &[
            "set RLIMIT_NOFILE",
            "give up new privileges",
            "become user 0:0",
            "set the capabilities",
            "wait at the gate `wired`",
            "wait at the gate `start`",
            "run the startContainer hook /h",
            "close the other descriptors",
            "exec sh",
        ],
    );
}

#[test]
fn parameters_of_an_interface_wait_for_the_wires() {
    let layout = v1();
    let asked = Request {
        wired: true,
        ..request(&layout)
    };
    let sysctl = json!({"net.ipv4.conf.eth0.rp_filter": "2", "kernel.msgmax": "10"});
    let node = node(&name(), &changed(&[("/linux/sysctl", sysctl)]), &asked).unwrap();
    in_order(
        &node,
        &[
            "change to the root",
            "wait at the gate `wired`",
            "set kernel.msgmax to `10`",
            "set net.ipv4.conf.eth0.rp_filter to `2`",
            "make /proc/sys read-only",
        ],
    );
    let gates = node
        .steps
        .iter()
        .filter(|step| matches!(step, Step::Gate(_)));
    assert_eq!(gates.count(), 1);
}

#[test]
fn ids_and_clocks_are_there_before_anything_needs_them() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let node = plan(&[
        ("/linux/namespaces/-", json!({"type": "user"})),
        ("/linux/namespaces/-", json!({"type": "time"})),
        ("/linux/namespaces/-", json!({"type": "cgroup"})),
        ("/linux/uidMappings", map.clone()),
        ("/linux/gidMappings", map),
        (
            "/linux/timeOffsets",
            json!({"monotonic": {"secs": -5}, "boottime": {"secs": 7, "nanosecs": 9}}),
        ),
        ("/process/oomScoreAdj", json!(100)),
    ])
    .unwrap();
    assert_eq!(
        lines(&node.steps)[..9],
        [
            "enter the cgroup",
            "set oom_score_adj to 100",
            "make a new time namespace",
            "wait at the gate `maps`",
            "join the time namespace /proc/self/ns/time_for_children",
            "become root of the user namespace",
            "make a new cgroup namespace",
            "start a session",
            "make the host's mounts slave",
        ]
    );
    assert_eq!(node.time_offsets, ["boottime 7 9", "monotonic -5 0"]);
    let maps = node.id_maps.unwrap();
    assert_eq!(
        maps.uids,
        [IdMap {
            inside: 0,
            outside: 100_000,
            size: 65_536
        }]
    );
    assert_eq!(maps.uids, maps.gids);
}

#[test]
fn a_score_is_set_while_the_process_owns_its_files_in_proc() {
    let node = plan(&[("/process/oomScoreAdj", json!(100))]).unwrap();
    in_order(
        &node,
        &[
            "mask /proc/scsi",
            "set oom_score_adj to 100",
            "become user 0:0",
        ],
    );
}

#[test]
fn namespaces_are_joined_here_but_user_and_pid_before() {
    let paths = ["user", "net", "pid"].map(|kind| format!("/proc/7/ns/{kind}"));
    let bundle = changed(&[
        (
            "/linux/namespaces",
            json!([
                {"type": "network", "path": paths[1]},
                {"type": "mount"},
                {"type": "pid", "path": paths[2]},
                {"type": "user", "path": paths[0]},
            ]),
        ),
        ("/hostname", json!(null)),
        (
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 0, "size": 1}]),
        ),
    ]);
    assert_eq!(
        bundle.warnings,
        ["linux.uidMappings is not used: the user namespace is joined, with the ids it has"]
    );
    let node = node(&name(), &bundle, &request(&v1())).unwrap();
    assert_eq!(
        lines(&node.steps)[..4],
        [
            "enter the cgroup",
            "join the network namespace /proc/7/ns/net",
            "become root of the user namespace",
            "start a session",
        ]
    );
    assert!(!node.loopback);
    assert_eq!(node.id_maps, None);
    assert_eq!(
        node.namespaces[&NamespaceKind::Pid],
        NamespaceSource::Path(PathBuf::from(&paths[2]))
    );
}

#[test]
fn hooks_run_where_and_when_the_specification_says() {
    let hooks = json!({
        "prestart": [{"path": "/p", "args": ["p", "1"], "env": ["A=b"], "timeout": 3}],
        "createRuntime": [{"path": "/cr"}],
        "createContainer": [{"path": "/cc"}],
        "startContainer": [{"path": "/sc"}, {"path": "/sc2", "env": []}],
        "poststart": [{"path": "/ps"}],
        "poststop": [{"path": "/pp"}],
    });
    let node = plan(&[("/hooks", hooks), ("/process/env", json!(["A=1"]))]).unwrap();
    in_order(
        &node,
        &[
            "mount cgroup2 on /sys/fs/cgroup",
            "open the terminal",
            "wait at the gate `hooks`",
            "run the createContainer hook /cc",
            "change to the root",
            "run the startContainer hook /sc",
            "exec sh",
        ]
        .map(|step| {
            step.replace(
                "mount cgroup2 on /sys/fs/cgroup",
                "mount tmpfs on /sys/fs/cgroup (nosuid,nodev,noexec)",
            )
        })
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>(),
    );
    let outside = &node.hooks;
    let paths = |hooks: &[Hook]| {
        hooks
            .iter()
            .map(|hook| hook.path.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        outside.prestart,
        [Hook {
            path: PathBuf::from("/p"),
            args: vec!["p".to_owned(), "1".to_owned()],
            env: Some(vec!["A=b".to_owned()]),
            timeout: Some(3),
        }]
    );
    assert_eq!(paths(&outside.create_runtime), [Path::new("/cr")]);
    assert_eq!(paths(&outside.poststart), [Path::new("/ps")]);
    assert_eq!(paths(&outside.poststop), [Path::new("/pp")]);
    let start: Vec<&Hook> = node
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Hook(HookKind::StartContainer, hook) => Some(hook),
            _ => None,
        })
        .collect();
    assert_eq!(outside.create_runtime[0].env, None);
    assert_eq!(start[0].env, Some(vec!["A=1".to_owned()]));
    assert_eq!(start[1].env, Some(Vec::new()));
}

#[test]
fn without_a_mount_namespace_of_its_own_the_root_is_in_none() {
    let bundle = changed(&[
        ("/linux/namespaces", json!([{"type": "uts"}])),
        ("/linux/readonlyPaths", json!([])),
        (
            "/mounts",
            json!([{"destination": "/late", "type": "tmpfs", "options": ["ro"]}]),
        ),
    ]);
    let node = node(&name(), &bundle, &request(&v1())).unwrap();
    let lines = lines(&node.steps);
    let begins = |start: &str| lines.iter().any(|line| line.starts_with(start));
    let has = |wanted: &str| lines.iter().any(|line| line == wanted);
    assert!(has(
        "take /b/rootfs as the root, in no mount namespace (since Linux 6.15)"
    ));
    assert!(has("change to the root, but not the mount namespace's"));
    assert!(has("make /late read-only"), "{lines:?}");
    for other in [
        "make the host's mounts",
        "make the mount",
        "move to",
        "join the mount",
    ] {
        assert!(!begins(other), "{other}: {lines:?}");
    }
    assert!(node.has_own_root() && node.is_apart());
}

#[test]
fn a_share_of_caches_is_given_before_anything_can_use_it() {
    let asked = json!({"closID": "gold", "enableMonitoring": true});
    let node = plan(&[("/linux/intelRdt", asked)]).unwrap();
    let group = node.control.as_ref().map(|it| it.path.clone());
    assert_eq!(group, Some(PathBuf::from("gold")));
    let topology = Topology {
        nodes: vec![node],
        ..Topology::default()
    };
    let steps: Vec<String> = topology
        .host_steps()
        .into_iter()
        .map(|step| topology.describe(step).1)
        .collect();
    let at = position(&steps, "give it the share of /gold in resctrl");
    assert_eq!(steps[at - 1], "record the process");
    assert!(
        steps[..at]
            .iter()
            .all(|step| !step.starts_with("open the gate"))
    );
    assert_eq!(plan(&[]).unwrap().control, None);
    let wrong = plan(&[("/linux/intelRdt", json!({"closID": "a/b"}))]);
    let why = "config.json: linux.intelRdt.closID: `a/b` cannot be the name of a control group";
    assert_eq!(wrong.unwrap_err(), why);
}

#[test]
fn what_would_change_the_host_is_refused() {
    let without_uts = json!([{"type": "mount"}, {"type": "ipc"}]);
    for (changes, wrong) in [
        (
            vec![("/linux/namespaces", without_uts.clone())],
            "hostname: is there, but no `uts` in linux.namespaces: it would change the host's",
        ),
        (
            vec![
                ("/linux/namespaces", json!([{"type": "uts"}])),
                ("/root/path", json!("/")),
            ],
            "mounts: would change a mount namespace that is not the container's own, for everybody in it; with a `root.path` other than `/` it would not",
        ),
        (
            vec![
                ("/linux/namespaces", json!([{"type": "uts"}])),
                ("/linux/rootfsPropagation", json!("shared")),
            ],
            "linux.rootfsPropagation: needs a mount namespace of the container's own",
        ),
        (
            vec![("/linux", json!(null))],
            "hostname: is there, but no `uts` in linux.namespaces: it would change the host's",
        ),
        (
            vec![("/linux/sysctl", json!({"vm.swappiness": "1"}))],
            "linux.sysctl: `vm.swappiness` is not of a namespace: it would change the whole host",
        ),
        (
            vec![("/linux/sysctl", json!({"kernel.hostname": "a"}))],
            "linux.sysctl: `kernel.hostname` is what `hostname` is for",
        ),
        (
            vec![("/linux/sysctl", json!({"net/../vm/swappiness": "1"}))],
            "linux.sysctl: `net/../vm/swappiness` is no kernel parameter; a right one is `net.ipv4.ip_forward`",
        ),
        (
            vec![
                ("/linux/namespaces", without_uts),
                ("/hostname", json!("")),
                ("/linux/sysctl", json!({"net.a": "1"})),
            ],
            "linux.sysctl: `net.a` is of the network namespace, which the container shares",
        ),
        (
            vec![("/linux/sysctl", json!({"user.max_net_namespaces": "1"}))],
            "linux.sysctl: `user.max_net_namespaces` is of the user namespace, which the container shares",
        ),
        (
            vec![("/linux/timeOffsets", json!({"monotonic": {"secs": 1}}))],
            "linux.timeOffsets: is there, but no `time` in linux.namespaces",
        ),
        (
            vec![
                ("/linux/namespaces/-", json!({"type": "time"})),
                ("/linux/timeOffsets", json!({"realtime": {"secs": 1}})),
            ],
            "linux.timeOffsets.realtime: is no clock; there are monotonic and boottime",
        ),
        (
            vec![("/linux/cgroupsPath", json!("system.slice:tincan:a"))],
            "linux.cgroupsPath: `system.slice:tincan:a` is for systemd, which --systemd-cgroup asks; without that a right one is `/tincan/ns1`",
        ),
        (
            vec![("/linux/cgroupsPath", json!("a/../../b"))],
            "linux.cgroupsPath: `a/../../b` has `..` in it",
        ),
        (
            vec![("/linux/cgroupsPath", json!("//"))],
            "linux.cgroupsPath: `//` is the root of all cgroups",
        ),
        (
            vec![("/linux/maskedPaths", json!([""]))],
            "linux.maskedPaths[0]: is empty",
        ),
        (
            vec![("/linux/rootfsPropagation", json!("all"))],
            "linux.rootfsPropagation: `all` is no propagation; there are shared, slave, private, unbindable",
        ),
        (vec![("/process", json!(null))], "process: is missing"),
    ] {
        assert_eq!(plan(&changes).unwrap_err(), format!("config.json: {wrong}"));
    }
}

#[test]
fn a_parameter_may_be_written_with_slashes() {
    let node = plan(&[(
        "/linux/sysctl",
        json!({"net/ipv4/conf/a.b/forwarding": "1"}),
    )])
    .unwrap();
    in_order(&node, &["set net/ipv4/conf/a.b/forwarding to `1`"]);
    assert_eq!(
        dotted("net/ipv4/conf/a.b/forwarding"),
        "net.ipv4.conf.a/b.forwarding"
    );
    assert_eq!(
        dotted("net.ipv4.conf.a/b.forwarding"),
        "net.ipv4.conf.a/b.forwarding"
    );
}

#[test]
fn a_cgroup_is_where_the_bundle_says_or_below_tincan() {
    for (asked, path) in [
        (Value::Null, "/tincan/ns1"),
        (json!(""), "/tincan/ns1"),
        (json!("/docker/abc"), "/docker/abc"),
        (json!("pods/a/./b"), "/tincan/pods/a/b"),
    ] {
        let node = plan(&[("/linux/cgroupsPath", asked)]).unwrap();
        assert_eq!(node.cgroup.unwrap().path, Path::new(path));
    }
}

#[test]
fn the_root_passes_mounts_on_as_the_bundle_says() {
    let steps = |word: &str| {
        let node = plan(&[("/linux/rootfsPropagation", json!(word))]).unwrap();
        let propagations = node.steps.into_iter().filter_map(|step| match step {
            Step::RootPropagation(p) => Some(("outer", p.kind, p.recursive)),
            Step::FinalPropagation(p) => Some(("final", p.kind, p.recursive)),
            _ => None,
        });
        propagations.collect::<Vec<_>>()
    };
    use PropagationKind::{Private, Shared, Slave, Unbindable};
    assert_eq!(steps(""), [("outer", Slave, true)]);
    assert_eq!(steps("private"), [("outer", Private, false)]);
    assert_eq!(steps("rslave"), [("outer", Slave, true)]);
    assert_eq!(
        steps("shared"),
        [("outer", Shared, false), ("final", Shared, false)]
    );
    assert_eq!(
        steps("unbindable"),
        [("outer", Slave, true), ("final", Unbindable, false)]
    );
}

#[test]
fn a_device_of_the_bundle_takes_the_place_of_the_default_one() {
    let devices = json!([
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o020_600, "uid": 5},
        {"path": "/dev/pipe", "type": "p"},
        {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0},
    ]);
    let bundle = changed(&[("/linux/devices", devices)]);
    let node = node(&name(), &bundle, &request(&v1())).unwrap();
    let devices: Vec<&Device> = node
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Device(device) => Some(device),
            _ => None,
        })
        .collect();
    let null: Vec<_> = devices
        .iter()
        .filter(|d| d.path == Path::new("/dev/null"))
        .collect();
    assert_eq!((null.len(), null[0].mode, null[0].uid), (1, 0o600, 5));
    assert_eq!(devices.len(), 8);
    assert_eq!(devices[6].kind, DeviceKind::Fifo);
    assert_eq!((devices[7].kind, devices[7].major), (DeviceKind::Block, 8));
}

#[test]
fn a_dev_that_is_bound_is_left_as_it_is() {
    let mounts = json!([{"destination": "/dev/", "source": "/dev", "options": ["rbind"]}]);
    let node = plan(&[("/mounts", mounts), ("/process/terminal", json!(false))]).unwrap();
    assert!(
        !node
            .steps
            .iter()
            .any(|step| matches!(step, Step::Device(_) | Step::Symlink { .. }))
    );
}

#[test]
fn a_working_directory_is_made_before_the_root_is_read_only() {
    let node = plan(&[("/process/cwd", json!("/work/here"))]).unwrap();
    let steps = lines(&node.steps);
    let made = position(&steps, "change to the directory /work/here");
    assert!(made < position(&steps, "make the root read-only"));
    let entered = steps
        .iter()
        .rposition(|s| s == "change to the directory /work/here")
        .unwrap();
    assert!(entered > position(&steps, "mask /proc/scsi"));
    assert!(entered < position(&steps, "become user 0:0"));
}

#[test]
fn a_container_without_a_command_holds() {
    let layout = v2();
    let asked = Request {
        hold: true,
        overlay: true,
        no_pivot: true,
        no_new_keyring: true,
        ..request(&layout)
    };
    let node = node(&name(), &changed(&[]), &asked).unwrap();
    let steps = lines(&node.steps);
    assert_eq!(
        steps[steps.len() - 2..],
        ["close the other descriptors", "hold"]
    );
    in_order(
        &node,
        &[
            "take /b/rootfs under an overlay as the root",
            "move to the root",
            "hold",
        ],
    );
    assert!(
        !steps
            .iter()
            .any(|step| step.contains("keyring") || step.contains("become user"))
    );
}

#[test]
fn a_process_that_joins_does_only_what_concerns_itself() {
    let process =
        br#"{"cwd": "/w", "args": ["a"], "terminal": true, "user": {"uid": 1, "umask": 63},
        "rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}], "oomScoreAdj": 3}"#;
    let (process, warnings) = parse_process(process).unwrap();
    assert!(warnings.is_empty());
    let asked = ExecRequest {
        name: &name(),
        user_namespace: true,
        console_size: Some((80, 24)),
        keyring: true,
        preserve_fds: 2,
        seccomp: None,
        personality: None,
    };
    let steps = exec_steps(&process, &asked).unwrap();
    assert_eq!(
        lines(&steps),
        [
            "enter the cgroup",
            "set oom_score_adj to 3",
            "become root of the user namespace",
            "start a session",
            "open the terminal",
            "join the session keyring _ses.ns1",
            "set RLIMIT_CPU",
            "change to the directory /w",
            "become user 1:0",
            "set the capabilities",
            "close the other descriptors",
            "exec a",
        ]
    );
}

#[test]
fn over_the_hosts_files_only_what_shows_namespaces_is_mounted() {
    let new = BTreeSet::from(NamespaceKind::ALL)
        .into_iter()
        .filter(|kind| !matches!(kind, NamespaceKind::User | NamespaceKind::Time))
        .collect();
    let asked = |new, cwd| HostRequest {
        layout: Box::leak(Box::new(v1())),
        new,
        cgroup: None,
        command: Some(Command {
            args: vec!["ip".to_owned()],
            env: Vec::new(),
            home_of: None,
        }),
        cwd: Path::new(cwd),
        new_session: false,
        wired: true,
        preserve_fds: 0,
        die_with_parent: true,
    };
    let node = host_node(&name(), asked(&new, "/root"));
    assert_eq!(
        lines(&node.steps),
        [
            "make a new cgroup namespace",
            "make the host's mounts slave",
            "take the host's files as the root",
            "mount proc on /proc (nosuid,nodev,noexec)",
            "keep /sys/fs/cgroup",
            "mount sysfs on /sys (nosuid,nodev,noexec)",
            "bind /sys/fs/cgroup on /sys/fs/cgroup",
            "wait at the gate `wired`",
            "close the other descriptors",
            "exec ip",
        ]
    );
    assert!(node.loopback && node.die_with_parent);
    let inside = host_node(&name(), asked(&new, "/sys/class"));
    in_order(
        &inside,
        &[
            "bind /sys/fs/cgroup on /sys/fs/cgroup",
            "change to the directory /sys/class",
        ],
    );

    let net_only = BTreeSet::from([NamespaceKind::Network]);
    let node = host_node(&name(), asked(&net_only, "/sys"));
    assert_eq!(
        lines(&node.steps),
        [
            "wait at the gate `wired`",
            "close the other descriptors",
            "exec ip"
        ]
    );
}

/// Every place in a document, as a JSON pointer.
fn places(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(key, member)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            places(member, &format!("{at}/{key}"), into);
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, item)| places(item, &format!("{at}/{index}"), into)),
        _ => {}
    }
}

/// A document in which everything that tincan does is there.
fn everything() -> Value {
    let mut config = template(Some(template::Owner { uid: 1, gid: 2 }), &v1());
    config["linux"]["sysctl"] = json!({"kernel.msgmax": "1"});
    config["linux"]["devices"] = json!([{"path": "/dev/a", "type": "c", "major": 1, "minor": 2}]);
    config["linux"]["resources"] = json!({"pids": {"limit": 3}, "memory": {"limit": 4}});
    config["linux"]["rootfsPropagation"] = json!("shared");
    config["linux"]["cgroupsPath"] = json!("/a");
    config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1}});
    config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "time"}));
    config["hooks"] = json!({"prestart": [{"path": "/h", "timeout": 1}]});
    config["annotations"] = json!({"a": "b"});
    config["process"]["consoleSize"] = json!({"height": 1, "width": 2});
    config["process"]["oomScoreAdj"] = json!(5);
    config
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop_oneof![
            Just("/"),
            Just(".."),
            Just("ro"),
            Just("user"),
            Just("bind"),
            Just("a=b"),
            Just("\0")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z~/]{1,6}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_mutation_of_a_bundle_makes_the_planner_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_value()), 1..4)
    ) {
        let mut config = everything();
        for (index, value) in changes {
            let mut all = Vec::new();
            places(&config, "", &mut all);
            let place: &String = index.get(all.as_slice());
            *config.pointer_mut(place).unwrap() = value;
        }
        if let Ok(bundle) = parse(&serde_json::to_vec(&config).unwrap()) {
            let error = node(&name(), &bundle, &request(&v2())).err();
            if let Some(error) = error {
                prop_assert!(!error.to_string().contains('\n'), "{}", error);
            }
        }
    }

    #[test]
    fn no_text_makes_the_planner_panic(text in "\\PC{0,60}") {
        let _ = parse(text.as_bytes());
        let _ = parse_process(text.as_bytes());
    }
}

#[test]
fn the_document_with_everything_is_accepted() {
    let bundle = parse(&serde_json::to_vec(&everything()).unwrap()).unwrap();
    let node = node(&name(), &bundle, &request(&v2())).unwrap();
    assert_eq!(node.identity.annotations["a"], "b");
    assert_eq!(node.identity.rootfs, Path::new("/b/rootfs"));
}
