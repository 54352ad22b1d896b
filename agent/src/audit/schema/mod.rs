//! The one table of all fields: their numbers in an entry, names in JSON, kinds, and meanings.
//!
//! The encoder takes its numbers from here, [`super::view`] its names, `docs/audit.md` and exports
//! their columns. A number is never used again for something else, and a field is never renamed:
//! a test compares the table with the frozen list of its version.

mod actor;
mod doc;
mod entry;
mod events;
pub mod words;

pub use actor::{ACTOR, CONTAINER};
pub use doc::markdown;
pub use entry::{COPIED, ENTRY, PARAMETER, RESULT, f};
pub use events::EventKind;

/// Version of the format, field `v`. It changes when a field changes its meaning or goes; new
/// fields don't change it.
pub const FORMAT_VERSION: u64 = 1;

/// One field of an entry, or of an object in it.
#[derive(Debug)]
pub struct Field {
    /// Key in the CBOR map. Ascending in every table.
    pub number: u8,
    /// Name in JSON.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// How careful one has to be with it.
    pub sensitivity: Sensitivity,
    /// Path in OCSF's `datastore_activity`; empty: it goes to `unmapped`.
    pub ocsf: &'static str,
    /// Names of the events that have it, separated by spaces; `all` for every one.
    pub events: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// Which question of an audit it answers: who, what, when, result, from where, on what.
    pub answers: &'static str,
}

/// What the value of a field is, in CBOR and in JSON.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Unsigned integer; a number in JSON.
    Uint,
    /// Array of unsigned integers.
    Uints,
    /// `true` or `false`.
    Flag,
    /// Text of the agent's own, UTF-8.
    Text,
    /// Array of them.
    Texts,
    /// Byte string that a peer sent; in JSON a text when it is UTF-8, else base64 and
    /// `NAME_encoding` says so.
    Peer,
    /// The same as the value of a parameter: base64 also when its format is binary. May be null.
    Value,
    /// Byte string; hexadecimal digits in JSON.
    Hex,
    /// Nanoseconds since 1970; RFC 3339 in JSON.
    Wall,
    /// Index into a list of words; the word in JSON.
    Word(&'static [&'static str]),
    /// Array of them.
    Words(&'static [&'static str]),
    /// Map with a table of its own.
    Object(&'static [Field]),
    /// Array of such maps.
    Objects(&'static [Field]),
    /// Array of arrays of two texts; an object in JSON.
    Pairs,
}

/// How careful one has to be with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensitivity {
    /// Says nothing about people or data.
    Plain,
    /// Names a person, an account or a machine.
    Identity,
    /// May hold data of the database, by the rules for values.
    Data,
}

/// The field with `number` in `table`, which ascends.
pub fn by_number(table: &'static [Field], number: u64) -> Option<&'static Field> {
    let number = u8::try_from(number).ok()?;
    table.binary_search_by_key(&number, |field| field.number).ok().map(|at| &table[at])
}

/// The field called `name`.
pub fn by_name(table: &'static [Field], name: &str) -> Option<&'static Field> {
    table.iter().find(|field| field.name == name)
}

#[cfg(test)]
mod tests;
