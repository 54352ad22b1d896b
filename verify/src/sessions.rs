//! Sessions: numbers without gaps, a beginning, an end that counts, and an outcome for each
//! intent.

use std::collections::{HashMap, HashSet};

use aws_lc_rs::digest::{Context, SHA256};

use crate::cbor::{Entry, SessionId};
use crate::findings::{Class, Finding, Findings, Severity};
use crate::merkle::Hash;

pub(crate) const SESSION_START: u64 = 3;
pub(crate) const SESSION_END: u64 = 4;
pub(crate) const INTENT: u64 = 6;
pub(crate) const OUTCOME: u64 = 7;
pub(crate) const SESSION_MARK: u64 = 30;
/// What values are encrypted with: nothing.
const VALUES_CLEAR: u64 = 0;

/// Sessions of an epoch as they are read.
#[derive(Default)]
pub(crate) struct Sessions {
    open: HashMap<SessionId, Session>,
    ended: HashSet<SessionId>,
    /// Entries before were pruned or are missing: sessions may begin in the middle.
    partial: bool,
    missing: Vec<Missing>,
    /// Sessions with sealed values.
    pub(crate) sealed: HashMap<SessionId, Sealed>,
    /// Sessions that have ended, and all intents and outcomes.
    pub(crate) count: u64,
    pub(crate) intents: u64,
    pub(crate) unknown: u64,
}

/// Field 12 of a statement: messages of these kinds run nothing, so that they have no intent. Their
/// outcome describes them when they fail: Parse, Bind, Describe, Close.
const RUNS_NOTHING: std::ops::RangeInclusive<u64> = 3..=6;
/// Field 13 of a statement that never went to its server: that of one whose intent was refused.
const UNSENT: u64 = 5;
/// Most records that may prove to be lost which are kept for the end.
const MISSING_MAX: usize = 10_000;

/// Records that are not there. Tampering, unless records say that so many were lost.
struct Missing {
    records: u64,
    finding: Finding,
}

/// What is known of a session whose values are sealed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sealed {
    /// When it began, if that was read: nanoseconds since 1970.
    pub(crate) began_ns: Option<u64>,
}

struct Session {
    next: u64,
    entries: u64,
    digest: Context,
    intents: Vec<u64>,
    began_ns: Option<u64>,
    first_index: u64,
    last_index: u64,
    /// Numbers were wrong and reported, or its beginning is missing.
    broken: bool,
}

impl Sessions {
    /// Looks at one entry of a session.
    pub(crate) fn pass(
        &mut self,
        entry: &Entry<'_>,
        index: u64,
        leaf: &Hash,
        findings: &mut Findings,
    ) {
        let (Some(id), Some(seq)) = (entry.session(), entry.seq()) else { return };
        let finding = |class, sentence: String| {
            Finding::new(class, sentence).entries(index, index + 1).sessions([id])
        };
        let mut report = |class, sentence: String| findings.add(finding(class, sentence));
        let missing = &mut self.missing;
        let mut miss = |records, class, sentence: String| {
            missing.push(Missing { records, finding: finding(class, sentence) });
        };
        let event = entry.event();
        let session = match self.open.get_mut(id) {
            Some(session) => session,
            None => {
                if self.ended.contains(id) {
                    report(
                        Class::SessionGap,
                        format!("record {index} belongs to a session that has ended before"),
                    );
                    return;
                }
                let begins = seq == 0 && event == SESSION_START;
                if !begins && !self.partial {
                    miss(
                        seq.max(1),
                        Class::SessionGap,
                        format!(
                            "the first record of the session is number {seq} (event {event}), \
                             expected its beginning: number 0, event {SESSION_START}"
                        ),
                    );
                }
                self.count += 1;
                self.open.entry(*id).or_insert_with(|| Session {
                    next: seq,
                    entries: seq,
                    digest: Context::new(&SHA256),
                    intents: Vec::new(),
                    began_ns: begins.then(|| entry.time_ns()),
                    first_index: index,
                    last_index: index,
                    broken: !begins,
                })
            }
        };
        if seq != session.next {
            let next = session.next;
            if seq > next {
                let sentence = format!("numbers {next} to {} of the session are missing", seq - 1);
                miss(seq - next, Class::SessionGap, sentence);
            } else {
                report(
                    Class::SessionGap,
                    format!("number {seq} of the session is there again; {next} was expected"),
                );
            }
            session.broken = true;
        } else if seq > 0 && event == SESSION_START {
            report(Class::SessionGap, format!("the session begins again at number {seq}"));
        }
        session.next = session.next.max(seq.saturating_add(1));
        session.entries += 1;
        session.last_index = index;
        if entry.values().is_some_and(|key| key != VALUES_CLEAR) {
            self.sealed.entry(*id).or_insert(Sealed { began_ns: session.began_ns });
        }
        match event {
            INTENT => {
                self.intents += 1;
                session.intents.push(seq);
            }
            OUTCOME => match entry.intent() {
                Some(intent) => match session.intents.iter().position(|open| *open == intent) {
                    Some(at) => drop(session.intents.swap_remove(at)),
                    None if session.broken => {}
                    None => report(
                        Class::OutcomeAlone,
                        format!("number {seq} is the outcome of {intent}, which is no open intent"),
                    ),
                },
                None if entry.uint(12).is_some_and(|kind| RUNS_NOTHING.contains(&kind)) => {}
                None if entry.uint(13) == Some(UNSENT) => {}
                None => miss(
                    1,
                    Class::OutcomeAlone,
                    format!("number {seq} is an outcome that names no intent"),
                ),
            },
            SESSION_END | SESSION_MARK if !session.broken => {
                session.check_count(entry, seq, &mut report);
            }
            _ => {}
        }
        session.digest.update(leaf);
        if event == SESSION_END {
            let ended = self.open.remove(id);
            self.unknown += ended.map_or(0, |session| session.intents.len() as u64);
            self.ended.insert(*id);
        }
        if self.missing.len() > MISSING_MAX {
            self.report_missing(0, findings);
        }
    }

    /// Entries are missing here: sessions that are open now, or appear later, may have gaps.
    pub(crate) fn gap(&mut self) {
        self.partial = true;
        for session in self.open.values_mut() {
            session.broken = true;
        }
    }

    /// The agent began anew at `index`: sessions that are open have no end.
    pub(crate) fn restart(&mut self, index: u64) -> Option<Finding> {
        let mut ids = self.open_ids();
        self.unknown += self.open_intents();
        for (id, _) in self.open.drain() {
            self.ended.insert(id);
        }
        let (first, last) = (ids.first()?.1, ids.iter().map(|id| id.2).max()?);
        let sentence =
            format!("{} sessions have no end: the agent began anew at record {index}", ids.len());
        let ids = ids.drain(..).map(|id| id.0).collect::<Vec<_>>();
        Some(
            Finding::new(Class::SessionUnfinished, sentence)
                .entries(first, last + 1)
                .sessions(&ids),
        )
    }

    /// Sessions that are open, with the indices of their first and last entries, in order.
    fn open_ids(&self) -> Vec<(SessionId, u64, u64)> {
        let open = self.open.iter();
        let mut ids: Vec<_> =
            open.map(|(id, session)| (*id, session.first_index, session.last_index)).collect();
        ids.sort_unstable_by_key(|id| id.1);
        ids
    }

    fn open_intents(&self) -> u64 {
        self.open.values().map(|session| session.intents.len() as u64).sum()
    }

    /// Reports records that are not there, in the light of how many are said to be lost.
    pub(crate) fn report_missing(&mut self, lost: u64, findings: &mut Findings) {
        let records = self.missing.iter().fold(0_u64, |sum, one| sum.saturating_add(one.records));
        let explained = records <= lost;
        for Missing { finding, .. } in self.missing.drain(..) {
            findings.add(match explained {
                true => finding.weighing(Severity::Incomplete),
                false => finding,
            });
        }
    }

    /// Says what is missing, and which sessions are open at the end. `stopped`: the log ends with a
    /// stop; `lost`: so many records were lost, as records say.
    pub(crate) fn finish(&mut self, stopped: bool, lost: u64, findings: &mut Findings) {
        self.report_missing(lost, findings);
        let ids = self.open_ids();
        if let (Some(first), Some(last)) = (ids.first(), ids.iter().map(|id| id.2).max()) {
            let (class, what) = if stopped {
                (Class::SessionUnfinished, "have no end, although the agent stopped in good order")
            } else {
                (Class::SessionOpen, "are open at the end of the log")
            };
            let sentence = format!("{} sessions {what}", ids.len());
            findings.add(
                Finding::new(class, sentence)
                    .entries(first.1, last + 1)
                    .sessions(ids.iter().map(|id| &id.0)),
            );
        }
        self.unknown += self.open_intents();
        if self.unknown > 0 {
            let sentence = format!(
                "{} of {} intents have no outcome: whether those statements took effect is unknown",
                self.unknown, self.intents
            );
            findings.add(Finding::new(Class::OutcomeUnknown, sentence));
        }
    }
}

impl Session {
    /// An end or a mark counts the entries up to itself and hashes those before it.
    fn check_count(&self, entry: &Entry<'_>, seq: u64, report: &mut impl FnMut(Class, String)) {
        if entry.uint(93) != Some(self.entries) {
            let named = entry.uint(93).map_or("no number".to_owned(), |count| count.to_string());
            report(
                Class::SessionDigest,
                format!("number {seq} counts {named} of records, there are {}", self.entries),
            );
        }
        let digest = self.digest.clone().finish();
        if entry.array::<32>(94).is_none_or(|named| named != digest.as_ref()) {
            report(
                Class::SessionDigest,
                format!(
                    "the digest in number {seq} is not that of the session's records before it"
                ),
            );
        }
    }
}
