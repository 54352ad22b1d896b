//! Wires the parts together and owns the order of starting and stopping.
//!
//! Start: lock on the cgroup, log, programs (from here on connects are held, not lost), threads, the agent's own namespace,
//! `READY`. Stop: no more accepting, sessions are told, workers end, last record. Hooks stay: without an agent they refuse, or
//! let pass, as configured; `pgward detach` removes them. A start that fails before `READY` takes back the hooks that it made.

mod clock;
mod control;
mod coverage;
pub mod doctor;
mod events;
mod kill;
pub mod notify;
mod policing;
#[cfg(feature = "unaudited")]
mod unaudited;

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pgward_common::{ABI_VERSION, Settings, on_agent_down};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc},
};
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use crate::{
    attrib::{AttribSettings, Resolver, ResolverError},
    audit::{
        AgentStart, AgentStop, ConfigLoad, Encoded, Namespace, NamespaceChange, NotRecorded, Now,
        Reach, Record, SessionIds, Sink, Stamp, Tier, Trail, TrailError,
        keep::{self, Care, CareError, Timer},
        ledger::{self, Ledger, LedgerRecord, Pins},
        set_clock_state,
        store::Finished,
    },
    bpf::{
        self, AttachError, Cgroup, LoadError, Loaded, MapError, PinFolder, Requirement, Undo, sys,
    },
    config::{self, Config, OnAgentDown, Want},
    control::{BindError, Listener},
    grants::{self, Grants, GrantsError},
    net::{
        accept::Acceptors,
        cancels::Cancels,
        destinations::{DestinationError, Destinations},
        dial::Dialer,
        error::chain,
        identify::Identifier,
        namespaces::{self, Change, NamespaceError, Namespaces},
        police::{Bell, Watcher},
        recorder::Recording,
        refusals::Refusals,
        registry::Registry,
        throttle::{Bounds, Known, Throttle},
        worker::{Context, Stop, Workers},
        writers::Writers,
    },
    pg::Limits,
    policy::Policy,
};

/// Sessions get this long to hear that the agent stops.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Why the agent does not run.
#[derive(Debug, Error)]
pub enum AppError {
    /// The attach point.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The programs.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A map of the programs.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The audit trail.
    #[error(transparent)]
    Trail(#[from] TrailError),
    /// What takes care of it.
    #[error(transparent)]
    Care(#[from] CareError),
    /// Roles that are granted for a while.
    #[error(transparent)]
    Grants(#[from] GrantsError),
    /// The policy.
    #[error("the policy is not valid\n{0}")]
    Policy(#[from] config::Report),
    /// The first record.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// The namespace thread.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// What the destinations name.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// Process facts.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] BindError),
    /// A build that records no statement, started by somebody who does not say that he knows.
    #[cfg(feature = "unaudited")]
    #[error(transparent)]
    Unaudited(#[from] unaudited::Unasked),
    /// Anything else the system refused.
    #[error("{what} failed")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> AppError {
    move |source| AppError::System { what, source }
}

/// Hears of finished segments.
type OnFinished = Box<dyn Fn(u64, &Finished) + Send + Sync>;

/// Runs the agent until a signal stops it. `file` is the configuration's text as it was read.
pub fn run(config: &Config, file: &[u8]) -> Result<(), AppError> {
    #[cfg(feature = "unaudited")]
    unaudited::check()?;
    raise_file_limit();
    let subtree = match &config.bpf.cgroup {
        config::Cgroup::Root => None,
        config::Cgroup::Subtree(path) => Some(path.as_path()),
    };
    let cgroup = Cgroup::open(subtree)?;
    let pins = PinFolder::create(&config.bpf.pin_path)?;
    let destinations = Arc::new(Destinations::load(config)?);
    let resolver = Resolver::new(AttribSettings {
        extra_state_roots: config.attribution.container_state_roots.clone(),
        ..AttribSettings::default()
    })?;
    for gap in resolver.gaps() {
        warn!(%gap, "identities will have gaps");
    }
    let identifier = Identifier::start(resolver).map_err(system("starting a thread"))?;

    let found = if pins.attached_to().is_some() { Pins::Attached } else { Pins::None };
    let loaded = bpf::load(&bpf::Options {
        cgroup: &cgroup,
        pins: &pins,
        settings: settings(config),
        targets: &targets(config),
        tx_timestamp: requirement(config.bpf.tx_timestamp),
        sendmsg_tracepoint: requirement(config.bpf.sendmsg_tracepoint),
    })?;
    let Loaded { maps, events, writer_events, links, tier, log: program_log, alive, undo } = loaded;
    info!(tier = tier.name(), cgroup = %cgroup.path().display(), "programs attached");
    let maps = Arc::new(maps);
    let namespace_settings = namespaces::Settings {
        port: config.listen.port.get(),
        idle: config.netns.idle,
        hold: config.netns.hold,
    };
    let (namespaces, changes) = Namespaces::start(maps.clone(), namespace_settings)?;
    let dialer = Dialer::new(maps.clone(), namespaces.clone());
    let reach = Reach { destinations: &destinations, dialer: Some(dialer.clone()) };
    let policy = config.policy.file.as_deref().map(Policy::load).transpose()?.map(Arc::new);
    let trail = Arc::new(Trail::open(&config.audit, &reach, indexer(&config.audit))?);
    let sink = trail.sink();
    record_start(&trail, config, file, policy.as_deref(), &cgroup, tier)?;
    let care = Arc::new(Care::open(trail.clone(), &config.audit)?);
    let care_timer = Timer::start(care.clone()).map_err(system("starting a thread"))?;

    let grants = Grants::open(trail.clone(), &config.grants)?;
    let grants_timer = grants::Timer::start(grants.clone())?;

    let boot_id = boot_id();
    let emit = ledger_emit(sink.clone());
    let _clock = clock::start(&boot_id, emit.clone()).map_err(system("watching the clock"))?;
    if let Some(gone) = ledger::at_start(trail.last_hooks(), found, &boot_id) {
        warn!(action = gone.action.name(), "the hooks were gone");
        emit(LedgerRecord::Hooks(gone));
    }
    let shown_at = shown_cgroup(config, &cgroup);
    let attached = events::Attached::new(links, pins, shown_at, emit.clone());
    let ledger = Ledger::new();
    let keeper = coverage::Keeper::start(maps.clone(), ledger.clone(), trail.previous(), emit)?;
    keeper.watch().map_err(system("starting a thread"))?;
    // Only now: what was handed over before the ledger's first look was handed over to agents before.
    namespaces.open(namespaces.own_cookie(), std::process::id(), std::process::id());

    let refusals = Refusals::new(sink.clone());
    let clerk = events::Clerk {
        identifier: identifier.clone(),
        refusals: refusals.clone(),
        sink: sink.clone(),
    };
    events::start(events, program_log, attached, maps.clone(), namespaces.clone(), clerk)
        .map_err(system("starting a thread"))?;

    let registry = Arc::<Registry>::default();
    let stop = Arc::<Stop>::default();
    let writers = match tier {
        bpf::Tier::T0 => Writers::unwatched(),
        bpf::Tier::T1 | bpf::Tier::T2 => Writers::new(writer_events, maps.clone()),
    };
    let policing = policing::start(config, file, policy, &registry, &grants, &sink)
        .map_err(system("starting a thread"))?;
    let ids = Arc::new(SessionIds::new(epoch()));
    let logins = Bounds {
        failures_max: config.auth.failures_max,
        window: config.auth.failures_window,
        refused: config.auth.refused,
    };
    let process_failures = Arc::new(Throttle::new(logins));
    let role_failures = Arc::new(Throttle::new(logins));
    let known_logins = Arc::<Known<_>>::default();
    let guesses = Bounds { failures_max: config.auth.cancel_failures_max, ..logins };
    let guesses = Arc::new(Throttle::new(guesses));
    let cancels = Arc::<Cancels>::default();
    let mut mock_seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *mock_seed)
        .map_err(|error| system("getrandom")(io::Error::other(error.to_string())))?;
    let mock_seed = Arc::new(mock_seed);
    let audit = Arc::new(config.audit.clone());
    let context = || Context {
        recording: Recording {
            sink: trail.sink(),
            audit: audit.clone(),
            keyring: trail.keyring(),
            identifier: identifier.clone(),
            tier: audit_tier(tier),
            seal: Some(trail.seal_soon()),
        },
        dialer: dialer.clone(),
        refusals: refusals.clone(),
        registry: registry.clone(),
        writers: writers.clone(),
        ids: ids.clone(),
        limits: limits(config),
        sessions_max: config.agent.sessions_max,
        startup_timeout: config.agent.startup_timeout,
        destinations: destinations.clone(),
        police: policing.shared.clone(),
        cancels: cancels.clone(),
        process_failures: process_failures.clone(),
        role_failures: role_failures.clone(),
        known_logins: known_logins.clone(),
        guesses: guesses.clone(),
        mock_seed: mock_seed.clone(),
        stop: stop.clone(),
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let contexts = (0..config.agent.worker_count(cpus)).map(|_| context()).collect();
    let (workers, threads) = Workers::start(contexts).map_err(system("starting a worker"))?;

    let shown = control::Shown {
        registry: registry.clone(),
        maps: maps.clone(),
        keeper: keeper.clone(),
        since: Now::read().wall,
        cgroup: shown_cgroup(config, &cgroup),
        tiers: tiers(tier),
        workers: threads.len(),
        directory: config.audit.directory.clone(),
        trail: trail.clone(),
        care,
        grants,
        namespaces: AtomicU64::new(0),
        stop: Notify::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("starting the runtime"))?;
    let reason = runtime.block_on(async {
        let socket = Listener::bind(&config.agent.control_socket)?;
        let most = config.agent.sessions_max;
        let acceptors = Acceptors::new(maps, workers, refusals.clone(), ledger.clone(), most);
        let main = Main {
            acceptors,
            namespaces,
            changes,
            sink: sink.clone(),
            starting: Some(undo),
            shown: &shown,
            policy: policing.watcher.as_ref().map(Watcher::bell),
        };
        tokio::select! {
            reason = main.until_stopped() => reason,
            () = crate::control::serve(&socket, &shown) => Ok("control socket ended"),
        }
    })?;
    info!(reason, "stopping");
    drop(alive); // from here on the kernel refuses, or lets pass, as configured
    ledger.stop();
    stop.ring();
    drop(runtime);
    drop(policing);
    join(threads);
    refusals.flush_all();
    if let Err(error) = keeper.stop() {
        warn!(%error, "the last account of connects could not be made");
    }
    if let Err(error) = care_timer.stop() {
        warn!(error = %chain(&error), "break-glass was not recorded as over");
    }
    drop(grants_timer);
    let last = AgentStop { reason, sessions: registry.total(), statements: registry.statements() };
    if let Err(error) = sink.record_closing(&Stamp::agent(Now::read()), &last) {
        warn!(%error, "the last record could not be made");
    }
    drop(sink);
    if let Err(error) = trail.close() {
        error!(%error, "the audit trail did not end in good order");
    }
    Ok(())
}

/// The main task: namespaces come and go, signals stop it.
struct Main<'a> {
    acceptors: Acceptors,
    namespaces: Namespaces,
    changes: mpsc::Receiver<Change>,
    sink: Sink,
    /// Until the agent listens in its own namespace; a start that does not come so far leaves no new hooks behind.
    starting: Option<Undo>,
    shown: &'a control::Shown,
    /// Has the policy read again.
    policy: Option<Bell>,
}

impl Main<'_> {
    async fn until_stopped(mut self) -> Result<&'static str, AppError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(system("watching a signal"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system("watching a signal"))?;
        let mut hangup = match hangup_is_ignored() {
            true => None,
            false => Some(signal(SignalKind::hangup()).map_err(system("watching a signal"))?),
        };
        let mut grants = self.shown.grants.changes();
        loop {
            tokio::select! {
                Ok(()) = grants.changed() => self.shown.registry.wake_all(),
                change = self.changes.recv() => match change {
                    Some(change) => self.change(change)?,
                    None => return Ok("namespace thread ended"),
                },
                _ = terminate.recv() => break Ok("SIGTERM"),
                _ = interrupt.recv() => break Ok("SIGINT"),
                () = received(hangup.as_mut()) => match &self.policy {
                    Some(bell) => bell.ring(),
                    None => break Ok("SIGHUP"),
                },
                () = self.shown.stop.notified() => break Ok("asked to"),
            }
        }
        .inspect(|_| self.acceptors.close_all())
    }

    /// An error ends the agent: the start failed.
    fn change(&mut self, change: Change) -> Result<(), AppError> {
        let (change, cookie, inode, port, held, detail) = match change {
            Change::Opened {
                cookie,
                inode,
                port,
                listeners,
                sessions,
                held,
                loopback_was_down,
            } => {
                if let Err(source) = self.acceptors.open(cookie, listeners, &sessions) {
                    self.namespaces.give_up(cookie);
                    let error = NamespaceError::System { call: "epoll_ctl", source };
                    return self.change(Change::Failed { cookie, error });
                }
                info!(cookie, inode, port, loopback_was_down, "listening in a network namespace");
                let detail = loopback_was_down.then(|| "lo was down and was brought up".to_owned());
                (NamespaceChange::Opened, cookie, Some(inode), Some(port), Some(held), detail)
            }
            Change::Failed { cookie, error } => {
                if self.starting.is_some() && cookie == self.namespaces.own_cookie() {
                    return Err(error.into());
                }
                warn!(cookie, error = %chain(&error), "cannot listen in a network namespace");
                (NamespaceChange::Failed, cookie, None, None, None, Some(chain(&error)))
            }
            Change::Closed { cookie, inode } => {
                self.acceptors.close(cookie);
                info!(cookie, inode, "network namespace is empty: listener closed");
                (NamespaceChange::Closed, cookie, Some(inode), None, None, None)
            }
        };
        match change {
            NamespaceChange::Opened => self.shown.namespaces.fetch_add(1, Ordering::Relaxed),
            NamespaceChange::Closed => self.shown.namespaces.fetch_sub(1, Ordering::Relaxed),
            NamespaceChange::Failed => 0,
        };
        let record = Namespace {
            change,
            netns_cookie: cookie,
            inode,
            port,
            held_us: held.map(|h| h.as_micros() as u64),
            actor: None::<&Encoded>,
            detail: detail.as_deref(),
        };
        if let Err(error) = self.sink.record_closing(&Stamp::agent(Now::read()), &record) {
            warn!(%error, "namespace change not recorded");
        }
        if cookie == self.namespaces.own_cookie()
            && change == NamespaceChange::Opened
            && let Some(undo) = self.starting.take()
        {
            undo.keep();
            if let Some(manager) = notify::Manager::of_environment() {
                manager.ready();
            }
            info!("ready");
        }
        Ok(())
    }
}

fn record_start(
    trail: &Trail,
    config: &Config,
    file: &[u8],
    policy: Option<&Policy>,
    cgroup: &Cgroup,
    tier: bpf::Tier,
) -> Result<(), AppError> {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let digest = Sha256::digest(file).into();
    let start = AgentStart {
        version: env!("CARGO_PKG_VERSION"),
        host: &host.to_string_lossy(),
        boot_id: &boot_id(),
        pid: std::process::id(),
        config_sha256: Some(digest),
        tiers: tiers(tier),
        cgroup: &shown_cgroup(config, cgroup),
        memory_locked: trail.memory_locked(),
    };
    let sink = trail.sink();
    // Also with a quota that is used up: without an agent nobody could make room.
    sink.record_closing(&Stamp::agent(Now::read()), &start)?;
    let policy = policy.map(|policy| policy.identity().0);
    let load = ConfigLoad { config_sha256: &digest, policy: policy.as_ref() };
    let put = sink.record_closing(&Stamp::agent(Now::read()), &load)?;
    let _ = sink.durable_blocking(put.ticket)?;
    Ok(())
}

/// What is done with each finished segment of the trail.
fn indexer(audit: &config::Audit) -> OnFinished {
    let directory = audit.directory.clone();
    Box::new(move |epoch, finished| {
        let folder = directory.join(format!("epoch-{epoch}"));
        if let Err(error) = keep::index_finished(&folder, epoch, finished) {
            warn!(error = %chain(&error), first = finished.first, "no search index was made");
        }
    })
}

/// Where the ledger's records go.
fn ledger_emit(sink: Sink) -> coverage::Emit {
    Arc::new(move |record: LedgerRecord| {
        let record = match &record {
            LedgerRecord::Coverage(coverage) => Record::Coverage(coverage),
            LedgerRecord::Hooks(hooks) => Record::Hooks(hooks),
            LedgerRecord::Clock(clock) => {
                set_clock_state(clock.number);
                Record::Clock(clock)
            }
        };
        if let Err(error) = sink.record_closing(&Stamp::agent(Now::read()), record) {
            warn!(%error, event = record.kind().name(), "not recorded");
        }
    })
}

/// Returns when the signal comes; never, where it is not watched.
async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether whoever started the agent had it ignore SIGHUP, as `nohup` does: then that stays so.
fn hangup_is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // SIGHUP is signal 1: the lowest bit.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn shown_cgroup(config: &Config, cgroup: &Cgroup) -> String {
    match &config.bpf.cgroup {
        config::Cgroup::Root => "root".to_owned(),
        config::Cgroup::Subtree(_) => cgroup.path().display().to_string(),
    }
}

fn tiers(best: bpf::Tier) -> &'static [Tier] {
    match best {
        bpf::Tier::T0 => &[Tier::T0],
        bpf::Tier::T1 => &[Tier::T0, Tier::T1],
        bpf::Tier::T2 => &[Tier::T0, Tier::T2],
    }
}

fn settings(config: &Config) -> Settings {
    let hold = config.netns.hold;
    // Linux makes 4 linear and 6 doubling retries by default (`tcp_syn_linear_timeouts`, `tcp_syn_retries`): together about 131
    // times the first timer, so that the last one comes when the hold ends.
    let first_timer = hold / 131;
    let jiffies = first_timer.as_nanos() as u64 * sys::kernel_hz() / 1_000_000_000;
    Settings {
        abi_version: ABI_VERSION,
        on_agent_down: match config.bpf.on_agent_down {
            OnAgentDown::Block => on_agent_down::BLOCK,
            OnAgentDown::Allow => on_agent_down::ALLOW,
        },
        hold_syn_jiffies: jiffies.clamp(2, 1000) as u32,
        listen_port: config.listen.port.get().to_be_bytes(),
        ..Settings::default()
    }
}

fn targets(config: &Config) -> Vec<(u32, pgward_common::TargetKey, u32)> {
    config::targets(&config.intercept)
        .into_iter()
        .map(|t| {
            let address = t.addr.octets();
            let key = pgward_common::TargetKey { port: t.port.get().to_be_bytes(), address };
            let action = match t.verdict {
                config::Verdict::Intercept => pgward_common::action::INTERCEPT,
                config::Verdict::Pass => pgward_common::action::PASS,
            };
            (16 + u32::from(t.prefix), key, action)
        })
        .collect()
}

fn requirement(want: Want) -> Requirement {
    match want {
        Want::BestEffort => Requirement::BestEffort,
        Want::Require => Requirement::Require,
        Want::Off => Requirement::Off,
    }
}

fn audit_tier(tier: bpf::Tier) -> Tier {
    match tier {
        bpf::Tier::T0 => Tier::T0,
        bpf::Tier::T1 => Tier::T1,
        bpf::Tier::T2 => Tier::T2,
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        message_bytes_max: config.limits.message_bytes_max as u32,
        parameter_bytes_max: config.audit.parameter_bytes_max,
        ..Limits::default()
    }
}

/// A number that no other run of the agent has, for session ids. The time and the pid are enough to tell runs apart.
fn epoch() -> u64 {
    let mut hash = Sha256::new();
    hash.update(Now::read().wall.0.to_ne_bytes());
    hash.update(Now::read().boot.0.to_ne_bytes());
    hash.update(std::process::id().to_ne_bytes());
    hash.update(fs::read(Path::new("/proc/sys/kernel/random/uuid")).unwrap_or_default());
    u64::from_ne_bytes(hash.finalize()[..8].try_into().expect("a digest has 32 bytes"))
}

/// Each session takes two descriptors.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "cannot raise the limit on open files");
    }
}

fn join(threads: Vec<std::thread::JoinHandle<()>>) {
    let deadline = std::time::Instant::now() + STOP_LIMIT;
    for thread in threads {
        while !thread.is_finished() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            if thread.join().is_err() {
                error!("a worker ended by a fault of the agent");
            }
        } else {
            warn!("a worker did not end in time");
        }
    }
}
