//! Commitments: what binds a value to its record without showing it.
//!
//! `SHA-256(0x03 ‖ "pgaudit-commit-v1" ‖ u32 field ‖ r ‖ value)`, with
//! `r = HMAC-SHA-256(secret, u32 field)` and a secret of 32 random bytes that each record has for
//! itself. Who does not have the secret cannot try values, however few there are.

use aws_lc_rs::{digest, hmac};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::key::KEY_BYTES;
use super::random::{NoRandom, random};

const LABEL: &[u8] = b"\x03pgaudit-commit-v1";
/// Number of the field that holds a text.
const TEXT: u32 = 10;
/// Number of the field that holds parameters.
const PARAMETERS: u32 = 11;
/// The ordinal of all parameters that are not listed; no parameter has it, since a statement has at
/// most 65,535.
const UNLISTED: u16 = u16::MAX;

/// What a commitment is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Text,
    /// Counted from 0.
    Parameter(u16),
    Unlisted,
}

/// Of one record. Cleared when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(super) struct RecordSecret([u8; KEY_BYTES]);

/// Makes the commitments of one record.
pub(super) struct Committer {
    secret: RecordSecret,
    key: hmac::Key,
}

/// A commitment to several values, of which each is told apart from the next: ordinal (u16), then
/// length (u64) and bytes, or `u64::MAX` for NULL.
pub(super) struct Several(digest::Context);

impl Field {
    fn number(self) -> [u8; 4] {
        let number = match self {
            Self::Text => TEXT,
            Self::Parameter(ordinal) => PARAMETERS << 16 | u32::from(ordinal),
            Self::Unlisted => PARAMETERS << 16 | u32::from(UNLISTED),
        };
        number.to_be_bytes()
    }
}

impl RecordSecret {
    pub(super) fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl Committer {
    /// With a fresh secret.
    pub(super) fn random() -> Result<Self, NoRandom> {
        Ok(Self::with(RecordSecret(random()?)))
    }

    pub(super) fn with(secret: RecordSecret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.0);
        Self { secret, key }
    }

    pub(super) fn secret(&self) -> &RecordSecret {
        &self.secret
    }

    pub(super) fn commit(&self, field: Field, value: &[u8]) -> [u8; 32] {
        let mut context = self.begin(field);
        context.update(value);
        finish(context)
    }

    pub(super) fn several(&self) -> Several {
        Several(self.begin(Field::Unlisted))
    }

    fn begin(&self, field: Field) -> digest::Context {
        let number = field.number();
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(LABEL);
        context.update(&number);
        context.update(hmac::sign(&self.key, &number).as_ref());
        context
    }
}

impl Several {
    /// Takes the next one.
    pub(super) fn add(&mut self, ordinal: u16, value: Option<&[u8]>) {
        self.0.update(&ordinal.to_be_bytes());
        match value {
            Some(value) => {
                self.0.update(&(value.len() as u64).to_be_bytes());
                self.0.update(value);
            }
            None => self.0.update(&u64::MAX.to_be_bytes()),
        }
    }

    pub(super) fn finish(self) -> [u8; 32] {
        finish(self.0)
    }
}

fn finish(context: digest::Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn commitments_are_as_documented() {
        use ::hmac::{Hmac, Mac as _};

        let committer = Committer::with(RecordSecret([7; 32]));
        for (field, number) in [
            (Field::Text, [0, 0, 0, 10]),
            (Field::Parameter(0x102), [0, 11, 1, 2]),
            (Field::Unlisted, [0, 11, 0xff, 0xff]),
        ] {
            let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).expect("any length");
            mac.update(&number);
            let r = mac.finalize().into_bytes();
            let expected: [u8; 32] = Sha256::new()
                .chain_update([3])
                .chain_update(b"pgaudit-commit-v1")
                .chain_update(number)
                .chain_update(r)
                .chain_update(b"1234")
                .finalize()
                .into();
            assert_eq!(committer.commit(field, b"1234"), expected, "{field:?}");
        }
    }

    #[test]
    fn each_record_has_a_secret_of_its_own() {
        let commitments: std::collections::HashSet<_> = (0..100)
            .map(|_| Committer::random().expect("random").commit(Field::Text, b"1234"))
            .collect();
        assert_eq!(commitments.len(), 100);
    }

    #[test]
    fn several_values_cannot_be_cut_in_another_way() {
        let of = |values: &[(u16, Option<&[u8]>)]| {
            let mut several = Committer::with(RecordSecret([7; 32])).several();
            values.iter().for_each(|(ordinal, value)| several.add(*ordinal, *value));
            several.finish()
        };
        let all = [
            of(&[]),
            of(&[(1, Some(b"ab")), (2, Some(b"c"))]),
            of(&[(1, Some(b"a")), (2, Some(b"bc"))]),
            of(&[(1, Some(b"ab")), (3, Some(b"c"))]),
            of(&[(1, Some(b"")), (2, None)]),
            of(&[(1, None), (2, Some(b""))]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| other != one));
        }
    }
}
