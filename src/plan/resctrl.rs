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
    /// Lines for the group's `schemata`, in order.
    pub schemata: Vec<String>,
    /// What its `schemata` has to say already, where the group is not new.
    pub expected: Vec<String>,
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
    let caches = text(asked.l3_cache_schema());
    let bandwidth = text(asked.mem_bw_schema());
    if let Some(line) = &bandwidth
        && (line.contains('\n') || !line.starts_with("MB:"))
    {
        return bad(
            "memBwSchema",
            format!("`{line}` is no line that begins with `MB:`"),
        );
    }
    let more = asked.schemata().clone().unwrap_or_default();
    for (index, line) in more.iter().enumerate() {
        if line.contains('\n') || line.is_empty() {
            return bad(
                &format!("schemata[{index}]"),
                format!("`{line}` is no line"),
            );
        }
    }
    // Those of caches may be several lines, as older callers give them.
    let expected: Vec<String> = caches
        .iter()
        .chain(&bandwidth)
        .flat_map(|text| text.lines().map(str::to_owned))
        .collect();
    let schemata: Vec<String> = expected.iter().cloned().chain(more).collect();
    let maker = match &class {
        None => Maker::Container,
        Some(root) if root == "/" => Maker::Others,
        Some(_) if schemata.is_empty() => Maker::Others,
        Some(_) => Maker::Anybody,
    };
    let path = PathBuf::from(name.trim_start_matches('/'));
    let monitoring = asked.enable_monitoring().unwrap_or(false);
    let monitoring = monitoring.then(|| path.join("mon_groups").join(container.as_str()));
    Ok(ControlGroup {
        path,
        maker,
        monitoring,
        schemata,
        expected,
    })
}

/// The first of the expected lines that a `schemata` file does not have. Domains that it does not speak of do not count, and numbers may
/// be written with zeros before them.
pub fn difference<'a>(expected: &'a [String], schemata: &str) -> Option<&'a str> {
    let there: BTreeMap<&str, BTreeMap<&str, String>> =
        schemata.lines().filter_map(domains).collect();
    let is_there = |line: &str| {
        domains(line).is_some_and(|(resource, asked)| {
            let have = there.get(resource);
            have.is_some_and(|have| asked.iter().all(|(id, value)| have.get(id) == Some(value)))
        })
    };
    let mut expected = expected.iter().map(String::as_str);
    expected.find(|line| !is_there(line))
}

/// What a line of `schemata` is about, and its values by domain: `L3:0=7f0;1=1f`.
fn domains(line: &str) -> Option<(&str, BTreeMap<&str, String>)> {
    let (resource, domains) = line.split_once(':')?;
    let pairs = domains.split(';').map(|pair| {
        let (id, value) = pair.split_once('=')?;
        let value = value.trim().to_lowercase();
        Some((id.trim(), value.trim_start_matches('0').to_owned()))
    });
    Some((resource.trim(), pairs.collect::<Option<_>>()?))
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
        assert_eq!(
            group.schemata,
            ["L3:0=7f0;1=1f", "L3CODE:0=1", "MB:0=20", "L2:0=3"]
        );
        assert_eq!(group.expected, group.schemata[..3]);
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
        let differs = |line: &str| difference(&[line.to_owned()], there).is_some();
        for same in ["L3:0=7f0;1=1f", "L3:1=1F;0=7F0", "L3:1=1f", "MB:0=20"] {
            assert!(!differs(same), "{same}");
        }
        for other in ["L3:0=7f;1=1f", "L3:2=1f", "L2:0=1", "MB:0=30", "MB", "MB:0"] {
            assert!(differs(other), "{other}");
        }
    }
}
