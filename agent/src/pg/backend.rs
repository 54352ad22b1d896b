//! Messages of the server: typed, parsed and written.
//!
//! Source: PostgreSQL documentation, "Message Formats" and "Error and Notice Message Fields"
//! (protocol 3.0 and 3.2; 3.2 lengthens the secret of `BackendKeyData`).

use super::codec::{CANCEL_KEY_BYTES, Reader, WriteError, Writer};
use super::error::{BytesFault, Severity};
use super::frontend::{Formats, Oids, Values};
use super::list::{Counted, Kind, Terminated, Text};

/// Columns of a result.
pub type Columns<'a> = Counted<'a, ColumnKind>;
/// Fields of an error or notice.
pub type ErrorFields<'a> = Terminated<'a, ErrorFieldKind>;

/// One column of a `RowDescription`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// Name as the client sees it.
    pub name: &'a [u8],
    /// Object identifier of the table it comes from, 0 if none.
    pub table: u32,
    /// Number of the column in that table, 0 if none.
    pub attribute: u16,
    /// Object identifier of its type.
    pub type_oid: u32,
    /// Size of the type, negative if variable.
    pub type_bytes: u16,
    /// Type modifier.
    pub type_modifier: i32,
    /// 0 text, 1 binary.
    pub format: u16,
}

/// Lists of [`Column`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnKind;

impl Kind for ColumnKind {
    type Item<'a> = Column<'a>;

    fn read<'a>(reader: &mut Reader<'a>) -> Result<Column<'a>, BytesFault> {
        Ok(Column {
            name: reader.text()?,
            table: reader.u32()?,
            attribute: reader.u16()?,
            type_oid: reader.u32()?,
            type_bytes: reader.u16()?,
            type_modifier: reader.i32()?,
            format: reader.u16()?,
        })
    }

    fn write(item: &Column<'_>, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        writer.text(item.name)?;
        writer.u32(item.table);
        writer.u16(item.attribute);
        writer.u32(item.type_oid);
        writer.u16(item.type_bytes);
        writer.i32(item.type_modifier);
        writer.u16(item.format);
        Ok(())
    }
}

/// One field of an `ErrorResponse` or `NoticeResponse`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErrorField<'a> {
    /// Which field, never zero: `S`, `V`, `C`, `M`, `D`, `H`, ...
    pub code: u8,
    /// Its text.
    pub text: &'a [u8],
}

/// Lists of [`ErrorField`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorFieldKind;

impl Kind for ErrorFieldKind {
    type Item<'a> = ErrorField<'a>;

    fn read<'a>(reader: &mut Reader<'a>) -> Result<ErrorField<'a>, BytesFault> {
        Ok(ErrorField { code: reader.u8()?, text: reader.text()? })
    }

    fn write(item: &ErrorField<'_>, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        writer.u8(item.code);
        writer.text(item.text)
    }
}

/// What of an error the session acts upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorHead {
    /// From field `V`, or `S` of servers before 9.6; anything unknown is an error.
    pub severity: Severity,
    /// Field `C`, if it is five bytes.
    pub sqlstate: Option<[u8; 5]>,
}

impl ErrorHead {
    /// Bytes of the body that hold severity and SQLSTATE, which the server sends first.
    pub const PREFIX_BYTES_MAX: usize = 512;

    /// Reads fields up to `C` from a body or its first bytes; never fails, a field cut off or
    /// missing is `None`.
    pub fn read(prefix: &[u8]) -> Self {
        let mut head = Self { severity: Severity::Error, sqlstate: None };
        let mut localised = true;
        let mut reader = Reader::new(prefix);
        while let Ok(field) = ErrorFieldKind::read(&mut reader) {
            match field.code {
                0 => break,
                b'V' | b'S' if localised => {
                    head.severity = match field.text {
                        b"FATAL" => Severity::Fatal,
                        b"PANIC" => Severity::Panic,
                        _ => Severity::Error,
                    };
                    localised = field.code == b'S';
                }
                b'C' => {
                    head.sqlstate = field.text.try_into().ok();
                    break;
                }
                _ => {}
            }
        }
        head
    }
}

/// What the server asks of the client before the session, or that it asks no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// 0: accepted.
    Ok,
    /// 2: Kerberos 5, gone since 9.3.
    KerberosV5,
    /// 3: password in the clear.
    CleartextPassword,
    /// 5: MD5 of password, user and this salt.
    Md5Password {
        /// The salt.
        salt: [u8; 4],
    },
    /// 6: SCM credentials, gone since 9.1.
    ScmCredential,
    /// 7: GSSAPI.
    Gss,
    /// 8: next data of GSSAPI or SSPI.
    GssContinue(&'a [u8]),
    /// 9: SSPI.
    Sspi,
    /// 10: SASL by one of these mechanisms.
    Sasl(Terminated<'a, Text>),
    /// 11: next data of the mechanism.
    SaslContinue(&'a [u8]),
    /// 12: last data of the mechanism.
    SaslFinal(&'a [u8]),
}

impl<'a> Authentication<'a> {
    /// Parses the body of any `Authentication...` message.
    pub fn read(body: &'a [u8]) -> Result<Self, BytesFault> {
        let mut reader = Reader::new(body);
        let request = match reader.u32()? {
            0 => Self::Ok,
            2 => Self::KerberosV5,
            3 => Self::CleartextPassword,
            5 => {
                let salt = reader.u32()?.to_be_bytes();
                Self::Md5Password { salt }
            }
            6 => Self::ScmCredential,
            7 => Self::Gss,
            8 => return Ok(Self::GssContinue(reader.rest())),
            9 => Self::Sspi,
            10 => Self::Sasl(Terminated::read(&mut reader)?),
            11 => return Ok(Self::SaslContinue(reader.rest())),
            12 => return Ok(Self::SaslFinal(reader.rest())),
            found => return Err(BytesFault::Value { field: "authentication request", found }),
        };
        reader.end()?;
        Ok(request)
    }

    fn code(&self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::KerberosV5 => 2,
            Self::CleartextPassword => 3,
            Self::Md5Password { salt: _ } => 5,
            Self::ScmCredential => 6,
            Self::Gss => 7,
            Self::GssContinue(_) => 8,
            Self::Sspi => 9,
            Self::Sasl(_) => 10,
            Self::SaslContinue(_) => 11,
            Self::SaslFinal(_) => 12,
        }
    }
}

/// Status of the session's transaction as `ReadyForQuery` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// `I`: none.
    Idle,
    /// `T`: open.
    Open,
    /// `E`: failed, everything but its end is refused.
    Failed,
}

impl TransactionStatus {
    /// Reads the status byte.
    pub fn from_byte(byte: u8) -> Result<Self, BytesFault> {
        match byte {
            b'I' => Ok(Self::Idle),
            b'T' => Ok(Self::Open),
            b'E' => Ok(Self::Failed),
            found => {
                Err(BytesFault::Value { field: "transaction status", found: u32::from(found) })
            }
        }
    }

    /// The status byte.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }
}

/// Body of `CopyInResponse`, `CopyOutResponse` and `CopyBothResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFormat<'a> {
    /// 0: rows of text, 1: binary.
    pub format: u8,
    /// Format of each column.
    pub columns: Formats<'a>,
}

/// A message of the server behind its answer to the encryption request.
#[derive(Clone, PartialEq, Eq)]
pub enum Backend<'a> {
    /// `R`: asks for, continues or ends authentication.
    Authentication(Authentication<'a>),
    /// `K`: what a cancel request for this session has to say.
    BackendKeyData {
        /// Process number of the server.
        pid: u32,
        /// The secret, 4 to 256 bytes.
        key: &'a [u8],
    },
    /// `S`: a setting's value.
    ParameterStatus {
        /// Setting.
        name: &'a [u8],
        /// Value.
        value: &'a [u8],
    },
    /// `v`: the server speaks less than was asked for.
    NegotiateProtocolVersion {
        /// Newest minor version of the major version asked for; since PostgreSQL 18 the whole
        /// version number.
        newest: u32,
        /// Options of the protocol it does not know, 32-bit count in front.
        options: Vec<&'a [u8]>,
    },
    /// `T`: columns of the rows to come.
    RowDescription(Columns<'a>),
    /// `D`: a row.
    DataRow(Values<'a>),
    /// `C`: a statement is done; its tag.
    CommandComplete(&'a [u8]),
    /// `I`: an empty statement is done.
    EmptyQueryResponse,
    /// `E`: a statement or the session failed.
    ErrorResponse(ErrorFields<'a>),
    /// `N`: a notice.
    NoticeResponse(ErrorFields<'a>),
    /// `A`: a notification.
    NotificationResponse {
        /// Process number of the notifying server.
        pid: u32,
        /// Channel.
        channel: &'a [u8],
        /// Payload.
        payload: &'a [u8],
    },
    /// `n`: no rows will come.
    NoData,
    /// `t`: types of the parameters of a prepared statement.
    ParameterDescription(Oids<'a>),
    /// `1`: `Parse` is done.
    ParseComplete,
    /// `2`: `Bind` is done.
    BindComplete,
    /// `3`: `Close` is done.
    CloseComplete,
    /// `s`: the row limit of `Execute` was reached.
    PortalSuspended,
    /// `Z`: the server waits for the next request.
    ReadyForQuery(TransactionStatus),
    /// `G`: the server waits for COPY data.
    CopyInResponse(CopyFormat<'a>),
    /// `H`: the server sends COPY data.
    CopyOutResponse(CopyFormat<'a>),
    /// `W`: both, replication.
    CopyBothResponse(CopyFormat<'a>),
    /// `d`: data of a COPY.
    CopyData(&'a [u8]),
    /// `c`: end of COPY data.
    CopyDone,
    /// `V`: result of a `FunctionCall`.
    FunctionCallResponse(Option<&'a [u8]>),
}

impl std::fmt::Debug for Backend<'_> {
    /// The type only: rows, texts and secrets stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "backend message `{}`", char::from(self.tag()))
    }
}

impl<'a> Backend<'a> {
    /// Parses a body by its tag.
    ///
    /// Errors: [`BytesFault::UnknownTag`] for types that do not exist in this direction, and
    /// those of the fields.
    pub fn read(tag: u8, body: &'a [u8]) -> Result<Self, BytesFault> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        let message = match tag {
            b'R' => return Authentication::read(body).map(Self::Authentication),
            b'd' => return Ok(Self::CopyData(body)),
            b'K' => {
                let pid = r.u32()?;
                let key = r.bytes(r.rest().len())?;
                if !CANCEL_KEY_BYTES.contains(&key.len()) {
                    let found = u32::try_from(key.len()).unwrap_or(u32::MAX);
                    return Err(BytesFault::Value { field: "length of cancel key", found });
                }
                Self::BackendKeyData { pid, key }
            }
            b'S' => Self::ParameterStatus { name: r.text()?, value: r.text()? },
            b'v' => {
                let newest = r.u32()?;
                let count = r.u32()?;
                // Each option takes at least its zero, so the loop ends with the body.
                let options = (0..count).map(|_| r.text()).collect::<Result<_, _>>()?;
                Self::NegotiateProtocolVersion { newest, options }
            }
            b'T' => Self::RowDescription(Counted::read(r)?),
            b'D' => Self::DataRow(Counted::read(r)?),
            b'C' => Self::CommandComplete(r.text()?),
            b'I' => Self::EmptyQueryResponse,
            b'E' => Self::ErrorResponse(Terminated::read(r)?),
            b'N' => Self::NoticeResponse(Terminated::read(r)?),
            b'A' => {
                Self::NotificationResponse { pid: r.u32()?, channel: r.text()?, payload: r.text()? }
            }
            b'n' => Self::NoData,
            b't' => Self::ParameterDescription(Counted::read(r)?),
            b'1' => Self::ParseComplete,
            b'2' => Self::BindComplete,
            b'3' => Self::CloseComplete,
            b's' => Self::PortalSuspended,
            b'Z' => Self::ReadyForQuery(TransactionStatus::from_byte(r.u8()?)?),
            b'G' => Self::CopyInResponse(copy_format(r)?),
            b'H' => Self::CopyOutResponse(copy_format(r)?),
            b'W' => Self::CopyBothResponse(copy_format(r)?),
            b'c' => Self::CopyDone,
            b'V' => Self::FunctionCallResponse(r.value()?),
            tag => return Err(BytesFault::UnknownTag { tag }),
        };
        reader.end()?;
        Ok(message)
    }

    /// Its type byte.
    pub fn tag(&self) -> u8 {
        match self {
            Self::Authentication(_) => b'R',
            Self::BackendKeyData { pid: _, key: _ } => b'K',
            Self::ParameterStatus { name: _, value: _ } => b'S',
            Self::NegotiateProtocolVersion { newest: _, options: _ } => b'v',
            Self::RowDescription(_) => b'T',
            Self::DataRow(_) => b'D',
            Self::CommandComplete(_) => b'C',
            Self::EmptyQueryResponse => b'I',
            Self::ErrorResponse(_) => b'E',
            Self::NoticeResponse(_) => b'N',
            Self::NotificationResponse { pid: _, channel: _, payload: _ } => b'A',
            Self::NoData => b'n',
            Self::ParameterDescription(_) => b't',
            Self::ParseComplete => b'1',
            Self::BindComplete => b'2',
            Self::CloseComplete => b'3',
            Self::PortalSuspended => b's',
            Self::ReadyForQuery(_) => b'Z',
            Self::CopyInResponse(_) => b'G',
            Self::CopyOutResponse(_) => b'H',
            Self::CopyBothResponse(_) => b'W',
            Self::CopyData(_) => b'd',
            Self::CopyDone => b'c',
            Self::FunctionCallResponse(_) => b'V',
        }
    }

    /// Appends it as a frame.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        Writer::frame(out, self.tag(), |w| self.write_body(w))
    }

    fn write_body(&self, w: &mut Writer<'_>) -> Result<(), WriteError> {
        match self {
            Self::Authentication(request) => {
                w.u32(request.code());
                match request {
                    Authentication::Md5Password { salt } => w.bytes(salt),
                    Authentication::GssContinue(data)
                    | Authentication::SaslContinue(data)
                    | Authentication::SaslFinal(data) => w.bytes(data),
                    Authentication::Sasl(mechanisms) => mechanisms.write(w),
                    Authentication::Ok
                    | Authentication::KerberosV5
                    | Authentication::CleartextPassword
                    | Authentication::ScmCredential
                    | Authentication::Gss
                    | Authentication::Sspi => {}
                }
            }
            Self::BackendKeyData { pid, key } => {
                w.u32(*pid);
                w.bytes(key);
            }
            Self::ParameterStatus { name, value } => {
                w.text(name)?;
                w.text(value)?;
            }
            Self::NegotiateProtocolVersion { newest, options } => {
                w.u32(*newest);
                let count = u32::try_from(options.len())
                    .map_err(|_| WriteError::TooMany { found: options.len() })?;
                w.u32(count);
                for option in options {
                    w.text(option)?;
                }
            }
            Self::RowDescription(columns) => columns.write(w),
            Self::DataRow(values) => values.write(w),
            Self::CommandComplete(tag) => w.text(tag)?,
            Self::ErrorResponse(fields) | Self::NoticeResponse(fields) => fields.write(w),
            Self::NotificationResponse { pid, channel, payload } => {
                w.u32(*pid);
                w.text(channel)?;
                w.text(payload)?;
            }
            Self::ParameterDescription(types) => types.write(w),
            Self::ReadyForQuery(status) => w.u8(status.to_byte()),
            Self::CopyInResponse(copy)
            | Self::CopyOutResponse(copy)
            | Self::CopyBothResponse(copy) => {
                w.u8(copy.format);
                copy.columns.write(w);
            }
            Self::CopyData(data) => w.bytes(data),
            Self::FunctionCallResponse(value) => w.value(*value)?,
            Self::EmptyQueryResponse
            | Self::NoData
            | Self::ParseComplete
            | Self::BindComplete
            | Self::CloseComplete
            | Self::PortalSuspended
            | Self::CopyDone => {}
        }
        Ok(())
    }
}

fn copy_format<'a>(reader: &mut Reader<'a>) -> Result<CopyFormat<'a>, BytesFault> {
    Ok(CopyFormat { format: reader.u8()?, columns: Counted::read(reader)? })
}

#[cfg(test)]
mod tests;
