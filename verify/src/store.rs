//! The trail's folder as a reader sees it: epochs, segments and their entries.
//!
//! Reading is lenient and quick: it follows the log while the agent writes it, checks frames and
//! bundles for damage, and leaves hashes, seals and signatures to the verifier. What it cannot
//! read is an error that names the place; reading then goes on with the next segment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::pack::Pack;
use crate::segment::{Segment, read_header};
use crate::values::ValuesFile;

/// Most entries of one folder that are looked at.
const FOLDER_ENTRIES_MAX: usize = 1 << 20;

/// What went wrong while reading a trail.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A call to the file system failed.
    #[error("{call} of {path} failed")]
    Io {
        /// The call.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what its kind must hold.
    #[error("{path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// Entries between two segments are not there.
    #[error("entries {from} to {to} are not there")]
    Missing {
        /// First missing index.
        from: u64,
        /// First index that is there again.
        to: u64,
    },
    /// A folder with too many files.
    #[error("{path} holds more than {FOLDER_ENTRIES_MAX} files")]
    Crowded {
        /// The folder.
        path: PathBuf,
    },
}

impl ReadError {
    pub(crate) fn io(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { call, path, source }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset, what: what.into() }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// A trail: the folder `audit.directory` or a copy of it.
#[derive(Clone, Debug)]
pub struct Trail {
    directory: PathBuf,
    epochs: Vec<Epoch>,
}

impl Trail {
    /// Lists the epochs and segments of a folder. An empty folder is a trail without epochs.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, ReadError> {
        let directory = directory.into();
        let mut epochs = Vec::new();
        for name in names(&directory)? {
            if let Some(number) = epoch_number(&name) {
                epochs.push(Epoch::open(directory.join(&name), number)?);
            }
        }
        epochs.sort_by_key(|epoch| epoch.number);
        Ok(Self { directory, epochs })
    }

    /// The folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its epochs, oldest first.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// The epoch of a number.
    pub fn epoch(&self, number: u64) -> Option<&Epoch> {
        self.epochs.iter().find(|epoch| epoch.number == number)
    }

    /// The newest epoch.
    pub fn newest(&self) -> Option<&Epoch> {
        self.epochs.last()
    }
}

/// One epoch: a log of its own, with its own tree.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// Its number, from 1.
    pub number: u64,
    directory: PathBuf,
    pieces: Vec<Piece>,
}

/// One segment of an epoch and the forms in which it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of its first entry, as its file is called.
    pub first: u64,
    /// A `.log` is there.
    pub log: bool,
    /// A `.pack` is there.
    pub pack: bool,
    /// A `.values` is there.
    pub values: bool,
}

impl Epoch {
    /// Lists the segments of an epoch's folder.
    pub fn open(directory: PathBuf, number: u64) -> Result<Self, ReadError> {
        let mut pieces: Vec<Piece> = Vec::new();
        for name in names(&directory)? {
            let Some((first, form)) = segment_name(&name) else { continue };
            let at = match pieces.iter().position(|piece| piece.first == first) {
                Some(at) => at,
                None => {
                    pieces.push(Piece { first, log: false, pack: false, values: false });
                    pieces.len() - 1
                }
            };
            match form {
                Form::Log => pieces[at].log = true,
                Form::Pack => pieces[at].pack = true,
                Form::Values => pieces[at].values = true,
                Form::Index => {}
            }
        }
        pieces.retain(|piece| piece.log || piece.pack);
        pieces.sort_by_key(|piece| piece.first);
        Ok(Self { number, directory, pieces })
    }

    /// Its folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its segments, oldest first.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The file of a segment in one form: `log`, `pack`, `values` or `index`.
    pub fn file(&self, first: u64, form: &str) -> PathBuf {
        self.directory.join(format!("segment-{first:020}.{form}"))
    }

    /// The origin that the first readable segment names.
    pub fn origin(&self) -> Option<String> {
        self.pieces.iter().find_map(|piece| self.origin_of(piece))
    }

    /// The origin in the header of a segment, if that can be read.
    pub(crate) fn origin_of(&self, piece: &Piece) -> Option<String> {
        if piece.log {
            return read_header(&self.file(piece.first, "log")).ok().map(|header| header.origin);
        }
        let pack = Pack::open(&self.file(piece.first, "pack")).ok()?;
        Some(pack.header().origin.clone())
    }

    /// Reads its entries from the first on.
    pub fn entries(&self) -> Entries {
        self.entries_from(0)
    }

    /// Reads its entries from an index on: or from the next one that is there.
    pub fn entries_from(&self, index: u64) -> Entries {
        let mut entries =
            Entries { epoch: self.clone(), next_piece: 0, open: None, expected: None };
        entries.seek(index);
        entries
    }
}

/// Where an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The segment's file.
    pub file: &'a Path,
    /// First byte of its frame, or of the compressed bundle that holds it.
    pub offset: u64,
    /// Bytes of that frame or bundle.
    pub length: u64,
    /// In a bundle: where its bytes begin in the plain text.
    pub within: Option<u32>,
}

/// One entry as it is read.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its number in the log.
    pub index: u64,
    /// Its canonical bytes.
    pub bytes: &'a [u8],
    /// The payload of its values frame, if there is one.
    pub values: Option<&'a [u8]>,
    /// Where it lies.
    pub place: Place<'a>,
}

/// Reads entries in order; `next` lends each one until the next call. After an error the reader
/// goes on with the next segment.
#[derive(Debug)]
pub struct Entries {
    epoch: Epoch,
    next_piece: usize,
    open: Option<Opened>,
    /// Index that must come next, to notice a missing segment.
    expected: Option<u64>,
}

#[derive(Debug)]
enum Opened {
    Log(Box<Segment>),
    Pack { pack: Box<Pack>, values: Option<Box<ValuesFile>> },
}

impl Entries {
    /// Goes to the entry of an index; segments before it are not read.
    pub fn seek(&mut self, index: u64) {
        let at = self.epoch.pieces.partition_point(|piece| piece.first <= index);
        // A reader that is in the right segment already keeps it open.
        let stays = self.next_piece == at.max(1) && self.next_piece > 0;
        if let (true, Some(open)) = (stays, &mut self.open) {
            open.seek(index);
        } else {
            self.next_piece = at.saturating_sub(1);
            self.open = None;
        }
        self.expected = Some(index);
    }

    /// The entry of an index, if it is there.
    pub fn get(&mut self, index: u64) -> Result<Option<Record<'_>>, ReadError> {
        self.seek(index);
        match self.next() {
            Ok(Some(record)) if record.index == index => Ok(Some(record)),
            Ok(_) | Err(ReadError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next entry. `None` at the end of the epoch: the last good trailer.
    #[expect(clippy::should_implement_trait, reason = "each record is lent until the next call")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        loop {
            if self.open.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(open) = &mut self.open else { return Ok(None) };
            match open.advance() {
                Ok(true) => break,
                Ok(false) => self.open = None,
                Err(error) => {
                    self.open = None;
                    self.expected = None;
                    return Err(error);
                }
            }
        }
        let Some(open) = &mut self.open else { return Ok(None) };
        let record = open.record();
        self.expected = Some(record.index + 1);
        Ok(Some(record))
    }

    fn open_next(&mut self) -> Result<bool, ReadError> {
        let Some(piece) = self.epoch.pieces.get(self.next_piece) else { return Ok(false) };
        if let Some(expected) = self.expected
            && expected < piece.first
        {
            self.expected = Some(piece.first);
            return Err(ReadError::Missing { from: expected, to: piece.first });
        }
        self.next_piece += 1;
        let first = piece.first;
        let mut open = self.open_piece(first)?;
        if let (Some(next), Opened::Log(segment)) =
            (self.epoch.pieces.get(self.next_piece), &mut open)
        {
            segment.limit(next.first);
        }
        if let Some(expected) = self.expected {
            open.seek(expected);
        }
        self.open = Some(open);
        Ok(true)
    }

    /// Opens the packed form, or else the raw one; a segment may be packed between two looks.
    fn open_piece(&self, first: u64) -> Result<Opened, ReadError> {
        let pack = |epoch: &Epoch| -> Result<Opened, ReadError> {
            let pack = Pack::open(&epoch.file(first, "pack"))?;
            let values = match ValuesFile::open(&epoch.file(first, "values")) {
                Ok(values) => Some(Box::new(values)),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            };
            Ok(Opened::Pack { pack: Box::new(pack), values })
        };
        match pack(&self.epoch) {
            Err(error) if error.is_not_found() => {}
            opened => return opened,
        }
        match Segment::open(&self.epoch.file(first, "log")) {
            Ok(segment) => Ok(Opened::Log(Box::new(segment))),
            Err(error) if error.is_not_found() => pack(&self.epoch),
            Err(error) => Err(error),
        }
    }
}

impl Opened {
    fn seek(&mut self, index: u64) {
        match self {
            Self::Log(segment) => segment.seek(index),
            Self::Pack { pack, values } => {
                pack.seek(index);
                if let Some(values) = values {
                    values.rewind_before(index);
                }
            }
        }
    }

    fn advance(&mut self) -> Result<bool, ReadError> {
        match self {
            Self::Log(segment) => segment.advance(),
            Self::Pack { pack, values } => {
                if !pack.advance()? {
                    return Ok(false);
                }
                if let Some(values) = values {
                    values.advance_to(pack.index())?;
                }
                Ok(true)
            }
        }
    }

    fn record(&self) -> Record<'_> {
        match self {
            Self::Log(segment) => segment.record(),
            Self::Pack { pack, values } => Record {
                index: pack.index(),
                bytes: pack.entry(),
                values: values.as_ref().and_then(|values| values.of(pack.index())),
                place: pack.place(),
            },
        }
    }
}

/// The form of a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Log,
    Pack,
    Values,
    Index,
}

/// Number in `epoch-<n>`, written without leading zeros, from 1.
pub(crate) fn epoch_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("epoch-")?;
    let number = digits.parse().ok()?;
    (number != 0 && format!("{number}") == digits).then_some(number)
}

/// First index and form in `segment-<20 digits>.<form>`.
pub(crate) fn segment_name(name: &str) -> Option<(u64, Form)> {
    let (digits, form) = name.strip_prefix("segment-")?.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let form = match form {
        "log" => Form::Log,
        "pack" => Form::Pack,
        "values" => Form::Values,
        "index" => Form::Index,
        _ => return None,
    };
    Some((digits.parse().ok()?, form))
}

/// Names in a folder, sorted; names that are no text are shown as such.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, ReadError> {
    let mut names = Vec::new();
    let failed = || ReadError::io("reading the folder", directory);
    for entry in fs::read_dir(directory).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        if names.len() == FOLDER_ENTRIES_MAX {
            return Err(ReadError::Crowded { path: directory.to_owned() });
        }
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}
