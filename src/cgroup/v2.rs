//! What only the v2 hierarchy has (Documentation/admin-guide/cgroup-v2.rst).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{Failed, What, absent_is, read, write};
use crate::plan::facts::Hierarchy;
use crate::plan::topology::{DeviceRule, DeviceRuleKind};
use crate::sys::bpf::{self, Instruction};

/// Enables controllers for `dir`: in the `cgroup.subtree_control` of every cgroup above it, from the root down. Those that
/// are needed must be had; with `all`, the others are tried, for the statistics' sake.
pub fn enable(hierarchy: &Hierarchy, dir: &Path, needed: &[&str], all: bool) -> Result<(), Failed> {
    let optional = hierarchy
        .controllers
        .iter()
        .filter(|c| all && !needed.contains(&c.as_str()));
    let optional: Vec<&String> = optional.collect();
    if needed.is_empty() && optional.is_empty() {
        return Ok(());
    }
    let root = hierarchy.mount_point.as_path();
    let mut above: Vec<&Path> = dir
        .ancestors()
        .skip(1)
        .take_while(|d| d.starts_with(root))
        .collect();
    above.reverse();
    for dir in above {
        let file = dir.join("cgroup.subtree_control");
        let enabled = read(&file)?;
        let lacks = |controller: &str| !enabled.split_whitespace().any(|c| c == controller);
        let mut missing: Vec<String> = needed
            .iter()
            .filter(|c| lacks(c))
            .map(|c| format!("+{c}"))
            .collect();
        missing.sort();
        missing.dedup();
        if !missing.is_empty() {
            write(&file, &missing.join(" "))?;
        }
        for controller in optional.iter().filter(|c| lacks(c)) {
            // Nothing was asked of it; the kernel may have reasons (realtime processes keep `cpu` from being enabled).
            let _ = write(&file, &format!("+{controller}"));
        }
    }
    Ok(())
}

/// Kills everything in a cgroup and below it by `cgroup.kill`, which kernels have since 5.14: whether that was possible.
pub fn kill(dir: &Path) -> bool {
    write(&dir.join("cgroup.kill"), "1").is_ok()
}

/// Whether the kernel can freeze v2 cgroups (since 5.2).
pub fn can_freeze(dir: &Path) -> bool {
    dir.join("cgroup.freeze").exists()
}

/// How long a freeze may take: a process in an uninterruptible sleep freezes only after it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Freezes a cgroup, and waits until it is.
pub fn freeze(dir: &Path) -> Result<(), Failed> {
    write(&dir.join("cgroup.freeze"), "1")?;
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(50);
    while !read(&dir.join("cgroup.events"))?
        .lines()
        .any(|line| line == "frozen 1")
    {
        if Instant::now() > deadline {
            thaw(dir)?;
            return Err(Failed::new(What::Freeze, dir, Errno::TIMEDOUT));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(())
}

/// Thaws a cgroup.
pub fn thaw(dir: &Path) -> Result<(), Failed> {
    write(&dir.join("cgroup.freeze"), "0")
}

/// Whether a cgroup is frozen, or about to be.
pub fn is_frozen(dir: &Path) -> Result<bool, Failed> {
    Ok(read(&dir.join("cgroup.freeze"))?.trim() == "1")
}

/// Whether whoever comes into a cgroup is frozen, by it or from above; a cgroup without processes says so, too (cgroup_create,
/// kernel/cgroup/cgroup.c). The root, which has no such file, never is.
pub fn holds(dir: &Path) -> Result<bool, Failed> {
    let events = read(&dir.join("cgroup.events"));
    let is_frozen = events.map(|text| text.lines().any(|line| line == "frozen 1"));
    absent_is(is_frozen, false)
}

/// Lets the processes of a cgroup use only the devices that the rules allow.
pub fn limit_devices(dir: &Path, fd: BorrowedFd<'_>, rules: &[DeviceRule]) -> Result<(), Failed> {
    if rules.iter().all(|rule| rule.allow) {
        return Ok(());
    }
    let named = |what, errno| Failed {
        property: Some("linux.resources.devices".to_owned()),
        ..Failed::new(what, dir, errno)
    };
    let program = bpf::load_device_program(&device_program(rules))
        .map_err(|e| named(What::LoadDevices, e))?;
    bpf::attach_device_program(fd, program.as_fd()).map_err(|e| named(What::AttachDevices, e))
}

// Instruction classes and operations (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const COPY: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const JUMP_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_UNEQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: to | from << 4,
        offset,
        immediate,
    }
}

/// The program that decides about one use of a device. It goes through the rules from the last to the first, and keeps in
/// ACCESS those of the wanted kinds of access that no rule has allowed yet: a rule that denies one of them ends it, one
/// that allows takes its own away, and when none is left the use is allowed.
///
/// Its context is `struct bpf_cgroup_dev_ctx` (include/uapi/linux/bpf.h): access << 16 | kind, major, minor.
fn device_program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(COPY, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let access = rule.access;
        // BPF_DEVCG_ACC_MKNOD, _READ, _WRITE.
        let access =
            i32::from(access.mknod) | i32::from(access.read) << 1 | i32::from(access.write) << 2;
        let verdict = if rule.allow {
            vec![
                instruction(AND, ACCESS, 0, 0, !access),
                instruction(JUMP_UNEQUAL, ACCESS, 0, 2, 0),
                instruction(MOVE, RESULT, 0, 0, 1),
                instruction(EXIT, 0, 0, 0, 0),
            ]
        } else {
            vec![
                instruction(COPY, RESULT, ACCESS, 0, 0),
                instruction(AND, RESULT, 0, 0, access),
                instruction(JUMP_EQUAL, RESULT, 0, 2, 0),
                instruction(MOVE, RESULT, 0, 0, 0),
                instruction(EXIT, 0, 0, 0, 0),
            ]
        };
        // BPF_DEVCG_DEV_BLOCK, _CHAR.
        let kind = match rule.kind {
            DeviceRuleKind::All => None,
            DeviceRuleKind::Block => Some(1),
            DeviceRuleKind::Char => Some(2),
        };
        // The numbers fit: a dev_t has 12 and 20 bits for them.
        let conditions = [
            (KIND, kind),
            (MAJOR, rule.major.map(|n| n as i32)),
            (MINOR, rule.minor.map(|n| n as i32)),
        ];
        let conditions: Vec<(u8, i32)> = conditions
            .into_iter()
            .filter_map(|(register, wanted)| Some((register, wanted?)))
            .collect();
        for (index, (register, wanted)) in conditions.iter().enumerate() {
            let rest = conditions.len() - 1 - index + verdict.len();
            program.push(instruction(
                JUMP_UNEQUAL,
                *register,
                0,
                rest as i16,
                *wanted,
            ));
        }
        program.extend(verdict);
    }
    program.push(instruction(MOVE, RESULT, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}
