//! Interfaces that are no end of a wire: those that hang on a link of the host's, tunnels and taps. As values of `--net` they are
//! `KIND[:ARGUMENT][,ADDR…][,key=value…]`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::{BadWord, LinkName, Mac};
use super::net::{WireSpec, check_mtu};
use super::topology::{End, Place, Route};
use super::wireguard::{Tunnel, file_of};

/// What an interface is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum InterfaceKind {
    /// A link-layer address of its own on a link of the host's (ip-link(8), MACVLAN).
    Macvlan {
        /// The link.
        parent: LinkName,
        /// Whom it reaches there.
        mode: MacvlanMode,
    },
    /// IP addresses of its own behind the link-layer address of a link of the host's (Documentation/networking/ipvlan.rst).
    Ipvlan {
        /// The link.
        parent: LinkName,
        /// At which layer it takes part.
        mode: IpvlanMode,
    },
    /// The frames of a link of the host's that are tagged (802.1Q).
    Vlan {
        /// The link.
        parent: LinkName,
        /// The tag, 1 to 4094.
        id: u16,
    },
    /// Frames in UDP packets of the host's, to peers that are named (RFC 7348; no multicast).
    Vxlan {
        /// The network's number, 24 bits.
        vni: u32,
        /// The other machines: what is for everybody, or for a station nobody has heard yet, goes to each of them.
        remotes: Vec<IpAddr>,
        /// The host's address that packets come from; the kernel chooses one, if nothing is said.
        local: Option<IpAddr>,
        /// The UDP port at all of them.
        port: u16,
        /// The link of the host's by which they are reached; the kernel's routes say, if nothing is said.
        parent: Option<LinkName>,
    },
    /// Frames of a program that opens /dev/net/tun in the container (Documentation/networking/tuntap.rst).
    Tap,
    /// Packets that are encrypted for peers, in UDP packets of the host's (wg(8)).
    Wireguard {
        /// The file that says for whom, and by which keys.
        file: PathBuf,
        /// What it says; nowhere but there are its keys written down.
        #[serde(skip)]
        tunnel: Box<Tunnel>,
    },
    /// A link of the host's itself, which is moved into the container.
    Phys {
        /// What it is called on the host.
        device: LinkName,
        /// How it was there, for when it comes back; none where the kernel is to do with it what it does when its namespace goes.
        loan: Option<Box<Loan>>,
    },
}

/// A link of the host's as it was before a container had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// What it was called.
    pub device: LinkName,
    /// What it is called in the container.
    pub interface: LinkName,
    /// Its number.
    pub index: u32,
    /// Its kind; hardware has none.
    pub kind: Option<String>,
    /// The number of what it hangs on: a parent, or the other end of a veth.
    pub peer: Option<u32>,
    /// By which number the host knows the namespace of that; none where it is the host's own.
    pub peer_nsid: Option<i32>,
    /// Whether it was up.
    pub up: bool,
    /// Its link-layer address.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The requests by which it has its addresses again, then its routes.
    pub requests: Vec<Saved>,
}

impl Loan {
    /// Whether a container can have put none like it in its place: hardware cannot be made, a veth is known by its other end, what hangs on
    /// a link of the host's by that, and the others here have no far end that somebody could be at.
    pub fn is_told_apart(&self) -> bool {
        match self.kind.as_deref() {
            None | Some("dummy" | "ifb") => true,
            Some("veth") => self.peer.is_some(),
            Some("macvlan" | "macvtap" | "ipvlan" | "ipvtap" | "vlan" | "macsec") => {
                self.peer.is_some() && self.peer_nsid.is_none()
            }
            Some(_) => false,
        }
    }

    /// Its number in the container, by which it is known there whatever it is called by then: one that the kernel gives to no link
    /// by itself, since it counts from 1.
    pub fn inside(&self) -> i32 {
        const BEYOND: u32 = 1000;
        i32::try_from(self.index.saturating_add(BEYOND)).unwrap_or(i32::MAX)
    }
}

/// A request to the kernel, as it goes over netlink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Its type (rtnetlink(7)): RTM_NEWADDR, RTM_NEWROUTE.
    pub kind: u16,
    /// What follows the header, in hexadecimal.
    pub payload: String,
}

/// Whom the interfaces on one parent reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Each other, and what is beyond the parent.
    Bridge,
    /// What is beyond the parent alone.
    Private,
    /// Each other by way of a switch that sends frames back.
    Vepa,
    /// What is beyond; there is but one interface on the parent, and it has the parent's address.
    Passthru,
}

/// At which layer interfaces on one parent take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// As stations of the parent's network.
    L2,
    /// The parent's namespace routes for them; no broadcast.
    L3,
    /// The same, and its firewall sees them.
    L3s,
}

/// The port that IANA gives VXLAN.
const VXLAN_PORT: u16 = 4789;

/// The kinds, as a value begins.
pub const KINDS: [&str; 7] = [
    "macvlan",
    "ipvlan",
    "vlan",
    "vxlan",
    "tap",
    "wireguard",
    "phys",
];

/// An interface that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// What it is.
    pub kind: InterfaceKind,
    /// Its addresses, routes and looks; it has no far end.
    pub wire: WireSpec,
}

/// An interface of a topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Where it belongs, and what it is given there.
    pub end: End,
    /// What it is.
    #[serde(flatten)]
    pub kind: InterfaceKind,
}

impl InterfaceSpec {
    /// The same with what the file of a tunnel says: its addresses, unless there are others, and a way to all that is its peers'.
    ///
    /// # Errors
    /// [`BadWord`] for what does not go together.
    pub fn with_tunnel(mut self, tunnel: Tunnel) -> Result<Self, BadWord> {
        let wire = &mut self.wire;
        if wire.addrs.is_empty() {
            wire.addrs.clone_from(&tunnel.addrs);
        }
        wire.mtu = wire.mtu.or(tunnel.mtu);
        wire.check_words()?;
        check_mtu(wire.mtu, &wire.addrs)?;
        for to in tunnel.peers.iter().flat_map(|peer| &peer.allowed) {
            let is_there = wire.routes.iter().any(|route| route.to == *to)
                || wire.addrs.iter().any(|addr| addr.network() == *to);
            if !is_there {
                wire.routes.push(Route { to: *to, via: None });
            }
        }
        if let InterfaceKind::Wireguard { tunnel: place, .. } = &mut self.kind {
            **place = tunnel;
        }
        Ok(self)
    }

    /// The interface, at a place and under a name.
    pub fn at(&self, at: Place, name: LinkName) -> Interface {
        Interface {
            end: self.wire.near_end(at, name, &[], self.wire.mtu),
            kind: self.kind.clone(),
        }
    }
}

impl InterfaceKind {
    /// Whether it has a link-layer address that is nobody else's: an ipvlan has its parent's, a tunnel of packets has none.
    pub fn takes_mac(&self) -> bool {
        match self {
            InterfaceKind::Vlan { .. } | InterfaceKind::Vxlan { .. } | InterfaceKind::Tap => true,
            InterfaceKind::Macvlan { mode, .. } => *mode != MacvlanMode::Passthru,
            InterfaceKind::Ipvlan { .. }
            | InterfaceKind::Wireguard { .. }
            | InterfaceKind::Phys { .. } => false,
        }
    }

    /// What rtnetlink calls the kind; none for those that are not made by it.
    pub fn link_kind(&self) -> Option<&'static str> {
        match self {
            InterfaceKind::Macvlan { .. } => Some("macvlan"),
            InterfaceKind::Ipvlan { .. } => Some("ipvlan"),
            InterfaceKind::Vlan { .. } => Some("vlan"),
            InterfaceKind::Vxlan { .. } => Some("vxlan"),
            InterfaceKind::Wireguard { .. } => Some("wireguard"),
            InterfaceKind::Tap | InterfaceKind::Phys { .. } => None,
        }
    }

    /// The link of the host's that it needs.
    pub fn parent(&self) -> Option<&LinkName> {
        match self {
            InterfaceKind::Macvlan { parent, .. }
            | InterfaceKind::Ipvlan { parent, .. }
            | InterfaceKind::Vlan { parent, .. } => Some(parent),
            InterfaceKind::Vxlan { parent, .. } => parent.as_ref(),
            InterfaceKind::Phys { device, .. } => Some(device),
            InterfaceKind::Tap | InterfaceKind::Wireguard { .. } => None,
        }
    }

    /// Whether it is on the network that its parent is on, with the host's own addresses.
    pub fn is_on_parents_network(&self) -> bool {
        matches!(
            self,
            InterfaceKind::Macvlan { .. }
                | InterfaceKind::Ipvlan { .. }
                | InterfaceKind::Vlan { .. }
        )
    }

    /// How a link of the host's was that comes back.
    pub fn loan(&self) -> Option<&Loan> {
        match self {
            InterfaceKind::Phys { loan, .. } => loan.as_deref(),
            _ => None,
        }
    }
}

/// As a value of `--net` begins.
impl fmt::Display for InterfaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InterfaceKind::Macvlan { parent, .. } => write!(f, "macvlan:{parent}"),
            InterfaceKind::Ipvlan { parent, .. } => write!(f, "ipvlan:{parent}"),
            InterfaceKind::Vlan { parent, id } => write!(f, "vlan:{parent},id={id}"),
            InterfaceKind::Vxlan { vni, .. } => write!(f, "vxlan:{vni}"),
            InterfaceKind::Tap => f.write_str("tap"),
            InterfaceKind::Wireguard { file, .. } => write!(f, "wireguard:{}", file.display()),
            InterfaceKind::Phys { device, .. } => write!(f, "phys:{device}"),
        }
    }
}

impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MacvlanMode::Bridge => "bridge",
            MacvlanMode::Private => "private",
            MacvlanMode::Vepa => "vepa",
            MacvlanMode::Passthru => "passthru",
        })
    }
}

impl fmt::Display for IpvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IpvlanMode::L2 => "l2",
            IpvlanMode::L3 => "l3",
            IpvlanMode::L3s => "l3s",
        })
    }
}

/// The kind that a value begins with, if it begins with one.
pub fn kind_of(value: &str) -> Option<&'static str> {
    let first = value.split([',', ':']).next().unwrap_or_default();
    KINDS.into_iter().find(|kind| *kind == first)
}

/// The words after an interface's kind that are of that kind alone.
#[derive(Default)]
struct Own<'a> {
    mode: Option<&'a str>,
    id: Option<&'a str>,
    remotes: Vec<&'a str>,
    local: Option<&'a str>,
    port: Option<&'a str>,
    dev: Option<&'a str>,
}

impl<'a> Own<'a> {
    /// Takes a word if it is of this kind.
    fn accept(&mut self, kind: &str, word: &'a str) -> Result<bool, BadWord> {
        let Some((key, value)) = word.split_once('=') else {
            return Ok(false);
        };
        let place = match (kind, key) {
            ("macvlan" | "ipvlan", "mode") => &mut self.mode,
            ("vlan", "id") => &mut self.id,
            ("vxlan", "remote") => {
                self.remotes.push(value);
                return Ok(true);
            }
            ("vxlan", "local") => &mut self.local,
            ("vxlan", "port") => &mut self.port,
            ("vxlan", "dev") => &mut self.dev,
            _ => return Ok(false),
        };
        match place.replace(value) {
            None => Ok(true),
            Some(_) => Err(BadWord::new("key", word, "is given twice", example(kind))),
        }
    }
}

/// A right value of a kind.
fn example(kind: &str) -> &'static str {
    match kind {
        "macvlan" => "macvlan:eth0,192.0.2.7/24",
        "ipvlan" => "ipvlan:eth0,192.0.2.7/24",
        "vlan" => "vlan:eth0,id=5,192.0.2.7/24",
        "vxlan" => "vxlan:42,remote=192.0.2.2,10.0.0.1/24",
        "wireguard" => "wireguard:/etc/wireguard/wg0.conf",
        "phys" => "phys:eth1,192.0.2.7/24",
        _ => "tap,10.0.0.1/24",
    }
}

impl FromStr for InterfaceSpec {
    type Err = BadWord;
    fn from_str(value: &str) -> Result<Self, BadWord> {
        let kind = kind_of(value).ok_or_else(|| {
            BadWord::new(
                "--net",
                value,
                "is no kind of interface",
                example("macvlan"),
            )
        })?;
        let bad = |word: &str, why: &str| BadWord::new("--net", word, why, example(kind));
        let mut words = value.split(',');
        let head = words.next().unwrap_or_default();
        let argument = head[kind.len()..].strip_prefix(':');
        let mut own = Own::default();
        let mut wire = WireSpec::default();
        for word in words {
            if own.accept(kind, word)? {
                continue;
            }
            match word.split_once('=') {
                Some(("to" | "peer", _)) => {
                    return Err(bad(word, "is of a wire, which has a far end"));
                }
                Some((key, _)) if !["mac", "mtu", "gw", "route", "name"].contains(&key) => {
                    return Err(bad(key, "is no key of this kind"));
                }
                _ if wire.accept(word)? => {}
                _ => return Err(bad(word, "is neither an address nor a key=value")),
            }
        }
        wire.check_words()?;
        let parent = || match argument {
            Some("") | None => Err(bad(head, "names no link of the host's to be on")),
            Some(name) => name.parse::<LinkName>(),
        };
        let kind = match kind {
            "macvlan" => InterfaceKind::Macvlan {
                parent: parent()?,
                mode: match own.mode {
                    None | Some("bridge") => MacvlanMode::Bridge,
                    Some("private") => MacvlanMode::Private,
                    Some("vepa") => MacvlanMode::Vepa,
                    Some("passthru") => MacvlanMode::Passthru,
                    Some(other) => {
                        return Err(bad(other, "is none of bridge, private, vepa, passthru"));
                    }
                },
            },
            "ipvlan" => {
                if wire.mac.is_some() {
                    return Err(bad("mac", "cannot be: it has its parent's"));
                }
                InterfaceKind::Ipvlan {
                    parent: parent()?,
                    mode: match own.mode {
                        None | Some("l2") => IpvlanMode::L2,
                        Some("l3") => IpvlanMode::L3,
                        Some("l3s") => IpvlanMode::L3s,
                        Some(other) => return Err(bad(other, "is none of l2, l3, l3s")),
                    },
                }
            }
            "vlan" => InterfaceKind::Vlan {
                parent: parent()?,
                id: match own.id.map(|id| (id, id.parse())) {
                    Some((_, Ok(id @ 1..=4094))) => id,
                    Some((word, _)) => return Err(bad(word, "is no tag from 1 to 4094")),
                    None => return Err(bad(head, "has no tag (id=)")),
                },
            },
            "vxlan" => vxlan(head, argument, &own, bad)?,
            "wireguard" => {
                if wire.mac.is_some() {
                    return Err(bad("mac", "cannot be: it has no link-layer address"));
                }
                match argument {
                    Some("") | None => return Err(bad(head, "names no file of wg-quick(8)")),
                    Some(word) => InterfaceKind::Wireguard {
                        file: file_of(word),
                        tunnel: Box::default(),
                    },
                }
            }
            "phys" => match argument {
                Some("") | None => return Err(bad(head, "names no link of the host's")),
                Some("lo") => return Err(bad("lo", "is in every namespace, and goes nowhere")),
                Some(name) => InterfaceKind::Phys {
                    device: name.parse()?,
                    loan: None,
                },
            },
            _ => match argument {
                None => InterfaceKind::Tap,
                Some(word) => return Err(bad(word, "is one word too many; name= names it")),
            },
        };
        Ok(InterfaceSpec { kind, wire })
    }
}

fn vxlan(
    head: &str,
    argument: Option<&str>,
    own: &Own,
    bad: impl Fn(&str, &str) -> BadWord,
) -> Result<InterfaceKind, BadWord> {
    let vni = argument.unwrap_or_default();
    let vni = match vni.parse() {
        Ok(vni @ 1..=0xff_ffff) => vni,
        _ => return Err(bad(vni, "is no network number from 1 to 16777215")),
    };
    let address = |word: &&str| {
        word.parse::<IpAddr>()
            .ok()
            .filter(|ip| !ip.is_multicast() && !ip.is_unspecified())
            .ok_or_else(|| bad(word, "is no address of a machine"))
    };
    let remotes = own
        .remotes
        .iter()
        .map(address)
        .collect::<Result<Vec<_>, _>>()?;
    let local = own.local.as_ref().map(address).transpose()?;
    let Some(first) = remotes.first() else {
        return Err(bad(head, "has no other machine (remote=)"));
    };
    // A socket is of one family (`vxlan_config_validate`, drivers/net/vxlan/vxlan_core.c).
    if let Some(other) = remotes
        .iter()
        .chain(&local)
        .find(|ip| ip.is_ipv4() != first.is_ipv4())
    {
        return Err(bad(&other.to_string(), "mixes IPv4 and IPv6"));
    }
    let port = match own.port.map(|port| (port, port.parse())) {
        None => VXLAN_PORT,
        Some((word, Ok(0) | Err(_))) => {
            return Err(bad(word, "is no port, which go from 1 to 65535"));
        }
        Some((_, Ok(port))) => port,
    };
    Ok(InterfaceKind::Vxlan {
        vni,
        remotes,
        local,
        port,
        parent: own.dev.map(str::parse).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read() {
        for (value, shown) in [
            ("macvlan:eth0,192.0.2.7/24,mode=private", "macvlan:eth0"),
            ("ipvlan:eth0,mode=l3", "ipvlan:eth0"),
            (
                "vlan:eth0,id=4094,192.0.2.7/24,fd00::7/64",
                "vlan:eth0,id=4094",
            ),
            (
                "vxlan:42,remote=192.0.2.2,remote=192.0.2.3,10.0.0.1/24,port=8472,dev=eth0",
                "vxlan:42",
            ),
            ("tap,10.0.0.1/24,name=tap0", "tap"),
            (
                "wireguard:wg0,mtu=1400",
                "wireguard:/etc/wireguard/wg0.conf",
            ),
            ("phys:eth1,192.0.2.7/24,name=lan", "phys:eth1"),
        ] {
            let spec: InterfaceSpec = value.parse().unwrap();
            assert_eq!(spec.kind.to_string(), shown);
        }
    }

    #[test]
    fn the_wrong_word_is_named() {
        for (value, word) in [
            ("macvlan", "macvlan"),
            ("macvlan:", "macvlan:"),
            ("macvlan:eth0,mode=l2", "l2"),
            ("macvlan:eth0,id=5", "id"),
            ("macvlan:sixteen-bytes-xx", "sixteen-bytes-xx"),
            ("macvlan:eth0,peer=10.0.0.1", "peer=10.0.0.1"),
            ("ipvlan:eth0,mode=bridge", "bridge"),
            ("ipvlan:eth0,mac=02:00:00:00:00:01", "mac"),
            ("vlan:eth0,10.0.0.1/24", "vlan:eth0"),
            ("vlan:eth0,id=4095", "4095"),
            ("vlan:eth0,id=5,id=6", "id=6"),
            ("vxlan:0,remote=192.0.2.2", "0"),
            ("vxlan:16777216,remote=192.0.2.2", "16777216"),
            ("vxlan:42", "vxlan:42"),
            ("vxlan:42,remote=239.0.0.1", "239.0.0.1"),
            ("vxlan:42,remote=192.0.2.2,remote=fd00::1", "fd00::1"),
            ("vxlan:42,remote=192.0.2.2,port=0", "0"),
            ("tap:tap0", "tap0"),
            ("tap,gw=10.0.0.1", "10.0.0.1"),
            ("wireguard:", "wireguard:"),
            ("wireguard:wg0,mac=02:00:00:00:00:01", "mac"),
            ("phys", "phys"),
            ("phys:lo", "lo"),
        ] {
            let error = value.parse::<InterfaceSpec>().unwrap_err();
            assert_eq!(error.word, word, "{value}: {error}");
        }
    }
}
