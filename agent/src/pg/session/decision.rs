//! What becomes of a statement that waits, as the driver decides it.

use super::report::StatementId;
use crate::pg::backend::{ErrorField, ErrorFields};
use crate::pg::codec::{WriteError, Writer};
use crate::pg::error::{Reply, Severity};
use crate::pg::list::Terminated;

/// `insufficient_privilege`.
const INSUFFICIENT_PRIVILEGE: [u8; 5] = *b"42501";

/// What becomes of a statement that waits.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes to the server as it came.
    Forward(Forward),
    /// The server gets a statement in its place that must fail, and the client this error.
    Refuse(Refusal),
    /// The session ends with this error, once everything in front of the statement is answered.
    Terminate(Reply),
}

/// Proof that somebody who may say so let a statement pass: without one nothing is forwarded.
///
/// This module knows no policy. What decides implements [`Permits`] for its verdict, and
/// [`Permit::of`] is the only way from there to here. One permit is for one statement: it cannot be
/// copied, and it names the statement.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    id: StatementId,
}

/// A verdict over one statement.
pub trait Permits {
    /// Whether the statement may go to the server.
    fn permits(&self) -> bool;
}

impl Permit {
    /// The permit that `verdict` is for statement `id`, if it is one.
    pub fn of(id: StatementId, verdict: &impl Permits) -> Option<Self> {
        verdict.permits().then_some(Self { id })
    }

    /// The statement that may pass.
    pub fn id(&self) -> StatementId {
        self.id
    }
}

/// A statement that may pass, and what is said and watched while it does.
#[derive(Debug, PartialEq, Eq)]
pub struct Forward {
    permit: Permit,
    notices: Vec<Notice>,
    ceiling: Option<Ceiling>,
}

impl Forward {
    /// It passes, and so do all of its answers.
    pub fn new(permit: Permit) -> Self {
        Self { permit, notices: Vec::new(), ceiling: None }
    }

    /// The client hears this in front of its first answer.
    #[must_use]
    pub fn with_notice(mut self, notice: Notice) -> Self {
        self.notices.push(notice);
        self
    }

    /// No more of its rows than that pass.
    #[must_use]
    pub fn with_ceiling(mut self, ceiling: Ceiling) -> Self {
        self.ceiling = Some(ceiling);
        self
    }

    pub(super) fn into_parts(self) -> (Permit, Vec<Notice>, Option<Ceiling>) {
        (self.permit, self.notices, self.ceiling)
    }
}

/// A statement that must not reach the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client hears. Its severity is `ERROR`, whatever is said here.
    pub reply: Reply,
    /// For a simple `Query` of several statements, where the refused one begins in its text:
    /// everything in front of it was allowed and runs, it and everything behind does not. 0 when it
    /// is the first. Not looked at for other messages.
    pub keep_bytes: usize,
}

/// Something that a client is told beside the answers of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How important it is.
    pub severity: NoticeSeverity,
    /// Five characters of the SQLSTATE: `01000` for a warning, `00000` for a notice.
    pub sqlstate: [u8; 5],
    /// Primary message.
    pub text: String,
    /// Detail, if any.
    pub detail: Option<String>,
    /// Hint, if any.
    pub hint: Option<String>,
}

/// Severity of a [`Notice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeSeverity {
    /// Something may be wrong.
    Warning,
    /// Something may be of interest.
    Notice,
}

impl Notice {
    /// Appends it as a `NoticeResponse`, fields in the server's order.
    ///
    /// Errors: a text holds a zero byte; nothing is appended.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        let severity: &[u8] = match self.severity {
            NoticeSeverity::Warning => b"WARNING",
            NoticeSeverity::Notice => b"NOTICE",
        };
        let mut fields = vec![
            ErrorField { code: b'S', text: severity },
            ErrorField { code: b'V', text: severity },
            ErrorField { code: b'C', text: &self.sqlstate },
            ErrorField { code: b'M', text: self.text.as_bytes() },
        ];
        for (code, text) in [(b'D', &self.detail), (b'H', &self.hint)] {
            fields.extend(text.as_ref().map(|text| ErrorField { code, text: text.as_bytes() }));
        }
        let fields: ErrorFields<'_> = Terminated::new(fields)?;
        Writer::frame(out, b'N', |writer| {
            fields.write(writer);
            Ok(())
        })
    }
}

/// How much of a statement's result may pass: rows of queries and of COPY to the client, over all
/// results of the message.
///
/// The first row beyond is withheld, and all behind it; [`Event::CeilingReached`] asks the driver to
/// have the server cancel the statement. The error of that cancel becomes `reply`. If the statement
/// is over before the cancel reaches it, the session ends: a result that was cut is never shown as
/// complete.
///
/// [`Event::CeilingReached`]: super::Event::CeilingReached
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    /// Rows that may pass.
    pub rows_max: Option<u64>,
    /// Bytes in the bodies of rows that may pass; a row passes whole or not at all.
    pub bytes_max: Option<u64>,
    /// What the client hears.
    pub reply: Reply,
}

/// An error as it is sent, with its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) sqlstate: [u8; 5],
    pub(super) frame: Vec<u8>,
}

impl Said {
    /// `reply` with the severity that fits; bare words in place of texts that no message can hold.
    pub(super) fn new(reply: Reply, severity: Severity) -> Self {
        let reply = Reply { severity, ..reply };
        let mut frame = Vec::new();
        if reply.write(&mut frame).is_ok() {
            return Self { sqlstate: reply.sqlstate, frame };
        }
        let bare = Reply { severity, ..Reply::fatal(INSUFFICIENT_PRIVILEGE, "permission denied") };
        frame.clear();
        bare.write(&mut frame).expect("short texts without zeros");
        Self { sqlstate: bare.sqlstate, frame }
    }
}
