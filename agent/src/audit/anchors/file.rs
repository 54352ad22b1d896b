//! `file`: a folder in which each checkpoint is a file of its own, for example a mounted share.
//!
//! ```text
//!   <folder>/<origin, with `_` for `/`>/<size, 20 digits>     the note
//! ```
//!
//! A file is written under another name, made durable, and then linked to its own, which fails where the
//! name is taken: none is ever changed. The folder itself is never made: one inside of a share is gone
//! while the share is not mounted, and then nothing is written to the disk below.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, openat, renameat2},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, linkat, unlinkat},
};
use thiserror::Error;

use super::{Alarm, Checkpoint, CopyError, Known, NOTE_BYTES_MAX, Place, Question};

/// Most entries of a folder that are looked at: a year of a copy each 3 s.
const ENTRIES_MAX: usize = 10_000_000;
/// How long a folder that seems unchanged is taken for unchanged. Two changes within one tick of the
/// file system's clock look like one.
const UNCHANGED_MAX: Duration = Duration::from_secs(3600);
/// Digits of a size in the name of its file.
const DIGITS: usize = 20;
/// Name of a file while it is written.
const TEMPORARY: &str = ".checkpoint.tmp";

/// Why a folder did not take a checkpoint, or did not tell.
#[derive(Debug, Error)]
pub enum FileError {
    /// A system call failed.
    #[error("`{}`: {call}", path.display())]
    System {
        /// The file or folder.
        path: PathBuf,
        /// The call.
        call: &'static str,
        /// From the system.
        source: io::Error,
    },
    /// Something else stands where a file or folder of ours would.
    #[error("`{}`: a symbolic link, expected a {expected}", path.display())]
    Link {
        /// The place.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
    },
    /// The folder is on another file system than before.
    #[error("`{}`: on another file system than before: the share is not mounted", path.display())]
    Moved {
        /// The folder.
        path: PathBuf,
    },
    /// More files than anybody put there on purpose.
    #[error("`{}`: more than {ENTRIES_MAX} entries", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
}

/// A folder of checkpoints.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// File system that it was on first.
    device: Option<u64>,
    /// The folder of the newest origin, as we left it.
    left: Option<Left>,
}

#[derive(Debug)]
struct Left {
    path: PathBuf,
    /// When it was changed last, by us.
    modified: (i64, i64),
    /// When it was looked through last.
    listed: Instant,
}

impl Folder {
    /// The folder at `path`, which must be there.
    pub fn new(path: PathBuf) -> Self {
        Self { path, device: None, left: None }
    }

    /// Opens the folder, on the file system that it was on before.
    fn open(&mut self) -> Result<File, FileError> {
        let folder = open_folder(AT_FDCWD, &self.path, &self.path)?;
        let device = folder.metadata().map_err(system(&self.path, "fstat"))?.dev();
        if *self.device.get_or_insert(device) != device {
            return Err(FileError::Moved { path: self.path.clone() });
        }
        Ok(folder)
    }

    /// Looks for a larger size than ours, where somebody else may have put one. The time of the look.
    fn check_ahead(
        &self,
        folder: &File,
        path: &Path,
        checkpoint: &Checkpoint,
    ) -> Result<Instant, CopyError> {
        let modified = modified(folder, path)?;
        let left = self.left.as_ref().filter(|left| {
            left.path == path && left.modified == modified && left.listed.elapsed() < UNCHANGED_MAX
        });
        if let Some(left) = left {
            return Ok(left.listed);
        }
        let listed = Instant::now();
        match newest(folder, path)? {
            Some(theirs) if theirs > checkpoint.size() => Err(Alarm::Ahead {
                origin: checkpoint.origin().to_owned(),
                ours: checkpoint.size(),
                theirs,
            }
            .into()),
            Some(_) | None => Ok(listed),
        }
    }
}

impl Place for Folder {
    fn copy(&mut self, checkpoint: &Checkpoint) -> Result<(), CopyError> {
        let top = self.open()?;
        let name = folder_name(checkpoint.origin());
        let path = self.path.join(&name);
        match mkdirat(&top, name.as_str(), Mode::from_bits_truncate(0o750)) {
            Ok(()) => top.sync_all().map_err(system(&self.path, "fsync"))?,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(system(&path, "mkdir")(errno.into()).into()),
        }
        let folder = open_folder(&top, Path::new(&name), &path)?;
        let ahead = self.check_ahead(&folder, &path, checkpoint);
        // What we have is evidence also where somebody else has more.
        put(&folder, &path, checkpoint)?;
        let listed = ahead?;
        let modified = modified(&folder, &path)?;
        self.left = Some(Left { path, modified, listed });
        Ok(())
    }

    fn newest_known(&mut self, question: &Question) -> Result<Vec<Known>, CopyError> {
        let top = self.open()?;
        let mut known = Vec::new();
        for entry in entries(&top, &self.path)? {
            let entry = entry.map_err(system(&self.path, "readdir"))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // No host's name has an underscore: only the first and the last are slashes.
            let Some((host, epoch)) = name.rsplit_once('_') else { continue };
            let origin = format!("{}/{epoch}", question.host);
            if host != folder_name(&question.host) || question.epoch_of(&origin).is_none() {
                continue;
            }
            let path = self.path.join(&name);
            let folder = open_folder(&top, Path::new(&name), &path)?;
            let Some(size) = newest(&folder, &path)? else { continue };
            let file = file_name(size);
            let note = read(&folder, &file, &path.join(&file))?;
            let checkpoint = note.and_then(|note| Checkpoint::parse(&note).ok());
            known.push(match checkpoint.filter(|c| c.origin() == origin && c.size() == size) {
                Some(checkpoint) => checkpoint.into(),
                None => Known { origin, size, root: None, note: None },
            });
        }
        known.sort_by_key(|known| question.epoch_of(&known.origin));
        Ok(known)
    }
}

fn folder_name(origin: &str) -> String {
    origin.replace('/', "_")
}

fn file_name(size: u64) -> String {
    format!("{size:0DIGITS$}")
}

fn system<'p>(path: &'p Path, call: &'static str) -> impl Fn(io::Error) -> FileError + 'p {
    move |source| FileError::System { path: path.to_owned(), call, source }
}

/// Never through a link: whoever can write to the share would have the agent write elsewhere.
fn open_at(
    folder: impl AsFd,
    name: &Path,
    flags: OFlag,
    path: &Path,
    expected: &'static str,
) -> Result<File, FileError> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = openat(folder, name, flags, Mode::from_bits_truncate(0o640));
    match opened {
        Ok(file) => Ok(OwnedFd::into(file)),
        // Linux says ENOTDIR where O_DIRECTORY meets a link.
        Err(Errno::ELOOP | Errno::ENOTDIR)
            if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) =>
        {
            Err(FileError::Link { path: path.to_owned(), expected })
        }
        Err(errno) => Err(system(path, "open")(errno.into())),
    }
}

fn open_folder(folder: impl AsFd, name: &Path, path: &Path) -> Result<File, FileError> {
    open_at(folder, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, path, "folder")
}

fn modified(folder: &File, path: &Path) -> Result<(i64, i64), FileError> {
    let found = folder.metadata().map_err(system(path, "fstat"))?;
    Ok((found.mtime(), found.mtime_nsec()))
}

/// Entries of an open folder, at most [`ENTRIES_MAX`].
fn entries(
    folder: &File,
    path: &Path,
) -> Result<impl Iterator<Item = io::Result<fs::DirEntry>>, FileError> {
    let open = format!("/proc/self/fd/{}", folder.as_raw_fd());
    let entries = fs::read_dir(open).map_err(system(path, "opendir"))?;
    Ok(entries.take(ENTRIES_MAX + 1))
}

/// The largest size that there is a file for.
fn newest(folder: &File, path: &Path) -> Result<Option<u64>, FileError> {
    let mut newest = None;
    for (index, entry) in entries(folder, path)?.enumerate() {
        if index == ENTRIES_MAX {
            return Err(FileError::TooMany { path: path.to_owned() });
        }
        let name = entry.map_err(system(path, "readdir"))?.file_name();
        let name = name.to_str().filter(|n| n.len() == DIGITS);
        let digits = name.filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
        newest = newest.max(digits.and_then(|digits| digits.parse().ok()));
    }
    Ok(newest)
}

/// The text of a file of a note's length; `None` where it is something else.
fn read(folder: &File, name: &str, path: &Path) -> Result<Option<String>, FileError> {
    // A pipe must not hold the thread up.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let file = open_at(folder, Path::new(name), flags, path, "file")?;
    if !file.metadata().map_err(system(path, "fstat"))?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let most = NOTE_BYTES_MAX as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(system(path, "read"))?;
    Ok(String::from_utf8(bytes).ok())
}

fn put(folder: &File, path: &Path, checkpoint: &Checkpoint) -> Result<(), CopyError> {
    let name = file_name(checkpoint.size());
    let temporary = path.join(TEMPORARY);
    match unlinkat(folder, TEMPORARY, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(system(&temporary, "unlink")(errno.into()).into()),
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let mut file = open_at(folder, Path::new(TEMPORARY), flags, &temporary, "file")?;
    file.write_all(checkpoint.note().as_bytes()).map_err(system(&temporary, "write"))?;
    file.sync_all().map_err(system(&temporary, "fsync"))?;
    match rename_new(folder, &name) {
        Ok(()) => folder.sync_all().map_err(system(path, "fsync"))?,
        Err(Errno::EEXIST) => {
            // Left behind, it would only be in the way.
            let _ = unlinkat(folder, TEMPORARY, UnlinkatFlags::NoRemoveDir);
            compare(folder, &name, &path.join(&name), checkpoint)?;
        }
        Err(errno) => return Err(system(&path.join(&name), "link")(errno.into()).into()),
    }
    Ok(())
}

/// Gives the temporary file its name, unless that is taken.
fn rename_new(folder: &File, name: &str) -> Result<(), Errno> {
    match linkat(folder, TEMPORARY, folder, name, AtFlags::empty()) {
        Ok(()) => unlinkat(folder, TEMPORARY, UnlinkatFlags::NoRemoveDir),
        // A file system without hard links may know this instead.
        Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
            renameat2(folder, TEMPORARY, folder, name, RenameFlags::RENAME_NOREPLACE)
        }
        Err(errno) => Err(errno),
    }
}

/// What is there must say the same as we do. Signatures may differ: a witness may have added some.
fn compare(
    folder: &File,
    name: &str,
    path: &Path,
    checkpoint: &Checkpoint,
) -> Result<(), CopyError> {
    let there = read(folder, name, path)?.and_then(|note| Checkpoint::parse(&note).ok());
    match there {
        Some(there) if there.body() == checkpoint.body() => Ok(()),
        other => Err(Alarm::Fork {
            origin: checkpoint.origin().to_owned(),
            size: checkpoint.size(),
            ours: checkpoint.root(),
            theirs: other.map(|there| there.root()),
        }
        .into()),
    }
}
