//! Test suites of others, run against a server directly and through an agent: both must fare alike.
//!
//! A suite is not asked whether it passes. What counts is that each of its tests comes to the same end on both ways, also
//! the ones that fail.

pub mod drivers;
pub mod regress;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::agent::{Agent, Builder};
use crate::host;
use crate::scene::Scene;

/// What became of each test, by its name.
pub type Results = BTreeMap<String, String>;

/// How a suite reaches its server.
#[derive(Clone, Copy, Debug)]
pub enum Way<'s> {
    /// Without an agent.
    Direct,
    /// From the cgroup of this one.
    Through(&'s Scene),
}

impl Way<'_> {
    /// Runs a program this way, whatever its exit status; both outputs go to `file`.
    pub fn run(self, command: &mut Command, file: &Path) -> Result<std::process::ExitStatus> {
        let output =
            fs::File::create(file).with_context(|| format!("making {}", file.display()))?;
        command.stderr(output.try_clone()?).stdout(output);
        if let Self::Through(scene) = self {
            scene.cgroup.enter(command)?;
        }
        command.status().with_context(|| format!("starting {command:?}"))
    }

    /// Its name in folders and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Through(_) => "through",
        }
    }
}

/// An agent for a suite: it logs little, since it sees much, and enforces the policy of that file if there is one.
pub fn agent(port: u16, policy: Option<&Path>) -> Builder {
    let builder = Agent::builder().intercept(port).set("log", "level", "\"warn\"");
    match policy {
        None => builder,
        Some(file) => builder.set("policy", "file", &format!("{:?}", file.display().to_string())),
    }
}

/// Tests that came to different ends, with both; `none` is the end of a test that was not run.
pub fn differences(one: &Results, two: &Results) -> BTreeMap<String, (String, String)> {
    let end = |results: &Results, name: &str| {
        results.get(name).cloned().unwrap_or_else(|| "none".to_owned())
    };
    let names = one.keys().chain(two.keys());
    names
        .map(|name| (name.clone(), (end(one, name), end(two, name))))
        .filter(|(_, (one, two))| one != two)
        .collect()
}

/// Puts words in place of what differs between any two runs: folders and ports.
fn without(text: &str, words: &[(String, &str)]) -> String {
    words.iter().fold(text.to_owned(), |text, (found, word)| text.replace(found.as_str(), word))
}

/// A folder that the server's user may write to as well.
fn open_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    host::run(Command::new("cp").arg("-r").arg("--no-preserve=mode").arg(from).arg(to)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_missing_on_one_way_is_a_difference() {
        let results = |all: &[(&str, &str)]| -> Results {
            all.iter().map(|(name, end)| ((*name).to_owned(), (*end).to_owned())).collect()
        };
        let one = results(&[("a", "passed"), ("b", "failed"), ("c", "passed")]);
        let two = results(&[("a", "passed"), ("b", "passed"), ("d", "passed")]);
        let found = differences(&one, &two);
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["b", "c", "d"]);
        assert_eq!(found["c"], ("passed".to_owned(), "none".to_owned()));
    }
}
