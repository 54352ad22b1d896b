//! Every cell of {client's sslmode} x {server's TLS} x {method} x {agent's mode} x {channel_binding} on both versions.
//!
//! What should become of each stands in `tests/data/handshake-matrix.txt`.

mod cell;
mod run;
mod table;

use std::collections::BTreeMap;

use anyhow::ensure;
use pgward_tests::agent::Agent;
use pgward_tests::gate;
use pgward_tests::pki::Pki;
use pgward_tests::postgres::Version;

use self::cell::{Cell, Mode};
use self::run::{Found, Ground};
use self::table::{Outcome, Rule};
use crate::agents;
use crate::servers::{Passwords, Role, Servers};
use crate::{Result, gate, here};

const TABLE: &str = include_str!("../../../data/handshake-matrix.txt");

/// Differences that a failure shows; the rest is counted.
const SHOWN: usize = 60;

#[test]
fn every_cell_has_one_line_and_every_line_a_cell() -> Result {
    let rules = table::parse(TABLE)?;
    let faults = table::faults(&rules, &Cell::all(&Mode::ALL));
    ensure!(faults.is_empty(), "{} faults:\n{}", faults.len(), head(&faults));
    Ok(())
}

#[test]
fn a_missing_a_doubled_and_an_idle_line_are_found() -> Result {
    let cells = Cell::all(&[Mode::None]);
    let whole = table::parse("* none * * * * : ok clear clear")?;
    assert_eq!(table::faults(&whole, &cells), Vec::<String>::new());
    let hole = table::parse("* none * * !prefer * : ok clear clear")?;
    assert_eq!(table::faults(&hole, &cells).len(), cells.len() / cell::SSLMODES.len());
    let doubled = table::parse("* none * * * * : ok clear clear\n18 none * * * * : ok tls tls")?;
    assert_eq!(table::faults(&doubled, &cells).len(), cells.len() / 2);
    let idle = table::parse("* none * * * * : ok clear clear\n* relay * * * * : ok tls tls")?;
    assert_eq!(table::faults(&idle, &cells), ["line 2 matches no cell"]);
    assert!(table::parse("* none * * maybe * : ok clear clear").is_err());
    assert!(table::parse("* none * * * * : refused 28000 client no").is_err());
    Ok(())
}

#[test]
fn every_cell_without_the_agent() -> Result {
    gate!();
    let Some(python) = gate::python(here!(), "ctypes") else { return Ok(()) };
    let (pki, passwords) = (Pki::new(&[Role::Cert.name()])?, Passwords::new());
    let servers = start(&pki, &passwords)?;
    let ground = Ground {
        python: &python,
        servers: &servers,
        passwords: &passwords,
        pki: &pki,
        roots: &pki.roots(),
        cgroup: None,
    };
    let started = std::time::Instant::now();
    let found = ground.run(&Cell::all(&[Mode::None]))?;
    eprintln!("{} cells in {:.1} s", found.len(), started.elapsed().as_secs_f32());
    compare(&found)
}

#[test]
fn every_cell_through_the_agent() -> Result {
    gate!();
    let Some(python) = gate::python(here!(), "ctypes") else { return Ok(()) };
    let (pki, passwords) = (Pki::new(&[Role::Cert.name()])?, Passwords::new());
    let servers = start(&pki, &passwords)?;
    // Refusals are what most cells are about, from few processes: none may be slowed or shut out.
    let builder = Agent::builder().set("auth", "failures_max", "100000");
    let scene = agents::start_with("matrix", builder, &servers, &pki, &passwords)?;
    let ground = Ground {
        python: &python,
        servers: &servers,
        passwords: &passwords,
        pki: &pki,
        roots: &pki.all_roots(),
        cgroup: Some(&scene.cgroup),
    };
    let started = std::time::Instant::now();
    let found = ground.run(&Cell::all(&[Mode::Terminate, Mode::Relay, Mode::Mapped]))?;
    eprintln!("{} cells in {:.1} s", found.len(), started.elapsed().as_secs_f32());
    compare(&found)
}

fn start(pki: &Pki, passwords: &Passwords) -> Result<Vec<Servers>> {
    [Version::Debian, Version::Eighteen]
        .map(|v| Servers::start(v, pki, passwords))
        .into_iter()
        .collect()
}

/// Fails with every cell that is not as its line says.
fn compare(found: &[Found]) -> Result {
    let rules = table::parse(TABLE)?;
    let mut differences = Vec::new();
    for found in found {
        let rule = table::find(&rules, &found.cell)?;
        if let Some(told) = found.difference(&rule.outcome) {
            differences.push(format!(
                "{}\n    line {}{} expected {}\n    found {told}",
                found.cell.words().join(" "),
                rule.line,
                if rule.settled { "" } else { " (not settled)" },
                expectation(rule),
            ));
        }
    }
    let slow = found.iter().map(Found::duration_ms).fold(0.0, f64::max);
    eprintln!("slowest cell: {slow} ms");
    ensure!(
        differences.is_empty(),
        "{} of {} cells differ:\n{}\n{}",
        differences.len(),
        found.len(),
        head(&differences),
        outline(found)
    );
    Ok(())
}

fn expectation(rule: &Rule) -> String {
    match &rule.outcome {
        Outcome::Ok { client, server } => format!("ok {client:?} {server:?}"),
        Outcome::Refused { sqlstate, who, text } => format!("refused {sqlstate} {who:?} {text}"),
    }
}

/// What was found, each outcome with the number of its cells: for writing lines of the table.
fn outline(found: &[Found]) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for found in found {
        *counts.entry(found.shown()).or_default() += 1;
    }
    let lines = counts.iter().map(|(shown, count)| format!("{count:5} {shown}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn head(lines: &[String]) -> String {
    let rest = lines.len().saturating_sub(SHOWN);
    let shown = lines[..lines.len() - rest].join("\n");
    if rest == 0 { shown } else { format!("{shown}\nand {rest} more") }
}
