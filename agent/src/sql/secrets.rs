//! How a secret in a statement is known: by the names that stand beside it, or by what it looks
//! like.
//!
//! Who wants to hide a password from this can (`'pass' || 'word=x'`, escapes in strings). Then the
//! literal is held as the policy says, sealed unless configured otherwise.

use memchr::{memchr_iter, memchr2_iter, memmem};

/// Names of options and columns that hold secrets: keywords of `CREATE ROLE` and `ALTER ROLE`,
/// options of user mappings and of connection strings.
const NAMES: [&[u8]; 6] = [
    b"password",
    b"passwd",
    b"sslpassword",
    b"scram_client_key",
    b"scram_server_key",
    b"oauth_client_secret",
];

/// Whether a name is one of those that hold secrets, in any case. Quotes are not part of it.
pub fn is_secret_name(name: &[u8]) -> bool {
    // Lengths first: most names end here.
    matches!(name.len(), 6 | 8 | 11 | 16 | 19)
        && NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a value or a piece of text holds a secret, or says that it does: the word `password`, a
/// key of SCRAM, a verifier as `pg_authid` has it, an address with a password in it.
pub fn holds_secret(bytes: &[u8]) -> bool {
    // The shortest is an address: `a://:b@`.
    bytes.len() >= 6
        && (names_password(bytes)
            || names_key(bytes)
            || is_scram_verifier(bytes)
            || is_md5_verifier(bytes)
            || is_address_with_password(bytes))
}

/// `password` or `passwd`, in any case. Looks for the `w`, which is rarer than the other letters.
pub fn names_password(bytes: &[u8]) -> bool {
    memchr2_iter(b'w', b'W', bytes).any(|w| {
        let before = w >= 4 && bytes[w - 4..w].eq_ignore_ascii_case(b"pass");
        before && (follows(bytes, w + 1, b"ord") || follows(bytes, w + 1, b"d"))
    })
}

fn names_key(bytes: &[u8]) -> bool {
    memchr_iter(b'_', bytes).any(|at| {
        let rest = [&b"_client_key"[..], b"_server_key", b"_client_secret"];
        let before = &bytes[..at];
        (ends_with(before, b"scram") || ends_with(before, b"oauth"))
            && rest.iter().any(|rest| follows(bytes, at, rest))
    })
}

/// `SCRAM-SHA-256$`
fn is_scram_verifier(bytes: &[u8]) -> bool {
    memchr_iter(b'$', bytes).any(|at| ends_with(&bytes[..at], b"scram-sha-256"))
}

/// `md5` and 32 hexadecimal digits, anywhere.
fn is_md5_verifier(bytes: &[u8]) -> bool {
    const DIGITS: usize = 32;
    memchr_iter(b'5', bytes).any(|at| {
        let digits = bytes.get(at + 1..at + 1 + DIGITS);
        ends_with(&bytes[..at], b"md")
            && digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// `scheme://user:password@host`
fn is_address_with_password(bytes: &[u8]) -> bool {
    memmem::find_iter(bytes, b"://").any(|at| {
        let rest = &bytes[at + 3..];
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'\'' | b'"');
        let authority = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
        let user = authority.iter().rposition(|&byte| byte == b'@').map(|at| &authority[..at]);
        user.is_some_and(|user| user.contains(&b':'))
    })
}

fn follows(bytes: &[u8], at: usize, word: &[u8]) -> bool {
    bytes.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
}

fn ends_with(bytes: &[u8], word: &[u8]) -> bool {
    bytes.len() >= word.len() && bytes[bytes.len() - word.len()..].eq_ignore_ascii_case(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case() {
        assert!(is_secret_name(b"PassWord") && is_secret_name(b"scram_server_key"));
        assert!(!is_secret_name(b"passwords") && !is_secret_name(b"passphrase"));
    }

    #[test]
    fn what_looks_like_a_secret() {
        let md5 = b"md5a3556571e93b0d20722ba62be61e8c2d";
        for secret in [
            &b"host=db password=x"[..],
            b"HOST=db PASSWORD = 'x'",
            b"sslpassword=x",
            b"passwd=x",
            b"SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy",
            b"scram-sha-256$x",
            b"x scram_client_key=AAAA",
            b"oauth_client_secret=AAAA",
            md5,
            b"x md5A3556571E93B0D20722BA62BE61E8C2D y",
            b"postgresql://me:x@db/app",
            b"see http://a:b@c",
        ] {
            assert!(holds_secret(secret), "{}", String::from_utf8_lossy(secret));
        }
    }

    #[test]
    fn what_does_not() {
        for open in [
            &b""[..],
            b"w",
            b"pass",
            b"compass war",
            b"md5",
            &b"md5a3556571e93b0d20722ba62be61e8c2d"[..34],
            b"md5 a3556571e93b0d20722ba62be61e8c2",
            b"SCRAM-SHA-256",
            b"http://example.org:80/a@b",
            b"me@example.org",
            b"a_client_key",
        ] {
            assert!(!holds_secret(open), "{}", String::from_utf8_lossy(open));
        }
    }
}
