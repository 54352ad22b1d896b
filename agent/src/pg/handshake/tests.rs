//! Handshakes driven by scripts: an application, the machine, a server.

use std::sync::Arc;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::course::OAUTHBEARER;
use super::*;
use crate::pg::{
    backend::{ErrorField, TransactionStatus},
    codec::{HEADER_BYTES, Header},
    error::Error,
    frontend::{Frontend, SaslInitialResponse},
    scram::{AwaitingFinal, Initial, Offer, ScramError, Server},
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

#[test]
fn shared_verifier_logs_both_sides_in_each_bound_to_its_own_channel() {
    let mut scene = Scene::new(|terms| {
        terms.client_leg = tls(1);
        terms.server_leg = tls_server();
    });
    scene.server(&[&sasl(&[scram::PLUS, scram::PLAIN])]);
    assert_eq!(scene.events.last(), Some(&Event::CredentialsWanted));
    assert!(scene.to_client.is_empty(), "the application is asked when it is known what for");
    scene.credentials(Credentials::Shared(verifier()));
    assert!(scene.to_client.is_empty());
    let Channel::Tls(Some(hash)) = tls(2) else { unreachable!() };
    let awaiting = scene.challenge(&verifier(), Offer::Plus(hash));
    assert_eq!(scene.told(), sasl(&[scram::PLUS, scram::PLAIN]));
    let Channel::Tls(Some(hash)) = tls(1) else { unreachable!() };
    scene.prove(PASSWORD, ClientBinding::EndPoint(hash)).expect("proven");
    assert!(scene.to_client.is_empty(), "the application hears of it when the server is content");
    scene.conclude(awaiting);
    let key = back(&Backend::BackendKeyData { pid: 9, key: &[5; 32] });
    scene.server(&[&key, &ready()]);
    let how = How::Terminated {
        demand: Demand::Scram { plain: Offered::Yes, plus: Offered::Yes },
        login: Login::Own,
        client_bound: Offered::Yes,
        server_bound: Offered::Yes,
    };
    assert_eq!(scene.how(), Some(how));
    let given = back(&Backend::BackendKeyData { pid: 9, key: &[7; 32] });
    assert!(scene.to_client.ends_with(&[given, ready()].concat()));
    assert_eq!(scene.handshake.finish().map(Authenticated::how), Some(how));
}

#[test]
fn wrong_password_reaches_the_server_in_no_form() {
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Shared(verifier()));
    let _awaiting = scene.challenge(&verifier(), Offer::Plain);
    let _ = scene.told();
    let failed = scene.prove(b"wrong", ClientBinding::NotOverTls);
    assert_eq!(failed, Err(HandshakeError::Application(ScramError::NotAuthenticated)));
    assert!(scene.to_server.is_empty());
}

#[test]
fn unknown_role_hears_what_a_wrong_password_hears() {
    let (mut replies, mut challenges) = (Vec::new(), Vec::new());
    for credentials in [Credentials::Absent, Credentials::Shared(verifier())] {
        let mut scene = Scene::new(|terms| terms.mode = Mode::Terminate);
        scene.server(&[&sasl(&[scram::PLAIN])]);
        scene.credentials(credentials);
        assert!(scene.to_client.is_empty());
        let _awaiting = scene.challenge(&verifier(), Offer::Plain);
        assert_eq!(scene.told(), sasl(&[scram::PLAIN]));
        let failed = scene.prove(b"wrong", ClientBinding::NotOverTls).expect_err("not known");
        challenges.push(scene.heard.clone());
        assert!(scene.to_server.is_empty());
        replies.push(failed.reply(USER));
    }
    assert_eq!(replies[0], replies[1]);
    assert_eq!(challenges[0], challenges[1], "salt and count are the server's");
    assert_eq!(replies[0].as_ref().map(|reply| reply.sqlstate), Some(*b"28P01"));
}

#[test]
fn verifier_that_is_not_the_servers_is_asked_for_again_before_the_application_is() {
    let old = Arc::new(Verifier::from_password(b"old", b"another salt....", 4096).expect("fits"));
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Shared(old.clone()));
    let awaiting = scene.challenge(&verifier(), Offer::Plain);
    assert_eq!(scene.events.last(), Some(&Event::VerifierStale));
    assert!(scene.to_client.is_empty());
    scene.credentials(Credentials::Shared(verifier()));
    let _ = scene.told();
    scene.prove(PASSWORD, ClientBinding::NotOverTls).expect("proven");
    scene.conclude(awaiting);
    assert!(scene.how().is_some());

    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Shared(old.clone()));
    let _awaiting = scene.challenge(&verifier(), Offer::Plain);
    let failed = scene.handshake.handle_credentials(Credentials::Shared(old));
    assert_eq!(failed, Err(Refusal::StaleVerifier.into()));
}

fn mapped() -> Credentials {
    Credentials::Account { application: verifier() }
}

#[test]
fn account_logs_in_behind_the_proof_and_is_tried_again_once() {
    let upstream = Arc::new(Verifier::from_password(b"theirs", b"salt", 5000).expect("fits"));
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(mapped());
    let _ = scene.told();
    assert!(scene.to_server.is_empty(), "nothing before the proof");
    scene.prove(PASSWORD, ClientBinding::NotOverTls).expect("proven");
    let _awaiting = scene.challenge(&upstream, Offer::Plain);
    let wanted = Event::KeysWanted { salt: b"salt".to_vec(), iterations: 5000 };
    assert_eq!(scene.events.last(), Some(&wanted));
    scene.handshake.handle_keys(&Keys::derive(b"stale", b"salt", 5000));
    scene.server(&[&error("28P01")]);
    assert_eq!(scene.events.last(), Some(&Event::AccountRefused));
    assert!(scene.to_client.is_empty(), "the application does not hear of the first refusal");

    scene.from_server.clear();
    scene.to_server.clear();
    scene.handshake.restart(clear_server(), [6; 18]);
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(mapped());
    let awaiting = scene.challenge(&upstream, Offer::Plain);
    scene.handshake.handle_keys(&Keys::derive(b"theirs", b"salt", 5000));
    scene.pump().expect("in order");
    scene.conclude(awaiting);
    assert!(matches!(scene.how(), Some(How::Terminated { login: Login::Account, .. })));
}

#[test]
fn second_refusal_of_an_account_is_the_applications_to_hear() {
    let mut scene = Scene::new(|terms| terms.upgrade = Upgrade::Yes);
    for attempt in 0..2 {
        scene.server(&[&ask(Authentication::CleartextPassword)]);
        scene.credentials(mapped());
        if attempt == 0 {
            let _ = scene.told();
            scene.prove(PASSWORD, ClientBinding::NotOverTls).expect("proven");
        }
        assert_eq!(scene.events.last(), Some(&Event::PasswordWanted));
        scene.handshake.handle_password(Some(b"theirs")).expect("a password");
        scene.pump().expect("in order");
        assert_eq!(scene.asked(), response(b"theirs\0"));
        scene.server(&[&error("28P01")]);
        if attempt == 0 {
            scene.handshake.restart(clear_server(), [6; 18]);
        }
    }
    assert_eq!(scene.told(), error("28P01"));
    assert!(scene.handshake.is_over());
}

#[test]
fn md5_is_answered_for_an_account() {
    let mut scene = Scene::new(|terms| terms.upgrade = Upgrade::Yes);
    scene.server(&[&ask(Authentication::Md5Password { salt: *b"abcd" })]);
    scene.credentials(mapped());
    let _ = scene.told();
    scene.prove(PASSWORD, ClientBinding::NotOverTls).expect("proven");
    scene.handshake.handle_password(Some(b"secret")).expect("a password");
    scene.pump().expect("in order");
    // md5(md5("secret" || "app") || "abcd"), computed with md5sum.
    assert_eq!(scene.asked(), response(b"md5883f61cc18cc4ae54ca301892bb10c29\0"));
}

#[test]
fn mechanism_that_was_taken_out_of_the_offer_is_refused() {
    for demand in [sasl(&[scram::PLAIN, OAUTHBEARER]), sasl(&[OAUTHBEARER, b"X-UNKNOWN"])] {
        for mechanism in [OAUTHBEARER, scram::PLUS, b"X-UNKNOWN"] {
            let mut scene = Scene::new(|terms| terms.accepted.oauthbearer = demand[9] == b'O');
            scene.server(&[&demand]);
            if scene.events.last() == Some(&Event::CredentialsWanted) {
                scene.credentials(Credentials::Absent);
            }
            let chosen = scene.try_client(&initial(mechanism, b"n,,auth=Bearer x"));
            match demand[9] == b'O' && mechanism == OAUTHBEARER {
                true => assert_eq!(chosen, Ok(())),
                false => {
                    let no_such = HandshakeError::Application(ScramError::Mechanism);
                    assert_eq!(chosen, Err(no_such));
                    assert!(scene.to_server.is_empty());
                }
            }
        }
    }
}

#[test]
fn relayed_exchange_may_begin_without_data() {
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Absent);
    let mut first = Vec::new();
    SaslInitialResponse { mechanism: scram::PLAIN, data: None }.write(&mut first).expect("short");
    scene.client(&first);
    let _ = scene.told();
    scene.server(&[&ask(Authentication::SaslContinue(b""))]);
    assert_eq!(scene.told(), ask(Authentication::SaslContinue(b"")));
    scene.client(&response(b"n,,n=,r=abc"));
    scene.server(&[&ask(Authentication::SaslContinue(b"r=abcd,s=QQ==,i=4096"))]);
    scene.client(&response(b"c=biws,r=abcd,p=..."));
    scene.server(&[&error("28P01")]);
    let blamed = Event::ServerError { sqlstate: Some(*b"28P01"), blame: Blame::Application };
    assert_eq!(scene.events.last(), Some(&blamed));
}

#[test]
fn roles_without_a_secret_are_asked_where_others_would_be() {
    let mut scene = Scene::new(|terms| {
        terms.mode = Mode::Terminate;
        terms.upgrade = Upgrade::Yes;
    });
    scene.server(&[&ask(Authentication::CleartextPassword)]);
    scene.credentials(Credentials::Absent);
    let _ = scene.told();
    let failed = scene.prove(PASSWORD, ClientBinding::NotOverTls);
    assert_eq!(failed, Err(HandshakeError::Application(ScramError::NotAuthenticated)));
    assert!(scene.to_server.is_empty());
}

#[test]
fn weak_methods_are_refused_before_the_application_is_asked() {
    for demand in [
        ok(),
        ask(Authentication::CleartextPassword),
        ask(Authentication::Md5Password { salt: [0; 4] }),
        ask(Authentication::Gss),
        ask(Authentication::Sspi),
        sasl(&[OAUTHBEARER]),
        sasl(&[b"X-UNKNOWN"]),
    ] {
        let mut scene = Scene::new(|_| {});
        let refused = scene.try_server(&[&demand]).expect_err("not accepted");
        assert!(matches!(refused, HandshakeError::Refused(Refusal::Method(_))), "{refused:?}");
        assert_eq!((&scene.to_client[..], &scene.to_server[..]), (&b""[..], &b""[..]));
    }
}

#[test]
fn relayed_scram_loses_what_binds_and_passes_byte_for_byte() {
    let mut scene = Scene::new(|terms| terms.server_leg = tls_server());
    scene.server(&[&sasl(&[scram::PLUS, scram::PLAIN])]);
    scene.credentials(Credentials::Absent);
    assert_eq!(scene.told(), sasl(&[scram::PLAIN]));
    let first = initial(scram::PLAIN, b"n,,n=,r=abc");
    scene.client(&first);
    assert_eq!(scene.asked(), first);
    scene.server(&[&ask(Authentication::SaslContinue(b"r=abcd,s=QQ==,i=4096"))]);
    assert_eq!(scene.told(), ask(Authentication::SaslContinue(b"r=abcd,s=QQ==,i=4096")));
    scene.client(&response(b"c=biws,r=abcd,p=..."));
    assert_eq!(scene.asked(), response(b"c=biws,r=abcd,p=..."));
    scene.server(&[&ask(Authentication::SaslFinal(b"v=...")), &ok(), &ready()]);
    assert!(matches!(scene.how(), Some(How::Relayed { .. })));
}

#[test]
fn relayed_challenge_that_is_cheap_or_dear_is_refused() {
    for iterations in ["1", "4095", "2000001", "x"] {
        let mut scene = Scene::new(|_| {});
        scene.server(&[&sasl(&[scram::PLAIN])]);
        scene.credentials(Credentials::Absent);
        scene.client(&initial(scram::PLAIN, b"n,,n=,r=abc"));
        let _ = scene.told();
        let challenge = format!("r=abcd,s=QQ==,i={iterations}");
        let refused = scene.try_server(&[&ask(Authentication::SaslContinue(challenge.as_bytes()))]);
        assert!(matches!(refused, Err(HandshakeError::Server(_))), "{iterations}: {refused:?}");
        assert!(scene.to_client.is_empty());
    }
}

#[test]
fn relayed_over_two_channels_is_refused_with_the_setting_to_add() {
    let mut scene = Scene::new(|terms| {
        terms.client_leg = tls(1);
        terms.server_leg = tls_server();
    });
    scene.server(&[&sasl(&[scram::PLUS, scram::PLAIN])]);
    scene.credentials(Credentials::Absent);
    let refused = scene.try_client(&initial(scram::PLAIN, b"y,,n=,r=abc")).expect_err("impossible");
    assert_eq!(refused, Refusal::RelayedOverTwoChannels.into());
    let reply = refused.reply(USER).expect("said");
    assert_eq!(reply.sqlstate, *b"28000", "at which clients that may go on in clear text do");
    assert!(reply.hint.is_some_and(|hint| hint.contains("destination.auth.lookup")));
    assert!(scene.to_server.is_empty());
    // Who does not bind passes.
    let mut scene = Scene::new(|terms| {
        terms.client_leg = tls(1);
        terms.server_leg = tls_server();
    });
    scene.server(&[&sasl(&[scram::PLUS, scram::PLAIN])]);
    scene.credentials(Credentials::Absent);
    scene.client(&initial(scram::PLAIN, b"n,,n=,r=abc"));
}

#[test]
fn server_that_accepts_before_it_proved_itself_is_left() {
    // Relayed.
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Absent);
    scene.client(&initial(scram::PLAIN, b"n,,n=,r=abc"));
    let left = scene.try_server(&[&ok()]).expect_err("nothing was proven");
    assert_eq!(left, HandshakeError::Server(ScramError::NotAuthenticated));
    // Terminated.
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Shared(verifier()));
    let _awaiting = scene.challenge(&verifier(), Offer::Plain);
    let _ = scene.told();
    scene.prove(PASSWORD, ClientBinding::NotOverTls).expect("proven");
    let left = scene.try_server(&[&ok()]).expect_err("nothing was proven");
    assert_eq!(left, HandshakeError::Server(ScramError::NotAuthenticated));
    assert!(scene.to_client.is_empty(), "the application was told nothing");
    // With a signature that is not the role's.
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Shared(verifier()));
    let _awaiting = scene.challenge(&verifier(), Offer::Plain);
    let _ = scene.told();
    scene.prove(PASSWORD, ClientBinding::NotOverTls).expect("proven");
    let signature = b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let left = scene.try_server(&[&ask(Authentication::SaslFinal(signature))]);
    assert!(matches!(left, Err(HandshakeError::Server(_))), "{left:?}");
}

#[test]
fn method_cannot_change_under_way() {
    for second in [
        ask(Authentication::CleartextPassword),
        ask(Authentication::Md5Password { salt: [0; 4] }),
        sasl(&[scram::PLAIN]),
    ] {
        let mut scene = Scene::new(|_| {});
        scene.server(&[&sasl(&[scram::PLAIN])]);
        scene.credentials(Credentials::Absent);
        scene.client(&initial(scram::PLAIN, b"n,,n=,r=abc"));
        assert!(matches!(scene.try_server(&[&second]), Err(HandshakeError::Protocol(_))));
    }
}

#[test]
fn binding_that_is_required_is_had_or_nothing() {
    let refused = |change: fn(&mut Terms), mechanisms: &[&[u8]], credentials| {
        let mut scene = Scene::new(change);
        scene.server(&[&sasl(mechanisms)]);
        scene.handshake.handle_credentials(credentials)
    };
    let (both, plain) = ([scram::PLUS, scram::PLAIN], [scram::PLAIN]);
    let client = |terms: &mut Terms| terms.client_binding = Binding::Require;
    let server = |terms: &mut Terms| {
        terms.server_binding = Binding::Require;
        terms.server_leg = tls_server();
    };
    let shared = || Credentials::Shared(verifier());
    assert_eq!(
        refused(client, &plain, Credentials::Absent),
        Err(Refusal::RelayedWithoutBinding.into())
    );
    assert_eq!(
        refused(server, &both, Credentials::Absent),
        Err(Refusal::RelayedWithoutBinding.into())
    );
    assert_eq!(refused(client, &plain, mapped()), Err(Refusal::ApplicationInClear.into()));
    assert_eq!(refused(server, &plain, shared()), Err(Refusal::ServerWithoutBinding.into()));
    assert_eq!(refused(server, &both, shared()), Ok(()));
    // What is no SCRAM binds nothing.
    let mut scene = Scene::new(|terms| {
        terms.client_binding = Binding::Require;
        terms.accepted = Accepted::ANY;
    });
    let weak = scene.try_server(&[&ask(Authentication::CleartextPassword)]);
    assert_eq!(weak, Err(Refusal::RelayedWithoutBinding.into()));
}

#[test]
fn server_that_offers_to_bind_a_channel_in_the_clear_is_left() {
    let mut scene = Scene::new(|_| {});
    let left = scene.try_server(&[&sasl(&[scram::PLUS, scram::PLAIN])]).expect_err("a lie");
    assert_eq!(left, HandshakeError::Server(ScramError::Mechanism));
    assert!(scene.to_client.is_empty());
}

#[test]
fn version_and_options_are_negotiated_with_each_side_alone() {
    let parameters: Parameters =
        [("user", "app"), ("_pq_.test_protocol_negotiation", "")].into_iter().collect();
    for (asked, server, told) in [
        (9999, None, Some((3, 2))),
        (9999, Some(0x0003_0000), Some((3, 0))),
        (2, None, Some((3, 2))),
        (0, None, Some((3, 0))),
    ] {
        let mut scene = Scene::new(|terms| {
            terms.hello = Hello::new(asked, &parameters, USER, None);
            terms.accepted = Accepted::ANY;
        });
        let mut hello = Vec::new();
        scene.handshake.terms.hello.write(&mut hello).expect("short");
        assert_eq!(hello[4..8], [0, 3, 0, asked.min(2) as u8]);
        assert!(!hello.windows(4).any(|w| w == b"_pq_"), "options are not passed on");
        if let Some(newest) = server {
            let options = Vec::new();
            scene.server(&[&back(&Backend::NegotiateProtocolVersion { newest, options })]);
            assert!(scene.to_client.is_empty());
        }
        scene.server(&[&ok(), &ready()]);
        let expected = told.map(|(major, minor): (u32, u32)| {
            let options = vec![&b"_pq_.test_protocol_negotiation"[..]];
            back(&Backend::NegotiateProtocolVersion { newest: major << 16 | minor, options })
        });
        assert_eq!(scene.to_client, [expected.unwrap_or_default(), ok(), ready()].concat());
    }
    let mut scene = Scene::new(|terms| terms.accepted = Accepted::ANY);
    scene.server(&[&ok(), &ready()]);
    assert_eq!(scene.to_client, [ok(), ready()].concat(), "nothing to negotiate");
}

#[test]
fn application_name_is_stamped_and_its_own_again_for_the_application() {
    let parameters: Parameters =
        [("user", "app"), ("application_name", "report")].into_iter().collect();
    let stamp = Stamp::new(b"report", "python3/42@web");
    let mut scene = Scene::new(|terms| {
        terms.hello = Hello::new(0, &parameters, USER, Some(stamp));
        terms.accepted = Accepted::ANY;
    });
    let mut hello = Vec::new();
    scene.handshake.terms.hello.write(&mut hello).expect("short");
    let text = String::from_utf8_lossy(&hello).into_owned();
    assert!(text.contains("report [python3/42@web]"), "{text}");
    let status =
        |value: &[u8]| back(&Backend::ParameterStatus { name: b"application_name", value });
    scene.server(&[&ok(), &status(b"report [python3/42@web]"), &ready()]);
    assert_eq!(scene.to_client, [ok(), status(b"report"), ready()].concat());
    for (name, origin) in [("x".repeat(200), "y/1".to_owned()), ("é".to_owned(), "z".repeat(99))] {
        let stamp = Stamp::new(name.as_bytes(), &origin);
        let hello = Hello::new(0, &parameters, USER, Some(stamp));
        let mut out = Vec::new();
        hello.write(&mut out).expect("short");
        let at = out.windows(17).position(|w| w == b"application_name\0").expect("there") + 17;
        let value = out[at..].split(|b| *b == 0).next().expect("a value");
        assert_eq!(value.len(), hello::APPLICATION_NAME_BYTES_MAX);
        // The name is cut, and the origin only where it alone is too long.
        let end = format!("[{}]", &origin[..origin.len().min(61)]);
        assert!(value.ends_with(end.as_bytes()), "{}", String::from_utf8_lossy(value));
        assert!(value.iter().all(|b| (b' '..=b'~').contains(b)));
    }
}

#[test]
fn error_of_the_server_passes_at_any_time() {
    let mut scene = Scene::new(|_| {});
    scene.server(&[&error("3D000")]);
    assert_eq!(scene.to_client, error("3D000"));
    assert!(scene.handshake.is_over());

    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Shared(verifier()));
    let _awaiting = scene.challenge(&verifier(), Offer::Plain);
    let _ = scene.told();
    scene.server(&[&error("57014")]);
    assert_eq!(scene.told(), error("57014"));
}

#[test]
fn error_of_protocol_2_passes_unread() {
    let mut scene = Scene::new(|_| {});
    let refusal = b"Ecould not fork new process for connection: no memory\n\0";
    scene.server(&[refusal]);
    assert_eq!(scene.to_client, refusal);
    assert!(scene.handshake.is_over());
}

#[test]
fn request_instead_of_an_answer_is_refused_in_the_servers_words() {
    let mut scene = Scene::new(|terms| terms.accepted = Accepted::ANY);
    scene.server(&[&ask(Authentication::CleartextPassword)]);
    let refused = scene.try_client(b"Q\0\0\0\x0dselect 1\0").expect_err("not an answer");
    assert!(matches!(refused, HandshakeError::Protocol(Error::Sequence { .. })), "{refused:?}");
    assert!(scene.to_server.is_empty());
}

#[test]
fn answer_sent_ahead_waits_until_it_is_asked_for() {
    let mut scene = Scene::new(|terms| terms.accepted = Accepted::ANY);
    scene.client(&response(b"hunter2\0"));
    assert!(scene.to_server.is_empty());
    scene.server(&[&ask(Authentication::CleartextPassword)]);
    assert_eq!(scene.to_server, response(b"hunter2\0"));
    assert!(!format!("{:?}", scene.events).contains("hunter2"));
}

#[test]
fn session_setup_out_of_order_ends_the_handshake() {
    let key = back(&Backend::BackendKeyData { pid: 1, key: &[0; 4] });
    for message in [ready(), key, b"T\0\0\0\x06\0\0".to_vec()] {
        let mut scene = Scene::new(|_| {});
        assert!(scene.try_server(&[&message]).is_err());
    }
    let mut scene = Scene::new(|terms| terms.accepted = Accepted::ANY);
    scene.server(&[&ok()]);
    assert!(scene.try_server(&[&ok()]).is_err());
}

fn any_client_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"Q\0\0\0\x0dselect 1\0".to_vec()),
        Just(b"X\0\0\0\x04".to_vec()),
        Just(response(b"secret\0")),
        Just(initial(scram::PLAIN, b"n,,n=,r=abc")),
        Just(initial(scram::PLAIN, b"y,,n=,r=abc")),
        Just(initial(scram::PLUS, b"p=tls-server-end-point,,n=,r=abc")),
        Just(response(b"c=biws,r=abc,p=AAAA")),
        prop::collection::vec(any::<u8>(), 0..30),
    ]
}

fn any_server_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(ok()),
        Just(ready()),
        Just(sasl(&[scram::PLUS, scram::PLAIN])),
        Just(ask(Authentication::SaslContinue(b"r=abc,s=QQ==,i=4096"))),
        Just(ask(Authentication::SaslFinal(b"v=AAAA"))),
        Just(ask(Authentication::CleartextPassword)),
        Just(ask(Authentication::Md5Password { salt: [1; 4] })),
        Just(error("28P01")),
    ]
}

proptest! {
    /// Whatever the two say: where the application has to prove itself to us, nothing of what it sends reaches the server
    /// before it did; and there is no `Authenticated` without the server's word.
    #[test]
    fn nothing_of_an_application_reaches_the_server_before_it_is_proven(
        steps in prop::collection::vec(
            prop_oneof![
                any_client_message().prop_map(|m| (true, m)),
                any_server_message().prop_map(|m| (false, m)),
            ],
            0..24,
        ),
        account in any::<bool>(),
        upgrade in any::<bool>(),
    ) {
        let mut scene = Scene::new(|terms| {
            terms.mode = Mode::Terminate;
            terms.upgrade = if upgrade { Upgrade::Yes } else { Upgrade::No };
        });
        // The beginning of our own exchange is all that may go.
        let (_, mechanism, first) = scram::Client::new(ClientBinding::NotOverTls, nonce(2));
        let own = initial(mechanism, &first);
        for (from_client, message) in steps {
            let went = match from_client {
                true => scene.try_client(&message),
                false => scene.try_server(&[&message]),
            };
            let wanted = [Event::CredentialsWanted, Event::VerifierStale];
            let asked = scene.events.last().is_some_and(|event| wanted.contains(event));
            let given = match (went, asked) {
                (Ok(()), true) if account => scene.handshake.handle_credentials(mapped()),
                (Ok(()), true) => {
                    scene.handshake.handle_credentials(Credentials::Shared(verifier()))
                }
                (went, _) => went,
            };
            scene.take();
            prop_assert!(scene.to_server.is_empty() || scene.to_server == own);
            if given.is_err() {
                break;
            }
        }
        prop_assert_eq!(scene.how(), None);
        prop_assert_eq!(scene.handshake.finish(), None);
    }
}
