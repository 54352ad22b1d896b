//! `print`: a line in the system's log or on standard output, for paper, mail or another machine's
//! collector.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    time::Duration,
};

use thiserror::Error;

use super::{Checkpoint, CopyError, Known, Place, Question};
use crate::config::PrintTo;

/// Where the system's log listens.
const SYSLOG: &str = "/dev/log";
/// Facility `daemon` (3), severity `notice` (5): RFC 5424, section 6.2.1.
const PRIORITY: u8 = 3 * 8 + 5;
/// How long the system's log may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Prints checkpoints.
#[derive(Debug)]
pub struct Printer(To);

#[derive(Debug)]
enum To {
    Syslog(PathBuf),
    Stdout,
}

/// Why nothing was printed.
#[derive(Debug, Error)]
pub enum PrintError {
    /// The system's log does not take it.
    #[error("the system's log at `{}`: {call}", path.display())]
    Syslog {
        /// Its socket.
        path: PathBuf,
        /// The call.
        call: &'static str,
        /// From the system.
        source: io::Error,
    },
    /// Standard output does not.
    #[error("standard output")]
    Stdout(#[source] io::Error),
}

impl Printer {
    /// A printer.
    pub fn new(to: PrintTo) -> Self {
        match to {
            PrintTo::Syslog => Self::syslog(SYSLOG.into()),
            PrintTo::Stdout => Self(To::Stdout),
        }
    }

    /// One that writes to the datagram socket at `path`.
    pub fn syslog(path: PathBuf) -> Self {
        Self(To::Syslog(path))
    }
}

impl Place for Printer {
    fn copy(&mut self, checkpoint: &Checkpoint) -> Result<(), CopyError> {
        let line = line(checkpoint);
        match &self.0 {
            To::Stdout => {
                let mut out = io::stdout().lock();
                let printed = writeln!(out, "{line}").and_then(|()| out.flush());
                printed.map_err(PrintError::Stdout)?;
            }
            To::Syslog(path) => {
                let failed =
                    |call| move |source| PrintError::Syslog { path: path.clone(), call, source };
                // A time is left out, as RFC 3164, section 4.3.2 allows: the log puts its own, and ours
                // would need the zone of this host.
                let message = format!("<{PRIORITY}>pgward[{}]: {line}", std::process::id());
                let socket = UnixDatagram::unbound().map_err(failed("socket"))?;
                socket.set_write_timeout(Some(LIMIT)).map_err(failed("setsockopt"))?;
                socket.connect(path).map_err(failed("connect"))?;
                socket.send(message.as_bytes()).map_err(failed("send"))?;
            }
        }
        Ok(())
    }

    /// What was printed can't be read again from here.
    fn newest_known(&mut self, _: &Question) -> Result<Vec<Known>, CopyError> {
        Ok(Vec::new())
    }
}

/// The note in one line, from which it can be put together again: the three lines, and the signature of
/// the log itself.
fn line(checkpoint: &Checkpoint) -> String {
    let mut body = checkpoint.body().split('\n').skip(2);
    let root = body.next().unwrap_or_default();
    let own = format!("— {} ", checkpoint.origin());
    let signature = checkpoint.signatures().lines().find_map(|line| line.strip_prefix(&own));
    let signature = signature.unwrap_or("none");
    let (origin, size) = (checkpoint.origin(), checkpoint.size());
    format!("checkpoint origin={origin} size={size} root={root} signature={signature}")
}
