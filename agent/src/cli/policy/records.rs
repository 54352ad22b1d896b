//! Statements of a trail, with who asked.

use std::io;

use pgward_verify::{Epoch, ReadError, Trail};
use serde_json::Value;

use crate::audit::search::{Assembler, Found, Query, time};
use crate::audit::view::Object;
use crate::cli::Output;
use crate::policy::{Container, Subject, WallTime};

/// Fields that are there when the text is not the one that was sent.
const NOT_WHOLE: [&str; 4] = ["text_bytes", "text_commitment", "text_hash", "text_never"];

/// One recorded statement.
pub(super) struct Recorded {
    /// Who asked.
    pub(super) who: Subject,
    /// Its text, in clear, without what must not be stored.
    pub(super) text: String,
    /// The text is as it was sent, and not a part of it or one without its literals.
    pub(super) whole: bool,
    /// When it ended.
    pub(super) at: WallTime,
}

/// How reading went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Statements of which no text is held in clear.
    pub(super) without_text: u64,
    /// Something could not be read.
    pub(super) damaged: bool,
}

/// Gives each statement of `trail` that `query` is about.
pub(super) fn each(
    trail: &Trail,
    query: &Query,
    output: &mut Output<'_>,
    give: &mut dyn FnMut(Recorded),
) -> io::Result<Reading> {
    let mut reading = Reading::default();
    for epoch in trail.epochs() {
        each_of(epoch, query, output, &mut reading, give)?;
    }
    Ok(reading)
}

fn each_of(
    epoch: &Epoch,
    query: &Query,
    output: &mut Output<'_>,
    reading: &mut Reading,
    give: &mut dyn FnMut(Recorded),
) -> io::Result<()> {
    let mut assembler = Assembler::default();
    let (mut entries, mut end) = (epoch.entries(), 0);
    let mut put = |found: Vec<Found>, reading: &mut Reading| {
        for one in found.iter().filter(|one| query.fits(one)) {
            match recorded(one) {
                Some(recorded) => give(recorded),
                None => reading.without_text += 1,
            }
        }
    };
    loop {
        match entries.next() {
            Ok(Some(record)) => {
                end = record.index + 1;
                match assembler.push(record.index, record.bytes) {
                    Ok(found) => put(found, reading),
                    Err(_) => reading.damaged = true,
                }
            }
            Ok(None) => break,
            // What is in front was pruned.
            Err(ReadError::Missing { from: 0, .. }) => {}
            Err(error) => {
                reading.damaged = true;
                output.error(&error)?;
            }
        }
    }
    put(assembler.finish(end), reading);
    Ok(())
}

fn recorded(found: &Found) -> Option<Recorded> {
    let object = &found.object;
    // Another encoding than UTF-8 is not analysed; it is told by this field.
    let text = match object.get("text_encoding") {
        None => object.get("text")?.as_str()?.to_owned(),
        Some(_) => return None,
    };
    let empty = Object::new();
    let start = found.session.as_ref().map_or(&empty, |session| &session.start);
    let full = |brief| found.session.as_ref().and_then(|session| session.in_full(brief));
    let actor = object.get("writer").and_then(full).or(start.get("actor"));
    Some(Recorded {
        who: subject(start, actor.unwrap_or(&Value::Null)),
        text,
        whole: NOT_WHOLE.iter().all(|name| !object.contains_key(*name)),
        at: WallTime(time(object)? / 1_000_000_000),
    })
}

/// The subject that a session's start and the identity of a writer tell of.
fn subject(start: &Object, actor: &Value) -> Subject {
    let of = |value: &Value| value.as_str().map(Box::<str>::from);
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let started = |name: &str| start.get(name).and_then(of);
    let parents = actor["parents"].as_array().into_iter().flatten();
    let container = &actor["container"];
    let labels = container["labels"].as_object().into_iter().flatten();
    Subject {
        exe: of(&actor["exe"]),
        exe_sha256: of(&actor["exe_sha256"]),
        parents: parents.filter_map(|parent| of(&parent["exe"])).collect(),
        uid: number(&actor["uid"]),
        gid: number(&actor["gid"]),
        user: of(&actor["user"]),
        loginuid: number(&actor["loginuid"]),
        cgroup: of(&actor["cgroup"]),
        unit: of(&actor["unit"]),
        container: container.is_object().then(|| Container {
            id: of(&container["id"]).unwrap_or_default(),
            name: of(&container["name"]),
            image: of(&container["image"]),
            pod: of(&container["pod"]),
            namespace: of(&container["namespace"]),
            labels: labels
                .filter_map(|(name, value)| Some((name.as_str().into(), of(value)?)))
                .collect(),
        }),
        role: started("database_user").unwrap_or_default(),
        database: started("database").unwrap_or_default(),
        destination: started("destination_name"),
        application: started("application_name"),
        tags: std::collections::BTreeMap::new(),
    }
}
