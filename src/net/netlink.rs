//! A routing netlink socket (rtnetlink(7)) and the requests over it. The only asynchronous code: rtnetlink's connection is
//! driven here by hand, to the end of each exchange, on the caller's thread.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::BufMut;
use futures_util::StreamExt;
use futures_util::future::join_all;
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_proto::Connection;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, Socket, SocketAddr};
use nix::errno::Errno;
use rtnetlink::Handle;

use crate::plan::name::LinkName;
use crate::sys::netns;

/// How many requests are sent before their answers are read. The answers wait in the socket's receive buffer (212,992
/// bytes by default, net.core.rmem_default) and each is charged close to 1 KiB there; those that do not fit are lost.
const OUTSTANDING: usize = 64;

/// The longest datagram the kernel sends: 32 KiB (net/netlink/af_netlink.c, `netlink_dump`), with as much to spare.
const LONGEST: usize = 64 * 1024;

/// Why the kernel refused a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", errno.desc(), said.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
pub struct Refused {
    /// The error number.
    pub errno: Errno,
    /// What the kernel said about it (NLMSGERR_ATTR_MSG, netlink(7)), where it said something.
    pub said: Option<String>,
}

/// For what is to be gone: a link that has gone by itself meanwhile is what was wanted.
///
/// # Errors
/// The kernel's others.
pub fn gone_is_fine(done: Result<(), Refused>) -> Result<(), Refused> {
    match done {
        Err(refused) if refused.errno == Errno::ENODEV => Ok(()),
        other => other,
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Refused {
            errno: error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
            said: None,
        }
    }
}

impl From<ErrorMessage> for Refused {
    fn from(message: ErrorMessage) -> Self {
        // What follows the error number is the header of the refused request (16 bytes, its payload is left out by
        // NETLINK_CAP_ACK), then attributes.
        const HEADER: usize = 16;
        const NLMSGERR_ATTR_MSG: u16 = 1;
        let said = message.header.get(HEADER..).and_then(|attributes| {
            NlasIterator::new(attributes)
                .map_while(Result::ok)
                .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
                .map(|attribute| {
                    String::from_utf8_lossy(attribute.value())
                        .trim_end_matches('\0')
                        .to_owned()
                })
        });
        Refused {
            errno: Errno::from_raw(message.raw_code().abs()),
            said,
        }
    }
}

/// A netlink socket in one network namespace: it stays there whatever its thread does later.
pub struct Netlink {
    connection: RefCell<Connection<RouteNetlinkMessage, BlockingSocket>>,
    handle: Handle,
}

impl Netlink {
    /// A socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::from_socket(BlockingSocket::new(NETLINK_ROUTE)?);
        Ok(Netlink {
            connection: RefCell::new(connection),
            handle,
        })
    }

    /// A socket in another network namespace: the calling thread goes there, opens it and comes back.
    ///
    /// # Panics
    /// When the thread cannot come back, since whatever it did next would be done in the wrong namespace.
    pub fn open_in(netns: BorrowedFd) -> io::Result<Self> {
        netns::within(netns, Self::open)?
    }

    /// The number of an interface in the socket's namespace (SIOCGIFINDEX, netdevice(7)): a tenth of what it costs to be told all of it. For
    /// one that should be there: the kernel looks for a module of the name of one that is not (`dev_load`, net/core/dev_ioctl.c).
    ///
    /// # Errors
    /// ENODEV where there is none of this name.
    pub fn index_of(&self, name: &LinkName) -> Result<u32, Refused> {
        let mut connection = self.connection.borrow_mut();
        let socket = &connection.socket_mut().socket;
        rustix::net::netdevice::name_to_index(socket, name.as_str())
            .map_err(|errno| io::Error::from(errno).into())
    }

    /// Sends requests, in this order and without waiting in between, and returns what the kernel answered to each. A
    /// refused request does not keep those after it from being done.
    pub fn exchange(
        &self,
        requests: Vec<Request>,
    ) -> Result<Vec<Result<Vec<RouteNetlinkMessage>, Refused>>, Refused> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let pending = requests
                .by_ref()
                .take(OUTSTANDING)
                .map(|request| self.answer(request));
            answers.extend(self.drive(join_all(pending.collect::<Vec<_>>()))?);
        }
        Ok(answers)
    }

    /// One request and its answer.
    pub fn request(&self, request: Request) -> Result<Vec<RouteNetlinkMessage>, Refused> {
        self.drive(self.answer(request))?
    }

    async fn answer(&self, request: Request) -> Result<Vec<RouteNetlinkMessage>, Refused> {
        let mut message = NetlinkMessage::from(request.message);
        message.header.flags = request.flags;
        let mut handle = self.handle.clone();
        let mut replies = handle
            .request(message)
            .map_err(|_| io::Error::from(Errno::ECONNABORTED))?;
        let mut answer = Vec::new();
        while let Some(reply) = replies.next().await {
            match reply.payload {
                NetlinkPayload::InnerMessage(message) => answer.push(message),
                NetlinkPayload::Error(error) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Drives the connection until `work` is done: sends all there is to send, then waits for answers.
    fn drive<F: Future>(&self, work: F) -> io::Result<F::Output> {
        let mut connection = self.connection.borrow_mut();
        let mut context = Context::from_waker(Waker::noop());
        let mut work = pin!(work);
        loop {
            if let Poll::Ready(output) = work.as_mut().poll(&mut context) {
                return Ok(output);
            }
            // A poll of the connection reads what there is to read, then sends one datagram.
            let mut step = |receive| {
                let socket = connection.socket_mut();
                socket.receive.set(receive);
                socket.sent.set(false);
                let closed = Pin::new(&mut *connection).poll(&mut context).is_ready();
                let socket = connection.socket_mut();
                match socket.broken.take() {
                    Some(error) => Err(error),
                    None if closed => Err(Errno::ECONNABORTED.into()),
                    None => Ok(socket.sent.get()),
                }
            };
            while step(Receive::Nothing)? {}
            step(Receive::Wait)?;
        }
    }
}

/// A request to the kernel.
pub struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
}

impl Request {
    /// A request with flags beyond NLM_F_REQUEST. Other than a dump it is always acknowledged as well: a reply that the
    /// decoder does not understand would otherwise be waited for without end.
    pub fn new(message: RouteNetlinkMessage, flags: u16) -> Self {
        let ack = if flags & netlink_packet_core::NLM_F_DUMP == netlink_packet_core::NLM_F_DUMP {
            0
        } else {
            NLM_F_ACK
        };
        Request {
            message,
            flags: NLM_F_REQUEST | ack | flags,
        }
    }
}

/// Whether there is anything to receive. The kernel answers a request while it is being sent, so the first answer is
/// there when the last request is out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receive {
    /// Not yet: requests are still being sent.
    Nothing,
    /// An answer is due.
    Wait,
    /// One came, more may be there.
    Drain,
}

/// A socket for a connection that is driven from one thread: it sends and receives as the calls say, and where an answer
/// is due it waits in recvfrom(2), which needs neither poll(2) nor a runtime.
struct BlockingSocket {
    socket: Socket,
    receive: Cell<Receive>,
    sent: Cell<bool>,
    /// What is received is copied from here: most of it is short, and room for the longest would be had and given back each time.
    received: RefCell<Vec<u8>>,
    /// The connection only logs what went wrong with its socket.
    broken: RefCell<Option<io::Error>>,
}

impl BlockingSocket {
    fn note<T>(&self, result: io::Result<T>) -> Poll<io::Result<T>> {
        Poll::Ready(result.inspect_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            *self.broken.borrow_mut() = Some(io::Error::from_raw_os_error(errno));
        }))
    }

    fn receive_with<T>(&self, mut from: impl FnMut(i32) -> io::Result<T>) -> Poll<io::Result<T>> {
        loop {
            let flags = match self.receive.get() {
                Receive::Nothing => return Poll::Pending,
                Receive::Wait => 0,
                Receive::Drain => libc::MSG_DONTWAIT,
            };
            match from(flags) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.receive.set(Receive::Nothing);
                }
                result => {
                    self.receive.set(Receive::Drain);
                    return self.note(result);
                }
            }
        }
    }
}

impl AsyncSocket for BlockingSocket {
    fn socket_ref(&self) -> &Socket {
        &self.socket
    }

    fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    fn new(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(BlockingSocket {
            socket,
            receive: Cell::new(Receive::Nothing),
            sent: Cell::new(false),
            received: RefCell::new(Vec::with_capacity(LONGEST)),
            broken: RefCell::new(None),
        })
    }

    fn poll_send(&self, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.sent.set(true);
        self.note(self.socket.send(data, 0))
    }

    fn poll_send_to(
        &self,
        _: &mut Context<'_>,
        data: &[u8],
        to: &SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.sent.set(true);
        self.note(self.socket.send_to(data, to, 0))
    }

    fn poll_recv<B: BufMut>(&self, _: &mut Context<'_>, data: &mut B) -> Poll<io::Result<()>> {
        self.receive_with(|flags| self.socket.recv(data, flags).map(|_| ()))
    }

    fn poll_recv_from<B: BufMut>(
        &self,
        _: &mut Context<'_>,
        data: &mut B,
    ) -> Poll<io::Result<SocketAddr>> {
        self.receive_with(|flags| self.socket.recv_from(data, flags).map(|(_, from)| from))
    }

    fn poll_recv_from_full(&self, _: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, SocketAddr)>> {
        self.receive_with(|flags| {
            let mut received = self.received.borrow_mut();
            received.clear();
            let (_, from) = self.socket.recv_from(&mut *received, flags)?;
            Ok((received.clone(), from))
        })
    }
}
