//! A connection that is intercepted like any of the cgroup's, in the hands of the test.
//!
//! A process in the cgroup connects and passes its socket on. What the hooks see is that process; every byte comes from the
//! test itself, so that a peer can be scripted without a language for scripts.

use std::io::{IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tempfile::TempDir;

use crate::cgroup::Cgroup;
use crate::scene;
use crate::wait::{self, PATIENCE};

/// An open connection. Dropping it closes it, and ends the process that made it.
#[derive(Debug)]
pub struct Visitor {
    /// The connection, blocking, reads and writes limited to [`PATIENCE`].
    pub stream: TcpStream,
    maker: Option<Maker>,
}

#[derive(Debug)]
struct Maker {
    process: Child,
    // The process ends when this closes.
    leash: Option<UnixStream>,
    _folder: TempDir,
}

impl Visitor {
    /// Connects, from inside of `cgroup` when there is one.
    pub fn connect(address: SocketAddr, cgroup: Option<&Cgroup>) -> Result<Self> {
        let (stream, maker) = match cgroup {
            None => (TcpStream::connect(address)?, None),
            Some(cgroup) => {
                made_in(cgroup, address).map(|(stream, maker)| (stream, Some(maker)))?
            }
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, maker })
    }
}

impl Read for Visitor {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Visitor {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let Some(maker) = &mut self.maker else { return };
        drop(maker.leash.take());
        let ended = wait::until_true("a visitor's process to end", PATIENCE, || {
            Ok(maker.process.try_wait()?.is_some())
        });
        if ended.is_err() {
            let _ = maker.process.kill();
            let _ = maker.process.wait();
        }
    }
}

fn made_in(cgroup: &Cgroup, address: SocketAddr) -> Result<(TcpStream, Maker)> {
    let folder = tempfile::Builder::new().prefix("pgward-visitor-").tempdir()?;
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    let told = format!("socket={}", path.display());
    let mut command = scene::client(&["hand-over", &address.to_string(), &told])?;
    command.stdout(Stdio::null());
    let mut process = cgroup.spawn_in(command)?;
    let leash = wait::until("a visitor's process", PATIENCE, || match listener.accept() {
        Ok((leash, _)) => Ok(Some(leash)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            // Its own words are on standard error.
            anyhow::ensure!(process.try_wait()?.is_none(), "it ended before it came");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    })?;
    leash.set_nonblocking(false)?;
    leash.set_read_timeout(Some(PATIENCE))?;
    let socket = receive(&leash).context("the socket of a visitor")?;
    let maker = Maker { process, leash: Some(leash), _folder: folder };
    Ok((TcpStream::from(socket), maker))
}

fn receive(leash: &UnixStream) -> Result<OwnedFd> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(std::os::fd::RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(leash.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let Some(descriptor) = descriptors.first()
        {
            return Ok(crate::kernel::owned(*descriptor));
        }
    }
    anyhow::bail!("none came")
}
