//! Accepts from the listeners of all namespaces.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use pgward_common::Flow;

use tokio::{net::TcpListener, task::JoinHandle};
use tracing::{debug, warn};

use super::{
    dial,
    identify::Who,
    newcomers::{Newcomers, User},
    refusals::{Refusal, Refusals},
    worker::{Connection, Counted, Workers},
};
use crate::{
    audit::ledger::{Connect, Failure, Ledger},
    bpf::Maps,
};

/// Pause after an error of `accept` that does not go away by itself (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Most connections at once, of all namespaces, for `sessions_max` sessions. Connections that are no session yet, or will
/// never be one, count too: clients that are silent, that are told that there is no room, that cancel. As many again as there
/// are sessions is more than a full agent meets when all its clients cancel at once; 64 leave room where few sessions are
/// allowed.
pub const fn connections_max(sessions_max: usize) -> usize {
    sessions_max.saturating_mul(2).saturating_add(64)
}

/// Most connections at once that are not logged in, of one user in one network namespace, of `max` in all: four such users
/// are needed to keep all others out.
const fn newcomers_max(max: usize) -> usize {
    max / 4
}

/// Accepting tasks by namespace.
pub struct Acceptors {
    common: Common,
    tasks: HashMap<u64, Vec<JoinHandle<()>>>,
}

impl Acceptors {
    /// Hands what it accepts to `workers`, at most [`connections_max`] at once.
    pub fn new(
        maps: Arc<Maps>,
        workers: Workers,
        refusals: Arc<Refusals>,
        ledger: Arc<Ledger>,
        sessions_max: usize,
    ) -> Self {
        let (connections, max) = (Arc::default(), connections_max(sessions_max));
        let newcomers = Newcomers::new(newcomers_max(max));
        let common = Common {
            maps,
            workers,
            refusals,
            ledger,
            connections,
            connections_max: max,
            newcomers,
        };
        Self { common, tasks: HashMap::new() }
    }

    /// Begins to accept in a namespace, at all of its listeners or, with an error, at none.
    pub fn open(
        &mut self,
        cookie: u64,
        listeners: Vec<StdListener>,
        sessions: &Arc<AtomicUsize>,
    ) -> io::Result<()> {
        let listeners: Vec<TcpListener> =
            listeners.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?;
        let tasks = self.tasks.entry(cookie).or_default();
        for listener in listeners {
            let (common, sessions) = (self.common.clone(), sessions.clone());
            tasks.push(tokio::spawn(Accepting { listener, common, sessions }.run()));
        }
        Ok(())
    }

    /// Ends it: the listeners are closed when the tasks are gone.
    pub fn close(&mut self, cookie: u64) {
        for task in self.tasks.remove(&cookie).unwrap_or_default() {
            task.abort();
            self.common.ledger.listener_closed();
        }
    }

    /// Ends all.
    pub fn close_all(&mut self) {
        for task in self.tasks.drain().flat_map(|(_, tasks)| tasks) {
            task.abort();
        }
    }
}

/// What all accepting tasks have in common.
#[derive(Clone)]
struct Common {
    maps: Arc<Maps>,
    workers: Workers,
    refusals: Arc<Refusals>,
    ledger: Arc<Ledger>,
    connections: Arc<AtomicUsize>,
    connections_max: usize,
    newcomers: Arc<Newcomers>,
}

struct Accepting {
    listener: TcpListener,
    common: Common,
    /// Connections of the namespace.
    sessions: Arc<AtomicUsize>,
}

impl Accepting {
    async fn run(self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => match stream.into_std() {
                    Ok(stream) => {
                        if !self.hand_over(stream, peer).await {
                            return;
                        }
                    }
                    Err(error) => {
                        warn!(%error, "cannot take an accepted socket");
                        // Whether it had a number is not known; nearly all have.
                        self.common.ledger.take(0).failed(Failure::IdentityUnreadable);
                    }
                },
                Err(error) => {
                    warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn hand_over(&self, stream: std::net::TcpStream, peer: SocketAddr) -> bool {
        let common = &self.common;
        let flow = match common.maps.flow(&stream) {
            Ok(Some(flow)) => flow,
            // Nobody redirected it: somebody connected to our port by hand, or the hand-over was lost. Either way there is no
            // identity and no destination.
            Ok(None) => {
                self.refuse(&stream, None, "no_identity", by_hand(peer));
                return true;
            }
            Err(error) => {
                warn!(%error, "cannot read the identity of a connection");
                common.ledger.take(0).failed(Failure::IdentityUnreadable);
                self.refuse(&stream, None, "identity_unreadable", by_hand(peer));
                return true;
            }
        };
        let connect = common.ledger.take(flow.number);
        let Some(counted) = Counted::up_to(common.connections_max, &common.connections) else {
            let detail = format!("at most {} connections at once", common.connections_max);
            self.refuse(&stream, Some((&flow, connect)), "connections_max", detail);
            return true;
        };
        let Some(newcomer) = common.newcomers.admit(User::of(&flow.opener)) else {
            let detail = format!(
                "at most {} connections at once of one user in one network namespace that are not \
                 logged in",
                common.newcomers.max()
            );
            self.refuse(&stream, Some((&flow, connect)), "connections_max", detail);
            return true;
        };
        let counted = [counted, Counted::up(&self.sessions)];
        let _blocked = common.ledger.block();
        common.workers.give(Connection { stream, flow, connect, counted, newcomer }).await
    }

    fn refuse(
        &self,
        stream: &std::net::TcpStream,
        redirected: Option<(&Flow, Connect)>,
        reason: &'static str,
        detail: String,
    ) {
        debug!(detail, reason, "connection closed");
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        let refusal = Refusal {
            reason,
            detail: Some(detail),
            connect: redirected.as_ref().map(|(_, connect)| connect.number()),
            actor: redirected.as_ref().map(|(flow, _)| flow.opener),
            destination: redirected.as_ref().map(|(flow, _)| dial::destination(flow)),
            sqlstate: None,
        };
        // The kernel's event has to do: looking the process up would keep the others waiting.
        self.common.refusals.add(refusal, |actor| Arc::new(Who::told(actor)));
        if let Some((_, connect)) = redirected {
            connect.refused(reason);
        }
    }
}

fn by_hand(peer: SocketAddr) -> String {
    format!("connection to the agent's port from {peer}")
}
