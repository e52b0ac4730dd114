//! Networks that are made by plugins of the Container Network Interface, of which a container of tincan's asks to be attached to one: here
//! tincan is the runtime that calls them (sections 1 and 3 of the specification).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::cni::VERSIONS;
use super::name::LinkName;
use super::net::Publish;

/// A configuration that is no list of plugins, or none that can be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadList(String);

/// A network, as its configuration lists what makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginNetwork {
    /// Its name.
    pub name: String,
    /// The version of CNI that its plugins are called by.
    pub version: String,
    /// The configurations of its plugins, in the order of ADD.
    pub plugins: Vec<Map<String, Value>>,
    /// Where the plugins are (CNI_PATH).
    pub path: String,
    /// What the interface in the container is called.
    pub interface: Option<LinkName>,
    /// The ports of the host's that the plugins are to lead there.
    pub publish: Vec<Publish>,
    /// What the plugins have answered to ADD, once they have.
    pub result: Option<Value>,
    /// Whether more plugins can be in files of their own, beside the list.
    #[serde(skip)]
    pub takes_more: bool,
}

impl PluginNetwork {
    /// Reads a list of plugins, or the configuration of one alone, which was a file of its own once.
    ///
    /// # Errors
    /// [`BadList`] with what is missing.
    pub fn parse(text: &[u8], path: &str) -> Result<Self, BadList> {
        let bad = |why: &str| BadList(why.to_owned());
        let value: Map<String, Value> = serde_json::from_slice(text)
            .map_err(|cause| BadList(format!("is no JSON: {cause}")))?;
        let word = |of: &Map<String, Value>, key: &str| of.get(key)?.as_str().map(str::to_owned);
        let is_alone = value.contains_key("type") && !value.contains_key("plugins");
        let is_closed = value.get("loadOnlyInlinedPlugins") == Some(&Value::Bool(true));
        let plugins = match value.get("plugins") {
            None if is_alone => vec![value.clone()],
            None if !is_closed => Vec::new(),
            Some(Value::Array(plugins)) if !plugins.is_empty() => {
                let plugin = |it: &Value| it.as_object().cloned();
                let plugins = plugins.iter().map(plugin).collect::<Option<_>>();
                plugins.ok_or_else(|| bad("has a plugin that is no object"))?
            }
            _ => return Err(bad("has no plugins")),
        };
        plugins.iter().try_for_each(check)?;
        Ok(PluginNetwork {
            name: word(&value, "name").ok_or_else(|| bad("has no name"))?,
            version: version(&value)?,
            plugins,
            path: path.to_owned(),
            interface: None,
            publish: Vec::new(),
            result: None,
            takes_more: !is_alone && !is_closed,
        })
    }

    /// Adds one more plugin, which is in a file of its own (section 1, `loadOnlyInlinedPlugins`).
    ///
    /// # Errors
    /// [`BadList`] where it is none.
    pub fn add(&mut self, text: &[u8]) -> Result<(), BadList> {
        let plugin: Map<String, Value> = serde_json::from_slice(text)
            .map_err(|cause| BadList(format!("is no JSON: {cause}")))?;
        check(&plugin)?;
        self.plugins.push(plugin);
        Ok(())
    }

    /// The programs that it takes, in the order of ADD.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.plugins.iter().map(program)
    }

    /// Whether one of them leads ports of the host's to the container.
    pub fn publishes(&self) -> bool {
        self.plugins.iter().any(|plugin| can(plugin, PORTS))
    }

    /// What the n-th plugin is told: its configuration with the list's name and version, what its capabilities ask for, and what those
    /// before it have answered.
    pub fn input(&self, at: usize, prev_result: Option<&Value>) -> Value {
        let mut input = self.plugins[at].clone();
        input.insert("name".to_owned(), json!(self.name));
        input.insert("cniVersion".to_owned(), json!(self.version));
        let mut runtime = Map::new();
        if can(&self.plugins[at], PORTS) && !self.publish.is_empty() {
            let mappings = self.publish.iter().flat_map(mappings);
            runtime.insert(PORTS.to_owned(), mappings.collect());
        }
        input.remove("capabilities");
        if !runtime.is_empty() {
            input.insert("runtimeConfig".to_owned(), Value::Object(runtime));
        }
        if let Some(result) = prev_result {
            input.insert("prevResult".to_owned(), result.clone());
        }
        Value::Object(input)
    }
}

/// The version that a network's plugins are called by: of those that its configuration says, the newest that is spoken here (section 1, Version
/// considerations).
fn version(list: &Map<String, Value>) -> Result<String, BadList> {
    let bad = |why: &str| BadList(why.to_owned());
    let one = list.get("cniVersion").and_then(Value::as_str);
    let mut all: Vec<&str> = one.into_iter().collect();
    match list.get("cniVersions") {
        None | Some(Value::Null) => {}
        Some(Value::Array(more)) => {
            let words: Option<Vec<&str>> = more.iter().map(Value::as_str).collect();
            all.extend(words.ok_or_else(|| bad("has cniVersions that are no words"))?);
        }
        Some(_) => return Err(bad("has cniVersions that are no list")),
    }
    let newest = VERSIONS.iter().rev().find(|version| all.contains(version));
    let version = newest.copied().or(all.first().copied());
    version
        .map(str::to_owned)
        .ok_or_else(|| bad("has no cniVersion"))
}

/// The capability of leading ports.
const PORTS: &str = "portMappings";

/// Refuses a plugin that names no program.
fn check(plugin: &Map<String, Value>) -> Result<(), BadList> {
    let program = program(plugin);
    if program.is_empty() || program.contains('/') {
        return Err(BadList("has a plugin without a type".to_owned()));
    }
    Ok(())
}

/// The program of a plugin.
pub fn program(plugin: &Map<String, Value>) -> &str {
    plugin
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn can(plugin: &Map<String, Value>, capability: &str) -> bool {
    let capabilities = plugin.get("capabilities");
    capabilities.and_then(|all| all.get(capability)) == Some(&Value::Bool(true))
}

/// Ports as plugins take them, one by one.
fn mappings(publish: &Publish) -> Vec<Value> {
    let ports = publish.ports.first..=publish.ports.last;
    let pairs = ports.zip(publish.container_ports().first..);
    let mapping = |(host, container)| {
        let mut mapping = json!({
            "hostPort": host,
            "containerPort": container,
            "protocol": publish.protocol.to_string(),
        });
        if let Some(address) = publish.address {
            mapping["hostIP"] = json!(address);
        }
        mapping
    };
    pairs.map(mapping).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [
        {"type": "bridge", "bridge": "br0"},
        {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
    ]}"#;

    #[test]
    fn each_plugin_is_told_its_own() {
        let mut network = PluginNetwork::parse(LIST.as_bytes(), "/opt/cni/bin").unwrap();
        network.publish = vec!["127.0.0.1:8080-8081:80".parse().unwrap()];
        assert_eq!(
            network.programs().collect::<Vec<_>>(),
            ["bridge", "portmap"]
        );
        assert!(network.publishes());
        assert_eq!(
            network.input(0, None),
            json!({"type": "bridge", "bridge": "br0", "name": "n", "cniVersion": "1.0.0"})
        );
        let result = json!({"ips": []});
        assert_eq!(
            network.input(1, Some(&result)),
            json!({
                "type": "portmap", "snat": true, "name": "n", "cniVersion": "1.0.0", "prevResult": {"ips": []},
                "runtimeConfig": {"portMappings": [
                    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"},
                    {"hostPort": 8081, "containerPort": 81, "protocol": "tcp", "hostIP": "127.0.0.1"},
                ]},
            })
        );
        let alone = r#"{"cniVersion": "0.4.0", "name": "n", "type": "ptp"}"#;
        let alone = PluginNetwork::parse(alone.as_bytes(), "").unwrap();
        assert_eq!(alone.programs().collect::<Vec<_>>(), ["ptp"]);
        assert!(network.takes_more && !alone.takes_more);
        network.add(br#"{"type": "tuning"}"#).unwrap();
        assert_eq!(network.programs().last(), Some("tuning"));
        for wrong in ["{", "[]", r#"{"type": ""}"#] {
            assert!(network.add(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_newest_version_that_is_spoken_is_taken() {
        for (versions, taken) in [
            (json!({"cniVersion": "0.4.0"}), Some("0.4.0")),
            (
                json!({"cniVersion": "0.4.0", "cniVersions": ["1.1.0", "0.3.1"]}),
                Some("1.1.0"),
            ),
            (
                json!({"cniVersion": "1.0.0", "cniVersions": ["0.3.1", "2.0.0"]}),
                Some("1.0.0"),
            ),
            (json!({"cniVersions": ["0.4.0", "1.0.0"]}), Some("1.0.0")),
            // What is not spoken here its plugin may speak.
            (json!({"cniVersion": "0.2.0"}), Some("0.2.0")),
            (json!({"cniVersions": []}), None),
            (json!({"cniVersion": "1.0.0", "cniVersions": "1.1.0"}), None),
            (json!({"cniVersion": "1.0.0", "cniVersions": [1]}), None),
        ] {
            let mut list = versions.clone();
            list["name"] = json!("n");
            list["type"] = json!("ptp");
            let parsed = PluginNetwork::parse(list.to_string().as_bytes(), "");
            let version = parsed.map(|it| it.version);
            assert_eq!(version.as_deref().ok(), taken, "{versions}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (text, why) in [
            ("{", "is no JSON"),
            ("{}", "has no name"),
            (r#"{"loadOnlyInlinedPlugins": true}"#, "has no plugins"),
            (r#"{"plugins": []}"#, "has no plugins"),
            (r#"{"plugins": [{}]}"#, "has a plugin without a type"),
            (
                r#"{"plugins": [{"type": "../sh"}]}"#,
                "has a plugin without a type",
            ),
            (r#"{"plugins": [{"type": "ptp"}]}"#, "has no name"),
            (r#"{"type": "ptp", "name": "n"}"#, "has no cniVersion"),
        ] {
            let error = PluginNetwork::parse(text.as_bytes(), "")
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
