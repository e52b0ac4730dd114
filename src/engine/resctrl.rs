//! A container's control group in resctrl: made, joined, given another share, asked what was used, and removed. The file system is the kernel's own, and whoever wants it has
//! mounted it (Documentation/filesystems/resctrl.rst).

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::checkpoint::unescaped;
use super::error::describe;
use crate::plan::resctrl::{BANDWIDTH, ControlGroup, Maker, Share, before, difference, line_of};
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
        let root = mounted().map_err(|why| Failed::new("linux.intelRdt".to_owned(), why))?;
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
        // A group that somebody else has just made has its share, too, when it is looked at.
        let _lock = self.lock()?;
        let is_new = match plan.maker {
            Maker::Container => self.make_own(&self.group).map(|()| true)?,
            Maker::Anybody => match fs::create_dir(&self.group) {
                Ok(()) => true,
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => false,
                Err(cause) => return Err(self.failed("make", &self.group, &cause)),
            },
            Maker::Others => false,
        };
        if let Err(mut failed) = self.share_out(plan, is_new) {
            // It is in nobody's journal, and whoever came next would find a share that nobody has asked for.
            if is_new
                && plan.maker == Maker::Anybody
                && let Err(errno) = remove(&self.group)
            {
                failed.why += &format!("; it is not removed: {}", describe(errno));
            }
            return Err(failed);
        }
        match &self.monitoring {
            Some(monitoring) => self.make_own(monitoring),
            None => Ok(()),
        }
    }

    /// Compares the share of a group that was there, and writes what is asked for.
    fn share_out(&self, plan: &ControlGroup, is_new: bool) -> Result<(), Failed> {
        if !is_new {
            let there = self.schemata()?;
            let step = number(&self.root.join("info/MB/bandwidth_gran"))?;
            if let Some(line) = difference(&plan.share, &there, step) {
                let what = format!("linux.intelRdt: {}", self.group.join(SCHEMATA).display());
                return Err(Failed::new(what, format!("is not `{line}`")));
            }
        }
        // One after the other, as the specification has it: the kernel takes no two lines about the same at once.
        let mut parts = [&plan.share, &plan.schemata].into_iter();
        parts.try_for_each(|lines| match lines.is_empty() {
            true => Ok(()),
            false => self.write(lines),
        })
    }

    /// What the group has.
    fn schemata(&self) -> Result<String, Failed> {
        let file = self.group.join(SCHEMATA);
        fs::read_to_string(&file).map_err(|cause| unread(&file, &cause))
    }

    /// Gives the group what the lines say.
    fn write(&self, lines: &[String]) -> Result<(), Failed> {
        let file = self.group.join(SCHEMATA);
        // One write, as the kernel takes the lines together or not at all.
        let written = fs::write(&file, lines.join("\n") + "\n");
        written.map_err(|cause| self.failed("write", &file, &cause))
    }

    /// Keeps others from making and changing groups, as long as they ask for this lock, which is the file system's own (resctrl.rst, Locking
    /// applications).
    fn lock(&self) -> Result<File, Failed> {
        let locked = File::open(&self.root).and_then(|root| {
            rustix::io::retry_on_intr(|| flock(&root, FlockOperation::LockExclusive))?;
            Ok(root)
        });
        locked.map_err(|cause| {
            let what = format!("lock {}", self.root.display());
            Failed::new(what, describe(errno_of(&cause)))
        })
    }

    /// Where another share of a container's can be written, by the group that it has.
    ///
    /// # Errors
    /// With runc's words: when there is no such share on this machine; when the container has no group, which it cannot get later.
    pub fn to_update<'a>(own: Option<&'a Location>, share: &Share) -> Result<&'a Location, Failed> {
        let kinds = [
            (
                &share.caches,
                "l3 cache schema",
                // With code and data apart (`-o cdp`), caches have two lines instead of that one.
                &["L3", "L3CODE"][..],
            ),
            (&share.bandwidth, "memory bandwidth schema", &[BANDWIDTH]),
        ];
        let asked = kinds.into_iter().filter(|(asked, ..)| asked.is_some());
        let mut what = "linux.intelRdt";
        for (_, kind, resources) in asked {
            what = kind;
            let refused = |why: String| Failed::new(kind.to_owned(), why);
            let root = match own {
                Some(own) => own.root.clone(),
                None => mounted().map_err(|why| refused(format!("is not enabled: {why}")))?,
            };
            let info = root.join("info");
            if !resources.iter().any(|it| info.join(it).exists()) {
                let lacking = info.join(resources[0]);
                let why = format!("is not enabled: there is no {}", lacking.display());
                return Err(refused(why));
            }
        }
        own.ok_or_else(|| {
            let why = "updating a non-existent Intel RDT configuration is not supported: the container was made without linux.intelRdt";
            Failed::new(what.to_owned(), why)
        })
    }

    /// Gives the group another share, whole or not at all, and returns the lines by which it has its former one again.
    ///
    /// # Errors
    /// As write(2).
    pub fn update(&self, share: &Share) -> Result<Vec<String>, Failed> {
        let _lock = self.lock()?;
        let there = self.schemata()?;
        let lines = share.lines();
        self.write(&lines)?;
        Ok(before(&lines, &there))
    }

    /// Gives the group the share that it had before [`Location::update`].
    ///
    /// # Errors
    /// As write(2).
    pub fn put_back(&self, lines: &[String]) -> Result<(), Failed> {
        let _lock = self.lock()?;
        self.write(lines)
    }

    /// What the group has, and what was used in it: in the container's own monitoring group, if it has one. Nothing where resctrl is not mounted
    /// any more.
    ///
    /// # Errors
    /// When the group is gone; as read(2).
    pub fn stats(&self) -> Result<Stats, Failed> {
        let file = self.root.join(SCHEMATA);
        let root = match fs::read_to_string(&file) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Stats::default()),
            other => other.map_err(|cause| unread(&file, &cause))?,
        };
        let group = self.schemata()?;
        let of = |resource, text| line_of(resource, text).map(str::to_owned);
        let info = |resource: &str| {
            let directory = self.root.join("info").join(resource);
            directory.exists().then_some(directory)
        };
        let caches = info(CACHES);
        let bandwidth = info(BANDWIDTH);
        let mut stats = Stats {
            schemata: group.lines().map(|line| line.trim().to_owned()).collect(),
            ..Stats::default()
        };
        if let Some(info) = caches {
            stats.l3_cache_info = Some(CacheInfo {
                cbm_mask: read(&info.join("cbm_mask"))?,
                min_cbm_bits: nonzero(&info.join("min_cbm_bits"))?,
                num_closids: nonzero(&info.join("num_closids"))?,
            });
            stats.l3_cache_schema_root = of(CACHES, &root);
            stats.l3_cache_schema = of(CACHES, &group);
        }
        if let Some(info) = bandwidth {
            stats.mem_bw_info = Some(BandwidthInfo {
                bandwidth_gran: nonzero(&info.join("bandwidth_gran"))?,
                delay_linear: nonzero(&info.join("delay_linear"))?,
                min_bandwidth: nonzero(&info.join("min_bandwidth"))?,
                num_closids: nonzero(&info.join("num_closids"))?,
            });
            stats.mem_bw_schema_root = of(BANDWIDTH, &root);
            stats.mem_bw_schema = of(BANDWIDTH, &group);
        }
        for domain in self.domains()? {
            stats.mbm_stats.push(BandwidthUse {
                mbm_total_bytes: number(&domain.join("mbm_total_bytes"))?,
                mbm_local_bytes: number(&domain.join("mbm_local_bytes"))?,
            });
            stats.cmt_stats.push(CacheUse {
                llc_occupancy: number(&domain.join("llc_occupancy"))?,
            });
        }
        // What is counted nowhere is left out, and a domain in which alone it is not keeps its place.
        let is_nowhere = |it: &BandwidthUse| *it == BandwidthUse::default();
        if stats.mbm_stats.iter().all(is_nowhere) {
            stats.mbm_stats.clear();
        }
        if stats.cmt_stats.iter().all(|it| *it == CacheUse::default()) {
            stats.cmt_stats.clear();
        }
        Ok(stats)
    }

    /// The directories of what was used, one for each cache of the third level, in the order of their names; none without monitoring.
    fn domains(&self) -> Result<Vec<PathBuf>, Failed> {
        let group = self.monitoring.as_ref().unwrap_or(&self.group);
        let directory = group.join("mon_data");
        let entries = match fs::read_dir(&directory) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && group.exists() => {
                return Ok(Vec::new());
            }
            other => other.map_err(|cause| unread(&directory, &cause))?,
        };
        let mut domains = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|cause| unread(&directory, &cause))?;
            if entry.file_name().as_encoded_bytes().starts_with(b"mon_L3_") {
                domains.push(entry.path());
            }
        }
        domains.sort();
        Ok(domains)
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

/// The file of a group that says what it has.
const SCHEMATA: &str = "schemata";

/// The resource of the lines about caches of the third level.
const CACHES: &str = "L3";

/// What is in a group, with runc's keys and units (types/events.go of runc). What the machine does not have is left out.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// What there is of caches.
    #[serde(skip_serializing_if = "Option::is_none")]
    l3_cache_info: Option<CacheInfo>,
    /// What everybody has of them who is in no group.
    #[serde(skip_serializing_if = "Option::is_none")]
    l3_cache_schema_root: Option<String>,
    /// What the group has of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    l3_cache_schema: Option<String>,
    /// What there is of memory bandwidth.
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_bw_info: Option<BandwidthInfo>,
    /// What everybody has of it who is in no group.
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_bw_schema_root: Option<String>,
    /// What the group has of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_bw_schema: Option<String>,
    /// All that the group has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    schemata: Vec<String>,
    /// What has passed between the processors of each cache and memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mbm_stats: Vec<BandwidthUse>,
    /// How much of each cache is used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cmt_stats: Vec<CacheUse>,
}

/// Caches of the third level (resctrl.rst, `info/L3`).
#[derive(Debug, Default, PartialEq, Serialize)]
struct CacheInfo {
    /// All bits of a mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    cbm_mask: Option<String>,
    /// How many bits a mask has at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_cbm_bits: Option<u64>,
    /// How many groups there can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    num_closids: Option<u64>,
}

/// Memory bandwidth (resctrl.rst, `info/MB`).
#[derive(Debug, Default, PartialEq, Serialize)]
struct BandwidthInfo {
    /// The step from one value to the next, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    bandwidth_gran: Option<u64>,
    /// Whether delays grow with the values.
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_linear: Option<u64>,
    /// The least that can be given, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_bandwidth: Option<u64>,
    /// How many groups there can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    num_closids: Option<u64>,
}

/// What has passed between a cache's processors and memory, in bytes.
#[derive(Debug, Default, PartialEq, Serialize)]
struct BandwidthUse {
    /// All memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    mbm_total_bytes: Option<u64>,
    /// Their own memory node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    mbm_local_bytes: Option<u64>,
}

/// What is used of a cache, in bytes.
#[derive(Debug, Default, PartialEq, Serialize)]
struct CacheUse {
    /// That.
    #[serde(skip_serializing_if = "Option::is_none")]
    llc_occupancy: Option<u64>,
}

/// What a file says; none where there is no such file.
fn read(file: &Path) -> Result<Option<String>, Failed> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(unread(file, &cause)),
    }
}

/// The number in a file; none where there is no such file, nor where the kernel has a word instead of a number, as `Unavailable`.
fn number(file: &Path) -> Result<Option<u64>, Failed> {
    Ok(read(file)?.and_then(|text| text.parse().ok()))
}

/// As [`number`], without what runc leaves out.
fn nonzero(file: &Path) -> Result<Option<u64>, Failed> {
    Ok(number(file)?.filter(|number| *number != 0))
}

/// What could not be read. What the kernel says of the last command is about another one.
fn unread(file: &Path, cause: &io::Error) -> Failed {
    let what = format!("read {}", file.display());
    Failed::new(what, describe(errno_of(cause)))
}

/// Where resctrl is mounted, in this mount namespace.
///
/// # Errors
/// That it is not.
fn mounted() -> Result<PathBuf, String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|cause| cause.to_string())?;
    root_in(&mounts).ok_or_else(|| {
        let why = "no resctrl file system is mounted, of a kernel and processors that have it (mount -t resctrl)";
        why.to_owned()
    })
}

/// Where resctrl is mounted, by a `/proc/PID/mountinfo` (proc_pid_mountinfo(5)): whole, not a group of it.
fn root_in(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (part, at) = (fields.next()?, fields.next()?);
        let is_it = part == "/" && filesystem.split(' ').next() == Some("resctrl");
        is_it.then(|| PathBuf::from(unescaped(at)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::resctrl;

    #[test]
    fn the_mount_is_found_by_its_type() {
        let there = "22 1 0:20 / /sys rw,relatime shared:7 - sysfs sysfs rw\n\
                     39 22 0:35 /gold /mnt rw,relatime shared:9 - resctrl resctrl rw\n\
                     40 22 0:35 / /sys/fs/the\\040resctrl rw,relatime shared:9 - resctrl resctrl rw\n";
        assert_eq!(root_in(there), Some("/sys/fs/the resctrl".into()));
        let not = "22 1 0:20 / /resctrl rw,relatime - tmpfs resctrl rw\n";
        assert_eq!(root_in(not), None);
    }

    /// A directory in place of resctrl: what is read and written where. What the kernel makes of it is not in these tests.
    struct Directory(tempfile::TempDir);

    impl Directory {
        fn new(files: &[(&str, &str)]) -> Self {
            let directory = Directory(tempfile::tempdir().unwrap());
            for (file, text) in files {
                directory.put(file, text);
            }
            directory
        }

        fn put(&self, file: &str, text: &str) {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn says(&self, file: &str) -> String {
            fs::read_to_string(self.0.path().join(file)).unwrap()
        }

        /// The place of a group that was made before, as every state file names it.
        fn location(&self, group: &str, monitoring: Option<&str>) -> Location {
            let root = self.0.path();
            let value = json!({
                "root": root,
                "group": root.join(group),
                "monitoring": monitoring.map(|it| root.join(it)),
            });
            serde_json::from_value(value).unwrap()
        }
    }

    fn plan(asked: serde_json::Value) -> ControlGroup {
        let asked = serde_json::from_value(asked).unwrap();
        resctrl::group(&"c1".parse().unwrap(), &asked).unwrap()
    }

    fn share(caches: Option<&str>, bandwidth: Option<&str>) -> Share {
        Share {
            caches: caches.map(str::to_owned),
            bandwidth: bandwidth.map(str::to_owned),
        }
    }

    #[test]
    fn what_a_group_has_and_uses_is_told_with_runcs_keys() {
        let all = Directory::new(&[
            ("schemata", "    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n"),
            ("info/L3/cbm_mask", "7ff\n"),
            ("info/L3/min_cbm_bits", "2\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/MB/bandwidth_gran", "10\n"),
            ("info/MB/delay_linear", "1\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("info/MB/num_closids", "8\n"),
            ("c1/schemata", "    MB:0= 20;1=100\n    L3:0=00f;1=7ff\n"),
            ("c1/mon_data/mon_L3_01/mbm_total_bytes", "Unavailable\n"),
            ("c1/mon_data/mon_L3_01/mbm_local_bytes", "3\n"),
            ("c1/mon_data/mon_L3_01/llc_occupancy", "4096\n"),
            (
                "c1/mon_data/mon_L3_00/mbm_total_bytes",
                "18446744073709551615\n",
            ),
            ("c1/mon_data/mon_L3_00/mbm_local_bytes", "1\n"),
            ("c1/mon_data/mon_L3_00/llc_occupancy", "0\n"),
            ("c1/mon_data/mon_PERF_PKG_00/core_energy", "1.5\n"),
        ]);
        let told = |location: Location| serde_json::to_value(location.stats().unwrap()).unwrap();
        let expected = json!({
            "l3_cache_info": {"cbm_mask": "7ff", "min_cbm_bits": 2, "num_closids": 16},
            "l3_cache_schema_root": "L3:0=7ff;1=7ff",
            "l3_cache_schema": "L3:0=00f;1=7ff",
            "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
            "mem_bw_schema_root": "MB:0=100;1=100",
            "mem_bw_schema": "MB:0= 20;1=100",
            "schemata": ["MB:0= 20;1=100", "L3:0=00f;1=7ff"],
            "mbm_stats": [{"mbm_total_bytes": u64::MAX, "mbm_local_bytes": 1}, {"mbm_local_bytes": 3}],
            "cmt_stats": [{"llc_occupancy": 0}, {"llc_occupancy": 4096}],
        });
        assert_eq!(told(all.location("c1", None)), expected);
        // The container's own numbers, where there are some.
        all.put("gold/schemata", "L3:0=7ff;1=7ff\n");
        all.put("gold/mon_data/mon_L3_00/llc_occupancy", "9\n");
        all.put("gold/mon_groups/c1/mon_data/mon_L3_00/llc_occupancy", "5\n");
        let own = told(all.location("gold", Some("gold/mon_groups/c1")));
        assert_eq!(own["cmt_stats"], json!([{"llc_occupancy": 5}]));
        assert_eq!(own.get("mbm_stats"), None);
        assert_eq!(own.get("mem_bw_schema"), None);
        let everybodys = told(all.location("gold", None));
        assert_eq!(everybodys["cmt_stats"], json!([{"llc_occupancy": 9}]));
        // A processor that has little of it.
        let some = Directory::new(&[("schemata", "L2:0=ff\n"), ("c1/schemata", "L2:0=f\n")]);
        assert_eq!(
            told(some.location("c1", None)),
            json!({"schemata": ["L2:0=f"]})
        );
        // A group that is gone is an error, and a file system that is gone is not.
        let gone = some.location("c2", None).stats().unwrap_err().to_string();
        let file = some.0.path().join("c2/schemata");
        assert_eq!(
            gone,
            format!("read {}: No such file or directory", file.display())
        );
        let nothing = Directory::new(&[]);
        assert_eq!(told(nothing.location("c1", None)), json!({}));
    }

    #[test]
    fn another_share_is_written_in_one_go_and_the_former_one_comes_back() {
        let there = "    MB:0= 20\n    L3:0=00f\n    L2:0=ff\n";
        let all = Directory::new(&[
            ("info/L3/cbm_mask", "7ff\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("c1/schemata", there),
        ]);
        let location = all.location("c1", None);
        let both = share(Some("L3:0=3"), Some("MB:0=50"));
        let former = location.update(&both).unwrap();
        assert_eq!(all.says("c1/schemata"), "L3:0=3\nMB:0=50\n");
        location.put_back(&former).unwrap();
        assert_eq!(all.says("c1/schemata"), "MB:0= 20\nL3:0=00f\n");
        all.put("c1/schemata", there);
        let former = location.update(&share(Some("L3:0=3"), None)).unwrap();
        assert_eq!(all.says("c1/schemata"), "L3:0=3\n");
        assert_eq!(former, ["L3:0=00f"]);
    }

    #[test]
    fn what_cannot_be_updated_is_told_in_runcs_words() {
        let all = Directory::new(&[("info/L3/cbm_mask", "7ff\n"), ("c1/schemata", "L3:0=f\n")]);
        let location = all.location("c1", None);
        let refused = |own, share: &Share| Location::to_update(own, share).unwrap_err().to_string();
        let found = Location::to_update(Some(&location), &share(Some("L3:0=3"), None));
        assert_eq!(found.unwrap(), &location);
        let info = all.0.path().join("info/MB");
        assert_eq!(
            refused(Some(&location), &share(Some("L3:0=3"), Some("MB:0=50"))),
            format!(
                "memory bandwidth schema: is not enabled: there is no {}",
                info.display()
            )
        );
        // Code and data have lines of their own.
        let apart = Directory::new(&[("info/L3CODE/cbm_mask", "7ff\n")]);
        let location = apart.location("c1", None);
        Location::to_update(Some(&location), &share(Some("L3CODE:0=3"), None)).unwrap();
    }

    #[test]
    fn a_group_of_everybodys_is_made_whole_or_not_at_all() {
        let all = Directory::new(&[]);
        let gold = plan(json!({"closID": "gold", "memBwSchema": "MB:0=15"}));
        let location = all.location("gold", None);
        location.make(&gold).unwrap();
        assert_eq!(all.says("gold/schemata"), "MB:0=15\n");
        fs::remove_dir_all(all.0.path().join("gold")).unwrap();
        // The next container with it finds what the kernel has made of that.
        all.put("gold/schemata", "    MB:0= 20\n");
        let differs = location.make(&gold).unwrap_err().to_string();
        assert!(
            differs.ends_with("gold/schemata: is not `MB:0=15`"),
            "{differs}"
        );
        all.put("info/MB/bandwidth_gran", "10\n");
        location.make(&gold).unwrap();
        // One that is there stays, whatever its share.
        let other = plan(json!({"closID": "gold", "memBwSchema": "MB:0=70"}));
        location.make(&other).unwrap_err();
        assert_eq!(all.says("gold/schemata"), "MB:0=15\n");
    }
}
