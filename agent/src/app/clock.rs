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
        let told_set = timer.wait();
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

    /// Waits until the clock is set, or for [`LOOK_EVERY`]. True: it was set.
    fn wait(&self) -> bool {
        let pause = PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if let Err(error) = poll(&mut waiting, pause) {
            debug!(%error, "poll was interrupted");
        }
        // Reading it, not the wait, says that it was cancelled, and makes it wait for the next time.
        nix::unistd::read(&self.0, &mut [0; 8]) == Err(Errno::ECANCELED)
    }
}
