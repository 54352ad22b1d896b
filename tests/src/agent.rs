//! The `pgward` binary on a cgroup of its own.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::bpffs::BpfFs;
use crate::cgroup::Cgroup;
use crate::host;
use crate::manager::Keeper;
use crate::netns::NetNs;
use crate::sweep::Secrets;
use crate::trail::{self, Entry, Reader};
use crate::wait::{self, PATIENCE};

/// Environment variable with the path of the binary under test.
pub const BINARY: &str = "PGWARD_BIN";

/// How long a trail may be unreadable while files change places.
const READABLE: Duration = Duration::from_secs(2);

/// Starts the agent with the descriptor at standard input as the one that was kept for it (sd_listen_fds(3)).
const PASS_ON: &str = "exec 3<&0 0</dev/null; \
    export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=pgward-seal; exec \"$0\" \"$@\"";

/// How many records and log lines a failure message shows.
const SHOWN: usize = 15;

/// The destination of tests that are not about the handshake: their servers trust everyone, and those in namespaces have
/// no certificate.
const ANY_SERVER: &str = "name = \"tests\"\nreplication = true\n[destination.server]\ntls = \"prefer\"\n\
                          [destination.auth]\nrequire = \"any\"";

/// What to start; see [`Agent::builder`].
#[derive(Clone, Debug, Default)]
pub struct Builder {
    tables: Vec<(String, Vec<(String, String)>)>,
    ports: Vec<u16>,
    networks: Vec<String>,
    destinations: Vec<String>,
    environment: Vec<(String, String)>,
    audit: Option<PathBuf>,
    binary: Option<PathBuf>,
    keeps: bool,
}

/// The configured agent of one cgroup: configuration, log and pins outlive the process, which may be killed and started
/// again. Dropping it stops the agent, runs `pgward detach`, and panics if a pin, an attached program or a process is
/// left behind, or if a secret that it was told of occurs in what the agent wrote. [`Agent::finish`] does the same and returns the finding as an error.
#[derive(Debug)]
pub struct Agent {
    folder: TempDir,
    cgroup: PathBuf,
    pins: PathBuf,
    control: PathBuf,
    enter: Place,
    environment: Vec<(String, String)>,
    binary: PathBuf,
    secrets: Secrets,
    audit: PathBuf,
    reader: Mutex<Reader>,
    process: Option<Child>,
    finished: bool,
    /// A service manager keeps what it leaves for its next run.
    keeps: bool,
    keeper: Option<Keeper>,
    kept: Option<OwnedFd>,
}

/// Handles needed to start the process in its place again.
#[derive(Debug)]
struct Place {
    procs: PathBuf,
}

impl Agent {
    /// Path of the binary: `PGWARD_BIN`, else `pgward` beside the folder of the running test executable.
    pub fn binary() -> Result<PathBuf> {
        if let Some(path) = std::env::var_os(BINARY) {
            return Ok(path.into());
        }
        let executable = std::env::current_exe()?;
        let folder = executable.parent().context("an executable has a folder")?;
        let folder =
            if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
        Ok(folder.join("pgward"))
    }

    /// An agent that intercepts nothing yet.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Path of the configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("pgward.toml")
    }

    /// Folder of the audit trail.
    pub fn audit_directory(&self) -> &Path {
        &self.audit
    }

    /// Process id; an error when it does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the agent does not run")?.id())
    }

    /// Path of the control socket.
    pub fn control_socket(&self) -> &Path {
        &self.control
    }

    /// Starts the process inside its cgroup, optionally in another network namespace, and waits for `READY=1`.
    pub fn start_process(&mut self, netns: Option<&NetNs>) -> Result<()> {
        if self.process.is_some() {
            bail!("the agent runs already");
        }
        let path = self.folder.path().join("notify");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).context("binding the readiness socket")?;
        socket.set_nonblocking(true)?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("stderr"))?;
        let mut command = match self.kept.take() {
            None => {
                let mut command = Command::new(&self.binary);
                command.stdin(Stdio::null());
                command
            }
            Some(kept) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(PASS_ON).arg(&self.binary).stdin(kept);
                command
            }
        };
        command.arg("run").arg("--config").arg(self.config());
        command.env("NOTIFY_SOCKET", &path).envs(self.environment.iter().cloned());
        command.stdout(log.try_clone()?).stderr(log);
        self.enter.enter(&mut command)?;
        if let Some(netns) = netns {
            netns.enter(&mut command);
        }
        let mut process = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let ready = wait::until_true("READY=1 from the agent", PATIENCE, || {
            if let Some(status) = process.try_wait()? {
                bail!("the agent ended before it was ready: {status}");
            }
            let mut buffer = [0; 4096];
            match socket.recv(&mut buffer) {
                Ok(length) => Ok(buffer[..length].split(|b| *b == b'\n').any(|l| l == b"READY=1")),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(error.into()),
            }
        });
        if let Err(error) = ready {
            let _ = process.kill();
            let _ = process.wait();
            return Err(error.context(self.story()));
        }
        self.process = Some(process);
        self.keeper = if self.keeps { Some(Keeper::start(socket)?) } else { None };
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.end(Signal::SIGTERM)
    }

    /// SIGKILL, and waits for the end: pins and links stay, as after a crash.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.end(Signal::SIGKILL)
    }

    /// Another command of the binary with this agent's configuration: `pgward <arguments> --config <file>`.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--config").arg(self.config());
        Ok(command)
    }

    /// What `pgward status` says became of connects.
    pub fn connects(&self) -> Result<Value> {
        let text = host::run(&mut self.command(&["status", "--json"])?)?;
        let mut status: Value = serde_json::from_str(&text)?;
        Ok(status["connects"].take())
    }

    /// All durable records of the audit trail so far, in order: statements with their outcomes, sessions with their logins.
    ///
    /// Errors: when the trail cannot be read. It is looked at again for a while first: a segment may be packed meanwhile.
    pub fn records(&self) -> Result<Vec<Value>> {
        self.look_at_records(<[Value]>::to_vec)
    }

    /// The same without a copy: a test of thousands of sessions looks at them thousands of times.
    fn look_at_records<T>(&self, look: impl FnOnce(&[Value]) -> T) -> Result<T> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = None;
        let read = wait::until("a trail that can be read", READABLE, || match reader.read() {
            Ok(()) => Ok(Some(())),
            Err(error) => {
                failed = Some(error);
                Ok(None)
            }
        });
        read.map_err(|error| failed.take().unwrap_or(error))?;
        Ok(look(reader.so_far()))
    }

    /// All durable entries of the audit trail so far, as they are: what sequence numbers are checked on.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut failed = None;
        let read = wait::until("a trail that can be read", READABLE, || {
            match trail::entries(&self.audit) {
                Ok(entries) => Ok(Some(entries)),
                Err(error) => {
                    failed = Some(error);
                    Ok(None)
                }
            }
        });
        read.map_err(|error| failed.take().unwrap_or(error))
    }

    /// Waits for a record that `wanted` accepts and returns the first. The error shows the last records and log lines.
    pub fn wait_for(&self, wanted: impl Fn(&Value) -> bool, patience: Duration) -> Result<Value> {
        self.wait_for_all(patience, |records| records.iter().find(|r| wanted(r)).cloned())
    }

    /// Waits until `choose` finds what it wants among all records.
    pub fn wait_for_all<T>(
        &self,
        patience: Duration,
        mut choose: impl FnMut(&[Value]) -> Option<T>,
    ) -> Result<T> {
        wait::until("an audit record", patience, || self.look_at_records(|all| choose(all)))
            .with_context(|| self.story())
    }

    /// The last records and log lines: what a failed test shows.
    pub fn story(&self) -> String {
        let records = match self.records() {
            Ok(records) => {
                let last = &records[records.len().saturating_sub(SHOWN)..];
                last.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
            }
            Err(error) => format!("{error:#}"),
        };
        let stderr = fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default();
        format!("last records:\n{records}\nlast log lines:\n{}", tail(&stderr))
    }

    /// What the process wrote on standard error so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// Secrets that must not occur in anything that the agent writes: looked for when this guard ends.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Where known secrets occur among log, records, and what `status` and `sessions` say: one line each.
    pub fn revealed(&self) -> Result<Vec<String>> {
        if self.secrets.count() == 0 {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        if self.process.is_some() {
            for (command, format) in
                [("status", None), ("sessions", None), ("sessions", Some("--json"))]
            {
                let arguments: Vec<_> = [Some(command), format].into_iter().flatten().collect();
                let output = host::output(&mut self.command(&arguments)?)?;
                let told = [output.stdout, output.stderr].concat();
                found.extend(self.secrets.search(&format!("`pgward {command}`"), &told));
            }
        }
        // Entries are packed sooner or later: then no file shows what is in them.
        // All of them at once: a search begins by making an automaton of all secrets.
        let entries = self.entries()?;
        let parts = |entry: &Entry| [entry.bytes.clone(), entry.values.clone().unwrap_or_default()];
        let all = entries.iter().flat_map(parts).collect::<Vec<_>>().join(&b"\n"[..]);
        if !self.secrets.search("the entries of the audit trail", &all).is_empty() {
            for entry in &entries {
                let place = format!("entry {} of the audit trail", entry.index);
                found.extend(self.secrets.search(&place, &parts(entry).concat()));
            }
        }
        // All files but the configuration, which may hold verifiers.
        for file in files(self.folder.path()).into_iter().filter(|file| *file != self.config()) {
            if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                let text =
                    fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
                found.extend(self.secrets.search(&file.display().to_string(), &text));
            }
        }
        Ok(found)
    }

    /// Stops the agent, detaches, and checks that nothing is left behind.
    pub fn finish(mut self) -> Result<()> {
        self.finished = true;
        self.clean_up()
    }

    fn clean_up(&mut self) -> Result<()> {
        // Of a running agent, and again below for what it writes when it ends.
        let mut faults = if self.process.is_some() { self.revealed()? } else { Vec::new() };
        if self.process.is_some() {
            match self.stop() {
                Ok(status) if status.success() => {}
                Ok(status) => faults.push(format!("the agent ended with {status}")),
                Err(error) => faults.push(format!("{error:#}")),
            }
        }
        match self.command(&["detach"]).and_then(|mut command| host::run(&mut command)) {
            Ok(_) => {}
            Err(error) => faults.push(format!("{error:#}")),
        }
        faults.extend(self.unexplained());
        for fault in self.revealed()? {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        faults.extend(self.gaps()?);
        faults.extend(self.leftovers()?);
        if faults.is_empty() {
            return Ok(());
        }
        Err(anyhow!("{}\n{}", faults.join("\n"), self.story()))
    }

    /// Accounts of connects that did not add up: lines of the log.
    fn unexplained(&self) -> Vec<String> {
        let log = self.stderr();
        let lines = log.lines().filter(|line| line.contains("connects without an explanation"));
        lines.map(str::to_owned).collect()
    }

    /// What is wrong with the sessions of the trail, unless the agent itself says that it lost records.
    fn gaps(&self) -> Result<Option<String>> {
        let entries = self.entries()?;
        if entries.iter().any(|entry| entry.is("events_lost") && entry.fields["lost"] == "records")
        {
            return Ok(None);
        }
        Ok(trail::check_sessions(&entries).err().map(|error| format!("{error:#}")))
    }

    /// What should not exist after `pgward detach`: one line each.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for pin in files(&self.pins) {
            faults.push(format!("left pin: {}", pin.display()));
        }
        // A link that lost its last pin detaches when the kernel gets to it.
        let attached =
            wait::until_true("the programs to be detached", Duration::from_secs(3), || {
                Ok(attached(&self.cgroup)?.is_empty())
            });
        if attached.is_err() {
            faults.push(format!("left programs: {:?}", attached_names(&self.cgroup)));
        }
        if self.control.exists() {
            faults.push(format!("left control socket: {}", self.control.display()));
        }
        Ok(faults)
    }

    /// Another signal, and waits for the end.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        let mut process = self.process.take().context("the agent does not run")?;
        kill(Pid::from_raw(i32::try_from(process.id())?), signal)?;
        let ended = wait::until(&format!("the agent to end on {signal}"), PATIENCE, || {
            Ok(process.try_wait()?)
        });
        if ended.is_err() {
            let _ = process.kill();
            let _ = process.wait();
        }
        self.kept = self.keeper.take().and_then(Keeper::end);
        ended.with_context(|| self.story())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if std::thread::panicking() {
            eprintln!("{}", self.story());
        }
        if let Err(error) = self.clean_up() {
            assert!(std::thread::panicking(), "left behind: {error:#}");
            eprintln!("left behind: {error:#}");
        }
    }
}

impl Builder {
    /// Intercepts this destination port.
    #[must_use]
    pub fn intercept(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// Intercepts only in this network (CIDR); all when never called.
    #[must_use]
    pub fn network(mut self, network: &str) -> Self {
        self.networks.push(network.to_owned());
        self
    }

    /// Sets `key` in a table of the configuration; `value` is TOML, so texts need their quotes.
    #[must_use]
    pub fn set(mut self, table: &str, key: &str, value: &str) -> Self {
        self.put(table, key, value.to_owned());
        self
    }

    /// Settings of some servers: the content of a `[[destination]]` table, TOML, in the order of calls. Without any, every
    /// server is reached with TLS where it has it, may ask for whatever it wants, and lets replication in.
    #[must_use]
    pub fn destination(mut self, text: &str) -> Self {
        self.destinations.push(text.to_owned());
        self
    }

    /// Folder of the audit trail, where that is not to be in the agent's own.
    #[must_use]
    pub fn trail(mut self, folder: PathBuf) -> Self {
        self.audit = Some(folder);
        self
    }

    /// Has a service manager keep what the agent leaves for its next run.
    #[must_use]
    pub fn manager(mut self) -> Self {
        self.keeps = true;
        self
    }

    /// An environment variable of the agent.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another binary than [`Agent::binary`].
    #[must_use]
    pub fn binary(mut self, path: PathBuf) -> Self {
        self.binary = Some(path);
        self
    }

    /// Writes the configuration, starts the agent on `cgroup` (itself a member) with its pins in `bpffs`.
    pub fn start(self, cgroup: &Cgroup, bpffs: &BpfFs) -> Result<Agent> {
        let mut agent = self.prepare(cgroup, bpffs)?;
        match agent.start_process(None) {
            Ok(()) => Ok(agent),
            Err(error) => {
                agent.finished = true;
                let _ = agent.clean_up();
                Err(error)
            }
        }
    }

    /// Writes the configuration only.
    pub fn prepare(mut self, cgroup: &Cgroup, bpffs: &BpfFs) -> Result<Agent> {
        let folder = tempfile::Builder::new().prefix("pgward-agent-").tempdir()?;
        let control = folder.path().join("control");
        let pins = bpffs.path().join("pgward");
        let audit = self.audit.take().unwrap_or_else(|| folder.path().join("audit"));
        let given = std::mem::take(&mut self.tables);
        self.put("agent", "control_socket", quoted(&control));
        self.put("agent", "workers", "2".to_owned());
        self.put("bpf", "cgroup", quoted(cgroup.path()));
        self.put("bpf", "pin_path", quoted(&pins));
        self.put("listen", "port", host::free_port()?.to_string());
        self.put("audit", "directory", quoted(&audit));
        self.put("audit", "values", "\"clear\"".to_owned());
        // Tests are many at a time, and each is to finish a few segments.
        self.put("audit", "segment_bytes", (4_u64 << 20).to_string());
        self.put("audit", "reserve_bytes", (1_u64 << 20).to_string());
        self.put("log", "level", "\"debug\"".to_owned());
        self.put("log", "format", "\"json\"".to_owned());
        for (table, entries) in given {
            for (key, value) in entries {
                self.put(&table, &key, value);
            }
        }
        fs::write(folder.path().join("pgward.toml"), self.text())?;
        Ok(Agent {
            cgroup: cgroup.path().to_owned(),
            pins,
            control,
            enter: Place { procs: cgroup.path().join("cgroup.procs") },
            environment: self.environment,
            binary: self.binary.map_or_else(Agent::binary, Ok)?,
            secrets: Secrets::default(),
            reader: Mutex::new(Reader::new(audit.clone())),
            audit,
            process: None,
            finished: false,
            keeps: self.keeps,
            keeper: None,
            kept: None,
            folder,
        })
    }

    fn put(&mut self, table: &str, key: &str, value: String) {
        let at = self.tables.iter().position(|(name, _)| name == table).unwrap_or_else(|| {
            self.tables.push((table.to_owned(), Vec::new()));
            self.tables.len() - 1
        });
        let entries = &mut self.tables[at].1;
        entries.retain(|(name, _)| name != key);
        entries.push((key.to_owned(), value));
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (table, entries) in &self.tables {
            text.push_str(&format!("[{table}]\n"));
            for (key, value) in entries {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        if !self.ports.is_empty() {
            text.push_str(&format!("[[intercept]]\nports = {:?}\n", self.ports));
            if !self.networks.is_empty() {
                text.push_str(&format!("networks = {:?}\n", self.networks));
            }
        }
        let any = [ANY_SERVER.to_owned()];
        let destinations =
            if self.destinations.is_empty() { &any[..] } else { &self.destinations[..] };
        for destination in destinations {
            text.push_str(&format!("[[destination]]\n{destination}\n"));
        }
        text
    }
}

impl Place {
    fn enter(&self, command: &mut Command) -> Result<()> {
        let procs = fs::OpenOptions::new().write(true).open(&self.procs)?;
        crate::kernel::before_exec(command, move || {
            nix::unistd::write(&procs, b"0")?;
            Ok(())
        });
        Ok(())
    }
}

fn attached(cgroup: &Path) -> Result<Vec<(&'static str, u32)>> {
    crate::cgroup::attached_programs(cgroup)
}

fn attached_names(cgroup: &Path) -> Vec<&'static str> {
    attached(cgroup).unwrap_or_default().into_iter().map(|(name, _)| name).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
