//! Relays between streams in memory that fail on demand.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use pgward_common::{Actor, Flow, family};
use serde_json::Value;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};

use super::{
    dial,
    identify::{Identifier, Who},
    police::{self, Analysts, Catalogs, InForce, Police, Whose},
    recorder::{Hello, Recorder, Recording},
    registry::{Registry, Shown},
    relay::{End, Relay, RelayError, Source, Watch},
    writers::Writers,
};
use crate::{
    attrib::{AttribSettings, Resolver},
    audit::{Now, SessionIds, Tier, Trail, WallNanos, samples},
    config,
    grants::Grants,
    pg::{Limits, Session, handshake::tests::authenticated, session::Gate, startup::Parameters},
    policy::Subject,
};

/// More than any test sends without reading it.
const ROOM: usize = 4 << 20;

#[tokio::test]
async fn a_panic_leaves_the_statement_under_way_and_the_end_of_the_session_in_the_log() {
    let mut scene = Scene::new().await;
    let sent = query("select 'sent'");
    scene.client.write_all(&sent).await.expect("room");
    assert_eq!(scene.arriving(sent.len()).await, sent);

    scene.server_faults.panics.store(true, Ordering::Relaxed);
    let ended = scene.ended().await;
    assert!(matches!(ended, Err(RelayError::Fault)), "{ended:?}");
    let records = scene.finish();
    let events: Vec<_> = records.iter().filter_map(|r| r["event"].as_str()).collect();
    assert_eq!(events, ["session_start", "statement", "session_end"]);
    assert_eq!(records[1]["text"], "select 'sent'");
    assert_eq!(records[1]["outcome"], "unfinished");
    assert_eq!(records[2]["reason"], "agent_fault");
    assert_eq!(records[2]["statements"], 1);
}

#[tokio::test]
async fn what_a_client_sent_before_it_went_reaches_the_server() {
    let mut scene = Scene::new().await;
    // More than one read takes, so that a failed write comes between.
    let sent: Vec<u8> = (0..20).flat_map(|_| query(&"x".repeat(30_000))).collect();
    scene.client.write_all(&sent).await.expect("room");
    scene.server.write_all(b"N\0\0\0\x05\0").await.expect("room");
    scene.client_faults.refuses.store(true, Ordering::Relaxed);
    let ended = scene.ended().await;
    assert!(matches!(ended, Ok(End::Broken(..))), "{ended:?}");
    assert_eq!(scene.arrived().await.len(), sent.len());
    let records = scene.finish();
    let statements = records.iter().filter(|record| record["event"] == "statement");
    assert_eq!(statements.filter(|s| s["outcome"] == "unfinished").count(), 20);
}

/// Decides for sessions without a policy.
fn unconcerned(trail: &Arc<Trail>) -> Police {
    let rules = config::Grants { approvals: 0, minutes_max: 60 };
    let shared = police::Shared {
        in_force: InForce::new(None),
        analysts: Analysts::start(Default::default()).expect("threads"),
        catalogs: Catalogs::default(),
        grants: Grants::open(trail.clone(), &rules).expect("none"),
        usage: Arc::default(),
        catalog_age_max: Duration::ZERO,
    };
    let server = "127.0.0.1:5432".parse().expect("an address");
    let whose = Whose { netns_cookie: 1, server, database: "d".into() };
    let who = Arc::new(Who::told(&Actor::default()));
    Police::new(Arc::new(shared), Subject::default(), whose, who, Now::read())
}

fn query(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len() + 5).expect("short").to_be_bytes();
    [b"Q", &length[..], text.as_bytes(), b"\0"].concat()
}

/// A relay with its two peers.
struct Scene {
    relay: Relay<Faulty, Faulty>,
    client: DuplexStream,
    server: DuplexStream,
    client_faults: Arc<Faults>,
    server_faults: Arc<Faults>,
    trail: Arc<Trail>,
    audit: config::Audit,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let audit = samples::settings(folder.path());
        let trail = Arc::new(samples::trail(&audit));
        let resolver = Resolver::new(AttribSettings::default()).expect("a host");
        let recording = Recording {
            sink: trail.sink(),
            keyring: trail.keyring(),
            audit: Arc::new(audit.clone()),
            identifier: Identifier::start(resolver).expect("threads"),
            tier: Tier::T0,
            seal: None,
        };
        let (client, inner_client) = duplex(ROOM);
        let (server, inner_server) = duplex(ROOM);
        let (client_faults, server_faults) = (Arc::<Faults>::default(), Arc::<Faults>::default());
        let mut recorder = recorder(recording);
        let start = recorder.session_start().await.expect("a record");
        let login = recorder.authenticated().await.expect("a record");
        let relay = Relay::new(
            Faulty { stream: inner_client, faults: client_faults.clone() },
            Faulty { stream: inner_server, faults: server_faults.clone() },
            Session::new(Limits::default(), Gate::Hold, 0, authenticated()),
            Watch { recorder, police: unconcerned(&trail), start, login },
            b"",
            b"",
        );
        let (trail, _folder) = (trail, folder);
        Self { relay, client, server, client_faults, server_faults, trail, audit, _folder }
    }

    /// Works until the session ends.
    async fn ended(&mut self) -> Result<End, RelayError> {
        poll_fn(|cx| self.relay.poll(cx)).await
    }

    /// Works until the server has got so many bytes.
    async fn arriving(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        tokio::select! {
            ended = poll_fn(|cx| self.relay.poll(cx)) => panic!("the session ended: {ended:?}"),
            read = self.server.read_exact(&mut bytes) => { read.expect("bytes"); }
        }
        bytes
    }

    /// What the server has got since the last look.
    async fn arrived(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; ROOM];
        let mut buffer = ReadBuf::new(&mut bytes);
        poll_fn(|cx| {
            while Pin::new(&mut self.server).poll_read(cx, &mut buffer).is_ready()
                && buffer.remaining() > 0
            {}
            Poll::Ready(())
        })
        .await;
        buffer.filled().to_vec()
    }

    /// All records of the session, joined.
    fn finish(self) -> Vec<Value> {
        drop(self.relay.finish());
        self.trail.close().expect("everything is written");
        let all = samples::joined(&self.audit).into_iter();
        all.filter(|record| record["session"].is_string()).collect()
    }
}

fn recorder(recording: Recording) -> Recorder {
    let flow = Flow {
        opener: Actor { tgid: 7, ..Actor::default() },
        connect_boottime_ns: 1,
        family: family::V4,
        ..Flow::default()
    };
    let who = Arc::new(Who::told(&flow.opener));
    let id = SessionIds::new(1).next();
    let shown = Shown {
        who: OnceLock::from(who.clone()),
        ..Shown::new(id, WallNanos(0), dial::destination(&flow), Tier::T0)
    };
    let entry = Arc::<Registry>::default().enter(shown, 1).expect("the first");
    let registration = Writers::unwatched().register(&flow);
    let parameters = Parameters::default();
    let hello = Hello {
        minor: 0,
        parameters: &parameters,
        raw_read: 0,
        destination: &Arc::new(config::Destination::implicit()),
        tls: None,
        server_name: None,
    };
    let recorder = Recorder::new(recording, entry, flow, who, registration, hello);
    recorder.expect("a session that can be recorded")
}

/// What goes wrong from now on.
#[derive(Default)]
struct Faults {
    /// Reading panics.
    panics: AtomicBool,
    /// Writing fails, as on a connection that was reset.
    refuses: AtomicBool,
}

struct Faulty {
    stream: DuplexStream,
    faults: Arc<Faults>,
}

impl AsyncRead for Faulty {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        assert!(!self.faults.panics.load(Ordering::Relaxed), "a fault that the test asked for");
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Source for Faulty {
    fn raw_read(&self) -> u64 {
        0
    }

    fn plain_at(&mut self, raw: u64) -> Option<u64> {
        Some(raw)
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.faults.refuses.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
