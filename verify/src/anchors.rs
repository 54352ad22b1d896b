//! Checkpoints: those beside the log, those with cosignatures of witnesses, and copies that were
//! kept where the host cannot reach them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::epoch::EpochSummary;
use crate::findings::{Class, Finding, Findings};
use crate::merkle::Hash;
use crate::note::{BadNote, Checkpoint, Note, PublicKey, VerifierKey, split_notes};
use crate::store::{ReadError, names};
use crate::tree::Who;

/// Most bytes of a file of anchors: a year of notes each minute.
const ANCHOR_BYTES_MAX: u64 = 256 << 20;
/// A cosignature may be this far ahead of the clock here.
const AHEAD_SECONDS: u64 = 300;

/// Whose signatures count.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) keys: Vec<VerifierKey>,
    pub(crate) witnesses: Vec<VerifierKey>,
    pub(crate) quorum: usize,
    pub(crate) now_ns: u64,
}

impl Policy {
    /// Keys that may sign for a log.
    pub(crate) fn keys_of(&self, origin: &str) -> Vec<PublicKey> {
        let of_log = self.keys.iter().filter(|key| key.signs_for(origin));
        of_log.map(|key| key.key).collect()
    }

    /// Whether the host signed a note: `Err` says why not.
    pub(crate) fn host_signed(&self, note: &Note<'_>, origin: &str) -> Result<(), (Class, String)> {
        let keys = self.keys_of(origin);
        if keys.is_empty() {
            let given: Vec<&str> = self.keys.iter().map(|key| &*key.name).collect();
            return Err((
                Class::WrongKey,
                format!("the log is `{origin}`, the keys given are for `{}`", given.join("`, `")),
            ));
        }
        let found: Vec<Option<bool>> = keys.iter().map(|key| note.verify(origin, key)).collect();
        if found.contains(&Some(true)) {
            return Ok(());
        }
        if found.contains(&Some(false)) {
            return Err((
                Class::CheckpointSignature,
                "the signature of the host's key is wrong: the checkpoint was altered".to_owned(),
            ));
        }
        let ids = note.signatures.iter().filter(|one| one.name == origin);
        let ids: Vec<String> = ids.map(|one| hex::encode(one.key_id)).collect();
        let signed = if ids.is_empty() {
            "no key of that name".into()
        } else {
            format!("key {}", ids.join(", "))
        };
        Err((
            Class::WrongKey,
            format!("the checkpoint of `{origin}` is signed by {signed}, not by the key given"),
        ))
    }

    /// Cosignatures of a note: the latest time, in seconds, at which a quorum had seen it.
    pub(crate) fn cosigned(
        &self,
        note: &Note<'_>,
        file: &str,
        size: u64,
        findings: &mut Findings,
    ) -> Option<u64> {
        let mut times = Vec::new();
        for witness in &self.witnesses {
            match note.verify_cosignature(witness) {
                None => {}
                Some(Err(_)) => findings.add(
                    Finding::new(
                        Class::BadCosignature,
                        format!("the cosignature of `{}` is wrong", witness.name),
                    )
                    .file(file)
                    .entries(0, size),
                ),
                Some(Ok(time)) if time > self.now_ns / 1_000_000_000 + AHEAD_SECONDS => findings
                    .add(
                        Finding::new(
                            Class::FutureCosignature,
                            format!(
                                "`{}` claims to have signed at {time} s since 1970, in the future",
                                witness.name
                            ),
                        )
                        .file(file)
                        .entries(0, size),
                    ),
                Some(Ok(time)) => times.push(time),
            }
        }
        times.sort_unstable();
        // The time at which the last one needed had signed.
        (self.quorum > 0).then(|| times.get(self.quorum - 1).copied()).flatten()
    }
}

/// A checkpoint whose signature is good.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) who: Who,
    pub(crate) size: u64,
    pub(crate) root: Hash,
    /// It was seen elsewhere.
    pub(crate) anchored: bool,
    /// When a quorum of witnesses saw it, in seconds since 1970.
    pub(crate) time: Option<u64>,
    /// The entries have another root at its size.
    pub(crate) contradicted: bool,
    pub(crate) file: String,
}

/// Anchors of all logs.
#[derive(Default)]
pub(crate) struct Anchors {
    by_origin: BTreeMap<String, Vec<Known>>,
    given: bool,
}

impl Anchors {
    /// Reads files and folders of notes.
    pub(crate) fn read(
        paths: &[PathBuf],
        policy: &Policy,
        findings: &mut Findings,
    ) -> Result<Self, ReadError> {
        let mut anchors = Self { given: !paths.is_empty(), ..Self::default() };
        for path in paths {
            anchors.read_path(path, policy, findings, 0)?;
        }
        Ok(anchors)
    }

    fn read_path(
        &mut self,
        path: &Path,
        policy: &Policy,
        findings: &mut Findings,
        depth: usize,
    ) -> Result<(), ReadError> {
        if path.is_dir() {
            if depth < 4 {
                for name in names(path)?.iter().filter(|name| !name.starts_with('.')) {
                    self.read_path(&path.join(name), policy, findings, depth + 1)?;
                }
            }
            return Ok(());
        }
        let file = File::open(path).map_err(ReadError::io("open", path))?;
        let mut bytes = Vec::new();
        file.take(ANCHOR_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(ReadError::io("read", path))?;
        if bytes.len() as u64 > ANCHOR_BYTES_MAX {
            return Err(ReadError::damaged(
                path,
                ANCHOR_BYTES_MAX,
                "too long for a file of anchors",
            ));
        }
        let name = path.display().to_string();
        for part in split_notes(&bytes) {
            self.read_note(part, &name, policy, findings);
        }
        Ok(())
    }

    fn read_note(&mut self, bytes: &[u8], file: &str, policy: &Policy, findings: &mut Findings) {
        let parsed = Note::parse(bytes).and_then(|note| Ok((Checkpoint::parse(note.text)?, note)));
        let (checkpoint, note) = match parsed {
            Ok(parsed) => parsed,
            Err(bad) => {
                let sentence = format!("an anchor is no signed checkpoint: {bad}");
                findings.add(Finding::new(Class::CheckpointMalformed, sentence).file(file));
                return;
            }
        };
        let Checkpoint { origin, size, root } = checkpoint;
        // A shared place may hold checkpoints of hosts that nobody asked about.
        if policy.keys_of(&origin).is_empty() {
            return;
        }
        if let Err((class, why)) = policy.host_signed(&note, &origin) {
            findings.add(Finding::new(class, why).file(file).entries(0, size));
            return;
        }
        let time = policy.cosigned(&note, file, size, findings);
        let list = self.by_origin.entry(origin.clone()).or_default();
        let who = Who::Anchor;
        let known = Known {
            who,
            size,
            root,
            anchored: true,
            time,
            contradicted: false,
            file: file.to_owned(),
        };
        if let Some(other) = list.iter().find(|one| one.size == size && one.root != root) {
            let mut finding = fork(&known, other);
            finding.origin = Some(origin);
            findings.add(finding);
        }
        list.push(known);
    }

    /// Anchors of a log.
    pub(crate) fn of(&self, origin: &str) -> Vec<Known> {
        self.by_origin.get(origin).cloned().unwrap_or_default()
    }

    /// Whether places to look for anchors were given.
    pub(crate) fn were_given(&self) -> bool {
        self.given
    }

    /// Logs that anchors know and the trail does not.
    pub(crate) fn finish(&self, epochs: &[EpochSummary], findings: &mut Findings) {
        for (origin, list) in &self.by_origin {
            if epochs.iter().any(|epoch| epoch.origin.as_deref() == Some(origin)) {
                continue;
            }
            let size = list.iter().map(|known| known.size).max().unwrap_or_default();
            let sentence =
                format!("`{origin}` had {size} records when it was anchored, and is not here");
            let mut finding = Finding::new(Class::EpochMissing, sentence).entries(0, size);
            finding.origin = Some(origin.clone());
            findings.add(finding);
        }
    }
}

/// Two checkpoints of one size with different roots.
pub(crate) fn fork(one: &Known, other: &Known) -> Finding {
    let sentence = format!(
        "two checkpoints of size {} are both signed, with different roots: {} in {} and {} in {}",
        one.size,
        hex::encode(one.root),
        one.file,
        hex::encode(other.root),
        other.file
    );
    Finding::new(Class::Fork, sentence).entries(0, one.size).file(one.file.clone())
}

/// Reads the checkpoints in an epoch's folder: `checkpoint`, `cosigned` and `checkpoints/`.
pub(crate) fn read_beside(
    directory: &Path,
    prefix: &str,
    origin: &str,
    policy: &Policy,
    findings: &mut Findings,
) -> Result<Vec<Known>, ReadError> {
    let mut files = Vec::new();
    for name in ["checkpoint", "cosigned"] {
        if directory.join(name).exists() {
            files.push(name.to_owned());
        }
    }
    let folder = directory.join("checkpoints");
    if folder.is_dir() {
        let all = names(&folder)?;
        files.extend(
            all.iter()
                .filter(|name| !name.ends_with(".tmp"))
                .map(|name| format!("checkpoints/{name}")),
        );
    }
    let mut known = Vec::new();
    for name in files {
        let path = directory.join(&name);
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(ReadError::io("open", &path))?;
        file.take(crate::note::NOTE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(ReadError::io("read", &path))?;
        let shown = format!("{prefix}{name}");
        match beside(&bytes, &name, &shown, origin, policy, findings) {
            Ok(one) => known.push(one),
            Err((class, why)) => findings.add(Finding::new(class, why).file(shown)),
        }
    }
    Ok(known)
}

fn beside(
    bytes: &[u8],
    name: &str,
    shown: &str,
    origin: &str,
    policy: &Policy,
    findings: &mut Findings,
) -> Result<Known, (Class, String)> {
    let bad =
        |bad: BadNote| (Class::CheckpointMalformed, format!("this is no signed checkpoint: {bad}"));
    let note = Note::parse(bytes).map_err(bad)?;
    let checkpoint = Checkpoint::parse(note.text).map_err(bad)?;
    if checkpoint.origin != origin {
        return Err((
            Class::WrongOrigin,
            format!("a checkpoint of `{}` lies beside the log `{origin}`", checkpoint.origin),
        ));
    }
    policy.host_signed(&note, origin)?;
    let Checkpoint { size, root, .. } = checkpoint;
    if let Some(named) = name.strip_prefix("checkpoints/")
        && named != format!("{size:020}")
    {
        return Err((
            Class::CheckpointMalformed,
            format!("a checkpoint of size {size} lies under another name"),
        ));
    }
    let time = policy.cosigned(&note, shown, size, findings);
    let anchored = time.is_some();
    let who = if anchored { Who::Anchor } else { Who::Checkpoint };
    Ok(Known { who, size, root, anchored, time, contradicted: false, file: shown.to_owned() })
}
