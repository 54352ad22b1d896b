//! The statement that waits for its decision, and the limits of the session.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot::Receiver,
    time::{Instant, Sleep, sleep_until},
};

use super::{Relay, RelayError, Source};
use crate::{
    audit::Now,
    net::{
        orders::{Became, Order},
        police::{Activity, Analysed, Before, Hit, Look, Police, Ruling, Unconcerned},
        recorder::Judgement,
    },
    pg::{
        error::Reply,
        session::{
            Ceiling, Decision, Event, Forward, Kind, Permit, Ready, Refusal, State, StatementId,
        },
    },
    policy::LimitAction,
};

/// The statement that waits for its decision, and who decides.
pub(super) struct Deciding {
    police: Police,
    undecided: Option<Box<Ready>>,
    /// Its facts are being made.
    analysing: Option<(StatementId, Receiver<Arc<Analysed>>)>,
    /// The server was asked something, and has not answered yet.
    asking: bool,
    /// Something came that a look at the client's bytes was waiting for.
    due: bool,
    /// A cancel request of ours is on its way.
    cancelling: Option<Receiver<Became>>,
    /// What went to the server and is not done, oldest first, with the limit on what it may return.
    under_way: VecDeque<(StatementId, Option<Hit>)>,
    activity: Activity,
    /// Rules of limits in time that were acted on in this activity.
    acted: Vec<Arc<str>>,
    timer: Option<(u64, Pin<Box<Sleep>>)>,
}

impl Deciding {
    pub(super) fn new(police: Police) -> Self {
        Self {
            police,
            undecided: None,
            analysing: None,
            asking: false,
            due: false,
            cancelling: None,
            under_way: VecDeque::new(),
            activity: Activity::Idle(Now::read().boot.0),
            acted: Vec::new(),
            timer: None,
        }
    }

    /// The client's bytes are looked at.
    pub(super) fn looked(&mut self) {
        self.due = false;
    }

    /// Whether facts are being made: the next poll waits for them.
    pub(super) fn is_analysing(&self) -> bool {
        self.analysing.is_some()
    }

    /// Whether the client's bytes are to be looked at again.
    pub(super) fn is_due(&self) -> bool {
        self.due
    }
}

impl<C, S> Relay<C, S>
where
    C: Source,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Takes what the core reports.
    pub(super) fn event(&mut self, event: Event, now: Now) -> Result<(), RelayError> {
        match event {
            Event::StatementReady(ready) => {
                self.deciding.undecided = Some(ready);
                return Ok(());
            }
            Event::Answer(answer) => {
                self.deciding.asking = false;
                self.deciding.due = true;
                self.deciding.police.answered(*answer, now);
                return Ok(());
            }
            Event::CeilingReached(id) => {
                let statement =
                    self.deciding.under_way.iter().find(|(under_way, _)| *under_way == id);
                if let Some(hit) = statement.and_then(|(_, hit)| hit.clone()) {
                    self.recorder.limit(&hit, now)?;
                }
                self.cancel();
                return Ok(());
            }
            Event::StatementDone(ref done) => {
                self.deciding.police.done(done, now);
                let under_way = &mut self.deciding.under_way;
                // Answers come in the order of requests.
                match under_way.front().is_some_and(|(id, _)| *id == done.id) {
                    true => drop(under_way.pop_front()),
                    false => under_way.retain(|(id, _)| *id != done.id),
                }
                if done.transaction.is_some() && self.session.answers_owed() == 0 {
                    self.deciding.police.rests();
                }
                if let Activity::Active(since) = &mut self.deciding.activity {
                    *since = now.boot.0;
                }
            }
            Event::ParameterStatus { ref name, ref value } => {
                self.deciding.police.parameter(name, value);
            }
            Event::Ended { .. } => self.over = true,
            Event::ServerError { .. } | Event::Terminate => {}
        }
        Ok(self.recorder.event(event, now)?)
    }

    /// Statements that were let through under another policy are looked at again. A session whose role is taken away, by another
    /// policy or because a grant has ended, ends.
    pub(super) fn renew(&mut self) {
        let Some(renewed) = self.deciding.police.renewed() else { return };
        if let Some(epoch) = renewed.epoch {
            self.session.decide_under(epoch);
        }
        if renewed.lost_role {
            let text = "terminating connection because its role was taken away";
            let reply = Reply::fatal(*b"57P01", text);
            let detail = "A grant for a while has ended, or the policy gives it no role any more.";
            self.session.terminate(Reply { detail: Some(detail.into()), ..reply });
        }
    }

    /// Decides the statement that waits, if all that takes is there. Returns whether to look at the client's bytes again.
    pub(super) fn decide(&mut self, now: Now) -> Result<bool, RelayError> {
        if self.deciding.asking || self.deciding.analysing.is_some() {
            return Ok(false);
        }
        let Some(ready) = self.deciding.undecided.take() else { return Ok(false) };
        let writers = match self.deciding.police.has_policy() {
            true => self.recorder.wrote(ready.span),
            false => Vec::new(),
        };
        let may_ask = self.session.may_ask();
        let decision = match self.deciding.police.look(&ready, &writers, may_ask, now) {
            Look::Unconcerned => self.let_go(&ready, None, now)?,
            Look::Ruled(ruling) => match ruling.refusal() {
                Some(_) => self.refuse(&ready, &ruling, now)?,
                None => self.let_go(&ready, Some(&ruling), now)?,
            },
            Look::Analysing(facts) => {
                self.deciding.analysing = Some((ready.id, facts));
                self.deciding.undecided = Some(ready);
                return Ok(false);
            }
            Look::Ask(question) => {
                let asked = self.session.ask(question.question());
                self.deciding.asking = asked.is_ok();
                if asked.is_err() {
                    self.deciding.police.not_asked(now);
                }
                self.deciding.undecided = Some(ready);
                return Ok(true);
            }
        };
        self.session.handle_decision(ready.id, decision);
        Ok(true)
    }

    fn refuse(&mut self, ready: &Ready, ruling: &Ruling, now: Now) -> Result<Decision, RelayError> {
        let Some((denial, keep_bytes)) = ruling.refusal() else {
            unreachable!("only what is refused comes here")
        };
        let keep_bytes = if ready.kind == Kind::Simple { keep_bytes } else { 0 };
        let message = denial.message(None);
        let judgement = Judgement::refused(ruling, &message);
        let seq = match keep_bytes {
            0 => self.recorder.denied(ready, &judgement, now)?,
            // What stands in front of it runs.
            _ => self.recorder.goes(ready, Some(&judgement), now)?,
        };
        let reply = ruling.reply(denial, &self.recorder.decision(seq));
        if denial.terminate {
            return Ok(Decision::Terminate(reply));
        }
        if keep_bytes > 0 {
            self.deciding.police.forwarded(ready, ruling);
            self.deciding.under_way.push_back((ready.id, None));
        }
        Ok(Decision::Refuse(Refusal { reply, keep_bytes }))
    }

    fn let_go(
        &mut self,
        ready: &Ready,
        ruling: Option<&Ruling>,
        now: Now,
    ) -> Result<Decision, RelayError> {
        let runs = match ready.kind {
            Kind::Simple | Kind::Execute | Kind::FunctionCall => true,
            Kind::Parse | Kind::Bind | Kind::Describe | Kind::Close => false,
        };
        let before = match runs {
            true => self.deciding.police.before(now),
            false => Before::default(),
        };
        if let Some(hit) = &before.stop {
            return self.stop(ready, hit, now);
        }
        let judgement = ruling.map(Judgement::let_go);
        let seq = self.recorder.goes(ready, judgement.as_ref(), now)?;
        let id = ready.id;
        let forward = match ruling {
            Some(ruling) => ruling.forward(id, || self.recorder.decision(seq)),
            None => Permit::of(id, &Unconcerned).map(Forward::new),
        };
        let Some(mut forward) = forward else { unreachable!("what is not refused is permitted") };
        for hit in &before.told {
            self.recorder.limit(hit, now)?;
            if hit.action == LimitAction::Warn
                && let Some(notice) = self.deciding.police.notice(hit, &self.recorder.decision(seq))
            {
                forward = forward.with_notice(notice);
            }
        }
        if runs {
            let (ceiling, hit) = self.ceiling(ruling, &before, seq).unzip();
            if let Some(ceiling) = ceiling {
                forward = forward.with_ceiling(ceiling);
            }
            self.deciding.under_way.push_back((id, hit));
        }
        if let Some(ruling) = ruling {
            self.deciding.police.forwarded(ready, ruling);
        }
        Ok(Decision::Forward(forward))
    }

    /// A limit is reached that a statement must not go for.
    fn stop(&mut self, ready: &Ready, hit: &Hit, now: Now) -> Result<Decision, RelayError> {
        let told = hit.told();
        let judgement = self.deciding.police.stopped(hit, &told);
        let seq = self.recorder.denied(ready, &judgement, now)?;
        let reply = self.deciding.police.reply(hit, &self.recorder.decision(seq));
        Ok(match hit.action {
            LimitAction::Terminate => Decision::Terminate(reply),
            LimitAction::Observe | LimitAction::Warn | LimitAction::Cancel => {
                Decision::Refuse(Refusal { reply, keep_bytes: 0 })
            }
        })
    }

    /// The tightest of what the policy's grants and the session's limits let pass, and the limit that is told.
    fn ceiling(
        &self,
        ruling: Option<&Ruling>,
        before: &Before,
        seq: u64,
    ) -> Option<(Ceiling, Hit)> {
        let of_grants = ruling.and_then(|ruling| ruling.ceiling(|| self.recorder.decision(seq)));
        let hit = before.rows.as_ref().or(before.bytes.as_ref()).map(|(_, hit)| hit);
        let of_session = hit.map(|hit| {
            let ceiling = Ceiling {
                rows_max: before.rows.as_ref().map(|(rows, _)| *rows),
                bytes_max: before.bytes.as_ref().map(|(bytes, _)| *bytes),
                reply: self.deciding.police.reply(hit, &self.recorder.decision(seq)),
            };
            (ceiling, hit.clone())
        });
        let tighter = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match (of_grants, of_session) {
            (Some((grants, of_grants)), Some((session, of_session))) => {
                let rows_max = tighter(grants.rows_max, session.rows_max);
                let bytes_max = tighter(grants.bytes_max, session.bytes_max);
                let (reply, hit) = match (grants.rows_max, session.rows_max) {
                    (Some(grants_max), Some(session_max)) if session_max < grants_max => {
                        (session.reply, of_session)
                    }
                    _ => (grants.reply, of_grants),
                };
                Some((Ceiling { rows_max, bytes_max, reply }, hit))
            }
            (grants, session) => grants.or(session),
        }
    }

    /// Has the server cancel what runs. The core knows how its error is told.
    fn cancel(&mut self) {
        if self.deciding.cancelling.is_none() {
            self.deciding.cancelling = Some(self.recorder.order(Order::Cancel));
        }
    }

    /// What a decision waits for besides the server. Pending: nothing of the client is looked at meanwhile.
    pub(super) fn poll_deciding(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deciding = &mut self.deciding;
        if let Some(cancelling) = &mut deciding.cancelling
            && Pin::new(cancelling).poll(cx).is_ready()
        {
            deciding.cancelling = None;
            deciding.due = true;
            self.session.handle_cancel_sent();
        }
        if let Some((id, facts)) = &mut deciding.analysing {
            let Poll::Ready(analysed) = Pin::new(facts).poll(cx) else { return Poll::Pending };
            deciding.police.analysed(*id, analysed.ok());
            deciding.analysing = None;
            deciding.due = true;
        }
        Poll::Ready(())
    }

    /// Acts on limits in time that have passed.
    pub(super) fn poll_limits(&mut self, cx: &mut Context<'_>) -> Result<(), RelayError> {
        let Some((_, timer)) = &mut self.deciding.timer else { return Ok(()) };
        if timer.as_mut().poll(cx).is_pending() {
            return Ok(());
        }
        self.deciding.timer = None;
        let now = self.recorder.now();
        let passed: Vec<Hit> = self.deciding.police.passed(self.deciding.activity, now);
        for hit in passed {
            if self.deciding.acted.contains(&hit.rule) {
                continue;
            }
            self.deciding.acted.push(hit.rule.clone());
            let seq = self.recorder.limit(&hit, now)?;
            let reply = self.deciding.police.reply(&hit, &self.recorder.decision(seq));
            match (hit.action, self.deciding.under_way.front().map(|(id, _)| *id)) {
                (LimitAction::Observe | LimitAction::Warn, _) => {}
                (LimitAction::Cancel, Some(id)) => {
                    if self.session.explain_cancel(id, reply) {
                        self.cancel();
                    }
                }
                // Nothing runs that could be cancelled.
                (LimitAction::Cancel | LimitAction::Terminate, _) => self.session.terminate(reply),
            }
        }
        Ok(())
    }

    /// Sets the timer for the next limit in time, if there is one.
    pub(super) fn watch_limits(&mut self, cx: &mut Context<'_>) {
        if !self.deciding.police.limits_time() {
            return;
        }
        let now = self.recorder.now().boot.0;
        let activity = activity(self.session.state(), self.deciding.activity, now);
        if activity != self.deciding.activity {
            self.deciding.activity = activity;
            self.deciding.acted.clear();
        }
        let next = self.deciding.police.next_deadline(activity, &self.deciding.acted);
        let set = self.deciding.timer.as_ref().map(|(at, _)| *at);
        // A timer that rings too early costs one more look.
        if next.is_some_and(|at| set.is_none_or(|set| at < set)) {
            let at = next.unwrap_or_default();
            let left = Duration::from_nanos(at.saturating_sub(now));
            let mut timer = Box::pin(sleep_until(Instant::now() + left));
            if timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            self.deciding.timer = Some((at, timer));
        }
    }
}

/// What the session does now: since when, if that is something else than `before`.
fn activity(state: State, before: Activity, now: u64) -> Activity {
    match (state, before) {
        (State::Startup | State::Idle | State::Closing, Activity::Idle(since)) => {
            Activity::Idle(since)
        }
        (State::Startup | State::Idle | State::Closing, _) => Activity::Idle(now),
        (
            State::IdleInTransaction | State::IdleInFailedTransaction,
            Activity::IdleInTransaction(since),
        ) => Activity::IdleInTransaction(since),
        (State::IdleInTransaction | State::IdleInFailedTransaction, _) => {
            Activity::IdleInTransaction(now)
        }
        (
            State::Active | State::CopyIn | State::CopyOut | State::CopyBoth,
            Activity::Active(since),
        ) => Activity::Active(since),
        (State::Active | State::CopyIn | State::CopyOut | State::CopyBoth, _) => {
            Activity::Active(now)
        }
    }
}
