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
