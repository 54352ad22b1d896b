//! Network namespaces: a listener in each that dials, and sockets made inside.
//!
//! One dedicated thread does every `setns`; no task of a worker ever changes its namespace. A namespace is opened when the
//! kernel side reports it (its SYNs are held meanwhile) and closed when no process is in it and no session belongs to it: the
//! agent's own sockets would otherwise keep it alive for ever.
//!
//! The report names a process. Before anything is done in the namespace of that process, a socket made there must show the
//! cookie that the kernel reported: the process may have moved on, or its pid may be another's by now.
//!
//! A namespace that can't be opened is refused for the length of one hold: its connects fail at once, and are not searched for
//! in all of `/proc` at each retry of a SYN. Then it is forgotten, and the next connect there is the next attempt.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use crate::bpf::{MapError, Maps, sys};

/// Commands waiting for the thread. Beyond, reports wait in the ring buffer and dials wait for their turn.
const COMMANDS_MAX: usize = 1024;
/// Connections waiting to be accepted, per listener; the kernel caps it with `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Shortest time between two looks at all namespaces.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Processes looked at when the one that was reported is gone.
const PROCESSES_MAX: usize = 65_536;

/// Why a namespace could not be opened, or a socket not be made in it.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// Nobody is in it any more.
    #[error("no process is left in the namespace")]
    Gone,
    /// A system call failed inside of it.
    #[error("{call} failed in the namespace")]
    System {
        /// The call.
        call: &'static str,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The kernel side could not be told.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The thread has ended: the agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

fn system(call: &'static str) -> impl FnOnce(io::Error) -> NamespaceError {
    move |source| NamespaceError::System { call, source }
}

/// What became of a namespace.
#[derive(Debug)]
pub enum Change {
    /// The agent listens: accept from these.
    Opened {
        /// Cookie.
        cookie: u64,
        /// Inode of the namespace.
        inode: u64,
        /// Port of the listeners.
        port: u16,
        /// IPv4 and, where the namespace has it, IPv6.
        listeners: Vec<TcpListener>,
        /// To be counted up for each session of this namespace, and down at its end.
        sessions: Arc<AtomicUsize>,
        /// How long the first connect was held.
        held: Duration,
        /// Whether `lo` was down and was brought up.
        loopback_was_down: bool,
    },
    /// It could not be opened: connects there fail for the length of a hold.
    Failed {
        /// Cookie.
        cookie: u64,
        /// Why.
        error: NamespaceError,
    },
    /// Nobody was left in it: drop its listeners.
    Closed {
        /// Cookie.
        cookie: u64,
        /// Inode.
        inode: u64,
    },
}

/// Orders for the thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Namespaces {
    commands: SyncSender<Command>,
    given_up: Arc<Mutex<Vec<u64>>>,
    own_cookie: u64,
}

#[derive(Debug)]
enum Command {
    Open {
        cookie: u64,
        tgid: u32,
        tid: u32,
        since: Instant,
    },
    Socket {
        cookie: u64,
        domain: Domain,
        reply: oneshot::Sender<Result<Socket, NamespaceError>>,
    },
    /// Look at what was given up.
    GiveUp,
}

/// Settings of the thread.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Port to listen on; another one is taken where it is in use.
    pub port: u16,
    /// A namespace without processes and sessions is closed after this.
    pub idle: Duration,
    /// A namespace that can't be opened is refused for this long.
    pub hold: Duration,
}

impl Namespaces {
    /// Starts the thread. Changes come through the receiver.
    pub fn start(
        maps: Arc<Maps>,
        settings: Settings,
    ) -> Result<(Self, mpsc::Receiver<Change>), NamespaceError> {
        let probe = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(system("socket"))?;
        let own_cookie =
            sys::netns_cookie(&probe).map_err(system("getsockopt(SO_NETNS_COOKIE)"))?;
        let own = File::open("/proc/self/ns/net").map_err(system("open"))?;
        let (commands, orders) = sync_channel(COMMANDS_MAX);
        let (changes, receiver) = mpsc::channel(COMMANDS_MAX);
        let given_up = Arc::<Mutex<Vec<u64>>>::default();
        let keeper = Keeper {
            maps,
            settings,
            changes,
            own,
            own_cookie,
            open: HashMap::new(),
            refused: HashMap::new(),
            given_up: given_up.clone(),
        };
        thread::Builder::new()
            .name("namespaces".into())
            .spawn(move || keeper.run(&orders))
            .map_err(system("clone"))?;
        Ok((Self { commands, given_up, own_cookie }, receiver))
    }

    /// Cookie of the agent's own namespace.
    pub fn own_cookie(&self) -> u64 {
        self.own_cookie
    }

    /// Opens a namespace that the kernel side reported, found through a process that was in it. Blocks while the queue is
    /// full: the report then waits in the ring buffer.
    pub fn open(&self, cookie: u64, tgid: u32, tid: u32) {
        // An error means that the thread has ended, and with it the agent.
        let _ = self.commands.send(Command::Open { cookie, tgid, tid, since: Instant::now() });
    }

    /// Takes back that a namespace is open: its listeners can't be served. Never blocks, as whoever calls this is the one who
    /// takes the thread's changes.
    pub fn give_up(&self, cookie: u64) {
        locked(&self.given_up).push(cookie);
        // Without room for this the thread has enough to do, and looks before each command.
        let _ = self.commands.try_send(Command::GiveUp);
    }

    /// A TCP socket in the namespace `cookie`, non-blocking. The caller may use it from any thread.
    pub async fn socket(&self, cookie: u64, domain: Domain) -> Result<Socket, NamespaceError> {
        if cookie == self.own_cookie {
            return tcp_socket(domain);
        }
        let (reply, answer) = oneshot::channel();
        let mut command = Command::Socket { cookie, domain, reply };
        loop {
            match self.commands.try_send(command) {
                Ok(()) => break,
                Err(std::sync::mpsc::TrySendError::Full(back)) => {
                    command = back;
                    tokio::task::yield_now().await;
                }
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => {
                    return Err(NamespaceError::Stopping);
                }
            }
        }
        answer.await.map_err(|_| NamespaceError::Stopping)?
    }
}

fn tcp_socket(domain: Domain) -> Result<Socket, NamespaceError> {
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
        .map_err(system("socket"))?;
    Ok(socket)
}

/// The thread's state.
struct Keeper {
    maps: Arc<Maps>,
    settings: Settings,
    changes: mpsc::Sender<Change>,
    own: File,
    own_cookie: u64,
    open: HashMap<u64, Open>,
    /// Until when. Bounded like the map that the kernel side reports from.
    refused: HashMap<u64, Instant>,
    given_up: Arc<Mutex<Vec<u64>>>,
}

struct Open {
    handle: File,
    inode: u64,
    port: u16,
    v6: bool,
    sessions: Arc<AtomicUsize>,
    /// A process seen in it, asked first before all others are.
    witness: u32,
    idle_since: Option<Instant>,
}

impl Keeper {
    fn run(mut self, orders: &Receiver<Command>) {
        let pause = (self.settings.idle / 2).max(PAUSE_MIN);
        let mut sweep_at = Instant::now() + pause;
        loop {
            let next = self.refused.values().fold(sweep_at, |next, until| next.min(*until));
            match orders.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Command::Open { cookie, tgid, tid, since }) => {
                    self.open(cookie, tgid, tid, since);
                }
                Ok(Command::Socket { cookie, domain, reply }) => {
                    let _ = reply.send(self.socket(cookie, domain));
                }
                Ok(Command::GiveUp) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.take_back();
            let now = Instant::now();
            self.end_refusals(now);
            if now >= sweep_at {
                self.sweep();
                sweep_at = now + pause;
            }
        }
    }

    /// Namespaces whose listeners nobody serves.
    fn take_back(&mut self) {
        let given_up = std::mem::take(&mut *locked(&self.given_up));
        for cookie in given_up {
            self.open.remove(&cookie);
            self.refuse(cookie);
        }
    }

    /// Lets connects in a namespace fail for the length of a hold.
    fn refuse(&mut self, cookie: u64) {
        match self.maps.namespace_refused(cookie) {
            Ok(()) => {
                self.refused.insert(cookie, Instant::now() + self.settings.hold);
            }
            Err(error) => warn!(%error, "cannot refuse a namespace"),
        }
    }

    fn end_refusals(&mut self, now: Instant) {
        let maps = &self.maps;
        self.refused.retain(|cookie, until| {
            let over = *until <= now;
            if over && let Err(error) = maps.namespace_forgotten(*cookie) {
                warn!(%error, "cannot forget a namespace");
            }
            !over
        });
    }

    fn open(&mut self, cookie: u64, tgid: u32, tid: u32, since: Instant) {
        if let Some(known) = self.open.get(&cookie) {
            // Two reports of one namespace, or its entry went from under us: either way the kernel side must know that it is
            // open, or it holds SYNs that nobody will release.
            debug!(cookie, inode = known.inode, "namespace is open already");
            if let Err(error) = self.maps.namespace_ready(cookie, known.port, known.v6) {
                warn!(%error, "cannot say that a namespace is open");
            }
            return;
        }
        let change = match self.try_open(cookie, tgid, tid, since) {
            Ok(change) => change,
            Err(error) => {
                self.refuse(cookie);
                Change::Failed { cookie, error }
            }
        };
        self.tell(change);
    }

    fn try_open(
        &mut self,
        cookie: u64,
        tgid: u32,
        tid: u32,
        since: Instant,
    ) -> Result<Change, NamespaceError> {
        let handle = self.find(cookie, tgid, tid)?;
        let inode = handle.metadata().map_err(system("fstat"))?.ino();
        self.enter(&handle)?;
        let probe = tcp_socket(Domain::IPV4)?;
        let loopback_was_down = sys::loopback_up(&probe).map_err(system("ioctl(SIOCSIFFLAGS)"))?;
        let (first, port) = self.listen_v4()?;
        let mut listeners = vec![first];
        listeners.extend(self.listen_v6(port));
        for listener in &listeners {
            self.maps.tag_listener(listener, cookie)?;
        }
        let v6 = listeners.len() > 1;
        self.maps.namespace_ready(cookie, port, v6)?;
        let sessions = Arc::new(AtomicUsize::new(0));
        self.open.insert(
            cookie,
            Open {
                handle,
                inode,
                port,
                v6,
                sessions: sessions.clone(),
                witness: tgid,
                idle_since: None,
            },
        );
        let held = since.elapsed();
        Ok(Change::Opened { cookie, inode, port, listeners, sessions, held, loopback_was_down })
    }

    /// A handle of the namespace with this cookie: that of the reported task if it is still there, else that of any process.
    fn find(&self, cookie: u64, tgid: u32, tid: u32) -> Result<File, NamespaceError> {
        let task = PathBuf::from(format!("/proc/{tgid}/task/{tid}/ns/net"));
        let process = PathBuf::from(format!("/proc/{tgid}/ns/net"));
        for path in [task, process, PathBuf::from("/proc/self/ns/net")] {
            if let Some(handle) = self.matching(&path, cookie)? {
                return Ok(handle);
            }
        }
        let mut tried = HashSet::new();
        for pid in processes() {
            let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
            let fresh = fs::metadata(&path).is_ok_and(|m| tried.insert(m.ino()));
            if fresh && let Some(handle) = self.matching(&path, cookie)? {
                return Ok(handle);
            }
        }
        Err(NamespaceError::Gone)
    }

    fn matching(&self, path: &Path, cookie: u64) -> Result<Option<File>, NamespaceError> {
        let Ok(handle) = File::open(path) else { return Ok(None) };
        if self.enter(&handle).is_err() {
            return Ok(None);
        }
        let probe = tcp_socket(Domain::IPV4)?;
        let found = sys::netns_cookie(&probe).map_err(system("getsockopt(SO_NETNS_COOKIE)"))?;
        Ok((found == cookie).then_some(handle))
    }

    fn enter(&self, handle: &File) -> Result<(), NamespaceError> {
        setns(handle.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|e| system("setns")(e.into()))
    }

    fn listen_v4(&self) -> Result<(TcpListener, u16), NamespaceError> {
        let at = |port| listen(Domain::IPV4, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let listener = match at(self.settings.port) {
            // Somebody has our port. The held SYNs were sent to it and stay held; later connects go to the other port.
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => at(0),
            other => other,
        }
        .map_err(system("listen"))?;
        let port = listener.local_addr().map_err(system("getsockname"))?.port();
        Ok((listener, port))
    }

    /// Namespaces without IPv6 have no `::1`: the kernel side then uses the IPv4-mapped address.
    fn listen_v6(&self, port: u16) -> Option<TcpListener> {
        listen(Domain::IPV6, SocketAddr::from((Ipv6Addr::LOCALHOST, port)))
            .inspect_err(|error| debug!(%error, "no IPv6 listener"))
            .ok()
    }

    fn socket(&self, cookie: u64, domain: Domain) -> Result<Socket, NamespaceError> {
        if cookie == self.own_cookie {
            self.enter(&self.own)?;
        } else {
            self.enter(&self.open.get(&cookie).ok_or(NamespaceError::Gone)?.handle)?;
        }
        tcp_socket(domain)
    }

    /// Closes namespaces that nobody is in and no session belongs to.
    fn sweep(&mut self) {
        let now = Instant::now();
        let mut inhabited: Option<HashMap<u64, u32>> = None;
        let mut closed = Vec::new();
        for (cookie, namespace) in &mut self.open {
            if *cookie == self.own_cookie {
                continue;
            }
            let witnessed = inode_of(namespace.witness) == Some(namespace.inode)
                || match inhabited.get_or_insert_with(inodes).get(&namespace.inode) {
                    Some(pid) => {
                        namespace.witness = *pid;
                        true
                    }
                    None => false,
                };
            if witnessed || namespace.sessions.load(Ordering::Relaxed) > 0 {
                namespace.idle_since = None;
            } else if now.duration_since(*namespace.idle_since.get_or_insert(now))
                >= self.settings.idle
            {
                closed.push(*cookie);
            }
        }
        for cookie in closed {
            // First the kernel side: from here on a connect there reports the namespace and is held.
            if let Err(error) = self.maps.namespace_forgotten(cookie) {
                warn!(%error, "cannot forget a namespace");
                continue;
            }
            if let Some(namespace) = self.open.remove(&cookie) {
                self.tell(Change::Closed { cookie, inode: namespace.inode });
            }
        }
        // A thread that stays inside of a namespace keeps it alive.
        if let Err(error) = self.enter(&self.own) {
            warn!(%error, "cannot return to the agent's own namespace");
        }
    }

    fn tell(&self, change: Change) {
        // An error means that the agent is stopping.
        let _ = self.changes.blocking_send(change);
    }
}

/// A list is whole whatever happens to who holds it.
fn locked(list: &Mutex<Vec<u64>>) -> MutexGuard<'_, Vec<u64>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(domain: Domain, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    // Sessions of an earlier agent may linger in TIME_WAIT on this port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .take(PROCESSES_MAX)
}

fn inode_of(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|m| m.ino())
}

/// Namespaces that have processes, each with one of them.
fn inodes() -> HashMap<u64, u32> {
    processes().filter_map(|pid| Some((inode_of(pid)?, pid))).collect()
}
