//! The parser's tree as one flat list, made by serialisation, so that no node and no field can be left out.
//!
//! ```text
//!   Node SelectStmt                       end ─┐
//!     List target_list              end ─┐     │
//!       Node ResTarget         end ─┐    │     │      entries lie in the order of the walk; `end` is
//!         Node val: AConst          │    │     │      the number of the first that is not inside
//!     List from_clause              │    │     │
//!       …                         ◄─┴────┘   ◄─┘
//! ```
//!
//! Fields that are empty, zero, false or positions in the text are not there. A `Node` of the protocol buffers, which only
//! says which kind follows, is not there either. Dropping the list does not recurse.

use serde::Serialize;

use super::node::NodeKind;
use super::serialise::{Builder, Fault};
use super::stack::Stack;

/// A statement's tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) entries: Vec<Entry>,
    /// All strings, one behind the other.
    pub(super) strings: String,
}

/// One node, list, or value, and the field that it is in; elements of lists carry the list's field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) field: &'static str,
    pub(super) raw: Raw,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw {
    Node { kind: NodeKind, name: &'static str, end: u32 },
    List { end: u32 },
    Text { start: u32, end: u32 },
    Number(i64),
    True,
}

/// A node of a tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'t> {
    tree: &'t Tree,
    at: u32,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'t> {
    Node(Node<'t>),
    List(Items<'t>),
    Text(&'t str),
    Number(i64),
    True,
}

/// Fields of a node, or elements of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Items<'t> {
    tree: &'t Tree,
    at: u32,
    end: u32,
}

impl Tree {
    /// Reads what the parser made; room of an earlier tree is used again.
    pub(super) fn read(&mut self, parsed: &impl Serialize, stack: Stack) -> Result<(), Fault> {
        self.entries.clear();
        self.strings.clear();
        Builder::new(self, stack).read(parsed)
    }

    /// Its outermost node.
    pub(super) fn root(&self) -> Option<Node<'_>> {
        match self.entries.first()?.raw {
            Raw::Node { .. } => Some(Node { tree: self, at: 0 }),
            Raw::List { .. } | Raw::Text { .. } | Raw::Number(_) | Raw::True => None,
        }
    }

    fn value(&self, at: u32) -> Value<'_> {
        match self.entries[at as usize].raw {
            Raw::Node { .. } => Value::Node(Node { tree: self, at }),
            Raw::List { end } => Value::List(Items { tree: self, at: at + 1, end }),
            Raw::Text { start, end } => Value::Text(&self.strings[start as usize..end as usize]),
            Raw::Number(number) => Value::Number(number),
            Raw::True => Value::True,
        }
    }
}

impl Raw {
    /// The entry behind this one and all that is inside of it.
    fn next(self, at: u32) -> u32 {
        match self {
            Self::Node { end, .. } | Self::List { end } => end,
            Self::Text { .. } | Self::Number(_) | Self::True => at + 1,
        }
    }
}

impl<'t> Node<'t> {
    /// Its kind.
    pub(super) fn kind(self) -> NodeKind {
        match self.tree.entries[self.at as usize].raw {
            Raw::Node { kind, .. } => kind,
            Raw::List { .. } | Raw::Text { .. } | Raw::Number(_) | Raw::True => NodeKind::Unknown,
        }
    }

    /// The grammar's name of its kind.
    pub(super) fn name(self) -> &'static str {
        match self.tree.entries[self.at as usize].raw {
            Raw::Node { name, .. } => name,
            Raw::List { .. } | Raw::Text { .. } | Raw::Number(_) | Raw::True => "",
        }
    }

    /// Its fields, each with what it holds.
    pub(super) fn fields(self) -> Items<'t> {
        let end = self.tree.entries[self.at as usize].raw.next(self.at);
        Items { tree: self.tree, at: self.at + 1, end }
    }

    /// What a field holds, unless that is empty, zero or false.
    pub(super) fn field(self, field: &str) -> Option<Value<'t>> {
        self.fields().find(|(name, _)| *name == field).map(|(_, value)| value)
    }

    /// The node in a field.
    pub(super) fn node(self, field: &str) -> Option<Node<'t>> {
        match self.field(field)? {
            Value::Node(node) => Some(node),
            Value::List(_) | Value::Text(_) | Value::Number(_) | Value::True => None,
        }
    }

    /// Elements of the list in a field; none if there is no list.
    pub(super) fn list(self, field: &str) -> Items<'t> {
        match self.field(field) {
            Some(Value::List(items)) => items,
            _ => Items { tree: self.tree, at: 0, end: 0 },
        }
    }

    /// Nodes of the list in a field.
    pub(super) fn nodes(self, field: &str) -> impl Iterator<Item = Node<'t>> + Clone {
        self.list(field).nodes()
    }

    /// The string in a field; empty if there is none.
    pub(super) fn text(self, field: &str) -> &'t str {
        match self.field(field) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// The number in a field, which may stand for a variant; zero if there is none.
    pub(super) fn number(self, field: &str) -> i64 {
        match self.field(field) {
            Some(Value::Number(number)) => number,
            _ => 0,
        }
    }

    /// Whether a flag is set.
    pub(super) fn flag(self, field: &str) -> bool {
        matches!(self.field(field), Some(Value::True))
    }
}

impl<'t> Items<'t> {
    /// The nodes among them.
    pub(super) fn nodes(self) -> impl Iterator<Item = Node<'t>> + Clone {
        self.filter_map(|(_, value)| match value {
            Value::Node(node) => Some(node),
            Value::List(_) | Value::Text(_) | Value::Number(_) | Value::True => None,
        })
    }
}

impl<'t> Iterator for Items<'t> {
    type Item = (&'static str, Value<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let entry = self.tree.entries[self.at as usize];
        let value = self.tree.value(self.at);
        self.at = entry.raw.next(self.at);
        Some((entry.field, value))
    }
}
