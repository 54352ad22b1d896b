//! What a session is told from outside of its task: cancel what runs, end when idle, end now.
//!
//! An order is left in the session's [`Orders`], and its bell rung. The session's task looks at one flag whenever it runs
//! anyway, and at more only when that flag is up: sessions without orders pay for a load.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{
    Notify,
    futures::Notified,
    oneshot::{self, Receiver, Sender},
};

/// Askers of one session that wait for an answer at the same time; further ones get none.
const ASKERS_MAX: usize = 64;

/// What a session is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Have the server cancel the statement that runs; the session goes on.
    Cancel,
    /// End as soon as no statement runs and no transaction is open, for this reason.
    Wait(Arc<str>),
    /// End now, for this reason.
    Terminate(Arc<str>),
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// The server got the cancel request. Whether it found something to cancel, the protocol does not tell.
    Cancelled,
    /// Nothing ran that could be cancelled.
    Idle,
    /// The server did not get the cancel request: it gave no key, or could not be reached.
    Failed,
    /// The session has ended.
    Ended,
}

/// Orders to one session.
#[derive(Debug, Default)]
pub struct Orders {
    /// Whether there is anything in `given` that the session has to look at.
    any: AtomicBool,
    given: Mutex<Given>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Given {
    /// Who wants to know what became of a cancel request that was not taken up yet.
    cancels: Vec<Sender<Became>>,
    end: Option<End>,
    /// Who wants to know when the session has ended.
    ended: Vec<Sender<Became>>,
    /// The session has left.
    closed: bool,
}

/// When and why a session is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Idle(Arc<str>),
    Now(Arc<str>),
}

impl Orders {
    /// Leaves an order. The answer comes with [`Receiver`]; an error of it means that nobody will say more. An order to end
    /// stays until the session has ended, and one to end now takes the place of one to wait; the first reason stands.
    pub fn give(&self, order: Order) -> Receiver<Became> {
        let (tell, told) = oneshot::channel();
        let mut given = self.locked();
        if given.closed {
            // The one who asks may have stopped waiting.
            let _ = tell.send(Became::Ended);
            return told;
        }
        let askers = match order {
            Order::Cancel => &mut given.cancels,
            Order::Wait(reason) => {
                given.end.get_or_insert(End::Idle(reason));
                &mut given.ended
            }
            Order::Terminate(reason) => {
                if !matches!(given.end, Some(End::Now(_))) {
                    given.end = Some(End::Now(reason));
                }
                &mut given.ended
            }
        };
        if askers.len() < ASKERS_MAX {
            askers.push(tell);
        }
        // Both under the lock, see `lower`.
        self.any.store(true, Ordering::Relaxed);
        self.bell.notify_one();
        told
    }

    /// Has the session look at what it is allowed, without an order.
    pub fn wake(&self) {
        let _given = self.locked();
        // As with an order: the session lowers it when it has looked.
        self.any.store(true, Ordering::Relaxed);
        self.bell.notify_one();
    }

    /// Whether the session has to look at its orders.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// The session is about to hear the bell out, and then to look at its orders: in this order. An order that is left behind
    /// this raises the flag again, so that the bell which rang with it is heard out too, whoever takes the order. A bell that
    /// rang unheard would not ring again.
    pub fn lower(&self) {
        let given = self.locked();
        self.any.store(given.end.is_some(), Ordering::Relaxed);
    }

    /// Completes when the bell was rung since the last time.
    pub fn rung(&self) -> Notified<'_> {
        self.bell.notified()
    }

    /// Who waits for a cancel request that is to be made now; nobody, when none is.
    pub fn take_cancels(&self) -> Vec<Sender<Became>> {
        std::mem::take(&mut self.locked().cancels)
    }

    /// Why the session is to end now, if it is.
    pub fn end_now(&self) -> Option<Arc<str>> {
        match &self.locked().end {
            Some(End::Now(reason)) => Some(reason.clone()),
            Some(End::Idle(_)) | None => None,
        }
    }

    /// Why the session is to end when it is idle, or now, if it is.
    pub fn end_when_idle(&self) -> Option<Arc<str>> {
        match &self.locked().end {
            Some(End::Now(reason) | End::Idle(reason)) => Some(reason.clone()),
            None => None,
        }
    }

    /// Completes when the session is to end now: with the reason.
    pub async fn ended_now(&self) -> Arc<str> {
        loop {
            if let Some(reason) = self.end_now() {
                return reason;
            }
            self.rung().await;
        }
    }

    /// The session has left: all who wait for that are told.
    pub(super) fn close(&self) {
        let mut given = self.locked();
        given.closed = true;
        let Given { cancels, ended, .. } = &mut *given;
        for tell in cancels.drain(..).chain(ended.drain(..)) {
            // The one who asked may have stopped waiting.
            let _ = tell.send(Became::Ended);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> Arc<str> {
        text.into()
    }

    #[test]
    fn the_sharper_order_to_end_holds_and_the_first_reason_stands() {
        let orders = Orders::default();
        assert!(!orders.any());
        drop(orders.give(Order::Wait(reason("a"))));
        assert_eq!((orders.end_now(), orders.end_when_idle()), (None, Some(reason("a"))));
        drop(orders.give(Order::Terminate(reason("b"))));
        drop(orders.give(Order::Terminate(reason("c"))));
        drop(orders.give(Order::Wait(reason("d"))));
        assert_eq!(
            (orders.end_now(), orders.end_when_idle()),
            (Some(reason("b")), Some(reason("b")))
        );
        assert!(orders.any());
    }

    #[test]
    fn a_cancel_is_taken_once_and_leaves_an_order_to_end() {
        let orders = Orders::default();
        let mut told = orders.give(Order::Cancel);
        drop(orders.give(Order::Cancel));
        assert!(orders.any());
        orders.lower();
        let askers = orders.take_cancels();
        assert_eq!((askers.len(), orders.any()), (2, false));
        for asker in askers {
            let _ = asker.send(Became::Idle);
        }
        assert_eq!(told.try_recv(), Ok(Became::Idle));
        drop(orders.give(Order::Wait(reason("a"))));
        drop(orders.give(Order::Cancel));
        orders.lower();
        assert_eq!(orders.take_cancels().len(), 1);
        assert!(orders.any(), "the session is still to end");
    }

    #[test]
    fn an_order_left_while_the_session_looks_makes_it_look_again() {
        let orders = Orders::default();
        drop(orders.give(Order::Cancel));
        orders.lower();
        // The session has heard the bell out; now another order comes, and is taken with the first.
        drop(orders.give(Order::Cancel));
        assert_eq!(orders.take_cancels().len(), 2);
        assert!(orders.any(), "the bell rang again, which somebody has to hear");
    }

    #[test]
    fn who_asks_hears_of_the_end_also_too_late() {
        let orders = Orders::default();
        let mut all = vec![
            orders.give(Order::Cancel),
            orders.give(Order::Wait(reason("a"))),
            orders.give(Order::Terminate(reason("b"))),
        ];
        orders.close();
        all.push(orders.give(Order::Cancel));
        for mut told in all {
            assert_eq!(told.try_recv(), Ok(Became::Ended));
        }
    }

    #[test]
    fn askers_are_bounded() {
        let orders = Orders::default();
        let all: Vec<_> = (0..=ASKERS_MAX).map(|_| orders.give(Order::Cancel)).collect();
        assert_eq!(orders.take_cancels().len(), ASKERS_MAX);
        assert_eq!(all.len(), ASKERS_MAX + 1);
    }

    #[test]
    fn a_bell_that_rang_before_it_was_waited_for_is_heard() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let orders = Orders::default();
        drop(orders.give(Order::Cancel));
        drop(orders.give(Order::Terminate(reason("b"))));
        assert_eq!(runtime.block_on(orders.ended_now()), reason("b"));
        runtime.block_on(orders.rung());
    }
}
