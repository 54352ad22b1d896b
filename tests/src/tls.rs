//! TLS for scripted peers.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use sha2::{Digest, Sha256};

use crate::pki::Files;

/// ALPN protocol of PostgreSQL.
pub const ALPN: &[u8] = b"postgresql";

/// A client that trusts `roots` and offers these ALPN protocols. Sessions are resumed by connections of the same value.
pub fn client(roots: &Path, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots)? {
        store.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // Asks for it; whether there is any is up to the server.
    config.enable_early_data = true;
    Ok(Arc::new(config))
}

/// A server with this certificate.
pub fn server(files: &Files) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(&files.certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&files.key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// Handshake of a client with the server of that name.
///
/// Errors: of the handshake, alerts of the peer included.
pub fn connect<S: Read + Write>(
    config: &Arc<ClientConfig>,
    name: &str,
    mut stream: S,
) -> Result<StreamOwned<ClientConnection, S>> {
    let name = ServerName::try_from(name)?.to_owned();
    let mut session = ClientConnection::new(Arc::clone(config), name)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}

/// Handshake of a server.
///
/// Errors: of the handshake.
pub fn accept<S: Read + Write>(
    config: &Arc<ServerConfig>,
    mut stream: S,
) -> Result<StreamOwned<ServerConnection, S>> {
    let mut session = ServerConnection::new(Arc::clone(config))?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}

/// `tls-server-end-point` of the peer's certificate, which the tests and the agent have signed with SHA-256.
pub fn end_point(session: &ClientConnection) -> Result<Vec<u8>> {
    let chain = session.peer_certificates().context("a certificate")?;
    Ok(Sha256::digest(chain.first().context("a leaf")?).to_vec())
}
