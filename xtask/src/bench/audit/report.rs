//! The part of the document: tables of medians, targets beside what was found, whatever it says.

use std::fmt::Write;

use anyhow::Result;

use super::super::report::{Conditions, environment, median, shown};
use super::gates::{CLIENTS, Way};
use super::store::{MODES, SESSIONS};
use super::{Found, gates, log, search, store};

/// Rate of statements with `async`, of the rate without records.
const ASYNC_SHARE_MIN: f64 = 0.97;
/// Processor time of the agent for a record, with what writes, packs and seals it, in microseconds.
const CPU_MAX: f64 = 5.0;
/// Records of a statement: intent and outcome.
const RECORDS: f64 = 2.0;
/// Bytes of a record before it is packed, and afterwards, and those of its tiles.
const RAW_BYTES_MAX: f64 = 150.0;
const PACKED_BYTES_MAX: f64 = 70.0;
const TILE_BYTES_MAX: f64 = 32.2;
/// Entries that a core checks in a second.
const CHECKED_MIN: f64 = 500_000.0;
/// Seconds that a search may take.
const SEARCH_MAX: f64 = 1.0;

/// Makes the Markdown text.
pub(super) fn document(
    found: &Found,
    conditions: &Conditions<'_>,
    failed: &[String],
) -> Result<String> {
    let Conditions { rounds, seconds, only, load } = conditions;
    let mut text = String::new();
    let filter = only.map(|only| format!(" --only {only}")).unwrap_or_default();
    write!(
        text,
        "## Audit trail\n\n\
         Written by `cargo xtask bench audit --rounds {rounds} --seconds {seconds}{filter}`; do not edit.\n\n\
         Ways take turns, each round in the opposite order; figures are medians over rounds, ratios are medians of the ratios \
         within a round. Everything is on a folder of the build's disk, with `fdatasync` as the agent calls it.\n\n"
    )?;
    text.push_str(&environment(load));
    if !found.store.is_empty() {
        stores(&mut text, &found.store)?;
    }
    if !found.gates.is_empty() {
        statements(&mut text, &found.gates)?;
    }
    if let Some(figures) = &found.log {
        bytes(&mut text, figures)?;
    }
    if let Some(figures) = &found.search {
        searched(&mut text, figures)?;
    }
    targets(&mut text, found)?;
    if !failed.is_empty() {
        text.push_str("\n### Failed\n\nThese have no figures above, or fewer than the others.\n\n");
        for line in failed {
            writeln!(text, "- {}", line.lines().next().unwrap_or_default())?;
        }
    }
    Ok(text)
}

fn stores(text: &mut String, results: &store::Results) -> Result<()> {
    text.push_str(
        "\n### The store alone\n\nSessions on two workers put an intent with one sealed parameter and an outcome for each \
         statement, one statement behind the other without a pause, and wait as the mode says. No server takes time, so that \
         `overlap` hides nothing of the disk and `async` runs into its bounds. Latency is what a statement waits in all; CPU \
         is that of the whole process, which makes the records, writes and packs them.\n\n\
         | sessions | mode | records/s | p50, µs | p99, µs | CPU for a record, µs | records of one sync |\n\
         | --: | --- | --: | --: | --: | --: | --: |\n",
    );
    for sessions in SESSIONS {
        for mode in MODES {
            let Some(rounds) = results.get(&(sessions, mode.number())) else { continue };
            let of = |figure: fn(&store::Figures) -> f64| median(rounds.iter().map(figure));
            writeln!(
                text,
                "| {sessions} | {} | {} | {} | {} | {} | {} |",
                format!("{mode:?}").to_lowercase(),
                shown(of(|f| f.records_per_second), 0),
                shown(of(|f| f.p50_us), 0),
                shown(of(|f| f.p99_us), 0),
                shown(of(|f| f.cpu_us), 1),
                shown(of(|f| f.batch), 1),
            )?;
        }
    }
    Ok(())
}

fn statements(text: &mut String, results: &gates::Results) -> Result<()> {
    text.push_str(
        "\n### Statements through the agent\n\n`pgbench -S -M prepared` through agents that differ in their mode, values sealed; \
         `off` is a build that records no statement (feature `unaudited`, for measuring only). CPU is that of the agent for \
         one transaction, in µs.\n\n\
         | clients | off | async | overlap | group | strict | async of off | overlap of off | group of off | strict of off \
         | off CPU | async CPU | overlap CPU | group CPU | strict CPU |\n\
         | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n",
    );
    for clients in CLIENTS {
        write!(text, "| {clients} |")?;
        let rounds = |way| results.get(&(clients, way)).map_or(&[][..], Vec::as_slice);
        for way in Way::ALL {
            write!(text, " {} |", shown(median(rounds(way).iter().map(|f| f.main())), 0))?;
        }
        for way in &Way::ALL[1..] {
            write!(text, " {} |", shown(ratio(results, clients, *way), 2))?;
        }
        for way in Way::ALL {
            write!(text, " {} |", shown(median(rounds(way).iter().map(|f| f.cost())), 1))?;
        }
        text.push('\n');
    }
    Ok(())
}

/// Median over rounds of the rate over that without records in the same round.
fn ratio(results: &gates::Results, clients: u32, way: Way) -> Option<f64> {
    let rounds = |way| results.get(&(clients, way)).map_or(&[][..], Vec::as_slice);
    let pairs = rounds(way).iter().zip(rounds(Way::Off));
    median(pairs.map(|(own, off)| own.main() / off.main()))
}

fn bytes(text: &mut String, figures: &log::Figures) -> Result<()> {
    let log::Figures { entries, packed, .. } = figures;
    let rows = [
        ("entry alone", figures.entry),
        ("raw: its frame, and its share of trailers", figures.raw),
        ("raw: its share of sealed values", figures.raw_values),
        ("packed", figures.pack),
        ("packed: its share of sealed values", figures.values),
        ("tiles", figures.tiles),
        ("search index", figures.index),
    ];
    write!(
        text,
        "\n### Bytes of a record, and checking\n\nThe log of the `async` agent above: {entries} entries, {packed} of them in \
         packed segments; prepared statements with one sealed parameter, simple queries whose literals are sealed, outcomes.\n\n\
         | | bytes for an entry |\n| --- | --: |\n"
    )?;
    for (name, value) in rows {
        writeln!(text, "| {name} | {value:.1} |")?;
    }
    writeln!(
        text,
        "\n`pgward-verify` checks {:.0} entries in a second of CPU ({:.0} in a second of wall time, with what else ran), the \
         median of five.",
        figures.checked_per_cpu_second, figures.checked_per_second
    )?;
    Ok(())
}

fn searched(text: &mut String, figures: &search::Figures) -> Result<()> {
    writeln!(
        text,
        "\n### Search\n\n{} entries that are made up, packed and indexed: {:.0} MB in {:.0} s. The newest 100 rows of one process \
         of 2000, opening included, files in the page cache: {:.0} ms for the first, the median of six is {:.0} ms, the longest \
         {:.0} ms.",
        figures.entries,
        figures.bytes as f64 / 1e6,
        figures.built,
        figures.first * 1e3,
        figures.median * 1e3,
        figures.longest * 1e3
    )?;
    Ok(())
}

fn targets(text: &mut String, found: &Found) -> Result<()> {
    text.push_str("\n### Targets\n\n| case | target | found | |\n| --- | --- | --: | --- |\n");
    let mut row = |case: &str, target: &str, found: f64, digits: usize, met: bool| {
        let verdict = if met { "met" } else { "**missed**" };
        writeln!(text, "| {case} | {target} | {found:.digits$} | {verdict} |")
    };
    for clients in CLIENTS {
        if let Some(share) = ratio(&found.gates, clients, Way::Async) {
            let case = format!("select prepared, {clients} clients, async");
            let target = "at least 0.97 of the rate without records";
            row(&case, target, share, 3, share >= ASYNC_SHARE_MIN)?;
        }
        let cost = |way| {
            let rounds = found.gates.get(&(clients, way)).map_or(&[][..], Vec::as_slice);
            median(rounds.iter().map(|f| f.cost()))
        };
        if let (Some(own), Some(off)) = (cost(Way::Async), cost(Way::Off)) {
            let case = format!("CPU for a record, {clients} clients, async");
            let each = (own - off) / RECORDS;
            row(&case, "at most 5 µs, all in", each, 1, each <= CPU_MAX)?;
        }
    }
    if let Some(log) = &found.log {
        row("raw entry", "at most 150 bytes", log.raw, 1, log.raw <= RAW_BYTES_MAX)?;
        row("packed entry", "at most 70 bytes", log.pack, 1, log.pack <= PACKED_BYTES_MAX)?;
        row("tiles", "32 bytes and what is above them", log.tiles, 1, log.tiles <= TILE_BYTES_MAX)?;
        let rate = log.checked_per_cpu_second;
        row("verify", "at least 500 000 entries/s and core", rate, 0, rate >= CHECKED_MIN)?;
    }
    if let Some(search) = &found.search {
        let case = format!("search in {} entries", search.entries);
        row(&case, "at most 1 s", search.longest, 3, search.longest <= SEARCH_MAX)?;
    }
    Ok(())
}
