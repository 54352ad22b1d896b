//! Files that hold secrets: opened only where nobody else can read or replace what is in them.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::SecretError;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An operation failed.
    #[error("{what}: {kind}")]
    System {
        /// Which.
        what: &'static str,
        /// From the system.
        kind: ErrorKind,
    },
    /// A folder, device, socket or pipe.
    #[error("not a regular file")]
    NotRegular,
    /// It belongs to somebody who may write to it.
    #[error("belongs to user {found}, expected root or the agent's own, {expected}")]
    Owner {
        /// Its owner.
        found: u32,
        /// The agent's effective user.
        expected: u32,
    },
    /// Its group or others may do something with it.
    #[error("mode {found:04o}, expected 0600 or 0400")]
    Mode {
        /// Permission bits.
        found: u32,
    },
    /// It holds more than it may.
    #[error("too large: expected at most {max} bytes")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
    },
}

/// Looks at the file at `path` as a reader of secrets does, without reading it.
///
/// Errors: any [`Fault`] but `TooLarge`. Blocks.
pub fn inspect(path: &Path) -> Result<(), Fault> {
    open(path).map(drop)
}

/// What a file was when it was read: another one in its place, or a change, shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// When the file changed last, in nanoseconds since 1970.
    pub(super) fn changed_nanos(&self) -> i128 {
        i128::from(self.changed.0) * 1_000_000_000 + i128::from(self.changed.1)
    }
}

/// The file that is at `path` now. Blocks.
pub(super) fn stamp(path: &Path) -> Result<Stamp, SecretError> {
    let (_, metadata) = open(path).map_err(|fault| failed(path, fault))?;
    Ok(Stamp::of(&metadata))
}

/// The whole content, at most `bytes_max` bytes of it, with the file it came from. Blocks.
pub(super) fn read(
    path: &Path,
    bytes_max: usize,
) -> Result<(Zeroizing<Vec<u8>>, Stamp), SecretError> {
    let (file, metadata) = open(path).map_err(|fault| failed(path, fault))?;
    let too_large = || failed(path, Fault::TooLarge { max: bytes_max });
    let size = usize::try_from(metadata.size()).map_err(|_| too_large())?;
    if size > bytes_max {
        return Err(too_large());
    }
    // Room for all of it and for one byte that says that it grew: a vector that grows leaves copies behind.
    let mut content = Zeroizing::new(vec![0; size + 1]);
    let filled = fill(&file, &mut content)
        .map_err(|kind| failed(path, Fault::System { what: "read", kind }))?;
    if filled > size {
        // It is being written: whoever asks again finds it whole.
        let kind = ErrorKind::ResourceBusy;
        return Err(failed(path, Fault::System { what: "read", kind }));
    }
    content.truncate(filled);
    Ok((content, Stamp::of(&metadata)))
}

/// Checks are made on what was opened, so that nothing can be put in its place in between.
fn open(path: &Path) -> Result<(File, Metadata), Fault> {
    let system = |what| move |error: std::io::Error| Fault::System { what, kind: error.kind() };
    // A pipe in place of a file must not hold the reader.
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(system("open"))?;
    let metadata = file.metadata().map_err(system("stat"))?;
    if !metadata.is_file() {
        return Err(Fault::NotRegular);
    }
    let expected = nix::unistd::geteuid().as_raw();
    if ![0, expected].contains(&metadata.uid()) {
        return Err(Fault::Owner { found: metadata.uid(), expected });
    }
    let found = metadata.mode() & 0o7777;
    if found & 0o077 != 0 {
        return Err(Fault::Mode { found });
    }
    Ok((file, metadata))
}

fn failed(path: &Path, fault: Fault) -> SecretError {
    SecretError::File { path: path.to_owned(), fault }
}

/// Reads until `buffer` is full or the file ends.
fn fill(mut file: &File, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.kind()),
        }
    }
    Ok(filled)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    /// A file of this content and mode in `folder`.
    pub(in crate::secrets) fn write(
        folder: &tempfile::TempDir,
        name: &str,
        content: &[u8],
        mode: u32,
    ) -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("permissions");
        path
    }

    fn fault(path: &Path, bytes_max: usize) -> Fault {
        match read(path, bytes_max).expect_err("a file that is refused") {
            SecretError::File { path: named, fault } => {
                assert_eq!(named, path);
                fault
            }
            other => panic!("not about a file: {other:?}"),
        }
    }

    #[test]
    fn reads_what_only_its_owner_can_read() {
        let folder = tempfile::tempdir().expect("a folder");
        for mode in [0o600, 0o400, 0o700] {
            let path = write(&folder, &format!("{mode:o}"), b"secret", mode);
            let (content, stamp) = read(&path, 6).expect("a good file");
            assert_eq!(content.as_slice(), b"secret");
            assert_eq!(super::stamp(&path), Ok(stamp));
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("600"), &link).expect("a link");
        assert_eq!(inspect(&link), Ok(()), "the file behind a link is what counts");
    }

    #[test]
    fn refuses_what_others_can_reach() {
        let folder = tempfile::tempdir().expect("a folder");
        for mode in [0o604, 0o640, 0o660, 0o620, 0o602, 0o610, 0o601, 0o644] {
            let path = write(&folder, &format!("{mode:o}"), b"secret", mode);
            assert_eq!(fault(&path, 100), Fault::Mode { found: mode });
            assert_eq!(inspect(&path), Err(Fault::Mode { found: mode }));
        }
        if nix::unistd::geteuid().is_root() {
            let path = write(&folder, "foreign", b"secret", 0o600);
            std::os::unix::fs::chown(&path, Some(65_534), None).expect("root may give away");
            assert_eq!(fault(&path, 100), Fault::Owner { found: 65_534, expected: 0 });
        } else {
            eprintln!("not root: files of other users are left out");
        }
    }

    #[test]
    fn refuses_what_is_no_file_or_too_much() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = write(&folder, "long", b"1234567", 0o600);
        assert_eq!(fault(&path, 6), Fault::TooLarge { max: 6 });
        assert_eq!(fault(folder.path(), 6), Fault::NotRegular);
        assert_eq!(fault(Path::new("/dev/zero"), 6), Fault::NotRegular);
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        assert_eq!(fault(&pipe, 6), Fault::NotRegular, "and it does not wait for a writer");
        let absent = folder.path().join("absent");
        let expected = Fault::System { what: "open", kind: ErrorKind::NotFound };
        assert_eq!(fault(&absent, 6), expected);
        assert_eq!(
            read(&absent, 6).expect_err("absent").to_string(),
            format!("secret file `{}`: open: entity not found", absent.display())
        );
    }

    #[test]
    fn another_file_in_its_place_has_another_stamp() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = write(&folder, "a", b"one", 0o600);
        let first = stamp(&path).expect("a file");
        let other = write(&folder, "b", b"two", 0o600);
        fs::rename(other, &path).expect("renamed");
        assert_ne!(stamp(&path).expect("a file"), first);
    }
}
