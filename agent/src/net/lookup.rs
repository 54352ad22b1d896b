//! Verifiers from the server itself, over a connection of our own.
//!
//! No parameter of a client ever touches this connection (CVE-2025-12819): its startup packet is ours to the last byte, and
//! the role that is asked about is bound as a parameter, never put into the text.

use std::{io, time::Instant as Clock};

use secrecy::{ExposeSecret, SecretSlice};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
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
    config::{self, AuthRequire},
    pg::{
        self,
        backend::{Authentication, Backend, ErrorHead},
        codec::{HEADER_BYTES, Header},
        error::{BytesFault, SequenceFault, Side},
        frontend::{Bind, Frontend, Parse, SaslInitialResponse},
        handshake::{self, Refusal, course::Demand},
        list::Counted,
        scram::{self, Keys, Nonce, ScramError, Verifier, VerifierError},
        startup::{self, Parameters},
    },
    secrets::SecretError,
};

/// Longest message that such a connection is answered with, in bytes.
const MESSAGE_BYTES_MAX: u32 = 64 * 1024;
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

/// Asks the server for the verifier of a role. `None`: it has no such role, the role may not log in, or it has no password.
pub(super) async fn verifier(
    asked: &Asked<'_>,
    lookup: &config::Lookup,
) -> Result<Option<Verifier>, LookupError> {
    timeout_at(asked.deadline, look_up(asked, lookup)).await.map_err(|_| LookupError::TimedOut)?
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
    match demand {
        Demand::Scram { plain, plus } => {
            let wanted = binding(asked.route.destination.settings.server.channel_binding);
            let bound = handshake::bind_to_server(&described.channel, wanted, plain, plus)?;
            prove(asked, talk, bound).await?;
            let accepted = talk.message().await?;
            if !matches!(accepted.read()?, Backend::Authentication(Authentication::Ok)) {
                return Err(accepted.unexpected());
            }
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
            Backend::ParameterStatus { .. }
            | Backend::BackendKeyData { .. }
            | Backend::NoticeResponse(_) => {}
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
    let keys = derive(&password, challenge.salt(), challenge.iterations()).await;
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

/// Many rounds of a hash, off the worker.
async fn derive(password: &std::sync::Arc<SecretSlice<u8>>, salt: &[u8], iterations: u32) -> Keys {
    let (password, salt) = (password.clone(), salt.to_vec());
    let derived = tokio::task::spawn_blocking(move || {
        Keys::derive(password.expose_secret(), &salt, iterations)
    });
    derived.await.expect("deriving keys does not panic")
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
            | Backend::ParameterStatus { .. }
            | Backend::NoticeResponse(_) => {}
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

    /// The next message; an error of the server is one of ours.
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
                    if header.tag == b'E' {
                        let code = ErrorHead::read(&message.body).sqlstate.unwrap_or(*b"XX000");
                        let code = String::from_utf8_lossy(&code).into_owned();
                        return Err(LookupError::Server(code));
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
