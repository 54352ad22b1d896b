//! The first bytes of a connection.

use std::io::{Read, Write};
use std::net::Shutdown;

use anyhow::ensure;
use pgward_tests::pki;
use pgward_tests::postgres::Version;
use pgward_tests::tls;
use pgward_tests::wire::{self, SSL_REQUEST, startup, untyped};

use super::peer::last_words;
use super::{Stage, Target};
use crate::{Result, agents, gate};

/// A script: what a client sends, and what it saw.
type Script = fn(&Target<'_>) -> Result<String>;

/// Name, script, what a server says to it (15, then 18; part of the words), and whether the agent may go on: it must not.
const SCRIPTS: [(&str, Script, &str, &str); 15] = [
    ("nothing", nothing, "end", "end"),
    ("half a startup message", truncated, "end", "end"),
    ("a startup message too short", too_short, "end", "end"),
    ("a startup message too long", too_long, "end", "end"),
    ("a startup message of negative length", negative, "end", "end"),
    ("no terminator", unterminated, "E(08P01", "E(08P01"),
    ("no user", nobody, "E(28000: no PostgreSQL user name", "E(28000: no PostgreSQL user name"),
    // 18 takes what is behind for the beginning of TLS.
    ("clear text behind an SSLRequest", stuffed, "S tls E(08P01", "S end"),
    ("clear text behind an SSLRequest, in time", stuffed_late, "S ", "S "),
    ("an SSLRequest inside of TLS", twice, "S tls E(0A000", "S tls E(0A000"),
    ("garbage behind 0x16", garbage, "end", "end"),
    ("half a TLS hello", half_hello, "end", "end"),
    ("direct TLS without ALPN", without_alpn, "end", "end"),
    ("direct TLS for another protocol", other_alpn, "end", "end"),
    ("early data", early_data, "none", "none"),
];

#[test]
fn broken_beginnings_directly() -> Result {
    gate!();
    for version in [Version::Debian, Version::Eighteen] {
        let stage = Stage::new(version)?;
        run(&stage.direct(), |script| match version {
            Version::Debian => script.2,
            Version::Eighteen => script.3,
        })?;
    }
    Ok(())
}

#[test]
fn broken_beginnings_through_the_agent() -> Result {
    gate!();
    let stage = Stage::new(Version::Eighteen)?;
    let servers = std::slice::from_ref(&stage.servers);
    let scene = agents::start("startup", servers, &stage.pki, &stage.passwords)?;
    run(&stage.behind(&scene), |script| match script.0 {
        "early data" => "none",
        // Where and how it is told is up to the agent; that it ends, and that nobody is let in, is not.
        _ => "end",
    })?;
    // Nothing of that disturbed it.
    let mut session = super::sasl::login(&stage.behind(&scene))?;
    assert_eq!(session.value("select 'well'")?, "well");
    drop(session);
    scene.agent.finish()
}

fn run(
    target: &Target<'_>,
    expected: impl Fn(&(&str, Script, &'static str, &'static str)) -> &'static str,
) -> Result {
    let mut faults = Vec::new();
    for script in &SCRIPTS {
        let expected = expected(script);
        let name = script.0;
        match script.1(target) {
            // `R` would be a request for a password or more: it means that the beginning was taken for a good one.
            Ok(words) if words.contains(expected) && !words.contains('R') => {
                eprintln!("{name}: {words}");
            }
            Ok(words) => faults.push(format!("{name}: expected `{expected}`, found `{words}`")),
            Err(error) => faults.push(format!("{name}: {error:#}")),
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

fn good_startup() -> Vec<u8> {
    startup(&[("user", "scram_user"), ("database", "tls_on")])
}

fn ssl_request() -> Vec<u8> {
    untyped(&SSL_REQUEST.to_be_bytes())
}

/// Sends these bytes, then says that there are no more.
fn send(target: &Target<'_>, bytes: &[u8]) -> Result<String> {
    let mut visitor = target.visit()?;
    visitor.write_all(bytes)?;
    visitor.stream.shutdown(Shutdown::Write)?;
    last_words(&mut visitor)
}

/// Sends these bytes and goes on listening: the peer must end it by itself.
fn send_and_stay(target: &Target<'_>, bytes: &[u8]) -> Result<String> {
    let mut visitor = target.visit()?;
    visitor.write_all(bytes)?;
    last_words(&mut visitor)
}

fn nothing(target: &Target<'_>) -> Result<String> {
    send(target, &[])
}

fn truncated(target: &Target<'_>) -> Result<String> {
    let whole = good_startup();
    send(target, &whole[..whole.len() - 4])
}

fn too_short(target: &Target<'_>) -> Result<String> {
    send_and_stay(target, &[0, 0, 0, 7, 0, 3, 0])
}

fn too_long(target: &Target<'_>) -> Result<String> {
    let long = "x".repeat(12_000);
    send_and_stay(target, &startup(&[("user", "scram_user"), ("application_name", &long)]))
}

fn negative(target: &Target<'_>) -> Result<String> {
    send_and_stay(target, &[0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0])
}

fn unterminated(target: &Target<'_>) -> Result<String> {
    let mut body = wire::PROTOCOL_3_0.to_be_bytes().to_vec();
    body.extend(b"user\0scram_user\0database\0tls_on\0");
    send_and_stay(target, &untyped(&body))
}

fn nobody(target: &Target<'_>) -> Result<String> {
    send_and_stay(target, &startup(&[("database", "tls_on")]))
}

/// CVE-2021-23214: what comes in clear text before the handshake must not be taken for what came inside of it.
fn stuffed(target: &Target<'_>) -> Result<String> {
    let mut visitor = target.visit()?;
    visitor.write_all(&[ssl_request(), good_startup()].concat())?;
    over_tls(target, visitor)
}

/// The same in two pieces: behind the answer, before the handshake.
fn stuffed_late(target: &Target<'_>) -> Result<String> {
    let mut visitor = target.visit()?;
    visitor.write_all(&ssl_request())?;
    let mut answer = [0];
    visitor.read_exact(&mut answer)?;
    visitor.write_all(&good_startup())?;
    let told = last_words(&mut visitor)?;
    Ok(format!("{} {told}", char::from(answer[0])))
}

/// Reads the answer to an SSLRequest, shakes hands if that is yes, and listens.
fn over_tls(target: &Target<'_>, mut visitor: pgward_tests::visitor::Visitor) -> Result<String> {
    let mut answer = [0];
    if visitor.read(&mut answer)? == 0 {
        return Ok("end".to_owned());
    }
    if answer != *b"S" {
        return Ok(format!("{} {}", char::from(answer[0]), last_words(&mut visitor)?));
    }
    // Whoever ends it instead of shaking hands may say why in clear text first.
    let mut first = [0; 5];
    let config = tls::client(&target.roots, &[tls::ALPN])?;
    match tls::connect(&config, pki::HOST, &mut visitor) {
        Ok(mut stream) => Ok(format!("S tls {}", last_words(&mut stream)?)),
        Err(error) => {
            let told = format!("{error:#}");
            // An `E` with its length is no TLS record.
            let clear = told.contains("corrupt message") || told.contains("InvalidContentType");
            let _ = visitor.read(&mut first);
            Ok(if clear { "S E(08P01?) end".to_owned() } else { format!("S end ({told})") })
        }
    }
}

fn twice(target: &Target<'_>) -> Result<String> {
    let mut visitor = target.visit()?;
    visitor.write_all(&ssl_request())?;
    let mut answer = [0];
    visitor.read_exact(&mut answer)?;
    let config = tls::client(&target.roots, &[tls::ALPN])?;
    let mut stream = tls::connect(&config, pki::HOST, &mut visitor)?;
    stream.write_all(&ssl_request())?;
    stream.flush()?;
    Ok(format!("{} tls {}", char::from(answer[0]), last_words(&mut stream)?))
}

fn garbage(target: &Target<'_>) -> Result<String> {
    let mut bytes = vec![0x16];
    bytes.extend([0xff; 300]);
    send_and_stay(target, &bytes)
}

fn half_hello(target: &Target<'_>) -> Result<String> {
    // A record of 512 bytes, of which some come.
    send(target, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])
}

fn without_alpn(target: &Target<'_>) -> Result<String> {
    direct(target, &[])
}

fn other_alpn(target: &Target<'_>) -> Result<String> {
    direct(target, &[b"h2"])
}

/// Begins with TLS; a startup message follows if that succeeds.
fn direct(target: &Target<'_>, alpn: &[&[u8]]) -> Result<String> {
    let config = tls::client(&target.roots, alpn)?;
    match tls::connect(&config, pki::HOST, target.visit()?) {
        Err(error) => Ok(format!("end ({error:#})")),
        Ok(mut stream) => {
            // It may be closed already.
            let _ = stream.write_all(&good_startup()).and_then(|()| stream.flush());
            match last_words(&mut stream) {
                Ok(words) => Ok(format!("tls {words}")),
                // An alert that came behind the handshake.
                Err(error) => Ok(format!("tls end ({error:#})")),
            }
        }
    }
}

/// Early data of TLS 1.3 can be replayed by anyone who saw it: a server must not invite to it.
fn early_data(target: &Target<'_>) -> Result<String> {
    let config = tls::client(&target.roots, &[tls::ALPN])?;
    for _ in 0..2 {
        let mut visitor = target.visit()?;
        visitor.write_all(&ssl_request())?;
        let mut answer = [0];
        visitor.read_exact(&mut answer)?;
        ensure!(answer == *b"S", "TLS was declined");
        let name = rustls::pki_types::ServerName::try_from(pki::HOST)?;
        let mut session = rustls::ClientConnection::new(std::sync::Arc::clone(&config), name)?;
        if session.early_data().is_some() {
            return Ok("invited".to_owned());
        }
        while session.is_handshaking() {
            session.complete_io(&mut visitor)?;
        }
        let mut stream = rustls::StreamOwned::new(session, visitor);
        // Tickets come behind the handshake: some answer has to be read. No user is one question less.
        stream.write_all(&startup(&[("database", "tls_on")]))?;
        stream.flush()?;
        last_words(&mut stream)?;
    }
    Ok("none".to_owned())
}
