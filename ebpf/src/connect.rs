//! `connect4` and `connect6`: which connects are ours, and where they go instead.
//!
//! Hook: `BPF_CGROUP_INET4_CONNECT`, `BPF_CGROUP_INET6_CONNECT` (Linux 4.17; socket storage from here 5.3, namespace cookie
//! 5.7). Attach point: the cgroup v2 root, or the subtree that the configuration names.
//! Reads `TARGETS`, `AGENT_SOCKETS`, `SETTINGS`, `NAMESPACES`; writes `FLOWS`, `WRITERS`, `NAMESPACES`, `EVENTS`, `COUNTERS`,
//! `LEDGER`.
//!
//! Each connect that is ours is numbered where its verdict is made: redirected, refused for one reason, or let pass.
//!
//! Each hook has two programs. The attached one decides whether the connection is ours and then jumps through a program array
//! that only the agent's process keeps alive. When the process ends, however it ends, the kernel empties the array, the jump
//! falls through, and what follows it is the agent-down path: no heartbeat, no window.

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_setsockopt},
    macros::cgroup_sock_addr,
    maps::lpm_trie::Key,
    programs::SockAddrContext,
};
use aya_log_ebpf::warn;
use pgward_common::{
    Counter, NetnsState, TargetKey, action, event_kind, family, flow_state, netns_state,
    on_agent_down, tag_kind,
};

use crate::{
    maps::{
        AGENT_ALIVE4, AGENT_ALIVE6, AGENT_SOCKETS, FLOWS, NAMESPACES, SETTINGS, TARGETS, WRITERS,
    },
    report::{count, now, numbered, report_caller},
    sock::{Listener, bytes, ctx_read, ctx_write, is_mapped, loopback_listener, mapped, set_errno},
    socket::forget,
    task::{current, fill_actor},
};

const PASS: i32 = 1;
const REFUSE: i32 = 0;

const IPPROTO_TCP: u32 = 6;
const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;
/// `lo` has this index in every network namespace.
const LOOPBACK_IFINDEX: u32 = 1;

const EACCES: i32 = 13;
const ENETUNREACH: i32 = 101;
const ENOBUFS: i32 = 105;
const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;

/// Where a socket wants to go.
#[derive(Clone, Copy)]
struct Wanted {
    address: [u8; 16],
    port: [u8; 2],
    family: u8,
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    let wanted = wanted4(ctx.sock_addr);
    let Some(verdict) = not_ours(ctx.sock_addr, wanted) else {
        // SAFETY: the array holds programs of this type; on failure the call returns.
        unsafe { AGENT_ALIVE4.tail_call(&ctx, 0) };
        return agent_down(ctx.sock_addr, wanted);
    };
    verdict
}

#[cgroup_sock_addr(connect4)]
pub fn connect4_redirect(ctx: SockAddrContext) -> i32 {
    redirect(ctx.sock_addr, wanted4(ctx.sock_addr))
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    let wanted = wanted6(ctx.sock_addr);
    let Some(verdict) = not_ours(ctx.sock_addr, wanted) else {
        // SAFETY: as in `connect4`.
        unsafe { AGENT_ALIVE6.tail_call(&ctx, 0) };
        return agent_down(ctx.sock_addr, wanted);
    };
    verdict
}

#[cgroup_sock_addr(connect6)]
pub fn connect6_redirect(ctx: SockAddrContext) -> i32 {
    redirect(ctx.sock_addr, wanted6(ctx.sock_addr))
}

/// The verdict for connects that are none of our business; `None` for those that are.
#[inline(always)]
fn not_ours(ctx: *mut bpf_sock_addr, wanted: Wanted) -> Option<i32> {
    if ctx_read!(ctx, protocol) != IPPROTO_TCP {
        return Some(PASS);
    }
    let sk = socket(ctx);
    if sk.is_null() {
        return Some(PASS); // the kernel always gives one; the verifier wants the question
    }
    let tag = AGENT_SOCKETS.get(sk);
    if !tag.is_null() {
        // SAFETY: a live map value.
        if unsafe { (*tag).kind } == tag_kind::DIAL {
            count(Counter::ConnectOwn);
            return Some(PASS);
        }
    }
    let key = Key::new(144, TargetKey { port: wanted.port, address: wanted.address });
    if TARGETS.get(&key).copied() != Some(action::INTERCEPT) {
        // A socket that is connected anew to somewhere else must not keep its old story.
        forget(sk);
        return Some(PASS);
    }
    None
}

/// The agent is gone: what its settings said.
#[inline(always)]
fn agent_down(ctx: *mut bpf_sock_addr, wanted: Wanted) -> i32 {
    let number = numbered();
    let allow = SETTINGS.get(0).is_some_and(|s| s.on_agent_down == on_agent_down::ALLOW);
    let sk = socket(ctx);
    if !sk.is_null() {
        forget(sk);
    }
    if allow {
        count(Counter::AllowedAgentDown);
        let seen = Some((wanted.address, wanted.port, wanted.family));
        report_caller(event_kind::ALLOWED_UNSEEN, 0, cookie(ctx), number, seen);
        return PASS;
    }
    refuse(ctx, wanted, number, Counter::RefusedAgentDown, ECONNREFUSED)
}

#[inline(always)]
fn redirect(ctx: *mut bpf_sock_addr, wanted: Wanted) -> i32 {
    let number = numbered();
    let Some(settings) = SETTINGS.get(0) else {
        return refuse(ctx, wanted, number, Counter::RefusedStorage, ECONNREFUSED);
    };
    let sk = socket(ctx);
    if sk.is_null() {
        return refuse(ctx, wanted, number, Counter::RefusedSocket, ECONNREFUSED);
    }
    forget(sk);
    let netns = cookie(ctx);
    let native6 = wanted.family == family::V6;
    let (port, v6) = match NAMESPACES.get_ptr(netns) {
        Some(state) => {
            // SAFETY: a live map value.
            let state = unsafe { *state };
            match state.state {
                netns_state::REFUSED => {
                    return refuse(ctx, wanted, number, Counter::RefusedNamespace, EHOSTUNREACH);
                }
                netns_state::READY => {
                    let v6 = native6 && state.v6 != 0;
                    match loopback_listener(ctx, state.port, v6) {
                        Listener::Ours => {}
                        Listener::Other => {
                            return refuse(ctx, wanted, number, Counter::RefusedImpostor, EACCES);
                        }
                        Listener::Nobody => {
                            return refuse(
                                ctx,
                                wanted,
                                number,
                                Counter::RefusedNamespace,
                                ECONNREFUSED,
                            );
                        }
                    }
                    (state.port, v6)
                }
                _ => {
                    (if state.port == [0, 0] { settings.listen_port } else { state.port }, native6)
                }
            }
        }
        None => {
            if !note_namespace(netns, settings.listen_port) {
                return refuse(ctx, wanted, number, Counter::RefusedNamespace, ENOBUFS);
            }
            (settings.listen_port, native6)
        }
    };

    let flow = FLOWS.get_or_create(sk);
    let writer = WRITERS.get_or_create(sk);
    if flow.is_null() || writer.is_null() {
        return refuse(ctx, wanted, number, Counter::RefusedStorage, ENOBUFS);
    }
    let mut bound_ifindex = ctx_read!(sk, bound_dev_if);
    if bound_ifindex != 0 && !bind_to_loopback(ctx) {
        return refuse(ctx, wanted, number, Counter::RefusedSocket, ENETUNREACH);
    }
    // SAFETY: a live map value; it keeps its fields from connect to connect.
    let before = unsafe { (*flow).bound_ifindex };
    if bound_ifindex == LOOPBACK_IFINDEX && before != 0 {
        bound_ifindex = before; // connected anew: it was us who bound it to `lo`
    }
    // SAFETY: live map values of our own socket; `connect` holds the socket lock.
    unsafe {
        fill_actor(&raw mut (*flow).opener, netns);
        (*flow).cookie = bpf_get_socket_cookie(ctx.cast());
        (*flow).connect_boottime_ns = now();
        (*flow).number = number;
        (*flow).destination = wanted.address;
        (*flow).destination_port = wanted.port;
        (*flow).source = [0; 16];
        (*flow).source_port = [0; 2];
        (*flow).family = wanted.family;
        (*flow).state = flow_state::REDIRECTED;
        (*flow).agent_port = port;
        (*flow).bound_ifindex = bound_ifindex;
        (*flow).mark = ctx_read!(sk, mark);
        (*flow).attempt += 1;
        (*flow).source_bound = u32::from(is_bound(sk, wanted.family));
        (*flow).first_seq = 0;
        *writer = current();
    }

    if wanted.family == family::V4 {
        ctx_write!(ctx, 0x7f00_0001u32.to_be(), user_ip4);
    } else if v6 {
        write_address6(ctx, [0, 0, 0, 1u32.to_be()]);
    } else {
        write_address6(ctx, [0, 0, 0x0000_ffffu32.to_be(), 0x7f00_0001u32.to_be()]);
    }
    ctx_write!(ctx, u32::from(u16::from_ne_bytes(port)), user_port);
    count(Counter::Redirected);
    PASS
}

/// Notes a namespace that has no listener and tells the agent; false when the table is full. Another task may have been
/// faster: then the report is its business. A namespace whose report is lost is not noted, so that the next socket, connect
/// or retry of a SYN reports it: noted and unreported it would be held for ever.
#[inline(always)]
pub fn note_namespace(netns: u64, port: [u8; 2]) -> bool {
    const BPF_NOEXIST: u64 = 1;
    const EEXIST: i32 = -17;
    let state = NetnsState {
        since_boottime_ns: now(),
        state: netns_state::HELD,
        port,
        v6: 0,
        pad: 0,
        pad2: 0,
    };
    match NAMESPACES.insert(netns, state, BPF_NOEXIST) {
        Ok(()) => {
            if !report_caller(event_kind::NAMESPACE_SEEN, 0, netns, 0, None) {
                let _ = NAMESPACES.remove(netns);
            }
            true
        }
        Err(EEXIST) => true,
        Err(_) => false,
    }
}

#[inline(always)]
fn refuse(ctx: *mut bpf_sock_addr, wanted: Wanted, number: u64, why: Counter, errno: i32) -> i32 {
    count(why);
    let log = SockAddrContext::new(ctx);
    warn!(&log, "connect refused: reason {} errno {}", why as u32, errno);
    let seen = Some((wanted.address, wanted.port, wanted.family));
    report_caller(event_kind::CONNECT_REFUSED, why as u32, cookie(ctx), number, seen);
    set_errno(errno);
    REFUSE
}

#[inline(always)]
fn bind_to_loopback(ctx: *mut bpf_sock_addr) -> bool {
    let mut lo = *b"lo\0\0";
    // SAFETY: the buffer lives on our stack for the length given.
    unsafe {
        bpf_setsockopt(ctx.cast(), SOL_SOCKET, SO_BINDTODEVICE, lo.as_mut_ptr().cast(), 4) == 0
    }
}

/// Whether the application bound an address or port before `connect`.
#[inline(always)]
fn is_bound(sk: *mut bpf_sock, family: u8) -> bool {
    if ctx_read!(sk, src_port) != 0 {
        return true;
    }
    if family == family::V4 {
        ctx_read!(sk, src_ip4) != 0
    } else {
        (ctx_read!(sk, src_ip6[0])
            | ctx_read!(sk, src_ip6[1])
            | ctx_read!(sk, src_ip6[2])
            | ctx_read!(sk, src_ip6[3]))
            != 0
    }
}

#[inline(always)]
fn write_address6(ctx: *mut bpf_sock_addr, words: [u32; 4]) {
    ctx_write!(ctx, words[0], user_ip6[0]);
    ctx_write!(ctx, words[1], user_ip6[1]);
    ctx_write!(ctx, words[2], user_ip6[2]);
    ctx_write!(ctx, words[3], user_ip6[3]);
}

#[inline(always)]
fn wanted4(ctx: *mut bpf_sock_addr) -> Wanted {
    Wanted { address: mapped(ctx_read!(ctx, user_ip4)), port: port(ctx), family: family::V4 }
}

#[inline(always)]
fn wanted6(ctx: *mut bpf_sock_addr) -> Wanted {
    let words = [
        ctx_read!(ctx, user_ip6[0]),
        ctx_read!(ctx, user_ip6[1]),
        ctx_read!(ctx, user_ip6[2]),
        ctx_read!(ctx, user_ip6[3]),
    ];
    let family = if is_mapped(words) { family::V4_MAPPED } else { family::V6 };
    Wanted { address: bytes(words), port: port(ctx), family }
}

#[inline(always)]
fn port(ctx: *mut bpf_sock_addr) -> [u8; 2] {
    (ctx_read!(ctx, user_port) as u16).to_ne_bytes()
}

#[inline(always)]
fn socket(ctx: *mut bpf_sock_addr) -> *mut bpf_sock {
    ctx_read!(ctx, __bindgen_anon_1.sk)
}

#[inline(always)]
fn cookie(ctx: *mut bpf_sock_addr) -> u64 {
    // SAFETY: the context that the kernel passed.
    unsafe { bpf_get_netns_cookie(ctx.cast()) }
}
