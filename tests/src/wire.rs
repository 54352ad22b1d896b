//! Just enough of the PostgreSQL protocol to speak both sides of it in tests, independent of the agent's own codec.
//!
//! Source: PostgreSQL documentation, "Message Formats".

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};

/// Version 3.0, as in the startup packet.
pub const PROTOCOL_3_0: u32 = 3 << 16;
/// `CancelRequest` code.
pub const CANCEL_REQUEST: u32 = 80_877_102;
/// `SSLRequest` code.
pub const SSL_REQUEST: u32 = 80_877_103;
/// `GSSENCRequest` code.
pub const GSSENC_REQUEST: u32 = 80_877_104;

/// Largest message these tests expect; anything larger is a framing error.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// One message with its type byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Type byte.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

/// A typed message.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(untyped(body));
    bytes
}

/// A message without type byte: startup, cancel and encryption requests.
pub fn untyped(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("tests send less than 4 GiB");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// `StartupMessage` of protocol 3.0 with these parameters.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    startup_version(PROTOCOL_3_0, parameters)
}

/// `StartupMessage` of any version.
pub fn startup_version(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(text(name));
        body.extend(text(value));
    }
    body.push(0);
    untyped(&body)
}

/// `Query`.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &text(sql))
}

/// `Parse` without parameter types.
pub fn parse(statement: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[text(statement), text(sql), vec![0, 0]].concat())
}

/// `Bind` with text parameters and text results.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let mut body = [text(portal), text(statement), vec![0, 0]].concat();
    let count = u16::try_from(parameters.len()).expect("tests bind few parameters");
    body.extend(count.to_be_bytes());
    for parameter in parameters {
        match parameter {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(value) => body.extend(untyped_value(value.as_bytes())),
        }
    }
    body.extend([0, 0]);
    message(b'B', &body)
}

/// `Describe` of a portal (`P`) or statement (`S`).
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[vec![kind], text(name)].concat())
}

/// `Close` of a portal (`P`) or statement (`S`).
pub fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &[vec![kind], text(name)].concat())
}

/// `Execute` with a row limit, 0 for none.
pub fn execute(portal: &str, rows_max: u32) -> Vec<u8> {
    message(b'E', &[text(portal), rows_max.to_be_bytes().to_vec()].concat())
}

/// `Sync`.
pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// `Flush`.
pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

/// `Terminate`.
pub fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

/// `CopyData`.
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

/// `CopyDone`.
pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

/// `CopyFail` with a reason.
pub fn copy_fail(reason: &str) -> Vec<u8> {
    message(b'f', &text(reason))
}

/// `CancelRequest`.
pub fn cancel(pid: u32, secret: &[u8]) -> Vec<u8> {
    untyped(&[&CANCEL_REQUEST.to_be_bytes(), &pid.to_be_bytes(), secret].concat())
}

/// A zero-terminated string.
pub fn text(value: &str) -> Vec<u8> {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// Reads one typed message; `None` at a clean end of the stream.
///
/// Errors: an end inside a message, a length below 4 or absurdly large, and what reading gives.
pub fn read_frame(stream: &mut impl Read) -> Result<Option<Frame>> {
    let mut tag = [0];
    let count = loop {
        match stream.read(&mut tag) {
            // A socket with a limit tells of signals, which are nothing to a test.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    if count == 0 {
        return Ok(None);
    }
    let mut length = [0; 4];
    stream.read_exact(&mut length).context("reading a length")?;
    let length = u32::from_be_bytes(length) as usize;
    if !(4..=FRAME_BYTES_MAX).contains(&length) {
        bail!("message `{}` of length {length}", char::from(tag[0]));
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).context("reading a body")?;
    Ok(Some(Frame { tag: tag[0], body }))
}

/// Reads up to and with `ReadyForQuery`.
pub fn read_until_ready(stream: &mut impl Read) -> Result<Vec<Frame>> {
    let mut frames = Vec::new();
    loop {
        let Some(frame) = read_frame(stream)? else {
            bail!("the connection ended before ReadyForQuery, after {}", outline(&frames));
        };
        let last = frame.tag == b'Z';
        frames.push(frame);
        if last {
            return Ok(frames);
        }
    }
}

/// Type bytes of messages in order, with the SQLSTATE of errors and the status of `ReadyForQuery`: `TDCZI`, `E(42601)ZI`.
pub fn outline(frames: &[Frame]) -> String {
    let mut line = String::new();
    for frame in frames {
        line.push(char::from(frame.tag));
        match frame.tag {
            b'E' => line.push_str(&format!("({})", error_field(&frame.body, b'C'))),
            b'Z' => line.push(frame.body.first().map_or('?', |status| char::from(*status))),
            _ => {}
        }
    }
    line
}

/// One field of an `ErrorResponse` or `NoticeResponse` body: `C` is the SQLSTATE, `M` the message.
pub fn error_field(body: &[u8], field: u8) -> String {
    body.split(|byte| *byte == 0)
        .find(|part| part.first() == Some(&field))
        .map(|part| String::from_utf8_lossy(&part[1..]).into_owned())
        .unwrap_or_default()
}

/// First column of the first row among these messages, as text.
pub fn first_value(frames: &[Frame]) -> Option<String> {
    let row = frames.iter().find(|frame| frame.tag == b'D')?;
    let length = u32::from_be_bytes(row.body.get(2..6)?.try_into().ok()?) as usize;
    Some(String::from_utf8_lossy(row.body.get(6..6 + length)?).into_owned())
}

/// A started session on any stream.
#[derive(Debug)]
pub struct Session<S> {
    /// The stream.
    pub stream: S,
    /// Process id of the backend.
    pub backend: u32,
    /// Secret of `BackendKeyData`.
    pub secret: Vec<u8>,
}

impl<S: Read + Write> Session<S> {
    /// Starts a session as `postgres` on database `postgres`, where the server trusts it.
    pub fn start(mut stream: S) -> Result<Self> {
        stream.write_all(&startup(&[("user", "postgres"), ("database", "postgres")]))?;
        Self::finish_start(stream)
    }

    /// Reads the answer to a startup message that was sent already.
    pub fn finish_start(mut stream: S) -> Result<Self> {
        let frames = read_until_ready(&mut stream)?;
        let key = frames.iter().find(|frame| frame.tag == b'K').context("no BackendKeyData")?;
        let pid = key.body.get(..4).context("short BackendKeyData")?;
        let backend = u32::from_be_bytes(pid.try_into()?);
        Ok(Self { stream, backend, secret: key.body[4..].to_vec() })
    }

    /// Simple query; all answers with `ReadyForQuery`.
    pub fn simple(&mut self, sql: &str) -> Result<Vec<Frame>> {
        self.stream.write_all(&query(sql))?;
        read_until_ready(&mut self.stream)
    }

    /// First value of a simple query.
    pub fn value(&mut self, sql: &str) -> Result<String> {
        let frames = self.simple(sql)?;
        first_value(&frames).with_context(|| format!("`{sql}` gave {}", outline(&frames)))
    }
}

fn untyped_value(value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("tests send small values");
    [&length.to_be_bytes(), value].concat()
}
