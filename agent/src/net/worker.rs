//! Workers: one thread, one single-threaded runtime, and the sessions that were given to it, to their end.

use std::{
    cell::RefCell,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use pgward_common::Flow;
use tokio::{
    net::TcpStream,
    runtime::Builder,
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tracing::{error, warn};
use zeroize::Zeroizing;

use super::{
    cancels::Cancels,
    destinations::Destinations,
    dial::Dialer,
    newcomers::Newcomer,
    police,
    recorder::Recording,
    refusals::Refusals,
    registry::Registry,
    relay::SCRATCH_BYTES,
    session,
    throttle::{GuesserKey, Known, LoginKey, ProcessKey, RoleKey, Throttle},
    writers::Writers,
};
use crate::{
    audit::{SessionIds, ledger::Connect},
    pg::Limits,
    sql::facts::STACK_BYTES,
};

/// Connections on their way from an acceptor to a worker.
const HANDED_OVER_MAX: usize = 1024;

/// What every session of a worker needs.
pub struct Context {
    /// Records.
    pub recording: Recording,
    /// Records of clients that are sent away.
    pub refusals: Arc<Refusals>,
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
    /// What decides on statements.
    pub police: Arc<police::Shared>,
    /// What is configured for servers, and loaded.
    pub destinations: Arc<Destinations>,
    /// Keys that cancel, of all workers.
    pub cancels: Arc<Cancels>,
    /// Failed logins by process: its id and start.
    pub process_failures: Arc<Throttle<ProcessKey>>,
    /// Failed logins by network namespace, server and role.
    pub role_failures: Arc<Throttle<RoleKey>>,
    /// Processes that logged in: id and start, server, role.
    pub known_logins: Arc<Known<LoginKey>>,
    /// Cancel requests with keys that nobody has, by user and network namespace.
    pub guesses: Arc<Throttle<GuesserKey>>,
    /// Of the agent's run: what the salts of unknown users are made of.
    pub mock_seed: Arc<Zeroizing<[u8; 32]>>,
    /// Says when the agent stops.
    pub stop: Arc<Stop>,
}

/// The agent's end, as sessions see it: a flag that costs nothing to look at, and a bell.
#[derive(Debug, Default)]
pub struct Stop {
    stopping: AtomicBool,
    bell: Notify,
}

impl Stop {
    /// Tells everybody.
    pub fn ring(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.bell.notify_waiters();
    }

    /// Whether it was told.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Completes when it is told.
    pub async fn wait(&self) {
        let told = self.bell.notified();
        tokio::pin!(told);
        told.as_mut().enable(); // from here on the bell is not missed
        if !self.stopping.load(Ordering::SeqCst) {
            told.await;
        }
    }
}

thread_local! {
    /// The buffer that the sessions of one worker share, lent for the length of one poll: sessions at rest own none.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Lends the worker's buffer. Polls of one worker never nest.
pub(super) fn with_scratch<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|buffer| f(buffer))
}

/// A connection for a worker.
pub struct Connection {
    /// Accepted, non-blocking.
    pub stream: std::net::TcpStream,
    /// Who, and where to.
    pub flow: Flow,
    /// Its place in the ledger.
    pub connect: Connect,
    /// Counts it among those of its namespace, and of the agent: one less of each when this is dropped.
    pub counted: [Counted; 2],
    /// Counts it among those that are not logged in, until it is.
    pub newcomer: Newcomer,
}

/// One more, until it is dropped.
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts up.
    pub fn up(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self::of(counter)
    }

    /// Counts up, unless there are `max` already.
    pub fn up_to(max: usize, counter: &Arc<AtomicUsize>) -> Option<Self> {
        let up = |count| (count < max).then_some(count + 1);
        counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, up).ok()?;
        Some(Self::of(counter))
    }

    /// Takes over one that was counted already.
    fn of(counter: &Arc<AtomicUsize>) -> Self {
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
            // It analyses statements: address space, of which only what is touched takes memory.
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            let thread = builder.name(format!("worker-{number}")).spawn(move || {
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
    let context = Arc::new(context);
    runtime.block_on(async {
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                connection = connections.recv() => {
                    let Some(connection) = connection else { break };
                    sessions.spawn(serve(context.clone(), connection, Counted::of(load)));
                }
                Some(ended) = sessions.join_next(), if !sessions.is_empty() => {
                    if ended.is_err_and(|fault| fault.is_panic()) {
                        // Its sockets are closed and its places are free; the other sessions go on.
                        error!("a session ended by a fault of the agent");
                    }
                }
                () = context.stop.wait() => break,
            }
        }
        connections.close();
        while sessions.join_next().await.is_some() {}
    });
    Ok(())
}

async fn serve(context: Arc<Context>, connection: Connection, _load: Counted) {
    let Connection { stream, flow, connect, counted: _counted, newcomer } = connection;
    match TcpStream::from_std(stream) {
        Ok(client) => session::serve(&context, client, flow, connect, newcomer).await,
        Err(error) => warn!(%error, "cannot watch an accepted socket"),
    }
}
