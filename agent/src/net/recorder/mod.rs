//! From what the protocol core reports to what the log holds, with the writer of every byte.
//!
//! At tier T1 writers change at offsets that are estimates: statements near one list the processes of both sides in
//! `shared_with`, see `turns`.

use std::sync::{Arc, atomic::Ordering};

use pgward_common::{Flow, WriterChanged};

mod beginning;

use beginning::Beginning;
pub use beginning::{Hello, described};

use super::{
    identify::{Answer, Identifier, Who},
    registry::Entry,
    relay::{Pending, Source},
    turns::Turns,
    writers::Registration,
};
use crate::{
    audit::{
        BootNanos, Confidence, Copied, EndReason, Excerpt, Json, NotRecorded, Now, Outcome,
        Parameter, ParameterSource, Parameters, Recorded, ResultPart, SessionEnd, SessionId,
        SessionSeq, Sink, Statement, StatementKind, TextState, Tier, Transaction, WallNanos,
        ledger::{Connect, Failure},
    },
    config,
    pg::{
        Session,
        backend::TransactionStatus,
        handshake,
        session::{self as core, Decision, Event, State, StatementId},
    },
    tls,
};

/// What a worker gives to each of its sessions.
#[derive(Clone)]
pub struct Recording {
    /// The worker's way into the log.
    pub sink: Sink,
    /// What is recorded of statements.
    pub audit: Arc<config::Audit>,
    /// Looks writers up.
    pub identifier: Arc<Identifier>,
    /// Best tier at work.
    pub tier: Tier,
}

/// Records one session.
pub struct Recorder {
    recording: Recording,
    seq: SessionSeq,
    entry: Entry,
    flow: Flow,
    /// Bytes taken off the client's socket so far.
    read: u64,
    /// Where the turn of the writer that is being identified begins, in the client's decrypted stream.
    turn_from: u64,
    registration: Registration,
    changes: std::collections::VecDeque<WriterChanged>,
    turns: Turns<Arc<Who>>,
    beginning: Beginning,
    /// Until the session's start is recorded.
    connect: Option<Connect>,
    statements: u64,
    sqlstate: Option<[u8; 5]>,
    terminated: bool,
    state: State,
    now: Now,
    ended: bool,
}

/// A statement was recorded as far as it must be before it goes.
pub struct Decided {
    /// Which.
    pub id: StatementId,
    /// What becomes of it.
    pub decision: Decision,
}

impl Recorder {
    /// For a connection whose startup packet was read.
    pub fn new(
        recording: Recording,
        entry: Entry,
        flow: Flow,
        opener: Arc<Who>,
        registration: Registration,
        hello: Hello<'_>,
        connect: Connect,
    ) -> Self {
        let beginning = Beginning::new(&hello);
        let _ = entry.shown.startup.set(hello.shown());
        let seq = SessionSeq::new(entry.shown.id);
        Self {
            recording,
            seq,
            entry,
            flow,
            read: hello.raw_read,
            turn_from: 0,
            registration,
            changes: std::collections::VecDeque::new(),
            turns: Turns::new(opener),
            beginning,
            connect: Some(connect),
            statements: 0,
            sqlstate: None,
            terminated: false,
            state: State::Startup,
            now: Now::read(),
            ended: false,
        }
    }

    /// Its session.
    pub fn session_id(&self) -> SessionId {
        self.seq.id()
    }

    /// Reads the clocks, for all that happens in one poll.
    pub fn look_at_clocks(&mut self) {
        self.now = Now::read();
    }

    /// The clocks as last read.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Whether the session took its first request.
    pub fn is_ready(&self) -> bool {
        self.beginning.recorded
    }

    /// Whether the client said goodbye.
    pub fn client_said_goodbye(&self) -> bool {
        self.terminated
    }

    /// Whether the worker should read no more from this client for now.
    pub fn saturated(&self) -> bool {
        self.recording.sink.saturated()
    }

    /// Completes when the log has taken enough.
    pub fn taken(&self) -> Pending<Result<(), NotRecorded>> {
        let sink = self.recording.sink.clone();
        Box::pin(async move { sink.ready().await })
    }

    /// Shows the session to whoever asks.
    pub fn show(&mut self, session: &Session, client_bytes: u64, server_bytes: u64) {
        self.entry.shown.client_bytes.store(client_bytes, Ordering::Relaxed);
        self.entry.shown.server_bytes.store(server_bytes, Ordering::Relaxed);
        let state = session.state();
        if state != self.state {
            self.state = state;
            let shown = &self.entry.shown;
            shown.state.store(state_index(state), Ordering::Relaxed);
            shown.state_since.store(self.now.wall.0, Ordering::Relaxed);
        }
    }

    /// More of the client's stream was read. Gives what is to be awaited before it is looked at, when another process than
    /// before wrote some of it.
    pub fn look_for_writers(&mut self, source: &mut impl Source) -> Option<Pending<Arc<Who>>> {
        self.read = source.raw_read();
        self.changes.extend(self.registration.changes());
        self.identify_next(source)
    }

    fn identify_next(&mut self, source: &mut impl Source) -> Option<Pending<Arc<Who>>> {
        let change = self.changes.front()?;
        // Not known yet: then nothing that was decrypted so far is of the new writer.
        self.turn_from = source.plain_at(self.offset(change.seq))?;
        let (actor, identifier) = (change.actor, self.recording.identifier.clone());
        Some(Box::pin(async move { identifier.who(actor).await }))
    }

    /// The process of the oldest change is known; gives what is to be awaited next, if anything.
    pub fn writer_identified(
        &mut self,
        who: Arc<Who>,
        source: &mut impl Source,
    ) -> Option<Pending<Arc<Who>>> {
        if let Some(change) = self.changes.pop_front() {
            let tier = if change.tier == 2 { Tier::T2 } else { Tier::T1 };
            self.turns.begin(self.turn_from, who, tier);
        }
        self.identify_next(source)
    }

    /// Offset in the client's TCP stream of a TCP sequence number, which is somewhere near what was read.
    fn offset(&self, seq: u32) -> u64 {
        let distance = seq.wrapping_sub(self.flow.first_seq).wrapping_sub(self.read as u32) as i32;
        self.read.saturating_add_signed(i64::from(distance))
    }

    /// Records what is to be recorded of an event. A statement that waits gets its decision.
    pub fn event(&mut self, event: Event, now: Now) -> Result<Option<Decided>, NotRecorded> {
        match event {
            Event::StatementReady(ready) => {
                // The seam for policy and for the durable intent: today every statement goes as long as it can be recorded.
                self.recording.sink.check()?;
                return Ok(Some(Decided { id: ready.id, decision: Decision::Forward }));
            }
            Event::StatementDone(statement) => {
                let _: Recorded = self.statement(&statement, now)?;
            }
            Event::ParameterStatus { name, value } => self.beginning.told(&name, value),
            Event::ServerError { fatal: _, sqlstate } => self.sqlstate = sqlstate.or(self.sqlstate),
            Event::Terminate => self.terminated = true,
        }
        Ok(None)
    }

    /// Takes note of what a handshake came to know.
    pub fn handshake(&mut self, event: handshake::Event) {
        use handshake::Event;
        match event {
            Event::Demand(demand) => self.beginning.demanded(demand),
            Event::NegotiatedMinor(minor) => self.beginning.minor = minor,
            Event::Authenticated(how) => {
                self.beginning.how = Some(how);
                let _ = self.entry.shown.handshake.set(beginning::kind(how));
            }
            Event::ParameterStatus { name, value } => self.beginning.told(&name, value),
            Event::BackendKeyData { pid, server_key: _, client_key: _ } => {
                self.beginning.backend_pid = Some(pid);
                self.entry.shown.backend_pid.store(pid, Ordering::Relaxed);
            }
            Event::ServerError { sqlstate, blame: _ } => self.sqlstate = sqlstate.or(self.sqlstate),
            Event::Terminate => self.terminated = true,
            Event::CredentialsWanted
            | Event::VerifierStale
            | Event::KeysWanted { .. }
            | Event::PasswordWanted
            | Event::AccountRefused
            | Event::Ready => {}
        }
    }

    /// What is known of the connection to the server: TLS and what of it was verified, if it is encrypted, and the role used there.
    pub fn reached(&mut self, tls: Option<(&tls::Parameters, &'static str)>, login: &[u8]) {
        self.beginning.server_tls = tls.map(|(tls, _)| described(tls));
        self.beginning.server_verified = tls.map(|(_, verified)| verified);
        let shown = self.beginning.server_tls.as_deref().map(Into::into);
        let _ = self.entry.shown.server_tls.set(shown);
        self.beginning.login = Some(login.into());
    }

    /// The session takes its first request: there is no forwarding before this is recorded.
    pub fn session_start(&mut self) -> Result<Recorded, NotRecorded> {
        self.beginning.recorded = true;
        let now = self.now;
        let confidence = self.confidence();
        let opener = self.turns.opener().clone();
        let flow = &self.flow;
        let record = self.beginning.record(&opener.full, self.recording.tier, confidence, flow);
        let recorded = self.recording.sink.record(&self.seq.stamp(now), &record);
        if let Some(connect) = self.connect.take() {
            match &recorded {
                Ok(_) => connect.session(),
                Err(_) => connect.failed(Failure::NotRecorded),
            }
        }
        recorded
    }

    fn confidence(&self) -> Confidence {
        let watched = self.recording.tier != Tier::T0;
        if watched && !self.turns.lost() && self.registration.complete() {
            Confidence::Exact
        } else {
            Confidence::OpenerOrLater
        }
    }

    fn statement(&mut self, done: &core::Statement, now: Now) -> Result<Recorded, NotRecorded> {
        let written = self.turns.of(done.span.start..done.span.end);
        let shared: Vec<Json> = written.shared.iter().map(|who| who.compact.clone()).collect();
        let writer = &written.writer.compact;
        let tier = match self.confidence() {
            Confidence::Exact => written.tier.unwrap_or(self.recording.tier),
            Confidence::OpenerOrLater => Tier::T0,
        };

        let audit = &self.recording.audit;
        let results: Vec<ResultPart<'_>> = done
            .results
            .iter()
            .map(|result| ResultPart { tag: result.tag.as_bytes(), rows: result.rows })
            .collect();
        let encoding = self.beginning.client_encoding.as_deref().filter(|e| *e != b"UTF8");
        let us = |nanos: u64| nanos.saturating_sub(done.started) / 1000;
        let record = Statement {
            kind: kind(done.kind),
            text: Excerpt::beginning(&done.text, done.text_bytes as u64)
                .shortened(audit.statement_bytes_max),
            text_state: text_state(done.text_state),
            client_encoding: encoding,
            name: done.statement_name(),
            portal: &done.portal,
            function_oid: done.function,
            parameters: match audit.parameters {
                config::Parameters::Omit => Parameters::Omitted(done.parameters_count()),
                config::Parameters::Record => Parameters::Listed(&Bound(done)),
            },
            tag: done.tag.as_bytes(),
            rows: done.rows,
            row_bytes: done.row_bytes,
            results: &results,
            results_total: done.results_total.into(),
            copy_in: done.copy_in.map(|c| Copied { bytes: c.bytes, rows: c.rows }),
            copy_out: done.copy_out.map(|c| Copied { bytes: c.bytes, rows: c.rows }),
            outcome: outcome(done.outcome),
            sqlstate: done.sqlstate,
            commit_sqlstate: done.sync_sqlstate,
            started: WallNanos::at(BootNanos(done.started), now),
            first_response_us: done.first_response.map(us),
            duration_us: us(done.done),
            transaction: done.transaction.map(transaction),
            writer,
            tier,
            shared_with: &shared,
        };
        let stamp = self.seq.stamp(now);
        let recorded = self.recording.sink.record(&stamp, &record);
        self.statements += 1;
        let shown = &self.entry.shown;
        shown.statements.fetch_add(1, Ordering::Relaxed);
        shown.rows.fetch_add(done.rows, Ordering::Relaxed);
        self.turns.forget_before(done.span.start);
        recorded
    }

    /// The last record of the session. `session_start` comes first, should it not have been written yet.
    pub fn end(mut self, end: Ended<'_>) {
        self.write_end(&end);
    }

    fn write_end(&mut self, end: &Ended<'_>) {
        self.ended = true;
        self.look_at_clocks();
        let now = self.now;
        if !self.beginning.recorded {
            let _ = self.session_start();
        }
        let connect = WallNanos::at(BootNanos(self.flow.connect_boottime_ns), now);
        let record = SessionEnd {
            reason: end.reason,
            detail: end.detail,
            sqlstate: end.sqlstate.or(self.sqlstate),
            statements: self.statements,
            client_bytes: end.client_bytes,
            server_bytes: end.server_bytes,
            duration_us: now.wall.0.saturating_sub(connect.0) / 1000,
        };
        // The session is over: nobody is left to be told that this could not be written; the log counts it.
        let _ = self.recording.sink.record(&self.seq.stamp(now), &record);
    }
}

impl Drop for Recorder {
    /// A session that ends by a fault of ours has its last record too.
    fn drop(&mut self) {
        if !self.ended {
            self.write_end(&Ended {
                reason: EndReason::AgentFault,
                detail: None,
                sqlstate: None,
                client_bytes: self.read,
                server_bytes: 0,
            });
        }
    }
}

/// Asks for a process before it is needed.
pub fn ask(identifier: &Identifier, flow: &Flow) -> Answer {
    identifier.ask(flow.opener)
}

/// How a session ended.
pub struct Ended<'a> {
    /// Why.
    pub reason: EndReason,
    /// More about it; no SQL.
    pub detail: Option<&'a str>,
    /// The agent's own SQLSTATE.
    pub sqlstate: Option<[u8; 5]>,
    /// Bytes read from the client.
    pub client_bytes: u64,
    /// Bytes read from the server.
    pub server_bytes: u64,
}

/// Parameters where the core holds them.
struct Bound<'a>(&'a core::Statement);

impl ParameterSource for Bound<'_> {
    fn count(&self) -> usize {
        self.0.parameters_count()
    }

    fn each(&self, take: &mut dyn FnMut(Parameter<'_>)) {
        for p in self.0.parameters() {
            let value = p.value.map(|kept| Excerpt::beginning(kept, p.bytes.into()));
            take(Parameter { format: p.format, type_oid: p.type_oid, value });
        }
    }
}

fn text_state(state: core::TextState) -> TextState {
    match state {
        // That it was cut is said by the excerpt.
        core::TextState::Exact | core::TextState::Cut => TextState::Exact,
        core::TextState::Malformed => TextState::Malformed,
        core::TextState::Unknown => TextState::Unknown,
    }
}

fn kind(kind: core::Kind) -> StatementKind {
    match kind {
        core::Kind::Simple => StatementKind::Simple,
        core::Kind::Parse => StatementKind::Parse,
        core::Kind::Bind => StatementKind::Bind,
        core::Kind::Execute => StatementKind::Extended,
        core::Kind::FunctionCall => StatementKind::FunctionCall,
        core::Kind::Describe => StatementKind::Describe,
        core::Kind::Close => StatementKind::Close,
    }
}

fn outcome(outcome: core::Outcome) -> Outcome {
    match outcome {
        core::Outcome::Completed => Outcome::Completed,
        core::Outcome::Suspended => Outcome::Suspended,
        core::Outcome::Failed => Outcome::Failed,
        core::Outcome::Skipped => Outcome::Skipped,
        core::Outcome::Unfinished => Outcome::Unfinished,
        core::Outcome::Unsent => Outcome::Unsent,
    }
}

fn transaction(status: TransactionStatus) -> Transaction {
    match status {
        TransactionStatus::Idle => Transaction::Idle,
        TransactionStatus::Open => Transaction::Open,
        TransactionStatus::Failed => Transaction::Failed,
    }
}

fn state_index(state: State) -> u8 {
    match state {
        State::Startup => 0,
        State::Idle => 1,
        State::Active => 2,
        State::IdleInTransaction => 3,
        State::IdleInFailedTransaction => 4,
        State::CopyIn => 5,
        State::CopyOut => 6,
        State::CopyBoth => 7,
        State::Closing => 8,
    }
}
