//! Frames of a raw segment and headers of all three kinds of files.
//!
//! ```text
//! header  512 bytes: magic 16 | first index u64 | ... | origin | zeros | CRC32C of the 508 before
//! frame   payload bytes u32 | CRC32C of (type, payload) u32 | type u8 | payload
//! ```
//!
//! Frames come in this order: an edge, unless it is the first segment; then batches, each of
//! entries (with values behind those that have some) and a trailer; an end if the segment was
//! finished. All integers are big-endian. Eight zero bytes where a frame would begin end what was written.

use std::io;
use std::path::Path;

use crate::bytes::Window;
use crate::cbor::ENTRY_BYTES_MAX;
use crate::merkle::Hash;

/// Bytes of the header of a `.log`, `.pack` or `.values` file.
pub const HEADER_BYTES: usize = 512;
/// Bytes of a frame before its payload.
pub const FRAME_HEAD_BYTES: usize = 9;
/// Most bytes of a frame's payload.
pub const PAYLOAD_BYTES_MAX: usize = (16 << 20) + (64 << 10);
/// Most bytes of a file that is read as a segment.
pub const SEGMENT_FILE_BYTES_MAX: u64 = 4 << 30;
/// Most bytes of an origin.
pub const ORIGIN_BYTES_MAX: usize = 255;
/// Most bytes whose check sums are tried while looking for the next sound frame.
const SEARCH_BYTES_MAX: u64 = 1 << 30;
/// A segment ends where its tree size reaches a multiple of this.
pub const SEGMENT_ENTRIES: u64 = 65_536;

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One canonical entry.
    Entry,
    /// Sealed or out-of-line values of the entry before.
    Values,
    /// Tree size, root and number; ends a batch.
    Trailer,
    /// Tree size and root; ends the segment.
    End,
    /// Roots of the complete subtrees at the first index, largest first; directly behind the
    /// header, or absent.
    Edge,
    /// A number that this version does not know.
    Unknown(u8),
}

impl From<u8> for Kind {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Entry,
            2 => Self::Values,
            3 => Self::Trailer,
            4 => Self::End,
            5 => Self::Edge,
            other => Self::Unknown(other),
        }
    }
}

/// One frame as it lies in the file.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Place of its first byte.
    pub offset: u64,
    /// What it holds.
    pub kind: Kind,
    /// Whether its check sum is right.
    pub sound: bool,
    /// Its payload.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes of the whole frame.
    pub fn length(&self) -> u64 {
        (FRAME_HEAD_BYTES + self.payload.len()) as u64
    }

    /// Place of the first byte behind it.
    pub fn end(&self) -> u64 {
        self.offset + self.length()
    }
}

/// What lies at a place of a segment file.
#[derive(Debug)]
pub enum Step<'a> {
    /// A frame; its check sum may be wrong.
    Frame(Frame<'a>),
    /// Eight zero bytes, or the end of the file: nothing more was written.
    End {
        /// Where that is.
        offset: u64,
    },
    /// Bytes that cannot be a frame: an impossible length, or one that runs past the file.
    Broken {
        /// Where that is.
        offset: u64,
        /// The length found there.
        length: u32,
        /// Whether it is a possible length and only the file ends too early.
        cut: bool,
    },
}

/// Reads frames one after the other.
#[derive(Debug)]
pub struct Frames {
    window: Window,
    bytes: u64,
}

impl Frames {
    /// Reads frames of a file from a place on.
    pub fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let window = Window::open(path, offset)?;
        let bytes = window.file_bytes()?;
        if bytes > SEGMENT_FILE_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{bytes} bytes, at most {SEGMENT_FILE_BYTES_MAX} are read"),
            ));
        }
        Ok(Self { window, bytes })
    }

    /// Place of the next frame.
    pub fn offset(&self) -> u64 {
        self.window.offset()
    }

    /// Bytes of the file when it was opened.
    pub fn file_bytes(&self) -> u64 {
        self.bytes
    }

    /// The next step. Behind `End` and `Broken` the place does not move.
    pub fn step(&mut self) -> io::Result<Step<'_>> {
        let offset = self.window.offset();
        let head = self.window.peek(FRAME_HEAD_BYTES)?;
        if head.iter().take(8).all(|byte| *byte == 0) {
            return Ok(Step::End { offset });
        }
        let Ok(head) = <[u8; FRAME_HEAD_BYTES]>::try_from(head) else {
            return Ok(Step::Broken { offset, length: 0, cut: true });
        };
        let length = be32(&head);
        let crc = be32(&head[4..]);
        let count = length as usize;
        if count == 0 || count > PAYLOAD_BYTES_MAX {
            return Ok(Step::Broken { offset, length, cut: false });
        }
        let whole = FRAME_HEAD_BYTES + count;
        if offset + whole as u64 > self.bytes || self.window.peek(whole)?.len() < whole {
            return Ok(Step::Broken { offset, length, cut: true });
        }
        self.window.consume(whole);
        let sound = crc32c::crc32c(self.window.behind(whole, 8, whole)) == crc;
        let payload = self.window.behind(whole, FRAME_HEAD_BYTES, whole);
        Ok(Step::Frame(Frame { offset, kind: head[8].into(), sound, payload }))
    }

    /// Kind of the next frame, without reading it.
    pub fn next_kind(&mut self) -> io::Result<Option<Kind>> {
        let head = self.window.peek(FRAME_HEAD_BYTES)?;
        let written = head.len() == FRAME_HEAD_BYTES && head[..8].iter().any(|byte| *byte != 0);
        Ok(written.then(|| head[8].into()))
    }

    /// Place of the first byte from here on that is not zero.
    pub fn first_nonzero(&mut self) -> io::Result<Option<u64>> {
        self.window.first_nonzero()
    }

    /// Looks behind a broken frame for the next sound one: its place, if there is one.
    ///
    /// A client's text may look like a frame; then what follows does not fit and is found.
    pub fn find_sound(&mut self) -> io::Result<Option<u64>> {
        let mut budget = SEARCH_BYTES_MAX;
        loop {
            self.skip(1)?;
            let head = self.window.peek(FRAME_HEAD_BYTES)?;
            let Ok(head) = <[u8; FRAME_HEAD_BYTES]>::try_from(head) else { return Ok(None) };
            let count = be32(&head) as usize;
            let bytes_max = match Kind::from(head[8]) {
                Kind::Entry => ENTRY_BYTES_MAX,
                Kind::Values => PAYLOAD_BYTES_MAX,
                Kind::Trailer => 48,
                Kind::End => 40,
                Kind::Edge => 64 * 32,
                Kind::Unknown(_) => 0,
            };
            let whole = FRAME_HEAD_BYTES + count;
            let fits = self.window.offset() + whole as u64 <= self.bytes;
            if count == 0 || count > bytes_max || !fits {
                continue;
            }
            let Some(rest) = budget.checked_sub(whole as u64) else { return Ok(None) };
            budget = rest;
            let frame = self.window.peek(whole)?;
            if frame.len() == whole && crc32c::crc32c(&frame[8..]) == be32(&head[4..]) {
                return Ok(Some(self.window.offset()));
            }
        }
    }

    /// Steps over `count` bytes, or to the end of the file.
    pub fn skip(&mut self, count: usize) -> io::Result<()> {
        let count = self.window.peek(count)?.len();
        self.window.consume(count);
        Ok(())
    }
}

/// Payload of a trailer frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Size of the tree behind the batch.
    pub size: u64,
    /// Root at that size.
    pub root: Hash,
    /// Its number in the epoch, from 0.
    pub number: u64,
}

impl Trailer {
    /// Reads a payload of 48 bytes.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        (payload.len() == 48).then(|| Self {
            size: be64(payload),
            root: hash_at(payload, 8),
            number: be64(&payload[40..]),
        })
    }
}

/// Payload of an end frame: tree size and root.
pub fn decode_end(payload: &[u8]) -> Option<(u64, Hash)> {
    (payload.len() == 40).then(|| (be64(payload), hash_at(payload, 8)))
}

/// What may be wrong with a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// The file ends inside it.
    #[error("{0} bytes, a header has 512")]
    Short(usize),
    /// Another kind of file.
    #[error("it does not begin with the magic bytes of its kind")]
    Magic,
    /// The check sum does not fit.
    #[error("its check sum is wrong")]
    Crc,
    /// The origin is too long or no text.
    #[error("its origin is no text of 1 to 255 bytes")]
    Origin,
    /// Bytes between the origin and the check sum.
    #[error("byte {0} must be zero")]
    Padding(usize),
    /// No log becomes so long.
    #[error("its first index is {0}, expected less than 2^62")]
    Index(u64),
}

/// Indices are less: no log gets there, and sums of two of them and of sizes of files fit 64 bits.
pub const INDEX_END: u64 = 1 << 62;

/// Header of a raw segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Index of its first entry.
    pub first: u64,
    /// Root of the tree at that size.
    pub root: Hash,
    /// Number of its first trailer.
    pub next_trailer: u64,
    /// The log it belongs to.
    pub origin: String,
}

impl SegmentHeader {
    /// Reads the first 512 bytes of a `.log`.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let origin = origin(bytes, b"pgward segment 1", 64)?;
        Ok(Self {
            first: index(bytes)?,
            root: hash_at(bytes, 24),
            next_trailer: be64(&bytes[56..]),
            origin,
        })
    }
}

/// Header of a packed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackHeader {
    /// Index of its first entry.
    pub first: u64,
    /// Number of entries.
    pub entries: u32,
    /// Number of bundles.
    pub bundles: u32,
    /// Root of the tree before its first entry.
    pub root_before: Hash,
    /// Root of the tree behind its last entry.
    pub root_after: Hash,
    /// Number of the first trailer of the segment.
    pub first_trailer: u64,
    /// Number of the first trailer behind the segment.
    pub next_trailer: u64,
    /// The log it belongs to.
    pub origin: String,
}

impl PackHeader {
    /// Reads the first 512 bytes of a `.pack`.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let origin = origin(bytes, b"pgward packed 01", 112)?;
        Ok(Self {
            first: index(bytes)?,
            entries: be32(&bytes[24..]),
            bundles: be32(&bytes[28..]),
            root_before: hash_at(bytes, 32),
            root_after: hash_at(bytes, 64),
            first_trailer: be64(&bytes[96..]),
            next_trailer: be64(&bytes[104..]),
            origin,
        })
    }
}

/// Header of a file of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValuesHeader {
    /// Index of the first entry of the segment.
    pub first: u64,
    /// The log it belongs to.
    pub origin: String,
}

impl ValuesHeader {
    /// Reads the first 512 bytes of a `.values`.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let origin = origin(bytes, b"pgward values 01", 24)?;
        Ok(Self { first: index(bytes)?, origin })
    }
}

/// The index behind the magic bytes of a header.
fn index(bytes: &[u8]) -> Result<u64, BadHeader> {
    Some(be64(&bytes[16..]))
        .filter(|first| *first < INDEX_END)
        .ok_or(BadHeader::Index(be64(&bytes[16..])))
}

/// Checks a header as a whole and reads its origin, whose length lies at `at`.
fn origin(bytes: &[u8], magic: &[u8; 16], at: usize) -> Result<String, BadHeader> {
    let Some(bytes) = bytes.get(..HEADER_BYTES) else { return Err(BadHeader::Short(bytes.len())) };
    if !bytes.starts_with(magic) {
        return Err(BadHeader::Magic);
    }
    if crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) != be32(&bytes[HEADER_BYTES - 4..]) {
        return Err(BadHeader::Crc);
    }
    let length = usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    if length == 0 || length > ORIGIN_BYTES_MAX {
        return Err(BadHeader::Origin);
    }
    let (start, end) = (at + 2, at + 2 + length);
    let text = std::str::from_utf8(&bytes[start..end]).map_err(|_| BadHeader::Origin)?;
    match bytes[end..HEADER_BYTES - 4].iter().position(|byte| *byte != 0) {
        Some(found) => Err(BadHeader::Padding(end + found)),
        None => Ok(text.to_owned()),
    }
}

/// The big-endian integer at the beginning of `bytes`, which the caller made long enough.
pub(crate) fn be32(bytes: &[u8]) -> u32 {
    bytes[..4].iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// The big-endian integer at the beginning of `bytes`, which the caller made long enough.
pub(crate) fn be64(bytes: &[u8]) -> u64 {
    bytes[..8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn hash_at(bytes: &[u8], at: usize) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(&bytes[at..at + 32]);
    hash
}
