//! The drivers' own test suites.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Results, Way, without};
use crate::postgres::Cluster;

/// Most seconds of a suite in Python.
const SUITE_SECONDS_MAX: &str = "2400";

/// Most seconds of a file in JavaScript.
const FILE_SECONDS_MAX: &str = "120";

/// Writes the end of each test to a file, one line each.
const PLUGIN: &str = include_str!("../../clients/pgward_results.py");

/// A suite that pytest runs.
#[derive(Clone, Debug)]
pub struct Pytest {
    /// The interpreter that has the driver.
    pub python: PathBuf,
    /// Where it runs.
    pub folder: PathBuf,
    /// Arguments of pytest; `{dsn}` is the address of the server.
    pub arguments: Vec<String>,
}

/// The suite of node-postgres: scripts, each with tests of its own.
#[derive(Clone, Debug)]
pub struct Node {
    /// The package with its tests.
    pub package: PathBuf,
}

impl Pytest {
    /// Runs all tests. `outputs` gets pytest's own output.
    pub fn run(&self, cluster: &Cluster, way: Way<'_>, outputs: &Path) -> Result<Results> {
        let _ = fs::remove_dir_all(outputs);
        fs::create_dir_all(outputs)?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("pgward_results.py"), PLUGIN)?;
        let ends = folder.path().join("ends");
        let mut pytest = Command::new("timeout");
        pytest.args(["--kill-after=10", SUITE_SECONDS_MAX]).arg(&self.python);
        pytest.args(["-m", "pytest", "-p", "pgward_results", "-q"]);
        // What a run leaves for the next one is not for these.
        pytest.arg("-o").arg(format!("cache_dir={}", folder.path().join("cache").display()));
        // A part that can't be loaded is a result like others.
        pytest.arg("--continue-on-collection-errors");
        let dsn = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", cluster.port());
        pytest.args(self.arguments.iter().map(|argument| argument.replace("{dsn}", &dsn)));
        cluster.point(&mut pytest, "127.0.0.1");
        pytest
            .env("PYTHONPATH", folder.path())
            .env("PGWARD_RESULTS", &ends)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(&self.folder)
            .stdin(std::process::Stdio::null());
        let status = way.run(&mut pytest, &outputs.join("output"))?;
        let text = fs::read_to_string(&ends).unwrap_or_default();
        let words = [(cluster.port().to_string(), "@PORT@")];
        let results: Results = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(end, name)| (without(name, &words), end.to_owned()))
            .collect();
        let told = outputs.join("output");
        ensure!(!results.is_empty(), "{status}, and no test ran; see {}", told.display());
        fs::write(outputs.join("ends"), &text)?;
        Ok(results)
    }
}

impl Node {
    /// Runs all scripts. `outputs` gets what each says.
    pub fn run(&self, cluster: &Cluster, way: Way<'_>, outputs: &Path) -> Result<Results> {
        let _ = fs::remove_dir_all(outputs);
        fs::create_dir_all(outputs)?;
        let node = |script: &Path| {
            let mut command = Command::new("timeout");
            command.args(["--kill-after=10", FILE_SECONDS_MAX, "node"]).arg(script);
            cluster.point(&mut command, "127.0.0.1");
            command.env("PGTESTNOSSL", "true").current_dir(&self.package);
            command.env("TEST_TIMEOUT", "20000").stdin(std::process::Stdio::null());
            command
        };
        let tables = self.package.join("script/create-test-tables.js");
        let status = way.run(&mut node(&tables), &outputs.join("tables"))?;
        ensure!(status.success(), "making the tables: {status}");
        let mut scripts = Vec::new();
        find(&self.package.join("test/integration"), &mut scripts)?;
        scripts.sort();
        let mut results = Results::new();
        for script in scripts {
            let name = script.strip_prefix(&self.package).unwrap_or(&script);
            let name = name.display().to_string();
            let file = outputs.join(name.replace('/', "_"));
            let status = way.run(&mut node(&script), &file)?;
            let told = String::from_utf8_lossy(&fs::read(&file)?).into_owned();
            // One line for each test that the script says the end of.
            for line in told.lines() {
                let ends = [("✔", "passed"), ("FAILED!", "failed"), ("? - SKIPPED", "skipped")];
                for (mark, end) in ends {
                    if let Some(test) = line.trim_end().strip_suffix(mark) {
                        results.insert(format!("{name}: {}", test.trim()), end.to_owned());
                    }
                }
            }
            let end = if status.success() { "passed".to_owned() } else { status.to_string() };
            results.insert(name, end);
        }
        Ok(results)
    }
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
        } else if path.to_string_lossy().ends_with("-tests.js") {
            found.push(path);
        }
    }
    Ok(())
}
