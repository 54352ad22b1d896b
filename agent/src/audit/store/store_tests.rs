//! The store with its threads, on a real disk.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use super::rig::{Heard, ORIGIN};
use super::*;
use crate::audit::chain::{Hash, leaf_hash};
use crate::config::Audit;

fn settings(segment_bytes: u64) -> Settings {
    Settings { segment_bytes, reserve_bytes: 64 << 10, ..Settings::from(&Audit::default()) }
}

fn start(path: &Path, settings: Settings) -> Store {
    let directory = Directory::open(path).expect("the folder");
    let opened = directory.open_epoch(1, ORIGIN).expect("the epoch");
    let watch = Arc::new(Heard::default());
    Store::start(opened, settings, Box::new(Unsealed), watch).expect("starts")
}

fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit");
    (folder, path)
}

/// Leaves of the log, and whether the last run closed it.
fn read_back(path: &Path) -> (Vec<Hash>, Opened) {
    let directory = Directory::open(path).expect("the folder");
    let opened = directory.open_epoch(1, ORIGIN).expect("the epoch");
    let mut leaves = Vec::new();
    opened
        .leaves(0, |index, leaf| {
            assert_eq!(index, leaves.len() as u64);
            leaves.push(leaf);
        })
        .expect("reads");
    assert_eq!(opened.tree().size(), leaves.len() as u64);
    (leaves, opened)
}

fn text(sink: u64, number: u64) -> String {
    format!("{sink}:{number}")
}

fn put(sink: &Sink, text: &str) -> Put {
    let write = |out: &mut Vec<u8>| out.extend_from_slice(text.as_bytes());
    sink.put(Class::Ordinary, write, b"").expect("put")
}

#[test]
fn ten_thousand_puts_of_four_threads_keep_the_order_of_each_sink() {
    const EACH: u64 = 2_500;
    let (_folder, path) = folder();
    let store = start(&path, settings(64 << 10));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sink = store.sink();
            scope.spawn(move || {
                let tickets: Vec<_> =
                    (0..EACH).map(|number| put(&sink, &text(thread, number)).ticket).collect();
                assert!(tickets.is_sorted());
                let last = tickets.last().expect("some");
                let _recorded = sink.durable_blocking(*last).expect("durable");
            });
        }
    });
    let summary = store.close();
    assert_eq!(summary, Summary { unwritten: 0, size: 4 * EACH });
    let (leaves, opened) = read_back(&path);
    assert!(!opened.crashed() && opened.torn_tail().is_none());
    for thread in 0..4 {
        let mut own = (0..EACH).map(|number| leaf_hash(text(thread, number).as_bytes())).peekable();
        leaves.iter().for_each(|leaf| {
            own.next_if_eq(leaf);
        });
        assert_eq!(own.next(), None, "sink {thread}");
    }
    let names = std::fs::read_dir(path.join("epoch-1")).expect("the epoch").count();
    assert!(names > 3, "several segments");
}

#[test]
fn a_segment_ends_at_its_last_entry_and_the_next_begins_there() {
    let (_folder, path) = folder();
    let entries = SEGMENT_ENTRIES + 10;
    let mut closed = Vec::new();
    for run in 0..2 {
        let store = start(&path, settings(16 << 20));
        let sink = store.sink();
        let mut last = None;
        for number in 0..entries {
            last = Some(put(&sink, &text(run, number)).ticket);
        }
        let _recorded = sink.durable_blocking(last.expect("some")).expect("durable");
        closed.push(store.close().size);
    }
    assert_eq!(closed, [entries, 2 * entries]);
    for first in [0, SEGMENT_ENTRIES, entries, 2 * SEGMENT_ENTRIES] {
        let name = |form| path.join("epoch-1").join(names::segment(first, form));
        let there = [names::Form::Raw, names::Form::Pack].map(|form| name(form).exists());
        assert!(there.contains(&true), "segment {first}");
    }
    let (leaves, _) = read_back(&path);
    assert_eq!(leaves[SEGMENT_ENTRIES as usize], leaf_hash(text(0, SEGMENT_ENTRIES).as_bytes()));
    let (_, opened) = read_back(&path);
    let mut tail = Vec::new();
    opened.leaves(entries - 1, |index, leaf| tail.push((index, leaf))).expect("reads");
    assert_eq!(tail.len() as u64, entries + 1);
    assert_eq!(tail[1], (entries, leaf_hash(text(1, 0).as_bytes())));
}

#[test]
fn a_record_larger_than_a_segment_is_kept() {
    let (_folder, path) = folder();
    let store = start(&path, settings(64 << 10));
    let sink = store.sink();
    let _small = put(&sink, "before");
    let large =
        sink.put(Class::Ordinary, |out| out.resize(out.len() + ENTRY_BYTES_MAX, 1), &[2; 1 << 20]);
    let large = large.expect("put");
    let _small = put(&sink, "behind");
    let _recorded = sink.durable_blocking(large.ticket).expect("durable");
    assert_eq!(store.close().size, 3);
    assert_eq!(read_back(&path).0[1], large.leaf);
}

#[tokio::test]
async fn tasks_are_woken_when_their_record_is_durable() {
    let (_folder, path) = folder();
    let store = start(&path, settings(1 << 20));
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let sink = store.sink();
            tokio::spawn(async move {
                for number in 0..20 {
                    let put = put(&sink, &text(task, number));
                    let _recorded = sink.durable(put.ticket).await.expect("durable");
                    sink.ready().await.expect("not saturated");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let status = store.status();
    assert_eq!((status.entries, status.health, status.lost), (64 * 20, Health::Good, 0));
    assert!(status.batches < 64 * 20, "{} batches: nothing was shared", status.batches);
    drop(store);
    assert_eq!(read_back(&path).0.len(), 64 * 20);
}

#[test]
fn records_that_nobody_waits_for_are_durable_soon_and_share_batches() {
    let (_folder, path) = folder();
    let store = start(&path, settings(1 << 20));
    let sink = store.sink();
    for number in 0..1_000 {
        let _put = put(&sink, &text(0, number));
    }
    while store.status().entries < 1_000 {
        std::thread::yield_now();
    }
    assert!(store.status().batches <= 100, "{} batches", store.status().batches);
}

#[test]
fn sinks_of_a_closed_store_fail() {
    let (_folder, path) = folder();
    let store = start(&path, settings(1 << 20));
    let sink = store.sink();
    let before = put(&sink, "before");
    store.close();
    assert!(sink.durable_blocking(before.ticket).is_ok(), "written before the end");
    let refused = sink.put(Class::Closing, |out| out.push(1), b"");
    assert_eq!(refused, Err(NotRecorded::WriterGone));
    assert_eq!(sink.check(), Err(NotRecorded::WriterGone));
}

/// A chain that adds an entry after each batch, and a last one.
#[derive(Debug, Default)]
struct Sealing {
    sealed: u64,
    due: bool,
}

impl Chain for Sealing {
    fn due(&self) -> Option<Instant> {
        self.due.then(Instant::now)
    }

    fn entry(&mut self, size: u64, root: &Hash, moment: Moment, out: &mut Vec<u8>) -> bool {
        let closing = moment == Moment::Closing;
        if !self.due && !closing {
            return false;
        }
        out.extend_from_slice(format!("seal {} {size} {closing} ", self.sealed).as_bytes());
        out.extend_from_slice(root);
        true
    }

    fn committed(&mut self, leaves: &[Hash], size: u64, _: &Hash) {
        assert!(size >= leaves.len() as u64);
        self.due = !self.due;
        self.sealed += u64::from(!self.due);
    }
}

#[test]
fn seals_hold_the_tree_before_them_and_the_last_one_ends_the_log() {
    let (_folder, path) = folder();
    let directory = Directory::open(&path).expect("the folder");
    let opened = directory.open_epoch(1, ORIGIN).expect("the epoch");
    drop(directory);
    let watch = Arc::new(Heard::default());
    let chain = Box::new(Sealing::default());
    let store = Store::start(opened, settings(1 << 20), chain, watch).expect("starts");
    let sink = store.sink();
    for number in 0..5 {
        let put = put(&sink, &text(0, number));
        let _recorded = sink.durable_blocking(put.ticket).expect("durable");
    }
    let size = store.close().size;
    let (leaves, _) = read_back(&path);
    assert_eq!(leaves.len() as u64, size);
    let seal = |number: u64, at: usize, closing: bool| {
        let mut tree = crate::audit::chain::Tree::new();
        leaves[..at].iter().for_each(|leaf| tree.append(*leaf));
        let text = format!("seal {number} {at} {closing} ");
        leaf_hash(&[text.as_bytes(), &tree.root()].concat())
    };
    assert_eq!(leaves[1], seal(0, 1, false));
    let last = leaves.len() - 1;
    let numbers = 0..leaves.len() as u64;
    assert!(numbers.clone().any(|number| leaves[last] == seal(number, last, true)));
}

/// Set in a process that is to be killed: the folder.
const VICTIM: &str = "PGWARD_STORE_VICTIM";
/// How many times.
const ROUNDS: &str = "PGWARD_STORE_KILLS";

/// A new log is begun after so many.
const ROUNDS_OF_A_LOG: u64 = 25;

/// The process that is killed: puts records from four threads, prints what is durable.
#[test]
fn victim_of_kill() {
    use std::io::Write as _;
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let store = start(Path::new(&path), settings(64 << 10));
    let run = std::process::id();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sink = store.sink();
            scope.spawn(move || {
                for number in 0.. {
                    let text = format!("{run}/{thread}/{number}");
                    let put = put(&sink, &text);
                    if number % 3 == 0 {
                        let _recorded = sink.durable_blocking(put.ticket).expect("durable");
                        // One write, so that a line is there as a whole or not at all.
                        let line = format!("durable {text}\n");
                        std::io::stderr().write_all(line.as_bytes()).expect("the parent reads");
                    }
                }
            });
        }
    });
}

#[test]
fn kill_never_takes_back_what_was_durable() {
    use std::io::{BufRead as _, BufReader};
    let rounds: u64 = std::env::var(ROUNDS).map_or(50, |rounds| rounds.parse().expect("a number"));
    let (mut _folder, mut path) = folder();
    let mut durable = Vec::new();
    let mut random = sim::Random(7);
    for round in 0..rounds {
        if round % ROUNDS_OF_A_LOG == 0 {
            (_folder, path) = folder(); // each round reads the whole log back
            durable.clear();
        }
        let test = std::thread::current().name().expect("tests have names").to_owned();
        let victim = test.replace("kill_never_takes_back_what_was_durable", "victim_of_kill");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", &victim, "--nocapture"])
            .env(VICTIM, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let kill_after = random.next() % 200;
        let mut seen = 0;
        for line in lines {
            let line = line.expect("UTF-8");
            let text =
                line.strip_prefix("durable ").unwrap_or_else(|| panic!("victim says: {line}"));
            durable.push(leaf_hash(text.as_bytes()));
            seen += 1;
            if seen == kill_after + 1 {
                child.kill().expect("killed"); // what was printed until now is still read
            }
        }
        let status = child.wait().expect("ends");
        assert_eq!(status.signal(), Some(9), "round {round}: killed, not ended");
        assert!(seen > kill_after, "round {round}: {seen} durable records");
        let (leaves, opened) = read_back(&path);
        assert_eq!(opened.corrupt(), None, "round {round}");
        let recorded: std::collections::HashSet<_> = leaves.iter().collect();
        assert_eq!(recorded.len(), leaves.len(), "round {round}: twice");
        let lost = durable.iter().filter(|leaf| !recorded.contains(leaf)).count();
        assert_eq!(lost, 0, "round {round}: durable records lost");
    }
}
