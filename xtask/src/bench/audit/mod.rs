//! What the audit trail costs: the store alone, statements through the agent with and without it, bytes of a record, and
//! how fast a log is checked and searched.

mod gates;
mod log;
mod report;
mod search;
mod store;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::report::{Conditions, load};
use super::{Options, Part};
use crate::run::{root, say, target};

/// File name of the agent that records no statement, beside the one that does.
pub(super) const UNAUDITED: &str = "pgward-unaudited";

/// What is measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Store,
    Gates,
    Search,
}

impl Case {
    const ALL: [Self; 3] = [Self::Store, Self::Gates, Self::Search];

    /// For `--only`.
    fn name(self) -> &'static str {
        match self {
            Self::Store => "audit store",
            Self::Gates => "audit pgbench",
            Self::Search => "audit search",
        }
    }
}

/// Figures of all that was measured.
#[derive(Default)]
struct Found {
    store: store::Results,
    gates: gates::Results,
    log: Option<log::Figures>,
    search: Option<search::Figures>,
}

/// Whether `--only` leaves something of this part.
pub(super) fn has_case(only: Option<&str>) -> bool {
    !chosen(only).is_empty()
}

fn chosen(only: Option<&str>) -> Vec<Case> {
    Case::ALL
        .into_iter()
        .filter(|case| only.is_none_or(|only| case.name().contains(only)))
        .collect()
}

/// Measures without a server, in a folder on the disk of the build.
fn in_a_folder<T>(measure: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let own = target().join("bench");
    fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
    measure(tempfile::Builder::new().prefix("audit-").tempdir_in(own)?.path())
}

/// Measures, and writes this part of the document.
pub(super) fn run(options: &Options) -> Result<()> {
    let rounds = if options.quick { 1 } else { options.rounds };
    let seconds = if options.quick { 1 } else { options.seconds.unwrap_or(Part::Audit.seconds()) };
    let only = options.only.as_deref();
    let conditions = Conditions { rounds, seconds, only, load: load() };
    let mut found = Found::default();
    let mut failed = Vec::new();
    for case in chosen(only) {
        let done = match case {
            Case::Store => {
                in_a_folder(|folder| store::measure(folder, rounds, seconds, &mut found.store))
            }
            Case::Gates => super::prepare(options, Part::Audit)
                .and_then(|bench| gates::measure(&bench, rounds, &mut found.gates))
                .map(|figures| found.log = Some(figures)),
            Case::Search => in_a_folder(|folder| search::measure(folder, options.quick))
                .map(|figures| found.search = Some(figures)),
        };
        if let Err(error) = done {
            say(format_args!("{}: {error:#}", case.name()));
            failed.push(format!("{}: {}", case.name(), error.root_cause()));
        }
    }
    let document = report::document(&found, &conditions, &failed)?;
    println!("{document}");
    if !options.quick && only.is_none() {
        Part::Audit.write(&root().join("docs/benchmarks.md"), &document)?;
        say("written: docs/benchmarks.md");
    }
    if !failed.is_empty() {
        bail!("{} failed:\n  {}", failed.len(), failed.join("\n  "));
    }
    Ok(())
}
