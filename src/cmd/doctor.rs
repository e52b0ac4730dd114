//! `tincan doctor`: what this machine has of what tincan can use, and where to get the rest.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::{Format, aligned, print_json};
use crate::engine::hold::Engine;
use crate::engine::user::Need;
use crate::net::{nft, probe};
use crate::plan::topology::NamespaceKind;
use crate::sys::lsm;

/// The arguments of `tincan doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

/// One thing that a machine has or has not.
#[derive(Debug, Serialize)]
struct Finding {
    /// `link`, `qdisc`, `namespace`, …
    area: &'static str,
    /// What, as one asks for it.
    what: String,
    /// Whether it is there.
    there: bool,
    /// Whether tincan starts nothing without it.
    needed: bool,
    /// What would provide it: a kernel option, a package; or what there is to know of it.
    note: String,
}

impl Finding {
    fn new(area: &'static str, what: impl Into<String>, there: bool, from: &str) -> Self {
        Finding {
            area,
            what: what.into(),
            there,
            needed: false,
            note: if there {
                String::new()
            } else {
                from.to_owned()
            },
        }
    }

    fn needed(mut self) -> Self {
        self.needed = true;
        self
    }
}

/// The kinds of link, as rtnetlink names them, and the kernel's option for each.
const LINKS: [(&str, &str); 10] = [
    ("veth", "CONFIG_VETH"),
    ("bridge", "CONFIG_BRIDGE"),
    ("macvlan", "CONFIG_MACVLAN"),
    ("ipvlan", "CONFIG_IPVLAN"),
    ("vlan", "CONFIG_VLAN_8021Q"),
    ("vxlan", "CONFIG_VXLAN"),
    ("wireguard", "CONFIG_WIREGUARD"),
    ("dummy", "CONFIG_DUMMY"),
    ("ifb", "CONFIG_IFB"),
    ("netkit", "CONFIG_NETKIT, Linux 6.7"),
];

/// The queueing disciplines, and the kernel's option for each.
const QDISCS: [(&str, &str); 4] = [
    ("netem", "CONFIG_NET_SCH_NETEM"),
    ("tbf", "CONFIG_NET_SCH_TBF"),
    ("htb", "CONFIG_NET_SCH_HTB"),
    ("ingress", "CONFIG_NET_SCH_INGRESS"),
];

/// The programs that tincan starts, what for, and the package that has them.
const TOOLS: [(&str, &str); 4] = [
    ("newuidmap", "package uidmap: more than one id without root"),
    ("newgidmap", "package uidmap: more than one id without root"),
    ("pasta", "package passt: --net pasta"),
    ("criu", "package criu: checkpoint and restore"),
];

/// The cgroup controllers that limits of the specification are of.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "memory", "pids", "io"];

/// Looks, and says what there is. Fails when something is missing that tincan cannot do without.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Make)?;
    let mut findings = namespaces();
    findings.extend(network()?);
    findings.extend(cgroups(engine)?);
    findings.extend(security());
    findings.extend(TOOLS.map(|(tool, from)| Finding::new("tool", tool, is_installed(tool), from)));
    let lacks = findings.iter().any(|it| it.needed && !it.there);
    match args.format {
        Format::Json => print_json(&findings)?,
        Format::Table => {
            let header = ["AREA", "WHAT", "THERE", "NOTE"];
            let mut table = vec![header.map(str::to_owned)];
            table.extend(findings.into_iter().map(|it| {
                let there = match (it.there, it.needed) {
                    (true, _) => "yes",
                    (false, true) => "NO",
                    (false, false) => "no",
                };
                [it.area.to_owned(), it.what, there.to_owned(), it.note]
            }));
            std::io::stdout()
                .lock()
                .write_all(aligned(&table).as_bytes())?;
        }
    }
    Ok(if lacks {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Each kind has a file for the process itself (namespaces(7)).
fn namespaces() -> Vec<Finding> {
    NamespaceKind::ALL
        .map(|kind| {
            let option = match kind {
                NamespaceKind::User => "CONFIG_USER_NS",
                NamespaceKind::Cgroup => "CONFIG_CGROUPS",
                NamespaceKind::Ipc => "CONFIG_IPC_NS",
                NamespaceKind::Uts => "CONFIG_UTS_NS",
                NamespaceKind::Network => "CONFIG_NET_NS",
                NamespaceKind::Pid => "CONFIG_PID_NS",
                NamespaceKind::Time => "CONFIG_TIME_NS",
                NamespaceKind::Mount => "CONFIG_NAMESPACES",
            };
            let there = Path::new("/proc/self/ns").join(kind.proc_name()).exists();
            let finding = Finding::new("namespace", kind.to_string(), there, option);
            match kind {
                NamespaceKind::User | NamespaceKind::Time => finding,
                _ => finding.needed(),
            }
        })
        .into()
}

/// What the kernel says of links and queueing disciplines, and what else a network takes.
fn network() -> anyhow::Result<Vec<Finding>> {
    let mut findings = probe::apart(|netlink| {
        let mut findings = Vec::new();
        for (kind, option) in LINKS {
            let finding = Finding::new("link", kind, probe::knows_link(netlink, kind)?, option);
            findings.push(if kind == "veth" {
                finding.needed()
            } else {
                finding
            });
        }
        for (kind, option) in QDISCS {
            let there = probe::knows_qdisc(netlink, kind)?;
            findings.push(Finding::new("qdisc", kind, there, option));
        }
        let there = nft::is_supported();
        let option = "CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET";
        findings.push(Finding::new("firewall", "nftables", there, option));
        Ok(findings)
    })?;
    let tap = Path::new("/dev/net/tun").exists();
    findings.push(Finding::new("link", "tap", tap, "CONFIG_TUN, /dev/net/tun"));
    let ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    findings.push(Finding::new("protocol", "IPv6", ipv6, "CONFIG_IPV6"));
    Ok(findings)
}

/// The hierarchies, and the controllers that are in one of them.
fn cgroups(engine: &Engine) -> anyhow::Result<Vec<Finding>> {
    let layout = engine.layout()?;
    let mut v2 = Finding::new("cgroup", "v2", layout.v2.is_some(), "CONFIG_CGROUPS");
    v2.note = match (&layout.v2, layout.v1.is_empty()) {
        (Some(v2), true) => v2.mount_point.display().to_string(),
        (Some(v2), false) => format!("{}, beside v1", v2.mount_point.display()),
        (None, false) => "v1 alone".to_owned(),
        (None, true) if layout.whole.is_some() => "none of it is delegated to you".to_owned(),
        (None, true) => "not mounted".to_owned(),
    };
    let mut findings = vec![v2];
    for controller in CONTROLLERS {
        let in_v1 = if controller == "io" {
            "blkio"
        } else {
            controller
        };
        let v1 = layout.v1.iter().find(|it| it.has(in_v1));
        let found = v1.or(layout.v2.as_ref().filter(|it| it.has(controller)));
        let mut finding =
            Finding::new("cgroup", controller, found.is_some(), "no hierarchy has it");
        if let Some(found) = found {
            finding.note = found.mount_point.display().to_string();
        }
        findings.push(finding);
    }
    let psi = Path::new("/proc/pressure/cpu").exists();
    findings.push(Finding::new(
        "cgroup",
        "pressure",
        psi,
        "CONFIG_PSI, and psi=1 at boot",
    ));
    Ok(findings)
}

/// What keeps containers from things beyond their namespaces.
fn security() -> Vec<Finding> {
    let exists = |path: &str| Path::new(path).exists();
    vec![
        Finding::new(
            "security",
            "AppArmor",
            lsm::apparmor_is_on(),
            "CONFIG_SECURITY_APPARMOR, and `apparmor` in the kernel's lsm= list",
        ),
        Finding::new(
            "security",
            "SELinux",
            exists("/sys/fs/selinux/enforce"),
            "CONFIG_SECURITY_SELINUX, and `selinux` in the kernel's lsm= list",
        ),
        Finding::new(
            "security",
            "seccomp",
            exists("/proc/sys/kernel/seccomp/actions_avail"),
            "CONFIG_SECCOMP_FILTER",
        ),
    ]
}

/// Whether a program is in `PATH` (execvp(3)).
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
