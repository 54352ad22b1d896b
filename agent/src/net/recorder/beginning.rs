//! What is known before the first request, for the record of the session's start.

use std::sync::Arc;

use pgward_common::Flow;

use crate::{
    audit::{
        Authentication, BoundLeg, Confidence, Encoded, EndReason, Handshake, HandshakeKind,
        SessionStart, Tier,
    },
    config::{Audit, AuditMode, Destination, WeakMethod},
    net::{dial, registry},
    pg::{
        handshake::{
            How, Login,
            course::{Demand, Offered},
        },
        startup::Parameters,
    },
    sql::lex::{Encoding, Strings},
    tls,
};

/// A startup packet, and how it came.
pub struct Hello<'a> {
    /// Minor version of the protocol that the client asked for.
    pub minor: u16,
    /// What it said.
    pub parameters: &'a Parameters,
    /// Bytes taken off the client's socket so far.
    pub raw_read: u64,
    /// What is configured for its server.
    pub destination: &'a Arc<Destination>,
    /// TLS, if the client uses it.
    pub tls: Option<&'a tls::Parameters>,
    /// The name of the server that it gave there.
    pub server_name: Option<&'a str>,
}

impl Hello<'_> {
    /// The role it names.
    pub fn user(&self) -> &[u8] {
        self.parameters.value(b"user").unwrap_or_default()
    }

    /// The database it names, or the role's own.
    pub fn database(&self) -> &[u8] {
        self.parameters.value(b"database").filter(|d| !d.is_empty()).unwrap_or(self.user())
    }

    /// For `pgward sessions`.
    pub(super) fn shown(&self) -> registry::Startup {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        registry::Startup {
            database: text(self.database()),
            user: text(self.user()),
            application_name: text(self.parameters.value(b"application_name").unwrap_or_default()),
            client_tls: self.tls.map(|tls| described(tls).into()),
        }
    }
}

/// All that the record will say.
#[derive(Default)]
pub(super) struct Beginning {
    database_user: Box<[u8]>,
    database: Box<[u8]>,
    application_name: Option<Box<[u8]>>,
    options: Option<Box<[u8]>>,
    destination: Option<Arc<Destination>>,
    client_tls: Option<String>,
    server_name: Option<String>,
    server_version: Option<Box<[u8]>>,
    demand: Option<Demand>,
    pub(super) client_encoding: Option<Box<[u8]>>,
    pub(super) server_tls: Option<String>,
    pub(super) server_verified: Option<&'static str>,
    pub(super) login: Option<Box<[u8]>>,
    pub(super) how: Option<How>,
    pub(super) minor: u16,
    pub(super) backend_pid: Option<u32>,
    /// The server says that backslashes are nothing special in plain strings.
    standard_strings: bool,
    /// Settings that decide on what statements mean, as the server reported them.
    reported: Vec<(&'static str, Box<[u8]>)>,
    /// Minor version that the client asked for.
    asked_minor: u16,
    /// `session_start` is recorded.
    pub(super) started: bool,
    /// `authentication` is.
    pub(super) recorded: bool,
}

impl Beginning {
    pub(super) fn new(hello: &Hello<'_>) -> Self {
        Self {
            database_user: hello.user().into(),
            database: hello.database().into(),
            application_name: hello.parameters.value(b"application_name").map(Into::into),
            options: hello.parameters.value(b"options").map(Into::into),
            destination: Some(hello.destination.clone()),
            client_tls: hello.tls.map(described),
            server_name: hello.server_name.map(str::to_owned),
            server_version: None,
            demand: None,
            client_encoding: None,
            server_tls: None,
            server_verified: None,
            login: None,
            how: None,
            minor: hello.minor,
            backend_pid: None,
            standard_strings: false,
            reported: Vec::new(),
            asked_minor: hello.minor,
            started: false,
            recorded: false,
        }
    }

    pub(super) fn demanded(&mut self, demand: Demand) {
        self.demand = Some(demand);
    }

    pub(super) fn told(&mut self, name: &[u8], value: Box<[u8]>) {
        for meaning in ["client_encoding", "standard_conforming_strings", "search_path"] {
            if name == meaning.as_bytes() {
                self.reported.retain(|(known, _)| *known != meaning);
                self.reported.push((meaning, value.clone()));
            }
        }
        match name {
            b"client_encoding" => self.client_encoding = Some(value),
            b"server_version" => self.server_version = Some(value),
            b"standard_conforming_strings" => self.standard_strings = &*value == b"on",
            _ => {}
        }
    }

    /// When statements of this session go.
    pub(super) fn mode(&self, audit: &Audit) -> AuditMode {
        audit.mode_for(self.destination_name(), &self.database, &self.database_user)
    }

    pub(super) fn destination_name(&self) -> &str {
        self.destination.as_ref().map_or("", |destination| &destination.name)
    }

    /// How the server reads the bytes of a text.
    pub(super) fn lexis(&self) -> (Encoding, Strings) {
        let encoding = self.client_encoding.as_deref().map_or(Encoding::Unsafe, Encoding::named);
        let strings = if self.standard_strings { Strings::Standard } else { Strings::Unsure };
        (encoding, strings)
    }

    /// What of it decides on what statements mean, in the order in which it came.
    pub(super) fn reported(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.reported.iter().map(|(name, value)| (*name, &**value))
    }

    /// `client_encoding`, where it is known and not UTF8.
    pub(super) fn encoding(&self) -> Option<Box<[u8]>> {
        self.client_encoding.clone().filter(|encoding| &**encoding != b"UTF8")
    }

    /// Role and database.
    pub(super) fn names(&self) -> (&[u8], &[u8]) {
        (&self.database_user, &self.database)
    }

    pub(super) fn start<'a>(
        &'a self,
        actor: &'a Encoded,
        tier: Tier,
        confidence: Confidence,
        flow: &Flow,
        mode: AuditMode,
    ) -> SessionStart<'a> {
        SessionStart {
            actor,
            tier,
            confidence,
            destination: dial::destination(flow),
            source: dial::source(flow),
            netns_cookie: flow.opener.netns_cookie,
            database_user: &self.database_user,
            database: &self.database,
            application_name: self.application_name.as_deref(),
            protocol: (3, self.asked_minor),
            destination_name: self.destination_name(),
            client_tls: self.client_tls.as_deref(),
            server_name: self.server_name.as_deref(),
            options: self.options.as_deref(),
            connect: None,
            audit_mode: mode.number(),
        }
    }

    /// `failed`: why the client is not logged in, more about it, and what it hears.
    pub(super) fn authentication<'a>(&'a self, failed: Option<Failed<'a>>) -> Authentication<'a> {
        let (reason, detail, sqlstate) = match failed {
            None => (None, None, None),
            Some((reason, detail, sqlstate)) => (Some(reason.name()), detail, sqlstate),
        };
        Authentication {
            authentication: self.demand.map_or("unknown", Demand::name),
            handshake: self.how.map(|how| self.handshake(how)),
            reason,
            detail,
            sqlstate,
            client_encoding: self.client_encoding.as_deref(),
            server_version: self.server_version.as_deref(),
            protocol: (3, self.minor),
            server_tls: self.server_tls.as_deref(),
            server_verified: self.server_verified,
            backend_pid: self.backend_pid,
        }
    }

    fn handshake(&self, how: How) -> Handshake<'_> {
        let kind = kind(how);
        match how {
            How::Terminated { demand: _, login, client_bound, server_bound } => {
                let login = match login {
                    Login::Own => None,
                    Login::Account => self.login.as_deref(),
                };
                let bound: &[BoundLeg] = match (client_bound, server_bound) {
                    (Offered::Yes, Offered::Yes) => &[BoundLeg::Client, BoundLeg::Server],
                    (Offered::Yes, Offered::No) => &[BoundLeg::Client],
                    (Offered::No, Offered::Yes) => &[BoundLeg::Server],
                    (Offered::No, Offered::No) => &[],
                };
                Handshake { kind, login, bound, exception: None }
            }
            How::Relayed { demand } => {
                Handshake { kind, login: None, bound: &[], exception: self.exception(demand) }
            }
        }
    }

    /// What the configuration says of something weaker than SCRAM.
    fn exception(&self, demand: Demand) -> Option<&str> {
        let method = match demand {
            Demand::Nothing => WeakMethod::Trust,
            Demand::Certificate => WeakMethod::Cert,
            Demand::Cleartext => WeakMethod::Password,
            Demand::Md5 { salt: _ } => WeakMethod::Md5,
            Demand::Gss
            | Demand::Sspi
            | Demand::Scram { .. }
            | Demand::Oauth
            | Demand::OtherSasl
            | Demand::Obsolete => return None,
        };
        let exception = self.destination.as_ref()?.exception(&self.database_user, method);
        Some(exception.map_or("any method is accepted", |exception| &exception.reason))
    }
}

/// Why a client is not logged in, more about it, and what it hears.
type Failed<'a> = (EndReason, Option<&'a str>, Option<[u8; 5]>);

/// Who carried out the exchange.
pub(super) fn kind(how: How) -> HandshakeKind {
    match how {
        How::Terminated { login: Login::Own, .. } => HandshakeKind::Terminated,
        How::Terminated { login: Login::Account, .. } => HandshakeKind::Mapped,
        How::Relayed { .. } => HandshakeKind::Relayed,
    }
}

/// TLS in a few words: version, cipher suite, key exchange.
pub fn described(tls: &tls::Parameters) -> String {
    let resumed = if tls.resumed { " resumed" } else { "" };
    match tls.group {
        Some(group) => format!("{} {} {group}{resumed}", tls.version, tls.cipher),
        None => format!("{} {}{resumed}", tls.version, tls.cipher),
    }
}
