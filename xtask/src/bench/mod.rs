//! Compares ways from a client to a server in one run: direct, a plain TCP relay, pgbouncer, pgward. Statements are measured
//! here and in [`measure`], logins and TLS in [`logins`], the audit trail in [`audit`], decisions
//! in [`policy`].
//!
//! Machines are shared and noisy, so that figures of different runs can't be compared. Within a run the ways take turns,
//! each round in the opposite order of the last, and what is reported are medians over rounds: of rates, of ratios within
//! a round, and of the proxy's CPU time per unit of work, which is the steadiest of the three.

mod audit;
mod facts;
mod idle;
mod logins;
mod measure;
mod parts;
mod policy;
mod relay;
mod report;
mod ways;

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pgward_tests::cgroup::Cgroup;
use pgward_tests::postgres::Cluster;

use crate::ebpf::{self, WhenMissing};
use crate::leftovers::{self, noted_cgroup, shelter};
use crate::run::{cargo, command, root, run, say, target};
use crate::scratch::Scratch;
use crate::setup::{self, Purpose};

pub(crate) use idle::{IdleOptions, hold_sessions};
pub(crate) use logins::{HandshakeOptions, shake_hands};
use measure::{Case, Figures, Scale};
pub(crate) use parts::Part;
pub(crate) use relay::{RelayOptions, relay};
use ways::{Way, Ways};

/// Rounds of a full run; a median of fewer says little on a shared machine.
const ROUNDS: u32 = 5;

/// Sessions of the server: the idle ones and those that measure.
const SERVER_SESSIONS: u32 = measure::IDLE_SESSIONS + 100;

/// Open files that 1000 idle sessions need in a proxy: two sockets each, with room.
const OPEN_FILES: u64 = 8192;

/// How to measure.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// What to measure; everything unless it is said
    #[arg(value_enum)]
    part: Option<Part>,
    /// Rounds, each of which measures every way once
    #[arg(long, default_value_t = ROUNDS)]
    rounds: u32,
    /// Length of one pgbench run; 4 for statements, 2 for logins unless it is said
    #[arg(long)]
    seconds: Option<u32>,
    /// Only cases whose name contains this, such as `select`, `prepared`, `connect`, `copy`, `login`, `idle`
    #[arg(long)]
    only: Option<String>,
    /// One short round with little data, to see that everything works; writes no document
    #[arg(long)]
    quick: bool,
}

/// What was measured: figures of a way in a case, one per round.
type Results = BTreeMap<(usize, Way), Vec<Figures>>;

/// Installs what is missing, builds everything with optimisation, and measures in a process of the optimised build, so
/// that the relay is one too.
pub(crate) fn bench(options: &Options) -> Result<()> {
    setup::setup(Purpose::Bench)?;
    ebpf::build(WhenMissing::Fail)?;
    // One selection of packages for both, because another one unites features of dependencies in another way and compiles
    // them again.
    let build = ["build", "--release", "--package", "pgward", "--package", "xtask"];
    if options.part.is_none_or(|part| part == Part::Audit) {
        run(cargo().args(build).args(["--features", "pgward/unaudited", "--bin", "pgward"]))?;
        let built = target().join("release/pgward");
        fs::copy(&built, built.with_file_name(audit::UNAUDITED)).context("keeping the build")?;
    }
    run(cargo().args(build))?;
    let mut measure = command(target().join("release/xtask"));
    measure.arg("bench-run").args(options.part.map(Part::name));
    measure.args(["--rounds", &options.rounds.to_string()]);
    if let Some(seconds) = options.seconds {
        measure.args(["--seconds", &seconds.to_string()]);
    }
    if let Some(only) = &options.only {
        measure.args(["--only", only]);
    }
    if options.quick {
        measure.arg("--quick");
    }
    run(&mut measure)
}

/// Measures with the programs beside this one and writes `docs/benchmarks.md`.
///
/// A way that can't be started or fails on the way keeps no figures; the others go on, the document says what failed,
/// and so does the error.
pub(crate) fn bench_run(options: &Options) -> Result<()> {
    allow_open_files()?;
    let only = options.only.as_deref();
    let wanted = |part: &Part| {
        let any = match part {
            Part::Statements => !chosen_cases(only).is_empty(),
            Part::Logins => logins::has_case(only),
            Part::Audit => audit::has_case(only),
            Part::Policy => policy::has_case(only),
            Part::Facts => facts::has_case(only),
        };
        any && options.part.is_none_or(|chosen| chosen == *part)
    };
    let parts: Vec<Part> = Part::ALL.into_iter().filter(wanted).collect();
    if parts.is_empty() {
        bail!("no case matches");
    }
    let mut failed = Vec::new();
    for part in parts {
        let done = match part {
            Part::Statements => statements(options),
            Part::Logins => logins::run(options),
            Part::Audit => audit::run(options),
            Part::Policy => policy::run(options),
            Part::Facts => facts::run(options),
        };
        if let Err(error) = done {
            say(format_args!("{}: {error:#}", part.name()));
            failed.push(part.name());
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn chosen_cases(only: Option<&str>) -> Vec<Case> {
    let chosen = |case: &Case| only.is_none_or(|only| case.name().contains(only));
    Case::all().into_iter().filter(chosen).collect()
}

fn statements(options: &Options) -> Result<()> {
    let rounds = if options.quick { 1 } else { options.rounds };
    let only = options.only.as_deref();
    let cases = chosen_cases(only);
    let load = report::load();
    let bench = prepare(options, Part::Statements)?;
    let (scale, seconds) = (bench.scale, bench.seconds);
    let conditions = report::Conditions { rounds, seconds, only, load };

    let mut outcome = Outcome::default();
    let idle = |case: &Case| matches!(case, Case::Idle);
    // Fresh processes for each, because memory that was used once is used again.
    if cases.iter().any(idle) {
        for way in Way::PROXIES {
            let mut ways = Ways::start(&[way], &bench, &mut outcome);
            one_round(&bench, &cases, idle, &mut ways, &mut outcome);
            ways.finish(&mut outcome);
        }
    }
    if cases.iter().any(|case| !idle(case)) {
        let mut ways = Ways::start(&Way::ALL, &bench, &mut outcome);
        for round in 0..rounds {
            say(format_args!("== round {} of {rounds}", round + 1));
            one_round(&bench, &cases, |case| !idle(case), &mut ways, &mut outcome);
            ways.reverse();
        }
        ways.finish(&mut outcome);
    }
    let Outcome { results, failed } = outcome;

    let document = report::document(&cases, &results, &scale, &failed, &conditions)?;
    println!("{document}");
    if !options.quick && only.is_none() {
        Part::Statements.write(&root().join("docs/benchmarks.md"), &document)?;
        say("written: docs/benchmarks.md");
    }
    if !failed.is_empty() {
        bail!("{} failed:\n  {}", failed.len(), failed.join("\n  "));
    }
    Ok(())
}

/// Starts the server and makes its data.
fn prepare(options: &Options, part: Part) -> Result<Bench> {
    let scale = match part {
        _ if options.quick => measure::QUICK,
        Part::Statements | Part::Logins => measure::FULL,
        Part::Audit | Part::Policy | Part::Facts => measure::ACCOUNTS,
    };
    let seconds = if options.quick { 1 } else { options.seconds.unwrap_or(part.seconds()) };
    let scratch = Scratch::new("bench", leftovers::clean)?;
    let shelter_cgroup = noted_cgroup("bench-server", &scratch)?;
    let cluster = Cluster::builder()
        .setting("max_connections", &SERVER_SESSIONS.to_string())
        .setting("shared_buffers", "512MB")
        .start()
        .context("starting the server to measure against")?;
    shelter(&cluster, &shelter_cgroup)?;
    let bench = Bench { cluster, cgroup: shelter_cgroup, scratch, seconds, scale };
    measure::load(&bench.cluster, bench.scratch.folder(), &scale)?;
    Ok(bench)
}

/// What every measurement shares. Dropped in this order: the server stops, its cgroup goes, then the folder.
struct Bench {
    cluster: Cluster,
    /// Where the server and the proxies run, for the next run to find them if this one is killed.
    cgroup: Cgroup,
    scratch: Scratch,
    seconds: u32,
    scale: Scale,
}

#[derive(Default)]
struct Outcome {
    results: Results,
    failed: Vec<String>,
}

impl Outcome {
    /// Notes a failure: its whole story for the terminal, its cause for the document.
    fn failed(&mut self, what: String, error: &anyhow::Error) {
        say(format_args!("{what}: {error:#}"));
        let text = format!("{what}: {}", error.root_cause());
        if !self.failed.contains(&text) {
            self.failed.push(text);
        }
    }
}

/// Measures the chosen cases over every way once. A way that fails is not measured again.
fn one_round(
    bench: &Bench,
    cases: &[Case],
    chosen: impl Fn(&Case) -> bool,
    ways: &mut Ways<'_>,
    outcome: &mut Outcome,
) {
    for (index, case) in cases.iter().enumerate().filter(|(_, case)| chosen(case)) {
        for way in ways.running() {
            match ways.path(way).and_then(|path| measure::measure(case, path, bench)) {
                Ok(figures) => {
                    say(format_args!("{:<24} {:<10} {figures}", case.name(), way.name()));
                    outcome.results.entry((index, way)).or_default().push(figures);
                }
                Err(error) => {
                    outcome.failed(format!("{} over {}", case.name(), way.name()), &error);
                    ways.stop(way, outcome);
                }
            }
        }
    }
}

/// Raises the limit of open files for this process and its children.
fn allow_open_files() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < OPEN_FILES {
        setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES.min(hard), hard)
            .context("raising the limit of open files")?;
    }
    Ok(())
}
