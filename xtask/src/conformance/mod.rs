//! Runs other projects' test suites directly and through the agent, and compares what becomes of each test.
//!
//! A difference fails, unless [`EXPLAINED`] has it with a reason; `docs/conformance.md` says more about each.

mod explained;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::Scene;
use pgward_tests::suites::{self, Results, Way};

use self::explained::Explained;
use self::sources::Sources;
pub(crate) use self::sources::regress_15;
use crate::ebpf::{self, WhenMissing};
use crate::run::{Steps, cargo, root, run, say, target};
use crate::setup::{self, Purpose};

/// Differences with their reasons, below the top folder.
const EXPLAINED: &str = "tests/data/conformance.toml";

/// What to run, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Suites to run; all of them when none is named
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// Policy that the agent enforces meanwhile
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Run both times directly: shows what differs between two runs without any agent
    #[arg(long)]
    control: bool,
}

/// A suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    /// PostgreSQL's regression tests, version 15
    #[value(name = "postgres-15")]
    Postgres15,
    /// PostgreSQL's regression tests, version 18
    #[value(name = "postgres-18")]
    Postgres18,
    /// psycopg 3
    Psycopg,
    /// asyncpg
    Asyncpg,
    /// node-postgres
    NodePostgres,
}

/// What came of a suite.
struct Comparison {
    suite: Suite,
    direct: Results,
    through: Results,
    /// Names of tests with both ends, where they differ.
    different: Vec<(String, String, String)>,
    seconds: (u64, u64),
}

impl Suite {
    const ALL: [Self; 5] =
        [Self::Postgres15, Self::Postgres18, Self::Psycopg, Self::Asyncpg, Self::NodePostgres];

    /// Its name on the command line and in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres15 => "postgres-15",
            Self::Postgres18 => "postgres-18",
            Self::Psycopg => "psycopg",
            Self::Asyncpg => "asyncpg",
            Self::NodePostgres => "node-postgres",
        }
    }
}

/// Fetches what the suites need, runs them both ways, and prints a table.
///
/// Errors: when a suite can't be run, and when a test fares otherwise without an explanation. The other suites go on.
pub(crate) fn conformance(options: &Options) -> Result<()> {
    setup::setup(Purpose::Test)?;
    ebpf::build(WhenMissing::Fail)?;
    // With the packages of this program: another selection unites features of dependencies in another way.
    let packages = ["--package", "pgward", "--package", "pgward-tests", "--package", "xtask"];
    run(cargo().args(["build", "--bins"]).args(packages))?;
    let explained = Explained::read(&root().join(EXPLAINED))?;
    let wanted = if options.suites.is_empty() { &Suite::ALL[..] } else { &options.suites[..] };
    let mut steps = Steps::default();
    let mut compared = Vec::new();
    for suite in wanted {
        steps.step(suite.name(), || {
            let comparison = compare(*suite, options)?;
            let unexplained = report(&comparison, &explained);
            compared.push(comparison);
            if options.control || unexplained == 0 {
                return Ok(());
            }
            bail!("{unexplained} tests fare otherwise, and {EXPLAINED} does not say why");
        });
    }
    println!("{}", table(&compared, &explained));
    steps.finish()
}

fn compare(suite: Suite, options: &Options) -> Result<Comparison> {
    let sources = sources::fetch(suite)?;
    let folder = target().join("conformance").join(suite.name());
    let begun = Instant::now();
    let direct = {
        let cluster = server(&sources)?;
        one_way(&sources, &cluster, Way::Direct, &folder.join("direct"))?
    };
    let first = begun.elapsed().as_secs();
    let cluster = server(&sources)?;
    let through = if options.control {
        one_way(&sources, &cluster, Way::Direct, &folder.join("control"))?
    } else {
        let policy = options.policy.as_deref().map(fs::canonicalize).transpose();
        let policy = policy.context("the policy")?;
        let agent = suites::agent(cluster.port(), policy.as_deref());
        let scene = Scene::with("conformance", agent)?;
        let results = one_way(&sources, &cluster, Way::Through(&scene), &folder.join("through"))?;
        if !scene.agent.records()?.iter().any(|record| record["event"] == "statement") {
            bail!("the agent has seen no statement: nothing went through it");
        }
        let Scene { agent, bpffs, cgroup } = scene;
        agent.finish()?;
        drop((bpffs, cgroup));
        results
    };
    let seconds = (first, begun.elapsed().as_secs() - first);
    let different = suites::differences(&direct, &through);
    let different = different.into_iter().map(|(name, (one, two))| (name, one, two)).collect();
    Ok(Comparison { suite, direct, through, different, seconds })
}

fn server(sources: &Sources) -> Result<Cluster> {
    match sources {
        Sources::Regress(regress) => regress.server().start(),
        Sources::Pytest(_) | Sources::Node(_) => {
            let prepared = ("max_prepared_transactions", "10");
            Cluster::builder().setting(prepared.0, prepared.1).start()
        }
    }
}

fn one_way(sources: &Sources, cluster: &Cluster, way: Way<'_>, outputs: &Path) -> Result<Results> {
    say(format_args!("{}: {}", way.name(), outputs.display()));
    match sources {
        Sources::Regress(regress) => regress.run(&regress.schedule()?, cluster, way, outputs),
        Sources::Pytest(pytest) => pytest.run(cluster, way, outputs),
        Sources::Node(node) => node.run(cluster, way, outputs),
    }
}

/// Names every difference; the number of those without an explanation.
fn report(comparison: &Comparison, explained: &Explained) -> usize {
    let mut unexplained = 0;
    for (test, direct, through) in &comparison.different {
        let why = explained.reason(comparison.suite.name(), test);
        if why.is_none() {
            unexplained += 1;
        }
        let why = why.unwrap_or("not explained");
        say(format_args!("different: {test}: {direct} / {through}: {why}"));
    }
    let not_run = comparison.direct.iter().filter(|(_, end)| end.starts_with("skipped"));
    for (test, end) in not_run {
        say(format_args!("skipped: {test}: {end}"));
    }
    unexplained
}

fn table(compared: &[Comparison], explained: &Explained) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "suite",
        "tests direct",
        "through",
        "same",
        "skipped",
        "explained",
        "unexplained",
        "seconds direct",
        "through",
    ]);
    for comparison in compared {
        let name = comparison.suite.name();
        let why = |test: &str| explained.reason(name, test);
        let known = comparison.different.iter().filter(|(test, ..)| why(test).is_some()).count();
        let names: std::collections::BTreeSet<_> =
            comparison.direct.keys().chain(comparison.through.keys()).collect();
        let skipped = comparison.direct.values().filter(|end| end.starts_with("skipped")).count();
        table.add_row([
            name.to_owned(),
            comparison.direct.len().to_string(),
            comparison.through.len().to_string(),
            (names.len() - comparison.different.len()).to_string(),
            skipped.to_string(),
            known.to_string(),
            (comparison.different.len() - known).to_string(),
            comparison.seconds.0.to_string(),
            comparison.seconds.1.to_string(),
        ]);
    }
    table
}
