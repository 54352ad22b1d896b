//! Counters and events to the agent.

use core::mem::size_of;

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use pgward_common::{Counter, Event, EventHeader, Flow};

use crate::{
    maps::{COUNTERS, EVENTS},
    task::fill_actor,
};

/// Adds one. Per CPU, so a lost update needs a preemption between load and store on the same CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a live map value of this CPU.
        unsafe { *value += 1 };
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
pub unsafe fn report_flow(kind: u32, flow: *const Flow) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        count(Counter::EventsLost);
        return false;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: as above; `flow` is valid by contract.
    unsafe {
        (*event).header = EventHeader { kind, reason: 0, boottime_ns: now() };
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
