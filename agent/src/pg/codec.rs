//! Frames and the bounded reader and writer over their bodies.
//!
//! A frame is a tag byte, a big-endian `u32` length that counts itself but not the tag, and a body:
//!
//! ```text
//! +-----+---------------+------------------+
//! | tag | length (u32)  | body             |
//! |  1  |  4, >= 4      | length - 4 bytes |
//! +-----+---------------+------------------+
//! ```
//!
//! Source: PostgreSQL documentation, "Message Flow" and "Message Formats"; the limits are those of
//! `src/include/libpq/libpq.h`, `src/include/libpq/pqcomm.h`, `src/backend/tcop/postgres.c` and
//! `src/interfaces/libpq/fe-protocol3.c`.

use super::error::BytesFault;

/// Tag and length in front of every body.
pub const HEADER_BYTES: usize = 5;
/// Longest startup packet behind its length field (`MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_BYTES_MAX: u32 = 10_000;
/// Largest length field of frontend messages that have no reason to be long
/// (`PQ_SMALL_MESSAGE_LIMIT`).
pub const FRAME_SMALL_BYTES_MAX: u32 = 10_000;
/// Largest length field of all others (`PQ_LARGE_MESSAGE_LIMIT`, one less than `MaxAllocSize`).
pub const FRAME_LARGE_BYTES_MAX: u32 = 0x3fff_fffe;
/// Largest length field of a client's answer to an authentication request
/// (`PG_MAX_AUTH_TOKEN_LENGTH`).
pub const AUTHENTICATION_BYTES_MAX: u32 = 65_535;
/// Largest length field of server messages that have no reason to be long; libpq gives up beyond.
pub const BACKEND_SHORT_BYTES_MAX: u32 = 30_000;
/// Shortest and longest secret of a cancel request: 4 in protocol 3.0, up to 256 in 3.2.
pub const CANCEL_KEY_BYTES: std::ops::RangeInclusive<usize> = 4..=256;

/// What one session may cost; every field is a ceiling on memory that a peer can make us hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest frontend message held whole for inspection (`Query`, `Parse`, `Bind`,
    /// `FunctionCall`), as its length field. A longer one ends the session with `54000`.
    pub message_bytes_max: u32,
    /// Answers owed by the server before nothing more is taken from the client.
    ///
    /// The server keeps up to 8 KiB of answers to itself until a `Sync` or `Flush`, and the
    /// shortest answer is 5 bytes, so a limit under `ANSWERS_OWED_MIN` could wait for ever;
    /// [`super::session::Session::new`] raises it.
    pub answers_owed_max: usize,
    /// Bytes of texts and parameters kept for statements in flight. Beyond, further statements
    /// keep only the first [`TEXT_KEPT_BYTES_MIN`] bytes of text and the lengths of their
    /// parameters. A statement alone in flight always keeps its whole text.
    pub in_flight_bytes_max: usize,
    /// Bytes of texts and parameters kept for prepared statements and portals of the session.
    /// Beyond, new entries are kept as above.
    pub named_bytes_max: usize,
    /// Prepared statements remembered by name. Beyond, new ones execute with unknown text.
    pub statements_max: usize,
    /// Portals remembered by name. Beyond, new ones execute with unknown text.
    pub portals_max: usize,
    /// Bytes kept of one parameter value.
    pub parameter_bytes_max: usize,
    /// Bytes kept of all parameter values of one `Bind` or `FunctionCall`.
    pub parameters_bytes_max: usize,
    /// Parameters kept of one `Bind` or `FunctionCall`; the full count is noted.
    pub parameters_max: usize,
    /// Results (tag and rows) kept of one simple `Query` of several statements.
    pub results_max: usize,
}

/// Fewest answers owed that cannot deadlock: more than the server's 8 KiB send buffer over the
/// 5 bytes of the shortest answer.
pub const ANSWERS_OWED_MIN: usize = 2_048;
/// Bytes of text kept when a budget is exhausted.
pub const TEXT_KEPT_BYTES_MIN: usize = 1_024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 64 << 20,
            answers_owed_max: 16_384,
            in_flight_bytes_max: 8 << 20,
            named_bytes_max: 16 << 20,
            statements_max: 8_192,
            portals_max: 1_024,
            parameter_bytes_max: 16 << 10,
            parameters_bytes_max: 256 << 10,
            parameters_max: 1_024,
            results_max: 64,
        }
    }
}

/// Tag and length of a frame, read from its first [`HEADER_BYTES`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Message type.
    pub tag: u8,
    /// Length field: body and the field itself.
    pub length: u32,
}

impl Header {
    /// Reads the header at the front of `input`; `None` while it is incomplete.
    #[inline]
    pub fn read(input: &[u8]) -> Option<Self> {
        let (head, _) = input.split_first_chunk::<HEADER_BYTES>()?;
        Some(Self {
            tag: head[0],
            length: u32::from_be_bytes([head[1], head[2], head[3], head[4]]),
        })
    }

    /// Checks the length field against its bounds and returns the body's length.
    ///
    /// Errors: [`BytesFault::Length`] under 4 or over `max`.
    #[inline]
    pub fn body_bytes(self, max: u32) -> Result<u32, BytesFault> {
        if self.length < 4 || self.length > max {
            return Err(BytesFault::Length { tag: self.tag, found: self.length, max });
        }
        Ok(self.length - 4)
    }
}

/// A cursor over a body that never reads past its end and never trusts a count.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `body` from its first byte.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// Bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Next `count` bytes.
    #[inline]
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], BytesFault> {
        let Some((head, rest)) = self.rest.split_at_checked(count) else {
            return Err(BytesFault::Truncated { found: self.rest.len(), expected: count });
        };
        self.rest = rest;
        Ok(head)
    }

    /// Next `N` bytes as an array.
    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BytesFault> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(BytesFault::Truncated { found: self.rest.len(), expected: N });
        };
        self.rest = rest;
        Ok(*head)
    }

    /// Next byte.
    pub fn u8(&mut self) -> Result<u8, BytesFault> {
        Ok(self.array::<1>()?[0])
    }

    /// Next big-endian 16-bit integer.
    pub fn u16(&mut self) -> Result<u16, BytesFault> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Next big-endian 32-bit integer.
    pub fn u32(&mut self) -> Result<u32, BytesFault> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Next big-endian 32-bit integer with sign.
    pub fn i32(&mut self) -> Result<i32, BytesFault> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Next bytes up to a zero, which is consumed and not returned.
    pub fn text(&mut self) -> Result<&'a [u8], BytesFault> {
        let end = memchr::memchr(0, self.rest).ok_or(BytesFault::Unterminated)?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    /// Next value: a length with -1 for NULL, then that many bytes.
    #[inline]
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, BytesFault> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let count = usize::try_from(length)
                    .map_err(|_| BytesFault::NegativeLength { found: length })?;
                self.bytes(count).map(Some)
            }
        }
    }

    /// Ends the body.
    ///
    /// Errors: [`BytesFault::Trailing`] when bytes are left.
    pub fn end(self) -> Result<(), BytesFault> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(BytesFault::Trailing { found: self.rest.len() })
    }
}

/// Why a message cannot be written: its fields do not fit the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A string holds a zero byte, which would end it early.
    #[error("string holds a zero byte at offset {offset}")]
    ZeroInString {
        /// Offset in the string.
        offset: usize,
    },
    /// The frame would be longer than its peer accepts.
    #[error("message too long: {found} bytes, at most {max}")]
    TooLong {
        /// Length field it would need.
        found: usize,
        /// Largest length field allowed.
        max: u32,
    },
    /// A list is longer than its count field can say.
    #[error("list too long: {found} items, at most 65535")]
    TooMany {
        /// Items in the list.
        found: usize,
    },
}

/// Appends frames to a buffer; a frame that fails leaves the buffer as it was.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Writes one frame of type `tag` whose body comes from `body`.
    pub fn frame(
        out: &'a mut Vec<u8>,
        tag: u8,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        Self::sized(out, Some(tag), FRAME_LARGE_BYTES_MAX, body)
    }

    /// Writes one untagged packet, as used before the session proper.
    pub fn packet(
        out: &'a mut Vec<u8>,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        Self::sized(out, None, STARTUP_BYTES_MAX + 4, body)
    }

    /// Writes fields without a frame around them.
    pub(crate) fn raw(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    fn sized(
        out: &'a mut Vec<u8>,
        tag: Option<u8>,
        max: u32,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let start = out.len();
        out.extend(tag);
        let field = out.len();
        out.extend_from_slice(&[0; 4]);
        let mut writer = Writer { out };
        let written = body(&mut writer);
        let out = writer.out;
        let found = out.len() - field;
        let length = u32::try_from(found).ok().filter(|&length| length <= max);
        match (written, length) {
            (Ok(()), Some(length)) => {
                out[field..field + 4].copy_from_slice(&length.to_be_bytes());
                Ok(())
            }
            (Err(error), _) => {
                out.truncate(start);
                Err(error)
            }
            (Ok(()), None) => {
                out.truncate(start);
                Err(WriteError::TooLong { found, max })
            }
        }
    }

    /// Appends raw bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// Appends a big-endian 16-bit integer.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// Appends a big-endian 32-bit integer.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Appends a big-endian 32-bit integer with sign.
    pub fn i32(&mut self, value: i32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Appends a string and its zero.
    pub fn text(&mut self, text: &[u8]) -> Result<(), WriteError> {
        if let Some(offset) = memchr::memchr(0, text) {
            return Err(WriteError::ZeroInString { offset });
        }
        self.bytes(text);
        self.u8(0);
        Ok(())
    }

    /// Appends a value: its length with -1 for NULL, then its bytes.
    pub fn value(&mut self, value: Option<&[u8]>) -> Result<(), WriteError> {
        let Some(value) = value else {
            self.i32(-1);
            return Ok(());
        };
        let length = i32::try_from(value.len())
            .map_err(|_| WriteError::TooLong { found: value.len(), max: FRAME_LARGE_BYTES_MAX })?;
        self.i32(length);
        self.bytes(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_header_is_a_value() {
        let frame = [b'Z', 0, 0, 0, 5, b'I'];
        for end in 0..HEADER_BYTES {
            assert_eq!(Header::read(&frame[..end]), None);
        }
        assert_eq!(Header::read(&frame), Some(Header { tag: b'Z', length: 5 }));
    }

    #[test]
    fn length_is_checked_at_both_ends() {
        for (length, expected) in [(3, None), (4, Some(0)), (10, Some(6)), (11, None)] {
            let header = Header { tag: b'S', length };
            assert_eq!(header.body_bytes(10).ok(), expected, "length {length}");
        }
        assert!(Header { tag: b'Q', length: u32::MAX }.body_bytes(FRAME_LARGE_BYTES_MAX).is_err());
    }

    #[test]
    fn value_refuses_negative_and_long_lengths() {
        assert_eq!(Reader::new(&[0xff; 4]).value(), Ok(None));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xfe]).value(),
            Err(BytesFault::NegativeLength { found: -2 })
        );
        assert_eq!(
            Reader::new(&[0x7f, 0xff, 0xff, 0xff, 1]).value(),
            Err(BytesFault::Truncated { found: 1, expected: 0x7fff_ffff })
        );
    }

    #[test]
    fn failed_frame_leaves_the_buffer_as_it_was() {
        let mut out = b"kept".to_vec();
        let failed = Writer::frame(&mut out, b'Q', |w| w.text(b"a\0b"));
        assert_eq!(failed, Err(WriteError::ZeroInString { offset: 1 }));
        let failed = Writer::packet(&mut out, |w| {
            w.bytes(&[0; 10_001]);
            Ok(())
        });
        assert_eq!(failed, Err(WriteError::TooLong { found: 10_005, max: 10_004 }));
        assert_eq!(out, b"kept");
    }
}
