//! Kernel side of pgward: finds outbound connections to intercepted destinations, sends them to the agent's listener of the
//! same network namespace, carries the caller's identity to the accepted socket, and notes who writes.
//!
//! # Verdicts
//!
//! Every failure has one verdict here. "Refuse" means `connect` fails with the errno named (`EPERM` before Linux 5.18), the
//! counter grows and the agent gets an event; nothing is let through by accident.
//!
//! | what happens | verdict | why |
//! | --- | --- | --- |
//! | agent down, `on_agent_down = "block"` | refuse, `ECONNREFUSED` | what a client sees when its server is down |
//! | agent down, `on_agent_down = "allow"` | pass, recorded | asked for by name; the event waits in the pinned ring buffer |
//! | settings map empty | refuse, `ECONNREFUSED` | the loader always writes it: its absence is an attack or a bug |
//! | no memory for the socket storage | refuse, `ENOBUFS` | a session without identity must not exist |
//! | namespace table full | refuse, `ENOBUFS` | the SYN could not be held or released |
//! | namespace marked as refused by the agent | refuse, `EHOSTUNREACH` | the agent said it can't listen there |
//! | listener on our port is not ours | refuse, `EACCES` | somebody squats the port |
//! | bound device can't be changed | refuse, `ENETUNREACH` | the SYN would leave by that device |
//! | hand-over table full | SYN goes, agent closes | `sock_ops` can't refuse; the agent finds no identity and closes |
//! | namespace without listener yet | SYN dropped, retried | held until the agent listens; the client's SYN timer ends it |
//! | event ring full | counted | the verdict stands; the agent records the loss |
//! | writer ring full | counted | the agent lowers its confidence for sessions of that time |
//! | MPTCP socket | refuse, `EPROTONOSUPPORT` | clients fall back to TCP; a subflow can't be followed |
//!
//! # Numbers and sums
//!
//! Every connect toward an intercepted destination gets a number where its verdict is made, and its ways are counted so that
//! the sums close once nothing is under way (`audit::ledger` of the agent tells the rest of the story):
//!
//! ```text
//! last number = connect_seen = redirected + allowed_agent_down + refused_{agent_down,storage,impostor,namespace,socket}
//! redirected  = not_sent + syn_made
//! syn_made    = handed_over + abandoned + handover_{full,displaced,unkept} + entries of HANDOVER
//! ```
//!
//! A hand-over belongs to whoever removes it from `HANDOVER`: the accepted socket (`handed_over`), the client's socket that is
//! closed or connected anew (`abandoned`), or another one that needs the key (`handover_displaced`). So none counts twice.
//!
//! Nothing is decided from SQL here, and no address of the kernel is baked in: offsets come from BTF ([`task`]).

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod atomic;
mod connect;
mod egress;
mod handover;
mod maps;
mod peername;
mod report;
mod sock;
mod socket;
mod task;
mod writer;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
