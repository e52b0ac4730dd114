//! What many containers on one bridge ask of the kernel on this machine: the namespaces, mounts and veth of each, by bare system calls,
//! without a program for each, state, cgroup, limits or anything that could be undone after a crash; and without the care that keeps many from
//! disturbing one another, as IPv6 turned off where there is none.

use std::ffi::CString;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, chdir, execv, mkdir, pivot_root, read, sethostname, write};

/// What all of them have in common.
pub struct Bare {
    /// The root file system that each has a layer over.
    pub rootfs: PathBuf,
    /// A directory that each mounts over.
    pub over: PathBuf,
    /// The number of the bridge.
    pub bridge: u32,
    /// With both families, or with IPv4 alone.
    pub both: bool,
}

impl Bare {
    /// Starts the n-th, which sleeps until it is killed, and gives its process.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn start(&self, n: u16) -> io::Result<Pid> {
        let (theirs, mut ours) = UnixStream::pair()?;
        let options = format!(
            "lowerdir={},upperdir={over}/upper,workdir={over}/work",
            self.rootfs.display(),
            over = self.over.display()
        );
        let plan = Plan {
            options: CString::new(options)?,
            over: &self.over,
            root: self.over.join("root"),
        };
        let flags = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP;
        // SAFETY: without a stack of its own the child goes on here, on a copy of this one's memory, as after fork(2); and does, until it
        // executes another program, what is allowed after a fork in a process with threads.
        let pid = unsafe {
            libc::syscall(
                libc::SYS_clone,
                libc::c_long::from(flags.bits() | libc::SIGCHLD),
                0,
                0,
                0,
                0,
            )
        };
        let pid = Errno::result(pid)?;
        if pid == 0 {
            // Its end is seen by who waits for its word.
            let _ = plan.perform(theirs.as_fd());
            // SAFETY: it ends at once.
            unsafe { libc::_exit(1) }
        }
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid is an int"));
        let link = format!("bare{n}");
        self.wire(pid, &link, n)?;
        drop(theirs);
        ours.write_all(b"x")?;
        ours.read_exact(&mut [0])?;
        Ok(pid)
    }

    fn wire(&self, pid: Pid, link: &str, n: u16) -> io::Result<()> {
        let host = Socket::new(NETLINK_ROUTE)?;
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName("eth0".to_owned()),
            LinkAttribute::NetNsPid(pid.as_raw().cast_unsigned()),
        ];
        let mut veth = up(0);
        veth.attributes = vec![
            LinkAttribute::IfName(link.to_owned()),
            LinkAttribute::Controller(self.bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        ask(&host, RouteNetlinkMessage::NewLink(veth))?;
        let inside = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
        let own = std::fs::File::open("/proc/thread-self/ns/net")?;
        setns(&inside, CloneFlags::CLONE_NEWNET)?;
        let socket = Socket::new(NETLINK_ROUTE);
        setns(&own, CloneFlags::CLONE_NEWNET)?;
        let socket = socket?;
        // The first two links of a new namespace have these numbers.
        let (lo, eth0) = (1, 2);
        ask(&socket, RouteNetlinkMessage::SetLink(up(lo)))?;
        let [high, low] = n.to_be_bytes();
        let v4 = (
            IpAddr::V4(Ipv4Addr::new(10, 77, high + 1, low)),
            16,
            IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)),
        );
        let v6 = (
            IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, n)),
            64,
            IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1)),
        );
        let addresses = [v4, v6];
        let addresses = &addresses[..if self.both { 2 } else { 1 }];
        for (ip, prefix, _) in addresses {
            ask(
                &socket,
                RouteNetlinkMessage::NewAddress(address(eth0, *ip, *prefix)),
            )?;
        }
        ask(&socket, RouteNetlinkMessage::SetLink(up(eth0)))?;
        for (.., gateway) in addresses {
            ask(
                &socket,
                RouteNetlinkMessage::NewRoute(default_route(eth0, *gateway)),
            )?;
        }
        Ok(())
    }
}

/// What a container's first process does, put together before it is: it must not allocate.
struct Plan<'a> {
    options: CString,
    over: &'a Path,
    root: PathBuf,
}

impl Plan<'_> {
    fn perform(&self, parent: BorrowedFd<'_>) -> nix::Result<()> {
        let none = None::<&Path>;
        let make = |kind: &str, at: &str, flags: MsFlags, data: Option<&str>| {
            mount(Some(kind), at, Some(kind), flags, data)
        };
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
        mount(
            Some("tmpfs"),
            self.over,
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )?;
        chdir(self.over)?;
        for dir in ["upper", "work", "root"] {
            mkdir(dir, Mode::from_bits_truncate(0o755))?;
        }
        mount(
            Some("overlay"),
            &self.root,
            Some("overlay"),
            MsFlags::empty(),
            Some(self.options.as_c_str()),
        )?;
        chdir(&self.root)?;
        make("proc", "proc", MsFlags::empty(), None)?;
        make("tmpfs", "dev", MsFlags::empty(), Some("mode=755"))?;
        for dir in ["dev/pts", "dev/shm", "dev/mqueue"] {
            mkdir(dir, Mode::from_bits_truncate(0o755))?;
        }
        make("devpts", "dev/pts", MsFlags::empty(), Some("newinstance"))?;
        make("tmpfs", "dev/shm", MsFlags::empty(), Some("mode=1777"))?;
        make("mqueue", "dev/mqueue", MsFlags::empty(), None)?;
        make("sysfs", "sys", MsFlags::MS_RDONLY, None)?;
        for (name, minor) in [
            ("dev/null", 3),
            ("dev/zero", 5),
            ("dev/full", 7),
            ("dev/random", 8),
            ("dev/urandom", 9),
        ] {
            let mode = Mode::from_bits_truncate(0o666);
            mknod(name, SFlag::S_IFCHR, mode, makedev(1, minor))?;
        }
        pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        sethostname("bare")?;
        read(parent, &mut [0])?;
        write(parent, b"x")?;
        execv(c"/bin/sleep", &[c"sleep", c"100000"])?;
        Ok(())
    }
}

fn up(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn address(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(ip),
        AddressAttribute::Address(ip),
        AddressAttribute::Flags(AddressFlags::Nodad),
    ];
    message
}

fn default_route(index: u32, gateway: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Gateway(match gateway {
            IpAddr::V4(ip) => RouteAddress::Inet(ip),
            IpAddr::V6(ip) => RouteAddress::Inet6(ip),
        }),
        RouteAttribute::Oif(index),
    ];
    message
}

/// Asks for one thing, and waits for the answer.
fn ask(socket: &Socket, message: RouteNetlinkMessage) -> io::Result<()> {
    use RouteNetlinkMessage::{NewAddress, NewLink, NewRoute};
    let mut flags = NLM_F_REQUEST | NLM_F_ACK;
    if matches!(message, NewLink(_) | NewAddress(_) | NewRoute(_)) {
        flags |= NLM_F_CREATE | NLM_F_EXCL;
    }
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer);
    match answer.map_err(io::Error::other)?.payload {
        NetlinkPayload::Error(answer) => match answer.code {
            None => Ok(()),
            Some(_) => Err(answer.to_io()),
        },
        other => Err(io::Error::other(format!("no answer: {other:?}"))),
    }
}

/// Ends a container; its link goes with its namespace, when the kernel finds the time.
///
/// # Errors
/// The system call that failed.
pub fn stop(pid: Pid) -> io::Result<()> {
    kill(pid, Signal::SIGKILL)?;
    waitpid(pid, None)?;
    Ok(())
}
