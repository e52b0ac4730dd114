//! The words of the Container Network Interface, by which other runtimes ask for a network: what a call and its configuration say, and
//! how is answered. The rules are those of its specification, 1.1.0.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::name::{ContainerName, IfAddr, LinkName, Mac};
use super::net::{PortRange, Protocol, Publish};
use super::network::{Network, NetworkName, Subnet};
use super::tenant::AttachmentId;
use super::topology::Route;

/// The versions that are spoken, oldest first. Those before had another form of the answer.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", NEWEST];

/// The newest of them.
pub const NEWEST: &str = "1.1.0";

/// Why a call is not done, as its caller is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg}")]
pub struct CniError {
    /// The kind of failure.
    pub code: Code,
    /// What and why.
    pub msg: String,
}

/// The kinds of failure (section 2, Error); those from 100 on are the plugin's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The configuration is of a version that is not spoken.
    Version = 1,
    /// The configuration has a field that is not known, and would have to be.
    Unsupported = 2,
    /// A variable of the environment is missing or not right.
    Environment = 4,
    /// A file cannot be read or written.
    Io = 5,
    /// Standard input is no JSON.
    Decode = 6,
    /// The configuration asks for what cannot be.
    Config = 7,
    /// It may be had later.
    TryAgain = 11,
    /// STATUS: no container can be attached.
    Unavailable = 50,
    /// STATUS: likewise, and those that are attached may not reach all.
    Limited = 51,
    /// Anything else.
    Failed = 100,
    /// CHECK: it is not as it was made.
    Changed = 101,
}

impl CniError {
    /// A failure of this kind.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        CniError {
            code,
            msg: msg.into(),
        }
    }

    /// The answer that tells of it.
    pub fn answer(&self, version: &str) -> Value {
        json!({"cniVersion": version, "code": self.code as u32, "msg": self.msg})
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Attach an interface of a container.
    Add(Target, Vec<IpAddr>),
    /// Take it off.
    Del(AttachmentId),
    /// See whether all is as ADD left it.
    Check(Target),
    /// Clear away what is not among those that are told.
    Gc,
    /// See whether ADD can be done.
    Status,
    /// Tell which versions are spoken.
    Version,
}

/// An interface of a container, and the namespace that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which interface of which container.
    pub id: AttachmentId,
    /// The path of the namespace.
    pub netns: PathBuf,
}

impl Call {
    /// What the environment asks for.
    ///
    /// # Errors
    /// [`Code::Environment`] for a variable that is missing, or not right.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let bad = |msg: String| CniError::new(Code::Environment, msg);
        let word = |name: &str| {
            let value = variable(name).filter(|value| !value.is_empty());
            value.ok_or_else(|| bad(format!("{name} is not set")))
        };
        let id = || -> Result<AttachmentId, CniError> {
            let container: Result<ContainerName, _> = word("CNI_CONTAINERID")?.parse();
            let interface: Result<LinkName, _> = word("CNI_IFNAME")?.parse();
            let interface = interface.map_err(|word| bad(format!("CNI_IFNAME: {word}")))?;
            if interface.as_str() == "lo" {
                return Err(bad(
                    "CNI_IFNAME: `lo` is the loopback's; a right one is `eth0`".to_owned(),
                ));
            }
            Ok(AttachmentId {
                container: container.map_err(|word| bad(format!("CNI_CONTAINERID: {word}")))?,
                interface,
            })
        };
        let target = || -> Result<Target, CniError> {
            Ok(Target {
                id: id()?,
                netns: PathBuf::from(word("CNI_NETNS")?),
            })
        };
        match word("CNI_COMMAND")?.as_str() {
            "ADD" => {
                let arguments = variable("CNI_ARGS").unwrap_or_default();
                Ok(Call::Add(target()?, asked_by_arguments(&arguments)?))
            }
            "DEL" => Ok(Call::Del(id()?)),
            "CHECK" => Ok(Call::Check(target()?)),
            "GC" => Ok(Call::Gc),
            "STATUS" => Ok(Call::Status),
            "VERSION" => Ok(Call::Version),
            other => Err(bad(format!(
                "CNI_COMMAND: `{other}` is none of ADD, DEL, CHECK, GC, STATUS, VERSION"
            ))),
        }
    }

    /// The first version that has it.
    fn since(&self) -> &'static str {
        match self {
            Call::Gc | Call::Status => "1.1.0",
            Call::Check(_) => "0.4.0",
            Call::Add(..) | Call::Del(_) | Call::Version => VERSIONS[0],
        }
    }

    /// Whether it takes away what there is, as far as that goes whatever the configuration says: a caller whose ADD was refused for its
    /// configuration has to be rid of the container all the same.
    fn takes_away(&self) -> bool {
        matches!(self, Call::Del(_) | Call::Gc)
    }
}

/// The addresses that CNI_ARGS asks for: `IP=…`, among what is for others.
fn asked_by_arguments(arguments: &str) -> Result<Vec<IpAddr>, CniError> {
    let bad = |msg| CniError::new(Code::Environment, msg);
    let mut asked = Vec::new();
    for pair in arguments.split(';').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            None => return Err(bad(format!("CNI_ARGS: `{pair}` is no KEY=VALUE"))),
            Some(("IP", value)) => {
                for word in value.split(',').filter(|word| !word.is_empty()) {
                    asked.push(address(word).ok_or_else(|| {
                        bad(format!(
                            "CNI_ARGS: `{word}` is no address; a right one is `IP=10.9.0.7`"
                        ))
                    })?);
                }
            }
            Some(_) => {}
        }
    }
    Ok(asked)
}

/// An address, with a prefix that says nothing or without.
fn address(word: &str) -> Option<IpAddr> {
    word.split('/').next()?.parse().ok()
}

/// The configuration, as it is written. Where it is made by a program in Go, what is empty may be `null`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    name: Option<String>,
    #[serde(deserialize_with = "or_empty")]
    subnets: Vec<IfAddr>,
    mtu: Option<u32>,
    isolate: Option<bool>,
    internal: Option<bool>,
    state_root: Option<PathBuf>,
    #[serde(deserialize_with = "or_empty")]
    dns: Map<String, Value>,
    #[serde(deserialize_with = "or_empty")]
    runtime_config: RuntimeConfig,
    #[serde(deserialize_with = "or_empty")]
    args: Arguments,
    prev_result: Option<Map<String, Value>>,
    #[serde(
        rename = "cni.dev/valid-attachments",
        deserialize_with = "told_or_empty"
    )]
    valid_attachments: Option<Vec<Valid>>,
}

/// What is there, or nothing where it is `null`.
fn or_empty<'de, T, D>(value: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// The same where it counts whether anything is said: libcni tells of no attachments by `null` (`GCNetworkList`).
fn told_or_empty<'de, T, D>(value: D) -> Result<Option<T>, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    or_empty(value).map(Some)
}

/// What the caller adds for the capabilities that the configuration has.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeConfig {
    #[serde(deserialize_with = "or_empty")]
    port_mappings: Vec<PortMapping>,
    #[serde(deserialize_with = "or_empty")]
    ips: Vec<String>,
    #[serde(deserialize_with = "or_empty")]
    mac: String,
    /// Of capabilities that the configuration has, and tincan does not.
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The other names are those that containerd writes for Kubernetes (go-cni's `PortMapping`), since Go takes a key in whatever case.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortMapping {
    #[serde(alias = "HostPort")]
    host_port: u16,
    #[serde(alias = "ContainerPort")]
    container_port: u16,
    #[serde(default, alias = "Protocol")]
    protocol: String,
    #[serde(default, rename = "hostIP", alias = "HostIP")]
    host_ip: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Arguments {
    #[serde(deserialize_with = "or_empty")]
    cni: CniArguments,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CniArguments {
    #[serde(deserialize_with = "or_empty")]
    ips: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Valid {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

/// A configuration that was read and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its version, which the answer has, too.
    pub version: &'static str,
    /// The network.
    pub name: NetworkName,
    /// What the network is to be like.
    pub wanted: Wanted,
    /// Where tincan keeps its state, if not where it does by itself.
    pub state_root: Option<PathBuf>,
    /// The addresses that are asked for, at most one of each family.
    pub ips: Vec<IpAddr>,
    /// The link-layer address that is asked for.
    pub mac: Option<Mac>,
    /// The ports of the host's that are to lead to the container.
    pub publish: Vec<Publish>,
    /// What the container is to know of DNS; empty, if nothing is said.
    pub dns: Map<String, Value>,
    /// What the plugins before have answered, or for CHECK, all of them.
    pub prev_result: Option<Map<String, Value>>,
    /// For GC, the attachments of the network that are somebody's.
    pub valid: Option<Vec<AttachmentId>>,
}

/// What a configuration says of its network. What it does not say, any network is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its prefixes; none where it is there already.
    pub subnets: Vec<Subnet>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// Whether its containers reach each other.
    pub isolate: Option<bool>,
    /// Whether it has no way out.
    pub internal: Option<bool>,
}

/// Reads standard input as the JSON that it should be.
///
/// # Errors
/// [`Code::Decode`], also for nothing at all.
pub fn decode(input: &[u8]) -> Result<Value, CniError> {
    let value: Value = serde_json::from_slice(input).map_err(|cause| {
        CniError::new(
            Code::Decode,
            format!("the configuration is no JSON: {cause}"),
        )
    })?;
    match value {
        Value::Object(_) => Ok(value),
        _ => Err(CniError::new(
            Code::Decode,
            "the configuration is no JSON object",
        )),
    }
}

/// The version of a configuration, for its answer; the newest where it has none that is spoken.
pub fn version_of(config: &Value) -> &'static str {
    let asked = config.get("cniVersion").and_then(Value::as_str);
    let spoken = VERSIONS.iter().find(|version| Some(**version) == asked);
    spoken.copied().unwrap_or(NEWEST)
}

/// Whether nothing can be there to be taken away: a network may be called so by the specification, and none of tincan's is.
pub fn is_nobodys(config: &Value, call: &Call) -> bool {
    let name = config.get("name").and_then(Value::as_str);
    let is_nobodys = |name: &str| !name.is_empty() && name.parse::<NetworkName>().is_err();
    call.takes_away() && name.is_some_and(is_nobodys)
}

impl Config {
    /// Reads the configuration for a call.
    ///
    /// # Errors
    /// [`Code::Version`] where the call is not of the version; [`Code::Config`] for what is not right, [`Code::Unsupported`] for what is
    /// asked for and not there.
    pub fn read(mut value: Value, call: &Call) -> Result<Self, CniError> {
        let bad = |msg: String| CniError::new(Code::Config, msg);
        let asked = value.get("cniVersion").and_then(Value::as_str);
        let Some(version) = VERSIONS.into_iter().find(|version| Some(*version) == asked) else {
            let msg = match asked {
                None => "the configuration has no cniVersion".to_owned(),
                Some(asked) => format!("version {asked} of CNI is not spoken"),
            };
            let msg = format!("{msg}; these are: {}", VERSIONS.join(", "));
            return Err(CniError::new(Code::Version, msg));
        };
        let rank = |of: &str| VERSIONS.iter().position(|version| *version == of);
        if rank(version) < rank(call.since()) {
            let msg = format!(
                "version {version} of CNI has no such call, which came with {}",
                call.since()
            );
            return Err(CniError::new(Code::Version, msg));
        }
        if let (Some(fields), true) = (value.as_object_mut(), call.takes_away()) {
            let is_told = |key: &String| {
                matches!(
                    key.as_str(),
                    "name" | "stateRoot" | "cni.dev/valid-attachments"
                )
            };
            fields.retain(|key, _| is_told(key));
        }
        let written: Written = serde_json::from_value(value)
            .map_err(|cause| bad(format!("the configuration: {cause}")))?;
        let runtime = written.runtime_config;
        let unknown = runtime.others.iter().find(|(_, value)| !value.is_null());
        if let (Some((key, value)), Call::Add(..)) = (unknown, call) {
            let msg = format!(
                "runtimeConfig: tincan has no capability `{key}`, which is asked to be {value}; these are: portMappings, ips, mac"
            );
            return Err(CniError::new(Code::Unsupported, msg));
        }
        let name = written
            .name
            .ok_or_else(|| bad("the configuration has no name".to_owned()))?;
        let subnets = written.subnets.into_iter().map(Subnet::of);
        let by_args = &written.args.cni.ips;
        let mut ips: Vec<IpAddr> = Vec::new();
        for word in runtime.ips.iter().chain(by_args) {
            ips.push(address(word).ok_or_else(|| bad(format!("ips: `{word}` is no address")))?);
        }
        match call {
            // Who understands `args` is not to look at what CNI_ARGS says of the same (CONVENTIONS.md, CNI_ARGS).
            Call::Add(_, by_variable) if by_args.is_empty() => ips.extend(by_variable),
            _ => {}
        }
        let mut once: Vec<IpAddr> = Vec::new();
        for ip in ips {
            match once.iter().find(|other| other.is_ipv4() == ip.is_ipv4()) {
                None => once.push(ip),
                Some(other) if *other == ip => {}
                Some(other) => {
                    let msg =
                        format!("ips: `{ip}` is a second address of one family, beside {other}");
                    return Err(bad(msg));
                }
            }
        }
        let mac = match runtime.mac.as_str() {
            "" => None,
            word => Some(word.parse().map_err(|word| bad(format!("mac: {word}")))?),
        };
        let mappings = runtime.port_mappings.iter();
        let publish = mappings
            .filter(|it| it.host_port != 0)
            .map(PortMapping::publish);
        let valid = written.valid_attachments.map(|all| {
            // One that cannot be tincan's is none of it.
            let id = |it: &Valid| {
                Some(AttachmentId {
                    container: it.container.parse().ok()?,
                    interface: it.ifname.parse().ok()?,
                })
            };
            all.iter().filter_map(id).collect()
        });
        Ok(Config {
            version,
            name: name.parse().map_err(|word| bad(format!("name: {word}")))?,
            wanted: Wanted {
                subnets: subnets
                    .collect::<Result<_, _>>()
                    .map_err(|word| bad(word.to_string()))?,
                mtu: written.mtu,
                isolate: written.isolate,
                internal: written.internal,
            },
            state_root: written.state_root,
            ips: once,
            mac,
            publish: publish.collect::<Result<_, _>>()?,
            dns: written.dns,
            prev_result: written.prev_result,
            valid,
        })
    }

    /// The network to make where there is none of the name.
    ///
    /// # Errors
    /// [`Code::Config`] without subnets to make it of.
    pub fn network(&self) -> Result<Network, CniError> {
        if self.wanted.subnets.is_empty() {
            let msg = format!(
                "network {} does not exist, and the configuration has no `subnets` to make it of",
                self.name
            );
            return Err(CniError::new(Code::Config, msg));
        }
        Ok(Network {
            bridge: self.name.bridge(),
            name: self.name.clone(),
            subnets: self.wanted.subnets.clone(),
            internal: self.wanted.internal.unwrap_or(false),
            isolate: self.wanted.isolate.unwrap_or(false),
            mtu: self.wanted.mtu,
            routes: Vec::new(),
            allow: Vec::new(),
            dns: false,
        })
    }

    /// Refuses the network of the name where it is another than this one.
    ///
    /// # Errors
    /// [`Code::Config`] with what it is, and what it should be.
    pub fn check(&self, network: &Network) -> Result<(), CniError> {
        let words = |subnets: &[Subnet]| {
            let mut words: Vec<String> = subnets.iter().map(|it| it.prefix.to_string()).collect();
            words.sort();
            words.join(" and ")
        };
        let (theirs, ours) = (words(&network.subnets), words(&self.wanted.subnets));
        let differs = |key: &str, theirs: String, ours: String| {
            let name = &self.name;
            let msg = format!(
                "network {name} exists already, with {key} {theirs}, and the configuration says {ours}"
            );
            Err(CniError::new(Code::Config, msg))
        };
        if !ours.is_empty() && ours != theirs {
            return differs("subnets", theirs, ours);
        }
        if let Some(mtu) = self.wanted.mtu.filter(|mtu| network.mtu != Some(*mtu)) {
            let theirs = network
                .mtu
                .map_or("as it comes".to_owned(), |mtu| mtu.to_string());
            return differs("mtu", theirs, mtu.to_string());
        }
        for (key, theirs, ours) in [
            ("isolate", network.isolate, self.wanted.isolate),
            ("internal", network.internal, self.wanted.internal),
        ] {
            if let Some(ours) = ours.filter(|ours| *ours != theirs) {
                return differs(key, theirs.to_string(), ours.to_string());
            }
        }
        Ok(())
    }
}

impl PortMapping {
    fn publish(&self) -> Result<Publish, CniError> {
        let bad = |msg| CniError::new(Code::Config, format!("portMappings: {msg}"));
        let protocol = match self.protocol.to_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => {
                return Err(bad(format!(
                    "protocol `{}` is none of tcp, udp, sctp",
                    self.protocol
                )));
            }
        };
        if self.container_port == 0 {
            return Err(bad("containerPort `0` is no port".to_owned()));
        }
        let address = match self.host_ip.as_str() {
            "" => None,
            word => Some(
                word.parse()
                    .map_err(|_| bad(format!("hostIP `{word}` is no address")))?,
            ),
        };
        Ok(Publish {
            address,
            ports: PortRange {
                first: self.host_port,
                last: self.host_port,
            },
            container_port: self.container_port,
            protocol,
        })
    }
}

/// An interface that an answer tells of.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Its name.
    pub name: LinkName,
    /// Its link-layer address.
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: u32,
    /// The path of the namespace that it is in; without, the host's.
    pub sandbox: Option<PathBuf>,
}

/// The answer to ADD (section 5, ADD Success): behind what the plugins before have answered, the interfaces, of which the last is the
/// container's, its addresses with the host's in the same prefixes, and its routes. The servers of names are those that the configuration
/// says, else these, at which the network's are known, else what the plugins before say.
pub fn success(
    config: &Config,
    interfaces: &[Interface],
    addrs: &[(IfAddr, IpAddr)],
    routes: &[Route],
    servers: &[IpAddr],
) -> Value {
    let mut result = config.prev_result.clone().unwrap_or_default();
    result.insert("cniVersion".to_owned(), json!(config.version));
    let list = |result: &mut Map<String, Value>, key: &str, more: Vec<Value>| {
        let mut all = result
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        all.extend(more);
        let count = all.len();
        result.insert(key.to_owned(), Value::Array(all));
        count
    };
    let newest = config.version == NEWEST;
    let with_version = config.version < "1.0.0";
    let interface = |it: &Interface| {
        let mut told = json!({"name": it.name});
        if let Some(mac) = it.mac {
            told["mac"] = json!(mac);
        }
        if let Some(sandbox) = &it.sandbox {
            told["sandbox"] = json!(sandbox);
        }
        if newest {
            told["mtu"] = json!(it.mtu);
        }
        told
    };
    let count = list(
        &mut result,
        "interfaces",
        interfaces.iter().map(interface).collect(),
    );
    let address = |(addr, gateway): &(IfAddr, IpAddr)| {
        let mut told = json!({"interface": count - 1, "address": addr, "gateway": gateway});
        if with_version {
            told["version"] = json!(if addr.ip.is_ipv4() { "4" } else { "6" });
        }
        told
    };
    list(&mut result, "ips", addrs.iter().map(address).collect());
    let route = |it: &Route| match it.via {
        Some(via) => json!({"dst": it.to, "gw": via}),
        None => json!({"dst": it.to}),
    };
    list(&mut result, "routes", routes.iter().map(route).collect());
    if !config.dns.is_empty() {
        result.insert("dns".to_owned(), json!(config.dns));
    } else if !servers.is_empty() {
        result.insert("dns".to_owned(), json!({"nameservers": servers}));
    }
    result.entry("dns").or_insert_with(|| json!({}));
    Value::Object(result)
}

/// The addresses that a result gives to an interface in a namespace, whatever that is called there.
pub fn addresses_of(result: &Map<String, Value>, interface: &LinkName) -> Vec<IfAddr> {
    let list = |key: &str| {
        result
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let interfaces: Vec<&Value> = list("interfaces").collect();
    let is_its = |ip: &&Value| {
        let at = ip["interface"]
            .as_u64()
            .and_then(|at| usize::try_from(at).ok());
        let of = at.and_then(|at| interfaces.get(at));
        of.is_some_and(|of| {
            of["name"] == interface.as_str()
                && of["sandbox"].as_str().is_some_and(|it| !it.is_empty())
        })
    };
    let addrs = list("ips").filter(is_its);
    addrs
        .filter_map(|ip| ip["address"].as_str()?.parse().ok())
        .collect()
}

/// The answer to VERSION (section 5, VERSION Success): the version that the asking one has named, spoken or not.
pub fn versions(asked: &Value) -> Value {
    let version = asked.get("cniVersion").and_then(Value::as_str);
    json!({"cniVersion": version.unwrap_or(NEWEST), "supportedVersions": VERSIONS})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(of: &[(&str, &str)]) -> Result<Call, CniError> {
        Call::read(|name| {
            let found = of.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const ADD: [(&str, &str); 4] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
    ];

    fn config(value: Value) -> Result<Config, CniError> {
        Config::read(value, &call(&ADD).unwrap())
    }

    #[test]
    fn the_environment_says_what_is_to_be_done() {
        let Call::Add(target, ips) = call(
            &[
                &ADD[..],
                &[("CNI_ARGS", "IgnoreUnknown=1;IP=10.9.0.7/24,fd09::7")],
            ]
            .concat(),
        )
        .unwrap() else {
            panic!("an ADD");
        };
        assert_eq!(target.id.to_string(), "c1@eth0");
        assert_eq!(
            ips,
            ["10.9.0.7", "fd09::7"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
        // DEL needs no namespace, which may be gone.
        let del = [("CNI_COMMAND", "DEL"), ADD[1], ADD[3], ("CNI_NETNS", "")];
        assert!(matches!(call(&del), Ok(Call::Del(_))));
        for (change, why) in [
            (("CNI_COMMAND", "SUB"), "`SUB` is none of"),
            (("CNI_CONTAINERID", ""), "CNI_CONTAINERID is not set"),
            (
                ("CNI_CONTAINERID", "a/b"),
                "CNI_CONTAINERID: container name `a/b`",
            ),
            (("CNI_NETNS", ""), "CNI_NETNS is not set"),
            (("CNI_IFNAME", "lo"), "loopback"),
            (
                ("CNI_IFNAME", "far-too-long-for-one"),
                "over the kernel's 15",
            ),
            (("CNI_ARGS", "x"), "`x` is no KEY=VALUE"),
            (("CNI_ARGS", "IP=x"), "`x` is no address"),
        ] {
            let error = call(&[&[change], &ADD[..]].concat()).unwrap_err();
            assert_eq!(error.code, Code::Environment);
            assert!(error.msg.contains(why), "{error}");
        }
    }

    #[test]
    fn a_configuration_is_checked() {
        let full = config(json!({
            "cniVersion": "1.0.0", "name": "lan0", "type": "tincan", "unknown": {},
            "subnets": ["10.9.0.0/24", "fd09::/64"], "mtu": 1400, "isolate": true,
            "capabilities": {"portMappings": true},
            "runtimeConfig": {"portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                {"hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "fd00::1"},
                {"hostPort": 0, "containerPort": 9}
            ]},
            "args": {"cni": {"ips": ["10.9.0.7"]}},
        }))
        .unwrap();
        let of_containerd = config(json!({
            "cniVersion": "1.0.0", "name": "lan0", "subnets": null, "args": {"cni": null},
            "runtimeConfig": {"ips": null, "portMappings": [
                {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""},
                {"HostPort": 53, "ContainerPort": 5353, "Protocol": "udp", "HostIP": "fd00::1"}
            ]},
        }))
        .unwrap();
        assert_eq!(of_containerd.publish, full.publish);
        let ports: Vec<String> = full.publish.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["8080:80", "[fd00::1]:53:5353/udp"]);
        assert_eq!(full.ips, ["10.9.0.7".parse::<IpAddr>().unwrap()]);
        let network = full.network().unwrap();
        full.check(&network).unwrap();
        let other = Network {
            isolate: false,
            ..network.clone()
        };
        assert!(
            full.check(&other)
                .unwrap_err()
                .msg
                .contains("with isolate false")
        );
        let bare = config(json!({"cniVersion": "1.0.0", "name": "lan0"})).unwrap();
        bare.check(&network).unwrap();
        assert!(bare.network().unwrap_err().msg.contains("no `subnets`"));
        for (wrong, code, why) in [
            (json!({"name": "lan0"}), Code::Version, "no cniVersion"),
            (
                json!({"cniVersion": "0.2.0", "name": "lan0"}),
                Code::Version,
                "0.2.0",
            ),
            (json!({"cniVersion": "1.1.0"}), Code::Config, "no name"),
            (
                json!({"cniVersion": "1.1.0", "name": "a.b"}),
                Code::Config,
                "has a '.'",
            ),
            (
                json!({"cniVersion": "1.1.0", "name": "a", "subnets": "x"}),
                Code::Config,
                "invalid type",
            ),
            (
                json!({"cniVersion": "1.1.0", "name": "a", "subnets": ["10.9.0.1/24"]}),
                Code::Config,
                "bits beyond",
            ),
            (
                json!({"cniVersion": "1.1.0", "name": "a", "runtimeConfig": {"portMappings": [
                    {"hostPort": 1, "containerPort": 1, "protocol": "icmp"}]}}),
                Code::Config,
                "`icmp` is none of",
            ),
        ] {
            let error = config(wrong).unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.msg.contains(why), "{error}");
        }
        let old = json!({"cniVersion": "1.0.0", "name": "lan0"});
        assert_eq!(
            Config::read(old, &Call::Gc).unwrap_err().code,
            Code::Version
        );
    }

    #[test]
    fn an_answer_is_in_the_form_of_its_version() {
        let answer = |version: &str, prev: Value| {
            let mut value = json!({"cniVersion": version, "name": "lan0"});
            value["prevResult"] = prev;
            let eth0 = Interface {
                name: "eth0".parse().unwrap(),
                mac: Some(Mac([2, 0, 0, 0, 0, 1])),
                mtu: 1500,
                sandbox: Some(PathBuf::from("/run/netns/c1")),
            };
            let addr = ("10.9.0.2/24".parse().unwrap(), "10.9.0.1".parse().unwrap());
            let route = Route {
                to: IfAddr::everything(true),
                via: Some("10.9.0.1".parse().unwrap()),
            };
            success(&config(value).unwrap(), &[eth0], &[addr], &[route], &[])
        };
        let old = answer("0.4.0", Value::Null);
        assert_eq!(old["ips"][0]["version"], "4");
        assert!(old["interfaces"][0].get("mtu").is_none());
        let new = answer(
            "1.1.0",
            json!({"interfaces": [{"name": "br0"}], "dns": {"domain": "x"}}),
        );
        assert_eq!(
            new,
            json!({
                "cniVersion": "1.1.0",
                "interfaces": [
                    {"name": "br0"},
                    {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "sandbox": "/run/netns/c1"},
                ],
                "ips": [{"interface": 1, "address": "10.9.0.2/24", "gateway": "10.9.0.1"}],
                "routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}],
                "dns": {"domain": "x"},
            })
        );
        let addrs = addresses_of(new.as_object().unwrap(), &"eth0".parse().unwrap());
        assert_eq!(addrs, ["10.9.0.2/24".parse().unwrap()]);
    }
}
