//! What a cgroup has used, as `runc events` prints it (types/events.go of runc): v1's files or v2's, whichever has the controller
//! (cgroup-v1/*.rst, cgroup-v2.rst).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use rustix::io::Errno;
use serde::Serialize;

use super::{Failed, Location, What, read};

/// The unit of `cpuacct.stat`, in nanoseconds: USER_HZ is 100 for all programs (include/asm-generic/param.h).
const TICK: u64 = 10_000_000;

/// What a cgroup has used. Zeros are left out where runc leaves them out.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Which processors and memory nodes it may use.
    pub cpuset: CpuSet,
    /// Memory, in bytes.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages in bytes, by their size, as the kernel writes it (`2MB`).
    pub hugetlb: BTreeMap<String, HugePages>,
}

/// Processor time.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// What was used.
    pub usage: CpuUsage,
    /// What was withheld.
    pub throttling: Throttling,
    /// How long there was too little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Processor time in nanoseconds.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// All of it.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// By processor; v1 alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// Of those, in the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// Of those, outside the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// Outside the kernel.
    pub user: u64,
}

/// How often it had to wait for the next period.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Throttling {
    /// How many periods there were.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// In how many it had to wait.
    #[serde(rename = "throttledPeriods", skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// For how long, in nanoseconds.
    #[serde(rename = "throttledTime", skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// Which processors and memory nodes it may use; the flags are v1's alone (cgroup-v1/cpusets.rst).
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct CpuSet {
    /// The processors' numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// `cpuset.cpu_exclusive`.
    pub cpu_exclusive: u64,
    /// The memory nodes' numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// `cpuset.mem_hardwall`.
    pub mem_hardwall: u64,
    /// `cpuset.mem_exclusive`.
    pub mem_exclusive: u64,
    /// `cpuset.memory_migrate`.
    pub memory_migrate: u64,
    /// `cpuset.memory_spread_page`.
    pub memory_spread_page: u64,
    /// `cpuset.memory_spread_slab`.
    pub memory_spread_slab: u64,
    /// `cpuset.memory_pressure`.
    pub memory_pressure: u64,
    /// `cpuset.sched_load_balance`.
    pub sched_load_balance: u64,
    /// `cpuset.sched_relax_domain_level`.
    pub sched_relax_domain_level: i64,
}

/// Memory, in bytes.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Of files.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// All.
    pub usage: MemoryUse,
    /// All, with what is swapped out.
    pub swap: MemoryUse,
    /// The kernel's for it; v1 alone.
    pub kernel: MemoryUse,
    /// The kernel's buffers of TCP for it; v1 alone.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryUse,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// How long there was too little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One kind of memory, in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub struct MemoryUse {
    /// The most it may have: [`u64::MAX`] or near it is no limit.
    pub limit: u64,
    /// What it has.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most it ever had.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often it wanted more than it may have.
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Pids {
    /// How many there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// How many there may be; 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// What was read from and written to block devices, by device and operation.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Blkio {
    /// In bytes.
    #[serde(
        rename = "ioServiceBytesRecursive",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub bytes: Vec<BlkioEntry>,
    /// In operations.
    #[serde(rename = "ioServicedRecursive", skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<BlkioEntry>,
    /// How long there was too little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One number of one device.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct BlkioEntry {
    /// The device's major number.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// Its minor number.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read`, `Write`, `Discard`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The number.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct HugePages {
    /// What it has.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most it ever had; v1 alone.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often it wanted more than it may have.
    pub failcnt: u64,
}

/// How long there was too little of something (accounting/psi.rst).
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// For some of its processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub some: Option<Stalled>,
    /// For all of them at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<Stalled>,
}

/// For which part of the time, and for how long.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub struct Stalled {
    /// Per cent of the last 10 s.
    pub avg10: f64,
    /// Per cent of the last 60 s.
    pub avg60: f64,
    /// Per cent of the last 300 s.
    pub avg300: f64,
    /// In all, in microseconds.
    pub total: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Location {
    /// What the cgroup has used. What its controllers do not count is left at zero.
    ///
    /// # Errors
    /// When a file cannot be read that is there.
    pub fn stats(&self) -> Result<Stats, Failed> {
        let mut stats = Stats::default();
        match self.v1_of("cpuacct") {
            Some(dir) => cpu_usage_v1(dir, &mut stats.cpu.usage)?,
            None => self.in_v2(|dir| cpu_usage_v2(dir, &mut stats.cpu.usage))?,
        }
        let throttling = &mut stats.cpu.throttling;
        match self.v1_of("cpu") {
            Some(dir) => throttled(dir, ("throttled_time", 1), throttling)?,
            None => self.in_v2(|dir| throttled(dir, ("throttled_usec", 1000), throttling))?,
        }
        match self.v1_of("cpuset") {
            Some(dir) => stats.cpuset = cpuset_v1(dir)?,
            None => self.in_v2(|dir| {
                stats.cpuset.cpus = numbers(&text(&dir.join("cpuset.cpus.effective"))?);
                stats.cpuset.mems = numbers(&text(&dir.join("cpuset.mems.effective"))?);
                Ok(())
            })?,
        }
        match self.v1_of("memory") {
            Some(dir) => stats.memory = memory_v1(dir)?,
            None => self.in_v2(|dir| {
                stats.memory = memory_v2(dir)?;
                Ok(())
            })?,
        }
        let pids = self.v1_of("pids").or(self.v2.as_deref());
        if let Some(dir) = pids {
            stats.pids.current = number(&dir.join("pids.current"))?.unwrap_or(0);
            stats.pids.limit = number(&dir.join("pids.max"))?.unwrap_or(0);
        }
        match self.v1_of("blkio") {
            Some(dir) => stats.blkio = blkio_v1(dir)?,
            None => self.in_v2(|dir| {
                io_v2(&text(&dir.join("io.stat"))?, &mut stats.blkio);
                Ok(())
            })?,
        }
        match self.v1_of("hugetlb") {
            Some(dir) => stats.hugetlb = huge_pages(dir, ".usage_in_bytes")?,
            None => self.in_v2(|dir| {
                stats.hugetlb = huge_pages(dir, ".current")?;
                Ok(())
            })?,
        }
        self.in_v2(|dir| {
            stats.cpu.psi = pressure(&dir.join("cpu.pressure"))?;
            stats.memory.psi = pressure(&dir.join("memory.pressure"))?;
            stats.blkio.psi = pressure(&dir.join("io.pressure"))?;
            Ok(())
        })?;
        Ok(stats)
    }

    fn in_v2(&self, read: impl FnOnce(&Path) -> Result<(), Failed>) -> Result<(), Failed> {
        self.v2.as_deref().map_or(Ok(()), read)
    }
}

/// A file's text; nothing where there is no such file, or the kernel does not count this (EOPNOTSUPP: psi=0).
fn text(file: &Path) -> Result<String, Failed> {
    match read(file) {
        Err(failed) if matches!(failed.errno, Errno::NOENT | Errno::OPNOTSUPP | Errno::NODEV) => {
            Ok(String::new())
        }
        other => other,
    }
}

/// A file's number, if it has one: `max` is none.
fn number<T: FromStr>(file: &Path) -> Result<Option<T>, Failed> {
    Ok(text(file)?.trim().parse().ok())
}

/// The lines `key number` of a file.
pub(super) fn table(file: &Path) -> Result<BTreeMap<String, u64>, Failed> {
    let text = text(file)?;
    let lines = text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    });
    Ok(lines.collect())
}

/// The number of a key, 0 where it is not there.
pub(super) fn take(table: &BTreeMap<String, u64>, key: &str) -> u64 {
    table.get(key).copied().unwrap_or(0)
}

/// The numbers of a list (`0-2,7`; "List format" in cpuset(7)).
fn numbers(list: &str) -> Vec<u16> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

fn cpu_usage_v1(dir: &Path, usage: &mut CpuUsage) -> Result<(), Failed> {
    usage.total = number(&dir.join("cpuacct.usage"))?.unwrap_or(0);
    let by_mode = table(&dir.join("cpuacct.stat"))?;
    usage.user = take(&by_mode, "user") * TICK;
    usage.kernel = take(&by_mode, "system") * TICK;
    let each = text(&dir.join("cpuacct.usage_percpu"))?;
    usage.percpu = each.split_whitespace().flat_map(str::parse).collect();
    // A head line, then lines `processor user system`.
    for line in text(&dir.join("cpuacct.usage_all"))?.lines().skip(1) {
        let mut fields = line.split_whitespace().skip(1).flat_map(str::parse);
        if let (Some(user), Some(kernel)) = (fields.next(), fields.next()) {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(kernel);
        }
    }
    Ok(())
}

fn cpu_usage_v2(dir: &Path, usage: &mut CpuUsage) -> Result<(), Failed> {
    let table = table(&dir.join("cpu.stat"))?;
    usage.total = take(&table, "usage_usec") * 1000;
    usage.user = take(&table, "user_usec") * 1000;
    usage.kernel = take(&table, "system_usec") * 1000;
    Ok(())
}

/// `time` is the key of the time in `cpu.stat`, and how many nanoseconds its unit has.
fn throttled(dir: &Path, time: (&str, u64), throttling: &mut Throttling) -> Result<(), Failed> {
    let table = table(&dir.join("cpu.stat"))?;
    throttling.periods = take(&table, "nr_periods");
    throttling.throttled_periods = take(&table, "nr_throttled");
    throttling.throttled_time = take(&table, time.0) * time.1;
    Ok(())
}

fn cpuset_v1(dir: &Path) -> Result<CpuSet, Failed> {
    let file = |name: &str| dir.join(format!("cpuset.{name}"));
    let flag = |name: &str| number(&file(name)).map(|flag| flag.unwrap_or(0));
    Ok(CpuSet {
        cpus: numbers(&text(&file("cpus"))?),
        cpu_exclusive: flag("cpu_exclusive")?,
        mems: numbers(&text(&file("mems"))?),
        mem_hardwall: flag("mem_hardwall")?,
        mem_exclusive: flag("mem_exclusive")?,
        memory_migrate: flag("memory_migrate")?,
        memory_spread_page: flag("memory_spread_page")?,
        memory_spread_slab: flag("memory_spread_slab")?,
        memory_pressure: flag("memory_pressure")?,
        sched_load_balance: flag("sched_load_balance")?,
        sched_relax_domain_level: number(&file("sched_relax_domain_level"))?.unwrap_or(0),
    })
}

fn memory_v1(dir: &Path) -> Result<Memory, Failed> {
    let kind = |prefix: &str| {
        let count = |name: &str| number(&dir.join(format!("{prefix}.{name}")));
        Ok(MemoryUse {
            limit: count("limit_in_bytes")?.unwrap_or(0),
            usage: count("usage_in_bytes")?.unwrap_or(0),
            max: count("max_usage_in_bytes")?.unwrap_or(0),
            failcnt: count("failcnt")?.unwrap_or(0),
        })
    };
    let raw = table(&dir.join("memory.stat"))?;
    Ok(Memory {
        cache: take(&raw, "cache"),
        usage: kind("memory")?,
        swap: kind("memory.memsw")?,
        kernel: kind("memory.kmem")?,
        kernel_tcp: kind("memory.kmem.tcp")?,
        raw,
        psi: None,
    })
}

fn memory_v2(dir: &Path) -> Result<Memory, Failed> {
    let raw = table(&dir.join("memory.stat"))?;
    if raw.is_empty() {
        // The controller is not enabled.
        return Ok(Memory::default());
    }
    let kind = |prefix: &str| {
        let count = |name: &str| number(&dir.join(format!("{prefix}.{name}")));
        Ok(MemoryUse {
            limit: count("max")?.unwrap_or(u64::MAX),
            usage: count("current")?.unwrap_or(0),
            max: count("peak")?.unwrap_or(0),
            failcnt: take(&table(&dir.join(format!("{prefix}.events")))?, "max"),
        })
    };
    let usage = kind("memory")?;
    let swapped = kind("memory.swap")?;
    Ok(Memory {
        cache: take(&raw, "file"),
        usage,
        // As v1 counts it: with the memory.
        swap: MemoryUse {
            limit: usage.limit.saturating_add(swapped.limit),
            usage: usage.usage + swapped.usage,
            ..swapped
        },
        raw,
        ..Memory::default()
    })
}

fn blkio_v1(dir: &Path) -> Result<Blkio, Failed> {
    // BFQ counts what goes through it, and the throttling layer everything.
    let read = |name: &str| {
        for file in [
            format!("blkio.bfq.{name}_recursive"),
            format!("blkio.throttle.{name}_recursive"),
            format!("blkio.throttle.{name}"),
        ] {
            let entries = blkio_entries(&text(&dir.join(file))?);
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    };
    Ok(Blkio {
        bytes: read("io_service_bytes")?,
        operations: read("io_serviced")?,
        psi: None,
    })
}

/// The lines `major:minor operation number`; the sum at the end has no device.
fn blkio_entries(text: &str) -> Vec<BlkioEntry> {
    let entries = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (major, minor) = fields.next()?.split_once(':')?;
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: fields.next()?.to_owned(),
            value: fields.next()?.parse().ok()?,
        })
    });
    entries.collect()
}

/// `io.stat`: lines `major:minor rbytes=… wbytes=… rios=… wios=… dbytes=… dios=…`.
fn io_v2(text: &str, blkio: &mut Blkio) {
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let device = fields.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(a, b)| (a.parse(), b.parse())) else {
            continue;
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut blkio.bytes, "Read"),
                "wbytes" => (&mut blkio.bytes, "Write"),
                "dbytes" => (&mut blkio.bytes, "Discard"),
                "rios" => (&mut blkio.operations, "Read"),
                "wios" => (&mut blkio.operations, "Write"),
                "dios" => (&mut blkio.operations, "Discard"),
                _ => continue,
            };
            let op = op.to_owned();
            list.extend(value.parse().map(|value| BlkioEntry {
                major,
                minor,
                op,
                value,
            }));
        }
    }
}

/// `used` is how the names of the files end that say what is used: `hugetlb.2MB.current`.
fn huge_pages(dir: &Path, used: &str) -> Result<BTreeMap<String, HugePages>, Failed> {
    let failed = |e| Failed::new(What::Read, dir, crate::sys::errno_of(&e));
    let mut pages = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        let size = name
            .strip_prefix("hugetlb.")
            .and_then(|it| it.strip_suffix(used));
        // `rsvd` counts what is reserved.
        let Some(size) = size.filter(|size| !size.contains('.')) else {
            continue;
        };
        let file = |end: &str| dir.join(format!("hugetlb.{size}.{end}"));
        let events = table(&file("events"))?;
        let failed = number(&file("failcnt"))?;
        let of_size = HugePages {
            usage: number(&dir.join(&*name))?.unwrap_or(0),
            max: number(&file("max_usage_in_bytes"))?.unwrap_or(0),
            failcnt: failed.unwrap_or_else(|| take(&events, "max")),
        };
        pages.insert(size.to_owned(), of_size);
    }
    Ok(pages)
}

/// None where the kernel does not say.
fn pressure(file: &Path) -> Result<Option<Pressure>, Failed> {
    let text = text(file)?;
    let stalled = |who: &str| {
        let fields = text.lines().find_map(|line| line.strip_prefix(who))?;
        let field = |key: &str| {
            let mut fields = fields.split_whitespace();
            fields.find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
        };
        Some(Stalled {
            avg10: field("avg10")?.parse().ok()?,
            avg60: field("avg60")?.parse().ok()?,
            avg300: field("avg300")?.parse().ok()?,
            total: field("total")?.parse().ok()?,
        })
    };
    Ok((!text.is_empty()).then(|| Pressure {
        some: stalled("some "),
        full: stalled("full "),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(op: &str, value: u64) -> BlkioEntry {
        BlkioEntry {
            major: 8,
            minor: 16,
            op: op.to_owned(),
            value,
        }
    }

    #[test]
    fn lists_have_numbers_and_ranges() {
        assert_eq!(numbers("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(numbers("\n"), [0_u16; 0]);
    }

    #[test]
    fn devices_are_counted_by_operation() {
        let v1 = "8:16 Read 4096\n8:16 Write 512\n8:16 Total 4608\nTotal 4608\n";
        let entries = [
            entry("Read", 4096),
            entry("Write", 512),
            entry("Total", 4608),
        ];
        assert_eq!(blkio_entries(v1), entries);
        let mut v2 = Blkio::default();
        // The last device has been used by nobody, which is a line without fields (blkcg_print_one_stat, block/blk-cgroup.c).
        let lines = "8:16 rbytes=4096 wbytes=512 rios=1 wios=2 dbytes=0 dios=0 cost.usage=3\n8:0\n";
        io_v2(lines, &mut v2);
        assert_eq!(
            v2.bytes,
            [
                entry("Read", 4096),
                entry("Write", 512),
                entry("Discard", 0)
            ]
        );
        assert_eq!(
            v2.operations,
            [entry("Read", 1), entry("Write", 2), entry("Discard", 0)]
        );
    }
}
