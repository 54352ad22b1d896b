//! The committer: the only one that appends to the log.
//!
//! It takes what queued while the last batch was made durable, writes that as one batch with one
//! write and one `fdatasync`, and tells those who wait. So the slower the disk, the larger the
//! batches; no timer is needed. Only when nobody waited for the last batch and nobody waits now (all
//! is `async`) it lets [`LINGER`] pass between two of them.
//!
//! What it does about errors, with the batch that is not durable kept in memory all the time:
//!
//! | what | the segment | the batch | health |
//! |---|---|---|---|
//! | any error of a write or of `fdatasync` | abandoned: never written or synced again, since the kernel may have dropped what it could not write and says so once only | written to a new segment | stays good |
//! | no new segment from `next.log` or a fresh file | | written to the reserve | [`Health::Full`] |
//! | nor from the reserve | | tickets fail; tried again each second | [`Health::Full`] if there is no space, else [`Health::Broken`] |
//! | the folder is another one | | tickets fail; tried again each second | [`Health::Broken`] |
//!
//! While the quota is used up, `next.log` is kept back for the next start, and only the reserve takes
//! what the segment has no room for. A start may begin its segment whatever the quota says: without
//! an agent nobody could make room.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::disk::{Disk, errno, is_full};
use super::frame::{
    self, CLOSING_BYTES, ENTRY_BYTES_MAX, FRAME_BYTES, HEADER_BYTES, Header, Kind, SEGMENT_ENTRIES,
    Trailer,
};
use super::recover::Start;
use super::segment::{Place, Segment};
use super::shared::{Health, Shared, Space};
use super::sink::NotRecorded;
use super::tray::{Queue, Tray};
use super::watch::{Chain, Moment, Notice};
use crate::audit::chain::{Hash, Tree, sha256};

/// Shortest time between two batches that nobody waits for.
const LINGER: Duration = Duration::from_millis(5);
/// Pause between two attempts while the disk fails.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Time between two looks whether the folder is still the one of its path.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A batch takes no further record when it is this long, in bytes.
const BATCH_BYTES: usize = 4 << 20;
/// Larger emptied buffers are given back to the allocator.
const SPARE_BYTES_MAX: usize = 256 << 10;
/// Most emptied buffers that are kept.
const SPARES_MAX: usize = 64;

/// How the store ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records that could not be written and are lost now.
    pub unwritten: u64,
    /// Size of the tree at the end.
    pub size: u64,
}

/// The thread's own state.
pub(super) struct Committer<D: Disk> {
    disk: Arc<D>,
    shared: Arc<Shared>,
    chain: Box<dyn Chain>,
    origin: String,
    /// None: the last one is finished, or abandoned.
    segment: Option<Segment<D::File>>,
    /// The log as far as it is durable.
    durable: Tree,
    next_trailer: u64,
    /// The log with the batch that is being written.
    ahead: Tree,
    batch: Vec<u8>,
    leaves: Vec<Hash>,
    /// An entry of the chain that is not durable yet, framed, behind the hash of its leaf.
    own: Option<(Hash, Vec<u8>)>,
    pending: VecDeque<Taken>,
    spares: Vec<Queue>,
    /// Somebody waited for the batch that was durable last.
    was_awaited: bool,
    /// The quota does not hold for the first segment of a run.
    starting: bool,
    committed_at: Instant,
    collected_at: Instant,
    looked_at: Instant,
}

/// Records on their way to the disk.
struct Taken {
    tray: Arc<Tray>,
    queue: Queue,
    /// How many of them are durable.
    done: usize,
    /// How many will be with the batch that is being written.
    planned: usize,
}

impl<D: Disk> Committer<D> {
    /// Begins a segment.
    pub(super) fn start(
        disk: Arc<D>,
        shared: Arc<Shared>,
        chain: Box<dyn Chain>,
        origin: String,
        start: &Start,
        end: Tree,
    ) -> Result<Self, NotRecorded> {
        let now = Instant::now();
        let mut committer = Self {
            disk,
            shared,
            chain,
            origin,
            segment: None,
            durable: start.tree.clone(),
            next_trailer: start.next_trailer,
            ahead: Tree::new(),
            batch: start.again.clone(),
            leaves: Vec::new(),
            own: None,
            pending: VecDeque::new(),
            spares: Vec::new(),
            was_awaited: false,
            starting: true,
            committed_at: now,
            collected_at: now,
            looked_at: now,
        };
        committer.begin(None)?;
        committer.starting = false;
        if !start.again.is_empty() {
            committer.next_trailer += 1;
            committer.segment.iter_mut().for_each(|segment| segment.has_trailer = true);
        }
        committer.durable = end;
        if !start.again.is_empty() && committer.durable.size().is_multiple_of(SEGMENT_ENTRIES) {
            committer.finish_segment(); // its end was all that was cut off
        }
        committer.shared.entries.store(committer.durable.size(), Ordering::Relaxed);
        Ok(committer)
    }

    /// Works until the store closes.
    pub(super) fn run(&mut self) -> Summary {
        // Also when this thread panics, sinks must learn that nothing is written any more.
        let _gone = Gone(Arc::clone(&self.shared));
        self.shared.set_committer(std::thread::current()); // before it looks for the first time
        loop {
            let stop = self.shared.stop.load(Ordering::SeqCst);
            if self.has_work() {
                if !stop && self.lingers() {
                    continue;
                }
                if self.round().is_err() {
                    if stop {
                        return self.last_words();
                    }
                    self.pause();
                }
            } else if stop {
                // Sinks take nothing more, and hear so; what they took until now is still written.
                self.shared.closing.store(true, Ordering::SeqCst);
                if self.round().is_ok() {
                    self.close();
                }
                return self.last_words();
            } else {
                self.idle();
            }
        }
    }

    /// Whether there is something to write.
    fn has_work(&self) -> bool {
        let due = || self.chain.due().is_some_and(|due| Instant::now() >= due);
        !self.pending.is_empty() || self.own.is_some() || self.trays_hold_something() || due()
    }

    fn trays_hold_something(&self) -> bool {
        self.shared.trays().iter().any(|tray| !tray.is_empty())
    }

    /// Sleeps a moment when nobody waits for what there is.
    fn lingers(&self) -> bool {
        let awaited = self.was_awaited || self.shared.urgent.load(Ordering::Acquire);
        let linger = LINGER.min(self.shared.settings.async_delay_max / 2);
        let rest = linger.saturating_sub(self.committed_at.elapsed());
        if awaited || rest.is_zero() {
            return false;
        }
        std::thread::park_timeout(rest);
        true
    }

    /// Writes all that there is, in as many batches as it takes.
    pub(super) fn round(&mut self) -> Result<(), NotRecorded> {
        let mut awaited = self.shared.urgent.swap(false, Ordering::AcqRel);
        if self.pending.is_empty() {
            self.collect();
        }
        let mut result = self.look_at_folder();
        while result.is_ok() {
            self.ask_chain(Moment::Regular);
            if self.pending.is_empty() && self.own.is_none() {
                break;
            }
            result = self.commit().map(|woken| awaited |= woken > 0);
        }
        match result {
            Ok(()) => self.went_well(),
            Err(error) => self.failed(error),
        }
        self.was_awaited = awaited;
        self.committed_at = Instant::now();
        result
    }

    fn went_well(&mut self) {
        self.shared.set_behind(None);
        if self.shared.in_reserve.load(Ordering::Relaxed) && !self.has_next() {
            self.shared.set_health(Health::Full);
            return;
        }
        if self.shared.health() != Health::Good {
            self.shared.set_health(Health::Good);
            self.shared.watch.notice(Notice::Recovered);
        }
        self.shared.report_losses();
    }

    /// Whether the next segment is there, and may be used.
    fn has_next(&self) -> bool {
        self.shared.next_ready.load(Ordering::Acquire) && self.within_quota()
    }

    fn within_quota(&self) -> bool {
        self.starting || !self.shared.level().stops_statements()
    }

    /// Everybody who waits must hear of it.
    fn failed(&mut self, error: NotRecorded) {
        self.shared.set_health(match error {
            NotRecorded::DiskFull | NotRecorded::SessionsStopped => Health::Full,
            NotRecorded::Io
            | NotRecorded::Overflow
            | NotRecorded::TooLarge
            | NotRecorded::NoKeys => Health::Broken,
            NotRecorded::WriterGone => Health::Gone,
        });
        let trays = self.shared.trays().clone();
        trays.iter().for_each(|tray| tray.fail(error));
    }

    /// Takes what waits in the sinks. Forgets sinks that are gone.
    fn collect(&mut self) {
        let now = Instant::now();
        let (pending, spares) = (&mut self.pending, &mut self.spares);
        self.shared.trays().retain(|tray| {
            // Counted before looking: a sink that is gone adds nothing after its last record.
            let gone = Arc::strong_count(tray) == 1;
            if !tray.is_empty() {
                let queue = tray.take(spares.pop().unwrap_or_default());
                pending.push_back(Taken { tray: Arc::clone(tray), queue, done: 0, planned: 0 });
            }
            !gone
        });
        // What was taken came after the last look.
        let since = self.collected_at;
        self.shared.set_behind((!self.pending.is_empty()).then_some(since));
        self.collected_at = now;
    }

    /// Lets the chain put an entry of its own before the next batch.
    fn ask_chain(&mut self, moment: Moment) {
        if self.own.is_some() {
            return; // that one first
        }
        let size = self.durable.size();
        let mut framed = Vec::new();
        let at = frame::begin(&mut framed);
        if self.chain.entry(size, &self.durable.root(), moment, &mut framed) {
            let entry_bytes = framed.len() - at - FRAME_BYTES;
            assert!((1..=ENTRY_BYTES_MAX).contains(&entry_bytes), "the chain's entries are short");
            // The byte before the entry is still zero, see `Queue::push`.
            let leaf = sha256(&framed[at + FRAME_BYTES - 1..]);
            frame::finish(&mut framed, at, Kind::Entry);
            self.own = Some((leaf, framed));
        }
    }

    /// Makes one batch durable. Gives how many tasks that woke.
    fn commit(&mut self) -> Result<usize, NotRecorded> {
        if !self.fill() {
            // Its beginning does not fit any more.
            self.finish_segment();
            self.fill();
        }
        self.write()?;
        self.durable.clone_from(&self.ahead);
        self.next_trailer += 1;
        let shared = &self.shared;
        shared.entries.store(self.durable.size(), Ordering::Relaxed);
        shared.batches.fetch_add(1, Ordering::Relaxed);
        if let Some(segment) = &self.segment {
            shared.current_bytes.store(segment.offset, Ordering::Relaxed);
        }
        let woken = self.settle();
        self.own = None;
        self.chain.committed(&self.leaves, self.durable.size(), &self.durable.root());
        self.shared.look_at_quota();
        Ok(woken)
    }

    /// Puts as much as fits into a batch. `false` when that is nothing.
    fn fill(&mut self) -> bool {
        self.batch.clear();
        self.leaves.clear();
        self.ahead.clone_from(&self.durable);
        let entries_max = (SEGMENT_ENTRIES - self.durable.size() % SEGMENT_ENTRIES) as usize;
        // A new segment takes any record, and grows if it must.
        let (room, takes_any) = match &self.segment {
            Some(segment) => (segment.room(), false),
            None => (self.room_of_new(), true),
        };
        if let Some((leaf, framed)) = &self.own {
            if framed.len() > room && !takes_any {
                return false;
            }
            self.batch.extend_from_slice(framed);
            self.leaves.push(*leaf);
        }
        for taken in &mut self.pending {
            let from = taken.bytes_before(taken.done);
            let mut to = from;
            taken.planned = taken.done;
            for record in &taken.queue.records[taken.done..] {
                let bytes = self.batch.len() + record.end - from;
                let fits = match self.leaves.is_empty() {
                    true => bytes <= room || takes_any,
                    false => bytes <= room.min(BATCH_BYTES),
                };
                if !fits || self.leaves.len() == entries_max {
                    break;
                }
                self.leaves.push(record.leaf);
                taken.planned += 1;
                to = record.end;
            }
            self.batch.extend_from_slice(&taken.queue.bytes[from..to]);
        }
        if self.leaves.is_empty() {
            return false;
        }
        self.leaves.iter().for_each(|leaf| self.ahead.append(*leaf));
        let (size, root) = (self.ahead.size(), self.ahead.root());
        Trailer { size, root, number: self.next_trailer }.append(&mut self.batch);
        if size.is_multiple_of(SEGMENT_ENTRIES) {
            frame::append_end(size, &root, &mut self.batch);
        }
        true
    }

    fn room_of_new(&self) -> usize {
        let before = HEADER_BYTES + FRAME_BYTES + size_of_val(self.durable.edge()) + CLOSING_BYTES;
        (self.shared.settings.segment_bytes as usize).saturating_sub(before)
    }

    /// Writes the batch: to the segment, or to a new one that begins with it.
    fn write(&mut self) -> Result<(), NotRecorded> {
        let ends = self.ahead.size().is_multiple_of(SEGMENT_ENTRIES);
        let mut failed = None;
        if let Some(segment) = &mut self.segment {
            match segment.append(&self.batch) {
                Ok(()) => {}
                Err((operation, error)) => {
                    failed = Some(error);
                    self.abandon(operation, failed.as_ref());
                }
            }
        }
        if self.segment.is_none() {
            self.begin(failed)?;
        }
        match &mut self.segment {
            Some(segment) if !ends => segment.has_trailer = true,
            Some(_) | None => self.segment = None,
        }
        Ok(())
    }

    /// Ends a segment that has no room left.
    fn finish_segment(&mut self) {
        let Some(mut segment) = self.segment.take() else { return };
        if segment.has_trailer {
            let mut end = Vec::new();
            frame::append_end(self.durable.size(), &self.durable.root(), &mut end);
            if let Err((operation, error)) = segment.append(&end) {
                self.segment = Some(segment);
                self.abandon(operation, Some(&error));
            }
        }
    }

    fn abandon(&mut self, operation: &'static str, error: Option<&io::Error>) {
        let Some(segment) = self.segment.take() else { return };
        let errno = error.map_or(0, errno);
        self.shared.watch.notice(Notice::WriteFailed { operation, errno });
        let size = self.durable.size();
        self.shared.watch.notice(Notice::SegmentAbandoned { first: segment.first, size });
    }

    /// Begins a segment with the batch in it, in the first place that takes it. `failed` is why
    /// the one before was abandoned.
    fn begin(&mut self, failed: Option<io::Error>) -> Result<(), NotRecorded> {
        let header = Header {
            first: self.durable.size(),
            root: self.durable.root(),
            next_trailer: self.next_trailer,
            origin: self.origin.clone(),
        };
        let mut content = header.encode().to_vec();
        frame::append_edge(&self.durable, &mut content);
        content.extend_from_slice(&self.batch);
        let bytes = self.shared.settings.segment_bytes;
        let mut failed = failed;
        for place in [Place::Next, Place::New, Place::Reserve] {
            if !self.is_there(place) {
                continue;
            }
            match Segment::begin(&*self.disk, place, self.durable.size(), bytes, &content) {
                Ok(segment) => {
                    self.begun(place, segment);
                    return Ok(());
                }
                Err(error) => {
                    let errno = errno(&error);
                    let operation = "begin a segment";
                    self.shared.watch.notice(Notice::WriteFailed { operation, errno });
                    failed = Some(error);
                    // What was written to it must not be met again.
                    let _ = self.disk.remove(place.name());
                    self.shared.wake_keeper();
                }
            }
        }
        self.shared.wake_keeper();
        let full = match (&failed, self.shared.space()) {
            (Some(error), _) => is_full(error),
            (None, Space::Broken) => false,
            (None, Space::Enough | Space::Full) => true,
        };
        Err(if full { NotRecorded::DiskFull } else { NotRecorded::Io })
    }

    /// Whether a place may be tried. One that was prepared is used up with that.
    fn is_there(&self, place: Place) -> bool {
        match place {
            Place::Next => {
                self.within_quota() && self.shared.next_ready.swap(false, Ordering::AcqRel)
            }
            // Where not even a segment could be prepared, what is left would be used up record by
            // record.
            Place::New => self.within_quota() && self.shared.space() == Space::Enough,
            Place::Reserve => self.shared.reserve_ready.swap(false, Ordering::AcqRel),
        }
    }

    fn begun(&mut self, place: Place, segment: Segment<D::File>) {
        let in_reserve = place == Place::Reserve;
        self.shared.in_reserve.store(in_reserve, Ordering::Relaxed);
        self.shared.current.store(segment.first, Ordering::Release);
        self.shared.current_bytes.store(segment.offset, Ordering::Relaxed);
        self.segment = Some(segment);
        if in_reserve {
            self.shared.set_health(Health::Full);
            self.shared.watch.notice(Notice::ReserveInUse);
        }
        self.shared.wake_keeper();
    }

    /// The batch is durable.
    fn settle(&mut self) -> usize {
        let mut woken = 0;
        for taken in &mut self.pending {
            if taken.planned > taken.done {
                taken.done = taken.planned;
                woken += taken.tray.settle(taken.queue.first_ticket() + taken.done as u64 - 1);
            }
        }
        while let Some(taken) =
            self.pending.pop_front_if(|taken| taken.done == taken.queue.records.len())
        {
            let mut queue = taken.queue;
            if queue.bytes.capacity() <= SPARE_BYTES_MAX && self.spares.len() < SPARES_MAX {
                queue.clear();
                self.spares.push(queue);
            }
        }
        woken
    }

    /// Fails when the folder of the log is not the one that readers will find.
    fn look_at_folder(&mut self) -> Result<(), NotRecorded> {
        let failing = self.shared.health() == Health::Broken;
        if !failing && self.looked_at.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked_at = Instant::now();
        match self.disk.is_in_place() {
            Ok(true) => Ok(()),
            Ok(false) => {
                if !failing {
                    self.shared.watch.notice(Notice::DirectoryReplaced);
                }
                Err(NotRecorded::Io)
            }
            Err(error) => {
                let errno = errno(&error);
                let operation = "examine the folder";
                self.shared.watch.notice(Notice::WriteFailed { operation, errno });
                Err(NotRecorded::Io)
            }
        }
    }

    /// Waits before the next attempt, unless there is new space to write to.
    fn pause(&self) {
        let until = Instant::now() + RETRY_EVERY;
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            let stop = self.shared.stop.load(Ordering::SeqCst);
            let full = self.shared.health() == Health::Full;
            if rest.is_zero() || stop || full && self.has_next() {
                return;
            }
            std::thread::park_timeout(rest);
        }
    }

    /// Has the next round look at the folder.
    #[cfg(test)]
    pub(super) fn look_now(&mut self) {
        self.looked_at = Instant::now().checked_sub(LOOK_EVERY).expect("the clock runs for long");
    }

    /// Sleeps until a record comes, the chain is due, there is space again, or the store closes.
    fn idle(&mut self) {
        if self.shared.health() == Health::Full {
            self.went_well();
        }
        self.shared.idle.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if !self.trays_hold_something() && !self.shared.stop.load(Ordering::SeqCst) {
            match self.chain.due() {
                None => std::thread::park(),
                Some(due) => {
                    std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
                }
            }
        }
        self.shared.idle.store(false, Ordering::SeqCst);
        self.collected_at = Instant::now();
    }

    /// Everything is written: the chain's last entry, and the end of the segment.
    pub(super) fn close(&mut self) {
        self.ask_chain(Moment::Closing);
        let written = self.own.is_none() || self.commit().is_ok();
        if written && self.pending.is_empty() {
            self.finish_segment();
        }
    }

    fn last_words(&mut self) -> Summary {
        let failed = self.pending.iter().map(|taken| taken.queue.records.len() - taken.done);
        let failed: usize = failed.sum();
        self.shared.set_health(Health::Gone);
        let trays = self.shared.trays().clone();
        let late = trays.iter().map(|tray| tray.take(Queue::default()).records.len());
        let unwritten = late.fold(failed, |sum, records| sum + records);
        Summary { unwritten: unwritten as u64, size: self.durable.size() }
    }
}

impl Taken {
    fn bytes_before(&self, record: usize) -> usize {
        record.checked_sub(1).map_or(0, |before| self.queue.records[before].end)
    }
}

/// Says that the thread is gone, however it went.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.set_health(Health::Gone);
        let trays = self.0.trays().clone();
        trays.iter().for_each(|tray| tray.fail_for_ever());
    }
}
