//! The strict decoder of entries: canonical CBOR (RFC 8949, section 4.2.1) and nothing else.
//!
//! Allowed are unsigned integers, byte strings, UTF-8 text, arrays, maps with ascending unsigned
//! keys, booleans and null; heads are as short as they can be and lengths are definite. So each
//! value has one spelling: what decodes is what an encoder would write again, byte for byte, and
//! an entry cannot be changed without changing its hash *and* its meaning.
//!
//! Values borrow from the input. Nothing is allocated, nesting is bounded by [`DEPTH_MAX`], and
//! a fault names the byte at which it was found.

use std::fmt;

/// Most bytes of one entry: the length in an entry bundle has 16 bits.
pub const ENTRY_BYTES_MAX: usize = 65_535;
/// Most levels of arrays and maps inside one another.
pub const DEPTH_MAX: usize = 16;

/// Bytes that are not a canonical entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {what}")]
pub struct Malformed {
    /// Byte of the input at which the fault lies.
    pub offset: usize,
    /// What is wrong there.
    pub what: Fault,
}

/// What may be wrong with bytes that claim to be canonical CBOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes end inside a value.
    Truncated,
    /// An integer or a length is written longer than needed.
    LongHead,
    /// A length that is not known beforehand.
    Indefinite,
    /// A negative integer.
    Negative,
    /// A tag.
    Tag,
    /// A floating-point number, `undefined` or an unassigned simple value.
    Simple,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A key that is no unsigned integer.
    KeyType,
    /// A key that is smaller than the one before.
    KeyOrder,
    /// A key that is there twice.
    KeyTwice,
    /// Arrays and maps nested deeper than [`DEPTH_MAX`].
    Deep,
    /// Bytes behind the value.
    Trailing,
    /// Something other than a map at the top.
    NotMap,
    /// More than [`ENTRY_BYTES_MAX`] bytes.
    TooLong,
    /// A field that each entry has is not there.
    Missing(u64),
    /// A field holds another type or length than its number says.
    FieldType(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Truncated => "the bytes end inside a value",
            Self::LongHead => "an integer or a length is written longer than needed",
            Self::Indefinite => "an indefinite length",
            Self::Negative => "a negative integer",
            Self::Tag => "a tag",
            Self::Simple => "a float or a simple value that is not allowed",
            Self::NotUtf8 => "text that is not utf-8",
            Self::KeyType => "a key that is no unsigned integer",
            Self::KeyOrder => "a key that is smaller than the one before",
            Self::KeyTwice => "a key that is there twice",
            Self::Deep => "values nested too deep",
            Self::Trailing => "bytes behind the end of the value",
            Self::NotMap => "no map at the top",
            Self::TooLong => "more bytes than an entry may have",
            Self::Missing(field) => return write!(f, "field {field} is missing"),
            Self::FieldType(field) => {
                return write!(f, "field {field} holds another type or length than it must");
            }
        };
        f.write_str(text)
    }
}

/// One value, borrowed from the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An unsigned integer.
    Uint(u64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// Text.
    Text(&'a str),
    /// An array; its items are read by iterating.
    Array(Array<'a>),
    /// A map with unsigned keys; its fields are read by iterating.
    Map(Map<'a>),
    /// `true` or `false`.
    Bool(bool),
    /// Null.
    Null,
}

impl<'a> Value<'a> {
    /// The integer, if it is one.
    pub fn uint(self) -> Option<u64> {
        if let Self::Uint(value) = self { Some(value) } else { None }
    }

    /// The bytes of a byte string, or of a text.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Text(text) => Some(text.as_bytes()),
            Self::Uint(_) | Self::Array(_) | Self::Map(_) | Self::Bool(_) | Self::Null => None,
        }
    }

    /// The bytes of a byte string only.
    pub fn byte_string(self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The text, if it is one.
    pub fn text(self) -> Option<&'a str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The byte string as an array of exactly `N` bytes.
    pub fn array<const N: usize>(self) -> Option<&'a [u8; N]> {
        if let Self::Bytes(bytes) = self { bytes.try_into().ok() } else { None }
    }

    /// The boolean, if it is one.
    pub fn bool(self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(value) } else { None }
    }
}

/// An array that was checked to be canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array<'a> {
    items: &'a [u8],
    count: u64,
}

impl<'a> Array<'a> {
    /// Number of items.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut cursor = Cursor { bytes: self.items, at: 0 };
        // The bytes were checked before this array was made, so reading them again succeeds.
        (0..self.count).map_while(move |_| cursor.value(0).ok())
    }
}

/// A map with unsigned, ascending keys that was checked to be canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map<'a> {
    fields: &'a [u8],
    count: u64,
}

impl<'a> Map<'a> {
    /// Reads one map that fills `bytes`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor { bytes, at: 0 };
        let value = match cursor.value(0)? {
            Value::Map(map) => map,
            Value::Uint(_)
            | Value::Bytes(_)
            | Value::Text(_)
            | Value::Array(_)
            | Value::Bool(_)
            | Value::Null => return Err(Malformed { offset: 0, what: Fault::NotMap }),
        };
        cursor.finish()?;
        Ok(value)
    }

    /// Number of fields.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The fields in ascending order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Value<'a>)> + use<'a> {
        fields(self.fields, self.count)
    }

    /// The value of a field.
    pub fn get(&self, key: u64) -> Option<Value<'a>> {
        find(self.fields, self.count, key)
    }
}

/// One entry of the log. Decoding checks all of it; fields are read on demand.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    bytes: &'a [u8],
    fields: &'a [u8],
    count: u64,
    head: Head<'a>,
}

/// The fields that nearly each entry has, read while its bytes are checked.
#[derive(Clone, Copy, Debug)]
struct Head<'a> {
    version: u64,
    event: u64,
    salt: &'a [u8; 16],
    time: u64,
    boot: Option<u64>,
    clock: Option<u64>,
    session: Option<&'a [u8; 16]>,
    seq: Option<u64>,
    intent: Option<u64>,
    values: Option<u64>,
    mode: Option<u64>,
}

/// A session's identifier.
pub type SessionId = [u8; 16];

impl<'a> Entry<'a> {
    /// Reads and checks one entry that fills `bytes`.
    ///
    /// Fields whose numbers are unknown here are checked for canonical form and kept; fields that
    /// the verifier relies on must have the type that their number says.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(Malformed { offset: ENTRY_BYTES_MAX, what: Fault::TooLong });
        }
        let mut cursor = Cursor { bytes, at: 0 };
        let (major, count) = cursor.head()?;
        if major != MAP {
            return Err(Malformed { offset: 0, what: Fault::NotMap });
        }
        let start = cursor.at;
        let mut head = Loose::default();
        let mut last = None;
        for _ in 0..count {
            let at = cursor.at;
            let key = cursor.key(&mut last)?;
            let here = cursor.at;
            let wrong = || Malformed { offset: here, what: Fault::FieldType(key) };
            // The checked fields have small numbers and come first.
            match key {
                0 => head.version = Some(cursor.value(0)?.uint().ok_or_else(wrong)?),
                1 => head.event = Some(cursor.value(0)?.uint().ok_or_else(wrong)?),
                2 => head.salt = Some(cursor.value(0)?.array().ok_or_else(wrong)?),
                3 => head.time = Some(cursor.value(0)?.uint().ok_or_else(wrong)?),
                4 => head.boot = Some(cursor.value(0)?.uint().ok_or_else(wrong)?),
                5 => head.clock = Some(cursor.value(0)?.uint().ok_or_else(wrong)?),
                6 => head.session = Some(cursor.value(0)?.array().ok_or_else(wrong)?),
                7 => head.seq = Some(cursor.value(0)?.uint().ok_or_else(wrong)?),
                18 => head.intent = Some(cursor.value(0)?.uint().ok_or_else(wrong)?),
                23 => head.values = Some(cursor.value(0)?.uint().ok_or_else(wrong)?),
                200 => head.mode = Some(cursor.value(0)?.uint().ok_or_else(wrong)?),
                _ => cursor.check(1)?,
            }
            debug_assert!(cursor.at > at);
        }
        let end = cursor.at;
        cursor.finish()?;
        let missing = |field| Malformed { offset: start, what: Fault::Missing(field) };
        let head = Head {
            version: head.version.ok_or(missing(0))?,
            event: head.event.ok_or(missing(1))?,
            salt: head.salt.ok_or(missing(2))?,
            time: head.time.ok_or(missing(3))?,
            boot: head.boot,
            clock: head.clock,
            session: head.session,
            seq: head.seq,
            intent: head.intent,
            values: head.values,
            mode: head.mode,
        };
        Ok(Self { bytes, fields: &bytes[start..end], count, head })
    }

    /// All bytes of the entry: what its leaf hashes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Field 0: version of the schema.
    pub fn version(&self) -> u64 {
        self.head.version
    }

    /// Field 1: number of the event.
    pub fn event(&self) -> u64 {
        self.head.event
    }

    /// Field 2: random bytes that keep the leaf from being guessed.
    pub fn salt(&self) -> &'a [u8; 16] {
        self.head.salt
    }

    /// Field 3: wall time in nanoseconds since 1970.
    pub fn time_ns(&self) -> u64 {
        self.head.time
    }

    /// Field 4: nanoseconds since boot, suspend included.
    pub fn boot_ns(&self) -> Option<u64> {
        self.head.boot
    }

    /// Field 5: number of the clock entry in force.
    pub fn clock(&self) -> Option<u64> {
        self.head.clock
    }

    /// Field 6: the session it belongs to.
    pub fn session(&self) -> Option<&'a SessionId> {
        self.head.session
    }

    /// Field 7: its number in the session.
    pub fn seq(&self) -> Option<u64> {
        self.head.seq
    }

    /// Field 18: the number in the session of the intent that it answers.
    pub fn intent(&self) -> Option<u64> {
        self.head.intent
    }

    /// Field 23: kind of key of the values that follow it, if values follow it.
    pub fn values(&self) -> Option<u64> {
        self.head.values
    }

    /// Field 200: number of the mode in which statements wait for the disk.
    pub fn mode(&self) -> Option<u64> {
        self.head.mode
    }

    /// The value of a field.
    pub fn get(&self, field: u64) -> Option<Value<'a>> {
        find(self.fields, self.count, field)
    }

    /// The integer in a field.
    pub fn uint(&self, field: u64) -> Option<u64> {
        self.get(field).and_then(Value::uint)
    }

    /// The text in a field.
    pub fn text(&self, field: u64) -> Option<&'a str> {
        self.get(field).and_then(Value::text)
    }

    /// The bytes in a field, if they are exactly `N`.
    pub fn array<const N: usize>(&self, field: u64) -> Option<&'a [u8; N]> {
        self.get(field).and_then(Value::array)
    }

    /// All fields in ascending order of their numbers, known or not.
    pub fn fields(&self) -> impl Iterator<Item = (u64, Value<'a>)> + use<'a> {
        fields(self.fields, self.count)
    }
}

#[derive(Default)]
struct Loose<'a> {
    version: Option<u64>,
    event: Option<u64>,
    salt: Option<&'a [u8; 16]>,
    time: Option<u64>,
    boot: Option<u64>,
    clock: Option<u64>,
    session: Option<&'a [u8; 16]>,
    seq: Option<u64>,
    intent: Option<u64>,
    values: Option<u64>,
    mode: Option<u64>,
}

fn fields<'a>(bytes: &'a [u8], count: u64) -> impl Iterator<Item = (u64, Value<'a>)> + use<'a> {
    let mut cursor = Cursor { bytes, at: 0 };
    (0..count).map_while(move |_| {
        let key = cursor.head().ok()?.1;
        Some((key, cursor.value(0).ok()?))
    })
}

/// Finds a field in checked bytes. Keys ascend, so the search ends at the first larger one.
fn find<'a>(bytes: &'a [u8], count: u64, wanted: u64) -> Option<Value<'a>> {
    let mut cursor = Cursor { bytes, at: 0 };
    for _ in 0..count {
        let key = cursor.head().ok()?.1;
        match key.cmp(&wanted) {
            std::cmp::Ordering::Less => cursor.skip()?,
            std::cmp::Ordering::Equal => return cursor.value(0).ok(),
            std::cmp::Ordering::Greater => return None,
        }
    }
    None
}

const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Reads the head of a value: its major type and its number or length.
    fn head(&mut self) -> Result<(u8, u64), Malformed> {
        let at = self.at;
        let fault = |what| Malformed { offset: at, what };
        let first = *self.bytes.get(at).ok_or_else(|| fault(Fault::Truncated))?;
        let (major, low) = (first >> 5, first & 0x1f);
        let (bytes, least) = match low {
            0..=23 => {
                self.at = at + 1;
                return Ok((major, u64::from(low)));
            }
            24 => (1, 24),
            25 => (2, 0x100),
            26 => (4, 0x1_0000),
            27 => (8, 0x1_0000_0000),
            28..=30 => return Err(fault(Fault::Simple)),
            _ => return Err(fault(Fault::Indefinite)),
        };
        let end = at + 1 + bytes;
        let tail = self.bytes.get(at + 1..end).ok_or_else(|| fault(Fault::Truncated))?;
        let value = tail.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        // Major type 7 is judged by its caller: floats and simple values have no shortest form.
        if major != 7 && value < least {
            return Err(fault(Fault::LongHead));
        }
        self.at = end;
        Ok((major, value))
    }

    fn key(&mut self, last: &mut Option<u64>) -> Result<u64, Malformed> {
        let at = self.at;
        let (major, key) = self.head()?;
        if major != UINT {
            return Err(Malformed { offset: at, what: Fault::KeyType });
        }
        match *last {
            Some(before) if key == before => {
                return Err(Malformed { offset: at, what: Fault::KeyTwice });
            }
            Some(before) if key < before => {
                return Err(Malformed { offset: at, what: Fault::KeyOrder });
            }
            Some(_) | None => *last = Some(key),
        }
        Ok(key)
    }

    fn take(&mut self, head: usize, count: u64) -> Result<&'a [u8], Malformed> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(count)
            .ok()
            .and_then(|count| rest.get(..count))
            .ok_or(Malformed { offset: head, what: Fault::Truncated })?;
        self.at += taken.len();
        Ok(taken)
    }

    /// Reads and checks one value; arrays and maps are checked to their ends.
    fn value(&mut self, depth: usize) -> Result<Value<'a>, Malformed> {
        let at = self.at;
        let fault = |what| Malformed { offset: at, what };
        let (major, number) = self.head()?;
        match major {
            UINT => Ok(Value::Uint(number)),
            BYTES => Ok(Value::Bytes(self.take(at, number)?)),
            TEXT => {
                let start = self.at;
                let bytes = self.take(at, number)?;
                std::str::from_utf8(bytes).map(Value::Text).map_err(|error| Malformed {
                    offset: start + error.valid_up_to(),
                    what: Fault::NotUtf8,
                })
            }
            ARRAY => {
                let start = self.at;
                self.items(depth + 1, number)?;
                Ok(Value::Array(Array { items: &self.bytes[start..self.at], count: number }))
            }
            MAP => {
                let start = self.at;
                self.pairs(depth + 1, number)?;
                Ok(Value::Map(Map { fields: &self.bytes[start..self.at], count: number }))
            }
            NEGATIVE => Err(fault(Fault::Negative)),
            TAG => Err(fault(Fault::Tag)),
            _ => match self.bytes[at] {
                0xf4 => Ok(Value::Bool(false)),
                0xf5 => Ok(Value::Bool(true)),
                0xf6 => Ok(Value::Null),
                _ => Err(fault(Fault::Simple)),
            },
        }
    }

    fn check(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed { offset: self.at, what: Fault::Deep });
        }
        self.value(depth).map(drop)
    }

    fn items(&mut self, depth: usize, count: u64) -> Result<(), Malformed> {
        // Each item has at least one byte, so a huge count ends at the end of the bytes.
        for _ in 0..count {
            self.check(depth)?;
        }
        Ok(())
    }

    fn pairs(&mut self, depth: usize, count: u64) -> Result<(), Malformed> {
        let mut last = None;
        for _ in 0..count {
            self.key(&mut last)?;
            self.check(depth)?;
        }
        Ok(())
    }

    /// Steps over a value in bytes that were checked.
    fn skip(&mut self) -> Option<()> {
        let (major, number) = self.head().ok()?;
        match major {
            BYTES | TEXT => drop(self.take(0, number).ok()?),
            ARRAY => (0..number).try_for_each(|_| self.skip())?,
            MAP => (0..number).try_for_each(|_| {
                self.skip()?;
                self.skip()
            })?,
            _ => {}
        }
        Some(())
    }

    fn finish(self) -> Result<(), Malformed> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(Malformed { offset: self.at, what: Fault::Trailing })
        }
    }
}

/// Writes canonical CBOR: the counterpart for what the verifier itself writes (session bundles).
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Opens a map of `count` fields; the caller writes keys in ascending order.
    pub fn map(&mut self, count: usize) -> &mut Self {
        self.head(MAP, count as u64)
    }

    /// Opens an array of `count` items.
    pub fn array(&mut self, count: usize) -> &mut Self {
        self.head(ARRAY, count as u64)
    }

    /// An unsigned integer, or a key.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.head(UINT, value)
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(BYTES, bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.head(TEXT, text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn head(&mut self, major: u8, value: u64) -> &mut Self {
        let major = major << 5;
        match value {
            0..=23 => self.bytes.push(major | value as u8),
            24..=0xff => self.bytes.extend_from_slice(&[major | 24, value as u8]),
            0x100..=0xffff => {
                self.bytes.push(major | 25);
                self.bytes.extend_from_slice(&(value as u16).to_be_bytes());
            }
            0x1_0000..=0xffff_ffff => {
                self.bytes.push(major | 26);
                self.bytes.extend_from_slice(&(value as u32).to_be_bytes());
            }
            _ => {
                self.bytes.push(major | 27);
                self.bytes.extend_from_slice(&value.to_be_bytes());
            }
        }
        self
    }
}

#[cfg(test)]
#[path = "cbor_tests.rs"]
mod tests;
