//! The keeper: prepares files before they are needed and packs those that are finished, so that the
//! committer never waits for either.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::disk::{Disk, DiskFile, errno, is_full, preallocate, read_full};
use super::names::{self, Form, NEXT, RESERVE};
use super::pack::{PackError, pack};
use super::shared::{Health, Shared, Space};
use super::watch::Notice;
use crate::config::OnFull;

/// Pause between two attempts to prepare a file.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The thread's own state.
pub(super) struct Keeper<D> {
    disk: Arc<D>,
    shared: Arc<Shared>,
    origin: String,
    /// Bytes in epochs that are not written any more.
    other_bytes: u64,
    /// Segments that were tried and stay as they are for this run.
    given_up: BTreeSet<u64>,
}

/// Niceness of the thread that packs: it takes what sessions leave of the processors.
const PRIORITY: i32 = 10;

impl<D: Disk> Keeper<D> {
    pub(super) fn new(disk: Arc<D>, shared: Arc<Shared>, origin: String, other_bytes: u64) -> Self {
        Self { disk, shared, origin, other_bytes, given_up: BTreeSet::new() }
    }

    /// Works until the store closes.
    pub(super) fn run(&mut self) {
        self.shared.set_keeper(std::thread::current()); // before it looks for the first time
        // Sessions wait for none of this but the next segment, which has the time of a whole one.
        if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
            tracing::debug!(%error, "the keeper of the trail runs at the priority of sessions");
        }
        loop {
            let prepared = self.round();
            if self.shared.stop.load(Ordering::SeqCst) {
                return;
            }
            let allow = self.shared.on_full() == OnFull::Allow;
            if prepared && !allow {
                std::thread::park();
            } else {
                std::thread::park_timeout(RETRY_EVERY);
            }
            self.look_at_committer();
        }
    }

    /// Where losses are allowed, nobody waits for a disk that hangs.
    pub(super) fn look_at_committer(&self) {
        if self.shared.on_full() == OnFull::Allow && self.shared.hangs() {
            self.shared.trays().iter().for_each(|tray| tray.wake_all());
        }
    }

    /// Does all there is to do. `false` when something must be tried again.
    pub(super) fn round(&mut self) -> bool {
        self.count();
        let mut prepared = self.prepare();
        self.count();
        for (first, end) in self.finished() {
            if self.shared.stop.load(Ordering::SeqCst) {
                break;
            }
            self.pack(first, end);
            self.count();
            // Packing took its time, and made space.
            prepared = self.prepare();
        }
        prepared
    }

    /// At a start: takes over what was prepared in an earlier run, if nothing was written to it.
    pub(super) fn take_over(&mut self) -> io::Result<()> {
        let prepared = [
            (NEXT, self.shared.settings.segment_bytes, &self.shared.next_ready),
            (RESERVE, self.shared.settings.reserve_bytes, &self.shared.reserve_ready),
        ];
        for (name, bytes, ready) in prepared {
            match self.disk.open(name) {
                Ok(file) if is_pristine(&file, bytes)? => ready.store(true, Ordering::Release),
                Ok(_) => self.disk.remove(name)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the next segment and the reserve, where they are not there.
    pub(super) fn prepare(&mut self) -> bool {
        self.prepare_next() && self.prepare_reserve()
    }

    pub(super) fn prepare_next(&mut self) -> bool {
        let shared = &self.shared;
        if shared.next_ready.load(Ordering::Acquire) {
            return true;
        }
        // Whatever the quota says: while that is used up, the file is kept back for the next start.
        match preallocate(&*self.disk, NEXT, shared.settings.segment_bytes) {
            Ok(()) => {
                shared.set_space(Space::Enough);
                shared.next_ready.store(true, Ordering::Release);
                shared.wake_committer();
                true
            }
            Err(error) => {
                let space = if is_full(&error) { Space::Full } else { Space::Broken };
                if shared.set_space(space) != space {
                    let errno = errno(&error);
                    let operation = "prepare the next segment";
                    shared.watch.notice(Notice::WriteFailed { operation, errno });
                }
                false
            }
        }
    }

    fn prepare_reserve(&mut self) -> bool {
        let shared = &self.shared;
        let bytes = shared.settings.reserve_bytes;
        if bytes == 0 || shared.reserve_ready.load(Ordering::Acquire) {
            return true;
        }
        if shared.level().stops_statements() {
            return false; // the one before became a segment: no other until there is room
        }
        let made = preallocate(&*self.disk, RESERVE, bytes).is_ok();
        shared.reserve_ready.store(made, Ordering::Release);
        made
    }

    /// Raw segments that are written no more, with their ends, oldest first.
    fn finished(&self) -> Vec<(u64, u64)> {
        let current = self.shared.current.load(Ordering::Acquire);
        let Ok(files) = self.disk.list() else { return Vec::new() };
        let mut segments: Vec<_> =
            files.iter().filter_map(|(name, _)| names::parse(name)).collect();
        segments.sort_unstable();
        let mut firsts: Vec<u64> = segments.iter().map(|(first, _)| *first).collect();
        firsts.dedup();
        let raw = |first: &u64| segments.binary_search(&(*first, Form::Raw)).is_ok();
        let pairs = firsts.windows(2).map(|pair| (pair[0], pair[1]));
        pairs
            .filter(|(first, end)| *end <= current && raw(first) && !self.given_up.contains(first))
            .collect()
    }

    fn pack(&mut self, first: u64, end: u64) {
        match pack(&*self.disk, &self.origin, first, end) {
            Ok(finished) => self.shared.watch.finished(&finished),
            Err(PackError::Damaged(damage)) => {
                self.given_up.insert(first);
                self.shared.watch.notice(Notice::SegmentDamaged { first, damage });
            }
            Err(PackError::Failed(operation, error)) => {
                self.given_up.insert(first);
                let errno = errno(&error);
                self.shared.watch.notice(Notice::PackFailed { first, operation, errno });
            }
        }
    }

    /// Counts the bytes of the trail. The reserve counts also where it is used up: it is to be made
    /// again.
    pub(super) fn count(&self) {
        let Ok(files) = self.disk.list() else { return };
        let current = self.shared.current.load(Ordering::Acquire);
        let current = names::segment(current, Form::Raw);
        let counted =
            files.iter().filter(|(name, _)| ![NEXT, RESERVE, &current].contains(&name.as_str()));
        let reserved = self.other_bytes.saturating_add(self.shared.settings.reserve_bytes);
        let bytes = counted.fold(reserved, |sum, (_, len)| sum.saturating_add(*len));
        self.shared.kept_bytes.store(bytes, Ordering::Relaxed);
        self.shared.look_at_quota();
        if self.shared.health() == Health::Full {
            self.shared.wake_committer(); // there may be room now
        }
    }
}

/// Whether a file has this length and holds nothing but zeros.
fn is_pristine(file: &impl DiskFile, bytes: u64) -> io::Result<bool> {
    if file.len()? != bytes {
        return Ok(false);
    }
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < bytes {
        let read = read_full(file, &mut buffer, offset)?;
        if read == 0 || buffer[..read].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += read as u64;
    }
    Ok(true)
}
