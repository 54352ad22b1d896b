//! Tokens against those of PostgreSQL's own scanner, which the crate `pg_query` brings.

use pg_query::protobuf::Token as Theirs;

use super::lex::*;

/// The kinds that PostgreSQL's scanner can tell apart as well as we.
fn their_kind(token: i32) -> Option<Kind> {
    Some(match Theirs::try_from(token).ok()? {
        Theirs::Sconst | Theirs::Usconst => Kind::String,
        Theirs::Bconst | Theirs::Xconst => Kind::Bits,
        Theirs::Iconst | Theirs::Fconst => Kind::Number,
        Theirs::SqlComment | Theirs::CComment => Kind::Comment,
        Theirs::Param => Kind::Parameter,
        Theirs::Uident => Kind::EscapedWord,
        _ => return None,
    })
}

/// Compares with the scanner of PostgreSQL 18. `false`: it refuses the text.
fn same_as_theirs(text: &str) -> bool {
    let Ok(scanned) = pg_query::scan(text) else {
        return false;
    };
    let theirs: Vec<_> = scanned
        .tokens
        .iter()
        .filter_map(|token| {
            let span = (token.start as usize, token.end as usize);
            Some((their_kind(token.token)?, span))
        })
        .collect();
    let ours: Vec<_> = Lexer::new(text.as_bytes(), Encoding::Safe, Strings::Standard)
        .filter_map(|token| {
            let kind = match token.kind {
                Kind::DollarQuote => Kind::String,
                Kind::Word | Kind::QuotedWord | Kind::Operator => return None,
                Kind::Punctuation | Kind::Other => return None,
                kind => kind,
            };
            Some((kind, (token.start, token.end)))
        })
        .collect();
    assert_eq!(ours, theirs, "{text:?}");
    true
}

#[test]
fn statements_written_by_hand_are_cut_as_by_the_server() {
    const STATEMENTS: &[&str] = &[
        "SELECT 1",
        "SELECT a.b, 'x' FROM t WHERE c = $1 AND d IN (1, 2.5, .5, 1e5, 0xFF, 0b1, 0o7, 1_000)",
        "SELECT E'a\\'b' || U&'\\0061' UESCAPE '!' || B'01' || X'ff' || N'n'",
        "DO $do$ BEGIN RAISE 'x %', $q$y$q$; END $do$",
        "SELECT 'a'\n  'b' -- c\n  'd'",
        "SELECT 'a' -- 'c'\n, 'b' /* 'd' /* e */ */ , $tag$ ' $tag$",
        "SELECT date'2020-01-01', interval '1 day', '{1,2}'::int[], a[1:2], x->>'y', -1, +1, @-1",
        "INSERT INTO t VALUES (1,'it''s',$$a$$),(2,'',NULL) ON CONFLICT DO NOTHING",
        "SELECT 1..2, 1.5.3, 5-3, 5--3\n, 5/*x*/-3, a*/**/b, 1!=2, a#>>'{b}'",
        "select \"A\"\"B\".\"c\" from \"d e\" where U&\"x\" = U&'y'",
        "SELECT $1, $2::text, $3.x FROM généric WHERE größe = 'ü'",
        "ALTER ROLE x PASSWORD 'y'; CREATE USER z ENCRYPTED PASSWORD 'w' VALID UNTIL 'infinity'",
        "PREPARE a AS SELECT $1; EXECUTE a('b')",
    ];
    for statement in STATEMENTS {
        assert!(same_as_theirs(statement), "the server's scanner refuses {statement}");
        // What is cut off is often refused; what isn't must be cut alike.
        for end in (0..statement.len()).filter(|&end| statement.is_char_boundary(end)) {
            same_as_theirs(&statement[..end]);
        }
    }
}

#[test]
fn generated_texts_are_cut_as_by_the_server() {
    const PIECES: &[&str] = &[
        "'", "'", "'", "''", "\\", "\\'", "E'", "e'", "U&'", "u&\"", "B'", "x'", "N'", "\"", "\"",
        "$", "$$", "$$", "$a$", "$a$", "$1", "1", "0x1F", "1_000", ".", "..", "1e5", "1e", "e",
        "+", "-", "--", "--", "/*", "*/", "/", "*", "\n", "\n", " ", " ", "\t", "\r", "\x0b", "a",
        "_b1", "é", ",", ";", "::", "<=", "@", "?", "'a'", "'a'", "E'\\''", "/* */", "'\n'", "0",
        ".5",
    ];
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let mut accepted = 0;
    for _ in 0..60_000 {
        let text: String = (0..=next(12)).map(|_| PIECES[next(PIECES.len())]).collect();
        accepted += usize::from(same_as_theirs(&text));
    }
    assert!(accepted > 10_000, "only {accepted} texts were fit for a comparison");
}
