//! What clients do in each state of the protocol.

use pgward_tests::wire::{
    bind, close, copy_data, copy_done, describe, execute, flush, message, parse, query, sync,
};

/// One step of a scene.
pub(crate) enum Step {
    /// The client sends.
    Send(Vec<u8>),
    /// It reads up to and with a message of this type.
    Until(u8),
    /// From here on `shared` is not for the client: by `REVOKE` directly, by a new policy through the core.
    Revoke,
}

/// A conversation.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) steps: Vec<Step>,
    /// Whether the server refuses something by itself (elsewhere the client hears of a failed transaction only).
    pub(crate) is_refused: bool,
    pub(crate) is_replication: bool,
    /// Where it differs by design: what the client gets then, and why.
    pub(crate) differs: Option<Difference>,
}

/// A scene in which a refusal is not what the server does.
pub(crate) struct Difference {
    pub(crate) through: &'static str,
    pub(crate) why: &'static str,
}

/// A parameter that belongs to a refused `Bind`.
pub(crate) const VALUE: &str = "424242";

const CARDS: &str = "select * from vault.cards";
const NOTE: &str = "insert into notes values";

/// Sends, and reads one `ReadyForQuery`.
fn ask(bytes: Vec<u8>) -> Vec<Step> {
    vec![Step::Send(bytes), Step::Until(b'Z')]
}

fn queries(texts: &[&str]) -> Vec<Step> {
    texts.iter().flat_map(|text| ask(query(text))).collect()
}

/// `Parse`, `Bind` and `Execute` of the unnamed statement.
fn unit(text: &str) -> Vec<u8> {
    [parse("", text), bind("", "", &[]), execute("", 0)].concat()
}

fn note(n: u32) -> String {
    format!("{NOTE} ({n})")
}

fn call(oid: u32) -> Vec<u8> {
    let arguments = [0, 1, 0, 1, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7, 0, 1];
    message(b'F', &[&oid.to_be_bytes()[..], &arguments].concat())
}

/// All scenes; `oid` is that of `vault.pick`.
pub(crate) fn scenes(oid: u32) -> Vec<Scene> {
    let mut all = Vec::new();
    let mut add = |name, steps: Vec<Vec<Step>>| {
        let steps = steps.into_iter().flatten().collect();
        all.push(Scene { name, steps, is_refused: true, is_replication: false, differs: None });
    };
    simple(&mut add);
    extended(&mut add);
    names(&mut add);
    copies(&mut add);
    functions(&mut add, oid);
    revoked(&mut add);
    for scene in &mut all {
        scene.differs = difference(scene.name);
    }
    all.extend(failed());
    all.extend(replication());
    all
}

/// A denied text is refused where it is first seen, before any of it reaches the server. The server itself looks at some
/// things later, and at some earlier.
fn difference(name: &str) -> Option<Difference> {
    const UTILITY: &str = "the server looks into utility statements only when they run, so it prepares and binds them";
    let (through, why) = match name {
        "copy in by the extended protocol" => {
            ("E(42501)ZI TD[\\x00\\x01\\x00\\x00\\x00\\x011]C[SELECT 1]ZI ", UTILITY)
        }
        "copy out by the extended protocol" => ("E(42501)ZI ", UTILITY),
        "lock outside of a transaction" => {
            ("E(42501)ZI ", "the server misses the transaction before it looks at the table")
        }
        "taken away in front of the execution" => (
            "C[BEGIN]ZT C[INSERT 0 1]ZT 12ZT E(42501)ZE C[ROLLBACK]ZI ",
            "the server checks privileges when it binds; a policy is asked again for each execution",
        ),
        _ => return None,
    };
    Some(Difference { through, why })
}

type Add<'a> = dyn FnMut(&'static str, Vec<Vec<Step>>) + 'a;

fn simple(add: &mut Add<'_>) {
    add("idle", vec![queries(&[CARDS, "select 1"])]);
    add("idle, a comment in front", vec![queries(&["/* x; */ -- y;\nselect * from vault.cards"])]);
    add(
        "idle, sent twice at once",
        vec![
            vec![Step::Send([query(CARDS), query(CARDS), query("select 1")].concat())],
            vec![Step::Until(b'Z'), Step::Until(b'Z'), Step::Until(b'Z')],
        ],
    );
    add("lock outside of a transaction", vec![queries(&["lock vault.cards"])]);
    add(
        "behind a query under way",
        vec![
            vec![Step::Send([query("select 1"), query(CARDS), query("select 2")].concat())],
            vec![Step::Until(b'Z'), Step::Until(b'Z'), Step::Until(b'Z')],
        ],
    );
    add(
        "in a transaction",
        vec![queries(&["begin", &note(1), CARDS, &note(2), "commit", "select 1"])],
    );
    add(
        "behind a savepoint",
        vec![queries(&[
            "begin",
            &note(1),
            "savepoint s",
            CARDS,
            "rollback to s",
            &note(2),
            "commit",
        ])],
    );
    add(
        "with an open cursor",
        vec![queries(&[
            "begin",
            "declare c cursor for select 1",
            CARDS,
            "fetch c",
            "rollback",
            "fetch c",
        ])],
    );
    let several = |name, text: &str, add: &mut Add<'_>| {
        add(name, vec![queries(&[text, "select 1", "rollback", "select 2"])]);
    };
    several("several statements", &format!("{}; {CARDS}; {}", note(1), note(2)), add);
    several("several, denied first", &format!("{CARDS}; {}", note(1)), add);
    several("several, denied last", &format!("{}; select 5; {CARDS}", note(1)), add);
    several("several, two denied", &format!("{}; {CARDS}; {CARDS}", note(1)), add);
    several("several, begun inside", &format!("begin; {}; {CARDS}; {}", note(1), note(2)), add);
    several(
        "several, committed inside",
        &format!("begin; {}; commit; {CARDS}; {}", note(1), note(2)),
        add,
    );
    several("several, a line comment in front", &format!("{}; -- x\n {CARDS}", note(1)), add);
    several(
        "several, a notice in front",
        &format!("do $$begin raise notice 'x'; end$$; {CARDS}"),
        add,
    );
    several("several, a setting in front", &format!("set application_name = 'x'; {CARDS}"), add);
    add(
        "several in a transaction",
        vec![queries(&["begin", &format!("{}; {CARDS}; {}", note(1), note(2)), "commit"])],
    );
    add(
        "insert, update, delete, truncate, create, drop, call",
        vec![queries(&[
            "insert into vault.cards values (1)",
            "update vault.cards set n = 1",
            "delete from vault.cards",
            "truncate vault.cards",
            "create table vault.more (n int)",
            "drop table vault.cards",
            "select vault.pick(1)",
            "explain select * from vault.cards",
            "with a as (select * from vault.cards) select 1",
            "begin",
            "lock vault.cards",
            "rollback",
        ])],
    );
}

fn extended(add: &mut Add<'_>) {
    add("parse, bind, execute", vec![ask([unit(CARDS), sync()].concat()), queries(&["select 1"])]);
    add(
        "pipeline with statements around",
        vec![
            vec![Step::Send(
                [unit(&note(1)), unit(CARDS), unit(&note(2)), sync(), unit(&note(3)), sync()]
                    .concat(),
            )],
            vec![Step::Until(b'Z'), Step::Until(b'Z')],
        ],
    );
    add(
        "pipeline in a transaction",
        vec![
            vec![Step::Send(
                [
                    unit("begin"),
                    unit(&note(1)),
                    sync(),
                    unit(CARDS),
                    sync(),
                    unit(&note(3)),
                    sync(),
                    unit("commit"),
                    sync(),
                ]
                .concat(),
            )],
            vec![Step::Until(b'Z'), Step::Until(b'Z'), Step::Until(b'Z'), Step::Until(b'Z')],
        ],
    );
    add("pipeline, two denied in one", vec![ask([unit(CARDS), unit(CARDS), sync()].concat())]);
    add(
        "pipeline, a query behind without sync",
        vec![
            vec![Step::Send(
                [unit(&note(1)), unit(CARDS), query(&note(2)), sync(), query("select 1")].concat(),
            )],
            vec![Step::Until(b'Z'), Step::Until(b'Z')],
        ],
    );
    add(
        "query behind messages without sync",
        vec![
            vec![Step::Send([unit(&note(1)), query(CARDS)].concat()), Step::Until(b'Z')],
            vec![Step::Send([unit(&note(2)), flush()].concat()), Step::Until(b'C')],
            ask(query(CARDS)),
            queries(&["select 1"]),
        ],
    );
    add(
        "parse without sync, then flush",
        vec![
            vec![Step::Send([parse("", CARDS), flush()].concat()), Step::Until(b'E')],
            ask(sync()),
            queries(&["select 1"]),
        ],
    );
    add(
        "parse without sync, then a query, then sync",
        vec![
            vec![Step::Send([parse("s", CARDS), flush()].concat()), Step::Until(b'E')],
            vec![Step::Send([query("select 1"), bind("", "s", &[]), query(CARDS)].concat())],
            ask(sync()),
        ],
    );
    add(
        "describe of what was denied",
        vec![
            ask([parse("s", CARDS), describe(b'S', "s"), sync()].concat()),
            ask([describe(b'S', "s"), sync()].concat()),
        ],
    );
    add(
        "flush between all",
        vec![
            vec![Step::Send([parse("", &note(1)), flush()].concat()), Step::Until(b'1')],
            vec![Step::Send([bind("", "", &[]), flush()].concat()), Step::Until(b'2')],
            vec![Step::Send([execute("", 0), flush()].concat()), Step::Until(b'C')],
            vec![Step::Send([parse("", CARDS), flush()].concat()), Step::Until(b'E')],
            ask([execute("", 0), sync()].concat()),
        ],
    );
    add(
        "suspended portal and a denied statement",
        vec![
            queries(&["begin"]),
            ask([
                parse("", "select generate_series(1, 3)"),
                bind("p", "", &[]),
                execute("p", 1),
                sync(),
            ]
            .concat()),
            ask([unit(CARDS), sync()].concat()),
            ask([execute("p", 1), sync()].concat()),
            queries(&["rollback"]),
        ],
    );
    add(
        "begin and commit around, one pipeline",
        vec![
            ask([unit("begin"), unit(&note(1)), unit(CARDS), unit("commit"), sync()].concat()),
            queries(&["select 1", "rollback"]),
        ],
    );
}

fn names(add: &mut Add<'_>) {
    let all =
        "select coalesce(string_agg(name, ',' order by name), '') from pg_prepared_statements";
    let used = |name: &str| ask([bind("", name, &[]), execute("", 0), sync()].concat());
    add(
        "named statement prepared anew",
        vec![
            ask([parse("s", "select 5"), sync()].concat()),
            ask([parse("s", CARDS), sync()].concat()),
            used("s"),
            queries(&[all]),
        ],
    );
    add(
        "named statement in one pipeline",
        vec![
            vec![Step::Send(
                [
                    parse("s", "select 5"),
                    sync(),
                    parse("s", CARDS),
                    sync(),
                    bind("", "s", &[]),
                    execute("", 0),
                    sync(),
                ]
                .concat(),
            )],
            vec![Step::Until(b'Z'), Step::Until(b'Z'), Step::Until(b'Z')],
            queries(&[all]),
        ],
    );
    add(
        "named statement closed and prepared",
        vec![
            ask([parse("s", "select 5"), sync()].concat()),
            ask([close(b'S', "s"), parse("s", CARDS), sync()].concat()),
            used("s"),
            queries(&[all]),
        ],
    );
    add(
        "unnamed statement is gone behind a denied parse",
        vec![
            ask([parse("", "select 5"), sync()].concat()),
            ask([parse("", CARDS), sync()].concat()),
            used(""),
        ],
    );
    add(
        "unnamed statement is gone behind a denied query",
        vec![ask([parse("", "select 5"), sync()].concat()), queries(&[CARDS]), used("")],
    );
    add(
        "prepared by SQL",
        vec![queries(&["prepare p as select * from vault.cards", all, "execute p"])],
    );
    add(
        "own names of the agent are not taken",
        vec![
            ask([parse("pgward: denied", "select 5"), sync()].concat()),
            ask([parse("x", CARDS), sync()].concat()),
            used("pgward: denied"),
            queries(&[all]),
        ],
    );
}

fn copies(add: &mut Add<'_>) {
    let from = "copy vault.cards from stdin";
    let lines = || [copy_data(b"1\n"), copy_data(b"2\n"), copy_done()].concat();
    add("copy in", vec![queries(&[from, "select 1"])]);
    add(
        "copy in, data sent ahead",
        vec![
            vec![Step::Send([query(from), lines(), query("select 1")].concat())],
            vec![Step::Until(b'Z'), Step::Until(b'Z')],
        ],
    );
    add(
        "copy in by the extended protocol",
        vec![ask([unit(from), sync()].concat()), queries(&["select 1"])],
    );
    add(
        "copy in behind another",
        vec![
            vec![Step::Send(query("copy notes from stdin; copy vault.cards from stdin; select 1"))],
            vec![Step::Until(b'G'), Step::Send(lines()), Step::Until(b'Z')],
            queries(&["select 1"]),
        ],
    );
    add("copy out", vec![queries(&["copy vault.cards to stdout", "copy (select 1) to stdout"])]);
    add(
        "copy out behind another",
        vec![queries(&["copy (select 1) to stdout; copy vault.cards to stdout"])],
    );
    add(
        "copy out by the extended protocol",
        vec![ask([unit("copy (select * from vault.cards) to stdout"), sync()].concat())],
    );
    add("copy in a transaction", vec![queries(&["begin", &note(1), from, "commit"])]);
}

fn functions(add: &mut Add<'_>, oid: u32) {
    add("function call", vec![ask(call(oid)), queries(&["select 1"])]);
    add(
        "function call in a transaction",
        vec![queries(&["begin", &note(1)]), ask(call(oid)), queries(&["select 1", "commit"])],
    );
    add(
        "function call keeps the unnamed statement",
        vec![
            ask([parse("", "select 5"), sync()].concat()),
            ask(call(oid)),
            ask([bind("", "", &[]), execute("", 0), sync()].concat()),
        ],
    );
    add(
        "function call behind messages without sync",
        vec![
            vec![Step::Send([unit(&note(1)), call(oid)].concat()), Step::Until(b'Z')],
            queries(&["select 1"]),
        ],
    );
}

/// Taken away while it is in use.
fn revoked(add: &mut Add<'_>) {
    let value = || parse("s", "select * from shared where n = $1");
    add(
        "taken away in front of the execution",
        vec![
            queries(&["begin", &note(1)]),
            ask([parse("s", "select * from shared"), bind("p", "s", &[]), sync()].concat()),
            vec![Step::Revoke],
            ask([execute("p", 0), unit(&note(2)), sync()].concat()),
            queries(&["commit"]),
        ],
    );
    add(
        "taken away in front of the bind",
        vec![
            ask([value(), sync()].concat()),
            vec![Step::Revoke],
            ask([bind("", "s", &[Some(VALUE)]), execute("", 0), sync()].concat()),
            queries(&["select 1"]),
        ],
    );
}

/// In a failed transaction the server refuses everything alike.
fn failed() -> Vec<Scene> {
    let scene = |name, steps: Vec<Vec<Step>>| Scene {
        name,
        steps: steps.into_iter().flatten().collect(),
        is_refused: false,
        is_replication: false,
        differs: None,
    };
    vec![
        scene(
            "failed transaction",
            vec![queries(&[
                "begin",
                &note(1),
                "select 1/0",
                CARDS,
                "select 1",
                "rollback",
                "select 1",
            ])],
        ),
        scene(
            "failed transaction, extended",
            vec![
                queries(&["begin", "select 1/0"]),
                ask([unit(CARDS), sync()].concat()),
                queries(&["commit", "select 1"]),
            ],
        ),
        scene(
            "an error of its own in front",
            vec![queries(&[
                "select 1/0; select * from vault.cards",
                "select nothing; select * from vault.cards",
            ])],
        ),
        scene(
            "an error in front in the pipeline",
            vec![ask([unit("select 1/0"), unit(CARDS), sync()].concat()), queries(&["select 1"])],
        ),
    ]
}

/// A connection for replication, to a database: it takes SQL, and no extended protocol.
fn replication() -> Vec<Scene> {
    let scene = |name, steps: Vec<Vec<Step>>, is_refused| Scene {
        name,
        steps: steps.into_iter().flatten().collect(),
        is_refused,
        is_replication: true,
        differs: None,
    };
    vec![
        scene(
            "replication, SQL",
            vec![queries(&[CARDS, "select 1", "begin", CARDS, "rollback"])],
            true,
        ),
        scene(
            "replication, extended",
            vec![ask([parse("", CARDS), sync()].concat()), queries(&["select 1"])],
            false,
        ),
    ]
}
