//! Reads that may never come back.
//!
//! Reading a process's arguments reads its memory, and opening its program opens a file of its
//! choosing. Either may lie on a file system served by a program of the same user, which may take
//! for ever to answer. Such reads run on a thread of their own, are waited for as long as is
//! decent, and are then left behind; they end with the process that holds them up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::identity::Reason;

/// Most reads that may hang at a time; one process more that plays this game gets `TooManyStuck`.
pub const STUCK_MAX: usize = 16;

/// Runs closures with a deadline.
#[derive(Clone, Default)]
pub(super) struct Patience {
    running: Arc<AtomicUsize>,
}

impl Patience {
    /// Runs `work` on a thread of its own and waits up to `deadline` for it.
    ///
    /// Errors: [`Reason::TimedOut`], `work` goes on and its result is dropped;
    /// [`Reason::TooManyStuck`], `work` was not begun; [`Reason::Os`] when there is no thread to be
    /// had.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Reason> {
        let stuck = self.running.fetch_add(1, Ordering::AcqRel);
        // Made before the check, so that each way out gives the place back.
        let place = Place(Arc::clone(&self.running));
        if stuck >= STUCK_MAX {
            return Err(Reason::TooManyStuck { stuck });
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let spawned =
            std::thread::Builder::new().name("pgward-facts".to_owned()).spawn(move || {
                let _place = place;
                // Nobody waits any more when this fails.
                let _ = sender.send(work());
            });
        if let Err(error) = spawned {
            return Err(Reason::Os(error.to_string()));
        }
        receiver.recv_timeout(deadline).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => {
                Reason::TimedOut { ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX) }
            }
            mpsc::RecvTimeoutError::Disconnected => Reason::Os("reader failed".to_owned()),
        })
    }
}

/// One of the [`STUCK_MAX`] places.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn gives_results_and_survives_panics() {
        let patience = Patience::default();
        assert_eq!(patience.wait(LONG, || 7), Ok(7));
        let failed = patience.wait(LONG, || -> u8 { std::panic::panic_any("a test's own") });
        assert!(matches!(failed, Err(Reason::Os(_))));
    }

    #[test]
    fn leaves_what_hangs_and_bounds_how_many() {
        let patience = Patience::default();
        let mut held = Vec::new();
        for _ in 0..STUCK_MAX {
            let (release, blocked) = mpsc::channel::<()>();
            held.push(release);
            let waited = patience.wait(Duration::ZERO, move || {
                let _ = blocked.recv();
            });
            assert_eq!(waited, Err(Reason::TimedOut { ms: 0 }));
        }
        let refused = patience.wait(LONG, || ());
        assert_eq!(refused, Err(Reason::TooManyStuck { stuck: STUCK_MAX }));
        drop(held);
        while patience.running.load(Ordering::Acquire) > 0 {
            std::thread::yield_now();
        }
        assert_eq!(patience.wait(LONG, || 1), Ok(1));
    }
}
