//! Verifiers from the server itself, over a connection of our own.
//!
//! No parameter of a client ever touches this connection (CVE-2025-12819): its startup packet is ours to the last byte, and
//! the role that is asked about is bound as a parameter, never put into the text.

use std::{
    collections::HashMap,
    hash::Hash,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant as Clock,
};

use secrecy::ExposeSecret;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout_at,
};
use zeroize::Zeroizing;

use super::{
    credentials::Asked,
    leg::Leg,
    reach::{self, ReachError, Reached},
    session::{binding, random},
};
use crate::{
    config::{self, AuthRequire, ROLE_BYTES_MAX},
    pg::{
        self,
        backend::{Authentication, Backend, ErrorHead},
        codec::{HEADER_BYTES, Header},
        error::{BytesFault, SequenceFault, Side},
        frontend::{Bind, Frontend, Parse, SaslInitialResponse},
        handshake::{self, Refusal, course::Demand},
        list::Counted,
        scram::{self, Nonce, ScramError, Verifier, VerifierError},
        startup::{self, Parameters},
    },
    secrets::{self, SecretError},
};

/// Longest message that such a connection is answered with, in bytes.
const MESSAGE_BYTES_MAX: u32 = 64 * 1024;
/// Lookups at one server at the same time, each a connection and a SCRAM exchange: anybody can ask for one, before any proof.
const AT_ONCE_MAX: usize = 4;
/// How the server's log and `pg_stat_activity` name it.
const APPLICATION_NAME: &str = "pgward verifier lookup";

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum LookupError {
    /// No connection.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// It broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// It was closed.
    #[error("the server closed the connection")]
    Closed,
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// The role's password could not be read.
    #[error("the password of the lookup's role")]
    Password(#[from] SecretError),
    /// The server wants a password and the configuration names none.
    #[error("the server asks for a password, and `destination.auth.lookup` has none")]
    NoPassword,
    /// The server asks for something that is not done for a privileged role.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server did not prove itself.
    #[error("the server's SCRAM exchange failed")]
    Scram(#[from] ScramError),
    /// The server said no.
    #[error("the server refused: SQLSTATE {0}")]
    Server(String),
    /// The server broke the protocol.
    #[error(transparent)]
    Protocol(#[from] pg::Error),
    /// More than one row.
    #[error("the query found more than one row")]
    ManyRows,
    /// What was found is none.
    #[error("what the query found is no verifier")]
    NoVerifier(#[from] VerifierError),
}

/// Whether a server can have a role of that name. `false`: it need not be asked, and nothing need be kept.
///
/// The name is bound as text in UTF-8, in which a server refuses anything else (SQLSTATE 22021); no name in its catalogue is
/// longer than [`ROLE_BYTES_MAX`].
pub(super) fn may_exist(role: &[u8]) -> bool {
    role.len() <= ROLE_BYTES_MAX && std::str::from_utf8(role).is_ok()
}

/// A destination by its place in the configuration, a server of it, and the network namespace it is reached from.
pub(super) type Server = (usize, SocketAddr, u64);

/// Lookups under way, at most [`AT_ONCE_MAX`] at each server: others wait for a place.
///
/// By server and namespace rather than for a whole destination: a server that answers slowly on purpose, in a namespace of its
/// own, keeps nobody else waiting.
pub(super) type Lookups = Places<Server>;

/// Places by key. A key that nobody uses takes no room.
#[derive(Debug)]
pub(super) struct Places<K: Eq + Hash + Copy>(Mutex<HashMap<K, Users>>);

#[derive(Debug)]
struct Users {
    places: Arc<Semaphore>,
    /// Who has a place or waits for one.
    count: usize,
}

impl<K: Eq + Hash + Copy> Default for Places<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
struct Place<'p, K: Eq + Hash + Copy> {
    _permit: OwnedSemaphorePermit,
    _user: User<'p, K>,
}

#[derive(Debug)]
struct User<'p, K: Eq + Hash + Copy> {
    all: &'p Places<K>,
    key: K,
}

impl<K: Eq + Hash + Copy> Places<K> {
    /// Waits for one; who came first gets it first.
    async fn take(&self, key: K) -> Place<'_, K> {
        let places = {
            let mut all = self.locked();
            let free = || Users { places: Arc::new(Semaphore::new(AT_ONCE_MAX)), count: 0 };
            let users = all.entry(key).or_insert_with(free);
            users.count += 1;
            users.places.clone()
        };
        let user = User { all: self, key };
        let permit = places.acquire_owned().await.expect("it is never closed");
        Place { _permit: permit, _user: user }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<K, Users>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Copy> Drop for User<'_, K> {
    fn drop(&mut self) {
        let mut all = self.all.locked();
        if let Some(users) = all.get_mut(&self.key) {
            users.count -= 1;
            if users.count == 0 {
                all.remove(&self.key);
            }
        }
    }
}

/// Asks the server for the verifier of a role. `None`: it has no such role, the role may not log in, or it has no password.
pub(super) async fn verifier(
    asked: &Asked<'_>,
    lookup: &config::Lookup,
) -> Result<Option<Verifier>, LookupError> {
    let Asked { context, route, flow, role: _, deadline } = asked;
    let server = (route.destination.index, route.address, flow.opener.netns_cookie);
    let look_up = async {
        let _place = context.destinations.lookups.take(server).await;
        look_up(asked, lookup).await
    };
    timeout_at(*deadline, look_up).await.map_err(|_| LookupError::TimedOut)?
}

async fn look_up(
    asked: &Asked<'_>,
    lookup: &config::Lookup,
) -> Result<Option<Verifier>, LookupError> {
    let Asked { context, route, flow, role: _, deadline } = asked;
    let Reached { leg, described, tls: _ } =
        reach::reach(&context.dialer, flow, &route.trusted(), None, *deadline).await?;
    let mut talk = Talk { leg, read: Zeroizing::new(Vec::new()) };
    let mut hello = Vec::new();
    let parameters: Parameters = [
        ("user", lookup.login.as_str()),
        ("database", &lookup.database),
        ("application_name", APPLICATION_NAME),
        ("client_encoding", "UTF8"),
        ("options", "-c search_path=pg_catalog"),
    ]
    .into_iter()
    .collect();
    startup::write_startup(&mut hello, 0, &parameters).expect("names are bounded");
    talk.send(&hello).await?;
    log_in(asked, &mut talk, described).await?;
    let answer = query(asked, lookup, &mut talk).await;
    // Goodbye, as a courtesy: the answer does not depend on it.
    let mut goodbye = Vec::new();
    Frontend::Terminate.write(&mut goodbye).expect("short");
    let _ = talk.send(&goodbye).await;
    answer
}

/// Until `ReadyForQuery`.
async fn log_in(
    asked: &Asked<'_>,
    talk: &mut Talk,
    described: handshake::ServerLeg,
) -> Result<(), LookupError> {
    let auth = &asked.route.destination.settings.auth;
    let first = talk.message().await?;
    let Backend::Authentication(request) = first.read()? else { return Err(first.unexpected()) };
    let demand = Demand::of(&request, described.certificate).ok_or_else(|| first.unexpected())?;
    let wanted = binding(asked.route.destination.settings.server.channel_binding);
    match demand {
        Demand::Scram { plain, plus } => {
            let bound = handshake::bind_to_server(&described.channel, wanted, plain, plus)?;
            prove(asked, talk, bound).await?;
            let accepted = talk.message().await?;
            if !matches!(accepted.read()?, Backend::Authentication(Authentication::Ok)) {
                return Err(accepted.unexpected());
            }
        }
        _ if wanted == handshake::Binding::Require => {
            return Err(Refusal::ServerWithoutBinding.into());
        }
        Demand::Certificate => {}
        Demand::Nothing if auth.require == AuthRequire::Any => {}
        // Nothing weaker for a role that can read all verifiers.
        Demand::Nothing
        | Demand::Cleartext
        | Demand::Md5 { .. }
        | Demand::Gss
        | Demand::Sspi
        | Demand::Oauth
        | Demand::OtherSasl
        | Demand::Obsolete => return Err(Refusal::Method(demand).into()),
    }
    loop {
        let message = talk.message().await?;
        match message.read()? {
            Backend::ParameterStatus { .. } | Backend::BackendKeyData { .. } => {}
            Backend::ReadyForQuery(_) => return Ok(()),
            _ => return Err(message.unexpected()),
        }
    }
}

async fn prove(
    asked: &Asked<'_>,
    talk: &mut Talk,
    bound: scram::ClientBinding,
) -> Result<(), LookupError> {
    let password = asked.route.destination.lookup_password.as_ref();
    let password = password.ok_or(LookupError::NoPassword)?.read(Clock::now()).await?;
    let (client, mechanism, first) = scram::Client::new(bound, Nonce::from_random(random()));
    let mut out = Zeroizing::new(Vec::new());
    SaslInitialResponse { mechanism, data: Some(&first) }.write(&mut out).expect("short");
    talk.send(&out).await?;
    let message = talk.message().await?;
    let Backend::Authentication(Authentication::SaslContinue(data)) = message.read()? else {
        return Err(message.unexpected());
    };
    let challenge = client.handle_first(data)?;
    let keys = secrets::derive(&password, challenge.salt(), challenge.iterations()).await?;
    let (awaiting, last) = challenge.answer(&keys);
    out.clear();
    Frontend::Authentication(last.expose_secret()).write(&mut out).expect("short");
    talk.send(&out).await?;
    let message = match talk.message().await {
        Err(LookupError::Server(code)) if code.starts_with("28") => {
            // The next login reads it anew.
            if let Some(source) = &asked.route.destination.lookup_password {
                source.evict(&password).await;
            }
            return Err(LookupError::Server(code));
        }
        other => other?,
    };
    let Backend::Authentication(Authentication::SaslFinal(data)) = message.read()? else {
        return Err(message.unexpected());
    };
    Ok(awaiting.handle_final(data)?)
}

async fn query(
    asked: &Asked<'_>,
    lookup: &config::Lookup,
    talk: &mut Talk,
) -> Result<Option<Verifier>, LookupError> {
    let none = || Counted::new([]).expect("none");
    let mut out = Vec::new();
    let text = lookup.query.as_bytes();
    let parse = Parse { name: b"", text, types: Counted::new([TEXT_OID]).expect("one") };
    let values = Counted::new([Some(asked.role)]).expect("one");
    let bind = Bind {
        portal: b"",
        statement: b"",
        formats: Counted::new([]).expect("none"),
        values,
        result_formats: none(),
    };
    for message in [
        Frontend::Parse(parse),
        Frontend::Bind(bind),
        Frontend::Execute { portal: b"", rows_max: 0 },
        Frontend::Sync,
    ] {
        message.write(&mut out).expect("the query and the role are bounded and have no zeros");
    }
    talk.send(&out).await?;
    let mut rows = 0;
    let mut found = None;
    loop {
        let message = talk.message().await?;
        match message.read()? {
            Backend::DataRow(values) => {
                rows += 1;
                if rows > 1 {
                    return Err(LookupError::ManyRows);
                }
                // A role with an MD5 secret has no verifier.
                let secret = values.iter().last().flatten().filter(|s| !s.starts_with(b"md5"));
                found = secret.map(Verifier::parse).transpose()?;
            }
            Backend::ParseComplete
            | Backend::BindComplete
            | Backend::CommandComplete(_)
            | Backend::EmptyQueryResponse
            | Backend::ParameterStatus { .. } => {}
            Backend::ReadyForQuery(_) => return Ok(found),
            _ => return Err(message.unexpected()),
        }
    }
}

/// `text` (`src/include/catalog/pg_type.dat`).
const TEXT_OID: u32 = 25;

/// A conversation, one message after the other.
struct Talk {
    leg: Leg,
    read: Zeroizing<Vec<u8>>,
}

struct Message {
    tag: u8,
    body: Zeroizing<Vec<u8>>,
}

impl Message {
    fn read(&self) -> Result<Backend<'_>, LookupError> {
        Backend::read(self.tag, &self.body).map_err(|fault| protocol(fault).into())
    }

    fn unexpected(&self) -> LookupError {
        let fault = SequenceFault::UnexpectedAnswer { tag: self.tag, awaited: "a verifier lookup" };
        pg::Error::Sequence { side: Side::Server, fault }.into()
    }
}

fn protocol(fault: BytesFault) -> pg::Error {
    pg::Error::Bytes { side: Side::Server, fault }
}

impl Talk {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), LookupError> {
        self.leg.write_all(bytes).await?;
        Ok(self.leg.flush().await?)
    }

    /// The next message; an error of the server is one of ours. Notices, which may come at any time, are passed over.
    async fn message(&mut self) -> Result<Message, LookupError> {
        loop {
            if let Some(header) = Header::read(&self.read) {
                let body = header.body_bytes(MESSAGE_BYTES_MAX).map_err(protocol)? as usize;
                let end = HEADER_BYTES + body;
                if self.read.len() >= end {
                    let message = Message {
                        tag: header.tag,
                        body: Zeroizing::new(self.read[HEADER_BYTES..end].to_vec()),
                    };
                    self.read.drain(..end);
                    match message.read()? {
                        Backend::NoticeResponse(_) => continue,
                        Backend::ErrorResponse(_) => {
                            let code = ErrorHead::read(&message.body).sqlstate;
                            let code = code.unwrap_or(*b"XX000");
                            let code = String::from_utf8_lossy(&code).into_owned();
                            return Err(LookupError::Server(code));
                        }
                        _ => {}
                    }
                    return Ok(message);
                }
            }
            let mut chunk = Zeroizing::new([0_u8; 4096]);
            match self.leg.read(&mut *chunk).await? {
                0 => return Err(LookupError::Closed),
                count => self.read.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        task::{Context, Poll, Waker},
    };

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn names_that_are_no_roles_are_not_asked_about() {
        let long = "ä".repeat(ROLE_BYTES_MAX / 2 + 1);
        for (role, expected) in [
            (&b"app"[..], true),
            ("Ünïcode".as_bytes(), true),
            (&long.as_bytes()[..62], true),
            (long.as_bytes(), false),
            (&[b'x'; ROLE_BYTES_MAX], true),
            (&[b'x'; ROLE_BYTES_MAX + 1], false),
            (b"caf\xe9", false),
            (&long.as_bytes()[..61], false),
        ] {
            assert_eq!(may_exist(role), expected, "{role:?}");
        }
    }

    #[test]
    fn a_server_gets_few_lookups_at_once_and_others_do_not_wait_for_it() {
        let places = Places::<u8>::default();
        let take = |key| {
            let mut taken = Box::pin(places.take(key));
            let first = poll(taken.as_mut());
            (first, taken)
        };
        let mut held = Vec::new();
        for _ in 0..AT_ONCE_MAX {
            let (Poll::Ready(place), _) = take(1) else { panic!("no place") };
            held.push(place);
        }
        let (Poll::Pending, mut waiting) = take(1) else { panic!("one too many") };
        let (Poll::Pending, given_up) = take(1) else { panic!("one too many") };
        assert!(take(2).0.is_ready(), "another server");
        drop(given_up);
        held.pop();
        let Poll::Ready(place) = poll(waiting.as_mut()) else { panic!("a place is free") };
        drop(waiting);
        assert!(take(1).0.is_pending());
        assert_eq!(places.locked().len(), 1);
        held.clear();
        drop(place);
        assert!(places.locked().is_empty(), "nobody is there");
    }

    #[tokio::test]
    async fn notices_are_passed_over_wherever_they_come() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (client, mut server) = (client.expect("connected"), server.expect("accepted").0);
        let notice = b"N\0\0\0\x14SNOTICE\0Mhello\0\0";
        let ok = b"R\0\0\0\x08\0\0\0\0";
        for part in [&notice[..], notice, ok, notice, b"E\0\0\0\x0cC28P01\0\0"] {
            server.write_all(part).await.expect("written");
        }
        let mut talk = Talk { leg: Leg::clear(client, 0), read: Zeroizing::new(Vec::new()) };
        let message = talk.message().await.expect("an answer");
        let read = message.read().expect("well-formed");
        assert!(matches!(read, Backend::Authentication(Authentication::Ok)));
        match talk.message().await {
            Err(LookupError::Server(code)) => assert_eq!(code, "28P01"),
            other => panic!("not the error: {:?}", other.map(|message| message.tag)),
        }
    }
}
