//! A client that begins sessions and does not log in: what TLS costs alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::Way;
use super::sites::Target;

/// Connections of one measurement.
pub(super) const CONNECTIONS: u32 = 400;

/// `SSLRequest` (PostgreSQL documentation, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// How far a client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Greeting {
    /// Asks for encryption, reads the answer, closes
    Ask,
    /// And does a full handshake of TLS 1.3 with X25519
    Classic,
    /// The same with X25519MLKEM768
    Hybrid,
}

impl Greeting {
    pub(super) const ALL: [Self; 3] = [Self::Ask, Self::Classic, Self::Hybrid];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Classic => "classic",
            Self::Hybrid => "hybrid",
        }
    }
}

/// What to do, and where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HandshakeOptions {
    /// Address of the server or proxy
    #[arg(long)]
    to: SocketAddr,
    /// Connections, one after the other
    #[arg(long)]
    count: u32,
    /// How far each goes
    #[arg(long, value_enum)]
    greeting: Greeting,
    /// Roots to verify the certificate with, for the address
    #[arg(long)]
    roots: PathBuf,
}

/// The command that does it.
pub(super) fn clients(greeting: Greeting, target: &Target<'_>, way: Way) -> Result<Command> {
    let roots = target.roots.with_context(|| format!("{} has no certificate", way.name()))?;
    let mut clients = Command::new(std::env::current_exe()?);
    clients.args(["handshake-clients", "--greeting", greeting.name()]);
    clients.args(["--to", &format!("{}:{}", target.host, target.port)]);
    clients.args(["--count", &CONNECTIONS.to_string()]);
    clients.arg("--roots").arg(roots);
    Ok(clients)
}

/// Makes the connections, one after the other; none resumes another's session.
pub(crate) fn shake_hands(options: &HandshakeOptions) -> Result<()> {
    let group = match options.greeting {
        Greeting::Ask => None,
        Greeting::Classic => Some(aws_lc_rs::kx_group::X25519),
        Greeting::Hybrid => Some(aws_lc_rs::kx_group::X25519MLKEM768),
    };
    let config = group.map(|group| config(options, group)).transpose()?;
    for number in 0..options.count {
        greet(options.to, config.as_ref()).with_context(|| format!("connection {number}"))?;
    }
    Ok(())
}

fn config(
    options: &HandshakeOptions,
    group: &'static dyn rustls::crypto::SupportedKxGroup,
) -> Result<Arc<ClientConfig>> {
    let provider = CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&options.roots)? {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn greet(to: SocketAddr, config: Option<&Arc<ClientConfig>>) -> Result<()> {
    let mut tcp = TcpStream::connect(to).context("connecting")?;
    tcp.set_nodelay(true)?;
    tcp.write_all(&SSL_REQUEST)?;
    let mut answer = [0];
    tcp.read_exact(&mut answer).context("reading the answer")?;
    ensure!(answer == *b"S", "found answer {:#04x}, expected S", answer[0]);
    if let Some(config) = config {
        let mut tls = ClientConnection::new(config.clone(), ServerName::from(to.ip()))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).context("the TLS handshake")?;
        }
        tls.send_close_notify();
        tls.write_tls(&mut tcp)?;
    }
    Ok(())
}
