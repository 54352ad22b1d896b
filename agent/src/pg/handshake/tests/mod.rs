//! Handshakes driven by scripts: an application, the machine, a server.

mod properties;
mod relayed;
mod startup;
mod terminated;

use std::sync::Arc;

use zeroize::Zeroizing;

use super::course::{Accepted, CertificateGiven, Mode, OAUTHBEARER, Upgrade};
use super::*;
use crate::pg::{
    backend::{ErrorField, TransactionStatus},
    codec::{HEADER_BYTES, Header},
    error::Error,
    frontend::{Frontend, SaslInitialResponse},
    scram::{AwaitingFinal, EndPoint, Initial, Offer, ScramError, Server},
    startup::Parameters,
};

const PASSWORD: &[u8] = b"correct horse";
const USER: &[u8] = b"app";

/// What any test outside needs to have a session.
pub(crate) fn authenticated() -> Authenticated {
    let mut scene = Scene::new(|terms| terms.accepted = Accepted::ANY);
    scene.server(&[&ok(), &ready()]);
    scene.handshake.finish().expect("the server trusts, and that is accepted")
}

struct Scene {
    handshake: Handshake,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    events: Vec<Event>,
    /// The challenge that the application got.
    heard: Vec<u8>,
}

fn terms() -> Terms {
    let parameters: Parameters = [("user", "app"), ("database", "shop")].into_iter().collect();
    Terms {
        user: USER.into(),
        hello: Hello::new(0, &parameters, USER, None),
        client_leg: Channel::Clear,
        client_binding: Binding::Prefer,
        server_leg: clear_server(),
        server_binding: Binding::Prefer,
        mode: Mode::Auto,
        upgrade: Upgrade::No,
        accepted: Accepted::default(),
        random: Random {
            client_nonce: [1; 18],
            server_nonce: [2; 18],
            cancel_key: Zeroizing::new([7; 256]),
            mock_seed: Arc::new(Zeroizing::new([3; 32])),
        },
    }
}

fn clear_server() -> ServerLeg {
    ServerLeg { channel: Channel::Clear, certificate: CertificateGiven::No }
}

fn tls(byte: u8) -> Channel {
    Channel::Tls(Some(EndPoint::from_hash(&[byte; 32]).expect("the length of SHA-256")))
}

fn tls_server() -> ServerLeg {
    ServerLeg { channel: tls(2), certificate: CertificateGiven::No }
}

impl Scene {
    fn new(change: impl FnOnce(&mut Terms)) -> Self {
        let mut terms = terms();
        change(&mut terms);
        Self {
            handshake: Handshake::new(terms),
            from_client: Vec::new(),
            from_server: Vec::new(),
            to_client: Vec::new(),
            to_server: Vec::new(),
            events: Vec::new(),
            heard: Vec::new(),
        }
    }

    fn try_client(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        self.from_client.extend_from_slice(bytes);
        self.pump()
    }

    fn try_server(&mut self, messages: &[&[u8]]) -> Result<(), HandshakeError> {
        self.from_server.extend(messages.concat());
        self.pump()
    }

    fn client(&mut self, bytes: &[u8]) {
        self.try_client(bytes).expect("the client is in order");
    }

    fn server(&mut self, messages: &[&[u8]]) {
        self.try_server(messages).expect("the server is in order");
    }

    fn credentials(&mut self, credentials: Credentials) {
        self.handshake.handle_credentials(credentials).expect("fits");
        self.pump().expect("in order");
    }

    fn pump(&mut self) -> Result<(), HandshakeError> {
        loop {
            let answered = self.handshake.handle_backend(&self.from_server);
            self.take();
            let answered = answered?;
            self.from_server.drain(..answered);
            let taken = self.handshake.handle_frontend(&self.from_client);
            self.take();
            let taken = taken?;
            self.from_client.drain(..taken);
            if answered + taken == 0 {
                return Ok(());
            }
        }
    }

    fn take(&mut self) {
        self.to_client.extend(self.handshake.for_client());
        self.to_server.extend_from_slice(&self.handshake.for_server());
        self.events.extend(std::iter::from_fn(|| self.handshake.poll_event()));
    }

    /// The last message that went to a side, and forgets all that did.
    fn said(bytes: &mut Vec<u8>) -> Vec<u8> {
        let bytes = std::mem::take(bytes);
        let mut rest = &bytes[..];
        loop {
            let header = Header::read(rest).expect("a message");
            let end = HEADER_BYTES + header.body_bytes(u32::MAX).expect("sane") as usize;
            if end == rest.len() {
                return rest.to_vec();
            }
            rest = &rest[end..];
        }
    }

    fn told(&mut self) -> Vec<u8> {
        Self::said(&mut self.to_client)
    }

    fn asked(&mut self) -> Vec<u8> {
        Self::said(&mut self.to_server)
    }

    /// The application logs in with `password`, as a client of SCRAM over `binding`.
    fn prove(&mut self, password: &[u8], binding: ClientBinding) -> Result<(), HandshakeError> {
        let (client, mechanism, first) = scram::Client::new(binding, nonce(4));
        let initial = SaslInitialResponse { mechanism, data: Some(&first) };
        let mut out = Vec::new();
        initial.write(&mut out).expect("short");
        self.try_client(&out)?;
        self.heard = self.told();
        let challenge = client.handle_first(&self.heard[HEADER_BYTES + 4..]).expect("a challenge");
        let keys = Keys::derive(password, challenge.salt(), challenge.iterations());
        let (_, last) = challenge.answer(&keys);
        self.try_client(&response(last.expose_secret()))
    }

    /// The server answers our client's first message, and gives what it waits for then.
    fn challenge(&mut self, verifier: &Arc<Verifier>, offer: Offer) -> AwaitingFinal {
        let asked = self.asked();
        let initial = SaslInitialResponse::read(&asked[HEADER_BYTES..]).expect("initial");
        let server = Server::new(verifier.clone(), offer, nonce(5));
        let step = server.handle_initial(initial.mechanism, initial.data);
        let Ok(Initial::Challenged(awaiting, first)) = step else { panic!("{step:?}") };
        self.server(&[&ask(Authentication::SaslContinue(&first))]);
        awaiting
    }

    /// The server checks our proof, proves itself and accepts.
    fn conclude(&mut self, awaiting: AwaitingFinal) {
        let asked = self.asked();
        let proven = awaiting.handle_final(&asked[HEADER_BYTES..]).expect("our proof");
        self.server(&[&ask(Authentication::SaslFinal(proven.server_final())), &ok()]);
    }

    fn how(&self) -> Option<How> {
        self.events.iter().find_map(|event| match event {
            Event::Authenticated(how) => Some(*how),
            _ => None,
        })
    }
}

fn nonce(byte: u8) -> Nonce {
    Nonce::from_random([byte; 18])
}

fn verifier() -> Arc<Verifier> {
    Arc::new(Verifier::from_password(PASSWORD, b"0123456789abcdef", 4096).expect("in bounds"))
}

fn back(message: &Backend<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(&mut out).expect("fits");
    out
}

fn ask(request: Authentication<'_>) -> Vec<u8> {
    back(&Backend::Authentication(request))
}

fn ok() -> Vec<u8> {
    ask(Authentication::Ok)
}

fn sasl(mechanisms: &[&[u8]]) -> Vec<u8> {
    ask(Authentication::Sasl(Terminated::new(mechanisms.iter().copied()).expect("no zeros")))
}

fn ready() -> Vec<u8> {
    back(&Backend::ReadyForQuery(TransactionStatus::Idle))
}

fn response(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Frontend::Authentication(data).write(&mut out).expect("fits");
    out
}

fn initial(mechanism: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    SaslInitialResponse { mechanism, data: Some(data) }.write(&mut out).expect("fits");
    out
}

fn error(sqlstate: &str) -> Vec<u8> {
    let fields = [
        ErrorField { code: b'S', text: b"FATAL" },
        ErrorField { code: b'V', text: b"FATAL" },
        ErrorField { code: b'C', text: sqlstate.as_bytes() },
        ErrorField { code: b'M', text: b"no" },
    ];
    back(&Backend::ErrorResponse(Terminated::new(fields).expect("no zeros")))
}

fn mapped() -> Credentials {
    Credentials::Account { application: verifier() }
}
