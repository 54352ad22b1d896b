//! Things that were found as a table: who asked what, and what became of it.
//!
//! Rows are logins with what protects each leg, statements, and in their place what was refused,
//! cancelled or lost. What the agent notes about itself, and the ends of sessions, have rows only when
//! they are asked for by their kind.

use std::io;

use clap::ValueEnum;
use serde_json::Value;

use super::args::Look;
use super::row::Row;
use crate::audit::search::Found;
use crate::audit::view;
use crate::cli::Output;
use crate::cli::table::{Heading, render, render_part};

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Column {
    /// When the statement came, UTC
    Time,
    /// Epoch and index of the entry that completed it: what `show` takes
    Index,
    /// Run of the agent (shortened) and number of the session
    Session,
    /// Process that wrote the statement
    Pid,
    /// Name of its program
    Program,
    /// Path of its program
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

/// Columns when none are named: with them half of a line of 160 characters is left for the statement.
const USUAL: [Column; 10] = [
    Column::Time,
    Column::Session,
    Column::Pid,
    Column::Program,
    Column::Container,
    Column::User,
    Column::Database,
    Column::Statement,
    Column::Rows,
    Column::Duration,
];

/// Of the usual ones, those that are left out where they would be empty.
const OPTIONAL: [Column; 2] = [Column::Container, Column::Rows];

/// Kinds of things that have a row without being asked for.
pub(super) const SHOWN: [&str; 7] =
    ["statement", "session_start", "cancel", "refused", "allowed_unseen", "events_lost", "denied"];

/// Whether something has a row in a table of everything.
pub(super) fn has_row(found: &Found) -> bool {
    let event = found.object.get("event").and_then(Value::as_str);
    event.is_some_and(|event| SHOWN.contains(&event))
}

/// Prints what was found, as it was asked for.
pub(super) fn print(found: &[Found], look: &Look, output: &mut Output<'_>) -> io::Result<()> {
    if look.json {
        return json(found, output);
    }
    if found.is_empty() {
        return writeln!(output.notes, "nothing found");
    }
    let rows: Vec<Row> = found.iter().map(Row::of).collect();
    let mut columns = columns(look);
    if look.columns.is_empty() {
        columns.retain(|column| {
            !OPTIONAL.contains(column) || rows.iter().any(|row| row.cell(*column) != "-")
        });
    }
    let text = render(&headings(&columns), cells(&rows, &columns), width(look, output));
    write!(output.data, "{text}")
}

/// The same in parts, for tables that grow while they are printed.
pub(super) fn print_part(
    found: &[Found],
    look: &Look,
    first: bool,
    output: &mut Output<'_>,
) -> io::Result<()> {
    if look.json {
        json(found, output)?;
    } else if first || !found.is_empty() {
        let columns = columns(look);
        let rows: Vec<Row> = found.iter().map(Row::of).collect();
        let cells = cells(&rows, &columns);
        let text = render_part(&headings(&columns), cells, width(look, output), first);
        write!(output.data, "{text}")?;
    }
    output.data.flush()
}

fn json(found: &[Found], output: &mut Output<'_>) -> io::Result<()> {
    for one in found {
        writeln!(output.data, "{}", line(one))?;
    }
    Ok(())
}

/// Something as one line of JSON, with the place of its last entry in front.
pub(super) fn line(found: &Found) -> String {
    let mut object = view::Object::new();
    object.insert("epoch".to_owned(), found.epoch.into());
    object.insert("index".to_owned(), found.index.into());
    object.extend(found.object.iter().map(|(name, value)| (name.clone(), value.clone())));
    view::line(&Value::Object(object))
}

fn columns(look: &Look) -> Vec<Column> {
    if look.columns.is_empty() { USUAL.to_vec() } else { look.columns.clone() }
}

fn width(look: &Look, output: &Output<'_>) -> Option<u16> {
    look.width.or(output.width).filter(|width| *width > 0)
}

fn headings(columns: &[Column]) -> Vec<Heading> {
    columns.iter().map(|column| column.heading()).collect()
}

fn cells(rows: &[Row], columns: &[Column]) -> Vec<Vec<String>> {
    rows.iter().map(|row| columns.iter().map(|column| row.cell(*column)).collect()).collect()
}

impl Column {
    fn heading(self) -> Heading {
        let (title, right, usual) = match self {
            Self::Time => ("TIME", false, 23),
            Self::Index => ("INDEX", true, 10),
            Self::Session => ("SESSION", false, 9),
            Self::Pid => ("PID", true, 7),
            Self::Program => ("PROGRAM", false, 12),
            Self::Exe => ("EXE", false, 16),
            Self::Uid => ("UID", true, 5),
            Self::Cmdline => ("COMMAND LINE", false, 0),
            Self::Container => ("CONTAINER", false, 12),
            Self::Destination => ("DESTINATION", false, 18),
            Self::Database => ("DATABASE", false, 10),
            Self::User => ("USER", false, 10),
            Self::ClientLeg => ("CLIENT LEG", false, 10),
            Self::ServerLeg => ("SERVER LEG", false, 10),
            Self::Handshake => ("HANDSHAKE", false, 10),
            Self::Statement => ("STATEMENT", false, 0),
            Self::Rows => ("ROWS", true, 11),
            Self::Duration => ("DURATION", true, 10),
            Self::Outcome => ("OUTCOME", false, 10),
            Self::Tier => ("TIER", false, 4),
        };
        Heading { title, right, usual }
    }
}
