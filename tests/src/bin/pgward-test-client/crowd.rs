//! Many connections, and many namespaces.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgward_tests::script::ScriptedServer;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire::Session;
use serde_json::{Value, json};
use socket2::Socket;

use crate::{Arguments, connect, raw};

/// Sockets of [`orphans`]: as many as are tried within some seconds.
const ORPHANS: usize = 900;

/// `crowd ADDRESS threads=N each=N mark=TEXT [until=FILE]`: every connection runs one statement that tells its own thread,
/// number and source. With `until`, goes on in rounds of `each` until that file exists.
///
/// Reports how many connections succeeded, and how many failed by the error's name.
pub(crate) fn run(arguments: &Arguments) -> Result<Value> {
    let (threads, each) = (arguments.number("threads")?, arguments.number("each")?);
    let mark = arguments.option("mark")?.to_owned();
    let until = arguments.options.get("until").cloned();
    let address = arguments.address;
    let done = Arc::new(AtomicU64::new(0));
    let mut workers = Vec::new();
    for thread in 0..threads {
        let (mark, until, done) = (mark.clone(), until.clone(), Arc::clone(&done));
        workers.push(std::thread::spawn(move || {
            let mut failures = BTreeMap::<String, u64>::new();
            let mut number = 0;
            loop {
                for _ in 0..each {
                    match one(address, &mark, thread, number) {
                        Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => *failures.entry(name_of(&error)).or_default() += 1,
                    }
                    number += 1;
                }
                if until.as_ref().is_none_or(|file| std::path::Path::new(file).exists()) {
                    return failures;
                }
            }
        }));
    }
    let mut failures = BTreeMap::<String, u64>::new();
    for worker in workers {
        for (name, count) in worker.join().map_err(|_| anyhow!("a thread panicked"))? {
            *failures.entry(name).or_default() += count;
        }
    }
    let pid = std::process::id();
    Ok(json!({ "pid": pid, "done": done.load(Ordering::Relaxed), "failures": failures }))
}

/// `knock ADDRESS count=N`: connects and closes, without a word. Reports how many connects succeeded, and the errors.
pub(crate) fn knock(arguments: &Arguments) -> Result<Value> {
    let mut failures = BTreeMap::<String, u64>::new();
    let mut done = 0;
    for _ in 0..arguments.number("count")? {
        match connect::blocking(arguments.address) {
            Ok(_) => done += 1,
            Err(error) => *failures.entry(name_of(&error)).or_default() += 1,
        }
    }
    Ok(json!({ "pid": std::process::id(), "done": done, "failures": failures }))
}

/// `pile ADDRESS count=N last=N mark=TEXT agent=PID`: while the agent sleeps, starts that many connects without waiting for
/// any; then, with the agent awake, tries a session on each of the last ones. Reports how many of those succeeded.
pub(crate) fn pile(arguments: &Arguments) -> Result<Value> {
    let (count, last) = (arguments.number("count")?, arguments.number("last")?);
    let mark = arguments.option("mark")?;
    let agent = Pid::from_raw(i32::try_from(arguments.number("agent")?)?);
    let files = u64::try_from(count)? + 100;
    setrlimit(Resource::RLIMIT_NOFILE, files, files).context("setrlimit")?;
    kill(agent, Signal::SIGSTOP)?;
    let sockets = start_all(arguments.address, count);
    kill(agent, Signal::SIGCONT)?;
    let mut sockets = sockets?;
    let tried = sockets.split_off(count - last);
    drop(sockets);
    let mut failures = BTreeMap::<String, u64>::new();
    let mut done = 0;
    for socket in tried {
        match talk(socket, mark) {
            Ok(()) => done += 1,
            Err(error) => *failures.entry(name_of(&error)).or_default() += 1,
        }
    }
    Ok(json!({ "pid": std::process::id(), "done": done, "failures": failures }))
}

fn start_all(address: SocketAddr, count: usize) -> Result<Vec<Socket>> {
    let mut sockets = Vec::with_capacity(count);
    for number in 0..count {
        let socket = connect::socket(address)?;
        socket.set_nonblocking(true)?;
        match raw::connect(&socket, address) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
            other => anyhow::bail!("connect {number} gave {other:?}"),
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

fn talk(socket: Socket, mark: &str) -> Result<()> {
    connect::await_writable(&socket)?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let source = socket.local_addr()?.as_socket().context("an address")?;
    let mut session = Session::start(TcpStream::from(OwnedFd::from(socket)))?;
    session.value(&format!("select '{mark} source={source}.'"))?;
    Ok(())
}

/// `silent ADDRESS count=N`: connects and says nothing, N times, and once more. Reports how that last connection ended, and
/// whether the others were open then.
pub(crate) fn silent(arguments: &Arguments) -> Result<Value> {
    let count = arguments.number("count")?;
    let open = (0..count).map(|_| connect::blocking(arguments.address));
    let open: Vec<TcpStream> = open.collect::<Result<_>>()?;
    let mut last = connect::blocking(arguments.address)?;
    last.set_read_timeout(Some(PATIENCE))?;
    let end = last.read(&mut [0; 1]).map_or_else(|e| format!("{:?}", e.kind()), |n| n.to_string());
    let mut others = true;
    for stream in &open {
        stream.set_nonblocking(true)?;
        let nothing = stream.peek(&mut [0; 1]).map_err(|error| error.kind());
        others &= nothing == Err(ErrorKind::WouldBlock);
    }
    Ok(json!({ "pid": std::process::id(), "end": end, "others": others }))
}

/// `hold ADDRESS count=N until=FILE`: connects N times, says nothing, makes `FILE.PID`, and waits until the file `until` exists.
/// Reports how many connections were still open then, which says nothing was sent to them either.
pub(crate) fn hold(arguments: &Arguments) -> Result<Value> {
    let count = arguments.number("count")?;
    let until = arguments.option("until")?;
    let files = u64::try_from(count)? + 100;
    setrlimit(Resource::RLIMIT_NOFILE, files, files).context("setrlimit")?;
    let open = (0..count).map(|_| connect::blocking(arguments.address));
    let open: Vec<TcpStream> = open.collect::<Result<_>>()?;
    let pid = std::process::id();
    File::create(format!("{until}.{pid}"))?;
    while !std::path::Path::new(until).exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut silent = 0;
    for stream in &open {
        stream.set_nonblocking(true)?;
        let nothing = stream.peek(&mut [0; 1]).map_err(|error| error.kind());
        silent += usize::from(nothing == Err(ErrorKind::WouldBlock));
    }
    Ok(json!({ "pid": pid, "open": open.len(), "silent": silent }))
}

/// `namespaces ADDRESS count=N mark=TEXT`: for each, a new network namespace with a server of its own inside, on the
/// address's port, and one statement to it. The namespace is gone when the next begins.
pub(crate) fn namespaces(arguments: &Arguments) -> Result<Value> {
    let mark = arguments.option("mark")?;
    let port = arguments.address.port();
    let mut done = 0;
    for number in 0..arguments.number("count")? {
        raw::in_child(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).context("unshare")?;
            raw::loopback_up().context("raising lo")?;
            let server = ScriptedServer::start((Ipv4Addr::LOCALHOST, port))?;
            one(server.address(), mark, 0, number)
        })
        .with_context(|| format!("namespace {number}"))?;
        done += 1;
    }
    Ok(json!({ "pid": std::process::id(), "done": done }))
}

/// `orphans ADDRESS agent=PID`: sockets of a new network namespace that no process is in any more when the agent, which slept,
/// looks for it. Connects one after the other until one fails at once with `EHOSTUNREACH`. Reports how many were tried before.
pub(crate) fn orphans(arguments: &Arguments) -> Result<Value> {
    let agent = Pid::from_raw(i32::try_from(arguments.number("agent")?)?);
    let home = File::open("/proc/self/ns/net")?;
    kill(agent, Signal::SIGSTOP)?;
    let made = || -> Result<Vec<Socket>> {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
        raw::loopback_up().context("raising lo")?;
        (0..ORPHANS).map(|_| connect::socket(arguments.address)).collect()
    };
    let made = made();
    setns(&home, CloneFlags::CLONE_NEWNET).context("setns")?;
    kill(agent, Signal::SIGCONT)?;
    let mut sockets = made?.into_iter();
    let mut held = 0;
    wait::until_true("a connect to be refused", PATIENCE, || {
        let socket = sockets.next().context("every socket was held")?;
        socket.set_nonblocking(true)?;
        match raw::connect(&socket, arguments.address).map_err(|error| error.raw_os_error()) {
            Err(Some(nix::libc::EHOSTUNREACH)) => return Ok(true),
            Err(Some(nix::libc::EINPROGRESS)) => held += 1,
            other => anyhow::bail!("a connect gave {other:?}"),
        }
        Ok(false)
    })?;
    Ok(json!({ "pid": std::process::id(), "held": held }))
}

fn one(address: SocketAddr, mark: &str, thread: usize, number: usize) -> Result<()> {
    let stream = connect::blocking(address)?;
    let source = stream.local_addr()?;
    let mut session = Session::start(stream)?;
    let tid = raw::thread_id();
    let told = format!("{mark} thread={thread} tid={tid} number={number} source={source}.");
    let answer = session.value(&format!("select '{told}'"))?;
    anyhow::ensure!(answer.contains(&told), "asked for {told}, got {answer}");
    std::io::Write::write_all(&mut session.stream, &pgward_tests::wire::terminate())?;
    Ok(())
}

fn name_of(error: &anyhow::Error) -> String {
    match error.root_cause().downcast_ref::<std::io::Error>() {
        Some(error) => format!("{:?}", error.kind()),
        None => error.root_cause().to_string(),
    }
}
