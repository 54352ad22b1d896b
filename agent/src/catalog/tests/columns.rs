//! Which columns of a relation a statement asks for.

use super::{World, check, session};

fn catalog() -> crate::catalog::Snapshot {
    let mut world = World::new();
    world.table("cards", &["id", "ssn", "owner"]);
    world.table("people", &["id", "name", "boss"]);
    world.snapshot()
}

#[test]
fn columns_go_to_the_relation_that_has_them() {
    let catalog = catalog();
    let state = session();
    let cases: &[(&str, &[&str])] = &[
        ("SELECT ssn FROM cards WHERE id = 1", &["select public.cards(id, ssn)"]),
        ("SELECT * FROM cards", &["select public.cards(*)"]),
        ("SELECT c FROM cards c", &["select public.cards(*)"]),
        ("SELECT cards FROM cards", &["select public.cards(*)"]),
        ("SELECT c.* FROM cards c", &["select public.cards(*)"]),
        ("SELECT to_json(c) FROM cards c", &["select public.cards(*)"]),
        ("SELECT c.to_json FROM cards c", &["select public.cards(*)"]),
        ("SELECT ctid FROM cards", &["select public.cards(ctid)"]),
        ("SELECT c.b FROM cards AS c(a, b)", &["select public.cards(ssn)"]),
        ("SELECT b, owner FROM cards AS c(a, b)", &["select public.cards(owner, ssn)"]),
        (
            "SELECT name, ssn FROM cards c JOIN people p ON p.id = c.owner",
            &["select public.cards(owner, ssn)", "select public.people(id, name)"],
        ),
        (
            "SELECT 1 FROM cards JOIN people USING (id)",
            &["select public.cards(id)", "select public.people(id)"],
        ),
        (
            "SELECT 1 FROM cards NATURAL JOIN people",
            &["select public.cards(*)", "select public.people(*)"],
        ),
        (
            "SELECT j.ssn FROM (cards c JOIN people p ON true) AS j",
            &["select public.cards(ssn)", "select public.people"],
        ),
        (
            "SELECT j.y FROM (cards c JOIN people p ON true) AS j (x, y)",
            &["select public.cards(*)", "select public.people(*)"],
        ),
        (
            "SELECT (SELECT name FROM people WHERE id = owner) FROM cards",
            &["select public.people(id, name)", "select public.cards(owner)"],
        ),
        (
            "SELECT s.x FROM people p, (SELECT ssn AS x FROM cards) s",
            &["select public.people", "select public.cards(ssn)"],
        ),
        (
            "WITH w AS (SELECT ssn FROM cards) SELECT w.* FROM w, people p WHERE p.id = 1",
            &["select public.cards(ssn)", "select public.people(id)"],
        ),
        ("SELECT count(*) AS n FROM cards ORDER BY n", &["select public.cards"]),
        ("SELECT public.cards.ssn FROM cards", &["select public.cards(ssn)"]),
        (
            "UPDATE cards SET ssn = upper WHERE id = 1",
            // A column that nothing has: the catalog may be out of date.
            &["update public.cards(ssn)", "select public.cards(id, upper)"],
        ),
        ("INSERT INTO cards (id) VALUES (1)", &["insert public.cards(id)"]),
        (
            "INSERT INTO cards (id) VALUES (1) RETURNING ssn",
            &["insert public.cards(id)", "select public.cards(ssn)"],
        ),
        (
            "INSERT INTO cards (id) VALUES (1) RETURNING new.ssn",
            &["insert public.cards(id)", "select public.cards(ssn)"],
        ),
        (
            "INSERT INTO cards (id) SELECT id FROM people",
            &["insert public.cards(id)", "select public.people(id)"],
        ),
        (
            "DELETE FROM cards USING people p WHERE p.id = owner",
            &["delete public.cards", "select public.cards(owner)", "select public.people(id)"],
        ),
    ];
    for (text, expected) in cases {
        check(text, &state, &catalog, expected);
    }
}
