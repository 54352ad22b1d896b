//! The tables as documentation.

use std::fmt::Write as _;

use super::{ACTOR, CONTAINER, COPIED, ENTRY, EventKind, Field, Kind, PARAMETER, RESULT};
use super::{FORMAT_VERSION, Sensitivity};

/// The section on fields of `docs/audit.md`: a test compares the two.
pub fn markdown() -> String {
    let mut out = format!("Version {FORMAT_VERSION}. Events:\n\n| number | event |\n|---|---|\n");
    for event in EventKind::ALL {
        let _ = writeln!(out, "| {} | `{}` |", event.number(), event.name());
    }
    let tables = [
        ("an entry", ENTRY),
        ("an element of `params`", PARAMETER),
        ("an element of `results`", RESULT),
        ("`copy_in` and `copy_out`", COPIED),
        ("`actor`", ACTOR),
        ("`actor.container`", CONTAINER),
    ];
    for (of, table) in tables {
        let _ = writeln!(out, "\nFields of {of}:\n");
        out.push_str("| number | name | kind | in | meaning | answers | care |\n");
        out.push_str("|---|---|---|---|---|---|---|\n");
        table.iter().for_each(|field| row(&mut out, field));
    }
    out
}

fn row(out: &mut String, field: &Field) {
    let care = match field.sensitivity {
        Sensitivity::Plain => "",
        Sensitivity::Identity => "identity",
        Sensitivity::Data => "data",
    };
    let _ = writeln!(
        out,
        "| {} | `{}` | {} | {} | {} | {} | {care} |",
        field.number,
        field.name,
        kind(field.kind),
        field.events,
        field.meaning,
        field.answers
    );
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Uint => "number".to_owned(),
        Kind::Uints => "numbers".to_owned(),
        Kind::Flag => "true or false".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Texts => "texts".to_owned(),
        Kind::Peer | Kind::Value => "bytes of a peer".to_owned(),
        Kind::Hex => "bytes".to_owned(),
        Kind::Wall => "nanoseconds since 1970".to_owned(),
        Kind::Word(words) | Kind::Words(words) => {
            let numbered = words.iter().enumerate().map(|(at, word)| format!("{at} {word}"));
            numbered.collect::<Vec<_>>().join(", ")
        }
        Kind::Object(_) => "map".to_owned(),
        Kind::Objects(_) => "maps".to_owned(),
        Kind::Pairs => "pairs of texts".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../../../docs/audit.md");
    const BEGIN: &str = "<!-- fields begin -->\n";
    const END: &str = "<!-- fields end -->\n";

    #[test]
    fn the_document_names_every_class_of_findings() {
        for class in pgward_verify::Class::ALL {
            assert!(DOCUMENT.contains(&format!("`{class}`")), "`{class}` is not in docs/audit.md");
        }
    }

    /// `UPDATE_DOCS=1 cargo test -p pgward --lib schema::doc` writes it.
    #[test]
    fn the_document_has_the_tables_of_the_code() {
        let (before, rest) = DOCUMENT.split_once(BEGIN).expect("the tables have a beginning");
        let (found, behind) = rest.split_once(END).expect("the tables have an end");
        let expected = markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/audit.md");
            let text = format!("{before}{BEGIN}{expected}{END}{behind}");
            std::fs::write(path, text).expect("the document is written");
            return;
        }
        for (line, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
            assert_eq!(found, expected, "line {} of the tables", line + 1);
        }
        assert_eq!(found.lines().count(), expected.lines().count(), "lines of the tables");
    }
}
