//! Ways in which a connect can end that are no sessions.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use pgward_tests::wire::Session;
use serde_json::{Value, json};
use socket2::Socket;

use crate::{Arguments, connect, raw};

/// `end ADDRESS how=NAME [count=N] [agent=PID]`: makes connects end that way, `count` times. Reports how many connects there
/// were.
pub(crate) fn run(arguments: &Arguments) -> Result<Value> {
    let address = arguments.address;
    let count =
        if arguments.options.contains_key("count") { arguments.number("count")? } else { 1 };
    let mut connects = 0;
    match arguments.option("how")? {
        "overflow" => connects = overflow(arguments, count)?,
        "killed" => connects = killed(arguments, count)?,
        how => {
            for _ in 0..count {
                connects += one(how, address)?;
            }
        }
    }
    Ok(json!({ "pid": std::process::id(), "connects": connects }))
}

fn one(how: &str, address: SocketAddr) -> Result<usize> {
    match how {
        "part" => {
            let mut stream = connect::blocking(address)?;
            stream.write_all(&[0, 0])?;
            Ok(1)
        }
        "reset" => {
            let socket = connect::socket(address)?;
            raw::connect(&socket, address)?;
            socket.set_linger(Some(Duration::ZERO))?;
            Ok(1)
        }
        "half-open" => {
            // The last packet of the handshake is put off, and a reset comes instead: only this side saw it end.
            let socket = connect::socket(address)?;
            raw::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 1)?;
            raw::connect(&socket, address)?;
            socket.set_linger(Some(Duration::ZERO))?;
            Ok(1)
        }
        "garbage" => {
            let mut stream = connect::blocking(address)?;
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
            std::io::Read::read_to_end(&mut stream, &mut Vec::new())?;
            Ok(1)
        }
        "again" => {
            let socket = connect::socket(address)?;
            raw::connect(&socket, address)?;
            raw::disconnect(&socket)?;
            raw::connect(&socket, address)?;
            session(socket)?;
            Ok(2)
        }
        "connected" => {
            let socket = connect::socket(address)?;
            raw::connect(&socket, address)?;
            let again = raw::connect(&socket, address).map_err(|error| error.raw_os_error());
            ensure!(again == Err(Some(libc::EISCONN)), "a connected socket connected: {again:?}");
            session(socket)?;
            Ok(1)
        }
        "no-port" => {
            // Two sockets with one local port: the second has no way to the same destination.
            let [first, second] = [bound(address, 0)?, connect::socket(address)?];
            let port = first.local_addr()?.as_socket().map_or(0, |address| address.port());
            raw::connect(&first, address)?;
            second.set_reuse_address(true)?;
            second.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
            let failed = raw::connect(&second, address).map_err(|error| error.raw_os_error());
            ensure!(failed == Err(Some(libc::EADDRNOTAVAIL)), "one port twice: {failed:?}");
            drop(second);
            session(first)?;
            Ok(2)
        }
        other => bail!("no end called `{other}`"),
    }
}

fn session(socket: Socket) -> Result<()> {
    Session::start(TcpStream::from(OwnedFd::from(socket))).map(drop)
}

fn bound(address: SocketAddr, port: u16) -> Result<Socket> {
    let socket = connect::socket(address)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(socket)
}

/// More connections than the backlog of the sleeping agent takes; all are closed before it wakes.
fn overflow(arguments: &Arguments, count: usize) -> Result<usize> {
    asleep(arguments, || {
        drop(start_all(arguments.address, count)?);
        Ok(count)
    })
}

/// In a namespace where the sleeping agent has no listener, a process is killed while its connects wait.
fn killed(arguments: &Arguments, count: usize) -> Result<usize> {
    asleep(arguments, || {
        let died = raw::in_child(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            raw::loopback_up()?;
            let _waiting = start_all(arguments.address, count)?;
            raise(Signal::SIGKILL)?;
            Ok(())
        });
        ensure!(died.is_err(), "the child outlived SIGKILL");
        Ok(count)
    })
}

fn asleep<T>(arguments: &Arguments, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let agent = Pid::from_raw(i32::try_from(arguments.number("agent")?)?);
    kill(agent, Signal::SIGSTOP)?;
    let done = work();
    kill(agent, Signal::SIGCONT)?;
    done
}

/// Starts connects without waiting for any.
fn start_all(address: SocketAddr, count: usize) -> Result<Vec<Socket>> {
    let files = u64::try_from(count)? + 100;
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = connect::socket(address)?;
        socket.set_nonblocking(true)?;
        match raw::connect(&socket, address) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            other => bail!("a non-blocking connect gave {other:?}"),
        }
        sockets.push(socket);
    }
    Ok(sockets)
}
