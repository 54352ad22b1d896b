//! What a login costs, and what TLS costs afterwards, over every combination of encryption on the two legs.
//!
//! A login is `pgbench -C` with `SELECT 1`: connect, handshake with SCRAM-SHA-256, one statement, goodbye. pgbouncer keeps
//! server sessions and gives them to the next client, which an agent that logs in as each client cannot do; so it is measured
//! as it is, and with server sessions that are used once, where both make as many handshakes.

mod handshakes;
mod report;
mod sites;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pgward_tests::cgroup::Cgroup;
use pgward_tests::host;
use pgward_tests::pki::{self, Pki};
use pgward_tests::postgres::{Auth, Cluster};
use pgward_tests::wait;

use self::handshakes::{CONNECTIONS, Greeting};
pub(crate) use self::handshakes::{HandshakeOptions, shake_hands};
use self::sites::{Sites, Target};
use super::measure::{Figures, IDLE_SESSIONS, cpu_seconds, resident_kib, timed};
use super::report::{Conditions, load as load_average};
use super::{Options, Part, SERVER_SESSIONS};
use crate::leftovers::{self, noted_cgroup, shelter};
use crate::run::{announce, root, say};
use crate::scratch::Scratch;

/// Clients that log in at the same time.
const LOGIN_CLIENTS: u32 = 4;

/// Clients that run statements.
const SELECT_CLIENTS: u32 = 8;

/// How long 1000 clients may take to log in.
const IDLE_PATIENCE: Duration = Duration::from_secs(120);

/// Clear text or TLS, on one leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Encryption {
    Clear,
    Tls,
}

impl Encryption {
    const ALL: [Self; 2] = [Self::Clear, Self::Tls];

    fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Tls => "TLS",
        }
    }
}

/// Encryption from the client to the process in between, and from there to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Legs {
    client: Encryption,
    server: Encryption,
}

impl Legs {
    const CLEAR: Self = Self { client: Encryption::Clear, server: Encryption::Clear };
    const TLS: Self = Self { client: Encryption::Tls, server: Encryption::Tls };

    fn all() -> impl Iterator<Item = Self> {
        let each = |client| Encryption::ALL.map(|server| Self { client, server });
        Encryption::ALL.into_iter().flat_map(each)
    }

    fn name(self) -> String {
        format!("{}/{}", self.client.name(), self.server.name())
    }
}

/// A way from a client to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// The client connects to the server.
    Direct,
    /// pgbouncer, whose server sessions are used again.
    Pooled,
    /// pgbouncer, whose server sessions are used once.
    Fresh,
    /// The agent passes SCRAM on.
    Relay,
    /// The agent carries SCRAM out on both legs, with the server's verifier.
    Terminate,
    /// The same, with an account: another role at the server, whose password it knows.
    Mapped,
}

impl Way {
    const ALL: [Self; 6] =
        [Self::Direct, Self::Pooled, Self::Fresh, Self::Relay, Self::Terminate, Self::Mapped];

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Pooled => "pgbouncer, sessions kept",
            Self::Fresh => "pgbouncer, sessions once",
            Self::Relay => "pgward relay",
            Self::Terminate => "pgward terminate",
            Self::Mapped => "pgward mapped",
        }
    }

    /// Without anything in between there is one leg.
    fn has(self, legs: Legs) -> bool {
        match self {
            Self::Direct => legs.client == legs.server,
            Self::Pooled | Self::Fresh | Self::Relay | Self::Terminate | Self::Mapped => true,
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    /// One login for each `SELECT 1`.
    Login(Legs),
    /// `pgbench -S` over sessions that stay.
    Select(Legs),
    /// What a client's encryption costs without a login.
    Handshake(Greeting),
    /// Memory of idle sessions.
    Idle(Legs),
}

impl Case {
    fn all() -> Vec<Self> {
        let logins = Legs::all().map(Self::Login);
        let selects = [Legs::CLEAR, Legs::TLS].map(Self::Select);
        let handshakes = Greeting::ALL.map(Self::Handshake);
        let idle = [Legs::CLEAR, Legs::TLS].map(Self::Idle);
        logins.chain(selects).chain(handshakes).chain(idle).collect()
    }

    /// For `--only`.
    fn name(self) -> String {
        match self {
            Self::Login(legs) => format!("login {}", legs.name()),
            Self::Select(legs) => format!("select {}", legs.name()),
            Self::Handshake(greeting) => format!("handshake {}", greeting.name()),
            Self::Idle(legs) => format!("idle {}", legs.name()),
        }
    }

    /// Over which ways.
    fn ways(self) -> Vec<Way> {
        match self {
            Self::Login(legs) => Way::ALL.into_iter().filter(|way| way.has(legs)).collect(),
            Self::Select(_) => vec![Way::Direct, Way::Pooled, Way::Terminate],
            // pgbouncer's OpenSSL 3.0 does not know the other.
            Self::Handshake(Greeting::Hybrid) => vec![Way::Terminate],
            Self::Handshake(Greeting::Ask | Greeting::Classic) => vec![Way::Fresh, Way::Terminate],
            Self::Idle(_) => vec![Way::Pooled, Way::Terminate],
        }
    }
}

/// Figures of each round.
type Results = BTreeMap<(Case, Way), Vec<Figures>>;

/// What every measurement shares. Dropped in this order: the server stops, its cgroup goes, then the folder.
struct Bench {
    cluster: Cluster,
    pki: Pki,
    /// Where the server, the proxies and their clients run.
    cgroup: Cgroup,
    scratch: Scratch,
    seconds: u32,
}

/// Whether there is anything to measure.
pub(super) fn has_case(only: Option<&str>) -> bool {
    !chosen_cases(only).is_empty()
}

fn chosen_cases(only: Option<&str>) -> Vec<Case> {
    let chosen = |case: &Case| only.is_none_or(|only| case.name().contains(only));
    Case::all().into_iter().filter(chosen).collect()
}

/// Measures and writes the part.
pub(super) fn run(options: &Options) -> Result<()> {
    let rounds = if options.quick { 1 } else { options.rounds };
    let seconds = if options.quick { 1 } else { options.seconds.unwrap_or(Part::Logins.seconds()) };
    let only = options.only.as_deref();
    let cases = chosen_cases(only);
    let conditions = Conditions { rounds, seconds, only, load: load_average() };
    let scratch = Scratch::new("bench", leftovers::clean)?;
    let cgroup = noted_cgroup("bench-server", &scratch)?;
    let pki = Pki::new(&[])?;
    let cluster = Cluster::builder()
        .auth(Auth::Scram)
        .tls(&pki.server(pki::Server::Good), &pki.roots())
        .listen(&sites::addresses())
        .setting("max_connections", &SERVER_SESSIONS.to_string())
        .setting("shared_buffers", "512MB")
        .start()
        .context("starting the server to measure against")?;
    shelter(&cluster, &cgroup)?;
    let bench = Bench { cluster, pki, cgroup, scratch, seconds };
    load(&bench)?;

    let mut outcome = Outcome::default();
    for case in cases.iter().filter(|case| matches!(case, Case::Idle(_))) {
        for way in case.ways() {
            // Fresh processes for each, because memory that was used once is used again.
            match Sites::start(&bench) {
                Ok(sites) => {
                    outcome.take(*case, way, &bench, &sites);
                    outcome.closed(sites);
                }
                Err(error) => outcome.failed("starting the proxies".to_owned(), &error),
            }
        }
    }
    let turns: Vec<Case> = cases.into_iter().filter(|c| !matches!(c, Case::Idle(_))).collect();
    if !turns.is_empty() {
        let sites = Sites::start(&bench)?;
        for round in 0..rounds {
            say(format_args!("== round {} of {rounds}", round + 1));
            for case in &turns {
                let mut ways = case.ways();
                if round % 2 == 1 {
                    ways.reverse();
                }
                for way in ways {
                    outcome.take(*case, way, &bench, &sites);
                }
            }
        }
        outcome.closed(sites);
    }

    let Outcome { results, failed } = outcome;
    let document = report::document(&results, &conditions, &failed)?;
    println!("{document}");
    if !options.quick && only.is_none() {
        Part::Logins.write(&root().join("docs/benchmarks.md"), &document)?;
        say("written: docs/benchmarks.md");
    }
    if !failed.is_empty() {
        bail!("{} failed:\n  {}", failed.len(), failed.join("\n  "));
    }
    Ok(())
}

/// pgbench's tables, and the scripts.
fn load(bench: &Bench) -> Result<()> {
    let mut init = bench.cluster.client("pgbench", "127.0.0.1");
    init.args(["--initialize", "--quiet", "--scale", "10"]);
    announce(&init);
    host::run(&mut init)?;
    let folder = bench.scratch.folder();
    std::fs::write(folder.join(LOGIN_SCRIPT), "SELECT 1;\n")?;
    std::fs::write(folder.join(IDLE_SCRIPT), "SELECT 1;\n\\sleep 600 s\n")?;
    Ok(())
}

/// Scripts below the folder of the run.
const LOGIN_SCRIPT: &str = "login.sql";
const IDLE_SCRIPT: &str = "idle.sql";

#[derive(Default)]
struct Outcome {
    results: Results,
    failed: Vec<String>,
}

impl Outcome {
    fn take(&mut self, case: Case, way: Way, bench: &Bench, sites: &Sites<'_>) {
        match sites.target(way, case).and_then(|target| measure(case, way, &target, bench)) {
            Ok(figures) => {
                say(format_args!("{:<22} {:<26} {figures}", case.name(), way.name()));
                self.results.entry((case, way)).or_default().push(figures);
            }
            Err(error) => self.failed(format!("{} over {}", case.name(), way.name()), &error),
        }
    }

    fn closed(&mut self, sites: Sites<'_>) {
        if let Err(error) = sites.finish() {
            self.failed("stopping the agent".to_owned(), &error);
        }
    }

    fn failed(&mut self, what: String, error: &anyhow::Error) {
        say(format_args!("{what}: {error:#}"));
        let text = format!("{what}: {}", error.root_cause());
        if !self.failed.contains(&text) {
            self.failed.push(text);
        }
    }
}

fn measure(case: Case, way: Way, target: &Target<'_>, bench: &Bench) -> Result<Figures> {
    let script = |name| bench.scratch.folder().join(name);
    match case {
        Case::Login(_) => {
            let mut load = pgbench(target, bench, LOGIN_CLIENTS)?;
            load.args(["-C", "-T", &bench.seconds.to_string(), "-f"]).arg(script(LOGIN_SCRIPT));
            timed(target.pid, &mut load)
        }
        Case::Select(_) => {
            let mut load = pgbench(target, bench, SELECT_CLIENTS)?;
            load.args(["-S", "-T", &bench.seconds.to_string()]);
            timed(target.pid, &mut load)
        }
        Case::Handshake(greeting) => {
            let mut clients = handshakes::clients(greeting, target, way)?;
            target.cgroup.enter(&mut clients)?;
            let before = cpu_seconds(target.pid)?;
            let began = std::time::Instant::now();
            host::run(&mut clients)?;
            let seconds = began.elapsed().as_secs_f64();
            let cpu = cpu_seconds(target.pid)? - before;
            let connections = f64::from(CONNECTIONS);
            Ok(Figures::Transactions {
                per_second: connections / seconds,
                cpu_us: cpu * 1e6 / connections,
            })
        }
        Case::Idle(_) => idle(target, bench, &script(IDLE_SCRIPT)),
    }
}

fn pgbench(target: &Target<'_>, bench: &Bench, clients: u32) -> Result<Command> {
    let mut load = bench.cluster.client("pgbench", &target.host);
    load.args(["-n", "-j", "2", "-c", &clients.to_string()]);
    load.env("PGPORT", target.port.to_string());
    load.env("PGUSER", target.user).env("PGPASSWORD", target.password);
    load.env("PGGSSENCMODE", "disable");
    match target.encryption {
        Encryption::Clear => load.env("PGSSLMODE", "disable"),
        Encryption::Tls => {
            load.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", bench.pki.all_roots())
        }
    };
    if let Some(binding) = target.channel_binding {
        load.env("PGCHANNELBINDING", binding);
    }
    target.cgroup.enter(&mut load)?;
    Ok(load)
}

/// Memory with sessions that ran a statement and stay.
fn idle(target: &Target<'_>, bench: &Bench, script: &Path) -> Result<Figures> {
    let pid = target.pid.context("there is no process in between")?;
    let base_kib = resident_kib(pid)?;
    let mut clients = pgbench(target, bench, IDLE_SESSIONS)?;
    clients.args(["-T", "600", "-f"]).arg(script);
    let mut clients = clients.stdout(Stdio::null()).spawn().context("starting the clients")?;
    let reached = wait::until_true("the clients to be idle", IDLE_PATIENCE, || {
        if let Some(status) = clients.try_wait()? {
            bail!("the clients ended: {status}");
        }
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench' \
                     AND state = 'idle' AND query LIKE 'SELECT 1%'";
        let count = bench.cluster.sql("postgres", count)?;
        Ok(count.trim() == IDLE_SESSIONS.to_string())
    });
    let full_kib = resident_kib(pid);
    let _ = clients.kill();
    clients.wait()?;
    reached?;
    Ok(Figures::Memory { base_kib, growth_kib: full_kib? - base_kib })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_and_way_has_its_own_name() {
        let unique = |mut names: Vec<String>| {
            let count = names.len();
            names.sort();
            names.dedup();
            (names.len(), count)
        };
        let cases = Case::all();
        assert_eq!(unique(cases.iter().map(|case| case.name()).collect()), (11, 11));
        assert_eq!(unique(Way::ALL.iter().map(|way| way.name().to_owned()).collect()), (6, 6));
        assert!(cases.iter().all(|case| !case.ways().is_empty()));
    }
}
