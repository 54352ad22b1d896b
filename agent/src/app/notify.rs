//! The service manager: tells it that the agent is ready (sd_notify(3)), and leaves descriptors with
//! it for the next run (file descriptor store, sd_listen_fds(3)).

use std::{
    env,
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{
            AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
        },
        stat::Mode,
    },
    unistd::{close, pipe2},
};
use tracing::warn;

/// First number of passed descriptors (`SD_LISTEN_FDS_START`).
const FIRST_PASSED: RawFd = 3;
/// Most passed descriptors that are looked at.
const PASSED_MAX: usize = 64;
/// How long the manager may take to read what it was sent.
const BARRIER: Duration = Duration::from_secs(5);

/// A service manager that listens.
#[derive(Debug)]
pub struct Manager {
    address: UnixAddr,
}

impl Manager {
    /// The one that `NOTIFY_SOCKET` names, if there is one.
    pub fn of_environment() -> Option<Self> {
        let socket = env::var_os("NOTIFY_SOCKET")?;
        let manager = Self::at(Path::new(&socket));
        if let Err(error) = &manager {
            warn!(%error, "NOTIFY_SOCKET names no socket");
        }
        manager.ok()
    }

    /// The one at an address as `NOTIFY_SOCKET` has it: a path, or `@` and an abstract name.
    fn at(socket: &Path) -> nix::Result<Self> {
        let bytes = socket.as_os_str().as_encoded_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => UnixAddr::new_abstract(name)?,
            None => UnixAddr::new(socket)?,
        };
        Ok(Self { address })
    }

    /// The agent is ready. A failure is logged: the agent works without a manager.
    pub fn ready(&self) {
        if let Err(error) = self.send("READY=1", &[]) {
            warn!(%error, "cannot tell the service manager that the agent is ready");
        }
    }

    /// Leaves a descriptor for the next run, under a name, and waits until the manager has taken it.
    ///
    /// An error means that it was probably not taken. No error does not mean that it was kept: a
    /// manager that keeps none for this service (`FileDescriptorStoreMax=`) does not say so.
    pub fn store(&self, name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.send(&format!("FDSTORE=1\nFDNAME={name}"), &[descriptor])?;
        self.wait_until_read(BARRIER)
    }

    /// Takes all descriptors of a name back.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
    }

    /// Waits until the manager has read everything sent so far (sd_notify_barrier(3)): it closes the
    /// descriptor it gets, and the other end of that pipe hangs up.
    fn wait_until_read(&self, limit: Duration) -> io::Result<()> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        self.send("BARRIER=1", &[write.as_fd()])?;
        drop(write);
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(read.as_fd(), PollFlags::empty())], timeout) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn send(&self, state: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        // Not blocking: a manager that does not read must not hold up the agent.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let sender = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        let raw: Vec<RawFd> = descriptors.iter().map(|d| d.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[][..] } else { &rights };
        let state = [IoSlice::new(state.as_bytes())];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg(sender.as_raw_fd(), &state, rights, flags, Some(&self.address))?;
        Ok(())
    }
}

/// The descriptor of a name that the manager kept from the run before.
///
/// To be called once, before anything else opens descriptors: those of this name are closed under
/// their passed number. They are named by `LISTEN_FDNAMES`; where the variables are meant for another
/// process (`LISTEN_PID`), nothing was passed. Of several with the name, the last is used.
pub fn passed(name: &str) -> Option<OwnedFd> {
    let variable = |name| env::var(name).ok();
    let numbers = passed_as(
        name,
        std::process::id(),
        &variable("LISTEN_PID")?,
        &variable("LISTEN_FDS")?,
        &variable("LISTEN_FDNAMES")?,
    );
    let mut last = None;
    for number in numbers {
        match adopt(number) {
            Ok(descriptor) => last = Some(descriptor),
            Err(error) => warn!(%error, number, "a descriptor of the service manager is of no use"),
        }
    }
    last
}

/// Numbers of the descriptors with a name, by the three variables.
fn passed_as(name: &str, own_pid: u32, pid: &str, count: &str, names: &str) -> Vec<RawFd> {
    let (Ok(pid), Ok(count)) = (pid.parse::<u32>(), count.parse::<usize>()) else {
        return Vec::new();
    };
    if pid != own_pid {
        return Vec::new();
    }
    (FIRST_PASSED..)
        .zip(names.split(':'))
        .take(count.min(PASSED_MAX))
        .filter(|(_, found)| *found == name)
        .map(|(number, _)| number)
        .collect()
}

/// Makes a descriptor of our own from a number, and closes the number. For what can be opened: files
/// and pipes.
fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let opened = open(format!("/proc/self/fd/{number}").as_str(), flags, Mode::empty());
    // Not inherited by what the agent starts, whether it is of use or not.
    let closed = close(number);
    let opened = opened?;
    closed?;
    Ok(opened)
}

#[cfg(test)]
#[path = "notify_tests.rs"]
mod tests;
