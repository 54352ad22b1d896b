//! The log's thread: the only one that touches the disk.
//!
//! It takes what waits in the sinks, writes it, and looks again a moment later, so that under load
//! many records share one write and nobody pays for waking it. Once a second it makes the file
//! durable.
//!
//! What it does about errors, with `pending` the lines that are not written yet:
//!
//! | what | the file | `pending` | health until a write succeeds |
//! |---|---|---|---|
//! | no space (`ENOSPC`, `EDQUOT`) | kept; a torn line is taken back; tried again each second | kept | [`Health::Full`] |
//! | file too large (`EFBIG`) | set aside, a new one begun at once | kept | stays good, or `Broken` if that fails |
//! | any other error of a write | set aside, a new one begun; tried again each second | kept | [`Health::Broken`] |
//! | any error of a sync | set aside: the kernel may have dropped what it could not write and will not say so twice | kept; records since the last sync are reported as `records_unsynced` | [`Health::Broken`] if no new file can be begun |
//! | renamed or removed by somebody else | a new one is begun within a second | kept | stays good |
//! | sinks overflow meanwhile | | newest records lost, reported as `events_lost` when it is over | |

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::disk::{Disk, LogFile, OpenError};
use super::record::{EventsLost, LostSource, Record, Stamp};
use super::sink::{Lines, Sink, Tray};
use super::time::{Now, WallNanos};
use crate::config::{Audit, OnFull};

/// Pause between two looks at the sinks under load.
const COLLECT_EVERY: Duration = Duration::from_millis(10);
/// How long written records may stay without a sync.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Pause between two attempts while the disk fails.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Larger emptied buffers are given back to the allocator.
const SPARE_BYTES_MAX: usize = 256 << 10;
/// Most emptied buffers that are kept.
const SPARES_MAX: usize = 64;

/// The query log. One for each agent.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Summary>>,
    torn_tail_bytes: u64,
}

/// What the log has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogStatus {
    /// Whether records can be written.
    pub health: Health,
    /// Records written.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records lost.
    pub lost: u64,
}

/// How the log ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records that could not be written and are lost now.
    pub unwritten: u64,
    /// Whether the last sync failed.
    pub unsynced: bool,
}

/// Whether records can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// They can, as far as is known.
    Good,
    /// No space.
    Full,
    /// The disk reports errors.
    Broken,
    /// The log's thread has ended.
    Gone,
}

/// What sinks and the thread share.
#[derive(Debug)]
pub(super) struct Shared {
    on_full: OnFull,
    trays: Mutex<Vec<Arc<Tray>>>,
    health: AtomicU8,
    /// The thread sleeps until it is woken.
    pub(super) idle: AtomicBool,
    stop: AtomicBool,
    thread: OnceLock<Thread>,
    records: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
    lost_unreported: AtomicU64,
    lost_since: AtomicU64,
}

impl Log {
    /// Opens the file and starts the thread.
    ///
    /// The folder must exist, be no symbolic link, and be writable by nobody but root and the
    /// agent's user. A line that a crash left unfinished is ended first; see
    /// [`Log::torn_tail_bytes`].
    pub fn open(config: &Audit) -> Result<Self, OpenError> {
        let (file, torn_tail_bytes) = LogFile::open(&config.path)?;
        let failed = |source| OpenError::File {
            path: config.path.clone(),
            operation: "start the thread of",
            source,
        };
        Self::start(file, config, torn_tail_bytes).map_err(failed)
    }

    pub(super) fn start(disk: impl Disk, config: &Audit, torn_tail_bytes: u64) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(config.on_full));
        let mut writer = Writer::new(disk, Arc::clone(&shared), config.file_bytes_max);
        let thread =
            std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run())?;
        // Nobody wakes the thread before it is known: there is no sink yet.
        let _ = shared.thread.set(thread.thread().clone());
        Ok(Self { shared, thread: Some(thread), torn_tail_bytes })
    }

    /// A way into the log for one worker.
    pub fn sink(&self) -> Sink {
        Sink::new(Arc::clone(&self.shared))
    }

    /// Length of the unfinished line that was found when the log was opened, for the record
    /// `agent_start`.
    pub fn torn_tail_bytes(&self) -> u64 {
        self.torn_tail_bytes
    }

    /// What it has done so far.
    pub fn status(&self) -> LogStatus {
        LogStatus {
            health: self.shared.health(),
            records: self.shared.records.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            lost: self.shared.lost.load(Ordering::Relaxed),
        }
    }

    /// Writes what waits, syncs and ends the thread. Waits for the disk; where that fails it is
    /// tried once and given up.
    ///
    /// Sinks that are still there fail from now on.
    pub fn close(mut self) -> Summary {
        self.finish()
    }

    fn finish(&mut self) -> Summary {
        self.shared.stop.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.take() else { return Summary::default() };
        thread.thread().unpark();
        // A panic of the thread was reported where it happened; what waited is lost.
        thread.join().unwrap_or_else(|_| Summary {
            unwritten: self.shared.take_all().map(|lines| lines.records).sum(),
            unsynced: true,
        })
    }
}

/// As [`Log::close`].
impl Drop for Log {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn new(on_full: OnFull) -> Self {
        Self {
            on_full,
            trays: Mutex::default(),
            health: AtomicU8::new(Health::Good as u8),
            idle: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            thread: OnceLock::new(),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            lost_unreported: AtomicU64::new(0),
            lost_since: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn on_full(&self) -> OnFull {
        self.on_full
    }

    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Good,
            1 => Health::Full,
            2 => Health::Broken,
            _ => Health::Gone,
        }
    }

    pub(super) fn add(&self, tray: Arc<Tray>) {
        self.trays().push(tray);
    }

    pub(super) fn count_lost(&self, records: u64, since: WallNanos) {
        self.lost.fetch_add(records, Ordering::Relaxed);
        self.lost_since.fetch_min(since.0, Ordering::Relaxed);
        self.lost_unreported.fetch_add(records, Ordering::Release);
    }

    pub(super) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn set_health(&self, health: Health) {
        if self.health.swap(health as u8, Ordering::Relaxed) != health as u8 {
            self.trays().iter().for_each(|tray| tray.notify());
        }
    }

    fn trays(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Tray>>> {
        // Nothing under this lock panics halfway through a change.
        self.trays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_all(&self) -> impl Iterator<Item = Lines> {
        let trays = self.trays().clone();
        trays.into_iter().map(|tray| tray.take(Lines::default()))
    }
}

/// The thread's own state.
struct Writer<D> {
    disk: D,
    shared: Arc<Shared>,
    file_bytes_max: u64,
    pending: VecDeque<Batch>,
    spares: Vec<Lines>,
    /// A line in the file was left unfinished and could not be taken back.
    torn: bool,
    unsynced: u64,
    unsynced_since: WallNanos,
    sync_due: Option<Instant>,
}

/// Lines on their way to the disk.
struct Batch {
    lines: Lines,
    /// Bytes written, always a number of whole lines between two attempts.
    written: usize,
}

impl<D: Disk> Writer<D> {
    fn new(disk: D, shared: Arc<Shared>, file_bytes_max: u64) -> Self {
        Self {
            disk,
            shared,
            file_bytes_max,
            pending: VecDeque::new(),
            spares: Vec::new(),
            torn: false,
            unsynced: 0,
            unsynced_since: WallNanos::default(),
            sync_due: None,
        }
    }

    fn run(&mut self) -> Summary {
        // Also when this thread panics, sinks must learn that nothing is written any more.
        let _gone = OnDrop(Arc::clone(&self.shared));
        loop {
            let stop = self.shared.stop.load(Ordering::SeqCst);
            if self.pending.is_empty() {
                self.report_losses();
                self.collect();
            }
            let worked = !self.pending.is_empty();
            let wrote = self.write_pending();
            if stop && !(worked && wrote) {
                return self.last_words();
            }
            if self.sync_due.is_some_and(|due| Instant::now() >= due) {
                self.make_durable();
            }
            if !wrote || !self.recovered() {
                std::thread::park_timeout(RETRY_EVERY);
            } else if worked {
                std::thread::park_timeout(COLLECT_EVERY);
            } else {
                self.idle();
            }
        }
    }

    /// The end: nothing is left to write, or it can't be written.
    fn last_words(&mut self) -> Summary {
        let synced = self.make_durable();
        self.collect();
        let unwritten =
            self.pending.iter().map(|batch| newlines(&batch.lines.bytes[batch.written..])).sum();
        Summary { unwritten, unsynced: !synced }
    }

    /// Whether the disk is good again, as far as that shows without anything to write.
    fn recovered(&mut self) -> bool {
        if self.shared.health() == Health::Good {
            return true;
        }
        let good = self.pending.is_empty() && self.disk.reopen_if_gone().is_ok();
        if good {
            self.shared.set_health(Health::Good);
        }
        good
    }

    /// Sleeps until a record comes, the file must be synced, or the log is closed.
    fn idle(&mut self) {
        self.shared.idle.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        let quiet = self.shared.trays().iter().all(|tray| tray.is_empty())
            && !self.shared.stop.load(Ordering::SeqCst);
        if quiet {
            match self.sync_due {
                None => std::thread::park(),
                Some(due) => std::thread::park_timeout(due.duration_since(Instant::now())),
            }
        }
        self.shared.idle.store(false, Ordering::SeqCst);
    }

    /// Takes what waits in the sinks. Forgets sinks that are gone.
    fn collect(&mut self) {
        let mut trays = self.shared.trays();
        trays.retain(|tray| {
            // Counted before looking: a sink that is gone adds nothing after its last record.
            let gone = Arc::strong_count(tray) == 1;
            let empty = tray.is_empty();
            if !empty {
                let lines = tray.take(self.spares.pop().unwrap_or_default());
                self.pending.push_back(Batch { lines, written: 0 });
            }
            !gone
        });
    }

    /// Writes all of `pending`, or as much as the disk takes, and says whether that was all.
    fn write_pending(&mut self) -> bool {
        while let Some(mut batch) = self.pending.pop_front() {
            match self.write(&mut batch) {
                Ok(()) => self.recycle(batch.lines),
                Err(error) => {
                    self.pending.push_front(batch);
                    self.failed("write", &error);
                    return false;
                }
            }
            self.shared.set_health(Health::Good);
        }
        true
    }

    /// Writes one batch. On error `written` is back at the end of a line.
    fn write(&mut self, batch: &mut Batch) -> io::Result<()> {
        let left = (batch.lines.bytes.len() - batch.written) as u64;
        if self.disk.len() > 0 && self.disk.len() + left > self.file_bytes_max {
            self.rotate()?;
        }
        if self.torn {
            append_all(&mut self.disk, b"\n", &mut 0)?;
            self.torn = false;
        }
        let start = self.disk.len();
        let first = batch.written;
        let mut result = append_all(&mut self.disk, &batch.lines.bytes, &mut batch.written);
        if is_too_large(&result) {
            self.take_back(batch, first, start);
            self.rotate()?;
            let (start, first) = (self.disk.len(), batch.written);
            result = append_all(&mut self.disk, &batch.lines.bytes, &mut batch.written);
            if result.is_err() {
                self.take_back(batch, first, start);
            }
        } else if result.is_err() {
            self.take_back(batch, first, start);
        }
        let records = newlines(&batch.lines.bytes[first..batch.written]);
        if records > 0 {
            self.shared.records.fetch_add(records, Ordering::Relaxed);
            self.shared.bytes.fetch_add((batch.written - first) as u64, Ordering::Relaxed);
            if self.unsynced == 0 {
                self.unsynced_since = Now::read().wall;
            }
            self.unsynced += records;
            self.sync_due.get_or_insert_with(|| Instant::now() + SYNC_EVERY);
        }
        result
    }

    /// Takes back the part of a line that was written last: from the file, or at least from the
    /// batch, so that the whole line is written again.
    fn take_back(&mut self, batch: &mut Batch, first: usize, start: u64) {
        let part = &batch.lines.bytes[first..batch.written];
        let whole = part.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < part.len() && self.disk.truncate(start + whole as u64).is_err() {
            self.torn = true;
        }
        batch.written = first + whole;
    }

    /// Syncs and begins a new file.
    fn rotate(&mut self) -> io::Result<()> {
        self.make_durable();
        self.disk.set_aside(Now::read().wall)?;
        self.torn = false;
        tracing::info!("query log set aside, new file begun");
        Ok(())
    }

    /// Notes an error of the disk and, where it makes the file suspect, begins a new one.
    fn failed(&mut self, operation: &'static str, error: &io::Error) {
        let full =
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let health = if full { Health::Full } else { Health::Broken };
        if self.shared.health() != health {
            tracing::error!(operation, error = %error, "query log cannot be written");
        }
        self.shared.set_health(health);
        let renewed = if full {
            // Whoever makes space may remove this very file: writing on would fill a file nobody
            // can see.
            self.disk.reopen_if_gone().map(|_| ())
        } else {
            self.disk.set_aside(Now::read().wall)
        };
        match renewed {
            Ok(()) if !full => self.torn = false,
            Ok(()) => {}
            Err(error) => {
                tracing::error!(error = %error, "no new file for the query log");
            }
        }
    }

    /// Makes durable what was written, and looks whether the file is still the one of that name.
    /// `false` when it may not be durable.
    fn make_durable(&mut self) -> bool {
        self.sync_due = None;
        if self.unsynced == 0 {
            return true;
        }
        let (records, since) = (self.unsynced, self.unsynced_since);
        self.unsynced = 0;
        if let Err(error) = self.disk.sync() {
            let detail = error.to_string();
            let lost = EventsLost {
                source: LostSource::RecordsUnsynced,
                count: records,
                since: Some(since),
                detail: Some(&detail),
            };
            self.add_record(&lost);
            self.failed("sync", &error);
            return false;
        }
        if let Err(error) = self.disk.reopen_if_gone() {
            self.failed("examine", &error);
        }
        true
    }

    /// Puts the number of lost records into the log, in front of what is collected next.
    fn report_losses(&mut self) {
        let count = self.shared.lost_unreported.swap(0, Ordering::Acquire);
        if count > 0 {
            let since = self.shared.lost_since.swap(u64::MAX, Ordering::Relaxed);
            let since = Some(WallNanos(since)).filter(|since| since.0 != u64::MAX);
            let detail = Some("too much waited for the disk");
            self.add_record(&EventsLost { source: LostSource::Records, count, since, detail });
        }
    }

    fn add_record(&mut self, record: &EventsLost<'_>) {
        let mut lines = self.spares.pop().unwrap_or_default();
        Record::from(record).write(&Stamp::agent(Now::read()), &mut lines.bytes);
        lines.records = 1;
        self.pending.push_back(Batch { lines, written: 0 });
    }

    fn recycle(&mut self, mut lines: Lines) {
        if lines.bytes.capacity() <= SPARE_BYTES_MAX && self.spares.len() < SPARES_MAX {
            lines.bytes.clear();
            lines.records = 0;
            self.spares.push(lines);
        }
    }
}

/// Says that the thread is gone, however it went.
struct OnDrop(Arc<Shared>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.set_health(Health::Gone);
    }
}

/// Appends `bytes[written..]`, counting in `written`.
fn append_all(disk: &mut impl Disk, bytes: &[u8], written: &mut usize) -> io::Result<()> {
    while *written < bytes.len() {
        match disk.append(&bytes[*written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => *written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_too_large(result: &io::Result<()>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::FileTooLarge)
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}
