//! Networks of many containers: a bridge on the host, and what its containers get from it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::interface::KINDS;
use super::name::{BadWord, ContainerName, IfAddr, LinkName, Mac};
use super::net::{Publish, WireSpec};
use super::topology::{End, EndAddr, Place, Port, Route, Wire};

/// A network's name: what a container's may be, but for the words that `--net` knows already, and without the `.`, `:` and `/` of an
/// address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);

impl NetworkName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What its bridge is called: the same where that fits, else a part of it and a hash. No link has the names that stand for all of them in
    /// /proc/sys/net (`sysctl_dev_name_is_allowed`, net/core/sysctl_net_core.c).
    pub fn bridge(&self) -> LinkName {
        let is_allowed = !matches!(self.0.as_str(), "all" | "default");
        if let (Ok(name), true) = (self.0.parse(), is_allowed) {
            return name;
        }
        // FNV-1a, as for the host's ends of wires.
        let hash = self.0.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        let start: String = self.0.chars().take(6).collect();
        format!("{start}-{hash:08x}")
            .parse()
            .expect("at most 15 letters and digits")
    }
}

impl FromStr for NetworkName {
    type Err = BadWord;
    fn from_str(word: &str) -> Result<Self, BadWord> {
        let bad = |why: &str| Err(BadWord::new("network name", word, why, "lan0"));
        if let Err(error) = word.parse::<ContainerName>() {
            return bad(&error.why);
        }
        let reserved = ["none", "host", "pasta", "container", "ns"];
        if reserved.contains(&word) || KINDS.contains(&word) {
            return bad("means something else as a value of --net");
        }
        if word.contains('.') {
            return bad("has a '.', as an address has");
        }
        Ok(NetworkName(word.to_owned()))
    }
}

impl TryFrom<String> for NetworkName {
    type Error = BadWord;
    fn try_from(word: String) -> Result<Self, BadWord> {
        word.parse()
    }
}

impl From<NetworkName> for String {
    fn from(name: NetworkName) -> String {
        name.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A network, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// Its bridge on the host.
    pub bridge: LinkName,
    /// Its prefixes, at most one of each family.
    pub subnets: Vec<Subnet>,
    /// No way out, and no default route.
    pub internal: bool,
    /// Its ports do not reach each other.
    pub isolate: bool,
    /// The MTU of the bridge and all ends, in bytes; 1500, if nothing is said.
    pub mtu: Option<u32>,
    /// Routes of every container on it.
    pub routes: Vec<Route>,
    /// The networks whose containers reach those of this one.
    pub allow: Vec<NetworkName>,
    /// Whether somebody answers DNS for its containers, at the gateways.
    #[serde(default)]
    pub dns: bool,
}

/// Where a container of these networks asks DNS: first where more than the network's own names are known.
pub fn gateways(networks: &[&Network]) -> Vec<IpAddr> {
    let of = |internal| {
        let such = move |network: &&&Network| network.dns && network.internal == internal;
        networks
            .iter()
            .filter(such)
            .flat_map(|network| &network.subnets)
    };
    of(false).chain(of(true)).map(|it| it.gateway).collect()
}

/// A prefix of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The prefix.
    pub prefix: IfAddr,
    /// The host's address in it: its first one.
    pub gateway: IpAddr,
}

impl Subnet {
    /// The subnet of a prefix.
    ///
    /// # Errors
    /// Where there is no room for the host and a container.
    pub fn of(prefix: IfAddr) -> Result<Self, BadWord> {
        let bad = |why: &str| BadWord::new("subnet", prefix.to_string(), why, "10.9.0.0/24");
        if prefix.network() != prefix {
            return Err(bad("has bits beyond its prefix"));
        }
        // "This network" (RFC 1122, 3.2.1.3), and IPv4 addresses in IPv6 ones (RFC 4038, 4.2), are on no link.
        let is_on_none = match prefix.ip {
            IpAddr::V4(ip) => ip.octets()[0] == 0,
            IpAddr::V6(ip) => ip.is_unspecified() || ip.to_ipv4_mapped().is_some(),
        };
        if is_on_none || prefix.ip.is_multicast() || prefix.ip.is_loopback() {
            return Err(bad("is no prefix of hosts"));
        }
        let mut others = prefix.others();
        match (others.next(), others.next()) {
            (Some(gateway), Some(_)) => Ok(Subnet { prefix, gateway }),
            _ => Err(bad("has no room for the host and a container")),
        }
    }

    /// The gateway with the prefix's length, as the bridge has it.
    pub fn gateway_address(&self) -> IfAddr {
        IfAddr {
            ip: self.gateway,
            prefix: self.prefix.prefix,
        }
    }

    fn overlaps(&self, other: &Subnet) -> bool {
        self.prefix.covers(other.prefix.ip) || other.prefix.covers(self.prefix.ip)
    }
}

impl Network {
    /// Checks what the words of `network create` say together.
    ///
    /// # Errors
    /// [`BadWord`] with the word that is one too many, or missing.
    pub fn check(&self) -> Result<(), BadWord> {
        if self.subnets.is_empty() {
            let why = "has no --subnet";
            return Err(BadWord::new(
                "network",
                self.name.as_str(),
                why,
                "--subnet 10.9.0.0/24",
            ));
        }
        for (at, subnet) in self.subnets.iter().enumerate() {
            let same = |other: &Subnet| other.prefix.ip.is_ipv4() == subnet.prefix.ip.is_ipv4();
            if self.subnets[..at].iter().any(same) {
                let word = subnet.prefix.to_string();
                let why = "is a second subnet of one family";
                return Err(BadWord::new(
                    "subnet",
                    word,
                    why,
                    "10.9.0.0/24 and fd09::/64",
                ));
            }
        }
        self.check_routes(&self.routes)?;
        super::net::check_mtu(self.mtu, &self.prefixes())
    }

    /// Checks routes that containers are to have by this network.
    ///
    /// # Errors
    /// [`BadWord`] with what the kernel would refuse, or would not have two of.
    pub fn check_routes(&self, routes: &[Route]) -> Result<(), BadWord> {
        let bad =
            |word: String, why: &str| Err(BadWord::new("route", word, why, "10.1.0.0/16@10.9.0.2"));
        let prefixes = self.prefixes();
        for (at, route) in routes.iter().enumerate() {
            match route.via {
                Some(via) if !prefixes.iter().any(|prefix| prefix.covers(via)) => {
                    return bad(via.to_string(), "is a next hop outside the network");
                }
                _ => {}
            }
            let of_family = |prefix: &IfAddr| prefix.ip.is_ipv4() == route.to.ip.is_ipv4();
            if !prefixes.iter().any(of_family) {
                let why = "is of a family that the network has no subnet of";
                return bad(route.to.to_string(), why);
            }
            if prefixes.contains(&route.to) {
                return bad(route.to.to_string(), "is the network's own prefix");
            }
            if routes[..at].iter().any(|other| other.to == route.to) {
                return bad(route.to.to_string(), "is routed twice");
            }
        }
        Ok(())
    }

    fn prefixes(&self) -> Vec<IfAddr> {
        self.subnets.iter().map(|subnet| subnet.prefix).collect()
    }

    /// The first of this network's subnets that overlaps with one of another's.
    pub fn overlap(&self, other: &Network) -> Option<IfAddr> {
        let both = self
            .subnets
            .iter()
            .flat_map(|a| other.subnets.iter().map(move |b| (a, b)));
        both.into_iter()
            .find(|(a, b)| a.overlaps(b))
            .map(|(a, _)| a.prefix)
    }

    /// The route to everywhere that a container has by it: the one that is said, but for the next hop itself; else by the gateway, where that
    /// leads out.
    pub fn default_route(&self, v4: bool, own: &[IpAddr]) -> Option<Route> {
        let to = IfAddr::everything(v4);
        let is_said =
            |route: &&Route| route.to == to && route.via.is_none_or(|via| !own.contains(&via));
        if let Some(said) = self.routes.iter().find(is_said) {
            return Some(*said);
        }
        let mut subnets = self.subnets.iter();
        let subnet = subnets.find(|it| it.prefix.ip.is_ipv4() == v4)?;
        let via = Some(subnet.gateway);
        (!self.internal).then_some(Route { to, via })
    }

    /// Whether it carries IPv4, or IPv6.
    pub fn has_family(&self, v4: bool) -> bool {
        let mut prefixes = self.subnets.iter().map(|subnet| subnet.prefix);
        prefixes.any(|prefix| prefix.ip.is_ipv4() == v4)
    }

    /// Whether it carries IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.has_family(false)
    }

    /// Why a container cannot have this address on it, if so.
    ///
    /// # Errors
    /// [`BadWord`] with the reason.
    pub fn check_address(&self, ip: IpAddr) -> Result<(), BadWord> {
        let bad = |why: String| {
            Err(BadWord::new(
                "address",
                ip.to_string(),
                why,
                "lan0,10.9.0.7",
            ))
        };
        let name = &self.name;
        let Some(subnet) = self.subnets.iter().find(|subnet| subnet.prefix.covers(ip)) else {
            let subnets: Vec<_> = self
                .subnets
                .iter()
                .map(|it| it.prefix.to_string())
                .collect();
            return bad(format!(
                "is outside {name}, which is {}",
                subnets.join(" and ")
            ));
        };
        if subnet.gateway == ip {
            return bad(format!("is the host's own on {name}"));
        }
        let addr = IfAddr {
            ip,
            prefix: subnet.prefix.prefix,
        };
        match super::net::unfit(&addr) {
            Some(why) => bad(why.to_owned()),
            None => Ok(()),
        }
    }

    /// The wire of a container that has these addresses on it: its end, and a port of the bridge.
    pub fn wire(
        &self,
        spec: &NetworkSpec,
        addrs: &[IpAddr],
        at: Place,
        name: LinkName,
        port: PortEnd,
    ) -> Wire {
        let subnet_of = |ip: &IpAddr| self.subnets.iter().find(|it| it.prefix.covers(*ip));
        let on_link = addrs.iter().filter_map(|ip| {
            let addr = IfAddr {
                ip: *ip,
                prefix: subnet_of(ip)?.prefix.prefix,
            };
            Some(EndAddr {
                addr,
                peer: None,
                automatic: false,
            })
        });
        let own = &spec.wire.routes;
        let ways = [(true, port.default_v4), (false, port.default_v6)].into_iter();
        let ways = ways.filter(|(v4, leads)| *leads && addrs.iter().any(|ip| ip.is_ipv4() == *v4));
        let ways = ways.filter_map(|(v4, _)| self.default_route(v4, addrs));
        // A container's own routes are worth more than everybody's, and the next hop itself goes no further by them.
        let everybodys = self.routes.iter().copied().filter(|route| {
            let is_everything = route.to == IfAddr::everything(route.to.ip.is_ipv4());
            !is_everything && route.via.is_none_or(|via| !addrs.contains(&via))
        });
        let mut routes: Vec<Route> = everybodys.chain(ways).collect();
        routes.retain(|route| !own.iter().any(|other| other.to == route.to));
        routes.extend(own);
        let mtu = spec.wire.mtu.or(self.mtu);
        // The same for whoever has the address next: what others on the network know of it stays true.
        let mac_of = |ip: &IpAddr| Mac::of(&format!("{}/{ip}", self.name));
        let near = End {
            at,
            name,
            mac: spec.wire.mac.or_else(|| addrs.first().map(mac_of)),
            mtu,
            addrs: on_link.collect(),
            routes,
            alias: None,
            no_ipv6: !addrs.iter().any(IpAddr::is_ipv6),
            port: None,
        };
        let far = End {
            at: Place::Host,
            name: port.name,
            mac: None,
            // A bridge has the least MTU of its ports' (`br_mtu_auto_adjust`, net/bridge/br_if.c): a container's own is not everybody's.
            mtu: self.mtu,
            addrs: Vec::new(),
            routes: Vec::new(),
            alias: Some(port.alias),
            no_ipv6: true,
            port: Some(Port {
                network: self.name.clone(),
                bridge: self.bridge.clone(),
                isolated: self.isolate,
                reflects: false,
            }),
        };
        Wire { ends: [far, near] }
    }
}

/// An address of a network that a container has, until it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The network.
    pub network: NetworkName,
    /// The address.
    pub ip: IpAddr,
}

/// Ports of the host's that lead to a container, until it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The network by which they lead there.
    pub network: NetworkName,
    /// Which ports, and to which.
    pub publish: Publish,
    /// The container's addresses on that network, of the families that the ports are of.
    pub to: Vec<IpAddr>,
}

/// The host's end of a wire to a network.
pub struct PortEnd {
    /// Its name.
    pub name: LinkName,
    /// By which it tells whose it is.
    pub alias: String,
    /// The container's default route for IPv4 goes through this network, if that has one.
    pub default_v4: bool,
    /// That for IPv6 does.
    pub default_v6: bool,
}

/// A place on a network that is asked for: `NAME[,ADDR…][,key=value…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// The network.
    pub network: NetworkName,
    /// The addresses that are asked for, at most one of each family.
    pub addrs: Vec<IpAddr>,
    /// The container's end's looks and more routes of its own.
    pub wire: WireSpec,
}

impl FromStr for NetworkSpec {
    type Err = BadWord;
    fn from_str(value: &str) -> Result<Self, BadWord> {
        let bad = |word: &str, why: &str| BadWord::new("--net", word, why, "lan0,10.9.0.7");
        let mut words = value.split(',');
        let network = words.next().unwrap_or_default().parse()?;
        let mut addrs: Vec<IpAddr> = Vec::new();
        let mut wire = WireSpec::default();
        for word in words {
            match word.split_once('=') {
                None => {
                    let ip: IpAddr = word
                        .parse()
                        .map_err(|_| bad(word, "is neither an address nor a key=value"))?;
                    if addrs.iter().any(|other| other.is_ipv4() == ip.is_ipv4()) {
                        return Err(bad(word, "is a second address of one family"));
                    }
                    addrs.push(ip);
                }
                Some(("mac" | "mtu" | "name" | "route", _)) => {
                    wire.accept(word)?;
                }
                Some((key, _)) => return Err(bad(key, "is none of mac, mtu, name, route")),
            }
        }
        Ok(NetworkSpec {
            network,
            addrs,
            wire,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(subnets: &[&str]) -> Network {
        let name: NetworkName = "lan0".parse().unwrap();
        Network {
            bridge: name.bridge(),
            name,
            subnets: subnets
                .iter()
                .map(|it| Subnet::of(it.parse().unwrap()).unwrap())
                .collect(),
            internal: false,
            isolate: false,
            mtu: None,
            routes: Vec::new(),
            allow: Vec::new(),
            dns: false,
        }
    }

    #[test]
    fn a_bridge_has_the_networks_name_where_it_fits() {
        let bridge = |name: &str| name.parse::<NetworkName>().unwrap().bridge().to_string();
        assert_eq!(bridge("lan0"), "lan0");
        let long = bridge("a-network-of-twenty");
        assert!(long.starts_with("a-netw-") && long.len() == 15, "{long}");
        assert_ne!(long, bridge("a-network-of-thirty"));
        assert!(bridge("default").starts_with("defaul-") && bridge("all").starts_with("all-"));
    }

    #[test]
    fn words_that_mean_something_else_are_no_names() {
        for word in [
            "none", "host", "tap", "macvlan", "a.b", "a/b", "", "10.0.0.1",
        ] {
            assert!(word.parse::<NetworkName>().is_err(), "{word}");
        }
    }

    #[test]
    fn a_subnet_gives_the_host_its_first_address() {
        let subnet = Subnet::of("10.9.0.0/24".parse().unwrap()).unwrap();
        assert_eq!(subnet.gateway.to_string(), "10.9.0.1");
        let subnet = Subnet::of("fd09::/64".parse().unwrap()).unwrap();
        assert_eq!(subnet.gateway.to_string(), "fd09::1");
        for wrong in [
            "10.9.0.1/24",
            "10.9.0.0/32",
            "0.0.0.0/0",
            "224.0.0.0/24",
            "127.0.0.0/8",
        ] {
            assert!(Subnet::of(wrong.parse().unwrap()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn subnets_that_overlap_are_found() {
        let one = network(&["10.9.0.0/24", "fd09::/64"]);
        for (other, overlaps) in [
            ("10.9.0.128/25", true),
            ("10.0.0.0/8", true),
            ("10.9.1.0/24", false),
            ("fd09::/48", true),
            ("fd08::/64", false),
        ] {
            assert_eq!(
                one.overlap(&network(&[other])).is_some(),
                overlaps,
                "{other}"
            );
        }
    }

    #[test]
    fn an_address_outside_or_of_the_hosts_is_refused() {
        let one = network(&["10.9.0.0/24", "fd09::/64"]);
        for (ip, right) in [
            ("10.9.0.7", true),
            ("fd09::7", true),
            ("10.9.0.1", false),
            ("10.9.1.7", false),
            ("10.9.0.255", false),
            ("10.9.0.0", false),
            ("fd08::7", false),
            ("fd09::1", false),
        ] {
            assert_eq!(
                one.check_address(ip.parse().unwrap()).is_ok(),
                right,
                "{ip}"
            );
        }
    }

    #[test]
    fn the_wrong_word_is_named() {
        for (value, word) in [
            ("lan0,10.9.0.7/24", "10.9.0.7/24"),
            ("lan0,10.9.0.7,10.9.0.8", "10.9.0.8"),
            ("lan0,gw=10.9.0.1", "gw"),
            ("lan0,mac=x", "x"),
            ("lan.0", "lan.0"),
        ] {
            assert_eq!(
                value.parse::<NetworkSpec>().unwrap_err().word,
                word,
                "{value}"
            );
        }
    }
}
