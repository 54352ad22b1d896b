//! Certificates, keys and revocation lists from files.

use std::{fs::File, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use rustls::{
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use super::{ConfigurationError, EndPointHash, provider};

/// Bytes of a file of certificates: a system's whole bundle has about 250 KiB.
const CERTIFICATES_BYTES_MAX: u64 = 4 << 20;
/// Bytes of a file of one key.
const KEY_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a file of revocation lists.
const CRL_BYTES_MAX: u64 = 64 << 20;

/// All certificates of a PEM file, at least one.
pub(super) fn certificates(
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ConfigurationError> {
    let text = read(path, CERTIFICATES_BYTES_MAX)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(content(path, "certificates in PEM form")),
    }
}

/// The key of a PEM file that nobody else can read.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigurationError> {
    let text = key_text(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| content(path, "private key in PEM form"))
}

/// The text of a PEM file with a key.
///
/// As PostgreSQL has it for server keys: the owner is us or root, and the group may read only a file of root. Source:
/// PostgreSQL documentation, "SSL Server File Usage".
pub(super) fn key_text(path: &Path) -> Result<Zeroizing<Vec<u8>>, ConfigurationError> {
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    let meta = file.metadata().map_err(|source| unreadable(path, source))?;
    let (uid, mode) = (meta.uid(), meta.mode() & 0o7777);
    let ours = uid == nix::unistd::geteuid().as_raw();
    let open = match uid {
        0 => mode & 0o037,
        _ => mode & 0o077,
    };
    if !(ours || uid == 0) || open != 0 {
        return Err(ConfigurationError::OpenKey { path: path.to_owned(), mode, uid });
    }
    read_from(&file, path, KEY_BYTES_MAX)
}

/// All revocation lists of a file, in PEM or DER form, at least one.
pub(super) fn revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, ConfigurationError> {
    /// A list is a SEQUENCE.
    const DER_FIRST_BYTE: u8 = 0x30;
    let bytes = read(path, CRL_BYTES_MAX)?;
    if bytes.first() == Some(&DER_FIRST_BYTE) {
        return Ok(vec![CertificateRevocationListDer::from(bytes.to_vec())]);
    }
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(content(path, "certificate revocation list")),
    }
}

/// A chain and its key, which belong together and can be used on the client leg.
pub(super) fn certified_key(
    certificate: &Path,
    key_file: &Path,
) -> Result<(CertifiedKey, EndPointHash), ConfigurationError> {
    let chain = certificates(certificate)?;
    let endpoint = chain.first().and_then(EndPointHash::of);
    let endpoint =
        endpoint.ok_or_else(|| ConfigurationError::NoEndPoint { path: certificate.to_owned() })?;
    let pair = CertifiedKey::from_der(chain, key(key_file)?, provider())
        .map_err(|source| ConfigurationError::Pair { path: certificate.to_owned(), source })?;
    Ok((pair, endpoint))
}

fn read(path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, ConfigurationError> {
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    read_from(&file, path, max)
}

fn read_from(file: &File, path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, ConfigurationError> {
    // Reserved at once: growing would leave copies of a key behind.
    let expected = file.metadata().map_or(0, |meta| meta.len()).min(max);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected as usize + 1));
    file.take(max + 1).read_to_end(&mut bytes).map_err(|source| unreadable(path, source))?;
    if bytes.len() as u64 > max {
        return Err(ConfigurationError::TooLarge { path: path.to_owned(), max });
    }
    Ok(bytes)
}

fn unreadable(path: &Path, source: std::io::Error) -> ConfigurationError {
    ConfigurationError::Read { path: path.to_owned(), source }
}

fn content(path: &Path, expected: &'static str) -> ConfigurationError {
    ConfigurationError::Content { path: path.to_owned(), expected }
}
