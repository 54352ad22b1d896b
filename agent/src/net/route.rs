//! Where a connection goes, and what is done there.

use std::{net::SocketAddr, sync::Arc};

use rustls::pki_types::ServerName;

use super::destinations::Destination;

/// A server, and the configuration for it.
#[derive(Clone)]
pub struct Route {
    /// What is configured.
    pub destination: Arc<Destination>,
    /// Where the client wanted to go.
    pub address: SocketAddr,
    /// The name of the server that the client gave in TLS.
    pub named: Option<ServerName<'static>>,
}

impl Route {
    /// The same without what the client says: for connections on which secrets of the agent's own are used. Whoever chooses the
    /// name that is verified chooses the server that gets them.
    pub fn trusted(&self) -> Self {
        Self { named: None, ..self.clone() }
    }

    /// The name to verify and to send to the server: configured, else the client's.
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        self.destination.settings.server.name.clone().or_else(|| self.named.clone())
    }
}
