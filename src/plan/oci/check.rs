//! What is looked at in `config.json` before it becomes a typed specification: every message of these checks can name the
//! property, and what `oci-spec` reads differently than the specification means is put right here.

use std::collections::BTreeSet;

use oci_spec::runtime::LinuxResources;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::BadBundle;

/// What the specification defines for other platforms than Linux. An empty value asks for nothing and is let through.
const ELSEWHERE: [&str; 7] = [
    "freebsd",
    "process.commandLine",
    "process.user.username",
    "solaris",
    "vm",
    "windows",
    "zos",
];

/// The kinds of hook, in the order of a container's life.
pub(super) const HOOKS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// Reads JSON the way the specification's own Go types do: a member that is `null` is a member that is absent.
pub(super) fn read(json: &[u8]) -> Result<Value, BadBundle> {
    let mut value: Value = serde_json::from_slice(json)
        .map_err(|error| BadBundle::new("", format!("is not JSON: {error}")))?;
    tidy(&mut value, "")?;
    if !value.is_object() {
        return Err(BadBundle::new("", "is not a JSON object"));
    }
    Ok(value)
}

/// Takes the `null`s out, and refuses strings that no system call could take.
fn tidy(value: &mut Value, at: &str) -> Result<(), BadBundle> {
    match value {
        Value::String(text) if text.contains('\0') => {
            Err(BadBundle::new(at, "has a NUL byte in it"))
        }
        Value::Array(items) => items
            .iter_mut()
            .enumerate()
            .try_for_each(|(index, item)| tidy(item, &format!("{at}[{index}]"))),
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.iter_mut().try_for_each(|(key, member)| {
                let at = below(at, key);
                if key.contains('\0') {
                    return Err(BadBundle::new(&at, "has a NUL byte in its name"));
                }
                tidy(member, &at)
            })
        }
        _ => Ok(()),
    }
}

fn below(at: &str, key: &str) -> String {
    if at.is_empty() {
        key.to_owned()
    } else {
        format!("{at}.{key}")
    }
}

/// The whole of `config.json`. Returns what was overlooked for good reason.
pub(super) fn config(value: &mut Value) -> Result<Vec<String>, BadBundle> {
    for property in ELSEWHERE {
        absent(value, property, "is for another platform than Linux")?;
    }
    version(value)?;
    root(value)?;
    namespaces(value)?;
    mounts(value)?;
    devices(value)?;
    hooks(value)?;
    annotations(value)?;
    // An empty profile is none, and so is an empty label.
    if let Some(linux) = at_mut(value, "linux").and_then(Value::as_object_mut) {
        for (key, is_empty) in [
            ("seccomp", Value::is_object as fn(&Value) -> bool),
            ("mountLabel", Value::is_string),
        ] {
            if linux
                .get(key)
                .is_some_and(|it| is_empty(it) && says_nothing(it))
            {
                linux.remove(key);
            }
        }
    }
    let is_old = minor_version(value) < 3;
    if let Some(resources) = at_mut(value, "linux.resources") {
        no_pids(resources);
        if is_old {
            zero_pids(resources);
        }
    }
    let mut warnings = user_namespace(value)?;
    if let Some(process) = value.get_mut("process") {
        warnings.extend(self::process(process)?);
    }
    Ok(warnings)
}

/// `oci-spec` would read a limit of 0 in an empty `pids`, where the specification has none.
fn no_pids(resources: &mut Value) {
    let is_empty = |pids: &Map<String, Value>| !pids.contains_key("limit");
    let pids = resources.get("pids").and_then(Value::as_object);
    if pids.is_some_and(is_empty)
        && let Some(resources) = resources.as_object_mut()
    {
        resources.remove("pids");
    }
}

/// Before 1.3.0 of the specification a limit of 0 was none: podman 4 means `--pids-limit=-1` by it.
fn zero_pids(resources: &mut Value) {
    if let Some(limit) = at_mut(resources, "pids.limit")
        && limit.as_i64() == Some(0)
    {
        *limit = Value::from(-1);
    }
}

/// Resources on their own, as `update --resources` takes them.
pub(super) fn lone_resources(mut resources: Value) -> Result<LinuxResources, BadBundle> {
    no_pids(&mut resources);
    typed(resources, "linux.resources")
}

/// A process on its own, as `exec --process` takes it.
pub(super) fn lone_process(value: Value) -> Result<(Value, Vec<String>), BadBundle> {
    let mut value = Value::Object(Map::from_iter([("process".to_owned(), value)]));
    for property in ELSEWHERE {
        absent(&mut value, property, "is for another platform than Linux")?;
    }
    let mut process = value["process"].take();
    let warnings = self::process(&mut process)?;
    Ok((process, warnings))
}

/// Turns checked JSON into its type; if that fails, says which property does not fit.
pub(super) fn typed<T: DeserializeOwned>(value: Value, at: &str) -> Result<T, BadBundle> {
    T::deserialize(&value).map_err(|error| {
        let error = error.to_string();
        BadBundle::new(&culprit::<T>(&value, at, &error), error)
    })
}

/// Finds the property that an error is about: the innermost one without which there would be no such error.
fn culprit<T: DeserializeOwned>(value: &Value, at: &str, error: &str) -> String {
    let mut pointer = String::new();
    let mut name = at.to_owned();
    loop {
        let inner = value.pointer(&pointer).expect("the path was walked down");
        let children: Vec<(String, String)> = match inner {
            Value::Object(members) => members
                .keys()
                .map(|key| {
                    let escaped = key.replace('~', "~0").replace('/', "~1");
                    (escaped, below(&name, key))
                })
                .collect(),
            Value::Array(items) => (0..items.len())
                .map(|index| (index.to_string(), format!("{name}[{index}]")))
                .collect(),
            _ => return name,
        };
        let guilty = children.into_iter().find(|(key, _)| {
            let mut without = value.clone();
            match without.pointer_mut(&pointer) {
                Some(Value::Object(members)) => {
                    members.remove(&key.replace("~1", "/").replace("~0", "~"));
                }
                Some(Value::Array(items)) => {
                    items.remove(key.parse().expect("an index was put there"));
                }
                _ => return false,
            }
            T::deserialize(&without)
                .err()
                .map(|e| e.to_string())
                .as_deref()
                != Some(error)
        });
        match guilty {
            Some((key, inner)) => {
                pointer = format!("{pointer}/{key}");
                name = inner;
            }
            None => return name,
        }
    }
}

fn at<'a>(value: &'a Value, property: &str) -> Option<&'a Value> {
    property
        .split('.')
        .try_fold(value, |value, key| value.get(key))
}

fn at_mut<'a>(value: &'a mut Value, property: &str) -> Option<&'a mut Value> {
    property
        .split('.')
        .try_fold(value, |value, key| value.get_mut(key))
}

/// The items of a list, each with its name. What is no list is left to the typed reading, which says so.
fn items<'a>(value: &'a Value, property: &str) -> Vec<(String, &'a Value)> {
    let list = at(value, property).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .enumerate()
        .map(|(index, item)| (format!("{property}[{index}]"), item))
        .collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Refuses a property, and takes it out where it is there but empty.
fn absent(value: &mut Value, property: &str, why: &str) -> Result<(), BadBundle> {
    let (parent, key) = match property.rsplit_once('.') {
        Some((parent, key)) => (at_mut(value, parent), key),
        None => (Some(value), property),
    };
    let Some(members) = parent.and_then(Value::as_object_mut) else {
        return Ok(());
    };
    match members.get(key) {
        Some(value) if !says_nothing(value) => Err(BadBundle::new(property, why)),
        _ => {
            members.remove(key);
            Ok(())
        }
    }
}

/// config.md, Specification version: SemVer 2.0.0, compatible within a major version.
fn version(value: &Value) -> Result<(), BadBundle> {
    let bad = |why: String| Err(BadBundle::new("ociVersion", why));
    let Some(version) = value.get("ociVersion") else {
        return bad("is missing; a right one is `1.3.0`".to_owned());
    };
    let Some(version) = version.as_str() else {
        return bad(format!("is {version}, no string; a right one is `1.3.0`"));
    };
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = numbers.split('.').collect();
    let number = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if numbers.len() != 3 || !numbers.iter().all(number) {
        return bad(format!(
            "`{version}` is no semantic version; a right one is `1.3.0`"
        ));
    }
    if numbers[0] != "1" {
        return bad(format!(
            "`{version}` is not of version 1, which tincan does"
        ));
    }
    Ok(())
}

/// The second number of a version that is one.
fn minor_version(value: &Value) -> u32 {
    let version = value.get("ociVersion").and_then(Value::as_str);
    let minor = version.and_then(|version| version.split('.').nth(1)?.parse().ok());
    minor.unwrap_or(u32::MAX)
}

fn root(value: &Value) -> Result<(), BadBundle> {
    let Some(root) = value.get("root") else {
        return Err(BadBundle::new("root", "is missing"));
    };
    if root.is_object() && root.get("path").is_none_or(says_nothing) {
        return Err(BadBundle::new("root.path", "is missing"));
    }
    Ok(())
}

fn namespaces(value: &Value) -> Result<(), BadBundle> {
    const KINDS: [&str; 8] = [
        "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
    ];
    let mut seen = BTreeSet::new();
    for (at, namespace) in items(value, "linux.namespaces") {
        let kind = text(namespace, "type");
        if !KINDS.contains(&kind) {
            return Err(BadBundle::new(
                &format!("{at}.type"),
                format!(
                    "`{kind}` is no kind of namespace; there are {}",
                    KINDS.join(", ")
                ),
            ));
        }
        if !seen.insert(kind) {
            return Err(BadBundle::new(
                &at,
                format!("is the second one of type {kind}"),
            ));
        }
        let path = text(namespace, "path");
        if !path.is_empty() && !path.starts_with('/') {
            return Err(BadBundle::new(
                &format!("{at}.path"),
                format!("`{path}` is not absolute"),
            ));
        }
    }
    Ok(())
}

/// config-linux.md, User namespace mappings.
fn user_namespace(value: &Value) -> Result<Vec<String>, BadBundle> {
    let namespaces = items(value, "linux.namespaces");
    let user = namespaces.iter().find(|(_, ns)| text(ns, "type") == "user");
    let mut warnings = Vec::new();
    for property in ["linux.uidMappings", "linux.gidMappings"] {
        let maps = items(value, property);
        match user {
            None if !maps.is_empty() => {
                return Err(BadBundle::new(
                    property,
                    "is there, but no `user` in linux.namespaces",
                ));
            }
            // Callers of runc once had to give some mapping even there, and still do.
            Some((_, user)) if !text(user, "path").is_empty() => {
                warnings.extend((!maps.is_empty()).then(|| {
                    format!(
                        "{property} is not used: the user namespace is joined, with the ids it has"
                    )
                }))
            }
            Some(_) => {
                if maps.is_empty() {
                    return Err(BadBundle::new(
                        property,
                        "is missing: a new user namespace needs ids",
                    ));
                }
                for (at, map) in &maps {
                    if map
                        .get("size")
                        .and_then(Value::as_u64)
                        .is_none_or(|size| size == 0)
                    {
                        return Err(BadBundle::new(
                            &format!("{at}.size"),
                            "has to be a number over 0",
                        ));
                    }
                }
                let inside = |(_, map): &(String, &Value)| {
                    map.get("containerID").and_then(Value::as_u64).unwrap_or(0)
                };
                if !maps.iter().any(|map| inside(map) == 0) {
                    return Err(BadBundle::new(
                        property,
                        "leaves out containerID 0, as which the container is set up",
                    ));
                }
            }
            None => {}
        }
    }
    Ok(warnings)
}

fn mounts(value: &Value) -> Result<(), BadBundle> {
    for (at, mount) in items(value, "mounts") {
        if text(mount, "destination").is_empty() && mount.is_object() {
            return Err(BadBundle::new(&format!("{at}.destination"), "is missing"));
        }
    }
    Ok(())
}

fn devices(value: &Value) -> Result<(), BadBundle> {
    for (at, device) in items(value, "linux.devices") {
        let path = text(device, "path");
        if !path.starts_with('/') {
            return Err(BadBundle::new(
                &format!("{at}.path"),
                format!("`{path}` is not absolute"),
            ));
        }
        let kind = text(device, "type");
        if !["c", "u", "b", "p"].contains(&kind) {
            return Err(BadBundle::new(
                &format!("{at}.type"),
                format!("`{kind}` is no kind of device; there are c, u, b and p"),
            ));
        }
        for key in ["uid", "gid"] {
            if let Some(number) = device.get(key) {
                id(&format!("{at}.{key}"), number)?;
            }
        }
        // dev_t in the kernel: 12 bits of major, 20 of minor (include/linux/kdev_t.h).
        for (key, most) in [("major", 0xfff), ("minor", 0xf_ffff)] {
            let number = device.get(key);
            if kind != "p" && number.and_then(Value::as_u64).is_none_or(|n| n > most) {
                return Err(BadBundle::new(
                    &format!("{at}.{key}"),
                    format!("has to be a number from 0 to {most}"),
                ));
            }
        }
    }
    Ok(())
}

fn hooks(value: &Value) -> Result<(), BadBundle> {
    for kind in HOOKS {
        for (at, hook) in items(value, &format!("hooks.{kind}")) {
            let path = text(hook, "path");
            if !path.starts_with('/') {
                return Err(BadBundle::new(
                    &format!("{at}.path"),
                    format!("`{path}` is not absolute"),
                ));
            }
            if let Some(timeout) = hook.get("timeout")
                && timeout.as_i64().is_none_or(|seconds| seconds <= 0)
            {
                return Err(BadBundle::new(
                    &format!("{at}.timeout"),
                    format!("is {timeout}, and has to be a number of seconds over 0"),
                ));
            }
        }
    }
    Ok(())
}

fn annotations(value: &Value) -> Result<(), BadBundle> {
    match value.get("annotations").and_then(Value::as_object) {
        Some(members) if members.contains_key("") => {
            Err(BadBundle::new("annotations", "has a key that is empty"))
        }
        _ => Ok(()),
    }
}

/// `process`, in `config.json` or alone.
fn process(process: &mut Value) -> Result<Vec<String>, BadBundle> {
    let Some(members) = process.as_object_mut() else {
        return Ok(Vec::new());
    };
    // Optional in the specification, with 0 for both ids; `oci-spec` wants to see it.
    members
        .entry("user")
        .or_insert_with(|| Value::Object(Map::new()));

    let cwd = members
        .get("cwd")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !cwd.starts_with('/') {
        return Err(BadBundle::new(
            "process.cwd",
            format!("`{cwd}` is not absolute"),
        ));
    }
    match members.get("args") {
        None => return Err(BadBundle::new("process.args", "is missing")),
        Some(args) if says_nothing(args) => {
            return Err(BadBundle::new("process.args", "is empty"));
        }
        Some(_) => {}
    }
    // `oci-spec` knows one of the scheduler's flags by another name than the specification.
    let flags = members
        .get_mut("scheduler")
        .and_then(|it| it.get_mut("flags"));
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = Value::from("SCHED_RESET_ON_FORK"),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = Value::from("SCHED_FLAG_D_L_OVERRUN"),
            _ => {}
        }
    }
    let value = Value::Object(Map::from_iter([(
        "process".to_owned(),
        Value::Object(members.clone()),
    )]));
    for (at, variable) in items(&value, "process.env") {
        if let Some(variable) = variable.as_str()
            && variable.find('=').is_none_or(|at| at == 0)
        {
            return Err(BadBundle::new(
                &at,
                format!("`{variable}` is no variable; a right one is `KEY=value`"),
            ));
        }
    }
    ids(&value, "process.user", &["uid", "gid"])?;
    for (at, gid) in items(&value, "process.user.additionalGids") {
        id(&at, gid)?;
    }
    rlimits(&value)?;
    for label in ["apparmorProfile", "selinuxLabel"] {
        if members.get(label).is_some_and(says_nothing) {
            members.remove(label);
        }
    }
    if let Some(score) = members.get("oomScoreAdj")
        && score
            .as_i64()
            .is_none_or(|score| !(-1000..=1000).contains(&score))
    {
        return Err(BadBundle::new(
            "process.oomScoreAdj",
            format!("is {score}, and has to be a number from -1000 to 1000"),
        ));
    }
    console_size(members)?;
    Ok(capabilities(members))
}

/// A size that no terminal can have is ignored where there is none (config.md, Process).
fn console_size(process: &mut Map<String, Value>) -> Result<(), BadBundle> {
    let Some(size) = process.get("consoleSize") else {
        return Ok(());
    };
    let wrong = ["height", "width"].into_iter().find(|key| {
        let cells = size.get(key).and_then(Value::as_u64);
        cells.is_none_or(|cells| cells > u64::from(u16::MAX))
    });
    let Some(key) = wrong else {
        return Ok(());
    };
    if process.get("terminal") != Some(&Value::Bool(true)) {
        process.remove("consoleSize");
        return Ok(());
    }
    let cells = size.get(key).cloned().unwrap_or_default();
    Err(BadBundle::new(
        &format!("process.consoleSize.{key}"),
        format!("is {cells}, and has to be a number from 0 to {}", u16::MAX),
    ))
}

/// The ids among an object's members.
fn ids(value: &Value, property: &str, keys: &[&str]) -> Result<(), BadBundle> {
    for key in keys {
        let at = format!("{property}.{key}");
        if let Some(number) = self::at(value, &at) {
            id(&at, number)?;
        }
    }
    Ok(())
}

/// One id: -1, as 32 bits, is none, and to the kernel means that the id stays as it is, root's (setresuid(2), chown(2)).
fn id(at: &str, number: &Value) -> Result<(), BadBundle> {
    if number.as_u64() == Some(u64::from(u32::MAX)) {
        return Err(BadBundle::new(at, format!("is {number}, which is no id")));
    }
    Ok(())
}

fn rlimits(value: &Value) -> Result<(), BadBundle> {
    let mut seen = BTreeSet::new();
    for (at, limit) in items(value, "process.rlimits") {
        let name = text(limit, "type");
        if super::process::rlimit_number(name).is_none() {
            return Err(BadBundle::new(
                &format!("{at}.type"),
                format!("`{name}` is no resource limit; a right one is `RLIMIT_NOFILE`"),
            ));
        }
        // config.md: a duplicate is an error.
        if !seen.insert(name) {
            return Err(BadBundle::new(&at, format!("is the second one of {name}")));
        }
        let [soft, hard] = ["soft", "hard"].map(|key| limit.get(key).and_then(Value::as_u64));
        match (soft, hard) {
            (Some(soft), Some(hard)) if soft > hard => {
                return Err(BadBundle::new(
                    &format!("{at}.soft"),
                    format!("is {soft}, over the hard limit of {hard}"),
                ));
            }
            (Some(_), Some(_)) => {}
            (None, _) => {
                return Err(BadBundle::new(&format!("{at}.soft"), "has to be a number"));
            }
            (_, None) => {
                return Err(BadBundle::new(&format!("{at}.hard"), "has to be a number"));
            }
        }
    }
    Ok(())
}

/// Capabilities that nobody here knows are left out with a warning, as in runc: engines ask for all that they know, and the
/// newest of them are newer than this.
fn capabilities(process: &mut Map<String, Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(sets) = process
        .get_mut("capabilities")
        .and_then(Value::as_object_mut)
    else {
        return warnings;
    };
    for (set, names) in &mut *sets {
        let Some(names) = names.as_array_mut() else {
            continue;
        };
        names.retain(|name| {
            let Some(name) = name.as_str() else {
                return true;
            };
            let known = super::process::capability(name).is_some();
            if !known {
                warnings.push(format!(
                    "process.capabilities.{set}: {name} is left out: no such capability is known"
                ));
            }
            known
        });
    }
    without_what_the_kernel_refuses(sets, &mut warnings);
    warnings
}

/// Takes those out of each set that the kernel lets nobody have beside the other sets (capabilities(7)): runtimes SHOULD NOT fail for what
/// cannot be granted, and MUST tell it (config.md, Linux Process).
fn without_what_the_kernel_refuses(sets: &mut Map<String, Value>, warnings: &mut Vec<String>) {
    for (set, of) in [
        ("effective", "permitted"),
        ("inheritable", "bounding"),
        ("ambient", "permitted"),
        ("ambient", "inheritable"),
    ] {
        let known = |name: &Value| super::process::capability(name.as_str()?);
        let names =
            |set: Option<&Value>| set.and_then(Value::as_array).cloned().unwrap_or_default();
        let there: Vec<_> = names(sets.get(of)).iter().filter_map(known).collect();
        let Some(names) = sets.get_mut(set).and_then(Value::as_array_mut) else {
            continue;
        };
        names.retain(|name| {
            let Some(capability) = known(name) else {
                return true;
            };
            let is_there = there.contains(&capability);
            if !is_there {
                warnings.push(format!(
                    "process.capabilities.{set}: {capability} is left out: it is not among the {of} ones"
                ));
            }
            is_there
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{parse, parse_process, template};
    use super::*;

    /// The template with one property set, as text.
    fn with(pointer: &str, new: Value) -> Vec<u8> {
        let mut config = template::template(None, &template::tests::v1());
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = config.pointer_mut(parent).unwrap();
        match parent {
            Value::Object(members) => {
                members.insert(key.to_owned(), new);
            }
            Value::Array(items) => items.push(new),
            other => panic!("{other} has no members"),
        }
        serde_json::to_vec(&config).unwrap()
    }

    fn complaint(pointer: &str, new: Value) -> String {
        match parse(&with(pointer, new)) {
            Ok(_) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_tincan_does_not_do_is_named() {
        assert_eq!(
            complaint("/windows", json!({"layerFolders": ["a"]})),
            "config.json: windows: is for another platform than Linux"
        );
    }

    /// Every property of config.md and config-linux.md (1.3.0) that is not refused is still there in the typed specification:
    /// one that `oci-spec` did not know would be skipped without a word.
    #[test]
    fn no_property_of_the_specification_is_lost() {
        let resources = "/linux/resources";
        let throttle = json!([{"major": 8, "minor": 0, "rate": 1024}]);
        let all = [
            ("/root", json!({"path": "r", "readonly": false})),
            ("/hostname", json!("h")),
            ("/domainname", json!("d")),
            ("/annotations", json!({"a": "b"})),
            (
                "/mounts",
                json!([{"destination": "/a", "type": "tmpfs", "source": "s", "options": ["ro"]}]),
            ),
            ("/process/terminal", json!(true)),
            ("/process/consoleSize", json!({"height": 3, "width": 4})),
            ("/process/cwd", json!("/w")),
            ("/process/env", json!(["A=b"])),
            ("/process/args", json!(["a"])),
            (
                "/process/rlimits",
                json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 2}]),
            ),
            ("/process/noNewPrivileges", json!(true)),
            ("/process/oomScoreAdj", json!(5)),
            (
                "/process/user",
                json!({"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3]}),
            ),
            (
                "/linux/namespaces",
                json!([{"type": "user", "path": "/n"}, {"type": "time"}]),
            ),
            (
                "/linux/devices",
                json!([{"path": "/dev/a", "type": "c", "major": 1, "minor": 2, "fileMode": 3, "uid": 4, "gid": 5}]),
            ),
            ("/linux/sysctl", json!({"net.a": "1"})),
            ("/linux/cgroupsPath", json!("/c")),
            ("/linux/rootfsPropagation", json!("slave")),
            ("/linux/maskedPaths", json!(["/m"])),
            ("/linux/readonlyPaths", json!(["/r"])),
            (
                "/linux/timeOffsets",
                json!({"boottime": {"secs": 1, "nanosecs": 2}}),
            ),
            (
                &format!("{resources}/devices"),
                json!([{"allow": true, "type": "c", "major": 1, "minor": 2, "access": "rw"}]),
            ),
            (
                &format!("{resources}/memory"),
                json!({
                    "limit": 1, "reservation": 2, "swap": 3, "kernel": 4, "kernelTCP": 5, "swappiness": 6,
                    "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true,
                }),
            ),
            (
                &format!("{resources}/cpu"),
                json!({
                    "shares": 2, "quota": 3, "burst": 4, "period": 5, "realtimeRuntime": 6,
                    "realtimePeriod": 7, "cpus": "0", "mems": "0", "idle": 1,
                }),
            ),
            (&format!("{resources}/pids"), json!({"limit": 1})),
            (
                &format!("{resources}/blockIO"),
                json!({
                    "weight": 10, "leafWeight": 11,
                    "weightDevice": [{"major": 8, "minor": 0, "weight": 12, "leafWeight": 13}],
                    "throttleReadBpsDevice": throttle, "throttleWriteBpsDevice": throttle,
                    "throttleReadIOPSDevice": throttle, "throttleWriteIOPSDevice": throttle,
                }),
            ),
            (
                &format!("{resources}/hugepageLimits"),
                json!([{"pageSize": "2MB", "limit": 1}]),
            ),
            (
                &format!("{resources}/network"),
                json!({"classID": 1, "priorities": [{"name": "eth0", "priority": 2}]}),
            ),
            (
                &format!("{resources}/rdma"),
                json!({"mlx5_1": {"hcaHandles": 3, "hcaObjects": 4}}),
            ),
            (&format!("{resources}/unified"), json!({"memory.high": "1"})),
        ];
        let hook = json!([{"path": "/h", "args": ["h"], "env": ["A=b"], "timeout": 3}]);
        let hooks = HOOKS.map(|kind| (format!("/hooks/{kind}"), hook.clone()));
        let hooks = hooks.iter().map(|(at, hook)| (at.as_str(), hook.clone()));
        for (pointer, value) in all.into_iter().chain(hooks) {
            let json = match pointer.strip_prefix("/hooks/") {
                Some(kind) => with("/hooks", json!({ kind: value.clone() })),
                None => with(pointer, value.clone()),
            };
            let spec = parse(&json).unwrap_or_else(|error| panic!("{pointer}: {error}"));
            let typed = serde_json::to_value(spec.spec).unwrap();
            assert_eq!(typed.pointer(pointer), Some(&value), "{pointer}");
        }
    }

    #[test]
    fn what_asks_for_nothing_is_let_through() {
        for (pointer, value) in [
            ("/linux/seccomp", json!({})),
            ("/linux/seccomp", json!(null)),
            ("/linux/mountLabel", json!("")),
            ("/process/apparmorProfile", json!("")),
            ("/process/selinuxLabel", json!("")),
            (
                "/mounts/-",
                json!({"destination": "/a", "type": "tmpfs", "uidMappings": []}),
            ),
            ("/linux/netDevices", json!({})),
            ("/process/user", json!(null)),
            ("/hooks", json!(null)),
            ("/somethingNew", json!({"a": 1})),
            ("/linux/somethingNew", json!(3)),
        ] {
            assert_eq!(complaint(pointer, value), "none", "{pointer}");
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_its_property() {
        for (pointer, value, wrong) in [
            (
                "/ociVersion",
                json!("2.0.0"),
                "ociVersion: `2.0.0` is not of version 1, which tincan does",
            ),
            (
                "/ociVersion",
                json!("1.0"),
                "ociVersion: `1.0` is no semantic version; a right one is `1.3.0`",
            ),
            (
                "/ociVersion",
                json!(1),
                "ociVersion: is 1, no string; a right one is `1.3.0`",
            ),
            ("/root", json!(null), "root: is missing"),
            ("/root/path", json!(""), "root.path: is missing"),
            (
                "/process/cwd",
                json!("tmp"),
                "process.cwd: `tmp` is not absolute",
            ),
            ("/process/args", json!([]), "process.args: is empty"),
            (
                "/process/args",
                json!(["a\0b"]),
                "process.args[0]: has a NUL byte in it",
            ),
            (
                "/process/env",
                json!(["A"]),
                "process.env[0]: `A` is no variable; a right one is `KEY=value`",
            ),
            (
                "/process/user/uid",
                json!("x"),
                "process.user.uid: invalid type: string \"x\", expected u32",
            ),
            (
                "/process/user/uid",
                json!(-1),
                "process.user.uid: invalid value: integer `-1`, expected u32",
            ),
            (
                "/process/user/uid",
                json!(u32::MAX),
                "process.user.uid: is 4294967295, which is no id",
            ),
            (
                "/process/user/additionalGids",
                json!([1, u32::MAX]),
                "process.user.additionalGids[1]: is 4294967295, which is no id",
            ),
            (
                "/linux/devices",
                json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "gid": u32::MAX}]),
                "linux.devices[0].gid: is 4294967295, which is no id",
            ),
            (
                "/process/oomScoreAdj",
                json!(2000),
                "process.oomScoreAdj: is 2000, and has to be a number from -1000 to 1000",
            ),
            (
                "/process/rlimits/-",
                json!({"type": "RLIMIT_FOO", "soft": 1, "hard": 1}),
                "process.rlimits[1].type: `RLIMIT_FOO` is no resource limit; a right one is `RLIMIT_NOFILE`",
            ),
            (
                "/process/rlimits/-",
                json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}),
                "process.rlimits[1]: is the second one of RLIMIT_NOFILE",
            ),
            (
                "/process/rlimits/-",
                json!({"type": "RLIMIT_CPU", "soft": 2, "hard": 1}),
                "process.rlimits[1].soft: is 2, over the hard limit of 1",
            ),
            (
                "/linux/namespaces/-",
                json!({"type": "net"}),
                "linux.namespaces[5].type: `net` is no kind of namespace; there are cgroup, ipc, mount, network, pid, time, user, uts",
            ),
            (
                "/linux/namespaces/-",
                json!({"type": "pid"}),
                "linux.namespaces[5]: is the second one of type pid",
            ),
            (
                "/linux/namespaces/-",
                json!({"type": "cgroup", "path": "proc/1/ns/cgroup"}),
                "linux.namespaces[5].path: `proc/1/ns/cgroup` is not absolute",
            ),
            (
                "/linux/namespaces/-",
                json!({"type": "user"}),
                "linux.uidMappings: is missing: a new user namespace needs ids",
            ),
            (
                "/linux/uidMappings",
                json!([{"containerID": 0, "hostID": 0, "size": 1}]),
                "linux.uidMappings: is there, but no `user` in linux.namespaces",
            ),
            (
                "/mounts/-",
                json!({"type": "tmpfs"}),
                "mounts[7].destination: is missing",
            ),
            (
                "/hooks",
                json!({"prestart": [{"path": "true"}]}),
                "hooks.prestart[0].path: `true` is not absolute",
            ),
            (
                "/hooks",
                json!({"poststop": [{"path": "/bin/true", "timeout": 0}]}),
                "hooks.poststop[0].timeout: is 0, and has to be a number of seconds over 0",
            ),
            (
                "/linux/devices",
                json!([{"path": "/dev/a", "type": "a", "major": 1, "minor": 1}]),
                "linux.devices[0].type: `a` is no kind of device; there are c, u, b and p",
            ),
            (
                "/linux/devices",
                json!([{"path": "/dev/a", "type": "c", "major": 1}]),
                "linux.devices[0].minor: has to be a number from 0 to 1048575",
            ),
            (
                "/annotations",
                json!({"": "a"}),
                "annotations: has a key that is empty",
            ),
            (
                "/mounts",
                json!({}),
                "mounts: invalid type: map, expected a sequence",
            ),
        ] {
            assert_eq!(complaint(pointer, value), format!("config.json: {wrong}"));
        }
        assert!(
            parse(b"{")
                .unwrap_err()
                .to_string()
                .starts_with("config.json: is not JSON: EOF"),
        );
        assert_eq!(
            parse(b"[]").unwrap_err().to_string(),
            "config.json: is not a JSON object"
        );
    }

    #[test]
    fn a_capability_nobody_knows_is_left_out_with_a_warning() {
        let config = with(
            "/process/capabilities",
            json!({"bounding": ["CAP_KILL", "CAP_FLY"]}),
        );
        let bundle = parse(&config).unwrap();
        assert_eq!(
            bundle.warnings,
            ["process.capabilities.bounding: CAP_FLY is left out: no such capability is known"]
        );
    }

    #[test]
    fn a_console_size_counts_where_there_is_a_terminal() {
        for (size, wrong) in [
            (json!({"height": 70_000, "width": 1}), "height: is 70000"),
            (json!({"height": 1}), "width: is null"),
            (json!({"height": 1, "width": -1}), "width: is -1"),
        ] {
            let process = |terminal: bool| {
                let process =
                    json!({"cwd": "/", "args": ["a"], "terminal": terminal, "consoleSize": size});
                parse_process(process.to_string().as_bytes())
            };
            let (ignored, _) = process(false).unwrap();
            assert_eq!(ignored.console_size(), None);
            let said = process(true).unwrap_err().to_string();
            let wanted = format!(
                "process.json: consoleSize.{wrong}, and has to be a number from 0 to 65535"
            );
            assert_eq!(said, wanted);
        }
    }

    #[test]
    fn a_capability_that_the_kernel_refuses_is_left_out_with_a_warning() {
        let all = json!(["CAP_KILL", "CAP_CHOWN"]);
        let config = with(
            "/process/capabilities",
            json!({
                "bounding": all, "permitted": ["cap_kill"], "effective": all, "inheritable": ["CAP_KILL", "CAP_BPF"],
                "ambient": all,
            }),
        );
        let bundle = parse(&config).unwrap();
        let left_out = |set: &str, name: &str, of: &str| {
            format!("process.capabilities.{set}: {name} is left out: it is not among the {of} ones")
        };
        assert_eq!(
            bundle.warnings,
            [
                left_out("effective", "CAP_CHOWN", "permitted"),
                left_out("inheritable", "CAP_BPF", "bounding"),
                left_out("ambient", "CAP_CHOWN", "permitted"),
            ]
        );
        let typed = serde_json::to_value(bundle.spec).unwrap();
        for set in ["effective", "inheritable", "ambient"] {
            let left = typed.pointer(&format!("/process/capabilities/{set}"));
            assert_eq!(left, Some(&json!(["CAP_KILL"])), "{set}");
        }
        // Ambient ones are passed on by exec as inheritable ones are.
        let config = with(
            "/process/capabilities",
            json!({"permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]}),
        );
        let warnings = parse(&config).unwrap().warnings;
        assert_eq!(warnings, [left_out("ambient", "CAP_KILL", "inheritable")]);
    }

    #[test]
    fn pids_without_a_limit_are_no_limit() {
        let bundle = parse(&with("/linux/resources/pids", json!({}))).unwrap();
        let linux = bundle.spec.linux().as_ref().unwrap();
        assert_eq!(*linux.resources().as_ref().unwrap().pids(), None);
    }

    #[test]
    fn a_pids_limit_of_0_was_none_before_1_3() {
        for (version, limit) in [("1.0.2-dev", -1), ("1.2.1", -1), ("1.3.0", 0)] {
            let mut config: Value =
                serde_json::from_slice(&with("/linux/resources/pids", json!({"limit": 0})))
                    .unwrap();
            config["ociVersion"] = json!(version);
            let bundle = parse(config.to_string().as_bytes()).unwrap();
            let linux = bundle.spec.linux().as_ref().unwrap();
            let resources = linux.resources().as_ref().unwrap();
            assert_eq!(
                resources.pids().as_ref().unwrap().limit(),
                limit,
                "{version}"
            );
        }
    }

    #[test]
    fn a_process_alone_is_checked_as_in_the_bundle() {
        assert!(parse_process(br#"{"cwd": "/", "args": ["a"]}"#).is_ok());
        for (json, wrong) in [
            (r#"{"cwd": "a", "args": ["a"]}"#, "cwd: `a` is not absolute"),
            (r#"{"cwd": "/"}"#, "args: is missing"),
            (
                r#"{"cwd": "/", "args": ["a"], "user": {"uid": "a"}}"#,
                "user.uid: invalid type: string \"a\", expected u32",
            ),
        ] {
            assert_eq!(
                parse_process(json.as_bytes()).unwrap_err().to_string(),
                format!("process.json: {wrong}")
            );
        }
    }
}
