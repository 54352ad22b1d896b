//! Channel binding data of a certificate.

use std::fmt;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use x509_parser::{
    oid_registry::{
        OID_HASH_SHA1, OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512,
        OID_PKCS1_MD5WITHRSAENC, OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA1WITHRSA,
        OID_PKCS1_SHA224WITHRSA, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA,
        OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA224, OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, Oid, asn1_rs::oid,
    },
    prelude::{FromDer as _, X509Certificate},
    signature_algorithm::RsaSsaPssParams,
};

/// `tls-server-end-point` of a server's certificate: the hash of its DER form.
///
/// 28, 32, 48 or 64 bytes: the hash function is that of the certificate's signature, and SHA-256 in place of MD5 and SHA-1.
/// Source: RFC 5929, section 4.1; PostgreSQL `src/backend/libpq/be-secure-openssl.c`, `be_tls_get_certificate_hash`.
#[derive(Clone, PartialEq, Eq)]
pub struct EndPointHash(Vec<u8>);

impl EndPointHash {
    /// Hashes a certificate. `None` where the hash is not defined: signatures without a hash function of their own (Ed25519,
    /// Ed448, ML-DSA), functions that are not known here, and what is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        Some(Self(match function(certificate)? {
            Function::Sha224 => Sha224::digest(certificate).to_vec(),
            Function::Sha256 => Sha256::digest(certificate).to_vec(),
            Function::Sha384 => Sha384::digest(certificate).to_vec(),
            Function::Sha512 => Sha512::digest(certificate).to_vec(),
        }))
    }

    /// The hash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for EndPointHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndPointHash({})", hex::encode(&self.0))
    }
}

#[derive(Clone, Copy)]
enum Function {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// `ecdsa-with-SHA1` (RFC 3279) and `dsa-with-sha1`, `dsa-with-sha256`.
const ECDSA_WITH_SHA1: Oid<'_> = oid!(1.2.840.10045.4.1);
const DSA_WITH_SHA1: Oid<'_> = oid!(1.2.840.10040.4.3);
const DSA_WITH_SHA256: Oid<'_> = oid!(2.16.840.1.101.3.4.3.2);
const HASH_SHA224: Oid<'_> = oid!(2.16.840.1.101.3.4.2.4);

fn function(certificate: &[u8]) -> Option<Function> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = &certificate.signature_algorithm;
    let is = |oids: &[Oid<'_>]| oids.contains(&algorithm.algorithm);
    if is(&[OID_PKCS1_RSASSAPSS]) {
        let parameters = algorithm.parameters.as_ref()?;
        let parameters = RsaSsaPssParams::try_from(parameters).ok()?;
        let hash = parameters.hash_algorithm_oid();
        return [
            (OID_HASH_SHA1, Function::Sha256),
            (HASH_SHA224, Function::Sha224),
            (OID_NIST_HASH_SHA256, Function::Sha256),
            (OID_NIST_HASH_SHA384, Function::Sha384),
            (OID_NIST_HASH_SHA512, Function::Sha512),
        ]
        .into_iter()
        .find_map(|(oid, function)| (*hash == oid).then_some(function));
    }
    if is(&[OID_PKCS1_SHA256WITHRSA, OID_SIG_ECDSA_WITH_SHA256, DSA_WITH_SHA256])
        || is(&[OID_PKCS1_MD5WITHRSAENC, OID_PKCS1_SHA1WITHRSA, ECDSA_WITH_SHA1, DSA_WITH_SHA1])
    {
        Some(Function::Sha256)
    } else if is(&[OID_PKCS1_SHA384WITHRSA, OID_SIG_ECDSA_WITH_SHA384]) {
        Some(Function::Sha384)
    } else if is(&[OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA512]) {
        Some(Function::Sha512)
    } else if is(&[OID_PKCS1_SHA224WITHRSA, OID_SIG_ECDSA_WITH_SHA224]) {
        Some(Function::Sha224)
    } else {
        None
    }
}
