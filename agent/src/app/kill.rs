//! Carries out `pgward kill`: chooses sessions, records, and gives the orders.

use std::time::Duration;

use tokio::{sync::oneshot::Receiver, time::Instant};
use tracing::info;

use super::control;
use crate::{
    audit::{Kill as Record, NotRecorded, Now, Recorded, Sink, Stamp},
    control::{Became, Kill, KillAction, KillError, Killed, KilledSession},
    net::{
        orders::{self, Order},
        registry::Registry,
    },
};

/// How long orders wait for their record.
const RECORD_WAITS: Duration = Duration::from_secs(30);
/// How long the answer waits for what becomes of all sessions together. Those that take longer are told, and do it later.
const ANSWER_WAITS: Duration = Duration::from_secs(3);

/// Why no session was told anything.
#[derive(Debug, thiserror::Error)]
pub(super) enum KillFailure {
    /// What is asked for.
    #[error(transparent)]
    Asked(#[from] KillError),
    /// It could not be recorded.
    #[error("nothing was done: it could not be recorded")]
    NotRecorded(#[from] NotRecorded),
    /// It was not recorded in time.
    #[error("nothing was done: the audit trail is too slow")]
    Slow,
}

/// What carrying it out needs.
pub(super) struct Killer<'k> {
    pub(super) registry: &'k Registry,
    pub(super) sink: Sink,
}

impl Killer<'_> {
    /// Tells the chosen sessions, once that is on record, and waits a little for what becomes of them.
    pub(super) async fn kill(&self, uid: u32, kill: &Kill) -> Result<Killed, KillFailure> {
        kill.check()?;
        let now = Now::read().wall;
        let mut chosen = Vec::new();
        for session in self.registry.all() {
            let info = control::info(&session, now);
            if kill.chosen.matches(&info) {
                chosen.push((session, info));
            }
        }
        let action = kill.action;
        if kill.dry_run {
            let sessions = chosen
                .into_iter()
                .map(|(_, session)| KilledSession { became: Became::Untouched, session });
            return Ok(Killed { dry_run: true, action, sessions: sessions.collect() });
        }
        self.record(uid, kill, chosen.len()).await?;
        let reason = kill.reason.as_deref().unwrap_or_default();
        let order = match action {
            KillAction::Cancel => Order::Cancel,
            KillAction::Wait => Order::Wait(reason.into()),
            KillAction::Terminate => Order::Terminate(reason.into()),
        };
        let told: Vec<_> = chosen
            .into_iter()
            .map(|(session, info)| (session.orders.give(order.clone()), info))
            .collect();
        let deadline = Instant::now() + ANSWER_WAITS;
        let mut sessions = Vec::with_capacity(told.len());
        for (answer, session) in told {
            let became = match action {
                // It may be a long time until a session is idle: only what has happened already is told.
                KillAction::Wait => became(answer, Instant::now()).await,
                KillAction::Cancel | KillAction::Terminate => became(answer, deadline).await,
            };
            sessions.push(KilledSession { became, session });
        }
        info!(uid, action = action.name(), sessions = sessions.len(), "sessions were told");
        Ok(Killed { dry_run: false, action, sessions })
    }

    async fn record(&self, uid: u32, kill: &Kill, sessions: usize) -> Result<(), KillFailure> {
        let (scope, target) = kill.chosen.named();
        let record = Record {
            reason: kill.reason.as_deref(),
            sessions: sessions as u64,
            by_uid: uid,
            action: kill.action.name(),
            scope: &scope,
            target: &target,
        };
        let put = self.sink.record_closing(&Stamp::agent(Now::read()), &record)?;
        let durable = tokio::time::timeout(RECORD_WAITS, self.sink.durable(put.ticket)).await;
        let Recorded { .. } = durable.map_err(|_| KillFailure::Slow)??;
        Ok(())
    }
}

async fn became(answer: Receiver<orders::Became>, deadline: Instant) -> Became {
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(Ok(orders::Became::Cancelled)) => Became::Cancelled,
        Ok(Ok(orders::Became::Idle)) => Became::Idle,
        Ok(Ok(orders::Became::Failed)) => Became::Failed,
        Ok(Ok(orders::Became::Ended)) => Became::Ended,
        // Too many ask about it at once, or it takes longer.
        Ok(Err(_)) | Err(_) => Became::Told,
    }
}
