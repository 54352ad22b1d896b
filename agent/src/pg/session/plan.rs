//! What is to be done about the answers to one message: notices in front, errors replaced, rows
//! withheld; and the statements that the server gets in the place of refused ones.
//!
//! ```text
//!   refused             the server gets                          the client gets
//!   Query  a; b; c      Query  a; POISON        (b refused)      answers to a, then E for 42703
//!   Parse  n text       Parse  n POISON                          E for 42703
//!   Bind, Describe,     Parse  OWN POISON                        E for 42703
//!   Execute
//!   FunctionCall        FunctionCall of no function              E for 42883
//! ```
//!
//! So the server itself fails, aborts its transaction and skips to the `Sync`, and whatever it says
//! of its state is true. Any other error in that place passes as the server said it: in a failed
//! transaction `25P02`, for a cancel `57014`, for its own end a FATAL.
//!
//! The poison names a column where there are no relations, so nothing that a session can create or
//! set makes it succeed: the server finds out while it looks up the name
//! (`src/backend/parser/parse_expr.c`, `transformColumnRef`), before anything runs. Function 0 does
//! not exist (`InvalidOid`; `src/backend/tcop/fastpath.c`, `fetch_fp_info`). A refused
//! `FunctionCall` is not replaced by a `Query`, since that would drop the unnamed statement.

use super::decision::{Ceiling, Notice, Refusal, Said};
use super::report::Kind;
use crate::pg::backend::ErrorHead;
use crate::pg::codec::{FRAME_LARGE_BYTES_MAX, HEADER_BYTES};
use crate::pg::error::{Reply, Severity};
use crate::pg::frontend::{Formats, Frontend, FunctionCall, Oids, Parse, Values};

/// The column that does not exist. Under the 63 bytes of a name, so that the server's error has all
/// of it; ASCII, which is the same in every client encoding.
const POISON_COLUMN: &[u8] = b"pgward: denied by policy";
/// The statement that fails in the place of a refused one.
const POISON: &[u8] = b"SELECT \"pgward: denied by policy\"";
/// Name of a prepared statement that is never made: preparing the poison fails.
pub(super) const POISON_NAME: &[u8] = b"pgward: denied";

/// Longest text that the poison still fits behind.
const KEPT_BYTES_MAX: usize = FRAME_LARGE_BYTES_MAX as usize - 64;

/// `undefined_column`.
const UNDEFINED_COLUMN: [u8; 5] = *b"42703";
/// `undefined_function`.
const UNDEFINED_FUNCTION: [u8; 5] = *b"42883";
/// `query_canceled`.
pub(super) const QUERY_CANCELED: [u8; 5] = *b"57014";

/// Bytes of an error's body that are read where it may have to be replaced. The poison's own is a
/// few hundred.
pub(super) const ERROR_READ_BYTES_MAX: u32 = 4_096;

/// What is to be done about the answers to one message.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// `NoticeResponse` messages for the client, in front of the first answer.
    pub(super) notices: Vec<u8>,
    /// The message was refused.
    pub(super) refused: Option<Refused>,
    /// Not all of its rows pass.
    pub(super) ceiling: Option<Counted>,
    /// The next cancel of it is ours.
    pub(super) cancel: Option<Said>,
}

/// A message that was replaced by one that fails.
#[derive(Debug)]
pub(super) struct Refused {
    said: Said,
    /// Allowed statements run in front of the one that fails.
    behind_others: bool,
    expected: [u8; 5],
}

/// A ceiling and what is left of it.
#[derive(Debug)]
pub(super) struct Counted {
    rows_left: u64,
    bytes_left: u64,
    pub(super) reached: bool,
    said: Said,
}

impl Plan {
    /// For a statement that passes; `None` if there is nothing to do.
    pub(super) fn of_forward(notices: &[Notice], ceiling: Option<Ceiling>) -> Option<Box<Self>> {
        if notices.is_empty() && ceiling.is_none() {
            return None;
        }
        let mut plan = Self { ceiling: ceiling.map(Counted::new), ..Self::default() };
        for notice in notices {
            let written = plan.notices.len();
            if notice.write(&mut plan.notices).is_err() {
                // A text that no message can hold: what decides it is in the record anyway.
                plan.notices.truncate(written);
            }
        }
        Some(Box::new(plan))
    }

    pub(super) fn of_refusal(refused: Refused) -> Box<Self> {
        Box::new(Self { refused: Some(refused), ..Self::default() })
    }

    /// Bytes it keeps in memory.
    pub(super) fn weight(&self) -> usize {
        let refused = self.refused.as_ref().map_or(0, |refused| refused.said.frame.len());
        let ceiling = self.ceiling.as_ref().map_or(0, |ceiling| ceiling.said.frame.len());
        self.notices.len() + refused + ceiling
    }

    /// Code of the refusal, if it was refused.
    pub(super) fn refusal(&self) -> Option<[u8; 5]> {
        self.refused.as_ref().map(|refused| refused.said.sqlstate)
    }

    /// The notices for the client, if a message of type `tag` is an answer, of which they come in
    /// front.
    pub(super) fn take_notices(&mut self, tag: u8) -> Option<Vec<u8>> {
        // These may come at any time and answer nothing.
        let answers = !matches!(tag, b'N' | b'A' | b'S');
        (answers && !self.notices.is_empty()).then(|| std::mem::take(&mut self.notices))
    }

    /// Whether an error may have to be replaced.
    pub(super) fn watches_errors(&self) -> bool {
        self.refused.is_some() || self.ceiling.is_some() || self.cancel.is_some()
    }

    /// Whether rows were withheld.
    pub(super) fn withholds(&self) -> bool {
        self.ceiling.as_ref().is_some_and(|ceiling| ceiling.reached)
    }

    /// Whether nothing but an error can be the answer.
    pub(super) fn must_fail(&self) -> bool {
        self.refused.as_ref().is_some_and(|refused| !refused.behind_others)
    }

    /// What the client is told in place of an error of the server, of which `seen` is the beginning.
    pub(super) fn instead_of(&mut self, head: ErrorHead, seen: &[u8]) -> Option<Instead> {
        if head.severity.ends_session() {
            return None;
        }
        if let Some(refused) = self.refused.as_ref().filter(|refused| refused.is_told(head, seen)) {
            return Some(Instead { said: refused.said.clone(), refused: true });
        }
        if head.sqlstate != Some(QUERY_CANCELED) {
            return None;
        }
        let ceiling = self.ceiling.as_ref().filter(|ceiling| ceiling.reached);
        let said = ceiling.map(|ceiling| ceiling.said.clone()).or_else(|| self.cancel.take())?;
        Some(Instead { said, refused: false })
    }
}

/// What is told in place of an error.
pub(super) struct Instead {
    pub(super) said: Said,
    /// It is the error of a refusal, not that of a cancel.
    pub(super) refused: bool,
}

impl Refused {
    pub(super) fn into_frame(self) -> Vec<u8> {
        self.said.frame
    }

    /// Whether an error is that of what was put in the statement's place.
    fn is_told(&self, head: ErrorHead, seen: &[u8]) -> bool {
        let names_it = || memchr::memmem::find(seen, POISON_COLUMN).is_some();
        head.sqlstate == Some(self.expected) && (!self.behind_others || names_it())
    }
}

/// Whether a notice is the server's log of a statement of ours, which clients can ask for
/// (`client_min_messages`).
pub(super) fn is_log(severity: &[u8]) -> bool {
    severity == b"LOG" || severity.starts_with(b"DEBUG")
}

impl Counted {
    fn new(ceiling: Ceiling) -> Self {
        Self {
            rows_left: ceiling.rows_max.unwrap_or(u64::MAX),
            bytes_left: ceiling.bytes_max.unwrap_or(u64::MAX),
            reached: false,
            said: Said::new(ceiling.reply, Severity::Error),
        }
    }

    /// Counts one more row; whether it may pass.
    pub(super) fn admits(&mut self, row_bytes: u32) -> bool {
        let row_bytes = u64::from(row_bytes);
        if self.reached || self.rows_left == 0 || self.bytes_left < row_bytes {
            self.reached = true;
            return false;
        }
        self.rows_left -= 1;
        self.bytes_left -= row_bytes;
        true
    }

    /// The error that ends the session, where the statement was over before its cancel came.
    pub(super) fn too_late(&self) -> Reply {
        Reply {
            detail: Some("Its result was cut, and it could not be cancelled in time.".into()),
            ..Reply::fatal(*b"57P01", "terminating connection because a statement passed its limit")
        }
    }
}

/// What the server gets in the place of a refused message.
pub(super) struct Poisoned {
    pub(super) frame: Vec<u8>,
    pub(super) plan: Box<Plan>,
}

/// Replaces the refused message of kind `kind`, of which `frame` are the bytes, and `name` the
/// prepared statement it makes.
pub(super) fn poison(kind: Kind, frame: &[u8], name: &[u8], refusal: Refusal) -> Poisoned {
    let Refusal { reply, keep_bytes } = refusal;
    let kept = match kind {
        Kind::Simple => kept(frame, keep_bytes),
        Kind::Parse
        | Kind::Bind
        | Kind::Describe
        | Kind::Close
        | Kind::Execute
        | Kind::FunctionCall => &[],
    };
    let (message, expected) = match kind {
        Kind::Simple => {
            // The line end closes a comment that nothing else did.
            let between: &[u8] = if kept.is_empty() { b"" } else { b"\n" };
            let text = [kept, between, POISON].concat();
            return Poisoned {
                frame: written(&Frontend::Query(&text)),
                plan: refused(reply, !kept.is_empty(), UNDEFINED_COLUMN),
            };
        }
        Kind::Parse => (parse(name), UNDEFINED_COLUMN),
        Kind::Bind | Kind::Describe | Kind::Close | Kind::Execute => {
            (parse(POISON_NAME), UNDEFINED_COLUMN)
        }
        Kind::FunctionCall => (no_function(), UNDEFINED_FUNCTION),
    };
    Poisoned { frame: written(&message), plan: refused(reply, false, expected) }
}

/// The part of a `Query` in front of its refused statement. Nothing if that is not inside the text.
fn kept(frame: &[u8], keep_bytes: usize) -> &[u8] {
    let text = frame.get(HEADER_BYTES..frame.len().saturating_sub(1)).unwrap_or_default();
    match text.get(..keep_bytes) {
        Some(kept) if keep_bytes < text.len().min(KEPT_BYTES_MAX) && !kept.contains(&0) => kept,
        Some(_) | None => &[],
    }
}

fn refused(reply: Reply, behind_others: bool, expected: [u8; 5]) -> Box<Plan> {
    let said = Said::new(reply, Severity::Error);
    Plan::of_refusal(Refused { said, behind_others, expected })
}

fn parse(name: &[u8]) -> Frontend<'_> {
    Frontend::Parse(Parse { name, text: POISON, types: Oids::new([]).expect("none") })
}

fn no_function() -> Frontend<'static> {
    Frontend::FunctionCall(FunctionCall {
        function: 0,
        formats: Formats::new([]).expect("none"),
        values: Values::new([]).expect("none"),
        result_format: 0,
    })
}

fn written(message: &Frontend<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    message.write(&mut frame).expect("no zeros, and hardly longer than what it replaces");
    frame
}

/// A statement that waits, decided.
#[derive(Debug)]
pub(super) enum Ruling {
    Forward(Option<Box<Plan>>),
    Refuse(Refusal),
    Terminate(Reply),
}
