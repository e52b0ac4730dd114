//! When memory runs out in a cgroup, and the kernel kills there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use rustix::io::Errno;

use super::stats::{table, take};
use super::{Failed, Location, What, write};

/// What tells of it: the descriptor becomes readable when something may have happened.
pub enum OomWatch {
    /// cgroup-v1/memory.rst, OOM Control: an eventfd counts how often memory ran out, before the kernel kills.
    V1 {
        /// The counter.
        counter: OwnedFd,
        /// The file that it was registered for; when it goes the counter tells too.
        file: PathBuf,
    },
    /// cgroup-v2.rst, `memory.events`: the file counts the killed, and tells when it changes.
    V2 {
        /// An inotify instance that watches the file.
        changes: OwnedFd,
        /// The file.
        file: PathBuf,
        /// What it said last.
        killed: u64,
    },
}

impl OomWatch {
    /// Watches a container's cgroup from now on. None where nothing counts its memory.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(location: &Location) -> Result<Option<Self>, Failed> {
        if let Some(dir) = location.v1_of("memory") {
            let file = dir.join("memory.oom_control");
            let failed = |e: io::Error| Failed::new(What::Open, &file, super::errno_of(&e));
            let control = File::open(&file).map_err(failed)?;
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let counter = eventfd(0, flags).map_err(|errno| failed(errno.into()))?;
            let line = format!("{} {}", counter.as_raw_fd(), control.as_raw_fd());
            write(&dir.join("cgroup.event_control"), &line)?;
            return Ok(Some(OomWatch::V1 { counter, file }));
        }
        let Some(dir) = &location.v2 else {
            return Ok(None);
        };
        let file = dir.join("memory.events");
        let failed = |errno| Failed::new(What::Open, &file, errno);
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let changes = inotify::init(flags).map_err(failed)?;
        match inotify::add_watch(&changes, &file, inotify::WatchFlags::MODIFY) {
            // The controller is not enabled.
            Err(Errno::NOENT) => Ok(None),
            other => {
                other.map_err(failed)?;
                let killed = killed_so_far(&file)?;
                Ok(Some(OomWatch::V2 {
                    changes,
                    file,
                    killed,
                }))
            }
        }
    }

    /// How often memory ran out since it was last asked, by v2 how many processes were killed for that.
    ///
    /// # Errors
    /// When the count cannot be read.
    pub fn news(&mut self) -> Result<u64, Failed> {
        match self {
            OomWatch::V1 { counter, file } => {
                let mut count = [0; 8];
                let is_new = rustix::io::read(counter, &mut count).is_ok();
                Ok(if is_new && file.exists() {
                    u64::from_ne_bytes(count)
                } else {
                    0
                })
            }
            OomWatch::V2 {
                changes,
                file,
                killed,
            } => {
                // What is read there says no more than that the file has changed.
                let mut buffer = [0; 4096];
                while rustix::io::read(&*changes, &mut buffer).is_ok_and(|length| length > 0) {}
                let before = *killed;
                *killed = killed_so_far(file)?.max(before);
                Ok(*killed - before)
            }
        }
    }
}

/// Of a cgroup that is gone it is 0.
fn killed_so_far(file: &Path) -> Result<u64, Failed> {
    Ok(take(&table(file)?, "oom_kill"))
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            OomWatch::V1 { counter: fd, .. } | OomWatch::V2 { changes: fd, .. } => fd.as_fd(),
        }
    }
}
