//! Sessions that try to make the queries say something else.

use pgward::catalog::{Path, snapshot_sql};

use super::{Result, Session, VERSIONS, cluster, name};

/// Operators, functions, types and relations that a session puts in front of the server's own.
const SHADOWS: &str = r#"
CREATE ROLE hostile LOGIN;
CREATE SCHEMA evil AUTHORIZATION hostile;
CREATE TABLE public.cards (id int, ssn text);
CREATE VIEW public.peek AS SELECT ssn FROM public.cards;
"#;

const ATTACK: &str = r#"
SET search_path = evil, pg_temp, pg_catalog;
CREATE FUNCTION evil.yes(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION evil.yes("char", "char") RETURNS bool LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION evil.yes(int8, int8) RETURNS bool LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.yes);
CREATE OPERATOR evil.<> (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.yes);
CREATE OPERATOR evil.>= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.yes);
CREATE OPERATOR evil.< (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.yes);
CREATE OPERATOR evil.= (LEFTARG = "char", RIGHTARG = "char", FUNCTION = evil.yes);
CREATE OPERATOR evil.<> (LEFTARG = "char", RIGHTARG = "char", FUNCTION = evil.yes);
CREATE OPERATOR evil.> (LEFTARG = int8, RIGHTARG = int8, FUNCTION = evil.yes);
CREATE FUNCTION evil.current_schemas(bool) RETURNS name[] LANGUAGE sql AS 'SELECT ''{}''::name[]';
CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS 'SELECT ''evil''';
CREATE FUNCTION evil.concat("char", "char") RETURNS text LANGUAGE sql AS 'SELECT ''x''';
CREATE FUNCTION evil.split_part(text, text, int) RETURNS text LANGUAGE sql AS 'SELECT ''0''';
CREATE FUNCTION evil.starts_with(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE AGGREGATE evil.array_agg(int2) (SFUNC = int2larger, STYPE = int2);
CREATE DOMAIN evil.text AS varchar(1);
CREATE DOMAIN evil.oid AS int4;
CREATE TEMP TABLE pg_class (oid int);
CREATE TEMP TABLE pg_namespace (oid int);
CREATE TEMP TABLE pg_attribute (oid int);
CREATE TEMP TABLE cards (id int);
CREATE TEMP VIEW pg_rewrite AS SELECT 1;
SET standard_conforming_strings = off;
SET backslash_quote = on;
SET transform_null_equals = on;
SET quote_all_identifiers = on;
SET array_nulls = off;
SET DateStyle = 'German';
SET IntervalStyle = 'sql_standard';
SET extra_float_digits = -15;
SET bytea_output = 'escape';
SET enable_seqscan = off;
SET default_transaction_isolation = 'serializable';
"#;

#[test]
fn the_queries_mean_the_same_in_a_hostile_session() -> Result {
    for version in VERSIONS {
        let cluster = cluster(version)?;
        let superuser = Session::superuser(&cluster)?;
        superuser.run(SHADOWS)?;
        let hostile = Session::new(&cluster, "hostile")?;
        hostile.run(ATTACK)?;
        let sorted = |session: &Session| {
            let mut rows = session.rows(&snapshot_sql())?;
            // The last row says which transactions were running, and has no place among the others.
            let last = rows.pop();
            rows.sort();
            Result::Ok((rows, last.map(|row| row[5].clone())))
        };
        let (expected, stamp) = sorted(&superuser)?;
        let (rows, hostile_stamp) = sorted(&hostile)?;
        assert_eq!(rows.len(), expected.len());
        for (row, expected) in rows.iter().zip(&expected) {
            assert_eq!(row, expected);
        }
        assert_eq!(hostile_stamp, stamp);
        assert_eq!(hostile.stamp()?, superuser.stamp()?);
        let catalog = hostile.snapshot()?;
        let cards = catalog.relation_named(&name("public"), &name("cards"));
        assert_eq!(cards.map(|cards| cards.columns.len()), Some(2));
        let state = hostile.state_row()?;
        assert_eq!(state.search_path.as_ref(), "evil, pg_temp, pg_catalog");
        assert_eq!(state.role, name("hostile"));
        assert!(!state.standard_strings && state.utf8 && state.server_utf8);
        let mut temporaries: Vec<String> =
            state.temporaries.iter().map(|(kind, name)| format!("{kind}{name}")).collect();
        temporaries.sort();
        let expected = ["rcards", "rpg_attribute", "rpg_class", "rpg_namespace", "vpg_rewrite"];
        assert_eq!(temporaries, expected);
        let order: Vec<bool> =
            state.schemas.iter().map(|schema| schema.as_str().starts_with("pg_temp")).collect();
        assert_eq!(order, [false, true, false], "{:?}", state.schemas);
    }
    Ok(())
}

#[test]
fn other_sessions_temporary_relations_are_no_part_of_it() -> Result {
    for version in VERSIONS {
        let cluster = cluster(version)?;
        let other = Session::superuser(&cluster)?;
        let session = Session::superuser(&cluster)?;
        let stamp = session.stamp()?;
        other.run("CREATE TEMP TABLE hidden (id serial PRIMARY KEY, note text)")?;
        other.run("CREATE TEMP TABLE child () INHERITS (hidden)")?;
        let catalog = session.snapshot()?;
        assert_eq!(catalog.relations_of(&name("hidden")).count(), 0);
        assert!(catalog.relations().all(|r| !r.schema.as_str().starts_with("pg_temp")));
        assert_eq!(session.state_row()?.temporaries, []);
        let state = session.state()?;
        assert!(matches!(state.path(), Path::Exact(schemas) if schemas.len() == 2));
        // The first temporary table of a database makes a schema, which is none of ours either.
        other.run("DROP TABLE child; CREATE TEMP TABLE more (a int)")?;
        let _ = stamp;
        let before = session.stamp()?;
        other.run("CREATE TEMP TABLE again (a int, b text); DROP TABLE again")?;
        assert_eq!(session.stamp()?, before);
    }
    Ok(())
}
