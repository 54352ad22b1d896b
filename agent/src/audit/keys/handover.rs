//! The key of the next seal, passed from one run to the next through the service manager.
//!
//! The manager keeps descriptors for a service (`sd_notify(3)`, `FDSTORE=1`). What it is given is a
//! pipe with the key in it, and not a memory file: a pipe's pages are the kernel's own and never go
//! to swap, and reading takes the key out. So the key is nowhere once the next run has it, even while
//! the manager still holds the descriptor. The pipe is open for reading and writing at once, since
//! managers drop a descriptor whose other end is closed.
//!
//! Who can read the manager's descriptors can take the key. That is root, between a clean stop and the
//! next start, who could as well have taken it from the agent's memory a moment before.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::{Mode, SFlag, fstat},
    unistd::pipe2,
};
use thiserror::Error;
use zeroize::Zeroizing;

use super::SealKey;

/// Under which the manager keeps it.
pub const HANDOVER_NAME: &str = "pgward-seal";

const MAGIC: &[u8; 16] = b"pgward seal key\n";
/// Magic and seed.
const BYTES: usize = 48;

/// Why no key was passed on.
#[derive(Debug, Error)]
pub enum HandoverError {
    /// The system refused.
    #[error("{call} failed")]
    Call {
        /// What was tried.
        call: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The descriptor is something else.
    #[error("the descriptor that was passed on is no pipe")]
    NoPipe,
    /// Its content is something else, or was taken before.
    #[error("the pipe that was passed on holds {0} bytes that are no key, expected {BYTES}")]
    NoKey(usize),
}

/// A descriptor that holds the key.
pub fn offer(key: &SealKey) -> Result<OwnedFd, HandoverError> {
    let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let (read, write) = pipe2(flags).map_err(|e| failed("pipe")(e.into()))?;
    let mut bytes = Zeroizing::new([0; BYTES]);
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[MAGIC.len()..].copy_from_slice(key.seed());
    // An empty pipe takes up to 4096 bytes as a whole (pipe(7), PIPE_BUF).
    File::from(write).write_all(&*bytes).map_err(failed("writing a pipe"))?;
    let path = format!("/proc/self/fd/{}", read.as_raw_fd());
    open(path.as_str(), flags | OFlag::O_RDWR, Mode::empty())
        .map_err(|e| failed("opening a pipe")(e.into()))
}

/// Takes the key out of a descriptor that the manager passed on. Does not wait.
pub fn take(descriptor: OwnedFd) -> Result<SealKey, HandoverError> {
    let kind = fstat(&descriptor).map_err(|e| failed("fstat")(e.into()))?.st_mode;
    if kind & SFlag::S_IFMT.bits() != SFlag::S_IFIFO.bits() {
        return Err(HandoverError::NoPipe);
    }
    // Opened anew: whether the manager's own description waits is the manager's matter.
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut pipe = File::from(
        open(path.as_str(), flags, Mode::empty())
            .map_err(|e| failed("opening a pipe")(e.into()))?,
    );
    // One more than a key, to see what is too long.
    let mut bytes = Zeroizing::new([0; BYTES + 1]);
    let length = match pipe.read(&mut *bytes) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(failed("reading a pipe")(error)),
    };
    match bytes[..length].strip_prefix(MAGIC) {
        Some(found) if found.len() == BYTES - MAGIC.len() => {
            let mut seed = Box::new(Zeroizing::new([0; 32]));
            seed.copy_from_slice(found);
            Ok(SealKey::from_seed(seed))
        }
        _ => Err(HandoverError::NoKey(length)),
    }
}

fn failed(call: &'static str) -> impl FnOnce(io::Error) -> HandoverError {
    move |source| HandoverError::Call { call, source }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::audit::chain::Signer as _;

    #[test]
    fn a_key_can_be_taken_once() {
        let key = SealKey::fresh().expect("random");
        let offered = offer(&key).expect("a pipe");
        let kept = offered.try_clone().expect("as a manager keeps it");
        let taken = take(offered).expect("it is in there");
        assert_eq!(taken.public_key(), key.public_key());
        assert_eq!(taken.sign(b"x"), key.sign(b"x"));
        assert!(matches!(take(kept), Err(HandoverError::NoKey(0))));
    }

    #[test]
    fn a_manager_sees_no_reason_to_drop_it() {
        let offered = offer(&SealKey::fresh().expect("random")).expect("a pipe");
        let mut events = [PollFd::new(offered.as_fd(), PollFlags::empty())];
        // Hang-ups and errors are reported without being asked for.
        assert_eq!(poll(&mut events, PollTimeout::ZERO), Ok(0));
    }

    #[test]
    fn what_holds_no_key_is_refused() {
        let file = tempfile::tempfile().expect("a temporary file");
        assert!(matches!(take(file.into()), Err(HandoverError::NoPipe)));
        for content in [&b""[..], b"pgward seal key\n", &[0; BYTES], &[b'x'; BYTES + 1]] {
            let (read, write) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
            File::from(write).write_all(content).expect("room");
            let found = take(read).expect_err("no key");
            assert!(matches!(found, HandoverError::NoKey(n) if n == content.len()), "{found}");
        }
    }
}
