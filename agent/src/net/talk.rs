//! Conversations of the agent's own with a server: a login and queries, one message after the other.
//!
//! No parameter of a client ever touches such a connection (CVE-2025-12819): its startup packet is ours to the last byte, and
//! values are bound as parameters, never put into the text.

use std::{io, time::Instant as Clock};

use secrecy::ExposeSecret;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{
    leg::Leg,
    session::{binding, random},
};
use crate::{
    config::{AuthRequire, ChannelBinding},
    pg::{
        self,
        backend::{Authentication, Backend, ErrorHead},
        codec::{HEADER_BYTES, Header},
        error::{BytesFault, SequenceFault, Side},
        frontend::{Bind, Frontend, Parse, SaslInitialResponse, Values},
        handshake::{self, Refusal, ServerLeg, course::Demand},
        list::Counted,
        scram::{self, Nonce, ScramError},
        startup::{self, Parameters},
    },
    secrets::{self, Password, SecretError},
};

/// Longest message that such a connection is answered with, in bytes.
const MESSAGE_BYTES_MAX: u32 = 64 * 1024;
/// `text` (`src/include/catalog/pg_type.dat`).
pub const TEXT_OID: u32 = 25;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum TalkError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// It was closed.
    #[error("the server closed the connection")]
    Closed,
    /// The role's password could not be read.
    #[error("the password of the agent's role")]
    Password(#[from] SecretError),
    /// The server wants a password and the configuration names none.
    #[error(
        "the server asks for a password, and the configuration names none for the agent's role"
    )]
    NoPassword,
    /// The server asks for something that is not done for a role of the agent's own.
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
}

/// Who logs in, and how.
#[derive(Debug)]
pub struct Login<'l> {
    /// Role.
    pub user: &'l str,
    /// Database.
    pub database: &'l str,
    /// How the server's log and `pg_stat_activity` name it.
    pub application_name: &'l str,
    /// `options` of the startup packet.
    pub options: &'l str,
    /// Password of the role.
    pub password: Option<&'l Password>,
    /// Whether SCRAM is bound to the connection.
    pub binding: ChannelBinding,
    /// Whether a server may let the role in without asking for anything.
    pub require: AuthRequire,
}

/// A query with its parameters, in text format.
#[derive(Debug)]
pub struct Question<'q> {
    /// The query.
    pub text: &'q [u8],
    /// Types of the first parameters; the server finds those of the rest.
    pub types: &'q [u32],
    /// Values.
    pub values: &'q [Option<&'q [u8]>],
}

/// A conversation, one message after the other.
#[derive(Debug)]
pub struct Talk {
    leg: Leg,
    read: Zeroizing<Vec<u8>>,
}

struct Message {
    tag: u8,
    body: Zeroizing<Vec<u8>>,
}

impl Talk {
    /// Logs in over a connection that was just made.
    pub async fn open(
        leg: Leg,
        described: ServerLeg,
        login: &Login<'_>,
    ) -> Result<Self, TalkError> {
        let mut talk = Self { leg, read: Zeroizing::new(Vec::new()) };
        let mut hello = Vec::new();
        let parameters: Parameters = [
            ("user", login.user),
            ("database", login.database),
            ("application_name", login.application_name),
            ("client_encoding", "UTF8"),
            ("options", login.options),
        ]
        .into_iter()
        .collect();
        startup::write_startup(&mut hello, 0, &parameters).expect("names are bounded");
        talk.send(&hello).await?;
        talk.log_in(described, login).await?;
        Ok(talk)
    }

    /// Asks, and hands each row to `row`. Behind an error the conversation is over.
    pub async fn query<E: From<TalkError>>(
        &mut self,
        question: &Question<'_>,
        mut row: impl FnMut(Values<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.ask(question).await?;
        loop {
            let message = self.message().await?;
            match message.read()? {
                Backend::DataRow(values) => row(values)?,
                Backend::ParseComplete
                | Backend::BindComplete
                | Backend::CommandComplete(_)
                | Backend::EmptyQueryResponse
                | Backend::ParameterStatus { .. } => {}
                Backend::ReadyForQuery(_) => return Ok(()),
                _ => return Err(message.unexpected().into()),
            }
        }
    }

    /// Goodbye, as a courtesy: no answer depends on it.
    pub async fn close(mut self) {
        let mut goodbye = Vec::new();
        Frontend::Terminate.write(&mut goodbye).expect("short");
        let _ = self.send(&goodbye).await;
    }

    async fn ask(&mut self, question: &Question<'_>) -> Result<(), TalkError> {
        let mut out = Vec::new();
        let types = Counted::new(question.types.iter().copied()).expect("few");
        let parse = Parse { name: b"", text: question.text, types };
        let bind = Bind {
            portal: b"",
            statement: b"",
            formats: Counted::new([]).expect("none"),
            values: Counted::new(question.values.iter().copied()).expect("few"),
            result_formats: Counted::new([]).expect("none"),
        };
        for message in [
            Frontend::Parse(parse),
            Frontend::Bind(bind),
            Frontend::Execute { portal: b"", rows_max: 0 },
            Frontend::Sync,
        ] {
            message
                .write(&mut out)
                .expect("the query and its values are bounded and have no zeros");
        }
        self.send(&out).await
    }

    /// Until `ReadyForQuery`.
    async fn log_in(&mut self, described: ServerLeg, login: &Login<'_>) -> Result<(), TalkError> {
        let first = self.message().await?;
        let Backend::Authentication(request) = first.read()? else {
            return Err(first.unexpected());
        };
        let demand =
            Demand::of(&request, described.certificate).ok_or_else(|| first.unexpected())?;
        let wanted = binding(login.binding);
        match demand {
            Demand::Scram { plain, plus } => {
                let bound = handshake::bind_to_server(&described.channel, wanted, plain, plus)?;
                self.prove(bound, login.password).await?;
                let accepted = self.message().await?;
                if !matches!(accepted.read()?, Backend::Authentication(Authentication::Ok)) {
                    return Err(accepted.unexpected());
                }
            }
            _ if wanted == handshake::Binding::Require => {
                return Err(Refusal::ServerWithoutBinding.into());
            }
            Demand::Certificate => {}
            Demand::Nothing if login.require == AuthRequire::Any => {}
            // Nothing weaker for a role that may read all verifiers, or writes evidence.
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
            let message = self.message().await?;
            match message.read()? {
                Backend::ParameterStatus { .. } | Backend::BackendKeyData { .. } => {}
                Backend::ReadyForQuery(_) => return Ok(()),
                _ => return Err(message.unexpected()),
            }
        }
    }

    async fn prove(
        &mut self,
        bound: scram::ClientBinding,
        source: Option<&Password>,
    ) -> Result<(), TalkError> {
        let source = source.ok_or(TalkError::NoPassword)?;
        let password = source.read(Clock::now()).await?;
        let (client, mechanism, first) = scram::Client::new(bound, Nonce::from_random(random()));
        let mut out = Zeroizing::new(Vec::new());
        SaslInitialResponse { mechanism, data: Some(&first) }.write(&mut out).expect("short");
        self.send(&out).await?;
        let message = self.message().await?;
        let Backend::Authentication(Authentication::SaslContinue(data)) = message.read()? else {
            return Err(message.unexpected());
        };
        let challenge = client.handle_first(data)?;
        let keys = secrets::derive(&password, challenge.salt(), challenge.iterations()).await?;
        let (awaiting, last) = challenge.answer(&keys);
        out.clear();
        Frontend::Authentication(last.expose_secret()).write(&mut out).expect("short");
        self.send(&out).await?;
        let message = match self.message().await {
            Err(TalkError::Server(code)) if code.starts_with("28") => {
                // The next login reads it anew.
                source.evict(&password).await;
                return Err(TalkError::Server(code));
            }
            other => other?,
        };
        let Backend::Authentication(Authentication::SaslFinal(data)) = message.read()? else {
            return Err(message.unexpected());
        };
        Ok(awaiting.handle_final(data)?)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), TalkError> {
        self.leg.write_all(bytes).await?;
        Ok(self.leg.flush().await?)
    }

    /// The next message; an error of the server is one of ours. Notices, which may come at any time, are passed over.
    async fn message(&mut self) -> Result<Message, TalkError> {
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
                            return Err(TalkError::Server(code));
                        }
                        _ => {}
                    }
                    return Ok(message);
                }
            }
            let mut chunk = Zeroizing::new([0_u8; 4096]);
            match self.leg.read(&mut *chunk).await? {
                0 => return Err(TalkError::Closed),
                count => self.read.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

impl Message {
    fn read(&self) -> Result<Backend<'_>, TalkError> {
        Backend::read(self.tag, &self.body).map_err(|fault| protocol(fault).into())
    }

    fn unexpected(&self) -> TalkError {
        let fault = SequenceFault::UnexpectedAnswer {
            tag: self.tag,
            awaited: "a query of the agent's own",
        };
        pg::Error::Sequence { side: Side::Server, fault }.into()
    }
}

fn protocol(fault: BytesFault) -> pg::Error {
    pg::Error::Bytes { side: Side::Server, fault }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

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
            Err(TalkError::Server(code)) => assert_eq!(code, "28P01"),
            other => panic!("not the error: {:?}", other.map(|message| message.tag)),
        }
    }
}
