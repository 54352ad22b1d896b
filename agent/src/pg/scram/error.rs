//! What goes wrong in an exchange, by blame, and what the application hears of it.

use std::borrow::Cow;

use super::{ITERATIONS_MAX, ITERATIONS_MIN, TLS_SERVER_END_POINT};
use crate::pg::error::{Reply, Side};

/// An exchange that ended without a proof. Nothing of it can be used again.
///
/// Holds neither secrets nor texts of a peer beyond a letter or the name of a kind of binding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A peer sent bytes that are not the message owed.
    #[error("{side} sent a malformed SCRAM message")]
    Malformed {
        /// Who.
        side: Side,
        /// What.
        #[source]
        fault: Fault,
    },
    /// A peer sent more than is ever read.
    #[error("{side} sent a {what} too long: {found} bytes, at most {max}")]
    Limit {
        /// Who.
        side: Side,
        /// Message, nonce or salt.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The application chose a mechanism that was not offered.
    #[error("client selected a SASL mechanism that was not offered")]
    Mechanism,
    /// Mechanism, flag and data of channel binding do not belong together, or are another
    /// connection's.
    #[error("wrong channel binding")]
    Binding(#[source] BindingFault),
    /// The application wants to act as somebody else.
    #[error("client sent an authorization identity")]
    AuthorizationIdentity,
    /// A peer demands an extension; there are none.
    #[error("{side} requires a SCRAM extension")]
    Extension {
        /// Who.
        side: Side,
    },
    /// A nonce is not the one of this exchange.
    #[error("{side} sent a nonce of another exchange")]
    Nonce {
        /// Who.
        side: Side,
    },
    /// The proof is wrong, or there is no such user: nobody but the caller of
    /// [`Verifier::mock`](super::Verifier::mock) knows which.
    #[error("client sent a wrong proof")]
    NotAuthenticated,
    /// The server's count of iterations is so low that the password could be guessed from our
    /// proof, or so high that it would only cost time.
    #[error(
        "server asks for {found} iterations, expected {} to {}",
        ITERATIONS_MIN,
        ITERATIONS_MAX
    )]
    Iterations {
        /// The count.
        found: u32,
    },
    /// The server answered our proof with an error of RFC 5802.
    #[error("server refused the proof: {}", .0.as_str())]
    Refused(ServerError),
    /// The server does not know the password's keys: it is another one than it claims to be.
    #[error("server sent a wrong signature")]
    ServerSignature,
}

/// Bytes that are not the message owed. `None` as what was found is the end of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No bytes at all.
    #[error("empty message")]
    Empty,
    /// A zero, at which the server would stop reading.
    #[error("zero byte in the message")]
    Zero,
    /// Another flag of channel binding than `n`, `y` or `p`.
    #[error("expected a channel-binding flag, found {}", character(*found))]
    Flag {
        /// The byte there.
        found: Option<u8>,
    },
    /// No comma behind the flag.
    #[error("expected a comma, found {}", character(*found))]
    Comma {
        /// The byte there.
        found: Option<u8>,
    },
    /// Neither an authorization identity nor a comma behind the flag.
    #[error("expected the end of the GS2 header, found {}", character(*found))]
    Header {
        /// The byte there.
        found: Option<u8>,
    },
    /// Another attribute than the one that comes next.
    #[error("expected attribute `{}`, found {}", char::from(*expected), character(*found))]
    Attribute {
        /// Its letter.
        expected: u8,
        /// The byte there.
        found: Option<u8>,
    },
    /// No letter where an attribute begins.
    #[error("expected an attribute, found {}", character(*found))]
    Letter {
        /// The byte there.
        found: Option<u8>,
    },
    /// No equals sign behind an attribute's letter.
    #[error("expected an equals sign behind attribute `{}`", char::from(*attribute))]
    Equals {
        /// The letter.
        attribute: u8,
    },
    /// An attribute with a meaning where only unknown ones may be.
    #[error("attribute `{}` at the wrong place", char::from(*attribute))]
    Misplaced {
        /// The letter.
        attribute: u8,
    },
    /// A nonce that is empty or has characters it must not have.
    #[error("invalid nonce")]
    Nonce,
    /// A salt that is empty or not base64.
    #[error("invalid salt")]
    Salt,
    /// A count of iterations that is not a positive number of 32 bits.
    #[error("invalid iteration count")]
    Iterations,
    /// A proof that is not base64 of 32 bytes.
    #[error("invalid proof")]
    Proof,
    /// A server's signature that is not base64 of 32 bytes.
    #[error("invalid server signature")]
    Signature,
    /// Bytes behind the proof.
    #[error("bytes behind the proof")]
    Trailing,
}

/// What is wrong with channel binding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingFault {
    /// The mechanism with channel binding, the flag without.
    #[error("flag without channel binding, mechanism with it")]
    Missing,
    /// The mechanism without channel binding, the flag with it.
    #[error("flag with channel binding, mechanism without it")]
    Unexpected,
    /// The client thinks that no binding was offered, but it was: somebody between removed it.
    #[error("client was not shown the mechanism with channel binding that was offered")]
    Downgrade,
    /// A kind of binding other than `tls-server-end-point`.
    #[error("channel binding of type `{name}`, expected `{TLS_SERVER_END_POINT}`")]
    Type {
        /// Its name: at most 30 printable characters, others as `?`.
        name: String,
    },
    /// The flag of the last message is not that of the first.
    #[error("channel-binding attribute is not that of the first message")]
    Changed,
    /// The data is that of another connection.
    #[error("channel binding to another connection")]
    Mismatch,
}

/// Why a server says that it refused our proof (RFC 5802 section 7, `server-error-value`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerError {
    /// `invalid-encoding`
    InvalidEncoding,
    /// `extensions-not-supported`
    ExtensionsNotSupported,
    /// `invalid-proof`
    InvalidProof,
    /// `channel-bindings-dont-match`
    ChannelBindingsDontMatch,
    /// `server-does-support-channel-binding`
    ServerDoesSupportChannelBinding,
    /// `channel-binding-not-supported`
    ChannelBindingNotSupported,
    /// `unsupported-channel-binding-type`
    UnsupportedChannelBindingType,
    /// `unknown-user`
    UnknownUser,
    /// `invalid-username-encoding`
    InvalidUsernameEncoding,
    /// `no-resources`
    NoResources,
    /// `other-error`, and every value that is none of these
    Other,
}

impl ServerError {
    const ALL: [Self; 11] = [
        Self::InvalidEncoding,
        Self::ExtensionsNotSupported,
        Self::InvalidProof,
        Self::ChannelBindingsDontMatch,
        Self::ServerDoesSupportChannelBinding,
        Self::ChannelBindingNotSupported,
        Self::UnsupportedChannelBindingType,
        Self::UnknownUser,
        Self::InvalidUsernameEncoding,
        Self::NoResources,
        Self::Other,
    ];

    pub(super) fn of(value: &[u8]) -> Self {
        let known = Self::ALL.into_iter().find(|error| error.as_str().as_bytes() == value);
        known.unwrap_or(Self::Other)
    }

    /// The value as it stands behind `e=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidEncoding => "invalid-encoding",
            Self::ExtensionsNotSupported => "extensions-not-supported",
            Self::InvalidProof => "invalid-proof",
            Self::ChannelBindingsDontMatch => "channel-bindings-dont-match",
            Self::ServerDoesSupportChannelBinding => "server-does-support-channel-binding",
            Self::ChannelBindingNotSupported => "channel-binding-not-supported",
            Self::UnsupportedChannelBindingType => "unsupported-channel-binding-type",
            Self::UnknownUser => "unknown-user",
            Self::InvalidUsernameEncoding => "invalid-username-encoding",
            Self::NoResources => "no-resources",
            Self::Other => "other-error",
        }
    }
}

impl ScramError {
    /// What the application is told before its connection is closed.
    ///
    /// What it did wrong itself it hears in the server's words (`src/backend/libpq/auth-scram.c`,
    /// PostgreSQL 18); what the database did wrong, in ours. `user` is the name of the startup
    /// packet, shown only where the server shows it.
    pub fn reply(&self, user: &[u8]) -> Reply {
        match self {
            Self::Malformed { side: Side::Client, fault } => client_fault(*fault),
            Self::Malformed { side: Side::Server, fault: _ }
            | Self::Limit { side: Side::Server, what: _, found: _, max: _ }
            | Self::Extension { side: Side::Server }
            | Self::Nonce { side: Side::Server } => {
                Reply::fatal(*b"08006", "server sent an invalid SCRAM message")
            }
            Self::Limit { side: Side::Client, what, found: _, max } => {
                malformed(format!("The {what} is longer than {max} bytes."))
            }
            Self::Mechanism => {
                Reply::fatal(*b"08P01", "client selected an invalid SASL authentication mechanism")
            }
            Self::Binding(fault) => fault.reply(),
            Self::AuthorizationIdentity => Reply::fatal(
                *b"0A000",
                "client uses authorization identity, but it is not supported",
            ),
            Self::Extension { side: Side::Client } => {
                Reply::fatal(*b"0A000", "client requires an unsupported SCRAM extension")
            }
            Self::Nonce { side: Side::Client } => Reply {
                detail: Some(Cow::Borrowed("Nonce does not match.")),
                ..Reply::fatal(*b"08P01", "invalid SCRAM response")
            },
            Self::NotAuthenticated => not_authenticated(user),
            Self::Iterations { found } => Reply {
                detail: Some(Cow::Owned(format!(
                    "The server asks for {found} iterations, expected {ITERATIONS_MIN} to \
                     {ITERATIONS_MAX}."
                ))),
                ..Reply::fatal(*b"08001", "SCRAM iteration count of the server is not acceptable")
            },
            Self::Refused(ServerError::InvalidProof | ServerError::UnknownUser) => {
                not_authenticated(user)
            }
            Self::Refused(error) => Reply {
                detail: Some(Cow::Borrowed(error.as_str())),
                ..Reply::fatal(*b"28000", "server refused the SCRAM exchange")
            },
            Self::ServerSignature => Reply {
                detail: Some(Cow::Borrowed(
                    "The server did not prove that it knows the password of the user.",
                )),
                ..Reply::fatal(*b"08001", "incorrect server signature")
            },
        }
    }
}

impl BindingFault {
    fn reply(&self) -> Reply {
        match self {
            Self::Missing => malformed(
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel \
                 binding data.",
            ),
            Self::Unexpected => malformed(
                "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message \
                 includes channel binding data.",
            ),
            Self::Downgrade => Reply {
                detail: Some(Cow::Borrowed(
                    "The client supports SCRAM channel binding but thinks the server does not.  \
                     However, this server does support channel binding.",
                )),
                ..Reply::fatal(*b"28000", "SCRAM channel binding negotiation error")
            },
            Self::Type { name } => Reply::fatal(
                *b"08P01",
                format!("unsupported SCRAM channel-binding type \"{name}\""),
            ),
            Self::Changed => Reply::fatal(
                *b"08P01",
                "unexpected SCRAM channel-binding attribute in client-final-message",
            ),
            Self::Mismatch => Reply::fatal(*b"28000", "SCRAM channel binding check failed"),
        }
    }
}

fn not_authenticated(user: &[u8]) -> Reply {
    let user = String::from_utf8_lossy(user);
    Reply::fatal(*b"28P01", format!("password authentication failed for user \"{user}\""))
}

fn malformed(detail: impl Into<Cow<'static, str>>) -> Reply {
    Reply { detail: Some(detail.into()), ..Reply::fatal(*b"08P01", "malformed SCRAM message") }
}

fn client_fault(fault: Fault) -> Reply {
    malformed(match fault {
        Fault::Nonce => {
            return Reply::fatal(*b"08P01", "non-printable characters in SCRAM nonce");
        }
        Fault::Empty => Cow::Borrowed("The message is empty."),
        Fault::Zero => Cow::Borrowed("Message length does not match input length."),
        Fault::Flag { found } => {
            format!("Unexpected channel-binding flag \"{}\".", character(found)).into()
        }
        Fault::Comma { found } => {
            format!("Comma expected, but found character \"{}\".", character(found)).into()
        }
        Fault::Header { found } => {
            format!("Unexpected attribute \"{}\" in client-first-message.", character(found)).into()
        }
        Fault::Attribute { expected, found } => format!(
            "Expected attribute \"{}\" but found \"{}\".",
            char::from(expected),
            character(found)
        )
        .into(),
        Fault::Letter { found: None } => {
            Cow::Borrowed("Attribute expected, but found end of string.")
        }
        Fault::Letter { found } => {
            format!("Attribute expected, but found invalid character \"{}\".", character(found))
                .into()
        }
        Fault::Equals { attribute } => {
            format!("Expected character \"=\" for attribute \"{}\".", char::from(attribute)).into()
        }
        Fault::Misplaced { attribute } => {
            format!("Unexpected attribute \"{}\".", char::from(attribute)).into()
        }
        Fault::Proof | Fault::Salt | Fault::Iterations | Fault::Signature => {
            Cow::Borrowed("Malformed proof in client-final-message.")
        }
        Fault::Trailing => Cow::Borrowed("Garbage found at the end of client-final-message."),
    })
}

/// A byte as the server shows it: a character in quotes when printable, else its number.
fn character(found: Option<u8>) -> String {
    match found {
        Some(byte) if byte.is_ascii_graphic() => format!("'{}'", char::from(byte)),
        Some(byte) => format!("{byte:#04x}"),
        None => "0x00".to_owned(),
    }
}

/// At most 30 printable characters of a peer's text.
pub(super) fn printable(text: &[u8]) -> String {
    let shown = text.iter().take(30);
    shown.map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' }).collect()
}
