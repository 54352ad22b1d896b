//! A driver that checks the promises of a session at each step.

use pgward::pg::session::{Counters, Decision, Event, Gate, Session, State};
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
}

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
            assert!(passed <= self.from_client.len());
            assert!(measure.bytes() <= KEPT_BYTES_MAX + 2 * self.from_client.len());
            self.to_server.extend(self.from_client.drain(..passed));
            let decided = self.take_events();
            let measure = Measure::new();
            let answered = match self.session.handle_backend(self.now, &self.from_server) {
                Ok(answered) => answered,
                Err(error) => return self.error = Some(error),
            };
            assert!(answered <= self.from_server.len());
            assert!(measure.bytes() <= KEPT_BYTES_MAX + 2 * self.from_server.len());
            self.to_client.extend(self.from_server.drain(..answered));
            let moved = self.take_events() || decided || passed + answered > 0;
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
                self.session.handle_decision(ready.id, Decision::Forward);
            }
            self.events.push(event);
        }
        any
    }
}
