//! The search for what one process did, in a large log that is made up.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pgward::audit::index::synthetic::{self, Shape};
use pgward::audit::search::{Process, Query, Segments, search};
use pgward_verify::Epoch;

use super::super::report::median;
use crate::run::say;

/// Rows that a search shows unless it is asked for more.
const ROWS: usize = 100;

/// Processes that are searched for: some that did much, as all do here, and one that did nothing.
const PROCESSES: [&str; 6] = ["app-3", "app-77", "app-500", "app-1234", "app-1999", "app-none"];

const SHAPE: Shape = Shape {
    entries: 10_000_000,
    segment_entries: 65_536,
    processes: 2_000,
    sessions: 200,
    statements: 200,
    texts: 1_000,
    seed: 1,
};

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// To make the log and its indices, in seconds.
    pub(super) built: f64,
    /// The first search, in seconds, with the files in the page cache.
    pub(super) first: f64,
    /// Median over processes, and the longest.
    pub(super) median: f64,
    pub(super) longest: f64,
}

/// Makes the log in `folder` and searches it.
pub(super) fn measure(folder: &Path, quick: bool) -> Result<Figures> {
    let shape = Shape { entries: if quick { 200_000 } else { SHAPE.entries }, ..SHAPE };
    let folder = folder.join("search");
    let began = Instant::now();
    synthetic::write(&folder, shape, |_| ())?;
    let built = began.elapsed().as_secs_f64();
    say(format_args!("search: {} entries made in {built:.1} s", shape.entries));
    let directory = folder.join("epoch-1");
    let mut bytes = 0;
    for entry in fs::read_dir(&directory)? {
        bytes += entry?.metadata()?.len();
    }
    let mut times = Vec::new();
    for name in PROCESSES {
        // As a command does it: nothing is kept from the search before.
        let began = Instant::now();
        let epoch = Epoch::open(directory.clone(), 1)?;
        let mut segments = Segments::open(&epoch, |_| ())?;
        let query = Query { process: Some(Process::Name(name.to_owned())), ..Query::default() };
        let answer = search(&mut segments, &query, ROWS, |_| ());
        let took = began.elapsed().as_secs_f64();
        say(format_args!("search: {} rows of {name} in {took:.3} s", answer.found.len()));
        ensure!(answer.unread.is_empty(), "not all could be read: {:?}", answer.unread);
        let expected = name != "app-none";
        ensure!(answer.found.is_empty() != expected, "{name}: {} rows", answer.found.len());
        times.push(took);
    }
    fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    Ok(Figures {
        entries: shape.entries,
        bytes,
        built,
        first: times[0],
        median: median(times.iter().copied()).unwrap_or_default(),
        longest: times.iter().copied().fold(0.0, f64::max),
    })
}
