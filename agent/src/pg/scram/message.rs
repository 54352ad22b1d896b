//! Attributes of SCRAM messages, and what their values may be.
//!
//! A message is a list of `letter=value` with commas between; the client's first one has a GS2
//! header in front. Source: RFC 5802 section 7.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::{Fault, ScramError, printable};
use super::{BindingFault, MESSAGE_BYTES_MAX, NONCE_BYTES_MAX, TLS_SERVER_END_POINT};
use crate::pg::error::Side;

/// What the client says of channel binding at the beginning of its first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gs2Flag<'a> {
    /// `n`: it does not support channel binding, or does not want it.
    NotSupported,
    /// `y`: it supports channel binding and was not offered any.
    NotOffered,
    /// `p`: it uses channel binding of this kind.
    Used(&'a [u8]),
}

impl<'a> Gs2Flag<'a> {
    /// The flag of a client's first message, of which nothing else is checked: for exchanges that
    /// are only relayed.
    ///
    /// Errors: [`ScramError::Limit`] and [`ScramError::Malformed`] of the client's side.
    pub fn of(client_first: &'a [u8]) -> Result<Self, ScramError> {
        Attributes::new(Side::Client, client_first)?.flag()
    }

    /// Only the kind of binding there is.
    pub(super) fn check_type(name: &[u8]) -> Result<(), ScramError> {
        if name == TLS_SERVER_END_POINT.as_bytes() {
            return Ok(());
        }
        Err(ScramError::Binding(BindingFault::Type { name: printable(name) }))
    }
}

/// What is left to read of a message.
pub(super) struct Attributes<'a> {
    side: Side,
    message: &'a [u8],
    /// `None` behind the last attribute; empty behind a comma with nothing after it.
    rest: Option<&'a [u8]>,
}

impl<'a> Attributes<'a> {
    /// Errors: a message that is empty, longer than [`MESSAGE_BYTES_MAX`], or has a zero byte.
    pub(super) fn new(side: Side, message: &'a [u8]) -> Result<Self, ScramError> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(limit(side, "SCRAM message", message.len(), MESSAGE_BYTES_MAX));
        }
        let this = Self { side, message, rest: Some(message) };
        match message {
            [] => Err(this.fault(Fault::Empty)),
            message if message.contains(&0) => Err(this.fault(Fault::Zero)),
            _ => Ok(this),
        }
    }

    pub(super) fn fault(&self, fault: Fault) -> ScramError {
        ScramError::Malformed { side: self.side, fault }
    }

    /// The next byte.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.and_then(|rest| rest.first()).copied()
    }

    /// How much of the message is read, the comma behind it too.
    pub(super) fn offset(&self) -> usize {
        self.message.len() - self.rest.map_or(0, <[u8]>::len)
    }

    /// Whether nothing is left, not even an empty attribute behind a comma.
    pub(super) fn at_end(&self) -> bool {
        self.rest.is_none()
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest.unwrap_or_default()
    }

    /// `gs2-cbind-flag ","`
    pub(super) fn flag(&mut self) -> Result<Gs2Flag<'a>, ScramError> {
        let flag = match self.peek() {
            Some(b'n') => Gs2Flag::NotSupported,
            Some(b'y') => Gs2Flag::NotOffered,
            Some(b'p') => return self.value(b'p').map(Gs2Flag::Used),
            found => return Err(self.fault(Fault::Flag { found })),
        };
        self.skip();
        match self.peek() {
            Some(b',') => self.skip(),
            found => return Err(self.fault(Fault::Comma { found })),
        }
        Ok(flag)
    }

    /// `[authzid] ","`: an identity is refused.
    pub(super) fn header_end(&mut self) -> Result<(), ScramError> {
        match self.peek() {
            Some(b'a') => Err(ScramError::AuthorizationIdentity),
            Some(b',') => {
                self.skip();
                Ok(())
            }
            found => Err(self.fault(Fault::Header { found })),
        }
    }

    /// Refuses the attribute that demands an extension.
    pub(super) fn no_extension(&self) -> Result<(), ScramError> {
        match self.peek() {
            Some(b'm') => Err(ScramError::Extension { side: self.side }),
            Some(_) | None => Ok(()),
        }
    }

    /// Value of the attribute that must come next.
    pub(super) fn value(&mut self, expected: u8) -> Result<&'a [u8], ScramError> {
        match self.peek() {
            Some(found) if found == expected => self.take(expected),
            found => Err(self.fault(Fault::Attribute { expected, found })),
        }
    }

    /// The attribute behind the ones that have a fixed place, if there is one.
    pub(super) fn any(&mut self) -> Result<Option<(u8, &'a [u8])>, ScramError> {
        if self.rest.is_none() {
            return Ok(None);
        }
        self.no_extension()?;
        match self.peek() {
            Some(letter) if letter.is_ascii_alphabetic() => {
                self.take(letter).map(|value| Some((letter, value)))
            }
            found => Err(self.fault(Fault::Letter { found })),
        }
    }

    /// Reads over attributes without a meaning up to the end: optional extensions, which the RFC
    /// has ignored.
    pub(super) fn extensions(&mut self) -> Result<(), ScramError> {
        while let Some((attribute, _)) = self.any()? {
            self.check_unknown(attribute)?;
        }
        Ok(())
    }

    /// An attribute with a meaning must not come again where only unknown ones are ignored: two
    /// readers could take different ones of the two.
    pub(super) fn check_unknown(&self, attribute: u8) -> Result<(), ScramError> {
        match attribute {
            b'a' | b'c' | b'e' | b'i' | b'm' | b'n' | b'p' | b'r' | b's' | b'v' => {
                Err(self.fault(Fault::Misplaced { attribute }))
            }
            _ => Ok(()),
        }
    }

    /// A value that must be a nonce: printable, at most [`NONCE_BYTES_MAX`] bytes.
    pub(super) fn nonce(&mut self) -> Result<&'a [u8], ScramError> {
        let nonce = self.value(b'r')?;
        if nonce.len() > NONCE_BYTES_MAX {
            return Err(limit(self.side, "nonce", nonce.len(), NONCE_BYTES_MAX));
        }
        if nonce.is_empty() || !nonce.iter().all(u8::is_ascii_graphic) {
            return Err(self.fault(Fault::Nonce));
        }
        Ok(nonce)
    }

    fn take(&mut self, attribute: u8) -> Result<&'a [u8], ScramError> {
        self.skip();
        if self.peek() != Some(b'=') {
            return Err(self.fault(Fault::Equals { attribute }));
        }
        self.skip();
        let rest = self.rest();
        let end = rest.iter().position(|byte| *byte == b',');
        self.rest = end.and_then(|end| rest.get(end + 1..));
        Ok(end.map_or(rest, |end| &rest[..end]))
    }

    fn skip(&mut self) {
        self.rest = self.rest.and_then(|rest| rest.get(1..));
    }
}

pub(super) fn limit(side: Side, what: &'static str, found: usize, max: usize) -> ScramError {
    ScramError::Limit { side, what, found, max }
}

/// `posit-number`: no sign, no zero in front, 32 bits.
pub(super) fn number(text: &[u8]) -> Option<u32> {
    match text.first()? {
        b'1'..=b'9' if text.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(text).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// Base64 as the server writes it: padded, without white space.
///
/// The server's decoder (`src/common/base64.c`) takes the same, and beyond it bits that are not
/// zero in front of padding; here one value has one spelling.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// As [`decode`], for exactly 32 bytes, which are written to `out` and nowhere else.
pub(super) fn decode_key(text: &[u8], out: &mut [u8; 32]) -> bool {
    // A slice of exactly the size is too small for the estimate of `decode_slice`.
    let mut buffer = zeroize::Zeroizing::new([0; 33]);
    let decoded = STANDARD.decode_slice(text, &mut buffer[..]);
    out.copy_from_slice(&buffer[..32]);
    decoded == Ok(32)
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
