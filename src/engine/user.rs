//! Becoming root: whoever is not root gets a user namespace in which he is, and everything else goes the one way that root's
//! containers go.
//!
//! A user's containers share that user namespace, and beside it a network namespace which is their host: the far ends of their
//! wires are there. Both live as long as a process is in them, so the first command makes one, the *holder*, which does
//! nothing but be there. The file `.user` in the state root says which process it is; every tincan of the user holds a
//! shared lock on that file while it runs. Who can have it alone on the way out, while no container is alive, is the last:
//! he ends the holder and removes the file.
//!
//! The network namespace is joined late and never left (its owner may not go back to the machine's): a container that keeps the
//! machine's network is cloned before.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::dns;
use super::fault;
use super::state::{StateRoot, Status};
use crate::net::netlink::Netlink;
use crate::net::wire;
use crate::plan::facts::Confinement;
use crate::plan::name::ContainerName;
use crate::plan::subid::{self, IdKind};
use crate::plan::topology::IdMap;
use crate::sys::channel;
use crate::sys::process::{self, Cloned, ProcessId};
use crate::sys::{descriptor, errno_of, lsm, netns};

/// The file in the state root that names the holder.
const FILE: &str = ".user";

/// By which a tincan that executes itself anew finds its lock again: the descriptor's number.
pub const INHERITED: &str = "TINCAN_USER";

/// How long the holder may take to be gone once it was killed, in milliseconds.
const END_LIMIT: u64 = 10_000;

/// What a command needs the namespaces for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It starts a container: they are made where there are none.
    Make,
    /// It looks at containers, or changes some: without namespaces there are none that live.
    Join,
}

/// Why an ordinary user's namespaces are not to be had.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct UserError {
    message: String,
    hint: Option<String>,
}

impl UserError {
    fn new(deed: impl std::fmt::Display, cause: impl std::fmt::Display) -> Self {
        UserError {
            message: format!("{deed}: {cause}"),
            hint: None,
        }
    }

    fn hinting(self, hint: impl Into<String>) -> Self {
        UserError {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// What the user could do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

fn failed(deed: impl std::fmt::Display) -> impl FnOnce(Errno) -> UserError {
    move |errno| UserError::new(deed, super::error::describe(errno))
}

fn file_failed(deed: &str, path: &Path) -> impl FnOnce(io::Error) -> UserError {
    let deed = format!("{deed} {}", path.display());
    move |cause| {
        let errno = errno_of(&cause);
        let error = failed(deed)(errno);
        match errno {
            Errno::NOSPC | Errno::DQUOT => {
                error.hinting("free some room there, or keep the state elsewhere with `--root DIR`")
            }
            Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NOENT => {
                error.hinting("`--root DIR` keeps the state in a directory of yours")
            }
            _ => error,
        }
    }
}

/// Where the state is kept when nobody says: `/run/tincan` for root; for a user `$XDG_RUNTIME_DIR/tincan` (XDG Base Directory
/// Specification), or below `/run/user`, where that directory is on systems with pam_systemd.
pub fn default_root() -> PathBuf {
    let uid = rustix::process::geteuid();
    if let Some((_, root)) = inheritance() {
        return root;
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match runtime {
        _ if uid.is_root() && !(runtime.is_some() && in_user_namespace()) => {
            PathBuf::from("/run/tincan")
        }
        Some(dir) => Path::new(&dir).join("tincan"),
        None => Path::new("/run/user").join(uid.to_string()).join("tincan"),
    }
}

/// What tincan lacks of the machine's root, once it has become root: nothing, unless it is in a user namespace.
pub fn confinement() -> Option<Confinement> {
    in_user_namespace().then(|| {
        let count = |kind| {
            let maps = own_maps(kind);
            let ends = maps.iter().map(|map| map.inside.saturating_add(map.size));
            ends.max().unwrap_or(0)
        };
        Confinement {
            users: count(IdKind::Uid),
            groups: count(IdKind::Gid),
        }
    })
}

/// Whether this process is in a user namespace that somebody made: then its root is not the machine's.
fn in_user_namespace() -> bool {
    // The first one maps every id onto itself (user_namespaces(7)).
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// A user who is not root, in the namespaces of all his tincans.
pub struct User {
    /// None in a container's first process, which would else keep the lock.
    lock: RefCell<Option<File>>,
    path: PathBuf,
    holder: ProcessId,
    network: OwnedFd,
    in_network: Cell<bool>,
}

impl User {
    /// Becomes root in the user's namespaces. `None` for root, who needs none; and where there are none and the command can
    /// do without.
    ///
    /// # Errors
    /// When they cannot be made or joined; then nothing is left.
    pub fn become_root(root: &StateRoot, need: Need) -> Result<Option<User>, UserError> {
        let path = root.path().join(FILE);
        if rustix::process::geteuid().is_root() {
            return inherited(path);
        }
        if need == Need::Make {
            make_root(root.path())?;
        }
        loop {
            let Some(file) = open(&path, need)? else {
                return Ok(None);
            };
            lock(&file, &path, FlockOperation::LockShared)?;
            if !is_current(&file, &path) {
                continue;
            }
            if let Some((holder, pidfd)) = living_holder(&file) {
                return join(file, path, holder, &pidfd).map(Some);
            }
            if need == Need::Join {
                // What is left of a holder that was killed.
                if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                    && is_current(&file, &path)
                    && living_holder(&file).is_none()
                {
                    end_half_made(&file)?;
                    fs::remove_file(&path).map_err(file_failed("remove", &path))?;
                }
                return Ok(None);
            }
            // Not atomic (flock(2)): somebody else may have come first.
            lock(&file, &path, FlockOperation::LockExclusive)?;
            if !is_current(&file, &path) {
                continue;
            }
            if living_holder(&file).is_none()
                && let Err(error) = check_nobody_lost(root)
                    .and_then(|()| end_half_made(&file))
                    .and_then(|()| make_holder(&file, &path))
            {
                // So that a failure leaves nothing; it is the one to tell.
                let _ = fs::remove_file(&path);
                return Err(error);
            }
        }
    }

    /// Goes to the network namespace that is the host of the user's containers, for good.
    ///
    /// # Errors
    /// As setns(2).
    pub fn join_network(&self) -> Result<(), Errno> {
        if !self.in_network.get() {
            netns::enter(self.network.as_fd())?;
            self.in_network.set(true);
        }
        Ok(())
    }

    /// Whether that is done.
    pub fn is_in_network(&self) -> bool {
        self.in_network.get()
    }

    /// A descriptor of the holder, which is readable when the namespaces are to go.
    pub fn watch(&self) -> Option<OwnedFd> {
        self.holder.open()
    }

    /// The lock, for the same program executed anew: kept open then, and the variable that tells of it.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub fn bequeath(&self) -> Result<(OwnedFd, Vec<u8>), Errno> {
        let lock = self.lock.borrow();
        let kept = rustix::io::dup(lock.as_ref().ok_or(Errno::BADF)?)?;
        let number = descriptor::number(kept.as_fd());
        let root = self.path.parent().unwrap_or(Path::new("/"));
        Ok((
            kept,
            [
                format!("{INHERITED}={number}:").as_bytes(),
                root.as_os_str().as_bytes(),
            ]
            .concat(),
        ))
    }

    /// What a bundle's map, which is of the machine's ids, is in the user's namespace.
    ///
    /// # Errors
    /// When the user does not have one of the ids.
    pub fn translate(
        &self,
        container: &ContainerName,
        kind: IdKind,
        maps: &[IdMap],
    ) -> Result<Vec<IdMap>, UserError> {
        subid::translate(maps, &own_maps(kind)).map_err(|id| {
            UserError::new(
                format!("{container}: write {}", kind.map_file()),
                format!("{id} is no id of yours"),
            )
            .hinting(format!(
                "you have your own and those that {} gives you; as root, any",
                kind.table()
            ))
        })
    }

    /// Leaves the lock to the process that this one was cloned from.
    pub fn forget_lock(&self) {
        self.lock.take();
    }

    /// Lets go. The last of the user's tincans ends the holder, when no container is alive any more.
    ///
    /// # Errors
    /// When the holder cannot be ended, or the file not be removed.
    pub fn leave(self, root: &StateRoot) -> Result<(), UserError> {
        let Some(lock) = self.lock.take() else {
            return Ok(());
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        if !is_current(&lock, &self.path) || !living(root).is_empty() {
            return Ok(());
        }
        fault::at("user-end", 0).map_err(failed("end the user's namespaces"))?;
        dns::end_all(root).map_err(|cause| UserError::new("end the user's namespaces", cause))?;
        if let Some(pidfd) = self.holder.open() {
            end(pidfd.as_fd())?;
        }
        fault::at("user-end", 1).map_err(failed("end the user's namespaces"))?;
        fs::remove_file(&self.path).map_err(file_failed("remove", &self.path))
    }
}

/// What this program was told when it executed itself anew: the lock's descriptor, and the state root.
fn inheritance() -> Option<(RawFd, PathBuf)> {
    let told = std::env::var_os(INHERITED)?;
    let told = told.as_bytes();
    let colon = told.iter().position(|byte| *byte == b':')?;
    let number = std::str::from_utf8(&told[..colon]).ok()?.parse().ok()?;
    Some((number, PathBuf::from(OsStr::from_bytes(&told[colon + 1..]))))
}

/// The lock that this program had before it executed itself anew; none for root.
fn inherited(path: PathBuf) -> Result<Option<User>, UserError> {
    let Some(lock) = inheritance().and_then(|(number, _)| descriptor::inherited(number).ok())
    else {
        return Ok(None);
    };
    let lock = File::from(lock);
    // Whatever else somebody calls by that name, it is not ours.
    match living_holder(&lock).filter(|_| is_current(&lock, &path)) {
        Some((holder, _)) => Ok(Some(User {
            network: open_network(holder)?,
            in_network: Cell::new(false),
            lock: RefCell::new(Some(lock)),
            path,
            holder,
        })),
        None => Ok(None),
    }
}

/// The map of the user namespace that this process is in.
fn own_maps(kind: IdKind) -> Vec<IdMap> {
    let path = Path::new("/proc/self").join(kind.map_file());
    subid::parse(&fs::read_to_string(path).unwrap_or_default())
}

/// Makes the state root, in a directory that is there already.
fn make_root(root: &Path) -> Result<(), UserError> {
    match fs::DirBuilder::new().mode(0o711).create(root) {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let above = root.parent().unwrap_or(Path::new("/"));
            Err(UserError::new(
                format!("keep the state in {}", root.display()),
                format!("there is no directory {}", above.display()),
            )
            .hinting("log in anew, or set XDG_RUNTIME_DIR to a directory of yours, or use `tincan --root DIR …`"))
        }
        other => other.map_err(file_failed("make", root)),
    }
}

fn open(path: &Path, need: Need) -> Result<Option<File>, UserError> {
    let opened = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(need == Need::Make)
        .mode(0o600)
        .open(path);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && need == Need::Join => Ok(None),
        Err(cause) => Err(file_failed("open", path)(cause)),
    }
}

fn lock(file: &File, path: &Path, how: FlockOperation) -> Result<(), UserError> {
    rustix::io::retry_on_intr(|| flock(file, how))
        .map_err(|errno| file_failed("lock", path)(errno.into()))
}

/// Whether the file that is open has this name still: the last to leave removes it.
fn is_current(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(named)) => (ours.dev(), ours.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// The process that the file names. With the line's end it is the holder; without, its maker was killed before it was told to
/// stay, or just then.
fn named(file: &File) -> Option<(ProcessId, bool)> {
    let mut text = [0; 64];
    let length = file.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    let (pid, start) = text.trim_end().split_once(' ')?;
    let process = ProcessId {
        pid: pid.parse().ok()?,
        start: start.parse().ok()?,
    };
    Some((process, text.ends_with('\n')))
}

fn living_holder(file: &File) -> Option<(ProcessId, OwnedFd)> {
    let (holder, stays) = named(file)?;
    Some((holder, holder.open().filter(|_| stays)?))
}

/// Ends a holder that was not made to the end. Only for who has the lock alone.
fn end_half_made(file: &File) -> Result<(), UserError> {
    match named(file) {
        Some((process, false)) => match process.open() {
            Some(pidfd) => end(pidfd.as_fd()),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn open_network(holder: ProcessId) -> Result<OwnedFd, UserError> {
    File::open(format!("/proc/{}/ns/net", holder.pid))
        .map(OwnedFd::from)
        .map_err(|cause| failed("open the network namespace of your containers")(errno_of(&cause)))
}

/// The containers of which a process is alive.
fn living(root: &StateRoot) -> Vec<String> {
    let names = root.names().unwrap_or_default();
    let is_alive = |name: &ContainerName| {
        root.load(name)
            .is_ok_and(|state| root.status(&state) != Status::Stopped)
    };
    let living = names.into_iter().filter(is_alive);
    living.map(|name| name.to_string()).collect()
}

/// New namespaces beside living containers of old ones could never be wired to them.
fn check_nobody_lost(root: &StateRoot) -> Result<(), UserError> {
    let living = living(root);
    if living.is_empty() {
        return Ok(());
    }
    Err(UserError::new(
        "join the namespaces of your containers",
        format!(
            "the process that held them is gone, and {} is still in them",
            living.join(", ")
        ),
    )
    .hinting("`tincan delete --force NAME` ends a container; with the last of them, all is new"))
}

fn join(lock: File, path: PathBuf, holder: ProcessId, pidfd: &OwnedFd) -> Result<User, UserError> {
    let network = open_network(holder)?;
    process::join_all(pidfd.as_fd(), libc::CLONE_NEWUSER)
        .map_err(failed("join your user namespace"))?;
    // To mount anything takes a mount namespace that belongs to the user namespace; nobody else needs to see it.
    process::unshare(libc::CLONE_NEWNS)
        .map_err(|errno| explain("make a mount namespace", errno))?;
    // New rights hide a process from its own user (commit_creds in kernel/cred.c), and with it /proc/PID/ns of its children.
    process::show().map_err(failed("be seen in /proc"))?;
    Ok(User {
        lock: RefCell::new(Some(lock)),
        path,
        holder,
        network,
        in_network: Cell::new(false),
    })
}

/// Makes the holder and writes down which process it is. Until that is done, it goes when this process goes.
fn make_holder(file: &File, path: &Path) -> Result<(), UserError> {
    let deed = "make your user namespace";
    let step = |index| fault::at("user", index).map_err(failed(deed));
    step(0)?;
    let (ours, theirs) = channel::pair().map_err(failed(deed))?;
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNET;
    let (pid, pidfd) = match process::clone(flags, None).map_err(|errno| explain(deed, errno))? {
        Cloned::Child => {
            drop(ours);
            hold(theirs)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    let made = step(1)
        .and_then(|()| map_ids(pid))
        .and_then(|()| step(2))
        .and_then(|()| match channel::receive(&ours).map_err(failed(deed))? {
            Some((report, _)) if report.errno == 0 => Ok(()),
            Some((report, _)) => Err(explain(deed, Errno::from_raw_os_error(report.errno))),
            None => Err(UserError::new(deed, "its first process died")),
        })
        .and_then(|()| step(3))
        .and_then(|()| {
            let holder = ProcessId::of(pid).map_err(|cause| failed(deed)(errno_of(&cause)))?;
            let line = format!("{} {}", holder.pid, holder.start);
            file.set_len(0)
                .and_then(|()| file.write_all_at(line.as_bytes(), 0))
                .map_err(file_failed("write", path))?;
            step(4)?;
            channel::go(&ours).map_err(failed(deed))?;
            step(5)?;
            file.write_all_at(b"\n", line.len() as u64)
                .map_err(file_failed("write", path))
        });
    if made.is_err() {
        // The error that led here is the one to tell; without a `go` it ends by itself.
        let _ = end(pidfd.as_fd());
    }
    made
}

fn end(pidfd: BorrowedFd<'_>) -> Result<(), UserError> {
    let deed = "end the process that holds your namespaces";
    match process::signal(pidfd, libc::SIGKILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(failed(deed)(errno)),
    }
    match process::wait_dead(pidfd, END_LIMIT).map_err(failed(deed))? {
        true => Ok(()),
        false => Err(failed(deed)(Errno::TIMEDOUT)),
    }
}

/// What the holder does: it leaves everything of the caller's, raises `lo`, and is there.
fn hold(channel: OwnedFd) -> ! {
    let ready = (|| {
        rustix::process::setsid()?;
        rustix::process::chdir("/")?;
        rustix::thread::set_name(c"tincan-user")?;
        let netlink = Netlink::open().map_err(|cause| errno_of(&cause))?;
        wire::loopback_up(&netlink)
            .map_err(|refused| Errno::from_raw_os_error(refused.errno as i32))
    })();
    let errno = ready.map_or_else(Errno::raw_os_error, |()| 0);
    let told = channel::report(&channel, channel::Report { step: 0, errno }, None);
    if told.is_err() || errno != 0 || !matches!(channel::await_go(&channel), Ok(true)) {
        process::exit_now(1);
    }
    // Nothing of the caller's is kept open: no pipe that somebody reads to its end, no lock.
    if process::close_from(0).is_err() {
        process::exit_now(1);
    }
    loop {
        nix::unistd::pause();
    }
}

/// Writes the maps of a user namespace that a process of ours is alone in: root is the user, and the ids after that are those
/// which /etc/subuid and /etc/subgid give the user (subuid(5)); where they give none, root is the only one.
fn map_ids(pid: i32) -> Result<(), UserError> {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let user = user_name(uid);
    let maps = [(IdKind::Uid, uid), (IdKind::Gid, gid)].map(|(kind, own)| {
        let table = fs::read_to_string(kind.table()).unwrap_or_default();
        (
            kind,
            subid::maps(own, &subid::ranges(&table, user.as_deref(), uid)),
        )
    });
    // Both work at the same time.
    let helpers = maps
        .iter()
        .filter(|(_, maps)| maps.len() > 1)
        .map(|(kind, maps)| Helper::start(pid, *kind, maps))
        .collect::<Vec<_>>();
    // Each is waited for, whatever has become of the other.
    let ended: Vec<_> = helpers
        .into_iter()
        .map(|helper| helper.and_then(Helper::wait))
        .collect();
    ended.into_iter().collect::<Result<(), _>>()?;
    for (kind, maps) in maps {
        if maps.len() > 1 {
            continue;
        }
        let write = |file: &str, text: &str| {
            let path = Path::new("/proc").join(pid.to_string()).join(file);
            fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|mut opened| opened.write_all(text.as_bytes()))
                .map_err(|cause| explain(format!("write {file}"), errno_of(&cause)))
        };
        if kind == IdKind::Gid {
            // Or the user could leave a group that is denied something (user_namespaces(7)).
            write("setgroups", "deny")?;
        }
        write(kind.map_file(), &subid::lines(&maps))?;
    }
    Ok(())
}

/// newuidmap(1) or newgidmap(1) at work on a map: more than one's own id takes more rights than one has.
struct Helper {
    kind: IdKind,
    process: Child,
}

impl Helper {
    fn start(pid: i32, kind: IdKind, maps: &[IdMap]) -> Result<Self, UserError> {
        let helper = kind.helper();
        let mut command = Command::new(helper);
        command.arg(pid.to_string()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        for map in maps {
            command.args([map.inside, map.outside, map.size].map(|n| n.to_string()));
        }
        let count: u64 = maps.iter().skip(1).map(|map| u64::from(map.size)).sum();
        let table = kind.table();
        let why = match command.spawn() {
            Ok(process) => return Ok(Helper { kind, process }),
            Err(cause) => cause,
        };
        // A directory of PATH that one may not search, as root's after su(1), hides that it is in none of the others (execvp(3)).
        match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Err(UserError::new(
                helper,
                format!(
                    "PATH has none that you may run, and {table} gives you {count} ids that only it can map"
                ),
            )
            .hinting(
                "install it: `apt-get install uidmap` on Debian, package shadow-utils elsewhere",
            )),
            _ => Err(failed(format!("run {helper}"))(errno_of(&why))),
        }
    }

    fn wait(self) -> Result<(), UserError> {
        let (helper, table) = (self.kind.helper(), self.kind.table());
        let ended = self.process.wait_with_output();
        let output =
            ended.map_err(|cause| failed(format!("wait for {helper}"))(errno_of(&cause)))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("it says nothing").trim();
        let said = said.strip_prefix(&format!("{helper}: ")).unwrap_or(said);
        Err(UserError::new(helper, said).hinting(format!(
            "`ls -l $(command -v {helper})` should show a set-user-ID root program, and {table} ranges that nobody else has"
        )))
    }
}

/// The name by which subuid(5) may know a user.
fn user_name(uid: u32) -> Option<String> {
    let table = fs::read_to_string("/etc/passwd").unwrap_or_default();
    subid::user_name(&table, uid)
        .map(str::to_owned)
        .or_else(|| std::env::var("USER").ok())
}

/// Whose a user id of tincan's is: by name, or else by number, on the machine and not in a user's namespaces.
pub fn owner(uid: u32) -> String {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let uid = subid::outside(&map, uid).unwrap_or(uid);
    let table = fs::read_to_string("/etc/passwd").unwrap_or_default();
    subid::user_name(&table, uid).map_or_else(|| uid.to_string(), str::to_owned)
}

/// Says why the kernel gives no user namespace, where it tells: each of these files forbids them.
fn explain(deed: impl std::fmt::Display, errno: Errno) -> UserError {
    let error = failed(deed)(errno);
    let setting = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
    for (path, value, right) in [
        ("/proc/sys/user/max_user_namespaces", "0", "15000"),
        ("/proc/sys/user/max_net_namespaces", "0", "15000"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "0",
        ),
    ] {
        if setting(path).is_ok_and(|found| found == value) {
            let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
            return error.hinting(format!(
                "{name} is {value}, by which this machine forbids it; its administrator can allow it with `sysctl {name}={right}`, or you run tincan as root"
            ));
        }
    }
    if errno == Errno::ACCESS
        && let Some(profile) = lsm::apparmor_profile()
    {
        return error.hinting(format!(
            "the AppArmor profile {profile} that you are under forbids it; its administrator can allow it with the rule `userns,`, or you run tincan as root"
        ));
    }
    match errno {
        Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::USERS => error.hinting(
            "this machine or the container that you are in forbids user namespaces; run tincan as root",
        ),
        _ => error,
    }
}
