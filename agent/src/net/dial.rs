//! Connections to servers, made inside the client's own network namespace.
//!
//! Dialling from anywhere else would go round the network policy, the routes and the source address that the client has.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::Mark};
use pgward_common::{Flow, family};
use socket2::{Domain, Socket, TcpKeepalive};
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use tracing::debug;

use super::namespaces::{NamespaceError, Namespaces};
use crate::bpf::{MapError, Maps};

/// A server that vanished is noticed even where the application never writes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Why a server could not be reached.
#[derive(Debug, Error)]
pub enum DialError {
    /// The namespace gave no socket.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The socket could not be tagged: its connect would come back to ourselves.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A system call failed.
    #[error("{call} failed")]
    System {
        /// The call.
        call: &'static str,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The server, or the network, said no. The text is the system's, as libpq would print it.
    #[error("{0}")]
    Connect(#[source] io::Error),
    /// Nothing answered in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

fn system(call: &'static str) -> impl FnOnce(io::Error) -> DialError {
    move |source| DialError::System { call, source }
}

/// Makes connections to servers.
#[derive(Clone)]
pub struct Dialer {
    maps: Arc<Maps>,
    namespaces: Namespaces,
}

impl Dialer {
    /// A dialer that tags its sockets through `maps`.
    pub fn new(maps: Arc<Maps>, namespaces: Namespaces) -> Self {
        Self { maps, namespaces }
    }

    /// Connects to where the client wanted to go, from its namespace, with its mark, its device and the source address that
    /// it had bound. A bound source *port* can't be repeated: the client's own socket holds it. All of it takes `limit` at most.
    pub async fn dial(&self, flow: &Flow, limit: Duration) -> Result<TcpStream, DialError> {
        timeout(limit, self.connect(flow)).await.map_err(|_| DialError::TimedOut(limit))?
    }

    /// Connects to a server for the agent itself, from its own namespace. All of it takes `limit` at most.
    pub async fn dial_own(&self, to: SocketAddr, limit: Duration) -> Result<TcpStream, DialError> {
        let dial = async {
            let cookie = self.namespaces.own_cookie();
            let socket = self.namespaces.socket(cookie, Domain::for_address(to)).await?;
            self.maps.tag_dial(&socket, cookie)?;
            prepare(&socket, &Flow::default(), to)?;
            connected(socket, to).await
        };
        timeout(limit, dial).await.map_err(|_| DialError::TimedOut(limit))?
    }

    async fn connect(&self, flow: &Flow) -> Result<TcpStream, DialError> {
        let to = destination(flow);
        let domain = Domain::for_address(to);
        let socket = self.namespaces.socket(flow.opener.netns_cookie, domain).await?;
        self.maps.tag_dial(&socket, flow.opener.netns_cookie)?;
        prepare(&socket, flow, to)?;
        connected(socket, to).await
    }
}

/// Connects as any program would. All of it takes `limit` at most.
pub(super) async fn dial_unmarked(to: SocketAddr, limit: Duration) -> Result<TcpStream, DialError> {
    let dialled = timeout(limit, TcpStream::connect(to)).await;
    dialled.map_err(|_| DialError::TimedOut(limit))?.map_err(DialError::Connect)
}

/// Connects a socket that does not block.
async fn connected(socket: Socket, to: SocketAddr) -> Result<TcpStream, DialError> {
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(e) => return Err(DialError::Connect(e)),
    }
    let stream = TcpStream::from_std(socket.into()).map_err(system("epoll_ctl"))?;
    stream.writable().await.map_err(DialError::Connect)?;
    match stream.take_error().map_err(system("getsockopt(SO_ERROR)"))? {
        Some(error) => Err(DialError::Connect(error)),
        None => Ok(stream),
    }
}

fn prepare(socket: &Socket, flow: &Flow, to: SocketAddr) -> Result<(), DialError> {
    socket.set_tcp_nodelay(true).map_err(system("setsockopt(TCP_NODELAY)"))?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    socket.set_tcp_keepalive(&keepalive).map_err(system("setsockopt(SO_KEEPALIVE)"))?;
    if flow.mark != 0 {
        setsockopt(&socket.as_fd(), Mark, &flow.mark)
            .map_err(|e| system("setsockopt(SO_MARK)")(e.into()))?;
    }
    if let Some(index) = std::num::NonZeroU32::new(flow.bound_ifindex) {
        let bound = if to.is_ipv4() {
            socket.bind_device_by_index_v4(Some(index))
        } else {
            socket.bind_device_by_index_v6(Some(index))
        };
        bound.map_err(system("setsockopt(SO_BINDTOIFINDEX)"))?;
    }
    if flow.source_bound != 0 {
        let source = ip(flow.source);
        // With only a port bound, the redirected socket got a loopback source that the client never asked for.
        if !source.is_loopback() || to.ip().is_loopback() {
            debug!(%source, "repeating the bound source address");
            socket.bind(&SocketAddr::new(source, 0).into()).map_err(system("bind"))?;
        }
    }
    Ok(())
}

/// Where the client wanted to go; IPv4-mapped destinations as IPv4.
pub fn destination(flow: &Flow) -> SocketAddr {
    debug_assert!(matches!(flow.family, family::V4 | family::V6 | family::V4_MAPPED));
    SocketAddr::new(ip(flow.destination), u16::from_be_bytes(flow.destination_port))
}

/// The client's end of the loopback connection.
pub fn source(flow: &Flow) -> SocketAddr {
    SocketAddr::new(ip(flow.source), u16::from_be_bytes(flow.source_port))
}

fn ip(address: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(address).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_destinations_are_dialled_as_ipv4() {
        let mut flow = Flow { family: family::V4_MAPPED, ..Flow::default() };
        flow.destination = std::net::Ipv4Addr::new(10, 1, 2, 3).to_ipv6_mapped().octets();
        flow.destination_port = 5432u16.to_be_bytes();
        assert_eq!(destination(&flow), "10.1.2.3:5432".parse().expect("an address"));
        flow.family = family::V6;
        flow.destination = "fd00::1".parse::<Ipv6Addr>().expect("an address").octets();
        assert_eq!(destination(&flow), "[fd00::1]:5432".parse().expect("an address"));
    }
}
