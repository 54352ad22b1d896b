//! Secrets at run time: where the configuration says they are, read when they are needed.
//!
//! Nothing here blocks a worker: files are read on the threads for blocking work, programs are
//! waited for as any other input. What was read is hidden from `Debug` and cleared on drop; an
//! error names the place of a secret and never a part of it.
//!
//! - [`PasswordSource`](crate::config::PasswordSource) reads a password once, [`Password`] reads it
//!   whenever it is asked for and keeps what a program printed for a while;
//! - [`VerifierFile`] is a file of verifiers, read again when it changes;
//! - [`AccountSecrets`] is both sides of a mapped account;
//! - [`VerifierCache`] keeps what lookups found, and lets one fetch at a time run for a role;
//! - [`examine_places`] looks at all of these places beforehand, for `config check` and `doctor`.

mod account;
mod cache;
mod command;
mod derived;
mod file;
mod password;
mod places;
mod verifier_file;

pub use account::AccountSecrets;
pub use cache::{CACHE_ENTRIES_MAX, Claim, Fetch, MISSING_TTL, VerifierCache, VerifierKey};
pub use command::{COMMAND_BYTES_MAX, COMMAND_LIMIT};
pub use file::{Fault, inspect};
pub use password::{COMMAND_FAILURE_TTL, COMMAND_TTL, PASSWORD_BYTES_MAX, Password};
pub use places::examine_places;
pub use verifier_file::{FILE_BYTES_MAX, LINES_MAX, LineFault, VerifierFile};

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::pg::scram::VerifierError;

/// Why a secret could not be read. All are failures of the environment, not of a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// A file is not there, can't be read, or is not to be trusted.
    #[error("secret file `{}`: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A line of a verifier file.
    #[error("verifier file `{}`, line {line}: {fault}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// The environment has no such variable.
    #[error("environment variable `{name}` is not set")]
    NotSet {
        /// Its name.
        name: String,
    },
    /// There was nothing.
    #[error("{from} holds no password")]
    Empty {
        /// Where.
        from: String,
    },
    /// A zero byte, which no password of PostgreSQL has.
    #[error("{from} holds a zero byte")]
    ZeroByte {
        /// Where.
        from: String,
    },
    /// More than a password has.
    #[error("{from} is too long for a password: expected at most {max} bytes")]
    TooLong {
        /// Where.
        from: String,
        /// The limit in bytes.
        max: usize,
    },
    /// A program could not be started, or its output not be read.
    #[error("password command `{program}`: {what}: {kind}")]
    Program {
        /// Its path.
        program: String,
        /// Which operation failed.
        what: &'static str,
        /// From the system.
        kind: ErrorKind,
    },
    /// A program failed.
    #[error("password command `{program}` failed: {status}")]
    Status {
        /// Its path.
        program: String,
        /// `exit status: 1`, or the signal.
        status: String,
    },
    /// A program took too long and was killed.
    #[error("password command `{program}` took longer than {limit_ms} ms")]
    Timeout {
        /// Its path.
        program: String,
        /// The limit.
        limit_ms: u64,
    },
    /// A verifier that the configuration holds.
    #[error("verifier in the configuration")]
    Verifier(#[source] VerifierError),
    /// The kernel gave no random bytes for a salt.
    #[error("no random bytes from the kernel")]
    Random,
    /// The thread that read it panicked, or the agent is stopping.
    #[error("the reader of {from} did not finish")]
    Unfinished {
        /// Where.
        from: String,
    },
}
