//! Writing entries as CBOR, always the same bytes for the same content.
//!
//! Core deterministic encoding (RFC 8949, section 4.2.1) of a small part of CBOR: unsigned
//! integers, byte strings, texts, arrays, maps with ascending unsigned keys, `true`, `false`,
//! `null`. What is hashed is what is written here; nothing is ever encoded a second time.

use std::borrow::Cow;
use std::convert::Infallible;

use minicbor::Encoder;
use minicbor::encode::Error;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

use super::schema::{Field, Kind};
use super::time::WallNanos;

/// Longest [`Encoded`], in bytes.
pub const ENCODED_BYTES_MAX: usize = 40 << 10;

/// Longest text of the agent's own in an entry, in bytes: what is longer ends in an ellipsis.
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// A map being written: an entry, or an object in one. Fields are written in ascending order.
pub struct Map<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    count: u32,
    last: Option<u8>,
}

impl<'o> Map<'o> {
    /// Begins a map at the end of `out`.
    pub fn begin(out: &'o mut Vec<u8>) -> Self {
        let start = out.len();
        out.push(0); // the head: its length is known at the end
        Self { out, start, count: 0, last: None }
    }

    /// Ends it.
    pub fn end(self) {
        const MAP: u8 = 5 << 5;
        match self.count {
            0..24 => self.out[self.start] = MAP | self.count as u8,
            24.. => {
                // Keys are bytes: there are never more than 256.
                self.out[self.start] = MAP | 24;
                self.out.insert(self.start + 1, self.count as u8);
            }
        }
    }

    #[inline]
    fn key(&mut self, number: u8) {
        debug_assert!(self.last.is_none_or(|last| last < number), "field {number} out of order");
        self.last = Some(number);
        self.count += 1;
        self.put(|encoder| encoder.u8(number));
    }

    #[inline]
    fn put<'e>(&'e mut self, write: impl for<'r> FnOnce(&'r mut Sequence<'e>) -> Written<'r, 'e>) {
        put(self.out, write);
    }

    /// A number.
    #[inline]
    pub fn uint(&mut self, number: u8, value: u64) {
        self.key(number);
        self.put(|encoder| encoder.u64(value));
    }

    /// A number that may be absent.
    pub fn uint_if(&mut self, number: u8, value: Option<u64>) {
        if let Some(value) = value {
            self.uint(number, value);
        }
    }

    /// Numbers; an empty list is left out.
    pub fn uints(&mut self, number: u8, values: impl ExactSizeIterator<Item = u64>) {
        if values.len() == 0 {
            return;
        }
        self.key(number);
        self.put(|encoder| encoder.array(values.len() as u64));
        values.for_each(|value| self.put(|encoder| encoder.u64(value)));
    }

    /// `true` or `false`.
    pub fn flag(&mut self, number: u8, value: bool) {
        self.key(number);
        self.put(|encoder| encoder.bool(value));
    }

    /// A text, at most [`TEXT_BYTES_MAX`] bytes of it.
    pub fn text(&mut self, number: u8, value: &str) {
        self.key(number);
        let value = shortened(value);
        self.put(|encoder| encoder.str(&value));
    }

    /// A text that may be absent.
    pub fn text_if(&mut self, number: u8, value: Option<&str>) {
        if let Some(value) = value {
            self.text(number, value);
        }
    }

    /// Anything with a `Display`: addresses.
    pub fn display(&mut self, number: u8, value: impl std::fmt::Display) {
        self.text(number, &value.to_string());
    }

    /// Texts; an empty list is left out.
    pub fn texts<'t>(&mut self, number: u8, values: impl ExactSizeIterator<Item = &'t str>) {
        if values.len() == 0 {
            return;
        }
        self.key(number);
        self.put(|encoder| encoder.array(values.len() as u64));
        values.for_each(|value| self.put(|encoder| encoder.str(&shortened(value))));
    }

    /// Bytes.
    #[inline]
    pub fn bytes(&mut self, number: u8, value: &[u8]) {
        self.key(number);
        self.put(|encoder| encoder.bytes(value));
    }

    /// Bytes that may be absent.
    pub fn bytes_if(&mut self, number: u8, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.bytes(number, value);
        }
    }

    /// A moment.
    pub fn wall(&mut self, number: u8, value: WallNanos) {
        self.uint(number, value.0);
    }

    /// `null`: a value that is known to be NULL.
    pub fn null(&mut self, number: u8) {
        self.key(number);
        self.put(|encoder| encoder.null());
    }

    /// What was encoded before.
    pub fn encoded(&mut self, number: u8, value: &Encoded) {
        self.key(number);
        self.out.extend_from_slice(&value.0);
    }

    /// A map in the map.
    pub fn object(&mut self, number: u8, fill: impl FnOnce(&mut Map<'_>)) {
        self.key(number);
        let mut map = Map::begin(self.out);
        fill(&mut map);
        map.end();
    }

    /// An array of `count` maps, which `fill` pushes one by one.
    pub fn objects(&mut self, number: u8, count: usize, fill: impl FnOnce(&mut List<'_>)) {
        self.key(number);
        self.put(|encoder| encoder.array(count as u64));
        let mut list = List { out: self.out, left: count };
        fill(&mut list);
        debug_assert_eq!(list.left, 0, "an array of {count} maps");
    }
}

/// An array of maps being written.
pub struct List<'o> {
    out: &'o mut Vec<u8>,
    left: usize,
}

impl List<'_> {
    /// Maps that are still to come.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Writes the next map.
    pub fn object(&mut self, fill: impl FnOnce(&mut Map<'_>)) {
        self.left -= 1;
        let mut map = Map::begin(self.out);
        fill(&mut map);
        map.end();
    }
}

fn shortened(text: &str) -> Cow<'_, str> {
    const ELLIPSIS: &str = "…";
    if text.len() <= TEXT_BYTES_MAX {
        return text.into();
    }
    let end = text.floor_char_boundary(TEXT_BYTES_MAX - ELLIPSIS.len());
    format!("{}{ELLIPSIS}", &text[..end]).into()
}

type Sequence<'e> = Encoder<&'e mut Vec<u8>>;
type Written<'r, 'e> = Result<&'r mut Sequence<'e>, Error<Infallible>>;

#[inline]
fn put<'e>(
    out: &'e mut Vec<u8>,
    write: impl for<'r> FnOnce(&'r mut Sequence<'e>) -> Written<'r, 'e>,
) {
    write(&mut Encoder::new(out)).expect("a vector takes everything");
}

/// A value that was encoded once and is repeated: the identity of a process. Cloning counts a
/// reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded(Arc<[u8]>);

/// Why a value can't be an [`Encoded`].
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Its own `Serialize` failed.
    #[error("value cannot be rendered")]
    Render(#[from] serde_json::Error),
    /// The table has no such field, or another kind.
    #[error("`{0}` is not as the table has it")]
    Unexpected(String),
    /// Longer than [`ENCODED_BYTES_MAX`].
    #[error("value too long: found {0} bytes, expected at most {ENCODED_BYTES_MAX}")]
    TooLong(usize),
}

impl Encoded {
    /// Encodes what `value` serialises to, an object with the fields of `table`.
    pub fn object<T: Serialize + ?Sized>(
        table: &'static [Field],
        value: &T,
    ) -> Result<Self, EncodeError> {
        let value = serde_json::to_value(value)?;
        let mut out = Vec::new();
        encode(&mut out, "the value", Kind::Object(table), &value)?;
        if out.len() > ENCODED_BYTES_MAX {
            return Err(EncodeError::TooLong(out.len()));
        }
        Ok(Self(out.into()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn encode(out: &mut Vec<u8>, name: &str, kind: Kind, value: &Value) -> Result<(), EncodeError> {
    let unexpected = || EncodeError::Unexpected(name.to_owned());
    match (kind, value) {
        (Kind::Uint | Kind::Wall, Value::Number(number)) => {
            let number = number.as_u64().ok_or_else(unexpected)?;
            put(out, |encoder| encoder.u64(number));
        }
        (Kind::Flag, Value::Bool(flag)) => put(out, |encoder| encoder.bool(*flag)),
        (Kind::Text, Value::String(text)) => put(out, |encoder| encoder.str(text)),
        (Kind::Texts, Value::Array(items)) => array(out, name, Kind::Text, items)?,
        (Kind::Uints, Value::Array(items)) => array(out, name, Kind::Uint, items)?,
        (Kind::Objects(table), Value::Array(items)) => {
            array(out, name, Kind::Object(table), items)?;
        }
        (Kind::Pairs, Value::Object(pairs)) => {
            put(out, |encoder| encoder.array(pairs.len() as u64));
            for (key, value) in pairs {
                let value = value.as_str().ok_or_else(unexpected)?;
                put(out, |encoder| encoder.array(2));
                put(out, |encoder| encoder.str(key));
                put(out, |encoder| encoder.str(value));
            }
        }
        (Kind::Object(table), Value::Object(fields)) => {
            let known = |name: &&String| table.iter().any(|field| field.name == **name);
            if let Some(name) = fields.keys().find(|name| !known(name)) {
                return Err(EncodeError::Unexpected(name.clone()));
            }
            put(out, |encoder| encoder.map(fields.len() as u64));
            for field in table {
                if let Some(value) = fields.get(field.name) {
                    put(out, |encoder| encoder.u8(field.number));
                    encode(out, field.name, field.kind, value)?;
                }
            }
        }
        (
            Kind::Uint
            | Kind::Uints
            | Kind::Flag
            | Kind::Text
            | Kind::Texts
            | Kind::Peer
            | Kind::Value
            | Kind::Hex
            | Kind::Wall
            | Kind::Word(_)
            | Kind::Words(_)
            | Kind::Object(_)
            | Kind::Objects(_)
            | Kind::Pairs,
            _,
        ) => return Err(unexpected()),
    }
    Ok(())
}

fn array(out: &mut Vec<u8>, name: &str, kind: Kind, items: &[Value]) -> Result<(), EncodeError> {
    put(out, |encoder| encoder.array(items.len() as u64));
    items.iter().try_for_each(|item| encode(out, name, kind, item))
}
