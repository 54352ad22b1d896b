//! From a text to its facts.

use std::ops::Range;

use pg_query::ParserOptions;
use pg_query::protobuf::RawStmt;

use super::fingerprint::fingerprint;
use super::kind::kind_of;
use super::node::NodeKind;
use super::serialise::Fault;
use super::stack::Stack;
use super::tree::Tree;
use super::walk::Walk;
use super::{Encoding, Facts, Limits, Reading, Statement, Unknown};
use crate::sql::lex::{self, Lexer, Strings};

/// Texts in constants are analysed so deep: each may hold another.
const NESTING_MAX: u32 = 3;

/// How the parser says that a text is nested too deep: scanner and grammar, tree walks, transfer of the tree.
const TOO_DEEP: [&str; 3] = ["memory exhausted", "stack depth limit exceeded", "nested too deeply"];

/// What the statements of `text` would do.
///
/// Call it on a thread with [`STACK_BYTES`](super::STACK_BYTES) of stack: parser, walk and the end of the tree recurse.
///
/// Errors: what makes the whole text unknown: [`Unknown::TooLong`], [`Unknown::Encoding`], [`Unknown::Syntax`],
/// [`Unknown::TooDeep`], [`Unknown::Unanalysed`]. What is unknown of one statement is in [`Statement::unknown`].
pub fn analyse(
    text: &[u8],
    reading: impl Into<Reading>,
    limits: &Limits,
) -> Result<Facts, Unknown> {
    let (reading, stack) = (reading.into(), Stack::here());
    if text.len() > limits.text_bytes_max {
        return Err(Unknown::TooLong(text.len()));
    }
    let utf8 = match reading.encoding {
        Encoding::Utf8 => std::str::from_utf8(text).map_err(|_| Unknown::Encoding)?,
        Encoding::Other => {
            let ascii = Some(text).filter(|text| text.is_ascii());
            ascii.and_then(|text| std::str::from_utf8(text).ok()).ok_or(Unknown::Encoding)?
        }
    };
    let parsed = parse(utf8, reading)?;
    let mut tree = Tree::default();
    let mut statements = Vec::with_capacity(parsed.len());
    for raw in &parsed {
        let span = span(text, raw, reading);
        let walk = Walk::new(reading, limits, stack);
        statements.push(statement(&mut tree, raw, span, walk)?);
    }
    Ok(Facts { statements })
}

/// Adds what the statements of a constant do to what the statement around does.
pub(super) fn inside(around: &mut Walk<'_>, text: &str) {
    let too_long = text.len() > around.limits.text_bytes_max;
    if around.nesting >= NESTING_MAX || too_long {
        around.code("query in an argument, nested too deep");
        return;
    }
    let parsed = match parse(text, around.reading) {
        Ok(parsed) => parsed,
        Err(unknown) => return around.unknown.add(unknown),
    };
    let mut tree = Tree::default();
    around.nesting += 1;
    for raw in &parsed {
        if let Some(unknown) = read(&mut tree, raw, around.stack).err() {
            around.unknown.add(unknown);
        } else if let Some(root) = tree.root() {
            // Names of tables that the statement around makes up are not seen in there.
            let hidden = std::mem::take(&mut around.ctes);
            around.node(root);
            around.ctes = hidden;
        }
    }
    around.nesting -= 1;
}

fn parse(text: &str, reading: Reading) -> Result<Vec<RawStmt>, Unknown> {
    let options = match reading.strings {
        Strings::Standard => ParserOptions::DEFAULT,
        Strings::Unsure => ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS,
    };
    // The crate makes lists of its own of the tree, which nobody asked for, and asserts what it expects there.
    let parsed = std::panic::catch_unwind(|| pg_query::parse(text, options));
    match parsed {
        Ok(Ok(parsed)) => Ok(parsed.protobuf.stmts),
        Ok(Err(pg_query::Error::Parse(message))) => {
            let deep = TOO_DEEP.iter().any(|words| message.contains(words));
            Err(if deep { Unknown::TooDeep } else { Unknown::Syntax })
        }
        Ok(Err(pg_query::Error::Conversion(_))) => Err(Unknown::Syntax),
        Ok(Err(pg_query::Error::Decode(_))) => Err(Unknown::TooDeep),
        Ok(Err(_)) | Err(_) => Err(Unknown::Unanalysed),
    }
}

fn statement(
    tree: &mut Tree,
    raw: &RawStmt,
    span: Range<usize>,
    mut walk: Walk<'_>,
) -> Result<Statement, Unknown> {
    read(tree, raw, walk.stack)?;
    let root = tree.root().ok_or(Unknown::Unanalysed)?;
    if ROWS.contains(&root.kind()) {
        walk.rows_here(root);
    } else {
        walk.node(root);
    }
    Ok(Statement {
        span,
        kind: kind_of(root),
        effects: walk.effects,
        parents: walk.parents,
        relations: walk.relations,
        derived: walk.derived,
        columns: walk.columns.into_vec(),
        calls: walk.calls.into_vec(),
        objects: walk.objects,
        settings: walk.settings,
        handles: walk.handles,
        roles: walk.roles.into_vec(),
        unknown: walk.unknown.into_vec(),
        fingerprint: fingerprint(root),
    })
}

fn read(tree: &mut Tree, raw: &RawStmt, stack: Stack) -> Result<(), Unknown> {
    let node = raw.stmt.as_ref().ok_or(Unknown::Unanalysed)?;
    tree.read(node, stack).map_err(|fault| match fault {
        Fault::TooDeep => Unknown::TooDeep,
        Fault::Strange => Unknown::Unanalysed,
    })
}

/// Statements whose clauses are on the outermost level.
const ROWS: &[NodeKind] = &[
    NodeKind::CallStmt,
    NodeKind::CopyStmt,
    NodeKind::DeleteStmt,
    NodeKind::InsertStmt,
    NodeKind::MergeStmt,
    NodeKind::SelectStmt,
    NodeKind::TruncateStmt,
    NodeKind::UpdateStmt,
];

/// Where a statement lies, without the blanks and comments in front.
///
/// The parser says where the statement before ended, and gives no length for one that goes on to the end of the text.
fn span(text: &[u8], raw: &RawStmt, reading: Reading) -> Range<usize> {
    let start = usize::try_from(raw.stmt_location).unwrap_or(0).min(text.len());
    let end = match usize::try_from(raw.stmt_len) {
        Ok(length) if length > 0 => start.saturating_add(length).min(text.len()),
        _ => text.len(),
    };
    let tokens = Lexer::new(&text[start..end], lex::Encoding::Safe, reading.strings);
    let mut tokens = tokens.skip_while(|token| token.kind == lex::Kind::Comment);
    let first = tokens.next().map(|token| start + token.start);
    first.unwrap_or(start)..end
}
