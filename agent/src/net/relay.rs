//! Copies bytes between client and server, through the protocol core.
//!
//! The two directions are independent: each reads only while nothing of its own waits to be sent, so that a slow peer slows
//! its own direction and nothing grows. What passes is what the core released; bytes are forwarded from the buffer that they
//! were read into, which all sessions of a worker share. A session at rest owns no buffer.
//!
//! ```text
//!   read ──► scratch ──► core: how many may go? ──► write
//!                              │ not all, or the peer is slow
//!                              ▼
//!                            held  (start .. start+cleared may go, the rest waits for the core)
//! ```

mod deciding;

use std::{
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    identify::Who,
    leg::Leg,
    police::Police,
    pump::{Pump, Released},
    recorder::{Gate, Recorder},
    worker::with_scratch,
};
use crate::{
    audit::{NotRecorded, Recorded},
    pg::{self, Session},
};
use deciding::Deciding;

/// Something to be waited for, at the side of the data path.
pub(super) type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Bytes read at once; one buffer of this size per worker.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// Answers to a client that is gone, read while what it had sent is still passed on. In bytes.
const DISCARDED_BYTES_MAX: u64 = 1 << 20;

/// The client's side: a stream, and where its bytes lay in the TCP connection below.
pub trait Source: AsyncRead + AsyncWrite + Unpin {
    /// Bytes taken off the socket so far.
    fn raw_read(&self) -> u64;

    /// Offset in what is read here of what the TCP connection carried from `raw` on; `None` when that is not known yet, and
    /// nothing read so far is of it.
    fn plain_at(&mut self, raw: u64) -> Option<u64>;
}

impl Source for Leg {
    fn raw_read(&self) -> u64 {
        Self::raw_read(self)
    }

    fn plain_at(&mut self, raw: u64) -> Option<u64> {
        Self::plain_at(self, raw)
    }
}

/// How a session ended.
#[derive(Debug)]
pub enum End {
    /// The client said goodbye, or closed.
    ClientClosed,
    /// The server closed.
    ServerClosed,
    /// By decision; the client was told.
    Decided,
    /// A socket failed.
    Broken(Peer, io::Error),
}

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The application.
    Client,
    /// The database.
    Server,
}

/// The session must end because of something that is to be told to the client.
#[derive(Debug, Error)]
pub enum RelayError {
    /// A peer broke the protocol.
    #[error(transparent)]
    Protocol(#[from] pg::Error),
    /// No record can be made.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// A fault of ours: something panicked, and the panic's message is in the log of the process.
    #[error("a fault of the agent")]
    Fault,
}

/// A session after its startup packet.
pub struct Relay<C, S> {
    client: C,
    server: S,
    session: Session,
    recorder: Recorder,
    up: Pump,
    down: Pump,
    /// What must be durable before the server gets more.
    go: Gate,
    /// What must be durable before the client gets more.
    answer: Gate,
    /// What was sent or is kept for the client so far ends inside of a message. What was released just before an error is not
    /// among it.
    client_is_mid_message: bool,
    /// Nothing can be written to the client any more. What it had sent before is in our receive buffer, where a server of its
    /// own would have it: it is passed on first.
    client_lost: Option<io::Error>,
    discarded: u64,
    /// The session was ended by decision: the client gets what is said of it, and nothing more is read.
    over: bool,
    /// Identities of new writers being looked up; nothing from the client is looked at meanwhile.
    identifying: Option<Pending<Arc<Who>>>,
    /// Waiting for the log to take what was recorded.
    recording: Option<Pending<Result<(), NotRecorded>>>,
    /// The statement that waits for its decision, and who decides.
    deciding: Deciding,
}

/// Who watches a session.
pub struct Watch {
    /// Records it.
    pub recorder: Recorder,
    /// Decides on its statements.
    pub police: Police,
    /// Proof that its start is recorded.
    pub start: Recorded,
    /// Proof that its login is.
    pub login: Recorded,
}

impl<C, S> Relay<C, S>
where
    C: Source,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// A relay between two connected streams, behind the handshake. `from_client` and `from_server` were read from them already
    /// and belong to the session.
    pub fn new(
        mut client: C,
        server: S,
        session: Session,
        watch: Watch,
        from_client: &[u8],
        from_server: &[u8],
    ) -> Self {
        let Watch { mut recorder, police, start, login } = watch;
        let mut up = Pump { bytes: from_client.len() as u64, ..Pump::default() };
        up.held.extend_from_slice(from_client);
        up.waiting = !from_client.is_empty();
        let mut down = Pump { bytes: from_server.len() as u64, ..Pump::default() };
        down.held.extend_from_slice(from_server);
        down.waiting = !from_server.is_empty();
        // Another process than the opener may have written to it already.
        let identifying = recorder.look_for_writers(&mut client);
        Self {
            client,
            server,
            session,
            recorder,
            up,
            down,
            go: Gate::new(start),
            answer: Gate::new(login),
            client_is_mid_message: false,
            client_lost: None,
            discarded: 0,
            over: false,
            identifying,
            recording: None,
            deciding: Deciding::new(police),
        }
    }

    /// Goes on until both directions wait. The caller polls again when woken.
    ///
    /// A panic is caught here, so that what was sent and not answered still gets its record, as unfinished, and the session its
    /// end. The relay is good for nothing but [`Relay::finish`] then. `AssertUnwindSafe` holds because `finish` needs only what
    /// is whole at any time: the list of statements under way, of which one may be missing; the counts; and whether the client
    /// is inside of a message, which is set behind the write.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, RelayError>> {
        catch_unwind(AssertUnwindSafe(|| with_scratch(|scratch| self.poll_both(cx, scratch))))
            .unwrap_or(Poll::Ready(Err(RelayError::Fault)))
    }

    /// The parts, when it is over: what is to be told to the client, and what is to be recorded.
    pub fn finish(mut self) -> Finished<C> {
        self.recorder.look_at_clocks();
        let now = self.recorder.now();
        self.recorder.sent_until(self.session.frontend_offset() - self.up.unsent_taken());
        self.session.handle_close(now.boot.0);
        while let Some(event) = self.session.poll_event() {
            // The session ends anyway: a failing log can't end it twice.
            let _ = self.event(event, now);
        }
        Finished {
            client: self.client,
            recorder: self.recorder,
            client_bytes: self.up.bytes,
            server_bytes: self.down.bytes,
            client_is_mid_message: self.down.has_unsent() || self.client_is_mid_message,
        }
    }

    /// Whether the session took its first request.
    pub fn is_ready(&self) -> bool {
        self.recorder.is_ready()
    }

    fn poll_both(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<End, RelayError>> {
        self.recorder.look_at_clocks();
        self.renew();
        self.poll_limits(cx)?;
        loop {
            let up = self.poll_up(cx, scratch)?;
            let down = self.poll_down(cx, scratch)?;
            self.recorder.show(&self.session, self.up.bytes, self.down.bytes);
            self.watch_limits(cx);
            match (up, down) {
                (Step::End(end), _) | (_, Step::End(end)) => return Poll::Ready(Ok(end)),
                (Step::Idle, Step::Idle) => return Poll::Pending,
                (Step::Progress, _) | (_, Step::Progress) => {}
            }
        }
    }

    /// Client to server.
    fn poll_up(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Result<Step, RelayError> {
        if self.up.has_unsent() {
            let recorder = &self.recorder;
            let asked = self.go.poll(cx, |ticket, cx| recorder.poll_may_go(ticket, cx));
            let Poll::Ready(recorded) = asked else { return Ok(Step::Idle) };
            let unsent = self.up.unsent(recorded?);
            return Ok(match Pin::new(&mut self.server).poll_write(cx, unsent) {
                Poll::Pending => Step::Idle,
                Poll::Ready(Ok(count)) => {
                    self.up.sent(count);
                    Step::Progress
                }
                // Its last words may still wait to be read: the other direction decides how this ends.
                Poll::Ready(Err(_)) => {
                    self.up =
                        Pump { eof: true, shut: true, bytes: self.up.bytes, ..Pump::default() };
                    Step::Progress
                }
            });
        }
        if self.poll_waits(cx)?.is_pending() || self.poll_deciding(cx).is_pending() {
            return Ok(Step::Idle);
        }
        if self.over {
            return Ok(Step::Idle);
        }
        if self.up.waiting || self.session.frontend_output_waits() || self.deciding.is_due() {
            let held = std::mem::take(&mut self.up.held);
            let released = self.look_up(&held[self.up.start..]);
            self.up.held = held;
            let released = released?;
            let taken = released.taken;
            self.up.release(released);
            let waits = self.identifying.is_some() || self.deciding.is_analysing();
            if taken > 0 || self.up.has_unsent() || self.over || waits {
                return Ok(Step::Progress);
            }
        }
        if self.up.eof {
            return Ok(self.lost().unwrap_or_else(|| self.poll_shut_server(cx)));
        }
        let undecided = self.up.undecided().len();
        if undecided > 0 && undecided >= self.session.frontend_bytes_wanted() {
            return Ok(Step::Idle); // the server owes too many answers: they make room
        }
        let mut buf = ReadBuf::new(scratch);
        match Pin::new(&mut self.client).poll_read(cx, &mut buf) {
            Poll::Pending => Ok(self.lost().unwrap_or(Step::Idle)),
            Poll::Ready(Err(e)) => {
                Ok(self.lost().unwrap_or(Step::End(End::Broken(Peer::Client, e))))
            }
            Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                self.up.eof = true;
                Ok(Step::Progress)
            }
            Poll::Ready(Ok(())) => {
                let count = buf.filled().len();
                self.up.bytes += count as u64;
                self.identifying = self.recorder.look_for_writers(&mut self.client);
                if !self.up.held.is_empty() || self.identifying.is_some() {
                    self.up.held.extend_from_slice(&scratch[..count]);
                    self.up.waiting = true;
                    return Ok(Step::Progress);
                }
                let bytes = &scratch[..count];
                let released = self.look_up(bytes)?;
                if let Some(edited) = released.edited {
                    self.up.edited = edited;
                    self.up.keep(&bytes[released.taken..], 0);
                    return Ok(Step::Progress);
                }
                let released = released.taken;
                let recorder = &self.recorder;
                let asked = self.go.poll(cx, |ticket, cx| recorder.poll_may_go(ticket, cx));
                let written = match (released, asked) {
                    (0, _) | (_, Poll::Pending) => 0,
                    (_, Poll::Ready(recorded)) => {
                        let released = let_go(&bytes[..released], recorded?);
                        match Pin::new(&mut self.server).poll_write(cx, released) {
                            Poll::Ready(Ok(written)) => written,
                            Poll::Pending | Poll::Ready(Err(_)) => 0, // met again at the next attempt
                        }
                    }
                };
                self.up.keep(&bytes[written..], released - written);
                Ok(Step::Progress)
            }
        }
    }

    /// Lets the core look at client bytes, and decides what it asks about.
    fn look_up(&mut self, bytes: &[u8]) -> Result<Released, RelayError> {
        let now = self.recorder.now();
        let mut released = Released::default();
        self.deciding.looked();
        loop {
            let passed = self.session.handle_frontend(now.boot.0, &bytes[released.taken..])?;
            let nothing = passed.is_nothing();
            released.add(bytes, &passed);
            while let Some(event) = self.session.poll_event() {
                self.event(event, now)?;
            }
            let decided = self.decide(now)?;
            if !decided && nothing {
                self.up.waiting = released.taken < bytes.len();
                self.go.close(self.recorder.take_to_go());
                if self.recorder.saturated() {
                    self.recording = Some(self.recorder.taken());
                }
                return Ok(released);
            }
        }
    }

    /// Server to client.
    fn poll_down(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Result<Step, RelayError> {
        if self.down.has_unsent() {
            let recorder = &self.recorder;
            let asked = self.answer.poll(cx, |ticket, cx| recorder.poll_may_answer(ticket, cx));
            let Poll::Ready(recorded) = asked else { return Ok(Step::Idle) };
            let unsent = self.down.unsent(recorded?);
            return Ok(match Pin::new(&mut self.client).poll_write(cx, unsent) {
                Poll::Pending => Step::Idle,
                Poll::Ready(Ok(count)) => {
                    self.down.sent(count);
                    Step::Progress
                }
                Poll::Ready(Err(e)) => {
                    let unsent = self.down.unsent_bytes();
                    self.discarded += unsent as u64;
                    self.down.sent(unsent);
                    self.client_lost.get_or_insert(e);
                    match self.discarded > DISCARDED_BYTES_MAX {
                        true => self.lost().unwrap_or(Step::Progress),
                        false => Step::Progress,
                    }
                }
            });
        }
        if self.down.waiting || self.session.backend_output_waits() {
            // What came with the end of the handshake, or has to be said without the server.
            self.down.waiting = false;
            self.look_down_held()?;
            return Ok(Step::Progress);
        }
        if self.over && !self.client_is_mid_message {
            return Ok(self.lost().unwrap_or(Step::End(End::Decided)));
        }
        if self.down.eof {
            if let Some(end) = self.lost() {
                return Ok(end);
            }
            return Ok(Step::End(match self.recorder.client_said_goodbye() || self.up.eof {
                true => End::ClientClosed,
                false => End::ServerClosed,
            }));
        }
        let mut buf = ReadBuf::new(scratch);
        match Pin::new(&mut self.server).poll_read(cx, &mut buf) {
            Poll::Pending => Ok(Step::Idle),
            Poll::Ready(Err(e)) => Ok(Step::End(End::Broken(Peer::Server, e))),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                self.down.eof = true;
                // What is held is the beginning of a message that never came whole: the client gets it as the server sent
                // it, unless it might not have got the whole.
                if self.session.backend_rest_may_pass() {
                    self.down.cleared = self.down.held.len() - self.down.start;
                }
                Ok(Step::Progress)
            }
            Poll::Ready(Ok(())) => {
                let count = buf.filled().len();
                self.down.bytes += count as u64;
                if !self.down.held.is_empty() {
                    self.down.held.extend_from_slice(&scratch[..count]);
                    self.look_down_held()?;
                    return Ok(Step::Progress);
                }
                let bytes = &scratch[..count];
                let released = self.look_down(bytes)?;
                if let Some(edited) = released.edited {
                    self.down.edited = edited;
                    self.down.keep(&bytes[released.taken..], 0);
                    self.client_is_mid_message = self.session.backend_is_mid_message();
                    return Ok(Step::Progress);
                }
                let released = released.taken;
                let recorder = &self.recorder;
                let asked = self.answer.poll(cx, |ticket, cx| recorder.poll_may_answer(ticket, cx));
                let written = match (released, asked) {
                    (0, _) | (_, Poll::Pending) => 0,
                    (_, Poll::Ready(recorded)) => {
                        let released = let_go(&bytes[..released], recorded?);
                        match Pin::new(&mut self.client).poll_write(cx, released) {
                            Poll::Ready(Ok(written)) => written,
                            Poll::Pending | Poll::Ready(Err(_)) => 0, // met again at the next attempt
                        }
                    }
                };
                self.down.keep(&bytes[written..], released - written);
                self.client_is_mid_message = self.session.backend_is_mid_message();
                Ok(Step::Progress)
            }
        }
    }

    fn look_down_held(&mut self) -> Result<(), RelayError> {
        let held = std::mem::take(&mut self.down.held);
        let released = self.look_down(&held[self.down.start..]);
        self.down.held = held;
        self.down.release(released?);
        self.client_is_mid_message = self.session.backend_is_mid_message();
        Ok(())
    }

    fn look_down(&mut self, bytes: &[u8]) -> Result<Released, RelayError> {
        let now = self.recorder.now();
        let mut released = Released::default();
        loop {
            let passed = self.session.handle_backend(now.boot.0, &bytes[released.taken..])?;
            let nothing = passed.is_nothing();
            released.add(bytes, &passed);
            while let Some(event) = self.session.poll_event() {
                self.event(event, now)?;
            }
            if nothing {
                self.answer.close(self.recorder.take_to_answer());
                return Ok(released);
            }
        }
    }

    /// Identities and the log: nothing from the client is looked at while either is waited for.
    fn poll_waits(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, RelayError> {
        if let Some(identifying) = &mut self.identifying {
            let Poll::Ready(who) = identifying.as_mut().poll(cx) else {
                return Ok(Poll::Pending);
            };
            self.identifying = self.recorder.writer_identified(who, &mut self.client);
            if self.identifying.is_some() {
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
        }
        if let Some(recording) = &mut self.recording {
            let Poll::Ready(result) = recording.as_mut().poll(cx) else {
                return Ok(Poll::Pending);
            };
            self.recording = None;
            result?;
        }
        Ok(Poll::Ready(()))
    }

    /// The end, for a client that was lost before.
    fn lost(&mut self) -> Option<Step> {
        self.client_lost.take().map(|error| Step::End(End::Broken(Peer::Client, error)))
    }

    /// The client will send no more, and all it sent is on its way: say so to the server, once.
    fn poll_shut_server(&mut self, cx: &mut Context<'_>) -> Step {
        if self.up.shut {
            return Step::Idle;
        }
        match Pin::new(&mut self.server).poll_shutdown(cx) {
            Poll::Pending => Step::Idle,
            Poll::Ready(_) => {
                self.up.shut = true;
                Step::Progress
            }
        }
    }
}

/// What may be written, for whoever can show that it is recorded.
fn let_go<'b>(bytes: &'b [u8], _recorded: &Recorded) -> &'b [u8] {
    bytes
}

/// What is left of a relay.
pub struct Finished<C> {
    /// The client's stream.
    pub client: C,
    /// For the last record.
    pub recorder: Recorder,
    /// Bytes read from the client.
    pub client_bytes: u64,
    /// Bytes read from the server.
    pub server_bytes: u64,
    /// Part of a message is on its way to the client: an error message can't be put behind it.
    pub client_is_mid_message: bool,
}

enum Step {
    Progress,
    Idle,
    End(End),
}
