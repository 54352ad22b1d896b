//! Names against catalogs made by hand.

mod columns;
mod functions;
mod read;
mod relations;
mod session;
mod world;

use std::collections::BTreeSet;

use self::world::World;
use super::{Resolution, SessionState, Snapshot, StateRow, resolve};
use crate::policy::{Columns, Need, Object, Reached, Request};
use crate::sql::facts::{Encoding, Facts, Limits, Name, Statement, analyse};

fn facts(text: &str) -> Facts {
    analyse(text.as_bytes(), Encoding::Utf8, &Limits::default())
        .unwrap_or_else(|unknown| panic!("{unknown:?} in {text}"))
}

fn statement(text: &str) -> Statement {
    let mut statements = facts(text).statements;
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0)
}

/// A session that sees `public`.
fn session() -> SessionState {
    session_on(&["pg_catalog", "public"], "public")
}

fn session_on(schemas: &[&str], setting: &str) -> SessionState {
    let mut state = SessionState::unknown();
    state.learned(StateRow {
        schemas: schemas.iter().map(|schema| Name::new(*schema)).collect(),
        creation: schemas.iter().find(|s| !s.starts_with("pg_")).map(|s| Name::new(*s)),
        search_path: setting.into(),
        role: Name::new("app"),
        login: Name::new("app"),
        temporaries: Vec::new(),
        standard_strings: true,
        backslash_quote: "safe_encoding".into(),
        utf8: true,
        server_utf8: true,
        row_security: true,
        replication_role: "origin".into(),
        server_version: 180_000,
        database: "app".into(),
        horizon: "10:10:".into(),
    });
    state
}

fn asked(text: &str, state: &SessionState, catalog: &Snapshot) -> Resolution {
    resolve(&facts(text), state, Some(catalog))
}

/// Needs of a text's last statement, as lines: `select public.cards(id, ssn)`, with `~` before those that are reached
/// through others, and `? reason` for what is unknown.
fn lines(resolution: &Resolution) -> BTreeSet<String> {
    let request = resolution.requests.last().expect("a request for each statement");
    request_lines(request)
}

fn request_lines(request: &Request) -> BTreeSet<String> {
    let unknown = request.unknown.iter().map(|unknown| format!("? {unknown:?}"));
    request.needs.iter().map(line).chain(unknown).collect()
}

fn line(need: &Need) -> String {
    let sign = match need.reached {
        Reached::Named => "",
        Reached::Through => "~",
    };
    let schema = |schema: &Option<Name>| match schema {
        Some(schema) => format!("{schema}."),
        None => "*.".to_owned(),
    };
    let object = match &need.object {
        Object::Relation { schema: of, name, columns } => {
            let columns = match columns {
                Columns::None => String::new(),
                Columns::All => "(*)".to_owned(),
                Columns::These(names) => {
                    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                    format!("({})", names.join(", "))
                }
            };
            format!("{}{name}{columns}", schema(of))
        }
        Object::Function { schema: of, name } => format!("function {}{name}", schema(of)),
        Object::Other { kind, schema: of, name } => {
            let of = of.as_ref().map_or(String::new(), |of| format!("{of}."));
            format!("{} {of}{name}", kind.name())
        }
        Object::Setting(name) => format!("setting {name}"),
        Object::Role(name) => format!("role {name}"),
        Object::Channel(name) => format!("channel {name}"),
        Object::Session => "session".to_owned(),
    };
    format!("{sign}{} {object}", need.action.name())
}

#[track_caller]
fn check(text: &str, state: &SessionState, catalog: &Snapshot, expected: &[&str]) {
    let resolution = asked(text, state, catalog);
    let expected: BTreeSet<String> = expected.iter().map(|line| (*line).to_owned()).collect();
    assert_eq!(lines(&resolution), expected, "{text}");
}
