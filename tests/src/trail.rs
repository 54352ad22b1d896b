//! The audit trail of an agent, read from its folder as an auditor would: with `pgward-verify`, entry by entry, up to what
//! is durable. The agent may be writing at the same time.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pgward::audit::view::{self, Joined};
use pgward_verify::Trail;
use serde_json::Value;

/// One entry of the log, as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Number of its epoch.
    pub epoch: u64,
    /// Its index there.
    pub index: u64,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
    /// What is held beside it.
    pub values: Option<Vec<u8>>,
    /// Its fields by name.
    pub fields: Value,
}

impl Entry {
    /// Whether it is of this kind.
    pub fn is(&self, event: &str) -> bool {
        self.fields["event"] == event
    }
}

/// All durable entries of the trail in `folder`, oldest first. A folder that is not there has none.
pub fn entries(folder: &Path) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    read(folder, (0, 0), |entry| {
        all.push(entry);
        Ok(())
    })?;
    Ok(all)
}

/// Hands over the entries from an epoch and index on.
fn read(folder: &Path, from: (u64, u64), mut take: impl FnMut(Entry) -> Result<()>) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for epoch in Trail::open(folder)?.epochs().iter().filter(|epoch| epoch.number >= from.0) {
        let first = if epoch.number == from.0 { from.1 } else { 0 };
        // What was pruned is not there.
        let first = epoch.pieces().first().map_or(first, |oldest| oldest.first.max(first));
        let mut entries = epoch.entries_from(first);
        while let Some(record) = entries.next()? {
            let fields = view::object(record.bytes)
                .with_context(|| format!("entry {} of epoch {}", record.index, epoch.number))?;
            take(Entry {
                epoch: epoch.number,
                index: record.index,
                bytes: record.bytes.to_owned(),
                values: record.values.map(<[u8]>::to_owned),
                fields: Value::Object(fields),
            })?;
        }
    }
    Ok(())
}

/// Reads a trail that grows: what was read once is not read again.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    /// Epoch and index of the next entry.
    next: (u64, u64),
    joined: JoinedItems,
}

#[derive(Default)]
struct JoinedItems {
    joined: Joined,
    items: Vec<Value>,
}

impl std::fmt::Debug for JoinedItems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} records", self.items.len())
    }
}

impl Reader {
    /// Of the trail in `folder`, which need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, next: (0, 0), joined: JoinedItems::default() }
    }

    /// What the entries that were read so far come to: statements with their outcomes, sessions with their logins, everything else as it is.
    /// A statement without an outcome is given at the end of its session.
    pub fn so_far(&self) -> &[Value] {
        &self.joined.items
    }

    /// Reads what is new.
    ///
    /// Errors: when the trail cannot be read, or has a gap. Another look goes on where this one ended.
    pub fn read(&mut self) -> Result<()> {
        let Self { folder, next, joined } = self;
        read(folder, *next, |entry| {
            ensure!(
                entry.epoch > next.0 && entry.index == 0 || *next == (entry.epoch, entry.index),
                "entry {} of epoch {} follows on {next:?}",
                entry.index,
                entry.epoch
            );
            let items = joined.joined.push(entry.index, &entry.bytes)?;
            joined.items.extend(items.into_iter().map(|item| Value::Object(item.object)));
            *next = (entry.epoch, entry.index + 1);
            Ok(())
        })
    }
}

/// Checks what every trail promises of its sessions: the first entry is its start, numbers have no gap, in the order of the
/// log, and nothing comes behind the end, which says how many there were. Gives the number of sessions. Of a session whose
/// beginning was pruned, the rest is checked.
pub fn check_sessions(entries: &[Entry]) -> Result<usize> {
    let mut sessions: std::collections::BTreeMap<String, (u64, bool)> = Default::default();
    let mut pruned: std::collections::BTreeMap<u64, bool> = Default::default();
    for entry in entries {
        let fields = &entry.fields;
        let pruned = *pruned.entry(entry.epoch).or_insert(entry.index > 0);
        let Some(id) = fields["session"].as_str() else { continue };
        let seq = fields["seq"].as_u64().with_context(|| format!("no seq: {fields}"))?;
        let begins = if pruned { seq } else { 0 };
        let (next, ended) = sessions.entry(id.to_owned()).or_insert((begins, false));
        ensure!(seq == *next && !*ended, "expected seq {next} of a session that goes on: {fields}");
        ensure!((seq == 0) == entry.is("session_start"), "seq 0 is the start: {fields}");
        *next += 1;
        if entry.is("session_end") {
            ensure!(fields["entries"] == *next, "expected {next} entries: {fields}");
            *ended = true;
        }
    }
    Ok(sessions.len())
}
