//! Running commands and steps: each command is printed before it runs, each failure is kept until the end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Top folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The folder that everything built or downloaded goes to.
///
/// Fixed at `target/` of the workspace, whatever `CARGO_TARGET_DIR` says, so that the agent's build script and the
/// programs of this package look in the same place.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// Tools that the project installs for itself.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// A command that runs in the top folder, without what `cargo run` adds to the environment.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    // Points into the toolchain that built this program; Debian's rustc, psql and others bring their own libraries.
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    let mut command = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Cargo sets these for `cargo run`; build scripts that watch them would run again for nothing.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Prints the command, runs it with this program's own output, and fails unless it exits with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| format!("starting {}", shown(command)))?;
    if !status.success() {
        bail!("{status}: {}", shown(command));
    }
    Ok(())
}

/// Prints the command, runs it, returns its standard output. Its standard error goes where this program's goes.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    announce(command);
    let output = quiet(command.stderr(Stdio::inherit()))?;
    if !output.status.success() {
        bail!("{}: {}", output.status, shown(command));
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of {}", shown(command)))
}

/// Runs a probe without printing it. Errors only when it can't be started.
pub(crate) fn quiet(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null());
    command.output().with_context(|| format!("starting {}", shown(command)))
}

/// Standard output of a probe that exits with 0, trimmed; `None` for everything else.
pub(crate) fn probe(command: &mut Command) -> Option<String> {
    let output = quiet(command).ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where a program is, looking through `PATH` and the folders of administration that a plain user's lacks.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(extra).map(|folder| folder.join(program)).find(|file| {
        use std::os::unix::fs::PermissionsExt;
        file.metadata()
            .is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
    })
}

/// Prints a command on standard error the way a shell would take it.
pub(crate) fn announce(command: &Command) {
    eprintln!("+ {}", shown(command));
}

/// One line of progress, on standard error.
pub(crate) fn say(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// Runs steps to the last, whatever fails on the way.
#[derive(Default)]
pub(crate) struct Steps {
    passed: u32,
    failed: Vec<(String, anyhow::Error)>,
}

impl Steps {
    /// Runs one step and notes its outcome. Returns whether it passed, for steps that build on it.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> bool {
        say(format_args!("== {name}"));
        match work() {
            Ok(()) => {
                self.passed += 1;
                true
            }
            Err(error) => {
                say(format_args!("== {name}: failed: {error:#}"));
                self.failed.push((name.to_owned(), error));
                false
            }
        }
    }

    /// Prints what passed and every failure; fails when there was one.
    pub(crate) fn finish(self) -> Result<()> {
        let Self { passed, failed } = self;
        for (name, error) in &failed {
            say(format_args!("failed: {name}: {error:#}"));
        }
        if failed.is_empty() {
            say(format_args!("{passed} steps passed"));
            return Ok(());
        }
        bail!("{} of {} steps failed", failed.len(), failed.len() + passed as usize);
    }
}

fn shown(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(value?))));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_commands_as_a_shell_takes_them() {
        let mut command = Command::new("cargo");
        command.args(["test", "two words", "it's", ""]).env("A", "b c").env_remove("GONE");
        assert_eq!(shown(&command), r"A='b c' cargo test 'two words' 'it'\''s' ''");
    }

    #[test]
    fn later_steps_run_after_a_failure_and_the_failure_is_reported() {
        let mut steps = Steps::default();
        assert!(!steps.step("first", || bail!("broken")));
        assert!(steps.step("second", || Ok(())));
        let error = steps.finish().expect_err("one step failed").to_string();
        assert_eq!(error, "1 of 2 steps failed");
    }
}
