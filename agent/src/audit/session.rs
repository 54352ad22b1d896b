//! The first and the last record of a session.

use std::net::SocketAddr;

use super::json::{Json, Object};
use super::record::{Tier, named};

/// `session_start`: a client is authenticated, or failed to be.
#[derive(Clone, Copy, Debug)]
pub struct SessionStart<'a> {
    /// Full identity of the process that opened the connection.
    pub actor: &'a Json,
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
    /// `client_encoding` as the server reported it: how to read texts that are not UTF-8.
    pub client_encoding: Option<&'a [u8]>,
    /// `server_version` as the server reported it.
    pub server_version: Option<&'a [u8]>,
    /// Major and minor version of the protocol.
    pub protocol: (u16, u16),
    /// What the server asked for: `trust`, `password`, `md5`, `scram-sha-256`, ...
    pub authentication: &'a str,
    /// How the client was authenticated; `None` when it was not.
    pub handshake: Option<Handshake<'a>>,
    /// TLS between client and agent: version, cipher suite, key exchange. `None`: clear text.
    pub client_tls: Option<&'a str>,
    /// The same between agent and server.
    pub server_tls: Option<&'a str>,
    /// What of the server's certificate was verified, as `destination.server.tls` says it.
    pub server_verified: Option<&'a str>,
    /// The name of the server that the client gave in TLS.
    pub server_name: Option<&'a str>,
    /// What is configured for this server, by its name.
    pub destination_name: &'a str,
    /// `options` of the startup packet: settings that the client asked for.
    pub options: Option<&'a [u8]>,
    /// The server's process that serves the session, from `BackendKeyData`.
    pub backend_pid: Option<u32>,
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
        /// The agent stops.
        AgentStopped = "agent_stopped",
        /// A fault of the agent itself.
        AgentFault = "agent_fault",
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

impl SessionStart<'_> {
    pub(super) fn fill(&self, object: &mut Object<'_>) {
        object.json("actor", self.actor);
        object.word("tier", self.tier.name());
        object.word("confidence", self.confidence.name());
        object.display("destination", self.destination);
        object.display("source", self.source);
        object.number("netns_cookie", self.netns_cookie);
        object.bytes("database_user", self.database_user);
        object.bytes("database", self.database);
        object.bytes_if("application_name", self.application_name);
        object.bytes_if("client_encoding", self.client_encoding);
        object.bytes_if("server_version", self.server_version);
        object.display("protocol", format_args!("{}.{}", self.protocol.0, self.protocol.1));
        object.text("destination_name", self.destination_name);
        object.text("authentication", self.authentication);
        if let Some(handshake) = &self.handshake {
            object.word("handshake", handshake.kind.name());
            object.bytes_if("login", handshake.login);
            object.words("bound", handshake.bound.iter().map(|leg| leg.name()));
            object.text_if("exception", handshake.exception);
        }
        object.text_if("client_tls", self.client_tls);
        object.text_if("server_tls", self.server_tls);
        object.text_if("server_verified", self.server_verified);
        object.text_if("server_name", self.server_name);
        object.bytes_if("options", self.options);
        object.number_if("backend_pid", self.backend_pid.map(u64::from));
    }
}

impl SessionEnd<'_> {
    pub(super) fn fill(&self, object: &mut Object<'_>) {
        object.word("reason", self.reason.name());
        object.text_if("detail", self.detail);
        object.bytes_if("sqlstate", self.sqlstate.as_ref().map(|state| &state[..]));
        object.number("statements", self.statements);
        object.number("client_bytes", self.client_bytes);
        object.number("server_bytes", self.server_bytes);
        object.number("duration_us", self.duration_us);
    }
}
