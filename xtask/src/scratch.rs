//! A folder for the files of one run, which goes with it, and is looked for when an earlier run was killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::run::target;

/// Longest path of a Unix socket, without the zero at its end (`sun_path`, unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// What the guards put between the folder and a socket's name, at most.
const BELOW_MAX: usize = 48;

/// Permission of others to pass through a folder.
const PASS: u32 = 0o001;

/// The only run of its kind in this build folder, with a folder for its files. Every temporary file of this process goes
/// there. Dropping it removes the folder.
pub(crate) struct Scratch {
    folder: PathBuf,
    journal: PathBuf,
    _lock: Flock<fs::File>,
}

impl Scratch {
    /// Takes the lock of `name`, hands what a killed run noted to `clean`, and makes the folder.
    ///
    /// The folder is below `target/`, unless the server's user can't get there (a checkout in root's home) or sockets in
    /// it would have too long a path: then it is in the system's folder of temporary files.
    ///
    /// Errors: another run is going on; what `clean` returns.
    pub(crate) fn new(name: &str, clean: impl Fn(&[String]) -> Result<()>) -> Result<Self> {
        let own = target().join(name);
        fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
        let lock = fs::File::create(own.join("lock")).context("making the lock")?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, error)| error)
            .with_context(|| format!("another {name} is running in this build folder"))?;
        let journal = own.join("journal");
        let noted = fs::read_to_string(&journal).unwrap_or_default();
        let noted: Vec<String> = noted.lines().map(str::to_owned).collect();
        if !noted.is_empty() {
            clean(&noted)?;
            fs::remove_file(&journal).context("removing the journal")?;
        }
        let place = if open_to_all(&own) && fits(&own) { own } else { std::env::temp_dir() };
        let folder = place.join(format!("pgward-{name}-{}", std::process::id()));
        let this = Self { folder, journal, _lock: lock };
        this.note("folder", &this.folder.display().to_string())?;
        fs::create_dir(&this.folder).context("making the folder of this run")?;
        fs::set_permissions(&this.folder, fs::Permissions::from_mode(0o755))?;
        // Fails when something asked for a temporary folder before, which nothing does.
        tempfile::env::override_temp_dir(&this.folder).map_err(|other| {
            anyhow::anyhow!("temporary files go to {} already", other.display())
        })?;
        Ok(this)
    }

    /// The folder, absolute.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Notes something that a killed run would leave: a kind and a name, given back to `clean` as `kind name`. Note it
    /// before it is made.
    pub(crate) fn note(&self, kind: &str, name: &str) -> Result<()> {
        use std::io::Write;
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.journal)?;
        writeln!(file, "{kind} {name}").context("writing the journal")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.folder) {
            Ok(()) => {
                let _ = fs::remove_file(&self.journal);
            }
            Err(error) => eprintln!("{}: not removed: {error}", self.folder.display()),
        }
    }
}

/// Whether every user can get to the folder.
fn open_to_all(folder: &Path) -> bool {
    folder.ancestors().all(|above| {
        fs::metadata(above).is_ok_and(|facts| facts.permissions().mode() & PASS == PASS)
    })
}

fn fits(folder: &Path) -> bool {
    folder.as_os_str().len() + "/pgward-bench-4194304/".len() + BELOW_MAX <= SOCKET_PATH_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_a_folder_that_others_cannot_pass() {
        let top = tempfile::tempdir().expect("folder");
        let below = top.path().join("below");
        fs::create_dir(&below).expect("made");
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o700)).expect("closed");
        assert!(!open_to_all(&below));
    }

    #[test]
    fn a_long_path_leaves_no_room_for_sockets() {
        assert!(fits(Path::new("/srv/pgward/target/demo")));
        assert!(!fits(Path::new(&format!("/{}/target/demo", "x".repeat(60)))));
    }
}
