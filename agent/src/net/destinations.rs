//! Destinations as the configuration has them, with what was loaded for each.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use thiserror::Error;
use tracing::{info, warn};

use super::{error::chain, lookup::Lookups};
use crate::{
    config::{self, Config, ServerTls},
    secrets::{
        AccountSecrets, CACHE_ENTRIES_MAX, Password, SecretError, VerifierCache, VerifierFile,
    },
    tls::{
        Authority, CaError, ClientLeg, ConfigurationError, Identity, Presented, Roots, ServerLeg,
        Settings, TlsError, Verification, ca::Paths,
    },
};

/// What a destination names cannot be used.
#[derive(Debug, Error)]
pub enum DestinationError {
    /// TLS towards its servers.
    #[error("destination `{name}`: TLS with the server")]
    Server {
        /// The destination.
        name: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// Its own certificate.
    #[error("destination `{name}`: the certificate for clients")]
    Client {
        /// The destination.
        name: String,
        /// Why.
        #[source]
        source: ConfigurationError,
    },
    /// An account.
    #[error("destination `{name}`: account of role `{role}`")]
    Account {
        /// The destination.
        name: String,
        /// The role.
        role: String,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// The local authority is there and cannot be used.
    #[error("the local certificate authority")]
    Authority(#[from] CaError),
}

/// One destination.
pub struct Destination {
    /// Its place in the configuration: names it in caches.
    pub index: usize,
    /// What is configured.
    pub settings: Arc<config::Destination>,
    /// The certificate for clients, when it has one of its own.
    pub presented: Option<Presented>,
    /// Accounts, in the order of the configuration.
    pub accounts: Vec<AccountSecrets>,
    /// The password of the lookup's role.
    pub lookup_password: Option<Password>,
    /// The verifier file.
    pub verifiers: Option<Arc<VerifierFile>>,
    /// By what is verified. One that failed to load and nobody named fails when it is needed.
    server_legs: Vec<(Verification, Result<ServerLeg, Arc<TlsError>>)>,
}

/// No TLS with a server, because what it needs could not be loaded.
#[derive(Debug, Error)]
#[error("TLS with servers cannot be used")]
pub struct Unloaded(#[source] pub Arc<TlsError>);

impl Destination {
    /// TLS towards its servers.
    pub fn server_leg(&self, mode: ServerTls) -> Result<&ServerLeg, Unloaded> {
        let verification = verification(mode);
        let (_, leg) = self
            .server_legs
            .iter()
            .find(|(loaded, _)| *loaded == verification)
            .expect("loaded for every mode that an address can have");
        leg.as_ref().map_err(|error| Unloaded(error.clone()))
    }

    /// The account of a role.
    pub fn account(&self, role: &[u8]) -> Option<(&config::Account, &AccountSecrets)> {
        let mut accounts = self.settings.accounts.iter().zip(&self.accounts);
        accounts.find(|(account, _)| account.role.as_bytes() == role)
    }
}

/// All destinations, and what they share.
pub struct Destinations {
    /// TLS towards applications.
    pub client_leg: ClientLeg,
    /// Verifiers that were looked up.
    pub cache: VerifierCache,
    /// Lookups under way.
    pub(super) lookups: Lookups,
    all: Vec<Arc<Destination>>,
}

impl Destinations {
    /// Loads what the configuration names.
    ///
    /// A local authority that is not there is no error: clients that ask for TLS are told that there is none, and `doctor`
    /// says what to do.
    pub fn load(config: &Config) -> Result<Self, DestinationError> {
        let mut files: HashMap<PathBuf, Arc<VerifierFile>> = HashMap::new();
        let mut file = |path: &Path| {
            let shared = files.entry(path.to_owned());
            shared.or_insert_with(|| Arc::new(VerifierFile::new(path))).clone()
        };
        let all = config.destinations.iter().enumerate();
        let all = all.map(|(index, settings)| load(index, settings, &mut file).map(Arc::new));
        Ok(Self {
            client_leg: ClientLeg::new(authority(config)?),
            cache: VerifierCache::new(CACHE_ENTRIES_MAX),
            lookups: Lookups::default(),
            all: all.collect::<Result<_, _>>()?,
        })
    }

    /// The first that matches.
    pub fn at(&self, address: SocketAddr) -> &Arc<Destination> {
        let found = self.all.iter().find(|destination| destination.settings.matches(address));
        found.expect("the implicit destination matches every address")
    }

    /// The one that the configuration names so.
    pub fn named(&self, name: &str) -> Option<&Arc<Destination>> {
        self.all.iter().find(|destination| destination.settings.name == name)
    }
}

fn authority(config: &Config) -> Result<Option<Arc<Authority>>, CaError> {
    let certificate = config.tls.ca_certificate.clone();
    let key = config.tls.ca_key.clone();
    if !certificate.exists() && !key.exists() {
        let path = certificate.display();
        info!(%path, "no local certificate authority: clients that ask for TLS go on in clear text");
        return Ok(None);
    }
    Authority::load(&Paths { certificate, key }, SystemTime::now()).map(|a| Some(Arc::new(a)))
}

fn load(
    index: usize,
    settings: &Arc<config::Destination>,
    file: &mut impl FnMut(&Path) -> Arc<VerifierFile>,
) -> Result<Destination, DestinationError> {
    let name = || settings.name.clone();
    let presented = settings.client.identity.as_ref().map(|files| {
        Presented::load(&files.certificate, &files.key)
            .map_err(|source| DestinationError::Client { name: name(), source })
    });
    let accounts = settings.accounts.iter().map(|account| {
        AccountSecrets::new(account, &mut *file).map_err(|source| DestinationError::Account {
            name: name(),
            role: account.role.clone(),
            source,
        })
    });
    let accounts = accounts.collect::<Result<_, _>>()?;
    let mut server_legs = Vec::new();
    for mode in settings.server_tls_possible().into_iter().filter(|m| *m != ServerTls::Disable) {
        let verification = verification(mode);
        let leg = ServerLeg::new(server_settings(&settings.server, verification));
        if let Err(error) = &leg
            && settings.name == config::IMPLICIT_NAME
        {
            warn!(error = %chain(error), "servers off this host cannot be verified");
        } else if let Err(source) = leg {
            return Err(DestinationError::Server { name: name(), source });
        }
        server_legs.push((verification, leg.map_err(Arc::new)));
    }
    let auth = &settings.auth;
    let lookup = auth.lookup.as_ref();
    Ok(Destination {
        index,
        settings: settings.clone(),
        presented: presented.transpose()?,
        accounts,
        lookup_password: lookup.and_then(|lookup| lookup.password.clone()).map(Password::new),
        verifiers: auth.verifiers.as_deref().map(file),
        server_legs,
    })
}

fn verification(mode: ServerTls) -> Verification {
    match mode {
        ServerTls::Disable | ServerTls::Prefer | ServerTls::Require => Verification::Nothing,
        ServerTls::VerifyCa => Verification::Chain,
        ServerTls::VerifyFull => Verification::Full,
    }
}

fn server_settings(server: &config::ServerSettings, verification: Verification) -> Settings {
    Settings {
        verification,
        roots: server.roots.clone().map_or(Roots::System, Roots::File),
        crl: server.crl.clone(),
        identity: server
            .identity
            .clone()
            .map(|files| Identity { certificate: files.certificate, key: files.key }),
    }
}
