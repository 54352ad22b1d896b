//! Tells the service manager that the agent is ready (sd_notify(3)).

use std::{
    env,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use tracing::warn;

/// Sends `READY=1` to `NOTIFY_SOCKET`, where one is given.
pub(super) fn ready() {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    let address = match socket.to_str().and_then(|s| s.strip_prefix('@')) {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&socket),
    };
    let sent =
        UnixDatagram::unbound().and_then(|sender| sender.send_to_addr(b"READY=1", &address?));
    if let Err(error) = sent {
        warn!(%error, "cannot tell the service manager that the agent is ready");
    }
}
