//! Programs: which file, and its digest.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::Digest as _;

use super::cgroup_tree::kernel_dev;
use super::identity::{Reason, Sha256};
use super::lru::Lru;

/// Largest program whose digest is taken: half a GiB, twice the largest single-file clients seen.
pub const EXE_HASH_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Most digests remembered.
pub const EXE_HASHES_MAX: usize = 4096;
/// A file changed this recently may change again within one tick of its time stamps, so that its
/// digest is not remembered.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// A program's file, open.
#[derive(Debug)]
pub(super) struct ExeFile {
    pub(super) file: File,
    pub(super) metadata: Metadata,
    pub(super) id: ExeId,
    /// On a file system whose server chooses what each reader sees.
    pub(super) is_fuse: bool,
}

/// Which file it is, in the kernel's own terms, to be compared with a kernel event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExeId {
    /// `inode.i_ino`.
    pub(super) inode: u64,
    /// `st_dev` as the kernel's `dev_t`. Differs from `super_block.s_dev` on btrfs and overlayfs.
    pub(super) dev: u32,
    /// Mount in the namespace of the process, where the kernel tells.
    pub(super) mount_id: Option<u64>,
}

impl ExeFile {
    /// Takes `/proc/PID/exe`, opened. May hang, see [`super::patience`].
    pub(super) fn new(file: File) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        let (major, minor) =
            (nix::sys::stat::major(metadata.dev()), nix::sys::stat::minor(metadata.dev()));
        let fdinfo = fdinfo(&file);
        let id = ExeId {
            inode: fdinfo.inode.unwrap_or(metadata.ino()),
            dev: kernel_dev(low(major), low(minor)),
            mount_id: fdinfo.mount_id,
        };
        let is_fuse = nix::sys::statfs::fstatfs(&file)
            .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::FUSE_SUPER_MAGIC);
        Ok(Self { file, metadata, id, is_fuse })
    }
}

fn low(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct FdInfo {
    inode: Option<u64>,
    mount_id: Option<u64>,
}

/// What the kernel says of one of our descriptors: `ino` is `i_ino`, which on overlayfs need not be
/// `st_ino` (since 5.14).
fn fdinfo(file: &File) -> FdInfo {
    const FDINFO_BYTES_MAX: u64 = 4096;
    let mut text = String::new();
    let read = File::open(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))
        .and_then(|info| info.take(FDINFO_BYTES_MAX).read_to_string(&mut text));
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    match read {
        Ok(_) => FdInfo { inode: value("ino:"), mount_id: value("mnt_id:") },
        Err(_) => FdInfo::default(),
    }
}

/// A file and its state; a file whose contents changed has another change time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct HashKey {
    dev: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl HashKey {
    fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file has been left alone for long enough that its next change has another time
    /// stamp.
    fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let settled = self.changed.0.saturating_add_unsigned(SETTLED_AFTER.as_secs());
        i64::try_from(now.as_secs()).is_ok_and(|now| settled < now)
    }
}

/// Digests of programs by file and state.
pub(super) struct HashCache {
    known: Mutex<Lru<HashKey, Sha256>>,
    bytes_max: u64,
}

impl HashCache {
    /// Files larger than `bytes_max` are not read.
    pub(super) fn new(entries_max: usize, bytes_max: u64) -> Self {
        Self { known: Mutex::new(Lru::new(entries_max)), bytes_max }
    }

    /// The digest of a file that was read before and has not changed. Does not block.
    pub(super) fn known(&self, exe: &ExeFile) -> Option<Sha256> {
        if exe.is_fuse {
            return None;
        }
        self.lock().touch(&HashKey::of(&exe.metadata)).copied()
    }

    /// Why no digest can be taken of this file, without reading it.
    pub(super) fn refusal(&self, exe: &ExeFile) -> Option<Reason> {
        let found = exe.metadata.size();
        if exe.is_fuse {
            Some(Reason::FuseFile)
        } else if !exe.metadata.is_file() {
            Some(Reason::NotRegular)
        } else if found > self.bytes_max {
            Some(Reason::TooLarge { found, max: self.bytes_max })
        } else {
            None
        }
    }

    /// Reads the file and remembers its digest. Takes as long as reading takes: seconds per GB, more
    /// from a cold disk.
    pub(super) fn take(&self, exe: &ExeFile) -> Result<Sha256, Reason> {
        if let Some(reason) = self.refusal(exe) {
            return Err(reason);
        }
        let before = HashKey::of(&exe.metadata);
        let mut hasher = sha2::Sha256::new();
        let mut chunk = vec![0; 256 * 1024];
        let mut total = 0;
        let os = |error: std::io::Error| Reason::Os(error.to_string());
        loop {
            match (&exe.file).read(&mut chunk) {
                Ok(0) => break,
                Ok(got) => {
                    hasher.update(&chunk[..got]);
                    total += got as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(os(error)),
            }
            if total > self.bytes_max {
                return Err(Reason::TooLarge { found: total, max: self.bytes_max });
            }
        }
        let after = HashKey::of(&exe.file.metadata().map_err(os)?);
        if before != after || total != before.size {
            return Err(Reason::ChangedWhileRead);
        }
        let digest = Sha256(hasher.finalize().into());
        if after.is_settled(SystemTime::now()) {
            self.lock().insert(after, digest);
        }
        Ok(digest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lru<HashKey, Sha256>> {
        // A map of digests has no state that a panic elsewhere could have broken.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> ExeFile {
        ExeFile::new(File::open(path).expect("there")).expect("readable")
    }

    #[test]
    fn digest_of_known_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("exe");
        std::fs::write(&path, b"abc").expect("written");
        let cache = HashCache::new(4, 3);
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(cache.take(&open(&path)).expect("small").to_string(), expected);
        assert_eq!(cache.known(&open(&path)), None, "changed a moment ago: not remembered");
        std::fs::write(&path, b"abcd").expect("written");
        let refused = cache.take(&open(&path));
        assert_eq!(refused, Err(Reason::TooLarge { found: 4, max: 3 }));
    }

    #[test]
    fn remembers_files_that_have_settled() {
        // Checked out a while ago; otherwise the digest is rightly not remembered.
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let cache = HashCache::new(4, u64::MAX);
        let exe = open(&path);
        let digest = cache.take(&exe).expect("readable");
        let settled = HashKey::of(&exe.metadata).is_settled(SystemTime::now());
        assert_eq!(cache.known(&open(&path)), settled.then_some(digest));
    }

    #[test]
    fn settles() {
        let key = |changed| HashKey { dev: 0, inode: 0, size: 0, modified: (0, 0), changed };
        let now = UNIX_EPOCH + Duration::from_secs(100);
        assert!(key((97, 999)).is_settled(now));
        assert!(!key((98, 0)).is_settled(now) && !key((99, 0)).is_settled(now));
        assert!(!key((i64::MAX, 0)).is_settled(now), "a time in the future never settles");
    }

    #[test]
    fn refuses_what_is_no_regular_file() {
        let cache = HashCache::new(4, 100);
        let exe = open(std::path::Path::new("/"));
        assert_eq!(cache.take(&exe), Err(Reason::NotRegular));
    }

    #[test]
    fn a_file_that_changes_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("exe");
        std::fs::write(&path, b"abc").expect("written");
        let exe = open(&path);
        std::fs::write(&path, b"abcdef").expect("written");
        assert_eq!(HashCache::new(4, 100).take(&exe), Err(Reason::ChangedWhileRead));
    }
}
