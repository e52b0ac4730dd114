//! Mounts by descriptor: the mount API of Linux 5.2 (fsopen(2), open_tree(2), move_mount(2)), mount_setattr(2) of 5.12,
//! and what is older and still needed.
//!
//! A mount is made detached, gets its attributes, and is then attached to a directory that the caller holds open. No path is
//! looked up a second time, so nobody can exchange a symbolic link for it in between.

use std::ffi::OsStr;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MountFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

/// The longest value that fsconfig(2) takes: it copies at most 256 bytes, the final 0 included (`strndup_user` in
/// fs/fsopen.c).
pub const LONGEST_OPTION: usize = 255;

/// Begins a new file system of this type; its descriptor takes the options.
pub fn open_filesystem(fstype: &str) -> Result<OwnedFd, Errno> {
    rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
}

/// Gives a file system to be an option without a value, such as `ro`.
pub fn set_flag(filesystem: BorrowedFd<'_>, key: &str) -> Result<(), Errno> {
    rustix::mount::fsconfig_set_flag(filesystem, key)
}

/// Gives a file system to be an option with a value of at most [`LONGEST_OPTION`] bytes.
pub fn set_option(filesystem: BorrowedFd<'_>, key: &str, value: &OsStr) -> Result<(), Errno> {
    rustix::mount::fsconfig_set_string(filesystem, key, value)
}

/// Makes the superblock of a file system whose options are set.
pub fn create_filesystem(filesystem: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::mount::fsconfig_create(filesystem)
}

/// Makes a detached mount of a created file system, with these `MOUNT_ATTR_*`.
pub fn mount_filesystem(filesystem: BorrowedFd<'_>, attrs: u64) -> Result<OwnedFd, Errno> {
    let attrs = u32::try_from(attrs).map_err(|_| Errno::INVAL)?;
    rustix::mount::fsmount(
        filesystem,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(attrs),
    )
}

/// Clones the mount at `path`, as a detached one, with everything mounted below if `recursive`. Follows symbolic links.
pub fn clone_path(path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    rustix::mount::open_tree(CWD, path, clone_flags(recursive))
}

/// Clones what is open here, as a detached mount, with everything mounted below if `recursive`.
pub fn clone_tree(from: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    rustix::mount::open_tree(
        from,
        c"",
        clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH,
    )
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags | OpenTreeFlags::AT_RECURSIVE
    } else {
        flags
    }
}

/// Attaches a detached mount to what is open at `target`; an attached one is moved there.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::mount::move_mount(
        mount,
        c"",
        target,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

/// What [`set_attributes`] changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
    /// For all mounts below as well.
    pub recursive: bool,
}

/// Changes the mount whose root is open here (mount_setattr(2)). What is open must be the root of a mount: EINVAL otherwise.
pub fn set_attributes(mount: BorrowedFd<'_>, change: Change) -> Result<(), Errno> {
    let mut clear = change.clear;
    // The access time is one setting of several values: whoever changes it has to clear the whole of it.
    if (change.set | change.clear) & libc::MOUNT_ATTR__ATIME != 0 {
        clear |= libc::MOUNT_ATTR__ATIME;
    }
    let attr = libc::mount_attr {
        attr_set: change.set,
        attr_clr: clear,
        propagation: change.propagation,
        userns_fd: 0,
    };
    set(mount, &attr, change.recursive)
}

/// Maps the ids of a mount that is not attached yet by those of a user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP).
///
/// # Errors
/// EPERM for whoever does not own the file system's user namespace; EINVAL for a file system that does not do this.
pub fn map_ids(
    mount: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    recursive: bool,
) -> Result<(), Errno> {
    let userns_fd = user_namespace.as_raw_fd();
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(userns_fd).expect("an open descriptor"),
    };
    set(mount, &attr, recursive)
}

fn set(mount: BorrowedFd<'_>, attr: &libc::mount_attr, recursive: bool) -> Result<(), Errno> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a 0-terminated string and `attr` a whole mount_attr of the size given; both outlive the call, which
    // only reads them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(super::last_errno()),
    }
}

/// Opens the file system that is mounted here, to change its options (fspick(2)). What is open must be the root of a mount: EINVAL
/// otherwise.
pub fn pick_filesystem(mount: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::mount::fspick(
        mount,
        c"",
        FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC,
    )
}

/// Lets a file system that was picked have the options that were set. All others stay.
pub fn reconfigure_filesystem(filesystem: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::mount::fsconfig_reconfigure(filesystem)
}

/// Mounts with mount(2), with these `MS_*`, where fsconfig(2) will not do: it has no word for one of them, or an option is too long for it. Here
/// all options together may be as long as a page. Needs a procfs at `/proc`, to name the target.
pub fn mount_at(
    source: &str,
    target: BorrowedFd<'_>,
    fstype: &str,
    flags: u64,
    options: &str,
) -> Result<(), Errno> {
    let flags = u32::try_from(flags).map_err(|_| Errno::INVAL)?;
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(
        source,
        super::path::by_descriptor(target),
        fstype,
        MountFlags::from_bits_retain(flags),
        Some(options.as_c_str()),
    )
}

/// Makes the working directory, the root of a mount, the root of the mount namespace, and puts the old root on top of it
/// (pivot_root(2), "pivot_root(".", ".")").
pub fn pivot_root_to_cwd() -> Result<(), Errno> {
    rustix::process::pivot_root(c".", c".")
}

/// Takes the topmost mount off the working directory, with everything below it, at once for everybody who looks for it and
/// for good when the last user is gone.
pub fn detach_from_cwd() -> Result<(), Errno> {
    rustix::mount::unmount(c".", UnmountFlags::DETACH)
}
