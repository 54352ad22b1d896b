//! A raw segment as a reader sees it: the entries up to its last good trailer.

use std::path::{Path, PathBuf};

use crate::bytes::Window;
use crate::frame::{Frame, Frames, HEADER_BYTES, Kind, SegmentHeader, Step, Trailer};
use crate::store::{Place, ReadError, Record};

/// Entries between two places that are kept for going to an index.
const STRIDE: u64 = 256;

/// An opened `.log`. What the writer appends later is not seen; open it again for that.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    header: SegmentHeader,
    /// Where the entries `header.first + k * STRIDE` begin.
    places: Vec<u64>,
    /// Index behind the last entry that a good trailer covers.
    end: u64,
    last_trailer: Option<Trailer>,
    frames: Frames,
    /// Index of the next entry.
    next: u64,
    /// Entries below this are stepped over.
    wanted: u64,
    current: Current,
}

/// The entry that was read last, with its values.
#[derive(Debug, Default)]
struct Current {
    index: u64,
    offset: u64,
    length: u64,
    entry: Vec<u8>,
    values: Option<Vec<u8>>,
}

impl Segment {
    /// Opens a segment and finds its last good trailer.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let header = read_header(path)?;
        let mut frames =
            Frames::open(path, HEADER_BYTES as u64).map_err(ReadError::io("open", path))?;
        let (mut places, mut end, mut last_trailer) = (Vec::new(), header.first, None);
        let mut index = header.first;
        loop {
            let step = frames.step().map_err(ReadError::io("read", path))?;
            let Step::Frame(frame) = step else { break };
            if !frame.sound {
                break;
            }
            match frame.kind {
                Kind::Entry => {
                    if (index - header.first).is_multiple_of(STRIDE) {
                        places.push(frame.offset);
                    }
                    index += 1;
                }
                Kind::Trailer => match Trailer::decode(frame.payload) {
                    Some(trailer) if trailer.size == index => {
                        last_trailer = Some(trailer);
                        end = index;
                    }
                    Some(_) | None => break,
                },
                Kind::Values | Kind::Edge => {}
                Kind::End | Kind::Unknown(_) => break,
            }
        }
        let frames =
            Frames::open(path, HEADER_BYTES as u64).map_err(ReadError::io("open", path))?;
        let (next, wanted) = (header.first, header.first);
        let current = Current::default();
        let path = path.to_owned();
        Ok(Self { path, header, places, end, last_trailer, frames, next, wanted, current })
    }

    /// Its header.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Index behind its last entry.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Its last good trailer.
    pub fn last_trailer(&self) -> Option<Trailer> {
        self.last_trailer
    }

    /// Ends reading before an index: the next segment holds it again. That is so behind a crash,
    /// when the last batch was written once more.
    pub(crate) fn limit(&mut self, index: u64) {
        self.end = self.end.min(index);
    }

    /// Goes to an entry.
    pub(crate) fn seek(&mut self, index: u64) {
        self.wanted = index.max(self.header.first);
        let stride = (self.wanted - self.header.first) / STRIDE;
        let near = self.next <= self.wanted && self.wanted - self.next < STRIDE;
        if near {
            return;
        }
        let Some(place) = usize::try_from(stride).ok().and_then(|at| self.places.get(at)) else {
            self.next = self.end;
            return;
        };
        // A file that went away between two calls is noticed as an end.
        match Frames::open(&self.path, *place) {
            Ok(frames) => {
                self.frames = frames;
                self.next = self.header.first + stride * STRIDE;
            }
            Err(_) => self.next = self.end,
        }
    }

    /// Reads the next entry. False behind the last one.
    pub(crate) fn advance(&mut self) -> Result<bool, ReadError> {
        loop {
            if self.next >= self.end {
                return Ok(false);
            }
            let index = self.next;
            if !self.read_entry()? {
                return Ok(false);
            }
            if index >= self.wanted {
                return Ok(true);
            }
        }
    }

    /// Reads frames up to the next entry and, if one follows it, its values.
    fn read_entry(&mut self) -> Result<bool, ReadError> {
        self.current.values = None;
        loop {
            let path = &self.path;
            match self.frames.step().map_err(ReadError::io("read", path))? {
                Step::Frame(frame) if frame.kind == Kind::Entry => {
                    self.current.take(self.next, &frame);
                    self.next += 1;
                    break;
                }
                Step::Frame(_) => {}
                Step::End { .. } | Step::Broken { .. } => return Ok(false),
            }
        }
        let path = &self.path;
        if self.frames.next_kind().map_err(ReadError::io("read", path))? == Some(Kind::Values)
            && let Step::Frame(frame) = self.frames.step().map_err(ReadError::io("read", path))?
        {
            self.current.values = Some(frame.payload.to_vec());
        }
        Ok(true)
    }

    pub(crate) fn record(&self) -> Record<'_> {
        let current = &self.current;
        Record {
            index: current.index,
            bytes: &current.entry,
            values: current.values.as_deref(),
            place: Place {
                file: &self.path,
                offset: current.offset,
                length: current.length,
                within: None,
            },
        }
    }
}

impl Current {
    fn take(&mut self, index: u64, frame: &Frame<'_>) {
        self.index = index;
        self.offset = frame.offset;
        self.length = frame.length();
        self.entry.clear();
        self.entry.extend_from_slice(frame.payload);
    }
}

/// Reads and checks the header of a `.log`.
pub fn read_header(path: &Path) -> Result<SegmentHeader, ReadError> {
    let mut window = Window::open(path, 0).map_err(ReadError::io("open", path))?;
    let bytes = window.peek(HEADER_BYTES).map_err(ReadError::io("read", path))?;
    SegmentHeader::decode(bytes).map_err(|bad| ReadError::damaged(path, 0, bad.to_string()))
}
