//! A new agent goes on with the ledger where the one before it left off, in good order or not.

use std::borrow::Cow;

use pgward_common::Counter;

use super::{
    Coverage, Failure, KernelSide, Named,
    account::{FAILED, REFUSED, name},
    add, sum,
};
use crate::audit::WallNanos;

/// `refused` records with this reason are about connections to the agent's port that nobody redirected: no connects of the
/// ledger.
const BY_HAND: &str = "no_identity";

/// What the trail says of the agent before. It is shown entries in their order, all or only the last ones, from a `coverage`
/// entry on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// Its last `coverage` entry.
    pub coverage: Option<Coverage>,
    /// The entries behind that.
    pub tail: Tail,
    /// Whether it ended with an `agent_stop`.
    pub stopped: bool,
}

/// An entry of the trail that matters to the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// `agent_start`
    AgentStart,
    /// `agent_stop`
    AgentStop,
    /// `coverage`
    Coverage(Coverage),
    /// `session_start`, or `cancel`
    Intercepted,
    /// `refused`
    Refused {
        /// Its reason.
        reason: &'a str,
        /// How many connects it stands for.
        count: u64,
    },
}

impl Previous {
    /// Shows it the next entry.
    pub fn saw(&mut self, entry: Seen<'_>) {
        match entry {
            Seen::AgentStart => self.stopped = false,
            Seen::AgentStop => self.stopped = true,
            Seen::Coverage(coverage) => {
                self.coverage = Some(coverage);
                self.tail = Tail::default();
            }
            Seen::Intercepted => self.tail.intercepted(),
            Seen::Refused { reason, count } => self.tail.refused(reason, count),
        }
    }
}

/// Entries about connects behind the last `coverage`, counted. An end may have been counted in that `coverage` and recorded
/// behind it, or the other way round, within the moment in which both were made: then a connect of a crashed agent stands in
/// the wrong one of two columns. The sum is right in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    pub(super) intercepted: u64,
    pub(super) refusals: Vec<Named>,
}

impl Tail {
    /// A `session_start`, or a `cancel`.
    pub fn intercepted(&mut self) {
        self.intercepted += 1;
    }

    /// A `refused` entry that stands for `count` connects. Those of the kernel side are known from its counters.
    pub fn refused(&mut self, reason: &str, count: u64) {
        if reason != BY_HAND && !is_of_kernel_side(reason) {
            add(&mut self.refusals, Cow::Owned(reason.to_owned()), count);
        }
    }
}

/// What earlier agents made of connects that were handed over to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Those that became sessions or cancel requests.
    pub intercepted: u64,
    /// Those that they refused.
    pub refusals: Vec<Named>,
    /// Those that failed.
    pub failures: Vec<Named>,
    /// Since when the ledger counts.
    pub since: WallNanos,
    /// All of them.
    pub handed_over: u64,
}

/// Where a new agent begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// For [`super::Account::new`].
    pub carried: Carried,
    /// The last account of a ledger that is no more, to be recorded first: what was open in it failed. Connects that it saw
    /// behind its last `coverage` are in no record; the `hooks` entry says that the counters went.
    pub closing: Option<Coverage>,
    /// Connects that the agent before was given and said nothing of.
    pub crashed: u64,
}

/// Goes on from what the trail says, or begins.
///
/// `kernel` is a reading of before this agent has a listener: what was handed over by then was handed over to agents that are
/// gone.
pub fn resume(previous: &Previous, kernel: &KernelSide, now: WallNanos) -> Resumed {
    let handed_over = kernel.of(Counter::HandedOver);
    let Some(last) = previous.coverage.as_ref().filter(|last| last.ledger == kernel.ledger) else {
        let mut carried = Carried { since: now, handed_over, ..Carried::default() };
        add(&mut carried.failures, Failure::TrailMissing.name().into(), handed_over);
        let closing = previous.coverage.as_ref().and_then(|last| close(last, &previous.tail));
        return Resumed { carried, closing, crashed: handed_over };
    };
    let kept = |column: &[Named]| -> Vec<Named> {
        column.iter().filter(|named| !is_of_kernel_side(&named.name)).cloned().collect()
    };
    let mut carried = Carried {
        intercepted: last.intercepted.saturating_add(previous.tail.intercepted),
        refusals: kept(&last.refusals),
        failures: kept(&last.failures),
        since: last.since,
        handed_over,
    };
    for Named { name, count } in &previous.tail.refusals {
        add(&mut carried.refusals, name.clone(), *count);
    }
    let told = carried
        .intercepted
        .saturating_add(sum(&carried.refusals))
        .saturating_add(sum(&carried.failures));
    let crashed = handed_over.saturating_sub(told);
    let failure = if previous.stopped { Failure::AgentStopped } else { Failure::AgentCrashed };
    add(&mut carried.failures, failure.name().into(), crashed);
    // Counted twice, see `Tail`.
    let twice = told.saturating_sub(handed_over);
    carried.intercepted = carried.intercepted.saturating_sub(twice);
    Resumed { carried, closing: None, crashed }
}

/// What was open in a ledger whose counters are gone, failed. `None`: nothing was.
fn close(last: &Coverage, tail: &Tail) -> Option<Coverage> {
    let mut closing = last.clone();
    closing.open = 0;
    // Entries behind it tell of connects that were open then, or came later: as many as fit.
    let mut left = last.open;
    let mut fitting = |count: u64| {
        let fits = count.min(left);
        left -= fits;
        fits
    };
    closing.intercepted += fitting(tail.intercepted);
    for Named { name, count } in &tail.refusals {
        add(&mut closing.refusals, name.clone(), fitting(*count));
    }
    add(&mut closing.failures, Failure::HooksRemoved.name().into(), left);
    closing.refused = sum(&closing.refusals);
    closing.failed = sum(&closing.failures);
    (last.open > 0).then_some(closing)
}

fn is_of_kernel_side(reason: &str) -> bool {
    REFUSED.iter().chain(&FAILED).any(|counter| name(*counter) == reason)
}
