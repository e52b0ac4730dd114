//! Packet filtering and address translation by nftables, over netlink and in this process: a run of nft(8) costs a hundred times as
//! much. One table for each network, in the `inet` family, which is for IPv4 and IPv6; nobody else's is touched.
//!
//! The encoding is that of include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h; netlink(7) for its frame.

use std::io;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

use crate::plan::name::LinkName;
use crate::plan::network::Network;

/// Messages of nftables: the subsystem's number is the upper byte of their type (NFNL_SUBSYS_NFTABLES).
const NFTABLES: u16 = 10;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;

/// What frames a batch, which is done whole or not at all.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// The family of tables for both.
const INET: u8 = libc::NFPROTO_INET as u8;

/// The register that all is compared in, of 16 bytes (NFT_REG_1).
const REGISTER: u32 = 1;

/// The register of verdicts (NFT_REG_VERDICT).
const VERDICT: u32 = 0;

/// The text of a network's table's name.
pub fn table_name(network: &Network) -> String {
    format!("tincan-{}", network.bridge)
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
    let mut batch = Batch::default();
    let mut name = Attributes::default();
    name.text(1, &table_name(network)); // NFTA_TABLE_NAME
    batch.message(GET_TABLE, libc::NLM_F_ACK, &name);
    match batch.exchange(false) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a network's table, in the place of the one that is there:
///
/// * what its containers send elsewhere has the address of the link by which it leaves (masquerade), unless the network is internal:
///   then it is dropped;
/// * what they send to containers that are on no network, by the host's ends of their wires, is dropped;
/// * what comes for them from elsewhere is dropped, unless it answers them, or is from a network that is allowed.
///
/// # Errors
/// Where the kernel has no nftables, or refuses; then nothing has changed.
pub fn make(network: &Network, allowed: &[LinkName]) -> io::Result<()> {
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
    rule(&|it| it.in_by(bridge, true).out_by(bridge, true).accept());
    rule(&|it| it.answers().out_by(bridge, true).accept());
    for other in allowed {
        rule(&|it| it.in_by(other.as_str(), true).out_by(bridge, true).accept());
    }
    rule(&|it| it.out_by(bridge, true).drop());
    // The host's ends of wires to single containers, which are no network's.
    rule(&|it| it.in_by(bridge, true).out_by_some("veth-").drop());
    if network.internal {
        // To who is allowed, and asked.
        rule(&|it| it.answers().in_by(bridge, true).accept());
        rule(&|it| it.in_by(bridge, true).drop());
    } else {
        batch.chain(
            &table,
            "postrouting",
            "nat",
            libc::NF_INET_POST_ROUTING,
            100,
        ); // NF_IP_PRI_NAT_SRC
        for subnet in &network.subnets {
            batch.rule(&table, "postrouting", &|it| {
                it.out_by(bridge, false)
                    .source_in(subnet.prefix.ip, subnet.prefix.prefix)
                    .masquerade();
            });
        }
    }
    batch.exchange(true)
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
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// Attributes, one after the other (netlink(7)): length, type, value, and padding to four bytes.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("attributes here are short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat());
    }

    /// Numbers are big-endian, unlike those of other families.
    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn nested(&mut self, kind: u16, inner: &Attributes) {
        const NLA_F_NESTED: u16 = 1 << 15;
        self.bytes(kind | NLA_F_NESTED, &inner.0);
    }

    /// A value to compare with (NFTA_DATA_VALUE).
    fn value(&mut self, kind: u16, value: &[u8]) {
        let mut inner = Attributes::default();
        inner.bytes(1, value);
        self.nested(kind, &inner);
    }
}

/// The expressions of a rule, each of which goes on only where it holds.
#[derive(Default)]
struct Expressions(Attributes);

impl Expressions {
    fn expression(&mut self, name: &str, data: &Attributes) -> &mut Self {
        let mut expression = Attributes::default();
        expression.text(1, name); // NFTA_EXPR_NAME
        expression.nested(2, data); // NFTA_EXPR_DATA
        self.0.nested(1, &expression); // NFTA_LIST_ELEM
        self
    }

    /// Loads something of the packet's into the register.
    fn meta(&mut self, key: libc::c_int) -> &mut Self {
        let mut data = Attributes::default();
        data.number(1, REGISTER); // NFTA_META_DREG
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

    /// The packet is of a connection that is there already, or of one that belongs to such a one.
    fn answers(&mut self) -> &mut Self {
        // NF_CT_STATE_BIT (net/netfilter/nf_conntrack_common.h): 2 is established, 4 is related; numbers of this machine's order.
        const ANSWERS: u32 = 2 | 4;
        let mut data = Attributes::default();
        data.number(1, REGISTER); // NFTA_CT_DREG
        data.number(2, libc::NFT_CT_STATE.cast_unsigned()); // NFTA_CT_KEY
        self.expression("ct", &data);
        self.mask(&ANSWERS.to_ne_bytes()).compare(false, &[0; 4])
    }

    /// The packet's source is in a prefix.
    fn source_in(&mut self, ip: IpAddr, prefix: u8) -> &mut Self {
        // Where the source is in the header: RFC 791, 3.1; RFC 8200, 3.
        let (protocol, offset, address) = match ip {
            IpAddr::V4(ip) => (libc::NFPROTO_IPV4, 12, ip.octets().to_vec()),
            IpAddr::V6(ip) => (libc::NFPROTO_IPV6, 8, ip.octets().to_vec()),
        };
        let mask: Vec<u8> = (0..address.len())
            .map(|at| {
                let bits = usize::from(prefix).saturating_sub(at * 8).min(8);
                !(0xff_u16 >> bits) as u8
            })
            .collect();
        let protocol = u8::try_from(protocol).expect("a small number");
        self.meta(libc::NFT_META_NFPROTO).compare(true, &[protocol]);
        let mut data = Attributes::default();
        data.number(1, REGISTER); // NFTA_PAYLOAD_DREG
        data.number(2, libc::NFT_PAYLOAD_NETWORK_HEADER.cast_unsigned()); // NFTA_PAYLOAD_BASE
        data.number(3, offset); // NFTA_PAYLOAD_OFFSET
        data.number(4, u32::try_from(address.len()).expect("4 or 16")); // NFTA_PAYLOAD_LEN
        self.expression("payload", &data);
        self.mask(&mask).compare(true, &address)
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
}

impl Batch {
    fn message(&mut self, kind: u16, flags: libc::c_int, attributes: &Attributes) {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags;
        self.frame(NFTABLES << 8 | kind, flags, INET, 0, &attributes.0);
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
        rule.nested(4, &expressions.0); // NFTA_RULE_EXPRESSIONS
        self.message(NEW_RULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, &rule);
    }

    /// Sends the messages, framed as a batch where they change something, and reads the answers.
    fn exchange(mut self, changes: bool) -> io::Result<()> {
        if changes {
            let mut framed = Batch::default();
            framed.frame(BATCH_BEGIN, libc::NLM_F_REQUEST, 0, NFTABLES, &[]);
            framed.bytes.append(&mut self.bytes);
            framed.sequence = self.sequence;
            framed.frame(BATCH_END, libc::NLM_F_REQUEST, 0, NFTABLES, &[]);
            self.bytes = framed.bytes;
        }
        let socket = Socket::new(NETLINK_NETFILTER)?;
        socket.send_to(&self.bytes, &SocketAddr::new(0, 0), 0)?;
        let mut answered = 0;
        while answered < self.answered {
            // The answers are there when the call returns: the kernel does all in the sender's context (`netlink_unicast_kernel`).
            let (datagram, _) = socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while let Some(header) = rest.get(..16) {
                let word = |at: usize| {
                    u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
                };
                let length = word(0) as usize;
                let kind = u16::from_ne_bytes([header[4], header[5]]);
                if i32::from(kind) == libc::NLMSG_ERROR {
                    answered += 1;
                    let code = rest
                        .get(16..20)
                        .map_or([0; 4], |it| [it[0], it[1], it[2], it[3]]);
                    match i32::from_ne_bytes(code) {
                        0 => {}
                        code => return Err(Errno::from_raw(-code).into()),
                    }
                }
                rest = rest
                    .get(length.max(16).next_multiple_of(4)..)
                    .unwrap_or_default();
            }
        }
        Ok(())
    }
}
