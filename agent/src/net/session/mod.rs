//! The life of one redirected connection: first packet, dial, handshake, relay, last record.

mod cancel;
mod ending;
mod login;
mod opening;
mod watch;

use std::{
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use pgward_common::Flow;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tracing::debug;
use zeroize::Zeroizing;

use self::{
    ending::{Ending, Explained, SentAway, close, explain, farewell, not_recorded},
    login::{LoggedIn, Login},
    opening::{NotOpened, Opened, OpeningError, open},
    watch::{Watched, until_end},
};
use super::{
    dial,
    error::chain,
    identify::Who,
    leg::Leg,
    newcomers::Newcomer,
    police::{Police, Whose},
    recorder::{self, Ended, Recorder},
    registry::Shown,
    relay::{Relay, Watch},
    route::Route,
    worker::Context,
    writers::Registration,
};
use crate::{
    audit::{
        BootNanos, Now, WallNanos,
        ledger::{Connect, Failure},
    },
    config::{self, AuthMode, AuthRequire, ChannelBinding, ClientTls, PassMethod, WeakMethod},
    pg::{
        self, Session,
        error::Reply,
        handshake::{
            Binding, Handshake, Hello, Random, Stamp, Terms,
            course::{Accepted, Mode, Upgrade},
        },
        session::Gate,
        startup::{self, FirstPacket, Parameters},
    },
    policy::Subject,
};

/// Serves a connection that the kernel side handed over, until it ends. It is a newcomer until it is logged in.
pub async fn serve(
    context: &Context,
    client: TcpStream,
    flow: Flow,
    connect: Connect,
    newcomer: Newcomer,
) {
    let question = recorder::ask(&context.recording.identifier, &flow);
    let registration = context.writers.register(&flow);
    let deadline = Instant::now() + context.startup_timeout;
    let _ = client.set_nodelay(true);
    let address = dial::destination(&flow);
    let destination = context.destinations.at(address).clone();
    let mut route = Route { destination, address, named: None };
    let opened = tokio::select! {
        biased;
        // On the heap for the same reason as the login.
        opened = timeout_at(deadline, Box::pin(open(context, &mut route, client))) => {
            opened.unwrap_or(Err(NotOpened {
                leg: None,
                error: OpeningError::TimedOut(context.startup_timeout),
            }))
        }
        () = context.stop.wait() => Err(NotOpened { leg: None, error: OpeningError::Stopping }),
    };
    let who = question.answered(&flow.opener).await;
    let away = |reason, detail, reply| SentAway { flow: &flow, who: &who, reason, detail, reply };
    let mut opened = match opened {
        Ok(opened) => opened,
        Err(NotOpened { mut leg, error }) => {
            let Some(reason) = error.name() else {
                debug!(error = %chain(&error), "client went before its first packet");
                return connect.failed(Failure::ClientGone);
            };
            let reply = match &error {
                OpeningError::Protocol(error) => error.reply(),
                _ => None,
            };
            let detail = chain(&error);
            let away = away(reason, &detail, reply);
            return Box::pin(away.say(context, connect, leg.as_mut())).await;
        }
    };
    match opened.packet.take() {
        Some(FirstPacket::Startup { minor, parameters }) => {
            let startup = Startup { minor, parameters, deadline, connect, newcomer };
            // In boxes of their own, here and below: a client that says nothing costs what it takes to wait for it, and a session
            // at rest keeps no room for its login.
            let session = run_session(context, opened, route, flow, who, registration, startup);
            Box::pin(session).await;
        }
        Some(FirstPacket::Cancel(request)) => {
            Box::pin(cancel::cancel(context, &flow, &who, &request, connect)).await;
            close(&mut opened.leg).await;
        }
        // A probe: connects, says nothing, closes. The server is not bothered with it.
        None => connect.failed(Failure::SilentProbe),
        Some(other) => {
            let (reason, detail, reply) = unsupported(&other);
            let away = away(reason, &detail, reply);
            Box::pin(away.say(context, connect, Some(&mut opened.leg))).await;
        }
    }
}

/// What a client asked for in its startup packet, and until when it must be served.
struct Startup {
    minor: u16,
    parameters: Parameters,
    deadline: Instant,
    connect: Connect,
    newcomer: Newcomer,
}

async fn run_session(
    context: &Context,
    opened: Opened,
    route: Route,
    flow: Flow,
    who: Arc<Who>,
    registration: Registration,
    startup: Startup,
) {
    let now = Now::read();
    let since = WallNanos::at(BootNanos(flow.connect_boottime_ns), now);
    let tier = context.recording.tier;
    let shown = Shown {
        destination_name: route.destination.settings.name.as_str().into(),
        who: OnceLock::from(who.clone()),
        netns_cookie: flow.opener.netns_cookie,
        state_since: AtomicU64::new(now.wall.0),
        ..Shown::new(context.ids.next(), since, route.address, tier)
    };
    let mut opened = opened;
    let away = |reason, detail, reply| SentAway { flow: &flow, who: &who, reason, detail, reply };
    let Some(entry) = context.registry.enter(shown, context.sessions_max) else {
        let reply = Reply::fatal(*b"53300", "sorry, too many clients already");
        let detail = format!("`agent.sessions_max` is {}", context.sessions_max);
        let away = away("sessions_max", &detail, Some(reply));
        return Box::pin(away.say(context, startup.connect, Some(&mut opened.leg))).await;
    };
    if let Err(error) = context.recording.sink.check_session() {
        let (reply, detail) = (not_recorded(error), error.to_string());
        let away = away("recording_failed", &detail, Some(reply));
        return Box::pin(away.say(context, startup.connect, Some(&mut opened.leg))).await;
    }
    let channel = opened.channel();
    let Opened { mut leg, packet: _, rest, consumed, tls } = opened;
    let Startup { minor, parameters, deadline, connect, newcomer } = startup;
    let settings = &route.destination.settings.clone();
    let hello = recorder::Hello {
        minor,
        parameters: &parameters,
        raw_read: leg.raw_read(),
        destination: settings,
        tls: tls.as_ref().map(|accepted| &accepted.parameters),
        server_name: tls.as_ref().and_then(|accepted| accepted.server_name.as_deref()),
    };
    let role: Box<[u8]> = hello.user().into();
    let mut police = police(context, &flow, &route, &who, &hello);
    let shown = entry.shown.clone();
    let recording = context.recording.clone();
    let recorder = Recorder::new(recording, entry, flow, who.clone(), registration, hello);
    let mut recorder = match recorder {
        Ok(recorder) => recorder.of_connect(connect),
        Err(error) => {
            let (reply, detail) = (not_recorded(error), error.to_string());
            let away = away("recording_failed", &detail, Some(reply));
            return Box::pin(away.say(context, connect, Some(&mut leg))).await;
        }
    };
    let account = route.destination.account(&role).map(|(account, _)| account.clone());
    // An account's login is not for applications that prove nothing, nor for servers of their choice.
    let ours = account.as_ref().is_some_and(|a| a.password.is_some() || a.login != a.role);
    let route = if ours { route.trusted() } else { route };
    let logged_in = {
        let login = account.as_ref().map_or(&*role, |account| account.login.as_bytes());
        let stamp = settings.stamp_application_name.then(|| {
            let own = parameters.value(b"application_name").unwrap_or_default();
            Stamp::new(own, &origin(&who))
        });
        let hello = Hello::new(minor, &parameters, login, stamp);
        let mut packet = Vec::new();
        let written = hello.write(&mut packet);
        let login = Login {
            context,
            route: &route,
            flow: &flow,
            hello: &hello,
            packet: &packet,
            role: &role,
            deadline,
        };
        let attempt = Box::pin(async {
            // Nothing is done for a client of which there is no record.
            let started = recorder.session_start().await.map_err(Ending::NotRecorded)?;
            allowed(settings, &leg, &parameters)?;
            police.admit(&parameters, Now::read()).map_err(|not| Ending::Policy(not.0, not.1))?;
            if written.is_err() {
                let reply = Reply::fatal(*b"08P01", "invalid length of startup packet");
                let detail = "the startup packet is too long with what was added to it";
                return Err(Ending::NotAllowed(detail, reply));
            }
            login.check_failures()?;
            let mut reached = login.reach().await.map_err(Ending::Unreached)?;
            login.record_reached(&mut recorder, &reached);
            login.greet(&mut reached.leg).await.map_err(|error| {
                Ending::Relayed(Ok(super::relay::End::Broken(super::relay::Peer::Server, error)))
            })?;
            let terms = Terms {
                user: role.clone(),
                hello: hello.clone(),
                client_leg: channel,
                client_binding: binding(settings.client.channel_binding),
                server_leg: reached.described.clone(),
                server_binding: binding(settings.server.channel_binding),
                mode: if ours { Mode::Terminate } else { mode(settings.auth.mode) },
                upgrade: if settings.auth.upgrade { Upgrade::Yes } else { Upgrade::No },
                accepted: if ours { Accepted::default() } else { accepted(settings, &role) },
                random: Random {
                    client_nonce: random(),
                    server_nonce: random(),
                    cancel_key: Zeroizing::new(random()),
                    mock_seed: context.mock_seed.clone(),
                },
            };
            let handshake = Handshake::new(terms);
            let logged_in = login.carry_out(handshake, reached, &mut leg, rest, &mut recorder);
            Ok((started, logged_in.await?))
        });
        tokio::select! {
            biased;
            done = timeout_at(deadline, attempt) => {
                done.unwrap_or(Err(Ending::StartupTimeout(context.startup_timeout)))
            }
            () = context.stop.wait() => Err(Ending::Stopped),
            reason = shown.orders.ended_now() => Err(Ending::Killed(reason)),
        }
    };
    let (started, logged_in) = match logged_in {
        Ok(both) => both,
        Err(ending) => {
            let goodbye = recorder.client_said_goodbye();
            let explained = explain(ending, goodbye, recorder.is_ready(), &route, &role);
            context.registry.ended(explained.reason);
            return Box::pin(end(leg, recorder, explained, true, (consumed, 0))).await;
        }
    };
    let LoggedIn {
        server,
        from_client,
        from_server,
        consumed: more,
        answered,
        authenticated,
        recorded,
        cancellable,
    } = logged_in;
    drop(newcomer);
    let consumed = consumed + more;
    let session = Session::new(context.limits, Gate::Hold, consumed, authenticated);
    for (name, value) in recorder.reported() {
        police.parameter(name.as_bytes(), value);
    }
    police.rests();
    let watch = Watch { recorder, police, start: started, login: recorded };
    let mut relay = Relay::new(leg, server, session, watch, &from_client, &from_server);
    let target = cancellable.as_ref().map(|registered| registered.target().clone());
    let watched = Watched { context, shown: &shown, target: target.as_ref() };
    let ended = until_end(&mut relay, &watched).await;
    drop(cancellable);
    let running = ended.is_ours() && shown.is_active();
    let rest = relay.finish();
    let goodbye = rest.recorder.client_said_goodbye();
    let explained = explain(ended, goodbye, rest.recorder.is_ready(), &route, &role);
    let bytes = (consumed + rest.client_bytes, answered + rest.server_bytes);
    let end =
        Box::pin(end(rest.client, rest.recorder, explained, !rest.client_is_mid_message, bytes));
    match target.filter(|_| running) {
        // Servers notice that a client is gone when they next write to it, which may be never.
        Some(target) => drop(tokio::join!(Box::pin(cancel::carry_out(context, &target)), end)),
        None => end.await,
    }
}

/// Tells the client, and records.
async fn end(
    mut client: Leg,
    mut recorder: Recorder,
    explained: Explained,
    may_speak: bool,
    (client_bytes, server_bytes): (u64, u64),
) {
    let Explained { reason, detail, reply, reset } = explained;
    let ended = Ended {
        reason,
        detail: detail.as_deref(),
        sqlstate: reply.as_ref().map(|r| r.sqlstate),
        client_bytes,
        server_bytes,
    };
    recorder.not_authenticated(&ended).await;
    match &reply {
        Some(reply) if may_speak => farewell(&mut client, reply).await,
        // The client sees what it would have seen from the server itself.
        _ if reset => {
            let _ = socket2::SockRef::from(client.tcp()).set_linger(Some(Duration::ZERO));
        }
        _ => close(&mut client).await,
    }
    recorder.end(ended);
}

/// Who decides on the statements of a session.
fn police(
    context: &Context,
    flow: &Flow,
    route: &Route,
    who: &Arc<Who>,
    hello: &recorder::Hello<'_>,
) -> Police {
    let text = |bytes: &[u8]| -> Box<str> { String::from_utf8_lossy(bytes).into() };
    let database = text(hello.database());
    let login = Subject {
        role: text(hello.user()),
        database: database.clone(),
        destination: Some(route.destination.settings.name.as_str().into()),
        application: hello.parameters.value(b"application_name").map(text),
        ..Subject::default()
    };
    let netns_cookie = flow.opener.netns_cookie;
    let whose = Whose { netns_cookie, server: route.address, database };
    Police::new(context.police.clone(), login, whose, who.clone(), Now::read())
}

/// What the configuration does not allow at all.
fn allowed(
    settings: &config::Destination,
    leg: &Leg,
    parameters: &Parameters,
) -> Result<(), Ending> {
    if settings.client.tls == ClientTls::Required && matches!(leg, Leg::Clear(_)) {
        let reply = Reply::fatal(*b"28000", "connection requires TLS");
        let hint = "Connect with TLS, for example sslmode=require.";
        let reply = Reply { hint: Some(hint.into()), ..reply };
        return Err(Ending::NotAllowed("the client connects in clear text", reply));
    }
    if parameters.value(b"user").is_some_and(|user| user.len() > config::ROLE_BYTES_MAX) {
        // Servers cut longer ones, some of them: then it would not be who it says.
        let reply = Reply::fatal(*b"28000", "role name is too long");
        let detail = format!("At most {} bytes.", config::ROLE_BYTES_MAX);
        let reply = Reply { detail: Some(detail.into()), ..reply };
        return Err(Ending::NotAllowed("a role name that servers would cut", reply));
    }
    if let Some(options) = parameters.value(b"options") {
        // What they may set is for policies to say; what cannot be read in full is refused already.
        startup::options(options).map_err(|fault| {
            Ending::Handshake(pg::Error::Bytes { side: pg::error::Side::Client, fault }.into())
        })?;
    }
    if !settings.replication && is_replication(parameters) {
        let reply = Reply::fatal(*b"28000", "replication connections are not allowed");
        let hint = "Ask the administrator of this host to set destination.replication of pgward.";
        let reply = Reply { hint: Some(hint.into()), ..reply };
        return Err(Ending::NotAllowed("a replication connection", reply));
    }
    Ok(())
}

/// Whether it is one for replication, physical or logical: anything but a word for "no" (`ProcessStartupPacket`).
fn is_replication(parameters: &Parameters) -> bool {
    let Some(value) = parameters.value(b"replication") else { return false };
    let value = value.to_ascii_lowercase();
    // What PostgreSQL's `parse_bool` takes for false; what it takes for nothing it refuses itself.
    !(value == b"0"
        || value == b"of"
        || [&b"false"[..], b"no", b"off"]
            .iter()
            .any(|word| !value.is_empty() && word.starts_with(&value) && value != b"o"))
}

/// The process behind a connection, in a few characters.
fn origin(who: &Who) -> String {
    let brief = &who.brief;
    let program = brief.exe.as_deref().and_then(|exe| exe.rsplit('/').next());
    let program = program.unwrap_or(&brief.comm);
    let mut origin: String = program.chars().take(20).collect();
    origin.push_str(&format!("/{}", brief.pid));
    if let Some(container) = &brief.container {
        origin.push('@');
        origin.extend(container.chars().take(20));
    }
    origin
}

pub(super) fn binding(configured: ChannelBinding) -> Binding {
    match configured {
        ChannelBinding::Disable => Binding::Disable,
        ChannelBinding::Prefer => Binding::Prefer,
        ChannelBinding::Require => Binding::Require,
    }
}

fn mode(configured: AuthMode) -> Mode {
    match configured {
        AuthMode::Auto => Mode::Auto,
        AuthMode::Terminate => Mode::Terminate,
        AuthMode::Relay => Mode::Relay,
    }
}

fn accepted(settings: &config::Destination, role: &[u8]) -> Accepted {
    match settings.auth.require {
        AuthRequire::Any => Accepted::ANY,
        AuthRequire::ScramSha256 => {
            let excepted = |method| settings.exception(role, method).is_some();
            let passes = |method| settings.auth.pass.contains(&method);
            Accepted {
                trust: excepted(WeakMethod::Trust),
                cert: excepted(WeakMethod::Cert),
                md5: excepted(WeakMethod::Md5),
                password: excepted(WeakMethod::Password),
                gssapi: passes(PassMethod::Gssapi),
                sspi: passes(PassMethod::Sspi),
                oauthbearer: passes(PassMethod::OauthBearer),
            }
        }
    }
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel's generator is there since boot");
    bytes
}

fn unsupported(packet: &FirstPacket) -> (&'static str, String, Option<Reply>) {
    match packet {
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
        | FirstPacket::DirectTls
        | FirstPacket::SslRequest
        | FirstPacket::GssEncRequest
        | FirstPacket::Cancel(_) => ("unsupported", "not a packet to refuse".into(), None),
    }
}
