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
        && (mapped().any(left_to_right)
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

/// RFC 3454 table D.2: characters of class L in Unicode 3.2.
///
/// The library asks the classes of today, which are others for 276 characters that a password may
/// have.
fn left_to_right(c: char) -> bool {
    match c {
        '\u{0cbf}' | '\u{0cc6}' | '\u{1734}' | '\u{2132}' | '\u{2800}'..='\u{28ff}' => false,
        '\u{302e}' | '\u{302f}' => false,
        '\u{17b4}' | '\u{17b5}' | '\u{1885}' | '\u{1886}' => true,
        '\u{1d6c1}' | '\u{1d6db}' | '\u{1d6fb}' | '\u{1d715}' | '\u{1d735}' => true,
        '\u{1d74f}' | '\u{1d76f}' | '\u{1d789}' | '\u{1d7a9}' | '\u{1d7c3}' => true,
        c => tables::bidi_l(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(password: &str, expected: &str) {
        let found = prepare(password.as_bytes());
        assert_eq!(
            found.escape_ascii().to_string(),
            expected.as_bytes().escape_ascii().to_string()
        );
    }

    #[test]
    fn examples_of_rfc_4013() {
        check("I\u{ad}X", "IX");
        check("user", "user");
        check("USER", "USER");
        check("\u{aa}", "a");
        check("\u{2168}", "IX");
        // Prohibited, and text in two directions: as it is.
        check("\u{7}", "\u{7}");
        check("\u{627}1", "\u{627}1");
    }

    #[test]
    fn spaces_become_one_kind() {
        check("a\u{a0}b\u{3000}c\u{200b}", "a b c ");
        check("a  b", "a  b");
    }

    #[test]
    fn what_cannot_be_prepared_is_used_as_it_is() {
        for password in [
            &b"\xffa"[..],
            b"\xed\xa0\x80\xc2\xaa",
            b"\xc2",
            b"",
            "\u{aa}\u{7f}".as_bytes(),
            "\u{aa}\u{e000}".as_bytes(),
            // Unassigned in Unicode 3.2.
            "\u{aa}\u{1f600}".as_bytes(),
            // Nothing is left of it.
            "\u{ad}\u{200d}".as_bytes(),
        ] {
            assert_eq!(&prepare(password)[..], password);
        }
    }

    #[test]
    fn prohibited_is_what_was_typed_not_what_it_becomes() {
        // U+0340 is prohibited; normalized it would be U+0300, which is not.
        check("\u{340}\u{aa}", "\u{340}\u{aa}");
        check("a\u{300}", "\u{e0}");
    }

    #[test]
    fn directions_are_those_of_unicode_3_2() {
        // Letters of class L between right-to-left ones, which have another class today.
        check("\u{5d0}\u{17b4}\u{aa}\u{5d0}", "\u{5d0}\u{17b4}\u{aa}\u{5d0}");
        check("\u{5d0}\u{1d6c1}\u{5d0}", "\u{5d0}\u{1d6c1}\u{5d0}");
        // Neutral then, letters today.
        check("\u{5d0}\u{2800}\u{fb1d}\u{5d0}", "\u{5d0}\u{2800}\u{5d9}\u{5b4}\u{5d0}");
        // First and last must be right-to-left.
        check("\u{5d0}1\u{fb1d}\u{5d0}", "\u{5d0}1\u{5d9}\u{5b4}\u{5d0}");
        check("\u{fb1d}1", "\u{fb1d}1");
        check("1\u{fb1d}", "1\u{fb1d}");
    }
}
