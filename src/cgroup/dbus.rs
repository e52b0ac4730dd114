//! As much of D-Bus as it takes to ask systemd for a unit: one connection, one call at a time, no threads (D-Bus
//! specification).
//!
//! No crate for it, because none fits: whoever is root of a user namespace has to say who it is by the credentials of its
//! socket and not by getuid(2), a connection may not wait for ever nor against a SIGTERM, and none may start a thread.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::plan::variant::{Value, first_type};
use crate::sys::errno_of;
use crate::sys::signal::{Interrupts, Woken};

/// How long an answer may take. runc's patience with systemd is the same.
const LIMIT: Duration = Duration::from_secs(30);

/// The longest message that is read. What systemd answers to those calls is far shorter.
const LONGEST: usize = 1 << 20;

/// Why a call got no answer, or not the one that it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// The connection.
    Io(Errno),
    /// The other side takes too long.
    TimedOut,
    /// tincan was asked to go while it waited.
    Interrupted(Signal),
    /// The other side answered with an error: its name, and its words.
    Refused {
        /// As in `org.freedesktop.systemd1.NoSuchUnit`.
        name: String,
        /// For people.
        message: String,
    },
    /// What the other side says is no D-Bus.
    Garbled,
}

impl Failed {
    /// Whether it is the error of this name.
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Failed::Refused { name, .. } if name == wanted)
    }
}

impl From<io::Error> for Failed {
    fn from(cause: io::Error) -> Self {
        Failed::Io(errno_of(&cause))
    }
}

/// A method to call.
#[derive(Debug, Clone, Copy)]
pub struct Method<'a> {
    /// Whose: a name on the bus.
    pub destination: &'a str,
    /// Of which of its objects.
    pub path: &'a str,
    /// Of which of the object's interfaces.
    pub interface: &'a str,
    /// Its name there.
    pub member: &'a str,
}

/// A message that came.
#[derive(Debug, Default)]
struct Message {
    kind: u8,
    member: String,
    error: String,
    reply_to: u32,
    /// None when it has a type that is not read here: then it is of no interest, as are most signals.
    body: Option<Vec<Value>>,
}

// Types of message, and codes of header fields (D-Bus specification, Message Format).
const CALL: u8 = 1;
const REPLY: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A connection.
pub struct Connection<'a> {
    stream: UnixStream,
    interrupts: Option<&'a Interrupts>,
    serial: u32,
    received: Vec<u8>,
    /// Signals that came while an answer was waited for.
    signals: VecDeque<Message>,
}

impl<'a> Connection<'a> {
    /// Connects to a socket, and says who it is. With `interrupts`, whoever waits here goes when tincan is asked to.
    ///
    /// # Errors
    /// When nobody is there, or does not want us.
    pub fn open(
        address: &SocketAddr,
        interrupts: Option<&'a Interrupts>,
    ) -> Result<Connection<'a>, Failed> {
        let stream = UnixStream::connect_addr(address)?;
        stream.set_nonblocking(true)?;
        let mut connection = Connection {
            stream,
            interrupts,
            serial: 0,
            received: Vec::new(),
            signals: VecDeque::new(),
        };
        // With no name of its own, the other side takes us for whom the kernel says that we are: in a user namespace we do not
        // know ourselves by the id that the other side knows.
        let deadline = Instant::now() + LIMIT;
        connection.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n", deadline)?;
        for expected in ["DATA", "OK "] {
            let line = connection.line(deadline)?;
            if !line.starts_with(expected.as_bytes()) {
                return Err(Failed::Refused {
                    name: String::new(),
                    message: "it does not let us in".to_owned(),
                });
            }
        }
        Ok(connection)
    }

    /// The process that listens there, as this pid namespace numbers it: 0 when it is in another one (unix(7), SO_PEERCRED).
    pub fn peer(&self) -> Result<i32, Failed> {
        getsockopt(&self.stream, sockopt::PeerCredentials)
            .map(|credentials| credentials.pid())
            .map_err(|errno| Failed::Io(Errno::from_raw_os_error(errno as i32)))
    }

    /// Calls a method, and waits for what it returns.
    ///
    /// # Errors
    /// [`Failed::Refused`] when it returns an error.
    pub fn call(&mut self, method: Method<'_>, arguments: &[Value]) -> Result<Vec<Value>, Failed> {
        self.serial += 1;
        let serial = self.serial;
        let deadline = Instant::now() + LIMIT;
        self.send(&encode(serial, method, arguments), deadline)?;
        loop {
            let message = self.receive(deadline)?;
            match message.kind {
                REPLY if message.reply_to == serial => {
                    return message.body.ok_or(Failed::Garbled);
                }
                ERROR if message.reply_to == serial => {
                    return Err(Failed::Refused {
                        message: match message.body.into_iter().flatten().next() {
                            Some(Value::Text(text)) => text,
                            _ => message.error.clone(),
                        },
                        name: message.error,
                    });
                }
                SIGNAL => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// Waits for a signal of this name with which `is_it` is content: what it is told are the signal's values.
    ///
    /// # Errors
    /// When it does not come.
    pub fn await_signal<T>(
        &mut self,
        member: &str,
        mut is_it: impl FnMut(&[Value]) -> Option<T>,
    ) -> Result<T, Failed> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.receive(deadline)?,
            };
            if message.kind == SIGNAL
                && message.member == member
                && let Some(found) = message.body.as_deref().and_then(&mut is_it)
            {
                return Ok(found);
            }
        }
    }

    fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), Failed> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(true, deadline)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Reads more of what comes.
    fn read_more(&mut self, deadline: Instant) -> Result<(), Failed> {
        let mut part = [0; 4096];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => return Err(Failed::Io(Errno::CONNRESET)),
                Ok(count) => {
                    self.received.extend_from_slice(&part[..count]);
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(false, deadline)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn wait(&self, writable: bool, deadline: Instant) -> Result<(), Failed> {
        let left = deadline.saturating_duration_since(Instant::now());
        let fd: BorrowedFd<'_> = self.stream.as_fd();
        let woken = match self.interrupts {
            Some(interrupts) if writable => interrupts.wait_writable(fd),
            Some(interrupts) => {
                let milliseconds = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
                interrupts.wait(fd, Some(milliseconds))
            }
            None => {
                let flags = if writable {
                    PollFlags::OUT
                } else {
                    PollFlags::IN
                };
                let limit = Timespec::try_from(left).map_err(|_| Failed::TimedOut)?;
                match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&limit)) {
                    Ok(0) => Ok(Woken::TimedOut),
                    Ok(_) | Err(Errno::INTR) => Ok(Woken::Ready),
                    Err(errno) => Err(errno),
                }
            }
        };
        match woken.map_err(Failed::Io)? {
            Woken::Ready => Ok(()),
            Woken::Interrupted(signal) => Err(Failed::Interrupted(signal)),
            Woken::TimedOut => Err(Failed::TimedOut),
        }
    }

    /// A line of the talk before the first message (D-Bus specification, Authentication Protocol).
    fn line(&mut self, deadline: Instant) -> Result<Vec<u8>, Failed> {
        loop {
            if let Some(end) = self.received.windows(2).position(|two| two == b"\r\n") {
                let mut line: Vec<u8> = self.received.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(line);
            }
            if self.received.len() > LONGEST {
                return Err(Failed::Garbled);
            }
            self.read_more(deadline)?;
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message, Failed> {
        loop {
            if let Some(length) = message_length(&self.received)? {
                let bytes: Vec<u8> = self.received.drain(..length).collect();
                return decode(&bytes).ok_or(Failed::Garbled);
            }
            self.read_more(deadline)?;
        }
    }
}

/// A path, as an address.
///
/// # Errors
/// When it is too long for one (unix(7)).
pub fn path_address(path: &str) -> Result<SocketAddr, Failed> {
    Ok(SocketAddr::from_pathname(path)?)
}

/// The first address of a list that is one of a socket here: `unix:path=/run/user/1000/bus` (D-Bus specification, Server
/// Addresses).
pub fn parse_address(list: &str) -> Option<SocketAddr> {
    list.split(';').find_map(|one| {
        let keys = one.strip_prefix("unix:")?;
        keys.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let value = unescaped(value)?;
            match key {
                "path" => SocketAddr::from_pathname(std::str::from_utf8(&value).ok()?).ok(),
                "abstract" => SocketAddr::from_abstract_name(value).ok(),
                _ => None,
            }
        })
    })
}

fn unescaped(value: &str) -> Option<Vec<u8>> {
    let mut parts = value.split('%');
    let mut plain = parts.next()?.as_bytes().to_vec();
    for part in parts {
        plain.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        plain.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(plain)
}

/// A call as it is sent.
fn encode(serial: u32, method: Method<'_>, arguments: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    for argument in arguments {
        put(&mut body, argument);
    }
    let signature: String = arguments.iter().map(Value::signature).collect();
    let field =
        |code, value| Value::Tuple(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
    let mut fields = vec![
        field(PATH, Value::ObjectPath(method.path.to_owned())),
        field(INTERFACE, Value::text(method.interface)),
        field(MEMBER, Value::text(method.member)),
        field(DESTINATION, Value::text(method.destination)),
    ];
    if !signature.is_empty() {
        fields.push(field(SIGNATURE, Value::Signature(signature)));
    }
    // Little-endian, no flags, version 1.
    let mut message = vec![b'l', CALL, 0, 1];
    put_u32(&mut message, length_of(&body));
    put_u32(&mut message, serial);
    put(&mut message, &Value::Array("(yv)".to_owned(), fields));
    pad(&mut message, 8);
    message.extend_from_slice(&body);
    message
}

fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("what is asked of systemd is short")
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn put_u32(bytes: &mut Vec<u8>, number: u32) {
    pad(bytes, 4);
    bytes.extend_from_slice(&number.to_le_bytes());
}

/// What a type's values are aligned to.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'(') => 8,
        _ => 1,
    }
}

fn put(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Byte(n) => bytes.push(*n),
        Value::Bool(b) => put_u32(bytes, u32::from(*b)),
        Value::Int16(n) => put(bytes, &Value::Uint16(n.cast_unsigned())),
        Value::Uint16(n) => {
            pad(bytes, 2);
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        Value::Int32(n) => put_u32(bytes, n.cast_unsigned()),
        Value::Uint32(n) => put_u32(bytes, *n),
        Value::Int64(n) => put(bytes, &Value::Uint64(n.cast_unsigned())),
        Value::Uint64(n) => {
            pad(bytes, 8);
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        Value::Text(text) | Value::ObjectPath(text) => {
            put_u32(bytes, length_of(text.as_bytes()));
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        Value::Signature(text) => put_signature(bytes, text),
        Value::Array(of, items) => {
            put_u32(bytes, 0);
            let length_at = bytes.len() - 4;
            // The length is that of the items, without what aligns the first.
            pad(bytes, alignment(of));
            let start = bytes.len();
            for item in items {
                put(bytes, item);
            }
            let length = length_of(&bytes[start..]);
            bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        }
        Value::Tuple(items) => {
            pad(bytes, 8);
            for item in items {
                put(bytes, item);
            }
        }
        Value::Variant(value) => {
            put_signature(bytes, &value.signature());
            put(bytes, value);
        }
    }
}

fn put_signature(bytes: &mut Vec<u8>, signature: &str) {
    bytes.push(u8::try_from(signature.len()).expect("a signature has at most 255 bytes"));
    bytes.extend_from_slice(signature.as_bytes());
    bytes.push(0);
}

/// How long the message at the beginning of these bytes is, if it is whole.
fn message_length(bytes: &[u8]) -> Result<Option<usize>, Failed> {
    let mut reader = Reader::new(bytes);
    let Some(fields) = reader.header() else {
        return Ok(None);
    };
    let length = (16 + fields).next_multiple_of(8) + reader.body;
    if fields > LONGEST || length > LONGEST {
        return Err(Failed::Garbled);
    }
    Ok((bytes.len() >= length).then_some(length))
}

fn decode(bytes: &[u8]) -> Option<Message> {
    let mut reader = Reader::new(bytes);
    reader.header()?;
    reader.at = 12;
    let Value::Array(_, fields) = reader.value("a(yv)")? else {
        return None;
    };
    let mut message = Message {
        kind: bytes[1],
        ..Message::default()
    };
    let mut signature = String::new();
    for field in fields {
        let Value::Tuple(pair) = field else {
            return None;
        };
        let Ok([Value::Byte(code), Value::Variant(value)]) = <[Value; 2]>::try_from(pair) else {
            return None;
        };
        match (code, *value) {
            (MEMBER, Value::Text(text)) => message.member = text,
            (ERROR_NAME, Value::Text(text)) => message.error = text,
            (REPLY_SERIAL, Value::Uint32(serial)) => message.reply_to = serial,
            (SIGNATURE, Value::Signature(text)) => signature = text,
            _ => {}
        }
    }
    reader.align(8)?;
    message.body = reader.values(&signature);
    Some(message)
}

/// Reads a message. Everything that is not there, or not right, is none.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The sender's numbers are big-endian.
    big: bool,
    /// How long the body is.
    body: usize,
    /// How many values the one that is read now is in.
    depth: u32,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Reader {
            bytes,
            at: 0,
            big: bytes.first() == Some(&b'B'),
            body: 0,
            depth: 0,
        }
    }

    /// Reads the part that every message has, up to the length of its fields, which is returned.
    fn header(&mut self) -> Option<usize> {
        self.at = 4;
        self.body = self.u32()? as usize;
        self.u32()?;
        Some(self.u32()? as usize)
    }

    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(to);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.align(N)?;
        let mut number: [u8; N] = self.take(N)?.try_into().ok()?;
        if self.big {
            number.reverse();
        }
        Some(number)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.number()?))
    }

    fn string(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.take(1)? == [0]).then_some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(*self.take(1)?.first()?);
        self.string(length)
    }

    /// Values of these types, one after the other.
    fn values(&mut self, signature: &str) -> Option<Vec<Value>> {
        let mut rest = signature;
        let mut values = Vec::new();
        while !rest.is_empty() {
            let (own, after) = first_type(rest)?;
            values.push(self.value(own)?);
            rest = after;
        }
        Some(values)
    }

    fn value(&mut self, signature: &str) -> Option<Value> {
        // As deep as a message may be (D-Bus specification, Valid Signatures; Message Protocol).
        const DEEPEST: u32 = 64;
        self.depth += 1;
        let value = (self.depth <= DEEPEST).then(|| self.any_value(signature));
        self.depth -= 1;
        value.flatten()
    }

    fn any_value(&mut self, signature: &str) -> Option<Value> {
        Some(match signature.as_bytes().first()? {
            b'y' => Value::Byte(*self.take(1)?.first()?),
            b'b' => Value::Bool(self.u32()? != 0),
            b'n' => Value::Int16(i16::from_le_bytes(self.number()?)),
            b'q' => Value::Uint16(u16::from_le_bytes(self.number()?)),
            b'i' => Value::Int32(i32::from_le_bytes(self.number()?)),
            b'u' => Value::Uint32(self.u32()?),
            b'x' => Value::Int64(i64::from_le_bytes(self.number()?)),
            b't' => Value::Uint64(u64::from_le_bytes(self.number()?)),
            b's' | b'o' => {
                let length = self.u32()? as usize;
                let text = self.string(length)?;
                match signature {
                    "s" => Value::Text(text),
                    _ => Value::ObjectPath(text),
                }
            }
            b'g' => Value::Signature(self.signature()?),
            b'a' => {
                let of = &signature[1..];
                let length = self.u32()? as usize;
                self.align(alignment(of))?;
                let end = self.at.checked_add(length)?;
                let mut items = Vec::new();
                while self.at < end {
                    items.push(self.value(of)?);
                }
                Value::Array(of.to_owned(), items)
            }
            b'(' => {
                self.align(8)?;
                Value::Tuple(self.values(signature.strip_prefix('(')?.strip_suffix(')')?)?)
            }
            b'v' => {
                let own = self.signature()?;
                let (own, "") = first_type(&own)? else {
                    return None;
                };
                Value::Variant(Box::new(self.value(own)?))
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: Method<'_> = Method {
        destination: "a.b",
        path: "/c",
        interface: "d.e",
        member: "F",
    };

    fn everything() -> Vec<Value> {
        vec![
            Value::Byte(1),
            Value::Bool(true),
            Value::Int16(-2),
            Value::Uint16(3),
            Value::Int32(-4),
            Value::Uint32(5),
            Value::Int64(-6),
            Value::Uint64(7),
            Value::text("eight"),
            Value::ObjectPath("/nine".to_owned()),
            Value::Signature("a(sv)".to_owned()),
            Value::Array("(sv)".to_owned(), vec![]),
            Value::Byte(2),
            Value::Array(
                "(st)".to_owned(),
                vec![
                    Value::Tuple(vec![Value::text("x"), Value::Uint64(1)]),
                    Value::Tuple(vec![Value::text("yy"), Value::Uint64(2)]),
                ],
            ),
            Value::Variant(Box::new(Value::Array("y".to_owned(), vec![Value::Byte(9)]))),
        ]
    }

    #[test]
    fn what_is_sent_can_be_read() {
        let bytes = encode(7, METHOD, &everything());
        assert_eq!(message_length(&bytes), Ok(Some(bytes.len())));
        let message = decode(&bytes).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (CALL, "F"));
        assert_eq!(message.body, Some(everything()));
        for short in 0..bytes.len() {
            assert_eq!(message_length(&bytes[..short]), Ok(None), "{short}");
        }
    }

    /// The example of a header's layout is the one by hand: each field at a multiple of 8, the body too.
    #[test]
    fn a_call_is_laid_out_as_the_specification_has_it() {
        let bytes = encode(1, METHOD, &[Value::Uint32(5)]);
        let expected = [
            &b"l\x01\x00\x01\x04\x00\x00\x00\x01\x00\x00\x00\x4c\x00\x00\x00"[..],
            b"\x01\x01o\x00\x02\x00\x00\x00/c\x00\x00\x00\x00\x00\x00",
            b"\x02\x01s\x00\x03\x00\x00\x00d.e\x00\x00\x00\x00\x00",
            b"\x03\x01s\x00\x01\x00\x00\x00F\x00\x00\x00\x00\x00\x00\x00",
            b"\x06\x01s\x00\x03\x00\x00\x00a.b\x00\x00\x00\x00\x00",
            b"\x08\x01g\x00\x01u\x00\x00",
            b"\x05\x00\x00\x00",
        ]
        .concat();
        // The fields end with the signature's null byte; the last is only padding.
        assert_eq!(bytes[16..], expected[16..]);
        assert_eq!(bytes[12], 0x47);
    }

    #[test]
    fn a_message_of_the_other_byte_order_is_read() {
        let bytes = [
            &b"B\x04\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x1f"[..],
            b"\x03\x01s\x00\x00\x00\x00\x03Job\x00\x00\x00\x00\x00",
            b"\x05\x01u\x00\x00\x00\x00\x09\x08\x01g\x00\x01u\x00\x00",
            b"\x00\x00\x01\x02",
        ]
        .concat();
        assert_eq!(message_length(&bytes), Ok(Some(bytes.len())));
        let message = decode(&bytes).unwrap();
        assert_eq!((message.member.as_str(), message.reply_to), ("Job", 9));
        assert_eq!(message.body, Some(vec![Value::Uint32(0x102)]));
    }

    #[test]
    fn garbage_is_no_message() {
        assert_eq!(message_length(&[0xff; 64]), Err(Failed::Garbled));
        let whole = encode(7, METHOD, &everything());
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            // Whatever it reads, it ends.
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn what_is_too_deep_is_not_read() {
        let nested = |depth| {
            let inner = Value::Byte(1);
            (0..depth).fold(inner, |value, _| Value::Variant(Box::new(value)))
        };
        let body = |depth| decode(&encode(1, METHOD, &[nested(depth)])).unwrap().body;
        assert_eq!(body(60), Some(vec![nested(60)]));
        assert_eq!(body(200), None);
    }

    #[test]
    fn addresses_are_those_of_sockets() {
        let path = |address: &str| {
            let address = parse_address(address)?;
            address.as_pathname().map(|path| path.display().to_string())
        };
        assert_eq!(path("unix:path=/a/b,guid=0").as_deref(), Some("/a/b"));
        assert_eq!(
            path("tcp:host=a;unix:guid=1,path=/a%20b").as_deref(),
            Some("/a b")
        );
        assert_eq!(path("tcp:host=a"), None);
        assert_eq!(path("unix:path=/a%2"), None);
        let hidden = parse_address("unix:abstract=/c").unwrap();
        assert_eq!(hidden.as_abstract_name(), Some(&b"/c"[..]));
    }
}
