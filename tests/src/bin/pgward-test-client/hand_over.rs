//! A connection for somebody else to drive.

use std::io::{IoSlice, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use anyhow::Result;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

use crate::{Arguments, connect};

/// `hand-over ADDRESS socket=PATH`: connects, passes the socket on through the Unix socket at `PATH`, and stays until that is
/// closed.
pub(crate) fn run(arguments: &Arguments) -> Result<Value> {
    let stream = connect::blocking(arguments.address)?;
    let mut leash = UnixStream::connect(arguments.option("socket")?)?;
    let descriptors = [stream.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(leash.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None)?;
    // From here on there is one owner: what it closes is closed.
    drop(stream);
    leash.read_to_end(&mut Vec::new())?;
    Ok(json!({ "pid": std::process::id() }))
}
