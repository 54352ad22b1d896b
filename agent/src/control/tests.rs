//! Client and server against each other, and against clients and servers that misbehave.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::server::serve_admitted;
use super::*;
use crate::audit::anchors::AnchorStatus;
use crate::audit::store::{Health, Level, StoreStatus};

#[derive(Default)]
struct Agent {
    shutdowns: AtomicU32,
}

fn session() -> SessionInfo {
    SessionInfo {
        id: "feed".to_owned(),
        pid: 7,
        database: "shop".to_owned(),
        ..SessionInfo::default()
    }
}

fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        pid: 1,
        since: "2026-02-28T23:59:59.000000042Z".to_owned(),
        cgroup: "root".to_owned(),
        tiers: vec!["T0".to_owned()],
        workers: 2,
        sessions: 1,
        sessions_total: 3,
        statements_total: 9,
        logins_failed: 2,
        logins_refused: 3,
        logins_throttled: 4,
        cancels_dropped: 5,
        namespaces: 1,
        audit_directory: "/var/lib/pgward/audit".to_owned(),
        audit: TrailStatus {
            origin: "pgward/6f1c/1".to_owned(),
            store: Some(StoreStatus {
                health: Health::Good,
                level: Level::Low,
                used_bytes: 6,
                entries: 5,
                batches: 4,
                lost: 0,
            }),
            quota_bytes: 7,
            seal_lag_ms: Some(8),
            checkpoint: Some(4),
            checkpoint_error: Some("no space".to_owned()),
            anchors: vec![AnchorStatus {
                name: "w".to_owned(),
                kind: "witness".to_owned(),
                size: Some(4),
                copied: Some(5),
                lag_ms: 9,
                error: Some("refused".to_owned()),
                failures: 1,
                busy_ms: Some(2),
                alarm: Some("another log".to_owned()),
            }],
            eased_until: None,
        },
        connects: Some(Connects { seen: 3, intercepted: 3, ..Connects::default() }),
        counters: BTreeMap::from([("redirected".to_owned(), 3)]),
    }
}

impl Handler for Agent {
    async fn sessions(&self) -> Vec<SessionInfo> {
        vec![session()]
    }

    async fn status(&self) -> Status {
        status()
    }

    fn shutdown(&self) -> Result<(), String> {
        match self.shutdowns.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err("already under way".to_owned()),
        }
    }

    async fn audit_read(&self, uid: u32, command: &str, arguments: &str) -> Result<(), String> {
        assert_eq!(uid, nix::unistd::geteuid().as_raw(), "who asks is told by the kernel");
        match (command, arguments) {
            ("search", "user=app") => Ok(()),
            (_, _) => Err("the disk is full".to_owned()),
        }
    }

    async fn audit_prune(&self, _: u32, prune: Prune) -> Result<Pruned, String> {
        Ok(Pruned { minimum_index: prune.before_ns, ..Pruned::default() })
    }

    async fn audit_shred(&self, _: u32, shred: &Shred) -> Result<u64, String> {
        match shred.scope {
            ShredScope::Session => Ok(1),
            ShredScope::Subject => Ok(2),
            ShredScope::Day => Err("held".to_owned()),
        }
    }

    async fn audit_hold(&self, _: u32, hold: &Hold) -> Result<(), String> {
        match hold.action {
            HoldAction::Set => Ok(()),
            HoldAction::Lift => Err(format!("no hold `{}`", hold.name)),
        }
    }

    async fn audit_holds(&self) -> Result<Vec<HoldInfo>, String> {
        Ok(vec![hold_info()])
    }

    async fn kill(&self, uid: u32, kill: &Kill) -> Result<Killed, String> {
        assert_eq!(uid, nix::unistd::geteuid().as_raw(), "who asks is told by the kernel");
        kill.check().map_err(|error| error.to_string())?;
        let sessions = vec![KilledSession { became: Became::Ended, session: session() }];
        Ok(Killed { dry_run: kill.dry_run, action: kill.action, sessions })
    }

    async fn grant(&self, by: Caller, asked: &GrantAsked) -> Result<GrantInfo, String> {
        let login = std::fs::read_to_string("/proc/self/loginuid").ok();
        let login = login.and_then(|text| text.trim().parse().ok());
        let expected = Caller {
            uid: nix::unistd::geteuid().as_raw(),
            login: login.filter(|login| *login != u32::MAX),
        };
        assert_eq!(by, expected, "who asks is told by the kernel");
        match asked.request {
            true => Ok(grant_info(GrantState::Requested)),
            false => Err("a second person has to approve".to_owned()),
        }
    }

    async fn grant_approve(&self, _: Caller, id: &str) -> Result<GrantInfo, String> {
        match id {
            "g1" => Ok(grant_info(GrantState::Active)),
            other => Err(format!("no grant is called `{other}`")),
        }
    }

    async fn grant_revoke(&self, _: Caller, _: &str, reason: &str) -> Result<GrantInfo, String> {
        Ok(GrantInfo { reason: reason.to_owned(), ..grant_info(GrantState::Active) })
    }

    async fn grants(&self) -> Vec<GrantInfo> {
        vec![grant_info(GrantState::Requested)]
    }

    async fn audit_break_glass(&self, _: u32, asked: &BreakGlass) -> Result<String, String> {
        Ok(format!("in {} minutes", asked.minutes))
    }
}

fn hold_info() -> HoldInfo {
    HoldInfo {
        name: "case 7".to_owned(),
        scope: HoldScope::Time { since_ns: 1, until_ns: u64::MAX },
        reason: "a letter".to_owned(),
        approver: "somebody".to_owned(),
        since: "2026-02-28T23:59:59.000000042Z".to_owned(),
    }
}

fn grant_info(state: GrantState) -> GrantInfo {
    GrantInfo {
        id: "g1".to_owned(),
        state,
        to: "exe=/usr/bin/psql".to_owned(),
        role: "support".to_owned(),
        minutes: 30,
        reason: "ticket 7".to_owned(),
        by: 0,
        asked: "2026-02-28T23:59:59.000000042Z".to_owned(),
        approver: None,
        until: None,
        left_s: 1800,
    }
}

#[test]
fn sessions_are_ended_by_request() {
    with_server(own_user, |path| {
        let kill = |action, reason: Option<&str>| Request::Kill {
            kill: Kill {
                chosen: Chosen { role: Some("app".to_owned()), ..Chosen::default() },
                action,
                reason: reason.map(str::to_owned),
                dry_run: false,
            },
        };
        let killed = Killed {
            dry_run: false,
            action: KillAction::Terminate,
            sessions: vec![KilledSession { became: Became::Ended, session: session() }],
        };
        let answer = ask(&path, kill(KillAction::Terminate, Some("why"))).expect("ended");
        assert_eq!(answer, Response::Killed { killed });
        let error = ask(&path, kill(KillAction::Wait, None)).expect_err("no reason");
        assert_eq!(error.to_string(), "agent refused: a reason is needed to end sessions");
        let kill_all = b"{\"request\":\"kill\",\"kill\":{\"chosen\":{},\"action\":\"cancel\",\
                         \"reason\":null,\"dry_run\":false}}\n";
        assert!(raw(&path, kill_all).contains("no session is named"));
        let misspelt = b"{\"request\":\"kill\",\"kill\":{\"chosen\":{\"rolle\":\"app\"},\
                         \"action\":\"cancel\",\"reason\":null,\"dry_run\":false}}\n";
        assert!(raw(&path, misspelt).contains("unknown field `rolle`"), "else all would be meant");
    });
}

#[test]
fn roles_are_granted_by_request() {
    with_server(own_user, |path| {
        let grant = |request| Request::Grant {
            asked: GrantAsked {
                to: "uid=7".to_owned(),
                role: "support".to_owned(),
                minutes: 30,
                reason: "why".to_owned(),
                approver: None,
                request,
            },
        };
        let answer = |grant| Response::Grant { grant };
        let requested = grant_info(GrantState::Requested);
        assert_eq!(ask(&path, grant(true)).expect("asked for"), answer(requested.clone()));
        let error = ask(&path, grant(false)).expect_err("refused");
        assert_eq!(error.to_string(), "agent refused: a second person has to approve");
        let approve = |id: &str| ask(&path, Request::GrantApprove { id: id.to_owned() });
        let active = grant_info(GrantState::Active);
        assert_eq!(approve("g1").expect("approved"), answer(active.clone()));
        let error = approve("g2").expect_err("unknown");
        assert_eq!(error.to_string(), "agent refused: no grant is called `g2`");
        let revoke = Request::GrantRevoke { id: "g1".to_owned(), reason: "done".to_owned() };
        let revoked = GrantInfo { reason: "done".to_owned(), ..active };
        assert_eq!(ask(&path, revoke).expect("revoked"), answer(revoked));
        let all = Response::Grants { grants: vec![requested] };
        assert_eq!(ask(&path, Request::Grants {}).expect("all"), all);
    });
}

#[test]
fn the_trail_is_taken_care_of_by_request() {
    with_server(own_user, |path| {
        let read = |arguments: &str| Request::AuditRead {
            command: "search".to_owned(),
            arguments: arguments.to_owned(),
        };
        assert_eq!(ask(&path, read("user=app")).expect("recorded"), Response::Accepted {});
        let error = ask(&path, read("user=other")).expect_err("not recorded");
        assert_eq!(error.to_string(), "agent refused: the disk is full");
        let error = ask(&path, read(&"x".repeat(READ_ARGUMENTS_BYTES_MAX + 1))).expect_err("long");
        assert!(error.to_string().contains("expected at most 1024"), "{error}");
        let prune = Prune { before_ns: 9, dry_run: true };
        let pruned = Pruned { minimum_index: 9, ..Pruned::default() };
        let answer = ask(&path, Request::AuditPrune { prune }).expect("pruned");
        assert_eq!(answer, Response::Pruned { pruned });
        let text = || "text".to_owned();
        let shred = |scope| Request::AuditShred {
            shred: Shred { scope, target: text(), reason: text(), approver: text() },
        };
        let answer = ask(&path, shred(ShredScope::Subject)).expect("shredded");
        assert_eq!(answer, Response::Shredded { keys_erased: 2 });
        assert!(ask(&path, shred(ShredScope::Day)).is_err());
        let hold = |action| {
            let scope = HoldScope::Session(text());
            let hold = Hold { action, name: text(), scope, reason: text(), approver: text() };
            Request::AuditHold { hold }
        };
        assert_eq!(ask(&path, hold(HoldAction::Set)).expect("set"), Response::Accepted {});
        assert!(ask(&path, hold(HoldAction::Lift)).is_err());
        let holds = Response::Holds { holds: vec![hold_info()] };
        assert_eq!(ask(&path, Request::AuditHolds {}).expect("holds"), holds);
        let break_glass = BreakGlass { minutes: 5, reason: text(), approver: text() };
        let answer = ask(&path, Request::AuditBreakGlass { break_glass }).expect("eased");
        assert_eq!(answer, Response::BreakGlass { until: "in 5 minutes".to_owned() });
    });
}

/// Runs `client` on a thread of its own against a server that admits by `admitted`.
fn with_server<T: Send + 'static>(
    admitted: fn(u32) -> bool,
    client: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> T {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run/control.sock");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let result = runtime.block_on(async {
        let listener = Listener::bind(&path).expect("binds");
        let agent = Agent::default();
        let path = path.clone();
        let client = tokio::task::spawn_blocking(move || client(path));
        tokio::select! {
            () = serve_admitted(&listener, &agent, admitted) => unreachable!("serves for ever"),
            result = client => result.expect("the client's assertions hold"),
        }
    });
    assert!(!path.exists(), "the socket goes with the listener");
    result
}

fn own_user(uid: u32) -> bool {
    uid == nix::unistd::geteuid().as_raw()
}

/// Sends `bytes` and reads all of the answer.
fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).expect("connects");
    // The server may close before it has read all.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    // Unread bytes on the other side become a reset behind the answer.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("UTF-8")
}

#[test]
fn answers_every_request() {
    with_server(own_user, |path| {
        let sessions = Response::Sessions { sessions: vec![session()] };
        assert_eq!(ask(&path, Request::Sessions {}).expect("an answer"), sessions);
        let status = Response::Status { status: Box::new(status()) };
        assert_eq!(ask(&path, Request::Status {}).expect("an answer"), status);
        assert_eq!(ask(&path, Request::Shutdown {}).expect("an answer"), Response::Accepted {});
        let error = ask(&path, Request::Shutdown {}).expect_err("only once");
        assert_eq!(error.to_string(), "agent refused: already under way");
        let mode = std::fs::metadata(&path).expect("the socket").mode() & 0o7777;
        assert_eq!(mode, 0o600);
        let folder = std::fs::metadata(path.parent().expect("a folder")).expect("the folder");
        assert_eq!(folder.mode() & 0o7777, 0o700);
    });
}

#[test]
fn refuses_other_users() {
    with_server(
        |_| false,
        |path| {
            let error = ask(&path, Request::Status {}).expect_err("refused");
            assert_eq!(error.to_string(), "agent refused: only root and the agent's user may ask");
        },
    );
}

#[test]
fn refuses_what_is_no_request_and_goes_on() {
    with_server(own_user, |path| {
        for (bytes, reason) in [
            (&b"\n"[..], "request not understood"),
            (b"{}\n", "request not understood"),
            (b"{\"request\":\"format_disk\"}\n", "request not understood"),
            (b"{\"request\":\"status\",\"more\":1}\n", "request not understood"),
            (b"\xff\xfe\n", "request not understood"),
            (b"{\"request\":\"status\"}\n{\"request\":\"status\"}\n", "more than one line"),
            (&[b' '; REQUEST_BYTES_MAX], "request too long"),
            (&[b'{'; 1 << 20], "request too long"),
        ] {
            let answer = raw(&path, bytes);
            assert!(answer.starts_with("{\"response\":\"refused\""), "{answer}");
            assert!(answer.contains(reason), "{answer}");
        }
        // A client that leaves in the middle of a request is forgotten.
        drop(UnixStream::connect(&path).and_then(|mut stream| stream.write_all(b"{\"req")));
        ask(&path, Request::Status {}).expect("an answer");
    });
}

#[test]
fn the_longest_request_is_still_read() {
    with_server(own_user, |path| {
        let mut request = b"{\"request\":\"status\"}".to_vec();
        request.resize(REQUEST_BYTES_MAX - 1, b' ');
        request.push(b'\n');
        assert!(raw(&path, &request).starts_with("{\"response\":\"status\""));
    });
}

#[test]
fn a_silent_client_does_not_keep_others_waiting_for_ever() {
    with_server(own_user, |path| {
        let mut silent = UnixStream::connect(&path).expect("connects");
        ask(&path, Request::Status {}).expect("an answer, after the silent one's time is up");
        let mut answer = String::new();
        silent.read_to_string(&mut answer).expect("told why");
        assert!(answer.contains("did not come in time"), "{answer}");
    });
}

#[test]
fn stale_sockets_are_replaced_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("control.sock");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket")); // leaves its file
    assert!(path.exists());
    let first = Listener::bind(&path).expect("replaces what nobody listens on");
    let error = Listener::bind(&path).expect_err("in use");
    assert_eq!(error.to_string(), format!("another agent answers at `{}`", path.display()));
    // Somebody else's socket in the same place stays when ours goes.
    std::fs::remove_file(&path).expect("removed");
    let second = Listener::bind(&path).expect("free");
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
    std::fs::write(&path, "precious").expect("a file");
    assert!(matches!(Listener::bind(&path), Err(BindError::NotASocket(_))));
    let deep = folder.path().join("a/b/control.sock");
    assert!(matches!(Listener::bind(&deep), Err(BindError::System { .. })));
}

#[test]
fn clients_say_what_is_wrong_with_the_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("control.sock");
    let none = ask(&path, Request::Status {}).expect_err("nobody there");
    assert_eq!(none.to_string(), format!("no agent answers at `{}`", path.display()));
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let answer = |bytes: &'static [u8]| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = [0; 64];
                let _ = stream.read(&mut request).expect("a request");
                stream.write_all(bytes).expect("an answer");
            });
            ask(&path, Request::Status {}).expect_err("no answer")
        })
    };
    assert!(matches!(answer(b""), ClientError::Broken { .. }));
    assert!(matches!(answer(b"{\"response\":\"accep"), ClientError::Broken { .. }));
    assert!(matches!(answer(b"{\"response\":\"new\"}\n"), ClientError::NotUnderstood(_)));
}
