//! A throw-away PostgreSQL cluster.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use tempfile::TempDir;

use crate::gate;
use crate::host;
use crate::wait::{self, PATIENCE};

/// Where Debian puts the programs of each major version.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";

/// Users to run the server as when we are root, which PostgreSQL refuses.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// Tries to find a port that is still free when the server binds it.
const START_TRIES: u32 = 5;

/// Superuser of every cluster.
pub const SUPERUSER: &str = "postgres";

/// How the server checks users that come over TCP. Unix sockets always trust.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// No password.
    #[default]
    Trust,
    /// `scram-sha-256`.
    Scram,
    /// `md5`, with a stored md5 secret.
    Md5,
    /// Clear-text `password`.
    Password,
}

/// What to start; see [`Cluster::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    auth: Auth,
    listen: String,
    settings: Vec<(String, String)>,
    port: Option<u16>,
}

/// A running PostgreSQL in a temporary folder, with `fsync` off. Dropping it stops the server and removes the folder.
#[derive(Debug)]
pub struct Cluster {
    // Before `folder`: stopped first.
    server: Server,
    port: u16,
    auth: Auth,
    programs: PathBuf,
    folder: TempDir,
}

impl Cluster {
    /// A cluster on a random free port of `127.0.0.1` and `::1` that trusts everyone.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// A cluster with other options.
    pub fn builder() -> Builder {
        Builder {
            auth: Auth::Trust,
            listen: if host::has_ipv6() { "127.0.0.1,::1" } else { "127.0.0.1" }.to_owned(),
            settings: Vec::new(),
            port: None,
        }
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Password of [`SUPERUSER`], for clusters that ask for one.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Folder of the Unix socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Folder with `psql`, `pgbench` and the rest in this server's version.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Runs SQL through the Unix socket, never intercepted, and returns unaligned rows without headers.
    pub fn sql(&self, database: &str, text: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", SUPERUSER, "-d"]);
        command.arg(database).arg("-h").arg(self.socket_folder());
        host::run(command.args(["-p", &self.port.to_string(), "-c", text]))
    }

    /// A client program of this version with the environment that points it to `host` on this cluster's port. No `PG*`
    /// variable of the caller is kept.
    pub fn client(&self, program: &str, host: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        self.point(&mut command, host);
        command
    }

    /// Gives any libpq program (or driver that reads the same variables) the address of this cluster.
    pub fn point(&self, command: &mut Command, host: &str) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") && name != "PGWARD_BIN" {
                command.env_remove(name);
            }
        }
        command
            .env("PGHOST", host)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGDATABASE", "postgres")
            .env("PGCONNECT_TIMEOUT", "20")
            .env("HOME", self.folder.path());
        if self.auth != Auth::Trust {
            command.env("PGPASSWORD", PASSWORD);
        }
    }

    /// Process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.server.process.id()
    }

    /// The server's log, for messages of failed tests.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Builder {
    /// How TCP users are checked.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// `listen_addresses`; `*` for all.
    #[must_use]
    pub fn listen(mut self, addresses: &str) -> Self {
        addresses.clone_into(&mut self.listen);
        self
    }

    /// A line of `postgresql.conf`; later ones win.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A fixed port instead of a random one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Makes the cluster, starts it and waits until it takes connections.
    pub fn start(self) -> Result<Cluster> {
        let programs = programs()?;
        let user = server_user()?;
        let folder = tempfile::Builder::new().prefix("pgward-postgres-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        if let Some(user) = &user {
            chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let data = folder.path().join("data");
        copy_template(&programs, user.as_ref(), self.auth, &data)?;
        let method = self.auth.method();
        let hba = format!(
            "local all all trust\nlocal replication all trust\n\
             host all all all {method}\nhost replication all all {method}\n"
        );
        fs::write(data.join("pg_hba.conf"), hba)?;
        for tries_left in (0..START_TRIES).rev() {
            let port = self.port.map_or_else(host::free_port, Ok)?;
            self.configure(&data, folder.path(), port)?;
            let mut server = Server::spawn(&programs, user.as_ref(), &data, folder.path())?;
            match server.wait_ready(&data) {
                Ok(()) => return Ok(Cluster { server, port, auth: self.auth, programs, folder }),
                Err(error) if tries_left == 0 || self.port.is_some() => {
                    let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                    return Err(error.context(format!("starting PostgreSQL; its log:\n{log}")));
                }
                Err(_) => {}
            }
        }
        bail!("no port for PostgreSQL after {START_TRIES} tries");
    }

    fn configure(&self, data: &Path, sockets: &Path, port: u16) -> Result<()> {
        let mut text = format!(
            "port = {port}\nlisten_addresses = '{}'\nunix_socket_directories = '{}'\n\
             max_connections = 100\nshared_buffers = 32MB\nfsync = off\nfull_page_writes = off\n\
             synchronous_commit = off\njit = off\nautovacuum = off\nlogging_collector = off\n",
            self.listen,
            sockets.display()
        );
        for (name, value) in &self.settings {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        // This file is read last, so it wins over what `initdb` wrote.
        fs::write(data.join("postgresql.auto.conf"), text).context("writing the server's settings")
    }
}

impl Auth {
    fn method(self) -> &'static str {
        match self {
            Auth::Trust => "trust",
            Auth::Scram => "scram-sha-256",
            Auth::Md5 => "md5",
            Auth::Password => "password",
        }
    }
}

/// Not a secret: the cluster lives for seconds and trusts its Unix socket anyway.
const PASSWORD: &str = "correct horse";

/// The server process; dropping it stops the server at once.
#[derive(Debug)]
struct Server {
    process: Child,
}

impl Server {
    fn spawn(programs: &Path, user: Option<&User>, data: &Path, folder: &Path) -> Result<Self> {
        let log = fs::File::create(folder.join("log"))?;
        let mut command = Command::new(programs.join("postgres"));
        command.arg("-D").arg(data).current_dir(folder).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        become_user(&mut command, user);
        Ok(Self { process: command.spawn().with_context(|| format!("starting {command:?}"))? })
    }

    /// Waits for the status line that the server writes once it takes connections (line 8 of `postmaster.pid`).
    fn wait_ready(&mut self, data: &Path) -> Result<()> {
        let file = data.join("postmaster.pid");
        wait::until_true("PostgreSQL to take connections", PATIENCE, || {
            if let Some(status) = self.process.try_wait()? {
                bail!("the server ended: {status}");
            }
            let text = fs::read_to_string(&file).unwrap_or_default();
            Ok(text.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
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

/// Newest version whose server is installed.
fn programs() -> Result<PathBuf> {
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
fn server_user() -> Result<Option<User>> {
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

fn become_user(command: &mut Command, user: Option<&User>) {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
}

/// Copies a cluster made once per build folder, version and secret kind: `initdb` takes seconds, a copy a tenth of one.
fn copy_template(programs: &Path, user: Option<&User>, auth: Auth, data: &Path) -> Result<()> {
    let version = programs.parent().and_then(Path::file_name).unwrap_or_default();
    let secret = if auth == Auth::Md5 { "md5" } else { "scram" };
    let name = format!("postgres-{}-{secret}", version.to_string_lossy());
    let folder = gate::target_folder().unwrap_or_else(|_| std::env::temp_dir()).join("templates");
    fs::create_dir_all(&folder)?;
    let lock = fs::File::create(folder.join(format!("{name}.lock")))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .context("locking the template")?;
    let template = folder.join(&name);
    if !template.is_dir() {
        init(programs, user, secret, data)?;
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
