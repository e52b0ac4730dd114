//! What `create` and `run` have in common: an OCI bundle, and what its callers want to be told.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use caps::CapsHashSet;
use oci_spec::runtime::{Capabilities, Capability, Linux, LinuxNamespaceType, Process};
use rustix::io::Errno;

use super::net::{self, Remains};
use super::{Usage, seal_own};
use crate::engine::error::{EngineError, describe};
use crate::engine::hold::{Engine, Up};
use crate::engine::seccomp;
use crate::engine::supervise::callers_size;
use crate::engine::undo;
use crate::plan::annotation::{self, Annotated};
use crate::plan::name::ContainerName;
use crate::plan::net::{NetSpec, Publish};
use crate::plan::oci::{self, Bundle, Request};
use crate::plan::seccomp::Filter;
use crate::plan::topology::{Hierarchies, NamespaceKind, Node, Origin, Topology};
use crate::sys::channel;
use crate::sys::credentials;
use crate::sys::descriptor;
use crate::sys::lsm;
use crate::sys::signal::{Interrupts, Woken};

/// The options of a bundle, as runc has them.
#[derive(Debug, clap::Args)]
pub struct BundleArgs {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    #[command(flatten)]
    pub sockets: Sockets,
    /// A file into which the first process's id is written
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Move the root instead of pivoting to it
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// How many descriptors after the standard three the process gets
    #[arg(long, value_name = "N", default_value = "0")]
    pub preserve_fds: u32,
    /// Changes nothing: there is no subreaper
    #[arg(long, hide = true)]
    no_subreaper: bool,
}

/// Where callers want descriptors sent to.
#[derive(Debug, clap::Args)]
pub struct Sockets {
    /// A socket to which the master of the terminal is sent
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// A socket to which a pidfd of the process is sent
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
}

impl Sockets {
    /// Refuses a terminal that nobody would get, and a socket that would get nothing, as runc does.
    ///
    /// # Errors
    /// For either of them.
    pub fn check(&self, terminal: bool, detach: bool) -> Result<(), Usage> {
        match &self.console_socket {
            None if terminal && detach => Err(Usage::new(
                "a terminal is asked for, and with no --console-socket nobody is there to get it",
                "give --console-socket, leave --detach out, or ask for no terminal (process.terminal)",
            )),
            Some(_) if !terminal => Err(Usage::new(
                "--console-socket is given, and no terminal is asked for",
                "set process.terminal to true, or give --tty",
            )),
            Some(_) if !detach => Err(Usage::new(
                "--console-socket is given, and the terminal is the caller's own without --detach",
                "give --detach, or leave --console-socket out",
            )),
            _ => Ok(()),
        }
    }

    /// Sends what is wanted; `kind` is how runc names to the other side what the pidfd is of.
    ///
    /// # Errors
    /// When a socket does not take it.
    pub fn hand_out(&self, up: &Up, kind: &str) -> anyhow::Result<()> {
        if let (Some(path), Some(master)) = (&self.console_socket, &up.console) {
            let text = b"/dev/ptmx";
            send(&up.state.id, path, "--console-socket", text, master.as_fd())?;
        }
        if let Some(path) = &self.pidfd_socket {
            let (text, pidfd) = (kind.as_bytes(), up.pidfd.as_fd());
            send(&up.state.id, path, "--pidfd-socket", text, pidfd)?;
        }
        Ok(())
    }
}

/// How long a socket whose listener is busy is left alone, in milliseconds.
const BUSY: i64 = 20;

fn send(
    id: &ContainerName,
    path: &Path,
    option: &str,
    text: &[u8],
    fd: BorrowedFd<'_>,
) -> anyhow::Result<()> {
    let named = |errno| anyhow::anyhow!("{option} {}: {}", path.display(), describe(errno));
    // The signals that ask tincan to go have been blocked since the container's start.
    let interrupts = Interrupts::hear().map_err(named)?;
    let socket = loop {
        match channel::try_connect_stream(path) {
            Err(Errno::AGAIN) => {
                if let Woken::Interrupted(signal) = interrupts.pause(BUSY).map_err(named)? {
                    let container = id.clone();
                    return Err(EngineError::Interrupted { container, signal }.into());
                }
            }
            other => break other.map_err(named)?,
        }
    };
    channel::send_with(&socket, text, Some(fd)).map_err(named)
}

/// Plans the container of a bundle. Unless it is `only_planned`, tincan's own binary is kept from whom it is to join.
///
/// # Errors
/// When the bundle, or something in it, is not right.
pub fn plan(
    engine: &Engine,
    id: &ContainerName,
    args: &BundleArgs,
    gate_start: bool,
    only_planned: bool,
) -> anyhow::Result<Node> {
    let dir = directory(&args.bundle, "bundle", "--bundle DIR with a config.json")?;
    let config = dir.join("config.json");
    let json = std::fs::read(&config).map_err(|cause| {
        let hint = if gate_start {
            "`tincan spec` writes one".to_owned()
        } else {
            format!("`tincan spec` writes one; for a command, it is `tincan run -- {id}`")
        };
        Usage::new(format!("{}: {cause}", config.display()), hint)
    })?;
    let mut bundle = oci::parse(&json)?;
    if let Some(process) = bundle.spec.process_mut() {
        bundle.warnings.extend(without_labels(process));
    }
    if let Some(linux) = bundle.spec.linux_mut()
        && let Some(label) = linux.mount_label().clone()
        && !lsm::selinux_is_on()
    {
        linux.set_mount_label(None);
        bundle
            .warnings
            .push(no_selinux(&format!("{label} of mounts")));
    }
    let namespaces = bundle.spec.linux().as_ref().map(Linux::namespaces);
    let mut namespaces = namespaces.into_iter().flatten().flatten();
    let has_own_rights = namespaces.any(|it| it.typ() == LinuxNamespaceType::User);
    if let Some(process) = bundle.spec.process_mut()
        && !has_own_rights
    {
        bundle.warnings.extend(without_capabilities(process)?);
    }
    let listened = listened();
    check_preserved(args.preserve_fds, listened)?;
    let filter = filter(&bundle)?;
    let node = oci::node(
        id,
        &bundle,
        &Request {
            bundle_dir: &dir,
            origin: Origin::Bundle,
            layout: engine.layout()?,
            confinement: engine.confinement(),
            own: &own_namespaces(&bundle),
            hierarchies: Hierarchies::Every,
            manager: engine.manager(),
            gate_start,
            // Also without a wire: `lo` is up before the workload is there.
            wired: true,
            console_size: callers_size(),
            no_pivot: args.no_pivot,
            no_new_keyring: args.no_new_keyring,
            preserve_fds: args.preserve_fds,
            listen_fds: listened,
            overlay: false,
            die_with_parent: false,
            hold: false,
            seccomp: filter.as_ref(),
        },
    )?;
    // A user's tincan that waits for `start` hides, and would hide from the user's other tincans: unless it was executed in
    // the user namespace, as a sealed one is (ptrace(2), "Ptrace access mode checking", 4).
    let waits = gate_start && engine.user().is_some();
    if (node.is_watched() || waits) && !only_planned {
        seal_own(engine, id)?;
    }
    for warning in &bundle.warnings {
        engine.warn(&format!("{id}: {warning}"));
    }
    if let Some(cgroup) = node.cgroup.as_ref().filter(|it| !it.undelegated.is_empty()) {
        let limits = cgroup.undelegated.join(", ");
        engine.warn(&format!(
            "{id}: goes without {limits}: you have no cgroup of your own for it"
        ));
    }
    Ok(node)
}

/// Those of the namespaces that a bundle joins which are tincan's own: what can be looked at is compared, and the rest fails where it is
/// joined.
fn own_namespaces(bundle: &Bundle) -> BTreeSet<NamespaceKind> {
    let identity = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino()));
    let is_own = |kind: NamespaceKind, path: &Path| {
        let own = PathBuf::from("/proc/self/ns").join(kind.proc_name());
        Ok::<_, std::io::Error>(identity(path)? == identity(&own)?)
    };
    oci::joined(&bundle.spec)
        .filter(|(kind, path)| is_own(*kind, path).unwrap_or(false))
        .map(|(kind, _)| kind)
        .collect()
}

/// The seccomp filter of a bundle's profile, if it has one.
///
/// # Errors
/// When the profile asks for what no filter can do.
pub fn filter(bundle: &Bundle) -> anyhow::Result<Option<Filter>> {
    let linux = bundle.spec.linux().as_ref();
    let Some(profile) = linux.and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(None);
    };
    crate::plan::seccomp::check(profile)?;
    let made = seccomp::filter(profile);
    let made = made.map_err(|cause| anyhow::anyhow!("config.json: linux.seccomp{cause}"))?;
    Ok(Some(made))
}

/// All links of a container, and the ports that lead to it: what its bundle's annotations ask for comes first, then what the command line
/// does.
///
/// # Errors
/// [`oci::BadBundle`] for an annotation that is not right.
pub fn links(
    node: &Node,
    net: Vec<NetSpec>,
    publish: Vec<Publish>,
) -> Result<Annotated, oci::BadBundle> {
    let mut asked = annotation::read(&node.identity.annotations)?;
    asked.net.extend(net);
    asked.publish.extend(publish);
    Ok(asked)
}

/// Takes the AppArmor profile out of a process where the kernel runs without AppArmor, and the SELinux label where it runs without
/// SELinux, and says so: engines give them wherever they think that they may.
pub fn without_labels(process: &mut Process) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(profile) = process.apparmor_profile()
        && !lsm::apparmor_is_on()
    {
        warnings.push(format!(
            "AppArmor profile {profile} is left out: this kernel runs without AppArmor"
        ));
        process.set_apparmor_profile(None);
    }
    if let Some(label) = process.selinux_label()
        && !lsm::selinux_is_on()
    {
        warnings.push(no_selinux(label));
        process.set_selinux_label(None);
    }
    warnings
}

fn no_selinux(label: &str) -> String {
    format!("SELinux label {label} is left out: this kernel runs without SELinux")
}

/// Takes the capabilities out of a process that tincan cannot give on, and says so, which the specification wants in the place of a failure
/// (config.md, Linux Process). In a user namespace of its own a container has them all.
///
/// # Errors
/// When the kernel does not say which ones there are.
pub fn without_capabilities(process: &mut Process) -> anyhow::Result<Vec<String>> {
    let Some(mut sets) = process.capabilities().clone() else {
        return Ok(Vec::new());
    };
    let (bounding, permitted) = (credentials::bounding()?, credentials::permitted()?);
    let mut missing = BTreeSet::new();
    let mut had = |asked: &Option<Capabilities>, own: &CapsHashSet| {
        let is_had = |name: &Capability| {
            // Those that are not known are out already.
            let known = oci::capability(&name.to_string());
            let lacking = known.filter(|it| !own.contains(it));
            missing.extend(lacking.map(|it| it.to_string()));
            lacking.is_none()
        };
        let asked = asked.as_ref();
        asked.map(|asked| {
            asked
                .iter()
                .copied()
                .filter(is_had)
                .collect::<Capabilities>()
        })
    };
    let kept = had(sets.bounding(), &bounding);
    sets.set_bounding(kept);
    let kept = had(sets.effective(), &permitted);
    sets.set_effective(kept);
    let kept = had(sets.permitted(), &permitted);
    sets.set_permitted(kept);
    let kept = had(sets.inheritable(), &permitted);
    sets.set_inheritable(kept);
    let kept = had(sets.ambient(), &permitted);
    sets.set_ambient(kept);
    process.set_capabilities(Some(sets));
    let said = |name| format!("process.capabilities: {name} is left out: tincan does not have it");
    Ok(missing.into_iter().map(said).collect())
}

/// The absolute path of a directory that a user has named.
///
/// # Errors
/// When it is missing, or no directory.
pub fn directory(path: &Path, what: &str, right: &'static str) -> Result<PathBuf, Usage> {
    let absolute = path
        .canonicalize()
        .map_err(|cause| Usage::new(format!("{what} {}: {cause}", path.display()), right))?;
    if absolute.is_dir() {
        Ok(absolute)
    } else {
        Err(Usage::new(
            format!("{what} {} is no directory", path.display()),
            right,
        ))
    }
}

/// Brings a bundle's container up, with the links that are asked for, and hands out what is wanted of it.
///
/// # Errors
/// The step that failed, or who does not take what is handed out; then there is no container.
pub fn raise(
    engine: &Engine,
    node: Node,
    asked: &Annotated,
    args: &BundleArgs,
) -> anyhow::Result<Up> {
    // Before the network is looked at: what a killed run of this name left may have the addresses.
    undo::make_way(engine, &node.name)?;
    let mut topology = Topology {
        nodes: vec![node],
        ..Topology::default()
    };
    let remains = Remains::Clear;
    net::attach(
        engine,
        &mut topology,
        0,
        &asked.net,
        &asked.publish,
        remains,
    )?;
    let up = engine
        .raise(&topology)?
        .pop()
        .expect("one node gives one container");
    if let Err(error) = hand_out(&up, args) {
        undo::delete(engine, &up.state, true)?;
        return Err(error);
    }
    Ok(up)
}

/// Writes the pid file and sends descriptors where they are wanted.
///
/// # Errors
/// When a file or socket does not take it.
pub fn hand_out(up: &Up, args: &BundleArgs) -> anyhow::Result<()> {
    write_pid_file(args.pid_file.as_deref(), up.pid)?;
    args.sockets.hand_out(up, "standard")
}

/// How many descriptors the caller passes on by the protocol of socket activation (sd_listen_fds(3)).
fn listened() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count,
        _ => 0,
    }
}

/// Refuses to keep descriptors that the caller has not opened, as runc does. `listened` of those that are passed on are
/// sockets, before them.
///
/// # Errors
/// For the first that is not open.
pub fn check_preserved(preserve: u32, listened: u32) -> Result<(), Usage> {
    for number in (3 + listened..).take(preserve as usize) {
        if !i32::try_from(number).is_ok_and(descriptor::is_inherited) {
            return Err(Usage::new(
                format!("--preserve-fds {preserve}: descriptor {number} is not open"),
                format!(
                    "the descriptors from {} on are the ones to pass",
                    3 + listened
                ),
            ));
        }
    }
    Ok(())
}

/// Writes a process id into a file that appears whole, if one is asked for.
///
/// # Errors
/// When the file cannot be written.
pub fn write_pid_file(path: Option<&Path>, pid: i32) -> anyhow::Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    let named = |cause: std::io::Error| anyhow::anyhow!("--pid-file {}: {cause}", path.display());
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    let mut file = std::fs::File::create(&next).map_err(named)?;
    write!(file, "{pid}").map_err(named)?;
    std::fs::rename(&next, path).map_err(named)
}
