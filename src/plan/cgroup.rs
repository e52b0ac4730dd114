//! `linux.resources` of a bundle (runtime-spec config-linux.md, Control groups) as text for the files of a cgroup.
//!
//! Each controller is spoken to where the host has it: in its v1 hierarchy if it has one, else in v2. What a host has no
//! controller for, or v2 no file for, is an error that names the property.
//!
//! A 0 means "not set" where runc reads it so: memory limits, shares, quota, period, realtime, weights.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceType, LinuxHugepageLimit, LinuxMemory, LinuxNetwork,
    LinuxPids, LinuxResources, LinuxThrottleDevice,
};

use super::facts::{CgroupLayout, Hierarchy};
use super::name::ContainerName;
use super::step::{Device, DeviceKind};
use super::topology::{
    Absent, Cgroup, CgroupSetting, DeviceAccess, DeviceRule, DeviceRuleKind, Hierarchies,
};

/// The directory, in every hierarchy, of the containers whose bundle names no cgroup. It goes with the last of them.
pub const PARENT: &str = "tincan";

/// The cgroup of a container whose bundle names none: `/tincan/ns1`.
pub fn default_path(name: &ContainerName) -> PathBuf {
    Path::new("/").join(PARENT).join(name.as_str())
}

/// A property of `linux.resources` that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{property} {why}")]
pub struct BadResource {
    /// The property, from the root of `config.json`.
    pub property: String,
    /// What is wrong with it, and what would be right.
    pub why: String,
}

fn bad<T>(property: &str, why: impl Into<String>) -> Result<T, BadResource> {
    Err(BadResource {
        property: format!("linux.resources.{property}"),
        why: why.into(),
    })
}

/// Everything that a bundle's `resources` say of the cgroup at `path`: what to write into its files, in the order in which
/// the kernel takes it, and the device rules where they have to be a program. `devices_of_container` are the nodes that the
/// container has anyhow, and may use.
///
/// # Errors
/// A value that cannot be, or that nothing on a host of this layout takes: never is anything left out.
pub fn cgroup(
    path: PathBuf,
    resources: &LinuxResources,
    devices_of_container: &[Device],
    layout: &CgroupLayout,
    hierarchies: Hierarchies,
) -> Result<Cgroup, BadResource> {
    let whole = layout.whole();
    let mut settings = Settings {
        layout: whole,
        list: Vec::new(),
    };
    let mut devices = device_rules(resources, devices_of_container)?;
    if layout.whole.is_some() {
        // Such a user can make no device nodes, and sees those alone that are bound for him: there is nothing to keep him from.
        devices.clear();
    } else if has(&layout.v1, "devices") {
        check_v1_rules(&devices)?;
        settings.devices(std::mem::take(&mut devices));
    } else if layout.v2.is_none() {
        return bad("devices", lacks("devices"));
    }
    settings.all_but_devices(resources)?;
    let is_had = |setting: &CgroupSetting| {
        layout.whole.is_none()
            || layout
                .v2
                .as_ref()
                .is_some_and(|v2| v2.has(&setting.controller))
    };
    let (settings, undelegated): (Vec<_>, Vec<_>) = settings.list.into_iter().partition(is_had);
    let mut undelegated: Vec<String> = undelegated.into_iter().map(|it| it.property).collect();
    undelegated.dedup();
    Ok(Cgroup {
        path,
        settings,
        devices,
        hierarchies,
        undelegated,
        scope: None,
    })
}

/// What a container that is there gets of `resources`, but for the devices, which stay as they are, as in runc.
///
/// # Errors
/// As [`cgroup`].
pub fn update(
    resources: &LinuxResources,
    layout: &CgroupLayout,
    hierarchies: Hierarchies,
) -> Result<Cgroup, BadResource> {
    let mut settings = Settings {
        layout: layout.whole(),
        list: Vec::new(),
    };
    settings.all_but_devices(resources)?;
    Ok(Cgroup {
        path: PathBuf::from("/"),
        settings: settings.list,
        devices: Vec::new(),
        hierarchies,
        undelegated: Vec::new(),
        scope: None,
    })
}

impl Cgroup {
    /// Whether the cgroup is made in this one of the host's hierarchies.
    pub fn is_made_in(&self, hierarchy: &Hierarchy, layout: &CgroupLayout) -> bool {
        if self.hierarchies == Hierarchies::Every || layout.v2.as_ref() == Some(hierarchy) {
            return true;
        }
        let freezes = |h: &&Hierarchy| h.controllers.iter().any(|c| c == "freezer");
        let holder = || layout.v1.iter().find(freezes).or(layout.v1.first());
        self.settings
            .iter()
            .any(|setting| hierarchy.controllers.contains(&setting.controller))
            || (layout.v2.is_none() && holder() == Some(hierarchy))
    }
}

fn has(hierarchies: &[Hierarchy], controller: &str) -> bool {
    hierarchies.iter().any(|h| h.has(controller))
}

fn lacks(controller: &str) -> String {
    format!("needs the cgroup controller `{controller}`, which this host does not have")
}

/// Which version of a controller the host has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

struct Settings<'a> {
    layout: &'a CgroupLayout,
    list: Vec<CgroupSetting>,
}

impl Settings<'_> {
    /// Where the host has a controller, which may be named differently in the two versions.
    fn version(&self, property: &str, v1: &str, v2: &str) -> Result<Version, BadResource> {
        if has(&self.layout.v1, v1) {
            Ok(Version::V1)
        } else if self
            .layout
            .v2
            .as_ref()
            .is_some_and(|h| has(std::slice::from_ref(h), v2))
        {
            Ok(Version::V2)
        } else {
            bad(
                property,
                lacks(if self.layout.v1.is_empty() { v2 } else { v1 }),
            )
        }
    }

    /// Adds a setting; the controller is what the file's name begins with.
    fn put(&mut self, property: &str, file: &str, value: impl ToString) {
        self.put_or(property, file, value, Absent::Fail);
    }

    fn put_or(&mut self, property: &str, file: &str, value: impl ToString, absent: Absent) {
        let controller = file.split('.').next().unwrap_or(file);
        self.list.push(CgroupSetting {
            controller: controller.to_owned(),
            file: file.to_owned(),
            value: value.to_string(),
            property: format!("linux.resources.{property}"),
            absent,
            above: None,
        });
    }

    fn all_but_devices(&mut self, resources: &LinuxResources) -> Result<(), BadResource> {
        if let Some(memory) = resources.memory() {
            self.memory(memory)?;
        }
        if let Some(cpu) = resources.cpu() {
            self.cpu(cpu)?;
        }
        if let Some(pids) = resources.pids() {
            self.pids(pids)?;
        }
        if let Some(block_io) = resources.block_io() {
            self.block_io(block_io)?;
        }
        for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
            self.hugepages(index, limit)?;
        }
        if let Some(network) = resources.network() {
            self.network(network)?;
        }
        self.rdma(resources)?;
        self.unified(resources)?;
        Ok(())
    }

    fn devices(&mut self, rules: Vec<DeviceRule>) {
        for rule in rules {
            let file = if rule.allow {
                "devices.allow"
            } else {
                "devices.deny"
            };
            self.list.push(CgroupSetting {
                controller: "devices".to_owned(),
                file: file.to_owned(),
                value: rule.to_string(),
                property: rule.property,
                absent: Absent::Fail,
                above: None,
            });
        }
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<(), BadResource> {
        let limit = amount("memory.limit", memory.limit())?;
        let swap = amount("memory.swap", memory.swap())?;
        let reservation = amount("memory.reservation", memory.reservation())?;
        // The limit of memory and swap together; runc's rules, which hold for both versions of the controller.
        match (limit, swap) {
            (None, Some(swap)) if swap > 0 => {
                return bad(
                    "memory.swap",
                    format!("is {swap} without a memory.limit, which it includes"),
                );
            }
            (Some(limit), Some(swap)) if limit > 0 && swap > 0 && swap < limit => {
                return bad(
                    "memory.swap",
                    format!(
                        "is {swap}, below memory.limit {limit}, which it includes; {limit} would mean no swap"
                    ),
                );
            }
            _ => {}
        }
        if let Some(hierarchical) = memory.use_hierarchy() {
            let property = "memory.useHierarchy";
            match self.version(property, "memory", "memory")? {
                Version::V1 => {
                    self.put(property, "memory.use_hierarchy", u8::from(hierarchical));
                }
                Version::V2 if hierarchical => {}
                Version::V2 => {
                    return bad(property, "is false, but cgroup v2 is always hierarchical");
                }
            }
        }
        if let Some(limit) = limit {
            // As with runc, no limit of memory alone is none of both: with v1 it could not be had beside one of both.
            let no_swap_limit = limit < 0 && swap.is_none();
            match self.version("memory.limit", "memory", "memory")? {
                Version::V1 => {
                    if no_swap_limit {
                        let file = "memory.memsw.limit_in_bytes";
                        self.put_or("memory.limit", file, -1, Absent::Leave);
                    }
                    if swap.is_some() {
                        // memsw may never be below the limit (mm/memcontrol-v1.c): out of the way first, where an empty
                        // cgroup that existed before had one.
                        self.put("memory.swap", "memory.memsw.limit_in_bytes", -1);
                    }
                    self.put("memory.limit", "memory.limit_in_bytes", limit);
                }
                Version::V2 => {
                    if no_swap_limit {
                        self.put_or("memory.limit", "memory.swap.max", "max", Absent::Leave);
                    }
                    self.put("memory.limit", "memory.max", or_max(limit));
                    // v1 refuses a limit below the use by itself; v2 would kill. A swap limit is never below this one.
                    if memory.check_before_update() == Some(true)
                        && let Some(setting) = self.list.last_mut()
                    {
                        setting.above = Some("memory.current".to_owned());
                    }
                }
            }
        }
        if let Some(swap) = swap {
            match self.version("memory.swap", "memory", "memory")? {
                Version::V1 => self.put("memory.swap", "memory.memsw.limit_in_bytes", swap),
                Version::V2 => {
                    let alone = match limit {
                        Some(limit) if limit > 0 && swap > 0 => swap - limit,
                        _ => swap,
                    };
                    self.put("memory.swap", "memory.swap.max", or_max(alone));
                }
            }
        }
        if let Some(reservation) = reservation {
            match self.version("memory.reservation", "memory", "memory")? {
                Version::V1 => {
                    self.put(
                        "memory.reservation",
                        "memory.soft_limit_in_bytes",
                        reservation,
                    );
                }
                Version::V2 => self.put("memory.reservation", "memory.low", or_max(reservation)),
            }
        }
        let kernel = amount("memory.kernel", memory.kernel())?;
        let kernel_tcp = amount("memory.kernelTCP", memory.kernel_tcp())?;
        for (property, value, file) in [
            ("memory.kernel", kernel, "memory.kmem.limit_in_bytes"),
            (
                "memory.kernelTCP",
                kernel_tcp,
                "memory.kmem.tcp.limit_in_bytes",
            ),
        ] {
            if let Some(value) = value {
                self.v1_only(property, "memory")?;
                self.put(property, file, value);
            }
        }
        if let Some(swappiness) = memory.swappiness() {
            let property = "memory.swappiness";
            if swappiness > 100 {
                return bad(property, format!("is {swappiness}; it goes from 0 to 100"));
            }
            self.v1_only(property, "memory")?;
            self.put(property, "memory.swappiness", swappiness);
        }
        // A new cgroup has the killer, hence nothing for `false`.
        if memory.disable_oom_killer() == Some(true) {
            let property = "memory.disableOOMKiller";
            self.v1_only(property, "memory")?;
            self.put(property, "memory.oom_control", 1);
        }
        Ok(())
    }

    /// Insists on the v1 controller, for a property that has no counterpart in v2.
    fn v1_only(&self, property: &str, controller: &str) -> Result<(), BadResource> {
        if has(&self.layout.v1, controller) {
            Ok(())
        } else if self.layout.v1.is_empty() {
            bad(
                property,
                "has no counterpart in cgroup v2, which is all this host has",
            )
        } else {
            bad(property, lacks(controller))
        }
    }

    fn cpu(&mut self, cpu: &LinuxCpu) -> Result<(), BadResource> {
        if let Some(shares) = cpu.shares().filter(|n| *n != 0) {
            let property = "cpu.shares";
            if !(2..=262_144).contains(&shares) {
                return bad(property, format!("is {shares}; they go from 2 to 262144"));
            }
            match self.version(property, "cpu", "cpu")? {
                Version::V1 => self.put(property, "cpu.shares", shares),
                Version::V2 => self.put(property, "cpu.weight", weight_of_shares(shares)),
            }
        }
        // After the shares, which the kernel refuses to an idle cgroup (kernel/sched/fair.c, sched_group_set_shares).
        if let Some(idle) = cpu.idle() {
            let property = "cpu.idle";
            if !(0..=1).contains(&idle) {
                return bad(property, format!("is {idle}; it is 0 or 1"));
            }
            self.version(property, "cpu", "cpu")?;
            self.put(property, "cpu.idle", idle);
        }
        let period = cpu.period().filter(|n| *n != 0);
        let quota = cpu.quota().filter(|n| *n != 0);
        if let Some(quota) = quota.filter(|n| *n < -1) {
            return bad("cpu.quota", format!("is {quota}; no limit is -1"));
        }
        if period.is_some() || quota.is_some() {
            let property = if quota.is_some() {
                "cpu.quota"
            } else {
                "cpu.period"
            };
            match self.version(property, "cpu", "cpu")? {
                Version::V1 => {
                    if let Some(period) = period {
                        self.put("cpu.period", "cpu.cfs_period_us", period);
                    }
                    if let Some(quota) = quota {
                        self.put("cpu.quota", "cpu.cfs_quota_us", quota);
                    }
                }
                Version::V2 => {
                    let quota = or_max(quota.unwrap_or(-1));
                    let period = period.unwrap_or(DEFAULT_PERIOD_US);
                    self.put(property, "cpu.max", format!("{quota} {period}"));
                }
            }
        }
        // After the quota, which it may not exceed (kernel/sched/core.c, tg_set_cfs_bandwidth).
        if let Some(burst) = cpu.burst() {
            let property = "cpu.burst";
            match self.version(property, "cpu", "cpu")? {
                Version::V1 => self.put(property, "cpu.cfs_burst_us", burst),
                Version::V2 => self.put(property, "cpu.max.burst", burst),
            }
        }
        if let Some(period) = cpu.realtime_period().filter(|n| *n != 0) {
            let property = "cpu.realtimePeriod";
            self.v1_only(property, "cpu")?;
            self.put(property, "cpu.rt_period_us", period);
        }
        if let Some(runtime) = cpu.realtime_runtime().filter(|n| *n != 0) {
            let property = "cpu.realtimeRuntime";
            self.v1_only(property, "cpu")?;
            self.put(property, "cpu.rt_runtime_us", runtime);
        }
        for (property, file, list) in [
            ("cpu.cpus", "cpuset.cpus", cpu.cpus()),
            ("cpu.mems", "cpuset.mems", cpu.mems()),
        ] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                self.version(property, "cpuset", "cpuset")?;
                self.put(property, file, list);
            }
        }
        Ok(())
    }

    fn pids(&mut self, pids: &LinuxPids) -> Result<(), BadResource> {
        let property = "pids.limit";
        self.version(property, "pids", "pids")?;
        // runc: below 0 is no limit; 0 is 1, which comes to the same for whoever is inside and is what systemd can do.
        match pids.limit() {
            ..0 => self.put(property, "pids.max", "max"),
            0 => self.put(property, "pids.max", 1),
            limit => self.put(property, "pids.max", limit),
        }
        Ok(())
    }

    fn block_io(&mut self, io: &LinuxBlockIo) -> Result<(), BadResource> {
        if let Some(weight) = io.weight().filter(|n| *n != 0) {
            self.io_weight("blockIO.weight", None, weight)?;
        }
        if let Some(weight) = io.leaf_weight().filter(|n| *n != 0) {
            let property = "blockIO.leafWeight";
            self.v1_only(property, "blkio")?;
            self.put(property, "blkio.leaf_weight", weight);
        }
        for (index, device) in io.weight_device().iter().flatten().enumerate() {
            let number = format!("{}:{}", device.major(), device.minor());
            if let Some(weight) = device.weight().filter(|n| *n != 0) {
                let property = format!("blockIO.weightDevice[{index}].weight");
                self.io_weight(&property, Some(&number), weight)?;
            }
            if let Some(weight) = device.leaf_weight().filter(|n| *n != 0) {
                let property = format!("blockIO.weightDevice[{index}].leafWeight");
                self.v1_only(&property, "blkio")?;
                self.put(
                    &property,
                    "blkio.leaf_weight_device",
                    format!("{number} {weight}"),
                );
            }
        }
        let throttles: [(&str, &Option<Vec<LinuxThrottleDevice>>, &str, &str); 4] = [
            (
                "throttleReadBpsDevice",
                io.throttle_read_bps_device(),
                "read_bps",
                "rbps",
            ),
            (
                "throttleWriteBpsDevice",
                io.throttle_write_bps_device(),
                "write_bps",
                "wbps",
            ),
            (
                "throttleReadIOPSDevice",
                io.throttle_read_iops_device(),
                "read_iops",
                "riops",
            ),
            (
                "throttleWriteIOPSDevice",
                io.throttle_write_iops_device(),
                "write_iops",
                "wiops",
            ),
        ];
        for (name, devices, v1, v2) in throttles {
            for (index, device) in devices.iter().flatten().enumerate() {
                let property = format!("blockIO.{name}[{index}]");
                let number = format!("{}:{}", device.major(), device.minor());
                let rate = device.rate();
                match self.version(&property, "blkio", "io")? {
                    Version::V1 => self.put(
                        &property,
                        &format!("blkio.throttle.{v1}_device"),
                        format!("{number} {rate}"),
                    ),
                    Version::V2 => {
                        // v1 takes 0 as no limit, v2 refuses it (block/blk-throttle.c, tg_set_limit).
                        let rate = if rate == 0 {
                            "max".to_owned()
                        } else {
                            rate.to_string()
                        };
                        self.put(&property, "io.max", format!("{number} {v2}={rate}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// A weight, of a device or of all. The BFQ scheduler has a file of its own in both versions, and in v2 a scale of its
    /// own, which is that of the specification.
    fn io_weight(
        &mut self,
        property: &str,
        device: Option<&str>,
        weight: u16,
    ) -> Result<(), BadResource> {
        if !(10..=1000).contains(&weight) {
            return bad(property, format!("is {weight}; it goes from 10 to 1000"));
        }
        let text = |weight: u64| match device {
            Some(device) => format!("{device} {weight}"),
            None => weight.to_string(),
        };
        let raw = text(u64::from(weight));
        match self.version(property, "blkio", "io")? {
            Version::V1 => {
                let suffix = if device.is_some() {
                    "weight_device"
                } else {
                    "weight"
                };
                let absent = Absent::Instead {
                    file: format!("blkio.bfq.{suffix}"),
                    value: raw.clone(),
                };
                self.put_or(property, &format!("blkio.{suffix}"), raw, absent);
            }
            Version::V2 => {
                let absent = Absent::Instead {
                    file: "io.weight".to_owned(),
                    value: text(io_weight_of_weight(weight)),
                };
                self.put_or(property, "io.bfq.weight", raw, absent);
            }
        }
        Ok(())
    }

    fn hugepages(&mut self, index: usize, limit: &LinuxHugepageLimit) -> Result<(), BadResource> {
        let size = limit.page_size();
        let size_property = format!("hugepageLimits[{index}].pageSize");
        let number = size
            .strip_suffix("KB")
            .or(size.strip_suffix("MB"))
            .or(size.strip_suffix("GB"));
        let right = number.is_some_and(|n| {
            !n.is_empty() && !n.starts_with('0') && n.bytes().all(|b| b.is_ascii_digit())
        });
        if !right {
            return bad(&size_property, format!("is `{size}`; a right one is `2MB`"));
        }
        let property = format!("hugepageLimits[{index}].limit");
        let Some(limit) = any_amount(&property, Some(limit.limit()))? else {
            return Ok(());
        };
        // The limit on reservations is younger (5.7) than that on use: runc sets both where it can.
        match self.version(&property, "hugetlb", "hugetlb")? {
            Version::V1 => {
                self.put(&property, &format!("hugetlb.{size}.limit_in_bytes"), limit);
                let rsvd = format!("hugetlb.{size}.rsvd.limit_in_bytes");
                self.put_or(&property, &rsvd, limit, Absent::Leave);
            }
            Version::V2 => {
                self.put(&property, &format!("hugetlb.{size}.max"), or_max(limit));
                let rsvd = format!("hugetlb.{size}.rsvd.max");
                self.put_or(&property, &rsvd, or_max(limit), Absent::Leave);
            }
        }
        Ok(())
    }

    fn network(&mut self, network: &LinuxNetwork) -> Result<(), BadResource> {
        if let Some(class) = network.class_id() {
            let property = "network.classID";
            self.v1_only(property, "net_cls")?;
            self.put(property, "net_cls.classid", class);
        }
        for (index, priority) in network.priorities().iter().flatten().enumerate() {
            let property = format!("network.priorities[{index}]");
            self.v1_only(&property, "net_prio")?;
            let value = format!("{} {}", priority.name(), priority.priority());
            self.put(&property, "net_prio.ifpriomap", value);
        }
        Ok(())
    }

    fn rdma(&mut self, resources: &LinuxResources) -> Result<(), BadResource> {
        let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
        devices.sort_by_key(|(device, _)| *device);
        for (device, limit) in devices {
            let property = format!("rdma.{device}");
            self.version(&property, "rdma", "rdma")?;
            let mut value = device.clone();
            if let Some(handles) = limit.hca_handles() {
                value += &format!(" hca_handle={handles}");
            }
            if let Some(objects) = limit.hca_objects() {
                value += &format!(" hca_object={objects}");
            }
            self.put(&property, "rdma.max", value);
        }
        Ok(())
    }

    fn unified(&mut self, resources: &LinuxResources) -> Result<(), BadResource> {
        let mut files: Vec<_> = resources.unified().iter().flatten().collect();
        files.sort();
        for (file, value) in files {
            let property = format!("unified.{file}");
            if !self.layout.v1.is_empty() {
                return bad(
                    &property,
                    "is for a host with cgroup v2 alone, and this one has v1 hierarchies",
                );
            }
            let Some((controller, _)) = file.split_once('.').filter(|_| !file.contains('/')) else {
                return bad(
                    &property,
                    "is no file of a cgroup; a right one is `memory.high`",
                );
            };
            // The files of the cgroup itself need no controller (cgroup-v2.rst, Core Interface Files).
            if controller != "cgroup" {
                self.version(&property, controller, controller)?;
            }
            // One write is one line: io.max and its like take a device at a time.
            for line in value.split('\n').filter(|line| !line.is_empty()) {
                self.put(&property, file, line);
            }
        }
        Ok(())
    }
}

/// An amount in bytes: −1 is none; 0 is "not set", as runc has it.
fn amount(property: &str, value: Option<i64>) -> Result<Option<i64>, BadResource> {
    any_amount(property, value.filter(|n| *n != 0))
}

/// An amount in bytes: −1 is none.
fn any_amount(property: &str, value: Option<i64>) -> Result<Option<i64>, BadResource> {
    match value {
        Some(value) if value < -1 => bad(property, format!("is {value}; no limit is -1")),
        value => Ok(value),
    }
}

fn or_max(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// The kernel's own (kernel/sched/fair.c, default_bw_period).
const DEFAULT_PERIOD_US: u64 = 100_000;

/// `cpu.weight` for `cpu.shares`, by runc's curve (since its 1.4): 2 → 1, the default 1024 → the default 100,
/// 262144 → 10000.
fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // The curve's exact 100 must not become 101 by the last bit of a double.
    let weight = (10f64.powf(exponent) - 1e-9).ceil();
    (weight as u64).clamp(1, 10_000)
}

/// `io.weight` (1 to 10000) for the specification's weight (10 to 1000), linearly, as runc has it.
fn io_weight_of_weight(weight: u16) -> u64 {
    1 + (u64::from(weight) - 10) * 9999 / 990
}

const ALL_ACCESS: DeviceAccess = DeviceAccess {
    read: true,
    write: true,
    mknod: true,
};

/// Which devices may be used: what the bundle says, then runc's default devices, then those of the container's own nodes of which the
/// bundle says nothing by number. Without a word of the bundle all others are denied, as in runc.
fn device_rules(
    resources: &LinuxResources,
    devices_of_container: &[Device],
) -> Result<Vec<DeviceRule>, BadResource> {
    let mut list = vec![DeviceRule {
        allow: false,
        kind: DeviceRuleKind::All,
        major: None,
        minor: None,
        access: ALL_ACCESS,
        property: "linux.resources.devices".to_owned(),
    }];
    let mut named = Vec::new();
    for (index, rule) in resources.devices().iter().flatten().enumerate() {
        let property = format!("devices[{index}]");
        let kinds: &[DeviceRuleKind] = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => &[DeviceRuleKind::Block, DeviceRuleKind::Char],
            LinuxDeviceType::B => &[DeviceRuleKind::Block],
            LinuxDeviceType::C | LinuxDeviceType::U => &[DeviceRuleKind::Char],
            LinuxDeviceType::P => {
                return bad(
                    &property,
                    "has type `p`, which no rule is for; a right one is `c`",
                );
            }
        };
        // The kernel's dev_t has 12 bits for the major and 20 for the minor number (include/linux/kdev_t.h).
        let major = device_number(&property, "major", rule.major(), 0xfff)?;
        let minor = device_number(&property, "minor", rule.minor(), 0xf_ffff)?;
        let access = device_access(&property, rule.access().as_deref())?;
        let whole = kinds.len() == 2 && major.is_none() && minor.is_none() && access == ALL_ACCESS;
        if let (Some(major), Some(minor)) = (major, minor) {
            named.extend(kinds.iter().map(|kind| (*kind, major, minor)));
        }
        for kind in if whole { &[DeviceRuleKind::All] } else { kinds } {
            add_rule(
                &mut list,
                DeviceRule {
                    allow: rule.allow(),
                    kind: *kind,
                    major,
                    minor,
                    access,
                    property: format!("linux.resources.{property}"),
                },
            );
        }
    }
    let mknod = DeviceAccess {
        read: false,
        write: false,
        mknod: true,
    };
    let char = |major, minor| (DeviceRuleKind::Char, Some(major), minor, ALL_ACCESS);
    for (kind, major, minor, access) in [
        (DeviceRuleKind::Char, None, None, mknod),
        (DeviceRuleKind::Block, None, None, mknod),
        char(1, Some(3)), // null
        char(1, Some(8)), // random
        char(1, Some(7)), // full
        char(5, Some(0)), // tty
        char(1, Some(5)), // zero
        char(1, Some(9)), // urandom
        char(136, None),  // pts/*, of which the container's console is one
        char(5, Some(2)), // ptmx
    ] {
        add_rule(
            &mut list,
            DeviceRule {
                allow: true,
                kind,
                major,
                minor,
                access,
                property: "the default devices".to_owned(),
            },
        );
    }
    for device in devices_of_container {
        let kind = match device.kind {
            DeviceKind::Char => DeviceRuleKind::Char,
            DeviceKind::Block => DeviceRuleKind::Block,
            // A pipe has no driver, and no rule is for it.
            DeviceKind::Fifo => continue,
        };
        if named.contains(&(kind, device.major, device.minor)) {
            continue;
        }
        add_rule(
            &mut list,
            DeviceRule {
                allow: true,
                kind,
                major: Some(device.major),
                minor: Some(device.minor),
                access: ALL_ACCESS,
                property: format!("the device {}", device.path.display()),
            },
        );
    }
    Ok(list)
}

fn device_number(
    property: &str,
    which: &str,
    number: Option<i64>,
    most: i64,
) -> Result<Option<u32>, BadResource> {
    match number {
        None | Some(-1) => Ok(None),
        Some(n) if (0..=most).contains(&n) => Ok(u32::try_from(n).ok()),
        Some(n) => bad(
            &format!("{property}.{which}"),
            format!("is {n}; it goes from 0 to {most}, and any is -1"),
        ),
    }
}

fn device_access(property: &str, access: Option<&str>) -> Result<DeviceAccess, BadResource> {
    let access = access.unwrap_or_default();
    if access.is_empty() {
        return Ok(ALL_ACCESS);
    }
    if let Some(letter) = access.chars().find(|c| !"rwm".contains(*c)) {
        return bad(
            &format!("{property}.access"),
            format!("is `{access}` with a {letter:?}; a right one is `rwm`"),
        );
    }
    Ok(DeviceAccess {
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    })
}

/// Appends a rule, unless what stands there says the same already. A rule for everything makes all before it void.
fn add_rule(list: &mut Vec<DeviceRule>, rule: DeviceRule) {
    if rule.kind == DeviceRuleKind::All {
        list.clear();
    }
    for earlier in list.iter().rev() {
        if earlier.allow != rule.allow {
            if overlap(earlier, &rule) {
                break;
            }
        } else if covers(earlier, &rule) {
            return;
        }
    }
    list.push(rule);
}

fn overlap(a: &DeviceRule, b: &DeviceRule) -> bool {
    let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    (a.kind == b.kind || a.kind == DeviceRuleKind::All || b.kind == DeviceRuleKind::All)
        && meet(a.major, b.major)
        && meet(a.minor, b.minor)
        && ((a.access.read && b.access.read)
            || (a.access.write && b.access.write)
            || (a.access.mknod && b.access.mknod))
}

fn covers(a: &DeviceRule, b: &DeviceRule) -> bool {
    (a.kind == b.kind || a.kind == DeviceRuleKind::All)
        && (a.major.is_none() || a.major == b.major)
        && (a.minor.is_none() || a.minor == b.minor)
        && (a.access.read || !b.access.read)
        && (a.access.write || !b.access.write)
        && (a.access.mknod || !b.access.mknod)
}

/// Refuses what the v1 controller would silently not do: it keeps a list of exceptions, and takes one back only when told
/// the very same device (security/device_cgroup.c, dev_exception_rm).
fn check_v1_rules(rules: &[DeviceRule]) -> Result<(), BadResource> {
    for (index, rule) in rules.iter().enumerate().skip(1) {
        let exception = rule.allow != rules[0].allow;
        let partial = rules[1..index].iter().find(|earlier| {
            !exception
                && earlier.allow != rule.allow
                && overlap(earlier, rule)
                && (earlier.kind, earlier.major, earlier.minor)
                    != (rule.kind, rule.major, rule.minor)
        });
        if let Some(earlier) = partial {
            return Err(BadResource {
                property: rule.property.clone(),
                why: format!(
                    "takes back a part of `{earlier}` ({}), which cgroup v1 cannot do; take it back whole",
                    earlier.property
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(controllers: &[&str]) -> Hierarchy {
        Hierarchy {
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            mount_point: format!("/sys/fs/cgroup/{}", controllers.join(",")).into(),
            own: "/".into(),
        }
    }

    fn v1() -> CgroupLayout {
        let all = [
            "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls",
            "net_prio", "rdma",
        ];
        CgroupLayout {
            v1: std::iter::once(hierarchy(&["cpu", "cpuacct"]))
                .chain(all.iter().map(|c| hierarchy(&[c])))
                .collect(),
            v2: None,
            whole: None,
        }
    }

    fn v2() -> CgroupLayout {
        CgroupLayout {
            v1: Vec::new(),
            v2: Some(hierarchy(&[
                "cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma",
            ])),
            whole: None,
        }
    }

    fn hybrid() -> CgroupLayout {
        CgroupLayout {
            v1: vec![hierarchy(&["memory"]), hierarchy(&["devices"])],
            v2: Some(hierarchy(&["hugetlb"])),
            whole: None,
        }
    }

    /// What a user has of a v2 host who may have limits of memory alone.
    fn part() -> CgroupLayout {
        CgroupLayout {
            v1: Vec::new(),
            v2: Some(hierarchy(&["memory"])),
            whole: Some(Box::new(v2())),
        }
    }

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    fn planned(json: &str, layout: &CgroupLayout) -> Result<Cgroup, BadResource> {
        cgroup(
            "/a".into(),
            &resources(json),
            &[],
            layout,
            Hierarchies::Every,
        )
    }

    /// The settings as `file=value`, without those of devices.
    fn said(json: &str, layout: &CgroupLayout) -> Vec<String> {
        let settings = planned(json, layout).unwrap().settings;
        let others = settings.iter().filter(|s| s.controller != "devices");
        others.map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    fn refused(json: &str, layout: &CgroupLayout) -> String {
        planned(json, layout).unwrap_err().to_string()
    }

    fn rules(json: &str, devices: &[Device]) -> Vec<String> {
        let rules = device_rules(&resources(json), devices).unwrap();
        let sign = |rule: &DeviceRule| if rule.allow { '+' } else { '-' };
        rules
            .iter()
            .map(|rule| format!("{}{rule}", sign(rule)))
            .collect()
    }

    #[test]
    fn a_user_goes_without_what_is_not_delegated() {
        let asked = resources(
            r#"{"memory": {"limit": 1048576}, "pids": {"limit": 5},
                "devices": [{"allow": false, "access": "rwm"}]}"#,
        );
        let path = default_path(&"ns1".parse().unwrap());
        let plan = |layout: &CgroupLayout| {
            cgroup(path.clone(), &asked, &[], layout, Hierarchies::Every).unwrap()
        };
        let had = plan(&part());
        let files: Vec<&str> = had.settings.iter().map(|it| it.file.as_str()).collect();
        assert_eq!(files, ["memory.max"]);
        assert_eq!(had.undelegated, ["linux.resources.pids.limit"]);
        assert_eq!(had.devices, []);
        let nothing = CgroupLayout { v2: None, ..part() };
        assert_eq!(plan(&nothing).undelegated.len(), 2);
        assert_eq!(plan(&v2()).undelegated, Vec::<String>::new());
    }

    #[test]
    fn memory() {
        let json = r#"{"memory": {"limit": 1000, "reservation": 500, "swap": 1500}}"#;
        assert_eq!(
            said(json, &v1()),
            [
                "memory.memsw.limit_in_bytes=-1",
                "memory.limit_in_bytes=1000",
                "memory.memsw.limit_in_bytes=1500",
                "memory.soft_limit_in_bytes=500",
            ]
        );
        assert_eq!(
            said(json, &v2()),
            ["memory.max=1000", "memory.swap.max=500", "memory.low=500"]
        );
        let none = r#"{"memory": {"limit": -1, "swap": -1}}"#;
        assert_eq!(said(none, &v2()), ["memory.max=max", "memory.swap.max=max"]);
        let none = r#"{"memory": {"limit": -1}}"#;
        assert_eq!(said(none, &v2()), ["memory.swap.max=max", "memory.max=max"]);
        assert_eq!(
            said(none, &v1()),
            ["memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=-1"]
        );
        assert_eq!(
            said(r#"{"memory": {"limit": 1000, "swap": 1000}}"#, &v2()),
            ["memory.max=1000", "memory.swap.max=0"]
        );
        assert!(
            said(
                r#"{"memory": {"limit": 0, "disableOOMKiller": false, "checkBeforeUpdate": true}}"#,
                &v2()
            )
            .is_empty()
        );
        let checked = |check: bool, layout: &CgroupLayout| {
            let json = format!(r#"{{"memory": {{"limit": 9, "checkBeforeUpdate": {check}}}}}"#);
            let settings = planned(&json, layout).unwrap().settings;
            settings.into_iter().find_map(|setting| setting.above)
        };
        assert_eq!(checked(true, &v2()).as_deref(), Some("memory.current"));
        assert_eq!(checked(false, &v2()), None);
        assert_eq!(checked(true, &v1()), None);
        assert_eq!(
            said(
                r#"{"memory": {"kernelTCP": 7, "swappiness": 0, "disableOOMKiller": true, "useHierarchy": true}}"#,
                &v1()
            ),
            [
                "memory.use_hierarchy=1",
                "memory.kmem.tcp.limit_in_bytes=7",
                "memory.swappiness=0",
                "memory.oom_control=1",
            ]
        );
        for (json, error) in [
            (
                r#"{"memory": {"limit": 10, "swap": 5}}"#,
                "linux.resources.memory.swap is 5, below memory.limit 10, which it includes; 10 would mean no swap",
            ),
            (
                r#"{"memory": {"swap": 5}}"#,
                "linux.resources.memory.swap is 5 without a memory.limit, which it includes",
            ),
            (
                r#"{"memory": {"limit": -2}}"#,
                "linux.resources.memory.limit is -2; no limit is -1",
            ),
            (
                r#"{"memory": {"swappiness": 101}}"#,
                "linux.resources.memory.swappiness is 101; it goes from 0 to 100",
            ),
            (
                r#"{"memory": {"swappiness": 10}}"#,
                "linux.resources.memory.swappiness has no counterpart in cgroup v2, which is all this host has",
            ),
            (
                r#"{"memory": {"useHierarchy": false}}"#,
                "linux.resources.memory.useHierarchy is false, but cgroup v2 is always hierarchical",
            ),
        ] {
            assert_eq!(refused(json, &v2()), error);
        }
    }

    #[test]
    fn cpu() {
        let json = r#"{"cpu": {"shares": 1024, "quota": 50000, "period": 200000, "burst": 10, "idle": 0,
            "cpus": "0-1", "mems": "0"}}"#;
        assert_eq!(
            said(json, &v1()),
            [
                "cpu.shares=1024",
                "cpu.idle=0",
                "cpu.cfs_period_us=200000",
                "cpu.cfs_quota_us=50000",
                "cpu.cfs_burst_us=10",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
            ]
        );
        assert_eq!(
            said(json, &v2()),
            [
                "cpu.weight=100",
                "cpu.idle=0",
                "cpu.max=50000 200000",
                "cpu.max.burst=10",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
            ]
        );
        assert_eq!(
            said(r#"{"cpu": {"quota": -1}}"#, &v2()),
            ["cpu.max=max 100000"]
        );
        assert_eq!(
            said(r#"{"cpu": {"period": 5000}}"#, &v2()),
            ["cpu.max=max 5000"]
        );
        assert!(
            said(
                r#"{"cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": ""}}"#,
                &v2()
            )
            .is_empty()
        );
        assert_eq!(
            said(
                r#"{"cpu": {"realtimePeriod": 9, "realtimeRuntime": 5}}"#,
                &v1()
            ),
            ["cpu.rt_period_us=9", "cpu.rt_runtime_us=5"]
        );
        assert!(
            refused(r#"{"cpu": {"realtimeRuntime": 5}}"#, &v2()).contains("cpu.realtimeRuntime")
        );
        assert_eq!(
            refused(r#"{"cpu": {"shares": 1}}"#, &v1()),
            "linux.resources.cpu.shares is 1; they go from 2 to 262144"
        );
    }

    #[test]
    fn shares_become_weights_by_the_curve_of_runc() {
        for (shares, weight) in [
            (2, 1),
            (3, 2),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_143, 10_000),
            (262_144, 10_000),
        ] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn pids() {
        for (limit, text) in [(-1, "max"), (0, "1"), (2048, "2048")] {
            let json = format!(r#"{{"pids": {{"limit": {limit}}}}}"#);
            assert_eq!(said(&json, &v1()), [format!("pids.max={text}")]);
            assert_eq!(said(&json, &v2()), [format!("pids.max={text}")]);
        }
    }

    #[test]
    fn block_io() {
        let json = r#"{"blockIO": {"weight": 1000, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 600}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}}"#;
        assert_eq!(
            said(json, &v1()),
            [
                "blkio.weight=1000",
                "blkio.weight_device=8:0 10",
                "blkio.throttle.read_bps_device=8:16 600",
                "blkio.throttle.write_iops_device=8:16 0",
            ]
        );
        assert_eq!(
            said(json, &v2()),
            [
                "io.bfq.weight=1000",
                "io.bfq.weight=8:0 10",
                "io.max=8:16 rbps=600",
                "io.max=8:16 wiops=max",
            ]
        );
        let weight = &planned(json, &v2()).unwrap().settings[0];
        let instead = Absent::Instead {
            file: "io.weight".to_owned(),
            value: "10000".to_owned(),
        };
        assert_eq!(
            (&weight.absent, weight.property.as_str()),
            (&instead, "linux.resources.blockIO.weight")
        );
        assert!(
            refused(r#"{"blockIO": {"leafWeight": 10}}"#, &v2()).contains("blockIO.leafWeight")
        );
        assert!(
            refused(r#"{"blockIO": {"weight": 9}}"#, &v2())
                .ends_with("is 9; it goes from 10 to 1000")
        );
    }

    #[test]
    fn hugepages_network_rdma() {
        let json = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 9}], "rdma": {"b": {"hcaObjects": 2}, "a": {"hcaHandles": 1}}}"#;
        assert_eq!(
            said(json, &v1()),
            [
                "hugetlb.2MB.limit_in_bytes=9",
                "hugetlb.2MB.rsvd.limit_in_bytes=9",
                "rdma.max=a hca_handle=1",
                "rdma.max=b hca_object=2",
            ]
        );
        assert_eq!(
            said(json, &v2())[..2],
            ["hugetlb.2MB.max=9", "hugetlb.2MB.rsvd.max=9"]
        );
        assert_eq!(
            refused(
                r#"{"hugepageLimits": [{"pageSize": "2M", "limit": 9}]}"#,
                &v2()
            ),
            "linux.resources.hugepageLimits[0].pageSize is `2M`; a right one is `2MB`"
        );
        let json =
            r#"{"network": {"classID": 5, "priorities": [{"name": "eth0", "priority": 3}]}}"#;
        assert_eq!(
            said(json, &v1()),
            ["net_cls.classid=5", "net_prio.ifpriomap=eth0 3"]
        );
        assert!(refused(json, &v2()).contains("network.classID"));
    }

    #[test]
    fn each_controller_is_spoken_to_where_it_is() {
        let json =
            r#"{"memory": {"limit": 5}, "hugepageLimits": [{"pageSize": "1GB", "limit": 0}]}"#;
        assert_eq!(
            said(json, &hybrid()),
            [
                "memory.limit_in_bytes=5",
                "hugetlb.1GB.max=0",
                "hugetlb.1GB.rsvd.max=0"
            ]
        );
        assert_eq!(
            refused(r#"{"cpu": {"shares": 512}}"#, &hybrid()),
            "linux.resources.cpu.shares needs the cgroup controller `cpu`, which this host does not have"
        );
    }

    #[test]
    fn unified_is_for_v2_alone() {
        let json = r#"{"unified": {"memory.high": "5", "cgroup.max.depth": "1", "io.max": "8:0 rbps=1\n8:16 rbps=2\n"}}"#;
        assert_eq!(
            said(json, &v2()),
            [
                "cgroup.max.depth=1",
                "io.max=8:0 rbps=1",
                "io.max=8:16 rbps=2",
                "memory.high=5"
            ]
        );
        for layout in [v1(), hybrid()] {
            let error = refused(r#"{"unified": {"memory.high": "5"}}"#, &layout);
            assert!(
                error.starts_with(
                    "linux.resources.unified.memory.high is for a host with cgroup v2 alone"
                ),
                "{error}"
            );
        }
        assert!(
            refused(r#"{"unified": {"../x.y": "5"}}"#, &v2()).contains("is no file of a cgroup")
        );
        assert!(
            refused(r#"{"unified": {"misc.max": "5"}}"#, &v2())
                .contains("needs the cgroup controller `misc`")
        );
    }

    #[test]
    fn devices_are_denied_but_for_the_usual_ones() {
        let usual = [
            "-a *:* rwm",
            "+c *:* m",
            "+b *:* m",
            "+c 1:3 rwm",
            "+c 1:8 rwm",
            "+c 1:7 rwm",
            "+c 5:0 rwm",
            "+c 1:5 rwm",
            "+c 1:9 rwm",
            "+c 136:* rwm",
            "+c 5:2 rwm",
        ];
        assert_eq!(rules("{}", &[]), usual);
        assert_eq!(
            rules(r#"{"devices": [{"allow": false, "access": "rwm"}]}"#, &[]),
            usual
        );
        let node = Device {
            path: "/dev/fuse".into(),
            kind: DeviceKind::Char,
            major: 10,
            minor: 229,
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        let nodes = [node];
        assert_eq!(rules("{}", &nodes).last().unwrap(), "+c 10:229 rwm");
        let to_read = r#"{"devices": [{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}]}"#;
        let told = rules(to_read, &nodes);
        let of_node: Vec<_> = told.iter().filter(|rule| rule.contains("10:229")).collect();
        assert_eq!(of_node, ["+c 10:229 r"]);
        let written = planned("{}", &v1()).unwrap().settings;
        assert_eq!(
            (written[0].file.as_str(), written[0].value.as_str()),
            ("devices.deny", "a *:* rwm")
        );
        assert_eq!(written[1].file, "devices.allow");
        let cgroup = |layout: CgroupLayout| planned("{}", &layout).unwrap();
        assert!(cgroup(v1()).devices.is_empty());
        assert_eq!(
            (cgroup(v2()).devices.len(), cgroup(v2()).settings.len()),
            (usual.len(), 0)
        );
    }

    #[test]
    fn device_rules_are_said_once() {
        let privileged =
            r#"{"devices": [{"allow": false}, {"allow": true, "type": "a", "access": "rwm"}]}"#;
        assert_eq!(rules(privileged, &[]), ["+a *:* rwm"]);
        let parts = r#"{"devices": [{"allow": true, "major": 8, "access": "r"}]}"#;
        assert_eq!(
            rules(parts, &[])[..3],
            ["-a *:* rwm", "+b 8:* r", "+c 8:* r"]
        );
        let given = r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]}"#;
        assert_eq!(
            rules(given, &[])
                .iter()
                .filter(|rule| *rule == "+c 1:3 rwm")
                .count(),
            1
        );
        let taken_back = r#"{"devices": [{"allow": true}, {"allow": false, "type": "c", "major": 1, "minor": 3}]}"#;
        assert_eq!(
            rules(taken_back, &[])
                .iter()
                .filter(|rule| rule.ends_with("c 1:3 rwm"))
                .count(),
            2
        );
    }

    #[test]
    fn device_rules_that_cannot_be_are_refused() {
        let partial = r#"{"devices": [{"allow": true, "type": "c", "major": 10, "access": "rw"},
            {"allow": false, "type": "c", "major": 10, "minor": 200, "access": "rw"}]}"#;
        assert_eq!(
            refused(partial, &v1()),
            "linux.resources.devices[1] takes back a part of `c 10:* rw` (linux.resources.devices[0]), which cgroup v1 \
             cannot do; take it back whole"
        );
        assert!(planned(partial, &v2()).is_ok());
        for (json, error) in [
            (
                r#"{"devices": [{"allow": true, "type": "p"}]}"#,
                "devices[0] has type `p`",
            ),
            (
                r#"{"devices": [{"allow": true, "type": "c", "major": 4096}]}"#,
                "devices[0].major is 4096",
            ),
            (
                r#"{"devices": [{"allow": true, "access": "rx"}]}"#,
                "devices[0].access is `rx` with a 'x'",
            ),
        ] {
            let error = format!("linux.resources.{error}");
            assert!(
                refused(json, &v2()).starts_with(&error),
                "{}",
                refused(json, &v2())
            );
        }
    }

    #[test]
    fn a_container_of_its_own_name_is_below_tincan() {
        let name: ContainerName = "ns1".parse().unwrap();
        assert_eq!(default_path(&name), Path::new("/tincan/ns1"));
    }
}
