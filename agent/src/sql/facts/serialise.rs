//! Writes the parser's structures into a [`Tree`]: a serialiser of `serde`, since each of them can be serialised.

use std::fmt;

use serde::ser::{self, Impossible, Serialize, SerializeSeq, SerializeStruct, Serializer};

use super::node::NodeKind;
use super::stack::Stack;
use super::tree::{Entry, Raw, Tree};

/// The protocol buffers' structure that holds a node of any kind.
const ANY: &str = "Node";

/// Ends of the names of fields that hold a position in the text.
const POSITIONS: [&str; 3] = ["location", "list_start", "list_end"];

/// Writes into a tree.
pub(super) struct Builder<'t> {
    tree: &'t mut Tree,
    stack: Stack,
    /// Field that the next value is in.
    field: &'static str,
}

/// A node or list that is being written; `None` for one that leaves no entry.
pub(super) struct Open<'a, 't> {
    builder: &'a mut Builder<'t>,
    at: Option<usize>,
    field: &'static str,
}

/// Why a tree can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is nested too deep for the stack.
    TooDeep,
    /// It holds what no structure of the parser does: maps, tuples.
    Strange,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooDeep => "nested too deep",
            Self::Strange => "not a structure of the parser",
        })
    }
}

impl std::error::Error for Fault {}

impl ser::Error for Fault {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Strange
    }
}

impl<'t> Builder<'t> {
    pub(super) fn new(tree: &'t mut Tree, stack: Stack) -> Self {
        Self { tree, stack, field: "" }
    }

    /// Writes all of it.
    pub(super) fn read(mut self, parsed: &impl Serialize) -> Result<(), Fault> {
        parsed.serialize(&mut self)
    }

    fn push(&mut self, raw: Raw) {
        self.tree.entries.push(Entry { field: self.field, raw });
    }

    fn open<'a>(&'a mut self, raw: Raw) -> Open<'a, 't> {
        let at = self.tree.entries.len();
        let field = self.field;
        self.push(raw);
        Open { builder: self, at: Some(at), field }
    }

    fn number(&mut self, number: i64) {
        let position = POSITIONS.iter().any(|end| self.field.ends_with(end));
        if number != 0 && !position {
            self.push(Raw::Number(number));
        }
    }
}

/// A place in a tree, or a length of its strings: texts are bounded far below what would not fit.
fn position(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Open<'_, '_> {
    fn close(self) {
        let Some(at) = self.at else { return };
        let entries = &mut self.builder.tree.entries;
        let behind = entries.len();
        match &mut entries[at].raw {
            Raw::List { .. } if behind == at + 1 => {
                entries.pop();
            }
            Raw::Node { end, .. } | Raw::List { end } => *end = position(behind),
            Raw::Text { .. } | Raw::Number(_) | Raw::True => {}
        }
        self.builder.field = self.field;
    }
}

impl SerializeStruct for Open<'_, '_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        field: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.builder.field = if self.at.is_some() { field } else { self.field };
        value.serialize(&mut *self.builder)
    }

    fn end(self) -> Result<(), Fault> {
        self.close();
        Ok(())
    }
}

impl SerializeSeq for Open<'_, '_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.builder.field = self.field;
        value.serialize(&mut *self.builder)
    }

    fn end(self) -> Result<(), Fault> {
        self.close();
        Ok(())
    }
}

macro_rules! numbers {
    ($($method:ident $type:ty,)+) => {
        $(fn $method(self, number: $type) -> Result<(), Fault> {
            self.number(i64::from(number));
            Ok(())
        })+
    };
}

impl<'a, 't> Serializer for &'a mut Builder<'t> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Open<'a, 't>;
    type SerializeStruct = Open<'a, 't>;
    type SerializeTuple = Impossible<(), Fault>;
    type SerializeTupleStruct = Impossible<(), Fault>;
    type SerializeTupleVariant = Impossible<(), Fault>;
    type SerializeMap = Impossible<(), Fault>;
    type SerializeStructVariant = Impossible<(), Fault>;

    numbers! {
        serialize_i8 i8,
        serialize_i16 i16,
        serialize_i32 i32,
        serialize_i64 i64,
        serialize_u8 u8,
        serialize_u16 u16,
        serialize_u32 u32,
    }

    fn serialize_bool(self, flag: bool) -> Result<(), Fault> {
        if flag {
            self.push(Raw::True);
        }
        Ok(())
    }

    fn serialize_u64(self, number: u64) -> Result<(), Fault> {
        self.number(i64::try_from(number).unwrap_or(i64::MAX));
        Ok(())
    }

    fn serialize_f32(self, _: f32) -> Result<(), Fault> {
        Err(Fault::Strange)
    }

    fn serialize_f64(self, _: f64) -> Result<(), Fault> {
        Err(Fault::Strange)
    }

    fn serialize_char(self, _: char) -> Result<(), Fault> {
        Err(Fault::Strange)
    }

    fn serialize_str(self, text: &str) -> Result<(), Fault> {
        if !text.is_empty() {
            let start = position(self.tree.strings.len());
            self.tree.strings.push_str(text);
            let end = position(self.tree.strings.len());
            self.push(Raw::Text { start, end });
        }
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Fault> {
        Err(Fault::Strange)
    }

    fn serialize_none(self) -> Result<(), Fault> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Fault> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Fault> {
        Err(Fault::Strange)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'a, 't>, Fault> {
        Ok(self.open(Raw::List { end: 0 }))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Open<'a, 't>, Fault> {
        if self.stack.is_low() {
            return Err(Fault::TooDeep);
        }
        if name == ANY {
            let field = self.field;
            return Ok(Open { builder: self, at: None, field });
        }
        Ok(self.open(Raw::Node { kind: NodeKind::of(name), name, end: 0 }))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Fault> {
        Err(Fault::Strange)
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Fault> {
        Err(Fault::Strange)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Fault> {
        Err(Fault::Strange)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Fault> {
        Err(Fault::Strange)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Fault> {
        Err(Fault::Strange)
    }
}
