//! Seccomp filters: what a bundle asks for (runtime-spec config-linux.md, Seccomp), and the program that it becomes.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSyscall};
use serde::{Deserialize, Serialize};

use super::oci::BadBundle;

/// Flags of seccomp(2): SECCOMP_FILTER_FLAG_LOG, _SPEC_ALLOW, _WAIT_KILLABLE_RECV.
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// A filter that the workload, and each further process of the container, has from before its exec on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The program, as the kernel takes it.
    pub program: Program,
    /// The flags of seccomp(2), but for that of the listener.
    pub flags: u32,
    /// Who decides what the program leaves to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<Listener>,
}

/// Instructions of BPF, 8 bytes each (struct sock_filter, linux/filter.h).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Program(pub Vec<u8>);

impl Program {
    /// How many instructions there are.
    pub fn len(&self) -> usize {
        self.0.len() / 8
    }
}

impl TryFrom<String> for Program {
    type Error = base64::DecodeError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Program)
    }
}

impl From<Program> for String {
    fn from(program: Program) -> String {
        STANDARD.encode(program.0)
    }
}

/// The socket of a seccomp agent (runtime-spec config-linux.md, `listenerPath`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Where it is, for the runtime.
    pub path: PathBuf,
    /// What is for the agent alone.
    pub metadata: String,
}

/// The flags that a profile asks for. One that names none gets what runc gives it: no mitigation of speculation that the kernel would
/// not do for a process without a filter.
pub fn flags(profile: &LinuxSeccomp) -> u32 {
    let Some(flags) = profile.flags() else {
        return SPEC_ALLOW;
    };
    let has_listener = profile.listener_path().is_some();
    flags.iter().fold(0, |bits, flag| {
        bits | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
            // The kernel refuses it where nobody listens.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if has_listener => {
                WAIT_KILLABLE_RECV
            }
            // There is one thread.
            _ => 0,
        }
    })
}

/// The agent that a profile asks for.
pub fn listener(profile: &LinuxSeccomp) -> Option<Listener> {
    let path = profile.listener_path().clone()?;
    let notifies = |it: &LinuxSyscall| it.action() == LinuxSeccompAction::ScmpActNotify;
    // Without a call that is left to it, there is nothing for it.
    let mut calls = profile.syscalls().iter().flatten();
    calls.any(notifies).then(|| Listener {
        path,
        metadata: profile.listener_metadata().clone().unwrap_or_default(),
    })
}

/// Refuses what no filter can do.
///
/// # Errors
/// The property that is wrong.
pub fn check(profile: &LinuxSeccomp) -> Result<(), BadBundle> {
    let bad =
        |property: String, why: &str| Err(BadBundle::new(&format!("linux.seccomp{property}"), why));
    let returns = |action| {
        matches!(
            action,
            LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace
        )
    };
    let default = profile.default_action();
    if default == LinuxSeccompAction::ScmpActNotify {
        return bad(
            ".defaultAction".to_owned(),
            "cannot leave every call to an agent",
        );
    }
    if profile.default_errno_ret().is_some() && !returns(default) {
        return bad(
            ".defaultErrnoRet".to_owned(),
            "is for an action that returns none",
        );
    }
    // The kernel gives a program no other number of an error (MAX_ERRNO, linux/err.h); what a tracer is told has 16 bits (seccomp(2)).
    let fits = |action, errno: Option<u32>| match action {
        LinuxSeccompAction::ScmpActErrno => errno.is_none_or(|errno| errno <= 4095),
        _ => errno.is_none_or(|errno| errno <= u32::from(u16::MAX)),
    };
    if !fits(default, profile.default_errno_ret()) {
        return bad(".defaultErrnoRet".to_owned(), "is no number of an error");
    }
    if profile.listener_path().is_none() && profile.listener_metadata().is_some() {
        return bad(
            ".listenerMetadata".to_owned(),
            "is for an agent, and there is no listenerPath",
        );
    }
    for (at, rule) in profile.syscalls().iter().flatten().enumerate() {
        let property = |name: &str| format!(".syscalls[{at}].{name}");
        if rule.names().is_empty() {
            return bad(property("names"), "names no call");
        }
        if rule.errno_ret().is_some() && !returns(rule.action()) {
            return bad(property("errnoRet"), "is for an action that returns none");
        }
        if !fits(rule.action(), rule.errno_ret()) {
            return bad(property("errnoRet"), "is no number of an error");
        }
        if rule.args().iter().flatten().any(|arg| arg.index() > 5) {
            return bad(
                property("args"),
                "is of a seventh argument, which no call has",
            );
        }
        if rule.action() == LinuxSeccompAction::ScmpActNotify {
            if profile.listener_path().is_none() {
                return bad(
                    property("action"),
                    "leaves calls to an agent, and there is no listenerPath",
                );
            }
            // By it the agent gets to know of the filter.
            if rule.names().iter().any(|name| name == "sendmsg") {
                return bad(
                    property("names"),
                    "leaves sendmsg to the agent, which tells the agent of the container",
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn complaint(profile: serde_json::Value) -> String {
        let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
        check(&profile).map_or_else(|bad| bad.property, |()| "none".to_owned())
    }

    #[test]
    fn what_no_filter_can_do_is_refused() {
        let rule = |more: serde_json::Value| {
            let mut rule = json!({"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"});
            rule.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
        };
        let of_rule = |name: &str| format!("linux.seccomp.syscalls[0].{name}");
        for (profile, property) in [
            (rule(json!({"errnoRet": 2})), "none".to_owned()),
            (
                json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
                "linux.seccomp.defaultAction".to_owned(),
            ),
            (
                json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
                "linux.seccomp.defaultErrnoRet".to_owned(),
            ),
            (
                json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
                "linux.seccomp.listenerMetadata".to_owned(),
            ),
            (rule(json!({"names": []})), of_rule("names")),
            (
                rule(json!({"action": "SCMP_ACT_KILL", "errnoRet": 1})),
                of_rule("errnoRet"),
            ),
            (rule(json!({"errnoRet": 4096})), of_rule("errnoRet")),
            (
                rule(json!({"action": "SCMP_ACT_TRACE", "errnoRet": 65535})),
                "none".to_owned(),
            ),
            (
                rule(json!({"action": "SCMP_ACT_TRACE", "errnoRet": 65536})),
                of_rule("errnoRet"),
            ),
            (
                json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}),
                "linux.seccomp.defaultErrnoRet".to_owned(),
            ),
            (
                rule(json!({"action": "SCMP_ACT_NOTIFY"})),
                of_rule("action"),
            ),
            (
                rule(json!({"args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]})),
                of_rule("args"),
            ),
        ] {
            assert_eq!(complaint(profile.clone()), property, "{profile}");
        }
    }

    #[test]
    fn flags_are_the_kernels() {
        let of = |more: serde_json::Value| {
            let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
            profile
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            flags(&serde_json::from_value(profile).unwrap())
        };
        assert_eq!(of(json!({})), SPEC_ALLOW);
        assert_eq!(of(json!({"flags": []})), 0);
        let all = json!([
            "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
        ]);
        assert_eq!(of(json!({"flags": all})), LOG);
        assert_eq!(
            of(json!({"flags": all, "listenerPath": "/s"})),
            LOG | WAIT_KILLABLE_RECV
        );
    }

    #[test]
    fn a_program_is_text_in_the_state() {
        let filter = Filter {
            program: Program(vec![6, 0, 0, 0, 0, 0, 255, 127]),
            flags: 4,
            listener: None,
        };
        let text = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<Filter>(&text).unwrap(), filter);
    }
}
