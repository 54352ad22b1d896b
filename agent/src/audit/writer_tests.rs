//! The query log against disks that work and disks that don't.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

use super::disk::Disk;
use super::*;
use crate::config::{Audit, OnFull, Parameters};

const NOW: Now = Now { wall: WallNanos(1_772_323_199_000_000_042), boot: BootNanos(77) };

fn config(path: &Path, on_full: OnFull) -> Audit {
    Audit {
        path: path.to_owned(),
        on_full,
        statement_bytes_max: 1 << 16,
        parameter_bytes_max: 1 << 12,
        parameters: Parameters::Record,
        file_bytes_max: 1 << 30,
        ..Audit::default()
    }
}

/// A folder only its owner may write, and the path of a log in it.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queries.jsonl");
    (folder, path)
}

/// A record that can be told from others by `count`.
fn lost(count: u64) -> EventsLost<'static> {
    EventsLost { source: LostSource::KernelEvents, count, since: None, detail: None }
}

fn put(sink: &Sink, count: u64) -> Result<Recorded, NotRecorded> {
    sink.record(&Stamp::agent(NOW), &lost(count))
}

/// The lines of a file, each of which must be a record.
fn lines(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "ends in the middle of a line");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn counts(text: &str) -> Vec<u64> {
    lines(text).iter().map(|line| line["count"].as_u64().expect("a count")).collect()
}

/// All log files of the folder, oldest first: those set aside carry a time stamp, the one in use
/// comes last.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).expect("UTF-8");
            (entry.file_name().into_string().expect("UTF-8"), text)
        })
        .collect();
    files.sort_by_key(|(name, _)| (name == "queries.jsonl", name.clone()));
    files
}

#[test]
fn writes_what_was_recorded_and_counts_it() {
    let (_folder, path) = folder();
    let log = Log::open(&config(&path, OnFull::Block)).expect("opens");
    let sink = log.sink();
    for count in 0..100 {
        let _recorded = put(&sink, count).expect("recorded");
    }
    assert_eq!((log.torn_tail_bytes(), log.status().health), (0, Health::Good));
    assert_eq!(log.close(), Summary::default());
    let text = std::fs::read_to_string(&path).expect("the log");
    assert_eq!(counts(&text), (0..100).collect::<Vec<_>>());
    assert_eq!(std::fs::metadata(&path).expect("the log").mode() & 0o7777, 0o600);
    assert_eq!(put(&sink, 1).expect_err("closed"), NotRecorded::WriterGone);
}

#[test]
fn appends_to_what_is_there_and_ends_a_torn_line() {
    let (_folder, path) = folder();
    for (before, torn) in [("", 0), ("{}\n", 0), ("{}\n{\"v\":1,\"ev", 10), ("{\"v\":1", 6)] {
        std::fs::write(&path, before).expect("a log");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its mode");
        let log = Log::open(&config(&path, OnFull::Block)).expect("opens");
        assert_eq!(log.torn_tail_bytes(), torn, "{before}");
        let _recorded = put(&log.sink(), 7).expect("recorded");
        log.close();
        let text = std::fs::read_to_string(&path).expect("the log");
        let end = if torn > 0 { "\n" } else { "" };
        let written = text.strip_prefix(&format!("{before}{end}")).expect("kept what was there");
        assert_eq!(counts(written), [7]);
    }
    let long = format!("{{}}\n{}", "x".repeat(10_000));
    std::fs::write(&path, long).expect("a log");
    let log = Log::open(&config(&path, OnFull::Block)).expect("opens");
    assert_eq!(log.torn_tail_bytes(), 10_000, "longer than a block");
}

#[test]
fn sets_files_aside_by_size_and_loses_nothing() {
    let (folder, path) = folder();
    let config = Audit { file_bytes_max: 1_000, ..config(&path, OnFull::Block) };
    for start in [0, 50] {
        let log = Log::open(&config).expect("opens");
        let sink = log.sink();
        for count in start..start + 50 {
            let _recorded = put(&sink, count).expect("recorded");
            while log.status().records <= count - start {
                std::thread::yield_now(); // one batch a record, so that files fill up bit by bit
            }
        }
        log.close();
    }
    let files = files(folder.path());
    assert!(files.len() > 10, "{} files", files.len());
    for (name, text) in &files {
        assert!(text.len() <= 1_000, "{name}: {} bytes", text.len());
        let stamped = name.strip_prefix("queries.20").and_then(|n| n.strip_suffix("Z.jsonl"));
        assert!(name == "queries.jsonl" || stamped.is_some_and(|s| s.len() == 23), "{name}");
    }
    let all: Vec<u64> = files.iter().flat_map(|(_, text)| counts(text)).collect();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
}

#[test]
fn sinks_of_many_threads_never_mix_their_lines() {
    const THREADS: u64 = 4;
    const EACH: u64 = 20_000;
    let (_folder, path) = folder();
    let log = Log::open(&config(&path, OnFull::Block)).expect("opens");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let sink = log.sink();
            scope.spawn(move || {
                for number in 0..EACH {
                    let _recorded = put(&sink, thread * EACH + number).expect("recorded");
                }
            });
        }
    });
    assert_eq!(log.close(), Summary::default());
    let mut counts = counts(&std::fs::read_to_string(&path).expect("the log"));
    for thread in 0..THREADS {
        let own: Vec<u64> = counts.iter().copied().filter(|n| n / EACH == thread).collect();
        assert!(own.is_sorted(), "order of a sink is kept");
    }
    counts.sort_unstable();
    assert!(counts.into_iter().eq(0..THREADS * EACH), "each once");
}

#[test]
fn a_file_that_was_moved_or_removed_is_begun_anew() {
    let (folder, path) = folder();
    let log = Log::open(&config(&path, OnFull::Block)).expect("opens");
    let sink = log.sink();
    let _recorded = put(&sink, 1).expect("recorded");
    while log.status().records < 1 {
        std::thread::yield_now();
    }
    std::fs::rename(&path, folder.path().join("moved.jsonl")).expect("moved");
    // Found out with the sync, at the latest a second after the write.
    while !path.exists() {
        std::thread::yield_now();
    }
    let _recorded = put(&sink, 2).expect("recorded");
    log.close();
    let files = files(folder.path());
    let all: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), counts(text))).collect();
    assert_eq!(all, [("moved.jsonl", vec![1]), ("queries.jsonl", vec![2])]);
}

#[test]
fn folders_and_files_open_to_others_are_refused() {
    let (folder, path) = folder();
    let open = |path: &Path| Log::open(&config(path, OnFull::Block)).map(drop);
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("the mode");
    };
    assert!(matches!(open(&folder.path().join("none/q")), Err(OpenError::Folder { .. })));
    std::fs::write(folder.path().join("file"), "").expect("a file");
    assert!(matches!(open(&folder.path().join("file/q")), Err(OpenError::NotAFolder(_))));
    symlink(folder.path(), folder.path().join("link")).expect("a link");
    assert!(matches!(open(&folder.path().join("link/q")), Err(OpenError::NotAFolder(_))));

    for bad in [0o770, 0o702, 0o1777] {
        mode(folder.path(), bad);
        let error = open(&path).expect_err("open to others");
        assert!(matches!(error, OpenError::FolderOpenToOthers { mode, .. } if mode == bad));
    }
    mode(folder.path(), 0o700);

    std::fs::write(&path, "").expect("a log");
    for bad in [0o604, 0o620, 0o666] {
        mode(&path, bad);
        assert!(matches!(open(&path), Err(OpenError::NotOurs { .. })), "{bad:o}");
    }
    mode(&path, 0o640);
    open(&path).expect("readable for a group of log readers");
    std::fs::hard_link(&path, folder.path().join("second")).expect("a second name");
    assert!(matches!(open(&path), Err(OpenError::NotOurs { .. })));
    std::fs::remove_file(&path).expect("removed");
    symlink(folder.path().join("second"), &path).expect("a link");
    assert!(matches!(open(&path), Err(OpenError::File { operation: "open", .. })));
    std::fs::remove_file(&path).expect("removed");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert!(matches!(open(&path), Err(OpenError::NotOurs { .. })));
}

#[test]
fn two_agents_do_not_share_a_log() {
    let (_folder, path) = folder();
    let config = config(&path, OnFull::Block);
    let first = Log::open(&config).expect("opens");
    let error = Log::open(&config).expect_err("in use");
    assert_eq!(
        error.to_string(),
        format!("query log `{}` is in use by another process", path.display())
    );
    first.close();
    Log::open(&config).expect("free again");
}

/// A disk in memory that fails as told.
#[derive(Clone, Default)]
struct Fake(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    /// Files, the one in use last.
    files: Vec<Vec<u8>>,
    /// Bytes that may still be written before `error`.
    space: Option<usize>,
    error: Option<io::ErrorKind>,
    truncate_fails: bool,
    sync_fails: bool,
    aside_fails: bool,
    /// Writes wait while this is set.
    stalled: bool,
    /// A write waits.
    waiting: bool,
    /// How often something failed.
    failures: u64,
}

impl Fake {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.0.0.lock().expect("no panic under the lock"));
        self.0.1.notify_all();
        result
    }

    /// Waits until `what` holds.
    fn until(&self, what: impl Fn(&State) -> bool) {
        let state = self.0.0.lock().expect("no panic under the lock");
        drop(self.0.1.wait_while(state, |state| !what(state)).expect("no panic under the lock"));
    }

    fn texts(&self) -> Vec<String> {
        let text = |file: &Vec<u8>| String::from_utf8(file.clone()).expect("UTF-8");
        self.with(|state| state.files.iter().map(text).collect())
    }

    /// A log whose thread is stuck in a write of one record, and a sink of it.
    fn stuck_log(&self, on_full: OnFull) -> (Log, Sink) {
        self.with(|state| state.stalled = true);
        let log = self.log(on_full);
        let sink = log.sink();
        let _recorded = put(&sink, 0).expect("nothing is known yet");
        self.until(|state| state.waiting);
        (log, sink)
    }

    fn log(&self, on_full: OnFull) -> Log {
        self.with(|state| state.files.push(Vec::new()));
        let config = Audit { file_bytes_max: 1 << 30, ..config(Path::new("/x/y"), on_full) };
        Log::start(self.clone(), &config, 0).expect("a thread")
    }
}

impl State {
    fn fail(&mut self, fails: bool, kind: io::ErrorKind) -> io::Result<()> {
        self.failures += u64::from(fails);
        if fails { Err(kind.into()) } else { Ok(()) }
    }
}

impl Disk for Fake {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|state| state.waiting = state.stalled);
        self.until(|state| !state.stalled);
        self.with(|state| {
            let room = state.space.unwrap_or(usize::MAX).min(bytes.len());
            if room == 0 {
                let kind = state.error.unwrap_or(io::ErrorKind::StorageFull);
                return state.fail(true, kind).map(|()| 0);
            }
            if let Some(space) = &mut state.space {
                *space -= room;
            }
            state.files.last_mut().expect("one file").extend_from_slice(&bytes[..room]);
            Ok(room)
        })
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.with(|state| {
            state.fail(state.truncate_fails, io::ErrorKind::Other)?;
            state.files.last_mut().expect("one file").truncate(len as usize);
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|state| state.fail(state.sync_fails, io::ErrorKind::Other))
    }

    fn len(&self) -> u64 {
        self.with(|state| state.files.last().expect("one file").len() as u64)
    }

    fn set_aside(&mut self, _now: WallNanos) -> io::Result<()> {
        self.with(|state| {
            state.fail(state.aside_fails, io::ErrorKind::Other)?;
            state.files.push(Vec::new());
            Ok(())
        })
    }

    fn reopen_if_gone(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

/// Waits until the log's health is `health`.
fn until_health(log: &Log, health: Health) {
    while log.status().health != health {
        std::thread::yield_now();
    }
}

#[test]
fn a_full_disk_blocks_and_keeps_everything_until_there_is_space() {
    let disk = Fake::default();
    disk.with(|state| state.space = Some(100)); // less than one line: it is torn and taken back
    let log = disk.log(OnFull::Block);
    let sink = log.sink();
    let _recorded = put(&sink, 1).expect("nothing is known yet");
    until_health(&log, Health::Full);
    assert_eq!(sink.check(), Err(NotRecorded::DiskFull));
    let error = put(&sink, 2).expect_err("full");
    assert_eq!((error, error.sqlstate()), (NotRecorded::DiskFull, *b"53100"));
    assert_eq!(disk.texts(), [""], "the torn line was taken back");
    disk.with(|state| state.space = None);
    until_health(&log, Health::Good);
    sink.check().expect("good again");
    let _recorded = put(&sink, 3).expect("good again");
    assert_eq!(log.close(), Summary::default());
    assert_eq!(disk.texts().iter().map(|text| counts(text)).collect::<Vec<_>>(), [[1, 2, 3]]);
}

#[test]
fn a_torn_line_that_stays_stands_alone() {
    let disk = Fake::default();
    disk.with(|state| {
        state.space = Some(10);
        state.truncate_fails = true;
    });
    let log = disk.log(OnFull::Block);
    let _recorded = put(&log.sink(), 1).expect("nothing is known yet");
    until_health(&log, Health::Full);
    disk.with(|state| state.space = None);
    until_health(&log, Health::Good);
    log.close();
    let texts = disk.texts();
    let (torn, rest) = texts[0].split_once('\n').expect("two lines");
    assert_eq!((torn.len(), counts(rest)), (10, vec![1]));
}

#[test]
fn an_error_of_the_disk_begins_a_new_file() {
    for error in [io::ErrorKind::Other, io::ErrorKind::FileTooLarge] {
        let disk = Fake::default();
        let log = disk.log(OnFull::Block);
        let sink = log.sink();
        let _recorded = put(&sink, 1).expect("recorded");
        while log.status().records < 1 {
            std::thread::yield_now();
        }
        let length = disk.texts()[0].len();
        disk.with(|state| (state.space, state.error) = (Some(length + 20), Some(error)));
        let _recorded = put(&sink, 2).expect("nothing is known yet");
        let _recorded = put(&sink, 3);
        disk.until(|state| state.files.len() > 1);
        disk.with(|state| state.space = None);
        until_health(&log, Health::Good);
        log.close();
        let texts = disk.texts();
        let all: Vec<u64> = texts.iter().flat_map(|text| counts(text)).collect();
        assert_eq!((&all[..], texts.len() > 1), (&[1, 2, 3][..], true), "{error:?}");
    }
}

#[test]
fn a_failed_sync_is_reported_in_a_new_file() {
    let disk = Fake::default();
    let log = disk.log(OnFull::Block);
    disk.with(|state| state.sync_fails = true);
    let _recorded = put(&log.sink(), 1).expect("recorded");
    disk.until(|state| state.files.len() > 1);
    disk.with(|state| state.sync_fails = false);
    while log.status().records < 2 {
        std::thread::yield_now();
    }
    assert_eq!(log.close(), Summary::default());
    let texts = disk.texts();
    assert_eq!(counts(&texts[0]), [1]);
    let report = &lines(&texts[1])[0];
    assert_eq!((&report["source"], &report["count"]), (&"records_unsynced".into(), &1.into()));
}

#[test]
fn allow_goes_on_and_counts_what_is_lost() {
    let disk = Fake::default();
    let (log, sink) = disk.stuck_log(OnFull::Allow);
    let large = "x".repeat(1 << 20);
    let record = EventsLost { detail: Some(&large), ..lost(0) };
    let mut sent = 0;
    while log.status().lost < 3 {
        let _recorded = sink.record(&Stamp::agent(NOW), &record).expect("allowed");
        sent += 1;
    }
    assert!(!sink.saturated());
    sink.check().expect("allowed");
    disk.with(|state| state.stalled = false);
    // The first record, those that were not lost, and the one about the loss.
    let expected = 1 + sent - 3 + 1;
    while log.status().records < expected {
        std::thread::yield_now();
    }
    log.close();
    let all = lines(&disk.texts().concat());
    assert_eq!(all.len() as u64, expected);
    let report: Vec<_> = all.iter().filter(|line| line["source"] == "records").collect();
    assert_eq!(report.len(), 1);
    assert_eq!(report[0]["count"], 3);
    assert_eq!(report[0]["since"], "2026-02-28T23:59:59.000000042Z");
}

#[test]
fn a_slow_disk_is_felt_before_anything_is_lost() {
    let disk = Fake::default();
    let (log, sink) = disk.stuck_log(OnFull::Block);
    let large = "x".repeat(SATURATED_BYTES / 2);
    let record = EventsLost { detail: Some(&large), ..lost(0) };
    while !sink.saturated() {
        let _recorded = sink.record(&Stamp::agent(NOW), &record).expect("recorded");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let ready = sink.ready();
        tokio::pin!(ready);
        let now =
            std::future::poll_fn(|cx| std::task::Poll::Ready(ready.as_mut().poll(cx).is_pending()));
        assert!(now.await, "waits while the disk stalls");
        disk.with(|state| state.stalled = false);
        ready.await.expect("good");
    });
    let _recorded = put(&sink, 1).expect("good");
    assert_eq!(log.close(), Summary::default());
}

#[test]
fn waiting_ends_when_the_disk_turns_out_to_be_broken() {
    let disk = Fake::default();
    let (log, sink) = disk.stuck_log(OnFull::Block);
    let large = "x".repeat(SATURATED_BYTES);
    let record = EventsLost { detail: Some(&large), ..lost(0) };
    while !sink.saturated() {
        let _recorded = sink.record(&Stamp::agent(NOW), &record).expect("recorded");
    }
    disk.with(|state| {
        (state.space, state.aside_fails, state.stalled) = (Some(0), true, false);
        state.error = Some(io::ErrorKind::Other);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let ended = runtime.block_on(sink.ready());
    assert_eq!(ended, Err(NotRecorded::Io));
    assert_eq!(NotRecorded::Io.sqlstate(), *b"58030");
    drop(sink);
    let summary = log.close();
    assert!(summary.unwritten >= 1, "{summary:?}");
}

/// A real full disk: a tmpfs of 64 KiB in a mount namespace that ends with the thread.
#[test]
fn a_real_disk_fills_up_and_is_emptied() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: mounting a tmpfs needs root; the same is tested on a disk in memory");
        return;
    }
    let test = || {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
        let (folder, path) = folder();
        let options = Some("size=64k,mode=0700");
        mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), options)
            .expect("a tmpfs");
        let ballast = folder.path().join("ballast");
        std::fs::write(&ballast, vec![0; 48 << 10]).expect("room for it");
        let log = Log::open(&config(&path, OnFull::Block)).expect("opens");
        let sink = log.sink();
        let mut count = 0;
        while put(&sink, count).is_ok() {
            count += 1;
        }
        assert_eq!(sink.check(), Err(NotRecorded::DiskFull));
        // Whoever makes space this way takes the file in use with it: what is still to come must
        // not vanish in it.
        std::fs::rename(&path, folder.path().join("moved.jsonl")).expect("moved");
        std::fs::remove_file(&ballast).expect("removed");
        nix::mount::mount(none, folder.path(), none, MsFlags::MS_REMOUNT, Some("size=64m"))
            .expect("more space");
        until_health(&log, Health::Good);
        let _recorded = put(&sink, count + 1).expect("good again");
        assert_eq!(log.close(), Summary::default());
        let all: Vec<u64> = files(folder.path()).iter().flat_map(|(_, t)| counts(t)).collect();
        assert!(all.iter().copied().eq(0..count + 2), "each once, in order");
        nix::mount::umount(folder.path()).expect("unmounted");
    };
    std::thread::spawn(test).join().expect("the test's own thread");
}
