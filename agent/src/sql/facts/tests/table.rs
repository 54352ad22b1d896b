//! The tables of statements in this folder.
//!
//! A case is a statement, on one line or more, and below it a line that begins with `=`:
//!
//! ```text
//! UPDATE t SET a = b WHERE c = 1
//! = update select | t:update,select | col b@value c@predicate
//!   ───────────── ─────────────────   ────────────────────────
//!   effects       relations, each     more, by their first word
//!                 with its effects
//! ```
//!
//! Relations, objects, settings, handles, roles and unknowns that are not written are not there. Columns (`col`), calls
//! (`call`), written columns (`wrote`), derived sources (`from`) and the kind are only compared where they are written. A
//! line that begins with `-- ` is a comment, one with `!` says what the whole text is refused for.

use super::super::{
    Call, CallKind, ColumnUse, DdlVerb, DerivedKind, Facts, Handle, Place, SettingAccess,
    Statement, Unknown,
};
use super::analyse;

const TABLES: &[(&str, &str)] = &[
    ("queries.txt", include_str!("queries.txt")),
    ("writes.txt", include_str!("writes.txt")),
    ("names.txt", include_str!("names.txt")),
    ("calls.txt", include_str!("calls.txt")),
    ("session.txt", include_str!("session.txt")),
    ("definitions.txt", include_str!("definitions.txt")),
    ("rights.txt", include_str!("rights.txt")),
];

/// A case of a table.
pub(super) struct Case {
    pub(super) place: String,
    pub(super) text: String,
    expected: String,
}

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (file, table) in TABLES {
        let mut text = String::new();
        for (number, line) in table.lines().enumerate() {
            match line.chars().next() {
                _ if text.is_empty() && line.starts_with("-- ") => {}
                None if text.is_empty() => {}
                Some('=' | '!') => cases.push(Case {
                    place: format!("{file}:{}", number + 1),
                    text: std::mem::take(&mut text),
                    expected: line.to_owned(),
                }),
                _ if text.is_empty() => line.clone_into(&mut text),
                _ => text = format!("{text}\n{line}"),
            }
        }
        assert_eq!(text, "", "{file}: a statement without facts at the end");
    }
    cases
}

#[test]
fn statements_have_the_facts_that_are_written_beside_them() {
    let cases = cases();
    let wrong: Vec<String> = cases.iter().filter_map(check).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 400, "only {} cases", cases.len());
}

fn check(case: &Case) -> Option<String> {
    let found = analyse(case.text.as_bytes());
    let wrong = match (found, case.expected.strip_prefix("! ")) {
        (Err(unknown), Some(expected)) => different("refusal", expected, &shown(&unknown)),
        (Ok(_), Some(_)) => Some("is not refused".to_owned()),
        (Err(unknown), None) => Some(format!("is refused: {unknown:?}")),
        (Ok(facts), None) => compare(&facts, case.expected.trim_start_matches('=')),
    };
    wrong.map(|wrong| format!("{}: {}\n    {wrong}", case.place, case.text))
}

fn compare(facts: &Facts, expected: &str) -> Option<String> {
    let [statement] = &facts.statements[..] else {
        return Some(format!("{} statements", facts.statements.len()));
    };
    let words: Vec<_> = expected.split_whitespace().collect();
    let sections: Vec<String> =
        words.split(|word| *word == "|").map(|part| part.join(" ")).collect();
    let mut sections = sections.iter().map(String::as_str);
    let effects: Vec<_> = statement.effects.iter().map(|effect| effect.name().to_owned()).collect();
    let mut wrong =
        vec![different("effects", sections.next().unwrap_or_default(), &effects.join(" "))];
    let relations = sections.next().unwrap_or_default();
    wrong.push(different("relations", relations, &relations_of(statement)));
    let sections: Vec<_> = sections.map(|s| s.split_once(' ').unwrap_or((s, ""))).collect();
    let given = |key: &str| sections.iter().find(|(k, _)| *k == key).map(|(_, items)| *items);
    for (key, found) in [
        ("object", objects_of(statement)),
        ("set", settings_of(statement)),
        ("handle", handles_of(statement)),
        ("role", statement.roles.iter().map(|role| role.as_str().to_owned()).collect()),
        ("unknown", statement.unknown.iter().map(shown).collect()),
    ] {
        wrong.push(different(key, given(key).unwrap_or_default(), &found.join(" ")));
    }
    for (key, found) in [
        ("col", statement.columns.iter().map(column).collect::<Vec<_>>()),
        ("call", statement.calls.iter().map(call).collect()),
        ("wrote", written_of(statement)),
        ("from", derived_of(statement)),
        ("kind", vec![statement.kind.0.to_owned()]),
    ] {
        if let Some(items) = given(key) {
            wrong.push(different(key, items, &found.join(" ")));
        }
    }
    const KEYS: &[&str] =
        &["object", "set", "handle", "role", "unknown", "col", "call", "wrote", "from", "kind"];
    let strange = sections.iter().find(|(key, _)| !KEYS.contains(key));
    wrong.push(strange.map(|(key, _)| format!("no such section: {key}")));
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    (!wrong.is_empty()).then(|| wrong.join("\n    "))
}

/// Compares lists of words, in any order, each once.
fn different(what: &str, expected: &str, found: &str) -> Option<String> {
    let sorted = |text: &str| {
        let parts = |word: &str| {
            let mut parts: Vec<_> = word.split_inclusive([':', ',']).collect();
            let first = usize::from(word.contains(':'));
            parts[first..].sort_by_key(|part| part.trim_end_matches(','));
            parts.iter().map(|part| part.trim_end_matches(',')).collect::<Vec<_>>().join(",")
        };
        let mut words: Vec<_> = text.split_whitespace().map(parts).collect();
        words.sort();
        words.dedup();
        words
    };
    let (expected, found) = (sorted(expected), sorted(found));
    (expected != found)
        .then(|| format!("{what}: {} instead of {}", found.join(" "), expected.join(" ")))
}

fn relations_of(statement: &Statement) -> String {
    let relations = statement.relations.iter().map(|relation| {
        let effects: Vec<_> = relation.effects.iter().map(|effect| effect.name()).collect();
        let only = if relation.only { "only/" } else { "" };
        format!("{only}{}:{}", relation.name, effects.join(","))
    });
    relations.collect::<Vec<_>>().join(" ")
}

fn objects_of(statement: &Statement) -> Vec<String> {
    let objects = statement.objects.iter().map(|object| {
        let verb = match object.verb {
            DdlVerb::Create if object.temporary => "create/temporary",
            DdlVerb::Create => "create",
            DdlVerb::Alter => "alter",
            DdlVerb::Drop => "drop",
            DdlVerb::Grant => "grant",
        };
        format!("{verb}/{}:{}", object.kind.name(), object.name)
    });
    objects.collect()
}

fn settings_of(statement: &Statement) -> Vec<String> {
    let settings = statement.settings.iter().map(|setting| {
        let access = match setting.access {
            SettingAccess::Read => "read",
            SettingAccess::Set => "set",
            SettingAccess::SetLocal => "local",
            SettingAccess::Reset => "reset",
            SettingAccess::Stored => "stored",
        };
        let value = setting.value.as_deref().map(|value| format!("={}", value.replace(' ', "")));
        format!("{access}/{}{}", setting.name, value.unwrap_or_default())
    });
    settings.collect()
}

fn handles_of(statement: &Statement) -> Vec<String> {
    let handles = statement.handles.iter().map(|handle| match handle {
        Handle::Prepare(name) => format!("prepare:{name}"),
        Handle::Execute(name) => format!("execute:{name}"),
        Handle::Deallocate(Some(name)) => format!("deallocate:{name}"),
        Handle::Deallocate(None) => "deallocate".to_owned(),
        Handle::Declare(name) => format!("declare:{name}"),
        Handle::Fetch(name) => format!("fetch:{name}"),
        Handle::Close(Some(name)) => format!("close:{name}"),
        Handle::Close(None) => "close".to_owned(),
        Handle::CurrentOf(name) => format!("current_of:{name}"),
        Handle::Channel(name) => format!("channel:{name}"),
    });
    handles.collect()
}

fn column(column: &ColumnUse) -> String {
    let place = match column.place {
        Place::Output => "output",
        Place::Predicate => "predicate",
        Place::Join => "join",
        Place::Order => "order",
        Place::Group => "group",
        Place::Value => "value",
        Place::Other => "other",
    };
    let mut name: String = column.qualifiers.iter().map(|part| format!("{part}.")).collect();
    name.push_str(column.column.as_ref().map_or("*", |name| name.as_str()));
    let level = "^".repeat(usize::from(column.scope > 0));
    format!("{name}@{place}{level}")
}

fn call(call: &Call) -> String {
    match call.what {
        CallKind::Function => format!("{}/{}", call.name, call.arguments),
        CallKind::From => format!("from:{}/{}", call.name, call.arguments),
        CallKind::Procedure => format!("call:{}/{}", call.name, call.arguments),
        CallKind::Field => format!(".{}", call.name),
        CallKind::Operator => call.name.to_string(),
        CallKind::Type => format!("::{}", call.name),
    }
}

fn written_of(statement: &Statement) -> Vec<String> {
    let relations = statement.relations.iter();
    let written =
        relations.flat_map(|relation| relation.written.iter().map(|name| name.to_string()));
    written.collect()
}

fn derived_of(statement: &Statement) -> Vec<String> {
    let derived = statement.derived.iter().map(|derived| {
        let kind = match derived.kind {
            DerivedKind::Cte => "cte",
            DerivedKind::Subquery => "subquery",
            DerivedKind::Function => "function",
            DerivedKind::Join => "join",
            DerivedKind::Row => "row",
        };
        match &derived.name {
            Some(name) => format!("{kind}:{name}"),
            None => kind.to_owned(),
        }
    });
    derived.collect()
}

fn shown(unknown: &Unknown) -> String {
    match unknown {
        Unknown::Syntax => "syntax".to_owned(),
        Unknown::TooLong(_) => "too_long".to_owned(),
        Unknown::TooDeep => "too_deep".to_owned(),
        Unknown::Encoding => "encoding".to_owned(),
        Unknown::Code(what) => what.replace(' ', "_"),
        Unknown::Node(name) => format!("node:{name}"),
        Unknown::Unanalysed => "unanalysed".to_owned(),
    }
}
