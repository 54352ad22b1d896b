//! Drives a handshake: between the startup packet and the first request.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use pgward_common::Flow;
use secrecy::{ExposeSecret, SecretSlice};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep_until},
};
use tracing::{debug, info};
use zeroize::Zeroizing;

use super::{ending::Ending, random};
use crate::{
    audit::Recorded,
    net::{
        cancels::{Encrypted, Keys as CancelKeys, Registered},
        credentials::{Asked, CredentialsError},
        leg::Leg,
        reach::{self, ReachError, Reached},
        recorder::Recorder,
        relay::{End, Peer},
        route::Route,
        throttle::Verdict,
        worker::Context,
    },
    pg::{
        self,
        handshake::{self, Authenticated, Blame, Event, Handshake, HandshakeError, Hello},
    },
    tls::{Side, TlsError},
};

/// Bytes of one side that are kept while the other is waited for; then no more are read. More than any message of a handshake.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// What a server may still say once it refused, in bytes.
const LAST_WORDS_BYTES_MAX: usize = 64 * 1024;
/// What is left before the deadline for the answer to a failure.
const ANSWER_ROOM: Duration = Duration::from_millis(200);
/// Bytes read at once.
const READ_BYTES: usize = 4096;

/// What a login needs to know of its connection.
pub(super) struct Login<'a> {
    pub(super) context: &'a Context,
    pub(super) route: &'a Route,
    pub(super) flow: &'a Flow,
    pub(super) hello: &'a Hello,
    /// What the server gets of it.
    pub(super) packet: &'a [u8],
    pub(super) role: &'a [u8],
    pub(super) deadline: Instant,
}

/// Failures of the process, and of the role at its server.
impl Login<'_> {
    /// Refuses who failed too often. Asked before the server is bothered, and again before each thing that a client proves
    /// itself by: whoever opened many connections before does not get many guesses.
    pub(super) fn check_failures(&self) -> Result<(), Ending> {
        let (context, now) = (self.context, Instant::now());
        let (tgid, start) = self.process();
        let by_process = context.process_failures.check(&(tgid, start), now);
        let by_role =
            match context.known_logins.has(&(tgid, start, self.route.address, self.role.into())) {
                true => Verdict::Go,
                false => context.role_failures.check(&self.server_role(), now),
            };
        for verdict in [by_process, by_role] {
            if let Verdict::Refused(left) = verdict {
                return Err(Ending::Throttled(left));
            }
        }
        Ok(())
    }

    /// Counts a failure, and waits as long as its answer is to wait: not so long that the deadline would answer.
    async fn failed(&self) {
        let now = Instant::now();
        let by_process = self.context.process_failures.failed(&self.process(), now);
        let by_role = self.context.role_failures.failed(&self.server_role(), now);
        let until = now + by_process.max(by_role);
        sleep_until(until.min(self.deadline.checked_sub(ANSWER_ROOM).unwrap_or(now))).await;
    }

    fn succeeded(&self) {
        let (tgid, start) = self.process();
        self.context.known_logins.add((tgid, start, self.route.address, self.role.into()));
    }

    fn process(&self) -> (u32, u64) {
        (self.flow.opener.tgid, self.flow.opener.start_boottime_ns)
    }

    fn server_role(&self) -> (u64, SocketAddr, Box<[u8]>) {
        (self.flow.opener.netns_cookie, self.route.address, self.role.into())
    }
}

/// A client that is logged in.
pub(super) struct LoggedIn {
    pub(super) server: Leg,
    /// Read from each side, of the session.
    pub(super) from_client: Vec<u8>,
    pub(super) from_server: Vec<u8>,
    /// Bytes of the client's stream in the handshake.
    pub(super) consumed: u64,
    /// Bytes from the server.
    pub(super) answered: u64,
    pub(super) authenticated: Authenticated,
    /// Its login is recorded.
    pub(super) recorded: Recorded,
    /// Lets it be cancelled.
    pub(super) cancellable: Option<Registered>,
}

/// The two sides, and what was read from them and not looked at.
struct Sides<'c> {
    client: &'c mut Leg,
    server: Leg,
    from_client: Zeroizing<Vec<u8>>,
    from_server: Zeroizing<Vec<u8>>,
    /// What a read fills, one for each side. Cleared once, at the end of the handshake.
    read_client: Zeroizing<Vec<u8>>,
    read_server: Zeroizing<Vec<u8>>,
    /// The client sends no more. What it sent ahead is the server's to read, as without us.
    client_closed: bool,
    consumed: u64,
    answered: u64,
    encrypted: Encrypted,
}

impl Login<'_> {
    /// Carries `handshake` out, whose startup packet is with the server that was `reached`.
    pub(super) async fn carry_out(
        &self,
        mut handshake: Handshake,
        reached: Reached,
        client: &mut Leg,
        from_client: Vec<u8>,
        recorder: &mut Recorder,
    ) -> Result<LoggedIn, Ending> {
        let encrypted = reached.encrypted();
        let mut sides = Sides {
            client,
            server: reached.leg,
            from_client: Zeroizing::new(from_client),
            from_server: Zeroizing::new(Vec::new()),
            read_client: Zeroizing::new(vec![0; READ_BYTES]),
            read_server: Zeroizing::new(vec![0; READ_BYTES]),
            client_closed: false,
            consumed: 0,
            answered: 0,
            encrypted,
        };
        let mut account_password = None;
        let mut keys = None;
        let mut recorded = None;
        loop {
            if handshake.wants_client() && !sides.from_client.is_empty() {
                self.check_failures()?;
            }
            let fed = sides.feed(&mut handshake);
            let mut ready = false;
            let mut refused = None;
            let mut wanted = false;
            while let Some(event) = handshake.poll_event() {
                match &event {
                    Event::CredentialsWanted
                    | Event::VerifierStale
                    | Event::KeysWanted { .. }
                    | Event::PasswordWanted
                    | Event::AccountRefused => {
                        // Before anything is waited for, the other side gets what it has to get.
                        sides.flush(&mut handshake).await?;
                        let password = &mut account_password;
                        self.answer(&mut handshake, &event, &mut sides, password, recorder).await?;
                        wanted = true;
                    }
                    Event::BackendKeyData { pid, server_key, client_key } => {
                        keys = Some(CancelKeys {
                            pid: *pid,
                            server_key: server_key.clone(),
                            client_key: client_key.clone(),
                        });
                    }
                    Event::ServerError { sqlstate, blame } => refused = Some((*sqlstate, *blame)),
                    Event::Ready => ready = true,
                    Event::Terminate => {
                        recorder.handshake(event);
                        return Err(Ending::Relayed(Ok(End::ClientClosed)));
                    }
                    Event::Demand(_)
                    | Event::NegotiatedMinor(_)
                    | Event::Authenticated(_)
                    | Event::ParameterStatus { .. } => {}
                }
                recorder.handshake(event);
            }
            if ready {
                recorder.look_at_clocks();
                recorded = Some(recorder.authenticated().await.map_err(Ending::NotRecorded)?);
            }
            // Whoever did not prove itself hears of it in its time.
            if matches!(fed, Err(HandshakeError::Application(_)))
                || matches!(refused, Some((_, Blame::Application)))
            {
                self.failed().await;
            }
            sides.flush(&mut handshake).await?;
            fed.map_err(Ending::Handshake)?;
            if let Some((sqlstate, _)) = refused {
                if sqlstate.is_some_and(|code| code.starts_with(b"28")) {
                    self.asked().forget();
                }
                sides.last_words(&mut handshake).await;
                return Err(Ending::Refused { sqlstate });
            }
            if let Some(recorded) = recorded.take() {
                self.succeeded();
                let authenticated = handshake.finish().expect("it said that it is ready");
                let Sides {
                    server, from_client, from_server, consumed, answered, encrypted, ..
                } = sides;
                let cancellable = keys.map(|keys| {
                    let (session, route) = (recorder.session_id(), self.route.clone());
                    self.context.cancels.register(session, route, *self.flow, encrypted, keys)
                });
                return Ok(LoggedIn {
                    server,
                    from_client: from_client.to_vec(),
                    from_server: from_server.to_vec(),
                    consumed,
                    answered,
                    authenticated,
                    recorded,
                    cancellable,
                });
            }
            if !wanted {
                if sides.client_closed && handshake.wants_client() {
                    return Err(Ending::Relayed(Ok(End::ClientClosed)));
                }
                sides.read().await?;
            }
        }
    }

    /// Does what the handshake asks for.
    async fn answer(
        &self,
        handshake: &mut Handshake,
        event: &Event,
        sides: &mut Sides<'_>,
        password: &mut Option<Arc<SecretSlice<u8>>>,
        recorder: &mut Recorder,
    ) -> Result<(), Ending> {
        let asked = self.asked();
        match event {
            Event::CredentialsWanted => {
                let credentials = asked.find().await.map_err(Ending::NoCredentials)?;
                handshake.handle_credentials(credentials).map_err(Ending::Handshake)
            }
            Event::VerifierStale => {
                let credentials = asked.find_again().await.map_err(Ending::NoCredentials)?;
                handshake.handle_credentials(credentials).map_err(Ending::Handshake)
            }
            Event::KeysWanted { salt, iterations } => {
                *password = self.password().await?;
                let account = self.route.destination.account(self.role);
                let (Some(password), Some((_, secrets))) = (password, account) else {
                    let refusal = handshake::Refusal::AccountWithoutPassword;
                    return Err(Ending::Handshake(refusal.into()));
                };
                let keys = secrets.keys(password, salt, *iterations).await;
                let keys =
                    keys.map_err(|error| Ending::NoCredentials(CredentialsError::Secret(error)))?;
                handshake.handle_keys(&keys);
                Ok(())
            }
            Event::PasswordWanted => {
                *password = self.password().await?;
                let secret = password.as_ref().map(|password| password.expose_secret());
                handshake.handle_password(secret).map_err(Ending::Handshake)
            }
            Event::AccountRefused => {
                self.try_again(handshake, sides, password.take(), recorder).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The server refused the account: its password may have changed since it was read.
    async fn try_again(
        &self,
        handshake: &mut Handshake,
        sides: &mut Sides<'_>,
        refused: Option<Arc<SecretSlice<u8>>>,
        recorder: &mut Recorder,
    ) {
        let account = self.route.destination.account(self.role);
        if let (Some((_, secrets)), Some(refused)) = (account, &refused) {
            secrets.evict_password(refused).await;
        }
        let Ok(reached) = self.reach().await else { return handshake.give_up() };
        info!(role = %self.role.escape_ascii(), "the server refused an account: tried again with its password read anew");
        sides.encrypted = reached.encrypted();
        self.record_reached(recorder, &reached);
        let Reached { leg, described, tls: _ } = reached;
        sides.server = leg;
        sides.from_server.clear();
        match self.greet(&mut sides.server).await {
            Ok(()) => handshake.restart(described, random()),
            Err(error) => {
                debug!(%error, "the second attempt of an account was cut off");
                handshake.give_up();
            }
        }
    }

    async fn password(&self) -> Result<Option<Arc<SecretSlice<u8>>>, Ending> {
        let Some((_, secrets)) = self.route.destination.account(self.role) else { return Ok(None) };
        let password = secrets.password(Clock::now()).await;
        password.map_err(|error| Ending::NoCredentials(CredentialsError::Secret(error)))
    }

    /// Connects to the server.
    pub(super) async fn reach(&self) -> Result<Reached, ReachError> {
        let context = self.context;
        reach::reach(&context.dialer, self.flow, self.route, None, self.deadline).await
    }

    /// What is known of the connection to the server, for the record.
    pub(super) fn record_reached(&self, recorder: &mut Recorder, reached: &Reached) {
        let verified = self.route.destination.settings.server_tls(self.route.address).name();
        let tls = reached.tls.as_ref().map(|tls| (tls, verified));
        recorder.reached(tls, self.hello.login());
    }

    /// Sends the startup packet.
    pub(super) async fn greet(&self, server: &mut Leg) -> std::io::Result<()> {
        write(server, self.packet).await
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            context: self.context,
            route: self.route,
            flow: self.flow,
            role: self.role,
            deadline: self.deadline,
        }
    }
}

impl Sides<'_> {
    /// Gives the handshake what was read, until it takes no more.
    fn feed(&mut self, handshake: &mut Handshake) -> Result<(), handshake::HandshakeError> {
        loop {
            let answered = handshake.handle_backend(&self.from_server)?;
            self.from_server.drain(..answered);
            let consumed = handshake.handle_frontend(&self.from_client)?;
            self.from_client.drain(..consumed);
            self.answered += answered as u64;
            self.consumed += consumed as u64;
            if answered + consumed == 0 {
                return Ok(());
            }
        }
    }

    async fn flush(&mut self, handshake: &mut Handshake) -> Result<(), Ending> {
        let broken = |peer| move |error| Ending::Relayed(Ok(End::Broken(peer, error)));
        let bytes = handshake.for_server();
        if !bytes.is_empty() {
            write(&mut self.server, &bytes).await.map_err(broken(Peer::Server))?;
        }
        let bytes = handshake.for_client();
        if !bytes.is_empty() {
            write(self.client, &bytes).await.map_err(broken(Peer::Client))?;
        }
        Ok(())
    }

    /// Reads more from whichever side has something.
    async fn read(&mut self) -> Result<(), Ending> {
        let room = |buffer: &Vec<u8>| buffer.len() < WAITING_BYTES_MAX;
        tokio::select! {
            biased;
            read = self.server.read(&mut self.read_server), if room(&self.from_server) => match read {
                Ok(0) => Err(Ending::Relayed(Ok(End::ServerClosed))),
                Ok(count) => {
                    self.from_server.extend_from_slice(&self.read_server[..count]);
                    Ok(())
                }
                // In TLS 1.3 a server refuses a certificate of ours, or its lack, only now.
                Err(error) => Err(match TlsError::of_io(Side::Server, &error) {
                    Some(error) => Ending::Unreached(ReachError::Tls(error)),
                    None => Ending::Relayed(Ok(End::Broken(Peer::Server, error))),
                }),
            },
            read = self.client.read(&mut self.read_client),
                if !self.client_closed && room(&self.from_client) => match read
            {
                Ok(0) if self.from_client.is_empty() => Err(Ending::Relayed(Ok(End::ClientClosed))),
                Ok(0) => {
                    self.client_closed = true;
                    Ok(())
                }
                Ok(count) => {
                    self.from_client.extend_from_slice(&self.read_client[..count]);
                    Ok(())
                }
                Err(error) => Err(Ending::Relayed(Ok(End::Broken(Peer::Client, error)))),
            },
            // Neither has room: both wait for the other to be read first.
            else => {
                let limit = pg::error::LimitFault::MessageHeld {
                    tag: self.from_server.first().copied().unwrap_or_default(),
                    found: WAITING_BYTES_MAX as u32,
                    max: WAITING_BYTES_MAX as u32,
                };
                let error = pg::Error::Limit { side: pg::error::Side::Server, limit };
                Err(Ending::Handshake(error.into()))
            }
        }
    }

    /// What the server still says until it closes.
    async fn last_words(&mut self, handshake: &mut Handshake) {
        let mut left = LAST_WORDS_BYTES_MAX;
        let mut chunk = [0_u8; READ_BYTES];
        while let Ok(count @ 1..) = self.server.read(&mut chunk).await {
            left = left.saturating_sub(count);
            if left == 0 || handshake.handle_backend(&chunk[..count]).is_err() {
                return;
            }
            if self.flush(handshake).await.is_err() {
                return;
            }
        }
    }
}

async fn write(leg: &mut Leg, bytes: &[u8]) -> std::io::Result<()> {
    leg.write_all(bytes).await?;
    leg.flush().await
}
