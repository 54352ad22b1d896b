//! The first bytes of a connection: one type with every case named.
//!
//! ```text
//!          SSLRequest / GSSENCRequest (each at most once, nothing behind it)
//!         +-----------------+
//!         v                 |
//!   first packet ----------> answered `N` -> first packet again
//!     |   |   |   |         \ answered `S`/`G` -> encrypted, first packet again, no request allowed
//!     |   |   |   +-- direct TLS hello (0x16)
//!     |   |   +------ cancel request
//!     |   +---------- startup: the session begins
//!     +-------------- another version, or no PostgreSQL at all
//! ```
//!
//! Source: PostgreSQL documentation, "Message Flow" ("Start-up", "SSL Session Encryption",
//! "GSSAPI Session Encryption", "Canceling Requests in Progress"), and `ProcessStartupPacket`.

mod options;

use super::codec::{CANCEL_KEY_BYTES, Reader, STARTUP_BYTES_MAX, WriteError, Writer};
use super::error::{BytesFault, Error, SequenceFault, Side};
use super::session::CancelKey;

pub use options::{Invalid, OPTIONS_MAX, StartupOption, options};

const MAJOR: u16 = 3;
/// Codes that stand where a protocol version would: 1234 in the upper half.
const REQUEST_MAJOR: u16 = 1234;
const CANCEL_MINOR: u16 = 5678;
const SSL_MINOR: u16 = 5679;
const GSSENC_MINOR: u16 = 5680;
/// Parameters of one startup packet: more than any client has settings to give.
pub const PARAMETERS_MAX: usize = 256;
/// Content type of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Parameters of a startup packet. Each is at most [`STARTUP_BYTES_MAX`] bytes, as is their sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    pairs: Vec<Parameter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl Parameters {
    /// Value of a parameter.
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// All pairs in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs.iter().map(|pair| (pair.name.as_ref(), pair.value.as_ref()))
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let pairs = pairs
            .into_iter()
            .map(|(n, v)| Parameter { name: n.as_ref().into(), value: v.as_ref().into() });
        Self { pairs: pairs.collect() }
    }
}

/// What a connection begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstPacket {
    /// A session of protocol 3; the server decides whether it speaks this minor version.
    Startup {
        /// Minor version asked for: 0, 2, or one to be negotiated down.
        minor: u16,
        /// `user`, `database`, `options`, settings, and `_pq_.` protocol options.
        parameters: Parameters,
    },
    /// The client wants TLS: answer `S` or `N`.
    SslRequest,
    /// The client wants GSSAPI encryption: answer `G` or `N`.
    GssEncRequest,
    /// The client wants a statement of another session stopped; no answer.
    Cancel(Cancel),
    /// The client begins TLS without asking; the hello is not consumed.
    DirectTls,
    /// A protocol version that is not 3, or an unknown request code.
    Unsupported {
        /// Upper half of the version.
        major: u16,
        /// Lower half.
        minor: u16,
    },
    /// Not a startup packet by its first byte; nothing is consumed.
    Other {
        /// The byte.
        first: u8,
    },
}

/// A `CancelRequest`: which session, and the proof of being allowed to.
#[derive(Clone, PartialEq, Eq)]
pub struct Cancel {
    /// Process number from `BackendKeyData`.
    pub pid: u32,
    key: CancelKey,
}

impl Cancel {
    /// Builds one.
    ///
    /// Errors: [`BytesFault::Value`] unless the key is 4 to 256 bytes.
    pub fn new(pid: u32, key: &[u8]) -> Result<Self, BytesFault> {
        if CANCEL_KEY_BYTES.contains(&key.len()) {
            return Ok(Self { pid, key: CancelKey(key.into()) });
        }
        let found = u32::try_from(key.len()).unwrap_or(u32::MAX);
        Err(BytesFault::Value { field: "length of cancel key", found })
    }

    /// The secret from `BackendKeyData`.
    pub fn key(&self) -> &[u8] {
        &self.key.0
    }

    /// Appends it as a packet.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        Writer::packet(out, |w| {
            w.u16(REQUEST_MAJOR);
            w.u16(CANCEL_MINOR);
            w.u32(self.pid);
            w.bytes(&self.key.0);
            Ok(())
        })
    }
}

impl std::fmt::Debug for Cancel {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancel").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Appends a startup packet of version 3.`minor`.
pub fn write_startup(
    out: &mut Vec<u8>,
    minor: u16,
    parameters: &Parameters,
) -> Result<(), WriteError> {
    Writer::packet(out, |w| {
        w.u16(MAJOR);
        w.u16(minor);
        for (name, value) in parameters.iter() {
            if name.is_empty() {
                return Err(WriteError::ZeroInString { offset: 0 });
            }
            w.text(name)?;
            w.text(value)?;
        }
        w.u8(0);
        Ok(())
    })
}

/// Appends an `SSLRequest`.
pub fn write_ssl_request(out: &mut Vec<u8>) -> Result<(), WriteError> {
    write_request(out, SSL_MINOR)
}

/// Appends a `GSSENCRequest`.
pub fn write_gssenc_request(out: &mut Vec<u8>) -> Result<(), WriteError> {
    write_request(out, GSSENC_MINOR)
}

fn write_request(out: &mut Vec<u8>, minor: u16) -> Result<(), WriteError> {
    Writer::packet(out, |w| {
        w.u16(REQUEST_MAJOR);
        w.u16(minor);
        Ok(())
    })
}

/// Whether the transport is already encrypted when packets are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Bytes as they came from the socket.
    Clear,
    /// Bytes from inside TLS or GSSAPI.
    Encrypted,
}

/// Reads first packets until one begins a session, a cancel or something else.
///
/// Call [`Opening::handle`] with all bytes buffered from the client; when it names a packet,
/// remove the bytes it consumed. After `SslRequest` or `GssEncRequest`, answer one byte and go on
/// with the same value if the answer was `N`, with a new `Encrypted` one if not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    ssl_asked: bool,
    gssenc_asked: bool,
}

impl Opening {
    /// A connection from which nothing was read.
    pub fn new(transport: Transport) -> Self {
        let encrypted = match transport {
            Transport::Clear => false,
            Transport::Encrypted => true,
        };
        Self { ssl_asked: encrypted, gssenc_asked: encrypted }
    }

    /// The packet at the front of `input` and the bytes it takes; `None` while incomplete.
    ///
    /// Limits: a packet is at most 10 004 bytes, known from its first four. Bytes behind a
    /// startup packet belong to the session; behind a cancel they mean nothing and are to be
    /// dropped.
    /// Errors: [`BytesFault::Stuffed`] for bytes behind a request for encryption (an attacker on
    /// the path could put them there, CVE-2021-23214), [`BytesFault::DuplicateParameter`] and
    /// [`BytesFault::ControlCharacter`] for parameters that two readers may read differently,
    /// [`SequenceFault::RepeatedEncryptionRequest`], and those of the fields.
    pub fn handle(&mut self, input: &[u8]) -> Result<Option<(FirstPacket, usize)>, Error> {
        let Some(&first) = input.first() else { return Ok(None) };
        // The length is below 65536, so its first byte is zero.
        match first {
            0 => {}
            TLS_HANDSHAKE if !self.ssl_asked => return Ok(Some((FirstPacket::DirectTls, 0))),
            first => return Ok(Some((FirstPacket::Other { first }, 0))),
        }
        let Some((field, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*field);
        if !(8..=STARTUP_BYTES_MAX + 4).contains(&length) {
            return Err(Error::client(BytesFault::StartupLength { found: length }));
        }
        let consumed = length as usize;
        let Some((body, behind)) = rest.split_at_checked(consumed - 4) else { return Ok(None) };
        let packet = read_body(body).map_err(Error::client)?;
        self.check(&packet, behind)?;
        Ok(Some((packet, consumed)))
    }

    fn check(&mut self, packet: &FirstPacket, behind: &[u8]) -> Result<(), Error> {
        let asked = match packet {
            FirstPacket::SslRequest => &mut self.ssl_asked,
            FirstPacket::GssEncRequest => &mut self.gssenc_asked,
            FirstPacket::Startup { minor: _, parameters: _ }
            | FirstPacket::Cancel(_)
            | FirstPacket::DirectTls
            | FirstPacket::Unsupported { major: _, minor: _ }
            | FirstPacket::Other { first: _ } => return Ok(()),
        };
        if std::mem::replace(asked, true) {
            let fault = SequenceFault::RepeatedEncryptionRequest;
            return Err(Error::Sequence { side: Side::Client, fault });
        }
        if !behind.is_empty() {
            return Err(Error::client(BytesFault::Stuffed { found: behind.len() }));
        }
        Ok(())
    }
}

fn read_body(body: &[u8]) -> Result<FirstPacket, BytesFault> {
    let mut reader = Reader::new(body);
    let packet = match (reader.u16()?, reader.u16()?) {
        (REQUEST_MAJOR, SSL_MINOR) => FirstPacket::SslRequest,
        (REQUEST_MAJOR, GSSENC_MINOR) => FirstPacket::GssEncRequest,
        (REQUEST_MAJOR, CANCEL_MINOR) => {
            let pid = reader.u32()?;
            return Cancel::new(pid, reader.rest()).map(FirstPacket::Cancel);
        }
        (MAJOR, minor) => FirstPacket::Startup { minor, parameters: read_parameters(&mut reader)? },
        (major, minor) => return Ok(FirstPacket::Unsupported { major, minor }),
    };
    reader.end()?;
    Ok(packet)
}

fn read_parameters(reader: &mut Reader<'_>) -> Result<Parameters, BytesFault> {
    let mut parameters = Parameters::default();
    loop {
        let name = reader.text()?;
        if name.is_empty() {
            return Ok(parameters);
        }
        let value = reader.text()?;
        if name.iter().chain(value).any(u8::is_ascii_control) {
            return Err(BytesFault::ControlCharacter);
        }
        if parameters.value(name).is_some() {
            return Err(BytesFault::DuplicateParameter);
        }
        if parameters.pairs.len() >= PARAMETERS_MAX {
            return Err(BytesFault::TooManyParameters { max: PARAMETERS_MAX });
        }
        parameters.pairs.push(Parameter { name: name.into(), value: value.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        write_startup(&mut out, 2, &pairs.iter().copied().collect()).expect("fits");
        out
    }

    fn first(input: &[u8]) -> Result<Option<(FirstPacket, usize)>, Error> {
        Opening::new(Transport::Clear).handle(input)
    }

    #[test]
    fn startup_round_trips_and_every_prefix_is_incomplete() {
        let packet = startup(&[("user", "a"), ("options", "-c x=1 "), ("_pq_.x", "")]);
        for end in 0..packet.len() {
            assert_eq!(first(&packet[..end]), Ok(None), "prefix of {end} bytes");
        }
        let Ok(Some((FirstPacket::Startup { minor, parameters }, consumed))) = first(&packet)
        else {
            panic!("expected a startup packet");
        };
        assert_eq!((minor, consumed), (2, packet.len()));
        assert_eq!(parameters.value(b"options"), Some(&b"-c x=1 "[..]));
        assert_eq!(parameters.value(b"_pq_.x"), Some(&b""[..]));
        let mut again = Vec::new();
        write_startup(&mut again, minor, &parameters).expect("fits");
        assert_eq!(again, packet);
    }

    #[test]
    fn bytes_behind_startup_belong_to_the_session() {
        let mut packet = startup(&[("user", "a")]);
        let length = packet.len();
        packet.extend_from_slice(b"p\0\0\0\x05x");
        assert_eq!(first(&packet).expect("well formed").expect("complete").1, length);
    }

    #[test]
    fn refuses_parameters_that_two_readers_may_read_differently() {
        for (pairs, fault) in [
            (&[("user", "a"), ("user", "b")], BytesFault::DuplicateParameter),
            (&[("user", "a\n"), ("b", "")], BytesFault::ControlCharacter),
            (&[("us\x7fer", "a"), ("b", "")], BytesFault::ControlCharacter),
        ] {
            assert_eq!(first(&startup(pairs)), Err(Error::client(fault)));
        }
    }

    #[test]
    fn parameters_are_counted() {
        let names: Vec<String> = (0..=PARAMETERS_MAX).map(|n| n.to_string()).collect();
        let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        assert!(first(&startup(&pairs[1..])).is_ok());
        let fault = BytesFault::TooManyParameters { max: PARAMETERS_MAX };
        assert_eq!(first(&startup(&pairs)), Err(Error::client(fault)));
    }

    #[test]
    fn encryption_is_asked_for_once_of_each_kind_with_nothing_behind() {
        let (mut ssl, mut gss) = (Vec::new(), Vec::new());
        write_ssl_request(&mut ssl).expect("fits");
        write_gssenc_request(&mut gss).expect("fits");
        assert_eq!(ssl, [0, 0, 0, 8, 4, 210, 22, 47]);

        let mut opening = Opening::new(Transport::Clear);
        assert_eq!(opening.handle(&gss), Ok(Some((FirstPacket::GssEncRequest, 8))));
        assert_eq!(opening.handle(&ssl), Ok(Some((FirstPacket::SslRequest, 8))));
        let repeated =
            Error::Sequence { side: Side::Client, fault: SequenceFault::RepeatedEncryptionRequest };
        assert_eq!(opening.handle(&ssl), Err(repeated.clone()));
        assert_eq!(opening.handle(&gss), Err(repeated.clone()));
        assert_eq!(Opening::new(Transport::Encrypted).handle(&ssl), Err(repeated));

        // CVE-2021-23214 and its kind.
        ssl.push(b'Q');
        assert_eq!(first(&ssl), Err(Error::client(BytesFault::Stuffed { found: 1 })));
    }

    #[test]
    fn cancel_takes_keys_of_every_protocol_version() {
        for length in [4, 32, 256] {
            let cancel = Cancel::new(7, &vec![9; length]).expect("allowed length");
            let mut packet = Vec::new();
            cancel.write(&mut packet).expect("fits");
            packet.push(b'X');
            assert_eq!(
                first(&packet),
                Ok(Some((FirstPacket::Cancel(cancel), packet.len() - 1))),
                "key of {length} bytes"
            );
        }
        for length in [0, 3, 257] {
            assert!(Cancel::new(7, &vec![9; length]).is_err());
        }
    }

    #[test]
    fn names_what_is_not_a_startup_packet() {
        assert_eq!(first(&[0x16, 3, 1]), Ok(Some((FirstPacket::DirectTls, 0))));
        assert_eq!(first(b"GET / HTTP"), Ok(Some((FirstPacket::Other { first: b'G' }, 0))));
        assert_eq!(
            first(&[0, 0, 0, 9, 0, 2, 0, 0, 1]),
            Ok(Some((FirstPacket::Unsupported { major: 2, minor: 0 }, 9)))
        );
        for length in [0_u32, 7, 10_005, 0xffff] {
            assert_eq!(
                first(&length.to_be_bytes()),
                Err(Error::client(BytesFault::StartupLength { found: length }))
            );
        }
    }

    #[test]
    fn startup_needs_its_terminator_at_the_end() {
        let mut packet = startup(&[("user", "a")]);
        packet.push(0);
        packet[3] += 1;
        assert_eq!(first(&packet), Err(Error::client(BytesFault::Trailing { found: 1 })));
        packet.truncate(packet.len() - 2);
        packet[3] -= 2;
        assert_eq!(first(&packet), Err(Error::client(BytesFault::Unterminated)));
    }
}
