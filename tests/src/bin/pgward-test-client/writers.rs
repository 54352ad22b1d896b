//! Ways to write: a session is opened by one process, and `select '<mark>'` is written in one particular way.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::unistd::Pid;
use pgward_tests::wire::{self, Session, outline};
use serde_json::{Value, json};

use crate::uring::{self, Mode};
use crate::{Arguments, connect, raw};

/// `write ADDRESS how=NAME mark=TEXT [cgroup=FOLDER]`. Reports `opener` and `writer` pids, and `tid` where it differs.
pub(crate) fn run(arguments: &Arguments) -> Result<Value> {
    let mark = arguments.option("mark")?;
    let query = wire::query(&format!("select '{mark}'"));
    match arguments.option("how")? {
        "main" => with_session(arguments, &query, |stream, query| {
            (&*stream).write_all(query)?;
            Ok(std::process::id())
        }),
        "thread" => thread(arguments, &query),
        "fork" => with_session(arguments, &query, |stream, query| {
            raw::in_child(|| Ok((&*stream).write_all(query)?))
        }),
        "exec-child" => with_session(arguments, &query, |stream, query| {
            let mut child = cat(stream, query)?.spawn().context("starting cat")?;
            let pid = child.id();
            ensure!(child.wait()?.success(), "cat failed");
            Ok(pid)
        }),
        "exec-same-pid" => exec_same_pid(arguments, &query),
        "passed" => passed(arguments, &query),
        "sendfile" => with_session(arguments, &query, sendfile),
        "splice" => with_session(arguments, &query, splice),
        "io-uring-inline" => with_session(arguments, &query, |s, q| ring(Mode::Inline, s, q)),
        "io-uring-async" => with_session(arguments, &query, |s, q| ring(Mode::Async, s, q)),
        "io-uring-sqpoll" => with_session(arguments, &query, |s, q| ring(Mode::KernelPoll, s, q)),
        "ring-of-child" => with_session(arguments, &query, ring_of_child),
        "early" => early(arguments, &query),
        "short-lived" => short_lived(arguments, &query),
        "pid-reused" => pid_reused(arguments),
        "pid-reused-by-writer" => pid_reused_by_writer(arguments, &query),
        "halves" => with_session(arguments, &query, |stream, query| {
            let (first, second) = query.split_at(query.len() / 2);
            (&*stream).write_all(first)?;
            raw::in_child(|| Ok((&*stream).write_all(second)?))
        }),
        "alternating" => alternating(arguments),
        "flood" => flood(arguments),
        how => bail!("no way to write called `{how}`"),
    }
}

/// Opens a session, lets `write` send the query, reads the answer, reports.
fn with_session(
    arguments: &Arguments,
    query: &[u8],
    write: impl FnOnce(&TcpStream, &[u8]) -> Result<u32>,
) -> Result<Value> {
    let mut session = Session::start(connect::blocking(arguments.address)?)?;
    let writer = write(&session.stream, query)?;
    finish(&mut session)?;
    Ok(json!({ "opener": std::process::id(), "writer": writer }))
}

fn finish(session: &mut Session<TcpStream>) -> Result<()> {
    let frames = wire::read_until_ready(&mut session.stream)?;
    ensure!(outline(&frames) == "TDCZI", "the server answered {}", outline(&frames));
    session.stream.write_all(&wire::terminate())?;
    // The server's close comes after everything before it was dealt with.
    let _ = session.stream.read(&mut [0; 16]);
    Ok(())
}

fn thread(arguments: &Arguments, query: &[u8]) -> Result<Value> {
    let mut session = Session::start(connect::blocking(arguments.address)?)?;
    let (mut stream, query) = (session.stream.try_clone()?, query.to_vec());
    let thread = std::thread::spawn(move || -> Result<i32> {
        stream.write_all(&query)?;
        Ok(raw::thread_id())
    });
    let tid = thread.join().map_err(|_| anyhow!("the thread panicked"))??;
    finish(&mut session)?;
    Ok(json!({ "opener": std::process::id(), "writer": std::process::id(), "tid": tid }))
}

/// `cat` of a file with these bytes, its output going straight into the socket.
fn cat(stream: &TcpStream, bytes: &[u8]) -> Result<Command> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    std::io::Seek::rewind(&mut file)?;
    let mut command = Command::new("cat");
    command.stdin(file).stdout(OwnedFd::from(stream.try_clone()?));
    Ok(command)
}

/// A child opens the session and then becomes another program, with the same pid.
fn exec_same_pid(arguments: &Arguments, query: &[u8]) -> Result<Value> {
    let child = raw::in_child(|| {
        let session = Session::start(connect::blocking(arguments.address)?)?;
        Err(cat(&session.stream, query)?.exec().into())
    })?;
    Ok(json!({ "opener": child, "writer": child }))
}

/// The socket goes to a process that was born before it, in another cgroup.
fn passed(arguments: &Arguments, query: &[u8]) -> Result<Value> {
    let kind = (AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC);
    let (ours, theirs) = socketpair(kind.0, kind.1, None, kind.2)?;
    let folder = arguments.option("cgroup")?;
    let child = raw::start_child(|| {
        std::fs::write(format!("{folder}/cgroup.procs"), "0").context("moving to the cgroup")?;
        let mut stream = receive(theirs.as_raw_fd())?;
        stream.write_all(query)?;
        Ok(())
    })?;
    let mut session = Session::start(connect::blocking(arguments.address)?)?;
    let descriptors = [session.stream.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None)?;
    raw::reap(child)?;
    finish(&mut session)?;
    Ok(json!({ "opener": std::process::id(), "writer": child }))
}

#[expect(unsafe_code, reason = "a received descriptor has to be wrapped")]
fn receive(socket: RawFd) -> Result<TcpStream> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let message = recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            let descriptor = descriptors.first().context("no descriptor came")?;
            // SAFETY: the kernel just made this descriptor for us; nobody else closes it.
            return Ok(unsafe { OwnedFd::from_raw_fd(*descriptor) }.into());
        }
    }
    bail!("no descriptor came")
}

fn sendfile(stream: &TcpStream, query: &[u8]) -> Result<u32> {
    let mut file = tempfile::tempfile()?;
    file.write_all(query)?;
    let mut offset = 0;
    let sent = nix::sys::sendfile::sendfile(stream, &file, Some(&mut offset), query.len())?;
    ensure!(sent == query.len(), "sendfile sent {sent} of {} bytes", query.len());
    Ok(std::process::id())
}

fn splice(stream: &TcpStream, query: &[u8]) -> Result<u32> {
    let (end, start) = nix::unistd::pipe()?;
    File::from(start).write_all(query)?;
    let flags = nix::fcntl::SpliceFFlags::empty();
    let sent = nix::fcntl::splice(end.as_fd(), None, stream.as_fd(), None, query.len(), flags)?;
    ensure!(sent == query.len(), "splice sent {sent} of {} bytes", query.len());
    Ok(std::process::id())
}

fn ring(mode: Mode, stream: &TcpStream, query: &[u8]) -> Result<u32> {
    uring::send(mode, stream, query)?;
    Ok(std::process::id())
}

/// The request is put into the ring by its owner and submitted by a child that shares it.
fn ring_of_child(stream: &TcpStream, query: &[u8]) -> Result<u32> {
    let mut ring = uring::ring(Mode::Inline)?;
    uring::prepare(&mut ring, Mode::Inline, uring::send_entry(stream, query))?;
    let child = raw::in_child(|| raw::ring_enter(&ring))?;
    let done = ring.completion().next().context("no completion")?.result();
    ensure!(usize::try_from(done).ok() == Some(query.len()), "io_uring send gave {done}");
    Ok(child)
}

/// A child writes the startup message and the query in one blocking call issued while the handshake may still be running.
fn early(arguments: &Arguments, query: &[u8]) -> Result<Value> {
    let socket = connect::socket(arguments.address)?;
    socket.set_nonblocking(true)?;
    // EINPROGRESS on a held connection; established at once on a loopback that is not held.
    let _ = raw::connect(&socket, arguments.address);
    socket.set_nonblocking(false)?;
    let stream = TcpStream::from(OwnedFd::from(socket));
    let hello = wire::startup(&[("user", "postgres"), ("database", "postgres")]);
    let child = raw::in_child(|| Ok((&stream).write_all(&[&hello[..], query].concat())?))?;
    let mut session = Session::finish_start(stream)?;
    finish(&mut session)?;
    Ok(json!({ "opener": std::process::id(), "writer": child }))
}

/// A child that connects, writes everything at once, and ends without waiting for any answer.
fn short_lived(arguments: &Arguments, query: &[u8]) -> Result<Value> {
    let child = raw::in_child(|| {
        let mut stream = connect::blocking(arguments.address)?;
        let hello = wire::startup(&[("user", "postgres"), ("database", "postgres")]);
        Ok(stream.write_all(&[&hello[..], query].concat())?)
    })?;
    Ok(json!({ "opener": child, "writer": child }))
}

/// Two processes with the same pid, one after the other, each with a session of its own: `<mark>-1` and `<mark>-2`.
fn pid_reused(arguments: &Arguments) -> Result<Value> {
    let mark = arguments.option("mark")?;
    let session = |number: u32| -> Result<()> {
        let mut session = Session::start(connect::blocking(arguments.address)?)?;
        session.value(&format!("select '{mark}-{number}'"))?;
        Ok(session.stream.write_all(&wire::terminate())?)
    };
    let child = raw::in_child(|| session(1))?;
    raw::in_child_with_pid(child, || session(2))?;
    Ok(json!({ "opener": child, "writer": child }))
}

/// A child opens the session and ends; another process with the same pid writes the query.
fn pid_reused_by_writer(arguments: &Arguments, query: &[u8]) -> Result<Value> {
    let socket = connect::socket(arguments.address)?;
    let child = raw::in_child(|| {
        raw::connect(&socket, arguments.address)?;
        Session::start(TcpStream::from(OwnedFd::from(socket.try_clone()?)))?;
        Ok(())
    })?;
    let mut stream = TcpStream::from(OwnedFd::from(socket));
    raw::in_child_with_pid(child, || Ok((&stream).write_all(query)?))?;
    let frames = wire::read_until_ready(&mut stream)?;
    ensure!(outline(&frames) == "TDCZI", "the server answered {}", outline(&frames));
    Ok(json!({ "opener": child, "writer": child }))
}

/// Four queries in a row without reading, by turns of the opener and a child: `<mark>-0` to `<mark>-3`.
fn alternating(arguments: &Arguments) -> Result<Value> {
    let mark = arguments.option("mark")?;
    let mut session = Session::start(connect::blocking(arguments.address)?)?;
    let mut writers = Vec::new();
    for number in 0..4 {
        let query = wire::query(&format!("select '{mark}-{number}'"));
        if number % 2 == 0 {
            session.stream.write_all(&query)?;
            writers.push(std::process::id());
        } else {
            writers.push(raw::in_child(|| Ok((&session.stream).write_all(&query)?))?);
        }
    }
    for _ in 0..4 {
        wire::read_until_ready(&mut session.stream)?;
    }
    session.stream.write_all(&wire::terminate())?;
    Ok(json!({ "opener": std::process::id(), "writers": writers }))
}

/// One query whose bytes are written by turns of two processes, one byte each, while the agent sleeps: more changes of
/// writer than any buffer holds. Needs `agent=PID` and `changes=N`.
fn flood(arguments: &Arguments) -> Result<Value> {
    let mark = arguments.option("mark")?;
    let changes = arguments.number("changes")?;
    let agent = Pid::from_raw(i32::try_from(arguments.number("agent")?)?);
    let mut session = Session::start(connect::blocking(arguments.address)?)?;
    session.value("select 'before'")?;
    let query = wire::query(&format!("select '{mark} {}'", "z".repeat(changes)));
    let (to_child, from_parent) = pipes()?;
    let (to_parent, from_child) = pipes()?;
    kill(agent, Signal::SIGSTOP)?;
    let turns = |mine: &mut dyn FnMut(u8) -> Result<()>, first: usize| -> Result<()> {
        query.iter().skip(first).step_by(2).try_for_each(|byte| mine(*byte))
    };
    let child = raw::start_child(|| {
        turns(&mut |byte| take_turn(&session.stream, byte, &from_parent, &to_parent), 1)
    })?;
    (&to_parent).write_all(b"t")?;
    let written = turns(&mut |byte| take_turn(&session.stream, byte, &from_child, &to_child), 0);
    let ended = raw::reap(child);
    kill(agent, Signal::SIGCONT)?;
    written?;
    ended?;
    finish(&mut session)?;
    Ok(json!({ "opener": std::process::id(), "writer": child }))
}

/// Both ends of a pipe: where to write, and where to read.
fn pipes() -> Result<(File, File)> {
    let (end, start) = nix::unistd::pipe()?;
    Ok((start.into(), end.into()))
}

/// Waits for the token, writes one byte, passes the token on.
fn take_turn(mut stream: &TcpStream, byte: u8, mut token: &File, mut next: &File) -> Result<()> {
    token.read_exact(&mut [0])?;
    stream.write_all(&[byte])?;
    next.write_all(b"t")?;
    Ok(())
}
