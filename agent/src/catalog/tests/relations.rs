//! Which relations a statement asks for.

use super::{World, check, session, session_on};
use crate::catalog::{SessionState, resolve};

fn shop() -> crate::catalog::Snapshot {
    let mut world = World::new();
    let cards = world.table("cards", &["id", "ssn", "owner"]);
    let orders = world.table("orders", &["id", "card"]);
    let view = world.view("masked", &["id"], &[(cards, "0,1")]);
    world.view("masked_orders", &["id", "card"], &[(view, "1"), (orders, "1,2")]);
    // A view with a whole row: the server's list of columns is then short.
    let json = world.relation("v", "json", &["j"]);
    world.rule(json, "1iw", &[(cards, "1")], &[71]);
    let stored = world.relation("m", "stored", &["ssn"]);
    world.rule(stored, "1i", &[(cards, "2")], &[]);
    // Rules list the system's relations, of which the server notes no columns.
    let auth = world.table("pg_catalog.pg_authid", &["rolname", "rolpassword"]);
    let users = world.relation("v", "users", &["name"]);
    world.row('V', &[&users.to_string(), "1i", &format!("{{{auth}}}"), "{}"]);
    let parent = world.relation("p", "events", &["id", "at"]);
    let january = world.table("events_1", &["id", "at"]);
    let half = world.relation("p", "events_2", &["id", "at"]);
    let february = world.table("events_2a", &["id", "at"]);
    world.inherits(january, parent);
    world.inherits(half, parent);
    world.inherits(february, half);
    let log = world.table("log", &["what"]);
    let ruled = world.table("ruled", &["id"]);
    world.rule(ruled, "3", &[(log, "1")], &[]);
    world.relation("f", "remote", &["id"]);
    world.relation("S", "cards_id_seq", &[]);
    world.index("cards_ssn", cards);
    world.row('K', &[&orders.to_string(), &cards.to_string(), "ac"]);
    let audit = world.function("audit", "fv", "plpgsql", "");
    world.row('G', &[&orders.to_string(), &audit.to_string(), "21"]);
    world.table("other.cards", &["id", "note"]);
    world.snapshot()
}

#[test]
fn relations_are_asked_for_with_what_lies_behind() {
    let catalog = shop();
    let state = session();
    let cases: &[(&str, &[&str])] = &[
        ("SELECT 1", &[]),
        ("SELECT id FROM cards", &["select public.cards(id)"]),
        ("SELECT id FROM other.cards", &["select other.cards(id)"]),
        ("SELECT count(*) FROM cards", &["select public.cards"]),
        ("SELECT id FROM masked", &["select public.masked(id)", "~select public.cards(id)"]),
        (
            "SELECT card FROM masked_orders",
            &[
                "select public.masked_orders(card)",
                "~select public.masked(id)",
                "~select public.cards(id)",
                "~select public.orders(card, id)",
            ],
        ),
        ("SELECT j FROM json", &["select public.json(j)", "~select public.cards(*)"]),
        ("TABLE stored", &["select public.stored(*)", "~select public.cards(ssn)"]),
        (
            "REFRESH MATERIALIZED VIEW stored",
            &["maintenance public.stored", "~select public.cards(ssn)"],
        ),
        ("TABLE users", &["select public.users(*)", "~select pg_catalog.pg_authid(*)"]),
        (
            "SELECT at FROM events",
            &[
                "select public.events(at)",
                "~select public.events_1(at)",
                "~select public.events_2(at)",
                "~select public.events_2a(at)",
            ],
        ),
        ("SELECT at FROM ONLY events", &["select public.events(at)"]),
        (
            "SELECT at FROM events_2a",
            &[
                "select public.events_2a(at)",
                "~select public.events_2(at)",
                "~select public.events(at)",
                // Its parent's rows are also those of the parent's other children.
                "~select public.events_1(at)",
            ],
        ),
        (
            "INSERT INTO ruled VALUES (1)",
            &[
                "insert public.ruled(*)",
                "~select public.log(what)",
                "~insert public.log(*)",
                "~update public.log(*)",
                "~delete public.log",
            ],
        ),
        (
            "SELECT id FROM remote",
            &["select public.remote(id)", "~select foreign_server elsewhere"],
        ),
        ("DELETE FROM cards", &["delete public.cards", "~delete public.orders"]),
        (
            "INSERT INTO orders (id) VALUES (1)",
            &["insert public.orders(id)", "~execute function public.audit"],
        ),
        ("SELECT nextval('cards_id_seq')", &["update public.cards_id_seq(*)"]),
        ("COPY cards (id) TO STDOUT", &["select public.cards(id)", "copy_out public.cards(id)"]),
        (
            "COPY orders FROM STDIN",
            &[
                "insert public.orders(*)",
                "copy_in public.orders(*)",
                "~execute function public.audit",
            ],
        ),
        (
            "SELECT chunk_data FROM pg_toast.pg_toast_99999",
            &["select pg_toast.pg_toast_99999(chunk_data)"],
        ),
        ("SELECT id FROM nowhere", &["select *.nowhere(id)"]),
        ("SELECT id FROM nowhere.cards", &["select nowhere.cards(id)"]),
        ("SELECT id FROM pg_temp.cards", &["select pg_temp.cards(id)"]),
    ];
    for (text, expected) in cases {
        check(text, &state, &catalog, expected);
    }
}

#[test]
fn a_change_of_a_view_is_one_of_what_it_shows() {
    let catalog = shop();
    check(
        "UPDATE masked SET id = 1",
        &session(),
        &catalog,
        &["update public.masked(id)", "~update public.cards(*)"],
    );
}

#[test]
fn toast_is_read_as_its_table() {
    let mut world = World::new();
    let cards = world.table("cards", &["ssn"]);
    let catalog = world.snapshot();
    let text = format!("SELECT chunk_data FROM pg_toast.pg_toast_{cards}");
    let name = format!("select pg_toast.pg_toast_{cards}(chunk_data)");
    check(&text, &session(), &catalog, &[&name, "~select public.cards(*)"]);
}

#[test]
fn names_stand_for_all_that_the_path_may_reach() {
    let catalog = shop();
    let both = &["select public.cards(id)", "select other.cards(id)"];
    check("SELECT id FROM cards", &SessionState::unknown(), &catalog, both);
    let other_first = session_on(&["pg_catalog", "other", "public"], "other, public");
    check("SELECT id FROM cards", &other_first, &catalog, &["select other.cards(id)"]);
    let neither = session_on(&["pg_catalog"], "");
    check("SELECT id FROM cards", &neither, &catalog, &["select *.cards(id)"]);
    // A schema that the catalog does not have yet may hold anything.
    let new = session_on(&["pg_catalog", "new", "public"], "new, public");
    check(
        "SELECT id FROM cards",
        &new,
        &catalog,
        &["select public.cards(id)", "select other.cards(id)", "select *.cards(id)"],
    );
}

#[test]
fn a_text_that_moves_the_path_is_read_both_ways() {
    let catalog = shop();
    check(
        "SET search_path = other; SELECT id FROM cards",
        &session(),
        &catalog,
        &["select public.cards(id)", "select other.cards(id)"],
    );
    check(
        "SELECT set_config(x, 'y', false) FROM orders; SELECT id FROM cards",
        &session(),
        &catalog,
        &["select public.cards(id)", "select other.cards(id)"],
    );
    // The one before it is not concerned.
    let facts = super::facts("SELECT id FROM cards; SET search_path = other");
    let resolution = resolve(&facts, &session(), Some(&catalog));
    assert_eq!(
        super::request_lines(&resolution.requests[0]).into_iter().collect::<Vec<_>>(),
        ["select public.cards(id)"]
    );
}

#[test]
fn what_is_not_in_the_catalog_makes_it_stale() {
    let catalog = shop();
    for (text, stale) in [
        ("SELECT id FROM cards", false),
        ("SELECT id FROM nowhere", true),
        ("SELECT nothing FROM cards", true),
        ("SELECT nothing()", true),
        ("SELECT id AS nothing FROM cards ORDER BY nothing", false),
        ("SELECT 'a'::nothing", true),
        ("SELECT 'a'::text, lower('A')", false),
    ] {
        assert_eq!(super::asked(text, &session(), &catalog).stale, stale, "{text}");
    }
}

#[test]
fn without_a_catalog_names_are_not_known() {
    let lines = |text| super::lines(&resolve(&super::facts(text), &session(), None));
    assert_eq!(
        lines("SELECT id FROM cards").into_iter().collect::<Vec<_>>(),
        ["? Catalog", "select *.cards(id)"]
    );
    assert!(lines("SELECT 1").is_empty());
    assert_eq!(lines("BEGIN").into_iter().collect::<Vec<_>>(), ["~transaction session"]);
}

#[test]
fn definitions_ask_for_what_they_make_and_what_they_are_of() {
    let catalog = shop();
    let state = session();
    let cases: &[(&str, &[&str])] = &[
        ("CREATE TABLE t (a int)", &["create public.t"]),
        ("CREATE TEMP TABLE t (a int)", &["create pg_temp.t"]),
        ("CREATE TABLE s.t (a int)", &["create s.t"]),
        (
            "CREATE VIEW v AS SELECT ssn FROM cards",
            &["create public.v", "select public.cards(ssn)"],
        ),
        ("CREATE TABLE t AS SELECT id FROM cards", &["create public.t", "select public.cards(id)"]),
        ("DROP TABLE cards", &["drop public.cards"]),
        ("DROP TABLE events_2", &["drop public.events_2", "~drop public.events_2a"]),
        ("ALTER TABLE cards DISABLE ROW LEVEL SECURITY", &["alter public.cards"]),
        ("DROP INDEX cards_ssn", &["drop index cards_ssn", "~alter public.cards"]),
        ("CREATE SCHEMA s", &["create schema s"]),
        ("CREATE ROLE r", &["role_admin role r"]),
        ("GRANT SELECT ON cards TO r", &["grant public.cards", "grant role r"]),
        ("SET ROLE r", &["set_role setting role", "set_role role r"]),
        ("LISTEN c", &["listen channel c"]),
        ("NOTIFY c", &["notify channel c"]),
        ("SET search_path = s", &["set setting search_path"]),
        ("SET application_name = 's'", &["~set setting application_name"]),
        ("SHOW work_mem", &["~show setting work_mem"]),
        ("RESET search_path", &["~set setting search_path"]),
        ("DISCARD ALL", &["~discard session", "~set_role setting session_authorization"]),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", &["~transaction session"]),
        ("VACUUM cards", &["maintenance public.cards"]),
    ];
    for (text, expected) in cases {
        check(text, &state, &catalog, expected);
    }
}
