//! Records of a session apart from its statements.

use std::net::SocketAddr;

use super::cbor::{Encoded, Map};
use super::happening::Tier;
use super::record::SessionId;
use super::schema::f;
use super::words::named;

/// `session_start`: a client sent its startup packet. Durable before anything is done about it.
#[derive(Clone, Copy, Debug)]
pub struct SessionStart<'a> {
    /// Full identity of the process that opened the connection.
    pub actor: &'a Encoded,
    /// Tier that watches this session's writers.
    pub tier: Tier,
    /// What the tier can tell.
    pub confidence: Confidence,
    /// Where the process wanted to connect.
    pub destination: SocketAddr,
    /// The address it connected from, as the server would have seen it.
    pub source: SocketAddr,
    /// Cookie of its network namespace.
    pub netns_cookie: u64,
    /// Role in the database.
    pub database_user: &'a [u8],
    /// Database.
    pub database: &'a [u8],
    /// What the client calls itself.
    pub application_name: Option<&'a [u8]>,
    /// Major and minor version of the protocol that it asked for.
    pub protocol: (u16, u16),
    /// What is configured for this server, by its name.
    pub destination_name: &'a str,
    /// TLS between client and agent: version, cipher suite, key exchange. `None`: clear text.
    pub client_tls: Option<&'a str>,
    /// The name of the server that the client gave in TLS.
    pub server_name: Option<&'a str>,
    /// `options` of the startup packet: settings that the client asked for.
    pub options: Option<&'a [u8]>,
    /// Number of the connect.
    pub connect: Option<u64>,
    /// Index into [`words::MODES`](super::schema::words::MODES).
    pub audit_mode: u64,
}

/// `authentication`: a client is authenticated, or failed to be. Durable before the client hears of
/// it.
#[derive(Clone, Copy, Debug)]
pub struct Authentication<'a> {
    /// What the server asked for: `trust`, `password`, `md5`, `scram-sha-256`, ...
    pub authentication: &'a str,
    /// How the client was authenticated; `None` when it was not.
    pub handshake: Option<Handshake<'a>>,
    /// Why it was not: the name of the session's end.
    pub reason: Option<&'a str>,
    /// More about that.
    pub detail: Option<&'a str>,
    /// What the client hears.
    pub sqlstate: Option<[u8; 5]>,
    /// `client_encoding` as the server reported it: how to read texts that are not UTF-8.
    pub client_encoding: Option<&'a [u8]>,
    /// `server_version` as the server reported it.
    pub server_version: Option<&'a [u8]>,
    /// Version of the protocol that was agreed on.
    pub protocol: (u16, u16),
    /// TLS between agent and server. `None`: clear text.
    pub server_tls: Option<&'a str>,
    /// What of the server's certificate was verified, as `destination.server.tls` says it.
    pub server_verified: Option<&'a str>,
    /// The server's process that serves the session, from `BackendKeyData`.
    pub backend_pid: Option<u32>,
}

/// `writer`: another process than those before writes in the session.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// Who.
    pub actor: &'a Encoded,
    /// What told.
    pub tier: Tier,
}

/// `session_mark`: what there is of a session so far, while it lasts.
#[derive(Clone, Copy, Debug)]
pub struct SessionMark {
    /// Entries so far, this one included.
    pub entries: u64,
    /// Digest over the leaf hashes of those before it.
    pub digest: [u8; 32],
}

/// `cancel`: somebody asked a server to cancel what a session is doing.
#[derive(Clone, Copy, Debug)]
pub struct Cancel<'a> {
    /// Who asked.
    pub actor: &'a Encoded,
    /// Where the request was sent.
    pub destination: SocketAddr,
    /// The server's process it names.
    pub target_pid: u32,
    /// The session it is about, when it is one of the agent's.
    pub target_session: Option<SessionId>,
    /// What became of it. The protocol doesn't tell whether the server found anything to cancel.
    pub outcome: CancelOutcome,
    /// Number of the connect.
    pub connect: Option<u64>,
}

/// How a client was authenticated.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    /// Who carried out the exchange.
    pub kind: HandshakeKind,
    /// The role that the agent used with the server, when it is another than the client's.
    pub login: Option<&'a [u8]>,
    /// Which legs SCRAM was bound to.
    pub bound: &'a [BoundLeg],
    /// Why something weaker than SCRAM was accepted.
    pub exception: Option<&'a str>,
}

/// `session_end`: the last record of a session, written also when it broke.
#[derive(Clone, Copy, Debug)]
pub struct SessionEnd<'a> {
    /// Why it ended.
    pub reason: EndReason,
    /// More about the reason; no SQL.
    pub detail: Option<&'a str>,
    /// The SQLSTATE that ended it, from the server or from the agent.
    pub sqlstate: Option<[u8; 5]>,
    /// Statements recorded.
    pub statements: u64,
    /// Bytes from the client to the server.
    pub client_bytes: u64,
    /// Bytes from the server to the client.
    pub server_bytes: u64,
    /// From connect to end, in microseconds.
    pub duration_us: u64,
    /// Entries of the session, this one included.
    pub entries: u64,
    /// SHA-256 over the leaf hashes of the others, in their order.
    pub digest: [u8; 32],
}

named! {
    /// How sure the writer of a statement is.
    Confidence {
        /// Whoever wrote each byte is known.
        Exact = "exact",
        /// The opener, or a process that got the socket from it.
        OpenerOrLater = "opener or later writer",
    }
}

named! {
    /// Why a session ended.
    EndReason {
        /// The client said goodbye (`Terminate`).
        ClientTerminated = "client_terminated",
        /// The client closed its end without `Terminate`.
        ClientClosed = "client_closed",
        /// The client's end broke.
        ClientReset = "client_reset",
        /// The server closed its end.
        ServerClosed = "server_closed",
        /// The server's end broke.
        ServerReset = "server_reset",
        /// The server could not be reached.
        DialFailed = "dial_failed",
        /// The server refused the client's credentials or start-up.
        StartupRefused = "startup_refused",
        /// The client did not prove itself, to the agent or to the server.
        AuthenticationFailed = "authentication_failed",
        /// What the server asks for, or what the exchange would come to, is not accepted.
        AuthenticationRefused = "authentication_refused",
        /// The server did not prove that it knows the secret.
        ServerUnproven = "server_unproven",
        /// No verifier or password of the agent's own could be had.
        SecretUnavailable = "secret_unavailable",
        /// TLS with the server failed, or it has none.
        ServerTlsFailed = "server_tls_failed",
        /// Too many failures before.
        Throttled = "throttled",
        /// The start-up took longer than `agent.startup_timeout_ms`.
        StartupTimeout = "startup_timeout",
        /// A side broke the protocol.
        ProtocolViolation = "protocol_violation",
        /// A message was longer than a limit.
        LimitExceeded = "limit_exceeded",
        /// The identity of the process was lost.
        IdentityLost = "identity_lost",
        /// A record could not be written (`audit.on_full = "block"`).
        RecordingFailed = "recording_failed",
        /// It was ended by decision; the client was told why.
        Decided = "decided",
        /// The agent stops.
        AgentStopped = "agent_stopped",
        /// A fault of the agent itself.
        AgentFault = "agent_fault",
        /// Somebody had it ended: `pgward kill`.
        Killed = "killed",
    }
}

named! {
    /// Who carried out the exchange with which a client was authenticated.
    HandshakeKind {
        /// The agent: the client proved itself by SCRAM to it, and it to the server with what the client proved.
        Terminated = "terminated",
        /// The agent, which used an account of its own with the server.
        Mapped = "mapped",
        /// The server: messages passed.
        Relayed = "relayed",
    }
}

named! {
    /// A leg that SCRAM was bound to.
    BoundLeg {
        /// Between client and agent.
        Client = "client",
        /// Between agent and server.
        Server = "server",
    }
}

named! {
    /// What became of a cancel request.
    CancelOutcome {
        /// It was sent to the server, which closed the connection as it does.
        Forwarded = "forwarded",
        /// The server could not be reached or broke off.
        Failed = "failed",
        /// The agent did not pass it on.
        Refused = "refused",
    }
}

impl SessionStart<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.uint(f::TIER, self.tier.number());
        entry.encoded(f::ACTOR, self.actor);
        entry.uint(f::CONFIDENCE, self.confidence.number());
        entry.display(f::DESTINATION, self.destination);
        entry.display(f::SOURCE, self.source);
        entry.uint(f::NETNS_COOKIE, self.netns_cookie);
        entry.bytes(f::DATABASE_USER, self.database_user);
        entry.bytes(f::DATABASE, self.database);
        entry.bytes_if(f::APPLICATION_NAME, self.application_name);
        version(entry, self.protocol);
        entry.text(f::DESTINATION_NAME, self.destination_name);
        entry.text_if(f::CLIENT_TLS, self.client_tls);
        entry.text_if(f::SERVER_NAME, self.server_name);
        entry.bytes_if(f::OPTIONS, self.options);
        entry.uint_if(f::CONNECT, self.connect);
        entry.uint(f::AUDIT_MODE, self.audit_mode);
    }
}

impl Authentication<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.bytes_if(f::SQLSTATE, self.sqlstate.as_ref().map(|state| &state[..]));
        entry.bytes_if(f::CLIENT_ENCODING, self.client_encoding);
        entry.text_if(f::REASON, self.reason);
        entry.text_if(f::DETAIL, self.detail);
        entry.bytes_if(f::SERVER_VERSION, self.server_version);
        version(entry, self.protocol);
        entry.text(f::AUTHENTICATION, self.authentication);
        if let Some(handshake) = &self.handshake {
            entry.uint(f::HANDSHAKE, handshake.kind.number());
            entry.bytes_if(f::LOGIN, handshake.login);
            entry.uints(f::BOUND, handshake.bound.iter().map(|leg| leg.number()));
            entry.text_if(f::EXCEPTION, handshake.exception);
        }
        entry.text_if(f::SERVER_TLS, self.server_tls);
        entry.text_if(f::SERVER_VERIFIED, self.server_verified);
        entry.uint_if(f::BACKEND_PID, self.backend_pid.map(u64::from));
    }
}

impl Writer<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.uint(f::TIER, self.tier.number());
        entry.encoded(f::ACTOR, self.actor);
    }
}

impl SessionMark {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.uint(f::ENTRIES, self.entries);
        entry.bytes(f::DIGEST, &self.digest);
    }
}

impl Cancel<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.encoded(f::ACTOR, self.actor);
        entry.display(f::DESTINATION, self.destination);
        entry.uint(f::TARGET_PID, self.target_pid.into());
        if let Some(session) = self.target_session {
            entry.bytes(f::TARGET_SESSION, &session.bytes());
        }
        entry.uint_if(f::CONNECT, self.connect);
        entry.uint(f::CANCEL_OUTCOME, self.outcome.number());
    }
}

impl SessionEnd<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.bytes_if(f::SQLSTATE, self.sqlstate.as_ref().map(|state| &state[..]));
        entry.uint(f::DURATION_US, self.duration_us);
        entry.text(f::REASON, self.reason.name());
        entry.text_if(f::DETAIL, self.detail);
        entry.uint(f::STATEMENTS, self.statements);
        entry.uint(f::CLIENT_BYTES, self.client_bytes);
        entry.uint(f::SERVER_BYTES, self.server_bytes);
        entry.uint(f::ENTRIES, self.entries);
        entry.bytes(f::DIGEST, &self.digest);
    }
}

fn version(entry: &mut Map<'_>, (major, minor): (u16, u16)) {
    entry.display(f::PROTOCOL, format_args!("{major}.{minor}"));
}
