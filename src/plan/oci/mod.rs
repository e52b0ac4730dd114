//! From an OCI bundle to a node of a topology: pure code. What the specification (1.3.0) defines is either done or an error
//! that names the property; properties that it does not define are ignored, as it demands (config.md, Extensibility).

mod check;
pub mod features;
mod mounts;
mod process;
mod scheduling;
pub use process::capability;
pub mod template;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Hook as SpecHook, Linux, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, LinuxResources,
    LinuxTimeOffset, Process, Spec,
};
use serde_json::Value;

use super::cgroup;
use super::facts::{CgroupLayout, Confinement, Manager};
use super::name::{ContainerName, LinkName};
use super::resctrl;
use super::seccomp::Filter;
use super::step::{
    Command, Device, DeviceKind, Gate, Hook, HookKind, Labelled, Mount, MountAttrs, MountWhat,
    Propagation, PropagationKind, Root, Step,
};
use super::systemd;
use super::topology::{
    Cgroup, DeviceName, Hierarchies, IdMap, IdMaps, Identity, NamespaceKind, NamespaceSource,
    NetDevice, Node, Origin, RuntimeHooks, Workload,
};
pub use mounts::borrow_sysfs;

/// What is wrong with a bundle: which file, which property, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadBundle {
    /// `config.json`, or `process.json` for a process of `exec`.
    pub file: &'static str,
    /// The property as one would write it in code: `linux.resources.memory.limit`, `mounts[3].options`. Empty where the
    /// whole file is meant.
    pub property: String,
    /// What is wrong with it.
    pub why: String,
}

impl BadBundle {
    /// A complaint about a property of `config.json`.
    pub fn new(property: &str, why: impl Into<String>) -> Self {
        BadBundle {
            file: "config.json",
            property: property.to_owned(),
            why: why.into(),
        }
    }
}

impl fmt::Display for BadBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.property.as_str() {
            "" => write!(f, "{}: {}", self.file, self.why),
            property => write!(f, "{}: {property}: {}", self.file, self.why),
        }
    }
}

impl std::error::Error for BadBundle {}

/// A `config.json` that was read and checked.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What it says. Its annotations are in it, as they are.
    pub spec: Spec,
    /// What was left out for good reason, a line each.
    pub warnings: Vec<String>,
}

/// Reads a `config.json`.
pub fn parse(json: &[u8]) -> Result<Bundle, BadBundle> {
    from_value(check::read(json)?)
}

fn from_value(mut value: Value) -> Result<Bundle, BadBundle> {
    let mut warnings = check::config(&mut value)?;
    let spec: Spec = check::typed(value, "")?;
    warnings.extend(mounts::left_out(
        spec.mounts().as_deref().unwrap_or_default(),
    ));
    Ok(Bundle { spec, warnings })
}

/// Reads `linux.resources` alone, as `update --resources` takes them.
pub fn parse_resources(json: &[u8]) -> Result<LinuxResources, BadBundle> {
    check::lone_resources(check::read(json)?)
}

/// Reads a `process.json`, as `exec --process` takes it. Returns warnings with it.
pub fn parse_process(json: &[u8]) -> Result<(Process, Vec<String>), BadBundle> {
    let alone = |error: BadBundle| BadBundle {
        file: "process.json",
        property: match error.property.strip_prefix("process") {
            Some(property) => property.trim_start_matches('.').to_owned(),
            None => error.property,
        },
        why: error.why,
    };
    let read = || {
        let (value, warnings) = check::lone_process(check::read(json)?)?;
        Ok((check::typed(value, "process")?, warnings))
    };
    read().map_err(alone)
}

/// What the command that asked for a bundle's container wants of it, beside the bundle.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The bundle's directory, absolute: relative paths of the bundle start there.
    pub bundle_dir: &'a Path,
    /// Which command makes the container.
    pub origin: Origin,
    /// How the host's cgroups are laid out.
    pub layout: &'a CgroupLayout,
    /// What the runtime lacks of the machine's root.
    pub confinement: Option<Confinement>,
    /// Of the namespaces that the bundle names by their paths, those that the runtime is in itself.
    pub own: &'a BTreeSet<NamespaceKind>,
    /// In which of them the container's cgroup is made.
    pub hierarchies: Hierarchies,
    /// The systemd that makes it, if one is to.
    pub manager: Option<Manager>,
    /// The process waits for `start` (`create`).
    pub gate_start: bool,
    /// The process waits for its wires.
    pub wired: bool,
    /// Columns and rows of the terminal, where the bundle names none.
    pub console_size: Option<(u16, u16)>,
    /// Move the root instead of pivoting to it (`--no-pivot`).
    pub no_pivot: bool,
    /// Keep the caller's session keyring (`--no-new-keyring`).
    pub no_new_keyring: bool,
    /// How many descriptors after the standard three the process keeps (`--preserve-fds`).
    pub preserve_fds: u32,
    /// How many descriptors before those are sockets to listen on, of which its environment tells (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// Writes to the root go to memory.
    pub overlay: bool,
    /// The container dies with the process that started it.
    pub die_with_parent: bool,
    /// Do not become the process of the bundle but hold: for a container without a command.
    pub hold: bool,
    /// The filter that the bundle's profile has become.
    pub seccomp: Option<&'a Filter>,
}

/// Plans the container of a bundle.
///
/// The order of the steps is runc's, but where the kernel allows what waits for the parent to come later. Of note:
/// * The cgroup is entered first, while the process still has the user id that its files belong to; then nothing that the
///   container uses is accounted elsewhere.
/// * A new time namespace is made here, not by clone(2), because offsets can be written only before somebody is in it
///   (time_namespaces(7)); the process joins it after the maps' gate. The engine leaves it out of the clone, as it does the
///   cgroup namespace, and writes the offsets when the process is at that gate.
/// * Everything that can fail because of the bundle comes before the start gate: `create` reports it, as runc's does.
pub fn node(name: &ContainerName, bundle: &Bundle, request: &Request) -> Result<Node, BadBundle> {
    let spec = &bundle.spec;
    let linux = spec.linux().clone().unwrap_or_else(no_linux);
    // It may be missing until `start` is called (config.md, Process): such a container can be created, and joined.
    let nobody = process::plain(Path::new("/"), vec![PATH.to_owned()]);
    let (process, hold) = match spec.process() {
        Some(process) => (process, request.hold),
        None if request.gate_start => (&nobody, true),
        None => return Err(BadBundle::new("process", "is missing")),
    };
    let Some(root) = spec.root() else {
        return Err(BadBundle::new("root", "is missing"));
    };
    let namespaces = namespaces(&linux);
    let mounts_are_ours = namespaces.get(&NamespaceKind::Mount) == Some(&NamespaceSource::New);
    let joined = match namespaces.get(&NamespaceKind::Mount) {
        Some(NamespaceSource::Path(path)) => Some(path),
        Some(NamespaceSource::New) | None => None,
    };
    let has_root = mounts_are_ours || root.path() != Path::new("/");
    if !mounts_are_ours {
        leave_mounts_alone(spec, &linux, request)?;
    }
    let has = |kind| namespaces.contains_key(&kind);
    let is_new = |kind| namespaces.get(&kind) == Some(&NamespaceSource::New);

    let own_devices = own_devices(&linux)?;
    let cgroup = own_cgroup(name, spec, &linux, &own_devices, request)?;
    let ids = is_new(NamespaceKind::User).then(|| IdMaps {
        uids: id_maps(linux.uid_mappings()),
        gids: id_maps(linux.gid_mappings()),
    });
    let (mounts, read_only_late) = mounts::plan(
        spec.mounts().as_deref().unwrap_or_default(),
        &mounts::Around {
            bundle_dir: request.bundle_dir,
            layout: request.layout,
            cgroup: &cgroup,
            namespaces: &namespaces,
            ids: ids.as_ref(),
            label: linux.mount_label().as_deref(),
        },
    )?;
    let net_devices = net_devices(&linux, has(NamespaceKind::Network))?;
    let on_what_system = scheduling::of_container(&linux)?;
    let personality = on_what_system.iter().find_map(|step| match step {
        Step::Personality(domain) => Some(*domain),
        _ => None,
    });
    let time_offsets = time_offsets(&linux, &namespaces)?;
    let sysctls = sysctls(&linux, &namespaces, request.own)?;
    let hooks = Hooks::of(spec, process);
    let propagation = match linux.rootfs_propagation().as_deref() {
        None | Some("") => None,
        Some(word) => Some(mounts::rootfs_propagation(word)?),
    };
    if request.no_pivot && propagation.is_some_and(|p| p.kind == PropagationKind::Private) {
        return Err(BadBundle::new(
            "linux.rootfsPropagation",
            "is private, which is not safe without pivot_root",
        ));
    }

    let mut steps = vec![match &cgroup.scope {
        None => Step::EnterCgroup,
        Some(_) => Step::Gate(Gate::Cgroup),
    }];
    let oom_score = process.oom_score_adj().map(Step::OomScoreAdj);
    // A process that changes its user id no longer owns its files in /proc (proc(5), /proc/PID); with a user namespace that
    // happens soon. Without one, the container's own procfs is at hand later.
    if has(NamespaceKind::User) {
        steps.extend(oom_score.clone());
    }
    for (kind, source) in &namespaces {
        // Those two are joined before the clone, by the engine.
        let before = matches!(kind, NamespaceKind::User | NamespaceKind::Pid);
        let after = *kind == NamespaceKind::Mount;
        if let (NamespaceSource::Path(path), false) = (source, before || after) {
            steps.push(Step::Join(*kind, path.clone()));
        }
    }
    if is_new(NamespaceKind::Time) {
        steps.push(Step::Unshare(NamespaceKind::Time));
    }
    if is_new(NamespaceKind::User) || is_new(NamespaceKind::Time) {
        steps.push(Step::Gate(Gate::Maps));
    }
    if is_new(NamespaceKind::Time) {
        steps.push(Step::Join(
            NamespaceKind::Time,
            PathBuf::from("/proc/self/ns/time_for_children"),
        ));
    }
    if has(NamespaceKind::User) {
        steps.push(Step::BecomeRoot);
    }
    if is_new(NamespaceKind::Cgroup) {
        steps.push(Step::Unshare(NamespaceKind::Cgroup));
    }
    if let Some(path) = joined {
        // Last of all, since paths mean something else from here on.
        steps.push(Step::Join(NamespaceKind::Mount, path.clone()));
    }
    steps.push(Step::NewSession);

    let root_dir = request.bundle_dir.join(root.path());
    let own_dev = has_root && !mounts::dev_is_bound(&mounts);
    if mounts_are_ours {
        steps.push(Step::RootPropagation(outer_propagation(propagation)));
    }
    if has_root {
        steps.push(Step::Root(match (mounts_are_ours, request.overlay) {
            (true, true) => Root::Overlay(root_dir.clone()),
            (true, false) => Root::Directory(root_dir.clone()),
            (false, _) => Root::Apart(root_dir.clone()),
        }));
        steps.extend(mounts);
        if own_dev {
            steps.extend(devices(own_devices).into_iter().map(Step::Device));
            steps.extend(links());
        }
    }
    steps.extend(process::console(process, request.console_size));
    if !hooks.outside.prestart.is_empty() || !hooks.outside.create_runtime.is_empty() {
        steps.push(Step::Gate(Gate::Hooks));
    }
    steps.extend(hooks.create_container);
    if has_root {
        steps.push(match (mounts_are_ours, request.no_pivot) {
            (true, true) => Step::MoveRoot,
            (true, false) => Step::PivotRoot,
            (false, _) => Step::ChangeRoot,
        });
    }
    if own_dev {
        steps.push(Step::OwnNull);
    }
    if let Some(p) = propagation
        && matches!(
            p.kind,
            PropagationKind::Shared | PropagationKind::Unbindable
        )
    {
        steps.push(Step::FinalPropagation(p));
    }
    let readonly = root.readonly().unwrap_or(false);
    if readonly && !hold && process.cwd() != Path::new("/") {
        // Where it is missing it is made, and that has to be while the root can be written.
        steps.push(Step::Chdir(process.cwd().clone()));
    }
    steps.extend(names(spec, has(NamespaceKind::Uts))?);
    // Parameters of an interface (net.ipv4.conf.eth0) are there only when the interface is.
    // And a seccomp filter could forbid to wait.
    let wired_early = request.wired
        && (request.seccomp.is_some() || sysctls.iter().any(|(key, _)| key.starts_with("net")));
    if wired_early {
        steps.push(Step::Gate(Gate::Wired));
    }
    steps.extend(
        sysctls
            .into_iter()
            .map(|(key, value)| Step::Sysctl { key, value }),
    );
    // Attributes can be changed of what is in a mount namespace; elsewhere it is covered by itself (mount_setattr(2), EINVAL).
    steps.extend(read_only_late.into_iter().map(|step| match step {
        Step::ReadonlyMount(at) if !mounts_are_ours => Step::Readonly(at),
        step => step,
    }));
    if readonly {
        steps.push(Step::ReadonlyRoot);
    }
    steps.extend(paths(
        linux.readonly_paths(),
        "readonlyPaths",
        Step::Readonly,
    )?);
    steps.extend(paths(linux.masked_paths(), "maskedPaths", Step::Mask)?);
    if !has(NamespaceKind::User) {
        steps.extend(oom_score);
    }
    if !request.no_new_keyring {
        steps.extend(process::label(process, Labelled::Keys));
        steps.push(Step::SessionKeyring(keyring(name)));
    }
    steps.extend(on_what_system);
    if !hold {
        let preserve = request.listen_fds + request.preserve_fds;
        let filtered = request.seccomp.map(|filter| (filter, preserve));
        let found = request.gate_start.then(|| process::command(process));
        steps.extend(process::identity(process, Some(UMASK), filtered, found)?);
    }
    if request.wired && !wired_early {
        steps.push(Step::Gate(Gate::Wired));
    }
    if request.gate_start {
        steps.push(Step::Gate(Gate::Start));
    }
    steps.extend(hooks.start_container);
    let command = (!hold).then(|| process::listening(process, request.listen_fds));
    let closed = !hold && request.seccomp.is_some();
    steps.extend(last(
        request.listen_fds + request.preserve_fds,
        closed,
        command,
    ));
    if let Some(confinement) = request.confinement.filter(|_| !has(NamespaceKind::User)) {
        check_ids(process, confinement)?;
        mounts::confine(&mut steps, confinement);
        if !has(NamespaceKind::Network) {
            mounts::borrow_sysfs(&mut steps);
        }
    }

    Ok(Node {
        leases: Vec::new(),
        published: Vec::new(),
        own_files: None,
        aliases: Vec::new(),
        plugins: Vec::new(),
        restoring: None,
        name: name.clone(),
        identity: Identity {
            origin: request.origin,
            bundle: request.bundle_dir.to_owned(),
            rootfs: root_dir,
            annotations: spec.annotations().clone().into_iter().flatten().collect(),
            workload: Some(Workload {
                seccomp: request.seccomp.cloned(),
                personality,
                ..Workload::of(process, !request.no_new_keyring)
            }),
        },
        id_maps: ids,
        time_offsets,
        cgroup: Some(cgroup),
        control: linux
            .intel_rdt()
            .as_ref()
            .map(|asked| resctrl::group(name, asked))
            .transpose()?,
        steps,
        hooks: hooks.outside,
        netns_name: None,
        loopback: is_new(NamespaceKind::Network),
        devices: net_devices,
        outside: None,
        die_with_parent: request.die_with_parent,
        namespaces,
    })
}

/// In a mount namespace that is not the container's own nothing is mounted: everybody else in it would get to see it, and nobody would
/// take it away afterwards. With a root of its own the container has its mounts in no namespace ([`Root::Apart`]); without, the bundle may
/// not ask for any.
fn leave_mounts_alone(spec: &Spec, linux: &Linux, request: &Request) -> Result<(), BadBundle> {
    let propagation = linux.rootfs_propagation().as_deref();
    let root = spec.root().as_ref();
    let is_own = root.is_some_and(|root| root.path() != Path::new("/"));
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let mounts = spec.mounts().as_ref();
    let devices = linux.devices().as_ref();
    for (property, asked) in [
        ("mounts", mounts.is_some_and(|mounts| !mounts.is_empty())),
        (
            "root.readonly",
            root.and_then(|root| root.readonly()).unwrap_or(false),
        ),
        (
            "linux.devices",
            devices.is_some_and(|devices| !devices.is_empty()),
        ),
        ("linux.maskedPaths", some(linux.masked_paths())),
        ("linux.readonlyPaths", some(linux.readonly_paths())),
    ] {
        if asked && !is_own {
            return Err(BadBundle::new(
                property,
                "would change a mount namespace that is not the container's own, for everybody in it; with a `root.path` other than `/` it would not",
            ));
        }
    }
    if request.overlay && is_own {
        return Err(BadBundle::new(
            "linux.namespaces",
            "has no new mount namespace, which a root needs whose changes are gone with the container",
        ));
    }
    if propagation.is_some_and(|word| !word.is_empty()) {
        return Err(BadBundle::new(
            "linux.rootfsPropagation",
            "needs a mount namespace of the container's own",
        ));
    }
    if request.no_pivot && !is_own {
        return Err(BadBundle::new(
            "root.path",
            "is `/`, and no new mount namespace is asked for: there is nothing to pivot to or not (--no-pivot)",
        ));
    }
    Ok(())
}

/// Where a container's programs are looked for, where nothing else says.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The umask of a container's first process, where the bundle says none, as in runc.
const UMASK: u32 = 0o022;

/// What the caller of `exec` wants, beside the process.
#[derive(Debug, Clone, Copy)]
pub struct ExecRequest<'a> {
    /// The container that is joined.
    pub name: &'a ContainerName,
    /// Whether it has a user namespace, whose root the process becomes first.
    pub user_namespace: bool,
    /// Columns and rows of the terminal, where the process names none.
    pub console_size: Option<(u16, u16)>,
    /// Whether the container has a session keyring of its own, which the process joins; else it keeps the caller's.
    pub keyring: bool,
    /// How many descriptors after the standard three the process keeps (`--preserve-fds`).
    pub preserve_fds: u32,
    /// The container's filter.
    pub seccomp: Option<&'a Filter>,
    /// The container's execution domain.
    pub personality: Option<u32>,
}

/// Refuses ids that the runtime's user namespace does not have.
fn check_ids(process: &Process, confinement: Confinement) -> Result<(), BadBundle> {
    let user = process.user();
    let groups =
        std::iter::once(user.gid()).chain(user.additional_gids().iter().flatten().copied());
    for (property, table, id, count) in
        std::iter::once(("uid", "/etc/subuid", user.uid(), confinement.users))
            .chain(groups.map(|gid| ("gid", "/etc/subgid", gid, confinement.groups)))
    {
        if id >= count {
            return Err(BadBundle::new(
                &format!("process.user.{property}"),
                format!(
                    "is {id}, and you have ids up to {}; lines in {table} give you more",
                    count.saturating_sub(1)
                ),
            ));
        }
    }
    Ok(())
}

/// Plans a process that joins a running container: what is left to do when it is in the container's namespaces.
///
/// # Errors
/// When it asks for what cannot be.
pub fn exec_steps(process: &Process, request: &ExecRequest) -> Result<Vec<Step>, BadBundle> {
    let [before, behind] = scheduling::affinity(process)?;
    let mut steps: Vec<Step> = before.into_iter().collect();
    steps.push(Step::EnterCgroup);
    steps.extend(behind);
    if let Some(domain) = request.personality {
        steps.push(Step::Personality(domain));
    }
    if let Some(score) = process.oom_score_adj() {
        steps.push(Step::OomScoreAdj(score));
    }
    if request.user_namespace {
        steps.push(Step::BecomeRoot);
    }
    steps.push(Step::NewSession);
    steps.extend(process::console(process, request.console_size));
    if request.keyring {
        steps.extend(process::label(process, Labelled::Keys));
        steps.push(Step::SessionKeyring(keyring(request.name)));
    }
    let filtered = request.seccomp.map(|filter| (filter, request.preserve_fds));
    steps.extend(process::identity(process, None, filtered, None)?);
    let command = Some(process::command(process));
    steps.extend(last(request.preserve_fds, filtered.is_some(), command));
    Ok(steps)
}

/// A container over the host's own files.
#[derive(Debug, Clone)]
pub struct HostRequest<'a> {
    /// Where the host's cgroups are mounted.
    pub layout: &'a CgroupLayout,
    /// The namespaces that are new; all others are shared.
    pub new: &'a BTreeSet<NamespaceKind>,
    /// The container's cgroup.
    pub cgroup: Option<Cgroup>,
    /// What it becomes; without, it holds.
    pub command: Option<Command>,
    /// The caller's working directory, which the command keeps.
    pub cwd: &'a Path,
    /// Start a session of its own, as a container that nobody waits for does.
    pub new_session: bool,
    /// The process waits for its wires.
    pub wired: bool,
    /// How many descriptors after the standard three the process keeps (`--preserve-fds`).
    pub preserve_fds: u32,
    /// The container dies with the process that started it.
    pub die_with_parent: bool,
}

/// Plans a container over the host's own files: `tincan run -- CMD` without a root of its own. Only what shows the wrong
/// namespace is mounted anew; user, rights and environment are the caller's.
pub fn host_node(name: &ContainerName, request: HostRequest) -> Node {
    let is_new = |kind| request.new.contains(&kind);
    let mut steps = Vec::new();
    if request.cgroup.is_some() {
        steps.push(Step::EnterCgroup);
    }
    if is_new(NamespaceKind::Cgroup) {
        steps.push(Step::Unshare(NamespaceKind::Cgroup));
    }
    if request.new_session {
        steps.push(Step::NewSession);
    }
    if is_new(NamespaceKind::Mount) {
        steps.push(Step::RootPropagation(RSLAVE));
        steps.push(Step::Root(Root::Host));
        if is_new(NamespaceKind::Pid) {
            steps.push(kernel_mount("proc", "/proc"));
        }
        if is_new(NamespaceKind::Network) {
            let cgroups = Path::new("/sys/fs/cgroup");
            let whole = request.layout.whole();
            let mut hierarchies = whole.v1.iter().chain(&whole.v2);
            let hidden = hierarchies.any(|one| one.mount_point.starts_with(cgroups));
            if hidden {
                steps.push(Step::Keep(cgroups.to_owned()));
            }
            steps.push(kernel_mount("sysfs", "/sys"));
            if hidden {
                steps.push(Step::Mount(Mount {
                    destination: cgroups.to_owned(),
                    what: MountWhat::Bind {
                        source: cgroups.to_owned(),
                        recursive: true,
                        ids: None,
                    },
                    attrs: MountAttrs::default(),
                    propagation: Vec::new(),
                }));
            }
        }
        // A directory that is hidden now would still be looked at, and with it the other namespaces.
        if ["/proc", "/sys"]
            .iter()
            .any(|hidden| request.cwd.starts_with(hidden))
        {
            steps.push(Step::Chdir(request.cwd.to_owned()));
        }
    }
    if request.wired {
        steps.push(Step::Gate(Gate::Wired));
    }
    let env = match &request.command {
        Some(command) => command.env.clone(),
        None => vec![PATH.to_owned()],
    };
    steps.extend(last(request.preserve_fds, false, request.command));
    Node {
        leases: Vec::new(),
        published: Vec::new(),
        own_files: None,
        aliases: Vec::new(),
        plugins: Vec::new(),
        restoring: None,
        name: name.clone(),
        identity: Identity {
            origin: Origin::Command,
            bundle: request.cwd.to_owned(),
            rootfs: PathBuf::from("/"),
            annotations: BTreeMap::new(),
            workload: Some(Workload {
                process: process::plain(request.cwd, env),
                keyring: false,
                seccomp: None,
                personality: None,
            }),
        },
        namespaces: request
            .new
            .iter()
            .map(|kind| (*kind, NamespaceSource::New))
            .collect(),
        id_maps: None,
        time_offsets: Vec::new(),
        cgroup: request.cgroup,
        control: None,
        steps,
        hooks: RuntimeHooks::default(),
        netns_name: None,
        loopback: is_new(NamespaceKind::Network),
        devices: Vec::new(),
        outside: None,
        die_with_parent: request.die_with_parent,
    }
}

/// Lets a container with a root of its own have this file at a path, unless its bundle mounts something there: behind the other mounts,
/// which may hide `/etc`.
pub fn give_file(node: &mut Node, destination: &str, source: &Path) {
    let destination = Path::new(destination);
    let is_there =
        |step: &Step| matches!(step, Step::Mount(mount) if mount.destination == destination);
    let last = node
        .steps
        .iter()
        .rposition(|step| matches!(step, Step::Mount(_)));
    let (true, Some(last)) = (node.has_own_root(), last) else {
        return;
    };
    if node.steps.iter().any(is_there) {
        return;
    }
    let mount = Mount {
        destination: destination.to_owned(),
        what: MountWhat::Bind {
            source: source.to_owned(),
            recursive: false,
            ids: None,
        },
        attrs: MountAttrs {
            set: libc::MOUNT_ATTR_RDONLY
                | libc::MOUNT_ATTR_NOSUID
                | libc::MOUNT_ATTR_NODEV
                | libc::MOUNT_ATTR_NOEXEC,
            ..MountAttrs::default()
        },
        propagation: Vec::new(),
    };
    node.steps.insert(last + 1, Step::Mount(mount));
}

/// Gives a container this host name, whatever its bundle says. Without a new namespace for it the name is somebody else's, and stays: then
/// the answer is no.
pub fn give_hostname(node: &mut Node, name: &str) -> bool {
    if node.namespaces.get(&NamespaceKind::Uts) != Some(&NamespaceSource::New) {
        return false;
    }
    let step = Step::Hostname(name.to_owned());
    let is_one = |it: &&mut Step| matches!(it, Step::Hostname(_));
    if let Some(one) = node.steps.iter_mut().find(is_one) {
        *one = step;
        return true;
    }
    // Before the rights for it are given up.
    let is_late = |it: &Step| {
        matches!(
            it,
            Step::Rlimit(_)
                | Step::AppArmor(_)
                | Step::Label { .. }
                | Step::NoNewPrivileges
                | Step::User(_)
                | Step::Capabilities(_)
                | Step::Gate(Gate::Wired | Gate::Start)
        )
    };
    let at = node.steps.iter().position(is_late);
    node.steps.insert(at.unwrap_or(node.steps.len()), step);
    true
}

/// A file system of the kernel's own, with nothing to run, no nodes and no set-user-ID on it.
fn kernel_mount(fstype: &str, at: &str) -> Step {
    Step::Mount(Mount {
        destination: PathBuf::from(at),
        what: MountWhat::Filesystem {
            fstype: fstype.to_owned(),
            source: fstype.to_owned(),
            options: Vec::new(),
            copy_up: false,
        },
        attrs: MountAttrs {
            set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC,
            ..MountAttrs::default()
        },
        propagation: Vec::new(),
    })
}

/// The end of every list. Closing comes last but for the exec, so that nothing of the host's is open in the workload
/// (CVE-2024-21626); unless that was done before a seccomp filter came, which may not let it.
fn last(preserve: u32, closed: bool, command: Option<Command>) -> impl Iterator<Item = Step> {
    let close = (!closed).then_some(Step::CloseDescriptors { preserve });
    let end = command.map_or(Step::Hold, Step::Exec);
    close.into_iter().chain([end])
}

/// runc's name for it.
fn keyring(name: &ContainerName) -> String {
    format!("_ses.{name}")
}

/// A bundle without `linux` asks for nothing; the default of `oci-spec` would ask for namespaces.
fn no_linux() -> Linux {
    let mut linux = Linux::default();
    linux
        .set_resources(None)
        .set_namespaces(None)
        .set_masked_paths(None)
        .set_readonly_paths(None);
    linux
}

fn namespaces(linux: &Linux) -> BTreeMap<NamespaceKind, NamespaceSource> {
    let namespaces = linux.namespaces().iter().flatten();
    namespaces
        .map(|namespace| {
            let kind = match namespace.typ() {
                LinuxNamespaceType::User => NamespaceKind::User,
                LinuxNamespaceType::Cgroup => NamespaceKind::Cgroup,
                LinuxNamespaceType::Ipc => NamespaceKind::Ipc,
                LinuxNamespaceType::Uts => NamespaceKind::Uts,
                LinuxNamespaceType::Network => NamespaceKind::Network,
                LinuxNamespaceType::Pid => NamespaceKind::Pid,
                LinuxNamespaceType::Time => NamespaceKind::Time,
                LinuxNamespaceType::Mount => NamespaceKind::Mount,
            };
            let source = match namespace.path() {
                Some(path) if !path.as_os_str().is_empty() => NamespaceSource::Path(path.clone()),
                _ => NamespaceSource::New,
            };
            (kind, source)
        })
        .collect()
}

/// The namespaces that a bundle joins, by their paths.
pub fn joined(spec: &Spec) -> impl Iterator<Item = (NamespaceKind, PathBuf)> {
    let all = spec.linux().as_ref().map(namespaces).unwrap_or_default();
    all.into_iter().filter_map(|(kind, source)| match source {
        NamespaceSource::Path(path) => Some((kind, path)),
        NamespaceSource::New => None,
    })
}

fn id_maps(maps: &Option<Vec<LinuxIdMapping>>) -> Vec<IdMap> {
    let maps = maps.iter().flatten();
    maps.map(|map| IdMap {
        inside: map.container_id(),
        outside: map.host_id(),
        size: map.size(),
    })
    .collect()
}

/// The container's cgroup: made by the engine, or by systemd.
fn own_cgroup(
    name: &ContainerName,
    spec: &Spec,
    linux: &Linux,
    devices: &[Device],
    request: &Request,
) -> Result<Cgroup, BadBundle> {
    let asked = linux.cgroups_path().as_deref();
    let resources = linux.resources().clone().unwrap_or_default();
    let plan = |path, hierarchies| {
        cgroup::cgroup(path, &resources, devices, request.layout, hierarchies)
            .map_err(|bad| BadBundle::new(&bad.property, bad.why))
    };
    let Some(manager) = request.manager else {
        return plan(cgroup_path(name, asked)?, request.hierarchies);
    };
    let place = systemd::Place::of(name, asked, manager)?;
    // systemd decides by itself in which of its hierarchies a scope is.
    let mut cgroup = plan(place.path(manager), Hierarchies::Every)?;
    let annotations: BTreeMap<_, _> = spec.annotations().clone().into_iter().flatten().collect();
    let scope = place.scope(manager, &cgroup.settings, request.layout, &annotations)?;
    cgroup.scope = Some(scope);
    Ok(cgroup)
}

/// Where the cgroup is, below each hierarchy's mount point (config-linux.md, Cgroups Path): absolute as it says, relative
/// below `/tincan`, without a word `/tincan/NAME`.
fn cgroup_path(name: &ContainerName, asked: Option<&Path>) -> Result<PathBuf, BadBundle> {
    let bad = |why: String| Err(BadBundle::new("linux.cgroupsPath", why));
    let asked = match asked {
        Some(asked) if !asked.as_os_str().is_empty() => asked,
        _ => return Ok(cgroup::default_path(name)),
    };
    let shown = asked.display();
    if asked.to_string_lossy().split(':').count() == 3 {
        return bad(format!(
            "`{shown}` is for systemd, which --systemd-cgroup asks; without that a right one is `/tincan/{name}`"
        ));
    }
    if asked
        .components()
        .any(|part| part == std::path::Component::ParentDir)
    {
        return bad(format!("`{shown}` has `..` in it"));
    }
    let path = mounts::in_root(&Path::new(cgroup::PARENT).join(asked));
    if path == Path::new("/") {
        return bad(format!("`{shown}` is the root of all cgroups"));
    }
    Ok(path)
}

const RSLAVE: Propagation = Propagation {
    kind: PropagationKind::Slave,
    recursive: true,
};

/// How the host's mounts hang together with the new namespace's until the root is changed. With `shared` they stay in one
/// group, so that what is bound from there can be shared too; `unbindable` is for the finished root alone.
fn outer_propagation(asked: Option<Propagation>) -> Propagation {
    match asked {
        None => RSLAVE,
        Some(p) if p.kind == PropagationKind::Unbindable => RSLAVE,
        Some(p) => p,
    }
}

/// The links of the host's that go to the container, in the order of their names.
fn net_devices(linux: &Linux, has_network: bool) -> Result<Vec<NetDevice>, BadBundle> {
    let mut devices = Vec::new();
    let asked = linux.net_devices().iter().flatten();
    for (device, asked) in asked.collect::<BTreeMap<_, _>>() {
        let property = format!("linux.netDevices.{device}");
        let named = |word: &str, property: &str| {
            word.parse::<LinkName>()
                .map_err(|bad| BadBundle::new(property, bad.why))
        };
        if !has_network {
            let why = "is for a container with a network namespace, and this one has none";
            return Err(BadBundle::new(&property, why));
        }
        if device == "lo" {
            return Err(BadBundle::new(&property, "is in every namespace"));
        }
        let name = match asked.name().as_deref().filter(|name| !name.is_empty()) {
            None => DeviceName::Exactly(named(device, &property)?),
            Some(name) => {
                let property = format!("{property}.name");
                match name.strip_suffix("%d") {
                    Some(stem) => {
                        named(&format!("{stem}0"), &property)?;
                        DeviceName::Numbered(stem.to_owned())
                    }
                    None => DeviceName::Exactly(named(name, &property)?),
                }
            }
        };
        let device = named(device, &property)?;
        devices.push(NetDevice { device, name });
    }
    Ok(devices)
}

/// The offsets of a new time namespace, a line each as `/proc/PID/timens_offsets` takes them.
fn time_offsets(
    linux: &Linux,
    namespaces: &BTreeMap<NamespaceKind, NamespaceSource>,
) -> Result<Vec<String>, BadBundle> {
    let bad = |property: &str, why: &str| Err(BadBundle::new(property, why));
    let none = HashMap::<String, LinuxTimeOffset>::new();
    let offsets = linux.time_offsets().as_ref().unwrap_or(&none);
    if offsets.is_empty() {
        return Ok(Vec::new());
    }
    match namespaces.get(&NamespaceKind::Time) {
        Some(NamespaceSource::New) => {}
        Some(NamespaceSource::Path(_)) => {
            return bad(
                "linux.timeOffsets",
                "is there, but the time namespace is joined",
            );
        }
        None => {
            return bad(
                "linux.timeOffsets",
                "is there, but no `time` in linux.namespaces",
            );
        }
    }
    let mut lines = Vec::new();
    for (clock, offset) in offsets {
        let property = format!("linux.timeOffsets.{clock}");
        if clock != "monotonic" && clock != "boottime" {
            return bad(&property, "is no clock; there are monotonic and boottime");
        }
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds >= 1_000_000_000 {
            return bad(&format!("{property}.nanosecs"), "is a second or more");
        }
        lines.push(format!(
            "{clock} {} {nanoseconds}",
            offset.secs().unwrap_or(0)
        ));
    }
    lines.sort();
    Ok(lines)
}

/// The kernel parameters that belong to a namespace, and no others (as runc). Sorted, for the specification has no order.
/// Nor may the namespace be the runtime's own, by whatever path.
fn sysctls(
    linux: &Linux,
    namespaces: &BTreeMap<NamespaceKind, NamespaceSource>,
    own: &BTreeSet<NamespaceKind>,
) -> Result<BTreeMap<String, String>, BadBundle> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shm_rmid_forced",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    ];
    let mut sysctls = BTreeMap::new();
    for (key, value) in linux.sysctl().iter().flatten() {
        let bad = |why: String| Err(BadBundle::new("linux.sysctl", format!("`{key}` {why}")));
        let dotted = dotted(key);
        if dotted
            .split(['.', '/'])
            .any(|part| part.is_empty() || part == "..")
        {
            return bad("is no kernel parameter; a right one is `net.ipv4.ip_forward`".to_owned());
        }
        let of = match dotted.split_once('.') {
            Some(("net", _)) => NamespaceKind::Network,
            Some(("user", _)) => NamespaceKind::User,
            _ if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") => {
                NamespaceKind::Ipc
            }
            _ if dotted == "kernel.domainname" => NamespaceKind::Uts,
            _ if dotted == "kernel.hostname" => {
                return bad("is what `hostname` is for".to_owned());
            }
            _ => return bad("is not of a namespace: it would change the whole host".to_owned()),
        };
        if !namespaces.contains_key(&of) || own.contains(&of) {
            return bad(format!(
                "is of the {of} namespace, which the container shares"
            ));
        }
        sysctls.insert(key.clone(), value.clone());
    }
    Ok(sysctls)
}

/// A parameter's name with dots between its parts. Whichever of `.` and `/` comes first separates, the other is part of a
/// name (sysctl(8)).
fn dotted(key: &str) -> String {
    match key.find(['.', '/']).map(|at| &key[at..=at]) {
        Some("/") => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// Host and domain name; both are at most 64 bytes (`__NEW_UTS_LEN`).
fn names(spec: &Spec, own: bool) -> Result<Vec<Step>, BadBundle> {
    let mut steps = Vec::new();
    let hostname: fn(String) -> Step = Step::Hostname;
    for (property, name, step) in [
        ("hostname", spec.hostname(), hostname),
        ("domainname", spec.domainname(), Step::Domainname),
    ] {
        let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else {
            continue;
        };
        if !own {
            return Err(BadBundle::new(
                property,
                "is there, but no `uts` in linux.namespaces: it would change the host's",
            ));
        }
        if name.len() > 64 {
            return Err(BadBundle::new(
                property,
                format!("`{name}` is over 64 bytes long"),
            ));
        }
        steps.push(step(name.clone()));
    }
    Ok(steps)
}

/// config-linux.md: absolute paths in the container.
fn paths(
    paths: &Option<Vec<String>>,
    property: &str,
    step: fn(PathBuf) -> Step,
) -> Result<Vec<Step>, BadBundle> {
    let paths = paths.iter().flatten().enumerate();
    paths
        .map(|(index, path)| {
            if path.is_empty() {
                let at = format!("linux.{property}[{index}]");
                return Err(BadBundle::new(&at, "is empty"));
            }
            // They are to be absolute; one that is not is taken from the root, as with runc and crun.
            Ok(step(mounts::in_root(Path::new(path))))
        })
        .collect()
}

/// The nodes that the bundle asks for.
fn own_devices(linux: &Linux) -> Result<Vec<Device>, BadBundle> {
    let devices = linux.devices().iter().flatten().enumerate();
    devices
        .map(|(index, device)| {
            let number = |key: &str, number: i64| {
                u32::try_from(number).map_err(|_| {
                    BadBundle::new(
                        &format!("linux.devices[{index}].{key}"),
                        format!("is {number}, no device number"),
                    )
                })
            };
            let kind = match device.typ() {
                LinuxDeviceType::B => DeviceKind::Block,
                LinuxDeviceType::P => DeviceKind::Fifo,
                LinuxDeviceType::A | LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
            };
            let (major, minor) = match kind {
                DeviceKind::Fifo => (0, 0),
                DeviceKind::Char | DeviceKind::Block => (
                    number("major", device.major())?,
                    number("minor", device.minor())?,
                ),
            };
            Ok(Device {
                path: mounts::in_root(device.path()),
                kind,
                major,
                minor,
                // Some callers leave the kind of file in it, as stat(2) does.
                mode: device.file_mode().unwrap_or(0o666) & 0o7777,
                uid: device.uid().unwrap_or(0),
                gid: device.gid().unwrap_or(0),
            })
        })
        .collect()
}

/// The nodes that every container has (config-linux.md, Default Devices), but for those the bundle has its own of; then the
/// bundle's.
fn devices(own: Vec<Device>) -> Vec<Device> {
    const DEFAULT: [(&str, u32, u32); 6] = [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    ];
    let mut all: Vec<Device> = DEFAULT
        .into_iter()
        .filter(|(path, ..)| !own.iter().any(|device| device.path == Path::new(path)))
        .map(|(path, major, minor)| Device {
            path: PathBuf::from(path),
            kind: DeviceKind::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    all.extend(own);
    all
}

/// runtime-linux.md, Dev symbolic links; `/dev/core` and `/dev/ptmx` as in runc (the latter: config-linux.md, Default
/// Devices).
fn links() -> impl Iterator<Item = Step> {
    [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/core", "/proc/kcore"),
        ("/dev/ptmx", "pts/ptmx"),
    ]
    .into_iter()
    .map(|(at, target)| Step::Symlink {
        target: PathBuf::from(target),
        at: PathBuf::from(at),
    })
}

/// The hooks of a bundle, by who runs them.
struct Hooks {
    outside: RuntimeHooks,
    create_container: Vec<Step>,
    start_container: Vec<Step>,
}

impl Hooks {
    fn of(spec: &Spec, process: &Process) -> Self {
        let read = |hooks: &Option<Vec<SpecHook>>| -> Vec<Hook> {
            hooks.iter().flatten().map(hook).collect()
        };
        let Some(hooks) = spec.hooks() else {
            return Hooks {
                outside: RuntimeHooks::default(),
                create_container: Vec::new(),
                start_container: Vec::new(),
            };
        };
        let inside = |kind: HookKind, hooks: Vec<Hook>| {
            hooks
                .into_iter()
                .map(|hook| Step::Hook(kind, hook))
                .collect()
        };
        // runc's startContainer hooks without an environment have the process's, and there are hooks that rely on it.
        let start = hooks.start_container().iter().flatten().map(|asked| Hook {
            env: asked
                .env()
                .clone()
                .or_else(|| Some(process::command(process).env)),
            ..hook(asked)
        });
        Hooks {
            outside: RuntimeHooks {
                // Deprecated in the specification, but defined by it, and what Docker uses.
                prestart: read(hooks.prestart()),
                create_runtime: read(hooks.create_runtime()),
                poststart: read(hooks.poststart()),
                poststop: read(hooks.poststop()),
            },
            create_container: inside(HookKind::CreateContainer, read(hooks.create_container())),
            start_container: inside(HookKind::StartContainer, start.collect()),
        }
    }
}

fn hook(hook: &SpecHook) -> Hook {
    Hook {
        path: hook.path().clone(),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone(),
        timeout: hook
            .timeout()
            .and_then(|seconds| u64::try_from(seconds).ok()),
    }
}

#[cfg(test)]
mod tests;
