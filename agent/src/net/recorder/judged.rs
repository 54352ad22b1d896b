//! What is recorded of a decision.

use std::sync::Arc;

use super::Recorder;
use super::statements::{Asked, kind, text_state};
use crate::{
    audit::{Class, Decided, Denied, Judged, LimitReached, NotRecorded, Now},
    net::{
        identify::Who,
        orders::{Became, Order},
        police::{Hit, Ruling},
    },
    pg::session::{Ready, Span},
    policy::LimitAction,
};

/// A decision, as it is recorded.
#[derive(Clone, Debug)]
pub struct Judgement<'j> {
    /// What was decided.
    pub decided: Decided,
    /// Rules that decided.
    pub rules: Vec<&'j str>,
    /// What the client hears when it is refused.
    pub sqlstate: [u8; 5],
    /// Why it is refused.
    pub reason: &'j str,
    /// The policy.
    pub policy: Option<[u8; 32]>,
    /// It reads, and does nothing else.
    pub pure_read: bool,
}

impl<'j> Judgement<'j> {
    /// Of a statement that goes.
    pub fn let_go(ruling: &'j Ruling) -> Self {
        Self {
            decided: ruling.decided(),
            rules: ruling.rules().iter().map(|rule| &**rule).collect(),
            sqlstate: *b"00000",
            reason: "",
            policy: Some(ruling.policy().0),
            pure_read: ruling.pure_read,
        }
    }

    /// Of one that does not, or not as a whole.
    pub fn refused(ruling: &'j Ruling, reason: &'j str) -> Self {
        Self { sqlstate: *b"42501", reason, pure_read: false, ..Self::let_go(ruling) }
    }

    pub(super) fn judged(&self) -> Judged<'_> {
        Judged { decision: self.decided, rules: &self.rules }
    }
}

impl Recorder {
    /// The processes that wrote a message: the one that most likely did comes first.
    pub fn wrote(&self, span: Span) -> Vec<Arc<Who>> {
        let written = self.turns.of(span.start..span.end);
        let mut all = vec![written.writer.clone()];
        all.extend(written.shared.into_iter().cloned());
        all
    }

    /// A statement goes, as far as it was decided: from here on its bytes wait for its record. Gives the record's `seq`.
    pub fn goes(
        &mut self,
        ready: &Ready,
        judgement: Option<&Judgement<'_>>,
        now: Now,
    ) -> Result<u64, NotRecorded> {
        self.entry.shown.began(kind(ready.kind));
        if !super::RECORDS {
            return Ok(0);
        }
        self.recording.sink.check()?;
        let put = self.intent(ready, judgement, now);
        self.or_without(put).map(|seq| seq.unwrap_or_default())
    }

    /// A statement is refused: the client hears of it when that is recorded. Gives the record's `seq`.
    pub fn denied(
        &mut self,
        ready: &Ready,
        judgement: &Judgement<'_>,
        now: Now,
    ) -> Result<u64, NotRecorded> {
        self.entry.shown.began(kind(ready.kind));
        self.entry.shown.denials.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let put = self.put_denied(ready, judgement, now);
        self.or_without(put).map(|seq| seq.unwrap_or_default())
    }

    fn put_denied(
        &mut self,
        ready: &Ready,
        judgement: &Judgement<'_>,
        now: Now,
    ) -> Result<u64, NotRecorded> {
        let written = self.written(ready.span)?;
        let asked = Asked {
            kind: kind(ready.kind),
            text: &ready.text,
            text_bytes: ready.text_bytes,
            text_state: text_state(ready.text_state),
            name: &ready.name,
            portal: &ready.portal,
            function: ready.function,
            parameters: ready,
        };
        let seq = self.seq.next();
        let ticket = self.describe(&asked, &written, |recorder, what, values| {
            let record = Denied {
                what: *what,
                sqlstate: judgement.sqlstate,
                reason: judgement.reason,
                rules: &judgement.rules,
                policy: judgement.policy.as_ref(),
            };
            recorder.put_beside(Class::Ordinary, now, &record, values)
        })?;
        self.to_answer = self.to_answer.max(Some(ticket));
        Ok(seq)
    }

    /// A limit is reached. Gives the record's `seq`.
    pub fn limit(&mut self, hit: &Hit, now: Now) -> Result<u64, NotRecorded> {
        self.now = now;
        let seq = self.seq.next();
        let detail = hit.told();
        let record = LimitReached {
            decision: match hit.action {
                LimitAction::Observe => Decided::WouldDeny,
                LimitAction::Warn => Decided::Warn,
                LimitAction::Cancel | LimitAction::Terminate => Decided::Deny,
            },
            rules: &[&hit.rule],
            reason: hit.counted,
            detail: &detail,
        };
        let put = self.put(&record).map(|ticket| {
            self.to_answer = self.to_answer.max(Some(ticket));
            seq
        });
        self.or_without(put).map(|seq| seq.unwrap_or_default())
    }

    /// How a decision is named to the client: by the session and the `seq` of its record.
    pub fn decision(&self, seq: u64) -> String {
        format!("{}/{seq}", self.seq.id())
    }

    /// Leaves an order for the session itself.
    pub fn order(&self, order: Order) -> tokio::sync::oneshot::Receiver<Became> {
        self.entry.shown.orders.give(order)
    }
}
