//! Where the suites come from: pinned, checked by digest, unpacked below `target/tools/conformance`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pgward_tests::postgres::Version;
use pgward_tests::suites::drivers::{Node, Pytest};
use pgward_tests::suites::regress::Regress;

use super::Suite;
use crate::run::{command, run, say, tools, which};

/// What runs a suite.
pub(super) enum Sources {
    /// Files of SQL.
    Regress(Regress),
    /// A suite in Python.
    Pytest(Pytest),
    /// Scripts in JavaScript.
    Node(Node),
}

/// The sources of a project as Debian has them, unchanged.
struct Tarball {
    /// Folder that they are unpacked to.
    folder: &'static str,
    /// Path in Debian's archive.
    path: &'static str,
    sha256: &'static str,
    /// What is taken of it.
    part: &'static str,
    /// Folders of the archive above that part that are left out.
    strip: &'static str,
}

const POSTGRES_15: Tarball = Tarball {
    folder: "postgres-15.18",
    path: "pool/main/p/postgresql-15/postgresql-15_15.18.orig.tar.bz2",
    sha256: "11df0df97fe3ea4ba9a791faaf39cee1d2fe571e78885b5b55d8517d27c323b4",
    part: "postgresql-15.18/src/test/regress",
    strip: "4",
};

const POSTGRES_18: Tarball = Tarball {
    folder: "postgres-18.6",
    path: "pool/main/p/postgresql-18/postgresql-18_18.6.orig.tar.bz2",
    sha256: "555610c24d53e4316da5b7d3fc25c279d96856d5e0e23ee308c328c5fa881d9f",
    part: "postgresql-18.6/src/test/regress",
    strip: "4",
};

const PSYCOPG: Tarball = Tarball {
    folder: "psycopg-3.2.6",
    path: "pool/main/p/psycopg3/psycopg3_3.2.6.orig.tar.xz",
    sha256: "53989ca6a856f6fcbcaea6eb1e7ce6051580a260669cf5c3a2716a5cdb807e2b",
    part: "psycopg-3.2.6/tests",
    strip: "1",
};

const NODE_POSTGRES: Tarball = Tarball {
    folder: "node-postgres-8.16.3",
    path: "pool/main/n/node-postgres/node-postgres_8.16.3+~cs35.24.27.orig.tar.gz",
    sha256: "03803c9ccfca47b63bf57bf3f166002ee64652a7e26c2d91fb94da19d769381e",
    part: "node-postgres-pg-8.16.3/packages/pg",
    strip: "3",
};

/// Archives that are asked, in this order; the second forgets nothing.
const ARCHIVES: [&str; 2] =
    ["http://deb.debian.org/debian", "http://snapshot.debian.org/archive/debian/20261101T000000Z"];

/// Of the driver's package on PyPI, tests included.
const ASYNCPG: &str = "asyncpg==0.31.0";

/// The driver that psycopg's tests are of.
const PSYCOPG_PACKAGES: [&str; 4] =
    ["psycopg[binary]==3.2.6", "pytest==8.4.2", "anyio==4.11.0", "psycopg-pool==3.2.6"];

const ASYNCPG_PACKAGES: [&str; 3] = [ASYNCPG, "pytest==8.4.2", "distro==1.9.0"];

/// The driver and what its tests ask for, from npm.
const NODE_PACKAGES: [&str; 5] =
    ["pg@8.16.3", "async@2.6.4", "bluebird@3.7.2", "co@4.6.0", "pg-copy-streams@0.3.0"];

/// Headers for the functions in C that PostgreSQL's tests load.
const HEADERS_PACKAGE: &str = "postgresql-server-dev-15";

/// Fetches what a suite needs and is not there yet.
pub(super) fn fetch(suite: Suite) -> Result<Sources> {
    match suite {
        Suite::Postgres15 => regress_15().map(Sources::Regress),
        Suite::Postgres18 => regress_18().map(Sources::Regress),
        Suite::Psycopg => psycopg().map(Sources::Pytest),
        Suite::Asyncpg => asyncpg().map(Sources::Pytest),
        Suite::NodePostgres => node_postgres().map(Sources::Node),
    }
}

/// The regression tests of the version that Debian has, with their functions in C.
pub(crate) fn regress_15() -> Result<Regress> {
    let sources = tarball(&POSTGRES_15)?;
    let libraries = place().join("postgres-15-libraries");
    let library = libraries.join("regress.so");
    if !library.is_file() {
        let headers = headers()?;
        fs::create_dir_all(&libraries)?;
        for name in ["autoinc.so", "refint.so"] {
            let from = Path::new("/usr/lib/postgresql/15/lib").join(name);
            fs::copy(&from, libraries.join(name))
                .with_context(|| format!("copying {}", from.display()))?;
        }
        let include = |folder: &str| format!("-I{}", headers.join(folder).display());
        run(command("cc")
            .args(["-O1", "-fPIC", "-shared", "-w", "-o"])
            .arg(&library)
            .arg(include("usr/include/postgresql/15/server"))
            .arg(include("usr/include/postgresql"))
            .arg(sources.join("regress.c")))?;
    }
    Ok(Regress { version: Version::Debian, sources, libraries, psql: None })
}

/// Those of version 18. Its server comes without headers: what needs functions in C fails, on both ways alike.
fn regress_18() -> Result<Regress> {
    let sources = tarball(&POSTGRES_18)?;
    let libraries = place().join("postgres-18-libraries");
    fs::create_dir_all(&libraries)?;
    Ok(Regress { version: Version::Eighteen, sources, libraries, psql: None })
}

fn psycopg() -> Result<Pytest> {
    let folder = tarball(&PSYCOPG)?;
    let python = python("venv-psycopg", &PSYCOPG_PACKAGES)?;
    let arguments = [
        "tests",
        "--test-dsn",
        "{dsn}",
        // What is timed, or asks for type checkers and proxies, says nothing about a connection.
        "-m",
        "not slow and not flakey and not timing and not mypy and not dns and not proxy",
        "--ignore=tests/pool",
        "--ignore=tests/crdb",
    ];
    Ok(Pytest { python, folder, arguments: arguments.map(str::to_owned).to_vec() })
}

fn asyncpg() -> Result<Pytest> {
    let python = python("venv-asyncpg", &ASYNCPG_PACKAGES)?;
    let folder = place().join("asyncpg-0.31.0");
    if !folder.join("tests").is_dir() {
        let archives = place().join("pip");
        fs::create_dir_all(&archives)?;
        let archive = archives.join("asyncpg-0.31.0.tar.gz");
        if !archive.is_file() {
            let source = ["--no-deps", "--no-binary", ":all:", ASYNCPG, "--dest"];
            let quiet = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check"];
            run(command(&python).args(quiet).args(source).arg(&archives))?;
        }
        // Only the tests: the sources of the driver beside them would be imported in its place.
        unpack(&archive, "asyncpg-0.31.0/tests", "1", &folder)?;
    }
    // Tests that start a server of their own would not go through the agent; they skip themselves, as do those of uvloop.
    Ok(Pytest { python, folder, arguments: vec!["tests".to_owned()] })
}

fn node_postgres() -> Result<Node> {
    let sources = tarball(&NODE_POSTGRES)?;
    let folder = place().join("node");
    let package = folder.join("node_modules/pg");
    let stamp = folder.join("pgward-modules");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == NODE_PACKAGES.join("\n")) {
        return Ok(Node { package });
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("package.json"), "{ \"private\": true }\n")?;
    let quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier"];
    run(command("npm").arg("install").args(quiet).args(NODE_PACKAGES).current_dir(&folder))?;
    for part in ["test", "script"] {
        run(command("cp").arg("-r").arg(sources.join(part)).arg(&package))?;
    }
    fs::write(&stamp, NODE_PACKAGES.join("\n"))?;
    Ok(Node { package })
}

/// An environment with these packages; its interpreter.
fn python(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = place().join(name);
    let python = folder.join("bin/python");
    let stamp = folder.join("pgward-packages");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == packages.join("\n")) {
        return Ok(python);
    }
    let system = which("python3").context("no python3 on PATH")?;
    run(command(system).args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(command(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(packages))?;
    fs::write(&stamp, packages.join("\n"))?;
    Ok(python)
}

/// Headers of the server of Debian's version, unpacked without being installed.
fn headers() -> Result<PathBuf> {
    let folder = place().join("headers");
    if folder.join("usr/include/postgresql/15/server/postgres.h").is_file() {
        return Ok(folder);
    }
    fs::create_dir_all(&folder)?;
    for package in [HEADERS_PACKAGE, "libpq-dev"] {
        run(command("apt-get").args(["-q", "download", package]).current_dir(&folder))?;
    }
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "deb") {
            run(command("dpkg-deb").arg("--extract").arg(&path).arg(&folder))?;
        }
    }
    Ok(folder)
}

/// Fetches and unpacks sources; what was unpacked before stays as it is.
fn tarball(tarball: &Tarball) -> Result<PathBuf> {
    let folder = place().join(tarball.folder);
    if folder.is_dir() {
        return Ok(folder);
    }
    fs::create_dir_all(place())?;
    let name = tarball.path.rsplit('/').next().unwrap_or(tarball.path);
    let archive = place().join(name);
    let fetched = ARCHIVES.iter().any(|base| {
        // apt's own helper: it takes the settings of the host for proxies, and checks the digest.
        let url = format!("{base}/{}", tarball.path.replace('+', "%2b").replace('~', "%7e"));
        let digest = format!("SHA256:{}", tarball.sha256);
        let mut helper = command("/usr/lib/apt/apt-helper");
        helper.args(["-o", "Acquire::Retries=2", "download-file", &url]).arg(&archive);
        let result = run(helper.arg(digest));
        result.inspect_err(|error| say(format_args!("{error:#}"))).is_ok()
    });
    if !fetched {
        bail!("{name} could not be fetched");
    }
    unpack(&archive, tarball.part, tarball.strip, &folder)?;
    Ok(folder)
}

/// Unpacks a part of an archive: whole or not at all.
fn unpack(archive: &Path, part: &str, strip: &str, folder: &Path) -> Result<()> {
    let beside = folder.with_extension("part");
    let _ = fs::remove_dir_all(&beside);
    fs::create_dir_all(&beside)?;
    let strip = format!("--strip-components={strip}");
    let mut tar = command("tar");
    tar.arg("--extract").arg("--no-same-owner").arg("--file").arg(archive);
    run(tar.arg("--directory").arg(&beside).arg(strip).arg(part))?;
    fs::rename(&beside, folder).with_context(|| format!("storing {}", folder.display()))
}

fn place() -> PathBuf {
    tools().join("conformance")
}
