//! Verifiers from the server itself: `[destination.auth.lookup]`.

use std::process::Stdio;

use anyhow::{Context, ensure};
use pgward_tests::host;
use pgward_tests::pki::Pki;
use pgward_tests::postgres::{Cluster, Version};
use pgward_tests::scene::{Scene, mark};
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire::Session;

use super::{address, agent, destination, log_in, psql, quoted, refusal, server};
use crate::{Result, gate};

/// The function and its role, as the documentation has it.
const DOCUMENTATION: &str = include_str!("../../../../docs/handshake.md");
/// What the agent calls itself in such a connection.
const APPLICATION_NAME: &str = "application_name=pgward verifier lookup";
/// A lock that a lookup waits for.
const LOCK: u32 = 4711;
/// First logins at the same time.
const CROWD: usize = 20;

/// Last number of the address where verifiers come from the documented function.
const FUNCTION: u8 = 11;
/// From `pg_authid`, by the default query of a superuser.
const DEFAULT: u8 = 12;
/// The role's password is wrong.
const WRONG: u8 = 13;
/// The query names no schema.
const UNQUALIFIED: u8 = 14;
/// The query waits for [`LOCK`].
const LOCKED: u8 = 15;

/// A server, an agent with a destination for each of the numbers above, and a password.
struct Stage {
    // Before the folder of its keys.
    scene: Scene,
    cluster: Cluster,
    password: String,
    _pki: Pki,
}

impl Stage {
    fn new(version: Version) -> Result<Self> {
        let pki = Pki::new(&[])?;
        let password = mark("password");
        let hba = "host all postgres 127.0.0.1/32 trust\nhostssl all all all scram-sha-256\n";
        let cluster = server(&pki, hba)
            .version(version)
            .setting("log_connections", "on")
            .setting("log_line_prefix", "%q%u ")
            .start()?;
        cluster.sql("postgres", &documented()?)?;
        let roles = format!(
            "alter role pgward_lookup password '{password}';
             create role everything superuser login password '{password}';
             create role app login password '{password}' in role pgward_clients;
             create role app_2 login password '{password}' in role pgward_clients;
             create role asleep nologin password '{password}' in role pgward_clients;
             create role expired login password '{password}' valid until '2020-01-01'
                 in role pgward_clients;
             create role without login in role pgward_clients;"
        );
        cluster.sql("postgres", &roles)?;

        let right = pki.write_secret("lookup", &password)?;
        let other = mark("password");
        let wrong = pki.write_secret("wrong-lookup", &other)?;
        let locked = format!(
            "SELECT pg_catalog.pg_advisory_xact_lock_shared({LOCK}), rolpassword \
             FROM pg_catalog.pg_authid WHERE rolname = $1"
        );
        let lookups = [
            (FUNCTION, "pgward_lookup", &right, Some("SELECT pgward.verifier($1)")),
            (DEFAULT, "everything", &right, None),
            (WRONG, "everything", &wrong, None),
            (
                UNQUALIFIED,
                "everything",
                &right,
                Some("SELECT rolpassword FROM pg_authid WHERE rolname = $1"),
            ),
            (LOCKED, "everything", &right, Some(locked.as_str())),
        ];
        let mut builder = agent(&pki, cluster.port()).set("auth", "failures_max", "100");
        for (last, login, file, query) in lookups {
            let mut text = destination(&pki, last);
            text.push_str("[destination.auth]\nmode = \"terminate\"\n[destination.auth.lookup]\n");
            text.push_str(&format!("login = \"{login}\"\npassword_file = {}\n", quoted(file)));
            if let Some(query) = query {
                text.push_str(&format!("query = {query:?}\n"));
            }
            builder = builder.destination(&text);
        }
        let scene = Scene::with("lookup", builder)?;
        let stage = Self { scene, cluster, password, _pki: pki };
        stage.scene.agent.secrets().add("password of all roles", stage.password.as_bytes());
        stage.scene.agent.secrets().add("wrong password of the lookup", other.as_bytes());
        stage.hide_verifiers()?;
        Ok(stage)
    }

    /// None of the verifiers that the server has now may show.
    fn hide_verifiers(&self) -> Result {
        let sql =
            "select rolname || ' ' || rolpassword from pg_authid where rolpassword is not null";
        for row in self.cluster.sql("postgres", sql)?.lines() {
            let (name, verifier) = row.split_once(' ').context("name and verifier")?;
            self.scene.agent.secrets().add_verifier(name, verifier);
        }
        Ok(())
    }

    fn change_password(&self, role: &str) -> Result<String> {
        let password = mark("changed");
        self.cluster.sql("postgres", &format!("alter role {role} password '{password}'"))?;
        self.scene.agent.secrets().add("a changed password", password.as_bytes());
        self.hide_verifiers()?;
        Ok(password)
    }

    /// By hand: `None` when it is let in.
    fn refused(&self, last: u8, role: &str, password: &str) -> Result<Option<(String, String)>> {
        match log_in(Some(&self.scene), address(last, self.cluster.port()), role, password)? {
            Ok(mut session) => {
                assert_eq!(session.value("select current_user")?, role);
                Ok(None)
            }
            refused => refusal(refused).map(Some),
        }
    }

    /// Connections of lookups so far.
    fn lookups(&self) -> usize {
        let log = self.cluster.log();
        let authorized = log.lines().filter(|line| line.contains("connection authorized"));
        authorized.filter(|line| line.contains(APPLICATION_NAME)).count()
    }
}

/// Statements of the documentation's section on the lookup role.
fn documented() -> Result<String> {
    let from = DOCUMENTATION.find("    CREATE ROLE pgward_lookup").context("where it begins")?;
    let block: Vec<_> =
        DOCUMENTATION[from..].lines().take_while(|line| line.starts_with("    ")).collect();
    ensure!(block.len() > 10, "the block is cut short");
    Ok(block.join("\n"))
}

fn wrong_password(role: &str) -> Option<(String, String)> {
    let text = format!("password authentication failed for user \"{role}\"");
    Some(("28P01".to_owned(), text))
}

#[test]
fn verifiers_are_looked_up_by_function_and_by_default_query() -> Result {
    gate!();
    for version in [Version::Debian, Version::Eighteen] {
        let stage = Stage::new(version)?;
        for (number, last) in [FUNCTION, DEFAULT].into_iter().enumerate() {
            let mark = mark("looked-up");
            let sql = format!("select current_user, '{mark}'");
            let mut psql = psql(&stage.cluster, last, "app", &stage.password, &sql);
            psql.env("PGSSLMODE", "require").env("PGCHANNELBINDING", "require");
            assert_eq!(stage.scene.run(&mut psql)?, format!("app|{mark}\n"));
            let (_, start) = stage.scene.statement(&mark)?;
            assert_eq!(start["handshake"], "terminated", "{start}");
            assert_eq!(start["bound"], serde_json::json!(["client", "server"]), "{start}");
            assert_eq!(start["destination_name"], format!("at-{last}"), "{start}");
            assert_eq!(stage.lookups(), number + 1);
            // What is known is not asked for again.
            assert_eq!(stage.refused(last, "app", &stage.password)?, None);
            assert_eq!(stage.lookups(), number + 1);
        }
        // The documented function leaves superusers out.
        let (role, password) = ("everything", &stage.password);
        assert_eq!(stage.refused(FUNCTION, role, password)?, wrong_password(role));
        assert_eq!(stage.refused(DEFAULT, role, password)?, None);
        stage.scene.agent.finish()?;
    }
    Ok(())
}

#[test]
fn a_changed_password_is_the_next_one_to_log_in() -> Result {
    gate!();
    let stage = Stage::new(Version::Eighteen)?;
    let first = &stage.password;
    assert_eq!(stage.refused(FUNCTION, "app", first)?, None);
    assert_eq!(stage.lookups(), 1);
    // The verifier of the first is known, and no longer the server's.
    let second = stage.change_password("app")?;
    assert_eq!(stage.refused(FUNCTION, "app", &second)?, None);
    assert_eq!(stage.lookups(), 2, "asked again, once");
    assert_eq!(stage.refused(FUNCTION, "app", first)?, wrong_password("app"));
    // The other way round: who comes first after the change has the old one.
    let third = stage.change_password("app")?;
    assert_eq!(stage.refused(FUNCTION, "app", &second)?, wrong_password("app"));
    assert_eq!(stage.refused(FUNCTION, "app", &third)?, None);
    // A wrong password is no reason to ask the server.
    let before = stage.lookups();
    assert_eq!(stage.refused(FUNCTION, "app", "wrong")?, wrong_password("app"));
    assert_eq!(stage.lookups(), before);
    stage.scene.agent.finish()
}

#[test]
fn roles_that_may_not_log_in_look_like_unknown_ones() -> Result {
    gate!();
    let stage = Stage::new(Version::Debian)?;
    for last in [FUNCTION, DEFAULT] {
        // They have the right password, and the server's verifier of it.
        for role in ["asleep", "expired", "without", "nobody_here"] {
            assert_eq!(stage.refused(last, role, &stage.password)?, wrong_password(role), "{last}");
        }
        assert_eq!(stage.refused(last, "app", &stage.password)?, None, "{last}");
        assert_eq!(stage.refused(last, "app", "wrong")?, wrong_password("app"), "{last}");
    }
    stage.scene.agent.finish()
}

#[test]
fn a_lookup_that_fails_is_said_and_recorded() -> Result {
    gate!();
    let stage = Stage::new(Version::Eighteen)?;
    let (sqlstate, text) = stage.refused(WRONG, "app", &stage.password)?.context("a refusal")?;
    assert_eq!((&*sqlstate, &*text), ("28000", "authentication with the server is not possible"));
    let end = stage.scene.agent.wait_for(|r| r["event"] == "session_end", PATIENCE)?;
    assert_eq!(end["reason"], "secret_unavailable", "{end}");
    let detail = end["detail"].as_str().context("detail")?;
    assert!(detail.contains("looked up") && detail.contains("28P01"), "{end}");
    // It is not the application's fault: nobody is refused for it.
    assert_eq!(stage.refused(DEFAULT, "app", &stage.password)?, None);
    stage.scene.agent.finish()
}

#[test]
fn many_first_logins_make_one_lookup() -> Result {
    gate!();
    let stage = Stage::new(Version::Eighteen)?;
    let direct = Visitor::connect(address(1, stage.cluster.port()), None)?;
    let mut holder = Session::start(direct)?;
    holder.simple(&format!("select pg_advisory_lock({LOCK})"))?;
    let mut logins = Vec::new();
    for _ in 0..CROWD {
        let mut psql = psql(&stage.cluster, LOCKED, "app", &stage.password, "select current_user");
        psql.env("PGSSLMODE", "disable").stdin(Stdio::null());
        psql.stdout(Stdio::piped()).stderr(Stdio::piped());
        logins.push(stage.scene.cgroup.spawn_in(psql)?);
    }
    // Each login is at the server before it needs a verifier; the holder and the lookup are there as well.
    wait::until_true("all to come", PATIENCE, || {
        let waits = "select count(*) from pg_stat_activity where wait_event = 'advisory'";
        let came = stage.cluster.log().matches("connection received: host=127").count();
        Ok(came >= CROWD + 2 && stage.cluster.sql("postgres", waits)?.trim() != "0")
    })?;
    holder.simple(&format!("select pg_advisory_unlock({LOCK})"))?;
    for login in logins {
        let output = login.wait_with_output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "app\n", "{error}");
    }
    assert_eq!(stage.lookups(), 1);
    // Each role is a question of its own.
    let mut other = psql(&stage.cluster, LOCKED, "app_2", &stage.password, "select 1");
    stage.scene.run(&mut other)?;
    assert_eq!(stage.lookups(), 2);
    stage.scene.agent.finish()
}

#[test]
fn startup_parameters_of_clients_never_reach_the_lookup() -> Result {
    gate!();
    let stage = Stage::new(Version::Debian)?;
    let planted = mark("planted");
    let sql = format!(
        "create role planted password '{planted}';
         create schema evil; grant usage on schema evil to public;
         create table evil.pg_authid as select 'app'::name as rolname, rolpassword
             from pg_catalog.pg_authid where rolname = 'planted';
         grant select on evil.pg_authid to public;"
    );
    stage.cluster.sql("postgres", &sql)?;
    let evil = "-c search_path=evil,pg_catalog";
    // The query would find the planted table with this path, as the application does.
    let sql = "set search_path = evil, pg_catalog; select rolname from pg_authid";
    assert_eq!(stage.cluster.sql("postgres", sql)?.trim(), "app");
    let with_path = |password: &str| -> Result<std::process::Output> {
        let sql = "select count(*) from pg_authid";
        let mut psql = psql(&stage.cluster, UNQUALIFIED, "app", password, sql);
        psql.env("PGOPTIONS", evil);
        stage.scene.cgroup.enter(&mut psql)?;
        host::output(&mut psql)
    };
    let output = with_path(&planted)?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("password authentication failed for user \"app\""), "{error}");
    let output = with_path(&stage.password)?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "its own: {error}");
    stage.scene.agent.finish()
}
