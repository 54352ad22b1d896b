//! Reaching a server: dial, TLS.
//!
//! ```text
//!   dial ─┬─ direct ──────────────────────────────► TLS ─► leg
//!         ├─ SSLRequest ─► one byte: `S` ─────────► TLS ─► leg
//!         │                          `N`, prefer ────────► leg in the clear
//!         └─ disabled ───────────────────────────────────► leg in the clear
//! ```

use std::io;

use pgward_common::Flow;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tracing::debug;

use super::{
    cancels::Encrypted,
    destinations::Unloaded,
    dial::{DialError, Dialer, dial_unmarked},
    error::chain,
    leg::Leg,
    route::Route,
};
use crate::{
    config::{Negotiation, ServerTls},
    pg::{
        handshake::{Channel, ServerLeg, course::CertificateGiven},
        scram::EndPoint,
        startup,
    },
    tls::{self, Alpn, IdentityGiven, TlsError},
};

/// An error that a server sends in place of its answer to `SSLRequest`, in bytes.
const EARLY_ERROR_BYTES_MAX: usize = 1024;

/// A connection to a server.
pub struct Reached {
    /// The connection.
    pub leg: Leg,
    /// What SCRAM has to know of it.
    pub described: ServerLeg,
    /// What was agreed on, if it is encrypted.
    pub tls: Option<tls::Parameters>,
}

impl Reached {
    /// Whether it is encrypted.
    pub fn encrypted(&self) -> Encrypted {
        match self.tls {
            Some(_) => Encrypted::Yes,
            None => Encrypted::No,
        }
    }
}

/// Why a server could not be reached.
#[derive(Debug, Error)]
pub enum ReachError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What TLS needs is not there.
    #[error(transparent)]
    Unloaded(#[from] Unloaded),
    /// The server has no TLS, and it is required.
    #[error("the server does not offer TLS, which `destination.server.tls = \"{}\"` requires", .0.name())]
    NotOffered(ServerTls),
    /// Bytes behind the answer to the request for encryption (CVE-2021-23222).
    #[error(
        "the server sent {0} bytes in the clear behind its answer to the request for encryption"
    )]
    Stuffed(usize),
    /// Something else than an answer.
    #[error("the server answered the request for encryption with {0:#04x}, expected `S` or `N`")]
    NoAnswer(u8),
    /// An error in place of the answer.
    #[error("the server refused the connection before encryption")]
    Refused(Vec<u8>),
    /// It closed.
    #[error("the server closed the connection instead of answering the request for encryption")]
    Closed,
    /// The connection broke.
    #[error("the connection broke while encryption was asked for")]
    Io(#[source] io::Error),
    /// It took too long.
    #[error("the server did not encrypt the connection in time")]
    TimedOut,
}

/// Connects `flow` to its server, as the destination wants it, until `deadline`.
///
/// `wanted`: as another connection of the same session is; `None` leaves it to the destination.
pub async fn reach(
    dialer: &Dialer,
    flow: &Flow,
    route: &Route,
    wanted: Option<Encrypted>,
    deadline: Instant,
) -> Result<Reached, ReachError> {
    let dial = || dialer.dial(flow, deadline.saturating_duration_since(Instant::now()));
    reach_by(dial, route, wanted, deadline).await
}

/// The same for a connection of the agent's own, from its own namespace.
///
/// Without a `dialer` its socket is not marked as ours: where the kernel side is attached, it would come back to ourselves.
pub async fn reach_own(
    dialer: Option<&Dialer>,
    route: &Route,
    deadline: Instant,
) -> Result<Reached, ReachError> {
    let dial = || async {
        let limit = deadline.saturating_duration_since(Instant::now());
        match dialer {
            Some(dialer) => dialer.dial_own(route.address, limit).await,
            None => dial_unmarked(route.address, limit).await,
        }
    };
    reach_by(dial, route, None, deadline).await
}

async fn reach_by<D: Future<Output = Result<TcpStream, DialError>>>(
    dial: impl Fn() -> D,
    route: &Route,
    wanted: Option<Encrypted>,
    deadline: Instant,
) -> Result<Reached, ReachError> {
    let configured = route.destination.settings.server_tls(route.address);
    let mode = match (wanted, configured) {
        (Some(Encrypted::No), _) => ServerTls::Disable,
        (Some(Encrypted::Yes), ServerTls::Prefer) => ServerTls::Require,
        (Some(Encrypted::Yes) | None, mode) => mode,
    };
    let encrypting = async {
        let stream = dial().await?;
        match mode {
            ServerTls::Disable => Ok(clear(stream)),
            ServerTls::Prefer => match encrypt(stream, route, mode).await {
                // As libpq does: whoever prefers encryption takes clear text rather than nothing.
                Err(ReachError::Tls(error)) => {
                    debug!(error = %chain(&error), "no TLS with a server that offers it");
                    Ok(clear(dial().await?))
                }
                other => other,
            },
            ServerTls::Require | ServerTls::VerifyCa | ServerTls::VerifyFull => {
                encrypt(stream, route, mode).await
            }
        }
    };
    timeout_at(deadline, encrypting).await.map_err(|_| ReachError::TimedOut)?
}

fn clear(stream: TcpStream) -> Reached {
    let described = ServerLeg { channel: Channel::Clear, certificate: CertificateGiven::No };
    Reached { leg: Leg::clear(stream, 0), described, tls: None }
}

async fn encrypt(
    mut stream: TcpStream,
    route: &Route,
    mode: ServerTls,
) -> Result<Reached, ReachError> {
    let alpn = match route.destination.settings.server.negotiation {
        Negotiation::Direct => Alpn::Required,
        Negotiation::Postgres => match ask(&mut stream).await? {
            Answer::Accepted => Alpn::Optional,
            Answer::Declined if mode == ServerTls::Prefer => return Ok(clear(stream)),
            Answer::Declined => return Err(ReachError::NotOffered(mode)),
        },
    };
    let raw_read = match alpn {
        Alpn::Required => 0,
        Alpn::Optional => 1,
    };
    let server_leg = route.destination.server_leg(mode)?;
    let name = route.server_name();
    let (leg, connected) =
        server_leg.connect(stream, raw_read, name.as_ref(), route.address.ip(), alpn).await?;
    let end_point = connected.endpoint.and_then(|hash| EndPoint::from_hash(hash.as_bytes()));
    let certificate = match connected.identity {
        IdentityGiven::Yes => CertificateGiven::Yes,
        IdentityGiven::No => CertificateGiven::No,
    };
    let described = ServerLeg { channel: Channel::Tls(end_point), certificate };
    Ok(Reached { leg, described, tls: Some(connected.parameters) })
}

enum Answer {
    Accepted,
    Declined,
}

/// Asks for encryption. More than the one byte of the answer must not be there yet: an attacker on the path could have put it
/// there, and it would be taken for the server's behind the handshake.
async fn ask(stream: &mut TcpStream) -> Result<Answer, ReachError> {
    let mut request = Vec::new();
    startup::write_ssl_request(&mut request).expect("eight bytes");
    stream.write_all(&request).await.map_err(ReachError::Io)?;
    let mut answer = [0_u8; EARLY_ERROR_BYTES_MAX];
    let count = stream.read(&mut answer).await.map_err(ReachError::Io)?;
    match (count, answer[0]) {
        (0, _) => Err(ReachError::Closed),
        (1, b'S') => Ok(Answer::Accepted),
        (1, b'N') => Ok(Answer::Declined),
        (count, b'S' | b'N') => Err(ReachError::Stuffed(count - 1)),
        // A server that could not start a process for us, or one older than encryption.
        (count, b'E') => Err(ReachError::Refused(answer[..count].to_vec())),
        (_, other) => Err(ReachError::NoAnswer(other)),
    }
}
