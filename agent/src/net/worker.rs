//! Workers: one thread, one single-threaded runtime, and the sessions that were given to it, to their end.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use pgward_common::Flow;
use tokio::{
    net::TcpStream,
    runtime::Builder,
    sync::{mpsc, watch},
    task::LocalSet,
};
use tracing::{error, warn};

use super::{
    dial::Dialer,
    recorder::Recording,
    registry::Registry,
    relay::SCRATCH_BYTES,
    session,
    writers::Writers,
};
use crate::{audit::SessionIds, pg::Limits};

/// Connections on their way from an acceptor to a worker.
const HANDED_OVER_MAX: usize = 1024;

/// What every session of a worker needs.
pub struct Context {
    /// Records.
    pub recording: Recording,
    /// Reaches servers.
    pub dialer: Dialer,
    /// Sessions of all workers.
    pub registry: Arc<Registry>,
    /// Writer changes of all workers.
    pub writers: Arc<Writers>,
    /// Numbers for sessions.
    pub ids: Arc<SessionIds>,
    /// Limits of the protocol core.
    pub limits: Limits,
    /// Most sessions at once, over all workers.
    pub sessions_max: usize,
    /// From connect to the first request.
    pub startup_timeout: Duration,
    /// Turns true when the agent stops.
    pub stop: watch::Receiver<bool>,
    /// Buffer that the sessions of one worker share.
    pub scratch: Scratch,
}

/// The buffer of a worker: lent for the length of one poll, so that sessions at rest own none.
pub struct Scratch(RefCell<Box<[u8]>>);

impl Default for Scratch {
    fn default() -> Self {
        Self(RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()))
    }
}

impl Scratch {
    /// Lends the buffer. Polls of one worker never nest.
    pub fn with<R>(&self, f: impl FnOnce(&mut [u8]) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}

/// A connection for a worker.
pub struct Connection {
    /// Accepted, non-blocking.
    pub stream: std::net::TcpStream,
    /// Who, and where to.
    pub flow: Flow,
    /// Counts the sessions of its namespace: one less when this is dropped.
    pub counted: Counted,
}

/// One more, until it is dropped.
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts up.
    pub fn up(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Gives connections to the worker that has the fewest.
#[derive(Clone)]
pub struct Workers {
    all: Arc<[Worker]>,
}

struct Worker {
    connections: mpsc::Sender<Connection>,
    load: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts a thread for each context.
    pub fn start(contexts: Vec<Context>) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let mut all = Vec::new();
        let mut threads = Vec::new();
        for (number, context) in contexts.into_iter().enumerate() {
            let (connections, receiver) = mpsc::channel(HANDED_OVER_MAX);
            let load = Arc::<AtomicUsize>::default();
            let counted = load.clone();
            let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                if let Err(error) = run(context, receiver, &counted) {
                    error!(%error, "a worker could not start");
                }
            })?;
            all.push(Worker { connections, load });
            threads.push(thread);
        }
        Ok((Self { all: all.into() }, threads))
    }

    /// Hands a connection over; waits when all workers have a full queue. `false`: the workers have ended.
    pub async fn give(&self, connection: Connection) -> bool {
        let Some(worker) = self.all.iter().min_by_key(|w| w.load.load(Ordering::Relaxed)) else {
            return false;
        };
        worker.load.fetch_add(1, Ordering::Relaxed);
        worker.connections.send(connection).await.is_ok()
    }
}

fn run(
    context: Context,
    mut connections: mpsc::Receiver<Connection>,
    load: &Arc<AtomicUsize>,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let context = Rc::new(context);
    let local = LocalSet::new();
    let mut stop = context.stop.clone();
    local.block_on(&runtime, async {
        let mut sessions = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                connection = connections.recv() => {
                    let Some(connection) = connection else { break };
                    let (context, load) = (context.clone(), load.clone());
                    sessions.spawn_local(async move {
                        serve(&context, connection).await;
                        load.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                Some(ended) = sessions.join_next(), if !sessions.is_empty() => {
                    if let Err(fault) = ended && fault.is_panic() {
                        // Its sockets are closed and its place is free; the other sessions go on.
                        error!("a session ended by a fault of the agent");
                        load.fetch_sub(1, Ordering::Relaxed);
                    }
                }
                _ = stop.wait_for(|stopping| *stopping) => break,
            }
        }
        connections.close();
        while sessions.join_next().await.is_some() {}
    });
    Ok(())
}

async fn serve(context: &Context, connection: Connection) {
    let Connection { stream, flow, counted } = connection;
    match TcpStream::from_std(stream) {
        Ok(client) => Box::pin(session::serve(context, client, flow)).await,
        Err(error) => warn!(%error, "cannot watch an accepted socket"),
    }
    drop(counted);
}
