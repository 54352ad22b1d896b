//! Reads a segment back, and tells apart how it can end.
//!
//! What follows the last good trailer is one of these:
//!
//! | what | meaning |
//! |---|---|
//! | only zeros | [`Tail::Zeros`]: nothing was being written |
//! | something, but no good trailer | [`Tail::Torn`]: a batch whose writing was cut off |
//! | a bad frame, whole sectors of zeros, then the very next trailer and nothing more | [`Tail::Torn`] as well: a disk brings sectors to its surface in any order, so the end of a batch may be there and its middle not |
//! | a bad frame and a good trailer in any other way | [`Tail::Damaged`]: what was durable was changed |
//! | a good frame that says what cannot be | [`Tail::Damaged`] |
//!
//! Text that a client sent may look like a trailer. It can turn a torn batch into an alarm, never
//! the other way round.

use std::io;

use super::disk::{DiskFile, read_full};
use super::frame::{FRAME_BYTES, HEADER_BYTES, Head, Header, Kind, TRAILER_BYTES, Trailer};
use crate::audit::chain::{Hash, Tree, leaf_hash};

/// What a disk writes as a whole, in bytes.
const SECTOR_BYTES: u64 = 512;
/// Bytes read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// What was found.
#[derive(Debug)]
pub(super) struct Scan {
    /// The segment's header.
    pub(super) header: Header,
    /// Behind the last good trailer, or behind header and edge when there is none.
    pub(super) last: Mark,
    /// The one before it, when there is a trailer.
    pub(super) before: Option<Mark>,
    /// A frame says that the segment is finished.
    pub(super) finished: bool,
    /// What follows.
    pub(super) tail: Tail,
}

/// A place in a segment at which a batch may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Where in the file.
    pub(super) offset: u64,
    /// The tree there.
    pub(super) tree: Tree,
    /// Number of the trailer that comes next.
    pub(super) next_trailer: u64,
}

/// What follows the last good trailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing.
    Zeros,
    /// A batch that was cut off: first byte, and the one behind the last that isn't zero.
    Torn { from: u64, to: u64 },
    /// Not what was written.
    Damaged(Damage),
}

/// Where a file is not what was written, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where in the file.
    pub offset: u64,
    /// What is wrong.
    pub found: &'static str,
}

/// A part of a segment, told in order. Those behind the last good trailer do not count.
#[derive(Debug)]
pub(super) enum Part<'b> {
    /// An entry, its number and the hash of its leaf.
    Entry { index: u64, leaf: Hash, bytes: &'b [u8] },
    /// Values of the entry with this number.
    Values { index: u64, bytes: &'b [u8] },
}

/// Where to stop, for a segment that was abandoned: at the trailer of this size of the tree.
pub(super) type StopAt = Option<u64>;

/// Reads a segment. The inner error says that its beginning is damaged.
pub(super) fn scan<F: DiskFile>(
    file: &F,
    origin: &str,
    stop_at: StopAt,
    mut each: impl FnMut(Part<'_>) -> io::Result<()>,
) -> io::Result<Result<Scan, Damage>> {
    let mut source = Source::new(file)?;
    let Some(header) = Header::decode(source.bytes(0, HEADER_BYTES)?) else {
        return Ok(Err(Damage { offset: 0, found: "no header of a segment" }));
    };
    if header.origin != origin {
        return Ok(Err(Damage { offset: 0, found: "header of another log" }));
    }
    let start = match source.edge(&header)? {
        Ok(start) => start,
        Err(found) => return Ok(Err(Damage { offset: HEADER_BYTES as u64, found })),
    };
    let mut reader = Reader {
        ahead: start.tree.clone(),
        last: start,
        before: None,
        finished: false,
        after: After::Batch,
    };
    let mut offset = reader.last.offset;
    let tail = loop {
        if stop_at.is_some_and(|size| reader.last.tree.size() == size) {
            break Tail::Zeros; // what follows does not count, whatever it is
        }
        let (kind, payload) = match source.frame(offset)? {
            Frame::Good(kind, payload) => (kind, payload),
            Frame::None(found) => break source.tail(&reader, offset, found)?,
        };
        let end = offset + (FRAME_BYTES + payload.len()) as u64;
        match reader.take(kind, payload, end) {
            Ok(Some(part)) => each(part)?,
            Ok(None) => {}
            Err(found) => break Tail::Damaged(Damage { offset, found }),
        }
        offset = end;
    };
    let Reader { last, before, finished, .. } = reader;
    Ok(Ok(Scan { header, last, before, finished, tail }))
}

/// What a frame may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Batch,
    Entry,
    Values,
    End,
}

/// The rules about the order of frames.
struct Reader {
    last: Mark,
    before: Option<Mark>,
    ahead: Tree,
    finished: bool,
    after: After,
}

impl Reader {
    /// Takes a frame whose check sum is right, and says what is wrong with it nevertheless.
    fn take<'b>(
        &mut self,
        kind: Kind,
        payload: &'b [u8],
        end: u64,
    ) -> Result<Option<Part<'b>>, &'static str> {
        if self.after == After::End {
            return Err("a frame behind the end");
        }
        match kind {
            Kind::Entry => {
                let leaf = leaf_hash(payload);
                let index = self.ahead.size();
                self.ahead.append(leaf);
                self.after = After::Entry;
                Ok(Some(Part::Entry { index, leaf, bytes: payload }))
            }
            Kind::Values if self.after == After::Entry => {
                self.after = After::Values;
                Ok(Some(Part::Values { index: self.ahead.size() - 1, bytes: payload }))
            }
            Kind::Values => Err("values without an entry"),
            Kind::Trailer => {
                let root = self.ahead.root();
                let expected =
                    Trailer { size: self.ahead.size(), root, number: self.last.next_trailer };
                if self.after == After::Batch || Trailer::decode(payload) != Some(expected) {
                    return Err("a trailer that does not fit its entries");
                }
                let next_trailer = expected.number + 1;
                let mark = Mark { offset: end, tree: self.ahead.clone(), next_trailer };
                self.before = Some(std::mem::replace(&mut self.last, mark));
                self.after = After::Batch;
                Ok(None)
            }
            Kind::End => {
                let root = self.last.tree.root();
                let fits = payload == [&self.last.tree.size().to_be_bytes()[..], &root].concat();
                if self.after != After::Batch || self.before.is_none() || !fits {
                    return Err("an end that does not fit what is before");
                }
                self.finished = true;
                self.after = After::End;
                self.last.offset = end;
                Ok(None)
            }
            Kind::Edge => Err("an edge that is not at the beginning"),
        }
    }
}

/// A frame at some place.
enum Frame<'b> {
    Good(Kind, &'b [u8]),
    /// There is none: what is there instead.
    None(&'static str),
}

/// Reads a file through a window.
struct Source<'f, F> {
    file: &'f F,
    len: u64,
    window: Vec<u8>,
    start: u64,
}

impl<'f, F: DiskFile> Source<'f, F> {
    fn new(file: &'f F) -> io::Result<Self> {
        Ok(Self { file, len: file.len()?, window: Vec::new(), start: 0 })
    }

    /// Up to `length` bytes at `offset`: fewer at the end of the file.
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let wanted = self.len.saturating_sub(offset).min(length as u64) as usize;
        let have = self.start + self.window.len() as u64;
        if offset < self.start || offset + wanted as u64 > have {
            let rest = self.len.saturating_sub(offset);
            self.window.resize(rest.min(wanted.max(WINDOW_BYTES) as u64) as usize, 0);
            self.start = offset;
            let read = read_full(self.file, &mut self.window, offset)?;
            self.window.truncate(read);
        }
        let from = (offset - self.start) as usize;
        let to = (from + wanted).min(self.window.len());
        Ok(self.window.get(from..to).unwrap_or_default())
    }

    fn frame(&mut self, offset: u64) -> io::Result<Frame<'_>> {
        let Some(head) = self.bytes(offset, FRAME_BYTES)?.first_chunk().copied() else {
            return Ok(Frame::None("the end of the file in a frame"));
        };
        if head[..4] == [0; 4] {
            return Ok(Frame::None("zeros"));
        }
        let Some(head) = Head::decode(&head) else {
            return Ok(Frame::None("no frame"));
        };
        let payload = self.bytes(offset + FRAME_BYTES as u64, head.payload_bytes)?;
        Ok(if head.fits(payload) {
            Frame::Good(head.kind, payload)
        } else {
            Frame::None("a frame with a wrong check sum")
        })
    }

    /// The tree at the first index, which must be that of the header.
    fn edge(&mut self, header: &Header) -> io::Result<Result<Mark, &'static str>> {
        let mut offset = HEADER_BYTES as u64;
        let mut hashes = Vec::new();
        if header.first > 0 {
            let Frame::Good(Kind::Edge, payload) = self.frame(offset)? else {
                return Ok(Err("no edge of the tree"));
            };
            offset += (FRAME_BYTES + payload.len()) as u64;
            let (chunks, rest) = payload.as_chunks::<32>();
            if !rest.is_empty() {
                return Ok(Err("an edge of another length"));
            }
            hashes = chunks.to_vec();
        }
        Ok(match Tree::resume(header.first, &hashes) {
            Ok(tree) if tree.root() == header.root => {
                Ok(Mark { offset, tree, next_trailer: header.next_trailer })
            }
            Ok(_) | Err(_) => Err("an edge that does not give the root of the header"),
        })
    }

    /// What it means that there is no frame at `offset`, see the module.
    fn tail(&mut self, reader: &Reader, offset: u64, found: &'static str) -> io::Result<Tail> {
        let from = reader.last.offset;
        let to = self.end_of_content(from)?;
        let damaged = |offset, found| Ok(Tail::Damaged(Damage { offset, found }));
        if to == from {
            return Ok(Tail::Zeros);
        }
        if reader.finished {
            return damaged(from, "something behind the end");
        }
        let Some((at, trailer)) = self.find_trailer(offset)? else {
            return Ok(Tail::Torn { from, to });
        };
        let mut behind = at + TRAILER_BYTES as u64;
        if let Frame::Good(Kind::End, payload) = self.frame(behind)? {
            behind += (FRAME_BYTES + payload.len()) as u64;
        }
        let is_next = trailer.number == reader.last.next_trailer
            && trailer.size > reader.last.tree.size()
            && behind >= to;
        if is_next && self.lacks_a_sector(from, at)? {
            return Ok(Tail::Torn { from, to });
        }
        damaged(offset, found)
    }

    /// Where the last byte from `from` on that isn't zero ends.
    fn end_of_content(&mut self, from: u64) -> io::Result<u64> {
        let mut end = self.len;
        while end > from {
            let start = end.saturating_sub(WINDOW_BYTES as u64).max(from);
            let part = self.bytes(start, (end - start) as usize)?;
            if let Some(at) = part.iter().rposition(|byte| *byte != 0) {
                return Ok(start + at as u64 + 1);
            }
            end = start;
        }
        Ok(from)
    }

    /// The first good trailer from `from` on, at whatever place.
    fn find_trailer(&mut self, from: u64) -> io::Result<Option<(u64, Trailer)>> {
        let payload_bytes = TRAILER_BYTES - FRAME_BYTES;
        let length = u32::try_from(payload_bytes).unwrap_or_default().to_be_bytes();
        let finder = memchr::memmem::Finder::new(&length).into_owned();
        let mut start = from;
        while start < self.len {
            let part = self.bytes(start, WINDOW_BYTES)?;
            let found = finder.find_iter(part).find_map(|at| {
                let frame = part.get(at..at + TRAILER_BYTES)?;
                let head = Head::decode(frame.first_chunk()?)?;
                let payload = &frame[FRAME_BYTES..];
                let good = head.kind == Kind::Trailer && head.fits(payload);
                good.then(|| Trailer::decode(payload)).flatten().map(|trailer| (at, trailer))
            });
            if let Some((at, trailer)) = found {
                return Ok(Some((start + at as u64, trailer)));
            }
            // One that the end of this part cut through begins the next.
            let part_bytes = part.len();
            start += part_bytes.saturating_sub(TRAILER_BYTES - 1).max(1) as u64;
            if part_bytes < TRAILER_BYTES {
                break;
            }
        }
        Ok(None)
    }

    /// Whether a sector, as far as it lies within these bounds, holds nothing but zeros.
    fn lacks_a_sector(&mut self, from: u64, to: u64) -> io::Result<bool> {
        let mut start = from;
        while start < to {
            let end = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(to);
            let whole = self.bytes(start, (end - start) as usize)?;
            if whole.iter().all(|byte| *byte == 0) {
                return Ok(true);
            }
            start = end;
        }
        Ok(false)
    }
}
