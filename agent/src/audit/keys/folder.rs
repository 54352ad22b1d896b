//! Small files of a folder that belongs to the agent alone: read with bounds and checks, replaced as
//! a whole.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, RenameFlags, open, openat, renameat, renameat2},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, fsync, unlinkat},
};
use thiserror::Error;
use zeroize::Zeroizing;

/// A folder, held open: renaming it or putting a link in its place changes nothing for its holder.
#[derive(Debug)]
pub struct Folder {
    descriptor: OwnedFd,
    path: PathBuf,
}

/// Why a folder, or a file in it, is not used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// The system refused.
    #[error("{call} of `{}` failed", path.display())]
    Call {
        /// What was tried.
        call: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others can get at it.
    #[error(
        "`{}` is {found}, expected {expected}, owner {owner} or 0, nothing for others\n\
         hint: the audit folder belongs to the agent alone; find out who changed it",
        path.display()
    )]
    NotOurs {
        /// What.
        path: PathBuf,
        /// As it is.
        found: String,
        /// As it has to be.
        expected: &'static str,
        /// The user that the agent runs as.
        owner: u32,
    },
    /// A file that is too long for what it is.
    #[error("`{}` has more than {bytes_max} bytes", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// Most that are read.
        bytes_max: usize,
    },
}

impl Folder {
    /// Opens a folder. The last part of the path must not be a link; owner is root or the agent's
    /// user, and nobody else has any right.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let descriptor = open(path, FOLDER_FLAGS, Mode::empty())
            .map_err(|errno| call("opening", path, errno))?;
        Self { descriptor, path: path.to_owned() }.checked()
    }

    /// A folder in this one, made if it is missing.
    pub fn subfolder(&self, name: &str) -> Result<Self, FolderError> {
        let path = self.path.join(name);
        match mkdirat(&self.descriptor, name, Mode::S_IRWXU) {
            Ok(()) => self.sync()?,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(call("creation", &path, errno)),
        }
        let descriptor = openat(&self.descriptor, name, FOLDER_FLAGS, Mode::empty())
            .map_err(|errno| call("opening", &path, errno))?;
        Self { descriptor, path }.checked()
    }

    /// A folder in this one; `None` when there is none.
    pub fn existing_subfolder(&self, name: &str) -> Result<Option<Self>, FolderError> {
        let path = self.path.join(name);
        match openat(&self.descriptor, name, FOLDER_FLAGS, Mode::empty()) {
            Ok(descriptor) => Self { descriptor, path }.checked().map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(call("opening", &path, errno)),
        }
    }

    /// Where it was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// All of a file of at most `bytes_max` bytes; `None` when there is none. The file must be
    /// regular, have one name, and be open to nobody but its owner.
    pub fn read(
        &self,
        name: &str,
        bytes_max: usize,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, FolderError> {
        let path = self.path.join(name);
        // Non-blocking: a pipe in the file's place can't hold up the start.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&self.descriptor, name, flags, Mode::empty()) {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(call("opening", &path, errno)),
        };
        let metadata = file.metadata().map_err(failed("examination", &path))?;
        let regular = metadata.file_type().is_file() && metadata.nlink() == 1;
        if !regular || others_may(metadata.uid(), metadata.mode()) {
            let kind = if regular { "a file" } else { "no regular file with one name" };
            return Err(not_ours(path, kind, &metadata, "a regular file with one name"));
        }
        // One allocation: growing would leave copies of secrets behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max + 1));
        file.take(bytes_max as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(failed("reading", &path))?;
        if bytes.len() > bytes_max {
            return Err(FolderError::TooLong { path, bytes_max });
        }
        Ok(Some(bytes))
    }

    /// Makes a file of mode 0600 that is there as a whole or not at all, durably. Fails with
    /// `EEXIST` where there is one of that name.
    pub fn create(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let temporary = self.write_temporary(name, bytes)?;
        let (folder, flags) = (&self.descriptor, RenameFlags::RENAME_NOREPLACE);
        renameat2(folder, temporary.as_str(), folder, name, flags)
            .map_err(|errno| call("creation", &self.path.join(name), errno))?;
        self.sync()
    }

    /// The same, in place of the file that is there.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let temporary = self.write_temporary(name, bytes)?;
        let folder = &self.descriptor;
        renameat(folder, temporary.as_str(), folder, name)
            .map_err(|errno| call("replacement", &self.path.join(name), errno))?;
        self.sync()
    }

    /// Removes a file, if it is there: durably after [`Folder::sync`]. Gives whether it was there.
    pub fn remove(&self, name: &str) -> Result<bool, FolderError> {
        match unlinkat(&self.descriptor, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(call("removal", &self.path.join(name), errno)),
        }
    }

    fn write_temporary(&self, name: &str, bytes: &[u8]) -> Result<String, FolderError> {
        let temporary = format!("{name}.tmp");
        let path = self.path.join(&temporary);
        // What a crash left of an earlier attempt.
        match unlinkat(&self.descriptor, temporary.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(call("removal", &path, errno)),
        }
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let descriptor = openat(&self.descriptor, temporary.as_str(), flags, mode)
            .map_err(|errno| call("creation", &path, errno))?;
        let mut file = File::from(descriptor);
        file.write_all(bytes).map_err(failed("writing", &path))?;
        file.sync_all().map_err(failed("fsync", &path))?;
        Ok(temporary)
    }

    /// Makes durable which files there are.
    pub fn sync(&self) -> Result<(), FolderError> {
        fsync(&self.descriptor).map_err(|errno| call("fsync", &self.path, errno))
    }

    fn checked(self) -> Result<Self, FolderError> {
        let stat = nix::sys::stat::fstatat(&self.descriptor, "", AtFlags::AT_EMPTY_PATH)
            .map_err(|errno| call("examination", &self.path, errno))?;
        if others_may(stat.st_uid, stat.st_mode) {
            return Err(FolderError::NotOurs {
                found: format!("owner {}, mode {:04o}", stat.st_uid, stat.st_mode & 0o7777),
                path: self.path,
                expected: "a folder",
                owner: own_uid(),
            });
        }
        Ok(self)
    }
}

const FOLDER_FLAGS: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn others_may(uid: u32, mode: u32) -> bool {
    (uid != 0 && uid != own_uid()) || mode & 0o077 != 0
}

fn not_ours(
    path: PathBuf,
    kind: &str,
    metadata: &std::fs::Metadata,
    expected: &'static str,
) -> FolderError {
    let mode = metadata.mode() & 0o7777;
    let found = format!("{kind}, owner {}, mode {mode:04o}", metadata.uid());
    FolderError::NotOurs { path, found, expected, owner: own_uid() }
}

fn call(call: &'static str, path: &Path, errno: Errno) -> FolderError {
    failed(call, path)(errno.into())
}

fn failed(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Call { call, path, source }
}

#[cfg(test)]
pub(in crate::audit) mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// A folder as the agent's, and its guard.
    pub(in crate::audit) fn folder() -> (tempfile::TempDir, Folder) {
        let guard = tempfile::tempdir().expect("a temporary folder");
        let path = guard.path().join("audit");
        fs::create_dir(&path).expect("a folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("our own");
        let folder = Folder::open(&path).expect("a folder of our own");
        (guard, folder)
    }

    fn found(result: Result<impl Sized, FolderError>) -> String {
        result.err().map_or_else(|| "fine".to_owned(), |error| error.to_string())
    }

    #[test]
    fn files_are_created_once_and_replaced_as_a_whole() {
        let (_guard, folder) = folder();
        assert!(folder.read("a", 10).expect("no file").is_none());
        fs::write(folder.path().join("a.tmp"), "left by a crash").expect("our own");
        folder.create("a", b"first").expect("not there yet");
        assert_eq!(folder.read("a", 10).expect("ours").as_deref(), Some(&b"first".to_vec()));
        let mode = fs::metadata(folder.path().join("a")).expect("there").mode();
        assert_eq!(mode & 0o7777, 0o600);
        let again = folder.create("a", b"second").expect_err("it is there");
        assert!(again.to_string().starts_with("creation of"), "{again}");
        folder.replace("a", b"third").expect("ours");
        assert_eq!(folder.read("a", 5).expect("ours").as_deref(), Some(&b"third".to_vec()));
        assert!(matches!(folder.read("a", 4), Err(FolderError::TooLong { bytes_max: 4, .. })));
    }

    #[test]
    fn refuses_files_that_others_can_get_at() {
        let (_guard, folder) = folder();
        let path = |name: &str| folder.path().join(name);
        folder.create("wide", b"x").expect("new");
        fs::set_permissions(path("wide"), fs::Permissions::from_mode(0o640)).expect("ours");
        assert!(found(folder.read("wide", 9)).contains("mode 0640"));
        folder.create("twice", b"x").expect("new");
        fs::hard_link(path("twice"), path("other")).expect("ours");
        assert!(found(folder.read("twice", 9)).contains("no regular file with one name"));
        std::os::unix::fs::symlink(path("nothing"), path("link")).expect("ours");
        assert!(found(folder.read("link", 9)).contains("opening of"));
        nix::unistd::mkfifo(&path("pipe"), Mode::S_IRWXU).expect("ours");
        assert!(found(folder.read("pipe", 9)).contains("no regular file"));
    }

    #[test]
    fn refuses_folders_that_others_can_get_at() {
        let (guard, folder) = folder();
        let sub = folder.subfolder("keys").expect("made");
        assert_eq!(sub.path(), folder.path().join("keys"));
        assert!(folder.existing_subfolder("keys").is_ok_and(|k| k.is_some()));
        assert!(folder.existing_subfolder("other").is_ok_and(|k| k.is_none()));
        assert!(folder.subfolder("keys").is_ok(), "it is there");
        fs::set_permissions(sub.path(), fs::Permissions::from_mode(0o750)).expect("ours");
        assert!(found(folder.subfolder("keys")).contains("mode 0750"));
        let link = guard.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).expect("ours");
        assert!(found(Folder::open(&link)).contains("opening of"));
    }
}
