//! What a database, or who pretends to be one, may try.

use super::*;
use crate::pg::error::Side;

const SALT_TEXT: &str = "MDEyMzQ1Njc4OWFiY2RlZg==";

fn ours() -> String {
    String::from_utf8(nonce(1).as_bytes().to_vec()).expect("ASCII")
}

fn first(message: impl AsRef<[u8]>) -> Result<Challenge, ScramError> {
    let (client, _, _) = Client::new(ClientBinding::NotOverTls, nonce(1));
    client.handle_first(message.as_ref())
}

#[track_caller]
fn refused(message: impl AsRef<[u8]>) -> ScramError {
    first(message).expect_err("expected to be refused")
}

fn malformed(fault: Fault) -> ScramError {
    ScramError::Malformed { side: Side::Server, fault }
}

/// The answer to a last message made of a good one.
fn last(change: impl Fn(&str) -> String) -> ScramError {
    let changed = |at: usize, message: &mut Vec<u8>| {
        if at == 3 {
            *message = change(std::str::from_utf8(message).expect("ASCII")).into_bytes();
        }
    };
    let binding = ClientBinding::NotOverTls;
    exchange(&verifier(), &Offer::Plain, binding, &keys(), changed).expect_err("refused")
}

#[test]
fn iterations_have_a_floor_and_a_ceiling() {
    let ours = ours();
    let with = |count: &str| format!("r={ours}x,s={SALT_TEXT},i={count}");
    for count in [1, 4095, 2_000_001, 1 << 31, u32::MAX] {
        let error = refused(with(&count.to_string()));
        assert_eq!(error, ScramError::Iterations { found: count });
    }
    for count in [
        "0",
        "",
        "-4096",
        "+4096",
        " 4096",
        "04096",
        "4096 ",
        "4294967296",
        "9".repeat(99).as_str(),
    ] {
        assert_eq!(refused(with(count)), malformed(Fault::Iterations), "{count:?}");
    }
    for count in [4096, 65536, 2_000_000] {
        assert_eq!(first(with(&count.to_string())).expect("allowed").iterations(), count);
    }
}

#[test]
fn nonce_must_extend_ours() {
    let ours = ours();
    let nonce = ScramError::Nonce { side: Side::Server };
    for theirs in [&ours, "x", &format!("x{ours}"), &ours[1..], &ours.to_lowercase()] {
        assert_eq!(refused(format!("r={theirs},s={SALT_TEXT},i=4096")), nonce, "{theirs}");
    }
    for theirs in [String::new(), format!("{ours}\x7f"), format!("{ours}ä"), format!("{ours} ")] {
        let error = refused(format!("r={theirs},s={SALT_TEXT},i=4096"));
        assert_eq!(error, malformed(Fault::Nonce));
    }
}

#[test]
fn salt_must_be_there_and_base64() {
    let ours = ours();
    for salt in ["", "=", "A", "AA", "AAA", "AAA =", "AB==", "A===", "AA=A", "-_==", "AAAA\n"] {
        let error = refused(format!("r={ours}x,s={salt},i=4096"));
        assert_eq!(error, malformed(Fault::Salt), "{salt:?}");
    }
    assert_eq!(first(format!("r={ours}x,s=AA==,i=4096")).expect("allowed").salt(), [0]);
}

#[test]
fn lengths_are_bounded() {
    let ours = ours();
    let nonce = format!("r={ours}{},s={SALT_TEXT},i=4096", "x".repeat(NONCE_BYTES_MAX));
    let found = ours.len() + NONCE_BYTES_MAX;
    let (side, max) = (Side::Server, NONCE_BYTES_MAX);
    assert_eq!(refused(nonce), ScramError::Limit { side, what: "nonce", found, max });

    let salt = format!("r={ours}x,s={},i=4096", "AAAA".repeat(86));
    let max = SALT_BYTES_MAX;
    assert_eq!(refused(salt), ScramError::Limit { side, what: "salt", found: 258, max });

    let message = "x".repeat(1 << 20);
    let (found, max) = (1 << 20, MESSAGE_BYTES_MAX);
    assert_eq!(refused(message), ScramError::Limit { side, what: "SCRAM message", found, max });
}

#[test]
fn malformed_challenges_are_refused() {
    let ours = ours();
    let attribute = |expected, found| malformed(Fault::Attribute { expected, found });
    assert_eq!(refused(""), malformed(Fault::Empty));
    assert_eq!(refused(","), attribute(b'r', Some(b',')));
    assert_eq!(refused(format!("s={SALT_TEXT},r={ours}x,i=4096")), attribute(b'r', Some(b's')));
    assert_eq!(refused(format!("r={ours}x,i=4096,s={SALT_TEXT}")), attribute(b's', Some(b'i')));
    assert_eq!(refused(format!("r={ours}x,")), attribute(b's', None));
    assert_eq!(refused(format!("r={ours}x\0,s={SALT_TEXT},i=4096")), malformed(Fault::Zero));
    assert_eq!(refused("e=other-error"), attribute(b'r', Some(b'e')));
    let good = format!("r={ours}x,s={SALT_TEXT},i=4096");
    assert_eq!(refused(format!("m=x,{good}")), ScramError::Extension { side: Side::Server });
    assert_eq!(refused(format!("{good},m=x")), ScramError::Extension { side: Side::Server });
    assert_eq!(refused(format!("{good},")), malformed(Fault::Letter { found: None }));
    let twice = malformed(Fault::Misplaced { attribute: b'i' });
    assert_eq!(refused(format!("{good},i=8192")), twice);
    first(format!("{good},x=optional")).expect("optional extensions are ignored");
    for end in 0..good.len() {
        // Its last digits may go: what is left is below the floor.
        refused(&good[..end]);
    }
}

#[test]
fn server_must_prove_itself() {
    // It knows the stored key, which lets the proof be checked, but not the server's own.
    let theirs = Arc::new(verifier().with_server_key_of(b"another"));
    let binding = ClientBinding::NotOverTls;
    let error = exchange(&theirs, &Offer::Plain, binding, &keys(), |_, _| {}).err();
    assert_eq!(error, Some(ScramError::ServerSignature));

    let zero = "A".repeat(43);
    assert_eq!(last(|_| format!("v={zero}=")), ScramError::ServerSignature);
    let signature = malformed(Fault::Signature);
    assert_eq!(last(|_| "v=".to_owned()), signature);
    assert_eq!(last(|_| format!("v={zero}")), signature);
    assert_eq!(last(|message| format!("{message}=")), signature);
    assert_eq!(last(|_| String::new()), malformed(Fault::Empty));
    let attribute = Fault::Attribute { expected: b'v', found: Some(b'x') };
    assert_eq!(last(|message| format!("x=y,{message}")), malformed(attribute));
    let twice = malformed(Fault::Misplaced { attribute: b'v' });
    assert_eq!(last(|message| format!("v={zero}=,{message}")), twice);
    let good = script(&Offer::Plain, ClientBinding::NotOverTls).server_final;
    for end in 0..good.len() {
        last(|message| message[..end].to_owned());
    }
}

#[test]
fn errors_of_the_server_are_named() {
    for (text, error) in [
        ("invalid-proof", ServerError::InvalidProof),
        ("unknown-user", ServerError::UnknownUser),
        ("channel-bindings-dont-match", ServerError::ChannelBindingsDontMatch),
        ("other-error", ServerError::Other),
        ("", ServerError::Other),
        ("\u{1b}[2Jhello", ServerError::Other),
    ] {
        assert_eq!(last(|_| format!("e={text}")), ScramError::Refused(error));
    }
    let twice = malformed(Fault::Misplaced { attribute: b'v' });
    assert_eq!(last(|message| format!("e=x,{message}")), twice);
}
