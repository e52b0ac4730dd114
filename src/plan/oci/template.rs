//! The bundles that tincan writes itself: `tincan spec`'s, and the one that stands for `tincan run --rootfs DIR -- CMD`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::facts::CgroupLayout;
use super::super::topology::NamespaceKind;
use super::{BadBundle, Bundle};

/// What tincan says in `ociVersion`.
pub const OCI_VERSION: &str = "1.3.0";

/// The ids that a rootless bundle maps its root to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user's own id.
    pub uid: u32,
    /// The user's own group id.
    pub gid: u32,
}

/// The `config.json` that `tincan spec` writes: that of `runc spec`. On a pure v2 host the container gets a cgroup namespace
/// of its own, as runc has it; with an `owner` it is `--rootless`.
pub fn template(owner: Option<Owner>, layout: &CgroupLayout) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mut config = json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm"
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "tincan",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]
            },
            {
                "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
            },
            {
                "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
            },
            {
                "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"]
            },
            {
                "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]
            },
            {
                "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]
            }
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" },
                { "type": "network" },
                { "type": "ipc" },
                { "type": "uts" },
                { "type": "mount" }
            ],
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi"
            ],
            "readonlyPaths": [
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sys",
                "/proc/sysrq-trigger"
            ]
        }
    });
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    if layout.whole().v1.is_empty() && layout.whole().v2.is_some() {
        namespaces.push("cgroup");
    }
    if let Some(owner) = owner {
        // Who owns no network namespace can mount no sysfs, and who has one group can give away no terminals.
        namespaces.retain(|kind| *kind != "network");
        namespaces.push("user");
        config["mounts"][2]["options"] = json!([
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620"
        ]);
        config["mounts"][5] = json!({
            "destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]
        });
        let map = |id| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        config["linux"]["uidMappings"] = map(owner.uid);
        config["linux"]["gidMappings"] = map(owner.gid);
        if let Some(linux) = config["linux"].as_object_mut() {
            linux.remove("resources");
        }
    }
    config["linux"]["namespaces"] = namespaces
        .into_iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    config
}

/// What a `tincan run --rootfs DIR -- CMD` says of its container.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The root directory, absolute.
    pub root: &'a Path,
    /// Nothing on the root can be written (`--read-only`).
    pub readonly: bool,
    /// The command and its arguments.
    pub args: Vec<String>,
    /// The environment, as `KEY=value`.
    pub env: Vec<String>,
    /// The working directory in the container, absolute.
    pub cwd: PathBuf,
    /// Whether the command gets a terminal of its own.
    pub terminal: bool,
    /// Whether there is /dev/net/tun.
    pub tun: bool,
    /// The host name, where the container does not share the host's.
    pub hostname: &'a str,
    /// The namespaces that are kept (`--share`). A user namespace is not made in any case.
    pub shared: &'a BTreeSet<NamespaceKind>,
}

/// What containers of Docker may do, and what a container on a network of its own needs to look after it.
const CAPABILITIES: [&str; 15] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The bundle of a `tincan run --rootfs DIR -- CMD`: the template with the command in it, without limits, with the rights
/// that root of a container usually has, and with a cgroup namespace too.
pub fn default_bundle(wanted: &Wanted, layout: &CgroupLayout) -> Result<Bundle, BadBundle> {
    let mut config = template(None, layout);
    let text = |path: &Path, property: &str| match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(BadBundle::new(
            property,
            format!("`{}` is not UTF-8, which JSON cannot say", path.display()),
        )),
    };
    config["root"] =
        json!({ "path": text(wanted.root, "root.path")?, "readonly": wanted.readonly });
    // The ambient set stays empty: root needs none, and whoever root becomes shall not keep them.
    config["process"] = json!({
        "terminal": wanted.terminal,
        "user": { "uid": 0, "gid": 0 },
        "args": wanted.args,
        "env": wanted.env,
        "cwd": text(&wanted.cwd, "process.cwd")?,
        "capabilities": {
            "bounding": CAPABILITIES,
            "effective": CAPABILITIES,
            "permitted": CAPABILITIES
        },
        "noNewPrivileges": true
    });
    let new = |kind: NamespaceKind| !wanted.shared.contains(&kind);
    if new(NamespaceKind::Uts) {
        config["hostname"] = json!(wanted.hostname);
    } else if let Some(members) = config.as_object_mut() {
        members.remove("hostname");
    }
    let kinds = [
        ("pid", NamespaceKind::Pid),
        ("network", NamespaceKind::Network),
        ("ipc", NamespaceKind::Ipc),
        ("uts", NamespaceKind::Uts),
        ("mount", NamespaceKind::Mount),
        ("cgroup", NamespaceKind::Cgroup),
    ];
    config["linux"]["namespaces"] = kinds
        .into_iter()
        .filter(|(_, kind)| new(*kind))
        .map(|(word, _)| json!({ "type": word }))
        .collect();
    if let Some(linux) = config["linux"].as_object_mut() {
        linux.remove("resources");
    }
    if wanted.tun {
        // Documentation/networking/tuntap.rst, 1.2.
        config["linux"]["devices"] = json!([{
            "path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o666
        }]);
    }
    super::from_value(config)
}

#[cfg(test)]
pub(in crate::plan) mod tests {
    use super::super::super::facts::Hierarchy;
    use super::*;

    fn hierarchy(controllers: &[&str], mount_point: &str) -> Hierarchy {
        Hierarchy {
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            mount_point: PathBuf::from(mount_point),
            own: PathBuf::from("/"),
        }
    }

    /// A v1 host with two hierarchies.
    pub fn v1() -> CgroupLayout {
        CgroupLayout {
            v1: vec![
                hierarchy(&["devices"], "/sys/fs/cgroup/devices"),
                hierarchy(&["name=systemd"], "/sys/fs/cgroup/systemd"),
            ],
            v2: None,
            whole: None,
        }
    }

    /// A v1 host that has two controllers in one hierarchy, and v2 beside it.
    pub fn hybrid_joint() -> CgroupLayout {
        CgroupLayout {
            v1: vec![
                hierarchy(&["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct"),
                hierarchy(&["name=systemd"], "/sys/fs/cgroup/systemd"),
            ],
            v2: Some(hierarchy(&[], "/sys/fs/cgroup/unified")),
            whole: None,
        }
    }

    /// A v2 host.
    pub fn v2() -> CgroupLayout {
        CgroupLayout {
            v1: Vec::new(),
            v2: Some(hierarchy(&["cpu", "memory", "pids"], "/sys/fs/cgroup")),
            whole: None,
        }
    }

    fn kinds(config: &Value) -> Vec<&str> {
        let namespaces = config["linux"]["namespaces"].as_array().unwrap();
        namespaces
            .iter()
            .map(|ns| ns["type"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn the_template_has_a_cgroup_namespace_on_v2_alone() {
        assert_eq!(
            kinds(&template(None, &v1())),
            ["pid", "network", "ipc", "uts", "mount"]
        );
        assert_eq!(
            kinds(&template(None, &v2())),
            ["pid", "network", "ipc", "uts", "mount", "cgroup"]
        );
    }

    #[test]
    fn the_rootless_template_maps_the_owner_and_keeps_the_hosts_network() {
        let config = template(
            Some(Owner {
                uid: 1000,
                gid: 100,
            }),
            &v1(),
        );
        assert_eq!(kinds(&config), ["pid", "ipc", "uts", "mount", "user"]);
        assert_eq!(config["linux"]["gidMappings"][0]["hostID"], 100);
        assert_eq!(config["mounts"][5]["source"], "/sys");
        assert!(config["linux"].get("resources").is_none());
        assert!(super::super::from_value(config).is_ok());
    }

    #[test]
    fn a_run_without_a_bundle_gets_its_command_its_root_and_no_limits() {
        let shared = BTreeSet::from([NamespaceKind::Uts, NamespaceKind::Network]);
        let wanted = Wanted {
            root: Path::new("/r"),
            readonly: true,
            args: vec!["ip".to_owned(), "addr".to_owned()],
            env: vec!["A=b".to_owned()],
            cwd: PathBuf::from("/tmp"),
            terminal: false,
            tun: false,
            hostname: "ns1",
            shared: &shared,
        };
        let bundle = default_bundle(&wanted, &v1()).unwrap();
        let spec = &bundle.spec;
        assert_eq!(spec.root().as_ref().unwrap().path(), Path::new("/r"));
        assert_eq!(*spec.hostname(), None);
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.args().as_deref().unwrap(), ["ip", "addr"]);
        assert_eq!(*process.rlimits(), None);
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(*linux.resources(), None);
        let kinds: Vec<String> = linux
            .namespaces()
            .iter()
            .flatten()
            .map(|ns| ns.typ().to_string())
            .collect();
        assert_eq!(kinds, ["pid", "ipc", "mnt", "cgroup"]);
    }
}
