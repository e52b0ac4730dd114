//! Packet filtering and address translation by nftables, over netlink and in this process: a run of nft(8) costs a hundred times as
//! much. One table for each network, in the `inet` family, which is for IPv4 and IPv6; nobody else's is touched.
//!
//! The encoding is that of include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h; netlink(7) for its frame.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, BorrowedFd};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

use super::attributes::{self, Attributes};
use crate::plan::name::LinkName;
use crate::plan::net::Protocol;
use crate::plan::network::{Network, Published};
use crate::sys::channel;
use crate::sys::netns;

/// Messages of nftables: the subsystem's number is the upper byte of their type (NFNL_SUBSYS_NFTABLES).
const NFTABLES: u16 = 10;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const DEL_ELEMENT: u16 = 14;

/// What frames a batch, which is done whole or not at all.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// The family of tables for both.
const INET: u8 = libc::NFPROTO_INET as u8;

/// The register that all is compared in, of 16 bytes (NFT_REG_1).
const REGISTER: u32 = 1;

/// The registers of 4 bytes (NFT_REG32_00) that a key of several fields fills one after the other, and those for what a map has for it.
const KEY: u32 = 8;
const FOUND: u32 = 16;

/// The register of verdicts (NFT_REG_VERDICT).
const VERDICT: u32 = 0;

/// How many elements one message has: its list's length is a number of 16 bits, and one takes about 100 bytes.
const ELEMENTS: usize = 500;

/// How many one batch has: a message of a socket's is no longer than what it may have under way (net.core.wmem_default, socket(7): 212992).
const BATCH: usize = 1000;

/// The maps of published ports for a family.
struct Ports {
    /// Their names: where one address alone is asked for, where any is, and where many ports keep their numbers.
    names: [&'static str; 3],
    family: u8,
    /// Bytes of an address.
    address: usize,
    /// Where the destination is in the header: RFC 791, 3.1; RFC 8200, 3.
    destination: u32,
    /// nft(8)'s number for its type of address, by which that prints the map (`enum datatypes`, include/datatype.h there).
    kind: u32,
}

/// One of the maps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Map {
    /// Protocol, port and address of the host lead to an address and a port.
    At,
    /// Protocol and port of the host, at whichever address of its own, do.
    Any,
    /// Protocol and a range of ports, and one of addresses, lead to an address, where the port is the same: any number of ports is one
    /// element. In a map of ranges an element costs 70 µs to remove among a thousand (net/netfilter/nft_set_pipapo.c), in the others, which
    /// are hashes, one.
    Ranges,
}

impl Map {
    const ALL: [Map; 3] = [Map::At, Map::Any, Map::Ranges];

    fn has_address(self) -> bool {
        self != Map::Any
    }
}

const PORTS4: Ports = Ports {
    names: ["at4", "ports4", "ranges4"],
    family: libc::NFPROTO_IPV4 as u8,
    address: 4,
    destination: 16,
    kind: 7,
};

const PORTS6: Ports = Ports {
    names: ["at6", "ports6", "ranges6"],
    family: libc::NFPROTO_IPV6 as u8,
    address: 16,
    destination: 24,
    kind: 8,
};

impl Ports {
    fn of(ip: IpAddr) -> &'static Ports {
        if ip.is_ipv4() { &PORTS4 } else { &PORTS6 }
    }

    fn name(&self, map: Map) -> &'static str {
        self.names[map as usize]
    }
}

/// The text of a network's table's name.
pub fn table_name(network: &Network) -> String {
    table_of(&network.bridge)
}

fn table_of(bridge: &LinkName) -> String {
    format!("tincan-{bridge}")
}

/// Whether the kernel, or a module that it loads for the asking, has nftables with tables for both families.
pub fn is_supported() -> bool {
    let mut batch = Batch::default();
    let mut name = Attributes::default();
    name.text(1, "tincan"); // NFTA_TABLE_NAME
    batch.message(NEW_TABLE, libc::NLM_F_CREATE, &name);
    batch.message(DEL_TABLE, 0, &name);
    batch.exchange(true).is_ok()
}

/// Whether a network's table is there.
///
/// # Errors
/// Where the kernel has no nftables, or will not tell.
pub fn is_there(network: &Network) -> io::Result<bool> {
    is_table_there(&network.bridge)
}

fn is_table_there(bridge: &LinkName) -> io::Result<bool> {
    let mut batch = Batch::default();
    let mut name = Attributes::default();
    name.text(1, &table_of(bridge)); // NFTA_TABLE_NAME
    batch.message(GET_TABLE, libc::NLM_F_ACK, &name);
    match batch.exchange(false) {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a network's table, in the place of the one that is there, with no port published:
///
/// * what its containers send elsewhere has the address of the link by which it leaves (masquerade), unless the network is internal:
///   then it is dropped;
/// * what they send to containers that are on no network, by the host's ends of their wires, is dropped;
/// * what comes for them from elsewhere is dropped, unless it answers them, or is from a network that is allowed; so is what they send
///   each other by the host, on a network that keeps them apart.
///
/// # Errors
/// Where the kernel has no nftables, or refuses; then nothing has changed.
pub fn make(network: &Network, allowed: &[LinkName]) -> io::Result<()> {
    table(network, allowed).exchange(true)
}

/// Whether a network's table is there with all of its rules: as many, in the same order, each of the same expressions.
///
/// # Errors
/// Where the kernel has no nftables, or will not tell.
pub fn is_whole(network: &Network, allowed: &[LinkName]) -> io::Result<bool> {
    Ok(is_there(network)? && rules_of(&table_name(network))? == table(network, allowed).rules)
}

/// A rule: its chain, and the names of its expressions.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    chain: String,
    expressions: Vec<String>,
}

/// The rules of a table, chain by chain.
fn rules_of(table: &str) -> io::Result<Vec<Rule>> {
    let rules = all_of(GET_RULE, NEW_RULE, INET, table)?;
    Ok(rules
        .iter()
        .map(|rule| read_rule(&rule.attributes))
        .collect())
}

/// What the kernel tells of something.
struct Told {
    family: u8,
    attributes: Vec<u8>,
}

/// Asks for all that there is of a kind, of one table where one is named (NFTA_RULE_TABLE, NFTA_CHAIN_TABLE).
fn all_of(question: u16, answer: u16, family: u8, table: &str) -> io::Result<Vec<Told>> {
    let mut which = Attributes::default();
    if !table.is_empty() {
        which.text(1, table);
    }
    let kinds = [question, answer].map(|kind| NFTABLES << 8 | kind);
    let mut told = Vec::new();
    with_socket(|socket| {
        dump(socket, kinds, family, &which, |family, attributes| {
            let attributes = attributes.to_vec();
            told.push(Told { family, attributes });
        })
    })?;
    Ok(told)
}

/// A chain of somebody else's that drops what the host passes on, but for what a rule of it lets pass. A drop is final, whatever others accept.
#[derive(Debug, PartialEq, Eq)]
pub struct Barrier {
    /// The family of its table, as nft(8) has it.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
}

/// The first such chain in whose table no rule names a network's bridge.
///
/// # Errors
/// Where the kernel has no nftables, or will not tell.
pub fn barrier(network: &Network) -> io::Result<Option<Barrier>> {
    for told in all_of(GET_CHAIN, NEW_CHAIN, libc::NFPROTO_UNSPEC as u8, "")? {
        let family = match i32::from(told.family) {
            libc::NFPROTO_IPV4 if network.has_family(true) => "ip",
            libc::NFPROTO_IPV6 if network.has_ipv6() => "ip6",
            libc::NFPROTO_INET => "inet",
            _ => continue,
        };
        let of = |kind: u16| attributes::find(&told.attributes, kind);
        let is = |value: Option<&[u8]>, number: i32| value == Some(&number.to_be_bytes()[..]);
        let hook = of(4).and_then(|hook| attributes::find(hook, 1)); // NFTA_CHAIN_HOOK, NFTA_HOOK_HOOKNUM
        let drops = is(of(5), libc::NF_DROP); // NFTA_CHAIN_POLICY
        let (Some(table), Some(chain)) = (of(1).map(text), of(3).map(text)) else {
            continue;
        };
        if !drops || !is(hook, libc::NF_INET_FORWARD) {
            continue;
        }
        // As the operand of a comparison, a whole name ends with a zero, and there is one before it, of the attribute's kind.
        let name = [b"\0", network.bridge.as_str().as_bytes(), b"\0"].concat();
        let names = |rule: &Told| rule.attributes.windows(name.len()).any(|it| it == name);
        if all_of(GET_RULE, NEW_RULE, told.family, &table)?
            .iter()
            .any(names)
        {
            continue;
        }
        return Ok(Some(Barrier {
            family,
            table,
            chain,
        }));
    }
    Ok(None)
}

/// Text ends at the first zero.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&value[..end.unwrap_or(value.len())]).into_owned()
}

fn read_rule(bytes: &[u8]) -> Rule {
    let mut rule = Rule {
        chain: String::new(),
        expressions: Vec::new(),
    };
    for (kind, value) in attributes::read(bytes) {
        match kind {
            2 => rule.chain = text(value), // NFTA_RULE_CHAIN
            // NFTA_RULE_EXPRESSIONS
            4 => {
                let all = attributes::read(value);
                let names = all.filter_map(|(_, it)| attributes::find(it, 1)); // NFTA_EXPR_NAME
                rule.expressions = names.map(text).collect();
            }
            _ => {}
        }
    }
    rule
}

fn table(network: &Network, allowed: &[LinkName]) -> Batch {
    let table = table_name(network);
    let mut batch = Batch::default();
    let mut name = Attributes::default();
    name.text(1, &table); // NFTA_TABLE_NAME
    // There is something to delete then, in any case.
    batch.message(NEW_TABLE, libc::NLM_F_CREATE, &name);
    batch.message(DEL_TABLE, 0, &name);
    batch.message(NEW_TABLE, libc::NLM_F_CREATE, &name);

    let bridge = network.bridge.as_str();
    batch.chain(&table, "forward", "filter", libc::NF_INET_FORWARD, 0); // NF_IP_PRI_FILTER
    let mut rule = |build: &dyn Fn(&mut Expressions)| batch.rule(&table, "forward", build);
    // By the host's routes, where one has it as the next hop to another; and what a bridge passes on, where it calls netfilter.
    if !network.isolate {
        rule(&|it| it.in_by(bridge, true).out_by(bridge, true).accept());
    }
    rule(&|it| it.answers().out_by(bridge, true).accept());
    if !network.internal {
        rule(&|it| it.was_led(true).out_by(bridge, true).accept());
    }
    for other in allowed {
        rule(&|it| it.in_by(other.as_str(), true).out_by(bridge, true).accept());
    }
    rule(&|it| it.out_by(bridge, true).drop());
    // The host's ends of wires to single containers, which are no network's: they have answers from what is published, and no more.
    if !network.internal {
        rule(&|it| {
            it.answers()
                .in_by(bridge, true)
                .out_by_some("veth-")
                .accept()
        });
    }
    rule(&|it| it.in_by(bridge, true).out_by_some("veth-").drop());
    if network.internal {
        // To who is allowed, and asked.
        rule(&|it| it.answers().in_by(bridge, true).accept());
        rule(&|it| it.in_by(bridge, true).drop());
    } else {
        way_out(&mut batch, &table, network);
        way_in(&mut batch, &table, network);
    }
    batch
}

/// What leaves a network has the address of the link by which it leaves, unless it has been led to where it goes: then its sender is
/// known there by its own, but for those to whom the answer would not come back through the host.
fn way_out(batch: &mut Batch, table: &str, network: &Network) {
    const CHAIN: &str = "postrouting";
    const PRIORITY: i32 = 100; // NF_IP_PRI_NAT_SRC
    let bridge = network.bridge.as_str();
    batch.chain(table, CHAIN, "nat", libc::NF_INET_POST_ROUTING, PRIORITY);
    for subnet in &network.subnets {
        let (ip, prefix) = (subnet.prefix.ip, subnet.prefix.prefix);
        batch.rule(table, CHAIN, &|it| {
            it.out_by(bridge, false)
                .was_led(false)
                .source_in(ip, prefix)
                .masquerade();
        });
        // From a container to a published port of its own network.
        batch.rule(table, CHAIN, &|it| {
            it.out_by(bridge, true)
                .was_led(true)
                .source_in(ip, prefix)
                .masquerade();
        });
    }
    // From the host's loopback address, which is nobody's on a link.
    for (ip, prefix) in LOOPBACK {
        batch.rule(table, CHAIN, &|it| {
            it.out_by(bridge, true).source_in(ip, prefix).masquerade();
        });
    }
}

/// What comes for a published port of the host's, from elsewhere or from the host itself, is led to its container.
fn way_in(batch: &mut Batch, table: &str, network: &Network) {
    let bridge = network.bridge.as_str();
    let mut number = 0;
    for subnet in &network.subnets {
        for map in Map::ALL {
            number += 1;
            batch.ports(table, Ports::of(subnet.prefix.ip), map, number);
        }
    }
    // The host's loopback addresses, which the bridge lets through for answers, are not for its containers to send to, or from.
    batch.chain(table, "guard", "filter", libc::NF_INET_PRE_ROUTING, -300); // NF_IP_PRI_RAW
    for (ip, prefix) in LOOPBACK {
        batch.rule(table, "guard", &|it| {
            it.in_by(bridge, true).source_in(ip, prefix).drop();
        });
        batch.rule(table, "guard", &|it| {
            it.in_by(bridge, true).destination_in(ip, prefix).drop();
        });
    }
    for (chain, hook) in [
        ("prerouting", libc::NF_INET_PRE_ROUTING),
        ("output", libc::NF_INET_LOCAL_OUT),
    ] {
        batch.chain(table, chain, "nat", hook, -100); // NF_IP_PRI_NAT_DST
        if hook == libc::NF_INET_PRE_ROUTING {
            // What comes from a link for a loopback address is led nowhere: the kernel drops it, but later (CVE-2020-8558).
            for (ip, prefix) in LOOPBACK {
                batch.rule(table, chain, &|it| {
                    it.in_by("lo", false).destination_in(ip, prefix).accept();
                });
            }
        }
        for subnet in &network.subnets {
            let ports = Ports::of(subnet.prefix.ip);
            for map in Map::ALL {
                batch.rule(table, chain, &|it| it.lead(ports, map));
            }
        }
    }
}

/// The host's loopback addresses (RFC 1122, 3.2.1.3; RFC 4291, 2.5.3), each with the length of its prefix.
const LOOPBACK: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::LOCALHOST), 8),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
];

/// Leads published ports of the host's to a container.
///
/// # Errors
/// When the network's table is not there, or the kernel refuses: EEXIST where a port leads elsewhere already. Of very many some may lead there
/// then.
pub fn publish(bridge: &LinkName, published: &[&Published]) -> io::Result<()> {
    let all = all_elements(published);
    all.chunks(BATCH).try_for_each(|some| {
        change_elements(bridge, some, NEW_ELEMENT, libc::NLM_F_CREATE).exchange(true)
    })
}

/// Whether all of them lead somewhere.
///
/// # Errors
/// When the kernel will not tell.
pub fn leads(bridge: &LinkName, published: &[&Published]) -> io::Result<bool> {
    // Each has an answer of its own, and the socket has room for some 250 of them (net.core.rmem_default, socket(7)).
    const ASKED: usize = 100;
    for some in all_elements(published).chunks(ASKED) {
        let question = change_elements(bridge, some, GET_ELEMENT, libc::NLM_F_ACK);
        match question.exchange(false) {
            Err(error) if is_absent(&error) => return Ok(false),
            other => other?,
        }
    }
    Ok(true)
}

/// Leads them nowhere again; absent is success.
///
/// # Errors
/// When the kernel refuses.
pub fn unpublish(bridge: &LinkName, published: &[&Published]) -> io::Result<()> {
    let all = all_elements(published);
    all.chunks(BATCH)
        .try_for_each(|some| take_out(bridge, some))
}

/// A batch is done whole or not at all: where one of the elements is not there, each half is taken out by itself.
fn take_out(bridge: &LinkName, elements: &[Element]) -> io::Result<()> {
    let batch = change_elements(bridge, elements, DEL_ELEMENT, 0);
    match batch.exchange(true) {
        Err(error) if is_absent(&error) => {
            let (first, second) = elements.split_at(elements.len() / 2);
            if first.is_empty() || !is_table_there(bridge)? {
                return Ok(());
            }
            take_out(bridge, first)?;
            take_out(bridge, second)
        }
        other => other,
    }
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}

/// An element, and of which map it is.
struct Element {
    ports: &'static Ports,
    map: Map,
    attributes: Attributes,
}

/// The elements of published ports, those of one map together.
fn all_elements(published: &[&Published]) -> Vec<Element> {
    let families = [&PORTS4, &PORTS6].into_iter();
    let maps = families.flat_map(|ports| Map::ALL.map(|map| (ports, map)));
    maps.flat_map(|(ports, map)| {
        let its = published.iter().flat_map(move |one| {
            let attributes = elements(one, ports, map).into_iter();
            attributes.map(move |attributes| Element {
                ports,
                map,
                attributes,
            })
        });
        its.collect::<Vec<_>>()
    })
    .collect()
}

fn change_elements(
    bridge: &LinkName,
    elements: &[Element],
    message: u16,
    flags: libc::c_int,
) -> Batch {
    let mut batch = Batch::default();
    let of_one_map = |one: &Element, next: &Element| {
        one.map == next.map && one.ports.family == next.ports.family
    };
    for some in elements.chunk_by(of_one_map) {
        let (ports, map) = (some[0].ports, some[0].map);
        for some in some.chunks(ELEMENTS) {
            let mut list = Attributes::default();
            for element in some {
                list.nested(1, &element.attributes); // NFTA_LIST_ELEM
            }
            let mut change = Attributes::default();
            change.text(1, &table_of(bridge)); // NFTA_SET_ELEM_LIST_TABLE
            change.text(2, ports.name(map)); // NFTA_SET_ELEM_LIST_SET
            change.nested(3, &list); // NFTA_SET_ELEM_LIST_ELEMENTS
            batch.message(message, flags, &change);
        }
    }
    batch
}

/// The elements of a map for published ports: as a rule one for each address that they lead to.
fn elements(published: &Published, ports: &Ports, map: Map) -> Vec<Attributes> {
    let publish = &published.publish;
    let protocol = match publish.protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
        Protocol::Sctp => libc::IPPROTO_SCTP,
    };
    let protocol = u8::try_from(protocol).expect("a number of 8 bits (RFC 791, 3.1)");
    let field = |port: u16| [port.to_be_bytes(), [0; 2]].concat();
    let mut elements = Vec::new();
    for to in published
        .to
        .iter()
        .filter(|to| Ports::of(**to).family == ports.family)
    {
        let octets = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let own = publish.address.filter(|ip| !ip.is_unspecified());
        let (low, high) = match own {
            Some(ip) => (octets(ip), octets(ip)),
            None => (vec![0; ports.address], vec![0xff; ports.address]),
        };
        for piece in publish.pieces() {
            let its = match (piece.to, own) {
                (None, _) => Map::Ranges,
                (Some(_), Some(_)) => Map::At,
                (Some(_), None) => Map::Any,
            };
            if its != map {
                continue;
            }
            let key = |port, address: &[u8]| {
                let mut key = [&[protocol, 0, 0, 0], &field(port)[..]].concat();
                if map.has_address() {
                    key.extend(address);
                }
                key
            };
            let mut element = Attributes::default();
            element.value(1, &key(piece.ports.first, &low)); // NFTA_SET_ELEM_KEY
            let data = [octets(*to), piece.to.map_or(Vec::new(), field)].concat();
            element.value(2, &data); // NFTA_SET_ELEM_DATA
            if map == Map::Ranges {
                element.value(10, &key(piece.ports.last, &high)); // NFTA_SET_ELEM_KEY_END
            }
            elements.push(element);
        }
    }
    elements
}

/// Removes a network's table; absent is success.
///
/// # Errors
/// When the kernel refuses.
pub fn remove(network: &Network) -> io::Result<()> {
    let mut batch = Batch::default();
    let mut name = Attributes::default();
    name.text(1, &table_name(network)); // NFTA_TABLE_NAME
    batch.message(DEL_TABLE, 0, &name);
    match batch.exchange(true) {
        Err(error) if is_absent(&error) => Ok(()),
        other => other,
    }
}

/// A network namespace that nothing comes to and nothing leaves, until this is dropped or tincan ends: the table that sees to it is the
/// socket's and goes with it (NFT_TABLE_F_OWNER, Linux 5.12).
pub struct Stillness {
    _owner: Socket,
}

/// Keeps a network namespace still: what comes for a connection whose socket is not there would be answered by its end.
///
/// # Errors
/// Where the kernel has no nftables, or no tables with owners.
pub fn still(netns: BorrowedFd<'_>) -> io::Result<Stillness> {
    const TABLE: &str = "tincan-still";
    // NFT_TABLE_F_OWNER
    const OWNED: u32 = 2;
    let mut batch = Batch::default();
    let mut table = Attributes::default();
    table.text(1, TABLE); // NFTA_TABLE_NAME
    table.number(2, OWNED); // NFTA_TABLE_FLAGS
    batch.message(NEW_TABLE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &table);
    for (chain, hook) in [
        ("in", libc::NF_INET_LOCAL_IN),
        ("out", libc::NF_INET_LOCAL_OUT),
    ] {
        batch.chain(TABLE, chain, "filter", hook, 0); // NF_IP_PRI_FILTER
        batch.rule(TABLE, chain, &|it| it.drop());
    }
    let owner = netns::within(netns, || Socket::new(NETLINK_NETFILTER))??;
    batch.exchange_over(&owner, true)?;
    Ok(Stillness { _owner: owner })
}

/// The expressions of a rule, each of which goes on only where it holds.
#[derive(Default)]
struct Expressions {
    list: Attributes,
    names: Vec<String>,
}

impl Expressions {
    fn expression(&mut self, name: &str, data: &Attributes) -> &mut Self {
        let mut expression = Attributes::default();
        expression.text(1, name); // NFTA_EXPR_NAME
        expression.nested(2, data); // NFTA_EXPR_DATA
        self.list.nested(1, &expression); // NFTA_LIST_ELEM
        self.names.push(name.to_owned());
        self
    }

    /// Loads something of the packet's into the register.
    fn meta(&mut self, key: libc::c_int) -> &mut Self {
        self.meta_to(key, REGISTER)
    }

    fn meta_to(&mut self, key: libc::c_int, register: u32) -> &mut Self {
        let mut data = Attributes::default();
        data.number(1, register); // NFTA_META_DREG
        data.number(2, key.cast_unsigned()); // NFTA_META_KEY
        self.expression("meta", &data)
    }

    fn compare(&mut self, equal: bool, value: &[u8]) -> &mut Self {
        let operation = if equal {
            libc::NFT_CMP_EQ
        } else {
            libc::NFT_CMP_NEQ
        };
        let mut data = Attributes::default();
        data.number(1, REGISTER); // NFTA_CMP_SREG
        data.number(2, operation.cast_unsigned()); // NFTA_CMP_OP
        data.value(3, value); // NFTA_CMP_DATA
        self.expression("cmp", &data)
    }

    fn mask(&mut self, mask: &[u8]) -> &mut Self {
        let mut data = Attributes::default();
        data.number(1, REGISTER); // NFTA_BITWISE_SREG
        data.number(2, REGISTER); // NFTA_BITWISE_DREG
        data.number(3, u32::try_from(mask.len()).expect("at most 16")); // NFTA_BITWISE_LEN
        data.value(4, mask); // NFTA_BITWISE_MASK
        data.value(5, &vec![0; mask.len()]); // NFTA_BITWISE_XOR
        self.expression("bitwise", &data)
    }

    /// A name fills its whole register.
    fn link_is(&mut self, key: libc::c_int, name: &str, equal: bool) -> &mut Self {
        let mut padded = [0; libc::IFNAMSIZ];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        self.meta(key).compare(equal, &padded)
    }

    fn in_by(&mut self, name: &str, equal: bool) -> &mut Self {
        self.link_is(libc::NFT_META_IIFNAME, name, equal)
    }

    fn out_by(&mut self, name: &str, equal: bool) -> &mut Self {
        self.link_is(libc::NFT_META_OIFNAME, name, equal)
    }

    /// The packet leaves by a link whose name begins so: what is compared is no longer than this.
    fn out_by_some(&mut self, beginning: &str) -> &mut Self {
        self.meta(libc::NFT_META_OIFNAME)
            .compare(true, beginning.as_bytes())
    }

    /// Loads what conntrack knows of the packet's connection.
    fn connection(&mut self, key: libc::c_int) -> &mut Self {
        let mut data = Attributes::default();
        data.number(1, REGISTER); // NFTA_CT_DREG
        data.number(2, key.cast_unsigned()); // NFTA_CT_KEY
        self.expression("ct", &data)
    }

    /// The packet is of a connection that is there already, or of one that belongs to such a one.
    fn answers(&mut self) -> &mut Self {
        // NF_CT_STATE_BIT (net/netfilter/nf_conntrack_common.h): 2 is established, 4 is related; numbers of this machine's order.
        const ANSWERS: u32 = 2 | 4;
        self.connection(libc::NFT_CT_STATE);
        self.mask(&ANSWERS.to_ne_bytes()).compare(false, &[0; 4])
    }

    /// The packet is of a connection that was led to another destination than its sender's, or is not.
    fn was_led(&mut self, led: bool) -> &mut Self {
        // IPS_DST_NAT (include/uapi/linux/netfilter/nf_conntrack_common.h).
        const LED: u32 = 1 << 5;
        self.connection(libc::NFT_CT_STATUS);
        self.mask(&LED.to_ne_bytes()).compare(!led, &[0; 4])
    }

    fn payload_to(
        &mut self,
        base: libc::c_int,
        offset: u32,
        length: usize,
        register: u32,
    ) -> &mut Self {
        let mut data = Attributes::default();
        data.number(1, register); // NFTA_PAYLOAD_DREG
        data.number(2, base.cast_unsigned()); // NFTA_PAYLOAD_BASE
        data.number(3, offset); // NFTA_PAYLOAD_OFFSET
        data.number(4, u32::try_from(length).expect("at most 16")); // NFTA_PAYLOAD_LEN
        self.expression("payload", &data)
    }

    fn is_of(&mut self, family: u8) -> &mut Self {
        self.meta(libc::NFT_META_NFPROTO).compare(true, &[family])
    }

    /// The packet's source is in a prefix.
    fn source_in(&mut self, ip: IpAddr, prefix: u8) -> &mut Self {
        // Where the source is in the header: RFC 791, 3.1; RFC 8200, 3.
        self.address_in(if ip.is_ipv4() { 12 } else { 8 }, ip, prefix)
    }

    /// The packet's destination is in a prefix.
    fn destination_in(&mut self, ip: IpAddr, prefix: u8) -> &mut Self {
        self.address_in(Ports::of(ip).destination, ip, prefix)
    }

    fn address_in(&mut self, offset: u32, ip: IpAddr, prefix: u8) -> &mut Self {
        let mut address = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let mask: Vec<u8> = (0..address.len())
            .map(|at| {
                let bits = usize::from(prefix).saturating_sub(at * 8).min(8);
                !(0xff_u16 >> bits) as u8
            })
            .collect();
        address
            .iter_mut()
            .zip(&mask)
            .for_each(|(byte, mask)| *byte &= mask);
        self.is_of(Ports::of(ip).family);
        let base = libc::NFT_PAYLOAD_NETWORK_HEADER;
        self.payload_to(base, offset, address.len(), REGISTER);
        self.mask(&mask).compare(true, &address)
    }

    /// The packet is for an address of the host's, whichever, and leads to where the map says.
    fn lead(&mut self, ports: &Ports, map: Map) {
        let mut local = Attributes::default();
        local.number(1, REGISTER); // NFTA_FIB_DREG
        local.number(2, 3); // NFTA_FIB_RESULT: NFT_FIB_RESULT_ADDRTYPE
        local.number(3, 1 << 1); // NFTA_FIB_FLAGS: NFTA_FIB_F_DADDR
        self.is_of(ports.family)
            .expression("fib", &local)
            .compare(true, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
            .meta_to(libc::NFT_META_L4PROTO, KEY)
            // The destination port of all of them: RFC 9293, 3.1; RFC 768; RFC 9260, 3.1.
            .payload_to(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, KEY + 1);
        if map.has_address() {
            let base = libc::NFT_PAYLOAD_NETWORK_HEADER;
            self.payload_to(base, ports.destination, ports.address, KEY + 2);
        }
        let mut lookup = Attributes::default();
        lookup.text(1, ports.name(map)); // NFTA_LOOKUP_SET
        lookup.number(2, KEY); // NFTA_LOOKUP_SREG
        lookup.number(3, FOUND); // NFTA_LOOKUP_DREG
        self.expression("lookup", &lookup);
        let port = FOUND + u32::try_from(ports.address / 4).expect("1 or 4");
        let mut nat = Attributes::default();
        nat.number(1, libc::NFT_NAT_DNAT.cast_unsigned()); // NFTA_NAT_TYPE
        nat.number(2, u32::from(ports.family)); // NFTA_NAT_FAMILY
        nat.number(3, FOUND); // NFTA_NAT_REG_ADDR_MIN
        if map != Map::Ranges {
            nat.number(5, port); // NFTA_NAT_REG_PROTO_MIN
        }
        self.expression("nat", &nat);
    }

    fn verdict(&mut self, code: libc::c_int) {
        let mut verdict = Attributes::default();
        verdict.number(1, code.cast_unsigned()); // NFTA_VERDICT_CODE
        let mut value = Attributes::default();
        value.nested(2, &verdict); // NFTA_DATA_VERDICT
        let mut data = Attributes::default();
        data.number(1, VERDICT); // NFTA_IMMEDIATE_DREG
        data.nested(2, &value); // NFTA_IMMEDIATE_DATA
        self.expression("immediate", &data);
    }

    fn accept(&mut self) {
        self.verdict(libc::NF_ACCEPT);
    }

    fn drop(&mut self) {
        self.verdict(libc::NF_DROP);
    }

    fn masquerade(&mut self) {
        self.expression("masq", &Attributes::default());
    }
}

/// Messages that are sent together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    /// How many of them are answered.
    answered: usize,
    /// The rules that they make.
    rules: Vec<Rule>,
}

impl Batch {
    fn message(&mut self, kind: u16, flags: libc::c_int, attributes: &Attributes) {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags;
        self.frame(NFTABLES << 8 | kind, flags, INET, 0, attributes.as_bytes());
        self.answered += 1;
    }

    /// A header of netlink's (struct nlmsghdr), one of netfilter's (struct nfgenmsg), and what follows.
    fn frame(&mut self, kind: u16, flags: libc::c_int, family: u8, resource: u16, rest: &[u8]) {
        let length = u32::try_from(20 + rest.len()).expect("messages here are short");
        let flags = u16::try_from(flags).expect("flags of 16 bits");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(rest);
        self.sequence += 1;
    }

    /// A chain that the kernel's hook leads to, and that lets pass what no rule of it is for.
    fn chain(&mut self, table: &str, name: &str, kind: &str, hook: libc::c_int, priority: i32) {
        let mut at = Attributes::default();
        at.number(1, hook.cast_unsigned()); // NFTA_HOOK_HOOKNUM
        at.number(2, priority.cast_unsigned()); // NFTA_HOOK_PRIORITY
        let mut chain = Attributes::default();
        chain.text(1, table); // NFTA_CHAIN_TABLE
        chain.text(3, name); // NFTA_CHAIN_NAME
        chain.nested(4, &at); // NFTA_CHAIN_HOOK
        chain.number(5, libc::NF_ACCEPT.cast_unsigned()); // NFTA_CHAIN_POLICY
        chain.text(7, kind); // NFTA_CHAIN_TYPE
        self.message(NEW_CHAIN, libc::NLM_F_CREATE, &chain);
    }

    fn rule(&mut self, table: &str, chain: &str, build: &dyn Fn(&mut Expressions)) {
        let mut expressions = Expressions::default();
        build(&mut expressions);
        let mut rule = Attributes::default();
        rule.text(1, table); // NFTA_RULE_TABLE
        rule.text(2, chain); // NFTA_RULE_CHAIN
        rule.nested(4, &expressions.list); // NFTA_RULE_EXPRESSIONS
        self.message(NEW_RULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, &rule);
        self.rules.push(Rule {
            chain: chain.to_owned(),
            expressions: expressions.names,
        });
    }

    /// A map of a family's published ports, which the batch knows by this number.
    fn ports(&mut self, table: &str, ports: &Ports, map: Map, number: u32) {
        // A type of several fields has six bits for each (`concat_type_alloc` in nft); 12 is a protocol, 13 a port.
        const PROTOCOL: u32 = 12;
        const PORT: u32 = 13;
        let kind = |fields: &[u32]| fields.iter().fold(0, |kind, field| kind << 6 | field);
        let address = u32::try_from(ports.address).expect("4 or 16");
        let (key, key_length) = match map.has_address() {
            true => (kind(&[PROTOCOL, PORT, ports.kind]), 4 + 4 + address),
            false => (kind(&[PROTOCOL, PORT]), 4 + 4),
        };
        let (data, data_length) = match map {
            Map::Ranges => (ports.kind, address),
            Map::At | Map::Any => (kind(&[ports.kind, PORT]), address + 4),
        };
        let mut set = Attributes::default();
        set.text(1, table); // NFTA_SET_TABLE
        set.text(2, ports.name(map)); // NFTA_SET_NAME
        let mut flags = libc::NFT_SET_MAP.cast_unsigned();
        if map == Map::Ranges {
            // NFT_SET_CONCAT: ranges are of each field, not of the whole key.
            const CONCAT: u32 = 1 << 7;
            flags |= libc::NFT_SET_INTERVAL.cast_unsigned() | CONCAT;
            let mut fields = Attributes::default();
            for bytes in [1, 2, address] {
                let mut field = Attributes::default();
                field.number(1, bytes); // NFTA_SET_FIELD_LEN
                fields.nested(1, &field); // NFTA_LIST_ELEM
            }
            let mut description = Attributes::default();
            description.nested(2, &fields); // NFTA_SET_DESC_CONCAT
            set.nested(9, &description); // NFTA_SET_DESC
        }
        set.number(3, flags); // NFTA_SET_FLAGS
        set.number(4, key); // NFTA_SET_KEY_TYPE
        set.number(5, key_length); // NFTA_SET_KEY_LEN
        set.number(6, data); // NFTA_SET_DATA_TYPE
        set.number(7, data_length); // NFTA_SET_DATA_LEN
        set.number(10, number); // NFTA_SET_ID
        self.message(NEW_SET, libc::NLM_F_CREATE, &set);
    }

    /// Sends the messages, framed as a batch where they change something, and reads the answers.
    fn exchange(self, changes: bool) -> io::Result<()> {
        with_socket(|socket| self.exchange_over(socket, changes))
    }

    fn exchange_over(mut self, socket: &Socket, changes: bool) -> io::Result<()> {
        if changes {
            let mut framed = Batch::default();
            framed.frame(BATCH_BEGIN, libc::NLM_F_REQUEST, 0, NFTABLES, &[]);
            framed.bytes.append(&mut self.bytes);
            framed.sequence = self.sequence;
            framed.frame(BATCH_END, libc::NLM_F_REQUEST, 0, NFTABLES, &[]);
            self.bytes = framed.bytes;
        }
        socket.send_to(&self.bytes, &SocketAddr::new(0, 0), 0)?;
        let mut answered = 0;
        while answered < self.answered {
            // The answers are there when the call returns: the kernel does all in the sender's context (`netlink_unicast_kernel`).
            let (datagram, _) = socket.recv_from_full()?;
            for (kind, message) in messages(&datagram) {
                if i32::from(kind) == libc::NLMSG_ERROR {
                    answered += 1;
                    if let Some(errno) = error_of(message) {
                        return Err(errno.into());
                    }
                }
            }
        }
        Ok(())
    }
}

/// Talks with netfilter over a socket of its own.
pub(super) fn with_socket<T>(talk: impl FnOnce(&Socket) -> io::Result<T>) -> io::Result<T> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    let said = talk(&socket);
    // Whoever closes such a socket waits until what anybody has deleted is freed, which takes 10 ms and more (`nft_rcv_nl_event` in
    // net/netfilter/nf_tables_api.c).
    let _ = channel::close_behind(socket.as_fd());
    said
}

/// Asks for all that there is of a kind, and hears each: its family and its attributes. The kinds are the question's and the answers'.
pub(super) fn dump(
    socket: &Socket,
    [question, answer]: [u16; 2],
    family: u8,
    which: &Attributes,
    mut hear: impl FnMut(u8, &[u8]),
) -> io::Result<()> {
    let mut batch = Batch::default();
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
    batch.frame(question, flags, family, 0, which.as_bytes());
    socket.send_to(&batch.bytes, &SocketAddr::new(0, 0), 0)?;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        for (kind, message) in messages(&datagram) {
            match (i32::from(kind), message) {
                (libc::NLMSG_DONE, _) => return Ok(()),
                (libc::NLMSG_ERROR, _) => {
                    return Err(error_of(message).unwrap_or(Errno::EPROTO).into());
                }
                // struct nfgenmsg has its family first.
                (_, [family, _, _, _, attributes @ ..]) if kind == answer => {
                    hear(*family, attributes);
                }
                _ => {}
            }
        }
    }
}

/// Has one thing done, and hears whether it is.
pub(super) fn demand(socket: &Socket, kind: u16, family: u8, which: &Attributes) -> io::Result<()> {
    let mut batch = Batch::default();
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    batch.frame(kind, flags, family, 0, which.as_bytes());
    batch.answered = 1;
    batch.exchange_over(socket, false)
}

/// The messages of a datagram of netlink's, each with its type and what follows its header.
fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.get(..16)?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let message = rest.get(16..length.max(16)).unwrap_or_default();
        rest = rest
            .get(length.max(16).next_multiple_of(4)..)
            .unwrap_or_default();
        Some((kind, message))
    })
}

/// What an answer says (struct nlmsgerr): none where all is well.
fn error_of(message: &[u8]) -> Option<Errno> {
    let code = message
        .get(..4)
        .map_or([0; 4], |it| [it[0], it[1], it[2], it[3]]);
    match i32::from_ne_bytes(code) {
        0 => None,
        code => Some(Errno::from_raw(-code)),
    }
}
