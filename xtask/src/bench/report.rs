//! The document: tables of medians, targets beside what was found, whatever it says.

use std::fmt::Write;

use anyhow::Result;

use super::measure::{Case, Figures, Scale, machine};
use super::ways::Way;
use super::{Results, setup};
use crate::run::{command, probe};

/// Memory that 1000 idle sessions may take.
const IDLE_KIB_MAX: f64 = 40.0 * 1024.0;

/// Share of the plain relay's rate that is asked for.
const RELAY_SHARE_MIN: f64 = 0.95;

/// How a run was made.
pub(super) struct Conditions<'a> {
    pub(super) rounds: u32,
    /// Length of one pgbench run.
    pub(super) seconds: u32,
    pub(super) only: Option<&'a str>,
    /// What [`load`] said before.
    pub(super) load: String,
}

/// Makes the Markdown text.
pub(super) fn document(
    cases: &[Case],
    results: &Results,
    scale: &Scale,
    failed: &[String],
    conditions: &Conditions<'_>,
) -> Result<String> {
    let Conditions { rounds, seconds, only, load } = conditions;
    let table = Table { cases, results };
    let mut text = String::new();
    let filter = only.map(|only| format!(" --only {only}")).unwrap_or_default();
    write!(
        text,
        "# Benchmarks\n\n\
         Written by `cargo xtask bench statements --rounds {rounds} --seconds {seconds}{filter}`; do not edit.\n\n\
         Four ways from a client to a server on one machine, over loopback: `direct`; `relay`, which copies bytes \
         (tokio's `copy_bidirectional`, two threads); `pgbouncer` with session pooling; `pgward`, which intercepts \
         the client's connection to the server in a cgroup of its own, with attribution and the audit trail on. Client, \
         proxy and server share the processors. The ways take turns, each round in the opposite order; figures are \
         medians over rounds, and ratios are medians of the ratios within a round. CPU is user and system time of the \
         proxy process. Figures of different runs or machines can't be compared, ratios can.\n\n"
    )?;
    text.push_str(&environment(load));
    table.transactions(&mut text, scale)?;
    table.bulk(&mut text, scale)?;
    table.memory(&mut text)?;
    table.targets(&mut text)?;
    if !failed.is_empty() {
        text.push_str("\n## Failed\n\nThese have no figures above, or fewer than the others.\n\n");
        for line in failed {
            writeln!(text, "- {}", line.lines().next().unwrap_or_default())?;
        }
    }
    Ok(text)
}

/// Machine and versions, as a table.
///
/// `load`: what [`load`] said before anything was measured.
pub(super) fn environment(load: &str) -> String {
    let version = |program: &std::path::Path| {
        let text = probe(command(program).arg("--version")).unwrap_or_default();
        text.lines().next().unwrap_or("unknown").to_owned()
    };
    let postgres = setup::postgres_programs().map(|folder| version(&folder.join("postgres")));
    let rows = [
        ("machine", machine()),
        ("kernel", probe(command("uname").args(["-s", "-r", "-m"])).unwrap_or_default()),
        ("server", postgres.unwrap_or_default()),
        ("pgbouncer", setup::pgbouncer().map(|program| version(&program)).unwrap_or_default()),
        (
            "commit",
            probe(command("git").args(["describe", "--always", "--dirty"])).unwrap_or_default(),
        ),
        ("load average before", load.to_owned()),
        ("compiler", probe(command("rustc").arg("--version")).unwrap_or_default()),
    ];
    let rows = rows.map(|(name, value)| format!("| {name} | {value} |\n"));
    format!("| | |\n| --- | --- |\n{}", rows.concat())
}

/// Load averages of the last 1, 5 and 15 minutes (`/proc/loadavg`, proc(5)): what else the machine was busy with.
pub(super) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(", ")
}

struct Table<'a> {
    cases: &'a [Case],
    results: &'a Results,
}

impl Table<'_> {
    fn transactions(&self, text: &mut String, scale: &Scale) -> Result<()> {
        write!(
            text,
            "\n## Transactions per second\n\n`pgbench -S`, {} x 100 000 accounts; `connect` makes a connection for \
             each transaction (`-C`), where pgbouncer may use a server session again and the others can't.\n\n\
             | case | direct | relay | pgbouncer | pgward | of direct | of relay | of pgbouncer \
             | relay CPU µs | pgbouncer CPU µs | pgward CPU µs |\n\
             | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n",
            scale.accounts
        )?;
        for (index, case) in self.chosen(|case| matches!(case, Case::Select { .. } | Case::Connect))
        {
            write!(text, "| {} |", case.name())?;
            self.rates(text, index)?;
            for way in Way::PROXIES {
                write!(text, " {} |", shown(self.cost(index, way), 1))?;
            }
            text.push('\n');
        }
        Ok(())
    }

    fn bulk(&self, text: &mut String, scale: &Scale) -> Result<()> {
        write!(
            text,
            "\n## Bulk, MB/s\n\n`COPY` of {:.2} GB in rows of 512 bytes by psql, which discards them or reads them \
             from a cached file; the server drops incoming rows.\n\n\
             | case | direct | relay | pgbouncer | pgward | of direct | of relay | of pgbouncer \
             | relay CPU s/GB | pgbouncer CPU s/GB | pgward CPU s/GB |\n\
             | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n",
            scale.bytes() as f64 / 1e9
        )?;
        for (index, case) in self.chosen(|case| matches!(case, Case::CopyIn | Case::CopyOut)) {
            write!(text, "| {} |", case.name())?;
            self.rates(text, index)?;
            for way in Way::PROXIES {
                write!(text, " {} |", shown(self.cost(index, way), 2))?;
            }
            text.push('\n');
        }
        Ok(())
    }

    fn memory(&self, text: &mut String) -> Result<()> {
        text.push_str(
            "\n## Memory\n\nResident memory of the proxy process before any session, and its growth with 1000 sessions \
             that ran `SELECT 1` and stay idle; once, in a fresh process.\n\n\
             | | relay | pgbouncer | pgward |\n| --- | --: | --: | --: |\n",
        );
        for (index, _) in self.chosen(|case| matches!(case, Case::Idle)) {
            let row = |name: &str, unit: f64, value: &dyn Fn(Way) -> Option<f64>| {
                let cells = Way::PROXIES.map(|way| shown(value(way).map(|kib| kib / unit), 1));
                format!("| {name} | {} |\n", cells.join(" | "))
            };
            text.push_str(&row("before, MiB", 1024.0, &|way| self.cost(index, way)));
            text.push_str(&row("growth, MiB", 1024.0, &|way| self.rate(index, way)));
            text.push_str(&row("growth per session, KiB", 1000.0, &|way| self.rate(index, way)));
        }
        Ok(())
    }

    fn targets(&self, text: &mut String) -> Result<()> {
        text.push_str("\n## Targets\n\n| case | target | found | |\n| --- | --- | --: | --- |\n");
        let mut row = |case: &Case, target: &str, found: Option<f64>, digits, met: Option<bool>| {
            let verdict = match met {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "not measured",
            };
            writeln!(text, "| {} | {target} | {} | {verdict} |", case.name(), shown(found, digits))
        };
        for (index, case) in self.cases.iter().enumerate() {
            match case {
                Case::Select { .. } => {
                    let of_relay = self.ratio(index, Way::Relay);
                    let met = of_relay.map(|ratio| ratio >= RELAY_SHARE_MIN);
                    row(case, "at least 0.95 of the relay's rate", of_relay, 2, met)?;
                    let of_bouncer = self.ratio(index, Way::Pgbouncer);
                    let met = of_bouncer.map(|ratio| ratio >= 1.0);
                    row(case, "at least pgbouncer's rate", of_bouncer, 2, met)?;
                    let own = self.cost(index, Way::Pgward);
                    let bouncer = self.cost(index, Way::Pgbouncer);
                    let met = own.zip(bouncer).map(|(own, bouncer)| own <= bouncer);
                    let target = format!("at most pgbouncer's CPU, {} µs", shown(bouncer, 1));
                    row(case, &target, own, 1, met)?;
                }
                Case::Idle => {
                    let growth = self.rate(index, Way::Pgward);
                    let met = growth.map(|kib| kib <= IDLE_KIB_MAX);
                    row(case, "at most 40 MiB", growth.map(|kib| kib / 1024.0), 1, met)?;
                }
                Case::Connect | Case::CopyOut | Case::CopyIn => {}
            }
        }
        Ok(())
    }

    /// Cells: the rate of each way, then pgward's share of each other's.
    fn rates(&self, text: &mut String, index: usize) -> Result<()> {
        for way in Way::ALL {
            write!(text, " {} |", shown(self.rate(index, way), 0))?;
        }
        for other in [Way::Direct, Way::Relay, Way::Pgbouncer] {
            write!(text, " {} |", shown(self.ratio(index, other), 2))?;
        }
        Ok(())
    }

    fn chosen(&self, wanted: impl Fn(&Case) -> bool) -> impl Iterator<Item = (usize, &Case)> {
        self.cases.iter().enumerate().filter(move |(_, case)| wanted(case))
    }

    fn figures(&self, index: usize, way: Way) -> &[Figures] {
        self.results.get(&(index, way)).map_or(&[], Vec::as_slice)
    }

    fn rate(&self, index: usize, way: Way) -> Option<f64> {
        median(self.figures(index, way).iter().map(Figures::main))
    }

    fn cost(&self, index: usize, way: Way) -> Option<f64> {
        median(self.figures(index, way).iter().map(Figures::cost))
    }

    /// Median over rounds of pgward's rate over the other's in the same round.
    fn ratio(&self, index: usize, other: Way) -> Option<f64> {
        let pairs = self.figures(index, Way::Pgward).iter().zip(self.figures(index, other));
        median(pairs.map(|(own, other)| own.main() / other.main()))
    }
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[half]),
        _ => Some((values[half - 1] + values[half]) / 2.0),
    }
}

pub(super) fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median([].into_iter()), None);
    }

    #[test]
    fn ratios_pair_the_rounds_and_targets_say_what_was_missed() {
        let cases = [Case::Connect, Case::all()[0]];
        let round = |per_second, cpu_us| Figures::Transactions { per_second, cpu_us };
        let results = Results::from([
            ((1, Way::Relay), vec![round(100.0, 16.0), round(10.0, 16.0), round(50.0, 16.0)]),
            ((1, Way::Pgbouncer), vec![round(90.0, 15.0); 3]),
            ((1, Way::Pgward), vec![round(96.0, 20.0), round(9.7, 20.0), round(10.0, 20.0)]),
        ]);
        let table = Table { cases: &cases, results: &results };
        assert_eq!(table.ratio(1, Way::Relay), Some(0.96));
        let mut text = String::new();
        table.targets(&mut text).expect("text");
        assert!(text.contains("| at least 0.95 of the relay's rate | 0.96 | met |"), "{text}");
        assert!(text.contains("| at least pgbouncer's rate | 0.11 | **missed** |"), "{text}");
        assert!(
            text.contains("| at most pgbouncer's CPU, 15.0 µs | 20.0 | **missed** |"),
            "{text}"
        );
    }
}
