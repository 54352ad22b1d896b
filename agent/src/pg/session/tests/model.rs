//! Sessions with a model of a server: whatever is refused, the client sees what a server would say.
//!
//! The model knows transactions, skipping to the `Sync`, and which texts fail; it answers what it
//! really gets. The client's side is checked against the same model with nothing between, where
//! the refused texts fail by themselves.

use proptest::prelude::*;

use super::*;
use crate::pg::codec::{HEADER_BYTES, Header};

/// What a model's texts do.
const SECRET: &[u8] = b"secret";

/// A server in miniature.
#[derive(Default)]
struct Model {
    input: Vec<u8>,
    output: Vec<u8>,
    /// Inside `begin`.
    open: bool,
    failed: bool,
    skipping: bool,
    /// The refused fail by themselves: nothing is between it and its client.
    refuses: bool,
    statements: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
    portals: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Model {
    fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        while let Some(header) = Header::read(&self.input) {
            let end = HEADER_BYTES + header.body_bytes(u32::MAX).expect("well formed") as usize;
            if self.input.len() < end {
                break;
            }
            let frame: Vec<u8> = self.input.drain(..end).collect();
            let message = Frontend::read(header.tag, &frame[HEADER_BYTES..]).expect("well formed");
            self.message(message);
        }
        std::mem::take(&mut self.output)
    }

    fn message(&mut self, message: Frontend<'_>) {
        match message {
            Frontend::Sync => {
                self.skipping = false;
                self.ready();
            }
            _ if self.skipping => {}
            Frontend::Query(text) => {
                self.statements.remove(&b""[..]);
                for statement in text.split(|byte| *byte == b';') {
                    if let Err(code) = self.run(statement) {
                        self.fail(code);
                        break;
                    }
                    self.output.extend(complete("DONE"));
                }
                self.ready();
            }
            Frontend::FunctionCall(call) => {
                let refused = call.function == 0 || self.refuses && call.function == 7;
                match () {
                    () if self.failed => self.fail("25P02"),
                    () if call.function == 0 => self.fail("42883"),
                    () if refused => self.fail("42501"),
                    () => self.output.extend(back(Backend::FunctionCallResponse(None))),
                }
                self.ready();
            }
            message => {
                if let Err(code) = self.extended(message) {
                    self.fail(code);
                    self.skipping = true;
                }
            }
        }
    }

    fn extended(&mut self, message: Frontend<'_>) -> Result<(), &'static str> {
        match message {
            Frontend::Parse(parse) => {
                if parse.name.is_empty() {
                    self.statements.remove(parse.name);
                }
                self.check(parse.text)?;
                if self.statements.contains_key(parse.name) {
                    return Err("42P05");
                }
                self.statements.insert(parse.name.into(), parse.text.into());
                self.output.extend(PARSED);
            }
            Frontend::Bind(bind) => {
                let text = self.statements.get(bind.statement).ok_or("26000")?.clone();
                self.check(&text)?;
                self.portals.insert(bind.portal.into(), text);
                self.output.extend(BOUND);
            }
            Frontend::Execute { portal, rows_max: _ } => {
                let text = self.portals.get(portal).ok_or("34000")?.clone();
                self.run(&text)?;
                self.output.extend(row(b"x"));
                self.output.extend(complete("DONE"));
            }
            Frontend::Describe(Target::Statement, name) => {
                self.statements.get(name).ok_or("26000")?;
                self.output.extend([&parameter_types(&[])[..], NO_DATA].concat());
            }
            Frontend::Close(Target::Statement, name) => {
                self.statements.remove(name);
                self.output.extend(CLOSED);
            }
            _ => {}
        }
        Ok(())
    }

    /// Analysis of a text.
    fn check(&self, text: &[u8]) -> Result<(), &'static str> {
        let holds = |part: &[u8]| memchr::memmem::find(text, part).is_some();
        match () {
            () if self.failed && !holds(b"rollback") => Err("25P02"),
            () if holds(b"pgward: denied by policy") => Err("42703"),
            () if self.refuses && holds(SECRET) => Err("42501"),
            () if holds(b"bad") => Err("42703"),
            () => Ok(()),
        }
    }

    fn run(&mut self, text: &[u8]) -> Result<(), &'static str> {
        self.check(text)?;
        match text.trim_ascii() {
            b"begin" => self.open = true,
            b"rollback" => (self.open, self.failed) = (false, false),
            _ => {}
        }
        Ok(())
    }

    fn fail(&mut self, code: &str) {
        self.failed = self.open;
        self.portals.clear();
        let text: &[u8] = if code == "42703" { b"\"pgward: denied by policy\"" } else { b"no" };
        let fields = [
            ErrorField { code: b'S', text: b"ERROR" },
            ErrorField { code: b'V', text: b"ERROR" },
            ErrorField { code: b'C', text: code.as_bytes() },
            ErrorField { code: b'M', text },
        ];
        self.output.extend(back(Backend::ErrorResponse(Terminated::new(fields).expect("none"))));
    }

    fn ready(&mut self) {
        let status = match (self.open, self.failed) {
            (false, _) => 'I',
            (true, false) => 'T',
            (true, true) => 'E',
        };
        if !self.open {
            self.portals.clear();
        }
        self.output.extend(z(status));
    }
}

/// Types of messages, with codes and status.
fn outline(mut bytes: &[u8]) -> String {
    let mut line = String::new();
    while let Some(header) = Header::read(bytes) {
        let end = HEADER_BYTES + header.body_bytes(u32::MAX).expect("well formed") as usize;
        let body = bytes.get(HEADER_BYTES..end).expect("whole messages");
        line.push(char::from(header.tag));
        match header.tag {
            b'E' => {
                let code = crate::pg::backend::ErrorHead::read(body).sqlstate.expect("a code");
                line.push_str(&String::from_utf8_lossy(&code));
            }
            b'Z' => line.push(char::from(body[0])),
            _ => {}
        }
        bytes = &bytes[end..];
    }
    assert!(bytes.is_empty(), "half a message");
    line
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![Just(""), Just("a"), Just("b")];
    let text = prop_oneof![
        4 => Just("select 1"),
        3 => Just("select secret"),
        1 => Just("begin"),
        1 => Just("rollback"),
        1 => Just("select nothing; select secret; select 2"),
        1 => Just("begin; select secret"),
        1 => Just("rollback; select secret"),
    ];
    prop_oneof![
        4 => text.clone().prop_map(query),
        4 => (name.clone(), text).prop_map(|(name, text)| parse(name, text.split(';').next().unwrap_or(text))),
        3 => (name.clone(), name.clone()).prop_map(|(portal, statement)| bind(portal, statement)),
        3 => name.clone().prop_map(execute),
        1 => name.clone().prop_map(|name| describe(Target::Statement, name)),
        1 => name.prop_map(|name| close(Target::Statement, name)),
        4 => Just(sync()),
        1 => Just(flush()),
        1 => (6_u32..8).prop_map(|function| function_call(function, b"")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn refusals_are_what_the_server_would_say(
        messages in prop::collection::vec(any_message(), 0..25),
        parts in prop::collection::vec(1_usize..200, 1..20),
        lag in prop::collection::vec(any::<bool>(), 1..20),
    ) {
        let all = [messages.concat(), sync()].concat();
        let mut direct = Model { refuses: true, ..Model::default() };
        let expected = direct.feed(&all);

        let mut server = Model::default();
        let mut driver = Driver::refusing();
        let mut waiting = Vec::new();
        let mut rest = &all[..];
        let (mut parts, mut lag) = (parts.iter().cycle(), lag.iter().cycle());
        while !rest.is_empty() || !waiting.is_empty() || !driver.to_server.is_empty() {
            let (part, behind) = rest.split_at((*parts.next().expect("cycle")).min(rest.len()));
            rest = behind;
            driver.client(&[part]);
            let sent = driver.sent();
            prop_assert!(memchr::memmem::find(&sent, SECRET).is_none());
            waiting.extend(server.feed(&sent));
            if rest.is_empty() || *lag.next().expect("cycle") {
                let answers = std::mem::take(&mut waiting);
                driver.server(&[&answers]);
            }
        }
        prop_assert_eq!(driver.held(), 0);
        prop_assert!(memchr::memmem::find(&driver.to_client, b"pgward").is_none());
        prop_assert_eq!(outline(&driver.to_client), outline(&expected));
        prop_assert_eq!((server.open, server.failed), (direct.open, direct.failed));
        prop_assert_eq!(server.statements, direct.statements);
    }
}
