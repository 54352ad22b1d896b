//! PostgreSQL's own regression SQL, which tests of the statement analysis walk through: from Debian's source packages, with
//! lists of packages of our own, so that the host's stay as they are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{command, run, tools};

/// Source packages, and the releases of Debian that have them.
const SOURCES: [(&str, &str, &str); 2] =
    [("15", "postgresql-15", "bookworm"), ("18", "postgresql-18", "sid")];

/// Signs the lists of packages.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Folders of a source package that hold SQL.
const FOLDERS: [&str; 3] =
    ["*/src/test/regress/sql/*.sql", "*/src/pl/plpgsql/src/sql/*.sql", "*/contrib/*/sql/*.sql"];

/// Unpacks the SQL of each version into `target/tools/regression/<version>`, or leaves it as it is when it is there: 45 MB
/// are downloaded, 20 MB kept.
pub(crate) fn regression_sql() -> Result<()> {
    let folder = tools().join("regression");
    let missing = |version: &str| !folder.join(version).join("complete").is_file();
    if !SOURCES.iter().any(|(version, ..)| missing(version)) {
        return Ok(());
    }
    let work = folder.join("work");
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(work.join(part)).with_context(|| format!("making {part}"))?;
    }
    let list = SOURCES.map(|(_, _, release)| {
        format!("deb-src [signed-by={KEYRING}] http://deb.debian.org/debian {release} main\n")
    });
    fs::write(work.join("sources.list"), list.concat()).context("writing a list of sources")?;
    run(apt(&work).arg("update"))?;
    for (version, package, _) in SOURCES.iter().filter(|(version, ..)| missing(version)) {
        run(apt(&work).args(["source", "--download-only", package]).current_dir(&work))?;
        let into = folder.join(version);
        // What an installation that was killed left.
        let _ = fs::remove_dir_all(&into);
        fs::create_dir_all(&into).with_context(|| format!("making {}", into.display()))?;
        run(command("tar")
            .args(["--extract", "--strip-components=1", "--wildcards", "--file"])
            .arg(archive(&work, package)?)
            .args(FOLDERS)
            .current_dir(&into))?;
        fs::write(into.join("complete"), "").context("marking it as complete")?;
    }
    fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))
}

/// `apt-get` with state of its own below `work`.
fn apt(work: &Path) -> std::process::Command {
    let mut apt = command("apt-get");
    for (name, value) in [
        ("Dir::Etc::SourceList", work.join("sources.list")),
        ("Dir::Etc::SourceParts", PathBuf::from("/dev/null")),
        ("Dir::State::Lists", work.join("lists")),
        ("Dir::Cache", work.join("cache")),
    ] {
        apt.arg("-o").arg(format!("{name}={}", value.display()));
    }
    // The user whom it downloads as can't write there.
    apt.args(["-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"]);
    apt
}

/// The original sources of a package, however they are packed.
fn archive(folder: &Path, package: &str) -> Result<PathBuf> {
    let files = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let original = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{package}_")) && name.contains(".orig.tar.")
    };
    let mut found = files.flatten().map(|entry| entry.path());
    found.find(original).with_context(|| format!("apt-get left no sources of {package}"))
}
