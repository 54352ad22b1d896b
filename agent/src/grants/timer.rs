//! The thread that ends grants on time.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tracing::warn;

use super::{Grants, GrantsError};
use crate::{audit::Now, net::error::chain};

/// Time between two looks when nothing ends sooner: how late a clock that was set forward is noticed, and how soon a record
/// that failed is tried again.
const EVERY: Duration = Duration::from_secs(15);

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Timer {
    grants: Arc<Grants>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Timer {
    /// Starts the thread, which looks at once.
    pub fn start(grants: Arc<Grants>) -> Result<Self, GrantsError> {
        let stop = Arc::<AtomicBool>::default();
        let (theirs, stopped) = (grants.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("grants".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::SeqCst) {
                    if let Err(error) = theirs.look(Now::read()) {
                        warn!(error = %chain(&error), "the end of a grant could not be recorded");
                    }
                    theirs.wait_for_the_next(&stopped);
                }
            })
            .map_err(GrantsError::Thread)?;
        Ok(Self { grants, stop, thread: Some(thread) })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        {
            // Under the lock, so that the thread does not begin to wait in between.
            let _book = self.grants.lock();
            self.stop.store(true, Ordering::SeqCst);
        }
        self.grants.sooner.notify_all();
        // A panic of the thread was reported where it happened.
        self.thread.take().map(JoinHandle::join);
    }
}

impl Grants {
    /// Sleeps until the next end, or until it may be nearer.
    fn wait_for_the_next(&self, stopped: &AtomicBool) {
        let book = self.lock();
        if stopped.load(Ordering::SeqCst) {
            return;
        }
        // What is over already could not be recorded: not tried again at once.
        let next = book.next_end(Now::read()).filter(|left| !left.is_zero());
        let limit = next.map_or(EVERY, |left| left.min(EVERY));
        drop(self.sooner.wait_timeout(book, limit).unwrap_or_else(PoisonError::into_inner));
    }
}
