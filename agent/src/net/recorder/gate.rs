//! What must be recorded before bytes go on, in one direction.

use std::task::{Context, Poll};

use crate::audit::{NotRecorded, Recorded, Ticket};

/// Holds the proof that what was let through so far is recorded, or the ticket that it waits for.
///
/// There is no way to the bytes of the direction but through [`Gate::poll`]: what forwards them asks for the [`Recorded`] that
/// only an open gate gives.
#[derive(Debug)]
pub struct Gate {
    recorded: Option<Recorded>,
    waiting: Option<Ticket>,
}

impl Gate {
    /// An open gate: everything so far is recorded.
    pub fn new(recorded: Recorded) -> Self {
        Self { recorded: Some(recorded), waiting: None }
    }

    /// Closes it until `ticket` may pass; a later ticket stands for all before it.
    pub fn close(&mut self, ticket: Option<Ticket>) {
        if ticket.is_some() {
            self.recorded = None;
            self.waiting = self.waiting.max(ticket);
        }
    }

    /// Gives the proof, once `ask` says that the ticket may pass. `ask` registers the caller's waker.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        ask: impl FnOnce(Ticket, &mut Context<'_>) -> Poll<Result<Recorded, NotRecorded>>,
    ) -> Poll<Result<&Recorded, NotRecorded>> {
        if let Some(ticket) = self.waiting {
            match ask(ticket, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(recorded)) => {
                    self.waiting = None;
                    self.recorded = Some(recorded);
                }
            }
        }
        match &self.recorded {
            Some(recorded) => Poll::Ready(Ok(recorded)),
            None => unreachable!("a gate is open or waits for a ticket"),
        }
    }
}
