//! Checks a whole trail: options, order of the work, and the report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::anchors::{Anchors, Policy};
use crate::epoch::{EpochSummary, check_epoch};
use crate::findings::{Class, Finding, Findings, Verdict};
use crate::keyring::Keyring;
use crate::note::{KeyKind, VerifierKey};
use crate::store::{ReadError, Trail};

/// What is checked, and against what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The trail's folder, or a copy of it.
    pub directory: PathBuf,
    /// Keys of hosts whose logs may be there.
    pub keys: Vec<VerifierKey>,
    /// Witnesses whose cosignatures count.
    pub witnesses: Vec<VerifierKey>,
    /// Number of witnesses that must have signed. `None`: all of them.
    pub quorum: Option<usize>,
    /// Files and folders with checkpoints that were copied elsewhere.
    pub anchors: Vec<PathBuf>,
    /// Another copy of the trail, compared byte by byte.
    pub copy: Option<PathBuf>,
    /// Seconds between two seals, as configured on the host.
    pub seal_every_seconds: u64,
    /// Seconds by which the newest anchored checkpoint may be older than the newest entry.
    pub anchor_lag_seconds: u64,
    /// The present, in nanoseconds since 1970: for the age of the last seal and for cosignatures
    /// from the future.
    pub now_ns: u64,
}

impl Options {
    /// Options for a folder, with the settings that pgward has by default.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            directory: directory.into(),
            keys: Vec::new(),
            witnesses: Vec::new(),
            quorum: None,
            anchors: Vec::new(),
            copy: None,
            seal_every_seconds: 10,
            anchor_lag_seconds: 3600,
            now_ns: now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Without a key nothing is proven.
    #[error(
        "no key was given, so nothing can be proven\n\
         hint: copy `keys/host.vkey` from the host when it is enrolled and give it with `--key`"
    )]
    NoKey,
    /// A key of the wrong kind.
    #[error("`{name}` is a key for {found}, expected one for {expected}")]
    KeyKind {
        /// Name of the key.
        name: String,
        /// What it signs.
        found: &'static str,
        /// What it must sign.
        expected: &'static str,
    },
    /// A quorum that cannot be reached.
    #[error("a quorum of {quorum} cannot be reached with {witnesses} witnesses")]
    Quorum {
        /// The number asked for.
        quorum: usize,
        /// Number of witnesses.
        witnesses: usize,
    },
    /// The trail or an anchor could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// How far the work is: entries read and, if known, in all.
pub type Progress<'p> = &'p mut dyn FnMut(u64);

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What follows from the findings.
    pub verdict: Verdict,
    /// All findings, in the order of epochs.
    pub findings: Vec<Finding>,
    /// What was read, by epoch.
    pub epochs: Vec<EpochSummary>,
    /// Number of findings of each class.
    pub classes: BTreeMap<&'static str, u64>,
}

impl Report {
    /// A report about findings.
    pub(crate) fn new(findings: Vec<Finding>, epochs: Vec<EpochSummary>) -> Self {
        let mut classes = BTreeMap::new();
        for finding in &findings {
            *classes.entry(finding.class.name()).or_default() += 1;
        }
        Self { verdict: Verdict::of(&findings), findings, epochs, classes }
    }

    /// Entries of all epochs.
    pub fn entries(&self) -> u64 {
        self.epochs.iter().map(|epoch| epoch.entries).sum()
    }
}

/// Checks a trail.
///
/// Errors mean that nothing was checked; what is wrong with the trail is in the report.
pub fn verify_dir(options: &Options) -> Result<Report, CheckError> {
    verify_dir_with(options, &mut |_| {})
}

/// Checks a trail and tells after some entries how many were read.
pub fn verify_dir_with(options: &Options, progress: Progress<'_>) -> Result<Report, CheckError> {
    let policy = policy(options)?;
    // Keys, anchors and checkpoints are read before the entries: the log may grow meanwhile,
    // never shrink.
    let mut findings = Findings::default();
    let keyring = Keyring::read(&options.directory, &mut findings);
    let mut anchors = Anchors::read(&options.anchors, &policy, &mut findings)?;
    let trail = Trail::open(&options.directory)?;
    let mut epochs = Vec::new();
    crate::files::check_root(&trail, &mut findings)?;
    if trail.epochs().is_empty() {
        findings.add(Finding::new(
            Class::SealMissing,
            "there is no epoch in this folder: no record and no seal was found",
        ));
    }
    let mut before: Option<EpochSummary> = None;
    let newest = trail.newest().map(|epoch| epoch.number);
    for epoch in trail.epochs() {
        findings.set_log(None, Some(epoch.number));
        let expected = before.as_ref().map_or(1, |epoch| epoch.epoch + 1);
        if epoch.number != expected {
            let sentence = format!(
                "epochs {expected} to {} are missing: epoch {} follows",
                epoch.number - 1,
                epoch.number
            );
            findings.add(Finding::new(Class::EpochMissing, sentence));
        }
        let is_newest = newest == Some(epoch.number);
        let summary = check_epoch(
            epoch,
            options,
            &policy,
            &mut anchors,
            before.as_ref(),
            is_newest,
            &mut findings,
            progress,
        )?;
        before = Some(summary.clone());
        epochs.push(summary);
    }
    findings.set_log(None, None);
    if let Some(keyring) = keyring {
        let again = || Keyring::read(&options.directory, &mut Findings::default());
        keyring.compare(&epochs, &mut findings, again);
    }
    anchors.finish(&epochs, &mut findings);
    if let Some(copy) = &options.copy {
        crate::copy::compare(&options.directory, copy, &mut findings)?;
    }
    Ok(Report::new(findings.into_list(), epochs))
}

pub(crate) fn policy(options: &Options) -> Result<Policy, CheckError> {
    if options.keys.is_empty() {
        return Err(CheckError::NoKey);
    }
    let kinds = options.keys.iter().map(|key| (key, KeyKind::Host));
    let all = kinds.chain(options.witnesses.iter().map(|key| (key, KeyKind::Witness)));
    for (key, expected) in all {
        if key.kind != expected {
            let name = |kind| match kind {
                KeyKind::Host => "a log",
                KeyKind::Witness => "a witness",
            };
            return Err(CheckError::KeyKind {
                name: key.name.clone(),
                found: name(key.kind),
                expected: name(expected),
            });
        }
    }
    let witnesses = options.witnesses.len();
    let quorum = options.quorum.unwrap_or(witnesses);
    if quorum > witnesses {
        return Err(CheckError::Quorum { quorum, witnesses });
    }
    Ok(Policy {
        keys: options.keys.clone(),
        witnesses: options.witnesses.clone(),
        quorum,
        now_ns: options.now_ns,
    })
}

/// Path of a file below the trail's folder, for findings.
pub(crate) fn relative(directory: &Path, path: &Path) -> String {
    path.strip_prefix(directory).unwrap_or(path).display().to_string()
}
