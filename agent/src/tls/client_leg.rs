//! TLS towards applications: we are the server.
//!
//! The certificate is for the name that the client asks for (SNI), else for the address that it connected to; or it is the
//! destination's own. What is made for a name is kept with its settings, up to a bound, and made anew when it is due.
//!
//! Sessions are resumed with stateless tickets (RFC 5077, RFC 8446 section 4.6.1), whose keys live for twelve hours at most and
//! belong to one certificate: a session that is resumed has the certificate, and the channel binding data, it began with. There
//! is no cache that clients could fill.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    pki_types::ServerName,
    server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::LazyConfigAcceptor;

use super::{
    ALPN, Alpn, Authority, ConfigurationError, EndPointHash, Parameters, Side, TlsError, files,
    provider,
};
use crate::net::leg::{Leg, Offsets, Records};

/// Plain text of one record towards clients, in bytes.
///
/// libpq reads once per readiness, into at least this much room; what a larger record holds beyond it stays inside of OpenSSL,
/// where no poll sees it, and the client waits for ever. PostgreSQL's own records are not larger before version 18, and aligned
/// with libpq's buffers since. Source: PostgreSQL `src/interfaces/libpq/fe-misc.c`, `pqReadData`.
const RECORD_TEXT_BYTES_MAX: usize = 8192;
/// The library counts the five bytes of a record's header with its text (and not the 17 to 24 bytes that encryption adds).
const FRAGMENT_BYTES_MAX: usize = RECORD_TEXT_BYTES_MAX + 5;
/// Names with a certificate at hand. About 3 KiB each.
const NAMES_MAX: usize = 1024;
/// Tickets of TLS 1.3 for one connection: a client that resumes gets the next one then.
const TICKETS: usize = 1;
/// The alert `no_application_protocol`, fatal, as the first record that a server sends. Source: RFC 7301, section 3.2.
const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

/// TLS towards applications. Shared by all sessions.
#[derive(Debug)]
pub struct ClientLeg {
    authority: Option<Arc<Authority>>,
    minted: Mutex<Minted>,
}

/// A certificate, ready to be presented.
#[derive(Clone, Debug)]
pub struct Presented {
    config: Arc<ServerConfig>,
    endpoint: EndPointHash,
}

/// What is known of a client after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The name that the client asked for, in lower case, if it asked for one.
    pub server_name: Option<String>,
    /// Channel binding data of the certificate that it was shown.
    pub endpoint: EndPointHash,
    /// What was agreed on.
    pub parameters: Parameters,
}

impl Presented {
    /// A destination's own certificate with its chain, and the key.
    ///
    /// Refused: pairs that don't fit, keys that others can read, and certificates for which channel binding is not defined:
    /// libpq fails with them before it sends anything.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, ConfigurationError> {
        let (pair, endpoint) = files::certified_key(certificate, key)?;
        let config = config(Arc::new(pair)).map_err(|error| ConfigurationError::Pair {
            path: certificate.to_owned(),
            source: error,
        })?;
        Ok(Self { config, endpoint })
    }

    /// Channel binding data of the certificate.
    pub fn endpoint(&self) -> &EndPointHash {
        &self.endpoint
    }
}

impl ClientLeg {
    /// With an authority, or without: then only destinations with their own certificate speak TLS.
    pub fn new(authority: Option<Arc<Authority>>) -> Self {
        Self { authority, minted: Mutex::default() }
    }

    /// Whether a handshake could be done: what the answer to SSLRequest depends on.
    pub fn has_certificate(&self, own: Option<&Presented>) -> bool {
        own.is_some() || self.authority.is_some()
    }

    /// Does the handshake with a client that connected to `destination`.
    ///
    /// `raw_read` bytes of the connection were read before, and the last of them, `early`, are the beginning of the handshake:
    /// with direct TLS the ClientHello may be in our hands already. Behind an SSLRequest there must be none (CVE-2021-23214),
    /// which is the caller's to check.
    ///
    /// Errors: the connection is closed then; nothing but a TLS alert was said to the client. The caller bounds the time.
    pub async fn accept(
        &self,
        tcp: TcpStream,
        raw_read: u64,
        early: Vec<u8>,
        own: Option<&Presented>,
        destination: IpAddr,
        alpn: Alpn,
    ) -> Result<(Leg, Accepted), TlsError> {
        let failed = |error| TlsError::of_handshake(Side::Client, error);
        let records = Records::new(tcp, raw_read, early, Offsets::Kept);
        let start = LazyConfigAcceptor::new(Acceptor::default(), records).await.map_err(failed)?;
        let hello = start.client_hello();
        let offered = hello.alpn().is_some_and(|mut offered| offered.any(|name| name == ALPN));
        match alpn {
            Alpn::Required if !offered => {
                let mut records = start.io;
                // As a courtesy: the connection ends either way.
                let _ = records.write_all(&NO_APPLICATION_PROTOCOL).await;
                let _ = records.shutdown().await;
                return Err(TlsError::NoAlpn(Side::Client));
            }
            Alpn::Required | Alpn::Optional => {}
        }
        let name = hello.server_name().and_then(server_name);
        let presented = match own {
            Some(own) => own.clone(),
            None => {
                let name = name.clone().unwrap_or_else(|| destination.to_canonical().into());
                self.minted(name, SystemTime::now())?
            }
        };
        let stream = start.into_stream(presented.config).await.map_err(failed)?;
        let parameters = Parameters::of(stream.get_ref().1);
        let accepted = Accepted {
            server_name: name.map(|name| name.to_str().into_owned()),
            endpoint: presented.endpoint,
            parameters,
        };
        Ok((Leg::tls(stream), accepted))
    }

    /// The certificate for a name, from the cache or new.
    fn minted(&self, name: ServerName<'static>, now: SystemTime) -> Result<Presented, TlsError> {
        let authority = self.authority.as_ref().ok_or(TlsError::NoCertificate)?;
        let mut minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(presented) = minted.find(&name, now) {
            return Ok(presented);
        }
        // Under the lock: of many clients that ask for a new name at once, one makes it. It takes less than a millisecond.
        let issued = authority.issue(&name, now).map_err(TlsError::Mint)?;
        let config = config(issued.pair)
            .map_err(|source| TlsError::Protocol { side: Side::Client, source })?;
        let presented = Presented { config, endpoint: issued.endpoint };
        minted.insert(name, presented.clone(), issued.renew_at);
        Ok(presented)
    }
}

/// Names as they are certified: in lower case, without the root's dot. Their length is bounded by the library (253).
fn server_name(asked: &str) -> Option<ServerName<'static>> {
    let name = asked.strip_suffix('.').unwrap_or(asked).to_ascii_lowercase();
    match ServerName::try_from(name) {
        Ok(name @ ServerName::DnsName(_)) => Some(name),
        Ok(_) | Err(_) => None,
    }
}

fn config(pair: Arc<CertifiedKey>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider().clone())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(pair)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_fragment_size = Some(FRAGMENT_BYTES_MAX);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new()?;
    config.send_tls13_tickets = TICKETS;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// One certificate, whatever the client asks for.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Certificates at hand. When full, the one used longest ago goes.
#[derive(Debug, Default)]
struct Minted {
    names: HashMap<ServerName<'static>, Entry>,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    presented: Presented,
    renew_at: SystemTime,
    used: u64,
}

impl Minted {
    fn find(&mut self, name: &ServerName<'static>, now: SystemTime) -> Option<Presented> {
        self.clock += 1;
        let entry = self.names.get_mut(name).filter(|entry| now < entry.renew_at)?;
        entry.used = self.clock;
        Some(entry.presented.clone())
    }

    fn insert(&mut self, name: ServerName<'static>, presented: Presented, renew_at: SystemTime) {
        if self.names.len() >= NAMES_MAX && !self.names.contains_key(&name) {
            // A look at all of them costs less than the signature that was just made.
            let oldest = self.names.iter().min_by_key(|(_, entry)| entry.used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.names.remove(&oldest);
            }
        }
        self.names.insert(name, Entry { presented, renew_at, used: self.clock });
    }
}

#[cfg(test)]
impl ClientLeg {
    /// Names at hand.
    pub(super) fn names(&self) -> usize {
        self.minted.lock().unwrap_or_else(PoisonError::into_inner).names.len()
    }

    /// A certificate as a client would get it.
    pub(super) fn minted_for(&self, name: &str, now: SystemTime) -> Presented {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        self.minted(name, now).expect("a certificate")
    }
}
