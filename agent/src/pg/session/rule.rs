//! Decisions carried out: statements that pass, that are replaced, and that end the session.

use std::sync::Arc;

use super::decision::{Decision, Said};
use super::front::Step;
use super::names::Name;
use super::passed::Passed;
use super::pending::Pending;
use super::plan::{Plan, Poisoned, Ruling, poison};
use super::report::{Event, Kind, Outcome, StatementId};
use super::{Held, Phase, Session};
use crate::pg::backend::{Backend, TransactionStatus};
use crate::pg::error::{Reply, Severity};
use crate::pg::frontend::Frontend;

impl Session {
    /// Decides a statement that waits. An `id` that does not wait is ignored, and so is a permit for
    /// another statement.
    pub fn handle_decision(&mut self, id: StatementId, decision: Decision) {
        let Some(held) = self.front.held.as_mut().filter(|held| held.id == id) else { return };
        held.ruling = Some(match decision {
            Decision::Forward(forward) => {
                let (permit, notices, ceiling) = forward.into_parts();
                if permit.id() != id {
                    return;
                }
                if let Pending::Parse { origin: _, prepared } = &mut held.pending {
                    Arc::make_mut(prepared).decided_under = self.epoch;
                }
                Ruling::Forward(Plan::of_forward(&notices, ceiling))
            }
            Decision::Refuse(refusal) => Ruling::Refuse(refusal),
            Decision::Terminate(reply) => Ruling::Terminate(reply),
        });
    }

    /// From now on statements are decided under `epoch`. Prepared statements that were decided
    /// under another, or that are not known, are asked about again at `Bind` and `Describe`, which
    /// otherwise pass: `StatementReady` comes for these messages too.
    ///
    /// With an epoch set, a request waits while answers owed from behind an earlier `Sync` leave
    /// open what its names mean.
    pub fn decide_under(&mut self, epoch: u64) {
        self.epoch = Some(epoch);
    }

    /// The next cancel of statement `id`, which is the driver's own, is told to the client as
    /// `reply`. The driver sends the cancel request then, and says
    /// [`Session::handle_cancel_sent`] when it is done.
    ///
    /// Returns whether the server is working on it: if not, a cancel would hit another.
    pub fn explain_cancel(&mut self, id: StatementId, reply: Reply) -> bool {
        let said = Said::new(reply, Severity::Error);
        let explained = self.phase == Phase::Ready && self.owed.explain_cancel(id, &said);
        self.front.cancel_waits |= explained;
        explained
    }

    /// A cancel request of the driver's own was sent, or was given up: the server closed its
    /// connection. Until then nothing more of the client passes, so that it hits nothing else.
    pub fn handle_cancel_sent(&mut self) {
        self.front.cancel_waits = false;
    }

    /// Ends the session with an error as the last thing the client hears, at the next boundary of
    /// messages. For limits on sessions, too: nothing is waited for.
    pub fn terminate(&mut self, reply: Reply) {
        if self.phase == Phase::Over {
            return;
        }
        let Said { sqlstate, mut frame } = Said::new(reply, Severity::Fatal);
        self.counters.errors += 1;
        self.to_client.append(&mut frame);
        self.phase = Phase::Over;
        self.events.push_back(Event::Ended { sqlstate });
    }

    /// Carries out the decision on the held statement, if it is made and the bytes are in front.
    pub(super) fn pass_held(&mut self, now: u64, rest: &[u8]) -> Step {
        let Some(held) = self.front.held.take() else { return Step::Wait };
        let Some(frame) = rest.get(..held.frame_bytes) else { return self.hold(held) };
        let Held { id: _, frame_bytes: _, ruling, mut pending } = *held;
        match ruling {
            Some(Ruling::Forward(plan)) => {
                self.owe(now, pending, plan);
                Step::Took(frame.len())
            }
            Some(Ruling::Refuse(refusal)) => {
                let kind = pending.kind().unwrap_or(Kind::Simple);
                let poisoned = poison(kind, frame, prepared_name(&pending), refusal);
                let Poisoned { frame: instead, plan } = poisoned;
                mark(&mut pending, &plan);
                self.front.drops_copy = plan.must_fail();
                if plan.must_fail() && self.answers_itself(kind) {
                    self.answer_locally(now, pending, *plan);
                    return Step::Edit(Passed::instead(frame.len(), Vec::new()));
                }
                self.owe(now, pending, Some(plan));
                Step::Edit(Passed::instead(frame.len(), instead))
            }
            Some(Ruling::Terminate(reply)) if self.owed.is_empty() => {
                let said = Said::new(reply.clone(), Severity::Fatal);
                if let Some(mut statement) = pending.into_statement() {
                    statement.refusal = Some(said.sqlstate);
                    statement.sqlstate = Some(said.sqlstate);
                    statement.outcome = Outcome::Refused;
                    statement.done = now;
                    self.flush_done(None, None);
                    self.events.push_back(Event::StatementDone(statement));
                }
                self.terminate(reply);
                Step::Wait
            }
            Some(Ruling::Terminate(reply)) => {
                // The server may keep what it owes to itself until it is asked for it.
                if !std::mem::replace(&mut self.front.flushed, true) {
                    let flush = Frontend::Flush.write(&mut self.front.to_server);
                    flush.expect("it has no fields");
                }
                let ruling = Some(Ruling::Terminate(reply));
                let id = pending.id().unwrap_or(StatementId(0));
                let frame_bytes = frame.len();
                self.hold(Box::new(Held { id, frame_bytes, ruling, pending }))
            }
            None => {
                let id = pending.id().unwrap_or(StatementId(0));
                let frame_bytes = frame.len();
                self.hold(Box::new(Held { id, frame_bytes, ruling: None, pending }))
            }
        }
    }

    fn hold(&mut self, held: Box<Held>) -> Step {
        self.front.held = Some(held);
        Step::Wait
    }

    /// Whether a refusal needs no server: nothing is under way, and the message would have left
    /// nothing behind. A simple `Query` drops the unnamed statement, if there is one.
    fn answers_itself(&self, kind: Kind) -> bool {
        self.is_quiet()
            && match kind {
                Kind::Simple => self.names.statement(&Name::default()).is_none(),
                Kind::FunctionCall => true,
                Kind::Parse | Kind::Bind | Kind::Describe | Kind::Close | Kind::Execute => false,
            }
    }

    fn answer_locally(&mut self, now: u64, pending: Pending, plan: Plan) {
        if let Some(refused) = plan.refused {
            self.to_client.extend_from_slice(&refused.into_frame());
        }
        let ready = Backend::ReadyForQuery(TransactionStatus::Idle).write(&mut self.to_client);
        ready.expect("it has no text");
        self.counters.errors += 1;
        if let Some(mut statement) = pending.into_statement() {
            statement.sqlstate = statement.refusal;
            statement.outcome = Outcome::Refused;
            statement.transaction = Some(TransactionStatus::Idle);
            statement.first_response = Some(now);
            statement.done = now;
            self.events.push_back(Event::StatementDone(statement));
        }
    }
}

/// Notes the refusal where there is a statement to note it at.
fn mark(pending: &mut Pending, plan: &Plan) {
    if let Some(statement) = pending.statement() {
        statement.refusal = plan.refusal();
    }
}

/// Name of the prepared statement that a `Parse` makes; what is put in its place makes it, too, as
/// far as it comes.
fn prepared_name(pending: &Pending) -> &[u8] {
    match pending {
        Pending::Parse { prepared, origin: _ } => &prepared.name,
        // The server would not have come to its name.
        Pending::Malformed(_)
        | Pending::Query(_)
        | Pending::FunctionCall(_)
        | Pending::Execute(_)
        | Pending::Bind { .. }
        | Pending::Describe { .. }
        | Pending::Close { .. }
        | Pending::Sync
        | Pending::Copy(_) => super::plan::POISON_NAME,
    }
}
