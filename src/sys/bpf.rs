//! The device program of a v2 cgroup (bpf(2); include/uapi/linux/bpf.h).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// One instruction, `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Class, operation and source of the operand.
    pub code: u8,
    /// The destination register in the low four bits, the source register in the high.
    pub registers: u8,
    /// Of a jump, in instructions from the next; of a load, in bytes.
    pub offset: i16,
    /// The operand.
    pub immediate: i32,
}

/// The head of `union bpf_attr` for BPF_PROG_LOAD. The kernel takes what is beyond the given size as 0.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
}

/// The head of `union bpf_attr` for BPF_PROG_ATTACH.
#[repr(C)]
struct AttachAttr {
    target_fd: RawFd,
    attach_bpf_fd: RawFd,
    attach_type: u32,
    attach_flags: u32,
}

/// Loads a device program. The descriptor is close-on-exec; the program lives as long as it, or a cgroup that it is
/// attached to.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    const LICENSE: &CStr = c"Apache-2.0";
    let attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        insns: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
    };
    // SAFETY: `attr` is laid out as the head of union bpf_attr for this command and its size is given. The instructions and
    // the licence that it points to outlive the call, which only reads them, as many as `insn_cnt` says and up to the zero.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attr,
            size_of::<LoadAttr>(),
        )
    };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(super::last_errno()),
    }
}

/// Attaches a device program to a v2 cgroup, beside those that are attached already: all of them must allow an access.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = AttachAttr {
        target_fd: cgroup.as_raw_fd(),
        attach_bpf_fd: program.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attr` is laid out as the head of union bpf_attr for this command and its size is given; both descriptors
    // are borrowed, hence open, for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attr,
            size_of::<AttachAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(super::last_errno())
    }
}
