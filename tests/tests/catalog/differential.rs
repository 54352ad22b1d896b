//! Random statements: what the server reads is among what was asked for, and what was asked for by name is enough for the
//! server's own privileges.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Context;
use pgward::policy::{Columns, Object, Reached, Request};
use pgward::sql::facts::Effect;
use serde_json::Value;

use super::{Result, Session, VERSIONS, cluster, resolved};

const STATEMENTS: u32 = 400;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

const SCHEMA: &str = r#"
CREATE ROLE reader LOGIN;
CREATE SCHEMA a;
CREATE SCHEMA b;
GRANT USAGE ON SCHEMA a, b TO reader;
CREATE TABLE a.t1 (id int, x int, y text);
CREATE TABLE a.t2 (id int, x int, z text);
CREATE TABLE b.t1 (id int, q int);
CREATE TABLE b.t3 (id int, x int, w text);
CREATE VIEW a.v1 AS SELECT id, x, upper(y) AS y FROM a.t1;
CREATE VIEW a.v2 AS SELECT v.id, v.x, t.w AS y FROM a.v1 v LEFT JOIN b.t3 t ON t.id = v.id;
CREATE VIEW b.v3 AS SELECT id, x FROM a.t2 UNION ALL SELECT id, x FROM a.v2;
CREATE VIEW a.v4 AS WITH c AS (SELECT id, q AS x FROM b.t1) SELECT id, x FROM c
    WHERE EXISTS (SELECT FROM a.t2 WHERE t2.id = c.id);
CREATE VIEW a.v5 AS SELECT id, 1 AS x, row_to_json(t) ->> 'y' AS y FROM a.t1 t;
CREATE MATERIALIZED VIEW b.m1 AS SELECT id, x FROM a.v1;
CREATE TABLE a.p (id int, x int) PARTITION BY RANGE (id);
CREATE TABLE a.p1 PARTITION OF a.p FOR VALUES FROM (0) TO (10);
CREATE TABLE b.p2 PARTITION OF a.p FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (x);
CREATE TABLE b.p2a PARTITION OF b.p2 DEFAULT;
CREATE TABLE a.base (id int, x int);
CREATE TABLE b.derived (extra int) INHERITS (a.base);
CREATE VIEW a.v6 AS SELECT p.id, b.x FROM a.p JOIN a.base b USING (id);
"#;

/// Sources that all have `id` and `x`.
const SOURCES: &[&str] = &[
    "a.t1",
    "t1",
    "a.t2",
    "t2",
    "b.t3",
    "a.v1",
    "v1",
    "a.v2",
    "v2",
    "b.v3",
    "a.v4",
    "a.v5",
    "v5",
    "b.m1",
    "a.p",
    "p",
    "a.p1",
    "b.p2",
    "b.p2a",
    "a.base",
    "ONLY a.base",
    "b.derived",
    "a.v6",
    "v6",
];

struct Random(u64);

impl Random {
    fn next(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap_or(0)
    }

    fn source(&mut self) -> &'static str {
        SOURCES[self.next(SOURCES.len())]
    }

    fn predicate(&mut self, alias: &str, depth: u32) -> String {
        let number = self.next(30);
        match self.next(6) {
            0 => format!("{alias}.id = {number}"),
            1 => "true".to_owned(),
            2 => {
                format!("{alias}.x IN (SELECT x FROM {} s WHERE s.id = {alias}.id)", self.source())
            }
            3 if depth > 0 => format!("EXISTS ({})", self.query(depth - 1)),
            4 => format!("coalesce({alias}.x, {number}) > 3"),
            _ => format!("{alias}.id BETWEEN 2 AND {number}"),
        }
    }

    /// A query of one column.
    fn query(&mut self, depth: u32) -> String {
        let one = self.source();
        let deeper = depth.saturating_sub(1);
        match self.next(11) {
            0 => format!("SELECT id FROM {one} o WHERE {}", self.predicate("o", deeper)),
            1 => format!("SELECT o.x FROM {one} o WHERE {}", self.predicate("o", deeper)),
            2 => {
                let two = self.source();
                let predicate = self.predicate("m", deeper);
                format!("SELECT m.x FROM {one} n JOIN {two} m ON m.id = n.id WHERE {predicate}")
            }
            3 => {
                let two = self.source();
                format!("SELECT count(*)::int FROM {one} n LEFT JOIN {two} m USING (id, x)")
            }
            4 if depth > 0 => {
                let (left, right) = (self.query(deeper), self.query(deeper));
                format!("({left}) UNION ALL ({right})")
            }
            5 if depth > 0 => {
                let inner = self.query(deeper);
                let predicate = self.predicate("o", deeper);
                format!(
                    "WITH c(k) AS ({inner}) SELECT o.id FROM {one} o, c WHERE {predicate} AND k = 1"
                )
            }
            6 if depth > 0 => {
                let inner = self.query(deeper);
                format!("SELECT o.x FROM {one} o, LATERAL ({inner}) AS l(k) WHERE k = o.id")
            }
            7 => format!("SELECT max(d) FROM {one} AS o(d, e) GROUP BY e ORDER BY 1"),
            8 => format!("SELECT length(o::text) FROM {one} o"),
            9 => format!(
                "SELECT (SELECT min(x) FROM {} i WHERE i.id = o.id) FROM {one} o",
                self.source()
            ),
            _ => format!("SELECT x AS k FROM {one} ORDER BY k LIMIT 3"),
        }
    }
}

/// Tables and views that take changes.
const TARGETS: &[&str] =
    &["a.t1", "t2", "b.t3", "a.v1", "v1", "a.p", "b.p2", "a.base", "b.derived"];

impl Random {
    fn statement(&mut self) -> String {
        if self.next(4) > 0 {
            return self.query(3);
        }
        let target = TARGETS[self.next(TARGETS.len())];
        match self.next(5) {
            0 => format!("UPDATE {target} o SET x = 1 WHERE {}", self.predicate("o", 1)),
            1 => format!(
                "UPDATE {target} o SET x = s.k FROM ({}) s(k) RETURNING o.id",
                self.query(1)
            ),
            2 => format!("DELETE FROM {target} o WHERE {}", self.predicate("o", 1)),
            3 => format!("INSERT INTO {target} (id) {}", self.query(2)),
            _ => format!(
                "WITH d AS (DELETE FROM {target} o WHERE o.id = 1 RETURNING o.x) \
                 SELECT n.id FROM {} n JOIN d USING (x)",
                self.source()
            ),
        }
    }
}

/// Relations that a plan reads or changes.
fn read(plan: &Value, found: &mut BTreeSet<(String, String)>) {
    match plan {
        Value::Object(fields) => {
            let text = |field: &str| fields.get(field).and_then(Value::as_str);
            if let (Some(schema), Some(name)) = (text("Schema"), text("Relation Name")) {
                found.insert((schema.to_owned(), name.to_owned()));
            }
            fields.values().for_each(|field| read(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| read(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn asked(request: &Request) -> BTreeSet<(String, String)> {
    let relations = request.needs.iter().filter_map(|need| match &need.object {
        Object::Relation { schema: Some(schema), name, .. } => {
            Some((schema.to_string(), name.to_string()))
        }
        _ => None,
    });
    relations.collect()
}

/// Statements that give exactly what a request asks for by name.
fn grants(request: &Request) -> String {
    let mut grants = String::new();
    for need in request.needs.iter().filter(|need| need.reached == Reached::Named) {
        let Object::Relation { schema: Some(schema), name, columns } = &need.object else {
            continue;
        };
        let columns = match columns {
            Columns::All => String::new(),
            // The server asks for the right to read any column, even if none is.
            Columns::None if need.action == Effect::Select => "(id)".to_owned(),
            Columns::None => String::new(),
            Columns::These(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
                format!("({})", names.join(", "))
            }
        };
        let action = need.action.name();
        let _ = write!(grants, "GRANT {action} {columns} ON {schema}.{name} TO reader;");
    }
    grants
}

#[test]
fn what_a_server_reads_was_asked_for() -> Result {
    for version in VERSIONS {
        let cluster = cluster(version)?;
        let superuser = Session::superuser(&cluster)?;
        superuser.run(SCHEMA)?;
        superuser.run("SET search_path = a, b")?;
        let reader = Session::new(&cluster, "reader")?;
        reader.run("SET search_path = a, b")?;
        let catalog = superuser.snapshot()?;
        let state = superuser.state()?;
        let mut random = Random(SEED);
        let (mut plans, mut relations) = (0, 0);
        for number in 0..STATEMENTS {
            let text = random.statement();
            let resolution = resolved(&text, &state, &catalog)?;
            let [request] = resolution.requests.as_slice() else { panic!("{text}") };
            assert!(request.unknown.is_empty(), "{:?} in {text}", request.unknown);
            assert!(!resolution.stale, "{text}");
            let explain = format!("EXPLAIN (VERBOSE, FORMAT JSON) {text}");
            let plan = superuser.plan(&explain).with_context(|| format!("{number}: {text}"))?;
            let mut found = BTreeSet::new();
            read(&plan, &mut found);
            let asked = asked(request);
            let missing: Vec<_> = found.difference(&asked).collect();
            assert!(
                missing.is_empty(),
                "seed {SEED:#x}: {missing:?} not among {asked:?} in {text}"
            );
            plans += usize::from(!found.is_empty());
            relations += found.len();
            // The server agrees that this is all.
            superuser.run("REVOKE ALL ON ALL TABLES IN SCHEMA a, b FROM reader")?;
            superuser.run(&grants(request))?;
            reader
                .plan(&explain)
                .with_context(|| format!("seed {SEED:#x}: {:?} in {text}", request.needs))?;
        }
        assert!(plans > 300 && relations > 1000, "{plans} plans read {relations} relations");
    }
    Ok(())
}

impl Session {
    fn plan(&self, explain: &str) -> Result<Value> {
        let row = self.runtime.block_on(self.client.simple_query(explain))?;
        let text: String = row
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        Ok(serde_json::from_str(&text)?)
    }
}
