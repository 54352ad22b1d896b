//! What a driver learns from a handshake, and what it comes to.

#[cfg(doc)]
use super::Handshake;
use super::course::{Demand, Offered};
use crate::pg::session::CancelKey;

/// Somebody proved to be who it says, to us or to the server: the only way to a [`Session`](crate::pg::Session).
///
/// Made in one place, behind the server's `AuthenticationOk`, with what led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authenticated {
    pub(super) how: How,
}

/// What led to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The application proved itself to us, and we to the server by what it asked for.
    Terminated {
        /// What the server asked for.
        demand: Demand,
        /// Whether another account was used than the application's own.
        login: Login,
        /// Whether the application bound the channel.
        client_bound: Offered,
        /// Whether we did towards the server.
        server_bound: Offered,
    },
    /// The application answered the server through us.
    Relayed {
        /// What the server asked for.
        demand: Demand,
    },
}

/// As whom we are with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// With the application's own secret.
    Own,
    /// With an account of the configuration.
    Account,
}

impl Authenticated {
    /// What led to it.
    pub fn how(self) -> How {
        self.how
    }
}

/// What a driver learns, and what it is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The server's demand is known: for the record.
    Demand(Demand),
    /// Wanted: [`Handshake::handle_credentials`].
    CredentialsWanted,
    /// The verifier is not the server's (any more). Wanted: [`Handshake::handle_credentials`] with another.
    VerifierStale,
    /// Wanted: [`Handshake::handle_keys`], for the account's password.
    KeysWanted {
        /// The server's salt.
        salt: Vec<u8>,
        /// The server's iteration count, between the bounds that `scram` sets.
        iterations: u32,
    },
    /// Wanted: [`Handshake::handle_password`].
    PasswordWanted,
    /// The server refused what we gave for the account (SQLSTATE class 28). Wanted: [`Handshake::restart`] on a new
    /// connection, or [`Handshake::give_up`]. Once at most.
    AccountRefused,
    /// The server speaks an older protocol than asked for: the minor version that counts.
    NegotiatedMinor(u16),
    /// Somebody is authenticated.
    Authenticated(How),
    /// A setting's value, as the application is told.
    ParameterStatus {
        /// Setting.
        name: Box<[u8]>,
        /// Value.
        value: Box<[u8]>,
    },
    /// What cancels the server's work, and what the application was given instead.
    BackendKeyData {
        /// Process number of the server.
        pid: u32,
        /// The server's.
        server_key: CancelKey,
        /// The application's.
        client_key: CancelKey,
    },
    /// The server reported an error that ends the connection; it is among what goes to the client.
    ServerError {
        /// Code, if it gave one.
        sqlstate: Option<[u8; 5]>,
        /// Whose failure it is.
        blame: Blame,
    },
    /// The client said goodbye.
    Terminate,
    /// The server takes requests. What tells the client so is the last of what goes to it: take [`Handshake::finish`].
    Ready,
}

/// Whose failure an error of the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The application's: what it answered was not accepted (SQLSTATE class 28).
    Application,
    /// Nobody's who could have guessed.
    Nobody,
}
