//! The asking side: blocking, for the command line.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{RESPONSE_BYTES_MAX, Request, Response};

/// How long the agent may take for each part of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no agent answers at `{}`", path.display())]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// From the system.
        source: io::Error,
    },
    /// The socket may not be opened.
    #[error("not allowed to ask the agent at `{}`: only root and the agent's user are", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
        /// From the system.
        source: io::Error,
    },
    /// The connection broke, or the agent took too long.
    #[error("agent at `{}` did not answer", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// From the system.
        source: io::Error,
    },
    /// The answer is not one.
    #[error("answer of the agent is not understood: is it of another version?")]
    NotUnderstood(#[source] serde_json::Error),
    /// The agent said no.
    #[error("agent refused: {0}")]
    Refused(String),
}

/// Asks the agent at `path`. A refusal is an error.
pub fn ask(path: &Path, request: Request) -> Result<Response, ClientError> {
    ask_within(path, request, ANSWER_TIMEOUT)
}

/// As [`ask`], where the agent may take as long as `limit` for each part of its answer.
pub fn ask_within(path: &Path, request: Request, limit: Duration) -> Result<Response, ClientError> {
    let connected = UnixStream::connect(path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Denied { path: path.to_owned(), source },
        _ => ClientError::NoAgent { path: path.to_owned(), source },
    })?;
    let line = exchange(connected, &request, limit)
        .map_err(|source| ClientError::Broken { path: path.to_owned(), source })?;
    match serde_json::from_slice(&line).map_err(ClientError::NotUnderstood)? {
        Response::Refused { reason } => Err(ClientError::Refused(reason)),
        response => Ok(response),
    }
}

fn exchange(mut stream: UnixStream, request: &Request, limit: Duration) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // An agent that refuses to read says why before it closes: what it wrote counts more than what
    // it did not read.
    let sent = stream.write_all(&line);
    line.clear();
    BufReader::new(stream.take(RESPONSE_BYTES_MAX as u64)).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        return Ok(line);
    }
    sent?;
    Err(io::ErrorKind::UnexpectedEof.into())
}
