//! Every change of the catalog by another session changes the stamp; what is no change does not.

use super::{Result, Session, VERSIONS, cluster};

const START: &str = r#"
CREATE ROLE other;
CREATE SCHEMA s;
CREATE TABLE t (id int PRIMARY KEY, a text, b text);
CREATE TABLE u (id int REFERENCES t ON DELETE CASCADE);
CREATE TABLE p (id int) PARTITION BY RANGE (id);
CREATE TABLE p1 (id int NOT NULL);
CREATE TABLE parent (id int);
CREATE VIEW v AS SELECT id FROM t;
CREATE MATERIALIZED VIEW m AS SELECT a FROM t;
CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION trig() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION eq(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE TYPE mood AS ENUM ('a');
CREATE TYPE pair AS (a int);
CREATE FOREIGN DATA WRAPPER w;
CREATE SERVER srv FOREIGN DATA WRAPPER w;
"#;

/// In this order, each by itself.
const CHANGES: &[&str] = &[
    "CREATE TABLE t2 (a int)",
    "ALTER TABLE t2 ADD COLUMN b int",
    "ALTER TABLE t2 RENAME COLUMN b TO c",
    "ALTER TABLE t2 ALTER COLUMN c TYPE bigint",
    "ALTER TABLE t2 DROP COLUMN c",
    "ALTER TABLE t2 RENAME TO t3",
    "ALTER TABLE t3 SET SCHEMA s",
    "ALTER TABLE s.t3 OWNER TO other",
    "ALTER TABLE s.t3 ENABLE ROW LEVEL SECURITY",
    "GRANT SELECT ON s.t3 TO PUBLIC",
    "DROP TABLE s.t3",
    "CREATE OR REPLACE VIEW v AS SELECT id FROM parent",
    "CREATE OR REPLACE VIEW v AS SELECT id FROM t WHERE a = 'x'",
    "ALTER VIEW v RENAME COLUMN id TO key",
    "ALTER VIEW v RENAME TO v2",
    "DROP VIEW v2",
    "CREATE RULE r AS ON INSERT TO t DO ALSO NOTHING",
    "CREATE OR REPLACE RULE r AS ON INSERT TO t DO ALSO SELECT 1",
    "DROP RULE r ON t",
    "ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (1) TO (2)",
    "ALTER TABLE p DETACH PARTITION p1",
    "CREATE TABLE child () INHERITS (parent)",
    "ALTER TABLE child NO INHERIT parent",
    "ALTER TABLE child INHERIT parent",
    "ALTER TABLE u DROP CONSTRAINT u_id_fkey",
    "ALTER TABLE u ADD FOREIGN KEY (id) REFERENCES t ON DELETE CASCADE",
    "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION trig()",
    "DROP TRIGGER g ON t",
    "CREATE FUNCTION f(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 2'",
    "ALTER FUNCTION f(int) SECURITY DEFINER",
    "ALTER FUNCTION f(int) RENAME TO f2",
    "DROP FUNCTION f2(int)",
    "CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = eq)",
    "DROP OPERATOR === (text, text)",
    "CREATE DOMAIN d AS text",
    "ALTER DOMAIN d ADD CHECK (eq(VALUE, VALUE))",
    "DROP DOMAIN d",
    "ALTER TYPE mood RENAME TO moods",
    "ALTER TYPE pair ADD ATTRIBUTE b int",
    "CREATE CAST (pair AS mood2) WITH INOUT",
    "CREATE SCHEMA s2",
    "ALTER SCHEMA s2 RENAME TO s3",
    "GRANT USAGE ON SCHEMA s3 TO PUBLIC",
    "DROP SCHEMA s3",
    "CREATE FOREIGN TABLE ft (a int) SERVER srv",
    "ALTER SERVER srv RENAME TO srv2",
    "DROP FOREIGN TABLE ft",
    "CREATE SEQUENCE seq",
    "DROP SEQUENCE seq",
    "DROP MATERIALIZED VIEW m",
];

const NO_CHANGES: &[&str] = &[
    "SELECT count(*) FROM t",
    "INSERT INTO t VALUES (1, 'a', 'b'), (2, 'c', 'd')",
    "UPDATE t SET a = 'x'",
    "DELETE FROM t WHERE id = 2",
    "ANALYZE t",
    "BEGIN; CREATE TABLE gone (a int); ROLLBACK",
    "SET work_mem = '1MB'",
    "PREPARE q AS SELECT 1",
    "COMMENT ON TABLE t IS 'note'",
];

#[test]
fn every_change_by_another_session_shows() -> Result {
    for version in VERSIONS {
        let cluster = cluster(version)?;
        let other = Session::superuser(&cluster)?;
        let session = Session::superuser(&cluster)?;
        other.run(START)?;
        other.run("CREATE TYPE mood2 AS ENUM ('x')")?;
        let mut stamp = session.stamp()?;
        let mut horizon = session.state_row()?.horizon;
        for change in CHANGES {
            other.run(change)?;
            let now = session.stamp()?;
            assert_ne!(now, stamp, "{change}");
            // Where nothing was written there is no need to look.
            let seen = session.state_row()?.horizon;
            assert_ne!(seen, horizon, "{change}");
            let snapshot = session.snapshot()?;
            assert_eq!(*snapshot.epoch().stamp, *now, "{change}");
            assert!(snapshot.epoch().still_at(&seen), "{change}");
            (stamp, horizon) = (now, seen);
        }
        for text in NO_CHANGES {
            other.run(text)?;
            assert_eq!(session.stamp()?, stamp, "{text}");
        }
    }
    Ok(())
}

/// Transactions that end in another order than they began: the highest number among the rows would not tell.
#[test]
fn a_change_by_an_older_transaction_shows() -> Result {
    for version in VERSIONS {
        let cluster = cluster(version)?;
        let old = Session::superuser(&cluster)?;
        let young = Session::superuser(&cluster)?;
        let session = Session::superuser(&cluster)?;
        session.run("CREATE TABLE t (a int); CREATE TABLE u (a int)")?;
        old.run("BEGIN; ALTER TABLE t RENAME COLUMN a TO b")?;
        young.run("ALTER TABLE u RENAME COLUMN a TO b")?;
        let stamp = session.stamp()?;
        let horizon = session.state_row()?.horizon;
        old.run("COMMIT")?;
        assert_ne!(session.stamp()?, stamp);
        assert_ne!(session.state_row()?.horizon, horizon);
    }
    Ok(())
}
