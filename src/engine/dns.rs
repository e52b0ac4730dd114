//! The process that answers for a network that has DNS: one for each, and none where no network has.
//!
//! The file `dns` of the network's directory says which process it is, and for which bridge: `PID START INDEX NETNS`, and a line's end. It is there, empty, from the
//! network's beginning. Whoever makes the network whole starts one where none is alive; it ends with the network's removal, and by itself when
//! the bridge, the network's directory or the user's namespaces go.
//!
//! What it answers is in the hosts files of the networks, which are read anew for every question.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use caps::CapSet;
use nix::sys::signal::SigSet;
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::describe;
use super::fault;
use super::hold::Engine;
use super::network::Networks;
use super::state::StateRoot;
use crate::net::dns::{Known, Look, Names, Server, WayOut};
use crate::plan::dns::{self, PORT, Query};
use crate::plan::network::{Network, NetworkName, Subnet};
use crate::sys::channel::{self, Report};
use crate::sys::process::{self, Cloned, ProcessId};
use crate::sys::{credentials, errno_of, socket};

/// The file in a network's directory.
const FILE: &str = "dns";

/// How long the process may take to be gone once it was killed, in milliseconds.
const END_LIMIT: u64 = 10_000;

/// Who has no files of his own (Linux Standard Base, 21.2).
const NOBODY: u32 = 65_534;

/// Why nobody answers for a network.
#[derive(Debug, thiserror::Error)]
#[error("{deed}: {}", describe(*.cause))]
pub struct DnsError {
    deed: String,
    cause: Errno,
}

impl DnsError {
    fn of(deed: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let deed = deed.into();
        move |cause| DnsError { deed, cause }
    }
}

/// What the process does before it is told to stay: by these numbers it says what has failed.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Leave = 1,
    OpenState,
    Watch,
    Bind,
    GiveUpRights,
}

impl Deed {
    fn in_words(number: u32, network: &Network) -> String {
        let bind = || {
            let gateways = network.subnets.iter().map(|it| it.gateway.to_string());
            format!(
                "answer at port 53 of {}",
                gateways.collect::<Vec<_>>().join(" and ")
            )
        };
        match number {
            it if it == Deed::Leave as u32 => "leave its caller".to_owned(),
            it if it == Deed::OpenState as u32 => "open the state of networks".to_owned(),
            it if it == Deed::Watch as u32 => "watch its bridge".to_owned(),
            it if it == Deed::Bind as u32 => bind(),
            _ => "give up its rights".to_owned(),
        }
    }
}

/// A bridge: its number, and that of its network namespace, since the next of a user's has the same for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Site {
    bridge: u32,
    netns: u64,
}

impl Site {
    /// The bridge of this number where the caller is.
    fn here(bridge: u32) -> Option<Self> {
        let netns = rustix::fs::stat("/proc/self/ns/net").ok()?.st_ino;
        Some(Site { bridge, netns })
    }
}

/// The process that a network's directory names, its bridge, and whether it stays: without the line's end its maker was killed
/// before it was told so, or just then.
fn named(directory: &Path) -> Option<(ProcessId, Site, bool)> {
    let text = fs::read_to_string(directory.join(FILE)).ok()?;
    let mut words = text.split_ascii_whitespace();
    let mut word = || words.next();
    let process = ProcessId {
        pid: word()?.parse().ok()?,
        start: word()?.parse().ok()?,
    };
    let site = Site {
        bridge: word()?.parse().ok()?,
        netns: word()?.parse().ok()?,
    };
    Some((process, site, text.ends_with('\n')))
}

/// The process that answers for the network whose directory this is, if one does.
pub fn server(directory: &Path) -> Option<ProcessId> {
    let (process, _, stays) = named(directory)?;
    (stays && process.is_alive()).then_some(process)
}

/// Whether somebody answers for a network at this bridge.
pub fn is_served(directory: &Path, bridge: u32) -> bool {
    matches!(named(directory), Some((process, site, true)) if Some(site) == Site::here(bridge) && process.is_alive())
}

/// Says in a new network's directory that it has DNS.
///
/// # Errors
/// When the file cannot be written.
pub fn prepare(directory: &Path) -> io::Result<()> {
    fs::write(directory.join(FILE), "")
}

/// How many networks have DNS and nobody who answers; of many, so many as there are descriptors for at one time.
pub fn wanted(root: &StateRoot) -> usize {
    const AT_ONCE: usize = 8;
    let networks = root.networks();
    let is_wanted = |name: &NetworkName| {
        let directory = networks.directory(name);
        directory.join(FILE).exists() && server(&directory).is_none()
    };
    let names = networks.names().unwrap_or_default();
    names.into_iter().filter(is_wanted).take(AT_ONCE).count()
}

/// Sees to it that somebody answers for a network at this bridge. Under the lock of the networks.
///
/// # Errors
/// What the process could not do; then there is none.
pub fn ensure(engine: &Engine, network: &Network, bridge: u32) -> Result<(), DnsError> {
    let networks = engine.root.networks();
    let directory = networks.directory(&network.name);
    if is_served(&directory, bridge) {
        return Ok(());
    }
    // One of a bridge that is gone, or that was not made to the end.
    end(&directory)?;
    let way_out = if network.internal {
        None
    } else {
        engine.take_way_out()
    };
    if way_out.is_none() && engine.user().is_some() && !network.internal {
        // It has died since this process left the machine's network, and could ask nobody there: the next one starts it.
        return Ok(());
    }
    start(engine, &networks, network, bridge, way_out)
}

/// Ends the process that answers for the network whose directory this is; absent is success.
///
/// # Errors
/// When it does not go.
pub fn end(directory: &Path) -> Result<(), DnsError> {
    let failed = || DnsError::of("end the process that answers DNS");
    let Some(pidfd) = named(directory).and_then(|(process, ..)| process.open()) else {
        return Ok(());
    };
    match process::signal(pidfd.as_fd(), libc::SIGKILL) {
        Err(Errno::SRCH) => return Ok(()),
        // That of a user's former namespaces, which is going with them.
        Err(Errno::PERM) => {}
        other => other.map_err(failed())?,
    }
    match process::wait_dead(pidfd.as_fd(), END_LIMIT).map_err(failed())? {
        true => Ok(()),
        false => Err(failed()(Errno::TIMEDOUT)),
    }
}

/// Ends all processes of a user's networks, before the namespaces go that they are in.
///
/// # Errors
/// When one does not go.
pub fn end_all(root: &StateRoot) -> Result<(), DnsError> {
    let networks = root.networks();
    let names = networks.names().unwrap_or_default();
    names
        .iter()
        .try_for_each(|name| end(&networks.directory(name)))
}

/// Starts the process and writes down which it is. Until that is done, it goes when this process goes.
fn start(
    engine: &Engine,
    networks: &Networks<'_>,
    network: &Network,
    bridge: u32,
    way_out: Option<WayOut>,
) -> Result<(), DnsError> {
    let deed = "start the process that answers DNS";
    let failed = |errno| DnsError::of(deed)(errno);
    let step = |index| fault::at("dns", index).map_err(failed);
    step(0)?;
    let (ours, theirs) = channel::pair().map_err(failed)?;
    let helper = match process::clone(0, None).map_err(failed)? {
        Cloned::Child => {
            drop(ours);
            // Nobody's child: whoever waits for tincan's children is not to meet it.
            match process::clone(0, None) {
                Ok(Cloned::Child) => serve(engine, networks, network, bridge, way_out, theirs),
                Ok(Cloned::Parent { .. }) => process::exit_now(0),
                Err(_) => process::exit_now(1),
            }
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop(theirs);
    process::wait(helper.as_fd()).map_err(failed)?;
    let hear = || match channel::receive(&ours).map_err(failed)? {
        Some((Report { step, errno: 0 }, _)) => Ok(step),
        Some((Report { step, errno }, _)) => {
            let deed = Deed::in_words(step, network);
            Err(DnsError::of(deed)(Errno::from_raw_os_error(errno)))
        }
        None => Err(failed(Errno::SRCH)),
    };
    let pid = i32::try_from(hear()?).map_err(|_| failed(Errno::SRCH))?;
    // Until it is told to stay it ends with this process, and with an error here; and it has no port before it is written down, so that
    // the next one can wait until that is free.
    step(1)?;
    let process = ProcessId::of(pid).map_err(|cause| failed(errno_of(&cause)))?;
    let directory = networks.directory(&network.name);
    let (next, path) = (directory.join("dns.next"), directory.join(FILE));
    let unwritten = |cause| DnsError::of(format!("write {}", path.display()))(errno_of(&cause));
    let netns = Site::here(bridge)
        .ok_or_else(|| failed(Errno::NOENT))?
        .netns;
    let line = format!("{} {} {bridge} {netns}", process.pid, process.start);
    let written = fs::write(&next, line).and_then(|()| fs::rename(&next, &path));
    written.map_err(unwritten)?;
    step(2)?;
    channel::go(&ours).map_err(failed)?;
    hear()?;
    step(3)?;
    channel::go(&ours).map_err(failed)?;
    let file = fs::OpenOptions::new().append(true).open(&path);
    let stays = file.and_then(|mut file| file.write_all(b"\n"));
    stays.map_err(unwritten)
}

/// What the process does: it leaves everything of its caller's, takes what it needs, gives up all rights, and answers.
fn serve(
    engine: &Engine,
    networks: &Networks<'_>,
    network: &Network,
    bridge: u32,
    way_out: Option<WayOut>,
    channel: OwnedFd,
) -> ! {
    let report = |step, errno| channel::report(&channel, Report { step, errno }, None);
    let is_let_go_on =
        |step| report(step, 0).is_ok() && matches!(channel::await_go(&channel), Ok(true));
    if !is_let_go_on(std::process::id()) {
        process::exit_now(1);
    }
    let mut server = match get_ready(engine, networks, network, bridge, way_out, &channel) {
        Ok(server) => server,
        Err((deed, errno)) => {
            // Nobody hears it: then nobody waits for it either.
            let _ = report(deed as u32, errno.raw_os_error());
            process::exit_now(1)
        }
    };
    if !is_let_go_on(0) {
        process::exit_now(1);
    }
    drop(channel);
    process::exit_now(i32::from(server.serve().is_err()))
}

fn get_ready(
    engine: &Engine,
    networks: &Networks<'_>,
    network: &Network,
    bridge: u32,
    way_out: Option<WayOut>,
    channel: &OwnedFd,
) -> Result<Server<Files>, (Deed, Errno)> {
    let of = |deed| move |errno| (deed, errno);
    fault::at("dns-server", 0).map_err(of(Deed::Leave))?;
    let holder = engine.user().and_then(|user| user.watch());
    let way_out = match way_out {
        _ if network.internal => None,
        None => Some(WayOut::open().map_err(of(Deed::Leave))?),
        given => given,
    };
    let kept = way_out.iter().flat_map(WayOut::sockets);
    let kept = kept
        .chain([channel.as_fd()])
        .chain(holder.as_ref().map(|it| it.as_fd()));
    leave(&kept.collect::<Vec<_>>()).map_err(of(Deed::Leave))?;
    let mut ends = vec![socket::end_of_link(bridge).map_err(of(Deed::Watch))?];
    ends.extend(holder);
    let files = Files::open(networks, network).map_err(of(Deed::OpenState))?;
    // Where there are too many of these already, the bridge alone tells.
    ends.extend(files.watch(networks));
    let serving = |stream| {
        let gateways = network
            .subnets
            .iter()
            .map(|it| SocketAddr::new(it.gateway, PORT));
        let sockets = gateways.map(|at| socket::serving(at, network.bridge.as_str(), stream));
        sockets.collect::<Result<Vec<_>, _>>()
    };
    let (datagrams, listeners) = (serving(false), serving(true));
    let datagrams = datagrams.map_err(of(Deed::Bind))?;
    let listeners = listeners.map_err(of(Deed::Bind))?;
    give_up_rights().map_err(of(Deed::GiveUpRights))?;
    Ok(Server::new(datagrams, listeners, way_out, files, ends))
}

/// Leaves the session, the directory and the descriptors of the caller: no pipe that somebody reads to its end stays open, and no lock.
fn leave(kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    rustix::thread::set_name(c"tincan-dns")?;
    process::close_all_but(kept)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    process::set_signal_mask(&SigSet::empty())
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

/// Becomes nobody, who may do nothing, start nothing and write to no file. Where the user has no id for nobody (user_namespaces(7)) it stays
/// his own, without a right in his namespaces.
fn give_up_rights() -> Result<(), Errno> {
    match credentials::set_groups(&[]) {
        // A user's own groups cannot be left where he has no other ids.
        Err(Errno::PERM) => {}
        other => other?,
    }
    let become_nobody = credentials::set_gid(NOBODY).and_then(|()| credentials::set_uid(NOBODY));
    match become_nobody {
        Err(Errno::INVAL) => {}
        other => other?,
    }
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        credentials::set_capabilities(set, &[])?;
    }
    credentials::set_no_new_privs()?;
    process::hide()?;
    for limit in [libc::RLIMIT_FSIZE, libc::RLIMIT_NPROC, libc::RLIMIT_CORE] {
        credentials::set_rlimit(limit, 0, 0)?;
    }
    Ok(())
}

/// The names of networks, in their hosts files.
struct Files {
    own: NetworkName,
    subnets: Vec<Subnet>,
    /// The directory of all networks, which lasts as long as there is one, and the state root.
    networks: OwnedFd,
    root: OwnedFd,
}

impl Files {
    fn open(networks: &Networks<'_>, network: &Network) -> Result<Self, Errno> {
        let open = |path: &Path, flags| {
            let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
        };
        Ok(Files {
            own: network.name.clone(),
            subnets: network.subnets.clone(),
            // Opened to be listed: who lists it later may not.
            networks: open(&networks.path, OFlags::RDONLY)?,
            root: open(networks.root.path(), OFlags::PATH)?,
        })
    }

    /// A descriptor that is readable when something of the network's directory is removed (inotify(7)).
    fn watch(&self, networks: &Networks<'_>) -> Option<OwnedFd> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).ok()?;
        let removed = inotify::WatchFlags::DELETE | inotify::WatchFlags::ONLYDIR;
        inotify::add_watch(&watch, networks.directory(&self.own), removed).ok()?;
        Some(watch)
    }

    /// The text of a file. Whoever changes it does so in place, so it is read until it is the same twice.
    fn read(&self, directory: &OwnedFd, path: &str) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory, path, flags, Mode::empty()).ok()?;
        let read = || -> Option<Vec<u8>> {
            let mut bytes = vec![0; usize::try_from(rustix::fs::fstat(&file).ok()?.st_size).ok()?];
            let count = rustix::io::pread(&file, &mut bytes, 0).ok()?;
            bytes.truncate(count);
            Some(bytes)
        };
        let mut before = read()?;
        for _ in 0..16 {
            let now = read()?;
            if now == before {
                break;
            }
            before = now;
        }
        String::from_utf8(before).ok()
    }

    fn hosts(&self, network: &str) -> Option<String> {
        self.read(&self.networks, &format!("{network}/hosts"))
    }

    /// The hosts files of the other networks that a container is on.
    fn others(&self, container: &str) -> Vec<String> {
        if container.is_empty()
            || rustix::fs::seek(&self.networks, rustix::fs::SeekFrom::Start(0)).is_err()
        {
            return Vec::new();
        }
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut entries = rustix::fs::RawDir::new(&self.networks, &mut buffer);
        let mut found = Vec::new();
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name().to_str().unwrap_or_default();
            if name.starts_with('.') || name == self.own.as_str() {
                continue;
            }
            found.extend(
                self.hosts(name)
                    .filter(|hosts| dns::has_container(hosts, container)),
            );
        }
        found
    }

    /// The domains in which a container looks up names.
    fn search(&self, container: &str) -> Vec<String> {
        if container.is_empty() {
            return Vec::new();
        }
        let path = format!(".hosts/{container}/resolv.conf");
        let text = self.read(&self.root, &path).unwrap_or_default();
        let (_, search) = dns::resolvers(&text);
        search.into_iter().map(str::to_ascii_lowercase).collect()
    }

    fn look_up(&self, container: &str, hosts: &str, query: &Query) -> Known {
        if let Some(ip) = query.reverse() {
            if let Some(name) = dns::name_of(hosts, ip) {
                return Known::Name(name.to_owned());
            }
            let others = self.others(container);
            let name = others.iter().find_map(|hosts| dns::name_of(hosts, ip));
            return match name {
                Some(name) => Known::Name(name.to_owned()),
                // Whose addresses they are is known here and nowhere else.
                None if self.subnets.iter().any(|subnet| subnet.prefix.covers(ip)) => {
                    Known::Nothing
                }
                None => Known::Unknown,
            };
        }
        if query.name.is_empty() {
            return Known::Unknown;
        }
        let others = || self.others(container);
        let find = |name: &str, others: &[String]| {
            let all = [hosts].into_iter().chain(others.iter().map(String::as_str));
            all.map(|hosts| dns::addresses(hosts, name))
                .find(|found| !found.is_empty())
        };
        // By the network that is asked first: these addresses are reached without another.
        if let Some(found) = find(&query.name, &[]) {
            return Known::Addresses(found);
        }
        let others = others();
        let within = self.search(container);
        let short = within
            .iter()
            .filter_map(|domain| query.name.strip_suffix(domain.as_str())?.strip_suffix('.'));
        let mut names = [query.name.as_str()].into_iter().chain(short);
        match names.find_map(|name| find(name, &others)) {
            Some(found) => Known::Addresses(found),
            None => Known::Unknown,
        }
    }
}

impl Names for Files {
    fn look(&mut self, asking: IpAddr, query: &Query) -> Option<Look> {
        let hosts = self.hosts(self.own.as_str())?;
        let whose = dns::name_of(&hosts, asking).unwrap_or_default().to_owned();
        let known = self.look_up(&whose, &hosts, query);
        Some(Look { whose, known })
    }

    fn has(&self, asking: IpAddr) -> bool {
        // The machine itself is let ask by its kernel as well; were it to ask here what it is then asked by this, that had no end.
        let is_other = |subnet: &Subnet| subnet.prefix.covers(asking) && asking != subnet.gateway;
        self.subnets.iter().any(is_other)
    }

    fn is_over(&mut self, which: usize, end: BorrowedFd<'_>) -> bool {
        // The bridge, and then perhaps the holder of a user's namespaces: readable is gone. What is not, is the directory's.
        if which == 0 || rustix::io::read(end, &mut [0; 4096]).is_err() {
            return true;
        }
        let network = format!("{}/network.json", self.own);
        rustix::fs::accessat(
            &self.networks,
            network,
            rustix::fs::Access::EXISTS,
            rustix::fs::AtFlags::empty(),
        )
        .is_err()
    }
}
