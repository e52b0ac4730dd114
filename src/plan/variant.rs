//! Values of D-Bus types (D-Bus specification, Type System), as far as properties of units have them, and the text in which
//! annotations of a bundle give them (GVariant Text Format).

use std::fmt;

use serde::Serialize;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    Int16(i16),
    /// `q`
    Uint16(u16),
    /// `i`
    Int32(i32),
    /// `u`
    Uint32(u32),
    /// `x`
    Int64(i64),
    /// `t`
    Uint64(u64),
    /// `s`
    Text(String),
    /// `o`
    ObjectPath(String),
    /// `g`
    Signature(String),
    /// `a`, with the type of its items, of which there may be none.
    Array(String, Vec<Value>),
    /// `(…)`
    Tuple(Vec<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// Its type.
    pub fn signature(&self) -> String {
        match self {
            Value::Byte(_) => "y".to_owned(),
            Value::Bool(_) => "b".to_owned(),
            Value::Int16(_) => "n".to_owned(),
            Value::Uint16(_) => "q".to_owned(),
            Value::Int32(_) => "i".to_owned(),
            Value::Uint32(_) => "u".to_owned(),
            Value::Int64(_) => "x".to_owned(),
            Value::Uint64(_) => "t".to_owned(),
            Value::Text(_) => "s".to_owned(),
            Value::ObjectPath(_) => "o".to_owned(),
            Value::Signature(_) => "g".to_owned(),
            Value::Array(of, _) => format!("a{of}"),
            Value::Tuple(items) => {
                let inner: String = items.iter().map(Value::signature).collect();
                format!("({inner})")
            }
            Value::Variant(_) => "v".to_owned(),
        }
    }
}

/// Short, for people: without the types.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[Value]| {
            for (index, item) in items.iter().enumerate() {
                f.write_str(if index == 0 { "" } else { " " })?;
                item.fmt(f)?;
            }
            Ok(())
        };
        match self {
            Value::Byte(n) => write!(f, "{n:02x}"),
            Value::Bool(b) => f.write_str(if *b { "yes" } else { "no" }),
            Value::Int16(n) => write!(f, "{n}"),
            Value::Uint16(n) => write!(f, "{n}"),
            Value::Int32(n) => write!(f, "{n}"),
            Value::Uint32(n) => write!(f, "{n}"),
            Value::Int64(n) => write!(f, "{n}"),
            // As systemd has it for every limit.
            Value::Uint64(u64::MAX) => f.write_str("infinity"),
            Value::Uint64(n) => write!(f, "{n}"),
            Value::Text(text) | Value::ObjectPath(text) | Value::Signature(text) => {
                f.write_str(text)
            }
            Value::Array(_, items) => {
                f.write_str("[")?;
                list(f, items)?;
                f.write_str("]")
            }
            Value::Tuple(items) => {
                f.write_str("(")?;
                list(f, items)?;
                f.write_str(")")
            }
            Value::Variant(value) => value.fmt(f),
        }
    }
}

/// The first complete type of a signature, and the rest; none when there is no such type.
pub fn first_type(signature: &str) -> Option<(&str, &str)> {
    let length = type_length(signature.as_bytes())?;
    Some(signature.split_at(length))
}

fn type_length(signature: &[u8]) -> Option<usize> {
    match signature.first()? {
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b's' | b'o' | b'g' | b'v' => {
            Some(1)
        }
        b'a' => Some(1 + type_length(&signature[1..])?),
        b'(' => {
            let mut length = 1;
            while signature.get(length)? != &b')' {
                length += type_length(&signature[length..])?;
            }
            (length > 1).then_some(length + 1)
        }
        _ => None,
    }
}

/// Reads a value from its text: `uint64 5`, `'a'`, `[('r', true)]`, `@as []`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { rest: text };
    let value = reader.value(None)?;
    reader.skip_space();
    if reader.rest.is_empty() {
        Ok(value)
    } else {
        Err(format!("has `{}` after its end", reader.rest))
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, what: char) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// What comes next, up to the first character that is none of its kind.
    fn word(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A value, of a given type if one was given before it.
    fn value(&mut self, wanted: Option<&str>) -> Result<Value, String> {
        self.skip_space();
        match self.rest.chars().next() {
            None => Err("ends where a value should be".to_owned()),
            Some('@') => {
                self.rest = &self.rest[1..];
                let signature = self.word(|c| !c.is_whitespace());
                match first_type(signature) {
                    Some((whole, "")) => self.value(Some(whole)),
                    _ => Err(format!("has `@{signature}`, which is no type")),
                }
            }
            Some('\'' | '"') => {
                let text = self.string()?;
                match wanted {
                    None | Some("s") => Ok(Value::Text(text)),
                    Some("o") => Ok(Value::ObjectPath(text)),
                    Some("g") => Ok(Value::Signature(text)),
                    Some(other) => Err(unfit(&text, other)),
                }
            }
            Some('[') => self.array(wanted),
            Some('(') => self.tuple(wanted),
            Some('0'..='9' | '+' | '-') => {
                let word = self.word(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
                number(word, wanted.unwrap_or("i"))
            }
            Some(_) => {
                let word = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
                match (word, wanted) {
                    ("true", None | Some("b")) => Ok(Value::Bool(true)),
                    ("false", None | Some("b")) => Ok(Value::Bool(false)),
                    _ => match keyword(word) {
                        Some(signature) => self.value(Some(signature)),
                        None => Err(format!("has `{word}{}`, which is no value", self.rest)),
                    },
                }
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let mut chars = self.rest.char_indices();
        let quote = chars.next().map(|(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            if Some(c) == quote {
                self.rest = &self.rest[at + 1..];
                return Ok(text);
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            match chars.next().map(|(_, escaped)| escaped) {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(escaped @ ('\\' | '\'' | '"')) => text.push(escaped),
                Some(other) => return Err(format!("has `\\{other}`, which is no escape here")),
                None => break,
            }
        }
        Err("has a string without an end".to_owned())
    }

    fn array(&mut self, wanted: Option<&str>) -> Result<Value, String> {
        self.take('[');
        let mut of = match wanted {
            None => None,
            Some(wanted) => match wanted.strip_prefix('a') {
                Some(of) => Some(of.to_owned()),
                None => return Err(unfit("[…]", wanted)),
            },
        };
        let mut items = Vec::new();
        while !self.take(']') {
            if !items.is_empty() && !self.take(',') {
                return Err("has an array without an end".to_owned());
            }
            let item = self.value(of.as_deref())?;
            // All items are of the first one's type.
            of = Some(item.signature());
            items.push(item);
        }
        match of {
            Some(of) => Ok(Value::Array(of, items)),
            None => Err("has `[]` without its type, as in `@as []`".to_owned()),
        }
    }

    fn tuple(&mut self, wanted: Option<&str>) -> Result<Value, String> {
        self.take('(');
        let mut types = match wanted {
            None => None,
            Some(wanted) => match wanted.strip_prefix('(').and_then(|w| w.strip_suffix(')')) {
                Some(types) => Some(types),
                None => return Err(unfit("(…)", wanted)),
            },
        };
        let mut items = Vec::new();
        while !self.take(')') {
            if !items.is_empty() && !self.take(',') {
                return Err("has a tuple without an end".to_owned());
            }
            // The comma after the only item of a tuple.
            if !items.is_empty() && self.take(')') {
                break;
            }
            let own = match types {
                None => None,
                Some(rest) => {
                    let (own, rest) = first_type(rest).ok_or("has a tuple that is too long")?;
                    types = Some(rest);
                    Some(own)
                }
            };
            items.push(self.value(own)?);
        }
        if items.is_empty() || types.is_some_and(|rest| !rest.is_empty()) {
            return Err("has a tuple that is too short".to_owned());
        }
        Ok(Value::Tuple(items))
    }
}

fn unfit(text: &str, signature: &str) -> String {
    format!("has `{text}`, which is no value of the type `{signature}`")
}

fn keyword(word: &str) -> Option<&'static str> {
    Some(match word {
        "boolean" => "b",
        "byte" => "y",
        "int16" => "n",
        "uint16" => "q",
        "int32" => "i",
        "uint32" => "u",
        "int64" => "x",
        "uint64" => "t",
        "string" => "s",
        "objectpath" => "o",
        "signature" => "g",
        _ => return None,
    })
}

fn number(word: &str, signature: &str) -> Result<Value, String> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    let (radix, digits) = if let Some(hex) = digits.strip_prefix("0x") {
        (16, hex)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, digits)
    } else {
        (10, digits)
    };
    let bad = || unfit(word, signature);
    let number = sign * i128::from_str_radix(digits, radix).map_err(|_| bad())?;
    let value = match signature {
        "y" => u8::try_from(number).map(Value::Byte),
        "n" => i16::try_from(number).map(Value::Int16),
        "q" => u16::try_from(number).map(Value::Uint16),
        "i" => i32::try_from(number).map(Value::Int32),
        "u" => u32::try_from(number).map(Value::Uint32),
        "x" => i64::try_from(number).map(Value::Int64),
        "t" => u64::try_from(number).map(Value::Uint64),
        _ => return Err(bad()),
    };
    value.map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read() {
        for (text, signature, shown) in [
            ("true", "b", "yes"),
            ("boolean false", "b", "no"),
            ("5", "i", "5"),
            ("-0x10", "i", "-16"),
            ("uint64 18446744073709551615", "t", "infinity"),
            (" byte  010 ", "y", "08"),
            ("'it\\'s'", "s", "it's"),
            ("\"inactive-or-failed\"", "s", "inactive-or-failed"),
            ("objectpath '/a'", "o", "/a"),
            ("@as []", "as", "[]"),
            ("['a', 'b']", "as", "[a b]"),
            ("[uint64 1, 2]", "at", "[1 2]"),
            ("@a(st) [('/dev/vda', 5)]", "a(st)", "[(/dev/vda 5)]"),
            ("('a',)", "(s)", "(a)"),
            ("[('/dev/null', 'rwm')]", "a(ss)", "[(/dev/null rwm)]"),
        ] {
            let value = parse(text).unwrap();
            assert_eq!(
                (value.signature(), value.to_string()),
                (signature.to_owned(), shown.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_value_is_told() {
        for (text, why) in [
            ("", "ends where a value should be"),
            ("abc", "has `abc`, which is no value"),
            ("true false", "has `false` after its end"),
            ("'a", "has a string without an end"),
            ("'\\q'", "has `\\q`, which is no escape here"),
            (
                "3000000000",
                "has `3000000000`, which is no value of the type `i`",
            ),
            ("uint32 -1", "has `-1`, which is no value of the type `u`"),
            ("uint32 'a'", "has `a`, which is no value of the type `u`"),
            ("1.5", "has `1.5`, which is no value of the type `i`"),
            ("[]", "has `[]` without its type, as in `@as []`"),
            ("[1, 'a']", "has `a`, which is no value of the type `i`"),
            ("[1", "has an array without an end"),
            ("@az []", "has `@az`, which is no type"),
            ("@(ss) ('a',)", "has a tuple that is too short"),
            ("@(s) ('a', 'b')", "has a tuple that is too long"),
            ("()", "has a tuple that is too short"),
            (
                "@as ('a',)",
                "has `(…)`, which is no value of the type `as`",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn a_signature_begins_with_a_type() {
        assert_eq!(first_type("a(sa(sv))u"), Some(("a(sa(sv))", "u")));
        assert_eq!(first_type("su"), Some(("s", "u")));
        for none in ["", "a", "()", "(s", "z", "a{sv}"] {
            assert_eq!(first_type(none), None, "{none}");
        }
    }
}
