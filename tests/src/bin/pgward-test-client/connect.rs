//! Ways to connect. Each one starts a session, asks the server for the client's address and a mark, and reports who and
//! from where.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pgward_tests::wire::{self, Session};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Arguments, raw, uring};

/// `connect ADDRESS how=NAME mark=TEXT [bind=ADDRESS] [device=NAME] [hold=1]`.
pub(crate) fn run(arguments: &Arguments) -> Result<Value> {
    let how = arguments.option("how")?.to_owned();
    let mark = arguments.option("mark")?.to_owned();
    if how == "thread" {
        let address = arguments.address;
        let thread = std::thread::spawn(move || {
            let stream = blocking(address)?;
            talk(Session::start(stream)?, &mark)
        });
        return thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?;
    }
    let session = match how.as_str() {
        "fastopen-sendto" => fastopen_sendto(arguments.address)?,
        _ => Session::start(open(&how, arguments)?)?,
    };
    talk(session, &mark)
}

/// A connected stream, opened the way `how` says.
pub(crate) fn open(how: &str, arguments: &Arguments) -> Result<TcpStream> {
    let address = arguments.address;
    match how {
        "blocking" => blocking(address),
        "non-blocking" => non_blocking(address),
        "bound-source" => {
            let socket = socket(address)?;
            let source: SocketAddr = arguments.option("bind")?.parse()?;
            socket.bind(&source.into()).context("bind")?;
            finish(socket, address)
        }
        "bound-device" => {
            let socket = socket(address)?;
            socket.bind_device(Some(arguments.option("device")?.as_bytes())).context("device")?;
            finish(socket, address)
        }
        "fastopen-connect" => {
            let socket = socket(address)?;
            raw::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)?;
            finish(socket, address)
        }
        "reconnect" => {
            let socket = socket(address)?;
            raw::connect(&socket, address).context("first connect")?;
            raw::disconnect(&socket).context("disconnect")?;
            finish(socket, address)
        }
        "mptcp" => mptcp(address),
        "io-uring-inline" => uring::connect(uring::Mode::Inline, socket(address)?, address),
        "io-uring-async" => uring::connect(uring::Mode::Async, socket(address)?, address),
        "io-uring-sqpoll" => uring::connect(uring::Mode::KernelPoll, socket(address)?, address),
        _ => bail!("no way to connect called `{how}`"),
    }
}

/// The report on a started session.
fn talk(mut session: Session<TcpStream>, mark: &str) -> Result<Value> {
    let answer = session.value(&format!("select inet_client_addr() || '|{mark}'"))?;
    let report = json!({
        "pid": std::process::id(),
        "tid": raw::thread_id(),
        "answer": answer,
        "source": session.stream.local_addr()?,
        "peer": session.stream.peer_addr()?,
    });
    session.stream.write_all(&wire::terminate())?;
    Ok(report)
}

pub(crate) fn blocking(address: SocketAddr) -> Result<TcpStream> {
    finish(socket(address)?, address)
}

fn non_blocking(address: SocketAddr) -> Result<TcpStream> {
    let socket = socket(address)?;
    socket.set_nonblocking(true)?;
    match raw::connect(&socket, address) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        other => bail!("a non-blocking connect gave {other:?}, expected EINPROGRESS"),
    }
    await_writable(&socket)?;
    let pending = raw::option(&socket, libc::SOL_SOCKET, libc::SO_ERROR)?;
    ensure!(pending == 0, "SO_ERROR is {pending}");
    socket.set_nonblocking(false)?;
    Ok(OwnedFd::from(socket).into())
}

/// The startup message travels with the call that opens the connection.
fn fastopen_sendto(address: SocketAddr) -> Result<Session<TcpStream>> {
    let socket = socket(address)?;
    let hello = wire::startup(&[("user", "postgres"), ("database", "postgres")]);
    let sent = socket
        .send_to_with_flags(&hello, &address.into(), libc::MSG_FASTOPEN)
        .context("sendto with MSG_FASTOPEN")?;
    ensure!(sent == hello.len(), "{sent} of {} bytes sent", hello.len());
    Session::finish_start(OwnedFd::from(socket).into())
}

/// What a client with MPTCP does: tries it, and falls back to TCP when the protocol is refused.
fn mptcp(address: SocketAddr) -> Result<TcpStream> {
    let multipath = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::MPTCP));
    match multipath {
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => blocking(address),
        Err(error) => bail!("an MPTCP socket gave {error}, expected EPROTONOSUPPORT"),
        Ok(_) => bail!("an MPTCP socket was made"),
    }
}

pub(crate) fn socket(address: SocketAddr) -> Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).context("socket")
}

pub(crate) fn await_writable(socket: &impl AsFd) -> Result<()> {
    let mut wanted = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    ensure!(poll(&mut wanted, PollTimeout::from(10_000_u16))? == 1, "not connected in 10 s");
    Ok(())
}

fn finish(socket: Socket, address: SocketAddr) -> Result<TcpStream> {
    raw::connect(&socket, address).with_context(|| format!("connect to {address}"))?;
    Ok(OwnedFd::from(socket).into())
}
