//! Answers that a decision is about: errors replaced, rows withheld, logs of our own statements.

use super::back::Step;
use super::passed::Passed;
use super::plan::{Counted, Instead, is_log};
use super::report::{Event, Outcome};
use super::{Phase, Session};
use crate::pg::backend::{ErrorField, ErrorFieldKind, ErrorHead};
use crate::pg::codec::{HEADER_BYTES, Reader};
use crate::pg::error::{Error, Severity};
use crate::pg::list::Kind as _;

impl Session {
    /// Acts on a message where the front entry has a plan; `None` if it is to be treated as without.
    pub(super) fn answer_planned(
        &mut self,
        now: u64,
        tag: u8,
        seen: &[u8],
        body: u32,
        rest: &[u8],
    ) -> Result<Option<Step>, Error> {
        if self.phase != Phase::Ready || self.owed.plan().is_none() {
            return Ok(None);
        }
        let failed = self.front_failed();
        let Some(plan) = self.owed.plan() else { return Ok(None) };
        match tag {
            b'E' => {
                let head = ErrorHead::read(seen);
                let Some(Instead { said, refused }) = plan.instead_of(head, seen) else {
                    return Ok(None);
                };
                let outcome = if refused { Outcome::Refused } else { Outcome::Failed };
                let told = ErrorHead { severity: Severity::Error, sqlstate: Some(said.sqlstate) };
                self.error(now, told, outcome);
                Ok(Some(self.replace_message(rest, body, said.frame)))
            }
            // The server's log of what was put in a refused statement's place.
            b'N' if plan.refused.is_some() && is_log(severity(seen)) => {
                Ok(Some(self.drop_message(rest, body)))
            }
            b'd' => {
                let admitted = plan.ceiling.as_mut().is_none_or(|ceiling| ceiling.admits(body));
                if admitted || !self.copy.to_client {
                    return Ok(None);
                }
                self.reach_ceiling();
                Ok(Some(self.drop_message(rest, body)))
            }
            // The client is in the middle of a result that does not go on.
            b'c' if plan.withholds() => {
                self.copy.to_client = false;
                Ok(Some(self.drop_message(rest, body)))
            }
            b'C' | b'I' | b's' | b'T' | b'Z' if plan.withholds() && !failed => {
                self.end_at_ceiling(now);
                Ok(Some(Step::Edit(Passed::instead(rest.len(), Vec::new()))))
            }
            _ => Ok(None),
        }
    }

    /// Counts a row that was withheld; the driver is told once.
    pub(super) fn reach_ceiling(&mut self) {
        let Some((front, _)) = self.owed.front_planned() else { return };
        let Some(statement) = front.statement() else { return };
        statement.rows_withheld += 1;
        if statement.rows_withheld == 1 {
            let id = statement.id;
            self.front.cancel_waits = true;
            self.events.push_back(Event::CeilingReached(id));
        }
    }

    /// The server was done with a statement before it was cancelled: the client, which got a part of
    /// the result, must not take it for the whole.
    fn end_at_ceiling(&mut self, now: u64) {
        let reply = self.owed.plan().and_then(|plan| plan.ceiling.as_ref()).map(Counted::too_late);
        let Some(reply) = reply else { return };
        let sqlstate = Some(reply.sqlstate);
        self.settle_copy();
        if let Some((working, _)) = self.owed.pop_planned() {
            self.fail(now, working, sqlstate, Outcome::Failed, None);
        }
        self.terminate(reply);
    }

    /// Withholds a message from the client: what there is of it now, and the rest when it comes.
    pub(super) fn drop_message(&mut self, rest: &[u8], body: u32) -> Step {
        self.replace_message(rest, body, Vec::new())
    }

    /// Others go to the client in the place of a message: what there is of it now is taken, and the
    /// rest when it comes.
    fn replace_message(&mut self, rest: &[u8], body: u32, frame: Vec<u8>) -> Step {
        let taken = rest.len().min(HEADER_BYTES + body as usize);
        self.back_body_left = body - (taken - HEADER_BYTES) as u32;
        self.back_dropping = self.back_body_left > 0;
        Step::Edit(Passed::instead(taken, frame))
    }
}

/// Severity of a notice of which `seen` is the beginning; never localised where the server says so.
fn severity(seen: &[u8]) -> &[u8] {
    let mut reader = Reader::new(seen);
    let mut severity: &[u8] = &[];
    while let Ok(ErrorField { code, text }) = ErrorFieldKind::read(&mut reader) {
        match code {
            b'S' => severity = text,
            b'V' => return text,
            _ => break,
        }
    }
    severity
}
