//! Everything that stands between a client and the server: four pgbouncers and an agent.
//!
//! The agent has a destination for each mode and each server leg; which one a client meets depends on the address that it
//! asks for: 127.0.0.1x relays, 127.0.0.2x terminates, 127.0.0.3x maps; x1 is clear text to the server, x2 TLS.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use pgward_tests::agent::Agent;
use pgward_tests::bpffs::BpfFs;
use pgward_tests::cgroup::Cgroup;
use pgward_tests::host;
use pgward_tests::pki;
use pgward_tests::postgres::SUPERUSER;

use super::super::relay::WORKERS;
use super::super::ways::{Process, spawn};
use super::{Bench, Case, Encryption, Legs, Way};
use crate::leftovers::noted_cgroup;
use crate::setup;

/// The role as mapped clients name it, and what they prove that they know.
const APPLICATION: &str = "application";
const APPLICATION_PASSWORD: &str = "an application's";

/// `listen_addresses` of the server.
pub(super) fn addresses() -> String {
    let mut addresses = "127.0.0.1".to_owned();
    for way in [Way::Relay, Way::Terminate, Way::Mapped] {
        for server in Encryption::ALL {
            let _ = write!(addresses, ",{}", address(way, server));
        }
    }
    addresses
}

fn address(way: Way, server: Encryption) -> String {
    let tens = match way {
        Way::Relay => 10,
        Way::Terminate => 20,
        Way::Mapped => 30,
        Way::Direct | Way::Pooled | Way::Fresh => return "127.0.0.1".to_owned(),
    };
    let last = match server {
        Encryption::Clear => 1,
        Encryption::Tls => 2,
    };
    format!("127.0.0.{}", tens + last)
}

/// How a client takes a way.
pub(super) struct Target<'a> {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: &'a str,
    pub(super) password: &'a str,
    pub(super) encryption: Encryption,
    /// `PGCHANNELBINDING`.
    pub(super) channel_binding: Option<&'static str>,
    /// Where the client runs.
    pub(super) cgroup: &'a Cgroup,
    /// The process in between.
    pub(super) pid: Option<u32>,
    /// What to trust, for clients without libpq.
    pub(super) roots: Option<&'a Path>,
}

/// All of them, running.
pub(super) struct Sites<'a> {
    bench: &'a Bench,
    pgbouncers: Vec<(Way, Encryption, Process, u16)>,
    roots: PathBuf,
    // Dropped in this order: the agent detaches, its pins go, its cgroup goes.
    agent: Agent,
    _bpffs: BpfFs,
    cgroup: Cgroup,
}

impl<'a> Sites<'a> {
    pub(super) fn start(bench: &'a Bench) -> Result<Self> {
        let secrets = Secrets::make(bench)?;
        let mut pgbouncers = Vec::new();
        for way in [Way::Pooled, Way::Fresh] {
            for server in Encryption::ALL {
                let (process, port) = start_pgbouncer(bench, way, server, &secrets)
                    .with_context(|| format!("starting {}", way.name()))?;
                pgbouncers.push((way, server, process, port));
            }
        }
        let cgroup = noted_cgroup("bench", &bench.scratch)?;
        let bpffs = BpfFs::new()?;
        let agent = start_agent(bench, &secrets, &cgroup, &bpffs).context("starting pgward")?;
        let roots = bench.pki.all_roots();
        Ok(Self { bench, pgbouncers, roots, agent, _bpffs: bpffs, cgroup })
    }

    /// How a client takes a way for a case.
    pub(super) fn target(&self, way: Way, case: Case) -> Result<Target<'_>> {
        let legs = match case {
            Case::Login(legs) | Case::Select(legs) | Case::Idle(legs) => legs,
            Case::Handshake(_) => Legs { client: Encryption::Tls, server: Encryption::Clear },
        };
        let (user, password) = match way {
            Way::Mapped => (APPLICATION, APPLICATION_PASSWORD),
            Way::Direct | Way::Pooled | Way::Fresh | Way::Relay | Way::Terminate => {
                (SUPERUSER, self.bench.cluster.password())
            }
        };
        let (port, cgroup, pid) = match way {
            Way::Direct => (self.bench.cluster.port(), &self.bench.cgroup, None),
            Way::Pooled | Way::Fresh => {
                let mut all = self.pgbouncers.iter();
                let found = all.find(|(own, server, ..)| (*own, *server) == (way, legs.server));
                let (.., process, port) = found.context("not started")?;
                (*port, &self.bench.cgroup, Some(process.id()))
            }
            Way::Relay | Way::Terminate | Way::Mapped => {
                (self.bench.cluster.port(), &self.cgroup, Some(self.agent.pid()?))
            }
        };
        // What the client binds itself to can't be passed on from one TLS connection to another.
        let unbound = way == Way::Relay && legs == Legs::TLS;
        Ok(Target {
            host: address(way, legs.server),
            port,
            user,
            password,
            encryption: legs.client,
            channel_binding: unbound.then_some("disable"),
            cgroup,
            pid,
            roots: Some(&self.roots),
        })
    }

    /// Stops them.
    pub(super) fn finish(self) -> Result<()> {
        self.agent.finish()
    }
}

/// Files with what the proxies know.
struct Secrets {
    /// Verifiers of the server's role and of the application; pgbouncer's format is the agent's too.
    verifiers: PathBuf,
    /// Password of the server's role.
    password: PathBuf,
}

impl Secrets {
    fn make(bench: &Bench) -> Result<Self> {
        bench.cluster.sql(
            "postgres",
            &format!(
                "DROP ROLE IF EXISTS {APPLICATION}; CREATE ROLE {APPLICATION} PASSWORD '{}'",
                APPLICATION_PASSWORD.replace('\'', "''")
            ),
        )?;
        let verifiers = bench.cluster.sql(
            "postgres",
            &format!(
                "SELECT format('\"%s\" \"%s\"', rolname, rolpassword) FROM pg_authid \
                 WHERE rolname IN ('{SUPERUSER}', '{APPLICATION}')"
            ),
        )?;
        Ok(Self {
            verifiers: bench.pki.write_secret("verifiers", &verifiers)?,
            password: bench.pki.write_secret("password", bench.cluster.password())?,
        })
    }
}

fn start_agent(bench: &Bench, secrets: &Secrets, cgroup: &Cgroup, bpffs: &BpfFs) -> Result<Agent> {
    let authority = bench.pki.agent_authority();
    let mut builder = Agent::builder()
        .intercept(bench.cluster.port())
        .set("agent", "workers", &WORKERS.to_string())
        .set("log", "level", "\"warn\"")
        .set("tls", "ca_certificate", &quoted(&authority.certificate))
        .set("tls", "ca_key", &quoted(&authority.key));
    let roots = quoted(&bench.pki.roots());
    let verifiers = quoted(&secrets.verifiers);
    for way in [Way::Relay, Way::Terminate, Way::Mapped] {
        for server in Encryption::ALL {
            let address = address(way, server);
            let server = match server {
                Encryption::Clear => "tls = \"disable\"".to_owned(),
                Encryption::Tls => format!("tls = \"verify-full\"\nroots = {roots}"),
            };
            let auth = match way {
                Way::Relay => "mode = \"relay\"".to_owned(),
                Way::Terminate => format!("mode = \"terminate\"\nverifiers = {verifiers}"),
                _ => format!(
                    "mode = \"terminate\"\n[[destination.account]]\nrole = \"{APPLICATION}\"\n\
                     verifier_file = {verifiers}\nlogin = \"{SUPERUSER}\"\npassword_file = {}",
                    quoted(&secrets.password)
                ),
            };
            builder = builder.destination(&format!(
                "name = \"at-{address}\"\nnetworks = [\"{address}\"]\n[destination.server]\n\
                 {server}\n[destination.auth]\n{auth}"
            ));
        }
    }
    builder.start(cgroup, bpffs)
}

fn start_pgbouncer(
    bench: &Bench,
    way: Way,
    server: Encryption,
    secrets: &Secrets,
) -> Result<(Process, u16)> {
    let program = setup::pgbouncer().context("no pgbouncer: cargo xtask setup --for bench")?;
    let port = host::free_port()?;
    let folder =
        tempfile::Builder::new().prefix("pgbouncer-").tempdir_in(bench.scratch.folder())?;
    // The folder of the run goes with all that is in it.
    let folder = folder.keep();
    let good = bench.pki.server(pki::Server::Good);
    let copies = [
        (&secrets.verifiers, "users"),
        (&good.certificate, "certificate.pem"),
        (&good.key, "key.pem"),
        (&bench.pki.roots(), "roots.pem"),
    ];
    for (from, name) in copies {
        fs::copy(from, folder.join(name)).with_context(|| format!("copying {name}"))?;
    }
    let server_tls = match server {
        Encryption::Clear => "disable",
        Encryption::Tls => "verify-full",
    };
    let lifetime = match way {
        Way::Fresh => 0,
        _ => 86400,
    };
    let config = folder.join("pgbouncer.ini");
    let at = folder.display();
    fs::write(
        &config,
        format!(
            "[databases]\npostgres = host=127.0.0.1 port={}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {at}/users\nlogfile = {at}/log\n\
             pool_mode = session\nmax_client_conn = 2000\ndefault_pool_size = 1200\n\
             ignore_startup_parameters = extra_float_digits,options\n\
             client_tls_sslmode = allow\nclient_tls_cert_file = {at}/certificate.pem\n\
             client_tls_key_file = {at}/key.pem\nserver_tls_sslmode = {server_tls}\n\
             server_tls_ca_file = {at}/roots.pem\nserver_idle_timeout = 86400\n\
             server_lifetime = {lifetime}\nlog_connections = 0\nlog_disconnections = 0\n",
            bench.cluster.port()
        ),
    )?;
    // It refuses to run as root: it runs as whoever owns the server.
    let owner = fs::metadata(bench.cluster.socket_folder())?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        chown(&path, Some(owner.uid()), Some(owner.gid()))?;
    }
    chown(&folder, Some(owner.uid()), Some(owner.gid()))?;
    let mut pgbouncer = Command::new(program);
    pgbouncer.arg("--quiet").arg(&config).uid(owner.uid()).gid(owner.gid());
    let process = spawn(pgbouncer, port, &bench.cgroup)
        .with_context(|| fs::read_to_string(folder.join("log")).unwrap_or_default())?;
    Ok((process, port))
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}
