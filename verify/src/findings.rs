//! What verification says: findings, each with its place, and the verdict that follows from them.

use std::fmt;

use serde::Serialize;

use crate::cbor::SessionId;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// What is there is intact as far as it can be checked, but something is missing.
    Incomplete,
    /// Something was changed, removed, added or destroyed.
    Tampering,
}

macro_rules! classes {
    ($($(#[doc = $doc:literal])* $name:ident $text:literal $severity:ident;)*) => {
        /// What kind of finding it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Class {
            $($(#[doc = $doc])* #[serde(rename = $text)] $name,)*
        }

        impl Class {
            /// All classes.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name in the output.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Its weight, unless the finding says otherwise.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }
    };
}

classes! {
    /// An entry whose bytes are not the ones that the tree holds.
    EntryAltered "entry-altered" Tampering;
    /// An entry that is no canonical CBOR.
    EntryMalformed "entry-malformed" Tampering;
    /// A frame or a bundle whose check sum, length or place is wrong.
    FrameDamaged "frame-damaged" Tampering;
    /// Entries that the tree holds are not there.
    EntriesMissing "entries-missing" Tampering;
    /// Entries are there that the tree does not hold.
    EntriesAdded "entries-added" Tampering;
    /// Entries are in another order than the tree holds them.
    EntriesMoved "entries-moved" Tampering;
    /// A stored tile hash is not the one that follows from the entries.
    TileAltered "tile-altered" Tampering;
    /// A tile that must be stored is not there.
    TileMissing "tile-missing" Incomplete;
    /// A trailer, end or header that does not fit what surrounds it.
    MarkAltered "mark-altered" Tampering;
    /// A root of the tree does not follow from the entries.
    RootMismatch "root-mismatch" Tampering;
    /// Entries were rewritten after a seal covered them.
    Rewritten "rewritten" Tampering;
    /// A seal is not signed by the key it must be signed with.
    SealKey "seal-key" Tampering;
    /// A seal that does not hold what a seal must hold.
    SealMalformed "seal-malformed" Tampering;
    /// Numbers of seals are missing or doubled.
    SealGap "seal-gap" Tampering;
    /// No seal was found.
    SealMissing "seal-missing" Tampering;
    /// The chain of seals begins again without the entries that would explain it.
    SealRestart "seal-restart" Tampering;
    /// No seal for more than three intervals, without a stop.
    Silence "silence" Incomplete;
    /// A restart after a crash that no anchor saw on both sides.
    RecoveryUnwitnessed "recovery-unwitnessed" Incomplete;
    /// No valid checkpoint is there.
    CheckpointMissing "checkpoint-missing" Incomplete;
    /// A checkpoint that is no signed note, or not of this log.
    CheckpointMalformed "checkpoint-malformed" Tampering;
    /// A checkpoint that the host's key did not sign.
    CheckpointSignature "checkpoint-signature" Tampering;
    /// None of the keys given belongs to this log.
    WrongKey "wrong-key" Tampering;
    /// Two signed checkpoints contradict each other or the entries.
    Fork "fork" Tampering;
    /// A signed checkpoint covers more entries than are there.
    Truncated "truncated" Tampering;
    /// A file that belongs to another log.
    WrongOrigin "wrong-origin" Tampering;
    /// Bytes where none belong.
    ExtraBytes "extra-bytes" Tampering;
    /// A file or a link where none belongs.
    ExtraFile "extra-file" Tampering;
    /// A cosignature of a known witness that is wrong.
    BadCosignature "bad-cosignature" Tampering;
    /// A cosignature from the future.
    FutureCosignature "future-cosignature" Tampering;
    /// Fewer witnesses than asked for, or no anchor at all.
    NotAnchored "not-anchored" Incomplete;
    /// The newest anchored checkpoint is far behind the newest entry.
    AnchorLag "anchor-lag" Incomplete;
    /// An epoch is not there.
    EpochMissing "epoch-missing" Tampering;
    /// An epoch does not continue where the one before ended.
    EpochChain "epoch-chain" Tampering;
    /// Numbers in a session are missing, doubled or out of order.
    SessionGap "session-gap" Tampering;
    /// Count or digest of a session do not fit its entries.
    SessionDigest "session-digest" Tampering;
    /// An outcome without its intent.
    OutcomeAlone "outcome-alone" Tampering;
    /// A session that has no end, although the agent stopped.
    SessionUnfinished "session-unfinished" Incomplete;
    /// A session that is still open.
    SessionOpen "session-open" Note;
    /// Intents whose outcome is not known.
    OutcomeUnknown "outcome-unknown" Note;
    /// Values that are not the ones the entry names.
    ValuesAltered "values-altered" Tampering;
    /// Values that an entry names are not there, and no entry says why.
    ValuesMissing "values-missing" Tampering;
    /// A key of sealed values was erased, and no entry says so.
    KeyErased "key-erased" Tampering;
    /// Values that can no longer be read, as an entry says.
    Redacted "redacted" Note;
    /// Entries that were pruned, as an entry says.
    Pruned "pruned" Note;
    /// A connection that has neither a session, a refusal nor a failure.
    ConnectUnexplained "connect-unexplained" Tampering;
    /// Connections that passed unseen, as settings allow.
    AllowedUnseen "allowed-unseen" Incomplete;
    /// Events of the kernel, or records, were lost.
    RecordsLost "records-lost" Incomplete;
    /// Statements that went before they were durable.
    AsyncWindow "async-window" Incomplete;
    /// Recording was switched to its reserve by break-glass.
    BreakGlass "break-glass" Incomplete;
    /// An end of a log behind a torn batch.
    TornTail "torn-tail" Incomplete;
    /// The log was continued after a crash.
    Recovered "recovered" Note;
    /// Wall time ran backwards without a clock entry.
    ClockBackwards "clock-backwards" Incomplete;
    /// Entries that claim a time later than a witness saw them.
    ClockAhead "clock-ahead" Incomplete;
    /// A step of the clock that is recorded.
    ClockStep "clock-step" Note;
    /// A version, event or field that this program does not know.
    Unknown "unknown" Note;
    /// A bundle of a session that does not prove what it must.
    BundleInvalid "bundle-invalid" Tampering;
    /// A value that was disclosed does not fit its commitment.
    DisclosureFalse "disclosure-false" Tampering;
    /// Two copies differ.
    CopyDiffers "copy-differs" Tampering;
    /// A file that could not be read.
    Unreadable "unreadable" Incomplete;
    /// More findings of a class than are listed.
    More "more" Note;
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind it is.
    pub class: Class,
    /// How much it weighs.
    pub severity: Severity,
    /// The log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Its epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// First entry concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_index: Option<u64>,
    /// First entry behind those concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_index: Option<u64>,
    /// The file, relative to the trail's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// First byte concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Bytes concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Sessions concerned, in hex.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<String>,
    /// Size of the last checkpoint that still holds before the place, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_before: Option<u64>,
    /// Size of the first checkpoint or seal that no longer holds, or holds again, behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_behind: Option<u64>,
    /// What it means, for a person.
    pub sentence: String,
}

/// Most sessions that one finding names.
const SESSIONS_MAX: usize = 32;

impl Finding {
    /// A finding without a place.
    pub fn new(class: Class, sentence: impl Into<String>) -> Self {
        Self {
            class,
            severity: class.severity(),
            origin: None,
            epoch: None,
            from_index: None,
            to_index: None,
            file: None,
            offset: None,
            length: None,
            sessions: Vec::new(),
            trusted_before: None,
            checked_behind: None,
            sentence: sentence.into(),
        }
    }

    /// With another weight than its class has.
    #[must_use]
    pub fn weighing(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Concerns entries `from..to`.
    #[must_use]
    pub fn entries(mut self, from: u64, to: u64) -> Self {
        (self.from_index, self.to_index) = (Some(from), Some(to));
        self
    }

    /// Concerns a file.
    #[must_use]
    pub fn file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Concerns bytes of its file.
    #[must_use]
    pub fn bytes(mut self, offset: u64, length: u64) -> Self {
        (self.offset, self.length) = (Some(offset), Some(length));
        self
    }

    /// Concerns sessions.
    #[must_use]
    pub fn sessions<'a>(mut self, sessions: impl IntoIterator<Item = &'a SessionId>) -> Self {
        let mut names: Vec<String> = sessions.into_iter().map(hex::encode).collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(SESSIONS_MAX);
        self.sessions = names;
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.severity {
            Severity::Tampering => "TAMPERING",
            Severity::Incomplete => "INCOMPLETE",
            Severity::Note => "note",
        };
        write!(f, "{weight} {}: {}", self.class, self.sentence)?;
        if let Some(origin) = &self.origin {
            write!(f, "\n    log {origin}")?;
        }
        match (self.from_index, self.to_index) {
            (Some(from), Some(to)) if to == from + 1 => write!(f, "\n    record {from}")?,
            (Some(from), Some(to)) => {
                write!(f, "\n    records {from} to {}", to.saturating_sub(1))?
            }
            (Some(_) | None, Some(_) | None) => {}
        }
        if let Some(file) = &self.file {
            write!(f, "\n    file {file}")?;
            if let (Some(offset), Some(length)) = (self.offset, self.length) {
                write!(f, ", bytes {offset} to {}", offset + length.max(1) - 1)?;
            }
        }
        if let Some(size) = self.trusted_before {
            write!(f, "\n    what still holds before it: the first {size} records")?;
        }
        if !self.sessions.is_empty() {
            write!(f, "\n    sessions {}", self.sessions.join(", "))?;
        }
        Ok(())
    }
}

/// Findings as they are made: bounded for each class, with the log they belong to.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    more: Vec<(Class, Severity, u64)>,
    origin: Option<String>,
    epoch: Option<u64>,
}

/// Most findings of one class and epoch that are listed; the others are counted.
const LISTED_MAX: usize = 1000;

impl Findings {
    /// Names the log that the next findings belong to.
    pub(crate) fn set_log(&mut self, origin: Option<String>, epoch: Option<u64>) {
        self.flush();
        (self.origin, self.epoch) = (origin, epoch);
    }

    pub(crate) fn add(&mut self, mut finding: Finding) {
        finding.origin = finding.origin.take().or_else(|| self.origin.clone());
        finding.epoch = finding.epoch.or(self.epoch);
        let same = |one: &&Finding| one.class == finding.class && one.epoch == finding.epoch;
        if self.list.iter().filter(same).count() < LISTED_MAX {
            self.list.push(finding);
            return;
        }
        match self.more.iter_mut().find(|more| more.0 == finding.class) {
            Some(more) => {
                more.1 = more.1.max(finding.severity);
                more.2 += 1;
            }
            None => self.more.push((finding.class, finding.severity, 1)),
        }
    }

    fn flush(&mut self) {
        for (class, severity, count) in self.more.drain(..) {
            let mut finding =
                Finding::new(Class::More, format!("{count} more findings of class {class}"))
                    .weighing(severity);
            finding.origin = self.origin.clone();
            finding.epoch = self.epoch;
            self.list.push(finding);
        }
    }

    pub(crate) fn into_list(mut self) -> Vec<Finding> {
        self.flush();
        self.list
    }
}

/// What a run of the verifier ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Intact and anchored.
    Intact,
    /// Something was changed, removed, added or destroyed.
    Tampered,
    /// Intact as far as present, but something is missing.
    Incomplete,
    /// It could not be checked.
    Failed,
}

impl Verdict {
    /// The exit code of programs.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Intact => 0,
            Self::Tampered => 1,
            Self::Incomplete => 2,
            Self::Failed => 3,
        }
    }

    /// The verdict that findings lead to.
    pub fn of(findings: &[Finding]) -> Self {
        match findings.iter().map(|finding| finding.severity).max() {
            Some(Severity::Tampering) => Self::Tampered,
            Some(Severity::Incomplete) => Self::Incomplete,
            Some(Severity::Note) | None => Self::Intact,
        }
    }
}
