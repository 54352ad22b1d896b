//! The sums, on a model of the kernel side: connects in every state, agents that come and go.

use std::sync::Arc;

use pgward_common::Counter;
use proptest::prelude::*;

use super::*;

const ID: u64 = 0xfeed;

/// The kernel side, and an agent on top.
struct Model {
    kernel: KernelSide,
    ledger: Arc<Ledger>,
    account: Account,
    /// Redirected, no SYN yet.
    unsent: u64,
    /// Handed over, not taken by the agent.
    backlog: u64,
    /// In the agent's hands.
    held: Vec<Connect>,
    /// What a trail would hold.
    trail: Previous,
}

impl Model {
    fn new() -> Self {
        let kernel = KernelSide { ledger: ID, ..KernelSide::default() };
        let carried = resume(&Previous::default(), &kernel, WallNanos(5)).carried;
        Self {
            kernel,
            ledger: Ledger::new(),
            account: Account::new(carried),
            unsent: 0,
            backlog: 0,
            held: Vec::new(),
            trail: Previous::default(),
        }
    }

    fn count(&mut self, counter: Counter) {
        self.kernel.counters[counter as usize] += 1;
    }

    fn connect(&mut self, verdict: Counter) {
        self.kernel.last += 1;
        self.count(Counter::ConnectSeen);
        self.count(verdict);
        if verdict == Counter::Redirected {
            self.unsent += 1;
        }
    }

    /// One of those without SYN ends there, or makes it.
    fn send(&mut self, how: Counter) {
        if self.unsent > 0 {
            self.unsent -= 1;
            self.count(how);
            if how == Counter::SynMade {
                self.kernel.waiting += 1;
            }
        }
    }

    /// One of those that wait ends there, or is handed over.
    fn end_waiting(&mut self, how: Counter) {
        if self.kernel.waiting > 0 {
            self.kernel.waiting -= 1;
            self.count(how);
            if how == Counter::HandedOver {
                self.backlog += 1;
            }
        }
    }

    fn accept(&mut self) {
        if self.backlog > 0 {
            self.backlog -= 1;
            self.held.push(self.ledger.take(1));
        }
    }

    fn end(&mut self, how: u8) {
        let Some(connect) = self.held.pop() else { return };
        match how % 6 {
            0 => {
                connect.session();
                self.trail.saw(Seen::Intercepted);
            }
            1 => {
                connect.cancel();
                self.trail.saw(Seen::Intercepted);
            }
            2 => {
                connect.refused("sessions_max");
                self.trail.saw(Seen::Refused { reason: "sessions_max", count: 1 });
            }
            3 => connect.failed(Failure::SilentProbe),
            4 => connect.failed(Failure::ClientGone),
            _ => drop(connect),
        }
    }

    fn observe(&mut self) -> bool {
        let tally = self.ledger.tally();
        self.account.observe(&self.ledger, &tally, &self.kernel)
    }

    fn coverage(&self) -> Coverage {
        let coverage = self.account.coverage(&self.ledger.tally(), &self.kernel);
        assert!(coverage.closes(), "{coverage:?}");
        coverage
    }

    fn write_coverage(&mut self) -> Coverage {
        let coverage = self.coverage();
        self.trail.saw(Seen::Coverage(coverage.clone()));
        coverage
    }

    fn stop(&mut self) {
        self.ledger.stop();
        self.held.clear();
        self.backlog = 0;
        self.account.agent_stops(&self.ledger, &self.kernel);
        self.write_coverage();
        self.trail.saw(Seen::AgentStop);
        self.start();
    }

    fn crash(&mut self) {
        self.backlog = 0;
        self.start();
    }

    fn start(&mut self) -> Resumed {
        let resumed = resume(&self.trail, &self.kernel, WallNanos(9));
        self.trail.saw(Seen::AgentStart);
        self.account = Account::new(resumed.carried.clone());
        // Guards of the agent before count for nobody.
        self.ledger = Ledger::new();
        self.held.clear();
        resumed
    }

    fn open(&self) -> u64 {
        self.unsent + self.kernel.waiting + self.backlog + self.held.len() as u64
    }
}

fn count(column: &[Named], name: &str) -> u64 {
    column.iter().find(|named| named.name == name).map_or(0, |named| named.count)
}

const VERDICTS: [Counter; 7] = [
    Counter::Redirected,
    Counter::AllowedAgentDown,
    Counter::RefusedAgentDown,
    Counter::RefusedStorage,
    Counter::RefusedImpostor,
    Counter::RefusedNamespace,
    Counter::RefusedSocket,
];

proptest! {
    /// Whatever happens in whatever order, the columns add up, nothing is unexplained, and what is open is what is under way.
    #[test]
    fn sums_close_over_runs_and_crashes(steps in prop::collection::vec((0u8..18, any::<u8>()), 1..300)) {
        let mut model = Model::new();
        let (mut seen, mut ended) = (0, 0);
        for (step, how) in steps {
            match step {
                0..=3 => model.connect(Counter::Redirected),
                4 => model.connect(VERDICTS[usize::from(how) % VERDICTS.len()]),
                5..=8 => model.send(Counter::SynMade),
                9 => model.send(Counter::NotSent),
                10 => model.end_waiting(match how % 3 {
                    0 => Counter::Abandoned,
                    1 => Counter::HandoverDisplaced,
                    _ => Counter::HandoverUnkept,
                }),
                11..=12 => model.end_waiting(Counter::HandedOver),
                13 => model.accept(),
                14 => model.end(how),
                15 => { model.write_coverage(); }
                16 => if how < 40 { model.crash() },
                _ => if how < 40 { model.stop() },
            }
            model.observe();
            let coverage = model.coverage();
            prop_assert_eq!(coverage.unexplained, 0);
            prop_assert_eq!(coverage.open, model.open());
            let now_ended = coverage.seen - coverage.open;
            prop_assert!(coverage.seen >= seen && now_ended >= ended, "an end was taken back");
            (seen, ended) = (coverage.seen, now_ended);
        }
        // A connect that has made its SYN always waits for somebody, so a window that ends finds nothing wrong.
        while model.backlog > 0 { model.accept(); }
        model.observe();
        model.account.window_ends(&model.ledger);
        prop_assert_eq!(model.coverage().unexplained, 0);
    }

    /// What a trail says of another version, or after tampering, bounds the columns all the same.
    #[test]
    fn names_are_bounded(names in prop::collection::vec("[a-z]{1,6}", 0..300)) {
        let mut tail = Tail::default();
        for name in &names {
            tail.refused(name, 1);
        }
        prop_assert!(tail.refusals.len() <= NAMES_MAX);
        prop_assert_eq!(sum(&tail.refusals), names.len() as u64);
        prop_assert!(tail.refusals.is_sorted_by(|a, b| a.name < b.name));
    }
}

/// A model with one connect in the agent's hands, one in its backlog, one held, one without SYN, and some that ended.
fn busy() -> Model {
    let mut model = Model::new();
    for _ in 0..9 {
        model.connect(Counter::Redirected);
    }
    for _ in 0..8 {
        model.send(Counter::SynMade);
    }
    for _ in 0..7 {
        model.end_waiting(Counter::HandedOver);
    }
    for _ in 0..6 {
        model.accept();
    }
    for how in 0..5 {
        model.end(how);
    }
    model
}

#[test]
fn each_end_has_its_column() {
    let mut model = busy();
    for counter in VERDICTS {
        model.connect(counter);
    }
    model.send(Counter::NotSent);
    let coverage = model.coverage();
    assert_eq!((coverage.seen, coverage.intercepted, coverage.allowed), (16, 2, 1), "{coverage:?}");
    assert_eq!((coverage.refused, coverage.failed, coverage.open), (6, 3, 4), "{coverage:?}");
    for name in ["sessions_max", "refused_agent_down", "refused_impostor"] {
        assert_eq!(count(&coverage.refusals, name), 1, "{name}: {coverage:?}");
    }
    for name in ["silent_probe", "client_gone", "not_sent"] {
        assert_eq!(count(&coverage.failures, name), 1, "{name}: {coverage:?}");
    }
    assert_eq!((coverage.ledger, coverage.connect_base, coverage.since), (ID, 1, WallNanos(5)));
}

#[test]
fn what_a_dead_agent_had_in_hand_failed_with_it() {
    let mut model = busy();
    model.write_coverage();
    // Recorded behind the last coverage: not the crash's.
    model.end(0);
    let resumed = model.start();
    assert_eq!(resumed.crashed, 1, "the one in the backlog");
    model.backlog = 0;
    let coverage = model.coverage();
    assert_eq!(coverage.intercepted, 3);
    assert_eq!(count(&coverage.failures, "agent_crashed"), 1);
    assert_eq!(coverage.open, 2, "one without SYN, one held: the new agent may get them");
    assert_eq!(coverage.since, WallNanos(5), "it is the same ledger");
}

#[test]
fn an_agent_that_stops_ends_what_it_has() {
    let mut model = busy();
    model.stop();
    let coverage = model.coverage();
    assert_eq!(count(&coverage.failures, "agent_stopped"), 2, "{coverage:?}");
    assert_eq!(count(&coverage.failures, "agent_crashed"), 0, "{coverage:?}");
    assert_eq!((coverage.open, coverage.unexplained), (2, 0));
}

#[test]
fn what_a_trail_shows_is_counted_from_its_last_account_on() {
    let mut previous = Previous::default();
    let refused = |reason| Seen::Refused { reason, count: 2 };
    previous.saw(Seen::Intercepted);
    previous.saw(Seen::Coverage(Coverage { seen: 9, ..Coverage::default() }));
    let before = previous.clone();
    for reason in ["no_identity", "abandoned", "not_sent", "refused_namespace", "handover_full"] {
        previous.saw(refused(reason));
    }
    assert_eq!(previous, before, "by hand, or known from the kernel side's counters");
    previous.saw(refused("sessions_max"));
    previous.saw(Seen::Intercepted);
    previous.saw(Seen::AgentStop);
    assert_eq!((previous.tail.intercepted, sum(&previous.tail.refusals)), (1, 2));
    assert!(previous.stopped);
    previous.saw(Seen::AgentStart);
    assert!(!previous.stopped);
}

#[test]
fn a_guard_that_outlives_its_agent_counts_nothing() {
    let mut model = busy();
    let late = model.held.pop().expect("one in hand");
    model.ledger.stop();
    model.account.agent_stops(&model.ledger, &model.kernel);
    let before = model.ledger.tally();
    late.session();
    assert_eq!(model.ledger.tally(), before);
}

#[test]
fn an_end_that_was_counted_and_is_recorded_behind_the_coverage_breaks_no_sum() {
    let mut model = busy();
    model.write_coverage();
    for _ in 0..4 {
        model.trail.saw(Seen::Intercepted); // once too often, and more than there ever were
    }
    model.start();
    model.backlog = 0;
    let coverage = model.coverage();
    assert_eq!(coverage.open, 2, "{coverage:?}");
}

#[test]
fn a_trail_that_is_gone_leaves_a_named_failure() {
    let mut model = busy();
    model.trail = Previous::default();
    model.start();
    model.backlog = 0;
    let coverage = model.coverage();
    assert_eq!(count(&coverage.failures, "trail_missing"), 7, "all that were handed over");
    assert_eq!((coverage.intercepted, coverage.open), (0, 2));
}

#[test]
fn counters_that_went_close_their_ledger() {
    let mut model = busy();
    model.write_coverage();
    model.end(0);
    model.kernel = KernelSide { ledger: 2, ..KernelSide::default() };
    let resumed = model.start();
    let closing = resumed.closing.expect("four were open");
    assert!(closing.closes(), "{closing:?}");
    assert_eq!((closing.ledger, closing.open, closing.intercepted), (ID, 0, 3), "{closing:?}");
    assert_eq!(count(&closing.failures, "hooks_removed"), 3, "{closing:?}");
    assert_eq!(resumed.crashed, 0, "nobody was handed anything since");
    assert_eq!(model.account.coverage(&model.ledger.tally(), &model.kernel).seen, 0);
}

/// Readings of one window in which `fault` is done to the kernel side's counts before the first.
fn window(fault: impl FnOnce(&mut Model)) -> Coverage {
    let mut model = busy();
    while model.backlog > 0 {
        model.accept();
    }
    fault(&mut model);
    for _ in 0..3 {
        model.observe();
    }
    model.account.window_ends(&model.ledger);
    model.account.coverage(&model.ledger.tally(), &model.kernel)
}

#[test]
fn what_stays_between_the_columns_is_unexplained() {
    type Fault = fn(&mut Model);
    let table: [(&str, u64, Fault); 8] = [
        ("nothing", 0, |_| {}),
        ("numbered, and no verdict", 1, |m| {
            m.kernel.last += 1;
            m.count(Counter::ConnectSeen);
        }),
        ("a number without a connect", 1 + 1, |m| m.kernel.last += 1),
        ("a SYN whose hand-over is gone", 1, |m| m.kernel.waiting = 0),
        ("a hand-over without a SYN", 1, |m| m.kernel.waiting += 1),
        ("more SYNs than redirects", 1, |m| {
            for _ in 0..2 {
                m.count(Counter::SynMade);
                m.count(Counter::Abandoned);
            }
        }),
        ("handed over, and never taken", 1, |m| {
            m.connect(Counter::Redirected);
            m.send(Counter::SynMade);
            m.end_waiting(Counter::HandedOver);
        }),
        ("handed over, and all workers busy", 0, |m| {
            m.connect(Counter::Redirected);
            m.send(Counter::SynMade);
            m.end_waiting(Counter::HandedOver);
            std::mem::forget(m.ledger.block());
        }),
    ];
    for (what, expected, fault) in table {
        assert_eq!(window(fault).unexplained, expected, "{what}");
    }
}

#[test]
fn a_host_that_is_never_idle_leaves_nothing_unexplained() {
    let mut model = Model::new();
    for _ in 0..24 {
        // At each reading another connect is at each place.
        model.connect(Counter::Redirected);
        model.send(Counter::SynMade);
        model.end_waiting(Counter::HandedOver);
        model.connect(Counter::Redirected);
        model.send(Counter::SynMade);
        model.kernel.last += 1;
        model.count(Counter::ConnectSeen);
        assert!(!model.observe());
        model.count(Counter::RefusedSocket);
        model.accept();
        model.end(0);
        model.end_waiting(Counter::Abandoned);
    }
    model.account.window_ends(&model.ledger);
    assert_eq!(model.coverage().unexplained, 0);
}

#[test]
fn what_is_stuck_on_a_busy_host_shows_when_it_becomes_quiet() {
    let mut model = Model::new();
    model.kernel.last += 1;
    model.count(Counter::ConnectSeen);
    for _ in 0..5 {
        model.connect(Counter::RefusedSocket);
        model.observe();
    }
    model.account.window_ends(&model.ledger);
    assert_eq!(model.coverage().unexplained, 0, "made up for by later ones");
    for _ in 0..2 {
        model.observe();
    }
    model.account.window_ends(&model.ledger);
    assert_eq!(model.coverage().unexplained, 1);
}

#[test]
fn what_passes_within_a_window_is_not_unexplained() {
    let mut model = busy();
    model.accept();
    model.connect(Counter::Redirected);
    model.kernel.last += 1; // between its number and its verdict
    assert!(!model.observe());
    model.count(Counter::ConnectSeen);
    model.count(Counter::RefusedAgentDown);
    assert!(model.observe());
    model.kernel.last += 1; // another one
    model.count(Counter::ConnectSeen);
    assert!(!model.observe());
    model.account.window_ends(&model.ledger);
    assert_eq!(model.account.coverage(&model.ledger.tally(), &model.kernel).unexplained, 0);
}

#[test]
fn a_backlog_that_went_with_its_listener_is_a_named_failure() {
    let coverage = window(|model| {
        model.connect(Counter::Redirected);
        model.send(Counter::SynMade);
        model.end_waiting(Counter::HandedOver);
        model.ledger.listener_closed();
    });
    assert_eq!(coverage.unexplained, 0);
    assert_eq!(count(&coverage.failures, "listener_closed"), 1, "{coverage:?}");
    assert!(coverage.closes());
}

#[test]
fn a_start_says_what_became_of_the_hooks_in_between() {
    use HooksAction as A;
    let table = [
        (A::Attached, Pins::Attached, "same", None),
        (A::Attached, Pins::None, "same", Some(A::Missing)),
        (A::Attached, Pins::None, "other", Some(A::Rebooted)),
        (A::Unpinned, Pins::None, "same", Some(A::Missing)),
        (A::Detached, Pins::None, "same", None),
        (A::Detached, Pins::Attached, "same", None),
        (A::Missing, Pins::None, "same", None),
        (A::Rebooted, Pins::None, "other", None),
    ];
    for (action, found, boot, expected) in table {
        let last = LastHooks { action, boot_id: "same".to_owned(), cgroup: "root".to_owned() };
        let said = at_start(Some(&last), found, boot);
        assert_eq!(
            said.as_ref().map(|hooks| hooks.action),
            expected,
            "{action:?} {found:?} {boot}"
        );
        assert!(said.is_none_or(|hooks| hooks.cgroup == "root" && hooks.detail.is_some()));
        assert_eq!(A::named(action.name()), Some(action));
    }
    assert_eq!(at_start(None, Pins::None, "same"), None, "an empty trail is no evidence");
}
