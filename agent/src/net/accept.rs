//! Accepts from the listeners of all namespaces.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinHandle};
use tracing::{debug, warn};

use super::worker::{Connection, Counted, Workers};
use crate::{
    audit::{Now, Refused, Sink, Stamp},
    bpf::Maps,
};

/// Pause after an error of `accept` that does not go away by itself (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepting tasks by namespace.
pub struct Acceptors {
    maps: Arc<Maps>,
    workers: Workers,
    sink: Sink,
    tasks: HashMap<u64, Vec<JoinHandle<()>>>,
}

impl Acceptors {
    /// Hands what it accepts to `workers`.
    pub fn new(maps: Arc<Maps>, workers: Workers, sink: Sink) -> Self {
        Self { maps, workers, sink, tasks: HashMap::new() }
    }

    /// Begins to accept in a namespace.
    pub fn open(
        &mut self,
        cookie: u64,
        listeners: Vec<StdListener>,
        sessions: &Arc<AtomicUsize>,
    ) -> io::Result<()> {
        for listener in listeners {
            let accepting = Accepting {
                listener: TcpListener::from_std(listener)?,
                maps: self.maps.clone(),
                workers: self.workers.clone(),
                sink: self.sink.clone(),
                sessions: sessions.clone(),
            };
            self.tasks.entry(cookie).or_default().push(tokio::spawn(accepting.run()));
        }
        Ok(())
    }

    /// Ends it: the listeners are closed when the tasks are gone.
    pub fn close(&mut self, cookie: u64) {
        for task in self.tasks.remove(&cookie).unwrap_or_default() {
            task.abort();
        }
    }

    /// Ends all.
    pub fn close_all(&mut self) {
        let open: Vec<u64> = self.tasks.keys().copied().collect();
        for cookie in open {
            self.close(cookie);
        }
    }
}

struct Accepting {
    listener: TcpListener,
    maps: Arc<Maps>,
    workers: Workers,
    sink: Sink,
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
                    Err(error) => warn!(%error, "cannot take an accepted socket"),
                },
                Err(error) => {
                    warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn hand_over(&self, stream: std::net::TcpStream, peer: SocketAddr) -> bool {
        match self.maps.flow(&stream) {
            Ok(Some(flow)) => {
                let counted = Counted::up(&self.sessions);
                self.workers.give(Connection { stream, flow, counted }).await
            }
            // Nobody redirected it: somebody connected to our port by hand, or the hand-over was lost. Either way there is no
            // identity and no destination.
            Ok(None) => {
                self.refuse(&stream, peer, "no_identity");
                true
            }
            Err(error) => {
                warn!(%error, "cannot read the identity of a connection");
                self.refuse(&stream, peer, "identity_unreadable");
                true
            }
        }
    }

    fn refuse(&self, stream: &std::net::TcpStream, peer: SocketAddr, reason: &str) {
        debug!(%peer, reason, "connection closed");
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        let detail = format!("connection to the agent's port from {peer}");
        let record =
            Refused { reason, detail: Some(&detail), actor: None, destination: None, count: 1 };
        if let Err(error) = self.sink.record(&Stamp::agent(Now::read()), &record) {
            warn!(%error, "refusal not recorded");
        }
    }
}
