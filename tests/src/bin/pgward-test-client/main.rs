//! A PostgreSQL client made of system calls, for tests: each scenario opens or uses a connection in one particular way and
//! reports what it saw as one JSON value on standard output.
//!
//! `pgward-test-client SCENARIO ADDRESS:PORT [KEY=VALUE]...`; see `SCENARIOS`.

mod connect;
mod crowd;
mod ends;
mod hand_over;
mod probes;
mod probes_startup;
mod raw;
mod sockets;
mod sqlx_login;
mod tokio_client;
mod tokio_login;
mod uring;
mod writers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Arguments of a scenario.
#[derive(Debug)]
struct Arguments {
    address: SocketAddr,
    options: BTreeMap<String, String>,
}

impl Arguments {
    /// A named option.
    fn option(&self, name: &str) -> Result<&str> {
        self.options.get(name).map(String::as_str).with_context(|| format!("no {name}=..."))
    }

    /// A named number.
    fn number(&self, name: &str) -> Result<usize> {
        self.option(name)?.parse().with_context(|| format!("{name} is not a number"))
    }
}

type Scenario = fn(&Arguments) -> Result<Value>;

/// Scenarios by name: one way to connect, one way to write, one script of socket calls, one order of raw
/// messages, or many connections.
const SCENARIOS: [(&str, Scenario); 16] = [
    ("connect", connect::run),
    ("write", writers::run),
    ("sockets", sockets::run),
    ("crowd", crowd::run),
    ("probe", probes::run),
    ("tokio-postgres", tokio_client::run),
    ("tokio-login", tokio_login::run),
    ("sqlx-login", sqlx_login::run),
    ("knock", crowd::knock),
    ("pile", crowd::pile),
    ("namespaces", crowd::namespaces),
    ("orphans", crowd::orphans),
    ("silent", crowd::silent),
    ("hold", crowd::hold),
    ("end", ends::run),
    ("hand-over", hand_over::run),
];

fn main() -> ExitCode {
    match run() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pgward-test-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Value> {
    let mut given = std::env::args().skip(1);
    let name = given.next().context("no scenario")?;
    let address = given.next().context("no address")?;
    let address = address.parse().with_context(|| format!("address `{address}`"))?;
    let mut options = BTreeMap::new();
    for option in given {
        let (name, value) = option.split_once('=').with_context(|| format!("option `{option}`"))?;
        options.insert(name.to_owned(), value.to_owned());
    }
    let Some((_, scenario)) = SCENARIOS.iter().find(|(known, _)| *known == name) else {
        bail!("no scenario `{name}`");
    };
    scenario(&Arguments { address, options })
}
