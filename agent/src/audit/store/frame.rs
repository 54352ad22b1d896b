//! The bytes of a segment: its header and its frames. Nothing here touches a disk.
//!
//! ```text
//!   header   512 bytes, see Header
//!   [edge]   hashes of the full subtrees at the first index; absent in the first segment
//!   entry [values]  entry [values]  …  trailer
//!   entry [values]  …                  trailer
//!   …                                  trailer  end
//!   zeros
//! ```
//!
//! A frame: payload bytes (u32) | CRC32C over type and payload (u32) | type (u8) | payload. All
//! integers are big-endian. Length 0 ends what was written.

use crate::audit::chain::{Hash, Tree};

/// Length of a header, in bytes.
pub(super) const HEADER_BYTES: usize = 512;
/// Length of a frame without its payload, in bytes.
pub(super) const FRAME_BYTES: usize = 9;
/// Longest entry, in bytes: what a length in an entry bundle of tlog-tiles can say.
pub const ENTRY_BYTES_MAX: usize = 65_535;
/// Longest values of one entry, in bytes.
pub const VALUES_BYTES_MAX: usize = (16 << 20) + (64 << 10);
/// Longest origin, in bytes.
pub const ORIGIN_BYTES_MAX: usize = 255;
/// A segment ends where the size of the tree is a multiple of this: one hash of level 2.
pub const SEGMENT_ENTRIES: u64 = 65_536;

/// Length of the frame that ends a batch, in bytes.
pub(super) const TRAILER_BYTES: usize = FRAME_BYTES + 48;
/// Length of the frame that ends a segment, in bytes.
pub(super) const END_BYTES: usize = FRAME_BYTES + 40;
/// Every batch leaves room for these.
pub(super) const CLOSING_BYTES: usize = TRAILER_BYTES + END_BYTES;

const MAGIC: &[u8; 16] = b"pgward segment 1";

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// One canonical CBOR entry.
    Entry = 1,
    /// Values of the entry directly before.
    Values = 2,
    /// [`Trailer`]: everything before it counts.
    Trailer = 3,
    /// Size and root: the segment is finished.
    End = 4,
    /// Hashes of [`Tree`] at the first index, largest subtree first.
    Edge = 5,
}

impl Kind {
    /// The kind of a type byte.
    pub(super) fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::Values,
            3 => Self::Trailer,
            4 => Self::End,
            5 => Self::Edge,
            _ => return None,
        })
    }

    /// Longest payload, in bytes.
    pub(super) fn payload_bytes_max(self) -> usize {
        match self {
            Self::Entry => ENTRY_BYTES_MAX,
            Self::Values => VALUES_BYTES_MAX,
            Self::Trailer => TRAILER_BYTES - FRAME_BYTES,
            Self::End => END_BYTES - FRAME_BYTES,
            Self::Edge => 64 * size_of::<Hash>(),
        }
    }
}

/// The beginning of a segment.
///
/// Layout, 512 bytes: magic (16) | first index (u64) | root of the tree at the first index (32) |
/// number of the next trailer (u64) | length of the origin (u16) | origin | zeros | CRC32C over
/// the 508 bytes before (u32).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Number of the first entry.
    pub(super) first: u64,
    /// Root of the tree before it.
    pub(super) root: Hash,
    /// Number of the first trailer.
    pub(super) next_trailer: u64,
    /// Which log it belongs to.
    pub(super) origin: String,
}

impl Header {
    /// Its bytes. The origin must not be longer than [`ORIGIN_BYTES_MAX`].
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.first.to_be_bytes());
        bytes.extend_from_slice(&self.root);
        bytes.extend_from_slice(&self.next_trailer.to_be_bytes());
        sealed_header(bytes, &self.origin)
    }

    /// Reads a header; `None` when it is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(checked_header(bytes, MAGIC)?);
        let (first, root, next_trailer) = (fields.u64()?, fields.hash()?, fields.u64()?);
        Some(Self { first, root, next_trailer, origin: fields.origin()? })
    }
}

/// Ends a header of any of the trail's files: origin, zeros, check sum.
pub(super) fn sealed_header(mut fields: Vec<u8>, origin: &str) -> [u8; HEADER_BYTES] {
    let length = u16::try_from(origin.len()).expect("an origin is at most 255 bytes");
    fields.extend_from_slice(&length.to_be_bytes());
    fields.extend_from_slice(origin.as_bytes());
    let mut header = [0; HEADER_BYTES];
    header[..fields.len()].copy_from_slice(&fields);
    let sum = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    header[HEADER_BYTES - 4..].copy_from_slice(&sum.to_be_bytes());
    header
}

/// The fields of a header behind its magic, when magic and check sum are right.
pub(super) fn checked_header<'b>(bytes: &'b [u8], magic: &[u8; 16]) -> Option<&'b [u8]> {
    let (fields, sum) = bytes.get(..HEADER_BYTES)?.split_last_chunk::<4>()?;
    (crc32c::crc32c(fields) == u32::from_be_bytes(*sum)).then_some(())?;
    fields.strip_prefix(magic)
}

/// Reads fixed-width fields off the front.
pub(super) struct Fields<'b>(pub(super) &'b [u8]);

impl Fields<'_> {
    /// The next 8 bytes.
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_be_bytes)
    }

    /// The next 4 bytes.
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_be_bytes)
    }

    /// The next 32 bytes.
    pub(super) fn hash(&mut self) -> Option<Hash> {
        self.chunk()
    }

    /// A length, an origin, and only zeros to the end.
    pub(super) fn origin(&mut self) -> Option<String> {
        let length = usize::from(u16::from_be_bytes(self.chunk()?));
        let (origin, zeros) = self.0.split_at_checked(length)?;
        let fits = length <= ORIGIN_BYTES_MAX && zeros.iter().all(|byte| *byte == 0);
        fits.then(|| String::from_utf8(origin.to_vec()).ok()).flatten()
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*chunk)
    }
}

/// The end of a batch: 48 bytes of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    /// Size of the tree with this batch.
    pub(super) size: u64,
    /// Its root.
    pub(super) root: Hash,
    /// Number of the trailer in its epoch, from 0 without gaps.
    pub(super) number: u64,
}

impl Trailer {
    /// Reads a payload.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let trailer = Self { size: fields.u64()?, root: fields.hash()?, number: fields.u64()? };
        fields.0.is_empty().then_some(trailer)
    }

    /// Appends the frame.
    pub(super) fn append(&self, out: &mut Vec<u8>) {
        let at = begin(out);
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.root);
        out.extend_from_slice(&self.number.to_be_bytes());
        finish(out, at, Kind::Trailer);
    }
}

/// Appends the frame that ends a segment.
pub(super) fn append_end(size: u64, root: &Hash, out: &mut Vec<u8>) {
    let at = begin(out);
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(root);
    finish(out, at, Kind::End);
}

/// Appends the frame with the hashes of `tree`, unless that is empty.
pub(super) fn append_edge(tree: &Tree, out: &mut Vec<u8>) {
    if !tree.edge().is_empty() {
        let at = begin(out);
        tree.edge().iter().for_each(|hash| out.extend_from_slice(hash));
        finish(out, at, Kind::Edge);
    }
}

/// Leaves room for the head of a frame. Gives where it is, for [`finish`].
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    at
}

/// Fills in the head of the frame that was begun at `at` and ends with `out`.
pub(super) fn finish(out: &mut [u8], at: usize, kind: Kind) {
    let payload_bytes = u32::try_from(out.len() - at - FRAME_BYTES).expect("payloads are bounded");
    out[at + FRAME_BYTES - 1] = kind as u8;
    let sum = crc32c::crc32c(&out[at + FRAME_BYTES - 1..]);
    out[at..at + 4].copy_from_slice(&payload_bytes.to_be_bytes());
    out[at + 4..at + 8].copy_from_slice(&sum.to_be_bytes());
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// What it holds.
    pub(super) kind: Kind,
    /// Length of the payload.
    pub(super) payload_bytes: usize,
    sum: u32,
}

impl Head {
    /// Reads a head. `None` when no frame can begin so: unknown type, or a length that its kind
    /// does not allow.
    pub(super) fn decode(bytes: &[u8; FRAME_BYTES]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (payload_bytes, sum) = (fields.u32()? as usize, fields.u32()?);
        let kind = Kind::of(bytes[FRAME_BYTES - 1])?;
        let fits = (1..=kind.payload_bytes_max()).contains(&payload_bytes);
        fits.then_some(Self { kind, payload_bytes, sum })
    }

    /// Whether this is the payload that was written.
    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload_bytes
            && crc32c::crc32c_append(crc32c::crc32c(&[self.kind as u8]), payload) == self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let origin = "pgward/6f1c/1".to_owned();
        Header { first: 65_536, root: [7; 32], next_trailer: 12, origin }
    }

    #[test]
    fn a_header_comes_back_and_no_bit_of_it_may_change() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Some(header()));
        for bit in 0..HEADER_BYTES * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&changed), None, "bit {bit}");
        }
        for length in 0..HEADER_BYTES {
            assert_eq!(Header::decode(&bytes[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_header_has_nothing_hidden_behind_its_origin() {
        let mut bytes = header().encode();
        bytes[300] = 1;
        let sum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(Header::decode(&bytes), None);
    }

    #[test]
    fn frames_have_the_bytes_that_readers_expect() {
        let mut out = Vec::new();
        let at = begin(&mut out);
        out.extend_from_slice(b"abc");
        finish(&mut out, at, Kind::Entry);
        let sum = crc32c::crc32c(b"\x01abc").to_be_bytes();
        assert_eq!(out, [&[0, 0, 0, 3][..], &sum, &[1], b"abc"].concat());
        let head = Head::decode(out.first_chunk().expect("a head")).expect("a frame");
        assert_eq!((head.kind, head.payload_bytes), (Kind::Entry, 3));
        assert!(head.fits(b"abc") && !head.fits(b"abd") && !head.fits(b"ab"));
    }

    #[test]
    fn heads_of_a_wrong_length_or_type_are_none() {
        let head = |length: u32, kind: u8| {
            let mut bytes = [0; FRAME_BYTES];
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            bytes[8] = kind;
            Head::decode(&bytes).is_some()
        };
        assert!(head(1, 1) && head(65_535, 1) && !head(0, 1) && !head(65_536, 1));
        assert!(head(VALUES_BYTES_MAX as u32, 2) && !head(VALUES_BYTES_MAX as u32 + 1, 2));
        assert!(head(48, 3) && !head(49, 3) && !head(1, 0) && !head(1, 6) && !head(u32::MAX, 2));
    }

    #[test]
    fn trailers_come_back_at_their_exact_length() {
        let trailer = Trailer { size: 1, root: [2; 32], number: 3 };
        let mut out = Vec::new();
        trailer.append(&mut out);
        assert_eq!(out.len(), TRAILER_BYTES);
        assert_eq!(Trailer::decode(&out[FRAME_BYTES..]), Some(trailer));
        assert_eq!(Trailer::decode(&out[FRAME_BYTES + 1..]), None);
        out.push(0);
        assert_eq!(Trailer::decode(&out[FRAME_BYTES..]), None);
    }
}
