//! What goes wrong with TLS, in two forms.
//!
//! [`Told`] is for the application, whose user may not know the machine: no path. `Display`, with the causes below it, is for
//! the log and for `doctor`.

use std::{
    fmt, io,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rustls::{AlertDescription, CertificateError, pki_types::UnixTime};
use thiserror::Error;

use super::CaError;

/// Names of a certificate that are quoted in a message.
const NAMES_MAX: usize = 4;
/// Characters of one such name.
const NAME_CHARS_MAX: usize = 100;

/// Which peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The application.
    Client,
    /// The database.
    Server,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// Why there is no TLS connection.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The server's certificate was not accepted.
    #[error("the server's certificate was not accepted: {0}")]
    Verification(#[source] VerificationError),
    /// The peer said no.
    #[error("the {side} ended the TLS handshake with the alert `{}`", alert_name(*.alert))]
    Alert {
        /// Which peer.
        side: Side,
        /// What it said.
        alert: AlertDescription,
    },
    /// Direct TLS without agreement on ALPN `postgresql`.
    #[error(
        "the {0} did not agree on the application protocol `postgresql`, which direct TLS needs"
    )]
    NoAlpn(Side),
    /// The peer broke the protocol, or has nothing in common with us.
    #[error("the TLS handshake with the {side} failed")]
    Protocol {
        /// Which peer.
        side: Side,
        /// The library's finding.
        #[source]
        source: rustls::Error,
    },
    /// The connection broke.
    #[error("the connection to the {side} broke in the TLS handshake")]
    Io {
        /// Which peer.
        side: Side,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// There is neither an authority nor a certificate from files.
    #[error(
        "no certificate for the client: there is no local authority and the destination has none"
    )]
    NoCertificate,
    /// The authority could not make a certificate.
    #[error("no certificate for the client")]
    Mint(#[source] CaError),
    /// Files or settings.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
}

/// A message for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What happened.
    pub message: String,
    /// What to set, where there is something.
    pub hint: Option<String>,
}

impl TlsError {
    /// What the application is told: no path, nothing of the host.
    pub fn told(&self) -> Told {
        let message = match self {
            Self::Configuration(_) => {
                "the agent cannot use its TLS settings for this destination".to_owned()
            }
            Self::Mint(_) => "the agent has no certificate to present".to_owned(),
            Self::Protocol { source, .. } => format!("{self}: {source}"),
            Self::Io { source, .. } => format!("{self}: {}", source.kind()),
            Self::Verification(_) | Self::Alert { .. } | Self::NoAlpn(_) | Self::NoCertificate => {
                self.to_string()
            }
        };
        Told { message, hint: self.hint() }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Verification(error) => return error.hint(),
            Self::Alert { side: Side::Server, alert } => match *alert {
                AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
                    "If the server asks for a client certificate, set `server.certificate` and \
                     `server.key` of the destination."
                }
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate => {
                    "The server did not accept the agent's certificate: check \
                     `server.certificate` of the destination, and what the server trusts."
                }
                AlertDescription::NoApplicationProtocol => {
                    "Something else than a PostgreSQL server may be listening there."
                }
                AlertDescription::UnrecognisedName => {
                    "The server does not know the name it was asked for: check `server.name` of \
                     the destination."
                }
                AlertDescription::ProtocolVersion => {
                    "The server must speak TLS 1.2 or 1.3: check its \
                     `ssl_min_protocol_version` and `ssl_max_protocol_version`."
                }
                _ => return None,
            },
            Self::Alert { side: Side::Client, alert } => match *alert {
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown => {
                    "The client does not trust the agent's authority: `pgward ca show` prints what \
                     to set, `pgward ca install` adds it to the system's store."
                }
                _ => return None,
            },
            Self::NoAlpn(Side::Server) => {
                "Set `server.negotiation` of the destination to \"postgres\", or use a server of \
                 PostgreSQL 17 or newer."
            }
            Self::NoAlpn(Side::Client) => {
                "Clients that begin with TLS must offer it (libpq: `sslnegotiation=direct`)."
            }
            Self::NoCertificate | Self::Mint(_) => {
                "Run `pgward ca init`, or set `client.certificate` and `client.key` of the \
                 destination."
            }
            Self::Configuration(error) => return error.hint(),
            Self::Protocol { .. } | Self::Io { .. } => return None,
        };
        Some(hint.to_owned())
    }

    /// An error of reading from or writing to a [`Leg`](crate::net::leg::Leg) behind the handshake, where TLS is its cause: in
    /// TLS 1.3 a server refuses a client's certificate, or the lack of one, only then.
    pub fn of_io(side: Side, error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(Self::of_library(side, inner.clone()))
    }

    /// An error of a handshake.
    pub(super) fn of_handshake(side: Side, error: io::Error) -> Self {
        Self::of_io(side, &error).unwrap_or(Self::Io { side, source: error })
    }

    fn of_library(side: Side, error: rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(alert) => Self::Alert { side, alert },
            rustls::Error::NoApplicationProtocol => Self::NoAlpn(side),
            rustls::Error::InvalidCertificate(error) => Self::Verification(error.into()),
            rustls::Error::InvalidCertRevocationList(error) => {
                Self::Verification(VerificationError::RevocationList(format!("{error:?}")))
            }
            source => Self::Protocol { side, source },
        }
    }
}

/// Why a server's certificate was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VerificationError {
    /// It is too old.
    #[error("it expired on {}", date(*.0))]
    Expired(SystemTime),
    /// It is too new.
    #[error("it is valid from {} on only", date(*.0))]
    NotYetValid(SystemTime),
    /// No root leads to it.
    #[error("it was issued by an authority that is not trusted here")]
    UnknownIssuer,
    /// It is for somebody else.
    #[error("it is for {}, expected `{expected}`", names(.found))]
    WrongName {
        /// Who was expected.
        expected: String,
        /// Subject alternative names.
        found: Vec<String>,
    },
    /// It was revoked.
    #[error("it was revoked")]
    Revoked,
    /// No list says anything about it.
    #[error("no revocation list of its issuer is there")]
    RevocationUnknown,
    /// The list is too old.
    #[error("the revocation list of its issuer expired on {}", date(*.0))]
    RevocationListExpired(SystemTime),
    /// The list is not to be used.
    #[error("the revocation list of its issuer is not valid: {0}")]
    RevocationList(String),
    /// It is not for servers.
    #[error("its extended key usage does not allow the authentication of servers")]
    WrongPurpose,
    /// An authority's certificate that is not among the roots.
    #[error("it is the certificate of an authority, not of a server")]
    AuthorityItself,
    /// A version of the format that has no extensions.
    #[error("it is of X.509 version 1, which carries no subject alternative names")]
    VersionOne,
    /// A signature does not fit.
    #[error("a signature is wrong: no trusted issuer of that name made it")]
    Signature,
    /// Signed with an algorithm that is not accepted.
    #[error("it is signed with an algorithm that is not accepted, such as SHA-1 or a short key")]
    Algorithm,
    /// An authority on the way may not speak for this name.
    #[error("its name is outside of what its authority may certify")]
    NameConstraint,
    /// It can't be read.
    #[error("it is not correctly encoded")]
    Encoding,
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl VerificationError {
    /// What to set, or whom to ask.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::WrongName { found, .. } if found.is_empty() => {
                "Give the server a certificate with a subject alternative name (the common name is \
                 not looked at), or set `server.tls` of the destination to \"verify-ca\"."
            }
            Self::WrongName { .. } => {
                "Set `server.name` of the destination to the name in the server's certificate."
            }
            Self::UnknownIssuer => {
                "Set `server.roots` of the destination to the certificate of the server's \
                 authority, or add it to the system's store."
            }
            Self::Expired(_) | Self::NotYetValid(_) => {
                "Renew the server's certificate, or check the clocks of both hosts."
            }
            Self::RevocationUnknown | Self::RevocationListExpired(_) | Self::RevocationList(_) => {
                "Put a current list of the server's authority into the file that `server.crl` of \
                 the destination names."
            }
            Self::AuthorityItself | Self::VersionOne | Self::WrongPurpose => {
                "Issue a certificate for the server (version 3, with a subject alternative name); \
                 a self-signed one may be given as `server.roots` itself."
            }
            Self::Algorithm => {
                "Issue the server's certificate anew with SHA-256 and a current key."
            }
            Self::Revoked
            | Self::Signature
            | Self::NameConstraint
            | Self::Encoding
            | Self::Other(_) => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<CertificateError> for VerificationError {
    fn from(error: CertificateError) -> Self {
        use CertificateError as E;
        match error {
            E::ExpiredContext { not_after, .. } => Self::Expired(system(not_after)),
            E::NotValidYetContext { not_before, .. } => Self::NotYetValid(system(not_before)),
            E::UnknownIssuer => Self::UnknownIssuer,
            E::NotValidForNameContext { expected, presented } => Self::WrongName {
                expected: expected.to_str().into_owned(),
                found: presented.iter().map(|name| plain_name(name)).collect(),
            },
            E::Revoked => Self::Revoked,
            E::UnknownRevocationStatus => Self::RevocationUnknown,
            E::ExpiredRevocationListContext { next_update, .. } => {
                Self::RevocationListExpired(system(next_update))
            }
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::WrongPurpose,
            E::BadSignature => Self::Signature,
            E::UnsupportedSignatureAlgorithmContext { .. }
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Self::Algorithm,
            E::BadEncoding => Self::Encoding,
            // What the library has no variant for comes as the text of the layer below.
            other => match format!("{other:?}") {
                text if text.contains("CaUsedAsEndEntity") => Self::AuthorityItself,
                text if text.contains("UnsupportedCertVersion") => Self::VersionOne,
                text if text.contains("NameConstraintViolation") => Self::NameConstraint,
                text => Self::Other(text),
            },
        }
    }
}

/// What is wrong with files and settings.
#[derive(Debug, Error)]
pub enum ConfigurationError {
    /// A file can't be read.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file is too large for what it should be.
    #[error("`{}` is too large: found more than {max} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Limit, in bytes.
        max: u64,
    },
    /// Others can read a key.
    #[error(
        "the key `{}` is open to others: found mode {mode:04o} and owner {uid}, expected 0600 \
         and the agent's user or root",
        .path.display()
    )]
    OpenKey {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
    },
    /// A file holds something else than expected.
    #[error("`{}` holds no {expected}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
    },
    /// A certificate and a key are not of one pair, or the library can't use them.
    #[error("cannot use the certificate `{}` with its key", .path.display())]
    Pair {
        /// File of the certificate.
        path: PathBuf,
        /// The library's finding.
        #[source]
        source: rustls::Error,
    },
    /// Channel binding would not work.
    #[error(
        "the certificate `{}` has a signature for which channel binding is not defined (Ed25519 \
         is one): clients would fail, use ECDSA or RSA with SHA-256",
        .path.display()
    )]
    NoEndPoint {
        /// File of the certificate.
        path: PathBuf,
    },
    /// The system has no roots.
    #[error("no trusted certificates were found on this system: {0}")]
    NoSystemRoots(String),
    /// The library refuses a list or the roots.
    #[error("cannot use {what}: {reason}")]
    Unusable {
        /// What.
        what: String,
        /// Why not.
        reason: String,
    },
}

impl ConfigurationError {
    /// What to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSystemRoots(_) => Some(
                "Install the package `ca-certificates`, set SSL_CERT_FILE for the agent, or set \
                 `server.roots` of the destination."
                    .to_owned(),
            ),
            Self::OpenKey { .. } => Some("Run chmod 600 on it.".to_owned()),
            Self::Read { .. }
            | Self::TooLarge { .. }
            | Self::Content { .. }
            | Self::Pair { .. }
            | Self::NoEndPoint { .. }
            | Self::Unusable { .. } => None,
        }
    }
}

/// A time as the date that a certificate is talked about with, in UTC.
pub(crate) fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn system(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

/// Names come from the peer: bounded, and nothing that a terminal would obey.
fn names(found: &[String]) -> String {
    if found.is_empty() {
        return "no name (it has no subject alternative names)".to_owned();
    }
    let mut text = String::new();
    for (index, name) in found.iter().take(NAMES_MAX).enumerate() {
        let end = name.char_indices().nth(NAME_CHARS_MAX).map_or(name.len(), |(at, _)| at);
        if index > 0 {
            text.push_str(", ");
        }
        text.push('`');
        text.extend(name[..end].chars().flat_map(char::escape_default));
        text.push('`');
    }
    if let Some(more @ 1..) = found.len().checked_sub(NAMES_MAX) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// The library names the kind of a name in front of it, `DnsName("x")` for one; people know names without.
fn plain_name(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    let bare = inner.unwrap_or(name).trim_matches('"');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => bare.to_owned(),
    }
}

fn alert_name(alert: AlertDescription) -> String {
    // RFC 8446, section 6: the registry writes them in lower case with underscores.
    let camel = format!("{alert:?}");
    let mut name = String::new();
    for character in camel.chars() {
        if character.is_ascii_uppercase()
            && !name.is_empty()
            && !name.ends_with(|last: char| last.is_ascii_uppercase())
        {
            name.push('_');
        }
        name.push(character);
    }
    name.to_ascii_lowercase()
}
