//! How a process is scheduled, where its memory is, and what system it thinks it is on (runtime-spec config.md, Linux Process;
//! config-linux.md, Personality, Memory Policy).

use std::collections::BTreeSet;

use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler,
};

use super::super::step::{Scheduling, Step};
use super::BadBundle;

/// The steps by which a process is scheduled as it asks for.
pub(super) fn of_process(process: &Process) -> Result<Vec<Step>, BadBundle> {
    let mut steps = Vec::new();
    if let Some(scheduler) = process.scheduler() {
        steps.push(Step::Scheduler(scheduling(scheduler)?));
    }
    if let Some(asked) = process.io_priority() {
        // IOPRIO_CLASS_* of linux/ioprio.h.
        let class = match asked.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let Some(level) = u8::try_from(asked.priority()).ok().filter(|it| *it < 8) else {
            let why = "is not from 0 to 7";
            return Err(BadBundle::new("process.ioPriority.priority", why));
        };
        steps.push(Step::IoPriority { class, level });
    }
    Ok(steps)
}

/// The CPUs that a process of `exec` runs on before it is in the container's cgroup, and from then on.
pub(super) fn affinity(process: &Process) -> Result<[Option<Step>; 2], BadBundle> {
    let Some(asked) = process.exec_cpu_affinity() else {
        return Ok([None, None]);
    };
    let step = |name: &str, list: &Option<String>| match list.as_deref() {
        None | Some("") => Ok(None),
        Some(list) => numbers(&format!("process.execCPUAffinity.{name}"), list)
            .map(|cpus| Some(Step::CpuAffinity(cpus))),
    };
    Ok([
        step("initial", asked.initial())?,
        step("final", asked.cpu_affinity_final())?,
    ])
}

/// The steps by which the container's first process, and so all others that it makes, are on another system, or have memory elsewhere.
pub(super) fn of_container(linux: &Linux) -> Result<Vec<Step>, BadBundle> {
    let mut steps = Vec::new();
    if let Some(asked) = linux.personality() {
        if asked
            .flags()
            .as_ref()
            .is_some_and(|flags| !flags.is_empty())
        {
            let why = "has flags, of which the specification knows none";
            return Err(BadBundle::new("linux.personality.flags", why));
        }
        // PER_LINUX, PER_LINUX32 (personality(2)).
        steps.push(Step::Personality(match asked.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        }));
    }
    if let Some(asked) = linux.memory_policy() {
        let nodes = match asked.nodes().as_deref() {
            None | Some("") => Vec::new(),
            Some(list) => numbers("linux.memoryPolicy.nodes", list)?,
        };
        // MPOL_* of linux/mempolicy.h.
        let mode = match asked.mode() {
            MemoryPolicyModeType::MpolDefault => 0,
            MemoryPolicyModeType::MpolPreferred => 1,
            MemoryPolicyModeType::MpolBind => 2,
            MemoryPolicyModeType::MpolInterleave => 3,
            MemoryPolicyModeType::MpolLocal => 4,
            MemoryPolicyModeType::MpolPreferredMany => 5,
            MemoryPolicyModeType::MpolWeightedInterleave => 6,
        };
        let flags = asked.flags().iter().flatten();
        let mode = flags.fold(mode, |mode, flag| {
            mode | match flag {
                MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
                MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
            }
        });
        steps.push(Step::MemoryPolicy { mode, nodes });
    }
    Ok(steps)
}

fn scheduling(asked: &Scheduler) -> Result<Scheduling, BadBundle> {
    // SCHED_* of sched(7).
    let policy = match asked.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let bad =
        |name: &str, why: &str| Err(BadBundle::new(&format!("process.scheduler.{name}"), why));
    let nice = asked.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return bad("nice", "is not from -20 to 19");
    }
    if nice != 0 && !matches!(policy, 0 | 3) {
        return bad("nice", "is for SCHED_OTHER and SCHED_BATCH");
    }
    let priority = asked.priority().unwrap_or(0);
    if priority != 0 && !matches!(policy, 1 | 2) {
        return bad("priority", "is for SCHED_FIFO and SCHED_RR");
    }
    let Ok(priority) = u32::try_from(priority) else {
        return bad("priority", "is negative");
    };
    let times = [
        ("runtime", *asked.runtime()),
        ("deadline", *asked.deadline()),
        ("period", *asked.period()),
    ];
    for (name, time) in times {
        if time.is_some_and(|time| time != 0) && policy != 6 {
            return bad(name, "is for SCHED_DEADLINE");
        }
    }
    let [runtime, deadline, period] = times.map(|(_, time)| time.unwrap_or(0));
    // SCHED_FLAG_* of linux/sched.h.
    let flags = asked.flags().iter().flatten().fold(0, |bits, flag| {
        bits | match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 1,
            LinuxSchedulerFlag::SchedFlagReclaim => 1 << 1,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 1 << 2,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 1 << 3,
            LinuxSchedulerFlag::SchedFlagKeepParams => 1 << 4,
            LinuxSchedulerFlag::SchedFlagUtilClampMin => 1 << 5,
            LinuxSchedulerFlag::SchedFlagUtilClampMax => 1 << 6,
        }
    });
    Ok(Scheduling {
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
    })
}

/// A list of numbers and ranges of them: `0-3,7` (cpuset(7), List format).
fn numbers(property: &str, list: &str) -> Result<Vec<u32>, BadBundle> {
    // More than any kernel has of CPUs (NR_CPUS), or of memory nodes.
    const MOST: u32 = 8192;
    let bad = || BadBundle::new(property, format!("`{list}` is no list as 0-3,7"));
    let number = |word: &str| {
        let number = word.trim().parse::<u32>().ok();
        number.filter(|number| *number < MOST).ok_or_else(bad)
    };
    let mut numbers = BTreeSet::new();
    for word in list.split(',') {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(bad());
        }
        numbers.extend(first..=last);
    }
    Ok(numbers.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn process(more: serde_json::Value) -> Process {
        let mut value = json!({"cwd": "/", "args": ["a"], "user": {"uid": 0, "gid": 0}});
        value
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn lists_have_ranges() {
        assert_eq!(numbers("p", "0-2,7").unwrap(), [0, 1, 2, 7]);
        assert_eq!(numbers("p", "3, 3,1").unwrap(), [1, 3]);
        for list in ["", "a", "3-1", "1-", "-1", "0,,1", "8192", "1-99999999"] {
            assert!(numbers("p", list).is_err(), "{list}");
        }
    }

    #[test]
    fn a_scheduler_has_what_is_its_policys() {
        let of =
            |scheduler: serde_json::Value| of_process(&process(json!({"scheduler": scheduler})));
        let step = of(json!({"policy": "SCHED_BATCH", "nice": 5})).unwrap();
        let wanted = Scheduling {
            policy: 3,
            nice: 5,
            ..Scheduling::default()
        };
        assert_eq!(step, [Step::Scheduler(wanted)]);
        for (scheduler, property) in [
            (json!({"policy": "SCHED_FIFO", "nice": 5}), "nice"),
            (json!({"policy": "SCHED_OTHER", "nice": 20}), "nice"),
            (json!({"policy": "SCHED_OTHER", "priority": 1}), "priority"),
            (json!({"policy": "SCHED_RR", "priority": -1}), "priority"),
            (json!({"policy": "SCHED_RR", "runtime": 1}), "runtime"),
        ] {
            let bad = of(scheduler).unwrap_err();
            assert_eq!(bad.property, format!("process.scheduler.{property}"));
        }
    }
}
