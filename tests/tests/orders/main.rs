//! What people order a live agent to do: cancel statements, end sessions, grant roles for a while; and what `pgward sessions`
//! tells them to choose by.

mod grants;
mod kill;
mod sessions;

use std::io::Write;

use anyhow::{Context, ensure};
use pgward_tests::agent::Agent;
use pgward_tests::host;
use pgward_tests::needs_kernel as gate;
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::Scene;
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire::{self, Frame};
use serde_json::Value;

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;

/// A session of a process that is intercepted, driven by the test.
type Client = wire::Session<Visitor>;

/// How a command of the binary ended.
#[derive(Debug)]
struct Told {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Told {
    /// What it said as JSON, whatever it found.
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("{self:?}"))
    }
}

/// Runs `pgward <arguments>` for this agent, to its end.
fn pgward(agent: &Agent, arguments: &[&str]) -> Result<Told> {
    told(&mut agent.command(arguments)?)
}

fn told(command: &mut std::process::Command) -> Result<Told> {
    let output = host::output(command)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Told { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
}

/// A server that trusts everyone, and an agent in front of it.
struct Stage {
    scene: Scene,
    cluster: Cluster,
}

impl Stage {
    fn new(label: &str) -> Result<Self> {
        Self::with(label, |builder| builder)
    }

    fn with(
        label: &str,
        set: impl FnOnce(pgward_tests::agent::Builder) -> pgward_tests::agent::Builder,
    ) -> Result<Self> {
        let cluster = Cluster::start()?;
        let builder = set(Agent::builder().intercept(cluster.port()));
        Ok(Self { scene: Scene::with(label, builder)?, cluster })
    }

    fn agent(&self) -> &Agent {
        &self.scene.agent
    }

    fn pgward(&self, arguments: &[&str]) -> Result<Told> {
        pgward(&self.scene.agent, arguments)
    }

    /// A session of a role, by a process of its own.
    fn client_as(&self, role: &str) -> Result<Client> {
        let address = ([127, 0, 0, 1], self.cluster.port()).into();
        let mut visitor = Visitor::connect(address, Some(&self.scene.cgroup))?;
        visitor.write_all(&wire::startup(&[("user", role), ("database", "postgres")]))?;
        Client::finish_start(visitor)
    }

    fn client(&self) -> Result<Client> {
        self.client_as("postgres")
    }

    /// A session that sleeps for a minute.
    fn sleeper(&self) -> Result<Client> {
        let mut client = self.client()?;
        self.sleep(&mut client)?;
        Ok(client)
    }

    fn sleep(&self, client: &mut Client) -> Result {
        client.stream.write_all(&wire::query("select pg_sleep(60)"))?;
        let backend = client.backend;
        wait::until_true("the sleep", PATIENCE, || self.sleeps(backend))
    }

    fn sleeps(&self, backend: u32) -> Result<bool> {
        let sql = format!(
            "select count(*) from pg_stat_activity where pid = {backend} and wait_event = 'PgSleep'"
        );
        Ok(self.cluster.sql("postgres", &sql)?.trim() == "1")
    }

    /// All sessions, as JSON.
    fn sessions(&self) -> Result<Vec<Value>> {
        let told = self.pgward(&["sessions", "--json"])?;
        Ok(told.json()?.as_array().cloned().unwrap_or_default())
    }

    /// The session of a client, once it is in a state, by what the trail says of the server's process.
    fn session(&self, client: &Client, state: &str) -> Result<Value> {
        let id = self.id(client)?;
        wait::until(&format!("session `{id}` {state}"), PATIENCE, || {
            let found = self.sessions()?.into_iter().find(|session| session["id"] == id);
            Ok(found.filter(|session| session["state"] == state))
        })
    }

    /// The id of a client's session.
    fn id(&self, client: &Client) -> Result<Value> {
        let login = self.agent().wait_for(
            |record| {
                record["event"] == "session_start"
                    && record["backend_pid"] == u64::from(client.backend)
            },
            PATIENCE,
        )?;
        Ok(login["session"].clone())
    }

    /// The records of `pgward kill`, in order.
    fn kills(&self) -> Result<Vec<Value>> {
        let records = self.agent().records()?;
        Ok(records.into_iter().filter(|record| record["event"] == "kill").collect())
    }

    /// How a session ended.
    fn end_of(&self, id: &Value) -> Result<Value> {
        self.agent().wait_for(
            |record| record["event"] == "session_end" && record["session"] == *id,
            PATIENCE,
        )
    }

    /// Ends the agent, and has the whole trail verified.
    fn verify(mut self) -> Result {
        self.scene.agent.stop()?;
        let told = self.pgward(&["audit", "verify"])?;
        ensure!(told.code == Some(0) || told.code == Some(2), "{told:?}");
        ensure!(told.out.contains(" 0 findings of tampering"), "{told:?}");
        ensure!(!told.out.contains("does not know"), "{told:?}");
        self.scene.agent.start_process(None)
    }
}

/// All messages up to the close: the last is a `FATAL` error, of which SQLSTATE and detail are given.
fn last_words(client: &mut Client) -> Result<(String, String)> {
    let mut last: Option<Frame> = None;
    // A reset behind the message would take it away on a real network: not accepted.
    while let Some(frame) = wire::read_frame(&mut client.stream)? {
        last = Some(frame);
    }
    let last = last.context("closed without a word")?;
    ensure!(last.tag == b'E', "the last message is `{}`", char::from(last.tag));
    let field = |name| wire::error_field(&last.body, name);
    ensure!(field(b'V') == "FATAL", "{}", field(b'V'));
    ensure!(
        field(b'M') == "terminating connection due to administrator command",
        "{}",
        field(b'M')
    );
    Ok((field(b'C'), field(b'D')))
}
