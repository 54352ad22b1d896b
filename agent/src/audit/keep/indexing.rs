//! The search index of a segment, made when it is finished.

use std::path::Path;

use pgward_verify::store::{Epoch, Piece, ReadError};

use crate::audit::index::{Builder, Index, IndexError};
use crate::audit::keys::{Folder, FolderError};
use crate::audit::store::Finished;

/// Segments before that are indexed first, when theirs is missing. With more, a search makes them.
const CATCH_UP_MAX: usize = 8;

/// Why there is no index. A search makes it then.
#[derive(Debug, thiserror::Error)]
pub enum IndexingError {
    /// The segments.
    #[error("cannot read the segment")]
    Read(#[from] ReadError),
    /// The index.
    #[error("cannot make the index")]
    Index(#[from] IndexError),
    /// The file.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The one it goes on from.
    #[error("segments before it have no index either")]
    Behind,
}

/// Makes the index of a segment of the epoch in `folder`, going on from that of the segment before:
/// sessions that are open there are carried over.
pub fn index_finished(folder: &Path, number: u64, of: &Finished) -> Result<(), IndexingError> {
    let epoch = Epoch::open(folder.to_owned(), number)?;
    let pieces = epoch.pieces();
    let last = pieces.partition_point(|piece| piece.first < of.first);
    let mut previous = None;
    let mut from = last;
    // Back to the newest that has one.
    while from > 0 {
        let read = Index::read(&epoch.file(pieces[from - 1].first, "index")).ok();
        previous = read.filter(|index| index.zone().end == pieces[from].first);
        if previous.is_some() {
            break;
        }
        from -= 1;
        if last - from > CATCH_UP_MAX {
            return Err(IndexingError::Behind);
        }
    }
    let folder = Folder::open(folder)?;
    for at in from..=last {
        let Some(piece) = pieces.get(at) else { break };
        let end = pieces.get(at + 1).map_or(of.end, |next| next.first);
        let bytes = make(&epoch, piece, end, previous.as_ref())?;
        folder.replace(&format!("segment-{:020}.index", piece.first), &bytes)?;
        previous = Some(Index::parse(bytes)?);
    }
    Ok(())
}

fn make(
    epoch: &Epoch,
    piece: &Piece,
    end: u64,
    previous: Option<&Index>,
) -> Result<Vec<u8>, IndexingError> {
    let mut builder = Builder::new(previous, piece.first)?;
    let mut entries = epoch.entries_from(piece.first);
    while builder.next_index() < end {
        let next = builder.next_index();
        let Some(record) = entries.next()? else { break };
        if record.index != next {
            return Err(ReadError::Missing { from: next, to: record.index }.into());
        }
        // An entry that is none counts, and is found by nothing.
        let _ = builder.push(record.bytes);
    }
    if builder.next_index() != end {
        return Err(ReadError::Missing { from: builder.next_index(), to: end }.into());
    }
    Ok(builder.finish()?)
}
