//! Performs a topology: claims the names, clones the containers, wires them, opens their gates.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::sys::signal::SigSet;
use rustix::io::Errno;

use super::binds;
use super::checkpoint::{CriuFailed, Verb};
use super::child::{self, Child};
use super::dns;
use super::error::EngineError;
use super::fault;
use super::give_way;
use super::hook::{self, OCI_VERSION, OciState};
use super::loan;
use super::log::Log;
use super::network::Holder;
use super::outside;
use super::plugin;
use super::publish::{self, PublishError};
use super::resctrl;
use super::seal::Own;
use super::seccomp;
use super::state::{InterfaceRecord, ReleaseStep, State, StateRoot, Status, Undo, WireRecord, now};
use super::undo;
use super::user::{self, Need, User};
use crate::cgroup::systemd::{self, Unit};
use crate::cgroup::{self, Group};
use crate::net::dns::WayOut;
use crate::net::interface;
use crate::net::netlink::{Netlink, Refused};
use crate::net::nft::{self, Stillness};
use crate::net::wire::{self, Site};
use crate::plan::checkpoint;
use crate::plan::facts::{CgroupLayout, Confinement, Manager};
use crate::plan::interface::{Interface, Loan};
use crate::plan::name::ContainerName;
use crate::plan::network::{Lease, Published};
use crate::plan::seccomp::Filter;
use crate::plan::step::{Gate, Step};
use crate::plan::subid::{self, IdKind};
use crate::plan::systemd::Scope;
use crate::plan::tenant::Tenant;
use crate::plan::topology::{
    Cgroup, HostStep, NamespaceKind, NamespaceSource, Node, Place, Topology, Wire,
};
use crate::sys::channel;
use crate::sys::errno_of;
use crate::sys::process::{self, Cloned, Ended, ProcessId};
use crate::sys::signal::{Interrupts, Woken};

/// The engine, over one state root.
pub struct Engine {
    /// Where it keeps what it knows.
    pub root: StateRoot,
    /// Where CRIU is, if it was said.
    criu: Option<PathBuf>,
    /// The log that the caller has asked for.
    log: Option<Log>,
    /// Who makes the cgroups.
    driver: CgroupDriver,
    /// How this host's cgroups are laid out, once somebody has asked.
    layout: OnceCell<CgroupLayout>,
    /// The namespaces of a user who is not root, once a command has asked for them.
    user: OnceCell<User>,
    /// A socket on the host, once somebody has asked for one.
    host: OnceCell<Rc<Netlink>>,
    /// What there is not for its root, once somebody has asked.
    confinement: OnceCell<Option<Confinement>>,
    /// The addresses that were taken for containers which are not on disk yet, and so in no journal.
    leases: RefCell<Vec<(Lease, Tenant)>>,
    /// Likewise the ports.
    ports: RefCell<Vec<(Vec<Published>, Tenant)>>,
    /// By what processes that answer DNS ask others, where that is not to be had later.
    ways_out: RefCell<Vec<WayOut>>,
}

/// Who makes the cgroups of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// tincan itself.
    Cgroupfs,
    /// The systemd of whoever calls.
    Systemd,
}

/// A container that is up: running, or created and waiting for `start`.
pub struct Up {
    /// Its state, as it is on disk.
    pub state: State,
    /// The process that was started: its number here.
    pub pid: i32,
    /// And a descriptor of it.
    pub pidfd: OwnedFd,
    /// The master of its terminal, when its steps open one.
    pub console: Option<OwnedFd>,
}

/// A container between its claim and its release.
struct Held<'a> {
    node: &'a Node,
    state: State,
    process: Option<HeldProcess>,
    group: Option<Group>,
    start: Option<OwnedFd>,
    /// The last gate that its process said it is at.
    waits_at: Option<Gate>,
    /// Its network is still, for as long as this is there.
    still: Option<Stillness>,
}

/// A process that performs a node's steps.
pub(super) struct HeldProcess {
    pub(super) pidfd: OwnedFd,
    pub(super) channel: OwnedFd,
    /// The master of its terminal, once it has opened one.
    pub(super) console: Option<OwnedFd>,
    pub(super) pid: i32,
    pub(super) interrupts: Interrupts,
    /// The namespace, and a socket in it, once something has asked for them.
    network: Option<(OwnedFd, Netlink)>,
    /// Its procfs, once it has lent it.
    proc: Option<OwnedFd>,
}

impl HeldProcess {
    pub(super) fn new(pid: i32, pidfd: OwnedFd, channel: OwnedFd, interrupts: Interrupts) -> Self {
        HeldProcess {
            pidfd,
            channel,
            console: None,
            pid,
            interrupts,
            network: None,
            proc: None,
        }
    }

    /// The next step that the process reports as reached; none when the channel has ended. Keeps a terminal's master and a procfs, and hands a seccomp
    /// filter's descriptor to its agent, which is told of the container in this status.
    ///
    /// # Errors
    /// The step that failed; [`EngineError::Interrupted`] when tincan is asked to go while it waits.
    pub(super) fn next_report<'n>(
        &mut self,
        node: &'n Node,
        state: &State,
        status: Status,
    ) -> Result<Option<&'n Step>, EngineError> {
        let failed = |errno| EngineError::of_deed(&node.name, "hear from its process", errno);
        if let Woken::Interrupted(signal) = self
            .interrupts
            .wait(self.channel.as_fd(), None)
            .map_err(failed)?
        {
            let container = node.name.clone();
            return Err(EngineError::Interrupted { container, signal });
        }
        let received = channel::receive(&self.channel).map_err(failed)?;
        let Some((report, fd)) = received else {
            return Ok(None);
        };
        let step = &node.steps[report.step as usize];
        if report.errno != 0 {
            let errno = Errno::from_raw_os_error(report.errno);
            return Err(EngineError::of_step(&node.name, step, errno));
        }
        match (step, fd) {
            (
                Step::Seccomp(Filter {
                    listener: Some(listener),
                    ..
                }),
                Some(fd),
            ) => {
                // At once: the process may be waiting for the agent already.
                let told = oci_state(state, status, state.process.map_or(self.pid, |it| it.pid));
                let by_systemd = state.unit().is_some();
                seccomp::tell(listener, &fd, self.pid, &told, by_systemd).map_err(|errno| {
                    let path = listener.path.display();
                    let deed = format!("hand its seccomp descriptor to the agent at {path}");
                    EngineError::of_deed(&node.name, deed, errno)
                })?;
            }
            (Step::Mount(_), fd @ Some(_)) => self.proc = fd,
            (_, fd @ Some(_)) => self.console = fd,
            _ => {}
        }
        Ok(Some(step))
    }

    /// Ends the process, whatever it is doing, and reaps it.
    pub(super) fn end(&self) {
        // Either fails only when it is dead already.
        let _ = process::signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(self.pidfd.as_fd());
    }
}

impl Engine {
    /// An engine over this state root.
    pub fn new(root: StateRoot, driver: CgroupDriver) -> Self {
        Engine {
            root,
            criu: None,
            log: None,
            driver,
            layout: OnceCell::new(),
            user: OnceCell::new(),
            host: OnceCell::new(),
            confinement: OnceCell::new(),
            leases: RefCell::new(Vec::new()),
            ports: RefCell::new(Vec::new()),
            ways_out: RefCell::new(Vec::new()),
        }
    }

    /// The same engine, with CRIU at this path.
    pub fn with_criu(self, criu: Option<PathBuf>) -> Self {
        Engine { criu, ..self }
    }

    /// The same engine, with this log.
    pub fn with_log(self, log: Option<Log>) -> Self {
        Engine { log, ..self }
    }

    /// Tells a warning: to the log, as runc does, and without one to standard error, which with `create` and `run` is the container's own.
    pub fn warn(&self, warning: &str) {
        match &self.log {
            Some(log) => log.write("warning", warning),
            None => complain!("tincan: {warning}"),
        }
    }

    /// Where CRIU is.
    ///
    /// # Errors
    /// What is not there.
    pub fn criu(&self) -> Result<PathBuf, String> {
        super::checkpoint::find(self.criu.as_deref())
    }

    /// Becomes root, for whoever is not: once, before anything else.
    ///
    /// # Errors
    /// When the user's namespaces are not to be had.
    pub fn become_root(&self, need: Need) -> Result<(), EngineError> {
        if let Some(user) = User::become_root(&self.root, need)? {
            // Nobody else fills it.
            let _ = self.user.set(user);
        }
        Ok(())
    }

    /// What tincan lacks of the machine's root.
    pub fn confinement(&self) -> Option<Confinement> {
        *self.confinement.get_or_init(user::confinement)
    }

    /// Lets go of the user's namespaces, at the end of everything.
    ///
    /// # Errors
    /// When they should go with the last container, and do not.
    pub fn leave(mut self) -> Result<(), EngineError> {
        let networks = self.root.networks();
        for (ports, tenant) in self.ports.take() {
            networks.release(&ports, &tenant)?;
        }
        for (lease, tenant) in self.leases.take() {
            networks.give_back([&lease], &tenant)?;
        }
        match self.user.take() {
            Some(user) => Ok(user.leave(&self.root)?),
            None => Ok(()),
        }
    }

    /// Takes an address of a network for a tenant that is planned: it is given back with the tenant, or at the end of
    /// everything if there never is one.
    ///
    /// # Errors
    /// When the network is gone. Whose the address is, where it is taken, is no error.
    pub fn take(&self, lease: &Lease, tenant: &Tenant) -> Result<Result<(), Holder>, EngineError> {
        let holder = own_holder(tenant)?;
        let taken = self.root.networks().take(lease, &holder)?;
        if taken.is_ok() {
            let mut leases = self.leases.borrow_mut();
            leases.push((lease.clone(), tenant.clone()));
        }
        Ok(taken)
    }

    /// Leaves addresses to a container whose journal has them.
    pub fn keep(&self, leases: &[Lease]) {
        let mut taken = self.leases.borrow_mut();
        taken.retain(|(lease, _)| !leases.contains(lease));
    }

    /// Likewise ports, to a tenant whose journal has them.
    pub fn keep_ports(&self, of: &Tenant) {
        let mut ports = self.ports.borrow_mut();
        ports.retain(|(_, tenant)| tenant != of);
    }

    /// Takes ports for a tenant that is planned, as [`Engine::take`] does addresses.
    ///
    /// # Errors
    /// When the file of ports cannot be written. Whose one is, where it is taken, is no error.
    pub fn reserve(
        &self,
        published: &[Published],
        tenant: &Tenant,
    ) -> Result<Result<(), PublishError>, EngineError> {
        let holder = own_holder(tenant)?;
        let taken = self.root.networks().reserve(published, &holder)?;
        if taken.is_ok() {
            let mut ports = self.ports.borrow_mut();
            ports.push((published.to_vec(), tenant.clone()));
        }
        Ok(taken)
    }

    /// The user's namespaces, if tincan became root by them.
    pub fn user(&self) -> Option<&User> {
        self.user.get()
    }

    /// For a process that was cloned from this one: it is not the one that uses the user's namespaces.
    pub fn forget_lock(&self) {
        if let Some(user) = self.user() {
            user.forget_lock();
        }
    }

    /// Goes to the network namespace that is the containers' host. Before any other is looked at: from the machine's own,
    /// a user's thread could not come back.
    ///
    /// # Errors
    /// As setns(2).
    pub fn join_network(&self) -> Result<(), Errno> {
        let Some(user) = self.user() else {
            return Ok(());
        };
        if !user.is_in_network() {
            for _ in 0..dns::wanted(&self.root) {
                self.open_way_out()?;
            }
        }
        user.join_network()
    }

    /// Opens sockets in the machine's network namespace for a process that is to answer DNS, unless that is where it will be anyway.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open_way_out(&self) -> Result<(), Errno> {
        if self.user().is_some_and(|user| !user.is_in_network()) {
            self.ways_out.borrow_mut().push(WayOut::open()?);
        }
        Ok(())
    }

    /// Those sockets, each time for one process.
    pub fn take_way_out(&self) -> Option<WayOut> {
        self.ways_out.borrow_mut().pop()
    }

    /// The socket on the host.
    ///
    /// # Errors
    /// When the kernel has none.
    pub fn host_netlink(&self) -> io::Result<Rc<Netlink>> {
        if let Some(opened) = self.host.get() {
            return Ok(opened.clone());
        }
        self.join_network()?;
        let opened = Rc::new(Netlink::open()?);
        Ok(self.host.get_or_init(|| opened).clone())
    }

    /// The systemd that is to make the cgroups, if one is.
    pub fn manager(&self) -> Option<Manager> {
        (self.driver == CgroupDriver::Systemd).then(systemd::manager)
    }

    /// How this host's cgroups are laid out.
    ///
    /// # Errors
    /// When `/proc/self/mountinfo` or `/proc/self/cgroup` cannot be read.
    pub fn layout(&self) -> Result<&CgroupLayout, EngineError> {
        if self.layout.get().is_none() {
            let mut layout = cgroup::layout().map_err(EngineError::Layout)?;
            if self.confinement().is_some() {
                layout = match self.manager() {
                    Some(manager) => cgroup::delegated_to(manager, layout),
                    None => cgroup::delegated(layout),
                };
            }
            // A cell that is filled by nobody else: there is one thread.
            let _ = self.layout.set(layout);
        }
        Ok(self.layout.get().expect("just filled"))
    }

    /// Brings all containers of a topology up, or none: when a step fails, everything that was done is undone.
    ///
    /// # Errors
    /// The step that failed.
    pub fn raise(&self, topology: &Topology) -> Result<Vec<Up>, EngineError> {
        let mut raising = Raising {
            engine: self,
            topology,
            held: Vec::new(),
            running: HashMap::new(),
            // Signals wait until somebody listens: whoever waits here, the supervisor, or the caller after the undoing.
            signal_mask: process::block_signals().expect("sigprocmask takes any set"),
        };
        for (index, step) in topology.host_steps().into_iter().enumerate() {
            let done = fault::at("host", index)
                .map_err(|errno| raising.failed_at(step, errno))
                .and_then(|()| raising.perform(step));
            if let Err(error) = done {
                let error = match error {
                    EngineError::Interrupted { .. } => error,
                    error => raising.reported().unwrap_or(error),
                };
                let mask = raising.signal_mask;
                let by_hook = error.is_of_hook();
                raising.undo(by_hook);
                process::set_signal_mask(&mask).expect("sigprocmask takes any set");
                return Err(error);
            }
        }
        Ok(raising.finish())
    }
}

/// A tenant by whom this process takes something.
pub(super) fn own_holder(tenant: &Tenant) -> Result<Holder, EngineError> {
    let taker = ProcessId::own().map_err(|cause| {
        let deed = "look at tincan's own process";
        EngineError::of_deed(tenant.container(), deed, errno_of(&cause))
    })?;
    let tenant = tenant.clone();
    Ok(Holder { tenant, taker })
}

struct Raising<'a> {
    engine: &'a Engine,
    topology: &'a Topology,
    held: Vec<Held<'a>>,
    running: HashMap<ContainerName, (OwnedFd, Netlink)>,
    signal_mask: SigSet,
}

impl<'a> Raising<'a> {
    fn perform(&mut self, step: HostStep) -> Result<(), EngineError> {
        match step {
            HostStep::Claim { node } => self.claim(&self.topology.nodes[node]),
            HostStep::Cgroup { node } => self.cgroup(node),
            HostStep::Scope { node } => self.scope(node),
            HostStep::Clone { node } => self.clone_process(node),
            HostStep::Map { node } => self.map(node),
            HostStep::Record { node } => {
                let held = &mut self.held[node];
                let process = held.process.as_ref().expect("recorded after the clone");
                held.state.process = Some(ProcessId::of(process.pid).map_err(|cause| {
                    EngineError::of_deed(&held.node.name, "look at its process", errno_of(&cause))
                })?);
                Ok(self.engine.root.save(&held.state)?)
            }
            HostStep::Control { node } => self.control(node),
            HostStep::Loopback { node } => {
                let name = &self.held[node].node.name;
                wire::loopback_up(self.network(node)?).map_err(link_failed(name, "raise lo"))
            }
            HostStep::Outside { node } => {
                let Held { node, process, .. } = &self.held[node];
                let container = &node.name;
                let pid = process.as_ref().expect("led outside after the clone").pid;
                let netns = open_netns(&netns_of(pid)).map_err(|errno| {
                    EngineError::of_deed(container, "open its network namespace", errno)
                })?;
                let outside = node.outside.as_ref().expect("only those have this step");
                outside::lead(&self.engine.root.directory(container), netns, outside).map_err(
                    |cause| EngineError::Outside {
                        container: container.clone(),
                        cause,
                    },
                )
            }
            HostStep::Still { node } => {
                self.network(node)?;
                let held = &mut self.held[node];
                let opened = held.process.as_ref().and_then(|it| it.network.as_ref());
                let (netns, _) = opened.expect("just opened");
                let still = nft::still(netns.as_fd()).map_err(|cause| {
                    EngineError::of_deed(
                        &held.node.name,
                        "keep its network still",
                        errno_of(&cause),
                    )
                })?;
                held.still = Some(still);
                Ok(())
            }
            HostStep::NameNetns { node } => self.name_netns(node),
            HostStep::Remove { index } => {
                let removal = &self.topology.removals[index];
                let network = self.running(&removal.container)?;
                let deed = format!("delete the link {}", removal.interface);
                wire::delete(network, &removal.interface)
                    .map_err(link_failed(&removal.container, &deed))
            }
            HostStep::Move { index } => {
                self.open_host()?;
                let host = self.engine.host.get().expect("just opened");
                give_way::make(self.engine, host, &self.topology.moves[index])
            }
            HostStep::Change { index } => {
                let change = &self.topology.changes[index];
                let at = &change.end.at;
                match at {
                    Place::Running(name) => drop(self.running(name)?),
                    _ => self.open_host()?,
                }
                wire::change(change, self.site(at)).map_err(|failed| self.wire_error(at, failed))
            }
            HostStep::Wire { wire } => self.wire(&self.topology.wires[wire]),
            HostStep::Plugins { node } => self.plugins(node),
            HostStep::Publish { node } => {
                self.open_host()?;
                let node = &self.topology.nodes[node];
                Ok(publish::lead(&Tenant::from(&node.name), &node.published)?)
            }
            HostStep::Interface { index } => self.interface(&self.topology.interfaces[index]),
            HostStep::Hooks { node } => self.hooks(node),
            HostStep::Open { node, gate } => {
                self.await_gate(node, gate)?;
                let held = &self.held[node];
                let process = held.process.as_ref().expect("gates come after the clone");
                channel::go(&process.channel).map_err(|_| EngineError::Died {
                    container: held.node.name.clone(),
                    step: format!("open the gate `{gate}`"),
                })
            }
            HostStep::AwaitStart { node } => self.await_gate(node, Gate::Start),
            HostStep::AwaitExec { node } => self.await_exec(node),
            HostStep::Restore { node } => self.restore(node),
            HostStep::Complete { node } => {
                Ok(self.engine.root.complete(&self.topology.nodes[node].name)?)
            }
        }
    }

    fn failed_at(&self, step: HostStep, errno: Errno) -> EngineError {
        let (container, what) = self.topology.describe(step);
        EngineError::of_deed(container, what, errno)
    }

    fn claim(&mut self, node: &'a Node) -> Result<(), EngineError> {
        undo::make_way(self.engine, &node.name)?;
        // First, so that they are given back last: when nothing of the container has them any more.
        let mut undo: Vec<Undo> = node.leases.iter().cloned().map(Undo::Lease).collect();
        if node.own_files.is_some() {
            undo.push(Undo::OwnFiles);
        }
        if !node.published.is_empty() {
            undo.push(Undo::Publish(node.published.clone()));
        }
        let scope = node.cgroup.as_ref().and_then(|plan| plan.scope.as_ref());
        let made_here = node.cgroup.as_ref().filter(|plan| plan.scope.is_none());
        if let Some(scope) = scope {
            undo.push(Undo::Scope(self.unit(&node.name, scope)));
        }
        if let Some(plan) = made_here {
            let location = self.location(plan)?;
            let fit = location
                .check_vacant()
                .and_then(|()| location.check_thawed());
            if let Err(cause) = fit {
                // By whoever has taken the name just now: then that is what to tell.
                undo::make_way(self.engine, &node.name)?;
                return Err(EngineError::of_cgroup(&node.name, cause));
            }
            undo.push(Undo::Cgroup(location));
        }
        let control = node.control.as_ref().map(|plan| {
            let location = resctrl::Location::planned(plan);
            location.map_err(|cause| EngineError::of_control(&node.name, cause))
        });
        let control = control.transpose()?;
        if let (Some(plan), Some(location)) = (&node.control, &control) {
            undo.extend(location.own(plan).into_iter().map(Undo::Control));
        }
        if let Some(name) = &node.netns_name {
            undo.push(Undo::NetnsName(name.clone()));
        }
        if node.outside.is_some() {
            undo.push(Undo::Outside);
        }
        let index = self.held.len();
        if index == 0 {
            // They make way for the wires of `run`, which has one node.
            undo.extend(self.topology.moves.iter().cloned().map(Undo::Move));
        }
        let interfaces = self.topology.interfaces.iter();
        let interfaces = interfaces.filter(|it| it.end.at == Place::Node(index));
        let loans: Vec<&Loan> = interfaces.clone().filter_map(|it| it.kind.loan()).collect();
        if !loans.is_empty() {
            undo.push(Undo::Pin);
            undo.extend(loans.into_iter().map(|it| Undo::Loan(Box::new(it.clone()))));
        }
        if !node.plugins.is_empty() {
            if !undo.contains(&Undo::Pin) {
                undo.push(Undo::Pin);
            }
            let netns = plugin::netns_of(self.engine, node);
            let networks = node.plugins.iter().cloned().map(Box::new);
            undo.extend(networks.map(|it| Undo::Plugins(netns.clone(), it)));
        }
        let netns = node.joined_netns();
        let lasting = netns.map(|path| self.topology.lasting_links(&Place::Node(index), path));
        undo.extend(lasting.into_iter().flatten().map(Undo::Link));
        let touches = |wire: &&Wire| wire.ends.iter().any(|end| end.at == Place::Node(index));
        let start = node
            .steps
            .iter()
            .position(|step| *step == Step::Gate(Gate::Start));
        let state = State {
            id: node.name.clone(),
            process: None,
            creator: ProcessId::own().map_err(|cause| {
                EngineError::of_deed(&node.name, "look at tincan's own process", errno_of(&cause))
            })?,
            bound: node.die_with_parent,
            origin: node.identity.origin,
            bundle: node.identity.bundle.clone(),
            rootfs: node.identity.rootfs.clone(),
            netns: netns.map(Path::to_owned),
            apart: node.is_apart(),
            created: now(),
            annotations: node.identity.annotations.clone(),
            cgroup: made_here.map(|plan| self.location(plan)).transpose()?,
            control,
            undo,
            workload: node.identity.workload.clone(),
            wires: self
                .topology
                .wires
                .iter()
                .filter(touches)
                .map(|wire| WireRecord::of(wire, self.topology, None))
                .collect(),
            interfaces: interfaces.map(|it| InterfaceRecord::of(it, None)).collect(),
            release: start.map_or_else(Vec::new, |start| release_steps(node, start)),
            binds: checkpoint::binds(node),
            poststart: node.hooks.poststart.clone(),
            poststop: node.hooks.poststop.clone(),
        };
        let first = self.held.first().map(|held| &held.node.name);
        self.engine.root.claim(&state, first)?;
        // The journal has them now.
        self.engine.keep(&node.leases);
        self.engine.keep_ports(&Tenant::from(&node.name));
        self.held.push(Held {
            node,
            state,
            process: None,
            group: None,
            start: None,
            waits_at: None,
            still: None,
        });
        if let Some(own) = &node.own_files {
            self.engine.root.networks().make_own(&node.name, own)?;
        }
        let networks = self.engine.root.networks();
        Ok(networks.announce(&node.leases, &node.name, &node.aliases)?)
    }

    fn location(&self, plan: &Cgroup) -> Result<cgroup::Location, EngineError> {
        Ok(cgroup::Location::planned(plan, self.engine.layout()?))
    }

    fn cgroup(&mut self, node: usize) -> Result<(), EngineError> {
        let held = &mut self.held[node];
        let plan = held
            .node
            .cgroup
            .as_ref()
            .expect("only nodes with a cgroup have this step");
        let group = Group::create(plan, self.engine.layout()?).map_err(|cause| {
            if cause.is_occupied() {
                // Somebody else's: undoing it would kill who is in it.
                held.state
                    .undo
                    .retain(|deed| !matches!(deed, Undo::Cgroup(_)));
            }
            EngineError::of_cgroup(&held.node.name, cause)
        })?;
        debug_assert_eq!(
            held.state.cgroup.as_ref(),
            Some(group.location()),
            "the journal names what is made"
        );
        held.group = Some(group);
        Ok(())
    }

    fn control(&mut self, index: usize) -> Result<(), EngineError> {
        let Held {
            node,
            state,
            process,
            ..
        } = &mut self.held[index];
        let plan = node.control.as_ref();
        let (plan, location) = plan
            .and_then(|plan| Some((plan, state.control.clone()?)))
            .expect("only nodes with a control group have this step");
        let process = process.as_ref().expect("controlled after the clone");
        let made = location.make(plan);
        if made.as_ref().is_err_and(resctrl::Failed::is_taken) {
            // Those of somebody else stay.
            let is_group = |deed: &Undo| matches!(deed, Undo::Control(_));
            state.undo.retain(|deed| !is_group(deed));
        }
        made.and_then(|()| location.join(process.pid))
            .map_err(|cause| EngineError::of_control(&node.name, cause))
    }

    /// The unit of a container's scope: by its description, no other container's of the same name is taken for it.
    fn unit(&self, name: &ContainerName, scope: &Scope) -> Unit {
        let root = self.engine.root.path().display();
        Unit::of(scope, format!("tincan container {name} ({root})"))
    }

    fn scope(&mut self, index: usize) -> Result<(), EngineError> {
        let layout = self.engine.layout()?;
        let node = self.held[index].node;
        let plan = node.cgroup.as_ref();
        let (plan, scope) = plan
            .and_then(|plan| Some((plan, plan.scope.as_ref()?)))
            .expect("only nodes with a scope have this step");
        let unit = self.unit(&node.name, scope);
        let held = &mut self.held[index];
        let process = held.process.as_ref().expect("a scope is around a process");
        let pid = process.pid;
        let path = unit
            .start(scope, pid, layout, &process.interrupts)
            .map_err(|cause| {
                if cause.made_nothing() {
                    // A unit of that name is somebody else's.
                    let is_scope = |deed: &Undo| matches!(deed, Undo::Scope(_));
                    held.state.undo.retain(|deed| !is_scope(deed));
                }
                EngineError::of_systemd(&node.name, cause)
            })?;
        let location = cgroup::Location::at(&path, plan, layout);
        // systemd's own part goes with the unit. Undone before that is what is made now.
        held.state.undo.push(Undo::Cgroup(location.clone()));
        held.state.cgroup = Some(location.clone());
        self.engine.root.save(&held.state)?;
        cgroup::complete(&location, plan, layout, pid)
            .map_err(|cause| EngineError::of_cgroup(&node.name, cause))
    }

    fn clone_process(&mut self, index: usize) -> Result<(), EngineError> {
        let node = self.held[index].node;
        let failed =
            |deed: &'static str| move |errno| EngineError::of_deed(&node.name, deed, errno);
        let (parent_end, child_end) = channel::pair().map_err(failed("make the channel"))?;
        let interrupts = Interrupts::hear().map_err(failed("listen for signals"))?;
        if node.has_gate(Gate::Start) {
            let socket = self.engine.root.start_socket(&node.name);
            self.held[index].start =
                Some(channel::listen(&socket).map_err(failed("make the start socket"))?);
        }
        let binds = binds::prepare(node)?;
        if node.namespaces.contains_key(&NamespaceKind::User) {
            child::allow_limits(node);
        }
        let held = &self.held[index];
        let group = held.group.as_ref();
        let cgroup = group.and_then(Group::v2_dir);
        let unborn = |Unborn { joining, errno }| match joining {
            Some(step) => EngineError::of_step(&node.name, &step, errno),
            None => failed("clone")(errno),
        };
        let cloned = match clone_into_namespaces(node, cgroup).map_err(unborn)? {
            Birth::Child => {
                self.engine.forget_lock();
                // The copies of other containers' descriptors would keep their channels from ending.
                let held = self.held.swap_remove(index);
                self.held.clear();
                drop(parent_end);
                if node.die_with_parent && process::die_with_parent().is_err() {
                    process::exit_now(1);
                }
                let Ok(own) = node.has_own_root().then(Own::look).transpose() else {
                    process::exit_now(1)
                };
                // Its hooks are in its namespaces, where its process id is what it sees itself (runtime-spec runtime.md, State).
                let pid = std::process::id().cast_signed();
                Child {
                    node,
                    channel: child_end,
                    entrances: held.group.map(Group::into_entrances),
                    start: held.start,
                    signal_mask: self.signal_mask,
                    state: oci_state(&held.state, Status::Creating, pid),
                    binds,
                    lends_proc: self.topology.lent_proc(index),
                    own,
                }
                .run()
            }
            Birth::Parent { pid, pidfd } => HeldProcess::new(pid, pidfd, parent_end, interrupts),
        };
        let held = &mut self.held[index];
        held.start = None;
        held.process = Some(cloned);
        Ok(())
    }

    fn map(&mut self, index: usize) -> Result<(), EngineError> {
        if !self.held[index].node.time_offsets.is_empty() {
            // The time namespace is made by the child, before this gate.
            self.await_gate(index, Gate::Maps)?;
        }
        let held = &self.held[index];
        let pid = held.process.as_ref().expect("mapped after the clone").pid;
        let proc = Path::new("/proc").join(pid.to_string());
        let write = |file: &str, text: &str| {
            fs::write(proc.join(file), text).map_err(|cause| {
                EngineError::of_deed(&held.node.name, format!("write {file}"), errno_of(&cause))
            })
        };
        if let Some(maps) = &held.node.id_maps {
            for (kind, maps) in [(IdKind::Uid, &maps.uids), (IdKind::Gid, &maps.gids)] {
                let maps = match self.engine.user() {
                    Some(user) => user.translate(&held.node.name, kind, maps)?,
                    None => maps.clone(),
                };
                write(kind.map_file(), &subid::lines(&maps))?;
            }
        }
        if !held.node.time_offsets.is_empty() {
            write("timens_offsets", &held.node.time_offsets.join("\n"))?;
        }
        Ok(())
    }

    /// A socket in a held container's network namespace.
    fn network(&mut self, index: usize) -> Result<&Netlink, EngineError> {
        let held = &mut self.held[index];
        let process = held.process.as_mut().expect("wired after the clone");
        if process.network.is_none() {
            let joined = self.engine.join_network();
            // The process joins a namespace that is there already in its own time.
            let path = match held.node.namespaces.get(&NamespaceKind::Network) {
                Some(NamespaceSource::Path(path)) => path.clone(),
                _ => netns_of(process.pid),
            };
            let netns = joined.and_then(|()| open_netns(&path)).map_err(|e| {
                EngineError::of_deed(&held.node.name, "open its network namespace", e)
            })?;
            let netlink = Netlink::open_in(netns.as_fd()).map_err(|e| {
                link_failed(&held.node.name, "enter its network namespace")(Refused::from(e))
            })?;
            process.network = Some((netns, netlink));
        }
        Ok(&process.network.as_ref().expect("just made").1)
    }

    /// A socket in a running container's network namespace.
    fn running(&mut self, name: &ContainerName) -> Result<&Netlink, EngineError> {
        if !self.running.contains_key(name) {
            let network = enter_running(self.engine, name)?;
            self.running.insert(name.clone(), network);
        }
        Ok(&self.running[name].1)
    }

    /// Opens the socket on the host, unless it is open.
    fn open_host(&self) -> Result<(), EngineError> {
        let opened = self.engine.host_netlink();
        opened.map(drop).map_err(|e| EngineError::Wire {
            container: "host".to_owned(),
            action: "open netlink".to_owned(),
            cause: Refused::from(e),
        })
    }

    fn name_netns(&mut self, index: usize) -> Result<(), EngineError> {
        let held = &self.held[index];
        let name = held
            .node
            .netns_name
            .as_ref()
            .expect("only named ones have this step");
        let pid = held.process.as_ref().expect("named after the clone").pid;
        undo::name_netns(name, pid).map_err(|errno| {
            EngineError::of_deed(
                &held.node.name,
                format!("name its network namespace {name}"),
                errno,
            )
        })
    }

    fn wire(&mut self, wire: &Wire) -> Result<(), EngineError> {
        for end in &wire.ends {
            match &end.at {
                Place::Host => self.open_host()?,
                Place::Node(index) => {
                    self.network(*index)?;
                }
                Place::Running(name) => {
                    self.running(name)?;
                }
            }
        }
        let ends = wire.ends.each_ref();
        let failed =
            |this: &Self, failed: wire::Failed| this.wire_error(&ends[failed.end].at, failed);
        let indices = wire::create(wire, ends.map(|end| self.site(&end.at)))
            .map_err(|why| failed(self, why))?;
        for end in ends {
            if let Place::Node(index) = end.at {
                self.await_proc(index)?;
            }
        }
        wire::furnish_both(wire, ends.map(|end| self.site(&end.at)), indices)
            .map_err(|why| failed(self, why))
    }

    /// Waits until a held container has lent its procfs, if it is to.
    fn await_proc(&mut self, index: usize) -> Result<(), EngineError> {
        if self.topology.lent_proc(index).is_none() {
            return Ok(());
        }
        let is_lent = |held: &Held| held.process.as_ref().is_some_and(|it| it.proc.is_some());
        while !is_lent(&self.held[index]) {
            if self.next_report(index)?.is_none() {
                return Err(EngineError::Died {
                    container: self.held[index].node.name.clone(),
                    step: "wait for its procfs".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn interface(&mut self, interface: &Interface) -> Result<(), EngineError> {
        self.open_host()?;
        let at = &interface.end.at;
        match at {
            Place::Node(index) => drop(self.network(*index)?),
            Place::Running(name) => drop(self.running(name)?),
            Place::Host => {}
        }
        let (host, site) = (self.site(&Place::Host), self.site(at));
        if let (Some(_), Some(netns)) = (interface.kind.loan(), site.netns) {
            let container = self.topology.container(at);
            let container = container.expect("an interface is a container's");
            loan::pin(self.engine, container, netns)?;
            let step = |step| fault::at("loan", step);
            step(0).map_err(|errno| EngineError::of_deed(container, "lend it a link", errno))?;
        }
        interface::make(interface, host.netlink, site).map_err(|failed| self.wire_error(at, failed))
    }

    /// Lets plugins attach a container to their networks, and writes down what they have answered.
    fn plugins(&mut self, index: usize) -> Result<(), EngineError> {
        let node = self.held[index].node;
        let step = |step| {
            fault::at("plugins", step)
                .map_err(|errno| EngineError::of_deed(&node.name, "attach it by plugins", errno))
        };
        step(0)?;
        self.network(index)?;
        let held = &self.held[index];
        let opened = held.process.as_ref().and_then(|it| it.network.as_ref());
        let (netns, _) = opened.expect("just opened");
        if node.namespaces.get(&NamespaceKind::Network) == Some(&NamespaceSource::New) {
            loan::pin(self.engine, &node.name, netns.as_fd())?;
        }
        let path = plugin::netns_of(self.engine, node);
        for (at, network) in node.plugins.iter().enumerate() {
            step(2 * at + 1)?;
            let result = plugin::add(&node.name, network, &path)?;
            step(2 * at + 2)?;
            let state = &mut self.held[index].state;
            let networks = state.undo.iter_mut().filter_map(|deed| match deed {
                Undo::Plugins(_, network) => Some(network),
                _ => None,
            });
            if let Some(recorded) = networks.into_iter().nth(at) {
                recorded.result = Some(result);
            }
            self.engine.root.save(&self.held[index].state)?;
        }
        Ok(())
    }

    fn wire_error(&self, at: &Place, failed: wire::Failed) -> EngineError {
        let container = self.topology.container(at);
        EngineError::Wire {
            container: container.map_or("host".to_owned(), ToString::to_string),
            action: failed.action,
            cause: failed.cause,
        }
    }

    /// Where an end belongs, once its socket is open.
    fn site(&self, place: &Place) -> Site<'_> {
        let process = |index: usize| self.held[index].process.as_ref();
        let opened = match place {
            Place::Host => {
                return Site {
                    netlink: self.engine.host.get().expect("opened before"),
                    netns: None,
                    proc: None,
                };
            }
            Place::Node(index) => process(*index).and_then(|it| it.network.as_ref()),
            Place::Running(name) => self.running.get(name),
        };
        let (netns, netlink) = opened.expect("opened before");
        let lent = match place {
            Place::Node(index) => process(*index).and_then(|it| it.proc.as_ref()),
            _ => None,
        };
        Site {
            netlink,
            netns: Some(netns.as_fd()),
            proc: lent.map(AsFd::as_fd),
        }
    }

    fn hooks(&mut self, index: usize) -> Result<(), EngineError> {
        // The hooks want to see the container's mounts: so the child is at the gate before they run.
        self.await_gate(index, Gate::Hooks)?;
        let held = &self.held[index];
        let pid = held
            .process
            .as_ref()
            .expect("hooks come after the clone")
            .pid;
        // `creating` is step 2 of the lifecycle, and these are its steps 3 and 4 (runtime.md, State and Lifecycle).
        let state = oci_state(&held.state, Status::Created, pid);
        let hooks = &held.node.hooks;
        let all = hooks.prestart.iter().map(|hook| ("prestart", hook));
        for (kind, hook) in all.chain(
            hooks
                .create_runtime
                .iter()
                .map(|hook| ("createRuntime", hook)),
        ) {
            hook::run(kind, hook, &state).map_err(|hook| EngineError::Hook {
                container: held.node.name.clone(),
                hook,
            })?;
        }
        Ok(())
    }

    /// Waits until the child is at a gate.
    fn await_gate(&mut self, index: usize, gate: Gate) -> Result<(), EngineError> {
        if self.held[index].waits_at == Some(gate) {
            return Ok(());
        }
        loop {
            match self.next_report(index)? {
                Some(Step::Gate(reached)) if *reached == gate => return Ok(()),
                Some(_) => {}
                None => {
                    return Err(EngineError::Died {
                        container: self.held[index].node.name.clone(),
                        step: format!("wait for the gate `{gate}`"),
                    });
                }
            }
        }
    }

    /// Waits for the end of the channel, which exec closes.
    fn await_exec(&mut self, index: usize) -> Result<(), EngineError> {
        while self.next_report(index)?.is_some() {}
        Ok(())
    }

    /// Waits until CRIU has made the container's processes and is gone; from then on their first one is the container's.
    fn restore(&mut self, index: usize) -> Result<(), EngineError> {
        let Held {
            node,
            state,
            process,
            still,
            ..
        } = &mut self.held[index];
        let container = &node.name;
        let restoring = node.restoring.as_ref().expect("only those have this step");
        let process = process.as_mut().expect("CRIU was cloned");
        let failed = |deed| move |errno| EngineError::of_deed(container, deed, errno);
        let woken = process.interrupts.wait(process.pidfd.as_fd(), None);
        if let Woken::Interrupted(signal) = woken.map_err(failed("wait for CRIU"))? {
            let container = container.clone();
            return Err(EngineError::Interrupted { container, signal });
        }
        let ended = process::wait(process.pidfd.as_fd()).map_err(failed("wait for CRIU"))?;
        if ended != Ended::Code(0) {
            return Err(EngineError::Criu {
                container: container.clone(),
                cause: CriuFailed::of(Verb::Restore, ended, restoring.log.clone(), ""),
            });
        }
        let written = fs::read_to_string(&restoring.pid_file).map_err(|e| errno_of(&e));
        let written = written.map_err(failed("read which process CRIU has made"))?;
        let first = written.trim().parse().map_err(|_| Errno::INVAL);
        let first: i32 = first.map_err(failed("read which process CRIU has made"))?;
        // It may have ended already, and is there until somebody waits for it: it is tincan's child as CRIU was.
        let look = "look at the process that CRIU has made";
        let id = ProcessId::of(first).map_err(|e| failed(look)(errno_of(&e)))?;
        process.pidfd = process::open(first).map_err(failed(look))?;
        process.pid = first;
        drop(still.take());
        state.process = Some(id);
        Ok(self.engine.root.save(state)?)
    }

    /// The next step that the child reports as reached; none when the channel has ended.
    fn next_report(&mut self, index: usize) -> Result<Option<&'a Step>, EngineError> {
        let held = &mut self.held[index];
        let process = held.process.as_mut().expect("reports come after the clone");
        let step = process.next_report(held.node, &held.state, Status::Creating)?;
        if let Some(Step::Gate(gate)) = step {
            held.waits_at = Some(*gate);
        }
        Ok(step)
    }

    /// What a child has said went wrong with it: when the engine stumbles over a child that is dead, that is the cause.
    fn reported(&mut self) -> Option<EngineError> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        for held in &mut self.held {
            let Some(process) = &mut held.process else {
                continue;
            };
            loop {
                let now = Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                };
                let said = poll(
                    &mut [PollFd::new(&process.channel, PollFlags::IN)],
                    Some(&now),
                );
                if !matches!(said, Ok(1..)) {
                    break;
                }
                match process.next_report(held.node, &held.state, Status::Creating) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => return Some(error),
                }
            }
        }
        None
    }

    /// Ends what was started and undoes what was journalled. The error that led here is the one to tell; what cannot be
    /// undone now stays in the journal, for `gc`. After a hook that failed the poststop hooks run, too (runtime-spec runtime.md,
    /// Lifecycle 3 to 5).
    fn undo(self, by_hook: bool) {
        for held in self.held.into_iter().rev() {
            if let Some(process) = held.process {
                process.end();
            }
            let _ = undo::undo_half_made(self.engine, &held.state);
            if by_hook {
                undo::poststop(self.engine, &held.state);
            }
        }
    }

    fn finish(self) -> Vec<Up> {
        self.held
            .into_iter()
            .map(|held| {
                let process = held.process.expect("every node is cloned");
                Up {
                    state: held.state,
                    pid: process.pid,
                    pidfd: process.pidfd,
                    console: process.console,
                }
            })
            .collect()
    }
}

/// Which side of the birth this is.
pub(super) enum Birth {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

/// Clones a node's first process. The new namespaces come with the clone, but for the cgroup namespace, whose root is the
/// cgroup of the process at the time, and the time namespace, whose clocks can be set only while nobody is in it
/// (time_namespaces(7)): the child makes those two when it is time.
///
/// Joining a pid namespace moves only later children, and what a process may join or make depends on the user namespace that
/// it is in; so where one of those two is joined, a process in between joins them and clones the child for tincan
/// (CLONE_PARENT).
fn clone_into_namespaces(
    node: &Node,
    cgroup: Option<std::os::fd::BorrowedFd<'_>>,
) -> Result<Birth, Unborn> {
    let flags = node
        .namespaces
        .iter()
        .filter(|(kind, source)| {
            !matches!(kind, NamespaceKind::Cgroup | NamespaceKind::Time)
                && **source == NamespaceSource::New
        })
        .fold(0, |flags, (kind, _)| flags | kind.clone_flag());
    let mut joins = Vec::new();
    for kind in [NamespaceKind::User, NamespaceKind::Pid] {
        if let Some(NamespaceSource::Path(path)) = node.namespaces.get(&kind) {
            let step = Step::Join(kind, path.clone());
            match fs::File::open(path) {
                Ok(file) => joins.push((step, file, kind.clone_flag())),
                Err(cause) => return Err(Unborn::in_step(step, errno_of(&cause))),
            }
        }
    }
    let descriptors: Vec<_> = joins
        .iter()
        .map(|(_, file, flag)| (file.as_fd(), *flag))
        .collect();
    let born = clone_joined(&descriptors, flags, cgroup);
    born.map_err(|failed| match failed {
        CloneFailed::Join(index, errno) => Unborn::in_step(joins.swap_remove(index).0, errno),
        CloneFailed::Clone(errno) => Unborn {
            joining: None,
            errno,
        },
    })
}

/// Why a container's first process was not born.
struct Unborn {
    /// The step that failed, if it was to join a namespace that the process is to be born in.
    joining: Option<Box<Step>>,
    errno: Errno,
}

impl Unborn {
    fn in_step(step: Step, errno: Errno) -> Self {
        let joining = Some(Box::new(step));
        Unborn { joining, errno }
    }
}

/// Why there is no child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloneFailed {
    /// The namespace of this place in the list could not be joined.
    Join(usize, Errno),
    /// What else fails.
    Clone(Errno),
}

impl CloneFailed {
    /// The cause alone.
    pub(super) fn errno(self) -> Errno {
        match self {
            CloneFailed::Join(_, errno) | CloneFailed::Clone(errno) => errno,
        }
    }
}

impl From<Errno> for CloneFailed {
    fn from(errno: Errno) -> Self {
        CloneFailed::Clone(errno)
    }
}

/// Clones a child into the namespaces behind these descriptors, and into new ones.
pub(super) fn clone_joined(
    joins: &[(std::os::fd::BorrowedFd<'_>, i32)],
    flags: i32,
    cgroup: Option<std::os::fd::BorrowedFd<'_>>,
) -> Result<Birth, CloneFailed> {
    if joins.is_empty() {
        return Ok(match process::clone(flags, cgroup)? {
            Cloned::Parent { pid, pidfd } => Birth::Parent { pid, pidfd },
            Cloned::Child => Birth::Child,
        });
    }
    let (ours, theirs) = channel::pair()?;
    match process::clone(0, None)? {
        Cloned::Child => {
            drop(ours);
            // Which step it was: a join, by its place, or the clone behind them.
            let mut step = 0;
            let born = joins
                .iter()
                .try_for_each(|(fd, kind)| {
                    process::join_all(*fd, *kind)?;
                    step += 1;
                    Ok(())
                })
                .and_then(|()| process::clone(flags | libc::CLONE_PARENT, cgroup));
            match born {
                Ok(Cloned::Child) => return Ok(Birth::Child),
                // When the report does not arrive, tincan is gone, and the child finds its channel ended.
                Ok(Cloned::Parent { pid: _, pidfd }) => {
                    let report = channel::Report { step, errno: 0 };
                    let _ = channel::report(&theirs, report, Some(pidfd.as_fd()));
                }
                Err(errno) => {
                    let errno = errno.raw_os_error();
                    let _ = channel::report(&theirs, channel::Report { step, errno }, None);
                }
            }
            process::exit_now(0)
        }
        Cloned::Parent { pidfd: between, .. } => {
            drop(theirs);
            let heard = channel::receive(&ours);
            process::wait(between.as_fd())?;
            match heard? {
                Some((_, Some(pidfd))) => Ok(Birth::Parent {
                    pid: process::pid_of(pidfd.as_fd())?,
                    pidfd,
                }),
                Some((report, None)) => {
                    let errno = Errno::from_raw_os_error(report.errno);
                    let index = report.step as usize;
                    Err(if index < joins.len() {
                        CloneFailed::Join(index, errno)
                    } else {
                        CloneFailed::Clone(errno)
                    })
                }
                None => Err(Errno::CHILD.into()),
            }
        }
    }
}

/// What a node does after the start gate, for the process that will hear of it: `start`.
fn release_steps(node: &Node, start: usize) -> Vec<ReleaseStep> {
    let after = node.steps.iter().enumerate().skip(start + 1);
    after
        .map(|(index, step)| ReleaseStep {
            index: u32::try_from(index).expect("a plan has few steps"),
            what: step.to_string(),
            program: match step {
                Step::Exec(command) => command.args.first().cloned(),
                _ => None,
            },
            hook: match step {
                Step::Hook(_, hook) => Some(hook.path.clone()),
                _ => None,
            },
        })
        .collect()
}

/// The state of a container as hooks and `state` get it.
pub fn oci_state(state: &State, status: Status, pid: i32) -> OciState {
    OciState {
        oci_version: OCI_VERSION,
        id: state.id.clone(),
        status,
        pid,
        bundle: state.bundle.clone(),
        annotations: state.annotations.clone(),
    }
}

/// A descriptor of a process's network namespace, and a socket in it, for a container that runs.
///
/// # Errors
/// [`EngineError::NotRunning`] when it does not.
pub fn enter_running(
    engine: &Engine,
    name: &ContainerName,
) -> Result<(OwnedFd, Netlink), EngineError> {
    let (state, pidfd) = engine.root.open(name)?;
    let (Some(process), Some(_pidfd)) = (state.process, pidfd) else {
        return Err(EngineError::NotRunning(name.clone()));
    };
    let netns = engine
        .join_network()
        .and_then(|()| open_netns(&netns_of(process.pid)))
        .map_err(|errno| match errno {
            // A process that ends leaves its namespaces before its end is told (do_exit, kernel/exit.c).
            Errno::NOENT => EngineError::NotRunning(name.clone()),
            errno => EngineError::of_deed(name, "open its network namespace", errno),
        })?;
    // Opened by number: only if the process is still the same, so is the namespace.
    if !process.is_alive() {
        return Err(EngineError::NotRunning(name.clone()));
    }
    let netlink = Netlink::open_in(netns.as_fd())
        .map_err(|e| link_failed(name, "enter its network namespace")(Refused::from(e)))?;
    Ok((netns, netlink))
}

fn netns_of(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

fn open_netns(path: &Path) -> Result<OwnedFd, Errno> {
    let opened = fs::File::open(path).map(OwnedFd::from);
    opened.map_err(|e| errno_of(&e))
}

fn link_failed<'n>(
    container: &'n ContainerName,
    action: &'n str,
) -> impl FnOnce(Refused) -> EngineError + use<'n> {
    move |cause| EngineError::Wire {
        container: container.to_string(),
        action: action.to_owned(),
        cause,
    }
}
