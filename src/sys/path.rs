//! Paths below a root that somebody else filled, and files by descriptor.
//!
//! Everything below such a root is hostile: any component can be a symbolic link to anywhere. openat2(2) with RESOLVE_IN_ROOT
//! resolves links as if the root were `/`, and RESOLVE_NO_MAGICLINKS refuses the links of procfs that lead out of it.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Uid};
use rustix::io::Errno;

/// How often an openat2(2) is tried again that found the tree changing under it (EAGAIN).
const ATTEMPTS: usize = 128;

/// As many symbolic links as the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What a missing path becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A directory, 0755.
    Directory,
    /// An empty file, 0644.
    File,
}

/// Opens a path of the host, which the caller chose.
pub fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

/// Opens `path` below `root` as a process would whose root that is.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    resolve(
        root,
        path,
        flags,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Opens `path` below `root`, refusing any symbolic link on the way (ELOOP).
pub fn open_without_links(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    resolve(
        root,
        path,
        flags,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )
}

/// Opens a relative path on the mount of `directory`, refusing to leave that mount (EXDEV), so that nothing mounted over a
/// file can be taken for it.
pub fn open_on_mount(
    directory: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    resolve(
        directory,
        path,
        flags,
        ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS,
    )
}

fn resolve(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN) if attempts < ATTEMPTS => attempts += 1,
            other => return other,
        }
    }
}

/// Opens `path` below `root` (O_PATH), and makes what is missing of it: directories, and at the end what `missing` says.
pub fn open_or_make(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<OwnedFd, Errno> {
    match open_in_root(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => make(root, path, missing),
        other => other,
    }
}

/// Makes what is missing of `path` below `root`, each component in the directory that was opened or made just before, and
/// opens it.
pub fn make(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<OwnedFd, Errno> {
    let mut path = normal(path);
    for _ in 0..MAX_LINKS {
        match make_once(root, &path, missing)? {
            Made::Whole(end) => return Ok(end),
            Made::UpToLink(target) => path = normal(&target),
        }
    }
    Err(Errno::LOOP)
}

/// How far [`make_once`] came.
enum Made {
    /// To the end, which this is.
    Whole(OwnedFd),
    /// To a symbolic link whose target does not exist: this is the path with the link replaced by it.
    UpToLink(PathBuf),
}

fn make_once(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<Made, Errno> {
    let names: Vec<&OsStr> = path.iter().collect();
    let (mut directory, existing) = deepest_directory(root, &names)?;
    for (at, name) in names.iter().enumerate().skip(existing) {
        // The kernel would not find `missing/..` either, and one made by hand could lead out of the root.
        if *name == ".." {
            return Err(Errno::NOENT);
        }
        let as_file = missing == Missing::File && at + 1 == names.len();
        let made = if as_file {
            match make_file(directory.as_fd(), name, 0o644) {
                Ok(file) => return Ok(Made::Whole(file)),
                Err(errno) => Err(errno),
            }
        } else {
            make_directory(directory.as_fd(), name, 0o755)
        };
        if made == Err(Errno::EXIST) {
            // A link to nowhere: what it says is what has to be made. EINVAL: not a link, somebody made it just now.
            match read_link(directory.as_fd(), name) {
                Ok(target) => {
                    let mut whole: PathBuf = names[..at].iter().collect();
                    whole.push(target);
                    whole.extend(&names[at + 1..]);
                    return Ok(Made::UpToLink(whole));
                }
                Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno),
            }
        } else {
            made?;
        }
        let kind = if as_file {
            OFlags::empty()
        } else {
            OFlags::DIRECTORY
        };
        directory = open_at(
            directory.as_fd(),
            name,
            OFlags::PATH | OFlags::NOFOLLOW | kind,
        )?;
    }
    Ok(Made::Whole(directory))
}

/// Opens the longest beginning of `names` that exists below `root`, and says how many names it has.
fn deepest_directory(root: BorrowedFd<'_>, names: &[&OsStr]) -> Result<(OwnedFd, usize), Errno> {
    for count in (1..names.len()).rev() {
        let beginning: PathBuf = names[..count].iter().collect();
        match open_in_root(root, &beginning, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {}
            other => return other.map(|directory| (directory, count)),
        }
    }
    let root = open_in_root(root, Path::new("."), OFlags::PATH | OFlags::DIRECTORY)?;
    Ok((root, 0))
}

/// The path as names alone, without `/` and `.`.
fn normal(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .collect()
}

/// Opens `name` in a directory.
pub fn open_at(directory: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty())
}

/// Makes a new empty file in a directory, and opens it for writing.
pub fn make_file(directory: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        directory,
        name,
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::from_raw_mode(mode),
    )
}

/// Makes a new directory in a directory.
pub fn make_directory(directory: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<(), Errno> {
    rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(mode))
}

/// Makes a new symbolic link in a directory.
pub fn make_link(directory: BorrowedFd<'_>, name: &OsStr, target: &OsStr) -> Result<(), Errno> {
    rustix::fs::symlinkat(target, directory, name)
}

/// Makes a new node in a directory: a device, a pipe, a socket.
pub fn make_node(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    kind: FileType,
    mode: u32,
    device: u64,
) -> Result<(), Errno> {
    rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(mode), device)
}

/// Reads a symbolic link in a directory.
pub fn read_link(directory: BorrowedFd<'_>, name: &OsStr) -> Result<OsString, Errno> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()))
}

/// Gives what is called `name` in a directory, not what it links to, to an owner.
pub fn change_owner(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    uid: u32,
    gid: u32,
) -> Result<(), Errno> {
    rustix::fs::chownat(
        directory,
        name,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

/// Sets the permission bits of what is called `name` in a directory; follows symbolic links.
pub fn change_mode(directory: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<(), Errno> {
    rustix::fs::chmodat(directory, name, Mode::from_raw_mode(mode), AtFlags::empty())
}

/// Sets the time of the last change of what is called `name` in a directory, not of what it links to.
pub fn change_time(directory: BorrowedFd<'_>, name: &OsStr, of: &Stat) -> Result<(), Errno> {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    rustix::fs::utimensat(
        directory,
        name,
        &rustix::fs::Timestamps {
            last_access: time(of.st_atime, of.st_atime_nsec),
            last_modification: time(of.st_mtime, of.st_mtime_nsec),
        },
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

/// What is called `name` in a directory, not what it links to.
pub fn status_at(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Whether something is mounted on what is called `name` in a directory (STATX_ATTR_MOUNT_ROOT, statx(2)).
pub fn is_mounted_on(directory: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Errno> {
    use rustix::fs::{StatxAttributes, StatxFlags, statx};
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = statx(directory, name, flags, StatxFlags::empty())?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// What is open here.
pub fn status(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    rustix::fs::fstat(fd)
}

/// Which kind of file this is.
pub fn kind(status: &Stat) -> FileType {
    FileType::from_raw_mode(status.st_mode)
}

/// The number of a device.
pub fn device_number(major: u32, minor: u32) -> u64 {
    rustix::fs::makedev(major, minor)
}

/// Whether what is open here is the root of a procfs, and not something that looks like one: the magic number of
/// statfs(2) and the inode number of the root (`PROC_ROOT_INO` in include/linux/proc_fs.h).
pub fn is_proc_root(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(
        rustix::fs::fstatfs(fd)?.f_type == rustix::fs::PROC_SUPER_MAGIC
            && rustix::fs::fstat(fd)?.st_ino == 1,
    )
}

/// Whether what is open here is the root of a mount (STATX_ATTR_MOUNT_ROOT, Linux 5.8).
pub fn is_mount_root(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let found = rustix::fs::statx(
        fd,
        c"",
        AtFlags::EMPTY_PATH,
        rustix::fs::StatxFlags::empty(),
    )?;
    Ok(found
        .stx_attributes
        .contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

/// Whether the caller may write attributes of the class `trusted` here. Removes one that does not exist, which says it
/// without changing anything: EPERM comes before ENODATA (`xattr_permission` in fs/xattr.c).
pub fn may_trust(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    match rustix::fs::removexattr(by_descriptor(fd), "trusted.tincan") {
        Err(Errno::PERM) => Ok(false),
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// Gives an open file an SELinux label (setfilecon(3)).
pub fn set_label(file: BorrowedFd<'_>, label: &str) -> Result<(), Errno> {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(file, "security.selinux", label.as_bytes(), flags)
}

/// The names in a directory that is open for reading, without `.` and `..`.
pub fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// A path that means what is open here, for calls that take nothing but paths. Needs the host's procfs at `/proc`.
pub fn by_descriptor(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Writes to an open file, in one write(2), as the files of procfs want it.
pub fn write_once(file: BorrowedFd<'_>, value: &[u8]) -> Result<(), Errno> {
    match rustix::io::write(file, value)? {
        written if written == value.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// Sets the file mode creation mask, and says what it was.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(Mode::from_raw_mode(mask)).as_raw_mode()
}

/// Makes an open directory the working directory.
pub fn change_directory(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::process::fchdir(directory)
}

/// Makes `/` the working directory.
pub fn change_directory_to_root() -> Result<(), Errno> {
    rustix::process::chdir(c"/")
}

/// Makes the working directory the root (chroot(2)).
pub fn change_root_to_cwd() -> Result<(), Errno> {
    rustix::process::chroot(c".")
}

/// Opens the directory that an open directory is in.
pub fn open_above(directory: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    open_at(
        directory,
        OsStr::new(".."),
        OFlags::PATH | OFlags::DIRECTORY,
    )
}
