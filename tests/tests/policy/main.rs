//! The policy as clients, people and the trail meet it: a real agent that enforces one in front of a real server.

mod denial;
mod grants;
mod limits;
mod records;
mod reload;
mod startup;
mod who;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use pgward_tests::agent::{Agent, Builder};
use pgward_tests::host;
use pgward_tests::needs_kernel as gate;
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::Scene;
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire::{self, Frame};
use serde_json::Value;
use tempfile::TempDir;

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;

/// A session of a process that is intercepted, driven by the test.
type Client = wire::Session<Visitor>;

/// `cards` is what policies deny, `notes` what they do not.
const SCHEMA: &str = "create table cards (n int, owner text); insert into cards values (7, 'ann'); \
    create table notes (n int)";

/// Nobody has anything of `cards`.
const NO_CARDS: &str = r#"
[[role]]
name = "all"
hint = "ask somebody"

[[role.deny]]
name = "no-cards"
actions = ["all"]
relations = ["public.cards"]
hint = "cards are for billing"

[[assign]]
give = ["all"]
everyone = true
"#;

/// A server that trusts everyone, and an agent in front of it that has a policy.
struct Stage {
    scene: Scene,
    cluster: Cluster,
    folder: TempDir,
}

/// An error or notice, by its fields.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    severity: String,
    sqlstate: String,
    message: String,
    detail: String,
    hint: String,
}

impl Said {
    fn by(frame: &Frame) -> Self {
        let field = |name| wire::error_field(&frame.body, name);
        Self {
            severity: field(b'V'),
            sqlstate: field(b'C'),
            message: field(b'M'),
            detail: field(b'D'),
            hint: field(b'H'),
        }
    }
}

impl Stage {
    fn new(label: &str, policy: &str) -> Result<Self> {
        Self::with(label, policy, |builder| builder)
    }

    fn with(label: &str, policy: &str, set: impl FnOnce(Builder) -> Builder) -> Result<Self> {
        let cluster = Cluster::start()?;
        cluster.sql("postgres", SCHEMA)?;
        let folder = tempfile::Builder::new().prefix("pgward-policy-").tempdir()?;
        let file = folder.path().join("policy.toml");
        fs::write(&file, policy)?;
        let builder = Agent::builder().intercept(cluster.port());
        let builder = builder.set("policy", "file", &format!("{:?}", file.display().to_string()));
        Ok(Self { scene: Scene::with(label, set(builder))?, cluster, folder })
    }

    fn agent(&self) -> &Agent {
        &self.scene.agent
    }

    /// The policy's file.
    fn file(&self) -> PathBuf {
        self.folder.path().join("policy.toml")
    }

    /// Puts another policy in the place of the file, as a whole.
    fn write(&self, policy: &str) -> Result {
        let new = self.folder.path().join("new.toml");
        fs::write(&new, policy)?;
        Ok(fs::rename(new, self.file())?)
    }

    fn start(&self, parameters: &[(&str, &str)]) -> Result<Visitor> {
        let address = ([127, 0, 0, 1], self.cluster.port()).into();
        let mut visitor = Visitor::connect(address, Some(&self.scene.cgroup))?;
        std::io::Write::write_all(&mut visitor, &wire::startup(parameters))?;
        Ok(visitor)
    }

    /// A session, by a process of its own.
    fn client(&self) -> Result<Client> {
        Client::finish_start(self.start(&[("user", "postgres"), ("database", "postgres")])?)
    }

    /// The id of a client's session.
    fn id(&self, client: &Client) -> Result<String> {
        let backend = u64::from(client.backend);
        let start = self.agent().wait_for(
            |record| record["event"] == "session_start" && record["backend_pid"] == backend,
            PATIENCE,
        )?;
        Ok(start["session"].as_str().context("an id")?.to_owned())
    }

    /// Records of a kind so far.
    fn records(&self, event: &str) -> Result<Vec<Value>> {
        let records = self.agent().records()?;
        Ok(records.into_iter().filter(|record| record["event"] == event).collect())
    }

    /// Waits until what clients send is refused with this SQLSTATE; empty: until it is not refused.
    fn wait_until_said(&self, sql: &str, sqlstate: &str) -> Result {
        let mut client = self.client()?;
        wait::until_true(&format!("`{sqlstate}` for `{sql}`"), PATIENCE, || {
            let frames = client.simple(sql)?;
            Ok(frames.iter().find(|frame| frame.tag == b'E').map_or(sqlstate.is_empty(), |error| {
                wire::error_field(&error.body, b'C') == sqlstate
            }))
        })
    }

    fn count(&self, table: &str) -> Result<String> {
        Ok(self.cluster.sql("postgres", &format!("select count(*) from {table}"))?.trim().into())
    }

    /// Runs `pgward <arguments>`, which must succeed; what it says.
    fn pgward(&self, arguments: &[&str]) -> Result<String> {
        host::run(&mut self.agent().command(arguments)?)
    }

    /// Ends the agent, and has the whole trail verified.
    fn verify(mut self) -> Result {
        self.scene.agent.stop()?;
        let output = host::output(&mut self.agent().command(&["audit", "verify"])?)?;
        let told = String::from_utf8_lossy(&output.stdout);
        ensure!(matches!(output.status.code(), Some(0 | 2)), "{told}");
        ensure!(told.contains(" 0 findings of tampering"), "{told}");
        ensure!(!told.contains("does not know"), "{told}");
        self.scene.agent.start_process(None)
    }
}

/// The only error or notice (`tag`) among these messages.
fn said(frames: &[Frame], tag: u8) -> Result<Said> {
    let mut found = frames.iter().filter(|frame| frame.tag == tag);
    let only = found.next().with_context(|| format!("none in {}", wire::outline(frames)))?;
    ensure!(found.next().is_none(), "more than one in {}", wire::outline(frames));
    Ok(Said::by(only))
}

/// Sends messages and reads up to `ReadyForQuery`.
fn exchange(client: &mut Client, messages: &[Vec<u8>]) -> Result<Vec<Frame>> {
    std::io::Write::write_all(&mut client.stream, &messages.concat())?;
    wire::read_until_ready(&mut client.stream)
}

/// All messages up to the close.
fn to_the_end(client: &mut Client) -> Result<Vec<Frame>> {
    let mut frames = Vec::new();
    while let Some(frame) = wire::read_frame(&mut client.stream)? {
        frames.push(frame);
    }
    Ok(frames)
}

/// SHA-256 of a policy, as records tell it.
fn digest(policy: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(policy).iter().map(|byte| format!("{byte:02x}")).collect()
}
