//! Break-glass: when it is allowed.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};

/// Longest time for which recording may be eased at once, in minutes.
pub const MINUTES_MAX: u64 = 240;
/// Longest reason or approver, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;

/// What the file that allows it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The configuration names none.
    Unset,
    /// It is not there, or can't be looked at.
    Missing,
    /// Something else: a link, a folder.
    NotAFile,
    /// It could be made by whoever is on this host.
    Writable,
    /// It is on a file system that is mounted read-only.
    ReadOnly,
}

/// Why recording is not eased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlassError {
    /// Not root.
    #[error("only root may ease recording, not user {0}")]
    NotRoot(u32),
    /// How long.
    #[error("cannot ease recording for {0} minutes, expected 1 to {MINUTES_MAX}")]
    Minutes(u64),
    /// A text is empty or too long.
    #[error("{what} has {found} bytes, expected 1 to {TEXT_BYTES_MAX}")]
    Text {
        /// Which.
        what: &'static str,
        /// Its bytes.
        found: usize,
    },
    /// It is so already.
    #[error("recording is eased already")]
    Already,
    /// The configuration does not allow it.
    #[error("break-glass is not allowed\nhint: `audit.break_glass` names no file")]
    Unset,
    /// The file is missing.
    #[error("break-glass is not allowed now: the file that `audit.break_glass` names is not there")]
    Missing,
    /// The file is none.
    #[error("break-glass is not allowed: what `audit.break_glass` names is no regular file")]
    NotAFile,
    /// The file proves nothing.
    #[error(
        "break-glass is not allowed: the file that `audit.break_glass` names is on a file system \
         that can be written\nhint: mount it read-only"
    )]
    Writable,
}

/// Who asks for what.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// User.
    pub uid: u32,
    /// How long.
    pub minutes: u64,
    /// Why.
    pub reason: &'a str,
    /// Who approved.
    pub approver: &'a str,
}

/// Whether recording may be eased, and for how long. Pure.
pub fn allowed(asked: &Asked<'_>, token: Token, eased: bool) -> Result<Duration, GlassError> {
    if asked.uid != 0 {
        return Err(GlassError::NotRoot(asked.uid));
    }
    match token {
        Token::Unset => return Err(GlassError::Unset),
        Token::Missing => return Err(GlassError::Missing),
        Token::NotAFile => return Err(GlassError::NotAFile),
        Token::Writable => return Err(GlassError::Writable),
        Token::ReadOnly => {}
    }
    for (what, text) in [("reason", asked.reason), ("approver", asked.approver)] {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(GlassError::Text { what, found: text.len() });
        }
    }
    let lasts = lasting(asked.minutes)?;
    if eased {
        return Err(GlassError::Already);
    }
    Ok(lasts)
}

/// How long so many minutes are, if they are not too many. Pure.
pub fn lasting(minutes: u64) -> Result<Duration, GlassError> {
    match minutes {
        1..=MINUTES_MAX => Ok(Duration::from_secs(minutes * 60)),
        _ => Err(GlassError::Minutes(minutes)),
    }
}

/// Looks at the file that allows it.
pub fn token(path: Option<&Path>) -> Token {
    let Some(path) = path else { return Token::Unset };
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Token::NotAFile,
        Ok(metadata) if metadata.nlink() == 0 => return Token::Missing,
        Ok(_) => {}
        Err(_) => return Token::Missing,
    }
    // Asked of the open file: the path could lead elsewhere by then.
    let looked = || -> io::Result<Token> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = open(path, flags, Mode::empty())?;
        let kind = SFlag::from_bits_truncate(fstat(&file)?.st_mode & SFlag::S_IFMT.bits());
        if kind != SFlag::S_IFREG {
            return Ok(Token::NotAFile);
        }
        let read_only = fstatvfs(&file)?.flags().contains(FsFlags::ST_RDONLY);
        Ok(if read_only { Token::ReadOnly } else { Token::Writable })
    };
    looked().unwrap_or(Token::Missing)
}
