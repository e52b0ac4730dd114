//! When and where a bundle's processes run, and on what system: scheduler, I/O priority, CPUs, personality, memory policy.

use serde_json::{Value, json};

use super::bad_input::refused;
use super::host::{Case, Host, Run, tests};
use super::oci::apart;

pub fn tests() -> Vec<Case> {
    tests![
        a_process_is_scheduled_as_it_asks,
        a_deadline_and_realtime_are_had needs [Root],
        a_container_is_on_another_system,
        further_processes_have_their_cpus needs [Root],
        further_processes_end_on_other_cpus needs [Root, Processors],
        memory_is_where_the_bundle_says needs [Root],
        what_cannot_be_is_told,
    ]
}

fn bundle(host: &Host, name: &str, script: &str, change: impl FnOnce(&mut Value)) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["process"]["args"] = json!(["sh", "-euc", script]);
        change(spec);
    });
    bundle.display().to_string()
}

/// Nice value and policy of the shell itself (proc_pid_stat(5)).
const SCHEDULED: &str = "cut -d' ' -f19,41 /proc/$$/stat; ionice -p $$";

fn a_process_is_scheduled_as_it_asks(host: &Host) {
    for (name, scheduler, priority, said) in [
        (
            "b1",
            json!({"policy": "SCHED_BATCH", "nice": 7}),
            json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}),
            "7 3\nidle\n",
        ),
        (
            "b2",
            json!({"policy": "SCHED_OTHER", "nice": 3, "flags": []}),
            json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
            "3 0\nbest-effort: prio 6\n",
        ),
        (
            "b3",
            json!({"policy": "SCHED_IDLE"}),
            json!({"class": "IOPRIO_CLASS_BE", "priority": 2}),
            "0 5\nbest-effort: prio 2\n",
        ),
    ] {
        let b = bundle(host, name, SCHEDULED, |spec| {
            spec["process"]["scheduler"] = scheduler;
            spec["process"]["ioPriority"] = priority;
        });
        assert_eq!(host.tincan(["run", "-b", &b, "c"]).ok(), said, "{name}");
    }
}

fn a_deadline_and_realtime_are_had(host: &Host) {
    // A child would not be let into the world with a deadline, but for this flag.
    let deadline = json!({
        "policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 20_000_000, "period": 20_000_000,
        "flags": ["SCHED_FLAG_RESET_ON_FORK"],
    });
    let b = bundle(
        host,
        "b1",
        "read a </proc/self/stat; set -- $a; shift 40; echo $1",
        |spec| {
            spec["process"]["scheduler"] = deadline;
        },
    );
    assert_eq!(host.tincan(["run", "-b", &b, "c"]).ok(), "6\n");
    let fifo =
        json!({"policy": "SCHED_FIFO", "priority": 9, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    let b = bundle(
        host,
        "b2",
        "read a </proc/self/stat; set -- $a; shift 39; echo $1 $2; chrt -p 1 2>&1 | head -n1 >&2",
        |spec| {
            spec["process"]["scheduler"] = fifo;
        },
    );
    // On a machine where groups of processes have realtime of their own, that of a new cgroup is none.
    let run = host.tincan(["run", "-b", &b, "c"]).any_stderr().assert();
    let output = run.get_output();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        assert_eq!(output.stdout, b"9 1\n");
    } else {
        assert!(
            said.contains("c: set the scheduler: Operation not permitted"),
            "{said}"
        );
    }
}

fn a_container_is_on_another_system(host: &Host) {
    let b = bundle(host, "b", "uname -m; exec sleep 1000", |spec| {
        spec["linux"]["personality"] = json!({"domain": "LINUX32"});
        spec["process"]["args"] = json!(["sleep", "1000"]);
    });
    apart(host, &format!("run -d -b {b} c"));
    assert_eq!(host.tincan(["exec", "c", "uname", "-m"]).ok(), "i686\n");
    host.tincan(["delete", "--force", "c"]).ok();
    for (name, domain, machine) in [("b1", "LINUX32", "i686\n"), ("b2", "LINUX", "x86_64\n")] {
        let b = bundle(host, name, "uname -m", |spec| {
            spec["linux"]["personality"] = json!({"domain": domain});
        });
        assert_eq!(host.tincan(["run", "-b", &b, "c"]).ok(), machine);
    }
}

/// What `exec` says when its process asks for these CPUs and shows which it has.
fn exec_on(host: &Host, affinity: Value) -> Run {
    let process = json!({
        "cwd": "/", "user": {"uid": 0, "gid": 0}, "execCPUAffinity": affinity,
        "args": ["/bin/grep", "Cpus_allowed_list", "/proc/self/status"],
    });
    let file = host.dir().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    host.tincan(["exec", "--process", file.to_str().unwrap(), "c"])
}

fn further_processes_have_their_cpus(host: &Host) {
    let b = bundle(host, "b", "exec sleep 1000", |_| ());
    apart(host, &format!("run -d -b {b} c"));
    for affinity in [
        json!({"initial": "0"}),
        json!({"final": "0,0"}),
        json!({"initial": "0", "final": "0"}),
    ] {
        let said = exec_on(host, affinity).ok();
        assert_eq!(said, "Cpus_allowed_list:\t0\n");
    }
    let said = exec_on(host, json!({"final": "4000"})).fails(125);
    assert!(
        said.contains("c: choose the CPUs: Invalid argument"),
        "{said}"
    );
    host.tincan(["delete", "--force", "c"]).ok();
}

fn further_processes_end_on_other_cpus(host: &Host) {
    let b = bundle(host, "b", "exec sleep 1000", |_| ());
    apart(host, &format!("run -d -b {b} c"));
    for affinity in [
        json!({"initial": "0-1", "final": "1"}),
        json!({"initial": "0", "final": "1"}),
    ] {
        let said = exec_on(host, affinity).ok();
        assert_eq!(said, "Cpus_allowed_list:\t1\n");
    }
    host.tincan(["delete", "--force", "c"]).ok();
}

fn memory_is_where_the_bundle_says(host: &Host) {
    let run = |name: &str, policy: Value| {
        let b = bundle(
            host,
            name,
            "head -n1 /proc/self/numa_maps | cut -d' ' -f2",
            |spec| {
                spec["linux"]["memoryPolicy"] = policy;
            },
        );
        host.tincan(["run", "-b", &b, "c"])
    };
    assert_eq!(run("b1", json!({"mode": "MPOL_DEFAULT"})).ok(), "default\n");
    assert_eq!(
        run("b2", json!({"mode": "MPOL_BIND", "nodes": "0"})).ok(),
        "bind:0\n"
    );
    let policy = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    assert_eq!(run("b3", policy).ok(), "interleave=static:0\n");
    let said = run("b4", json!({"mode": "MPOL_BIND", "nodes": "63"})).fails(125);
    assert!(
        said.contains("c: set the memory policy: Invalid argument"),
        "{said}"
    );
}

fn what_cannot_be_is_told(host: &Host) {
    for (name, pointer, value, why) in [
        (
            "b1",
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "priority": 2}),
            "process.scheduler.priority: is for SCHED_FIFO",
        ),
        (
            "b2",
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
            "process.ioPriority.priority: is not from 0 to 7",
        ),
        (
            "b3",
            "/linux/personality",
            json!({"domain": "LINUX32", "flags": ["X"]}),
            "linux.personality.flags",
        ),
        (
            "b4",
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "1-0"}),
            "linux.memoryPolicy.nodes: `1-0` is no list",
        ),
    ] {
        let b = bundle(host, name, "true", |spec| {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            spec.pointer_mut(parent).unwrap()[key] = value;
        });
        refused(host, &["run", "-b", &b, "c"], why);
    }
}
