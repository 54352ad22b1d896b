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
/// the agent's [`Tally`], `handed_over` and what fails before it, `waiting`, `syn_made`, `redirected`, refusals,
/// `last`, `connect_seen`.
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

    /// SYNs whose hand-over waits no more.
    fn handed_on(&self) -> u64 {
        self.sum(&[
            Counter::HandedOver,
            Counter::Abandoned,
            Counter::HandoverFull,
            Counter::HandoverDisplaced,
            Counter::HandoverUnkept,
        ])
    }

    /// Whether hand-overs must be waiting, by the counters.
    pub fn must_wait(&self) -> bool {
        self.of(Counter::SynMade) > self.handed_on()
    }

    fn sum(&self, counters: &[Counter]) -> u64 {
        counters.iter().fold(0, |sum, counter| self.of(*counter).saturating_add(sum))
    }
}

/// Adds up a ledger, over an agent's run.
#[derive(Debug)]
pub struct Account {
    carried: Carried,
    passages: [Passage; PASSAGES],
    backlogs: Passage,
    /// Some backlog was not emptied at some time of the window.
    blocked: bool,
    unexplained: u64,
    listeners_closed: u64,
}

/// Passages of connects through the kernel side that take moments.
const PASSAGES: usize = 4;

impl Account {
    /// Goes on from what earlier agents counted.
    pub fn new(carried: Carried) -> Self {
        let (passages, backlogs) = <_>::default();
        Self { carried, passages, backlogs, blocked: false, unexplained: 0, listeners_closed: 0 }
    }

    /// Looks at a reading. True when it leaves nothing to explain: no connect was on its way through the kernel side.
    pub fn observe(&mut self, ledger: &Ledger, tally: &Tally, kernel: &KernelSide) -> bool {
        let counts = passages(kernel);
        for (passage, (begun, done)) in self.passages.iter_mut().zip(counts) {
            passage.observe(begun, done);
        }
        let given = kernel.of(Counter::HandedOver).saturating_sub(self.carried.handed_over);
        self.backlogs.observe(given, tally.taken);
        self.blocked |= ledger.is_blocked();
        counts.iter().all(|(begun, done)| begun == done)
    }

    /// A window ends: what had begun a passage at its first reading, and has not done it at its last, is unexplained. What was
    /// in a backlog all the time is in none any more, unless the agent is too busy; when a listener was closed, that explains
    /// it.
    pub fn window_ends(&mut self, ledger: &Ledger) {
        let mut unexplained = 0u64;
        for passage in &mut self.passages {
            let Missing { stuck, excess } = passage.take();
            unexplained = unexplained.saturating_add(stuck).saturating_add(excess);
        }
        let Missing { stuck, excess } = self.backlogs.take();
        unexplained = unexplained.saturating_add(excess);
        let (closed, blocked) = (ledger.listeners_closed(), std::mem::take(&mut self.blocked));
        if closed != self.listeners_closed {
            ledger.never_taken(Failure::ListenerClosed, stuck);
        } else if !blocked {
            unexplained = unexplained.saturating_add(stuck);
        }
        self.listeners_closed = closed;
        self.unexplained = unexplained;
    }

    /// The agent has closed its listeners, and its sessions have had their time: what it was given and did not end, ends now.
    pub fn agent_stops(&mut self, ledger: &Ledger, kernel: &KernelSide) {
        let given = kernel.of(Counter::HandedOver).saturating_sub(self.carried.handed_over);
        let left = given.saturating_sub(ledger.tally().taken);
        if left > 0 {
            ledger.never_taken(Failure::AgentStopped, left);
        }
        ledger.close();
        self.backlogs = Passage::default();
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

/// Of each passage, how many connects have begun and how many have done it.
fn passages(kernel: &KernelSide) -> [(u64, u64); PASSAGES] {
    let verdicts = kernel
        .sum(&REFUSED)
        .saturating_add(kernel.of(Counter::Redirected))
        .saturating_add(kernel.of(Counter::AllowedAgentDown));
    let sent = kernel.sum(&[Counter::NotSent, Counter::SynMade]);
    [
        (kernel.of(Counter::ConnectSeen), kernel.last),
        (kernel.last, verdicts),
        // Those between are no passage: sockets that were redirected and did not connect, for example because the port they are
        // bound to is taken, are open until they are closed. But there can't be more behind than before.
        (kernel.of(Counter::Redirected).min(sent), sent),
        (kernel.of(Counter::SynMade), kernel.handed_on().saturating_add(kernel.waiting)),
    ]
}

pub(super) fn name(counter: Counter) -> &'static str {
    Counter::ALL[counter as usize].1
}

/// The readings of one passage in a window.
///
/// While connects come and go there are always some in between, so a difference within one reading says nothing. But those
/// that had begun at the first reading have done by the last. On a busy host later ones make up for one that is stuck, and it
/// shows when they become fewer; one that is not stuck never shows.
#[derive(Clone, Copy, Debug, Default)]
struct Passage(Option<Readings>);

#[derive(Clone, Copy, Debug)]
struct Readings {
    begun_first: u64,
    done_last: u64,
    /// Smallest surplus of those that have done over those that have begun.
    excess: u64,
}

/// What is wrong with a passage.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    /// Begun and never done.
    stuck: u64,
    /// Done and never begun.
    excess: u64,
}

impl Passage {
    fn observe(&mut self, begun: u64, done: u64) {
        let excess = done.saturating_sub(begun);
        self.0 = Some(match self.0 {
            None => Readings { begun_first: begun, done_last: done, excess },
            Some(Readings { begun_first, done_last: _, excess: least }) => {
                Readings { begun_first, done_last: done, excess: least.min(excess) }
            }
        });
    }

    fn take(&mut self) -> Missing {
        self.0.take().map_or(Missing::default(), |readings| Missing {
            stuck: readings.begun_first.saturating_sub(readings.done_last),
            excess: readings.excess,
        })
    }
}
