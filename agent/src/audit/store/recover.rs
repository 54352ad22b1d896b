//! What a start finds of the run before, and what it does about it.
//!
//! Only the newest segment is looked at: each one before was finished, or abandoned at a size that
//! the next one names. Nothing is cut off, and nothing is appended to a file of an earlier run: a
//! new segment begins where the good part ends. Of a segment that was not finished the last batch
//! is written again at the beginning of the new one. It may be there only in the memory of the
//! kernel, which forgets pages that it could not write; every batch before it was durable before
//! the next was written.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use super::disk::{Disk, DiskFile, UNFINISHED, read_full, write_all};
use super::names::{self, Form};
use super::pack;
use super::scan::{Damage, Mark, Scan, Tail, scan};
use crate::audit::chain::{Hash, Tree};

/// Most files with bytes that were put aside.
const ASIDE_MAX: u32 = 10_000;
/// Bytes copied at once.
const COPY_BYTES: u64 = 64 << 10;

/// Bytes of a batch whose writing was cut off. They were put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// How many.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: Hash,
    /// Name of the file in the epoch's folder that holds them now.
    pub file: String,
}

/// What was durable was changed: this epoch must not be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Name of the file in the epoch's folder. It is left as it is.
    pub file: String,
    /// Where in it, and what is wrong.
    pub damage: Damage,
}

/// What was found of an epoch.
#[derive(Debug)]
pub(super) struct Recovered<D> {
    pub(super) disk: Arc<D>,
    pub(super) origin: String,
    /// The tree at the end of what is good.
    pub(super) tree: Tree,
    /// The newest segment was not finished: the run before did not end well.
    pub(super) crashed: bool,
    pub(super) torn: Option<TornTail>,
    pub(super) corrupt: Option<Corrupt>,
    /// Where the next segment begins.
    pub(super) start: Start,
}

/// How the next segment begins.
#[derive(Debug)]
pub(super) struct Start {
    /// The tree before its first entry.
    pub(super) tree: Tree,
    /// Number of its first trailer.
    pub(super) next_trailer: u64,
    /// Frames of one whole batch that are written again, or nothing.
    pub(super) again: Vec<u8>,
}

/// Looks at an epoch. Puts a torn tail aside and removes files whose making was cut off; changes
/// nothing else.
pub(super) fn recover<D: Disk>(disk: Arc<D>, origin: &str) -> io::Result<Recovered<D>> {
    let mut segments = Vec::new();
    for (name, _) in disk.list()? {
        if name.ends_with(UNFINISHED) {
            disk.remove(&name)?;
        }
        segments.extend(names::parse(&name).filter(|(_, form)| *form != Form::Values));
    }
    // Of one that is there in both forms the raw one counts: the other may be damaged.
    segments.sort_unstable_by_key(|(first, form)| (*first, *form != Form::Raw));
    segments.dedup_by_key(|(first, _)| *first);
    let fresh = Start { tree: Tree::new(), next_trailer: 0, again: Vec::new() };
    let mut recovered = Recovered {
        disk,
        origin: origin.to_owned(),
        tree: Tree::new(),
        crashed: false,
        torn: None,
        corrupt: None,
        start: fresh,
    };
    let Some((first, form)) = segments.pop() else { return Ok(recovered) };
    let name = names::segment(first, form);
    let damage = match form {
        Form::Raw => recovered.take_raw(first, &name)?,
        // A segment is packed only when the next one is durable.
        Form::Pack | Form::Values => {
            Some(Damage { offset: 0, found: "the newest segment is packed: those behind are gone" })
        }
    };
    if let Some(damage) = damage {
        recovered.corrupt = Some(Corrupt { file: name, damage });
        recovered.crashed = true;
    }
    Ok(recovered)
}

impl<D: Disk> Recovered<D> {
    fn take_raw(&mut self, first: u64, name: &str) -> io::Result<Option<Damage>> {
        let file = self.disk.open(name)?;
        let scan = match scan(&file, &self.origin, None, |_| Ok(()))? {
            Ok(scan) if scan.header.first == first => scan,
            Ok(_) => return Ok(Some(Damage { offset: 16, found: "header of another segment" })),
            Err(damage) => return Ok(Some(damage)),
        };
        self.tree = scan.last.tree.clone();
        match scan.tail {
            Tail::Zeros => {}
            Tail::Torn { from, to } => self.torn = Some(self.put_aside(&file, from, to)?),
            Tail::Damaged(damage) => return Ok(Some(damage)),
        }
        self.crashed = !scan.finished;
        self.start = start(&file, scan)?;
        Ok(None)
    }

    /// Copies what a torn batch left to a file of its own.
    fn put_aside(&self, file: &D::File, from: u64, to: u64) -> io::Result<TornTail> {
        let taken: Vec<String> = self.disk.list()?.into_iter().map(|(name, _)| name).collect();
        let name = (0..ASIDE_MAX)
            .map(|number| format!("recovered-{number}"))
            .find(|name| !taken.contains(name))
            .ok_or_else(|| io::Error::other("too many files `recovered-…`"))?;
        let unfinished = format!("{name}{UNFINISHED}");
        let copy = self.disk.create(&unfinished)?;
        let mut digest = Context::new(&SHA256);
        let mut buffer = Vec::new();
        let mut at = from;
        while at < to {
            buffer.resize((to - at).min(COPY_BYTES) as usize, 0);
            let read = read_full(file, &mut buffer, at)?;
            if read < buffer.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            digest.update(&buffer);
            write_all(&copy, &buffer, at - from)?;
            at += read as u64;
        }
        copy.sync()?;
        self.disk.rename(&unfinished, &name)?;
        self.disk.sync()?;
        let sha256 = digest.finish().as_ref().try_into().expect("a SHA-256 has 32 bytes");
        Ok(TornTail { bytes: to - from, sha256, file: name })
    }

    /// Tells the hash of each leaf from `from` on, in order, without a gap.
    ///
    /// Errors: `NotFound` when the segment that holds `from` is gone, `InvalidData` for one that
    /// is damaged.
    pub(super) fn leaves(&self, from: u64, mut each: impl FnMut(u64, Hash)) -> io::Result<()> {
        let mut segments: Vec<_> =
            self.disk.list()?.iter().filter_map(|(name, _)| names::parse(name)).collect();
        segments.retain(|(_, form)| *form != Form::Values);
        segments.sort_unstable_by_key(|(first, form)| (*first, *form != Form::Raw));
        segments.dedup_by_key(|(first, _)| *first);
        let begin = segments.partition_point(|(first, _)| *first <= from).saturating_sub(1);
        let mut next = from;
        for at in begin..segments.len() {
            let (first, form) = segments[at];
            if next >= self.tree.size() {
                break;
            }
            if first > next {
                return Err(io::ErrorKind::NotFound.into());
            }
            let end = segments.get(at + 1).map_or(self.tree.size(), |(first, _)| *first);
            let mut take = |index: u64, leaf: Hash| {
                if index == next && index < end {
                    each(index, leaf);
                    next += 1;
                }
            };
            let file = self.disk.open(&names::segment(first, form))?;
            match form {
                Form::Raw => pack::raw_leaves(&file, &self.origin, &mut take)?,
                Form::Pack | Form::Values => pack::leaves(&file, &self.origin, &mut take)?,
            }
            if next < end {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("entries missing: found {next} as the last, expected {end}"),
                ));
            }
        }
        let complete = next >= self.tree.size();
        complete.then_some(()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// How the segment behind `scan` begins.
fn start(file: &impl DiskFile, scan: Scan) -> io::Result<Start> {
    let Scan { last, before, finished, .. } = scan;
    match before {
        Some(before) if !finished => {
            let mut again = vec![0; (last.offset - before.offset) as usize];
            if read_full(file, &mut again, before.offset)? < again.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Mark { tree, next_trailer, .. } = before;
            Ok(Start { tree, next_trailer, again })
        }
        Some(_) | None => {
            let Mark { tree, next_trailer, .. } = last;
            Ok(Start { tree, next_trailer, again: Vec::new() })
        }
    }
}
