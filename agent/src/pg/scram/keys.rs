//! Keys and how they come from a password (RFC 5802 section 3).
//!
//! ```text
//! password --SASLprep, PBKDF2(salt, iterations)--> SaltedPassword
//!     SaltedPassword --HMAC("Client Key")--> ClientKey --H--> StoredKey
//!     SaltedPassword --HMAC("Server Key")--> ServerKey
//! ```
//!
//! Each array here is cleared when dropped. What the hash functions keep on the stack meanwhile is
//! not: their states have no means for it.

use hmac::{Hmac, Mac};
use sha2::digest::FixedOutput;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Verifier;
use super::saslprep::prepare;

/// Bytes of every key, signature and proof: those of SHA-256.
pub const KEY_BYTES: usize = 32;

/// 32 secret bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct Key(pub(super) [u8; KEY_BYTES]);

impl Key {
    pub(super) const ZERO: Self = Self([0; KEY_BYTES]);

    /// HMAC-SHA-256 over `parts` in one.
    pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(part);
        }
        let mut out = Self::ZERO;
        mac.finalize_into((&mut out.0).into());
        out
    }

    /// SHA-256 of it.
    pub(super) fn hash(&self) -> Self {
        let mut out = Self::ZERO;
        FixedOutput::finalize_into(Sha256::new_with_prefix(&self.0[..]), (&mut out.0).into());
        out
    }

    /// A key from a proof and a signature, or a proof from a key and a signature.
    pub(super) fn xor(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.0.iter_mut().zip(&other.0).for_each(|(byte, other)| *byte ^= other);
        out
    }

    pub(super) fn same(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    /// `AuthMessage` signed: its three parts have commas between.
    pub(super) fn sign(&self, auth_message: [&[u8]; 3]) -> Self {
        let [first_bare, server_first, without_proof] = auth_message;
        Self::hmac(&self.0, &[first_bare, b",", server_first, b",", without_proof])
    }
}

/// `ClientKey`: who has it and the verifier's salt and iterations can log in, as with the
/// password.
///
/// Comes out of a checked proof ([`Proven`](super::Proven)) and goes into [`Keys::recovered`].
#[derive(Clone, ZeroizeOnDrop)]
pub struct ClientKey(pub(super) Key);

impl std::fmt::Debug for ClientKey {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientKey").finish_non_exhaustive()
    }
}

/// What the client's side of an exchange needs: `ClientKey` and `ServerKey`, for one salt and
/// count of iterations.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Keys {
    pub(super) client: Key,
    pub(super) server: Key,
}

impl Keys {
    /// Keys of a password.
    ///
    /// The password is prepared as the server does: see [`Verifier::from_password`]. Takes time
    /// in proportion to `iterations`, milliseconds for 4096, so it belongs off the event loop;
    /// those of a [`Challenge`](super::Challenge) are within limits.
    /// Source: RFC 5802 section 3, `Hi`.
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = Key::ZERO;
        pbkdf2::pbkdf2_hmac::<Sha256>(&prepare(password), salt, iterations, &mut salted.0);
        Self {
            client: Key::hmac(&salted.0, &[b"Client Key"]),
            server: Key::hmac(&salted.0, &[b"Server Key"]),
        }
    }

    /// Keys without a password: what the application's proof gave away, and the server's key as
    /// the verifier has it.
    ///
    /// They answer a challenge for which [`Challenge::is_of`](super::Challenge::is_of) the same
    /// verifier holds, and no other.
    pub fn recovered(client_key: &ClientKey, verifier: &Verifier) -> Self {
        Self { client: client_key.0.clone(), server: verifier.server_key.clone() }
    }
}

impl std::fmt::Debug for Keys {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}
