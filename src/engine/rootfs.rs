//! The steps of the file system, performed by the container's first process between clone and exec.
//!
//! What is below the root was put there by somebody else, and other containers may be changing it right now. So every
//! path is resolved once, below the root, into a descriptor, and what follows is done to the descriptor.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use crate::plan::step::{
    Device, DeviceKind, Mount, MountAttrs, MountWhat, Propagation, PropagationKind, Root, Step,
};
use crate::sys::mount::{self, Change};
use crate::sys::path::{self, Missing};
use crate::sys::pty;

/// File systems whose superblock others use as well, or that are filled after they are mounted: `ro` is an attribute of the
/// mount there. On all others it is one of the superblock too, as with mount(2), so that a read-only disk can be mounted.
const READ_ONLY_BY_MOUNT: [&str; 9] = [
    "bpf", "cgroup", "cgroup2", "devpts", "mqueue", "proc", "ramfs", "sysfs", "tmpfs",
];

/// The option that mount(2) alone takes: files have versions (`SB_I_VERSION`).
const BY_MOUNT: &str = "iversion";

/// File systems that have to be mounted on a directory of just that name: a symbolic link there would lead everything that
/// trusts `/proc` and `/sys` somewhere else.
const ON_ORDINARY_DIRECTORIES: [&str; 2] = ["proc", "sysfs"];

/// How much of a container's `/etc/passwd` is looked at, in bytes: it may be as long as its maker likes.
const LONGEST_PASSWD: u64 = 1 << 20;

/// The root file system while it is being made.
#[derive(Debug, Default)]
pub struct Rootfs {
    /// The root of the container, below which every path is resolved; before and after the pivot.
    root: Option<OwnedFd>,
    /// A step made the root; else it is that of a container that is joined.
    own: bool,
    /// A procfs of the container's pid namespace that we mounted.
    proc: Option<OwnedFd>,
    /// The real null device.
    null: Option<OwnedFd>,
    /// The empty directory that hides others, mounted.
    empty: Option<OwnedFd>,
    /// The mounts that were kept, by their path outside.
    kept: Option<(PathBuf, OwnedFd)>,
    /// What the engine made of the binds that are still to come, in order ([`super::binds`]).
    binds: VecDeque<Option<OwnedFd>>,
    /// The directory in which the last node was made. Nodes come in series, most of them in `/dev`.
    parent: Option<(PathBuf, OwnedFd)>,
    /// The host's mounts get to know of what is mounted in the container's mount namespace.
    shared: bool,
}

impl Rootfs {
    /// Nothing done yet. Without a [`Step::Root`] the root is the process's own, as it is for a process that joins a
    /// running container.
    pub fn new() -> Self {
        Rootfs {
            shared: true,
            ..Rootfs::default()
        }
    }

    /// With what the engine made of its binds, in the order of those steps.
    pub fn with_binds(self, binds: VecDeque<Option<OwnedFd>>) -> Self {
        Rootfs { binds, ..self }
    }

    /// The procfs that was mounted last, or that was made for our own use.
    pub fn proc(&self) -> Option<BorrowedFd<'_>> {
        self.proc.as_ref().map(AsFd::as_fd)
    }

    /// Performs one step of the file system. The step [`Step::Console`] is [`Rootfs::console`]; all others are not of the file
    /// system, and asking for them is a mistake in the program.
    pub fn perform(&mut self, step: &Step) -> Result<(), Errno> {
        if !matches!(step, Step::Device(_) | Step::Symlink { .. }) {
            self.parent = None;
        }
        match step {
            Step::RootPropagation(propagation) => self.root_propagation(*propagation),
            Step::Root(root) => self.make_root(root),
            Step::Keep(path) => {
                self.kept = Some((path.clone(), mount::clone_path(path, true)?));
                Ok(())
            }
            Step::Mount(mount) => {
                let mounted = self.mount(mount)?;
                if step.mounts_proc() {
                    self.proc = Some(mounted);
                }
                Ok(())
            }
            Step::MountPoint { at, source } => {
                let missing = match source {
                    None => Missing::Directory,
                    Some(source) => missing(path::open(source, OFlags::PATH)?.as_fd())?,
                };
                path::open_or_make(self.root()?, at, missing).map(drop)
            }
            Step::Device(device) => self.device(device),
            Step::Symlink { target, at } => self.symlink(target, at),
            Step::LabelMount { at, label } => self.label_mount(at, label),
            Step::PivotRoot => self.pivot_root(),
            Step::MoveRoot => self.move_root(),
            Step::ChangeRoot => self.change_root(),
            Step::OwnNull => self.own_null(),
            Step::ReadonlyRoot => self.readonly_root(),
            Step::ReadonlyMount(path) => self.readonly_mount(path),
            Step::FinalPropagation(propagation) => propagate(self.root()?, *propagation),
            Step::Mask(path) => self.mask(path),
            Step::Readonly(path) => self.readonly(path),
            Step::Sysctl { key, value } => self.sysctl(key, value),
            other => unreachable!("`{other}` is not a step of the file system"),
        }
    }

    /// The root, which is the process's own where no step made one.
    fn root(&mut self) -> Result<BorrowedFd<'_>, Errno> {
        let root = match self.root.take() {
            Some(root) => root,
            None => path::open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?,
        };
        let root: &OwnedFd = self.root.insert(root);
        Ok(root.as_fd())
    }

    fn root_propagation(&mut self, propagation: Propagation) -> Result<(), Errno> {
        let root = path::open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
        propagate(root.as_fd(), propagation)?;
        self.shared = propagation.kind == PropagationKind::Shared || !propagation.recursive;
        Ok(())
    }

    fn make_root(&mut self, root: &Root) -> Result<(), Errno> {
        let directory = match root {
            Root::Host => Path::new("/"),
            Root::Directory(directory) | Root::Overlay(directory) | Root::Apart(directory) => {
                directory
            }
        };
        let directory = path::open(directory, OFlags::PATH | OFlags::DIRECTORY)?;
        let root = match root {
            Root::Host => directory,
            Root::Directory(_) => {
                self.keep_private(directory.as_fd())?;
                let tree = mount::clone_tree(directory.as_fd(), true)?;
                mount::attach(tree.as_fd(), directory.as_fd())?;
                tree
            }
            Root::Overlay(_) => {
                self.keep_private(directory.as_fd())?;
                overlay(directory.as_fd())?
            }
            Root::Apart(_) => {
                // It lasts for as long as somebody has it open, or as the root: nobody has to take it away.
                let tree = mount::clone_tree(directory.as_fd(), true)?;
                // What is mounted in it would be mounted for the directory's own mount namespace, too.
                propagate(
                    tree.as_fd(),
                    Propagation {
                        kind: PropagationKind::Private,
                        recursive: true,
                    },
                )?;
                // A kernel that does not mount in such a tree does not clone from one either (fs/namespace.c, `may_copy_tree`).
                match mount::clone_tree(tree.as_fd(), false) {
                    Err(Errno::INVAL) => return Err(Errno::OPNOTSUPP),
                    other => drop(other?),
                }
                tree
            }
        };
        self.root = Some(root);
        self.own = true;
        Ok(())
    }

    /// Makes the mount private that this directory is on: pivot_root(2) refuses a root whose parent mount is shared, and the
    /// host shall not see what is mounted here.
    fn keep_private(&self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.shared {
            return Ok(());
        }
        let mut at = path::open_in_root(directory, Path::new("."), OFlags::PATH)?;
        while !path::is_mount_root(at.as_fd())? {
            at = path::open_above(at.as_fd())?;
        }
        propagate(
            at.as_fd(),
            Propagation {
                kind: PropagationKind::Private,
                recursive: false,
            },
        )
    }

    fn mount(&mut self, mount: &Mount) -> Result<OwnedFd, Errno> {
        let mounted = match &mount.what {
            MountWhat::Bind {
                source,
                recursive,
                ids,
            } => {
                let made = self.binds.pop_front().flatten();
                let tree = match ids {
                    Some(_) => made.ok_or(Errno::NOENT)?,
                    None => self.tree(source, *recursive, made)?,
                };
                self.bind(mount, tree)?
            }
            MountWhat::Filesystem {
                fstype,
                source,
                options,
                copy_up,
            } => self.filesystem(mount, fstype, source, options, *copy_up)?,
            MountWhat::Remount { fstype, options } => self.remount(mount, fstype, options)?,
        };
        for propagation in &mount.propagation {
            propagate(mounted.as_fd(), *propagation)?;
        }
        Ok(mounted)
    }

    fn tree(
        &mut self,
        source: &Path,
        recursive: bool,
        made: Option<OwnedFd>,
    ) -> Result<OwnedFd, Errno> {
        if let Some((_, tree)) = self.kept.take_if(|(kept, _)| kept == source) {
            return Ok(tree);
        }
        match (mount::clone_path(source, recursive), made) {
            // Who made it gets there. Else our own is better: its read-only and nosuid cannot be changed in a user namespace
            // (mount_namespaces(7), "Restrictions on mount namespaces").
            (Err(Errno::ACCESS), Some(tree)) => Ok(tree),
            (own, _) => own,
        }
    }

    fn bind(&mut self, mount: &Mount, tree: OwnedFd) -> Result<OwnedFd, Errno> {
        change_attributes(tree.as_fd(), mount.attrs)?;
        let root = self.root()?;
        let target = match path::open_in_root(root, &mount.destination, OFlags::PATH) {
            Err(Errno::NOENT) => path::make(root, &mount.destination, missing(tree.as_fd())?)?,
            other => other?,
        };
        attach(tree.as_fd(), target.as_fd())?;
        Ok(tree)
    }

    fn filesystem(
        &mut self,
        mount: &Mount,
        fstype: &str,
        source: &str,
        options: &[(String, Option<String>)],
        copy_up: bool,
    ) -> Result<OwnedFd, Errno> {
        let root = self.root()?;
        let found = if ON_ORDINARY_DIRECTORIES.contains(&fstype) {
            path::open_without_links(root, &mount.destination, OFlags::PATH)
        } else {
            path::open_in_root(root, &mount.destination, OFlags::PATH)
        };
        let (target, existed) = match found {
            Err(Errno::NOENT) => (
                path::make(root, &mount.destination, Missing::Directory)?,
                false,
            ),
            other => (other?, true),
        };

        let mut options = options.to_vec();
        // A tmpfs takes the place of a directory and keeps its mode, unless told another: `/run` stays 0755.
        if fstype == "tmpfs" && existed && !options.iter().any(|(key, _)| key == "mode") {
            let mode = path::status(target.as_fd())?.st_mode & 0o7777;
            options.push(("mode".to_owned(), Some(format!("{mode:o}"))));
        }
        let attrs = attributes(mount.attrs);
        let read_only = attrs & libc::MOUNT_ATTR_RDONLY != 0;
        if read_only && !READ_ONLY_BY_MOUNT.contains(&fstype) {
            options.push(("ro".to_owned(), None));
        }
        // Read-only comes last where there is something to copy in.
        let late = if copy_up { libc::MOUNT_ATTR_RDONLY } else { 0 };

        let too_long = |value: &str| value.len() > mount::LONGEST_OPTION;
        let by_mount = |(key, value): &(String, Option<String>)| {
            key == BY_MOUNT || value.as_deref().is_some_and(too_long)
        };
        let at_once = too_long(source) || options.iter().any(by_mount);
        let mounted = if at_once {
            let (flags, rest) = flags_of_mount(&options);
            mount::mount_at(source, target.as_fd(), fstype, flags, &option_string(&rest))?;
            let mounted = path::open_in_root(root, &mount.destination, OFlags::PATH)?;
            change(mounted.as_fd(), attrs & !late, 0, false)?;
            mounted
        } else {
            let filesystem = mount::open_filesystem(fstype)?;
            // An empty source would show as nothing at all in /proc/mounts, and shift its columns.
            if !source.is_empty() {
                mount::set_option(filesystem.as_fd(), "source", OsStr::new(source))?;
            }
            configure(filesystem.as_fd(), &options)?;
            mount::create_filesystem(filesystem.as_fd())?;
            mount::mount_filesystem(filesystem.as_fd(), attrs & !late)?
        };
        if copy_up {
            let from = path::open_at(target.as_fd(), OsStr::new("."), OFlags::DIRECTORY)?;
            let to = path::open_at(mounted.as_fd(), OsStr::new("."), OFlags::DIRECTORY)?;
            copy_directory(from.as_fd(), to.as_fd())?;
            if read_only {
                change(mounted.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)?;
            }
        }
        if !at_once {
            attach(mounted.as_fd(), target.as_fd())?;
        }
        Ok(mounted)
    }

    /// Changes the options of what is mounted at the destination, and the attributes of the mount.
    fn remount(
        &mut self,
        mount: &Mount,
        fstype: &str,
        options: &[(String, Option<String>)],
    ) -> Result<OwnedFd, Errno> {
        let mounted = path::open_in_root(self.root()?, &mount.destination, OFlags::PATH)?;
        if !path::is_mount_root(mounted.as_fd())? {
            return Err(Errno::INVAL);
        }
        let attrs = mount.attrs;
        let mut options = options.to_vec();
        if !fstype.is_empty() && !READ_ONLY_BY_MOUNT.contains(&fstype) {
            let is_about = |bits: u64| bits & libc::MOUNT_ATTR_RDONLY != 0;
            let word = match (is_about(attrs.set), is_about(attrs.clear)) {
                (true, _) => Some("ro"),
                (false, true) => Some("rw"),
                (false, false) => None,
            };
            options.extend(word.map(|word| (word.to_owned(), None)));
        }
        if !options.is_empty() {
            let filesystem = mount::pick_filesystem(mounted.as_fd())?;
            configure(filesystem.as_fd(), &options)?;
            mount::reconfigure_filesystem(filesystem.as_fd())?;
        }
        change_attributes(mounted.as_fd(), attrs)?;
        Ok(mounted)
    }

    /// The directory that a new node goes into, and what it is called there.
    fn parent_of<'a>(&mut self, at: &'a Path) -> Result<(BorrowedFd<'_>, &'a OsStr), Errno> {
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
            return Err(Errno::INVAL);
        };
        let directory = match self.parent.take() {
            Some((cached, directory)) if cached == parent => directory,
            _ => path::open_or_make(self.root()?, parent, Missing::Directory)?,
        };
        let (_, directory): &(PathBuf, OwnedFd) =
            self.parent.insert((parent.to_owned(), directory));
        Ok((directory.as_fd(), name))
    }

    fn device(&mut self, device: &Device) -> Result<(), Errno> {
        let kind = match device.kind {
            DeviceKind::Char => FileType::CharacterDevice,
            DeviceKind::Block => FileType::BlockDevice,
            DeviceKind::Fifo => FileType::Fifo,
        };
        let number = match device.kind {
            DeviceKind::Fifo => 0,
            DeviceKind::Char | DeviceKind::Block => path::device_number(device.major, device.minor),
        };
        let (directory, name) = self.parent_of(&device.path)?;
        // The mode exactly, in the call that makes the node: a chmod afterwards would follow a link put in its place.
        let umask = path::set_umask(0);
        let made = path::make_node(directory, name, kind, device.mode, number);
        path::set_umask(umask);
        match made {
            Ok(()) => path::change_owner(directory, name, device.uid, device.gid),
            Err(Errno::EXIST) => {
                let there = path::status_at(directory, name)?;
                if path::kind(&there) == kind && (kind == FileType::Fifo || there.st_rdev == number)
                {
                    Ok(())
                } else if number != path::device_number(1, 3)
                    && path::is_mounted_on(directory, name)?
                {
                    // The bundle has something else there, as in runc and crun; but for null, with which paths are masked.
                    Ok(())
                } else if path::kind(&there) == FileType::RegularFile
                    && there.st_size == 0
                    && kind != FileType::Fifo
                {
                    // What was made for a bind of the host's own, by an earlier run of the bundle in a user namespace.
                    self.bind_device(&device.path, kind, number)
                } else {
                    Err(Errno::EXIST)
                }
            }
            // In a user namespace nobody makes nodes (mknod(2)); the host's own will do.
            Err(Errno::PERM) if kind != FileType::Fifo => {
                self.bind_device(&device.path, kind, number)
            }
            Err(errno) => Err(errno),
        }
    }

    fn bind_device(&mut self, at: &Path, kind: FileType, number: u64) -> Result<(), Errno> {
        let tree = mount::clone_path(at, false)?;
        let node = path::status(tree.as_fd())?;
        if path::kind(&node) != kind || node.st_rdev != number {
            return Err(Errno::NODEV);
        }
        let target = path::open_or_make(self.root()?, at, Missing::File)?;
        attach(tree.as_fd(), target.as_fd())
    }

    fn symlink(&mut self, target: &Path, at: &Path) -> Result<(), Errno> {
        let (directory, name) = self.parent_of(at)?;
        match path::make_link(directory, name, target.as_os_str()) {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        }
    }

    /// Opens a terminal of the container's own devpts, makes it `/dev/console`, the controlling terminal and the standard
    /// streams, and returns its master. The process leads a session of its own. Without a [`Step::Root`] the process joins a
    /// container, whose `/dev/console` is somebody else's and stays.
    pub fn console(&mut self, size: Option<(u16, u16)>) -> Result<OwnedFd, Errno> {
        let master = open_master(self.root()?)?;
        let terminal = open_terminal(master.as_fd(), size)?;
        if self.own {
            self.mount_console(terminal.as_fd())?;
        }
        pty::make_controlling(terminal.as_fd())?;
        pty::make_standard_streams(terminal.as_fd())?;
        Ok(master)
    }

    /// Opens a terminal of the host's, mounts it on a new file, and makes it the standard streams, but not the controlling terminal: that
    /// it is of whoever inherits it. Returns its master.
    pub fn terminal(&mut self, at: &Path, size: Option<(u16, u16)>) -> Result<OwnedFd, Errno> {
        let host = path::open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
        let master = open_master(host.as_fd())?;
        let terminal = open_terminal(master.as_fd(), size)?;
        let target = path::make(host.as_fd(), at, Missing::File)?;
        let tree = mount::clone_tree(terminal.as_fd(), false)?;
        mount::attach(tree.as_fd(), target.as_fd())?;
        pty::make_standard_streams(terminal.as_fd())?;
        Ok(master)
    }

    /// Binds a terminal on `/dev/console`. Both ends of the mount are descriptors: the terminal came from its own master, and
    /// the target is a plain file or a device in `/dev`, never a link to another (CVE-2025-52565).
    fn mount_console(&mut self, terminal: BorrowedFd<'_>) -> Result<(), Errno> {
        let (directory, name) = self.parent_of(Path::new("/dev/console"))?;
        let target = match path::make_file(directory, name, 0o600) {
            Err(Errno::EXIST) => path::open_at(directory, name, OFlags::PATH | OFlags::NOFOLLOW)?,
            other => other?,
        };
        match path::kind(&path::status(target.as_fd())?) {
            FileType::RegularFile | FileType::CharacterDevice => {}
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::INVAL),
        }
        let tree = mount::clone_tree(terminal, false)?;
        mount::attach(tree.as_fd(), target.as_fd())
    }

    fn pivot_root(&mut self) -> Result<(), Errno> {
        let old = match self.shared {
            true => Some(path::open(
                Path::new("/"),
                OFlags::PATH | OFlags::DIRECTORY,
            )?),
            false => None,
        };
        path::change_directory(self.root()?)?;
        mount::pivot_root_to_cwd()?;
        if let Some(old) = old {
            // What is taken off here would otherwise be taken off for the host as well.
            propagate(
                old.as_fd(),
                Propagation {
                    kind: PropagationKind::Slave,
                    recursive: true,
                },
            )?;
        }
        mount::detach_from_cwd()?;
        path::change_directory_to_root()
    }

    fn move_root(&mut self) -> Result<(), Errno> {
        let root = self.root()?;
        path::change_directory(root)?;
        let old = path::open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
        mount::attach(root, old.as_fd())?;
        path::change_root_to_cwd()?;
        path::change_directory_to_root()
    }

    fn change_root(&mut self) -> Result<(), Errno> {
        path::change_directory(self.root()?)?;
        path::change_root_to_cwd()?;
        path::change_directory_to_root()
    }

    fn own_null(&mut self) -> Result<(), Errno> {
        let is_null = |found: &Stat| {
            path::kind(found) == FileType::CharacterDevice
                && found.st_rdev == path::device_number(1, 3)
        };
        let is_one = |fd: BorrowedFd<'_>| path::status(fd).is_ok_and(|found| is_null(&found));
        let root = self.root()?;
        let open = |flags| path::open_in_root(root, Path::new("/dev/null"), flags);
        // Looked at before it is opened, as to open another device may do something.
        let looked_at = open(OFlags::PATH).is_ok_and(|found| is_one(found.as_fd()));
        let null = looked_at.then(|| open(OFlags::RDWR));
        match null {
            Some(Ok(null)) if is_one(null.as_fd()) => {
                pty::replace_standard_streams(null.as_fd(), is_one)
            }
            // The bundle has something else there, or does not let it be opened: then the streams stay.
            _ => Ok(()),
        }
    }

    fn readonly_root(&mut self) -> Result<(), Errno> {
        change(self.root()?, libc::MOUNT_ATTR_RDONLY, 0, false)
    }

    fn readonly_mount(&mut self, at: &Path) -> Result<(), Errno> {
        let mounted = path::open_in_root(self.root()?, at, OFlags::PATH)?;
        change(mounted.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)
    }

    fn label_mount(&mut self, at: &Path, label: &str) -> Result<(), Errno> {
        let mounted = path::open_in_root(self.root()?, at, OFlags::DIRECTORY)?;
        match path::set_label(mounted.as_fd(), label) {
            // In a user namespace files of such a file system have the labels that the policy says.
            Err(Errno::OPNOTSUPP) => Ok(()),
            other => other,
        }
    }

    /// Hides a path, if there is one: a directory behind an empty one, anything else behind the null device.
    fn mask(&mut self, at: &Path) -> Result<(), Errno> {
        let Some(target) = self.open_existing(at)? else {
            return Ok(());
        };
        if path::kind(&path::status(target.as_fd())?) == FileType::Directory {
            if let Some(empty) = &self.empty {
                let another = mount::clone_tree(empty.as_fd(), false)?;
                return mount::attach(another.as_fd(), target.as_fd());
            }
            let empty = empty_directory()?;
            mount::attach(empty.as_fd(), target.as_fd())?;
            // Kept from here on: a mount can be cloned once it is attached, before Linux 6.15 not sooner.
            self.empty = Some(empty);
            return Ok(());
        }
        let null = mount::clone_tree(self.null_device()?, false)?;
        mount::attach(null.as_fd(), target.as_fd())
    }

    /// The null device of the container, checked to be it: a link or another file of that name would be what a masked path
    /// shows (CVE-2025-31133).
    fn null_device(&mut self) -> Result<BorrowedFd<'_>, Errno> {
        let null = match self.null.take() {
            Some(null) => null,
            None => {
                let null = path::open_in_root(self.root()?, Path::new("/dev/null"), OFlags::PATH)?;
                let found = path::status(null.as_fd())?;
                if path::kind(&found) != FileType::CharacterDevice
                    || found.st_rdev != path::device_number(1, 3)
                {
                    return Err(Errno::NODEV);
                }
                null
            }
        };
        let null: &OwnedFd = self.null.insert(null);
        Ok(null.as_fd())
    }

    fn readonly(&mut self, at: &Path) -> Result<(), Errno> {
        let Some(target) = self.open_existing(at)? else {
            return Ok(());
        };
        // With what is mounted below, which would disappear under the new mount. In a user namespace it may not disappear.
        let tree = mount::clone_tree(target.as_fd(), true)?;
        change(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)?;
        mount::attach(tree.as_fd(), target.as_fd())
    }

    fn open_existing(&mut self, at: &Path) -> Result<Option<OwnedFd>, Errno> {
        match path::open_in_root(self.root()?, at, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            other => other.map(Some),
        }
    }

    fn sysctl(&mut self, key: &str, value: &str) -> Result<(), Errno> {
        let file = sysctl_file(key).ok_or(Errno::INVAL)?;
        self.write_proc(&file, value.as_bytes())
    }

    /// Changes the working directory, which is made where it is missing, but not in a container that is joined (as in runc). By
    /// a descriptor, and through no magic link: one of
    /// those could lead to what the runtime has open, out of the container (CVE-2024-21626).
    pub fn change_directory(&mut self, to: &Path) -> Result<(), Errno> {
        let own = self.own;
        let root = self.root()?;
        let directory = match path::open_in_root(root, to, OFlags::PATH) {
            Err(Errno::NOENT) if own => path::make(root, to, Missing::Directory)?,
            other => other?,
        };
        path::change_directory(directory.as_fd())
    }

    /// The home directory of a user in the container's `/etc/passwd`, if that is a file and has one (passwd(5)).
    pub fn home(&mut self, uid: u32) -> Option<String> {
        // A pipe of that name would keep us waiting.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let passwd = path::open_in_root(self.root().ok()?, Path::new("/etc/passwd"), flags).ok()?;
        if path::kind(&path::status(passwd.as_fd()).ok()?) != FileType::RegularFile {
            return None;
        }
        let mut text = Vec::new();
        File::from(passwd)
            .take(LONGEST_PASSWD)
            .read_to_end(&mut text)
            .ok()?;
        home_in(&String::from_utf8_lossy(&text), uid)
    }

    /// Writes to a file of the calling process in procfs, such as `oom_score_adj` or `attr/exec`.
    pub fn write_proc_self(&mut self, file: &str, value: &[u8]) -> Result<(), Errno> {
        self.write_proc(&Path::new("self").join(file), value)
    }

    /// Writes to a file of a procfs that nobody else can have changed: one that we mounted ourselves, and on it, not on what is
    /// mounted over it. What is at the container's `/proc` may be anything (CVE-2025-52881).
    fn write_proc(&mut self, file: &Path, value: &[u8]) -> Result<(), Errno> {
        if let Some(proc) = &self.proc {
            // It may show less than a procfs can (`subset=pid`), have mounts on it, or be read-only: then another is needed.
            if let Ok(open) = path::open_on_mount(proc.as_fd(), file, OFlags::WRONLY) {
                return path::write_once(open.as_fd(), value);
            }
        }
        let proc = self.proc.insert(own_proc()?);
        let open = path::open_on_mount(proc.as_fd(), file, OFlags::WRONLY)?;
        path::write_once(open.as_fd(), value)
    }
}

/// The home directory of a user in this `/etc/passwd`.
fn home_in(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let home = (fields.nth(2)? == uid).then(|| fields.nth(2))??;
        (!home.is_empty()).then(|| home.to_owned())
    })
}

/// A procfs for our own use, detached: nobody else can reach it, let alone mount anything on it.
fn own_proc() -> Result<OwnedFd, Errno> {
    let filesystem = mount::open_filesystem("proc")?;
    match mount::create_filesystem(filesystem.as_fd()) {
        Ok(()) => mount::mount_filesystem(
            filesystem.as_fd(),
            libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC,
        ),
        // In a user namespace whose own procfs hides something, no other can be had (`mount_too_revealing` in fs/namespace.c).
        // A procfs that starts at its root is then the second best, as long as no mount on it is crossed.
        Err(Errno::PERM) => {
            let there = path::open(Path::new("/proc"), OFlags::PATH | OFlags::DIRECTORY)?;
            if path::is_proc_root(there.as_fd())? {
                Ok(there)
            } else {
                Err(Errno::PERM)
            }
        }
        Err(errno) => Err(errno),
    }
}

/// The file of a kernel parameter below procfs. Of dots and slashes, whichever comes first separates, and the other is part
/// of a name: `net.ipv4.conf.eth0/1.forwarding` (sysctl(8)).
fn sysctl_file(key: &str) -> Option<PathBuf> {
    let slashes = match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'.' => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    };
    let file = Path::new(&slashes);
    let names = file.components().count();
    (names > 0
        && file
            .components()
            .all(|part| matches!(part, Component::Normal(_))))
    .then(|| Path::new("sys").join(file))
}

/// What something of this kind is mounted on.
fn missing(mounted: BorrowedFd<'_>) -> Result<Missing, Errno> {
    Ok(match path::kind(&path::status(mounted)?) {
        FileType::Directory => Missing::Directory,
        _ => Missing::File,
    })
}

/// The other side of a new terminal, set as a container has it.
fn open_terminal(master: BorrowedFd<'_>, size: Option<(u16, u16)>) -> Result<OwnedFd, Errno> {
    pty::unlock(master)?;
    let terminal = pty::open_peer(master)?;
    let settings = pty::settings(terminal.as_fd())?;
    pty::set_settings(terminal.as_fd(), &pty::without_onlcr(&settings))?;
    if let Some(size) = size {
        pty::set_size(terminal.as_fd(), size)?;
    }
    Ok(terminal)
}

/// Opens the multiplexer of the container's devpts: a new terminal each time.
fn open_master(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = match path::open_in_root(root, Path::new("/dev/pts/ptmx"), flags) {
        // The host's own is usually closed to everybody (`ptmxmode=000`) but for the node beside it.
        Err(Errno::NOENT | Errno::ACCESS) => {
            path::open_in_root(root, Path::new("/dev/ptmx"), flags)?
        }
        other => other?,
    };
    let found = path::status(master.as_fd())?;
    if path::kind(&found) != FileType::CharacterDevice || found.st_rdev != path::device_number(5, 2)
    {
        return Err(Errno::NODEV);
    }
    Ok(master)
}

/// Mounts an overlay on a directory: the directory below, and above it a tmpfs that goes with the mount namespace. Returns
/// its root.
fn overlay(lower: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let memory = mount::open_filesystem("tmpfs")?;
    mount::create_filesystem(memory.as_fd())?;
    let memory = mount::mount_filesystem(memory.as_fd(), 0)?;
    // The layers of an overlay have to be mounted in this namespace (`clone_private_mount` in fs/namespace.c). On the
    // directory itself the tmpfs is in nobody's way: the overlay covers it.
    mount::attach(memory.as_fd(), lower)?;

    // The root of an overlay looks like the root of its upper layer.
    let looks = path::status(lower)?;
    let (upper, work) = (OsStr::new("upper"), OsStr::new("work"));
    path::make_directory(memory.as_fd(), upper, 0o755)?;
    path::change_owner(memory.as_fd(), upper, looks.st_uid, looks.st_gid)?;
    path::change_mode(memory.as_fd(), upper, looks.st_mode & 0o7777)?;
    path::make_directory(memory.as_fd(), work, 0o700)?;

    let overlay = mount::open_filesystem("overlay")?;
    let overlay = overlay.as_fd();
    mount::set_option(overlay, "source", OsStr::new("overlay"))?;
    // Named by descriptor, the layers may have any name: `:` and `,` mean something in these options, and they are short.
    let above = path::by_descriptor(memory.as_fd());
    mount::set_option(overlay, "lowerdir", path::by_descriptor(lower).as_os_str())?;
    mount::set_option(overlay, "upperdir", above.join(upper).as_os_str())?;
    mount::set_option(overlay, "workdir", above.join(work).as_os_str())?;
    // In a user namespace the overlay's own attributes have to be of the class `user`.
    if !path::may_trust(memory.as_fd())? {
        mount::set_flag(overlay, "userxattr")?;
    }
    mount::create_filesystem(overlay)?;
    let overlay = mount::mount_filesystem(overlay, 0)?;
    mount::attach(overlay.as_fd(), memory.as_fd())?;
    Ok(overlay)
}

/// An empty directory in which nothing can be made.
fn empty_directory() -> Result<OwnedFd, Errno> {
    let filesystem = mount::open_filesystem("tmpfs")?;
    mount::set_flag(filesystem.as_fd(), "ro")?;
    mount::create_filesystem(filesystem.as_fd())?;
    mount::mount_filesystem(filesystem.as_fd(), libc::MOUNT_ATTR_RDONLY)
}

/// All the attributes that a new mount, with nothing below it, gets.
fn attributes(attrs: MountAttrs) -> u64 {
    (attrs.set & !attrs.clear_recursive) | attrs.set_recursive
}

/// Changes the attributes of a mount, then those that are for all mounts below as well.
fn change_attributes(mount: BorrowedFd<'_>, attrs: MountAttrs) -> Result<(), Errno> {
    if attrs.set | attrs.clear != 0 {
        change(mount, attrs.set, attrs.clear, false)?;
    }
    if attrs.set_recursive | attrs.clear_recursive != 0 {
        change(mount, attrs.set_recursive, attrs.clear_recursive, true)?;
    }
    Ok(())
}

fn change(mount: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool) -> Result<(), Errno> {
    mount::set_attributes(
        mount,
        Change {
            set,
            clear,
            propagation: 0,
            recursive,
        },
    )
}

pub(super) fn propagate(mount: BorrowedFd<'_>, propagation: Propagation) -> Result<(), Errno> {
    mount::set_attributes(
        mount,
        Change {
            set: 0,
            clear: 0,
            propagation: match propagation.kind {
                PropagationKind::Shared => libc::MS_SHARED,
                PropagationKind::Slave => libc::MS_SLAVE,
                PropagationKind::Private => libc::MS_PRIVATE,
                PropagationKind::Unbindable => libc::MS_UNBINDABLE,
            },
            recursive: propagation.recursive,
        },
    )
}

/// Attaches a mount to a path of the container. move_mount(2) says EINVAL where mount(2) says what is wrong: a directory goes
/// on a directory, a file on a file.
fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    match mount::attach(tree, target) {
        Err(Errno::INVAL) => {
            let is_directory = |fd| Ok(path::kind(&path::status(fd)?) == FileType::Directory);
            match (is_directory(tree)?, is_directory(target)?) {
                (true, false) => Err(Errno::NOTDIR),
                (false, true) => Err(Errno::ISDIR),
                _ => Err(Errno::INVAL),
            }
        }
        other => other,
    }
}

/// Gives a file system its options, by descriptor.
fn configure(
    filesystem: BorrowedFd<'_>,
    options: &[(String, Option<String>)],
) -> Result<(), Errno> {
    for (key, value) in options {
        match value {
            Some(value) => mount::set_option(filesystem, key, OsStr::new(value))?,
            None => mount::set_flag(filesystem, key)?,
        }
    }
    Ok(())
}

/// The options that mount(2) takes as flags, and the others.
fn flags_of_mount(options: &[(String, Option<String>)]) -> (u64, Vec<(String, Option<String>)>) {
    const FLAGS: [(&str, u64, bool); 9] = [
        (BY_MOUNT, libc::MS_I_VERSION, true),
        ("ro", libc::MS_RDONLY, true),
        ("sync", libc::MS_SYNCHRONOUS, true),
        ("async", libc::MS_SYNCHRONOUS, false),
        ("dirsync", libc::MS_DIRSYNC, true),
        ("lazytime", libc::MS_LAZYTIME, true),
        ("nolazytime", libc::MS_LAZYTIME, false),
        ("mand", libc::MS_MANDLOCK, true),
        ("nomand", libc::MS_MANDLOCK, false),
    ];
    let mut flags = 0;
    let mut rest = Vec::new();
    for (key, value) in options {
        match FLAGS.iter().find(|(word, ..)| word == key) {
            Some((_, flag, true)) => flags |= flag,
            Some((_, flag, false)) => flags &= !flag,
            None => rest.push((key.clone(), value.clone())),
        }
    }
    (flags, rest)
}

/// Options as mount(2) takes them.
fn option_string(options: &[(String, Option<String>)]) -> String {
    let options: Vec<String> = options
        .iter()
        .map(|(key, value)| match value {
            // Its categories are parted by commas, as options are.
            Some(label) if key == "context" => format!("{key}=\"{label}\""),
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        })
        .collect();
    options.join(",")
}

/// Copies what is in a directory, and how the directory looks, into an empty one that nobody else can reach yet.
fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    for name in path::names(from)? {
        let name = OsStr::from_bytes(CStr::to_bytes(&name));
        let looks = path::status_at(from, name)?;
        copy_entry(from, to, name, &looks)?;
        copy_looks(to, name, &looks)?;
    }
    copy_looks(to, OsStr::new("."), &path::status(from)?)
}

fn copy_entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &OsStr,
    looks: &Stat,
) -> Result<(), Errno> {
    // O_NOFOLLOW: the old content can change while it is copied.
    match path::kind(looks) {
        FileType::Directory => {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
            path::make_directory(to, name, 0o700)?;
            let from = path::open_at(from, name, flags)?;
            let to = path::open_at(to, name, flags)?;
            copy_directory(from.as_fd(), to.as_fd())
        }
        FileType::RegularFile => {
            let from = path::open_at(from, name, OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
            let to = path::make_file(to, name, 0o600)?;
            io::copy(&mut File::from(from), &mut File::from(to))
                .map(|_| ())
                .map_err(|error| crate::sys::errno_of(&error))
        }
        FileType::Symlink => path::make_link(to, name, &path::read_link(from, name)?),
        other => path::make_node(to, name, other, looks.st_mode & 0o7777, looks.st_rdev),
    }
}

/// Gives a copy the owner, the mode and the times of the original; the mode after the owner, since chown(2) takes the
/// set-user-ID bit away.
fn copy_looks(directory: BorrowedFd<'_>, name: &OsStr, looks: &Stat) -> Result<(), Errno> {
    path::change_owner(directory, name, looks.st_uid, looks.st_gid)?;
    if path::kind(looks) != FileType::Symlink {
        path::change_mode(directory, name, looks.st_mode & 0o7777)?;
    }
    path::change_time(directory, name, looks)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
    use std::panic::resume_unwind;
    use std::process::Command;
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    const PRIVATE: Step = Step::RootPropagation(Propagation {
        kind: PropagationKind::Private,
        recursive: true,
    });

    /// Runs a test in namespaces of its own, on a thread: the mounts go with it. The directory is on the host's disk.
    fn disposable(test: impl FnOnce(&Path) + Send) {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root, for a mount namespace");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        in_new_namespace(|| {
            Rootfs::new().perform(&PRIVATE).unwrap();
            test(directory.path());
        });
        let left = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!left.contains(directory.path().to_str().unwrap()), "{left}");
    }

    fn in_new_namespace(test: impl FnOnce() + Send) {
        let isolated = || {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)
                .unwrap();
            test();
        };
        if let Err(panic) = thread::scope(|scope| scope.spawn(isolated).join()) {
            resume_unwind(panic);
        }
    }

    fn perform(rootfs: &mut Rootfs, steps: &[Step]) {
        for step in steps {
            rootfs
                .perform(step)
                .unwrap_or_else(|errno| panic!("{step}: {errno}"));
        }
    }

    /// A root file system made of this directory, in a namespace where nothing is shared.
    fn rooted(root: Root) -> Rootfs {
        let mut rootfs = Rootfs::new();
        perform(&mut rootfs, &[PRIVATE, Step::Root(root)]);
        rootfs
    }

    fn directory(at: &Path) -> Root {
        fs::create_dir_all(at).unwrap();
        Root::Directory(at.to_owned())
    }

    fn filesystem(fstype: &str, at: &str, options: &[(&str, Option<&str>)], set: u64) -> Step {
        Step::Mount(Mount {
            destination: at.into(),
            what: MountWhat::Filesystem {
                fstype: fstype.into(),
                source: fstype.into(),
                options: options
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
                    .collect(),
                copy_up: false,
            },
            attrs: MountAttrs {
                set,
                ..MountAttrs::default()
            },
            propagation: Vec::new(),
        })
    }

    fn bind(source: &Path, at: &str, set: u64) -> Step {
        Step::Mount(Mount {
            destination: at.into(),
            what: MountWhat::Bind {
                source: source.into(),
                recursive: true,
                ids: None,
            },
            attrs: MountAttrs {
                set,
                ..MountAttrs::default()
            },
            propagation: Vec::new(),
        })
    }

    fn device(at: &str, major: u32, minor: u32) -> Step {
        Step::Device(Device {
            path: at.into(),
            kind: DeviceKind::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 5,
        })
    }

    fn link(at: &str, target: &str) -> Step {
        Step::Symlink {
            target: target.into(),
            at: at.into(),
        }
    }

    const SAFE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

    /// What `runc spec` asks for, after the root.
    fn template() -> Vec<Step> {
        let mut steps = vec![
            filesystem("proc", "/proc", &[], 0),
            filesystem(
                "tmpfs",
                "/dev",
                &[("mode", Some("755")), ("size", Some("65536k"))],
                libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_STRICTATIME,
            ),
            filesystem(
                "devpts",
                "/dev/pts",
                &[
                    ("newinstance", None),
                    ("ptmxmode", Some("0666")),
                    ("mode", Some("0620")),
                    ("gid", Some("5")),
                ],
                libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC,
            ),
            filesystem(
                "tmpfs",
                "/dev/shm",
                &[("mode", Some("1777")), ("size", Some("65536k"))],
                SAFE,
            ),
            filesystem("mqueue", "/dev/mqueue", &[], SAFE),
            filesystem("sysfs", "/sys", &[], SAFE | libc::MOUNT_ATTR_RDONLY),
        ];
        for (name, minor) in [
            ("null", 3),
            ("zero", 5),
            ("full", 7),
            ("random", 8),
            ("urandom", 9),
        ] {
            steps.push(device(&format!("/dev/{name}"), 1, minor));
        }
        steps.push(device("/dev/tty", 5, 0));
        for (at, target) in [
            ("/dev/fd", "/proc/self/fd"),
            ("/dev/stdin", "/proc/self/fd/0"),
            ("/dev/stdout", "/proc/self/fd/1"),
            ("/dev/stderr", "/proc/self/fd/2"),
            ("/dev/ptmx", "pts/ptmx"),
        ] {
            steps.push(link(at, target));
        }
        steps.push(Step::PivotRoot);
        for path in [
            "/proc/acpi",
            "/proc/asound",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/sys/firmware",
            "/proc/scsi",
        ] {
            steps.push(Step::Mask(path.into()));
        }
        for path in [
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger",
        ] {
            steps.push(Step::Readonly(path.into()));
        }
        steps.push(Step::ReadonlyRoot);
        steps
    }

    fn mounts() -> String {
        fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
    }

    #[test]
    fn performs_what_runc_asks_for() {
        disposable(|at| {
            let mut rootfs = rooted(directory(&at.join("root")));
            perform(&mut rootfs, &template());
            assert_eq!(mounts().matches(" - ").count(), mounts().lines().count());
            assert!(!mounts().contains("/etc"), "the host is still there");
            let mut names: Vec<_> = fs::read_dir("/")
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            assert_eq!(names, ["dev", "proc", "sys"]);
            assert_eq!(fs::read("/proc/keys").unwrap(), b"");
            assert!(fs::write("/proc/sys/kernel/hostname", "x").is_err());
            assert!(fs::create_dir("/new").is_err());
            fs::write("/dev/null", "gone").unwrap();
            assert_eq!(fs::metadata("/dev/tty").unwrap().gid(), 5);
            assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
        });
    }

    #[test]
    fn keeps_to_the_root_when_destinations_are_links() {
        disposable(|at| {
            let (root, outside) = (at.join("root"), at.join("outside"));
            fs::create_dir_all(&outside).unwrap();
            fs::create_dir_all(root.join("var")).unwrap();
            symlink(&outside, root.join("etc")).unwrap();
            symlink("../../../../../../../..", root.join("up")).unwrap();
            symlink("/run", root.join("var/run")).unwrap();
            symlink(outside.join("file"), root.join("leaf")).unwrap();
            fs::write(at.join("source"), "s").unwrap();
            let mut rootfs = rooted(Root::Directory(root.clone()));
            perform(
                &mut rootfs,
                &[
                    filesystem("tmpfs", "/etc/mounted", &[], 0),
                    device("/etc/null", 1, 3),
                    link("/etc/link", "x"),
                    bind(&at.join("source"), "/var/run/secrets/key", 0),
                    bind(&at.join("source"), "/leaf", 0),
                    bind(&at.join("source"), "/up/climbed", 0),
                ],
            );
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
            let inside = root.join(outside.strip_prefix("/").unwrap());
            assert!(inside.join("mounted").is_dir());
            assert!(
                inside
                    .join("null")
                    .metadata()
                    .unwrap()
                    .file_type()
                    .is_char_device()
            );
            assert_eq!(fs::read(inside.join("file")).unwrap(), b"s");
            assert_eq!(fs::read(root.join("run/secrets/key")).unwrap(), b"s");
            assert_eq!(fs::read(root.join("climbed")).unwrap(), b"s");
            assert_eq!(
                rootfs.perform(&bind(&at.join("source"), "/missing/../x", 0)),
                Err(Errno::NOENT)
            );
        });
    }

    #[test]
    fn refuses_procfs_on_a_link_and_magic_links() {
        disposable(|at| {
            let root = at.join("root");
            fs::create_dir_all(root.join("elsewhere")).unwrap();
            symlink("elsewhere", root.join("proc")).unwrap();
            let mut rootfs = rooted(Root::Directory(root));
            assert_eq!(
                rootfs.perform(&filesystem("proc", "/proc", &[], 0)),
                Err(Errno::LOOP)
            );
            perform(&mut rootfs, &[filesystem("proc", "/p", &[], 0)]);
            assert_eq!(
                rootfs.perform(&filesystem("tmpfs", "/p/self/cwd", &[], 0)),
                Err(Errno::LOOP)
            );
        });
    }

    #[test]
    fn what_is_kept_comes_back_after_a_mount_hid_it() {
        disposable(|at| {
            let (outer, inner) = (at.join("outer"), at.join("outer/inner"));
            fs::create_dir_all(&inner).unwrap();
            let below = |path: &Path| filesystem("tmpfs", path.to_str().unwrap(), &[], 0);
            let mut rootfs = rooted(Root::Host);
            perform(&mut rootfs, &[below(&inner)]);
            fs::create_dir(inner.join("deep")).unwrap();
            perform(&mut rootfs, &[below(&inner.join("deep"))]);
            fs::write(inner.join("deep/file"), "kept").unwrap();
            perform(&mut rootfs, &[Step::Keep(inner.clone()), below(&outer)]);
            assert!(!inner.exists());
            perform(&mut rootfs, &[bind(&inner, inner.to_str().unwrap(), 0)]);
            assert_eq!(fs::read(inner.join("deep/file")).unwrap(), b"kept");
        });
    }

    #[test]
    fn overlay_keeps_the_directory_as_it_was() {
        disposable(|at| {
            // Longer than fsconfig(2) takes, and with what means something in overlay's options.
            let lower = at
                .join("a,b:c\\d")
                .join("x".repeat(200))
                .join("y".repeat(200));
            fs::create_dir_all(&lower).unwrap();
            fs::set_permissions(&lower, fs::Permissions::from_mode(0o711)).unwrap();
            fs::write(lower.join("old"), "old").unwrap();
            let mut rootfs = rooted(Root::Overlay(lower.clone()));
            assert_eq!(fs::metadata(&lower).unwrap().mode() & 0o7777, 0o711);
            fs::write(lower.join("old"), "changed").unwrap();
            fs::write(lower.join("new"), "new").unwrap();
            perform(&mut rootfs, &[Step::PivotRoot]);
            assert_eq!(fs::read("/old").unwrap(), b"changed");
            fs::remove_file("/old").unwrap();
            assert!(!fs::exists("/upper").unwrap());
        });
    }

    #[test]
    fn overlay_goes_with_its_namespace_and_over_another() {
        disposable(|at| {
            let lower = at.join("lower");
            fs::create_dir_all(&lower).unwrap();
            in_new_namespace(|| {
                rooted(Root::Overlay(lower.clone()));
                fs::write(lower.join("first"), "1").unwrap();
                rooted(Root::Overlay(lower.clone()));
                fs::write(lower.join("second"), "2").unwrap();
                assert_eq!(fs::read_dir(&lower).unwrap().count(), 2);
            });
            assert_eq!(fs::read_dir(&lower).unwrap().count(), 0);
            assert_eq!(fs::read_dir(at).unwrap().count(), 1);
        });
    }

    #[test]
    fn read_only_binds_leave_the_source_writable() {
        disposable(|at| {
            let (root, source) = (at.join("root"), at.join("source"));
            fs::create_dir_all(&source).unwrap();
            let mut rootfs = rooted(directory(&root));
            perform(
                &mut rootfs,
                &[bind(&source, "/data/here", libc::MOUNT_ATTR_RDONLY)],
            );
            assert!(fs::write(root.join("data/here/x"), "").is_err());
            fs::write(source.join("x"), "x").unwrap();
            assert_eq!(fs::read(root.join("data/here/x")).unwrap(), b"x");
            assert_eq!(
                rootfs.perform(&bind(&source, "/data/here/x", 0)),
                Err(Errno::NOTDIR)
            );
            assert_eq!(
                rootfs.perform(&bind(&at.join("absent"), "/data", 0)),
                Err(Errno::NOENT)
            );
            fs::create_dir(root.join("plain")).unwrap();
            perform(
                &mut rootfs,
                &[
                    Step::Readonly("/plain".into()),
                    Step::Readonly("/no".into()),
                ],
            );
            assert!(fs::write(root.join("plain/x"), "").is_err());
        });
    }

    #[test]
    fn masks_with_the_real_null_device_only() {
        disposable(|at| {
            let root = at.join("root");
            fs::create_dir_all(root.join("secrets")).unwrap();
            fs::create_dir_all(root.join("more")).unwrap();
            fs::create_dir_all(root.join("dev")).unwrap();
            fs::write(root.join("secrets/key"), "k").unwrap();
            fs::write(root.join("key"), "k").unwrap();
            symlink("/key", root.join("dev/null")).unwrap();
            let mut rootfs = rooted(Root::Directory(root.clone()));
            assert_eq!(
                rootfs.perform(&Step::Mask("/key".into())),
                Err(Errno::NODEV)
            );
            fs::remove_file(root.join("dev/null")).unwrap();
            perform(
                &mut rootfs,
                &[
                    device("/dev/null", 1, 3),
                    Step::Mask("/key".into()),
                    Step::Mask("/secrets".into()),
                    Step::Mask("/more".into()),
                    Step::Mask("/absent/path".into()),
                    Step::Mask("/dev/null/below".into()),
                ],
            );
            assert_eq!(fs::read(root.join("key")).unwrap(), b"");
            assert_eq!(fs::read_dir(root.join("secrets")).unwrap().count(), 0);
            assert!(fs::write(root.join("secrets/new"), "").is_err());
            assert!(fs::write(root.join("more/new"), "").is_err());
        });
    }

    #[test]
    fn devices_are_exact_and_do_not_replace() {
        disposable(|at| {
            let root = at.join("root");
            let mut rootfs = rooted(directory(&root));
            let null = device("/dev/null", 1, 3);
            perform(&mut rootfs, &[null.clone(), null]);
            let made = fs::metadata(root.join("dev/null")).unwrap();
            assert_eq!(
                (made.mode() & 0o7777, made.uid(), made.gid()),
                (0o666, 0, 5)
            );
            assert_eq!(made.rdev(), path::device_number(1, 3));
            assert_eq!(
                rootfs.perform(&device("/dev/null", 1, 5)),
                Err(Errno::EXIST)
            );
            perform(
                &mut rootfs,
                &[link("/dev/fd", "/proc/self/fd"), link("/dev/fd", "other")],
            );
            assert_eq!(
                fs::read_link(root.join("dev/fd")).unwrap(),
                Path::new("/proc/self/fd")
            );
        });
    }

    #[test]
    fn tmpfs_keeps_the_mode_and_copies_up() {
        disposable(|at| {
            let root = at.join("root");
            fs::create_dir_all(root.join("run/sub")).unwrap();
            fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o750)).unwrap();
            fs::write(root.join("run/sub/file"), "old").unwrap();
            fs::set_permissions(
                root.join("run/sub/file"),
                fs::Permissions::from_mode(0o4711),
            )
            .unwrap();
            std::os::unix::fs::chown(root.join("run/sub"), Some(7), Some(8)).unwrap();
            symlink("sub/file", root.join("run/link")).unwrap();
            let mut rootfs = rooted(Root::Directory(root.clone()));
            let mut step = filesystem("tmpfs", "/run", &[], libc::MOUNT_ATTR_RDONLY);
            if let Step::Mount(Mount {
                what: MountWhat::Filesystem { copy_up, .. },
                ..
            }) = &mut step
            {
                *copy_up = true;
            }
            perform(&mut rootfs, &[step]);
            let run = root.join("run");
            assert_eq!(fs::metadata(&run).unwrap().mode() & 0o7777, 0o750);
            assert_eq!(fs::read(run.join("link")).unwrap(), b"old");
            assert_eq!(
                fs::metadata(run.join("sub/file")).unwrap().mode() & 0o7777,
                0o4711
            );
            let sub = fs::metadata(run.join("sub")).unwrap();
            assert_eq!((sub.uid(), sub.gid()), (7, 8));
            assert!(fs::write(run.join("sub/file"), "new").is_err());
            perform(&mut rootfs, &[filesystem("tmpfs", "/new", &[], 0)]);
            assert_eq!(
                fs::metadata(root.join("new")).unwrap().mode() & 0o7777,
                0o1777
            );
        });
    }

    #[test]
    fn read_only_tmpfs_is_filled_first() {
        disposable(|at| {
            let root = at.join("root");
            let mut rootfs = rooted(directory(&root));
            perform(
                &mut rootfs,
                &[
                    filesystem("tmpfs", "/dev", &[], 0),
                    device("/dev/null", 1, 3),
                    Step::ReadonlyMount("/dev".into()),
                ],
            );
            assert!(fs::write(root.join("dev/x"), "").is_err());
            assert_eq!(
                rootfs.perform(&Step::ReadonlyMount("/dev/null".into())),
                Err(Errno::INVAL)
            );
        });
    }

    #[test]
    fn takes_options_longer_than_fsconfig_does() {
        disposable(|at| {
            let root = at.join("root");
            let lower = at.join("l".repeat(200)).join("m".repeat(200));
            fs::create_dir_all(&lower).unwrap();
            fs::write(lower.join("file"), "f").unwrap();
            let mut rootfs = rooted(directory(&root));
            let lowers = format!("{}:{}", lower.display(), at.join("root").display());
            perform(
                &mut rootfs,
                &[filesystem(
                    "overlay",
                    "/merged",
                    &[("lowerdir", Some(&lowers))],
                    libc::MOUNT_ATTR_NOEXEC,
                )],
            );
            assert_eq!(fs::read(root.join("merged/file")).unwrap(), b"f");
            assert!(
                mounts()
                    .lines()
                    .any(|line| line.contains("/merged ") && line.contains("noexec"))
            );
        });
    }

    #[test]
    fn wrong_kinds_are_named() {
        disposable(|at| {
            fs::write(at.join("file"), "").unwrap();
            assert_eq!(
                Rootfs::new().perform(&Step::Root(Root::Directory(at.join("file")))),
                Err(Errno::NOTDIR)
            );
            let root = at.join("root");
            fs::create_dir(&root).unwrap();
            fs::write(root.join("file"), "").unwrap();
            let mut rootfs = rooted(Root::Directory(root));
            assert_eq!(
                rootfs.perform(&filesystem("tmpfs", "/file", &[], 0)),
                Err(Errno::NOTDIR)
            );
            assert_eq!(
                rootfs.perform(&bind(&at.join("file"), "/", 0)),
                Err(Errno::ISDIR)
            );
            assert_eq!(
                rootfs.perform(&filesystem("tmpfs", "/x", &[("no-such", None)], 0)),
                Err(Errno::INVAL)
            );
            assert_eq!(
                rootfs.perform(&filesystem("no-such", "/x", &[], 0)),
                Err(Errno::NODEV)
            );
        });
    }

    #[test]
    fn sysctls_reach_the_kernel_whatever_proc_is() {
        disposable(|at| {
            let root = at.join("root");
            fs::create_dir_all(root.join("proc/sys/kernel")).unwrap();
            fs::write(root.join("proc/sys/kernel/hostname"), "fake").unwrap();
            let sysctl = |value: &str| Step::Sysctl {
                key: "kernel.hostname".into(),
                value: value.into(),
            };
            let hostname = || rustix::system::uname().nodename().to_owned();
            let mut rootfs = rooted(Root::Directory(root.clone()));
            perform(&mut rootfs, &[sysctl("one")]);
            assert_eq!(hostname().as_c_str(), c"one");
            assert_eq!(
                fs::read(root.join("proc/sys/kernel/hostname")).unwrap(),
                b"fake"
            );
            let mut rootfs = rooted(Root::Directory(root.clone()));
            perform(
                &mut rootfs,
                &[
                    filesystem("proc", "/proc", &[], 0),
                    filesystem("tmpfs", "/proc/sys", &[], 0),
                    sysctl("two"),
                ],
            );
            assert_eq!(hostname().as_c_str(), c"two");
            rootfs.write_proc_self("comm", b"named").unwrap();
            assert_eq!(fs::read("/proc/self/comm").unwrap(), b"named\n");
            assert_eq!(
                rootfs.perform(&Step::Sysctl {
                    key: "no.such".into(),
                    value: String::new(),
                }),
                Err(Errno::NOENT)
            );
        });
    }

    #[test]
    fn sysctl_keys_are_names() {
        let file = |key| sysctl_file(key).map(|file| file.to_str().unwrap().to_owned());
        assert_eq!(
            file("net.ipv4.ip_forward").as_deref(),
            Some("sys/net/ipv4/ip_forward")
        );
        assert_eq!(
            file("net.ipv4.conf.eth0/1.forwarding").as_deref(),
            Some("sys/net/ipv4/conf/eth0.1/forwarding")
        );
        assert_eq!(
            file("net/ipv4/conf/eth0.1/forwarding").as_deref(),
            Some("sys/net/ipv4/conf/eth0.1/forwarding")
        );
        assert_eq!(file("net/../../self/comm"), None);
        assert_eq!(file("/net"), None);
        assert_eq!(file(""), None);
    }

    #[test]
    fn shared_propagation_leaves_the_host_alone() {
        disposable(|at| {
            let root = at.join("root");
            fs::create_dir(&root).unwrap();
            let shared = Propagation {
                kind: PropagationKind::Shared,
                recursive: true,
            };
            Rootfs::new()
                .perform(&Step::RootPropagation(shared))
                .unwrap();
            let before = mounts();
            in_new_namespace(|| {
                let mut rootfs = Rootfs::new();
                perform(
                    &mut rootfs,
                    &[
                        Step::RootPropagation(shared),
                        Step::Root(Root::Directory(root.clone())),
                        Step::PivotRoot,
                        Step::FinalPropagation(shared),
                    ],
                );
            });
            assert_eq!(mounts(), before);
        });
    }

    #[test]
    fn moves_the_root_where_it_cannot_pivot() {
        disposable(|at| {
            let root = at.join("root");
            fs::create_dir(&root).unwrap();
            fs::write(root.join("here"), "").unwrap();
            let mut rootfs = rooted(Root::Directory(root));
            perform(&mut rootfs, &[Step::MoveRoot, Step::ReadonlyRoot]);
            assert!(fs::exists("/here").unwrap());
            assert!(fs::write("/here", "x").is_err());
        });
    }

    #[test]
    fn the_hosts_files_can_be_the_root() {
        disposable(|_| {
            let mut rootfs = rooted(Root::Host);
            perform(
                &mut rootfs,
                &[
                    filesystem("tmpfs", "/mnt", &[], 0),
                    Step::Mask("/proc/version".into()),
                ],
            );
            assert_eq!(fs::read("/proc/version").unwrap(), b"");
            fs::write("/mnt/x", "").unwrap();
        });
    }

    /// Runs the ignored test of this name in a process that this program prepares, for what a thread cannot do.
    fn prepared_by(program: &[&str], test: &str) {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root, for a mount namespace");
            return;
        }
        let done = Command::new(program[0])
            .args(&program[1..])
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--test-threads=1"])
            .arg(format!("engine::rootfs::tests::{test}"))
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// A directory that goes with the mount namespace, for a process that loses sight of the host's files.
    fn scratch() -> PathBuf {
        let mut rootfs = rooted(Root::Host);
        perform(&mut rootfs, &[filesystem("tmpfs", "/mnt", &[], 0)]);
        "/mnt".into()
    }

    #[test]
    fn console_is_the_containers_own() {
        prepared_by(&["unshare", "-m", "setsid", "-w"], "console_in_a_session");
    }

    #[test]
    #[ignore = "run by console_is_the_containers_own"]
    fn console_in_a_session() {
        let at = scratch();
        let mut rootfs = rooted(directory(&at.join("root")));
        perform(&mut rootfs, &template()[..6]);
        symlink(at.join("outside"), at.join("root/dev/console")).unwrap();
        assert_eq!(rootfs.console(None).unwrap_err(), Errno::LOOP);
        fs::remove_file(at.join("root/dev/console")).unwrap();
        let reports_to = rustix::io::dup(rustix::stdio::stdout()).unwrap();
        let master = rootfs.console(Some((132, 43))).unwrap();
        assert_eq!(pty::size(master.as_fd()), Ok((132, 43)));
        perform(&mut rootfs, &template()[6..]);
        let seen = pty::size(rustix::stdio::stdin());
        fs::write("/dev/tty", "to the terminal\n").unwrap();
        fs::write("/dev/console", "to the console\n").unwrap();
        let mut heard = [0; 64];
        let count = rustix::io::read(&master, &mut heard).unwrap();
        // Its last descriptor closed, a master hangs up on the session, which this process leads.
        std::mem::forget(master);
        rustix::stdio::dup2_stdout(&reports_to).unwrap();
        rustix::stdio::dup2_stderr(&reports_to).unwrap();
        assert_eq!(seen, Ok((132, 43)));
        assert_eq!(&heard[..count], b"to the terminal\nto the console\n");
    }

    #[test]
    fn works_in_a_user_namespace() {
        prepared_by(&["unshare", "-Urmpf"], "in_a_user_namespace");
    }

    #[test]
    #[ignore = "run by works_in_a_user_namespace"]
    fn in_a_user_namespace() {
        let lower = scratch().join("lower");
        fs::create_dir_all(lower.join("old/deeper")).unwrap();
        let mut rootfs = rooted(Root::Overlay(lower.clone()));
        // Hides the lower directory, for which overlay needs attributes that it may write.
        fs::remove_dir_all(lower.join("old")).unwrap();
        fs::create_dir(lower.join("old")).unwrap();
        assert_eq!(fs::read_dir(lower.join("old")).unwrap().count(), 0);
        let null = Step::Device(Device {
            path: "/dev/null".into(),
            kind: DeviceKind::Char,
            major: 1,
            minor: 3,
            mode: 0o666,
            uid: 0,
            gid: 0,
        });
        perform(&mut rootfs, &[filesystem("tmpfs", "/dev", &[], SAFE), null]);
        perform(
            &mut rootfs,
            &[filesystem("proc", "/proc", &[], SAFE), Step::PivotRoot],
        );
        fs::write("/dev/null", "gone").unwrap();
        perform(&mut rootfs, &[Step::Mask("/proc/keys".into())]);
        assert_eq!(fs::read("/proc/keys").unwrap(), b"");
    }
}
