//! One side of a session: a TCP connection, in the clear or in TLS.
//!
//! A leg behaves as a socket does, so that whoever copies between two of them need not know which kind they are:
//!
//! * A write that says `n` bytes went has put them into the socket's buffer. The TLS library takes more than the socket does,
//!   and would keep it until somebody flushes; a leg says "pending" until the rest is out, and then `n`.
//! * A read goes on until the buffer is full or nothing is left, neither in the socket nor in the TLS library: no decrypted
//!   byte waits for a readiness that never comes.
//! * The end of the stream is the end, with or without a `close_notify`: PostgreSQL clients and servers often just close. What
//!   a cut stream lacks shows in PostgreSQL's own framing.
//! * Shutting down sends `close_notify` and closes the sending half; what the peer still sends can be read. (In TLS 1.2 a peer
//!   may answer the alert by closing everything, RFC 5246, section 7.2.1.)

mod records;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsStream, rustls::CommonState};

pub use records::{Offsets, Records};

/// One side of a session.
#[derive(Debug)]
pub enum Leg {
    /// As it is.
    Clear(Clear),
    /// In TLS, in either role.
    Tls(Box<Tls>),
}

impl Leg {
    /// A leg in the clear. `raw_read` is the number of bytes read from the connection before.
    pub fn clear(tcp: TcpStream, raw_read: u64) -> Self {
        Self::Clear(Clear { tcp, raw_read })
    }

    /// A leg in TLS, after its handshake.
    pub fn tls(stream: impl Into<TlsStream<Records>>) -> Self {
        Self::Tls(Box::new(Tls {
            stream: stream.into(),
            plain: 0,
            undelivered: None,
            unreported: 0,
            failed: None,
            eof: false,
        }))
    }

    /// The socket below: for its options, addresses and descriptor, never to read or write.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Clear(clear) => &clear.tcp,
            Self::Tls(tls) => tls.stream.get_ref().0.tcp(),
        }
    }

    /// What the TLS library knows of the connection; `None` in the clear.
    pub fn tls_state(&self) -> Option<&CommonState> {
        match self {
            Self::Clear(_) => None,
            Self::Tls(tls) => Some(tls.stream.get_ref().1),
        }
    }

    /// Bytes taken off the socket, counted from the first of the connection.
    pub fn raw_read(&self) -> u64 {
        match self {
            Self::Clear(clear) => clear.raw_read,
            Self::Tls(tls) => tls.stream.get_ref().0.raw_read(),
        }
    }

    /// Offset, in what is read from the leg, of the first byte that came in a TLS record that begins at or behind the offset
    /// `raw` of the TCP stream. In the clear that is `raw`.
    ///
    /// `None`: not known yet, because records in front of it have not come whole; then no byte read so far is behind it. Ask
    /// again behind the next read. It stays unknown on a leg that keeps no offsets ([`Offsets::Unneeded`]).
    ///
    /// Questions must not go back: what lies before `raw` is forgotten. Exact for records that came with the last reads (at
    /// least the last 64 KiB of the socket while bytes come, and the last 32 records of a leg at rest); for older ones the
    /// answer is that of the oldest one known.
    pub fn plain_at(&mut self, raw: u64) -> Option<u64> {
        match self {
            Self::Clear(_) => Some(raw),
            Self::Tls(tls) => {
                let decrypted = tls.undelivered.map(|more| tls.plain + more as u64);
                tls.stream.get_mut().0.plain_at(raw, decrypted)
            }
        }
    }
}

/// A leg in the clear.
#[derive(Debug)]
pub struct Clear {
    tcp: TcpStream,
    raw_read: u64,
}

impl Clear {
    /// The socket, to begin TLS on it.
    pub fn into_tcp(self) -> TcpStream {
        self.tcp
    }
}

/// A leg in TLS.
#[derive(Debug)]
pub struct Tls {
    stream: TlsStream<Records>,
    /// Plain text read from the leg.
    plain: u64,
    /// Plain text that the library still holds, where that is known: the handshake may have brought some.
    undelivered: Option<usize>,
    /// The library took these, the socket not all of them, and the writer was told to wait.
    unreported: usize,
    /// Met behind bytes that had to be given first.
    failed: Option<io::Error>,
    eof: bool,
}

impl Tls {
    /// One record's text, or less. An empty read is the end of the stream.
    fn poll_some(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        // The library reads from the socket only once all text was taken from it, so whatever record it begins next, its text
        // begins here.
        self.stream.get_mut().0.plain = self.plain;
        match Pin::new(&mut self.stream).poll_fill_buf(cx) {
            Poll::Pending => {
                self.undelivered = Some(0);
                Poll::Pending
            }
            Poll::Ready(Ok(text)) => {
                let count = text.len().min(into.remaining());
                into.put_slice(&text[..count]);
                self.undelivered = Some(text.len() - count);
                self.eof = text.is_empty();
                Pin::new(&mut self.stream).consume(count);
                self.plain += count as u64;
                Poll::Ready(Ok(count))
            }
            // No `close_notify`.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.eof = true;
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        if self.eof || into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        let mut last = self.poll_some(cx, into);
        while matches!(last, Poll::Ready(Ok(1..))) && into.remaining() > 0 {
            last = self.poll_some(cx, into);
        }
        // Whatever the library has to say of its own, such as an alert. Whether it can be written shows with the next write.
        if self.stream.get_ref().1.wants_write() {
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
        match last {
            _ if into.filled().len() == before => last.map_ok(|_| ()),
            Poll::Ready(Err(error)) => {
                self.failed = Some(error);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.unreported > bytes.len() {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        }
        if self.unreported == 0 {
            self.unreported = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        }
        if self.stream.get_ref().1.wants_write() {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        }
        Poll::Ready(Ok(std::mem::take(&mut self.unreported)))
    }
}

impl AsyncRead for Leg {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(clear) => {
                let before = into.filled().len();
                ready!(Pin::new(&mut clear.tcp).poll_read(cx, into))?;
                clear.raw_read += (into.filled().len() - before) as u64;
                Poll::Ready(Ok(()))
            }
            Self::Tls(tls) => tls.poll_read(cx, into),
        }
    }
}

/// A write that was pending must be repeated with the same bytes, or more behind them, until it is not. To give one up, drop the
/// leg.
impl AsyncWrite for Leg {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(clear) => Pin::new(&mut clear.tcp).poll_write(cx, bytes),
            Self::Tls(tls) => tls.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(clear) => Pin::new(&mut clear.tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(clear) => Pin::new(&mut clear.tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests;
