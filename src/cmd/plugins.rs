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
    let mut files = Vec::new();
    for entry in
        std::fs::read_dir(directory).map_err(|cause| failed(directory, cause.to_string()))?
    {
        let file = entry
            .map_err(|cause| failed(directory, cause.to_string()))?
            .path();
        let extension = file.extension().and_then(|it| it.to_str());
        if matches!(extension, Some("conflist" | "conf" | "json")) {
            files.push(file);
        }
    }
    files.sort();
    let mut names = Vec::new();
    for file in files {
        let text = std::fs::read(&file).map_err(|cause| failed(&file, cause.to_string()))?;
        match PluginNetwork::parse(&text, path) {
            Ok(network) if network.name == name => return Ok(network),
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
