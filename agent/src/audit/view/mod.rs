//! Entries as people and other programs read them.
//!
//! [`object`] turns one entry into JSON by the table of fields. [`Joined`] puts together what the
//! log keeps apart: a statement's text, intent and outcome, a session's start and login. [`line()`]
//! writes JSON so that it can go to a terminal.

mod join;
mod text;

pub use join::{Item, Joined};
pub use text::line;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minicbor::Decoder;
use minicbor::data::Type;
use serde_json::{Map, Value};

use super::schema::{self, ENTRY, EventKind, Field, Kind, PARAMETER, f};
use super::time::WallNanos;

/// Arrays and maps inside of each other that are followed.
const DEPTH_MAX: usize = 8;

/// An object of JSON.
pub type Object = Map<String, Value>;

/// Why an entry can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// It is no CBOR of the kind that entries are made of.
    #[error("not an entry: {0}")]
    Decode(#[from] minicbor::decode::Error),
    /// Nested too deep.
    #[error("not an entry: nested deeper than {DEPTH_MAX}")]
    Deep,
    /// Not a map, or something behind it.
    #[error("not an entry: {0}")]
    Shape(&'static str),
}

/// An entry as JSON. Fields and events that the table does not know are shown by their number, and
/// so is a field whose value is of another kind than the table says: nothing is dropped.
pub fn object(entry: &[u8]) -> Result<Object, ViewError> {
    let mut decoder = Decoder::new(entry);
    let mut out = Object::new();
    map(&mut decoder, ENTRY, &mut out, 0)?;
    if decoder.position() != entry.len() {
        return Err(ViewError::Shape("bytes behind its end"));
    }
    if let Some(number) = out.get("event").and_then(Value::as_u64) {
        let name = EventKind::from_number(number)
            .map_or_else(|| format!("event_{number}"), |kind| kind.name().to_owned());
        out.insert("event".to_owned(), name.into());
    }
    Ok(out)
}

/// Kind of an entry, without the rest. `None` for kinds that are not known.
pub fn kind(entry: &[u8]) -> Option<EventKind> {
    EventKind::from_number(uint(entry, f::EVENT)?)
}

/// When an entry was made.
fn time(entry: &[u8]) -> Option<WallNanos> {
    uint(entry, f::TIME).map(WallNanos)
}

/// One of the first fields of an entry.
fn uint(entry: &[u8], number: u8) -> Option<u64> {
    let mut decoder = Decoder::new(entry);
    for _ in 0..decoder.map().ok()?? {
        match decoder.u8().ok()? {
            found if found == number => return decoder.u64().ok(),
            found if found > number => return None,
            _ => decoder.skip().ok()?,
        }
    }
    None
}

fn map(
    decoder: &mut Decoder<'_>,
    table: &'static [Field],
    out: &mut Object,
    depth: usize,
) -> Result<(), ViewError> {
    let count = decoder.map()?.ok_or(ViewError::Shape("a map without a length"))?;
    let mut format = None;
    for _ in 0..count {
        let number = decoder.u64()?;
        let start = decoder.position();
        let found = schema::by_number(table, number)
            .and_then(|field| Some((field, known(decoder, field, out, format, depth + 1).ok()?)));
        match found {
            None => {
                decoder.set_position(start);
                let value = unknown(decoder, depth + 1)?;
                out.insert(format!("field_{number}"), value);
            }
            Some((field, value)) => {
                if std::ptr::eq(table, PARAMETER) && field.name == "format" {
                    format = value.as_u64();
                    let name = match format {
                        Some(0) => Some("text"),
                        Some(1) => Some("binary"),
                        Some(_) | None => None,
                    };
                    out.insert("format".to_owned(), name.map_or(value, Value::from));
                } else {
                    out.insert(field.name.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

fn known(
    decoder: &mut Decoder<'_>,
    field: &'static Field,
    out: &mut Object,
    format: Option<u64>,
    depth: usize,
) -> Result<Value, ViewError> {
    let word = |words: &'static [&'static str], number: u64| {
        let word = usize::try_from(number).ok().and_then(|at| words.get(at));
        word.map_or(Value::from(number), |word| Value::from(*word))
    };
    Ok(match field.kind {
        Kind::Uint => decoder.u64()?.into(),
        Kind::Flag => decoder.bool()?.into(),
        Kind::Text => decoder.str()?.into(),
        Kind::Hex => hex::encode(decoder.bytes()?).into(),
        Kind::Wall => rfc3339(WallNanos(decoder.u64()?)).into(),
        Kind::Word(words) => word(words, decoder.u64()?),
        Kind::Peer => peer(field.name, decoder.bytes()?, false, out),
        Kind::Value if decoder.datatype()? == Type::Null => {
            decoder.null()?;
            Value::Null
        }
        Kind::Value => peer(field.name, decoder.bytes()?, format == Some(1), out),
        Kind::Uints => array(decoder, depth, |decoder, _| Ok(decoder.u64()?.into()))?,
        Kind::Texts => array(decoder, depth, |decoder, _| Ok(decoder.str()?.into()))?,
        Kind::Words(words) => array(decoder, depth, |decoder, _| Ok(word(words, decoder.u64()?)))?,
        Kind::Object(table) => inner(decoder, table, depth)?,
        Kind::Objects(table) => {
            array(decoder, depth, |decoder, depth| inner(decoder, table, depth))?
        }
        Kind::Pairs => {
            let mut pairs = Object::new();
            let count = decoder.array()?.ok_or(ViewError::Shape("an array without a length"))?;
            for _ in 0..count {
                decoder.array()?;
                let key = decoder.str()?.to_owned();
                pairs.insert(key, decoder.str()?.into());
            }
            Value::Object(pairs)
        }
    })
}

fn inner(
    decoder: &mut Decoder<'_>,
    table: &'static [Field],
    depth: usize,
) -> Result<Value, ViewError> {
    let mut object = Object::new();
    map(decoder, table, &mut object, depth)?;
    Ok(Value::Object(object))
}

fn array(
    decoder: &mut Decoder<'_>,
    depth: usize,
    mut item: impl FnMut(&mut Decoder<'_>, usize) -> Result<Value, ViewError>,
) -> Result<Value, ViewError> {
    if depth > DEPTH_MAX {
        return Err(ViewError::Deep);
    }
    let count = decoder.array()?.ok_or(ViewError::Shape("an array without a length"))?;
    // No room is reserved: the count is whatever the bytes say.
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(item(decoder, depth + 1)?);
    }
    Ok(Value::Array(items))
}

/// What a peer sent: as text when it is UTF-8, else as base64, and then `NAME_encoding` says so.
fn peer(name: &str, bytes: &[u8], binary: bool, out: &mut Object) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if !binary => text.into(),
        Ok(_) | Err(_) => {
            out.insert(format!("{name}_encoding"), "base64".into());
            STANDARD.encode(bytes).into()
        }
    }
}

fn unknown(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, ViewError> {
    if depth > DEPTH_MAX {
        return Err(ViewError::Deep);
    }
    Ok(match decoder.datatype()? {
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => decoder.u64()?.into(),
        Type::Bytes => hex::encode(decoder.bytes()?).into(),
        Type::String => decoder.str()?.into(),
        Type::Bool => decoder.bool()?.into(),
        Type::Null => {
            decoder.null()?;
            Value::Null
        }
        Type::Array => array(decoder, depth, unknown)?,
        Type::Map => {
            let count = decoder.map()?.ok_or(ViewError::Shape("a map without a length"))?;
            let mut object = Object::new();
            for _ in 0..count {
                let key = format!("field_{}", decoder.u64()?);
                object.insert(key, unknown(decoder, depth + 1)?);
            }
            Value::Object(object)
        }
        _ => return Err(ViewError::Shape("a value of a kind that entries have not")),
    })
}

fn rfc3339(time: WallNanos) -> String {
    time.rfc3339().iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests;
