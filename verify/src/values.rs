//! Sealed values of a packed segment: frames whose payload begins with the index of the entry.

use std::path::{Path, PathBuf};

use crate::bytes::Window;
use crate::frame::{FRAME_HEAD_BYTES, Frames, HEADER_BYTES, Kind, Step, ValuesHeader, be64};
use crate::store::ReadError;

/// An opened `.values`, read alongside the entries of its segment.
#[derive(Debug)]
pub struct ValuesFile {
    path: PathBuf,
    header: ValuesHeader,
    frames: Frames,
    /// The frame that was read last.
    index: Option<u64>,
    payload: Vec<u8>,
    offset: u64,
    done: bool,
    /// The verifier's number of this file.
    number: u32,
}

impl ValuesFile {
    /// Opens the file and checks its header.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let mut window = Window::open(path, 0).map_err(ReadError::io("open", path))?;
        let bytes = window.peek(HEADER_BYTES).map_err(ReadError::io("read", path))?;
        let header = ValuesHeader::decode(bytes)
            .map_err(|bad| ReadError::damaged(path, 0, bad.to_string()))?;
        let frames =
            Frames::open(path, HEADER_BYTES as u64).map_err(ReadError::io("open", path))?;
        Ok(Self {
            path: path.to_owned(),
            header,
            frames,
            index: None,
            payload: Vec::new(),
            offset: 0,
            done: false,
            number: 0,
        })
    }

    /// Its header.
    pub fn header(&self) -> &ValuesHeader {
        &self.header
    }

    pub(crate) fn set_number(&mut self, number: u32) {
        self.number = number;
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Begins again if what was read last lies behind an index.
    pub(crate) fn rewind_before(&mut self, index: u64) {
        if self.index.is_some_and(|read| read > index) || self.done {
            let reopened = Frames::open(&self.path, HEADER_BYTES as u64);
            self.done = reopened.is_err();
            if let Ok(frames) = reopened {
                self.frames = frames;
            }
            self.index = None;
        }
    }

    /// Reads frames until one belongs to `index` or to a later entry.
    pub(crate) fn advance_to(&mut self, index: u64) -> Result<(), ReadError> {
        while !self.done && self.index.is_none_or(|read| read < index) {
            self.read()?;
        }
        Ok(())
    }

    /// Reads the next frame. False at the end.
    pub(crate) fn read(&mut self) -> Result<bool, ReadError> {
        let path = &self.path;
        let damaged = |offset, what: &str| ReadError::damaged(path, offset, what);
        match self.frames.step().map_err(ReadError::io("read", path))? {
            Step::Frame(frame) => {
                let offset = frame.offset;
                if !frame.sound {
                    return Err(damaged(offset, "its check sum is wrong"));
                }
                if frame.kind != Kind::Values || frame.payload.len() < 8 {
                    return Err(damaged(offset, "this is no frame of values"));
                }
                let index = be64(frame.payload);
                if self.index.is_some_and(|before| index <= before) {
                    return Err(damaged(
                        offset,
                        "its frames are not in the order of their entries",
                    ));
                }
                self.index = Some(index);
                self.offset = offset;
                self.payload.clear();
                self.payload.extend_from_slice(&frame.payload[8..]);
                Ok(true)
            }
            Step::End { offset } => {
                self.done = true;
                if offset == self.frames.file_bytes() {
                    Ok(false)
                } else {
                    Err(damaged(offset, "bytes behind its last frame"))
                }
            }
            Step::Broken { offset, .. } => {
                self.done = true;
                Err(damaged(offset, "this cannot be a frame"))
            }
        }
    }

    /// Values of an entry, if the frame that was read last is its own.
    pub(crate) fn of(&self, index: u64) -> Option<&[u8]> {
        (self.index == Some(index)).then_some(&*self.payload)
    }

    /// Index, place and whole length of the frame that was read last.
    pub(crate) fn current(&self) -> Option<(u64, u64, u64)> {
        let index = self.index?;
        Some((index, self.offset, (FRAME_HEAD_BYTES + 8 + self.payload.len()) as u64))
    }
}
