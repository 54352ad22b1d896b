//! TLS on both legs of a session, and the local certificate authority.
//!
//! * [`client_leg`]: we are the server. The certificate is for the name that the application asked for, minted by [`ca`], or
//!   comes from files.
//! * [`server_leg`]: we are the client. What is verified, and against what, is the destination's setting.
//! * [`endpoint`]: channel binding data of a certificate.
//!
//! Both legs speak TLS 1.2 (ECDHE and AEAD only) and TLS 1.3, prefer X25519MLKEM768, offer ALPN `postgresql`, resume sessions
//! and never send or take early data. There is no renegotiation and no compression: the library has neither.

pub mod ca;
pub mod client_leg;
pub mod endpoint;
pub mod error;
mod files;
mod minting;
pub mod server_leg;
mod verify;

#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use rustls::{
    CommonState, HandshakeKind, ProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
};

pub use ca::{Authority, CaError};
pub use client_leg::{Accepted, ClientLeg, Presented};
pub use endpoint::EndPointHash;
pub use error::{ConfigurationError, Side, TlsError, Told, VerificationError};
pub use server_leg::{
    Connected, Identity, IdentityGiven, Roots, ServerLeg, Settings, Verification,
};

/// PostgreSQL's name among application protocols.
///
/// Source: PostgreSQL documentation, "SSL Session Encryption"; `src/include/libpq/pqcomm.h`, `PG_ALPN_PROTOCOL`.
pub const ALPN: &[u8] = b"postgresql";

/// Whether the peer must agree on ALPN `postgresql`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// TLS asked for with SSLRequest: the protocol is known already.
    Optional,
    /// Direct TLS: without it a peer of another protocol could be made to talk to us.
    Required,
}

/// What the two sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// As PostgreSQL names it in `pg_stat_ssl`: `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Name of the cipher suite in the registry of IANA.
    pub cipher: &'static str,
    /// Name of the group of the key exchange. A resumed session of TLS 1.2 has none.
    pub group: Option<&'static str>,
    /// An earlier session was resumed.
    pub resumed: bool,
    /// Both agreed on ALPN `postgresql`.
    pub alpn: bool,
}

impl Parameters {
    fn of(connection: &CommonState) -> Self {
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            cipher: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .map_or("unknown", registered),
            group: connection
                .negotiated_key_exchange_group()
                .and_then(|group| group.name().as_str()),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: connection.alpn_protocol() == Some(ALPN),
        }
    }
}

/// The library marks suites of TLS 1.3 in its own way.
fn registered(cipher: &'static str) -> &'static str {
    match cipher {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        other => other,
    }
}

/// The cryptography of all connections.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider()))
}
