//! Ctrl-C and other polite requests to end, seen between steps, so that everything is put away in order.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::run::say;

/// Whether the end was asked for.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Interrupt {
    /// From here on SIGINT, SIGTERM and SIGHUP are noted instead of ending the process. Children are not affected: they
    /// start with the default actions.
    pub(crate) fn install() -> Result<Self> {
        let this = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("starting the signal thread")?;
        let (mut int, mut term, mut hup) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            )
        };
        let noted = this.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = int.recv() => {}
                        _ = term.recv() => {}
                        _ = hup.recv() => {}
                    }
                    noted.set();
                }
            });
        });
        Ok(this)
    }

    /// Whether the end was asked for.
    pub(crate) fn seen(&self) -> bool {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails when the end was asked for.
    pub(crate) fn check(&self) -> Result<()> {
        if self.seen() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Waits until the end is asked for.
    pub(crate) fn wait(&self) {
        let (seen, changed) = &*self.shared;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_while(seen, |seen| !*seen));
    }

    fn set(&self) {
        let (seen, changed) = &*self.shared;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        say(if *seen { "putting things away already" } else { "interrupted: putting things away" });
        *seen = true;
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_sees_the_interrupt() {
        let interrupt = Interrupt::default();
        assert!(interrupt.check().is_ok());
        let other = interrupt.clone();
        let waiting = std::thread::spawn(move || other.wait());
        interrupt.set();
        waiting.join().expect("it ends");
        assert!(interrupt.check().is_err() && interrupt.seen());
    }
}
