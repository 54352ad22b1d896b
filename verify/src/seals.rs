//! The chain of seals: each is signed with a key that the one before named, and that was erased
//! when it had signed.
//!
//! Each rule here answers a way in which another sealed log could be cheated: numbers without
//! gaps and at least one seal for each three intervals (dropped idle periods); entries are covered
//! by the seal that follows them and by no later key (sealing anew after a cut); no seal is never
//! a pass; the chain begins again only where entries say why.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::cbor::Entry;
use crate::findings::{Class, Finding, Findings};
use crate::merkle::Hash;
use crate::note::PublicKey;

pub(crate) const AGENT_START: u64 = 1;
pub(crate) const AGENT_STOP: u64 = 2;
pub(crate) const SEAL: u64 = 19;
pub(crate) const RECOVERY: u64 = 20;

/// Kind of a seal, field 113.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    First,
    Restart,
    Final,
    Handover,
}

impl Kind {
    fn of(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Regular,
            1 => Self::First,
            2 => Self::Restart,
            3 => Self::Final,
            4 => Self::Handover,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::First => "first",
            Self::Restart => "restart",
            Self::Final => "final",
            Self::Handover => "handover",
        }
    }
}

/// A seal as an entry holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal<'a> {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) root: Hash,
    pub(crate) kind: Kind,
    pub(crate) next: [u8; 32],
    signature: &'a [u8; 64],
    time: u64,
    boot: Option<u64>,
}

impl<'a> Seal<'a> {
    pub(crate) fn read(entry: &Entry<'a>) -> Option<Self> {
        Some(Self {
            number: entry.uint(110)?,
            size: entry.uint(111)?,
            root: *entry.array(112)?,
            kind: Kind::of(entry.uint(113)?)?,
            next: *entry.array(114)?,
            signature: entry.array(115)?,
            time: entry.time_ns(),
            boot: entry.boot_ns(),
        })
    }

    /// Whether `key` signed it for a log.
    pub(crate) fn is_signed_by(&self, origin: &str, key: &PublicKey) -> bool {
        let message = format!(
            "pgward-seal-v1\n{origin}\n{}\n{}\n{}\n{}\n{}\n{}\n",
            self.number,
            self.size,
            BASE64.encode(self.root),
            self.time,
            self.kind.name(),
            BASE64.encode(self.next),
        );
        key.verify(message.as_bytes(), self.signature)
    }
}

/// A seal that was accepted.
#[derive(Clone, Copy, Debug)]
struct Last {
    number: u64,
    kind: Kind,
    next: PublicKey,
    time: u64,
    boot: Option<u64>,
    index: u64,
}

/// The chain of one epoch as it is read.
pub(crate) struct Seals {
    origin: String,
    host: Vec<PublicKey>,
    interval_ns: u64,
    last: Option<Last>,
    /// Since the last seal: an entry says that the agent stopped, that it started, that it
    /// recovered.
    stopped: bool,
    started: bool,
    recovered: bool,
    count: u64,
    first_signed: bool,
    /// By how much sizes of seals exceed their indices.
    shift: i128,
    /// The chain was broken and reported; the next number is taken as it is.
    lost: bool,
}

/// What becomes of a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Signed by the key it must be signed with: its root is a signed claim.
    Signed,
    /// Reported; it proves nothing.
    Refused,
}

impl Seals {
    pub(crate) fn new(origin: String, host: Vec<PublicKey>, interval_ns: u64) -> Self {
        Self {
            origin,
            host,
            interval_ns,
            last: None,
            stopped: false,
            started: false,
            recovered: false,
            count: 0,
            first_signed: false,
            shift: 0,
            lost: false,
        }
    }

    /// Looks at each entry that is no seal.
    pub(crate) fn pass(&mut self, event: u64) {
        match event {
            AGENT_STOP => self.stopped = true,
            AGENT_START => self.started = true,
            RECOVERY => self.recovered = true,
            _ => {}
        }
    }

    /// Entries are missing here: what the next seal must follow is not known.
    pub(crate) fn gap(&mut self) {
        self.last = None;
        self.lost = true;
    }

    /// Judges a seal that lies at `index`.
    pub(crate) fn judge(
        &mut self,
        seal: &Seal<'_>,
        index: u64,
        findings: &mut Findings,
    ) -> Outcome {
        self.count += 1;
        let Seal { number, size, kind, .. } = *seal;
        let host_signed = || self.host.iter().any(|key| seal.is_signed_by(&self.origin, key));
        let by_host = matches!(kind, Kind::First | Kind::Restart);
        let signed = match (&self.last, by_host) {
            (_, true) => host_signed(),
            (Some(last), false) => seal.is_signed_by(&self.origin, &last.next),
            // Behind a gap the key is not known, and the seal is taken as a new beginning.
            (None, false) => false,
        };
        if !signed {
            let unknown = self.last.is_none() && !by_host;
            let sentence = if unknown && self.lost {
                format!(
                    "seal {number} cannot be checked: the seal before it, which names its key, is missing"
                )
            } else if unknown {
                format!(
                    "the first seal, number {number}, is not of kind `first`: the beginning of the chain was removed"
                )
            } else if by_host && self.host.is_empty() {
                format!("seal {number} is signed by the host, whose key was not given")
            } else if by_host {
                format!(
                    "seal {number} ({}) is not signed by the host's key that was given",
                    kind.name()
                )
            } else {
                format!(
                    "seal {number} is not signed with the key that seal {} named: it was altered, \
                     or records were cut off before it and the log was continued with another key",
                    number.saturating_sub(1)
                )
            };
            let finding = Finding::new(Class::SealKey, sentence).entries(index, index + 1);
            findings.add(if unknown && self.lost {
                // What is missing is a finding of its own.
                finding.weighing(crate::findings::Severity::Note)
            } else {
                finding
            });
        }
        self.displaced(seal, index, signed, findings);
        self.follow(seal, index, findings);
        if signed {
            self.first_signed |= by_host;
        }
        self.last = Some(Last {
            number,
            kind,
            next: PublicKey(seal.next),
            time: seal.time,
            boot: seal.boot,
            index,
        });
        (self.stopped, self.started, self.recovered, self.lost) = (false, false, false, false);
        if signed && size == index { Outcome::Signed } else { Outcome::Refused }
    }

    /// A seal covers what lies before it, so its size is its own index.
    fn displaced(&mut self, seal: &Seal<'_>, index: u64, signed: bool, findings: &mut Findings) {
        let Seal { number, size, .. } = *seal;
        // Behind a removal all seals are displaced by as much: the first one tells where.
        let shift = i128::from(size) - i128::from(index);
        let new = shift - std::mem::replace(&mut self.shift, shift);
        if new == 0 {
            return;
        }
        let from = self.last.as_ref().map_or(0, |last| last.index + 1);
        let (class, sentence) = if signed {
            let what = if new > 0 { "removed" } else { "added" };
            (
                Class::Rewritten,
                format!(
                    "seal {number} covers {size} records and is record {index}: {} records were \
                     {what} before it, behind the seal before",
                    new.unsigned_abs()
                ),
            )
        } else {
            (
                Class::SealMalformed,
                format!("seal {number} covers {size} records, but it is record {index} itself"),
            )
        };
        findings.add(Finding::new(class, sentence).entries(from, index + 1));
    }

    /// Number, kind and time must follow the seal before.
    fn follow(&self, seal: &Seal<'_>, index: u64, findings: &mut Findings) {
        let Seal { number, kind, .. } = *seal;
        let mut report = |class, from, sentence: String| {
            findings.add(Finding::new(class, sentence).entries(from, index + 1));
        };
        let Some(last) = &self.last else {
            if !self.lost && (number != 0 || kind != Kind::First) {
                report(
                    Class::SealGap,
                    0,
                    format!(
                        "the first seal is number {number}, kind {}; expected 0, `first`: seals before it were removed",
                        kind.name()
                    ),
                );
            }
            return;
        };
        let expected = last.number.saturating_add(1);
        if number != expected {
            let what = if number > expected {
                format!("{} seals were removed", number - expected)
            } else {
                "a seal is there twice, or the order was changed".to_owned()
            };
            report(
                Class::SealGap,
                last.index + 1,
                format!("seal {number} follows seal {}: {what}", last.number),
            );
        }
        match kind {
            Kind::First => report(
                Class::SealRestart,
                last.index + 1,
                format!("seal {number} is of kind `first`, but it is not the first of the epoch"),
            ),
            Kind::Restart => {
                let clean = last.kind == Kind::Final || self.stopped;
                if !(self.recovered || clean && self.started) {
                    report(
                        Class::SealRestart,
                        last.index + 1,
                        format!(
                            "seal {number} begins the chain anew with the host's key, but no \
                             record since seal {} says that the agent recovered, or stopped and \
                             started",
                            last.number
                        ),
                    );
                }
            }
            Kind::Regular | Kind::Final | Kind::Handover => {
                if last.kind == Kind::Final {
                    report(
                        Class::SealRestart,
                        last.index + 1,
                        format!(
                            "seal {number} follows a final one, behind which only a restart may come"
                        ),
                    );
                }
                self.silence(last, seal, index, findings);
            }
        }
    }

    /// A run seals each interval, also when idle.
    fn silence(&self, last: &Last, seal: &Seal<'_>, index: u64, findings: &mut Findings) {
        if self.stopped || last.kind == Kind::Handover {
            return;
        }
        let wall = seal.time.saturating_sub(last.time);
        // Time since boot does not jump with the clock; it counts suspends too.
        let gap = match (last.boot, seal.boot) {
            (Some(last), Some(now)) if now >= last => now - last,
            (Some(_) | None, Some(_) | None) => wall,
        };
        if gap > 3 * self.interval_ns {
            let sentence = format!(
                "no seal for {} s between seal {} and seal {}, and no record says that the agent \
                 stopped: seals are due every {} s",
                gap / 1_000_000_000,
                last.number,
                seal.number,
                self.interval_ns / 1_000_000_000
            );
            findings.add(Finding::new(Class::Silence, sentence).entries(last.index, index + 1));
        }
    }

    /// Says what is missing at the end of an epoch of `size` entries. `now` is given for the
    /// newest epoch.
    pub(crate) fn finish(&self, size: u64, now: Option<u64>, findings: &mut Findings) {
        let Some(last) = &self.last else {
            let sentence = "no seal was found: nothing protects these records from who holds the \
                            host's key";
            findings.add(Finding::new(Class::SealMissing, sentence).entries(0, size));
            return;
        };
        let Some(now) = now else { return };
        let ended = matches!(last.kind, Kind::Final);
        let age = now.saturating_sub(last.time);
        if !ended && age > 3 * self.interval_ns {
            let sentence = format!(
                "the log ends without a stop: its last seal, number {} at record {}, is {} s old, \
                 and seals are due every {} s",
                last.number,
                last.index,
                age / 1_000_000_000,
                self.interval_ns / 1_000_000_000
            );
            findings.add(Finding::new(Class::Silence, sentence).entries(last.index, size));
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn last_time(&self) -> Option<u64> {
        self.last.as_ref().map(|last| last.time)
    }

    /// Whether the log ends with a stop.
    pub(crate) fn ended(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.kind == Kind::Final)
    }
}
