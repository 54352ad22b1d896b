//! A cgroup of one's own.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host;
use crate::kernel;
use crate::wait::{self, PATIENCE};

/// Inode of the root of the cgroup v2 hierarchy, seen from the initial cgroup namespace.
const ROOT_INODE: u64 = 1;

/// A child of the cgroup v2 root (or of another [`Cgroup`]) with a random name. Dropping it kills every process inside,
/// by id, and removes the folder and those below.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    mount: PathBuf,
}

impl Cgroup {
    /// Where the cgroup v2 hierarchy is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hybrid hosts.
    ///
    /// Errors: no such mount, or only one that shows a subtree (as from a cgroup namespace).
    pub fn mount_point() -> Result<PathBuf> {
        let found = host::mounts()?.into_iter().find(|mount| mount.kind == "cgroup2");
        let Some(mount) = found else { bail!("no cgroup2 file system is mounted") };
        let inode = fs::metadata(&mount.target).context("looking at the cgroup2 mount")?.ino();
        if inode != ROOT_INODE {
            bail!("{}: inode {inode}, expected {ROOT_INODE}: a subtree", mount.target.display());
        }
        Ok(mount.target)
    }

    /// Makes `pgward-<label>-<random>` below the root.
    pub fn new(label: &str) -> Result<Self> {
        let mount = Self::mount_point()?;
        Self::make(&mount, mount.clone(), label)
    }

    /// Makes a cgroup below this one. Drop it first.
    pub fn child(&self, label: &str) -> Result<Self> {
        Self::make(&self.path, self.mount.clone(), label)
    }

    /// The folder, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path as in the `0::` line of `/proc/PID/cgroup`: starts with a slash, relative to the hierarchy's root.
    pub fn in_hierarchy(&self) -> String {
        let below = self.path.strip_prefix(&self.mount).unwrap_or(&self.path);
        format!("/{}", below.display())
    }

    /// Cgroup id as the kernel's helpers give it: the inode of the folder.
    pub fn id(&self) -> Result<u64> {
        Ok(fs::metadata(&self.path)?.ino())
    }

    /// Makes `command` put its process into this cgroup before it runs the program.
    pub fn enter(&self, command: &mut Command) -> Result<()> {
        let procs = Arc::new(self.procs()?);
        kernel::before_exec(command, move || {
            nix::unistd::write(procs.as_fd(), b"0")?;
            Ok(())
        });
        Ok(())
    }

    /// Starts `command` inside this cgroup.
    pub fn spawn_in(&self, mut command: Command) -> Result<Child> {
        self.enter(&mut command)?;
        command.spawn().with_context(|| format!("starting {command:?}"))
    }

    /// Moves a running process here.
    pub fn adopt(&self, pid: u32) -> Result<()> {
        use std::io::Write;
        self.procs()?
            .write_all(pid.to_string().as_bytes())
            .with_context(|| format!("moving process {pid} to {}", self.path.display()))
    }

    /// Ids of the processes here and below, seen from this pid namespace.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let mut found = Vec::new();
        for folder in folders(&self.path) {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        Ok(found)
    }

    /// See [`attached_programs`].
    pub fn attached_programs(&self) -> Result<Vec<(&'static str, u32)>> {
        attached_programs(&self.path)
    }

    /// Kills every process here and below, by id, and waits until they are gone.
    pub fn kill_all(&self) -> Result<()> {
        wait::until_true("processes of the cgroup to end", PATIENCE, || {
            let inside = self.processes()?;
            for pid in &inside {
                // A pid of 0 is a process of another pid namespace: `cgroup.kill` reaches it, a signal can't.
                if *pid > 0 {
                    let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
                }
            }
            if !inside.is_empty() {
                let _ = fs::write(self.path.join("cgroup.kill"), "1");
            }
            Ok(inside.is_empty())
        })
    }

    fn make(parent: &Path, mount: PathBuf, label: &str) -> Result<Self> {
        let path = parent.join(host::random_name(label));
        fs::create_dir(&path).with_context(|| format!("making cgroup {}", path.display()))?;
        Ok(Self { path, mount })
    }

    fn procs(&self) -> Result<File> {
        let path = self.path.join("cgroup.procs");
        OpenOptions::new()
            .write(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.kill_all() {
            eprintln!("{}: {error:#}", self.path.display());
        }
        // A process that is gone may pin its cgroup for another moment.
        let removed = wait::until_true("the cgroup to empty", PATIENCE, || {
            let mut all = folders(&self.path);
            all.reverse();
            Ok(all.iter().all(|folder| fs::remove_dir(folder).is_ok()))
        });
        if let Err(error) = removed {
            eprintln!("{}: not removed: {error:#}", self.path.display());
        }
    }
}

/// Number of BPF programs attached to exactly this cgroup, by name of the attach type; types without any are left out.
pub fn attached_programs(cgroup: &Path) -> Result<Vec<(&'static str, u32)>> {
    let folder = File::open(cgroup)?;
    let mut found = Vec::new();
    for (name, number) in kernel::ATTACH_TYPES {
        let count = kernel::attached(folder.as_fd(), number)
            .with_context(|| format!("querying {name} programs of {}", cgroup.display()))?;
        if count > 0 {
            found.push((name, count));
        }
    }
    Ok(found)
}

/// `top` and every folder below, parents first.
fn folders(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![top.to_owned()];
    let mut next = 0;
    while next < found.len() {
        let below = fs::read_dir(&found[next]).into_iter().flatten().flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let below: Vec<_> = below.map(|entry| entry.path()).collect();
        found.extend(below);
        next += 1;
    }
    found
}
