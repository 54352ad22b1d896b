//! A server that wants what it should not get.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pgward_tests::agent::Agent;
use pgward_tests::host;
use pgward_tests::pki::{self, Pki};
use pgward_tests::postgres::{Cluster, Version};
use pgward_tests::scene::Scene;
use pgward_tests::scram::{Exchange, attribute, encode};
use pgward_tests::tls;
use pgward_tests::wait::PATIENCE;
use pgward_tests::wire::{self, message, text};
use rustls::ServerConfig;

use crate::{Result, gate};

const PASSWORD: &str = "the-upstream-password-5b1f";
const APPLICATION_PASSWORD: &str = "the-application-password-99c2";

/// In what a hostile server says before anybody has reason to believe it.
const LIE: &str = "lie_of_a_stranger";

/// Longest time for a refusal: a bounded number of iterations takes less, an unbounded one hours.
const SOON: Duration = Duration::from_secs(10);

/// What the server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Malice {
    /// Nothing: shows that the rest of the script is right.
    None,
    /// Clear text behind its `S` (CVE-2021-23222).
    Stuffed,
    /// More iterations than anyone computes.
    Iterations,
    /// So few that a proof is cheap to guess from.
    OneIteration,
    /// No number.
    NoIterations,
    /// A nonce that is not the client's.
    OtherNonce,
    /// The client's nonce with nothing added.
    BareNonce,
    /// A nonce of many kilobytes.
    LongNonce,
    /// A salt that is none.
    BadSalt,
    /// `AuthenticationOk` in place of its own proof.
    NoSignature,
    /// `AuthenticationOk` in place of salt and nonce.
    EarlyOk,
    /// A wrong proof of its own.
    WrongSignature,
    /// Asks for the password in clear text in the middle of SCRAM.
    Downgrade,
    /// Offers channel binding where there is no channel.
    PlusWithoutTls,
    /// A message of two gigabytes.
    Endless,
}

/// With what psql says to it, or nothing where it would compute for hours.
const ALL: [(Malice, Option<&str>); 15] = [
    (Malice::None, Some("logged in")),
    (Malice::Stuffed, Some("received unencrypted data after SSL response")),
    (Malice::Iterations, None),
    (Malice::OneIteration, Some("logged in")),
    (Malice::NoIterations, Some("malformed SCRAM message")),
    (Malice::OtherNonce, Some("nonce mismatch")),
    (Malice::BareNonce, Some("logged in")),
    (Malice::LongNonce, Some("expected authentication request")),
    (Malice::BadSalt, Some("malformed SCRAM message")),
    (Malice::NoSignature, Some("logged in")),
    (Malice::EarlyOk, Some("logged in")),
    (Malice::WrongSignature, Some("incorrect server signature")),
    (Malice::Downgrade, Some("logged in")),
    (Malice::PlusWithoutTls, Some("SCRAM-SHA-256-PLUS authentication over a non-SSL connection")),
    (Malice::Endless, Some("expected authentication request")),
];

#[test]
fn psql_meets_hostile_servers_directly() -> Result {
    gate!();
    let programs = Version::Debian.programs()?;
    let pki = Pki::new(&[])?;
    let mut faults = Vec::new();
    for (malice, expected) in ALL {
        let Some(expected) = expected else { continue };
        let server = Hostile::start(malice, &pki)?;
        let mut psql = psql(&programs, server.address, "scram_user", PASSWORD);
        let told = told(&host::output(&mut psql)?);
        eprintln!("{malice:?}: {}", told.trim_end());
        if !told.contains(expected) {
            faults.push(format!("{malice:?}: expected `{expected}`, found `{told}`"));
        }
        // The one trick that works on psql: what the agent must not fall for.
        let learned = server.heard(PASSWORD);
        ensure!(learned == (malice == Malice::Downgrade), "{malice:?}: learned {learned}");
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn hostile_servers_get_nothing_from_the_agent() -> Result {
    gate!();
    let programs = Version::Debian.programs()?;
    let pki = Pki::new(&[])?;
    let mut faults = Vec::new();
    for (malice, _) in ALL {
        let server = Hostile::start(malice, &pki)?;
        let scene = scene(&pki, server.address)?;
        let started = Instant::now();
        let mut psql = psql(&programs, server.address, "app", APPLICATION_PASSWORD);
        let output = scene.output(&mut psql)?;
        let told = told(&output);
        eprintln!("{malice:?}: {} ({} ms)", told.trim_end(), started.elapsed().as_millis());
        let refused = !output.status.success() && told.contains("FATAL") && !told.contains(LIE);
        let right = if malice == Malice::None { told.contains("logged in") } else { refused };
        if !right || server.heard(PASSWORD) || started.elapsed() > SOON {
            faults.push(format!("{malice:?} after {:?}: {told}", started.elapsed()));
        }
        scene.agent.finish()?;
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

fn scene(pki: &Pki, server: SocketAddr) -> Result<Scene> {
    let upstream = pki.write_secret("upstream-password", PASSWORD)?;
    let application = pki.write_secret("application-password", APPLICATION_PASSWORD)?;
    let destination = format!(
        "name = \"hostile\"\n[destination.server]\ntls = \"prefer\"\n[destination.auth]\nmode = \"terminate\"\n\
         [[destination.account]]\nrole = \"app\"\nlogin = \"scram_user\"\n\
         application_password_file = {application:?}\npassword_file = {upstream:?}\n"
    );
    let builder = Agent::builder().intercept(server.port()).destination(&destination);
    let scene = Scene::with("hostile", builder)?;
    for (label, secret) in [("upstream", PASSWORD), ("application", APPLICATION_PASSWORD)] {
        scene.agent.secrets().add(&format!("{label} password"), secret.as_bytes());
    }
    Ok(scene)
}

fn psql(
    programs: &std::path::Path,
    address: SocketAddr,
    user: &str,
    password: &str,
) -> std::process::Command {
    // Whoever is talked into two thousand million iterations does not come back.
    let mut psql = std::process::Command::new("timeout");
    psql.arg(PATIENCE.as_secs().to_string()).arg(programs.join("psql"));
    Cluster::without_settings(&mut psql);
    psql.env("PGPASSWORD", password).args(["-wXAtc", "\\echo logged in"]);
    psql.arg(format!(
        "host={} port={} user={user} dbname=d sslmode=prefer gssencmode=disable connect_timeout=20",
        address.ip(),
        address.port()
    ));
    psql
}

fn told(output: &std::process::Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// The server. It lives until the process ends: nothing waits for a thread that a peer may hold.
struct Hostile {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Hostile {
    fn start(malice: Malice, pki: &Pki) -> Result<Self> {
        let tls = tls::server(&pki.server(pki::Server::Good))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, host::free_port()?))?;
        let address = listener.local_addr()?;
        let heard = Arc::default();
        let theirs = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (heard, tls) = (Arc::clone(&theirs), Arc::clone(&tls));
                // An error is the client's end of it.
                std::thread::spawn(move || serve(stream, malice, &heard, &tls));
            }
        });
        Ok(Self { address, heard })
    }

    /// Whether this came in from anybody.
    fn heard(&self, text: &str) -> bool {
        let heard = self.heard.lock().expect("no thread panics with the lock");
        heard.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// A stream that keeps what it reads.
struct Wiretap<'t> {
    stream: TcpStream,
    heard: &'t Mutex<Vec<u8>>,
}

impl Read for Wiretap<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        let mut heard = self.heard.lock().expect("no thread panics with the lock");
        heard.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

fn serve(
    stream: TcpStream,
    malice: Malice,
    heard: &Mutex<Vec<u8>>,
    tls: &Arc<ServerConfig>,
) -> Result {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = Wiretap { stream, heard };
    if !greet(&mut stream, malice, tls)? {
        return Ok(());
    }
    let mechanism: &[u8] = match malice {
        Malice::PlusWithoutTls => b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
        _ => b"SCRAM-SHA-256\0\0",
    };
    say(&mut stream, 10, mechanism)?;
    let frame = wire::read_frame(&mut stream)?.context("a first message")?;
    let client_first = String::from_utf8_lossy(&frame.body);
    let bare = client_first.split_once(",,").context("a header")?.1.to_owned();
    let nonce = attribute(&bare, 'r').context("a nonce")?.to_owned();
    let mut exchange =
        Exchange { header: "n,,".to_owned(), client_first_bare: bare, ..Exchange::default() };
    if malice == Malice::EarlyOk {
        return welcome(&mut stream);
    }
    if malice == Malice::Downgrade {
        say(&mut stream, 3, b"")?;
        wire::read_frame(&mut stream)?.context("a password")?;
        return welcome(&mut stream);
    }
    if malice == Malice::Endless {
        stream.stream.write_all(&[b'R', 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11])?;
        // As much as the peer takes.
        while stream.stream.write_all(&[b'x'; 8192]).is_ok() {}
        return Ok(());
    }
    let (mut given, mut salt, mut rounds) =
        (format!("{nonce}server"), encode(b"sixteen bytes ok"), "4096".to_owned());
    match malice {
        Malice::Iterations => rounds = "2000000000".to_owned(),
        Malice::OneIteration => rounds = "1".to_owned(),
        Malice::NoIterations => rounds = "-5".to_owned(),
        Malice::OtherNonce => given = "another".to_owned(),
        Malice::BareNonce => given = nonce,
        Malice::LongNonce => given.push_str(&"x".repeat(60_000)),
        Malice::BadSalt => salt = "***".to_owned(),
        _ => {}
    }
    exchange.server_first = format!("r={given},s={salt},i={rounds}");
    say(&mut stream, 11, exchange.server_first.as_bytes())?;
    let last = wire::read_frame(&mut stream)?.context("a final message")?;
    ensure!(last.tag == b'p', "a final message");
    match malice {
        Malice::NoSignature => {}
        Malice::WrongSignature => {
            say(&mut stream, 12, format!("v={}", encode(&[7; 32])).as_bytes())?
        }
        _ => say(&mut stream, 12, exchange.server_final(PASSWORD).as_bytes())?,
    }
    welcome(&mut stream)
}

/// Up to the startup message; false when the show is over.
fn greet(stream: &mut Wiretap<'_>, malice: Malice, tls: &Arc<ServerConfig>) -> Result<bool> {
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let code = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let mut rest = vec![0; usize::try_from(length)?.saturating_sub(8).min(10_000)];
        stream.read_exact(&mut rest)?;
        match code {
            wire::SSL_REQUEST if malice == Malice::Stuffed => {
                let lie = format!("SFATAL\0VFATAL\0C57P01\0M{LIE}\0\0");
                stream.stream.write_all(&[b"S", &message(b'E', lie.as_bytes())[..]].concat())?;
                // The trick is to go on as if nothing had happened.
                let mut stream = tls::accept(tls, &mut stream.stream)?;
                let _ = stream.read_to_end(&mut Vec::new());
                return Ok(false);
            }
            wire::SSL_REQUEST | wire::GSSENC_REQUEST => stream.stream.write_all(b"N")?,
            wire::CANCEL_REQUEST => return Ok(false),
            _ => return Ok(true),
        }
    }
}

fn say(stream: &mut Wiretap<'_>, kind: u32, data: &[u8]) -> Result {
    let body = [&kind.to_be_bytes()[..], data].concat();
    Ok(stream.stream.write_all(&message(b'R', &body))?)
}

/// What a server says to whom it let in; then waits for the end.
fn welcome(stream: &mut Wiretap<'_>) -> Result {
    say(stream, 0, b"")?;
    let parameter = [text("server_version"), text("15.0")].concat();
    let hello = [
        message(b'S', &parameter),
        message(b'K', &[0, 0, 4, 210, 1, 2, 3, 4]),
        message(b'Z', b"I"),
    ];
    stream.stream.write_all(&hello.concat())?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}
