//! Attributes of netlink messages (netlink(7)), for the families that have no crate here.

/// That an attribute is one of attributes, beside its kind (linux/netlink.h).
const NLA_F_NESTED: u16 = 1 << 15;

/// Attributes, one after the other.
#[derive(Default)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// What goes into a message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// An attribute of bytes as they are.
    ///
    /// # Panics
    /// When it is longer than the 64 KiB that one can have.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("attributes here are short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// An attribute of text.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat());
    }

    /// A number as nftables has them: big-endian, unlike those of other families.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute of attributes.
    pub fn nested(&mut self, kind: u16, inner: &Attributes) {
        self.nested_bytes(kind, &inner.0);
    }

    /// The same of attributes as the kernel has told them.
    pub fn nested_bytes(&mut self, kind: u16, inner: &[u8]) {
        self.bytes(kind | NLA_F_NESTED, inner);
    }

    /// A value that nftables compares with (NFTA_DATA_VALUE).
    pub fn value(&mut self, kind: u16, value: &[u8]) {
        let mut inner = Attributes::default();
        inner.bytes(1, value);
        self.nested(kind, &inner);
    }
}

/// The first attribute of a kind among those that the kernel tells.
pub fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut all = read(bytes);
    all.find_map(|(kind, value)| (kind == wanted).then_some(value))
}

/// The attributes that the kernel tells, each with its kind.
pub fn read(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [a, b, c, d, ..] = *rest else {
            return None;
        };
        let length = usize::from(u16::from_ne_bytes([a, b])).max(4);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & !NLA_F_NESTED, value))
    })
}
