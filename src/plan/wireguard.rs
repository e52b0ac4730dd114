//! WireGuard tunnels, as the files of wg-quick(8) say them.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::name::IfAddr;

/// What a file says of a tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tunnel {
    /// By what it is known to its peers; none for a tunnel that nobody can speak to.
    pub private_key: Option<Key>,
    /// The host's UDP port that it listens on; the kernel chooses one, if nothing is said.
    pub port: Option<u16>,
    /// The mark of its packets on the host (ip-rule(8)).
    pub mark: Option<u32>,
    /// Its addresses.
    pub addrs: Vec<IfAddr>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// Whom it leads to.
    pub peers: Vec<Peer>,
}

/// The other end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// By what it is known.
    pub public_key: Key,
    /// A secret that both share, beside their keys.
    pub preshared_key: Option<Key>,
    /// Where it is reached; none where it has to speak first.
    pub endpoint: Option<SocketAddr>,
    /// Whose packets come from it, and go to it.
    pub allowed: Vec<IfAddr>,
    /// After how many seconds of silence it hears something.
    pub keepalive: Option<u16>,
}

/// A key of 256 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

/// Nothing of it is printed, since it may be a secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// A line of a file that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}, line {line}: {why}", file.display())]
pub struct BadLine {
    file: PathBuf,
    line: usize,
    why: String,
}

/// In which part of a file a line is.
enum Section {
    None,
    Interface,
    Peer(Option<Key>, Peer),
}

/// What wg-quick(8) does beyond the tunnel, and tincan does not do for a container.
const NOT_OURS: [&str; 7] = [
    "dns",
    "table",
    "preup",
    "postup",
    "predown",
    "postdown",
    "saveconfig",
];

/// The file that a value of `--net` names: as for wg-quick(8), a word alone is `/etc/wireguard/WORD.conf`.
pub fn file_of(word: &str) -> PathBuf {
    if word.contains('/') || word.ends_with(".conf") {
        return PathBuf::from(word);
    }
    Path::new("/etc/wireguard").join(format!("{word}.conf"))
}

impl Tunnel {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first line that is wrong. No key is in the message.
    pub fn parse(file: &Path, text: &str) -> Result<Self, BadLine> {
        let mut tunnel = Tunnel::default();
        let mut section = Section::None;
        let mut line = 0;
        let bad = |line, why: String| BadLine {
            file: file.to_owned(),
            line,
            why,
        };
        for (at, words) in text.lines().enumerate() {
            line = at + 1;
            let words = words.split('#').next().unwrap_or_default().trim();
            if words.is_empty() {
                continue;
            }
            if words.starts_with('[') {
                let before = std::mem::replace(&mut section, Section::None);
                tunnel.close(before).map_err(|why| bad(line, why))?;
                section = match words.to_ascii_lowercase().as_str() {
                    "[interface]" => Section::Interface,
                    "[peer]" => Section::Peer(None, Peer::unknown()),
                    _ => {
                        return Err(bad(
                            line,
                            format!("{words} is neither [Interface] nor [Peer]"),
                        ));
                    }
                };
                continue;
            }
            let Some((key, value)) = words.split_once('=') else {
                return Err(bad(line, "there is no `=`".to_owned()));
            };
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            let taken = match &mut section {
                Section::None => Err("it is in no section".to_owned()),
                Section::Interface => tunnel.set(&key, value),
                Section::Peer(public_key, peer) => peer.set(public_key, &key, value),
            };
            taken.map_err(|why| bad(line, why))?;
        }
        tunnel.close(section).map_err(|why| bad(line, why))?;
        if tunnel.private_key.is_none() {
            return Err(bad(line, "[Interface] has no PrivateKey".to_owned()));
        }
        Ok(tunnel)
    }

    fn close(&mut self, section: Section) -> Result<(), String> {
        if let Section::Peer(public_key, peer) = section {
            let public_key = public_key.ok_or("the [Peer] before it has no PublicKey")?;
            self.peers.push(Peer { public_key, ..peer });
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "privatekey" => self.private_key = Some(value.parse()?),
            "listenport" => self.port = Some(number(key, value)?),
            "fwmark" => self.mark = some_or_off(value, mark)?,
            "address" => self.addrs.extend(list(value)?),
            "mtu" => self.mtu = Some(number(key, value)?),
            _ if NOT_OURS.contains(&key) => {
                return Err(format!(
                    "{key} is what wg-quick does on a host, and tincan in no container"
                ));
            }
            _ => return Err(format!("{key} is no key of [Interface]")),
        }
        Ok(())
    }
}

impl Peer {
    /// One whose key is still to come.
    fn unknown() -> Self {
        Peer {
            public_key: Key([0; 32]),
            preshared_key: None,
            endpoint: None,
            allowed: Vec::new(),
            keepalive: None,
        }
    }

    fn set(&mut self, public_key: &mut Option<Key>, key: &str, value: &str) -> Result<(), String> {
        match key {
            "publickey" => *public_key = Some(value.parse()?),
            "presharedkey" => self.preshared_key = Some(value.parse()?),
            "endpoint" => {
                let endpoint = value.parse();
                let endpoint = endpoint.map_err(|_| {
                    format!("`{value}` is no address with a port, as 192.0.2.2:51820 or [2001:db8::2]:51820")
                })?;
                self.endpoint = Some(endpoint);
            }
            "allowedips" => {
                let prefixes: Vec<IfAddr> = list(value)?;
                self.allowed.extend(prefixes.iter().map(IfAddr::network));
            }
            "persistentkeepalive" => self.keepalive = some_or_off(value, |it| number(key, it))?,
            _ => return Err(format!("{key} is no key of [Peer]")),
        }
        Ok(())
    }
}

impl FromStr for Key {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).unwrap_or_default();
        let key = bytes.try_into().map(Key);
        key.map_err(|_| "the key is not 32 bytes in base64".to_owned())
    }
}

fn number<T: FromStr>(key: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("`{value}` is no number for {key}"))
}

fn mark(value: &str) -> Result<u32, String> {
    let parsed = match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => value.parse(),
    };
    parsed.map_err(|_| format!("`{value}` is no mark"))
}

fn some_or_off<T>(
    value: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if value == "off" {
        Ok(None)
    } else {
        parse(value).map(Some)
    }
}

fn list(value: &str) -> Result<Vec<IfAddr>, String> {
    let words = value
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    words
        .map(|word| word.parse().map_err(|_| format!("`{word}` is no address")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

    fn parse(text: &str) -> Result<Tunnel, String> {
        Tunnel::parse(Path::new("wg0.conf"), &text.replace("KEY", KEY))
            .map_err(|bad| bad.to_string())
    }

    #[test]
    fn a_file_is_read() {
        let tunnel = parse(
            "# ours\n[Interface]\nPrivateKey = KEY\nListenPort=51820\nAddress = 10.7.0.1/24, fd07::1/64\nMTU = 1380\nFwMark = 0x2a\n\n\
             [Peer]\nPublicKey=KEY\nAllowedIPs = 10.7.0.2/32,\nAllowedIPs = fd07::2\nEndpoint = [2001:db8::2]:51820 # there\n\
             PersistentKeepalive = off\n[peer]\npublickey = KEY\nPresharedKey = KEY\nAllowedIPs=10.8.0.9/16\nPersistentKeepalive = 25\n",
        )
        .unwrap();
        assert_eq!(tunnel.private_key.unwrap().0[31], 32);
        assert_eq!(
            (tunnel.port, tunnel.mtu, tunnel.mark),
            (Some(51820), Some(1380), Some(42))
        );
        assert_eq!(
            tunnel.addrs,
            ["10.7.0.1/24", "fd07::1/64"].map(|it| it.parse().unwrap())
        );
        let [first, second] = tunnel.peers.as_slice() else {
            panic!("{:?}", tunnel.peers);
        };
        assert_eq!(
            first.allowed,
            ["10.7.0.2/32", "fd07::2/128"].map(|it| it.parse().unwrap())
        );
        assert_eq!(first.endpoint.unwrap().to_string(), "[2001:db8::2]:51820");
        assert_eq!((first.keepalive, second.keepalive), (None, Some(25)));
        assert_eq!(second.allowed, ["10.8.0.0/16".parse().unwrap()]);
        assert!(second.preshared_key.is_some() && first.preshared_key.is_none());
        assert!(!format!("{tunnel:?}").contains("32]"));
    }

    #[test]
    fn the_wrong_line_is_told_without_its_key() {
        for (text, line, why) in [
            ("PrivateKey = KEY", 1, "no section"),
            ("[Interface]\nPrivateKey = AAAA", 2, "not 32 bytes"),
            (
                "[Interface]\nPrivateKey = KEY\nListenPort = 65536",
                3,
                "`65536` is no number",
            ),
            (
                "[Interface]\nPrivateKey = KEY\nPostUp = reboot",
                3,
                "postup is what wg-quick does",
            ),
            (
                "[Interface]\nPrivateKey = KEY\n[Peer]\nEndpoint = example.com:1",
                4,
                "`example.com:1` is no address with a port",
            ),
            (
                "[Interface]\nPrivateKey = KEY\n[Peer]\nAllowedIPs = 10.0.0.0/8",
                4,
                "no PublicKey",
            ),
            (
                "[Interface]\nAddress = 10.0.0.1/33",
                2,
                "`10.0.0.1/33` is no address",
            ),
            ("[Interface]\nAddress = 10.0.0.1/24", 2, "no PrivateKey"),
            ("[Interfaces]", 1, "neither"),
            ("[Interface]\nPrivateKey", 2, "no `=`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.starts_with(&format!("wg0.conf, line {line}: ")) && error.contains(why),
                "{text}: {error}"
            );
            assert!(!error.contains("AAAA"), "{error}");
        }
    }

    #[test]
    fn a_word_alone_is_a_file_in_etc() {
        for (word, file) in [
            ("wg0", "/etc/wireguard/wg0.conf"),
            ("./wg0", "./wg0"),
            ("wg0.conf", "wg0.conf"),
        ] {
            assert_eq!(file_of(word), Path::new(file));
        }
    }
}
