//! Certificates for the names that applications ask for.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};
use rustls::{pki_types::ServerName, sign::CertifiedKey};

use super::{
    Authority, CaError, EndPointHash,
    ca::{COMMON_NAME_CHARS_MAX, DAY, serial, set_validity},
};

/// How long a certificate is valid, from yesterday on.
const VALIDITY: Duration = Duration::from_secs(90 * DAY);

/// A certificate that was made for a name.
#[derive(Debug)]
pub struct Issued {
    /// Chain and key for the TLS library.
    pub pair: Arc<CertifiedKey>,
    /// Channel binding data.
    pub endpoint: EndPointHash,
    /// When a new one is due: a third of its time is left, or the authority's own time is over.
    pub renew_at: SystemTime,
}

impl Authority {
    /// Makes a certificate for a name: for servers only, for the process's own key. Whether the authority's constraints permit
    /// the name is left to those who verify; others need not care.
    pub fn issue(&self, name: &ServerName<'_>, now: SystemTime) -> Result<Issued, CaError> {
        let constrained = !self.description.constraints.is_empty();
        let mut params = CertificateParams::default();
        let yesterday = now - Duration::from_secs(DAY);
        let not_before = yesterday.max(self.description.not_before);
        let not_after = (yesterday + VALIDITY).min(self.description.not_after);
        set_validity(&mut params, not_before, not_after);
        params.serial_number = Some(serial()?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let text = name.to_str();
        let (san, common_name) = match name {
            ServerName::DnsName(dns) => {
                let name = dns.as_ref().to_ascii_lowercase();
                (SanType::DnsName(name.clone().try_into()?), name)
            }
            // libpq before 15 compares addresses with the common name only. OpenSSL holds a common name without a DNS name beside
            // it against constraints on DNS names, if it looks like one, which an address does.
            ServerName::IpAddress(address) if constrained => {
                (SanType::IpAddress((*address).into()), format!("pgward {text}"))
            }
            ServerName::IpAddress(address) => {
                (SanType::IpAddress((*address).into()), text.into_owned())
            }
            // The library may learn of other kinds.
            _ => return Err(CaError::Library(rcgen::Error::UnsupportedExtension)),
        };
        params.subject_alt_names = vec![san];
        let mut subject = DistinguishedName::new();
        let fits = common_name.len() <= COMMON_NAME_CHARS_MAX;
        subject.push(DnType::CommonName, if fits { common_name } else { "pgward".to_owned() });
        params.distinguished_name = subject;
        let certificate = params.signed_by(&self.leaf, &self.issuer)?;
        let endpoint = EndPointHash::of(certificate.der())
            .expect("an authority is loaded only with a key whose signatures have a hash function");
        let mut chain = vec![certificate.into()];
        chain.extend(self.chain.iter().cloned());
        let lifetime = not_after.duration_since(not_before).unwrap_or_default();
        Ok(Issued {
            pair: Arc::new(CertifiedKey::new(chain, self.leaf_signer.clone())),
            endpoint,
            renew_at: not_after - lifetime / 3,
        })
    }
}
