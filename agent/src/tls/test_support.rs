//! Authorities, servers and connections for tests.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::net::{TcpListener, TcpStream};

use super::{
    ALPN, Alpn, Authority, ClientLeg, Roots, ServerLeg, Settings, Verification,
    ca::{Constraint, DAY, Paths, set_validity},
    provider,
};

/// Two ends of a connection on the loopback device.
pub(crate) async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.expect("connected"), server.expect("accepted").0)
}

pub(crate) fn days(count: u64) -> Duration {
    Duration::from_secs(count * DAY)
}

/// A local authority in a folder.
pub(crate) fn authority(folder: &Path, constraints: &[&str]) -> (Paths, Arc<Authority>) {
    let paths = Paths { certificate: folder.join("ca.pem"), key: folder.join("ca.key") };
    let constraints: Vec<Constraint> =
        constraints.iter().map(|text| text.parse().expect("a constraint")).collect();
    let now = SystemTime::now();
    Authority::init(&paths, &constraints, now).expect("made");
    let authority = Authority::load(&paths, now).expect("loaded");
    (paths, Arc::new(authority))
}

/// A leg towards clients with a new authority, and the file that clients trust it by.
pub(crate) fn client_leg(folder: &Path, constraints: &[&str]) -> (PathBuf, ClientLeg) {
    let (paths, authority) = authority(folder, constraints);
    (paths.certificate, ClientLeg::new(Some(authority)))
}

/// What a destination would say.
pub(crate) fn settings(verification: Verification, roots: &Path) -> Settings {
    let roots = Roots::File(roots.to_owned());
    Settings { verification, roots, crl: None, identity: None }
}

pub(crate) fn dns(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).expect("a name")
}

/// Handshakes between our two legs.
pub(crate) async fn handshake(
    client_leg: &ClientLeg,
    own: Option<&super::Presented>,
    server_leg: &ServerLeg,
    name: Option<&str>,
    alpn: Alpn,
) -> (
    Result<(crate::net::leg::Leg, super::Accepted), super::TlsError>,
    Result<(crate::net::leg::Leg, super::Connected), super::TlsError>,
) {
    let (near, far) = connection().await;
    let address = far.local_addr().expect("an address").ip();
    let name = name.map(dns);
    tokio::join!(
        client_leg.accept(far, 0, Vec::new(), own, address, alpn),
        server_leg.connect(near, 0, name.as_ref(), address, alpn),
    )
}

/// A client that is not ours.
pub(crate) fn plain_client(
    versions: &[&'static rustls::SupportedProtocolVersion],
    roots: &Path,
    alpn: &[&[u8]],
) -> ClientConfig {
    let mut trusted = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(roots).expect("a certificate");
    trusted.add(root).expect("a root");
    let mut config = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// An authority of a database's side.
pub(crate) struct Pki {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// Its certificate is [`Pki::roots`].
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = folder.join(name);
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("roots.pem"), issuer.pem()).expect("written");
        Self { folder, issuer }
    }

    pub(crate) fn roots(&self) -> PathBuf {
        self.folder.join("roots.pem")
    }

    /// A certificate and its key in files.
    pub(crate) fn issue(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        let now = SystemTime::now();
        set_validity(&mut params, now - days(10), now + days(10));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.write(&certificate.pem(), &key.serialize_pem())
    }

    fn write(&self, certificate: &str, key: &str) -> (PathBuf, PathBuf) {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let paths =
            (self.folder.join(format!("{count}.pem")), self.folder.join(format!("{count}.key")));
        std::fs::write(&paths.0, certificate).expect("written");
        write_key(&paths.1, key);
        paths
    }

    /// A list that revokes these serial numbers.
    pub(crate) fn crl(&self, serials: &[u8], next_update: SystemTime) -> (String, Vec<u8>) {
        let mut dates = CertificateParams::default();
        set_validity(&mut dates, SystemTime::now() - days(100), next_update);
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[*serial]),
            revocation_time: dates.not_before,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: dates.not_before,
            next_update: dates.not_after,
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        (list.pem().expect("PEM"), list.der().to_vec())
    }
}

pub(crate) fn write_key(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("closed");
}

/// The protocols that a client of ours offers.
pub(crate) const OFFERED: &[&[u8]] = &[ALPN];
