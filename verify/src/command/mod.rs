//! The command that checks a trail, for the programs that have it: its arguments, the files that
//! they name, and what it prints.

mod print;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

pub use print::Printer;

use crate::bundle::{BUNDLE_BYTES_MAX, verify_bundle};
use crate::note::{BadKey, VerifierKey};
use crate::{CheckError, Options, Progress, Report, verify_dir_with};

/// Longest file of keys.
const KEYS_BYTES_MAX: u64 = 1 << 20;

/// What is checked against what, and how it is shown.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Public key of a host: `keys/host.vkey` as it was copied at enrolment, or the line itself. A key
    /// for `<fleet>/<host>` counts for all epochs of that host
    #[arg(long = "key", value_name = "FILE|VKEY")]
    pub keys: Vec<String>,
    /// Public key of a witness (cosignature/v1): a file or the line itself
    #[arg(long = "witness", value_name = "FILE|VKEY")]
    pub witnesses: Vec<String>,
    /// Number of witnesses that must have signed; by default all
    #[arg(long, value_name = "NUMBER")]
    pub quorum: Option<usize>,
    /// Checkpoints that were copied elsewhere: a file with one or many notes, or a folder
    #[arg(long = "anchor", value_name = "FILE|FOLDER")]
    pub anchors: Vec<PathBuf>,
    /// Another copy of the trail, to be compared byte by byte
    #[arg(long, value_name = "FOLDER")]
    pub copy: Option<PathBuf>,
    /// Seconds between two seals, as configured on the host [default: 10, or what the configuration
    /// beside it says]
    #[arg(long, value_name = "SECONDS")]
    pub seal_every: Option<u64>,
    /// Seconds by which the newest record may be younger than the newest anchored one
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub anchor_lag: u64,
    /// Judge the age of the last seal as of this time, in seconds since 1970: when a copy was made
    #[arg(long, value_name = "SECONDS")]
    pub as_of: Option<u64>,
    /// Check again and again, so many seconds after each run, and print what is new
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub watch: Option<u64>,
    /// JSON for machines: one object for each finding, and one for the summary
    #[arg(long)]
    pub json: bool,
}

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A file of keys can't be read.
    #[error("cannot read the key `{given}`")]
    Read {
        /// The file.
        given: String,
        /// Why.
        source: io::Error,
    },
    /// A line is no key.
    #[error("not a key: `{given}`")]
    Key {
        /// The file or line.
        given: String,
        /// What is wrong with it.
        source: BadKey,
    },
    /// A bundle can't be read.
    #[error("cannot read the bundle `{}`", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody makes such bundles.
    #[error("too long for a bundle: found more than {BUNDLE_BYTES_MAX} bytes in `{}`", .0.display())]
    TooLong(PathBuf),
    /// The check itself.
    #[error(transparent)]
    Check(#[from] CheckError),
}

impl Args {
    /// Checks a trail or, if `path` is a file, a bundle.
    pub fn check(&self, path: &Path, progress: Progress<'_>) -> Result<Report, CommandError> {
        let mut options = Options::new(path);
        options.keys = keys(&self.keys)?;
        options.witnesses = keys(&self.witnesses)?;
        options.quorum = self.quorum;
        options.anchors.clone_from(&self.anchors);
        options.copy.clone_from(&self.copy);
        options.anchor_lag_seconds = self.anchor_lag;
        if let Some(seconds) = self.seal_every {
            options.seal_every_seconds = seconds;
        }
        if let Some(seconds) = self.as_of {
            options.now_ns = seconds.saturating_mul(1_000_000_000);
        }
        if path.is_file() {
            return Ok(verify_bundle(&bundle(path)?, &options)?);
        }
        Ok(verify_dir_with(&options, progress)?)
    }
}

fn bundle(path: &Path) -> Result<Vec<u8>, CommandError> {
    let failed = |source| CommandError::Bundle { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > BUNDLE_BYTES_MAX {
        return Err(CommandError::TooLong(path.to_owned()));
    }
    Ok(bytes)
}

/// Keys are given as lines, or as files that hold lines.
fn keys(given: &[String]) -> Result<Vec<VerifierKey>, CommandError> {
    let mut keys = Vec::new();
    for one in given {
        let is_line = one.matches('+').count() >= 2 && !Path::new(one).exists();
        let text = if is_line {
            one.clone()
        } else {
            let failed = |source| CommandError::Read { given: one.clone(), source };
            let mut text = String::new();
            let file = File::open(one).map_err(failed)?;
            file.take(KEYS_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
            text
        };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let failed = |source| CommandError::Key { given: one.clone(), source };
            keys.push(VerifierKey::parse(line).map_err(failed)?);
        }
    }
    Ok(keys)
}
