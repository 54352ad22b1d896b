//! What can go wrong with a peer, split by who is to blame, and what the client hears of it.

use std::borrow::Cow;

use super::backend::{ErrorField, ErrorFields};
use super::codec::{WriteError, Writer};
use super::list::Terminated;

/// Which peer an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The application's side.
    Client,
    /// The database's side.
    Server,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Side::Client => "client",
            Side::Server => "server",
        })
    }
}

/// An error that ends the session: after any of them the two sides no longer agree with us on
/// where messages begin or whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A peer sent bytes that are not a message.
    #[error("{side} sent malformed bytes")]
    Bytes {
        /// Who.
        side: Side,
        /// What.
        #[source]
        fault: BytesFault,
    },
    /// A peer sent a message that is not allowed at this point.
    #[error("{side} broke the message sequence")]
    Sequence {
        /// Who.
        side: Side,
        /// What.
        #[source]
        fault: SequenceFault,
    },
    /// A peer asked for more than a configured limit allows.
    #[error("{side} exceeded a limit")]
    Limit {
        /// Who.
        side: Side,
        /// Which.
        #[source]
        limit: LimitFault,
    },
}

/// Bytes that do not form the message they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BytesFault {
    /// Length field outside its bounds.
    #[error("invalid length of message `{}`: {found}, expected 4 to {max}", tag.escape_ascii())]
    Length {
        /// Message type.
        tag: u8,
        /// Length field.
        found: u32,
        /// Largest allowed.
        max: u32,
    },
    /// Length field of an untagged packet outside its bounds.
    #[error("invalid length of startup packet: {found}, expected 8 to 10004")]
    StartupLength {
        /// Length field.
        found: u32,
    },
    /// A field reaches past the end of the body.
    #[error("message too short: {found} bytes left, expected {expected}")]
    Truncated {
        /// Bytes left.
        found: usize,
        /// Bytes the field needs.
        expected: usize,
    },
    /// Bytes behind the last field.
    #[error("{found} bytes behind the last field of a message")]
    Trailing {
        /// How many.
        found: usize,
    },
    /// A string without its zero.
    #[error("string without a terminator")]
    Unterminated,
    /// A length under -1.
    #[error("negative value length: {found}")]
    NegativeLength {
        /// The length.
        found: i32,
    },
    /// A field with a value outside its set.
    #[error("invalid {field}: {found}")]
    Value {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u32,
    },
    /// A message type that does not exist in this direction.
    #[error("invalid message type {tag}")]
    UnknownTag {
        /// The type byte.
        tag: u8,
    },
    /// A startup parameter given twice.
    #[error("startup parameter given twice")]
    DuplicateParameter,
    /// A startup parameter with control characters in its name or value.
    #[error("control character in a startup parameter")]
    ControlCharacter,
    /// More startup parameters than are read.
    #[error("too many startup parameters: more than {max}")]
    TooManyParameters {
        /// How many are.
        max: usize,
    },
    /// Bytes sent in the clear behind a request for encryption.
    #[error("{found} bytes behind an encryption request")]
    Stuffed {
        /// How many.
        found: usize,
    },
    /// The first bytes are not of this protocol.
    #[error("first byte {found:#04x} begins no startup packet")]
    NotPostgres {
        /// The first byte.
        found: u8,
    },
}

/// A message at the wrong time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SequenceFault {
    /// A second request of the same kind for encryption, or one inside encryption.
    #[error("repeated encryption request")]
    RepeatedEncryptionRequest,
    /// Something else than an answer to the authentication request.
    #[error("expected {expected} response, got message type {tag}")]
    NotAuthenticationResponse {
        /// What was asked for, as the server calls it.
        expected: &'static str,
        /// The type byte.
        tag: u8,
    },
    /// A request in or right behind a COPY whose data held a `Sync`.
    #[error("unexpected message type {tag:#04x} during COPY from stdin")]
    InCopy {
        /// The type byte.
        tag: u8,
    },
    /// A server message that answers nothing that was asked.
    #[error("message `{}` does not answer {awaited}", tag.escape_ascii())]
    UnexpectedAnswer {
        /// Message type.
        tag: u8,
        /// What is owed.
        awaited: &'static str,
    },
}

/// A limit of ours that a peer ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitFault {
    /// A message that has to be held whole is too long for that.
    #[error("message `{}` too long to inspect: {found} bytes, at most {max}", tag.escape_ascii())]
    MessageHeld {
        /// Message type.
        tag: u8,
        /// Its length field.
        found: u32,
        /// Largest held.
        max: u32,
    },
}

impl Error {
    pub(crate) fn client(fault: BytesFault) -> Self {
        Self::Bytes { side: Side::Client, fault }
    }

    pub(crate) fn server(fault: BytesFault) -> Self {
        Self::Bytes { side: Side::Server, fault }
    }

    /// What the client is told before its connection is closed; `None` where the server itself says nothing and only
    /// logs (`COMMERROR`): lengths that make no sense, after which nobody knows where messages begin.
    ///
    /// Texts follow the server's own where it has one. Total over all errors; reveals nothing
    /// about hosts, other users or settings beyond the size limit itself.
    pub fn reply(&self) -> Option<Reply> {
        Some(match self {
            Self::Bytes {
                side: Side::Client,
                fault: BytesFault::Length { .. } | BytesFault::StartupLength { .. },
            } => return None,
            Self::Bytes { side: Side::Client, fault } => Reply::fatal(*b"08P01", fault_text(fault)),
            Self::Bytes { side: Side::Server, fault: _ }
            | Self::Sequence { side: Side::Server, fault: _ } => {
                Reply::fatal(*b"08006", Cow::Borrowed("server sent an invalid message"))
            }
            Self::Sequence { side: Side::Client, fault } => {
                Reply::fatal(*b"08P01", sequence_text(fault))
            }
            Self::Limit { side: _, limit } => match limit {
                LimitFault::MessageHeld { tag: _, found: _, max } => Reply::fatal(
                    *b"54000",
                    Cow::Owned(format!("message exceeds the limit of {max} bytes")),
                ),
            },
        })
    }
}

fn fault_text(fault: &BytesFault) -> Cow<'static, str> {
    Cow::Borrowed(match fault {
        BytesFault::UnknownTag { tag } => {
            return Cow::Owned(format!("invalid frontend message type {tag}"));
        }
        BytesFault::Length { tag: _, found: _, max: _ } => "invalid message length",
        BytesFault::StartupLength { found: _ } | BytesFault::NotPostgres { found: _ } => {
            "invalid length of startup packet"
        }
        BytesFault::DuplicateParameter
        | BytesFault::ControlCharacter
        | BytesFault::TooManyParameters { max: _ } => "invalid startup packet",
        BytesFault::Stuffed { found: _ } => "received unencrypted data after encryption request",
        BytesFault::Truncated { found: _, expected: _ }
        | BytesFault::Trailing { found: _ }
        | BytesFault::NegativeLength { found: _ }
        | BytesFault::Value { field: _, found: _ } => "invalid message format",
        BytesFault::Unterminated => "invalid string in message",
    })
}

fn sequence_text(fault: &SequenceFault) -> Cow<'static, str> {
    match fault {
        SequenceFault::RepeatedEncryptionRequest => {
            Cow::Borrowed("unsupported frontend protocol: repeated encryption request")
        }
        SequenceFault::NotAuthenticationResponse { .. } | SequenceFault::InCopy { tag: _ } => {
            Cow::Owned(fault.to_string())
        }
        SequenceFault::UnexpectedAnswer { tag: _, awaited: _ } => {
            Cow::Borrowed("protocol violation")
        }
    }
}

/// Severity of an error as its fields `S` and `V` say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The session ends.
    Fatal,
    /// The server ends.
    Panic,
}

impl Severity {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
        }
    }

    /// Whether the connection ends with it.
    pub fn ends_session(self) -> bool {
        match self {
            Self::Error => false,
            Self::Fatal | Self::Panic => true,
        }
    }
}

/// An error as a client hears it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Severity, never localised.
    pub severity: Severity,
    /// Five characters of the SQLSTATE.
    pub sqlstate: [u8; 5],
    /// Primary message.
    pub text: Cow<'static, str>,
    /// Detail, if any.
    pub detail: Option<Cow<'static, str>>,
    /// Hint, if any.
    pub hint: Option<Cow<'static, str>>,
}

impl Reply {
    /// A reply that ends the session.
    pub fn fatal(sqlstate: [u8; 5], text: impl Into<Cow<'static, str>>) -> Self {
        Self { severity: Severity::Fatal, sqlstate, text: text.into(), detail: None, hint: None }
    }

    /// Appends it as an `ErrorResponse`.
    ///
    /// Fields in the server's order: `S`, `V`, `C`, `M`, `D`, `H`.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        let severity = self.severity.as_str().as_bytes();
        let mut fields = vec![
            ErrorField { code: b'S', text: severity },
            ErrorField { code: b'V', text: severity },
            ErrorField { code: b'C', text: &self.sqlstate },
            ErrorField { code: b'M', text: self.text.as_bytes() },
        ];
        fields.extend(
            self.detail.as_ref().map(|text| ErrorField { code: b'D', text: text.as_bytes() }),
        );
        fields.extend(
            self.hint.as_ref().map(|text| ErrorField { code: b'H', text: text.as_bytes() }),
        );
        let fields: ErrorFields<'_> = Terminated::new(fields)?;
        Writer::frame(out, b'E', |w| {
            fields.write(w);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_hears_the_servers_own_words() {
        let cases = [
            (
                Error::client(BytesFault::UnknownTag { tag: b'!' }),
                *b"08P01",
                "invalid frontend message type 33",
            ),
            (Error::client(BytesFault::Unterminated), *b"08P01", "invalid string in message"),
            (
                Error::Sequence {
                    side: Side::Client,
                    fault: SequenceFault::NotAuthenticationResponse {
                        expected: "password",
                        tag: b'Q',
                    },
                },
                *b"08P01",
                "expected password response, got message type 81",
            ),
            (
                Error::server(BytesFault::UnknownTag { tag: b'!' }),
                *b"08006",
                "server sent an invalid message",
            ),
            (
                Error::Limit {
                    side: Side::Client,
                    limit: LimitFault::MessageHeld { tag: b'Q', found: 9, max: 8 },
                },
                *b"54000",
                "message exceeds the limit of 8 bytes",
            ),
        ];
        for (error, sqlstate, text) in cases {
            let reply = error.reply().expect("it is told");
            assert_eq!(
                (reply.severity, reply.sqlstate, reply.text.as_ref()),
                (Severity::Fatal, sqlstate, text)
            );
        }
    }

    #[test]
    fn lengths_without_sense_get_no_answer_as_from_the_server() {
        let length = BytesFault::Length { tag: b'Q', found: 3, max: 9 };
        assert_eq!(Error::client(length).reply(), None);
        assert_eq!(Error::client(BytesFault::StartupLength { found: 7 }).reply(), None);
    }

    #[test]
    fn reply_is_an_error_response() {
        let mut out = Vec::new();
        Reply::fatal(*b"08P01", "no").write(&mut out).expect("fits");
        assert_eq!(out, b"E\0\0\0\x1eSFATAL\0VFATAL\0C08P01\0Mno\0\0");
    }
}
