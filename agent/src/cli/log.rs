//! `pgward log`: the query log as a table.
//!
//! A line tells who asked what: logins with what protects each leg, statements, and in their place
//! what was refused, cancelled or lost.
//! What only the start of a session knows (its process, its destination) is remembered for its
//! statements; of sessions that started in an earlier file only what each statement says of its
//! writer is known.

mod entry;
mod source;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use super::table::{Heading, render, render_part};
use super::{Exit, LogArgs, Output, load};
use entry::{Entry, Reader};
use source::Source;

pub(super) use entry::{short_session, short_time};

/// Pause between two looks at a file that is followed.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Column {
    /// When the statement came, UTC
    Time,
    /// Run of the agent (shortened) and number of the session
    Session,
    /// Process that wrote the statement
    Pid,
    /// Its program
    Exe,
    /// Its user
    Uid,
    /// Its command line
    Cmdline,
    /// Its container
    Container,
    /// Address and port it asked for
    Destination,
    /// Database
    Database,
    /// Role in the database
    User,
    /// TLS between application and agent
    ClientLeg,
    /// TLS between agent and server
    ServerLeg,
    /// Who carried out the login
    Handshake,
    /// The statement
    Statement,
    /// Rows it gave, or changed, or the error
    Rows,
    /// How long it took
    Duration,
    /// How it ended
    Outcome,
    /// What told who wrote it
    Tier,
}

/// Columns when none are named.
const USUAL: [Column; 11] = [
    Column::Time,
    Column::Session,
    Column::Pid,
    Column::Exe,
    Column::Uid,
    Column::Cmdline,
    Column::Container,
    Column::Destination,
    Column::Statement,
    Column::Rows,
    Column::Duration,
];

/// Prints the log. A finding when there are lines that are no records.
pub fn run(args: &LogArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let wait = || {
        std::thread::sleep(FOLLOW_EVERY);
        true
    };
    match path(args, output)? {
        Ok(path) => run_at(&path, args, output, wait),
        Err(exit) => Ok(exit),
    }
}

/// As [`run`], on the file at `path`; a file is followed for as long as `wait` says so.
pub(super) fn run_at(
    path: &Path,
    args: &LogArgs,
    output: &mut Output<'_>,
    wait: impl FnMut() -> bool,
) -> io::Result<Exit> {
    let source = match Source::open(path) {
        Ok(source) => source,
        Err(error) => {
            return output.error(&OpenError { path: path.to_owned(), source: error });
        }
    };
    let mut reader = Reader::default();
    if args.json {
        json(source, args, output, &mut reader, wait)?
    } else {
        table(source, args, output, &mut reader, wait)?;
    }
    match reader.unreadable() {
        0 => Ok(Exit::Done),
        1 => writeln!(output.notes, "1 line is no record").map(|()| Exit::Finding),
        lines => writeln!(output.notes, "{lines} lines are no records").map(|()| Exit::Finding),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the query log `{}`", path.display())]
struct OpenError {
    path: PathBuf,
    source: io::Error,
}

fn path(args: &LogArgs, output: &mut Output<'_>) -> io::Result<Result<PathBuf, Exit>> {
    match &args.file {
        Some(file) => Ok(Ok(file.clone())),
        None => Ok(load(output, &args.config)?.map(|config| config.audit.path)),
    }
}

fn table(
    mut source: Source,
    args: &LogArgs,
    output: &mut Output<'_>,
    reader: &mut Reader,
    mut wait: impl FnMut() -> bool,
) -> io::Result<()> {
    let columns = if args.columns.is_empty() { &USUAL[..] } else { &args.columns };
    let headings: Vec<Heading> = columns.iter().map(|column| column.heading()).collect();
    let width = args.width.or(output.width).filter(|width| *width > 0);
    let cells = |entries: VecDeque<Entry>| {
        let row = |entry: &Entry| columns.iter().map(|column| entry.cell(*column)).collect();
        entries.iter().map(row).collect::<Vec<Vec<String>>>()
    };
    let first = last_entries(&mut source, reader, args.rows)?;
    if !args.follow {
        if first.is_empty() {
            return writeln!(output.notes, "no statements");
        }
        return write!(output.data, "{}", render(&headings, cells(first), width));
    }
    write!(output.data, "{}", render_part(&headings, cells(first), width, true))?;
    output.data.flush()?;
    while wait() {
        source.look_again()?;
        let more = last_entries(&mut source, reader, usize::MAX)?;
        if !more.is_empty() {
            write!(output.data, "{}", render_part(&headings, cells(more), width, false))?;
            output.data.flush()?;
        }
    }
    Ok(())
}

/// Reads to the end and keeps the last `rows_max` of what has a row in the table.
fn last_entries(
    source: &mut Source,
    reader: &mut Reader,
    rows_max: usize,
) -> io::Result<VecDeque<Entry>> {
    let mut entries = VecDeque::new();
    while let Some(line) = source.line()? {
        if let Some(entry) = reader.read(line) {
            if entries.len() == rows_max {
                entries.pop_front();
            }
            if rows_max > 0 {
                entries.push_back(entry);
            }
        }
    }
    Ok(entries)
}

fn json(
    mut source: Source,
    args: &LogArgs,
    output: &mut Output<'_>,
    reader: &mut Reader,
    mut wait: impl FnMut() -> bool,
) -> io::Result<()> {
    let mut last: VecDeque<Vec<u8>> = VecDeque::new();
    while let Some(line) = source.line()? {
        if reader.is_record(line) && args.rows > 0 {
            if last.len() == args.rows {
                last.pop_front();
            }
            last.push_back(line.to_owned());
        }
    }
    for line in last {
        output.data.write_all(&line)?;
    }
    output.data.flush()?;
    while args.follow && wait() {
        source.look_again()?;
        while let Some(line) = source.line()? {
            if reader.is_record(line) {
                output.data.write_all(line)?;
            }
        }
        output.data.flush()?;
    }
    Ok(())
}

impl Column {
    fn heading(self) -> Heading {
        let (title, right, usual) = match self {
            Self::Time => ("TIME", false, 23),
            Self::Session => ("SESSION", false, 10),
            Self::Pid => ("PID", true, 7),
            Self::Exe => ("EXE", false, 16),
            Self::Uid => ("UID", true, 5),
            Self::Cmdline => ("COMMAND LINE", false, 0),
            Self::Container => ("CONTAINER", false, 12),
            Self::Destination => ("DESTINATION", false, 18),
            Self::Database => ("DATABASE", false, 12),
            Self::User => ("USER", false, 12),
            Self::ClientLeg => ("CLIENT LEG", false, 10),
            Self::ServerLeg => ("SERVER LEG", false, 10),
            Self::Handshake => ("HANDSHAKE", false, 10),
            Self::Statement => ("STATEMENT", false, 0),
            Self::Rows => ("ROWS", true, 11),
            Self::Duration => ("DURATION", true, 11),
            Self::Outcome => ("OUTCOME", false, 10),
            Self::Tier => ("TIER", false, 4),
        };
        Heading { title, right, usual }
    }
}
