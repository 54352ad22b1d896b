//! `pgbench -S` through agents that differ in nothing but when a statement may go, and through one that records none.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use pgward_tests::agent::Agent;
use pgward_tests::bpffs::BpfFs;
use pgward_tests::cgroup::Cgroup;

use super::super::Bench;
use super::super::measure::{self, Case, Figures, Mode};
use super::super::relay::WORKERS;
use super::super::ways::Path;
use super::log;
use crate::leftovers::noted_cgroup;
use crate::run::say;

/// Clients that run statements at the same time.
pub(super) const CLIENTS: [u32; 3] = [1, 8, 32];

/// When statements go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// No statement is recorded: a build for measuring only.
    Off,
    Async,
    Overlap,
    Group,
    Strict,
}

impl Way {
    /// In the order of the table.
    pub(super) const ALL: [Self; 5] =
        [Self::Off, Self::Async, Self::Overlap, Self::Group, Self::Strict];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Async => "async",
            Self::Overlap => "overlap",
            Self::Group => "group",
            Self::Strict => "strict",
        }
    }
}

/// Figures by number of clients and way, one per round.
pub(super) type Results = BTreeMap<(u32, Way), Vec<Figures>>;

/// An agent. Dropped in this order: it detaches, its pins go, its cgroup goes.
struct Running {
    way: Way,
    agent: Agent,
    _bpffs: BpfFs,
    cgroup: Cgroup,
}

/// Measures in turns, and then what the trail of the `async` agent is made of.
pub(super) fn measure(bench: &Bench, rounds: u32, results: &mut Results) -> Result<log::Figures> {
    let mut running =
        Way::ALL.map(|way| start(way, bench)).into_iter().collect::<Result<Vec<_>>>()?;
    for round in 0..rounds {
        say(format_args!("== pgbench, round {} of {rounds}", round + 1));
        for clients in CLIENTS {
            for one in &running {
                let case = Case::Select { mode: Mode::Prepared, clients };
                let figures = measure::measure(&case, one.path(bench)?, bench)?;
                say(format_args!("{:<8} {clients:>2} clients {figures}", one.way.name()));
                results.entry((clients, one.way)).or_default().push(figures);
            }
        }
        running.reverse();
    }
    let at = running.iter().position(|one| one.way == Way::Async).context("it was started")?;
    let mut recorded = running.remove(at);
    for one in running {
        one.agent.finish()?;
    }
    // So that the log holds simple queries too, as many as it holds prepared ones of one round.
    for clients in CLIENTS {
        let case = Case::Select { mode: Mode::Simple, clients };
        measure::measure(&case, recorded.path(bench)?, bench)?;
    }
    let status = recorded.agent.stop()?;
    ensure!(status.success(), "the agent ended with {status}");
    let figures = log::measure(recorded.agent.audit_directory())?;
    recorded.agent.finish()?;
    Ok(figures)
}

impl Running {
    fn path(&self, bench: &Bench) -> Result<Path<'_>> {
        Ok(Path {
            port: bench.cluster.port(),
            cgroup: Some(&self.cgroup),
            pid: Some(self.agent.pid()?),
        })
    }
}

fn start(way: Way, bench: &Bench) -> Result<Running> {
    let cgroup = noted_cgroup(&format!("bench-{}", way.name()), &bench.scratch)?;
    let bpffs = BpfFs::new()?;
    let mut agent = Agent::builder()
        .intercept(bench.cluster.port())
        .set("agent", "workers", &WORKERS.to_string())
        .set("audit", "values", "\"sealed\"")
        .set("log", "level", "\"warn\"");
    agent = match way {
        Way::Off => agent.binary(unaudited()?).env("PGWARD_UNAUDITED", "measure"),
        Way::Async | Way::Overlap | Way::Group | Way::Strict => {
            agent.set("audit", "mode", &format!("\"{}\"", way.name()))
        }
    };
    let agent =
        agent.start(&cgroup, &bpffs).with_context(|| format!("the agent with {}", way.name()))?;
    Ok(Running { way, agent, _bpffs: bpffs, cgroup })
}

/// The agent that records no statement, beside the one that does.
fn unaudited() -> Result<PathBuf> {
    Ok(Agent::binary()?.with_file_name(super::UNAUDITED))
}
