use super::*;
use crate::pg::error::{BytesFault, SequenceFault, Side};
use crate::pg::list::Text;

fn ask(request: Authentication<'_>) -> Vec<u8> {
    back(Backend::Authentication(request))
}

fn secret() -> Vec<u8> {
    front(Frontend::Authentication(b"hunter2"))
}

#[test]
fn scram_passes_and_no_event_holds_what_the_client_answered() {
    let mechanisms: Terminated<'_, Text> =
        Terminated::new([&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"]).expect("no zeros");
    let mut driver = Driver::with(Gate::Hold, Limits::default());
    driver
        .server(&[&ask(Authentication::Sasl(mechanisms))])
        .client(&[&secret()])
        .server(&[&ask(Authentication::SaslContinue(b"r=..."))])
        .client(&[&secret()])
        .server(&[
            &ask(Authentication::SaslFinal(b"v=...")),
            &auth_ok(),
            &setting("server_version", "18.0"),
            &back(Backend::BackendKeyData { pid: 7, key: &[1; 32] }),
            &z('I'),
        ]);
    assert_eq!(driver.to_server, [secret(), secret()].concat());
    let mechanisms = vec![b"SCRAM-SHA-256-PLUS"[..].into(), b"SCRAM-SHA-256"[..].into()];
    assert_eq!(
        driver.events,
        [
            Event::Authentication(AuthenticationAsked::Sasl(mechanisms)),
            Event::Authentication(AuthenticationAsked::Continue),
            Event::Authentication(AuthenticationAsked::Continue),
            Event::Authentication(AuthenticationAsked::Ok),
            Event::ParameterStatus {
                name: b"server_version"[..].into(),
                value: b"18.0"[..].into()
            },
            Event::BackendKeyData { pid: 7, key: CancelKey([1; 32].into()) },
            Event::SessionReady,
        ]
    );
    assert!(!format!("{:?}", driver.events).contains("hunter2"));
    assert_eq!(driver.session.state(), State::Idle);
}

#[test]
fn version_is_negotiated_before_authentication() {
    let mut driver = Driver::with(Gate::Hold, Limits::default());
    let options = vec![&b"_pq_.test_protocol_negotiation"[..]];
    driver.server(&[
        &back(Backend::NegotiateProtocolVersion { newest: 2, options }),
        &auth_ok(),
        &z('I'),
    ]);
    assert_eq!(driver.events[0], Event::NegotiateProtocolVersion { newest: 2 });
}

#[test]
fn request_sent_ahead_waits_until_it_may_follow() {
    let mut driver = Driver::with(Gate::Hold, Limits::default());
    driver.client(&[&query("select 1")]);
    assert_eq!(driver.held(), query("select 1").len());
    driver.server(&[&auth_ok()]);
    assert_eq!((driver.held(), driver.to_server.clone()), (0, query("select 1")));
    driver.server(&[&z('I'), &complete("SELECT 0"), &z('I')]);
    assert_eq!(driver.one_done().outcome, Outcome::Completed);
}

#[test]
fn request_instead_of_an_answer_is_refused_in_the_servers_words() {
    let mut driver = Driver::with(Gate::Hold, Limits::default());
    driver.server(&[&ask(Authentication::CleartextPassword)]);
    let error = driver.try_feed(&Step::Client(query("select 1"))).expect_err("not an answer");
    let fault = SequenceFault::NotAuthenticationResponse { tag: b'Q' };
    assert_eq!(error, Error::Sequence { side: Side::Client, fault });
    assert!(driver.to_server.is_empty());
}

#[test]
fn answer_sent_ahead_counts_for_the_request_that_follows() {
    let mut driver = Driver::with(Gate::Hold, Limits::default());
    driver.client(&[&secret()]);
    driver.server(&[&ask(Authentication::Md5Password { salt: [1, 2, 3, 4] })]);
    driver.client(&[&query("select 1")]);
    driver.server(&[&auth_ok(), &z('I')]);
    assert_eq!(driver.to_server, [secret(), query("select 1")].concat());
}

#[test]
fn answer_behind_authentication_is_an_invalid_message_type() {
    let mut driver = Driver::ready();
    let error = driver.try_feed(&Step::Client(secret())).expect_err("nothing was asked");
    assert_eq!(error, Error::client(BytesFault::UnknownTag { tag: b'p' }));
}

#[test]
fn fatal_error_before_authentication_is_reported_and_passed() {
    let mut driver = Driver::with(Gate::Hold, Limits::default());
    let refusal = error("FATAL", "28P01");
    driver.server(&[&refusal]);
    assert_eq!(driver.to_client, refusal);
    assert_eq!(driver.events, [Event::ServerError { fatal: true, sqlstate: Some(*b"28P01") }]);
    assert_eq!(driver.session.state(), State::Closing);
}

#[test]
fn error_of_protocol_2_before_authentication_passes_unread() {
    let mut driver = Driver::with(Gate::Hold, Limits::default());
    let refusal = b"Ecould not fork new process for connection: no memory\n\0";
    driver.server(&[refusal]);
    assert_eq!(driver.to_client, refusal);
    assert_eq!(driver.events, [Event::ServerError { fatal: true, sqlstate: None }]);
}

#[test]
fn session_setup_out_of_order_ends_the_session() {
    for message in [z('I'), back(Backend::BackendKeyData { pid: 1, key: &[0; 4] }), columns()] {
        let mut driver = Driver::with(Gate::Hold, Limits::default());
        assert!(driver.try_feed(&Step::Server(message)).is_err());
    }
    let mut driver = Driver::ready();
    assert!(driver.try_feed(&Step::Server(auth_ok())).is_err());
}
