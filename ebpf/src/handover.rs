//! `sock_ops`: carries the identity from the client socket to the accepted one, shortens the SYN timer of held connections,
//! and serves the transmit-timestamp callback of tier T1.
//!
//! Hook: `BPF_CGROUP_SOCK_OPS` (Linux 4.13; socket storage 5.2; transmit timestamps 6.15).
//! Reads `AGENT_SOCKETS`, `NAMESPACES`, `SETTINGS`; writes `FLOWS`, `HANDOVER`, `COUNTERS` and, through [`crate::writer`],
//! `WRITERS` and `WRITER_EVENTS`.

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_ops},
    helpers::generated::bpf_setsockopt,
    macros::sock_ops,
    programs::SockOpsContext,
};
use pgward_common::{Counter, Flow, HandoverKey, flow_state, netns_state, tag_kind};

use crate::{
    maps::{AGENT_SOCKETS, FLOWS, HANDOVER, NAMESPACES, SETTINGS},
    report::{copy_flow, count},
    sock::{bytes, ctx_read, ctx_write, mapped},
    socket::key_of,
    task, writer,
};

const BPF_SOCK_OPS_TIMEOUT_INIT: u32 = 1;
const BPF_SOCK_OPS_TCP_CONNECT_CB: u32 = 3;
const BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB: u32 = 4;
const BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB: u32 = 5;
const BPF_SOCK_OPS_TSTAMP_SENDMSG_CB: u32 = 20;

const AF_INET: u32 = 2;
const SOL_SOCKET: i32 = 1;
const SK_BPF_CB_FLAGS: i32 = 1009;
const SK_BPF_CB_TX_TIMESTAMPING: u32 = 1;

// Not named after its section: the object file would then hold two symbols of one name.
#[sock_ops]
pub fn sock_ops_events(ctx: SockOpsContext) -> u32 {
    let ops = ctx.ops;
    let sk = socket(ops);
    if sk.is_null() {
        return 1;
    }
    match ctx_read!(ops, op) {
        BPF_SOCK_OPS_TIMEOUT_INIT => syn_timer(ops, sk),
        BPF_SOCK_OPS_TCP_CONNECT_CB => hand_over(ops, sk),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => client_established(sk),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => take_over(ops, sk),
        BPF_SOCK_OPS_TSTAMP_SENDMSG_CB if task::offsets().have_tx_timestamp != 0 => {
            writer::on_timestamp(ops, sk);
        }
        _ => {}
    }
    1
}

/// A held SYN is retried soon, so that the first connect of a namespace does not cost a second.
#[inline(always)]
fn syn_timer(ops: *mut bpf_sock_ops, sk: *mut bpf_sock) {
    let flow = redirected(sk);
    if flow.is_null() {
        return;
    }
    // SAFETY: a live map value.
    let netns = unsafe { (*flow).opener.netns_cookie };
    let ready = NAMESPACES.get_ptr(netns).is_some_and(|state| {
        // SAFETY: a live map value.
        unsafe { (*state).state == netns_state::READY }
    });
    if !ready
        && let Some(settings) = SETTINGS.get(0)
        && settings.hold_syn_jiffies != 0
    {
        ctx_write!(ops, settings.hold_syn_jiffies, __bindgen_anon_1.reply);
    }
}

/// The client's port is chosen and the SYN not yet sent: the moment to leave the identity where the handshake will find it.
#[inline(always)]
fn hand_over(ops: *mut bpf_sock_ops, sk: *mut bpf_sock) {
    let flow = redirected(sk);
    if flow.is_null() {
        return;
    }
    let (address, port) = local(ops);
    // SAFETY: a live map value; the socket is locked.
    let key = unsafe {
        (*flow).source = address;
        (*flow).source_port = port;
        (*flow).state = flow_state::HANDED_OVER;
        key_of(flow)
    };
    count(Counter::SynMade);
    // Two sockets with one local address and port, sent to different ports of the agent: the older one has waited for a
    // listener that is gone.
    if HANDOVER.remove(key).is_ok() {
        count(Counter::HandoverDisplaced);
    }
    // By reference: the kernel copies from the map value, and our stack stays small.
    // SAFETY: as above.
    let value: &Flow = unsafe { &*flow };
    if HANDOVER.insert(key, value, 0).is_err() {
        count(Counter::HandoverFull);
        // SAFETY: as above.
        unsafe { (*flow).state = flow_state::UNKEPT };
    }
    if task::offsets().have_tx_timestamp != 0
        && SETTINGS.get(0).is_some_and(|settings| settings.tx_timestamp != 0)
    {
        let mut flags = SK_BPF_CB_TX_TIMESTAMPING;
        // SAFETY: the option value lives on our stack. A failure leaves the lower tier, which records name.
        unsafe {
            bpf_setsockopt(ops.cast(), SOL_SOCKET, SK_BPF_CB_FLAGS, (&raw mut flags).cast(), 4)
        };
    }
}

#[inline(always)]
fn client_established(sk: *mut bpf_sock) {
    let flow = redirected(sk);
    if !flow.is_null() {
        // SAFETY: a live map value.
        unsafe {
            if (*flow).state == flow_state::HANDED_OVER {
                (*flow).state = flow_state::ESTABLISHED;
            }
        }
    }
}

/// A child of our listener (it inherited the tag) takes the identity that its peer left.
#[inline(always)]
fn take_over(ops: *mut bpf_sock_ops, sk: *mut bpf_sock) {
    let tag = AGENT_SOCKETS.get(sk);
    if tag.is_null() {
        return;
    }
    // SAFETY: a live map value.
    let tag = unsafe { *tag };
    if tag.kind != tag_kind::LISTENER {
        return;
    }
    let (address, port) = remote(ops);
    let key = HandoverKey { netns_cookie: tag.netns_cookie, address, port, pad: [0; 6] };
    let Some(waiting) = HANDOVER.get_ptr(key) else {
        count(Counter::HandoverMissing);
        return;
    };
    let flow = FLOWS.get_or_create(sk);
    if flow.is_null() {
        if HANDOVER.remove(key).is_ok() {
            count(Counter::HandoverUnkept);
        }
        return;
    }
    // SAFETY: live map values. The sequence number is that of the client's first byte: our listener takes no SYN data.
    unsafe {
        copy_flow(flow, waiting);
        (*flow).state = flow_state::TAKEN;
        (*flow).first_seq = ctx_read!(ops, rcv_nxt);
    }
    if HANDOVER.remove(key).is_ok() {
        count(Counter::HandedOver);
    } else {
        // The client's socket was closed meanwhile and took it back, which is counted: what we hold says nothing.
        // SAFETY: as above.
        unsafe { (*flow).state = 0 };
        count(Counter::HandoverMissing);
    }
}

/// The live flow of a client socket, else null.
#[inline(always)]
fn redirected(sk: *mut bpf_sock) -> *mut Flow {
    let flow = FLOWS.get(sk);
    // SAFETY: a live map value.
    if flow.is_null() || unsafe { (*flow).state } == 0 {
        return core::ptr::null_mut();
    }
    flow
}

#[inline(always)]
fn socket(ops: *mut bpf_sock_ops) -> *mut bpf_sock {
    ctx_read!(ops, __bindgen_anon_2.sk)
}

/// Local address and port; the context holds the port in host order.
#[inline(always)]
fn local(ops: *mut bpf_sock_ops) -> ([u8; 16], [u8; 2]) {
    // Every field is read before the family is looked at: the compiler would otherwise join the two loads into one through a
    // computed context pointer, which the verifier refuses.
    let v4 = ctx_read!(ops, local_ip4);
    let v6 = [
        ctx_read!(ops, local_ip6[0]),
        ctx_read!(ops, local_ip6[1]),
        ctx_read!(ops, local_ip6[2]),
        ctx_read!(ops, local_ip6[3]),
    ];
    (address(ops, v4, v6), (ctx_read!(ops, local_port) as u16).to_be_bytes())
}

/// Remote address and port; the context holds the port as a 32-bit number in network order.
#[inline(always)]
fn remote(ops: *mut bpf_sock_ops) -> ([u8; 16], [u8; 2]) {
    let v4 = ctx_read!(ops, remote_ip4);
    let v6 = [
        ctx_read!(ops, remote_ip6[0]),
        ctx_read!(ops, remote_ip6[1]),
        ctx_read!(ops, remote_ip6[2]),
        ctx_read!(ops, remote_ip6[3]),
    ];
    let port = u32::from_be(ctx_read!(ops, remote_port)) as u16;
    (address(ops, v4, v6), port.to_be_bytes())
}

#[inline(always)]
fn address(ops: *mut bpf_sock_ops, v4: u32, v6: [u32; 4]) -> [u8; 16] {
    if ctx_read!(ops, family) == AF_INET { mapped(v4) } else { bytes(v6) }
}
