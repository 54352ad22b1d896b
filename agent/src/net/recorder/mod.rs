//! From what the protocol core reports to what the log holds, with the writer of every byte.
//!
//! At tier T1 writers change at offsets that are estimates: statements near one list the processes of both sides in
//! `shared_with`, see `turns`.

use std::sync::{Arc, atomic::Ordering};
use std::task::{Context, Poll};

use pgward_common::{Flow, WriterChanged};

mod beginning;
mod gate;
mod judged;
mod outcomes;
mod statements;
mod texts;

use beginning::Beginning;
pub use beginning::{Hello, described};
pub use gate::Gate;
pub use judged::Judgement;
use statements::Statements;

use super::{
    identify::{Answer, Identifier, Who},
    registry::Entry,
    relay::{Pending, Source},
    turns::Turns,
    writers::Registration,
};
use crate::{
    audit::{
        BootNanos, Confidence, Encoded, EndReason, NotRecorded, Now, Record, Recorded, SealSoon,
        SessionEnd, SessionId, SessionMark, SessionSeq, SessionStart, Sink, Ticket, Tier,
        WallNanos, Writer,
        ledger::{Connect, Failure},
        values::{Keyring, Party, SessionValues, Stored},
    },
    config::{self, AuditMode},
    pg::{
        Session, handshake,
        session::{Event, State},
    },
    tls,
};

/// Entries of a session between two marks.
const MARK_ENTRIES: u64 = 1_000;
/// Time between two marks of a session that goes on, nanoseconds.
const MARK_NANOS: u64 = 300_000_000_000;
/// Whether this build records statements. One that does not is for measuring what recording costs,
/// and starts only for who says so; see `app::unaudited`.
const RECORDS: bool = !cfg!(feature = "unaudited");

/// What a worker gives to each of its sessions.
#[derive(Clone)]
pub struct Recording {
    /// The worker's way into the log.
    pub sink: Sink,
    /// What is recorded of statements.
    pub audit: Arc<config::Audit>,
    /// Keys of values.
    pub keyring: Keyring,
    /// Looks writers up.
    pub identifier: Arc<Identifier>,
    /// Best tier at work.
    pub tier: Tier,
    /// Asked for a seal when a session of mode `strict` ends.
    pub seal: Option<SealSoon>,
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
    /// Processes other than the opener that wrote, with the `seq` of the records that name them.
    writers: Vec<(Arc<Who>, u64)>,
    beginning: Beginning,
    mode: AuditMode,
    values: SessionValues,
    /// The key of its values is on its way to the disk.
    key_stored: Option<Stored>,
    statements: Statements,
    /// The newest record that must be durable before what the client sent goes on.
    to_go: Option<Ticket>,
    /// The newest record that must be durable before what the server answered goes on.
    to_answer: Option<Ticket>,
    /// What lies behind this offset of the client's stream never went to the server.
    unsent_from: Option<u64>,
    /// `seq` and time of the last mark.
    marked: (u64, u64),
    /// Until the session's start is recorded.
    connect: Option<Connect>,
    sqlstate: Option<[u8; 5]>,
    terminated: bool,
    state: State,
    now: Now,
    ended: bool,
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
    ) -> Result<Self, NotRecorded> {
        let beginning = Beginning::new(&hello);
        let mode = beginning.mode(&recording.audit);
        let _ = entry.shown.startup.set(hello.shown());
        let seq = SessionSeq::new(entry.shown.id);
        let (user, database) = beginning.names();
        let party = Party { destination: beginning.destination_name(), database, user };
        let begun = SessionValues::begin(&recording.keyring, &recording.audit, seq.id(), &party);
        let (values, key_stored) = begun.map_err(|_| NotRecorded::NoKeys)?;
        Ok(Self {
            recording,
            seq,
            entry,
            flow,
            read: hello.raw_read,
            turn_from: 0,
            registration,
            changes: std::collections::VecDeque::new(),
            turns: Turns::new(opener),
            writers: Vec::new(),
            beginning,
            mode,
            values,
            key_stored,
            statements: Statements::default(),
            to_go: None,
            to_answer: None,
            unsent_from: None,
            marked: (0, Now::read().boot.0),
            connect: None,
            sqlstate: None,
            terminated: false,
            state: State::Startup,
            now: Now::read(),
            ended: false,
        })
    }

    /// The connect that its first record accounts for.
    pub fn of_connect(mut self, connect: Connect) -> Self {
        self.connect = Some(connect);
        self
    }

    /// Settings that decide on what statements mean, as the server reported them so far.
    pub fn reported(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.beginning.reported()
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
        self.beginning.recorded && self.beginning.how.is_some()
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
            self.entry.shown.changed(state_index(state), self.now.wall);
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

    /// Records what is to be recorded of an event. Of statements that wait it is their decision, see [`Recorder::goes`].
    pub fn event(&mut self, event: Event, now: Now) -> Result<(), NotRecorded> {
        match event {
            Event::StatementDone(statement) => {
                if RECORDS {
                    let put = self.outcome(&statement, now);
                    self.or_without(put)?;
                }
                self.count(&statement);
            }
            Event::ParameterStatus { name, value } => self.beginning.told(&name, value),
            Event::ServerError { fatal: _, sqlstate } => self.sqlstate = sqlstate.or(self.sqlstate),
            Event::Terminate => self.terminated = true,
            // Told to the client by the core; the end is recorded as that of the session.
            Event::Ended { sqlstate } => self.sqlstate = Some(sqlstate),
            // They are for who decides.
            Event::StatementReady(_) | Event::CeilingReached(_) | Event::Answer(_) => {}
        }
        Ok(())
    }

    /// What could not be recorded, and is counted as lost, may happen where the configuration says so.
    fn or_without<T>(&self, put: Result<T, NotRecorded>) -> Result<Option<T>, NotRecorded> {
        match put {
            Ok(put) => Ok(Some(put)),
            Err(error) => self.recording.sink.without(error).map(|_: Recorded| None),
        }
    }

    /// The newest record that must be durable before what the client sent so far goes on, once.
    pub fn take_to_go(&mut self) -> Option<Ticket> {
        self.to_go.take()
    }

    /// The newest record that must be durable before what the server answered so far goes on, once.
    pub fn take_to_answer(&mut self) -> Option<Ticket> {
        self.to_answer.take()
    }

    /// Whether what belongs to `ticket` may go to the server.
    pub fn poll_may_go(
        &self,
        ticket: Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Recorded, NotRecorded>> {
        self.recording.sink.poll_may_go(self.mode, ticket, cx)
    }

    /// Whether what belongs to `ticket` may go to the client.
    pub fn poll_may_answer(
        &self,
        ticket: Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Recorded, NotRecorded>> {
        self.recording.sink.poll_durable(ticket, cx)
    }

    /// Only what lies before `offset` of the client's stream went to the server.
    pub fn sent_until(&mut self, offset: u64) {
        self.unsent_from = Some(offset);
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

    /// The client sent its startup packet: nothing is done about it before this is durable.
    pub async fn session_start(&mut self) -> Result<Recorded, NotRecorded> {
        let put = self.put_session_start();
        if let Some(stored) = self.key_stored.take() {
            // With `on_full = "allow"` a session goes on whose values may never be read.
            let stored = stored.await.map_err(|_| NotRecorded::NoKeys);
            stored.or_else(|error| self.recording.sink.without(error).map(drop))?;
        }
        self.durable(put).await
    }

    /// Waits until a record is durable, or may be done without.
    async fn durable(&self, put: Result<Ticket, NotRecorded>) -> Result<Recorded, NotRecorded> {
        match put {
            Ok(ticket) => self.recording.sink.durable(ticket).await,
            Err(error) => self.recording.sink.without(error),
        }
    }

    fn put_session_start(&mut self) -> Result<Ticket, NotRecorded> {
        self.beginning.started = true;
        let opener = self.turns.opener().clone();
        let beginning = std::mem::take(&mut self.beginning);
        let tier = self.recording.tier;
        let connect = self.connect.take();
        let record = SessionStart {
            connect: connect.as_ref().map(Connect::number),
            ..beginning.start(
                self.identity(&opener),
                tier,
                self.confidence(),
                &self.flow,
                self.mode,
            )
        };
        let put = self.put(&record);
        self.beginning = beginning;
        if let Some(connect) = connect {
            match &put {
                Ok(_) => connect.session(),
                Err(_) => connect.failed(Failure::NotRecorded),
            }
        }
        put
    }

    /// The client is logged in: it does not hear of it, and its first request is not taken, before this is durable.
    pub async fn authenticated(&mut self) -> Result<Recorded, NotRecorded> {
        let put = self.put_authentication(None);
        self.durable(put).await
    }

    /// The client is not logged in: it hears of it when this is durable, or cannot be.
    pub async fn not_authenticated(&mut self, end: &Ended<'_>) {
        if !self.beginning.started || self.beginning.recorded {
            return;
        }
        self.look_at_clocks();
        let put = self.put_authentication(Some(end));
        // It hears of it in any case: nothing of what it asked for is done.
        let _: Result<Recorded, NotRecorded> = self.durable(put).await;
    }

    fn put_authentication(&mut self, failed: Option<&Ended<'_>>) -> Result<Ticket, NotRecorded> {
        self.beginning.recorded = true;
        let beginning = std::mem::take(&mut self.beginning);
        let failed = failed.map(|end| (end.reason, end.detail, end.sqlstate.or(self.sqlstate)));
        let put = self.put(&beginning.authentication(failed));
        self.beginning = beginning;
        put
    }

    /// Records something of this session.
    fn put<'r>(&mut self, record: impl Into<Record<'r>>) -> Result<Ticket, NotRecorded> {
        let put = self.recording.sink.record(&self.seq.stamp(self.now), record)?;
        self.seq.recorded(&put.leaf);
        Ok(put.ticket)
    }

    /// The record that names a process: the one of the session's start for its opener, else one of its own.
    fn writer(&mut self, who: &Arc<Who>, tier: Tier) -> Result<u64, NotRecorded> {
        if who == self.turns.opener() {
            return Ok(0);
        }
        if let Some((_, seq)) = self.writers.iter().find(|(known, _)| known == who) {
            return Ok(*seq);
        }
        let seq = self.seq.next();
        let actor = self.identity(who).clone();
        self.put(&Writer { actor: &actor, tier })?;
        self.writers.push((who.clone(), seq));
        Ok(seq)
    }

    /// An identity as this session's records may hold it.
    fn identity<'w>(&self, who: &'w Who) -> &'w Encoded {
        match self.values.holds_clear() {
            true => &who.full,
            false => &who.guarded,
        }
    }

    /// Says from time to time how much there is of the session, so that a part of it can be proven while it lasts.
    fn mark(&mut self, now: Now) -> Result<(), NotRecorded> {
        let (seq, since) = self.marked;
        let due =
            self.seq.next() - seq >= MARK_ENTRIES || now.boot.0.saturating_sub(since) >= MARK_NANOS;
        if due {
            let (entries, digest) = self.seq.summary();
            self.put(&SessionMark { entries, digest })?;
            self.marked = (self.seq.next(), now.boot.0);
        }
        Ok(())
    }

    fn confidence(&self) -> Confidence {
        let watched = self.recording.tier != Tier::T0;
        if watched && !self.turns.lost() && self.registration.complete() {
            Confidence::Exact
        } else {
            Confidence::OpenerOrLater
        }
    }

    /// The last record of the session. `session_start` comes first, should it not have been written yet.
    pub fn end(mut self, end: Ended<'_>) {
        self.write_end(&end);
    }

    fn write_end(&mut self, end: &Ended<'_>) {
        self.ended = true;
        self.look_at_clocks();
        let now = self.now;
        if !self.beginning.started {
            let _ = self.put_session_start();
        }
        let connect = WallNanos::at(BootNanos(self.flow.connect_boottime_ns), now);
        let (entries, digest) = self.seq.summary();
        let record = SessionEnd {
            reason: end.reason,
            detail: end.detail,
            sqlstate: end.sqlstate.or(self.sqlstate),
            statements: self.statements.total(),
            client_bytes: end.client_bytes,
            server_bytes: end.server_bytes,
            duration_us: now.wall.0.saturating_sub(connect.0) / 1000,
            entries,
            digest,
        };
        // The session is over: nobody is left to be told that this could not be written; the log counts it.
        let put = self.recording.sink.record_closing(&self.seq.stamp(now), &record);
        if let (AuditMode::Strict, Some(seal), Ok(put)) = (self.mode, &self.recording.seal, put) {
            seal.behind(&self.recording.sink, put.ticket);
        }
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
