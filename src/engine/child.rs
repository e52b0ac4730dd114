//! The container's first process between clone and exec: it performs its node's list of steps, and says over the channel
//! which one failed. It has one thread, prints nothing and never returns.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use caps::CapSet;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::io::Errno;

use super::fault;
use super::hook::{self, OciState};
use super::rootfs::Rootfs;
use super::seal::Own;
use super::state::Status;
use crate::cgroup::Entrances;
use crate::plan::step::{Capabilities, Command, Gate, Labelled, Step, User};
use crate::plan::topology::Node;
use crate::sys::channel::{self, Report};
use crate::sys::{credentials, descriptor, errno_of, process, schedule, seccomp};

/// Before a process is made that will be in another user namespace: has it inherit the hard limits that it is to have. There, nobody may raise
/// one, not even for the root that made it (getrlimit(2), which asks for CAP_SYS_RESOURCE in the machine's own user namespace).
pub fn allow_limits(node: &Node) {
    for step in &node.steps {
        if let Step::Rlimit(limit) = step {
            credentials::raise_hard_limit(limit.resource, limit.hard);
        }
    }
}

/// What the child takes with it into its life.
pub struct Child<'a> {
    /// Its node.
    pub node: &'a Node,
    /// Its end of the line to the engine.
    pub channel: OwnedFd,
    /// The ways into its cgroup, until it is there.
    pub entrances: Option<Entrances>,
    /// The socket on which it waits for `start`, when its list has that gate.
    pub start: Option<OwnedFd>,
    /// Which signals were blocked in the process that asked for the container: the workload gets that back.
    pub signal_mask: SigSet,
    /// What its hooks are told.
    pub state: OciState,
    /// What the engine made of its binds, in the order of its steps.
    pub binds: VecDeque<Option<OwnedFd>>,
    /// The step after which it hands the engine its procfs.
    pub lends_proc: Option<usize>,
    /// tincan's own binary, which it must not execute instead of the workload.
    pub own: Option<Own>,
}

/// Why the child stopped before its last step.
enum Stop {
    /// A step failed.
    Failed(Errno),
    /// The engine is gone: nobody will ever open the gate.
    Alone,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Stop::Failed(errno)
    }
}

impl From<nix::Error> for Stop {
    fn from(errno: nix::Error) -> Self {
        Stop::Failed(Errno::from_raw_os_error(errno as i32))
    }
}

impl Child<'_> {
    /// Performs the list and becomes the workload, or ends.
    pub fn run(mut self) -> ! {
        let mut rootfs = Rootfs::new().with_binds(std::mem::take(&mut self.binds));
        // A directory that root could not change to, as on a network file system that trusts no root: the user may.
        let mut closed: Option<(usize, &Path)> = None;
        for (mut index, step) in self.node.steps.iter().enumerate() {
            let mut done = fault::at(self.node.name.as_str(), index)
                .map_err(Stop::from)
                .and_then(|()| self.perform(index, step, &mut rootfs));
            match (step, &done) {
                (Step::Chdir(dir), Err(Stop::Failed(Errno::ACCESS | Errno::PERM)))
                    if self.becomes_user_after(index) =>
                {
                    closed = Some((index, dir));
                    done = Ok(());
                }
                (Step::User(_), Ok(())) => {
                    if let Some((at, dir)) = closed.take() {
                        index = at;
                        done = rootfs.change_directory(dir).map_err(Stop::from);
                    }
                }
                _ => {}
            }
            match done {
                Ok(()) => {}
                Err(Stop::Alone) => break,
                Err(Stop::Failed(errno)) => {
                    // When the report does not arrive, the engine is gone, and there is nobody left to tell.
                    let _ = self.report(index, errno.raw_os_error(), None);
                    break;
                }
            }
        }
        process::exit_now(1)
    }

    fn becomes_user_after(&self, index: usize) -> bool {
        let later = &self.node.steps[index + 1..];
        later.iter().any(|step| matches!(step, Step::User(_)))
    }

    fn report(&self, step: usize, errno: i32, fd: Option<BorrowedFd>) -> Result<(), Errno> {
        let step = u32::try_from(step).expect("a plan has few steps");
        channel::report(&self.channel, Report { step, errno }, fd)
    }

    fn perform(&mut self, index: usize, step: &Step, rootfs: &mut Rootfs) -> Result<(), Stop> {
        match step {
            Step::Gate(Gate::Start) => self.await_start(index)?,
            Step::Gate(_) => {
                self.report(index, 0, None).map_err(|_| Stop::Alone)?;
                if !channel::await_go(&self.channel)? {
                    return Err(Stop::Alone);
                }
            }
            Step::Join(kind, path) => {
                let file = std::fs::File::open(path).map_err(|e| errno_of(&e))?;
                process::join(&file, kind.clone_flag())?;
            }
            Step::Unshare(kind) => process::unshare(kind.clone_flag())?,
            Step::BecomeRoot => {
                credentials::set_gid(0)?;
                credentials::set_uid(0)?;
            }
            Step::EnterCgroup => {
                // They close behind it: with v1 there are many, and it may have a low limit of open files soon.
                if let Some(entrances) = self.entrances.take() {
                    entrances.enter()?;
                }
            }
            Step::NewSession => drop(nix::unistd::setsid()?),
            Step::DetachStreams => detach_streams()?,
            Step::Console { size } => {
                let master = rootfs.console(*size)?;
                self.report(index, 0, Some(master.as_fd()))?;
            }
            Step::Terminal { at, size } => {
                let master = rootfs.terminal(at, *size)?;
                self.report(index, 0, Some(master.as_fd()))?;
            }
            Step::Hook(kind, hook) => {
                self.state.status = Status::Created;
                hook::run(&kind.to_string(), hook, &self.state)
                    .map_err(|failed| Stop::Failed(failed.why.code()))?;
            }
            Step::Hostname(name) => nix::unistd::sethostname(name)?,
            Step::Domainname(name) => rustix::system::setdomainname(name.as_bytes())?,
            Step::OomScoreAdj(score) => {
                rootfs.write_proc_self("oom_score_adj", score.to_string().as_bytes())?;
            }
            Step::Rlimit(limit) => {
                credentials::set_rlimit(limit.resource, limit.soft, limit.hard)?;
            }
            Step::Scheduler(scheduling) => schedule::set_scheduler(scheduling)?,
            Step::IoPriority { class, level } => schedule::set_io_priority(*class, *level)?,
            Step::CpuAffinity(cpus) => schedule::set_affinity(cpus)?,
            Step::Personality(domain) => schedule::set_personality(*domain)?,
            Step::MemoryPolicy { mode, nodes } => schedule::set_memory_policy(*mode, nodes)?,
            Step::SessionKeyring(name) => {
                let name = CString::new(name.as_str()).map_err(|_| Errno::INVAL)?;
                match credentials::join_session_keyring(&name) {
                    // A kernel without keyrings has none to leak into the container.
                    Err(Errno::NOSYS) | Ok(()) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Step::User(user) => {
                become_user(user)?;
                if self.node.die_with_parent {
                    // A change of user clears it (PR_SET_PDEATHSIG(2const)).
                    process::die_with_parent()?;
                }
            }
            Step::Capabilities(sets) => set_capabilities(sets)?,
            Step::AppArmor(profile) => {
                rootfs
                    .write_proc_self("attr/apparmor/exec", format!("exec {profile}").as_bytes())?;
            }
            Step::Label { of, label } => {
                let file = match of {
                    Labelled::Exec => "attr/exec",
                    Labelled::Keys => "attr/keycreate",
                };
                rootfs.write_proc_self(file, label.as_bytes())?;
            }
            Step::NoNewPrivileges => credentials::set_no_new_privs()?,
            Step::Seccomp(filter) => {
                let listens = filter.listener.is_some();
                let program = &filter.program.0;
                if let Some(fd) = seccomp::install(program, filter.flags, listens)? {
                    self.report(index, 0, Some(fd.as_fd()))?;
                }
            }
            Step::Chdir(dir) => rootfs.change_directory(dir)?,
            Step::Offer { path, descriptor } => descriptor::offer(path, *descriptor)?,
            Step::SetOutputAside { descriptor } => set_output_aside(*descriptor)?,
            Step::CloseDescriptors { preserve } => process::close_on_exec_from(3 + preserve)?,
            Step::Find(command) => self.find(index, command)?,
            Step::Exec(command) => return Err(Stop::Failed(self.exec(command, rootfs)?)),
            Step::Hold => self.hold()?,
            Step::RootPropagation(_)
            | Step::Root(_)
            | Step::Keep(_)
            | Step::Mount(_)
            | Step::MountPoint { .. }
            | Step::Device(_)
            | Step::Symlink { .. }
            | Step::LabelMount { .. }
            | Step::PivotRoot
            | Step::MoveRoot
            | Step::ChangeRoot
            | Step::OwnNull
            | Step::ReadonlyRoot
            | Step::ReadonlyMount(_)
            | Step::FinalPropagation(_)
            | Step::Mask(_)
            | Step::Readonly(_)
            | Step::Sysctl { .. } => {
                rootfs.perform(step)?;
                if self.lends_proc == Some(index) {
                    self.report(index, 0, rootfs.proc())?;
                }
            }
        }
        Ok(())
    }

    /// Says that everything is ready, lets the engine go, and waits for `start`, whose connection is the channel from then on.
    fn await_start(&mut self, index: usize) -> Result<(), Stop> {
        // Its rights are the workload's already, and so it could be looked into from now on.
        process::hide()?;
        let listener = self.start.take().ok_or(Errno::INVAL)?;
        self.report(index, 0, None).map_err(|_| Stop::Alone)?;
        loop {
            match rustix::net::accept_with(&listener, rustix::net::SocketFlags::CLOEXEC) {
                Ok(connection) => {
                    self.channel = connection;
                    // Who connects and goes away without a word has not started the container.
                    if channel::await_go(&self.channel)? {
                        // Told from the silence that a second `start` hears, whose connection nobody accepts.
                        return self.report(index, 0, None).map_err(|_| Stop::Alone);
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Whether the program is where [`Self::exec`] will try it, and may be executed. What else can be wrong with it, exec tells.
    fn find(&self, index: usize, command: &Command) -> Result<(), Errno> {
        let program = CString::new(command.program()).map_err(|_| Errno::INVAL)?;
        let later = &self.node.steps[index + 1..];
        let user = later.iter().find_map(|step| match step {
            Step::User(user) if user.uid != 0 => Some(user),
            _ => None,
        });
        if let Some(user) = user {
            credentials::look_as(user.uid, user.gid);
        }
        let found = first_that_works(&program, command, |path| {
            let path = Path::new(OsStr::from_bytes(path.as_bytes()));
            match process::may_execute(path) {
                Ok(()) => Errno::EXIST,
                Err(errno) => errno,
            }
        })?;
        if user.is_some() {
            credentials::look_as(0, 0);
        }
        match found {
            Errno::NOENT | Errno::NOTDIR => Err(found),
            // The user's other groups may look further.
            Errno::ACCESS if user.is_none() => Err(found),
            _ => Ok(()),
        }
    }

    /// Tries the program where execvpe(3) would, but for its shell fallback; returns why none of them could be executed.
    fn exec(&self, command: &Command, rootfs: &mut Rootfs) -> Result<Errno, Stop> {
        let home = command.home_of.map(|uid| {
            let home = rootfs.home(uid).unwrap_or_else(|| "/".to_owned());
            format!("HOME={home}")
        });
        let image = process::ExecImage::new(&command.args, command.env.iter().chain(&home))?;
        process::set_signal_mask(&self.signal_mask)?;
        let tried = first_that_works(image.program(), command, |path| self.try_exec(&image, path));
        tried.map_err(Stop::from)
    }

    fn try_exec(&self, image: &process::ExecImage, program: &CString) -> Errno {
        let path = Path::new(OsStr::from_bytes(program.as_bytes()));
        match self.own.map_or(Ok(false), |own| own.is_behind(path)) {
            Ok(false) => image.exec(program),
            Ok(true) => Errno::PERM,
            Err(errno) => errno,
        }
    }

    /// Is a container's pid 1 without a workload: reaps what it inherits, and goes when it is told to. All signals are
    /// blocked here, which also keeps the kernel from dropping those that pid 1 has no handler for (signal(7) of pid 1).
    fn hold(&self) -> Result<(), Stop> {
        detach_streams()?;
        // From here nobody hears a failure: the end of the channel tells the engine that the container is up.
        process::close_from(3)?;
        let all = SigSet::all();
        loop {
            match all.wait()? {
                Signal::SIGCHLD => {
                    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                        if status == WaitStatus::StillAlive {
                            break;
                        }
                    }
                }
                Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT => {
                    process::exit_now(0)
                }
                _ => {}
            }
        }
    }
}

/// Tries a program where execvpe(3) looks for it, until it is neither missing nor forbidden; returns what the trial did that says most.
fn first_that_works(
    program: &CString,
    command: &Command,
    mut tried: impl FnMut(&CString) -> Errno,
) -> Result<Errno, Errno> {
    if program.as_bytes().contains(&b'/') {
        return Ok(tried(program));
    }
    if program.is_empty() {
        return Ok(Errno::NOENT);
    }
    let path = command
        .env
        .iter()
        .find_map(|pair| pair.strip_prefix("PATH="))
        .unwrap_or("/bin:/usr/bin");
    let mut found = Errno::NOENT;
    for dir in path.split(':') {
        let mut candidate = if dir.is_empty() { b"." } else { dir.as_bytes() }.to_vec();
        candidate.push(b'/');
        candidate.extend_from_slice(program.as_bytes());
        let candidate = CString::new(candidate).map_err(|_| Errno::INVAL)?;
        match tried(&candidate) {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => found = Errno::ACCESS,
            other => return Ok(other),
        }
    }
    Ok(found)
}

/// Replaces those of the standard streams that somebody else would wait on by `/dev/null`.
fn detach_streams() -> Result<(), Errno> {
    use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
    let null = openat(
        CWD,
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let waited_on = |fd: BorrowedFd<'_>| match fstat(fd) {
        Ok(stat) => {
            let kind = FileType::from_raw_mode(stat.st_mode);
            matches!(kind, FileType::Fifo | FileType::Socket) || rustix::termios::isatty(fd)
        }
        Err(_) => true,
    };
    rustix::stdio::dup2_stdin(&null)?;
    if waited_on(rustix::stdio::stdout()) {
        rustix::stdio::dup2_stdout(&null)?;
    }
    if waited_on(rustix::stdio::stderr()) {
        rustix::stdio::dup2_stderr(&null)?;
    }
    Ok(())
}

/// Keeps the standard output by another number, and gives its own to the null device.
fn set_output_aside(descriptor: i32) -> Result<(), Errno> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    descriptor::leave_open(rustix::stdio::stdout(), descriptor)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::stdio::dup2_stdout(&openat(CWD, "/dev/null", flags, Mode::empty())?)
}

/// Gives the standard streams to a user, who could not open `/dev/stdout` again otherwise, as in runc. The group stays: a
/// terminal's is one that may write to it. What is a device for everybody stays, too.
fn give_streams(uid: u32) -> Result<(), Errno> {
    use rustix::fs::{FileType, Uid, fchown, fstat};
    let streams = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    for stream in streams {
        let found = match fstat(stream) {
            // The caller has closed it.
            Err(Errno::BADF) => continue,
            other => other?,
        };
        let device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
        if found.st_uid == uid || (device && !rustix::termios::isatty(stream)) {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // Of an owner who is not in the user namespace, or on a file system without owners.
            Err(Errno::PERM | Errno::INVAL | Errno::ROFS | Errno::OPNOTSUPP) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Groups before the user: without root no group can be changed. The capabilities stay, for the step that sets them.
fn become_user(user: &User) -> Result<(), Errno> {
    if let Some(mask) = user.umask {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
    }
    match credentials::set_groups(&user.additional_gids) {
        // A user namespace whose maker was no root forbids setgroups(2); with no groups asked for there is nothing to lose.
        Err(Errno::PERM) if user.additional_gids.is_empty() => {}
        other => other?,
    }
    if user.uid != 0 {
        give_streams(user.uid)?;
    }
    credentials::set_gid(user.gid)?;
    if user.uid == 0 {
        return credentials::set_uid(0);
    }
    // Without root's uid the permitted set goes, unless it is kept; the effective one goes all the same (capabilities(7)).
    credentials::keep_capabilities()?;
    credentials::set_uid(user.uid)?;
    let kept: Vec<_> = credentials::permitted()?.into_iter().collect();
    credentials::set_capabilities(CapSet::Effective, &kept)
}

/// The bounding set first, while CAP_SETPCAP is still there; the ambient set last, since it must be within the permitted
/// and the inheritable one (capabilities(7)).
fn set_capabilities(sets: &Capabilities) -> Result<(), Errno> {
    credentials::set_capabilities(CapSet::Bounding, &sets.bounding)?;
    credentials::set_capabilities(CapSet::Inheritable, &sets.inheritable)?;
    credentials::set_capabilities(CapSet::Effective, &sets.effective)?;
    credentials::set_capabilities(CapSet::Permitted, &sets.permitted)?;
    // runc's own template asks for ambient capabilities that it does not make inheritable: the kernel would refuse those, and
    // runc goes on without them.
    let possible: Vec<_> = sets
        .ambient
        .iter()
        .filter(|cap| sets.inheritable.contains(cap) && sets.permitted.contains(cap))
        .copied()
        .collect();
    credentials::set_capabilities(CapSet::Ambient, &possible)
}
