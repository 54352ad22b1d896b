//! Records of the trail itself: seals, recoveries, keys, quotas, reads, redactions.

use super::cbor::Map;
use super::schema::f;
use super::time::WallNanos;

/// `seal`: the log so far, signed with a key that is used once.
#[derive(Clone, Copy, Debug)]
pub struct Seal<'a> {
    /// Number in the log, from 0.
    pub number: u64,
    /// Entries of the log before it.
    pub size: u64,
    /// Root of their tree.
    pub root: &'a [u8; 32],
    /// Index into [`words::SEALS`](super::schema::words::SEALS).
    pub kind: u64,
    /// Public key of the next seal.
    pub next: &'a [u8; 32],
    /// Signature.
    pub signature: &'a [u8; 64],
}

/// `recovery`: what was found at a start, and put aside.
#[derive(Clone, Copy, Debug)]
pub struct Recovery<'a> {
    /// The boot.
    pub boot_id: &'a str,
    /// `crash`, `torn_tail`, `corruption`, `rollback`.
    pub reason: &'a str,
    /// More about it.
    pub detail: Option<&'a str>,
    /// Last good size.
    pub last_size: u64,
    /// Root at that size.
    pub last_root: &'a [u8; 32],
    /// What was put aside.
    pub aside: Option<Aside<'a>>,
}

/// Bytes that were put aside.
#[derive(Clone, Copy, Debug)]
pub struct Aside<'a> {
    /// How many.
    pub bytes: u64,
    /// Their digest.
    pub sha256: &'a [u8; 32],
    /// The file they are in.
    pub file: &'a str,
}

/// `epoch_start`: a log begins.
#[derive(Clone, Copy, Debug)]
pub struct EpochStart<'a> {
    /// Host name.
    pub host: &'a str,
    /// Why; for the first log of a host `first`.
    pub reason: &'a str,
    /// The log before: origin, last good size and root.
    pub previous: Option<(&'a str, u64, &'a [u8; 32])>,
}

/// `key`: a key was made, used or taken out of use.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// Why.
    pub reason: Option<&'a str>,
    /// `host`, `disclosure`, `day`.
    pub kind: &'a str,
    /// Its name or public part.
    pub id: &'a str,
    /// User who asked, if somebody did.
    pub by_uid: Option<u32>,
    /// `made`, `used`, `retired`.
    pub action: &'a str,
}

/// `failure`: something that the trail needs failed, or works again.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// What.
    pub reason: &'a str,
    /// More about it.
    pub detail: Option<&'a str>,
    /// Since when.
    pub since: Option<WallNanos>,
    /// `begin`, `end`.
    pub action: &'a str,
    /// The anchor it is about.
    pub anchor: Option<&'a str>,
}

/// `capacity`: the trail crossed a mark of its quota.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// The mark, percent.
    pub watermark: u64,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Most there may be.
    pub quota_bytes: u64,
    /// Crossed upwards.
    pub rising: bool,
}

/// `break_glass`: recording was eased in an emergency, or that is over.
#[derive(Clone, Copy, Debug)]
pub struct BreakGlass<'a> {
    /// Why.
    pub reason: &'a str,
    /// More about it.
    pub detail: Option<&'a str>,
    /// Since when.
    pub since: WallNanos,
    /// When it ends by itself.
    pub until: WallNanos,
    /// User who asked.
    pub by_uid: u32,
    /// `begin`, `end`.
    pub action: &'a str,
    /// Who approved: the file on a read-only medium.
    pub approver: &'a str,
}

/// `audit_read`: somebody read the trail.
#[derive(Clone, Copy, Debug)]
pub struct AuditRead<'a> {
    /// User.
    pub by_uid: u32,
    /// Command: `show`, `search`, `export`, `verify`, `prove`, `tail`.
    pub command: &'a str,
    /// What was asked for.
    pub arguments: &'a str,
}

/// `redaction`: values were made unreadable for ever.
#[derive(Clone, Copy, Debug)]
pub struct Redaction<'a> {
    /// Why.
    pub reason: &'a str,
    /// User who asked.
    pub by_uid: u32,
    /// `session`, `subject`, `day`, `retention`.
    pub scope: &'a str,
    /// Which.
    pub target: &'a str,
    /// Who approved.
    pub approver: &'a str,
    /// Keys that are gone. `None`: this is recorded before it happens.
    pub keys_erased: Option<u64>,
    /// Entries whose values went, from and to behind the last: where whole files of them did.
    pub entries: Option<(u64, u64)>,
}

/// `prune`: old segments were deleted.
#[derive(Clone, Copy, Debug)]
pub struct Prune<'a> {
    /// Why: `age`, `quota`, `asked`.
    pub reason: &'a str,
    /// User who asked.
    pub by_uid: Option<u32>,
    /// First entry that was deleted.
    pub from_index: u64,
    /// Behind the last.
    pub to_index: u64,
    /// Smallest index that is still there.
    pub minimum_index: u64,
}

/// `hold`: a legal hold was set or lifted.
#[derive(Clone, Copy, Debug)]
pub struct Hold<'a> {
    /// Why.
    pub reason: &'a str,
    /// User who asked.
    pub by_uid: u32,
    /// `set`, `lifted`, `restored`.
    pub action: &'a str,
    /// `all`, `session`, `time`.
    pub scope: &'a str,
    /// Which.
    pub target: &'a str,
    /// Who approved.
    pub approver: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Seal<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.uint(f::SEAL_NUMBER, self.number);
        entry.uint(f::SEAL_SIZE, self.size);
        entry.bytes(f::SEAL_ROOT, self.root);
        entry.uint(f::SEAL_KIND, self.kind);
        entry.bytes(f::SEAL_NEXT, self.next);
        entry.bytes(f::SEAL_SIGNATURE, self.signature);
    }
}

impl Recovery<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text(f::BOOT_ID, self.boot_id);
        entry.text(f::REASON, self.reason);
        entry.text_if(f::DETAIL, self.detail);
        entry.uint(f::LAST_SIZE, self.last_size);
        entry.bytes(f::LAST_ROOT, self.last_root);
        if let Some(aside) = &self.aside {
            entry.uint(f::BYTES, aside.bytes);
            entry.bytes(f::SHA256, aside.sha256);
            entry.text(f::FILE, aside.file);
        }
    }
}

impl EpochStart<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text(f::HOST, self.host);
        entry.text(f::REASON, self.reason);
        if let Some((origin, size, root)) = self.previous {
            entry.text(f::PREVIOUS_ORIGIN, origin);
            entry.uint(f::LAST_SIZE, size);
            entry.bytes(f::LAST_ROOT, root);
        }
    }
}

impl Key<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text_if(f::REASON, self.reason);
        entry.text(f::KEY_KIND, self.kind);
        entry.text(f::KEY_ID, self.id);
        entry.uint_if(f::BY_UID, self.by_uid.map(u64::from));
        entry.text(f::ACTION, self.action);
    }
}

impl Failure<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text(f::REASON, self.reason);
        entry.text_if(f::DETAIL, self.detail);
        entry.uint_if(f::SINCE, self.since.map(|since| since.0));
        entry.text(f::ACTION, self.action);
        entry.text_if(f::ANCHOR, self.anchor);
    }
}

impl Capacity {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.uint(f::WATERMARK, self.watermark);
        entry.uint(f::USED_BYTES, self.used_bytes);
        entry.uint(f::QUOTA_BYTES, self.quota_bytes);
        entry.flag(f::RISING, self.rising);
    }
}

impl BreakGlass<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text(f::REASON, self.reason);
        entry.text_if(f::DETAIL, self.detail);
        entry.wall(f::SINCE, self.since);
        entry.wall(f::UNTIL, self.until);
        entry.uint(f::BY_UID, self.by_uid.into());
        entry.text(f::ACTION, self.action);
        entry.text(f::APPROVER, self.approver);
    }
}

impl AuditRead<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.uint(f::BY_UID, self.by_uid.into());
        entry.text(f::COMMAND, self.command);
        entry.text(f::ARGUMENTS, self.arguments);
    }
}

impl Redaction<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text(f::REASON, self.reason);
        entry.uint(f::BY_UID, self.by_uid.into());
        entry.text(f::SCOPE, self.scope);
        entry.text(f::TARGET, self.target);
        entry.text(f::APPROVER, self.approver);
        entry.uint_if(f::KEYS_ERASED, self.keys_erased);
        entry.uint_if(f::FROM_INDEX, self.entries.map(|(from, _)| from));
        entry.uint_if(f::TO_INDEX, self.entries.map(|(_, to)| to));
    }
}

impl Prune<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text(f::REASON, self.reason);
        entry.uint_if(f::BY_UID, self.by_uid.map(u64::from));
        entry.uint(f::FROM_INDEX, self.from_index);
        entry.uint(f::TO_INDEX, self.to_index);
        entry.uint(f::MINIMUM_INDEX, self.minimum_index);
    }
}

impl Hold<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text(f::REASON, self.reason);
        entry.uint(f::BY_UID, self.by_uid.into());
        entry.text(f::ACTION, self.action);
        entry.text(f::SCOPE, self.scope);
        entry.text(f::TARGET, self.target);
        entry.text(f::APPROVER, self.approver);
        entry.text(f::HOLD, self.name);
    }
}
