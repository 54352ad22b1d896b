//! Who connects where: the value that travels with a socket.

/// A process (in fact a task) as the kernel saw it at the time of an event.
///
/// Identity is `(tgid, start_boottime_ns, exec_id)` within one boot: process ids are reused, start times tell them apart, and
/// `exec_id` tells the program before an `execve` from the one after it.
///
/// Layout: 80 bytes, alignment 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actor {
    /// Start of the process (thread group leader), nanoseconds since boot, suspend included
    /// (`task_struct.group_leader->start_boottime`); 0 where the kernel has no BTF.
    pub start_boottime_ns: u64,
    /// `task_struct.self_exec_id`, which grows by one at each `execve`; 0 where the kernel has no BTF.
    pub exec_id: u64,
    /// Cgroup v2 id (inode of its folder). 1 is the root: on v1 and hybrid hosts containers may sit there.
    pub cgroup_id: u64,
    /// Cookie of the network namespace of the socket; 0 where the hook can't tell.
    pub netns_cookie: u64,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Thread id in the initial pid namespace. With io_uring this is a worker of the same process.
    pub tid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// Group id in the initial user namespace.
    pub gid: u32,
    /// Inode of the program file (`mm->exe_file`), to tell whether `/proc/PID/exe`, read later, is still the same file;
    /// 0 where unknown.
    pub exe_inode: u64,
    /// Task name at that time, zero-terminated unless 16 bytes long.
    pub comm: [u8; 16],
    /// Major and minor of the device of the program file as in the kernel's `dev_t`; 0 where unknown.
    pub exe_dev: u32,
    /// Zero.
    pub pad: u32,
}

/// How the destination was written by the application.
pub mod family {
    /// `AF_INET`.
    pub const V4: u8 = 4;
    /// `AF_INET6`, native.
    pub const V6: u8 = 6;
    /// `AF_INET6` with an IPv4-mapped address.
    pub const V4_MAPPED: u8 = 46;
}

/// A redirected connection: who opened it and where it was meant to go.
///
/// Written by `connect4`/`connect6` into the storage of the client socket, handed to the accepted socket by `sock_ops`, read
/// there by the agent by descriptor.
///
/// Layout: 168 bytes, alignment 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The process that called `connect`.
    pub opener: Actor,
    /// Cookie of the client socket; with `attempt` unique for the life of the system.
    pub cookie: u64,
    /// Time of the `connect`, nanoseconds since boot, suspend included.
    pub connect_boottime_ns: u64,
    /// Number of the `connect` among those toward intercepted destinations, from 1 without gaps; 0 where an event is not
    /// about one. Unique together with the ledger's id ([`crate::ledger::ID`]).
    pub number: u64,
    /// Address the application asked for, network order, IPv4 as IPv4-mapped.
    pub destination: [u8; 16],
    /// Local address at the time the SYN was made, same form; zero before.
    pub source: [u8; 16],
    /// Port the application asked for, network order.
    pub destination_port: [u8; 2],
    /// Local port, network order; zero before the SYN.
    pub source_port: [u8; 2],
    /// One of [`family`].
    pub family: u8,
    /// One of [`flow_state`].
    pub state: u8,
    /// Port of the agent that the connection was sent to, network order. A held SYN goes only while the namespace's
    /// listener still has this port: whoever squats the old one must not get it.
    pub agent_port: [u8; 2],
    /// Device the socket was bound to (`SO_BINDTODEVICE`), as interface index; 0 for none. The upstream dial repeats it.
    pub bound_ifindex: u32,
    /// `SO_MARK` of the socket. The upstream dial repeats it.
    pub mark: u32,
    /// Which `connect` of this socket this is, counted from 1.
    pub attempt: u32,
    /// Address and port the application bound before `connect`: 1 when it did, else 0. The upstream dial repeats it.
    pub source_bound: u32,
    /// TCP sequence number of the first byte the client sends (its initial sequence number plus one); valid once
    /// `state` is [`flow_state::TAKEN`].
    pub first_seq: u32,
    /// Zero.
    pub pad2: u32,
}

/// States of [`Flow::state`].
pub mod flow_state {
    /// Rewritten by the connect hook, no SYN yet.
    pub const REDIRECTED: u8 = 1;
    /// The SYN was made and the hand-over written.
    pub const HANDED_OVER: u8 = 2;
    /// The client's side saw the handshake end.
    pub const ESTABLISHED: u8 = 3;
    /// Of the accepted socket: it took the hand-over.
    pub const TAKEN: u8 = 4;
    /// The SYN was made, but the hand-over could not be written, or was displaced: counted as failed, whatever follows.
    pub const UNKEPT: u8 = 5;
}

/// Key of a hand-over: the client's end of the loopback connection.
///
/// Layout: 32 bytes, alignment 8. A port alone would mix up sessions of different namespaces and bound addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HandoverKey {
    /// Network namespace.
    pub netns_cookie: u64,
    /// Client's local address, network order, IPv4 as IPv4-mapped.
    pub address: [u8; 16],
    /// Client's local port, network order.
    pub port: [u8; 2],
    /// Zero.
    pub pad: [u8; 6],
}

/// Marks a socket as the agent's own. Set by the agent through the map, never recognised by pid, uid, mark or port.
///
/// The kernel copies it from a listener to each accepted socket (`BPF_F_CLONE`), so a socket in `PASSIVE_ESTABLISHED` that
/// carries it is a child of our listener, whatever its port.
///
/// Layout: 16 bytes, alignment 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentTag {
    /// Network namespace the socket lives in.
    pub netns_cookie: u64,
    /// One of [`tag_kind`].
    pub kind: u32,
    /// Zero.
    pub pad: u32,
}

/// Values of [`AgentTag::kind`].
pub mod tag_kind {
    /// A connection from the agent to a server: passed, never redirected.
    pub const DIAL: u32 = 1;
    /// A listener of the agent, and what it accepts.
    pub const LISTENER: u32 = 2;
}

/// Last writer of a redirected client socket. Layout: 24 bytes, alignment 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    /// See [`Actor::start_boottime_ns`].
    pub start_boottime_ns: u64,
    /// See [`Actor::exec_id`].
    pub exec_id: u64,
    /// See [`Actor::tgid`].
    pub tgid: u32,
    /// How many changes were reported.
    pub changes: u32,
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<Actor>() == 80 && align_of::<Actor>() == 8);
    assert!(offset_of!(Actor, tgid) == 32 && offset_of!(Actor, comm) == 56);
    assert!(size_of::<Flow>() == 168 && align_of::<Flow>() == 8);
    assert!(offset_of!(Flow, cookie) == 80 && offset_of!(Flow, number) == 96);
    assert!(offset_of!(Flow, destination) == 104 && offset_of!(Flow, destination_port) == 136);
    assert!(offset_of!(Flow, bound_ifindex) == 144 && offset_of!(Flow, first_seq) == 160);
    assert!(
        size_of::<HandoverKey>() == 32 && size_of::<AgentTag>() == 16 && size_of::<Writer>() == 24
    );
};

#[cfg(feature = "user")]
mod pod {
    macro_rules! pod {
        ($($name:ty),*) => {$(
            #[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
            // SAFETY: `repr(C)`, integers and byte arrays only, no padding (sizes asserted where the type is), `Copy`.
            unsafe impl aya::Pod for $name {}
        )*};
    }
    pod!(super::Actor, super::Flow, super::HandoverKey, super::AgentTag, super::Writer);
    pod!(crate::Settings, crate::Offsets, crate::TargetKey, crate::NetnsState);
}
