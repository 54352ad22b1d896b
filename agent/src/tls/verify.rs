//! Verification of a server's certificate, as strict as the setting says.

use std::{collections::HashSet, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::{
    asn1_rs::Header,
    prelude::{FromDer as _, X509Certificate, X509Version},
};

use super::provider;

/// What is looked at.
#[derive(Debug)]
pub(super) enum Check {
    /// Nothing but that the server has the key to its certificate.
    Nothing,
    /// Chain, dates and revocation.
    Chain(Trusted),
    /// All of it, and the name.
    Full(Trusted),
}

/// What is trusted.
#[derive(Debug)]
pub(super) struct Trusted {
    /// Builds chains to the roots and looks at revocation lists.
    pub(super) chains: Arc<WebPkiServerVerifier>,
    /// Certificates from the destination's own file. A server that shows one of these itself needs no chain: so it is with the
    /// self-signed certificate that PostgreSQL's documentation makes, and with libpq.
    pub(super) pinned: HashSet<CertificateDer<'static>>,
}

/// Verifies servers for one destination.
#[derive(Debug)]
pub(super) struct Verifier {
    check: Check,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(check: Check) -> Self {
        Self { check, algorithms: provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let by_chain = |trusted: &Trusted| {
            if trusted.pinned.contains(certificate) {
                within_dates(certificate, now)?;
                return verify_server_name(&ParsedCertificate::try_from(certificate)?, name);
            }
            trusted.chains.verify_server_cert(certificate, intermediates, name, ocsp, now).map(drop)
        };
        match &self.check {
            Check::Nothing => Ok(ServerCertVerified::assertion()),
            Check::Full(trusted) => by_chain(trusted).map(|()| ServerCertVerified::assertion()),
            Check::Chain(trusted) => match by_chain(trusted) {
                // Names are looked at last, when all else is in order.
                Ok(())
                | Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                )) => Ok(ServerCertVerified::assertion()),
                Err(error) => Err(error),
            },
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match (&self.check, key_of_version_one(certificate)) {
            (Check::Nothing, Some(key)) => self.verify_with(&key, message, signed),
            (Check::Nothing | Check::Chain(_) | Check::Full(_), _) => {
                verify_tls12_signature(message, certificate, signed, &self.algorithms)
            }
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match (&self.check, key_of_version_one(certificate)) {
            (Check::Nothing, Some(key)) if is_of_tls13(signed.scheme) => {
                self.verify_with(&key, message, signed)
            }
            (Check::Nothing | Check::Chain(_) | Check::Full(_), _) => {
                verify_tls13_signature(message, certificate, signed, &self.algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Verifier {
    /// Does what the library does, for a certificate that it refuses to read.
    fn verify_with(
        &self,
        key: &PublicKey,
        message: &[u8],
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let candidates =
            self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let verified = candidates
            .map_or(&[][..], |(_, algorithms)| algorithms)
            .iter()
            .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key.algorithm)
            .any(|algorithm| {
                algorithm.verify_signature(&key.bits, message, signed.signature()).is_ok()
            });
        match verified {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }
}

/// TLS 1.3 has neither PKCS #1 nor SHA-1 signatures. Source: RFC 8446, section 4.2.3.
fn is_of_tls13(scheme: SignatureScheme) -> bool {
    !matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA1
            | SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
            | SignatureScheme::ECDSA_SHA1_Legacy
    )
}

struct PublicKey {
    /// Content of the AlgorithmIdentifier.
    algorithm: Vec<u8>,
    bits: Vec<u8>,
}

/// The key of an X.509 certificate of version 1, which the library does not read: `openssl x509 -req`, as PostgreSQL's
/// documentation uses it, makes them. Without verification such a server is as good as any other.
fn key_of_version_one(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    if parsed.version() != X509Version::V1 {
        return None;
    }
    let key = parsed.public_key();
    // SubjectPublicKeyInfo ::= SEQUENCE { algorithm SEQUENCE, key BIT STRING }: the content of the first within the first.
    let (_, info) = Header::from_der(key.raw).ok().map(|(rest, header)| (header, rest))?;
    let (content, header) = Header::from_der(info).ok()?;
    let algorithm = content.get(..header.length().definite().ok()?)?;
    Some(PublicKey { algorithm: algorithm.to_vec(), bits: key.subject_public_key.data.to_vec() })
}

fn within_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let encoding = || Error::from(CertificateError::BadEncoding);
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| encoding())?;
    let seconds = |time: i64| std::time::Duration::from_secs(u64::try_from(time).unwrap_or(0));
    let not_before = UnixTime::since_unix_epoch(seconds(parsed.validity().not_before.timestamp()));
    let not_after = UnixTime::since_unix_epoch(seconds(parsed.validity().not_after.timestamp()));
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    Ok(())
}
