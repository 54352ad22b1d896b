//! The segment that is being written.

use std::io;

use super::disk::{Disk, DiskFile, write_all};
use super::frame::CLOSING_BYTES;
use super::names::{self, Form, NEXT, RESERVE};

/// Where a segment can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the file that was prepared.
    Next,
    /// In a new file that grows, when no other was prepared yet.
    New,
    /// In the reserve.
    Reserve,
}

impl Place {
    /// Name of the file before it is a segment.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Next => NEXT,
            // Removed by the next start, see `UNFINISHED`.
            Self::New => "new.tmp",
            Self::Reserve => RESERVE,
        }
    }
}

/// A segment that was begun and is not finished.
pub(super) struct Segment<F> {
    file: F,
    /// Number of its first entry.
    pub(super) first: u64,
    /// Where the next batch goes.
    pub(super) offset: u64,
    bytes: u64,
    /// A batch is in it, so that an end may follow.
    pub(super) has_trailer: bool,
}

impl<F: DiskFile> Segment<F> {
    /// Makes a segment of the file at `place`, with `content` in it. It has its name only when the
    /// content is durable, and is durable with its name when this returns.
    ///
    /// A segment of the same first index is replaced in one step: nothing in it counted.
    pub(super) fn begin<D: Disk<File = F>>(
        disk: &D,
        place: Place,
        first: u64,
        bytes: u64,
        content: &[u8],
    ) -> io::Result<Self> {
        let (file, bytes) = match place {
            Place::Next | Place::Reserve => {
                let file = disk.open(place.name())?;
                let bytes = file.len()?;
                (file, bytes)
            }
            Place::New => (disk.create(place.name())?, bytes),
        };
        write_all(&file, content, 0)?;
        file.sync()?;
        disk.rename(place.name(), &names::segment(first, Form::Raw))?;
        disk.sync()?;
        Ok(Self { file, first, offset: content.len() as u64, bytes, has_trailer: false })
    }

    /// Bytes that a batch may have.
    pub(super) fn room(&self) -> usize {
        self.bytes.saturating_sub(self.offset).saturating_sub(CLOSING_BYTES as u64) as usize
    }

    /// Writes and waits until it is durable. After an error nothing more may be written.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), (&'static str, io::Error)> {
        write_all(&self.file, bytes, self.offset).map_err(|error| ("write", error))?;
        self.file.sync().map_err(|error| ("fdatasync", error))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
