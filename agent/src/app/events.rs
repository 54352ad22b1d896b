//! The threads that read the kernel's events: one opens namespaces and admits losses, the other records refusals.
//!
//! Recording needs the process behind an event, which may take as long as reading its program from a slow disk; SYNs are
//! held meanwhile, so the first thread never waits for that while the second has room.

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pgward_common::{Actor, Counter, Event, event_kind};
use tracing::{debug, error, warn};

use super::coverage::Emit;
use crate::{
    audit::{
        AllowedUnseen, BootNanos, EventsLost, LostSource, Now, Record, Sink, Stamp, WallNanos,
        ledger::{Hooks, HooksAction, LedgerRecord, Program},
    },
    bpf::{Events, Links, Maps, PinFolder, ProgramLog},
    net::{
        dial,
        identify::{Identifier, Who},
        namespaces::Namespaces,
        refusals::{Refusal, Refusals, WINDOW},
    },
};

/// Losses are looked for this often, events or not.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events waiting to be recorded; beyond, they wait in the ring buffer, which outlives the agent as this queue does not.
const TO_RECORD_MAX: usize = 256;

/// Starts the threads; they end with the process.
pub(super) fn start(
    events: Events,
    log: Option<ProgramLog>,
    attached: Attached,
    maps: Arc<Maps>,
    namespaces: Namespaces,
    clerk: Clerk,
) -> io::Result<()> {
    let (to_record, waiting) = sync_channel(TO_RECORD_MAX);
    let sink = clerk.sink.clone();
    thread::Builder::new().name("refusals".into()).spawn(move || clerk.run(&waiting))?;
    // Events lost while no agent ran are recorded now, those that an earlier one recorded are not. Changes of writer were lost
    // to sessions of an earlier agent, which said so.
    let lost = [maps.events_lost_recorded(), maps.counter(Counter::WriterEventsLost)]
        .map(|count| count.unwrap_or(0));
    let reader = Reader { maps, namespaces, to_record, sink, lost, attached };
    thread::Builder::new().name("events".into()).spawn(move || reader.run(events, log)).map(drop)
}

struct Reader {
    maps: Arc<Maps>,
    namespaces: Namespaces,
    to_record: SyncSender<Event>,
    sink: Sink,
    /// Losses recorded: of events, of changes of writer.
    lost: [u64; 2],
    attached: Attached,
}

/// The hooks, as they were attached.
pub(super) struct Attached {
    links: Option<Links>,
    pins: PinFolder,
    cgroup: String,
    unpinned: bool,
    emit: Emit,
}

impl Attached {
    /// Says that they are.
    pub(super) fn new(links: Links, pins: PinFolder, cgroup: String, emit: Emit) -> Self {
        let attached = Self { links: Some(links), pins, cgroup, unpinned: false, emit };
        attached.say(HooksAction::Attached, None, None);
        attached
    }

    /// Hooks that somebody detached see nothing any more, and those whose pins are gone will end with this agent: that is
    /// said, once.
    fn look(&mut self) {
        let Some(links) = &self.links else { return };
        let unpinned = links.unpinned(&self.pins);
        if let Some(program) = links.detached() {
            error!(program, "the programs were detached: connections pass unseen from here on");
            let how = match unpinned {
                Some(_) => "with their pins, as `pgward detach` does",
                None => "by force, their pins are left",
            };
            self.say(HooksAction::Detached, Some(program), Some(how));
            self.links = None;
        } else if let Some(program) = unpinned.filter(|_| !self.unpinned) {
            error!(program, "the programs' pins were removed: they will go with this agent");
            self.unpinned = true;
            self.say(HooksAction::Unpinned, Some(program), None);
        }
    }

    /// Of one program, or of all.
    fn say(&self, action: HooksAction, program: Option<&str>, detail: Option<&'static str>) {
        let programs = self.links.as_ref().map(Links::programs).unwrap_or_default();
        let meant = |(name, _): &(&str, u32)| program.is_none_or(|program| program == *name);
        let programs = programs.into_iter().filter(meant);
        let hooks = Hooks {
            action,
            programs: programs.map(|(name, id)| Program { name, id }).collect(),
            cgroup: self.cgroup.clone(),
            detail: detail.map(Into::into),
        };
        (self.emit)(LedgerRecord::Hooks(hooks));
    }
}

/// Records what happened to connections that are no sessions.
pub(super) struct Clerk {
    pub(super) identifier: Arc<Identifier>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) sink: Sink,
}

impl Reader {
    fn run(mut self, mut events: Events, mut log: Option<ProgramLog>) {
        let pause = PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::NONE);
        loop {
            while let Some(event) = events.pop() {
                self.event(event);
            }
            if let Some(log) = &mut log {
                log.flush();
            }
            self.losses();
            self.attached.look();
            let mut waiting = vec![PollFd::new(events.as_fd(), PollFlags::POLLIN)];
            waiting.extend(log.iter().map(|log| PollFd::new(log.as_fd(), PollFlags::POLLIN)));
            if let Err(error) = poll(&mut waiting, pause) {
                debug!(%error, "poll was interrupted");
            }
        }
    }

    fn event(&self, event: Event) {
        if event.header.kind == event_kind::NAMESPACE_SEEN {
            let actor = &event.flow.opener;
            self.namespaces.open(actor.netns_cookie, actor.tgid, actor.tid);
        } else if self.to_record.send(event).is_err() {
            warn!(
                kind = event.header.kind,
                "a kernel event was not recorded: its thread has ended"
            );
        }
    }

    fn losses(&mut self) {
        let sources = [
            (Counter::EventsLost, LostSource::KernelEvents),
            (Counter::WriterEventsLost, LostSource::WriterEvents),
        ];
        for (index, (counter, source)) in sources.into_iter().enumerate() {
            let Ok(total) = self.maps.counter(counter) else { continue };
            let before = std::mem::replace(&mut self.lost[index], total);
            if total > before {
                let record = EventsLost {
                    source,
                    count: total - before,
                    since: None,
                    detail: Some("the ring buffer was full"),
                };
                record_event(&self.sink, Now::read(), &record);
                // Between the record and this note an end would make the next agent tell them again: better than never.
                if counter == Counter::EventsLost
                    && let Err(error) = self.maps.note_events_lost(total)
                {
                    warn!(%error, "cannot note what was recorded as lost");
                }
            }
        }
    }
}

impl Clerk {
    fn run(self, events: &Receiver<Event>) {
        loop {
            match events.recv_timeout(WINDOW) {
                Ok(event) => self.event(&event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.refusals.flush();
        }
    }

    fn event(&self, event: &Event) {
        let flow = &event.flow;
        match event.header.kind {
            event_kind::CONNECT_REFUSED => {
                debug!(connect = flow.number, reason = reason(event), "refused in the kernel");
                self.refused(None, event);
            }
            event_kind::ABANDONED => {
                debug!(connect = flow.number, reason = reason(event), "failed in the kernel");
                self.refused(Some("closed before the agent took it over"), event);
            }
            event_kind::ALLOWED_UNSEEN => {
                debug!(connect = flow.number, "allowed unseen");
                let who = self.who(&flow.opener);
                let now = Now::read();
                let record = AllowedUnseen {
                    actor: Some(&who.full),
                    destination: Some(dial::destination(flow)),
                    since: Some(WallNanos::at(BootNanos(event.header.boottime_ns), now)),
                    count: 1,
                    connect: None,
                };
                record_event(&self.sink, now, &record);
            }
            other => warn!(kind = other, "an event of an unknown kind"),
        }
    }

    fn refused(&self, detail: Option<&str>, event: &Event) {
        let refusal = Refusal {
            reason: reason(event),
            connect: Some(event.flow.number),
            detail: detail.map(str::to_owned),
            actor: Some(event.flow.opener),
            destination: Some(dial::destination(&event.flow)),
            sqlstate: None,
        };
        self.refusals.add(refusal, |actor| self.who(actor));
    }

    fn who(&self, actor: &Actor) -> Arc<Who> {
        self.identifier.ask(*actor).answered_blocking(actor)
    }
}

/// Name of the counter that an event is counted by.
fn reason(event: &Event) -> &'static str {
    let named = Counter::ALL.iter().find(|(counter, _)| *counter as u32 == event.header.reason);
    named.map_or("unknown", |(_, name)| name)
}

fn record_event<'r>(sink: &Sink, now: Now, record: impl Into<Record<'r>>) {
    if let Err(error) = sink.record(&Stamp::agent(now), record) {
        warn!(%error, "a kernel event was not recorded");
    }
}
