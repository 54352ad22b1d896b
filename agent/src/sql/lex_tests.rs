//! Tokens by hand, and of any bytes.

use proptest::prelude::*;

use super::lex::*;

fn tokens(text: &[u8], encoding: Encoding, strings: Strings) -> Vec<(Kind, &[u8])> {
    let cut = |token: Token| (token.kind, &text[token.start..token.end]);
    Lexer::new(text, encoding, strings).map(cut).collect()
}

fn standard(text: &str) -> Vec<(Kind, &str)> {
    let text = tokens(text.as_bytes(), Encoding::Safe, Strings::Standard);
    text.into_iter()
        .map(|(kind, b)| (kind, std::str::from_utf8(b).expect("cut in UTF-8")))
        .collect()
}

#[test]
fn each_kind_of_token() {
    use Kind::*;
    assert_eq!(
        standard("SELECT \"a\"\"b\", U&\"c\", $12 FROM é.t$1 -- x\n WHERE d<='x' /* /* */ ' */ ;{"),
        [
            (Word, "SELECT"),
            (QuotedWord, "\"a\"\"b\""),
            (Punctuation, ","),
            (EscapedWord, "U&\"c\""),
            (Punctuation, ","),
            (Parameter, "$12"),
            (Word, "FROM"),
            (Word, "é"),
            (Punctuation, "."),
            (Word, "t$1"),
            (Comment, "-- x"),
            (Word, "WHERE"),
            (Word, "d"),
            (Operator, "<="),
            (String, "'x'"),
            (Comment, "/* /* */ ' */"),
            (Punctuation, ";"),
            (Other, "{"),
        ]
    );
}

#[test]
fn strings_end_where_the_server_ends_them() {
    use Kind::*;
    for (text, expected) in [
        ("'a''b'c", &[(String, "'a''b'"), (Word, "c")][..]),
        (r"'a\'b", &[(String, r"'a\'"), (Word, "b")]),
        (r"E'a\'b'c", &[(String, r"E'a\'b'"), (Word, "c")]),
        (r"e'\\'c", &[(String, r"e'\\'"), (Word, "c")]),
        ("'a'\n'b'c", &[(String, "'a'\n'b'"), (Word, "c")]),
        ("'a' -- x ' y\r 'b'c", &[(String, "'a' -- x ' y\r 'b'"), (Word, "c")]),
        ("e'a'\n'\\'b'c", &[(String, "e'a'\n'\\'b'"), (Word, "c")]),
        ("'a' 'b'", &[(String, "'a'"), (String, "'b'")]),
        ("'a' /*\n*/ 'b'", &[(String, "'a'"), (Comment, "/*\n*/"), (String, "'b'")]),
        ("U&'a\\'c", &[(String, "U&'a\\'"), (Word, "c")]),
        ("U&c", &[(Word, "U"), (Operator, "&"), (Word, "c")]),
        ("N'a'", &[(Word, "N"), (String, "'a'")]),
        ("B'1''0'", &[(Bits, "B'1'"), (String, "'0'")]),
        ("x'1'\n'f'", &[(Bits, "x'1'\n'f'")]),
        ("ab'c'", &[(Word, "ab"), (String, "'c'")]),
        ("$$a$b$$$", &[(DollarQuote, "$$a$b$$"), (Other, "$")]),
        ("$a$ $$ $A$ $a$a", &[(DollarQuote, "$a$ $$ $A$ $a$"), (Word, "a")]),
        ("$1$$a$$", &[(Parameter, "$1"), (DollarQuote, "$$a$$")]),
        ("a$$b$$", &[(Word, "a$$b$$")]),
        ("$a b", &[(Other, "$"), (Word, "a"), (Word, "b")]),
    ] {
        assert_eq!(standard(text), expected, "{text}");
    }
}

#[test]
fn numbers_take_all_that_sticks_to_them() {
    use Kind::*;
    for number in [
        "1", "1_000", "1.5", "1.", ".5", "1e5", "1.5E+10", "1.e-3", "0x1F", "0b1_0", "0o7", "12ab",
        "1e", "1_", "1.5x$1",
    ] {
        assert_eq!(standard(number), [(Number, number)], "{number}");
    }
    assert_eq!(standard("1..5"), [(Number, "1"), (Punctuation, ".."), (Number, "5")]);
    assert_eq!(standard("1-5"), [(Number, "1"), (Operator, "-"), (Number, "5")]);
    assert_eq!(standard("0x1e+5"), [(Number, "0x1e"), (Operator, "+"), (Number, "5")]);
    assert_eq!(standard("a.5"), [(Word, "a"), (Number, ".5")]);
    assert_eq!(standard("1$2"), [(Number, "1"), (Parameter, "$2")]);
}

#[test]
fn what_does_not_end_is_one_unreadable_rest() {
    for (text, readable) in [
        ("a 'b", 2),
        ("a 'b'\n'c", 2),
        ("a e'b\\'", 2),
        ("a \"b", 2),
        ("a u&\"b", 2),
        ("a /* /* */ b", 2),
        ("a $$b$", 2),
        ("a $x$b$X$", 2),
        ("a x'1", 2),
        ("a\0'b'", 1),
    ] {
        let found = standard(text);
        assert_eq!(found[1..], [(Kind::Unreadable, &text[readable..])], "{text:?}");
    }
}

#[test]
fn strings_that_may_be_read_in_two_ways_are_unreadable() {
    let unsure = |text: &'static str| tokens(text.as_bytes(), Encoding::Safe, Strings::Unsure);
    for same in [r"'a\b'", r"'a\\'", r"'\\\\''c'", "'a'\n'b'", r"e'\''"] {
        assert_eq!(unsure(same), [(Kind::String, same.as_bytes())], "{same}");
    }
    for two in [r"'a\' or 'b", r"'\\\'", r"'a\''", "'a'\n'\\' x'"] {
        assert_eq!(unsure(two), [(Kind::Unreadable, two.as_bytes())], "{two}");
    }
}

#[test]
fn later_bytes_that_look_like_ascii_are_not_taken_for_it() {
    let unsafe_ = |text: &'static [u8]| tokens(text, Encoding::Unsafe, Strings::Standard);
    // U+8868 in SJIS is 95 5C: a backslash.
    assert_eq!(unsafe_(b"'\x95\\' x"), [(Kind::String, &b"'\x95\\'"[..]), (Kind::Word, b"x")]);
    assert_eq!(unsafe_(b"\"\x95\\\" "), [(Kind::QuotedWord, &b"\"\x95\\\""[..])]);
    assert_eq!(unsafe_(b"$$\x95\\$$"), [(Kind::DollarQuote, &b"$$\x95\\$$"[..])]);
    for rest in [
        &b"e'\x95\\' x"[..],
        b"\x95\\'a'",
        // The server sees one name and then a plain string; so must nobody see an escape string.
        b"\x95e'a\\' b'",
        b"$\x95a$ 'a' $\x95a$",
        b"1\x95\\",
    ] {
        assert_eq!(unsafe_(rest), [(Kind::Unreadable, rest)]);
    }
    let unsure = tokens(b"'\x95\\\\' x'", Encoding::Unsafe, Strings::Unsure);
    assert_eq!(unsure, [(Kind::Unreadable, &b"'\x95\\\\' x'"[..])]);
}

#[test]
fn encodings_are_safe_only_if_known_to_be() {
    for safe in ["UTF8", "SQL_ASCII", "LATIN1", "WIN1252", "EUC_JP", "KOI8R", "ISO_8859_5"] {
        assert_eq!(Encoding::named(safe.as_bytes()), Encoding::Safe, "{safe}");
    }
    for not in ["SJIS", "BIG5", "GBK", "GB18030", "UHC", "JOHAB", "SHIFT_JIS_2004", "", "utf8x"] {
        assert_eq!(Encoding::named(not.as_bytes()), Encoding::Unsafe, "{not}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_cut_in_order_and_to_the_end(
        text in proptest::collection::vec(any::<u8>(), 0..200),
        unsafe_encoding in any::<bool>(),
        unsure in any::<bool>(),
    ) {
        let encoding = if unsafe_encoding { Encoding::Unsafe } else { Encoding::Safe };
        let strings = if unsure { Strings::Unsure } else { Strings::Standard };
        let mut end = 0;
        for token in Lexer::new(&text, encoding, strings) {
            prop_assert!(end <= token.start && token.start < token.end);
            // Between tokens is white space, nothing else.
            let between = &text[end..token.start];
            prop_assert!(between.iter().all(|b| b" \t\n\r\x0b\x0c".contains(b)));
            end = token.end;
        }
        prop_assert!(text[end..].iter().all(|b| b" \t\n\r\x0b\x0c".contains(b)));
    }
}
