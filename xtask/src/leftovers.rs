//! What a run puts on the host outside its folder, and how the next run removes it when the first was killed.
//!
//! Everything long-lived runs in a cgroup that was noted in the journal before it was made. Killing what is inside
//! releases the rest: namespaces with their cables, containers, sockets, BPF links that are not pinned. Pins go with the
//! mount below the run's folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgward_tests::cgroup::Cgroup;
use pgward_tests::host;
use pgward_tests::postgres::Cluster;
use pgward_tests::wait::{self, PATIENCE};

use crate::run::say;
use crate::scratch::Scratch;

/// Journal kind of a cgroup.
const CGROUP: &str = "cgroup";

/// Journal kind of the run's folder.
pub(crate) const FOLDER: &str = "folder";

/// Makes a cgroup that the next run removes if this one can't.
pub(crate) fn noted_cgroup(label: &str, scratch: &Scratch) -> Result<Cgroup> {
    let cgroup = Cgroup::new(label)?;
    scratch.note(CGROUP, &cgroup.path().display().to_string())?;
    Ok(cgroup)
}

/// Moves a running server with its processes into a cgroup.
pub(crate) fn shelter(cluster: &Cluster, cgroup: &Cgroup) -> Result<()> {
    // The postmaster first: what it forks from then on is born inside.
    cgroup.adopt(cluster.pid())?;
    let children = format!("/proc/{0}/task/{0}/children", cluster.pid());
    let children = fs::read_to_string(&children).with_context(|| children.clone())?;
    for child in children.split_whitespace() {
        let pid: u32 = child.parse().with_context(|| format!("process id `{child}`"))?;
        // It may have ended by now, as helpers of a start do.
        let _ = cgroup.adopt(pid);
    }
    Ok(())
}

/// Removes what a killed run noted.
///
/// Errors: when something is still there afterwards.
pub(crate) fn clean(noted: &[String]) -> Result<()> {
    for line in noted {
        let Some((kind, name)) = line.split_once(' ') else { continue };
        let path = PathBuf::from(name);
        // Names in the journal are ours; a broken line must not remove somebody else's folder.
        let ours =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pgward-"));
        if !ours || !path.exists() {
            continue;
        }
        say(format_args!("left by an earlier run: {kind} {name}, removing it"));
        match kind {
            CGROUP => remove_cgroup(&path)?,
            FOLDER => remove_folder(&path)?,
            _ => {}
        }
    }
    Ok(())
}

/// Kills everything inside, by id, and removes the folders from below.
fn remove_cgroup(top: &Path) -> Result<()> {
    wait::until_true("a cgroup of an earlier run to empty", PATIENCE, || {
        let mut folders = vec![top.to_owned()];
        let mut next = 0;
        while next < folders.len() {
            let below = fs::read_dir(&folders[next]).into_iter().flatten().flatten();
            let below: Vec<_> =
                below.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
            folders.extend(below);
            next += 1;
        }
        for folder in folders.iter().rev() {
            let inside = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for pid in inside.lines().filter_map(|line| line.parse::<i32>().ok()) {
                if pid > 0 {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            let _ = fs::remove_dir(folder);
        }
        Ok(!top.exists())
    })
}

fn remove_folder(folder: &Path) -> Result<()> {
    for mount in host::mounts()?.iter().rev().filter(|mount| mount.target.starts_with(folder)) {
        umount2(&mount.target, MntFlags::MNT_DETACH)
            .with_context(|| format!("unmounting {}", mount.target.display()))?;
    }
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_its_own_folders_and_no_other() {
        let top = tempfile::tempdir().expect("folder");
        let (ours, other) = (top.path().join("pgward-demo-1"), top.path().join("other"));
        fs::create_dir_all(ours.join("below")).expect("made");
        fs::create_dir(&other).expect("made");
        let line = |path: &Path| format!("{FOLDER} {}", path.display());
        clean(&[line(&other), line(&ours), "broken".to_owned(), line(&ours)]).expect("cleaned");
        assert!(!ours.exists() && other.exists());
    }
}
