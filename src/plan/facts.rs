//! What a plan needs to know of the host it is made for. The commands gather it, so that planning stays pure.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the root of a user namespace lacks of the machine's: file systems that belong to namespaces of the machine cannot be
/// mounted, device rules and cgroups are not to be had beyond what is delegated ([`CgroupLayout::whole`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// How many user ids there are, from 0 on.
    pub users: u32,
    /// How many group ids there are, from 0 on: files cannot be given to others.
    pub groups: u32,
}

/// How the host's cgroups are laid out (cgroups(7)), and where tincan itself is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupLayout {
    /// The mounted v1 hierarchies, in the order of `/proc/self/cgroup`; empty on a pure v2 host.
    pub v1: Vec<Hierarchy>,
    /// The v2 hierarchy, if mounted: alone at `/sys/fs/cgroup`, or beside v1 at `/sys/fs/cgroup/unified`.
    pub v2: Option<Hierarchy>,
    /// The host's, where the above is only that part of it which is delegated to a user who is not root. What a container
    /// asks for beyond that, it does without.
    pub whole: Option<Box<CgroupLayout>>,
}

impl CgroupLayout {
    /// As the host has it, whatever of it may be used.
    pub fn whole(&self) -> &CgroupLayout {
        self.whole.as_deref().unwrap_or(self)
    }
}

/// One cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers: `["cpu", "cpuacct"]`, `["name=systemd"]`; for v2, those in `cgroup.controllers` of its root.
    pub controllers: Vec<String>,
    /// Where it is mounted: `/sys/fs/cgroup/cpu`. The delegated cgroup, where a user has only a part.
    pub mount_point: PathBuf,
    /// The runtime's own cgroup in it, as `/proc/self/cgroup` has it: `/`, `/user.slice/…`.
    pub own: PathBuf,
}

impl Hierarchy {
    /// Whether it has this controller.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|has| has == controller)
    }
}

/// A systemd that makes cgroups for those who ask (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// Process 1, for root.
    System,
    /// The one of a user, with this id.
    User(u32),
}
