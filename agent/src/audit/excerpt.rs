//! Texts and values that may be too long for a record.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The beginning of something, and what is known of the rest. `Debug` shows lengths only: the
/// agent's own log is no place for what is in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Excerpt<'a> {
    /// What the record holds.
    pub kept: &'a [u8],
    /// Set when that is not all.
    pub cut: Option<Cut>,
}

/// What is known of something that was cut. Made once, where the whole is at hand, and kept beside
/// the part that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Length of the whole, in bytes.
    pub full_bytes: u64,
    /// SHA-256 of the whole; `None` where it went by without being held.
    pub sha256: Option<[u8; 32]>,
}

impl fmt::Debug for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full_bytes = self.full_bytes();
        f.debug_struct("Excerpt")
            .field("kept_bytes", &self.kept.len())
            .field("full_bytes", &full_bytes)
            .finish()
    }
}

impl<'a> Excerpt<'a> {
    /// All of `bytes`, however long.
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self { kept: bytes, cut: None }
    }

    /// What somebody else cut: `kept` of `full_bytes`, of which the rest is not at hand.
    pub fn beginning(kept: &'a [u8], full_bytes: u64) -> Self {
        let whole = kept.len() as u64 >= full_bytes;
        Self { kept, cut: (!whole).then_some(Cut { full_bytes, sha256: None }) }
    }

    /// Cuts further: at most the first `bytes_max` of what is kept, as [`Excerpt::of`] does. What
    /// was cut before keeps its length and digest.
    pub fn shortened(self, bytes_max: usize) -> Self {
        let shorter = Self::of(self.kept, bytes_max);
        Self { cut: self.cut.or(shorter.cut), ..shorter }
    }

    /// Length of the whole.
    pub fn full_bytes(&self) -> u64 {
        self.cut.map_or(self.kept.len() as u64, |cut| cut.full_bytes)
    }

    /// At most the first `bytes_max` of `bytes`. The digest is computed only when something is cut.
    ///
    /// The cut never splits a character of UTF-8, so a text stays a text: up to three bytes less
    /// are kept.
    pub fn of(bytes: &'a [u8], bytes_max: usize) -> Self {
        if bytes.len() <= bytes_max {
            return Self::whole(bytes);
        }
        let mut end = bytes_max;
        while end > bytes_max.saturating_sub(4) && bytes[end] & 0b1100_0000 == 0b1000_0000 {
            end = end.saturating_sub(1);
        }
        // Four continuation bytes in a row are no UTF-8: nothing to keep together.
        if bytes[end] & 0b1100_0000 == 0b1000_0000 {
            end = bytes_max;
        }
        Self { kept: &bytes[..end], cut: Some(Cut::of(bytes)) }
    }
}

impl Cut {
    /// Length and digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { full_bytes: bytes.len() as u64, sha256: Some(Sha256::digest(bytes).into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_stay_whole() {
        assert_eq!(Excerpt::of(b"abc", 3), Excerpt { kept: b"abc", cut: None });
        assert_eq!(Excerpt::of(b"", 0), Excerpt { kept: b"", cut: None });
    }

    #[test]
    fn long_values_keep_length_and_digest() {
        let excerpt = Excerpt::of(b"abc", 2);
        let cut = excerpt.cut.expect("cut");
        assert_eq!((excerpt.kept, cut.full_bytes), (&b"ab"[..], 3));
        // SHA-256 of "abc", FIPS 180-2 appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(cut.sha256.map(hex::encode).as_deref(), Some(expected));
    }

    #[test]
    fn what_was_cut_before_keeps_what_is_known() {
        let excerpt = Excerpt::beginning(b"abcdef", 100).shortened(3);
        assert_eq!(
            (excerpt.kept, excerpt.cut),
            (&b"abc"[..], Some(Cut { full_bytes: 100, sha256: None }))
        );
        assert_eq!(Excerpt::beginning(b"abc", 3), Excerpt::whole(b"abc"));
        assert_eq!(Excerpt::whole(b"abc").shortened(2), Excerpt::of(b"abc", 2));
        assert_eq!(format!("{excerpt:?}"), "Excerpt { kept_bytes: 3, full_bytes: 100 }");
    }

    #[test]
    fn characters_are_not_split() {
        let text = "aé€🐘z".as_bytes();
        for max in 0..text.len() {
            let kept = Excerpt::of(text, max).kept;
            assert!(
                std::str::from_utf8(kept).is_ok() && kept.len() <= max && kept.len() + 3 >= max
            );
        }
        assert_eq!(Excerpt::of(&[0x80; 10], 6).kept.len(), 6, "no UTF-8, no boundary");
    }
}
