//! What a snapshot holds of each kind of object.

use pgward::catalog::{
    FunctionKind, Language, Oid, Relation, RelationKind, RuleEvent, Snapshot, Volatility,
};

use super::{Result, Session, VERSIONS, cluster, name};

const SCHEMA: &str = r#"
CREATE ROLE nobody_special LOGIN;
CREATE SCHEMA shop;
CREATE TABLE shop.cards (id bigserial PRIMARY KEY, dropped int, ssn text, "We""ird" int,
    twice int GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE shop.cards DROP COLUMN dropped;
CREATE UNLOGGED TABLE shop.orders (id int, card bigint REFERENCES shop.cards ON DELETE CASCADE);
CREATE VIEW shop.v AS SELECT id, upper(ssn) AS s FROM shop.cards;
CREATE VIEW shop.vv AS SELECT v.s, o.id FROM shop.v JOIN shop.orders o ON o.card = v.id;
CREATE VIEW shop.json AS SELECT row_to_json(c) AS j FROM shop.cards c WHERE id > 0;
CREATE VIEW shop.users AS SELECT rolname FROM pg_catalog.pg_authid;
CREATE VIEW shop.stats AS SELECT tablename, null_frac FROM pg_catalog.pg_stats;
CREATE MATERIALIZED VIEW shop.stored AS SELECT ssn FROM shop.cards;
CREATE TABLE shop.events (at date, what text) PARTITION BY RANGE (at);
CREATE TABLE shop.events_1 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE shop.events_2 PARTITION OF shop.events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')
    PARTITION BY LIST (what);
CREATE TABLE shop.events_2a PARTITION OF shop.events_2 DEFAULT;
CREATE TABLE shop.animals (name text);
CREATE TABLE shop.cats (lives int) INHERITS (shop.animals);
CREATE TABLE shop.log (what text);
CREATE TABLE shop.ruled (id int);
CREATE RULE noted AS ON INSERT TO shop.ruled DO ALSO INSERT INTO shop.log VALUES ('new');
CREATE RULE kept AS ON DELETE TO shop.ruled WHERE (SELECT count(*) FROM shop.orders) > 0
    DO INSTEAD NOTHING;
CREATE FUNCTION shop.act(a int, b text DEFAULT 'x') RETURNS SETOF int LANGUAGE plpgsql
    SECURITY DEFINER SET work_mem = '1MB' AS 'BEGIN RETURN; END';
CREATE FUNCTION shop.same(text, text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true';
CREATE PROCEDURE shop.proceed() LANGUAGE sql AS '';
CREATE FUNCTION shop.fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER fired BEFORE UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.fires();
CREATE OPERATOR shop.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = shop.same);
CREATE VIEW shop.sames AS SELECT ssn OPERATOR(shop.===) 'x' AS s FROM shop.cards;
CREATE AGGREGATE shop.most(text) (SFUNC = text_larger, STYPE = text);
CREATE VIEW shop.mosts AS SELECT shop.most(ssn) AS s FROM shop.cards;
CREATE DOMAIN shop.email AS text CHECK (shop.same(VALUE, VALUE));
CREATE TYPE shop.mood AS ENUM ('good', 'bad');
CREATE TYPE shop.pair AS (a int, b int);
CREATE FOREIGN DATA WRAPPER none;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER none;
CREATE FOREIGN TABLE shop.remote (id int) SERVER elsewhere;
ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;
"#;

fn relation<'a>(snapshot: &'a Snapshot, of: &str) -> &'a Relation {
    let (schema, relation) = of.split_once('.').unwrap_or(("shop", of));
    let found = snapshot.relation_named(&name(schema), &name(relation));
    found.unwrap_or_else(|| panic!("no relation {of}"))
}

/// Relations of a rule by name, with the columns that it reads.
fn reads(snapshot: &Snapshot, of: &str, event: RuleEvent) -> Vec<(String, Option<Vec<String>>)> {
    let found = relation(snapshot, of);
    let mut reads: Vec<_> = found
        .rules_on(event)
        .flat_map(|rule| &rule.relations)
        .map(|(oid, columns)| {
            let target = snapshot.relation(*oid).expect("a rule's relation is in the snapshot");
            let column = |number: &i16| {
                target.column_number(*number).map_or("?".to_owned(), |c| c.name.to_string())
            };
            let columns = columns.as_ref().map(|columns| columns.iter().map(column).collect());
            (target.name.to_string(), columns)
        })
        .collect();
    reads.sort();
    reads
}

fn names(snapshot: &Snapshot, oids: &[Oid]) -> Vec<String> {
    let mut names: Vec<String> = oids
        .iter()
        .map(|oid| snapshot.relation(*oid).map_or("?".to_owned(), |r| r.name.to_string()))
        .collect();
    names.sort();
    names
}

#[test]
fn every_kind_of_object_is_there_with_its_edges() -> Result {
    for version in VERSIONS {
        let cluster = cluster(version)?;
        let superuser = Session::superuser(&cluster)?;
        superuser.run(SCHEMA)?;
        // Whoever it is: catalogs are open to all.
        let snapshot = Session::new(&cluster, "nobody_special")?.snapshot()?;
        relations_are_there(&snapshot);
        rules_are_there(&snapshot);
        functions_are_there(&snapshot);
    }
    Ok(())
}

fn relations_are_there(snapshot: &Snapshot) {
    let kinds = [
        ("cards", RelationKind::Table),
        ("events", RelationKind::PartitionedTable),
        ("v", RelationKind::View),
        ("stored", RelationKind::MaterializedView),
        ("remote", RelationKind::ForeignTable),
        ("cards_id_seq", RelationKind::Sequence),
        ("cards_pkey", RelationKind::Index),
        ("pair", RelationKind::Composite),
        ("pg_catalog.pg_class", RelationKind::Table),
        ("information_schema.tables", RelationKind::View),
    ];
    for (of, kind) in kinds {
        assert_eq!(relation(snapshot, of).kind, kind, "{of}");
    }
    let cards = relation(snapshot, "cards");
    let columns: Vec<(i16, &str, bool)> =
        cards.columns.iter().map(|c| (c.number, c.name.as_str(), c.generated)).collect();
    let expected = [(1, "id", false), (3, "ssn", false), (4, "We\"ird", false), (5, "twice", true)];
    assert_eq!(columns, expected);
    assert_eq!(&*cards.owner, "postgres");
    assert_eq!(relation(snapshot, "cards_pkey").table, Some(cards.oid));
    assert_eq!(relation(snapshot, "orders").row_security, (true, false));
    assert_eq!(relation(snapshot, "orders").triggers.len(), 1);
    let server = relation(snapshot, "remote").server.as_ref().map(ToString::to_string);
    assert_eq!(server.as_deref(), Some("elsewhere"));
    let children = |of: &str| names(snapshot, &relation(snapshot, of).children);
    let parents = |of: &str| names(snapshot, &relation(snapshot, of).parents);
    assert_eq!(children("events"), ["events_1", "events_2"]);
    assert_eq!(children("events_2"), ["events_2a"]);
    assert_eq!(parents("events_2a"), ["events_2"]);
    assert!(relation(snapshot, "events_2a").partition);
    assert_eq!(children("animals"), ["cats"]);
    assert!(!relation(snapshot, "cats").partition);
    let keys = snapshot.foreign_keys_to(cards.oid);
    assert_eq!(keys.len(), 1);
    assert_eq!((keys[0].from, keys[0].on_delete), (relation(snapshot, "orders").oid, 'c'));
}

fn rules_are_there(snapshot: &Snapshot) {
    let columns = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let read = |of: &str| reads(snapshot, of, RuleEvent::Select);
    assert_eq!(read("v"), [("cards".to_owned(), columns(&["id", "ssn"]))]);
    assert_eq!(
        read("vv"),
        [("orders".to_owned(), columns(&["id", "card"])), ("v".to_owned(), columns(&["id", "s"])),]
    );
    // The server itself notes `id` alone for this one.
    assert_eq!(read("json"), [("cards".to_owned(), None)]);
    assert_eq!(read("users"), [("pg_authid".to_owned(), None)]);
    assert_eq!(read("stored"), [("cards".to_owned(), columns(&["ssn"]))]);
    assert_eq!(read("stats").len(), 1);
    let statistics = reads(snapshot, "pg_catalog.pg_stats", RuleEvent::Select);
    assert!(statistics.iter().any(|(of, _)| of == "pg_statistic"), "{statistics:?}");
    let inserts = reads(snapshot, "ruled", RuleEvent::Insert);
    assert!(inserts.iter().any(|(of, _)| of == "log"), "{inserts:?}");
    let deletes = reads(snapshot, "ruled", RuleEvent::Delete);
    assert!(deletes.iter().any(|(of, _)| of == "orders"), "{deletes:?}");
    for (function, of) in [("same", "sames"), ("most", "mosts")] {
        let oid = snapshot.functions_of(&name(function)).next().expect("a function").oid;
        let rules = &relation(snapshot, of).rules;
        assert!(rules.iter().any(|rule| rule.functions.contains(&oid)), "{rules:?}");
    }
}

fn functions_are_there(snapshot: &Snapshot) {
    let function = |of: &str| snapshot.functions_of(&name(of)).next().expect("a function");
    let act = function("act");
    assert!(act.security_definer && act.returns_set && act.sets && !act.of_extension);
    assert_eq!(act.language, Language::Other("plpgsql".into()));
    assert_eq!((act.arguments.as_slice(), act.defaults), (&[23, 25][..], 1));
    assert!(act.takes(1) && act.takes(2) && !act.takes(0) && !act.takes(3));
    assert_eq!(function("same").volatility, Volatility::Immutable);
    assert_eq!(function("proceed").kind, FunctionKind::Procedure);
    assert!(snapshot.functions_of(&name("lower")).next().is_none());
    assert_eq!(snapshot.builtin(1259), None);
    let email = snapshot.types_of(&name("email")).next().expect("a domain");
    assert_eq!((email.kind, email.base), ('d', 25));
    assert_eq!(email.checks, [function("same").oid]);
    assert_eq!(snapshot.types_of(&name("mood")).next().map(|found| found.kind), Some('e'));
    assert_eq!(snapshot.types_of(&name("pair")).next().map(|found| found.kind), Some('c'));
}
