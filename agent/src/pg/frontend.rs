//! Messages of the client: typed, parsed and written.
//!
//! Source: PostgreSQL documentation, "Message Formats" (protocol 3.0 and 3.2, which do not differ
//! in this direction once the startup packet is past).

use super::codec::{
    AUTHENTICATION_BYTES_MAX, FRAME_LARGE_BYTES_MAX, FRAME_SMALL_BYTES_MAX, Reader, WriteError,
    Writer,
};
use super::error::BytesFault;
use super::list::{Counted, Int16, Int32, Value};

/// A list of format codes: 0 text, 1 binary. Empty means all text, a single one stands for all.
pub type Formats<'a> = Counted<'a, Int16>;
/// A list of values, `None` for NULL.
pub type Values<'a> = Counted<'a, Value>;
/// A list of object identifiers of types.
pub type Oids<'a> = Counted<'a, Int32>;

/// Largest length field the server accepts for `tag`; `None` for a type that does not exist.
///
/// Source: `SocketBackend` in `src/backend/tcop/postgres.c`; for `p`, `recv_password_packet` in
/// `src/backend/libpq/auth.c`.
#[inline]
pub fn length_max(tag: u8) -> Option<u32> {
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Some(FRAME_LARGE_BYTES_MAX),
        b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f' => Some(FRAME_SMALL_BYTES_MAX),
        b'p' => Some(AUTHENTICATION_BYTES_MAX),
        _ => None,
    }
}

/// What `Describe` and `Close` are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement, `S`.
    Statement,
    /// A portal, `P`.
    Portal,
}

impl Target {
    fn read(reader: &mut Reader<'_>) -> Result<Self, BytesFault> {
        match reader.u8()? {
            b'S' => Ok(Self::Statement),
            b'P' => Ok(Self::Portal),
            found => Err(BytesFault::Value { field: "subtype", found: u32::from(found) }),
        }
    }

    fn tag(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }
}

/// Body of `Parse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Name of the prepared statement, empty for the unnamed one.
    pub name: &'a [u8],
    /// SQL text in the session's `client_encoding`.
    pub text: &'a [u8],
    /// Types of the first parameters, 0 for "infer it".
    pub types: Oids<'a>,
}

impl<'a> Parse<'a> {
    /// Parses the body of a frontend `Parse` message.
    ///
    /// Layout: name and text (bytes up to a zero), 16-bit count, that many 32-bit type numbers.
    pub fn read(body: &'a [u8]) -> Result<Self, BytesFault> {
        let mut reader = Reader::new(body);
        let parse =
            Self { name: reader.text()?, text: reader.text()?, types: Counted::read(&mut reader)? };
        reader.end()?;
        Ok(parse)
    }
}

/// Body of `Bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Name of the portal to make, empty for the unnamed one.
    pub portal: &'a [u8],
    /// Name of the prepared statement.
    pub statement: &'a [u8],
    /// Formats of the parameters.
    pub formats: Formats<'a>,
    /// The parameters.
    pub values: Values<'a>,
    /// Formats wanted for the result columns.
    pub result_formats: Formats<'a>,
}

impl<'a> Bind<'a> {
    /// Parses the body of a frontend `Bind` message.
    ///
    /// Layout: portal and statement names (bytes up to a zero), parameter formats, parameter
    /// values, result formats; counts are 16-bit, value lengths 32-bit with -1 for NULL, all
    /// big-endian. `body` excludes tag and length. Names need not be UTF-8.
    pub fn read(body: &'a [u8]) -> Result<Self, BytesFault> {
        let mut reader = Reader::new(body);
        let bind = Self {
            portal: reader.text()?,
            statement: reader.text()?,
            formats: Counted::read(&mut reader)?,
            values: Counted::read(&mut reader)?,
            result_formats: Counted::read(&mut reader)?,
        };
        reader.end()?;
        Ok(bind)
    }
}

/// Body of `FunctionCall`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionCall<'a> {
    /// Object identifier of the function.
    pub function: u32,
    /// Formats of the arguments.
    pub formats: Formats<'a>,
    /// The arguments.
    pub values: Values<'a>,
    /// Format wanted for the result.
    pub result_format: u16,
}

impl<'a> FunctionCall<'a> {
    /// Parses the body of a frontend `FunctionCall` message.
    ///
    /// Layout: 32-bit function number, argument formats, argument values, 16-bit result format.
    pub fn read(body: &'a [u8]) -> Result<Self, BytesFault> {
        let mut reader = Reader::new(body);
        let call = Self {
            function: reader.u32()?,
            formats: Counted::read(&mut reader)?,
            values: Counted::read(&mut reader)?,
            result_format: reader.u16()?,
        };
        reader.end()?;
        Ok(call)
    }
}

/// Body of the first message of a SASL exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// Name of the mechanism chosen.
    pub mechanism: &'a [u8],
    /// First data of the mechanism, if it has any.
    pub data: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// Parses the body of a `SASLInitialResponse`.
    ///
    /// Which kind of `p` message a body is depends on what the server asked for; only the caller
    /// knows.
    pub fn read(body: &'a [u8]) -> Result<Self, BytesFault> {
        let mut reader = Reader::new(body);
        let initial = Self { mechanism: reader.text()?, data: reader.value()? };
        reader.end()?;
        Ok(initial)
    }

    /// Appends it as a frame.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        Writer::frame(out, b'p', |w| {
            w.text(self.mechanism)?;
            w.value(self.data)
        })
    }
}

/// Reads a body that is exactly one string: `Query`, `CopyFail`, `PasswordMessage`.
///
/// Errors: [`BytesFault::Unterminated`] without a zero, [`BytesFault::Trailing`] when the first
/// zero is not the last byte. The server reads up to the first zero and then refuses the message,
/// so a text taken from the whole body would be another one than it sees.
pub fn read_text(body: &[u8]) -> Result<&[u8], BytesFault> {
    let mut reader = Reader::new(body);
    let text = reader.text()?;
    reader.end()?;
    Ok(text)
}

/// A message of the client behind the startup packet.
#[derive(Clone, PartialEq, Eq)]
pub enum Frontend<'a> {
    /// `Q`: one or more statements as text.
    Query(&'a [u8]),
    /// `P`: makes a prepared statement.
    Parse(Parse<'a>),
    /// `B`: makes a portal.
    Bind(Bind<'a>),
    /// `D`: asks for parameter and column types.
    Describe(Target, &'a [u8]),
    /// `E`: runs a portal.
    Execute {
        /// Name of the portal.
        portal: &'a [u8],
        /// Rows wanted, 0 for all.
        rows_max: i32,
    },
    /// `C`: forgets a prepared statement or portal.
    Close(Target, &'a [u8]),
    /// `H`: asks for answers now.
    Flush,
    /// `S`: ends a pipeline.
    Sync,
    /// `F`: calls a function by number.
    FunctionCall(FunctionCall<'a>),
    /// `d`: data of a COPY.
    CopyData(&'a [u8]),
    /// `c`: end of a COPY.
    CopyDone,
    /// `f`: failure of a COPY, with its reason.
    CopyFail(&'a [u8]),
    /// `X`: end of the session.
    Terminate,
    /// `p`: any answer to an authentication request; a secret.
    Authentication(&'a [u8]),
}

impl std::fmt::Debug for Frontend<'_> {
    /// The type and sizes only: texts, values and secrets stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "frontend message `{}`", char::from(self.tag()))
    }
}

impl<'a> Frontend<'a> {
    /// Parses a body by its tag.
    ///
    /// Errors: [`BytesFault::UnknownTag`] for types that do not exist in this direction, and
    /// those of the fields. A string inside `Query` is exactly the body, see [`read_text`].
    pub fn read(tag: u8, body: &'a [u8]) -> Result<Self, BytesFault> {
        let mut reader = Reader::new(body);
        let message = match tag {
            b'Q' => return read_text(body).map(Self::Query),
            b'P' => return Parse::read(body).map(Self::Parse),
            b'B' => return Bind::read(body).map(Self::Bind),
            b'F' => return FunctionCall::read(body).map(Self::FunctionCall),
            b'f' => return read_text(body).map(Self::CopyFail),
            b'd' => return Ok(Self::CopyData(body)),
            b'p' => return Ok(Self::Authentication(body)),
            b'D' => Self::Describe(Target::read(&mut reader)?, reader.text()?),
            b'C' => Self::Close(Target::read(&mut reader)?, reader.text()?),
            b'E' => Self::Execute { portal: reader.text()?, rows_max: reader.i32()? },
            b'H' => Self::Flush,
            b'S' => Self::Sync,
            b'c' => Self::CopyDone,
            b'X' => Self::Terminate,
            tag => return Err(BytesFault::UnknownTag { tag }),
        };
        reader.end()?;
        Ok(message)
    }

    /// Its type byte.
    pub fn tag(&self) -> u8 {
        match self {
            Self::Query(_) => b'Q',
            Self::Parse(_) => b'P',
            Self::Bind(_) => b'B',
            Self::Describe(_, _) => b'D',
            Self::Execute { portal: _, rows_max: _ } => b'E',
            Self::Close(_, _) => b'C',
            Self::Flush => b'H',
            Self::Sync => b'S',
            Self::FunctionCall(_) => b'F',
            Self::CopyData(_) => b'd',
            Self::CopyDone => b'c',
            Self::CopyFail(_) => b'f',
            Self::Terminate => b'X',
            Self::Authentication(_) => b'p',
        }
    }

    /// Appends it as a frame.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        Writer::frame(out, self.tag(), |w| {
            match self {
                Self::Query(text) | Self::CopyFail(text) => w.text(text)?,
                Self::Parse(parse) => {
                    w.text(parse.name)?;
                    w.text(parse.text)?;
                    parse.types.write(w);
                }
                Self::Bind(bind) => {
                    w.text(bind.portal)?;
                    w.text(bind.statement)?;
                    bind.formats.write(w);
                    bind.values.write(w);
                    bind.result_formats.write(w);
                }
                Self::Describe(target, name) | Self::Close(target, name) => {
                    w.u8(target.tag());
                    w.text(name)?;
                }
                Self::Execute { portal, rows_max } => {
                    w.text(portal)?;
                    w.i32(*rows_max);
                }
                Self::FunctionCall(call) => {
                    w.u32(call.function);
                    call.formats.write(w);
                    call.values.write(w);
                    w.u16(call.result_format);
                }
                Self::CopyData(bytes) | Self::Authentication(bytes) => w.bytes(bytes),
                Self::Flush | Self::Sync | Self::CopyDone | Self::Terminate => {}
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::codec::{HEADER_BYTES, Header};

    fn every_message() -> Vec<Frontend<'static>> {
        let formats = || Formats::new([0, 1]).expect("few");
        let values = || Values::new([None, Some(&b""[..]), Some(b"a\0b")]).expect("few");
        vec![
            Frontend::Query(b"select 1"),
            Frontend::Query(b""),
            Frontend::Query(b"\xff\xfe not UTF-8"),
            Frontend::Parse(Parse {
                name: b"s",
                text: b"select $1",
                types: Oids::new([0, 23]).expect("few"),
            }),
            Frontend::Bind(Bind {
                portal: b"p",
                statement: b"s",
                formats: formats(),
                values: values(),
                result_formats: formats(),
            }),
            Frontend::Describe(Target::Statement, b"s"),
            Frontend::Describe(Target::Portal, b""),
            Frontend::Execute { portal: b"p", rows_max: -1 },
            Frontend::Close(Target::Statement, b""),
            Frontend::Close(Target::Portal, b"p"),
            Frontend::Flush,
            Frontend::Sync,
            Frontend::FunctionCall(FunctionCall {
                function: u32::MAX,
                formats: formats(),
                values: values(),
                result_format: 1,
            }),
            Frontend::CopyData(b"1\t2\n"),
            Frontend::CopyDone,
            Frontend::CopyFail(b"why"),
            Frontend::Terminate,
            Frontend::Authentication(b"secret"),
        ]
    }

    #[test]
    fn every_message_round_trips() {
        for message in every_message() {
            let mut frame = Vec::new();
            message.write(&mut frame).expect("fits");
            let header = Header::read(&frame).expect("complete");
            assert_eq!(header.tag, message.tag());
            let max = length_max(header.tag).expect("known type");
            assert_eq!(header.body_bytes(max), Ok((frame.len() - HEADER_BYTES) as u32));
            let read = Frontend::read(header.tag, &frame[HEADER_BYTES..]);
            assert_eq!(read.as_ref(), Ok(&message));
        }
    }

    #[test]
    fn every_shorter_or_longer_body_is_refused() {
        for message in every_message() {
            // The rest of these is all data.
            if matches!(message, Frontend::CopyData(_) | Frontend::Authentication(_)) {
                continue;
            }
            let mut frame = Vec::new();
            message.write(&mut frame).expect("fits");
            let body = &frame[HEADER_BYTES..];
            for end in 0..body.len() {
                let read = Frontend::read(message.tag(), &body[..end]);
                assert!(read.is_err(), "{message:?} cut to {end} bytes");
            }
            let longer = [body, b"\0"].concat();
            let trailing = Frontend::read(message.tag(), &longer);
            assert_eq!(trailing, Err(BytesFault::Trailing { found: 1 }), "{message:?}");
        }
    }

    #[test]
    fn counts_are_checked_against_the_body() {
        let claims = b"\0\0\0\0\xff\xff";
        assert_eq!(
            Frontend::read(b'B', claims),
            Err(BytesFault::Truncated { found: 0, expected: 4 })
        );
        assert_eq!(Frontend::read(b'!', b""), Err(BytesFault::UnknownTag { tag: b'!' }));
        assert_eq!(
            Frontend::read(b'D', b"X\0"),
            Err(BytesFault::Value { field: "subtype", found: 88 })
        );
    }

    #[test]
    fn query_is_exactly_one_string() {
        assert_eq!(read_text(b"select 1\0"), Ok(&b"select 1"[..]));
        assert_eq!(read_text(b"select 1"), Err(BytesFault::Unterminated));
        assert_eq!(read_text(b"select 1\0select 2\0"), Err(BytesFault::Trailing { found: 9 }));
    }

    #[test]
    fn sasl_initial_response_round_trips() {
        for data in [None, Some(&b"n,,n=,r=x"[..])] {
            let initial = SaslInitialResponse { mechanism: b"SCRAM-SHA-256", data };
            let mut frame = Vec::new();
            initial.write(&mut frame).expect("fits");
            assert_eq!(SaslInitialResponse::read(&frame[HEADER_BYTES..]), Ok(initial));
        }
    }

    #[test]
    fn debug_shows_no_content() {
        for message in every_message() {
            let shown = format!("{message:?}");
            assert!(!shown.contains("secret") && !shown.contains("select"), "{shown}");
        }
    }
}
