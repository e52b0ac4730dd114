//! What a test needs of the kernel and of who runs it. Where that is not there, the test is skipped: ignored, with the reason
//! shown and counted, since nothing passes by not running.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use caps::{CapSet, Capability};

/// Something that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The machine's own root: the suite is not that of a user.
    Root,
    /// cgroups of version 1.
    CgroupV1,
    /// cgroups of version 2, with controllers.
    CgroupV2,
    /// The queueing discipline that delays and loses packets (tc-netem(8)).
    Netem,
    /// Links that share their parent's link-layer address.
    Ipvlan,
    /// Links with link-layer addresses of their own on a parent.
    Macvlan,
    /// Frames in UDP packets.
    Vxlan,
    /// Packet filtering by nftables.
    Nftables,
    /// Sockets of SCTP.
    Sctp,
    /// podman, with CNI among its backends, and plugins for it.
    Podman,
    /// The CNI plugins of others, and the tool by which they lead ports.
    CniPlugins,
    /// The device by which programs make taps.
    Tun,
    /// Links that are tagged (802.1Q).
    Vlan,
    /// Encrypted tunnels.
    Wireguard,
    /// Links that swallow everything.
    Dummy,
    /// Pairs of links with programs instead of queues (Linux 6.7).
    Netkit,
    /// Mandatory access control by AppArmor, and the tool that loads its profiles.
    AppArmor,
    /// A kernel that runs without it.
    NoAppArmor,
    /// Mandatory access control by SELinux without a policy yet, and the compiler of policies, on a machine that is the test's alone.
    Selinux,
    /// A kernel that runs without it.
    NoSelinux,
    /// A resctrl file system that is mounted: one for the whole machine, with few groups.
    Resctrl,
    /// No resctrl file system: shares of caches are of few processors, and nobody has mounted it.
    NoResctrl,
    /// AppArmor with rules for user namespaces.
    AppArmorUserns,
    /// Debian's setting that keeps user namespaces from users, on a machine that is the test's alone.
    UsernsSysctl,
    /// Pressure stall information (psi.rst).
    Psi,
    /// Mapped ids of a tmpfs (Linux 6.3).
    TmpfsIds,
    /// Mounts in what is in no mount namespace (Linux 6.15).
    MountsApart,
    /// A second processor, number 1.
    Processors,
    /// CRIU, on a kernel that has what it needs.
    Criu,
    /// A root that may raise limits.
    SysResource,
    /// systemd as process 1, with a bus: the test runs beside it, and not on a machine that is all its own.
    Systemd,
}

impl Need {
    /// Why this is not there; none if it is.
    pub fn missing(self) -> Option<String> {
        match self {
            Need::Root => super::host::is_user().then(|| "a user may not".to_owned()),
            Need::Processors => lacks(
                Path::new("/sys/devices/system/cpu/cpu1").exists(),
                "a second processor",
            ),
            Need::SysResource => {
                let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE);
                (!may.unwrap_or(false)).then(|| "root is without CAP_SYS_RESOURCE here".to_owned())
            }
            Need::TmpfsIds => lacks(version() >= (6, 3), "mapped ids of a tmpfs"),
            Need::MountsApart => lacks(
                version() >= (6, 15),
                "mounts in what is in no mount namespace",
            ),
            Need::CgroupV1 => lacks(Path::new("/sys/fs/cgroup/memory").exists(), "v1 cgroups"),
            Need::CgroupV2 => lacks(
                fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
                    .is_ok_and(|controllers| controllers.contains("memory")),
                "v2 cgroups alone",
            ),
            Need::Netem => works(
                "ip link set lo up; tc qdisc add dev lo root netem delay 1ms",
                "sch_netem",
            ),
            Need::Ipvlan => works(
                "ip link add name p0 type veth peer name q0; ip link add link p0 name i0 type ipvlan",
                "ipvlan",
            ),
            Need::Macvlan => works(
                "ip link add name p0 type veth peer name q0; ip link add link p0 name m0 type macvlan",
                "macvlan",
            ),
            Need::Vxlan => works("ip link add v0 type vxlan id 5 dstport 4789", "vxlan"),
            Need::Nftables => works("nft add table inet t", "nftables, or there is no nft"),
            Need::Sctp => lacks(
                super::publish::associates(&(Ipv4Addr::LOCALHOST, 0).into()).is_ok(),
                "SCTP",
            ),
            Need::Podman => lacks(
                Path::new("/usr/bin/podman").exists() && Path::new("/usr/lib/cni/bridge").exists(),
                "podman, or CNI plugins for it (podman, containernetworking-plugins)",
            ),
            Need::CniPlugins => lacks(
                Path::new("/usr/lib/cni/portmap").exists()
                    && Path::new("/usr/sbin/iptables").exists(),
                "CNI plugins of others, or iptables (containernetworking-plugins, iptables)",
            ),
            Need::Tun => match fs::metadata("/dev/net/tun") {
                // udev(7) opens it to all, where it is.
                Ok(tun) if super::host::is_user() && tun.mode() & 0o006 != 0o006 => {
                    Some("/dev/net/tun is not open to users here".to_owned())
                }
                Ok(_) => None,
                Err(_) => lacks(false, "/dev/net/tun"),
            },
            Need::Vlan => works(
                "ip link add name p0 type veth peer name q0; ip link add link p0 name v0 type vlan id 5",
                "8021q",
            ),
            Need::Wireguard => works("ip link add name w0 type wireguard", "wireguard"),
            Need::Dummy => works("ip link add name d0 type dummy", "dummy"),
            Need::Netkit => works(
                "ip link add name k0 type netkit",
                "netkit, or this iproute2 does not know it",
            ),
            // By the directory every program knows systemd (sd_booted(3)).
            Need::Systemd => {
                let places = ["/run/systemd/system", "/run/dbus/system_bus_socket"];
                let is_there = places.iter().all(|place| Path::new(place).exists());
                (!is_there).then(|| "systemd is not process 1 here, or has no bus".to_owned())
            }
            Need::AppArmor => lacks(apparmor(), "AppArmor").or_else(|| {
                let parser = Command::new("apparmor_parser").arg("--version").output();
                parser
                    .is_err()
                    .then(|| "there is no apparmor_parser".to_owned())
            }),
            Need::Selinux => lacks(selinux(), "SELinux").or_else(|| {
                let compiler = Command::new("secilc").arg("--version").output();
                let unknown = compiler.is_err().then(|| "there is no secilc".to_owned());
                unknown.or_else(not_alone)
            }),
            Need::NoSelinux => selinux().then(|| "this kernel has SELinux".to_owned()),
            Need::Resctrl => {
                let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
                let is_mounted = mounts
                    .lines()
                    .any(|it| it.split(' ').nth(2) == Some("resctrl"));
                (!is_mounted).then(|| "no resctrl is mounted".to_owned())
            }
            Need::NoResctrl => fs::read_to_string("/proc/filesystems")
                .is_ok_and(|known| known.contains("\tresctrl\n"))
                .then(|| "this kernel has resctrl".to_owned()),
            Need::NoAppArmor => apparmor().then(|| "this kernel has AppArmor".to_owned()),
            Need::AppArmorUserns => lacks(
                fs::read_to_string("/sys/kernel/security/apparmor/features/namespaces/mask")
                    .is_ok_and(|mask| mask.contains("userns_create")),
                "AppArmor rules for user namespaces",
            ),
            Need::UsernsSysctl => lacks(
                Path::new("/proc/sys/kernel/unprivileged_userns_clone").exists(),
                "kernel.unprivileged_userns_clone",
            )
            .or_else(not_alone),
            Need::Criu => match Command::new("criu").arg("check").output() {
                Err(_) => Some("there is no criu".to_owned()),
                Ok(check) => lacks(check.status.success(), "what CRIU needs (criu check)"),
            },
            Need::Psi => lacks(Path::new("/proc/pressure/cpu").exists(), "PSI"),
        }
    }
}

/// Of the kernel.
fn version() -> (u32, u32) {
    let release = nix::sys::utsname::uname().unwrap();
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|it| it.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn not_alone() -> Option<String> {
    let own = std::env::var_os("TINCAN_TEST_OWN_MACHINE").is_some();
    (!own).then(|| "it changes the whole machine, and runs on its own one".to_owned())
}

/// By the file system that only a kernel which was booted with it knows.
fn selinux() -> bool {
    fs::read_to_string("/proc/filesystems").is_ok_and(|known| known.contains("\tselinuxfs\n"))
}

fn apparmor() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with(b"Y"))
}

fn lacks(is_there: bool, what: &str) -> Option<String> {
    (!is_there).then(|| format!("this kernel has no {what}"))
}

/// Tries it, in a network namespace of its own.
fn works(script: &str, what: &str) -> Option<String> {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-euc", script]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    lacks(status.is_ok_and(|status| status.success()), what)
}
