//! The names that containers know each other and the outside by: hosts(5) and resolv.conf(5).

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::{BadWord, ContainerName};
use super::network::NetworkName;

/// What every `/etc/hosts` begins with.
pub const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// A line of hosts(5), for one name or for several with a blank between them.
pub fn line(ip: IpAddr, names: &str) -> String {
    format!("{ip}\t{names}\n")
}

/// A host's own name: letters, digits, `-` and `.` (RFC 1123, 2.1), at most the kernel's 64 bytes (uname(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostName(String);

/// The name of a domain, or of any host in one: the same letters, and as many as a question has room for (RFC 1035, 2.3.4: 255 bytes with
/// the length of each part).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainName(String);

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = BadWord;
    fn from_str(word: &str) -> Result<Self, BadWord> {
        check_name("host name", word, 64)?;
        Ok(HostName(word.to_owned()))
    }
}

impl DomainName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DomainName {
    type Err = BadWord;
    fn from_str(word: &str) -> Result<Self, BadWord> {
        check_name("domain name", word, 253)?;
        Ok(DomainName(word.to_owned()))
    }
}

fn check_name(what: &'static str, word: &str, longest: usize) -> Result<(), BadWord> {
    let bad = |why: &str| Err(BadWord::new(what, word, why, "web.example"));
    if word.len() > longest {
        return bad(&format!("is longer than {longest} bytes"));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if word.is_empty() || !word.chars().all(fits) {
        return bad("has other than letters, digits, `-`, `_` and `.` in it");
    }
    let is_label = |label: &str| !label.is_empty() && !label.starts_with('-');
    if !word.split('.').all(is_label) {
        return bad("has a part that is empty or begins with a dash");
    }
    Ok(())
}

/// A line of `/etc/hosts` that a user asks for: `NAME:ADDRESS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedHost {
    /// The name.
    pub name: DomainName,
    /// Its address.
    pub ip: IpAddr,
}

impl FromStr for AddedHost {
    type Err = BadWord;
    fn from_str(word: &str) -> Result<Self, BadWord> {
        let bad = |word: &str, why: &str| BadWord::new("--add-host", word, why, "db:192.0.2.7");
        let (name, ip) = word
            .split_once(':')
            .ok_or_else(|| bad(word, "has no `:` between name and address"))?;
        let plain = ip.trim_start_matches('[').trim_end_matches(']');
        Ok(AddedHost {
            name: name.parse()?,
            ip: plain.parse().map_err(|_| bad(ip, "is no IP address"))?,
        })
    }
}

/// The files of names that a container has of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnFiles {
    /// The networks whose containers are in its `/etc/hosts`.
    pub networks: Vec<NetworkName>,
    /// More lines of it.
    pub hosts: Vec<AddedHost>,
    /// The servers of names that it was given.
    #[serde(default)]
    pub servers: Vec<IpAddr>,
    /// The domains in which it looks up names.
    #[serde(default)]
    pub search: Vec<DomainName>,
    /// Its own host name, where that is not the name by which the others know it.
    #[serde(default)]
    pub hostname: Option<HostName>,
}

impl OwnFiles {
    /// The text of a container's `/etc/hosts`: `networks` are the texts of its networks'. At its own addresses it is known by its host
    /// name as well, which programs look up to see where they are (gethostname(2), getaddrinfo(3)).
    pub fn hosts_text(&self, container: &ContainerName, networks: &[String]) -> String {
        let mut text = HOSTS.to_owned();
        for network in networks {
            let lines = network.strip_prefix(HOSTS).unwrap_or(network);
            let Some(own) = &self.hostname else {
                text.push_str(lines);
                continue;
            };
            for line in lines.lines() {
                text.push_str(line);
                let mut names = line.split_ascii_whitespace().skip(1);
                if names.next() == Some(container.as_str()) && names.all(|it| it != own.as_str()) {
                    text.push(' ');
                    text.push_str(own.as_str());
                }
                text.push('\n');
            }
        }
        for AddedHost { name, ip } in &self.hosts {
            text.push_str(&line(*ip, name.as_str()));
        }
        text
    }
}

impl OwnFiles {
    /// The text of its `/etc/resolv.conf`, if it is to have one: what it was given counts before those of its networks' that have DNS.
    pub fn resolv_text(&self, gateways: &[IpAddr]) -> Option<String> {
        let servers = if self.servers.is_empty() {
            gateways
        } else {
            &self.servers
        };
        resolv_conf(servers, &self.search)
    }
}

/// The text of a `/etc/resolv.conf` with these servers and search domains; none where there are neither.
pub fn resolv_conf(servers: &[IpAddr], search: &[DomainName]) -> Option<String> {
    if servers.is_empty() && search.is_empty() {
        return None;
    }
    let mut text = String::new();
    if !search.is_empty() {
        let domains: Vec<&str> = search.iter().map(DomainName::as_str).collect();
        text.push_str(&format!("search {}\n", domains.join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_lines_are_checked() {
        for (word, right) in [
            ("web", true),
            ("web.example", true),
            ("my_web", true),
            ("", false),
            (".web", false),
            ("we b", false),
            ("-web", false),
        ] {
            assert_eq!(word.parse::<HostName>().is_ok(), right, "{word}");
            assert_eq!(word.parse::<DomainName>().is_ok(), right, "{word}");
        }
        let long = ["a-part-of-thirty-one-characters"; 8].join(".");
        assert!("a".repeat(64).parse::<HostName>().is_ok());
        assert!("a".repeat(65).parse::<HostName>().is_err());
        assert!(long[..253].parse::<DomainName>().is_ok() && long.parse::<DomainName>().is_err());
        for (word, right) in [
            ("db:192.0.2.7", true),
            ("db:fd00::7", true),
            ("db:[fd00::7]", true),
            ("db", false),
            ("db:there", false),
        ] {
            assert_eq!(word.parse::<AddedHost>().is_ok(), right, "{word}");
        }
    }

    #[test]
    fn own_files_have_all_networks_and_lines() {
        let own = OwnFiles {
            hosts: vec!["db:192.0.2.7".parse().unwrap()],
            ..OwnFiles::default()
        };
        let texts = ["10.9.0.2\tweb\n", "10.8.0.2\tother\n"].map(|text| format!("{HOSTS}{text}"));
        let other = "other".parse().unwrap();
        let text = own.hosts_text(&other, &texts);
        let lines = "10.9.0.2\tweb\n10.8.0.2\tother\n192.0.2.7\tdb\n";
        assert_eq!(text, format!("{HOSTS}{lines}"));
        let named = OwnFiles {
            hostname: Some("own.example".parse().unwrap()),
            ..OwnFiles::default()
        };
        let text = named.hosts_text(&other, &texts);
        let lines = "10.9.0.2\tweb\n10.8.0.2\tother own.example\n";
        assert_eq!(text, format!("{HOSTS}{lines}"));
        let servers = ["192.0.2.53".parse().unwrap(), "fd00::53".parse().unwrap()];
        assert_eq!(
            resolv_conf(&servers, &["example".parse().unwrap()]).unwrap(),
            "search example\nnameserver 192.0.2.53\nnameserver fd00::53\n"
        );
        assert_eq!(resolv_conf(&[], &[]), None);
        let given = OwnFiles {
            servers: servers.to_vec(),
            ..OwnFiles::default()
        };
        let gateway = ["10.9.0.1".parse().unwrap()];
        let text = |own: &OwnFiles| own.resolv_text(&gateway);
        assert_eq!(text(&given), resolv_conf(&servers, &[]));
        assert_eq!(text(&own).unwrap(), "nameserver 10.9.0.1\n");
    }
}
