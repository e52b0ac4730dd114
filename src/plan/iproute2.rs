//! The iproute2 lines (ip(8)) that do by hand what tincan does to the network: what a dry run prints.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::interface::{Interface, InterfaceKind};
use super::name::{ContainerName, LinkName};
use super::network::Published;
use super::topology::{
    Change, End, EndAddr, NamespaceKind, NamespaceSource, Node, Place, Removal, Route, Topology,
    Wire,
};

/// How a running container's network namespace can be had by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It has this name for `ip netns` already.
    Named(String),
    /// It is the namespace of this process.
    Process(i32),
}

/// The lines for a topology, in an order in which they can be run. `known` tells of the running containers that its wires
/// go to.
///
/// Each line does what one step of the engine does, or a part of it. As there, both ends of a wire are created where they
/// belong: the `netns` of the peer is part of the creation, and nothing is moved.
pub fn lines(topology: &Topology, known: &dyn Fn(&ContainerName) -> Known) -> Vec<String> {
    let by_hand = ByHand { topology, known };
    let mut lines = Vec::new();
    for (index, node) in topology.nodes.iter().enumerate() {
        lines.extend(by_hand.namespace(index, node));
    }
    for name in by_hand.running() {
        if let Known::Process(pid) = known(name) {
            lines.push(format!("ip netns attach {name} {pid}"));
        }
    }
    for removal in &topology.removals {
        lines.push(by_hand.removal(removal));
    }
    for change in &topology.changes {
        lines.extend(by_hand.change(change));
    }
    for moved in &topology.moves {
        lines.extend(moving(&moved.interface, &moved.from, &moved.to));
    }
    for wire in &topology.wires {
        lines.extend(by_hand.wire(wire));
    }
    for interface in &topology.interfaces {
        lines.extend(by_hand.interface(interface));
    }
    for published in topology.nodes.iter().flat_map(|node| &node.published) {
        lines.extend(elements("add", published));
    }
    lines
}

/// The lines by which ports of the host's come to lead to a container, or do so no more: elements of a map of the network's table, as
/// nft(8) takes them.
fn elements(verb: &str, published: &Published) -> Vec<String> {
    let Published {
        network,
        publish,
        to,
    } = published;
    let mut lines = Vec::new();
    for ip in to {
        let (family, any) = match ip {
            IpAddr::V4(_) => ("4", "0.0.0.0-255.255.255.255"),
            IpAddr::V6(_) => ("6", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        };
        let own = publish.address.filter(|address| !address.is_unspecified());
        for piece in publish.pieces() {
            let (table, protocol, ports) = (network.bridge(), publish.protocol, piece.ports);
            let (map, key, target) = match (piece.to, own) {
                (None, own) => {
                    let at = own.map_or(any.to_owned(), |address| address.to_string());
                    (
                        "ranges",
                        format!("{protocol} . {ports} . {at}"),
                        ip.to_string(),
                    )
                }
                (Some(port), Some(address)) => (
                    "at",
                    format!("{protocol} . {ports} . {address}"),
                    format!("{ip} . {port}"),
                ),
                (Some(port), None) => (
                    "ports",
                    format!("{protocol} . {ports}"),
                    format!("{ip} . {port}"),
                ),
            };
            lines.push(format!(
                "nft '{verb} element inet tincan-{table} {map}{family} {{ {key} : {target} }}'"
            ));
        }
    }
    lines
}

/// The lines by which an interface on the host gets one address for another.
fn moving(interface: &LinkName, from: &EndAddr, to: &EndAddr) -> [String; 2] {
    [("delete", from), ("add", to)].map(|(verb, addr)| {
        let flag = if verb == "add" { nodad(addr) } else { "" };
        format!("ip address {verb} {} dev {interface}{flag}", pair(addr))
    })
}

/// The lines that take away again what those of [`lines`] made; what was removed does not come back.
pub fn undo_lines(topology: &Topology, known: &dyn Fn(&ContainerName) -> Known) -> Vec<String> {
    let by_hand = ByHand { topology, known };
    let mut lines = Vec::new();
    for published in topology.nodes.iter().flat_map(|node| &node.published) {
        lines.extend(elements("delete", published));
    }
    for wire in &topology.wires {
        // The others go with the new namespace that one of their ends is in.
        if !wire
            .ends
            .iter()
            .any(|end| matches!(end.at, Place::Node(node) if is_new(&topology.nodes[node])))
        {
            let [end, _] = &wire.ends;
            lines.push(format!(
                "{} link delete dev {}",
                by_hand.ip(&end.at),
                end.name
            ));
        }
    }
    for Interface { end, kind } in &topology.interfaces {
        let ip = by_hand.ip(&end.at);
        match kind {
            // By its process it is told which namespace the shell's is.
            InterfaceKind::Phys { device, .. } => {
                let name = &end.name;
                lines.push(format!("{ip} link set dev {name} name {device} netns $$"));
            }
            _ if matches!(end.at, Place::Running(_)) => {
                lines.push(format!("{ip} link delete dev {}", end.name));
            }
            _ => {}
        }
    }
    for (index, node) in topology.nodes.iter().enumerate() {
        if !by_hand.namespace(index, node).is_empty() {
            lines.push(format!("ip netns delete {}", by_hand.name_of_node(node)));
        }
    }
    for moved in topology.moves.iter().rev() {
        lines.extend(moving(&moved.interface, &moved.to, &moved.from));
    }
    for name in by_hand.running() {
        // This takes the name away, and not the namespace: its processes keep that.
        if matches!(known(name), Known::Process(_)) {
            lines.push(format!("ip netns delete {name}"));
        }
    }
    lines
}

/// Whether a node's network namespace is made with it.
fn is_new(node: &Node) -> bool {
    node.namespaces.get(&NamespaceKind::Network) == Some(&NamespaceSource::New)
}

struct ByHand<'a> {
    topology: &'a Topology,
    known: &'a dyn Fn(&ContainerName) -> Known,
}

impl<'a> ByHand<'a> {
    /// The lines by which a node's network namespace comes to have a name.
    fn namespace(&self, index: usize, node: &Node) -> Vec<String> {
        let name = self.name_of_node(node);
        let mut lines = Vec::new();
        match node.namespaces.get(&NamespaceKind::Network) {
            Some(NamespaceSource::New) => lines.push(format!("ip netns add {name}")),
            Some(NamespaceSource::Path(path))
                if self.has_wires(index) && netns_name(path).is_none() =>
            {
                lines.push("mkdir -p /run/netns".to_owned());
                lines.push(format!("touch /run/netns/{name}"));
                let path = quoted(&path.to_string_lossy());
                lines.push(format!("mount --bind {path} /run/netns/{name}"));
            }
            _ => {}
        }
        if is_new(node) && node.loopback {
            lines.push(format!("ip -n {name} link set dev lo up"));
        }
        lines
    }

    fn has_wires(&self, index: usize) -> bool {
        let wired = self.topology.wires.iter().flat_map(|wire| &wire.ends);
        let others = self
            .topology
            .interfaces
            .iter()
            .map(|interface| &interface.end);
        wired.chain(others).any(|end| end.at == Place::Node(index))
    }

    fn name_of_node(&self, node: &Node) -> String {
        let joined = match node.namespaces.get(&NamespaceKind::Network) {
            Some(NamespaceSource::Path(path)) => netns_name(path),
            _ => None,
        };
        let name = joined.or_else(|| node.netns_name.clone());
        quoted(&name.unwrap_or_else(|| node.name.to_string()))
    }

    /// The running containers that have ends, each once.
    fn running(&self) -> BTreeSet<&'a ContainerName> {
        let topology = self.topology;
        let wired = topology.wires.iter().flat_map(|wire| &wire.ends);
        let others = topology.interfaces.iter().map(|interface| &interface.end);
        let changed = topology.changes.iter().map(|change| &change.end);
        let ends = wired.chain(others).chain(changed);
        let named = ends.filter_map(|end| match &end.at {
            Place::Running(name) => Some(name),
            _ => None,
        });
        let removals = topology.removals.iter();
        named
            .chain(removals.map(|removal| &removal.container))
            .collect()
    }

    /// What `ip -n` and `netns` call the namespace of a place; the host's needs no name.
    fn netns(&self, at: &Place) -> Option<String> {
        match at {
            Place::Host => None,
            Place::Node(node) => {
                let node = &self.topology.nodes[*node];
                // Without a namespace of its own it is on the host's.
                node.namespaces
                    .contains_key(&NamespaceKind::Network)
                    .then(|| self.name_of_node(node))
            }
            Place::Running(container) => Some(self.name_of_running(container)),
        }
    }

    fn name_of_running(&self, container: &ContainerName) -> String {
        match (self.known)(container) {
            Known::Named(name) => quoted(&name),
            Known::Process(_) => container.to_string(),
        }
    }

    fn removal(&self, removal: &Removal) -> String {
        let name = self.name_of_running(&removal.container);
        format!("ip -n {name} link delete dev {}", removal.interface)
    }

    fn change(&self, change: &Change) -> Vec<String> {
        let end = &change.end;
        let (ip, name) = (self.ip(&end.at), &end.name);
        let mut lines = Vec::new();
        if end.mac.is_some() || end.mtu.is_some() {
            lines.push(format!("{ip} link set dev {}", looks(end)));
        }
        let routes = change.lost_routes.iter();
        lines.extend(routes.map(|route| format!("{ip} route delete {} dev {name}", target(route))));
        let addrs = change.lost_addrs.iter();
        lines.extend(addrs.map(|addr| format!("{ip} address delete {addr} dev {name}")));
        if end.gets_ipv6() {
            lines.push(self.set_disable_ipv6(end, "0"));
        }
        if change.up == Some(true) {
            lines.push(format!("{ip} link set dev {name} up"));
        }
        lines.extend(self.addresses_and_routes(end));
        if change.up == Some(false) {
            lines.push(format!("{ip} link set dev {name} down"));
        }
        lines
    }

    /// `ip`, in the namespace of a place.
    fn ip(&self, at: &Place) -> String {
        match self.netns(at) {
            Some(name) => format!("ip -n {name}"),
            None => "ip".to_owned(),
        }
    }

    fn wire(&self, wire: &Wire) -> Vec<String> {
        let [a, b] = &wire.ends;
        // The host's namespace has no name to give for a peer. And where neither end is there, the line is run in the
        // namespace of the first: before Linux 6.15 a name that the host has could not be given elsewhere from there.
        let (link, peer) = if self.netns(&b.at).is_none() {
            (b, a)
        } else {
            (a, b)
        };
        let mut add = format!("{} link add {}", self.ip(&link.at), looks(link));
        if let Some(port) = &link.port {
            add.push_str(&format!(" master {}", port.bridge));
        }
        add.push_str(&format!(" type veth peer name {}", looks(peer)));
        if self.netns(&peer.at) != self.netns(&link.at)
            && let Some(name) = self.netns(&peer.at)
        {
            add.push_str(&format!(" netns {name}"));
        }
        let mut lines = vec![add];
        if link.port.is_some() && !peer.no_ipv6 {
            let line = format!("echo 0 >/proc/sys/net/ipv6/conf/{}/accept_ra", peer.name);
            let netns = self.netns(&peer.at).unwrap_or_default();
            lines.push(format!("ip netns exec {netns} sh -c '{line}'"));
        }
        // As the engine does it, since the order of addresses and routes is the order in which they are added.
        for end in [b, a] {
            let link_local = wire.link_local().filter(|_| end == b);
            lines.extend(link_local.map(|addr| self.address(end, &addr)));
            lines.extend(self.end(end));
        }
        lines
    }

    /// As the engine does it, the link is made in the container's namespace by a command in the host's, where its parent is.
    fn interface(&self, Interface { end, kind }: &Interface) -> Vec<String> {
        let ip = self.ip(&end.at);
        let netns = self
            .netns(&end.at)
            .map_or(String::new(), |name| format!(" netns {name}"));
        let on =
            |parent: &LinkName| format!("ip link add link {parent} {}{netns} type", looks(end));
        let name = &end.name;
        let mut lines = match kind {
            InterfaceKind::Macvlan { parent, mode } => {
                vec![format!("{} macvlan mode {mode}", on(parent))]
            }
            InterfaceKind::Ipvlan { parent, mode } => {
                vec![format!("{} ipvlan mode {mode}", on(parent))]
            }
            InterfaceKind::Vlan { parent, id } => vec![format!("{} vlan id {id}", on(parent))],
            InterfaceKind::Vxlan {
                vni,
                remotes,
                local,
                port,
                parent,
            } => {
                let mut add = format!("ip link add {}{netns} type vxlan id {vni}", looks(end));
                let mut others = remotes.iter();
                for (word, value) in [
                    ("remote", others.next().map(ToString::to_string)),
                    ("local", local.map(|ip| ip.to_string())),
                    ("dev", parent.as_ref().map(ToString::to_string)),
                ] {
                    if let Some(value) = value {
                        add.push_str(&format!(" {word} {value}"));
                    }
                }
                add.push_str(&format!(" dstport {port}"));
                let bridge = ip.replacen("ip", "bridge", 1);
                let append = |remote| {
                    format!(
                        "{bridge} fdb append 00:00:00:00:00:00 dev {name} dst {remote} self permanent"
                    )
                };
                [add].into_iter().chain(others.map(append)).collect()
            }
            InterfaceKind::Tap => {
                let mut lines = vec![format!("{ip} tuntap add dev {name} mode tap")];
                if end.mac.is_some() || end.mtu.is_some() {
                    lines.push(format!("{ip} link set dev {}", looks(end)));
                }
                lines
            }
            InterfaceKind::Wireguard { file, .. } => {
                let file = quoted(&file.to_string_lossy());
                let into = self
                    .netns(&end.at)
                    .map_or(String::new(), |name| format!("ip netns exec {name} "));
                vec![
                    format!("ip link add {}{netns} type wireguard", looks(end)),
                    format!("wg-quick strip {file} | {into}wg setconf {name} /dev/stdin"),
                ]
            }
            InterfaceKind::Phys { device, .. } => {
                let mut lines = vec![format!("ip link set dev {device} name {name}{netns}")];
                if end.mac.is_some() || end.mtu.is_some() {
                    lines.push(format!("{ip} link set dev {}", looks(end)));
                }
                lines
            }
        };
        lines.extend(self.end(end));
        lines
    }

    fn end(&self, end: &End) -> Vec<String> {
        let (ip, name) = (self.ip(&end.at), &end.name);
        let alias = match &end.alias {
            Some(alias) => format!(" alias {}", quoted(alias)),
            None => String::new(),
        };
        let mut lines = Vec::new();
        if end.no_ipv6 {
            lines.push(self.set_disable_ipv6(end, "1"));
        }
        lines.push(format!("{ip} link set dev {name} up{alias}"));
        if end.port.as_ref().is_some_and(|port| port.isolated) {
            lines.push(format!("bridge link set dev {name} isolated on"));
        }
        if end.port.as_ref().is_some_and(|port| port.reflects) {
            lines.push(format!("bridge link set dev {name} hairpin on"));
        }
        lines.extend(self.addresses_and_routes(end));
        lines
    }

    fn set_disable_ipv6(&self, end: &End, value: &str) -> String {
        let name = &end.name;
        let line = format!("echo {value} >/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
        match self.netns(&end.at) {
            None => line,
            Some(netns) => format!("ip netns exec {netns} sh -c '{line}'"),
        }
    }

    fn addresses_and_routes(&self, end: &End) -> Vec<String> {
        let (ip, name) = (self.ip(&end.at), &end.name);
        let addrs = end.addrs.iter().map(|addr| self.address(end, addr));
        let routes = end.routes.iter();
        let routes = routes.map(|route| format!("{ip} route add {} dev {name}", target(route)));
        addrs.chain(routes).collect()
    }

    fn address(&self, end: &End, addr: &EndAddr) -> String {
        let (ip, name) = (self.ip(&end.at), &end.name);
        format!("{ip} address add {} dev {name}{}", pair(addr), nodad(addr))
    }
}

/// The name that `ip netns` has for the namespace behind a path.
fn netns_name(path: &Path) -> Option<String> {
    let dir = path.parent()?;
    let named = dir == Path::new("/run/netns") || dir == Path::new("/var/run/netns");
    named.then(|| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    })?
}

/// What an end can be given at creation.
fn looks(end: &End) -> String {
    let mut words = end.name.to_string();
    if let Some(mac) = end.mac {
        words.push_str(&format!(" address {mac}"));
    }
    if let Some(mtu) = end.mtu {
        words.push_str(&format!(" mtu {mtu}"));
    }
    words
}

fn pair(EndAddr { addr, peer, .. }: &EndAddr) -> String {
    match peer {
        // The length is the peer's in this form (ip-address(8)).
        Some(peer) => format!("{} peer {peer}/{}", addr.ip, addr.prefix),
        None => addr.to_string(),
    }
}

/// Both ends of a wire are given their addresses here, so there is nobody to ask whether they are taken (RFC 4862 5.4).
fn nodad(addr: &EndAddr) -> &'static str {
    match addr.addr.ip {
        IpAddr::V4(_) => "",
        IpAddr::V6(_) => " nodad",
    }
}

fn target(route: &Route) -> String {
    match route.via {
        Some(via) if route.to.prefix == 0 => format!("default via {via}"),
        Some(via) => format!("{} via {via}", route.to),
        None => route.to.to_string(),
    }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.,:/@%=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::topology::Move;

    /// A container that has nothing but a new network namespace.
    pub(crate) fn node(name: &str) -> Node {
        Node {
            namespaces: [(NamespaceKind::Network, NamespaceSource::New)].into(),
            loopback: true,
            ..Node::beside(&name.parse().unwrap())
        }
    }

    /// An end with these addresses, each `ADDR` or `ADDR peer ADDR`, and these routes, each `TO` or `TO via ADDR`.
    pub(crate) fn end(at: Place, name: &str, addrs: &[&str], routes: &[&str]) -> End {
        let addr = |text: &&str| {
            let (addr, peer) = text
                .split_once(" peer ")
                .map_or((*text, None), |(a, p)| (a, Some(p)));
            EndAddr {
                addr: addr.parse().unwrap(),
                peer: peer.map(|peer| peer.parse().unwrap()),
                automatic: false,
            }
        };
        let route = |text: &&str| {
            let (to, via) = text
                .split_once(" via ")
                .map_or((*text, None), |(t, v)| (t, Some(v)));
            Route {
                to: to.parse().unwrap(),
                via: via.map(|via| via.parse().unwrap()),
            }
        };
        End {
            addrs: addrs.iter().map(addr).collect(),
            routes: routes.iter().map(route).collect(),
            ..End::bare(at, name.parse().unwrap())
        }
    }

    fn to_host() -> Topology {
        let mut near = end(
            Place::Node(0),
            "eth0",
            &["172.16.0.1/16", "fd00::1/64"],
            &["0.0.0.0/0 via 172.16.0.2", "10.0.0.0/8", "::/0 via fd00::2"],
        );
        near.mac = Some("02:00:00:00:00:01".parse().unwrap());
        near.mtu = Some(1400);
        let far_addrs = ["172.16.0.2/32 peer 172.16.0.1", "fd00::2/128 peer fd00::1"];
        let mut far = end(Place::Host, "veth-ns1", &far_addrs, &[]);
        far.mtu = Some(1400);
        far.alias = Some("tincan:ns1/eth0".to_owned());
        far.no_ipv6 = true;
        Topology {
            nodes: vec![node("ns1")],
            wires: vec![Wire { ends: [near, far] }],
            ..Topology::default()
        }
    }

    fn of_process(_: &ContainerName) -> Known {
        Known::Process(42)
    }

    #[test]
    fn a_wire_to_the_host_is_born_there_with_its_peer_in_the_container() {
        let mut topology = to_host();
        let expected = [
            "ip netns add ns1",
            "ip -n ns1 link set dev lo up",
            "ip link add veth-ns1 mtu 1400 type veth peer name eth0 address 02:00:00:00:00:01 mtu 1400 netns ns1",
            "echo 1 >/proc/sys/net/ipv6/conf/veth-ns1/disable_ipv6",
            "ip link set dev veth-ns1 up alias tincan:ns1/eth0",
            "ip address add 172.16.0.2 peer 172.16.0.1/32 dev veth-ns1",
            "ip address add fd00::2 peer fd00::1/128 dev veth-ns1 nodad",
            "ip -n ns1 link set dev eth0 up",
            "ip -n ns1 address add 172.16.0.1/16 dev eth0",
            "ip -n ns1 address add fd00::1/64 dev eth0 nodad",
            "ip -n ns1 route add default via 172.16.0.2 dev eth0",
            "ip -n ns1 route add 10.0.0.0/8 dev eth0",
            "ip -n ns1 route add default via fd00::2 dev eth0",
        ];
        assert_eq!(lines(&topology, &of_process), expected);
        topology.wires[0].ends.swap(0, 1);
        assert_eq!(lines(&topology, &of_process)[2], expected[2]);
        assert_eq!(undo_lines(&topology, &of_process), ["ip netns delete ns1"]);
    }

    #[test]
    fn a_running_container_is_attached_once_and_a_pair_never_touches_the_host() {
        let ns1 = Place::Running("ns1".parse().unwrap());
        let ends = || {
            [
                end(ns1.clone(), "eth0", &[], &[]),
                end(Place::Node(0), "eth0", &[], &[]),
            ]
        };
        let topology = Topology {
            nodes: vec![node("ns2")],
            wires: vec![Wire { ends: ends() }, Wire { ends: ends() }],
            ..Topology::default()
        };
        let printed = lines(&topology, &of_process);
        assert_eq!(printed[2], "ip netns attach ns1 42");
        assert_eq!(
            printed[3],
            "ip -n ns1 link add eth0 type veth peer name eth0 netns ns2"
        );
        assert_eq!(
            printed
                .iter()
                .filter(|line| line.contains("attach"))
                .count(),
            1
        );
        assert_eq!(
            undo_lines(&topology, &of_process),
            ["ip netns delete ns2", "ip netns delete ns1"]
        );
        let named = |_: &ContainerName| Known::Named("blue sky".to_owned());
        assert_eq!(
            lines(&topology, &named)[2],
            "ip -n 'blue sky' link add eth0 type veth peer name eth0 netns ns2"
        );
        assert_eq!(undo_lines(&topology, &named), ["ip netns delete ns2"]);
        let hot = Topology {
            wires: vec![Wire {
                ends: [
                    end(Place::Host, "veth-ns1", &[], &[]),
                    end(ns1, "eth1", &[], &[]),
                ],
            }],
            ..Topology::default()
        };
        assert_eq!(
            undo_lines(&hot, &of_process),
            ["ip link delete dev veth-ns1", "ip netns delete ns1"]
        );
    }

    #[test]
    fn what_makes_way_and_what_goes() {
        let host_addr = |ip: &str| EndAddr {
            addr: ip.parse().unwrap(),
            peer: Some("172.16.0.1".parse().unwrap()),
            automatic: true,
        };
        let topology = Topology {
            moves: vec![Move {
                container: "ns1".parse().unwrap(),
                interface: "veth-ns1".parse().unwrap(),
                from: host_addr("172.16.0.2/32"),
                to: host_addr("172.16.0.3/32"),
            }],
            removals: vec![Removal {
                container: "ns2".parse().unwrap(),
                interface: "eth1".parse().unwrap(),
            }],
            ..Topology::default()
        };
        let (two, three) = ["172.16.0.2", "172.16.0.3"]
            .map(|ip| format!("{ip} peer 172.16.0.1/32 dev veth-ns1"))
            .into();
        assert_eq!(
            lines(&topology, &of_process),
            [
                "ip netns attach ns2 42".to_owned(),
                "ip -n ns2 link delete dev eth1".to_owned(),
                format!("ip address delete {two}"),
                format!("ip address add {three}"),
            ]
        );
        assert_eq!(
            undo_lines(&topology, &of_process),
            [
                format!("ip address delete {three}"),
                format!("ip address add {two}"),
                "ip netns delete ns2".to_owned(),
            ]
        );
    }

    #[test]
    fn a_namespace_that_is_joined_has_its_own_name_or_gets_one() {
        let mut topology = to_host();
        let mut join = |path: &str| {
            let source = NamespaceSource::Path(path.into());
            topology.nodes[0]
                .namespaces
                .insert(NamespaceKind::Network, source);
            lines(&topology, &of_process)
        };
        let named = join("/run/netns/blue");
        assert!(named[0].ends_with(" netns blue"), "{named:?}");
        let unnamed = join("/proc/42/ns/net");
        assert_eq!(unnamed[2], "mount --bind /proc/42/ns/net /run/netns/ns1");
    }
}
