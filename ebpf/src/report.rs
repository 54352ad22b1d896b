//! Counters and events to the agent.

use core::mem::size_of;

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use pgward_common::{Counter, Event, EventHeader, Flow, ledger};

use crate::{
    atomic,
    maps::{COUNTERS, EVENTS, LEDGER},
    task::fill_actor,
};

/// Adds one, atomically: a program may be interrupted by another on its CPU, and the ledger's sums must close.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a live map value of this CPU.
        unsafe { atomic::add(value, 1) };
    }
}

/// Counts a connect toward an intercepted destination and gives it its number, from 1 without gaps. To be called once on each
/// way to a verdict. One value for all CPUs (BPF atomics with a result, Linux 5.12): a connect costs microseconds.
#[inline(always)]
pub fn numbered() -> u64 {
    count(Counter::ConnectSeen);
    match LEDGER.get_ptr_mut(ledger::LAST) {
        // SAFETY: a live map value.
        Some(last) => 1 + unsafe { atomic::fetch_add(last, 1) },
        None => 0, // an array has all of its entries; the verifier wants the question
    }
}

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without pointers.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Reports an event about a connection that has no stored flow: only the caller and, if given, the destination are known.
/// False when it was lost, which is counted.
#[inline(always)]
pub fn report_caller(
    kind: u32,
    reason: u32,
    netns: u64,
    number: u64,
    destination: Option<([u8; 16], [u8; 2], u8)>,
) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        count(Counter::EventsLost);
        return false;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: a ring buffer entry of this size, written in full.
    unsafe {
        zero(event);
        (*event).header = EventHeader { kind, reason, boottime_ns: now() };
        fill_actor(&raw mut (*event).flow.opener, netns);
        (*event).flow.number = number;
        if let Some((address, port, family)) = destination {
            (*event).flow.destination = address;
            (*event).flow.destination_port = port;
            (*event).flow.family = family;
        }
    }
    entry.submit(0);
    true
}

/// Reports an event about a stored flow. False when it was lost, which is counted.
///
/// # Safety
///
/// `flow` must be valid for reads.
#[inline(always)]
pub unsafe fn report_flow(kind: u32, reason: u32, flow: *const Flow) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        count(Counter::EventsLost);
        return false;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: as above; `flow` is valid by contract.
    unsafe {
        (*event).header = EventHeader { kind, reason, boottime_ns: now() };
        copy_flow(&raw mut (*event).flow, flow);
    }
    entry.submit(0);
    true
}

/// Copies a flow word by word: a `memcpy` call is no option for the verifier.
///
/// # Safety
///
/// Both pointers must be valid and must not overlap.
#[inline(always)]
pub unsafe fn copy_flow(to: *mut Flow, from: *const Flow) {
    const WORDS: usize = size_of::<Flow>() / 8;
    let (to, from) = (to.cast::<u64>(), from.cast::<u64>());
    let mut i = 0;
    while i < WORDS {
        // SAFETY: inside both values, alignment 8.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
        i += 1;
    }
}

/// Zeroes an event word by word.
#[inline(always)]
unsafe fn zero(event: *mut Event) {
    const WORDS: usize = size_of::<Event>() / 8;
    let to = event.cast::<u64>();
    let mut i = 0;
    while i < WORDS {
        // SAFETY: inside the value, alignment 8.
        unsafe { to.add(i).write_volatile(0) };
        i += 1;
    }
}
