//! The server process.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};

use super::programs::become_user;
use crate::wait::{self, PATIENCE};

/// The server process; dropping it stops the server at once.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) process: Child,
}

impl Server {
    pub(super) fn spawn(
        programs: &Path,
        user: Option<&User>,
        data: &Path,
        folder: &Path,
    ) -> Result<Self> {
        let log = fs::File::create(folder.join("log"))?;
        let mut command = Command::new(programs.join("postgres"));
        command.arg("-D").arg(data).current_dir(folder).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        become_user(&mut command, user);
        Ok(Self { process: command.spawn().with_context(|| format!("starting {command:?}"))? })
    }

    /// Waits for the status line that the server writes once it takes connections (line 8 of `postmaster.pid`).
    pub(super) fn wait_ready(&mut self, data: &Path) -> Result<()> {
        let file = data.join("postmaster.pid");
        wait::until_true("PostgreSQL to take connections", PATIENCE, || {
            if let Some(status) = self.process.try_wait()? {
                bail!("the server ended: {status}");
            }
            let text = fs::read_to_string(&file).unwrap_or_default();
            let status = text.lines().nth(7).unwrap_or_default().trim();
            Ok(matches!(status, "ready" | "standby"))
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT is the "immediate" shutdown: the server ends its own children, which SIGKILL would leave behind.
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        }
        let ended = wait::until_true("PostgreSQL to stop", PATIENCE, || {
            Ok(self.process.try_wait()?.is_some())
        });
        if let Err(error) = ended {
            eprintln!("{error:#}");
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
