//! The words a user writes, as types: text becomes a type once, at the edge, and is never checked again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A word that is not what it should be: which word, why, and what a right one looks like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{word}` {why}; a right one is `{example}`")]
pub struct BadWord {
    /// What the word was read as: "container name", "address", …
    pub what: &'static str,
    /// The word as it was written.
    pub word: String,
    /// What is wrong with it.
    pub why: String,
    /// A word that would do.
    pub example: &'static str,
}

impl BadWord {
    /// A complaint about `word`.
    pub fn new(
        what: &'static str,
        word: impl Into<String>,
        why: impl Into<String>,
        example: &'static str,
    ) -> Self {
        BadWord {
            what,
            word: word.into(),
            why: why.into(),
            example,
        }
    }
}

/// Makes a checked string type: `FromStr` checks, everything else passes the string on.
macro_rules! checked_string {
    ($type:ident, $check:path) => {
        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $type {
            type Err = BadWord;
            fn from_str(word: &str) -> Result<Self, BadWord> {
                $check(word)?;
                Ok($type(word.to_owned()))
            }
        }
        impl TryFrom<String> for $type {
            type Error = BadWord;
            fn try_from(word: String) -> Result<Self, BadWord> {
                $check(&word)?;
                Ok($type(word))
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// A container's name: what runc accepts as an id (letters, digits, `_`, `+`, `-`, `.`), at most 128 bytes here, since it
/// becomes a directory under the state root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);
checked_string!(ContainerName, check_container_name);

fn check_container_name(word: &str) -> Result<(), BadWord> {
    let bad = |why: &str| Err(BadWord::new("container name", word, why, "ns1"));
    if word.is_empty() {
        return bad("is empty");
    }
    if word.len() > 128 {
        return bad("is longer than 128 bytes");
    }
    if word == "." || word == ".." || word.starts_with('.') {
        return bad("starts with a dot");
    }
    if word.starts_with('-') {
        return bad("starts with a dash");
    }
    match word
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "_+-.".contains(*c)))
    {
        Some(c) => bad(&format!(
            "has a {c:?}: only letters, digits and `_`, `+`, `-`, `.` may stand in it"
        )),
        None => Ok(()),
    }
}

/// A network interface's name. The kernel's rule (net/core/dev.c, `dev_valid_name`): 1 to 15 bytes (IFNAMSIZ − 1), no `/`,
/// no `:`, no white space, not `.` or `..`; `%` would make the kernel number it, so it is refused as iproute2 refuses it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);
checked_string!(LinkName, check_link_name);

fn check_link_name(word: &str) -> Result<(), BadWord> {
    let bad = |why: &str| Err(BadWord::new("interface name", word, why, "eth0"));
    if word.is_empty() {
        return bad("is empty");
    }
    if word.len() > 15 {
        return bad(&format!(
            "is {} bytes long, over the kernel's 15",
            word.len()
        ));
    }
    if word == "." || word == ".." {
        return bad("is a directory's name");
    }
    match word
        .chars()
        .find(|c| "/:%".contains(*c) || c.is_whitespace() || c.is_control())
    {
        Some(c) => bad(&format!("has a {c:?}, which the kernel refuses")),
        None => Ok(()),
    }
}

/// Checks a network namespace's name for `ip netns` (ip-netns(8)): it becomes a file in a directory of all of them.
///
/// # Errors
/// [`BadWord`] when it is no file's name.
pub fn check_netns_name(word: &str) -> Result<(), BadWord> {
    if matches!(word, "" | "." | "..") || word.contains(['/', '\0']) || word.len() > 255 {
        let why = "is no name of a file";
        return Err(BadWord::new("network namespace name", word, why, "blue"));
    }
    Ok(())
}

/// An interface's address with the length of its prefix: `172.16.0.1/16`, `fd00::1/64`. Without a length it is a host
/// address (/32 or /128), as in iproute2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfAddr {
    /// The address.
    pub ip: IpAddr,
    /// Bits of network: 0 to 32, or 0 to 128.
    pub prefix: u8,
}

impl IfAddr {
    /// The bits of an address of this family: 32 or 128.
    pub fn bits(&self) -> u8 {
        if self.ip.is_ipv4() { 32 } else { 128 }
    }

    /// The address of one host: /32 or /128.
    pub fn host(ip: IpAddr) -> Self {
        let prefix = if ip.is_ipv4() { 32 } else { 128 };
        IfAddr { ip, prefix }
    }

    /// The prefix of all addresses of a family, where default routes go.
    pub fn everything(v4: bool) -> Self {
        let ip = if v4 {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        IfAddr { ip, prefix: 0 }
    }

    /// The prefix that this address is in, with the host's bits zero.
    pub fn network(&self) -> Self {
        let shift = u32::from(self.bits() - self.prefix);
        let ip = match self.ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(ip) & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
            }
        };
        IfAddr { ip, ..*self }
    }

    /// Whether `ip` lies in this address's prefix.
    pub fn covers(&self, ip: IpAddr) -> bool {
        let same_family = self.ip.is_ipv4() == ip.is_ipv4();
        same_family && IfAddr { ip, ..*self }.network().ip == self.network().ip
    }

    /// The addresses of the prefix that a host may have, starting after this one and going round once: without this
    /// address itself, and for v4 prefixes under /31 without the network's and the broadcast address (RFC 3021 lets both
    /// ends of a /31 have one), for v6 prefixes under /127 without the subnet-router anycast address (RFC 4291 2.6.1).
    pub fn others(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (start, low, high, v4) = match self.ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.prefix))
                    .unwrap_or(0);
                let (net, last) = (u32::from(ip) & mask, u32::from(ip) | !mask);
                let edge = u32::from(self.prefix < 31);
                (
                    u128::from(u32::from(ip)),
                    u128::from(net + edge),
                    u128::from(last - edge),
                    true,
                )
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.prefix))
                    .unwrap_or(0);
                let net = u128::from(ip) & mask;
                let edge = u128::from(self.prefix < 127);
                (u128::from(ip), net + edge, net | !mask, false)
            }
        };
        let after = start + 1..=high;
        let before = low..=start.saturating_sub(1).min(high);
        let before = (start > low).then_some(before).into_iter().flatten();
        let after = (start < high).then_some(after).into_iter().flatten();
        after.chain(before).map(move |n| {
            if v4 {
                IpAddr::V4(Ipv4Addr::from(
                    u32::try_from(n).expect("a v4 address has 32 bits"),
                ))
            } else {
                IpAddr::V6(Ipv6Addr::from(n))
            }
        })
    }
}

impl FromStr for IfAddr {
    type Err = BadWord;
    fn from_str(word: &str) -> Result<Self, BadWord> {
        let example = if word.contains(':') {
            "fd00::1/64"
        } else {
            "172.16.0.1/16"
        };
        let bad = |why: String| BadWord::new("address", word, why, example);
        let (ip, prefix) = match word.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (word, None),
        };
        let ip: IpAddr = ip
            .parse()
            .map_err(|_| bad(format!("has `{ip}`, which is no IP address")))?;
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(text) => text
                .parse::<u8>()
                .ok()
                .filter(|n| *n <= bits && text.bytes().all(|b| b.is_ascii_digit()))
                .ok_or_else(|| {
                    bad(format!(
                        "has `/{text}`, which is no prefix length from 0 to {bits}"
                    ))
                })?,
        };
        Ok(IfAddr { ip, prefix })
    }
}

impl TryFrom<String> for IfAddr {
    type Error = BadWord;
    fn try_from(word: String) -> Result<Self, BadWord> {
        word.parse()
    }
}

impl From<IfAddr> for String {
    fn from(addr: IfAddr) -> String {
        addr.to_string()
    }
}

impl fmt::Display for IfAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// A link-layer address that an interface may have: six bytes, not a group address (the kernel's `is_valid_ether_addr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A link-layer address of the host's own (the second bit of the first byte; IEEE 802c), the same for the same text.
    pub fn of(text: &str) -> Self {
        // FNV-1a.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let [a, b, c, d, e, ..] = hash.to_be_bytes();
        Mac([0x02, a, b, c, d, e])
    }
}

impl FromStr for Mac {
    type Err = BadWord;
    fn from_str(word: &str) -> Result<Self, BadWord> {
        let bad = |why: &str| BadWord::new("MAC address", word, why, "02:00:00:00:00:01");
        let mut bytes = [0; 6];
        let mut parts = word.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .ok_or_else(|| bad("has fewer than six bytes"))?;
            if part.len() != 2 {
                return Err(bad("is not six pairs of hexadecimal digits"));
            }
            *byte = u8::from_str_radix(part, 16)
                .map_err(|_| bad("is not six pairs of hexadecimal digits"))?;
        }
        if parts.next().is_some() {
            return Err(bad("has more than six bytes"));
        }
        if bytes[0] & 1 == 1 {
            return Err(bad("is a group address, which no interface may have"));
        }
        if bytes == [0; 6] {
            return Err(bad("is all zero, which no interface may have"));
        }
        Ok(Mac(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = BadWord;
    fn try_from(word: String) -> Result<Self, BadWord> {
        word.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn others(addr: &str) -> Vec<String> {
        addr.parse::<IfAddr>()
            .unwrap()
            .others()
            .take(5)
            .map(|ip| ip.to_string())
            .collect()
    }

    #[test]
    fn the_next_address_comes_first_and_the_edges_never() {
        assert_eq!(others("172.16.0.1/16")[0], "172.16.0.2");
        assert_eq!(others("10.0.0.6/29")[..2], ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(others("10.0.0.0/31"), ["10.0.0.1"]);
        assert_eq!(others("10.0.0.1/31"), ["10.0.0.0"]);
        assert_eq!(others("10.0.0.1/32"), Vec::<String>::new());
        assert_eq!(others("10.0.0.1/30"), ["10.0.0.2"]);
        assert_eq!(others("fd00::1/64")[0], "fd00::2");
        assert_eq!(others("fd00::1/128"), Vec::<String>::new());
        assert_eq!(others("0.0.0.1/0")[0], "0.0.0.2");
    }

    #[test]
    fn a_bad_word_is_named_with_a_right_one() {
        let error = "172.16.0.300/16".parse::<IfAddr>().unwrap_err().to_string();
        assert_eq!(
            error,
            "address `172.16.0.300/16` has `172.16.0.300`, which is no IP address; a right one is `172.16.0.1/16`"
        );
        assert!("172.16.0.1/33".parse::<IfAddr>().is_err());
        assert!("172.16.0.1/+3".parse::<IfAddr>().is_err());
        assert!("an-interface-name".parse::<LinkName>().is_err());
        assert!("exactly15bytes!".parse::<LinkName>().is_ok());
        assert!("a/b".parse::<ContainerName>().is_err());
        assert!("..".parse::<ContainerName>().is_err());
        assert!("01:00:00:00:00:01".parse::<Mac>().is_err());
        assert_eq!(
            "02:0A:00:00:00:01".parse::<Mac>().unwrap().to_string(),
            "02:0a:00:00:00:01"
        );
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_printing_reads_back(word in "\\PC{0,40}") {
            if let Ok(addr) = word.parse::<IfAddr>() {
                prop_assert_eq!(addr.to_string().parse::<IfAddr>().unwrap(), addr);
            }
            let _ = (word.parse::<LinkName>(), word.parse::<ContainerName>(), word.parse::<Mac>());
        }

        #[test]
        fn every_other_address_is_in_the_prefix(ip: [u8; 4], prefix in 0u8..=32) {
            let addr = IfAddr { ip: IpAddr::from(ip), prefix };
            for other in addr.others().take(300) {
                prop_assert!(addr.covers(other) && other != addr.ip);
            }
        }
    }
}
