//! `cgroup_skb/egress`: holds the SYN of a redirected connection until the agent listens in its namespace.
//!
//! Hook: `BPF_CGROUP_INET_EGRESS` (Linux 4.10; socket storage 5.2). Reads `FLOWS`, `NAMESPACES`; writes `NAMESPACES`,
//! `EVENTS`, `COUNTERS`. `connect` ignores the local drop and retries by its SYN timer. The current task here may be a kernel
//! thread: never used.

use aya_ebpf::{helpers::generated::bpf_sk_fullsock, macros::cgroup_skb, programs::SkBuffContext};
use pgward_common::{Counter, NetnsState, event_kind, flow_state, netns_state};

use crate::{
    maps::{FLOWS, NAMESPACES, SETTINGS},
    report::{count, now, report_flow},
    sock::ctx_read,
};

const PASS: i32 = 1;
const DROP: i32 = 0;

#[cgroup_skb(egress)]
pub fn hold_syn(ctx: SkBuffContext) -> i32 {
    let sk = ctx_read!(ctx.skb.skb, __bindgen_anon_2.sk);
    if sk.is_null() {
        return PASS;
    }
    // SAFETY: a socket pointer of the context.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return PASS;
    }
    let flow = FLOWS.get(sk);
    if flow.is_null() {
        return PASS;
    }
    // SAFETY: a live map value.
    let (state, netns, port) =
        unsafe { ((*flow).state, (*flow).opener.netns_cookie, (*flow).agent_port) };
    if state == flow_state::ESTABLISHED || state == flow_state::TAKEN || state == 0 {
        return PASS;
    }
    match NAMESPACES.get_ptr(netns) {
        // SAFETY: a live map value.
        Some(ns) if unsafe { (*ns).state == netns_state::READY && (*ns).port == port } => PASS,
        Some(_) => {
            count(Counter::SynHeld);
            DROP
        }
        None => {
            // The agent was restarted, or gave the namespace up, while this SYN was waiting: ask again.
            let port = SETTINGS.get(0).map_or([0, 0], |settings| settings.listen_port);
            let held = NetnsState {
                since_boottime_ns: now(),
                state: netns_state::HELD,
                port,
                v6: 0,
                pad: 0,
                pad2: 0,
            };
            // A lost report must not leave a note, see `note_namespace`: the next retry of this SYN reports again.
            if NAMESPACES.insert(netns, held, 1 /* BPF_NOEXIST */).is_ok()
                // SAFETY: a live map value.
                && !unsafe { report_flow(event_kind::NAMESPACE_SEEN, 0, flow) }
            {
                let _ = NAMESPACES.remove(netns);
            }
            count(Counter::SynHeld);
            DROP
        }
    }
}
