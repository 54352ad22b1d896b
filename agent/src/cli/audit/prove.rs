//! `pgward audit prove`: a session with all that proves it, in one file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use pgward_verify::bundle::Bundle;
use pgward_verify::merkle::{leaf_hash, root_of_many};
use pgward_verify::note::{Checkpoint, NOTE_BYTES_MAX, Note};
use pgward_verify::{Entry, Epoch};

use super::args::ProveArgs;
use super::progress::Progress;
use super::read::{Asked, FileError, segments, source};
use crate::audit::Proofs;
use crate::audit::schema::EventKind;
use crate::audit::search::{SearchError, Segments, Session};
use crate::cli::{Exit, Output};

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
enum ProveError {
    #[error("no session `{0}`")]
    NoSession(Session),
    #[error("several sessions begin like `{0}`\nhint: give all 32 hexadecimal digits")]
    Several(Session),
    #[error(
        "no checkpoint covers the session yet: its last entry is {last}, and the newest checkpoint \
         is of {size} entries\nhint: try again in a moment"
    )]
    NotCovered { last: u64, size: u64 },
    #[error("no checkpoint of epoch {0} can be read")]
    NoCheckpoint(u64),
    #[error("an entry of the session is missing: {0}")]
    MissingEntry(u64),
    #[error(
        "tiles and entries of epoch {0} do not give a proof\nhint: pgward audit verify says why"
    )]
    NoProof(u64),
    #[error(
        "tiles and entries of epoch {0} have another root than its checkpoint\nhint: pgward audit verify says where they differ"
    )]
    OtherRoot(u64),
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error(transparent)]
    Read(#[from] pgward_verify::ReadError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// A checkpoint as it is signed.
struct Signed {
    note: Vec<u8>,
    checkpoint: Checkpoint,
}

/// Writes the bundle. A finding when there is no such session.
pub(super) fn run(args: &ProveArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let source = match source(&args.place, output)? {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    let asked = Asked::default()
        .with("session", Some(&args.session))
        .with("output", Some(args.output.display()));
    source.tell("prove", &asked, output)?;
    let trail = match source.open(output)? {
        Ok(trail) => trail,
        Err(exit) => return Ok(exit),
    };
    let made = bundle(&trail, &args.session)
        .and_then(|bundle| write(&bundle, &args.output).map(|bytes| (bundle, bytes)));
    match made {
        Ok((bundle, bytes)) => {
            let entries = bundle.entries.len();
            let path = args.output.display();
            writeln!(
                output.data,
                "{entries} entries of {}: {bytes} bytes in {path}",
                bundle.origin
            )?;
            if bundle.seal.is_none() {
                writeln!(output.notes, "no seal behind the session is covered yet")?;
            }
            Ok(Exit::Done)
        }
        Err(error @ (ProveError::NoSession(_) | ProveError::Several(_))) => {
            output.error(&error)?;
            Ok(Exit::Finding)
        }
        Err(error) => output.error(&error),
    }
}

fn bundle(trail: &pgward_verify::Trail, wanted: &Session) -> Result<Bundle, ProveError> {
    let mut found: Option<(Epoch, Segments, [u8; 16])> = None;
    for epoch in trail.epochs() {
        let mut segments = segments(epoch)?;
        let ids = segments.sessions_where(|id| wanted.fits(id))?;
        for id in ids {
            if found.is_some() {
                return Err(ProveError::Several(wanted.clone()));
            }
            found = Some((epoch.clone(), Segments::open(epoch, |_| {})?, id));
        }
    }
    let Some((epoch, mut segments, id)) = found else {
        return Err(ProveError::NoSession(wanted.clone()));
    };
    let indices = segments.entries_of_session(&id)?;
    let mut entries = Vec::with_capacity(indices.len());
    for index in indices {
        let entry = segments.entry(index)?.ok_or(ProveError::MissingEntry(index))?;
        entries.push((index, entry.bytes));
    }
    let last = entries.last().map_or(0, |(index, _)| *index);
    let signed = checkpoint(&epoch, last)?;
    let size = signed.checkpoint.size;
    let seal = seal_behind(&epoch, last, size)?;
    let mut leaves: Vec<(u64, [u8; 32])> =
        entries.iter().chain(&seal).map(|(index, bytes)| (*index, leaf_hash(bytes))).collect();
    leaves.sort_unstable();
    let indices: Vec<u64> = leaves.iter().map(|(index, _)| *index).collect();
    let progress = Progress::new("proving", None);
    let proof = Proofs::new(trail.directory(), epoch.number)
        .inclusion_of_all(&indices, size)
        .ok_or(ProveError::NoProof(epoch.number))?;
    drop(progress);
    if root_of_many(size, &leaves, &proof) != Some(signed.checkpoint.root) {
        return Err(ProveError::OtherRoot(epoch.number));
    }
    Ok(Bundle {
        origin: signed.checkpoint.origin,
        session: id,
        entries,
        checkpoint: signed.note,
        proof,
        seal,
        disclosures: Vec::new(),
    })
}

/// The checkpoint with cosignatures if that covers an entry, else the newest.
fn checkpoint(epoch: &Epoch, last: u64) -> Result<Signed, ProveError> {
    let mut newest = None;
    for name in ["cosigned", "checkpoint"] {
        let Some(signed) = read_checkpoint(&epoch.directory().join(name))? else { continue };
        let size = signed.checkpoint.size;
        if size > last {
            return Ok(signed);
        }
        newest = newest.max(Some(size));
    }
    match newest {
        Some(size) => Err(ProveError::NotCovered { last, size }),
        None => Err(ProveError::NoCheckpoint(epoch.number)),
    }
}

/// `None` when there is none, or what is there is no checkpoint.
fn read_checkpoint(path: &Path) -> Result<Option<Signed>, ProveError> {
    let bytes = match fs::metadata(path) {
        Ok(file) if file.len() > NOTE_BYTES_MAX as u64 => return Ok(None),
        Ok(_) => fs::read(path).map_err(FileError::new(path, "read"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::new(path, "read")(error).into()),
    };
    let note = Note::parse(&bytes).and_then(|note| Checkpoint::parse(note.text));
    let Ok(checkpoint) = note else { return Ok(None) };
    Ok(Some(Signed { note: bytes, checkpoint }))
}

/// The first seal behind an entry, below `size`.
fn seal_behind(epoch: &Epoch, last: u64, size: u64) -> Result<Option<(u64, Vec<u8>)>, ProveError> {
    let mut entries = epoch.entries_from(last + 1);
    while let Some(record) = entries.next()? {
        if record.index >= size {
            break;
        }
        let entry = Entry::decode(record.bytes);
        if entry.is_ok_and(|entry| entry.event() == EventKind::Seal.number()) {
            return Ok(Some((record.index, record.bytes.to_vec())));
        }
    }
    Ok(None)
}

fn write(bundle: &Bundle, path: &Path) -> Result<usize, ProveError> {
    let bytes = bundle.encode();
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).map_err(FileError::new(path, "make"))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(FileError::new(path, "write"))?;
    Ok(bytes.len())
}
