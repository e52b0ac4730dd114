//! A server of names for one network: it answers what somebody tells it, and passes everything else on to the machine's own servers.
//!
//! One thread, one poll(2), and a bound for everything that the asking ones can make it keep. What is asked of others goes by sockets that
//! are there from the beginning, since a user's server is in another network namespace than the machine's; each question goes by one that is
//! alone with it, from a port that the kernel has drawn for it, and under a number that was drawn as well (RFC 5452, 9).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, recvfrom, send, sendto};

use crate::plan::dns::{self, Code, LONGEST_QUERY, NoQuery, PORT, Query};
use crate::sys::{process, socket};

/// How many questions may be on their way to others, over datagrams and over streams.
const DATAGRAMS: usize = 64;
const STREAMS: usize = 8;

/// How many of them may be one container's, so that one that floods does not keep the others from asking.
const SHARE: usize = 16;

/// How many streams of asking ones are open, and how many of one.
const CONNECTIONS: usize = 16;
const CONNECTIONS_OF_ONE: usize = 4;

/// How many datagrams are read in a row before the others have their turn.
const AT_ONCE: usize = 32;

/// How long a server is waited for, and a stream on which nothing is said is kept (RFC 7766, 6.2.3).
const PATIENCE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(5);

/// How long nothing has happened when it is at rest.
const REST: Duration = Duration::from_secs(1);

/// Where the machine's own servers are named (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What is known of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// The addresses of the name.
    Addresses(Vec<IpAddr>),
    /// The name of the address.
    Name(String),
    /// That there is no such name, whatever others say.
    Nothing,
    /// Nothing at all: others are to be asked.
    Unknown,
}

/// Who asks, as far as one is told from another, and what is known.
pub struct Look {
    /// The container; empty where it is none that is known.
    pub whose: String,
    /// What is known.
    pub known: Known,
}

/// By what others are asked. Those for datagrams speak to either family; one for a stream that was one family's is never the other's
/// (`tcp_v6_connect`, net/ipv6/tcp_ipv6.c), so of those there is one for each.
pub struct WayOut {
    datagrams: Vec<Vec<OwnedFd>>,
    streams: Vec<Vec<OwnedFd>>,
}

impl WayOut {
    /// Sockets in the calling process's network namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> Result<Self, Errno> {
        let datagrams = (0..DATAGRAMS).map(|_| Ok(vec![socket::for_datagrams()?]));
        let streams = (0..STREAMS).map(|_| socket::for_streams());
        Ok(WayOut {
            datagrams: datagrams.collect::<Result<_, Errno>>()?,
            streams: streams.collect::<Result<_, Errno>>()?,
        })
    }

    /// All of them.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let all = self.datagrams.iter().chain(&self.streams);
        all.flatten().map(AsFd::as_fd)
    }

    fn of(&mut self, stream: bool) -> &mut Vec<Vec<OwnedFd>> {
        if stream {
            &mut self.streams
        } else {
            &mut self.datagrams
        }
    }

    /// Takes sockets back, without their ports and what was still on its way to them.
    fn put_back(&mut self, sockets: Vec<OwnedFd>, stream: bool) {
        sockets.iter().for_each(disconnect);
        self.of(stream).push(sockets);
    }
}

/// Lets a socket have neither a far end nor a port (connect(2), AF_UNSPEC): it draws another one as it gets the next.
fn disconnect(socket: &OwnedFd) {
    // What never had either has none.
    let _ = rustix::net::connect_unspec(socket);
    // How its last connection ended is the next one's no more.
    let _ = rustix::net::sockopt::socket_error(socket);
}

/// What a server is made of.
pub struct Server<N> {
    /// Where datagrams are asked, and streams: the network's own addresses.
    pub datagrams: Vec<OwnedFd>,
    /// Likewise.
    pub listeners: Vec<OwnedFd>,
    /// By what others are asked; none on a network that has no way out.
    pub way_out: Option<WayOut>,
    /// Whether an asking address is one of the network's, and what is known.
    pub names: N,
    /// What becomes readable when the server is to end, or to look whether it is.
    pub ends: Vec<OwnedFd>,
    asked: Vec<Asked>,
    connections: Vec<Connection>,
    /// How many connections and questions there have been: each has a number of its own.
    count: u64,
}

/// Who answers for a network.
pub trait Names {
    /// What is known of a question; none where the asking one is not on the network.
    fn look(&mut self, asking: IpAddr, query: &Query) -> Option<Look>;

    /// Whether an address is one of the network's.
    fn has(&self, asking: IpAddr) -> bool;

    /// Whether the server is to end, asked when the n-th of its [`Server::ends`] is readable.
    fn is_over(&mut self, which: usize, end: BorrowedFd<'_>) -> bool;
}

/// Where an answer goes.
#[derive(Clone, Copy)]
enum Client {
    /// By this socket of the server's to this address.
    Datagram(usize, SocketAddr),
    /// By the connection of this number.
    Stream(u64),
}

/// A question that others were asked.
struct Asked {
    number: u64,
    query: Query,
    /// As it is passed on; with its length before it, where that is over a stream.
    message: Vec<u8>,
    id: u16,
    client: Client,
    whose: String,
    servers: Vec<SocketAddr>,
    tries: usize,
    sockets: Vec<OwnedFd>,
    /// Which of them it goes by.
    by: usize,
    deadline: Instant,
    /// How much of it is sent over a stream, and what has come back.
    sent: usize,
    received: Vec<u8>,
}

impl Asked {
    fn socket(&self) -> &OwnedFd {
        &self.sockets[self.by]
    }

    fn is_stream(&self) -> bool {
        matches!(self.client, Client::Stream(_))
    }

    fn tries_left(&self) -> bool {
        // A datagram to the only one may be lost.
        self.tries < self.servers.len().max(2)
    }
}

/// A stream of an asking one.
struct Connection {
    number: u64,
    socket: OwnedFd,
    from: IpAddr,
    received: Vec<u8>,
    to_send: Vec<u8>,
    /// Whether others were asked for it: then nothing more is read of it.
    waits: bool,
    deadline: Instant,
}

/// What a descriptor is that is ready.
#[derive(Clone, Copy)]
enum Ready {
    End(usize),
    Datagrams(usize),
    Listener(usize),
    Connection(u64),
    Asked(u64),
}

impl<N: Names> Server<N> {
    /// A server that nobody has asked yet.
    pub fn new(
        datagrams: Vec<OwnedFd>,
        listeners: Vec<OwnedFd>,
        way_out: Option<WayOut>,
        names: N,
        ends: Vec<OwnedFd>,
    ) -> Self {
        Server {
            datagrams,
            listeners,
            way_out,
            names,
            ends,
            asked: Vec::new(),
            connections: Vec::new(),
            count: 0,
        }
    }

    /// Serves until it is over.
    ///
    /// # Errors
    /// As poll(2).
    pub fn serve(&mut self) -> Result<(), Errno> {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        // What it has in memory since it was last left alone.
        let mut has_code = true;
        loop {
            let ready = self.wait(has_code)?;
            if ready.is_empty() && self.asked.is_empty() && has_code {
                // More of the program than it needs is there after its start, and after a question: a network may be asked nothing for days.
                let _ = process::let_code_go();
                has_code = false;
            } else {
                has_code |= !ready.is_empty();
            }
            for ready in ready {
                match ready {
                    Ready::End(which) => {
                        if self.names.is_over(which, self.ends[which].as_fd()) {
                            return Ok(());
                        }
                    }
                    Ready::Datagrams(which) => self.read_datagrams(which, &mut buffer),
                    Ready::Listener(which) => self.accept(which),
                    Ready::Connection(number) => self.go_on_with(number, &mut buffer),
                    Ready::Asked(number) => self.hear(number, &mut buffer),
                }
            }
            self.give_up_late();
        }
    }

    /// What is ready, once something is, or something is late; or nothing, when nothing was for a while and `is_to_rest`.
    fn wait(&self, is_to_rest: bool) -> Result<Vec<Ready>, Errno> {
        let readable = PollFlags::IN;
        let mut waited = Vec::new();
        let all = |fds: &'_ [OwnedFd], of: fn(usize) -> Ready| -> Vec<Ready> {
            (0..fds.len()).map(of).collect()
        };
        let fixed = [
            (&self.ends, all(&self.ends, Ready::End)),
            (&self.datagrams, all(&self.datagrams, Ready::Datagrams)),
            (&self.listeners, all(&self.listeners, Ready::Listener)),
        ];
        let mut polled = Vec::new();
        for (fds, ready) in &fixed {
            for (fd, ready) in fds.iter().zip(ready) {
                waited.push(*ready);
                polled.push(PollFd::new(fd, readable));
            }
        }
        for one in &self.connections {
            let flags = match (one.to_send.is_empty(), one.waits) {
                (false, _) => PollFlags::OUT,
                (true, false) => readable,
                (true, true) => continue,
            };
            waited.push(Ready::Connection(one.number));
            polled.push(PollFd::new(&one.socket, flags));
        }
        for one in &self.asked {
            let sends = one.is_stream() && one.sent < one.message.len();
            waited.push(Ready::Asked(one.number));
            polled.push(PollFd::new(
                one.socket(),
                if sends { PollFlags::OUT } else { readable },
            ));
        }
        let idle = self.connections.iter().filter(|it| !it.waits);
        let deadlines = self.asked.iter().map(|it| it.deadline);
        let rest = is_to_rest.then(|| Instant::now() + REST);
        let deadlines = deadlines.chain(idle.map(|it| it.deadline)).chain(rest);
        let limit = deadlines.min().map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
                // Not a moment too early, which would be one more round.
                tv_nsec: i64::from(left.subsec_nanos().saturating_add(1_000).min(999_999_999)),
            }
        });
        match poll(&mut polled, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let ready = polled.iter().zip(waited);
        let ready = ready.filter(|(polled, _)| !polled.revents().is_empty());
        Ok(ready.map(|(_, ready)| ready).collect())
    }

    fn read_datagrams(&mut self, which: usize, buffer: &mut [u8]) {
        for _ in 0..AT_ONCE {
            let received = recvfrom(&self.datagrams[which], &mut *buffer, RecvFlags::DONTWAIT);
            let (length, from) = match received {
                Ok((length, _, from)) => (length, from),
                // An error is one of an answer that did not arrive.
                Err(Errno::AGAIN) => return,
                Err(_) => continue,
            };
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            // Nobody asks from a server's own port, but who lets two servers answer each other.
            let Some(from) = from.filter(|from| from.port() != PORT && from.port() != 0) else {
                continue;
            };
            if length <= LONGEST_QUERY {
                self.answer(&buffer[..length], from.ip(), Client::Datagram(which, from));
            }
        }
    }

    /// Answers a message, or asks others. Whether it has come to either.
    fn answer(&mut self, message: &[u8], asking: IpAddr, client: Client) -> bool {
        if !self.names.has(asking) {
            return false;
        }
        let query = match Query::read(message) {
            Ok(query) => query,
            Err(NoQuery::Silence) => return false,
            Err(NoQuery::Answer(answer)) => {
                self.reply(client, answer);
                return true;
            }
        };
        let Some(look) = self.names.look(asking, &query) else {
            return false;
        };
        let longest = match client {
            Client::Datagram(..) => query.longest_datagram(),
            Client::Stream(_) => usize::from(u16::MAX),
        };
        let forwards = self.way_out.is_some();
        let answer = match look.known {
            Known::Addresses(addrs) => query.answer_addresses(&addrs, forwards, longest),
            Known::Name(name) => query.answer_name(&name, forwards, longest),
            Known::Unknown if forwards => {
                self.ask_others(message, query, client, look.whose);
                return true;
            }
            Known::Nothing | Known::Unknown => query.answer(Code::NoSuchName, forwards),
        };
        self.reply(client, answer);
        true
    }

    /// Sends an answer; whoever does not take it asks again.
    fn reply(&mut self, client: Client, answer: Vec<u8>) {
        match client {
            Client::Datagram(which, to) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let _ = sendto(&self.datagrams[which], &answer, flags, &to);
            }
            Client::Stream(number) => {
                let mut all = self.connections.iter_mut();
                if let Some(one) = all.find(|it| it.number == number) {
                    one.waits = false;
                    one.to_send = with_length(&answer);
                    one.deadline = Instant::now() + IDLE;
                }
            }
        }
    }

    fn ask_others(&mut self, message: &[u8], query: Query, client: Client, whose: String) {
        let stream = matches!(client, Client::Stream(_));
        let of_its = self.asked.iter().filter(|it| it.whose == whose).count();
        let servers = servers();
        let sockets = match &mut self.way_out {
            Some(way_out) if of_its < SHARE && !servers.is_empty() => way_out.of(stream).pop(),
            _ => None,
        };
        let Some(sockets) = sockets else {
            let failed = query.answer(Code::ServerFailed, true);
            return self.reply(client, failed);
        };
        if let Client::Stream(number) = client {
            let mut all = self.connections.iter_mut();
            if let Some(one) = all.find(|it| it.number == number) {
                one.waits = true;
            }
        }
        self.count += 1;
        self.ask(Asked {
            number: self.count,
            query,
            message: if stream {
                with_length(message)
            } else {
                message.to_vec()
            },
            id: 0,
            client,
            whose,
            servers,
            tries: 0,
            sockets,
            by: 0,
            deadline: Instant::now(),
            sent: 0,
            received: Vec::new(),
        });
    }

    /// Asks the next server; when all were asked, the answer is that this has failed.
    fn ask(&mut self, mut asked: Asked) {
        while asked.tries_left() {
            let server = asked.servers[asked.tries % asked.servers.len()];
            asked.tries += 1;
            if begin(&mut asked, server).is_ok() {
                self.asked.push(asked);
                return;
            }
        }
        let failed = asked.query.answer(Code::ServerFailed, true);
        self.finish(asked, failed);
    }

    fn finish(&mut self, asked: Asked, answer: Vec<u8>) {
        self.reply(asked.client, answer);
        let stream = asked.is_stream();
        if let Some(way_out) = &mut self.way_out {
            way_out.put_back(asked.sockets, stream);
        }
    }

    /// Takes what a server has sent.
    fn hear(&mut self, number: u64, buffer: &mut [u8]) {
        let Some(at) = self.asked.iter().position(|it| it.number == number) else {
            return;
        };
        let heard = {
            let asked = &mut self.asked[at];
            if asked.is_stream() {
                hear_stream(asked, buffer)
            } else {
                hear_datagrams(asked, buffer)
            }
        };
        let answer = match heard {
            Heard::Nothing => return,
            Heard::Failed => None,
            Heard::Answer(answer) => Some(answer),
        };
        let asked = self.asked.swap_remove(at);
        let Some(mut answer) = answer else {
            return self.ask(asked);
        };
        if dns::is_failure(&answer) && asked.tries < asked.servers.len() {
            return self.ask(asked);
        }
        if !asked.is_stream() && answer.len() > asked.query.longest_passed_on() {
            answer = asked.query.truncated(true);
        }
        dns::renumber(&mut answer, asked.query.id);
        self.finish(asked, answer);
    }

    /// Lets a new one in. Where there are too many, the one goes that has said nothing for longest.
    fn accept(&mut self, which: usize) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = accept_with(&self.listeners[which], flags) else {
            return;
        };
        let Some(from) = socket::peer(socket.as_fd()).map(|peer| peer.ip()) else {
            return;
        };
        let of_it = self.connections.iter().filter(|it| it.from == from).count();
        if !self.names.has(from) || of_it >= CONNECTIONS_OF_ONE {
            return;
        }
        if self.connections.len() >= CONNECTIONS {
            let idle = self
                .connections
                .iter()
                .enumerate()
                .filter(|(_, it)| !it.waits);
            let Some((oldest, _)) = idle.min_by_key(|(_, it)| it.deadline) else {
                return;
            };
            self.connections.swap_remove(oldest);
        }
        self.count += 1;
        self.connections.push(Connection {
            number: self.count,
            socket,
            from,
            received: Vec::new(),
            to_send: Vec::new(),
            waits: false,
            deadline: Instant::now() + IDLE,
        });
    }

    /// Sends or reads on a connection what there is to be, and closes it when that does not go on.
    fn go_on_with(&mut self, number: u64, buffer: &mut [u8]) {
        let Some(at) = self.connections.iter().position(|it| it.number == number) else {
            return;
        };
        if !self.is_going_on(at, buffer) {
            self.connections.retain(|it| it.number != number);
        }
    }

    fn is_going_on(&mut self, at: usize, buffer: &mut [u8]) -> bool {
        let one = &mut self.connections[at];
        if !one.to_send.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&one.socket, &one.to_send, flags) {
                Ok(count) => drop(one.to_send.drain(..count)),
                Err(Errno::AGAIN) => {}
                Err(_) => return false,
            }
            if !one.to_send.is_empty() {
                return true;
            }
        } else {
            match recv(
                &one.socket,
                &mut buffer[..LONGEST_QUERY],
                RecvFlags::DONTWAIT,
            ) {
                Ok((0, _)) => return false,
                Ok((count, _)) => one.received.extend(&buffer[..count]),
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        let Some((message, whole)) = first_message(&one.received) else {
            let announced = one.received.first_chunk().map(|it| u16::from_be_bytes(*it));
            return announced.is_none_or(|length| usize::from(length) <= LONGEST_QUERY);
        };
        let message = message.to_vec();
        one.received.drain(..whole);
        let (from, client) = (one.from, Client::Stream(one.number));
        self.answer(&message, from, client)
    }

    /// Asks the next where one has not answered in time, and closes what is silent.
    fn give_up_late(&mut self) {
        let now = Instant::now();
        while let Some(at) = self.asked.iter().position(|it| it.deadline <= now) {
            let late = self.asked.swap_remove(at);
            self.ask(late);
        }
        self.connections.retain(|it| it.waits || it.deadline > now);
    }
}

/// The first message of a stream, behind its length (RFC 1035, 4.2.2), and how much of the stream it is.
fn first_message(stream: &[u8]) -> Option<(&[u8], usize)> {
    let length = usize::from(u16::from_be_bytes(*stream.first_chunk()?));
    Some((stream.get(2..2 + length)?, 2 + length))
}

fn with_length(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(message.iter().take(length.into()));
    bytes
}

/// Sends a question to a server, from a port and under a number that nobody knows yet.
fn begin(asked: &mut Asked, server: SocketAddr) -> Result<(), Errno> {
    asked.deadline = Instant::now() + PATIENCE;
    asked.sent = 0;
    asked.received.clear();
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    asked.id = u16::from_be_bytes(id);
    let stream = asked.is_stream();
    let message = if stream {
        &mut asked.message[2..]
    } else {
        &mut asked.message[..]
    };
    dns::renumber(message, asked.id);
    let is_its = |socket: &OwnedFd| socket::is_v4(socket.as_fd()) == server.is_ipv4();
    asked.by = asked.sockets.iter().position(is_its).unwrap_or(0);
    let socket = asked.socket();
    disconnect(socket);
    while !stream && recv(socket, &mut [0; 1], RecvFlags::DONTWAIT).is_ok() {}
    match rustix::net::connect(socket, &socket::mapped(server, socket.as_fd())) {
        Err(Errno::INPROGRESS) if stream => return Ok(()),
        other => other?,
    }
    if !stream {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        send(socket, &asked.message, flags)?;
    }
    Ok(())
}

/// What has come of a question.
enum Heard {
    Nothing,
    Failed,
    Answer(Vec<u8>),
}

fn hear_datagrams(asked: &Asked, buffer: &mut [u8]) -> Heard {
    for _ in 0..AT_ONCE {
        match recv(asked.socket(), &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) if asked.query.is_answered_by(&buffer[..length], asked.id) => {
                return Heard::Answer(buffer[..length].to_vec());
            }
            // Somebody guesses.
            Ok(_) => {}
            Err(Errno::AGAIN) => return Heard::Nothing,
            Err(_) => return Heard::Failed,
        }
    }
    Heard::Nothing
}

fn hear_stream(asked: &mut Asked, buffer: &mut [u8]) -> Heard {
    if asked.sent < asked.message.len() {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        return match send(asked.socket(), &asked.message[asked.sent..], flags) {
            Ok(count) => {
                asked.sent += count;
                Heard::Nothing
            }
            Err(Errno::AGAIN) => Heard::Nothing,
            Err(_) => Heard::Failed,
        };
    }
    match recv(asked.socket(), &mut *buffer, RecvFlags::DONTWAIT) {
        Ok((0, _)) => return Heard::Failed,
        Ok((count, _)) => asked.received.extend(&buffer[..count]),
        Err(Errno::AGAIN) => return Heard::Nothing,
        Err(_) => return Heard::Failed,
    }
    match first_message(&asked.received) {
        Some((message, _)) if asked.query.is_answered_by(message, asked.id) => {
            Heard::Answer(message.to_vec())
        }
        Some(_) => Heard::Failed,
        None => Heard::Nothing,
    }
}

/// The machine's own servers, as they are now; itself, where none is named (resolv.conf(5)).
fn servers() -> Vec<SocketAddr> {
    let Ok(text) = fs::read_to_string(RESOLV_CONF) else {
        return vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))];
    };
    let (named, _) = dns::resolvers(&text);
    if named.is_empty() {
        return vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))];
    }
    named.into_iter().filter_map(server).collect()
}

/// The address of a server; a link-local one is that of a link, whose number the kernel shows by its name.
fn server(word: &str) -> Option<SocketAddr> {
    let (ip, link) = word.split_once('%').unwrap_or((word, ""));
    match ip.parse().ok()? {
        IpAddr::V4(ip) => Some(SocketAddr::from((ip, PORT))),
        IpAddr::V6(ip) => {
            let number = || {
                let is_name = !link.is_empty() && !link.contains('/');
                let path = is_name.then(|| format!("/sys/class/net/{link}/ifindex"))?;
                fs::read_to_string(path).ok()?.trim().parse().ok()
            };
            let scope = number().unwrap_or(0);
            Some(SocketAddrV6::new(ip, PORT, 0, scope).into())
        }
    }
}
