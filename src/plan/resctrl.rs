//! Shares of caches and memory bandwidth, by the control groups of resctrl (Documentation/filesystems/resctrl.rst; runtime-spec
//! config-linux.md, IntelRdt).

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;
use serde::Serialize;

use super::name::ContainerName;
use super::oci::BadBundle;

/// Where a container's processes are in resctrl, and what they get there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ControlGroup {
    /// The group's directory below the mount; empty for the root, which is everybody's by default.
    pub path: PathBuf,
    /// Who makes it.
    pub maker: Maker,
    /// The monitoring group that is made for the container alone, below the same mount.
    pub monitoring: Option<PathBuf>,
    /// Lines for the group's `schemata`, which has to say so already where the group is not new.
    pub share: Vec<String>,
    /// More lines for it, which are written after those.
    pub schemata: Vec<String>,
}

/// Who makes a control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Maker {
    /// The container, with which it goes.
    Container,
    /// Whoever comes first; it stays.
    Anybody,
    /// Somebody has to have made it.
    Others,
}

/// What a group gets of the third level of caches, and of memory bandwidth: `l3CacheSchema` and `memBwSchema` of a bundle, and the options of
/// `update`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// Lines about caches.
    pub caches: Option<String>,
    /// A line about bandwidth.
    pub bandwidth: Option<String>,
}

impl Share {
    /// The lines for `schemata`, in the order of the specification. Those of caches may be several, as older callers give them.
    pub fn lines(&self) -> Vec<String> {
        let texts = self.caches.iter().chain(&self.bandwidth);
        texts
            .flat_map(|text| text.lines().map(str::to_owned))
            .collect()
    }
}

/// Whether this is a line about bandwidth.
///
/// # Errors
/// What is wrong with it.
pub fn check_bandwidth(line: &str) -> Result<(), String> {
    if line.contains('\n') || !line.starts_with("MB:") {
        return Err(format!("`{line}` is no line that begins with `MB:`"));
    }
    Ok(())
}

/// The resource of the lines about memory bandwidth.
pub const BANDWIDTH: &str = "MB";

/// Directories of resctrl's that are no groups.
const TAKEN: [&str; 3] = ["info", "mon_data", "mon_groups"];

/// The control group that a bundle asks for.
///
/// # Errors
/// When a name or a line cannot be one.
pub fn group(container: &ContainerName, asked: &LinuxIntelRdt) -> Result<ControlGroup, BadBundle> {
    let bad = |property: &str, why: String| {
        let property = format!("linux.intelRdt.{property}");
        Err(BadBundle::new(property.trim_end_matches('.'), why))
    };
    let text = |value: &Option<String>| value.clone().filter(|it| !it.is_empty());
    let class = text(asked.clos_id());
    let name = class.as_deref().unwrap_or(container.as_str());
    let is_one_name = {
        let mut parts = Path::new(name).components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(it)), None) if it == name)
    };
    if TAKEN.contains(&name)
        || name.contains('\n')
        || !(is_one_name || class.as_deref() == Some("/"))
    {
        let property = if class.is_some() { "closID" } else { "" };
        return bad(
            property,
            format!("`{name}` cannot be the name of a control group"),
        );
    }
    let share = Share {
        caches: text(asked.l3_cache_schema()),
        bandwidth: text(asked.mem_bw_schema()),
    };
    if let Some(Err(why)) = share.bandwidth.as_deref().map(check_bandwidth) {
        return bad("memBwSchema", why);
    }
    let schemata = asked.schemata().clone().unwrap_or_default();
    for (index, line) in schemata.iter().enumerate() {
        if line.contains('\n') || line.is_empty() {
            return bad(
                &format!("schemata[{index}]"),
                format!("`{line}` is no line"),
            );
        }
    }
    let share = share.lines();
    let maker = match &class {
        None => Maker::Container,
        Some(root) if root == "/" => Maker::Others,
        Some(_) if share.is_empty() && schemata.is_empty() => Maker::Others,
        Some(_) => Maker::Anybody,
    };
    let path = PathBuf::from(name.trim_start_matches('/'));
    let monitoring = asked.enable_monitoring().unwrap_or(false);
    let monitoring = monitoring.then(|| path.join("mon_groups").join(container.as_str()));
    Ok(ControlGroup {
        path,
        maker,
        monitoring,
        share,
        schemata,
    })
}

/// The first of the expected lines that a `schemata` file does not have. Domains that it does not speak of do not count, and numbers may
/// be written with zeros before them. Of bandwidth the kernel keeps the next multiple of `step` percent (resctrl.rst, `bandwidth_gran`).
pub fn difference<'a>(
    expected: &'a [String],
    schemata: &str,
    step: Option<u64>,
) -> Option<&'a str> {
    let there: BTreeMap<&str, BTreeMap<&str, String>> =
        schemata.lines().filter_map(domains).collect();
    let is_kept_as = |resource: &str, asked: &str, kept: &str| {
        let percent = asked.parse().ok().filter(|it: &u64| *it <= 100);
        let rounded = percent.zip(step).and_then(|(percent, step)| {
            let is_bandwidth = resource == BANDWIDTH;
            is_bandwidth.then(|| percent.checked_next_multiple_of(step))?
        });
        asked == kept || rounded.is_some_and(|it| kept == it.to_string())
    };
    let is_there = |line: &str| {
        domains(line).is_some_and(|(resource, asked)| {
            let kept = there.get(resource);
            kept.is_some_and(|kept| {
                asked.iter().all(|(id, asked)| {
                    let kept = kept.get(id);
                    kept.is_some_and(|kept| is_kept_as(resource, asked, kept))
                })
            })
        })
    };
    let mut expected = expected.iter().map(String::as_str);
    expected.find(|line| !is_there(line))
}

/// What a line of `schemata` is about, and its values by domain: `L3:0=7f0;1=1f`.
fn domains(line: &str) -> Option<(&str, BTreeMap<&str, String>)> {
    let (resource, domains) = line.split_once(':')?;
    // The kernel does not mind a semicolon at the end.
    let pairs = domains.split(';').filter(|pair| !pair.trim().is_empty());
    let pairs = pairs.map(|pair| {
        let (id, value) = pair.split_once('=')?;
        let value = value.trim().to_lowercase();
        let value = value.strip_prefix("0x").unwrap_or(&value);
        Some((id.trim(), value.trim_start_matches('0').to_owned()))
    });
    Some((resource.trim(), pairs.collect::<Option<_>>()?))
}

/// What a `schemata` file says of a resource.
pub fn line_of<'a>(resource: &str, schemata: &'a str) -> Option<&'a str> {
    let mut lines = schemata.lines().map(str::trim);
    lines.find(|line| resource_of(line) == Some(resource))
}

/// The lines of a `schemata` file by which that is as it was, before lines like these were written.
pub fn before(written: &[String], schemata: &str) -> Vec<String> {
    let changed: Vec<&str> = written
        .iter()
        .filter_map(|line| resource_of(line))
        .collect();
    let lines = schemata.lines().map(str::trim);
    let lines = lines.filter(|line| resource_of(line).is_some_and(|it| changed.contains(&it)));
    lines.map(str::to_owned).collect()
}

fn resource_of(line: &str) -> Option<&str> {
    line.split_once(':').map(|(resource, _)| resource.trim())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(value: serde_json::Value) -> Result<ControlGroup, String> {
        let asked = serde_json::from_value(value).unwrap();
        group(&"c1".parse().unwrap(), &asked).map_err(|error| error.to_string())
    }

    #[test]
    fn a_group_is_the_containers_own_or_has_a_name() {
        let of = |value| {
            let group = asked(value).unwrap();
            (group.path, group.maker, group.monitoring)
        };
        assert_eq!(of(json!({})), ("c1".into(), Maker::Container, None));
        assert_eq!(
            of(json!({"enableMonitoring": true})),
            (
                "c1".into(),
                Maker::Container,
                Some("c1/mon_groups/c1".into())
            )
        );
        assert_eq!(
            of(json!({"closID": "gold"})),
            ("gold".into(), Maker::Others, None)
        );
        assert_eq!(
            of(json!({"closID": "gold", "schemata": ["L3:0=f"], "enableMonitoring": true})),
            (
                "gold".into(),
                Maker::Anybody,
                Some("gold/mon_groups/c1".into())
            )
        );
        assert_eq!(
            of(json!({"closID": "/", "schemata": ["L3:0=f"], "enableMonitoring": true})),
            ("".into(), Maker::Others, Some("mon_groups/c1".into()))
        );
    }

    #[test]
    fn lines_are_written_in_the_order_of_the_specification() {
        let group = asked(json!({
            "schemata": ["L2:0=3"], "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=7f0;1=1f\nL3CODE:0=1",
        }))
        .unwrap();
        assert_eq!(group.share, ["L3:0=7f0;1=1f", "L3CODE:0=1", "MB:0=20"]);
        assert_eq!(group.schemata, ["L2:0=3"]);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (value, wrong) in [
            (
                json!({"closID": "a/b"}),
                "closID: `a/b` cannot be the name of a control group",
            ),
            (
                json!({"closID": ".."}),
                "closID: `..` cannot be the name of a control group",
            ),
            (
                json!({"closID": "info"}),
                "closID: `info` cannot be the name of a control group",
            ),
            (
                json!({"memBwSchema": "L3:0=1"}),
                "memBwSchema: `L3:0=1` is no line that begins with `MB:`",
            ),
            (
                json!({"schemata": ["a\nb"]}),
                "schemata[0]: `a\nb` is no line",
            ),
        ] {
            let error = format!("config.json: linux.intelRdt.{wrong}");
            assert_eq!(asked(value).unwrap_err(), error);
        }
    }

    #[test]
    fn a_group_that_is_there_says_the_same() {
        // As the kernel prints it.
        let there = "    MB:0= 20;1=100\n    L3:0=07f0;1=001f\n";
        let differs = |line: &str| difference(&[line.to_owned()], there, Some(10)).is_some();
        for same in [
            "L3:0=7f0;1=1f",
            "L3:1=1F;0=7F0",
            "L3:1=0x1f;",
            "MB:0=20",
            // What the kernel makes of it.
            "MB:0=11;1=95",
        ] {
            assert!(!differs(same), "{same}");
        }
        for other in [
            "L3:0=7f;1=1f",
            "L3:2=1f",
            "L3:1=16",
            "L2:0=1",
            "MB:0=30",
            "MB:0=10",
            "MB:0=21",
            "MB",
            "MB:0",
        ] {
            assert!(differs(other), "{other}");
        }
        // In megabytes per second nothing is rounded.
        let there = "MB:0=2050";
        assert!(difference(&["MB:0=2041".to_owned()], there, Some(10)).is_some());
        assert!(difference(&["MB:0=2050".to_owned()], there, None).is_none());
    }

    #[test]
    fn what_lines_change_is_put_back_by_those_of_the_same_resources() {
        let there = "  SMBA:0=2048\n    MB:0= 20;1=100\n    L3:0=07f0;1=001f\n";
        assert_eq!(line_of("MB", there), Some("MB:0= 20;1=100"));
        assert_eq!(line_of("L2", there), None);
        let put_back = |lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(|it| (*it).to_owned()).collect();
            before(&lines, there)
        };
        assert_eq!(put_back(&["L3:0=f"]), ["L3:0=07f0;1=001f"]);
        assert_eq!(
            put_back(&["L3:0=f", "MB:0=50"]),
            ["MB:0= 20;1=100", "L3:0=07f0;1=001f"]
        );
        assert_eq!(put_back(&["L2:0=f"]), [""; 0]);
    }
}
