//! Who writes: an event whenever another process than the last one sends on a redirected socket.
//!
//! T1: `BPF_SOCK_OPS_TSTAMP_SENDMSG_CB` (Linux 6.15), only on sockets that we opted in; runs in the writer's context where
//! transmit timestamps are taken, before the last byte is pushed.
//! T2: `tp_btf/tcp_sendmsg_locked` (6.16), on every TCP send of the host, filtered by socket storage first; runs strictly
//! before the bytes and knows the exact offset.
//! Both run under the socket lock, so a change is visible to the agent before the bytes that it covers.
//! Read and write `WRITERS`; read `FLOWS`; write `WRITER_EVENTS`, `COUNTERS`.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_ops},
    helpers::generated::bpf_skc_to_tcp_sock,
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use pgward_common::{Counter, Writer, WriterChanged};

use crate::{
    maps::{FLOWS, WRITER_EVENTS, WRITERS},
    report::{count, now},
    sock::ctx_read,
    task::{current, fill_actor, is_kernel_thread, member, offsets},
};

#[btf_tracepoint(function = "tcp_sendmsg_locked")]
pub fn sendmsg_locked(ctx: BtfTracePointContext) -> i32 {
    let sk: *mut c_void = ctx.arg::<*const c_void>(0).cast_mut();
    let writer = WRITERS.get(sk);
    if writer.is_null() {
        return 0;
    }
    let now_writing = current();
    // SAFETY: a live map value.
    if unsafe { same(writer, &now_writing) } {
        return 0;
    }
    let seq = write_seq(sk);
    changed(sk, writer, &now_writing, seq, 2);
    0
}

/// The T1 callback. The end of the data is `write_seq`; what is in the last buffer may in part be older, so the start that
/// is reported is an estimate.
#[inline(always)]
pub fn on_timestamp(ops: *mut bpf_sock_ops, sk: *mut bpf_sock) {
    let writer = WRITERS.get(sk);
    if writer.is_null() {
        return;
    }
    let now_writing = current();
    // SAFETY: a live map value.
    if unsafe { same(writer, &now_writing) } {
        return;
    }
    let seq = write_seq(sk.cast()).wrapping_sub(ctx_read!(ops, skb_len));
    changed(sk.cast(), writer, &now_writing, seq, 1);
}

/// Whether `writer` is the process in `other`.
#[inline(always)]
unsafe fn same(writer: *const Writer, other: &Writer) -> bool {
    // SAFETY: by contract a live map value.
    unsafe {
        (*writer).tgid == other.tgid
            && (*writer).start_boottime_ns == other.start_boottime_ns
            && (*writer).exec_id == other.exec_id
    }
}

#[inline(always)]
fn changed(sk: *mut c_void, writer: *mut Writer, now_writing: &Writer, seq: u32, tier: u32) {
    // Kernel threads finish what a process began: they are no writers.
    if is_kernel_thread() {
        return;
    }
    let flow = FLOWS.get(sk);
    if flow.is_null() {
        return;
    }
    let Some(mut entry) = WRITER_EVENTS.reserve::<WriterChanged>(0) else {
        count(Counter::WriterEventsLost);
        return; // the stored writer stays: the next send of this process reports again
    };
    let event = entry.as_mut_ptr();
    // SAFETY: a ring buffer entry of this size, written in full; live map values; the socket is locked.
    unsafe {
        (*event).cookie = (*flow).cookie;
        fill_actor(&raw mut (*event).actor, (*flow).opener.netns_cookie);
        (*event).seq = seq;
        (*event).tier = tier;
        (*event).boottime_ns = now();
        (*writer).start_boottime_ns = now_writing.start_boottime_ns;
        (*writer).exec_id = now_writing.exec_id;
        (*writer).tgid = now_writing.tgid;
        (*writer).changes += 1;
    }
    entry.submit(0);
    count(Counter::WriterChanged);
}

/// Sequence number of the next byte to be written, 0 where the kernel does not tell.
#[inline(always)]
fn write_seq(sk: *mut c_void) -> u32 {
    let o = offsets();
    if o.tcp_write_seq == 0 {
        return 0;
    }
    // SAFETY: a socket pointer that the verifier knows; the helper gives null for anything but TCP.
    unsafe {
        let tcp: *mut c_void = bpf_skc_to_tcp_sock(sk).cast();
        if tcp.is_null() { 0 } else { member(tcp, o.tcp_write_seq) }
    }
}
