//! The thread that reads the kernel's events: namespaces to open, refusals to record, losses to admit.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
    sync::Arc,
    thread,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pgward_common::{Counter, Event, Flow, event_kind};
use tracing::{debug, warn};

use crate::{
    audit::{
        AllowedUnseen, BootNanos, EventsLost, LostSource, NotRecorded, Now, Record, Recorded,
        Refused, Sink, Stamp, WallNanos,
    },
    bpf::{Events, Maps, ProgramLog},
    net::{
        identify::{Answer, Identifier, Who},
        namespaces::Namespaces,
    },
};

/// Losses are looked for this often, events or not.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Starts the thread; it ends with the process.
pub(super) fn start(
    events: Events,
    log: Option<ProgramLog>,
    maps: Arc<Maps>,
    namespaces: Namespaces,
    identifier: Arc<Identifier>,
    sink: Sink,
) -> io::Result<()> {
    // What was lost before this start was lost to an earlier agent, or to none: it is reported all the same, once.
    let reader = Reader { maps, namespaces, identifier, sink, lost: [0; 2] };
    thread::Builder::new().name("events".into()).spawn(move || reader.run(events, log)).map(drop)
}

struct Reader {
    maps: Arc<Maps>,
    namespaces: Namespaces,
    identifier: Arc<Identifier>,
    sink: Sink,
    lost: [u64; 2],
}

impl Reader {
    fn run(mut self, mut events: Events, mut log: Option<ProgramLog>) {
        let pause = PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::NONE);
        loop {
            while let Some(event) = events.pop() {
                self.event(&event);
            }
            if let Some(log) = &mut log {
                log.flush();
            }
            self.losses();
            let mut waiting = vec![PollFd::new(events.as_fd(), PollFlags::POLLIN)];
            waiting.extend(log.iter().map(|log| PollFd::new(log.as_fd(), PollFlags::POLLIN)));
            if let Err(error) = poll(&mut waiting, pause) {
                debug!(%error, "poll was interrupted");
            }
        }
    }

    fn event(&self, event: &Event) {
        let flow = &event.flow;
        match event.header.kind {
            event_kind::NAMESPACE_SEEN => {
                let actor = &flow.opener;
                self.namespaces.open(actor.netns_cookie, actor.tgid, actor.tid);
            }
            event_kind::CONNECT_REFUSED => {
                let reason = Counter::ALL
                    .iter()
                    .find(|(counter, _)| *counter as u32 == event.header.reason)
                    .map_or("unknown", |(_, name)| name);
                self.refused(reason, event);
            }
            event_kind::ABANDONED => self.refused("abandoned", event),
            event_kind::ALLOWED_UNSEEN => {
                let who = self.who(flow);
                let now = Now::read();
                let record = AllowedUnseen {
                    actor: Some(&who.full),
                    destination: Some(destination(flow)),
                    since: Some(WallNanos::at(BootNanos(event.header.boottime_ns), now)),
                    count: 1,
                };
                self.record(now, &record);
            }
            other => warn!(kind = other, "an event of an unknown kind"),
        }
    }

    fn refused(&self, reason: &str, event: &Event) {
        let who = self.who(&event.flow);
        let detail = match reason {
            "abandoned" => Some("closed before the agent took it over"),
            _ => None,
        };
        let record = Refused {
            reason,
            detail,
            actor: Some(&who.full),
            destination: Some(destination(&event.flow)),
            count: 1,
        };
        self.record(Now::read(), &record);
    }

    fn who(&self, flow: &Flow) -> Arc<Who> {
        match self.identifier.ask(flow.opener) {
            Answer::Known(who) => who,
            later @ Answer::Later(_) => later.answered_blocking(&flow.opener),
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
                self.record(Now::read(), &record);
            }
        }
    }

    fn record<'r>(&self, now: Now, record: impl Into<Record<'r>>) {
        let recorded: Result<Recorded, NotRecorded> = self.sink.record(&Stamp::agent(now), record);
        if let Err(error) = recorded {
            warn!(%error, "a kernel event was not recorded");
        }
    }
}

fn destination(flow: &Flow) -> SocketAddr {
    let ip: IpAddr = Ipv6Addr::from(flow.destination).to_canonical();
    SocketAddr::new(ip, u16::from_be_bytes(flow.destination_port))
}
