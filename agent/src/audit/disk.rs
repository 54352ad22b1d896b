//! The log file: opening it safely, appending, setting it aside.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat, renameat2};
use nix::sys::stat::{FileStat, Mode, fstatat};

use super::time::WallNanos;

/// Most bytes that are looked through for the beginning of a torn line; a longer one is reported as
/// this long.
pub const TORN_TAIL_BYTES_MAX: u64 = 64 << 20;

/// What the writer needs from a disk. [`LogFile`] is the real one; tests have one that breaks on
/// purpose.
pub(super) trait Disk: Send + 'static {
    /// Appends some of `bytes` and says how many.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts the file to `len` bytes, to take a torn line back.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Waits until everything appended is on stable storage (`fdatasync`).
    fn sync(&mut self) -> io::Result<()>;
    /// Length of the file.
    fn len(&self) -> u64;
    /// Renames the file with a time stamp and begins a new one. On failure the old one stays in
    /// use.
    fn set_aside(&mut self, now: WallNanos) -> io::Result<()>;
    /// Begins a new file when somebody renamed or removed the one in use. `true` when that was so.
    fn reopen_if_gone(&mut self) -> io::Result<bool>;
}

/// Why the log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is not there or can't be opened.
    #[error("cannot open the folder of the query log `{}`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// From the system.
        source: io::Error,
    },
    /// It is a symbolic link or no folder.
    #[error("not a folder: found a symbolic link or a file at `{}`, expected a folder", .0.display())]
    NotAFolder(PathBuf),
    /// Somebody else could replace the file.
    #[error(
        "folder of the query log `{}` is open to others: found owner {uid} and mode {mode:04o}, \
         expected owner {expected_uid} or root and no write permission for group and others",
        path.display()
    )]
    FolderOpenToOthers {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permissions.
        mode: u32,
        /// The agent's user.
        expected_uid: u32,
    },
    /// The file can't be opened, read or written.
    #[error("cannot {operation} the query log `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// From the system.
        source: io::Error,
    },
    /// The file is not one the agent would have made.
    #[error(
        "query log `{}` is not the agent's: found {found}, expected a regular file with one name, \
         owner {expected_uid}, no write permission for group, none at all for others",
        path.display()
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What is there.
        found: String,
        /// The agent's user.
        expected_uid: u32,
    },
    /// Another agent writes it.
    #[error("query log `{}` is in use by another process", .0.display())]
    InUse(PathBuf),
}

/// The file in use, locked against other writers.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    name: PathBuf,
    folder: OwnedFd,
    file: Flock<File>,
    len: u64,
}

impl LogFile {
    /// Opens or makes the file at `path`, and ends a torn last line. Gives the file and the length
    /// of that line, usually 0.
    pub(super) fn open(path: &Path) -> Result<(Self, u64), OpenError> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let name = PathBuf::from(path.file_name().unwrap_or_default());
        let folder = open_folder(parent)?;
        let file = open_file(&folder, path, &name)?;
        let error =
            |operation| move |source| OpenError::File { path: path.to_owned(), operation, source };
        let len = file.metadata().map_err(error("examine"))?.len();
        let mut log = Self { path: path.to_owned(), name, folder, file, len };
        let torn = log.torn_tail().map_err(error("read"))?;
        if torn > 0 {
            log.file.write_all(b"\n").map_err(error("write"))?;
            log.len += 1;
        }
        Ok((log, torn))
    }

    /// How many bytes follow the last line feed.
    fn torn_tail(&mut self) -> io::Result<u64> {
        let mut block = [0; 4096];
        let mut torn = 0;
        let mut end = self.len;
        while end > 0 && torn < TORN_TAIL_BYTES_MAX {
            let start = end.saturating_sub(block.len() as u64);
            let part = &mut block[..(end - start) as usize];
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(part)?;
            if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
                return Ok(torn + (part.len() - at - 1) as u64);
            }
            torn += part.len() as u64;
            end = start;
        }
        Ok(torn)
    }

    /// `queries.jsonl` as `queries.20260301T120000.000000000Z.jsonl`, with a number before the end
    /// when that exists.
    fn aside_name(&self, now: WallNanos, attempt: u32) -> PathBuf {
        let stem = self.name.file_stem().unwrap_or_default().to_string_lossy();
        let stamp = now.file_stamp();
        let number = if attempt == 0 { String::new() } else { format!(".{attempt}") };
        let end = self.name.extension().map(|e| format!(".{}", e.to_string_lossy()));
        PathBuf::from(format!("{stem}.{stamp}{number}{}", end.unwrap_or_default()))
    }

    /// Opens a file of the log's name anew and makes it the one in use.
    fn begin(&mut self) -> io::Result<()> {
        let file = open_file(&self.folder, &self.path, &self.name).map_err(io::Error::other)?;
        self.len = file.metadata()?.len();
        self.file = file;
        sync_folder(&self.folder)
    }
}

impl Disk for LogFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.len = len;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn set_aside(&mut self, now: WallNanos) -> io::Result<()> {
        const ATTEMPTS_MAX: u32 = 16;
        for attempt in 0..ATTEMPTS_MAX {
            let aside = self.aside_name(now, attempt);
            let flags = nix::fcntl::RenameFlags::RENAME_NOREPLACE;
            match renameat2(&self.folder, &self.name, &self.folder, &aside, flags) {
                Err(Errno::EEXIST) => {}
                // Somebody else moved the file: there is nothing to set aside.
                Ok(()) | Err(Errno::ENOENT) => return self.begin(),
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EEXIST.into())
    }

    fn reopen_if_gone(&mut self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        match fstatat(&self.folder, &self.name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) if same_file(&there, &ours) => Ok(false),
            Ok(_) | Err(Errno::ENOENT) => self.begin().map(|()| true),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn same_file(stat: &FileStat, metadata: &std::fs::Metadata) -> bool {
    (stat.st_dev, stat.st_ino) == (metadata.dev(), metadata.ino())
}

/// Opens the folder and makes sure that only root and the agent's user can change what is in it.
fn open_folder(path: &Path) -> Result<OwnedFd, OpenError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::ELOOP | Errno::ENOTDIR => OpenError::NotAFolder(path.to_owned()),
        errno => OpenError::Folder { path: path.to_owned(), source: errno.into() },
    })?;
    let stat = nix::sys::stat::fstat(&folder)
        .map_err(|errno| OpenError::Folder { path: path.to_owned(), source: errno.into() })?;
    let (uid, mode, own) = (stat.st_uid, stat.st_mode & 0o7777, nix::unistd::geteuid().as_raw());
    if (uid != own && uid != 0) || mode & 0o022 != 0 {
        let path = path.to_owned();
        return Err(OpenError::FolderOpenToOthers { path, uid, mode, expected_uid: own });
    }
    Ok(folder)
}

/// Opens or makes the file, locks it, and makes sure that it is the agent's.
fn open_file(folder: &OwnedFd, path: &Path, name: &Path) -> Result<Flock<File>, OpenError> {
    // Non-blocking so that a pipe in the file's place can't hold up the start; it means nothing to
    // regular files.
    let flags = OFlag::O_RDWR
        | OFlag::O_CREAT
        | OFlag::O_APPEND
        | OFlag::O_CLOEXEC
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK;
    let error = |operation: &'static str, source: io::Error| OpenError::File {
        path: path.to_owned(),
        operation,
        source,
    };
    let descriptor = openat(folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
        .map_err(|errno| error("open", errno.into()))?;
    let file = File::from(descriptor);
    let metadata = file.metadata().map_err(|source| error("examine", source))?;
    let own = nix::unistd::geteuid().as_raw();
    let mode = metadata.mode() & 0o7777;
    let regular = metadata.file_type().is_file();
    if !regular || metadata.nlink() != 1 || metadata.uid() != own || mode & 0o027 != 0 {
        let found = format!(
            "{} with {} name(s), owner {}, mode {mode:04o}",
            if regular { "a regular file" } else { "no regular file" },
            metadata.nlink(),
            metadata.uid(),
        );
        let path = path.to_owned();
        return Err(OpenError::NotOurs { path, found, expected_uid: own });
    }
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => OpenError::InUse(path.to_owned()),
        errno => error("lock", errno.into()),
    })
}

fn sync_folder(folder: &OwnedFd) -> io::Result<()> {
    Ok(nix::unistd::fsync(folder)?)
}
