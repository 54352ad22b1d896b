//! A driver that checks the promises of a session at each step.

use pgward::pg::codec::HEADER_BYTES;
use pgward::pg::error::{Reply, Severity};
use pgward::pg::session::{
    Ceiling, Counters, Decision, Event, Forward, Gate, Notice, NoticeSeverity, Permit, Permits,
    Question, Ready, Refusal, Session, State,
};
use pgward::pg::{Error, Limits};

use crate::{Measure, authenticated};

/// Limits low enough for short inputs to reach them.
pub fn limits() -> Limits {
    Limits {
        message_bytes_max: 1 << 20,
        answers_owed_max: 2_048,
        in_flight_bytes_max: 4_096,
        named_bytes_max: 4_096,
        statements_max: 4,
        portals_max: 4,
        parameter_bytes_max: 16,
        parameters_bytes_max: 64,
        parameters_max: 8,
        results_max: 3,
    }
}

/// What a session can keep within these limits whatever the peers do: entries owed with their
/// statements and names, results, and one text alone in flight, which is never longer than what
/// was fed.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// One session with its two buffers.
pub struct Driver {
    session: Session,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    /// Bytes released to the server.
    pub to_server: Vec<u8>,
    /// Bytes released to the client.
    pub to_client: Vec<u8>,
    /// All events.
    pub events: Vec<Event>,
    /// The error that ended it.
    pub error: Option<Error>,
    now: u64,
    /// Client bytes waited when server bytes came: what passes then depends on how these are cut.
    pub crossed: bool,
    /// What is decided, by statement; empty for a driver that lets all pass.
    decisions: Vec<u8>,
}

/// A verdict that lets everything pass.
struct Anything;

impl Permits for Anything {
    fn permits(&self) -> bool {
        true
    }
}

/// What a client hears of a refusal.
fn denied() -> Reply {
    Reply {
        severity: Severity::Error,
        sqlstate: *b"42501",
        text: "denied".into(),
        detail: None,
        hint: None,
    }
}

/// Stands in for the rest of a refused statement's text: it never reaches the server.
pub const SECRET: &[u8] = b"sesame";

impl Driver {
    /// A session that takes its first request.
    pub fn new(gate: Gate) -> Self {
        Self {
            session: Session::new(limits(), gate, 0, authenticated()),
            from_client: Vec::new(),
            from_server: Vec::new(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            events: Vec::new(),
            error: None,
            now: 0,
            crossed: false,
            decisions: Vec::new(),
        }
    }

    /// The same, with a decision for each statement.
    pub fn deciding(decisions: &[u8]) -> Self {
        Self { decisions: decisions.to_vec(), ..Self::new(Gate::Hold) }
    }

    /// Puts a question to the server, if that is possible now.
    pub fn ask(&mut self) {
        let question = Question { text: b"select 1", values: &[], rows_max: 3, bytes_max: 100 };
        let may = self.session.may_ask();
        assert_eq!(self.session.ask(question).is_ok(), may);
        self.pump();
    }

    /// Whether it decides.
    pub fn is_deciding(&self) -> bool {
        !self.decisions.is_empty()
    }

    fn decide(&self, ready: &Ready) -> Decision {
        let place = ready.id.0 as usize % self.decisions.len().max(1);
        let forward = || Forward::new(Permit::of(ready.id, &Anything).expect("it permits"));
        // What holds the secret is refused, always: whatever else is, is up to the input.
        let text = &ready.text[..];
        let at = text.windows(SECRET.len()).position(|part| part == SECRET);
        if let Some(at) = at.filter(|_| !self.decisions.is_empty()) {
            let keep_bytes = if self.decisions[place] & 1 == 0 { 0 } else { at };
            return Decision::Refuse(Refusal { reply: denied(), keep_bytes });
        }
        let notice = || Notice {
            severity: NoticeSeverity::Warning,
            sqlstate: *b"01000",
            text: "careful".into(),
            detail: None,
            hint: None,
        };
        let ceiling = || Ceiling { rows_max: Some(1), bytes_max: Some(64), reply: denied() };
        match self.decisions.get(place) {
            None => Decision::Forward(forward()),
            Some(byte) => match byte % 8 {
                0..=2 => Decision::Forward(forward()),
                3 => Decision::Forward(forward().with_notice(notice())),
                4 => Decision::Forward(forward().with_ceiling(ceiling())),
                5 | 6 => Decision::Refuse(Refusal {
                    reply: denied(),
                    keep_bytes: usize::from(*byte >> 4),
                }),
                _ if *byte > 0xf0 => Decision::Terminate(denied()),
                _ => Decision::Forward(forward()),
            },
        }
    }

    /// Time passes: the events that follow carry it.
    pub fn tick(&mut self) {
        self.now += 1;
    }

    /// Feeds client bytes.
    pub fn client(&mut self, bytes: &[u8]) {
        self.from_client.extend_from_slice(bytes);
        self.pump();
    }

    /// Feeds server bytes.
    pub fn server(&mut self, bytes: &[u8]) {
        self.crossed |= !self.from_client.is_empty();
        self.from_server.extend_from_slice(bytes);
        self.pump();
    }

    /// Ends the session and checks that everything it began is reported once.
    pub fn close(&mut self) {
        self.session.handle_close(self.now);
        self.take_events();
        assert_eq!(self.session.answers_owed(), 0);
        assert_eq!(self.session.state(), State::Closing);
        let mut ready = Vec::new();
        let mut done = Vec::new();
        for event in &self.events {
            match event {
                Event::StatementReady(statement) => ready.push(statement.id),
                Event::StatementDone(statement) => done.push(statement.id),
                _ => {}
            }
        }
        let announced = ready.len();
        ready.sort_unstable();
        ready.dedup();
        assert_eq!(ready.len(), announced, "a statement was announced twice");
        let reported = done.len();
        done.sort_unstable();
        done.dedup();
        assert_eq!(done.len(), reported, "a statement was reported twice");
        let executed = self.session.counters().statements;
        assert!(done.len() as u64 >= executed, "{} of {executed} reported", done.len());
    }

    /// What there is to compare between two runs over the same bytes.
    pub fn outcome(&self) -> (&[u8], &[u8], &[Event], &Option<Error>, Counters) {
        (&self.to_server, &self.to_client, &self.events, &self.error, self.session.counters())
    }

    fn pump(&mut self) {
        if self.error.is_some() {
            return;
        }
        loop {
            let measure = Measure::new();
            let passed = match self.session.handle_frontend(self.now, &self.from_client) {
                Ok(passed) => passed,
                Err(error) => return self.error = Some(error),
            };
            assert!(passed.taken <= self.from_client.len());
            assert!(measure.bytes() <= KEPT_BYTES_MAX + 4 * self.from_client.len());
            self.to_server.extend_from_slice(passed.output(&self.from_client));
            self.from_client.drain(..passed.taken);
            let decided = self.take_events();
            let measure = Measure::new();
            let answered = match self.session.handle_backend(self.now, &self.from_server) {
                Ok(answered) => answered,
                Err(error) => return self.error = Some(error),
            };
            assert!(answered.taken <= self.from_server.len());
            assert!(measure.bytes() <= KEPT_BYTES_MAX + 4 * self.from_server.len());
            self.to_client.extend_from_slice(answered.output(&self.from_server));
            self.from_server.drain(..answered.taken);
            let still = passed.is_nothing() && answered.is_nothing();
            let moved = self.take_events() || decided || !still;
            assert!(self.session.answers_owed() <= 2_048);
            assert!(self.session.frontend_bytes_wanted() <= (1 << 20) + 1);
            assert!(self.session.backend_bytes_wanted() <= (1 << 18) + 11);
            if !moved {
                return;
            }
        }
    }

    fn take_events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.session.poll_event() {
            any = true;
            if let Event::StatementReady(ready) = &event {
                assert!(ready.span.start < ready.span.end);
                let decision = self.decide(ready);
                self.session.handle_decision(ready.id, decision);
            }
            if let Event::CeilingReached(_) = &event {
                self.session.handle_cancel_sent();
            }
            self.events.push(event);
        }
        any
    }
}

/// Checks that bytes are whole messages, but for the last, and gives their types.
pub fn frames(bytes: &[u8]) -> Vec<u8> {
    let (mut tags, mut rest) = (Vec::new(), bytes);
    while let Some(header) = rest.get(..HEADER_BYTES) {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        assert!(length >= 4, "a message without a length");
        tags.push(header[0]);
        rest = rest.get(1 + length..).unwrap_or_default();
    }
    tags
}
