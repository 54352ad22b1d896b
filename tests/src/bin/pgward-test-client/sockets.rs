//! Scripts of socket calls whose results must not depend on whether an agent is in the way.
//!
//! Each script talks to the scripted server of the test library and notes every result as a line; addresses and times stay
//! out. The report is the list of lines.

use std::io::{IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv, recvmsg, send};
use pgward_tests::script::answer_bytes;
use pgward_tests::wire::{self, Session, query};
use serde_json::Value;

use crate::{Arguments, connect, raw, uring};

type Script = fn(&mut Notes) -> Result<()>;

/// Scripts by name.
const SCRIPTS: [(&str, Script); 20] = [
    ("fionread", fionread),
    ("peek", peek),
    ("half-close", half_close),
    ("shutdown-read", shutdown_read),
    ("blocking-timeout", blocking_timeout),
    ("wait-all", wait_all),
    ("non-blocking", non_blocking),
    ("epoll-level", epoll_level),
    ("epoll-edge", epoll_edge),
    ("epoll-end", epoll_end),
    ("zero-copy", zero_copy),
    ("io-uring-zero-copy", io_uring_zero_copy),
    ("so-error", so_error),
    ("options", options),
    ("linger", linger),
    ("reset-by-server", reset_by_server),
    ("close-by-server", close_by_server),
    ("fatal-by-server", fatal_by_server),
    ("peer-name", peer_name),
    ("address-form", address_form),
];

/// What a script sees.
struct Notes {
    address: SocketAddr,
    lines: Vec<String>,
}

/// `sockets ADDRESS script=NAME`, or `script=list` for the names that make sense for this address.
pub(crate) fn run(arguments: &Arguments) -> Result<Value> {
    let name = arguments.option("script")?;
    if name == "list" {
        return Ok(SCRIPTS.iter().map(|(name, _)| *name).collect());
    }
    let Some((_, script)) = SCRIPTS.iter().find(|(known, _)| *known == name) else {
        bail!("no script `{name}`");
    };
    let mut notes = Notes { address: arguments.address, lines: Vec::new() };
    script(&mut notes).with_context(|| format!("after {:?}", notes.lines))?;
    Ok(notes.lines.into())
}

impl Notes {
    fn session(&self) -> Result<TcpStream> {
        Ok(Session::start(connect::blocking(self.address)?)?.stream)
    }

    fn note(&mut self, what: &str, result: impl std::fmt::Debug) {
        self.lines.push(format!("{what}: {result:?}"));
    }
}

/// Waits until that many bytes are in the receive queue, or says how many came.
fn await_bytes(stream: &TcpStream, wanted: usize) -> Result<usize> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let found = raw::readable_bytes(stream)?;
        if found >= wanted || Instant::now() > deadline {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn fionread(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    notes.note("idle", raw::readable_bytes(&stream)?);
    stream.write_all(&query("bytes 1000"))?;
    notes.note("after the answer", await_bytes(&stream, answer_bytes(1000))?);
    stream.read_exact(&mut [0; 100])?;
    notes.note("after reading 100", raw::readable_bytes(&stream)?);
    Ok(())
}

fn peek(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    stream.write_all(&query("bytes 50"))?;
    await_bytes(&stream, answer_bytes(50))?;
    let mut peeked = [0; 20];
    notes.note("peek", recv(stream.as_raw_fd(), &mut peeked, MsgFlags::MSG_PEEK));
    notes.note("queued", raw::readable_bytes(&stream)?);
    let mut read = [0; 20];
    notes.note("read", recv(stream.as_raw_fd(), &mut read, MsgFlags::empty()));
    notes.note("same", peeked == read);
    raw::set_option(&stream, libc::SOL_SOCKET, libc::SO_PEEK_OFF, 5).context("SO_PEEK_OFF")?;
    notes.note("peek from 5", recv(stream.as_raw_fd(), &mut peeked, MsgFlags::MSG_PEEK));
    Ok(())
}

fn half_close(notes: &mut Notes) -> Result<()> {
    // A wake-up without data once turned into EAGAIN here, not always: so, several times.
    for _ in 0..20 {
        let mut stream = notes.session()?;
        stream.write_all(&query("bytes 3000"))?;
        stream.shutdown(Shutdown::Write)?;
        let mut all = Vec::new();
        notes.note("read to the end", stream.read_to_end(&mut all).map_err(|e| e.kind()));
        notes.note("write", stream.write(b"x").map_err(|e| e.kind()));
    }
    Ok(())
}

fn shutdown_read(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    stream.shutdown(Shutdown::Read)?;
    notes.note("read", stream.read(&mut [0; 10]).map_err(|e| e.kind()));
    notes.note("write", stream.write_all(&query("silent")).map_err(|e| e.kind()));
    Ok(())
}

fn blocking_timeout(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    stream.set_read_timeout(Some(Duration::from_millis(60)))?;
    notes.note("read", stream.read(&mut [0; 10]).map_err(|e| e.kind()));
    stream.write_all(&query("bytes 10"))?;
    stream.set_read_timeout(None)?;
    let frames = wire::read_until_ready(&mut stream)?;
    notes.note("answer", wire::outline(&frames));
    Ok(())
}

fn wait_all(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    stream.write_all(&query("bytes 300000"))?;
    let mut all = vec![0; answer_bytes(300_000)];
    notes.note("wait for all", recv(stream.as_raw_fd(), &mut all, MsgFlags::MSG_WAITALL));
    raw::set_option(&stream, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 500)?;
    stream.write_all(&query("bytes 2000"))?;
    let mut first = [0; 500];
    notes.note("low water", recv(stream.as_raw_fd(), &mut first, MsgFlags::empty()));
    Ok(())
}

fn non_blocking(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    stream.set_nonblocking(true)?;
    notes.note("read", stream.read(&mut [0; 10]).map_err(|e| e.kind()));
    stream.write_all(&query("bytes 700"))?;
    let wanted = answer_bytes(700);
    await_bytes(&stream, wanted)?;
    notes.note("read", stream.read(&mut vec![0; wanted + 1]).map_err(|e| e.kind()));
    notes.note("read", stream.read(&mut [0; 10]).map_err(|e| e.kind()));
    let flags = MsgFlags::MSG_DONTWAIT;
    stream.set_nonblocking(false)?;
    notes.note("do not wait", recv(stream.as_raw_fd(), &mut [0; 10], flags));
    Ok(())
}

fn events(epoll: &Epoll, patience_ms: u16) -> Result<Vec<EpollFlags>> {
    let mut buffer = [EpollEvent::empty(); 4];
    let count = epoll.wait(&mut buffer, EpollTimeout::from(patience_ms))?;
    Ok(buffer[..count].iter().map(EpollEvent::events).collect())
}

fn watch(stream: &TcpStream, flags: EpollFlags) -> Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(stream, EpollEvent::new(flags, 1))?;
    Ok(epoll)
}

fn epoll_level(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    let epoll = watch(&stream, EpollFlags::EPOLLIN)?;
    notes.note("idle", events(&epoll, 0)?);
    stream.write_all(&query("bytes 100"))?;
    notes.note("answered", events(&epoll, 5000)?);
    await_bytes(&stream, answer_bytes(100))?;
    stream.read_exact(&mut [0; 10])?;
    notes.note("partly read", events(&epoll, 5000)?);
    stream.read_exact(&mut vec![0; answer_bytes(100) - 10])?;
    notes.note("all read", events(&epoll, 0)?);
    Ok(())
}

fn epoll_edge(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    stream.write_all(&query("bytes 100"))?;
    await_bytes(&stream, answer_bytes(100))?;
    let epoll = watch(&stream, EpollFlags::EPOLLIN | EpollFlags::EPOLLET)?;
    notes.note("answered", events(&epoll, 5000)?);
    stream.read_exact(&mut [0; 10])?;
    notes.note("partly read", events(&epoll, 30)?);
    stream.write_all(&query("bytes 100"))?;
    notes.note("answered again", events(&epoll, 5000)?);
    Ok(())
}

fn epoll_end(notes: &mut Notes) -> Result<()> {
    for end in ["close", "reset"] {
        let mut stream = notes.session()?;
        stream.write_all(&query(end))?;
        let wanted = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        notes.note(end, events(&watch(&stream, wanted)?, 5000)?);
    }
    Ok(())
}

fn zero_copy(notes: &mut Notes) -> Result<()> {
    let stream = notes.session()?;
    raw::set_option(&stream, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1).context("SO_ZEROCOPY")?;
    let large = query(&format!("silent {}", "y".repeat(40_000)));
    let flags = MsgFlags::from_bits_retain(libc::MSG_ZEROCOPY);
    for _ in 0..2 {
        notes.note("send", send(stream.as_raw_fd(), &large, flags));
    }
    let mut highest = None;
    let deadline = Instant::now() + Duration::from_secs(5);
    while highest != Some(1) && Instant::now() < deadline {
        if let Some((last, copied)) = completion(&stream)? {
            notes.note("copied", copied);
            highest = Some(last);
        }
    }
    notes.lines.dedup();
    notes.note("last completion", highest);
    (&stream).write_all(&query("bytes 5"))?;
    let frames = wire::read_until_ready(&mut &stream)?;
    notes.note("answer", wire::outline(&frames));
    Ok(())
}

/// One zero-copy completion from the error queue: number of the last send it covers, and whether the kernel copied.
fn completion(stream: &TcpStream) -> Result<Option<(u32, bool)>> {
    use nix::sys::socket::ControlMessageOwned::{Ipv4RecvErr, Ipv6RecvErr};
    let mut space = vec![0; 128];
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = match recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags) {
        Ok(message) => message,
        Err(Errno::EAGAIN) => {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    for control in message.cmsgs()? {
        if let Ipv4RecvErr(error, _) | Ipv6RecvErr(error, _) = control {
            ensure!(error.ee_origin == ORIGIN_ZEROCOPY, "origin {}", error.ee_origin);
            let copied = u32::from(error.ee_code) & ZEROCOPY_COPIED != 0;
            return Ok(Some((error.ee_data, copied)));
        }
    }
    bail!("an error queue message without an error")
}

/// `SO_EE_ORIGIN_ZEROCOPY` of `linux/errqueue.h`.
const ORIGIN_ZEROCOPY: u8 = 5;

/// `SO_EE_CODE_ZEROCOPY_COPIED` of `linux/errqueue.h`.
const ZEROCOPY_COPIED: u32 = 1;

fn io_uring_zero_copy(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    let text = query("bytes 5");
    let sent = uring::send_zero_copy(&stream, &text).map_err(|e| e.root_cause().to_string());
    notes.note("result and notification", sent);
    let frames = wire::read_until_ready(&mut stream)?;
    notes.note("answer", wire::outline(&frames));
    Ok(())
}

fn so_error(notes: &mut Notes) -> Result<()> {
    let socket = connect::socket(notes.address)?;
    socket.set_nonblocking(true)?;
    let connected = raw::connect(&socket, notes.address).map_err(|e| e.raw_os_error());
    notes.note("connect", connected.map_err(|code| code.map(Errno::from_raw)));
    connect::await_writable(&socket)?;
    notes.note("pending", raw::option(&socket, libc::SOL_SOCKET, libc::SO_ERROR)?);
    let again = raw::connect(&socket, notes.address).map_err(|e| e.raw_os_error());
    notes.note("connect when connected", again.map_err(|code| code.map(Errno::from_raw)));
    let third = raw::connect(&socket, notes.address).map_err(|e| e.raw_os_error());
    notes.note("and once more", third.map_err(|code| code.map(Errno::from_raw)));
    Ok(())
}

fn options(notes: &mut Notes) -> Result<()> {
    let socket = connect::socket(notes.address)?;
    let given = [
        ("keepalive", libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        ("keepalive idle", libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 77),
        ("keepalive interval", libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 7),
        ("keepalive count", libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3),
        ("user timeout", libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 9000),
        ("no delay", libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
        ("priority", libc::SOL_SOCKET, libc::SO_PRIORITY, 3),
        ("mark", libc::SOL_SOCKET, libc::SO_MARK, 77),
        ("receive buffer", libc::SOL_SOCKET, libc::SO_RCVBUF, 65_536),
    ];
    for (_, level, option, value) in given {
        raw::set_option(&socket, level, option, value)?;
    }
    raw::connect(&socket, notes.address)?;
    for (name, level, option, _) in given {
        notes.note(name, raw::option(&socket, level, option)?);
    }
    let kinds = [
        ("domain", libc::SO_DOMAIN),
        ("protocol", libc::SO_PROTOCOL),
        ("type", libc::SO_TYPE),
        ("error", libc::SO_ERROR),
        ("listening", libc::SO_ACCEPTCONN),
    ];
    for (name, option) in kinds {
        notes.note(name, raw::option(&socket, libc::SOL_SOCKET, option)?);
    }
    // First byte of `struct tcp_info`: the state; 1 is established.
    let info = raw::option(&socket, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    notes.note("state", info & 0xff);
    Ok(())
}

fn linger(notes: &mut Notes) -> Result<()> {
    for seconds in [0, 5] {
        let mut stream = notes.session()?;
        let socket = socket2::SockRef::from(&stream);
        socket.set_linger(Some(Duration::from_secs(seconds)))?;
        notes.note("linger", socket.linger()?);
        stream.write_all(&query("silent"))?;
        notes.note("close", nix::unistd::close(stream));
    }
    Ok(())
}

fn reset_by_server(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    stream.write_all(&query("reset"))?;
    notes.note("read", stream.read(&mut [0; 10]).map_err(|e| e.kind()));
    notes.note("read again", stream.read(&mut [0; 10]).map_err(|e| e.kind()));
    notes.note("write", stream.write(b"x").map_err(|e| e.kind()));
    notes.note("pending", raw::option(&stream, libc::SOL_SOCKET, libc::SO_ERROR)?);
    Ok(())
}

fn close_by_server(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    stream.write_all(&query("close"))?;
    notes.note("read", stream.read(&mut [0; 10]).map_err(|e| e.kind()));
    notes.note("read again", stream.read(&mut [0; 10]).map_err(|e| e.kind()));
    notes.note("pending", raw::option(&stream, libc::SOL_SOCKET, libc::SO_ERROR)?);
    Ok(())
}

fn fatal_by_server(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    stream.write_all(&query("fatal"))?;
    let mut all = Vec::new();
    notes.note("read to the end", stream.read_to_end(&mut all).map_err(|e| e.kind()));
    notes.note("bytes", String::from_utf8_lossy(&all));
    Ok(())
}

fn peer_name(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    notes.note("peer", stream.peer_addr()? == notes.address);
    notes.note("family", stream.local_addr()?.is_ipv6());
    stream.write_all(&query("bytes 1"))?;
    wire::read_until_ready(&mut stream)?;
    notes.note("peer after talking", stream.peer_addr()? == notes.address);
    Ok(())
}

/// An IPv6 socket with an IPv4-mapped peer may be turned into an IPv4 socket.
fn address_form(notes: &mut Notes) -> Result<()> {
    let mut stream = notes.session()?;
    let mapped = match notes.address {
        SocketAddr::V6(address) => address.ip().to_ipv4_mapped(),
        SocketAddr::V4(_) => None,
    };
    let turned = raw::set_option(&stream, libc::IPPROTO_IPV6, libc::IPV6_ADDRFORM, libc::AF_INET);
    notes.note("turned", turned.map_err(|error| error.raw_os_error().map(Errno::from_raw)));
    if let Some(address) = mapped {
        let expected = SocketAddr::from((address, notes.address.port()));
        notes.note("peer", stream.peer_addr()? == expected);
    }
    stream.write_all(&query("bytes 1"))?;
    let frames = wire::read_until_ready(&mut stream)?;
    notes.note("answer", wire::outline(&frames));
    Ok(())
}
