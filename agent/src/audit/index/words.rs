//! Words of a statement, as they are indexed and searched for.
//!
//! A word is a longest run of ASCII letters, digits, `_`, `$` and bytes from 0x80 on, so that
//! identifiers and words of any language in UTF-8 stay whole. ASCII letters are lower case. Numbers
//! of parameters (`$1`) are no words. Of a word longer than [`WORD_BYTES_MAX`] its beginning counts.

/// Longest word, in bytes.
pub const WORD_BYTES_MAX: usize = 128;

/// The words of `text` in their order, with repetitions.
pub fn words(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    text.split(|byte| !is_part(*byte))
        .map(|run| &run[..run.len().min(WORD_BYTES_MAX)])
        .filter(|run| !run.is_empty() && !is_parameter(run))
        .map(<[u8]>::to_ascii_lowercase)
}

/// FNV-1a, 64 bit: what the index holds in place of a word. Words that share it are told apart when
/// the statement is read.
pub fn word_hash(word: &[u8]) -> u64 {
    word.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

fn is_parameter(run: &[u8]) -> bool {
    run.strip_prefix(b"$").is_some_and(|rest| rest.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_identifiers_and_the_like() {
        let found: Vec<String> =
            words("SELECT a.\"Straße\", $1 FROM public.t_2 -- x$y 42".as_bytes())
                .map(|word| String::from_utf8(word).expect("UTF-8"))
                .collect();
        assert_eq!(found, ["select", "a", "straße", "from", "public", "t_2", "x$y", "42"]);
        assert_eq!(words(b" \0\n$").count(), 0);
        assert_eq!(words(&[b'x'; 500]).next().map(|word| word.len()), Some(WORD_BYTES_MAX));
        assert_eq!(words(b"\xff\xfe;a").collect::<Vec<_>>(), [&b"\xff\xfe"[..], b"a"]);
    }

    #[test]
    fn hashes_are_those_of_the_format() {
        // Test vectors of draft-eastlake-fnv.
        assert_eq!(word_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(word_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(word_hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
