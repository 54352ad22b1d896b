//! Samples with nothing that a record can do without.

use super::{Sample, Samples, authentication, done, identity, session_start, what};
use crate::audit::clock::{Cause, Clock};
use crate::audit::ledger::{Coverage, Hooks, HooksAction};
use crate::audit::*;

/// Samples of every kind with nothing that they can do without.
pub(crate) fn minimal() -> Vec<Sample> {
    let mut samples = Samples::default();
    let actor = identity(7);
    let bare = What { text: Text::default(), ..what(b"") };
    let (root, next, signature) = ([1; 32], [2; 32], [3; 64]);
    let destination = "10.0.0.5:5432".parse().expect("an address");
    samples.of_session(&session_start(&actor));
    samples.of_session(&authentication());
    samples.of_session(&Writer { actor: &actor, tier: Tier::T0 });
    samples.of_session(&SessionMark { entries: 1, digest: [0; 32] });
    samples.of_agent(&Cancel {
        actor: &actor,
        destination,
        target_pid: 0,
        target_session: None,
        outcome: CancelOutcome::Refused,
        connect: None,
    });
    samples.of_session(&SessionEnd {
        reason: EndReason::ClientClosed,
        detail: None,
        sqlstate: None,
        statements: 0,
        client_bytes: 0,
        server_bytes: 0,
        duration_us: 0,
        entries: 1,
        digest: [0; 32],
    });
    samples.of_session(&Introduced {
        kind: StatementKind::Parse,
        text: Text::default(),
        text_state: TextState::Exact,
        client_encoding: None,
        name: b"",
        beside: None,
    });
    samples.of_session(&Intent { judged: None, what: bare });
    samples.of_session(&LimitReached {
        decision: Decided::Deny,
        rules: &["first"],
        reason: "statement_rows",
        detail: "statement_rows = 10",
    });
    samples.of_session(&Denied {
        what: bare,
        sqlstate: *b"42501",
        reason: "",
        rules: &[],
        policy: None,
    });
    samples.of_session(&Done {
        tag: b"",
        first_response_us: None,
        transaction: None,
        ..done(Of::Intent(0, None))
    });
    samples.of_session(&Done {
        tag: b"",
        first_response_us: None,
        transaction: None,
        ..done(Of::Message(&bare))
    });
    samples.of_agent(&AgentStart {
        version: "",
        host: "",
        boot_id: "",
        pid: 0,
        config_sha256: None,
        tiers: &[],
        cgroup: "",
        memory_locked: false,
    });
    samples.of_agent(&AgentStop { reason: "", sessions: 0, statements: 0 });
    samples.of_agent(&Refused {
        reason: "",
        detail: None,
        sqlstate: None,
        actor: None,
        destination: None,
        count: 1,
        connect: None,
    });
    samples.of_agent(&AllowedUnseen {
        actor: None,
        destination: None,
        since: None,
        count: 1,
        connect: None,
    });
    samples.of_agent(&EventsLost {
        source: LostSource::Records,
        count: 1,
        since: None,
        detail: None,
    });
    samples.of_agent(&Namespace {
        change: NamespaceChange::Opened,
        netns_cookie: 0,
        inode: None,
        port: None,
        held_us: None,
        actor: None,
        detail: None,
    });
    samples.of_agent(&ConfigLoad { config_sha256: &[0; 32], policy: None });
    samples.of_agent(&Hooks {
        action: HooksAction::Missing,
        cgroup: String::new(),
        detail: None,
        programs: Vec::new(),
    });
    samples.of_agent(&Coverage {
        since: WallNanos(0),
        seen: 0,
        intercepted: 0,
        refused: 0,
        failed: 0,
        allowed: 0,
        open: 0,
        unexplained: 0,
        connect_base: 0,
        ledger: 0,
        failures: Vec::new(),
        refusals: Vec::new(),
    });
    samples.of_agent(&Clock {
        cause: Cause::Start,
        boot_id: String::new(),
        number: 1,
        source: "",
        offset_ns: 0,
        max_error_us: 0,
        unsynchronised: true,
        tai_offset: 0,
        step: None,
    });
    samples.of_agent(&Seal {
        number: 0,
        size: 0,
        root: &root,
        kind: 1,
        next: &next,
        signature: &signature,
    });
    samples.of_agent(&Recovery {
        boot_id: "",
        reason: "crash",
        detail: None,
        last_size: 0,
        last_root: &root,
        aside: None,
    });
    samples.of_agent(&EpochStart { host: "", reason: "first", previous: None });
    samples.of_agent(&Key { reason: None, kind: "", id: "", by_uid: None, action: "" });
    samples.of_agent(&Failure { reason: "", detail: None, since: None, action: "", anchor: None });
    let unused = Capacity { watermark: 0, used_bytes: 0, quota_bytes: 0, rising: false };
    samples.of_agent(&unused);
    samples.of_agent(&BreakGlass {
        reason: "",
        detail: None,
        since: WallNanos(0),
        until: WallNanos(0),
        by_uid: 0,
        action: "",
        approver: "",
    });
    samples.of_agent(&AuditRead { by_uid: 0, command: "", arguments: "" });
    samples.of_agent(&Redaction {
        reason: "",
        by_uid: 0,
        scope: "",
        target: "",
        approver: "",
        keys_erased: None,
        entries: None,
    });
    samples.of_agent(&Prune {
        reason: "",
        by_uid: None,
        from_index: 0,
        to_index: 0,
        minimum_index: 0,
    });
    samples.of_agent(&Hold {
        reason: "",
        by_uid: 0,
        action: "",
        scope: "",
        target: "",
        approver: "",
        name: "",
    });
    samples.of_agent(&Kill {
        reason: None,
        sessions: 0,
        by_uid: 0,
        action: "",
        scope: "",
        target: "",
    });
    samples.of_agent(&Grant {
        reason: "",
        detail: None,
        until: None,
        by_uid: 0,
        action: "",
        target: "",
        approver: None,
        grant: "",
        role: "",
    });
    samples.0
}
