//! Words for what a peer did.

use std::io::{ErrorKind, Read};

use anyhow::bail;
use pgward_tests::wire::{Frame, error_field};

use crate::Result;

/// More than any answer here; what goes on longer has no end.
const BYTES_MAX: usize = 1 << 20;

/// Everything that came until the connection ended, in words, such as `S`, `R10`, `E(08P01: text)`, `alert 120`, `end`. A reset
/// is an end as well.
///
/// Errors: when the peer neither says nor ends anything within the stream's time.
pub(crate) fn last_words(stream: &mut impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if ended(error.kind()) => break,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("still open after `{}`", words(&bytes));
            }
            Err(error) => return Err(error.into()),
        }
        if bytes.len() > BYTES_MAX {
            bail!("no end after {} bytes", bytes.len());
        }
    }
    Ok(format!("{} end", words(&bytes)).trim_start().to_owned())
}

/// Kinds of errors that are an end: TLS has one of its own when it was not announced.
pub(super) fn ended(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof)
}

/// One message in words.
pub(crate) fn word(frame: &Frame) -> String {
    match (frame.tag, frame.body.get(..4)) {
        (b'E', _) => {
            let (code, text) = (error_field(&frame.body, b'C'), error_field(&frame.body, b'M'));
            format!("E({code}: {text})")
        }
        (b'R', Some(kind)) => {
            format!("R{}", kind.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)))
        }
        (tag, _) => char::from(tag).to_string(),
    }
}

fn words(mut bytes: &[u8]) -> String {
    let mut words = Vec::new();
    while let Some(&tag) = bytes.first() {
        if let (0x15, [_, _, _, _, _, _, description, rest @ ..]) = (tag, bytes) {
            words.push(format!("alert {description}"));
            bytes = rest;
            continue;
        }
        let length = bytes.get(1..5).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
        let end = length.and_then(|length| usize::try_from(length).ok()?.checked_add(1));
        match end.and_then(|end| bytes.get(5..end).map(|body| (end, body))) {
            Some((end, body)) if tag.is_ascii_alphabetic() => {
                words.push(word(&Frame { tag, body: body.to_vec() }));
                bytes = &bytes[end..];
            }
            // The answer to a request for encryption is one byte.
            _ if matches!(tag, b'S' | b'N' | b'G') => {
                words.push(char::from(tag).to_string());
                bytes = &bytes[1..];
            }
            _ => {
                words.push(format!("{} bytes from {tag:#04x}", bytes.len()));
                break;
            }
        }
    }
    words.join(" ")
}
