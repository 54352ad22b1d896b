//! Samples with everything that a record can hold.

use super::{ID, NOW, Sample, Samples, done, identity, parameter, referred, session_start};
use crate::audit::clock::{Cause, Clock, Step};
use crate::audit::ledger::{Coverage, Hooks, HooksAction, Named, Program};
use crate::audit::*;

/// Samples of every kind with everything in them. What excludes each other is in several.
pub(crate) fn full() -> Vec<Sample> {
    let mut samples = Samples::default();
    sessions(&mut samples);
    statements(&mut samples);
    happenings(&mut samples);
    maintenance(&mut samples);
    samples.0
}

fn sessions(samples: &mut Samples) {
    let actor = identity(7);
    let connect = Some(12);
    samples.of_session(&SessionStart {
        application_name: Some(b"psql"),
        client_tls: Some("TLSv1.3"),
        server_name: Some("db"),
        options: Some(b"-c x=1"),
        connect,
        ..session_start(&actor)
    });
    samples.of_session(&Authentication {
        authentication: "scram-sha-256",
        handshake: Some(Handshake {
            kind: HandshakeKind::Mapped,
            login: Some(b"svc"),
            bound: &[BoundLeg::Client, BoundLeg::Server],
            exception: Some("e"),
        }),
        reason: Some("authentication_failed"),
        detail: Some("d"),
        sqlstate: Some(*b"28P01"),
        client_encoding: Some(b"UTF8"),
        server_version: Some(b"18.4"),
        protocol: (3, 2),
        server_tls: Some("TLSv1.3"),
        server_verified: Some("verify-full"),
        backend_pid: Some(11),
    });
    samples.of_session(&Writer { actor: &actor, tier: Tier::T1 });
    samples.of_session(&SessionMark { entries: 4, digest: [1; 32] });
    samples.of_agent(&Cancel {
        actor: &actor,
        destination: "10.0.0.5:5432".parse().expect("an address"),
        target_pid: 11,
        target_session: Some(ID),
        outcome: CancelOutcome::Forwarded,
        connect,
    });
    samples.of_session(&SessionEnd {
        reason: EndReason::ServerClosed,
        detail: Some("reset"),
        sqlstate: Some(*b"57P01"),
        statements: 2,
        client_bytes: 3,
        server_bytes: 4,
        duration_us: 5,
        entries: 4,
        digest: [1; 32],
    });
}

/// Everything that a statement can be, but for what excludes each other.
fn full_what<'a>(parameters: &'a [Parameter<'a>], shared_with: &'a [u64]) -> What<'a> {
    What {
        kind: StatementKind::FunctionCall,
        text: full_text(),
        text_state: TextState::Malformed,
        client_encoding: Some(b"LATIN1"),
        name: b"s",
        portal: b"p",
        function_oid: Some(1),
        parameters: Parameters::Listed(
            parameters,
            Some(values::Unlisted { count: 5, left_out: 2, commitment: Some([6; 32]) }),
        ),
        beside: Some(Beside { key_kind: 1, sha256: Some([5; 32]) }),
        writer: Writers { writer: 2, tier: Tier::T1, shared_with },
    }
}

fn full_text() -> Text<'static> {
    Text {
        clear: Clear::Held(b"\xffa"),
        commitment: Some([4; 32]),
        hash: Some([3; 32]),
        full_bytes: Some(4),
        never: Some(1),
    }
}

fn statements(samples: &mut Samples) {
    let parameters = [
        Parameter { full_bytes: Some(3), ..parameter(Value::Clear(b"ab")) },
        Parameter { format: 1, ..parameter(Value::Clear(&[0, 0, 0, 42])) },
        parameter(Value::Null),
        parameter(Value::Committed([1; 32])),
        parameter(Value::CommittedOnly([1; 32])),
        parameter(Value::Hashed([2; 32])),
        parameter(Value::Never(1)),
    ];
    let shared_with: Vec<u64> = (2..).take(WRITERS_MAX + 1).collect();
    let what = full_what(&parameters, &shared_with);
    samples.of_session(&Introduced {
        kind: StatementKind::Parse,
        text: full_text(),
        text_state: TextState::Malformed,
        client_encoding: Some(b"LATIN1"),
        name: b"s",
        beside: what.beside,
    });
    let others = [
        what,
        What { parameters: Parameters::Omitted(2), ..what },
        What { text: referred(1), ..what },
    ];
    let copied = Some(Copied { bytes: 5, rows: Some(1) });
    let full_done = |of| Done {
        outcome: Outcome::Failed,
        sqlstate: Some(*b"42601"),
        commit_sqlstate: Some(*b"40001"),
        results: &[ResultPart { tag: b"SELECT 1", rows: 1 }],
        results_total: 2,
        copy_in: copied,
        copy_out: copied,
        ..done(of)
    };
    for what in &others {
        let judged = Judged { decision: Decided::WouldDeny, rules: &["first", "second"] };
        samples.of_session(&Intent { judged: Some(judged), what: *what });
        samples.of_session(&LimitReached {
            decision: Decided::Deny,
            rules: &["first"],
            reason: "statement_rows",
            detail: "statement_rows = 10",
        });
        samples.of_session(&Denied {
            what: *what,
            sqlstate: *b"42501",
            reason: "r",
            rules: &["first", "second"],
            policy: Some(&[2; 32]),
        });
        samples.of_session(&full_done(Of::Message(what)));
    }
    samples.of_session(&full_done(Of::Intent(2, Some(what.writer))));
}

fn happenings(samples: &mut Samples) {
    let actor = identity(7);
    let (actor, since) = (Some(&actor), Some(NOW.wall));
    let destination = Some("10.0.0.5:5432".parse().expect("an address"));
    let connect = Some(12);
    samples.of_agent(&AgentStart {
        version: "0.1.0",
        host: "db-client-1",
        boot_id: "b",
        pid: 1,
        config_sha256: Some([1; 32]),
        tiers: &[Tier::T0, Tier::T2],
        cgroup: "root",
        memory_locked: true,
    });
    samples.of_agent(&AgentStop { reason: "SIGTERM", sessions: 1, statements: 2 });
    samples.of_agent(&Refused {
        reason: "refused_storage",
        detail: Some("d"),
        sqlstate: Some(*b"53300"),
        actor,
        destination,
        count: 1,
        connect,
    });
    samples.of_agent(&AllowedUnseen { actor, destination, since, count: 3, connect });
    samples.of_agent(&EventsLost {
        source: LostSource::WriterEvents,
        count: 2,
        since,
        detail: Some("d"),
    });
    samples.of_agent(&Namespace {
        change: NamespaceChange::Failed,
        netns_cookie: 9,
        inode: Some(8),
        port: Some(15_432),
        held_us: Some(7),
        actor,
        detail: Some("d"),
    });
    samples.of_agent(&ConfigLoad { config_sha256: &[1; 32], policy: Some(&[2; 32]) });
    samples.of_agent(&Hooks {
        action: HooksAction::Attached,
        cgroup: "root".to_owned(),
        detail: Some("d".into()),
        programs: vec![Program { name: "connect4", id: 17 }],
    });
    let named = |name: &'static str, count| vec![Named { name: name.into(), count }];
    samples.of_agent(&Coverage {
        since: NOW.wall,
        seen: 10,
        intercepted: 5,
        refused: 1,
        failed: 2,
        allowed: 1,
        open: 1,
        unexplained: 0,
        connect_base: 3,
        ledger: u64::MAX,
        failures: named("no_socket", 2),
        refusals: named("no_identity", 1),
    });
    samples.of_agent(&Clock {
        cause: Cause::Step,
        boot_id: "b".to_owned(),
        number: 2,
        source: "ntp",
        offset_ns: -5,
        max_error_us: 6,
        unsynchronised: false,
        tai_offset: 37,
        step: Some(Step { by_ns: 8, back: true, before: NOW.wall }),
    });
}

fn maintenance(samples: &mut Samples) {
    let (root, next, signature) = ([1; 32], [2; 32], [3; 64]);
    samples.of_agent(&Seal {
        number: 1,
        size: 2,
        root: &root,
        kind: 2,
        next: &next,
        signature: &signature,
    });
    samples.of_agent(&Recovery {
        boot_id: "b",
        reason: "torn_tail",
        detail: Some("d"),
        last_size: 5,
        last_root: &root,
        aside: Some(Aside { bytes: 9, sha256: &root, file: "f" }),
    });
    samples.of_agent(&EpochStart {
        host: "h",
        reason: "corruption",
        previous: Some(("pgward/x/1", 5, &root)),
    });
    samples.of_agent(&Key {
        reason: Some("r"),
        kind: "host",
        id: "k",
        by_uid: Some(0),
        action: "made",
    });
    samples.of_agent(&Failure {
        reason: "anchor",
        detail: Some("d"),
        since: Some(NOW.wall),
        action: "begin",
        anchor: Some("w"),
    });
    let used = Capacity { watermark: 75, used_bytes: 1, quota_bytes: 2, rising: true };
    samples.of_agent(&used);
    samples.of_agent(&BreakGlass {
        reason: "r",
        detail: Some("d"),
        since: NOW.wall,
        until: NOW.wall,
        by_uid: 0,
        action: "begin",
        approver: "a",
    });
    samples.of_agent(&AuditRead { by_uid: 1000, command: "search", arguments: "--user app" });
    samples.of_agent(&Redaction {
        reason: "r",
        by_uid: 0,
        scope: "session",
        target: "t",
        approver: "a",
        keys_erased: Some(1),
        entries: Some((0, 65_536)),
    });
    samples.of_agent(&Prune {
        reason: "age",
        by_uid: Some(0),
        from_index: 0,
        to_index: 65_536,
        minimum_index: 65_536,
    });
    samples.of_agent(&Hold {
        reason: "r",
        by_uid: 0,
        action: "set",
        scope: "time",
        target: "t",
        approver: "a",
        name: "n",
    });
    samples.of_agent(&Kill {
        reason: Some("r"),
        sessions: 2,
        by_uid: 0,
        action: "terminate",
        scope: "exe,role",
        target: "/usr/bin/psql,app",
    });
    samples.of_agent(&Grant {
        reason: "r",
        detail: Some("d"),
        until: Some(NOW.wall),
        by_uid: 0,
        action: "begin",
        target: "exe=/usr/bin/psql",
        approver: Some("a"),
        grant: "g",
        role: "support",
    });
}
