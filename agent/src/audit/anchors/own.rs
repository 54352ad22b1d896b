//! HTTP over sockets of the agent's own.
//!
//! A socket that is not marked would be intercepted like any other where a witness stands on a protected
//! port: the agent would wait for itself.
//!
//! The traits are of `ureq::unversioned`: they may change with its minor versions, which `Cargo.lock`
//! holds.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};
use ureq::{
    Agent, Error, Timeout,
    config::Config,
    unversioned::{
        resolver::DefaultResolver,
        transport::{
            Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, RustlsConnector,
            Transport,
        },
    },
};

use super::WITNESS_LIMIT;
use crate::net::dial::{DialError, Dialer};

/// A client of HTTP whose sockets `dialer` marks. Errors: no runtime can be made.
pub(super) fn agent(config: Config, dialer: Dialer) -> io::Result<Agent> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let connector = OwnConnector { dialer, runtime }.chain(RustlsConnector::default());
    Ok(Agent::with_parts(config, connector, DefaultResolver::default()))
}

struct OwnConnector {
    dialer: Dialer,
    runtime: Runtime,
}

impl fmt::Debug for OwnConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnConnector")
    }
}

impl OwnConnector {
    fn dial(&self, to: SocketAddr, limit: Duration) -> Result<TcpStream, Error> {
        let dialled = self.runtime.block_on(async {
            let stream = self.dialer.dial_own(to, limit).await?;
            stream.into_std().map_err(DialError::Connect)
        });
        let stream = dialled.map_err(|error| match error {
            DialError::Connect(source) => Error::Io(source),
            DialError::TimedOut(_) => Error::Timeout(Timeout::Connect),
            DialError::Namespace(_) | DialError::Map(_) | DialError::System { .. } => {
                Error::Other(Box::new(error))
            }
        })?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}

impl Connector for OwnConnector {
    type Out = OwnTransport;

    /// Tries all addresses of a name; each may take an equal part of the time.
    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<OwnTransport>, Error> {
        let limit = details.timeout.not_zero().map_or(WITNESS_LIMIT, |left| *left);
        let each = limit / u32::try_from(details.addrs.len()).unwrap_or(u32::MAX).max(1);
        let mut result = Err(Error::HostNotFound);
        for address in &details.addrs {
            result = self.dial(*address, each);
            if result.is_ok() {
                break;
            }
        }
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        result.map(|stream| Some(OwnTransport { stream, buffers }))
    }
}

struct OwnTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl fmt::Debug for OwnTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnTransport").field(&self.stream).finish()
    }
}

impl Transport for OwnTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(timeout.not_zero().map(|left| *left))?;
        let sent = self.stream.write_all(&self.buffers.output()[..amount]);
        sent.map_err(|error| failed(error, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(timeout.not_zero().map(|left| *left))?;
        let count = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Ok(count) => break count,
                // No call on a socket with a limit is taken up again by itself behind a signal.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error, timeout.reason)),
            }
        };
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    /// Each request has a connection of its own: a minute is long for one through firewalls.
    fn is_open(&mut self) -> bool {
        false
    }
}

/// A limit of a socket that was reached shows as one of two errors.
fn failed(error: io::Error, reason: Timeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(reason),
        _ => Error::Io(error),
    }
}
