//! The thread that looks after what becomes due.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::warn;

use super::{Care, CareError};
use crate::audit::{Now, WallNanos};

/// Time between two looks: how late break-glass may be recorded as over. It is over in time by
/// itself.
const EVERY: Duration = Duration::from_secs(15);

/// Runs until it is stopped.
#[derive(Debug)]
pub struct Timer {
    care: Arc<Care>,
    /// Dropped to stop.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Timer {
    /// Starts the thread, which looks at once.
    pub fn start(care: Arc<Care>) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        let theirs = Arc::clone(&care);
        let thread =
            std::thread::Builder::new().name("audit-care".to_owned()).spawn(move || {
                loop {
                    theirs.look(Now::read().wall);
                    match stopped.recv_timeout(EVERY) {
                        Err(RecvTimeoutError::Timeout) => {}
                        Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            })?;
        Ok(Self { care, stop: Some(stop), thread: Some(thread) })
    }

    /// Ends the thread, and easing: nobody else would say that it is over.
    pub fn stop(mut self) -> Result<(), CareError> {
        self.join();
        self.care.end_easing(Now::read().wall, Some("the agent ends"))
    }

    fn join(&mut self) {
        self.stop = None;
        // A panic of the thread was reported where it happened.
        self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.join();
    }
}

impl Care {
    /// Does what is due. What fails is tried again the next time.
    pub fn look(&self, now: WallNanos) {
        let done = [
            ("ending break-glass", self.end_easing(now, None)),
            ("looking for holds", self.look_for_holds()),
            ("deleting values", self.drop_values(now)),
            ("pruning", self.prune_by_quota(now)),
        ];
        for (what, result) in done {
            if let Err(error) = result {
                warn!(error = %crate::net::error::chain(&error), "{what} failed");
            }
        }
    }
}
