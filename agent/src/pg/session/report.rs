//! What a session tells its driver: events and finished statements.

use std::fmt;
use std::sync::Arc;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::ask::Answer;
use super::names::Name;
use crate::pg::backend::TransactionStatus;
use crate::pg::codec::Limits;
use crate::pg::frontend::{Formats, Values};

/// Number of a statement within its session, from 1 in the order of the client's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatementId(pub u64);

/// Where a message lies in the client's stream: offsets of its first byte and behind its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
}

/// What kind of message a statement came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `Query`: text, run at once.
    Simple,
    /// `Parse`: text, prepared.
    Parse,
    /// `Bind`: parameters for a prepared statement; reported only when it fails.
    Bind,
    /// `Describe`; reported only when it fails.
    Describe,
    /// `Close`; reported only when it fails.
    Close,
    /// `Execute`: a bound statement, run.
    Execute,
    /// `FunctionCall`: a function by number.
    FunctionCall,
}

/// How a reported text relates to what the server ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextState {
    /// It is the text.
    Exact,
    /// It is the beginning of the text; see `text_bytes` for its length.
    Cut,
    /// The message was malformed: the server refuses it, whatever it says.
    Malformed,
    /// Not known: prepared or declared by SQL, or beyond a limit; or the message has no text.
    Unknown,
}

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The server says it is done. Whether it was committed is another question.
    Completed,
    /// The row limit was reached; the portal can go on.
    Suspended,
    /// The server refused it or it failed; see `sqlstate`.
    Failed,
    /// It was refused by decision: the server never saw it, and the client was told so.
    Refused,
    /// Discarded by the server because an earlier message of the same pipeline failed.
    Skipped,
    /// The connection ended before the server said how it went.
    Unfinished,
    /// The connection ended before it was sent to the server.
    Unsent,
}

/// Text of a `CommandComplete`, at most [`Tag::BYTES_MAX`] bytes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    length: u8,
    bytes: [u8; Self::BYTES_MAX],
}

impl Tag {
    /// The server's tags are at most 63 bytes (`COMPLETION_TAG_BUFSIZE`).
    pub const BYTES_MAX: usize = 63;

    /// No tag: nothing completed, or an empty statement.
    pub const EMPTY: Self = Self { length: 0, bytes: [0; Self::BYTES_MAX] };

    pub(super) fn new(text: &[u8]) -> Self {
        let kept = &text[..text.len().min(Self::BYTES_MAX)];
        let mut tag = Self::EMPTY;
        tag.bytes[..kept.len()].copy_from_slice(kept);
        tag.length = kept.len() as u8;
        tag
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The text, with anything that is not UTF-8 replaced.
    pub fn to_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.as_bytes().escape_ascii())
    }
}

/// One result of a simple `Query` of several statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementResult {
    /// Its tag, empty for an empty statement.
    pub tag: Tag,
    /// `DataRow` messages in front of it.
    pub rows: u64,
}

/// COPY data of a statement, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyCount {
    /// Bytes in `CopyData` bodies.
    pub bytes: u64,
    /// Rows, as far as they can be told without reading the data:
    /// from the server, `CopyData` messages, of which it sends one per row (a CSV header counts, a
    /// binary trailer counts); from the client in text or CSV, line ends (a line end inside a CSV
    /// value counts) and an unfinished last line; from the client in binary, `None`.
    /// The number in the tag, where there is one, is the authority.
    pub rows: Option<u64>,
}

/// A prepared statement.
#[derive(Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its name, empty for the unnamed one.
    pub name: Name,
    /// Its text.
    pub text: Arc<[u8]>,
    /// Length of the whole text.
    pub text_bytes: usize,
    /// How `text` relates to it.
    pub text_state: TextState,
    /// Parameter types as far as they are known: as the server described them, else as `Parse`
    /// declared them, which may be fewer, with 0 for "infer it".
    pub types: Box<[u32]>,
    /// What [`super::Session::decide_under`] said when it was let through.
    pub(super) decided_under: Option<u64>,
}

impl Prepared {
    /// Bytes it keeps in memory, roughly.
    pub(super) fn weight(&self) -> usize {
        self.name.len() + self.text.len() + 4 * self.types.len()
    }
}

/// Values of a `Bind` or `FunctionCall`, as far as the limits let them be kept.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    count: usize,
    slots: Box<[Slot]>,
    data: Box<[u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    format: u16,
    null: bool,
    bytes: u32,
    /// Offset in `data` behind the part kept.
    end: u32,
}

/// One value of a `Bind` or `FunctionCall`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// 0 text, 1 binary.
    pub format: u16,
    /// Type, 0 if not known.
    pub type_oid: u32,
    /// The value or its beginning, `None` for NULL.
    pub value: Option<&'a [u8]>,
    /// Length of the whole value.
    pub bytes: u32,
}

impl Parameters {
    /// Copies values within `limits`; with `keep` false only formats and lengths.
    pub(super) fn copy(
        formats: &Formats<'_>,
        values: &Values<'_>,
        limits: &Limits,
        keep: Keep,
    ) -> Self {
        let kept_max = match keep {
            Keep::Whole => limits.parameters_bytes_max,
            Keep::Outline => 0,
        };
        let value_max = limits.parameter_bytes_max;
        let wanted: usize = values
            .iter()
            .take(limits.parameters_max)
            .map(|value| value.map_or(0, |value| value.len().min(value_max)))
            .sum();
        let mut data = Vec::with_capacity(wanted.min(kept_max));
        let single = formats.len() == 1;
        let mut formats = formats.iter();
        let mut format = formats.next().unwrap_or(0);
        let slots = values.iter().take(limits.parameters_max).map(|value| {
            let whole = value.unwrap_or_default();
            let room = kept_max - data.len();
            data.extend_from_slice(&whole[..whole.len().min(value_max).min(room)]);
            let slot = Slot {
                format,
                null: value.is_none(),
                bytes: whole.len() as u32,
                end: data.len() as u32,
            };
            if !single {
                format = formats.next().unwrap_or(0);
            }
            slot
        });
        let slots = slots.collect();
        Self { count: values.len(), slots, data: data.into_boxed_slice() }
    }

    /// How many there were, kept or not.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Those kept, with their types from `types`.
    pub fn iter<'a>(&'a self, types: &'a [u32]) -> impl Iterator<Item = Parameter<'a>> {
        let mut start = 0;
        self.slots.iter().enumerate().map(move |(index, slot)| {
            let kept = &self.data[start as usize..slot.end as usize];
            start = slot.end;
            Parameter {
                format: slot.format,
                type_oid: types.get(index).copied().unwrap_or(0),
                value: (!slot.null).then_some(kept),
                bytes: slot.bytes,
            }
        })
    }

    /// Formats and lengths without the values.
    pub(super) fn outline(&self) -> Self {
        let slots = self.slots.iter().map(|slot| Slot { end: 0, ..*slot }).collect();
        Self { count: self.count, slots, data: Box::default() }
    }

    pub(super) fn weight(&self) -> usize {
        self.data.len() + self.slots.len() * size_of::<Slot>()
    }
}

/// Whether the budget allows to keep something whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Whole,
    Outline,
}

/// A bound prepared statement: what a portal stands for.
#[derive(Clone, PartialEq, Eq)]
pub struct Bound {
    /// Name of the prepared statement.
    pub statement: Name,
    /// The prepared statement, if it is known.
    pub prepared: Option<Arc<Prepared>>,
    /// Its parameters.
    pub parameters: Parameters,
}

impl Bound {
    /// The parameters with what is known of their types.
    fn parameters_typed(&self) -> impl Iterator<Item = Parameter<'_>> {
        let types = self.prepared.as_ref().map_or(&[][..], |prepared| &*prepared.types);
        self.parameters.iter(types)
    }
}

/// A statement that came to its end.
///
/// Times are the `now` arguments of the calls that saw the bytes, in nanoseconds.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    /// Which.
    pub id: StatementId,
    /// Message it came by.
    pub kind: Kind,
    /// Its text, shared with the prepared statement; empty if unknown.
    pub text: Arc<[u8]>,
    /// Length of the whole text.
    pub text_bytes: usize,
    /// How `text` relates to it.
    pub text_state: TextState,
    /// Portal of `Execute`, `Bind` and `Describe`; empty for the unnamed one and for others.
    pub portal: Name,
    /// What was bound: the prepared statement and the parameters. `None` for `Simple` and
    /// `Parse`, and for portals not known.
    pub bound: Option<Arc<Bound>>,
    /// Number of the function of a `FunctionCall`.
    pub function: Option<u32>,
    /// Where the message lies in the client's stream.
    pub span: Span,
    /// When the message was complete.
    pub started: u64,
    /// When the first answer came.
    pub first_response: Option<u64>,
    /// When the last answer came.
    pub done: u64,
    /// Tag of the last result.
    pub tag: Tag,
    /// `DataRow` messages of all results, counted by their headers.
    pub rows: u64,
    /// Bytes in their bodies.
    pub row_bytes: u64,
    /// All results when there were several, at most `Limits::results_max` of them.
    pub results: Vec<StatementResult>,
    /// How many results there were.
    pub results_total: u32,
    /// COPY data from the client, if the server asked for any.
    pub copy_in: Option<CopyCount>,
    /// COPY data to the client, if the server announced any.
    pub copy_out: Option<CopyCount>,
    /// Rows that a ceiling withheld from the client, as far as the server sent them.
    pub rows_withheld: u64,
    /// Code of the error it failed with, as the client heard it.
    pub sqlstate: Option<[u8; 5]>,
    /// Code of the refusal, if it was refused by decision. The client may have heard another
    /// error: in a failed transaction the server refuses everything by itself.
    pub refusal: Option<[u8; 5]>,
    /// How it ended.
    pub outcome: Outcome,
    /// Status of the transaction behind it: for an `Execute`, behind the `Sync` that follows it if
    /// that was sent before the statement was done.
    pub transaction: Option<TransactionStatus>,
    /// Code of an error at that `Sync`: the statement was done, its transaction was not committed.
    pub sync_sqlstate: Option<[u8; 5]>,
    /// Rows in front of the result under way.
    rows_before: u64,
}

impl Statement {
    pub(super) fn new(id: StatementId, kind: Kind, span: Span, started: u64) -> Self {
        Self {
            id,
            kind,
            text: Arc::default(),
            text_bytes: 0,
            text_state: TextState::Unknown,
            portal: Name::default(),
            bound: None,
            function: None,
            span,
            started,
            first_response: None,
            done: started,
            tag: Tag::EMPTY,
            rows: 0,
            row_bytes: 0,
            results: Vec::new(),
            results_total: 0,
            copy_in: None,
            copy_out: None,
            rows_withheld: 0,
            sqlstate: None,
            refusal: None,
            outcome: Outcome::Unfinished,
            transaction: None,
            sync_sqlstate: None,
            rows_before: 0,
        }
    }

    /// What is told before it goes to the server.
    pub(super) fn ready(&self) -> Ready {
        Ready {
            id: self.id,
            kind: self.kind,
            text: Arc::clone(&self.text),
            text_bytes: self.text_bytes,
            text_state: self.text_state,
            function: self.function,
            name: self.bound.as_ref().map_or_else(Name::default, |bound| bound.statement.clone()),
            portal: self.portal.clone(),
            bound: self.bound.clone(),
            span: self.span,
        }
    }

    /// Name of the prepared statement of an `Execute` or `Bind`, empty if unnamed or unknown.
    pub fn statement_name(&self) -> &[u8] {
        self.bound.as_ref().map_or(&[], |bound| &bound.statement)
    }

    /// Parameters kept.
    pub fn parameters(&self) -> impl Iterator<Item = Parameter<'_>> {
        self.bound.iter().flat_map(|bound| bound.parameters_typed())
    }

    /// How many parameters there were, kept or not.
    pub fn parameters_count(&self) -> usize {
        self.bound.as_ref().map_or(0, |bound| bound.parameters.count())
    }

    /// Takes text and parameters from what was bound.
    pub(super) fn apply(&mut self, bound: Option<Arc<Bound>>) {
        match bound.as_ref().and_then(|bound| bound.prepared.as_ref()) {
            Some(prepared) => self.apply_prepared(prepared),
            None => {
                self.text = Arc::default();
                self.text_bytes = 0;
                self.text_state = TextState::Unknown;
            }
        }
        self.bound = bound;
    }

    pub(super) fn apply_prepared(&mut self, prepared: &Prepared) {
        self.text = Arc::clone(&prepared.text);
        self.text_bytes = prepared.text_bytes;
        self.text_state = prepared.text_state;
    }

    /// Notes the end of one result.
    pub(super) fn push_result(&mut self, tag: Tag, results_max: usize) {
        if self.results_total == 1 && results_max > 0 {
            // The first result becomes a list only now: most statements have one.
            self.results.push(StatementResult { tag: self.tag, rows: self.rows_before });
        }
        if self.results_total >= 1 && self.results.len() < results_max {
            self.results.push(StatementResult { tag, rows: self.rows - self.rows_before });
        }
        self.results_total = self.results_total.saturating_add(1);
        self.rows_before = self.rows;
        self.tag = tag;
    }
}

impl fmt::Debug for Statement {
    /// Without text, names and values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("id", &self.id.0)
            .field("kind", &self.kind)
            .field("text_bytes", &self.text_bytes)
            .field("tag", &self.tag)
            .field("rows", &self.rows)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// A statement about to be sent to the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Ready {
    /// Which.
    pub id: StatementId,
    /// Message it came by: `Simple`, `Parse`, `Execute` or `FunctionCall`.
    pub kind: Kind,
    /// Its text, whole whatever the budgets say, except for an `Execute` of a statement whose text
    /// was cut when it was prepared. For an `Execute` behind messages the server has not answered
    /// yet, it is the text it will have if those succeed.
    pub text: Arc<[u8]>,
    /// How `text` relates to what the server will run.
    pub text_state: TextState,
    /// Number of the function of a `FunctionCall`.
    pub function: Option<u32>,
    /// Length of the whole text.
    pub text_bytes: usize,
    /// Prepared statement of a `Parse` or `Execute`; empty for the unnamed one and for others.
    pub name: Name,
    /// Portal of an `Execute`; empty for the unnamed one and for others.
    pub portal: Name,
    /// What was bound, for an `Execute` of a known portal and a `FunctionCall`.
    pub bound: Option<Arc<Bound>>,
    /// Where the message lies in the client's stream.
    pub span: Span,
}

impl Ready {
    /// Parameters kept.
    pub fn parameters(&self) -> impl Iterator<Item = Parameter<'_>> {
        self.bound.iter().flat_map(|bound| bound.parameters_typed())
    }

    /// How many parameters there were, kept or not.
    pub fn parameters_count(&self) -> usize {
        self.bound.as_ref().map_or(0, |bound| bound.parameters.count())
    }
}

impl fmt::Debug for Ready {
    /// Without text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("id", &self.id.0)
            .field("kind", &self.kind)
            .field("text_bytes", &self.text.len())
            .field("span", &self.span)
            .finish_non_exhaustive()
    }
}

/// What a driver learns from a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A statement is complete and, if the gate holds, waits for its decision.
    StatementReady(Box<Ready>),
    /// A statement came to its end: one per `Query`, `Execute` and `FunctionCall`, and one per
    /// other message that failed on its own.
    StatementDone(Box<Statement>),
    /// The server told a setting.
    ParameterStatus {
        /// Setting.
        name: Box<[u8]>,
        /// Value.
        value: Box<[u8]>,
    },
    /// The server reported an error that ends the session, or one that belongs to no statement.
    ServerError {
        /// Whether the session ends with it.
        fatal: bool,
        /// Code, if it gave one.
        sqlstate: Option<[u8; 5]>,
    },
    /// The client said goodbye.
    Terminate,
    /// A statement has more rows than its ceiling lets pass. They are withheld: the driver sends
    /// a cancel request, and says [`super::Session::handle_cancel_sent`] when that is done.
    CeilingReached(StatementId),
    /// The session was ended by decision; what is told to the client is the last of what it gets.
    Ended {
        /// Code of the error that says so.
        sqlstate: [u8; 5],
    },
    /// The answer to a question of the driver's own.
    Answer(Box<Answer>),
}

/// Secret of `BackendKeyData`, hidden from logs and cleared on drop.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct CancelKey(pub Box<[u8]>);

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}
