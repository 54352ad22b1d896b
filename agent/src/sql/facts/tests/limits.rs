//! Texts that are too long, too deep, or no texts.

use super::super::{Encoding, Limits, Reading, Unknown, analyse as analyse_here};
use super::{analyse, on_large_stack};
use crate::sql::lex::Strings;

#[test]
fn what_is_no_text_is_refused_by_name() {
    let read = |text: &[u8], encoding| {
        analyse_here(text, encoding, &Limits::default()).map(|facts| facts.statements.len())
    };
    assert_eq!(read(b"SELECT 1", Encoding::Utf8), Ok(1));
    assert_eq!(read(b"", Encoding::Utf8), Ok(0));
    assert_eq!(read(b" -- nothing\n;; /* */", Encoding::Other), Ok(0));
    assert_eq!(read(b"SELECT '\xc3\xa9'", Encoding::Utf8), Ok(1));
    assert_eq!(read(b"SELECT '\xc3\xa9'", Encoding::Other), Err(Unknown::Encoding));
    assert_eq!(read(b"SELECT '\xe9'", Encoding::Utf8), Err(Unknown::Encoding));
    assert_eq!(read(b"SELECT '\0'", Encoding::Utf8), Err(Unknown::Syntax));
    assert_eq!(read(b"SELECT 1\0", Encoding::Utf8), Err(Unknown::Syntax));
    assert_eq!(read(b"SELEC 1", Encoding::Utf8), Err(Unknown::Syntax));
    assert_eq!(read(b"IDENTIFY_SYSTEM", Encoding::Utf8), Err(Unknown::Syntax));
    let limits = Limits { text_bytes_max: 8 };
    assert_eq!(analyse_here(b"SELECT 12", Encoding::Utf8, &limits), Err(Unknown::TooLong(9)));
    assert!(analyse_here(b"SELECT 1", Encoding::Utf8, &limits).is_ok());
}

#[test]
fn backslashes_are_read_as_the_session_has_them() {
    let text = br"SELECT 'a\' , b FROM t -- '";
    let with = |strings| {
        let reading = Reading { encoding: Encoding::Utf8, strings };
        analyse_here(text, reading, &Limits::default())
            .map(|facts| facts.statements[0].relations.len())
    };
    assert_eq!(with(Strings::Standard), Ok(1));
    // The literal ends at the very end.
    assert_eq!(with(Strings::Unsure), Ok(0));
}

#[test]
fn deep_texts_end_as_unknown_or_as_facts() {
    let shapes: &[(&str, &str, &str)] = &[
        ("SELECT ", "1+", "1"),
        ("SELECT ", "(", "1"),
        ("SELECT ", "f(", "1"),
        ("SELECT ", "-", "1"),
        ("SELECT ", "NOT ", "true"),
        ("SELECT ", "(SELECT ", "1"),
        ("SELECT * FROM ", "(SELECT * FROM ", "t"),
        ("", "WITH a AS (", "SELECT 1"),
        ("SELECT ", "CASE WHEN ", "true"),
        ("", "SELECT 1 UNION ALL ", "SELECT 1"),
        ("SELECT * FROM t", " JOIN t ON true", ""),
        ("SELECT a", "::text", ""),
        ("SELECT a", "[1]", ""),
        ("SELECT ", "ARRAY[", "1"),
        ("SELECT ", "a.", "b"),
        ("", "EXPLAIN ", "SELECT 1"),
        ("SELECT a", "||a", ""),
        ("SELECT a", " AND a", ""),
        ("SELECT a", " COLLATE \"C\"", ""),
        ("SELECT ", "ROW(", "1"),
    ];
    for (start, repeated, end) in shapes {
        for depth in [10, 1000, 4000, 20_000] {
            let text = format!("{start}{}{end}", repeated.repeat(depth));
            let text = if repeated.ends_with('(')
                || repeated.ends_with('[')
                || repeated.contains("(SELECT")
            {
                let close = if repeated.ends_with('[') { "]" } else { ")" };
                let close = match *repeated {
                    "(SELECT * FROM " => ") x",
                    "WITH a AS (" => ") SELECT 1",
                    _ => close,
                };
                format!("{text}{}", close.repeat(depth))
            } else if repeated.starts_with("CASE") {
                format!("{text}{}", " THEN 1 END".repeat(depth))
            } else {
                text
            };
            match analyse(text.as_bytes()) {
                Ok(facts) => assert_eq!(facts.statements.len(), 1),
                Err(Unknown::TooDeep | Unknown::TooLong(_)) => assert!(depth > 1000, "{text}"),
                // What the grammar does not nest.
                Err(Unknown::Syntax) => assert!(repeated.starts_with("EXPLAIN"), "{repeated}"),
                Err(other) => panic!("{repeated} {depth}: {other:?}"),
            }
        }
    }
}

#[test]
fn wide_texts_take_time_that_grows_with_them() {
    // Where cost grew with the square, this would not end.
    let parts = 20_000;
    let list = |part: &dyn Fn(usize) -> String| (0..parts).map(part).collect::<Vec<_>>().join(",");
    for text in [
        format!("SELECT {}", list(&|n| format!("a{n}.b{n}"))),
        format!("SELECT {}", list(&|n| format!("f{n}(x)"))),
        format!("SELECT * FROM {}", list(&|n| format!("t{n}"))),
        format!("SELECT f(t1) FROM {}", list(&|n| format!("t{n}"))),
        format!("INSERT INTO t VALUES {}", list(&|n| format!("({n})"))),
        vec!["SELECT 1"; parts].join(";"),
    ] {
        let facts = on_large_stack(|| {
            analyse_here(text.as_bytes(), Encoding::Utf8, &Limits { text_bytes_max: 4 << 20 })
        });
        assert!(!facts.expect("parses").statements.is_empty());
    }
}
