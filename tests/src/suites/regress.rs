//! PostgreSQL's own regression tests: files of SQL, run by psql in the order of their schedule, one at a time.
//!
//! The outputs of both ways are compared with each other, not with those that PostgreSQL keeps: an agent that changed
//! nothing gives the same bytes, whatever the server makes of a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::{Results, Way, copy, open_folder, without};
use crate::postgres::{Builder, Cluster, Version};

/// Most seconds that a file may take; what is not at its end then is ended.
const SECONDS_MAX: &str = "600";

/// The tests of one version, unpacked.
#[derive(Clone, Debug)]
pub struct Regress {
    /// Which server they are for.
    pub version: Version,
    /// `src/test/regress` of its sources.
    pub sources: PathBuf,
    /// Folder of `regress.so` and other libraries that the tests load.
    pub libraries: PathBuf,
    /// The psql to run them with; Debian's when there is no other.
    pub psql: Option<PathBuf>,
}

impl Regress {
    /// Names of all tests in the order of the schedule.
    pub fn schedule(&self) -> Result<Vec<String>> {
        let path = self.sources.join("parallel_schedule");
        let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
        let lines = text.lines().filter_map(|line| line.strip_prefix("test:"));
        let names: Vec<_> = lines.flat_map(str::split_whitespace).map(str::to_owned).collect();
        ensure!(!names.is_empty(), "{}: no tests", path.display());
        Ok(names)
    }

    /// A server as the tests want it.
    pub fn server(&self) -> Builder {
        Cluster::builder().version(self.version).setting("max_prepared_transactions", "2")
    }

    /// Runs `tests` on a server that has not seen them before. Outputs stay in `outputs`, each named as its test; the
    /// result of a test is the digest of its output.
    pub fn run(
        &self,
        tests: &[String],
        cluster: &Cluster,
        way: Way<'_>,
        outputs: &Path,
    ) -> Result<Results> {
        let folder = tempfile::Builder::new().prefix("pgward-regress-").tempdir()?;
        open_folder(folder.path())?;
        for part in ["sql", "data"] {
            copy(&self.sources.join(part), folder.path())?;
        }
        for made in ["results", "testtablespace"] {
            open_folder(&folder.path().join(made))?;
        }
        let _ = fs::remove_dir_all(outputs);
        fs::create_dir_all(outputs)?;
        prepare(cluster)?;
        let words = [
            (folder.path().display().to_string(), "@FOLDER@"),
            (cluster.socket_folder().display().to_string(), "@SOCKET@"),
            (self.libraries.display().to_string(), "@LIBRARIES@"),
            (cluster.port().to_string(), "@PORT@"),
        ];
        let mut results = Results::new();
        for test in tests {
            let input = folder.path().join("sql").join(format!("{test}.sql"));
            let raw = folder.path().join("output");
            let mut psql = self.psql(cluster, test, folder.path());
            psql.stdin(Stdio::from(
                fs::File::open(&input).with_context(|| format!("no {}", input.display()))?,
            ));
            let status = way.run(&mut psql, &raw)?;
            let output = String::from_utf8_lossy(&fs::read(&raw)?).into_owned();
            let output = without(&output, &words);
            fs::write(outputs.join(test), &output)?;
            let digest = hex(&Sha256::digest(&output)[..6]);
            results.insert(test.clone(), format!("{status}, {} bytes, {digest}", output.len()));
        }
        Ok(results)
    }

    /// psql as PostgreSQL's own runner starts it.
    fn psql(&self, cluster: &Cluster, test: &str, folder: &Path) -> Command {
        let mut command = Command::new("timeout");
        let psql = self.psql.clone().unwrap_or_else(|| cluster.programs().join("psql"));
        command.args(["--kill-after=10", SECONDS_MAX]).arg(psql);
        cluster.point(&mut command, "127.0.0.1");
        command.args(["-X", "-a", "-q", "-d", "regression"]);
        command.args(["-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]);
        command
            .env("PGTZ", "PST8PDT")
            .env("PGDATESTYLE", "Postgres, MDY")
            .env("PGOPTIONS", "-c intervalstyle=postgres_verbose")
            .env("PGAPPNAME", format!("pg_regress/{test}"))
            .env("PG_ABS_SRCDIR", folder)
            .env("PG_ABS_BUILDDIR", folder)
            .env("PG_LIBDIR", &self.libraries)
            .env("PG_DLSUFFIX", ".so")
            .env("LC_MESSAGES", "C")
            .current_dir(folder);
        command
    }
}

/// The database of the tests, with the settings that they expect.
fn prepare(cluster: &Cluster) -> Result<()> {
    cluster.sql("postgres", "create database regression template template0")?;
    for setting in [
        "lc_messages to 'C'",
        "lc_monetary to 'C'",
        "lc_numeric to 'C'",
        "lc_time to 'C'",
        "bytea_output to 'hex'",
        "timezone_abbreviations to 'Default'",
    ] {
        cluster.sql("postgres", &format!("alter database regression set {setting}"))?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
