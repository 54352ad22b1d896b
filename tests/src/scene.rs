//! Everything a kernel test starts from: a cgroup, its pins, an agent on it, and the test client.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::agent::{Agent, Builder};
use crate::bpffs::BpfFs;
use crate::cgroup::Cgroup;
use crate::host;
use crate::wait::PATIENCE;

/// An agent on a cgroup of its own. Dropped in this order: agent (with its proof), pins, cgroup.
#[derive(Debug)]
pub struct Scene {
    /// The agent.
    pub agent: Agent,
    /// Its pins.
    pub bpffs: BpfFs,
    /// The cgroup it watches. Clients go here too.
    pub cgroup: Cgroup,
}

impl Scene {
    /// An agent that intercepts one port.
    pub fn new(label: &str, port: u16) -> Result<Self> {
        Self::with(label, Agent::builder().intercept(port))
    }

    /// An agent with other options.
    pub fn with(label: &str, builder: Builder) -> Result<Self> {
        let cgroup = Cgroup::new(label)?;
        let bpffs = BpfFs::new()?;
        let agent = builder.start(&cgroup, &bpffs)?;
        Ok(Self { agent, bpffs, cgroup })
    }

    /// Runs any command inside the cgroup, to its end, whatever its status.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        self.cgroup.enter(command)?;
        host::output(command)
    }

    /// Runs any command inside the cgroup; its standard output.
    pub fn run(&self, command: &mut Command) -> Result<String> {
        self.cgroup.enter(command)?;
        host::run(command).with_context(|| self.agent.story())
    }

    /// Runs a scenario of the test client inside the cgroup and returns what it reports.
    pub fn client(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = client(arguments)?;
        self.cgroup.enter(&mut command)?;
        report(&mut command).with_context(|| self.agent.story())
    }

    /// Tiers of attribution that the agent said it has, such as `T0`.
    pub fn tiers(&self) -> Result<Vec<String>> {
        let start = self.agent.wait_for(|record| record["event"] == "agent_start", PATIENCE)?;
        let tiers = start["tiers"].as_array().context("tiers in agent_start")?;
        Ok(tiers.iter().filter_map(|tier| tier.as_str().map(str::to_owned)).collect())
    }

    /// The statement record whose text contains `mark`, with the start record of its session.
    pub fn statement(&self, mark: &str) -> Result<(Value, Value)> {
        self.agent
            .wait_for_all(PATIENCE, |records| {
                let statement = find_statement(records, mark)?;
                let session = &statement["session"];
                let start = records
                    .iter()
                    .find(|r| r["event"] == "session_start" && &r["session"] == session)?;
                Some((statement.clone(), start.clone()))
            })
            .with_context(|| format!("statement with `{mark}`"))
    }
}

/// A word that occurs in no other test's records.
pub fn mark(label: &str) -> String {
    format!("{label}-{:012x}", host::random() & 0xffff_ffff_ffff)
}

/// An address of a record or report, with IPv4-mapped addresses as IPv4: both name the same end.
pub fn canonical(address: &Value) -> Result<SocketAddr> {
    let text = address.as_str().with_context(|| format!("no address: {address}"))?;
    let address: SocketAddr = text.parse().with_context(|| format!("address `{text}`"))?;
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// The statement record whose text contains `mark`.
pub fn find_statement<'r>(records: &'r [Value], mark: &str) -> Option<&'r Value> {
    records.iter().find(|record| {
        record["event"] == "statement"
            && record["text"].as_str().is_some_and(|text| text.contains(mark))
    })
}

/// Path of the test client.
pub fn client_binary() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let folder = executable.parent().context("an executable has a folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.join("pgward-test-client"))
}

/// The test client with these arguments, not started.
pub fn client(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(client_binary()?);
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// Runs the test client and reads its report, one JSON value on standard output.
pub fn report(command: &mut Command) -> Result<Value> {
    let output = host::output(command)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{command:?}: {}\n{stderr}", output.status);
    }
    serde_json::from_str(&stdout).with_context(|| format!("{command:?} wrote `{stdout}` {stderr}"))
}
