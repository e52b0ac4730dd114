//! A container's control group in resctrl: made, joined and removed. The file system is the kernel's own, and whoever wants it has
//! mounted it (Documentation/filesystems/resctrl.rst).

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::describe;
use crate::plan::resctrl::{ControlGroup, Maker, difference};
use crate::sys::errno_of;

/// Where a container's processes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Where resctrl is mounted.
    root: PathBuf,
    /// The control group.
    group: PathBuf,
    /// The monitoring group in it, if the container has one.
    monitoring: Option<PathBuf>,
}

/// Why a container is not in its control group.
#[derive(Debug)]
pub struct Failed {
    what: String,
    why: String,
    /// What was to be made is there: it is somebody else's.
    is_taken: bool,
}

impl Failed {
    /// Whether there was a group of that name before.
    pub fn is_taken(&self) -> bool {
        self.is_taken
    }

    fn new(what: String, why: impl Into<String>) -> Self {
        Failed {
            what,
            why: why.into(),
            is_taken: false,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl Location {
    /// Where a container is to be.
    ///
    /// # Errors
    /// When resctrl is not mounted, or what is to be the container's own is there: it is somebody else's.
    pub fn planned(plan: &ControlGroup) -> Result<Self, Failed> {
        let what = || "linux.intelRdt".to_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo");
        let mounts = mounts.map_err(|cause| Failed::new(what(), cause.to_string()))?;
        let root = mounted(&mounts).ok_or_else(|| {
            let why = "no resctrl file system is mounted, of a kernel and processors that have it (mount -t resctrl)";
            Failed::new(what(), why)
        })?;
        let location = Location {
            group: root.join(&plan.path),
            monitoring: plan.monitoring.as_ref().map(|path| root.join(path)),
            root,
        };
        let own = location.own(plan);
        match own.iter().find(|directory| directory.exists()) {
            Some(taken) => {
                let what = format!("make {}", taken.display());
                Err(Failed::new(what, describe(Errno::EXIST)))
            }
            None => Ok(location),
        }
    }

    /// The directories that go with the container, in the order in which they are made.
    pub fn own(&self, plan: &ControlGroup) -> Vec<PathBuf> {
        let group = (plan.maker == Maker::Container).then_some(&self.group);
        group.into_iter().chain(&self.monitoring).cloned().collect()
    }

    /// Makes what there is not yet, and lets the group have its share.
    ///
    /// # Errors
    /// When a group that is the container's own is there; when one that is not to be made is missing, or has another share; as mkdir(2) and
    /// write(2).
    pub fn make(&self, plan: &ControlGroup) -> Result<(), Failed> {
        let is_new = match plan.maker {
            Maker::Container => self.make_own(&self.group).map(|()| true)?,
            Maker::Anybody => match fs::create_dir(&self.group) {
                Ok(()) => true,
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => false,
                Err(cause) => return Err(self.failed("make", &self.group, &cause)),
            },
            Maker::Others => false,
        };
        let schemata = self.group.join("schemata");
        if !is_new {
            let there = fs::read_to_string(&schemata);
            let there = there.map_err(|cause| self.failed("read", &schemata, &cause))?;
            if let Some(line) = difference(&plan.expected, &there) {
                let what = format!("linux.intelRdt: {}", schemata.display());
                return Err(Failed::new(what, format!("is not `{line}`")));
            }
        }
        if !plan.schemata.is_empty() {
            let lines = plan.schemata.join("\n") + "\n";
            // One write, as the kernel takes the lines together or not at all.
            let written = fs::write(&schemata, lines);
            written.map_err(|cause| self.failed("write", &schemata, &cause))?;
        }
        match &self.monitoring {
            Some(monitoring) => self.make_own(monitoring),
            None => Ok(()),
        }
    }

    fn make_own(&self, directory: &Path) -> Result<(), Failed> {
        fs::create_dir(directory).map_err(|cause| Failed {
            is_taken: cause.kind() == io::ErrorKind::AlreadyExists,
            ..self.failed("make", directory, &cause)
        })
    }

    /// Puts a process there.
    ///
    /// # Errors
    /// As write(2).
    pub fn join(&self, pid: i32) -> Result<(), Failed> {
        for directory in [Some(&self.group), self.monitoring.as_ref()] {
            if let Some(tasks) = directory.map(|it| it.join("tasks")) {
                let joined = fs::write(&tasks, pid.to_string());
                joined.map_err(|cause| self.failed("write", &tasks, &cause))?;
            }
        }
        Ok(())
    }

    /// What could not be done, with what the kernel has to say about it beside the errno (resctrl.rst, `last_cmd_status`).
    fn failed(&self, deed: &str, path: &Path, cause: &io::Error) -> Failed {
        let what = format!("{deed} {}", path.display());
        let why = describe(errno_of(cause));
        let more = fs::read_to_string(self.root.join("info/last_cmd_status")).unwrap_or_default();
        match more.trim() {
            "" | "ok" => Failed::new(what, why),
            more => Failed::new(what, format!("{why} ({more})")),
        }
    }
}

/// Removes a group. Its processes go to the one above.
///
/// # Errors
/// As rmdir(2); one that is gone is no error.
pub fn remove(directory: &Path) -> Result<(), Errno> {
    match rustix::fs::rmdir(directory) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Where resctrl is mounted, by a `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
fn mounted(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let at = mount.split(' ').nth(4)?;
        let is_it = filesystem.split(' ').next() == Some("resctrl");
        is_it.then(|| PathBuf::from(at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_by_its_type() {
        let there = "22 1 0:20 / /sys rw,relatime shared:7 - sysfs sysfs rw\n\
                     40 22 0:35 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw\n";
        assert_eq!(mounted(there), Some("/sys/fs/resctrl".into()));
        let not = "22 1 0:20 / /resctrl rw,relatime - tmpfs resctrl rw\n";
        assert_eq!(mounted(not), None);
    }
}
