//! System calls without a safe wrapper that fits: socket options as numbers, `ioctl`, `fork`, `clone3`.

#![expect(unsafe_code, reason = "raw system calls are what this program is for")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result, bail};
use nix::libc;

/// `setsockopt` with an `int`.
pub(crate) fn set_option(
    socket: &impl AsFd,
    level: i32,
    name: i32,
    value: i32,
) -> Result<(), io::Error> {
    // SAFETY: the value is an `int` of the length passed and lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            INT_BYTES,
        )
    };
    check(result.into()).map(drop)
}

/// `getsockopt` with an `int`.
pub(crate) fn option(socket: &impl AsFd, level: i32, name: i32) -> Result<i32, io::Error> {
    let mut value = 0_i32;
    let mut length = INT_BYTES;
    // SAFETY: value and length live through the call, and the length is that of the value.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    check(result.into()).map(|_| value)
}

/// `ioctl(FIONREAD)`: bytes waiting to be read.
pub(crate) fn readable_bytes(socket: &impl AsFd) -> Result<usize, io::Error> {
    let mut count = 0_i32;
    // SAFETY: FIONREAD writes one `int`, which lives through the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) };
    check(result.into()).map(|_| usize::try_from(count).unwrap_or(0))
}

/// `ioctl(SIOCOUTQ)`: bytes written that the peer has not acknowledged.
pub(crate) fn unsent_bytes(socket: &impl AsFd) -> Result<usize, io::Error> {
    let mut count = 0_i32;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) writes one `int`, which lives through the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    check(result.into()).map(|_| usize::try_from(count).unwrap_or(0))
}

/// `connect` on a descriptor that must not be closed afterwards; `EINPROGRESS` is an error like any other.
pub(crate) fn connect(socket: &impl AsFd, address: SocketAddr) -> Result<(), io::Error> {
    let address = socket2::SockAddr::from(address);
    // SAFETY: the address is valid for its length and lives through the call.
    let result = unsafe {
        libc::connect(socket.as_fd().as_raw_fd(), address.as_ptr().cast(), address.len())
    };
    check(result.into()).map(drop)
}

/// `connect` with `AF_UNSPEC`: back to an unconnected socket.
pub(crate) fn disconnect(socket: &impl AsFd) -> Result<(), io::Error> {
    let address = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    // SAFETY: a whole `sockaddr`, which lives through the call.
    let result =
        unsafe { libc::connect(socket.as_fd().as_raw_fd(), &raw const address, ADDRESS_BYTES) };
    check(result.into()).map(drop)
}

/// Runs `work` in a forked child and waits for it; returns the child's pid.
pub(crate) fn in_child(work: impl FnOnce() -> Result<()>) -> Result<u32> {
    let child = start_child(work)?;
    reap(child)?;
    Ok(child)
}

/// Starts `work` in a forked child; [`reap`] it. The program has one thread at this point, so the child may do anything.
pub(crate) fn start_child(work: impl FnOnce() -> Result<()>) -> Result<u32> {
    // SAFETY: no other thread exists whose locks the child could miss (callers fork before they start threads).
    match unsafe { nix::unistd::fork() }.context("fork")? {
        nix::unistd::ForkResult::Child => leave(work()),
        nix::unistd::ForkResult::Parent { child } => Ok(u32::try_from(child.as_raw())?),
    }
}

/// Waits for a child; an error when it failed.
pub(crate) fn reap(pid: u32) -> Result<()> {
    use nix::sys::wait::{WaitStatus, waitpid};
    match waitpid(nix::unistd::Pid::from_raw(i32::try_from(pid)?), None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        status => bail!("child {pid}: {status:?}"),
    }
}

/// `io_uring_enter` for one prepared request, by a process that does not have the ring's memory.
pub(crate) fn ring_enter(ring: &impl AsRawFd) -> Result<()> {
    // SAFETY: no pointer is passed; the kernel takes the request from memory the ring's owner keeps.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            1,
            0,
            0,
            std::ptr::null::<u8>(),
            0,
        )
    };
    anyhow::ensure!(check(result)? == 1, "io_uring_enter took {result} requests, expected 1");
    Ok(())
}

/// Runs `work` in a child whose pid the caller chooses (`clone3` with `set_tid`, Linux 5.5) and waits for it.
pub(crate) fn in_child_with_pid(pid: u32, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let wanted = libc::pid_t::try_from(pid)?;
    // SAFETY: all-zero is a valid `clone_args`: no flags, no stack, no descriptors.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = u64::try_from(libc::SIGCHLD)?;
    arguments.set_tid = (&raw const wanted).addr() as u64;
    arguments.set_tid_size = 1;
    // SAFETY: without CLONE_VM this is a fork; arguments and the pid array live through the call; one thread only.
    let result = unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
    };
    match check(result).context("clone3")? {
        0 => leave(work()),
        child => reap(u32::try_from(child)?),
    }
}

/// Brings `lo` of the thread's network namespace up.
pub(crate) fn loopback_up() -> Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = i8::try_from(*from)?;
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP)?;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(result.into())?;
    Ok(())
}

/// Thread id of the caller.
pub(crate) fn thread_id() -> i32 {
    nix::unistd::gettid().as_raw()
}

const INT_BYTES: libc::socklen_t = 4;
const ADDRESS_BYTES: libc::socklen_t = 16;

fn check(result: libc::c_long) -> Result<libc::c_long, io::Error> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn leave(outcome: Result<()>) -> ! {
    if let Err(error) = &outcome {
        eprintln!("pgward-test-client: child: {error:#}");
    }
    // SAFETY: ends the child without running the parent's exit handlers a second time.
    unsafe { libc::_exit(i32::from(outcome.is_err())) }
}
