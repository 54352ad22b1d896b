//! The table of checkpoints, in a real server.

use std::time::Duration;

use anyhow::Context;
use pgward::audit::anchors::{Alarm, CopyError, Database, Known, Place, SQL_ROLE, anchor_sql};
use pgward::config::Config;
use pgward::net::destinations::Destinations;
use pgward_tests::pki::{HOST, Pki, Server};
use pgward_tests::postgres::{Auth, Builder, Cluster};
use tempfile::TempDir;

use crate::Result;
use crate::log::Log;

const SECRET: &str = "swordfish";

struct Scene {
    cluster: Cluster,
    secrets: TempDir,
    tls: String,
}

impl Scene {
    fn new(builder: Builder, tls: &str) -> Result<Self> {
        let cluster = builder.start()?;
        cluster.sql("postgres", "CREATE DATABASE anchors")?;
        cluster.sql("anchors", &anchor_sql(SQL_ROLE))?;
        cluster.sql("anchors", &format!("ALTER ROLE {SQL_ROLE} PASSWORD '{SECRET}'"))?;
        Ok(Self { cluster, secrets: tempfile::tempdir()?, tls: tls.to_owned() })
    }

    fn scram() -> Result<Self> {
        Self::new(Cluster::builder().auth(Auth::Scram), "tls = 'disable'")
    }

    fn anchor(&self) -> Result<Database> {
        self.anchor_with(SECRET)
    }

    fn anchor_with(&self, password: &str) -> Result<Database> {
        use std::os::unix::fs::PermissionsExt as _;
        let secret = self.secrets.path().join("password");
        std::fs::write(&secret, password)?;
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600))?;
        let text = format!(
            "[[intercept]]\nports = [1]\n[tls]\nca_certificate = '/nowhere/a'\nca_key = '/nowhere/b'\n\
             [[destination]]\nname = 'server'\nnetworks = ['127.0.0.1']\n[destination.server]\n{}\n\
             [[audit.anchor]]\nname = 'a'\nkind = 'database'\ndestination = 'server'\n\
             address = '127.0.0.1:{}'\ndatabase = 'anchors'\nuser = '{SQL_ROLE}'\n\
             password_file = '{}'\n",
            self.tls,
            self.cluster.port(),
            secret.display()
        );
        let config = Config::parse("test.toml", &text)?;
        let destinations = Destinations::load(&config)?;
        let pgward::config::AnchorPlace::Database(settings) = &config.audit.anchors[0].place else {
            anyhow::bail!("another place");
        };
        Ok(Database::new(settings, &destinations, None)?)
    }

    fn rows(&self) -> Result<String> {
        let query = "SELECT origin, size, encode(root, 'hex'), inserted_by FROM pgward.checkpoint \
                     ORDER BY origin, size";
        self.cluster.sql("anchors", query)
    }

    /// What the agent's role may do.
    fn as_agent(&self, text: &str) -> Result<String> {
        self.cluster.sql("anchors", &format!("SET SESSION AUTHORIZATION {SQL_ROLE}; {text}"))
    }
}

fn alarm(result: std::result::Result<(), CopyError>) -> Result<Alarm> {
    match result {
        Err(CopyError::Alarm(alarm)) => Ok(alarm),
        other => anyhow::bail!("no alarm: {other:?}"),
    }
}

#[test]
fn checkpoints_become_rows_and_the_same_again_is_fine() -> Result {
    let (scene, log) = (Scene::scram()?, Log::new(100, 0, 0));
    let mut anchor = scene.anchor()?;
    for size in [5, 80, 80] {
        anchor.copy(&log.at(size)?)?;
    }
    scene.anchor()?.copy(&log.at(80)?)?;
    let hex = |size| log.root(size).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let (origin, five, eighty) = (log.origin(), hex(5), hex(80));
    assert_eq!(
        scene.rows()?.trim_end(),
        format!("{origin}|5|{five}|{SQL_ROLE}\n{origin}|80|{eighty}|{SQL_ROLE}")
    );
    Ok(())
}

#[test]
fn another_root_for_the_same_size_is_a_fork() -> Result {
    let (scene, log) = (Scene::scram()?, Log::new(100, 0, 0));
    scene.anchor()?.copy(&log.at(50)?)?;
    let forged = Log::new(100, 10, 1);
    let expected = Alarm::Fork {
        origin: log.origin(),
        size: 50,
        ours: forged.root(50),
        theirs: Some(log.root(50)),
    };
    let before = scene.rows()?;
    assert_eq!(alarm(scene.anchor()?.copy(&forged.at(50)?))?, expected);
    assert_eq!(scene.rows()?, before);
    Ok(())
}

#[test]
fn a_row_of_another_role_is_a_fork_too() -> Result {
    let (scene, log) = (Scene::scram()?, Log::new(100, 0, 0));
    scene.cluster.sql(
        "anchors",
        &format!(
            "INSERT INTO pgward.checkpoint (origin, size, root, note) \
             VALUES ('{}', 50, decode(repeat('00', 32), 'hex'), '')",
            log.origin()
        ),
    )?;
    let raised = alarm(scene.anchor()?.copy(&log.at(50)?))?;
    assert!(matches!(raised, Alarm::Fork { size: 50, theirs: None, .. }), "{raised:?}");
    Ok(())
}

#[test]
fn a_larger_size_than_ours_raises_an_alarm() -> Result {
    let (scene, log) = (Scene::scram()?, Log::new(100, 0, 0));
    // As texts they would be the other way round.
    scene.anchor()?.copy(&log.at(100)?)?;
    let raised = alarm(scene.anchor()?.copy(&log.at(60)?))?;
    assert_eq!(raised, Alarm::Ahead { origin: log.origin(), ours: 60, theirs: 100 });
    assert!(scene.rows()?.contains("|60|"), "what we have is evidence all the same");
    scene.anchor()?.copy(&log.in_epoch(2).at(60)?)?;
    Ok(())
}

#[test]
fn at_start_the_newest_of_each_epoch_is_told() -> Result {
    let (scene, log) = (Scene::scram()?, Log::new(100, 0, 0));
    let mut anchor = scene.anchor()?;
    assert_eq!(anchor.newest_known(&log.question(1)?)?, []);
    for checkpoint in [log.at(9)?, log.at(10)?, log.in_epoch(12).at(3)?] {
        anchor.copy(&checkpoint)?;
    }
    // Names that begin as ours does, and are another host's.
    let other = "INSERT INTO pgward.checkpoint (origin, size, root, note) \
                 SELECT origin || 'x', size + 100, root, note FROM pgward.checkpoint";
    scene.as_agent(other)?;
    let known = scene.anchor()?.newest_known(&log.question(1)?)?;
    assert_eq!(known, [Known::from(log.at(10)?), Known::from(log.in_epoch(12).at(3)?)]);
    Ok(())
}

#[test]
fn rows_can_be_added_and_nothing_else() -> Result {
    let (scene, log) = (Scene::scram()?, Log::new(100, 0, 0));
    scene.anchor()?.copy(&log.at(50)?)?;
    let before = scene.rows()?;
    for text in [
        "UPDATE pgward.checkpoint SET size = 1",
        "DELETE FROM pgward.checkpoint",
        "TRUNCATE pgward.checkpoint",
        "DROP TABLE pgward.checkpoint",
        "ALTER TABLE pgward.checkpoint DISABLE TRIGGER ALL",
        "ALTER TABLE pgward.checkpoint DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE pgward.other ()",
        "INSERT INTO pgward.checkpoint (origin, size, root, note, inserted_at) \
         VALUES ('o', 1, decode(repeat('00', 32), 'hex'), '', '2000-01-01')",
        "INSERT INTO pgward.checkpoint (origin, size, root, note, inserted_by) \
         VALUES ('o', 1, decode(repeat('00', 32), 'hex'), '', 'postgres')",
        "INSERT INTO pgward.checkpoint (origin, size, root, note) VALUES ('o', 1, '', '')",
        "INSERT INTO pgward.checkpoint (origin, size, root, note) \
         VALUES ('o', -1, decode(repeat('00', 32), 'hex'), '')",
        "INSERT INTO pgward.checkpoint (origin, size, root, note) \
         VALUES ('o', 1, decode(repeat('00', 32), 'hex'), repeat('x', 16385))",
    ] {
        assert!(scene.as_agent(text).is_err(), "{text}");
    }
    // Nor by mistake of the owner or a superuser.
    for text in ["UPDATE pgward.checkpoint SET size = 1", "DELETE FROM pgward.checkpoint"] {
        let error = scene.cluster.sql("anchors", text).err().context("done")?;
        assert!(format!("{error:#}").contains("never changed or removed"), "{error:#}");
    }
    assert_eq!(scene.rows()?, before);
    // A role of another fleet sees nothing of ours.
    scene.cluster.sql(
        "anchors",
        "CREATE ROLE stranger; GRANT USAGE ON SCHEMA pgward TO stranger; \
                                  GRANT SELECT ON pgward.checkpoint TO stranger",
    )?;
    let seen = scene.cluster.sql(
        "anchors",
        "SET SESSION AUTHORIZATION stranger; SELECT count(*) FROM pgward.checkpoint",
    )?;
    assert_eq!(seen.trim(), "0");
    Ok(())
}

#[test]
fn the_role_may_have_any_name_and_may_be_there() -> Result {
    let cluster = Cluster::start()?;
    let role = "It's \"the\" role";
    cluster.sql("postgres", "CREATE ROLE \"It's \"\"the\"\" role\"")?;
    cluster.sql("postgres", &anchor_sql(role))?;
    let granted = "SELECT string_agg(DISTINCT grantee, ',') FROM information_schema.column_privileges \
                   WHERE table_schema = 'pgward' AND grantee <> 'pgward_anchor_owner'";
    assert_eq!(cluster.sql("postgres", granted)?.trim(), role);
    // Another database of the same server, where both roles are there.
    cluster.sql("postgres", "CREATE DATABASE other")?;
    cluster.sql("other", &anchor_sql(role))?;
    Ok(())
}

#[test]
fn what_keeps_a_server_from_taking_it_is_named() -> Result {
    let (scene, log) = (Scene::scram()?, Log::new(100, 0, 0));
    let failed = |anchor: Result<Database>| -> Result<String> {
        let error = anchor?.copy(&log.at(5)?).err().context("copied")?;
        Ok(format!("{:#}", anyhow::Error::new(error)))
    };
    let address = format!("127.0.0.1:{}", scene.cluster.port());
    assert_eq!(
        failed(scene.anchor_with("wrong"))?,
        format!("{address}: the server refused: SQLSTATE 28P01")
    );
    scene
        .cluster
        .sql("anchors", &format!("REVOKE INSERT (note) ON pgward.checkpoint FROM {SQL_ROLE}"))?;
    assert_eq!(failed(scene.anchor())?, format!("{address}: the server refused: SQLSTATE 42501"));
    let gone = scene.anchor()?;
    drop(scene);
    assert!(failed(Ok(gone))?.starts_with(&format!("no connection to {address}")));
    Ok(())
}

#[test]
fn a_server_that_does_not_answer_is_given_up() -> Result {
    let (scene, log) = (Scene::scram()?, Log::new(100, 0, 0));
    let mut anchor = scene.anchor()?.with_limit(Duration::from_millis(500));
    scene.anchor()?.copy(&log.at(5)?)?;
    // A lock that no insert gets past.
    let mut holder = scene.cluster.client("psql", "127.0.0.1");
    holder.args(["-X", "-q", "-d", "anchors"]).stdin(std::process::Stdio::piped());
    holder.stdout(std::process::Stdio::piped());
    let mut holder = holder.spawn()?;
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut orders = holder.stdin.take().context("piped")?;
    writeln!(
        orders,
        "BEGIN; LOCK TABLE pgward.checkpoint IN ACCESS EXCLUSIVE MODE;\n\\echo locked"
    )?;
    let mut told = String::new();
    BufReader::new(holder.stdout.take().context("piped")?).read_line(&mut told)?;
    assert_eq!(told, "locked\n");
    let error = anchor.copy(&log.at(6)?).err().context("copied")?;
    drop(orders);
    holder.wait()?;
    assert!(error.to_string().starts_with("no answer from 127.0.0.1"), "{error}");
    scene.anchor()?.copy(&log.at(6)?)?;
    Ok(())
}

#[test]
fn the_server_is_verified_as_its_destination_says() -> Result {
    let pki = Pki::new(&[])?;
    let files = pki.server(Server::Good);
    let builder = || Cluster::builder().auth(Auth::Scram).tls(&files, &pki.roots());
    let log = Log::new(100, 0, 0);
    let tls = |name: &str| {
        format!("tls = 'verify-full'\nname = '{name}'\nroots = '{}'", pki.roots().display())
    };
    let mut scene = Scene::new(builder(), &tls(HOST))?;
    scene.anchor()?.copy(&log.at(5)?)?;
    scene.tls = tls("elsewhere.example");
    let error = scene.anchor()?.copy(&log.at(6)?).err().context("copied")?;
    assert!(error.to_string().starts_with("no connection"), "{error}");
    Ok(())
}
