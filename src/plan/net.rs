//! `--net` and the ends of `pair`: the grammar, and the wires that it asks for.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::interface::{self, InterfaceKind, InterfaceSpec};
use super::name::{BadWord, ContainerName, IfAddr, LinkName, Mac};
use super::network::NetworkSpec;
use super::topology::{End, EndAddr, Place, Route, Wire};

/// One value of `--net`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetSpec {
    /// A wire.
    Wire(Box<WireSpec>),
    /// An interface of another kind.
    Interface(Box<InterfaceSpec>),
    /// A place on a network.
    Network(Box<NetworkSpec>),
    /// A network namespace with `lo` alone.
    None,
    /// The namespace that tincan runs in.
    Host,
    /// The outside, by pasta(1): for users who are not root.
    Pasta,
    /// The namespace of a running container.
    Container(ContainerName),
    /// The namespace of this name (ip-netns(8)), or behind this path.
    Namespace(PathBuf),
}

/// A wire from the new container to the host, or to a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WireSpec {
    /// The addresses of the container's end, in their order.
    pub addrs: Vec<IfAddr>,
    /// Where the other end is; the host, if nothing is said.
    pub to: Option<ContainerName>,
    /// The other end's addresses, at most one for each family.
    pub peers: Vec<IfAddr>,
    /// The container's end's link-layer address.
    pub mac: Option<Mac>,
    /// The MTU of both ends, in bytes.
    pub mtu: Option<u32>,
    /// The default gateways, at most one for each family.
    pub gateways: Vec<IpAddr>,
    /// More routes.
    pub routes: Vec<Route>,
    /// The name of the container's end; `eth<n>` for the n-th value, if nothing is said.
    pub name: Option<LinkName>,
}

/// One end of `pair`: `NAME=ADDR[,ADDR…][,key=value…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairEnd {
    /// The container's name.
    pub container: ContainerName,
    /// Its end of the wire.
    pub wire: WireSpec,
    /// Its root file system, where not the host's.
    pub rootfs: Option<PathBuf>,
}

const EXAMPLE: &str = "172.16.0.1/16,peer=172.16.0.2";

impl FromStr for NetSpec {
    type Err = BadWord;
    fn from_str(value: &str) -> Result<Self, BadWord> {
        let bad = |word: &str, why: &str| BadWord::new("--net", word, why, EXAMPLE);
        match value {
            "" => return Err(bad(value, "is empty")),
            "none" => return Ok(NetSpec::None),
            "host" => return Ok(NetSpec::Host),
            "pasta" => return Ok(NetSpec::Pasta),
            _ => {}
        }
        if let Some(name) = value.strip_prefix("container:") {
            return Ok(NetSpec::Container(name.parse()?));
        }
        if let Some(name) = value.strip_prefix("ns:") {
            return match name {
                "" | "." | ".." => Err(BadWord::new(
                    "--net",
                    value,
                    "names no namespace",
                    "ns:blue",
                )),
                name if name.contains(',') => Err(BadWord::new(
                    "--net",
                    value,
                    "has words after the namespace, which takes none",
                    "ns:blue",
                )),
                path if path.contains('/') => Ok(NetSpec::Namespace(PathBuf::from(path))),
                name => Ok(NetSpec::Namespace(PathBuf::from("/run/netns").join(name))),
            };
        }
        if interface::kind_of(value).is_some() {
            return Ok(NetSpec::Interface(Box::new(value.parse()?)));
        }
        // A name has none of what addresses and keys are told by.
        let head = value.split(',').next().unwrap_or_default();
        if !head.is_empty() && !head.contains(['.', ':', '/', '=']) {
            return Ok(NetSpec::Network(Box::new(value.parse()?)));
        }
        let mut spec = WireSpec::default();
        for word in value.split(',') {
            if !spec.accept(word)? {
                return Err(bad(
                    word,
                    "is neither an address nor a key=value, nor none, host, pasta, container:NAME or ns:NAME",
                ));
            }
        }
        spec.check(value)?;
        Ok(NetSpec::Wire(Box::new(spec)))
    }
}

/// Ports of the host's that lead into a container: `[ADDR:]PORT[-PORT][:PORT[-PORT]][/tcp|udp|sctp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Publish {
    /// The host's address that they are at; without, all of them.
    pub address: Option<IpAddr>,
    /// The host's ports.
    pub ports: PortRange,
    /// The container's port for the first of them; the others follow.
    pub container_port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// Ports that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, not before it.
    pub last: u16,
}

/// What ports are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Ports of the host's that the kernel can be told of at once: all of them lead to one port, or each to its own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortPiece {
    /// The host's ports.
    pub ports: PortRange,
    /// The container's port; none where each keeps its number.
    pub to: Option<u16>,
}

/// Ports that somebody has, whatever their addresses: by it, most of those that do not overlap are told apart at once.
#[derive(Debug, Clone)]
pub struct PortSet([Vec<u64>; 3]);

impl Default for PortSet {
    fn default() -> Self {
        PortSet([(); 3].map(|()| vec![0; 65536 / 64]))
    }
}

impl PortSet {
    /// Adds the ports.
    pub fn insert(&mut self, publish: &Publish) {
        let words = &mut self.0[publish.protocol as usize];
        for (word, bits) in publish.ports.words() {
            words[word] |= bits;
        }
    }

    /// Whether one of the ports is in it.
    pub fn meets(&self, publish: &Publish) -> bool {
        let words = &self.0[publish.protocol as usize];
        let mut own = publish.ports.words();
        own.any(|(word, bits)| words[word] & bits != 0)
    }
}

impl PortRange {
    /// The range as bits of words of 64.
    fn words(self) -> impl Iterator<Item = (usize, u64)> {
        let (first, last) = (usize::from(self.first), usize::from(self.last));
        (first / 64..=last / 64).map(move |word| {
            let low = first.saturating_sub(word * 64);
            let high = (last - word * 64).min(63);
            (word, (u64::MAX << low) & (u64::MAX >> (63 - high)))
        })
    }

    /// Whether they have a port in common.
    pub fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn parse(word: &str) -> Result<Self, BadWord> {
        let bad = |word: &str, why| BadWord::new("--publish", word, why, "8080:80");
        let port = |word: &str| match word.parse() {
            Ok(0) | Err(_) => Err(bad(word, "is no port, which go from 1 to 65535")),
            Ok(port) => Ok(port),
        };
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let range = PortRange {
            first: port(first)?,
            last: port(last)?,
        };
        if range.last < range.first {
            return Err(bad(word, "ends before it begins"));
        }
        Ok(range)
    }

    fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last == self.first {
            return Ok(());
        }
        write!(f, "-{}", self.last)
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

impl FromStr for Publish {
    type Err = BadWord;
    fn from_str(value: &str) -> Result<Self, BadWord> {
        let bad = |word: &str, why: &str| BadWord::new("--publish", word, why, "8080:80");
        let (rest, protocol) = match value.split_once('/') {
            None | Some((_, "tcp")) => (value.split('/').next().unwrap_or(value), Protocol::Tcp),
            Some((rest, "udp")) => (rest, Protocol::Udp),
            Some((rest, "sctp")) => (rest, Protocol::Sctp),
            Some((_, other)) => return Err(bad(other, "is none of tcp, udp, sctp")),
        };
        // An IPv6 address has colons of its own, and stands in brackets.
        let (address, ports) = match rest
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]:"))
        {
            Some((address, ports)) => (Some(address), ports),
            None => match rest.split_once(':') {
                Some((address, ports)) if address.parse::<IpAddr>().is_ok() => {
                    (Some(address), ports)
                }
                _ => (None, rest),
            },
        };
        let address = address
            .map(|word| word.parse().map_err(|_| bad(word, "is no address")))
            .transpose()?;
        let (outer, inner) = match ports.split_once(':') {
            None => (ports, None),
            Some((outer, inner)) => (outer, Some(inner)),
        };
        let ports = PortRange::parse(outer)?;
        let container_port = match inner {
            None => ports.first,
            Some(word) => {
                let range = PortRange::parse(word)?;
                if word.contains('-') && range.count() != ports.count() {
                    return Err(bad(word, "has not as many ports as the host's range"));
                }
                range.first
            }
        };
        if u32::from(container_port) + ports.count() > 65536 {
            let word = container_port.to_string();
            return Err(bad(
                &word,
                "has not as many ports after it as the host's range",
            ));
        }
        Ok(Publish {
            address,
            ports,
            container_port,
            protocol,
        })
    }
}

impl TryFrom<String> for Publish {
    type Error = BadWord;
    fn try_from(word: String) -> Result<Self, BadWord> {
        word.parse()
    }
}

impl From<Publish> for String {
    fn from(publish: Publish) -> String {
        publish.to_string()
    }
}

impl std::fmt::Display for Publish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(address) => write!(f, "{address}:")?,
            None => {}
        }
        write!(f, "{}:{}", self.ports, self.container_ports())?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            other => write!(f, "/{other}"),
        }
    }
}

impl Publish {
    /// The container's ports.
    pub fn container_ports(&self) -> PortRange {
        PortRange {
            first: self.container_port,
            last: self.container_port + (self.ports.last - self.ports.first),
        }
    }

    /// Whether it is of this family, or of both.
    pub fn is_of(&self, v4: bool) -> bool {
        self.address.is_none_or(|address| address.is_ipv4() == v4)
    }

    /// Whether a port of the host's is of both, which then cannot be led to two places.
    pub fn overlaps(&self, other: &Publish) -> bool {
        let same_address = match (self.address, other.address) {
            (Some(ours), Some(theirs)) => {
                let any = ours.is_unspecified() || theirs.is_unspecified();
                ours == theirs || (any && ours.is_ipv4() == theirs.is_ipv4())
            }
            _ => true,
        };
        self.protocol == other.protocol && same_address && self.ports.overlaps(other.ports)
    }

    /// The ports as the kernel can be told of them: a range that keeps its numbers is one piece, another one a piece for each port.
    pub fn pieces(&self) -> Vec<PortPiece> {
        let PortRange { first, last } = self.ports;
        if last > first && self.container_port == first {
            return vec![PortPiece {
                ports: self.ports,
                to: None,
            }];
        }
        let piece = |port: u16| PortPiece {
            ports: PortRange {
                first: port,
                last: port,
            },
            to: Some(self.container_port + (port - first)),
        };
        (first..=last).map(piece).collect()
    }
}

/// A container's way to the outside by pasta(1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outside {
    /// The ports of the machine that lead into the container.
    pub publish: Vec<Publish>,
}

impl Outside {
    /// The arguments of pasta(1) that say so: it gives the container the machine's address and routes, leads nowhere but
    /// where it is told, and back from the container to none of the machine's own ports.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["--config-net", "--quiet", "--no-map-gw"]
            .map(str::to_owned)
            .into();
        for (option, protocol) in [("-t", Protocol::Tcp), ("-u", Protocol::Udp)] {
            let published: Vec<&Publish> = self
                .publish
                .iter()
                .filter(|it| it.protocol == protocol)
                .collect();
            if published.is_empty() {
                arguments.extend([option.to_owned(), "none".to_owned()]);
            }
            for it in published {
                let address = it
                    .address
                    .map_or(String::new(), |address| format!("{address}/"));
                arguments.push(option.to_owned());
                arguments.push(format!("{address}{}:{}", it.ports, it.container_ports()));
            }
        }
        arguments.extend(["-T", "none", "-U", "none"].map(str::to_owned));
        arguments
    }
}

/// What `link add` gives a running container: an end of a wire, or an interface of another kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEnd {
    /// `NAME=ADDR[,…]`.
    Wire(PairEnd),
    /// `NAME=KIND[:ARGUMENT][,…]`.
    Interface(ContainerName, Box<InterfaceSpec>),
}

impl FromStr for LinkEnd {
    type Err = BadWord;
    fn from_str(value: &str) -> Result<Self, BadWord> {
        match value.split_once('=') {
            Some((name, rest)) if interface::kind_of(rest).is_some() => {
                Ok(LinkEnd::Interface(name.parse()?, Box::new(rest.parse()?)))
            }
            Some((name, rest)) if rest.parse::<NetworkSpec>().is_ok() => {
                let why = format!(
                    "is a place on a network, where `tincan network connect {rest} {name}` puts a container"
                );
                Err(BadWord::new("end", rest, why, "ns1=172.16.0.1/16"))
            }
            _ => value.parse().map(LinkEnd::Wire),
        }
    }
}

impl FromStr for PairEnd {
    type Err = BadWord;
    fn from_str(value: &str) -> Result<Self, BadWord> {
        const EXAMPLE: &str = "ns1=172.16.0.1/16";
        let bad = |word: &str, why: &str| BadWord::new("end", word, why, EXAMPLE);
        let (name, rest) = value
            .split_once('=')
            .ok_or_else(|| bad(value, "has no `=` after the container's name"))?;
        let container = name.parse()?;
        let mut wire = WireSpec::default();
        let mut rootfs = None;
        for word in rest.split(',') {
            match word.split_once('=') {
                Some(("rootfs", "")) => return Err(bad(word, "names no directory")),
                Some(("rootfs", dir)) => {
                    if rootfs.replace(PathBuf::from(dir)).is_some() {
                        return Err(bad(word, "is given twice"));
                    }
                }
                Some(("to" | "peer", _)) => {
                    return Err(bad(
                        word,
                        "has no place in a pair: its two ends are each other's peers",
                    ));
                }
                _ if wire.accept(word)? => {}
                _ => return Err(bad(word, "is neither an address nor a key=value")),
            }
        }
        wire.check(value)?;
        Ok(PairEnd {
            container,
            wire,
            rootfs,
        })
    }
}

impl WireSpec {
    /// Takes one word of the value; `false` when it is none of a wire's.
    pub(super) fn accept(&mut self, word: &str) -> Result<bool, BadWord> {
        let twice = || BadWord::new("key", word, "is given twice", EXAMPLE);
        let Some((key, value)) = word.split_once('=') else {
            let is_kind = interface::KINDS.iter().any(|kind| word.starts_with(kind));
            if !word.contains(['.', ':', '/']) || is_kind {
                return Ok(false);
            }
            self.addrs.push(word.parse()?);
            return Ok(true);
        };
        match key {
            "to" => {
                if self.to.replace(value.parse()?).is_some() {
                    return Err(twice());
                }
            }
            "peer" => self.peers.push(value.parse()?),
            "mac" => {
                if self.mac.replace(value.parse()?).is_some() {
                    return Err(twice());
                }
            }
            "mtu" => {
                if self.mtu.replace(parse_mtu(value)?).is_some() {
                    return Err(twice());
                }
            }
            "gw" => self.gateways.push(value.parse().map_err(|_| {
                BadWord::new("gateway", value, "is no IP address", "gw=172.16.0.2")
            })?),
            "route" => self.routes.push(parse_route(value)?),
            "name" => {
                let name: LinkName = value.parse()?;
                if name.as_str() == "lo" {
                    return Err(BadWord::new(
                        "interface name",
                        value,
                        "is the loopback's",
                        "name=eth0",
                    ));
                }
                if self.name.replace(name).is_some() {
                    return Err(twice());
                }
            }
            _ => {
                return Err(BadWord::new(
                    "key",
                    key,
                    "is none of mac, mtu, gw, route, name, to, peer",
                    EXAMPLE,
                ));
            }
        }
        Ok(true)
    }

    /// Checks what the words say together.
    fn check(&self, value: &str) -> Result<(), BadWord> {
        let bad = |word: String, why: &str| Err(BadWord::new("--net", word, why, EXAMPLE));
        if self.addrs.is_empty() {
            return bad(value.to_owned(), "has no address");
        }
        self.check_words()
    }

    /// The same for an interface, which need not have an address.
    pub(super) fn check_words(&self) -> Result<(), BadWord> {
        let bad = |word: String, why: &str| Err(BadWord::new("--net", word, why, EXAMPLE));
        for (at, addr) in self.addrs.iter().enumerate() {
            if let Some(why) = unfit(addr) {
                return bad(addr.to_string(), why);
            }
            if self.addrs[..at].iter().any(|other| other.ip == addr.ip) {
                return bad(addr.to_string(), "is given twice");
            }
        }
        for (at, peer) in self.peers.iter().enumerate() {
            if self.first_of(peer.ip).is_none() {
                return bad(
                    peer.to_string(),
                    "is a peer of another family than the address",
                );
            }
            if self.addrs.iter().any(|addr| addr.ip == peer.ip) {
                return bad(peer.to_string(), "is the address of both ends");
            }
            if let Some(why) = unfit(peer) {
                return bad(peer.to_string(), why);
            }
            if self.peers[..at]
                .iter()
                .any(|other| other.ip.is_ipv4() == peer.ip.is_ipv4())
            {
                return bad(peer.to_string(), "is a second peer of one family");
            }
        }
        let is_own = |ip: IpAddr| self.addrs.iter().any(|addr| addr.ip == ip);
        let reached = |ip: IpAddr| {
            self.addrs.iter().any(|addr| addr.covers(ip))
                || self.peers.iter().any(|peer| peer.ip == ip)
        };
        for (at, gateway) in self.gateways.iter().enumerate() {
            if is_own(*gateway) {
                return bad(gateway.to_string(), "is a gateway at the end's own address");
            }
            if !reached(*gateway) {
                return bad(gateway.to_string(), "is a gateway outside the prefix");
            }
            if self.gateways[..at]
                .iter()
                .any(|other| other.is_ipv4() == gateway.is_ipv4())
            {
                return bad(gateway.to_string(), "is a second gateway of one family");
            }
        }
        for (at, route) in self.routes.iter().enumerate() {
            match route.via {
                Some(via) if is_own(via) => {
                    return bad(via.to_string(), "is a next hop at the end's own address");
                }
                Some(via) if !reached(via) => {
                    return bad(via.to_string(), "is a next hop outside the prefix");
                }
                _ => {}
            }
            let default = |ip: &IpAddr| route.to == IfAddr::everything(ip.is_ipv4());
            if self.gateways.iter().any(default)
                || self.routes[..at].iter().any(|other| other.to == route.to)
            {
                return bad(route.to.to_string(), "is routed twice");
            }
        }
        check_mtu(self.mtu, &self.addrs)
    }

    /// This end, in a new or a running container. An address of the far end's that is outside the prefixes gets a host route.
    pub(super) fn near_end(
        &self,
        at: Place,
        name: LinkName,
        far: &[IpAddr],
        mtu: Option<u32>,
    ) -> End {
        let mut routes: Vec<Route> = far
            .iter()
            .filter(|ip| self.first_of(**ip).is_some())
            .filter(|ip| !self.addrs.iter().any(|addr| addr.covers(**ip)))
            .map(|ip| Route {
                to: IfAddr::host(*ip),
                via: None,
            })
            .collect();
        routes.retain(|route| !self.routes.iter().any(|given| given.to == route.to));
        routes.extend(self.routes.iter().copied());
        for via in &self.gateways {
            routes.push(Route {
                to: IfAddr::everything(via.is_ipv4()),
                via: Some(*via),
            });
        }
        End {
            mac: self.mac,
            mtu,
            addrs: self.addrs.iter().copied().map(EndAddr::on_link).collect(),
            routes,
            ..End::bare(at, name)
        }
    }

    /// The first address of an address's family.
    fn first_of(&self, ip: IpAddr) -> Option<&IfAddr> {
        let mut addrs = self.addrs.iter();
        addrs.find(|addr| addr.ip.is_ipv4() == ip.is_ipv4())
    }

    /// The wire of this value, from node `node` to `far`. The far end's address, where none is given, is the next one of the
    /// first prefix of each family that `is_free`; each address of the container's has a host route there, so that two
    /// containers of one prefix do not hide one another.
    ///
    /// # Errors
    /// [`BadWord`] when a prefix has no free address; what `is_free` says.
    pub fn wire<E: From<BadWord>>(
        &self,
        node: usize,
        own_name: LinkName,
        far: FarEnd,
        mut is_free: impl FnMut(IpAddr) -> Result<bool, E>,
    ) -> Result<Wire, E> {
        let mut addrs: Vec<EndAddr> = Vec::new();
        let mut routes = Vec::new();
        for addr in &self.addrs {
            let same_family = |ip: IpAddr| ip.is_ipv4() == addr.ip.is_ipv4();
            if addrs.iter().any(|other| same_family(other.addr.ip)) {
                // An address can have but one peer on a link: for IPv6, the kernel refuses it a second time.
                routes.push(Route {
                    to: IfAddr::host(addr.ip),
                    via: None,
                });
                continue;
            }
            let given = self.peers.iter().find(|peer| same_family(peer.ip));
            let ip = match given {
                Some(peer) => peer.ip,
                None => self.next_free(addr, &mut is_free)?,
            };
            addrs.push(EndAddr {
                addr: IfAddr::host(ip),
                peer: Some(addr.ip),
                automatic: given.is_none(),
            });
        }
        let far_ips: Vec<IpAddr> = addrs.iter().map(|addr| addr.addr.ip).collect();
        let far = End {
            no_ipv6: has_no_ipv6(&far.at, &self.addrs, self.mtu),
            at: far.at,
            name: far.name,
            mac: None,
            mtu: self.mtu,
            addrs,
            routes,
            alias: far.alias,
            port: None,
        };
        let near = self.near_end(Place::Node(node), own_name, &far_ips, self.mtu);
        Ok(Wire { ends: [far, near] })
    }

    fn next_free<E: From<BadWord>>(
        &self,
        addr: &IfAddr,
        is_free: &mut impl FnMut(IpAddr) -> Result<bool, E>,
    ) -> Result<IpAddr, E> {
        for ip in addr.others() {
            if !self.addrs.iter().any(|own| own.ip == ip) && is_free(ip)? {
                return Ok(ip);
            }
        }
        Err(BadWord::new(
            "address",
            addr.to_string(),
            "has no free address for the other end in its prefix",
            "172.16.0.1/32,peer=172.16.0.2",
        )
        .into())
    }
}

/// Where the far end of a `--net` wire is, and what it is called there.
pub struct FarEnd {
    /// The host, or a running container.
    pub at: Place,
    /// Its interface's name.
    pub name: LinkName,
    /// Its interface's alias.
    pub alias: Option<String>,
}

/// The wire of a pair: both ends with their prefixes on it, and with the MTU that either asks for.
///
/// # Errors
/// [`BadWord`] when both have the same address, none of one family, or another MTU.
pub fn pair_wire(ends: [(&PairEnd, Place, LinkName); 2]) -> Result<Wire, BadWord> {
    const EXAMPLE: &str = "ns1=172.16.0.1/16 ns2=172.16.0.2/16";
    let [a, b] = ends.each_ref().map(|(end, _, _)| &end.wire);
    let bad = |what, word: String, why| Err(BadWord::new(what, word, why, EXAMPLE));
    let at_both = |addr: &&IfAddr| b.addrs.iter().any(|other| other.ip == addr.ip);
    if let Some(same) = a.addrs.iter().find(at_both) {
        return bad("address", same.to_string(), "is given to both ends");
    }
    if !a.addrs.iter().any(|addr| b.first_of(addr.ip).is_some()) {
        let why = "is of a family that the other end has no address of";
        return bad("address", b.addrs[0].to_string(), why);
    }
    if let (Some(ours), Some(theirs)) = (a.mtu, b.mtu)
        && ours != theirs
    {
        let why = "is not the MTU of the other end, and a wire has one";
        return Err(BadWord::new("mtu", theirs.to_string(), why, "mtu=1500"));
    }
    let mtu = a.mtu.or(b.mtu);
    check_mtu(mtu, &a.addrs)?;
    check_mtu(mtu, &b.addrs)?;
    let ips = [b, a].map(|far| far.addrs.iter().map(|addr| addr.ip).collect::<Vec<_>>());
    let mut ips = ips.into_iter();
    Ok(Wire {
        ends: ends.map(|(end, at, name)| {
            let far = ips.next().unwrap_or_default();
            let no_ipv6 = has_no_ipv6(&at, &end.wire.addrs, mtu);
            End {
                no_ipv6,
                ..end.wire.near_end(at, name, &far, mtu)
            }
        }),
    })
}

/// An MTU in bytes: what IPv4 needs at least (RFC 791, 3.2), to what a frame of the kernel's virtual links has at most.
///
/// # Errors
/// [`BadWord`] for what is none.
pub fn parse_mtu(value: &str) -> Result<u32, BadWord> {
    let mtu = value.parse::<u32>().ok();
    mtu.filter(|mtu| (68..=65535).contains(mtu) && !value.starts_with('+'))
        .ok_or_else(|| BadWord::new("mtu", value, "is no number from 68 to 65535", "mtu=1500"))
}

/// Refuses an address that no interface on a wire can have.
///
/// # Errors
/// [`BadWord`] for the address.
pub fn check_address(addr: &IfAddr) -> Result<(), BadWord> {
    match unfit(addr) {
        None => Ok(()),
        Some(why) => Err(BadWord::new(
            "address",
            addr.to_string(),
            why,
            "10.0.0.1/24",
        )),
    }
}

/// A route, as `PREFIX` or `PREFIX@HOP`; to everywhere also as `default@HOP`, as ip-route(8) has it.
///
/// # Errors
/// [`BadWord`] for what is neither.
pub fn parse_route(value: &str) -> Result<Route, BadWord> {
    let (to, via) = value
        .split_once('@')
        .map_or((value, None), |(to, via)| (to, Some(via)));
    let bad = |why| BadWord::new("route", value, why, "route=10.0.0.0/8@172.16.0.2");
    let via: Option<IpAddr> = via
        .map(str::parse)
        .transpose()
        .map_err(|_| bad("has a next hop that is no IP address"))?;
    let to: IfAddr = match (to, via) {
        ("default", Some(via)) => IfAddr::everything(via.is_ipv4()),
        _ => to.parse().map_err(|_| bad("has no prefix to go to"))?,
    };
    if via.is_some_and(|via| via.is_ipv4() != to.ip.is_ipv4()) {
        return Err(bad("mixes IPv4 and IPv6"));
    }
    Ok(Route {
        to: to.network(),
        via,
    })
}

/// Whether IPv6 is off on an end: [`End::no_ipv6`]. With an MTU that is too small for it, it is so already.
fn has_no_ipv6(at: &Place, addrs: &[IfAddr], mtu: Option<u32>) -> bool {
    *at == Place::Host
        && addrs.iter().all(|addr| addr.ip.is_ipv4())
        && mtu.is_none_or(|mtu| mtu >= IPV6_MIN_MTU)
}

/// The least MTU of a link that carries IPv6, in bytes (RFC 8200, 5).
const IPV6_MIN_MTU: u32 = 1280;

/// Refuses an MTU that is too small for an address.
///
/// # Errors
/// [`BadWord`] for the MTU.
pub fn check_mtu(mtu: Option<u32>, addrs: &[IfAddr]) -> Result<(), BadWord> {
    match mtu {
        Some(mtu) if mtu < IPV6_MIN_MTU && addrs.iter().any(|addr| addr.ip.is_ipv6()) => {
            let why = "is under the 1280 that IPv6 needs";
            Err(BadWord::new("mtu", mtu.to_string(), why, "mtu=1500"))
        }
        _ => Ok(()),
    }
}

/// Why no interface on a wire can have this address, if so.
pub(super) fn unfit(addr: &IfAddr) -> Option<&'static str> {
    let last = match (addr.ip, addr.network().ip) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let hosts = u32::MAX.checked_shr(u32::from(addr.prefix)).unwrap_or(0);
            u32::from(ip) == u32::from(network) | hosts
        }
        _ => false,
    };
    // The two addresses of a /31 and a /127 are both hosts' (RFC 3021, RFC 6164).
    let has_edges = addr.prefix < addr.bits() - 1;
    match addr.ip {
        ip if ip.is_unspecified() || ip.is_multicast() => Some("is no address of a host"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("is no address of a host"),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            Some("is an IPv4 address in an IPv6 one, which is on no wire (RFC 4038, 4.2)")
        }
        ip if ip.is_loopback() => Some("is a loopback address, which only lo has"),
        _ if has_edges && last => Some("is the broadcast address of its prefix"),
        ip if has_edges && ip == addr.network().ip => Some("is the address of its prefix itself"),
        _ => None,
    }
}

/// What the host's end of a container's n-th wire is called: after the container where that fits, else after a hash of it.
/// `attempt` counts the names that were taken.
pub fn host_link_name(container: &ContainerName, index: usize, attempt: u32) -> LinkName {
    let plain = match index {
        0 => format!("veth-{container}"),
        n => format!("veth-{container}.{n}"),
    };
    if attempt == 0
        && let Ok(name) = plain.parse()
    {
        return name;
    }
    hashed_link_name(&format!("{plain}/{attempt}"))
}

/// A name for the host's end of a wire, the same for the same text.
pub fn hashed_link_name(text: &str) -> LinkName {
    // FNV-1a, 64 bits: stable over versions and machines, which the standard library's hasher is not.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("veth-{:010x}", hash & 0xff_ffff_ffff)
        .parse()
        .expect("15 bytes of letters and digits")
}

/// The alias of a host's end: by it anybody sees, and `tincan` finds again, whose it is.
/// The state root is in it, since two roots may have containers of one name.
pub fn host_link_alias(container: &ContainerName, interface: &LinkName, root: &Path) -> String {
    format!("tincan:{container}/{interface}@{}", root.display())
}

/// The container and the state root of a host link's alias.
pub fn alias_container(alias: &str) -> Option<(ContainerName, PathBuf)> {
    let (link, root) = alias.strip_prefix("tincan:")?.split_once('@')?;
    let (container, _) = link.split_once('/')?;
    Some((container.parse().ok()?, PathBuf::from(root)))
}

/// The name of the n-th wire's end in a container, where none is given.
pub fn default_name(index: usize) -> LinkName {
    format!("eth{index}").parse().expect("a short name")
}

/// Checks the values of `--net` against each other: a namespace that is somebody else's takes no wires, and two interfaces
/// cannot have one name, nor two ends one address.
///
/// # Errors
/// [`BadWord`] with the value that is one too many.
pub fn check_together(specs: &[NetSpec]) -> Result<(), BadWord> {
    let mut names = Vec::new();
    let mut addrs = Vec::new();
    let mut routes = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let Some(wire) = spec.words() else {
            if specs.len() > 1 {
                return Err(BadWord::new(
                    "--net",
                    spec.word(),
                    "does not go together with another --net",
                    "--net none",
                ));
            }
            continue;
        };
        let name = wire.name.clone().unwrap_or_else(|| default_name(index));
        if names.contains(&name) {
            return Err(BadWord::new(
                "interface name",
                name.as_str(),
                "is given to two interfaces",
                "name=eth1",
            ));
        }
        names.push(name);
        for addr in wire.addrs.iter().chain(&wire.peers) {
            if addrs.contains(&addr.ip) {
                return Err(BadWord::new(
                    "address",
                    addr.to_string(),
                    "is given to two interfaces",
                    EXAMPLE,
                ));
            }
            addrs.push(addr.ip);
        }
        let defaults = wire
            .gateways
            .iter()
            .map(|ip| IfAddr::everything(ip.is_ipv4()));
        for to in defaults.chain(wire.routes.iter().map(|route| route.to)) {
            if routes.contains(&to) {
                return Err(BadWord::new(
                    "route",
                    to.to_string(),
                    "goes through two interfaces",
                    "route=10.0.0.0/8",
                ));
            }
            routes.push(to);
        }
    }
    Ok(())
}

impl NetSpec {
    /// Addresses, routes and looks, of what makes an interface in the container.
    fn words(&self) -> Option<&WireSpec> {
        match self {
            NetSpec::Wire(spec) => Some(spec),
            NetSpec::Interface(spec) => Some(&spec.wire),
            NetSpec::Network(spec) => Some(&spec.wire),
            _ => None,
        }
    }

    /// Whether it names a way to everywhere of a family by itself.
    pub fn says_default_route(&self, v4: bool) -> bool {
        let everywhere = IfAddr::everything(v4);
        self.words().is_some_and(|words| {
            words.gateways.iter().any(|gateway| gateway.is_ipv4() == v4)
                || words.routes.iter().any(|route| route.to == everywhere)
        })
    }

    /// Whether it makes an interface in the container's namespace, and is not about the whole of that.
    pub fn is_link(&self) -> bool {
        self.words().is_some()
    }

    /// The name that it asks for.
    pub fn name(&self) -> Option<&LinkName> {
        self.words()?.name.as_ref()
    }

    /// The addresses that it asks for with their prefixes.
    pub fn addrs(&self) -> &[IfAddr] {
        self.words().map_or(&[], |words| &words.addrs)
    }

    /// Whether it is a tap, which somebody in the container is to open.
    pub fn is_tap(&self) -> bool {
        matches!(self, NetSpec::Interface(spec) if spec.kind == InterfaceKind::Tap)
    }

    fn word(&self) -> String {
        match self {
            NetSpec::Wire(_) => "a wire".to_owned(),
            NetSpec::Interface(spec) => spec.kind.to_string(),
            NetSpec::Network(spec) => spec.network.to_string(),
            NetSpec::None => "none".to_owned(),
            NetSpec::Pasta => "pasta".to_owned(),
            NetSpec::Host => "host".to_owned(),
            NetSpec::Container(name) => format!("container:{name}"),
            NetSpec::Namespace(path) => format!("ns:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(value: &str) -> WireSpec {
        match value.parse() {
            Ok(NetSpec::Wire(wire)) => *wire,
            other => panic!("{value}: {other:?}"),
        }
    }

    fn planned(value: &str, taken: &[&str]) -> Wire {
        let far = FarEnd {
            at: Place::Host,
            name: "veth-ns1".parse().unwrap(),
            alias: None,
        };
        let free = |ip: IpAddr| Ok::<_, BadWord>(!taken.contains(&ip.to_string().as_str()));
        wire(value)
            .wire(0, "eth0".parse().unwrap(), far, free)
            .unwrap()
    }

    #[test]
    fn the_hosts_end_has_the_next_free_address_as_a_host_route() {
        let wire = planned("172.16.0.1/16", &["172.16.0.2"]);
        let far = wire.ends[0].addrs[0];
        assert_eq!(far.addr.to_string(), "172.16.0.3/32");
        assert_eq!(far.peer.unwrap().to_string(), "172.16.0.1");
        assert!(far.automatic);
        assert_eq!(wire.ends[1].addrs[0].addr.to_string(), "172.16.0.1/16");
    }

    #[test]
    fn both_families_and_a_given_peer() {
        let wire = planned(
            "172.16.0.1/16,fd00::1/64,peer=172.16.9.9/16,gw=172.16.9.9",
            &[],
        );
        let far: Vec<_> = wire.ends[0]
            .addrs
            .iter()
            .map(|a| a.addr.to_string())
            .collect();
        assert_eq!(far, ["172.16.9.9/32", "fd00::2/128"]);
        let route = wire.ends[1].routes[0];
        assert_eq!(
            (route.to.to_string(), route.via.unwrap().to_string()),
            ("0.0.0.0/0".to_owned(), "172.16.9.9".to_owned())
        );
    }

    #[test]
    fn a_lone_address_needs_a_peer_and_gets_a_route_to_it() {
        let wire = planned("10.0.0.1/32,peer=10.0.0.9", &[]);
        assert_eq!(
            wire.ends[1].routes,
            [Route {
                to: "10.0.0.9/32".parse().unwrap(),
                via: None
            }]
        );
        let far = FarEnd {
            at: Place::Host,
            name: "v".parse().unwrap(),
            alias: None,
        };
        let alone: WireSpec = WireSpec {
            addrs: vec!["10.0.0.1/32".parse().unwrap()],
            ..WireSpec::default()
        };
        assert!(
            alone
                .wire(0, "eth0".parse().unwrap(), far, |_| Ok::<_, BadWord>(true))
                .is_err()
        );
    }

    #[test]
    fn the_wrong_word_is_named() {
        for (value, word) in [
            ("", ""),
            ("172.16.0.1/33", "172.16.0.1/33"),
            ("172.16.0.1/16,mtu=9", "9"),
            ("172.16.0.1/16,mut=9", "mut"),
            ("172.16.0.1/16,mac=x", "x"),
            ("172.16.0.1/16,gw=10.0.0.1", "10.0.0.1"),
            ("172.16.0.1/16,peer=172.16.0.1", "172.16.0.1/32"),
            ("172.16.0.1/16,peer=fd00::1", "fd00::1/128"),
            ("172.16.0.1/16,name=sixteen-bytes-xx", "sixteen-bytes-xx"),
            ("172.16.0.1/16,172.16.0.1/24", "172.16.0.1/24"),
            ("fd00::1/64,mtu=1000", "1000"),
            ("172.16.0.1/16,mtu=+1500", "+1500"),
            ("172.16.0.0/16", "172.16.0.0/16"),
            ("172.16.255.255/16", "172.16.255.255/16"),
            ("fd00::/64", "fd00::/64"),
            ("127.0.0.2/8", "127.0.0.2/8"),
            ("172.16.0.1/16,peer=127.0.0.2", "127.0.0.2/32"),
            ("172.16.0.1/16,gw=172.16.0.1", "172.16.0.1"),
            ("172.16.0.1/16,route=10.0.0.0/8@172.16.0.1", "172.16.0.1"),
            ("172.16.0.1/16,route=10.0.0.0/8@172.17.0.1", "172.17.0.1"),
            (
                "172.16.0.1/16,route=10.0.0.0/8,route=10.0.0.0/8",
                "10.0.0.0/8",
            ),
            (
                "172.16.0.1/16,gw=172.16.0.2,route=0.0.0.0/0@172.16.0.3",
                "0.0.0.0/0",
            ),
            ("ns:blue,mtu=1500", "ns:blue,mtu=1500"),
            ("mtu=1500", "mtu=1500"),
            ("lan 0", "lan 0"),
            ("ns:", "ns:"),
            ("container:", ""),
        ] {
            match value.parse::<NetSpec>() {
                Err(error) => assert_eq!(error.word, word, "{value}"),
                Ok(spec) => panic!("{value}: {spec:?}"),
            }
        }
    }

    #[test]
    fn ends_of_a_pair() {
        let end: PairEnd = "ns1=172.16.0.1/16,rootfs=/x,mtu=9000".parse().unwrap();
        assert_eq!(end.container.as_str(), "ns1");
        assert_eq!(end.wire.mtu, Some(9000));
        assert_eq!(end.rootfs, Some(PathBuf::from("/x")));
        assert!("172.16.0.1/16".parse::<PairEnd>().is_err());
        assert!("ns1=172.16.0.1/16,to=ns2".parse::<PairEnd>().is_err());
        let a: PairEnd = "a=10.0.0.1/24".parse().unwrap();
        assert!(
            pair_wire([
                (&a, Place::Node(0), default_name(0)),
                (&a, Place::Node(1), default_name(0))
            ])
            .is_err()
        );
    }

    #[test]
    fn a_second_address_of_a_family_is_a_route_at_the_far_end() {
        let wire = planned("172.16.0.1/16,172.16.0.2/16,fd00::1/64,fd01::1/64", &[]);
        let [far, near] = &wire.ends;
        let addrs: Vec<_> = far.addrs.iter().map(|a| a.addr.to_string()).collect();
        assert_eq!(addrs, ["172.16.0.3/32", "fd00::2/128"]);
        let routes: Vec<_> = far.routes.iter().map(|r| r.to.to_string()).collect();
        assert_eq!(routes, ["172.16.0.2/32", "fd01::1/128"]);
        assert_eq!(near.addrs.len(), 4);
    }

    #[test]
    fn the_ends_of_a_pair_share_an_mtu_and_reach_each_other() {
        let wire = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|end| end.parse::<PairEnd>().unwrap());
            let at = |end, node| (end, Place::Node(node), default_name(0));
            pair_wire([at(&a, 0), at(&b, 1)])
        };
        let made = wire("a=10.0.0.1/24,fd00::1/64,mtu=1400", "b=10.1.0.1/24").unwrap();
        assert_eq!(made.ends.each_ref().map(|end| end.mtu), [Some(1400); 2]);
        let routes = made.ends.each_ref().map(|end| end.routes.clone());
        let to = |text: &str| Route {
            to: text.parse().unwrap(),
            via: None,
        };
        assert_eq!(routes, [vec![to("10.1.0.1/32")], vec![to("10.0.0.1/32")]]);
        for (a, b, word) in [
            ("a=10.0.0.1/24", "b=fd00::1/64", "fd00::1/64"),
            ("a=10.0.0.1/24,mtu=1400", "b=10.0.0.2/24,mtu=1500", "1500"),
            ("a=10.0.0.1/24,mtu=1000", "b=10.0.0.2/24,fd00::1/64", "1000"),
        ] {
            assert_eq!(wire(a, b).unwrap_err().word, word);
        }
    }

    #[test]
    fn names_of_host_links_fit_and_differ() {
        let short: ContainerName = "ns1".parse().unwrap();
        assert_eq!(host_link_name(&short, 0, 0).as_str(), "veth-ns1");
        assert_eq!(host_link_name(&short, 1, 0).as_str(), "veth-ns1.1");
        assert_ne!(host_link_name(&short, 0, 1), host_link_name(&short, 0, 2));
        let long: ContainerName = "a-rather-long-name".parse().unwrap();
        assert_eq!(host_link_name(&long, 0, 0).as_str().len(), 15);
        let root = Path::new("/run/tincan");
        let alias = host_link_alias(&short, &default_name(0), root);
        assert_eq!(alias_container(&alias), Some((short, root.to_owned())));
    }

    #[test]
    fn somebody_elses_namespace_takes_no_wires() {
        let specs = ["host", "172.16.0.1/16"].map(|value| value.parse().unwrap());
        assert!(check_together(&specs).is_err());
        for values in [
            ["172.16.0.1/16,name=eth1", "172.17.0.1/16"],
            ["172.16.0.1/16,peer=172.16.0.2", "172.16.0.2/16"],
            ["172.16.0.1/16,gw=172.16.0.2", "10.0.0.1/8,gw=10.0.0.2"],
        ] {
            let specs = values.map(|value| value.parse().unwrap());
            assert!(check_together(&specs).is_err(), "{values:?}");
        }
    }

    #[test]
    fn published_ports_are_read_and_shown() {
        for (text, shown) in [
            ("80", "80:80"),
            ("8080:80", "8080:80"),
            ("53:53/udp", "53:53/udp"),
            ("1:2/tcp", "1:2"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80"),
            ("[fd00::1]:8080:80", "[fd00::1]:8080:80"),
            ("80/sctp", "80:80/sctp"),
            ("8000-8010", "8000-8010:8000-8010"),
            ("8000-8010:80", "8000-8010:80-90"),
            ("8000-8010:80-90/udp", "8000-8010:80-90/udp"),
        ] {
            assert_eq!(text.parse::<Publish>().unwrap().to_string(), shown);
        }
        for (text, word) in [
            ("", ""),
            ("0:80", "0"),
            ("80:65536", "65536"),
            ("80/dccp", "dccp"),
            ("9-8", "9-8"),
            ("8-9:1-3", "1-3"),
            ("1-3:65535", "65535"),
            ("a:80", "a"),
            ("[1.2.3]:80:80", "1.2.3"),
            ("1:2:3", "2:3"),
        ] {
            let error = text.parse::<Publish>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{word}`")), "{text}: {error}");
        }
    }

    #[test]
    fn a_range_that_keeps_its_numbers_is_one_piece() {
        let pieces = |text: &str| -> Vec<String> {
            let pieces = text.parse::<Publish>().unwrap().pieces();
            let shown = |it: &PortPiece| format!("{} {:?}", it.ports, it.to);
            pieces.iter().map(shown).collect()
        };
        assert_eq!(pieces("8080:80"), ["8080 Some(80)"]);
        assert_eq!(pieces("80"), ["80 Some(80)"]);
        assert_eq!(pieces("1-65535"), ["1-65535 None"]);
        assert_eq!(pieces("65534-65535:1"), ["65534 Some(1)", "65535 Some(2)"]);
    }

    #[test]
    fn sets_of_ports() {
        let mut set = PortSet::default();
        for text in ["80", "8000-9000", "65535/udp"] {
            set.insert(&text.parse().unwrap());
        }
        for (text, meets) in [
            ("80", true),
            ("79", false),
            ("81", false),
            ("1-79", false),
            ("1-80", true),
            ("80/udp", false),
            ("8063-8064", true),
            ("9000-9001", true),
            ("9001-65535", false),
            ("1-65535/udp", true),
            ("1-65534/udp", false),
        ] {
            assert_eq!(set.meets(&text.parse().unwrap()), meets, "{text}");
        }
    }

    #[test]
    fn ports_that_cannot_be_led_to_two_places() {
        for (one, other, overlap) in [
            ("80", "80", true),
            ("80", "81", false),
            ("80", "80/udp", false),
            ("80-90", "85:1", true),
            ("127.0.0.1:80:80", "80", true),
            ("127.0.0.1:80:80", "192.0.2.1:80:80", false),
            ("127.0.0.1:80:80", "0.0.0.0:80:80", true),
            ("127.0.0.1:80:80", "[::]:80:80", false),
        ] {
            let [one, other] = [one, other].map(|it| it.parse::<Publish>().unwrap());
            assert_eq!(one.overlaps(&other), overlap, "{one} {other}");
            assert_eq!(other.overlaps(&one), overlap, "{other} {one}");
        }
    }

    #[test]
    fn pasta_is_told_which_ports_lead_inside() {
        let publish = ["127.0.0.1:8080:80", "53:5353/udp"].map(|text| text.parse().unwrap());
        let arguments = Outside {
            publish: publish.into(),
        }
        .arguments()
        .join(" ");
        assert!(
            arguments.ends_with("-t 127.0.0.1/8080:80 -u 53:5353 -T none -U none"),
            "{arguments}"
        );
        assert!(
            Outside::default()
                .arguments()
                .join(" ")
                .ends_with("-t none -u none -T none -U none")
        );
    }

    proptest! {
        #[test]
        fn reading_never_panics(value in "[a-z0-9=.,:/@]{0,40}") {
            let _ = (value.parse::<NetSpec>(), value.parse::<PairEnd>());
        }
    }
}
