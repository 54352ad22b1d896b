//! Between a socket and the TLS library: hands over at most one record at a time.
//!
//! The library decrypts whatever it is given, and then nobody can tell any more which of the decrypted bytes came in which
//! record. Given one record at a time, and asked for the plain text in between, it leaves that known: each record gets a mark
//! that says where it begins in the raw stream and where its plain text begins in the decrypted one.
//!
//! ```text
//!   raw      |hdr| body      |hdr| body        |hdr| bo...          offsets count from the connection's first byte
//!            ^ mark          ^ mark            ^ mark
//!   plain    | text          | text            | not known yet
//! ```
//!
//! What the socket had more than the library took waits in a chunk, which is given back once it is empty and the socket has no
//! more: a connection at rest owns no buffer here.
//!
//! Record: type 1, version 2, length of the body 2, body. Source: RFC 8446, section 5.1.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Bytes of a record before its body.
const HEADER_BYTES: usize = 5;
/// First size of a chunk: most reads bring one statement.
const CHUNK_BYTES_MIN: usize = 4 << 10;
/// A chunk doubles while the socket fills it, up to this.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Marks kept while bytes come. More than the records that fit into a chunk and carry at least one byte each: 64 KiB / (5 + 1 +
/// 16).
pub(super) const MARKS_MAX: usize = 4096;
/// Marks kept while the connection rests.
const MARKS_RESTING_MAX: usize = 32;

/// Whether offsets of the raw stream will be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// They will: marks are kept.
    Kept,
    /// They won't.
    Unneeded,
}

/// A socket that is read record by record.
#[derive(Debug)]
pub struct Records {
    tcp: TcpStream,
    /// `chunk[start..end]` was read and is not handed over. Empty where no memory is held.
    chunk: Vec<u8>,
    start: usize,
    end: usize,
    /// Size of the next chunk.
    chunk_bytes: usize,
    /// Bytes taken off the socket, counted from the first of the connection.
    raw_read: u64,
    /// Header of the record being handed over, as far as it came.
    header: [u8; HEADER_BYTES],
    header_len: usize,
    /// Bytes of its body that were not handed over. Only of meaning when the header is whole.
    body_left: usize,
    /// Plain text that was taken from the library so far. Kept up to date by the owner before each read.
    pub(super) plain: u64,
    offsets: Offsets,
    marks: VecDeque<Mark>,
}

/// Beginning of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    raw: u64,
    plain: u64,
}

impl Records {
    /// Reads `tcp`, of which `raw_read` bytes were read before; the last of them, `early`, were not looked at and belong to the
    /// TLS handshake.
    pub fn new(tcp: TcpStream, raw_read: u64, early: Vec<u8>, offsets: Offsets) -> Self {
        debug_assert!(early.len() as u64 <= raw_read);
        Self {
            tcp,
            start: 0,
            end: early.len(),
            chunk: early,
            chunk_bytes: CHUNK_BYTES_MIN,
            raw_read,
            header: [0; HEADER_BYTES],
            header_len: 0,
            body_left: 0,
            plain: 0,
            offsets,
            marks: VecDeque::new(),
        }
    }

    /// The socket.
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Bytes taken off the socket.
    pub(super) fn raw_read(&self) -> u64 {
        self.raw_read
    }

    /// Where the plain text of the first record begins that begins at or behind `raw`, if that is known by now. `decrypted` is
    /// the length of the plain text so far, where all of it that the records handed over bring is known.
    pub(super) fn plain_at(&mut self, raw: u64, decrypted: Option<u64>) -> Option<u64> {
        while self.marks.front().is_some_and(|mark| mark.raw < raw) {
            self.marks.pop_front();
        }
        if let Some(mark) = self.marks.front() {
            return Some(mark.plain);
        }
        // The next record begins where the last one ended.
        (self.header_len == 0 && raw <= self.handed()).then_some(decrypted).flatten()
    }

    /// Memory held, in bytes.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.chunk.capacity() + self.marks.capacity() * size_of::<Mark>()
    }

    /// How far the raw stream was handed over.
    fn handed(&self) -> u64 {
        self.raw_read - (self.end - self.start) as u64
    }

    fn mark(&mut self) {
        match self.offsets {
            Offsets::Unneeded => return,
            Offsets::Kept => {}
        }
        let mark = Mark { raw: self.handed(), plain: self.plain };
        match self.marks.back_mut() {
            // The record before brought no text: whatever begins with it begins here.
            Some(last) if last.plain == mark.plain => *last = mark,
            _ => self.marks.push_back(mark),
        }
        if self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
    }

    /// Nothing is there and nothing comes: memory goes back.
    fn rest(&mut self) {
        self.chunk = Vec::new();
        (self.start, self.end) = (0, 0);
        self.chunk_bytes = CHUNK_BYTES_MIN;
        if self.marks.capacity() > MARKS_RESTING_MAX {
            let older = self.marks.len().saturating_sub(MARKS_RESTING_MAX);
            self.marks.drain(..older);
            self.marks.shrink_to(MARKS_RESTING_MAX);
        }
    }

    /// Fills an empty chunk. At the end of the stream it stays empty.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was handed in as read before may have any size; a chunk of ours has the size that is due.
        if self.chunk.len() != self.chunk_bytes {
            self.chunk = vec![0; self.chunk_bytes];
        }
        (self.start, self.end) = (0, 0);
        let mut into = ReadBuf::new(&mut self.chunk);
        match Pin::new(&mut self.tcp).poll_read(cx, &mut into) {
            Poll::Pending => {
                self.rest();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => {
                self.rest();
                Poll::Ready(Err(error))
            }
            Poll::Ready(Ok(())) => {
                self.end = into.filled().len();
                self.raw_read += self.end as u64;
                if self.end == self.chunk.len() {
                    self.chunk_bytes = (self.chunk_bytes * 2).min(CHUNK_BYTES_MAX);
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Hands over `count` bytes at most.
    fn hand(&mut self, count: usize, into: &mut ReadBuf<'_>) -> usize {
        let count = count.min(self.end - self.start).min(into.remaining());
        into.put_slice(&self.chunk[self.start..self.start + count]);
        self.start += count;
        count
    }
}

impl AsyncRead for Records {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.start == this.end {
            ready!(this.poll_chunk(cx))?;
            if this.end == 0 {
                this.rest();
                return Poll::Ready(Ok(()));
            }
        }
        if this.header_len < HEADER_BYTES {
            if this.header_len == 0 && into.remaining() > 0 {
                this.mark();
            }
            let from = this.start;
            let count = this.hand(HEADER_BYTES - this.header_len, into);
            let header = &this.chunk[from..from + count];
            this.header[this.header_len..this.header_len + count].copy_from_slice(header);
            this.header_len += count;
            if this.header_len < HEADER_BYTES {
                return Poll::Ready(Ok(()));
            }
            let [_, _, _, high, low] = this.header;
            this.body_left = usize::from(u16::from_be_bytes([high, low]));
        }
        let count = this.hand(this.body_left, into);
        this.body_left -= count;
        if this.body_left == 0 {
            this.header_len = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Records {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}
