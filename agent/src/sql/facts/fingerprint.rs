//! A number for statements of the same shape.
//!
//! Constants, aliases (but where one stands for a whole row), what qualifies a column, and how often equal things stand
//! behind each other in a list do not count. It groups records; statements of different meaning may share it.

use super::node::NodeKind;
use super::tree::{Node, Value};

/// Odd, with bits spread evenly: the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The shape of a statement.
pub(super) fn fingerprint(node: Node<'_>) -> u64 {
    shape(node, false)
}

/// The shape of a node. The names of outputs are aliases; those of other targets are columns that are written.
fn shape(node: Node<'_>, output: bool) -> u64 {
    match node.kind() {
        NodeKind::AConst | NodeKind::ParamRef => text(0, "constant"),
        NodeKind::ColumnRef => {
            let last = node.nodes("fields").last();
            text(1, last.map(|name| name.text("sval")).unwrap_or_default())
        }
        NodeKind::Alias => 2,
        kind => {
            let mut hash = text(3, node.name());
            for (field, value) in node.fields() {
                let outputs = match kind {
                    NodeKind::SelectStmt => field == "target_list",
                    NodeKind::ReturningClause => field == "exprs",
                    _ => false,
                };
                let alias = match kind {
                    NodeKind::ResTarget => output && field == "name",
                    NodeKind::LockingClause => field == "locked_rels",
                    NodeKind::ReturningOption => field == "value",
                    _ => false,
                };
                if !alias {
                    hash = mix(text(hash, field), of_value(value, outputs));
                }
            }
            hash
        }
    }
}

fn of_value(value: Value<'_>, output: bool) -> u64 {
    match value {
        Value::Node(node) => shape(node, output),
        Value::List(items) => {
            let (mut hash, mut before) = (4, None);
            for (_, item) in items {
                let item = of_value(item, output);
                if before != Some(item) {
                    hash = mix(hash, item);
                }
                before = Some(item);
            }
            hash
        }
        Value::Text(value) => text(5, value),
        Value::Number(number) => mix(6, number.cast_unsigned()),
        Value::True => 7,
    }
}

fn mix(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(23) ^ value).wrapping_mul(FACTOR)
}

fn text(seed: u64, text: &str) -> u64 {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let hash = words.iter().fold(seed, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    mix(mix(hash, u64::from_le_bytes(last)), text.len() as u64)
}
