//! Checkpoints: what CRIU keeps of a running container. The way back is [`super::hold`]'s, where CRIU is the first process that a container
//! has.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use rustix::fs::OFlags;

use super::error::EngineError;
use super::hold::{Engine, enter_running};
use super::state::{State, StateError, Status, Undo, file_error, remove_file, write_json};
use super::undo;
use crate::net::{nft, wire};
use crate::plan::checkpoint::{
    self, Bind, DUMP_LOG, Extent, LinkRecord, OuterMount, RECORD, Record, Settings, Subject,
};
use crate::plan::name::IfAddr;
use crate::plan::step::{MountWhat, Step};
use crate::plan::topology::{Node, Origin};
use crate::sys::path;
use crate::sys::process::Ended;

/// Where programs are where nobody says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What CRIU was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Keep a container.
    Dump,
    /// Restore one.
    Restore,
}

/// CRIU did not do what it was to.
#[derive(Debug, thiserror::Error)]
#[error("criu {}: {said}", match verb { Verb::Dump => "dump", Verb::Restore => "restore" })]
pub struct CriuFailed {
    verb: Verb,
    said: String,
    log: Option<PathBuf>,
}

/// How many of the lines are told in which CRIU's log has errors.
const TOLD: usize = 3;

impl CriuFailed {
    /// CRIU has ended so; its log says why, or else what it said before it had one.
    pub fn of(verb: Verb, ended: Ended, log: PathBuf, before: &str) -> Self {
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let errors = last(text.lines().filter(|line| line.contains("Error (")));
        let said = if errors.is_empty() {
            last(text.lines())
        } else {
            errors
        };
        let how = match ended {
            Ended::Code(code) => format!("ended with {code}"),
            Ended::Signal(signal) => format!("was ended by signal {signal}"),
        };
        let (told, log) = match said.is_empty() {
            true => (last(before.lines()), None),
            false => (said, Some(log)),
        };
        let said = match told.is_empty() {
            true => format!("{how}, and says nothing"),
            false => told.join("; "),
        };
        CriuFailed { verb, said, log }
    }

    /// Where there is more.
    pub fn hint(&self) -> Option<String> {
        let log = self.log.as_ref()?.display();
        Some(format!("{log} has all that CRIU says"))
    }
}

/// The last of these lines, without the time that begins each.
fn last<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let said = lines.map(|line| match line.split_once(") ") {
        Some((time, rest)) if time.starts_with('(') => rest.trim(),
        _ => line.trim(),
    });
    let said: Vec<&str> = said.filter(|line| !line.is_empty()).collect();
    said[said.len().saturating_sub(TOLD)..].to_vec()
}

/// Where CRIU is: at the path that was given, or where programs are.
///
/// # Errors
/// What is not there.
pub fn find(given: Option<&Path>) -> Result<PathBuf, String> {
    let is_program = |path: &Path| crate::sys::process::may_execute(path).is_ok() && path.is_file();
    if let Some(path) = given.filter(|path| path.components().count() > 1) {
        return match is_program(path) {
            true => Ok(path.to_owned()),
            false => Err(format!(
                "--criu {}: there is no such program",
                path.display()
            )),
        };
    }
    let name = given.unwrap_or(Path::new("criu"));
    let search = search_path();
    let places = std::env::split_paths(&search).map(|dir| dir.join(name));
    let mut found = places.filter(|path| is_program(path));
    found
        .next()
        .ok_or_else(|| format!("there is no {} in {search}", name.display()))
}

/// Where programs are looked for; callers may have an environment without it.
pub fn search_path() -> String {
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => path,
        _ => PATH.to_owned(),
    }
}

/// Keeps a container in a directory of images. Unless it is to go on, it ends, and is deleted then, as with runc and crun.
///
/// # Errors
/// When it cannot be kept, which leaves it as it is; or not be deleted.
pub fn keep(
    engine: &Engine,
    state: &State,
    criu: &Path,
    settings: &Settings,
    extent: Extent,
) -> Result<(), EngineError> {
    match engine.root.status(state) {
        Status::Running | Status::Paused => {}
        status => {
            return Err(EngineError::WrongStatus {
                container: state.id.clone(),
                verb: "checkpoint",
                status,
            });
        }
    }
    let process = state.process.expect("what runs has a process");
    let record = record(engine, state)?;
    let its = |kind: &str| {
        namespace(&process.pid.to_string(), kind).map_err(|cause| {
            let errno = crate::sys::errno_of(&cause);
            EngineError::of_deed(&state.id, "look at its namespaces", errno)
        })
    };
    let subject = Subject {
        pid: process.pid,
        root: &state.rootfs,
        freezer: state.cgroup.as_ref().and_then(|it| it.freezer()),
        network: record.network.then(|| its("net")).transpose()?,
        pid_namespace: record.joined_pid.then(|| its("pid")).transpose()?,
        record: &record,
    };
    if !process.is_alive() {
        return Err(EngineError::NotRunning(state.id.clone()));
    }
    prepare(settings, DUMP_LOG)?;
    if extent != Extent::Memory {
        write_json(&settings.images.join(RECORD), &record)?;
    }
    // Until nothing leads there any more, if it ends.
    let _still = match subject.network {
        Some(_) if settings.connections && extent != Extent::Memory => {
            let (netns, _) = enter_running(engine, &state.id)?;
            let still = nft::still(netns.as_fd());
            Some(still.map_err(|cause| {
                let errno = crate::sys::errno_of(&cause);
                EngineError::of_deed(&state.id, "keep its network still", errno)
            })?)
        }
        _ => None,
    };
    let words = checkpoint::dump(&criu.display().to_string(), &subject, settings, extent);
    let run = Command::new(criu)
        .args(&words[1..])
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .output();
    let run = run.map_err(|cause| {
        EngineError::of_deed(&state.id, "run CRIU", crate::sys::errno_of(&cause))
    })?;
    if !run.status.success() {
        use std::os::unix::process::ExitStatusExt as _;
        let ended = match (run.status.code(), run.status.signal()) {
            (Some(code), _) => Ended::Code(code),
            (None, signal) => Ended::Signal(signal.unwrap_or(0)),
        };
        let said = String::from_utf8_lossy(&run.stderr);
        return Err(EngineError::Criu {
            container: state.id.clone(),
            cause: CriuFailed::of(Verb::Dump, ended, settings.work.join(DUMP_LOG), &said),
        });
    }
    match extent {
        Extent::Whole => undo::delete(engine, state, true),
        Extent::Copy | Extent::Memory => Ok(()),
    }
}

/// Makes the directories, which are nobody else's, since what a container has in memory is in them; a log that is there already tells of
/// another time.
///
/// # Errors
/// When one cannot be made, or the log not be removed.
pub fn prepare(settings: &Settings, log: &str) -> Result<(), StateError> {
    for directory in [&settings.images, &settings.work] {
        let mut maker = fs::DirBuilder::new();
        let made = maker.recursive(true).mode(0o700).create(directory);
        made.map_err(file_error(directory))?;
    }
    let log = settings.work.join(log);
    remove_file(&log).map_err(|errno| file_error(&log)(errno.into()))
}

/// Follows the links by which the sources of a node's binds are named: CRIU would have the container see the link itself
/// (`__do_bind_mount_v2`, criu/mount-v2.c). A source that is not there stays as it is, for whoever mounts it to tell.
pub fn follow_sources(node: &mut Node) {
    for step in &mut node.steps {
        if let Step::Mount(mount) = step
            && let MountWhat::Bind { source, .. } = &mut mount.what
            && let Ok(real) = fs::canonicalize(&*source)
        {
            *source = real;
        }
    }
}

/// What is to be known of a container when it is restored.
fn record(engine: &Engine, state: &State) -> Result<Record, EngineError> {
    let process = state.process.expect("what runs has a process");
    let cannot = |why: &str| {
        Err(EngineError::NotToKeep {
            container: state.id.clone(),
            why: why.to_owned(),
        })
    };
    if state.origin == Origin::Command {
        return cannot("of `run -- COMMAND`, which has no bundle to be restored from");
    }
    if state.apart {
        return cannot("without a mount namespace of its own");
    }
    let plugins = |deed: &Undo| matches!(deed, Undo::Plugins(..) | Undo::Outside);
    if state.undo.iter().any(plugins) {
        return cannot("whose network is made by others, by plugins or pasta");
    }
    let failed = |cause: io::Error| {
        EngineError::of_deed(
            &state.id,
            "look at its processes",
            crate::sys::errno_of(&cause),
        )
    };
    let pid = process.pid.to_string();
    let is_own = |kind: &str| -> Result<bool, EngineError> {
        let (its, ours) = (namespace(&pid, kind), namespace("self", kind));
        Ok(its.map_err(failed)? != ours.map_err(failed)?)
    };
    if is_own("user")? {
        return cannot("with a user namespace: CRIU is not root there");
    }
    if !is_own("mnt")? {
        return cannot("without a mount namespace of its own");
    }
    if !is_own("pid")? {
        return cannot("without a pid namespace of its own, where its process ids could be taken");
    }
    // Who has joined a pid namespace is not its first process.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(failed)?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let innermost = ids.and_then(|ids| ids.split_whitespace().next_back());
    let has_terminal = state
        .workload
        .as_ref()
        .is_some_and(|it| it.process.terminal().unwrap_or(false));
    let streams = (0..3).map(|number| stream(&pid, number));
    let terminal = has_terminal.then(|| fs::metadata(format!("/proc/{pid}/fd/0")));
    let terminal = terminal.transpose().map_err(failed)?;
    Ok(Record {
        streams: streams.collect::<io::Result<_>>().map_err(failed)?,
        terminal: terminal.map(|it| format!("tty[{:x}:{:x}]", it.rdev(), it.dev())),
        mounts: outer_mounts(&pid, &state.binds).map_err(failed)?,
        links: links(engine, state)?,
        publish: state.published().map(|it| it.publish).collect(),
        joined_pid: innermost != Some("1"),
        network: is_own("net")?,
    })
}

/// The number of a process's namespace (namespaces(7)).
fn namespace(of: &str, kind: &str) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{of}/ns/{kind}"))?.ino())
}

/// A standard stream that leads out of the container, in CRIU's words.
fn stream(pid: &str, number: u32) -> io::Result<Option<String>> {
    let file = PathBuf::from(format!("/proc/{pid}/fd/{number}"));
    let target = match fs::read_link(&file) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let target = target.display().to_string();
    if target.starts_with("pipe:[") {
        return Ok(Some(target));
    }
    if !target.starts_with('/') || !fs::metadata(&file)?.is_file() {
        return Ok(None);
    }
    // A file on a mount that the container does not have.
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let Some(mount) = mount.map(str::trim) else {
        return Ok(None);
    };
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let is_there = mounts
        .lines()
        .any(|line| line.split(' ').next() == Some(mount));
    let file = fs::metadata(&file)?.ino();
    let mount: u64 = mount.parse().unwrap_or_default();
    Ok((!is_there).then(|| format!("file[{mount:x}:{file:x}]")))
}

/// The mounts of a container that come from outside: its binds, and what was mounted below their sources.
fn outer_mounts(pid: &str, binds: &[Bind]) -> io::Result<Vec<OuterMount>> {
    struct Entry {
        id: u32,
        parent: u32,
        at: PathBuf,
    }
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let entries: Vec<Entry> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            Some(Entry {
                id: fields.next()?.parse().ok()?,
                parent: fields.next()?.parse().ok()?,
                at: unescaped(fields.nth(2)?).into(),
            })
        })
        .collect();
    let root = path::open(&PathBuf::from(format!("/proc/{pid}/root")), OFlags::PATH)?;
    let mut mounts: Vec<(u32, OuterMount)> = Vec::new();
    for bind in binds {
        let found = path::open_in_root(root.as_fd(), &bind.destination, OFlags::PATH)?;
        let at = fs::read_link(path::by_descriptor(found.as_fd()))?;
        // The one on top, where there are several.
        let Some(entry) = entries.iter().rev().find(|entry| entry.at == at) else {
            continue;
        };
        let mount = OuterMount {
            at,
            destination: bind.destination.clone(),
            below: PathBuf::new(),
        };
        mounts.retain(|(id, _)| *id != entry.id);
        mounts.push((entry.id, mount));
    }
    let mut next = 0;
    while let Some((id, mount)) = mounts.get(next).cloned() {
        next += 1;
        for entry in entries.iter().filter(|entry| entry.parent == id) {
            let is_known = mounts.iter().any(|(known, _)| *known == entry.id);
            let Ok(below) = entry.at.strip_prefix(&mount.at) else {
                continue;
            };
            if !is_known {
                let outer = OuterMount {
                    at: entry.at.clone(),
                    destination: mount.destination.clone(),
                    below: mount.below.join(below),
                };
                mounts.push((entry.id, outer));
            }
        }
    }
    Ok(mounts.into_iter().map(|(_, mount)| mount).collect())
}

/// A path as it is, of one in `/proc/PID/mountinfo` (proc(5)): blanks and the like are written there by their numbers.
pub(super) fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(part.len().min(3));
        path.push(u8::from_str_radix(digits, 8).map_or('\\', char::from));
        path.push_str(rest);
    }
    path
}

/// The container's wires, with the link-layer addresses that they have.
fn links(engine: &Engine, state: &State) -> Result<Vec<LinkRecord>, EngineError> {
    let wires = engine.root.wires(state)?;
    if wires.is_empty() {
        return Ok(Vec::new());
    }
    let (_netns, netlink) = enter_running(engine, &state.id)?;
    let read = |all: &[String]| -> Vec<IfAddr> {
        // tincan's own words.
        all.iter().filter_map(|word| word.parse().ok()).collect()
    };
    let mut links = Vec::new();
    for record in wires {
        let Some(own) = record.end_of(&state.id) else {
            continue;
        };
        let far = record.ends.iter().find(|end| *end != own).unwrap_or(own);
        let link = match wire::link_by_name(&netlink, &own.interface) {
            Ok(link) => link,
            // The container has taken it away.
            Err(refused) if refused.errno == Errno::ENODEV => continue,
            Err(cause) => {
                return Err(EngineError::Wire {
                    container: state.id.to_string(),
                    action: format!("look at the link {}", own.interface),
                    cause,
                });
            }
        };
        links.push(LinkRecord {
            interface: own.interface.clone(),
            mac: link.mac,
            addresses: read(&own.addresses),
            network: far.network.clone(),
            to: far.container.clone(),
            peers: read(&far.addresses),
            routes: own.routes.clone(),
            mtu: own.mtu,
        });
    }
    Ok(links)
}
