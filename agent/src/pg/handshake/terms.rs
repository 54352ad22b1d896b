//! What is known when a handshake begins, and what is found for it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    course::{Accepted, CertificateGiven, Mode, Secret, Upgrade},
    hello::Hello,
};
use crate::pg::scram::{EndPoint, Verifier};

/// How a channel is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// Clear text.
    Clear,
    /// TLS; what SCRAM can bind to, where the certificate's signature defines it.
    Tls(Option<EndPoint>),
}

/// What is wanted of channel binding on one leg.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Binding {
    /// Never.
    Disable,
    /// Where it can be had.
    #[default]
    Prefer,
    /// Or nothing.
    Require,
}

/// Our connection to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLeg {
    /// Its protection.
    pub channel: Channel,
    /// Whether it took a certificate of ours.
    pub certificate: CertificateGiven,
}

/// Random bytes, each used once.
pub struct Random {
    /// For the exchange with the application.
    pub client_nonce: [u8; 18],
    /// For the exchange with the server.
    pub server_nonce: [u8; 18],
    /// The key that the application gets, as long as the server's: 4 to 256 bytes.
    pub cancel_key: Zeroizing<[u8; 256]>,
    /// Of the agent's run: what unknown users' salts are made of.
    pub mock_seed: Arc<Zeroizing<[u8; 32]>>,
}

/// Everything that is known when the startup packet is with the server.
pub struct Terms {
    /// The role that the application named.
    pub user: Box<[u8]>,
    /// The startup packet, both as it came and as the server got it.
    pub hello: Hello,
    /// The application's leg.
    pub client_leg: Channel,
    /// Channel binding there.
    pub client_binding: Binding,
    /// The server's leg.
    pub server_leg: ServerLeg,
    /// Channel binding there.
    pub server_binding: Binding,
    /// How the exchange goes.
    pub mode: Mode,
    /// Whether weak demands are met for who proved itself.
    pub upgrade: Upgrade,
    /// What may be relayed.
    pub accepted: Accepted,
    /// Random bytes.
    pub random: Random,
}

/// What is at hand of the role's secret.
pub enum Credentials {
    /// Nothing.
    Absent,
    /// The verifier that the server has, too.
    Shared(Arc<Verifier>),
    /// The application's own, and an account of ours to log in with.
    Account {
        /// What the application proves itself by.
        application: Arc<Verifier>,
    },
}

impl Credentials {
    pub(super) fn secret(&self) -> Secret {
        match self {
            Self::Absent => Secret::Absent,
            Self::Shared(_) => Secret::Shared,
            Self::Account { application: _ } => Secret::Mapped,
        }
    }
}
