//! A client of a real server: directly, and through the protocol core of the agent.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use pgward::pg::Limits;
use pgward::pg::error::{Reply, Severity};
use pgward::pg::handshake::course::{Accepted, CertificateGiven, Mode, Upgrade};
use pgward::pg::handshake::{
    Binding, Channel, Event as Came, Handshake, Hello, Random, ServerLeg, Terms,
};
use pgward::pg::session::{
    Answer, CancelKey, Ceiling, Decision, Event, Forward, Gate, Permit, Permits, Ready, Refusal,
    Session, Statement,
};
use pgward::pg::startup::Parameters;
use pgward_tests::wait::PATIENCE;
use pgward_tests::wire::{self, Frame};

use super::Result;

/// What a scene does to either.
pub(crate) trait Peer {
    /// The client sends.
    fn send(&mut self, bytes: &[u8]) -> Result;
    /// The next message that the client gets.
    fn next(&mut self) -> Result<Frame>;
}

/// No agent.
pub(crate) struct Direct {
    stream: TcpStream,
}

/// Opens a connection and sends the startup packet.
fn greet(port: u16, parameters: &[(&str, &str)]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&wire::startup(parameters))?;
    Ok(stream)
}

impl Direct {
    pub(crate) fn start(port: u16, parameters: &[(&str, &str)]) -> Result<Self> {
        let mut stream = greet(port, parameters)?;
        wire::read_until_ready(&mut stream)?;
        Ok(Self { stream })
    }
}

impl Peer for Direct {
    fn send(&mut self, bytes: &[u8]) -> Result {
        Ok(self.stream.write_all(bytes)?)
    }

    fn next(&mut self) -> Result<Frame> {
        wire::read_frame(&mut self.stream)?.context("the server closed")
    }
}

/// The protocol core in the middle, and who decides.
pub(crate) struct Through {
    pub(crate) session: Session,
    stream: TcpStream,
    port: u16,
    key: Option<(u32, CancelKey)>,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    to_client: Vec<u8>,
    /// All that went to the server.
    pub(crate) sent: Vec<u8>,
    pub(crate) judge: Judge,
    pub(crate) answers: Vec<Answer>,
    pub(crate) done: Vec<Statement>,
    pub(crate) ended: bool,
}

/// Which statements are refused.
pub(crate) struct Judge {
    /// Those with this in their text, from there on in a simple `Query`.
    pub(crate) word: &'static str,
    /// Calls of this function.
    pub(crate) function: u32,
    /// Whether it does at all.
    pub(crate) refuses: bool,
    /// Rows that others may give.
    pub(crate) rows_max: Option<u64>,
}

struct Allowed;

impl Permits for Allowed {
    fn permits(&self) -> bool {
        true
    }
}

/// What the client hears of a refusal.
fn denied() -> Reply {
    Reply {
        severity: Severity::Error,
        sqlstate: *b"42501",
        text: "permission denied for schema vault".into(),
        detail: Some("Rule `vault` of the policy denies it.".into()),
        hint: Some("ask #data-platform".into()),
    }
}

impl Judge {
    fn decide(&self, ready: &Ready) -> Result<Decision> {
        let text = String::from_utf8_lossy(&ready.text);
        let at = text.find(self.word);
        let called = ready.function.is_some() && ready.function == Some(self.function);
        if self.refuses && (at.is_some() || called) {
            let keep_bytes = at.and_then(|at| text[..at].rfind(';')).map_or(0, |end| end + 1);
            return Ok(Decision::Refuse(Refusal { reply: denied(), keep_bytes }));
        }
        let forward = Forward::new(Permit::of(ready.id, &Allowed).context("it permits")?);
        Ok(Decision::Forward(match self.rows_max {
            None => forward,
            rows_max => {
                forward.with_ceiling(Ceiling { rows_max, bytes_max: None, reply: denied() })
            }
        }))
    }
}

impl Through {
    pub(crate) fn start(port: u16, parameters: &[(&str, &str)], judge: Judge) -> Result<Self> {
        let mut stream = greet(port, parameters)?;
        let mut handshake = Handshake::new(terms());
        let mut key = None;
        let mut ready = false;
        while !ready {
            let frame = wire::read_frame(&mut stream)?.context("the server closed")?;
            let bytes = wire::message(frame.tag, &frame.body);
            let taken = handshake.handle_backend(&bytes)?;
            ensure!(taken == bytes.len(), "took {taken} of {} bytes", bytes.len());
            while let Some(event) = handshake.poll_event() {
                match event {
                    Came::BackendKeyData { pid, server_key, client_key: _ } => {
                        key = Some((pid, server_key));
                    }
                    Came::Ready => ready = true,
                    _ => {}
                }
            }
        }
        let authenticated = handshake.finish().context("nobody was authenticated")?;
        Ok(Self {
            session: Session::new(Limits::default(), Gate::Hold, 0, authenticated),
            stream,
            port,
            key,
            from_client: Vec::new(),
            from_server: Vec::new(),
            to_client: Vec::new(),
            sent: Vec::new(),
            judge,
            answers: Vec::new(),
            done: Vec::new(),
            ended: false,
        })
    }

    /// Lets the core look at what there is, until nothing moves.
    pub(crate) fn pump(&mut self) -> Result {
        loop {
            let up = self.session.handle_frontend(0, &self.from_client)?;
            let output = up.output(&self.from_client);
            self.stream.write_all(output)?;
            self.sent.extend_from_slice(output);
            self.from_client.drain(..up.taken);
            let decided = self.events()?;
            let down = self.session.handle_backend(0, &self.from_server)?;
            self.to_client.extend_from_slice(down.output(&self.from_server));
            self.from_server.drain(..down.taken);
            if !self.events()? && !decided && up.is_nothing() && down.is_nothing() {
                return Ok(());
            }
        }
    }

    fn events(&mut self) -> Result<bool> {
        let mut any = false;
        while let Some(event) = self.session.poll_event() {
            any = true;
            match event {
                Event::StatementReady(ready) => {
                    self.session.handle_decision(ready.id, self.judge.decide(&ready)?);
                }
                Event::CeilingReached(_) => {
                    self.cancel()?;
                    self.session.handle_cancel_sent();
                }
                Event::Answer(answer) => self.answers.push(*answer),
                Event::StatementDone(statement) => self.done.push(*statement),
                Event::Ended { .. } => self.ended = true,
                Event::ParameterStatus { .. } | Event::ServerError { .. } | Event::Terminate => {}
            }
        }
        Ok(any)
    }

    /// A real cancel request, as over until the server closes its connection.
    fn cancel(&mut self) -> Result {
        let (pid, key) = self.key.as_ref().context("no key")?;
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&wire::cancel(*pid, &key.0))?;
        ensure!(wire::read_frame(&mut stream)?.is_none(), "an answer to a cancel request");
        Ok(())
    }

    /// Reads from the server once.
    pub(crate) fn read(&mut self) -> Result {
        let frame = wire::read_frame(&mut self.stream)?.context("the server closed")?;
        self.from_server.extend(wire::message(frame.tag, &frame.body));
        self.pump()
    }

    fn heard(&mut self) -> Result<Option<Frame>> {
        let mut rest = &self.to_client[..];
        if rest.is_empty() {
            return Ok(None);
        }
        let frame = wire::read_frame(&mut rest).context("half a message")?;
        let left = rest.len();
        self.to_client.drain(..self.to_client.len() - left);
        Ok(frame)
    }
}

impl Peer for Through {
    fn send(&mut self, bytes: &[u8]) -> Result {
        self.from_client.extend_from_slice(bytes);
        self.pump()
    }

    fn next(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.heard()? {
                return Ok(frame);
            }
            if self.ended {
                bail!("the session was ended");
            }
            self.read()?;
        }
    }
}

/// A server that trusts whoever comes, in the clear.
fn terms() -> Terms {
    let parameters: Parameters = [("user", "app")].into_iter().collect();
    Terms {
        user: b"app"[..].into(),
        hello: Hello::new(0, &parameters, b"app", None),
        client_leg: Channel::Clear,
        client_binding: Binding::Prefer,
        server_leg: ServerLeg { channel: Channel::Clear, certificate: CertificateGiven::No },
        server_binding: Binding::Prefer,
        mode: Mode::Auto,
        upgrade: Upgrade::No,
        accepted: Accepted::ANY,
        random: Random {
            client_nonce: [1; 18],
            server_nonce: [2; 18],
            cancel_key: [7; 256].into(),
            mock_seed: Arc::new([3; 32].into()),
        },
    }
}
