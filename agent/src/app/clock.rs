//! Looks at the clock: when the kernel says that it was set, and from time to time.

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};
use tracing::{debug, info, warn};

use super::coverage::Emit;
use crate::{
    audit::{
        Now,
        clock::{Cause, Sample, Watch},
        ledger::LedgerRecord,
    },
    bpf::sys,
};

/// What only the kernel's state tells is looked for this often: whether the clock is synchronised, its offset from TAI.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Wall time of a timer that never comes, in seconds since 1970; the kernel's times end in 2262.
const NEVER: i64 = 9_000_000_000;

/// Number of the `clock` entry in force, for all entries; 0 before the first.
pub(super) type ClockNumber = Arc<AtomicU64>;

/// Records the clock as it is, and starts the thread that does from now on; it ends with the process.
pub(super) fn start(boot_id: &str, emit: Emit) -> io::Result<ClockNumber> {
    let in_force = ClockNumber::default();
    let mut looker =
        Looker { watch: Watch::new(boot_id.to_owned()), emit, in_force: in_force.clone() };
    // Set up before the first look, so that no step falls in between.
    let timer = SetTimer::new()?;
    looker.look(false);
    let run = move || loop {
        let told_set = timer.wait(LOOK_EVERY);
        looker.look(told_set);
    };
    thread::Builder::new().name("clock".into()).spawn(run)?;
    Ok(in_force)
}

struct Looker {
    watch: Watch,
    emit: Emit,
    in_force: ClockNumber,
}

impl Looker {
    fn look(&mut self, told_set: bool) {
        let kernel =
            sys::kernel_clock().inspect_err(|error| debug!(%error, "adjtimex failed")).ok();
        let sample = Sample { now: Now::read(), kernel, told_set };
        let Some(clock) = self.watch.look(&sample) else { return };
        let cause = clock.cause.name();
        match (clock.cause, clock.step) {
            (Cause::Step, Some(step)) => {
                warn!(by_ns = step.by_ns, back = step.back, "the clock was set");
            }
            (Cause::Step, None)
            | (Cause::Start | Cause::Hourly | Cause::LeapSecond | Cause::State, _) => {
                let unsynchronised = clock.unsynchronised;
                info!(cause, unsynchronised, tai_offset = clock.tai_offset, "state of the clock");
            }
        }
        let number = clock.number;
        (self.emit)(LedgerRecord::Clock(clock));
        self.in_force.store(number, Ordering::SeqCst);
    }
}

/// A timer that the kernel cancels when `CLOCK_REALTIME` is set (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`).
struct SetTimer(TimerFd);

impl SetTimer {
    fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
        let flags =
            TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        timer.set(Expiration::OneShot(TimeSpec::new(NEVER, 0)), flags)?;
        Ok(Self(timer))
    }

    /// Waits until the clock is set, at most that long. True: it was set.
    fn wait(&self, at_most: Duration) -> bool {
        let pause = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if let Err(error) = poll(&mut waiting, pause) {
            debug!(%error, "poll was interrupted");
        }
        // Reading it, not the wait, says that it was cancelled, and makes it wait for the next time.
        nix::unistd::read(&self.0, &mut [0; 8]) == Err(Errno::ECANCELED)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::audit::clock::Clock;

    #[test]
    fn the_timer_waits_while_nobody_sets_the_clock() {
        let timer = SetTimer::new().expect("a timer needs no privilege");
        assert!(!timer.wait(Duration::from_millis(1)));
        assert!(!timer.wait(Duration::ZERO), "asked again");
    }

    #[test]
    fn entries_are_numbered_and_the_last_is_in_force() {
        let recorded = Arc::<Mutex<Vec<Clock>>>::default();
        let (taken, in_force) = (recorded.clone(), ClockNumber::default());
        let emit: Emit = Arc::new(move |record| match record {
            LedgerRecord::Clock(clock) => taken.lock().expect("no panic").push(clock),
            LedgerRecord::Coverage(_) | LedgerRecord::Hooks(_) => unreachable!("not of a clock"),
        });
        let watch = Watch::new("boot".to_owned());
        let mut looker = Looker { watch, emit, in_force: in_force.clone() };
        assert_eq!(in_force.load(Ordering::SeqCst), 0);
        looker.look(false);
        assert_eq!(in_force.load(Ordering::SeqCst), 1);
        let recorded = recorded.lock().expect("no panic");
        let [start] = &recorded[..] else { unreachable!("one look, {recorded:?}") };
        assert_eq!((start.number, start.cause, start.boot_id.as_str()), (1, Cause::Start, "boot"));
    }
}
