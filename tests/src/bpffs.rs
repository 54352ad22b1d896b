//! A private mount of the BPF file system.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A BPF file system of one's own, in a folder of its own. Dropping it unmounts, which releases every pin inside.
#[derive(Debug)]
pub struct BpfFs {
    // The mount point sits below the temporary folder, so that the folder goes even when the unmount fails.
    folder: TempDir,
}

impl BpfFs {
    /// Mounts a new, empty file system with mode 0700.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("pgward-bpf-").tempdir()?;
        let this = Self { folder };
        std::fs::create_dir(this.path())?;
        mount(Some("bpf"), &this.path(), Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .with_context(|| format!("mounting bpf at {}", this.path().display()))?;
        Ok(this)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("fs")
    }

    /// Pinned objects (not folders), relative to [`BpfFs::path`], sorted.
    pub fn pins(&self) -> Result<Vec<PathBuf>> {
        let top = self.path();
        let mut found = Vec::new();
        collect(&top, &top, &mut found)?;
        found.sort();
        Ok(found)
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.path(), MntFlags::MNT_DETACH) {
            eprintln!("{}: unmount: {error}", self.path().display());
        }
    }
}

fn collect(top: &Path, folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(top, &entry.path(), found)?;
        } else {
            found.push(entry.path().strip_prefix(top)?.to_owned());
        }
    }
    Ok(())
}
