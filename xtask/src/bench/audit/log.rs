//! What a log of an agent is made of, in bytes, and how fast it is checked.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pgward_verify::frame::FRAME_HEAD_BYTES;
use pgward_verify::pack::Pack;
use pgward_verify::{Epoch, Options, Trail, Verdict, VerifierKey, verify_dir};

use super::super::measure::cpu_seconds;
use super::super::report::median;
use crate::run::say;

/// Times that the log is checked.
const CHECKS: u32 = 5;
/// Bytes of a trailer's payload.
const TRAILER_BYTES: u64 = 48;

/// Of the entries in finished segments, on average; and of checking all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// Entries of the log.
    pub(super) entries: u64,
    /// Those in packed segments.
    pub(super) packed: u64,
    /// Bytes of one: its canonical form,
    pub(super) entry: f64,
    /// in a frame, with its share of trailers, before it is packed,
    pub(super) raw: f64,
    /// the same of what is sealed beside it,
    pub(super) raw_values: f64,
    /// in a pack,
    pub(super) pack: f64,
    /// of sealed values beside the pack,
    pub(super) values: f64,
    /// of tiles,
    pub(super) tiles: f64,
    /// of the search index.
    pub(super) index: f64,
    /// Entries checked in a second of CPU, and in one of wall time.
    pub(super) checked_per_cpu_second: f64,
    pub(super) checked_per_second: f64,
}

/// Measures the trail in a folder. Nothing may be written to it meanwhile.
pub(super) fn measure(folder: &Path) -> Result<Figures> {
    let trail = Trail::open(folder)?;
    let epoch = trail.newest().context("the trail has an epoch")?;
    let mut figures = sizes(epoch)?;
    let key =
        fs::read_to_string(folder.join("keys/host.vkey")).context("reading the host's key")?;
    let mut options = Options::new(folder);
    options.keys.push(VerifierKey::parse(&key)?);
    let (mut by_cpu, mut by_wall) = (Vec::new(), Vec::new());
    for _ in 0..CHECKS {
        let own = Some(std::process::id());
        let (cpu, began) = (cpu_seconds(own)?, Instant::now());
        let report = verify_dir(&options)?;
        let took = began.elapsed().as_secs_f64();
        // Nothing anchors it, which is no matter here; but it must not be broken.
        ensure!(
            report.verdict != Verdict::Tampered && report.verdict != Verdict::Failed,
            "the log is not good: {:?}",
            report.findings
        );
        let entries = report.entries() as f64;
        by_cpu.push(entries / (cpu_seconds(own)? - cpu));
        by_wall.push(entries / took);
    }
    figures.checked_per_cpu_second = median(by_cpu.into_iter()).unwrap_or_default();
    figures.checked_per_second = median(by_wall.into_iter()).unwrap_or_default();
    say(format_args!("{figures:.1?}"));
    Ok(figures)
}

fn sizes(epoch: &Epoch) -> Result<Figures> {
    let mut figures = Figures::default();
    let (mut frames, mut beside, mut plain) = (0, 0, 0);
    let (mut pack_bytes, mut values_bytes, mut index_bytes) = (0, 0, 0);
    let length = |path: &Path| fs::metadata(path).map_or(0, |facts| facts.len());
    let mut entries = epoch.entries();
    for piece in epoch.pieces() {
        if !piece.pack {
            continue;
        }
        let pack = Pack::open(&epoch.file(piece.first, "pack"))?;
        let header = pack.header();
        pack_bytes += pack.file_bytes();
        values_bytes += length(&epoch.file(piece.first, "values"));
        index_bytes += length(&epoch.file(piece.first, "index"));
        let trailers = header.next_trailer - header.first_trailer;
        frames += trailers * (FRAME_HEAD_BYTES as u64 + TRAILER_BYTES);
        figures.packed += u64::from(header.entries);
    }
    while let Some(record) = entries.next()? {
        figures.entries += 1;
        // A packed entry lies within a bundle.
        if record.place.within.is_some() {
            plain += record.bytes.len() as u64;
            frames += (FRAME_HEAD_BYTES + record.bytes.len()) as u64;
            beside += record.values.map_or(0, |values| (FRAME_HEAD_BYTES + values.len()) as u64);
        }
    }
    ensure!(figures.packed > 0, "no segment is packed: too little was recorded");
    let each = |bytes: u64| bytes as f64 / figures.packed as f64;
    figures.tiles = bytes_below(&epoch.directory().join("tile"))? as f64 / figures.entries as f64;
    (figures.entry, figures.raw, figures.raw_values) = (each(plain), each(frames), each(beside));
    (figures.pack, figures.values) = (each(pack_bytes), each(values_bytes));
    figures.index = each(index_bytes);
    Ok(figures)
}

/// Bytes of all files below a folder.
fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let facts = entry.metadata()?;
        bytes += if facts.is_dir() { bytes_below(&entry.path())? } else { facts.len() };
    }
    Ok(bytes)
}
