//! Logins that go wrong on purpose, by hand.

use std::io::{Read, Write};
use std::time::Instant;

use anyhow::{Context, ensure};
use pgward_tests::pki;
use pgward_tests::postgres::Version;
use pgward_tests::scene::mark;
use pgward_tests::scram::{Exchange, attribute};
use pgward_tests::tls;
use pgward_tests::visitor::Visitor;
use pgward_tests::wire::{self, SSL_REQUEST, Session, message, startup, untyped};

use super::peer::{last_words, word};
use super::{Stage, Target};
use crate::servers::{Role, ServerTls, UNKNOWN};
use crate::{Result, agents, gate};

const PLAIN: &str = "SCRAM-SHA-256";
const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// What is wrong with a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Twist {
    WrongPassword,
    UnknownUser,
    OtherNonce,
    OwnNonceOnly,
    Replay,
    Identity,
    BoundWithoutTls,
    OtherBinding,
    OtherHeader,
    Extension,
    UnprintableNonce,
    LongMessage,
    EmptyFinal,
    NoProof,
    OtherMechanism,
    QueryFirst,
    QueryMidway,
    QueryStuffed,
}

/// With what a server answers; the rest of its words does not matter here, but is the same through the agent.
const CLEAR: [(Twist, &str); 18] = [
    (Twist::WrongPassword, "E(28P01: password authentication failed for user \"scram_user\")"),
    (Twist::UnknownUser, "E(28P01: password authentication failed for user \"nobody_here\")"),
    (Twist::OtherNonce, "E(08P01: invalid SCRAM response)"),
    (Twist::OwnNonceOnly, "E(08P01: invalid SCRAM response)"),
    (Twist::Replay, "E(08P01: invalid SCRAM response)"),
    (Twist::Identity, "E(0A000: client uses authorization identity, but it is not supported)"),
    (Twist::BoundWithoutTls, "E(08P01"),
    (Twist::OtherBinding, "E(08P01"),
    (Twist::OtherHeader, "E(08P01"),
    (Twist::Extension, "E(0A000: client requires an unsupported SCRAM extension)"),
    (Twist::UnprintableNonce, "E(08P01: non-printable characters in SCRAM nonce)"),
    (Twist::LongMessage, "end"),
    (Twist::EmptyFinal, "E(08P01"),
    (Twist::NoProof, "E(08P01"),
    (Twist::OtherMechanism, "E(08P01: client selected an invalid SASL authentication mechanism)"),
    (Twist::QueryFirst, "E(08P01: expected SASL response, got message type 81)"),
    (Twist::QueryMidway, "E(08P01: expected SASL response, got message type 81)"),
    (Twist::QueryStuffed, "E(08P01: expected SASL response, got message type 81)"),
];

/// What is wrong with channel binding over TLS.
const OVER_TLS: [(&str, &str, &str); 5] = [
    ("y,,", PLAIN, "E(28000: SCRAM channel binding negotiation error)"),
    ("p=tls-unique,,", PLUS, "E(08P01: unsupported SCRAM channel-binding type \"tls-unique\")"),
    ("p=tls-server-end-point,,", PLUS, "E(28000: SCRAM channel binding check failed)"),
    ("p=tls-server-end-point,,", PLAIN, "E(08P01"),
    ("n,,", PLUS, "E(08P01"),
];

#[test]
fn twisted_logins_directly() -> Result {
    gate!();
    for version in [Version::Debian, Version::Eighteen] {
        let stage = Stage::new(version)?;
        log_statements(&stage)?;
        let told = all(&stage.direct())?;
        expect(&told)?;
        ensure!(!stage.servers.server(ServerTls::On).log().contains(UNSEEN), "a query ran");
    }
    Ok(())
}

#[test]
fn twisted_logins_through_the_agent_get_the_servers_own_words() -> Result {
    gate!();
    let stage = Stage::new(Version::Eighteen)?;
    log_statements(&stage)?;
    let servers = std::slice::from_ref(&stage.servers);
    let builder = pgward_tests::agent::Agent::builder().set("auth", "failures_max", "1000");
    let scene = agents::start_with("sasl", builder, servers, &stage.pki, &stage.passwords)?;
    let direct = all(&stage.direct())?;
    let through = all(&stage.behind(&scene))?;
    let mut faults = Vec::new();
    for (one, two) in direct.iter().zip(&through).filter(|(one, two)| !alike(one, two)) {
        faults.push(format!("{}\n    direct:  {}\n    through: {}", one.0, one.1, two.1));
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    // No message of a client that had proven nothing reached the server.
    ensure!(!stage.servers.server(ServerTls::On).log().contains(UNSEEN), "a query ran");
    let records = scene.agent.records()?;
    ensure!(!records.iter().any(|r| r.to_string().contains(UNSEEN)), "a query was recorded as one");
    scene.agent.finish()
}

#[test]
fn an_unknown_user_looks_like_a_known_one_through_the_agent() -> Result {
    gate!();
    let stage = Stage::new(Version::Eighteen)?;
    let servers = std::slice::from_ref(&stage.servers);
    let scene = agents::start("mock", servers, &stage.pki, &stage.passwords)?;
    let target = stage.behind(&scene);
    let mut seen = Vec::new();
    for user in ["scram_user", UNKNOWN[0], UNKNOWN[0], UNKNOWN[1]] {
        let mut visitor = begin(&target, user)?;
        let offer = expect_frame(&mut visitor, 10)?;
        let exchange = Exchange::client("fyko+d2lbbFgONRv9qkxdawL");
        visitor.write_all(&initial(PLAIN, &exchange.client_first()))?;
        let first = text(&expect_frame(&mut visitor, 11)?);
        let salt = attribute(&first, 's').context("salt")?.to_owned();
        let rounds = attribute(&first, 'i').context("iterations")?.to_owned();
        let nonce = attribute(&first, 'r').context("nonce")?.len();
        seen.push((offer, salt, (rounds, nonce)));
    }
    let [known, unknown, again, other] = &seen[..] else { anyhow::bail!("four logins") };
    assert_eq!(known.0, unknown.0, "the same mechanisms");
    assert_eq!(known.1.len(), unknown.1.len(), "salts of one length");
    assert_eq!(known.2, unknown.2, "as many iterations, and nonces of one length");
    assert_eq!(unknown.1, again.1, "a salt is stable");
    assert_ne!(unknown.1, other.1, "and each user's own");
    scene.agent.finish()
}

/// Only queries of clients without a login contain this.
const UNSEEN: &str = "unseen_7c1d";

/// The same words; but where a client is refused for the amount it sends, or for sending too early, the agent may say so at
/// another point: it must not let it in.
fn alike(direct: &(String, String), through: &(String, String)) -> bool {
    let loose = [Twist::LongMessage, Twist::QueryStuffed].map(|twist| format!("{twist:?}"));
    let refused =
        through.1.ends_with("end") && !through.1.contains("R0") && !through.1.contains('Z');
    direct == through || (loose.contains(&direct.0) && refused)
}

fn log_statements(stage: &Stage) -> Result {
    let server = stage.servers.server(ServerTls::On);
    server.sql("postgres", "alter system set log_statement = 'all'")?;
    server.sql("postgres", "select pg_reload_conf()")?;
    // The log is looked at for what must not be there: something that is there shows that it could be.
    let canary = mark("canary");
    pgward_tests::wait::until_true(
        "the server to log statements",
        pgward_tests::wait::PATIENCE,
        || {
            server.sql("postgres", &format!("select '{canary}'"))?;
            Ok(server.log().contains(&canary))
        },
    )
}

/// Every twist: its name, and the server's words.
fn all(target: &Target<'_>) -> Result<Vec<(String, String)>> {
    let mut told = Vec::new();
    for (twist, _) in CLEAR {
        let started = Instant::now();
        let words = twisted(target, twist).with_context(|| format!("{twist:?}"))?;
        eprintln!("{twist:?}: {words} ({} ms)", started.elapsed().as_millis());
        told.push((format!("{twist:?}"), words));
    }
    for (header, mechanism, _) in OVER_TLS {
        let name = format!("{header} {mechanism}");
        let words = misbound(target, header, mechanism).with_context(|| name.clone())?;
        eprintln!("{name}: {words}");
        told.push((name, words));
    }
    // The same by hand, and right, so that none of the above fails for a reason of its own.
    assert_eq!(login(target)?.value("select 6 * 7")?, "42");
    told.push(("bound".to_owned(), bound(target)?));
    Ok(told)
}

fn expect(told: &[(String, String)]) -> Result {
    let clear = CLEAR.iter().map(|(_, expected)| *expected);
    let tls = OVER_TLS.iter().map(|(.., expected)| *expected);
    let mut faults = Vec::new();
    for ((name, words), expected) in told.iter().zip(clear.chain(tls).chain(["42"])) {
        if !words.contains(expected) {
            faults.push(format!("{name}: expected `{expected}`, found `{words}`"));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// A login by hand, with nothing wrong.
pub(super) fn login(target: &Target<'_>) -> Result<Session<Visitor>> {
    let mut visitor = begin(target, "scram_user")?;
    prove(&mut visitor, &target.passwords.of(Role::Scram))?;
    Session::finish_start(visitor)
}

/// A right login; the final message, for somebody to replay.
fn prove(visitor: &mut Visitor, password: &str) -> Result<String> {
    expect_frame(visitor, 10)?;
    let mut exchange = Exchange::client("rOprNGfwEbeRWgbNEkqO9x0q");
    visitor.write_all(&initial(PLAIN, &exchange.client_first()))?;
    exchange.server_first = text(&expect_frame(visitor, 11)?);
    let last = exchange.client_final(password);
    visitor.write_all(&message(b'p', last.as_bytes()))?;
    let signature = text(&expect_frame(visitor, 12)?);
    ensure!(signature == exchange.server_final(password), "the server proved nothing");
    Ok(last)
}

fn twisted(target: &Target<'_>, twist: Twist) -> Result<String> {
    let password = target.passwords.of(Role::Scram);
    let user = if twist == Twist::UnknownUser { UNKNOWN[0] } else { "scram_user" };
    let query = wire::query(&format!("select '{UNSEEN}'"));
    let mut visitor = target.visit()?;
    let mut hello = startup(&[("user", user), ("database", "tls_on")]);
    if twist == Twist::QueryStuffed {
        hello.extend(&query);
    }
    visitor.write_all(&hello)?;
    if twist == Twist::QueryStuffed {
        return last_words(&mut visitor);
    }
    expect_frame(&mut visitor, 10)?;
    if twist == Twist::QueryFirst {
        visitor.write_all(&query)?;
        return last_words(&mut visitor);
    }
    let nonce =
        if twist == Twist::UnprintableNonce { "abc\x01def" } else { "fyko+d2lbbFgONRv9qkxdawL" };
    let mut exchange = Exchange::client(nonce);
    let mechanism = if twist == Twist::OtherMechanism { "SCRAM-SHA-512" } else { PLAIN };
    match twist {
        Twist::Identity => exchange.header = "n,a=postgres,".to_owned(),
        Twist::BoundWithoutTls => exchange.header = "p=tls-server-end-point,,".to_owned(),
        Twist::Extension => exchange.client_first_bare.insert_str(0, "m=new,"),
        _ => {}
    }
    visitor.write_all(&initial(mechanism, &exchange.client_first()))?;
    let first = wire::read_frame(&mut visitor)?.context("an answer")?;
    if first.tag == b'E' {
        return Ok(format!("{} {}", word(&first), last_words(&mut visitor)?));
    }
    exchange.server_first = text(&first.body);
    if twist == Twist::QueryMidway {
        visitor.write_all(&query)?;
        return last_words(&mut visitor);
    }
    let given = attribute(&exchange.server_first, 'r').context("a nonce")?.to_owned();
    let last = match twist {
        Twist::WrongPassword => exchange.client_final("wrong"),
        Twist::OtherNonce => exchange.client_final_with(&password, &format!("{given}x")),
        Twist::OwnNonceOnly => exchange.client_final_with(&password, nonce),
        Twist::Replay => {
            // The same client nonce, so that all that is new comes from the server.
            let mut earlier = begin(target, "scram_user")?;
            let last = prove(&mut earlier, &password)?;
            return replayed(target, &last);
        }
        Twist::OtherBinding => {
            exchange.binding = b"something".to_vec();
            exchange.client_final(&password)
        }
        Twist::OtherHeader => {
            exchange.header = "y,,".to_owned();
            exchange.client_final(&password)
        }
        Twist::LongMessage => {
            format!("{},x={}", exchange.client_final(&password), "x".repeat(70_000))
        }
        Twist::EmptyFinal => String::new(),
        Twist::NoProof => {
            let last = exchange.client_final(&password);
            last.split(",p=").next().unwrap_or_default().to_owned()
        }
        _ => exchange.client_final(&password),
    };
    // A long one may be refused before it is read whole.
    let _ = visitor.write_all(&message(b'p', last.as_bytes()));
    last_words(&mut visitor)
}

/// A new login with the final message of an earlier one.
fn replayed(target: &Target<'_>, last: &str) -> Result<String> {
    let mut visitor = begin(target, "scram_user")?;
    expect_frame(&mut visitor, 10)?;
    let exchange = Exchange::client("rOprNGfwEbeRWgbNEkqO9x0q");
    visitor.write_all(&initial(PLAIN, &exchange.client_first()))?;
    expect_frame(&mut visitor, 11)?;
    visitor.write_all(&message(b'p', last.as_bytes()))?;
    last_words(&mut visitor)
}

/// A login over TLS with this header, and nothing behind it in `c=`.
fn misbound(target: &Target<'_>, header: &str, mechanism: &str) -> Result<String> {
    let mut stream = encrypted(target)?;
    stream.write_all(&startup(&[("user", "scram_user"), ("database", "tls_on")]))?;
    stream.flush()?;
    expect_frame(&mut stream, 10)?;
    let mut exchange = Exchange::client("fyko+d2lbbFgONRv9qkxdawL");
    exchange.header = header.to_owned();
    exchange.binding = if header.starts_with('p') { vec![7; 32] } else { Vec::new() };
    stream.write_all(&initial(mechanism, &exchange.client_first()))?;
    stream.flush()?;
    let first = wire::read_frame(&mut stream)?.context("an answer")?;
    if first.tag == b'E' {
        return Ok(format!("{} {}", word(&first), last_words(&mut stream)?));
    }
    exchange.server_first = text(&first.body);
    let last = exchange.client_final(&target.passwords.of(Role::Scram));
    stream.write_all(&message(b'p', last.as_bytes()))?;
    stream.flush()?;
    last_words(&mut stream)
}

/// A right login with channel binding; the answer to a question.
fn bound(target: &Target<'_>) -> Result<String> {
    let mut stream = encrypted(target)?;
    stream.write_all(&startup(&[("user", "scram_user"), ("database", "tls_on")]))?;
    stream.flush()?;
    let offer = text(&expect_frame(&mut stream, 10)?);
    ensure!(offer == format!("{PLUS}\0{PLAIN}\0\0"), "offered {offer:?}");
    let mut exchange = Exchange::client("fyko+d2lbbFgONRv9qkxdawL");
    exchange.header = "p=tls-server-end-point,,".to_owned();
    exchange.binding = tls::end_point(&stream.conn)?;
    stream.write_all(&initial(PLUS, &exchange.client_first()))?;
    stream.flush()?;
    exchange.server_first = text(&expect_frame(&mut stream, 11)?);
    let password = target.passwords.of(Role::Scram);
    stream.write_all(&message(b'p', exchange.client_final(&password).as_bytes()))?;
    stream.flush()?;
    let signature = text(&expect_frame(&mut stream, 12)?);
    ensure!(signature == exchange.server_final(&password), "the server proved nothing");
    Session::finish_start(stream)?.value("select 6 * 7")
}

type Encrypted = rustls::StreamOwned<rustls::ClientConnection, Visitor>;

fn encrypted(target: &Target<'_>) -> Result<Encrypted> {
    let mut visitor = target.visit()?;
    visitor.write_all(&untyped(&SSL_REQUEST.to_be_bytes()))?;
    let mut answer = [0];
    visitor.read_exact(&mut answer)?;
    ensure!(answer == *b"S", "TLS was declined");
    tls::connect(&tls::client(&target.roots, &[tls::ALPN])?, pki::HOST, visitor)
}

/// A connection in clear text with its startup message sent.
fn begin(target: &Target<'_>, user: &str) -> Result<Visitor> {
    let mut visitor = target.visit()?;
    visitor.write_all(&startup(&[("user", user), ("database", "tls_on")]))?;
    Ok(visitor)
}

/// Body of an `Authentication` message of this kind, behind the kind.
fn expect_frame(stream: &mut impl Read, kind: u32) -> Result<Vec<u8>> {
    let frame = wire::read_frame(stream)?.context("the connection ended")?;
    let head = kind.to_be_bytes();
    ensure!(frame.tag == b'R' && frame.body.starts_with(&head), "{}, not R{kind}", word(&frame));
    Ok(frame.body[4..].to_vec())
}

fn initial(mechanism: &str, data: &str) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("short").to_be_bytes();
    message(b'p', &[&wire::text(mechanism)[..], &length, data.as_bytes()].concat())
}

/// Text of a SASL message; of a whole `Authentication` body when its kind is still there.
fn text(body: &[u8]) -> String {
    let body = if body.first() == Some(&0) { body.get(4..).unwrap_or_default() } else { body };
    String::from_utf8_lossy(body).into_owned()
}
