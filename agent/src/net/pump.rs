//! One direction of a relay: bytes that were read and not written yet.

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
    bytes: Vec<u8>,
    sent: usize,
    /// How many bytes were taken, and how many are written for them.
    pieces: Vec<(usize, usize)>,
}

impl Edited {
    fn is_empty(&self) -> bool {
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

    fn tidy(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at `bytes` as the core says.
    fn released(bytes: &[u8], all: &[Passed]) -> Released {
        let mut released = Released::default();
        all.iter().for_each(|passed| released.add(bytes, passed));
        released
    }

    #[test]
    fn what_passes_as_it_came_is_not_copied() {
        let released = released(b"abcdef", &[Passed::as_is(2), Passed::as_is(3), Passed::as_is(0)]);
        assert_eq!(released.taken, 5);
        assert!(released.edited.is_none());
    }

    #[test]
    fn what_is_replaced_goes_out_in_order_and_the_rest_waits() {
        let bytes = b"abcdefgh";
        let all = [
            Passed::as_is(2),
            Passed::instead(3, b"XY".to_vec()),
            Passed::as_is(1),
            Passed::instead(0, b"Z".to_vec()),
        ];
        let mut pump = Pump::default();
        pump.keep(bytes, 0);
        pump.release(released(bytes, &all));
        assert_eq!(pump.edited.bytes, b"abXYfZ");
        assert_eq!((pump.unsent_bytes(), pump.unsent_taken()), (6, 6));
        // Of the six bytes taken, how many are without a trace at the server, as more is written.
        for (sent, unsent) in [(1, 5), (2, 4), (3, 1), (4, 1), (5, 0)] {
            pump.sent(1);
            assert_eq!(pump.unsent_taken(), unsent, "{sent} bytes sent");
        }
        assert!(pump.has_unsent());
        pump.sent(1);
        assert!(!pump.has_unsent());
        assert_eq!(pump.undecided(), b"gh");
    }

    #[test]
    fn what_is_dropped_leaves_nothing_to_write() {
        let mut pump = Pump::default();
        pump.keep(b"abc", 0);
        pump.release(released(b"abc", &[Passed::instead(3, Vec::new())]));
        assert!(!pump.has_unsent() && pump.held.is_empty());
    }
}
