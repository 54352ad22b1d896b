//! `pgward audit tail` and `pgward audit search`: rows of what was recorded.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use pgward_verify::{Entry, Epoch, ReadError, Record, Trail};
use serde_json::Value;

use super::args::{Filter, SearchArgs, TailArgs};
use super::progress::Progress;
use super::read::{Asked, Source, is_missing, print_unread, segments, source};
use super::table::{SHOWN, has_row, print, print_part};
use crate::audit::search::{Answer, Assembler, Found, Query, Segments, context, search as find};
use crate::audit::view;
use crate::cli::{Exit, Output};

/// Pause between two looks at a trail that is followed.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
/// A file that was changed less than this ago may be changed again without its time telling.
const CLOCK_GRAIN: Duration = Duration::from_secs(1);
/// Entries of a full segment.
const SEGMENT_ENTRIES: usize = 1 << 16;

/// Prints the last rows, and what comes. A finding when something could not be read.
pub(super) fn tail(args: &TailArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let wait = || {
        std::thread::sleep(FOLLOW_EVERY);
        true
    };
    tail_while(args, output, wait)
}

/// As [`tail`]; the trail is followed for as long as `wait` says so.
pub(in crate::cli) fn tail_while(
    args: &TailArgs,
    output: &mut Output<'_>,
    wait: impl FnMut() -> bool,
) -> io::Result<Exit> {
    let source = match source(&args.place, output)? {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    let asked = Asked::default()
        .with("rows", Some(args.rows))
        .with("follow", Some(args.follow))
        .with("raw", args.raw.then_some(true));
    source.tell("tail", &asked, output)?;
    let trail = match source.open(output)? {
        Ok(trail) => trail,
        Err(exit) => return Ok(exit),
    };
    let rows = usize::try_from(args.rows).unwrap_or(usize::MAX);
    if args.raw {
        raw(&source, &trail, args.follow, rows, output, wait)
    } else {
        joined(&source, &trail, args, rows, output, wait)
    }
}

/// Prints the newest rows that fit. A finding when something could not be read.
pub(super) fn search(args: &SearchArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let source = match source(&args.place, output)? {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    source.tell("search", &asked(&args.filter), output)?;
    let trail = match source.open(output)? {
        Ok(trail) => trail,
        Err(exit) => return Ok(exit),
    };
    let mut query = args.filter.query();
    if query.events.is_empty() && !args.look.json {
        query.events = shown();
    }
    let rows = usize::try_from(args.rows).unwrap_or(usize::MAX);
    let all = newest(&trail, &query, rows);
    if all.without_index > 0 {
        writeln!(
            output.notes,
            "{} finished segments have no search index, and were read whole; hint: pgward audit reindex",
            all.without_index
        )?;
    }
    let damaged = print_unread(&all.answer.unread, output)?;
    print(&all.answer.found, &args.look, output)?;
    Ok(if damaged { Exit::Finding } else { Exit::Done })
}

/// What a filter says, as it is recorded.
fn asked(filter: &Filter) -> Asked {
    Asked::default()
        .with_moment("since", filter.since)
        .with_moment("until", filter.until)
        .with("session", filter.session.as_ref())
        .with("user", filter.user.as_ref())
        .with("database", filter.database.as_ref())
        .with("process", filter.process.as_ref())
        .with("container", filter.container.as_ref())
        .with("relation", filter.relation.as_ref())
        .with("sqlstate", filter.sqlstate.as_ref())
        .with("text", filter.text.as_ref())
        .with("event", filter.event.as_ref())
}

fn shown() -> Vec<String> {
    SHOWN.map(str::to_owned).to_vec()
}

/// What was found in all epochs, and the segments of the newest.
struct All {
    answer: Answer,
    newest: Option<Segments>,
    without_index: usize,
}

/// The newest `rows` of all epochs.
fn newest(trail: &Trail, query: &Query, rows: usize) -> All {
    let mut all = All { answer: Answer::default(), newest: None, without_index: 0 };
    for epoch in trail.epochs().iter().rev() {
        let left = rows.saturating_sub(all.answer.found.len());
        if left == 0 && all.newest.is_some() {
            break;
        }
        let mut segments = match segments(epoch) {
            Ok(segments) => segments,
            Err(error) => {
                all.answer.unread.push(error);
                continue;
            }
        };
        all.without_index += segments.without_index();
        let progress = Progress::new("segments searched", Some(segments.len() as u64));
        let mut answer = find(&mut segments, query, left, |count| progress.add(count));
        drop(progress);
        answer.found.append(&mut all.answer.found);
        all.answer.found = answer.found;
        all.answer.unread.append(&mut answer.unread);
        if all.newest.is_none() {
            all.answer.end = answer.end;
            all.newest = Some(segments);
        }
    }
    all
}

fn joined(
    source: &Source,
    trail: &Trail,
    args: &TailArgs,
    rows: usize,
    output: &mut Output<'_>,
    mut wait: impl FnMut() -> bool,
) -> io::Result<Exit> {
    let events = if args.look.json { Vec::new() } else { shown() };
    let query = Query { events, ..Query::default() };
    let All { answer, newest: first, .. } = newest(trail, &query, rows);
    let damaged = print_unread(&answer.unread, output)?;
    if !args.follow {
        print(&answer.found, &args.look, output)?;
        return Ok(if damaged { Exit::Finding } else { Exit::Done });
    }
    print_part(&answer.found, &args.look, true, output)?;
    let epoch = trail.newest().map_or(0, |epoch| epoch.number);
    let mut live = Live {
        next: Next { epoch, index: answer.end, seen: None },
        assembler: Assembler::default(),
        first,
    };
    while wait() {
        let mut found = live.more(source, output)?;
        if !args.look.json {
            found.retain(has_row);
        }
        print_part(&found, &args.look, false, output)?;
    }
    Ok(if damaged { Exit::Finding } else { Exit::Done })
}

/// The next entry that was not seen yet.
struct Next {
    epoch: u64,
    index: u64,
    /// Name and time of the last segment when it was read.
    seen: Option<(u64, SystemTime)>,
}

/// A trail that is followed.
struct Live {
    next: Next,
    assembler: Assembler,
    /// What was there in the beginning, for sessions that began before.
    first: Option<Segments>,
}

impl Live {
    fn more(&mut self, source: &Source, output: &mut Output<'_>) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        let Self { next, assembler, first } = self;
        let mut put = |begins: bool, epoch: u64, record: &Record<'_>| {
            if begins {
                *assembler = Assembler::default();
                *first = None;
            }
            if let Some(first) = first {
                recall(first, assembler, record.bytes);
            }
            // Entries that are none are for the verifier to tell.
            for one in assembler.push(record.index, record.bytes).unwrap_or_default() {
                found.push(Found { epoch, ..one });
            }
        };
        next.read(source, output, &mut put)?;
        Ok(found)
    }
}

/// Reads what is known of the session of an entry, if it began before the trail was followed.
fn recall(first: &mut Segments, assembler: &mut Assembler, bytes: &[u8]) {
    let Ok(entry) = Entry::decode(bytes) else { return };
    let (Some(id), Some(last)) = (entry.session(), first.len().checked_sub(1)) else { return };
    if entry.seq() == Some(0) || assembler.knows(&hex::encode(id)) {
        return;
    }
    for (index, bytes) in context(first, last, id).unwrap_or_default() {
        // What it gives was shown already.
        let _ = assembler.push(index, &bytes);
    }
}

impl Next {
    /// Gives `put` each entry that came since, and whether an epoch begins with it.
    fn read(
        &mut self,
        source: &Source,
        output: &mut Output<'_>,
        put: &mut impl FnMut(bool, u64, &Record<'_>),
    ) -> io::Result<()> {
        let trail = match Trail::open(&source.directory) {
            Ok(trail) => trail,
            Err(error) => return output.error(&error).map(drop),
        };
        let from = self.epoch;
        for epoch in trail.epochs().iter().filter(|epoch| epoch.number >= from) {
            let mut begins = epoch.number > self.epoch;
            if begins {
                (self.epoch, self.index) = (epoch.number, 0);
            } else if !self.changed(epoch) {
                continue;
            }
            let mut entries = epoch.entries_from(self.index);
            loop {
                match entries.next() {
                    Ok(Some(record)) => {
                        put(begins, epoch.number, &record);
                        begins = false;
                        self.index = record.index + 1;
                    }
                    Ok(None) => break,
                    // What was pruned or is damaged is passed over.
                    Err(ReadError::Missing { to, .. }) => self.index = to,
                    Err(error) => {
                        output.error(&error)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether an epoch may have grown since it was read last.
    fn changed(&mut self, epoch: &Epoch) -> bool {
        let Some(last) = epoch.pieces().last() else { return false };
        let form = if last.log { "log" } else { "pack" };
        let time = fs::metadata(epoch.file(last.first, form)).and_then(|file| file.modified());
        let Ok(time) = time else { return true };
        let young = time.elapsed().map_or(true, |age| age < CLOCK_GRAIN);
        let same = self.seen == Some((last.first, time));
        self.seen = Some((last.first, time));
        young || !same
    }
}

fn raw(
    source: &Source,
    trail: &Trail,
    follow: bool,
    rows: usize,
    output: &mut Output<'_>,
    mut wait: impl FnMut() -> bool,
) -> io::Result<Exit> {
    let mut damaged = false;
    let mut next = Next { epoch: 0, index: 0, seen: None };
    let mut last: VecDeque<String> = VecDeque::new();
    for epoch in trail.epochs().iter().rev() {
        let left = rows - last.len();
        if left == 0 && next.epoch > 0 {
            break;
        }
        let (lines, end, bad) = last_entries(epoch, left, output)?;
        damaged |= bad;
        lines.into_iter().rev().for_each(|line| last.push_front(line));
        if next.epoch == 0 {
            next = Next { epoch: epoch.number, index: end, seen: None };
        }
    }
    for line in last {
        writeln!(output.data, "{line}")?;
    }
    output.data.flush()?;
    while follow && wait() {
        let mut lines = Vec::new();
        next.read(source, output, &mut |_, epoch, record| lines.push(raw_line(epoch, record)))?;
        for line in lines {
            writeln!(output.data, "{line}")?;
        }
        output.data.flush()?;
    }
    Ok(if damaged { Exit::Finding } else { Exit::Done })
}

/// The last `rows` entries of an epoch, the index behind them, and whether something is damaged.
fn last_entries(
    epoch: &Epoch,
    rows: usize,
    output: &mut Output<'_>,
) -> io::Result<(VecDeque<String>, u64, bool)> {
    let pieces = epoch.pieces();
    // Segments may be shorter than full: one more than would hold so many.
    let mut from = pieces.len().saturating_sub(rows.div_ceil(SEGMENT_ENTRIES) + 1);
    loop {
        let mut last: VecDeque<String> = VecDeque::new();
        let (mut end, mut damaged) = (0, false);
        let mut entries = epoch.entries_from(pieces.get(from).map_or(0, |piece| piece.first));
        loop {
            match entries.next() {
                Ok(Some(record)) => {
                    end = record.index + 1;
                    if last.len() == rows {
                        last.pop_front();
                    }
                    if rows > 0 {
                        last.push_back(raw_line(epoch.number, &record));
                    }
                }
                Ok(None) => break,
                Err(error) if is_missing(&error) => {}
                Err(error) => {
                    damaged = true;
                    output.error(&error)?;
                }
            }
        }
        if last.len() >= rows || from == 0 {
            return Ok((last, end, damaged));
        }
        from = from.saturating_sub((rows - last.len()).div_ceil(SEGMENT_ENTRIES));
    }
}

/// An entry as it is.
pub(super) fn raw_line(epoch: u64, record: &Record<'_>) -> String {
    view::line(&Value::Object(super::show::raw_object(epoch, record)))
}
