//! A service manager that keeps what the agent leaves for its next run.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::kernel;

/// How soon it is noticed that the agent is gone.
const LOOK: Duration = Duration::from_millis(50);

/// Listens while an agent runs, as `FileDescriptorStoreMax=1` has the service manager do.
#[derive(Debug)]
pub struct Keeper {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<OwnedFd>>>,
}

impl Keeper {
    /// Listens at the socket that `NOTIFY_SOCKET` names.
    pub fn start(socket: UnixDatagram) -> Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(LOOK))?;
        let ended = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&ended);
        let thread = std::thread::spawn(move || listen(&socket, &theirs));
        Ok(Self { ended, thread: Some(thread) })
    }

    /// The agent is gone: what it left.
    pub fn end(mut self) -> Option<OwnedFd> {
        self.join()
    }

    fn join(&mut self) -> Option<OwnedFd> {
        self.ended.store(true, Ordering::SeqCst);
        self.thread.take()?.join().ok()?
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.join();
    }
}

fn listen(socket: &UnixDatagram, ended: &AtomicBool) -> Option<OwnedFd> {
    let mut kept = None;
    loop {
        let last = ended.load(Ordering::SeqCst);
        match message(socket) {
            Ok((state, descriptor)) if state.starts_with(b"FDSTORE=1") => kept = descriptor,
            // The descriptor of a barrier is closed here, which is the answer.
            Ok(_) => {}
            Err(_) if last => return kept,
            // Nothing came for a while.
            Err(_) => {}
        }
    }
}

fn message(socket: &UnixDatagram) -> nix::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut buffer = [0; 4096];
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let length = message.bytes;
    let mut descriptor = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            descriptor = descriptors.first().map(|raw| kernel::owned(*raw));
        }
    }
    Ok((buffer[..length].to_vec(), descriptor))
}
