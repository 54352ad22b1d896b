//! How long a record takes: `cargo run --release -p pgward --example record_speed`.
//!
//! Medians of several runs on one thread, in nanoseconds for each record: writing the line into a
//! buffer that is large enough, and the whole way into a log on disk as a worker goes it, clocks
//! included. CPU time of both threads of the latter is given as well, since the disk is not what is
//! measured. Allocations are counted where lines are written.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use pgward::audit::*;
use pgward::config::{Audit, OnFull};

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RUNS: usize = 9;
const RECORDS: u64 = 200_000;
/// Fewer where they go to the log, whose sinks hold 16 MiB.
const LOGGED: u64 = 20_000;

fn main() {
    let writer = Json::render(&serde_json::json!({
        "pid": 4711, "exe": "/usr/lib/postgresql/15/bin/pgbench", "uid": 1000, "container": "web-1"
    }))
    .expect("short");
    let text = b"SELECT abalance FROM pgbench_accounts WHERE aid = 4217833;";
    let simple = statement(text, &writer);
    let values: &[Parameter<'_>] =
        &[Parameter { format: 0, type_oid: 23, value: Some(Excerpt::whole(b"4217833")) }];
    let prepared = Statement {
        kind: StatementKind::Extended,
        text: Excerpt::whole(b"SELECT abalance FROM pgbench_accounts WHERE aid = $1;"),
        name: b"P_0",
        parameters: Parameters::Listed(&values),
        ..simple
    };
    let long = vec![b'x'; 16 << 10];
    let large = statement(&long, &writer);
    // One name as argument runs that case alone, for tools that count instructions of a whole
    // process.
    let only = std::env::args().nth(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    for (name, record) in [("simple", simple), ("prepared", prepared), ("16KiB", large)] {
        if !wanted(name) {
            continue;
        }
        let (nanos, bytes, allocations) = write(&record);
        println!("write {name:10} {nanos:7.0} ns/record {bytes:7} bytes {allocations} allocations");
    }
    if wanted("log") {
        let (wall, cpu) = log(&simple);
        println!(
            "log   {:10} {wall:7.0} ns/record in the worker, {cpu:.0} ns CPU in all",
            "simple"
        );
    }
}

fn statement<'a>(text: &'a [u8], writer: &'a Json) -> Statement<'a> {
    Statement {
        kind: StatementKind::Simple,
        text: Excerpt::of(text, 64 << 10),
        text_state: TextState::Exact,
        client_encoding: None,
        name: b"",
        portal: b"",
        function_oid: None,
        parameters: Parameters::NONE,
        tag: b"SELECT 1",
        rows: 1,
        row_bytes: 11,
        results: &[],
        results_total: 1,
        copy_in: None,
        copy_out: None,
        outcome: Outcome::Completed,
        sqlstate: None,
        commit_sqlstate: None,
        started: Now::read().wall,
        first_response_us: Some(90),
        duration_us: 131,
        transaction: Some(Transaction::Idle),
        writer,
        tier: Tier::T2,
        shared_with: &[],
    }
}

/// Nanoseconds and bytes of a line, and allocations of all lines of the last run.
fn write(record: &Statement<'_>) -> (f64, usize, u64) {
    let mut seq = SessionSeq::new(SessionId { epoch: 0x1234_5678_9abc_def0, counter: 42 });
    let mut out = Vec::with_capacity(1 << 20);
    let mut bytes = 0;
    let mut allocations = 0;
    let nanos = median(|| {
        let (before, begun) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
        let now = Now::read();
        for _ in 0..RECORDS {
            out.clear();
            Record::from(black_box(record)).write(&seq.stamp(now), &mut out);
            bytes = black_box(&out).len();
        }
        let nanos = begun.elapsed().as_nanos() as f64;
        allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        nanos / RECORDS as f64
    });
    (nanos, bytes, allocations)
}

/// Nanoseconds of a record in the worker, and of CPU time in both threads.
fn log(record: &Statement<'_>) -> (f64, f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Audit {
        path: folder.path().join("queries.jsonl"),
        on_full: OnFull::Allow,
        statement_bytes_max: 64 << 10,
        parameter_bytes_max: 4 << 10,
        parameters: pgward::config::Parameters::Record,
        file_bytes_max: 1 << 30,
        ..Audit::default()
    };
    let log = Log::open(&config).expect("opens");
    let sink = log.sink();
    let mut seq = SessionSeq::new(SessionId { epoch: 0x1234_5678_9abc_def0, counter: 42 });
    let mut cpu = Vec::new();
    let wall = median(|| {
        let (begun, cpu_before, written) = (Instant::now(), cpu_nanos(), log.status().records);
        for _ in 0..LOGGED {
            let _recorded = sink.record(&seq.stamp(Now::read()), black_box(record));
        }
        let wall = begun.elapsed().as_nanos() as f64 / LOGGED as f64;
        while log.status().records < written + LOGGED {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        cpu.push((cpu_nanos() - cpu_before) as f64 / LOGGED as f64);
        wall
    });
    assert_eq!(log.status().lost, 0, "a lost record is cheap");
    let mut runs = cpu.into_iter();
    (wall, median(|| runs.next().expect("as many")))
}

fn cpu_nanos() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("our own");
    (usage.user_time() + usage.system_time()).num_nanoseconds()
}

fn median(mut run: impl FnMut() -> f64) -> f64 {
    let mut times: Vec<f64> = (0..RUNS).map(|_| run()).collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}
