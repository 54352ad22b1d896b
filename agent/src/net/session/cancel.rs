//! Cancel requests.

use std::{sync::Arc, time::Duration};

use pgward_common::Flow;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};
use tracing::{debug, warn};

use crate::{
    audit::{
        Cancel, CancelOutcome, NotRecorded, Now, Recorded, Stamp,
        ledger::{Connect, Failure},
    },
    net::{
        cancels::{Found, Target},
        dial,
        error::chain,
        identify::Who,
        reach,
        refusals::Refusal,
        throttle::Verdict,
        worker::Context,
    },
    pg::startup,
};

/// From the dial of a cancel request to the server's close: how long the client may have to wait.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);

/// Carries out a request whose key is that of a session; drops all others without a word, as a server does.
pub(super) async fn cancel(
    context: &Context,
    flow: &Flow,
    who: &Arc<Who>,
    request: &startup::Cancel,
    connect: Connect,
) {
    let guesser = (flow.opener.uid, flow.opener.netns_cookie);
    let now = Instant::now();
    let found = match context.guesses.check(&guesser, now) {
        Verdict::Go => context.cancels.find(request.pid, request.key(), now),
        // Also when the key is right: else guessing could go on.
        Verdict::Refused(_) => Found::Ended,
    };
    let record = |target: Option<&Target>, outcome, connect| Cancel {
        actor: &who.full,
        destination: target.map_or_else(|| dial::destination(flow), |t| t.route.address),
        target_pid: request.pid,
        target_session: target.map(|target| target.session),
        outcome,
        connect,
    };
    let number = Some(connect.number());
    let recorded = match found {
        Found::Live(target) => {
            // As with a statement: on record before the server hears of it.
            let forwarded = record(Some(&target), CancelOutcome::Forwarded, number);
            match put(context, &forwarded).await {
                Ok(Recorded { .. }) => match carry_out(context, &target).await {
                    Carried::Forwarded => Ok(()),
                    Carried::Failed => {
                        let failed = record(Some(&target), CancelOutcome::Failed, None);
                        put(context, &failed).await.map(drop)
                    }
                },
                Err(error) => Err(error),
            }
        }
        // Its session was faster, or nothing has this key.
        Found::Ended | Found::Nothing => {
            if matches!(found, Found::Nothing) {
                // Not slowed: nobody waits for an answer, and more than a few are refused.
                let _ = context.guesses.failed(&guesser, now);
                context.registry.cancel_dropped();
            }
            let refusal = refusal(flow);
            if !context.refusals.is_first(&refusal, who) {
                connect.refused(refusal.reason);
                return; // counted: guessing writes no record for each guess
            }
            let refused = record(None, CancelOutcome::Refused, number);
            put(context, &refused).await.map(drop)
        }
    };
    match recorded {
        Ok(()) => connect.cancel(),
        Err(error) => {
            warn!(%error, "cancel request not recorded");
            connect.failed(Failure::NotRecorded);
        }
    }
}

/// Returns when a record is durable, or may be missing as `audit.on_full` says.
async fn put(context: &Context, record: &Cancel<'_>) -> Result<Recorded, NotRecorded> {
    let sink = &context.recording.sink;
    let put = match sink.record(&Stamp::agent(Now::read()), record) {
        Ok(put) => sink.durable(put.ticket).await,
        Err(error) => Err(error),
    };
    put.or_else(|error| sink.without(error))
}

/// What became of a request that was to be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// The server has it.
    Forwarded,
    /// It could not be reached.
    Failed,
}

/// As further ones of the same process within a short time are counted.
fn refusal(flow: &Flow) -> Refusal {
    Refusal {
        reason: "cancel",
        connect: Some(flow.number),
        detail: None,
        actor: Some(flow.opener),
        destination: Some(dial::destination(flow)),
        sqlstate: None,
    }
}

/// Sends the server its own key, from the session's namespace and as encrypted as the session is. Returns when the server has
/// done what it will do, or the agent stops.
pub(super) async fn carry_out(context: &Context, target: &Target) -> Carried {
    let request = startup::Cancel::new(target.pid, &target.server_key.0);
    let Ok(request) = request else { return Carried::Failed };
    let mut outcome = Carried::Failed;
    let forward = async {
        let deadline = Instant::now() + CANCEL_LIMIT;
        let Target { route, flow, encrypted, .. } = target;
        let reached = reach::reach(&context.dialer, flow, route, Some(*encrypted), deadline).await;
        let mut server = match reached {
            Ok(reached) => reached.leg,
            Err(error) => {
                return debug!(error = %chain(&error), "cancel request not forwarded");
            }
        };
        let mut packet = Vec::new();
        request.write(&mut packet).expect("a cancel request is bounded");
        let sent = async {
            server.write_all(&packet).await?;
            server.flush().await
        };
        if let Err(error) = sent.await {
            return debug!(%error, "cancel request not forwarded");
        }
        outcome = Carried::Forwarded;
        // It has done what it will do when it closes; the client waits for that too. Servers close without reading to the end,
        // which may look like a reset.
        let mut answer = [0u8; 64];
        while server.read(&mut answer).await.is_ok_and(|count| count > 0) {}
    };
    tokio::select! {
        biased;
        ended = timeout(CANCEL_LIMIT, forward) => if ended.is_err() {
            debug!("the server did not close behind a cancel request");
        },
        () = context.stop.wait() => {}
    }
    outcome
}
