//! The first command of the README: shows pgward at work on a host that has nothing of it, and leaves nothing behind.
//!
//! Shown are the handshake, from clear text to channel binding on both legs and to a login that is refused, and who asked
//! what from which process, namespace and container.
//!
//! Everything that is made belongs to a guard that removes it: a server, two cgroups, two network namespaces with their
//! cables, a mount of the BPF file system, the agent. They go in the opposite order, at the end and at Ctrl-C. A run that
//! is killed is cleaned up after by the next one, from its journal.

mod clients;
mod database;
mod logins;
mod verify;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use pgward_tests::agent::Agent;
use pgward_tests::bpffs::BpfFs;
use pgward_tests::cgroup::Cgroup;
use pgward_tests::netns::{Cable, Loopback, NetNs};
use pgward_tests::wait::PATIENCE;
use pgward_tests::{host, pki};

use self::clients::Places;
use self::database::{Database, SHOP};
use self::logins::Login;
use self::verify::Traces;
use crate::ebpf::{self, WhenMissing};
use crate::interrupt::Interrupt;
use crate::leftovers::{self, noted_cgroup, shelter};
use crate::run::{cargo, run, say};
use crate::scratch::Scratch;
use crate::setup::{self, Purpose};

/// What the table shows of the audit trail: what fits a usual terminal.
const COLUMNS: &str = "session,pid,uid,exe,container,statement,rows";

/// Characters of its lines where there is no terminal.
const WIDTH: &str = "160";

/// Whether the demo ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtTheEnd {
    /// Put everything away.
    PutAway,
    /// Keep it running until Ctrl-C.
    Keep,
}

/// Installs what is missing, builds, and shows the agent at work.
pub(crate) fn demo(at_the_end: AtTheEnd) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "not root: programs are attached to a cgroup and namespaces are made; run it with sudo"
        );
    }
    setup::setup(Purpose::Demo)?;
    ebpf::build(WhenMissing::Fail)?;
    say("building the agent without optimisation: quicker to build, and the demo measures nothing");
    run(cargo().args(["build", "--package", "pgward"]))?;

    let interrupt = Interrupt::install()?;
    let scratch = Scratch::new("demo", leftovers::clean)?;
    let mut traces = Traces::new(scratch.folder());
    let shown = Stage::set(&scratch, &mut traces, &interrupt)
        .and_then(|stage| stage.play(at_the_end, &mut traces, &interrupt));
    drop(scratch);
    let left = verify::report(&traces);
    if interrupt.seen() && at_the_end == AtTheEnd::PutAway {
        // What an interrupted step says is of no interest.
        left?;
        bail!("interrupted");
    }
    shown.and(left)
}

/// Everything the demo needs. Fields are dropped from the first to the last.
struct Stage {
    agent: Agent,
    _bpffs: BpfFs,
    database: Database,
    netns: (NetNs, Cable),
    container: (NetNs, Cable),
    cgroup: Cgroup,
    _server_cgroup: Cgroup,
    state_root: PathBuf,
    authority: PathBuf,
}

impl Stage {
    fn set(scratch: &Scratch, traces: &mut Traces, interrupt: &Interrupt) -> Result<Self> {
        let cgroup = noted_cgroup("demo", scratch)?;
        let server_cgroup = noted_cgroup("demo-server", scratch)?;
        traces.cgroups([&cgroup, &server_cgroup]);
        let netns = wired()?;
        let container = wired()?;
        traces.addresses([netns.1.outside, container.1.outside]);

        interrupt.check()?;
        say("starting a throw-away PostgreSQL: TLS alone, SCRAM-SHA-256");
        let listen = format!("127.0.0.1,{},{}", netns.1.outside, container.1.outside);
        let database = Database::start(&listen)?;
        traces.process("postgres", database.cluster.pid());
        shelter(&database.cluster, &server_cgroup)?;

        interrupt.check()?;
        let bpffs = BpfFs::new()?;
        let state_root = scratch.folder().join("containers");
        say(format_args!(
            "starting pgward on {}, port {}",
            cgroup.path().display(),
            database.cluster.port()
        ));
        let authority = scratch.folder().join("ca.pem");
        let agent = Agent::builder().set("log", "level", "\"info\"").set(
            "attribution",
            "container_state_roots",
            &format!("[{state_root:?}]"),
        );
        let mut agent = database.configure(agent, &authority)?.prepare(&cgroup, &bpffs)?;
        let started = database::make_authority(&agent).and_then(|()| agent.start_process(None));
        if let Err(error) = started {
            // What it says of an agent that never ran is of no interest.
            let _ = agent.finish();
            return Err(error);
        }
        database.watch(&agent);
        traces.process("pgward", agent.pid()?);
        Ok(Self {
            agent,
            _bpffs: bpffs,
            database,
            netns,
            container,
            cgroup,
            _server_cgroup: server_cgroup,
            state_root,
            authority,
        })
    }

    /// Runs the clients, prints who asked what, and puts everything away.
    fn play(self, at_the_end: AtTheEnd, traces: &mut Traces, interrupt: &Interrupt) -> Result<()> {
        let mut shown = self.show(interrupt);
        if shown.is_ok() && at_the_end == AtTheEnd::Keep {
            self.explain();
            interrupt.wait();
            shown = self.table();
        }
        // Stops the agent, detaches, and looks for pins and attached programs that are left.
        let put_away = self.agent.finish();
        if put_away.is_ok() {
            // It also searched all that the agent wrote for the secrets of the run.
            traces.detached();
        }
        shown.and(put_away)
    }

    fn show(&self, interrupt: &Interrupt) -> Result<()> {
        let places = Places {
            cgroup: &self.cgroup,
            netns: (&self.netns.0, &self.netns.1),
            container: (&self.container.0, &self.container.1),
            state_root: &self.state_root,
            authority: &self.authority,
        };
        let logins = clients::run(&self.database, &places, interrupt)?;
        self.wait_for_records(&logins)?;
        interrupt.check()?;
        self.table()?;
        logins::compare(&self.agent.records()?, &logins)?;
        let status = host::run(&mut self.agent.command(&["status", "--json"])?)?;
        logins::compare_counters(&serde_json::from_str(&status)?, &logins)
    }

    /// Waits until all sessions are on record, with their ends.
    fn wait_for_records(&self, logins: &[Login]) -> Result<()> {
        let sessions = logins.len();
        self.agent
            .wait_for_all(PATIENCE, |records| {
                let count =
                    |event: &str| records.iter().filter(|record| record["event"] == event).count();
                let (started, ended) = (count("session_start"), count("session_end"));
                (started >= sessions && ended == started).then_some(())
            })
            .with_context(|| format!("the audit trail does not show the {sessions} sessions"))
    }

    /// Prints who asked what, from the audit trail.
    fn table(&self) -> Result<()> {
        println!("\nWho asked what, from the audit trail:\n");
        let mut log = self.agent.command(&["audit", "tail", "--columns", COLUMNS])?;
        if !std::io::stdout().is_terminal() {
            log.args(["--width", WIDTH]);
        }
        run(&mut log)
    }

    fn explain(&self) {
        let cluster = &self.database.cluster;
        let (cgroup, port) = (self.cgroup.path().display(), cluster.port());
        let psql = cluster.programs().join("psql");
        println!(
            "\nIt goes on until Ctrl-C. To connect from a process that is intercepted, as root:\n\n  \
             sh -c 'echo $$ > {cgroup}/cgroup.procs; PGPASSWORD={} exec {} \
             \"host={} hostaddr=127.0.0.1 port={port} user={SHOP} dbname=postgres sslmode=verify-full \
             sslrootcert={}\"'\n\nThe audit trail: {}\nThe configuration: {}",
            self.database.passwords.shop,
            psql.display(),
            pki::HOST,
            self.authority.display(),
            self.agent.audit_directory().display(),
            self.agent.config().display()
        );
    }
}

/// A network namespace with loopback and a cable to the host.
fn wired() -> Result<(NetNs, Cable)> {
    let mut netns = NetNs::new(Loopback::Up)?;
    let cable = netns.connect_to_host()?;
    Ok((netns, cable))
}
