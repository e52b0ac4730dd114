//! What only v1 hierarchies have (Documentation/admin-guide/cgroup-v1).

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{Failed, Location, What, absent_is, read, write};
use crate::plan::facts::CgroupLayout;
use crate::plan::topology::Cgroup;

/// Gives a cgroup of the cpuset hierarchy, and those above it, the CPUs and memory nodes of its parent: a new one has
/// none, and takes no process until it has (cgroup-v1/cpusets.rst 2.2). What the plan sets by itself is left to it.
pub fn inherit_cpuset(dir: &Path, plan: &Cgroup, layout: &CgroupLayout) -> Result<(), Failed> {
    let root = layout
        .v1
        .iter()
        .find(|h| h.controllers.iter().any(|c| c == "cpuset"))
        .map(|h| h.mount_point.as_path());
    let mut path: Vec<&Path> = dir.ancestors().take_while(|d| Some(*d) != root).collect();
    path.reverse();
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let set = plan.settings.iter().any(|setting| setting.file == file);
        let mut above: Option<String> = None;
        for dir in path
            .iter()
            .take(path.len() - usize::from(set && !path.is_empty()))
        {
            let own = dir.join(file);
            let text = read(&own)?;
            if text.trim().is_empty() {
                let given = match (&above, dir.parent()) {
                    (Some(text), _) => text.clone(),
                    (None, Some(parent)) => read(&parent.join(file))?,
                    (None, None) => continue,
                };
                write(&own, given.trim())?;
                above = Some(given);
            } else {
                above = Some(text);
            }
        }
    }
    Ok(())
}

/// Whether systemd makes its units' cgroups in a hierarchy, by its controllers (systemd.resource-control(5)).
pub fn is_systemds(controllers: &str) -> bool {
    const OWN: [&str; 6] = ["cpu", "cpuacct", "blkio", "memory", "devices", "pids"];
    controllers
        .split(',')
        .any(|one| OWN.contains(&one) || one == "name=systemd")
}

/// How long a freeze may take: a process in an uninterruptible sleep freezes only after it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Freezes by the freezer's hierarchy.
pub fn freeze(location: &Location) -> Result<(), Failed> {
    let Some(dir) = location.v1_of("freezer") else {
        let dir = location.directories().next().unwrap_or(Path::new(""));
        return Err(Failed::new(What::Freeze, dir, Errno::OPNOTSUPP));
    };
    let file = dir.join("freezer.state");
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(50);
    loop {
        // Asked again every time: one that forked while it was FREEZING has to be told as well (freezer-subsystem.rst).
        write(&file, "FROZEN")?;
        if read(&file)?.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() > deadline {
            write(&file, "THAWED")?;
            return Err(Failed::new(What::Freeze, dir, Errno::TIMEDOUT));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Thaws by the freezer's hierarchy. What is gone is thawed.
pub fn thaw(location: &Location) -> Result<(), Failed> {
    match location.v1_of("freezer") {
        Some(dir) => absent_is(write(&dir.join("freezer.state"), "THAWED"), ()),
        None => Ok(()),
    }
}

/// Whether the freezer's hierarchy has it frozen, or on the way there.
pub fn is_frozen(location: &Location) -> Result<bool, Failed> {
    location.v1_of("freezer").map_or(Ok(false), holds)
}

/// Whether the freezer has this directory frozen, or on the way there, by itself or from above. The root, which has no such file, never is.
pub fn holds(dir: &Path) -> Result<bool, Failed> {
    let state = read(&dir.join("freezer.state")).map(|text| text.trim() != "THAWED");
    absent_is(state, false)
}
