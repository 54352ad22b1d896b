//! The client's direction.

use std::sync::Arc;

use super::names::Name;
use super::pending::{CopyRun, Origin, Pending, Unchanged};
use super::report::{
    Bound, Event, Keep, Kind, Outcome, Parameters, Prepared, Ready, Span, Statement, TextState,
};
use super::{EVENTS_MAX, Gate, Held, Phase, Session};
use crate::pg::codec::{HEADER_BYTES, Header, Reader};
use crate::pg::error::{BytesFault, Error, LimitFault, SequenceFault, Side};
use crate::pg::frontend::{self, Bind, Frontend, FunctionCall, Parse, read_text};

/// What a look at the front of the client's bytes came to.
enum Step {
    /// This many bytes may pass.
    Took(usize),
    /// Nothing may pass now.
    Wait,
}

impl Session {
    /// Looks at the client's bytes that were not released yet and returns how many of them may be
    /// forwarded to the server now.
    ///
    /// COPY data and everything that needs no inspection passes as it comes; `Query`, `Parse`,
    /// `Bind`, `Describe`, `Execute`, `Close` and `FunctionCall` are held until complete. With a
    /// holding gate nothing passes at and behind a statement that waits for its decision. `now` is
    /// in nanoseconds of a clock that does not go back.
    ///
    /// Call again with what is left until it returns 0: an error in the second message of a buffer
    /// is returned only after the first was released, so that the server can answer it.
    ///
    /// Errors: the session cannot go on; see [`Error::reply`] for what to tell the client. Nothing
    /// at or behind the front of `input` may be forwarded.
    pub fn handle_frontend(&mut self, now: u64, input: &[u8]) -> Result<usize, Error> {
        let mut taken = 0;
        self.front.wanted = 0;
        loop {
            match self.front_step(now, &input[taken..]) {
                Ok(Step::Took(bytes)) => {
                    taken += bytes;
                    self.front.offset += bytes as u64;
                    self.counters.frontend_bytes += bytes as u64;
                }
                Ok(Step::Wait) => return Ok(taken),
                Err(error) if taken == 0 => return Err(error),
                Err(_) => return Ok(taken),
            }
        }
    }

    fn front_step(&mut self, now: u64, rest: &[u8]) -> Result<Step, Error> {
        if rest.is_empty() || self.phase == Phase::Closing {
            return Ok(Step::Wait);
        }
        if self.front.body_left > 0 {
            return Ok(Step::Took(self.pass_body(rest)));
        }
        if self.front.terminated || self.events.len() >= EVENTS_MAX {
            return Ok(Step::Wait);
        }
        if self.front.held.is_some() {
            return Ok(self.pass_held(now, rest.len()));
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
                Ok(self.pass(rest, body))
            }
            b'c' | b'f' => {
                self.end_copy();
                Ok(self.pass(rest, body))
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
                let held = Held { id, frame_bytes, decided: false, pending };
                self.front.held = Some(Box::new(held));
                Ok(Step::Wait)
            }
            (true, Gate::Pass) | (false, _) => {
                self.owe(now, pending);
                Ok(Step::Took(frame_bytes))
            }
        }
    }

    /// Lets the held statement pass if it is decided and still in front.
    fn pass_held(&mut self, now: u64, rest_bytes: usize) -> Step {
        match self.front.held.take() {
            Some(held) if held.decided && rest_bytes >= held.frame_bytes => {
                self.owe(now, held.pending);
                Step::Took(held.frame_bytes)
            }
            held => {
                self.front.held = held;
                Step::Wait
            }
        }
    }

    /// Notes that the server will answer `pending`, unless it is going to discard it.
    fn owe(&mut self, now: u64, pending: Pending) {
        if self.skipping && self.owed.syncs() == 0 {
            if pending.is_execution() {
                self.report(pending, Outcome::Skipped, now);
            }
            return;
        }
        let whole = pending.weight();
        if self.room(whole) {
            self.owed.push(pending, whole);
        } else {
            let outline = pending.outline();
            let weight = outline.weight();
            self.owed.push(outline, weight);
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
        let (prepared, generation) = match self.owed.statement(&statement) {
            Ok(prepared) => (prepared, None),
            Err(Unchanged) => {
                (self.names.statement(&statement).cloned(), Some(self.names.generation()))
            }
        };
        let keep = if self.room(body.len()) { Keep::Whole } else { Keep::Outline };
        let parameters = Parameters::copy(&bind.formats, &bind.values, &self.limits, keep);
        let bound = Arc::new(Bound { statement, prepared, parameters });
        Pending::Bind { origin, portal: Name::new(bind.portal), bound, generation }
    }

    fn execute(&mut self, origin: Origin, portal: &[u8]) -> Pending {
        let portal = Name::new(portal);
        let bound = match self.owed.portal(&portal) {
            Ok(bound) => bound,
            Err(Unchanged) => self.names.portal(&portal).cloned(),
        };
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
        self.copy_data(passed);
        Step::Took(HEADER_BYTES + passed.len())
    }

    /// Lets more of that body pass.
    fn pass_body(&mut self, rest: &[u8]) -> usize {
        let passed = &rest[..rest.len().min(self.front.body_left as usize)];
        self.front.body_left -= passed.len() as u32;
        self.copy_data(passed);
        passed.len()
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

    /// Tells the driver of a statement; returns whether there is anything to tell.
    fn announce(&mut self, pending: &Pending, origin: Origin) -> bool {
        let Origin { id, span, started: _ } = origin;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::codec::Limits;
    use crate::pg::handshake::tests::authenticated;

    fn ready() -> Session {
        Session::new(Limits::default(), Gate::Hold, 0, authenticated())
    }

    #[test]
    fn a_torn_header_wants_the_rest_of_it() {
        let mut session = ready();
        for bytes in 1..HEADER_BYTES {
            assert_eq!(session.handle_frontend(0, &b"Q\0\0\0\x06"[..bytes]), Ok(0));
            assert_eq!(session.frontend_bytes_wanted(), HEADER_BYTES, "of {bytes} bytes");
            assert_eq!(session.handle_backend(0, &b"S\0\0\0\x06"[..bytes]), Ok(0));
            assert_eq!(session.backend_bytes_wanted(), HEADER_BYTES, "of {bytes} bytes");
        }
    }

    #[test]
    fn a_row_released_in_part_leaves_the_client_in_the_middle_of_it() {
        let mut session = ready();
        let query = b"Q\0\0\0\x06;\0";
        assert_eq!(session.handle_frontend(0, query), Ok(0));
        let Some(Event::StatementReady(statement)) = session.poll_event() else {
            panic!("no statement");
        };
        session.handle_decision(statement.id, crate::pg::session::Decision::Forward);
        assert_eq!(session.handle_frontend(0, query), Ok(query.len()));
        assert!(!session.backend_is_mid_message());
        assert_eq!(session.handle_backend(0, b"D\0\0\0\x0b\0\x01\0\0"), Ok(9));
        assert!(session.backend_is_mid_message());
        assert_eq!(session.handle_backend(0, b"\0\x01x"), Ok(3));
        assert!(!session.backend_is_mid_message());
    }
}
