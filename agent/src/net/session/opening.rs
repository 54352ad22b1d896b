//! The first packets of a client, and TLS if it asks for it.

use std::io;

use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    config::ClientTls,
    net::{leg::Leg, route::Route, worker::Context},
    pg::{
        self,
        handshake::Channel,
        scram::EndPoint,
        startup::{FirstPacket, Opening, Transport},
    },
    tls::{Accepted, Alpn, TlsError},
};

/// Bytes read at once before the relay begins.
const OPENING_READ_BYTES: usize = 1024;

/// A client, its packet that says what the connection is for, and what came behind it.
pub(super) struct Opened {
    /// The client.
    pub(super) leg: Leg,
    /// What it wants. `None`: it closed without a word.
    pub(super) packet: Option<FirstPacket>,
    /// Read and not looked at.
    pub(super) rest: Vec<u8>,
    /// Bytes of the (decrypted) stream up to the end of the packet.
    pub(super) consumed: u64,
    /// TLS, if it asked for it.
    pub(super) tls: Option<Accepted>,
}

impl Opened {
    /// What SCRAM has to know of the leg.
    pub(super) fn channel(&self) -> Channel {
        match &self.tls {
            None => Channel::Clear,
            Some(accepted) => Channel::Tls(EndPoint::from_hash(accepted.endpoint.as_bytes())),
        }
    }
}

/// A client that is not served, and what is left of its connection.
pub(super) struct NotOpened {
    pub(super) leg: Option<Leg>,
    pub(super) error: OpeningError,
}

#[derive(Debug, Error)]
pub(super) enum OpeningError {
    #[error(transparent)]
    Protocol(#[from] pg::Error),
    #[error("reading from the client failed")]
    Client(#[source] io::Error),
    #[error("TLS with the client failed")]
    Tls(#[source] TlsError),
    #[error(
        "the client began TLS without asking, and there is none: `destination.client.tls` is off, or there is no certificate"
    )]
    DirectTlsOff,
    #[error("no startup packet within {0:?}")]
    TimedOut(std::time::Duration),
    #[error("the agent is stopping")]
    Stopping,
}

impl OpeningError {
    /// Its name in records; `None` for a client that just went.
    pub(super) fn name(&self) -> Option<&'static str> {
        match self {
            Self::Protocol(_) => Some("protocol_violation"),
            Self::Client(_) => None,
            Self::Tls(_) => Some("client_tls_failed"),
            Self::DirectTlsOff => Some("direct_tls"),
            Self::TimedOut(_) => Some("startup_timeout"),
            Self::Stopping => Some("agent_stopped"),
        }
    }
}

/// Reads until the client says what it wants. Encryption is answered on the way, and done.
pub(super) async fn open(
    context: &Context,
    route: &mut Route,
    client: TcpStream,
) -> Result<Opened, NotOpened> {
    let first = match clear(context, route, Leg::clear(client, 0)).await? {
        Clear::Done(opened) => return Ok(opened),
        Clear::Tls(first) => first,
    };
    let Begun { client, raw_read, early, alpn } = first;
    if early.is_empty() {
        // A probe may ask for TLS, see the answer and go: no handshake failed.
        let gone = match client.peek(&mut [0]).await {
            Ok(1..) => None,
            Ok(0) => Some(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Some(error),
        };
        if let Some(error) = gone {
            return Err(NotOpened { leg: None, error: OpeningError::Client(error) });
        }
    }
    let own = route.destination.presented.as_ref();
    let destination = route.address.ip();
    let client_leg = &context.destinations.client_leg;
    let accepting = client_leg.accept(client, raw_read, early, own, destination, alpn);
    let (leg, accepted) = match Box::pin(accepting).await {
        Ok(both) => both,
        Err(error) => return Err(NotOpened { leg: None, error: OpeningError::Tls(error) }),
    };
    let named = accepted.server_name.clone();
    route.named = named.and_then(|name| ServerName::try_from(name).ok());
    let mut reader = Reader { leg, buffer: Vec::new(), consumed: 0 };
    let mut opening = Opening::new(Transport::Encrypted);
    match reader.packet(&mut opening).await {
        Ok(packet) => Ok(reader.opened(packet, Some(accepted))),
        Err(error) => Err(NotOpened { leg: Some(reader.leg), error }),
    }
}

enum Clear {
    Done(Opened),
    Tls(Begun),
}

/// A client that is to begin TLS, or has begun.
struct Begun {
    client: TcpStream,
    raw_read: u64,
    early: Vec<u8>,
    alpn: Alpn,
}

async fn clear(context: &Context, route: &Route, leg: Leg) -> Result<Clear, NotOpened> {
    let own = route.destination.presented.as_ref();
    let available = match route.destination.settings.client.tls {
        ClientTls::Off => false,
        ClientTls::Optional | ClientTls::Required => {
            context.destinations.client_leg.has_certificate(own)
        }
    };
    let mut reader = Reader { leg, buffer: Vec::new(), consumed: 0 };
    let mut opening = Opening::new(Transport::Clear);
    loop {
        let failed = |leg, error| NotOpened { leg: Some(leg), error };
        let packet = match reader.packet(&mut opening).await {
            Ok(packet) => packet,
            Err(error) => return Err(failed(reader.leg, error)),
        };
        let (answer, alpn) = match packet {
            // Nothing is behind the request: `Opening` saw to that.
            Some(FirstPacket::SslRequest) if available => (&b"S"[..], Some(Alpn::Optional)),
            Some(FirstPacket::DirectTls) if available => (&b""[..], Some(Alpn::Required)),
            Some(FirstPacket::DirectTls) => {
                return Err(failed(reader.leg, OpeningError::DirectTlsOff));
            }
            Some(FirstPacket::SslRequest | FirstPacket::GssEncRequest) => (&b"N"[..], None),
            other => return Ok(Clear::Done(reader.opened(other, None))),
        };
        if let Err(error) = reader.leg.write_all(answer).await {
            return Err(failed(reader.leg, OpeningError::Client(error)));
        }
        if let Some(alpn) = alpn {
            let raw_read = reader.leg.raw_read();
            let Reader { leg, buffer: early, consumed: _ } = reader;
            let Leg::Clear(clear) = leg else { unreachable!("nothing was encrypted yet") };
            return Ok(Clear::Tls(Begun { client: clear.into_tcp(), raw_read, early, alpn }));
        }
    }
}

struct Reader {
    leg: Leg,
    buffer: Vec<u8>,
    consumed: u64,
}

impl Reader {
    /// The next packet. `None`: the client closed without one.
    async fn packet(&mut self, opening: &mut Opening) -> Result<Option<FirstPacket>, OpeningError> {
        let mut chunk = [0u8; OPENING_READ_BYTES];
        loop {
            if let Some((packet, taken)) = opening.handle(&self.buffer)? {
                self.buffer.drain(..taken);
                self.consumed += taken as u64;
                return Ok(Some(packet));
            }
            // `Opening` bounds a packet, so the buffer is bounded too.
            match self.leg.read(&mut chunk).await.map_err(OpeningError::Client)? {
                0 => return Ok(None),
                count => self.buffer.extend_from_slice(&chunk[..count]),
            }
        }
    }

    fn opened(self, packet: Option<FirstPacket>, tls: Option<Accepted>) -> Opened {
        let Self { leg, buffer: rest, consumed } = self;
        Opened { leg, packet, rest, consumed, tls }
    }
}
