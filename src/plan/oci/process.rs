//! The process of a bundle or of `exec`: who it is, what it may do, and what it becomes (runtime-spec config.md, Process).

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::{Capabilities as CapabilitySet, Process};

use super::super::seccomp::Filter;
use super::super::step::{Capabilities, Command, Labelled, Rlimit, Step, User};
use super::{BadBundle, scheduling};

/// The steps that turn the container's first process, or one that joined the container, into the user's: limits and ids,
/// all but the exec.
///
/// Limits come first, since raising one needs CAP_SYS_RESOURCE; the working directory is looked for as root, as in runc;
/// the user changes before the capabilities are set, since only a process that still has CAP_SETUID can change it, and
/// setuid(2) would take them away again.
///
/// A seccomp filter comes last where everybody may install one, and else before CAP_SYS_ADMIN is given up; in both cases after the
/// descriptors, but for those that are preserved, are closed at exec, for which there may be no call any more.
///
/// `found` is a command that is looked for as far to the end as a filter lets it.
pub(super) fn identity(
    process: &Process,
    umask: Option<u32>,
    filtered: Option<(&Filter, u32)>,
    found: Option<Command>,
) -> Result<Vec<Step>, BadBundle> {
    let filter = || {
        let (filter, preserve) = filtered.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        let close = preserve
            .into_iter()
            .map(|preserve| Step::CloseDescriptors { preserve });
        close.chain(filter.into_iter().cloned().map(Step::Seccomp))
    };
    let mut steps: Vec<Step> = rlimits(process).into_iter().map(Step::Rlimit).collect();
    // While there is CAP_SYS_NICE.
    steps.extend(scheduling::of_process(process)?);
    if let Some(profile) = process.apparmor_profile() {
        steps.push(Step::AppArmor(profile.clone()));
    }
    steps.extend(label(process, Labelled::Exec));
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    if no_new_privileges {
        steps.push(Step::NoNewPrivileges);
    }
    steps.push(Step::Chdir(process.cwd().clone()));
    let (find_early, find_late) = if filtered.is_some() && !no_new_privileges {
        (found, None)
    } else {
        (None, found)
    };
    steps.extend(find_early.map(Step::Find));
    if !no_new_privileges {
        steps.extend(filter());
    }
    let user = process.user();
    // One that is given twice is had once, as with youki.
    let mut seen = HashSet::new();
    let mut additional_gids = user.additional_gids().clone().unwrap_or_default();
    additional_gids.retain(|gid| seen.insert(*gid));
    steps.push(Step::User(User {
        uid: user.uid(),
        gid: user.gid(),
        additional_gids,
        umask: user.umask().or(umask),
    }));
    steps.push(Step::Capabilities(capabilities(process)));
    steps.extend(find_late.map(Step::Find));
    if no_new_privileges {
        steps.extend(filter());
    }
    Ok(steps)
}

/// The SELinux label of the process, if it asks for one, for itself or for its keys.
pub(super) fn label(process: &Process, of: Labelled) -> Option<Step> {
    let label = process.selinux_label().clone()?;
    Some(Step::Label { of, label })
}

/// The program, with the last value of every variable that is given twice, as in runc.
pub(super) fn command(process: &Process) -> Command {
    let name = |variable: &String| variable.split('=').next().unwrap_or_default().to_owned();
    let mut seen = HashSet::new();
    let mut env: Vec<String> = process
        .env()
        .iter()
        .flatten()
        .rev()
        .filter(|variable| seen.insert(name(variable)))
        .cloned()
        .collect();
    env.reverse();
    // As in runc, an empty one is none.
    env.retain(|variable| variable != "HOME=");
    let at_home = env.iter().any(|variable| variable.starts_with("HOME="));
    Command {
        args: process.args().clone().unwrap_or_default(),
        env,
        home_of: (!at_home).then(|| process.user().uid()),
    }
}

/// The program, told of this many sockets that it is to listen on. It is the first process of its container, and the
/// descriptors are for it (sd_listen_fds(3)).
pub(super) fn listening(process: &Process, sockets: u32) -> Command {
    let mut command = command(process);
    if sockets > 0 {
        command.env.push(format!("LISTEN_FDS={sockets}"));
        command.env.push("LISTEN_PID=1".to_owned());
    }
    command
}

/// A process of root in this directory, with this environment and no wishes beyond.
pub(super) fn plain(cwd: &Path, env: Vec<String>) -> Process {
    let mut process = Process::default();
    process
        .set_args(None)
        .set_capabilities(None)
        .set_rlimits(None)
        .set_no_new_privileges(None)
        .set_cwd(cwd.to_owned())
        .set_env(Some(env));
    process
}

/// Columns and rows of the terminal: those that the process asks for, or else the caller's.
pub(super) fn console(process: &Process, caller: Option<(u16, u16)>) -> Option<Step> {
    let asked = process.console_size().and_then(|size| {
        let columns = u16::try_from(size.width()).ok()?;
        let rows = u16::try_from(size.height()).ok()?;
        (columns != 0 && rows != 0).then_some((columns, rows))
    });
    process
        .terminal()
        .unwrap_or(false)
        .then_some(Step::Console {
            size: asked.or(caller),
        })
}

/// All five sets. A process without `capabilities` has none, as in runc.
fn capabilities(process: &Process) -> Capabilities {
    let Some(sets) = process.capabilities() else {
        return Capabilities::default();
    };
    Capabilities {
        bounding: by_number(sets.bounding()),
        effective: by_number(sets.effective()),
        inheritable: by_number(sets.inheritable()),
        permitted: by_number(sets.permitted()),
        ambient: by_number(sets.ambient()),
    }
}

fn by_number(set: &Option<CapabilitySet>) -> Vec<caps::Capability> {
    let mut set: Vec<caps::Capability> = set
        .iter()
        .flatten()
        .filter_map(|name| capability(&name.to_string()))
        .collect();
    set.sort_by_key(caps::Capability::index);
    set
}

/// A capability by its name, with or without `CAP_`.
pub fn capability(name: &str) -> Option<caps::Capability> {
    let name = name.to_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    format!("CAP_{name}").parse().ok()
}

fn rlimits(process: &Process) -> Vec<Rlimit> {
    process
        .rlimits()
        .iter()
        .flatten()
        .filter_map(|limit| {
            let name = limit.typ().to_string();
            Some(Rlimit {
                resource: rlimit_number(&name)?,
                name,
                soft: limit.soft(),
                hard: limit.hard(),
            })
        })
        .collect()
}

/// The kernel's number of a resource limit (getrlimit(2)).
pub(super) fn rlimit_number(name: &str) -> Option<u32> {
    Some(match name {
        "RLIMIT_AS" => libc::RLIMIT_AS,
        "RLIMIT_CORE" => libc::RLIMIT_CORE,
        "RLIMIT_CPU" => libc::RLIMIT_CPU,
        "RLIMIT_DATA" => libc::RLIMIT_DATA,
        "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
        "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
        "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => libc::RLIMIT_NICE,
        "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
        "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
        "RLIMIT_RSS" => libc::RLIMIT_RSS,
        "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => libc::RLIMIT_RTTIME,
        "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "RLIMIT_STACK" => libc::RLIMIT_STACK,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn process(more: serde_json::Value) -> Process {
        let mut value = json!({"cwd": "/w", "args": ["a", "b"], "user": {"uid": 7, "gid": 8}});
        value
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn limits_come_before_the_user_and_capabilities_last() {
        let process = process(json!({
            "noNewPrivileges": true,
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 1}],
        }));
        let steps: Vec<String> = identity(&process, None, None, None)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            steps,
            [
                "set RLIMIT_CORE",
                "give up new privileges",
                "change to the directory /w",
                "become user 7:8",
                "set the capabilities",
            ]
        );
    }

    #[test]
    fn a_label_is_taken_at_exec() {
        let process = process(json!({"selinuxLabel": "u:r:can_t:s0"}));
        let steps = identity(&process, None, None, None).unwrap();
        let at = |step: &Step| steps.iter().position(|it| it == step);
        let label = Step::Label {
            of: Labelled::Exec,
            label: "u:r:can_t:s0".to_owned(),
        };
        // While it has all its rights.
        assert!(
            at(&label).unwrap()
                < steps
                    .iter()
                    .position(|it| matches!(it, Step::User(_)))
                    .unwrap()
        );
    }

    #[test]
    fn capabilities_are_sorted_by_number_and_missing_sets_are_empty() {
        let process = process(
            json!({"capabilities": {"bounding": ["CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_BPF"]}}),
        );
        let sets = capabilities(&process);
        assert_eq!(
            sets.bounding,
            [
                caps::Capability::CAP_CHOWN,
                caps::Capability::CAP_SYS_ADMIN,
                caps::Capability::CAP_BPF,
            ]
        );
        assert!(sets.ambient.is_empty());
    }

    #[test]
    fn every_capability_of_the_specification_has_a_number() {
        for known in caps::all() {
            let name = known.to_string();
            let read: oci_spec::runtime::Capability = serde_json::from_value(json!(name)).unwrap();
            assert_eq!(capability(&read.to_string()), Some(known));
        }
    }

    #[test]
    fn every_limit_of_the_specification_has_a_number() {
        for name in [
            "AS",
            "CORE",
            "CPU",
            "DATA",
            "FSIZE",
            "LOCKS",
            "MEMLOCK",
            "MSGQUEUE",
            "NICE",
            "NOFILE",
            "NPROC",
            "RSS",
            "RTPRIO",
            "RTTIME",
            "SIGPENDING",
            "STACK",
        ] {
            let limits =
                json!({"rlimits": [{"type": format!("RLIMIT_{name}"), "soft": 1, "hard": 2}]});
            assert_eq!(rlimits(&process(limits)).len(), 1, "{name}");
        }
    }

    #[test]
    fn of_a_variable_given_twice_the_last_one_counts() {
        let process = process(json!({"env": ["A=1", "B=2", "A=3"]}));
        assert_eq!(command(&process).env, ["B=2", "A=3"]);
    }

    #[test]
    fn without_a_home_the_users_is_looked_for() {
        let of = |env: serde_json::Value| command(&process(json!({"env": env}))).home_of;
        assert_eq!(of(json!(["HOME=/h"])), None);
        assert_eq!(of(json!(["HOME=/h", "HOME="])), Some(7));
        assert_eq!(of(json!([])), Some(7));
    }

    #[test]
    fn the_process_says_its_terminals_size_before_the_caller_does() {
        let without = process(json!({}));
        assert_eq!(console(&without, Some((80, 25))), None);
        let with = process(json!({"terminal": true}));
        assert_eq!(
            console(&with, Some((80, 25))),
            Some(Step::Console {
                size: Some((80, 25))
            })
        );
        let sized = process(json!({"terminal": true, "consoleSize": {"height": 9, "width": 30}}));
        assert_eq!(
            console(&sized, Some((80, 25))),
            Some(Step::Console {
                size: Some((30, 9))
            })
        );
    }
}
