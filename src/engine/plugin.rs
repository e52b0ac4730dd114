//! Calls plugins of the Container Network Interface for a container of tincan's: all of a network's for ADD, each with what those before
//! have answered, and for DEL in the reverse order.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use rustix::fs::{Access, MemfdFlags, access, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::hold::Engine;
use super::loan;
use crate::plan::name::ContainerName;
use crate::plan::plugin::{PluginNetwork, program};
use crate::plan::topology::{NamespaceKind, NamespaceSource, Node};
use crate::sys::signal::{Interrupts, Woken};

/// Why a network's plugins did not do what they were called for.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// There is no such program.
    #[error("CNI network {network}: there is no plugin {program} in {path}")]
    Missing {
        /// The network.
        network: String,
        /// The plugin.
        program: String,
        /// Where it was looked for.
        path: String,
    },
    /// It could not be called.
    #[error("CNI network {network}: call {program}: {cause}")]
    Call {
        /// The network.
        network: String,
        /// The plugin.
        program: String,
        /// Why not.
        cause: io::Error,
    },
    /// It says no.
    #[error("CNI network {network}: {program} {command}: {said}")]
    Refused {
        /// The network.
        network: String,
        /// The plugin.
        program: String,
        /// What it was called for.
        command: &'static str,
        /// What it says.
        said: String,
    },
    /// tincan was asked to go while it ran.
    #[error("CNI network {network}: {program}: interrupted by {signal}")]
    Interrupted {
        /// The network.
        network: String,
        /// The plugin.
        program: String,
        /// By which signal.
        signal: Signal,
    },
}

/// The path of a node's network namespace for its plugins: its own, where it joins one, or else the one by which tincan holds it, since they
/// are called for DEL when its processes are gone.
pub(super) fn netns_of(engine: &Engine, node: &Node) -> PathBuf {
    match node.namespaces.get(&NamespaceKind::Network) {
        Some(NamespaceSource::Path(path)) => path.clone(),
        _ => loan::pin_of(engine, &node.name),
    }
}

/// Finds the programs of a network, before anything is made.
///
/// # Errors
/// [`PluginError::Missing`] for the first that is not there.
pub fn check(network: &PluginNetwork) -> Result<(), PluginError> {
    network
        .programs()
        .try_for_each(|program| find(network, program).map(drop))
}

fn find(network: &PluginNetwork, program: &str) -> Result<PathBuf, PluginError> {
    let directories = network.path.split(':').filter(|dir| !dir.is_empty());
    let mut paths = directories.map(|dir| Path::new(dir).join(program));
    let found = paths.find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok());
    found.ok_or_else(|| PluginError::Missing {
        network: network.name.clone(),
        program: program.to_owned(),
        path: network.path.clone(),
    })
}

/// Attaches a container to a network. Returns what the last plugin has answered.
///
/// # Errors
/// The plugin that failed; those before it are undone by [`del`].
pub fn add(
    container: &ContainerName,
    network: &PluginNetwork,
    netns: &Path,
) -> Result<Value, PluginError> {
    let mut result: Option<Value> = None;
    for at in 0..network.plugins.len() {
        let input = network.input(at, result.as_ref());
        let said = call("ADD", container, network, at, netns, &input)?;
        let answer = serde_json::from_slice(&said);
        result = Some(answer.map_err(|cause| PluginError::Call {
            network: network.name.clone(),
            program: program(&network.plugins[at]).to_owned(),
            cause: cause.into(),
        })?);
    }
    Ok(result.unwrap_or_default())
}

/// Detaches it: all plugins are called, whatever becomes of the others. What is undone already is success, by the specification.
///
/// # Errors
/// All that failed.
pub fn del(
    container: &ContainerName,
    network: &PluginNetwork,
    netns: &Path,
) -> Result<(), Vec<PluginError>> {
    let mut failed = Vec::new();
    for at in (0..network.plugins.len()).rev() {
        let input = network.input(at, network.result.as_ref());
        failed.extend(call("DEL", container, network, at, netns, &input).err());
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed)
    }
}

/// Calls a plugin, and returns what it has to say on standard output.
fn call(
    command: &'static str,
    container: &ContainerName,
    network: &PluginNetwork,
    at: usize,
    netns: &Path,
    input: &Value,
) -> Result<Vec<u8>, PluginError> {
    let program = program(&network.plugins[at]);
    let named = |cause: io::Error| PluginError::Call {
        network: network.name.clone(),
        program: program.to_owned(),
        cause,
    };
    let path = find(network, program)?;
    // Files in memory: a plugin need not read its input, and a pipe would be full for one of the two.
    let file = |name: &str, text: &[u8]| -> io::Result<File> {
        let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
        file.write_all(text)?;
        file.rewind()?;
        Ok(file)
    };
    let stdin = file("config", input.to_string().as_bytes()).map_err(named)?;
    let mut answer = file("answer", b"").map_err(named)?;
    let mut log = file("log", b"").map_err(named)?;
    let interface = network.interface.as_ref().map_or("", |name| name.as_str());
    let mut child = Command::new(path)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container.as_str())
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", interface)
        .env("CNI_PATH", &network.path)
        .env("CNI_ARGS", "")
        .stdin(stdin)
        .stdout(answer.try_clone().map_err(named)?)
        .stderr(log.try_clone().map_err(named)?)
        .spawn()
        .map_err(named)?;
    // What has begun to undo is done, whoever asks tincan to go.
    let woken = if command == "ADD" {
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let pidfd = pidfd.map_err(|errno| named(errno.into()))?;
        wait(pidfd.as_fd()).map_err(named)?
    } else {
        Woken::Ready
    };
    if let Woken::Interrupted(signal) = woken {
        child.kill().map_err(named)?;
        child.wait().map_err(named)?;
        return Err(PluginError::Interrupted {
            network: network.name.clone(),
            program: program.to_owned(),
            signal,
        });
    }
    let status = child.wait().map_err(named)?;
    let mut said = Vec::new();
    answer.rewind().map_err(named)?;
    answer.read_to_end(&mut said).map_err(named)?;
    if status.success() {
        return Ok(said);
    }
    let told: Option<Value> = serde_json::from_slice(&said).ok();
    let word = |key: &str| {
        told.as_ref()?
            .get(key)?
            .as_str()
            .filter(|it| !it.is_empty())
    };
    let said = [word("msg"), word("details")].into_iter().flatten();
    let mut said = said.collect::<Vec<_>>().join("; ");
    if said.is_empty() {
        // One that ends otherwise than it should tells why, if at all, where programs do: as a rule in its last line.
        let mut text = Vec::new();
        log.rewind().map_err(named)?;
        log.read_to_end(&mut text).map_err(named)?;
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        said = match last {
            Some(line) => format!("{status}: {line}"),
            None => status.to_string(),
        };
    }
    Err(PluginError::Refused {
        network: network.name.clone(),
        program: program.to_owned(),
        command,
        said,
    })
}

fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Woken> {
    Ok(Interrupts::hear()?.wait(pidfd, None)?)
}
