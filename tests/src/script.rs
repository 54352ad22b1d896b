//! A scripted PostgreSQL server: it accepts everyone and does what the text of a `Query` tells it.
//!
//! | Query | What the server does |
//! | --- | --- |
//! | `bytes N ...` | one row of `N` bytes `x`, then `ReadyForQuery` |
//! | `silent ...` | nothing |
//! | `fatal ...` | `ErrorResponse` with SQLSTATE `57P01`, then closes |
//! | `close ...` | closes |
//! | `reset ...` | closes with a TCP reset |
//! | anything else | one row with the text itself, then `ReadyForQuery` |

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt::Linger};

use crate::wire;

/// How soon the accept loop notices that the guard is gone, milliseconds.
const LOOK: u8 = 50;

/// The running server. Dropping it closes every connection and joins every thread.
#[derive(Debug)]
pub struct ScriptedServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    accepted: AtomicUsize,
    direct: AtomicUsize,
    connections: Mutex<Vec<TcpStream>>,
    observer: Option<Observer>,
}

/// Told of every query when it arrives, before anything is answered.
struct Observer(Box<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

impl ScriptedServer {
    /// A server on this address; port 0 for a free one.
    pub fn start(address: impl Into<SocketAddr>) -> Result<Self> {
        let address = address.into();
        Self::on(TcpListener::bind(address).with_context(|| format!("binding {address}"))?)
    }

    /// A server on a free port that tells `observer` the text of every query when it arrives, before it answers.
    pub fn watched(observer: impl Fn(&str) + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("binding")?;
        let observer = Some(Observer(Box::new(observer)));
        Self::with(listener, Shared { observer, ..Shared::default() })
    }

    /// A server on a listener made elsewhere, such as in another network namespace.
    pub fn on(listener: TcpListener) -> Result<Self> {
        Self::with(listener, Shared::default())
    }

    fn with(listener: TcpListener, shared: Shared) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(shared);
        let theirs = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &theirs));
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// Address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Queries so far that told their client's own address as `source=ADDRESS.` and came from exactly there: nobody was in
    /// the way.
    pub fn direct(&self) -> usize {
        self.shared.direct.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    use std::os::fd::AsFd;
    let mut threads = Vec::new();
    while !shared.ended.load(Ordering::SeqCst) {
        let _ =
            poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::from(LOOK));
        while let Ok((stream, _)) = listener.accept() {
            shared.accepted.fetch_add(1, Ordering::SeqCst);
            let (Ok(()), Ok(copy)) = (stream.set_nonblocking(false), stream.try_clone()) else {
                continue;
            };
            shared.connections.lock().expect("no thread panics with the lock").push(copy);
            threads.retain(|thread: &JoinHandle<()>| !thread.is_finished());
            let shared = Arc::clone(shared);
            threads.push(std::thread::spawn(move || {
                // The client's side shows what happened; an error here is its half of that.
                let _ = serve(stream, &shared);
            }));
        }
        forget_closed(shared);
    }
    for stream in shared.connections.lock().expect("no thread panics with the lock").drain(..) {
        let _ = stream.shutdown(Shutdown::Both);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// The copies kept for the end must not keep a connection open that its thread has closed.
fn forget_closed(shared: &Shared) {
    let mut connections = shared.connections.lock().expect("no thread panics with the lock");
    connections.retain(|stream| stream.peer_addr().is_ok());
}

fn serve(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let told = format!("source={}.", stream.peer_addr()?);
    start(&mut stream)?;
    while let Some(frame) = wire::read_frame(&mut stream)? {
        if frame.tag == b'X' {
            break;
        }
        if frame.tag != b'Q' {
            continue;
        }
        let text = String::from_utf8_lossy(&frame.body);
        let text = text.trim_end_matches('\0');
        if let Some(Observer(observe)) = &shared.observer {
            observe(text);
        }
        if text.contains(&told) {
            shared.direct.fetch_add(1, Ordering::SeqCst);
        }
        let mut words = text.split_whitespace();
        match words.next().unwrap_or_default() {
            "bytes" => {
                let count = words.next().unwrap_or("0").parse().context("bytes N")?;
                stream.write_all(&answer(&vec![b'x'; count]))?;
            }
            "silent" => {}
            "fatal" => {
                let body = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection on request\0\0";
                stream.write_all(&wire::message(b'E', body))?;
                break;
            }
            "close" => break,
            "reset" => {
                setsockopt(&stream, Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
                return reset(&stream);
            }
            _ => stream.write_all(&answer(text.as_bytes()))?,
        }
    }
    stream.shutdown(Shutdown::Both)?;
    Ok(())
}

fn start(stream: &mut TcpStream) -> Result<()> {
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let code = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let mut rest = vec![0; length.saturating_sub(8).min(10_000)];
        stream.read_exact(&mut rest)?;
        match code {
            wire::SSL_REQUEST | wire::GSSENC_REQUEST => stream.write_all(b"N")?,
            wire::CANCEL_REQUEST => return Ok(()),
            _ => break,
        }
    }
    let hello = [
        wire::message(b'R', &0_u32.to_be_bytes()),
        wire::message(b'S', b"server_version\x0015.0 (scripted)\0"),
        wire::message(b'K', &[0, 0, 4, 210, 1, 2, 3, 4]),
        wire::message(b'Z', b"I"),
    ];
    stream.write_all(&hello.concat())?;
    Ok(())
}

/// `RowDescription`, one `DataRow` with one value, `CommandComplete`, `ReadyForQuery`.
fn answer(value: &[u8]) -> Vec<u8> {
    let mut description = vec![0, 1];
    description.extend(wire::text("value"));
    description.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    let length = u32::try_from(value.len()).expect("scripts ask for little");
    let row = [&[0, 1][..], &length.to_be_bytes(), value].concat();
    [
        wire::message(b'T', &description),
        wire::message(b'D', &row),
        wire::message(b'C', b"SELECT 1\0"),
        wire::message(b'Z', b"I"),
    ]
    .concat()
}

/// How many bytes the server sends for `bytes N`: what a client finds in its socket.
pub fn answer_bytes(count: usize) -> usize {
    answer(&[]).len() + count
}

/// With linger zero a reset goes out when the last descriptor closes, so the copy kept for the end must go as well:
/// disconnecting does it at once, whoever else holds the socket.
fn reset(stream: &TcpStream) -> Result<()> {
    crate::kernel::disconnect(stream).context("disconnecting")?;
    Ok(())
}
