//! What a server keeps of a password.

use secrecy::SecretString;
use subtle::Choice;
use zeroize::ZeroizeOnDrop;

use super::keys::{Key, Keys};
use super::message::{decode, decode_key, encode, number};
use super::{ITERATIONS_DEFAULT, ITERATIONS_MAX, PLAIN, SALT_BYTES_MAX};

/// Longest text of a verifier that is read: mechanism, ten digits, salt, two keys, and what
/// stands between.
pub const VERIFIER_BYTES_MAX: usize = 13 + 1 + 10 + 1 + SALT_BYTES_MAX.div_ceil(3) * 4 + 1 + 89;
/// Bytes of the salt that an unknown user is shown, as the server makes them for users that exist
/// (`SCRAM_DEFAULT_SALT_LEN`).
const MOCK_SALT_BYTES: usize = 16;

/// A verifier of SCRAM-SHA-256: salt, iterations, `StoredKey` and `ServerKey`.
///
/// With it passwords can be guessed offline, and a server can be played to its user; it does not
/// let anybody log in. Cleared on drop; shown nowhere but by [`Verifier::expose`].
#[derive(Clone, ZeroizeOnDrop)]
pub struct Verifier {
    #[zeroize(skip)]
    iterations: u32,
    salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
    #[zeroize(skip)]
    user: User,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Known,
    Unknown,
}

/// Why a text or its parts are not a verifier. Holds nothing of them but lengths and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// Another kind of secret: `md5...`, a password, an empty text.
    #[error("not a verifier of SCRAM-SHA-256")]
    Mechanism,
    /// Longer than any verifier is.
    #[error("verifier too long: {found} bytes, at most {VERIFIER_BYTES_MAX}")]
    Length {
        /// Its length.
        found: usize,
    },
    /// One of the four parts behind the name of the mechanism is missing.
    #[error("verifier without {part}")]
    Missing {
        /// Which.
        part: &'static str,
    },
    /// An iteration count that is not a number of 32 bits, or outside its limits.
    #[error("invalid iteration count in a verifier, expected 1 to {ITERATIONS_MAX}")]
    Iterations,
    /// A salt that is not base64, empty, or too long.
    #[error("invalid salt in a verifier, expected 1 to {SALT_BYTES_MAX} bytes in base64")]
    Salt,
    /// A key that is not base64 of 32 bytes.
    #[error("invalid {part} in a verifier, expected 32 bytes in base64")]
    Key {
        /// Which.
        part: &'static str,
    },
}

impl Verifier {
    /// Reads a verifier as `pg_authid.rolpassword` holds it.
    ///
    /// Layout: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, the count in decimal,
    /// the others in base64.
    /// Limits: 1 to [`ITERATIONS_MAX`] iterations, a salt of 1 to [`SALT_BYTES_MAX`] bytes. A count
    /// below [`ITERATIONS_MIN`](super::ITERATIONS_MIN) is read, for whoever looks at it to decide.
    /// Source: PostgreSQL documentation, "pg_authid"; `parse_scram_secret`.
    pub fn parse(text: &[u8]) -> Result<Self, VerifierError> {
        if text.len() > VERIFIER_BYTES_MAX {
            return Err(VerifierError::Length { found: text.len() });
        }
        let parts = text.strip_prefix(PLAIN).and_then(|rest| rest.strip_prefix(b"$"));
        let rest = parts.ok_or(VerifierError::Mechanism)?;
        let (iterations, rest) = split(rest, b':', "a salt")?;
        let (salt, rest) = split(rest, b'$', "StoredKey")?;
        let (stored_key, server_key) = split(rest, b':', "ServerKey")?;
        Self {
            iterations: number(iterations).ok_or(VerifierError::Iterations)?,
            salt: decode(salt).ok_or(VerifierError::Salt)?,
            stored_key: key(stored_key, "StoredKey")?,
            server_key: key(server_key, "ServerKey")?,
            user: User::Known,
        }
        .checked()
    }

    /// The verifier of a password.
    ///
    /// The password is prepared with SASLprep where it applies, and else taken as it is, as the
    /// server does. Takes time in proportion to `iterations`, milliseconds for 4096, so it
    /// belongs off the event loop.
    /// Errors: [`VerifierError::Iterations`] and [`VerifierError::Salt`] for values outside the
    /// limits of [`Verifier::parse`].
    pub fn from_password(
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Result<Self, VerifierError> {
        let mut verifier = Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: Key::ZERO,
            server_key: Key::ZERO,
            user: User::Known,
        }
        .checked()?;
        let keys = Keys::derive(password, salt, iterations);
        verifier.stored_key = keys.client.hash();
        verifier.server_key = keys.server.clone();
        Ok(verifier)
    }

    /// What stands for the verifier of a user who has none: an exchange with it runs like any
    /// other up to the end, and fails there whatever the proof is.
    ///
    /// The salt is the same for the same user as long as `seed` is, and cannot be told from one
    /// that was drawn; the count is the one that servers use when nobody sets another.
    /// Source: `mock_scram_secret` and `scram_mock_salt` in `src/backend/libpq/auth-scram.c`.
    pub fn mock(seed: &[u8; 32], user: &[u8]) -> Self {
        let salt = Key::hmac(seed, &[b"salt", user]);
        Self {
            iterations: ITERATIONS_DEFAULT,
            salt: salt.0[..MOCK_SALT_BYTES].to_vec(),
            stored_key: Key::hmac(seed, &[b"stored", user]),
            server_key: Key::hmac(seed, &[b"server", user]),
            user: User::Unknown,
        }
    }

    /// The same with the salt and the count of a challenge: what a server says of a user it does not know.
    pub fn mock_of(challenge: &super::Challenge, seed: &[u8; 32], user: &[u8]) -> Self {
        let mut mock = Self::mock(seed, user);
        mock.iterations = challenge.iterations();
        mock.salt = challenge.salt().to_vec();
        mock
    }

    /// The salt: 1 to [`SALT_BYTES_MAX`] bytes.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Rounds of PBKDF2: 1 to [`ITERATIONS_MAX`].
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The text that [`Verifier::parse`] reads.
    pub fn expose(&self) -> SecretString {
        let mut text = String::with_capacity(VERIFIER_BYTES_MAX);
        for part in [
            "SCRAM-SHA-256$",
            &self.iterations.to_string(),
            ":",
            &encode(&self.salt),
            "$",
            &zeroize::Zeroizing::new(encode(&self.stored_key.0)),
            ":",
            &zeroize::Zeroizing::new(encode(&self.server_key.0)),
        ] {
            text.push_str(part);
        }
        // Copied to its size, as a box that shrinks could leave the old bytes behind.
        SecretString::from(zeroize::Zeroizing::new(text).as_str())
    }

    /// Whether a client key is the user's: the same work for every verifier.
    pub(super) fn accepts(&self, client_key: &Key) -> Choice {
        let known = Choice::from(match self.user {
            User::Known => 1,
            User::Unknown => 0,
        });
        client_key.hash().same(&self.stored_key) & known
    }

    /// This one as if its user did not exist.
    #[cfg(test)]
    pub(super) fn make_unknown(&mut self) {
        self.user = User::Unknown;
    }

    /// This one as of a server that knows only half of it.
    #[cfg(test)]
    pub(super) fn with_server_key_of(&self, password: &[u8]) -> Self {
        let keys = Keys::derive(password, &self.salt, self.iterations);
        let mut other = self.clone();
        other.server_key = keys.server.clone();
        other
    }

    fn checked(self) -> Result<Self, VerifierError> {
        if !(1..=ITERATIONS_MAX).contains(&self.iterations) {
            return Err(VerifierError::Iterations);
        }
        if !(1..=SALT_BYTES_MAX).contains(&self.salt.len()) {
            return Err(VerifierError::Salt);
        }
        Ok(self)
    }
}

impl std::fmt::Debug for Verifier {
    /// Without salt and keys, and without saying whether the user exists.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

fn split<'a>(
    text: &'a [u8],
    separator: u8,
    behind: &'static str,
) -> Result<(&'a [u8], &'a [u8]), VerifierError> {
    let at = text.iter().position(|byte| *byte == separator);
    let at = at.ok_or(VerifierError::Missing { part: behind })?;
    Ok((&text[..at], &text[at + 1..]))
}

fn key(text: &[u8], part: &'static str) -> Result<Key, VerifierError> {
    let mut key = Key::ZERO;
    if decode_key(text, &mut key.0) { Ok(key) } else { Err(VerifierError::Key { part }) }
}
