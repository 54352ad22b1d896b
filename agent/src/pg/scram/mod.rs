//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides, without IO.
//!
//! ```text
//!   application                    agent: Server | Client                     database
//!   SASLInitialResponse            |              |            AuthenticationSASL
//!     n,,n=,r=<nonce>     -------> |              | -------->  n,,n=,r=<nonce>
//!   AuthenticationSASLContinue     |              |
//!     r=..,s=..,i=..      <------- |              | <--------  r=..,s=..,i=..
//!   SASLResponse                   |              |
//!     c=..,r=..,p=<proof> -------> | -- ClientKey | -------->  c=..,r=..,p=<proof>
//!   AuthenticationSASLFinal        v              v
//!     v=<signature>       <------- Proven        Ok <--------  v=<signature>
//! ```
//!
//! Each step takes the state by value and gives the next one, so that none can be left out or done
//! twice. Random bytes come from the caller as [`Nonce`]; keys of a password are slow and made by
//! [`Keys::derive`] and [`Verifier::from_password`] wherever the caller lets them take time.
//!
//! What is refused that RFC 5802 would allow: authorization identities and mandatory extensions,
//! as in the server; attributes with a meaning in the place of optional extensions; base64 in any
//! but its usual spelling; iteration counts outside [`ITERATIONS_MIN`] to [`ITERATIONS_MAX`] when
//! a server asks for them. What is not checked: the name behind `n=`, as in the server.
//!
//! Source: RFC 5802, RFC 7677, RFC 5929 section 4; PostgreSQL documentation, "SASL
//! Authentication"; `src/backend/libpq/auth-scram.c` and `src/interfaces/libpq/fe-auth-scram.c` of
//! PostgreSQL 15 to 18.

mod client;
mod error;
mod keys;
mod message;
mod saslprep;
mod server;
mod verifier;

pub use client::{AwaitingServer, Challenge, Client, ClientBinding, check_server_first};
pub use error::{BindingFault, Fault, ScramError, ServerError};
pub use keys::{ClientKey, KEY_BYTES, Keys};
pub use message::Gs2Flag;
pub use server::{AwaitingFinal, AwaitingFirst, Channel, Initial, Offer, Proven, Server};
pub use verifier::{VERIFIER_BYTES_MAX, Verifier, VerifierError};

/// Name of the mechanism without channel binding.
pub const PLAIN: &[u8] = b"SCRAM-SHA-256";
/// Name of the mechanism with channel binding.
pub const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";
/// The only kind of channel binding there is: the certificate of the server's end.
pub const TLS_SERVER_END_POINT: &str = "tls-server-end-point";
/// Longest SCRAM message of either side (`PG_MAX_SASL_MESSAGE_LENGTH`).
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// Longest nonce of a peer, both halves counted where it has both.
pub const NONCE_BYTES_MAX: usize = 512;
/// Longest salt. Servers draw 16 bytes.
pub const SALT_BYTES_MAX: usize = 256;
/// Fewest iterations for which we answer a server (RFC 7677 section 4).
pub const ITERATIONS_MIN: u32 = 4096;
/// Most iterations for which we answer a server, or read a verifier: some 500 times what servers
/// use when nobody sets another number, and three times what is advised in public for passwords.
pub const ITERATIONS_MAX: u32 = 2_000_000;
/// Iterations of verifiers that servers make when nobody sets another number
/// (`SCRAM_SHA_256_DEFAULT_ITERATIONS`).
pub const ITERATIONS_DEFAULT: u32 = 4096;
/// Bytes of the hash of a certificate: SHA-224 to SHA-512.
pub const END_POINT_BYTES: std::ops::RangeInclusive<usize> = 28..=64;

/// Channel binding data of `tls-server-end-point`: the hash of the server's certificate. Public.
///
/// The hash is that of the certificate's signature, SHA-256 in the place of MD5 and SHA-1.
/// Source: RFC 5929 section 4.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndPoint(Box<[u8]>);

impl EndPoint {
    /// From a certificate's hash; `None` unless it has the length of one ([`END_POINT_BYTES`]).
    pub fn from_hash(hash: &[u8]) -> Option<Self> {
        END_POINT_BYTES.contains(&hash.len()).then(|| Self(hash.into()))
    }

    /// The hash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Our half of the nonce of one exchange: 24 characters. Public once sent.
#[derive(Debug)]
pub struct Nonce(String);

impl Nonce {
    /// Of bytes that the caller drew from a cryptographic generator (as many as
    /// `SCRAM_RAW_NONCE_LEN`), each time anew. Not `Clone`: a nonce is for one exchange.
    pub fn from_random(random: [u8; 18]) -> Self {
        Self(message::encode(&random))
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests;
