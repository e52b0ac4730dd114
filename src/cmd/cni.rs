//! `tincan cni`: a plugin of the Container Network Interface, by which containerd, podman and Kubernetes put their containers on networks
//! of tincan's. What is to be done is in the environment, the configuration on standard input, and the answer on standard output.

use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::net::NetworkError;
use super::{Usage, net, network, print_json, without_errno};
use crate::engine::attachment::{self, Attachment};
use crate::engine::error::EngineError;
use crate::engine::fault;
use crate::engine::hold::{CgroupDriver, Engine};
use crate::engine::network::NetworkStateError;
use crate::engine::publish;
use crate::engine::state::{StateError, StateRoot};
use crate::net::bridge::{self, BridgeError};
use crate::net::netlink::Netlink;
use crate::net::nft;
use crate::net::wire::{self, Site};
use crate::plan::cni::{self, Call, CniError, Code, Config, Interface, Target};
use crate::plan::name::{BadWord, IfAddr};
use crate::plan::net::WireSpec;
use crate::plan::network::{Network, NetworkSpec, PortEnd, Published, gateways};
use crate::plan::tenant::{AttachmentId, Tenant};
use crate::plan::topology::Place;
use crate::sys::netns;
use crate::sys::process::ProcessId;

/// The arguments of `tincan cni`: none, since all is in the environment and on standard input.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Whether the program was executed as a plugin is: without arguments, and with a command in its environment.
pub fn is_called() -> bool {
    std::env::args_os().len() < 2 && std::env::var_os("CNI_COMMAND").is_some()
}

/// Does what is asked, and answers.
pub fn run(_: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    let call = Call::read(|name| std::env::var(name).ok());
    let mut input = Vec::new();
    let stdin = io::stdin();
    // Who tries it by hand at a terminal has nothing more to say.
    let read = if stdin.is_terminal() {
        Ok(0)
    } else {
        stdin.lock().read_to_end(&mut input)
    };
    let asked = match (&call, input.trim_ascii().is_empty()) {
        // That needs no configuration, and other plugins read none.
        (Ok(Call::Version), true) => Ok(Value::Null),
        _ => read
            .map_err(|cause| CniError::new(Code::Io, format!("read the configuration: {cause}")))
            .and_then(|_| cni::decode(&input)),
    };
    let version = asked.as_ref().map_or(cni::NEWEST, cni::version_of);
    match call.and_then(|call| answer(&call, asked?, engine)) {
        Ok(answer) => {
            if !answer.is_null() {
                print_json(&answer)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            print_json(&error.answer(version))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn answer(call: &Call, value: Value, engine: &Engine) -> Result<Value, CniError> {
    if *call == Call::Version {
        return Ok(cni::versions(&value));
    }
    if cni::is_nobodys(&value, call) {
        return Ok(Value::Null);
    }
    let config = Config::read(value, call)?;
    if !rustix::process::geteuid().is_root() {
        let code = if *call == Call::Status {
            Code::Unavailable
        } else {
            Code::Failed
        };
        return Err(CniError::new(
            code,
            "a CNI plugin makes links on the host, which only root may",
        ));
    }
    let Some(root) = &config.state_root else {
        return perform(call, &config, engine);
    };
    let root = std::path::absolute(root).unwrap_or(root.clone());
    let engine = Engine::new(StateRoot::new(root), CgroupDriver::Cgroupfs);
    let done = perform(call, &config, &engine);
    let left = engine.leave().map_err(|error| told(&error.into()));
    left.and(done)
}

fn perform(call: &Call, config: &Config, engine: &Engine) -> Result<Value, CniError> {
    let done = match call {
        Call::Add(target, _) => add(target, config, engine),
        Call::Del(id) => del(id, config, engine).map(|()| Value::Null),
        Call::Check(target) => check(target, config, engine).map(|()| Value::Null),
        Call::Gc => gc(config, engine).map(|()| Value::Null),
        Call::Status => status(config, engine).map(|()| Value::Null),
        Call::Version => Ok(Value::Null),
    };
    done.map_err(|error| told(&error))
}

/// An error as CNI tells it.
fn told(error: &anyhow::Error) -> CniError {
    if let Some(error) = error.downcast_ref::<CniError>() {
        return error.clone();
    }
    let network = error.downcast_ref::<NetworkError>();
    let engine = error.downcast_ref::<EngineError>().or(match network {
        Some(NetworkError::Engine(error)) => Some(error),
        _ => None,
    });
    let is_file = matches!(
        engine,
        Some(
            EngineError::State(StateError::File { .. })
                | EngineError::Network(NetworkStateError::State(StateError::File { .. }))
        )
    );
    let is_word = error.is::<BadWord>()
        || error.is::<Usage>()
        || matches!(network, Some(NetworkError::Word(_)));
    let code = match network {
        // Somebody may leave.
        Some(NetworkError::Full { .. }) => Code::TryAgain,
        _ if is_file => Code::Io,
        _ if is_word => Code::Config,
        _ => Code::Failed,
    };
    CniError::new(code, without_errno(&format!("{error:#}")))
}

/// A container's network namespace, which is not the host's.
fn open(path: &Path) -> Result<(OwnedFd, Netlink), CniError> {
    let bad = |cause: io::Error| {
        CniError::new(
            Code::Environment,
            format!("CNI_NETNS {}: {cause}", path.display()),
        )
    };
    let opened: OwnedFd = std::fs::File::open(path).map_err(bad)?.into();
    let inside = Netlink::open_in(opened.as_fd()).map_err(bad)?;
    if netns::is_current(opened.as_fd()).map_err(bad)? {
        return Err(bad(io::Error::other("is the host's own network namespace")));
    }
    Ok((opened, inside))
}

/// The network of a configuration, which is made where there is none.
fn network_of(config: &Config, engine: &Engine) -> anyhow::Result<Network> {
    let networks = engine.root.networks();
    loop {
        let found = match networks.load(&config.name) {
            Err(NetworkStateError::Unknown(_)) => None,
            other => Some(other.map_err(EngineError::from)?),
        };
        if let Some(network) = found {
            config.check(&network)?;
            return Ok(network);
        }
        let is_taken = |error: &anyhow::Error| {
            matches!(
                error.downcast_ref(),
                Some(EngineError::Network(NetworkStateError::Taken(_)))
            )
        };
        match network::create(engine, &config.network()?) {
            // By another call, at the same time.
            Err(error) if is_taken(&error) => {}
            other => other?,
        }
    }
}

fn add(target: &Target, config: &Config, engine: &Engine) -> anyhow::Result<Value> {
    let id = &target.id;
    let (namespace, inside) = open(&target.netns)?;
    let network = network_of(config, engine)?;
    // What a killed one of the same name has left, or one whose namespace is gone.
    attachment::make_way(engine, id)?;
    let mut attachment = Attachment {
        id: id.clone(),
        network: network.name.clone(),
        netns: target.netns.clone(),
        namespace: netns::incarnation(namespace.as_fd())?,
        maker: ProcessId::own()?,
        whole: false,
        port: None,
        leases: Vec::new(),
        published: Vec::new(),
    };
    let step = |step| {
        fault::at("cni", step)
            .map_err(|errno| EngineError::of_deed(&id.container, "attach it", errno))
    };
    step(0)?;
    let attachments = engine.root.attachments();
    let Some(_lock) = attachments.claim(&attachment).map_err(EngineError::from)? else {
        let msg = format!("{} of {} is attached already", id.interface, id.container);
        return Err(CniError::new(Code::Failed, msg).into());
    };
    let asked = Asked {
        config,
        network: &network,
        namespace: &namespace,
        inside: &inside,
    };
    let done = asked.attach(engine, &mut attachment, &step);
    if done.is_err() {
        // The first error is the one to tell; what stays is in the record.
        let _ = attachment::undo_locked(engine, &attachment);
    }
    done
}

/// What ADD has to go by.
struct Asked<'a> {
    config: &'a Config,
    network: &'a Network,
    namespace: &'a OwnedFd,
    inside: &'a Netlink,
}

impl Asked<'_> {
    /// Takes addresses and ports, writes them down, makes the wire and leads the ports to it.
    fn attach(
        &self,
        engine: &Engine,
        attachment: &mut Attachment,
        step: &dyn Fn(usize) -> Result<(), EngineError>,
    ) -> anyhow::Result<Value> {
        let Asked {
            config, network, ..
        } = *self;
        let attachments = engine.root.attachments();
        let id = attachment.id.clone();
        let tenant = Tenant::from(&id);
        step(1)?;
        let spec = NetworkSpec {
            network: network.name.clone(),
            addrs: config.ips.clone(),
            wire: WireSpec {
                mac: config.mac,
                ..WireSpec::default()
            },
        };
        let taken = net::take(engine, network, &tenant, &spec, &config.publish)?;
        step(2)?;
        let host = engine.host_netlink()?;
        let port = free_port(&host, &id)?;
        attachment.leases.clone_from(&taken.leases);
        attachment.published.clone_from(&taken.published);
        attachment.port = Some(port.clone());
        attachments.save(attachment).map_err(EngineError::from)?;
        engine.keep(&taken.leases);
        engine.keep_ports(&tenant);
        step(3)?;
        let leads = |v4| -> anyhow::Result<bool> {
            let has = wire::has_default_route(self.inside, v4);
            Ok(!has.map_err(|cause| refused(&id, "look at its routes", cause))?)
        };
        let end = PortEnd {
            name: port,
            alias: id.alias(engine.root.path()),
            default_v4: leads(true)?,
            default_v6: leads(false)?,
        };
        let at = Place::Running(id.container.clone());
        let mut wire = network.wire(&spec, &taken.addrs, at, id.interface.clone(), end);
        let [far, _] = &mut wire.ends;
        far.mac = Some(Attachment::port_mac(engine, &id));
        if let Some(port) = &mut far.port {
            port.reflects = !taken.published.is_empty();
        }
        let sites = [
            Site {
                netlink: &host,
                netns: None,
                proc: None,
            },
            Site {
                netlink: self.inside,
                netns: Some(self.namespace.as_fd()),
                proc: None,
            },
        ];
        wire::make(&wire, sites).map_err(|failed| refused(&id, &failed.action, failed.cause))?;
        step(4)?;
        if !taken.published.is_empty() {
            publish::lead(&tenant, &taken.published).map_err(EngineError::from)?;
        }
        step(5)?;
        let [far, near] = &wire.ends;
        let look = |netlink: &Netlink, name, sandbox| -> anyhow::Result<Interface> {
            let link = wire::link_by_name(netlink, name)
                .map_err(|cause| refused(&id, "look at it", cause))?;
            Ok(Interface {
                name: name.clone(),
                mac: link.mac,
                mtu: link.mtu,
                sandbox,
            })
        };
        let interfaces = [
            look(&host, &network.bridge, None)?,
            look(&host, &far.name, None)?,
            look(self.inside, &near.name, Some(attachment.netns.clone()))?,
        ];
        let gateway = |addr: &IfAddr| network.subnets.iter().find(|it| it.prefix.covers(addr.ip));
        let addrs = near
            .addrs
            .iter()
            .filter_map(|it| Some((it.addr, gateway(&it.addr)?.gateway)));
        let answer = cni::success(
            config,
            &interfaces,
            &addrs.collect::<Vec<_>>(),
            &near.routes,
            &gateways(&[network]),
        );
        attachment.whole = true;
        attachments.save(attachment).map_err(EngineError::from)?;
        step(6)?;
        Ok(answer)
    }
}

/// A name for the host's end that no link has.
fn free_port(host: &Netlink, id: &AttachmentId) -> anyhow::Result<crate::plan::name::LinkName> {
    let mut attempt = 0;
    loop {
        let name = id.port_name(attempt);
        match wire::link_by_name(host, &name) {
            Err(cause) if cause.errno == nix::errno::Errno::ENODEV => return Ok(name),
            Err(cause) => return Err(refused(id, "look for a free name", cause).into()),
            Ok(_) => attempt += 1,
        }
    }
}

fn refused(id: &AttachmentId, action: &str, cause: crate::net::netlink::Refused) -> EngineError {
    EngineError::Wire {
        container: id.to_string(),
        action: action.to_owned(),
        cause,
    }
}

/// Undoes what ADD did; what it did not, or what is undone already, is success.
fn del(id: &AttachmentId, config: &Config, engine: &Engine) -> anyhow::Result<()> {
    let attachment = engine
        .root
        .attachments()
        .load(id)
        .map_err(EngineError::from)?;
    match attachment {
        Some(attachment) if attachment.network == config.name => {
            Ok(attachment::undo(engine, &attachment)?)
        }
        _ => Ok(()),
    }
}

/// Sees whether all is as ADD left it.
fn check(target: &Target, config: &Config, engine: &Engine) -> anyhow::Result<()> {
    let id = &target.id;
    let changed = |msg: String| Err(CniError::new(Code::Changed, format!("{id}: {msg}")).into());
    let Some(result) = &config.prev_result else {
        return Err(CniError::new(
            Code::Config,
            "the configuration has no prevResult, which CHECK is about",
        )
        .into());
    };
    let (namespace, inside) = open(&target.netns)?;
    let found = engine
        .root
        .attachments()
        .load(id)
        .map_err(EngineError::from)?;
    let Some(attachment) = found.filter(|it| it.whole && it.network == config.name) else {
        return changed(format!("is not attached to network {}", config.name));
    };
    if netns::incarnation(namespace.as_fd())? != attachment.namespace {
        return changed(format!(
            "{} is another namespace now",
            target.netns.display()
        ));
    }
    let network = network_of(config, engine)?;
    let host = engine.host_netlink()?;
    let alias = crate::engine::network::alias(&engine.root, &network);
    let bridge = bridge::find(&host, &network, &alias);
    let bridge = bridge.map_err(|cause| CniError::new(Code::Changed, cause.to_string()))?;
    let put_back = format!("`tincan network reload {}` puts it back", network.name);
    let Some(bridge) = bridge else {
        return changed(format!("the bridge {} is gone; {put_back}", network.bridge));
    };
    if !bridge.up {
        return changed(format!("the bridge {} is down", network.bridge));
    }
    if !nft::is_there(&network)? {
        return changed(format!(
            "the rules of network {} are gone; {put_back}",
            network.name
        ));
    }
    let has_port = attachment
        .has_port(engine, &host)
        .map_err(|cause| refused(id, "look at the host's end", cause))?;
    let Some(port) = attachment.port.as_ref().filter(|_| has_port) else {
        return changed("the host's end of its wire is gone".to_owned());
    };
    let port = wire::link_by_name(&host, port)
        .map_err(|cause| refused(id, "look at the host's end", cause))?;
    if port.controller != Some(bridge.index) {
        return changed(format!(
            "{} is no port of {}; {put_back}",
            port.name, network.bridge
        ));
    }
    if !port.up {
        return changed(format!(
            "the host's end of its wire, {}, is down",
            port.name
        ));
    }
    let published: Vec<&Published> = attachment.published.iter().collect();
    if !published.is_empty() && !nft::leads(&network.bridge, &published)? {
        let all: Vec<String> = published
            .iter()
            .map(|one| one.publish.to_string())
            .collect();
        return changed(format!(
            "ports {} do not all lead to it; {put_back}",
            all.join(", ")
        ));
    }
    let links = wire::links(&inside).map_err(|cause| refused(id, "look at its links", cause))?;
    let Some(link) = links.iter().find(|link| link.name == id.interface.as_str()) else {
        return changed(format!(
            "there is no {} in {}",
            id.interface,
            target.netns.display()
        ));
    };
    if !link.up {
        return changed("is down".to_owned());
    }
    let told = cni::addresses_of(result, &id.interface);
    for lease in &attachment.leases {
        if !told.iter().any(|addr| addr.ip == lease.ip) {
            return changed(format!("prevResult does not have its address {}", lease.ip));
        }
    }
    for addr in told {
        if !link.addrs.iter().any(|it| it.addr == addr) {
            return changed(format!("has no address {addr}"));
        }
    }
    for v4 in [true, false] {
        let everywhere = json!(IfAddr::everything(v4));
        let routes = result
            .get("routes")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let wanted = routes.into_iter().any(|route| route["dst"] == everywhere);
        let has = || {
            wire::has_default_route(&inside, v4)
                .map_err(|cause| refused(id, "look at its routes", cause))
        };
        if wanted && !has()? {
            let family = if v4 { "IPv4" } else { "IPv6" };
            return changed(format!("has no default route for {family}"));
        }
    }
    Ok(())
}

/// Clears away the attachments of the network that are not among those that are told.
fn gc(config: &Config, engine: &Engine) -> anyhow::Result<()> {
    let Some(valid) = &config.valid else {
        let msg = "the configuration has no `cni.dev/valid-attachments`, which GC is about";
        return Err(CniError::new(Code::Config, msg).into());
    };
    attachment::clear(engine, |it| {
        it.network == config.name && !valid.contains(&it.id)
    })?;
    let networks = engine.root.networks();
    networks
        .clear_stale(&config.name)
        .map_err(EngineError::from)?;
    networks.clear_stale_ports().map_err(EngineError::from)?;
    Ok(())
}

/// Sees whether ADD can be done.
fn status(config: &Config, engine: &Engine) -> anyhow::Result<()> {
    let unavailable = |msg: String| CniError::new(Code::Unavailable, msg);
    if !nft::is_supported() {
        return Err(unavailable(
            "this kernel has no nftables; `tincan doctor` shows what would provide it".to_owned(),
        )
        .into());
    }
    let networks = engine.root.networks();
    let network = match networks.load(&config.name) {
        Err(NetworkStateError::Unknown(_)) => {
            // What ADD would make, and by what it would be refused.
            let new = config.network().map_err(|error| unavailable(error.msg))?;
            new.check().map_err(|word| unavailable(word.to_string()))?;
            network::check_new(engine, &new).map_err(|error| unavailable(told(&error).msg))?;
            return whose_bridge(engine, &new, Code::Unavailable);
        }
        other => other.map_err(EngineError::from)?,
    };
    config
        .check(&network)
        .map_err(|error| unavailable(error.msg))?;
    whose_bridge(engine, &network, Code::Limited)?;
    for subnet in &network.subnets {
        if networks.free(&network.name, subnet).next().is_none() {
            return Err(unavailable(format!(
                "network {} is full: no address of {} is free",
                network.name, subnet.prefix
            ))
            .into());
        }
    }
    Ok(())
}

/// Refuses a network whose bridge's name is another link's.
fn whose_bridge(engine: &Engine, network: &Network, code: Code) -> anyhow::Result<()> {
    let host = engine.host_netlink()?;
    let alias = crate::engine::network::alias(&engine.root, network);
    match bridge::find(&host, network, &alias) {
        Err(cause @ BridgeError::Foreign(_)) => {
            Err(CniError::new(code, format!("network {}: {cause}", network.name)).into())
        }
        _ => Ok(()),
    }
}
