//! A throw-away PostgreSQL cluster.

mod programs;
mod server;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::User;
use tempfile::TempDir;

pub use self::programs::Version;
use self::programs::{copy_template, server_user};
use self::server::Server;
use crate::host;
use crate::pki::Files;

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
    version: Version,
    auth: Auth,
    hba: Option<String>,
    tls: Option<Tls>,
    listen: String,
    settings: Vec<(String, String)>,
    port: Option<u16>,
    standby: bool,
}

/// Certificate of a server and whom it trusts to have issued those of clients.
#[derive(Clone, Debug)]
struct Tls {
    files: Files,
    roots: PathBuf,
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
            version: Version::default(),
            auth: Auth::Trust,
            hba: None,
            tls: None,
            listen: if host::has_ipv6() { "127.0.0.1,::1" } else { "127.0.0.1" }.to_owned(),
            settings: Vec::new(),
            port: None,
            standby: false,
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

    /// Folder with `psql`, `pgbench` and the rest: Debian's, whatever the server's version.
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

    /// A client program (Debian's) with the environment that points it to `host` on this cluster's port. No `PG*`
    /// variable of the caller is kept.
    pub fn client(&self, program: &str, host: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        self.point(&mut command, host);
        command
    }

    /// Gives any libpq program (or driver that reads the same variables) the address of this cluster.
    pub fn point(&self, command: &mut Command, host: &str) {
        Self::without_settings(command);
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

    /// Takes every `PG*` variable of the caller from any libpq program.
    pub fn without_settings(command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") && name != "PGWARD_BIN" {
                command.env_remove(name);
            }
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
    /// Which server; Debian's by default.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Lines of `pg_hba.conf` for TCP, in place of those of [`Builder::auth`].
    #[must_use]
    pub fn hba(mut self, lines: &str) -> Self {
        self.hba = Some(lines.to_owned());
        self
    }

    /// TLS with this certificate; client certificates are checked against `roots`. The server keeps its own copies.
    #[must_use]
    pub fn tls(mut self, files: &Files, roots: &Path) -> Self {
        self.tls = Some(Tls { files: files.clone(), roots: roots.to_owned() });
        self
    }

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

    /// A hot standby, of no primary: it takes read-only sessions and waits for a log that never comes.
    #[must_use]
    pub fn standby(mut self) -> Self {
        self.standby = true;
        self
    }

    /// Makes the cluster, starts it and waits until it takes connections.
    pub fn start(self) -> Result<Cluster> {
        let programs = self.version.programs()?;
        let user = server_user()?;
        let folder = tempfile::Builder::new().prefix("pgward-postgres-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        if let Some(user) = &user {
            chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let data = folder.path().join("data");
        copy_template(self.version, user.as_ref(), self.auth, &data)?;
        let method = self.auth.method();
        let remote = self.hba.clone().unwrap_or_else(|| {
            format!("host all all all {method}\nhost replication all all {method}\n")
        });
        let hba = format!("local all all trust\nlocal replication all trust\n{remote}");
        fs::write(data.join("pg_hba.conf"), hba)?;
        if let Some(tls) = &self.tls {
            tls.copy(&data, user.as_ref())?;
        }
        if self.standby {
            fs::write(data.join("standby.signal"), "").context("making it a standby")?;
        }
        for tries_left in (0..START_TRIES).rev() {
            let port = self.port.map_or_else(host::free_port, Ok)?;
            self.configure(&data, folder.path(), port)?;
            let mut server = Server::spawn(&programs, user.as_ref(), &data, folder.path())?;
            match server.wait_ready(&data) {
                Ok(()) => {
                    // The tool folder's version has no client programs: Debian's speak to it as well.
                    let programs = Version::Debian.programs().unwrap_or(programs);
                    return Ok(Cluster { server, port, auth: self.auth, programs, folder });
                }
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
        if self.tls.is_some() {
            text.push_str(TLS_SETTINGS);
        }
        for (name, value) in &self.settings {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        // This file is read last, so it wins over what `initdb` wrote.
        fs::write(data.join("postgresql.auto.conf"), text).context("writing the server's settings")
    }
}

/// Names of the server's copies in its data folder.
const TLS_SETTINGS: &str = "ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n\
                            ssl_ca_file = 'roots.pem'\n";

impl Tls {
    fn copy(&self, data: &Path, user: Option<&User>) -> Result<()> {
        let files = [
            (&self.files.certificate, "server.pem"),
            (&self.files.key, "server.key"),
            (&self.roots, "roots.pem"),
        ];
        for (from, name) in files {
            let to = data.join(name);
            fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
            // A key that others can read is refused by the server.
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600))?;
            if let Some(user) = user {
                chown(&to, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
        }
        Ok(())
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
