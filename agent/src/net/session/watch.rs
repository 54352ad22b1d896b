//! What ends a session beside its relay: the agent's stop and orders from outside.
//!
//! The relay runs for every message of every session, so that nothing here may cost anything while there is nothing to say:
//! bells are polled once, which leaves the task's waker with them, and again only when a flag says that they rang.
//!
//! A deadline (an idle session, a statement that runs too long, the end of business hours) belongs here too: a moment that is
//! compared with the clock that the relay has read anyway, and a timer that wakes the task, polled like the bells. What it
//! comes to are the same two ends: [`Ending`], or a cancel request as [`Order::Cancel`](crate::net::orders::Order) makes it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use tokio::{sync::oneshot::Sender, task::unconstrained};

use super::{
    cancel::{self, Carried},
    ending::Ending,
};
use crate::net::{
    cancels::Target, leg::Leg, orders::Became, registry::Shown, relay::Relay, worker::Context,
};

/// A session that is watched.
pub(super) struct Watched<'s> {
    /// Of its worker.
    pub(super) context: &'s Context,
    /// What it shows, with its orders.
    pub(super) shown: &'s Shown,
    /// How it is cancelled; `None` when the server gave no key.
    pub(super) target: Option<&'s Arc<Target>>,
}

/// A cancel request under way, and who wants to know about it.
struct Cancelling<'s> {
    request: Pin<Box<dyn Future<Output = Carried> + Send + 's>>,
    askers: Vec<Sender<Became>>,
}

/// Relays until one of the two sides, the agent or an order ends the session.
pub(super) async fn until_end(relay: &mut Relay<Leg, Leg>, session: &Watched<'_>) -> Ending {
    let stop = &session.context.stop;
    let orders = &session.shown.orders;
    let mut stopped = pin!(stop.wait());
    let mut rung = pin!(orders.rung());
    let mut cancelling = None;
    let mut registered = false;
    poll_fn(|cx| {
        if !registered || stop.is_stopping() || orders.any() {
            registered = true;
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ending::Stopped);
            }
            orders.lower();
            while rung.as_mut().poll(cx).is_ready() {
                rung.set(orders.rung());
            }
            if let Some(reason) = orders.end_now() {
                return Poll::Ready(Ending::Killed(reason));
            }
            session.take_cancels(&mut cancelling);
        }
        if let Poll::Ready(end) = relay.poll(cx) {
            return Poll::Ready(Ending::Relayed(end));
        }
        poll_cancelling(&mut cancelling, cx);
        // Only now: what the session shows is what the relay left.
        if orders.any()
            && session.shown.is_idle()
            && let Some(reason) = orders.end_when_idle()
        {
            return Poll::Ready(Ending::Killed(reason));
        }
        Poll::Pending
    })
    .await
}

impl<'s> Watched<'s> {
    /// Begins the cancel request that is asked for, if one is. There is one at a time: who asks meanwhile is told of it.
    fn take_cancels(&self, cancelling: &mut Option<Cancelling<'s>>) {
        let askers = self.shown.orders.take_cancels();
        if askers.is_empty() {
            return;
        }
        match (cancelling, self.target) {
            (Some(under_way), _) => under_way.askers.extend(askers),
            // It could hit the next statement, which nobody meant.
            (None, _) if !self.shown.is_active() => tell(askers, Became::Idle),
            (None, None) => tell(askers, Became::Failed),
            (none, Some(target)) => {
                // The relay may use up all that a task is given for one turn, as long as rows come: this must go on all the same.
                let request = unconstrained(cancel::carry_out(self.context, target));
                let request = Box::pin(request);
                *none = Some(Cancelling { request, askers });
            }
        }
    }
}

fn poll_cancelling(cancelling: &mut Option<Cancelling<'_>>, cx: &mut TaskContext<'_>) {
    let Some(under_way) = cancelling else { return };
    let Poll::Ready(carried) = under_way.request.as_mut().poll(cx) else { return };
    let became = match carried {
        Carried::Forwarded => Became::Cancelled,
        Carried::Failed => Became::Failed,
    };
    if let Some(done) = cancelling.take() {
        tell(done.askers, became);
    }
}

/// Who asked may have stopped waiting.
fn tell(askers: Vec<Sender<Became>>, became: Became) {
    for asker in askers {
        let _ = asker.send(became);
    }
}
