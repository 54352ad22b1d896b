//! Bounded reads below the host root.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::attrib::identity::Reason;
use crate::attrib::source::Bounded;

/// Largest file of a runtime that is read. OCI configurations have some 50 kB; `containers.json` 1
/// kB per container.
pub const RUNTIME_FILE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most entries of a folder looked at.
pub const DIR_ENTRIES_MAX: usize = 8192;

/// Whom a file must belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::attrib) enum Owner {
    /// Anyone: the folder above it is the host's own.
    Any,
    /// A user, whose rootless runtime is asked.
    User(u32),
}

/// The host's files, below a root that links do not lead out of.
pub(in crate::attrib) struct HostFiles {
    root: File,
}

impl HostFiles {
    /// `root` is `/`, or where the host's root is mounted in the agent's container.
    pub(in crate::attrib) fn new(root: &Path) -> std::io::Result<Self> {
        Ok(Self { root: File::open(root)? })
    }

    /// Reads a regular file of at most `bytes_max` bytes.
    ///
    /// Links are resolved as if the root were `/`. Errors: [`Reason::NotProvided`] when there is
    /// none; a device, pipe or socket is not opened for long enough to block.
    pub(in crate::attrib) fn read(
        &self,
        path: &Path,
        owner: Owner,
        bytes_max: usize,
    ) -> Result<Vec<u8>, Reason> {
        let file = self.open(path, OFlag::O_NONBLOCK)?;
        let metadata = file.metadata().map_err(|error| Reason::Os(error.to_string()))?;
        if !metadata.is_file() {
            return Err(Reason::NotRegular);
        }
        if let Owner::User(expected) = owner
            && metadata.uid() != expected
        {
            return Err(Reason::ForeignFile { found: metadata.uid(), expected });
        }
        let max = bytes_max as u64;
        if metadata.size() > max {
            return Err(Reason::TooLarge { found: metadata.size(), max });
        }
        // One byte more than allowed tells a file that grew.
        let read = Bounded::read(file, bytes_max, max + 1);
        let read = read.map_err(|error| Reason::Os(error.to_string()))?;
        if read.total > max {
            return Err(Reason::TooLarge { found: read.total, max });
        }
        Ok(read.bytes)
    }

    /// Names in a folder, in order; none when it can't be read. At most [`DIR_ENTRIES_MAX`].
    pub(in crate::attrib) fn list(&self, path: &Path) -> Vec<String> {
        let Ok(folder) = self.open(path, OFlag::O_DIRECTORY) else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd())) else {
            return Vec::new();
        };
        let names = entries.take(DIR_ENTRIES_MAX).flatten();
        let mut names: Vec<String> =
            names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// Opens for reading.
    pub(in crate::attrib) fn open(&self, path: &Path, flags: OFlag) -> Result<File, Reason> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.root, path, how).map(File::from).map_err(|errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR => Reason::NotProvided,
            Errno::EACCES => Reason::Denied,
            errno => Reason::Os(errno.desc().to_owned()),
        })
    }
}
