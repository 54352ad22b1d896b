//! The store alone: sessions on two workers put what statements put, and wait as statements wait. Nothing is between two
//! statements, and no server takes time, so that `overlap` hides nothing of the disk.

use std::collections::BTreeMap;
use std::fs;
use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use pgward::audit::store::{Directory, Finished, Notice, Settings, Store, Unsealed, Watch};
use pgward::audit::{
    Beside, Class, Clear, Done, Intent, Now, Of, Outcome, Parameter, Parameters, Record, Recorded,
    SessionId, SessionSeq, Sink, StatementKind, Text, TextState, Ticket, Tier, Transaction, Value,
    What, Writers,
};
use pgward::config::{Audit, AuditMode};

use super::super::measure::cpu_seconds;
use super::super::relay::WORKERS;
use crate::run::say;

/// Modes in the order of the table.
pub(super) const MODES: [AuditMode; 4] =
    [AuditMode::Strict, AuditMode::Group, AuditMode::Overlap, AuditMode::Async];

/// Sessions that put and wait.
pub(super) const SESSIONS: [u64; 4] = [1, 16, 64, 256];

const ORIGIN: &str = "bench/00000000-0000-4000-8000-000000000000/1";

/// Bytes beside an intent: one sealed parameter of a few bytes, with its key's number, nonce and tag.
const PAYLOAD: [u8; 112] = [7; 112];

/// One round of one mode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) records_per_second: f64,
    /// Time that a statement waits, half of them at most so long, in microseconds.
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// Of the whole process, for one record.
    pub(super) cpu_us: f64,
    /// Records of one call of `fdatasync`.
    pub(super) batch: f64,
}

/// Figures by number of sessions and mode, one per round.
pub(super) type Results = BTreeMap<(u64, u64), Vec<Figures>>;

/// Measures every mode with every number of sessions, in turns.
pub(super) fn measure(
    folder: &Path,
    rounds: u32,
    seconds: u32,
    results: &mut Results,
) -> Result<()> {
    let mut modes = MODES;
    for round in 0..rounds {
        say(format_args!("== store, round {} of {rounds}", round + 1));
        for sessions in SESSIONS {
            for mode in modes {
                let figures = one(&folder.join("store"), mode, sessions, seconds)?;
                say(format_args!("{mode:?}, {sessions} sessions: {figures:.1?}"));
                results.entry((sessions, mode.number())).or_default().push(figures);
            }
        }
        modes.reverse();
    }
    Ok(())
}

fn one(folder: &Path, mode: AuditMode, sessions: u64, seconds: u32) -> Result<Figures> {
    let opened = Directory::open(folder)?.open_epoch(1, ORIGIN)?;
    let settings = Settings::from(&Audit::default());
    let store = Store::start(opened, settings, Box::new(Unsealed), Arc::new(Quiet))?;
    let own = Some(std::process::id());
    let (before, began) = (cpu_seconds(own)?, Instant::now());
    let until = began + Duration::from_secs(seconds.into());
    let workers: Vec<_> = (0..WORKERS.min(sessions as usize))
        .map(|worker| {
            let sink = store.sink();
            let numbers = (worker as u64..sessions).step_by(WORKERS);
            thread::spawn(move || work(&sink, mode, numbers, until))
        })
        .collect();
    let mut waits = Vec::new();
    for worker in workers {
        waits.extend(worker.join().map_err(|_| anyhow!("a worker panicked"))??);
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds(own)? - before);
    let batches = store.status().batches;
    let summary = store.close();
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    waits.sort_unstable();
    let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied();
    let us = |nanos: Option<u64>| nanos.unwrap_or_default() as f64 / 1e3;
    let records = summary.size as f64;
    Ok(Figures {
        records_per_second: records / took,
        p50_us: us(at(0.5)),
        p99_us: us(at(0.99)),
        cpu_us: cpu * 1e6 / records,
        batch: records / (batches.max(1) as f64),
    })
}

/// One worker with its sessions: gives how long each statement waited, in nanoseconds.
fn work(
    sink: &Sink,
    mode: AuditMode,
    numbers: impl Iterator<Item = u64>,
    until: Instant,
) -> Result<Vec<u64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let tasks: Vec<_> = numbers
        .map(|number| {
            let session = Session { sink: sink.clone(), mode, seq: seq(number) };
            runtime.spawn(session.run(until))
        })
        .collect();
    runtime.block_on(async {
        let mut waits = Vec::new();
        for task in tasks {
            waits.extend(task.await??);
        }
        Ok(waits)
    })
}

fn seq(number: u64) -> SessionSeq {
    SessionSeq::new(SessionId { epoch: 1, counter: number + 1 })
}

struct Session {
    sink: Sink,
    mode: AuditMode,
    seq: SessionSeq,
}

impl Session {
    async fn run(mut self, until: Instant) -> Result<Vec<u64>> {
        let mut waits = Vec::new();
        while Instant::now() < until {
            let began = Instant::now();
            self.statement().await?;
            waits.push(u64::try_from(began.elapsed().as_nanos())?);
            // As a worker polls its other sessions.
            tokio::task::yield_now().await;
        }
        Ok(waits)
    }

    async fn statement(&mut self) -> Result<()> {
        let seq = self.seq.next();
        let parameters = [Parameter {
            format: 0,
            type_oid: 23,
            value: Value::Committed([7; 32]),
            full_bytes: None,
        }];
        let intent = Intent {
            judged: None,
            what: What {
                kind: StatementKind::Extended,
                text: Text { clear: Clear::Ref(2), ..Text::default() },
                text_state: TextState::Exact,
                client_encoding: None,
                name: b"",
                portal: b"",
                function_oid: None,
                parameters: Parameters::Listed(&parameters, None),
                beside: Some(Beside { key_kind: 1, sha256: None }),
                writer: Writers { writer: 0, tier: Tier::T2, shared_with: &[] },
            },
        };
        let ticket = self.put(Class::Ordinary, &intent, &PAYLOAD)?;
        let _: Recorded = poll_fn(|cx| self.sink.poll_may_go(self.mode, ticket, cx)).await?;
        // Here the server works.
        if self.mode == AuditMode::Overlap {
            let _: Recorded = self.sink.durable(ticket).await?;
        }
        let outcome = self.put(Class::Closing, &outcome(seq), &[])?;
        if self.mode == AuditMode::Strict {
            let _: Recorded = self.sink.durable(outcome).await?;
        }
        Ok(())
    }

    fn put<'r>(
        &mut self,
        class: Class,
        record: impl Into<Record<'r>>,
        values: &[u8],
    ) -> Result<Ticket> {
        let stamp = self.seq.stamp(Now::read());
        let put = self.sink.record_beside(class, &stamp, record, values)?;
        self.seq.recorded(&put.leaf);
        Ok(put.ticket)
    }
}

fn outcome(intent: u64) -> Done<'static> {
    Done {
        of: Of::Intent(intent, None),
        outcome: Outcome::Completed,
        sqlstate: None,
        commit_sqlstate: None,
        tag: b"SELECT 1",
        rows: 1,
        row_bytes: 11,
        results: &[],
        results_total: 1,
        copy_in: None,
        copy_out: None,
        first_response_us: Some(90),
        duration_us: 100,
        transaction: Some(Transaction::Idle),
    }
}

/// Hears everything and does nothing.
#[derive(Debug)]
struct Quiet;

impl Watch for Quiet {
    fn notice(&self, notice: Notice) {
        say(format_args!("store: {notice:?}"));
    }

    fn finished(&self, _: &Finished) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_records_and_leaves_nothing_behind() {
        let top = tempfile::tempdir().expect("folder");
        let folder = top.path().join("store");
        for mode in MODES {
            let figures = one(&folder, mode, 3, 1).expect("measured");
            assert!(figures.records_per_second > 0.0 && figures.batch >= 1.0, "{figures:?}");
            assert!(figures.p50_us <= figures.p99_us, "{figures:?}");
            assert!(!folder.exists());
        }
    }
}
