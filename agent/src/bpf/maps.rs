//! Typed handles of the maps, shared by the agent's threads.
#![expect(
    unsafe_code,
    reason = "ring buffer items are read as the plain types that the programs wrote"
)]

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, RingBuf, SkStorage, lpm_trie::Key},
};
use pgward_common::{
    AgentTag, Counter, Event, Flow, HandoverKey, NetnsState, Settings, TargetKey, WriterChanged,
    ledger, maps as names, netns_state, tag_kind,
};
use thiserror::Error;

/// A map operation failed.
#[derive(Debug, Error)]
pub enum MapError {
    /// The object has no such map: the object and the agent are not of one build.
    #[error("the programs have no map `{name}`: object and agent are not of one build")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// The kernel refused.
    #[error("{operation} on map `{name}` failed")]
    Operation {
        /// What was tried.
        operation: &'static str,
        /// The map.
        name: &'static str,
        /// Why not.
        #[source]
        source: aya::maps::MapError,
    },
}

fn failed(
    operation: &'static str,
    name: &'static str,
) -> impl FnOnce(aya::maps::MapError) -> MapError {
    move |source| MapError::Operation { operation, name, source }
}

/// More than the hand-over table has places.
const HAND_OVERS_MAX: usize = 1 << 15;

/// Values of [`Counter`]s, summed over CPUs, by name.
pub type Counters = BTreeMap<&'static str, u64>;

/// All maps but the ring buffers, which have one reader each. Locks are held for one system call.
pub struct Maps {
    settings: Mutex<Array<MapData, Settings>>,
    targets: Mutex<LpmTrie<MapData, TargetKey, u32>>,
    agent_sockets: Mutex<SkStorage<MapData, AgentTag>>,
    flows: SkStorage<MapData, Flow>,
    namespaces: Mutex<HashMap<MapData, u64, NetnsState>>,
    counters: PerCpuArray<MapData, u64>,
    hand_overs: HashMap<MapData, HandoverKey, Flow>,
    ledger: Mutex<Array<MapData, u64>>,
}

impl Maps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            settings: Mutex::new(typed(ebpf, names::SETTINGS)?),
            targets: Mutex::new(typed(ebpf, names::TARGETS)?),
            agent_sockets: Mutex::new(typed(ebpf, names::AGENT_SOCKETS)?),
            flows: typed(ebpf, names::FLOWS)?,
            namespaces: Mutex::new(typed(ebpf, names::NAMESPACES)?),
            counters: typed(ebpf, names::COUNTERS)?,
            hand_overs: typed(ebpf, names::HANDOVER)?,
            ledger: Mutex::new(typed(ebpf, names::LEDGER)?),
        })
    }

    /// Writes the settings that the programs read at each connect. What earlier agents noted there stays.
    pub fn set_settings(&self, settings: Settings) -> Result<(), MapError> {
        self.change_settings(|held| {
            *held = Settings { events_lost_recorded: held.events_lost_recorded, ..settings };
        })
    }

    /// How many lost events agents have recorded so far.
    pub fn events_lost_recorded(&self) -> Result<u64, MapError> {
        let settings =
            locked(&self.settings).get(&0, 0).map_err(failed("lookup", names::SETTINGS))?;
        Ok(settings.events_lost_recorded)
    }

    /// Notes that of the lost events the first `total` are in the log, for this agent's successors.
    pub fn note_events_lost(&self, total: u64) -> Result<(), MapError> {
        self.change_settings(|held| held.events_lost_recorded = total)
    }

    fn change_settings(&self, change: impl FnOnce(&mut Settings)) -> Result<(), MapError> {
        let mut array = locked(&self.settings);
        let mut settings = array.get(&0, 0).map_err(failed("lookup", names::SETTINGS))?;
        change(&mut settings);
        array.set(0, settings, 0).map_err(failed("update", names::SETTINGS))
    }

    /// Makes the trie hold exactly `targets` (prefix bits, key, action). New entries come before stale ones go, so a
    /// destination that is in both sets is intercepted throughout.
    pub fn set_targets(&self, targets: &[(u32, TargetKey, u32)]) -> Result<(), MapError> {
        let mut trie = locked(&self.targets);
        for (bits, key, action) in targets {
            trie.insert(&Key::new(*bits, *key), *action, 0)
                .map_err(failed("update", names::TARGETS))?;
        }
        let held: Vec<_> =
            trie.keys().collect::<Result<_, _>>().map_err(failed("scan", names::TARGETS))?;
        for key in held {
            let (bits, data) = (key.prefix_len(), key.data());
            if !targets.iter().any(|(b, k, _)| *b == bits && *k == data) {
                trie.remove(&key).map_err(failed("delete", names::TARGETS))?;
            }
        }
        Ok(())
    }

    /// Marks a socket as a dial of the agent: the connect hooks let it pass. Call before `connect`.
    pub fn tag_dial(&self, socket: &impl AsRawFd, netns_cookie: u64) -> Result<(), MapError> {
        self.tag(socket, AgentTag { netns_cookie, kind: tag_kind::DIAL, pad: 0 })
    }

    /// Marks a socket as a listener of the agent; what it accepts inherits the mark.
    pub fn tag_listener(&self, socket: &impl AsRawFd, netns_cookie: u64) -> Result<(), MapError> {
        self.tag(socket, AgentTag { netns_cookie, kind: tag_kind::LISTENER, pad: 0 })
    }

    fn tag(&self, socket: &impl AsRawFd, tag: AgentTag) -> Result<(), MapError> {
        locked(&self.agent_sockets)
            .insert(socket, tag, 0)
            .map_err(failed("update", names::AGENT_SOCKETS))
    }

    /// Identity and destination of an accepted socket. `None`: nobody handed it over, or the client took that back: the
    /// connection is not a redirected one.
    pub fn flow(&self, socket: &impl AsRawFd) -> Result<Option<Flow>, MapError> {
        match self.flows.get(socket, 0) {
            Ok(flow) => Ok(Some(flow).filter(|flow| flow.state != 0)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(e) => Err(failed("lookup", names::FLOWS)(e)),
        }
    }

    /// Says that the agent listens in a namespace: held SYNs go.
    pub fn namespace_ready(&self, cookie: u64, port: u16, v6: bool) -> Result<(), MapError> {
        let port = port.to_be_bytes();
        let state = netns_state::READY;
        self.set_namespace(cookie, NetnsState { state, port, v6: v6.into(), ..Default::default() })
    }

    /// Says that the agent can't listen in a namespace: held SYNs stay, connects fail at once with `EHOSTUNREACH`.
    pub fn namespace_refused(&self, cookie: u64) -> Result<(), MapError> {
        let state = netns_state::REFUSED;
        self.set_namespace(cookie, NetnsState { state, ..Default::default() })
    }

    fn set_namespace(&self, cookie: u64, state: NetnsState) -> Result<(), MapError> {
        locked(&self.namespaces)
            .insert(cookie, state, 0)
            .map_err(failed("update", names::NAMESPACES))
    }

    /// Forgets a namespace: the next connect there reports it anew and is held.
    pub fn namespace_forgotten(&self, cookie: u64) -> Result<(), MapError> {
        match locked(&self.namespaces).remove(&cookie) {
            Ok(()) | Err(aya::maps::MapError::KeyNotFound) => Ok(()),
            Err(e) => Err(failed("delete", names::NAMESPACES)(e)),
        }
    }

    /// Cookies of all namespaces that the programs know.
    pub fn namespaces(&self) -> Result<Vec<u64>, MapError> {
        locked(&self.namespaces)
            .keys()
            .collect::<Result<_, _>>()
            .map_err(failed("scan", names::NAMESPACES))
    }

    /// One counter, summed over CPUs.
    pub fn counter(&self, counter: Counter) -> Result<u64, MapError> {
        let values =
            self.counters.get(&(counter as u32), 0).map_err(failed("lookup", names::COUNTERS))?;
        Ok(values.iter().sum())
    }

    /// The last number given to a connect.
    pub fn last_connect(&self) -> Result<u64, MapError> {
        locked(&self.ledger).get(&ledger::LAST, 0).map_err(failed("lookup", names::LEDGER))
    }

    /// What tells this ledger from others. One that has just been made becomes `fresh`, which must not be 0.
    pub fn ledger_id(&self, fresh: u64) -> Result<u64, MapError> {
        let mut array = locked(&self.ledger);
        let held = array.get(&ledger::ID, 0).map_err(failed("lookup", names::LEDGER))?;
        if held != 0 {
            return Ok(held);
        }
        array.set(ledger::ID, fresh, 0).map_err(failed("update", names::LEDGER))?;
        Ok(fresh)
    }

    /// How many hand-overs wait to be taken. A system call for each.
    pub fn hand_overs(&self) -> Result<u64, MapError> {
        // While entries come and go, the walk may begin anew: it is bounded, so that it ends.
        let keys = self.hand_overs.keys().take(HAND_OVERS_MAX);
        let keys: Result<HashSet<HandoverKey>, _> = keys.collect();
        Ok(keys.map_err(failed("scan", names::HANDOVER))?.len() as u64)
    }

    /// All counters.
    pub fn counters(&self) -> Result<Counters, MapError> {
        Counter::ALL.iter().map(|(c, name)| Ok((*name, self.counter(*c)?))).collect()
    }
}

/// Events about connections and namespaces; readable (poll) when there are any.
pub struct Events(RingBuf<MapData>);

impl Events {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        typed(ebpf, names::EVENTS).map(Self)
    }

    /// The next event, if any. An item of another size than ours is skipped: it can't be of this ABI.
    pub fn pop(&mut self) -> Option<Event> {
        pop(&mut self.0)
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Changes of writers. Taking from it costs no system call.
pub struct WriterEvents(RingBuf<MapData>);

impl WriterEvents {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        typed(ebpf, names::WRITER_EVENTS).map(Self)
    }

    /// The next change, if any.
    pub fn pop(&mut self) -> Option<WriterChanged> {
        pop(&mut self.0)
    }
}

fn pop<T: Pod>(ring: &mut RingBuf<MapData>) -> Option<T> {
    loop {
        let item = ring.next()?;
        if item.len() == mem::size_of::<T>() {
            // SAFETY: the item has the size of `T`, and `T: Pod` promises that any bytes are a value.
            return Some(unsafe { item.as_ptr().cast::<T>().read_unaligned() });
        }
    }
}

fn typed<M: TryFrom<Map, Error = aya::maps::MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, MapError> {
    let map = ebpf.take_map(name).ok_or(MapError::Missing { name })?;
    M::try_from(map).map_err(failed("open", name))
}

/// The data behind these locks is a descriptor: a panic elsewhere can't leave it half-changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
