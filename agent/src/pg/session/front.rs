//! The client's direction.

use std::sync::Arc;

use super::names::Name;
use super::passed::Passed;
use super::pending::{CopyRun, Origin, Pending, Unchanged};
use super::plan::Plan;
use super::report::{
    Bound, Event, Keep, Kind, Outcome, Parameters, Prepared, Ready, Span, Statement, TextState,
};
use super::{EVENTS_MAX, Gate, Held, Phase, Session};
use crate::pg::codec::{HEADER_BYTES, Header, Reader};
use crate::pg::error::{BytesFault, Error, LimitFault, SequenceFault, Side};
use crate::pg::frontend::{self, Bind, Frontend, FunctionCall, Parse, Target, read_text};

/// What a look at the front of the client's bytes came to.
pub(super) enum Step {
    /// This many bytes may pass.
    Took(usize),
    /// Others go in their place.
    Edit(Passed),
    /// Nothing may pass now.
    Wait,
}

impl Session {
    /// Looks at the client's bytes that are not done with yet, and tells how many of them are now and
    /// what the server gets for them: themselves, but for refused statements and messages of our
    /// own.
    ///
    /// COPY data and everything that needs no inspection passes as it comes; `Query`, `Parse`,
    /// `Bind`, `Describe`, `Execute`, `Close` and `FunctionCall` are held until complete. With a
    /// holding gate nothing passes at and behind a statement that waits for its decision. `now` is
    /// in nanoseconds of a clock that does not go back.
    ///
    /// Call again with what is left, or nothing, until there [is nothing](Passed::is_nothing): an
    /// error in the second message of a buffer is returned only after the first was released, so
    /// that the server can answer it.
    ///
    /// Errors: the session cannot go on; see [`Error::reply`] for what to tell the client. Nothing
    /// at or behind the front of `input` may be forwarded.
    pub fn handle_frontend(&mut self, now: u64, input: &[u8]) -> Result<Passed, Error> {
        if let Some(edit) = self.front.edit.take() {
            return Ok(self.sent_instead(*edit));
        }
        let mut taken = 0;
        self.front.wanted = 0;
        loop {
            match self.front_step(now, &input[taken..]) {
                Ok(Step::Took(bytes)) => {
                    taken += bytes;
                    self.front.offset += bytes as u64;
                    self.counters.frontend_bytes += bytes as u64;
                }
                Ok(Step::Edit(edit)) if taken == 0 => return Ok(self.sent_instead(edit)),
                Ok(Step::Edit(edit)) => {
                    self.front.edit = Some(Box::new(edit));
                    return Ok(Passed::as_is(taken));
                }
                Ok(Step::Wait) => return Ok(Passed::as_is(taken)),
                Err(error) if taken == 0 => return Err(error),
                Err(_) => return Ok(Passed::as_is(taken)),
            }
        }
    }

    fn sent_instead(&mut self, edit: Passed) -> Passed {
        self.front.offset += edit.taken as u64;
        self.counters.frontend_bytes += edit.sent_bytes() as u64;
        edit
    }

    fn front_step(&mut self, now: u64, rest: &[u8]) -> Result<Step, Error> {
        match self.phase {
            Phase::Ready => {}
            Phase::Closing | Phase::Over => return Ok(Step::Wait),
        }
        if self.front.body_left > 0 && !rest.is_empty() {
            return Ok(self.pass_body(rest));
        }
        if self.front.body_left == 0 && !self.front.to_server.is_empty() {
            return Ok(Step::Edit(Passed::instead(0, std::mem::take(&mut self.front.to_server))));
        }
        if rest.is_empty() || self.front.terminated || self.events.len() >= EVENTS_MAX {
            return Ok(Step::Wait);
        }
        if self.asking.is_some() || self.front.cancel_waits {
            return Ok(Step::Wait);
        }
        if self.front.held.is_some() {
            let step = self.pass_held(now, rest);
            return Ok(match step {
                // Only now there may be something to say.
                Step::Wait if !self.front.to_server.is_empty() => {
                    Step::Edit(Passed::instead(0, std::mem::take(&mut self.front.to_server)))
                }
                step => step,
            });
        }
        let Some(header) = Header::read(rest) else {
            self.front.wanted = HEADER_BYTES;
            return Ok(Step::Wait);
        };
        self.message(now, header, rest)
    }

    fn message(&mut self, now: u64, header: Header, rest: &[u8]) -> Result<Step, Error> {
        let tag = header.tag;
        let max = match tag {
            // Only an answer to a request for authentication, which is over.
            b'p' => None,
            tag => frontend::length_max(tag),
        };
        let max = max.ok_or(Error::client(BytesFault::UnknownTag { tag }))?;
        let body = header.body_bytes(max).map_err(Error::client)?;
        match tag {
            b'd' | b'c' | b'f' if !self.copy_may_pass() => Ok(Step::Wait),
            b'd' => {
                self.begin_copy_data();
                Ok(self.pass_copy(rest, body))
            }
            b'c' | b'f' => {
                self.end_copy();
                Ok(self.pass_copy(rest, body))
            }
            b'X' => {
                self.front.terminated = true;
                self.events.push_back(Event::Terminate);
                Ok(self.pass(rest, body))
            }
            // The server would answer with an error or, in a COPY, not at all.
            b'H' | b'S' if body > 0 => {
                Err(Error::client(BytesFault::Trailing { found: body as usize }))
            }
            b'H' => Ok(self.pass(rest, body)),
            _ if self.owed.len() >= self.limits.answers_owed_max => Ok(Step::Wait),
            b'S' => {
                self.push_sync();
                Ok(self.pass(rest, body))
            }
            _ => {
                self.may_follow_copy(tag)?;
                self.front.drops_copy = false;
                self.whole(now, header, body, rest)
            }
        }
    }

    /// Refuses a request of which it could not be told what the server will do with it.
    ///
    /// A `Sync` sent with the data of a COPY is ignored, unless the server had given up the COPY
    /// before it read it: then it is real, and decides whether an `Execute` that failed takes the
    /// requests behind it along. A client could make a statement run and be recorded as skipped.
    /// So a COPY with such a `Sync` is followed by one that is beyond doubt, or by its answer,
    /// before anything else. (No known client does otherwise: those that send a `Sync` early end
    /// the data with `CopyDone` or `CopyFail` and another `Sync`.)
    ///
    /// Errors: [`SequenceFault::InCopy`], as the server itself says inside a COPY.
    fn may_follow_copy(&mut self, tag: u8) -> Result<(), Error> {
        let copying = self.copy.syncs > 0 && matches!(self.owed.front(), Some(Pending::Execute(_)));
        let failed = self.syncs_doubtful > 0 && self.skipping;
        if (copying || failed) && self.owed.syncs() == 0 {
            let fault = SequenceFault::InCopy { tag };
            return Err(Error::Sequence { side: Side::Client, fault });
        }
        Ok(())
    }

    /// A message that is read as a whole.
    fn whole(&mut self, now: u64, header: Header, body: u32, rest: &[u8]) -> Result<Step, Error> {
        if header.length > self.limits.message_bytes_max {
            let limit = LimitFault::MessageHeld {
                tag: header.tag,
                found: header.length,
                max: self.limits.message_bytes_max,
            };
            return Err(Error::Limit { side: Side::Client, limit });
        }
        let frame_bytes = HEADER_BYTES + body as usize;
        let Some(frame) = rest.get(..frame_bytes) else {
            self.front.wanted = frame_bytes;
            return Ok(Step::Wait);
        };
        if self.is_doubtful(header.tag, &frame[HEADER_BYTES..]) {
            return Ok(Step::Wait);
        }
        let start = self.front.offset;
        let origin = Origin {
            id: self.next_id(),
            span: Span { start, end: start + frame_bytes as u64 },
            started: now,
        };
        let body = &frame[HEADER_BYTES..];
        let pending = match header.tag {
            b'Q' => self.query(origin, body),
            b'P' => self.parse(origin, body),
            b'B' => self.bind(origin, body),
            b'F' => self.function_call(origin, body),
            tag => self.small(origin, tag, body),
        };
        let announced = self.announce(&pending, origin);
        if pending.is_execution() {
            self.counters.statements += 1;
        }
        match (announced, self.gate) {
            (true, Gate::Hold) => {
                let id = origin.id;
                let held = Held { id, frame_bytes, ruling: None, pending };
                self.front.held = Some(Box::new(held));
                Ok(Step::Wait)
            }
            (true, Gate::Pass) | (false, _) => {
                self.owe(now, pending, None);
                Ok(Step::Took(frame_bytes))
            }
        }
    }

    /// Notes that the server will answer `pending`, unless it is going to discard it, and what is to
    /// be done about its answers.
    pub(super) fn owe(&mut self, now: u64, pending: Pending, plan: Option<Box<Plan>>) {
        match pending.kind() {
            Some(Kind::Simple | Kind::FunctionCall) | None => {}
            Some(Kind::Parse | Kind::Bind | Kind::Describe | Kind::Close | Kind::Execute) => {
                self.front.unsynced = true;
            }
        }
        if self.skipping && self.owed.syncs() == 0 {
            if pending.is_execution() {
                self.report(pending, Outcome::Skipped, now);
            }
            return;
        }
        let beside = plan.as_ref().map_or(0, |plan| plan.weight());
        let whole = pending.weight() + beside;
        if self.room(whole) {
            self.owed.push_planned(pending, whole, plan);
        } else {
            let outline = pending.outline();
            let weight = outline.weight() + beside;
            self.owed.push_planned(outline, weight, plan);
        }
    }

    /// Whether `bytes` more may be kept for what is in flight. One alone always may.
    fn room(&self, bytes: usize) -> bool {
        let kept = self.owed.bytes();
        kept == 0 || kept + bytes <= self.limits.in_flight_bytes_max
    }

    fn push_sync(&mut self) {
        if self.copy.from_client && self.owed.len() == 1 {
            // The server ignores it, unless it has given up the COPY already.
            self.copy.syncs = self.copy.syncs.saturating_add(1);
            return;
        }
        self.owed.push(Pending::Sync, 0);
    }

    fn query(&mut self, origin: Origin, body: &[u8]) -> Pending {
        let mut statement = origin.statement(Kind::Simple);
        set_text(&mut statement, read_text(body), body);
        Pending::Query(statement)
    }

    fn parse(&mut self, origin: Origin, body: &[u8]) -> Pending {
        match Parse::read(body) {
            Ok(parse) => {
                let prepared = Prepared {
                    name: Name::new(parse.name),
                    text: parse.text.into(),
                    text_bytes: parse.text.len(),
                    text_state: TextState::Exact,
                    types: parse.types.iter().take(self.limits.parameters_max).collect(),
                    decided_under: None,
                };
                Pending::Parse { origin, prepared: Arc::new(prepared) }
            }
            Err(fault) => {
                let mut statement = origin.statement(Kind::Parse);
                let mut reader = Reader::new(body);
                let text = reader.text().map_or(body, |_| reader.rest());
                set_text(&mut statement, Err(fault), text);
                Pending::Malformed(statement)
            }
        }
    }

    fn bind(&mut self, origin: Origin, body: &[u8]) -> Pending {
        let Ok(bind) = Bind::read(body) else { return malformed(origin, Kind::Bind) };
        let statement = Name::new(bind.statement);
        let (prepared, generation) = self.statement_ahead(&statement);
        let keep = if self.room(body.len()) { Keep::Whole } else { Keep::Outline };
        let parameters = Parameters::copy(&bind.formats, &bind.values, &self.limits, keep);
        let bound = Arc::new(Bound { statement, prepared, parameters });
        Pending::Bind { origin, portal: Name::new(bind.portal), bound, generation }
    }

    fn execute(&mut self, origin: Origin, portal: &[u8]) -> Pending {
        let portal = Name::new(portal);
        let bound = self.portal_ahead(&portal);
        let mut statement = origin.statement(Kind::Execute);
        statement.portal = portal;
        statement.apply(bound);
        Pending::Execute(statement)
    }

    fn function_call(&mut self, origin: Origin, body: &[u8]) -> Pending {
        let mut statement = origin.statement(Kind::FunctionCall);
        match FunctionCall::read(body) {
            Ok(call) => {
                let keep = if self.room(body.len()) { Keep::Whole } else { Keep::Outline };
                let parameters = Parameters::copy(&call.formats, &call.values, &self.limits, keep);
                let bound = Bound { statement: Name::default(), prepared: None, parameters };
                statement.bound = Some(Arc::new(bound));
                statement.function = Some(call.function);
            }
            Err(_) => statement.text_state = TextState::Malformed,
        }
        Pending::FunctionCall(statement)
    }

    /// A message that is never long.
    fn small(&mut self, origin: Origin, tag: u8, body: &[u8]) -> Pending {
        match Frontend::read(tag, body) {
            Ok(Frontend::Describe(target, name)) => {
                Pending::Describe { origin, target, name: Name::new(name) }
            }
            Ok(Frontend::Close(target, name)) => {
                Pending::Close { origin, target, name: Name::new(name) }
            }
            Ok(Frontend::Execute { portal, rows_max: _ }) => self.execute(origin, portal),
            Ok(_) | Err(_) => malformed(
                origin,
                match tag {
                    b'D' => Kind::Describe,
                    b'C' => Kind::Close,
                    _ => Kind::Execute,
                },
            ),
        }
    }

    /// Lets a message pass as it comes: its header and what there is of its body.
    fn pass(&mut self, rest: &[u8], body: u32) -> Step {
        let passed = &rest[HEADER_BYTES..rest.len().min(HEADER_BYTES + body as usize)];
        self.front.body_left = body - passed.len() as u32;
        self.front.drops_body = false;
        self.copy_data(passed);
        Step::Took(HEADER_BYTES + passed.len())
    }

    /// The same, unless it is data of a COPY that was refused: the server would drop it.
    fn pass_copy(&mut self, rest: &[u8], body: u32) -> Step {
        let step = self.pass(rest, body);
        self.front.drops_body = self.front.drops_copy;
        match step {
            Step::Took(bytes) if self.front.drops_body => {
                Step::Edit(Passed::instead(bytes, Vec::new()))
            }
            step => step,
        }
    }

    /// Lets more of that body pass.
    fn pass_body(&mut self, rest: &[u8]) -> Step {
        let passed = &rest[..rest.len().min(self.front.body_left as usize)];
        self.front.body_left -= passed.len() as u32;
        self.copy_data(passed);
        if self.front.drops_body {
            return Step::Edit(Passed::instead(passed.len(), Vec::new()));
        }
        Step::Took(passed.len())
    }

    /// Whether COPY messages may pass now: not behind a `Sync` that a COPY could swallow unless
    /// the server has said that it takes data, and not without room to note them. The `Sync` makes
    /// the server say what there is to say, so this never waits for ever.
    fn copy_may_pass(&mut self) -> bool {
        if self.owed.syncs() > 0 && !self.takes_copy() {
            return false;
        }
        let open = matches!(self.owed.back(), Some(Pending::Copy(run)) if !run.ended);
        open || self.takes_copy() || self.owed.len() < self.limits.answers_owed_max
    }

    /// Whether the server takes COPY data for the oldest answer owed and nothing lies between.
    fn takes_copy(&self) -> bool {
        self.copy.from_client && self.owed.len() == 1
    }

    fn begin_copy_data(&mut self) {
        self.front.body_is_copy = true;
        if self.takes_copy() || self.owed.is_empty() {
            return;
        }
        if !matches!(self.owed.back(), Some(Pending::Copy(run)) if !run.ended) {
            self.owed.push(Pending::Copy(CopyRun::default()), 0);
        }
    }

    fn copy_data(&mut self, data: &[u8]) {
        if !self.front.body_is_copy {
            return;
        }
        if self.takes_copy() {
            self.copy.run.push(data);
        } else if let Some(Pending::Copy(run)) = self.owed.back()
            && !run.ended
        {
            run.push(data);
        }
        self.front.body_is_copy = self.front.body_left > 0;
    }

    fn end_copy(&mut self) {
        if self.takes_copy() {
            self.copy.from_client = false;
        } else if !self.owed.is_empty() {
            self.begin_copy_data();
            self.front.body_is_copy = false;
            if let Some(Pending::Copy(run)) = self.owed.back() {
                run.ended = true;
            }
        }
    }

    /// Whether it cannot be told yet what a message names, where that matters: an answer owed from
    /// behind an earlier `Sync` decides it. The server owes it whatever the client does.
    fn is_doubtful(&self, tag: u8, body: &[u8]) -> bool {
        if self.epoch.is_none() || self.owed.syncs() == 0 {
            return false;
        }
        match Frontend::read(tag, body) {
            Ok(
                Frontend::Bind(Bind { statement: name, .. })
                | Frontend::Describe(Target::Statement, name),
            ) => self.owed.doubts_statement(&Name::new(name)),
            Ok(
                Frontend::Execute { portal: name, rows_max: _ }
                | Frontend::Describe(Target::Portal, name),
            ) => self.owed.doubts_portal(&Name::new(name)),
            Ok(_) | Err(_) => false,
        }
    }

    /// What a `Bind` or `Describe` is told as, if it has to be decided: it uses a statement that
    /// was decided under another epoch, or one that is not known.
    fn stale(&self, pending: &Pending, origin: Origin) -> Option<Ready> {
        let epoch = self.epoch?;
        let (kind, portal, bound) = match pending {
            Pending::Bind { origin: _, portal, bound, generation: _ } => {
                (Kind::Bind, portal.clone(), Some(Arc::clone(bound)))
            }
            Pending::Describe { origin: _, target: Target::Portal, name } => {
                (Kind::Describe, name.clone(), self.portal_ahead(name))
            }
            Pending::Describe { origin: _, target: Target::Statement, name } => {
                let prepared = self.statement_ahead(name).0;
                let parameters = Parameters::default();
                let bound = Bound { statement: name.clone(), prepared, parameters };
                (Kind::Describe, Name::default(), Some(Arc::new(bound)))
            }
            Pending::Query(_)
            | Pending::FunctionCall(_)
            | Pending::Parse { .. }
            | Pending::Close { .. }
            | Pending::Execute(_)
            | Pending::Malformed(_)
            | Pending::Sync
            | Pending::Copy(_) => return None,
        };
        let prepared = bound.as_ref().and_then(|bound| bound.prepared.as_ref());
        if prepared.is_some_and(|prepared| prepared.decided_under == Some(epoch)) {
            return None;
        }
        let mut statement = origin.statement(kind);
        statement.portal = portal;
        statement.apply(bound);
        Some(statement.ready())
    }

    /// What statement `name` will be when everything owed has succeeded, and the generation of the
    /// names if it is what the server has confirmed.
    fn statement_ahead(&self, name: &Name) -> (Option<Arc<Prepared>>, Option<u64>) {
        match self.owed.statement(name) {
            Ok(prepared) => (prepared, None),
            Err(Unchanged) => (self.names.statement(name).cloned(), Some(self.names.generation())),
        }
    }

    fn portal_ahead(&self, name: &Name) -> Option<Arc<Bound>> {
        match self.owed.portal(name) {
            Ok(bound) => bound,
            Err(Unchanged) => self.names.portal(name).cloned(),
        }
    }

    /// Tells the driver of a statement; returns whether there is anything to tell.
    fn announce(&mut self, pending: &Pending, origin: Origin) -> bool {
        let Origin { id, span, started: _ } = origin;
        if let Some(ready) = self.stale(pending, origin) {
            self.events.push_back(Event::StatementReady(Box::new(ready)));
            return true;
        }
        let ready = match pending {
            Pending::Query(s) | Pending::FunctionCall(s) | Pending::Execute(s) => s.ready(),
            Pending::Malformed(s) if s.kind == Kind::Parse => s.ready(),
            Pending::Parse { origin: _, prepared } => Ready {
                id,
                kind: Kind::Parse,
                text: Arc::clone(&prepared.text),
                text_bytes: prepared.text_bytes,
                text_state: prepared.text_state,
                function: None,
                name: prepared.name.clone(),
                portal: Name::default(),
                bound: None,
                span,
            },
            Pending::Malformed(_)
            | Pending::Bind { .. }
            | Pending::Describe { .. }
            | Pending::Close { .. }
            | Pending::Sync
            | Pending::Copy(_) => return false,
        };
        self.events.push_back(Event::StatementReady(Box::new(ready)));
        true
    }
}

fn malformed(origin: Origin, kind: Kind) -> Pending {
    let mut statement = origin.statement(kind);
    statement.text_state = TextState::Malformed;
    Pending::Malformed(statement)
}

/// Takes the text of a message, or of a malformed one the text up to the first zero, which is as
/// far as the server reads before it refuses.
fn set_text(statement: &mut Statement, text: Result<&[u8], BytesFault>, body: &[u8]) {
    let (text, state) = match text {
        Ok(text) => (text, TextState::Exact),
        Err(_) => {
            let end = memchr::memchr(0, body).unwrap_or(body.len());
            (&body[..end], TextState::Malformed)
        }
    };
    statement.text = text.into();
    statement.text_bytes = text.len();
    statement.text_state = state;
}
