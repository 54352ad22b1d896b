//! RFC 7677 section 3, and verifiers that PostgreSQL made.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::super::client::Client;
use super::super::*;
use super::*;

const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &[u8] = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
      s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
      p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
const SALT: [u8; 16] = [
    0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81,
];

#[test]
fn rfc_7677_as_server() {
    let verifier = Verifier::from_password(b"pencil", &SALT, 4096).expect("within limits");
    let server =
        Server::new(Arc::new(verifier), Offer::Plain, text("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"));
    let Ok(Initial::Challenged(awaiting, first)) =
        server.handle_initial(b"SCRAM-SHA-256", Some(CLIENT_FIRST))
    else {
        panic!("the first message is as published");
    };
    assert_eq!(first.escape_ascii().to_string(), SERVER_FIRST.escape_ascii().to_string());
    let proven = awaiting.handle_final(CLIENT_FINAL).expect("the proof is as published");
    assert_eq!(proven.server_final(), SERVER_FINAL);
    assert_eq!(proven.channel(), Channel::Unbound);
}

#[test]
fn rfc_7677_as_client() {
    let (client, mechanism, first) =
        Client::with_name(ClientBinding::NotOverTls, text("rOprNGfwEbeRWgbNEkqO"), "user");
    assert_eq!((mechanism, &first[..]), (&b"SCRAM-SHA-256"[..], CLIENT_FIRST));
    let challenge = client.handle_first(SERVER_FIRST).expect("as published");
    assert_eq!((challenge.salt(), challenge.iterations()), (&SALT[..], 4096));
    let keys = Keys::derive(b"pencil", challenge.salt(), challenge.iterations());
    let (awaiting, last) = challenge.answer(&keys);
    assert_eq!(last.expose_secret(), CLIENT_FINAL);
    assert_eq!(awaiting.handle_final(SERVER_FINAL), Ok(()));
}

/// Passwords and what PostgreSQL 15 made of them in `pg_authid.rolpassword`.
const POSTGRES: [(&str, &str); 12] = [
    (
        "secret",
        "SCRAM-SHA-256$4096:aNdMI9//Q+HAdUDlUuTchQ==$\
         mhwaRsVHbgg8LdR7jTWvqllkKNnWyIsNZx+itSIcJk0=:YFQlUy98iqGJoPlh28nNjQAWdi68v5L4mQoHS7jPv9Q=",
    ),
    (
        "p\u{e4}ssw\u{f6}rd",
        "SCRAM-SHA-256$4096:hNJRfTRkwbHJl2nbLH9LJw==$\
         osky+vzX/ASLQRFi3Ye63TPaRj245AXOZ9/yQcr1hSg=:MsFH3NDoyFza7oZPluT12QQKPVFz/t7zv8WsHJcPWPQ=",
    ),
    (
        "I\u{ad}X",
        "SCRAM-SHA-256$4096:oy2VKszIGt99a9J10TIn+w==$\
         nHM/xdCrjhRhZsECszEZ3KfYE8PzumJKnw1Y6qJv1Xg=:nqrZHZmLuFbOoTbc9O9kofraqcMJrix7KxMKvJK6VdQ=",
    ),
    (
        "\u{aa}",
        "SCRAM-SHA-256$4096:erlYI2tBT6QyBjB4x8EVwg==$\
         5SC2O78ZDYRYQiXjm0SWx2htvtBkB1mF249WOK7AXVc=:25wrR3KGWWKJABljH2ZsdklWASFf5HJ0levrn8T9Co8=",
    ),
    (
        "\u{2168}\u{a0}x",
        "SCRAM-SHA-256$4096:CanzIYWiv2D7divoyQugFQ==$\
         ER09xijv+Qg0gFYVxQYc2PNdXiiWJrSjn9VIxzSPDUs=:FALF+BsCwzflVvzM7n9stw9Kqd/vwSTNbQy/XD/8x3Y=",
    ),
    (
        "\u{ad}",
        "SCRAM-SHA-256$4096:gp2zN9T5dWf3unmyH3AnLw==$\
         tQUDxmf3mXb7/rBRI2Vdz0j01yY9ZaITSMVHULbVIns=:hyWuszNxP25Z2+vqStnrY3XYZzZL468uJaZsFsaznDs=",
    ),
    (
        "\u{627}1",
        "SCRAM-SHA-256$4096:SXBgeCtK2L4UkQ35iPbpfQ==$\
         f5nzWZGPU77XovcRIT6oXYXoiSMNYbmVJfXWFqiwsME=:GT9ql0Q1CjgTWKbcDxDtpClIg4Be4DjDHWyqC7UfBFw=",
    ),
    (
        "\u{340}x",
        "SCRAM-SHA-256$4096:UhzH31pcYu/cr1KQG5BI1A==$\
         ttyHfgvmJ1bQDW8H8zzukDX9X9XAh7g1F7ixf9WcSZs=:GTc/mDfeUI1ml5Pr12lIRFR9CsPXOWcDhb9721HSAVs=",
    ),
    (
        "\u{5d0}1\u{5d0}",
        "SCRAM-SHA-256$4096:AWmJGu+xU9H7n0j3pOVuwQ==$\
         /xpXK8Z9XlVtk9wicTQbhLWwgPrXzfRSMuh5cClZUi0=:sOgmPn0RJTlUXkKSL3wgdEkDAhlvVp0R84wj65gNIdA=",
    ),
    (
        "\u{7}bell",
        "SCRAM-SHA-256$4096:a7oDolYa91VVvyzrOIJuBg==$\
         MPHcU50yDV5nAonPyEqjo9lkRBri/EbF8hVMTKMEpRE=:1N85eBOxvfqYthMbvyQn0eJY7oLPitnpADXFoyMwa88=",
    ),
    (
        "\u{1f600}x\u{aa}",
        "SCRAM-SHA-256$4096:mdr4dghK11GD/5zBpWj/eg==$\
         3s82uFDjG36iPfSG6iRhzrF5U4V3GqW7k5jn5YFerNg=:zMdbr8vKxdyC9aeGBoTNygMYXB+fMfInUOJjKSxj/Pw=",
    ),
    (
        "with space, comma=equals",
        "SCRAM-SHA-256$4096:pbpnQTEmkJAHCivr/4LMAA==$\
         Pi12TUzccVO84lXi9jcy6qqervr4SesQ10B6dfofgtw=:P7Mpe3yEzNL2JsQUKUTEJ1uV6RWzXkK6g7GpYHVPY20=",
    ),
];

#[test]
fn verifiers_of_postgresql_are_read_and_written_and_accept_their_passwords() {
    for (password, stored) in POSTGRES {
        let verifier = Verifier::parse(stored.as_bytes()).expect(password);
        assert_eq!(verifier.expose().expose_secret(), stored);
        assert_eq!((verifier.iterations(), verifier.salt().len()), (4096, 16));
        let ours = Verifier::from_password(password.as_bytes(), verifier.salt(), 4096);
        assert_eq!(ours.expect("within limits").expose().expose_secret(), stored, "{password:?}");

        let keys = Keys::derive(password.as_bytes(), verifier.salt(), verifier.iterations());
        let verifier = Arc::new(verifier);
        exchange(&verifier, &Offer::Plain, ClientBinding::NotOverTls, &keys, |_, _| {})
            .expect(password);
    }
}

#[test]
fn what_is_no_verifier_says_why() {
    let good = POSTGRES[0].1;
    let (head, keys) = good.split_at(44);
    let (stored, server) = keys.split_once(':').expect("two keys");
    let missing = |part| VerifierError::Missing { part };
    let cases = [
        (String::new(), VerifierError::Mechanism),
        ("md5a3556571e93b0d20722ba62be61e8c2d".to_owned(), VerifierError::Mechanism),
        ("SCRAM-SHA-256".to_owned(), VerifierError::Mechanism),
        (format!(" {good}"), VerifierError::Mechanism),
        (good.replacen("256", "512", 1), VerifierError::Mechanism),
        ("SCRAM-SHA-256$".to_owned(), missing("a salt")),
        ("SCRAM-SHA-256$4096".to_owned(), missing("a salt")),
        ("SCRAM-SHA-256$4096:AAAA".to_owned(), missing("StoredKey")),
        (format!("{head}{stored}"), missing("ServerKey")),
        (good.replacen("4096", "0", 1), VerifierError::Iterations),
        (good.replacen("4096", "", 1), VerifierError::Iterations),
        (good.replacen("4096", "-1", 1), VerifierError::Iterations),
        (good.replacen("4096", "2000001", 1), VerifierError::Iterations),
        (good.replacen("4096", "4294967296", 1), VerifierError::Iterations),
        (good.replacen("==$", "$", 1), VerifierError::Salt),
        (format!("SCRAM-SHA-256$4096:${keys}"), VerifierError::Salt),
        (format!("{head}:{server}"), VerifierError::Key { part: "StoredKey" }),
        (format!("{head}{stored}:"), VerifierError::Key { part: "ServerKey" }),
        (format!("{good} "), VerifierError::Key { part: "ServerKey" }),
        (format!("{good}\n"), VerifierError::Key { part: "ServerKey" }),
        (format!("{good}:"), VerifierError::Key { part: "ServerKey" }),
        ("x".repeat(10_000), VerifierError::Length { found: 10_000 }),
    ];
    for (text, error) in cases {
        assert_eq!(Verifier::parse(text.as_bytes()).err(), Some(error), "{text}");
    }
    for end in 0..good.len() {
        assert!(Verifier::parse(&good.as_bytes()[..end]).is_err(), "cut to {end} bytes");
    }
    let low = good.replacen("4096", "1", 1);
    assert_eq!(Verifier::parse(low.as_bytes()).expect("read").iterations(), 1);
}

#[test]
fn verifiers_are_made_within_limits() {
    let make = |salt: &[u8], iterations| Verifier::from_password(b"x", salt, iterations).err();
    assert_eq!(make(b"", 1), Some(VerifierError::Salt));
    assert_eq!(make(&[0; SALT_BYTES_MAX + 1], 1), Some(VerifierError::Salt));
    assert_eq!(make(b"x", 0), Some(VerifierError::Iterations));
    assert_eq!(make(b"x", ITERATIONS_MAX + 1), Some(VerifierError::Iterations));
    let longest = Verifier::from_password(b"x", &[0; SALT_BYTES_MAX], 1).expect("within limits");
    let text = longest.expose();
    assert!(text.expose_secret().len() + 9 == VERIFIER_BYTES_MAX, "one digit of ten");
    assert!(Verifier::parse(text.expose_secret().as_bytes()).is_ok());
}

#[test]
fn challenge_names_the_verifier_it_is_of() {
    let verifier = verifier();
    let challenge = |salt: &str, iterations: u32| {
        let (client, _, _) = Client::new(ClientBinding::NotOverTls, text("a"));
        client.handle_first(format!("r=ab,s={salt},i={iterations}").as_bytes()).expect("good")
    };
    assert!(challenge("MDEyMzQ1Njc4OWFiY2RlZg==", 4096).is_of(&verifier));
    assert!(!challenge("MDEyMzQ1Njc4OWFiY2RlZg==", 4097).is_of(&verifier));
    assert!(!challenge("MDEyMzQ1Njc4OWFiY2RlZw==", 4096).is_of(&verifier));
}

#[test]
fn flag_of_a_relayed_exchange() {
    for (first, flag) in [
        (&b"n,,n=,r=x"[..], Gs2Flag::NotSupported),
        (b"y,,n=,r=x", Gs2Flag::NotOffered),
        (b"p=tls-unique,,n=,r=x", Gs2Flag::Used(b"tls-unique")),
        // Only the flag is looked at.
        (b"n,?", Gs2Flag::NotSupported),
    ] {
        assert_eq!(Gs2Flag::of(first), Ok(flag));
    }
    for first in [&b""[..], b"n", b"x", b"p", b"p,", b"n\0,", b"nn,,"] {
        assert!(Gs2Flag::of(first).is_err(), "{}", first.escape_ascii());
    }
}

#[test]
fn mechanisms_are_listed_best_first() {
    assert_eq!(Server::mechanisms(&Offer::Plain), [b"SCRAM-SHA-256"]);
    assert_eq!(
        Server::mechanisms(&Offer::Plus(end_point(1))),
        [&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"]
    );
    assert_eq!(Server::mechanisms(&Offer::PlusRequired(end_point(1))), [b"SCRAM-SHA-256-PLUS"]);
}

#[test]
fn end_point_has_the_length_of_a_hash() {
    for length in [28, 32, 48, 64] {
        assert!(EndPoint::from_hash(&vec![0; length]).is_some());
    }
    for length in [0, 20, 27, 65] {
        assert!(EndPoint::from_hash(&vec![0; length]).is_none());
    }
}
