//! `getpeername4` and `getpeername6`: the application sees the peer that it asked for.
//!
//! Hooks: `BPF_CGROUP_INET4_GETPEERNAME`, `BPF_CGROUP_INET6_GETPEERNAME` (Linux 5.8). Read `FLOWS`.
//! Drivers ask the socket for the address to which a cancel request goes; it must be the server's.

use aya_ebpf::{bindings::bpf_sock_addr, macros::cgroup_sock_addr, programs::SockAddrContext};
use pgward_common::Flow;

use crate::{
    maps::{AGENT_SOCKETS, FLOWS},
    sock::{ctx_read, ctx_write},
};

const PASS: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    let flow = redirected(ctx.sock_addr);
    if !flow.is_null() {
        // SAFETY: a live map value.
        let (address, port) = unsafe { ((*flow).destination, (*flow).destination_port) };
        let v4 = u32::from_ne_bytes([address[12], address[13], address[14], address[15]]);
        ctx_write!(ctx.sock_addr, v4, user_ip4);
        ctx_write!(ctx.sock_addr, u32::from(u16::from_ne_bytes(port)), user_port);
    }
    PASS
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    let flow = redirected(ctx.sock_addr);
    if !flow.is_null() {
        // SAFETY: a live map value.
        let (a, port) = unsafe { ((*flow).destination, (*flow).destination_port) };
        ctx_write!(ctx.sock_addr, u32::from_ne_bytes([a[0], a[1], a[2], a[3]]), user_ip6[0]);
        ctx_write!(ctx.sock_addr, u32::from_ne_bytes([a[4], a[5], a[6], a[7]]), user_ip6[1]);
        ctx_write!(ctx.sock_addr, u32::from_ne_bytes([a[8], a[9], a[10], a[11]]), user_ip6[2]);
        ctx_write!(ctx.sock_addr, u32::from_ne_bytes([a[12], a[13], a[14], a[15]]), user_ip6[3]);
        ctx_write!(ctx.sock_addr, u32::from(u16::from_ne_bytes(port)), user_port);
    }
    PASS
}

/// The flow of a redirected client socket, else null. Accepted sockets hold a flow too, but are tagged as the agent's: the
/// agent must see their true peer.
#[inline(always)]
fn redirected(ctx: *mut bpf_sock_addr) -> *mut Flow {
    let sk = ctx_read!(ctx, __bindgen_anon_1.sk);
    if sk.is_null() || !AGENT_SOCKETS.get(sk).is_null() {
        return core::ptr::null_mut();
    }
    let flow = FLOWS.get(sk);
    // SAFETY: a live map value.
    if flow.is_null() || unsafe { (*flow).state } == 0 {
        return core::ptr::null_mut();
    }
    flow
}
