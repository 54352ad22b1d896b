//! The four ways from a client to the server, each with its process.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use pgward_tests::agent::Agent;
use pgward_tests::bpffs::BpfFs;
use pgward_tests::cgroup::Cgroup;
use pgward_tests::host;
use pgward_tests::wait::{self, PATIENCE};

use super::relay::WORKERS;
use super::{Bench, Outcome};
use crate::leftovers::noted_cgroup;
use crate::setup;

/// A way from a client to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// The client connects to the server.
    Direct,
    /// A relay that copies bytes.
    Relay,
    /// Debian's pgbouncer with session pooling.
    Pgbouncer,
    /// The client connects to the server and is intercepted.
    Pgward,
}

impl Way {
    /// In the order of the tables.
    pub(super) const ALL: [Way; 4] = [Way::Direct, Way::Relay, Way::Pgbouncer, Way::Pgward];

    /// Those with a process in between.
    pub(super) const PROXIES: [Way; 3] = [Way::Relay, Way::Pgbouncer, Way::Pgward];

    /// Name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Direct => "direct",
            Way::Relay => "relay",
            Way::Pgbouncer => "pgbouncer",
            Way::Pgward => "pgward",
        }
    }
}

/// How a client takes a way.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    /// Port of `127.0.0.1` to connect to.
    pub(super) port: u16,
    /// Cgroup for the client to run in.
    pub(super) cgroup: Option<&'a Cgroup>,
    /// Process in between.
    pub(super) pid: Option<u32>,
}

/// Ways that are open, in the order in which they take turns.
pub(super) struct Ways<'a> {
    bench: &'a Bench,
    running: Vec<(Way, Running)>,
}

enum Running {
    Direct,
    Process { process: Process, port: u16 },
    // Dropped in this order: the agent detaches, its pins go, its cgroup goes.
    Agent { agent: Box<Agent>, _bpffs: BpfFs, cgroup: Cgroup },
}

impl Running {
    fn finish(self, way: Way, outcome: &mut Outcome) {
        if let Running::Agent { agent, .. } = self
            && let Err(error) = agent.finish()
        {
            outcome.failed(format!("stopping {}", way.name()), &error);
        }
    }
}

/// A proxy; dropping it kills it.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl<'a> Ways<'a> {
    /// Starts what each way needs. One that does not start is noted in `outcome` and left out.
    pub(super) fn start(wanted: &[Way], bench: &'a Bench, outcome: &mut Outcome) -> Self {
        let mut running = Vec::new();
        for way in wanted {
            let started = match way {
                Way::Direct => Ok(Running::Direct),
                Way::Relay => start_relay(bench),
                Way::Pgbouncer => start_pgbouncer(bench),
                Way::Pgward => start_pgward(bench),
            };
            match started {
                Ok(one) => running.push((*way, one)),
                Err(error) => outcome.failed(format!("starting {}", way.name()), &error),
            }
        }
        Self { bench, running }
    }

    /// Ways that are open, in turn.
    pub(super) fn running(&self) -> Vec<Way> {
        self.running.iter().map(|(way, _)| *way).collect()
    }

    /// Turns the order around.
    pub(super) fn reverse(&mut self) {
        self.running.reverse();
    }

    /// Closes a way. What its end leaves behind is noted in `outcome`.
    pub(super) fn stop(&mut self, way: Way, outcome: &mut Outcome) {
        let at = self.running.iter().position(|(other, _)| *other == way);
        if let Some((way, running)) = at.map(|at| self.running.remove(at)) {
            running.finish(way, outcome);
        }
    }

    /// Closes all.
    pub(super) fn finish(self, outcome: &mut Outcome) {
        for (way, running) in self.running {
            running.finish(way, outcome);
        }
    }

    /// How to take an open way.
    pub(super) fn path(&self, way: Way) -> Result<Path<'_>> {
        let found = self.running.iter().find(|(other, _)| *other == way);
        let (_, running) = found.with_context(|| format!("{} is not open", way.name()))?;
        Ok(match running {
            Running::Direct => Path { port: self.bench.cluster.port(), cgroup: None, pid: None },
            Running::Process { process, port } => {
                Path { port: *port, cgroup: None, pid: Some(process.id()) }
            }
            Running::Agent { agent, cgroup, .. } => Path {
                port: self.bench.cluster.port(),
                cgroup: Some(cgroup),
                pid: Some(agent.pid()?),
            },
        })
    }
}

fn start_relay(bench: &Bench) -> Result<Running> {
    let port = host::free_port()?;
    let mut relay = Command::new(std::env::current_exe()?);
    relay.args(["relay", "--listen", &format!("127.0.0.1:{port}")]);
    relay.args(["--to", &format!("127.0.0.1:{}", bench.cluster.port())]);
    let process = spawn(relay, port, &bench.cgroup)?;
    Ok(Running::Process { process, port })
}

fn start_pgbouncer(bench: &Bench) -> Result<Running> {
    let program = setup::pgbouncer().context("no pgbouncer: cargo xtask setup --for bench")?;
    let port = host::free_port()?;
    let folder = bench.scratch.folder().join("pgbouncer");
    fs::create_dir_all(&folder)?;
    // It refuses to run as root: it runs as whoever owns the server.
    let owner = fs::metadata(bench.cluster.socket_folder())?;
    let users = folder.join("users");
    fs::write(&users, "\"postgres\" \"\"\n")?;
    let config = folder.join("pgbouncer.ini");
    fs::write(
        &config,
        format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             logfile = {}\npool_mode = session\nmax_client_conn = 2000\ndefault_pool_size = 1200\n\
             ignore_startup_parameters = extra_float_digits,options\nserver_tls_sslmode = disable\n\
             client_tls_sslmode = disable\nserver_idle_timeout = 86400\nserver_lifetime = 86400\n\
             log_connections = 0\nlog_disconnections = 0\n",
            bench.cluster.port(),
            users.display(),
            folder.join("log").display(),
        ),
    )?;
    for path in [&folder, &users, &config] {
        chown(path, Some(owner.uid()), Some(owner.gid()))?;
    }
    let mut pgbouncer = Command::new(program);
    pgbouncer.arg("--quiet").arg(&config).uid(owner.uid()).gid(owner.gid());
    let process = spawn(pgbouncer, port, &bench.cgroup)
        .with_context(|| fs::read_to_string(folder.join("log")).unwrap_or_default())?;
    Ok(Running::Process { process, port })
}

fn start_pgward(bench: &Bench) -> Result<Running> {
    let cgroup = noted_cgroup("bench", &bench.scratch)?;
    let bpffs = BpfFs::new()?;
    let agent = Agent::builder()
        .intercept(bench.cluster.port())
        .set("agent", "workers", &WORKERS.to_string())
        .set("log", "level", "\"warn\"")
        .start(&cgroup, &bpffs)?;
    Ok(Running::Agent { agent: Box::new(agent), _bpffs: bpffs, cgroup })
}

/// Starts a proxy inside a cgroup and waits until it listens on `port` of `127.0.0.1`.
pub(super) fn spawn(mut command: Command, port: u16, cgroup: &Cgroup) -> Result<Process> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut process = Process(cgroup.spawn_in(command)?);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait::until_true("the proxy to listen", PATIENCE, || {
        if let Some(status) = process.0.try_wait()? {
            bail!("it ended: {status}");
        }
        Ok(TcpStream::connect(address).is_ok())
    })?;
    Ok(process)
}
