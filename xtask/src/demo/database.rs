//! The server of the demo, and what the agent is told of it.
//!
//! The server takes TLS alone, with a certificate of an authority made for this run, and asks for SCRAM-SHA-256, but for one
//! role that it asks for a password in clear text, as servers that were set up long ago do.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use pgward_tests::agent::{Agent, Builder};
use pgward_tests::host;
use pgward_tests::pki::{self, Pki};
use pgward_tests::postgres::Cluster;

use super::clients::shown;
use crate::run::{announce, say};

/// Role of most applications: the agent has its verifier, which is no password.
pub(super) const SHOP: &str = "shop";

/// What an application calls itself that has a secret of its own. The server knows no such role.
pub(super) const BILLING: &str = "billing";

/// The role that the agent uses for it.
pub(super) const BILLING_LOGIN: &str = "billing_2026";

/// The role whose password the server wants to see in clear text.
pub(super) const LEGACY: &str = "legacy";

/// What the clients work on.
const TABLES: &str = "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
     customer text NOT NULL, amount numeric(10, 2) NOT NULL); \
     INSERT INTO orders (customer, amount) SELECT 'customer ' || n, n * 1.5 FROM generate_series(1, 100) n";

/// Passwords of this run.
pub(super) struct Passwords {
    /// Of [`SHOP`], at the server.
    pub(super) shop: String,
    /// The application's own, of [`BILLING`].
    pub(super) billing: String,
    /// Of [`LEGACY`], at the server.
    pub(super) legacy: String,
    /// Of [`BILLING_LOGIN`], at the server. The application has never seen it.
    billing_login: String,
}

/// A running server with its certificates and roles.
pub(super) struct Database {
    pub(super) cluster: Cluster,
    pub(super) passwords: Passwords,
    pki: Pki,
    verifier: String,
}

impl Database {
    /// Starts it, with its roles and tables.
    ///
    /// `addresses` as `listen_addresses` of PostgreSQL has them.
    pub(super) fn start(addresses: &str) -> Result<Self> {
        let pki = Pki::new(&[])?;
        let hba = format!("hostssl all {LEGACY} all password\nhostssl all all all scram-sha-256\n");
        let cluster = Cluster::builder()
            .listen(addresses)
            .tls(&pki.server(pki::Server::Good), &pki.roots())
            .hba(&hba)
            .start()?;
        let passwords = Passwords::new();
        let verifier = prepare(&cluster, &passwords)?;
        Ok(Self { cluster, passwords, pki, verifier })
    }

    /// The agent's settings for it. It is given the verifier of [`SHOP`] and an account, and no other secret.
    pub(super) fn configure(&self, builder: Builder, authority: &Path) -> Result<Builder> {
        let verifiers = format!("\"{SHOP}\" \"{}\"\n", self.verifier);
        let verifiers = self.pki.write_secret("verifiers", &verifiers)?;
        let Passwords { billing, billing_login, .. } = &self.passwords;
        let application = self.pki.write_secret("billing.application", billing)?;
        let password = self.pki.write_secret("billing.password", billing_login)?;
        let destination = format!(
            "name = \"demo\"\n[destination.server]\ntls = \"verify-full\"\nname = \"{}\"\n\
             roots = {:?}\n[destination.auth]\nverifiers = {verifiers:?}\n\
             [[destination.account]]\nrole = \"{BILLING}\"\n\
             application_password_file = {application:?}\n\
             login = \"{BILLING_LOGIN}\"\npassword_file = {password:?}\n",
            pki::HOST,
            self.pki.roots()
        );
        say("what the agent is told of it, besides its port:\n");
        say(format_args!("  [[destination]]\n  {}", destination.trim().replace('\n', "\n  ")));
        let key = authority.with_extension("key");
        Ok(builder
            .intercept(self.cluster.port())
            .set("tls", "ca_certificate", &format!("{authority:?}"))
            .set("tls", "ca_key", &format!("{key:?}"))
            .destination(&destination))
    }

    /// Tells the agent's guard what must occur nowhere in what the agent writes.
    pub(super) fn watch(&self, agent: &Agent) {
        let secrets = agent.secrets();
        let Passwords { shop, billing, legacy, billing_login } = &self.passwords;
        for (role, password) in
            [(SHOP, shop), (BILLING, billing), (LEGACY, legacy), (BILLING_LOGIN, billing_login)]
        {
            secrets.add(&format!("password of {role}"), password.as_bytes());
        }
        secrets.add_verifier(&format!("verifier of {SHOP}"), &self.verifier);
    }
}

impl Passwords {
    fn new() -> Self {
        let new = |role| format!("{role}-{:016x}", host::random());
        Self {
            shop: new(SHOP),
            billing: new(BILLING),
            legacy: new(LEGACY),
            billing_login: new(BILLING_LOGIN),
        }
    }
}

/// Makes tables and roles, through the server's Unix socket, which is not intercepted. Returns the verifier of [`SHOP`].
fn prepare(cluster: &Cluster, passwords: &Passwords) -> Result<String> {
    cluster.sql("postgres", TABLES)?;
    let mut init = cluster.client("pgbench", "127.0.0.1");
    init.env("PGHOST", cluster.socket_folder()).args(["--initialize", "--quiet"]);
    announce(&shown(&init));
    // It reports progress on standard error, which is of no interest unless it fails.
    let output = init.stdin(Stdio::null()).output().context("starting pgbench")?;
    ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
    for (role, password) in [
        (SHOP, &passwords.shop),
        (BILLING_LOGIN, &passwords.billing_login),
        (LEGACY, &passwords.legacy),
    ] {
        let made = format!(
            "CREATE ROLE {role} LOGIN PASSWORD '{password}'; \
             GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}"
        );
        cluster.sql("postgres", &made)?;
    }
    let verifier = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{SHOP}'");
    Ok(cluster.sql("postgres", &verifier)?.trim().to_owned())
}

/// Makes the local authority of a configured agent, and prints what it is.
pub(super) fn make_authority(agent: &Agent) -> Result<()> {
    let mut init: Command = agent.command(&["ca", "init"])?;
    crate::run::run(&mut init)
}
