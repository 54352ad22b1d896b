//! The local certificate authority: its files.
//!
//! Applications meet the agent where they expect their database, and those that verify need a certificate for its name. The
//! authority makes them ([`Authority::issue`]). Whoever has its key can pose as any name towards everyone who trusts its
//! certificate, so: the key is made here and stays here (mode 0600 from its first moment), the certificate allows no further
//! authorities, and may be constrained to the names of the databases.
//!
//! ```text
//!   /etc/pgward/ca.key            PKCS #8 in PEM, 0600
//!   /etc/pgward/ca.pem            certificate in PEM, 0644
//!   /etc/pgward/ca.previous.pem   the one before, after a rotation: may stay in trust stores until no session needs it
//! ```
//!
//! ECDSA P-256 with SHA-256: every client knows it, and channel binding is defined for it, which it is not for Ed25519
//! (RFC 5929, section 4.1).

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::{CertificateDer, DnsName};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use x509_parser::{
    extensions::{GeneralName, GeneralSubtree as ParsedSubtree},
    prelude::{FromDer as _, X509Certificate},
};
use zeroize::Zeroizing;

use super::{ConfigurationError, error::date, files};
use crate::config::Network;

/// Certificate of the authority where the configuration names no other.
pub const CERTIFICATE_PATH: &str = "/etc/pgward/ca.pem";
/// Key of the authority where the configuration names no other.
pub const KEY_PATH: &str = "/etc/pgward/ca.key";

/// How long a new authority is valid, from yesterday on: clocks differ.
const VALIDITY: Duration = Duration::from_secs(3652 * DAY);
pub(super) const DAY: u64 = 24 * 3600;
/// Bytes of a serial number: 127 random bits. Source: RFC 5280, section 4.1.2.2 (at most 20, positive).
const SERIAL_BYTES: usize = 16;
/// Characters of a common name. Source: RFC 5280, appendix A.1, `ub-common-name`.
pub(super) const COMMON_NAME_CHARS_MAX: usize = 64;

/// Where the files of an authority are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Certificate.
    pub certificate: PathBuf,
    /// Key.
    pub key: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self { certificate: CERTIFICATE_PATH.into(), key: KEY_PATH.into() }
    }
}

impl Paths {
    /// Where a rotation puts the certificate that was in use: `ca.pem` becomes `ca.previous.pem`.
    pub fn previous(&self) -> PathBuf {
        let mut name = self.certificate.file_stem().unwrap_or_default().to_owned();
        name.push(".previous.pem");
        self.certificate.with_file_name(name)
    }
}

/// What an authority may certify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// This name and those below it.
    Name(DnsName<'static>),
    /// Addresses of this network.
    Network(Network),
}

impl FromStr for Constraint {
    type Err = String;

    /// A DNS name, an address, or a network.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('/') || text.parse::<IpAddr>().is_ok() {
            return text.parse().map(Self::Network).map_err(|error| format!("{error}"));
        }
        match DnsName::try_from(text.to_ascii_lowercase()) {
            Ok(name) => Ok(Self::Name(name)),
            Err(_) => Err(format!(
                "found `{text}`, expected a DNS name, an IP address, or a network such as \
                 10.0.0.0/8"
            )),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name.as_ref()),
            Self::Network(network) => write!(f, "{network}"),
        }
    }
}

/// What is wrong with an authority.
#[derive(Debug, Error)]
pub enum CaError {
    /// There is one already.
    #[error("`{}` exists already: an authority is not overwritten", .0.display())]
    Exists(PathBuf),
    /// A file can't be written.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file can't be used.
    #[error(transparent)]
    File(#[from] ConfigurationError),
    /// It does not allow signing certificates.
    #[error("`{}` is not the certificate of an authority", .0.display())]
    NoAuthority(PathBuf),
    /// Its time is over.
    #[error(
        "the authority `{}` expired on {}: run `pgward ca rotate` and give clients the new \
         certificate",
        .path.display(), date(*.not_after)
    )]
    Expired {
        /// The certificate.
        path: PathBuf,
        /// Its last moment.
        not_after: SystemTime,
    },
    /// Its time has not come.
    #[error(
        "the authority `{}` is valid from {} on only: check the clock of this host",
        .path.display(), date(*.not_before)
    )]
    NotYetValid {
        /// The certificate.
        path: PathBuf,
        /// Its first moment.
        not_before: SystemTime,
    },
    /// Certificate and key are not of one pair.
    #[error(
        "certificate `{}` and key `{}` do not belong together: a rotation may have been \
         interrupted, `pgward ca rotate` makes a new pair",
        .certificate.display(), .key.display()
    )]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// What it signs would not work with channel binding.
    #[error(
        "the key `{}` is of a kind that an authority can't use here: expected ECDSA P-256 or \
         P-384, or RSA",
        .0.display()
    )]
    KeyKind(PathBuf),
    /// The library refused.
    #[error("cannot make a certificate: {0}")]
    Library(#[from] rcgen::Error),
    /// The library refused a key that was just made.
    #[error("cannot use a key: {0}")]
    Key(#[from] rustls::Error),
    /// The kernel gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

/// What is printed of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Distinguished name.
    pub subject: String,
    /// First moment.
    pub not_before: SystemTime,
    /// Last moment.
    pub not_after: SystemTime,
    /// SHA-256 of the DER form.
    pub fingerprint: [u8; 32],
    /// What it may certify; empty for everything.
    pub constraints: Vec<Constraint>,
}

impl Description {
    /// Of the certificate in a file; the key is not looked at.
    pub fn load(path: &Path) -> Result<Self, CaError> {
        Self::of(&certificate(path)?).ok_or_else(|| CaError::NoAuthority(path.to_owned()))
    }

    /// Whole days until its end.
    pub fn days_left(&self, now: SystemTime) -> u64 {
        self.not_after.duration_since(now).map_or(0, |left| left.as_secs() / DAY)
    }

    /// `None` for what is not an authority's.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let signs = match parsed.key_usage() {
            Ok(Some(usage)) => usage.value.key_cert_sign(),
            Ok(None) => true,
            Err(_) => false,
        };
        if !parsed.is_ca() || !signs {
            return None;
        }
        let permitted = match parsed.name_constraints() {
            Ok(Some(constraints)) => constraints.value.permitted_subtrees.clone(),
            Ok(None) => None,
            Err(_) => return None,
        };
        Some(Self {
            subject: parsed.subject().to_string(),
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            fingerprint: Sha256::digest(certificate).into(),
            constraints: permitted.iter().flatten().filter_map(constraint).collect(),
        })
    }
}

/// A certificate authority that is ready to issue.
pub struct Authority {
    pub(super) description: Description,
    pub(super) issuer: Issuer<'static, Key>,
    /// Sent behind each certificate: what leads from it to a root, where this authority is not one itself.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// One pair for all certificates of the process.
    pub(super) leaf: Key,
    pub(super) leaf_signer: Arc<dyn rustls::sign::SigningKey>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("description", &self.description).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a key and a certificate, and the folder for them where there is none.
    ///
    /// The folder may be entered by everyone (0755), since clients read the certificate there; the key has mode 0600 from the
    /// moment its file exists. Errors: [`CaError::Exists`] where one of the files exists; nothing is left behind then.
    pub fn init(
        paths: &Paths,
        constraints: &[Constraint],
        now: SystemTime,
    ) -> Result<Description, CaError> {
        for path in [&paths.certificate, &paths.key] {
            if fs::symlink_metadata(path).is_ok() {
                return Err(CaError::Exists(path.clone()));
            }
            make_folder(path)?;
        }
        let made = Made::new(constraints, now)?;
        create(&paths.key, 0o600, made.key.0.serialize_pem_zeroizing().as_bytes())?;
        if let Err(error) = create(&paths.certificate, 0o644, made.pem.as_bytes()) {
            // Made a moment ago, by us alone, and of no use without the other.
            let _ = fs::remove_file(&paths.key);
            return Err(error);
        }
        Ok(made.description)
    }

    /// Makes a new pair in place of an existing one, with the same constraints, and keeps the certificate that was in use as
    /// [`Paths::previous`].
    ///
    /// Each file is replaced by a rename. Between the two renames certificate and key do not fit; a process that loads them then
    /// says so, and a rotation that was interrupted there is mended by another one.
    pub fn rotate(paths: &Paths, now: SystemTime) -> Result<Description, CaError> {
        let old = certificate(&paths.certificate)?;
        let old = Description::of(&old)
            .map(|description| (description, old))
            .ok_or_else(|| CaError::NoAuthority(paths.certificate.clone()))?;
        let made = Made::new(&old.0.constraints, now)?;
        let new_key = beside(&paths.key);
        let new_certificate = beside(&paths.certificate);
        for left in [&new_key, &new_certificate] {
            remove_left(left)?;
        }
        create(&new_key, 0o600, made.key.0.serialize_pem_zeroizing().as_bytes())?;
        create(&new_certificate, 0o644, made.pem.as_bytes())?;
        let previous = paths.previous();
        let new_previous = beside(&previous);
        remove_left(&new_previous)?;
        create(&new_previous, 0o644, pem(&old.1).as_bytes())?;
        rename(&new_previous, &previous)?;
        rename(&new_key, &paths.key)?;
        rename(&new_certificate, &paths.certificate)?;
        Ok(made.description)
    }

    /// Reads certificate and key, and makes the pair for the certificates to come.
    ///
    /// The certificate's file may hold further ones behind it, which lead to a root. Errors say what to do.
    pub fn load(paths: &Paths, now: SystemTime) -> Result<Self, CaError> {
        let path = || paths.certificate.clone();
        let chain = files::certificates(&paths.certificate)?;
        let own = chain.first().ok_or_else(|| CaError::NoAuthority(path()))?;
        let description = Description::of(own).ok_or_else(|| CaError::NoAuthority(path()))?;
        if now > description.not_after {
            let not_after = description.not_after;
            return Err(CaError::Expired { path: path(), not_after });
        }
        if now < description.not_before {
            let not_before = description.not_before;
            return Err(CaError::NotYetValid { path: path(), not_before });
        }
        let key = files::key_text(&paths.key)?;
        let key_kind = || CaError::KeyKind(paths.key.clone());
        let key = std::str::from_utf8(&key).ok().and_then(|key| KeyPair::from_pem(key).ok());
        let key = Key(Zeroizing::new(key.ok_or_else(key_kind)?));
        if ![
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_RSA_SHA256,
        ]
        .contains(&key.algorithm())
        {
            return Err(key_kind());
        }
        let (_, parsed) =
            X509Certificate::from_der(own).map_err(|_| CaError::NoAuthority(path()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
            return Err(CaError::Mismatch { certificate: path(), key: paths.key.clone() });
        }
        let is_root = parsed.subject() == parsed.issuer();
        let issuer = Issuer::from_ca_cert_der(own, key)?;
        let leaf = Key::generate()?;
        let leaf_signer = leaf.signer()?;
        let chain = if is_root { Vec::new() } else { chain };
        Ok(Self { description, issuer, chain, leaf, leaf_signer })
    }

    /// What it is.
    pub fn description(&self) -> &Description {
        &self.description
    }
}

/// A key pair that is cleared on drop.
pub(super) struct Key(Zeroizing<KeyPair>);

impl Key {
    fn generate() -> Result<Self, CaError> {
        Ok(Self(Zeroizing::new(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)))
    }

    /// For the TLS library.
    fn signer(&self) -> Result<Arc<dyn rustls::sign::SigningKey>, CaError> {
        let der = rustls::pki_types::PrivatePkcs8KeyDer::from(self.0.serialized_der().to_vec());
        Ok(super::provider().key_provider.load_private_key(der.into())?)
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&*self.0)
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        SigningKey::sign(&*self.0, message)
    }
}

trait SerializePem {
    fn serialize_pem_zeroizing(&self) -> Zeroizing<String>;
}

impl SerializePem for KeyPair {
    fn serialize_pem_zeroizing(&self) -> Zeroizing<String> {
        Zeroizing::new(self.serialize_pem())
    }
}

/// An authority that was just made.
struct Made {
    key: Key,
    pem: String,
    description: Description,
}

impl Made {
    fn new(constraints: &[Constraint], now: SystemTime) -> Result<Self, CaError> {
        let key = Key::generate()?;
        let mut params = CertificateParams::default();
        let not_before = now - Duration::from_secs(DAY);
        set_validity(&mut params, not_before, not_before + VALIDITY);
        params.serial_number = Some(serial()?);
        // A rotation makes another name: where two certificates of one name are trusted, some clients look at the first only.
        let mut mark = [0; 4];
        getrandom::fill(&mut mark).map_err(CaError::Random)?;
        let host = nix::unistd::gethostname().unwrap_or_default();
        let host: String = host.to_string_lossy().chars().filter(char::is_ascii_graphic).collect();
        let mark = hex::encode(mark);
        let room = COMMON_NAME_CHARS_MAX - "pgward CA  ".len() - mark.len();
        let host = &host[..host.len().min(room)];
        let mut name = rcgen::DistinguishedName::new();
        name.push(DnType::OrganizationName, "pgward");
        name.push(DnType::CommonName, format!("pgward CA {host} {mark}"));
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = name_constraints(constraints);
        let certificate = params.self_signed(&key)?;
        let description = Description::of(certificate.der())
            .expect("what was just made for an authority is an authority's");
        Ok(Self { key, pem: certificate.pem(), description })
    }
}

/// Permitted are those given, and nothing of a kind of which none is given: a kind without any entry would not be constrained at
/// all (RFC 5280, section 4.2.1.10).
fn name_constraints(constraints: &[Constraint]) -> Option<NameConstraints> {
    if constraints.is_empty() {
        return None;
    }
    let subtree = |constraint: &Constraint| match constraint {
        Constraint::Name(name) => GeneralSubtree::DnsName(name.as_ref().to_owned()),
        Constraint::Network(network) => GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
            network.addr(),
            network.prefix(),
        )),
    };
    let mut excluded = Vec::new();
    let any = |of: fn(&Constraint) -> bool| constraints.iter().any(of);
    if !any(|one| matches!(one, Constraint::Name(_))) {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    // Families are one kind, IP addresses; but an entry of one family matches none of the other, and permits none.
    if !any(|one| matches!(one, Constraint::Network(_))) {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
            Ipv4Addr::UNSPECIFIED.into(),
            0,
        )));
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
            Ipv6Addr::UNSPECIFIED.into(),
            0,
        )));
    }
    Some(NameConstraints {
        permitted_subtrees: constraints.iter().map(subtree).collect(),
        excluded_subtrees: excluded,
    })
}

/// A permitted subtree as it was asked for.
fn constraint(subtree: &ParsedSubtree<'_>) -> Option<Constraint> {
    match &subtree.base {
        GeneralName::DNSName(name) => {
            DnsName::try_from((*name).to_owned()).ok().map(Constraint::Name)
        }
        GeneralName::IPAddress(bytes) => {
            let (address, mask) = bytes.split_at_checked(bytes.len() / 2)?;
            let prefix = mask.iter().map(|byte| byte.count_ones() as u8).sum();
            let address = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
                (Ok(v4), _) => IpAddr::from(v4),
                (_, Ok(v6)) => IpAddr::from(v6),
                _ => return None,
            };
            Network::new(address, prefix).ok().map(Constraint::Network)
        }
        _ => None,
    }
}

/// Puts a copy of a certificate, readable by all, in place of whatever `to` is.
pub fn copy_certificate(from: &Path, to: &Path) -> Result<(), CaError> {
    let certificate = certificate(from)?;
    make_folder(to)?;
    let new = beside(to);
    remove_left(&new)?;
    create(&new, 0o644, pem(&certificate).as_bytes())?;
    rename(&new, to)
}

/// The day of a moment, in UTC: `2026-01-31`.
pub fn day(time: SystemTime) -> String {
    let mut text = date(time);
    text.truncate("2026-01-31".len());
    text
}

fn certificate(path: &Path) -> Result<CertificateDer<'static>, CaError> {
    let mut chain = files::certificates(path)?;
    Ok(chain.swap_remove(0))
}

pub(super) fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; SERIAL_BYTES];
    getrandom::fill(&mut bytes).map_err(CaError::Random)?;
    // Positive, and not shorter than it looks.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Sets first and last moment, in whole seconds.
pub(super) fn set_validity(params: &mut CertificateParams, first: SystemTime, last: SystemTime) {
    let since_1970 = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since.as_secs())
    };
    params.not_before = since_1970(first);
    params.not_after = since_1970(last);
}

fn time(unix: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or(0))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

fn make_folder(path: &Path) -> Result<(), CaError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.map_err(|source| CaError::Write { path: folder.to_owned(), source })
}

/// Writes a file that must not exist, down to the disk.
fn create(path: &Path, mode: u32, content: &[u8]) -> Result<(), CaError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => CaError::Exists(path.to_owned()),
        _ => CaError::Write { path: path.to_owned(), source },
    };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    let written = file
        .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder(path));
    written.map_err(|source| {
        let _ = fs::remove_file(path);
        CaError::Write { path: path.to_owned(), source }
    })
}

fn rename(from: &Path, to: &Path) -> Result<(), CaError> {
    let done = fs::rename(from, to).and_then(|()| sync_folder(to));
    done.map_err(|source| CaError::Write { path: to.to_owned(), source })
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// The file that a rename will put in place of `path`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// What an interrupted rotation left.
fn remove_left(path: &Path) -> Result<(), CaError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(CaError::Write { path: path.to_owned(), source }),
    }
}
