//! What the application hears.

use super::*;
use crate::pg::error::{Severity, Side};

#[track_caller]
fn check(error: &ScramError, sqlstate: &[u8; 5], text: &str, detail: Option<&str>) {
    let reply = error.reply(b"alice");
    assert_eq!(reply.severity, Severity::Fatal);
    assert_eq!(
        (reply.sqlstate, reply.text.as_ref(), reply.detail.as_deref()),
        (*sqlstate, text, detail)
    );
}

#[test]
fn client_hears_the_servers_own_words() {
    let malformed = |fault, detail| {
        let error = ScramError::Malformed { side: Side::Client, fault };
        check(&error, b"08P01", "malformed SCRAM message", Some(detail));
    };
    malformed(Fault::Empty, "The message is empty.");
    malformed(Fault::Zero, "Message length does not match input length.");
    malformed(Fault::Comma { found: Some(b'x') }, "Comma expected, but found character \"'x'\".");
    malformed(Fault::Flag { found: Some(7) }, "Unexpected channel-binding flag \"0x07\".");
    malformed(
        Fault::Header { found: None },
        "Unexpected attribute \"0x00\" in client-first-message.",
    );
    malformed(
        Fault::Attribute { expected: b'r', found: Some(b'n') },
        "Expected attribute \"r\" but found \"'n'\".",
    );
    malformed(Fault::Equals { attribute: b'r' }, "Expected character \"=\" for attribute \"r\".");
    malformed(Fault::Letter { found: None }, "Attribute expected, but found end of string.");
    malformed(Fault::Proof, "Malformed proof in client-final-message.");
    malformed(Fault::Trailing, "Garbage found at the end of client-final-message.");

    let nonce = ScramError::Malformed { side: Side::Client, fault: Fault::Nonce };
    check(&nonce, b"08P01", "non-printable characters in SCRAM nonce", None);
    check(
        &ScramError::Nonce { side: Side::Client },
        b"08P01",
        "invalid SCRAM response",
        Some("Nonce does not match."),
    );
    let mechanism = "client selected an invalid SASL authentication mechanism";
    check(&ScramError::Mechanism, b"08P01", mechanism, None);
    check(
        &ScramError::AuthorizationIdentity,
        b"0A000",
        "client uses authorization identity, but it is not supported",
        None,
    );
    check(
        &ScramError::Extension { side: Side::Client },
        b"0A000",
        "client requires an unsupported SCRAM extension",
        None,
    );
    check(
        &ScramError::Binding(BindingFault::Mismatch),
        b"28000",
        "SCRAM channel binding check failed",
        None,
    );
    check(
        &ScramError::Binding(BindingFault::Downgrade),
        b"28000",
        "SCRAM channel binding negotiation error",
        Some(
            "The client supports SCRAM channel binding but thinks the server does not.  However, \
             this server does support channel binding.",
        ),
    );
    check(
        &ScramError::Binding(BindingFault::Type { name: "tls-unique".to_owned() }),
        b"08P01",
        "unsupported SCRAM channel-binding type \"tls-unique\"",
        None,
    );
    check(
        &ScramError::Binding(BindingFault::Changed),
        b"08P01",
        "unexpected SCRAM channel-binding attribute in client-final-message",
        None,
    );
}

#[test]
fn failed_login_reads_as_the_servers() {
    let text = "password authentication failed for user \"alice\"";
    check(&ScramError::NotAuthenticated, b"28P01", text, None);
    check(&ScramError::Refused(ServerError::InvalidProof), b"28P01", text, None);
    check(&ScramError::Refused(ServerError::UnknownUser), b"28P01", text, None);
}

#[test]
fn fault_of_the_database_is_not_put_on_the_client() {
    for error in [
        ScramError::Malformed { side: Side::Server, fault: Fault::Salt },
        ScramError::Nonce { side: Side::Server },
        ScramError::Extension { side: Side::Server },
        ScramError::Limit { side: Side::Server, what: "nonce", found: 2, max: 1 },
    ] {
        check(&error, b"08006", "server sent an invalid SCRAM message", None);
    }
    check(
        &ScramError::ServerSignature,
        b"08001",
        "incorrect server signature",
        Some("The server did not prove that it knows the password of the user."),
    );
    check(
        &ScramError::Iterations { found: 1 },
        b"08001",
        "SCRAM iteration count of the server is not acceptable",
        Some("The server asks for 1 iterations, expected 4096 to 2000000."),
    );
    check(
        &ScramError::Refused(ServerError::NoResources),
        b"28000",
        "server refused the SCRAM exchange",
        Some("no-resources"),
    );
}

#[test]
fn text_of_a_client_is_shown_only_in_part() {
    let name = format!("p=\u{1b}[2J{},,n=,r=x", "x".repeat(100));
    let error = challenged(verifier(), Offer::Plus(end_point(1)), PLUS, name.as_bytes());
    let shown = format!("?[2J{}", "x".repeat(26));
    let fault = BindingFault::Type { name: shown };
    assert_eq!(error.err(), Some(ScramError::Binding(fault)));
}

#[test]
fn debug_shows_no_secret() {
    let verifier = verifier();
    let (client, _, first) = Client::new(ClientBinding::NotOverTls, nonce(1));
    let (server, server_first) =
        challenged(Arc::clone(&verifier), Offer::Plain, PLAIN, &first).expect("good");
    let waiting = format!("{server:?}");
    let (client, answer) = client.handle_first(&server_first).expect("good").answer(&keys());
    let proven = server.handle_final(answer.expose_secret()).expect("proven");
    let signature = proven.server_final().escape_ascii().to_string();
    assert_eq!(waiting, "AwaitingFinal { channel: Unbound, .. }");
    assert_eq!(format!("{:?}", proven.client_key()), "ClientKey { .. }");
    assert_eq!(format!("{proven:?}"), "Proven { channel: Unbound, .. }");
    assert!(!format!("{proven:?}").contains(&signature));
    assert_eq!(format!("{verifier:?}"), "Verifier { .. }");
    assert_eq!(format!("{:?}", Verifier::mock(&[0; 32], b"x")), "Verifier { .. }");
    assert_eq!(format!("{:?}", keys()), "Keys { .. }");
    assert_eq!(format!("{client:?}"), "AwaitingServer { .. }");
    assert!(!format!("{answer:?}").contains("99"), "{answer:?}");
}
