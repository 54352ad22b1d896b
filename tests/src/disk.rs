//! A small disk of one's own, to be filled, frozen and broken.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use crate::{host, kernel};

/// An ext4 file system in a file, mounted in a folder of its own. Dropping it thaws and unmounts it.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
}

/// The disk does not write while this lives: whoever writes, or asks for what was written to be kept, waits.
#[derive(Debug)]
pub struct Frozen<'d> {
    disk: &'d Disk,
}

impl Disk {
    /// A new, empty one of this size. It needs a free loop device.
    pub fn new(bytes: u64) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("pgward-disk-").tempdir()?;
        let image = folder.path().join("image");
        File::create(&image)?.set_len(bytes)?;
        // No blocks for root alone: it is root that fills it.
        host::run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        let this = Self { folder };
        fs::create_dir(this.path())?;
        this.mount()?;
        Ok(this)
    }

    fn mount(&self) -> Result<()> {
        let image = self.folder.path().join("image");
        host::run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(self.path()))?;
        Ok(())
    }

    /// Mounts it anew, after [`Disk::shut_down`] and when nobody uses it: as after a power cut, what was kept is there.
    pub fn mend(&self) -> Result<()> {
        umount2(&self.path(), MntFlags::empty()).context("unmounting")?;
        self.mount()
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Holds everything that would be written.
    pub fn freeze(&self) -> Result<Frozen<'_>> {
        host::run(Command::new("fsfreeze").arg("--freeze").arg(self.path()))?;
        Ok(Frozen { disk: self })
    }

    /// Uses up all space that is left. [`Disk::empty`] gives it back.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler())?;
        for size in [1 << 20, 4096] {
            let block = vec![0x55; size];
            loop {
                match file.write_all(&block).and_then(|()| file.sync_data()) {
                    Ok(()) => {}
                    Err(error) if error.raw_os_error() == Some(Errno::ENOSPC as i32) => break,
                    Err(error) => return Err(error).context("filling the disk"),
                }
            }
        }
        Ok(())
    }

    /// Gives back what [`Disk::fill`] used up.
    pub fn empty(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("emptying the disk")
    }

    /// Breaks it for good: every write fails with `EIO` from now on.
    pub fn shut_down(&self) -> Result<()> {
        let root = File::open(self.path())?;
        kernel::shut_down_ext4(&root).context("shutting the file system down")
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn thaw(path: &Path) {
        // Fails when it is not frozen.
        let _ = host::output(Command::new("fsfreeze").arg("--unfreeze").arg(path));
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        Disk::thaw(&self.disk.path());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Self::thaw(&self.path());
        if let Err(error) = umount2(&self.path(), MntFlags::MNT_DETACH) {
            eprintln!("{}: unmount: {error}", self.path().display());
        }
    }
}
