//! The real disk: the folder of the trail, locked against other agents, and those of its epochs.
//!
//! Whoever can plant a link in the folder could have the agent write to another place, or keep a
//! second name for a file that was removed. So nothing is followed, every file must have one name
//! and be the agent's own, and the folder must be closed to all others.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, lstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::disk::{Disk, DiskFile};

const LOCK: &str = "lock";

/// Why the folder of the trail cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// An operation failed.
    #[error("cannot {operation} `{}`", path.display())]
    Failed {
        /// Of what.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// From the system.
        source: io::Error,
    },
    /// A symbolic link or a file is where a folder should be.
    #[error("not a folder: found a symbolic link or a file at `{}`, expected a folder", .0.display())]
    NotAFolder(PathBuf),
    /// Others could read or change what is in it.
    #[error(
        "folder `{}` is not the agent's alone: found owner {uid} and mode {mode:04o}, expected \
         owner {expected_uid} and mode 0700",
        path.display()
    )]
    OpenToOthers {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permissions.
        mode: u32,
        /// The agent's user.
        expected_uid: u32,
    },
    /// Another agent writes there.
    #[error("audit trail `{}` is in use by another process", .0.display())]
    InUse(PathBuf),
}

/// The folder of the trail, locked as long as this or one of its epochs lives.
#[derive(Clone, Debug)]
pub struct Directory(Arc<Locked>);

#[derive(Debug)]
struct Locked {
    path: PathBuf,
    folder: OwnedFd,
    _lock: Flock<File>,
}

/// The folder of one epoch.
#[derive(Debug)]
pub(super) struct Folder {
    directory: Directory,
    name: String,
    folder: OwnedFd,
}

/// The file of [`Folder`].
#[derive(Debug)]
pub(super) struct FolderFile(File);

impl Directory {
    /// Opens the folder at `path` and locks it. It is made when it is not there, but its parent
    /// must be.
    ///
    /// Errors: `InUse` while another process holds the lock, also when that is this one.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        match nix::unistd::mkdir(path, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(path, "make", errno)),
        }
        let folder = open(path, FOLDER, Mode::empty()).map_err(|errno| not_opened(path, errno))?;
        check_folder(path, &folder)?;
        let lock_path = path.join(LOCK);
        let flags = FILE | OFlag::O_CREAT;
        let lock = openat(&folder, LOCK, flags, OWN_FILE)
            .map_err(|errno| failed(&lock_path, "open", errno))?;
        let lock = checked_file(lock).map_err(|source| FolderError::Failed {
            path: lock_path,
            operation: "use",
            source,
        })?;
        let lock =
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    Errno::EWOULDBLOCK => FolderError::InUse(path.to_owned()),
                    errno => failed(path, "lock", errno),
                },
            )?;
        Ok(Self(Arc::new(Locked { path: path.to_owned(), folder, _lock: lock })))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The folder of an epoch, which is made when it is not there.
    pub(super) fn epoch(&self, number: u64) -> Result<Folder, FolderError> {
        let name = format!("epoch-{number}");
        let path = self.0.path.join(&name);
        match mkdirat(&self.0.folder, name.as_str(), Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(&path, "make", errno)),
        }
        let folder = openat(&self.0.folder, name.as_str(), FOLDER, Mode::empty())
            .map_err(|errno| not_opened(&path, errno))?;
        check_folder(&path, &folder)?;
        nix::unistd::fsync(&self.0.folder).map_err(|errno| failed(&path, "sync", errno))?;
        Ok(Folder { directory: self.clone(), name, folder })
    }

    /// Bytes of the files in all epochs but `number`.
    pub(super) fn bytes_of_others(&self, number: u64) -> io::Result<u64> {
        let mut bytes = 0_u64;
        for entry in std::fs::read_dir(in_proc(&self.0.folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("epoch-")
                && name != format!("epoch-{number}")
                && entry.file_type()?.is_dir()
            {
                let folder = openat(&self.0.folder, name.as_str(), FOLDER, Mode::empty())?;
                let files = list(&folder)?;
                bytes = files.iter().fold(bytes, |sum, (_, len)| sum.saturating_add(*len));
            }
        }
        Ok(bytes)
    }
}

const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Non-blocking so that a pipe in a file's place can't hold up the start; it means nothing to
/// regular files.
const FILE: OFlag =
    OFlag::O_RDWR.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

const OWN_FILE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

impl Disk for Folder {
    type File = FolderFile;

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        list(&self.folder)
    }

    fn create(&self, name: &str) -> io::Result<FolderFile> {
        let flags = FILE | OFlag::O_CREAT | OFlag::O_EXCL;
        checked_file(openat(&self.folder, name, flags, OWN_FILE)?).map(FolderFile)
    }

    fn open(&self, name: &str) -> io::Result<FolderFile> {
        checked_file(openat(&self.folder, name, FILE, Mode::empty())?).map(FolderFile)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.folder, from, &self.folder, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir)?)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(nix::unistd::fsync(&self.folder)?)
    }

    fn is_in_place(&self) -> io::Result<bool> {
        let locked = &self.directory.0;
        let same = |there: nix::Result<FileStat>, ours: &OwnedFd| match there {
            Ok(there) => fstat(ours).map(|ours| is_same(&there, &ours)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
            Err(errno) => Err(errno),
        };
        let no_follow = AtFlags::AT_SYMLINK_NOFOLLOW;
        let epoch = fstatat(&locked.folder, self.name.as_str(), no_follow);
        Ok(same(lstat(&locked.path), &locked.folder)? && same(epoch, &self.folder)?)
    }
}

impl DiskFile for FolderFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

fn is_same(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

fn list(folder: &OwnedFd) -> io::Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(in_proc(folder))? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // removed meanwhile
            Err(error) => return Err(error),
        };
        if metadata.is_file()
            && let Ok(name) = entry.file_name().into_string()
        {
            files.push((name, metadata.len()));
        }
    }
    Ok(files)
}

/// The folder that is open, whatever its path is by now.
fn in_proc(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

fn check_folder(path: &Path, folder: &OwnedFd) -> Result<(), FolderError> {
    let stat = fstat(folder).map_err(|errno| failed(path, "examine", errno))?;
    let (uid, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    let expected_uid = nix::unistd::geteuid().as_raw();
    if uid != expected_uid || mode & 0o077 != 0 {
        return Err(FolderError::OpenToOthers { path: path.to_owned(), uid, mode, expected_uid });
    }
    Ok(())
}

/// The file behind a descriptor, if it is the agent's own.
fn checked_file(descriptor: OwnedFd) -> io::Result<File> {
    let stat = fstat(&descriptor)?;
    let own = nix::unistd::geteuid().as_raw();
    let regular = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG;
    let mode = stat.st_mode & 0o7777;
    if !regular || stat.st_nlink != 1 || stat.st_uid != own || mode & 0o077 != 0 {
        let found = format!(
            "not the agent's: found {} with {} name(s), owner {}, mode {mode:04o}, expected a \
             regular file with one name, owner {own}, mode 0600",
            if regular { "a regular file" } else { "no regular file" },
            stat.st_nlink,
            stat.st_uid,
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, found));
    }
    Ok(File::from(descriptor))
}

fn not_opened(path: &Path, errno: Errno) -> FolderError {
    match errno {
        Errno::ELOOP | Errno::ENOTDIR => FolderError::NotAFolder(path.to_owned()),
        errno => failed(path, "open", errno),
    }
}

fn failed(path: &Path, operation: &'static str, errno: Errno) -> FolderError {
    FolderError::Failed { path: path.to_owned(), operation, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit");
        (folder, path)
    }

    #[test]
    fn two_agents_never_share_a_directory() {
        let (_folder, path) = directory();
        let first = Directory::open(&path).expect("opens");
        let epoch = first.epoch(1).expect("an epoch");
        drop(first);
        assert!(matches!(Directory::open(&path), Err(FolderError::InUse(_))), "an epoch holds it");
        drop(epoch);
        Directory::open(&path).expect("free again");
    }

    #[test]
    fn refuses_a_folder_that_is_a_link_or_open_to_others() {
        let (folder, path) = directory();
        drop(Directory::open(&path).expect("opens"));
        for mode in [0o701, 0o710, 0o777, 0o750] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("set");
            let refused = Directory::open(&path);
            assert!(matches!(refused, Err(FolderError::OpenToOthers { .. })), "{mode:o}");
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("set");
        let link = folder.path().join("link");
        symlink(&path, &link).expect("a link");
        assert!(matches!(Directory::open(&link), Err(FolderError::NotAFolder(_))));
        let directory = Directory::open(&path).expect("opens");
        symlink(folder.path(), path.join("epoch-1")).expect("a link");
        assert!(matches!(directory.epoch(1), Err(FolderError::NotAFolder(_))));
    }

    #[test]
    fn refuses_planted_links_and_files_of_others() {
        let (folder, path) = directory();
        let directory = Directory::open(&path).expect("opens");
        let epoch = directory.epoch(1).expect("an epoch");
        let victim = folder.path().join("victim");
        std::fs::write(&victim, b"precious").expect("a file");
        std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o600)).expect("set");
        symlink(&victim, path.join("epoch-1/symbolic")).expect("a link");
        std::fs::hard_link(&victim, path.join("epoch-1/hard")).expect("a link");
        nix::unistd::mkfifo(&path.join("epoch-1/pipe"), OWN_FILE).expect("a pipe");
        std::fs::write(path.join("epoch-1/readable"), b"").expect("a file");
        for name in ["symbolic", "hard", "pipe", "readable"] {
            assert!(epoch.open(name).is_err(), "{name} opened");
            assert!(epoch.create(name).is_err(), "{name} created");
        }
        assert_eq!(std::fs::read(&victim).expect("there"), b"precious");
    }

    #[test]
    fn notices_when_it_is_replaced() {
        let (folder, path) = directory();
        let directory = Directory::open(&path).expect("opens");
        let epoch = directory.epoch(1).expect("an epoch");
        assert!(epoch.is_in_place().expect("looks"));
        std::fs::rename(path.join("epoch-1"), path.join("moved")).expect("renamed");
        assert!(!epoch.is_in_place().expect("looks"));
        std::fs::create_dir(path.join("epoch-1")).expect("another");
        assert!(!epoch.is_in_place().expect("looks"));
        std::fs::remove_dir(path.join("epoch-1")).expect("removed");
        std::fs::rename(path.join("moved"), path.join("epoch-1")).expect("put back");
        assert!(epoch.is_in_place().expect("looks"));
        std::fs::rename(&path, folder.path().join("elsewhere")).expect("renamed");
        symlink("elsewhere", &path).expect("a link");
        assert!(!epoch.is_in_place().expect("looks"));
    }

    #[test]
    fn counts_what_other_epochs_hold() {
        let (_folder, path) = directory();
        let directory = Directory::open(&path).expect("opens");
        for number in 1..4 {
            directory.epoch(number).expect("an epoch");
            let file = path.join(format!("epoch-{number}/file"));
            std::fs::write(file, vec![0; 10_u64.pow(number as u32) as usize]).expect("written");
        }
        assert_eq!(directory.bytes_of_others(2).expect("counts"), 1_010);
    }
}
