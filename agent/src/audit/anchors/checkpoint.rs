//! A checkpoint as it is copied: a signed note of three lines.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use thiserror::Error;

/// Longest note that is read, in bytes: ours, with the cosignatures of all witnesses.
pub const NOTE_BYTES_MAX: usize = 16 << 10;
/// Longest origin, in bytes.
const ORIGIN_BYTES_MAX: usize = 255;

/// A checkpoint: origin, size and root of a log, with the note that says so.
///
/// The form is checked, signatures are not: what an anchor hands back counts as evidence only where its
/// reader verifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: [u8; 32],
    note: String,
    body_bytes: usize,
}

/// Why a text is no checkpoint of ours.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CheckpointError {
    /// More than a note may have.
    #[error("note too long: found {0} bytes, expected at most {NOTE_BYTES_MAX}")]
    TooLong(usize),
    /// Control characters.
    #[error("note with control characters")]
    Control,
    /// It is not three lines, a blank one and signatures.
    #[error("not a checkpoint: expected origin, size, root, an empty line and signature lines")]
    Lines,
    /// The origin is empty or too long.
    #[error("not an origin: expected 1 to {ORIGIN_BYTES_MAX} bytes without spaces")]
    Origin,
    /// The size is no number in its only form.
    #[error("not a size: expected a decimal number without leading zeros")]
    Size,
    /// The root is no hash.
    #[error("not a root: expected base64 of 32 bytes")]
    Root,
}

impl Checkpoint {
    /// Reads a signed note.
    pub fn parse(note: &str) -> Result<Self, CheckpointError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(CheckpointError::TooLong(note.len()));
        }
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(CheckpointError::Control);
        }
        let split = note.rfind("\n\n").ok_or(CheckpointError::Lines)?;
        let (body, signatures) = (&note[..=split], &note[split + 2..]);
        let mut lines = body.split_terminator('\n');
        let parts = [lines.next(), lines.next(), lines.next(), lines.next()];
        let [Some(origin), Some(size), Some(root), None] = parts else {
            return Err(CheckpointError::Lines);
        };
        let mut signatures = signatures.strip_suffix('\n').into_iter().flat_map(|s| s.split('\n'));
        let signed = |line: &str| line.strip_prefix("— ").is_some_and(|rest| rest.contains(' '));
        if !signatures.next().is_some_and(signed) || !signatures.all(signed) {
            return Err(CheckpointError::Lines);
        }
        let plain = |c: char| !c.is_whitespace() && c != '+';
        if origin.is_empty() || origin.len() > ORIGIN_BYTES_MAX || !origin.chars().all(plain) {
            return Err(CheckpointError::Origin);
        }
        Ok(Self {
            origin: origin.to_owned(),
            size: decimal(size).ok_or(CheckpointError::Size)?,
            root: hash(root).ok_or(CheckpointError::Root)?,
            note: note.to_owned(),
            body_bytes: split + 1,
        })
    }

    /// Name of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Number of its entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of its tree.
    pub fn root(&self) -> [u8; 32] {
        self.root
    }

    /// The whole note.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// What is signed: the three lines.
    pub fn body(&self) -> &str {
        &self.note[..self.body_bytes]
    }

    /// The signature lines.
    pub fn signatures(&self) -> &str {
        &self.note[self.body_bytes + 1..]
    }
}

/// A number without sign and leading zeros.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let plain = digits && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// A hash in base64.
pub(super) fn hash(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(body: &str) -> String {
        format!("{body}\n— a/1 AAAA\n")
    }

    const ROOT: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    #[test]
    fn a_checkpoint_is_read_and_kept_whole() {
        let text = note(&format!("a/1\n42\n{ROOT}\n"));
        let checkpoint = Checkpoint::parse(&text).expect("a checkpoint");
        assert_eq!((checkpoint.origin(), checkpoint.size()), ("a/1", 42));
        assert_eq!((checkpoint.root(), checkpoint.note()), ([0; 32], text.as_str()));
        assert_eq!(checkpoint.body(), format!("a/1\n42\n{ROOT}\n"));
        assert_eq!(checkpoint.signatures(), "— a/1 AAAA\n");
    }

    #[test]
    fn anything_else_is_refused() {
        use CheckpointError::{Control, Lines, Origin, Root, Size, TooLong};
        let cases = [
            (String::new(), Lines),
            (note(&format!("a/1\n42\n{ROOT}\nextension\n")), Lines),
            (note("a/1\n42\n"), Lines),
            (format!("a/1\n42\n{ROOT}\n\n"), Lines),
            (format!("a/1\n42\n{ROOT}\n\nno signature\n"), Lines),
            (format!("a/1\n42\n{ROOT}\n\n— a/1 AAAA"), Lines),
            (format!("a/1\n42\n{ROOT}\n\n— a/1 AAAA\n\n"), Lines),
            (note(&format!("a/1\r\n42\n{ROOT}\n")), Control),
            (note(&format!("a 1\n42\n{ROOT}\n")), Origin),
            (note(&format!("\n42\n{ROOT}\n")), Origin),
            (note(&format!("{}\n42\n{ROOT}\n", "a".repeat(256))), Origin),
            (note(&format!("a/1\n042\n{ROOT}\n")), Size),
            (note(&format!("a/1\n+42\n{ROOT}\n")), Size),
            (note(&format!("a/1\n18446744073709551616\n{ROOT}\n")), Size),
            (note("a/1\n42\nAAAA\n"), Root),
            (note("a/1\n42\n!\n"), Root),
            ("a".repeat(NOTE_BYTES_MAX + 1), TooLong(NOTE_BYTES_MAX + 1)),
        ];
        for (text, expected) in cases {
            assert_eq!(Checkpoint::parse(&text), Err(expected), "{text:?}");
        }
    }
}
