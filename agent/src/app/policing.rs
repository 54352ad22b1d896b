//! What decides on statements: the policy's file, its watcher, and what all sessions share.

use std::{io, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};

use crate::{
    audit::Sink,
    config::Config,
    grants::Grants,
    net::{
        police::{Analysts, Catalogs, InForce, Shared, Watcher},
        registry::Registry,
    },
    policy::Policy,
    sql::facts::Limits,
};

/// For how long a session takes a server's catalog for current without asking.
const CATALOG_AGE_MAX: Duration = Duration::from_secs(5);

/// What runs.
pub(super) struct Policing {
    /// What all sessions share.
    pub(super) shared: Arc<Shared>,
    /// Watches the policy's file, where there is one.
    pub(super) watcher: Option<Watcher>,
}

/// Starts it: `policy` is in force. `file` is the configuration's text.
pub(super) fn start(
    config: &Config,
    file: &[u8],
    policy: Option<Arc<Policy>>,
    registry: &Arc<Registry>,
    grants: &Arc<Grants>,
    sink: &Sink,
) -> io::Result<Policing> {
    let in_force = InForce::new(policy);
    let watcher = match &config.policy.file {
        Some(path) => {
            let sessions = registry.clone();
            let tell = move || sessions.wake_all();
            let digest = Sha256::digest(file).into();
            Some(Watcher::start(path, digest, in_force.clone(), sink.clone(), tell)?)
        }
        None => None,
    };
    let shared = Shared {
        in_force,
        analysts: Analysts::start(Limits::default())?,
        catalogs: Catalogs::default(),
        grants: grants.clone(),
        usage: Arc::default(),
        catalog_age_max: CATALOG_AGE_MAX,
    };
    Ok(Policing { shared: Arc::new(shared), watcher })
}
