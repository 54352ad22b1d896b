//! Reading a file in order with a buffer whose size is bounded by what is asked of it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// A file read from a place on. The buffer holds what is between `offset` and the bytes read.
#[derive(Debug)]
pub(crate) struct Window {
    file: File,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Place in the file of the first byte that was not consumed.
    offset: u64,
}

impl Window {
    pub(crate) fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file, buffer: Vec::new(), start: 0, end: 0, offset })
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The next `count` bytes without consuming them; fewer if the file ends before.
    pub(crate) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.end - self.start < count {
            if self.start > 0 && self.start + count > self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            let wanted = (self.start + count).max(CHUNK_BYTES);
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
            let read = match self.file.read(&mut self.buffer[self.end..]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if read == 0 {
                break;
            }
            self.end += read;
        }
        let end = self.end.min(self.start + count);
        Ok(&self.buffer[self.start..end])
    }

    /// Part of the `count` bytes that were consumed last: nothing was read since.
    pub(crate) fn behind(&self, count: usize, from: usize, to: usize) -> &[u8] {
        let base = self.start - count;
        &self.buffer[base + from..base + to]
    }

    /// Steps over bytes that were peeked at.
    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(self.start + count <= self.end);
        self.start += count;
        self.offset += count as u64;
    }

    /// Place of the first byte from here to the end of the file that is not zero.
    pub(crate) fn first_nonzero(&mut self) -> io::Result<Option<u64>> {
        loop {
            let chunk = self.peek(CHUNK_BYTES)?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let (count, found) = (chunk.len(), chunk.iter().position(|byte| *byte != 0));
            if let Some(found) = found {
                return Ok(Some(self.offset + found as u64));
            }
            self.consume(count);
        }
    }
}
