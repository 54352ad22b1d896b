//! Keys that cancel: the application's, and the session behind each.
//!
//! An application never gets the server's key, so that a request that reaches the agent is one for a session of the agent, or a
//! guess. Guesses are bounded per user and network namespace, see [`super::throttle`].

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pgward_common::Flow;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

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
    ended: Mutex<VecDeque<Ended>>,
}

/// A session that ended: a request for it is late, and no guess.
struct Ended {
    at: Instant,
    pid: u32,
    client_key: CancelKey,
}

/// How long a key is remembered when its session has ended.
const ENDED_FOR: Duration = Duration::from_secs(60);
/// Most that are remembered.
const ENDED_MAX: usize = 4096;

/// What a key is for.
pub enum Found {
    /// This session.
    Live(Arc<Target>),
    /// One that ended a moment ago.
    Ended,
    /// Nothing.
    Nothing,
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
    pub fn find(&self, pid: u32, key: &[u8], now: Instant) -> Found {
        // All of them are compared, each in the same time.
        let mut found = Found::Nothing;
        for target in self.locked().get(&pid).into_iter().flatten() {
            if bool::from(target.client_key.0.ct_eq(key)) {
                found = Found::Live(target.clone());
            }
        }
        if let Found::Nothing = found {
            for ended in self.ended().iter().filter(|ended| ended.pid == pid) {
                let recent = now.saturating_duration_since(ended.at) < ENDED_FOR;
                if recent && bool::from(ended.client_key.0.ct_eq(key)) {
                    found = Found::Ended;
                }
            }
        }
        found
    }

    fn ended(&self) -> MutexGuard<'_, VecDeque<Ended>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Registered {
    /// What a cancel request for it needs.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Target { pid, client_key, .. } = &*self.target;
        let mut ended = self.cancels.ended();
        if ended.len() >= ENDED_MAX {
            ended.pop_front();
        }
        let (pid, client_key) = (*pid, client_key.clone());
        ended.push_back(Ended { at: Instant::now(), pid, client_key });
        drop(ended);
        let mut targets = self.cancels.locked();
        if let Some(same_pid) = targets.get_mut(&self.target.pid) {
            same_pid.retain(|target| !Arc::ptr_eq(target, &self.target));
            if same_pid.is_empty() {
                targets.remove(&self.target.pid);
            }
        }
    }
}
