//! Who a process is and what it may do: ids, groups, capabilities, limits, keyrings.

use std::ffi::CStr;

use caps::{CapSet, Capability, CapsHashSet};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::last_errno;

/// Sets all three user ids of the calling thread (setresuid(2)).
///
/// # Errors
/// As setresuid(2).
pub fn set_uid(uid: u32) -> Result<(), Errno> {
    let uid = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// Sets all three group ids of the calling thread (setresgid(2)).
///
/// # Errors
/// As setresgid(2).
pub fn set_gid(gid: u32) -> Result<(), Errno> {
    let gid = Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)
}

/// Has the rights of these ids, and root's capabilities of files with root's alone, where the calling thread looks at files
/// (setfsuid(2), capabilities(7)), until it sets its ids.
pub fn look_as(uid: u32, gid: u32) {
    nix::unistd::setfsgid(nix::unistd::Gid::from_raw(gid));
    nix::unistd::setfsuid(nix::unistd::Uid::from_raw(uid));
}

/// Sets the supplementary groups of the calling thread (setgroups(2)).
///
/// # Errors
/// `PERM` also where the user namespace's `setgroups` file says `deny` (user_namespaces(7)).
pub fn set_groups(gids: &[u32]) -> Result<(), Errno> {
    let gids: Vec<Gid> = gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&gids)
}

/// Keeps the permitted capabilities over a change of user id (PR_SET_KEEPCAPS(2const)), until exec.
///
/// # Errors
/// None for an unlocked bit.
pub fn keep_capabilities() -> Result<(), Errno> {
    rustix::thread::set_keep_capabilities(true)
}

/// Sets one capability set of the calling thread to exactly these.
///
/// # Errors
/// `PERM` when the thread may not have one of them (capabilities(7)).
pub fn set_capabilities(set: CapSet, to: &[Capability]) -> Result<(), Errno> {
    let to: CapsHashSet = to.iter().copied().collect();
    let done = match set {
        // Only dropping is possible here, and each drop is a call: so only what is there and must go.
        CapSet::Bounding => caps::read(None, set).and_then(|have| {
            have.difference(&to)
                .try_for_each(|cap| caps::drop(None, set, *cap))
        }),
        _ => caps::set(None, set, &to),
    };
    // The crate keeps no errno; these calls fail for want of the right alone.
    done.map_err(|_| Errno::PERM)
}

/// The capabilities that the calling thread can give on.
///
/// # Errors
/// `PERM` when the kernel does not say.
pub fn permitted() -> Result<CapsHashSet, Errno> {
    caps::read(None, CapSet::Permitted).map_err(|_| Errno::PERM)
}

/// The capabilities that the calling thread, and what it executes, can ever have.
///
/// # Errors
/// As [`permitted`].
pub fn bounding() -> Result<CapsHashSet, Errno> {
    caps::read(None, CapSet::Bounding).map_err(|_| Errno::PERM)
}

/// Gives up gaining privileges by exec, for good (PR_SET_NO_NEW_PRIVS(2const)).
///
/// # Errors
/// None that the kernel documents.
pub fn set_no_new_privs() -> Result<(), Errno> {
    rustix::thread::set_no_new_privs(true)
}

/// Sets a resource limit (prlimit(2)); `resource` is the kernel's number, and `u64::MAX` is no limit.
///
/// # Errors
/// `PERM` when the hard limit is raised without CAP_SYS_RESOURCE, `INVAL` when the soft one is over the hard one.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the limit outlives the call, the old one is not asked for, and the kernel checks the number.
    match unsafe { libc::prlimit64(0, resource, &raw const limit, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Raises the hard limit of a resource to this at least, for this process and those that it makes from now on (prlimit(2)). Without the right to
/// it stays as it is.
pub fn raise_hard_limit(resource: u32, hard: u64) {
    let mut now = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: no new limit is given, the old one outlives the call, and the kernel checks the number.
    let told = unsafe { libc::prlimit64(0, resource, std::ptr::null(), &raw mut now) };
    if told == 0 && now.rlim_max < hard {
        let _ = set_rlimit(resource, now.rlim_cur, hard);
    }
}

/// Joins a new session keyring of this name (KEYCTL_JOIN_SESSION_KEYRING(2const)).
///
/// # Errors
/// `NOSYS` on a kernel without keyrings, `DQUOT` when the user has too many keys.
pub fn join_session_keyring(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the name ends in NUL and outlives the call.
    match unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            name.as_ptr(),
        )
    } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soft_limit_over_the_hard_one_is_refused() {
        assert_eq!(set_rlimit(libc::RLIMIT_NOFILE, 10, 5), Err(Errno::INVAL));
    }
}
