//! `pgward audit show`: everything about an entry or a session.

use std::io;

use pgward_verify::merkle::leaf_hash;
use pgward_verify::{Epoch, Record, Trail};
use serde_json::Value;

use super::args::{Look, ShowArgs};
use super::disclose::{self, Sealed};
use super::read::{Asked, print_unread, segments, source};
use super::table::{self, Column};
use crate::audit::search::{Found, Query, Session, search};
use crate::audit::view::{self, Object};
use crate::cli::table::{printable, render_pairs};
use crate::cli::{Exit, Output};

/// Most rows of a session that are shown; all of them are in JSON.
const ROWS_MAX: usize = 100_000;

/// What is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Entry {
        epoch: Option<u64>,
        index: u64,
    },
    Session(Session),
    /// What is told of a decision: a session, and the number of an entry in it.
    Decision {
        session: Session,
        seq: u64,
    },
}

/// Nothing of that name is there.
#[derive(Debug, thiserror::Error)]
enum NotThere {
    #[error("no entry {index} in epoch {epoch}")]
    Entry { epoch: u64, index: u64 },
    #[error("no epoch {0}")]
    Epoch(u64),
    #[error("no entry {seq} in session `{session}`")]
    Decision { session: Session, seq: u64 },
    #[error("no session `{0}`")]
    Session(Session),
    #[error("several sessions begin like this: {}", .0.join(", "))]
    Several(Vec<String>),
    #[error("{0}")]
    Id(String),
    #[error("values are only disclosed when that is recorded\nhint: start the agent of this trail")]
    Unrecorded,
    #[error("cannot show entry {index}")]
    View { index: u64, source: view::ViewError },
}

/// Shows what is named. A finding when it is not there.
pub(super) fn run(args: &ShowArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let what = match parse(&args.id) {
        Ok(what) => what,
        Err(error) => return output.error(&NotThere::Id(error)),
    };
    let source = match source(&args.place, output)? {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    let asked = Asked::default().with("id", Some(&args.id)).with("disclose", Some(args.disclose));
    let recorded = source.tell("show", &asked, output)?;
    if args.disclose && !recorded {
        return output.error(&NotThere::Unrecorded);
    }
    let trail = match source.open(output)? {
        Ok(trail) => trail,
        Err(exit) => return Ok(exit),
    };
    match what {
        What::Entry { epoch, index } => entry(&trail, epoch, index, args, output),
        What::Session(wanted) => session(&trail, &wanted, args, output),
        What::Decision { session, seq } => decision(&trail, session, seq, args, output),
    }
}

/// An index (`12`, `2:12`) or a session. Before a colon, four digits or more are the beginning of a
/// session, fewer are an epoch.
fn parse(text: &str) -> Result<What, String> {
    let number =
        |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    if let Some((session, seq)) = text.split_once('/') {
        let seq = number(seq).ok_or_else(|| format!("`{seq}` is no number of an entry"))?;
        return session.parse().map(|session| What::Decision { session, seq });
    }
    match text.split_once(':') {
        None if text.len() < 32 && number(text).is_some() => {
            Ok(What::Entry { epoch: None, index: number(text).unwrap_or_default() })
        }
        Some((epoch, index)) if epoch.len() < 4 => match (number(epoch), number(index)) {
            (Some(epoch), Some(index)) => Ok(What::Entry { epoch: Some(epoch), index }),
            (_, _) => text.parse().map(What::Session),
        },
        None | Some(_) => text.parse().map(What::Session),
    }
}

fn entry(
    trail: &Trail,
    epoch: Option<u64>,
    index: u64,
    args: &ShowArgs,
    output: &mut Output<'_>,
) -> io::Result<Exit> {
    let found = match epoch {
        Some(number) => trail.epoch(number),
        None => trail.newest(),
    };
    let Some(epoch) = found else { return missing(&NotThere::Epoch(epoch.unwrap_or(1)), output) };
    let mut entries = epoch.entries();
    let record = match entries.get(index) {
        Ok(Some(record)) => record,
        Ok(None) => return missing(&NotThere::Entry { epoch: epoch.number, index }, output),
        Err(error) => return output.error(&error),
    };
    let object = match view::object(record.bytes) {
        Ok(object) => object,
        Err(source) => return output.error(&NotThere::View { index, source }),
    };
    let facts = proof_facts(epoch, &record);
    if args.json {
        let mut all = facts;
        all.extend(object);
        writeln!(output.data, "{}", view::line(&Value::Object(all)))?;
    } else {
        write!(output.data, "{}", pairs(&facts, output.width))?;
        writeln!(output.data)?;
        write!(output.data, "{}", pairs(&object, output.width))?;
    }
    if args.disclose {
        return disclose::entries(trail.directory(), &sealed(&record), args.json, output);
    }
    Ok(Exit::Done)
}

/// A session, and where its entries are.
struct Located {
    epoch: Epoch,
    segments: crate::audit::search::Segments,
    /// Indices of its entries.
    places: Vec<u64>,
}

/// Finds a session; what is printed when there is none, or several are meant.
fn locate(
    trail: &Trail,
    wanted: &Session,
    output: &mut Output<'_>,
) -> io::Result<Result<Located, Exit>> {
    let mut all = Vec::new();
    for epoch in trail.epochs() {
        let mut segments = match segments(epoch) {
            Ok(segments) => segments,
            Err(error) => return output.error(&error).map(Err),
        };
        let ids = match segments.sessions_where(|id| wanted.fits(id)) {
            Ok(ids) => ids,
            Err(error) => return output.error(&error).map(Err),
        };
        all.extend(ids.into_iter().map(|id| (epoch.clone(), id)));
    }
    let (epoch, id) = match &all[..] {
        [] => return missing(&NotThere::Session(wanted.clone()), output).map(Err),
        [one] => one,
        several => {
            let ids = several.iter().take(10).map(|(_, id)| hex::encode(id)).collect();
            return missing(&NotThere::Several(ids), output).map(Err);
        }
    };
    let mut segments = match segments(epoch) {
        Ok(segments) => segments,
        Err(error) => return output.error(&error).map(Err),
    };
    match segments.entries_of_session(id) {
        Ok(places) => Ok(Ok(Located { epoch: epoch.clone(), segments, places })),
        Err(error) => output.error(&error).map(Err),
    }
}

/// The entry that a refusal names.
fn decision(
    trail: &Trail,
    wanted: Session,
    seq: u64,
    args: &ShowArgs,
    output: &mut Output<'_>,
) -> io::Result<Exit> {
    let located = match locate(trail, &wanted, output)? {
        Ok(located) => located,
        Err(exit) => return Ok(exit),
    };
    let mut entries = located.epoch.entries();
    for index in located.places {
        let is_it = match entries.get(index) {
            Ok(Some(record)) => {
                let object = view::object(record.bytes).unwrap_or_default();
                object.get("seq").and_then(Value::as_u64) == Some(seq)
            }
            Ok(None) => false,
            Err(error) => return output.error(&error),
        };
        if is_it {
            return entry(trail, Some(located.epoch.number), index, args, output);
        }
    }
    missing(&NotThere::Decision { session: wanted, seq }, output)
}

fn session(
    trail: &Trail,
    wanted: &Session,
    args: &ShowArgs,
    output: &mut Output<'_>,
) -> io::Result<Exit> {
    let located = match locate(trail, wanted, output)? {
        Ok(located) => located,
        Err(exit) => return Ok(exit),
    };
    let Located { epoch, mut segments, places } = located;
    let epoch = &epoch;
    if args.json || args.disclose {
        let mut entries = epoch.entries();
        let mut kept = Vec::new();
        for index in &places {
            let record = match entries.get(*index) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) => return output.error(&error),
            };
            if args.json {
                let mut object = proof_facts(epoch, &record);
                object.extend(view::object(record.bytes).unwrap_or_default());
                writeln!(output.data, "{}", view::line(&Value::Object(object)))?;
            }
            if args.disclose {
                kept.append(&mut sealed(&record));
            }
        }
        if args.json {
            return match args.disclose {
                true => disclose::entries(trail.directory(), &kept, true, output),
                false => Ok(Exit::Done),
            };
        }
        print_session(&mut segments, wanted, &places, epoch, output)?;
        return disclose::entries(trail.directory(), &kept, false, output);
    }
    print_session(&mut segments, wanted, &places, epoch, output)
}

fn print_session(
    segments: &mut crate::audit::search::Segments,
    wanted: &Session,
    places: &[u64],
    epoch: &Epoch,
    output: &mut Output<'_>,
) -> io::Result<Exit> {
    let query = Query { session: Some(wanted.clone()), ..Query::default() };
    let answer = search(segments, &query, ROWS_MAX, |_| {});
    let damaged = print_unread(&answer.unread, output)?;
    let mut facts = Object::new();
    facts.insert("origin".to_owned(), epoch.origin().into());
    facts.insert("epoch".to_owned(), epoch.number.into());
    if let (Some(first), Some(last)) = (places.first(), places.last()) {
        facts.insert("first_index".to_owned(), (*first).into());
        facts.insert("last_index".to_owned(), (*last).into());
        facts.insert("entries".to_owned(), places.len().into());
    }
    let of = |event: &str| {
        answer
            .found
            .iter()
            .find(|found| found.object.get("event").is_some_and(|name| name == event))
    };
    write!(output.data, "{}", pairs(&facts, output.width))?;
    for one in [of("session_start"), of("session_end")].into_iter().flatten() {
        writeln!(output.data)?;
        write!(output.data, "{}", pairs(&one.object, output.width))?;
    }
    writeln!(output.data)?;
    let rows: Vec<Found> = answer.found.into_iter().filter(table::has_row).collect();
    let columns = [
        Column::Index,
        Column::Time,
        Column::Pid,
        Column::Program,
        Column::Statement,
        Column::Rows,
        Column::Duration,
    ];
    let look = Look { json: false, columns: columns.to_vec(), width: None };
    table::print(&rows, &look, output)?;
    Ok(if damaged { Exit::Finding } else { Exit::Done })
}

fn missing(error: &NotThere, output: &mut Output<'_>) -> io::Result<Exit> {
    output.error(error)?;
    Ok(Exit::Finding)
}

/// An entry with what is held beside it, if there is something.
fn sealed(record: &Record<'_>) -> Vec<Sealed> {
    let with = |values: &[u8]| Sealed {
        index: record.index,
        entry: record.bytes.to_vec(),
        values: values.to_vec(),
    };
    record.values.map(with).into_iter().collect()
}

/// What a proof of an entry is about: its number, its hash, and where it lies.
fn proof_facts(epoch: &Epoch, record: &Record<'_>) -> Object {
    let mut facts = Object::new();
    facts.insert("origin".to_owned(), epoch.origin().into());
    facts.insert("epoch".to_owned(), epoch.number.into());
    facts.insert("index".to_owned(), record.index.into());
    facts.insert("leaf".to_owned(), hex::encode(leaf_hash(record.bytes)).into());
    facts.insert("file".to_owned(), record.place.file.display().to_string().into());
    facts.insert("offset".to_owned(), record.place.offset.into());
    facts.insert("length".to_owned(), record.place.length.into());
    facts.extend(record.place.within.map(|within| ("within".to_owned(), within.into())));
    facts
}

/// An entry as it is, with its number and its hash.
pub(super) fn raw_object(epoch: u64, record: &Record<'_>) -> Object {
    let mut object = Object::new();
    object.insert("epoch".to_owned(), epoch.into());
    object.insert("index".to_owned(), record.index.into());
    object.insert("leaf".to_owned(), hex::encode(leaf_hash(record.bytes)).into());
    // What is no entry has no fields: its hash is all there is to say.
    object.extend(view::object(record.bytes).unwrap_or_default());
    object
}

/// Names and values, one a line; names of what is inside of something with its name in front.
fn pairs(object: &Object, width: Option<u16>) -> String {
    let mut flat = Vec::new();
    flatten("", object, &mut flat);
    let pairs: Vec<(&str, String)> =
        flat.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    render_pairs(&pairs, width)
}

fn flatten(prefix: &str, object: &Object, flat: &mut Vec<(String, String)>) {
    for (name, value) in object {
        let name = format!("{prefix}{}", printable(name));
        match value {
            Value::Object(inner) => flatten(&format!("{name}."), inner, flat),
            Value::String(text) => flat.push((name, printable(text))),
            Value::Array(items) if items.iter().all(Value::is_string) => {
                let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                flat.push((name, printable(&texts.join(" "))));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                flat.push((name, printable(&value.to_string())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_entries_or_of_sessions() {
        let entry = |epoch, index| Ok(What::Entry { epoch, index });
        let session = |text: &str| Ok(What::Session(text.parse().expect("a session")));
        let decided = "feed000000000001000000000000002a";
        assert_eq!(
            parse(&format!("{decided}/17")),
            Ok(What::Decision { session: decided.parse().expect("a session"), seq: 17 })
        );
        assert!(parse(&format!("{decided}/x")).is_err());
        assert_eq!(parse("12"), entry(None, 12));
        assert_eq!(parse("2:12"), entry(Some(2), 12));
        assert_eq!(parse("feed:12"), session("feed:12"));
        assert_eq!(parse("1234:12"), session("1234:12"));
        assert_eq!(parse("feed"), session("feed"));
        let digits = "0".repeat(31) + "1";
        assert_eq!(parse(&digits), session(&digits));
        for bad in ["", ":", "x", "1:x", "-1", "+1", "feedfeedfeedfeedf:1", &"0".repeat(33)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
