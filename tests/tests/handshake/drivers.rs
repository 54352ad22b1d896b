//! Drivers: each logs in, runs a query, cancels a statement and logs out. What it reports is the same directly and through
//! the agent. See `tests/clients/README.md`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use pgward_tests::cgroup::Cgroup;
use pgward_tests::pki::{self, Pki};
use pgward_tests::postgres::Version;
use pgward_tests::{gate, scene};
use serde_json::{Value, json};

use crate::agents;
use crate::servers::{Passwords, Role, ServerTls, Servers, libpq};
use crate::{Result, gate, here};

/// Where Debian's package `libpostgresql-jdbc-java` puts the driver.
const JDBC: &str = "/usr/share/java/postgresql.jar";

/// A client program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Psql,
    Libpq(Version),
    Psycopg,
    Asyncpg,
    Pg8000,
    NodePostgres,
    PostgresJs,
    TokioPostgres,
    Sqlx,
    Jdbc,
}

impl Driver {
    const ALL: [Self; 11] = [
        Self::Psql,
        Self::Libpq(Version::Debian),
        Self::Libpq(Version::Eighteen),
        Self::Psycopg,
        Self::Asyncpg,
        Self::Pg8000,
        Self::NodePostgres,
        Self::PostgresJs,
        Self::TokioPostgres,
        Self::Sqlx,
        Self::Jdbc,
    ];

    /// What it reports of a cancelled statement: its SQLSTATE, unless the driver hides it or can't cancel.
    fn cancel(self) -> &'static str {
        match self {
            Self::Asyncpg => "stopped",
            Self::Pg8000 | Self::Sqlx => "none",
            Self::Psql
            | Self::Libpq(_)
            | Self::Psycopg
            | Self::NodePostgres
            | Self::PostgresJs
            | Self::TokioPostgres
            | Self::Jdbc => "57014",
        }
    }

    /// The program with all arguments but the last. `None` when it is not installed and may be left out.
    fn command(self, test: &str) -> Result<Option<Command>> {
        let python = |module: &str, script: &str| {
            gate::python(test, module).map(|python| run(&python, &[&script_path(script)]))
        };
        let node = |module: &str, script: &str| {
            gate::node(test, module).map(|modules| {
                let mut command = run(Path::new("node"), &[&script_path(script)]);
                command.env("NODE_PATH", modules);
                command
            })
        };
        Ok(match self {
            Self::Psql => python("json", "psql_login.py"),
            Self::Libpq(_) => python("ctypes", "libpq_login.py"),
            Self::Psycopg => python("psycopg", "psycopg_login.py"),
            Self::Asyncpg => python("asyncpg", "asyncpg_login.py"),
            Self::Pg8000 => python("pg8000", "pg8000_login.py"),
            Self::NodePostgres => node("pg", "node_postgres_login.cjs"),
            Self::PostgresJs => node("postgres", "postgres_js_login.cjs"),
            Self::TokioPostgres => {
                let mut command = Command::new(scene::client_binary()?);
                command.args(["tokio-login", "127.0.0.1:0"]);
                Some(command)
            }
            Self::Sqlx => {
                let mut command = Command::new(scene::client_binary()?);
                command.args(["sqlx-login", "127.0.0.1:0"]);
                Some(command)
            }
            Self::Jdbc => gate::java(test, Path::new(JDBC)).then(|| {
                let java = [Path::new("-cp"), Path::new(JDBC), &script_path("JdbcLogin.java")];
                // One short run: time goes into starting, not into compiling well.
                let mut command = Command::new("java");
                command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]).args(java);
                command
            }),
        })
    }

    fn name(self) -> String {
        format!("{self:?}")
    }
}

/// The server's leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    Clear,
    Tls,
}

/// How a driver gets to a server.
struct Way<'w> {
    servers: &'w Servers,
    tls: ServerTls,
    last_address: u8,
    user: String,
    password: String,
    /// Trusted roots for TLS; clear text without.
    roots: Option<PathBuf>,
    cgroup: Option<&'w Cgroup>,
}

#[test]
fn drivers_log_in_and_cancel_directly() -> Result {
    gate!();
    let (pki, passwords) = (Pki::new(&[])?, Passwords::new());
    for version in [Version::Debian, Version::Eighteen] {
        let servers = Servers::start(version, &pki, &passwords)?;
        for (tls, roots) in [(ServerTls::On, None), (ServerTls::Required, Some(pki.roots()))] {
            let way = Way {
                servers: &servers,
                tls,
                last_address: 1,
                user: Role::Scram.name().to_owned(),
                password: passwords.of(Role::Scram),
                roots,
                cgroup: None,
            };
            let leg = if way.roots.is_some() { Leg::Tls } else { Leg::Clear };
            all(&way, leg, here!())?;
        }
    }
    Ok(())
}

#[test]
fn drivers_log_in_and_cancel_through_the_agent() -> Result {
    gate!();
    let (pki, passwords) = (Pki::new(&[Role::Cert.name()])?, Passwords::new());
    let versions = [Version::Debian, Version::Eighteen];
    let servers = versions.map(|version| Servers::start(version, &pki, &passwords));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let scene = agents::start("drivers", &servers, &pki, &passwords)?;
    for servers in &servers {
        for roots in [None, Some(pki.all_roots())] {
            // The server takes nothing but TLS: the agent speaks it for those who don't.
            let way = Way {
                servers,
                tls: ServerTls::Required,
                last_address: agents::TERMINATE,
                user: Role::Scram.name().to_owned(),
                password: passwords.of(Role::Scram),
                roots,
                cgroup: Some(&scene.cgroup),
            };
            all(&way, Leg::Tls, here!())?;
            let user = Role::Scram.application();
            let password = passwords.of_application(Role::Scram);
            all(&Way { last_address: agents::MAPPED, user, password, ..way }, Leg::Tls, here!())?;
        }
        // Relayed proofs: in clear text to the agent, which is all that drivers with channel binding can do there.
        let way = Way {
            servers,
            tls: ServerTls::Required,
            last_address: agents::RELAY,
            user: Role::Scram.name().to_owned(),
            password: passwords.of(Role::Scram),
            roots: None,
            cgroup: Some(&scene.cgroup),
        };
        all(&way, Leg::Tls, here!())?;
    }
    scene.agent.finish()
}

/// Every driver, one after the other; all that went wrong in one error.
fn all(way: &Way<'_>, server: Leg, test: &str) -> Result {
    let mut faults = Vec::new();
    for driver in Driver::ALL {
        let Some(command) = driver.command(test)? else { continue };
        let started = std::time::Instant::now();
        let told = way.run(driver, command);
        let seconds = started.elapsed().as_secs_f32();
        let (version, leg) = (way.servers.version.name(), way.tls.name());
        eprintln!("{:24} server {version}, TLS {leg}: {seconds:.2} s", driver.name());
        let expected = json!({
            "answer": 42,
            "user": Role::Scram.name(),
            "cancel": driver.cancel(),
            "after": 43,
            "server_tls": server == Leg::Tls,
        });
        match told {
            Ok(told) if told == expected => {}
            Ok(told) => faults.push(format!("{driver:?} to {version}, {leg}: {told}")),
            Err(error) => faults.push(format!("{driver:?} to {version}, {leg}: {error:#}")),
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

impl Way<'_> {
    fn run(&self, driver: Driver, mut command: Command) -> Result<Value> {
        let library = match driver {
            Driver::Libpq(version) => Some(libpq(version)?),
            _ => None,
        };
        let told = json!({
            "address": format!("127.0.0.{}", self.last_address),
            "name": pki::HOST,
            "port": self.servers.server(self.tls).port(),
            "user": self.user,
            "password": self.password,
            "database": self.tls.database(),
            "roots": self.roots,
            "library": library,
        });
        if let Some(cgroup) = self.cgroup {
            cgroup.enter(&mut command)?;
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().context("starting it")?;
        let mut input = process.stdin.take().context("piped")?;
        // One that ended already says why.
        let _ = input.write_all(format!("{told}\n").as_bytes());
        drop(input);
        let output = process.wait_with_output()?;
        let told = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {told}{stderr}", output.status);
        serde_json::from_str(&told).with_context(|| format!("report `{told}`"))
    }
}

fn run(program: &Path, arguments: &[&Path]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}
