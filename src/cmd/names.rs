//! The names of a container: its own, those that others know it by, and those that it knows.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Usage;
use crate::engine::hold::Engine;
use crate::engine::state::State;
use crate::plan::hosts::{AddedHost, DomainName, HostName, OwnFiles};
use crate::plan::name::ContainerName;
use crate::plan::net::NetSpec;
use crate::plan::network::NetworkName;
use crate::plan::oci::{give_file, give_hostname};
use crate::plan::topology::Node;

/// The options that name things.
#[derive(Debug, Default, clap::Args)]
pub struct Names {
    /// Another name by which the others on its networks know the container
    #[arg(long, value_name = "NAME")]
    alias: Vec<ContainerName>,
    /// The container's own host name
    #[arg(long, value_name = "NAME")]
    hostname: Option<HostName>,
    /// One more name in the container's /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<AddedHost>,
    /// A server of names, for the container's /etc/resolv.conf
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// A domain in which names are looked up
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<DomainName>,
}

impl Names {
    /// Gives them to a node that is to be on the networks of these values.
    ///
    /// # Errors
    /// When the node has no files, or no host name, of its own, or is on no network.
    pub fn give(&self, engine: &Engine, node: &mut Node, specs: &[NetSpec]) -> Result<(), Usage> {
        let is_place = |spec: &NetSpec| matches!(spec, NetSpec::Network(_));
        if let (Some(alias), false) = (self.alias.first(), specs.iter().any(is_place)) {
            return Err(Usage::new(
                format!(
                    "--alias {alias}: {} is on no network, where others would know it",
                    node.name
                ),
                "`--net lan0` puts it on one",
            ));
        }
        node.aliases.clone_from(&self.alias);
        if let Some(name) = &self.hostname
            && !give_hostname(node, name.as_str())
        {
            return Err(Usage::new(
                format!(
                    "--hostname {}: the container has the host's own name",
                    name.as_str()
                ),
                "leave out `--share uts`; a bundle asks for a namespace of the type `uts`",
            ));
        }
        let mut networks: Vec<NetworkName> = Vec::new();
        for spec in specs {
            match spec {
                NetSpec::Network(spec) => networks.push(spec.network.clone()),
                // Whose namespace it has, on whose networks it is.
                NetSpec::Container(other) => {
                    let state = engine.root.load(other);
                    let leases = state.iter().flat_map(State::leases);
                    networks.extend(leases.map(|lease| lease.network.clone()));
                }
                _ => {}
            }
        }
        let mut known = BTreeSet::new();
        networks.retain(|network| known.insert(network.clone()));
        let asked =
            !(self.add_host.is_empty() && self.dns.is_empty() && self.dns_search.is_empty());
        if asked && !node.has_own_root() {
            return Err(Usage::new(
                "--add-host, --dns and --dns-search change files of the container, which has the host's",
                "`--rootfs DIR` gives it files of its own",
            ));
        }
        let store = engine.root.networks();
        // By its container's name it is known already.
        let hostname = self.hostname.clone();
        let hostname = hostname.filter(|own| own.as_str() != node.name.as_str());
        let names_itself = hostname.is_some() && !networks.is_empty();
        if !asked && !names_itself && networks.len() < 2 {
            // Those of one network have one file, and need none of their own.
            if let Some(network) = networks.first() {
                give_file(node, "/etc/hosts", &store.hosts_file(network));
                let resolv = store.resolv_file(network);
                if resolv.exists() {
                    give_file(node, "/etc/resolv.conf", &resolv);
                }
            }
            return Ok(());
        }
        if !node.has_own_root() {
            return Ok(());
        }
        let [hosts, own_resolv] = store.own_files(&node.name);
        give_file(node, "/etc/hosts", &hosts);
        let own = OwnFiles {
            networks,
            hosts: self.add_host.clone(),
            servers: self.dns.clone(),
            search: self.dns_search.clone(),
            hostname,
        };
        if own.resolv_text(&store.gateways(&own.networks)).is_some() {
            give_file(node, "/etc/resolv.conf", &own_resolv);
        }
        node.own_files = Some(own);
        Ok(())
    }
}
