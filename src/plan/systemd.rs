//! A container's cgroup as a unit of systemd's (`--systemd-cgroup`): a transient scope (systemd.scope(5)) in a slice, with the
//! limits as its properties, as far as systemd has properties for them (systemd.resource-control(5)).
//!
//! systemd makes the cgroup and writes those limits; the engine then writes all of them into the cgroup's files, since
//! properties are coarser, and some limits have none. That they are properties as well keeps systemd from undoing them
//! whenever it looks at its units again, and `systemctl show` tells them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cgroup::PARENT;
use super::facts::{CgroupLayout, Manager};
use super::name::ContainerName;
use super::oci::BadBundle;
use super::topology::{Absent, CgroupSetting};
use super::variant::{self, Value};

/// What the annotations begin with that are properties of a container's scope (runc's docs/systemd.md).
pub const PROPERTY: &str = "org.systemd.property.";

/// A scope to start, with a container's first process in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// Which systemd makes it.
    pub manager: Manager,
    /// The unit's name: `tincan-ns1.scope`.
    pub unit: String,
    /// The unit that it is in: `system.slice`.
    pub slice: String,
    /// What else is asked for, in this order.
    pub properties: Vec<Property>,
}

/// A property of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Property {
    /// As org.freedesktop.systemd1(5) has it: `MemoryMax`.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// The first systemd that knows it; an older one is not told, and the limit is in the cgroup's file alone.
    #[serde(skip_serializing_if = "is_always")]
    pub since: u32,
}

fn is_always(since: &u32) -> bool {
    *since == 0
}

impl Property {
    fn new(name: impl Into<String>, value: Value) -> Self {
        Property {
            name: name.into(),
            value,
            since: 0,
        }
    }

    fn since(self, since: u32) -> Self {
        Property { since, ..self }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.unit, self.slice)
    }
}

/// Where a container's scope is to be: what `cgroupsPath` says, or a place for its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The unit's name.
    pub unit: String,
    /// The unit that it is in.
    pub slice: String,
}

impl Place {
    /// Reads `slice:prefix:name` (runc's docs/systemd.md). Without a slice it is systemd's own for services, or for users;
    /// without anything, `tincan-NAME.scope` there.
    ///
    /// # Errors
    /// What is not of that form, or would be no unit.
    pub fn of(
        name: &ContainerName,
        asked: Option<&Path>,
        manager: Manager,
    ) -> Result<Place, BadBundle> {
        let bad = |why: String| BadBundle::new("linux.cgroupsPath", why);
        let right = format!("a right one is `system.slice:{PARENT}:{name}`");
        let asked = asked.map(Path::to_string_lossy).unwrap_or_default();
        let default = format!(":{PARENT}:{name}");
        let text = if asked.is_empty() { &default } else { &*asked };
        let parts: Vec<&str> = text.split(':').collect();
        let &[slice, prefix, own] = &parts[..] else {
            return Err(bad(format!(
                "`{text}` is no `slice:prefix:name`, which systemd needs; {right}"
            )));
        };
        let slice = match (slice, manager) {
            ("", Manager::System) => "system.slice",
            ("", Manager::User(_)) => "user.slice",
            (slice, _) => slice,
        };
        if slice_path(slice).is_none() {
            return Err(bad(format!(
                "`{text}` has the slice `{slice}`, which cannot be; {right}"
            )));
        }
        if own.is_empty() || own.contains('/') || prefix.contains('/') {
            return Err(bad(format!(
                "`{text}` has no name that a unit can have; {right}"
            )));
        }
        if own.ends_with(".slice") {
            return Err(bad(format!(
                "`{text}` would be a slice, and tincan makes scopes alone; {right}"
            )));
        }
        let dash = if prefix.is_empty() { "" } else { "-" };
        let unit = format!("{}{dash}{}.scope", escaped(prefix), escaped(own));
        // UNIT_NAME_MAX of systemd.
        if unit.len() > 255 {
            return Err(bad(format!(
                "`{text}` is too long for a unit's name, which has at most 255 bytes"
            )));
        }
        Ok(Place {
            unit,
            slice: slice.to_owned(),
        })
    }

    /// The scope's directory below each hierarchy's mount point, where the manager puts it.
    pub fn path(&self, manager: Manager) -> PathBuf {
        let mut path = root(manager);
        path.extend(slice_path(&self.slice));
        path.push(&self.unit);
        path
    }

    /// The scope there, with the limits as its properties, and what the annotations ask of it.
    ///
    /// # Errors
    /// An annotation that is no property.
    pub fn scope(
        self,
        manager: Manager,
        settings: &[CgroupSetting],
        layout: &CgroupLayout,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Scope, BadBundle> {
        let is_v2 = layout.whole().v1.is_empty();
        // Without its default dependencies, so that it goes before what it needs; collected even when it has failed, so that
        // its name is free then.
        let mut properties = vec![
            Property::new("Delegate", Value::Bool(true)),
            Property::new("DefaultDependencies", Value::Bool(false)),
            Property::new("CollectMode", Value::text("inactive-or-failed")).since(236),
        ];
        let io = if is_v2 {
            "IOAccounting"
        } else {
            "BlockIOAccounting"
        };
        for accounting in ["CPUAccounting", "MemoryAccounting", "TasksAccounting", io] {
            properties.push(Property::new(accounting, Value::Bool(true)));
        }
        properties.extend(self::properties(settings, layout));
        if !is_v2 {
            properties.extend(of_devices(settings));
        }
        for (key, text) in annotations {
            if let Some(name) = key.strip_prefix(PROPERTY) {
                let bad = |why| BadBundle::new(&format!("annotations.{key}"), why);
                properties.push(of_annotation(name, text).map_err(bad)?);
            }
        }
        Ok(Scope {
            manager,
            unit: self.unit,
            slice: self.slice,
            properties,
        })
    }
}

/// The cgroup that a manager has all of its units in, below each hierarchy's mount point.
pub fn root(manager: Manager) -> PathBuf {
    match manager {
        Manager::System => PathBuf::from("/"),
        // Where systemd itself starts the manager of a user (user@.service(5)).
        Manager::User(uid) => {
            PathBuf::from(format!("/user.slice/user-{uid}.slice/user@{uid}.service"))
        }
    }
}

/// The directory of a slice below the manager's own: each dash of its name is a level (systemd.slice(5)). None for what is
/// no slice.
fn slice_path(slice: &str) -> Option<PathBuf> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(PathBuf::new());
    }
    let is_right = |part: &str| !part.is_empty() && part.bytes().all(is_of_unit);
    if slice.len() > 255 || !stem.split('-').all(is_right) {
        return None;
    }
    let ends = stem
        .match_indices('-')
        .map(|(at, _)| at)
        .chain([stem.len()]);
    Some(ends.map(|end| format!("{}.slice", &stem[..end])).collect())
}

/// Whether a unit's name can have this (systemd.unit(5)).
fn is_of_unit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":_.\\-".contains(&byte)
}

/// A name of which units can have every letter: others are written as `\x2b` (systemd.unit(5), String Escaping for Inclusion
/// in Unit Names).
fn escaped(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        if is_of_unit(byte) || byte == b'@' {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    escaped
}

/// The properties that settings are for systemd.
pub fn properties(settings: &[CgroupSetting], layout: &CgroupLayout) -> Vec<Property> {
    let is_v2 = layout.whole().v1.is_empty();
    let of = |setting| of_setting(setting, settings, is_v2);
    settings.iter().flat_map(of).collect()
}

/// The properties for what is written into one file of the cgroup: none where systemd has none for it, or where the text is
/// not one that it would understand.
fn of_setting(setting: &CgroupSetting, all: &[CgroupSetting], is_v2: bool) -> Vec<Property> {
    let value = setting.value.as_str();
    let amount = |name: &str| of_amount(name, value).into_iter().collect();
    match setting.file.as_str() {
        "pids.max" => amount("TasksMax"),
        "cpu.weight" => amount("CPUWeight"),
        // The lowest of weights is what systemd has for idle. The kernel takes no other weight from then on
        // (kernel/sched/fair.c, sched_group_set_shares): with one, idle is written behind it into the file alone.
        "cpu.idle" if is_v2 && value == "1" && !all.iter().any(|s| s.file == "cpu.weight") => {
            vec![Property::new("CPUWeight", Value::Uint64(0)).since(252)]
        }
        "cpu.max" => {
            let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
            of_quota(quota, period)
        }
        "memory.max" => amount("MemoryMax"),
        "memory.high" => amount("MemoryHigh"),
        "memory.low" => amount("MemoryLow"),
        "memory.min" => amount("MemoryMin"),
        "memory.swap.max" => amount("MemorySwapMax"),
        "cpuset.cpus" if is_v2 => of_list("AllowedCPUs", value),
        "cpuset.mems" if is_v2 => of_list("AllowedMemoryNodes", value),
        "io.weight" => of_amount("IOWeight", value.strip_prefix("default ").unwrap_or(value))
            .into_iter()
            .collect(),
        "io.bfq.weight" => match &setting.absent {
            Absent::Instead { value, .. } => of_amount("IOWeight", value).into_iter().collect(),
            _ => Vec::new(),
        },
        "cpu.shares" => amount("CPUShares"),
        "cpu.cfs_quota_us" => {
            let period = all.iter().find(|s| s.file == "cpu.cfs_period_us");
            of_quota(value, period.map_or("100000", |period| &period.value))
        }
        "memory.limit_in_bytes" => amount("MemoryLimit"),
        "blkio.weight" => amount("BlockIOWeight"),
        _ => Vec::new(),
    }
}

fn of_amount(name: &str, text: &str) -> Option<Property> {
    let amount = match text {
        "max" | "-1" => u64::MAX,
        text => text.parse().ok()?,
    };
    Some(Property::new(name, Value::Uint64(amount)))
}

/// CPU time in microseconds a second, of which systemd makes whole percents: rounded up, so that what is written into the
/// file afterwards, and by cgroups below, is never more.
fn of_quota(quota: &str, period: &str) -> Vec<Property> {
    const PERCENT: u64 = 10_000;
    let Some(period) = period.parse::<u64>().ok().filter(|period| *period != 0) else {
        return Vec::new();
    };
    let per_second = match quota.parse::<u64>() {
        Ok(quota) => quota
            .saturating_mul(1_000_000)
            .div_ceil(period)
            .div_ceil(PERCENT)
            .saturating_mul(PERCENT),
        // `max` and -1.
        Err(_) => u64::MAX,
    };
    vec![
        Property::new("CPUQuotaPeriodUSec", Value::Uint64(period)).since(242),
        Property::new("CPUQuotaPerSecUSec", Value::Uint64(per_second)),
    ]
}

/// A list such as `0-2,5` as a mask: one bit a number, the first in the lowest of the first byte.
fn of_list(name: &str, list: &str) -> Vec<Property> {
    // CPU_SETSIZE is 1024 for the C library; the kernel's greatest is 8192.
    const MOST: usize = 8192;
    let mut mask: Vec<u8> = Vec::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else {
            return Vec::new();
        };
        if last >= MOST {
            return Vec::new();
        }
        for number in first..=last {
            mask.resize(mask.len().max(number / 8 + 1), 0);
            mask[number / 8] |= 1 << (number % 8);
        }
    }
    let bytes = mask.into_iter().map(Value::Byte).collect();
    vec![Property::new(name, Value::Array("y".to_owned(), bytes)).since(244)]
}

/// The device rules of a v1 hierarchy, whose files systemd writes anew when its units are loaded again. What it cannot say
/// (all but some) is in the files alone. On v2 tincan's program is beside systemd's, which leaves it alone.
fn of_devices(settings: &[CgroupSetting]) -> Vec<Property> {
    let mut allowed: Option<Vec<(String, String)>> = None;
    for setting in settings {
        let mut words = setting.value.split(' ');
        let (Some(kind), Some(number), Some(access)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        match (setting.file.as_str(), kind) {
            ("devices.deny", "a") => allowed = Some(Vec::new()),
            ("devices.allow", "a") => allowed = None,
            ("devices.allow", _) => {
                if let Some(allowed) = &mut allowed {
                    allowed.push((device_node(kind, number), access.to_owned()));
                }
            }
            ("devices.deny", _) => {
                let same = |(node, its): &(String, String)| {
                    *node == device_node(kind, number) && its == access
                };
                if let Some(allowed) = &mut allowed {
                    allowed.retain(|one| !same(one));
                }
            }
            _ => {}
        }
    }
    let Some(allowed) = allowed else {
        return Vec::new();
    };
    let list = allowed
        .into_iter()
        .map(|(node, access)| Value::Tuple(vec![Value::Text(node), Value::Text(access)]))
        .collect();
    vec![
        Property::new("DevicePolicy", Value::text("strict")),
        Property::new("DeviceAllow", Value::Array("(ss)".to_owned(), list)),
    ]
}

/// A device as `DeviceAllow` has it (systemd.resource-control(5)): `/dev/char/1:3`, `char-136`, `block-*`.
fn device_node(kind: &str, number: &str) -> String {
    let word = if kind == "b" { "block" } else { "char" };
    match number.split_once(':') {
        Some((major, "*")) => format!("{word}-{major}"),
        _ => format!("/dev/{word}/{number}"),
    }
}

/// An annotation `org.systemd.property.NAME` (runc's docs/systemd.md): its text is a value, and a time in seconds is turned
/// into the microseconds that properties have.
fn of_annotation(name: &str, text: &str) -> Result<Property, String> {
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(format!(
            "`{name}` is no property of a unit; a right one is `TimeoutStopUSec`"
        ));
    }
    let stem = name
        .strip_suffix("Sec")
        .filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()));
    match stem {
        Some(stem) => {
            // With its type before it or not; a part of a second is right, too.
            let number = text.split_whitespace().next_back().unwrap_or_default();
            let seconds = number.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
            let Some(seconds) = seconds else {
                return Err(format!("is `{text}`, which is no number of seconds"));
            };
            // Saturates: what is too long for it is for ever.
            let micros = (seconds * 1e6) as u64;
            Ok(Property::new(format!("{stem}USec"), Value::Uint64(micros)))
        }
        None => {
            let value = variant::parse(text).map_err(|why| format!("is `{text}`, which {why}"))?;
            Ok(Property::new(name, value))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use oci_spec::runtime::LinuxResources;

    use super::super::cgroup;
    use super::super::oci::template::tests::{v1, v2};
    use super::super::topology::Hierarchies;
    use super::*;

    fn place(asked: &str, manager: Manager) -> Result<Place, String> {
        let name = "ns1".parse().unwrap();
        let asked = Some(Path::new(asked)).filter(|path| !path.as_os_str().is_empty());
        Place::of(&name, asked, manager).map_err(|bad| bad.to_string())
    }

    /// The properties that come after those that every scope has.
    fn said(
        json: &str,
        layout: &CgroupLayout,
        annotations: &[(&str, &str)],
    ) -> Result<Vec<String>, String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let plan =
            cgroup::cgroup("/a".into(), &resources, &[], layout, Hierarchies::Every).unwrap();
        let own = |(key, text): &(&str, &str)| ((*key).to_owned(), (*text).to_owned());
        let annotations: BTreeMap<_, _> = annotations.iter().map(own).collect();
        let scope = place("", Manager::System)?
            .scope(Manager::System, &plan.settings, layout, &annotations)
            .map_err(|bad| bad.to_string())?;
        Ok(scope.properties[7..]
            .iter()
            .map(ToString::to_string)
            .collect())
    }

    fn with_cpuset(mut layout: CgroupLayout) -> CgroupLayout {
        for hierarchy in layout.v2.iter_mut() {
            hierarchy
                .controllers
                .extend(["cpuset", "io"].map(str::to_owned));
        }
        layout
    }

    #[test]
    fn a_path_says_slice_and_unit() {
        let root = Manager::System;
        let user = Manager::User(1000);
        for (asked, manager, unit, path) in [
            (
                "",
                root,
                "tincan-ns1.scope",
                "/system.slice/tincan-ns1.scope",
            ),
            (
                "",
                user,
                "tincan-ns1.scope",
                "/user.slice/user-1000.slice/user@1000.service/user.slice/tincan-ns1.scope",
            ),
            (
                "system.slice:docker:0a",
                root,
                "docker-0a.scope",
                "/system.slice/docker-0a.scope",
            ),
            (
                ":crio:b",
                root,
                "crio-b.scope",
                "/system.slice/crio-b.scope",
            ),
            ("-.slice::b", root, "b.scope", "/b.scope"),
            (
                "a-b-c.slice:p:n",
                root,
                "p-n.scope",
                "/a.slice/a-b.slice/a-b-c.slice/p-n.scope",
            ),
            (
                "machine.slice:libpod:x+y",
                root,
                "libpod-x\\x2by.scope",
                "/machine.slice/libpod-x\\x2by.scope",
            ),
        ] {
            let place = place(asked, manager).unwrap();
            assert_eq!(
                (place.unit.as_str(), place.path(manager).to_str().unwrap()),
                (unit, path),
                "{asked}"
            );
        }
    }

    #[test]
    fn a_path_that_is_no_unit_is_refused() {
        let right = "a right one is `system.slice:tincan:ns1`";
        for (asked, why) in [
            (
                "/tincan/a",
                "`/tincan/a` is no `slice:prefix:name`, which systemd needs",
            ),
            (
                "a:b:c:d",
                "`a:b:c:d` is no `slice:prefix:name`, which systemd needs",
            ),
            (
                "system:a:b",
                "`system:a:b` has the slice `system`, which cannot be",
            ),
            (
                "a--b.slice:a:b",
                "`a--b.slice:a:b` has the slice `a--b.slice`, which cannot be",
            ),
            (
                "a/b.slice:a:b",
                "`a/b.slice:a:b` has the slice `a/b.slice`, which cannot be",
            ),
            (
                ".slice:a:b",
                "`.slice:a:b` has the slice `.slice`, which cannot be",
            ),
            (
                "a.slice:a:",
                "`a.slice:a:` has no name that a unit can have",
            ),
            (
                "a.slice:a:../b",
                "`a.slice:a:../b` has no name that a unit can have",
            ),
            (
                "a.slice::b.slice",
                "`a.slice::b.slice` would be a slice, and tincan makes scopes alone",
            ),
        ] {
            assert_eq!(
                place(asked, Manager::System).unwrap_err(),
                format!("config.json: linux.cgroupsPath: {why}; {right}")
            );
        }
        let long = format!("a.slice:a:{}", "b".repeat(250));
        assert!(
            place(&long, Manager::System)
                .unwrap_err()
                .ends_with("at most 255 bytes")
        );
    }

    #[test]
    fn limits_of_v2_are_properties() {
        let json = r#"{"memory": {"limit": 1000, "reservation": 500, "swap": 1500}, "pids": {"limit": 7},
            "cpu": {"shares": 1024, "quota": 50001, "period": 200000, "idle": 1, "cpus": "0-2,9", "mems": "0"},
            "blockIO": {"weight": 1000}, "unified": {"memory.high": "5", "memory.min": "1K", "io.weight": "default 7"}}"#;
        assert_eq!(
            said(json, &with_cpuset(v2()), &[]).unwrap(),
            [
                "MemoryMax=1000",
                "MemorySwapMax=500",
                "MemoryLow=500",
                "CPUWeight=100",
                "CPUQuotaPeriodUSec=200000",
                "CPUQuotaPerSecUSec=260000",
                "AllowedCPUs=[07 02]",
                "AllowedMemoryNodes=[01]",
                "TasksMax=7",
                "IOWeight=10000",
                "IOWeight=7",
                "MemoryHigh=5",
            ]
        );
        assert_eq!(
            said(r#"{"cpu": {"idle": 1}}"#, &v2(), &[]).unwrap(),
            ["CPUWeight=0"]
        );
        let none = r#"{"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}}"#;
        assert_eq!(
            said(none, &v2(), &[]).unwrap(),
            [
                "MemorySwapMax=infinity",
                "MemoryMax=infinity",
                "CPUQuotaPeriodUSec=100000",
                "CPUQuotaPerSecUSec=infinity",
                "TasksMax=infinity"
            ]
        );
    }

    #[test]
    fn what_systemd_is_too_old_for_says_so() {
        let resources: LinuxResources =
            serde_json::from_str(r#"{"cpu": {"cpus": "0", "quota": 1000}}"#).unwrap();
        let layout = with_cpuset(v2());
        let plan =
            cgroup::cgroup("/a".into(), &resources, &[], &layout, Hierarchies::Every).unwrap();
        let scope = place("", Manager::System).unwrap();
        let scope = scope
            .scope(Manager::System, &plan.settings, &layout, &BTreeMap::new())
            .unwrap();
        let since = |name: &str| {
            scope
                .properties
                .iter()
                .find(|p| p.name == name)
                .unwrap()
                .since
        };
        assert_eq!(
            (
                since("AllowedCPUs"),
                since("CPUQuotaPeriodUSec"),
                since("CPUQuotaPerSecUSec")
            ),
            (244, 242, 0)
        );
    }

    #[test]
    fn limits_and_devices_of_v1_are_properties() {
        let mut layout = v1();
        let all = ["memory", "cpu", "cpuset", "blkio", "pids"];
        layout.v1[0].controllers.extend(all.map(str::to_owned));
        let json = r#"{"memory": {"limit": 1000}, "cpu": {"shares": 512, "quota": 1000, "period": 2000, "cpus": "0"},
            "blockIO": {"weight": 10}, "pids": {"limit": 7}, "devices": [{"allow": false},
            {"allow": true, "type": "b", "major": 8, "minor": 1, "access": "r"},
            {"allow": true, "type": "c", "major": 9, "access": "rw"}, {"allow": false, "type": "c", "major": 9, "access": "rw"}]}"#;
        let said_all = said(json, &layout, &[]).unwrap();
        assert_eq!(
            said_all[..8],
            [
                "MemoryLimit=1000",
                "CPUShares=512",
                "CPUQuotaPeriodUSec=2000",
                "CPUQuotaPerSecUSec=500000",
                "TasksMax=7",
                "BlockIOWeight=10",
                "DevicePolicy=strict",
                "DeviceAllow=[(/dev/block/8:1 r) (char-* m) (block-* m) (/dev/char/1:3 rwm) (/dev/char/1:8 rwm) \
                 (/dev/char/1:7 rwm) (/dev/char/5:0 rwm) (/dev/char/1:5 rwm) (/dev/char/1:9 rwm) (char-136 rwm) \
                 (/dev/char/5:2 rwm)]",
            ]
        );
        let privileged = r#"{"devices": [{"allow": true}]}"#;
        assert!(said(privileged, &layout, &[]).unwrap().is_empty());
    }

    #[test]
    fn annotations_are_properties() {
        let annotations = [
            ("org.systemd.property.TimeoutStopSec", "uint64 90"),
            ("org.systemd.property.RuntimeMaxSec", "1.5"),
            ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
            ("org.systemd.property.After", "['a.service', 'b.service']"),
            ("org.systemd.property.TimeoutStopUSec", "uint64 5"),
            ("com.example.other", "nothing"),
        ];
        assert_eq!(
            said("{}", &v2(), &annotations).unwrap(),
            [
                "After=[a.service b.service]",
                "CollectMode=inactive-or-failed",
                "RuntimeMaxUSec=1500000",
                "TimeoutStopUSec=90000000",
                "TimeoutStopUSec=5",
            ]
        );
        for (key, text, why) in [
            (
                "A",
                "true",
                "`A` is no property of a unit; a right one is `TimeoutStopUSec`",
            ),
            (
                "Memory_Max",
                "true",
                "`Memory_Max` is no property of a unit; a right one is `TimeoutStopUSec`",
            ),
            (
                "TimeoutStopSec",
                "soon",
                "is `soon`, which is no number of seconds",
            ),
            (
                "KillMode",
                "mixed",
                "is `mixed`, which has `mixed`, which is no value",
            ),
        ] {
            let key = format!("org.systemd.property.{key}");
            assert_eq!(
                said("{}", &v2(), &[(&key, text)]).unwrap_err(),
                format!("config.json: annotations.{key}: {why}")
            );
        }
    }
}
