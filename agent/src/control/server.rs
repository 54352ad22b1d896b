//! The answering side, part of the agent.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{
    BreakGlass, Caller, GrantAsked, GrantInfo, Hold, HoldInfo, Kill, Killed, Prune, Pruned,
    READ_ARGUMENTS_BYTES_MAX, REQUEST_BYTES_MAX, Request, Response, SessionInfo, Shred, Status,
};

/// How long a client may take to send its request, and then to take its answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// What the agent knows, asked for by [`serve`].
pub trait Handler {
    /// All sessions of now.
    fn sessions(&self) -> impl Future<Output = Vec<SessionInfo>>;
    /// How the agent is.
    fn status(&self) -> impl Future<Output = Status>;
    /// Begins to end the agent. `Err` says why not.
    fn shutdown(&self) -> Result<(), String>;
    /// Records that user `uid` reads the trail; returns when that is durable. `Err` says why not.
    fn audit_read(
        &self,
        uid: u32,
        command: &str,
        arguments: &str,
    ) -> impl Future<Output = Result<(), String>>;
    /// Deletes old segments. `Err` says why not.
    fn audit_prune(&self, uid: u32, prune: Prune) -> impl Future<Output = Result<Pruned, String>>;
    /// Makes values unreadable; gives the number of keys that are gone. `Err` says why not.
    fn audit_shred(&self, uid: u32, shred: &Shred) -> impl Future<Output = Result<u64, String>>;
    /// Sets or lifts a hold. `Err` says why not.
    fn audit_hold(&self, uid: u32, hold: &Hold) -> impl Future<Output = Result<(), String>>;
    /// All holds. `Err` says why they can't be told.
    fn audit_holds(&self) -> impl Future<Output = Result<Vec<HoldInfo>, String>>;
    /// Eases recording; gives the moment when that ends, RFC 3339. `Err` says why not.
    fn audit_break_glass(
        &self,
        uid: u32,
        break_glass: &BreakGlass,
    ) -> impl Future<Output = Result<String, String>>;
    /// Cancels statements or ends sessions. `Err` says why not.
    fn kill(&self, uid: u32, kill: &Kill) -> impl Future<Output = Result<Killed, String>>;
    /// Grants a role for a while, or notes the request. `Err` says why not.
    fn grant(
        &self,
        by: Caller,
        asked: &GrantAsked,
    ) -> impl Future<Output = Result<GrantInfo, String>>;
    /// Approves a request. `Err` says why not.
    fn grant_approve(
        &self,
        by: Caller,
        id: &str,
    ) -> impl Future<Output = Result<GrantInfo, String>>;
    /// Ends a grant; gives what it was. `Err` says why not.
    fn grant_revoke(
        &self,
        by: Caller,
        id: &str,
        reason: &str,
    ) -> impl Future<Output = Result<GrantInfo, String>>;
    /// All grants and requests.
    fn grants(&self) -> impl Future<Output = Vec<GrantInfo>>;
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another agent answers there.
    #[error("another agent answers at `{}`", .0.display())]
    InUse(PathBuf),
    /// Something else is there.
    #[error("not a socket: found something else at `{}`", .0.display())]
    NotASocket(PathBuf),
    /// The system said no.
    #[error("cannot {operation} the control socket `{}`", path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// From the system.
        source: io::Error,
    },
}

/// A bound control socket. Its file goes with it.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

impl Listener {
    /// Binds `path`, mode 0600 from the first moment. A socket that a dead agent left behind is
    /// replaced; the last folder of the path is made, mode 0700, when it is missing. Must be called
    /// inside a tokio runtime with IO.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let error = |operation| {
            move |source| BindError::System { path: path.to_owned(), operation, source }
        };
        make_folder(path).map_err(error("make the folder of"))?;
        remove_stale(path)?;
        let address = SockAddr::unix(path).map_err(error("name"))?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(error("make"))?;
        // Linux gives the file of a socket the mode of the socket itself, less the umask
        // (`unix_bind`, net/unix/af_unix.c).
        let mode = nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR;
        nix::sys::stat::fchmod(&socket, mode)
            .map_err(|errno| error("set the mode of")(errno.into()))?;
        socket.set_nonblocking(true).map_err(error("make"))?;
        socket.bind(&address).map_err(error("bind"))?;
        socket.listen(BACKLOG).map_err(error("listen on"))?;
        let metadata = std::fs::symlink_metadata(path).map_err(error("examine"))?;
        let inode = (metadata.dev(), metadata.ino());
        let listener = UnixListener::from_std(socket.into()).map_err(error("watch"))?;
        Ok(Self { listener, path: path.to_owned(), inode })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(error = %error, "control socket cannot be removed");
        }
    }
}

/// Answers requests, one after the other, until dropped.
///
/// Nobody but root and the agent's user gets that far, so one client at a time is enough; each is
/// bounded in time and size.
pub async fn serve(listener: &Listener, handler: &impl Handler) {
    let own = nix::unistd::geteuid().as_raw();
    serve_admitted(listener, handler, |uid| uid == 0 || uid == own).await;
}

/// As [`serve`], for the users `admitted` names.
pub(super) async fn serve_admitted(
    listener: &Listener,
    handler: &impl Handler,
    admitted: impl Fn(u32) -> bool,
) {
    loop {
        match listener.listener.accept().await {
            Ok((stream, _)) => {
                let fd = stream.as_raw_fd();
                if let Err(error) = answer(stream, handler, &admitted).await {
                    tracing::debug!(error = %error, fd, "control client left");
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "control socket cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    handler: &impl Handler,
    admitted: &impl Fn(u32) -> bool,
) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let uid = peer.uid();
    let response = if admitted(uid) {
        let request = tokio::time::timeout(CLIENT_TIMEOUT, request(&mut stream)).await;
        match request {
            Err(_) => refused("request did not come in time"),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(Err(reason))) => refused(&reason),
            Ok(Ok(Ok(request))) => {
                let by = Caller { uid, login: peer.pid().and_then(login) };
                respond(request, by, handler).await
            }
        }
    } else {
        tracing::warn!(uid, "control request refused: wrong user");
        refused("only root and the agent's user may ask")
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    let write = async {
        stream.write_all(&line).await?;
        stream.shutdown().await
    };
    tokio::time::timeout(CLIENT_TIMEOUT, write).await?
}

/// Reads one line. The inner error is the client's fault.
async fn request(stream: &mut UnixStream) -> io::Result<Result<Request, String>> {
    let mut line = [0; REQUEST_BYTES_MAX];
    let mut length = 0;
    loop {
        let read = stream.read(&mut line[length..]).await?;
        let end = line[length..length + read].iter().position(|byte| *byte == b'\n');
        if let Some(end) = end.map(|end| length + end) {
            if end + 1 < length + read {
                return Ok(Err("more than one line".to_owned()));
            }
            let parsed = serde_json::from_slice(&line[..end]);
            return Ok(parsed.map_err(|error| format!("request not understood: {error}")));
        }
        length += read;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if length == line.len() {
            let reason = format!(
                "request too long: expected at most {REQUEST_BYTES_MAX} bytes with line feed"
            );
            return Ok(Err(reason));
        }
    }
}

/// The user who logged in, of whom a process stems: kept over `su` and `sudo`. `None` where nobody did.
///
/// The process waits for its answer, so that its number is its own; should it have gone, another's user may be taken for it,
/// but nobody is left to be answered then.
fn login(pid: i32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    // As the kernel says that it is not set: `AUDIT_UID_UNSET`.
    text.trim().parse().ok().filter(|login| *login != u32::MAX)
}

async fn respond(request: Request, by: Caller, handler: &impl Handler) -> Response {
    let uid = by.uid;
    let answer = match request {
        Request::Sessions {} => Ok(Response::Sessions { sessions: handler.sessions().await }),
        Request::Status {} => Ok(Response::Status { status: Box::new(handler.status().await) }),
        Request::Shutdown {} => handler.shutdown().map(|()| Response::Accepted {}),
        Request::AuditRead { arguments, .. } if arguments.len() > READ_ARGUMENTS_BYTES_MAX => {
            let found = arguments.len();
            let most = READ_ARGUMENTS_BYTES_MAX;
            Err(format!("arguments too long: found {found} bytes, expected at most {most}"))
        }
        Request::AuditRead { command, arguments } => {
            handler.audit_read(uid, &command, &arguments).await.map(|()| Response::Accepted {})
        }
        Request::AuditPrune { prune } => {
            handler.audit_prune(uid, prune).await.map(|pruned| Response::Pruned { pruned })
        }
        Request::AuditShred { shred } => {
            let erased = handler.audit_shred(uid, &shred).await;
            erased.map(|keys_erased| Response::Shredded { keys_erased })
        }
        Request::AuditHold { hold } => {
            handler.audit_hold(uid, &hold).await.map(|()| Response::Accepted {})
        }
        Request::AuditHolds {} => {
            handler.audit_holds().await.map(|holds| Response::Holds { holds })
        }
        Request::AuditBreakGlass { break_glass } => {
            let until = handler.audit_break_glass(uid, &break_glass).await;
            until.map(|until| Response::BreakGlass { until })
        }
        Request::Kill { kill } => {
            handler.kill(uid, &kill).await.map(|killed| Response::Killed { killed })
        }
        Request::Grant { asked } => {
            handler.grant(by, &asked).await.map(|grant| Response::Grant { grant })
        }
        Request::GrantApprove { id } => {
            handler.grant_approve(by, &id).await.map(|grant| Response::Grant { grant })
        }
        Request::GrantRevoke { id, reason } => {
            let revoked = handler.grant_revoke(by, &id, &reason).await;
            revoked.map(|grant| Response::Grant { grant })
        }
        Request::Grants {} => Ok(Response::Grants { grants: handler.grants().await }),
    };
    answer.unwrap_or_else(|reason| Response::Refused { reason })
}

fn refused(reason: &str) -> Response {
    Response::Refused { reason: reason.to_owned() }
}

fn make_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Removes a socket nobody listens on.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let error = |operation, source| BindError::System { path: path.to_owned(), operation, source };
    match std::fs::symlink_metadata(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(error("examine", source)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(source) if source.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|source| error("replace", source))
        }
        Err(source) => Err(error("try", source)),
    }
}
