//! Keys that cancel: the application's, and the session behind each.
//!
//! An application never gets the server's key, so that a request that reaches the agent is one for a session of the agent, or a
//! guess. Guesses are bounded per user and network namespace, see [`super::throttle`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pgward_common::Flow;
use subtle::ConstantTimeEq;

use super::route::Route;
use crate::{audit::SessionId, pg::session::CancelKey};

/// A session that can be cancelled.
pub struct Target {
    /// Which.
    pub session: SessionId,
    /// How its server is reached: in the session's namespace, over TLS if the session is.
    pub route: Route,
    /// The session's connection.
    pub flow: Flow,
    /// Whether the session's connection to the server is encrypted.
    pub encrypted: Encrypted,
    /// The server's process.
    pub pid: u32,
    /// What the server wants to see.
    pub server_key: CancelKey,
    client_key: CancelKey,
}

/// Whether a connection to a server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encrypted {
    /// It is.
    Yes,
    /// It isn't.
    No,
}

/// Sessions of all workers that can be cancelled, by the server's process number.
#[derive(Default)]
pub struct Cancels {
    targets: Mutex<HashMap<u32, Vec<Arc<Target>>>>,
}

/// What is to be registered.
pub struct Keys {
    /// The server's process.
    pub pid: u32,
    /// The server's key.
    pub server_key: CancelKey,
    /// The application's key.
    pub client_key: CancelKey,
}

impl Cancels {
    /// Lets `keys` cancel a session, until the value is dropped.
    pub fn register(
        self: &Arc<Self>,
        session: SessionId,
        route: Route,
        flow: Flow,
        encrypted: Encrypted,
        keys: Keys,
    ) -> Registered {
        let Keys { pid, server_key, client_key } = keys;
        let target = Target { session, route, flow, encrypted, pid, server_key, client_key };
        let target = Arc::new(target);
        self.locked().entry(pid).or_default().push(target.clone());
        Registered { cancels: self.clone(), target }
    }

    /// The session that a request is for.
    pub fn find(&self, pid: u32, key: &[u8]) -> Option<Arc<Target>> {
        let targets = self.locked();
        // All of them are compared, each in the same time.
        let mut found = None;
        for target in targets.get(&pid)? {
            if bool::from(target.client_key.0.ct_eq(key)) {
                found = Some(target.clone());
            }
        }
        found
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<u32, Vec<Arc<Target>>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that can be cancelled, until this is dropped.
pub struct Registered {
    cancels: Arc<Cancels>,
    target: Arc<Target>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut targets = self.cancels.locked();
        if let Some(same_pid) = targets.get_mut(&self.target.pid) {
            same_pid.retain(|target| !Arc::ptr_eq(target, &self.target));
            if same_pid.is_empty() {
                targets.remove(&self.target.pid);
            }
        }
    }
}
