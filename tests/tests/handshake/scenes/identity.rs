//! Who is who: the stamp in `application_name`, and the writers of statements over TLS.

use anyhow::Context;
use pgward_tests::agent::Builder;
use pgward_tests::container::Container;
use pgward_tests::pki::{self, Pki};
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::{Scene, mark};
use serde_json::{Value, json};

use super::{agent, destination, quoted, report, server};
use crate::{Result, gate, here};

const LAST: u8 = 11;
/// Longest `application_name` of a server, in bytes.
const NAME_BYTES_MAX: usize = 63;

struct Stage {
    scene: Scene,
    cluster: Cluster,
    pki: Pki,
}

impl Stage {
    fn new() -> Result<Self> {
        Self::with(|builder| builder)
    }

    fn with(settings: impl FnOnce(Builder) -> Builder) -> Result<Self> {
        let pki = Pki::new(&[])?;
        let cluster = server(&pki, "hostssl all all all trust\n")
            .setting("log_statement", "all")
            .setting("log_line_prefix", "%p <%a> ")
            .start()?;
        let text = destination(&pki, LAST)
            .replace("[destination.server]", "stamp_application_name = true\n[destination.server]");
        let text = format!("{text}[destination.auth]\nrequire = \"any\"\n");
        let builder = agent(&pki, cluster.port()).destination(&text);
        let scene = Scene::with("identity", settings(builder))?;
        Ok(Self { scene, cluster, pki })
    }

    fn conninfo(&self, settings: &str) -> String {
        format!(
            "host={} hostaddr=127.0.0.{LAST} port={} user=postgres dbname=postgres \
             gssencmode=disable connect_timeout=20 sslmode=verify-full sslrootcert={} {settings}",
            pki::HOST,
            self.cluster.port(),
            self.pki.all_roots().display()
        )
    }
}

/// Name of the program of a record's actor.
fn program(actor: &Value) -> Result<&str> {
    let exe = actor["exe"].as_str().context("exe")?;
    exe.rsplit('/').next().context("a name")
}

#[test]
fn the_server_sees_program_and_process_and_the_client_its_own_name() -> Result {
    gate!();
    let stage = Stage::new()?;
    let long = "n".repeat(NAME_BYTES_MAX);
    for (given, own) in [("", ""), ("application_name=billing", "billing"), ("", &*long)] {
        let given = if own == long { format!("application_name={long}") } else { given.to_owned() };
        let mark = mark("stamp");
        let told = json!({ "conninfo": stage.conninfo(&given), "mark": mark, "fork": false });
        let told = report(here!(), "identity.py", &told, Some(&stage.scene.cgroup))?;
        let Some(told) = told else { return Ok(()) };
        let (_, start) = stage.scene.statement(&mark)?;
        let actor = &start["actor"];
        assert_eq!(actor["pid"], told["pid"], "{start}");
        let stamp = format!("[{}/{}]", program(actor)?, told["pid"]);
        let room = NAME_BYTES_MAX - stamp.len() - 1;
        let expected = match &own[..own.len().min(room)] {
            "" => stamp,
            name => format!("{name} {stamp}"),
        };
        assert!(expected.len() <= NAME_BYTES_MAX && (own != long || expected.len() == 63));
        assert_eq!(told["server"], *expected, "{told}");
        assert_eq!(told["told"], own, "{told}");
        assert_eq!(start["application_name"].as_str().unwrap_or_default(), own, "{start}");
        // The same words in the server's log.
        let prefix = format!("{} <{expected}> ", start["backend_pid"]);
        let log = stage.cluster.log();
        let line = log.lines().find(|line| line.contains(&mark)).context("a line of the log")?;
        assert!(line.starts_with(&prefix), "{line}");
    }
    stage.scene.agent.finish()
}

#[test]
fn the_server_sees_the_container() -> Result {
    gate!(with "crun");
    let roots = tempfile::tempdir()?;
    let known = format!("[{}]", quoted(roots.path()));
    let stage = Stage::with(|builder| builder.set("attribution", "container_state_roots", &known))?;
    let mark = mark("stamp");
    let container = Container::builder("shop").state_root(roots.path());
    let id = container.id().to_owned();
    let conninfo = format!(
        "host=127.0.0.{LAST} port={} user=postgres sslmode=disable application_name=till",
        stage.cluster.port()
    );
    let sql = format!(
        "select application_name from pg_stat_activity where pid = pg_backend_pid() -- {mark}"
    );
    let psql = stage.cluster.programs().join("psql");
    let psql = psql.to_str().context("a path")?;
    let mut container = container.run(&stage.scene.cgroup, &[psql, &conninfo, "-XAtc", &sql])?;
    let output = container.wait()?;
    let error = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    let (_, start) = stage.scene.statement(&mark).with_context(|| error.into_owned())?;
    assert_eq!(start["actor"]["container"]["id"], *id, "{start}");
    let id: String = id.chars().take(20).collect();
    assert_eq!(told.trim(), format!("till [psql/{}@{id}]", start["actor"]["pid"]));
    stage.scene.agent.finish()
}

#[test]
fn a_statement_over_tls_is_its_writers() -> Result {
    gate!();
    let stage = Stage::new()?;
    let mark = mark("writer");
    let told = json!({ "conninfo": stage.conninfo(""), "mark": mark, "fork": true });
    let told = report(here!(), "identity.py", &told, Some(&stage.scene.cgroup))?;
    let Some(told) = told else { return Ok(()) };
    let (own, start) = stage.scene.statement(&format!("{mark}-parent"))?;
    let (inherited, _) = stage.scene.statement(&format!("{mark}-child"))?;
    assert!(start["client_tls"].is_string(), "{start}");
    assert_eq!(start["actor"]["pid"], told["parent"], "{start}");
    let tiers = stage.scene.tiers()?;
    if tiers.iter().any(|tier| tier == "T2") {
        assert_eq!(start["confidence"], "exact", "{start}");
        assert_eq!((&own["writer"]["pid"], &own["tier"]), (&told["parent"], &json!("T2")), "{own}");
        assert_eq!(inherited["writer"]["pid"], told["child"], "{inherited}");
        assert_eq!(inherited["tier"], "T2", "{inherited}");
        for record in [&own, &inherited] {
            assert!(record.get("shared_with").is_none(), "{record}");
        }
    } else {
        assert_eq!(start["confidence"], "opener or later writer", "{tiers:?}: {start}");
    }
    stage.scene.agent.finish()
}
