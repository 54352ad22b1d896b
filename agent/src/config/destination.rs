//! What is done at which server: `[tls]` and `[[destination]]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;

use rustls::pki_types::ServerName;

use super::{Account, AuthException, AuthMode, AuthSettings, Network, WeakMethod};

/// Largest number of `[[destination]]` tables.
pub const DESTINATIONS_MAX: usize = 64;
/// Longest name of a destination, in bytes.
pub const NAME_BYTES_MAX: usize = 63;
/// Name of the destination behind all others, which nothing else may have.
pub const IMPLICIT_NAME: &str = "default";

/// `[tls]`: the local certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Its certificate, PEM.
    pub ca_certificate: PathBuf,
    /// Its private key, PEM, mode 0600.
    pub ca_key: PathBuf,
}

/// One `[[destination]]`: what is done with connections to some servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// For records, errors and logs: unique, 1 to [`NAME_BYTES_MAX`] bytes of `a-z0-9-_.`.
    pub name: String,
    /// Ascending, without repetition, at least one.
    pub networks: Vec<Network>,
    /// Ascending, without repetition; empty stands for all.
    pub ports: Vec<NonZeroU16>,
    /// Whether replication connections are let through.
    pub replication: bool,
    /// Whether `application_name` is extended with process and container.
    pub stamp_application_name: bool,
    /// `[destination.client]`
    pub client: ClientSettings,
    /// `[destination.server]`
    pub server: ServerSettings,
    /// `[destination.auth]`
    pub auth: AuthSettings,
    /// `[[destination.account]]`: in the order of the file, each role once.
    pub accounts: Vec<Account>,
}

/// `[destination.client]`: the leg between application and agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// Whether it may or must be encrypted.
    pub tls: ClientTls,
    /// The agent's own certificate there, in place of one minted by the local authority.
    pub identity: Option<CertificateFiles>,
    /// Channel binding that the agent offers.
    pub channel_binding: ChannelBinding,
}

/// TLS towards applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTls {
    /// As the application wants.
    Optional,
    /// Declined.
    Off,
    /// Applications that do not ask for it are refused.
    Required,
}

/// `[destination.server]`: the leg between agent and database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// As written; [`Destination::server_tls`] is what holds for an address.
    pub tls: Option<ServerTls>,
    /// How TLS begins.
    pub negotiation: Negotiation,
    /// The name to verify and to send as SNI, in place of the one the application named. May be an
    /// IP address.
    pub name: Option<ServerName<'static>>,
    /// File of trusted roots, PEM; the system's where there is none.
    pub roots: Option<PathBuf>,
    /// File of revocation lists, PEM.
    pub crl: Option<PathBuf>,
    /// The agent's certificate as a client.
    pub identity: Option<CertificateFiles>,
    /// Channel binding in the agent's own SCRAM exchange.
    pub channel_binding: ChannelBinding,
}

/// TLS towards the server, as in libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerTls {
    /// Clear text.
    Disable,
    /// TLS where the server has it, else clear text; nothing is verified.
    Prefer,
    /// TLS; nothing is verified.
    Require,
    /// TLS with a certificate that leads to a trusted root.
    VerifyCa,
    /// The same, issued for the server's name.
    VerifyFull,
}

impl ServerTls {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether the server's certificate is looked at.
    pub fn verifies(self) -> bool {
        match self {
            Self::Disable | Self::Prefer | Self::Require => false,
            Self::VerifyCa | Self::VerifyFull => true,
        }
    }
}

/// How TLS with the server begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiation {
    /// With an `SSLRequest`.
    Postgres,
    /// At once, with ALPN (PostgreSQL 17).
    Direct,
}

/// Channel binding of a SCRAM exchange, as in libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Where both sides can.
    Prefer,
    /// Never.
    Disable,
    /// Always: an exchange without it is refused.
    Require,
}

/// A certificate with its chain, and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate first, then its intermediates.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Destination {
    /// The one behind all others: any address, every setting at its default.
    pub fn implicit() -> Self {
        Self {
            name: IMPLICIT_NAME.to_owned(),
            networks: vec![Network::ALL_V4, Network::ALL_V6],
            ports: Vec::new(),
            replication: false,
            stamp_application_name: false,
            client: ClientSettings::default(),
            server: ServerSettings::default(),
            auth: AuthSettings::default(),
            accounts: Vec::new(),
        }
    }

    /// Whether it is about the server at `address`. An IPv4-mapped address counts as its IPv4 form.
    pub fn matches(&self, address: SocketAddr) -> bool {
        let port = self.ports.is_empty() || self.ports.iter().any(|p| p.get() == address.port());
        let ip = address.ip().to_canonical();
        port && self.networks.iter().any(|network| network.holds(ip))
    }

    /// TLS towards the server at `address`: as configured, else `prefer` on loopback and
    /// `verify-full` anywhere else.
    pub fn server_tls(&self, address: SocketAddr) -> ServerTls {
        match self.server.tls {
            Some(tls) => tls,
            None if address.ip().to_canonical().is_loopback() => ServerTls::Prefer,
            None => ServerTls::VerifyFull,
        }
    }

    /// All that [`Destination::server_tls`] may answer for addresses that match.
    pub fn server_tls_possible(&self) -> Vec<ServerTls> {
        match self.server.tls {
            Some(tls) => vec![tls],
            None => {
                let loopback = loopback();
                let some = self.networks.iter().any(|n| loopback.iter().any(|l| l.overlaps(*n)));
                let only = self.only_loopback();
                let mut possible = Vec::new();
                possible.extend(some.then_some(ServerTls::Prefer));
                possible.extend((!only).then_some(ServerTls::VerifyFull));
                possible
            }
        }
    }

    /// Whether all its servers are on this host.
    pub fn only_loopback(&self) -> bool {
        let loopback = loopback();
        self.networks.iter().all(|network| loopback.iter().any(|lo| lo.contains(*network)))
    }

    /// Whether the agent may have a secret of any role: a lookup, a verifier file or an account.
    pub fn has_secret_source(&self) -> bool {
        self.auth.lookup.is_some() || self.auth.verifiers.is_some() || !self.accounts.is_empty()
    }

    /// Whether a server may get a secret of the agent's own, or a proof of one to guess from: with a
    /// lookup, an account with a password, or `upgrade`.
    pub fn sends_secrets(&self) -> bool {
        match self.auth.mode {
            AuthMode::Auto | AuthMode::Terminate => {}
            AuthMode::Relay => return false,
        }
        let upgrade = self.auth.upgrade && self.has_secret_source();
        let account = self.accounts.iter().any(|account| account.password.is_some());
        self.auth.lookup.is_some() || account || upgrade
    }

    /// Whether some address of IPv4 or IPv6 is none of its servers.
    pub fn leaves_addresses_out(&self) -> bool {
        ![Network::ALL_V4, Network::ALL_V6].iter().all(|all| all.covered_by(&self.networks))
    }

    /// Whether no exchange with an application is ever carried out by the agent itself.
    pub fn only_relays(&self) -> bool {
        match self.auth.mode {
            AuthMode::Auto => !self.has_secret_source(),
            AuthMode::Terminate => false,
            AuthMode::Relay => true,
        }
    }

    /// The account of `role`, as the startup packet has it.
    pub fn account(&self, role: &[u8]) -> Option<&Account> {
        self.accounts.iter().find(|account| account.role.as_bytes() == role)
    }

    /// The first exception that lets `role` log in by `method`.
    pub fn exception(&self, role: &[u8], method: WeakMethod) -> Option<&AuthException> {
        self.auth
            .exceptions
            .iter()
            .find(|exception| exception.methods.contains(&method) && exception.roles.contain(role))
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self { tls: ClientTls::Optional, identity: None, channel_binding: ChannelBinding::Prefer }
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            tls: None,
            negotiation: Negotiation::Postgres,
            name: None,
            roots: None,
            crl: None,
            identity: None,
            channel_binding: ChannelBinding::Prefer,
        }
    }
}

/// 127.0.0.0/8 and ::1.
fn loopback() -> [Network; 2] {
    let v4 = Network::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
    let v6 = Network::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 128);
    [v4.expect("no host bits are set"), v6.expect("a full prefix has no host bits")]
}
