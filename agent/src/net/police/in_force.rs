//! The policy in force, for all workers, and how another takes its place.
//!
//! A new policy is in force as a whole or not at all: it is read, checked, recorded, and only when that record is durable put in
//! the place of the one before. One that is not valid changes nothing, and is told: in the agent's log, in the trail, in `pgward
//! status`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tracing::{error, info, warn};

use crate::{
    audit::{ConfigLoad, Failure, NotRecorded, Now, Recorded, Sink, Stamp},
    config::Report,
    policy::Policy,
};

/// Between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Why a policy is not in force, as records name it.
const INVALID: &str = "policy_invalid";

/// The policy in force.
#[derive(Debug)]
pub struct InForce {
    policy: RwLock<Option<Arc<Policy>>>,
    /// Counts its changes.
    epoch: AtomicU64,
    /// What is wrong with the file, if it is not what is in force.
    invalid: Mutex<Option<String>>,
}

impl InForce {
    /// `policy` is in force; `None`: there is none, and nothing is judged.
    pub fn new(policy: Option<Arc<Policy>>) -> Arc<Self> {
        Arc::new(Self {
            policy: RwLock::new(policy),
            epoch: AtomicU64::new(1),
            invalid: Mutex::default(),
        })
    }

    /// Which decisions are current: those made under this epoch.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The policy. Who wants to know whether it is current asks for the epoch first.
    pub fn get(&self) -> Option<Arc<Policy>> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong with the policy's file, where it is not what is in force.
    pub fn invalid(&self) -> Option<String> {
        self.invalid.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, policy: Arc<Policy>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Some(policy);
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    fn set_invalid(&self, why: Option<String>) -> bool {
        let mut invalid = self.invalid.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = invalid.is_some() != why.is_some();
        *invalid = why;
        changed
    }
}

/// Watches the policy's file. Ends when it is dropped.
pub struct Watcher {
    bell: mpsc::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Reload,
    End,
}

/// Rings for [`Watcher`].
#[derive(Clone)]
pub struct Bell(mpsc::Sender<Order>);

impl Bell {
    /// The file is to be read again, changed or not.
    pub fn ring(&self) {
        let _ = self.0.send(Order::Reload); // the agent stops
    }
}

impl Watcher {
    /// Watches `path`, whose policy is in force, and calls `tell` when another is. `config` is the digest of the configuration.
    pub fn start(
        path: &Path,
        config: [u8; 32],
        in_force: Arc<InForce>,
        sink: Sink,
        tell: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (bell, orders) = mpsc::channel();
        let tell = Box::new(tell);
        let mut file = File { path: path.to_owned(), seen: None, config, in_force, sink, tell };
        file.seen = file.look();
        let thread = thread::Builder::new().name("policy".into()).spawn(move || {
            loop {
                match orders.recv_timeout(LOOK_EVERY) {
                    Ok(Order::Reload) => file.reload(),
                    Err(RecvTimeoutError::Timeout) => file.reload_if_changed(),
                    Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { bell, thread: Some(thread) })
    }

    /// For who wants it read again.
    pub fn bell(&self) -> Bell {
        Bell(self.bell.clone())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.bell.send(Order::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct File {
    path: PathBuf,
    /// Digest of what was last looked at.
    seen: Option<[u8; 32]>,
    config: [u8; 32],
    in_force: Arc<InForce>,
    sink: Sink,
    tell: Box<dyn Fn() + Send>,
}

impl File {
    /// Digest of the file as it is now; a policy has at most a few MiB, see `policy`.
    fn look(&self) -> Option<[u8; 32]> {
        std::fs::read(&self.path).ok().map(|text| Sha256::digest(text).into())
    }

    fn reload_if_changed(&mut self) {
        let now = self.look();
        if now != self.seen {
            self.seen = now;
            self.reload();
        }
    }

    fn reload(&mut self) {
        let path = self.path.display();
        match Policy::load(&self.path) {
            Ok(policy) => match self.record(&policy) {
                Ok(Recorded { .. }) => {
                    self.seen = Some(policy.identity().0);
                    info!(%path, digest = %policy.identity(), "policy in force");
                    self.in_force.put(Arc::new(policy));
                    (self.tell)();
                    if self.in_force.set_invalid(None) {
                        self.record_invalid("end", None);
                    }
                }
                Err(error) => {
                    error!(%path, %error, "a new policy can't be recorded: the old one stays");
                }
            },
            Err(error) => {
                error!(%path, "the policy's file is not valid: the old policy stays\n{error}");
                if self.in_force.set_invalid(Some(error.to_string())) {
                    self.record_invalid("begin", Some(&first_line(&error)));
                }
            }
        }
    }

    /// Changes of the policy are durable before they count.
    fn record(&self, policy: &Policy) -> Result<Recorded, NotRecorded> {
        let identity = policy.identity().0;
        let load = ConfigLoad { config_sha256: &self.config, policy: Some(&identity) };
        let put = self.sink.record(&Stamp::agent(Now::read()), &load)?;
        self.sink.durable_blocking(put.ticket)
    }

    fn record_invalid(&self, action: &'static str, detail: Option<&str>) {
        let failure = Failure { reason: INVALID, detail, since: None, action, anchor: None };
        if let Err(error) = self.sink.record_closing(&Stamp::agent(Now::read()), &failure) {
            warn!(%error, "not recorded that the policy's file is not valid");
        }
    }
}

/// The first error, for a record.
fn first_line(error: &Report) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(200).collect()
}
