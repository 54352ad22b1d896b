//! The sums over what the kernel side counts and what the agent counts.

use std::borrow::Cow;

use pgward_common::{COUNTERS, Counter};

use super::{Carried, Coverage, Failure, Ledger, Tally, add, sum};

/// Connects that the kernel side refused.
pub(super) const REFUSED: [Counter; 5] = [
    Counter::RefusedAgentDown,
    Counter::RefusedStorage,
    Counter::RefusedImpostor,
    Counter::RefusedNamespace,
    Counter::RefusedSocket,
];

/// Connects that ended between the redirect and the agent.
pub(super) const FAILED: [Counter; 5] = [
    Counter::NotSent,
    Counter::Abandoned,
    Counter::HandoverFull,
    Counter::HandoverDisplaced,
    Counter::HandoverUnkept,
];

/// One reading of what the kernel side counts.
///
/// A connect passes from counter to counter while they are read. They are to be read against its course, the last first, so
/// that one on its way is missing in what is read early and present in what is read late, and differences are never negative:
/// the agent's [`Tally`], `handed_over` and [`FAILED`], `waiting`, `syn_made`, `redirected`, refusals, `last`, `connect_seen`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelSide {
    /// Which ledger it is.
    pub ledger: u64,
    /// The last number given.
    pub last: u64,
    /// All counters, by index.
    pub counters: [u64; COUNTERS as usize],
    /// Hand-overs that wait to be taken; counted only when there must be some.
    pub waiting: u64,
}

impl KernelSide {
    /// A counter.
    pub fn of(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// Hand-overs that must be waiting, by the counters.
    pub fn must_wait(&self) -> i64 {
        let ended = [
            Counter::HandedOver,
            Counter::Abandoned,
            Counter::HandoverFull,
            Counter::HandoverDisplaced,
            Counter::HandoverUnkept,
        ];
        less(self.of(Counter::SynMade), self.sum(&ended))
    }

    fn sum(&self, counters: &[Counter]) -> u64 {
        counters.iter().fold(0, |sum, counter| self.of(*counter).saturating_add(sum))
    }
}

/// Adds up a ledger, over an agent's run.
#[derive(Debug)]
pub struct Account {
    carried: Carried,
    /// Smallest differences of the window.
    gaps: [Lasting; GAPS],
    taken_gap: Lasting,
    unexplained: u64,
    listeners_closed: u64,
}

/// Differences that no connect on its way explains for long.
const GAPS: usize = 4;

impl Account {
    /// Goes on from what earlier agents counted.
    pub fn new(carried: Carried) -> Self {
        let (gaps, taken_gap) = <_>::default();
        Self { carried, gaps, taken_gap, unexplained: 0, listeners_closed: 0 }
    }

    /// Looks at a reading. True when it leaves nothing to explain: no connect was on its way through the kernel side.
    pub fn observe(&mut self, ledger: &Ledger, tally: &Tally, kernel: &KernelSide) -> bool {
        let gaps = gaps(kernel);
        for (lasting, gap) in self.gaps.iter_mut().zip(gaps) {
            lasting.observe(gap);
        }
        let in_backlogs = less(kernel.of(Counter::HandedOver), self.carried.handed_over)
            .saturating_sub_unsigned(tally.taken);
        self.taken_gap.observe(if ledger.is_blocked() { 0 } else { in_backlogs });
        gaps.iter().all(|gap| *gap == 0)
    }

    /// A window ends: what was open through all of its readings, and should have passed within moments, is unexplained. What
    /// was in a backlog all the time is in none any more; when a listener was closed, that explains it.
    pub fn window_ends(&mut self, ledger: &Ledger) {
        let lasting: u64 = self.gaps.iter_mut().map(|gap| gap.take().unsigned_abs()).sum();
        let (closed, left) = (ledger.listeners_closed(), self.taken_gap.take());
        let stuck = match u64::try_from(left) {
            Ok(count) if count > 0 && closed != self.listeners_closed => {
                ledger.never_taken(Failure::ListenerClosed, count);
                0
            }
            Ok(_) | Err(_) => left.unsigned_abs(),
        };
        self.listeners_closed = closed;
        self.unexplained = lasting.saturating_add(stuck);
    }

    /// The agent has closed its listeners, and its sessions have had their time: what it was given and did not end, ends now.
    pub fn agent_stops(&mut self, ledger: &Ledger, kernel: &KernelSide) {
        let given = kernel.of(Counter::HandedOver).saturating_sub(self.carried.handed_over);
        let left = given.saturating_sub(ledger.tally().taken);
        if left > 0 {
            ledger.never_taken(Failure::AgentStopped, left);
        }
        ledger.close();
        self.taken_gap = Lasting::default();
    }

    /// The sums as of a reading.
    pub fn coverage(&self, tally: &Tally, kernel: &KernelSide) -> Coverage {
        let Carried { intercepted, mut refusals, mut failures, since, handed_over: _ } =
            self.carried.clone();
        for (column, counters) in [(&mut refusals, REFUSED), (&mut failures, FAILED)] {
            for counter in counters {
                add(column, Cow::Borrowed(name(counter)), kernel.of(counter));
            }
        }
        for (reason, count) in &tally.refused {
            add(&mut refusals, Cow::Borrowed(reason), *count);
        }
        for (failure, count) in &tally.failed {
            add(&mut failures, Cow::Borrowed(failure.name()), *count);
        }
        let intercepted = intercepted + tally.sessions + tally.cancels;
        let allowed = kernel.of(Counter::AllowedAgentDown);
        let (refused, failed) = (sum(&refusals), sum(&failures));
        let ended = [intercepted, refused, failed, allowed, self.unexplained];
        let ended = ended.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        Coverage {
            seen: kernel.last,
            intercepted,
            refused,
            failed,
            allowed,
            open: kernel.last.saturating_sub(ended),
            unexplained: self.unexplained,
            connect_base: 1,
            ledger: kernel.ledger,
            since,
            failures,
            refusals,
        }
    }
}

/// Differences that are 0 when no connect is on its way.
fn gaps(kernel: &KernelSide) -> [i64; GAPS] {
    let verdicts = kernel
        .sum(&REFUSED)
        .saturating_add(kernel.of(Counter::Redirected))
        .saturating_add(kernel.of(Counter::AllowedAgentDown));
    let sent = kernel.sum(&[Counter::NotSent, Counter::SynMade]);
    [
        less(kernel.of(Counter::ConnectSeen), kernel.last),
        less(kernel.last, verdicts),
        // Above 0: sockets that were redirected and did not connect, for example because the port they are bound to is taken;
        // until they are closed they are open in the ledger too.
        less(kernel.of(Counter::Redirected), sent).min(0),
        kernel.must_wait().saturating_sub_unsigned(kernel.waiting),
    ]
}

fn less(a: u64, b: u64) -> i64 {
    i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(if a < b { i64::MIN } else { i64::MAX })
}

pub(super) fn name(counter: Counter) -> &'static str {
    Counter::ALL[counter as usize].1
}

/// The part of a difference that all readings since the last look have in common.
#[derive(Clone, Copy, Debug, Default)]
struct Lasting(Option<i64>);

impl Lasting {
    fn observe(&mut self, value: i64) {
        self.0 = Some(match self.0 {
            None => value,
            Some(least) if least.signum() != value.signum() => 0,
            Some(least) if value.unsigned_abs() < least.unsigned_abs() => value,
            Some(least) => least,
        });
    }

    fn take(&mut self) -> i64 {
        self.0.take().unwrap_or(0)
    }
}
