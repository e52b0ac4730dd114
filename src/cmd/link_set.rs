//! `tincan link set`: an interface of a running container is changed while it runs.

use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::rc::Rc;

use super::dry_run::DryRun;
use super::link::{far_end, lock, records};
use super::net::HOST;
use super::{Usage, net};
use crate::engine::error::EngineError;
use crate::engine::hold::{Engine, enter_running};
use crate::engine::publish;
use crate::engine::state::{InterfaceRecord, Undo};
use crate::engine::user::Need;
use crate::net::netlink::Netlink;
use crate::net::wire::{self, Link};
use crate::plan::name::{BadWord, ContainerName, IfAddr, LinkName, Mac};
use crate::plan::net::{check_address, check_mtu, parse_mtu, parse_route};
use crate::plan::topology::{Change, End, EndAddr, LastingLink, Place, Route, Topology};

/// The arguments of `tincan link set`.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// The container; `host` for the host's end of a wire
    container: ContainerName,
    /// The interface in it
    interface: LinkName,
    /// Raise it
    #[arg(long, conflicts_with = "down")]
    up: bool,
    /// Take it down: with that its routes and its IPv6 addresses go, as with ip(8)
    #[arg(long)]
    down: bool,
    /// Its MTU in bytes; the other end of a wire gets the same, but for a network's
    #[arg(long, value_name = "BYTES", value_parser = parse_mtu)]
    mtu: Option<u32>,
    /// Its link-layer address
    #[arg(long, value_name = "MAC")]
    mac: Option<Mac>,
    /// Add an address
    #[arg(long = "addr", value_name = "ADDR")]
    addrs: Vec<IfAddr>,
    /// Delete an address
    #[arg(long = "del-addr", value_name = "ADDR")]
    lost_addrs: Vec<IfAddr>,
    /// Add a route, PREFIX or PREFIX@HOP
    #[arg(long = "route", value_name = "ROUTE", value_parser = parse_route)]
    routes: Vec<Route>,
    /// Delete a route
    #[arg(long = "del-route", value_name = "ROUTE", value_parser = parse_route)]
    lost_routes: Vec<Route>,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Plans the change, and does it.
pub fn run(args: Set, engine: &Engine) -> anyhow::Result<ExitCode> {
    args.dry_run.become_root(engine, Need::Join)?;
    if args.changes_nothing() {
        return Err(Usage::new(
            "there is nothing to change",
            "tincan link set ns1 eth0 --mtu 1400",
        )
        .into());
    }
    let Set {
        container,
        interface,
        ..
    } = &args;
    // Whose wire it is: also of the host's end.
    let (whose, at, netlink) = if container.as_str() == HOST {
        let removal = far_end(engine, interface.clone())?;
        (removal.container, Place::Host, engine.host_netlink()?)
    } else {
        let (netns, inside) = enter_running(engine, container)?;
        net::check_own_network(container, netns.as_fd())?;
        let at = Place::Running(container.clone());
        (container.clone(), at, Rc::new(inside))
    };
    let _locks = lock(engine, &args.dry_run, [&whose])?;
    let links = wire::links(&netlink)?;
    let is_it = |link: &&Link| link.name == interface.as_str() && link.name != "lo";
    let Some(link) = links.iter().find(is_it) else {
        let why = format!("is no interface of {container}; `tincan link list` shows them");
        return Err(BadWord::new("interface name", interface.as_str(), why, "eth0").into());
    };
    args.check(engine, &whose, &netlink, link)?;
    let mut changes = vec![Change {
        container: whose.clone(),
        end: End {
            mac: args.mac,
            addrs: args.addrs.iter().copied().map(EndAddr::on_link).collect(),
            routes: args.routes.clone(),
            mtu: args.mtu,
            ..End::bare(at.clone(), interface.clone())
        },
        up: match (args.up, args.down) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        },
        lost_addrs: args.lost_addrs.clone(),
        lost_routes: args.lost_routes.clone(),
    }];
    if args.mtu.is_some()
        && let Some((at, name)) = other_end(engine, &at, interface)?
    {
        changes.push(Change {
            container: whose,
            end: End {
                mtu: args.mtu,
                ..End::bare(at, name)
            },
            up: None,
            lost_addrs: Vec::new(),
            lost_routes: Vec::new(),
        });
    }
    let topology = Topology {
        changes,
        ..Topology::default()
    };
    if args.dry_run.is_asked() {
        return args.dry_run.print(engine, &topology);
    }
    if let Some(mac) = args.mac {
        let change = &topology.changes[0];
        keep_known(engine, &change.container, &change.end, mac)?;
    }
    engine.raise(&topology)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes down the link-layer address that a link will have, where it is by that that a container's journal knows it. The one that it has stays
/// there as well: the kernel can refuse the new one.
fn keep_known(
    engine: &Engine,
    container: &ContainerName,
    end: &End,
    mac: Mac,
) -> Result<(), EngineError> {
    let state = engine.root.load(container)?;
    let is_it = |link: &LastingLink| {
        link.interface == end.name
            && link.netns.is_none() == (end.at == Place::Host)
            && link.mac.is_some()
    };
    let known = state.undo.iter().filter_map(|deed| match deed {
        Undo::Link(link) if is_it(link) => Some(LastingLink {
            mac: Some(mac),
            ..link.clone()
        }),
        _ => None,
    });
    let known: Vec<Undo> = known.map(Undo::Link).collect();
    if known.is_empty() {
        return Ok(());
    }
    publish::journal(engine, &state, |undo| {
        for deed in known {
            if !undo.contains(&deed) {
                undo.push(deed);
            }
        }
    })
}

impl Set {
    fn changes_nothing(&self) -> bool {
        let looks = self.up || self.down || self.mtu.is_some() || self.mac.is_some();
        let lists = [
            self.addrs.len(),
            self.lost_addrs.len(),
            self.routes.len(),
            self.lost_routes.len(),
        ];
        !looks && lists.iter().all(|length| *length == 0)
    }

    /// Refuses what would not do, before anything is changed.
    fn check(
        &self,
        engine: &Engine,
        whose: &ContainerName,
        netlink: &Netlink,
        link: &Link,
    ) -> anyhow::Result<()> {
        let state = engine.root.load(whose).map_err(EngineError::from)?;
        let bad = |word: &IfAddr, why: String| {
            BadWord::new("address", word.to_string(), why, "10.0.0.1/24")
        };
        for addr in &self.lost_addrs {
            if !link.addrs.iter().any(|found| found.addr.ip == addr.ip) {
                return Err(bad(addr, format!("is not on {}", link.name)).into());
            }
            if let Some(lease) = state.leases().find(|lease| lease.ip == addr.ip) {
                let network = &lease.network;
                let why = format!(
                    "is leased from network {network}; `tincan network disconnect {network} {whose}` gives it back"
                );
                return Err(bad(addr, why).into());
            }
        }
        for (at, addr) in self.addrs.iter().enumerate() {
            check_address(addr)?;
            if self.addrs[..at].contains(addr) {
                return Err(bad(addr, "is given twice".to_owned()).into());
            }
            for lease in state.leases() {
                let network = engine.root.networks().load(&lease.network);
                let network = network.map_err(EngineError::from)?;
                if network
                    .subnets
                    .iter()
                    .any(|subnet| subnet.prefix.covers(addr.ip))
                {
                    let name = &network.name;
                    let why = format!(
                        "is for network {name} to lease; `tincan network connect {name},{} {whose}` asks for it",
                        addr.ip
                    );
                    return Err(bad(addr, why).into());
                }
            }
            let loses_it = self.lost_addrs.iter().any(|lost| lost.ip == addr.ip);
            if !loses_it && let Some(owner) = wire::owner_of(netlink, addr.ip)? {
                let place = if self.container.as_str() == HOST {
                    "on the host".to_owned()
                } else {
                    format!("in {whose}")
                };
                return Err(net::in_use(addr.ip, &place, &owner).into());
            }
        }
        let interfaces = engine.root.interfaces(&state);
        let is_on_parents = |it: &InterfaceRecord| {
            it.interface.as_str() == link.name && it.kind.is_on_parents_network()
        };
        if self.container.as_str() != HOST
            && interfaces
                .map_err(EngineError::from)?
                .iter()
                .any(is_on_parents)
        {
            net::check_unused(&*engine.host_netlink()?, &self.addrs, "on the host")?;
        }
        let is_kept = |addr: &IfAddr| !self.lost_addrs.iter().any(|lost| lost.ip == addr.ip);
        let is_lasting = |ip: IpAddr| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let stay = link.addrs.iter().map(|found| found.addr);
        let stay = stay.filter(|addr| is_kept(addr) && is_lasting(addr.ip));
        let all: Vec<IfAddr> = stay.chain(self.addrs.iter().copied()).collect();
        check_mtu(self.mtu.or(Some(link.mtu)), &all)?;
        Ok(())
    }
}

/// The other end of the wire whose end this is, if it is one's, and is to follow it: a port of a network's bridge is not, as it is not when a
/// container comes with an MTU of its own (`Network::wire`).
fn other_end(
    engine: &Engine,
    at: &Place,
    interface: &LinkName,
) -> anyhow::Result<Option<(Place, LinkName)>> {
    let container = match at {
        Place::Running(container) => Some(container),
        _ => None,
    };
    for (_, record) in records(engine)? {
        let [a, b] = &record.ends;
        for (near, far) in [(a, b), (b, a)] {
            if near.container.as_ref() == container && near.interface == *interface {
                if far.network.is_some() {
                    return Ok(None);
                }
                let place = far.container.clone().map_or(Place::Host, Place::Running);
                return Ok(Some((place, far.interface.clone())));
            }
        }
    }
    Ok(None)
}
