//! The files of names that containers have of their own: where one is on several networks, or is to know more than they do.
//!
//! They are below the state root in `.hosts/NAME/`, beside what they are made of: `hosts` and `resolv.conf`, which the container has
//! mounted, and `of.json`. Who changes the names of a network changes them in each of these that has that network.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::error::EngineError;
use super::hold::Engine;
use super::network::Networks;
use super::publish;
use super::state::{StateError, Undo, file_error, write_json};
use crate::plan::hosts::OwnFiles;
use crate::plan::name::ContainerName;
use crate::plan::network::NetworkName;
use crate::sys::mount::{self, Change};
use crate::sys::path::{self, Missing};
use crate::sys::process::{self, Cloned, Ended, ProcessId};

impl Networks<'_> {
    fn all_own(&self) -> PathBuf {
        self.root.path().join(".hosts")
    }

    fn own_directory(&self, name: &ContainerName) -> PathBuf {
        self.all_own().join(name.as_str())
    }

    /// What a container that has files of its own has as `/etc/hosts` and as `/etc/resolv.conf`.
    pub fn own_files(&self, name: &ContainerName) -> [PathBuf; 2] {
        let directory = self.own_directory(name);
        [directory.join("hosts"), directory.join("resolv.conf")]
    }

    /// Makes a container's own files.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn make_own(&self, name: &ContainerName, own: &OwnFiles) -> Result<(), StateError> {
        let directory = self.own_directory(name);
        fs::create_dir_all(&directory).map_err(file_error(&directory))?;
        let [hosts, resolv] = self.own_files(name);
        // Whatever the caller's umask: root of a container's user namespace, who is somebody else here, mounts them.
        let open_to_all = || {
            fs::write(&hosts, "")?;
            if let Some(text) = own.resolv_text(&self.gateways(&own.networks)) {
                write_open(&resolv, &text)?;
            }
            fs::set_permissions(&hosts, fs::Permissions::from_mode(0o644))?;
            for directory in [&self.all_own(), &directory] {
                fs::set_permissions(directory, fs::Permissions::from_mode(0o711))?;
            }
            Ok(())
        };
        open_to_all().map_err(file_error(&directory))?;
        self.write_own(name, own)?;
        self.refresh_own(name, None)
    }

    /// Writes down what a container's own files are made of, in one step.
    fn write_own(&self, name: &ContainerName, own: &OwnFiles) -> Result<(), StateError> {
        let path = self.own_directory(name).join("of.json");
        let next = self.own_directory(name).join("of.json.next");
        write_json(&next, own)?;
        fs::rename(&next, &path).map_err(file_error(&path))
    }

    /// Removes a container's own files; absent is success.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove_own(&self, name: &ContainerName) -> Result<(), StateError> {
        let directory = self.own_directory(name);
        match fs::remove_dir_all(&directory) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(file_error(&directory)(cause));
            }
            _ => {}
        }
        // Not empty: then it stays.
        let _ = fs::remove_dir(self.all_own());
        Ok(())
    }

    /// The containers with files of their own.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn with_own(&self) -> Result<Vec<ContainerName>, StateError> {
        let names = super::state::entries(&self.all_own())?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Writes the names of a network into all containers' own files that have them.
    ///
    /// # Errors
    /// When one cannot be written.
    pub(super) fn refresh_all_own(&self, network: &NetworkName) -> Result<(), StateError> {
        for name in self.with_own()? {
            self.refresh_own(&name, Some(network))?;
        }
        Ok(())
    }

    /// Writes a container's own `/etc/hosts`, if it has this network's names, or any.
    fn refresh_own(
        &self,
        name: &ContainerName,
        network: Option<&NetworkName>,
    ) -> Result<(), StateError> {
        let directory = self.own_directory(name);
        let Some(_lock) = lock(&directory)? else {
            return Ok(());
        };
        let Some(own) = self.own(name)? else {
            return Ok(());
        };
        if network.is_some_and(|network| !own.networks.contains(network)) {
            return Ok(());
        }
        let read = |network| fs::read_to_string(self.hosts_file(network)).unwrap_or_default();
        let texts: Vec<String> = own.networks.iter().map(read).collect();
        let [hosts, _] = self.own_files(name);
        match rewrite(&hosts, |_| own.hosts_text(name, &texts)) {
            // The container has gone.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(file_error(&hosts)),
        }
    }

    /// What a container's own files are made of; none where it has none.
    fn own(&self, name: &ContainerName) -> Result<Option<OwnFiles>, StateError> {
        let path = self.own_directory(name).join("of.json");
        match fs::read(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(file_error(&path)(cause)),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(own) => Ok(Some(own)),
                Err(cause) => Err(file_error(&path)(cause.into())),
            },
        }
    }
}

/// Writes a file that everybody may read, whatever the caller's umask.
fn write_open(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// Keeps others from writing a container's own files; not by a lock on one of those, which the container can open, and so lock as well.
fn lock(directory: &Path) -> Result<Option<OwnedFd>, StateError> {
    let opened = match fs::File::open(directory) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(file_error(directory))?,
    };
    rustix::io::retry_on_intr(|| flock(&opened, FlockOperation::LockExclusive))
        .map_err(|errno| file_error(directory)(errno.into()))?;
    Ok(Some(opened.into()))
}

/// Changes a file in place, since containers have that very file mounted. What stays at its beginning is not written again, and what is
/// cut off at its end is blank lines before.
pub(super) fn rewrite(path: &Path, change: impl FnOnce(String) -> String) -> io::Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let old = io::read_to_string(&file)?;
    let new = change(old.clone());
    let same = shared_beginning(old.as_bytes(), new.as_bytes());
    let mut bytes = new.as_bytes()[same..].to_vec();
    bytes.resize(bytes.len().max(old.len() - same), b'\n');
    file.write_all_at(&bytes, same as u64)?;
    if new.len() < old.len() {
        file.set_len(new.len() as u64)?;
    }
    Ok(())
}

/// How many bytes two texts have in common at their beginning.
fn shared_beginning(one: &[u8], other: &[u8]) -> usize {
    // A piece at a time: byte by byte, the names of a large network take longer to compare than to write.
    const PIECE: usize = 256;
    let pieces = one.chunks(PIECE).zip(other.chunks(PIECE));
    let whole = pieces.take_while(|(a, b)| a == b).count() * PIECE;
    let whole = whole.min(one.len()).min(other.len());
    let rest = one[whole..].iter().zip(&other[whole..]);
    whole + rest.take_while(|(a, b)| a == b).count()
}

/// Lets a running container know the names of just those networks that it is on now. Where it had the file of one network, it gets a file
/// of its own over that; where its `/etc/hosts` is none of ours, it keeps that.
///
/// # Errors
/// When a file cannot be written, or not be mounted.
pub fn follow_networks(engine: &Engine, name: &ContainerName) -> Result<(), EngineError> {
    let state = engine.root.load(name)?;
    // Over the host's own files nobody has names.
    if state.rootfs == Path::new("/") {
        return Ok(());
    }
    let store = engine.root.networks();
    let mut networks: Vec<NetworkName> = Vec::new();
    for lease in state.leases() {
        if !networks.contains(&lease.network) {
            networks.push(lease.network.clone());
        }
    }
    let had_own = store.own(name)?;
    let is_new = had_own.is_none();
    let mut own = had_own.unwrap_or_default();
    own.networks = networks;
    let failed = |at| move |errno| EngineError::of_deed(name, format!("mount its own {at}"), errno);
    let [hosts, resolv] = store.own_files(name);
    let found = |at, own| match state.process {
        None => Ok(Found::Otherwise),
        Some(process) => found_at(&store, process, Path::new(at), own).map_err(failed(at)),
    };
    let (at_hosts, at_resolv) = (found(ETC_HOSTS, &hosts)?, found(ETC_RESOLV_CONF, &resolv)?);
    if is_new && at_hosts == Found::Otherwise {
        return Ok(());
    }
    if is_new {
        publish::journal(engine, &state, |undo| undo.push(Undo::OwnFiles))?;
        store.make_own(name, &own)?;
    } else {
        store.write_own(name, &own)?;
        store.refresh_own(name, None)?;
    }
    let Some(process) = state.process else {
        return Ok(());
    };
    if matches!(at_hosts, Found::Plain | Found::Network) {
        let done = mount_over(process, &hosts, ETC_HOSTS).map_err(failed(ETC_HOSTS));
        if done.is_err() && is_new {
            // Else the next who looks would think that they are there. What stays is in the journal.
            let _ = store.remove_own(name);
            let _ = publish::journal(engine, &state, |undo| {
                undo.retain(|deed| *deed != Undo::OwnFiles);
            });
        }
        done?;
    }
    // Without a network that has DNS there is nobody to ask.
    let text = own.resolv_text(&store.gateways(&own.networks));
    match (at_resolv, text) {
        (Found::Own, text) => {
            let text = text.unwrap_or_default();
            return Ok(rewrite(&resolv, |_| text).map_err(file_error(&resolv))?);
        }
        (Found::Plain, Some(text)) => write_open(&resolv, &text),
        (Found::Network, text) => write_open(&resolv, &text.unwrap_or_default()),
        (Found::Plain, None) | (Found::Otherwise, _) => return Ok(()),
    }
    .map_err(file_error(&resolv))?;
    mount_over(process, &resolv, ETC_RESOLV_CONF).map_err(failed(ETC_RESOLV_CONF))
}

/// Where they are in a container.
const ETC_HOSTS: &str = "/etc/hosts";
const ETC_RESOLV_CONF: &str = "/etc/resolv.conf";

/// What a container has as one of its files of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The file of its own.
    Own,
    /// A file of its root file system, or none.
    Plain,
    /// A network's file: over that and the former its own can be mounted.
    Network,
    /// What somebody has mounted there.
    Otherwise,
}

fn found_at(
    store: &Networks<'_>,
    process: ProcessId,
    at: &Path,
    own: &Path,
) -> Result<Found, Errno> {
    let root = path::open(
        Path::new(&format!("/proc/{}/root", process.pid)),
        OFlags::PATH | OFlags::DIRECTORY,
    )?;
    let found = match path::open_in_root(root.as_fd(), at, OFlags::PATH) {
        Err(Errno::NOENT) => return Ok(Found::Plain),
        other => other?,
    };
    if !path::is_mount_root(found.as_fd())? {
        return Ok(Found::Plain);
    }
    let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let theirs = identity(path::status(found.as_fd())?);
    let is_it = |file: &Path| {
        let file = fs::File::open(file).ok();
        let found = file.and_then(|file| path::status(file.as_fd()).ok());
        found.map(identity) == Some(theirs)
    };
    if is_it(own) {
        return Ok(Found::Own);
    }
    let names = store.names().unwrap_or_default();
    let mut networks = names
        .iter()
        .flat_map(|name| [store.hosts_file(name), store.resolv_file(name)]);
    Ok(if networks.any(|file| is_it(&file)) {
        Found::Network
    } else {
        Found::Otherwise
    })
}

/// Mounts a file on one of a container's: a process that goes to its mount namespace does it, and ends.
fn mount_over(container: ProcessId, file: &Path, over: &'static str) -> Result<(), Errno> {
    let tree = mount::clone_path(file, false)?;
    let change = Change {
        set: libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC,
        ..Change::default()
    };
    mount::set_attributes(tree.as_fd(), change)?;
    let target = container.open().ok_or(Errno::SRCH)?;
    let child = match process::clone(0, None)? {
        Cloned::Child => {
            let done = process::join_all(target.as_fd(), libc::CLONE_NEWNS).and_then(|()| {
                let root = path::open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
                let at = path::open_or_make(root.as_fd(), Path::new(over), Missing::File)?;
                mount::attach(tree.as_fd(), at.as_fd())
            });
            process::exit_now(done.err().map_or(0, Errno::raw_os_error))
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    match process::wait(child.as_fd())? {
        Ended::Code(0) => Ok(()),
        Ended::Code(code) => Err(Errno::from_raw_os_error(code)),
        Ended::Signal(_) => Err(Errno::INTR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_rewritten_from_where_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        // 20 bytes a line: pieces end within lines, and where one ends.
        let lines: Vec<String> = (0..100)
            .map(|n| format!("10.9.0.{n:03}\tname{n:04}\n"))
            .collect();
        let whole = lines.concat();
        fs::write(&path, &whole).unwrap();
        let mut expected = whole.clone();
        for gone in [99, 0, 50, 63, 64, 12, 13] {
            let line = &lines[gone];
            rewrite(&path, |text| text.replace(line, "")).unwrap();
            expected = expected.replace(line, "");
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                expected,
                "without {gone}"
            );
            rewrite(&path, |text| text + line).unwrap();
            expected += line;
            assert_eq!(fs::read_to_string(&path).unwrap(), expected, "{gone} again");
        }
        rewrite(&path, |_| whole.clone()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        rewrite(&path, |_| String::new()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        for length in [255, 256, 257, 512] {
            let (one, other) = ("a".repeat(length), "a".repeat(length - 1) + "b");
            assert_eq!(
                shared_beginning(one.as_bytes(), other.as_bytes()),
                length - 1
            );
            assert_eq!(shared_beginning(one.as_bytes(), one.as_bytes()), length);
            assert_eq!(
                shared_beginning(one.as_bytes(), &one.as_bytes()[1..]),
                length - 1
            );
        }
    }
}
