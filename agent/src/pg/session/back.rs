//! The server's direction.

use std::sync::Arc;

use super::passed::Passed;
use super::pending::{Pending, must_fail};
use super::plan::ERROR_READ_BYTES_MAX;
use super::report::{Bound, CopyCount, Event, Kind, Outcome, Statement, Tag};
use super::{Copying, DONE_WAITING_MAX, EVENTS_MAX, Phase, Session};
use crate::pg::backend::{Backend, ErrorHead, TransactionStatus};
use crate::pg::codec::{BACKEND_SHORT_BYTES_MAX, HEADER_BYTES, Header};
use crate::pg::error::{BytesFault, Error, SequenceFault, Side};
use crate::pg::frontend::Target;

/// Largest length field of messages that may be long: the server's integer is signed.
const LONG_BYTES_MAX: u32 = 0x7fff_ffff;
/// Largest length field of a `ParameterDescription`: 65535 types.
const PARAMETER_DESCRIPTION_BYTES_MAX: u32 = 4 + 2 + 4 * 65_535;
/// Bytes of a `CommandComplete` that are read.
const TAG_PREFIX_BYTES: u32 = 128;
/// Bytes of an `ErrorResponse` that are read: severity and SQLSTATE come first.
const ERROR_PREFIX_BYTES: u32 = ErrorHead::PREFIX_BYTES_MAX as u32;

/// What a look at the front of the server's bytes came to.
pub(super) enum Step {
    /// This many bytes may pass.
    Took(usize),
    /// Others go in their place.
    Edit(Passed),
    /// Nothing may pass now.
    Wait,
}

impl Session {
    /// Looks at the server's bytes that are not done with yet, and tells how many of them are now and
    /// what the client gets for them: normally themselves, all of them.
    ///
    /// Held until complete are only the messages the session learns from, and of long ones only
    /// the beginning. `now` and the order of calls are as for [`Session::handle_frontend`].
    ///
    /// Errors: the server sent something that is no message, or answers nothing that was asked, so
    /// that what it does can no longer be told. Nothing at or behind the front of `input` may be
    /// forwarded.
    pub fn handle_backend(&mut self, now: u64, input: &[u8]) -> Result<Passed, Error> {
        if let Some(edit) = self.back_edit.take() {
            self.counters.backend_bytes += edit.sent_bytes() as u64;
            return Ok(*edit);
        }
        let mut taken = 0;
        self.back_wanted = 0;
        loop {
            match self.back_step(now, &input[taken..]) {
                Ok(Step::Took(bytes)) => {
                    taken += bytes;
                    self.counters.backend_bytes += bytes as u64;
                }
                Ok(Step::Edit(edit)) if taken == 0 => {
                    self.counters.backend_bytes += edit.sent_bytes() as u64;
                    return Ok(edit);
                }
                Ok(Step::Edit(edit)) => {
                    self.back_edit = Some(Box::new(edit));
                    return Ok(Passed::as_is(taken));
                }
                Ok(Step::Wait) => return Ok(Passed::as_is(taken)),
                Err(error) if taken == 0 => return Err(error),
                Err(_) => return Ok(Passed::as_is(taken)),
            }
        }
    }

    #[inline]
    fn back_step(&mut self, now: u64, rest: &[u8]) -> Result<Step, Error> {
        if self.back_body_left > 0 && !rest.is_empty() {
            let passed = rest.len().min(self.back_body_left as usize);
            self.back_body_left -= passed as u32;
            if self.back_dropping {
                self.back_dropping = self.back_body_left > 0;
                return Ok(Step::Edit(Passed::instead(passed, Vec::new())));
            }
            return Ok(Step::Took(passed));
        }
        if self.back_body_left == 0 && !self.to_client.is_empty() {
            return Ok(Step::Edit(Passed::instead(0, std::mem::take(&mut self.to_client))));
        }
        if rest.is_empty() {
            return Ok(Step::Wait);
        }
        if self.phase == Phase::Over {
            return Ok(Step::Edit(Passed::instead(rest.len(), Vec::new())));
        }
        if self.events.len() >= EVENTS_MAX {
            return Ok(Step::Wait);
        }
        let Some(header) = Header::read(rest) else {
            self.back_wanted = HEADER_BYTES;
            return Ok(Step::Wait);
        };
        if self.asking.is_none() {
            if let Some(notices) = self.owed.plan().and_then(|plan| plan.take_notices(header.tag)) {
                return Ok(Step::Edit(Passed::instead(0, notices)));
            }
            if header.tag == b'D' {
                return self.rows(now, rest);
            }
        }
        self.answer_message(now, header, rest)
    }

    /// Counts a run of `DataRow` messages by their headers.
    fn rows(&mut self, now: u64, rest: &[u8]) -> Result<Step, Error> {
        let copying = self.copy.from_client || self.copy.to_client;
        let (statement, plan) = match self.owed.front_planned() {
            Some((Pending::Query(statement) | Pending::Execute(statement), plan))
                if !copying
                    && statement.sqlstate.is_none()
                    && !must_fail(statement, plan.as_deref()) =>
            {
                (statement, plan)
            }
            _ => return Err(self.unexpected(b'D')),
        };
        let mut ceiling = plan.and_then(|plan| plan.ceiling.as_mut());
        let (mut taken, mut rows, mut bytes) = (0, 0_u64, 0_u64);
        while let Some(header) = Header::read(&rest[taken..])
            && header.tag == b'D'
        {
            let body = match header.body_bytes(LONG_BYTES_MAX) {
                Ok(body) => body,
                Err(_) if taken > 0 => break,
                Err(fault) => return Err(Error::server(fault)),
            };
            if let Some(ceiling) = &mut ceiling
                && !ceiling.admits(body)
            {
                break;
            }
            rows += 1;
            bytes += u64::from(body);
            let left = rest.len() - taken - HEADER_BYTES;
            if left < body as usize {
                self.back_body_left = body - left as u32;
                taken = rest.len();
                break;
            }
            taken += HEADER_BYTES + body as usize;
        }
        statement.first_response.get_or_insert(now);
        statement.rows += rows;
        statement.row_bytes += bytes;
        self.counters.rows += rows;
        if taken > 0 {
            return Ok(Step::Took(taken));
        }
        // The first row does not pass; its header was checked above.
        let header = Header::read(rest).map_or(0, |header| header.length.saturating_sub(4));
        self.reach_ceiling();
        Ok(self.drop_message(rest, header))
    }

    fn answer_message(&mut self, now: u64, header: Header, rest: &[u8]) -> Result<Step, Error> {
        let tag = header.tag;
        let Some((length_max, read_max)) = reading(tag) else {
            return Err(Error::server(BytesFault::UnknownTag { tag }));
        };
        let body = header.body_bytes(length_max).map_err(Error::server)?;
        if let Some(step) = self.answer_question(header, body, rest)? {
            return Ok(step);
        }
        let read_max = match tag {
            b'E' if self.owed.plan().is_some_and(|plan| plan.watches_errors()) => {
                ERROR_READ_BYTES_MAX
            }
            b'N' if self.owed.plan().is_some_and(|plan| plan.refused.is_some()) => {
                ERROR_PREFIX_BYTES
            }
            _ => read_max,
        };
        let needed = HEADER_BYTES + body.min(read_max) as usize;
        let Some(seen) = rest.get(HEADER_BYTES..needed) else {
            self.back_wanted = needed;
            return Ok(Step::Wait);
        };
        if let Some(step) = self.answer_planned(now, tag, seen, body, rest)? {
            return Ok(step);
        }
        self.answer(now, tag, seen, body)?;
        let passed = rest.len().min(HEADER_BYTES + body as usize);
        self.back_body_left = body - (passed - HEADER_BYTES) as u32;
        Ok(Step::Took(passed))
    }

    /// Acts on a message of which `seen` is the part of the body that [`reading`] asks for.
    fn answer(&mut self, now: u64, tag: u8, seen: &[u8], body: u32) -> Result<(), Error> {
        match (tag, self.phase) {
            // May come at any time and answer nothing.
            (b'N' | b'A', _) => Ok(()),
            (b'S', _) => {
                if let Backend::ParameterStatus { name, value } = read(tag, seen)? {
                    let (name, value) = (name.into(), value.into());
                    self.events.push_back(Event::ParameterStatus { name, value });
                }
                Ok(())
            }
            (b'E', _) => {
                self.error(now, ErrorHead::read(seen), Outcome::Failed);
                Ok(())
            }
            (_, Phase::Closing | Phase::Over) => Ok(()),
            (b'Z', Phase::Ready) => {
                let status = seen.first().copied().unwrap_or_default();
                let status = TransactionStatus::from_byte(status).map_err(Error::server)?;
                if body != 1 {
                    let found = body as usize - 1;
                    return Err(Error::server(BytesFault::Trailing { found }));
                }
                self.ready(now, status)
            }
            (_, Phase::Ready) => self.answer_owed(now, tag, seen, body),
        }
    }

    /// A message that answers the oldest one owed.
    fn answer_owed(&mut self, now: u64, tag: u8, seen: &[u8], body: u32) -> Result<(), Error> {
        let to_client = self.copy.to_client;
        let copying = to_client || self.copy.from_client;
        let Some((front, plan)) = self.owed.front_planned() else {
            return Err(self.unexpected(tag));
        };
        if plan.as_ref().is_some_and(|plan| plan.must_fail()) {
            return Err(self.unexpected(tag));
        }
        if let Some(statement) = front.statement() {
            if statement.sqlstate.is_some() || must_fail(statement, plan.as_deref()) {
                return Err(self.unexpected(tag));
            }
            statement.first_response.get_or_insert(now);
        }
        match (front, tag) {
            (Pending::Query(_), b'T') if !copying => {}
            (Pending::Query(statement) | Pending::Execute(statement), b'd') if to_client => {
                let nothing = CopyCount { bytes: 0, rows: Some(0) };
                let copied = statement.copy_out.get_or_insert(nothing);
                copied.bytes += u64::from(body);
                copied.rows = copied.rows.map(|rows| rows + 1);
            }
            (Pending::Query(_) | Pending::Execute(_), b'c') if to_client => {
                self.copy.to_client = false;
            }
            (Pending::Query(_) | Pending::Execute(_), b'G' | b'H' | b'W') if !copying => {
                self.begin_copy(tag, seen);
            }
            (Pending::Query(statement), b'C' | b'I') => {
                let text = complete_text(tag, seen)?;
                statement.push_result(Tag::new(text), self.limits.results_max);
                self.names.note_tag(text);
                self.settle_copy();
            }
            (Pending::Execute(statement), b'C' | b'I' | b's') => {
                let text = complete_text(tag, seen)?;
                statement.push_result(Tag::new(text), self.limits.results_max);
                statement.outcome =
                    if tag == b's' { Outcome::Suspended } else { Outcome::Completed };
                self.settle_copy();
                self.finish_execute(now);
                // Behind the portal's lookup: the statement may have dropped it.
                self.names.note_tag(text);
            }
            (Pending::FunctionCall(statement), b'V') if statement.results_total == 0 => {
                statement.push_result(Tag::EMPTY, 0);
            }
            (Pending::Parse { prepared, origin: _ }, b'1') => {
                let prepared = Arc::clone(prepared);
                self.names.put_statement(prepared, &self.limits);
                self.owed.pop();
            }
            (Pending::Bind { .. }, b'2') => self.finish_bind(),
            (Pending::Close { target, name, origin: _ }, b'3') => {
                self.names.close(*target, name);
                self.owed.pop();
            }
            (Pending::Describe { target: Target::Statement, name, origin: _ }, b't') => {
                if let Backend::ParameterDescription(types) = read(tag, seen)? {
                    self.names.describe_statement(name, &types, &self.limits);
                }
            }
            (Pending::Describe { .. }, b'T' | b'n') => {
                self.owed.pop();
            }
            _ => return Err(self.unexpected(tag)),
        }
        self.syncs_doubtful = 0;
        Ok(())
    }

    fn finish_bind(&mut self) {
        if let Some(Pending::Bind { origin: _, portal, mut bound, generation }) = self.owed.pop() {
            if generation != Some(self.names.generation()) {
                let prepared = self.names.statement(&bound.statement);
                if prepared.map(Arc::as_ptr) != bound.prepared.as_ref().map(Arc::as_ptr) {
                    let prepared = prepared.cloned();
                    bound = Arc::new(Bound { prepared, ..bound.as_ref().clone() });
                }
            }
            self.names.put_portal(portal, bound, &self.limits);
        }
    }

    /// Takes the finished `Execute` from what is owed.
    fn finish_execute(&mut self, now: u64) {
        if let Some(Pending::Execute(mut statement)) = self.owed.pop() {
            self.resolve(&mut statement);
            statement.done = now;
            self.done(statement);
        }
    }

    /// Gives an `Execute` what its portal stands for now that everything in front is answered.
    fn resolve(&mut self, statement: &mut Statement) {
        let bound = self.names.portal(&statement.portal);
        if bound.map(Arc::as_ptr) != statement.bound.as_ref().map(Arc::as_ptr) {
            statement.apply(bound.cloned());
        }
    }

    /// Reports a finished statement, behind the `Sync` that follows it if that was sent.
    fn done(&mut self, statement: Box<Statement>) {
        if self.owed.syncs() == 0 {
            self.events.push_back(Event::StatementDone(statement));
            return;
        }
        if self.done_waiting.len() >= DONE_WAITING_MAX
            && let Some(oldest) = self.done_waiting.pop_front()
        {
            self.events.push_back(Event::StatementDone(oldest));
        }
        self.done_waiting.push_back(statement);
    }

    /// An error, as the client hears it; `outcome` is that of the statement it is about.
    pub(super) fn error(&mut self, now: u64, head: ErrorHead, outcome: Outcome) {
        self.counters.errors += 1;
        let sqlstate = head.sqlstate;
        let fatal = head.severity.ends_session();
        if fatal || self.phase != Phase::Ready {
            self.events.push_back(Event::ServerError { fatal, sqlstate });
            if fatal {
                self.fatal(now, sqlstate);
            }
            return;
        }
        if !matches!(self.owed.front(), None | Some(Pending::Sync)) {
            // An answer to anything else: the Syncs in doubt were none.
            self.syncs_doubtful = 0;
        }
        self.doubt_syncs();
        match self.owed.front() {
            None => self.events.push_back(Event::ServerError { fatal, sqlstate }),
            Some(Pending::Query(statement) | Pending::FunctionCall(statement)) => {
                statement.first_response.get_or_insert(now);
                statement.sqlstate = sqlstate.or(Some(*b"XX000"));
                statement.outcome = outcome;
            }
            Some(Pending::Sync) => {
                // The transaction of the statements in front was not committed.
                if self.done_waiting.is_empty() {
                    self.events.push_back(Event::ServerError { fatal, sqlstate });
                }
                for statement in &mut self.done_waiting {
                    statement.sync_sqlstate = sqlstate;
                }
            }
            Some(_) => {
                if let Some((failed, plan)) = self.owed.pop_planned() {
                    if let Pending::Parse { prepared, origin: _ } = &failed
                        && prepared.name.is_empty()
                    {
                        self.names.drop_unnamed();
                    }
                    let refusal = plan.and_then(|plan| plan.refusal());
                    self.fail(now, failed, sqlstate, outcome, refusal);
                }
                self.skip(now);
            }
        }
    }

    /// Reports a message of the extended protocol that failed.
    pub(super) fn fail(
        &mut self,
        now: u64,
        failed: Pending,
        sqlstate: Option<[u8; 5]>,
        outcome: Outcome,
        refusal: Option<[u8; 5]>,
    ) {
        let Some(mut statement) = failed.into_statement() else { return };
        if statement.kind == Kind::Execute && !must_fail(&statement, None) && refusal.is_none() {
            self.resolve(&mut statement);
        }
        statement.refusal = refusal.or(statement.refusal);
        statement.outcome = outcome;
        statement.sqlstate = sqlstate;
        statement.first_response.get_or_insert(now);
        statement.done = now;
        self.done(statement);
    }

    /// Reports what the server discards because of an error, up to the next `Sync`.
    fn skip(&mut self, now: u64) {
        self.skipping = true;
        while let Some(front) = self.owed.front()
            && !matches!(front, Pending::Sync)
        {
            if let Some(skipped) = self.owed.pop()
                && skipped.is_execution()
                && let Some(mut statement) = skipped.into_statement()
            {
                statement.outcome = Outcome::Skipped;
                statement.done = now;
                self.done(statement);
            }
        }
    }

    /// The server ends the session: what it was working on failed, the rest stays unfinished.
    fn fatal(&mut self, now: u64, sqlstate: Option<[u8; 5]>) {
        self.settle_copy();
        let working = match self.owed.front() {
            Some(Pending::Sync | Pending::Copy(_)) | None => None,
            Some(_) => self.owed.pop_planned(),
        };
        self.phase = Phase::Closing;
        if let Some((working, plan)) = working {
            let refusal = plan.and_then(|plan| plan.refusal());
            self.fail(now, working, sqlstate, Outcome::Failed, refusal);
        }
    }

    /// `ReadyForQuery`.
    fn ready(&mut self, now: u64, status: TransactionStatus) -> Result<(), Error> {
        self.transaction = status;
        let answered = match self.owed.front() {
            Some(Pending::Sync) => true,
            Some(Pending::Query(statement) | Pending::FunctionCall(statement)) => {
                statement.results_total > 0 || statement.sqlstate.is_some()
            }
            _ => false,
        };
        if self.owed.plan().is_some_and(|plan| plan.refused.is_some()) && !self.front_failed() {
            // What was put in a refused statement's place did not fail.
            return Err(self.unexpected(b'Z'));
        }
        if !answered {
            if self.syncs_doubtful == 0 {
                return Err(self.unexpected(b'Z'));
            }
            self.syncs_doubtful -= 1;
        } else if let Some(Pending::Query(mut statement) | Pending::FunctionCall(mut statement)) =
            self.owed.pop()
        {
            if statement.sqlstate.is_none() {
                statement.outcome = Outcome::Completed;
            }
            if statement.kind == Kind::Simple {
                self.names.drop_unnamed();
            }
            statement.done = now;
            self.done_waiting.push_back(statement);
        }
        self.skipping = false;
        self.front.unsynced &= !self.owed.is_empty();
        self.copy = Default::default();
        self.flush_done(Some(status), None);
        match status {
            TransactionStatus::Idle => self.names.end_transaction(),
            TransactionStatus::Open | TransactionStatus::Failed => {}
        }
        Ok(())
    }

    /// The server takes or sends COPY data for the oldest answer owed.
    fn begin_copy(&mut self, tag: u8, seen: &[u8]) {
        let binary = seen.first().is_some_and(|format| *format != 0);
        let (from_client, to_client) = (tag != b'H', tag != b'G');
        self.copy = Copying { from_client, to_client, binary, ..Copying::default() };
        if let Some(statement) = self.owed.front().and_then(Pending::statement) {
            let nothing = CopyCount { bytes: 0, rows: Some(0) };
            if from_client {
                statement.copy_in.get_or_insert(nothing);
            }
            if to_client {
                statement.copy_out.get_or_insert(nothing);
            }
        }
        // What the client sent ahead belongs to it, up to the end of the data.
        while self.copy.from_client {
            match self.owed.second() {
                Some(Pending::Copy(run)) => {
                    let run = *run;
                    self.copy.run.append(run);
                    self.copy.from_client = !run.ended;
                }
                Some(Pending::Sync) => self.copy.syncs = self.copy.syncs.saturating_add(1),
                _ => break,
            }
            self.owed.pop_second();
        }
    }

    /// A COPY from the client failed: what became of the `Sync` messages sent with its data?
    ///
    /// Those that the server read as part of the COPY are gone; those behind the point where it
    /// gave up are real, and where that was is not to be seen. So one more `ReadyForQuery` for each
    /// is no surprise. For a simple `Query` that is all; behind a failed `Execute` a real one also
    /// ends the skipping. There [`Session::may_follow_copy`] saw to it that no request behind the
    /// data depends on it, and requests sent ahead, right behind the `Sync`, tell that it is real:
    /// the server did not read them as part of the COPY, which would have been fatal.
    fn doubt_syncs(&mut self) {
        let open = self.copy.from_client;
        let syncs = self.settle_copy();
        let extended = matches!(self.owed.front(), Some(Pending::Execute(_)));
        if extended && open && self.owed.len() > 1 {
            self.owed.push_syncs_second(syncs);
        } else {
            self.syncs_doubtful = self.syncs_doubtful.saturating_add(syncs);
        }
    }

    /// Ends a COPY under way, adds its data to its statement, and returns how many `Sync` messages
    /// it seemed to swallow.
    pub(super) fn settle_copy(&mut self) -> u32 {
        let Copying { binary, syncs, run, .. } = std::mem::take(&mut self.copy);
        let statement = self.owed.front().and_then(Pending::statement);
        if let Some(copied) = statement.and_then(|statement| statement.copy_in.as_mut()) {
            copied.bytes += run.bytes;
            let lines = run.lines + u64::from(run.line_open);
            copied.rows = copied.rows.filter(|_| !binary).map(|rows| rows + lines);
        }
        syncs
    }

    /// Whether the statement under way has failed, and only its `ReadyForQuery` is owed.
    pub(super) fn front_failed(&mut self) -> bool {
        let statement = self.owed.front().and_then(Pending::statement);
        statement.is_some_and(|statement| statement.sqlstate.is_some())
    }

    pub(super) fn unexpected(&mut self, tag: u8) -> Error {
        let awaited = self.owed.front().map_or("anything", |front| front.awaited());
        let fault = SequenceFault::UnexpectedAnswer { tag, awaited };
        Error::Sequence { side: Side::Server, fault }
    }
}

/// Largest length field of a message of the server, and how much of its body is read.
fn reading(tag: u8) -> Option<(u32, u32)> {
    match tag {
        // Of the handshake, which is over.
        b'R' | b'K' | b'v' => Some((BACKEND_SHORT_BYTES_MAX, 0)),
        b'S' => Some((BACKEND_SHORT_BYTES_MAX, u32::MAX)),
        b't' => Some((PARAMETER_DESCRIPTION_BYTES_MAX, u32::MAX)),
        b'C' => Some((BACKEND_SHORT_BYTES_MAX, TAG_PREFIX_BYTES)),
        b'Z' | b'G' | b'H' | b'W' => Some((BACKEND_SHORT_BYTES_MAX, 1)),
        b'I' | b'n' | b'1' | b'2' | b'3' | b's' | b'c' => Some((BACKEND_SHORT_BYTES_MAX, 0)),
        b'E' => Some((LONG_BYTES_MAX, ERROR_PREFIX_BYTES)),
        b'D' | b'T' | b'N' | b'A' | b'd' | b'V' => Some((LONG_BYTES_MAX, 0)),
        _ => None,
    }
}

fn read(tag: u8, body: &[u8]) -> Result<Backend<'_>, Error> {
    Backend::read(tag, body).map_err(Error::server)
}

/// Text of a `CommandComplete` from the part that was read; nothing for other ends of a result.
fn complete_text(tag: u8, seen: &[u8]) -> Result<&[u8], Error> {
    if tag != b'C' {
        return Ok(&[]);
    }
    match memchr::memchr(0, seen) {
        Some(end) => Ok(&seen[..end]),
        None if seen.len() == TAG_PREFIX_BYTES as usize => Ok(seen),
        None => Err(Error::server(BytesFault::Unterminated)),
    }
}
