//! Answers `pgward sessions`, `status`, `kill`, `grant` and what changes the audit trail.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;
use tracing::warn;

use super::{coverage::Keeper, kill::Killer};
use crate::{
    audit::{
        Now, Tier, Trail, WallNanos,
        keep::{Care, CareError},
        ledger::{Coverage, Named},
    },
    bpf::Maps,
    control::{
        BreakGlass, CLEAR, Caller, Connects, GrantAsked, GrantInfo, GrantState, Handler, Hold,
        HoldInfo, Kill, Killed, Prune, Pruned, SessionInfo, Shred, Status,
    },
    grants::{self, Asked, Grants, GrantsError, Person, Phase},
    net::error::chain,
    net::registry::{CLASSES, Registry, STATES, Shown as Session},
};

/// What the agent shows of itself.
pub(super) struct Shown {
    pub(super) registry: Arc<Registry>,
    pub(super) maps: Arc<Maps>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) since: WallNanos,
    pub(super) cgroup: String,
    pub(super) tiers: &'static [Tier],
    pub(super) workers: usize,
    pub(super) directory: PathBuf,
    pub(super) trail: Arc<Trail>,
    pub(super) care: Arc<Care>,
    pub(super) grants: Arc<Grants>,
    pub(super) namespaces: AtomicU64,
    pub(super) stop: Notify,
}

impl Handler for Shown {
    async fn sessions(&self) -> Vec<SessionInfo> {
        let now = Now::read().wall;
        self.registry.all().iter().map(|session| info(session, now)).collect()
    }

    async fn status(&self) -> Status {
        let counters = self.maps.counters().unwrap_or_else(|error| {
            warn!(%error, "cannot read the kernel side's counters");
            Default::default()
        });
        let connects = self.keeper.coverage().map(connects);
        let connects = connects.inspect_err(|error| warn!(%error, "cannot add up connects")).ok();
        let away = self.registry.turned_away();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: rfc3339(self.since),
            cgroup: self.cgroup.clone(),
            tiers: self.tiers.iter().map(|tier| tier.name().to_owned()).collect(),
            workers: self.workers as u64,
            sessions: self.registry.len() as u64,
            sessions_total: self.registry.total(),
            statements_total: self.registry.statements(),
            logins_failed: away.logins_failed,
            logins_refused: away.logins_refused,
            logins_throttled: away.logins_throttled,
            cancels_dropped: away.cancels_dropped,
            namespaces: self.namespaces.load(Ordering::Relaxed),
            audit_directory: self.directory.display().to_string(),
            audit: self.trail.status(),
            connects,
            counters: counters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    fn shutdown(&self) -> Result<(), String> {
        self.stop.notify_one();
        Ok(())
    }

    async fn audit_read(&self, uid: u32, command: &str, arguments: &str) -> Result<(), String> {
        let (command, arguments) = (command.to_owned(), arguments.to_owned());
        self.take_care(move |care| care.read(uid, &command, &arguments)).await
    }

    async fn audit_prune(&self, uid: u32, prune: Prune) -> Result<Pruned, String> {
        self.take_care(move |care| care.prune(uid, prune)).await
    }

    async fn audit_shred(&self, uid: u32, shred: &Shred) -> Result<u64, String> {
        let shred = shred.clone();
        self.take_care(move |care| care.shred(uid, &shred)).await
    }

    async fn audit_hold(&self, uid: u32, hold: &Hold) -> Result<(), String> {
        let hold = hold.clone();
        self.take_care(move |care| care.hold(uid, &hold)).await
    }

    async fn audit_holds(&self) -> Result<Vec<HoldInfo>, String> {
        self.take_care(Care::holds).await
    }

    async fn audit_break_glass(&self, uid: u32, asked: &BreakGlass) -> Result<String, String> {
        let asked = asked.clone();
        self.take_care(move |care| care.break_glass(uid, &asked)).await.map(rfc3339)
    }

    async fn kill(&self, uid: u32, kill: &Kill) -> Result<Killed, String> {
        let killer = Killer { registry: &self.registry, sink: self.trail.sink() };
        killer.kill(uid, kill).await.map_err(|error| chain(&error))
    }

    async fn grant(&self, by: Caller, asked: &GrantAsked) -> Result<GrantInfo, String> {
        let asked = asked.clone();
        self.about_grants(move |grants| {
            grants.ask(
                person(by),
                &Asked {
                    to: &asked.to,
                    role: &asked.role,
                    minutes: asked.minutes,
                    reason: &asked.reason,
                    approver: asked.approver.as_deref(),
                    request: asked.request,
                },
            )
        })
        .await
    }

    async fn grant_approve(&self, by: Caller, id: &str) -> Result<GrantInfo, String> {
        let id = id.to_owned();
        self.about_grants(move |grants| grants.approve(person(by), &id)).await
    }

    async fn grant_revoke(&self, by: Caller, id: &str, reason: &str) -> Result<GrantInfo, String> {
        let (id, reason) = (id.to_owned(), reason.to_owned());
        self.about_grants(move |grants| grants.revoke(person(by), &id, &reason)).await
    }

    async fn grants(&self) -> Vec<GrantInfo> {
        self.grants.all().iter().map(|grant| grant_info(grant, Now::read())).collect()
    }
}

impl Shown {
    /// What waits for the disk is done by a thread of its own.
    async fn take_care<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Care) -> Result<T, CareError> + Send + 'static,
    ) -> Result<T, String> {
        let care = self.care.clone();
        let done = tokio::task::spawn_blocking(move || act(&care)).await;
        done.map_err(|_| "a fault of the agent".to_owned())?.map_err(|error| chain(&error))
    }

    /// The same.
    async fn about_grants(
        &self,
        act: impl FnOnce(&Grants) -> Result<grants::Entry, GrantsError> + Send + 'static,
    ) -> Result<GrantInfo, String> {
        let grants = self.grants.clone();
        let done = tokio::task::spawn_blocking(move || act(&grants)).await;
        let done = done.map_err(|_| "a fault of the agent".to_owned())?;
        done.map(|entry| grant_info(&entry, Now::read())).map_err(|error| chain(&error))
    }
}

fn person(caller: Caller) -> Person {
    Person { uid: caller.uid, login: caller.login }
}

fn grant_info(grant: &grants::Entry, now: Now) -> GrantInfo {
    GrantInfo {
        id: grant.id.to_string(),
        state: match grant.phase {
            Phase::Requested => GrantState::Requested,
            Phase::Active(_) => GrantState::Active,
            Phase::Revoked { .. } => GrantState::Ended,
        },
        to: grant.to.to_string(),
        role: grant.role.to_string(),
        minutes: grant.minutes,
        reason: grant.reason.to_string(),
        by: grant.by.user(),
        asked: rfc3339(WallNanos(grant.asked_ns)),
        approver: grant.approver.as_deref().map(str::to_owned),
        until: grant.until().map(rfc3339),
        left_s: grant.left(now).as_secs(),
    }
}

fn connects(coverage: Coverage) -> Connects {
    let by_name = |column: Vec<Named>| {
        column.into_iter().map(|Named { name, count }| (name.into_owned(), count)).collect()
    };
    Connects {
        ledger: format!("{:016x}", coverage.ledger),
        seen: coverage.seen,
        intercepted: coverage.intercepted,
        refused: coverage.refused,
        failed: coverage.failed,
        allowed: coverage.allowed,
        open: coverage.open,
        unexplained: coverage.unexplained,
        refusals: by_name(coverage.refusals),
        failures: by_name(coverage.failures),
    }
}

/// What is shown of a session.
pub(super) fn info(session: &Session, now: WallNanos) -> SessionInfo {
    let leg = |tls: Option<&str>| tls.unwrap_or(CLEAR).to_owned();
    let brief = session.who.get().map(|who| &who.brief);
    let startup = session.startup.get();
    let state = usize::from(session.state.load(Ordering::Relaxed));
    let class = usize::from(session.class.load(Ordering::Relaxed));
    // In milliseconds. Clocks may have been set back since.
    let age = |since: u64| now.0.saturating_sub(since) / 1_000_000;
    let transaction = session.transaction_since.load(Ordering::Relaxed);
    let transaction = Some(transaction).filter(|since| *since > 0);
    SessionInfo {
        id: session.id.to_string(),
        pid: brief.map_or(0, |b| b.pid),
        exe: brief.and_then(|b| b.exe.clone()),
        uid: brief.map_or(0, |b| b.uid),
        container: brief.and_then(|b| b.container.clone()),
        destination: session.destination.to_string(),
        destination_name: session.destination_name.to_string(),
        netns_cookie: session.netns_cookie,
        database: startup.map(|s| s.database.clone()).unwrap_or_default(),
        database_user: startup.map(|s| s.user.clone()).unwrap_or_default(),
        application_name: startup.map(|s| s.application_name.clone()).unwrap_or_default(),
        client_leg: startup.map(|s| leg(s.client_tls.as_deref())),
        server_leg: session.server_tls.get().map(|tls| leg(tls.as_deref())),
        handshake: session.handshake.get().map(|kind| kind.name().to_owned()),
        state: STATES.get(state).copied().unwrap_or("unknown").to_owned(),
        since: rfc3339(session.since),
        state_ms: age(session.state_since.load(Ordering::Relaxed)),
        transaction_since: transaction.map(|since| rfc3339(WallNanos(since))),
        transaction_ms: transaction.map(age),
        last_class: CLASSES.get(class).copied().unwrap_or("unknown").to_owned(),
        denials: session.denials.load(Ordering::Relaxed),
        statements: session.statements.load(Ordering::Relaxed),
        rows: session.rows.load(Ordering::Relaxed),
        client_bytes: session.client_bytes.load(Ordering::Relaxed),
        server_bytes: session.server_bytes.load(Ordering::Relaxed),
        tier: session.tier.name().to_owned(),
    }
}

fn rfc3339(time: WallNanos) -> String {
    String::from_utf8_lossy(&time.rfc3339()).into_owned()
}
