//! Texts without literals, and what in them is secret.

use proptest::prelude::*;

use super::lex::*;
use super::normalise::*;

fn normalised_with(text: &[u8], encoding: Encoding, strings: Strings) -> (Vec<u8>, Normalised) {
    let found = Normalised::of(text, encoding, strings);
    let mut out = Vec::new();
    found.write(text, Replace::All, &mut out);
    (out, found)
}

fn normalised(text: &str) -> String {
    let (out, _) = normalised_with(text.as_bytes(), Encoding::Safe, Strings::Standard);
    String::from_utf8(out).expect("cut in UTF-8")
}

/// What may be stored of a text, and what was said of it.
fn storable(text: &str) -> (String, Secret) {
    let found = Normalised::of(text.as_bytes(), Encoding::Safe, Strings::Standard);
    let mut out = Vec::new();
    found.write(text.as_bytes(), Replace::Secrets, &mut out);
    (String::from_utf8(out).expect("cut in UTF-8"), found.secret())
}

#[test]
fn literals_become_parameters_behind_those_there_are() {
    for (text, expected) in [
        ("", ""),
        ("SELECT a FROM t WHERE b = $1", "SELECT a FROM t WHERE b = $1"),
        ("SELECT 'x', 1, $$y$$, B'1'", "SELECT $1, $2, $3, $4"),
        ("SELECT 'x', $7, 2.5", "SELECT $8, $7, $9"),
        ("SELECT 'x' -- a\n, 'y' /* 'b' */", "SELECT $1 /* */\n, $2 /* */"),
        ("SELECT -1, a-1, 'a'::text", "SELECT -$1, a-$2, $3::text"),
        ("SELECT date'x'as y, 1a, N'z'", "SELECT date $1 as y, $2, N $3"),
        ("$1'x'$$y$$b.5", "$1 $2 $3 b $4"),
        ("$'a'", "$ $1"),
        ("a 'never ends", "a $1"),
        ("$99999999999999999999 'a' $2147483648 $2", "$99999999999999999999 $3 $2147483648 $2"),
    ] {
        assert_eq!(normalised(text), expected, "{text}");
    }
}

#[test]
fn strings_beside_the_word_password_are_secret() {
    for (text, expected) in [
        ("ALTER ROLE a PASSWORD 'x'", "ALTER ROLE a PASSWORD $1"),
        (
            "alter user a encrypted\npassword E'x' valid until 'y'",
            "alter user a encrypted\npassword $1 valid until $2",
        ),
        (
            "CREATE ROLE a CONNECTION LIMIT 5 PASSWORD $q$x$q$ -- x",
            "CREATE ROLE a CONNECTION LIMIT 5 PASSWORD $2 /* */",
        ),
        (
            "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'b', \"Password\" 'x')",
            "CREATE USER MAPPING FOR a SERVER s OPTIONS (user $1, \"Password\" $2)",
        ),
        (
            "ALTER USER MAPPING FOR a SERVER s OPTIONS (SET sslpassword 'x')",
            "ALTER USER MAPPING FOR a SERVER s OPTIONS (SET sslpassword $1)",
        ),
        (
            "UPDATE users SET password = 'x' WHERE id = 3",
            "UPDATE users SET password = $1 WHERE id = 3",
        ),
        ("SELECT 'x' AS U&\"p\\0061ssword\"", "SELECT $1 AS U&\"p\\0061ssword\""),
        ("SELECT 1; ALTER ROLE a PASSWORD 'x'", "SELECT 1; ALTER ROLE a PASSWORD $2"),
    ] {
        assert_eq!(storable(text), (expected.to_owned(), Secret::Strings), "{text}");
    }
}

#[test]
fn passwords_without_their_quotes_are_secret() {
    for (text, expected) in [
        ("ALTER ROLE a PASSWORD hunter2", "ALTER ROLE a PASSWORD $1"),
        ("ALTER ROLE a PASSWORD \"hunter2\" SUPERUSER", "ALTER ROLE a PASSWORD $1 SUPERUSER"),
        ("ALTER USER a PASSWORD hunter-2!x;SELECT b", "ALTER USER a PASSWORD $1;SELECT b"),
        ("CREATE ROLE a PASSWORD 12345 LOGIN", "CREATE ROLE a PASSWORD $1 LOGIN"),
        ("CREATE USER a PASSWORD hun'ter'", "CREATE USER a PASSWORD $1 $2"),
    ] {
        assert_eq!(storable(text), (expected.to_owned(), Secret::Strings), "{text}");
    }
    for as_it_is in [
        "ALTER ROLE a PASSWORD NULL",
        "CREATE ROLE password SUPERUSER",
        "SELECT password FROM users",
        "CREATE TABLE a (password text)",
        "ALTER ROLE a PASSWORD /* */ NULL",
    ] {
        assert_eq!(normalised(as_it_is), as_it_is);
    }
}

#[test]
fn literals_that_look_like_secrets_are_the_only_ones() {
    let verifier = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy";
    for (text, expected) in [
        (format!("SELECT 'a', '{verifier}', 1"), "SELECT 'a', $2, 1"),
        ("SELECT dblink('host=x password=y', 'select 1')".into(), "SELECT dblink($1, 'select 1')"),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'postgres://u:p@h/d' PUBLICATION p".into(),
            "CREATE SUBSCRIPTION s CONNECTION $1 PUBLICATION p",
        ),
        ("SELECT 'a' /* password x */".into(), "SELECT 'a' /* */"),
        ("DO $$ BEGIN ALTER ROLE a PASSWORD 'x'; END $$".into(), "DO $1"),
    ] {
        assert_eq!(storable(&text), (expected.to_owned(), Secret::Pieces), "{text}");
    }
    assert_eq!(storable("SELECT 'a'"), ("SELECT 'a'".into(), Secret::Nothing));
}

#[test]
fn a_text_with_a_password_that_cannot_be_read_is_secret_as_a_whole() {
    for text in ["ALTER ROLE a PASSWORD 'x", "SELECT 'x password y", "SELECT \"passwd\" /* x"] {
        assert_eq!(storable(text).1, Secret::All, "{text}");
    }
    assert_eq!(storable("SELECT 'x").1, Secret::Nothing);
}

#[test]
fn texts_with_too_many_literals_are_hidden_from_some_on() {
    let many = |count: usize| "1,".repeat(count);
    let (out, found) =
        normalised_with(many(PIECES_MAX - 1).as_bytes(), Encoding::Safe, Strings::Standard);
    assert!(found.is_readable() && out.ends_with(b",$65535,"));
    let text = many(PIECES_MAX) + "'x'";
    let (out, found) = normalised_with(text.as_bytes(), Encoding::Safe, Strings::Standard);
    assert!(!found.is_readable() && out.ends_with(b",$65535,$65536"));
    assert_eq!(found.secret(), Secret::Nothing);
    let text = many(PIECES_MAX) + "password 'x'";
    assert_eq!(storable(&text).1, Secret::All);
}

/// What no name or operator of the generated texts has: literals and comments are full of it.
const MARK: &str = "Zq7";

fn piece() -> impl Strategy<Value = String> {
    let name = "[a-yA-Y_][a-y0-6_$]{0,6}";
    prop_oneof![
        3 => name.prop_filter("spells a name of secrets", |name| {
            !super::secrets::is_secret_name(name.as_bytes())
        }),
        1 => "\"[a-y' $-]{1,6}\"",
        1 => "\\$[0-9]{1,3}",
        2 => "[-+*/<>=~!@#%^&|?]{1,3}",
        2 => "[,();:.\\[\\]{}\\\\]",
        3 => "[ \\n\\t]{1,3}",
        2 => "([^'\\\\]|''){0,4}".prop_map(|body| format!("'{MARK}{body}{MARK}'")),
        1 => "([^'\\\\]|''|\\\\'|\\\\n){0,4}".prop_map(|body| format!("E'{MARK}{body}'")),
        1 => "[^$]{0,6}".prop_map(|body| format!("$t${body}{MARK}$t$")),
        1 => "[^\\r\\n]{0,6}".prop_map(|body| format!("--{MARK}{body}\n")),
        1 => "[^*/]{0,6}".prop_map(|body| format!("/*{MARK}{body}*/")),
        1 => Just(format!("7.7{MARK}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_literal_is_in_what_is_shown(pieces in proptest::collection::vec(piece(), 0..20)) {
        // An operator that begins a comment makes names of what the next literals hold behind a line's end.
        prop_assume!(!pieces.iter().any(|piece| piece.contains("--") && !piece.contains(MARK)));
        // Parted, so that no piece changes what the next one is.
        let text = pieces.join(" ");
        let (out, _) = normalised_with(text.as_bytes(), Encoding::Safe, Strings::Standard);
        let out = String::from_utf8(out).expect("cut in UTF-8");
        prop_assert!(!out.contains(MARK), "{text:?} -> {out:?}");
    }

    #[test]
    fn what_is_shown_has_the_same_tokens_and_stays(
        pieces in proptest::collection::vec(piece(), 0..20),
        bytes in proptest::collection::vec(any::<u8>(), 0..20),
        glued in any::<bool>(),
        unsure in any::<bool>(),
        unsafe_encoding in any::<bool>(),
    ) {
        let encoding = if unsafe_encoding { Encoding::Unsafe } else { Encoding::Safe };
        let strings = if unsure { Strings::Unsure } else { Strings::Standard };
        let mut text = pieces.join(if glued { "" } else { " " }).into_bytes();
        text.extend_from_slice(&bytes);
        let (out, _) = normalised_with(&text, encoding, strings);
        let kinds = |text: &[u8]| -> Vec<Kind> {
            let tokens = Lexer::new(text, encoding, strings);
            let shown = |kind: Kind| if kind.is_literal() { Kind::Parameter } else { kind };
            tokens.map(|token| shown(token.kind)).collect()
        };
        let shown = String::from_utf8_lossy(&out).into_owned();
        prop_assert_eq!(kinds(&text), kinds(&out), "{}", shown);
        let (again, found) = normalised_with(&out, encoding, strings);
        prop_assert_eq!(String::from_utf8_lossy(&again).into_owned(), shown);
        prop_assert!(found.pieces().iter().all(|piece| piece.token.kind == Kind::Comment));
        // What may be stored never has more than the text, and holds the rest as it is.
        let (_, found) = normalised_with(&text, encoding, strings);
        let mut storable = Vec::new();
        found.write(&text, Replace::Secrets, &mut storable);
        if found.secret() == Secret::Nothing {
            prop_assert_eq!(storable, text);
        }
    }
}
