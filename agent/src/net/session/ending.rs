//! Ends: what is recorded, and what the client hears.

use std::{borrow::Cow, io, sync::Arc, time::Duration};

use pgward_common::Flow;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    audit::{EndReason, NotRecorded, ledger::Connect},
    net::{
        credentials::CredentialsError,
        dial,
        error::chain,
        identify::Who,
        leg::Leg,
        reach::ReachError,
        refusals::Refusal,
        relay::{End, Peer, RelayError},
        route::Route,
        worker::Context,
    },
    pg::{self, error::Reply, handshake::HandshakeError},
};

/// Messages to a client that is being sent away; a client that does not read them loses them.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// The end of a connection whose client reads nothing.
const CLOSE_LIMIT: Duration = Duration::from_millis(200);

/// How a connection ended that had become a session.
pub(super) enum Ending {
    /// By one of its sides.
    Relayed(Result<End, RelayError>),
    /// The deadline passed before it was ready.
    StartupTimeout(Duration),
    /// The agent stops.
    Stopped,
    /// Somebody had it ended, for this reason.
    Killed(Arc<str>),
    /// The server could not be reached.
    Unreached(ReachError),
    /// The agent's own part of the login could not be done.
    NoCredentials(CredentialsError),
    /// The handshake failed.
    Handshake(HandshakeError),
    /// The server refused; the client heard it from the server.
    Refused {
        /// What it said.
        sqlstate: Option<[u8; 5]>,
    },
    /// The session's start could not be recorded.
    NotRecorded(NotRecorded),
    /// Too many failures before.
    Throttled(Duration),
    /// The policy, or one of its limits, does not let the session begin.
    Policy(String, Reply),
    /// A request that the configuration does not allow.
    NotAllowed(&'static str, Reply),
}

impl Ending {
    /// Whether the agent ends the session because somebody wants it to, while the server would go on with it.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Killed(_) | Self::Relayed(Ok(End::Decided)) => true,
            Self::Relayed(_)
            | Self::StartupTimeout(_)
            | Self::Stopped
            | Self::Unreached(_)
            | Self::NoCredentials(_)
            | Self::Handshake(_)
            | Self::Refused { .. }
            | Self::NotRecorded(_)
            | Self::Throttled(_)
            | Self::Policy(_, _)
            | Self::NotAllowed(_, _) => false,
        }
    }
}

/// What comes of an [`Ending`].
pub(super) struct Explained {
    /// For the record.
    pub(super) reason: EndReason,
    /// More about it; no SQL.
    pub(super) detail: Option<String>,
    /// For the client.
    pub(super) reply: Option<Reply>,
    /// The client's connection is reset, as the server's was.
    pub(super) reset: bool,
}

impl Explained {
    fn new(reason: EndReason) -> Self {
        Self { reason, detail: None, reply: None, reset: false }
    }

    fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    fn reply(self, reply: impl Into<Option<Reply>>) -> Self {
        Self { reply: reply.into(), ..self }
    }
}

/// Reason and detail for the record, error for the client.
pub(super) fn explain(
    ending: Ending,
    goodbye: bool,
    ready: bool,
    route: &Route,
    user: &[u8],
) -> Explained {
    let new = Explained::new;
    match ending {
        Ending::Relayed(Ok(End::ClientClosed)) if goodbye => new(EndReason::ClientTerminated),
        Ending::Relayed(Ok(End::ClientClosed)) => new(EndReason::ClientClosed),
        Ending::Relayed(Ok(End::ServerClosed)) if !ready => new(EndReason::StartupRefused),
        Ending::Relayed(Ok(End::ServerClosed)) => new(EndReason::ServerClosed),
        Ending::Relayed(Ok(End::Decided)) => new(EndReason::Decided),
        Ending::Relayed(Ok(End::Broken(Peer::Client, error))) => {
            new(EndReason::ClientReset).detail(error.to_string())
        }
        Ending::Relayed(Ok(End::Broken(Peer::Server, error))) => {
            Explained { reset: true, ..new(EndReason::ServerReset) }.detail(error.to_string())
        }
        Ending::Relayed(Err(RelayError::Protocol(error))) => protocol(&error),
        Ending::Relayed(Err(RelayError::NotRecorded(error))) | Ending::NotRecorded(error) => {
            new(EndReason::RecordingFailed).detail(error.to_string()).reply(not_recorded(error))
        }
        Ending::Relayed(Err(RelayError::Fault)) => {
            let reply = Reply::fatal(*b"XX000", "terminating connection because of a fault");
            let told = "pgward on this host failed while it relayed this connection.";
            new(EndReason::AgentFault).reply(detailed(reply, told))
        }
        Ending::StartupTimeout(limit) => {
            new(EndReason::StartupTimeout).detail(format!("not authenticated within {limit:?}"))
        }
        Ending::Stopped => new(EndReason::AgentStopped).reply(stopping()),
        Ending::Killed(reason) => new(EndReason::Killed).detail(&*reason).reply(killed(&reason)),
        Ending::Unreached(error) => unreached(&error, route),
        Ending::NoCredentials(error) => {
            let reply = Reply::fatal(*b"28000", "authentication with the server is not possible");
            let told = "pgward on this host could not get the role's verifier or password.";
            let hint = "Ask the administrator of this host to look at the log of pgward.";
            let reply = Reply { hint: Some(Cow::Borrowed(hint)), ..detailed(reply, told) };
            new(EndReason::SecretUnavailable).detail(chain(&error)).reply(reply)
        }
        Ending::Handshake(HandshakeError::Protocol(error)) => protocol(&error),
        Ending::Handshake(error) => {
            let reason = match &error {
                HandshakeError::Application(_) => EndReason::AuthenticationFailed,
                HandshakeError::Server(_) => EndReason::ServerUnproven,
                HandshakeError::Refused(_) | HandshakeError::Protocol(_) => {
                    EndReason::AuthenticationRefused
                }
            };
            let detail = format!("{}: {}", error.name(), chain(&error));
            new(reason).detail(detail).reply(error.reply(user))
        }
        Ending::Refused { sqlstate: Some(code) } if code.starts_with(b"28") => {
            new(EndReason::AuthenticationFailed)
        }
        Ending::Refused { sqlstate: _ } => new(EndReason::StartupRefused),
        Ending::Throttled(left) => {
            let text = "too many failed logins";
            let seconds = left.as_secs() + 1;
            let told = format!("pgward on this host refuses further attempts for {seconds} s.");
            let reply = Reply::fatal(*b"28000", text);
            let reply = Reply { detail: Some(Cow::Owned(told)), ..reply };
            new(EndReason::Throttled).detail(format!("refused for {seconds} s")).reply(reply)
        }
        Ending::Policy(detail, reply) => new(EndReason::Decided).detail(detail).reply(reply),
        Ending::NotAllowed(detail, reply) => {
            new(EndReason::AuthenticationRefused).detail(detail).reply(reply)
        }
    }
}

fn protocol(error: &pg::Error) -> Explained {
    let reason = match error {
        pg::Error::Limit { .. } => EndReason::LimitExceeded,
        pg::Error::Bytes { .. } | pg::Error::Sequence { .. } => EndReason::ProtocolViolation,
    };
    Explained::new(reason).detail(chain(error)).reply(error.reply())
}

/// `57P03` (`cannot_connect_now`) is the one code at which libpq goes on to the next host of a multi-host string, which is
/// what a refused connection would have made it do. Where TLS is what failed, the next host would not do: `08001`.
fn unreached(error: &ReachError, route: &Route) -> Explained {
    let to = route.address;
    let detail = chain(error);
    let (reason, sqlstate, what, hint) = match error {
        ReachError::Dial(error) => (EndReason::DialFailed, *b"57P03", chain(error), None),
        ReachError::Tls(error) => {
            let told = error.told();
            (EndReason::ServerTlsFailed, *b"08001", told.message, told.hint)
        }
        ReachError::Unloaded(error) => {
            let told = error.0.told();
            (EndReason::ServerTlsFailed, *b"08001", told.message, told.hint)
        }
        ReachError::NotOffered(_) => {
            let hint = "Let the server offer TLS, or ask the administrator of this host to set \
                        destination.server.tls of pgward.";
            (EndReason::ServerTlsFailed, *b"08001", error.to_string(), Some(hint.to_owned()))
        }
        ReachError::Stuffed(_) | ReachError::NoAnswer(_) => {
            (EndReason::ProtocolViolation, *b"08006", error.to_string(), None)
        }
        ReachError::Refused(_) | ReachError::Closed | ReachError::Io(_) | ReachError::TimedOut => {
            (EndReason::DialFailed, *b"57P03", chain(error), None)
        }
    };
    let text =
        format!("connection to server at \"{}\", port {} failed: {what}", to.ip(), to.port());
    let reply = Reply { hint: hint.map(Cow::Owned), ..Reply::fatal(sqlstate, text) };
    Explained::new(reason).detail(detail).reply(reply)
}

fn detailed(reply: Reply, detail: &'static str) -> Reply {
    Reply { detail: Some(Cow::Borrowed(detail)), ..reply }
}

/// As the server's own `pg_terminate_backend`; who and why is in the detail.
fn killed(reason: &str) -> Reply {
    let reply = Reply::fatal(*b"57P01", "terminating connection due to administrator command");
    let told = format!("An administrator of this host ended this session with pgward: {reason}");
    Reply { detail: Some(Cow::Owned(told)), ..reply }
}

fn stopping() -> Reply {
    let reply = Reply::fatal(*b"57P01", "terminating connection due to administrator command");
    detailed(reply, "pgward on this host is stopping.")
}

/// The log cannot take more.
pub(super) fn not_recorded(error: NotRecorded) -> Reply {
    let text = "terminating connection because it cannot be recorded";
    Reply {
        detail: Some(Cow::Owned(format!("{error}."))),
        hint: Some(Cow::Borrowed("Ask the administrator of this host to look at `pgward status`.")),
        ..Reply::fatal(error.sqlstate(), text)
    }
}

/// A client that did not become a session.
pub(super) struct SentAway<'a> {
    /// Its connection.
    pub(super) flow: &'a Flow,
    /// Who.
    pub(super) who: &'a Arc<Who>,
    /// Name of the reason, for the record.
    pub(super) reason: &'static str,
    /// More about it.
    pub(super) detail: &'a str,
    /// What it hears.
    pub(super) reply: Option<Reply>,
}

impl SentAway<'_> {
    /// Records it, or counts it behind others of its kind, and says it.
    pub(super) async fn say(self, context: &Context, connect: Connect, client: Option<&mut Leg>) {
        let refusal = Refusal {
            reason: self.reason,
            connect: Some(connect.number()),
            detail: Some(self.detail.to_owned()),
            actor: Some(self.flow.opener),
            destination: Some(dial::destination(self.flow)),
            sqlstate: self.reply.as_ref().map(|reply| reply.sqlstate),
        };
        let ticket = context.refusals.add(refusal, |_| self.who.clone());
        connect.refused(self.reason);
        if let Some(ticket) = ticket {
            context.refusals.durable(ticket).await;
        }
        if let (Some(reply), Some(client)) = (self.reply, client) {
            farewell(client, &reply).await;
        }
    }
}

/// Closes a client's connection in good order: in TLS an end that is not announced may be an attacker's.
pub(super) async fn close(client: &mut Leg) {
    let _ = timeout(CLOSE_LIMIT, client.shutdown()).await;
}

/// Last words to a client.
pub(super) async fn farewell(client: &mut Leg, reply: &Reply) {
    let mut message = Vec::new();
    if reply.write(&mut message).is_err() {
        return; // a text with a zero byte: the client gets the close alone
    }
    let said = async {
        client.write_all(&message).await?;
        client.shutdown().await?;
        // Closing with unread bytes would reset the connection and could take the message with it.
        let mut rest = [0u8; 1024];
        while client.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(FAREWELL_LIMIT, said).await;
}
