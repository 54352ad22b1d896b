//! Programs on libpq: psql, pgbench, pg_dump, pg_restore.

use std::process::Command;

use anyhow::ensure;
use pgward_tests::postgres::{Auth, Cluster};
use pgward_tests::scene::mark;
use pgward_tests::wait::{self, PATIENCE};

use crate::{Pair, Result, gate, text};

/// Everything psql shows of many kinds of statements, with errors and notices in between.
const SCRIPT: &str = r"
\set VERBOSITY verbose
select 1 as one, null as nothing, 'é🐘' as text, 1.5::numeric, now() > '2000-01-01' as later;
select 1; select 2 \; select 3;
create table t (a int primary key, b text);
insert into t select n, repeat('b', n) from generate_series(1, 200) n;
select count(*), sum(length(b)) from t;
insert into t values (1, 'again');
begin;
select 1 / 0;
select 'not now';
rollback;
do $$begin raise notice 'a notice'; raise warning 'a warning'; end$$;
prepare p(int) as select a, b from t where a < $1 order by a;
execute p(4);
declare c cursor with hold for select a from t order by a;
fetch 3 from c;
move 5 in c;
fetch 2 from c;
close c;
copy (select a, b from t order by a limit 5) to stdout;
copy t from stdin;
301	thirty
302	\N
\.
\copy (select * from t order by a) to '/dev/stdout' csv header
select a, b from t where a > $1 \bind 300 \g
update t set b = 'x' where a > 190 returning a;
delete from t where a > 195;
explain (costs off) select * from t where a = 1;
set statement_timeout = '20ms';
select pg_sleep(10);
reset statement_timeout;
\d t
select lo_from_bytea(4711, repeat('large', 20000)::bytea);
select length(lo_get(4711)), lo_unlink(4711);
drop table t;
";

#[test]
fn psql_shows_the_same() -> Result {
    gate!();
    let pair = Pair::new("psql", Cluster::builder())?;
    let script = tempfile::NamedTempFile::new()?;
    std::fs::write(script.path(), SCRIPT)?;
    let output = pair.same(|| {
        let mut psql = pair.cluster.client("psql", "127.0.0.1");
        psql.arg("-Xaf").arg(script.path());
        Ok(psql)
    })?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    assert!(pair.statements("generate_series(1, 200)")? == 1);
    Ok(())
}

#[test]
fn psql_logs_in_with_every_kind_of_password() -> Result {
    gate!();
    for auth in [Auth::Scram, Auth::Md5, Auth::Password] {
        let pair = Pair::new("login", Cluster::builder().auth(auth))?;
        for settings in ["sslmode=prefer", "sslmode=disable gssencmode=disable"] {
            let psql = |password: &'static str| {
                let pair = &pair;
                move || {
                    let mut psql = pair.cluster.client("psql", "127.0.0.1");
                    psql.env("PGPASSWORD", password).arg("-wXAtc").arg("select current_user");
                    psql.arg(format!("{settings} application_name=login"));
                    Ok(psql)
                }
            };
            let right = pair.same(psql(pair.cluster.password()))?;
            assert_eq!(right.stdout, b"postgres\n", "{auth:?} {settings}");
            let wrong = pair.same(psql("wrong"))?;
            assert!(!wrong.status.success(), "{auth:?} {settings}");
        }
    }
    Ok(())
}

#[test]
fn psql_is_told_the_same_when_encryption_is_not_to_be_had() -> Result {
    gate!();
    let pair = Pair::new("encryption", Cluster::builder())?;
    for settings in ["sslmode=require", "gssencmode=require", "dbname=nowhere", "user=nobody"] {
        pair.same(|| {
            let mut psql = pair.cluster.client("psql", "127.0.0.1");
            psql.args(["-wXAtc", "select 1", settings]);
            Ok(psql)
        })?;
    }
    Ok(())
}

#[test]
fn psql_cancels_what_it_runs() -> Result {
    gate!();
    let pair = Pair::new("cancel", Cluster::builder())?;
    let mark = mark("cancel");
    // psql turns SIGINT into a cancel request; `timeout` sends it once the statement has had time to begin. A statement
    // that is cancelled too early would just not fail, which the assertion would show.
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--signal=INT", "1.5"]).arg(pair.cluster.programs().join("psql"));
    pair.cluster.point(&mut command, "127.0.0.1");
    command.args(["-XAtc", &format!("select pg_sleep(100) -- {mark}")]);
    let output = pair.scene.output(&mut command)?;
    let told = text(&output.stderr);
    assert!(told.contains("canceling statement due to user request"), "{told}");
    let (statement, _) = pair.scene.statement(&mark)?;
    assert_eq!(statement["sqlstate"], "57014", "{statement}");
    assert_eq!(statement["outcome"], "failed", "{statement}");
    let cancel = pair.scene.agent.wait_for(|record| record["event"] == "cancel", PATIENCE)?;
    assert_eq!(cancel["target_session"], statement["session"], "{cancel}");
    assert_eq!(cancel["cancel_outcome"], "forwarded", "{cancel}");
    Ok(())
}

fn pgbench(pair: &Pair, arguments: &[&str]) -> Result<String> {
    let mut pgbench = pair.cluster.client("pgbench", "127.0.0.1");
    pair.scene.run(pgbench.args(arguments))
}

#[test]
fn pgbench_runs_in_every_mode_and_every_transaction_is_recorded() -> Result {
    gate!();
    let pair = Pair::new("pgbench", Cluster::builder())?;
    pgbench(&pair, &["-i", "-q", "-s", "1"])?;
    let modes: [&[&str]; 4] =
        [&["-M", "simple"], &["-M", "extended"], &["-M", "prepared"], &["-M", "simple", "-C"]];
    for mode in modes {
        let before = pair.statements("SELECT abalance FROM pgbench_accounts")?;
        let load = ["-n", "-S", "-c", "4", "-j", "2", "-t", "50"];
        let told = pgbench(&pair, &[&load, mode].concat())?;
        assert!(told.contains("number of failed transactions: 0"), "{mode:?}: {told}");
        assert!(told.contains("200/200"), "{mode:?}: {told}");
        wait::until_true("all selects to be recorded", PATIENCE, || {
            Ok(pair.statements("SELECT abalance FROM pgbench_accounts")? == before + 200)
        })?;
    }
    for mode in ["simple", "extended", "prepared"] {
        pgbench(&pair, &["-n", "-c", "4", "-j", "2", "-t", "25", "-M", mode])?;
    }
    let sums =
        "select sum(bbalance) = (select sum(delta) from pgbench_history) from pgbench_branches";
    assert_eq!(pair.cluster.sql("postgres", sums)?, "t\n", "no transaction was lost or doubled");
    let count = pair.cluster.sql("postgres", "select count(*) from pgbench_history")?;
    assert_eq!(count, "300\n");
    Ok(())
}

#[test]
fn pgbench_pipelines() -> Result {
    gate!();
    let pair = Pair::new("pipeline", Cluster::builder())?;
    let script = tempfile::NamedTempFile::new()?;
    let mut lines = String::from("\\startpipeline\n");
    for number in 0..200 {
        lines.push_str(&format!("select {number} + :client_id, repeat('p', 2000);\n"));
    }
    lines.push_str("\\endpipeline\n");
    std::fs::write(script.path(), lines)?;
    let path = script.path().to_string_lossy().into_owned();
    let told = pgbench(&pair, &["-n", "-M", "extended", "-c", "4", "-t", "10", "-f", &path])?;
    assert!(told.contains("number of failed transactions: 0"), "{told}");
    Ok(())
}

/// Tables with large rows, many rows and odd values, and large objects.
const CONTENT: &str = "
create table large(id int primary key, body text, bytes bytea);
insert into large select n, repeat(md5(n::text), 150000), decode(repeat(md5(n::text), 30000), 'hex')
  from generate_series(1, 6) n;
create table many(id int primary key, a text, b numeric, c timestamptz, d jsonb, e int[]);
insert into many select n, case when n % 7 = 0 then null else E'tab\\tline\\nback\\\\slash ' || n end,
  n * 1.25, timestamptz '2020-01-01' + n * interval '1 minute', jsonb_build_object('n', n), array[n, null, -n]
  from generate_series(1, 30000) n;
select lo_from_bytea(5000 + n, decode(repeat(md5(n::text), 100000), 'hex')) from generate_series(1, 4) n;
create view few as select id, a from many where id < 10;
create function f(int) returns int language sql as 'select $1 + 1';
";

#[test]
fn dump_and_restore_give_the_same_database() -> Result {
    gate!();
    let pair = Pair::new("dump", Cluster::builder().setting("max_locks_per_transaction", "200"))?;
    pair.cluster.sql("postgres", "create database one")?;
    pair.cluster.sql("postgres", "create database two")?;
    pair.cluster.sql("one", CONTENT)?;
    let folder = tempfile::tempdir()?;
    let dump = |name: &str, database: &str| -> Result<(Command, std::path::PathBuf)> {
        let file = folder.path().join(name);
        let mut command = pair.cluster.client("pg_dump", "127.0.0.1");
        // The key replaces a random one in the output, which would differ between any two dumps.
        command.args(["--restrict-key=test", "-d", database, "-f"]).arg(&file);
        Ok((command, file))
    };
    let (mut command, direct) = dump("direct.sql", "one")?;
    pgward_tests::host::run(&mut command)?;
    let (mut command, through) = dump("through.sql", "one")?;
    pair.scene.run(&mut command)?;
    let (direct, through) = (std::fs::read(direct)?, std::fs::read(through)?);
    assert!(direct.len() > 30_000_000, "{} bytes", direct.len());
    assert!(direct == through, "{} and {} bytes", direct.len(), through.len());

    let archive = folder.path().join("archive");
    let mut command = pair.cluster.client("pg_dump", "127.0.0.1");
    pair.scene.run(command.args(["-Fd", "-j", "2", "-d", "one", "-f"]).arg(&archive))?;
    let mut command = pair.cluster.client("pg_restore", "127.0.0.1");
    pair.scene.run(command.args(["-j", "2", "-d", "two"]).arg(&archive))?;
    let (mut command, restored) = dump("restored.sql", "two")?;
    pgward_tests::host::run(&mut command)?;
    let restored = std::fs::read(restored)?;
    assert!(direct == restored, "{} and {} bytes", direct.len(), restored.len());
    Ok(())
}

#[test]
fn copy_counts_what_went_through() -> Result {
    gate!();
    let pair = Pair::new("copy", Cluster::builder())?;
    pair.cluster.sql("postgres", "create table big(a int, b text)")?;
    let file = tempfile::NamedTempFile::new()?;
    let mut lines = String::new();
    for number in 0..200_000 {
        lines.push_str(&format!("{number}\t{}\n", "c".repeat(100)));
    }
    std::fs::write(file.path(), &lines)?;
    let (into, out) = (mark("into"), mark("out"));
    let mut psql = pair.cluster.client("psql", "127.0.0.1");
    let sql = format!("copy big from stdin /* {into} */");
    psql.args(["-Xqc", &sql]);
    pair.scene.cgroup.enter(&mut psql)?;
    let status = psql.stdin(std::fs::File::open(file.path())?).status()?;
    ensure!(status.success(), "{}", pair.scene.agent.story());
    let mut psql = pair.cluster.client("psql", "127.0.0.1");
    let sql = format!("copy big to stdout /* {out} */");
    let copied = pair.scene.run(psql.args(["-Xqc", &sql]))?;
    assert!(copied == lines, "{} and {} bytes", copied.len(), lines.len());
    for (mark, field) in [(&into, "copy_in"), (&out, "copy_out")] {
        let (statement, _) = pair.scene.statement(mark)?;
        assert_eq!(statement[field]["bytes"].as_u64(), Some(lines.len() as u64), "{statement}");
        assert_eq!(statement[field]["rows"], 200_000, "{statement}");
        assert_eq!(statement["tag"], "COPY 200000", "{statement}");
    }
    Ok(())
}
