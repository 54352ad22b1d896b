//! As much of HTTP/1.1 as a witness needs: one request a connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Longest head and longest body of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long a client may take for each piece.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: String,
}

/// Nobody holds a thread for ever.
pub(super) fn be_patient(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))
}

impl Request {
    pub(super) fn read(stream: &mut impl Read) -> Result<Self> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            ensure!(bytes.len() <= HEAD_BYTES_MAX, "head too long");
            more(stream, &mut bytes)?;
        };
        let head = String::from_utf8(bytes[..end].to_vec())?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let method = words.next().context("no method")?.to_owned();
        let path = words.next().context("no path")?.to_owned();
        ensure!(words.next() == Some("HTTP/1.1"), "not HTTP/1.1");
        let mut length = 0;
        for line in lines {
            let (name, value) = line.split_once(':').context("not a header")?;
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
            ensure!(!name.eq_ignore_ascii_case("transfer-encoding"), "no length");
        }
        ensure!(length <= BODY_BYTES_MAX, "body too long");
        let mut body = bytes.split_off(end + 4);
        while body.len() < length {
            more(stream, &mut body)?;
        }
        ensure!(body.len() == length, "more than the body");
        Ok(Self { method, path, body: String::from_utf8(body)? })
    }
}

fn more(stream: &mut impl Read, bytes: &mut Vec<u8>) -> Result<()> {
    let mut chunk = [0; 4096];
    let count = stream.read(&mut chunk)?;
    ensure!(count > 0, "closed early");
    bytes.extend_from_slice(&chunk[..count]);
    Ok(())
}

impl Response {
    pub(super) fn status(status: u16) -> Self {
        Self { status, kind: "text/plain", body: format!("status {status}\n") }
    }

    pub(super) fn text(body: String) -> Self {
        Self { status: 200, kind: "text/plain", body }
    }

    pub(super) fn conflict(size: u64) -> Self {
        Self { status: 409, kind: "text/x.tlog.size", body: format!("{size}\n") }
    }

    pub(super) fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        let Self { status, kind, body } = self;
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status} Status\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Location: /add-checkpoint\r\nConnection: close\r\n\r\n{body}"
        )?;
        stream.flush()
    }
}
