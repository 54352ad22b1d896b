//! `sock_create` and `sock_release`: the ends of a socket's life.
//!
//! Hooks: `BPF_CGROUP_INET_SOCK_CREATE` (Linux 4.10, namespace cookie 5.7) and `BPF_CGROUP_INET_SOCK_RELEASE` (5.9).
//! Read and write `FLOWS`, `HANDOVER`, `NAMESPACES`, `SETTINGS`, `EVENTS`, `COUNTERS`.

use aya_ebpf::{
    bindings::bpf_sock, helpers::generated::bpf_get_netns_cookie, macros::cgroup_sock,
    programs::SockContext,
};
use pgward_common::{Counter, Flow, HandoverKey, event_kind, flow_state};

use crate::{
    connect::note_namespace,
    maps::{FLOWS, HANDOVER, NAMESPACES, SETTINGS},
    report::{count, report_flow},
    sock::{ctx_read, set_errno},
};

const PASS: i32 = 1;
const REFUSE: i32 = 0;

const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;
const EPROTONOSUPPORT: i32 = 93;

/// Refuses MPTCP, whose subflows carry other cookies than the socket that the application holds, so that clients fall back to
/// TCP; and reports a namespace at the first TCP socket made there, which is earlier than its first connect.
#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    let protocol = ctx_read!(ctx.sock, protocol);
    if protocol == IPPROTO_MPTCP {
        count(Counter::MptcpRefused);
        set_errno(EPROTONOSUPPORT);
        return REFUSE;
    }
    if protocol == IPPROTO_TCP && ctx_read!(ctx.sock, type_) == SOCK_STREAM {
        // SAFETY: the context that the kernel passed.
        let netns = unsafe { bpf_get_netns_cookie(ctx.sock.cast()) };
        if NAMESPACES.get_ptr(netns).is_none()
            && let Some(settings) = SETTINGS.get(0)
        {
            note_namespace(netns, settings.listen_port);
        }
    }
    PASS
}

#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    let sk: *mut bpf_sock = ctx.sock;
    forget(sk);
    PASS
}

/// Ends what is known of a client socket's last connect: a hand-over that nobody took is removed and reported. Also one of a
/// socket whose handshake ended on its side only: the agent's backlog was full, or its listener went in between.
#[inline(always)]
pub fn forget(sk: *mut bpf_sock) {
    let flow = FLOWS.get(sk);
    if flow.is_null() {
        return;
    }
    // SAFETY: a live map value.
    let state = unsafe { (*flow).state };
    if state == flow_state::REDIRECTED {
        // SAFETY: as above.
        unsafe { abandon(flow, Counter::NotSent) };
    } else if state == flow_state::HANDED_OVER || state == flow_state::ESTABLISHED {
        // SAFETY: as above.
        let key = unsafe { key_of(flow) };
        let waiting = HANDOVER.get_ptr(key).is_some_and(|other| {
            // SAFETY: a live map value.
            unsafe { (*other).cookie == (*flow).cookie && (*other).attempt == (*flow).attempt }
        });
        // Whoever removes it has it: the accepted socket may be taking it now.
        if waiting && HANDOVER.remove(key).is_ok() {
            // SAFETY: as above.
            unsafe { abandon(flow, Counter::Abandoned) };
        }
    }
    // The value stays with its attempt counter; the state says that there is no redirect.
    // SAFETY: as above.
    unsafe { (*flow).state = 0 };
}

/// # Safety
///
/// `flow` must be a live map value.
#[inline(always)]
unsafe fn abandon(flow: *const Flow, why: Counter) {
    count(why);
    // SAFETY: by contract.
    unsafe { report_flow(event_kind::ABANDONED, why as u32, flow) };
}

/// Key under which a flow was handed over.
///
/// # Safety
///
/// `flow` must be a live map value.
#[inline(always)]
pub unsafe fn key_of(flow: *const Flow) -> HandoverKey {
    // SAFETY: by contract.
    unsafe {
        HandoverKey {
            netns_cookie: (*flow).opener.netns_cookie,
            address: (*flow).source,
            port: (*flow).source_port,
            pad: [0; 6],
        }
    }
}
