//! Starting what is held, and starting more beside it: `start` and `exec`.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::child::{self, Child};
use super::error::EngineError;
use super::hold::{Birth, CloneFailed, Engine, HeldProcess, Up, clone_joined, oci_state};
use super::hook::{self, HookFailed, Why};
use super::state::{State, Status, remove_file};
use super::undo;
use crate::cgroup::Entrances;
use crate::cgroup::systemd::Unit;
use crate::plan::step::HookKind;
use crate::plan::topology::{NamespaceKind, Node};
use crate::sys::channel::{self, Report};
use crate::sys::errno_of;
use crate::sys::path;
use crate::sys::process::{self, ProcessId};
use crate::sys::signal::Interrupts;

impl Engine {
    /// Opens the start gate of a created container and waits until its workload runs; then runs its poststart hooks.
    ///
    /// # Errors
    /// [`EngineError::WrongStatus`] when it is not created; the step that failed on the way to the workload.
    pub fn start(&self, state: &State) -> Result<(), EngineError> {
        let wrong = || EngineError::WrongStatus {
            container: state.id.clone(),
            verb: "start",
            status: self.root.status(state),
        };
        let has_program = state.release.iter().any(|step| step.program.is_some());
        if !has_program && self.root.status(state) == Status::Created {
            return Err(EngineError::NoProcess(state.id.clone()));
        }
        let failed = |errno| EngineError::of_deed(&state.id, "start", errno);
        let socket = self.root.start_socket(&state.id);
        let connection = match channel::connect(&socket) {
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Err(wrong()),
            other => other.map_err(failed)?,
        };
        let first = state.process.and_then(ProcessId::open);
        channel::go(&connection).map_err(|_| wrong())?;
        // The first report says that this `start`, and no other, has opened the gate.
        match channel::receive(&connection).map_err(failed)? {
            Some((report, _)) if report.errno == 0 => {}
            _ => return Err(wrong()),
        }
        remove_file(&socket).map_err(failed)?;
        if let Some((report, _)) = channel::receive(&connection).map_err(failed)? {
            let errno = Errno::from_raw_os_error(report.errno);
            let step = state.release.iter().find(|step| step.index == report.step);
            if let Some(path) = step.and_then(|step| step.hook.clone()) {
                // The container is stopped, and undone with its poststop hooks (runtime-spec runtime.md, Lifecycle 7).
                undo::delete(self, state, true)?;
                return Err(EngineError::Hook {
                    container: state.id.clone(),
                    hook: HookFailed {
                        kind: HookKind::StartContainer.to_string(),
                        path,
                        why: Why::of_code(errno),
                    },
                });
            }
            // Whoever hears of it and asks for what is left finds a container that has ended.
            if let Some(first) = first {
                process::wait_dead(first.as_fd(), undo::END_LIMIT).map_err(failed)?;
            }
            return Err(match step {
                Some(step) => match &step.program {
                    Some(program) => EngineError::Exec {
                        container: state.id.clone(),
                        program: program.clone(),
                        errno,
                    },
                    None => EngineError::of_deed(&state.id, step.what.clone(), errno),
                },
                None => failed(errno),
            });
        }
        self.poststart(state)
    }

    /// Runs the hooks that come after the start of the workload. If one fails, the container is stopped and undone
    /// (runtime-spec runtime.md, Lifecycle 9).
    ///
    /// # Errors
    /// The first hook that fails.
    pub fn poststart(&self, state: &State) -> Result<(), EngineError> {
        let pid = state.process.map_or(0, |process| process.pid);
        let told = oci_state(state, Status::Running, pid);
        for hook in &state.poststart {
            if let Err(hook) = hook::run("poststart", hook, &told) {
                undo::delete(self, state, true)?;
                return Err(EngineError::Hook {
                    container: state.id.clone(),
                    hook,
                });
            }
        }
        Ok(())
    }

    /// Starts one more process in a running container: it joins every namespace that the container does not share with us,
    /// then performs the node's steps. `entrances` are those of the cgroup that it enters; where that is closed to us, `unit` is
    /// what systemd lets it into.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`]; the step that failed.
    pub fn enter(
        &self,
        state: &State,
        node: &Node,
        entrances: Option<Entrances>,
        unit: Option<&Unit>,
    ) -> Result<Up, EngineError> {
        let failed =
            |deed: &'static str| move |errno| EngineError::of_deed(&node.name, deed, errno);
        let not_running = || EngineError::NotRunning(state.id.clone());
        let first = state.process.ok_or_else(not_running)?;
        let target = first.open().ok_or_else(not_running)?;
        let flags = foreign_namespaces(first.pid).map_err(failed("look at its namespaces"))?;
        let signal_mask = process::block_signals().expect("sigprocmask takes any set");
        if flags & NamespaceKind::User.clone_flag() != 0 {
            child::allow_limits(node);
        }
        let born = channel::pair().and_then(|(ours, theirs)| {
            let interrupts = Interrupts::hear()?;
            let v2 = entrances.as_ref().and_then(Entrances::v2_dir);
            // Not yet the cgroup namespace: nobody may go from a cgroup outside of his namespace into one inside of it, where v2
            // is mounted with `nsdelegate`, as systemd does (cgroup-v2.rst, Mounting).
            let kind = NamespaceKind::Cgroup;
            let last = if flags & kind.clone_flag() == 0 {
                None
            } else {
                let at = format!("/proc/{}/ns/{}", first.pid, kind.proc_name());
                Some(fs::File::open(at).map_err(|e| errno_of(&e))?)
            };
            // Before the join: the container's own procfs does not show its first process by this number.
            let root = match state.apart {
                true => {
                    let path = format!("/proc/{}/root", first.pid);
                    Some(path::open(
                        Path::new(&path),
                        OFlags::PATH | OFlags::DIRECTORY,
                    )?)
                }
                false => None,
            };
            let now = flags & !kind.clone_flag();
            let joins = [(target.as_fd(), now)];
            let joins = if now == 0 { &[] } else { &joins[..] };
            let mut closed = None;
            let birth = match clone_joined(joins, 0, v2) {
                Err(failed) if failed.errno() == Errno::ACCESS && unit.is_some() => {
                    closed = unit;
                    clone_joined(joins, 0, None)
                }
                other => other,
            };
            let waits = closed.is_some() || state.control.is_some();
            match birth.map_err(CloneFailed::errno)? {
                Birth::Parent { pid, pidfd } => {
                    Ok((HeldProcess::new(pid, pidfd, ours, interrupts), closed))
                }
                Birth::Child => {
                    // It may have a low limit of open files soon.
                    drop((ours, interrupts, target));
                    self.forget_lock();
                    // The container's processes see it from here on; nobody outside looks into it.
                    if process::hide().is_err() {
                        process::exit_now(1);
                    }
                    if waits && !matches!(channel::await_go(&theirs), Ok(true)) {
                        process::exit_now(1);
                    }
                    let joined = last.map_or(Ok(()), |ns| process::join(&ns, kind.clone_flag()));
                    if let Err(errno) = joined.and_then(|()| change_root(root)) {
                        let errno = errno.raw_os_error();
                        // When it does not arrive, there is nobody left to tell.
                        let _ = channel::report(&theirs, Report { step: 0, errno }, None);
                        process::exit_now(1);
                    }
                    Child {
                        node,
                        own: None,
                        lends_proc: None,
                        binds: VecDeque::new(),
                        channel: theirs,
                        entrances,
                        start: None,
                        signal_mask,
                        state: oci_state(state, Status::Running, first.pid),
                    }
                    .run()
                }
            }
        });
        let up = born
            .map_err(failed("join its namespaces"))
            .and_then(|(mut process, closed)| {
                let mut entered = match closed {
                    Some(unit) => unit
                        .attach(process.pid, &process.interrupts)
                        .map_err(|cause| EngineError::of_systemd(&node.name, cause)),
                    None => Ok(()),
                };
                if let Some(control) = &state.control {
                    let join = |()| {
                        let joined = control.join(process.pid);
                        joined.map_err(|cause| EngineError::of_control(&node.name, cause))
                    };
                    entered = entered.and_then(join);
                }
                if closed.is_some() || state.control.is_some() {
                    entered = entered.and_then(|()| {
                        let gone = failed("let its process go on");
                        channel::go(&process.channel).map_err(gone)
                    });
                }
                loop {
                    let next = |()| process.next_report(node, state, Status::Running);
                    match entered.and_then(next) {
                        Ok(Some(_)) => entered = Ok(()),
                        Ok(None) => return Ok(process),
                        Err(error) => {
                            process.end();
                            return Err(error);
                        }
                    }
                }
            });
        match up {
            Ok(process) => Ok(Up {
                state: state.clone(),
                pid: process.pid,
                pidfd: process.pidfd,
                console: process.console,
            }),
            Err(error) => {
                process::set_signal_mask(&signal_mask).expect("sigprocmask takes any set");
                Err(error)
            }
        }
    }
}

/// Changes to a root that no namespace brings along.
fn change_root(root: Option<OwnedFd>) -> Result<(), Errno> {
    let Some(root) = root else {
        return Ok(());
    };
    path::change_directory(root.as_fd())?;
    path::change_root_to_cwd()?;
    path::change_directory_to_root()
}

/// The kinds of namespace, as CLONE_NEW* flags, in which a process is elsewhere than we are. Joining one's own user namespace
/// is refused (setns(2)), so only what differs is joined.
fn foreign_namespaces(pid: i32) -> Result<i32, Errno> {
    let identity = |whose: &str, kind: NamespaceKind| {
        fs::read_link(format!("/proc/{whose}/ns/{}", kind.proc_name())).map_err(|e| errno_of(&e))
    };
    let theirs = pid.to_string();
    let mut flags = 0;
    for kind in NamespaceKind::ALL {
        match identity(&theirs, kind) {
            Ok(link) if link != identity("self", kind)? => flags |= kind.clone_flag(),
            // A kernel without this kind of namespace.
            Err(Errno::NOENT) | Ok(_) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(flags)
}
