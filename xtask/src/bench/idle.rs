//! A client that opens many sessions and leaves them idle.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};

/// Protocol 3.0 (PostgreSQL documentation, "Message Formats", `StartupMessage`).
const PROTOCOL: u32 = 3 << 16;

/// Largest message taken from the server; those of a login and a trivial query are far smaller.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// What is printed, with a line end, once every session is idle.
pub(super) const READY: &str = "idle";

/// How many sessions, and where.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct IdleOptions {
    /// Address of the server or proxy
    #[arg(long)]
    to: SocketAddr,
    /// Sessions to open
    #[arg(long)]
    count: u32,
}

/// Opens the sessions one after the other, runs one trivial query in each, prints [`READY`], and keeps them until standard
/// input ends.
pub(crate) fn hold_sessions(options: &IdleOptions) -> Result<()> {
    let mut sessions = Vec::new();
    for number in 0..options.count {
        let session = open(options.to).with_context(|| format!("session {number}"))?;
        sessions.push(session);
    }
    println!("{READY}");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new()).context("waiting for the end of input")?;
    Ok(())
}

fn open(to: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(to).context("connecting")?;
    stream.set_nodelay(true)?;
    let mut startup = PROTOCOL.to_be_bytes().to_vec();
    startup.extend(b"user\0postgres\0database\0postgres\0\0");
    stream.write_all(&with_length(&startup)?)?;
    until_ready(&mut stream).context("logging in")?;
    let mut query = vec![b'Q'];
    query.extend(with_length(b"SELECT 1\0")?);
    stream.write_all(&query)?;
    until_ready(&mut stream).context("the query")?;
    Ok(stream)
}

/// Puts the length, which counts itself, before the body.
fn with_length(body: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(body.len() + 4)?;
    Ok([&length.to_be_bytes(), body].concat())
}

/// Reads messages up to `ReadyForQuery`. Errors at an `ErrorResponse`.
fn until_ready(stream: &mut impl Read) -> Result<()> {
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).context("reading a message")?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            bail!("message of {length} bytes, expected 4 to {MESSAGE_BYTES_MAX}");
        }
        let mut body = vec![0; length - 4];
        stream.read_exact(&mut body).context("reading a message")?;
        match head[0] {
            b'Z' => return Ok(()),
            b'E' => bail!("the server refuses: {}", String::from_utf8_lossy(&body)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_up_to_ready_and_no_further() {
        let bytes = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05Inext";
        let mut rest = &bytes[..];
        until_ready(&mut rest).expect("ready");
        assert_eq!(rest, b"next");
    }

    #[test]
    fn an_error_and_a_broken_length_end_it() {
        let refusal = until_ready(&mut &b"E\0\0\0\x09full\0"[..]).expect_err("refused");
        assert!(refusal.to_string().contains("full"));
        assert!(until_ready(&mut &b"R\0\0\0\x03"[..]).is_err());
        assert!(until_ready(&mut &b"R\xff\0\0\0"[..]).is_err());
        assert!(until_ready(&mut &b"R\0\0"[..]).is_err());
    }
}
