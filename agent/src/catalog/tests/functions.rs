//! Which functions, operators and types a statement asks for.

use super::{World, check, session, session_on};

fn catalog() -> crate::catalog::Snapshot {
    let mut world = World::new();
    let cards = world.table("cards", &["id", "ssn"]);
    world.function("report", "fvd", "plpgsql", "25");
    world.function("lower", "fi", "plpgsql", "17000");
    world.function("hash", "fie", "c", "25");
    world.function("draw", "fve", "c", "");
    world.function("whole", "fs", "sql", "17001");
    world.function("other.report", "fv", "sql", "25 25");
    world.function("move_all", "pv", "plpgsql", "");
    world.function("tally", "ai", "internal", "23");
    let same = world.function("same", "fi", "plpgsql", "25 25");
    world.row('O', &["17100", "2200", "===", "25", "25", &same.to_string()]);
    let known = world.function("citext_eq", "fie", "c", "17200 17200");
    world.row('O', &["17101", "2200", "=", "17200", "17200", &known.to_string()]);
    let check = world.function("checked", "fv", "plpgsql", "25");
    let of_check = format!("{{{check}}}");
    world.row('T', &["17300", "2200", "email", "d", "25", "0", &of_check]);
    world.row('T', &["17301", "2200", "work_email", "d", "17300", "0", "!"]);
    let cast = world.function("to_email", "fv", "sql", "23");
    world.row('C', &["23", "17300", &cast.to_string(), "e"]);
    let open = world.relation("v", "open", &["t"]);
    world.rule(open, "1i", &[(cards, "2")], &[68]);
    let code = world.relation("v", "coded", &["t"]);
    world.rule(code, "1i", &[(cards, "2")], &[cast, 67]);
    world.snapshot()
}

#[test]
fn functions_that_may_act_are_asked_for() {
    let catalog = catalog();
    let state = session();
    let cases: &[(&str, &[&str])] = &[
        ("SELECT now(), count(*), pg_catalog.lower('A')", &[]),
        ("SELECT pg_read_file('x')", &["server function pg_catalog.pg_read_file"]),
        ("SELECT report('x')", &["execute function public.report"]),
        ("SELECT * FROM report('x')", &["execute function public.report"]),
        ("SELECT other.report('x', 'y')", &["execute function other.report"]),
        // It may be either, by the types of its argument.
        ("SELECT lower('A')", &["execute function public.lower"]),
        ("SELECT hash('x')", &[]),
        ("SELECT draw()", &["execute function public.draw"]),
        ("SELECT tally(1)", &["execute function public.tally"]),
        ("CALL move_all()", &["call function public.move_all", "execute function public.move_all"]),
        (
            "SELECT whole(c) FROM cards c",
            &["execute function public.whole", "select public.cards(*)"],
        ),
        (
            "SELECT c.whole FROM cards c",
            &["execute function public.whole", "select public.cards(*)"],
        ),
        ("SELECT ssn(c) FROM cards c", &["select public.cards(*)"]),
        ("SELECT 'a' === 'b'", &["execute function public.same"]),
        ("SELECT 1 = 1", &[]),
        ("SELECT int4('1')", &[]),
        ("SELECT 'x'::text", &[]),
        ("SELECT 'x'::work_email", &["execute function public.checked"]),
        (
            "SELECT 1::email",
            &["execute function public.checked", "execute function public.to_email"],
        ),
        (
            "SELECT nothing(1)",
            &["execute function *.nothing", "? Code(\"function that the catalog does not have\")"],
        ),
        (
            "SELECT pg_temp.f()",
            &["execute function pg_temp.f", "? Code(\"function that the catalog does not have\")"],
        ),
        (
            "TABLE open",
            &[
                "select public.open(*)",
                "~select public.cards(ssn)",
                "? Code(\"query in an argument, behind a view\")",
            ],
        ),
        (
            "TABLE coded",
            &[
                "select public.coded(*)",
                "~select public.cards(ssn)",
                "~execute function public.to_email",
                "~server function pg_catalog.pg_read_file",
            ],
        ),
    ];
    for (text, expected) in cases {
        check(text, &state, &catalog, expected);
    }
}

#[test]
fn what_the_path_does_not_reach_is_not_meant() {
    let catalog = catalog();
    let elsewhere = session_on(&["pg_catalog", "other"], "other");
    check("SELECT lower('A'), 'a' = 'b'", &elsewhere, &catalog, &[]);
    check(
        "SELECT 'a' OPERATOR(public.===) 'b'",
        &elsewhere,
        &catalog,
        &["execute function public.same"],
    );
}

#[test]
fn constructs_that_a_server_does_not_have_are_functions_to_it() {
    let text = "SELECT json_value('{}', '$')";
    let new = World::new().version(180_000).snapshot();
    check(text, &session(), &new, &[]);
    let mut old = World::new().version(150_000);
    old.function("json_value", "fv", "plpgsql", "25 25");
    check(text, &session(), &old.snapshot(), &["execute function public.json_value"]);
}
