//! Keys of seals: each is made in memory, signs one seal, and is erased.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::audit::chain::{SealKeys, Signature, Signer};

/// The key of one seal. Cleared when dropped; it never touches a disk.
pub struct SealKey {
    /// On the heap, so that moving the key leaves no copies behind.
    seed: Box<Zeroizing<[u8; 32]>>,
    public: [u8; 32],
}

/// The kernel has no random numbers.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("no random numbers for a new key")]
pub struct SealKeyError;

impl SealKey {
    /// A new one.
    pub fn fresh() -> Result<Self, SealKeyError> {
        let mut seed = Box::new(Zeroizing::new([0; 32]));
        getrandom::fill(seed.as_mut_slice()).map_err(|_| SealKeyError)?;
        Ok(Self::from_seed(seed))
    }

    /// The one of a seed that was passed on.
    pub(super) fn from_seed(seed: Box<Zeroizing<[u8; 32]>>) -> Self {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).expect("any 32 bytes are a seed");
        let public = pair.public_key().as_ref().try_into().expect("Ed25519 has keys of 32 bytes");
        Self { seed, public }
    }

    /// What the next run needs. For [`super::offer`].
    pub(super) fn seed(&self) -> &[u8; 32] {
        &self.seed
    }
}

impl Signer for SealKey {
    fn public_key(&self) -> [u8; 32] {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Signature {
        let pair = Ed25519KeyPair::from_seed_and_public_key(self.seed.as_slice(), &self.public)
            .expect("the public key was computed from this seed");
        pair.sign(message).as_ref().try_into().expect("Ed25519 has signatures of 64 bytes")
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").field("public", &hex::encode(self.public)).finish_non_exhaustive()
    }
}

/// Makes keys from the kernel's random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SealKeyMaker;

impl SealKeys for SealKeyMaker {
    type Key = SealKey;
    type Error = SealKeyError;

    fn fresh(&mut self) -> Result<SealKey, SealKeyError> {
        SealKey::fresh()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn each_key_is_another_and_signs() {
        let (one, other) =
            (SealKeyMaker.fresh().expect("random"), SealKey::fresh().expect("random"));
        assert_ne!(one.public_key(), other.public_key());
        let verifier = UnparsedPublicKey::new(&ED25519, one.public_key());
        assert!(verifier.verify(b"seal", &one.sign(b"seal")).is_ok());
        assert!(verifier.verify(b"seal", &other.sign(b"seal")).is_err());
        assert!(!format!("{one:?}").contains(&hex::encode(one.seed())));
    }
}
