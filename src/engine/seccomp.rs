//! The seccomp filter of a container: compiled once for each profile, and told to the agent that it leaves calls to.
//!
//! libseccomp takes 12 to 16 ms for an engine's default profile. So what it made is kept in `/var/cache/tincan/seccomp`, or below
//! `$XDG_CACHE_HOME` for whoever is not root: a file for each profile, with the whole profile in it, by which it is told from others. It is
//! believed where nobody else could have written it.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxSeccomp;
use rustix::io::Errno;
use serde::Serialize;

use super::hook::{OCI_VERSION, OciState};
use crate::plan::seccomp::{self as plan, Filter, Listener, Program};
use crate::sys::seccomp::{self, CompileError};
use crate::sys::{channel, errno_of};

/// How many profiles are kept; the oldest goes.
const MOST: usize = 64;

/// The filter of a profile.
///
/// # Errors
/// When libseccomp refuses the profile.
pub fn filter(profile: &LinuxSeccomp) -> Result<Filter, CompileError> {
    let key = key(profile);
    let cache = cache();
    let kept = cache.as_deref().and_then(|cache| read(cache, &key));
    let program = match kept {
        Some(program) => program,
        None => {
            let program = seccomp::compile(profile)?;
            if let Some(cache) = &cache {
                // Where it cannot be kept it is made again.
                let _ = write(cache, &key, &program);
            }
            program
        }
    };
    Ok(Filter {
        program: Program(program),
        flags: plan::flags(profile),
        listener: plan::listener(profile),
    })
}

/// All that the program depends on, as text that ends in a NUL.
fn key(profile: &LinuxSeccomp) -> Vec<u8> {
    let mut key = seccomp::compiler().into_bytes();
    key.push(b'\n');
    // It was read from JSON, so it can be written as such.
    serde_json::to_writer(&mut key, profile).expect("a profile is JSON");
    key.push(0);
    key
}

fn cache() -> Option<PathBuf> {
    if rustix::process::getuid().is_root() && Path::new("/proc/self/uid_map").exists() {
        let own = fs::read_to_string("/proc/self/uid_map").ok()?;
        // Root of the machine, and not of a user's namespace.
        if own.split_whitespace().eq(["0", "0", "4294967295"]) {
            return Some(PathBuf::from("/var/cache/tincan/seccomp"));
        }
    }
    let below = |name: &str| {
        let path = std::env::var_os(name).filter(|path| !path.is_empty());
        path.map(PathBuf::from).filter(|path| path.is_absolute())
    };
    let caches = below("XDG_CACHE_HOME").or_else(|| Some(below("HOME")?.join(".cache")));
    Some(caches?.join("tincan/seccomp"))
}

/// Where a profile's file is: by FNV-1a, 64 bits, since two that have one name are told apart by what is in the file.
fn file_of(cache: &Path, key: &[u8]) -> PathBuf {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    cache.join(format!("{hash:016x}"))
}

/// Whether nobody but us can write there.
fn is_ours(found: &fs::Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0
}

fn read(cache: &Path, key: &[u8]) -> Option<Vec<u8>> {
    if !fs::symlink_metadata(cache).is_ok_and(|found| found.is_dir() && is_ours(&found)) {
        return None;
    }
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(file_of(cache, key)).ok()?;
    if !file
        .metadata()
        .is_ok_and(|found| found.is_file() && is_ours(&found))
    {
        return None;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let program = bytes.strip_prefix(key)?;
    // Whole instructions, and not none.
    (!program.is_empty() && program.len().is_multiple_of(8)).then(|| program.to_vec())
}

fn write(cache: &Path, key: &[u8], program: &[u8]) -> io::Result<()> {
    let mut private = fs::DirBuilder::new();
    private.recursive(true).mode(0o700).create(cache)?;
    if !is_ours(&fs::symlink_metadata(cache)?) {
        return Ok(());
    }
    let mut kept: Vec<_> = fs::read_dir(cache)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    if kept.len() >= MOST {
        kept.sort();
        fs::remove_file(&kept[0].1)?;
    }
    let file = file_of(cache, key);
    let next = cache.join(format!("next-{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut draft = options.custom_flags(libc::O_NOFOLLOW).open(&next)?;
    io::Write::write_all(&mut draft, &[key, program].concat())?;
    fs::rename(&next, &file)
}

/// What an agent is told with the descriptor (runtime-spec config-linux.md, The Container Process State).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'static str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: ToldState<'a>,
}

/// The container's state, and what agents that read it with youki's library (`State`, libcontainer) cannot do without.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldState<'a> {
    #[serde(flatten)]
    state: &'a OciState,
    use_systemd: bool,
}

/// Hands the descriptor by which calls are heard of to the agent. `pid` is the process that has the filter; `use_systemd` is whether systemd
/// made the container's cgroup.
///
/// # Errors
/// When the agent's socket does not take it.
pub(super) fn tell(
    listener: &Listener,
    fd: &OwnedFd,
    pid: i32,
    state: &OciState,
    use_systemd: bool,
) -> Result<(), Errno> {
    let told = ContainerProcessState {
        oci_version: OCI_VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: &listener.metadata,
        state: ToldState { state, use_systemd },
    };
    let told = serde_json::to_vec(&told).map_err(|error| errno_of(&error.into()))?;
    let agent = channel::connect_stream(&listener.path)?;
    channel::send_with(&agent, &told, Some(fd.as_fd()))
}
