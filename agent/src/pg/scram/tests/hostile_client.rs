//! What an application may try to be let in, or to take the agent down.

use super::*;
use crate::pg::error::Side;

const FIRST: &[u8] = b"n,,n=,r=clientnonce";

fn refused(first: &[u8]) -> ScramError {
    refused_of(Offer::Plain, PLAIN, first)
}

fn refused_of(offer: Offer, mechanism: &[u8], first: &[u8]) -> ScramError {
    match challenged(verifier(), offer, mechanism, first) {
        Ok(_) => panic!("expected to be refused: {}", first.escape_ascii()),
        Err(error) => error,
    }
}

fn malformed(fault: Fault) -> ScramError {
    ScramError::Malformed { side: Side::Client, fault }
}

/// The answer to a last message made of a good one.
fn last(change: impl Fn(&str) -> String) -> ScramError {
    let changed = |at: usize, message: &mut Vec<u8>| {
        if at == 2 {
            *message = change(std::str::from_utf8(message).expect("ASCII")).into_bytes();
        }
    };
    let binding = ClientBinding::NotOverTls;
    match exchange(&verifier(), &Offer::Plain, binding, &keys(), changed) {
        Ok(_) => panic!("expected to be refused"),
        Err(error) => error,
    }
}

#[test]
fn wrong_password_and_unknown_user_fail_alike() {
    let wrong = Keys::derive(b"Secret", SALT, ITERATIONS_MIN);
    let mock = Arc::new(Verifier::mock(&[7; 32], b"nobody"));
    for (verifier, keys) in [(verifier(), &wrong), (mock, &keys())] {
        let result = exchange(
            &verifier,
            &Offer::Plus(end_point(1)),
            ClientBinding::EndPoint(end_point(1)),
            keys,
            |_, _| {},
        );
        assert_eq!(result.err(), Some(ScramError::NotAuthenticated));
    }
}

#[test]
fn unknown_user_fails_even_with_the_keys_of_the_mock() {
    let mock = Verifier::mock(&[7; 32], b"nobody");
    // Nobody can have a client key of the mock; a verifier with one is as near as it gets.
    let mut known = Verifier::from_password(b"x", SALT, ITERATIONS_MIN).expect("within limits");
    let keys = Keys::derive(b"x", SALT, ITERATIONS_MIN);
    assert!(bool::from(known.accepts(&keys.client)));
    known.make_unknown();
    assert!(!bool::from(known.accepts(&keys.client)));
    assert!(!bool::from(mock.accepts(&mock.stored_key)));
}

#[test]
fn salt_of_an_unknown_user_is_stable_and_looks_like_any() {
    let salt = |seed: u8, user: &[u8]| Verifier::mock(&[seed; 32], user).salt().to_vec();
    assert_eq!(salt(1, b"a"), salt(1, b"a"));
    assert_ne!(salt(1, b"a"), salt(1, b"b"));
    assert_ne!(salt(1, b"a"), salt(2, b"a"));
    assert_eq!(salt(1, b"a").len(), 16);
    assert_eq!(Verifier::mock(&[1; 32], b"a").iterations(), 4096);
}

#[test]
fn refuses_a_replayed_proof() {
    let said = script(&Offer::Plain, ClientBinding::NotOverTls);
    // The same client's messages to a server with another nonce.
    let server = Server::new(verifier(), Offer::Plain, nonce(3));
    let Ok(Initial::Challenged(awaiting, _)) =
        server.handle_initial(PLAIN, Some(&said.client_first))
    else {
        panic!("the first message is good");
    };
    let error = awaiting.handle_final(&said.client_final).expect_err("replayed");
    assert_eq!(error, ScramError::Nonce { side: Side::Client });

    // With the new nonce put into it the proof is one of other messages.
    let server = Server::new(verifier(), Offer::Plain, nonce(3));
    let Ok(Initial::Challenged(awaiting, first)) =
        server.handle_initial(PLAIN, Some(&said.client_first))
    else {
        panic!("the first message is good");
    };
    let old = String::from_utf8(said.client_final).expect("ASCII");
    let new = String::from_utf8(first).expect("ASCII");
    let proof = old.split(",p=").nth(1).expect("a proof");
    let nonce = new.split(',').next().expect("a nonce");
    let error = awaiting.handle_final(format!("c=biws,{nonce},p={proof}").as_bytes());
    assert_eq!(error.err(), Some(ScramError::NotAuthenticated));
}

#[test]
fn refuses_a_wrong_nonce() {
    let nonce = ScramError::Nonce { side: Side::Client };
    assert_eq!(last(|message| message.replacen(",r=", ",r=x", 1)), nonce);
    assert_eq!(last(|message| message.replacen(",p=", "x,p=", 1)), nonce);
    assert_eq!(last(|message| format!("c=biws,r=x,p={}", &message[message.len() - 44..])), nonce);
    let empty = |message: &str| format!("c=biws,r=,p={}", &message[message.len() - 44..]);
    assert_eq!(last(empty), malformed(Fault::Nonce));
}

#[test]
fn refuses_a_stripped_plus() {
    // Somebody removed PLUS from the list; the client says that it saw none.
    let error = exchange(
        &verifier(),
        &Offer::Plus(end_point(1)),
        ClientBinding::NotOffered,
        &keys(),
        |_, _| {},
    );
    assert_eq!(error.err(), Some(ScramError::Binding(BindingFault::Downgrade)));
    // They change the flag, too, so that the server does not notice.
    let error = exchange(
        &verifier(),
        &Offer::Plus(end_point(1)),
        ClientBinding::NotOffered,
        &keys(),
        |at, message| {
            if at == 0 {
                message[0] = b'n';
            }
        },
    );
    assert_eq!(error.err(), Some(ScramError::Binding(BindingFault::Changed)));
    // A client that does not know channel binding is let in, and one that was offered none.
    script(&Offer::Plus(end_point(1)), ClientBinding::Disabled);
    script(&Offer::Plain, ClientBinding::NotOffered);
}

#[test]
fn refuses_a_mechanism_that_was_not_offered() {
    let bound = b"p=tls-server-end-point,,n=,r=x";
    for (offer, mechanism, first) in [
        (Offer::Plain, PLUS, &bound[..]),
        (Offer::PlusRequired(end_point(1)), PLAIN, FIRST),
        (Offer::Plus(end_point(1)), b"SCRAM-SHA-1", FIRST),
        (Offer::Plus(end_point(1)), b"scram-sha-256", FIRST),
        (Offer::Plus(end_point(1)), b"", FIRST),
    ] {
        assert_eq!(refused_of(offer, mechanism, first), ScramError::Mechanism);
    }
}

#[test]
fn flag_must_fit_the_mechanism() {
    let plus = || Offer::Plus(end_point(1));
    for (offer, mechanism, first, fault) in [
        (plus(), PLUS, FIRST, BindingFault::Missing),
        (plus(), PLUS, b"y,,n=,r=x", BindingFault::Missing),
        (Offer::PlusRequired(end_point(1)), PLUS, FIRST, BindingFault::Missing),
        (plus(), PLAIN, b"y,,n=,r=x", BindingFault::Downgrade),
        (plus(), PLAIN, b"p=tls-server-end-point,,n=,r=x", BindingFault::Unexpected),
        (Offer::Plain, PLAIN, b"p=tls-server-end-point,,n=,r=x", BindingFault::Unexpected),
    ] {
        assert_eq!(refused_of(offer, mechanism, first), ScramError::Binding(fault));
    }
    for name in ["tls-unique", "tls-exporter", "", "TLS-SERVER-END-POINT", "tls-server-end-point "]
    {
        let error = refused_of(plus(), PLUS, format!("p={name},,n=,r=x").as_bytes());
        let name = name.replace(' ', "?");
        assert_eq!(error, ScramError::Binding(BindingFault::Type { name }));
    }
}

#[test]
fn binding_to_another_connection_is_refused() {
    for offer in [Offer::Plus(end_point(1)), Offer::PlusRequired(end_point(1))] {
        let theirs = ClientBinding::EndPoint(end_point(2));
        let error = exchange(&verifier(), &offer, theirs, &keys(), |_, _| {});
        assert_eq!(error.err(), Some(ScramError::Binding(BindingFault::Mismatch)));
        script(&offer, ClientBinding::EndPoint(end_point(1)));
    }
    let changed = ScramError::Binding(BindingFault::Changed);
    assert_eq!(last(|message| message.replacen("c=biws", "c=eSws", 1)), changed);
    assert_eq!(last(|message| message.replacen("c=biws", "c=", 1)), changed);
    assert_eq!(last(|message| message.replacen("c=biws", "c=biwsAAAA", 1)), changed);
}

#[test]
fn refuses_an_authorization_identity() {
    for first in [&b"n,a=postgres,n=,r=x"[..], b"y,a=,n=,r=x", b"n,a"] {
        assert_eq!(refused(first), ScramError::AuthorizationIdentity);
    }
    let error =
        refused_of(Offer::Plus(end_point(1)), PLUS, b"p=tls-server-end-point,a=postgres,n=,r=x");
    assert_eq!(error, ScramError::AuthorizationIdentity);
}

#[test]
fn refuses_a_mandatory_extension() {
    let extension = ScramError::Extension { side: Side::Client };
    for first in [&b"n,,m=x,n=,r=x"[..], b"n,,m", b"n,,n=,r=x,m=x"] {
        assert_eq!(refused(first), extension);
    }
    assert_eq!(last(|message| message.replacen(",p=", ",m=x,p=", 1)), extension);
}

#[test]
fn every_first_message_cut_short_is_refused_or_fails_later() {
    for (offer, binding) in [
        (Offer::Plain, ClientBinding::NotOverTls),
        (Offer::Plus(end_point(1)), ClientBinding::EndPoint(end_point(1))),
    ] {
        let said = script(&offer, binding.clone());
        let lengths = [said.client_first.len(), 0, said.client_final.len()];
        for (message, length) in lengths.into_iter().enumerate() {
            for end in 0..length {
                let result =
                    exchange(&verifier(), &offer, binding.clone(), &keys(), |at, bytes| {
                        if at == message {
                            bytes.truncate(end);
                        }
                    });
                assert!(result.is_err(), "message {message} cut to {end} bytes");
            }
        }
    }
}

#[test]
fn commas_without_attributes_are_refused() {
    let end = Fault::Letter { found: None };
    for (first, fault) in [
        (&b""[..], Fault::Empty),
        (b",", Fault::Flag { found: Some(b',') }),
        (b"n", Fault::Comma { found: None }),
        (b"nn", Fault::Comma { found: Some(b'n') }),
        (b"n,", Fault::Header { found: None }),
        (b"n,,", Fault::Attribute { expected: b'n', found: None }),
        (b"n,,,", Fault::Attribute { expected: b'n', found: Some(b',') }),
        (b"n,,n", Fault::Equals { attribute: b'n' }),
        (b"n,,n,r=x", Fault::Equals { attribute: b'n' }),
        (b"n,,n=", Fault::Attribute { expected: b'r', found: None }),
        (b"n,,n=,", Fault::Attribute { expected: b'r', found: None }),
        (b"n,,n=,r", Fault::Equals { attribute: b'r' }),
        (b"n,,n=,r=", Fault::Nonce),
        (b"n,,n=,r=x,", end),
        (b"n,,n=,r=x,,", Fault::Letter { found: Some(b',') }),
        (b"n,,n=,r=x,1=", Fault::Letter { found: Some(b'1') }),
        (b"n,,n=,r=x,x", Fault::Equals { attribute: b'x' }),
        (b"n,,n=,r=\x7f", Fault::Nonce),
        (b"n,,n=,r=\xc3\xa4", Fault::Nonce),
        (b"n,,n=,r=a b", Fault::Nonce),
        (b"n,,n=\0,r=x", Fault::Zero),
        (b"x,,n=,r=x", Fault::Flag { found: Some(b'x') }),
        (b"n,x,n=,r=x", Fault::Header { found: Some(b'x') }),
    ] {
        assert_eq!(refused(first), malformed(fault), "{}", first.escape_ascii());
    }
    for first in [&b"p"[..], b"p=", b"p=,", b"p=tls-server-end-point", b"p=tls-server-end-point,"] {
        refused_of(Offer::Plus(end_point(1)), PLUS, first);
    }
    assert_eq!(last(|message| format!("{message},")), malformed(Fault::Trailing));
    let comma = malformed(Fault::Letter { found: Some(b',') });
    assert_eq!(last(|message| message.replacen(",p=", ",,p=", 1)), comma);
}

#[test]
fn attributes_in_another_order_are_refused() {
    let attribute = |expected, found| malformed(Fault::Attribute { expected, found: Some(found) });
    assert_eq!(refused(b"n,,r=x,n="), attribute(b'n', b'r'));
    assert_eq!(refused(b"n,,x=y,n=,r=x"), attribute(b'n', b'x'));
    let swapped = |message: &str| {
        let (binding, rest) = message.split_once(',').expect("two attributes");
        let (nonce, proof) = rest.split_once(",p=").expect("a proof");
        format!("{nonce},{binding},p={proof}")
    };
    assert_eq!(last(swapped), attribute(b'c', b'r'));
    let proof_first = |message: &str| {
        let (rest, proof) = message.split_once(",p=").expect("a proof");
        format!("p={proof},{rest}")
    };
    assert_eq!(last(proof_first), attribute(b'c', b'p'));
}

#[test]
fn unknown_attributes_are_ignored_and_known_ones_come_once() {
    challenged(verifier(), Offer::Plain, PLAIN, b"n,,n=any\xffname,r=x,x=y,z=")
        .expect("optional extensions");
    // They are signed like the rest, so putting them in on the way does not work.
    let put_in = last(|message| message.replacen(",p=", ",x=y,p=", 1));
    assert_eq!(put_in, ScramError::NotAuthenticated);

    let twice = |attribute| malformed(Fault::Misplaced { attribute });
    assert_eq!(refused(b"n,,n=,r=x,r=y"), twice(b'r'));
    assert_eq!(refused(b"n,,n=,r=x,n=y"), twice(b'n'));
    assert_eq!(last(|message| message.replacen(",p=", ",r=x,p=", 1)), twice(b'r'));
    assert_eq!(last(|message| message.replacen(",p=", ",c=biws,p=", 1)), twice(b'c'));
    assert_eq!(last(|message| format!("{message},p=")), malformed(Fault::Trailing));
    assert_eq!(last(|message| format!("{message},x=y")), malformed(Fault::Trailing));
}

#[test]
fn proof_has_one_spelling_and_32_bytes() {
    let proof = |change: fn(&str) -> String| {
        last(|message| {
            let (rest, proof) = message.split_once(",p=").expect("a proof");
            format!("{rest},p={}", change(proof))
        })
    };
    let invalid = malformed(Fault::Proof);
    assert_eq!(proof(|_| String::new()), invalid);
    assert_eq!(proof(|proof| proof.trim_end_matches('=').to_owned()), invalid);
    assert_eq!(proof(|proof| format!("{proof}=")), invalid);
    assert_eq!(proof(|proof| format!("{proof}AAAA")), invalid);
    assert_eq!(proof(|proof| format!(" {proof}")), invalid);
    assert_eq!(proof(|proof| format!("-{}", &proof[1..])), invalid);
    assert_eq!(proof(|proof| format!("AAAA{}", &proof[4..40])), invalid);
    // Bits in front of the padding that belong to no byte.
    let bits = |proof: &str| {
        let next = char::from(proof.as_bytes()[42] + 1);
        format!("{}{next}=", &proof[..42])
    };
    assert_eq!(proof(bits), invalid);
    let no_attribute = |message: &str| message.replacen(",p=", ",=", 1);
    assert_eq!(last(no_attribute), malformed(Fault::Letter { found: Some(b'=') }));
    let none = |message: &str| message.split_once(",p=").expect("a proof").0.to_owned();
    assert_eq!(last(none), malformed(Fault::Letter { found: None }));
}

#[test]
fn lengths_are_bounded() {
    let first = |length: usize| [&b"n,,n=,r="[..], &vec![b'x'; length]].concat();
    let nonce = |found| ScramError::Limit {
        side: Side::Client,
        what: "nonce",
        found,
        max: NONCE_BYTES_MAX,
    };
    let message = |found| ScramError::Limit {
        side: Side::Client,
        what: "SCRAM message",
        found,
        max: MESSAGE_BYTES_MAX,
    };
    challenged(verifier(), Offer::Plain, PLAIN, &first(400)).expect("long, but allowed");
    assert_eq!(refused(&first(NONCE_BYTES_MAX + 1)), nonce(NONCE_BYTES_MAX + 1));
    assert_eq!(refused(&first(MESSAGE_BYTES_MAX - 8)), nonce(MESSAGE_BYTES_MAX - 8));
    assert_eq!(refused(&first(MESSAGE_BYTES_MAX - 7)), message(MESSAGE_BYTES_MAX + 1));
    assert_eq!(refused(&first(1 << 20)), message((1 << 20) + 8));
    let long = last(|message| message.replacen(",p=", &format!(",x={},p=", "y".repeat(1000)), 1));
    assert!(matches!(long, ScramError::Limit { side: Side::Client, .. }));
}

#[test]
fn longest_challenge_is_still_a_message() {
    let salt = [1; SALT_BYTES_MAX];
    let verifier = Verifier::from_password(b"x", &salt, 1).expect("within limits").into();
    let room = NONCE_BYTES_MAX - nonce(2).as_bytes().len();
    let first = [&b"n,,n=,r="[..], &vec![b'x'; room]].concat();
    let (_, challenge) = challenged(verifier, Offer::Plain, PLAIN, &first).expect("allowed");
    assert!(challenge.len() <= MESSAGE_BYTES_MAX, "{} bytes", challenge.len());
    // One more, and our own answer could not be used: it is the client's nonce that is too long.
    let first = [&first[..], b"x"].concat();
    assert!(matches!(refused(&first), ScramError::Limit { what: "nonce", .. }));
}

#[test]
fn first_message_may_come_behind_an_empty_challenge() {
    let server = Server::new(verifier(), Offer::Plain, nonce(2));
    let Ok(Initial::Empty(awaiting)) = server.handle_initial(PLAIN, None) else {
        panic!("no initial response");
    };
    let (client, _, first) = Client::new(ClientBinding::NotOverTls, nonce(1));
    let (awaiting, server_first) = awaiting.handle_first(&first).expect("good");
    let (_, answer) = client.handle_first(&server_first).expect("good").answer(&keys());
    awaiting.handle_final(answer.expose_secret()).expect("proven");

    let server = Server::new(verifier(), Offer::Plain, nonce(2));
    assert_eq!(server.handle_initial(b"x", None).err(), Some(ScramError::Mechanism));
    // An empty response is not the same as none.
    assert_eq!(refused(b""), malformed(Fault::Empty));
}
