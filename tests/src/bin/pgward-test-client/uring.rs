//! io_uring, in the three ways a request can be carried out.

#![expect(unsafe_code, reason = "the ring reads memory that its user promises to keep")]

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use io_uring::squeue::Flags;
use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};
use socket2::{SockAddr, Socket};

/// Who carries a request out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The submitting thread, within the system call.
    Inline,
    /// A worker thread of the same process (`IOSQE_ASYNC`).
    Async,
    /// The ring's own kernel thread (`IORING_SETUP_SQPOLL`).
    KernelPoll,
}

/// Entries of the rings: one request at a time.
const ENTRIES: u32 = 4;

/// How long an idle polling thread lives, milliseconds.
const POLL_IDLE_MS: u32 = 50;

/// Makes a ring for this mode.
pub(crate) fn ring(mode: Mode) -> Result<IoUring> {
    let mut builder = IoUring::builder();
    if mode == Mode::KernelPoll {
        builder.setup_sqpoll(POLL_IDLE_MS);
    }
    builder.build(ENTRIES).context("io_uring_setup")
}

/// `IORING_OP_CONNECT`.
pub(crate) fn connect(mode: Mode, socket: Socket, address: SocketAddr) -> Result<TcpStream> {
    let address = SockAddr::from(address);
    let entry =
        opcode::Connect::new(Fd(socket.as_raw_fd()), address.as_ptr().cast(), address.len());
    complete(&mut ring(mode)?, mode, entry.build()).context("io_uring connect")?;
    Ok(OwnedFd::from(socket).into())
}

/// `IORING_OP_SEND` of all bytes.
pub(crate) fn send(mode: Mode, stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    let sent =
        complete(&mut ring(mode)?, mode, send_entry(stream, bytes)).context("io_uring send")?;
    if usize::try_from(sent)? != bytes.len() {
        bail!("io_uring sent {sent} of {} bytes", bytes.len());
    }
    Ok(())
}

/// A prepared `IORING_OP_SEND`.
pub(crate) fn send_entry(stream: &TcpStream, bytes: &[u8]) -> squeue::Entry {
    let length = u32::try_from(bytes.len()).expect("tests send little");
    opcode::Send::new(Fd(stream.as_raw_fd()), bytes.as_ptr(), length).build()
}

/// `IORING_OP_SEND_ZC`: the result and whether the notification came.
pub(crate) fn send_zero_copy(stream: &TcpStream, bytes: &[u8]) -> Result<(i32, bool)> {
    let length = u32::try_from(bytes.len())?;
    let entry = opcode::SendZc::new(Fd(stream.as_raw_fd()), bytes.as_ptr(), length).build();
    let mut ring = ring(Mode::Inline)?;
    let result = complete(&mut ring, Mode::Inline, entry)?;
    ring.submit_and_wait(1)?;
    let notified = ring.completion().next().is_some_and(|e| io_uring::cqueue::notif(e.flags()));
    Ok((result, notified))
}

/// Puts one request into the submission queue without submitting it.
pub(crate) fn prepare(ring: &mut IoUring, mode: Mode, entry: squeue::Entry) -> Result<()> {
    let entry = if mode == Mode::Async { entry.flags(Flags::ASYNC) } else { entry };
    // SAFETY: every caller keeps the buffer or address of its entry alive until the completion has been read.
    unsafe { ring.submission().push(&entry) }.context("the submission queue is full")?;
    Ok(())
}

/// One request from start to end; its result, negative results as errors.
fn complete(ring: &mut IoUring, mode: Mode, entry: squeue::Entry) -> Result<i32> {
    prepare(ring, mode, entry)?;
    ring.submit_and_wait(1).context("io_uring_enter")?;
    let done = ring.completion().next().context("no completion")?;
    if done.result() < 0 {
        return Err(std::io::Error::from_raw_os_error(-done.result()).into());
    }
    Ok(done.result())
}
