//! Keys of an account's password, kept from one login to the next.
//!
//! A derivation is thousands of rounds of a hash, and a server asks for the same salt each time. What is kept is worth as much
//! as the password at servers with that salt; the password itself is not kept, only a keyed hash to know it by.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hmac::digest::FixedOutput as _;
use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::SecretError;
use crate::pg::scram::Keys;

/// Salts of one account with keys at hand: servers of one destination may each have their own.
const SALTS_MAX: usize = 4;

/// Derives keys, each once.
#[derive(Default)]
pub(super) struct Derived {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Random, drawn at the first derivation.
    seed: Option<Zeroizing<[u8; 32]>>,
    /// Oldest first.
    all: Vec<Derivation>,
}

/// Of a password, by which only this process knows it.
type Hash = Zeroizing<[u8; 32]>;

struct Derivation {
    password: Hash,
    salt: Box<[u8]>,
    iterations: u32,
    keys: Keys,
}

impl Derived {
    /// Keys of a password for one salt and count of iterations.
    ///
    /// Errors: [`SecretError::Random`]; [`SecretError::Unfinished`] when the agent is stopping.
    pub(super) async fn keys(
        &self,
        password: &Arc<SecretSlice<u8>>,
        salt: &[u8],
        iterations: u32,
    ) -> Result<Keys, SecretError> {
        let hash = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let hash = kept.hash(password.expose_secret())?;
            if let Some(keys) = kept.find(&hash, salt, iterations) {
                return Ok(keys);
            }
            hash
        };
        let (given, own_salt) = (password.clone(), salt.to_vec());
        let derived = tokio::task::spawn_blocking(move || {
            Keys::derive(given.expose_secret(), &own_salt, iterations)
        });
        let unfinished = |_| SecretError::Unfinished { from: "an account's password".to_owned() };
        let keys = derived.await.map_err(unfinished)?;
        let salt = Box::from(salt);
        let new = Derivation { password: hash, salt, iterations, keys: keys.clone() };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).keep(new);
        Ok(keys)
    }
}

impl Kept {
    fn hash(&mut self, password: &[u8]) -> Result<Hash, SecretError> {
        let seed = match &self.seed {
            Some(seed) => seed,
            None => {
                let mut seed = Zeroizing::new([0; 32]);
                getrandom::fill(&mut *seed).map_err(|_| SecretError::Random)?;
                self.seed.insert(seed)
            }
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(&**seed).expect("HMAC takes any key");
        mac.update(password);
        let mut hash = Zeroizing::new([0; 32]);
        mac.finalize_into((&mut *hash).into());
        Ok(hash)
    }

    fn find(&self, password: &Hash, salt: &[u8], iterations: u32) -> Option<Keys> {
        let same = |kept: &&Derivation| {
            *kept.salt == *salt
                && kept.iterations == iterations
                && bool::from(kept.password.ct_eq(&**password))
        };
        self.all.iter().find(same).map(|kept| kept.keys.clone())
    }

    fn keep(&mut self, new: Derivation) {
        // Of this salt: another password's, or the same from a login beside this one.
        self.all.retain(|kept| kept.salt != new.salt || kept.iterations != new.iterations);
        if self.all.len() >= SALTS_MAX {
            self.all.remove(0);
        }
        self.all.push(new);
    }
}

impl fmt::Debug for Derived {
    /// Without any of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derived").finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Derived {
    /// How many are kept.
    fn count(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).all.len()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretBox;

    use super::*;
    use crate::pg::scram::{Client, ClientBinding, Nonce};

    fn password(text: &str) -> Arc<SecretSlice<u8>> {
        Arc::new(SecretBox::new(Box::from(text.as_bytes())))
    }

    /// What a client with these keys answers to a challenge that is always the same.
    fn proof(keys: &Keys) -> Vec<u8> {
        let (client, _, first) =
            Client::new(ClientBinding::NotOverTls, Nonce::from_random(Default::default()));
        let first = String::from_utf8(first).expect("text");
        let (_, nonce) = first.split_once("r=").expect("a nonce");
        let challenge = format!("r={nonce}more,s=c2FsdA==,i=4096");
        let challenge = client.handle_first(challenge.as_bytes()).expect("a challenge");
        challenge.answer(keys).1.expose_secret().to_vec()
    }

    async fn keys(derived: &Derived, text: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        let keys = derived.keys(&password(text), salt, iterations).await.expect("derived");
        let right = proof(&Keys::derive(text.as_bytes(), salt, iterations));
        assert_eq!(proof(&keys), right, "{text} {salt:?} {iterations}");
        right
    }

    #[tokio::test]
    async fn keys_are_those_of_the_password_and_the_challenge_whatever_is_kept() {
        let derived = Derived::default();
        let first = keys(&derived, "one", b"salt", 4096).await;
        assert_eq!(keys(&derived, "one", b"salt", 4096).await, first);
        assert_eq!(derived.count(), 1);
        assert_ne!(keys(&derived, "one", b"salt", 4097).await, first);
        assert_ne!(keys(&derived, "one", b"other", 4096).await, first);
        assert_eq!(derived.count(), 3);
        // Another password takes the place of the one before.
        assert_ne!(keys(&derived, "two", b"salt", 4096).await, first);
        assert_eq!(keys(&derived, "one", b"salt", 4096).await, first);
        assert_eq!(derived.count(), 3);
    }

    #[tokio::test]
    async fn a_few_salts_are_kept() {
        let derived = Derived::default();
        for salt in 0..SALTS_MAX as u8 + 3 {
            keys(&derived, "one", &[salt], 4096).await;
        }
        assert_eq!(derived.count(), SALTS_MAX);
    }

    #[tokio::test]
    async fn what_is_kept_is_used_and_not_shown() {
        let derived = Derived::default();
        keys(&derived, "one", b"salt", 4096).await;
        // Where the kept keys were others, they would be given.
        let strange = Keys::derive(b"strange", b"salt", 4096);
        derived.kept.lock().expect("held by none").all[0].keys = strange.clone();
        let given = derived.keys(&password("one"), b"salt", 4096).await.expect("kept");
        assert_eq!(proof(&given), proof(&strange));
        assert_eq!(format!("{derived:?}"), "Derived { .. }");
    }
}
