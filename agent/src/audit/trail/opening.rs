//! Opening the trail: who it is, what is there, whether it may go on.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tracing::{error, info, warn};

use super::anchoring::{self, Reach};
use super::past::{self, Past};
use super::proofs::Proofs;
use super::sealer::{Sealer, Sealing};
use super::watcher::{OnFinished, Watcher};
use super::{Trail, TrailError};
use crate::app::notify::{self, Manager};
use crate::audit::anchors::{Anchors, Checkpoint, Hear, NOTE_BYTES_MAX, Question};
use crate::audit::chain::{LastSeal, SealKind, Seals, Signer as _};
use crate::audit::keys::{
    Begin, Decision, Folder, HANDOVER_NAME, HostKey, Identity, Known, LogState, Machine, Newest,
    SealKey, SealKeyMaker, decide, harden, take,
};
use crate::audit::maintenance::{Aside, EpochStart, Key, Recovery};
use crate::audit::publish::{PublishError, Publisher, newest_checkpoint, own_checkpoint};
use crate::audit::record::{Record, Stamp};
use crate::audit::salt::salt;
use crate::audit::store::{Directory, Opened, Recorded, Store};
use crate::audit::tile_files::TileFolder;
use crate::audit::time::Now;
use crate::audit::values::Keyring;
use crate::config::Audit;

/// How long anchors are asked at a start what they know of this host.
const ANCHORS_ASKED: Duration = Duration::from_secs(2);

impl Trail {
    /// Opens the trail of this host, or begins it. `on_finished` is told of finished segments.
    ///
    /// A log that may not go on, since it was damaged or put back, is closed for ever, and a new
    /// epoch begins that says why.
    pub fn open(
        audit: &Audit,
        reach: &Reach<'_>,
        on_finished: OnFinished,
    ) -> Result<Self, TrailError> {
        let hardening = harden();
        for (gap, error) in hardening.gaps() {
            warn!(%error, "{gap}");
        }
        let directory = Directory::open(&audit.directory)?;
        let folder = Folder::open(&audit.directory)?;
        let there = Logs::find(&audit.directory)?;
        let (machine, exists) = (Machine::this(), there.newest.is_some());
        let mut identity = Identity::load_or_create(&folder, &audit.fleet, &machine, exists)?;
        let keys = folder.subfolder("keys")?;
        let host_name = identity.origin().host_name().to_owned();
        let host = Arc::new(HostKey::load_or_create(&keys, &host_name, exists)?);
        let newest = there.newest(&directory, &identity)?;

        let current =
            Folder::open(&audit.directory)?.subfolder(&format!("epoch-{}", identity.epoch()))?;
        let local = match newest_checkpoint(&current, identity.origin(), &*host) {
            Ok(Some(local)) => current
                .read("checkpoint", NOTE_BYTES_MAX)?
                .map(|note| (local, String::from_utf8_lossy(&note).into_owned())),
            Ok(None) => None,
            // Nothing is concluded from a file that anybody could have put there.
            Err(error @ PublishError::NotOurs(_)) => {
                error!(%error, "the newest checkpoint is not ours");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let hear = Arc::new(OnceLock::<Arc<Watcher>>::new());
        let listening = hear.clone();
        let told: Hear = Arc::new(move |notice| {
            if let Some(watcher) = listening.get() {
                watcher.anchor(notice);
            }
        });
        let epoch_path = audit.directory.join(format!("epoch-{}", identity.epoch()));
        let proofs = Arc::new(Proofs::new(&audit.directory, identity.epoch()));
        let ready = anchoring::ready(&audit.anchors, reach, &proofs, &epoch_path)?;
        let starting = |source| TrailError::System { what: "starting an anchor", source };
        let mut anchors = Anchors::start(ready, &told).map_err(starting)?;
        let known = ask(&anchors, &identity, &host, local);

        let begins = identity.begins().map(|begins| begins.reason);
        let state =
            newest.as_ref().map(|(epoch, opened)| Newest { epoch: *epoch, state: state(opened) });
        let decision = decide(identity.epoch(), begins, state, &known, |size| proofs.root_at(size));
        let mut first = VecDeque::new();
        let (opened, past) = match decision {
            Decision::Continue { torn, unchecked } => {
                if unchecked > 0 {
                    warn!(unchecked, "checkpoints of entries that are gone were not compared");
                }
                let opened = match newest {
                    Some((_, opened)) => opened,
                    None => unreachable!("an epoch without entries is not continued"),
                };
                let past = past::read(&audit.directory, identity.epoch(), opened.tree().size())
                    .map_err(TrailError::Read)?;
                let _ = torn; // told by the opened log itself
                (opened, past)
            }
            Decision::Begin(begin) => {
                let opened = Self::begin(&directory, &folder, &mut identity, &begin, &mut first)?;
                // Anchors know the log by its new name.
                let proofs = Arc::new(Proofs::new(&audit.directory, identity.epoch()));
                let path = audit.directory.join(format!("epoch-{}", identity.epoch()));
                let ready = anchoring::ready(&audit.anchors, reach, &proofs, &path)?;
                anchors = Anchors::start(ready, &told).map_err(starting)?;
                (opened, Past::default())
            }
        };
        let origin = identity.origin().clone();
        let passed_on = passed_on();
        let goes_on_sealed = matches!(
            (&past.seal, &passed_on),
            (Some(LastSeal { kind: SealKind::Handover, next, .. }), Some(key))
                if *next == key.public_key()
        );
        if past.seal.is_some() && !goes_on_sealed || opened.torn_tail().is_some() {
            first.push_back(recovery(&opened, &past));
        }

        let tree = (opened.tree().size(), opened.tree().root());
        let epoch_folder = folder.subfolder(&format!("epoch-{}", origin.epoch()))?;
        let tile_folder = TileFolder::new(folder.subfolder(&format!("epoch-{}", origin.epoch()))?);
        let tiles = tile_folder.resume(tree.0, tree.1, |from, each| opened.leaves(from, each));
        let tiles =
            tiles.inspect_err(|error| warn!(%error, "no tiles are made until the next start")).ok();
        let anchors = Arc::new(anchors);
        let offered = anchors.clone();
        let publisher = Publisher::start(
            epoch_folder,
            origin.clone(),
            host.clone(),
            tiles,
            move |published| match Checkpoint::parse(&published.note) {
                Ok(checkpoint) => offered.offer(&Arc::new(checkpoint)),
                Err(error) => error!(%error, "a checkpoint of ours is none"),
            },
        )?;
        let publisher = Arc::new(publisher);
        let sealing = Arc::<Sealing>::default();
        let seals = Seals::begin(
            origin.clone(),
            past.seal,
            passed_on,
            SealKeyMaker,
            audit.seal_every.as_nanos() as u64,
            Now::read().boot.0,
        );
        let host_key = host.clone();
        let sealer = Sealer {
            shared: sealing.clone(),
            first,
            seals,
            host,
            publisher: publisher.clone(),
            pending: None,
        };
        let watcher = Arc::new(Watcher {
            publisher: Arc::downgrade(&publisher),
            sink: OnceLock::new(),
            epoch: origin.epoch(),
            on_finished,
        });
        let keyring = Keyring::open(&audit.directory.join("keys").join("values"))?;
        let store = Store::start(opened, audit.into(), Box::new(sealer), watcher.clone())?;
        let sink = store.sink();
        let _ = watcher.sink.set(store.sink());
        let _ = hear.set(watcher);
        let key = host_key.vkey(&host_name);
        let used = Key { reason: None, kind: "host", id: &key, by_uid: None, action: "used" };
        let put = sink.record_closing(&Stamp::agent(Now::read()), &used)?;
        let _: Recorded = sink.durable_blocking(put.ticket)?;
        // Only now: a crash before would look as if the log had been put back.
        identity.begun(&folder)?;
        info!(%origin, entries = tree.0, "audit trail open");
        Ok(Self {
            directory: audit.directory.clone(),
            origin,
            quota_bytes: audit.quota_bytes,
            store: Mutex::new(Some(store)),
            sink,
            keyring,
            sealing,
            publisher: Mutex::new(Some(publisher)),
            anchors,
            past,
            eased_until: AtomicU64::new(0),
            memory_locked: hardening.no_swap.is_ok() && hardening.no_dump.is_ok(),
        })
    }

    fn begin(
        directory: &Directory,
        folder: &Folder,
        identity: &mut Identity,
        begin: &Begin,
        first: &mut VecDeque<Vec<u8>>,
    ) -> Result<Opened, TrailError> {
        identity.begin(folder, begin)?;
        let reason = identity.begins().map_or(begin.reason, |begins| begins.reason);
        match begin.previous {
            None => info!(origin = %identity.origin(), "a log begins"),
            Some((epoch, size, _)) => error!(
                reason = reason.name(),
                epoch, size, "the log before may not go on: a new one begins"
            ),
        }
        let follows = identity.begins().and_then(|begins| begins.follows.clone());
        let host = nix::unistd::gethostname().unwrap_or_default();
        let record = EpochStart {
            host: &host.to_string_lossy(),
            reason: reason.name(),
            previous: match (&follows, &begin.previous) {
                (Some(origin), Some((_, size, root))) => Some((origin.as_str(), *size, root)),
                _ => None,
            },
        };
        first.push_back(entry(&record));
        Ok(directory.open_epoch(begin.epoch, identity.origin().as_str())?)
    }
}

/// The logs in a folder.
struct Logs {
    /// Number of the newest epoch that has a segment.
    newest: Option<u64>,
}

impl Logs {
    fn find(directory: &Path) -> Result<Self, TrailError> {
        let failed = |source| TrailError::System { what: "listing the audit folder", source };
        let mut newest = None;
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("epoch-"));
            let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) else {
                continue;
            };
            let mut files = fs::read_dir(entry.path()).map_err(failed)?;
            let has_segment = files.any(|file| {
                file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("segment-"))
            });
            if has_segment {
                newest = newest.max(Some(number));
            }
        }
        Ok(Self { newest })
    }

    /// Opens the newest that has entries.
    fn newest(
        &self,
        directory: &Directory,
        identity: &Identity,
    ) -> Result<Option<(u64, Opened)>, TrailError> {
        let Some(number) = self.newest else { return Ok(None) };
        // Epochs of an identity before have another name, which their segments tell.
        let path = directory.path().join(format!("epoch-{number}"));
        let told =
            pgward_verify::store::Epoch::open(path, number).ok().and_then(|epoch| epoch.origin());
        let own = identity
            .origin()
            .of_epoch(number)
            .map_err(crate::audit::keys::IdentityError::Origin)?;
        // Of the epoch that is written to, only our own log will do.
        let origin = told.filter(|_| number != identity.epoch()).unwrap_or_else(|| own.to_string());
        let opened = directory.open_epoch(number, &origin)?;
        let has_entries = opened.tree().size() > 0 || opened.corrupt().is_some();
        Ok(has_entries.then_some((number, opened)))
    }
}

fn state(opened: &Opened) -> LogState {
    let (size, root) = (opened.tree().size(), opened.tree().root());
    match (opened.corrupt(), opened.torn_tail()) {
        (Some(_), _) => LogState::Corrupt { size, root },
        (None, Some(_)) => LogState::TornTail { size, root },
        (None, None) => LogState::Whole { size, root },
    }
}

/// Asks anchors what they know of this host, and adds what the folder itself knows.
fn ask(
    anchors: &Anchors,
    identity: &Identity,
    host: &HostKey,
    local: Option<(Known, String)>,
) -> Vec<Known> {
    let origin = identity.origin();
    let question = Question {
        host: origin.host_name().to_owned(),
        epoch: origin.epoch(),
        newest: local.as_ref().and_then(|(_, note)| Checkpoint::parse(note).ok()),
    };
    let mut known: Vec<Known> = local.into_iter().map(|(known, _)| known).collect();
    for answer in anchors.newest_known(&question, ANCHORS_ASKED) {
        let told = match answer.known {
            Ok(told) => told,
            Err(error) => {
                warn!(anchor = answer.anchor, error, "an anchor was not asked what it knows");
                continue;
            }
        };
        for one in told {
            let signed = one.note.as_deref().and_then(|note| own_checkpoint(note, origin, host));
            let without_note = || {
                let epoch = one.origin.strip_prefix(origin.host_name())?.strip_prefix('/')?;
                let epoch = epoch.parse().ok()?;
                Some(Known { epoch, size: one.size, root: None })
            };
            match (signed, &one.note) {
                (Some(signed), _) => known.push(signed),
                (None, None) => known.extend(without_note()),
                // Whoever can write there could stop every log by a note: ours are signed.
                (None, Some(_)) => {
                    warn!(anchor = answer.anchor, "a checkpoint there is not of this host");
                }
            }
        }
    }
    known
}

/// The key that the run before left with the service manager.
fn passed_on() -> Option<SealKey> {
    let descriptor = notify::passed(HANDOVER_NAME)?;
    if let Some(manager) = Manager::of_environment()
        && let Err(error) = manager.remove(HANDOVER_NAME)
    {
        warn!(%error, "the service manager keeps a descriptor that is used");
    }
    take(descriptor).inspect_err(|error| warn!(%error, "no key was passed on")).ok()
}

fn recovery(opened: &Opened, past: &Past) -> Vec<u8> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let torn = opened.torn_tail();
    let ended = past.seal.is_some_and(|seal| {
        matches!(seal.kind, SealKind::Final | SealKind::Handover) && !opened.crashed()
    });
    let reason = match (torn, ended) {
        (Some(_), _) => "torn_tail",
        (None, true) => "stop",
        (None, false) => "crash",
    };
    if torn.is_some() || !ended {
        warn!(reason, "the agent before did not end in good order");
    }
    entry(&Recovery {
        boot_id: boot_id.trim(),
        reason,
        detail: None,
        last_size: opened.tree().size(),
        last_root: &opened.tree().root(),
        aside: torn.map(|torn| Aside { bytes: torn.bytes, sha256: &torn.sha256, file: &torn.file }),
    })
}

fn entry<'r>(record: impl Into<Record<'r>>) -> Vec<u8> {
    let mut out = Vec::new();
    record.into().write(&Stamp::agent(Now::read()), &salt(), &mut out);
    out
}
