//! Why a handshake ends by our own decision, and what the application hears of it.

use std::borrow::Cow;

use super::course::Demand;
use crate::pg::{self, error::Reply, scram::ScramError};

/// The handshake cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// A peer broke the protocol.
    #[error(transparent)]
    Protocol(#[from] pg::Error),
    /// The application did not prove itself.
    #[error("the application's SCRAM exchange failed")]
    Application(#[source] ScramError),
    /// The server did not take part in SCRAM as it has to: nothing was proven to us.
    #[error("the server's SCRAM exchange failed")]
    Server(#[source] ScramError),
    /// The configuration forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What the configuration forbids, or cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The server asks for something that is not accepted.
    #[error("the server asks for `{}` authentication, which is not accepted", .0.name())]
    Method(Demand),
    /// The application's channel binding flag says that the server has none, and the server knows better: the exchange would
    /// fail at the server, as it has to. (RFC 5802, section 6)
    #[error(
        "the application binds to the channel, which a relayed exchange over two TLS connections cannot do"
    )]
    RelayedOverTwoChannels,
    /// Channel binding is required of one side, and the exchange is relayed.
    #[error("channel binding is required, which a relayed exchange cannot have")]
    RelayedWithoutBinding,
    /// Channel binding is required of the application, and its leg is in the clear.
    #[error("channel binding is required of the application, which connects in clear text")]
    ApplicationInClear,
    /// Channel binding is required of the server, and it offers none, or nothing to bind to.
    #[error("channel binding is required of the server, which offers none")]
    ServerWithoutBinding,
    /// The verifier at hand is not the server's, also when asked for again.
    #[error("the verifier at hand is not the one that the server has")]
    StaleVerifier,
    /// A server that asks for a password, and an account without one.
    #[error("the server asks for a password, and the account has none")]
    AccountWithoutPassword,
}

impl Refusal {
    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Method(_) => "authentication_method",
            Self::RelayedOverTwoChannels => "channel_binding_relayed",
            Self::RelayedWithoutBinding => "channel_binding_required",
            Self::ApplicationInClear => "channel_binding_required",
            Self::ServerWithoutBinding => "channel_binding_required",
            Self::StaleVerifier => "stale_verifier",
            Self::AccountWithoutPassword => "account_without_password",
        }
    }

    /// What the application hears. `28000` (`invalid_authorization_specification`) is the code at which libpq, JDBC and asyncpg
    /// with `sslmode=prefer` try again in clear text.
    pub fn reply(self) -> Reply {
        let hint = match self {
            Self::Method(Demand::OtherSasl | Demand::Obsolete) => {
                "Ask the database's administrator for scram-sha-256."
            }
            Self::Method(Demand::Gss | Demand::Sspi | Demand::Oauth) => {
                "Ask the administrator of this host to add the method to destination.auth.pass of pgward."
            }
            Self::Method(_) => {
                "Let the database ask for scram-sha-256, or ask the administrator of this host for a \
                 destination.auth.exception or destination.auth.upgrade of pgward."
            }
            Self::RelayedOverTwoChannels => {
                "Connect with sslmode=prefer, or with channel_binding=disable, or ask the administrator of this host to give \
                 pgward the role's verifier: destination.auth.lookup, destination.auth.verifiers or destination.account."
            }
            Self::RelayedWithoutBinding => {
                "Ask the administrator of this host to give pgward the role's verifier: destination.auth.lookup, \
                 destination.auth.verifiers or destination.account."
            }
            Self::ApplicationInClear => "Connect with TLS, for example sslmode=require.",
            Self::ServerWithoutBinding => {
                "Ask the database's administrator for TLS with a certificate signed with SHA-256 or better."
            }
            Self::StaleVerifier => {
                "The password was changed on the server: ask the administrator of this host to renew \
                 destination.auth.verifiers of pgward."
            }
            Self::AccountWithoutPassword => {
                "Ask the administrator of this host for a password of this destination.account of pgward."
            }
        };
        let text = match self {
            Self::Method(demand) => {
                Cow::Owned(format!("authentication method \"{}\" is not accepted", demand.name()))
            }
            Self::RelayedOverTwoChannels => {
                Cow::Borrowed("SCRAM channel binding cannot be relayed")
            }
            Self::RelayedWithoutBinding | Self::ApplicationInClear => {
                Cow::Borrowed("channel binding is required")
            }
            Self::ServerWithoutBinding => {
                Cow::Borrowed("channel binding is required, but the server does not offer it")
            }
            Self::StaleVerifier | Self::AccountWithoutPassword => {
                Cow::Borrowed("authentication with the server is not possible")
            }
        };
        let detail = match self {
            Self::Method(_) => {
                "pgward on this host requires scram-sha-256 (destination.auth.require), and ended the connection before any \
                 secret was sent."
            }
            Self::AccountWithoutPassword => {
                "pgward on this host ended the connection before a secret was sent to the server."
            }
            _ => "pgward on this host ended the connection before any secret was sent.",
        };
        Reply {
            detail: Some(Cow::Borrowed(detail)),
            hint: Some(Cow::Borrowed(hint)),
            ..Reply::fatal(*b"28000", text)
        }
    }
}

impl HandshakeError {
    /// Its name in records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Protocol(_) => "protocol_violation",
            Self::Application(_) => "authentication_failed",
            Self::Server(_) => "server_unproven",
            Self::Refused(refusal) => refusal.name(),
        }
    }

    /// What the application hears: `user` is the role it named. `None` where a server says nothing either.
    pub fn reply(&self, user: &[u8]) -> Option<Reply> {
        match self {
            Self::Protocol(error) => error.reply(),
            Self::Application(error) => Some(error.reply(user)),
            // What of it may not be: the database's administrator has to know.
            Self::Server(error @ ScramError::Iterations { .. }) => Some(error.reply(user)),
            Self::Server(_) => {
                let text = "server could not prove that it knows the secret";
                let told =
                    "pgward on this host ended the connection: the server's part of SCRAM failed.";
                let reply = Reply::fatal(*b"08006", text);
                Some(Reply { detail: Some(Cow::Borrowed(told)), ..reply })
            }
            Self::Refused(refusal) => Some(refusal.reply()),
        }
    }
}
