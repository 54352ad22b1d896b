//! `pgward audit export`: entries for other programs.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use pgward_verify::merkle::leaf_hash;
use pgward_verify::{Epoch, ReadError};

use super::args::{ExportArgs, Format};
use super::progress::Progress;
use super::read::{Asked, FileError, segments, source};
use super::{show, table};
use crate::audit::export::{Exported, cef, csv_header, csv_row, export_tiles, ocsf};
use crate::audit::search::{Assembler, Found, Query, search};
use crate::audit::view;
use crate::cli::{Exit, Output};

/// Why this can't be exported.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("`--raw` is only for `--format jsonl`")]
    Raw,
    #[error("`tlog-tiles` is a whole log: a session or a time can't be chosen")]
    Filter,
    #[error("`tlog-tiles` needs `--output` with a folder")]
    NoFolder,
    #[error("no epoch {0}")]
    Epoch(u64),
    #[error("there is no epoch yet")]
    Empty,
}

/// Writes entries. A finding when something could not be read.
pub(super) fn run(args: &ExportArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    if args.raw && args.format != Format::Jsonl {
        return output.error(&ExportError::Raw);
    }
    let source = match source(&args.place, output)? {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    let asked = Asked::default()
        .with("format", Some(format!("{:?}", args.format).to_lowercase()))
        .with("output", args.output.as_ref().map(|path| path.display()))
        .with("raw", args.raw.then_some(true))
        .with("epoch", args.epoch)
        .with_moment("since", args.since)
        .with_moment("until", args.until)
        .with("session", args.session.as_ref());
    source.tell("export", &asked, output)?;
    let trail = match source.open(output)? {
        Ok(trail) => trail,
        Err(exit) => return Ok(exit),
    };
    let epochs: Vec<&Epoch> = match args.epoch {
        None => trail.epochs().iter().collect(),
        Some(number) => match trail.epoch(number) {
            Some(epoch) => vec![epoch],
            None => return output.error(&ExportError::Epoch(number)),
        },
    };
    if args.format == Format::TlogTiles {
        let Some(epoch) = epochs.last() else { return output.error(&ExportError::Empty) };
        return tiles(epoch, args, output);
    }
    let Some(path) = &args.output else {
        let Output { data, notes, width } = output;
        let mut failures = Output { data: &mut io::sink(), notes: *notes, width: *width };
        return write(&epochs, args, *data, &mut failures);
    };
    match File::create_new(path).map_err(FileError::new(path, "make")) {
        Err(error) => output.error(&error),
        Ok(file) => {
            let mut file = BufWriter::new(file);
            let exit = write(&epochs, args, &mut file, output)?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            Ok(exit)
        }
    }
}

fn tiles(epoch: &Epoch, args: &ExportArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    if args.session.is_some() || args.since.is_some() || args.until.is_some() {
        return output.error(&ExportError::Filter);
    }
    let Some(folder) = &args.output else { return output.error(&ExportError::NoFolder) };
    let progress = Progress::new("entries exported", None);
    let exported = export_tiles(epoch, folder, |count| progress.add(count));
    drop(progress);
    match exported {
        Ok(entries) => writeln!(output.data, "{entries} entries").map(|()| Exit::Done),
        Err(error) => output.error(&error),
    }
}

fn write(
    epochs: &[&Epoch],
    args: &ExportArgs,
    to: &mut dyn Write,
    output: &mut Output<'_>,
) -> io::Result<Exit> {
    if args.format == Format::Csv {
        to.write_all(csv_header().as_bytes())?;
    }
    let query = Query {
        since: args.since.map(|since| since.0),
        until: args.until.map(|until| until.0),
        session: args.session.clone(),
        ..Query::default()
    };
    let progress = Progress::new("entries read", None);
    let mut damaged = false;
    for epoch in epochs {
        let origin = epoch.origin().unwrap_or_else(|| "unknown".to_owned());
        let mut line = |found: &Found, leaf: Option<[u8; 32]>| {
            let exported = Exported { found, origin: &origin, leaf: leaf.as_ref() };
            match args.format {
                Format::Jsonl => writeln!(to, "{}", table::line(found)),
                Format::Ocsf => writeln!(to, "{}", view::line(&ocsf(&exported))),
                Format::Cef => writeln!(to, "{}", cef(&exported)),
                Format::Csv => to.write_all(csv_row(&exported).as_bytes()),
                Format::TlogTiles => Ok(()),
            }
        };
        damaged |= if args.raw {
            raw(epoch, &query, to, output, &progress)?
        } else if query.session.is_some() {
            of_session(epoch, &query, &mut line, output)?
        } else {
            all(epoch, &query, &mut line, output, &progress)?
        };
    }
    to.flush()?;
    Ok(if damaged { Exit::Finding } else { Exit::Done })
}

type Line<'l> = dyn FnMut(&Found, Option<[u8; 32]>) -> io::Result<()> + 'l;

/// Everything, in one pass.
fn all(
    epoch: &Epoch,
    query: &Query,
    line: &mut Line<'_>,
    output: &mut Output<'_>,
    progress: &Progress,
) -> io::Result<bool> {
    let mut assembler = Assembler::default();
    let mut put = |found: Vec<Found>, index: u64, leaf: Option<[u8; 32]>| {
        for one in found {
            let one = Found { epoch: epoch.number, ..one };
            if query.fits(&one) {
                // A statement without an outcome is given by an entry of something else.
                let own =
                    one.index == index && one.object.get("outcome").is_none_or(|o| o != "unknown");
                line(&one, leaf.filter(|_| own))?;
            }
        }
        Ok::<(), io::Error>(())
    };
    let (mut entries, mut end, mut damaged) = (epoch.entries(), 0, false);
    loop {
        match entries.next() {
            Ok(Some(record)) => {
                end = record.index + 1;
                progress.add(1);
                match assembler.push(record.index, record.bytes) {
                    Ok(found) => put(found, record.index, Some(leaf_hash(record.bytes)))?,
                    Err(_) => damaged = true,
                }
            }
            Ok(None) => break,
            // What is in front was pruned.
            Err(ReadError::Missing { from: 0, .. }) => {}
            Err(error) => {
                damaged = true;
                output.error(&error)?;
            }
        }
    }
    put(assembler.finish(end), u64::MAX, None)?;
    Ok(damaged)
}

/// What an index leads to.
fn of_session(
    epoch: &Epoch,
    query: &Query,
    line: &mut Line<'_>,
    output: &mut Output<'_>,
) -> io::Result<bool> {
    let mut segments = match segments(epoch) {
        Ok(segments) => segments,
        Err(error) => return output.error(&error).map(|_| true),
    };
    let answer = search(&mut segments, query, usize::MAX, |_| {});
    for found in &answer.found {
        let own = found.object.get("outcome").is_none_or(|outcome| outcome != "unknown");
        let entry = segments.entry(found.index).ok().flatten();
        line(found, entry.filter(|_| own).map(|entry| leaf_hash(&entry.bytes)))?;
    }
    super::read::print_unread(&answer.unread, output)
}

/// Entries as they are.
fn raw(
    epoch: &Epoch,
    query: &Query,
    to: &mut dyn Write,
    output: &mut Output<'_>,
    progress: &Progress,
) -> io::Result<bool> {
    let (mut entries, mut damaged) = (epoch.entries(), false);
    loop {
        match entries.next() {
            Ok(Some(record)) => {
                progress.add(1);
                let object = show::raw_object(epoch.number, &record);
                let found =
                    Found { epoch: epoch.number, index: record.index, object, session: None };
                if query.fits(&found) {
                    writeln!(to, "{}", view::line(&serde_json::Value::Object(found.object)))?;
                }
            }
            Ok(None) => return Ok(damaged),
            Err(ReadError::Missing { from: 0, .. }) => {}
            Err(error) => {
                damaged = true;
                output.error(&error)?;
            }
        }
    }
}
