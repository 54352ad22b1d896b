//! One direction of a relay: what was read and not written yet.

use crate::{
    audit::Recorded,
    pg::session::{Output, Passed},
};

/// One direction: what was read and not written yet.
///
/// What passes as it came is written from where it was read. Where the core put something in its place, what was released with
/// it is written from a buffer of its own, and the bytes read are gone.
#[derive(Default)]
pub(super) struct Pump {
    pub(super) held: Vec<u8>,
    pub(super) start: usize,
    pub(super) cleared: usize,
    /// Goes in front of all that is held; nothing is cleared meanwhile.
    pub(super) edited: Edited,
    pub(super) eof: bool,
    pub(super) shut: bool,
    /// The core had bytes that it did not release.
    pub(super) waiting: bool,
    pub(super) bytes: u64,
}

/// What is written in place of bytes that were read.
#[derive(Default)]
pub(super) struct Edited {
    pub(super) bytes: Vec<u8>,
    pub(super) sent: usize,
    /// How many bytes were taken, and how many are written for them.
    pub(super) pieces: Vec<(usize, usize)>,
}

impl Edited {
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// How many of the bytes taken nothing was written for yet. A piece that is replaced counts as sent with its first byte.
    pub(super) fn unsent_taken(&self) -> usize {
        let mut before = 0;
        let unsent = self.pieces.iter().map(|&(taken, written)| {
            let sent = self.sent.saturating_sub(before).min(written);
            before += written;
            match sent {
                0 => taken,
                sent if written == taken => taken - sent,
                _ => 0,
            }
        });
        unsent.sum()
    }
}

/// What a look at bytes came to.
#[derive(Default)]
pub(super) struct Released {
    pub(super) taken: usize,
    /// Set when not all of them pass as they are.
    pub(super) edited: Option<Edited>,
}

impl Released {
    pub(super) fn add(&mut self, bytes: &[u8], passed: &Passed) {
        if self.edited.is_none() && passed.output != Output::AsIs {
            let pieces = vec![(self.taken, self.taken)];
            self.edited = Some(Edited { bytes: bytes[..self.taken].to_vec(), sent: 0, pieces });
        }
        if let Some(edited) = &mut self.edited {
            edited.bytes.extend_from_slice(passed.output(&bytes[self.taken..]));
            edited.pieces.push((passed.taken, passed.sent_bytes()));
        }
        self.taken += passed.taken;
    }
}

impl Pump {
    /// What may be written, for whoever can show that it is recorded.
    pub(super) fn unsent(&self, _recorded: &Recorded) -> &[u8] {
        match self.edited.is_empty() {
            true => &self.held[self.start..self.start + self.cleared],
            false => &self.edited.bytes[self.edited.sent..],
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.cleared > 0 || !self.edited.is_empty()
    }

    /// Bytes that were read and released, and neither they nor anything in their place was written.
    pub(super) fn unsent_taken(&self) -> u64 {
        (self.cleared + self.edited.unsent_taken()) as u64
    }

    /// Bytes that wait to be written.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.cleared + self.edited.bytes.len() - self.edited.sent
    }

    pub(super) fn undecided(&self) -> &[u8] {
        &self.held[self.start + self.cleared..]
    }

    pub(super) fn sent(&mut self, count: usize) {
        if !self.edited.is_empty() {
            self.edited.sent += count;
            if self.edited.is_empty() {
                self.edited = Edited::default();
            }
            return;
        }
        self.start += count;
        self.cleared -= count;
        self.tidy();
    }

    pub(super) fn tidy(&mut self) {
        if self.start == self.held.len() {
            // Give the memory back: most sessions rest most of the time.
            *self = Self { held: Vec::new(), start: 0, ..std::mem::take(self) };
        } else if self.cleared == 0 && self.start > self.held.len() / 2 {
            self.held.drain(..self.start);
            self.start = 0;
        }
    }

    /// What is held was looked at.
    pub(super) fn release(&mut self, released: Released) {
        match released.edited {
            None => self.cleared = released.taken,
            Some(edited) => {
                self.edited = edited;
                self.start += released.taken;
                self.tidy();
            }
        }
    }

    /// Keeps what of `bytes` was not written, of which nothing was held before; its first `cleared` bytes may go.
    pub(super) fn keep(&mut self, bytes: &[u8], cleared: usize) {
        if !bytes.is_empty() {
            self.held.extend_from_slice(bytes);
            self.cleared += cleared;
        }
    }
}

/// What may be written, for whoever can show that it is recorded.
pub(super) fn let_go<'b>(bytes: &'b [u8], _recorded: &Recorded) -> &'b [u8] {
    bytes
}
