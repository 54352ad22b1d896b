//! What must hold for any statement, shown on those of the tables.

use pg_query::protobuf::{KeywordKind, Token};
use proptest::prelude::*;

use super::super::{Facts, Statement};
use super::table::cases;
use super::{analyse, on_large_stack};

/// Statements of the tables that parse, one after the other.
fn texts() -> Vec<String> {
    let parse = |text: &String| pg_query::parse(text, 0).is_ok();
    on_large_stack(|| cases().into_iter().map(|case| case.text).filter(parse).collect())
}

fn without_spans(facts: Facts) -> Vec<Statement> {
    let plain = |statement| Statement { span: 0..0, ..statement };
    facts.statements.into_iter().map(plain).collect()
}

fn facts(text: &str) -> Vec<Statement> {
    without_spans(analyse(text.as_bytes()).unwrap_or_else(|error| panic!("{error:?}: {text}")))
}

/// Writes a statement in another way: other blanks, comments, case and quotes, by what `choices` say.
fn rewritten(text: &str, choices: &[u8]) -> String {
    const BETWEEN: &[&str] =
        &[" ", "\n", " /* x */ ", " -- y;\n", "\t\r\n", " /* ' /* ; */ \" */ ", "\x0c ", " --\n"];
    let mut choices = choices.iter().copied().cycle();
    let mut choice = |among: usize| usize::from(choices.next().unwrap_or(0)) % among;
    let mut written = String::new();
    for token in pg_query::scan(text).expect("parses").tokens {
        let word = &text[token.start as usize..token.end as usize];
        written.push_str(BETWEEN[choice(BETWEEN.len())]);
        let kind = Token::try_from(token.token).expect("a token");
        let keyword = token.keyword_kind != KeywordKind::NoKeyword as i32;
        let plain = kind == Token::Ident && !word.starts_with('"');
        if plain && choice(2) == 0 {
            written.push_str(&format!("\"{}\"", word.to_ascii_lowercase()));
        } else if plain || keyword {
            let upper = choice(3);
            written.extend(word.chars().map(|letter| match upper {
                0 => letter.to_ascii_uppercase(),
                1 => letter.to_ascii_lowercase(),
                _ => letter,
            }));
        } else {
            written.push_str(word);
        }
    }
    written
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn writing_it_otherwise_changes_no_fact(index: prop::sample::Index, choices in prop::collection::vec(any::<u8>(), 1..80)) {
        let texts = texts_once();
        let text = index.get(texts);
        let other = rewritten(text, &choices);
        prop_assert_eq!(facts(text), facts(&other), "{}\n{}", text, other);
    }

    #[test]
    fn a_text_of_statements_has_their_facts_and_can_be_cut(
        indices in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        choices in prop::collection::vec(any::<u8>(), 1..80),
    ) {
        let texts = texts_once();
        let parts: Vec<&String> = indices.iter().map(|index| index.get(texts)).collect();
        let mut text = String::new();
        for (part, choice) in parts.iter().zip(choices.iter().cycle()) {
            text.push_str(["", " ;\n", "/* ; é */ ", "-- ;\n"][usize::from(choice % 4)]);
            text.push_str(part);
            text.push_str(["\n;", "\n;;", "\n /* x */ ; "][usize::from(choice / 4 % 3)]);
        }
        let all = analyse(text.as_bytes()).expect("parses");
        prop_assert_eq!(all.statements.len(), parts.len());
        for (index, part) in parts.iter().enumerate() {
            let span = all.statements[index].span.clone();
            let inside = &text[span.clone()];
            prop_assert!(inside.starts_with(part.as_str()), "{inside:?} {part:?}");
            prop_assert!(!inside.ends_with(';'));
            let before = all.cut(text.as_bytes(), index).expect("there");
            let before = analyse(before).expect("what is in front parses");
            prop_assert_eq!(&before.statements[..], &all.statements[..index]);
            let alone = without_spans(Facts { statements: vec![all.statements[index].clone()] });
            prop_assert_eq!(alone, facts(part));
        }
        prop_assert_eq!(all.cut(text.as_bytes(), parts.len()), None);
    }

    #[test]
    fn aliases_change_nothing_but_their_names(template in prop::sample::select(ALIASED), x in "[a-z]{6}", y in "[a-z]{7}") {
        prop_assume!(pg_query::parse(&format!("SELECT 1 AS c FROM t AS {x}, t AS {y}"), 0).is_ok());
        let with = |x: &str, y: &str| {
            let text = template.replace("{x}", x).replace("{y}", y);
            let mut facts = facts(&text).remove(0);
            // A whole row can't be told from a column without the catalog.
            if ["{x} ", "({x})"].iter().any(|row| template.starts_with("SELECT") && template[7..].contains(row)) {
                facts.fingerprint = 0;
            }
            let debug = format!("{facts:?}");
            debug.replace(&format!("`{x}`"), "`{x}`").replace(&format!("`{y}`"), "`{y}`")
        };
        prop_assert_eq!(with("qqqqqq", "zzzzzzz"), with(&x, &y));
    }

    #[test]
    fn any_text_is_answered(text in "(?s)\\PC{0,60}", choices in prop::collection::vec(any::<prop::sample::Index>(), 4)) {
        let _ = analyse(text.as_bytes());
        // Pieces of what parses come further.
        let texts = texts_once();
        let pieces: String = choices.chunks(2).map(|pair| {
            let text = pair[0].get(texts);
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            &text[..*pair[1].get(&ends)]
        }).collect();
        let _ = analyse(pieces.as_bytes());
    }
}

fn texts_once() -> &'static [String] {
    static TEXTS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    TEXTS.get_or_init(texts)
}

const ALIASED: &[&str] = &[
    "SELECT {x}.a FROM t AS {x} JOIN u AS {y} ON {x}.b = {y}.c WHERE {y}.d ORDER BY {x}.e",
    "SELECT {x} FROM t AS {x}, LATERAL f({x}.a) AS {y}",
    "SELECT {y}.a FROM (SELECT {x}.b AS a FROM t AS {x}) AS {y} FOR UPDATE OF {y}",
    "SELECT a({x}) FROM t {x} WHERE EXISTS (SELECT 1 FROM u {y} WHERE {y}.b = {x}.c)",
    "UPDATE t AS {x} SET a = {y}.b FROM u AS {y} WHERE {x}.c = {y}.d RETURNING {x}.e",
    "DELETE FROM t AS {x} USING u AS {y} WHERE {x}.c = {y}.d",
    "INSERT INTO t AS {x} (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = {x}.b RETURNING {x}.c",
    "MERGE INTO t AS {x} USING u AS {y} ON {x}.a = {y}.a WHEN MATCHED THEN UPDATE SET b = {y}.b",
    "SELECT ({x}).a, ({x}).* FROM t AS {x}",
    "SELECT 1 AS {x}, a AS {y} FROM t",
    "SELECT {x}.a FROM (t JOIN u USING (a)) AS {x}",
    "UPDATE t SET a = 1 RETURNING WITH (OLD AS {x}, NEW AS {y}) {x}.a, {y}.b",
];
