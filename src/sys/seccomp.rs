//! Seccomp filters: compiled by libseccomp (seccomp_export_bpf(3)), installed by seccomp(2).

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{FromRawFd as _, OwnedFd};

use libseccomp::error::SeccompError;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;

/// SECCOMP_FILTER_FLAG_NEW_LISTENER (linux/seccomp.h).
const NEW_LISTENER: u32 = 1 << 3;

/// Why a profile becomes no program. The text begins with the property of the profile that it is about, if it is one.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The library does not know an architecture, or does not take it beside the machine's own.
    #[error(
        ".architectures[{at}]: {} does not do {name} on this machine: {cause}",
        compiler()
    )]
    Architecture {
        /// Its place in the list.
        at: usize,
        /// Its name.
        name: String,
        /// Why.
        cause: SeccompError,
    },
    /// The library refuses a rule.
    #[error(".syscalls[{at}]: {cause}")]
    Rule {
        /// Its place in the list.
        at: usize,
        /// Why.
        cause: SeccompError,
    },
    /// The library refuses the whole.
    #[error(": {0}")]
    Library(#[from] SeccompError),
    /// There is no memory to write it to.
    #[error(": {0}")]
    Memory(#[from] std::io::Error),
}

/// What compiles filters, for whoever keeps what it made.
pub fn compiler() -> String {
    let version = libseccomp::ScmpVersion::current();
    let version = version.map(|it| format!("{}.{}.{}", it.major, it.minor, it.micro));
    let architecture = std::env::consts::ARCH;
    format!("libseccomp {} {architecture}", version.unwrap_or_default())
}

/// Compiles a profile. A call that the library does not know is left out, as in runc and crun: it is too new or too old to be there.
///
/// # Errors
/// What the library refuses.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>, CompileError> {
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut filter = ScmpFilterContext::new(default)?;
    // The process that installs it has set that already, or has the right not to.
    filter.set_ctl_nnp(false)?;
    // A binary tree instead of one comparison after another.
    filter.set_ctl_optimize(2)?;
    for (at, name) in profile.architectures().iter().flatten().enumerate() {
        let name = name.to_string();
        let known = name.parse::<ScmpArch>();
        let added = known.and_then(|it| filter.add_arch(it));
        added.map_err(|cause| CompileError::Architecture { at, name, cause })?;
    }
    for (at, rule) in profile.syscalls().iter().flatten().enumerate() {
        let action = action(rule.action(), rule.errno_ret());
        if action == default {
            // The library refuses a rule that changes nothing.
            continue;
        }
        for name in rule.names() {
            let Ok(call) = ScmpSyscall::from_name(name) else {
                continue;
            };
            let added = add(&mut filter, rule, action, call);
            added.map_err(|cause| CompileError::Rule { at, cause })?;
        }
    }
    let memory = rustix::fs::memfd_create("seccomp", MemfdFlags::CLOEXEC);
    let memory = memory.map_err(std::io::Error::from)?;
    filter.export_bpf(&memory)?;
    let mut file = File::from(memory);
    let mut program = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut program)?;
    Ok(program)
}

/// Of several conditions on one argument any may hold, as in runc; else all must.
fn add(
    filter: &mut ScmpFilterContext,
    rule: &LinuxSyscall,
    action: ScmpAction,
    call: ScmpSyscall,
) -> Result<(), SeccompError> {
    let conditions: Vec<ScmpArgCompare> = rule.args().iter().flatten().map(condition).collect();
    let mut indices: Vec<usize> = rule.args().iter().flatten().map(|it| it.index()).collect();
    let all = indices.len();
    indices.sort_unstable();
    indices.dedup();
    if indices.len() == all {
        return filter
            .add_rule_conditional(action, call, &conditions)
            .map(drop);
    }
    for condition in conditions {
        filter.add_rule_conditional(action, call, &[condition])?;
    }
    Ok(())
}

fn condition(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    let second = arg.value_two().unwrap_or(0);
    let (operator, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        // The first value is the mask here (runtime-spec config-linux.md, `valueTwo`).
        LinuxSeccompOperator::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(arg.value()), second),
    };
    let index = u32::try_from(arg.index()).expect("at most 5");
    ScmpArgCompare::new(index, operator, value)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    let code = errno.unwrap_or(libc::EPERM.cast_unsigned());
    let code = u16::try_from(code).expect("checked before");
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(i32::from(code)),
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(code),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
    }
}

/// Installs a program for the calling thread. With `listens` comes the descriptor by which an agent hears of calls.
///
/// # Errors
/// `ACCESS` without CAP_SYS_ADMIN and no_new_privs; `INVAL` for a program, or a flag, that the kernel does not know.
pub fn install(program: &[u8], flags: u32, listens: bool) -> Result<Option<OwnedFd>, Errno> {
    let instructions: Vec<libc::sock_filter> = program
        .chunks_exact(size_of::<libc::sock_filter>())
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    let flags = flags | if listens { NEW_LISTENER } else { 0 };
    // SAFETY: `program` and the instructions that it points to live until the call returns; the kernel copies them and writes to
    // neither (`seccomp_prepare_user_filter`, kernel/seccomp.c).
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if done < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error();
        return Err(Errno::from_raw_os_error(errno.unwrap_or(libc::EIO)));
    }
    if !listens {
        return Ok(None);
    }
    let fd = i32::try_from(done).map_err(|_| Errno::BADF)?;
    // SAFETY: with SECCOMP_FILTER_FLAG_NEW_LISTENER the call returns a new descriptor, which is nobody else's (seccomp(2)).
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}
