//! Messages of the domain name system (RFC 1035, with EDNS of RFC 6891): as much of them as a server reads and writes that knows the names
//! of a network and passes everything else on unread.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The port that servers are asked at (RFC 1035, 4.2).
pub const PORT: u16 = 53;

/// The longest datagram that is sent to whoever says nothing (RFC 1035, 4.2.1), and the longest at all: what fits into one packet on all
/// usual links (RFC 9715, 3).
const SHORT: usize = 512;
const LONG: u16 = 1232;

/// The longest message that is read as a query. The longest question has 271 bytes; the rest is for EDNS options.
pub const LONGEST_QUERY: usize = 4096;

const HEADER: usize = 12;

/// Bits of the header's second word (RFC 1035, 4.1.1).
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const CHECKING_DISABLED: u16 = 0x0010;

/// Types of records (RFC 1035, 3.2.2 and 3.2.3; RFC 3596; RFC 6891; RFC 5936).
const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const IXFR: u16 = 251;
const ANY: u16 = 255;

const INTERNET: u16 = 1;

/// How a query went (RFC 1035, 4.1.1; RFC 6891, 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// There is such a name, with what was asked for or without.
    Success = 0,
    /// The query is none.
    Malformed = 1,
    /// Nobody could be asked, or who was did not answer.
    ServerFailed = 2,
    /// There is no such name.
    NoSuchName = 3,
    /// A kind of query that is not known.
    NotImplemented = 4,
    /// A question that is answered to nobody.
    Refused = 5,
    /// A version of EDNS that is not known.
    BadVersion = 16,
}

/// A query, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// By which its answer is known.
    pub id: u16,
    /// The name that is asked for, in small letters with dots in between; empty where it has other bytes than a name of a host's.
    pub name: String,
    /// The question, as it was sent.
    question: Vec<u8>,
    kind: u16,
    flags: u16,
    /// The longest datagram that the asking one takes, where it speaks EDNS.
    edns: Option<usize>,
}

/// What is to be done with a message that is no query to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoQuery {
    /// Nothing: whoever answers answers could do so without end.
    Silence,
    /// This is to be sent.
    Answer(Vec<u8>),
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Where a name ends that is not compressed: a question has nothing before it that it could refer to.
fn end_of_question_name(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => return (at - from < 255).then_some(at + 1),
            length @ 1..=63 => at += 1 + length,
            _ => return None,
        }
    }
}

/// Where a record ends; its type; the words behind that; whether its name is the root's. Names that are referred to are not followed.
fn record(bytes: &[u8], from: usize) -> Option<(usize, u16, u16, u32, bool)> {
    let mut at = from;
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => break at += 1,
            length @ 1..=63 => at += 1 + length,
            192..=255 => break at += 2,
            _ => return None,
        }
    }
    let is_root = at == from + 1;
    let (kind, class) = (word(bytes, at)?, word(bytes, at + 2)?);
    let more = u32::from(word(bytes, at + 4)?) << 16 | u32::from(word(bytes, at + 6)?);
    let end = at + 10 + usize::from(word(bytes, at + 8)?);
    (end <= bytes.len()).then_some((end, kind, class, more, is_root))
}

impl Query {
    /// Reads a message.
    ///
    /// # Errors
    /// [`NoQuery`] with what is to be done instead of answering it.
    pub fn read(message: &[u8]) -> Result<Self, NoQuery> {
        let (Some(id), Some(flags)) = (word(message, 0), word(message, 2)) else {
            return Err(NoQuery::Silence);
        };
        if message.len() < HEADER || flags & RESPONSE != 0 {
            return Err(NoQuery::Silence);
        }
        let mut query = Query {
            id,
            name: String::new(),
            question: Vec::new(),
            kind: 0,
            flags,
            edns: None,
        };
        let refused = |query: &Query, code| Err(NoQuery::Answer(query.answer(code, false)));
        if flags & OPCODE != 0 {
            return refused(&query, Code::NotImplemented);
        }
        let version = match query.read_body(message) {
            Some(version) => version,
            None => return refused(&query, Code::Malformed),
        };
        if version != 0 {
            return refused(&query, Code::BadVersion);
        }
        let class = word(&query.question, query.question.len() - 2);
        // Transfers of zones are IXFR, AXFR and the two before ANY.
        if class != Some(INTERNET) || (IXFR..ANY).contains(&query.kind) {
            return refused(&query, Code::Refused);
        }
        Ok(query)
    }

    /// Reads what is behind the header: one question, and records of which the one for EDNS counts. Its version, if it is whole.
    fn read_body(&mut self, message: &[u8]) -> Option<u8> {
        let count = |at| word(message, at);
        let (questions, answers, authorities) = (count(4)?, count(6)?, count(8)?);
        if (questions, answers, authorities) != (1, 0, 0) {
            return None;
        }
        let name_end = end_of_question_name(message, HEADER)?;
        let question_end = name_end + 4;
        self.question = message.get(HEADER..question_end)?.to_vec();
        self.kind = word(message, name_end)?;
        self.name = text(&message[HEADER..name_end]);
        let mut version = 0;
        let mut at = question_end;
        for _ in 0..count(10)? {
            let (end, kind, class, more, is_root) = record(message, at)?;
            if kind == OPT {
                if self.edns.is_some() || !is_root {
                    return None;
                }
                self.edns = Some(usize::from(class).max(SHORT));
                version = more.to_be_bytes()[1];
            }
            at = end;
        }
        (at == message.len()).then_some(version)
    }

    /// The longest datagram that may answer it: what the asking one takes, but no more than fits into a packet.
    pub fn longest_datagram(&self) -> usize {
        self.edns.unwrap_or(SHORT).min(LONG.into())
    }

    /// The longest datagram that another's answer to it may be: what the asking one has said to both.
    pub fn longest_passed_on(&self) -> usize {
        self.edns.unwrap_or(SHORT)
    }

    /// The address whose name is asked for, where the name is one that stands for an address (RFC 1035, 3.5; RFC 3596, 2.5).
    pub fn reverse(&self) -> Option<IpAddr> {
        if let Some(digits) = self.name.strip_suffix(".in-addr.arpa") {
            let mut bytes = [0; 4];
            let mut parts = digits.rsplit('.');
            for byte in &mut bytes {
                *byte = parts.next()?.parse().ok()?;
            }
            return parts.next().is_none().then(|| Ipv4Addr::from(bytes).into());
        }
        let digits = self.name.strip_suffix(".ip6.arpa")?;
        let mut number = 0u128;
        let mut parts = digits.rsplit('.');
        for _ in 0..32 {
            let digit = parts.next().filter(|part| part.len() == 1)?;
            number = number << 4 | u128::from_str_radix(digit, 16).ok()?;
        }
        parts
            .next()
            .is_none()
            .then(|| Ipv6Addr::from(number).into())
    }

    /// An answer without records.
    pub fn answer(&self, code: Code, forwards: bool) -> Vec<u8> {
        self.write(code, forwards, false, &[])
    }

    /// The answer for a name with these addresses, of those that are asked for, if any (RFC 2308, 2.2); `longest` is how long it may be.
    pub fn answer_addresses(&self, addrs: &[IpAddr], forwards: bool, longest: usize) -> Vec<u8> {
        let wanted = |ip: &&IpAddr| match self.kind {
            A => ip.is_ipv4(),
            AAAA => ip.is_ipv6(),
            ANY => true,
            _ => false,
        };
        let record = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => (A, ip.octets().to_vec()),
            IpAddr::V6(ip) => (AAAA, ip.octets().to_vec()),
        };
        let records: Vec<_> = addrs.iter().filter(wanted).map(record).collect();
        self.whole_or_truncated(forwards, &records, longest)
    }

    /// The answer for an address with this name.
    pub fn answer_name(&self, name: &str, forwards: bool, longest: usize) -> Vec<u8> {
        let labels = name.split('.');
        let mut wire = Vec::with_capacity(name.len() + 2);
        for label in labels {
            match u8::try_from(label.len()) {
                Ok(length @ 1..=63) => wire.push(length),
                // No such name can be said.
                _ => return self.answer(Code::Success, forwards),
            }
            wire.extend(label.bytes());
        }
        wire.push(0);
        let records = match self.kind {
            PTR | ANY => vec![(PTR, wire)],
            _ => Vec::new(),
        };
        self.whole_or_truncated(forwards, &records, longest)
    }

    fn whole_or_truncated(
        &self,
        forwards: bool,
        records: &[(u16, Vec<u8>)],
        longest: usize,
    ) -> Vec<u8> {
        let whole = self.write(Code::Success, forwards, false, records);
        if whole.len() <= longest {
            return whole;
        }
        self.truncated(forwards)
    }

    /// The answer by which the asking one comes again over TCP (RFC 2181, 9).
    pub fn truncated(&self, forwards: bool) -> Vec<u8> {
        self.write(Code::Success, forwards, true, &[])
    }

    /// A message with the names of the network in it: it has no time to live, since they come and go.
    fn write(
        &self,
        code: Code,
        forwards: bool,
        truncated: bool,
        records: &[(u16, Vec<u8>)],
    ) -> Vec<u8> {
        let number = code as u16;
        let mut flags = RESPONSE | self.flags & (OPCODE | RECURSION_DESIRED | CHECKING_DISABLED);
        let bits = [
            (
                AUTHORITATIVE,
                matches!(code, Code::Success | Code::NoSuchName) && !truncated,
            ),
            (TRUNCATED, truncated),
            (RECURSION_AVAILABLE, forwards),
        ];
        flags |= bits
            .iter()
            .filter(|(_, set)| *set)
            .map(|(bit, _)| bit)
            .sum::<u16>();
        let count = |there: bool| u16::from(there);
        let records_count = u16::try_from(records.len()).unwrap_or(u16::MAX);
        let mut bytes = Vec::with_capacity(HEADER + self.question.len() + 28 * records.len() + 11);
        for word in [
            self.id,
            flags | number & 0xf,
            count(!self.question.is_empty()),
            records_count,
            0,
            count(self.edns.is_some()),
        ] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(&self.question);
        for (kind, data) in records.iter().take(records_count.into()) {
            // The name is the question's, which begins behind the header.
            for word in [0xc00c, *kind, INTERNET, 0, 0] {
                bytes.extend(word.to_be_bytes());
            }
            bytes.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
            bytes.extend(data);
        }
        if self.edns.is_some() {
            bytes.push(0);
            for word in [OPT, LONG, number >> 4 << 8, 0, 0] {
                bytes.extend(word.to_be_bytes());
            }
        }
        bytes
    }

    /// Whether a message is the answer to it, as it was passed on under this number: the name as well, by which whoever guesses a number
    /// has to know what it was for (RFC 5452, 4).
    pub fn is_answered_by(&self, message: &[u8], id: u16) -> bool {
        let Some(flags) = word(message, 2) else {
            return false;
        };
        let Some(question) = message.get(HEADER..HEADER + self.question.len()) else {
            return false;
        };
        let split = self.question.len() - 4;
        word(message, 0) == Some(id)
            && flags & RESPONSE != 0
            && word(message, 4) == Some(1)
            && question[..split].eq_ignore_ascii_case(&self.question[..split])
            && question[split..] == self.question[split..]
    }
}

/// Whether another's answer says that it could not, or would not, so that the next is to be asked.
pub fn is_failure(message: &[u8]) -> bool {
    let code = word(message, 2).unwrap_or_default() & 0xf;
    [Code::ServerFailed, Code::NotImplemented, Code::Refused].contains(&match code {
        2 => Code::ServerFailed,
        4 => Code::NotImplemented,
        5 => Code::Refused,
        _ => Code::Success,
    })
}

/// A message under another number.
pub fn renumber(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// The name in a question, in small letters; empty where it has a byte that no name of a host or a container has.
fn text(labels: &[u8]) -> String {
    let mut name = String::new();
    let mut rest = labels;
    while let [length, more @ ..] = rest {
        if *length == 0 {
            break;
        }
        let (label, after) = more.split_at(usize::from(*length).min(more.len()));
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_+".contains(byte);
        if !label.iter().all(fits) {
            return String::new();
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(
            label
                .iter()
                .map(|byte| char::from(byte.to_ascii_lowercase())),
        );
        rest = after;
    }
    name
}

/// The lines of an `/etc/hosts`: an address and its names.
fn lines(hosts: &str) -> impl Iterator<Item = (IpAddr, impl Iterator<Item = &str>)> {
    hosts.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?.parse().ok()?, words))
    })
}

/// The addresses of a name in an `/etc/hosts`.
pub fn addresses(hosts: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    // Most lines have other names, and are not read as addresses.
    for line in hosts.lines() {
        let mut words = line.split_ascii_whitespace();
        let ip = words.next();
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            found.extend(ip.and_then(|ip| ip.parse::<IpAddr>().ok()));
        }
    }
    found
}

/// The first name of an address in an `/etc/hosts`: the container's own.
pub fn name_of(hosts: &str, ip: IpAddr) -> Option<&str> {
    let mut with_it = lines(hosts).filter(|(one, _)| *one == ip);
    with_it.next()?.1.next()
}

/// Whether a container is on the network whose `/etc/hosts` this is.
pub fn has_container(hosts: &str, container: &str) -> bool {
    hosts
        .lines()
        .any(|line| line.split_ascii_whitespace().nth(1) == Some(container))
}

/// The servers and the search domains that a resolv.conf(5) names.
pub fn resolvers(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            // The resolver takes three (MAXNS).
            Some("nameserver") if servers.len() < 3 => servers.extend(words.next()),
            // The last one counts.
            Some("search" | "domain") => search = words.collect(),
            _ => {}
        }
    }
    (servers, search)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A query for a name, with EDNS of this size or without.
    fn query(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns.is_some().into()];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.bytes());
        }
        bytes.extend([0, 0, kind.to_be_bytes()[1], 0, 1]);
        if let Some(size) = edns {
            let [high, low] = size.to_be_bytes();
            bytes.extend([0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]);
        }
        bytes
    }

    fn read(name: &str, kind: u16, edns: Option<u16>) -> Query {
        Query::read(&query(name, kind, edns)).unwrap()
    }

    #[test]
    fn a_name_has_the_addresses_of_the_family_that_is_asked_for() {
        let hosts =
            "127.0.0.1\tlocalhost\n10.9.0.2\tweb www\nfd09::2\tweb www\n10.9.0.3\tother\n\n";
        let asked = read("WWW", A, None);
        assert_eq!(asked.name, "www");
        let addrs = addresses(hosts, &asked.name);
        assert_eq!(
            addrs,
            ["10.9.0.2", "fd09::2"].map(|it| it.parse::<IpAddr>().unwrap())
        );
        let answer = asked.answer_addresses(&addrs, true, 512);
        let mut expected = vec![0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        expected.extend(b"\x03WWW\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x0a\x09\0\x02");
        assert_eq!(answer, expected);
        // There is the name, without that.
        let answer = read("web", 15, None).answer_addresses(&addrs, true, 512);
        assert_eq!(answer[2..8], [0x85, 0x80, 0, 1, 0, 0]);
        assert_eq!(addresses(hosts, "nobody"), [] as [IpAddr; 0]);
        assert_eq!(name_of(hosts, "fd09::2".parse().unwrap()), Some("web"));
        assert!(has_container(hosts, "web") && !has_container(hosts, "www"));
    }

    #[test]
    fn addresses_are_asked_for_backwards() {
        let reverse = |name: &str| read(name, PTR, None).reverse();
        assert_eq!(
            reverse("2.0.9.10.in-addr.arpa"),
            Some("10.9.0.2".parse().unwrap())
        );
        let six = format!("2.{}9.0.d.f.ip6.arpa", "0.".repeat(27));
        assert_eq!(reverse(&six), Some("fd09::2".parse().unwrap()));
        for none in [
            "0.9.10.in-addr.arpa",
            "1.2.0.9.10.in-addr.arpa",
            "2.0.d.f.ip6.arpa",
            "web",
        ] {
            assert_eq!(reverse(none), None, "{none}");
        }
        let answer = read("2.0.9.10.in-addr.arpa", PTR, None).answer_name("a.b", true, 512);
        assert!(answer.ends_with(b"\0\x05\x01a\x01b\0"));
    }

    #[test]
    fn what_does_not_fit_is_truncated() {
        let addrs: Vec<IpAddr> = (0..90).map(|n| Ipv4Addr::new(10, 9, 0, n).into()).collect();
        for (edns, whole) in [
            (None, false),
            (Some(100), false),
            (Some(1000), false),
            (Some(4096), false),
        ] {
            let asked = read("many", A, edns);
            let answer = asked.answer_addresses(&addrs, true, asked.longest_datagram());
            assert_eq!(answer[2] & 2 == 0, whole, "{edns:?}");
            assert!(answer.len() < 100);
        }
        let few = &addrs[..60];
        let asked = read("many", A, Some(1232));
        let answer = asked.answer_addresses(few, true, asked.longest_datagram());
        assert_eq!((answer[2] & 2, answer[7]), (0, 60));
        assert_eq!(asked.answer_addresses(&addrs, true, 65535)[7], 90);
    }

    #[test]
    fn what_is_no_query_is_told_so_or_not_answered() {
        let code = |bytes: &[u8]| match Query::read(bytes) {
            Err(NoQuery::Answer(answer)) => Some(answer[3] & 0xf),
            Err(NoQuery::Silence) => None,
            Ok(_) => panic!("it is one"),
        };
        let good = query("web", A, Some(1232));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(code(&[]), None);
        assert_eq!(code(&good[..11]), None);
        // An answer.
        assert_eq!(code(&with(2, 0x81)), None);
        assert_eq!(code(&good[..20]), Some(1));
        // An update, two questions, none, an answer in it, a name that refers to itself, another class, a zone.
        assert_eq!(code(&with(2, 0x28)), Some(4));
        for (at, byte) in [(5, 2), (5, 0), (7, 1), (12, 0xc0), (12, 64)] {
            assert_eq!(code(&with(at, byte)), Some(1), "{at}");
        }
        assert_eq!(code(&with(20, 3)), Some(5));
        assert_eq!(code(&with(18, 252)), Some(5));
        assert_eq!(code(&with(11, 2)), Some(1));
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(code(&longer), Some(1));
        let endless = query(&"a.".repeat(200), A, None);
        assert_eq!(code(&endless), Some(1));
        let newer = with(good.len() - 5, 1);
        let Err(NoQuery::Answer(answer)) = Query::read(&newer) else {
            panic!("a version that is not known");
        };
        assert_eq!((answer[3] & 0xf, answer[answer.len() - 6]), (0, 1));
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let asked = read("example.org", A, None);
        let mut answer = asked.answer(Code::NoSuchName, true);
        assert!(!asked.is_answered_by(&answer, 7));
        renumber(&mut answer, 7);
        assert!(asked.is_answered_by(&answer, 7));
        answer[13] = b'E';
        assert!(asked.is_answered_by(&answer, 7));
        answer[13] = b'f';
        assert!(!asked.is_answered_by(&answer, 7));
        assert!(!asked.is_answered_by(&query("example.org", A, None), 0x1234));
        assert!(!asked.is_answered_by(&answer[..20], 7));
        assert!(is_failure(&asked.answer(Code::Refused, true)));
        assert!(!is_failure(&asked.answer(Code::NoSuchName, true)));
    }

    #[test]
    fn servers_and_domains_are_read() {
        let text = "# x\nsearch a.org b.org\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 3\nnameserver 4\n";
        assert_eq!(
            resolvers(text),
            (
                vec!["192.0.2.1", "fe80::1%eth0", "3"],
                vec!["a.org", "b.org"]
            )
        );
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Query::read(&bytes);
        }

        #[test]
        fn a_changed_query_never_panics(at in 0usize..40, byte: u8, cut in 0usize..45) {
            let mut bytes = query("web.example.org", A, Some(1232));
            let last = bytes.len() - 1;
            bytes[at.min(last)] = byte;
            bytes.truncate(cut);
            if let Ok(read) = Query::read(&bytes) {
                let _ = (read.reverse(), read.is_answered_by(&bytes, 1));
                let _ = read.answer_name("a", true, 512);
            }
        }
    }
}
