//! What a plan needs to know of the host it is made for. The commands gather it, so that planning stays pure.

use std::path::PathBuf;

/// How the host's cgroups are laid out (cgroups(7)), and where tincan itself is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupLayout {
    /// The mounted v1 hierarchies, in the order of `/proc/self/cgroup`; empty on a pure v2 host.
    pub v1: Vec<Hierarchy>,
    /// The v2 hierarchy, if mounted: alone at `/sys/fs/cgroup`, or beside v1 at `/sys/fs/cgroup/unified`.
    pub v2: Option<Hierarchy>,
}

/// One cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers: `["cpu", "cpuacct"]`, `["name=systemd"]`; for v2, those in `cgroup.controllers` of its root.
    pub controllers: Vec<String>,
    /// Where it is mounted: `/sys/fs/cgroup/cpu`.
    pub mount_point: PathBuf,
    /// The runtime's own cgroup in it, as `/proc/self/cgroup` has it: `/`, `/user.slice/…`.
    pub own: PathBuf,
}
