//! What a session does to the meaning of its later statements.

use super::{World, asked, check, lines, session, session_on, statement};
use crate::catalog::{Path, SessionState, Slot, Snapshot, StateRow, resolve_held};
use crate::sql::facts::Name;

fn catalog() -> Snapshot {
    let mut world = World::new();
    world.table("cards", &["id", "ssn"]);
    world.table("evil.cards", &["id", "ssn"]);
    world.table("app.cards", &["id", "ssn"]);
    world.table("free", &["id"]);
    world.function("act", "fv", "plpgsql", "");
    world.snapshot()
}

fn sent(state: &mut SessionState, text: &str) {
    state.forwarded(&statement(text), Some(&catalog()));
}

fn done(state: &mut SessionState, text: &str) {
    sent(state, text);
    state.completed(&statement(text));
}

/// Schemas of the relations that `cards` may stand for.
#[track_caller]
fn cards(state: &SessionState, expected: &[&str]) {
    let expected: Vec<String> =
        expected.iter().map(|schema| format!("select {schema}.cards(id)")).collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    check("SELECT id FROM cards", state, &catalog(), &expected);
}

#[test]
fn whatever_sets_the_path_widens_it_until_the_server_tells() {
    for text in [
        "SET search_path = evil",
        "SET search_path TO 'evil'",
        "SET LOCAL search_path = evil, public",
        "SET SCHEMA 'evil'",
        "SELECT set_config('search_path', 'evil', true)",
        "SELECT pg_catalog.set_config('search_path', 'evil, public', false)",
        "CREATE SCHEMA evil",
    ] {
        let mut state = session_on(&["pg_catalog", "public"], "evil, public");
        sent(&mut state, text);
        cards(&state, &["public", "evil"]);
        assert!(state.wants_refresh(), "{text}");
    }
    for text in [
        "RESET search_path",
        "SET search_path = DEFAULT",
        "RESET ALL",
        "DISCARD ALL",
        "DO 'BEGIN END'",
        "SELECT act()",
        "SELECT set_config(a, 'x', false) FROM (VALUES ('search_path')) v(a)",
        "UPDATE pg_settings SET setting = 'evil' WHERE name = 'search_path'",
    ] {
        let mut state = session();
        sent(&mut state, text);
        cards(&state, &["public", "evil", "app"]);
        assert!(state.wants_refresh(), "{text}");
    }
    for text in [
        "SELECT id FROM cards",
        "SET work_mem = '1MB'",
        "SHOW search_path",
        "ALTER FUNCTION f() SET search_path = evil",
        "BEGIN",
        "ROLLBACK",
    ] {
        let mut state = session();
        sent(&mut state, text);
        cards(&state, &["public"]);
    }
}

#[test]
fn another_role_sees_its_own_schema() {
    let mut state = session_on(&["pg_catalog", "public"], "\"$user\", public");
    sent(&mut state, "SET ROLE evil");
    cards(&state, &["public", "evil", "app"]);
    assert_eq!(state.role(), None);
}

#[test]
fn a_reported_path_corrects() {
    let mut state = session();
    state.parameter("search_path", "public");
    state.ready();
    cards(&state, &["public"]);
    assert!(matches!(state.path(), Path::Exact(_)));
    state.parameter("search_path", "evil, app");
    cards(&state, &["public"]);
    state.ready();
    cards(&state, &["evil", "app"]);
    sent(&mut state, "SELECT act()");
    cards(&state, &["public", "evil", "app"]);
    state.ready();
    cards(&state, &["evil", "app"]);
}

#[test]
fn how_texts_are_read_is_known_when_it_is_reported() {
    let mut state = session();
    state.parameter("standard_conforming_strings", "on");
    state.parameter("client_encoding", "UTF8");
    state.ready();
    assert_eq!(state.readable().standard_strings, Some(true));
    sent(&mut state, "SET standard_conforming_strings = off");
    assert_eq!(state.readable().standard_strings, None);
    assert_eq!(state.readable().utf8, Some(true));
    state.parameter("standard_conforming_strings", "off");
    state.ready();
    assert_eq!(state.readable().standard_strings, Some(false));
    sent(&mut state, "SET NAMES 'SJIS'");
    assert_eq!(state.readable().utf8, None);
    sent(&mut state, "SELECT act()");
    assert_eq!(state.readable().standard_strings, None);
}

fn row_with(temporaries: &[(char, &str)]) -> StateRow {
    let row = ["{pg_temp_3,pg_catalog,public}", "public", "public", "app", "app", "pg_temp_3"];
    let mut values: Vec<Option<Box<[u8]>>> =
        row.iter().map(|value| Some(value.as_bytes().into())).collect();
    let listed: Vec<String> =
        temporaries.iter().map(|(kind, name)| format!("{kind}{name}")).collect();
    values.push(Some(format!("{{{}}}", listed.join(",")).into_bytes().into()));
    let rest =
        ["on", "safe_encoding", "UTF8", "UTF8", "on", "origin", "180000", "app", "1:1:", "false"];
    values.extend(rest.iter().map(|value| Some(Box::from(value.as_bytes()))));
    StateRow::read(&values).expect("as the server sends it")
}

#[test]
fn temporary_relations_hide_others() {
    let mut state = session();
    done(&mut state, "CREATE TEMP TABLE cards (id int)");
    // It may have been made, or not: the transaction may be rolled back.
    cards(&state, &["pg_temp", "public"]);
    assert!(state.wants_refresh());
    state.learned(row_with(&[('r', "cards")]));
    cards(&state, &["pg_temp"]);
    assert_eq!(state.meaning(), None);
    sent(&mut state, "DROP TABLE cards");
    cards(&state, &["pg_temp", "public"]);
    state.learned(row_with(&[]));
    cards(&state, &["public"]);
}

#[test]
fn a_temporary_view_shows_what_it_was_made_of() {
    let mut state = session();
    done(&mut state, "CREATE TEMP VIEW peek AS SELECT ssn FROM cards");
    state.learned(row_with(&[('v', "peek")]));
    state.catalog_refreshed();
    let expected = &["select pg_temp.peek(ssn)", "~select public.cards(*)"];
    check("SELECT ssn FROM peek", &state, &catalog(), expected);
    // One that code has made says nothing of itself.
    let mut state = session();
    state.learned(row_with(&[('v', "peek")]));
    check(
        "SELECT ssn FROM peek",
        &state,
        &catalog(),
        &["select pg_temp.peek(ssn)", "? Code(\"temporary relation that was not seen\")"],
    );
}

#[test]
fn a_view_of_this_transaction_shows_what_it_was_made_of() {
    let mut state = session();
    done(&mut state, "CREATE VIEW peek AS SELECT ssn FROM cards");
    let expected = &["select *.peek(*)", "~select public.cards(*)"];
    check("SELECT * FROM peek", &state, &catalog(), expected);
    assert!(!asked("SELECT * FROM peek", &state, &catalog()).stale);
    done(&mut state, "CREATE OR REPLACE VIEW free AS SELECT id FROM peek");
    let expected = &["select public.free(*)", "~select public.cards(*)"];
    check("SELECT * FROM free", &state, &catalog(), expected);
    done(&mut state, "ALTER TABLE cards RENAME TO stamps");
    check(
        "SELECT ssn FROM stamps",
        &state,
        &catalog(),
        &["select *.stamps(ssn)", "? Code(\"relation that may have been renamed\")"],
    );
    state.catalog_refreshed();
    check("SELECT ssn FROM stamps", &state, &catalog(), &["select *.stamps(ssn)"]);
}

#[test]
fn prepared_statements_ask_for_what_they_do() {
    let mut state = session();
    let unseen = "? Code(\"prepared statement that was not seen\")";
    check("EXECUTE p", &state, &catalog(), &["~execute_prepared session", unseen]);
    done(&mut state, "PREPARE p AS SELECT ssn FROM cards");
    let expected = &["~execute_prepared session", "select public.cards(ssn)"];
    check("EXECUTE p", &state, &catalog(), expected);
    assert!(asked("EXECUTE p", &state, &catalog()).own);
    // Sent, but it is not known yet whether the name was free.
    sent(&mut state, "PREPARE p AS SELECT id FROM free");
    let both = &["~execute_prepared session", "select public.cards(ssn)", "select public.free(id)"];
    check("EXECUTE p", &state, &catalog(), both);
    done(&mut state, "DEALLOCATE p");
    done(&mut state, "PREPARE p AS SELECT id FROM free");
    let free = &["~execute_prepared session", "select public.free(id)"];
    check("EXECUTE p", &state, &catalog(), free);
    // The names are those of the protocol, too.
    let parsed = statement("SELECT ssn FROM cards");
    state.name_sent(Slot::Prepared, &Name::new("q"), &parsed);
    state.name_taken(Slot::Prepared, &Name::new("q"), &parsed);
    check("EXECUTE q", &state, &catalog(), expected);
    let held = resolve_held(Slot::Prepared, &Name::new("p"), &state, Some(&catalog()));
    assert_eq!(lines(&held).into_iter().collect::<Vec<_>>(), ["select public.free(id)"]);
    state.name_dropped(Slot::Prepared, &Name::new("q"));
    check("EXECUTE q", &state, &catalog(), &["~execute_prepared session", unseen]);
    // Code may have prepared another one of that name.
    sent(&mut state, "DO 'BEGIN END'");
    let resolution = asked("EXECUTE p", &state, &catalog());
    assert!(lines(&resolution).contains(unseen));
}

#[test]
fn cursors_ask_for_what_they_read() {
    let mut state = session();
    let unseen = "? Code(\"cursor that was not seen\")";
    check("FETCH c", &state, &catalog(), &["~cursor session", unseen]);
    done(&mut state, "DECLARE c CURSOR FOR SELECT ssn FROM cards");
    let expected = &["~cursor session", "select public.cards(ssn)"];
    check("FETCH ALL FROM c", &state, &catalog(), expected);
    check("MOVE c", &state, &catalog(), expected);
    done(&mut state, "CLOSE ALL");
    check("FETCH c", &state, &catalog(), &["~cursor session", unseen]);
}

#[test]
fn names_beyond_the_limit_are_unknown_names() {
    let mut state = session();
    for number in 0..2000 {
        done(&mut state, &format!("PREPARE p{number} AS SELECT ssn FROM cards"));
    }
    let resolution = asked("EXECUTE p1999", &state, &catalog());
    assert!(lines(&resolution).contains("? Code(\"prepared statement that was not seen\")"));
    let resolution = asked("EXECUTE p0", &state, &catalog());
    assert!(lines(&resolution).contains("select public.cards(ssn)"));
}

#[test]
fn plain_sessions_share_what_texts_mean() {
    assert_eq!(session().meaning(), session().meaning());
    assert!(session().meaning().is_some());
    let other = session_on(&["pg_catalog", "evil"], "evil");
    assert_ne!(session().meaning(), other.meaning());
    let mut state = session();
    sent(&mut state, "CREATE TABLE t (a int)");
    assert_eq!(state.meaning(), None);
    assert_eq!(SessionState::unknown().meaning(), None);
}
