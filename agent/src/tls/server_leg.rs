//! TLS towards databases: we are the client.
//!
//! One [`ServerLeg`] serves one destination of the configuration. Roots, revocation lists and the agent's certificate are read
//! when it is made, and again when one of their files changes.
//!
//! Revocation is looked up for the server's certificate (not for authorities between it and the root), in lists from a file:
//! a list of its issuer must be there and current. A session that is resumed is not verified again; tickets belong to the
//! settings, so that new lists and roots begin with full handshakes.

use std::{
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, Resumption, WebPkiServerVerifier},
    pki_types::{CertificateDer, ServerName},
    sign::CertifiedKey,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::warn;

use super::{
    ALPN, Alpn, ConfigurationError, EndPointHash, Parameters, Side, TlsError, files, provider,
    verify::{Check, Trusted, Verifier},
};
use crate::net::{
    error::chain,
    leg::{Leg, Offsets, Records},
};

/// Names and addresses of one destination with sessions to resume.
const RESUMABLE_MAX: usize = 64;

/// How a destination's servers are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is verified.
    pub verification: Verification,
    /// What is trusted. Not read with [`Verification::Nothing`].
    pub roots: Roots,
    /// File of revocation lists, PEM or DER. Not read with [`Verification::Nothing`].
    pub crl: Option<PathBuf>,
    /// The agent's own certificate.
    pub identity: Option<Identity>,
}

/// What is verified of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// libpq's `require`: nothing.
    Nothing,
    /// libpq's `verify-ca`: that a trusted authority issued the certificate.
    Chain,
    /// libpq's `verify-full`: and that it is for the expected name.
    Full,
}

/// Which authorities are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Those of the system.
    System,
    /// Those of a PEM file.
    File(PathBuf),
}

/// A certificate of the agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM file of the certificate and its chain.
    pub certificate: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
}

/// TLS towards the servers of one destination. Shared by all its sessions.
#[derive(Debug)]
pub struct ServerLeg {
    settings: Settings,
    loaded: Mutex<Loaded>,
}

/// What is known of a server after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Channel binding data of its certificate, where it is defined.
    pub endpoint: Option<EndPointHash>,
    /// What was agreed on.
    pub parameters: Parameters,
    /// Whether it knows who we are.
    pub identity: IdentityGiven,
}

/// Whether a server asked for the agent's certificate and got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityGiven {
    /// It did.
    Yes,
    /// It did not ask, or there is none.
    No,
}

/// Notices that a server asks for a certificate.
#[derive(Debug)]
struct Noticing {
    resolver: Arc<dyn ResolvesClientCert>,
    given: AtomicBool,
}

impl ResolvesClientCert for Noticing {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let found = self.resolver.resolve(issuers, schemes);
        self.given.store(found.is_some(), Ordering::Relaxed);
        found
    }

    fn has_certs(&self) -> bool {
        self.resolver.has_certs()
    }
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ClientConfig>,
    files: Vec<Stamp>,
}

/// What changes when a file is replaced or written: device, inode, size, and time of the change with its nanoseconds.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl ServerLeg {
    /// Reads what the settings name.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let loaded = Mutex::new(Loaded::read(&settings)?);
        Ok(Self { settings, loaded })
    }

    /// Does the handshake with a server.
    ///
    /// `name` is what its certificate must be for, and what it is asked for if it is a DNS name (SNI); without one, its
    /// `address` is. `raw_read` bytes of the connection were read before, none of which belongs to the handshake: what came
    /// behind the answer to SSLRequest ends the connection (CVE-2021-23222), which is the caller's to check.
    ///
    /// Errors: the connection is closed then. The caller bounds the time.
    pub async fn connect(
        &self,
        tcp: TcpStream,
        raw_read: u64,
        name: Option<&ServerName<'static>>,
        address: IpAddr,
        alpn: Alpn,
    ) -> Result<(Leg, Connected), TlsError> {
        let name = name.cloned().unwrap_or_else(|| address.to_canonical().into());
        let records = Records::new(tcp, raw_read, Vec::new(), Offsets::Unneeded);
        let mut config = self.config();
        let mut noticing = None;
        if self.settings.identity.is_some() {
            let mut own = ClientConfig::clone(&config);
            let resolver = own.client_auth_cert_resolver.clone();
            let notices = Arc::new(Noticing { resolver, given: AtomicBool::new(false) });
            own.client_auth_cert_resolver = notices.clone();
            noticing = Some(notices);
            config = Arc::new(own);
        }
        let stream = TlsConnector::from(config)
            .connect(name, records)
            .await
            .map_err(|error| TlsError::of_handshake(Side::Server, error))?;
        let connection = stream.get_ref().1;
        let parameters = Parameters::of(connection);
        match alpn {
            Alpn::Required if !parameters.alpn => return Err(TlsError::NoAlpn(Side::Server)),
            Alpn::Required | Alpn::Optional => {}
        }
        let certificates = connection.peer_certificates();
        let endpoint = certificates.and_then(<[_]>::first).and_then(EndPointHash::of);
        let given = noticing.is_some_and(|noticing| noticing.given.load(Ordering::Relaxed));
        let identity = if given { IdentityGiven::Yes } else { IdentityGiven::No };
        Ok((Leg::tls(stream), Connected { endpoint, parameters, identity }))
    }

    /// The settings in force. Where a file changed and what is in it now can't be used, what was read before stays.
    fn config(&self) -> Arc<ClientConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let files = stamps(&self.settings);
        if files != loaded.files {
            match Loaded::read(&self.settings) {
                Ok(new) => *loaded = new,
                Err(error) => {
                    let error = chain(&error);
                    warn!(error, "TLS files of a destination changed and can't be used: old kept");
                    loaded.files = files;
                }
            }
        }
        loaded.config.clone()
    }
}

impl Loaded {
    fn read(settings: &Settings) -> Result<Self, ConfigurationError> {
        // Before the files: a change in between is seen the next time.
        let files = stamps(settings);
        let check = match settings.verification {
            Verification::Nothing => Check::Nothing,
            Verification::Chain => Check::Chain(trusted(settings)?),
            Verification::Full => Check::Full(trusted(settings)?),
        };
        let unusable = |what: &str| {
            let what = what.to_owned();
            move |error: rustls::Error| ConfigurationError::Unusable {
                what,
                reason: error.to_string(),
            }
        };
        let builder = ClientConfig::builder_with_provider(provider().clone())
            .with_safe_default_protocol_versions()
            .map_err(unusable("the versions of TLS"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(check)));
        let mut config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = files::certificates(certificate)?;
                let path = certificate.clone();
                builder
                    .with_client_auth_cert(chain, files::key(key)?)
                    .map_err(|source| ConfigurationError::Pair { path, source })?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::in_memory_sessions(RESUMABLE_MAX);
        config.enable_early_data = false;
        Ok(Self { config: Arc::new(config), files })
    }
}

fn trusted(settings: &Settings) -> Result<Trusted, ConfigurationError> {
    let mut roots = RootCertStore::empty();
    let mut pinned = std::collections::HashSet::new();
    match &settings.roots {
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
                let reason = match errors.is_empty() {
                    true => "the store is empty".to_owned(),
                    false => errors.join(", "),
                };
                return Err(ConfigurationError::NoSystemRoots(reason));
            }
        }
        Roots::File(path) => {
            let found: Vec<CertificateDer<'static>> = files::certificates(path)?;
            pinned.extend(found.iter().cloned());
            // All of them must be usable: an operator put them there one by one.
            for root in found {
                roots.add(root).map_err(|error| ConfigurationError::Unusable {
                    what: format!("a root of `{}`", path.display()),
                    reason: error.to_string(),
                })?;
            }
        }
    }
    let mut builder =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider().clone());
    if let Some(path) = &settings.crl {
        builder = builder
            .with_crls(files::revocation_lists(path)?)
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    let chains = builder.build().map_err(|error| ConfigurationError::Unusable {
        what: match &settings.crl {
            Some(path) => format!("the revocation lists of `{}`", path.display()),
            None => "the roots".to_owned(),
        },
        reason: error.to_string(),
    })?;
    Ok(Trusted { chains, pinned })
}

/// The state of each file that the settings name.
fn stamps(settings: &Settings) -> Vec<Stamp> {
    let roots = match (&settings.roots, settings.verification) {
        (_, Verification::Nothing) | (Roots::System, _) => None,
        (Roots::File(path), Verification::Chain | Verification::Full) => Some(path),
    };
    let identity = settings.identity.iter().flat_map(|own| [&own.certificate, &own.key]);
    let files = roots.into_iter().chain(&settings.crl).chain(identity);
    let stamp = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec()))
    };
    files.map(stamp).collect()
}
