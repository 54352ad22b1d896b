//! All maps. Names are those of `pgward_common::maps`; sizes are defaults that the loader may change.

use aya_ebpf::{
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, PerCpuArray, ProgramArray, RingBuf},
};
use pgward_common::{
    AgentTag, COUNTERS as COUNTER_COUNT, Flow, HandoverKey, NAMESPACES_MAX, NetnsState, Settings,
    TARGETS_MAX, TargetKey, Writer, ledger,
};

use crate::sock::{CLONE, NO_PREALLOC, SocketStorage};

#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

#[map]
pub static TARGETS: LpmTrie<TargetKey, u32> = LpmTrie::with_max_entries(TARGETS_MAX, 0);

#[btf_map]
pub static AGENT_SOCKETS: SocketStorage<AgentTag, { NO_PREALLOC | CLONE }> = SocketStorage::new();

#[btf_map]
pub static FLOWS: SocketStorage<Flow, NO_PREALLOC> = SocketStorage::new();

#[btf_map]
pub static WRITERS: SocketStorage<Writer, NO_PREALLOC> = SocketStorage::new();

#[map]
pub static HANDOVER: HashMap<HandoverKey, Flow> = HashMap::with_max_entries(16384, 0);

#[map]
pub static NAMESPACES: HashMap<u64, NetnsState> = HashMap::with_max_entries(NAMESPACES_MAX, 0);

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

#[map]
pub static WRITER_EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

#[map]
pub static LEDGER: Array<u64> = Array::with_max_entries(ledger::LEN, 0);

#[map]
pub static AGENT_ALIVE4: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[map]
pub static AGENT_ALIVE6: ProgramArray = ProgramArray::with_max_entries(1, 0);
