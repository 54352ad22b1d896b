//! Sessions driven by scripts.

mod ask;
mod bounds;
mod ceiling;
mod copy;
mod extended;
mod model;
mod properties;
mod refusal;
mod simple;

use super::*;
use crate::pg::backend::{Backend, CopyFormat, ErrorField};
use crate::pg::error::{Error, Reply, Severity};
use crate::pg::frontend::{Bind, Formats, Frontend, FunctionCall, Parse, Target};
use crate::pg::handshake::tests::authenticated;
use crate::pg::list::{Counted, Terminated};

/// Bytes of one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Client(Vec<u8>),
    Server(Vec<u8>),
}

/// A driver in miniature: two buffers, pumped until nothing moves.
pub(super) struct Driver {
    pub(super) session: Session,
    pub(super) now: u64,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    pub(super) to_server: Vec<u8>,
    pub(super) to_client: Vec<u8>,
    pub(super) events: Vec<Event>,
    pub(super) judge: Judge,
}

/// What a test decides; `None` lets the statement wait.
pub(super) type Judge = Box<dyn FnMut(&Ready) -> Option<Decision>>;

/// A verdict that lets everything pass.
struct Anything;

impl Permits for Anything {
    fn permits(&self) -> bool {
        true
    }
}

pub(super) fn permit(id: StatementId) -> Forward {
    Forward::new(Permit::of(id, &Anything).expect("it permits"))
}

pub(super) fn forward(id: StatementId) -> Decision {
    Decision::Forward(permit(id))
}

/// What the client is told of a refusal.
pub(super) fn denied() -> Reply {
    Reply {
        severity: Severity::Error,
        sqlstate: *b"42501",
        text: "permission denied for table cards".into(),
        detail: Some("rule".into()),
        hint: None,
    }
}

pub(super) fn refuse(keep_bytes: usize) -> Decision {
    Decision::Refuse(Refusal { reply: denied(), keep_bytes })
}

/// The client's `ErrorResponse` of a refusal.
pub(super) fn told() -> Vec<u8> {
    let mut out = Vec::new();
    denied().write(&mut out).expect("fits");
    out
}

/// What the server says to the poison.
pub(super) fn poison_error() -> Vec<u8> {
    let fields = [
        ErrorField { code: b'S', text: b"FEHLER" },
        ErrorField { code: b'V', text: b"ERROR" },
        ErrorField { code: b'C', text: b"42703" },
        ErrorField { code: b'M', text: b"Spalte \xbbpgward: denied by policy\xab existiert nicht" },
    ];
    back(Backend::ErrorResponse(Terminated::new(fields).expect("no zeros")))
}

impl Driver {
    /// A session where statements with `secret` in their text are refused, from there on in a
    /// simple `Query`.
    pub(super) fn refusing() -> Self {
        let mut driver = Self::ready();
        driver.judge = Box::new(|ready| {
            let at = memchr::memmem::find(&ready.text, b"secret");
            let statement = at.map(|at| match memchr::memrchr(b';', &ready.text[..at]) {
                Some(end) => end + 1,
                None => 0,
            });
            Some(match (statement, ready.kind) {
                (Some(keep), _) => refuse(keep),
                (None, Kind::FunctionCall) if ready.function == Some(7) => refuse(0),
                (None, _) => forward(ready.id),
            })
        });
        driver
    }

    /// What went to the server since the last call.
    pub(super) fn sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_server)
    }

    /// What went to the client since the last call.
    pub(super) fn heard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_client)
    }

    pub(super) fn with(gate: Gate, limits: Limits) -> Self {
        Self {
            session: Session::new(limits, gate, 0, authenticated()),
            now: 0,
            from_client: Vec::new(),
            from_server: Vec::new(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            events: Vec::new(),
            judge: Box::new(|ready| Some(forward(ready.id))),
        }
    }

    /// A session that is ready for requests, its events so far taken.
    pub(super) fn ready() -> Self {
        Self::ready_with(Limits::default())
    }

    pub(super) fn ready_with(limits: Limits) -> Self {
        Self::with(Gate::Hold, limits)
    }

    pub(super) fn client(&mut self, messages: &[&[u8]]) -> &mut Self {
        self.try_feed(&Step::Client(messages.concat())).expect("client is in order");
        self
    }

    pub(super) fn server(&mut self, messages: &[&[u8]]) -> &mut Self {
        self.try_feed(&Step::Server(messages.concat())).expect("server is in order");
        self
    }

    /// Feeds bytes and pumps; each call is a tick of the clock unless bytes are split further.
    pub(super) fn try_feed(&mut self, step: &Step) -> Result<(), Error> {
        self.now += 1;
        self.feed_part(step)
    }

    pub(super) fn feed_part(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Client(bytes) => self.from_client.extend_from_slice(bytes),
            Step::Server(bytes) => self.from_server.extend_from_slice(bytes),
        }
        loop {
            let passed = self.session.handle_frontend(self.now, &self.from_client)?;
            self.to_server.extend_from_slice(passed.output(&self.from_client));
            self.from_client.drain(..passed.taken);
            let decided = self.take_events();
            let answered = self.session.handle_backend(self.now, &self.from_server)?;
            self.to_client.extend_from_slice(answered.output(&self.from_server));
            self.from_server.drain(..answered.taken);
            let still = passed.is_nothing() && answered.is_nothing();
            if !self.take_events() && !decided && still {
                return Ok(());
            }
        }
    }

    fn take_events(&mut self) -> bool {
        let mut decided = false;
        while let Some(event) = self.session.poll_event() {
            if let Event::StatementReady(ready) = &event
                && let Some(decision) = (self.judge)(ready)
            {
                self.session.handle_decision(ready.id, decision);
                decided = true;
            }
            self.events.push(event);
        }
        decided
    }

    pub(super) fn close(&mut self) -> &mut Self {
        self.now += 1;
        self.session.handle_close(self.now);
        self.take_events();
        self
    }

    /// Client bytes not released.
    pub(super) fn held(&self) -> usize {
        self.from_client.len()
    }

    /// Statements reported since the last call.
    pub(super) fn done(&mut self) -> Vec<Statement> {
        let done = self.events.drain(..).filter_map(|event| match event {
            Event::StatementDone(statement) => Some(*statement),
            _ => None,
        });
        done.collect()
    }

    /// The only statement reported since the last call.
    pub(super) fn one_done(&mut self) -> Statement {
        let mut done = self.done();
        assert_eq!(done.len(), 1, "{done:?}");
        done.remove(0)
    }

    /// Texts and outcomes of the statements reported since the last call.
    pub(super) fn outcomes(&mut self) -> Vec<(String, Outcome)> {
        let done = self.done();
        done.iter().map(|s| (String::from_utf8_lossy(&s.text).into_owned(), s.outcome)).collect()
    }
}

pub(super) fn outcome(text: &str, outcome: Outcome) -> (String, Outcome) {
    (text.to_owned(), outcome)
}

fn front(message: Frontend<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(&mut out).expect("fits");
    out
}

fn back(message: Backend<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(&mut out).expect("fits");
    out
}

pub(super) fn query(text: &str) -> Vec<u8> {
    front(Frontend::Query(text.as_bytes()))
}

pub(super) fn parse(name: &str, text: &str) -> Vec<u8> {
    parse_typed(name, text, &[])
}

pub(super) fn parse_typed(name: &str, text: &str, types: &[u32]) -> Vec<u8> {
    let types = Counted::new(types.iter().copied()).expect("few");
    front(Frontend::Parse(Parse { name: name.as_bytes(), text: text.as_bytes(), types }))
}

pub(super) fn bind(portal: &str, statement: &str) -> Vec<u8> {
    bind_values(portal, statement, &[], &[])
}

pub(super) fn bind_values(
    portal: &str,
    statement: &str,
    formats: &[u16],
    values: &[Option<&[u8]>],
) -> Vec<u8> {
    let formats = Formats::new(formats.iter().copied()).expect("few");
    let values = Counted::new(values.iter().copied()).expect("few");
    let (portal, statement) = (portal.as_bytes(), statement.as_bytes());
    let result_formats = Formats::new([]).expect("none");
    front(Frontend::Bind(Bind { portal, statement, formats, values, result_formats }))
}

pub(super) fn describe(target: Target, name: &str) -> Vec<u8> {
    front(Frontend::Describe(target, name.as_bytes()))
}

pub(super) fn close(target: Target, name: &str) -> Vec<u8> {
    front(Frontend::Close(target, name.as_bytes()))
}

pub(super) fn execute(portal: &str) -> Vec<u8> {
    front(Frontend::Execute { portal: portal.as_bytes(), rows_max: 0 })
}

pub(super) fn sync() -> Vec<u8> {
    front(Frontend::Sync)
}

pub(super) fn flush() -> Vec<u8> {
    front(Frontend::Flush)
}

pub(super) fn function_call(function: u32, value: &[u8]) -> Vec<u8> {
    let formats = Counted::new([1]).expect("one");
    let values = Counted::new([Some(value)]).expect("one");
    front(Frontend::FunctionCall(FunctionCall { function, formats, values, result_format: 1 }))
}

/// `CopyData` of either direction.
pub(super) fn data(bytes: &[u8]) -> Vec<u8> {
    front(Frontend::CopyData(bytes))
}

/// `CopyDone` of either direction.
pub(super) fn copy_done() -> Vec<u8> {
    front(Frontend::CopyDone)
}

pub(super) fn copy_fail() -> Vec<u8> {
    front(Frontend::CopyFail(b"no more"))
}

pub(super) fn terminate() -> Vec<u8> {
    front(Frontend::Terminate)
}

pub(super) fn z(status: char) -> Vec<u8> {
    let status = TransactionStatus::from_byte(status as u8).expect("known status");
    back(Backend::ReadyForQuery(status))
}

pub(super) fn complete(tag: &str) -> Vec<u8> {
    back(Backend::CommandComplete(tag.as_bytes()))
}

pub(super) fn columns() -> Vec<u8> {
    back(Backend::RowDescription(Counted::new([]).expect("none")))
}

pub(super) fn row(value: &[u8]) -> Vec<u8> {
    back(Backend::DataRow(Counted::new([Some(value)]).expect("one")))
}

pub(super) fn copy_response(tag: u8, format: u8) -> Vec<u8> {
    let copy = CopyFormat { format, columns: Counted::new([]).expect("none") };
    back(match tag {
        b'G' => Backend::CopyInResponse(copy),
        b'H' => Backend::CopyOutResponse(copy),
        _ => Backend::CopyBothResponse(copy),
    })
}

pub(super) fn error(severity: &str, sqlstate: &str) -> Vec<u8> {
    let fields = [
        ErrorField { code: b'S', text: severity.as_bytes() },
        ErrorField { code: b'V', text: severity.as_bytes() },
        ErrorField { code: b'C', text: sqlstate.as_bytes() },
        ErrorField { code: b'M', text: b"message" },
    ];
    back(Backend::ErrorResponse(Terminated::new(fields).expect("no zeros")))
}

pub(super) fn notice() -> Vec<u8> {
    let fields = [ErrorField { code: b'S', text: b"NOTICE" }];
    back(Backend::NoticeResponse(Terminated::new(fields).expect("no zeros")))
}

pub(super) fn notification() -> Vec<u8> {
    back(Backend::NotificationResponse { pid: 1, channel: b"c", payload: b"p" })
}

pub(super) fn setting(name: &str, value: &str) -> Vec<u8> {
    back(Backend::ParameterStatus { name: name.as_bytes(), value: value.as_bytes() })
}

pub(super) fn parameter_types(types: &[u32]) -> Vec<u8> {
    back(Backend::ParameterDescription(Counted::new(types.iter().copied()).expect("few")))
}

pub(super) const PARSED: &[u8] = b"1\0\0\0\x04";
pub(super) const BOUND: &[u8] = b"2\0\0\0\x04";
pub(super) const CLOSED: &[u8] = b"3\0\0\0\x04";
pub(super) const SUSPENDED: &[u8] = b"s\0\0\0\x04";
pub(super) const NO_DATA: &[u8] = b"n\0\0\0\x04";
pub(super) const EMPTY: &[u8] = b"I\0\0\0\x04";
