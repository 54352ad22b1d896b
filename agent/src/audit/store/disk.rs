//! What the store needs from a disk. [`Folder`](super::folder::Folder) is the real one; tests have
//! one that loses power and breaks on purpose.

use std::fmt::Debug;
use std::io;

/// A folder of files. Everything that changes which names there are is durable only after
/// [`Disk::sync`].
pub(super) trait Disk: Debug + Send + Sync + 'static {
    /// A file in it.
    type File: DiskFile;

    /// Names and lengths of the regular files in it, in no order. Others are left out.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Makes a file that must not exist.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file. Refused when it is not the agent's: a link, of several names, of another
    /// owner, open to others.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Renames a file, in one step over one of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Waits until names are on stable storage.
    fn sync(&self) -> io::Result<()>;
    /// Whether the folder is still the one of its path.
    fn is_in_place(&self) -> io::Result<bool>;
}

/// A file. Closed when dropped.
pub(super) trait DiskFile: Debug + Send + 'static {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Writes some of `bytes` at `offset` and says how many.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Reads some bytes at `offset`; 0 only at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Waits until everything written is on stable storage (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
}

/// Writes all of `bytes`.
pub(super) fn write_all(file: &impl DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(&bytes[written..], offset + written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until `bytes` is full or the file ends, and says how many.
pub(super) fn read_full(file: &impl DiskFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Makes a file of `bytes` zeros under `name`, durable once the folder is. A file that is there is
/// replaced.
///
/// Zeros are written, not only allocated: the first write to merely allocated space changes the
/// file's extents, which every `fdatasync` would then have to bring to disk as well.
pub(super) fn preallocate<D: Disk>(disk: &D, name: &str, bytes: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 64 << 10];
    let unfinished = format!("{name}{UNFINISHED}");
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = disk.create(&unfinished)?;
    let written = (|| {
        let mut offset = 0;
        while offset < bytes {
            let length = (bytes - offset).min(ZEROS.len() as u64);
            write_all(&file, &ZEROS[..length as usize], offset)?;
            offset += length;
        }
        file.sync()?;
        disk.rename(&unfinished, name)?;
        disk.sync()
    })();
    if written.is_err() {
        // What takes the last space must not stay; if this fails the next start removes it.
        let _ = disk.remove(&unfinished);
    }
    written
}

/// Ends the names of files that are being made. Those that a crash left are removed at the start.
pub(super) const UNFINISHED: &str = ".tmp";

/// Number of an error of the system, 0 when it has none.
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// Whether an error says that there is no space.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
