//! Behind a statement: what became of it.

use std::sync::atomic::Ordering;

use super::Recorder;
use super::statements::{Asked, kind, text_state};
use crate::{
    audit::{Class, Copied, Done, NotRecorded, Now, Of, Outcome, ResultPart, Transaction},
    config::AuditMode,
    pg::{backend::TransactionStatus, session as core},
};

impl Recorder {
    /// Records how a statement ended.
    pub(super) fn outcome(&mut self, done: &core::Statement, now: Now) -> Result<(), NotRecorded> {
        let results: Vec<ResultPart<'_>> = done
            .results
            .iter()
            .map(|result| ResultPart { tag: result.tag.as_bytes(), rows: result.rows })
            .collect();
        let us = |nanos: u64| nanos.saturating_sub(done.started) / 1000;
        let how = self.how(done);
        let of = |of| Done {
            of,
            outcome: how,
            sqlstate: done.sqlstate,
            commit_sqlstate: done.sync_sqlstate,
            tag: done.tag.as_bytes(),
            rows: done.rows,
            row_bytes: done.row_bytes,
            results: &results,
            results_total: done.results_total.into(),
            copy_in: done.copy_in.map(|c| Copied { bytes: c.bytes, rows: c.rows }),
            copy_out: done.copy_out.map(|c| Copied { bytes: c.bytes, rows: c.rows }),
            first_response_us: done.first_response.map(us),
            duration_us: us(done.done),
            transaction: done.transaction.map(transaction),
        };
        let intent = self.statements.take(done.id);
        if intent.is_none() && done.refusal.is_some() {
            // That it was refused is recorded.
            return Ok(());
        }
        let ticket = match intent {
            Some(intent) => {
                let template = of(Of::Intent(intent.seq, None));
                // At tier T1 more may be known by now than when it went.
                let written = self.written(done.span)?;
                let writers = (written != intent.written).then(|| written.writers());
                self.put_beside(
                    Class::Closing,
                    now,
                    &Done { of: Of::Intent(intent.seq, writers), ..template },
                    &[],
                )?
            }
            None => {
                let asked = Asked {
                    kind: kind(done.kind),
                    text: &done.text,
                    text_bytes: done.text_bytes,
                    text_state: text_state(done.text_state),
                    name: done.statement_name(),
                    portal: &done.portal,
                    function: done.function,
                    parameters: done,
                };
                let template = of(Of::Intent(0, None));
                let written = self.written(done.span)?;
                self.describe(&asked, &written, |recorder, what, values| {
                    let record = Done { of: Of::Message(what), ..template };
                    recorder.put_beside(Class::Closing, now, &record, values)
                })?
            }
        };
        if self.mode == AuditMode::Strict {
            self.to_answer = self.to_answer.max(Some(ticket));
        }
        Ok(())
    }

    /// Counts a statement that ended, recorded or not.
    pub(super) fn count(&mut self, done: &core::Statement) {
        self.statements.done += 1;
        let shown = &self.entry.shown;
        shown.statements.fetch_add(1, Ordering::Relaxed);
        shown.rows.fetch_add(done.rows, Ordering::Relaxed);
        self.turns.forget_before(done.span.start);
    }

    /// How it ended, with what only the relay knows: whether its bytes went out at all.
    fn how(&self, done: &core::Statement) -> Outcome {
        let unsent = self.unsent_from.is_some_and(|offset| done.span.start >= offset);
        match done.outcome {
            core::Outcome::Unfinished if unsent => Outcome::Unsent,
            core::Outcome::Completed => Outcome::Completed,
            core::Outcome::Suspended => Outcome::Suspended,
            core::Outcome::Failed | core::Outcome::Refused => Outcome::Failed,
            core::Outcome::Skipped => Outcome::Skipped,
            core::Outcome::Unfinished => Outcome::Unfinished,
            core::Outcome::Unsent => Outcome::Unsent,
        }
    }
}

fn transaction(status: TransactionStatus) -> Transaction {
    match status {
        TransactionStatus::Idle => Transaction::Idle,
        TransactionStatus::Open => Transaction::Open,
        TransactionStatus::Failed => Transaction::Failed,
    }
}
