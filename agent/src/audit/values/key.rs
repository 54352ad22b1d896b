//! Secret keys, and one wrapped by another.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::random::{NoRandom, random};

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes of a nonce.
pub(super) const NONCE_BYTES: usize = 12;
/// Bytes that AES-256-GCM adds.
pub(super) const TAG_BYTES: usize = 16;
/// Bytes of a wrapped key, without its nonce.
pub(super) const SEALED_KEY_BYTES: usize = KEY_BYTES + TAG_BYTES;

/// 32 secret bytes, cleared when dropped. It has no `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct Key([u8; KEY_BYTES]);

/// A key that is ready to seal: making it so costs more than sealing a short value does. Cleared
/// when dropped, as aws-lc clears all that it frees.
pub(super) struct Sealing(LessSafeKey);

/// A key, encrypted with another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Wrapped {
    pub(super) nonce: [u8; NONCE_BYTES],
    pub(super) sealed: [u8; SEALED_KEY_BYTES],
}

/// Something encrypted is not what was encrypted, or not with this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotOurs;

impl Key {
    pub(super) fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn random() -> Result<Self, NoRandom> {
        random().map(Self)
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Another key, from which this one cannot be told: HKDF-SHA-256 with `label` as salt.
    pub(super) fn derive(&self, label: &[u8]) -> Self {
        derive(&self.0, label)
    }

    /// A key that can be had only from both.
    pub(super) fn with(&self, other: &Self, label: &[u8]) -> Self {
        let mut both = [0; 2 * KEY_BYTES];
        both[..KEY_BYTES].copy_from_slice(&self.0);
        both[KEY_BYTES..].copy_from_slice(&other.0);
        let key = derive(&both, label);
        both.zeroize();
        key
    }

    /// HMAC-SHA-256 with this key.
    pub(super) fn hmac(&self, message: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), message);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    /// To seal more than once with it.
    pub(super) fn sealing(&self) -> Sealing {
        Sealing(self.aead())
    }

    /// Decrypts in place; gives the plain bytes.
    pub(super) fn open<'a>(
        &self,
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], NotOurs> {
        self.aead()
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), sealed)
            .map_err(|_| NotOurs)
    }

    /// Encrypts another key.
    pub(super) fn wrap(&self, inner: &Self, aad: &[u8]) -> Result<Wrapped, NoRandom> {
        let nonce = random()?;
        let mut sealed = [0; SEALED_KEY_BYTES];
        let (key, tag) = sealed.split_at_mut(KEY_BYTES);
        key.copy_from_slice(&inner.0);
        tag.copy_from_slice(&self.sealing().seal(nonce, aad, key));
        Ok(Wrapped { nonce, sealed })
    }

    /// Decrypts another key.
    pub(super) fn unwrap(&self, wrapped: &Wrapped, aad: &[u8]) -> Result<Self, NotOurs> {
        let mut sealed = wrapped.sealed;
        let opened = self.open(wrapped.nonce, aad, &mut sealed).map(|plain| {
            let mut key = [0; KEY_BYTES];
            key.copy_from_slice(plain);
            Self(key)
        });
        sealed.zeroize();
        opened
    }

    fn aead(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, &self.0);
        LessSafeKey::new(key.expect("AES-256 takes 32 bytes"))
    }
}

impl Sealing {
    /// Encrypts in place with AES-256-GCM and gives the tag. A nonce must not come twice.
    pub(super) fn seal(
        &self,
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
        bytes: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let sealed = self.0.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            bytes,
        );
        let tag = sealed.expect("AES-256-GCM takes up to 64 GiB");
        let mut taken = [0; TAG_BYTES];
        taken.copy_from_slice(tag.as_ref());
        taken
    }
}

fn derive(secret: &[u8], label: &[u8]) -> Key {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, label).extract(secret);
    let mut key = [0; KEY_BYTES];
    extracted
        .expand(&[b"key"], hkdf::HKDF_SHA256)
        .and_then(|expanded| expanded.fill(&mut key))
        .expect("HKDF-SHA-256 gives 32 bytes");
    Key(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_key_opens_with_its_wrapper_and_its_name_only() {
        let (outer, inner) = (Key::random().expect("random"), Key::random().expect("random"));
        let wrapped = outer.wrap(&inner, b"name").expect("random");
        let opened = outer.unwrap(&wrapped, b"name").map(|key| *key.bytes());
        assert_eq!(opened, Ok(*inner.bytes()));
        assert!(outer.unwrap(&wrapped, b"other").is_err());
        assert!(inner.unwrap(&wrapped, b"name").is_err());
        for at in 0..SEALED_KEY_BYTES {
            let mut changed = wrapped;
            changed.sealed[at] ^= 1;
            assert!(outer.unwrap(&changed, b"name").is_err(), "byte {at}");
        }
        let again = outer.wrap(&inner, b"name").expect("random");
        assert!(again.nonce != wrapped.nonce, "a fresh nonce each time");
    }

    #[test]
    fn derived_keys_differ_by_label_and_by_either_part() {
        let (a, b) = (Key::new([1; 32]), Key::new([2; 32]));
        let all = [
            *a.bytes(),
            *a.derive(b"x").bytes(),
            *a.derive(b"y").bytes(),
            *b.derive(b"x").bytes(),
            *a.with(&b, b"x").bytes(),
            *b.with(&a, b"x").bytes(),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| other != one));
        }
    }

    #[test]
    fn hmac_is_the_one_of_rfc_4231() {
        // Test case 2 has a short key; HMAC pads it with zeros, as we do here.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(Key::new(key).hmac(b"what do ya want for nothing?")), expected);
    }
}
