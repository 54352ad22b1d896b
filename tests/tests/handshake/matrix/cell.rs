//! The axes, and every combination of them.

use pgward_tests::postgres::Version;

use crate::servers::{Role, ServerTls};

/// A client's `sslmode`; `direct` is `sslmode=require sslnegotiation=direct`.
pub(crate) const SSLMODES: [&str; 7] =
    ["disable", "allow", "prefer", "require", "verify-ca", "verify-full", "direct"];

/// A client's `channel_binding`.
pub(crate) const BINDINGS: [&str; 3] = ["disable", "prefer", "require"];

/// How one proves oneself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// SCRAM.
    Scram,
    /// SCRAM, where the agent insists on channel binding by the application.
    PlusApplication,
    /// SCRAM, where the agent insists on channel binding by the server.
    PlusServer,
    /// MD5.
    Md5,
    /// Clear-text password.
    Password,
    /// Nothing.
    Trust,
    /// A client certificate: the application's own without an agent, the agent's with one.
    Cert,
}

impl Method {
    pub(crate) const ALL: [Self; 7] = [
        Self::Scram,
        Self::PlusApplication,
        Self::PlusServer,
        Self::Md5,
        Self::Password,
        Self::Trust,
        Self::Cert,
    ];

    /// Its word in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scram => "scram",
            Self::PlusApplication => "plus-app",
            Self::PlusServer => "plus-server",
            Self::Md5 => "md5",
            Self::Password => "password",
            Self::Trust => "trust",
            Self::Cert => "cert",
        }
    }

    /// The role that the server asks so.
    pub(crate) fn role(self) -> Role {
        match self {
            Self::Scram | Self::PlusApplication | Self::PlusServer => Role::Scram,
            Self::Md5 => Role::Md5,
            Self::Password => Role::Password,
            Self::Trust => Role::Trust,
            Self::Cert => Role::Cert,
        }
    }
}

/// Who stands between the client and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nobody.
    None,
    /// The agent, with the servers' verifiers.
    Terminate,
    /// The agent, without any secret.
    Relay,
    /// The agent, with accounts: other names and passwords upstream, older methods allowed there.
    Mapped,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::Terminate, Self::Relay, Self::Mapped];

    /// Its word in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Terminate => "terminate",
            Self::Relay => "relay",
            Self::Mapped => "mapped",
        }
    }
}

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) version: Version,
    pub(crate) sslmode: &'static str,
    pub(crate) tls: ServerTls,
    pub(crate) method: Method,
    pub(crate) mode: Mode,
    pub(crate) binding: &'static str,
}

impl Cell {
    /// All combinations with these modes. Without an agent there is nobody to insist on channel binding, so that those two
    /// methods have no cells there.
    pub(crate) fn all(modes: &[Mode]) -> Vec<Self> {
        let mut cells = Vec::new();
        for version in [Version::Debian, Version::Eighteen] {
            for &mode in modes {
                for method in Method::ALL {
                    let insists = matches!(method, Method::PlusApplication | Method::PlusServer);
                    if mode == Mode::None && insists {
                        continue;
                    }
                    for tls in ServerTls::ALL {
                        for sslmode in SSLMODES {
                            for binding in BINDINGS {
                                cells.push(Self { version, sslmode, tls, method, mode, binding });
                            }
                        }
                    }
                }
            }
        }
        cells
    }

    /// Its words in the order of the table's columns.
    pub(crate) fn words(&self) -> [&'static str; 6] {
        [
            self.version.name(),
            self.mode.name(),
            self.method.name(),
            self.tls.name(),
            self.sslmode,
            self.binding,
        ]
    }

    /// The libpq that connects: of the server's version, but only 18 can begin with TLS.
    pub(crate) fn client(&self) -> Version {
        if self.sslmode == "direct" { Version::Eighteen } else { self.version }
    }

    /// Last number of the address 127.0.0.x that the client asks for. The agent's settings depend on it.
    pub(crate) fn last_address(&self) -> u8 {
        let tens = match self.mode {
            Mode::None => return 1,
            Mode::Terminate => 10,
            Mode::Relay => 20,
            Mode::Mapped => 30,
        };
        tens + match self.method {
            Method::PlusApplication => 2,
            Method::PlusServer => 3,
            Method::Cert => 4,
            Method::Scram | Method::Md5 | Method::Password | Method::Trust => 1,
        }
    }
}
