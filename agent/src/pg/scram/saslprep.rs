//! Passwords as they go into the keys: SASLprep as PostgreSQL does it.
//!
//! It differs from RFC 4013 in what matters for passwords that exist: what is not UTF-8, has
//! prohibited or unassigned characters, breaks the rules for text in two directions, or maps to
//! nothing at all is used as it is, since the encoding of a password is not known. And what is
//! prohibited is looked for before normalization, not after it; a password that only differs in
//! this would else have other keys here than on the server and in libpq.
//!
//! Source: RFC 4013, RFC 3454, and `src/common/saslprep.c` of PostgreSQL 15 to 18.

use stringprep::tables;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// The bytes of a password that are hashed.
pub(super) fn prepare(password: &[u8]) -> Zeroizing<Vec<u8>> {
    normalize(password).unwrap_or_else(|| Zeroizing::new(password.to_vec()))
}

/// `None`: the profile does not apply.
fn normalize(password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if password.is_ascii() {
        return None;
    }
    let text = std::str::from_utf8(password).ok()?;
    let mapped = || {
        text.chars()
            .map(|c| if tables::non_ascii_space_character(c) { ' ' } else { c })
            .filter(|c| !tables::commonly_mapped_to_nothing(*c))
    };
    let (first, last) = (mapped().next()?, mapped().next_back()?);
    if mapped().any(|c| prohibited(c) || tables::unassigned_code_point(c)) {
        return None;
    }
    if mapped().any(tables::bidi_r_or_al)
        && (mapped().any(tables::bidi_l)
            || !tables::bidi_r_or_al(first)
            || !tables::bidi_r_or_al(last))
    {
        return None;
    }
    // Measured first: a buffer that grows would leave copies behind.
    let length = mapped().nfkc().map(char::len_utf8).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(length));
    for c in mapped().nfkc() {
        let mut buffer = Zeroizing::new([0; 4]);
        out.extend_from_slice(c.encode_utf8(&mut *buffer).as_bytes());
    }
    Some(out)
}

/// RFC 4013 section 2.3.
fn prohibited(c: char) -> bool {
    tables::non_ascii_space_character(c)
        || tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::surrogate_code(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
}
