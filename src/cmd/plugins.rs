//! `--cni`: networks of plugins that others have configured, beside tincan's own.

use std::path::{Path, PathBuf};

use super::Usage;
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::plugin;
use crate::plan::plugin::PluginNetwork;
use crate::plan::topology::Node;

/// The options of networks of plugins.
#[derive(Debug, clap::Args)]
pub struct Plugins {
    /// A network that CNI plugins make, by its name in a file of the configuration's directory
    #[arg(long, value_name = "NAME")]
    cni: Vec<String>,
    /// Where those files are [default: $NETCONFPATH, or /etc/cni/net.d]
    #[arg(long, value_name = "DIR", requires = "cni")]
    cni_conf_dir: Option<PathBuf>,
}

/// Where the files of networks are, and the plugins, where nobody says; the second as Debian has them.
const CONFIGURATIONS: &str = "/etc/cni/net.d";
const PROGRAMS: &str = "/opt/cni/bin:/usr/lib/cni";

impl Plugins {
    /// Gives the networks to a node.
    ///
    /// # Errors
    /// When there is no such network, or one of its plugins is not there.
    pub fn give(&self, engine: &Engine, node: &mut Node) -> anyhow::Result<()> {
        if self.cni.is_empty() {
            return Ok(());
        }
        if engine.user().is_some() || !rustix::process::geteuid().is_root() {
            let hint = "a user's networks are tincan's own: `tincan network create`";
            return Err(Usage::new(
                "--cni is for root: its plugins make links on the machine",
                hint,
            )
            .into());
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let directory = self.cni_conf_dir.clone();
        let directory = directory.or_else(|| variable("NETCONFPATH").map(PathBuf::from));
        let directory = directory.unwrap_or_else(|| CONFIGURATIONS.into());
        let path = variable("CNI_PATH").unwrap_or_else(|| PROGRAMS.to_owned());
        for name in &self.cni {
            let network = find(&directory, name, &path)?;
            plugin::check(&network).map_err(EngineError::from)?;
            node.plugins.push(network);
        }
        Ok(())
    }
}

/// The network of this name, in the first of the directory's files that has it.
fn find(directory: &Path, name: &str, path: &str) -> Result<PluginNetwork, Usage> {
    let hint = "--cni-conf-dir DIR says where the configurations of networks are";
    let failed = |path: &Path, why: String| {
        Usage::new(format!("--cni {name}: {}: {why}", path.display()), hint)
    };
    let files_in = |directory: &Path, extensions: &[&str]| -> Result<Vec<PathBuf>, Usage> {
        let unread = |cause: std::io::Error| failed(directory, cause.to_string());
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(unread)? {
            let file = entry.map_err(unread)?.path();
            let extension = file.extension().and_then(|it| it.to_str());
            if extension.is_some_and(|it| extensions.contains(&it)) {
                files.push(file);
            }
        }
        files.sort();
        Ok(files)
    };
    let read = |file: &Path| std::fs::read(file).map_err(|cause| failed(file, cause.to_string()));
    let mut names = Vec::new();
    for file in files_in(directory, &["conflist", "conf", "json"])? {
        match PluginNetwork::parse(&read(&file)?, path) {
            Ok(mut network) if network.name == name => {
                // More of its plugins, each in a file (libcni, `NetworkPluginConfsFromFiles`).
                let more = directory.join(name);
                if network.takes_more && !name.contains('/') && more.is_dir() {
                    for file in files_in(&more, &["conf"])? {
                        let added = network.add(&read(&file)?);
                        added.map_err(|error| failed(&file, error.to_string()))?;
                    }
                }
                if network.plugins.is_empty() {
                    return Err(failed(&file, "has no plugins".to_owned()));
                }
                return Ok(network);
            }
            Ok(network) => names.push(network.name),
            // Another one's, unless that is its name.
            Err(error) if file.file_stem().is_some_and(|stem| stem == name) => {
                return Err(failed(&file, error.to_string()));
            }
            Err(_) => {}
        }
    }
    let there = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    Err(failed(
        directory,
        format!("there is no network of this name; there are: {there}"),
    ))
}
