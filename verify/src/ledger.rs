//! What entries outside of sessions say: connects and what became of them, clocks, losses,
//! windows in which recording was eased, redactions, prunes and recoveries.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::cbor::{Entry, Value};
use crate::findings::{Class, Finding, Findings, Severity};

/// Highest event and field numbers, and the version, that this program knows.
const VERSION: u64 = 1;
const EVENT_MAX: u64 = 34;
/// `async` in field 200.
const ASYNC: u64 = 3;
/// Field 88: records of the log itself were lost, or may be.
const LOST_RECORDS: std::ops::RangeInclusive<u64> = 2..=3;
/// Most connects whose numbers are remembered.
const CONNECTS_MAX: usize = 1 << 24;
/// Wall time may differ this much from what time since boot says before it counts as a step.
const STEP_NS: u64 = 500_000_000;

/// Columns of the newest coverage entry of each ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Connects that the kernel side saw.
    pub(crate) seen: u64,
    /// Those that became sessions.
    pub(crate) intercepted: u64,
    /// Those that were refused.
    pub(crate) refused: u64,
    /// Those that failed.
    pub(crate) failed: u64,
    /// Those that passed unseen, as settings allow.
    pub(crate) allowed: u64,
    /// Those that were under way.
    pub(crate) open: u64,
    /// Those of which nothing is known.
    pub(crate) unexplained: u64,
}

impl Coverage {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        Some(Self {
            seen: entry.uint(96)?,
            intercepted: entry.uint(97)?,
            refused: entry.uint(98)?,
            failed: entry.uint(99)?,
            allowed: entry.uint(100).unwrap_or_default(),
            open: entry.uint(101).unwrap_or_default(),
            unexplained: entry.uint(102)?,
        })
    }

    fn sum(&self) -> u128 {
        [self.intercepted, self.refused, self.failed, self.allowed, self.open, self.unexplained]
            .iter()
            .map(|count| u128::from(*count))
            .sum()
    }
}

/// A restart behind a crash.
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    pub(crate) index: u64,
    pub(crate) reason: String,
    pub(crate) boot: String,
    /// Bytes put aside: how many, their digest, the file that holds them.
    pub(crate) aside: Option<(u64, [u8; 32], String)>,
}

/// Entries that an entry says to be gone, or values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) by: u64,
}

#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) coverage: BTreeMap<u64, (Coverage, u64)>,
    pub(crate) recoveries: Vec<Recovery>,
    /// Entries whose segments were deleted.
    pub(crate) pruned: Vec<Range>,
    /// Entries whose values were deleted.
    pub(crate) values_pruned: Vec<Range>,
    /// Failures to record.
    pub(crate) failures: Vec<u64>,
    /// Records of this log that are said to be lost.
    pub(crate) lost: u64,
    /// Redactions: the entry, its scope and its target.
    pub(crate) redactions: Vec<(u64, String, Vec<u8>)>,
    /// Numbers of connects by ledger, with the largest of each.
    connects: HashSet<(u64, u64)>,
    largest: HashMap<u64, u64>,
    unknown: BTreeMap<(&'static str, u64), (u64, u64)>,
    asynchronous: Option<(u64, u64, u64)>,
    clock: Option<Clock>,
    first_time: Option<u64>,
    last_time: u64,
}

/// The newest wall time within one run and one state of the clock.
#[derive(Clone, Copy)]
struct Clock {
    number: Option<u64>,
    time: u64,
    boot: Option<u64>,
    index: u64,
}

impl Facts {
    /// Looks at each entry.
    pub(crate) fn pass(&mut self, entry: &Entry<'_>, index: u64, findings: &mut Findings) {
        self.first_time.get_or_insert(entry.time_ns());
        self.last_time = self.last_time.max(entry.time_ns());
        self.clock(entry, index, findings);
        if entry.version() != VERSION {
            self.unknown("schema version", entry.version(), index);
        }
        if entry.mode() == Some(ASYNC) {
            let window = self.asynchronous.get_or_insert((index, index, 0));
            (window.1, window.2) = (index, window.2 + 1);
        }
        let event = entry.event();
        let mut report = |class, sentence: String| {
            findings.add(Finding::new(class, sentence).entries(index, index + 1));
        };
        let count = entry.uint(86);
        if matches!(event, 3 | 8 | 9 | 10)
            && let (Some(connect), Some(ledger)) = (entry.uint(95), entry.uint(104))
        {
            if self.connects.len() < CONNECTS_MAX && !self.connects.insert((ledger, connect)) {
                let sentence =
                    format!("connection {connect} of ledger {ledger:016x} has two records");
                report(Class::ConnectUnexplained, sentence);
            }
            let largest = self.largest.entry(ledger).or_default();
            *largest = connect.max(*largest);
        }
        match event {
            10 => report(
                Class::AllowedUnseen,
                format!(
                    "{} connections passed while no agent ran, as the settings allow",
                    count.unwrap_or(1)
                ),
            ),
            11 => {
                if entry.uint(88).is_some_and(|source| LOST_RECORDS.contains(&source)) {
                    self.lost = self.lost.saturating_add(count.unwrap_or(1));
                }
                report(
                    Class::RecordsLost,
                    format!(
                        "{} events were lost before they could be recorded",
                        count.unwrap_or(1)
                    ),
                );
            }
            17 => self.covered(entry, index, &mut report),
            18 => {
                if let Some(step) = entry.uint(146).filter(|step| *step > 0) {
                    let back = entry.get(147).and_then(Value::bool).unwrap_or_default();
                    let way = if back { "back" } else { "forward" };
                    report(
                        Class::ClockStep,
                        format!("the clock was set {way} by {} ms", step / 1_000_000),
                    );
                }
                self.clock = None;
            }
            20 => self.recoveries.push(Recovery {
                index,
                reason: entry.text(56).unwrap_or("no reason").to_owned(),
                boot: boot(entry),
                aside: entry.uint(123).filter(|bytes| *bytes > 0).and_then(|bytes| {
                    Some((bytes, *entry.array(124)?, entry.text(125)?.to_owned()))
                }),
            }),
            23 => self.failures.push(index),
            25 => report(
                Class::BreakGlass,
                format!(
                    "break-glass: recording was eased by user {}",
                    entry.uint(161).unwrap_or_default()
                ),
            ),
            27 => {
                let scope = entry.text(170).unwrap_or("").to_owned();
                let bytes = || entry.get(171).and_then(Value::bytes);
                let target = entry.text(171).map(str::as_bytes).or_else(bytes).unwrap_or_default();
                report(
                    Class::Redacted,
                    format!(
                        "record {index} says that values of scope `{scope}` were made unreadable"
                    ),
                );
                if let (Some(from), Some(to)) = (entry.uint(180), entry.uint(181)) {
                    self.values_pruned.push(Range { from, to, by: index });
                }
                self.redactions.push((index, scope, target.to_vec()));
            }
            28 => self.prune(entry, index),
            0 | EVENT_MAX.. if event == 0 || event > EVENT_MAX => {
                self.unknown("event", event, index);
            }
            _ => {}
        }
    }

    fn unknown(&mut self, what: &'static str, number: u64, index: u64) {
        if self.unknown.len() < 1000 {
            self.unknown.entry((what, number)).or_insert((index, 0)).1 += 1;
        }
    }

    fn prune(&mut self, entry: &Entry<'_>, index: u64) {
        let values = entry.text(170).is_some_and(|scope| scope.contains("values"));
        let range = match (entry.uint(180), entry.uint(181), entry.uint(182)) {
            // The log begins there now: records of what went earlier went with it.
            (_, Some(to), Some(minimum)) if to == minimum => Range { from: 0, to, by: index },
            (Some(from), Some(to), _) => Range { from, to, by: index },
            (_, _, Some(minimum)) => Range { from: 0, to: minimum, by: index },
            (Some(_) | None, Some(_) | None, None) => return,
        };
        if values { self.values_pruned.push(range) } else { self.pruned.push(range) }
    }

    fn covered(&mut self, entry: &Entry<'_>, index: u64, report: &mut impl FnMut(Class, String)) {
        let Some(now) = Coverage::read(entry) else {
            report(Class::ConnectUnexplained, "a coverage record lacks columns".into());
            return;
        };
        if now.unexplained > 0 {
            report(
                Class::ConnectUnexplained,
                format!(
                    "{} of {} connections have neither a session, a refusal nor a failure",
                    now.unexplained, now.seen
                ),
            );
        }
        if now.sum() != u128::from(now.seen) {
            report(
                Class::ConnectUnexplained,
                format!(
                    "{} connections were seen, but the columns add up to {}",
                    now.seen,
                    now.sum()
                ),
            );
        }
        let ledger = entry.uint(104).unwrap_or_default();
        if let Some(largest) = self.largest.get(&ledger).filter(|largest| **largest > now.seen) {
            report(
                Class::ConnectUnexplained,
                format!("connection {largest} has a record, but only {} were seen", now.seen),
            );
        }
        if let Some((before, at)) = self.coverage.get(&ledger) {
            let columns = [
                ("seen", before.seen, now.seen),
                ("intercepted", before.intercepted, now.intercepted),
                ("refused", before.refused, now.refused),
                ("failed", before.failed, now.failed),
                ("allowed unseen", before.allowed, now.allowed),
            ];
            if let Some((name, then, now)) = columns.iter().find(|(_, then, now)| now < then) {
                report(
                    Class::ConnectUnexplained,
                    format!(
                        "{now} connections {name}, but {then} in record {at}: counts only grow"
                    ),
                );
            }
        }
        if self.coverage.len() < 100_000 {
            self.coverage.insert(ledger, (now, index));
        }
    }

    /// Wall time must not run backwards unless a clock entry says so. Entries of different
    /// threads may change places; time since boot tells that apart from a step.
    fn clock(&mut self, entry: &Entry<'_>, index: u64, findings: &mut Findings) {
        let now =
            Clock { number: entry.clock(), time: entry.time_ns(), boot: entry.boot_ns(), index };
        if matches!(entry.event(), 1 | 18) {
            self.clock = Some(now);
            return;
        }
        let Some(before) = self.clock else {
            self.clock = Some(now);
            return;
        };
        let new_run = match (before.boot, now.boot) {
            // A reboot; recovery or agent_start follow.
            (Some(before), Some(now)) => now.saturating_add(60_000_000_000) < before,
            (Some(_) | None, Some(_) | None) => false,
        };
        if before.number != now.number || new_run {
            self.clock = Some(now);
            return;
        }
        let expected = match (before.boot, now.boot) {
            (Some(then), Some(boot)) => before.time.saturating_add(boot).saturating_sub(then),
            (Some(_) | None, Some(_) | None) => before.time,
        };
        if now.time.saturating_add(STEP_NS) < expected {
            let sentence = format!(
                "wall time runs backwards by {} ms behind record {}, and no clock record says why",
                (expected - now.time) / 1_000_000,
                before.index
            );
            findings.add(Finding::new(Class::ClockBackwards, sentence).entries(index, index + 1));
            self.clock = Some(now);
        } else if now.time >= before.time {
            self.clock = Some(now);
        }
    }

    /// Wall times of the first and the latest entry.
    pub(crate) fn times(&self) -> Option<(u64, u64)> {
        Some((self.first_time?, self.last_time))
    }

    pub(crate) fn finish(&self, findings: &mut Findings) {
        for ((what, number), (index, count)) in &self.unknown {
            let sentence = format!(
                "{count} records have {what} {number}, which this program does not know; they are \
                 in the tree like all others"
            );
            findings.add(Finding::new(Class::Unknown, sentence).entries(*index, index + 1));
        }
        if let Some((from, to, count)) = self.asynchronous {
            let sentence = format!(
                "{count} records say that statements went before they were durable (mode `async`)"
            );
            findings.add(Finding::new(Class::AsyncWindow, sentence).entries(from, to + 1));
        }
        for (ledger, (coverage, index)) in &self.coverage {
            if coverage.allowed > 0 {
                let sentence = format!(
                    "{} of {} connections of ledger {ledger:016x} passed unseen while no agent ran",
                    coverage.allowed, coverage.seen
                );
                findings
                    .add(Finding::new(Class::AllowedUnseen, sentence).entries(*index, index + 1));
            }
        }
    }

    /// Recoveries need an anchored checkpoint on either side. `anchored`: sizes, and whether
    /// witnesses saw them. A witness signs only what continues what it signed before, so its
    /// signature behind a recovery vouches for both sides.
    pub(crate) fn judge_recoveries(&self, anchored: &[(u64, bool)], findings: &mut Findings) {
        for recovery in &self.recoveries {
            let Recovery { index, reason, boot, aside } = recovery;
            let aside = match aside {
                Some((bytes, _, file)) => format!("; {bytes} bytes are set aside in `{file}`"),
                None => String::new(),
            };
            let sentence = format!("the agent recovered (`{reason}`) in boot {boot}{aside}");
            findings.add(Finding::new(Class::Recovered, sentence).entries(*index, index + 1));
            let witnessed = anchored.iter().any(|(size, witnesses)| *witnesses && size > index);
            let before = witnessed || anchored.iter().any(|(size, _)| (1..=*index).contains(size));
            let behind = anchored.iter().any(|(size, _)| size > index);
            if !(before && behind) {
                let side = match (before, behind) {
                    (false, false) => "neither before it nor behind it",
                    (true, false) => "only before it",
                    (false, true) => "only behind it",
                    (true, true) => "on both sides",
                };
                let sentence = format!(
                    "anchored checkpoints lie {side}: the recovery at record {index} (boot {boot}) \
                     could hide that records were cut off"
                );
                findings.add(
                    Finding::new(Class::RecoveryUnwitnessed, sentence)
                        .entries(*index, index + 1)
                        .weighing(Severity::Incomplete),
                );
            }
        }
    }
}

fn boot(entry: &Entry<'_>) -> String {
    match entry.get(50) {
        Some(Value::Text(text)) => text.to_owned(),
        Some(Value::Bytes(bytes)) => hex::encode(bytes),
        Some(_) | None => "unknown".to_owned(),
    }
}
