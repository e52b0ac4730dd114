//! `tincan network`: bridges that any number of containers are on.

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::{Format, aligned, connect, print_json};
use crate::engine::dns;
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::network::{self, NetworkStateError};
use crate::engine::publish;
use crate::engine::user::Need;
use crate::net::bridge;
use crate::net::wire;
use crate::plan::name::{BadWord, ContainerName, IfAddr};
use crate::plan::net::{Publish, parse_route};
use crate::plan::network::{Network, NetworkName, NetworkSpec, Subnet};
use crate::plan::tenant::Tenant;
use crate::plan::topology::Route;

/// The arguments of `tincan network`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a network: a bridge on the host, with the first address of each subnet
    Create {
        /// Its name: `run --net NAME` is on it
        name: NetworkName,
        /// Its prefix; once for each family
        #[arg(long = "subnet", required = true, value_name = "PREFIX")]
        subnets: Vec<IfAddr>,
        /// Without default routes for its containers
        #[arg(long)]
        internal: bool,
        /// Keep its containers from reaching each other
        #[arg(long)]
        isolate: bool,
        /// The MTU of the bridge and of its containers' ends
        #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(68..=65535))]
        mtu: Option<u32>,
        /// A route of all its containers
        #[arg(long = "route", value_name = "PREFIX@HOP", value_parser = parse_route)]
        routes: Vec<Route>,
        /// Let the containers of this network reach its own
        #[arg(long, value_name = "NETWORK")]
        allow: Vec<NetworkName>,
        /// Answer DNS for its containers: their names, and by the host's servers everything else
        #[arg(long)]
        dns: bool,
    },
    /// Remove networks that no container is on
    Rm {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<NetworkName>,
    },
    /// List the networks
    List {
        /// Print the names only
        #[arg(short, long)]
        quiet: bool,
        /// How to print
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        format: Format,
    },
    /// Print all there is to know of a network, as JSON
    Inspect {
        /// Its name
        name: NetworkName,
    },
    /// Put a running container on a network
    Connect {
        /// The network, as a value of --net: NAME[,ADDR…][,mac=,mtu=,name=,route=]
        network: NetworkSpec,
        /// The container
        container: ContainerName,
        /// Another name by which the others on the network know the container
        #[arg(long, value_name = "NAME")]
        alias: Vec<ContainerName>,
    },
    /// Take a running container off a network
    Disconnect {
        /// The network
        network: NetworkName,
        /// The container
        container: ContainerName,
    },
    /// Lead ports of the host's to a running container on a network
    Publish {
        /// The container
        container: ContainerName,
        /// The ports: [ADDR:]PORT[-PORT][:PORT][/tcp|udp|sctp]
        #[arg(required = true, value_name = "PORT")]
        ports: Vec<Publish>,
    },
    /// Lead them there no more
    Unpublish {
        /// The container
        container: ContainerName,
        /// The host's ports: [ADDR:]PORT[-PORT][/tcp|udp|sctp]
        #[arg(required = true, value_name = "PORT")]
        ports: Vec<Publish>,
    },
    /// Make anew what somebody has taken away of the networks, or of those named
    Reload {
        /// Their names
        #[arg(value_name = "NAME")]
        names: Vec<NetworkName>,
    },
}

/// Makes, removes or shows networks.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Create {
            name,
            subnets,
            internal,
            isolate,
            mtu,
            routes,
            allow,
            dns,
        } => {
            let subnets = subnets
                .into_iter()
                .map(Subnet::of)
                .collect::<Result<Vec<_>, _>>()?;
            let network = Network {
                bridge: name.bridge(),
                name,
                subnets,
                internal,
                isolate,
                mtu,
                routes,
                allow,
                dns,
            };
            create(engine, &network)?;
            network::warn_of_barrier(engine, &network);
        }
        Verb::Rm { names } => {
            // What a user's networks have on the host is in the user's namespaces, which are gone without containers.
            engine.become_root(Need::Make)?;
            for name in names {
                remove(engine, &name)?;
            }
        }
        Verb::List { quiet, format } => {
            engine.become_root(Need::Join)?;
            list(engine, quiet, format)?;
        }
        Verb::Inspect { name } => {
            engine.become_root(Need::Join)?;
            let network = engine
                .root
                .networks()
                .load(&name)
                .map_err(EngineError::from)?;
            print_json(&shown(engine, network)?)?;
        }
        Verb::Connect {
            network,
            container,
            alias,
        } => {
            engine.become_root(Need::Join)?;
            connect::connect(engine, &network, &container, &alias)?;
        }
        Verb::Disconnect { network, container } => {
            engine.become_root(Need::Join)?;
            connect::disconnect(engine, &network, &container)?;
        }
        Verb::Publish { container, ports } => {
            engine.become_root(Need::Join)?;
            publish::add(engine, &container, &ports)?;
        }
        Verb::Unpublish { container, ports } => {
            engine.become_root(Need::Join)?;
            publish::remove(engine, &container, &ports)?;
        }
        Verb::Reload { names } => {
            engine.become_root(Need::Make)?;
            let networks = engine.root.networks();
            let all = match names.as_slice() {
                [] => networks.all(),
                names => names.iter().map(|name| networks.load(name)).collect(),
            };
            let all: Vec<Network> = all.map_err(EngineError::from)?;
            let lock = networks.lock().map_err(EngineError::from)?;
            for network in &all {
                network::make(engine, network).map_err(EngineError::from)?;
            }
            // Who comes to a network has its container's lock already when it waits for this one.
            drop(lock);
            for network in &all {
                connect::rewire(engine, network)?;
                network::warn_of_barrier(engine, network);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a network, unless one like it is there.
///
/// # Errors
/// [`NetworkStateError::Taken`] where there is one of its name; when it overlaps with another, or cannot be made.
pub fn create(engine: &Engine, network: &Network) -> anyhow::Result<()> {
    network.check()?;
    engine.become_root(Need::Make)?;
    let networks = engine.root.networks();
    let _lock = networks.lock().map_err(EngineError::from)?;
    check_beside_others(engine, network)?;
    // Before the host's network is entered, which for a user is another.
    if network.dns && !network.internal {
        engine.open_way_out()?;
    }
    // What a removal that was killed has left under its name, with other prefixes and rules perhaps.
    network::dismantle(engine, network).map_err(EngineError::from)?;
    check_on_host(engine, network)?;
    // What is written down is what `reload` and the next container make: so it comes first.
    networks.add(network).map_err(EngineError::from)?;
    if let Err(error) = network::make(engine, network) {
        // The first error is the one to tell.
        let _ = network::dismantle(engine, network);
        let draft = networks
            .set_aside(&network.name)
            .map_err(EngineError::from)?;
        let _ = dns::end(&draft);
        networks.remove(&draft).map_err(EngineError::from)?;
        return Err(EngineError::from(error).into());
    }
    Ok(())
}

/// Refuses a network for which there is no room, beside the others and on the host.
///
/// # Errors
/// As [`create`], which makes nothing before.
pub fn check_new(engine: &Engine, network: &Network) -> anyhow::Result<()> {
    check_beside_others(engine, network)?;
    check_on_host(engine, network)
}

fn check_beside_others(engine: &Engine, network: &Network) -> anyhow::Result<()> {
    let networks = engine.root.networks();
    for other in networks.all().map_err(EngineError::from)? {
        if other.name == network.name {
            return Err(EngineError::from(NetworkStateError::Taken(other.name)).into());
        }
        if let Some(prefix) = network.overlap(&other) {
            return Err(overlaps(prefix, format!("network {}", other.name)).into());
        }
    }
    for name in &network.allow {
        networks.load(name).map_err(EngineError::from)?;
    }
    Ok(())
}

fn check_on_host(engine: &Engine, network: &Network) -> anyhow::Result<()> {
    let netlink = engine.host_netlink()?;
    for link in wire::links(&netlink)? {
        // Either is a part of the other.
        let clash = |subnet: &&Subnet| {
            let mut addrs = link.addrs.iter().map(|at| at.addr);
            addrs.any(|addr| subnet.prefix.covers(addr.ip) || addr.covers(subnet.prefix.ip))
        };
        if let Some(subnet) = network.subnets.iter().find(clash) {
            return Err(overlaps(subnet.prefix, format!("the host's link {}", link.name)).into());
        }
    }
    for route in wire::routes(&netlink)? {
        // Of two equal ones the kernel takes the older, and a part of the prefix would be elsewhere. A route to more than that, as to all
        // networks behind another router, gives way to the bridge's.
        let clash = |subnet: &&Subnet| {
            subnet.prefix.covers(route.ip) && route.prefix >= subnet.prefix.prefix
        };
        if let Some(subnet) = network.subnets.iter().find(clash) {
            return Err(overlaps(subnet.prefix, format!("the host's route to {route}")).into());
        }
    }
    Ok(())
}

fn overlaps(prefix: IfAddr, whose: String) -> BadWord {
    // Another one, of the same family.
    let examples = match prefix.ip.is_ipv4() {
        true => ["10.9.0.0/24", "10.10.0.0/24"],
        false => ["fd09::/64", "fd10::/64"],
    };
    let is_another = |word: &&str| {
        let example: Result<IfAddr, _> = word.parse();
        example.is_ok_and(|it| !prefix.covers(it.ip) && !it.covers(prefix.ip))
    };
    let example = examples.into_iter().find(is_another);
    let why = format!("overlaps with {whose}");
    BadWord::new(
        "subnet",
        prefix.to_string(),
        why,
        example.unwrap_or(examples[0]),
    )
}

fn remove(engine: &Engine, name: &NetworkName) -> anyhow::Result<()> {
    let networks = engine.root.networks();
    let _lock = networks.lock().map_err(EngineError::from)?;
    let network = networks.load(name).map_err(EngineError::from)?;
    networks.clear_stale(name).map_err(EngineError::from)?;
    let draft = networks.set_aside(name).map_err(EngineError::from)?;
    let ended = dns::end(&draft).map_err(network::failed_dns(&network));
    if let Err(error) = ended.and_then(|()| network::dismantle(engine, &network)) {
        networks.put_back(&draft, name).map_err(EngineError::from)?;
        return Err(EngineError::from(error).into());
    }
    networks.forget_ports(name).map_err(EngineError::from)?;
    Ok(networks.remove(&draft).map_err(EngineError::from)?)
}

/// A network with what is on it, for programs.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    network: Network,
    /// Whether its bridge is there.
    up: bool,
    /// The process that answers DNS for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_pid: Option<i32>,
    /// Its containers and their addresses.
    containers: Vec<ShownLease>,
    /// The ports of the host's that lead to them.
    ports: Vec<ShownPort>,
}

#[derive(Debug, Serialize)]
struct ShownPort {
    container: Tenant,
    publish: Publish,
}

#[derive(Debug, Serialize)]
struct ShownLease {
    container: Tenant,
    address: std::net::IpAddr,
}

fn shown(engine: &Engine, network: Network) -> anyhow::Result<Shown> {
    let netlink = engine.host_netlink()?;
    let leased = engine
        .root
        .networks()
        .leased(&network.name)
        .map_err(EngineError::from)?;
    let up = matches!(
        bridge::find(&netlink, &network, &network::alias(&engine.root, &network)),
        Ok(Some(_))
    );
    let containers = leased.into_iter().map(|(lease, holder)| ShownLease {
        container: holder.tenant,
        address: lease.ip,
    });
    let published = engine
        .root
        .networks()
        .published_by(&network.name)
        .map_err(EngineError::from)?;
    let ports = published.into_iter().map(|(container, one)| ShownPort {
        container,
        publish: one.publish,
    });
    let dns_pid = dns::server(&engine.root.networks().directory(&network.name)).map(|it| it.pid);
    Ok(Shown {
        up,
        dns_pid,
        ports: ports.collect(),
        containers: containers.collect(),
        network,
    })
}

fn list(engine: &Engine, quiet: bool, format: Format) -> anyhow::Result<()> {
    let networks = engine.root.networks().all().map_err(EngineError::from)?;
    let mut out = std::io::stdout().lock();
    if quiet {
        for network in networks {
            writeln!(out, "{}", network.name)?;
        }
        return Ok(());
    }
    let rows = networks.into_iter().map(|network| shown(engine, network));
    let rows = rows.collect::<anyhow::Result<Vec<_>>>()?;
    if format == Format::Json {
        return print_json(&rows);
    }
    let mut table = vec![["NAME", "BRIDGE", "SUBNETS", "CONTAINERS", "OPTIONS"].map(str::to_owned)];
    for row in rows {
        let network = &row.network;
        let subnets: Vec<String> = network
            .subnets
            .iter()
            .map(|it| it.prefix.to_string())
            .collect();
        let mut names: Vec<String> = row
            .containers
            .iter()
            .map(|it| it.container.to_string())
            .collect();
        names.sort();
        names.dedup();
        let options = [
            (network.internal, "internal"),
            (network.isolate, "isolate"),
            (network.dns, "dns"),
            (!row.up, "down"),
        ];
        let options = options
            .iter()
            .filter(|(given, _)| *given)
            .map(|(_, word)| *word);
        table.push([
            network.name.to_string(),
            network.bridge.to_string(),
            subnets.join(", "),
            names.join(", "),
            options.collect::<Vec<_>>().join(", "),
        ]);
    }
    out.write_all(aligned(&table).as_bytes())?;
    Ok(())
}
