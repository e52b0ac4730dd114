//! When and where a process runs: scheduler, I/O priority, CPUs, memory nodes; and what system it sees.

use rustix::io::Errno;
use rustix::thread::CpuSet;

use super::last_errno;
use crate::plan::step::Scheduling;

/// The kernel's structure in its first version, of 48 bytes (sched_setattr(2)).
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets the calling thread's scheduler.
///
/// # Errors
/// `PERM` without CAP_SYS_NICE, `INVAL` for what the policy does not take, `BUSY` when there is no time left for a deadline.
pub fn set_scheduler(scheduling: &Scheduling) -> Result<(), Errno> {
    let attr = SchedAttr {
        size: u32::try_from(size_of::<SchedAttr>()).expect("48"),
        policy: scheduling.policy,
        flags: scheduling.flags,
        nice: scheduling.nice,
        priority: scheduling.priority,
        runtime: scheduling.runtime,
        deadline: scheduling.deadline,
        period: scheduling.period,
    };
    // SAFETY: the structure is as long as it says, and outlives the call, which reads it.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Sets the calling thread's I/O priority: a class (IOPRIO_CLASS_*) and a level in it.
///
/// # Errors
/// `PERM` for the realtime class without CAP_SYS_ADMIN or CAP_SYS_NICE, `NOSYS` on a kernel without block devices.
pub fn set_io_priority(class: u8, level: u8) -> Result<(), Errno> {
    const WHO_PROCESS: libc::c_int = 1;
    let priority = libc::c_int::from(class) << 13 | libc::c_int::from(level);
    // SAFETY: the call takes numbers alone.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Lets the calling thread run on these CPUs alone.
///
/// # Errors
/// `INVAL` when none of them is there for its cgroup.
pub fn set_affinity(cpus: &[u32]) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        let cpu = *cpu as usize;
        if cpu >= CpuSet::MAX_CPU {
            return Err(Errno::INVAL);
        }
        set.set(cpu);
    }
    rustix::thread::sched_setaffinity(None, &set)
}

/// Sets the calling thread's execution domain.
///
/// # Errors
/// `INVAL` when the kernel does not have it.
pub fn set_personality(domain: u32) -> Result<(), Errno> {
    // SAFETY: the call takes a number alone.
    match unsafe { libc::personality(libc::c_ulong::from(domain)) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Sets where the calling thread's memory comes from.
///
/// # Errors
/// `INVAL` for nodes that are not there, or that the mode does not take; `NOSYS` on a kernel without NUMA.
pub fn set_memory_policy(mode: u32, nodes: &[u32]) -> Result<(), Errno> {
    const BITS: u32 = libc::c_ulong::BITS;
    let words = nodes.iter().max().map_or(0, |last| last / BITS + 1);
    let mut mask: Vec<libc::c_ulong> = vec![0; words as usize];
    for node in nodes {
        mask[(node / BITS) as usize] |= 1 << (node % BITS);
    }
    let pointer = if mask.is_empty() {
        std::ptr::null()
    } else {
        mask.as_ptr()
    };
    // The kernel takes one bit less than it is told (`get_nodes`, mm/mempolicy.c).
    let length = if words == 0 { 0 } else { words * BITS + 1 };
    // SAFETY: the mask has that many bits, but for the one that the kernel does not read, and outlives the call.
    match unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, length) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}
