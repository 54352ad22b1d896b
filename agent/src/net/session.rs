//! The life of one redirected connection: first packet, dial, relay, last record.

use std::{
    borrow::Cow,
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU32, AtomicU64},
    },
    task::Poll,
    time::Duration,
};

use pgward_common::Flow;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tracing::{debug, warn};

use super::{
    dial::{self, DialError},
    error::chain,
    identify::Who,
    recorder::{Ended, Hello, Recorder},
    registry::Shown,
    relay::{End, Peer, Relay, RelayError},
    worker::Context,
    writers::Registration,
};
use crate::{
    audit::{BootNanos, Cancel, CancelOutcome, EndReason, Now, Refused, Stamp, WallNanos},
    pg::{
        self, Session,
        error::Reply,
        session::Gate,
        startup::{self, FirstPacket, Opening, Parameters, Transport},
    },
};

/// From the dial of a cancel request to the server's close: how long the client may have to wait.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// Messages to a client that is being sent away; a client that does not read them loses them.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);
/// Bytes read at once before the relay begins.
const OPENING_READ_BYTES: usize = 1024;

/// Serves a connection that the kernel side handed over, until it ends.
pub async fn serve(context: &Context, client: TcpStream, flow: Flow) {
    let question = super::recorder::ask(&context.recording.identifier, &flow);
    let registration = context.writers.register(&flow);
    let deadline = Instant::now() + context.startup_timeout;
    let _ = client.set_nodelay(true);
    let mut opening = Opened { client, buffer: Vec::new(), consumed: 0 };
    let first = tokio::select! {
        biased;
        first = timeout_at(deadline, opening.first_packet()) => match first {
            Ok(first) => first,
            Err(_) => Err(OpeningError::TimedOut(context.startup_timeout)),
        },
        () = context.stop.wait() => Err(OpeningError::Stopping),
    };
    let who = question.answered(&flow.opener).await;
    match first {
        Ok(Some(FirstPacket::Startup { minor, parameters })) => {
            let startup = Startup { minor, parameters, deadline };
            run_session(context, opening, flow, who, registration, startup).await;
        }
        Ok(Some(FirstPacket::Cancel(request))) => {
            cancel(context, &flow, &who, &request).await;
        }
        // A probe: connects, says nothing, closes. The server is not bothered with it.
        Ok(None) => debug!("closed before the first packet"),
        Ok(Some(FirstPacket::SslRequest | FirstPacket::GssEncRequest)) => {
            unreachable!("answered where the first packet is read")
        }
        Ok(Some(
            other @ (FirstPacket::DirectTls
            | FirstPacket::Unsupported { .. }
            | FirstPacket::Other { .. }),
        )) => {
            let (reason, detail, reply) = unsupported(&other);
            refuse(context, &mut opening.client, &flow, &who, reason, &detail, reply).await;
        }
        Err(error) => {
            let (reason, reply) = match &error {
                OpeningError::Protocol(error) => ("protocol_violation", error.reply()),
                OpeningError::TimedOut(_) => ("startup_timeout", None),
                OpeningError::Stopping => ("agent_stopped", None),
                OpeningError::Client(_) => {
                    return debug!(%error, "client went before its first packet");
                }
            };
            refuse(context, &mut opening.client, &flow, &who, reason, &chain(&error), reply).await;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum OpeningError {
    #[error(transparent)]
    Protocol(#[from] pg::Error),
    #[error("reading from the client failed")]
    Client(#[source] io::Error),
    #[error("no startup packet within {0:?}")]
    TimedOut(Duration),
    #[error("the agent is stopping")]
    Stopping,
}

/// What a client asked for in its startup packet, and until when it must be served.
struct Startup {
    minor: u16,
    parameters: Parameters,
    deadline: Instant,
}

/// A client whose first packets are being read.
struct Opened {
    client: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the client's stream before `buffer`.
    consumed: u64,
}

impl Opened {
    /// The packet that says what this connection is for; requests for encryption are answered on the way. `None`: the client
    /// closed without one.
    async fn first_packet(&mut self) -> Result<Option<FirstPacket>, OpeningError> {
        let mut opening = Opening::new(Transport::Clear);
        let mut chunk = [0u8; OPENING_READ_BYTES];
        loop {
            if let Some((packet, taken)) = opening.handle(&self.buffer)? {
                self.buffer.drain(..taken);
                self.consumed += taken as u64;
                match packet {
                    // The loopback leg is in the clear; clients that insist on encryption say so themselves and end.
                    FirstPacket::SslRequest | FirstPacket::GssEncRequest => {
                        self.client.write_all(b"N").await.map_err(OpeningError::Client)?;
                    }
                    other => return Ok(Some(other)),
                }
                continue;
            }
            // `Opening` bounds a packet, so the buffer is bounded too.
            match self.client.read(&mut chunk).await.map_err(OpeningError::Client)? {
                0 => return Ok(None),
                count => self.buffer.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

async fn run_session(
    context: &Context,
    opened: Opened,
    flow: Flow,
    who: Arc<Who>,
    registration: Registration,
    startup: Startup,
) {
    let Startup { minor, parameters, deadline } = startup;
    let Opened { mut client, buffer, consumed } = opened;
    let now = Now::read();
    let shown = Shown {
        id: context.ids.next(),
        since: WallNanos::at(BootNanos(flow.connect_boottime_ns), now),
        destination: dial::destination(&flow),
        tier: context.recording.tier,
        who: OnceLock::from(who.clone()),
        startup: OnceLock::new(),
        netns_cookie: flow.opener.netns_cookie,
        state: AtomicU8::new(0),
        backend_pid: AtomicU32::new(0),
        statements: AtomicU64::new(0),
        rows: AtomicU64::new(0),
        client_bytes: AtomicU64::new(0),
        server_bytes: AtomicU64::new(0),
        state_since: AtomicU64::new(now.wall.0),
    };
    let Some(entry) = context.registry.enter(shown, context.sessions_max) else {
        let reply = Reply::fatal(*b"53300", "sorry, too many clients already");
        let detail = format!("`agent.sessions_max` is {}", context.sessions_max);
        return refuse(context, &mut client, &flow, &who, "sessions_max", &detail, Some(reply))
            .await;
    };
    if let Err(error) = context.recording.sink.check() {
        let reply = not_recorded(error);
        let detail = error.to_string();
        return refuse(context, &mut client, &flow, &who, "recording_failed", &detail, Some(reply))
            .await;
    }
    let recorder = Recorder::new(
        context.recording.clone(),
        entry,
        flow,
        who,
        registration,
        Hello { minor, parameters: &parameters, base: consumed },
    );
    let dialled = tokio::select! {
        biased;
        dialled = context.dialer.dial(&flow, deadline.saturating_duration_since(Instant::now())) => dialled,
        () = context.stop.wait() => {
            let reply = stopping();
            let ended = Ended {
                reason: EndReason::AgentStopped,
                detail: None,
                sqlstate: Some(reply.sqlstate),
                client_bytes: consumed,
                server_bytes: 0,
            };
            recorder.end(ended);
            return farewell(&mut client, &reply).await;
        }
    };
    let server = match dialled {
        Ok(server) => server,
        Err(error) => {
            let reply = dial_failed(&flow, &error);
            let ended = Ended {
                reason: EndReason::DialFailed,
                detail: Some(&chain(&error)),
                sqlstate: Some(reply.sqlstate),
                client_bytes: consumed,
                server_bytes: 0,
            };
            recorder.end(ended);
            return farewell(&mut client, &reply).await;
        }
    };
    let mut hello = Vec::new();
    // What the client sent is what the server gets; parsing and writing are inverse, which a property of `pg::startup` says.
    startup::write_startup(&mut hello, minor, &parameters).expect("it was read within its limits");
    let session = Session::starting_at(context.limits, Gate::Hold, consumed);
    let mut relay = Relay::new(client, server, session, recorder, &hello, &buffer);
    let ended = relay_until_end(&mut relay, context, deadline).await;
    let mut rest = relay.finish();
    let (reason, detail, reply, reset) =
        explain(ended, rest.recorder.client_said_goodbye(), rest.recorder.is_ready());
    if let Some(reply) = &reply
        && !rest.client_is_mid_message
    {
        farewell(&mut rest.client, reply).await;
    }
    if reset {
        // The client sees what it would have seen from the server itself.
        let _ = socket2::SockRef::from(&rest.client).set_linger(Some(Duration::ZERO));
    }
    rest.recorder.end(Ended {
        reason,
        detail: detail.as_deref(),
        sqlstate: reply.as_ref().map(|r| r.sqlstate),
        client_bytes: consumed + rest.client_bytes,
        server_bytes: rest.server_bytes,
    });
}

enum Ending {
    Relayed(Result<End, RelayError>),
    StartupTimeout(Duration),
    Stopped,
}

async fn relay_until_end(
    relay: &mut Relay<TcpStream, TcpStream>,
    context: &Context,
    deadline: Instant,
) -> Ending {
    // Both are polled once, which leaves our waker with them, and again only when they may have something to say: this runs
    // for every message of every session.
    let mut timer = Some(Box::pin(tokio::time::sleep_until(deadline)));
    let mut stop = pin!(context.stop.wait());
    let mut registered = false;
    poll_fn(|cx| {
        if !registered || context.stop.is_stopping() {
            registered = true;
            if stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ending::Stopped);
            }
        }
        if let Poll::Ready(end) = relay.poll(cx) {
            return Poll::Ready(Ending::Relayed(end));
        }
        if let Some(sleep) = &mut timer {
            if relay.is_ready() {
                timer = None; // most sessions never look at it again
            } else if sleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ending::StartupTimeout(context.startup_timeout));
            }
        }
        Poll::Pending
    })
    .await
}

type Explained = (EndReason, Option<String>, Option<Reply>, bool);

/// Reason and detail for the record, error for the client, and whether its connection is to be reset.
fn explain(ending: Ending, terminated: bool, ready: bool) -> Explained {
    match ending {
        Ending::Relayed(Ok(End::ClientClosed)) if terminated => {
            (EndReason::ClientTerminated, None, None, false)
        }
        Ending::Relayed(Ok(End::ClientClosed)) => (EndReason::ClientClosed, None, None, false),
        Ending::Relayed(Ok(End::ServerClosed)) if !ready => {
            (EndReason::StartupRefused, None, None, false)
        }
        Ending::Relayed(Ok(End::ServerClosed)) => (EndReason::ServerClosed, None, None, false),
        Ending::Relayed(Ok(End::Broken(Peer::Client, error))) => {
            (EndReason::ClientReset, Some(error.to_string()), None, false)
        }
        Ending::Relayed(Ok(End::Broken(Peer::Server, error))) => {
            (EndReason::ServerReset, Some(error.to_string()), None, true)
        }
        Ending::Relayed(Err(RelayError::Protocol(error))) => {
            let reason = match &error {
                pg::Error::Limit { .. } => EndReason::LimitExceeded,
                pg::Error::Bytes { .. } | pg::Error::Sequence { .. } => {
                    EndReason::ProtocolViolation
                }
            };
            (reason, Some(chain(&error)), error.reply(), false)
        }
        Ending::Relayed(Err(RelayError::NotRecorded(error))) => {
            (EndReason::RecordingFailed, Some(error.to_string()), Some(not_recorded(error)), false)
        }
        Ending::Relayed(Err(RelayError::Fault)) => {
            let reply = Reply::fatal(*b"XX000", "terminating connection because of a fault");
            let told = "pgward on this host failed while it relayed this connection.";
            let reply = Reply { detail: Some(Cow::Borrowed(told)), ..reply };
            (EndReason::AgentFault, None, Some(reply), false)
        }
        Ending::StartupTimeout(limit) => (
            EndReason::StartupTimeout,
            Some(format!("not authenticated within {limit:?}")),
            None,
            false,
        ),
        Ending::Stopped => (EndReason::AgentStopped, None, Some(stopping()), false),
    }
}

fn stopping() -> Reply {
    let reply = Reply::fatal(*b"57P01", "terminating connection due to administrator command");
    Reply { detail: Some(Cow::Borrowed("pgward on this host is stopping.")), ..reply }
}

async fn cancel(context: &Context, flow: &Flow, who: &Who, request: &startup::Cancel) {
    let destination = dial::destination(flow);
    let mut outcome = CancelOutcome::Failed;
    let forward = async {
        let mut server = context.dialer.dial(flow, CANCEL_LIMIT).await?;
        let mut packet = Vec::new();
        request.write(&mut packet).expect("a cancel request is bounded");
        let sent = server.write_all(&packet).await;
        sent.map_err(|source| DialError::System { call: "write", source })?;
        outcome = CancelOutcome::Forwarded;
        // It has done what it will do when it closes; the client waits for that too. Servers close without reading to the end,
        // which may look like a reset.
        let mut answer = [0u8; 64];
        while server.read(&mut answer).await.is_ok_and(|count| count > 0) {}
        Ok::<(), DialError>(())
    };
    tokio::select! {
        biased;
        ended = timeout(CANCEL_LIMIT, forward) => match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(error = %chain(&error), "cancel request not forwarded"),
            Err(_) => debug!("the server did not close behind a cancel request"),
        },
        () = context.stop.wait() => {}
    }
    let record = Cancel {
        actor: &who.full,
        destination,
        target_pid: request.pid,
        target_session: context.registry.by_backend(destination, request.pid),
        outcome,
    };
    let stamp = Stamp::agent(Now::read());
    if let Err(error) = context.recording.sink.record(&stamp, &record) {
        warn!(%error, "cancel request not recorded");
    }
}

/// Sends a client away: what is recorded, and what it hears.
async fn refuse(
    context: &Context,
    client: &mut TcpStream,
    flow: &Flow,
    who: &Who,
    reason: &str,
    detail: &str,
    reply: Option<Reply>,
) {
    let record = Refused {
        reason,
        detail: Some(detail),
        actor: Some(&who.full),
        destination: Some(dial::destination(flow)),
        count: 1,
    };
    if let Err(error) = context.recording.sink.record(&Stamp::agent(Now::read()), &record) {
        warn!(%error, "refusal not recorded");
    }
    if let Some(reply) = reply {
        farewell(client, &reply).await;
    }
}

/// Last words to a client.
async fn farewell(client: &mut TcpStream, reply: &Reply) {
    let mut message = Vec::new();
    if reply.write(&mut message).is_err() {
        return; // a text with a zero byte: the client gets the close alone
    }
    let said = async {
        client.write_all(&message).await?;
        client.shutdown().await?;
        // Closing with unread bytes would reset the connection and could take the message with it.
        let mut rest = [0u8; OPENING_READ_BYTES];
        while client.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(FAREWELL_LIMIT, said).await;
}

fn not_recorded(error: crate::audit::NotRecorded) -> Reply {
    let reply =
        Reply::fatal(error.sqlstate(), "terminating connection because it cannot be recorded");
    Reply {
        detail: Some(Cow::Owned(format!("{error}."))),
        hint: Some(Cow::Borrowed("Ask the administrator of this host to look at `pgward status`.")),
        ..reply
    }
}

/// `57P03` (`cannot_connect_now`) is the one code at which libpq goes on to the next host of a multi-host string, which is
/// what a refused connection would have made it do.
fn dial_failed(flow: &Flow, error: &DialError) -> Reply {
    let to = dial::destination(flow);
    let text = format!(
        "connection to server at \"{}\", port {} failed: {}",
        to.ip(),
        to.port(),
        chain(error)
    );
    Reply::fatal(*b"57P03", text)
}

fn unsupported(packet: &FirstPacket) -> (&'static str, String, Option<Reply>) {
    match packet {
        FirstPacket::DirectTls => (
            "direct_tls",
            "the client began TLS without asking; the agent serves clear text".into(),
            None,
        ),
        FirstPacket::Unsupported { major, minor } => {
            let text = format!(
                "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2"
            );
            let reply = Reply::fatal(*b"0A000", text.clone());
            ("unsupported_protocol", text, Some(reply))
        }
        FirstPacket::Other { first } => (
            "not_postgresql",
            format!("first byte is {first:#04x}, expected a startup packet"),
            None,
        ),
        FirstPacket::Startup { .. }
        | FirstPacket::SslRequest
        | FirstPacket::GssEncRequest
        | FirstPacket::Cancel(_) => ("unsupported", "not a packet to refuse".into(), None),
    }
}
