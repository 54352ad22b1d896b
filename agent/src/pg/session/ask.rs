//! Questions of the driver's own, put to the server over the client's session.
//!
//! ```text
//!   to the server:  C portal  C statement  P  B  E  C statement  S      (all under names of our own)
//!   from it:        3 3 1 2 D* C 3 Z, or E Z: none of it reaches the client
//! ```
//!
//! By the extended protocol, since a simple `Query` would drop the client's unnamed statement. A
//! question is put only where the server is idle, outside of any transaction, and owes nothing: it
//! is a transaction of its own and leaves nothing behind. What the client sends meanwhile waits.
//!
//! The session's settings hold for it. So names and operators have to be qualified
//! (`pg_catalog.pg_class`, `operator(pg_catalog.=)`), a `statement_timeout` of the client may end it
//! (`57014`), and so may a cancel request of the client, which is then used up: the client's next
//! statement will not feel it. Where the driver forwarded one since it asked, it should send it
//! again once that statement is on its way.
//!
//! What the server says to everyone still reaches the client: settings, notifications, warnings
//! that the server goes down, and the FATAL that ends a session.

use std::fmt;

use super::back::Step;
use super::plan::ERROR_READ_BYTES_MAX;
use super::report::Event;
use super::{Phase, Session};
use crate::pg::backend::{Backend, ErrorHead, TransactionStatus};
use crate::pg::codec::{HEADER_BYTES, Header, WriteError};
use crate::pg::error::{Error, SequenceFault, Side};
use crate::pg::frontend::{Bind, Formats, Frontend, Oids, Parse, Target, Values};

/// Name of the prepared statement and portal of a question.
const OWN_NAME: &[u8] = b"pgward: question";
/// What a question waits for, in words.
const AWAITED: &str = "a question of the agent's own";

/// A question to the server.
#[derive(Clone, Copy)]
pub struct Question<'q> {
    /// One statement, which returns rows or nothing.
    pub text: &'q [u8],
    /// Its parameters, in text format; the server finds their types.
    pub values: &'q [Option<&'q [u8]>],
    /// Rows that are kept.
    pub rows_max: usize,
    /// Bytes of values that are kept.
    pub bytes_max: usize,
}

/// A question was not put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// The server owes something, a transaction is open, or another question is under way: ask
    /// again when the session is idle.
    #[error("the session is busy")]
    Busy,
    /// No message can hold it.
    #[error("the question fits in no message")]
    Unwritable(#[from] WriteError),
}

/// What the server said to a question.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// Rows of values in text format, `None` for NULL.
    pub rows: Result<Vec<Row>, Unanswered>,
}

/// Values of one row, `None` for NULL.
pub type Row = Vec<Option<Box<[u8]>>>;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// The server refused it, with this code.
    Failed([u8; 5]),
    /// There were more rows or bytes than asked for.
    TooLarge,
    /// The session ended.
    Closed,
}

impl fmt::Debug for Answer {
    /// Without values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rows {
            Ok(rows) => write!(f, "Answer [{} rows]", rows.len()),
            Err(why) => write!(f, "Answer {why:?}"),
        }
    }
}

/// A question under way.
pub(super) struct Asking {
    rows: Result<Vec<Row>, Unanswered>,
    rows_left: usize,
    bytes_left: usize,
}

impl Session {
    /// Whether a question may be put now.
    pub fn may_ask(&self) -> bool {
        let undecided = self.front.held.as_ref().is_none_or(|held| held.ruling.is_none());
        self.is_quiet() && undecided && self.front.body_left == 0 && !self.front.terminated
    }

    /// Puts a question to the server; its messages come out of the next
    /// [`Session::handle_frontend`], whatever it is given, and [`Event::Answer`] tells of its end.
    ///
    /// Also before the client's first request, and while a statement in front waits for its
    /// decision.
    ///
    /// Errors: nothing was done.
    pub fn ask(&mut self, question: Question<'_>) -> Result<(), NotAsked> {
        if !self.may_ask() {
            return Err(NotAsked::Busy);
        }
        let mut out = Vec::new();
        let close = |target| Frontend::Close(target, OWN_NAME);
        for message in [
            // Left by a question that failed, if at all; closing what is not there is no error.
            close(Target::Portal),
            close(Target::Statement),
            Frontend::Parse(Parse { name: OWN_NAME, text: question.text, types: Oids::new([])? }),
            Frontend::Bind(Bind {
                portal: OWN_NAME,
                statement: OWN_NAME,
                formats: Formats::new([])?,
                values: Values::new(question.values.iter().copied())?,
                result_formats: Formats::new([])?,
            }),
            Frontend::Execute { portal: OWN_NAME, rows_max: 0 },
            close(Target::Statement),
            Frontend::Sync,
        ] {
            message.write(&mut out)?;
        }
        self.front.to_server.append(&mut out);
        self.asking = Some(Box::new(Asking {
            rows: Ok(Vec::new()),
            rows_left: question.rows_max,
            bytes_left: question.bytes_max,
        }));
        Ok(())
    }

    /// Takes a message of the server while a question is under way; `None` for one that is treated
    /// as at any other time.
    pub(super) fn answer_question(
        &mut self,
        header: Header,
        body: u32,
        rest: &[u8],
    ) -> Result<Option<Step>, Error> {
        let Some(asking) = &mut self.asking else { return Ok(None) };
        let read_max = match header.tag {
            b'S' | b'A' => return Ok(None),
            b'D' if asking.keeps(body) => body,
            b'D' => {
                asking.rows = Err(Unanswered::TooLarge);
                0
            }
            b'E' | b'N' => body.min(ERROR_READ_BYTES_MAX),
            b'Z' => body.min(1),
            b'1' | b'2' | b'3' | b'T' | b'n' | b'C' | b'I' => 0,
            tag => {
                let fault = SequenceFault::UnexpectedAnswer { tag, awaited: AWAITED };
                return Err(Error::Sequence { side: Side::Server, fault });
            }
        };
        let needed = HEADER_BYTES + read_max as usize;
        let Some(seen) = rest.get(HEADER_BYTES..needed) else {
            self.back_wanted = needed;
            return Ok(Some(Step::Wait));
        };
        match header.tag {
            b'D' if read_max > 0 => asking.row(seen)?,
            b'E' => {
                let head = ErrorHead::read(seen);
                let code = head.sqlstate.unwrap_or(*b"XX000");
                asking.rows = Err(Unanswered::Failed(code));
                if head.severity.ends_session() {
                    self.end_question();
                    return Ok(None);
                }
            }
            // `57P01` to `57P03`: the server goes down, which is no news of ours alone.
            b'N' if ErrorHead::read(seen).sqlstate.is_some_and(|c| c.starts_with(b"57P")) => {
                return Ok(None);
            }
            b'Z' => {
                let status = seen.first().copied().unwrap_or_default();
                self.transaction = TransactionStatus::from_byte(status).map_err(Error::server)?;
                self.end_question();
            }
            _ => {}
        }
        Ok(Some(self.drop_message(rest, body)))
    }

    /// Reports the end of the question under way, if there is one.
    pub(super) fn end_question(&mut self) {
        if let Some(asking) = self.asking.take() {
            self.events.push_back(Event::Answer(Box::new(Answer { rows: asking.rows })));
        }
    }

    /// The session ended.
    pub(super) fn give_up_question(&mut self) {
        if let Some(asking) = &mut self.asking {
            asking.rows = Err(Unanswered::Closed);
        }
        self.end_question();
    }

    /// Whether the server is idle, outside of any transaction, and owes nothing to anyone.
    pub(super) fn is_quiet(&self) -> bool {
        self.phase == Phase::Ready
            && self.transaction == TransactionStatus::Idle
            && self.asking.is_none()
            && self.owed.is_empty()
            && !self.front.unsynced
            && !self.skipping
            && self.syncs_doubtful == 0
            && !self.copy.from_client
            && !self.copy.to_client
    }
}

impl Asking {
    fn keeps(&self, row_bytes: u32) -> bool {
        self.rows.is_ok() && self.rows_left > 0 && row_bytes as usize <= self.bytes_left
    }

    fn row(&mut self, body: &[u8]) -> Result<(), Error> {
        if let Backend::DataRow(values) = Backend::read(b'D', body).map_err(Error::server)?
            && let Ok(rows) = &mut self.rows
        {
            self.rows_left -= 1;
            self.bytes_left -= body.len();
            rows.push(values.iter().map(|value| value.map(Into::into)).collect());
        }
        Ok(())
    }
}
