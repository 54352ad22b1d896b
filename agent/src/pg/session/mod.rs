//! One session, from the first request on: which bytes may pass, and what they did.
//!
//! Client and server bytes go in as they lie in the driver's buffers; out comes how many of them
//! are done with, what is sent on for them, and events. A message that nothing was decided about
//! leaves as it came, from the same bytes. What differs, and nothing else does:
//!
//! * a refused statement is replaced by one that must fail on the server, and its error by that of
//!   the refusal (`plan`); where nothing is under way, the session answers by itself;
//! * notices are inserted, and rows beyond a ceiling withheld, where a decision says so;
//! * questions of the driver's own are asked and answered unseen (`ask`);
//! * a session that is ended by decision hears a FATAL as the last thing.
//!
//! What the session keeps is what ties answers to requests:
//!
//! ```text
//!   client bytes ──> handle_frontend ──> the same, or others ──────────> server
//!                      │  StatementReady ──> driver ──> handle_decision
//!                      v
//!                    answers owed (oldest first): Q  P  B  D  E  C  S  F  copy data
//!                      ^    and what is to be done about them
//!   client <── the same, or others <── handle_backend <────── server bytes
//!                      └─ StatementDone, ParameterStatus, ...
//!
//!   Ready ──FATAL of the server──> Closing
//!     └────FATAL of our own──────> Over
//!
//!   Ready: Q ─> T D* C | I | G d* c C | H d* c C | E ... ─> Z      (simple)
//!          P ─> 1    B ─> 2    D ─> t? T|n    C ─> 3    E ─> D* C|I|s    S ─> Z   (extended)
//!          any of P B D C E fails: E, then everything up to the next S is discarded
//! ```
//!
//! Source: PostgreSQL documentation, "Message Flow"; `src/backend/tcop/postgres.c`,
//! `src/backend/commands/copyfromparse.c`.

mod ask;
mod back;
mod decision;
mod front;
mod names;
mod passed;
mod pending;
mod plan;
mod report;
mod rule;
mod watch;

use std::collections::VecDeque;

use ask::Asking;
pub use ask::{Answer, NotAsked, Question, Row, Unanswered};
pub use decision::{Ceiling, Decision, Forward, Notice, NoticeSeverity, Permit, Permits, Refusal};
pub use names::Name;
use names::Names;
pub use passed::{Output, Passed};
use pending::{CopyRun, Owed, Pending};
use plan::Ruling;
pub use report::{
    Bound, CancelKey, CopyCount, Event, Kind, Outcome, Parameter, Parameters, Prepared, Ready,
    Span, Statement, StatementId, StatementResult, Tag, TextState,
};

use super::backend::TransactionStatus;
use super::codec::{ANSWERS_OWED_MIN, Limits};
use super::handshake::Authenticated;

/// Events kept for the driver before nothing more is read; it is expected to take all of them
/// after each call.
pub const EVENTS_MAX: usize = 1_024;
/// Statements that are done and wait for the `Sync` behind them to tell the transaction's status.
/// Beyond, the oldest is reported without.
pub const DONE_WAITING_MAX: usize = 256;

/// Whether statements wait for a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `StatementReady` is news: the statement passes at once.
    Pass,
    /// Nothing passes at and behind a statement until [`Session::handle_decision`].
    Hold,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its handshake is under way: no [`Session`] yet.
    Startup,
    /// It waits for a request, outside of any transaction.
    Idle,
    /// It waits for a request inside a transaction.
    IdleInTransaction,
    /// It waits for a request inside a failed transaction.
    IdleInFailedTransaction,
    /// It works on a request.
    Active,
    /// It takes COPY data from the client.
    CopyIn,
    /// It sends COPY data to the client.
    CopyOut,
    /// It streams both ways: replication.
    CopyBoth,
    /// The server or the client ended it.
    Closing,
}

/// Sums over the life of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes released towards the server.
    pub frontend_bytes: u64,
    /// Bytes released towards the client.
    pub backend_bytes: u64,
    /// `Query`, `Execute` and `FunctionCall` messages.
    pub statements: u64,
    /// `ErrorResponse` messages.
    pub errors: u64,
    /// `DataRow` messages.
    pub rows: u64,
}

/// A session of protocol 3 behind its handshake, as the machine in the middle sees it.
///
/// Order of calls, for each direction on its own:
///
/// 1. Append what was read to a buffer and call `handle_frontend` or `handle_backend` with all of
///    it, until there [is nothing](Passed::is_nothing).
/// 2. After each call take all events, and answer each `StatementReady` of a holding gate with
///    `handle_decision`, then or later.
/// 3. Send the output on, in order, and remove the bytes taken. Never pass a byte twice.
///
/// Answers free what waits for them, so after `handle_backend` try `handle_frontend` again if
/// bytes are left. After `handle_frontend`, `ask` and `terminate` there may be something to send
/// without any bytes to look at: see [`Session::frontend_output_waits`] and
/// [`Session::backend_output_waits`]. After an error or at the end of either connection call
/// `handle_close` once.
pub struct Session {
    limits: Limits,
    gate: Gate,
    phase: Phase,
    front: Front,
    /// Bytes of the server's message under way that pass unread.
    back_body_left: u32,
    /// They are withheld.
    back_dropping: bool,
    back_wanted: usize,
    /// What goes to the client in place of the bytes in front, at the next call.
    back_edit: Option<Box<Passed>>,
    /// Messages of our own for the client, at the next boundary.
    to_client: Vec<u8>,
    /// A question of the driver's own.
    asking: Option<Box<Asking>>,
    /// See [`Session::decide_under`].
    epoch: Option<u64>,
    owed: Owed,
    copy: Copying,
    /// The server discards everything up to the next `Sync`.
    skipping: bool,
    /// `Sync` messages that a failed COPY may or may not have swallowed, see `Session::doubt_syncs`.
    syncs_doubtful: u32,
    names: Names,
    transaction: TransactionStatus,
    done_waiting: VecDeque<Box<Statement>>,
    events: VecDeque<Event>,
    counters: Counters,
}

/// How far the session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Requests and answers.
    Ready,
    /// The server ended the session.
    Closing,
    /// It was ended by decision.
    Over,
}

/// The client's direction.
#[derive(Default)]
struct Front {
    /// Bytes released so far.
    offset: u64,
    /// Bytes of the message under way that pass as they come.
    body_left: u32,
    /// They are COPY data.
    body_is_copy: bool,
    /// They are not passed.
    drops_body: bool,
    /// The last statement was refused: COPY data behind it does not pass.
    drops_copy: bool,
    /// Messages of the extended protocol were sent since the server was last ready.
    unsynced: bool,
    /// The server was asked for what it keeps to itself.
    flushed: bool,
    /// A cancel request of the driver's own is on its way.
    cancel_waits: bool,
    terminated: bool,
    wanted: usize,
    held: Option<Box<Held>>,
    statements: u64,
    /// What goes to the server in place of the bytes in front, at the next call.
    edit: Option<Box<Passed>>,
    /// Messages of our own for the server, at the next boundary.
    to_server: Vec<u8>,
}

/// A statement that waits for its decision.
struct Held {
    id: StatementId,
    frame_bytes: usize,
    ruling: Option<Ruling>,
    pending: Pending,
}

/// COPY under way at the oldest answer owed.
#[derive(Default, Clone, Copy)]
struct Copying {
    /// The server takes data, and the client has not ended it.
    from_client: bool,
    /// The server sends data.
    to_client: bool,
    /// The data from the client is binary.
    binary: bool,
    /// `Sync` messages of the client taken for part of the COPY.
    syncs: u32,
    /// Data from the client.
    run: CopyRun,
}

impl Session {
    /// A session that takes its first request.
    ///
    /// `_authenticated` is what a [handshake](super::handshake) came to: there is no session without. `offset` is where the
    /// first byte behind the handshake lies in the client's stream.
    pub fn new(limits: Limits, gate: Gate, offset: u64, _authenticated: Authenticated) -> Self {
        let answers_owed_max = limits.answers_owed_max.max(ANSWERS_OWED_MIN);
        Self {
            limits: Limits { answers_owed_max, ..limits },
            gate,
            phase: Phase::Ready,
            front: Front { offset, ..Front::default() },
            back_body_left: 0,
            back_dropping: false,
            back_wanted: 0,
            back_edit: None,
            to_client: Vec::new(),
            asking: None,
            epoch: None,
            owed: Owed::default(),
            copy: Copying::default(),
            skipping: false,
            syncs_doubtful: 0,
            names: Names::default(),
            transaction: TransactionStatus::Idle,
            done_waiting: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Oldest event not taken yet.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Ends the session: either connection is closed, or an error was returned. What the server
    /// still owes is reported as `Unfinished`, what never went to it as `Unsent`.
    pub fn handle_close(&mut self, now: u64) {
        if self.phase == Phase::Ready {
            self.phase = Phase::Closing;
        }
        self.give_up_question();
        self.flush_done(None, None);
        self.settle_copy();
        while let Some(pending) = self.owed.pop() {
            if pending.is_execution() {
                self.report(pending, Outcome::Unfinished, now);
            }
        }
        if let Some(held) = self.front.held.take()
            && held.pending.is_execution()
        {
            self.report(held.pending, Outcome::Unsent, now);
        }
        self.copy = Copying::default();
    }

    /// Status of the transaction as the last `ReadyForQuery` said.
    pub fn transaction_status(&self) -> TransactionStatus {
        self.transaction
    }

    /// Sums so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the session is doing.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closing | Phase::Over => State::Closing,
            Phase::Ready if self.front.terminated && self.owed.is_empty() => State::Closing,
            Phase::Ready => match (self.copy.from_client, self.copy.to_client) {
                (true, true) => State::CopyBoth,
                (true, false) => State::CopyIn,
                (false, true) => State::CopyOut,
                (false, false) if !self.owed.is_empty() || self.front.held.is_some() => {
                    State::Active
                }
                (false, false) => match self.transaction {
                    TransactionStatus::Idle => State::Idle,
                    TransactionStatus::Open => State::IdleInTransaction,
                    TransactionStatus::Failed => State::IdleInFailedTransaction,
                },
            },
        }
    }

    /// Bytes the client's buffer has to hold before its front message can be read, 0 if none is
    /// incomplete. At most `Limits::message_bytes_max + 1`; a hint for growing a buffer as data
    /// comes, not a promise that it will.
    pub fn frontend_bytes_wanted(&self) -> usize {
        self.front.wanted
    }

    /// The same for the server's buffer.
    pub fn backend_bytes_wanted(&self) -> usize {
        self.back_wanted
    }

    /// Whether a part of the server's message under way was released and the rest is still to come: nothing else may be sent
    /// to the client then.
    pub fn backend_is_mid_message(&self) -> bool {
        self.back_body_left > 0 && !self.back_dropping
    }

    /// Whether [`Session::handle_frontend`] has something for the server without being given any
    /// bytes.
    pub fn frontend_output_waits(&self) -> bool {
        self.phase == Phase::Ready && self.front.body_left == 0 && !self.front.to_server.is_empty()
    }

    /// Whether [`Session::handle_backend`] has something for the client without being given any
    /// bytes.
    pub fn backend_output_waits(&self) -> bool {
        self.back_body_left == 0 && !self.to_client.is_empty()
    }

    /// Whether the beginning of a message that the server did not complete may go to the client,
    /// where the server closed its connection: not if it could be one that is not for the client.
    pub fn backend_rest_may_pass(&mut self) -> bool {
        self.phase != Phase::Over
            && !self.back_dropping
            && self.asking.is_none()
            && self.owed.plan().is_none()
    }

    /// Answers the server owes.
    pub fn answers_owed(&self) -> usize {
        self.owed.len()
    }

    /// Where the next client byte to be released lies in the raw client stream.
    pub fn frontend_offset(&self) -> u64 {
        self.front.offset
    }

    fn next_id(&mut self) -> StatementId {
        self.front.statements += 1;
        StatementId(self.front.statements)
    }

    /// Reports the end of a pending message without an answer of its own.
    fn report(&mut self, pending: Pending, outcome: Outcome, now: u64) {
        if let Some(mut statement) = pending.into_statement() {
            statement.outcome = outcome;
            statement.done = now;
            self.events.push_back(Event::StatementDone(statement));
        }
    }

    /// Reports what waited for the end of its pipeline.
    fn flush_done(&mut self, status: Option<TransactionStatus>, sqlstate: Option<[u8; 5]>) {
        for mut statement in self.done_waiting.drain(..) {
            statement.transaction = status;
            statement.sync_sqlstate = statement.sync_sqlstate.or(sqlstate);
            self.events.push_back(Event::StatementDone(statement));
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("state", &self.state())
            .field("answers_owed", &self.owed.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
