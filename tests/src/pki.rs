//! Certificates for tests: an authority, servers that are right and servers that are wrong in one way each, and a client.
//!
//! | Certificate | Issued by | Names | What is wrong |
//! | --- | --- | --- | --- |
//! | [`Server::Good`] | the authority | [`HOST`], 127.0.0.1 to 127.0.0.[`LAST_ADDRESS`] | nothing |
//! | [`Server::Expired`] | the authority | the same | ended in 2020 |
//! | [`Server::OtherName`] | the authority | `other.test` | the name |
//! | [`Server::UnknownIssuer`] | another authority | as the good one | the issuer |
//! | [`Server::Revoked`] | the authority | as the good one | its serial number is in the revocation list |
//! | clients | the authority | common name of a role | nothing |
//!
//! The agent has an authority of its own, to issue certificates for the names its clients ask for.
//!
//! Every key is ECDSA P-256, which both OpenSSL 1.1 (of the server 18 that tests use) and rustls know.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

/// Name of every good server. Tests reach it by address and name it in `host`, so that no resolver is asked.
pub const HOST: &str = "db.test";

/// Last number of the addresses 127.0.0.x that server certificates name.
pub const LAST_ADDRESS: u8 = 40;

/// Serial number of the revoked certificate.
const REVOKED: u8 = 66;

/// Which server certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Valid for [`HOST`] and the addresses.
    Good,
    /// Its time has passed.
    Expired,
    /// Valid for another name.
    OtherName,
    /// Issued by an authority that nobody trusts.
    UnknownIssuer,
    /// Listed in [`Pki::revocations`].
    Revoked,
}

/// A certificate with its key, PEM files both; the key's mode is 0600.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Certificate.
    pub certificate: PathBuf,
    /// Key, PKCS #8.
    pub key: PathBuf,
}

/// The files, in a folder that goes with this value.
#[derive(Debug)]
pub struct Pki {
    folder: TempDir,
}

impl Pki {
    /// Makes everything in the table above, with a client certificate for each of `roles`.
    ///
    /// Errors: of writing files, and of making certificates.
    pub fn new(roles: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("pgward-pki-").tempdir()?;
        // Servers run as another user; keys have their own modes.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let pki = Self { folder };
        let (certificate, authority) = authority("Test authority of pgward")?;
        let (agents, agent) = self::authority("Authority of the agent under test")?;
        fs::write(pki.roots(), &certificate)?;
        fs::write(pki.all_roots(), format!("{certificate}{agents}"))?;
        fs::write(pki.agent_authority().certificate, agents)?;
        pki.write_secret("agent-authority.key", &agent.key().serialize_pem())?;
        for server in SERVERS {
            let unknown = if server == Server::UnknownIssuer {
                Some(self::authority("Authority that nobody trusts")?.1)
            } else {
                None
            };
            let issuer = unknown.as_ref().unwrap_or(&authority);
            pki.issue(issuer, &pki.server(server), server_params(server)?)?;
        }
        for role in roles {
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name.push(DnType::CommonName, *role);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            pki.issue(&authority, &pki.client(role), params)?;
        }
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(vec![REVOKED]),
            revocation_time: date_time_ymd(2026, 1, 2),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 2),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(vec![1]),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        fs::write(pki.revocations(), list.signed_by(&authority)?.pem()?)?;
        Ok(pki)
    }

    /// Certificate of the authority.
    pub fn roots(&self) -> PathBuf {
        self.folder.path().join("roots.pem")
    }

    /// The authority's revocation list.
    pub fn revocations(&self) -> PathBuf {
        self.folder.path().join("revocations.pem")
    }

    /// A server's certificate and key.
    pub fn server(&self, server: Server) -> Files {
        self.files(match server {
            Server::Good => "good",
            Server::Expired => "expired",
            Server::OtherName => "other-name",
            Server::UnknownIssuer => "unknown-issuer",
            Server::Revoked => "revoked",
        })
    }

    /// The client certificate of a role, with that name as its common name.
    pub fn client(&self, role: &str) -> Files {
        self.files(&format!("client-{role}"))
    }

    /// An authority for the agent: certificate and key.
    pub fn agent_authority(&self) -> Files {
        self.files("agent-authority")
    }

    /// What a client trusts that meets servers and the agent: both authorities.
    pub fn all_roots(&self) -> PathBuf {
        self.folder.path().join("all-roots.pem")
    }

    /// Writes a file of one's own beside the others, readable by its owner alone.
    pub fn write_secret(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// The folder, for other files that go with them.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn files(&self, name: &str) -> Files {
        let folder = self.folder.path();
        Files {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        }
    }

    fn issue(
        &self,
        issuer: &Issuer<'_, KeyPair>,
        files: &Files,
        params: CertificateParams,
    ) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?;
        fs::write(&files.certificate, certificate.pem())?;
        let name = files.key.file_name().context("a file in the folder")?.to_string_lossy();
        self.write_secret(&name, &key.serialize_pem()).map(|_| ())
    }
}

const SERVERS: [Server; 5] =
    [Server::Good, Server::Expired, Server::OtherName, Server::UnknownIssuer, Server::Revoked];

/// Certificate (PEM) and issuer of a new authority.
fn authority(name: &str) -> Result<(String, Issuer<'static, KeyPair>)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Issuer::new(params, key)))
}

fn server_params(server: Server) -> Result<CertificateParams> {
    let other = server == Server::OtherName;
    let names = vec![if other { "other.test" } else { HOST }.to_owned()];
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, format!("{server:?}"));
    if !other {
        let addresses = (1..=LAST_ADDRESS).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
        params.subject_alt_names.extend(addresses.map(SanType::IpAddress));
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if server == Server::Expired {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    }
    if server == Server::Revoked {
        params.serial_number = Some(SerialNumber::from(vec![REVOKED]));
    }
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_files_that_openssl_judges_as_intended() {
        let pki = Pki::new(&["cert_user"]).expect("made");
        let verify = |server: Server| {
            let mut command = std::process::Command::new("openssl");
            command.args(["verify", "-crl_check", "-verify_hostname", HOST, "-CAfile"]);
            command.arg(pki.roots()).arg("-CRLfile").arg(pki.revocations());
            command.arg(pki.server(server).certificate);
            let output = crate::host::output(&mut command).expect("openssl runs");
            format!("{}", String::from_utf8_lossy(&output.stderr))
        };
        assert_eq!(verify(Server::Good), "");
        assert!(verify(Server::Expired).contains("certificate has expired"));
        assert!(verify(Server::OtherName).contains("hostname mismatch"));
        assert!(!verify(Server::UnknownIssuer).is_empty());
        assert!(verify(Server::Revoked).contains("certificate revoked"));
    }
}
