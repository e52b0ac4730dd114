//! `tincan run`: a command, or an OCI bundle, in a new container, and its wires in the same breath.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::bundle::{self, BundleArgs};
use super::dry_run::DryRun;
use super::names::Names;
use super::plugins::Plugins;
use super::{Usage, net, seal_own};
use crate::engine::hold::{Engine, Up};
use crate::engine::seal;
use crate::engine::supervise::{Session, callers_size, supervise};
use crate::engine::undo;
use crate::engine::user;
use crate::engine::user::Need;
use crate::plan::name::{ContainerName, check_netns_name};
use crate::plan::net::{NetSpec, Publish};
use crate::plan::oci::template::{Wanted, default_bundle};
use crate::plan::oci::{HostRequest, PATH, Request, host_node, node};
use crate::plan::step::{Command, Step};
use crate::plan::topology::{Hierarchies, NamespaceKind, Node, Origin, Topology};

/// The arguments of `tincan run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container's name, for a command; without, one is made up
    #[arg(long, value_name = "NAME")]
    name: Option<ContainerName>,
    /// A wire, a place on a network, an interface of another kind, or a namespace: 172.16.0.1/16, …,to=ns1,peer=…, lan0,
    /// macvlan:LINK, ipvlan:LINK, vlan:LINK,id=N, vxlan:N,remote=…, tap, wireguard:FILE, phys:LINK, none, host, pasta, container:NAME,
    /// ns:NAME
    #[arg(long, value_name = "VALUE")]
    net: Vec<NetSpec>,
    /// Ports of the host's that lead into the container on a network, or by pasta: [ADDR:]PORT[-PORT][:PORT][/tcp|udp|sctp]
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<Publish>,
    /// Return when the container runs
    #[arg(short, long)]
    detach: bool,
    /// Another root file system than the host's; writes to it are thrown away
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// Make the root file system read-only
    #[arg(long, requires = "rootfs")]
    read_only: bool,
    /// Let writes go through to the root file system
    #[arg(long, requires = "rootfs", conflicts_with = "read_only")]
    writable: bool,
    /// Keep the caller's namespace of this kind
    #[arg(long, value_name = "NS")]
    share: Vec<NamespaceKind>,
    /// Open a terminal for the command
    #[arg(short, long, requires = "rootfs")]
    tty: bool,
    /// Show the network namespace under this name, or the container's, to `ip netns`
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    netns_name: Option<String>,
    /// Leave the state of a bundle's container when it has ended
    #[arg(long, requires = "id")]
    keep: bool,
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    plugins: Plugins,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    bundle: BundleArgs,
    /// The container's name, for a bundle
    id: Option<ContainerName>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the container, and in the foreground waits for it.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    args.dry_run.become_root(engine, Need::Make)?;
    let from_bundle = args.command.is_empty();
    let mut node = match (&args.id, from_bundle) {
        (Some(id), true) => bundle::plan(engine, id, &args.bundle, false, args.dry_run.is_asked())?,
        (None, false) => {
            let node = plan_command(&args, engine)?;
            if node.is_watched() && !args.dry_run.is_asked() {
                seal_own(engine, &node.name)?;
            }
            node
        }
        (None, true) => {
            return Err(Usage::new(
                "there is neither a command nor a container's name",
                "`tincan run -- COMMAND` runs a command, `tincan run -b BUNDLE NAME` a bundle",
            )
            .into());
        }
        (Some(id), false) => {
            return Err(Usage::new(
                format!("`{id}` is a bundle's container, and there is a command as well"),
                format!("`tincan run --name {id} -- COMMAND` names a command's container"),
            )
            .into());
        }
    };
    if let Some(name) = args.netns_name {
        if !name.is_empty() {
            check_netns_name(&name)?;
        }
        if engine.user().is_some() {
            return Err(Usage::new(
                "--netns-name: the names that `ip netns` knows are in /run/netns, which is root's",
                "`tincan exec NAME ip addr` looks at a container's network by its name",
            )
            .into());
        }
        node.netns_name = Some(if name.is_empty() {
            node.name.to_string()
        } else {
            name
        });
    }
    let asked = bundle::links(&node, args.net, args.publish)?;
    args.names.give(engine, &mut node, &asked.net)?;
    args.plugins.give(engine, &mut node)?;
    args.bundle
        .sockets
        .check(has_terminal(&node), args.detach)?;
    if !args.dry_run.is_asked() {
        // Before the network is looked at: what a killed run of this name left may have the addresses.
        undo::make_way(engine, &node.name)?;
    }
    let mut topology = Topology {
        nodes: vec![node],
        ..Topology::default()
    };
    net::attach(
        engine,
        &mut topology,
        0,
        &asked.net,
        &asked.publish,
        args.dry_run.remains(),
    )?;
    if args.dry_run.is_asked() {
        return args.dry_run.print(engine, &topology);
    }
    let up = engine
        .raise(&topology)?
        .pop()
        .expect("one node gives one container");
    let session = session_of(&topology.nodes[0]);
    if let Err(error) = bundle::hand_out(&up, &args.bundle) {
        undo::delete(engine, &up.state, true)?;
        return Err(error);
    }
    engine.poststart(&up.state)?;
    if args.detach {
        if !from_bundle && args.name.is_none() {
            let id = &up.state.id;
            writeln!(std::io::stdout(), "{id}")
                .with_context(|| format!("{id}: it runs; print its name"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    finish(engine, up, session, args.keep)
}

/// Waits for a container in the foreground and undoes it; its exit code is the command's.
///
/// # Errors
/// When it cannot be waited for, or undone.
pub fn finish(engine: &Engine, up: Up, session: Session, keep: bool) -> anyhow::Result<ExitCode> {
    let ended = supervise(up.pidfd.as_fd(), session, up.console)
        .map_err(|errno| anyhow::anyhow!("{}: wait for it: {errno}", up.state.id))?;
    if !keep {
        undo::delete(engine, &up.state, true)?;
    }
    Ok(ExitCode::from(ended.shell_code()))
}

/// Whether a node's process opens a terminal.
pub fn has_terminal(node: &Node) -> bool {
    let mut steps = node.steps.iter();
    steps.any(|step| matches!(step, Step::Console { .. }))
}

/// How signals reach a node's process.
pub fn session_of(node: &Node) -> Session {
    if node.steps.contains(&Step::NewSession) {
        Session::Own
    } else {
        Session::Callers
    }
}

/// A container for a command, over the host's files or another root.
fn plan_command(args: &Args, engine: &Engine) -> anyhow::Result<Node> {
    let name = match &args.name {
        Some(name) => {
            net::check_name(name)?;
            name.clone()
        }
        // A pid is taken by one process at a time, and the name lives no longer than its container.
        None => format!("tc-{}", std::process::id()).parse()?,
    };
    let wired = !args.net.is_empty();
    let shared: BTreeSet<NamespaceKind> = args.share.iter().copied().collect();
    if wired && shared.contains(&NamespaceKind::Network) {
        return Err(Usage::new(
            "`--share network` and `--net` both say which network namespace it is",
            "leave one of them out",
        )
        .into());
    }
    for (option, given) in [
        ("--no-pivot", args.bundle.no_pivot),
        ("--no-new-keyring", args.bundle.no_new_keyring),
    ] {
        if given {
            return Err(Usage::new(
                format!("{option} is for a bundle's container"),
                "leave it out",
            )
            .into());
        }
    }
    bundle::check_preserved(args.bundle.preserve_fds, 0)?;
    let tail = Tail {
        detach: args.detach,
        preserve_fds: args.bundle.preserve_fds,
    };
    match &args.rootfs {
        None => over_host(engine, &name, &shared, Some(&args.command), tail),
        Some(rootfs) => {
            let wanted = Rootfs {
                path: rootfs,
                read_only: args.read_only,
                writable: args.writable,
                tty: args.tty,
                tun: args.net.iter().any(NetSpec::is_tap),
            };
            over_rootfs(engine, &name, &shared, &wanted, Some(&args.command), tail)
        }
    }
}

/// How a command's container ends its start.
#[derive(Clone, Copy)]
pub struct Tail {
    /// Nobody waits for it.
    pub detach: bool,
    /// How many descriptors after the standard three its process keeps.
    pub preserve_fds: u32,
}

/// Another root, as the options say.
pub struct Rootfs<'a> {
    /// Its directory.
    pub path: &'a Path,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Whether writes go through.
    pub writable: bool,
    /// Whether the command gets a terminal.
    pub tty: bool,
    /// Whether it gets the device by which programs are at the other end of a tap.
    pub tun: bool,
}

/// A container over the host's files; without a command it holds.
///
/// # Errors
/// When the working directory or the cgroups cannot be read.
pub fn over_host(
    engine: &Engine,
    name: &ContainerName,
    shared: &BTreeSet<NamespaceKind>,
    command: Option<&[String]>,
    tail: Tail,
) -> anyhow::Result<Node> {
    let new: BTreeSet<NamespaceKind> = [
        NamespaceKind::Cgroup,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Network,
        NamespaceKind::Pid,
        NamespaceKind::Mount,
    ]
    .into_iter()
    .filter(|kind| !shared.contains(kind))
    .collect();
    let cwd = std::env::current_dir()?;
    let mut node = host_node(
        name,
        HostRequest {
            layout: engine.layout()?,
            new: &new,
            cgroup: None,
            command: command.map(|args| Command {
                args: args.to_vec(),
                env: environment(),
                home_of: None,
            }),
            cwd: &cwd,
            new_session: tail.detach,
            // Also without a wire: `lo` is up before the workload is there.
            wired: true,
            preserve_fds: tail.preserve_fds,
            die_with_parent: !tail.detach,
        },
    );
    if tail.detach && command.is_some() {
        detach_streams(&mut node);
    }
    Ok(node)
}

/// A container over another root; without a command it holds.
///
/// # Errors
/// When the directory is none.
pub fn over_rootfs(
    engine: &Engine,
    name: &ContainerName,
    shared: &BTreeSet<NamespaceKind>,
    rootfs: &Rootfs<'_>,
    command: Option<&[String]>,
    tail: Tail,
) -> anyhow::Result<Node> {
    let path = bundle::directory(rootfs.path, "root file system", "--rootfs rootfs/busybox")?;
    let held = ["/".to_owned()];
    let bundle = default_bundle(
        &Wanted {
            root: &path,
            readonly: rootfs.read_only,
            args: command.unwrap_or(&held).to_vec(),
            env: vec![
                PATH.to_owned(),
                format!(
                    "TERM={}",
                    std::env::var("TERM").unwrap_or("xterm".to_owned())
                ),
            ],
            cwd: PathBuf::from("/"),
            terminal: rootfs.tty,
            tun: rootfs.tun,
            // The kernel takes no longer one (uname(2)), and a container may have a longer name.
            hostname: name.as_str().get(..64).unwrap_or(name.as_str()),
            shared,
        },
        engine.layout()?,
    )?;
    let mut node = node(
        name,
        &bundle,
        &Request {
            bundle_dir: &path,
            origin: Origin::Command,
            layout: engine.layout()?,
            confinement: engine.confinement(),
            own: &BTreeSet::new(),
            hierarchies: Hierarchies::Needed,
            manager: engine.manager(),
            gate_start: false,
            // Also without a wire: `lo` is up before the workload is there.
            wired: true,
            console_size: callers_size(),
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: tail.preserve_fds,
            listen_fds: 0,
            overlay: !rootfs.writable && !rootfs.read_only,
            die_with_parent: !tail.detach,
            hold: command.is_none(),
            seccomp: None,
        },
    )?;
    if tail.detach && command.is_some() {
        detach_streams(&mut node);
    }
    Ok(node)
}

/// Lets a node's command go without the caller's streams: before its last two steps, the closing and the exec.
fn detach_streams(node: &mut Node) {
    let end = node.steps.len() - 2;
    node.steps.insert(end, Step::DetachStreams);
}

/// The caller's environment, without what tincan tells itself. What is no UTF-8 stays out, since a plan is text.
fn environment() -> Vec<String> {
    std::env::vars_os()
        .filter(|(key, _)| key != seal::SEALED && key != user::INHERITED)
        .filter_map(|(key, value)| Some(format!("{}={}", key.to_str()?, value.to_str()?)))
        .collect()
}
